"""What every check is made of. A check is a function of the function under test:

    @checks("attention_pattern", mistakes={"the scores were not divided by sqrt(d_head)": no_scale})
    def test_definition(attention_pattern):
        got, truth = attention_pattern(q, k), by_loops(q, k)
        expect_close(got, truth, "batch head query key", "softmax over the keys")

pytest runs it twice. [solutions]: the reference must pass, and each mistake, put in its place, must
be refused and be recognised by name. [exercises]: the learner's function; skipped while it is not
attempted; a failure is one message that says the property, the place, what was expected, the likely
mistake, the file to edit and the command for a hint.
"""

import functools
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from exercises import stubs
from exercises.attempts import Wrong, describe, load_file, load_function, own_line
from exercises.limits import OutOfTime, restored_state, time_limit
from tests.exercises.guarded import Guarded

LONGEST = 400  # characters of a message's first line: a tensor in it must not bury the rest


def checks(name: str, mistakes: dict[str, Callable] | None = None):
    """Mark a function as a check of the exercise `name`.

    mistakes: what people get wrong -> the function they write.
    """

    def decorate(check):
        chapter = Path(check.__code__.co_filename).stem.removeprefix("test_")
        runs = {"solutions": run_on_solution, "exercises": run_on_attempt}

        @pytest.mark.parametrize("side", list(runs))
        def test(side):
            runs[side](check, chapter, name, mistakes or {})

        test.__name__, test.__doc__ = check.__name__, check.__doc__
        test.__module__ = check.__module__
        test.exercise, test.mistakes, test.check = name, mistakes or {}, check
        return test

    return decorate


def verdict(check: Callable, guarded: Guarded) -> Wrong | None:
    """Run one check; what it found wrong, or None."""
    try:
        with restored_state(), time_limit():
            check(guarded)
    except Wrong as wrong:
        return wrong
    except OutOfTime as error:
        return Wrong(str(error), own_line(error, guarded.path))
    except Exception as error:
        line = own_line(error, guarded.path)
        if line:
            return Wrong(describe(error), line)
        if isinstance(error, AssertionError):
            raise  # a bare assert speaks about the check itself, not about the function under test
        returned = f"{kind_of(guarded)} ({describe(error)})"
        return Wrong(f"the check could not use what it returned, {returned}")
    return None


def kind_of(guarded: Guarded) -> str:
    """What the function under test returned last, in a word or two."""
    if not guarded.calls:
        return "nothing"
    _, last = guarded.calls[-1]
    return f"Tensor {list(last.shape)}" if isinstance(last, Tensor) else type(last).__name__


@functools.cache
def solution(chapter: str):
    return load_file(stubs.solution_path(chapter))


def run_on_solution(
    check: Callable, chapter: str, name: str, mistakes: dict[str, Callable]
) -> None:
    path = stubs.solution_path(chapter)
    wrong = verdict(check, Guarded(getattr(solution(chapter), name), path))
    if wrong:
        pytest.fail(f"the reference answer to {name} fails its own check: {wrong}", pytrace=False)
    for label, mistake in mistakes.items():
        guarded = Guarded(mistake, path)
        assert verdict(check, guarded), f"{name}: this check does not notice the mistake '{label}'"
        named = [other for other, function in mistakes.items() if guarded.behaves_like(function)]
        assert named in ([], [label]), f"{name}: these mistakes cannot be told apart: {named}"


def run_on_attempt(check: Callable, chapter: str, name: str, mistakes: dict[str, Callable]) -> None:
    path = stubs.exercise_path(chapter)
    try:
        if name not in stubs.attempted(chapter):
            pytest.skip("not attempted yet")
    except SyntaxError:
        pass  # the failure will say so
    found = failure(check, chapter, name, mistakes, path)
    if found:
        pytest.fail(found, pytrace=False)


def failure(
    check: Callable, chapter: str, name: str, mistakes: dict[str, Callable], path: Path
) -> str | None:
    """What a check says of the function `name` in the learner's file `path`; None if it passes."""
    guarded = likely = None
    try:
        guarded = Guarded(load_function(path, name), path)
        wrong = verdict(check, guarded)
    except Wrong as error:
        wrong = error
    if wrong is None:
        return None
    if guarded and not wrong.line:  # an exception has a line of its own to look at
        likely = likely_mistake(guarded, getattr(solution(chapter), name), mistakes)
    return message(name, chapter, wrong, likely, path)


def likely_mistake(
    guarded: Guarded, reference: Callable, mistakes: dict[str, Callable]
) -> str | None:
    """The mistake that gives the same results; None if right so far, or like no mistake."""
    if guarded.behaves_like(reference):
        return None
    for label, function in mistakes.items():
        if guarded.behaves_like(function):
            return label
    return None


def message(name: str, chapter: str, wrong: Wrong, likely: str | None, path: Path) -> str:
    where = f"exercises/{chapter}.py" + (f", line {wrong.line}" if wrong.line else "")
    first, *others = f"{name}: {wrong}".splitlines()
    lines = [first if len(first) <= LONGEST else first[:LONGEST] + " ..."]
    lines += [line for line in others if line.startswith("  where:")]
    if wrong.line:
        text = path.read_text(encoding="utf-8").splitlines()
        lines.append(f"  your line: {text[wrong.line - 1].strip()}")
    if likely:
        lines.append(f"  likely:    {likely}")
    lines.append(f"  edit:      {where}")
    lines.append(f"  hint:      python -m exercises hint {name}")
    return "\n".join(lines)


def expect(condition, sentence: str) -> None:
    """Raise Wrong with this sentence unless the condition holds."""
    if not condition:
        raise Wrong(sentence)


def expect_value_error(function: Guarded, arguments: tuple, sentence: str) -> None:
    """The call must raise ValueError, and no other error, whatever its words."""
    try:
        function.function(*arguments)  # the function itself, so that the exception arrives here
    except ValueError:
        return
    except Exception as error:
        line = own_line(error, function.path)
        raise Wrong(f"{sentence}: expected a ValueError, got {describe(error)}", line) from None
    raise Wrong(f"{sentence}: expected a ValueError, nothing was raised")


def expect_close(got, truth, axes: str, why: str, tolerance: float = 1e-6) -> None:
    """`got` must equal `truth` (a tensor or a number).

    axes: the name of each axis. why: the property in a few words.
    """
    truth = torch.as_tensor(truth, dtype=torch.float64 if isinstance(truth, float) else None)
    if not isinstance(got, Tensor):
        is_number = isinstance(got, int | float) and truth.ndim == 0
        expect(is_number, f"{why}: expected a tensor, got {type(got).__name__}")
        got = torch.as_tensor(got, dtype=truth.dtype)
    names, shape, found = axes.split(), list(truth.shape), list(got.shape)
    expect(shape == found, f"{why}: expected the shape [{', '.join(names)}] = {shape}, got {found}")
    of_one_kind = got.is_floating_point() == truth.is_floating_point()
    expect(of_one_kind, f"{why}: expected numbers of type {truth.dtype}, got {got.dtype}")
    off = distance(got.detach().double(), truth.detach().double())
    if truth.numel() and off.max() > tolerance:
        spot = place_of_largest(off)
        where = ", ".join(f"{axis} {i}" for axis, i in zip(names, spot)) or "the value"
        pair = f"expected {truth[spot].item():.6g}, got {got[spot].item():.6g}"
        raise Wrong(f"{why}\n  where:     {where}: {pair}")


def distance(got: Tensor, truth: Tensor) -> Tensor:
    """How far each entry is off, relative to 1 + |truth|; nan is where only nan is right."""
    difference = (got - truth).abs().nan_to_num(torch.inf, torch.inf)
    difference = torch.where(got.isnan() & truth.isnan(), 0.0, difference)
    return difference / (1 + truth.abs().nan_to_num(0.0, 0.0, 0.0))


def place_of_largest(x: Tensor) -> tuple[int, ...]:
    """The index of the largest entry. (torch.unravel_index would import sympy, for seconds.)"""
    place, left = [], int(x.argmax())
    for axis, size in enumerate(x.shape):
        place.append(left // math.prod(x.shape[axis + 1 :]) % size)
    return tuple(place)
