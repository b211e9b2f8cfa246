"""What passes: computed by running the checks with pytest, never stored."""

import contextlib
import difflib
import io
from dataclasses import dataclass, field

import pytest

from . import stubs

# The last of these plugins collects garbage: most of a check's time.
WITHOUT = ["-p", "no:terminal", "-p", "no:cacheprovider", "-p", "no:unraisableexception"]
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
        """All messages, each said once, as are the two lines that they end in alike; then what the
        learner's function printed.
        """
        blocks = [message.splitlines() for message in dict.fromkeys(self.messages)]
        last, lines = blocks[-1], []
        for block in blocks[:-1]:
            lines += [line for line in block if line not in last[-2:]]
        lines += last
        shown = self.printed.splitlines()
        lines += [f"  printed:   {line[:200]}" for line in shown[:PRINTED]]
        if len(shown) > PRINTED:
            lines.append(f"  printed:   ... {len(shown) - PRINTED} lines more")
        return "\n".join(lines)


class Collector:
    """A pytest plugin: keep the learner's side of the wanted exercises, note how each went."""

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
    chapters = dict.fromkeys(chapter for chapter, _ in wanted)
    folder = stubs.ROOT / "tests" / "exercises"
    files = [str(folder / f"test_{chapter}.py") for chapter in chapters if worth_running(chapter)]
    if files:
        with contextlib.redirect_stdout(io.StringIO()):  # what pytest says is not for the learner
            pytest.main(["-o", "addopts=", *WITHOUT, *files], plugins=[collector])
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
