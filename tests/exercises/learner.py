"""A learner for the tests of the desk: a folder with one chapter's exercise file, and what stands
in it.
"""

import multiprocessing
import os
import sys
import textwrap
from pathlib import Path

from exercises import limits, progress, runner, stubs

CHAPTER = "ch01_transformer"
RIGHT = """\
scores = einsum(q, k, "batch query head d_head, batch key head d_head -> batch head query key")
later = torch.ones(scores.shape[-2:]).triu(1).bool()
return (scores / math.sqrt(q.shape[-1])).masked_fill(later, -math.inf).softmax(dim=-1)
"""

# Where processes can be copied: the process of a check need not import torch for a second.
COPIES = multiprocessing.get_context("forkserver") if sys.platform == "linux" else None
if COPIES:
    COPIES.set_forkserver_preload([runner.__name__, f"tests.exercises.test_{CHAPTER}"])


def check_in_a_copy(folder: Path, words: str) -> None:
    """What runner.py does when it is started."""
    os.setsid()
    file = os.open(words, os.O_WRONLY | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)
    runner.main(folder)


def wait_for_a_copy(folder: Path, words, most: float) -> int | None:
    """progress.wait_for, with a copy of a process that has imported all and run nothing."""
    process = COPIES.Process(target=check_in_a_copy, args=(folder, words.name))
    process.start()
    try:
        process.join(most)
        return process.exitcode
    finally:
        process.kill()
        process.join()
        progress.end_copies(process.pid)


class Learner:
    """Writes answers into a folder of their own."""

    def __init__(self, folder: Path, monkeypatch):
        monkeypatch.setattr(stubs, "FOLDER", folder)
        monkeypatch.setattr(stubs, "chapters", lambda: [CHAPTER])
        monkeypatch.setattr(limits, "SECONDS", 1.0)
        monkeypatch.setattr(limits, "GRACE", 0.5)
        self.wait_for = progress.wait_for  # as it is outside of the tests
        if COPIES:
            monkeypatch.setattr(progress, "wait_for", wait_for_a_copy)
        self.path = folder / f"{CHAPTER}.py"
        solution = stubs.solution_path(CHAPTER).read_text(encoding="utf-8")
        self.path.write_text(stubs.stub_text(solution), encoding="utf-8")

    @property
    def text(self) -> str:
        return self.path.read_text(encoding="utf-8")

    def answers(self, body: str, name: str = "attention_pattern") -> None:
        """Put `body` in the place of a stub's NotImplementedError."""
        stub = f'    raise NotImplementedError("{name}")'
        assert stub in self.text
        answer = self.text.replace(stub, textwrap.indent(body, "    "))
        self.path.write_text(answer, encoding="utf-8")

    def writes(self, code: str, where: str = "below") -> None:
        """Add lines to the file: above its first line, or below its last."""
        text = f"{code}\n{self.text}" if where == "above" else f"{self.text}\n\n{code}\n"
        self.path.write_text(text, encoding="utf-8")
