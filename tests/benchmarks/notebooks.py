"""Does every notebook run in a kernel? python -m tests.benchmarks.notebooks [NUMBER ...]

Writes each chapter as a notebook twice, by the command line: as it is, and with --mine where every
exercise holds its answer. A kernel runs both, in copies of the project. A run is right if no cell
fails, each picture of the chapter stands below its cell, in order, and is the file that the cell
names, the claims print what is known of other models, and --mine names every exercise. Exits with 1
if one is not.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from exercises import stubs
from tests.course import kernel


def copies(home: Path) -> dict[str, Path]:
    """Two copies of the project: every exercise a stub; every exercise answered."""
    plain = kernel.copy_of_the_project(home / "plain")
    mine = kernel.copy_of_the_project(home / "mine")
    for chapter in stubs.chapters():
        shutil.copy(stubs.solution_path(chapter), mine / "exercises" / f"{chapter}.py")
    return {"": plain, "--mine": mine}


def faults(done, folder: Path, chapter: str, option: str) -> list[str]:
    """What is wrong with a notebook that ran."""
    said, shown = kernel.pictures_said(done), kernel.pictures(done)
    found = []
    if shown != [(folder / path).read_bytes() for path in said] or not shown:
        found.append(f"{len(said)} pictures written, {len(shown)} shown, or not the same")
    if not all(Path(path).name.startswith(f"{chapter}_") for path in said):
        found.append("a picture is not called after its chapter")
    printed = kernel.printed(done)
    if not kernel.CLAIM.search(printed):
        found.append("no claim knows of other models")
    names = ", ".join(stubs.exercise_names(chapter))
    if option and f"yours in this chapter: {names}\n" not in printed:
        found.append("an exercise is not the learner's")
    return found


def run(chapter: str, option: str, folder: Path) -> tuple[str, bool]:
    """(a row of the table, is all right?)"""
    words = [sys.executable, "-m", "course", "notebook", f"{int(chapter[2:4])}"]
    if option:
        words.append(option)
    subprocess.run(words, cwd=folder, check=True, capture_output=True)
    path = folder / f"{chapter}_mine.ipynb" if option else folder / f"{chapter}.ipynb"
    began = time.perf_counter()
    try:
        done = kernel.executed(path, folder)
    except Exception as error:  # a cell that fails, or a kernel that dies: the next one may run
        return f"| {int(chapter[2:4])} | {option} | | | | {str(error)[-300:]!r} |", False
    took, wrong = time.perf_counter() - began, faults(done, folder, chapter, option)
    cells = len([cell for cell in done.cells if cell.cell_type == "code"])
    row = f"{cells} | {len(kernel.pictures(done))} | {took:.0f} s | {'; '.join(wrong) or 'nothing'}"
    return f"| {int(chapter[2:4])} | {option} | {row} |", not wrong


def main() -> int:
    every = sorted(path.stem for path in (stubs.ROOT / "course").glob("ch*.py"))
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("number", nargs="*", type=int, help="these chapters only")
    numbers = parser.parse_args().number
    chosen = [chapter for chapter in every if not numbers or int(chapter[2:4]) in numbers]
    print("| chapter | option | cells of code | pictures | with the kernel's start | wrong |")
    print("|---|---|---|---|---|---|")
    right = []
    with tempfile.TemporaryDirectory() as home:
        for option, folder in copies(Path(home)).items():
            for chapter in chosen:
                row, fine = run(chapter, option, folder)
                right.append(fine)
                print(row, flush=True)
    print(f"\n{sum(right)} of {len(right)} notebooks ran as they should")
    return int(not all(right))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except pytest.skip.Exception as why:  # no Jupyter: what a test would be skipped with
        sys.exit(f"{why}")
