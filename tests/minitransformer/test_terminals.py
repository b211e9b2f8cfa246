"""Any terminal will do. All commands under all conditions: python -m tests.benchmarks.terminals"""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from exercises.stubs import ROOT
from minitransformer import load, terminal

CLOSED = pytest.mark.skipif(sys.platform == "win32", reason="no such shell there")
PYTHON = sys.executable


def shell(line: str, **environment) -> subprocess.CompletedProcess:
    """A command line of bash, in which $RUN begins a program whose main is the rest, in quotes."""
    start = "import sys; from minitransformer.terminal import run_main; "
    settings = os.environ | {"PY": PYTHON, "START": start} | environment
    line = line.replace("$RUN", '"$PY" -c "$START"')
    given = {"cwd": ROOT, "env": settings, "capture_output": True}
    return subprocess.run(["bash", "-c", line], encoding="utf-8", errors="replace", **given)


# ---- signs


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "latin-1", "utf-8"])
def test_every_sign_of_the_course_can_be_printed(encoding):
    """And those of right and wrong stay apart."""
    signs = set()
    for folder in ("minitransformer", "course", "exercises", "solutions"):
        for path in [*(ROOT / folder).rglob("*.py"), *(ROOT / folder).rglob("*.toml")]:
            signs |= set(path.read_text(encoding="utf-8"))
    for sign in signs:
        shown = sign.encode(encoding, "spell out").decode(encoding)
        assert shown == sign or shown.isascii()
    shown = [sign.encode(encoding, "spell out") for sign in "✓✗·"]
    assert len(set(shown)) == 3 and b"?" not in shown


@CLOSED
@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
def test_a_terminal_without_signs_gets_plain_ones(encoding):
    program = "$RUN\"run_main(lambda: print('✓ ✗ · ρ tp ü \\udcff'))\""
    done = shell(program, PYTHONIOENCODING=encoding, PYTHONUTF8="1")
    assert done.returncode == 0 and not done.stderr
    assert done.stdout.startswith("+ x ") and " ? tp " in done.stdout


# ---- streams


@CLOSED
@pytest.mark.parametrize(
    "line, status",
    [
        ("$RUN'run_main(lambda: print(1) or 7)' >&-", 7),
        ("$RUN'run_main(lambda: print(1) or 7)' <&- >&- 2>&-", 7),
        ("$RUN'run_main(lambda: sys.exit(2))' 2>&-", 2),
        ("$RUN'run_main(lambda: print(1))' | true; exit ${PIPESTATUS[0]}", 141),
        (
            "$RUN'run_main(lambda: print(1, file=sys.stderr))' 2>&1 | true; exit ${PIPESTATUS[0]}",
            141,
        ),
    ],
)
def test_a_stream_that_is_closed_gets_nothing_and_nobody_complains(line, status):
    line = line.replace("lambda:", 'lambda: __import__("time").sleep(.2) or')
    done = shell(line)
    assert done.returncode == status and not done.stderr and not done.stdout


@CLOSED
def test_what_would_go_to_a_closed_stderr_goes_to_stdout():
    done = shell("$RUN'run_main(lambda: print(\"error: so\", file=sys.stderr) or 2)' 2>&-")
    assert done.returncode == 2 and done.stdout == "error: so\n"


@CLOSED
def test_no_file_takes_the_place_of_a_closed_stream(tmp_path):
    """Or the next warning of a library would be written into a checkpoint."""
    program = 'run_main(lambda: open("model.pt", "w", encoding="utf-8").fileno())'
    done = shell(f"cd {tmp_path}; $RUN'{program}' <&- >&- 2>&-", PYTHONPATH=str(ROOT))
    assert done.returncode > 2


@CLOSED
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no such device there")
def test_a_full_disk_behind_stdout_gets_a_sentence():
    done = shell("$RUN'run_main(lambda: print(1))' > /dev/full")
    assert done.returncode == 2
    assert done.stderr == "error: the output cannot be written: No space left on device.\n"


@CLOSED
def test_a_fault_of_ours_still_shows_where_it_is():
    for fault in ("1 / 0", 'open("no-such-file", encoding="utf-8")'):
        done = shell(f"$RUN'run_main(lambda: {fault})'")
        assert done.returncode == 1 and "Traceback" in done.stderr


# ---- Ctrl-C


@CLOSED
@pytest.mark.parametrize(
    "program",
    [
        "run_main(lambda: os.kill(os.getpid(), 2))",
        # as numpy does when it is interrupted while it is imported
        "run_main(swallow)",
    ],
)
def test_ctrl_c_ends_with_one_sentence(program):
    swallow = """
import os
def swallow():
    try:
        os.kill(os.getpid(), 2)
    except KeyboardInterrupt:
        raise ImportError("cannot load module more than once per process")
"""
    done = shell(f"$RUN'{swallow}\n{program}'")
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "\nstopped.\n")


@pytest.mark.skipif(sys.platform == "win32", reason="no such signals there")
@pytest.mark.skipif(sys.platform == "win32", reason="no such signals there")
def test_ctrl_c_that_a_library_swallows_comes_again():
    program = """
import os, time
from minitransformer import terminal
def main():
    try:
        os.kill(os.getpid(), 2)
        time.sleep(1)
    except KeyboardInterrupt:
        pass
    time.sleep(600)
terminal.run_main(main)
"""
    command = [PYTHON, "-c", program]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=300)
    assert done.returncode == 130 and done.stderr == b"\nstopped.\n"


def test_ctrl_c_in_a_library_that_executes_text_ends_with_130_too(tmp_path):
    program = "from minitransformer import terminal\n"
    program += "terminal.run_main(lambda: exec('raise KeyboardInterrupt'))\n"
    (tmp_path / "stopped.py").write_text(program, encoding="utf-8")
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "stopped"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True)
    assert done.returncode == 130 and done.stderr.strip() == b"stopped."


def test_ctrl_c_while_torch_is_imported_or_a_model_measured():
    command = [PYTHON, "-X", "importtime", "-m", "minitransformer", "evaluate", "induction"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "cwd": ROOT}
    for sign in ("torch._utils", "minitransformer.checkpoint"):
        process = subprocess.Popen(command, encoding="utf-8", **pipes)
        while sign not in process.stderr.readline():
            pass
        process.send_signal(signal.SIGINT)
        _, said = process.communicate()
        ended = process.returncode in (130, -signal.SIGINT)  # to a shell both are 130
        assert ended and "Traceback" not in said
        assert said.endswith("\nstopped.\n")


# ---- everything at once


@CLOSED
def test_a_training_goes_on_when_nobody_listens_whatever_the_terminal(tmp_path):
    """ASCII, 40 columns, warnings as errors, a name with spaces, umlauts and 190 characters."""
    folder = tmp_path / ("tp ü $x_^{ " + "a" * 180)
    words = "-W error -m minitransformer train --steps 6 --device cpu --out"
    settings = {"OUT": str(folder), "COLUMNS": "40", "PYTHONIOENCODING": "ascii"}
    settings |= {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = shell(f'"$PY" {words} "$OUT" 2>&1 | head -1; exit ${{PIPESTATUS[0]}}', **settings)
    assert done.returncode == 0 and done.stdout == "device: cpu (as asked)\n"
    assert load(folder).cfg.n_layers == 2 and (folder / "model.json").exists()
    assert len(list((folder / "figures").iterdir())) == 3


@CLOSED
def test_help_comes_without_torch():
    for words in ("--help", "train --help", "look --help"):
        done = shell(f'"$PY" -X importtime -m minitransformer {words}')
        assert done.returncode == 0 and "usage: " in done.stdout
        assert "minitransformer.terminal" in done.stderr and " torch" not in done.stderr


def test_a_stream_in_memory_is_heard_too(capsys):
    with terminal.unheard():
        print("said")
    assert capsys.readouterr().out == "said\n"
