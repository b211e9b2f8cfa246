"""What the checks of the forward passes of chapter 1 compare with: the package's model, which was
written independently; a wrong pass is a right one with other weights, or with hooks.
"""

import torch
from einops import einsum

from tests.material import small_model

TOKENS = torch.tensor([[0, 3, 7, 3, 10], [0, 5, 5, 2, 9]])
LAYERED = ("W_Q", "W_K", "W_V", "W_O")


def weights_of(n_layers):
    """The weights of a model whose token and position vectors are about equally long."""
    weights = small_model(n_layers=n_layers).state_dict()
    return weights | {"W_pos": 3 * weights["W_pos"]}


WEIGHTS = weights_of(3)


def package(weights, tokens, fwd_hooks=(), **config):
    """The right forward pass."""
    n_layers, n_heads = weights["W_Q"].shape[:2]
    model = small_model(n_layers=n_layers, n_heads=n_heads, **config)
    model.load_state_dict(weights)
    return model.run_with_hooks(tokens, fwd_hooks).detach()


def with_weights(change):
    return lambda weights, tokens: package(weights | change(weights), tokens)


def with_hooks(hooks):
    return lambda weights, tokens: package(weights, tokens, hooks(weights, tokens))


def layers(weights, which):
    return {name: weights[name][which] for name in LAYERED}


def every_head_a_layer(weights):
    return {name: weights[name].flatten(0, 1)[:, None] for name in LAYERED}


def placed_at(rows):
    """Hooks under which the positions are rows(W_pos, tokens)."""

    def hooks(weights, tokens):
        return [("hook_pos_embed", lambda pos, hook: rows(weights["W_pos"], tokens).expand_as(pos))]

    return hooks


def positions_more(part, times, first_layer=0):
    """Hooks under which q, k or v gets the positions `times` times more."""

    def hooks(weights, tokens):
        def change(x, hook):
            layer = int(hook.name.split(".")[1])
            axes = "pos d_model, head d_model d_head -> pos head d_head"
            W = weights[f"W_{part.upper()}"][layer]
            share = times if layer >= first_layer else 0
            return x + share * einsum(weights["W_pos"][: tokens.shape[1]], W, axes)

        return [(lambda name: name.endswith(f"hook_{part}"), change)]

    return hooks


def both(one, other):
    return lambda weights, tokens: one(weights, tokens) + other(weights, tokens)


def streams(weights, tokens):
    """The stream before each layer, and after the last."""
    seen = []

    def watch(stream, hook):
        seen.append(stream)

    n_layers = len(weights["W_Q"])
    places = [f"blocks.{layer}.hook_resid_pre" for layer in range(n_layers)]
    places.append(f"blocks.{n_layers - 1}.hook_resid_post")
    package(weights, tokens, [(place, watch) for place in places])
    return [stream.detach() for stream in seen]


def unembedded(pick):
    """Logits of something else than the last stream."""
    return lambda weights, tokens: pick(streams(weights, tokens)) @ weights["W_U"]


def in_parallel(weights, tokens):
    stream = weights["W_E"][tokens]
    for layer in range(len(weights["W_Q"])):
        alone = weights | layers(weights, slice(layer, layer + 1))
        before, after = streams(alone, tokens)
        stream = stream + after - before
    return stream @ weights["W_U"]


def stream_replaced(weights, tokens):
    """After each layer the stream is what the layer wrote, instead of the sum."""
    written = {}

    def remember(out, hook):
        written["last"] = out

    def replace(stream, hook):
        return written["last"]

    hooks = [(lambda name: name.endswith("hook_attn_out"), remember)]
    hooks += [(lambda name: name.endswith("hook_resid_post"), replace)]
    return package(weights, tokens, hooks)


def positions_in_the_stream(weights, tokens):
    return package(weights, tokens, positional_embedding_type="standard")


def positions_in_every_layer(weights, tokens):
    def again(stream, hook):
        return stream + weights["W_pos"][: tokens.shape[1]]

    hooks = [(lambda name: name.endswith("hook_resid_pre"), again)]
    no_more = weights | {"W_pos": torch.zeros_like(weights["W_pos"])}
    return package(no_more, tokens, hooks)


WRONG_WEIGHTS = {
    "positions are missing from q and k": lambda w: {"W_pos": torch.zeros_like(w["W_pos"])},
    "the positions are one too late: position 0 gets W_pos[0]": (
        lambda w: {"W_pos": w["W_pos"].roll(-1, 0)}
    ),
    "only the first two layers were run; len(weights['W_Q']) says how many there are": (
        lambda w: layers(w, slice(0, 2))
    ),
    "only the first layer was run": lambda w: layers(w, slice(0, 1)),
    "the first layer is missing": lambda w: layers(w, slice(1, None)),
    "the layers were run from the last to the first": (
        lambda w: {name: w[name].flip(0) for name in LAYERED}
    ),
    "every layer used the weights of layer 0": (
        lambda w: {name: w[name][:1].expand_as(w[name]) for name in LAYERED}
    ),
    "W_Q and W_K are exchanged": lambda w: {"W_Q": w["W_K"], "W_K": w["W_Q"]},
    "the stream was unembedded with W_E transposed; that is what W_U is for": (
        lambda w: {"W_U": w["W_E"].T}
    ),
    "the mean was taken over the heads; a layer adds their sum": (
        lambda w: {"W_O": w["W_O"] / w["W_O"].shape[1]}
    ),
    "the heads of a layer were run one after another; all of them read the same stream": (
        every_head_a_layer
    ),
    "only the first head of each layer was added": (
        lambda w: {name: w[name][:, :1] for name in LAYERED}
    ),
}
WRONG_POSITIONS = {
    "positions were added to the input of v as well; only q and k may see them": (
        positions_more("v", 1)
    ),
    "positions were given to q only; k needs them too": positions_more("k", -1),
    "positions were given to k only; q needs them too": positions_more("q", -1),
    "positions were given to layer 0 only; every layer's q and k see them": both(
        positions_more("q", -1, first_layer=1), positions_more("k", -1, first_layer=1)
    ),
    "the positions were counted from the end: the first token is at position 0": placed_at(
        lambda W_pos, tokens: W_pos[-tokens.shape[1] :]
    ),
    "the positions were looked up by token, not by place": placed_at(
        lambda W_pos, tokens: W_pos[tokens % len(W_pos)]
    ),
    "every position got the same position vector": placed_at(lambda W_pos, tokens: W_pos[:1]),
    "the positions were taken twice": both(positions_more("q", 1), positions_more("k", 1)),
}
FORWARD_MISTAKES = {
    **{label: with_weights(change) for label, change in WRONG_WEIGHTS.items()},
    **{label: with_hooks(hooks) for label, hooks in WRONG_POSITIONS.items()},
    "positions were added to the stream; here only q and k may see them": positions_in_the_stream,
    "positions were added to the stream in every layer; only q and k may see them": (
        positions_in_every_layer
    ),
    "each layer replaced the stream; it must add to it": stream_replaced,
    "the layers were run side by side; each reads what those before it have written": in_parallel,
    "the embedding is missing: the stream begins with it, and the layers add to it": unembedded(
        lambda streams: streams[-1] - streams[0]
    ),
    "only what the last layer wrote was unembedded; the whole stream is": unembedded(
        lambda streams: streams[-1] - streams[-2]
    ),
    "the embedding was added once more at the end": unembedded(
        lambda streams: streams[-1] + streams[0]
    ),
    "the unembedding is missing: that is the stream": lambda w, t: streams(w, t)[-1],
    "only the last position is there; return the logits of every position": (
        lambda w, t: package(w, t)[:, -1]
    ),
    "a softmax was taken; return the logits": lambda w, t: package(w, t).softmax(dim=-1),
    "a log-softmax was taken; return the logits": lambda w, t: package(w, t).log_softmax(dim=-1),
}
