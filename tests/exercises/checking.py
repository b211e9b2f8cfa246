"""What every check is made of. A check is a function of the function under test:

    @checks("attention_pattern", mistakes={"the scores were not divided by sqrt(d_head)": no_scale})
    def test_definition(attention_pattern):
        got, truth = attention_pattern(q, k), by_loops(q, k)
        expect_close(got, truth, "batch head query key", "softmax over the keys")

pytest runs it twice. [solutions]: the reference must pass; each mistake, put in its place, must be
refused, and give other results than the truth and than every other mistake. [exercises]: the
learner's function; skipped while it is not attempted. An exercise gets one message, of its first
failure: the property, the place, what was expected, the likely mistake, the file to edit and the
command for a hint; or which of the exercises that it calls is to be fixed first.

What any function owes (types, generators, arguments and the model left alone, ...) no check has to
ask for: guarded.py and promises.py do, by name.
"""

import inspect
import math
import re
import types
import typing
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import pytest
import torch
from torch import Tensor

from exercises import stubs
from exercises.attempts import Wrong, describe, load_function, own_line
from exercises.limits import OutOfTime, restored_state, time_limit
from tests.exercises.cases import expect_error
from tests.exercises.diagnosis import (
    Outcomes,
    apart,
    checks_of,
    exercises_called,
    likely_mistake,
    solution,
)
from tests.exercises.differences import shape_difference
from tests.exercises.given import in_words
from tests.exercises.guarded import Call, Guarded, Promise
from tests.exercises.promises import expect_promises

LONGEST = 400  # characters of a message's first line: a tensor in it must not bury the rest
FAILED: dict[tuple[str, str], bytes] = {}  # (chapter, exercise) -> the text that failed a check


def checks(name: str, mistakes: dict[str, Callable] | None = None, changes: tuple[str, ...] = ()):
    """Mark a function as a check of the exercise `name`.

    mistakes: what people get wrong -> the function they write. changes: the arguments that the
    function is asked to change; all others it has to leave as they are.
    """

    def decorate(check):
        check.chapter = Path(check.__code__.co_filename).stem.removeprefix("test_")
        check.exercise, check.mistakes, check.changes = name, mistakes or {}, changes
        runs = {"solutions": run_on_solution, "exercises": run_on_attempt}

        @pytest.mark.parametrize("side", list(runs))
        def test(side):
            runs[side](check)

        test.__name__, test.__doc__ = check.__name__, check.__doc__
        test.__module__ = check.__module__
        test.exercise, test.mistakes, test.check = name, mistakes or {}, check
        return test

    return decorate


def watched(function: Callable, check: Callable, path: Path) -> Guarded:
    """The function under test, with what this exercise asks of any function."""
    reference = getattr(solution(check.chapter), check.exercise)
    returns = typing.get_type_hints(reference).get("return", typing.Any)
    return Guarded(function, path, check.changes, returns)


def verdict(check: Callable, guarded: Guarded, reference: Callable | None = None) -> Wrong | None:
    """Run one check; what it found wrong, or None. reference: tells what can be promised."""
    try:
        with restored_state(), time_limit():
            check(guarded)
            if reference:
                expect_promises(guarded, reference)
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
        return Wrong(unexpected(guarded, reference))
    return None


def unexpected(guarded: Guarded, reference: Callable | None) -> str:
    """What to say of a result that a check cannot even look at: what the docstring promises."""
    returned = in_words(guarded.calls[-1].result) if guarded.calls else "nothing"
    docstring = " ".join((inspect.getdoc(reference or guarded.function) or "").split())
    promise = re.search(r"-> (.+?)(?:[.;] |[.;]$|$)", docstring)
    asked = f"asks for: {promise[1]}" if promise else "asks for something else"
    return f"it returned {returned}; its docstring {asked}"


def run_on_solution(check: Callable) -> None:
    name, path = check.exercise, stubs.solution_path(check.chapter)
    reference = getattr(solution(check.chapter), name)
    guarded = watched(reference, check, path)
    wrong = verdict(check, guarded, reference)
    if wrong:
        pytest.fail(f"the reference answer to {name} fails its own check: {wrong}", pytrace=False)
    by_results = {}
    for label, mistake in check.mistakes.items():
        noticed = verdict(check, watched(mistake, check, path), reference)
        assert noticed, f"{name}: this check does not notice the mistake '{label}'"
        if not isinstance(noticed, Promise):
            by_results[label] = mistake
    alike = not_told_apart(by_results, reference, guarded.calls)
    assert not alike, f"{name}: on these data two answers give the same: {' / '.join(alike)}"


def not_told_apart(
    mistakes: dict[str, Callable], reference: Callable, calls: list[Call]
) -> tuple[str, str] | None:
    """The first two of the truth and the mistakes that give the same on all calls of a check, so
    that a learner could be told the wrong one; None if there are none.
    """
    truth = Outcomes(reference, [call for call in calls if call.returned])
    every = {"the truth": truth}
    every |= {label: Outcomes(function) for label, function in mistakes.items()}
    for (label, mine), (other, theirs) in combinations(every.items(), 2):
        if not apart(mine, theirs, calls, truth):
            return label, other
    return None


def run_on_attempt(check: Callable) -> None:
    path, key = stubs.exercise_path(check.chapter), (check.chapter, check.exercise)
    try:
        if check.exercise not in stubs.attempted(check.chapter):
            pytest.skip("not attempted yet")  # what lets a fresh clone pass
    except SyntaxError:
        pass  # the failure will say so
    text = path.read_bytes() if path.is_file() else b""
    if FAILED.get(key) == text:  # the exercise fails; another check would say what follows from it
        pytest.skip("its first failure is said already")
    found = failure(check, *key, check.mistakes, path)
    if found:
        FAILED[key] = text
        pytest.fail(found, pytrace=False)


def failure(
    check: Callable, chapter: str, name: str, mistakes: dict[str, Callable], path: Path
) -> str | None:
    """What a check says of the function `name` in the learner's file `path`; None if it passes."""
    function, likely = None, None
    try:
        function = load_function(path, name)
        reference = getattr(solution(chapter), name)
        wrong = verdict(check, watched(function, check, path), reference)
    except Wrong as error:
        wrong = error
    if wrong is None:
        return None
    part = wrong_part(function, chapter, path) if function else None
    if part:
        return to_fix_first(name, part, chapter)
    # an exception has a line of its own to look at, a broken promise says what was done
    if function and not wrong.line and not isinstance(wrong, Promise):
        likely = likely_mistake(function, check)
    return message(name, chapter, wrong, likely, path)


def wrong_part(
    function: Callable, chapter: str, path: Path, seen: tuple[str, ...] = ()
) -> str | None:
    """The first exercise that this function calls and that is wrong itself, if there is one.

    seen: those that are known to be wrong; two that call each other must not be tried for ever.
    """
    if not isinstance(function, types.FunctionType):
        return None
    tried = stubs.attempted(chapter) if path == stubs.exercise_path(chapter) else None
    for name in exercises_called(function, chapter):
        if name not in seen and (tried is None or name in tried):
            try:
                called = load_function(path, name)
            except Wrong:
                return name
            for test in checks_of(chapter, name):
                reference = getattr(solution(chapter), name)
                if verdict(test.check, watched(called, test.check, path), reference):
                    return wrong_part(called, chapter, path, (*seen, name)) or name
    return None


def to_fix_first(name: str, part: str, chapter: str) -> str:
    lines = [
        f"{name}: fix {part} first: {name} calls it, and it is not right yet",
        f"  edit:      exercises/{chapter}.py",
        f"  hint:      python -m exercises hint {part}",
    ]
    return "\n".join(lines)


def message(name: str, chapter: str, wrong: Wrong, likely: str | None, path: Path) -> str:
    where = f"exercises/{chapter}.py" + (f", line {wrong.line}" if wrong.line else "")
    first, *others = f"{name}: {wrong}".splitlines()
    lines = [first if len(first) <= LONGEST else first[:LONGEST] + " ..."]
    lines += [line for line in others if line.startswith(("  where:", "  it wants:"))]
    if wrong.line:
        text = stubs.source(path).splitlines()
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
    expect_error(function, arguments, ValueError, sentence, called="a ValueError")


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
    sizes = f"[{', '.join(names)}] = {shape}, got {found}{shape_difference(names, shape, found)}"
    expect(shape == found, f"{why}: expected the shape {sizes}")
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
