"""What the tools are called with: the same tokens, metrics and places for every model."""

import copy
from collections.abc import Callable

import torch
from torch import Tensor

from minitransformer import Transformer
from minitransformer.arithmetic import TRAIN, problems
from minitransformer.data import Repeats
from minitransformer.evaluate import held_out
from solutions import ch03_training as ch03
from solutions import ch04_induction_behaviour as ch04
from solutions import ch08_composition as ch08
from solutions import ch13_faithfulness as ch13

PREVIOUS, INDUCTION = (0, 3), (1, 0)  # any two heads would do: the same two in every model
WEIGHTS = ("W_E", "W_pos", "W_Q", "W_K", "W_V", "W_O", "W_U")
Q, K, V = "blocks.1.attn.hook_q", "blocks.1.attn.hook_k", "blocks.1.attn.hook_v"
Z = "blocks.1.attn.hook_z"
PATTERN, STREAM = "blocks.1.attn.hook_pattern", "blocks.1.hook_resid_pre"


class Sequences:
    """Six repeated sequences, for models of the induction task."""

    def __init__(self, ours: Transformer):
        self.repeats: Repeats = held_out(ours, periods=(4, 9), batch=6)
        self.tokens = self.repeats.tokens  # batch pos
        self.other = self.tokens.flip(0)
        self.following = self.tokens.roll(-1, dims=1)
        self.heads = [(layer, head) for layer in (0, 1) for head in range(ours.cfg.n_heads)]
        self.u = torch.linspace(-1, 1, ours.cfg.d_model)
        self.near_one = torch.eye(ours.cfg.d_model) + 0.1 * self.u.outer(self.u.flip(0))
        small = self.u[: ours.cfg.d_head]
        self.M = torch.eye(ours.cfg.d_head) + 0.1 * small.outer(small.flip(0))

    def metric(self, logits: Tensor) -> Tensor:
        return ch13.right_minus_mean(logits, self.repeats)

    def of_repeats(self, logits: Tensor, repeats: Repeats) -> Tensor:
        return ch13.right_minus_mean(logits, repeats)

    def last_gap(self, logits: Tensor) -> Tensor:
        """Of the last logits [..., batch, vocab]: token 1 against token 2, [..., batch]."""
        return logits[..., 1] - logits[..., 2]


class Sums:
    """Some problems with their answers, for the arithmetic model; it has two layers of neurons."""

    def __init__(self, ours: Transformer):
        every = problems("arithmetic")
        self.rows = every.tokens[every.rows(TRAIN)[::97][:32]]  # problem pos
        self.prompts, self.answers = self.rows[:, :-1], self.rows[:, -1]
        self.places = [[("blocks.0.attn.hook_z", (2, 1))], [("blocks.1.hook_mlp_out", (3,))]]
        self.means = torch.zeros(ours.cfg.n_layers, ours.cfg.d_mlp)  # layer neuron
        self.out = torch.arange(ours.cfg.d_mlp).expand_as(self.means) % 3 == 0


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def cached(model, tokens: Tensor) -> dict[str, Tensor]:
    return model.run_with_cache(tokens)[1]


def weights(model) -> dict[str, Tensor]:
    return {name: getattr(model, name).detach() for name in WEIGHTS}


def stream(model, x: Sequences) -> Tensor:
    return cached(model, x.tokens)[STREAM]


def rows(model, x: Sequences) -> Tensor:
    """The same, sequence after sequence: [batch*pos, d_model]."""
    return stream(model, x).flatten(0, 1)


def pattern(model, x: Sequences) -> Tensor:
    return cached(model, x.tokens)[PATTERN]


def parts(model, x: Sequences) -> Tensor:
    return ch08.decompose_qk_inputs(cached(model, x.tokens))[1]


def logits(model, x: Sequences) -> Tensor:
    return model(x.tokens).detach()


def ablated(model, x: Sequences, hook: Callable) -> Tensor:
    """The logits when heads of layer 1 are ablated by a hook."""
    return model.run_with_hooks(x.tokens, fwd_hooks=[(Z, hook)])


def one_step(model, x: Sequences) -> tuple[float, Tensor]:
    """A training step on a copy: the loss before it, and the losses after it."""
    model = copy.deepcopy(model)
    with torch.enable_grad():
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        before = ch03.training_step_by_hand(model, optimizer, x.tokens)
    return before, ch04.loss_by_position(model(x.tokens), x.tokens)
