"""Read and run the chapters: python -m course [NUMBER | notebook NUMBER].

python -m course                     all chapters: minutes, and how many of your exercises pass
python -m course 7                   run chapter 7: its text, its numbers, its pictures
python -m course 7 --mine            the same on the functions that you wrote
python -m course 7 --model FOLDER    the same on the model that you trained; chapter 17 has three (give --model three times)
python -m course 7 --show            open each picture
python -m course notebook 7          write chapter 7 as a Jupyter notebook
"""

import argparse
import importlib
import sys
import time
from pathlib import Path

import torch

from exercises import progress, stubs
from exercises.attempts import Wrong, describe, load_file, own_line
from exercises.hints import hints
from minitransformer import checkpoint
from minitransformer.report import task_of

from . import cells
from .desk import ROOT, Session


def chapter_path(number: str) -> Path:
    found = (
        sorted((ROOT / "course").glob(f"ch{int(number):02d}_*.py")) if number.isdecimal() else []
    )
    if not found:
        raise ValueError(f"there is no chapter {number!r}; `python -m course` lists them.")
    return found[0]


def list_chapters() -> None:
    """One row per chapter: number, title, minutes, how many exercises pass."""
    names = {chapter: stubs.exercise_names(chapter) for chapter in stubs.chapters()}
    outcomes = progress.run([(chapter, name) for chapter in names for name in names[chapter]])
    for path in sorted((ROOT / "course").glob("ch*.py")):
        entry, mine = hints()[path.stem], names.get(path.stem, [])
        passed = sum(outcomes[path.stem, name].sign == "✓" for name in mine)
        print(
            f"{path.stem[2:4]}  {entry['title']:46} {entry['minutes']:3} min   exercises {passed} of {len(mine)}"
        )
    print("\nRead one: python -m course 1    Write: python -m exercises")


def use_mine() -> None:
    """Put every function that the learner wrote in the place of the reference, and say which are
    theirs.
    """
    for chapter in stubs.chapters():
        tried = stubs.attempted(chapter)
        if not tried:
            continue
        mine, reference = (
            load_file(stubs.exercise_path(chapter)),
            importlib.import_module(f"solutions.{chapter}"),
        )
        for name in stubs.exercise_names(chapter):
            if name in tried:
                setattr(reference, name, getattr(mine, name))
            else:  # what your functions call, and you have not written yet
                setattr(mine, name, getattr(reference, name))
        print(f"yours in {chapter}: {', '.join(tried)}")
    print("everything else: the reference\n")


def stand_ins(folders: list[str]) -> dict[str, str]:
    """Which shipped model each of the learner's takes the place of: that of its task. Raises
    ValueError if two take one.
    """
    places = {}
    for folder in folders:
        task = task_of(folder, checkpoint.load(folder))  # refuse now what cannot be loaded later
        name = "induction" if task == "repeats" else task
        if name in places:
            raise ValueError(
                f"{places[name]} and {folder} both stand in for the model '{name}'; give one of them."
            )
        places[name] = folder
    return places


def run_chapter(
    path: Path, mine: bool = False, models: dict[str, str] | None = None, show: bool = False
) -> None:
    """Run one chapter in a fresh namespace. Raises AssertionError if the shipped models break a
    claim.

    models: shipped name -> the learner's folder, as stand_ins gives it.
    """
    Session.chapter, Session.models, Session.open_pictures = path.stem, models or {}, show
    Session.strict, Session.failed, Session.used = not models, [], set()
    torch.manual_seed(0)
    torch.set_num_threads(1)  # for models this small a second thread costs more than it brings
    if mine:
        use_mine()
    began = time.perf_counter()
    try:
        # a chapter may switch gradients off; only for itself
        with torch.set_grad_enabled(torch.is_grad_enabled()):
            cells.run(path)
    except Exception as error:
        raise (
            (mine and stopped_by(error)) or (models and unfit(models, path, error)) or error
        ) from None
    print(f"\nchapter {path.stem[2:4]}: {time.perf_counter() - began:.1f} s")
    for name in sorted(set(Session.models) - Session.used):
        print(
            f"not used by this chapter: {Session.models[name]} (it would stand in for the model '{name}')"
        )
    for text in Session.failed:
        print(f"outside the band that the text promises, on this model: {text}")


def stopped_by(error: Exception) -> ValueError | None:
    """What stopped a chapter on the learner's functions, as an error with one sentence, their own
    line in it if it was one.

    None if the error has a sentence of its own.
    """
    for chapter in stubs.chapters():
        line = own_line(error, stubs.exercise_path(chapter))
        if line is not None:
            place = f"exercises/{chapter}.py, line {line}"
            return ValueError(
                f"{place}: {describe(error)}. See: python -m exercises check {int(chapter[2:4])}"
            )
    # a claim that does not hold; a picture that cannot be written
    if isinstance(error, AssertionError | OSError):
        return None
    return ValueError(
        f"{describe(error)}. Did a function of yours return what it should? See: python -m exercises check"
    )


def unfit(models: dict[str, str], path: Path, error: Exception) -> ValueError | None:
    """A learner's model in which a chapter does not find what it looks for, as one sentence; None
    if that is not it.
    """
    line = own_line(error, path)
    if line is None or not isinstance(error, (LookupError, RuntimeError, ValueError)):
        return None
    reason = f"course/{path.name}, line {line}, stopped with {describe(error)}"
    look = "; ".join(f"python -m minitransformer evaluate {folder}" for folder in models.values())
    return ValueError(
        f"{reason}. Chapters need two layers, and a model that has learnt its task: {look}"
    )


def act(args: argparse.Namespace) -> None:
    """Do what was asked for. Raises ValueError if that was not understood."""
    if not args.what:
        list_chapters()
    elif args.what == ["notebook"]:
        raise ValueError("which chapter? For example: python -m course notebook 1")
    elif args.what[0] == "notebook" and len(args.what) == 2:
        print(
            f"written: {cells.write_notebook(chapter_path(args.what[1]), Path.cwd()).name}. Open it from this folder."
        )
    elif len(args.what) == 1:
        run_chapter(chapter_path(args.what[0]), args.mine, stand_ins(args.model), args.show)
    else:
        raise ValueError(f"not understood: {' '.join(args.what)}. Try: python -m course --help")


def in_a_sentence(error: Exception, mine: bool) -> str:
    """What is printed instead of a traceback."""
    check = "See: python -m exercises check"
    # in an exercise file: solutions/ and course/ have files of the same name
    if isinstance(error, SyntaxError):
        place = f"{error.filename}, line {error.lineno}" if error.lineno else error.filename
        return f"{place}: {error.msg}. {check}"
    if isinstance(error, Wrong):  # an exercise file that cannot be read or imported
        return f"{error}. {check}"
    if isinstance(error, OSError):  # pictures and notebooks go to the folder that one is in
        return f"{error.filename}: {error.strerror}. Run it in a folder that you may write to."
    return (
        f"{error}. Is one of your functions the reason? {check}"
        if mine and isinstance(error, AssertionError)
        else str(error)
    )


def main(argv: list[str] | None = None) -> int:
    raw = argparse.RawTextHelpFormatter
    parser = argparse.ArgumentParser(
        prog="python -m course", description=__doc__, formatter_class=raw
    )
    parser.add_argument("what", nargs="*", metavar="NUMBER | notebook NUMBER")
    parser.add_argument(
        "--mine", action="store_true", help="use your own functions where you have written them"
    )
    parser.add_argument(
        "--model", metavar="FOLDER", action="append", default=[], help="use your own model"
    )
    parser.add_argument("--show", action="store_true", help="open each picture")
    args = parser.parse_args(argv)
    try:
        act(args)
    except (SyntaxError, Wrong, ValueError, OSError) as error:
        print(in_a_sentence(error, args.mine), file=sys.stderr)
        return 2
    except AssertionError as error:  # a claim does not hold
        print(in_a_sentence(error, args.mine), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nstopped. The pictures so far are in figures/.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
