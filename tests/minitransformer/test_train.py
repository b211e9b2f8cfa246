"""Training: it learns, can be stopped at any moment, and goes on as if nothing had happened."""

import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from minitransformer import CheckpointError, ModelConfig, TrainConfig, Transformer, load, train
from minitransformer.config import PRESETS
from minitransformer.train import is_snapshot_step
from tests.material import same_tensors

ROOT = Path(__file__).parents[2]
SMALL = ModelConfig(n_heads=2, d_model=16, d_head=8, d_vocab=12, n_ctx=10)
SHORT = TrainConfig(steps=60, batch_size=8, periods=(1, 4), eval_every=7, save_every=10)


def same_run(first, second) -> bool:
    """Bit for bit: weights, optimizer, generator, history, snapshots (all but the seconds)."""
    same_history = first.history == second.history
    return same_history and same_tensors(tensors_of(first), tensors_of(second))


def tensors_of(run) -> dict[tuple, torch.Tensor]:
    """Everything in a run that is a tensor."""
    found = {("generator",): run.generator.get_state()}
    all_weights = run.snapshots | {f"last: {run.step}": run.model.state_dict()}
    for step, weights in all_weights.items():
        found |= {("weights", step, name): tensor for name, tensor in weights.items()}
    for i, moments in run.optimizer.state_dict()["state"].items():
        found |= {("optimizer", i, name): tensor for name, tensor in moments.items()}
    return found


@pytest.fixture(scope="module")
def whole():
    """60 steps without a break, in memory."""
    return train.train(SMALL, SHORT)


# ---- stopping and going on


def interrupt_at(step, monkeypatch):
    """Press Ctrl-C in the middle of this step: the batch is drawn, the weights have not moved."""
    real, calls = train.Loss.forward, []

    def forward(*arguments):
        if len(calls) == step:
            os.kill(os.getpid(), signal.SIGINT)
        calls.append(step)
        return real(*arguments)

    monkeypatch.setattr(train.Loss, "forward", forward)


@pytest.mark.skipif(sys.platform == "win32", reason="no such signals there")
@pytest.mark.parametrize("step", [0, 12, 29, 59])
def test_a_run_interrupted_in_mid_step_goes_on_bit_for_bit(step, whole, tmp_path, monkeypatch):
    interrupt_at(step, monkeypatch)
    first = train.train(SMALL, SHORT, folder=tmp_path)
    assert first.stopped == ("steps" if step == 59 else "interrupted") and first.step == step + 1
    # Ctrl-C means what it meant
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    rest = train.resume(tmp_path)
    assert rest.stopped == "steps" and rest.step == 60 and same_run(rest, whole)
    assert same_run(train.load_run(tmp_path), whole)


@pytest.mark.skipif(sys.platform == "win32", reason="no such signals there")
def test_a_run_in_memory_that_is_interrupted_does_not_pass_for_a_finished_one(monkeypatch):
    interrupt_at(12, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        train.train(SMALL, SHORT)


def test_an_error_in_a_step_leaves_the_last_checkpoint_to_go_on_from(whole, tmp_path, monkeypatch):
    real = train.training_step

    def fail_at_35(run):
        if run.step == 35:
            raise RuntimeError("on purpose")
        real(run)

    monkeypatch.setattr(train, "training_step", fail_at_35)
    with pytest.raises(RuntimeError, match="on purpose"):
        train.train(SMALL, SHORT, folder=tmp_path)
    monkeypatch.setattr(train, "training_step", real)
    assert train.load_run(tmp_path).step == 30 and same_run(train.resume(tmp_path), whole)


def test_a_finished_run_has_nothing_to_go_on_with(whole, tmp_path):
    train.train(SMALL, SHORT, folder=tmp_path)
    again = train.resume(tmp_path)
    assert again.step == 60 and again.stopped == "steps" and same_run(again, whole)


KILLED = """
import os, signal, sys, time
from pathlib import Path
import torch, torch._dynamo  # the second: what the first optimizer imports, for long
from minitransformer import ModelConfig, TrainConfig, train
from tests.material import refuse_fork_after_backward
torch.set_num_threads(1)
refuse_fork_after_backward()
model = ModelConfig(n_heads=2, d_model=64, d_head=8, d_vocab=12, n_ctx=10)
endless = TrainConfig(steps=10**6, batch_size=1, periods=(1, 4), eval_every=10**6, save_every=1)
for i, folder in enumerate(sys.argv[1:]):
    child = os.fork()
    if child == 0:
        train.train(model, endless, folder=folder)
    while not (Path(folder) / "snapshots" / f"{i:05d}.pt").exists():
        time.sleep(0.001)  # the first dies as soon as it has something to lose
    time.sleep(0.002 * i)
    os.kill(child, signal.SIGKILL)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork there")
def test_no_test_may_fork_after_a_backward_pass():
    """Seen on every machine, also where autograd has no threads that a fork would lose."""
    train.train(SMALL, SHORT.changed(steps=1))
    with pytest.raises(RuntimeError, match="os.fork after a backward pass"):
        os.fork()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork there")
def test_a_run_killed_at_any_moment_leaves_a_whole_checkpoint(tmp_path):
    """kill -9 at ten moments of runs that do little else than saving."""
    folders = [tmp_path / str(i) for i in range(10)]
    command = [sys.executable, "-c", KILLED, *map(str, folders)]
    subprocess.run(command, check=True, timeout=120, cwd=ROOT)
    for i, folder in enumerate(folders):
        found = train.load_run(folder)
        assert isinstance(load(folder), Transformer) and i - 1 <= found.step < 10**6
        train.keep_snapshot(found, folder)  # the first thing that going on does
        assert sorted(found.snapshots) == list(filter(is_snapshot_step, range(found.step + 1)))
        train.training_step(found)


def test_a_folder_that_cannot_be_written_is_refused_before_the_first_step(tmp_path, monkeypatch):
    monkeypatch.setattr(train, "training_step", lambda run: pytest.fail("a step was taken"))
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    with pytest.raises(CheckpointError, match="cannot write .* Choose another folder with --out"):
        train.train(SMALL, SHORT, folder=tmp_path / "file")
    assert (tmp_path / "file").read_text(encoding="utf-8") == "in the way"


# ---- what is kept


def test_snapshots_are_spaced_by_doubling_and_load(whole, tmp_path):
    run = train.train(SMALL, SHORT, folder=tmp_path)
    on_disk = train.load_snapshots(tmp_path)
    expected = [*range(12), 13, 14, 16, 18, 20, 23, 25, 29, 32, 36, 40, 45, 51, 57]
    assert sorted(run.snapshots) == list(on_disk) == expected
    assert all(same_tensors(on_disk[step], whole.snapshots[step]) for step in expected)
    assert same_tensors(on_disk[0], Transformer(SMALL, seed=SHORT.seed).state_dict())
    # snapshots are copies, not views of the last weights
    assert not torch.equal(on_disk[57]["W_E"], on_disk[0]["W_E"])
    assert isinstance(load(tmp_path / "snapshots" / "00032.pt"), Transformer)


def test_the_history_has_every_measurement(whole):
    assert [row["step"] for row in whole.history] == [7, 14, 21, 28, 35, 42, 49, 56, 60]
    for row in whole.history:
        assert 0 <= row["induction_accuracy"] <= 1
        assert row["loss_predictable"] > 0 and row["loss_elsewhere"] > 0


def test_the_seed_decides_the_run_and_the_global_random_state_is_left_alone(whole):
    state = torch.get_rng_state()
    assert same_run(train.train(SMALL, SHORT), whole)
    assert not same_run(train.train(SMALL, SHORT.changed(seed=1)), whole)
    assert torch.equal(torch.get_rng_state(), state)


def test_training_stops_when_the_target_is_reached_twice_running():
    run = train.train(SMALL, SHORT.changed(steps=2000, target=0.3, eval_every=5))
    reached = [row["induction_accuracy"] >= 0.3 for row in run.history]
    twice_running = [first and second for first, second in zip(reached, reached[1:])]
    assert run.stopped == "target" and run.step < 2000
    assert twice_running.index(True) == len(reached) - 2


# ---- it learns


def test_a_small_model_gets_far_below_guessing_within_seconds():
    run = train.train(SMALL, SHORT.changed(steps=250, batch_size=16, eval_every=50))
    assert run.history[-1]["loss_predictable"] < 0.6 * math.log(11)
    assert run.history[-1]["loss_elsewhere"] < 1.5 * math.log(11)


@pytest.mark.parametrize("name", ["additive", "one-layer", "impostor", "fast"])
def test_every_preset_trains(name):
    preset = PRESETS[name]
    run = train.train(preset.model, preset.train.changed(steps=3))
    assert run.step == 3 and all(math.isfinite(value) for value in run.history[-1].values())


def test_the_bigger_preset_takes_two_steps():
    preset = PRESETS["bigger"]
    run = train.start(preset.model, preset.train.changed(batch_size=1))
    before = run.model.W_Q.detach()[0, 0, 0].clone()
    for _ in range(2):
        train.training_step(run)
    assert all(weights.isfinite().all() for weights in run.model.parameters())
    assert not torch.equal(run.model.W_Q[0, 0, 0], before)


def test_threads_are_chosen_by_width():
    threads = torch.get_num_threads()
    try:
        assert train.choose_threads(SMALL) == torch.get_num_threads() == 1
        torch.set_num_threads(2)
        assert train.choose_threads(PRESETS["bigger"].model) == 2
    finally:
        torch.set_num_threads(threads)


def test_the_record_of_a_run_says_how_it_was_made_and_what_it_scores(whole):
    record = train.provenance(whole, "the command")
    assert record["command"] == "the command"
    assert record["steps"] == 60 and record["stopped"] == "steps"
    assert record["model"]["d_vocab"] == 12 and record["train"]["periods"] == (1, 4)
    assert record["versions"]["torch"] == torch.__version__ and Path(sys.executable).exists()
    assert 0 <= record["scores"]["best_previous_token_score"] <= 1
