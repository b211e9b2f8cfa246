"""Does every command work on any terminal? python -m tests.benchmarks.terminals [CONDITION ...]

Copies the project into a folder with spaces, umlauts and a long name, writes a wrong answer there,
and types every command of the three programs under each condition. A command is answered well if
it exits as it does in a plain terminal, prints no traceback, and says something if it refuses.
Another Python: run this file with it. Exits with 1 if anything was answered badly.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from exercises.stubs import ROOT

# the command, and what it exits with
COMMANDS = {
    "minitransformer --help": 0,
    "minitransformer train --steps 12 --device cpu --out 'runs/ü x'": 0,
    "minitransformer train --resume 'runs/ü x'": 0,
    "minitransformer train --out 'runs/ü x'": 2,
    "minitransformer evaluate 'runs/ü x'": 0,
    "minitransformer evaluate 'nö where'": 2,
    "minitransformer look 'runs/ü x' --out 'pictures ü'": 0,
    "course": 0,
    "course 2": 0,
    "course 1 --mine": 2,
    "course notebook 4": 0,
    "course notebook all": 0,
    "course other_models": 0,
    "course lab": 0,
    "course lab --model additive": 2,
    "course --route core": 0,
    "course --route nö": 2,
    "course 99": 2,
    "exercises": 0,
    "exercises --route core": 0,
    "exercises check": 1,
    "exercises check attention_pattern": 1,
    "exercises check ü": 2,
    "exercises hint attention_pattern": 0,
    "exercises reset 2": 0,
}
WRONG = "return q  # ρ ✓"
UNHEARD = {141}  # as head and its like end programs
SIGNS = ("Traceback", "Exception ignored", "Warning:", "Fatal Python")


class Condition(NamedTuple):
    settings: dict[str, str] = {}  # of the environment
    options: str = ""  # of Python
    after: str = ""  # what bash adds to the command line
    hears: bool = True  # does somebody read what is printed?
    also: frozenset[int] = frozenset()  # other statuses that are right here


C_LOCALE = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
PIPE = "| head -1; exit ${PIPESTATUS[0]}"
CONDITIONS = {
    "a plain terminal": Condition(),
    "cp1252 output": Condition({"PYTHONIOENCODING": "cp1252"}),
    "ASCII output": Condition({"PYTHONIOENCODING": "ascii"}),
    "LANG=C, no UTF-8 mode": Condition(C_LOCALE),
    "40 columns": Condition({"COLUMNS": "40"}),
    "head -1 reads stdout": Condition(after=PIPE, also=frozenset(UNHEARD)),
    "head -1 reads both": Condition(after=f"2>&1 {PIPE}", also=frozenset(UNHEARD)),
    "stdout closed": Condition(after=">&-", hears=False),
    "stderr closed": Condition(after="2>&-"),
    "all three closed": Condition(after="<&- >&- 2>&-", hears=False),
    "stdout to a full disk": Condition(after="> /dev/full", hears=False, also=frozenset({2})),
    "python -O": Condition(options="-O"),
    "python -W error": Condition(options="-W error"),
    "MPLBACKEND=svg": Condition({"MPLBACKEND": "svg"}),
    "PYTEST_ADDOPTS=-v --color=yes": Condition({"PYTEST_ADDOPTS": "-v --color=yes"}),
}


def copy_of_the_project(home: Path) -> Path:
    """Under a path of more than 200 characters, with a wrong answer in chapter 1."""
    copy = home / "tp ü" / ("long " * 36).strip()
    parts = ("minitransformer", "course", "exercises", "solutions", "tests")
    for part in parts:
        skipped = shutil.ignore_patterns("__pycache__", "*.old")
        shutil.copytree(ROOT / part, copy / part, ignore=skipped)
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, copy / name)
    path = copy / "exercises" / "ch01_transformer.py"
    text = path.read_text(encoding="utf-8")
    line = 'raise NotImplementedError("attention_pattern")'
    path.write_text(text.replace(line, WRONG), encoding="utf-8")
    return copy


def faults(command: str, condition: Condition, folder: Path) -> list[str]:
    """What is wrong with how this command was answered; [] if nothing is."""
    line = f'"{sys.executable}" {condition.options} -m {command} {condition.after}'
    given = {"cwd": folder, "env": os.environ | condition.settings, "capture_output": True}
    done = subprocess.run(["bash", "-c", line], encoding="utf-8", errors="replace", **given)
    said, found = done.stdout + done.stderr, []
    if done.returncode not in {COMMANDS[command]} | condition.also:
        found.append(f"status {done.returncode}, not {COMMANDS[command]}")
    found += [f"{sign} ..." for sign in SIGNS if sign in said]
    if condition.hears and not said:
        found.append("nothing said")
    if found:
        print(f"    {command}: {'; '.join(found)}\n{said[-1500:]}", file=sys.stderr, flush=True)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("condition", nargs="*", help=", ".join(CONDITIONS))
    chosen = parser.parse_args().condition or list(CONDITIONS)
    bad = 0
    print(f"Python {sys.version.split()[0]}\n\n| condition | commands | answered badly | seconds |")
    print("|---|---|---|---|")
    for name in chosen:
        began = time.perf_counter()
        with tempfile.TemporaryDirectory() as home:
            folder = copy_of_the_project(Path(home))
            wrong = [command for command in COMMANDS if faults(command, CONDITIONS[name], folder)]
        bad += len(wrong)
        took = time.perf_counter() - began
        print(f"| {name} | {len(COMMANDS)} | {', '.join(wrong) or 0} | {took:.0f} |", flush=True)
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
