"""How sure and how fast is training? python -m tests.benchmarks.seeds [PRESET ...]

Trains presets (default: induction and fast) with --seeds 20 seeds, from --first 0 on, and prints a
table for each. Seconds are those of the training steps, measurements and imports not included. With
--keep FOLDER, runs are kept in FOLDER/PRESET/SEED, and those that are there already are not trained
again.

Induction: `previous token` is the attention of the best previous-token head to the token before,
averaged over all positions; `its worst position` is the least of these; `worst, any head` lets
another head of layer 0 step in at each position, as one does in the rare seed where the best head
leaves a position out. Arithmetic: right answers.
"""

import argparse
import json
import statistics
import tempfile
from pathlib import Path

import torch

from minitransformer import checkpoint, many
from minitransformer.config import PRESETS
from minitransformer.evaluate import held_out, strict_induction_accuracy
from minitransformer.model import Transformer

GOALS = {  # preset: (column, at least, seconds at most)
    "induction": ("accuracy", 0.995, 20.0),
    "fast": ("accuracy", 0.99, 5.0),
    "arithmetic": ("held out", 0.95, 120.0),
    "digits": ("held out", 0.95, 120.0),
    "two-step": ("held out", 0.95, 180.0),
}


def folder_with(preset: str, seed: int, home: Path) -> Path:
    """The folder of a run with its record; trained now, unless it is there already."""
    many.trained(preset, seed, home / preset, "python -m tests.benchmarks.seeds")
    return many.folder_of(home / preset, seed)


def previous_token_by_position(model: Transformer, periods: tuple[int, int]) -> torch.Tensor:
    """[head, pos - 1]: how much each head of layer 0 attends to the token before, by position."""
    name = "blocks.0.attn.hook_pattern"
    _, cache = model.run_with_cache(held_out(model, periods).tokens, name)
    return cache[name].diagonal(-1, dim1=-2, dim2=-1).mean(dim=0)


def row_of(preset: str, folder: Path) -> dict[str, float]:
    """What is said of one run."""
    record, config = (
        json.loads((folder / "model.json").read_text(encoding="utf-8")),
        PRESETS[preset].train,
    )
    row = {"seconds": record["seconds"], "steps": record["steps"]}
    if config.task != "repeats":
        names = {"training": "train", "held out": "held_out", "region": "region"}
        return {name: record["scores"][f"{split}_accuracy"] for name, split in names.items()} | row
    model = checkpoint.load(folder)
    repeats = held_out(model, config.periods, batch=2048)
    by_position = previous_token_by_position(model, config.periods)
    best = by_position[by_position.mean(dim=1).argmax()]
    heads = {
        "previous token": best.mean().item(),
        "its worst position": best.min().item(),
        "worst, any head": by_position.max(dim=0).values.min().item(),
    }
    return {"accuracy": strict_induction_accuracy(model, repeats)} | row | heads


def table(preset: str, rows: list[dict[str, float]]) -> None:
    column, least, most = GOALS[preset]
    good = sum(row[column] >= least and row["seconds"] <= most for row in rows)
    reached = f"{column} {least:.1%} or more within {most:.0f} s"
    print(f"\n{preset}: {good} of {len(rows)} seeds have {reached}")
    print("| | median | worst | best |\n|---|---|---|---|")
    for name in rows[0]:
        values = sorted((row[name] for row in rows), reverse=name in ("seconds", "steps"))
        form = {"seconds": "{:.1f}", "steps": "{:.0f}"}.get(name, "{:.4f}")
        cells = [form.format(x) for x in (statistics.median(values), values[0], values[-1])]
        print(f"| {name} | " + " | ".join(cells) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.seeds")
    parser.add_argument("presets", nargs="*", metavar="PRESET", help=", ".join(GOALS))
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--keep", type=Path, metavar="FOLDER")
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        for preset in args.presets or ["induction", "fast"]:
            seeds = range(args.first, args.first + args.seeds)
            folders = [folder_with(preset, seed, args.keep or Path(temporary)) for seed in seeds]
            table(preset, [row_of(preset, folder) for folder in folders])


if __name__ == "__main__":
    main()
