"""Checks of chapter 17. The oracles: token by token, pair by pair, problem by problem, place by
place.
"""

import math
from functools import partial

import torch

from tests.exercises.checking import checks, expect, expect_close, expect_value_error
from tests.exercises.oracles import ch17 as o
from tests.exercises.oracles.ch15 import PLACES, SMALL, TOKENS, seeded

# Does it notice?


@checks(
    "input_log_likelihood",
    mistakes={
        "the logits at a position speak about the next token; yours were asked about their own": o.likelihood(
            shift=0
        ),
        "what stands at `length` was counted too; it is the answer": o.likelihood(extra=1),
        "the last token of the input is missing": o.likelihood(extra=-1),
        "the mean over the tokens was taken; the log of a product is a sum": o.likelihood(
            mean=True
        ),
        "the sign is turned round: it is the log-likelihood, below 0": o.likelihood(sign=-1),
        "probabilities were added up; it is their logs": o.likelihood(log=False),
        "the logits themselves were added up; log_softmax comes first": o.likelihood(raw=True),
        "each token was read off its own position, the first one too; the logits there speak about the next": o.likelihood(
            shift=0, first=0
        ),
        "the softmax was taken over the positions; it goes over the vocabulary": o.likelihood(
            dim=1
        ),
    },
)
def test_token_by_token(input_log_likelihood):
    for length in (4, 3):
        got = input_log_likelihood(SMALL, TOKENS, length)
        truth = o.likelihood()(SMALL, TOKENS, length)
        expect_close(
            got,
            truth,
            "batch",
            f"length {length}: log P of each token from what stands before it, added up",
        )


@checks(
    "input_log_likelihood",
    mistakes={
        "each token was read off its own position; the logits there speak about the next one": o.likelihood(
            shift=0
        )
    },
)
def test_all_inputs_together_have_probability_one(input_log_likelihood):
    total = input_log_likelihood(SMALL, o.ALL_INPUTS, 4).double().exp().sum()
    expect_close(
        total,
        1.0,
        "",
        "over all 1331 inputs of four tokens that begin alike, the probabilities make 1",
    )


SCORES = {
    "without ties": (
        torch.randn(9, generator=seeded(4)) + 0.7,
        torch.randn(14, generator=seeded(5)),
    ),
    "with ties": (torch.tensor([3, 1, 2, 2, 5]), torch.tensor([2, 2, 0, 3, 1, 1])),
    "far apart": (torch.tensor([4.0, 5.0]), torch.tensor([1.0, -2.0, 3.0])),
}


@checks(
    "auroc",
    mistakes={
        "a tie counts half, not nothing": o.pairs(tie=0.0),
        "a tie counts half, not a whole": o.pairs(tie=1.0),
        "the groups are exchanged: the first one should lie higher": o.pairs(turned=True),
        "torch.searchsorted was given scores that were not sorted": o.unsorted,
        "each score was compared with the mean of the other group, not with each of its scores": o.above_the_mean,
    },
)
def test_share_of_all_pairs(auroc):
    for name, (higher, lower) in SCORES.items():
        expect_close(
            auroc(higher, lower),
            o.pairs()(higher, lower),
            "",
            f"{name}: the share of pairs that are in order",
        )
    expect_value_error(auroc, (torch.tensor([]), torch.tensor([1.0])), "an empty first group")
    expect_value_error(auroc, (torch.tensor([1.0]), torch.tensor([])), "an empty second group")


# The same problem with other numbers


@checks(
    "m2_variants",
    mistakes={
        "the operator may change; it has to stay": o.variants(operator_counts=False),
        "the problem itself is no variant of itself": o.variants(itself=True),
        "an operand of one digit may become one of two": o.variants(longer=False),
        "no operand may become 0": o.variants(zero=True),
        "an operand of one digit may become anything from 1 to 99: also one of two digits, but not 0": (
            o.variants(longer=False, zero=True)
        ),
        "10 has two digits": o.variants(two_digits=11),
        "the signs of the values were not compared": o.variants(sign=False),
        "0 and below were taken as one sign; they are two": o.variants(sign="above 0"),
        "a whole number became a fraction, or the other way round": o.variants(whole=False),
        "where the original has a fraction, a variant has one too; yours asks for whole numbers": o.variants(
            whole="always"
        ),
        "one operand and one value are enough for you; each has to fit": o.variants(every=any),
    },
)
def test_variants_by_going_through_all(m2_variants):
    for row in range(0, len(o.A), 4):
        got = m2_variants(o.OPERATOR, o.OPERANDS, o.VALUES, row)
        expect(
            got.dtype == torch.bool and got.shape == (len(o.A),),
            "expected [problem], of True and False",
        )
        truth = o.variants()(o.OPERATOR, o.OPERANDS, o.VALUES, row)
        if (got != truth).any():
            other = int((got != truth).int().argmax())
            (a, b), (c, d) = o.OPERANDS[row].tolist(), o.OPERANDS[other].tolist()
            old, new = ([round(value, 3) for value in o.VALUES[at].tolist()] for at in (row, other))
            now = f"values {new} and {old}"
            verb = "is" if truth[other] else "is not"
            expect(
                False,
                f"{c}, {d} {verb} a variant of {a}, {b} (operators {o.OPERATOR[[other, row]].tolist()}; {now})",
            )


# Missing or weak?


@checks(
    "covers",
    mistakes={
        "'none' speaks of nothing, not of everything": o.covered(none=True),
        "the number in the name was ignored: it says how many results": o.covered(count=2),
        "the problems were taken over, not their results: on other problems the same places mean something else": (
            o.covered(places=True)
        ),
        "the results that the neuron promotes least were taken": o.covered(least=True),
        "the results of the few most promoted *problems* were taken; it is the mean over all problems of a result": (
            o.covered(singly=True)
        ),
        "`promoted` belongs to the problems where the neuron was studied; you gave it the new results": o.covered(
            mixed=True
        ),
    },
)
def test_names_on_other_problems(covers):
    for name, speaks in o.SPOKEN_OF.items():
        truth = torch.tensor([speaks(a, b) for a, b in o.THERE.tolist()])
        got = covers(name, o.PROMOTED, o.RESULT, o.NEW, o.NEW_RESULT)
        expect(
            torch.equal(got, truth),
            f"'{name}' speaks of {int(truth.sum())} new problems; yours of {int(got.sum())}",
        )
    for name in ("none", *(f"multi-result: {k} values" for k in (2, 4, 3))):
        got = covers(name, o.PROMOTED, o.RESULT, o.NEW, o.NEW_RESULT)
        truth = o.covered()(name, o.PROMOTED, o.RESULT, o.NEW, o.NEW_RESULT)
        expect(
            got.shape == truth.shape and got.dtype == torch.bool,
            "expected [new problem], of True and False",
        )
        results = (sorted(set(o.NEW_RESULT[mask].tolist())) for mask in (truth, got))
        expect(
            torch.equal(got, truth),
            "'{}': of the new results expected {}, got {}".format(name, *results),
        )


@checks(
    "at_equal_results",
    mistakes={
        "the plain mean over the reference: results were not matched": o.matched(plain=True),
        "each result was counted once; it counts as often as it is wanted": o.matched(once=True),
        "each result was counted once, in both means; it counts as often as it is wanted": o.matched(
            once="both"
        ),
        "the reference problems were averaged all at once, so common results weigh most there: first a mean per result": (
            o.matched(pooled=True)
        ),
        "wanted problems without a partner were left out of the second mean only": o.matched(
            keep_all=True
        ),
        "the wanted problems were compared with all problems of their results": o.matched(
            among=lambda reference, wanted: torch.ones_like(reference)
        ),
        "the two means are exchanged": o.matched(swapped=True),
    },
)
def test_each_wanted_problem_has_its_own_partner(at_equal_results):
    for values in (o.MEASURED, o.MEASURED.float() ** 2):
        got = at_equal_results(values, o.RESULTS, o.REFERENCE, o.WANTED)
        expect(
            isinstance(got, tuple) and len(got) == 2,
            "return two numbers: of the wanted, and what to compare it with",
        )
        truth = o.matched()(values, o.RESULTS, o.REFERENCE, o.WANTED)
        for mine, right, which in zip(
            got, truth, ("mean of the wanted problems", "mean of their partners")
        ):
            expect_close(float(mine), right, "", which)
    arguments = o.MEASURED, o.RESULTS, o.REFERENCE, o.RESULTS == 4
    expect_value_error(at_equal_results, arguments, "no wanted problem has a partner")


@checks(
    "missing_and_weak",
    mistakes={
        "both ratios are upside down: fewer neurons than there means a positive number": o.factors(
            sign=-1
        ),
        "the logarithm is to base 2; nats are asked for": o.factors(log=math.log2),
        "weak is per neuron: the two must add up to log(promoted_there / promoted)": o.factors(
            whole=True
        ),
        "missing and weak are exchanged": o.factors(swapped=True),
        "logs were not taken: factors multiply, logs add": o.factors(log=lambda x: x),
    },
)
def test_two_shares_of_one_ratio(missing_and_weak):
    for count, promoted, count_there, promoted_there in (
        (5, 10, 10, 20),
        (10, 10, 10, 20),
        (17.2, 3.9, 22.5, 7.8),
        (8, 9, 4, 3),
    ):
        got = missing_and_weak(count, promoted, count_there, promoted_there)
        expect(isinstance(got, tuple) and len(got) == 2, "return two numbers: missing, weak")
        expect_close(
            float(got[0]),
            math.log(count_there / count),
            "",
            "missing: half as many neurons make log 2",
        )
        each, each_there = promoted / count, promoted_there / count_there
        expect_close(
            float(got[1]),
            math.log(each_there / each),
            "",
            "weak: half as much per neuron makes log 2",
        )
    for wrong in ((0, 1, 1, 1), (1, -1, 1, 1), (1, 1, 0, 1), (1, 1, 1, 0)):
        expect_value_error(missing_and_weak, wrong, f"numbers {wrong}: one of them is not positive")


# A repair


@checks(
    "first_difference",
    mistakes={
        "where nothing differs the answer is the number of positions, not 0": o.differing(
            nothing=0
        ),
        "where nothing differs the answer is the number of positions, not -1": o.differing(
            nothing=-1
        ),
        "the last difference was given, not the first": o.differing(last=True),
        "positions count from 0": o.differing(base=1),
        "the first position that is equal was given": o.differing(equal=True),
        "equal positions were counted, also those behind the first difference": o.differing(
            counted=True
        ),
    },
)
def test_first_difference_by_reading(first_difference):
    other = TOKENS.clone()
    for row, places in enumerate(([0, 3], [2], [], [1, 2, 4], [4])):
        other[row, places] = (other[row, places] + 1) % 11
    got = first_difference(TOKENS, other)
    expect(
        isinstance(got, torch.Tensor) and got.shape == (6,),
        "expected one position per row, [batch]",
    )
    truth = o.differing()(TOKENS, other)
    expect(
        torch.equal(got.long(), truth), f"first differences at {truth.tolist()}, got {got.tolist()}"
    )
    for row, at in enumerate(got.tolist()):
        same = torch.equal(
            SMALL(TOKENS[row : row + 1])[0, :at], SMALL(other[row : row + 1])[0, :at]
        )
        expect(
            same, "before the first difference a causal model gives the same logits, bit for bit"
        )


@checks(
    "corrected_run_patch",
    mistakes={
        "the model read the answers; leave the last token away": o.repaired(end=None),
        "the roles are exchanged: the wrong run runs, the corrected one gives": o.repaired(
            roles=lambda wrong, corrected: (corrected, wrong)
        ),
        "the activations came from the wrong run itself": o.repaired(
            roles=lambda wrong, corrected: (wrong, wrong)
        ),
        "the held places were not held": o.repaired(hold=False),
        "the held places got what they hold in the corrected run": o.repaired(
            held_from="corrected"
        ),
        "a place that is in a cell and held is held": o.repaired(held_wins=False),
        "the whole activation was held, at all positions; a place is only one index of it": o.repaired(
            whole=True
        ),
    },
)
def test_place_by_place(corrected_run_patch):
    for held in ([], o.HELD):
        for cells in (o.CELLS, [[*o.CELLS[1], PLACES[-1]], [PLACES[0]]]):
            got = corrected_run_patch(SMALL, TOKENS, o.CORRECTED, cells, held)
            truth = o.repaired()(SMALL, TOKENS, o.CORRECTED, cells, held)
            what = (
                "every cell patched, nothing held"
                if not held
                else "every cell patched, three places held"
            )
            expect_close(got, truth, "cell batch vocab", what)


@checks(
    "corrected_run_patch",
    mistakes={
        "the roles are exchanged: nothing patched must give the wrong run": o.repaired(
            roles=lambda wrong, corrected: (corrected, wrong)
        )
    },
)
def test_the_ends_of_the_scale(corrected_run_patch):
    wrong, corrected = (SMALL(run[:, :-1])[:, -1] for run in (TOKENS, o.CORRECTED))
    whole, early = [("hook_embed", (o.EVERY,))], [place for place in PLACES if place[1][0] < 2]
    patch = partial(corrected_run_patch, SMALL, TOKENS, o.CORRECTED)
    expect_close(patch([[]])[0], wrong, "batch vocab", "nothing patched: the wrong run")
    expect_close(
        patch([whole])[0], corrected, "batch vocab", "everything patched: the corrected run"
    )
    expect(
        torch.equal(patch([early])[0], wrong),
        "places before the first difference: nothing changes, not even a bit",
    )
    last = [("blocks.1.hook_resid_post", (3,))]
    expect_close(
        patch([whole], last)[0],
        wrong,
        "batch vocab",
        "the last stream held: the wrong run, whatever is patched",
    )
