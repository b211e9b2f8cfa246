"""Many seeds at once: python -m minitransformer train --seeds 20

On a card the models share every launch: their weights are stacked, and one step moves them all. On
CPUs each seed is a process of its own, as many at a time as there are cores.
"""

import multiprocessing
import os
import signal
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torch.func import functional_call
from tqdm import tqdm

from . import checkpoint, train
from .config import PRESETS, ModelConfig, TrainConfig
from .cuda_graph import Captured
from .data import Batch
from .descent import Loss, descend, optimizer_of, set_rates
from .evaluate import NextToken, compared, rows_at_once
from .files import held, snapshot_path, write_json
from .model import Transformer
from .tasks import task_called
from .train import Run


class SideBySide:
    """Runs that differ in nothing but the seed, trained with one optimizer on stacked weights.

    weights: parameter name -> [seed, ...]. The tensors of each run's own model follow only when
    `unstack` is called.
    """

    def __init__(self, cfg: ModelConfig, config: TrainConfig, seeds: list[int], device: str):
        self.runs = [train.start(cfg, config.changed(seed=seed)) for seed in seeds]
        self.config, self.task = config, task_called(config.task)
        self.like = checkpoint.put_on(Transformer(cfg), device)  # the shape; not its own weights
        each = [dict(run.model.named_parameters()) for run in self.runs]
        stacked = {name: torch.stack([weights[name] for weights in each]) for name in each[0]}
        self.weights = {name: w.detach().to(device).requires_grad_() for name, w in stacked.items()}
        self.optimizer = optimizer_of(self.weights.items(), cfg, config, device)
        step = partial(descend, self.losses, self.optimizer, device)
        self.descend = Captured(step, device) if device.startswith("cuda") else step
        self.sample = self.task.sample(self.like, config)

    def losses(self, tokens: Tensor, predictable: Tensor) -> Tensor:
        """The sum of the losses: the gradient of one model's weights is that of its own loss."""
        loss = Loss(self.like, self.config.elsewhere)

        def of_one(weights: dict, *batch: Tensor) -> Tensor:
            named = {f"model.{name}": weights[name] for name in weights}
            return functional_call(loss, named, batch)

        return torch.vmap(of_one)(self.weights, tokens, predictable).sum()

    def step(self) -> None:
        """Each model's own batch, and one step of all."""
        generators = [run.generator for run in self.runs]
        batch = self.task.draw(self.like.cfg, self.config, *generators)
        set_rates(self.optimizer, self.config, self.runs[0].step)
        seeds = len(self.runs)
        self.descend(Batch(*(part.unflatten(0, (seeds, -1)) for part in batch)))
        for run in self.runs:
            run.step += 1

    @torch.no_grad()
    def predict_each(self, tokens: Tensor) -> list[NextToken]:
        """How well each model predicts the same tokens [batch, pos]."""
        cfg, parts = self.like.cfg, []
        numbers = tokens.shape[1] * max(cfg.d_vocab, cfg.d_mlp) * len(self.runs)
        for some in tokens.to(self.like.W_E.device).split(rows_at_once(numbers)):
            of_one = partial(functional_call, self.like, args=(some,))
            logits = torch.vmap(of_one)(self.weights)
            parts.append(compared(logits, some))  # seed batch pos
        whole = [torch.cat(part, dim=1) for part in zip(*parts)]
        return [NextToken(*each) for each in zip(*whole)]

    def measure(self) -> None:
        """A row for the history of each run that still goes on; those that may end are stopped."""
        rows = self.task.scores(self.predict_each, self.sample)
        for run, row in zip(self.runs, rows):
            if not run.stopped:
                run.history.append({"step": run.step} | row)
        if any(train.ending(run) for run in self.going()):
            self.unstack()
        for run in self.going():
            run.stopped = train.ending(run)

    def going(self) -> list[Run]:
        return [run for run in self.runs if not run.stopped]

    def keep(self) -> None:
        """Hold the weights of this step, as the snapshots of the runs that still go on."""
        stacked = {
            name: weights.detach().to("cpu", copy=True) for name, weights in self.weights.items()
        }
        for i, run in enumerate(self.runs):
            if not run.stopped:
                run.snapshots[run.step] = {name: stacked[name][i] for name in stacked}

    @torch.no_grad()
    def unstack(self) -> None:
        """Give each run that still goes on its own weights, and its optimizer its own moments."""
        stacked = {name: weights.cpu() for name, weights in self.weights.items()}
        state = {name: self.optimizer.state[self.weights[name]] for name in self.weights}
        moments = {name: {key: x.cpu() for key, x in state[name].items()} for name in state}
        for i, run in enumerate(self.runs):
            if run.stopped:
                continue
            for name, weights in run.model.named_parameters():
                weights.copy_(stacked[name][i])
                own = {key: x[i].clone() for key, x in moments[name].items() if key != "step"}
                run.optimizer.state[weights] = own | {"step": torch.tensor(float(run.step))}


def side_by_side(
    cfg: ModelConfig, config: TrainConfig, seeds: list[int], device="cpu", quiet=True
) -> list[Run]:
    """Train a model of each seed, all in step; Ctrl-C ends them all. Nothing is written."""
    team, began = SideBySide(cfg, config, seeds, device), time.perf_counter()
    team.keep()
    bar = tqdm(total=config.steps, unit="step", disable=quiet, dynamic_ncols=True)
    with train.ctrl_c_noted() as pressed:
        while team.going() and not pressed:
            team.step()
            step = team.runs[0].step
            if step % config.eval_every == 0 or step == config.steps:
                team.measure()
            if train.wants_snapshot(team.runs[0]):
                team.keep()
            bar.update()
    bar.close()
    team.unstack()
    for run in team.runs:
        run.stopped = run.stopped or "interrupted"
        run.seconds = time.perf_counter() - began  # those of all: no run has its own
    return team.runs


def save_whole(run: Run, folder: Path) -> None:
    """Write what a run in memory would have written on its way."""
    weights = {name: w.clone() for name, w in run.model.state_dict().items()}
    for step in run.snapshots:
        run.model.load_state_dict(run.snapshots[step])
        checkpoint.save(snapshot_path(folder, step), run.model)
    run.model.load_state_dict(weights)
    train.save_run(run, folder)


def folder_of(home: Path, seed: int) -> Path:
    return home / str(seed)


def trained(preset: str, seed: int, home: Path, command: str, steps=None, device="cpu") -> bool:
    """Have the run of this seed, with its record: it is trained, or gone on with, unless it is
    there. False if Ctrl-C ended it.
    """
    folder, chosen = folder_of(home, seed), PRESETS[preset]
    if (folder / "model.json").exists():
        return True
    train.prepare(chosen.model, device)
    if (folder / "model.pt").exists():
        run = train.resume(folder, device)
    else:
        run = train.train(
            chosen.model, chosen.train.changed(seed=seed, steps=steps), device, folder
        )
    return write_record(run, folder, command)


def write_record(run: Run, folder: Path, command: str) -> bool:
    """Write how a finished run was made. False if it is not finished."""
    finished = run.stopped != "interrupted"
    if finished:
        write_json(folder / "model.json", train.provenance(run, command))
    return finished


def train_seeds(
    preset: str, seeds: list[int], home: Path, command: str, steps=None, device="cpu"
) -> bool:
    """Have a finished run of each seed in home/SEED. False if Ctrl-C came before."""
    if device == "cpu":
        return on_cores(preset, seeds, home, command, steps)
    chosen = PRESETS[preset]
    fresh = [seed for seed in seeds if not folder_of(home, seed).exists()]
    config, runs = chosen.train.changed(steps=steps), []
    train.prepare(chosen.model, device)
    with ExitStack() as stack:
        for seed in fresh:
            stack.enter_context(held(folder_of(home, seed)))
        if fresh:
            runs = side_by_side(chosen.model, config, fresh, device, quiet=False)
        for run in runs:
            save_whole(run, folder_of(home, run.config.seed))
    finished = [write_record(run, folder_of(home, run.config.seed), command) for run in runs]
    rest = (trained(preset, seed, home, command, steps, device) for seed in seeds)
    return all(finished) and all(rest)


def on_cores(preset: str, seeds: list[int], home: Path, command: str, steps: int | None) -> bool:
    """Each seed as a process, as many at a time as there are cores."""
    workers = {"mp_context": multiprocessing.get_context("spawn"), "initializer": wait_quietly}
    with ProcessPoolExecutor(os.cpu_count(), **workers) as pool, train.ctrl_c_noted() as pressed:
        have = partial(pool.submit, trained, preset, home=home, command=command, steps=steps)
        started = [have(seed=seed) for seed in seeds]
        for done in tqdm(as_completed(started), total=len(seeds), unit="model"):
            if pressed or not done.result():
                pool.shutdown(cancel_futures=True)
                return False
    return True


def wait_quietly() -> None:
    """A worker without work leaves Ctrl-C to its parent; a training notes it by itself."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
