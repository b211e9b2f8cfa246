"""What does a card bring? python -m tests.benchmarks.gpu

On one CUDA card, in some minutes: every preset's training loop, a step of ours recorded as a graph
against a bare one, twenty seeds side by side against one after the other, and three seeds of the
bigger model with their heads. Without a card it says what it left out. Loops are timed without a
folder, imports and the first set-up of CUDA not included; steps in turns, as in step.py.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from minitransformer import ModelConfig, Transformer, many, train
from minitransformer.config import PRESETS
from minitransformer.cuda_graph import Captured
from minitransformer.data import Batch, random_tokens
from minitransformer.evaluate import head_scores, held_out
from minitransformer.tasks import predict_by, task_called
from solutions.ch05_finding_heads import find_heads
from tests.benchmarks.step import bare_forward, bare_weights, take_turns, training_step
from tests.material import largest_difference, seeded

CARD = "cuda"
LOOPS = {"induction": 1.0, "fast": None, "arithmetic": 6.0, "digits": 8.0, "two-step": 8.0}
BIGGER_SECONDS, BIGGER_SEEDS = 60.0, 3
TOGETHER = 20  # seeds side by side
SHAPES = {
    "induction": ModelConfig(),
    "bigger": PRESETS["bigger"].model,
    "bigger, n_ctx 1024, batch 8": replace(PRESETS["bigger"].model, n_ctx=1024, d_vocab=1025),
}


def timed(work: Callable, *arguments) -> tuple[float, object]:
    torch.cuda.synchronize()
    began = time.perf_counter()
    found = work(*arguments)
    torch.cuda.synchronize()
    return time.perf_counter() - began, found


def loop(preset: str, seed: int = 0) -> tuple[float, train.Run]:
    chosen = PRESETS[preset]
    train.prepare(chosen.model, CARD)
    config = chosen.train.changed(seed=seed)
    return timed(train.train, chosen.model, config, CARD)


def loops() -> list[tuple]:
    loop("induction")  # the first of a process sets CUDA up
    rows = []
    for preset, most in LOOPS.items():
        seconds, run = loop(preset)
        task = task_called(run.config.task)
        found = f"{seconds:.2f} s, {1e3 * seconds / run.step:.2f} ms a step"
        found += f"; {task.accuracy} {run.history[-1][task.accuracy]:.4f}"
        rows.append((f"`{preset}`, loop of {run.step} steps", most or "", found))
    return rows


def bigger() -> list[tuple]:
    rows = []
    for seed in range(BIGGER_SEEDS):
        seconds, run = loop("bigger", seed)
        task = task_called(run.config.task)
        sample = held_out(run.model, run.config.periods, batch=1024)
        (scores,) = task.scores(predict_by(run.model), sample)
        previous = head_scores(run.model, sample).previous_token
        heads = find_heads(run.model)["induction"]
        found = f"{seconds:.1f} s; accuracy {scores['induction_accuracy']:.4f}; previous token "
        found += f"{previous.max():.3f} over all positions; {len(heads)} induction heads"
        rows.append((f"`bigger`, seed {seed}", BIGGER_SECONDS, found))
        measured, _ = timed(train.measure, run, sample_of(run), BAR)
        share = measured * run.config.steps / run.config.eval_every / seconds
    with tempfile.TemporaryDirectory() as folder:
        kept, _ = timed(train.train, run.model.cfg, run.config, CARD, Path(folder, "run"))
    found = f"{share:.3f} and {kept / seconds - 1:.3f}"
    rows.append(("`bigger`: measuring, and saving, as shares of the loop", 0.1, found))
    return rows


class Silent:
    """A progress bar that shows nothing."""

    @staticmethod
    def set_postfix(_: dict) -> None:
        pass


BAR = Silent()


def sample_of(run: train.Run):
    return task_called(run.config.task).sample(run.model, run.config)


def step_against_bare(name: str, cfg: ModelConfig, batch_size: int) -> tuple:
    """Our captured step, batch copied to the card, against a bare one: captured, on one batch."""
    train.prepare(cfg, CARD)
    tokens = random_tokens(batch_size, cfg.n_ctx + 1, cfg.d_vocab, seeded())
    batch = Batch(tokens, torch.ones_like(tokens, dtype=torch.bool))
    config = train.TrainConfig(batch_size=batch_size)
    ours = partial(train.start(cfg, config, CARD).descend, batch)
    eager = train.start(cfg, config, CARD)
    eager = partial(eager.descend.step, Batch(*(part.to(CARD) for part in batch)))
    W = bare_weights(Transformer(cfg).to(CARD))
    mask = torch.full((cfg.n_ctx, cfg.n_ctx), -torch.inf, device=CARD).triu(1)
    forward = partial(bare_forward, W, cfg, mask)
    bare = training_step(W.values(), forward, tokens.to(CARD), capturable=True)
    recorded = Captured(lambda _: bare(), CARD)
    competitors = {
        "ours": ours,
        "bare": partial(recorded, batch),
        "eager": eager,
        "bare eager": bare,
    }
    waited = {key: partial(timed, call) for key, call in competitors.items()}
    ms = {key: 1e3 * x for key, x in take_turns(waited, rounds=60).items()}
    found = (
        f"{ms['ours'] / ms['bare']:.2f} ({ms['ours']:.2f} : {ms['bare']:.2f} ms); piece by piece "
    )
    found += f"{ms['eager'] / ms['bare eager']:.2f} ({ms['eager']:.2f} : {ms['bare eager']:.2f} ms)"
    return f"step, {name}: ours : bare, both recorded", "", found


def same_weights() -> tuple:
    """Twenty steps recorded and twenty taken piece by piece, and on the CPU."""
    chosen = PRESETS["induction"]
    runs = [train.start(chosen.model, chosen.train, device) for device in (CARD, CARD, "cpu")]
    runs[1].descend = runs[1].descend.step
    for run in runs:
        for _ in range(20):
            train.training_step(run)
    models = [run.model.cpu() for run in runs]
    eager, cpu = largest_difference(*models[:2]), largest_difference(*models[::2])
    found = f"{eager:.1e} from piece by piece, {cpu:.1e} from the CPU"
    return "20 recorded steps: largest difference in a weight", "1e-3", found


def seeds_together() -> list[tuple]:
    rows = []
    for preset, steps in (("induction", None), ("arithmetic", 400)):
        chosen = PRESETS[preset]
        config = chosen.train.changed(steps=steps)
        train.prepare(chosen.model, CARD)
        seeds = list(range(TOGETHER))
        many.side_by_side(chosen.model, config.changed(steps=10), seeds, CARD)
        together, runs = timed(many.side_by_side, chosen.model, config, seeds, CARD)
        singles = [timed(train.train, chosen.model, config, CARD) for _ in range(3)]
        one = sorted(seconds for seconds, _ in singles)[1]
        task = task_called(config.task)
        worst = min(run.history[-1][task.accuracy] for run in runs)
        found = f"{TOGETHER * one / together:.1f} ({together:.2f} s : {TOGETHER} x {one:.2f} s)"
        found += f"; worst {task.accuracy} {worst:.4f}"
        rows.append((f"{TOGETHER} seeds of `{preset}`, {config.steps} steps", "8 or more", found))
    return rows


def main() -> None:
    argparse.ArgumentParser(prog="python -m tests.benchmarks.gpu").parse_args()
    if not torch.cuda.is_available():
        parts = f"loops of {', '.join(LOOPS)}; bigger; steps; {TOGETHER} seeds side by side"
        print(f"No CUDA card here. Left out: {parts}.")
        return
    torch.set_num_threads(1)
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}\n")
    print("| | at most | measured |\n|---|---|---|")
    sizes = {"bigger, n_ctx 1024, batch 8": 8}
    steps = [partial(step_against_bare, k, cfg, sizes.get(k, 32)) for k, cfg in SHAPES.items()]
    for part in (loops, bigger, same_weights, *steps, seeds_together):
        found = part()
        for row in found if isinstance(found, list) else [found]:
            print("| " + " | ".join(map(str, row)) + " |", flush=True)


if __name__ == "__main__":
    main()
