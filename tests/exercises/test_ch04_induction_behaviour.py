"""Checks of chapter 4. The oracles: definitions in loops, curves, and planted models."""

import math

import torch

from minitransformer import BOS, ModelConfig, Transformer, load, repeated_tokens
from minitransformer.planted import blank_model, induction_model, pointer_model
from tests.exercises.cases import expect_error, in_case
from tests.exercises.checking import checks, expect, expect_close
from tests.exercises.oracles import ch04_mistakes as wrong
from tests.exercises.oracles.ch04 import losses_by_loops, pooled, predictable_by_loops
from tests.material import seeded

S, V, N_CTX = 6.0, 20, 40
PLANTED = induction_model(V, N_CTX, S).double()  # shares its attention among all earlier followers
POINTER = pointer_model(V, N_CTX, S).double()  # looks only at the first one


# loss_by_position

TOKENS = torch.randint(1, 7, (3, 5), generator=seeded(1))
LOGITS = 3 * torch.randn(3, 5, 7, generator=seeded(2), dtype=torch.float64)


@checks("loss_by_position", mistakes=wrong.LOSS_MISTAKES)
def test_loss_is_its_definition(loss_by_position):
    truth = losses_by_loops(LOGITS, TOKENS).mean(0)
    expect_close(loss_by_position(LOGITS, TOKENS), truth, "pos", "the mean of -log p(next token)")


@checks("loss_by_position", mistakes=wrong.LARGE_LOGITS)
def test_large_logits_stay_finite(loss_by_position):
    truth = losses_by_loops(1000 * LOGITS, TOKENS).mean(0)
    expect_close(
        loss_by_position(1000 * LOGITS, TOKENS), truth, "pos", "logits a thousand times larger"
    )


@checks("loss_by_position")
def test_the_planted_model_has_a_known_curve(loss_by_position):
    repeats = repeated_tokens(4, 16, V, (5, 5), seeded(), prefix=0)
    truth = torch.full((15,), math.log(V), dtype=torch.float64)  # all logits 0
    truth[6:] = math.log(1 + (V - 1) * math.exp(-S))  # position 6 begins the second copy
    losses = loss_by_position(PLANTED(repeats.tokens).detach(), repeats.tokens)
    expect_close(losses, truth, "pos", "handmade induction model, period 5")


CURVE = 4.0 - 0.1 * torch.arange(12.0, dtype=torch.float64) ** 1.5


@checks("icl_score", mistakes=wrong.ICL_MISTAKES)
def test_icl_score_on_known_curves(icl_score):
    for early, late in ((4, 9), (0, 11), (10, 11)):  # the widest there is, and the narrowest
        truth = 0.1 * (early**1.5 - late**1.5)
        why = f"losses 4 - 0.1 i^1.5 at 0 to 11, early {early}, late {late}"
        expect_close(in_case(why, icl_score, CURVE, early, late), truth, "", why)
    why = "a curve that rises: context hurts, score > 0"
    expect_close(icl_score(-CURVE, 4, 9), 0.1 * (9**1.5 - 4**1.5), "", why)
    why = "a flat curve: nothing is learnt in context"
    expect_close(icl_score(torch.full((6,), 2.0), 1, 5), 0.0, "", why)


@checks("icl_score")
def test_icl_score_refuses_impossible_positions(icl_score):
    for early, late in ((9, 4), (3, 3), (-1, 5), (-3, -2), (1, 12), (4, 13)):
        case = f"early {early}, late {late} of 12 losses, 0 to 11"
        expect_error(icl_score, (CURVE, early, late), ValueError, case)


# induction_accuracy

# Three tokens only, so that a random model is often right by chance.
TINY = Transformer(ModelConfig(n_heads=1, d_model=8, d_head=4, d_vocab=3, n_ctx=8), seed=1)
GUESSED = torch.randint(0, 3, (40, 8), generator=seeded(3))
MARKED = torch.rand(40, 8, generator=seeded(4)) < torch.linspace(0.1, 0.9, 40)[:, None]


@checks("induction_accuracy", mistakes=wrong.ACCURACY_MISTAKES)
def test_accuracy_is_its_definition(induction_accuracy):
    truth, why = pooled()(TINY, GUESSED, MARKED), "the share of right guesses where it counts"
    expect_close(induction_accuracy(TINY, GUESSED, MARKED), truth, "", why)
    few = MARKED.clone()
    few[:, :-1] = False
    few[3, 2] = few[5, 4:7] = True  # most rows have no mark that counts
    truth, why = (pooled()(TINY, GUESSED, few), "four marks count, those on last positions not")
    expect_close(induction_accuracy(TINY, GUESSED, few), truth, "", why)


@checks("induction_accuracy")
def test_nothing_predictable_is_an_error(induction_accuracy):
    marks = torch.zeros_like(MARKED)
    expect_error(induction_accuracy, (TINY, GUESSED, marks), ValueError, "nothing is marked")
    marks[:, -1] = True
    case = "only last positions are marked, none can be checked"
    expect_error(induction_accuracy, (TINY, GUESSED, marks), ValueError, case)


@checks("induction_accuracy", mistakes=wrong.TIES_COUNT)
def test_a_model_that_says_nothing_is_not_right(induction_accuracy):
    """All its logits are 0: it has one guess, as everybody, not 65."""
    silent = blank_model(n_layers=1, n_heads=1, d_model=4, d_head=4, d_vocab=65, n_ctx=32)
    repeats = repeated_tokens(64, 32, 65, (1, 16), seeded(6))
    got = induction_accuracy(silent, repeats.tokens, repeats.predictable)
    expect_close(got, 0.0, "", "all logits are equal, so the guess is BOS, which never comes again")


@checks("induction_accuracy")
def test_accuracy_on_the_controls(induction_accuracy):
    def at_period(model, period):
        repeats = repeated_tokens(64, 32, 65, (period, period), seeded(5))
        return induction_accuracy(model, repeats.tokens, repeats.predictable)

    def expect_at(model, period, low, high, sentence):
        got = at_period(model, period)
        expect(
            low <= got <= high,
            f"period {period}: {sentence}; expected {low:g} to {high:g}, got {got:.3g}",
        )

    handmade, impostor = induction_model(65, 32), load("impostor")
    untrained = Transformer(ModelConfig(), seed=0)
    for period in (3, 13, 24):
        expect_at(handmade, period, 1.0, 1.0, "the handmade induction model is always right")
        expect_at(untrained, period, 0.0, 0.1, "random weights cannot do induction")
    expect_at(impostor, 10, 0.95, 1.0, "this is the impostor's own period")
    expect_at(impostor, 13, 0.0, 0.1, "this is not the impostor's period")


# partial_repeat_tokens and distractor_tokens


def expect_rows(tokens, pos, batch, distinct, why_longer):
    """Shape, BOS first, how many tokens differ within a row, rows drawn separately.

    why_longer: difference from the right length -> what may be behind it.
    """
    whole = isinstance(tokens, torch.Tensor) and tokens.dtype == torch.long
    expect(whole, "tokens must be a tensor of whole numbers (torch.long)")
    shape = f"expected tokens [batch, pos] = [{batch}, {pos}], got {list(tokens.shape)}"
    why = why_longer.get(tokens.shape[-1] - pos)
    expect(tokens.shape == (batch, pos), shape + (f": {why}?" if why else ""))
    expect((tokens[:, 0] == BOS).all(), "every row must begin with BOS")
    expect((tokens[:, 1:] != BOS).all(), "BOS stands at position 0 only")
    rule = f"a row must hold {distinct} different tokens besides BOS"
    for row in tokens[:, 1:].tolist():
        got = f"got {len(set(row))}: {row}; draw all of them in one call of distinct_tokens"
        expect(len(set(row)) == distinct, f"{rule}, {got}")
    expect(len(tokens.unique(dim=0)) > 1, "all rows are the same; draw each row separately")


@checks("partial_repeat_tokens", mistakes=wrong.PARTIAL_MISTAKES)
def test_partial_repeat(partial_repeat_tokens):
    for length, (start, stop), gap in ((9, (2, 6), 3), (7, (3, 7), 0), (5, (0, 3), 4)):
        case = f"length {length}, part {(start, stop)}, gap {gap}"
        arguments = length, (start, stop), gap, 8, V, seeded(6)
        tokens, predictable = in_case(case, partial_repeat_tokens, *arguments)
        reasons = {
            1: "is token part[1] repeated too",
            -1: "is BOS missing, or the last token of the part",
            -gap: "is the gap missing",
            start: "is part[1] taken for the length of the part",
            length - stop + start: "is the whole sentence repeated",
        }
        pos = 1 + length + gap + stop - start
        expect_rows(tokens, pos, 8, length + gap, {0: None} | reasons)
        again, first = tokens[:, 1 + length + gap :], tokens[:, 1 + start : 1 + stop]
        part = f"tokens {start} to {stop - 1} of the sentence, which begins after BOS"
        expect(torch.equal(again, first), f"{case}: the row must end in {part}")
        is_bool = isinstance(predictable, torch.Tensor) and predictable.dtype == torch.bool
        expect(is_bool, "predictable must be a tensor of True and False (torch.bool)")
        truth = predictable_by_loops(tokens)
        why = f"{case}: predictable where it was read before, and the same token follows again"
        expect_close(predictable, truth, "batch pos", why)


@checks("partial_repeat_tokens")
def test_partial_repeat_refuses_an_impossible_part(partial_repeat_tokens):
    for part in ((3, 3), (4, 3), (-1, 2), (2, 8), (7, 8)):
        case = f"part {part} of 7 tokens"
        expect_error(partial_repeat_tokens, (7, part, 2, 4, V, seeded()), ValueError, case)


@checks("distractor_tokens", mistakes=wrong.DISTRACTOR_MISTAKES)
def test_distractors(distractor_tokens):
    for followers, gap in (("CBBC", 3), ("BC", 2), ("BBB", 3), ("BCDB", 0)):
        kinds, turns = list(dict.fromkeys(followers)), len(followers)
        case = f'followers "{followers}", gap {gap}'
        tokens, candidates = in_case(case, distractor_tokens, followers, gap, 8, V, seeded(7))
        distinct = 1 + len(kinds) + gap * turns
        reasons = {
            -1: "is BOS missing, or the last A",
            -gap: "is the gap after the last follower missing",
            -turns: "is every gap one too short",
            -turns * gap: "are the gaps missing",
        }
        expect_rows(tokens, 2 + turns * (2 + gap), 8, distinct, {0: None} | reasons)
        expect_candidates(candidates, kinds, case)
        expect_turns(tokens, candidates, followers, gap)


def expect_candidates(candidates, kinds, case):
    rule = "one candidate for each different letter, A is none"
    shape, right = list(candidates.shape), [8, len(kinds)]
    expect(shape == right, f"{case}: {rule}: expected [batch, kind] = {right}, got {shape}")


def expect_turns(tokens, candidates, followers, gap):
    """Each turn is A, its follower, and other tokens; A ends the row."""
    turns = tokens[:, 1:-1].unflatten(1, (len(followers), 2 + gap))  # batch turn place
    asked = turns[:, :, 0] == tokens[:, -1:]
    expect(asked.all(), f'"{followers}", gap {gap}: A must begin every turn and end the row')
    kinds = list(dict.fromkeys(followers))
    for turn, letter in enumerate(followers):
        kind = kinds.index(letter)
        right = turns[:, turn, 1] == candidates[:, kind]
        rule = f"right after A in turn {turn} must stand candidate {kind}, {letter}"
        why = f"candidates are in the order in which letters first appear, {', '.join(kinds)}"
        expect(right.all(), f'"{followers}": {rule}; {why}')


@checks("distractor_tokens")
def test_planted_models_answer_as_they_must(distractor_tokens):
    """Sharing: exp(s * share of the votes) each. Pointing: exp(s) for the first follower alone."""
    votes_for = {"BBC": (2 / 3, 1 / 3), "BCC": (1 / 3, 2 / 3), "BC": (1 / 2, 1 / 2)}
    for followers, votes in votes_for.items():
        tokens, candidates = distractor_tokens(followers, 2, 4, V, seeded(8))
        for model, shares in ((PLANTED, votes), (POINTER, (1.0, 0.0))):
            weights = torch.tensor([math.exp(S * share) for share in shares], dtype=torch.float64)
            truth = (weights / (weights.sum() + V - 2)).expand(4, 2)
            got = model(tokens)[:, -1].softmax(-1).gather(1, candidates).detach()
            why = f'"{followers}": what a handmade model gives the candidates'
            expect_close(got, truth, "batch kind", why)


@checks("distractor_tokens")
def test_distractors_need_a_follower(distractor_tokens):
    expect_error(distractor_tokens, ("", 2, 4, V, seeded()), ValueError, 'followers ""')
