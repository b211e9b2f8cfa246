"""What holds for every check: promises of any function, the likely mistake, what to fix first."""

import sys
import types
from pathlib import Path

import pytest
import torch

from exercises import stubs
from exercises.attempts import Wrong, load_file
from tests.exercises import checking, diagnosis, human
from tests.exercises.guarded import Guarded, Promise
from tests.exercises.promises import expect_promises
from tests.material import seeded, small_model

HERE = Path(__file__)
MODEL = small_model(d_vocab=7)
TOKENS = torch.tensor([[0, 1, 2], [0, 3, 4], [0, 5, 6]])


def said(function, *args, returns=torch.Tensor) -> str:
    """What the watch over a call says."""
    with pytest.raises(Promise) as caught:
        Guarded(function, HERE, returns=returns)(*args)
    return str(caught.value)


# What a call leaves changed


def test_a_changed_model_is_said_and_put_back():
    def adds_one(model):
        model.W_U.data += 1
        return torch.zeros(1)

    before = MODEL.W_U.clone()
    assert "it changed the model" in said(adds_one, MODEL)
    assert torch.equal(MODEL.W_U, before)


@pytest.mark.parametrize("wrap", [lambda x: x, lambda x: [x], lambda x: {"a": (x, 1)}])
def test_a_changed_argument_is_said_and_put_back(wrap):
    def edits(value):
        inner.mul_(2)
        return torch.zeros(1)

    inner = torch.arange(3.0)
    assert "changed one of its arguments in place: value" in said(edits, wrap(inner))
    assert torch.equal(inner, torch.arange(3.0))


def test_a_dict_that_gains_a_key_is_put_back():
    def adds_a_key(cache):
        cache["new"] = 1
        return torch.zeros(1)

    cache = {"old": torch.ones(2)}
    assert "in place: cache" in said(adds_a_key, cache) and list(cache) == ["old"]


LEFT = {
    "random numbers of torch": lambda: torch.rand(1),
    "random numbers of numpy": lambda: __import__("numpy").random.rand(),
    "random numbers of Python": lambda: __import__("random").random(),
    "gradients switched off": lambda: torch.set_grad_enabled(False),
    "default type": lambda: torch.set_default_dtype(torch.float64),
}


@pytest.mark.parametrize("sentence", LEFT)
def test_what_is_left_of_a_call_is_said_and_set_back(sentence):
    state = torch.get_rng_state()
    assert sentence in said(lambda: [LEFT[sentence](), torch.zeros(1)][1])
    assert torch.equal(state, torch.get_rng_state()) and torch.is_grad_enabled()
    assert torch.get_default_dtype() == torch.float32


# Types

Pair = list[tuple[int, int]]
MISFITS = [
    (torch.tensor(1.0), float, "expected a float, got a tensor [] (x.item()"),
    (1.5, torch.Tensor, "expected a tensor, got 1.5"),
    (True, int, "expected a whole number, got True"),
    ([(1, 2), (1, 2, 3)], Pair, "expected a list that holds a tuple of 2, got a tuple of 3"),
    ([(1, 2.0)], Pair, "a tuple that holds a whole number, got 2.0"),
    ({"a": 1}, dict[str, float | str], None),
    ({"a": torch.ones(2)}, dict[str, float], "a dict that holds a float, got a tensor [2]"),
    ((1, 2.0), list, "expected a list, got a tuple of 2"),
]


@pytest.mark.parametrize("value, wanted, sentence", MISFITS)
def test_a_result_has_the_type_that_is_written(value, wanted, sentence):
    if sentence:
        assert sentence in said(lambda: value, returns=wanted)
    else:
        assert Guarded(lambda: value, HERE, returns=wanted)() == value


# Generators, repetition, a batch of one


def draws(n: int, generator: torch.Generator) -> torch.Tensor:
    return torch.rand(n, generator=generator)


def shifts(x: torch.Tensor) -> torch.Tensor:
    """x [batch, pos] -> [batch, pos]."""
    return x + 1


def broken_promise(function, reference, *args) -> str:
    guarded = Guarded(function, HERE)
    guarded(*args)
    with pytest.raises(Promise) as caught:
        expect_promises(guarded, reference)
    return str(caught.value)


def test_a_generator_is_used():
    kept = seeded(8)
    for function, sentence in {
        lambda n, generator: torch.rand(n, generator=seeded(1)): "another seed gets the same",
        lambda n, generator: torch.rand(n, generator=generator.clone_state()): "two calls in a row",
        lambda n, generator: torch.rand(n, generator=kept): "got two answers",
    }.items():
        assert sentence in broken_promise(function, draws, 3, seeded())
    guarded = Guarded(draws, HERE)
    guarded(3, seeded())
    expect_promises(guarded, draws)


def test_a_batch_of_one_keeps_its_axes():
    def squeezes(x):
        return (x + 1).squeeze()

    sentence = "with a batch of one: got a tensor [3], and a tensor [3, 3] with 3; does a squeeze()"
    assert sentence in broken_promise(squeezes, shifts, TOKENS)


def test_a_batch_of_one_is_promised_only_where_the_reference_keeps_its_axes():
    def tokens_that_are_new(x):
        """x [batch, pos] -> [new]."""
        return x.unique()

    guarded = Guarded(tokens_that_are_new, HERE)
    guarded(TOKENS)
    expect_promises(guarded, tokens_that_are_new)


# The likely mistake


def planted_check(monkeypatch, body, mistakes: dict):
    """A check of a one-line exercise `twice`, in a chapter of its own."""
    reference = types.SimpleNamespace(twice=lambda n: 2 * n)
    monkeypatch.setattr(diagnosis, "solution", lambda chapter: reference)
    monkeypatch.setattr(checking, "solution", lambda chapter: reference)
    name = f"{diagnosis.ORACLES.rpartition('.')[0]}.test_planted"
    test = checking.checks("twice", mistakes)(body)
    test.check.chapter = "planted"
    monkeypatch.setitem(sys.modules, name, types.SimpleNamespace(test=test))
    monkeypatch.setattr(diagnosis, "drawn_again", lambda chapter: {})
    monkeypatch.setattr(diagnosis, "calls_drawn_again", diagnosis.calls_of)
    return test.check


def test_a_mistake_is_likely_only_if_it_is_the_same_on_every_call(monkeypatch):
    def check(twice):
        checking.expect(twice(2) == 4 and twice(3) == 6 and twice(5) == 10, "wrong")

    mistakes = {"squared": lambda n: n**2, "one more": lambda n: n + 1, "stops": lambda n: 1 // 0}
    check = planted_check(monkeypatch, check, mistakes)
    assert diagnosis.likely_mistake(lambda n: n * n, check) == "squared"
    assert diagnosis.likely_mistake(lambda n: n**2 if n < 5 else 10, check) is None  # not at 5
    assert diagnosis.likely_mistake(lambda n: 2 * n, check) is None
    assert diagnosis.likely_mistake(lambda n: n + 1 if n < 5 else 1 // 0, check) is None
    assert diagnosis.likely_mistake(lambda n: 1 // 0, check) is None


def test_mistakes_that_give_the_same_are_not_told_apart():
    guarded = Guarded(lambda n: 2 * n, HERE)
    guarded(2)
    answers = {"squared": lambda n: n**2, "stops": lambda n: 1 // 0}
    for label, answer in answers.items():  # that another raises an error is no difference
        alike = checking.not_told_apart({label: answer}, guarded.function, guarded.calls)
        assert alike == ("the truth", label)
    guarded(3)
    assert not checking.not_told_apart({"squared": answers["squared"]}, guarded, guarded.calls)


@pytest.mark.parametrize("chapter", stubs.chapters())
def test_every_chapter_can_draw_its_data_again(chapter):
    names = {(test.exercise, test.check.__name__) for test in human.checks_of(chapter)}
    again = diagnosis.drawn_again(chapter)
    assert names == again.keys()
    assert all([diagnosis.calls_of(check) for check in again.values()])


# Parts that an exercise rests on, functions that are given

FILE = '''
import torch


def given(rows):
    """rows [batch, pos] -> their sum."""
    return rows.sum(dim=1)


class Given:
    def __init__(self):
        raise ValueError


def mine(x):
    return given(x[0])


def other():
    return Given()
'''


def test_an_error_in_a_given_function_says_what_it_wanted(tmp_path, monkeypatch):
    monkeypatch.setattr("tests.exercises.given.given_names", lambda chapter: {"given", "Given"})
    path = tmp_path / "file.py"
    path.write_text(FILE, encoding="utf-8")
    module = load_file(path)
    with pytest.raises(Wrong) as caught:
        Guarded(module.mine, path)(torch.ones(2, 3))
    assert "(in given, which is given)" in str(caught.value)
    assert "it wants:  rows [batch, pos]; it got a tensor [3]" in str(caught.value)
    assert caught.value.line == FILE.splitlines().index("    return given(x[0])") + 1
    with pytest.raises(Wrong) as caught:
        Guarded(module.other, path)()
    assert caught.value.line == FILE.splitlines().index("    return Given()") + 1


def test_the_part_that_is_wrong_itself_is_to_be_fixed_first(tmp_path):
    chapter = "ch11_patching"
    path = tmp_path / f"{chapter}.py"
    every = [answer for answer in human.answers(chapter) if answer.exercise == "patch_cells"]
    wrong = next(answer for answer in every if not answer.right)
    path.write_text(human.written_out(wrong), encoding="utf-8")
    messages = {}
    for test in human.checks_of(chapter):
        if test.exercise in ("patch_cells", "patch_heads", "compare_metrics"):
            found = checking.failure(test.check, chapter, test.exercise, test.mistakes, path)
            messages[test.exercise] = messages.get(test.exercise) or found
    assert "fix" not in messages["patch_cells"] and not messages["compare_metrics"]
    assert messages["patch_heads"].startswith("patch_heads: fix patch_cells first")
