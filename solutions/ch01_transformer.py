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
    scores = einsum(q, k, "batch query head d_head, batch key head d_head -> batch head query key")
    scores = scores / math.sqrt(q.shape[-1])
    n = q.shape[1]
    later = torch.ones(n, n, dtype=torch.bool, device=q.device).triu(1)
    return scores.masked_fill(later, -math.inf).softmax(dim=-1)


def head_output(x: Tensor, pattern: Tensor, W_V: Tensor, W_O: Tensor) -> Tensor:
    """What each head writes to the stream: pattern (x W_V) W_O.

    x [batch, pos, d_model], pattern [batch, head, query, key], W_V [head, d_model, d_head], W_O
    [head, d_head, d_model] -> [batch, pos, head, d_model], one output per head. Elhage et al. 2021,
    "A Mathematical Framework".
    """
    # YOUR CODE: values, then mix them with the pattern, then back to the stream; roughly 3 lines
    v = einsum(x, W_V, "batch key d_model, head d_model d_head -> batch key head d_head")
    z = einsum(pattern, v, "batch head query key, batch key head d_head -> batch query head d_head")
    return einsum(z, W_O, "batch pos head d_head, head d_head d_model -> batch pos head d_model")


def forward(weights: dict[str, Tensor], tokens: Tensor) -> Tensor:
    """The whole model: embed, let each layer read the stream and add to it, unembed.

    tokens [batch, pos] -> logits [batch, pos, vocab]. Positions are added to the inputs of q and k,
    and to nothing else.
    """
    # YOUR CODE: use attention_pattern and head_output; roughly 9 lines
    stream = weights["W_E"][tokens]  # batch pos d_model
    positions = weights["W_pos"][: tokens.shape[1]]  # pos d_model
    into_heads = "batch pos d_model, head d_model d_head -> batch pos head d_head"
    for W_Q, W_K, W_V, W_O in zip(weights["W_Q"], weights["W_K"], weights["W_V"], weights["W_O"]):
        q = einsum(stream + positions, W_Q, into_heads)
        k = einsum(stream + positions, W_K, into_heads)
        stream = stream + head_output(stream, attention_pattern(q, k), W_V, W_O).sum(dim=2)
    return stream @ weights["W_U"]


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
    n_layers = len(weights["W_Q"])
    places = [f"stream.{layer}" for layer in range(n_layers + 1)]
    for name, _ in fwd_hooks:
        if name not in places:
            raise ValueError(f"no activation is called {name!r}; there are {', '.join(places)}.")

    def look(name: str, stream: Tensor) -> Tensor:
        for where, fn in fwd_hooks:
            if where == name:
                new = fn(stream.clone(), name)
                stream = stream if new is None else new
        return stream

    stream = look("stream.0", weights["W_E"][tokens])
    positions = weights["W_pos"][: tokens.shape[1]]
    into_heads = "batch pos d_model, head d_model d_head -> batch pos head d_head"
    for layer in range(n_layers):
        q = einsum(stream + positions, weights["W_Q"][layer], into_heads)
        k = einsum(stream + positions, weights["W_K"][layer], into_heads)
        pattern = attention_pattern(q, k)
        out = head_output(stream, pattern, weights["W_V"][layer], weights["W_O"][layer])
        stream = look(f"stream.{layer + 1}", stream + out.sum(dim=2))
    return stream @ weights["W_U"]
