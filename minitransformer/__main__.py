"""The command line: python -m minitransformer train | evaluate | look.

train      train a model (presets: --help lists them) and show what it learnt
evaluate   what a model can do, as a table: accuracy by period, loss by position and head scores,
           or, of an arithmetic model, right answers by operator, held out or not, and its mistakes
look       the same as pictures: training curve, loss by position, every attention pattern of one
           sequence, or, of an arithmetic model, training curve and which problems are right
"""

import argparse
import os
import shlex
import sys
from pathlib import Path

import torch

from . import checkpoint, many, parallel, report, train
from .config import PRESETS, require, require_whole

EXIT_BAD_INPUT, EXIT_INTERRUPTED = 2, 130


def parser() -> argparse.ArgumentParser:
    raw = argparse.RawTextHelpFormatter
    top = argparse.ArgumentParser(
        prog="python -m minitransformer", description=__doc__, formatter_class=raw
    )
    commands = top.add_subparsers(dest="command", required=True)
    presets = "\n".join(f"{name:10} {preset.purpose}" for name, preset in PRESETS.items())
    epilog, folder = f"presets:\n{presets}", {"type": Path, "metavar": "FOLDER"}
    add = commands.add_parser("train", help="train a model", epilog=epilog, formatter_class=raw)
    add.add_argument("--preset", choices=PRESETS, metavar="NAME", help="default: induction")
    add.add_argument("--seed", type=int, help="draws first weights and every batch (default: 0)")
    many_seeds = "train N seeds, from SEED on, into OUT/SEED, OUT/SEED+1, ..."
    add.add_argument("--seeds", type=int, metavar="N", help=many_seeds)
    add.add_argument("--steps", type=int, help="optimizer steps (default: the preset's)")
    add.add_argument("--out", **folder, help="default: runs/PRESET; never overwritten")
    add.add_argument("--resume", **folder, help="go on with the run in FOLDER")
    add.add_argument("--device", choices=["auto", "cpu", "cuda", "mps"], default="auto")
    evaluate = commands.add_parser("evaluate", help="print what a model can do")
    look = commands.add_parser("look", help="draw what a model does")
    for add in (evaluate, look):
        names = ", ".join(checkpoint.pretrained_names())
        add.add_argument("model", help=f"a run folder, a model.pt, or one of: {names}")
    look.add_argument("--out", **folder, default=Path("figures"), help="where the pictures go")
    return top


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
        print(f"  python -m minitransformer train --resume {folder}")
        return EXIT_INTERRUPTED
    record = train.provenance(run, command_line())
    checkpoint.write_json(folder / "model.json", record)
    expect = PRESETS[args.preset or "induction"].expect
    report.print_outcome(record, expect if not args.resume else "")
    report.draw_all(folder, folder / "figures")
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
    return train.continue_run(run, folder, quiet=False), folder


def main(argv: list[str] | None = None) -> int:
    args = parser().parse_args(argv)
    try:
        if args.command == "train":
            return run_training(args)
        if args.command == "evaluate":
            report.print_report(args.model)
        else:
            report.draw_all(args.model, args.out)
    except ValueError as error:
        if parallel.is_first():
            print(f"error: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        reason = f"{place}{error.strerror or error}"
        print(f"error: {reason}. Choose another folder with --out.", file=sys.stderr)
        return EXIT_BAD_INPUT
    return 0


if __name__ == "__main__":
    os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")
    sys.exit(main())
