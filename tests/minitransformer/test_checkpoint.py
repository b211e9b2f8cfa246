"""A checkpoint is whole or not there, holds numbers only, and is refused with a sentence if
anything is wrong with it.
"""

import json
import os
import pickle
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from minitransformer import CheckpointError, ModelConfig, Transformer, checkpoint, load

SMALL = ModelConfig(n_heads=2, d_model=8, d_head=4, d_vocab=9, n_ctx=6)


@pytest.fixture
def path(tmp_path) -> Path:
    checkpoint.save(tmp_path / "model.pt", Transformer(SMALL, seed=3))
    return tmp_path / "model.pt"


def refuses(path, words):
    with pytest.raises(CheckpointError, match=words) as caught:
        load(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def rewritten(path, **changes):
    content = torch.load(path, weights_only=True) | changes
    torch.save(content, path)


def same_weights(first, second) -> bool:
    first, second = first.state_dict(), second.state_dict()
    return first.keys() == second.keys() and all(
        torch.equal(first[name], second[name]) for name in first
    )


# ---- what comes back


def test_a_model_comes_back_as_it_was(model, tmp_path, tokens):
    model = model.float()
    checkpoint.save(tmp_path / "new" / "folder" / "model.pt", model)
    for where in (tmp_path / "new" / "folder" / "model.pt", str(tmp_path / "new" / "folder")):
        again = load(where)
        assert again.cfg == model.cfg and same_weights(again, model)
        assert torch.equal(again(tokens), model(tokens))


def test_saving_again_replaces_the_old_one_and_leaves_nothing_else(path):
    checkpoint.save(path, Transformer(SMALL, seed=4))
    assert same_weights(load(path), Transformer(SMALL, seed=4)) and os.listdir(path.parent) == [
        "model.pt"
    ]


@pytest.mark.parametrize("name", checkpoint.pretrained_names())
def test_shipped_models_load_by_name(name):
    assert isinstance(load(name), Transformer)
    assert (checkpoint.PRETRAINED / f"{name}.pt").stat().st_size < 1_000_000


# ---- what is refused


def test_a_missing_model_is_refused_and_the_shipped_ones_are_listed(tmp_path):
    for where in (tmp_path, tmp_path / "model.pt", "no-such-model"):
        with pytest.raises(CheckpointError, match="there is no model at") as caught:
            load(where)
        assert all(name in str(caught.value) for name in checkpoint.pretrained_names())


@pytest.mark.parametrize("share", [0, 0.001, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_refused(path, share):
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    refuses(path, "damaged")


def test_a_file_cut_one_byte_short_is_refused(path):
    path.write_bytes(path.read_bytes()[:-1])
    refuses(path, "damaged")


@pytest.mark.parametrize(
    "foreign",
    [{"model": torch.zeros(3)}, [1, 2], torch.zeros(3), {"format": "minitransformer 0"}, 7],
)
def test_a_file_of_some_other_project_is_refused(path, foreign):
    torch.save(foreign, path)
    refuses(path, "not written by this project")


def test_a_text_file_is_refused(path):
    path.write_text("# not a model\n")
    refuses(path, "damaged, or is no checkpoint")


class Trap:
    """Whoever unpickles this carelessly creates a file."""

    def __init__(self, marker):
        self.marker = str(marker)

    def __reduce__(self):
        return open, (self.marker, "w")


def test_code_in_a_file_is_refused_and_not_run(path, tmp_path):
    marker = tmp_path / "it ran"
    rewritten(path, training=Trap(marker))
    refuses(path, "holds more than numbers; nothing in it was run")
    path.write_bytes(pickle.dumps({"weights": Trap(marker)}, protocol=2))
    refuses(path, "holds more than numbers")
    assert not marker.exists()
    with path.open("rb") as file:
        pickle.load(file)["weights"].close()
    assert marker.exists()  # the trap does work


def test_weights_that_are_not_tensors_are_refused(path):
    weights = torch.load(path, weights_only=True)["weights"]
    for bad in (
        weights | {"W_E": [1.0, 2.0]},
        weights | {"W_E": "W_E"},
        list(weights.values()),
        None,
    ):
        rewritten(path, weights=bad)
        refuses(path, "not written by this project")


def test_weights_of_another_shape_are_refused_by_name(path):
    rewritten(path, config=json.dumps(asdict(SMALL) | {"d_vocab": 10}))
    refuses(path, r"W_E is \(9, 8\) there, \(10, 8\) here")


def test_missing_and_surplus_weights_are_refused_by_name(path):
    weights = torch.load(path, weights_only=True)["weights"]
    rewritten(path, weights={name: w for name, w in weights.items() if name != "W_pos"})
    refuses(path, "W_pos is missing there")
    rewritten(path, weights=weights | {"W_gate": torch.zeros(2)})
    refuses(path, r"W_gate is \(2,\) there, unknown here")


@pytest.mark.parametrize(
    "config, words",
    [
        (json.dumps(asdict(SMALL) | {"rotary": True}), "no field called rotary"),
        (json.dumps(asdict(SMALL) | {"n_heads": 0}), "n_heads must be"),
        ("not JSON", "is not one this version can build"),
        ("[1, 2]", "is not one this version can build"),
        (None, "is not one this version can build"),
    ],
)
def test_a_config_that_cannot_be_built_is_refused(path, config, words):
    rewritten(path, config=config)
    refuses(path, words)


# ---- writing is all or nothing


def test_a_folder_that_cannot_be_is_refused(path):
    for where in (path / "model.pt", path / "deeper" / "model.pt"):  # `path` is a file
        with pytest.raises(
            CheckpointError, match=r"cannot write .*model.pt: .*Choose another folder with --out"
        ):
            checkpoint.save(where, Transformer(SMALL))


@pytest.mark.parametrize("broken", ["torch.save", "os.fsync", "os.replace"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_failure_while_writing_keeps_the_old_file_and_leaves_no_other(
    path, monkeypatch, broken, error
):
    def fail(*_):
        raise error

    before = path.read_bytes()
    monkeypatch.setattr(*((torch, "save") if broken == "torch.save" else (os, broken[3:])), fail)
    with pytest.raises((CheckpointError, OSError, KeyboardInterrupt)) as caught:
        checkpoint.save(path, Transformer(SMALL, seed=4))
    if isinstance(error, OSError) and broken != "torch.save":
        assert isinstance(caught.value, CheckpointError) and "No space left on device" in str(
            caught.value
        )
    assert path.read_bytes() == before and os.listdir(path.parent) == ["model.pt"]


FULL_DISK = """
import resource, signal, sys, torch
from minitransformer import CheckpointError, ModelConfig, Transformer, checkpoint
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))  # no file may grow further: as on a full disk
try:
    checkpoint.save(sys.argv[1], Transformer(ModelConfig()))
except CheckpointError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no limit on file sizes there")
def test_a_disk_that_is_full_half_way_keeps_the_old_file(path):
    before = path.read_bytes()
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(path)], capture_output=True, text=True
    )
    assert done.stdout.startswith(f"cannot write {path}: File too large"), done.stderr
    assert path.read_bytes() == before and os.listdir(path.parent) == ["model.pt"]
