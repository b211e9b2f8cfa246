"""Checks of chapter 18."""

import functools

import torch

from exercises import stubs
from minitransformer import Transformer
from solutions.ch18_blind_models import BETWEEN, NO_IDEA, NO_IDEA_BELOW, Change, Route
from tests.exercises.cases import in_case
from tests.exercises.checking import checks, expect, expect_close, expect_value_error
from tests.exercises.guarded import Promise
from tests.exercises.oracles.ch18_answers import (
    ANSWER_MISTAKES,
    AT_THRESHOLD,
    at_threshold,
    one_by_one,
)
from tests.exercises.oracles.ch18_exam import Exam
from tests.exercises.oracles.ch18_models import blind_model_of, kinds_in_order, own_model
from tests.exercises.oracles.ch18_route_mistakes import ROUTE_MISTAKES
from tests.exercises.oracles.ch18_routes import still_open
from tests.exercises.oracles.ch18_runs import RUN_MISTAKES, accepts_anything, by_streams
from tests.exercises.oracles.ch18_stories import STORIES
from tests.material import seeded, small_model

CHAPTER = "ch18_blind_models"


# What a model answers


@checks("sure_answers", mistakes=ANSWER_MISTAKES)
def test_answers_are_what_the_model_is_sure_of(sure_answers):
    """Sharpened by little and by much, so that all three cases occur."""
    logits = (
        torch.randn(5, 7, 11, generator=seeded(1)) * torch.tensor([1.0, 2, 3, 4, 6, 8, 12])[:, None]
    )
    truth = one_by_one(logits)
    for each in (NO_IDEA, BETWEEN):
        assert (truth == each).sum() > 2
    assert (truth >= 0).sum() > 5
    got = sure_answers(logits)
    expect_close(
        got, truth, "batch pos", f"the answer, or NO_IDEA ({NO_IDEA}), BETWEEN ({BETWEEN})"
    )
    got = sure_answers(logits + 5 * torch.randn(5, 7, 1, generator=seeded(2)))
    expect_close(
        got, truth, "batch pos", "all logits of a position moved by the same: nothing changes"
    )


@checks("sure_answers", mistakes=AT_THRESHOLD)
def test_exactly_at_a_threshold(sure_answers):
    logits = at_threshold()
    why = f"a largest probability of exactly {NO_IDEA_BELOW}: no idea ({NO_IDEA})"
    expect_close(sure_answers(logits), one_by_one(logits), "batch pos", why)


# Changed runs


def loud(seed: int, **config) -> Transformer:
    """A small model whose heads write a lot, so that every edge matters."""
    model = small_model(seed, n_heads=2, d_vocab=7, **config)
    with torch.no_grad():
        for weights in (model.W_Q, model.W_K, model.W_V, model.W_O):
            weights *= 2.5
    return model


IN_STREAM = {"positional_embedding_type": "standard"}
CUT = ("embed>0.1.q", "0.0>1.0.v", "pos>1.1.k", "0.1>1.1.q", "1.0>logits")
CHANGES = {
    "nothing": Change(),
    "0.1 writes 0": Change(zero=("0.1",)),
    "0.0 writes its mean": Change(mean=("0.0",)),
    "cut 0.1>1.0.k": Change(cut=("0.1>1.0.k",)),
    "cut pos>0.0.q": Change(cut=("pos>0.0.q",)),
    "cut 0.0>logits": Change(cut=("0.0>logits",)),
    "five edges cut": Change(cut=CUT),
    "heads and edges at once": Change(zero=("1.1",), mean=("0.1",), cut=CUT[:3]),
    "0.0 writes 0, and its edge is cut": Change(zero=("0.0",), cut=("0.0>1.1.k", "0.0>1.0.q")),
}
TOKENS = torch.randint(7, (3, 8), generator=seeded(4))
MODELS = [
    (loud(1, n_layers=3, **IN_STREAM), "three layers, positions in the stream"),
    (loud(2), "two"),
]


@checks("run_changed", mistakes=RUN_MISTAKES)
def test_every_receiver_reads_its_own_stream(run_changed):
    """All results first, so that a mistake is told by all of them."""
    cases = [(model, size, name) for model, size in MODELS for name in CHANGES]
    got = [run_changed(model, TOKENS, CHANGES[name]) for model, _, name in cases]
    for (model, size, name), logits in zip(cases, got):
        truth = by_streams(model, TOKENS, CHANGES[name])
        why = f"{size} layers, {name}" if size == "two" else f"{size}, {name}"
        expect_close(logits, truth, "batch pos vocab", why)


@checks(
    "run_changed", mistakes={"names that the model does not have were accepted": accepts_anything}
)
def test_unknown_names_are_refused(run_changed):
    model, _ = MODELS[1]
    got = run_changed(model, TOKENS, Change(zero=("1.1",)))
    expect_close(
        got, by_streams(model, TOKENS, Change(zero=("1.1",))), "batch pos vocab", "1.1 at 0"
    )
    for change in (Change(zero=("1.2",)), Change(mean=("2.0",)), Change(cut=("1.0>0.1.q",))):
        expect_value_error(run_changed, (model, TOKENS, change), f"{change}: no such head or edge")
    change = Change(cut=("pos>1.0.v",))
    why = "positions are not in the stream here, so no value hears them: no edge pos>1.0.v"
    expect_value_error(run_changed, (model, TOKENS, change), why)


# Routes


def answers(tokens):
    return tokens[-1]


SEARCH = ("pos>0.1.q", "embed>0.1.v", "0.1>1.0.k", "embed>1.0.v", "1.0>2.1.q", "embed>2.1.v")
ONE = Route(answers, (*SEARCH, "2.1>logits"))
TWO = Route(answers, ("embed>0.2.k", "0.2>1.1.v", "1.1>2.2.q", "2.2>logits"), unless="2.1>3.0.q")
THREE = Route(answers, ("pos>0.1.v", "0.1>2.0.v", "2.0>logits"))
FOUR = Route(answers, ("embed>3.1.v", "3.1>logits"), unless="1.0>3.1.q")
EVERY_EDGE = tuple(dict.fromkeys(edge for route in (ONE, TWO, THREE, FOUR) for edge in route.edges))
HEADS = ("0.1", "0.2", "1.0", "1.1", "2.0", "2.1", "2.2")
WHAT_IF = [Change(), *[Change(cut=(edge,)) for edge in EVERY_EDGE]]
WHAT_IF += [Change(zero=(head,)) for head in HEADS] + [Change(mean=(head,)) for head in HEADS]
WHAT_IF += [Change(cut=("2.1>3.0.q",)), Change(zero=("2.1",), cut=("2.1>3.0.q",))]
WHAT_IF += [Change(zero=("0.2",), mean=("2.1",)), Change(mean=("1.0",), cut=("0.1>1.0.k",))]
WHAT_IF += [Change(mean=("2.1",), cut=("1.0>2.1.q",)), Change(zero=("0.1",), mean=("2.1",))]
WHAT_IF += [Change(zero=("1.0",), cut=("embed>0.2.k",)), Change(zero=("1.0", "2.0"))]
CLAIMS = [[ONE, TWO], [TWO, THREE, ONE], [FOUR, TWO, THREE], []]


@checks("open_routes", mistakes=ROUTE_MISTAKES)
def test_open_routes_are_those_that_no_damage_reaches(open_routes):
    names = {id(route): name for route, name in zip((ONE, TWO, THREE, FOUR), ("1", "2", "3", "4"))}
    cases = [(claim, change) for claim in CLAIMS for change in WHAT_IF]
    got = [open_routes(claim, change) for claim, change in cases]
    for (claim, change), found in zip(cases, got):
        truth = [claim[number] for number in still_open(claim, change)]
        if found != truth:
            routes = "\n".join(
                f"  where:     route {names[id(route)]}: {plainly(route)}" for route in claim
            )
            pair = [[names.get(id(route), "?") for route in some] for some in (truth, found)]
            expect(
                False, f"{plainly(change)}: open are the routes {pair[0]}, got {pair[1]}\n{routes}"
            )


def plainly(what) -> str:
    """A change or a route, without the parts that are empty."""
    parts = {name: x for name, x in what._asdict().items() if x and name != "answer"}
    return ", ".join(f"{name} {x}" for name, x in parts.items()) or "no change"


# The eight models. The checks of the reference draw theirs from a seed; a learner's are their own.

SEED = 3


@functools.cache
def model_from_seed(letter: str) -> Transformer:
    number = "ABCDEFGH".index(letter)
    return blind_model_of(kinds_in_order(SEED)[number], 100 * SEED + number)


@functools.cache
def exam_of(letter: str, own: bool) -> Exam:
    return Exam(own_model(letter) if own else model_from_seed(letter), seed=18)


def stories(letter: str) -> dict:
    """The easy claims, without one that is true."""
    number = "ABCDEFGH".index(letter)
    true = "nothing matters" if kinds_in_order(SEED)[number].__name__ == "nothing" else ""
    return {name: story for name, story in STORIES.items() if name != true}


def examined(function, letter: str) -> None:
    """The claim that the learner's function makes about their model of this letter must hold."""
    exam = exam_of(letter, own=function.path == stubs.ROOT / "exercises" / f"{CHAPTER}.py")
    claim = function(exam.model)
    function.look(lambda claim: [(route.edges, route.unless) for route in claim])
    report = in_case("its claim", lambda: exam.report(claim)) if claim else exam.report(claim)
    if report:
        raise Promise(report)


@checks("claim_a", mistakes=stories("A"))
def test_model_a(claim_a):
    examined(claim_a, "A")


@checks("claim_b", mistakes=stories("B"))
def test_model_b(claim_b):
    examined(claim_b, "B")


@checks("claim_c", mistakes=stories("C"))
def test_model_c(claim_c):
    examined(claim_c, "C")


@checks("claim_d", mistakes=stories("D"))
def test_model_d(claim_d):
    examined(claim_d, "D")


@checks("claim_e", mistakes=stories("E"))
def test_model_e(claim_e):
    examined(claim_e, "E")


@checks("claim_f", mistakes=stories("F"))
def test_model_f(claim_f):
    examined(claim_f, "F")


@checks("claim_g", mistakes=stories("G"))
def test_model_g(claim_g):
    examined(claim_g, "G")


@checks("claim_h", mistakes=stories("H"))
def test_model_h(claim_h):
    examined(claim_h, "H")
