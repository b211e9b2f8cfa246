"""Checks of chapter 13. The oracles: circuits run layer by layer, exact losses of planted heads,
gates, small steps.
"""

import torch

from tests.exercises.checking import checks, expect, expect_close, expect_value_error
from tests.exercises.oracles import ch13 as o
from tests.exercises.oracles.ch13 import HEADS, PLANTED, REPEATS, SMALL, TOKENS, TWINS
from tests.exercises.oracles.ch13_mistakes import (
    ACCEPTED,
    BOTH,
    CIRCUIT,
    IGNORED,
    RIGHT,
    SETS,
    SHARES,
    WORTH,
    both,
    clipped,
    model_whole,
    only_the_whole,
    shares,
    worth,
)
from tests.exercises.oracles.ch13_searches import (
    FOUND,
    PATH,
    SLOPES,
    by_absolute_value,
    found,
    last_of_equals,
    more_than,
    one_twin,
    removed_one_by_one,
    sign_wrong_on_twins,
)
from tests.material import seeded

KINDS = ("zero", "mean", "mean per position", "resample")
PREVIOUS, FIRST, SECOND = (0, 0), (1, 0), (1, 1)  # the working heads of TWINS
KEEP = [(0, 1), (1, 0)]


def exact(*numbers):
    return torch.tensor(numbers, dtype=torch.float64)


@checks("run_circuit", mistakes=CIRCUIT)
def test_a_circuit_is_the_model_without_the_others(run_circuit):
    axes = "batch pos vocab"
    for kind in KINDS:
        got, truth = run_circuit(SMALL, TOKENS, KEEP, kind), o.logits_of(frozenset(KEEP), kind)
        why = f'only 0.1 and 1.0 kept, the others "{kind}", layer by layer'
        expect_close(got, truth, axes, why)
    got, truth = run_circuit(SMALL, TOKENS, HEADS), SMALL(TOKENS)
    expect_close(got, truth, axes, "all heads kept: the model itself")
    got, truth = run_circuit(SMALL, TOKENS, [(0, 1)]), o.logits_of(frozenset([(0, 1)]))
    expect_close(got, truth, axes, "only 0.1 kept")


@checks("run_circuit", mistakes=ACCEPTED)
def test_unknown_heads_are_refused(run_circuit):
    for keep in ([(0, 7)], [(1, 0), (2, 0)]):
        why = f"keep={keep}, but the model has no such head"
        expect_value_error(run_circuit, (SMALL, TOKENS, keep), why)


@checks("run_circuit", mistakes=IGNORED)
def test_a_given_cache_is_used(run_circuit):
    _, cache = SMALL.run_with_cache(TOKENS.flip(0))
    got = run_circuit(SMALL, TOKENS, KEEP, "resample", cache)
    truth, why = o.run_with_cache_of(cache, KEEP), "what is put in comes from the given cache"
    expect_close(got, truth, "batch pos vocab", why)


# Metrics

LOGITS = torch.randn(5, 10, 14, generator=seeded(3)).double()


@checks("right_minus_mean", mistakes=RIGHT)
def test_right_minus_mean_is_its_definition(right_minus_mean):
    got, truth = right_minus_mean(LOGITS, REPEATS), o.right_by_loops(LOGITS, REPEATS)
    expect_close(got, truth, "", "the definition in loops")
    got = right_minus_mean(TWINS(PLANTED.tokens), PLANTED)
    expect_close(got, exact(19.0)[0], "", "twins: right logit 20, the other 19 tokens 0")
    got = right_minus_mean.function(LOGITS.clone().requires_grad_(), REPEATS)
    flows = isinstance(got, torch.Tensor) and got.requires_grad
    expect(flows, "gradients must flow through the metric: return a tensor")


# Faithfulness


@checks("faithfulness", mistakes=SHARES)
def test_faithfulness_is_its_definition(faithfulness):
    for kind in ("mean", "zero", "resample"):
        got = faithfulness(SMALL, REPEATS, o.CIRCUITS, o.SURPRISE, kind)
        expect_close(got, o.share(o.CIRCUITS, kind=kind), "circuit", f'five circuits, "{kind}"')


@checks("faithfulness", mistakes={"a gap of 0 or less was accepted": shares})
def test_nothing_to_explain(faithfulness):
    """If the metric's sign is turned round, the whole model is worse than no heads at all. By a
    metric that is always 0, both are equal.
    """
    for metric, than in ((o.spoken_against, "less than"), (o.always_zero, "the same as")):
        why = f"the model scores {than} the empty circuit"
        expect_value_error(faithfulness, (SMALL, REPEATS, [KEEP], metric), why)


@checks("faithfulness", mistakes={"it was clipped to 0 to 1": clipped})
def test_faithfulness_of_planted_heads(faithfulness):
    """Two equal heads share the logit half and half, but either has the whole loss. Where a head
    works against the answer, the circuit without it has 160 %.
    """
    some = [[PREVIOUS, FIRST, SECOND], [PREVIOUS, SECOND], [FIRST, SECOND], [PREVIOUS]]
    got = faithfulness(TWINS, PLANTED, some, o.right_by_loops, "zero")
    expect_close(got, exact(1.0, 0.5, 0.0, 0.0), "circuit", "logit share of twins")
    got = faithfulness(TWINS, PLANTED, some, o.minus_planted_loss, "zero")
    truth = exact(1.0, o.loss_share(1), 0.0, 0.0)
    expect_close(got, truth, "circuit", "loss share of twins", tolerance=1e-8)
    some = [[PREVIOUS, FIRST], [PREVIOUS, SECOND]]
    got = faithfulness(o.AGAINST, PLANTED, some, o.right_by_loops, "zero")
    expect_close(got, exact(1.6, -0.6), "circuit", "16 and -6 of a total of 10")


# Searching


@checks("greedy_path", mistakes=PATH)
def test_the_path_leaves_out_what_is_missed_least(greedy_path):
    for metric, kind in ((o.SURPRISE, "mean"), (o.SURPRISE, "resample"), (o.surprise(0), "mean")):
        got = greedy_path(SMALL, REPEATS, metric, kind)
        truth = removed_one_by_one(SMALL, REPEATS, metric, kind)
        expect(list(map(list, got)) == truth, f'"{kind}": expected the path {truth}, got {got}')


@checks("greedy_path", mistakes={"of equal heads the last was left out": last_of_equals})
def test_of_equal_heads_the_first_is_left_out(greedy_path):
    """OR gate: either input may go, nothing is missed."""
    model, repeats, metric = o.gate("or")
    got = [list(circuit) for circuit in greedy_path(model, repeats, metric, "zero")]
    truth = [[(0, 0), (0, 1)], [(0, 1)], []]
    expect(got == truth, f"OR gate: expected the path {truth}, got {got}")


@checks("head_attribution", mistakes=SLOPES)
def test_attribution_is_the_slope_towards_ablation(head_attribution):
    for kind in ("mean", "resample"):
        with torch.no_grad():
            got = head_attribution(SMALL, REPEATS, o.SURPRISE, kind)
        truth = o.slopes_by_steps(SMALL, REPEATS, o.SURPRISE, kind)
        why = f'"{kind}": a small step towards ablation and back'
        expect_close(got, truth, "layer head", why, tolerance=1e-5)


@checks("head_attribution", mistakes={"the sign is wrong": sign_wrong_on_twins})
def test_attribution_of_planted_heads(head_attribution):
    """Exact for the heads that write the answer, blind to the previous-token head: the softmax
    after it is saturated.
    """
    got = head_attribution(TWINS, PLANTED, o.right_by_loops, "zero")
    truth = exact(0, 0, 9.5, 9.5).view(2, 2)
    expect_close(got, truth, "layer head", "each twin 9.5 nats, exactly; 0.0 nothing")


@checks("find_circuit", mistakes=FOUND)
def test_the_smallest_circuit_that_is_good_enough(find_circuit):
    for metric in (o.surprise(0), o.surprise(5), o.SURPRISE):
        for method in ("greedy", "attribution"):
            for share in (0.6, 0.95, 0.2):
                got = find_circuit(SMALL, REPEATS, method, metric, "mean", share)
                truth = found(SMALL, REPEATS, method, metric, "mean", share)
                expected = f"{method}, share {share}: expected the circuit {truth}"
                expect(list(got) == truth, f"{expected}, got {got}")


ABSOLUTE = {"ranked by absolute value; a head that harms comes last": by_absolute_value}


@checks("find_circuit", mistakes=ABSOLUTE)
def test_a_head_that_harms_ranks_last(find_circuit):
    got = find_circuit(o.AGAINST, PLANTED, "attribution", o.right_by_loops, "zero")
    good = PREVIOUS in got and FIRST in got and SECOND not in got
    expect(good, f"1.1 works against the answer: expected 0.0 and 1.0 without it, got {got}")


@checks("find_circuit", mistakes={"`share` itself is enough, it need not be more": more_than})
def test_a_circuit_that_just_reaches_the_share(find_circuit):
    for kind, size in (("and", 2), ("or", 1)):
        model, repeats, metric = o.gate(kind)
        got = find_circuit(model, repeats, "greedy", metric, "zero", 1.0)
        expect(len(got) == size, f"{kind} gate, share 1: expected {size} head(s), got {got}")


@checks("find_circuit", mistakes={"one twin is enough by logit, too": one_twin})
def test_finding_planted_circuits(find_circuit):
    """By loss one twin will do, by logit both are needed. AND needs both inputs, OR one."""
    by_loss, by_logit = ("loss", o.minus_planted_loss, 2), ("logit", o.right_by_loops, 3)
    for name, metric, size in (by_loss, by_logit):
        got = find_circuit(TWINS, PLANTED, "greedy", metric, "zero")
        good = len(got) == size and PREVIOUS in got and (0, 1) not in got
        expected = f"twins, {name}: expected 0.0 and {size - 1} of 1.0, 1.1"
        expect(good, f"{expected}, got {got}")
    for kind, size in (("and", 2), ("or", 1)):
        model, repeats, metric = o.gate(kind)
        got = find_circuit(model, repeats, "greedy", metric, "zero")
        expect(len(got) == size, f"{kind} gate: expected {size} of its two heads, got {got}")


# Completeness


@checks("completeness", mistakes=BOTH)
def test_completeness_is_its_definition(completeness):
    for kind in ("mean", "zero"):
        got = completeness(SMALL, REPEATS, KEEP, SETS, o.SURPRISE, kind)
        truth = both(SMALL, REPEATS, KEEP, SETS, o.SURPRISE, kind)
        why = f'C = 0.1, 1.0; K nothing, 0.1, 1.0, both, and 0.0 outside C; "{kind}"'
        expect_close(got, truth, "set column", why)


@checks("completeness", mistakes={"the model stayed whole": model_whole})
def test_gates_tell_what_is_missing(completeness):
    """OR: one input is 100 % faithful and incomplete, since the other takes over. Twins: the same
    story.
    """
    model, repeats, metric = o.gate("or")
    truth = torch.tensor([[1.0, 1.0], [0.0, 1.0], [1.0, 1.0]])
    got = completeness(model, repeats, [(0, 0)], [[], [(0, 0)], [(0, 1)]], metric, "zero")
    expect_close(got, truth, "set column", "OR gate, circuit 0.0, K nothing, 0.0, 0.1")
    model, repeats, metric = o.gate("and")
    truth = torch.tensor([[1.0, 1.0], [0.0, 0.0], [0.0, 0.0]])
    got = completeness(model, repeats, HEADS[:2], [[], [(0, 0)], [(0, 1)]], metric, "zero")
    expect_close(got, truth, "set column", "AND gate, both inputs: complete")
    got = completeness(TWINS, PLANTED, [PREVIOUS, FIRST], [[FIRST]], o.minus_planted_loss, "zero")
    truth = exact(0.0, o.loss_share(1))[None]
    expect_close(got, truth, "set column", "one twin out", tolerance=1e-8)


# Minimality

THREE = [(0, 0), (1, 0), (1, 1)]


@checks("minimality", mistakes=WORTH)
def test_minimality_is_its_definition(minimality):
    for circuit in (THREE, THREE[:2], [(0, 1), (1, 0), (1, 1)]):
        got = minimality(SMALL, REPEATS, circuit, o.SURPRISE)
        truth = worth(SMALL, REPEATS, circuit, o.SURPRISE)
        in_order = isinstance(got, dict) and list(got) == circuit
        expect(in_order, "expected a dict with the heads of the circuit, in its order")
        for head in circuit:
            pair, why = exact(*got[head]), f"head {head} of {circuit}"
            expect_close(pair, exact(*truth[head]), "alone/at_most", why, tolerance=1e-5)


@checks("minimality", mistakes={"only the whole circuit was tried": only_the_whole})
def test_redundant_is_not_superfluous(minimality):
    """By loss each twin alone is worth next to nothing, and everything once the other is out. An
    idle head is worth nothing ever.
    """
    idle, one = (0, 1), o.loss_share(1)
    circuit = [PREVIOUS, FIRST, SECOND, idle]
    got = minimality(TWINS, PLANTED, circuit, o.minus_planted_loss, "zero")
    truth = {PREVIOUS: (1, 1), FIRST: (1 - one, one), SECOND: (1 - one, one), idle: (0, 0)}
    for head in circuit:
        pair, why = exact(*got[head]), f"twins by loss, head {head}"
        expect_close(pair, exact(*truth[head]), "alone/at_most", why, tolerance=1e-7)
