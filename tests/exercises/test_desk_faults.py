"""Whatever happens to a check, its verdict is true and comes in time: an attempt that ends its
process, swallows the alarm, changes what others rely on; a file that is written unusually; a
hostile environment.
"""

import os
import select
import signal
import subprocess
import sys
import time

import pytest

from exercises import __main__ as desk
from exercises import attempts, limits, progress, stubs
from exercises.commands import find
from tests.exercises.learner import CHAPTER, RIGHT, Learner

PAIR = (CHAPTER, "attention_pattern")


@pytest.fixture
def learner(tmp_path, monkeypatch) -> Learner:
    return Learner(tmp_path, monkeypatch)


def outcome(name: str = "attention_pattern") -> progress.Outcome:
    return progress.run([(CHAPTER, name)])[CHAPTER, name]


# What ends, or holds up, the process of the checks


FATAL = {
    "a loop that swallows exceptions": (
        "while True:\n    try:\n        pass\n    except Exception:\n        pass",
        "still running after 1 s",
    ),
    "a loop that swallows everything": (
        "while True:\n    try:\n        while True:\n            pass\n    except:\n        pass",
        "still running after 1 s",
    ),
    "one long call of C": ("return sum(range(10**12))", "still running after 1 s"),
    "an exit past Python": ("import os\nos._exit(0)", "it ends Python itself, with exit status 0"),
    "a crash": ("import ctypes\nctypes.string_at(0)", "Python itself crashed in it"),
    "a skip": ("import pytest\npytest.skip('later')", "Skipped: later"),
    "a debugger": ("breakpoint()", "take breakpoint() out"),
    "another debugger": ("import pdb\npdb.set_trace()", "take breakpoint() out"),
    "a question": ("input()", "EOFError"),
    "a bare BaseException": ("raise BaseException", "BaseException: no message"),
    "a KeyboardInterrupt of its own": ("raise KeyboardInterrupt", "KeyboardInterrupt"),
}


@pytest.mark.parametrize("kind", FATAL)
def test_the_verdict_is_about_the_attempt_and_the_others_are_checked(learner, kind):
    body, sentence = FATAL[kind]
    learner.answers(body)
    learner.answers("return pattern", name="head_output")
    found = progress.run(find("1"))
    assert [each.sign for each in found.values()] == ["✗", "✗", "·", "·"]
    text = found[PAIR].text
    assert sentence in text and len(text.splitlines()) <= 5 and "Traceback" not in text
    assert "your line: " in text or "os._exit" in body


def test_what_calls_the_culprit_is_told_to_fix_it_first(learner):
    learner.answers("import os\nos._exit(0)")
    learner.answers("return attention_pattern(pattern, pattern)", name="head_output")
    found = progress.run(find("1"))
    assert "os._exit" in found[PAIR].text
    assert "head_output: fix attention_pattern first" in found[CHAPTER, "head_output"].text


def test_two_wrong_answers_that_call_each_other_get_a_sentence_each(learner):
    learner.answers("return head_output(q, k, k, k) if q is k else q")
    learner.answers("return attention_pattern(pattern, pattern)", name="head_output")
    found = progress.run(find("1"))
    assert [each.sign for each in found.values()] == ["✗", "✗", "·", "·"]
    for each in found.values():
        assert "RecursionError" not in each.text and len(each.text.splitlines()) <= 6, each.text


@pytest.mark.parametrize("line", ["while True: pass", "import os; os._exit(0)", "exit()"])
def test_a_file_that_ends_its_import_is_tried_once(learner, capsys, line):
    learner.answers(RIGHT)
    learner.answers("return q", name="head_output")
    learner.writes(line)
    assert desk.main(["check"]) == 1
    out = capsys.readouterr().out
    assert out.count("the file cannot be imported") == 1 and "✓" not in out


@pytest.mark.parametrize("body", ["import os\nos.closerange(0, 100)", "import os\nos.fork()"])
def test_a_right_answer_that_does_strange_things_passes(learner, body):
    learner.answers(f"{body}\n{RIGHT}")
    assert outcome().sign == "✓"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing can be forked here")
def test_a_copy_that_an_attempt_forks_off_ends_with_the_check(learner, tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    fork = f"held = open({str(pipe)!r}, 'wb')\nif not os.fork():\n    signal.pause()"
    learner.answers(f"import os, signal\n{fork}\n{RIGHT}")
    assert outcome().sign == "✓"
    ended, _, _ = select.select([reader], [], [], 10)  # once nobody is left who could write
    os.close(reader)
    assert ended, "a copy of the process of the checks is still there"


def test_a_flood_of_print_is_cut(learner):
    learner.answers("while True:\n    print('x' * 10000)")
    text = outcome().text
    assert "still running" in text and len(text) < 3000


# What others rely on


HARM = """\
import os, random, sys, warnings
torch.set_grad_enabled(False)
torch.set_default_dtype(torch.float64)
torch.set_num_threads(3)
torch.manual_seed(5)
random.seed(5)
numpy.random.seed(5)
os.environ["HARMED"] = "yes"
os.chdir("/")
sys.path.insert(0, "/nowhere")
warnings.simplefilter("error")
"""


def test_what_a_file_changes_is_set_back(learner):
    import numpy
    import torch

    numpy.random.seed(1)
    before = [get() for get, _ in limits.settings()]
    learner.writes("import numpy\n" + HARM)
    attempts.load_file(learner.path)
    after = [get() for get, _ in limits.settings()]
    for one, other in zip(before, after):
        assert str(one) == str(other)
    assert torch.is_grad_enabled() and "HARMED" not in os.environ


def test_a_saved_file_is_never_taken_for_the_one_before(learner):
    """Python's own cache compares whole seconds and sizes."""
    learner.writes("VALUE = 1")
    assert attempts.load_file(learner.path).VALUE == 1
    stamp = learner.path.stat().st_mtime_ns
    learner.path.write_text(learner.text.replace("VALUE = 1", "VALUE = 2"), encoding="utf-8")
    os.utime(learner.path, ns=(stamp, stamp))
    assert attempts.load_file(learner.path).VALUE == 2


# Files written unusually


def write_lambda(learner: Learner) -> str:
    body = RIGHT.replace("return ", "result = ")
    learner.answers(RIGHT, "attention_pattern")
    return learner.text.replace("def attention_pattern", "def other") + (
        "\nattention_pattern = lambda q, k: other(q, k)\n" if body else ""
    )


@pytest.mark.parametrize("kind", ["lambda", "if", "import", "below a stub"])
def test_a_function_may_come_about_in_any_way(learner, kind):
    learner.answers(RIGHT)
    start, middle, rest = learner.text.partition("def attention_pattern")
    function, end, after = (middle + rest).partition("def head_output")
    if kind == "lambda":
        function = function.replace("attention_pattern", "mine")
        function += "\nattention_pattern = lambda q, k: mine(q, k)\n\n\n"
    elif kind == "if":
        function = "if True:\n" + function.replace("def ", "    def ").replace(
            "\n    ", "\n        "
        )
    elif kind == "import":
        function = "from solutions.ch01_transformer import attention_pattern\n\n\n"
    else:
        function = f"def attention_pattern(q, k):\n    raise NotImplementedError\n\n\n{function}"
    learner.path.write_text(start + function + "\n\n" + end + after, encoding="utf-8")
    assert outcome().sign == "✓", outcome().text


UNUSUAL = {
    "async def attention_pattern(q, k):\n    return q": "it is an `async def`",
    "class attention_pattern:\n    pass": "it is a class",
    "attention_pattern = 3": "it is no function, but int",
    "def attention_pattern(q, k):\n    yield q": "it is a generator",
    'def attention_pattern(q, k):\n    raise NotImplementedError("x")': "stands there twice",
}


@pytest.mark.parametrize("code", UNUSUAL)
def test_what_is_no_function_gets_a_sentence(learner, code):
    learner.answers(RIGHT)
    learner.writes(code)
    found = outcome()
    assert found.sign == "✗" and UNUSUAL[code] in found.text
    assert f"your line: {code.splitlines()[0]}" in found.text


def test_a_dataclass_of_the_learner_s_may_postpone_annotations(learner):
    learner.answers(RIGHT)
    learner.writes("from __future__ import annotations", "above")
    learner.writes("import dataclasses\n\n\n@dataclasses.dataclass\nclass Mine:\n    x: Tensor = 1")
    assert outcome().sign == "✓"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_signs_of_any_language_and_a_mark_of_their_order_are_no_fault(learner, encoding):
    learner.answers("# ρ für jeden Kopf\n" + RIGHT)
    learner.path.write_bytes(learner.text.encode(encoding))
    assert outcome().sign == "✓"


def test_a_file_nested_too_deeply_gets_a_sentence(learner):
    learner.writes("x = " + "-" * 100_000 + "1")
    assert "the file cannot be read" in outcome().text


# The command, in a hostile environment


def command(*words: str, **variables: str) -> subprocess.Popen:
    environment = os.environ | {"PYTHONPATH": str(stubs.ROOT)} | variables
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    start = "from exercises import stubs; from pathlib import Path; stubs.FOLDER = Path({!r})"
    program = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    program += start.format(str(stubs.FOLDER))  # a job in the background would not hear Ctrl-C
    program += f"; stubs.chapters = lambda: ['{CHAPTER}']; from exercises.__main__ import *"
    program += "; terminal.run_main(main)"
    return subprocess.Popen([sys.executable, "-c", program, *words], env=environment, **pipes)


HOSTILE = {
    "PYTEST_ADDOPTS": "-v --color=yes",
    "PYTEST_PLUGINS": "no_such_plugin",
    "PYTHONOPTIMIZE": "2",
    "PYTHONWARNINGS": "error",
    "PYTHONIOENCODING": "ascii",
    "PYTHONBREAKPOINT": "no.such",
}


def test_the_environment_changes_no_verdict(learner):
    learner.answers("return q")
    process = command("check", **HOSTILE)
    out, err = process.communicate()
    assert process.returncode == 1 and "attention_pattern: " in out and not err


def test_checks_that_cannot_be_run_are_no_verdict(learner, capsys, monkeypatch):
    learner.answers(RIGHT)
    monkeypatch.setattr(progress, "wait_for", learner.wait_for)
    monkeypatch.setattr(sys, "executable", "/bin/false")
    assert desk.main(["check"]) == 2
    said = capsys.readouterr()
    assert not said.out and "could not be run, Python ended with exit status 1" in said.err


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends no signals")
@pytest.mark.parametrize("words", [["check"], [], ["watch"]])
def test_ctrl_c_stops_with_130_and_no_table(learner, words):
    learner.answers("import time\ntime.sleep(60)")
    process = command(*words)
    time.sleep(2)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert process.returncode == 130 and "Traceback" not in err
    assert "✗" not in out and "next:" not in out and "not attempted" not in out


def test_nobody_reads_any_more(learner):
    learner.answers("return q")
    process = command()
    process.stdout.close()
    assert process.wait() in (0, 141) and process.stderr.read() == ""
