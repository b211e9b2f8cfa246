"""Several processes on one batch, and many seeds at once: the same weights as one by one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from minitransformer import ModelConfig, TrainConfig, load, many, train
from minitransformer.config import PRESETS
from tests.material import largest_difference

ROOT = Path(__file__).parents[2]
SMALL = ModelConfig(n_heads=2, d_model=16, d_head=8, d_vocab=12, n_ctx=10)
SHORT = TrainConfig(steps=60, batch_size=8, periods=(1, 4), eval_every=7)
# argv: at which step, in which process, which signal; then the command line
STRUCK = """
import os, signal, sys
from minitransformer import __main__ as program, train
step, process, sign, *arguments = sys.argv[1:]
real = train.training_step
def training_step(run):
    if (run.step, os.environ["RANK"]) == (int(step), process):
        os.kill(os.getpid(), getattr(signal, sign))
    real(run)
train.training_step = training_step
sys.argv[1:] = arguments
sys.exit(program.main())
"""


def by_torchrun(processes: int, *arguments) -> subprocess.CompletedProcess:
    """Run a program with several processes on this machine."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", str(processes), *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    given = {"env": environment, "capture_output": True, "encoding": "utf-8", "timeout": 120}
    return subprocess.run(command, **given)


@pytest.fixture(scope="module")
def whole():
    """What one process makes of 120 steps."""
    preset = PRESETS["induction"]
    return train.train(preset.model, preset.train.changed(steps=120))


@pytest.fixture(scope="module")
def struck(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("programs") / "struck.py"
    path.write_text(STRUCK, encoding="utf-8")
    return path


needs_gloo = pytest.mark.skipif(
    not torch.distributed.is_available(), reason="this torch cannot speak with another process"
)


@needs_gloo
def test_ctrl_c_in_one_process_stops_all_and_one_alone_goes_on_to_the_same_end(
    whole, struck, tmp_path
):
    arguments = ["train", "--device", "cpu", "--steps", 120, "--out", tmp_path / "run"]
    done = by_torchrun(2, struck, 47, 1, "SIGINT", *arguments)
    assert done.stdout.count("stopped at step 48, everything saved. Go on with") == 1, done.stderr
    assert train.load_run(tmp_path / "run").step == 48
    rest = train.resume(tmp_path / "run")
    assert rest.step == 120 and rest.stopped == "steps"
    # float32 sums in another order, over 120 steps of .007
    assert largest_difference(rest.model, whole.model) < 1e-3
    again = train.train(whole.model.cfg, whole.config.changed(seed=1))
    assert largest_difference(again.model, whole.model) > 0.1
    assert [row["step"] for row in rest.history] == [row["step"] for row in whole.history]


@needs_gloo
def test_a_killed_process_ends_all_and_leaves_a_checkpoint_to_go_on_from(whole, struck, tmp_path):
    arguments = ["train", "--device", "cpu", "--steps", 120, "--out", tmp_path / "run"]
    done = by_torchrun(2, struck, 113, 1, "SIGKILL", *arguments)
    assert done.returncode != 0
    assert done.stderr.count("error: another process of this training ended") == 1, done.stderr
    rest = train.resume(tmp_path / "run")
    assert rest.step == 120 and largest_difference(rest.model, whole.model) < 1e-3


@pytest.mark.parametrize("cfg", [SMALL, ModelConfig(n_layers=1, n_heads=3, smeared_keys=True)])
def test_models_trained_side_by_side_are_those_trained_one_by_one(cfg):
    config = SHORT.changed(seed=None)
    runs = many.side_by_side(cfg, config, [3, 4, 11])
    for run in runs:
        alone = train.train(cfg, config.changed(seed=run.config.seed))
        assert run.step == 60 and run.stopped == "steps"
        assert largest_difference(run.model, alone.model) < 1e-4
        assert list(run.snapshots) == list(alone.snapshots)
        rows = zip(run.history, alone.history, strict=True)
        assert all(row == pytest.approx(other, abs=1e-3) for row, other in rows)


def test_side_by_side_each_stops_at_its_own_target():
    config = SHORT.changed(target=0.3, steps=400)
    runs = many.side_by_side(SMALL, config, [0, 1])
    alone = [train.train(SMALL, config.changed(seed=seed)) for seed in (0, 1)]
    assert [run.history[-1]["step"] for run in runs] == [run.step for run in alone]
    for run, other in zip(runs, alone):
        assert run.stopped == "target" and largest_difference(run.model, other.model) < 1e-3


def test_arithmetic_side_by_side():
    preset = PRESETS["digits"]
    config = preset.train.changed(steps=4, eval_every=2, batch_size=16)
    runs = many.side_by_side(preset.model, config, [0, 1])
    for run in runs:
        alone = train.train(preset.model, config.changed(seed=run.config.seed))
        assert largest_difference(run.model, alone.model) < 1e-4
        assert run.history[-1] == pytest.approx(alone.history[-1], abs=1e-3)


def test_what_side_by_side_leaves_can_be_gone_on_with(tmp_path):
    for run in many.side_by_side(SMALL, SHORT, [5, 6]):
        many.save_whole(run, tmp_path / str(run.config.seed))
    for seed in (5, 6):
        alone = train.train(SMALL, SHORT.changed(seed=seed))
        again = train.resume(tmp_path / str(seed))
        assert again.step == 60 and largest_difference(again.model, alone.model) < 1e-4
        assert list(again.snapshots) == list(alone.snapshots)


def test_seeds_as_processes_and_again_without_training_them_twice(tmp_path):
    asked = "train --preset fast --steps 20 --seeds 2 --seed 7 --device cpu --out".split()
    command = [sys.executable, "-m", "minitransformer", *asked, str(tmp_path / "runs")]
    subprocess.run(command, check=True, timeout=120, cwd=ROOT, capture_output=True)
    when = [(tmp_path / "runs" / seed / "model.json").stat().st_mtime_ns for seed in "78"]
    preset = PRESETS["fast"]
    for seed in (7, 8):
        alone = train.train(preset.model, preset.train.changed(steps=20, seed=seed))
        assert largest_difference(load(tmp_path / "runs" / str(seed)), alone.model) == 0.0
    subprocess.run(command, check=True, timeout=120, cwd=ROOT, capture_output=True)
    again = [(tmp_path / "runs" / seed / "model.json").stat().st_mtime_ns for seed in "78"]
    assert again == when
