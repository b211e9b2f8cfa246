"""Training: it learns, can be stopped at any moment, and goes on as if nothing had happened."""

import math
import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch

from minitransformer import CheckpointError, ModelConfig, TrainConfig, Transformer, load, train
from minitransformer.config import PRESETS
from minitransformer.data import repeated_tokens
from minitransformer.descent import Loss, schedule
from minitransformer.train import is_snapshot_step
from tests.material import same_tensors, seeded

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
import torch
from minitransformer import ModelConfig, TrainConfig, train
torch.set_num_threads(1)
model = ModelConfig(n_heads=2, d_model=64, d_head=8, d_vocab=12, n_ctx=10)
endless = TrainConfig(steps=10**6, batch_size=1, periods=(1, 4), eval_every=10**6, save_every=1)
train.train(model, endless.changed(steps=2))  # the first optimizer of a process imports long
for i, folder in enumerate(sys.argv[1:]):
    child = os.fork()
    if child == 0:
        train.train(model, endless, folder=folder)
    while not (Path(folder) / "model.pt").exists():
        time.sleep(0.001)
    time.sleep(0.017 * i)  # the first dies as soon as it has something to lose
    os.kill(child, signal.SIGKILL)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork there")
def test_a_run_killed_at_any_moment_leaves_a_whole_checkpoint(tmp_path):
    """kill -9 at ten moments of runs that do little else than saving."""
    folders = [tmp_path / str(i) for i in range(10)]
    subprocess.run([sys.executable, "-c", KILLED, *map(str, folders)], check=True, timeout=120)
    for folder in folders:
        found = train.load_run(folder)
        assert isinstance(load(folder), Transformer) and found.step < 10**6
        train.keep_snapshot(found, folder)  # the first thing that going on does
        assert sorted(found.snapshots) == list(filter(is_snapshot_step, range(found.step + 1)))
        train.training_step(found)
    assert len({train.load_run(folder).step for folder in folders}) > 3  # the moments did differ


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


# ---- the parts of a step


@pytest.mark.parametrize("elsewhere", [0.0, 0.1, 1.0])
def test_the_loss_is_a_weighted_mean_over_next_tokens(elsewhere):
    model = Transformer(SMALL).double()
    repeats = repeated_tokens(4, 11, 12, (1, 4), seeded())
    total = weights = 0.0
    log_probs = model(repeats.tokens[:, :10]).log_softmax(dim=-1)
    for row, tokens in enumerate(repeats.tokens.tolist()):
        for position in range(10):
            weight = 1.0 if repeats.predictable[row, position] else elsewhere
            total -= weight * log_probs[row, position, tokens[position + 1]].item()
            weights += weight
    found = Loss(model, elsewhere)(repeats.tokens, repeats.predictable).item()
    assert found == pytest.approx(total / weights, rel=1e-7)


@pytest.mark.parametrize("warmup, decay", [(0, 0.0), (20, 0.3), (20, 1.0), (0, 1.0), (500, 0.9)])
def test_the_learning_rate_rises_once_falls_once_and_is_never_0(warmup, decay):
    config = TrainConfig(steps=200, warmup=warmup, decay=decay)
    rates = [schedule(step, config) for step in range(200)]
    assert all(0 < rate <= 1 for rate in rates)
    top = rates.index(max(rates))
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    if warmup + decay * 200 <= 200:
        flat = range(warmup, int(200 - decay * 200) + 1)
        assert all(rates[step] == 1 for step in flat if step < 200)
    assert rates[-1] == pytest.approx(1 / (decay * 200) if decay else 1, abs=1e-12) or warmup > 20


def test_a_step_uses_the_scheduled_rate_and_leaves_no_gradient(whole):
    run = train.start(SMALL, SHORT)
    for step in range(3):
        train.training_step(run)
        assert run.optimizer.param_groups[0]["lr"] == SHORT.learning_rate * schedule(step, SHORT)
    assert run.step == 3 and run.seconds > 0 and all(p.grad is None for p in run.model.parameters())


def test_gradients_of_the_loss_are_right():
    model = Transformer(ModelConfig(n_heads=2, d_model=6, d_head=3, d_vocab=8, n_ctx=7)).double()
    repeats = repeated_tokens(3, 8, 8, (1, 3), seeded())
    loss = partial(Loss(model, 0.1), repeats.tokens, repeats.predictable)
    loss().backward()
    generator = seeded(1)
    for name, weights in model.named_parameters():
        direction = torch.randn(weights.shape, generator=generator, dtype=torch.float64)
        losses = []
        for step in (1e-5, -2e-5):
            weights.data.add_(step * direction)
            losses.append(loss().item())
        weights.data.add_(1e-5 * direction)
        slope = pytest.approx((losses[0] - losses[1]) / 2e-5, rel=1e-5, abs=1e-8)
        assert (weights.grad * direction).sum().item() == slope, name


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
