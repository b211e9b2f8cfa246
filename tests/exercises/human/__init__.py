"""Wrong answers that people give, and what the checks say of each: chNN.toml holds those of one
chapter, a list of tables for each exercise.

    [[attention_pattern]]
    did = "softmax over the queries instead of the keys"
    old = "dim=-1"   # stands once in the reference's answer; there stands now ...
    new = "dim=-2"   # or, instead of the two: code = the whole answer
    says = "the softmax runs over the queries"   # a part of the message that the learner gets
    fresh = "named"   # only where no mistake was written with this answer in view: how the checks
                      # met it the first time (named, mute, accused of another mistake, passed)
    blind = "named"   # how the finished checks met an answer that was written without knowing them:
                      # the same four words; never changed afterwards
    right = true      # instead of says: an unusual answer that is right, and passes

python -m tests.exercises.human ch05 [EXERCISE]   prints the message that each of them gets
"""

import functools
import importlib
import tempfile
import tomllib
from pathlib import Path
from typing import NamedTuple

from exercises import stubs
from tests.exercises.checking import failure

FOLDER = Path(__file__).parent
FRESH = ("named", "mute", "accused", "passed")  # how the checks met an answer the first time


class Answer(NamedTuple):
    """One answer to an exercise, as it stands in the chapter's file."""

    chapter: str  # its stem
    exercise: str
    did: str
    old: str = ""
    new: str = ""
    code: str = ""
    says: str = ""
    fresh: str = ""
    blind: str = ""
    right: bool = False


def chapters() -> list[str]:
    """The stems of the chapters that have answers here."""
    return [stem for stem in stubs.chapters() if (FOLDER / f"{stem[:4]}.toml").exists()]


def answers(chapter: str) -> list[Answer]:
    """All answers of a chapter, in the order of its file."""
    text = (FOLDER / f"{chapter[:4]}.toml").read_text(encoding="utf-8")
    every = []
    for exercise, tables in tomllib.loads(text).items():
        every += [Answer(chapter, exercise, **table) for table in tables]
    return every


def written_out(answer: Answer) -> str:
    """The chapter's whole file, right but for this answer. Raises ValueError if `old` does not
    stand in the reference's answer exactly once.
    """
    text = stubs.solution_path(answer.chapter).read_text(encoding="utf-8")
    lines, node = text.splitlines(), stubs.functions(text)[answer.exercise]
    numbers = range(node.lineno - 1, node.end_lineno)
    mark = next(number for number in numbers if stubs.MARK.match(lines[number]))
    body = "\n".join(lines[mark + 1 : node.end_lineno])
    if answer.old and body.count(answer.old) != 1:
        raise ValueError(f"{answer.exercise}: {answer.old!r} stands {body.count(answer.old)} times")
    body = body.replace(answer.old, answer.new) if answer.old else answer.code.strip("\n")
    return "\n".join([*lines[: mark + 1], body, *lines[node.end_lineno :]]) + "\n"


@functools.cache
def checks_of(chapter: str) -> list:
    """The checks of a chapter, in the order of their file."""
    module = importlib.import_module(f"tests.exercises.test_{chapter}")
    return [test for test in vars(module).values() if hasattr(test, "exercise")]


def met_by(answer: Answer) -> str | None:
    """The message that a learner with this answer gets: the first failure; None if all passes."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"{answer.chapter}.py")
        path.write_text(written_out(answer), encoding="utf-8")
        for test in checks_of(answer.chapter):
            if test.exercise == answer.exercise:
                found = failure(test.check, answer.chapter, test.exercise, test.mistakes, path)
                if found:
                    return found
    return None


def complaint(answer: Answer, said: str | None) -> str | None:
    """How what the checks said disagrees with what is written here of the answer; None if not."""
    if answer.right:
        return said and f"a right answer is refused: {said}"
    if said is None:
        return "it passes"
    if answer.says in ("", "?"):
        return f"`says` is still to be written; the message is: {said}"
    return None if answer.says in said else f"{answer.says!r} is not in the message: {said}"
