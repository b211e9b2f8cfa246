"""The desk itself: whatever a learner writes, the answer is one short message about their own
line.
"""

import re

import pytest

from course import __main__ as course
from exercises import __main__ as desk
from exercises import progress, runner, stubs
from exercises.commands import find
from tests.exercises.learner import CHAPTER, RIGHT, Learner


@pytest.fixture
def attempt(tmp_path, monkeypatch):
    """Replace attention_pattern's stub in a copy of chapter 1's exercise file by a body."""
    return Learner(tmp_path, monkeypatch).answers


class Kept(list):
    """Reports of runner.py, run in this very process: nothing here ends it, and that is quicker."""

    def add(self, **report) -> None:
        self.append(report)


def message(name: str = "attention_pattern") -> str:
    reports = Kept()
    runner.run_chapter(CHAPTER, [name], {}, reports)
    return reports[-1]["message"]


def test_a_right_answer_passes(attempt):
    attempt(RIGHT)
    outcome = progress.run([(CHAPTER, "attention_pattern")])[CHAPTER, "attention_pattern"]
    assert outcome.sign == "✓" and outcome.passed >= 2


def test_an_untouched_file_is_not_attempted(attempt):
    assert progress.run(find("1"))[CHAPTER, "forward"].sign == "·"


BROKEN = {
    "a syntax error": ("return q +", "cannot be read", "return q +"),
    "an endless recursion": (
        "return attention_pattern(q, k)",
        "RecursionError",
        "return attention_pattern(q, k)",
    ),
    "an endless loop": ("while True:\n    pass", "never ends", ""),
    "no return": ("q @ q.transpose(-1, -2)", "returned None", ""),
    "a wrong shape": ("return q", "expected the shape [batch, head, query, key]", ""),
    "a wrong dtype": (
        RIGHT.replace(".softmax(dim=-1)", ".softmax(dim=-1).long()"),
        "expected numbers of type",
        "",
    ),
    "not a tensor": ("return 'pattern'", "expected a tensor, got 'pattern'", ""),
    "an edited argument": ("q *= 2\n" + RIGHT, "changed one of its arguments in place", ""),
    "an exception": ("scores = q @ k\nreturn scores", "RuntimeError", "scores = q @ k"),
    "an exit": ("raise SystemExit", "SystemExit", "raise SystemExit"),
    "the raise left below": (
        'scores = q @ k.mT\nraise NotImplementedError("attention_pattern")',
        "`raise NotImplementedError` is still in it",
        'raise NotImplementedError("attention_pattern")',
    ),
    "a bare assert": ("assert q is k\nreturn q", "AssertionError", "assert q is k"),
    "another stub": (
        "return forward({}, q)",
        "it calls forward, which is not written yet",
        "return forward({}, q)",
    ),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_what_learners_break(attempt, kind):
    body, sentence, line = BROKEN[kind]
    attempt(body)
    found = message()
    assert sentence in found and len(found.splitlines()) <= 6, found
    assert "Traceback" not in found and "checking.py" not in found
    assert f"exercises/{CHAPTER}.py" in found
    assert "python -m exercises hint attention_pattern" in found
    assert f"your line: {line}" in found or not line, found


def test_a_broken_function_does_not_stop_the_others(attempt):
    attempt("while True:\n    pass")
    attempt("return head", name="head_output")
    signs = [outcome.sign for outcome in progress.run(find("1")).values()]
    assert signs == ["✗", "✗", "·", "·"]


def test_a_named_mistake_is_named(attempt):
    attempt(RIGHT.replace(" / math.sqrt(q.shape[-1])", ""))
    assert "likely:    the scores were not divided by sqrt(d_head)" in message()


def test_progress_check_and_hint_say_what_is_next(attempt, capsys):
    assert desk.main([]) == 0 and "next: attention_pattern" in capsys.readouterr().out
    attempt(RIGHT)
    assert desk.main(["check", "attention_pattern"]) == 0
    assert "✓ attention_pattern. Now compare with the reference" in capsys.readouterr().out
    assert desk.main(["hint"]) == 0 and "head_output, hint 1" in capsys.readouterr().out
    attempt("return x", name="head_output")
    assert desk.main(["check"]) == 1 and "head_output" in capsys.readouterr().out


def test_hint_is_about_what_does_not_pass_yet(attempt, capsys):
    attempt("return q")
    assert desk.main(["hint"]) == 0 and "attention_pattern, hint 1" in capsys.readouterr().out
    attempt("return (", name="head_output")  # now the file cannot be read
    assert desk.main(["hint"]) == 0 and "attention_pattern, hint 1" in capsys.readouterr().out


def test_an_unreadable_file_is_said_once(attempt, capsys):
    attempt("return (")
    assert desk.main(["check"]) == 1
    out = capsys.readouterr().out
    assert out.count("cannot be read") == 1 and f"exercises/{CHAPTER}.py, line" in out
    assert (
        course.main(["1", "--mine"]) == 2
        and f"exercises/{CHAPTER}.py, line" in capsys.readouterr().err
    )


def test_two_checks_that_say_the_same_say_it_once(attempt, capsys):
    attempt("print('shape', list(q.shape))\nprint('secret')")
    desk.main(["check", "attention_pattern"])
    out = capsys.readouterr().out
    assert out.count("returned None") == 1 and out.count("python -m exercises hint") == 1
    assert re.search(r"printed:   shape \[.*\]\n  printed:   secret", out)


@pytest.mark.parametrize("gone", ["file", "name"])
def test_a_missing_function_is_said_to_be_missing(attempt, capsys, gone):
    path = stubs.exercise_path(CHAPTER)
    path.write_text(
        path.read_text(encoding="utf-8").replace("def forward(", "def forwards("), encoding="utf-8"
    )
    if gone == "file":
        path.unlink()
    assert desk.main(["check", "forward"]) == 1
    assert "forward is not in exercises/ch01_transformer.py" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words",
    [
        ["check", "nonsense"],
        ["hint", "forward", "99"],
        ["reset", "77"],
        ["reset"],
        ["reset", "forward"],
        ["hint", "forwrd"],
    ],
)
def test_bad_words_get_a_sentence(words, capsys):
    assert desk.main(words) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_reset_keeps_the_old_file(attempt, capsys):
    attempt(RIGHT)
    path = stubs.exercise_path(CHAPTER)
    mine = path.read_text(encoding="utf-8")
    for number in (1, 2):
        path.write_text(mine, encoding="utf-8")
        assert desk.main(["reset", "1"]) == 0
        assert (
            path.with_name(f"{CHAPTER}.{number}.old").read_text(encoding="utf-8") == mine
            and stubs.attempted(CHAPTER) == []
        )
