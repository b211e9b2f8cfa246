"""Gives a wrong input to the project, and judges the answer.

Nothing may end in a traceback; the message must be a sentence that names what was wrong; no file
may change, none may be left behind. A command line exits with 2 (`exercises check`: 1 if not all
that was asked for passes).
"""

import contextlib
import hashlib
import importlib
import io
import linecache
import os
import re
import shlex
import subprocess
import sys
import traceback
from pathlib import Path
from typing import NamedTuple
from unittest.mock import patch

import torch

from exercises import stubs
from tests.minitransformer.bad_input_material import CHAPTER, names

PROGRAMS = ("minitransformer", "course", "exercises")
# all must stay as it is
PARTS = ("minitransformer", "course", "exercises", "solutions", "tests", "README.md")
# a message ends with a full stop, or with the command that helps
LAST = re.compile(r"(\.|python -m [\w .-]+)$")


class Case(NamedTuple):
    given: str  # a command line that begins with "python -m", or an expression
    says: str  # parts of the message that name what was wrong, in order, with " ... " between them
    error: type[Exception] = ValueError  # what an expression raises
    code: int = 2  # what a command line exits with
    attempt: str = ""  # which attempt at chapter 1 the learner has written; "": none
    folder: str = "."  # where it is run

    @property
    def is_command(self) -> bool:
        return self.given.startswith("python -m ")


class Answer(NamedTuple):
    message: str
    code: int | None = None  # of a command line
    error: Exception | None = None  # of an expression
    usage: bool = False  # did a command line print its usage with the message?


def answer(case: Case, home: Path) -> Answer:
    """What a case gets, run in this process. home: the folder that write_folder filled."""
    with contextlib.chdir(home / case.folder), contextlib.ExitStack() as stack:
        if case.attempt:
            write_for_learner(home / "attempts" / case.attempt, stack)
        return run_command(case.given) if case.is_command else run_expression(case.given)


def write_for_learner(folder: Path, stack: contextlib.ExitStack) -> None:
    """As if `folder` were exercises/, with chapter 1 alone; afterwards the reference gets its
    functions back.
    """
    stack.enter_context(patch.object(stubs, "FOLDER", folder))
    stack.enter_context(patch.object(stubs, "chapters", lambda: [CHAPTER]))
    stack.enter_context(patch.dict(vars(importlib.import_module(f"solutions.{CHAPTER}"))))


def run_command(line: str) -> Answer:
    """Exceptions pass through: they are what a traceback would show."""
    _, _, module, *words = shlex.split(line)
    main = importlib.import_module(f"{module}.__main__").main
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        with patch("sys.argv", [module, *words]):
            try:
                code = main(words)
            except SystemExit as stop:  # argparse
                code = stop.code
    return said(err.getvalue() or out.getvalue(), code)


def said(text: str, code: int) -> Answer:
    """What a command line printed; of what argparse printed, the message without the usage in front
    of it.
    """
    usage, _, message = text.rpartition("error: ")
    if usage.startswith("usage: "):
        return Answer(message.strip(), code, usage=True)
    return Answer(text.strip().removeprefix("error: "), code)


def run_expression(text: str) -> Answer:
    try:
        eval(compile(text, "<expression>", "eval"), dict(names()))
    except Exception as error:
        return Answer(str(error.args[0] if isinstance(error, KeyError) else error), error=error)
    return Answer("nothing: it was accepted")


# ---- what is wrong with an answer


def faults(case: Case, got: Answer) -> list[str]:
    """What is wrong with the answer that a case got; [] if nothing is."""
    found = []
    if not re.search(".*".join(map(re.escape, case.says.split(" ... "))), got.message, re.DOTALL):
        found.append(f"it does not say {case.says!r}")
    if "Traceback" in got.message or not (got.usage or LAST.search(got.message)):
        found.append("it is no sentence")
    of_the_package = not case.is_command or case.given.startswith("python -m minitransformer")
    if of_the_package and "\n" in got.message:
        found.append("it is more than one line")
    if case.is_command:
        if got.code != case.code:
            found.append(f"exit code {got.code}, not {case.code}")
    elif not isinstance(got.error, case.error):
        found.append(f"{type(got.error).__name__}, not {case.error.__name__}")
    elif case.error is not torch.linalg.LinAlgError and not raised_on_purpose(got.error):
        found.append("nobody raised it on purpose")
    return found


def raised_on_purpose(error: Exception) -> bool:
    """Does it come from a line of this project that says `raise`? Otherwise Python or torch
    stumbled.
    """
    frame, number = list(traceback.walk_tb(error.__traceback__))[-1]
    path = frame.f_code.co_filename
    line = linecache.getline(path, number).strip()
    return Path(path).is_relative_to(stubs.ROOT) and line.startswith("raise ")


def content(path: str) -> str:
    return hashlib.blake2b(Path(path).read_bytes()).hexdigest()


def stamp(path: str) -> tuple[int, int]:
    """Quicker than the content: size and time of the last change."""
    return os.stat(path).st_size, os.stat(path).st_mtime_ns


def fingerprint(home: Path, look=content) -> dict[str, str | tuple[int, int]]:
    """What `look` sees of every file of the project and of `home`; but not Python's caches, and not
    what chapters draw.
    """
    found = {}
    for root in (home, *(stubs.ROOT / part for part in PARTS)):
        for folder, inner, files in os.walk(root):
            inner[:] = set(inner) - {"__pycache__", "figures"}
            for file in files:
                path = os.path.join(folder, file)
                found[path] = look(path)
    return found


# ---- the same as programs


def start_programs(cases: list[Case], home: Path) -> dict[Case, subprocess.Popen]:
    """The first case of each program, begun in a process of its own."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    environment = os.environ | {"PYTHONPATH": str(stubs.ROOT)}
    started = {}
    for module in PROGRAMS:
        case = next(case for case in cases if case.given.startswith(f"python -m {module}"))
        words = [sys.executable, *shlex.split(case.given)[1:]]
        started[case] = subprocess.Popen(words, cwd=home, env=environment, **pipes)
    return started


def answer_of(process: subprocess.Popen) -> Answer:
    out, err = process.communicate()
    return said(err or out, process.returncode)
