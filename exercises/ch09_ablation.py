"""Chapter 9. Take a part away and see what breaks.

Axis words: batch pos query key layer head d_head d_model vocab. A head is a pair (layer, head). To
ablate a head is to replace what it writes by something that cannot know the input: zero, an
average, or what it wrote for another sequence. All models here are attention only, without
LayerNorm. `python -m exercises check` says how you are doing.
"""

from collections.abc import Callable
from itertools import product

import torch
from einops import einsum
from torch import Tensor
from torch.nn.functional import cross_entropy

from minitransformer import Transformer
from minitransformer.data import Repeats
from solutions.ch01_transformer import attention_pattern, head_output
from solutions.ch08_composition import decompose_qk_inputs

KINDS = ("zero", "mean", "mean per position", "resample")


def zero_ablate(heads: list[int]) -> Callable:
    """A hook that silences some heads of one layer: it returns the activation with the entries of
    `heads` set to 0.

    This builds and returns a function fn(activation, hook), to be used as
    fwd_hooks=[("blocks.1.attn.hook_z", fn)]. activation [batch, pos, head, d_head]; heads: their
    numbers in that layer. All other heads stay as they are. fn returns a new tensor and leaves the
    one that it was given alone. Since z is followed by W_O only, this is the same as setting the
    W_O of these heads to 0.
    """
    # YOUR CODE: a function in the function, with a copy; roughly 6 lines
    raise NotImplementedError("zero_ablate")


def replace_heads(heads: list[int], values: Tensor) -> Callable:
    """A hook, like that of zero_ablate, that gives `heads` their `values` [batch or 1, pos or 1,
    head, d_head] instead. values: those of all heads of the layer; the hook picks `heads`.
    """

    if values.ndim != 4:
        raise ValueError(
            f"values must be [batch or 1, pos or 1, head, d_head], not {list(values.shape)}; "
            "a mean with keepdim=True keeps its axes, with length 1"
        )

    def ablate(activation: Tensor, hook) -> Tensor:
        fits = [size in (1, wanted) for size, wanted in zip(values.shape, activation.shape)]
        if not all(fits) or values.shape[2:] != activation.shape[2:]:
            pair = f"values {list(values.shape)}, activation {list(activation.shape)}"
            raise ValueError(f"values must be [batch or 1, pos or 1, head, d_head]: {pair}")
        activation = activation.clone()
        activation[:, :, heads] = values[:, :, heads]
        return activation

    return ablate


def mean_ablate(heads: list[int], reference: Tensor) -> Callable:
    """A hook that makes some heads write always the same: each its own mean over all sequences and
    positions.

    reference [batch, pos, head, d_head]: the same activation in an undisturbed run, of as many
    positions; its batch may be another one. Like zero_ablate's, the hook returns a new tensor and
    leaves the given one alone. What a head writes whatever the input stays; what depends on the
    input goes. Where nothing varies, nothing changes.
    """
    # YOUR CODE: replace_heads does the rest; roughly 1 line
    raise NotImplementedError("mean_ablate")


def mean_per_position_ablate(heads: list[int], reference: Tensor) -> Callable:
    """A hook that makes some heads write what they write at that position on average: the mean over
    the sequences only.

    reference [batch, pos, head, d_head]: the same activation in an undisturbed run, of as many
    positions; its batch may be another one. Like zero_ablate's, the hook returns a new tensor and
    leaves the given one alone. It takes away what depends on the tokens and keeps what depends on
    the position. Wang et al. 2022, "Interpretability in the Wild" (arXiv 2211.00593), average over
    other prompts than those they test, template by template; here the reference is yours to choose.
    """
    # YOUR CODE: roughly 1 line
    raise NotImplementedError("mean_per_position_ablate")


def resample_ablate(heads: list[int], reference: Tensor, donors: Tensor) -> Callable:
    """A hook that makes some heads write what they wrote for another sequence, at the same
    position.

    reference [rows, pos, head, d_head]: the same activation in an undisturbed run, of as many
    positions. donors [batch], whole numbers: sequence b gets what the heads wrote in row donors[b].
    Like zero_ablate's, the hook returns a new tensor and leaves the given one alone. Unlike a mean,
    this is always something that the rest of the model has seen. Chan et al. 2022, "Causal
    Scrubbing".
    """
    # YOUR CODE: roughly 1 line
    raise NotImplementedError("resample_ablate")


def ablation_hooks(
    heads: list[tuple[int, int]], kind: str = "zero", cache: dict | None = None
) -> list:
    """fwd_hooks that ablate heads (layer, head) of any layers. kind: one of KINDS.

    cache: of an undisturbed run on the same tokens, with hook_z; "zero" needs none. "resample":
    each sequence gets what the heads wrote for the sequence before it in the batch, all heads from
    the same one.
    """
    hooks = []
    for layer in sorted({layer for layer, _ in heads}):
        name = f"blocks.{layer}.attn.hook_z"
        numbers = [head for at, head in heads if at == layer]
        if kind == "zero":
            hook = zero_ablate(numbers)
        elif kind == "mean":
            hook = mean_ablate(numbers, cache[name])
        elif kind == "mean per position":
            hook = mean_per_position_ablate(numbers, cache[name])
        elif kind == "resample":
            hook = resample_ablate(numbers, cache[name], torch.arange(len(cache[name])).roll(1))
        else:
            raise ValueError(f"kind {kind!r} is none of {', '.join(KINDS)}")
        hooks.append((name, hook))
    return hooks


def loss_where_known(logits: Tensor, repeats: Repeats) -> float:
    """The mean loss in nats at the positions (repeats.predictable) whose next token is determined
    and in the batch.
    """
    known = repeats.predictable[:, :-1]  # the last position has no next token
    return cross_entropy(logits[:, :-1][known], repeats.tokens[:, 1:][known]).item()


def joint_ablation(
    model: Transformer, repeats: Repeats, heads: list[tuple[int, int]], kind: str = "zero"
) -> float:
    """What it costs to ablate a group of heads together: the loss with all of them ablated, minus
    the loss of the model.

    In nats per token, by loss_where_known; negative if the model does better without. heads: pairs
    (layer, head) of any layers, each named once. kind: one of KINDS, for ablation_hooks, which
    takes what it needs from the cache of an undisturbed run.
    """
    # YOUR CODE: two runs on repeats.tokens and the difference of their losses; roughly 3 lines
    raise NotImplementedError("joint_ablation")


def ablation_table(model: Transformer, repeats: Repeats, kind: str = "zero") -> Tensor:
    """What it costs to ablate each head, one at a time, all others at work: [layer, head], in nats
    per token.

    Each entry is what joint_ablation gives for a group of one. A small entry does not mean that the
    head does nothing.
    """
    # YOUR CODE: roughly 4 lines
    raise NotImplementedError("ablation_table")


def pattern_preserving_ablation(
    model: Transformer, tokens: Tensor, heads: list[tuple[int, int]]
) -> Tensor:
    """The logits when `heads` write nothing, but every head of every layer attends as in the
    undisturbed run.

    What is lost now was carried by values alone; what an ordinary ablation loses beyond that went
    through where later heads look. heads: pairs (layer, head). Returns [batch, pos, vocab]. Olsson
    et al. 2022, "In-context Learning and Induction Heads" (arXiv 2209.11895).
    """
    # YOUR CODE: save every hook_pattern, run with these forced and heads zeroed; roughly 4 lines
    raise NotImplementedError("pattern_preserving_ablation")


def targeted_ablation(
    model: Transformer,
    tokens: Tensor,
    sources: list[tuple[int, int]],
    target: tuple[int, int],
    side: str = "k",
) -> Tensor:
    """Where `target` looks if what `sources` wrote is taken out of its keys, and out of nothing
    else in the model.

    sources: heads (layer, head) of earlier layers, each named once; target: the head (layer, head)
    whose pattern [batch, query, key] is returned. side "k": only the keys of `target` are made from
    a stream without the sources' outputs; its queries, its values and all other heads still see
    them. side "q": its queries instead. The sources' outputs are those of the undisturbed run,
    "blocks.L.attn.hook_result" [batch, pos, head, d_model]. k is linear in the stream (no
    LayerNorm, no smeared keys), so taking something out of the stream takes its product with W_K
    out of k.
    """
    # YOUR CODE: what was written, its share of k or q, a hook that subtracts it; roughly 9 lines
    raise NotImplementedError("targeted_ablation")


def strict_path_model(
    model: Transformer, tokens: Tensor, queries: list[str], keys: list[str], values: list[str]
) -> Tensor:
    """The logits of a two-layer model of which nothing is left but the paths that a story names.

    queries, keys, values: names of parts of the stream after layer 0, as decompose_qk_inputs of
    chapter 8 names them: "embed", "positions", "0.0", "0.1", ... The queries of all heads of layer
    1 are made from the sum of the parts in `queries` and from nothing else; their keys and values
    likewise. Attention is computed from these q and k; the logits are made from what layer 1
    writes, and from nothing else. The parts are those of the undisturbed run. An empty list is a
    stream of zeros. Returns [batch, pos, vocab]. attention_pattern and head_output are from chapter
    1. Path patching in its strictest form: Goldowsky-Dill et al. 2023, "Localizing Model Behavior
    with Path Patching" (arXiv 2304.05969).
    """
    # YOUR CODE: the parts; q and k, pattern, what the heads write, unembed; roughly 10 lines
    raise NotImplementedError("strict_path_model")
