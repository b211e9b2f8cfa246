"""Chapters as notebooks: several are written at once; each is set up by its first cell of code.

    from course import notebooks
    notebooks.begin("ch07_qk_ov_circuits", mine=True, models=["runs/mine"])

A kernel lives long, and cells are run again. So with mine=True every exercise is called through a
stand-in, one object for as long as the kernel lives: whoever imported it calls, from the next cell
on, what you saved last.
"""

import functools
import importlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from exercises import stubs
from exercises.attempts import Wrong

from . import cells, reading

JUPYTER = (
    "Open it from this folder, with Jupyter: python -m pip install -e '.[notebook]', then "
    "python -m jupyter lab"
)


def write_chapters(which: str, folder: Path, mine: bool, models: Sequence[str]) -> str:
    """Write a chapter, by its number, or "all", as notebooks. -> what was done, in lines

    Those that exist stay as they are. Raises ValueError if that leaves nothing to write, or there
    is no such chapter.
    """
    every = sorted((stubs.ROOT / "course").glob("ch*.py"))
    lines, left = [], 0
    for path in every if which == "all" else [reading.chapter_path(which)]:
        target = cells.notebook_path(path, folder, mine)
        if which == "all" and target.exists():
            lines.append(f"kept, as it exists already: {target.name}")
            left += 1
        else:
            cells.write_notebook(path, folder, mine, models)
            lines.append(f"written: {target.name}")
    if left == len(lines):
        raise ValueError("\n".join([*lines, "none was written; move away what you want anew."]))
    return "\n".join([*lines, JUPYTER])


class Opened:
    """What the first cell of this notebook asked for."""

    chapter: str = ""
    mine: bool = False
    models: list[str] = []
    files: dict[Path, tuple[int, int]] = {}  # the learner's files, as they were last read
    stand_ins: dict[tuple[str, str], Callable] = {}  # (chapter, exercise) -> who is called for it


def begin(chapter: str, mine: bool = False, models: Sequence[str] = ()) -> None:
    """Set a notebook up for a chapter: pictures get its name, claims are held against what is known
    of it, and everything is as at the start of `python -m course`.

    mine: use the functions in exercises/, and read them again whenever one was saved. models: run
    folders, each in the place of the shipped model of its task. Raises Wrong or ValueError, shown
    as one sentence, if the learner's file or a model cannot be used.
    """
    import torch

    Opened.chapter, Opened.mine, Opened.models = chapter, mine, list(models)
    listen()
    torch.set_grad_enabled(True)  # a chapter may have switched it off, and is run again
    try:
        set_up()
    except (Wrong, ValueError, OSError) as error:
        in_one_line(error)
        raise


def set_up() -> None:
    """Models, pictures, claims as reading.make_ready makes them; the learner's functions last."""
    path = stubs.ROOT / "course" / f"{Opened.chapter}.py"
    reading.make_ready(path, mine=False, models=reading.stand_ins(Opened.models), output=None)
    for call in Opened.stand_ins.values():
        call.now = call.reference
    if Opened.mine:
        read_mine()


def read_mine() -> None:
    """Read the learner's functions, and let the stand-ins call them.

    Raises Wrong if this chapter's file cannot be used; until it can, its exercises raise that, too,
    so that nothing is computed with what stood there before.
    """
    from .mine import in_words, use_mine

    Opened.files = states()
    for name in [name for name in sys.modules if name.startswith("exercises.ch")]:
        del sys.modules[name]  # one of the learner's files imports another: that one anew, too
    place_stand_ins()
    try:
        use_mine(Opened.chapter)
    except (Wrong, SyntaxError) as error:
        unfit = Wrong(in_words(error, Opened.chapter), getattr(error, "line", None))
        for (chapter, _), call in Opened.stand_ins.items():
            if chapter == Opened.chapter:
                call.now = refusing(unfit)
        raise unfit from None
    finally:
        take_over()


def states() -> dict[Path, tuple[int, int]]:
    """When each of the learner's files was changed, and its size."""
    found = {}
    for chapter in stubs.chapters():
        path = stubs.exercise_path(chapter)
        if path.exists():
            state = path.stat()
            found[path] = (state.st_mtime_ns, state.st_size)
    return found


def place_stand_ins() -> None:
    """Put a stand-in, which calls the reference, in the place of every exercise.

    In the order of the chapters: the later import from the earlier ones.
    """
    for chapter in stubs.chapters():
        module = importlib.import_module(f"solutions.{chapter}")
        for name in stubs.exercise_names(chapter):
            if (chapter, name) not in Opened.stand_ins:
                Opened.stand_ins[chapter, name] = stand_in(getattr(module, name))
            call = Opened.stand_ins[chapter, name]
            call.now = call.reference
            setattr(module, name, call)


def stand_in(reference: Callable) -> Callable:
    """A function that calls its attribute `now`: the reference, until that is changed."""

    @functools.wraps(reference)
    def call(*args, **kwargs):
        return call.now(*args, **kwargs)

    call.now = call.reference = reference
    return call


def take_over() -> None:
    """What use_mine put into the modules is called by the stand-ins, and they return there."""
    for (chapter, name), call in Opened.stand_ins.items():
        module = sys.modules[f"solutions.{chapter}"]
        found = getattr(module, name)
        if found is not call:
            call.now = found
            setattr(module, name, call)


def refusing(error: Exception) -> Callable:
    """A function that raises the error, whatever it is called with."""

    def refuse(*_, **__):
        raise error

    return refuse


# What the kernel tells us


def listen() -> None:
    """Be told, once per kernel, before each cell and of each error. Without a kernel: nothing."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if shell and before_cell not in shell.events.callbacks["pre_run_cell"]:
        shell.events.register("pre_run_cell", before_cell)
        shell.set_custom_exc((Exception,), explain)


def before_cell(info) -> None:
    """Read the learner's functions again if one of the files was saved since."""
    from .mine import Called

    Called.begin_cell()
    if Opened.mine and states() != Opened.files:
        try:
            read_mine()
        except Wrong as error:
            print(sentence(error))


def explain(shell, kind, error, trace, tb_offset=None) -> None:
    """Show an error as the command line would: a false claim, or a fault in a function of the
    learner's, in one sentence; everything else with its traceback, and with a doubt if the model is
    the learner's.
    """
    from .desk import ClaimFails

    theirs = Opened.mine and reading.learner_place(error)
    if theirs or isinstance(error, ClaimFails | Wrong):
        in_one_line(error)
    shell.showtraceback((kind, error, trace), tb_offset=tb_offset)
    if Opened.models and not hasattr(error, "_render_traceback_"):
        print(f"{reading.UNFIT}: {reading.looks(Opened.models)}")


def in_one_line(error: Exception) -> None:
    """Let IPython show this error as a sentence (that method is its way to ask for one)."""
    said = sentence(error)
    error._render_traceback_ = lambda: [said]


def sentence(error: Exception) -> str:
    return reading.in_a_sentence(error, Opened.mine, Opened.models) or f"{error}"
