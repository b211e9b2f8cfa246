"""Checks of chapter 1. The oracles: the definition in loops, perturbation of the future, and the
package's own model.
"""

import math

import torch
from einops import einsum

from minitransformer import ModelConfig, Transformer
from tests.exercises.checking import checks, expect, expect_close, expect_value_error

torch.manual_seed(1)
Q, K = (2 * torch.randn(2, 5, 3, 4, dtype=torch.float64) for _ in "qk")  # batch pos head d_head
MODEL = Transformer(
    ModelConfig(n_heads=3, d_model=8, d_head=4, d_vocab=11, n_ctx=6), seed=3
).double()
WEIGHTS = {name: tensor.detach() for name, tensor in MODEL.state_dict().items()}
TOKENS = torch.tensor([[0, 3, 7, 3, 10, 1], [0, 5, 5, 2, 9, 4]])


def pattern_by_loops(q, k):
    """The definition, one number at a time."""
    batch, n, heads, d_head = q.shape
    pattern = torch.zeros(batch, heads, n, n, dtype=q.dtype)
    for b in range(batch):
        for h in range(heads):
            for i in range(n):
                weights = [
                    math.exp(float(q[b, i, h] @ k[b, j, h]) / math.sqrt(d_head))
                    for j in range(i + 1)
                ]
                for j, weight in enumerate(weights):
                    pattern[b, h, i, j] = weight / sum(weights)
    return pattern


def variant(scale=2.0, offset=1, dim=-1, mask="before", swapped=False):
    """attention_pattern with one thing changed; the defaults are right (d_head is 4 here)."""

    def pattern(q, k):
        q, k = (k, q) if swapped else (q, k)
        scores = (
            einsum(q, k, "batch query head d_head, batch key head d_head -> batch head query key")
            / scale
        )
        later = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(offset)
        if mask == "before":
            return scores.masked_fill(later, -math.inf).softmax(dim)
        if mask == "zero":
            return scores.masked_fill(later, 0.0).softmax(dim)
        return scores.softmax(dim) * ~later if mask == "after" else scores.softmax(dim)

    return pattern


@checks(
    "attention_pattern",
    mistakes={
        "the scores were not divided by sqrt(d_head)": variant(scale=1.0),
        "the scores were divided by d_head, not by its square root": variant(scale=4.0),
        "the softmax ran over the queries; it must run over the keys, the last axis": variant(
            dim=-2
        ),
        "the mask is off by one: a token may look at itself": variant(offset=0),
        "the mask is off by one: a token may not look at the next one": variant(offset=2),
        "the mask was applied after the softmax, so rows no longer sum to 1": variant(mask="after"),
        "forbidden scores were set to 0, which still gets attention: exp(0) = 1; use -inf": variant(
            mask="zero"
        ),
        "there is no causal mask": variant(mask="none"),
        "query and key are swapped": variant(swapped=True),
    },
)
def test_pattern_is_its_definition(attention_pattern):
    expect_close(
        attention_pattern(Q, K),
        pattern_by_loops(Q, K),
        "batch head query key",
        "the softmax over the keys so far",
    )


@checks(
    "attention_pattern",
    mistakes={
        "there is no causal mask": variant(mask="none"),
        "the mask is off by one: a token may not look at the next one": variant(offset=2),
    },
)
def test_the_future_cannot_matter(attention_pattern):
    """Causality, tested as what it means: change what comes later, and nothing before it may
    move.
    """
    k = K.clone()
    k[:, 3:] += 5.0
    before, after = attention_pattern(Q, K)[:, :, :3], attention_pattern(Q, k)[:, :, :3]
    expect_close(
        after,
        before,
        "batch head query key",
        "keys 3 and 4 were changed; queries 0 to 2 cannot know",
    )


X, PATTERN = torch.randn(2, 5, 8, dtype=torch.float64), pattern_by_loops(Q, K)
W_V, W_O = WEIGHTS["W_V"][0], WEIGHTS["W_O"][0]


def head_by_loops(x, pattern, W_V, W_O):
    out = torch.zeros(*x.shape[:2], len(W_V), x.shape[-1], dtype=x.dtype)
    for b, i, h in torch.cartesian_prod(*(torch.arange(n) for n in out.shape[:3])):
        for j in range(x.shape[1]):
            out[b, i, h] += pattern[b, h, i, j] * (x[b, j] @ W_V[h] @ W_O[h])
    return out


@checks(
    "head_output",
    mistakes={
        "the pattern was used transposed: a query must collect from its keys, not the other way round": (
            lambda x, pattern, W_V, W_O: head_by_loops(x, pattern.transpose(-1, -2), W_V, W_O)
        ),
        "the pattern was ignored: every position wrote its own value": (
            lambda x, pattern, W_V, W_O: head_by_loops(
                x, torch.eye(5).double().expand_as(pattern), W_V, W_O
            )
        ),
        "the heads were mixed up: head h must use its own W_O[h]": (
            lambda x, pattern, W_V, W_O: head_by_loops(x, pattern, W_V, W_O.roll(1, 0))
        ),
        "the heads were added up; return one output per head": (
            lambda x, pattern, W_V, W_O: head_by_loops(x, pattern, W_V, W_O).sum(dim=2)
        ),
    },
)
def test_heads_move_what_they_attend_to(head_output):
    truth = head_by_loops(X, PATTERN, W_V, W_O)
    expect_close(
        head_output(X, PATTERN, W_V, W_O),
        truth,
        "batch pos head d_model",
        "the sum over keys of A x W_V W_O",
    )


def altered_model(positional_embedding_type="shortformer", keep=None, sequential=False):
    """forward with one thing wrong, by running a wrongly configured model on the same weights."""

    def run(weights, tokens):
        changed = dict(weights)
        if keep is not None:
            changed["W_O"] = changed["W_O"] * keep
        if sequential:  # the stream is replaced by what a layer writes instead of added to
            fwd = [(f"blocks.{layer}.hook_resid_post", replace_by(layer)) for layer in range(2)]
            return MODEL.run_with_hooks(tokens, [*fwd, *remember_out])
        model = Transformer(
            ModelConfig(
                **{**vars(MODEL.cfg), "positional_embedding_type": positional_embedding_type}
            )
        )
        model.double().load_state_dict(changed)
        return model(tokens).detach()

    kept = {}
    remember_out = [
        (f"blocks.{layer}.hook_attn_out", lambda out, hook: kept.update({hook.name: out}))
        for layer in range(2)
    ]

    def replace_by(layer):
        return lambda stream, hook: kept[f"blocks.{layer}.hook_attn_out"]

    return run


def positions_in_values(weights, tokens):
    def also(layer):
        extra = einsum(
            weights["W_pos"],
            weights["W_V"][layer],
            "pos d_model, head d_model d_head -> pos head d_head",
        )
        return lambda v, hook: v + extra[: v.shape[1]]

    return MODEL.run_with_hooks(
        tokens, [(f"blocks.{layer}.attn.hook_v", also(layer)) for layer in range(2)]
    ).detach()


FIRST_LAYER_ONLY = torch.tensor([1.0, 0.0]).double()[:, None, None, None]


@checks(
    "forward",
    mistakes={
        "positions were added to the stream; here only q and k may see them": altered_model(
            "standard"
        ),
        "positions are missing from q and k": lambda weights, tokens: altered_model()(
            {**weights, "W_pos": 0 * weights["W_pos"]}, tokens
        ),
        "each layer replaced the stream; it must add to it": altered_model(sequential=True),
        "the second layer is missing": altered_model(keep=FIRST_LAYER_ONLY),
        "positions were added to the input of v as well; only q and k may see them": positions_in_values,
        "a softmax was taken; return the logits": lambda weights, tokens: (
            MODEL(tokens).softmax(-1).detach()
        ),
        "a log-softmax was taken; return the logits": lambda weights, tokens: (
            MODEL(tokens).log_softmax(-1).detach()
        ),
    },
)
def test_forward_is_the_model(forward):
    """The package's model was written independently of the reference answer."""
    expect_close(
        forward(WEIGHTS, TOKENS),
        MODEL(TOKENS).detach(),
        "batch pos vocab",
        "the logits of the package's model",
    )
    few = TOKENS[:, :4]
    expect_close(
        forward(WEIGHTS, few),
        MODEL(few).detach(),
        "batch pos vocab",
        "a sequence shorter than W_pos",
    )


@checks("forward")
def test_the_order_of_heads_is_only_a_name(forward):
    order = torch.tensor([2, 0, 1])
    shuffled = {name: w[:, order] if w.ndim == 4 else w for name, w in WEIGHTS.items()}
    expect_close(
        forward(shuffled, TOKENS),
        forward(WEIGHTS, TOKENS),
        "batch pos vocab",
        "heads in another order",
    )


def hooks_before_the_model(weights, tokens, fwd_hooks):
    """The mistake: hooks are called, but what they return is dropped."""
    for name, fn in fwd_hooks:
        known(name)
        fn(weights["W_E"][tokens].clone(), name)
    return MODEL(tokens).detach()


def known(name):
    if name not in ("stream.0", "stream.1", "stream.2"):
        raise ValueError(name)


def on_the_package(weights, tokens, fwd_hooks, shift=0, last_only=False):
    """forward_with_hooks by way of the package's hooks, with one thing changed."""
    for name, _ in fwd_hooks:
        known(name)
    fwd_hooks = (
        list({name: (name, fn) for name, fn in fwd_hooks}.values()) if last_only else fwd_hooks
    )
    named = [
        (place(name, shift), lambda stream, hook, fn=fn, name=name: fn(stream, name))
        for name, fn in fwd_hooks
    ]
    return MODEL.run_with_hooks(tokens, named).detach()


def place(name, shift):
    layer = min(int(name[-1]) + shift, 2)
    return f"blocks.{layer}.hook_resid_pre" if layer < 2 else "blocks.1.hook_resid_post"


HOOK_MISTAKES = {
    "what the hook returned was not used": hooks_before_the_model,
    "the hooks fired one layer late: stream.L is the stream before layer L": (
        lambda weights, tokens, fwd_hooks: on_the_package(weights, tokens, fwd_hooks, shift=1)
    ),
    "of several hooks on one name only the last was called": (
        lambda weights, tokens, fwd_hooks: on_the_package(
            weights, tokens, fwd_hooks, last_only=True
        )
    ),
}


@checks("forward_with_hooks", mistakes=HOOK_MISTAKES)
def test_hooks_change_what_follows(forward_with_hooks):
    def half(stream, name):
        return 0.5 * stream

    def no_first_axis(stream, name):
        return torch.cat([0 * stream[..., :1], stream[..., 1:]], dim=-1)

    hooks = [("stream.1", half), ("stream.0", no_first_axis), ("stream.1", no_first_axis)]
    truth = on_the_package(WEIGHTS, TOKENS, hooks)
    expect_close(
        forward_with_hooks(WEIGHTS, TOKENS, hooks),
        truth,
        "batch pos vocab",
        "three hooks on two places",
    )


@checks("forward_with_hooks")
def test_no_hooks_no_difference(forward_with_hooks):
    seen = []
    plain = forward_with_hooks(WEIGHTS, TOKENS, [])
    watched = forward_with_hooks(
        WEIGHTS, TOKENS, [("stream.2", lambda stream, name: seen.append(stream))]
    )
    expect(
        torch.equal(plain, watched),
        "a hook that returns None must not change a single bit of the logits",
    )
    expect(
        len(seen) == 1, f"a hook on stream.2 must be called once, it was called {len(seen)} times"
    )
    expect_close(
        seen[0] @ WEIGHTS["W_U"], plain, "batch pos vocab", "stream.2 is what is unembedded"
    )


@checks("forward_with_hooks")
def test_hooks_get_a_copy(forward_with_hooks):
    def spoil(stream, name):
        stream.fill_(1e6)

    spoiled = forward_with_hooks(
        WEIGHTS, TOKENS, [(f"stream.{layer}", spoil) for layer in range(3)]
    )
    expect_close(
        spoiled,
        forward_with_hooks(WEIGHTS, TOKENS, []),
        "batch pos vocab",
        "a hook got the stream itself, not a copy",
    )


@checks("forward_with_hooks")
def test_an_exception_leaves_nothing_behind(forward_with_hooks):
    class Oops(Exception):
        pass

    def fail(stream, name):
        raise Oops

    before = forward_with_hooks(WEIGHTS, TOKENS, [])
    try:
        forward_with_hooks.function(WEIGHTS, TOKENS, [("stream.1", fail)])
        expect(False, "stream.1: what a hook raises must come through, nothing was raised")
    except Oops:
        pass
    expect_value_error(
        forward_with_hooks, (WEIGHTS, TOKENS, [("stream.7", fail)]), "stream.7, of 0 to 2"
    )
    expect(
        torch.equal(before, forward_with_hooks(WEIGHTS, TOKENS, [])),
        "the next run was changed by a hook that failed",
    )
