"""What do wrong inputs get? python -m tests.benchmarks.bad_input

Tries every case of tests/minitransformer/bad_input_cases.py and prints a table: the input, and the
message that it gets. The table ends with the number of cases that were answered badly.
tests/minitransformer/test_bad_input.py holds each case to it.
"""

import sys
import tempfile
from pathlib import Path

import torch

from tests.minitransformer.bad_input import (
    Case,
    answer,
    answer_of,
    faults,
    fingerprint,
    start_programs,
)
from tests.minitransformer.bad_input_cases import CASES
from tests.minitransformer.bad_input_material import write_folder


def row(case: Case, message: str) -> str:
    """One line of the table."""
    given = f"`{shortened(case.given, 120, 80)}`"
    if case.attempt:
        given += f" (attempt: {case.attempt})"
    if case.folder != ".":
        given += f" (in {case.folder}/)"
    text = " ".join(line.strip() for line in message.splitlines())
    cells = [given, shortened(text, 400, 400)]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def shortened(text: str, most: int, kept: int) -> str:
    return text if len(text) < most else text[:kept] + " ..."


def main() -> int:
    torch.set_num_threads(1)
    bad = 0
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder).resolve()
        write_folder(home)
        before = fingerprint(home)
        print("| input | message |\n|---|---|")
        started = start_programs(CASES, home)
        answers = [(case, answer(case, home)) for case in CASES]
        answers += [(case, answer_of(process)) for case, process in started.items()]
        for case, got in answers:
            found = faults(case, got)
            bad += bool(found)
            print(row(case, got.message) + "".join(f" **{fault}**" for fault in found), flush=True)
        changed = fingerprint(home) != before
    files = "yes" if changed else "none"
    print(f"\n{len(answers)} wrong inputs, {bad} answered badly; files changed: {files}")
    return int(bool(bad or changed))


if __name__ == "__main__":
    sys.exit(main())
