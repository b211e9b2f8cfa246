"""Checks of chapter 1. The oracles: the definition in loops, perturbation of the future, and the
package's own model.
"""

import torch

from tests.exercises.checking import checks, expect, expect_close, expect_value_error
from tests.exercises.oracles import ch01 as oracle
from tests.exercises.oracles.ch01 import MODEL, PATTERN, TOKENS, W_O, W_V, WEIGHTS, K, Q, X


@checks("attention_pattern", mistakes=oracle.PATTERN_MISTAKES)
def test_pattern_is_its_definition(attention_pattern):
    truth = oracle.pattern_by_loops(Q, K)
    why = "the softmax over the keys so far"
    expect_close(attention_pattern(Q, K), truth, "batch head query key", why)


@checks("attention_pattern", mistakes=oracle.LOOKS_AHEAD)
def test_the_future_cannot_matter(attention_pattern):
    """Causality, tested as what it means: change what comes later, and nothing before it may
    move.
    """
    k = K.clone()
    k[:, 3:] += 5.0
    before, after = attention_pattern(Q, K)[:, :, :3], attention_pattern(Q, k)[:, :, :3]
    why = "keys 3 and 4 were changed; queries 0 to 2 cannot know"
    expect_close(after, before, "batch head query key", why)


@checks("head_output", mistakes=oracle.HEAD_MISTAKES)
def test_heads_move_what_they_attend_to(head_output):
    truth = oracle.head_by_loops(X, PATTERN, W_V, W_O)
    why = "the sum over keys of A x W_V W_O"
    expect_close(head_output(X, PATTERN, W_V, W_O), truth, "batch pos head d_model", why)


@checks("forward", mistakes=oracle.FORWARD_MISTAKES)
def test_forward_is_the_model(forward):
    """The package's model was written independently of the reference answer."""
    truth = MODEL(TOKENS).detach()
    why = "the logits of the package's model"
    expect_close(forward(WEIGHTS, TOKENS), truth, "batch pos vocab", why)
    few = TOKENS[:, :4]
    truth = MODEL(few).detach()
    expect_close(forward(WEIGHTS, few), truth, "batch pos vocab", "fewer tokens than W_pos has")


@checks("forward")
def test_the_order_of_heads_is_only_a_name(forward):
    order = torch.tensor([2, 0, 1])
    shuffled = {name: w[:, order] if w.ndim == 4 else w for name, w in WEIGHTS.items()}
    truth = forward(WEIGHTS, TOKENS)
    expect_close(forward(shuffled, TOKENS), truth, "batch pos vocab", "heads in another order")


@checks("forward_with_hooks", mistakes=oracle.HOOK_MISTAKES)
def test_hooks_change_what_follows(forward_with_hooks):
    def half(stream, name):
        return 0.5 * stream

    def no_first_axis(stream, name):
        return torch.cat([0 * stream[..., :1], stream[..., 1:]], dim=-1)

    hooks = [("stream.1", half), ("stream.0", no_first_axis), ("stream.1", no_first_axis)]
    got = forward_with_hooks(WEIGHTS, TOKENS, hooks)
    truth = oracle.on_the_package(WEIGHTS, TOKENS, hooks)
    expect_close(got, truth, "batch pos vocab", "three hooks on two places")


@checks("forward_with_hooks")
def test_no_hooks_no_difference(forward_with_hooks):
    seen = []

    def watch(stream, name):
        seen.append(stream)

    plain = forward_with_hooks(WEIGHTS, TOKENS, [])
    watched = forward_with_hooks(WEIGHTS, TOKENS, [("stream.2", watch)])
    same = torch.equal(plain, watched)
    expect(same, "a hook that returns None must not change a single bit of the logits")
    expect(len(seen) == 1, f"a hook on stream.2 must be called once, not {len(seen)} times")
    why = "stream.2 is what is unembedded"
    expect_close(seen[0] @ WEIGHTS["W_U"], plain, "batch pos vocab", why)


@checks("forward_with_hooks")
def test_hooks_get_a_copy(forward_with_hooks):
    def spoil(stream, name):
        stream.fill_(1e6)

    hooks = [(f"stream.{layer}", spoil) for layer in range(3)]
    spoiled = forward_with_hooks(WEIGHTS, TOKENS, hooks)
    plain = forward_with_hooks(WEIGHTS, TOKENS, [])
    expect_close(spoiled, plain, "batch pos vocab", "a hook got the stream itself, not a copy")


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
    unknown = [("stream.7", fail)]
    expect_value_error(forward_with_hooks, (WEIGHTS, TOKENS, unknown), "stream.7, of 0 to 2")
    same = torch.equal(before, forward_with_hooks(WEIGHTS, TOKENS, []))
    expect(same, "the next run was changed by a hook that failed")
