"""`python -m exercises watch`: what a save and a key do, at a terminal and without one."""

import os
import signal
import subprocess
import sys
import time

import pytest

from exercises import stubs, watch
from tests.exercises.learner import CHAPTER, RIGHT, Learner


@pytest.fixture
def learner(tmp_path, monkeypatch) -> Learner:
    return Learner(tmp_path, monkeypatch)


def test_a_save_is_seen_and_the_exercise_is_introduced(learner, capsys):
    at = watch.Watch("attention_pattern")
    at.look()
    first = capsys.readouterr().out
    assert "attention_pattern: about 15 minutes, difficulty 1 of 3" in first
    assert "not attempted yet" in first
    at.look()
    assert not capsys.readouterr().out
    learner.answers(RIGHT)
    at.look()
    assert "✓ attention_pattern" in capsys.readouterr().out
    learner.path.unlink()
    at.look()
    assert "renamed or deleted?" in capsys.readouterr().out


def test_keys(learner, capsys):
    at = watch.Watch("attention_pattern")
    for number in (1, 2, 3, 3):
        at.press("h")
        assert f"attention_pattern, hint {number} of 3" in capsys.readouterr().out
    at.press("r")
    said = capsys.readouterr().out
    assert "`attention_pattern`" in said and "# %%" not in said and "import" not in said
    at.press("n")
    at.press("h")
    assert "head_output, hint 1" in capsys.readouterr().out
    at.press("x")
    assert not capsys.readouterr().out


def test_after_the_last_exercise_comes_none(learner, capsys):
    at = watch.Watch("forward_with_hooks")
    at.press("n")
    assert "last" in capsys.readouterr().out and at.current[1] == "forward_with_hooks"


def test_a_whole_chapter_is_watched_from_its_first_open_exercise(learner, capsys):
    learner.answers(RIGHT)
    at = watch.Watch("1")
    at.look()
    assert at.current[1] == "head_output" and len(at.wanted) == 4
    at.press("n")
    assert at.current[1] == "forward" and at.wanted == [(CHAPTER, "forward")]


@pytest.mark.parametrize("chapter", ["ch02_residual_stream", "ch07_qk_ov_circuits"])
def test_the_text_about_an_exercise_names_it(chapter):
    for name in stubs.exercise_names(chapter):
        assert f"`{name}`" in stubs.passage(chapter, name)


def start(learner: Learner, **pipes) -> subprocess.Popen:
    program = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    program += "from pathlib import Path; from exercises import stubs\n"
    program += f"stubs.FOLDER = Path({str(learner.path.parent)!r})\n"
    program += f"stubs.chapters = lambda: [{CHAPTER!r}]\n"
    program += "from exercises.__main__ import main, terminal\nterminal.run_main(main)"
    environment = os.environ | {"PYTHONPATH": str(stubs.ROOT)}
    command = [sys.executable, "-c", program, "watch", "attention_pattern"]
    return subprocess.Popen(command, env=environment, **pipes)


def read_until(file: int, words: bytes) -> bytes:
    said, end = b"", time.monotonic() + 60
    while words not in said and time.monotonic() < end:
        said += os.read(file, 1000)
    assert words in said
    return said


@pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals there")
def test_a_terminal_sends_keys_and_gets_its_settings_back(learner):
    import pty
    import termios

    ours, theirs = pty.openpty()
    before = termios.tcgetattr(theirs)
    process = start(learner, stdin=theirs, stdout=theirs, stderr=theirs)
    read_until(ours, b"q quit")
    os.write(ours, b"h")
    read_until(ours, b"hint 1 of 3")
    os.write(ours, b"q")
    assert process.wait(30) == 0 and termios.tcgetattr(theirs) == before


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends no signals")
def test_without_a_terminal_ctrl_c_ends_it(learner):
    process = start(learner, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    read_until(process.stdout.fileno(), b"Ctrl-C ends")
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130
