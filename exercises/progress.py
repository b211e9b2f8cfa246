"""What passes: computed by running the checks, in a process of its own, and never stored.

What ends that process (os._exit, a crash, a loop that no alarm reaches) is a failure of the
exercise that did it; the others are checked in a new one.
"""

import contextlib
import difflib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from . import limits, stubs
from .attempts import UNUSABLE

PRINTED = 8  # at most so many lines of what was printed are shown
UNWANTED = re.compile("PYTEST|PYTHON(OPTIMIZE|WARNINGS|INSPECT|BREAKPOINT|STARTUP)")


class NotChecked(RuntimeError):
    """The checks themselves could not be run; says why."""


@dataclass
class Outcome:
    """How the checks of one exercise went, up to the first that failed, and what that one says."""

    passed: int = 0
    message: str = ""
    printed: str = ""  # what the learner's function printed in the check that failed

    @property
    def sign(self) -> str:
        return "✗" if self.message else "✓" if self.passed else "·"

    @property
    def text(self) -> str:
        """The message, then what the learner's function printed."""
        shown = self.printed.splitlines()
        lines = [self.message, *(f"  printed:   {line[:200]}" for line in shown[:PRINTED])]
        if len(shown) > PRINTED:
            lines.append(f"  printed:   ... {len(shown) - PRINTED} lines more")
        return "\n".join(lines)


class Ended(NamedTuple):
    """How a process of checks ended: what it reported, its exit status, its last words."""

    reports: list[dict]
    status: int | None  # None: it was ended from here
    words: str


def run(wanted: list[tuple[str, str]]) -> dict[tuple[str, str], Outcome]:
    """Run the checks of these (chapter, exercise) pairs on the learner's files.

    Raises NotChecked if that cannot be done.
    """
    outcomes = {pair: Outcome() for pair in wanted}
    left, ended = worth_running(wanted), {}
    while left:
        process = run_checks(left, ended)
        begun = None
        for report in process.reports:
            begun = report.get("begun", begun)
            if "fault" in report:
                raise NotChecked(f"the checks could not be run: {report['fault']}")
            if "done" in report:
                chapter, name = report.pop("done")
                outcomes[chapter, name] = Outcome(**report)
                left.remove((chapter, name))
        if not left:
            break
        chapter, name = begun or ("", "")
        if not begun or name in ended.get(chapter, {}):
            raise NotChecked(last_line(process))
        ended.setdefault(chapter, {})[name] = cause(process, chapter, name)
    return outcomes


def worth_running(wanted: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """What is attempted; of a chapter that cannot be read, everything: its checks will say so."""
    found = []
    for chapter in dict.fromkeys(chapter for chapter, _ in wanted):
        names = [name for where, name in wanted if where == chapter]
        try:
            tried = stubs.attempted(chapter)
        except SyntaxError:
            tried = names
        found += [(chapter, name) for name in names if name in tried]
    return found


def run_checks(left: list[tuple[str, str]], ended: dict[str, dict]) -> Ended:
    """Start runner.py on what is left, and wait for its end."""
    wanted = {chapter: [] for chapter, _ in left}
    for chapter, name in left:
        wanted[chapter].append(name)
    job = {"wanted": wanted, "ended": ended, "seconds": limits.SECONDS}
    job["folder"] = str(stubs.FOLDER)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as temporary:
        folder = Path(temporary)
        (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
        (folder / "reports.jsonl").touch()
        most = 60 + 20 * limits.SECONDS * len(left)
        with open(folder / "words", "wb") as words:
            status = wait_for(folder, words, most)
        lines = (folder / "reports.jsonl").read_text(encoding="utf-8").splitlines()
        said = (folder / "words").read_text(encoding="utf-8", errors="replace")
    return Ended([json.loads(line) for line in lines], status, said)


def wait_for(folder: Path, words, most: float) -> int | None:
    """The exit status of runner.py; None if it had to be ended, after so many seconds."""
    quiet = {"stdin": subprocess.DEVNULL, "stdout": words, "stderr": words}
    command = [sys.executable, "-P", "-m", "exercises.runner", str(folder)]
    process = subprocess.Popen(command, env=environment(), start_new_session=True, **quiet)
    try:
        return process.wait(most)
    except subprocess.TimeoutExpired:
        return None
    finally:  # also on Ctrl-C
        process.kill()
        process.wait()
        end_copies(process.pid)


def end_copies(session: int) -> None:
    """End what an attempt has forked off and left behind: all that is in the session of the checks.

    Windows has neither forks nor sessions.
    """
    if hasattr(os, "killpg"):
        with contextlib.suppress(OSError):  # nobody is left
            os.killpg(session, signal.SIGKILL)


def environment() -> dict[str, str]:
    """The environment without what could change a verdict; the project's own modules come first."""
    kept = {name: value for name, value in os.environ.items() if not UNWANTED.match(name)}
    path = [str(stubs.ROOT), *filter(None, [kept.get("PYTHONPATH")])]
    return kept | {"PYTHONPATH": os.pathsep.join(path), "PYTHONUTF8": "1"}


def cause(process: Ended, chapter: str, name: str) -> tuple[str, int | None]:
    """What ended a process of checks, in a sentence, and the learner's line that did."""
    status = process.status
    if status is None or "Timeout (" in process.words:
        sentence = str(limits.OutOfTime(limits.SECONDS))
    elif 0 <= status < 256:
        sentence = f"it ends Python itself, with exit status {status} (os._exit?)"
    elif -status == getattr(signal, "SIGKILL", 0):
        sentence = "Python was ended from outside: does it need more memory than there is?"
    else:
        sentence = "Python itself crashed in it"
    if not name:
        sentence = f"{UNUSABLE} imported: {sentence} (exercises/{chapter}.py)"
    path = str(stubs.exercise_path(chapter)).encode("ascii", "backslashreplace").decode()
    line = re.search(f'File "{re.escape(path)}", line (\\d+)', process.words)
    return sentence, int(line[1]) if line else None


def last_line(process: Ended) -> str:
    lines = process.words.strip().splitlines()
    said = f": {lines[-1].strip()}" if lines else ""
    return f"the checks could not be run, Python ended with exit status {process.status}{said}"


def nearest(name: str, every: list[tuple[str, str]]) -> str:
    known = [exercise for _, exercise in every] + stubs.chapters()
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
    return f"Near it: {', '.join(near)}." if near else "`python -m exercises` lists them."
