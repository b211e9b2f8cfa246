"""The chapters on the learner's own functions and models, at a terminal, in any environment."""

import ast
import os
import subprocess
import sys

import pytest
import torch

import solutions.ch01_transformer as reference
from course import __main__ as course
from course import cells, desk, mine, reading
from exercises import stubs
from tests.exercises.learner import CHAPTER, RIGHT, Learner


@pytest.fixture
def learner(tmp_path, monkeypatch) -> Learner:
    """In a folder of their own; afterwards the reference has its functions back."""
    monkeypatch.chdir(tmp_path)
    for name in stubs.exercise_names(CHAPTER):
        monkeypatch.setattr(reference, name, getattr(reference, name))
    return Learner(tmp_path, monkeypatch)


def failed(capsys, *words: str) -> str:
    """The one line that a command ends with."""
    assert course.main(list(words)) in (1, 2)
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    return said


# --mine


def test_mine_puts_the_learner_into_the_chapter(learner, capsys):
    learner.answers("print('mine was called')\n" + RIGHT)
    mine.use_mine(CHAPTER)
    assert "yours in this chapter: attention_pattern\n" in capsys.readouterr().out
    q = torch.randn(1, 3, 2, 5, generator=torch.Generator().manual_seed(0))
    pattern = reference.attention_pattern(q, q)
    assert pattern.shape == (1, 2, 3, 3) and mine.Called.here == {"attention_pattern": None}
    assert "mine was called" in capsys.readouterr().out


def test_the_header_lists_this_chapter_alone(learner, capsys):
    learner.answers(RIGHT)
    mine.use_mine("ch02_residual_stream")
    out = capsys.readouterr().out
    assert "attention_pattern" not in out


def test_a_file_of_another_chapter_that_cannot_be_read_is_left_out(learner, capsys):
    learner.writes("(")
    mine.use_mine("ch02_residual_stream")
    assert (
        "left out, yours of chapter 1: the file cannot be read: '(' was" in capsys.readouterr().out
    )


def test_a_chapter_stopped_by_the_learner_says_where(learner, capsys):
    learner.answers("return q @ torch.ones(3)")
    said = failed(capsys, "1", "--mine")
    assert said.startswith(f"exercises/{CHAPTER}.py, line ") and "RuntimeError" in said


@pytest.mark.parametrize(
    "body, says",
    [("exit()", "it ends the program"), ("return None", "Did a function of yours return")],
)
def test_an_unfit_function_gets_a_sentence(learner, capsys, body, says):
    learner.answers(body)
    assert says in failed(capsys, "1", "--mine")


def test_what_is_no_function_gets_a_sentence(learner, capsys):
    learner.answers(RIGHT)
    learner.writes("class attention_pattern:\n    pass")
    assert "attention_pattern: it is a class" in failed(capsys, "1", "--mine")


def test_a_failing_claim_names_the_learner_s_function_and_the_value_to_reproduce(learner, capsys):
    learner.answers(RIGHT.replace("q.shape[-1]", "9 * q.shape[-1]"))
    said = failed(capsys, "1", "--mine")
    assert "on the shipped model your functions must " in said
    assert "attention_pattern. See: python -m exercises check attention_pattern" in said


def test_a_failing_claim_without_the_learner_s_functions_is_not_their_fault():
    mine.Called.begin_chapter()
    error = desk.ClaimFails(desk.Claim("share", 0.3, 0.5, 1, []), "0.3 is not", 0.6)
    assert "not the reason" in reading.in_a_sentence(error, mine=True, models=[])
    mine.recorded(abs, "previous_token_score")(-1)
    said = reading.in_a_sentence(error, mine=True, models=[])
    assert "share: here it is 0.3" in said and "must reproduce 0.6" in said
    assert "Called in this cell: previous_token_score" in said
    mine.Called.begin_cell()
    assert "Called before it: previous_token" in reading.in_a_sentence(error, True, [])


# --model


def test_a_model_in_which_nothing_is_found_gets_a_sentence(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    said = failed(capsys, "7", "--model", "one-layer")
    assert said.startswith("course/ch07_qk_ov_circuits.py, line ") and "need two layers" in said


def test_with_mine_and_model_the_learner_is_not_blamed_alone(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(stubs, "chapters", lambda: [])  # nobody has written anything
    said = failed(capsys, "7", "--model", "one-layer", "--mine")
    assert "without --model" in said and "need two layers" in said


# --pause


def test_pause_waits_after_each_question(capsys):
    seen = []

    def wait():
        seen.append(capsys.readouterr().out)

    text = "One.\n\n*Predict:* two\nor three?\n\nFour.\n\n**Exercise** (5 minutes). *Predict* five."
    cells.tell(text, wait)
    assert [part.strip().splitlines()[-1] for part in seen] == ["or three?", text.split("\n")[-1]]
    assert "Four." in seen[1]
    cells.tell(text, None)
    assert capsys.readouterr().out.split() == text.split()


@pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals there")
@pytest.mark.parametrize("at_terminal", [True, False])
def test_pause_is_for_terminals(tmp_path, at_terminal):
    """At a terminal nobody answers, so the chapter is still at its first question."""
    import pty

    ours, theirs = pty.openpty()
    process = program("1", "--pause", stdin=theirs, stdout=theirs, folder=tmp_path)
    if not at_terminal:
        process.kill()
        process = program("1", "--pause", stdin=theirs, stdout=subprocess.PIPE, folder=tmp_path)
        assert b"chapter 01:" in process.communicate()[0]
        return
    said = b""
    while b"Enter goes on" not in said:
        said += os.read(ours, 1000)
    process.kill()
    process.wait()
    assert b"*Predict" in said.splitlines()[-3]


# Anywhere


def program(*words: str, stdin=None, stdout=None, folder=None, **variables: str):
    environment = os.environ | {"PYTHONPATH": str(stubs.ROOT)} | variables
    command = [sys.executable, "-m", "course", *words]
    pipes = {"stdin": stdin, "stdout": stdout, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, cwd=folder, env=environment, **pipes)


@pytest.mark.parametrize("backend", ["svg", "pdf", None])
def test_a_chosen_backend_is_left_alone(backend):
    code = "import course.desk, matplotlib; print(matplotlib.get_backend(auto_select=False))"
    environment = os.environ | {"PYTHONPATH": str(stubs.ROOT)}
    environment.pop("MPLBACKEND", None)
    if backend:
        environment["MPLBACKEND"] = backend
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, env=environment)
    if backend is None:
        assert done.stdout.strip() == b"Agg"
    else:
        assert done.stdout.strip() == backend.encode(), done.stderr


@pytest.mark.parametrize("folder", ["course", "exercises", "minitransformer", "solutions"])
def test_nothing_rests_on_assert_which_python_o_leaves_out(folder):
    for path in (stubs.ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            assert not isinstance(node, ast.Assert), f"{path}, line {node.lineno}"


def test_a_false_claim_stops_a_chapter():
    desk.Session.begin("ch05_finding_heads", {})
    with pytest.raises(desk.ClaimFails, match="two: 2 is not what the text says"):
        desk.claim("two", 2, low=3)


def test_a_chapter_runs_where_every_warning_is_an_error(tmp_path):
    process = program("1", stdout=subprocess.PIPE, folder=tmp_path, PYTHONWARNINGS="error")
    out, err = process.communicate()
    assert process.returncode == 0 and b"chapter 01:" in out and not err


def test_nobody_reads_any_more(tmp_path):
    process = program("1", stdout=subprocess.PIPE, folder=tmp_path)
    process.stdout.readline()
    process.stdout.close()
    assert process.wait() in (0, 141) and process.stderr.read() == b""


@pytest.mark.parametrize("module", ["course", "exercises", "minitransformer"])
def test_help_imports_no_torch(module):
    code = "import runpy, sys; sys.argv[1:] = ['--help']\n"
    code += f"try:\n    runpy.run_module({module!r}, run_name='__main__')\n"
    code += "except SystemExit:\n    print('torch' in sys.modules)"
    environment = os.environ | {"PYTHONPATH": str(stubs.ROOT)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, env=environment)
    assert done.stdout.splitlines()[-1] == b"False", done.stderr
