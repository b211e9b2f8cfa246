"""Chapter 1. A transformer, written as four plain functions.

Axis words: batch pos query key head d_model d_head vocab. Row vectors: x @ W. `weights` is a dict
of tensors: W_E [vocab, d_model], W_pos [pos, d_model], W_Q W_K W_V [layer, head, d_model, d_head],
W_O [layer, head, d_head, d_model], W_U [d_model, vocab]. `python -m exercises check` says how you
are doing.
"""

import math
from collections.abc import Callable

import torch
from einops import einsum
from torch import Tensor


def attention_pattern(q: Tensor, k: Tensor) -> Tensor:
    """Who looks at whom: softmax over the keys of q_i . k_j / sqrt(d_head), for keys at or before
    the query.

    q, k [batch, pos, head, d_head] -> [batch, head, query, key]; every row sums to 1, later keys
    get exactly 0. Vaswani et al. 2017, "Attention Is All You Need".
    """
    # YOUR CODE: scores, scale, mask, softmax; roughly 4 lines
    raise NotImplementedError("attention_pattern")


def head_output(x: Tensor, pattern: Tensor, W_V: Tensor, W_O: Tensor) -> Tensor:
    """What each head writes to the stream: pattern (x W_V) W_O.

    x [batch, pos, d_model], pattern [batch, head, query, key], W_V [head, d_model, d_head], W_O
    [head, d_head, d_model] -> [batch, pos, head, d_model], one output per head. Elhage et al. 2021,
    "A Mathematical Framework".
    """
    # YOUR CODE: values, then mix them with the pattern, then back to the stream; roughly 3 lines
    raise NotImplementedError("head_output")


def forward(weights: dict[str, Tensor], tokens: Tensor) -> Tensor:
    """The whole model: embed, let each layer read the stream and add to it, unembed.

    tokens [batch, pos] -> logits [batch, pos, vocab]. Positions are added to the inputs of q and k,
    and to nothing else.
    """
    # YOUR CODE: use attention_pattern and head_output; roughly 9 lines
    raise NotImplementedError("forward")


def forward_with_hooks(
    weights: dict[str, Tensor], tokens: Tensor, fwd_hooks: list[tuple[str, Callable]]
) -> Tensor:
    """The same forward pass, but at "stream.0", "stream.1", ... each hook of that name may replace
    the stream.

    "stream.L" is the stream [batch, pos, d_model] before layer L; "stream.<number of layers>" is
    what is unembedded. A hook is called as fn(stream, name) on a copy of its own; what it returns
    goes on, or the stream as it was if it returns None. Hooks of one name are called in the order
    of the list, each on what the one before let go on. Nothing about a hook may survive the call.
    Returns logits [batch, pos, vocab]. Raises ValueError for a name that does not exist.
    """
    # YOUR CODE: forward once more, and one extra line wherever the stream can be seen; 18 lines
    raise NotImplementedError("forward_with_hooks")
