"""Which mistake was made? One is called likely only if it gives the learner's results on every call
of the check, and on every call of the same check with other random data.
"""

import functools
import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from types import CodeType, FunctionType

from exercises import stubs
from exercises.attempts import load_file
from exercises.limits import OutOfTime, restored_state, time_limit
from tests import material
from tests.exercises.differences import plain_difference
from tests.exercises.guarded import Call, Guarded
from tests.exercises.values import same

ALIKE, APART = 1e-5, 1e-4  # relative: what is one result, and what are two
ORACLES = "tests.exercises.oracles"


class Outcomes:
    """What a function gives on each of some calls, computed once: its result, or the error.

    known: calls whose result is there already.
    """

    def __init__(self, function: Callable, known: list[Call] | None = None):
        self.function = function
        # id of a call -> the call, held so that no later one can get its id, and its outcome
        self.found = {id(call): (call, call.result) for call in known or []}

    def __call__(self, call: Call):
        if id(call) not in self.found:
            try:
                outcome = call.made_by(self.function)
            except Exception as error:
                outcome = error
            self.found[id(call)] = call, outcome
        _, outcome = self.found[id(call)]
        return outcome

    def error(self, call: Call) -> str:
        """One of: none; ValueError, which a docstring may ask for; another error."""
        if not isinstance(self(call), Exception):
            return "none"
        return "ValueError" if isinstance(self(call), ValueError) else "another error"


def equal(mine: Outcomes, theirs: Outcomes, calls: list[Call]) -> bool:
    """Do two functions give the same on all of these calls, and a result on at least one?"""
    returned = False
    for call in calls:
        if mine.error(call) != theirs.error(call):
            return False
        if mine.error(call) == "none":
            returned = True
            if not same(mine(call), theirs(call), ALIKE):
                return False
    return returned


def apart(mine: Outcomes, theirs: Outcomes, calls: list[Call], truth: Outcomes) -> bool:
    """Is there a call on which both give a result, and not the same; or, where an error is asked
    for, only one of them raises it?
    """
    for call in calls:
        errors = mine.error(call), theirs.error(call)
        if errors == ("none", "none") and not same(mine(call), theirs(call), APART):
            return True
        if truth.error(call) != "none" and errors[0] != errors[1]:
            return True
    return False


@functools.cache
def outcomes_of(function: Callable) -> Outcomes:
    """Those of a reference or of a listed mistake, which are the same for every learner."""
    return Outcomes(function)


# The calls of a check


@functools.cache
def solution(chapter: str):
    """The chapter's reference answers."""
    return load_file(stubs.solution_path(chapter))


def checks_of(chapter: str, name: str) -> list:
    """The checks of an exercise, in the order of their file."""
    module = importlib.import_module(f"tests.exercises.test_{chapter}")
    return [test for test in vars(module).values() if getattr(test, "exercise", "") == name]


@functools.cache
def calls_of(check: Callable) -> list[Call]:
    """All calls that a check makes, up to its end: those that the reference gets."""
    reference = getattr(solution(check.chapter), check.exercise)
    guarded = Guarded(reference, stubs.solution_path(check.chapter), check.changes)
    try:
        with restored_state():
            check(guarded)
    except Exception:
        pass  # other data may not suit the check; the calls until then will do
    return guarded.calls


@functools.cache
def drawn_again(chapter: str) -> dict[tuple[str, str], Callable]:
    """The checks of a chapter, on other random data: (exercise, name of the check) -> check."""
    name, package = f"tests.exercises.test_{chapter}", importlib.import_module(ORACLES)
    kept = {key: module for key, module in sys.modules.items() if key.startswith(ORACLES + ".")}
    kept |= {key: sys.modules[key] for key in [name] if key in sys.modules}
    attributes = dict(vars(package))
    for key in kept:
        del sys.modules[key]
        package.__dict__.pop(key.removeprefix(ORACLES + "."), None)
    material.shift = 1000
    try:
        with restored_state():
            tests = list(vars(importlib.import_module(name)).values())
    finally:
        material.shift = 0
        sys.modules.update(kept)
        vars(package).update(attributes)
    checks = [test.check for test in tests if hasattr(test, "exercise")]
    return {(check.exercise, check.__name__): check for check in checks}


def calls_drawn_again(check: Callable) -> list[Call]:
    """The calls of the same check on other random data."""
    again = drawn_again(check.chapter).get((check.exercise, check.__name__))
    return calls_of(again) if again else []


# The mistake


def likely_mistake(function: Callable, check: Callable) -> str | None:
    """The mistake that gives the same results, of those that this check lists, then of those that
    the other checks of the exercise list; else the plain way in which the results differ from the
    right ones. None if there is none, or if all that counts is right.
    """
    reference = outcomes_of(getattr(solution(check.chapter), check.exercise))
    mine, here = Outcomes(function), calls_of(check)
    try:
        with restored_state(), time_limit():
            if not here or equal(mine, reference, here):
                return None
            others = [test.check for test in checks_of(check.chapter, check.exercise)]
            for home in dict.fromkeys([check, *others]):
                for label, mistake in home.mistakes.items():
                    if is_the_same(mine, outcomes_of(mistake), dict.fromkeys([check, home])):
                        return label
            return difference_in_words(mine, reference, check)
    except OutOfTime:
        return None


def is_the_same(mine: Outcomes, mistake: Outcomes, checks: dict) -> bool:
    """The same on all calls of these checks, and on other data."""
    if not all(equal(mine, mistake, calls_of(check)) for check in checks):
        return False
    return all(equal(mine, mistake, calls_drawn_again(check)) for check in checks)


def difference_in_words(mine: Outcomes, truth: Outcomes, check: Callable) -> str | None:
    """How the results differ from the right ones, if in one plain way on all calls of the check,
    and on other data.
    """
    sentence = difference_on(mine, truth, calls_of(check))
    if sentence and difference_on(mine, truth, calls_drawn_again(check)) == sentence:
        return sentence
    return None


def difference_on(mine: Outcomes, truth: Outcomes, calls: list[Call]) -> str | None:
    if any([mine.error(call) != truth.error(call) for call in calls]):
        return None
    returned = [call for call in calls if truth.error(call) == "none"]
    return plain_difference([mine(call) for call in returned], [truth(call) for call in returned])


# What the function rests on


def exercises_called(function: Callable, chapter: str) -> list[str]:
    """The other exercises of the chapter that a function calls, itself or through the functions
    that it calls, if these are in the same file; in the order of the file.
    """
    names, found, seen = stubs.exercise_names(chapter), set(), set()
    waiting = [function]
    while waiting:
        code = waiting.pop().__code__
        for name in names_in(code):
            called = function.__globals__.get(name)
            if name in names and name != function.__name__:
                found.add(name)
            elif is_of_file(called, code.co_filename) and name not in seen:
                seen.add(name)
                waiting.append(called)
    return [name for name in names if name in found]


def names_in(code: CodeType) -> set[str]:
    """All names that a piece of code reads, also in the functions inside it."""
    inside = [names_in(part) for part in code.co_consts if isinstance(part, CodeType)]
    return set(code.co_names).union(*inside)


def is_of_file(value, file: str) -> bool:
    return isinstance(value, FunctionType) and Path(value.__code__.co_filename) == Path(file)
