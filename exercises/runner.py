"""Runs checks in a process of its own, so that an attempt can harm nothing but this process.

progress.py starts it with a folder. In it, job.json says what is wanted; each exercise that begins
and each that is done becomes a line of reports.jsonl. An exercise that begins and is never done has
ended the process.
"""

import contextlib
import faulthandler
import importlib
import io
import json
import os
import pdb
import signal
import sys
from pathlib import Path

import torch

from tests.exercises import checking

from . import limits, stubs
from .attempts import Wrong, describe, load_file, load_function, own_line

LONGEST = 20_000  # so much of what an attempt prints is kept


class Reports:
    """The file that the parent reads; opened for each line, should an attempt close all files."""

    def __init__(self, path: Path):
        self.path, self.process = path, os.getpid()

    def add(self, **report) -> None:
        if os.getpid() != self.process:  # a copy of this process, that an attempt has forked off
            os._exit(0)
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(report) + "\n")


class Printed(io.StringIO):
    """What an attempt prints, as far as anybody would read."""

    def write(self, text: str) -> int:
        super().write(text[: max(0, LONGEST - self.tell())])
        return len(text)


def no_debugger(*_, **__) -> None:
    raise RuntimeError("a check has no keyboard for a debugger: take breakpoint() out, or print")


def run_chapter(chapter: str, names: list[str], ended: dict[str, list], reports: Reports) -> None:
    """Check some exercises of a chapter; if its file cannot be imported, all of them say so.

    ended: what ended a process before ("" stands for the import) -> the sentence, the line.
    """
    tests = vars(importlib.import_module(f"tests.exercises.test_{chapter}")).values()
    reports.add(begun=[chapter, ""])
    unusable = Wrong(*ended[""]) if "" in ended else fault_of_file(chapter)
    for name in names:
        reports.add(begun=[chapter, name])
        known = Wrong(*ended[name]) if name in ended else unusable
        part = None if known else called_and_ended(chapter, name, ended)
        if known:
            found = refused(said(known, chapter, name))
        elif part:
            found = refused(checking.to_fix_first(name, part, chapter))
        else:
            checks = [test for test in tests if getattr(test, "exercise", None) == name]
            found = result(chapter, name, checks)
        reports.add(done=[chapter, name], **found)


def refused(message: str, passed: int = 0, printed: str = "") -> dict:
    return {"passed": passed, "message": message, "printed": printed}


def called_and_ended(chapter: str, name: str, ended: dict[str, list]) -> str | None:
    """An exercise that this one calls, and that has ended a process."""
    if not ended:
        return None
    try:
        function = load_function(stubs.exercise_path(chapter), name)
        called = checking.exercises_called(function, chapter)
    except (Wrong, AttributeError):  # it is no function; its check will say so
        return None
    return next((part for part in called if part in ended), None)


def fault_of_file(chapter: str) -> Wrong | None:
    try:
        with silenced(Printed()):
            load_file(stubs.exercise_path(chapter))
    except BaseException as error:
        return as_wrong(error, chapter)
    return None


def result(chapter: str, name: str, checks: list) -> dict:
    """How many checks of an exercise pass, up to the first that fails; what that one says, and what
    was printed in it.
    """
    for passed, test in enumerate(checks):
        printed = Printed()
        try:
            with silenced(printed), limits.restored_state():
                path = stubs.exercise_path(chapter)
                message = checking.failure(test.check, chapter, name, test.mistakes, path)
        except BaseException as error:  # a KeyboardInterrupt that the attempt raised, for one
            message = said(as_wrong(error, chapter), chapter, name)
        if message:
            return refused(message, passed, printed.getvalue())
    return refused("", len(checks))


@contextlib.contextmanager
def silenced(printed: Printed):
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        yield


def as_wrong(error: BaseException, chapter: str) -> Wrong:
    if isinstance(error, Wrong):
        return error
    return Wrong(describe(error), own_line(error, stubs.exercise_path(chapter)))


def said(wrong: Wrong, chapter: str, name: str) -> str:
    return checking.message(name, chapter, wrong, None, stubs.exercise_path(chapter))


def main(folder: Path) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears Ctrl-C, and ends this process
    faulthandler.enable()
    job = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    limits.SECONDS, limits.time_limit.ends_process = job["seconds"], True
    stubs.FOLDER = Path(job["folder"])
    sys.breakpointhook = pdb.set_trace = no_debugger
    torch.set_num_threads(1)
    reports = Reports(folder / "reports.jsonl")
    try:
        for chapter, names in job["wanted"].items():
            run_chapter(chapter, names, job["ended"].get(chapter, {}), reports)
    except Exception as error:  # a fault of the checks
        reports.add(fault=describe(error))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
    os._exit(0)  # no thread that an attempt has started may hold this up
