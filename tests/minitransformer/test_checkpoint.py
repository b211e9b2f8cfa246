"""A checkpoint is whole or not there, and loading one runs nothing. What is refused with a
sentence: bad_input_cases.py.
"""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from minitransformer import (
    CheckpointError,
    ModelConfig,
    Transformer,
    checkpoint,
    load,
    pretrained_names,
    publish,
)
from minitransformer.files import PRETRAINED
from tests.material import same_tensors

SMALL = ModelConfig(n_heads=2, d_model=8, d_head=4, d_vocab=9, n_ctx=6)


@pytest.fixture
def path(tmp_path) -> Path:
    checkpoint.save(tmp_path / "model.pt", Transformer(SMALL, seed=3))
    return tmp_path / "model.pt"


def same_weights(first, second) -> bool:
    return same_tensors(first.state_dict(), second.state_dict())


# ---- what comes back


def test_a_model_comes_back_as_it_was(model, tmp_path, tokens):
    model = model.float()
    folder = tmp_path / "new" / "folder"
    checkpoint.save(folder / "model.pt", model)
    for where in (folder / "model.pt", str(folder)):
        again = load(where)
        assert again.cfg == model.cfg and same_weights(again, model)
        assert torch.equal(again(tokens), model(tokens))


def test_saving_again_replaces_the_old_one_and_leaves_nothing_else(path):
    checkpoint.save(path, Transformer(SMALL, seed=4))
    assert same_weights(load(path), Transformer(SMALL, seed=4))
    assert os.listdir(path.parent) == ["model.pt"]


@pytest.mark.parametrize("name", pretrained_names())
def test_shipped_models_load_by_name(name):
    assert isinstance(load(name), Transformer)
    assert (PRETRAINED / f"{name}.pt").stat().st_size < 1_000_000


# ---- loading runs nothing


class Trap:
    """Whoever unpickles this carelessly creates a file."""

    def __init__(self, marker):
        self.marker = str(marker)

    def __reduce__(self):
        return open, (self.marker, "w")


def test_code_in_a_file_is_refused_and_not_run(path, tmp_path):
    marker = tmp_path / "it ran"
    torch.save(torch.load(path, weights_only=True) | {"training": Trap(marker)}, path)
    with pytest.raises(CheckpointError, match="holds more than numbers; nothing in it was run"):
        load(path)
    path.write_bytes(pickle.dumps({"weights": Trap(marker)}, protocol=2))
    with pytest.raises(CheckpointError, match="holds more than numbers"):
        load(path)
    assert not marker.exists()
    with path.open("rb") as file:
        pickle.load(file)["weights"].close()
    assert marker.exists()  # the trap does work


# ---- writing is all or nothing


@pytest.mark.parametrize("broken", ["torch.save", "os.fsync", "os.replace"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_failure_while_writing_keeps_the_old_file_alone(path, monkeypatch, broken, error):
    def fail(*_):
        raise error

    before = path.read_bytes()
    monkeypatch.setattr(broken, fail)
    with pytest.raises((CheckpointError, OSError, KeyboardInterrupt)) as caught:
        checkpoint.save(path, Transformer(SMALL, seed=4))
    if isinstance(error, OSError) and broken != "torch.save":
        assert isinstance(caught.value, CheckpointError)
        assert "No space left on device" in str(caught.value)
    assert path.read_bytes() == before and os.listdir(path.parent) == ["model.pt"]


FULL_DISK = """
import resource, signal, sys, torch
from minitransformer import CheckpointError, ModelConfig, Transformer, checkpoint
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
# no file may grow further, as on a full disk
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    checkpoint.save(sys.argv[1], Transformer(ModelConfig()))
except CheckpointError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no limit on file sizes there")
def test_a_disk_that_is_full_half_way_keeps_the_old_file(path):
    before = path.read_bytes()
    program = [sys.executable, "-c", FULL_DISK, str(path)]
    done = subprocess.run(program, capture_output=True, encoding="utf-8")
    assert done.stdout.startswith(f"cannot write {path}: File too large"), done.stderr
    assert path.read_bytes() == before and os.listdir(path.parent) == ["model.pt"]


def test_a_finished_run_is_published_whole_or_refused_with_a_sentence(path, tmp_path, monkeypatch):
    (path.parent / "model.json").write_text("{}", encoding="utf-8")
    monkeypatch.setattr(publish, "PRETRAINED", tmp_path / "shipped")
    publish.publish(path.parent)
    name = path.parent.name
    assert same_weights(load(tmp_path / f"shipped/{name}.pt"), load(path))
    assert (tmp_path / f"shipped/{name}.json").read_text(encoding="utf-8") == "{}"
    monkeypatch.setattr(publish, "PRETRAINED", path)  # a file, where a folder should be
    with pytest.raises(CheckpointError, match="cannot write"):
        publish.publish(path.parent)
