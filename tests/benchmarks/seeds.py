"""How sure and how fast is training? python -m tests.benchmarks.seeds [SEEDS]

Trains the presets `induction` and `fast` with SEEDS seeds each (default 20) and prints a table. Seconds are those of the
whole training loop, measurements and bar included, imports not. "all positions" is the previous-token score of the best
head, averaged over the positions; "worst position" is that head's attention to the previous token where it is least.
"""

import statistics
import sys
import time

import torch

from minitransformer import train
from minitransformer.config import PRESETS
from minitransformer.evaluate import head_scores, held_out, repeat_scores
from minitransformer.model import Transformer

GOALS = {"induction": (0.995, 20.0), "fast": (0.99, 5.0)}


def worst_position(model: Transformer, periods: tuple[int, int]) -> float:
    """The least attention that the best previous-token head pays, on average, to the previous token at any position."""
    repeats = held_out(model, periods)
    layer, head = divmod(int(head_scores(model, repeats).previous_token.argmax()), model.cfg.n_heads)
    name = f"blocks.{layer}.attn.hook_pattern"
    _, cache = model.run_with_cache(repeats.tokens, name)
    return cache[name][:, head].diagonal(-1, dim1=-2, dim2=-1).mean(dim=0).min().item()


def one_seed(preset: str, seed: int) -> dict:
    chosen, began = PRESETS[preset], time.perf_counter()
    run = train.train(chosen.model, chosen.train.changed(seed=seed))
    seconds, repeats = time.perf_counter() - began, held_out(run.model, chosen.train.periods, batch=2048)
    return {
        "accuracy": repeat_scores(run.model, repeats)["induction_accuracy"],
        "seconds": seconds,
        "steps": run.step,
        "all positions": head_scores(run.model, repeats).previous_token.max().item(),
        "worst position": worst_position(run.model, chosen.train.periods),
    }


def main(seeds: int) -> None:
    torch.set_num_threads(1)
    for preset, (accuracy, seconds) in GOALS.items():
        rows = [one_seed(preset, seed) for seed in range(seeds)]
        good = sum(row["accuracy"] >= accuracy and row["seconds"] <= seconds for row in rows)
        print(f"\n{preset}: {good} of {seeds} seeds reach {accuracy:.1%} within {seconds:.0f} s")
        print("| | median | worst | best |\n|---|---|---|---|")
        for name in rows[0]:
            values = sorted((row[name] for row in rows), reverse=name in ("seconds", "steps"))
            form = "{:.1f}" if name == "seconds" else "{:.0f}" if name == "steps" else "{:.4f}"
            print(
                f"| {name} | "
                + " | ".join(form.format(x) for x in (statistics.median(values), values[0], values[-1]))
                + " |"
            )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20)
