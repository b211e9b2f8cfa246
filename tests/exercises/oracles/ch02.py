"""What the checks of chapter 2 compare with, first part: the components of the stream, and a head
in another basis; and what people get wrong.
"""

import torch
from torch.linalg import inv, pinv

from tests.material import seeded, small_model

TOKENS = torch.tensor([[0, 3, 7, 3, 10, 1, 8], [0, 5, 5, 2, 9, 4, 6]])
PLAIN = small_model()
HEADS = ["0.0", "0.1", "0.2", "1.0", "1.1", "1.2", "2.0", "2.1", "2.2"]
IN_STREAM = {"positional_embedding_type": "standard"}


def hardly_placed():
    """Positions in the stream, but short ones."""
    model = small_model(**IN_STREAM)
    with torch.no_grad():
        model.W_pos *= 1e-4
    return model


MODELS = {
    "three layers": (small_model(n_layers=3), ["embed", *HEADS]),
    "positions in the stream": (small_model(**IN_STREAM), ["embed", "pos", *HEADS[:6]]),
    "short positions in the stream": (hardly_placed(), ["embed", "pos", *HEADS[:6]]),
    "one layer": (small_model(n_layers=1), ["embed", *HEADS[:3]]),
    "with an MLP, and positions in the stream": (
        small_model(d_mlp=7, **IN_STREAM),
        ["embed", "pos", *HEADS[:3], "0.mlp", *HEADS[3:6], "1.mlp"],
    ),
    "eleven layers": (  # as text, "10" comes before "2"
        small_model(n_layers=11, n_heads=1),
        ["embed", *[f"{layer}.0" for layer in range(11)]],
    ),
}


def cache_of(model):
    return model.run_with_cache(TOKENS)[1]


# residual_decomposition


def component(cache, label):
    """What was added to the stream under this name."""
    if label in ("embed", "pos"):
        return cache[f"hook_{label}" if label == "embed" else "hook_pos_embed"]
    layer, part = label.split(".")
    if part == "mlp":
        return cache[f"blocks.{layer}.hook_mlp_out"]
    return cache[f"blocks.{layer}.attn.hook_result"][:, :, int(part)]


def decomposed(positions="where added", each=None, skip=(), layers=None, moved=None):
    """residual_decomposition with one thing changed, by other means: a component is one change of
    the stream.

    each: what stands for the heads of a layer. layers: how many. moved: another order of labels.
    """

    def decompose(cache):
        parts = {"embed": cache["hook_embed"], "pos": cache["hook_pos_embed"]}
        added = not torch.equal(cache["blocks.0.hook_resid_pre"], parts["embed"])
        if positions == "never" or (positions == "where added" and not added):
            del parts["pos"]
        n_layers = sum(name.endswith("resid_post") for name in cache) if layers is None else layers
        for layer in range(n_layers):
            parts |= (each or every_head)(cache, layer)
            if f"blocks.{layer}.hook_mlp_out" in cache:
                parts[f"{layer}.mlp"] = cache[f"blocks.{layer}.hook_mlp_out"]
        labels = sorted(parts, key=moved) if moved else list(parts)
        labels = [label for label in labels if label.split(".")[-1] not in skip]
        return labels, torch.stack([parts[label] for label in labels])

    return decompose


def every_head(cache, layer):
    result = cache[f"blocks.{layer}.attn.hook_result"]
    return {f"{layer}.{head}": result[:, :, head] for head in range(result.shape[2])}


def whole_layer(cache, layer):
    return {f"{layer}.attn": cache[f"blocks.{layer}.hook_attn_out"]}


def whole_layer_as_head_0(cache, layer):
    return {f"{layer}.0": cache[f"blocks.{layer}.hook_attn_out"]}


def with_sum_so_far(cache, layer):
    return every_head(cache, layer) | {f"{layer}.resid": cache[f"blocks.{layer}.hook_resid_post"]}


def head_first(cache, layer):
    result = cache[f"blocks.{layer}.attn.hook_result"]
    return {f"{head}.{layer}": result[:, :, head] for head in range(result.shape[2])}


def last_come_positions(label):
    return label == "pos"


def mlp_first(label):
    layer, _, part = label.partition(".")
    return (1, int(layer), part != "mlp") if part else (0, 0, False)


def head_by_head(label):
    layer, _, part = label.partition(".")
    return (part, int(layer)) if part else ("", 0)


def misnamed(cache):
    labels, components = decomposed()(cache)
    heads = [i for i, label in enumerate(labels) if label[-1].isdigit()]
    others = components.clone()
    others[heads] = components[heads[::-1]]
    return labels, others


def embed_with_positions(cache):
    labels, components = decomposed()(cache)
    components[0] = cache["blocks.0.hook_resid_pre"]
    return labels, components


def stacked_last(cache):
    labels, components = decomposed()(cache)
    return labels, components.movedim(0, 2)


DECOMPOSITION_MISTAKES = {
    "positions are counted as part of the stream; this model gives them to q and k only": (
        decomposed(positions="always")
    ),
    "positions are missing where the model does add them to the stream": (
        decomposed(positions="never")
    ),
    "hook_resid_post was taken as a component: that is the sum so far, not what a layer adds": (
        decomposed(each=with_sum_so_far)
    ),
    "the heads of a layer are one component (hook_attn_out); give each head its own "
    "(hook_result)": decomposed(each=whole_layer),
    "hook_attn_out, the sum over the heads, was given out for head 0": (
        decomposed(each=whole_layer_as_head_0)
    ),
    "the embedding is missing: it was there first": decomposed(skip=("embed",)),
    "the MLPs are missing": decomposed(skip=("mlp",)),
    "the components are not in the order of their labels": misnamed,
    "the MLP of a layer comes after its heads: it reads what they wrote": (
        decomposed(moved=mlp_first)
    ),
    "the positions come right after the embedding": decomposed(moved=last_come_positions),
    "the heads are in another order: all of layer 0 first, then all of layer 1": (
        decomposed(moved=head_by_head)
    ),
    "labels are layer.head, not head.layer": decomposed(each=head_first),
    "the embedding is blocks.0.hook_resid_pre, which holds the positions too": (
        embed_with_positions
    ),
    "only the first two layers are there": decomposed(layers=2),
    "the components were stacked behind batch and pos; they are the first axis": stacked_last,
}


# rotate_head

HEAD = [PLAIN.state_dict()[name][1, 2] for name in ("W_Q", "W_K", "W_V", "W_O")]
D_HEAD = PLAIN.cfg.d_head
TURN = torch.randn(D_HEAD, D_HEAD, generator=seeded(2)).double()
M = torch.eye(D_HEAD).double() + 0.6 * TURN  # invertible, and far from a rotation


def itself(M):
    return M


def transposed(M):
    return M.T


def inverse_transposed(M):
    return inv(M).T


def nothing(M):
    return torch.eye(len(M)).to(M)


def reciprocal(M):
    return 1 / M


def rotated(for_k=inverse_transposed, for_o=inv, for_q=itself, for_v=itself):
    """rotate_head, given by what multiplies each matrix; the defaults are right."""

    def rotate(W_Q, W_K, W_V, W_O, M):
        return W_Q @ for_q(M), W_K @ for_k(M), W_V @ for_v(M), for_o(M) @ W_O

    return rotate


def pseudo_rotated(*head_and_M):
    return rotated(lambda M: pinv(M).T, for_o=pinv)(*head_and_M)


ROTATION_MISTAKES = {
    "W_K was multiplied by M as well: that is right only if M is a rotation": rotated(for_k=itself),
    "W_K was multiplied by the inverse of M, not transposed: in q k^T the k stands transposed": (
        rotated(for_k=inv)
    ),
    "W_K was multiplied by M transposed, which does not undo it": rotated(for_k=transposed),
    "W_K was left as it is": rotated(for_k=nothing),
    "W_O was multiplied by M transposed: that is right only if M is a rotation": (
        rotated(for_o=transposed)
    ),
    "W_O was multiplied by the inverse of M transposed; z M meets W_O as it stands": (
        rotated(for_o=inverse_transposed)
    ),
    "the two are exchanged: the inverse for W_K, its transpose for W_O": (
        rotated(for_k=inv, for_o=inverse_transposed)
    ),
    "this is right only if M is a rotation: in general M transposed does not undo M": (
        rotated(for_k=itself, for_o=transposed)
    ),
    "W_O was multiplied by M, which does not undo it": rotated(for_o=itself),
    "W_O was left as it is, and now reads a z in another basis": rotated(for_o=nothing),
    "the entries of M were inverted one by one; that is no inverse of a matrix": (
        rotated(for_k=lambda M: reciprocal(M).T, for_o=reciprocal)
    ),
    "only q and k were rotated; W_V must become W_V M": rotated(for_v=nothing, for_o=nothing),
    "only v and W_O were rotated; W_Q must become W_Q M": rotated(nothing, for_q=nothing),
    "nothing was changed: W_Q must become W_Q M": rotated(nothing, nothing, nothing, nothing),
    "in q and k it is the other way round: M belongs to W_Q, what undoes it to W_K": (
        rotated(for_q=inv, for_k=transposed)
    ),
    "in v and W_O it is the other way round: M belongs to W_V, what undoes it to W_O": (
        rotated(for_v=inv, for_o=itself)
    ),
    "it is the other way round: M belongs to W_Q and W_V, what undoes it to W_K and W_O": (
        rotated(for_q=inv, for_k=transposed, for_v=inv, for_o=itself)
    ),
}
