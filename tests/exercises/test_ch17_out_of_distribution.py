"""Checks of chapter 17. The oracles: token by token, pair by pair, problem by problem, place by
place.
"""

import math
from functools import partial

import torch

from tests.exercises.cases import in_case
from tests.exercises.checking import checks, expect, expect_close, expect_value_error
from tests.exercises.oracles import ch17 as o
from tests.exercises.oracles import ch17_mistakes as slips
from tests.exercises.oracles import ch17_pair_mistakes as pair_slips
from tests.exercises.oracles.ch15 import PLACES, SMALL, TOKENS
from tests.exercises.oracles.ch17 import covered, differing, likelihood, matched, repaired, variants
from tests.material import seeded

# Does it notice?


@checks("input_log_likelihood", mistakes=slips.LIKELIHOOD)
def test_token_by_token(input_log_likelihood):
    for length in (4, 3):
        got = input_log_likelihood(SMALL, TOKENS, length)
        truth = likelihood()(SMALL, TOKENS, length)
        why = f"length {length}: log P of each token from what stands before it, added up"
        expect_close(got, truth, "batch", why)


@checks(
    "input_log_likelihood",
    mistakes={
        "each token was read off its own position; the logits there speak about the next one": (
            slips.SHIFTED
        )
    },
)
def test_all_inputs_together_have_probability_one(input_log_likelihood):
    total = input_log_likelihood(SMALL, o.ALL_INPUTS, 4).double().exp().sum()
    why = "over all 1331 inputs of four tokens that begin alike, the probabilities make 1"
    expect_close(total, 1.0, "", why)


FEW, MANY = torch.randn(9, generator=seeded(6)) + 0.7, torch.randn(14, generator=seeded(7))
SCORES = {
    "without ties": (FEW, MANY),
    "with ties": (torch.tensor([3, 1, 2, 2, 5]), torch.tensor([2, 2, 0, 3, 1, 1])),
    "far apart": (torch.tensor([4.0, 5.0]), torch.tensor([1.0, -2.0, 3.0])),
    "the wrong way round, below .5": (MANY - 0.3, FEW),
    "some close together, others of quite another size": (
        torch.tensor([1000.0, 3e-6, 1e-6, 0.2]),
        torch.tensor([-1000.0, 2e-6, 0.1, 4e-6, 0.3]),
    ),
    "one score far out": (torch.tensor([2.5, 1.5, 0.5]), torch.tensor([0.0, 30.0, 1.0, 1.25])),
}


@checks("auroc", mistakes=pair_slips.AUROC)
def test_share_of_all_pairs(auroc):
    for name, (higher, lower) in SCORES.items():
        got, truth = auroc(higher, lower), o.pairs()(higher, lower)
        expect_close(got, truth, "", f"{name}: the share of pairs that are in order")
    expect_value_error(auroc, (torch.tensor([]), torch.tensor([1.0])), "an empty first group")
    expect_value_error(auroc, (torch.tensor([1.0]), torch.tensor([])), "an empty second group")


# The same problem with other numbers


@checks("m2_variants", mistakes=slips.VARIANTS)
def test_variants_by_going_through_all(m2_variants):
    compare_variants(m2_variants, o.OPERANDS, o.VALUES, every=4)


@checks("m2_variants", mistakes=slips.OPERANDS)
def test_variants_of_one_operand_and_of_three(m2_variants):
    for operands, values in ((o.THIRD, o.VALUES[:, :2]), (o.OPERANDS[:, 1:], o.VALUES[:, :1])):
        case = f"operands [problem, {operands.shape[1]}], values [problem, {values.shape[1]}]"
        in_case(case, compare_variants, m2_variants, operands, values, every=11)


def compare_variants(m2_variants, operands, values, every):
    for row in range(0, len(operands), every):
        got = m2_variants(o.OPERATOR, operands, values, row)
        is_mask = got.dtype == torch.bool and got.shape == (len(operands),)
        expect(is_mask, "expected [problem], of True and False")
        truth = variants()(o.OPERATOR, operands, values, row)
        if (got != truth).any():
            other, verb = int((got != truth).int().argmax()), "is not"
            if truth[other]:
                verb = "is"
            both = [described(one, operands, values) for one in (other, row)]
            expect(False, f"{both[0]} {verb} a variant of {both[1]}")


def described(row, operands, values):
    given = ", ".join(str(number) for number in operands[row].tolist())
    found = ", ".join(f"{value:.3g}" for value in values[row].tolist())
    return f"{given} (operator {o.OPERATOR[row]}, values {found})"


# Missing or weak?


def new_results(mask):
    return sorted(set(o.NEW_RESULT[mask].tolist()))


@checks("covers", mistakes=slips.COVERS)
def test_names_on_other_problems(covers):
    given = o.PROMOTED, o.RESULT, o.NEW, o.NEW_RESULT
    for name, speaks in o.SPOKEN_OF.items():
        truth = torch.tensor([speaks(a, b) for a, b in o.THERE.tolist()])
        got = covers(name, *given)
        counts = f"{int(truth.sum())} new problems; yours of {int(got.sum())}"
        expect(torch.equal(got, truth), f"'{name}' speaks of {counts}")
    for k in (0, 2, 4, 3):
        name = f"multi-result: {k} values" if k else "none"
        case = f"'{name}'" if k else "'none', which stands for no heuristic and speaks of nothing"
        got, truth = in_case(case, covers, name, *given), covered()(name, *given)
        is_mask = got.shape == truth.shape and got.dtype == torch.bool
        expect(is_mask, "expected [new problem], of True and False")
        why = f"expected {new_results(truth)}, got {new_results(got)}"
        expect(torch.equal(got, truth), f"'{name}': of the new results {why}")


@checks("at_equal_results", mistakes=pair_slips.MATCHED)
def test_each_wanted_problem_has_its_own_partner(at_equal_results):
    for values in (o.MEASURED, o.MEASURED.float() ** 2, o.RESULTS * 3 + o.REFERENCE):
        got = at_equal_results(values, o.RESULTS, o.REFERENCE, o.WANTED)
        is_pair = isinstance(got, tuple) and len(got) == 2
        expect(is_pair, "return two tensors: rows, and what to compare each of them with")
        rows, partners = matched()(values, o.RESULTS, o.REFERENCE, o.WANTED)
        why = f"the wanted problems with a partner are {rows.tolist()}, got {got[0].tolist()}"
        expect(torch.equal(got[0], rows), why)
        expect_close(got[1].double(), partners.double(), "pair", "mean over the same result")
    arguments = o.MEASURED, o.RESULTS, o.REFERENCE, o.RESULTS == 4
    expect_value_error(at_equal_results, arguments, "no wanted problem has a partner")


FOUR_NUMBERS = ((5, 10, 10, 20), (10, 10, 10, 20), (17.2, 3.9, 22.5, 7.8), (8, 9, 4, 3))


@checks("missing_and_weak", mistakes=slips.FACTORS)
def test_two_shares_of_one_ratio(missing_and_weak):
    for count, promoted, count_there, promoted_there in FOUR_NUMBERS:
        got = missing_and_weak(count, promoted, count_there, promoted_there)
        expect(isinstance(got, tuple) and len(got) == 2, "return two numbers: missing, weak")
        missing = math.log(count_there / count)
        expect_close(float(got[0]), missing, "", "missing: half as many neurons make log 2")
        each, each_there = promoted / count, promoted_there / count_there
        weak = math.log(each_there / each)
        expect_close(float(got[1]), weak, "", "weak: half as much per neuron makes log 2")
    for wrong in ((0, 1, 1, 1), (1, -1, 1, 1), (1, 1, 0, 1), (1, 1, 1, 0)):
        expect_value_error(missing_and_weak, wrong, f"numbers {wrong}: one of them is not positive")


# A repair


@checks("first_difference", mistakes=slips.DIFFERENCES)
def test_first_difference_by_reading(first_difference):
    other = TOKENS.clone()
    for row, places in enumerate(([0, 3], [2], [], [1, 2, 4], [4])):
        for size, place in zip((1, 5, 3), places):  # the first one is the smallest
            other[row, place] += size if other[row, place] <= 5 else -size
    got, truth = first_difference(TOKENS, other), differing()(TOKENS, other)
    is_vector = isinstance(got, torch.Tensor) and got.shape == (6,)
    expect(is_vector, "expected one position per row, [batch]")
    why = f"first differences at {truth.tolist()}, got {got.tolist()}"
    expect(torch.equal(got.long(), truth), why)
    why = "before the first difference a causal model gives the same logits, bit for bit"
    logits, others = SMALL(TOKENS), SMALL(other)
    for row, at in enumerate(got.tolist()):
        expect(torch.equal(logits[row, :at], others[row, :at]), why)


@checks("corrected_run_patch", mistakes=slips.REPAIRED)
def test_place_by_place(corrected_run_patch):
    for held in ([], o.HELD):
        for cells in (o.CELLS, [[*o.CELLS[1], PLACES[-1]], [PLACES[0]]]):
            got = corrected_run_patch(SMALL, TOKENS, o.CORRECTED, cells, held)
            truth = repaired()(SMALL, TOKENS, o.CORRECTED, cells, held)
            what = f"every cell patched, {len(held)} places held"
            expect_close(got, truth, "cell batch vocab", what)


@checks(
    "corrected_run_patch",
    mistakes={"the roles are exchanged: nothing patched must give the wrong run": slips.EXCHANGED},
)
def test_the_ends_of_the_scale(corrected_run_patch):
    wrong, corrected = SMALL(TOKENS[:, :-1])[:, -1], SMALL(o.CORRECTED[:, :-1])[:, -1]
    whole, early = [("hook_embed", (o.EVERY,))], [place for place in PLACES if place[1][0] < 2]
    patch = partial(corrected_run_patch, SMALL, TOKENS, o.CORRECTED)
    expect_close(patch([[]])[0], wrong, "batch vocab", "nothing patched: the wrong run")
    why = "everything patched: the corrected run"
    expect_close(patch([whole])[0], corrected, "batch vocab", why)
    why = "places before the first difference: nothing changes, not even a bit"
    expect(torch.equal(patch([early])[0], wrong), why)
    last = [("blocks.1.hook_resid_post", (3,))]
    why = "the last stream held: the wrong run, whatever is patched"
    expect_close(patch([whole], last)[0], wrong, "batch vocab", why)
