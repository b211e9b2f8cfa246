"""Do the course's claims hold for models it never saw? python -m tests.benchmarks.claims [SEEDS] [FIRST]

Trains the default model with SEEDS new seeds (default 10, from seed FIRST = 100 on), runs every chapter on each of them,
and prints each claim that left the band its text promises. A claim should hold on at least nine models of ten.
"""

import contextlib
import io
import os
import sys
import tempfile
from collections import Counter
from pathlib import Path

import torch

from course.__main__ import chapter_path, run_chapter
from course.desk import Session
from exercises import stubs
from minitransformer import train
from minitransformer.config import PRESETS


def train_models(seeds: range, folder: Path) -> list[Path]:
    preset, folders = PRESETS["induction"], []
    for seed in seeds:
        train.train(preset.model, preset.train.changed(seed=seed), folder=folder / str(seed))
        folders.append(folder / str(seed))
    return folders


def failures(chapter: str, model: Path) -> list[str]:
    """The claims of a chapter that this model breaks; an exception counts as one more."""
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            run_chapter(chapter_path(str(int(chapter[2:4]))), model=str(model))
    except Exception as error:
        return [*Session.failed, f"stopped by {type(error).__name__}: {error}"]
    return Session.failed


def main(count: int, first: int) -> None:
    torch.set_num_threads(1)
    home = Path(tempfile.mkdtemp())
    os.chdir(home)  # the chapters draw pictures; not into the reader's folder
    models = train_models(range(first, first + count), home)
    worst = 0
    for chapter in stubs.chapters():
        broken = Counter(text for model in models for text in failures(chapter, model))
        print(f"{chapter}: {len(broken)} claims left their band on some of {count} models", flush=True)
        for text, times in broken.most_common():
            print(f"    {times} of {count}: {text}")
        worst = max([worst, *broken.values()])
    print(f"\nevery claim holds on at least {count - worst} of {count} new models")


if __name__ == "__main__":
    main(*([int(word) for word in sys.argv[1:3]] + [10, 100][len(sys.argv) - 1 :]))
