"""One process at a time trains in a folder, and cleans up after those that were killed."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from exercises.stubs import ROOT
from minitransformer import CheckpointError, files, train
from minitransformer.config import PRESETS
from tests.minitransformer.damage import SHORT, SMALL, write_run

# Waits for a line, tries to begin a run in the folder it names, says whether it was let in, and
# waits for another line before it leaves.
STARTER = """
import sys
from pathlib import Path
from minitransformer import CheckpointError, files
print("ready", flush=True)
for line in sys.stdin:
    folder = Path(line.strip())
    try:
        with files.held(folder, new=True):
            print("in", flush=True)
            sys.stdin.readline()
            files.write_json(folder / "model.json", {})
    except CheckpointError as error:
        print(error, flush=True)
        sys.stdin.readline()
"""


def starter() -> subprocess.Popen:
    """Without torch, so that two of them begin within microseconds of each other."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "cwd": ROOT}
    return subprocess.Popen([sys.executable, "-c", STARTER], encoding="utf-8", **pipes)


def tell(processes: list[subprocess.Popen], line: str) -> None:
    for process in processes:
        process.stdin.write(line + "\n")
    for process in processes:
        process.stdin.flush()


def heard(processes: list[subprocess.Popen]) -> list[str]:
    return [process.stdout.readline().strip() for process in processes]


def end(processes: list[subprocess.Popen]) -> None:
    for process in processes:
        process.communicate()


def test_of_two_starts_into_one_folder_one_is_let_in(tmp_path):
    pair = [starter(), starter()]
    assert heard(pair) == ["ready"] * 2
    for i in range(50):
        folder = tmp_path / f"{i}"
        tell(pair, f"{folder}")
        busy = f"another process is training in {folder}. Wait until it ends."
        assert sorted(heard(pair)) == [busy, "in"]
        tell(pair, "")
    end(pair)
    assert len(list(tmp_path.glob("*/model.json"))) == 50


def test_a_start_after_the_other_has_ended_finds_its_run(tmp_path):
    for said in ("in", f"{tmp_path} holds model.json of some other run."):
        process = starter()
        tell([process], f"{tmp_path}")
        assert heard([process] * 2)[1].startswith(said)
        end([process])


@pytest.mark.skipif(sys.platform == "win32", reason="no such signals there")
def test_a_killed_run_does_not_block_the_next(tmp_path):
    process = starter()
    tell([process], f"{tmp_path}")
    assert heard([process] * 2) == ["ready", "in"]
    process.send_signal(signal.SIGKILL)
    end([process])
    with files.held(tmp_path, new=True):
        pass


def test_a_second_training_of_the_same_process_waits_too(tmp_path):
    with files.held(tmp_path):
        with pytest.raises(CheckpointError, match="another process is training in"):
            train.train(SMALL, SHORT, folder=tmp_path)
    assert train.train(SMALL, SHORT, folder=tmp_path).stopped == "steps"


def test_a_disk_without_locks_can_still_be_trained_on(tmp_path, monkeypatch):
    fcntl = pytest.importorskip("fcntl")

    def flock(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", flock)
    with files.held(tmp_path, new=True):
        pass


LEFT = (".model.pt.k2_9xw1a", ".model.json.abcdefgh", "snapshots/.00005.pt.x1y2z3w4")
NOT_LEFT = (".notes", ".model.pt", ".model.pt.backup-of-mine", "snapshots/.keep")


def test_what_killed_writes_left_is_removed_at_the_next_start(tmp_path):
    write_run(tmp_path)
    for name in (*LEFT, *NOT_LEFT):
        (tmp_path / name).write_text("half", encoding="utf-8")
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    with files.held(tmp_path):
        after = {path for path in tmp_path.rglob("*") if path.is_file()}
        assert before - after == {tmp_path / name for name in LEFT}
        (tmp_path / LEFT[0]).write_text("under way", encoding="utf-8")
        with pytest.raises(CheckpointError), files.held(tmp_path):
            pass
        assert (tmp_path / LEFT[0]).exists()  # it is another's, who is still at work


def test_a_write_under_way_has_a_name_that_will_be_removed(tmp_path):
    """As a kill would leave it."""
    found = []

    def look(file):
        found.append(Path(file.name).name)

    for name in ("model.pt", "model.json", "snapshots/00016.pt"):
        files.write_atomically(tmp_path / name, look)
    assert len(found) == 3 and all(files.LEFTOVER.fullmatch(name) for name in found), found


# ---- advice


def fail(*_):
    raise OSError(28, "No space left on device")


def test_a_full_disk_does_not_send_a_begun_run_elsewhere(tmp_path, monkeypatch):
    """--resume refuses --out."""
    write_run(tmp_path / "run")
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(CheckpointError, match="go on with --resume") as caught:
        train.resume(tmp_path / "run")
    assert "--out" not in f"{caught.value}" and "No space left" in f"{caught.value}"
    with pytest.raises(CheckpointError, match="Choose another folder with --out"):
        train.train(SMALL, SHORT, folder=tmp_path / "new")


def test_the_quick_preset_saves_often():
    """It is over after some 200 steps: most kills came before the first save."""
    assert PRESETS["fast"].train.save_every <= 50
