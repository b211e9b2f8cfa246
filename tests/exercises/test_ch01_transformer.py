"""Checks of chapter 1. The oracles: the definition in loops, perturbation of the future, and the
package's own model.
"""

import torch

from tests.exercises.cases import expect_error, in_case
from tests.exercises.checking import checks, expect, expect_close
from tests.exercises.oracles import ch01 as oracle
from tests.exercises.oracles.ch01 import PATTERN, W_O, W_V, K, Q, X
from tests.exercises.oracles.ch01_forward import FORWARD_MISTAKES, TOKENS, package, weights_of
from tests.exercises.oracles.ch01_hooks import HOOK_MISTAKES, on_the_package

WEIGHTS = weights_of(3)


@checks("attention_pattern", mistakes=oracle.PATTERN_MISTAKES)
def test_pattern_is_its_definition(attention_pattern):
    truth = oracle.pattern_by_loops(Q, K)
    why = "the softmax over the keys so far"
    expect_close(attention_pattern(Q, K), truth, "batch head query key", why)


@checks("attention_pattern", mistakes=oracle.LARGE_SCORES)
def test_pattern_of_large_scores(attention_pattern):
    """Of thousands, above and below 0: no later key gets anything, and no sum overflows."""
    k = K + 2000.0
    why = "all keys hold 2000 more: scores of thousands, whose differences are what they were"
    got, truth = attention_pattern(Q, k), oracle.pattern_by_loops(Q, k)
    expect_close(got, truth, "batch head query key", why)


@checks("attention_pattern", mistakes=oracle.LOOKS_AHEAD)
def test_the_future_cannot_matter(attention_pattern):
    """Causality, tested as what it means: change what comes later, and nothing before it may
    move.
    """
    k = K.clone()
    k[:, 3:] += 5.0
    before, after = attention_pattern(Q, K)[:, :, :3], attention_pattern(Q, k)[:, :, :3]
    why = "keys 3 and later were changed; queries 0 to 2 cannot know"
    expect_close(after, before, "batch head query key", why)


@checks("head_output", mistakes=oracle.HEAD_MISTAKES)
def test_heads_move_what_they_attend_to(head_output):
    truth = oracle.head_by_loops(X, PATTERN, W_V, W_O)
    why = "the sum over keys of A x W_V W_O"
    expect_close(head_output(X, PATTERN, W_V, W_O), truth, "batch pos head d_model", why)


@checks("forward", mistakes=FORWARD_MISTAKES)
def test_forward_is_the_model(forward):
    """The package's model was written independently of the reference answer."""
    for tokens in (TOKENS, TOKENS[:, :3]):
        why = f"three layers, {tokens.shape[1]} tokens: the logits of the package's model"
        expect_close(forward(WEIGHTS, tokens), package(WEIGHTS, tokens), "batch pos vocab", why)


@checks("forward")
def test_forward_has_as_many_layers_as_its_weights(forward):
    for n_layers, tokens in ((1, TOKENS), (2, TOKENS[:1, :1])):
        weights, case = weights_of(n_layers), f"{n_layers} layers, tokens {list(tokens.shape)}"
        got = in_case(case, forward, weights, tokens)
        why = f"{case}: the logits of the package's model"
        expect_close(got, package(weights, tokens), "batch pos vocab", why)


@checks("forward")
def test_the_order_of_heads_is_only_a_name(forward):
    order = torch.tensor([2, 0, 1])
    shuffled = {name: w[:, order] if w.ndim == 4 else w for name, w in WEIGHTS.items()}
    truth = forward(WEIGHTS, TOKENS)
    expect_close(forward(shuffled, TOKENS), truth, "batch pos vocab", "heads in another order")


@checks("forward_with_hooks")
def test_hooks_are_shown_every_stream(forward_with_hooks):
    """Hooks that only look: at each place once, in the order of the layers, and nothing moves."""
    for n_layers in (3, 11):  # with 11, "stream.1" is the beginning of "stream.10"
        weights, seen = weights_of(n_layers), []

        def watch(*given, seen=seen):
            seen.append(given)

        names = [f"stream.{layer}" for layer in range(n_layers + 1)]
        hooks = [(name, watch) for name in reversed(names)]
        plain = forward_with_hooks(weights, TOKENS, [])
        case = f"{n_layers} layers, hooks on stream.0 to stream.{n_layers} that return None"
        watched = in_case(case, forward_with_hooks, weights, TOKENS, hooks)
        expect_seen(seen, names, case)
        last = seen[-1][0] @ weights["W_U"]
        expect_close(last, plain, "batch pos vocab", f"{names[-1]} is what is unembedded")
        first = weights["W_E"][TOKENS]
        expect_close(seen[0][0], first, "batch pos d_model", "stream.0 is the embedding alone")
        same = torch.equal(plain, watched)
        expect(same, "a hook that returns None must not change a single bit of the logits")


def expect_seen(seen, names, case):
    """seen: the arguments with which a hook was called, once for each of `names`."""
    called = [given[1] if len(given) > 1 else None for given in seen]
    swapped = any(isinstance(given[0], str) for given in seen)
    expect(not swapped, "a hook is called as fn(stream, name), not as fn(name, stream)")
    expect(None not in called, "a hook is called as fn(stream, name), with two arguments")
    expect(called == names, f"{case}: they must be called at {names}, each once, not at {called}")


@checks("forward_with_hooks", mistakes=HOOK_MISTAKES)
def test_hooks_change_what_follows(forward_with_hooks):
    def half(stream, name):
        return 0.5 * stream

    def no_first_axis(stream, name):
        return torch.cat([0 * stream[..., :1], stream[..., 1:]], dim=-1)

    def one_more(stream, name):
        return stream + 1

    def look_only(stream, name):
        return None

    hooks = [("stream.1", half), ("stream.0", no_first_axis), ("stream.1", one_more)]
    hooks += [("stream.2", half), ("stream.3", one_more), ("stream.1", no_first_axis)]
    hooks += [("stream.1", look_only)]
    got = forward_with_hooks(WEIGHTS, TOKENS, hooks)
    truth = on_the_package(WEIGHTS, TOKENS, hooks)
    why = "hooks on all of three layers' places, four of them on stream.1"
    expect_close(got, truth, "batch pos vocab", why)


@checks("forward_with_hooks")
def test_hooks_get_a_copy(forward_with_hooks):
    def spoil(stream, name):
        stream.fill_(1e6)

    def double(stream, name):
        return 2 * stream

    hooks = [(f"stream.{layer}", spoil) for layer in range(4)]
    spoiled = forward_with_hooks(WEIGHTS, TOKENS, hooks)
    plain = forward_with_hooks(WEIGHTS, TOKENS, [])
    why = "a hook got the stream itself, not a copy: what it did in place must not go on"
    expect_close(spoiled, plain, "batch pos vocab", why)
    spoiled = forward_with_hooks(WEIGHTS, TOKENS, [("stream.1", spoil), ("stream.1", double)])
    truth = on_the_package(WEIGHTS, TOKENS, [("stream.1", double)])
    why = "two hooks shared one copy: what the first did in place must not reach the second"
    expect_close(spoiled, truth, "batch pos vocab", why)


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
    for name in ("stream.4", "stream.-1", "stream", "blocks.1", "embed"):
        case = f"there is no {name}, only stream.0 to stream.3"
        expect_error(forward_with_hooks, (WEIGHTS, TOKENS, [(name, fail)]), ValueError, case)
    same = torch.equal(before, forward_with_hooks(WEIGHTS, TOKENS, []))
    expect(same, "the next run was changed by a hook that failed")
