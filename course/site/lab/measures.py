"""What the experiments of the lab claim, measured in PyTorch over many draws.

The page shows one draw. What its texts say of others comes from here, for the model at hand: the
words get other numbers DEALS times, or as many sequences are drawn. Heads have names, as in the
page: "0.2". Axis words: batch (a deal), pos, query, key.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from minitransformer import Transformer
from minitransformer.data import repeated_tokens
from minitransformer.evaluate import compared, follows_earlier_copy
from solutions.ch05_finding_heads import find_heads
from solutions.ch08_composition import (
    composition_table,
    decompose_qk_inputs,
    decompose_scores,
    stretch_stream,
    token_space_composition,
    with_weights,
)
from solutions.ch09_ablation import zero_ablate

DEALS = 200
NOISE = 0.3  # of the stretch S = I + NOISE * noise: the page's slider at its end


def found_heads(model: Transformer) -> dict[str, list[str]]:
    """The heads of the circuit, best first: "previous", in layer 0, and "induction", in layer 1."""
    found, heads = find_heads(model), {}
    for part, role, layer in (("previous", "previous_token", 0), ("induction", "induction", 1)):
        heads[part] = [f"{at}.{head}" for at, head in found[role] if at == layer]
    return heads


def layer_and_head(name: str) -> tuple[int, int]:
    layer, head = name.split(".")
    return int(layer), int(head)


def deal(text: str, d_vocab: int, deals: int = DEALS, seed: int = 0) -> Tensor:
    """A text as tokens, its words numbered anew in each row: [batch, pos], BOS first."""
    words = text.split()
    names = list(dict.fromkeys(words))
    generator = torch.Generator().manual_seed(seed)
    numbers = torch.rand(deals, d_vocab - 1, generator=generator).argsort(dim=1) + 1
    tokens = numbers[:, [names.index(word) for word in words]]
    return torch.cat([torch.zeros(deals, 1, dtype=torch.long), tokens], dim=1)


def draw(model: Transformer, period: int, draws: int = DEALS, seed: int = 0) -> Tensor:
    """Random tokens that repeat with this period, as many as the model reads: [batch, pos]."""
    cfg, generator = model.cfg, torch.Generator().manual_seed(seed)
    return repeated_tokens(draws, cfg.n_ctx, cfg.d_vocab, (period, period), generator).tokens


def predictable(tokens: Tensor) -> Tensor:
    """Where the token was read before and goes on as it always did: bool [batch, pos - 1]."""
    follows = follows_earlier_copy(tokens)[:, :-1].bool()  # batch query key
    another = tokens[:, None, :] != tokens[:, 1:, None]  # batch query key
    return follows.any(dim=-1) & ~(follows & another).any(dim=-1)


@torch.no_grad()
def switched(model: Transformer, tokens: Tensor, switches: dict[str, str]):
    """The logits [batch, pos, vocab] and all activations of a run with heads switched.

    switches: head -> "off", it writes nothing; "freeze", it keeps the pattern that it has when all
    heads are on.
    """
    _, clean = model.run_with_cache(tokens)
    hooks = []
    for name, kind in switches.items():
        layer, head = layer_and_head(name)
        if kind == "off":
            hooks.append((f"blocks.{layer}.attn.hook_z", zero_ablate([head])))
        else:
            hooks.append((f"blocks.{layer}.attn.hook_pattern", keep(head, clean)))
    return model.run_with_cache(tokens, fwd_hooks=hooks)


def keep(head: int, clean):
    """A hook on patterns after which this head has that of another run."""

    def frozen(pattern: Tensor, hook) -> Tensor:
        pattern[:, head] = clean[hook.name][:, head]
        return pattern

    return frozen


class Outcome(NamedTuple):
    """How well predictable tokens are predicted: the share that is right, the loss in nats."""

    right: float
    loss: float


def outcome(model: Transformer, tokens: Tensor, switches: dict[str, str] | None = None) -> Outcome:
    """On tokens [batch, pos], with heads switched."""
    logits, _ = switched(model, tokens, switches or {})
    (losses, correct), known = compared(logits, tokens), predictable(tokens)
    return Outcome(correct[known].float().mean().item(), losses[known].mean().item())


def pattern_of(model: Transformer, tokens: Tensor, head: str, switches=None) -> Tensor:
    """One head's attention [batch, query, key]."""
    layer, number = layer_and_head(head)
    _, cache = switched(model, tokens, switches or {})
    return cache[f"blocks.{layer}.attn.hook_pattern"][:, number]


class Looks(NamedTuple):
    """Mean attention: on BOS while a token is new, and on what followed when it comes again."""

    resting: float
    matching: float


def looks(model: Transformer, tokens: Tensor, head: str, switches=None) -> Looks:
    pattern, follows = pattern_of(model, tokens, head, switches), follows_earlier_copy(tokens)
    again = follows.any(dim=-1)  # batch query
    new = ~again
    new[:, 0] = False  # BOS has nothing else to look at
    on_followers = (pattern * follows).sum(dim=-1)
    return Looks(pattern[..., 0][new].mean().item(), on_followers[again].mean().item())


class Lead(NamedTuple):
    """How far a key's score lies above the mean key, in nats: in all, and by some heads' part."""

    all: float
    by_heads: float


@torch.no_grad()
def lead(model: Transformer, tokens: Tensor, head: str, row: int, key: int, by: list[str]) -> Lead:
    """Of a head of layer 1 at one row, the mean over the batch; by: heads of layer 0."""
    layer, number = layer_and_head(head)
    _, cache = model.run_with_cache(tokens)
    labels, parts = decompose_qk_inputs(cache)
    terms = decompose_scores(parts, model.W_Q[layer, number], model.W_K[layer, number])
    scores = terms.sum(dim=0)[:, :, row, : row + 1]  # key part, batch, key
    leads = (scores[:, :, key] - scores.mean(dim=-1)).mean(dim=1)  # key part
    named = [leads[labels.index(name)].item() for name in by]
    return Lead(leads.sum().item(), sum(named))


def chance_of(model: Transformer, tokens: Tensor, pos: int) -> Tensor:
    """The probability that each position's token comes again at the end: [batch]."""
    with torch.no_grad():
        chances = model(tokens)[:, -1].softmax(dim=-1)
    return chances.gather(1, tokens[:, [pos]])[:, 0]


def first_choice(model: Transformer, tokens: Tensor, row: int) -> Tensor:
    """The likeliest next token after a row: [batch]."""
    with torch.no_grad():
        return model(tokens)[:, row].argmax(dim=-1)


class Stretch(NamedTuple):
    """Scores of one edge before and after a stretch of the stream, and what else changed."""

    before: float
    after: float
    in_tokens: float  # the change of the token-space score
    logits: float  # the largest change of a logit


@torch.no_grad()
def stretch(model: Transformer, tokens: Tensor, edge: tuple[str, str], seed: int) -> Stretch:
    """S = I + NOISE * noise, in float64; edge: a head of layer 0, one of layer 1."""
    (_, first), (_, second) = map(layer_and_head, edge)
    d_model, generator = model.cfg.d_model, torch.Generator().manual_seed(seed)
    noise = torch.randn(d_model, d_model, generator=generator, dtype=torch.float64)
    exact = with_weights(model, dict(model.named_parameters())).double()
    S = torch.eye(d_model, dtype=torch.float64) + NOISE * noise
    other = with_weights(exact, stretch_stream(dict(exact.named_parameters()), S))
    published = [composition_table(each, "K")[first, second].item() for each in (exact, other)]
    in_tokens = [token_space_composition(each, "K")[first, second] for each in (exact, other)]
    changed = (other(tokens) - exact(tokens)).abs().max().item()
    return Stretch(*published, (in_tokens[1] - in_tokens[0]).abs().item(), changed)
