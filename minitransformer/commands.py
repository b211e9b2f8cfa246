"""What `train`, `evaluate` and `look` do, each with the options that __main__.py has parsed."""

import argparse
import shlex
import sys
from pathlib import Path

import torch

from . import files, many, parallel, report, train
from .config import PRESETS, require, require_whole
from .files import quoted
from .terminal import EXIT_BAD_INPUT, EXIT_INTERRUPTED, unheard


def obey(args: argparse.Namespace) -> int:
    """Do what was asked for; the exit status. What cannot be done gets a sentence."""
    try:
        return dispatch(args)
    except ValueError as error:
        sentence = f"{error}"
    except BrokenPipeError:  # terminal.run_main knows what that means
        raise
    except OSError as error:
        sentence = f"{reason_of(error)}."
        if args.command == "look":
            sentence += " Choose another folder with --out."
    if parallel.is_first():
        print(f"error: {sentence}", file=sys.stderr)
    return EXIT_BAD_INPUT


def dispatch(args: argparse.Namespace) -> int:
    if args.command == "train":
        with unheard():
            return run_training(args)
    if args.command == "evaluate":
        report.print_report(args.model)
    else:
        report.draw_all(args.model, args.out)
    return 0


def reason_of(error: OSError) -> str:
    """Which file, and why not."""
    place = f"{error.filename}: " if error.filename else ""
    return f"{place}{error.strerror or error}"


def choose_device(wanted: str) -> str:
    """The device to train on; prints the choice and the reason. Raises ValueError if the wanted one
    is not there.
    """
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    available = {"cuda": cuda, "mps": mps, "cpu": True}
    here = [name for name, there in available.items() if there]
    missing = [name for name, there in available.items() if not there]
    lack = f"--device {wanted}: this machine, or this torch, has no {wanted}"
    require(wanted in ["auto", *here], f"{lack}. It has: {', '.join(here)}.")
    device, reason = wanted, "as asked"
    if wanted == "auto":
        device, reason = here[0], "the fastest that is here"
        if device == "cpu":
            reason = f"no {' and no '.join(missing)} here"
    if parallel.is_first():
        print(f"device: {device} ({reason})")
    return device


def run_training(args: argparse.Namespace) -> int:
    device = choose_device(args.device)
    if args.seeds is not None:
        return train_many(args, device)
    if not parallel.is_parallel():
        return train_one(args, device)
    with parallel.together(device) as device:
        return train_one(args, device)


def train_one(args: argparse.Namespace, device: str) -> int:
    run, folder = resumed_run(args, device) if args.resume else new_run(args, device)
    if not parallel.is_first():
        return 0
    if run.stopped == "interrupted":
        print(f"\nstopped at step {run.step}, everything saved. Go on with:")
        print(f"  python -m minitransformer train --resume {quoted(folder)}")
        return EXIT_INTERRUPTED
    record = train.provenance(run, command_line())
    files.write_json(folder / "model.json", record)
    expect = PRESETS[args.preset or "induction"].expect
    report.print_outcome(record, expect if not args.resume else "")
    try:
        report.draw_all(folder, folder / "figures")
    except OSError as error:
        advice = f"Draw them with: python -m minitransformer look {quoted(folder)} --out figures"
        fault = f"the model is saved, but no pictures: {reason_of(error)}"
        raise ValueError(f"{fault}. {advice}") from None
    return 0


def train_many(args: argparse.Namespace, device: str) -> int:
    """The seeds from --seed on, each in a folder of its own."""
    name, first = args.preset or "induction", args.seed or 0
    require_whole("--seeds", args.seeds)
    require(args.resume is None, "--seeds goes on with unfinished seeds itself: no --resume.")
    require(not parallel.is_parallel(), "--seeds makes processes itself: no torchrun.")
    home, seeds = args.out or Path("runs") / name, list(range(first, first + args.seeds))
    print(f"training '{name}' with seeds {first} to {seeds[-1]} into {home}/SEED")
    if many.train_seeds(name, seeds, home, command_line(), args.steps, device):
        return 0
    print(f"\nstopped; what was finished is in {home}. Go on with the same command.")
    return EXIT_INTERRUPTED


def command_line() -> str:
    return "python -m minitransformer " + shlex.join(sys.argv[1:])


def new_run(args: argparse.Namespace, device: str) -> tuple[train.Run, Path]:
    name = args.preset or "induction"
    preset, folder = PRESETS[name], args.out or Path("runs") / name
    config = preset.train.changed(seed=args.seed, steps=args.steps)
    print(f"training '{name}' into {folder}: {preset.purpose}")
    train.prepare(preset.model, device)
    return train.train(preset.model, config, device, folder, quiet=False), folder


def resumed_run(args: argparse.Namespace, device: str) -> tuple[train.Run, Path]:
    others = [args.preset, args.seed, args.steps, args.out]
    rule = "--resume goes on as the run was begun, in its folder"
    require(others == [None] * 4, f"{rule}: leave out all options but --device.")
    folder = args.resume
    run = train.load_run(folder, device)
    print(f"resuming {folder} at step {run.step} of {run.config.steps}")
    train.prepare(run.model.cfg, device)
    with files.held(folder if parallel.is_first() else None):
        return train.continue_run(run, folder, quiet=False), folder
