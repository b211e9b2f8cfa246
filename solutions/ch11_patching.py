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
    n = clean.shape[1]
    if swap not in ("key", "value", "query"):
        raise ValueError(f"the swaps are key, value and query, not {swap!r}.")
    low, high = min(first, second), max(first, second)
    if low < 1 or high > n - 3 or high - low < 2:
        raise ValueError(f"A B at {first} and C D at {second} do not fit before the last of {n}.")
    corrupt = clean.clone()
    if swap == "key":
        corrupt[:, [first, second]] = clean[:, [second, first]]
    if swap == "value":
        corrupt[:, [first + 1, second + 1]] = clean[:, [second + 1, first + 1]]
    if swap == "query":
        corrupt[:, -1] = clean[:, second]
    return Pairs(clean, corrupt, clean[:, first + 1], clean[:, second + 1])


def normalised_metric(patched: Tensor, clean: Tensor, corrupt: Tensor) -> Tensor:
    """How far a patch moves the metric: 0 as in the corrupt run, 1 as in the clean one.

    (patched - corrupt) / (clean - corrupt), each averaged over the batch *first*: single rows may
    have a denominator of 0. patched [..., batch], clean and corrupt [batch] -> [...]. clean may be
    the smaller one. It may leave 0 to 1, and must not be clipped. Raises ValueError if clean and
    corrupt have the same mean: then there is nothing to explain.
    """
    # YOUR CODE: three means, one refusal, one fraction; roughly 4 lines
    whole = clean.mean() - corrupt.mean()
    if whole == 0:
        raise ValueError("clean and corrupt have the same mean: the metric cannot tell them apart.")
    return (patched.mean(dim=-1) - corrupt.mean()) / whole


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
    batch, logits, group = len(tokens), [], max(1, ROWS // len(tokens))
    for start in range(0, len(cells), group):
        some = cells[start : start + group]

        def patch(activation: Tensor, hook, some=some) -> Tensor:
            by_cell = activation.unflatten(0, (len(some), batch))  # a view: cell batch ...
            for number, cell in enumerate(some):
                for name, index in cell:
                    if name == hook.name:
                        by_cell[(number, ALL, *index)] = saved[name][(ALL, *index)]
            return activation

        hooks = [(name, patch) for name in {name for cell in some for name, _ in cell}]
        patched = model.run_with_hooks(tokens.repeat(len(some), 1), hooks)
        logits.append(patched[:, -1].unflatten(0, (len(some), batch)))
    return torch.cat(logits)


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
    n = tokens.shape[1]
    names = [f"blocks.{layer}.hook_resid_pre" for layer in range(model.cfg.n_layers)]
    names.append(final_stream(model))
    _, saved = model.run_with_cache(other, names)
    cells = [[(name, (pos,))] for name in names for pos in range(n)]
    return patch_cells(model, tokens, saved, cells).unflatten(0, (len(names), n))


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
    names = [head_hook(layer, what) for layer in range(model.cfg.n_layers)]
    _, saved = model.run_with_cache(other, names)
    positions = list(range(tokens.shape[1])) if by_position else [ALL]
    cells = []
    for name in names:
        for head in range(model.cfg.n_heads):
            for pos in positions:
                cells.append([(name, (head, pos) if what == "pattern" else (pos, head))])
    logits = patch_cells(model, tokens, saved, cells)
    logits = logits.unflatten(0, (len(names), model.cfg.n_heads, len(positions)))
    return logits if by_position else logits[:, :, 0]


def sufficiency_and_necessity(
    model: Transformer, clean: Tensor, corrupt: Tensor, cells: list[list[tuple]], metric: Callable
) -> tuple[Tensor, Tensor]:
    """Each cell patched both ways: (sufficient [cell], necessary [cell]), as shares of the gap.

    sufficient, by denoising: run corrupt, put the clean cell in; 1 if that alone restores the clean
    metric, 0 if nothing moves. necessary, by noising: run clean, put the corrupt cell in; 1 if that
    alone takes all the way to the corrupt metric, 0 if nothing moves. The two need not agree.
    """
    # YOUR CODE: both caches, both runs of patch_cells, normalised_metric; roughly 7 lines
    names = list({name for cell in cells for name, _ in cell})
    clean_logits, from_clean = model.run_with_cache(clean, names)
    corrupt_logits, from_corrupt = model.run_with_cache(corrupt, names)
    ends = metric(clean_logits[:, -1]), metric(corrupt_logits[:, -1])
    restored = normalised_metric(metric(patch_cells(model, corrupt, from_clean, cells)), *ends)
    remaining = normalised_metric(metric(patch_cells(model, clean, from_corrupt, cells)), *ends)
    return restored, 1 - remaining


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
    row = torch.arange(len(right))
    log_q, log_p = logits.log_softmax(dim=-1), clean_logits.log_softmax(dim=-1)
    return {
        "probability": log_q[..., row, right].exp(),
        "log-probability": log_q[..., row, right],
        "logit difference": logits[..., row, right] - logits[..., row, wrong],
        "accuracy": (logits.argmax(dim=-1) == right).to(logits.dtype),
        "KL": (log_p.exp() * (log_p - log_q)).sum(dim=-1),
    }


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
    layers = range(model.cfg.n_layers)
    z_names = [head_hook(layer, "z") for layer in layers]
    _, frozen = model.run_with_cache(tokens, z_names)
    _, replaced = model.run_with_cache(other, z_names)
    layer, head = sender
    frozen[z_names[layer]][:, :, head] = replaced[z_names[layer]][:, :, head]
    read = [head_hook(layer, what) for layer in layers for what in "qkv"]
    freeze = [(name, lambda z, hook: frozen[hook.name]) for name in z_names]
    _, cache = model.run_with_cache(tokens, [*read, final_stream(model)], freeze)
    return cache


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
    direct = direct_inputs(model, tokens, other, sender)
    _, plain = model.run_with_cache(tokens, list(direct))

    def add_change(x: Tensor, hook, head) -> Tensor:
        x[:, :, head] += (direct[hook.name] - plain[hook.name])[:, :, head]
        return x

    hooks = []
    for receiver in receivers:
        if receiver == "logits":
            hooks.append((final_stream(model), partial(add_change, head=ALL)))
        else:
            layer, head, what = receiver
            hooks.append((head_hook(layer, what), partial(add_change, head=head)))
    return model.run_with_hooks(tokens, hooks)[:, -1]


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
    zeros = {}

    def listen(activation: Tensor, hook) -> Tensor:
        zeros[hook.name] = torch.zeros_like(activation, requires_grad=True)
        return activation + zeros[hook.name]

    _, here = model.run_with_cache(tokens, names)
    _, there = model.run_with_cache(other, names)
    with torch.enable_grad():
        logits = model.run_with_hooks(tokens, [(name, listen) for name in names])
        slopes = torch.autograd.grad(metric(logits[:, -1]).sum(), [zeros[name] for name in names])
    moved = {name: there[name] - here[name] for name in names}
    return {name: (moved[name] * slope).sum(dim=-1) for name, slope in zip(names, slopes)}
