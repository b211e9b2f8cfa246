"""The command line: python -m minitransformer train | evaluate | look.

train      train a model (presets: --help lists them) and show what it learnt
evaluate   what a model can do, as a table: accuracy by period, loss by position and head scores,
           or, of an arithmetic model, right answers by operator, held out or not, and its mistakes
look       the same as pictures: training curve, loss by position, every attention pattern of one
           sequence, or, of an arithmetic model, training curve and which problems are right
"""

import argparse
import os
from pathlib import Path

from . import terminal
from .config import PRESETS
from .files import pretrained_names


def options() -> argparse.ArgumentParser:
    raw = argparse.RawTextHelpFormatter
    top = argparse.ArgumentParser(
        prog="python -m minitransformer", description=__doc__, formatter_class=raw
    )
    commands = top.add_subparsers(dest="command", required=True)
    presets = "\n".join(f"{name:10} {preset.purpose}" for name, preset in PRESETS.items())
    epilog, folder = f"presets:\n{presets}", {"type": folder_named, "metavar": "FOLDER"}
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
        names = ", ".join(pretrained_names())
        add.add_argument("model", help=f"a run folder, a model.pt, or one of: {names}")
    look.add_argument("--out", **folder, default=Path("figures"), help="where the pictures go")
    return top


def folder_named(text: str) -> Path:
    if not text:
        raise argparse.ArgumentTypeError("the name of a folder is empty; this folder is called .")
    return Path(text)


def main(argv: list[str] | None = None) -> int:
    args = options().parse_args(argv)
    from . import commands  # it imports torch, which takes seconds: --help need not wait for it

    return commands.obey(args)


if __name__ == "__main__":
    os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")  # before torch is imported
    terminal.run_main(main)
