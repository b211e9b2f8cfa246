"""The training loop: AdamW on the batches of one task, with a record of everything the phase-change
chapter needs.

    run = train(preset.model, preset.train)              # run.model, run.history, run.snapshots
    run = train(preset.model, preset.train, folder=...)  # the same, with checkpoints
    run = resume(folder)                                 # goes on, bit for bit on the CPU

The loss counts every next token, those that nobody could predict with a smaller weight
(`TrainConfig.elsewhere`): what is to be learnt is not drowned in noise, and the model still learns
to say "anything may come" where that is true. What the batches are and how a model is measured is
the task's business (`TrainConfig.task`, tasks.py).
"""

import json
import signal
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from . import checkpoint, files, parallel
from .config import ModelConfig, TrainConfig, from_dict, require
from .cuda_graph import Captured
from .data import Batch
from .descent import Loss, descend, optimizer_of, set_rates
from .files import CheckpointError
from .model import Transformer
from .tasks import predict_by, task_called

# weights are kept at log-spaced steps: 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 14, 16, 18, ...
SNAPSHOTS_PER_DOUBLING = 6
# ... and of a model with more parameters than this at 1, 2, 4, 8, ...: a copy takes long, and room
BIG = 10**6
# what goes wrong with a training state that is somebody else's, or an old version's
UNFIT = (AttributeError, KeyError, RuntimeError, TypeError, ValueError)


@dataclass
class Run:
    """A training run: what it has, how far it is, what it has seen."""

    model: Transformer
    config: TrainConfig
    optimizer: torch.optim.Optimizer
    generator: torch.Generator
    descend: Callable[[Batch], None]  # one step of the optimizer on a batch
    step: int = 0
    seconds: float = 0.0
    history: list[dict] = field(default_factory=list)  # one dict per measurement
    snapshots: dict[int, dict[str, Tensor]] = field(default_factory=dict)
    stopped: str = ""  # why it ended: "target", "steps", "interrupted"


def start(model_config: ModelConfig, config: TrainConfig, device: str = "cpu") -> Run:
    """A run at step 0. The seed draws the weights and, by a generator of its own, every batch."""
    model = checkpoint.put_on(Transformer(model_config, seed=config.seed), device)
    task_called(config.task).check(model_config, config)
    optimizer = optimizer_of(model.named_parameters(), model_config, config, device)
    step = partial(descend, Loss(model, config.elsewhere), optimizer, device)
    if device.startswith("cuda"):
        step = Captured(step, device)
    return Run(model, config, optimizer, torch.Generator().manual_seed(config.seed), step)


def train(
    model_config: ModelConfig, config: TrainConfig, device="cpu", folder=None, quiet=True
) -> Run:
    """Train a new model. With a folder, checkpoints and snapshots are written there; it must not
    hold a run already.
    """
    run = start(model_config, config, device)
    with files.held(folder if parallel.is_first() else None, new=True):
        return continue_run(run, folder, quiet)


def resume(folder: Path, device: str = "cpu", quiet=True) -> Run:
    """Go on with the run in `folder` from its last checkpoint."""
    run = load_run(folder, device)
    with files.held(folder if parallel.is_first() else None):
        return continue_run(run, folder, quiet)


def continue_run(run: Run, folder: Path | None = None, quiet=True) -> Run:
    """Train until the target or the last step; run.stopped says which. Ctrl-C saves and returns.

    Without a folder there is nothing to save: then Ctrl-C is a KeyboardInterrupt, as ever.
    """
    sample = task_called(run.config.task).sample(run.model, run.config)
    parallel.share(run)
    if not parallel.is_first():
        folder, quiet = None, True
    if folder is not None:
        save_run(run, folder)  # at once, in case the folder cannot be written or a kill comes early
    keep_snapshot(run, folder)
    steps = {"total": run.config.steps, "initial": run.step, "unit": "step"}
    bar = tqdm(**steps, disable=quiet, dynamic_ncols=True)
    with ctrl_c_noted() as pressed:
        while not (parallel.anywhere(bool(pressed)) or ending(run)):
            training_step(run)
            if run.step % run.config.eval_every == 0 or run.step == run.config.steps:
                measure(run, sample, bar)
            keep_snapshot(run, folder)
            due = run.step % run.config.save_every == 0
            if folder is not None and due and not ending(run):  # the end is saved below
                save_run(run, folder)
            bar.update()
        run.stopped = ending(run) or "interrupted"
        bar.close()
        if folder is not None:
            save_run(run, folder)
        elif run.stopped == "interrupted" and parallel.is_first():
            raise KeyboardInterrupt  # nothing is kept that anybody could go on with
    return run


@contextmanager
def ctrl_c_noted():
    """A list that Ctrl-C makes longer, instead of tearing the step under way: half a step could not
    be resumed.
    """
    pressed = []
    if threading.current_thread() is not threading.main_thread():
        yield pressed  # Python tells only the main thread of Ctrl-C
        return
    before = signal.signal(signal.SIGINT, lambda *_: pressed.append(True))
    try:
        yield pressed
    finally:
        signal.signal(signal.SIGINT, before)


def choose_threads(cfg: ModelConfig) -> int:
    """Set torch's thread count for a model of this width, and return it.

    Small products gain little from a second thread: on two free cores a step took .74 of the time,
    on two busy ones 4.7 times as long (tests/benchmarks/step.py). One thread is the safe choice,
    and gives the same bits on every machine size.
    """
    threads = 1 if cfg.d_model < 256 else max(1, torch.get_num_threads())
    torch.set_num_threads(threads)
    return threads


def prepare(cfg: ModelConfig, device: str) -> None:
    """Threads, and on a card the precision of the products, for a model of this width.

    tf32 keeps 10 of 23 bits of what is multiplied. The heads of `bigger`, seed 0, came out as clean
    as on a CPU with all of them (tests/benchmarks/README.md). A narrow model has nothing to gain.
    """
    choose_threads(cfg)
    wide = device.startswith("cuda") and cfg.d_model >= 256
    torch.set_float32_matmul_precision("high" if wide else "highest")


def training_step(run: Run) -> None:
    """Draw a batch, descend the weighted loss once. On a GPU this only asks for it to be done."""
    began, config = time.perf_counter(), run.config
    batch = task_called(config.task).draw(run.model.cfg, config, run.generator)
    set_rates(run.optimizer, config, run.step)
    run.descend(batch)
    run.step += 1
    run.seconds += time.perf_counter() - began


def ending(run: Run) -> str:
    """Why the run is over, "" if it is not: the target was reached twice running (once may be
    luck), or the steps are done.
    """
    accuracy = task_called(run.config.task).accuracy
    reached = [row[accuracy] >= (run.config.target or 2.0) for row in run.history[-2:]]
    if len(reached) == 2 and all(reached):
        return "target"
    return "steps" if run.step >= run.config.steps else ""


def measure(run: Run, sample, bar: tqdm) -> None:
    """Append one row to the history: losses in nats and accuracies."""
    task = task_called(run.config.task)
    began = time.perf_counter()
    if run.model.W_E.is_cuda:
        torch.cuda.synchronize()  # what was asked for is not done yet: wait, and count it
    run.seconds += time.perf_counter() - began
    (scores,) = task.scores(predict_by(run.model), sample)
    row = parallel.from_first({"step": run.step} | scores)
    run.history.append(row)
    bar.set_postfix({"loss": f"{row[task.loss]:.3f}", task.accuracy: f"{row[task.accuracy]:.1%}"})


def is_snapshot_step(step: int, per_doubling: int = SNAPSHOTS_PER_DOUBLING) -> bool:
    """Step 0, and every step that is a power of 2 ** (1 / per_doubling), rounded."""
    return step == 0 or step in {round(2 ** (i / per_doubling)) for i in range(per_doubling * 20)}


def wants_snapshot(run: Run) -> bool:
    big = sum(weights.numel() for weights in run.model.parameters()) > BIG
    return is_snapshot_step(run.step, 1 if big else SNAPSHOTS_PER_DOUBLING)


def keep_snapshot(run: Run, folder: Path | None) -> None:
    if run.step in run.snapshots or not wants_snapshot(run):
        return
    weights = run.model.state_dict()
    run.snapshots[run.step] = {name: w.detach().cpu().clone() for name, w in weights.items()}
    if folder is not None:
        checkpoint.save(files.snapshot_path(folder, run.step), run.model)


def save_run(run: Run, folder: Path) -> None:
    """One file with everything that resuming needs, and beside it, readable, how it was made."""
    training = {
        "config": json.dumps(asdict(run.config)),
        "optimizer": {"state": moments(run)},
        "generator": run.generator.get_state(),
        "step": run.step,
        "seconds": run.seconds,
        "history": json.dumps(run.history),
    }
    checkpoint.save(Path(folder) / "model.pt", run.model, training)


def load_run(folder: Path, device: str = "cpu") -> Run:
    """The run saved in `folder`, ready to go on. Raises CheckpointError if there is none, or it
    holds only weights.
    """
    advice = "resuming needs the folder of a run"
    require(Path(folder).is_dir(), f"there is no folder {folder}; {advice}.", CheckpointError)
    path = checkpoint.find(folder)
    content = checkpoint.read(path)
    training = content.get("training")
    fault = f"{path} holds weights but no training state, so it cannot be resumed"
    require(training is not None, f"{fault}; train anew.", CheckpointError)
    model = checkpoint.put_on(checkpoint.build(content, path), device)
    try:
        run = restored(model, training, device)
    except UNFIT as error:
        fault = f"the training state in {path} cannot be used"
        reason = f"{type(error).__name__}: {error}".rstrip(".")
        raise CheckpointError(f"{fault} ({reason}); train anew.") from None
    snapshots = load_snapshots(folder)
    run.snapshots = {step: snapshots[step] for step in snapshots if step <= run.step}
    return run


def restored(model: Transformer, training: dict, device: str) -> Run:
    """The run that a checkpoint's training state describes, with the weights of `model`."""
    run = start(model.cfg, from_dict(TrainConfig, json.loads(training["config"])), device)
    run.model.load_state_dict(model.state_dict())
    restore_moments(run, training["optimizer"]["state"])
    run.generator.set_state(training["generator"])
    run.step, run.seconds = int(training["step"]), float(training["seconds"])
    run.history = json.loads(training["history"])
    ending(run)  # reads the history
    return run


def moments(run: Run) -> dict[int, dict[str, Tensor]]:
    """A parameter's number in the model -> what AdamW remembers of it."""
    state = run.optimizer.state
    return {i: state[weights] for i, weights in enumerate(run.model.parameters()) if state}


def restore_moments(run: Run, found: dict[int, dict[str, Tensor]]) -> None:
    """Give the optimizer its memory back, on whatever device it is now."""
    content, order = run.optimizer.state_dict(), {}
    for group in run.optimizer.param_groups:
        order |= {weights: len(order) + i for i, weights in enumerate(group["params"])}
    for i, weights in enumerate(run.model.parameters() if found else []):
        content["state"][order[weights]] = found[i]
    run.optimizer.load_state_dict(content)


def load_snapshots(folder: Path) -> dict[int, dict[str, Tensor]]:
    """Step -> weights, for every snapshot that a run left in its folder, in order."""
    paths = sorted((Path(folder) / "snapshots").glob("*.pt"))
    advice = "these are called after their step, like 00016.pt. Move it away"
    for path in paths:
        require(path.stem.isdecimal(), f"{path} is no snapshot: {advice}.", CheckpointError)
    return {int(path.stem): checkpoint.read(path)["weights"] for path in paths}


def provenance(run: Run, command: str) -> dict:
    """How a model came to be and what it scores: the model.json beside a checkpoint."""
    return {
        "command": command,
        "model": asdict(run.model.cfg),
        "train": asdict(run.config),
        "versions": checkpoint.versions(),
        "steps": run.step,
        "seconds": round(run.seconds, 1),
        "stopped": run.stopped,
        "scores": task_called(run.config.task).summary(run.model, run.config),
        "history": run.history,
    }
