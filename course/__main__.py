"""Read and run the chapters: python -m course [NUMBER | notebook NUMBER].

python -m course                     all chapters: minutes, and how many of your exercises pass
python -m course 7                   run chapter 7: its text, its numbers, its pictures
python -m course 7 --mine            the same on the functions that you wrote
python -m course 7 --model FOLDER    the same on the model that you trained;
                                     chapter 17 has three: give --model three times
python -m course 7 --show            open each picture
python -m course notebook 7          write chapter 7 as a Jupyter notebook
"""

import argparse
import importlib
import sys
import time
import traceback
from pathlib import Path

import torch

from exercises import progress, stubs
from exercises.attempts import Wrong, describe, load_file, own_line
from minitransformer import checkpoint
from minitransformer.report import task_of

from . import cells
from .desk import ROOT, Session

CHECK = "See: python -m exercises check"


def chapter_path(number: str) -> Path:
    """The file of a chapter. Raises ValueError if there is none of this number."""
    found = []
    if number.isdecimal():
        found = sorted((ROOT / "course").glob(f"ch{int(number):02d}_*.py"))
    if not found:
        raise ValueError(f"there is no chapter {number!r}; `python -m course` lists them.")
    return found[0]


def list_chapters() -> None:
    """One row per chapter: number, title, minutes, how many exercises pass."""
    names = {chapter: stubs.exercise_names(chapter) for chapter in stubs.chapters()}
    outcomes = progress.run([(chapter, name) for chapter in names for name in names[chapter]])
    for path in sorted((ROOT / "course").glob("ch*.py")):
        chapter, mine = path.stem, names.get(path.stem, [])
        passed = sum(outcomes[chapter, name].sign == "✓" for name in mine)
        about = f"{stubs.title(chapter):66} {stubs.hints()[chapter]['minutes']:3} min"
        print(f"{chapter[2:4]}  {about}   exercises {passed} of {len(mine)}")
    print("\nRead one: python -m course 1    Write: python -m exercises")


def use_mine() -> None:
    """Put every function that the learner wrote in the place of the reference; say which."""
    for chapter in stubs.chapters():
        tried = stubs.attempted(chapter)
        if not tried:
            continue
        mine = load_file(stubs.exercise_path(chapter))
        reference = importlib.import_module(f"solutions.{chapter}")
        for name in stubs.exercise_names(chapter):
            if name in tried:
                setattr(reference, name, getattr(mine, name))
            else:  # what your functions call, and you have not written yet
                setattr(mine, name, getattr(reference, name))
        print(f"yours in {chapter}: {', '.join(tried)}")
    print("everything else: the reference\n")


def stand_ins(folders: list[str]) -> dict[str, str]:
    """Which shipped model each of the learner's takes the place of: that of its task.

    Raises ValueError if two of them take the same place.
    """
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


def run_chapter(path: Path, mine=False, models: dict[str, str] | None = None, show=False) -> None:
    """Run one chapter in a fresh namespace.

    models: shipped name -> the learner's folder, as stand_ins gives it. Raises AssertionError if
    the shipped models break a claim, and whatever the learner's functions raise.
    """
    Session.begin(path.stem, models or {}, show)
    torch.manual_seed(0)
    torch.set_num_threads(1)  # for models this small a second thread costs more than it brings
    if mine:
        use_mine()
    began = time.perf_counter()
    with torch.set_grad_enabled(torch.is_grad_enabled()):  # a chapter may switch gradients off
        cells.run(path)
    print(f"\nchapter {path.stem[2:4]}: {time.perf_counter() - began:.1f} s")
    for name in sorted(set(Session.models) - Session.used):
        place = f"it would stand in for the model '{name}'"
        print(f"not used by this chapter: {Session.models[name]} ({place})")
    for text in Session.failed:
        print(f"outside the band that the text promises, on this model: {text}")


def act(args: argparse.Namespace) -> None:
    """Do what was asked for. Raises ValueError if that was not understood."""
    if not args.what:
        list_chapters()
    elif args.what == ["notebook"]:
        raise ValueError("which chapter? For example: python -m course notebook 1")
    elif args.what[0] == "notebook" and len(args.what) == 2:
        target = cells.write_notebook(chapter_path(args.what[1]), Path.cwd())
        print(f"written: {target.name}. Open it from this folder.")
    elif len(args.what) == 1:
        run_chapter(chapter_path(args.what[0]), args.mine, stand_ins(args.model), args.show)
    else:
        raise ValueError(f"not understood: {' '.join(args.what)}. Try: python -m course --help")


def in_a_sentence(error: Exception, args: argparse.Namespace) -> str:
    """What is printed instead of a traceback; "" if this is a fault of ours, which needs one."""
    if isinstance(error, SyntaxError):  # solutions/ and course/ have files of the same name
        place = f"{error.filename}, line {error.lineno}" if error.lineno else error.filename
        return f"{place}: {error.msg}. {CHECK}"
    if isinstance(error, Wrong):  # an exercise file that cannot be read or imported
        return f"{error}. {CHECK}"
    if isinstance(error, OSError):  # pictures and notebooks go to the folder that one is in
        return f"{error.filename}: {error.strerror}. Run it in a folder that you may write to."
    for chapter in stubs.chapters() if args.mine else []:
        line = own_line(error, stubs.exercise_path(chapter))
        if line is not None:
            place = f"exercises/{chapter}.py, line {line}"
            return f"{place}: {describe(error)}. {CHECK} {int(chapter[2:4])}"
    if isinstance(error, AssertionError):  # a claim that does not hold
        return f"{error}. Is one of your functions the reason? {CHECK}" if args.mine else f"{error}"
    place = chapter_line(error)
    if place and args.mine:
        return f"{describe(error)}. Did a function of yours return what it should? {CHECK}"
    if place and args.model and isinstance(error, LookupError | RuntimeError | ValueError):
        look = [f"python -m minitransformer evaluate {folder}" for folder in args.model]
        fit = f"Chapters need two layers, and a model that has learnt its task: {'; '.join(look)}"
        return f"{place}, stopped with {describe(error)}. {fit}"
    return f"{error}" if isinstance(error, ValueError) and not place else ""


def chapter_line(error: Exception) -> str:
    """Where in a chapter an error arose, as "course/ch07_....py, line 3"; "" if in none."""
    frames = traceback.extract_tb(error.__traceback__)
    places = [frame for frame in frames if Path(frame.filename).match("course/ch??_*.py")]
    return f"course/{Path(places[-1].filename).name}, line {places[-1].lineno}" if places else ""


def main(argv: list[str] | None = None) -> int:
    raw = argparse.RawTextHelpFormatter
    parser = argparse.ArgumentParser(
        prog="python -m course", description=__doc__, formatter_class=raw
    )
    parser.add_argument("what", nargs="*", metavar="NUMBER | notebook NUMBER")
    parser.add_argument("--mine", action="store_true", help="use the functions that you wrote")
    parser.add_argument("--model", metavar="FOLDER", action="append", default=[], help="your model")
    parser.add_argument("--show", action="store_true", help="open each picture")
    args = parser.parse_args(argv)
    try:
        act(args)
    except KeyboardInterrupt:
        print("\nstopped. The pictures so far are in figures/.", file=sys.stderr)
        return 130
    except Exception as error:
        sentence = in_a_sentence(error, args)
        if not sentence:
            raise
        print(sentence, file=sys.stderr)
        return 1 if isinstance(error, AssertionError) and not isinstance(error, Wrong) else 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
