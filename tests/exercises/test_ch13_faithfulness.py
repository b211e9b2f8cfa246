"""Checks of chapter 13. The oracles: circuits run layer by layer in a model of three layers, exact
losses of planted heads, gates, small steps.
"""

import copy

import torch

from solutions.ch13_faithfulness import closeness
from tests.exercises.cases import in_case
from tests.exercises.checking import checks, expect, expect_close, expect_value_error
from tests.exercises.oracles import ch13 as o
from tests.exercises.oracles import ch13_completeness as parts
from tests.exercises.oracles import ch13_found as finds
from tests.exercises.oracles import ch13_mistakes as mistakes
from tests.exercises.oracles import ch13_reasons as reasons
from tests.exercises.oracles import ch13_searches as searches
from tests.exercises.oracles.ch13 import METRIC, PLANTED, REPEATS, SMALL, TWINS
from tests.exercises.related import expect_related
from tests.material import seeded

PREVIOUS, FIRST, SECOND = (0, 0), (1, 0), (1, 1)  # the working heads of TWINS
KEEP = [(0, 1), (2, 0)]


def exact(*numbers):
    return torch.tensor(numbers, dtype=torch.float64)


@checks("run_circuit", mistakes=mistakes.CIRCUIT)
def test_a_circuit_is_the_model_without_the_others(run_circuit):
    tokens, model = REPEATS.tokens, o.WATCHED
    some = [(KEEP, kind) for kind in o.KINDS] + [(o.heads(SMALL), "mean"), ([], "mean")]
    for keep, kind in [*some, ([(1, 1)], "mean"), ([(1, 0), (1, 1), (0, 0)], "mean")]:
        case = f'three layers, keep={keep}, the others "{kind}"'
        model.runs.clear()
        got = in_case(case, run_circuit, model, tokens, keep, kind)
        truth = o.logits_of(SMALL, tokens, keep, kind)
        explain = reasons.what_was_ablated(model, keep, kind)
        expect_related(got, truth, "batch pos vocab", case, explain=explain)


@checks("run_circuit", mistakes=mistakes.ACCEPTED)
def test_unknown_heads_are_refused(run_circuit):
    for keep in ([(0, 7)], [(1, 0), (3, 0)], [(1, 2)], [(0, -1)], [(-1, 0), (0, 0)]):
        why = f"keep={keep}, but three layers of two heads have no such head"
        expect_value_error(run_circuit, (SMALL, REPEATS.tokens, keep), why)


@checks("run_circuit", mistakes=mistakes.IGNORED)
def test_a_given_cache_is_used(run_circuit):
    _, cache = SMALL.run_with_cache(REPEATS.tokens.flip(0))
    got = run_circuit(SMALL, REPEATS.tokens, KEEP, "resample", cache)
    truth, why = o.run_with_cache_of(cache, KEEP), "what is put in comes from the given cache"
    expect_close(got, truth, "batch pos vocab", why)


# Metrics

LOGITS = torch.randn(7, 10, 13, generator=seeded(3)).double()
LOGITS = LOGITS + 3 * torch.randn(7, 10, 1, generator=seeded(4)).double()  # no mean is 0


@checks("right_minus_mean", mistakes=mistakes.RIGHT)
def test_right_minus_mean_is_its_definition(right_minus_mean):
    got, truth = right_minus_mean(LOGITS, REPEATS), o.right_by_loops(LOGITS, REPEATS)
    explain = reasons.weights_of(LOGITS, REPEATS, right_minus_mean.function)
    expect_related(got, truth, "", "the definition in loops", explain=explain)
    got = right_minus_mean(TWINS(PLANTED.tokens), PLANTED)
    expect_close(got, exact(19.0)[0], "", "twins: right logit 20, the other 19 tokens 0")


@checks("right_minus_mean")
def test_gradients_flow_through_the_metric(right_minus_mean):
    got = right_minus_mean(LOGITS.clone().requires_grad_(), REPEATS)
    flows = isinstance(got, torch.Tensor) and got.requires_grad
    expect(flows, "gradients must flow through the metric: return a tensor, not detached")


# Faithfulness


@checks("faithfulness", mistakes=mistakes.SHARES)
def test_faithfulness_is_its_definition(faithfulness):
    for kind in ("mean", "zero", "resample"):
        asked = (SMALL, REPEATS, o.CIRCUITS, METRIC, kind)
        case = f'five circuits of a random model that does more than no heads do, "{kind}"'
        got, truth = in_case(case, faithfulness, *asked), o.share(*asked)
        expect_related(got, truth, "circuit", case, explain=reasons.by_its_formula(*asked))


@checks("faithfulness", mistakes=mistakes.REFUSED_TOO_LITTLE)
def test_nothing_to_explain(faithfulness):
    """If the metric's sign is turned round, the whole model is worse than no heads at all. By a
    metric that is always 0, both are equal.
    """
    for metric, than in ((o.turned_round, "less than"), (o.always_zero, "the same as")):
        why = f"the model scores {than} the empty circuit"
        expect_value_error(faithfulness, (SMALL, REPEATS, [KEEP], metric), why)


@checks("faithfulness")
def test_faithfulness_of_planted_heads(faithfulness):
    """Two equal heads share the logit half and half, but either has the whole loss. Where a head
    works against the answer, the circuit without it has 160 %.
    """
    some = [[PREVIOUS, FIRST, SECOND], [PREVIOUS, SECOND], [FIRST, SECOND], [PREVIOUS]]
    got = faithfulness(TWINS, PLANTED, some, o.right_by_loops, "zero")
    expect_close(got, exact(1.0, 0.5, 0.0, 0.0), "circuit", "logit share of twins")
    case = "twins by minus loss: m(model) is about 0 and m(none) -3, so there is much to explain"
    got = in_case(case, faithfulness, TWINS, PLANTED, some, o.minus_planted_loss, "zero")
    truth = exact(1.0, o.loss_share(1), 0.0, 0.0)
    expect_close(got, truth, "circuit", "loss share of twins", tolerance=1e-8)
    some = [[PREVIOUS, FIRST], [PREVIOUS, SECOND]]
    got = faithfulness(o.AGAINST, PLANTED, some, o.right_by_loops, "zero")
    expect_close(got, exact(1.6, -0.6), "circuit", "16 and -6 of a total of 10")


@checks("faithfulness")
def test_errors_that_cancel_on_average(faithfulness):
    """A head raises half of the answers and lowers the others: without it, a circuit is faithful
    by a mean over positions, and by the distance at each position it is not.
    """
    model, repeats, circuit = o.CANCELLING, o.MANY, [PREVIOUS, FIRST]
    got = faithfulness(model, repeats, [circuit], o.right_by_loops, "zero")
    expect(abs(got[0] - 1) < 0.1, f"the mean over positions: expected about 1, got {got[0]:.3f}")
    metric = closeness(model(repeats.tokens))
    got = faithfulness(model, repeats, [circuit, o.heads(model)], metric, "zero")
    truth = exact(o.closeness_by_loops(model, repeats, circuit), 1.0)
    expect_close(got, truth, "circuit", "by `closeness`: the distance at each position counts")


# Searching


@checks("greedy_path", mistakes=searches.PATH)
def test_the_path_leaves_out_what_is_missed_least(greedy_path):
    for metric, kind in ((METRIC, "mean"), (METRIC, "resample"), (o.METRICS[1], "zero")):
        got = greedy_path(SMALL, REPEATS, metric, kind)
        truth = searches.removed(SMALL, REPEATS, metric, kind)
        before = None
        for size, (ours, theirs) in enumerate(zip(truth, got)):
            step = f'"{kind}", circuit {size} of the path: expected {ours}, got {theirs}'
            if before and theirs != ours:
                step += ". " + reasons.step_to(SMALL, REPEATS, metric, kind, before)
            expect(theirs == ours, step)
            before = ours
        length = f"expected {len(truth)} circuits, from all heads to none, got {len(got)}"
        expect(len(got) == len(truth), length)


@checks("greedy_path", mistakes=searches.OF_EQUALS)
def test_of_equal_heads_the_first_is_left_out(greedy_path):
    """OR gate: either input may go, nothing is missed."""
    model, repeats, metric = o.gate("or")
    got = [list(circuit) for circuit in greedy_path(model, repeats, metric, "zero")]
    truth = [[(0, 0), (0, 1)], [(0, 1)], []]
    expect(got == truth, f"OR gate, equal inputs: expected the path {truth}, got {got}")


@checks("greedy_path", mistakes=searches.NEARLY)
def test_nearly_equal_is_not_equal(greedy_path):
    """Twins, 1.0 a little stronger: F is .5001 without 1.1 and .4999 without 1.0."""
    got = greedy_path(searches.UNEVEN_TWINS, PLANTED, o.right_by_loops, "zero")
    truth = [[PREVIOUS, (0, 1), FIRST, SECOND], [PREVIOUS, FIRST, SECOND], [PREVIOUS, FIRST]]
    truth += [[FIRST], []]
    same = [list(circuit) for circuit in got] == truth
    expect(same, f"1.1 writes .0005 less than 1.0: expected the path {truth}, got {got}")


@checks("head_attribution", mistakes=searches.SLOPES)
def test_attribution_is_the_slope_towards_ablation(head_attribution):
    for kind in ("mean", "resample"):
        with torch.no_grad():
            case = "under torch.no_grad()"
            got = in_case(case, head_attribution, SMALL, REPEATS, METRIC, kind)
        truth = o.slopes_by_steps(SMALL, REPEATS, METRIC, kind)
        why = f'"{kind}": a small step towards ablation and back'
        expect_related(got, truth, "layer head", why, tolerance=1e-5)


@checks("head_attribution")
def test_attribution_leaves_no_gradients(head_attribution):
    model = copy.deepcopy(SMALL).requires_grad_()
    head_attribution(model, REPEATS, METRIC)
    left = [name for name, weights in model.named_parameters() if weights.grad is not None]
    expect(not left, f"it left gradients at the model's weights: {', '.join(left[:3])}, ...")


@checks("head_attribution")
def test_attribution_of_planted_heads(head_attribution):
    """Exact for the heads that write the answer, blind to the previous-token head: the softmax
    after it is saturated.
    """
    got = head_attribution(TWINS, PLANTED, o.right_by_loops, "zero")
    truth = exact(0, 0, 9.5, 9.5).view(2, 2)
    expect_close(got, truth, "layer head", "each twin 9.5 nats, exactly; 0.0 nothing")


@checks("find_circuit", mistakes=finds.FOUND)
def test_the_smallest_circuit_that_is_good_enough(find_circuit):
    for metric, kind in ((METRIC, "mean"), (o.METRICS[1], "zero"), (o.METRICS[2], "resample")):
        for method in ("greedy", "attribution"):
            for share in (0.6, 0.95, 0.2):
                case = f'{method}, "{kind}", share {share} (all heads together have 1)'
                got = in_case(case, find_circuit, SMALL, REPEATS, method, metric, kind, share)
                truth = finds.found(SMALL, REPEATS, method, metric, kind, share)
                path = finds.path_of(SMALL, REPEATS, method, metric, kind)
                words = reasons.path_in_words(SMALL, REPEATS, path, metric, kind)
                sentence = f"{case}: expected the circuit {truth}, got {got}"
                expect(list(got) == truth, f"{sentence}. F by number of heads: {words}")


@checks("find_circuit", mistakes=finds.ABSOLUTE)
def test_a_head_that_harms_ranks_last(find_circuit):
    got = find_circuit(o.AGAINST, PLANTED, "attribution", o.right_by_loops, "zero")
    good = PREVIOUS in got and FIRST in got and SECOND not in got
    expect(good, f"1.1 works against the answer: expected 0.0 and 1.0 without it, got {got}")


@checks("find_circuit", mistakes=finds.MORE)
def test_a_circuit_that_just_reaches_the_share(find_circuit):
    """The gates with share 1, which all heads reach exactly; a random model with a share that one
    circuit reaches exactly.
    """
    for kind, size in (("and", 2), ("or", 1)):
        model, repeats, metric = o.gate(kind)
        case = f"{kind} gate, share 1, which {size} head(s) reach exactly"
        got = in_case(case, find_circuit, model, repeats, "greedy", metric, "zero", 1.0)
        expect(len(got) == size, f"{case}: got {got}")
    for share in (0.5, 0.0):
        got = find_circuit(TWINS, PLANTED, "greedy", o.right_by_loops, "zero", share)
        size = 2 if share else 0
        exactly = f"twins by logit, share {share}, which {size} heads reach exactly: got {got}"
        expect(len(got) == size, exactly)


@checks("find_circuit", mistakes=finds.NOT_NONE)
def test_no_heads_at_all_may_be_enough(find_circuit):
    for method in ("greedy", "attribution"):
        got = find_circuit(SMALL, REPEATS, method, METRIC, "mean", 0.0)
        expect(got == [], f"{method}, share 0: the empty circuit has 0, expected [], got {got}")


@checks("find_circuit", mistakes=finds.ONE_TOO_FEW)
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

SETS = [[], [(0, 1)], [(2, 0)], [(0, 1), (2, 0)], [(0, 0)], [(1, 1), (0, 1)]]


@checks("completeness", mistakes=parts.BOTH)
def test_completeness_is_its_definition(completeness):
    for kind in ("mean", "zero"):
        asked = (SMALL, REPEATS, KEEP, SETS, METRIC, kind)
        got, truth = completeness(*asked), parts.both(*asked)
        why = f'"{kind}", C = 0.1 2.0'
        expect_related(got, truth, "set column", why, explain=reasons.which_circuit(*asked))


@checks("completeness")
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
    both = [(0, 0), (0, 1)]
    got = completeness(model, repeats, both, [[], [(0, 0)], [(0, 1)]], metric, "zero")
    expect_close(got, truth, "set column", "AND gate, both inputs: complete")
    got = completeness(TWINS, PLANTED, [PREVIOUS, FIRST], [[FIRST]], o.minus_planted_loss, "zero")
    truth = exact(0.0, o.loss_share(1))[None]
    expect_close(got, truth, "set column", "one twin out", tolerance=1e-8)


# Minimality


@checks("minimality", mistakes=parts.WORTH)
def test_minimality_is_its_definition(minimality):
    for circuit, kind in (
        ([(2, 0), (0, 0), (1, 1)], "mean"),
        ([(1, 0), (0, 1)], "zero"),
        ([(0, 1), (2, 1), (2, 0), (1, 0)], "mean"),
    ):
        got = minimality(SMALL, REPEATS, circuit, METRIC, kind)
        truth = parts.worth(SMALL, REPEATS, circuit, METRIC, kind)
        order = f"expected the heads {circuit} as keys, in this order, got {list(got)}"
        expect(list(got) == circuit, order)
        pairs = torch.stack([exact(*got[head]) for head in circuit])
        true = torch.stack([exact(*truth[head]) for head in circuit])
        explain = reasons.gains_behind(SMALL, REPEATS, circuit, METRIC, kind, true)
        why = f'C = {reasons.named(circuit)}, "{kind}"'
        expect_related(pairs, true, "head alone/at_most", why, tolerance=1e-5, explain=explain)


@checks("minimality")
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
