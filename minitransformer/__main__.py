"""The command line: python -m minitransformer train | evaluate | look.

train      train a model (presets: --help lists them) and show what it learnt
evaluate   what a model can do, as a table: accuracy by period, loss by position and head scores, or, of an arithmetic
           model, right answers by operator, held out or not, and its mistakes
look       the same as pictures: training curve, loss by position, every attention pattern of one sequence, or, of an
           arithmetic model, training curve and which problems are right
"""

import argparse
import os
import shlex
import sys
from pathlib import Path

import torch

from . import checkpoint, report, train
from .config import PRESETS

EXIT_BAD_INPUT, EXIT_INTERRUPTED = 2, 130


def parser() -> argparse.ArgumentParser:
    raw = argparse.RawTextHelpFormatter
    top = argparse.ArgumentParser(
        prog="python -m minitransformer", description=__doc__, formatter_class=raw
    )
    commands = top.add_subparsers(dest="command", required=True)
    presets = "\n".join(f"{name:10} {preset.purpose}" for name, preset in PRESETS.items())
    add = commands.add_parser(
        "train", help="train a model", epilog=f"presets:\n{presets}", formatter_class=raw
    )
    add.add_argument("--preset", choices=PRESETS, metavar="NAME", help="default: induction")
    add.add_argument(
        "--seed", type=int, help="draws the first weights and every batch (default: 0)"
    )
    add.add_argument("--steps", type=int, help="optimizer steps (default: the preset's)")
    add.add_argument(
        "--out", type=Path, metavar="FOLDER", help="default: runs/PRESET; never overwritten"
    )
    add.add_argument("--resume", type=Path, metavar="FOLDER", help="go on with the run in FOLDER")
    add.add_argument("--device", choices=["auto", "cpu", "cuda", "mps"], default="auto")
    for name, text in (
        ("evaluate", "print what a model can do"),
        ("look", "draw what a model does"),
    ):
        add = commands.add_parser(name, help=text)
        add.add_argument(
            "model",
            help=f"a run folder, a model.pt, or one of: {', '.join(checkpoint.pretrained_names())}",
        )
        if name == "look":
            add.add_argument(
                "--out",
                type=Path,
                default=Path("figures"),
                metavar="FOLDER",
                help="where the pictures go",
            )
    return top


def choose_device(wanted: str) -> str:
    """The device to train on; prints the choice and the reason. Raises ValueError if the wanted one
    is not there.
    """
    available = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if wanted == "auto":
        device = next(name for name, there in available.items() if there)
        missing = [name for name, there in available.items() if not there]
        reason = (
            f"no {' and no '.join(missing)} here" if device == "cpu" else "the fastest that is here"
        )
    elif available.get(wanted):
        device, reason = wanted, "as asked"
    else:
        there = ", ".join(name for name, yes in available.items() if yes)
        raise ValueError(
            f"--device {wanted}: this machine, or this torch, has no {wanted}. It has: {there}."
        )
    print(f"device: {device} ({reason})")
    return device


def run_training(args: argparse.Namespace) -> int:
    device = choose_device(args.device)
    name = args.preset or "induction"
    preset = PRESETS[name]
    if args.resume:
        if (args.preset, args.seed, args.steps, args.out) != (None,) * 4:
            raise ValueError(
                "--resume goes on as the run was begun, in its folder: leave out all options but --device."
            )
        folder = args.resume
        run = train.load_run(folder, device)
        print(f"resuming {folder} at step {run.step} of {run.config.steps}")
        train.choose_threads(run.model.cfg)
        run = train.continue_run(run, folder, quiet=False)
    else:
        folder = args.out or Path("runs") / name
        config = preset.train.changed(seed=args.seed, steps=args.steps)
        print(f"training '{name}' into {folder}: {preset.purpose}")
        train.choose_threads(preset.model)
        run = train.train(preset.model, config, device, folder, quiet=False)
    if run.stopped == "interrupted":
        print(f"\nstopped at step {run.step}, everything saved. Go on with:")
        print(f"  python -m minitransformer train --resume {folder}")
        return EXIT_INTERRUPTED
    record = train.provenance(run, "python -m minitransformer " + shlex.join(sys.argv[1:]))
    checkpoint.write_json(folder / "model.json", record)
    report.print_outcome(record, preset.expect if not args.resume else "")
    report.draw_all(folder, folder / "figures")
    return 0


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
        print(f"error: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        print(
            f"error: {place}{error.strerror or error}. Choose another folder with --out.",
            file=sys.stderr,
        )
        return EXIT_BAD_INPUT
    return 0


if __name__ == "__main__":
    os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")
    sys.exit(main())
