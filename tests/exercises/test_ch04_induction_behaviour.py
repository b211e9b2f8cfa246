"""Checks of chapter 4. The oracles: definitions in loops, curves, and planted models."""

import math

import torch

from minitransformer import BOS, ModelConfig, Transformer, load, repeated_tokens
from minitransformer.planted import induction_model, pointer_model
from tests.exercises.checking import checks, expect, expect_close, expect_value_error
from tests.exercises.oracles.ch04 import (
    distract,
    losses_by_loops,
    naive_losses,
    partial,
    pooled,
    predictable_by_loops,
)
from tests.exercises.oracles.ch04_mistakes import (
    ACCURACY_MISTAKES,
    DISTRACTOR_MISTAKES,
    LOSS_MISTAKES,
    PARTIAL_MISTAKES,
)
from tests.material import seeded

S, V, N_CTX = 6.0, 20, 40
PLANTED = induction_model(V, N_CTX, S).double()  # shares its attention among all earlier followers
POINTER = pointer_model(V, N_CTX, S).double()  # looks only at the first one


# loss_by_position

TOKENS = torch.randint(1, 7, (3, 5), generator=seeded(1))
LOGITS = 3 * torch.randn(3, 5, 7, generator=seeded(2), dtype=torch.float64)


@checks("loss_by_position", mistakes=LOSS_MISTAKES)
def test_loss_is_its_definition(loss_by_position):
    truth = losses_by_loops(LOGITS, TOKENS).mean(0)
    expect_close(loss_by_position(LOGITS, TOKENS), truth, "pos", "the mean of -log p(next token)")


@checks(
    "loss_by_position",
    mistakes={"log(softmax) is -inf for large logits; log_softmax is not": naive_losses},
)
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


@checks(
    "icl_score",
    mistakes={
        "the sign is turned round; it is late minus early": lambda x, early, late: (
            x[early] - x[late]
        ).item(),
        "positions were counted from 1; position 0 is BOS": lambda x, early, late: (
            x[late - 1] - x[early - 1]
        ).item(),
        "one position was asked for, not the mean from `late` on": lambda x, early, late: (
            x[late:].mean() - x[early]
        ).item(),
        "this is a ratio; take the difference, in nats": lambda x, early, late: (
            x[late] / x[early]
        ).item(),
    },
)
def test_icl_score_on_known_curves(icl_score):
    for early, late in ((4, 9), (0, 11)):  # the second pair: the widest there is
        truth = 0.1 * (early**1.5 - late**1.5)
        expect_close(
            icl_score(CURVE, early, late),
            truth,
            "",
            f"losses 4 - 0.1 i^1.5, early {early}, late {late}",
        )
    expect_close(
        icl_score(-CURVE, 4, 9),
        0.1 * (9**1.5 - 4**1.5),
        "",
        "a curve that rises: context hurts, score > 0",
    )
    expect_close(
        icl_score(torch.full((6,), 2.0), 1, 5),
        0.0,
        "",
        "a flat curve: nothing is learnt in context",
    )


@checks(
    "icl_score",
    mistakes={"the positions are not checked": lambda x, early, late: (x[late] - x[early]).item()},
)
def test_icl_score_refuses_impossible_positions(icl_score):
    for early, late in ((9, 4), (3, 3), (-1, 5), (1, 12)):
        expect_value_error(
            icl_score, (CURVE, early, late), f"early {early}, late {late} of 12 losses"
        )


# induction_accuracy

# Three tokens only, so that a random model is often right by chance.
TINY = Transformer(ModelConfig(n_heads=1, d_model=8, d_head=4, d_vocab=3, n_ctx=8), seed=1)
GUESSED = torch.randint(0, 3, (40, 8), generator=seeded(3))
MARKED = torch.rand(40, 8, generator=seeded(4)) < torch.linspace(0.1, 0.9, 40)[:, None]


@checks("induction_accuracy", mistakes=ACCURACY_MISTAKES)
def test_accuracy_is_its_definition(induction_accuracy):
    truth = pooled()(TINY, GUESSED, MARKED)
    expect_close(
        induction_accuracy(TINY, GUESSED, MARKED),
        truth,
        "",
        "the share of right guesses where it counts",
    )


@checks(
    "induction_accuracy", mistakes={"nothing to count was not refused": lambda *x: float("nan")}
)
def test_nothing_predictable_is_an_error(induction_accuracy):
    only_last = torch.zeros_like(MARKED)
    only_last[:, -1] = True
    expect_value_error(
        induction_accuracy,
        (TINY, GUESSED, only_last),
        "only last positions are marked, none can be checked",
    )


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


def expect_rows(tokens, pos, batch, distinct):
    """Shape, BOS first, how many tokens differ within a row, rows drawn separately."""
    shape = f"expected tokens [batch, pos] = [{batch}, {pos}], got {list(tokens.shape)}"
    expect(tokens.shape == (batch, pos), shape)
    whole = f"tokens must be whole numbers (torch.long), not {tokens.dtype}"
    expect(tokens.dtype == torch.long, whole)
    expect((tokens[:, 0] == BOS).all(), "every row must begin with BOS")
    expect((tokens[:, 1:] != BOS).all(), "BOS stands at position 0 only")
    for row in tokens[:, 1:].tolist():
        different = len(set(row))
        expect(
            different == distinct,
            f"a row must hold {distinct} different tokens besides BOS, got {different}: {row}",
        )
    expect(len(tokens.unique(dim=0)) > 1, "all rows are the same; draw each row separately")


def expect_given_generator(build, *arguments):
    rows = build(*arguments, seeded(9))[0]
    again = build(*arguments, seeded(9))[0]
    expect(torch.equal(rows, again), "two generators with the same seed must give the same rows")
    generator = seeded(9)
    first, second = build(*arguments, generator)[0], build(*arguments, generator)[0]
    same = torch.equal(first, second)
    expect(not same, "two calls drew the same rows: use the generator that is given")


@checks("partial_repeat_tokens", mistakes=PARTIAL_MISTAKES)
def test_partial_repeat(partial_repeat_tokens):
    for length, (start, stop), gap in ((9, (2, 6), 3), (7, (3, 7), 0), (5, (0, 3), 4)):
        tokens, predictable = partial_repeat_tokens(length, (start, stop), gap, 8, V, seeded(6))
        expect_rows(tokens, 1 + length + gap + stop - start, 8, length + gap)
        again, first = tokens[:, 1 + length + gap :], tokens[:, 1 + start : 1 + stop]
        expect(
            torch.equal(again, first),
            f"the row must end in tokens {start} to {stop - 1} of the sentence (BOS apart)",
        )
        expect(
            predictable.dtype == torch.bool, f"predictable must be bool, not {predictable.dtype}"
        )
        truth = predictable_by_loops(tokens).double()
        expect_close(
            predictable.double(),
            truth,
            "batch pos",
            "predictable: read before, and followed by the same token",
        )
    expect_given_generator(partial_repeat_tokens, 7, (1, 4), 2, 8, V)


@checks("partial_repeat_tokens", mistakes={"part is not checked": partial})
def test_partial_repeat_refuses_an_impossible_part(partial_repeat_tokens):
    for part in ((3, 3), (-1, 2), (2, 8)):
        expect_value_error(
            partial_repeat_tokens, (7, part, 2, 4, V, seeded()), f"part {part} of 7 tokens"
        )


@checks("distractor_tokens", mistakes=DISTRACTOR_MISTAKES)
def test_distractors(distractor_tokens):
    for followers, gap in (("BC", 2), ("CBBC", 1), ("BBB", 3)):
        kinds = list(dict.fromkeys(followers))
        tokens, candidates = distractor_tokens(followers, gap, 8, V, seeded(7))
        expect_rows(
            tokens, 2 + len(followers) * (2 + gap), 8, 1 + len(kinds) + gap * len(followers)
        )
        shape = list(candidates.shape)
        expect(
            shape == [8, len(kinds)],
            f'"{followers}": expected candidates [8, {len(kinds)}], got {shape}',
        )
        turns = tokens[:, 1:-1].unflatten(1, (len(followers), 2 + gap))  # batch turn place
        asked = turns[:, :, 0] == tokens[:, -1:]
        expect(asked.all(), f'"{followers}", gap {gap}: A must begin every turn and end the row')
        for turn, letter in enumerate(followers):
            kind = kinds.index(letter)
            right = turns[:, turn, 1] == candidates[:, kind]
            expect(
                right.all(),
                f'"{followers}": the follower in turn {turn} must be candidate {kind}, {letter}',
            )
    expect_given_generator(distractor_tokens, "BC", 2, 8, V)


WRONG_ORDER = [label for label in DISTRACTOR_MISTAKES if "order" in label or "every turn" in label]


@checks("distractor_tokens", mistakes={label: DISTRACTOR_MISTAKES[label] for label in WRONG_ORDER})
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


@checks("distractor_tokens", mistakes={"no follower at all was not refused": distract})
def test_distractors_need_a_follower(distractor_tokens):
    expect_value_error(distractor_tokens, ("", 2, 4, V, seeded()), 'followers ""')
