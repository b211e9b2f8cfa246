"""What the checks of chapter 1 compare with: the definitions in loops, the package's own model, and
what people get wrong.
"""

import math

import torch
from einops import einsum

from tests.material import seeded, small_model

MODEL = small_model()
WEIGHTS = {name: tensor.detach() for name, tensor in MODEL.state_dict().items()}
TOKENS = torch.tensor([[0, 3, 7, 3, 10, 1], [0, 5, 5, 2, 9, 4]])
Q = 2 * torch.randn(2, 5, 3, 4, generator=seeded(1), dtype=torch.float64)  # batch pos head d_head
K = 2 * torch.randn(2, 5, 3, 4, generator=seeded(2), dtype=torch.float64)


# attention_pattern


def pattern_by_loops(q, k):
    """The definition, one number at a time."""
    batch, n, heads, d_head = q.shape
    pattern = torch.zeros(batch, heads, n, n, dtype=q.dtype)
    for b in range(batch):
        for h in range(heads):
            for i in range(n):
                scores = [float(q[b, i, h] @ k[b, j, h]) for j in range(i + 1)]
                weights = [math.exp(score / math.sqrt(d_head)) for score in scores]
                for j, weight in enumerate(weights):
                    pattern[b, h, i, j] = weight / sum(weights)
    return pattern


def pattern_with(power=0.5, offset=1, dim=-1, mask="before", swapped=False):
    """attention_pattern with one thing changed; the defaults are right. power: of d_head, by which
    the scores are divided.
    """

    def pattern(q, k):
        if swapped:
            q, k = k, q
        axes = "batch query head d_head, batch key head d_head -> batch head query key"
        scores = einsum(q, k, axes) / q.shape[-1] ** power
        later = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(offset)
        if mask == "before":
            return scores.masked_fill(later, -math.inf).softmax(dim)
        if mask == "zero":
            return scores.masked_fill(later, 0.0).softmax(dim)
        if mask == "after":
            return scores.softmax(dim) * ~later
        return scores.softmax(dim)

    return pattern


PATTERN_MISTAKES = {
    "the scores were not divided by sqrt(d_head)": pattern_with(power=0),
    "the scores were divided by d_head, not by its square root": pattern_with(power=1),
    "the softmax ran over the queries; it must run over the keys, the last axis": pattern_with(
        dim=-2
    ),
    "the mask is off by one: a token may look at itself": pattern_with(offset=0),
    "the mask is off by one: a token may not look at the next one": pattern_with(offset=2),
    "the mask was applied after the softmax, so rows no longer sum to 1": pattern_with(
        mask="after"
    ),
    "forbidden scores were set to 0, which still gets attention: exp(0) = 1; use -inf": (
        pattern_with(mask="zero")
    ),
    "there is no causal mask": pattern_with(mask="none"),
    "query and key are swapped": pattern_with(swapped=True),
}
LOOKS_AHEAD = {
    "there is no causal mask": pattern_with(mask="none"),
    "the mask is off by one: a token may not look at the next one": pattern_with(offset=2),
}


# head_output

X = torch.randn(2, 5, MODEL.cfg.d_model, generator=seeded(3), dtype=torch.float64)
PATTERN = pattern_by_loops(Q, K)
W_V, W_O = WEIGHTS["W_V"][0], WEIGHTS["W_O"][0]


def head_by_loops(x, pattern, W_V, W_O):
    batch, n, d_model = x.shape
    out = torch.zeros(batch, n, len(W_V), d_model, dtype=x.dtype)
    for b in range(batch):
        for h in range(len(W_V)):
            for i in range(n):
                for j in range(n):
                    moved = x[b, j] @ W_V[h] @ W_O[h]
                    out[b, i, h] += pattern[b, h, i, j] * moved
    return out


def transposed_pattern(x, pattern, W_V, W_O):
    return head_by_loops(x, pattern.transpose(-1, -2), W_V, W_O)


def own_value(x, pattern, W_V, W_O):
    itself = torch.eye(x.shape[1], dtype=x.dtype).expand_as(pattern)
    return head_by_loops(x, itself, W_V, W_O)


def mixed_up_heads(x, pattern, W_V, W_O):
    return head_by_loops(x, pattern, W_V, W_O.roll(1, 0))


def heads_added_up(x, pattern, W_V, W_O):
    return head_by_loops(x, pattern, W_V, W_O).sum(dim=2)


HEAD_MISTAKES = {
    "the pattern was used transposed: a query must collect from its keys, not the other way "
    "round": transposed_pattern,
    "the pattern was ignored: every position wrote its own value": own_value,
    "the heads were mixed up: head h must use its own W_O[h]": mixed_up_heads,
    "the heads were added up; return one output per head": heads_added_up,
}


# forward: a wrong forward pass is the package's right one with other weights, or with hooks


def positions_in_the_stream(weights, tokens):
    standard = small_model(positional_embedding_type="standard")
    standard.load_state_dict(weights)
    return standard(tokens).detach()


def with_weights(name, change):
    def run(weights, tokens):
        model = small_model()
        model.load_state_dict(weights | {name: change(weights[name])})
        return model(tokens).detach()

    return run


def no_second_layer(W_O):
    return torch.stack([W_O[0], torch.zeros_like(W_O[1])])


def stream_replaced(weights, tokens):
    """After each layer the stream is what the layer wrote, instead of the sum."""
    written = {}

    def remember(out, hook):
        written["last"] = out

    def replace(stream, hook):
        return written["last"]

    hooks = [(f"blocks.{layer}.hook_attn_out", remember) for layer in range(2)]
    hooks += [(f"blocks.{layer}.hook_resid_post", replace) for layer in range(2)]
    return MODEL.run_with_hooks(tokens, hooks)


def positions_in_values(weights, tokens):
    def also_positions(v, hook):
        layer = int(hook.name.split(".")[1])
        axes = "pos d_model, head d_model d_head -> pos head d_head"
        return v + einsum(weights["W_pos"], weights["W_V"][layer], axes)[: v.shape[1]]

    return MODEL.run_with_hooks(tokens, [(is_value, also_positions)]).detach()


def is_value(name):
    return name.endswith("hook_v")


FORWARD_MISTAKES = {
    "positions were added to the stream; here only q and k may see them": positions_in_the_stream,
    "positions are missing from q and k": with_weights("W_pos", torch.zeros_like),
    "each layer replaced the stream; it must add to it": stream_replaced,
    "the second layer is missing": with_weights("W_O", no_second_layer),
    "positions were added to the input of v as well; only q and k may see them": (
        positions_in_values
    ),
    "a softmax was taken; return the logits": (
        lambda weights, tokens: MODEL(tokens).softmax(-1).detach()
    ),
    "a log-softmax was taken; return the logits": (
        lambda weights, tokens: MODEL(tokens).log_softmax(-1).detach()
    ),
}


# forward_with_hooks

PLACES = {
    "stream.0": "blocks.0.hook_resid_pre",
    "stream.1": "blocks.1.hook_resid_pre",
    "stream.2": "blocks.1.hook_resid_post",
}


def expect_known(fwd_hooks):
    for name, _ in fwd_hooks:
        if name not in PLACES:
            raise ValueError(name)


def on_the_package(weights, tokens, fwd_hooks):
    """forward_with_hooks by way of the package's hooks."""
    expect_known(fwd_hooks)

    def renamed(fn, name):
        return lambda stream, hook: fn(stream, name)

    return MODEL.run_with_hooks(
        tokens, [(PLACES[name], renamed(fn, name)) for name, fn in fwd_hooks]
    ).detach()


def result_dropped(weights, tokens, fwd_hooks):
    expect_known(fwd_hooks)
    for name, fn in fwd_hooks:
        fn(weights["W_E"][tokens].clone(), name)
    return MODEL(tokens).detach()


def one_layer_late(weights, tokens, fwd_hooks):
    expect_known(fwd_hooks)
    later = {"stream.0": "stream.1", "stream.1": "stream.2", "stream.2": "stream.2"}
    return on_the_package(weights, tokens, [(later[name], fn) for name, fn in fwd_hooks])


def last_of_each_name(weights, tokens, fwd_hooks):
    return on_the_package(weights, tokens, list(dict(fwd_hooks).items()))


HOOK_MISTAKES = {
    "what the hook returned was not used": result_dropped,
    "the hooks fired one layer late: stream.L is the stream before layer L": one_layer_late,
    "of several hooks on one name only the last was called": last_of_each_name,
}
