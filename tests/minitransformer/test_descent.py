"""One step: the loss is the weighted mean, its gradients are right, the rate is the scheduled one,
and nothing in it waits for a device.
"""

from functools import partial

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from tqdm import tqdm

from minitransformer import ModelConfig, TrainConfig, Transformer, cuda_graph, train
from minitransformer.config import PRESETS
from minitransformer.data import Batch, repeated_tokens
from minitransformer.descent import Loss, optimizer_of, schedule
from tests.material import seeded

SMALL = ModelConfig(n_heads=2, d_model=16, d_head=8, d_vocab=12, n_ctx=10)
SHORT = TrainConfig(steps=60, batch_size=8, periods=(1, 4))


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


def test_a_step_uses_the_scheduled_rate_and_leaves_no_gradient():
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


@pytest.mark.parametrize("cfg, share", [(SMALL, 1.0), (ModelConfig(d_model=256), 0.25)])
def test_in_a_wide_model_matrices_learn_more_slowly(cfg, share):
    model = Transformer(cfg)
    optimizer = optimizer_of(model.named_parameters(), cfg, SHORT, "cpu")
    shares = {
        weights: group["share"] for group in optimizer.param_groups for weights in group["params"]
    }
    assert len(shares) == len(list(model.parameters()))
    for name, weights in model.named_parameters():
        assert shares[weights] == (1.0 if name in ("W_E", "W_pos") else share), name


def test_the_first_scores_are_as_large_in_a_wide_model_as_in_a_narrow_one():
    spreads = []
    for d_model in (64, 768):
        model = Transformer(ModelConfig(d_model=d_model, n_heads=6, d_head=16))
        tokens = torch.randint(65, (8, 32), generator=seeded())
        name = "blocks.0.attn.hook_attn_scores"
        _, cache = model.run_with_cache(tokens, name)
        spreads.append(cache[name][..., -1, :].std().item())
    assert spreads[1] == pytest.approx(spreads[0], rel=0.2)


class Asked(TorchDispatchMode):
    """Notes the operations that wait for a value, and the types of all results."""

    def __init__(self):
        super().__init__()
        self.waits, self.types = [], set()

    def __torch_dispatch__(self, operation, types, arguments=(), named=None):
        found = operation(*arguments, **(named or {}))
        if operation.name() in ("aten::_local_scalar_dense", "aten::nonzero", "aten::equal"):
            self.waits.append(operation.name())
        self.types.add(getattr(found, "dtype", None))
        return found


@pytest.mark.parametrize("preset", ["induction", "arithmetic", "bigger"])
def test_no_step_asks_for_a_value(preset):
    """On a GPU each such question would stop it: 26 times as long, in a small model."""
    chosen = PRESETS[preset]
    run = train.start(chosen.model, chosen.train.changed(batch_size=2))
    train.training_step(run)  # draws up the list of problems
    with Asked() as asked:
        train.training_step(run)
    assert asked.waits == []
    task = train.task_called(run.config.task)
    sample = task.sample(run.model, run.config)
    with Asked() as asked:
        train.measure(run, sample, tqdm(disable=True))
    assert asked.waits  # a measurement does ask: so it would be seen


def test_on_mps_nothing_is_fused_recorded_or_float64(monkeypatch):
    monkeypatch.setattr(train.checkpoint, "put_on", lambda model, device: model)
    run = train.start(SMALL, SHORT, "mps")
    assert not run.optimizer.defaults["fused"] and not run.optimizer.defaults["capturable"]
    assert not isinstance(run.descend, cuda_graph.Captured)
    run.descend = partial(run.descend.func, *run.descend.args[:2], "cpu")  # where it really is
    task = train.task_called("repeats")
    with Asked() as asked:
        train.training_step(run)
        train.measure(run, task.sample(run.model, SHORT), tqdm(disable=True))
    assert torch.float32 in asked.types and torch.float64 not in asked.types


class NoCard:
    """Stands in for torch.cuda where recording fails."""

    CUDAGraph = staticmethod(lambda: "a graph")

    @staticmethod
    def graph(_):
        raise RuntimeError("operation not permitted when stream is capturing\nand more")


def test_a_step_that_cannot_be_recorded_is_taken_as_it_is_and_says_why(monkeypatch, capsys):
    monkeypatch.setattr(cuda_graph, "cuda", NoCard)
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda part: part)
    seen = []
    step = cuda_graph.Captured(lambda batch: seen.append(batch.tokens.tolist()), "cpu")
    for i in range(6):
        step(Batch(torch.tensor([[i]]), torch.tensor([[True]])))
    assert seen == [[[i]] for i in range(6)]
    said = "without a CUDA graph: operation not permitted when stream is capturing\n"
    assert capsys.readouterr().out.count(said) == 1
