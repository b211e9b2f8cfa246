"""An error in a function that the learner did not write: what did that function want?"""

import re
import traceback
from pathlib import Path
from types import FrameType

from torch import Tensor

from exercises import stubs
from exercises.attempts import Wrong, describe, own_line

OURS = ("minitransformer", "solutions")  # the folders of given functions, beside a chapter's own


def wrong(error: BaseException, path: Path) -> Wrong:
    """What an exception in a learner's function means, with the line of the learner's code."""
    if isinstance(error, StopIteration):
        return Wrong("`next` found nothing that fits", own_line(error, path))
    line, helper = last_step(error, path)
    if helper is None:
        return Wrong(describe(error), line or own_line(error, path))
    name, wishes = helper.f_code.co_qualname, wishes_of(helper)
    sentence = f"{describe(error)} (in {name}, which is given)"
    return Wrong(f"{sentence}\n  it wants:  {wishes}" if wishes else sentence, line)


def last_step(error: BaseException, path: Path) -> tuple[int | None, FrameType | None]:
    """The last line of what the learner wrote, and the given function that it called there."""
    own, helper = None, None
    handed_out = given_names(path.stem)
    for frame, line in traceback.walk_tb(error.__traceback__):
        file, name = Path(frame.f_code.co_filename), frame.f_code.co_qualname
        if file == path and name.partition(".")[0] not in handed_out:
            own, helper = line, None
        elif file == path or file.parent in [stubs.ROOT / folder for folder in OURS]:
            helper = helper or frame
    return own, helper if own else None


def given_names(chapter: str) -> set[str]:
    """The functions and classes of a chapter's file that are given to the learner."""
    solution = stubs.solution_path(chapter)
    if not solution.exists():
        return set()
    names = re.findall(r"^(?:def|class) (\w+)", solution.read_text(encoding="utf-8"), re.MULTILINE)
    return set(names) - set(stubs.exercise_names(chapter))


def wishes_of(frame: FrameType) -> str:
    """The arguments of a call whose axes the function's docstring names, and what came instead."""
    code, wishes = frame.f_code, []
    docstring = code.co_consts[0] if isinstance(code.co_consts[0], str) else ""
    for name in code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]:
        axes = re.search(rf"\b{name}(?:, \w+)* (\[[\w, ./]+\])", docstring)
        got = frame.f_locals.get(name)
        if axes and got is not None:
            wishes.append(f"{name} {axes[1]}; it got {in_words(got)}")
    return ", ".join(wishes)


def in_words(value) -> str:
    """What a value is, for a message: "a tensor [2, 3]", "a list of 4", "0.25"."""
    if isinstance(value, Tensor):
        return f"a tensor {list(value.shape)}"
    if isinstance(value, dict):
        keys = ", ".join([repr(key) for key in list(value)[:8]])
        return f"a dict with the keys {keys}" if value else "an empty dict"
    if isinstance(value, (tuple, list)):
        inside = {in_words(x) for x in value}
        each = f", each {inside.pop()}" if len(inside) == 1 else ""
        return f"a {type(value).__name__} of {len(value)}{each}"
    if isinstance(value, (bool, int, float, str)):
        return f"{value!r}"
    return f"of the type {type(value).__name__}"
