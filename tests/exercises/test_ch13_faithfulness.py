"""Checks of chapter 13. The oracles: circuits run layer by layer, exact losses of planted heads,
gates, small steps.
"""

from functools import partial

import torch

from minitransformer.data import Repeats
from tests.exercises.checking import checks, expect, expect_close
from tests.exercises.oracles import ch13 as o
from tests.exercises.oracles.ch13 import HEADS, PLANTED, REPEATS, SMALL, TOKENS, TWINS
from tests.exercises.oracles.ch13_mistakes import (
    SETS,
    both,
    circuit_run,
    found,
    grown,
    means_on_the_way,
    removed_one_by_one,
    shares,
    worth,
)

KINDS = ("zero", "mean", "mean per position", "resample")
PREVIOUS, FIRST, SECOND = (0, 0), (1, 0), (1, 1)  # the working heads of TWINS
KEEP = [(0, 1), (1, 0)]


@checks(
    "run_circuit",
    mistakes={
        "the circuit was ablated; ablate everybody else": lambda m, t, keep, ablation="mean", cache=None: (
            circuit_run(m, t, [head for head in HEADS if head not in keep], ablation)
        ),
        "the heads outside were always zeroed; use `ablation`": lambda m, t, keep, ablation="mean", cache=None: (
            circuit_run(m, t, keep, "zero")
        ),
        "only layer 0 was ablated": partial(
            circuit_run, change=lambda heads: [head for head in heads if head[0] == 0]
        ),
        "only the last layer was ablated": partial(
            circuit_run, change=lambda heads: [h for h in heads if h[0] == 1]
        ),
        "nothing was ablated": partial(circuit_run, change=lambda heads: []),
        "the replacements came from a run that was already ablated; take them from an undisturbed one": means_on_the_way,
    },
)
def test_a_circuit_is_the_model_without_the_others(run_circuit):
    for kind in KINDS:
        got, truth = run_circuit(SMALL, TOKENS, KEEP, kind), o.logits_of(frozenset(KEEP), kind)
        expect_close(
            got,
            truth,
            "batch pos vocab",
            f'only 0.1 and 1.0 kept, the others "{kind}", layer by layer',
        )
    expect_close(
        run_circuit(SMALL, TOKENS, HEADS),
        SMALL(TOKENS),
        "batch pos vocab",
        "all heads kept: the model itself",
    )
    expect_close(
        run_circuit(SMALL, TOKENS, [(0, 1)]),
        o.logits_of(frozenset([(0, 1)])),
        "batch pos vocab",
        "only 0.1 kept",
    )


@checks("run_circuit", mistakes={"heads that do not exist were accepted": circuit_run})
def test_unknown_heads_are_refused_and_a_given_cache_is_used(run_circuit):
    for keep in ([(0, 7)], [(1, 0), (2, 0)]):
        o.expect_refused(
            run_circuit, SMALL, TOKENS, keep, why=f"keep={keep}, but the model has no such head"
        )
    _, cache = SMALL.run_with_cache(TOKENS.flip(0))
    got = run_circuit(SMALL, TOKENS, KEEP, "resample", cache)
    _, other = SMALL.run_with_cache(TOKENS)
    same = run_circuit(SMALL, TOKENS, KEEP, "resample", other)
    expect(not torch.allclose(got, same), "the cache that was given was not used")


# Metrics

LOGITS = torch.randn(5, 10, 14, generator=torch.Generator().manual_seed(3)).double()


@checks(
    "right_minus_mean",
    mistakes={
        "the mean of the vocabulary was not subtracted": partial(o.right_by_loops, baseline="none"),
        "the best other logit was subtracted; the mean": partial(o.right_by_loops, baseline="best"),
        "the mean left out the right token; it goes over the whole vocabulary": partial(
            o.right_by_loops, baseline="others"
        ),
        "the token just read was taken for the right one; it is the next": partial(
            o.right_by_loops, next_token=0
        ),
        "every position counted; only predictable ones do": partial(
            o.right_by_loops, everywhere=True
        ),
        "probabilities were compared; use the logits": partial(
            o.right_by_loops, scale=lambda x: x.softmax(dim=-1)
        ),
        "the numbers were detached; gradients must flow": lambda *a: o.right_by_loops(*a).detach(),
    },
)
def test_right_minus_mean_is_its_definition(right_minus_mean):
    expect_close(
        right_minus_mean(LOGITS, REPEATS),
        o.right_by_loops(LOGITS, REPEATS),
        "",
        "the definition in loops",
    )
    got, why = (
        right_minus_mean(TWINS(PLANTED.tokens), PLANTED),
        "twins: right logit 20, the other 19 tokens 0",
    )
    expect_close(got, torch.tensor(19.0, dtype=torch.float64), "", why)
    leaf = LOGITS.clone().requires_grad_()
    got = right_minus_mean.function(leaf, REPEATS)
    expect(
        isinstance(got, torch.Tensor) and got.requires_grad,
        "gradients must flow through the metric: return a tensor",
    )


# Faithfulness


@checks(
    "faithfulness",
    mistakes={
        "the empty circuit was not subtracted": partial(shares, formula=lambda c, m, e: c / m),
        "the empty circuit was subtracted above the line only": partial(
            shares, formula=lambda c, m, e: (c - e) / m
        ),
        "whole and empty are exchanged": partial(shares, formula=lambda c, m, e: (c - m) / (e - m)),
        "it was clipped to 0 to 1": partial(
            shares, formula=lambda c, m, e: ((c - e) / (m - e)).clip(0, 1)
        ),
        "the metric itself was returned": partial(shares, formula=lambda c, m, e: c),
        "the heads outside were measured, not the circuit": partial(shares, invert=True),
        "the ablation was ignored": lambda m, r, circuits, metric, ablation="mean": shares(
            m, r, circuits, metric
        ),
    },
)
def test_faithfulness_is_its_definition(faithfulness):
    for kind in ("mean", "zero", "resample"):
        got = faithfulness(SMALL, REPEATS, o.CIRCUITS, o.SURPRISE, kind)
        expect_close(got, o.share(o.CIRCUITS, kind=kind), "circuit", f'five circuits, "{kind}"')


@checks("faithfulness", mistakes={"a gap of 0 or less was accepted": shares})
def test_nothing_to_explain(faithfulness):
    """With the sign of the metric turned round the whole model is worse than no heads at all;
    always 0, and it is equal.
    """
    for metric, than in (
        (o.spoken_against, "less than"),
        (lambda logits, repeats: logits.sum() * 0, "the same as"),
    ):
        o.expect_refused(
            faithfulness,
            SMALL,
            REPEATS,
            [KEEP],
            metric,
            why=f"the model scores {than} the empty circuit",
        )


@checks(
    "faithfulness",
    mistakes={
        "it was clipped to 0 to 1": lambda m, r, circuits, metric, ablation="mean": torch.tensor(
            [1.0, 1.0, 0.0, 0.0], dtype=torch.float64
        )
    },
)
def test_faithfulness_of_planted_heads(faithfulness):
    """Two equal heads share the logit half and half, but either has the whole loss. A head against
    the answer: 160 %.
    """
    some = [[PREVIOUS, FIRST, SECOND], [PREVIOUS, SECOND], [FIRST, SECOND], [PREVIOUS]]
    got = faithfulness(TWINS, PLANTED, some, o.right_by_loops, "zero")
    expect_close(
        got,
        torch.tensor([1.0, 0.5, 0.0, 0.0], dtype=torch.float64),
        "circuit",
        "logit share of twins",
    )
    got = faithfulness(TWINS, PLANTED, some, o.minus_planted_loss, "zero")
    truth = torch.tensor([1.0, o.loss_share(1), 0.0, 0.0], dtype=torch.float64)
    expect_close(got, truth, "circuit", "loss share of twins", tolerance=1e-8)
    got = faithfulness(
        o.AGAINST, PLANTED, [[PREVIOUS, FIRST], [PREVIOUS, SECOND]], o.right_by_loops, "zero"
    )
    expect_close(
        got, torch.tensor([1.6, -0.6], dtype=torch.float64), "circuit", "16 and -6 of a total of 10"
    )


# Completeness


@checks(
    "completeness",
    mistakes={
        "the columns are exchanged: the circuit first": partial(both, swap=True),
        "K was left out of the circuit only, the model stayed whole": partial(both, intact=True),
        "only K was kept; leave K out": partial(
            both, make=lambda heads, K: [h for h in heads if h in K]
        ),
        "the difference was returned; return both columns": lambda *a: (
            both(*a).diff(dim=1).expand(-1, 2)
        ),
        "rows and columns are exchanged: [set, 2]": lambda *a: both(*a).T,
        "the ablation was ignored": lambda m, r, c, K, metric, ablation="mean": both(
            m, r, c, K, metric
        ),
    },
)
def test_completeness_is_its_definition(completeness):
    for kind in ("mean", "zero"):
        got, truth = (f(SMALL, REPEATS, KEEP, SETS, o.SURPRISE, kind) for f in (completeness, both))
        expect_close(
            got,
            truth,
            "set column",
            f'C = 0.1, 1.0; K nothing, 0.1, 1.0, both, and 0.0 outside C; "{kind}"',
        )


@checks(
    "completeness",
    mistakes={"the model stayed whole": lambda *a: torch.tensor([[1.0, 1.0], [0.0, 1.0]])},
)
def test_gates_tell_what_is_missing(completeness):
    """OR: one input is 100 % faithful and incomplete, since the other takes over. Twins: the same
    story.
    """
    model, repeats, metric = o.gate("or")
    truth = torch.tensor([[1.0, 1.0], [0.0, 1.0], [1.0, 1.0]])
    got = completeness(model, repeats, [(0, 0)], [[], [(0, 0)], [(0, 1)]], metric, "zero")
    expect_close(got, truth, "set column", "OR gate, circuit 0.0, K nothing, 0.0, 0.1")
    model, repeats, metric = o.gate("and")
    got = completeness(model, repeats, HEADS[:2], [[], [(0, 0)], [(0, 1)]], metric, "zero")
    expect_close(
        got,
        torch.tensor([[1.0, 1.0], [0, 0], [0, 0]]),
        "set column",
        "AND gate, both inputs: complete",
    )
    got = completeness(TWINS, PLANTED, [PREVIOUS, FIRST], [[FIRST]], o.minus_planted_loss, "zero")
    expect_close(
        got,
        torch.tensor([[0.0, o.loss_share(1)]], dtype=torch.float64),
        "set column",
        "one twin out",
        tolerance=1e-8,
    )


# Minimality


THREE = [(0, 0), (1, 0), (1, 1)]


@checks(
    "minimality",
    mistakes={
        "the pair is the wrong way round: alone first": partial(worth, alone=False),
        "at_most kept only the absolute value; keep the sign": partial(
            worth, pick=lambda x: abs(max(x, key=abs))
        ),
        "at_most is the largest value; take the largest in absolute value": partial(
            worth, pick=max
        ),
        "the parts of the whole model were tried; only those of the circuit": partial(
            worth, whole=True
        ),
        "only the whole circuit was tried: at_most must look at all its parts": partial(
            worth, pick=lambda x: x[-1]
        ),
        "only the head by itself was tried: at_most must look at all parts": partial(
            worth, pick=lambda x: x[0]
        ),
        "alone means that v alone is lost, not that v alone is left": partial(worth, first=0),
        "the signs are wrong: a head that helps is worth a positive number": lambda *a: {
            v: (-x, -y) for v, (x, y) in worth(*a).items()
        },
    },
)
def test_minimality_is_its_definition(minimality):
    for circuit in (THREE, THREE[:2], [(0, 1), (1, 0), (1, 1)]):
        got, truth = (
            minimality(SMALL, REPEATS, circuit, o.SURPRISE),
            worth(SMALL, REPEATS, circuit, o.SURPRISE),
        )
        expect(
            isinstance(got, dict) and list(got) == circuit,
            "expected a dict with the heads of the circuit, in its order",
        )
        for v in circuit:
            pair = torch.tensor(got[v], dtype=torch.float64)
            expect_close(
                pair,
                torch.tensor(truth[v], dtype=torch.float64),
                "alone/at_most",
                f"head {v} of {circuit}",
                tolerance=1e-5,
            )


@checks(
    "minimality",
    mistakes={"only the whole circuit was tried": lambda *a: {h: (x := 1e-4, x) for h in a[2]}},
)
def test_redundant_is_not_superfluous(minimality):
    """Each twin alone is worth next to nothing by loss, and everything once the other is out; an
    idle head never.
    """
    circuit, idle = [PREVIOUS, FIRST, SECOND, (0, 1)], (0, 1)
    got, one = minimality(TWINS, PLANTED, circuit, o.minus_planted_loss, "zero"), o.loss_share(1)
    for v, pair in {
        PREVIOUS: (1, 1),
        FIRST: (1 - one, one),
        SECOND: (1 - one, one),
        idle: (0, 0),
    }.items():
        truth = torch.tensor(pair, dtype=torch.float64)
        expect_close(
            torch.tensor(got[v], dtype=torch.float64),
            truth,
            "alone/at_most",
            f"twins by loss, head {v}",
            tolerance=1e-7,
        )


# Searching


@checks(
    "greedy_path",
    mistakes={
        "the head that is missed most was left out; leave out the one missed least": partial(
            removed_one_by_one, choose=min
        ),
        "the heads were ranked once; measure anew after each removal": partial(
            removed_one_by_one, once=True
        ),
        "the path runs from none to all; it starts with all heads": partial(
            removed_one_by_one, back=True
        ),
        "it was grown from nothing; start with all heads and remove": grown,
        "the empty circuit is missing at the end": lambda *a: removed_one_by_one(*a)[:-1],
        "the whole model is missing at the start": lambda *a: removed_one_by_one(*a)[1:],
    },
)
def test_the_path_leaves_out_what_is_missed_least(greedy_path):
    for metric, kind in ((o.SURPRISE, "mean"), (o.SURPRISE, "resample"), (o.surprise(0), "mean")):
        got, truth = (f(SMALL, REPEATS, metric, kind) for f in (greedy_path, removed_one_by_one))
        expect(list(map(list, got)) == truth, f'"{kind}": expected the path {truth}, got {got}')


@checks(
    "head_attribution",
    mistakes={
        "the sign is wrong: a head that helps has a positive number": lambda *a: (
            -o.slopes_by_steps(*a)
        ),
        "the outputs were compared with 0; use ablated_outputs": lambda m, r, metric, ablation="mean": (
            o.slopes_by_steps(m, r, metric, "zero")
        ),
        "the gradient was not multiplied with the change": partial(o.slopes_by_steps, ablate=False),
        "absolute values were added up": lambda *a: o.slopes_by_steps(*a).abs(),
        "heads were really ablated; here one gradient must do": lambda m, r, metric, ablation="mean": (
            torch.tensor(
                [
                    [
                        (1 - o.share([[h for h in HEADS if h != (a, b)]], metric, ablation)).item()
                        for b in (0, 1)
                    ]
                    for a in (0, 1)
                ]
            ).double()
            * (o.score(HEADS, metric, ablation) - o.score([], metric, ablation))
        ),
    },
)
def test_attribution_is_the_slope_towards_ablation(head_attribution):
    for kind in ("mean", "resample"):
        with torch.no_grad():
            got = head_attribution(SMALL, REPEATS, o.SURPRISE, kind)
        truth = o.slopes_by_steps(SMALL, REPEATS, o.SURPRISE, kind)
        expect_close(
            got,
            truth,
            "layer head",
            f'"{kind}": a small step towards ablation and back',
            tolerance=1e-5,
        )


@checks(
    "head_attribution",
    mistakes={
        "the sign is wrong": lambda *a: torch.tensor([[0, 0], [-9.5, -9.5]], dtype=torch.float64)
    },
)
def test_attribution_of_planted_heads(head_attribution):
    """Exact for the heads that write the answer, blind to the previous-token head: the softmax
    after it is saturated.
    """
    got = head_attribution(TWINS, PLANTED, o.right_by_loops, "zero")
    expect_close(
        got,
        torch.tensor([[0, 0], [9.5, 9.5]], dtype=torch.float64),
        "layer head",
        "each twin 9.5 nats, exactly; 0.0 nothing",
    )


@checks(
    "find_circuit",
    mistakes={
        "the largest circuit was returned, which is the whole model": partial(
            found, choose="largest"
        ),
        "it stopped at the first circuit that is not good enough; a smaller one may be": partial(
            found, choose="from the top"
        ),
        "one head is missing: that circuit is below `share`": partial(found, off=1),
        "the heads were ranked from lowest to highest attribution": partial(found, reverse=False),
        "the method was ignored: always greedy": partial(found, only="greedy"),
        "the method was ignored: always by attribution": partial(found, only="attribution"),
        "`share` was ignored": lambda m, r, method, metric, ablation="mean", share=0.95: found(
            m, r, method, metric, ablation
        ),
    },
)
def test_the_smallest_circuit_that_is_good_enough(find_circuit):
    for metric in (o.surprise(0), o.surprise(5), o.SURPRISE):
        for method in ("greedy", "attribution"):
            for share in (0.6, 0.95, 0.2):
                got, truth = (
                    f(SMALL, REPEATS, method, metric, "mean", share) for f in (find_circuit, found)
                )
                expect(
                    list(got) == truth,
                    f"{method}, share {share}: expected the circuit {truth}, got {got}",
                )


@checks(
    "find_circuit", mistakes={"one twin is enough by logit, too": lambda *a, **b: [PREVIOUS, FIRST]}
)
def test_finding_planted_circuits(find_circuit):
    """By loss one twin will do, by logit both are needed. AND needs both inputs, OR one."""
    for metric, heads in ((o.minus_planted_loss, 2), (o.right_by_loops, 3)):
        got = find_circuit(TWINS, PLANTED, "greedy", metric, "zero")
        good = len(got) == heads and PREVIOUS in got and (0, 1) not in got
        expect(
            good,
            f"twins, {'loss' if heads == 2 else 'logit'}: expected 0.0 and {heads - 1} of 1.0, 1.1, got {got}",
        )
    for kind, size in (("and", 2), ("or", 1)):
        model, repeats, metric = o.gate(kind)
        got = find_circuit(model, Repeats(*repeats), "greedy", metric, "zero")
        expect(len(got) == size, f"{kind} gate: expected {size} of its two heads, got {got}")
