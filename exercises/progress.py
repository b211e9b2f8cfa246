"""What passes: computed by running the checks with pytest, never stored."""

import contextlib
import difflib
import io
from dataclasses import dataclass, field

import pytest

from . import stubs

PRINTED = 8  # at most so many lines of what was printed are shown


@dataclass
class Outcome:
    """How the checks of one exercise went, and what the failed ones say."""

    passed: int = 0
    messages: list[str] = field(default_factory=list)
    printed: str = ""  # what the learner's function printed in the first check that failed

    @property
    def sign(self) -> str:
        return "✗" if self.messages else "✓" if self.passed else "·"

    @property
    def text(self) -> str:
        """All messages, each said once; the lines that they end in alike are said once too, then
        what was printed.
        """
        blocks = [message.splitlines() for message in dict.fromkeys(self.messages)]
        last = blocks[-1]
        lines = [line for block in blocks[:-1] for line in block if line not in last[-2:]] + last
        shown = self.printed.splitlines()
        lines += [f"  printed:   {line[:200]}" for line in shown[:PRINTED]]
        return "\n".join(
            lines + [f"  printed:   ... {len(shown) - PRINTED} lines more"] * (len(shown) > PRINTED)
        )


class Collector:
    """A pytest plugin: keep the checks of the wanted exercises on the learner's side, note how each
    went.
    """

    def __init__(self, wanted: list[tuple[str, str]]):
        self.outcomes = {pair: Outcome() for pair in wanted}
        self.pairs: dict[str, tuple[str, str]] = {}  # test id -> (chapter, exercise)

    def pytest_collection_modifyitems(self, items):
        for item in items:
            pair = (item.path.stem.removeprefix("test_"), getattr(item.function, "exercise", ""))
            if item.name.endswith("[exercises]") and pair in self.outcomes:
                self.pairs[item.nodeid] = pair
        items[:] = [item for item in items if item.nodeid in self.pairs]

    def pytest_runtest_logreport(self, report):
        outcome = self.outcomes[self.pairs[report.nodeid]]
        if report.failed:
            outcome.messages.append(str(report.longrepr))
            outcome.printed = outcome.printed or report.capstdout
        elif report.when == "call" and report.passed:
            outcome.passed += 1


def run(wanted: list[tuple[str, str]]) -> dict[tuple[str, str], Outcome]:
    """Run the checks of these (chapter, exercise) pairs on the learner's files."""
    collector = Collector(wanted)
    tried = [
        chapter
        for chapter in dict.fromkeys(chapter for chapter, _ in wanted)
        if worth_running(chapter)
    ]
    files = [str(stubs.ROOT / "tests" / "exercises" / f"test_{chapter}.py") for chapter in tried]
    if files:
        # the last collects garbage: most of a check's time
        without = ("terminal", "cacheprovider", "unraisableexception")
        options = [word for name in without for word in ("-p", f"no:{name}")]
        # what pytest itself has to say is not for the learner
        with contextlib.redirect_stdout(io.StringIO()):
            pytest.main(["-o", "addopts=", *options, *files], plugins=[collector])
    return collector.outcomes


def worth_running(chapter: str) -> bool:
    """False for a chapter in which nothing is attempted: its checks would all be skipped."""
    try:
        return bool(stubs.attempted(chapter))
    except SyntaxError:
        return True  # its checks will say so


def nearest(name: str, every: list[tuple[str, str]]) -> str:
    known = [exercise for _, exercise in every] + stubs.chapters()
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
    return f"Near it: {', '.join(near)}." if near else "`python -m exercises` lists them."
