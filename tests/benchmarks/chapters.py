"""What does each chapter cost? python -m tests.benchmarks.chapters

Runs every chapter and every chapter's checks in a process of its own and prints a table: exercises,
checks, named mistakes, seconds (imports not counted for the chapter, counted for the checks) and
peak memory of the chapter.
"""

import importlib
import os
import re
import subprocess
import sys
import tempfile
import time

from exercises import stubs

RUN = """
import resource, sys
from course.__main__ import main
code = main([sys.argv[1]])
print("peak", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
sys.exit(code)
"""


def run(*words: str, folder: str) -> tuple[str, float]:
    """(what a command printed, its seconds). Raises CalledProcessError if it failed."""
    began = time.perf_counter()
    environment = os.environ | {"PYTHONPATH": str(stubs.ROOT)}
    kept = {"capture_output": True, "text": True, "check": True}
    done = subprocess.run(words, **kept, cwd=folder, env=environment)
    return done.stdout, time.perf_counter() - began


def row(chapter: str, folder: str) -> str:
    tests = vars(importlib.import_module(f"tests.exercises.test_{chapter}")).values()
    checks = [test for test in tests if hasattr(test, "exercise")]
    mistakes = {(test.exercise, label) for test in checks for label in test.mistakes}
    printed, _ = run(sys.executable, "-c", RUN, str(int(chapter[2:4])), folder=folder)
    seconds = re.search(r"chapter \d\d: ([\d.]+) s", printed)[1]
    per_megabyte = 2**20 if sys.platform == "darwin" else 1024  # bytes on macOS, else kilobytes
    peak = int(re.search(r"peak (\d+)", printed)[1]) / per_megabyte
    pytest = [sys.executable, "-m", "pytest", "-c", str(stubs.ROOT / "pyproject.toml")]
    file = str(stubs.ROOT / "tests" / "exercises" / f"test_{chapter}.py")
    _, checking = run(*pytest, file, folder=str(stubs.ROOT))
    counts = f"{len(stubs.exercise_names(chapter))} | {len(checks)} | {len(mistakes)}"
    return f"| {int(chapter[2:4])} | {counts} | {seconds} s | {checking:.1f} s | {peak:.0f} MB |"


def main() -> None:
    columns = ["chapter", "exercises", "checks", "named mistakes"]
    columns += ["its run", "its checks, with imports", "peak memory"]
    print("| " + " | ".join(columns) + " |")
    print("|---" * len(columns) + "|")
    with tempfile.TemporaryDirectory() as folder:
        for chapter in stubs.chapters():
            print(row(chapter, folder), flush=True)


if __name__ == "__main__":
    main()
