"""Do the course's claims hold for models it never saw? python -m tests.benchmarks.claims [CHAPTER
...] [--seeds 10] [--first 100] [--keep FOLDER]

Trains the models that a reader trains (induction, and for chapters 15 to 17 the three arithmetic
ones) with new seeds, runs the chapters on the models of each seed, and prints every claim that left
the band its text promises. A claim should hold on at least nine of ten. The runs of --keep FOLDER
are used again: see tests.benchmarks.seeds."""

import argparse
import contextlib
import io
import os
import tempfile
from collections import Counter
from pathlib import Path

import torch

from course.__main__ import chapter_path, run_chapter
from course.desk import Session
from exercises import stubs

from .seeds import trained

ARITHMETIC = ["arithmetic", "digits", "two-step"]


def needed(chapter: str) -> list[str]:
    """The shipped models that a chapter asks for and a reader can train."""
    text = (stubs.ROOT / "course" / f"{chapter}.py").read_text()
    return [name for name in ARITHMETIC if f'the_model("{name}")' in text] or ["induction"]


def failures(chapter: str, models: dict[str, str]) -> list[str]:
    """The claims of a chapter that these models break; an exception counts as one more."""
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            run_chapter(chapter_path(str(int(chapter[2:4]))), models=models)
    except Exception as error:
        return [*Session.failed, f"stopped by {type(error).__name__}: {error}"]
    return Session.failed


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.claims")
    parser.add_argument("chapters", nargs="*", type=int, metavar="CHAPTER")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first", type=int, default=100)
    parser.add_argument("--keep", type=Path, metavar="FOLDER")
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        home, worst, seeds = (
            (args.keep or Path(temporary)).resolve(),
            0,
            range(args.first, args.first + args.seeds),
        )
        os.chdir(temporary)  # the chapters draw pictures; not into the reader's folder
        for chapter in [
            name
            for name in stubs.chapters()
            if not args.chapters or int(name[2:4]) in args.chapters
        ]:
            sets = [
                {name: str(trained(name, seed, home)) for name in needed(chapter)} for seed in seeds
            ]
            broken = Counter(text for models in sets for text in failures(chapter, models))
            print(
                f"{chapter}: {len(broken)} claims left their band on some of {len(sets)} seeds",
                flush=True,
            )
            for text, times in broken.most_common():
                print(f"    {times} of {len(sets)}: {text}", flush=True)
            worst = max([worst, *broken.values()])
        print(f"\nevery claim holds on at least {len(seeds) - worst} of {len(seeds)} seeds")


if __name__ == "__main__":
    main()
