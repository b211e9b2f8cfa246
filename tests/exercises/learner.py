"""A learner for the tests of the desk: a folder with one chapter's exercise file, and what stands
in it.
"""

import textwrap
from pathlib import Path

from exercises import limits, stubs

CHAPTER = "ch01_transformer"
RIGHT = """\
scores = einsum(q, k, "batch query head d_head, batch key head d_head -> batch head query key")
later = torch.ones(scores.shape[-2:]).triu(1).bool()
return (scores / math.sqrt(q.shape[-1])).masked_fill(later, -math.inf).softmax(dim=-1)
"""


class Learner:
    """Writes answers into a folder of their own."""

    def __init__(self, folder: Path, monkeypatch):
        monkeypatch.setattr(stubs, "FOLDER", folder)
        monkeypatch.setattr(stubs, "chapters", lambda: [CHAPTER])
        monkeypatch.setattr(limits, "SECONDS", 1.0)
        monkeypatch.setattr(limits, "GRACE", 0.5)
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
