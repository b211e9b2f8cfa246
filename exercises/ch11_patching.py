"""Chapter 11. Activation patching: put what one run computed into another, see what it changes.

Axis words: batch pos head d_head d_model vocab cell; `...` stands for any axes in front. A prompt
is answered at its last position, so logits are [..., batch, vocab] there. A metric is a function of
such logits -> [..., batch]. A *cell* is one patch: a list of places, all patched together. A place
is (hook name, index into the axes after batch): ("blocks.0.hook_resid_pre", (5,)) is the stream at
position 5, ("blocks.1.attn.hook_z", (ALL, 2)) is head 1.2 everywhere.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from minitransformer import Transformer
from minitransformer.data import BOS

ALL = slice(None)  # every index of an axis
ROWS = 512  # sequences in one forward pass; more of them no longer run faster


class Pairs(NamedTuple):
    """Two prompts a row that differ in one thing, and their answers."""

    clean: Tensor  # [batch, pos]
    corrupt: Tensor  # [batch, pos]
    right: Tensor  # [batch] what follows in clean
    wrong: Tensor  # [batch] what follows in corrupt


def induction_prompts(
    batch: int, d_vocab: int, generator: torch.Generator, length: int = 14, first: int = 3
) -> Tensor:
    """[batch, length]: BOS, distinct random tokens, and the token of position `first` once more."""
    drawn = torch.rand(batch, d_vocab - 1, generator=generator).argsort(dim=1)[:, : length - 2] + 1
    return torch.cat([torch.full((batch, 1), BOS), drawn, drawn[:, first - 1, None]], dim=1)


def answer_gap(right: Tensor, wrong: Tensor) -> Callable[[Tensor], Tensor]:
    """The metric logit[right] - logit[wrong] (nats): logits [..., batch, vocab] -> [..., batch]."""
    row = torch.arange(len(right))
    return lambda logits: logits[..., row, right] - logits[..., row, wrong]


def answer_accuracy(right: Tensor) -> Callable[[Tensor], Tensor]:
    """The metric "is right the most likely token?", 1.0 or 0.0, of logits [..., batch, vocab]."""
    return lambda logits: (logits.argmax(dim=-1) == right).to(logits.dtype)


def head_hook(layer: int, what: str) -> str:
    """The name of q, k, v, z or pattern of a layer."""
    return f"blocks.{layer}.attn.hook_{what}"


def final_stream(model: Transformer) -> str:
    """The name of what the unembedding reads."""
    return f"blocks.{model.cfg.n_layers - 1}.hook_resid_post"


def whole_heads(what: str, heads: list[tuple[int, int]]) -> list[tuple]:
    """A cell: one thing (q, k, v or z) of all these heads (layer, head), at all positions."""
    return [(head_hook(layer, what), (ALL, head)) for layer, head in heads]


def corrupt_pairs(clean: Tensor, first: int, second: int, swap: str) -> Pairs:
    """Clean prompts `... A B ... C D ... A` and corrupt ones in which D follows and no longer B.

    clean [batch, pos]: A stands at `first` and, once more, last; C at `second`, later or earlier; B
    and D right after them. swap says what an induction head finds changed. "key": A and C change
    places, not the last token. "value": B and D change places. "query": the last token is C in
    place of A. In all three B is right in clean, D in corrupt. Zhang & Nanda 2023, "Towards Best
    Practices of Activation Patching in Language Models: Metrics and Methods" (arXiv 2309.16042).
    Raises ValueError for another swap, or if A B C D are not four positions between BOS and last.
    """
    # YOUR CODE: refuse what cannot be, copy, swap two columns, pick the answers; roughly 12 lines
    raise NotImplementedError("corrupt_pairs")


def normalised_metric(patched: Tensor, clean: Tensor, corrupt: Tensor) -> Tensor:
    """How far a patch moves the metric: 0 as in the corrupt run, 1 as in the clean one.

    (patched - corrupt) / (clean - corrupt), each averaged over the batch *first*: single rows may
    have a denominator of 0. patched [..., batch], clean and corrupt [batch] -> [...]. clean may be
    the smaller one. It may leave 0 to 1, and must not be clipped. Raises ValueError if clean and
    corrupt have the same mean: then there is nothing to explain.
    """
    # YOUR CODE: three means, one refusal, one fraction; roughly 4 lines
    raise NotImplementedError("normalised_metric")


def patch_cells(
    model: Transformer, tokens: Tensor, saved: dict[str, Tensor], cells: list[list[tuple]]
) -> Tensor:
    """Run `tokens` once for each cell, with the cell's places taken from `saved`.

    -> the last logits [cell, batch, vocab]. tokens [batch, pos]; saved: hook name -> activation
    [batch, ...] of another run with as many prompts. All cells share a forward pass: row c * batch
    + b of one big batch is prompt b with cell c, so a hook can read an activation as [cell, batch,
    ...] and change it for cell c only. At most about ROWS rows (or one cell) go in one pass.
    """
    # YOUR CODE: cells in groups; repeat tokens; a hook that patches as each cell says; roughly 15
    raise NotImplementedError("patch_cells")


def patch_residual(model: Transformer, tokens: Tensor, other: Tensor) -> Tensor:
    """Patch the stream at one depth and one position at a time: logits [depth, pos, batch, vocab].

    Run `tokens` [batch, pos], but with the stream at one place as it is in the run on `other`
    [batch, pos]. Depth L is the stream before layer L (blocks.L.hook_resid_pre), the last depth the
    one after all layers (hook_resid_post). tokens corrupt and other clean is *denoising*, the
    reverse *noising*: Heimersheim & Nanda 2024, "How to use and interpret activation patching"
    (arXiv 2404.15255). The first such sweeps, against noise in the embeddings: Meng et al. 2022,
    "Locating and Editing Factual Associations in GPT" (arXiv 2202.05262).
    """
    # YOUR CODE: names, the other run's cache, the cells, patch_cells, the shape; roughly 5 lines
    raise NotImplementedError("patch_residual")


def patch_heads(
    model: Transformer, tokens: Tensor, other: Tensor, what: str, by_position: bool = False
) -> Tensor:
    """Patch one thing of one head at a time: the last logits [layer, head, batch, vocab].

    what: "q", "k", "v", "z" (the head's output before W_O), all [batch, pos, head, d_head], or
    "pattern" [batch, head, query, key]. tokens runs, the patch comes from other, as in
    patch_residual. by_position: each position has a cell of its own (for a pattern: each query),
    [layer, head, pos, batch, vocab]; otherwise all positions are patched together.
    """
    # YOUR CODE: the same five steps; a pattern has its head before its positions; roughly 10 lines
    raise NotImplementedError("patch_heads")


def sufficiency_and_necessity(
    model: Transformer, clean: Tensor, corrupt: Tensor, cells: list[list[tuple]], metric: Callable
) -> tuple[Tensor, Tensor]:
    """Each cell patched both ways: (sufficient [cell], necessary [cell]), as shares of the gap.

    sufficient, by denoising: run corrupt, put the clean cell in; 1 if that alone restores the clean
    metric, 0 if nothing moves. necessary, by noising: run clean, put the corrupt cell in; 1 if that
    alone takes all the way to the corrupt metric, 0 if nothing moves. The two need not agree.
    """
    # YOUR CODE: both caches, both runs of patch_cells, normalised_metric; roughly 7 lines
    raise NotImplementedError("sufficiency_and_necessity")


def compare_metrics(
    logits: Tensor, clean_logits: Tensor, right: Tensor, wrong: Tensor
) -> dict[str, Tensor]:
    """Five ways to say how good an answer is, each [..., batch].

    logits [..., batch, vocab]; clean_logits [batch, vocab]; right, wrong [batch]. In this order:
    "probability" of right; "log-probability" of right (nats); "logit difference" right - wrong
    (nats); "accuracy": 1.0 where right has the largest of *all* logits, else 0.0; "KL" (nats) from
    the clean run's distribution p to this one, q: the sum over the vocabulary of p (log p - log q).
    """
    # YOUR CODE: log_softmax once, then one line for each; roughly 9 lines
    raise NotImplementedError("compare_metrics")


def direct_inputs(
    model: Transformer, tokens: Tensor, other: Tensor, sender: tuple[int, int]
) -> dict[str, Tensor]:
    """What each reader would read if `sender` wrote as in the other run and *no one else reacted*.

    Run tokens with the sender's hook_z from the run on other, and hook_z of all other heads, of all
    layers, as in the run on tokens. -> a cache of hook_q, hook_k and hook_v of every layer, and of
    hook_resid_post of the last, the input of the unembedding. sender: (layer, head). For models
    without MLP. Wang et al. 2022, "Interpretability in the Wild" (arXiv 2211.00593).
    """
    # YOUR CODE: both runs' z, mix them, freeze, cache what is read; roughly 10 lines
    raise NotImplementedError("direct_inputs")


def path_patch(
    model: Transformer, tokens: Tensor, other: Tensor, sender: tuple[int, int], receivers: list
) -> Tensor:
    """Patch the edges from one head to some readers, nothing else: the last logits [batch, vocab].

    sender: (layer, head). A receiver is (layer, head, "q" | "k" | "v"), or "logits", the
    unembedding. Each receiver's input moves by what changed in it between direct_inputs and the
    plain run on tokens; every other reader of the sender sees what it saw before. *Add* that change
    rather than set the input, so that a receiver also hears what earlier receivers make of theirs.
    Then all receivers together equal patching the sender, exactly, without MLP and LayerNorm.
    Goldowsky-Dill et al. 2023, "Localizing Model Behavior with Path Patching" (arXiv 2304.05969).
    """
    # YOUR CODE: plain and direct inputs; per receiver a hook that adds the change; roughly 14 lines
    raise NotImplementedError("path_patch")


def attribution_patch(
    model: Transformer, tokens: Tensor, other: Tensor, metric: Callable, names: list[str]
) -> dict[str, Tensor]:
    """Guess what every patch does to the metric, from one gradient: (a_other - a) . dm/da.

    a: an activation of the run on tokens, where the gradient is taken; a_other: the same place in
    the run on other; the dot product is over the last axis. metric: last logits [batch, vocab] ->
    [batch]. -> for each name a tensor of the activation's shape without its last axis, [batch,
    pos], [batch, pos, head] or [batch, head, query], in units of the metric. It works under
    torch.no_grad() too, and leaves no gradients in the model. Exact where the metric depends on a
    linearly. Nanda 2023, "Attribution Patching: Activation Patching At Industrial Scale".
    """
    # YOUR CODE: to each activation add a zero that wants a gradient; both runs; roughly 10 lines
    raise NotImplementedError("attribution_patch")
