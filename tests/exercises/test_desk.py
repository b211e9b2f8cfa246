"""The desk itself: whatever a learner writes, the answer is one short message about their own line."""

import textwrap

import pytest

from course import __main__ as course
from exercises import __main__ as desk
from exercises import progress, stubs
from tests.exercises import checking

CHAPTER = "ch01_transformer"
RIGHT = """\
scores = einsum(q, k, "batch query head d_head, batch key head d_head -> batch head query key")
later = torch.ones(scores.shape[-2:]).triu(1).bool()
return (scores / math.sqrt(q.shape[-1])).masked_fill(later, -math.inf).softmax(dim=-1)
"""


@pytest.fixture
def attempt(tmp_path, monkeypatch):
    """Replace attention_pattern's stub in a copy of chapter 1's exercise file by `body`."""
    (tmp_path / f"{CHAPTER}.py").write_text(stubs.stub_text(stubs.solution_path(CHAPTER).read_text()))
    monkeypatch.setattr(stubs, "exercise_path", lambda chapter: tmp_path / f"{chapter}.py")
    monkeypatch.setattr(stubs, "chapters", lambda: [CHAPTER])
    monkeypatch.setattr(checking, "SECONDS", 0.5)

    def write(body: str, name: str = "attention_pattern"):
        path = stubs.exercise_path(CHAPTER)
        stub = f'    raise NotImplementedError("{name}")'
        path.write_text(path.read_text().replace(stub, textwrap.indent(body, "    ")))

    return write


def messages(name: str = "attention_pattern") -> list[str]:
    return progress.run([(CHAPTER, name)])[CHAPTER, name].messages


def test_a_right_answer_passes(attempt):
    attempt(RIGHT)
    outcome = progress.run([(CHAPTER, "attention_pattern")])[CHAPTER, "attention_pattern"]
    assert outcome.sign == "✓" and outcome.passed == 2


def test_an_untouched_file_is_not_attempted(attempt):
    assert progress.run(desk.find("1"))[CHAPTER, "forward"].sign == "·"


BROKEN = {
    "a syntax error": ("return q +", "cannot be read", "return q +"),
    "an endless recursion": ("return attention_pattern(q, k)", "RecursionError", "return attention_pattern(q, k)"),
    "an endless loop": ("while True:\n    pass", "never ends", ""),
    "no return": ("q @ q.transpose(-1, -2)", "returned None", ""),
    "a wrong shape": ("return q", "expected the shape [batch, head, query, key]", ""),
    "a wrong dtype": (RIGHT.replace(".softmax(dim=-1)", ".softmax(dim=-1).long()"), "expected numbers of type", ""),
    "not a tensor": ("return 'pattern'", "str", ""),
    "an edited argument": ("q *= 2\n" + RIGHT, "changed one of its arguments in place", ""),
    "an exception": ("scores = q @ k\nreturn scores", "RuntimeError", "scores = q @ k"),
    "an exit": ("raise SystemExit", "SystemExit", "raise SystemExit"),
    "another stub": ("return forward({}, q)", "it calls forward, which is not written yet", "return forward({}, q)"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_what_learners_break(attempt, kind):
    body, sentence, line = BROKEN[kind]
    attempt(body)
    found = messages()
    assert found and all(sentence in message for message in found), found
    for message in found:
        assert len(message.splitlines()) <= 6 and "Traceback" not in message and "checking.py" not in message
        assert f"exercises/{CHAPTER}.py" in message and "python -m exercises hint attention_pattern" in message
        assert not line or f"your line: {line}" in message, message


def test_a_broken_function_does_not_stop_the_others(attempt):
    attempt("while True:\n    pass")
    attempt("return head", name="head_output")
    signs = [outcome.sign for outcome in progress.run(desk.find("1")).values()]
    assert signs == ["✗", "✗", "·", "·"]


def test_a_named_mistake_is_named(attempt):
    attempt(RIGHT.replace(" / math.sqrt(q.shape[-1])", ""))
    assert any("likely:    the scores were not divided by sqrt(d_head)" in message for message in messages())


def test_progress_check_and_hint_say_what_is_next(attempt, capsys):
    assert desk.main([]) == 0 and "next: attention_pattern" in capsys.readouterr().out
    attempt(RIGHT)
    assert desk.main(["check", "attention_pattern"]) == 0
    assert "✓ attention_pattern. Now compare with the reference" in capsys.readouterr().out
    assert desk.main(["hint"]) == 0 and "head_output, hint 1" in capsys.readouterr().out
    attempt("return x", name="head_output")
    assert desk.main(["check"]) == 1 and "head_output" in capsys.readouterr().out


@pytest.mark.parametrize("words", [["check", "nonsense"], ["hint", "forward", "99"], ["reset", "77"], ["hint", "forwrd"]])
def test_bad_words_get_a_sentence(words, capsys):
    assert desk.main(words) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_reset_keeps_the_old_file(attempt, capsys):
    attempt(RIGHT)
    path = stubs.exercise_path(CHAPTER)
    mine = path.read_text()
    for number in (1, 2):
        path.write_text(mine)
        assert desk.main(["reset", "1"]) == 0
        assert path.with_name(f"{CHAPTER}.{number}.old").read_text() == mine and stubs.attempted(CHAPTER) == []


def test_mine_puts_the_learner_into_the_chapter(attempt, capsys, monkeypatch):
    import solutions.ch01_transformer as reference

    for name in stubs.exercise_names(CHAPTER):  # so that monkeypatch puts the reference back afterwards
        monkeypatch.setattr(reference, name, getattr(reference, name))
    attempt("print('mine was called')\n" + RIGHT)
    course.use_mine()
    assert "yours in ch01_transformer: attention_pattern\n" in capsys.readouterr().out
    tokens = checking.torch.zeros(1, 3, dtype=checking.torch.long)
    from tests.exercises.test_ch01_transformer import MODEL, WEIGHTS

    assert checking.torch.allclose(reference.forward(WEIGHTS, tokens), MODEL(tokens))
    assert "mine was called" in capsys.readouterr().out
