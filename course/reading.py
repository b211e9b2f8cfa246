"""Lists the chapters and runs one of them; says what stopped it."""

import time
import traceback
from collections.abc import Callable
from pathlib import Path

from exercises import progress, routes, stubs
from exercises.attempts import Wrong, describe, own_line

from . import cells

CHECK = "See: python -m exercises check"
PAGES = ["other_models"]  # read and run as chapters are, but without a number or exercises
UNFIT = "Chapters need two layers, and a model that has learnt its task"


def chapter_path(number: str) -> Path:
    """The file of a chapter, or of one of PAGES. Raises ValueError if there is none of this
    number.
    """
    found = [stubs.ROOT / "course" / f"{page}.py" for page in PAGES if page == number]
    if number.isdecimal():
        found = sorted((stubs.ROOT / "course").glob(f"ch{int(number):02d}_*.py"))
    if not found:
        raise ValueError(f"there is no chapter {number!r}; `python -m course` lists them.")
    return found[0]


def list_chapters(route: str = routes.ALL) -> None:
    """One row per chapter of a route: number, title, minutes, how many exercises pass; and, where
    the route does not read all of it, what to read. Raises ValueError if there is no such route.
    """
    outcomes = progress.run(routes.exercises(route))
    for chapter in routes.parts(route):
        mine = [outcome for pair, outcome in outcomes.items() if pair[0] == chapter]
        passed = sum(outcome.sign == "✓" for outcome in mine)
        about = f"{stubs.title(chapter):66} {routes.minutes_of(route, chapter):3} min"
        print(f"{chapter[2:4]}  {about}   exercises {passed} of {len(mine)}")
        for line in parts_of(route, chapter):
            print(f"      {line}")
    if route == routes.ALL:
        print("\nRead one: python -m course 1    Write: python -m exercises")
        return
    print(f"\n{routes.about(route)}")
    print("Chapters ask for more exercises than are on the route: pass those by, and read on.")
    print(f"Read one: python -m course 1    Write: python -m exercises --route {route}")


def parts_of(route: str, chapter: str) -> list[str]:
    """What a route reads of a chapter and writes, in lines; none if that is all of it."""
    if not routes.parts(route)[chapter]:
        return []
    names = [name for where, name in routes.exercises(route) if where == chapter]
    write, parts = f"write: {', '.join(names)}", routes.to_read(route, chapter)
    if not parts:
        return ["read:  nothing new", write]
    return ["read:  the introduction", *(f"       {title}" for title in parts[1:]), write]


def stand_ins(folders: list[str]) -> dict[str, str]:
    """Which shipped model each of the learner's takes the place of: that of its task.

    Raises ValueError if two of them take the same place.
    """
    from minitransformer import checkpoint
    from minitransformer.report import task_of

    places = {}
    for folder in folders:
        task = task_of(folder, checkpoint.load(folder))  # refuse now what cannot be loaded later
        name = "induction" if task == "repeats" else task
        if name in places:
            raise ValueError(
                f"{places[name]} and {folder} both stand in for the model '{name}'; "
                "give one of them."
            )
        places[name] = folder
    return places


def run_chapter(
    path: Path,
    mine: bool = False,
    models: dict[str, str] | None = None,
    show: bool = False,
    wait: Callable[[], None] | None = None,
) -> None:
    """Run one chapter in a fresh namespace.

    models: shipped name -> the learner's folder, as stand_ins gives it. wait: called at each
    question. Raises AssertionError if the shipped models break a claim, and whatever the learner's
    functions raise.
    """
    import torch

    from .desk import Session
    from .mine import Called
    from .output import Terminal

    make_ready(path, mine, models, Terminal(show))
    began = time.perf_counter()
    with torch.set_grad_enabled(torch.is_grad_enabled()):  # a chapter may switch gradients off
        cells.run(path, wait, Called.begin_cell)
    name = path.stem if path.stem in PAGES else f"chapter {path.stem[2:4]}"
    print(f"\n{name}: {time.perf_counter() - began:.1f} s")
    for name in sorted(set(Session.models) - Session.used):
        place = f"it would stand in for the model '{name}'"
        print(f"not used by this chapter: {Session.models[name]} ({place})")
    for text in Session.failed:
        print(f"outside the band that the text promises, on this model: {text}")


def make_ready(path: Path, mine: bool, models: dict[str, str] | None, output) -> None:
    """Set everything as a chapter expects it; output: where its evidence goes (course/output.py).

    Raises Wrong or SyntaxError if the learner's file of this chapter cannot be used.
    """
    import torch

    from .desk import Session
    from .mine import use_mine

    Session.begin(path.stem, models or {}, output)
    torch.manual_seed(0)
    torch.set_num_threads(1)  # for models this small a second thread costs more than it brings
    if mine:
        use_mine(path.stem)


def in_a_sentence(error: Exception, mine: bool, models: list[str]) -> str:
    """What is printed instead of a traceback; "" if this is a fault of ours, which needs one.

    mine, models: what the command line asked for.
    """
    if isinstance(error, progress.NotChecked):
        return f"{error}"
    if isinstance(error, SyntaxError):  # solutions/ and course/ have files of the same name
        place = f"{error.filename}, line {error.lineno}" if error.lineno else error.filename
        return f"{place}: {error.msg}. {CHECK}"
    if isinstance(error, Wrong):  # an exercise file that cannot be read or imported
        return f"{error}. {CHECK}"
    if isinstance(error, OSError):  # pictures and notebooks go to the folder that one is in
        return f"{error.filename}: {error.strerror}. Run it in a folder that you may write to."
    if isinstance(error, AssertionError) and not (mine and learner_place(error)):
        return failed_claim(error) if mine else f"{error}"
    place = chapter_line(error)
    if mine and (learner_place(error) or place):
        return stopped_with_mine(error, models)
    if place and models and isinstance(error, LookupError | RuntimeError | ValueError):
        return f"{place}, stopped with {describe(error)}. {UNFIT}: {looks(models)}"
    return f"{error}" if isinstance(error, ValueError) and not place else ""


def is_claim(error: Exception) -> bool:
    """Is it a claim that does not hold?"""
    return isinstance(error, AssertionError) and not isinstance(error, Wrong)


def looks(models: list[str]) -> str:
    """How to see whether a model is fit for a chapter."""
    return "; ".join(f"python -m minitransformer evaluate {folder}" for folder in models)


def stopped_with_mine(error: Exception, models: list[str]) -> str:
    """A chapter on the learner's functions was stopped by an error, in one of them or after it."""
    found = learner_place(error)
    if found:
        place, number = found
        said = f"{place}: {describe(error)}."
        advice = f"{CHECK} {number}"
    else:
        said = f"{describe(error)}. Did a function of yours return what it should?"
        advice = CHECK
    if not models:
        return f"{said} {advice}"
    doubt = "Does the same happen without --model? If not, the model is the reason, not your code."
    return f"{said} {doubt} {UNFIT}: {looks(models)}"


def learner_place(error: Exception) -> tuple[str, int] | None:
    """Where in the learner's files an error arose, and the number of that chapter."""
    for chapter in stubs.chapters():
        line = own_line(error, stubs.exercise_path(chapter))
        if line is not None:
            return f"exercises/{chapter}.py, line {line}", int(chapter[2:4])
    return None


def failed_claim(error: AssertionError) -> str:
    """A claim that does not hold on the learner's functions: what they must give, and which."""
    from .desk import ClaimFails
    from .mine import Called

    suspects = list(Called.here or Called.ever)
    if not suspects:
        return f"{error}. None of your functions was called before this: they are not the reason."
    said, wanted = f"{error}", "give what the text says"
    if isinstance(error, ClaimFails) and error.measured is not None:
        said = f"{error.text}: here it is {error.given}"
        wanted = f"reproduce {error.measured:g}"
    where = "in this cell" if Called.here else "before it"
    rule = f"on the shipped model your functions must {wanted}"
    return f"{said}; {rule}. Called {where}: {', '.join(suspects)}. {CHECK} {suspects[0]}"


def chapter_line(error: Exception) -> str:
    """Where in a chapter an error arose, as "course/ch07_....py, line 3"; "" if in none."""
    frames = traceback.extract_tb(error.__traceback__)
    places = [frame for frame in frames if Path(frame.filename).match("course/ch??_*.py")]
    return f"course/{Path(places[-1].filename).name}, line {places[-1].lineno}" if places else ""
