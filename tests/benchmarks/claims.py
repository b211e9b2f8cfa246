"""What are the course's claims on other models? python -m tests.benchmarks.claims [CHAPTER ...]

Trains the models that the chapters use with new seeds (20 of each induction-family preset, 10 of
each arithmetic one; kept in --keep FOLDER and not trained again), runs every chapter on the models
of each seed and, for the untrained controls, on 30 models with random weights, and writes what each
claim was to course/evidence.json.

The bands of the claims were set with the first half of the seeds in sight. The table printed at
the end says how many (claim, seed) pairs of the *other* half lie inside, and lists the bands that
were left. With --stored nothing is trained: the values of evidence.json are held against the bands
of today.
"""

import argparse
import contextlib
import io
import os
import re
import tempfile
from pathlib import Path
from typing import NamedTuple

import torch

from course import evidence
from course.desk import Claim, Session
from course.reading import chapter_path, run_chapter
from exercises import stubs

from .seeds import folder_with

FIRST, FAMILY, ARITHMETIC, UNTRAINED = 100, 20, 10, 30
ARITHMETIC_PRESETS = ("arithmetic", "digits", "two-step")


class Tried(NamedTuple):
    """One chapter's claims on the shipped models, and their values on the others.

    A value is None where the chapter stopped before the claim.
    """

    shipped: dict[str, Claim]
    others: dict[str, list[float | None]]


def models_of(chapter: str) -> list[str]:
    """The shipped models that a chapter asks for."""
    text = (stubs.ROOT / "course" / f"{chapter}.py").read_text(encoding="utf-8")
    named = re.findall(r'the_model\("([\w-]+)"\)', text)
    return sorted({*named, *(["induction"] if "the_model()" in text else [])})


def claims_of(chapter: str, models: dict[str, str], seed=0, untrained=1) -> dict[str, Claim]:
    """The claims of a chapter on these models, as far as it got on them."""
    Session.seed, Session.untrained = seed, untrained
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            run_chapter(chapter_path(str(int(chapter[2:4]))), models=models)
    except Exception as error:
        print(f"    {chapter}, {models}: stopped by {type(error).__name__}: {error}", flush=True)
    finally:
        Session.seed, Session.untrained = 0, 1
    return Session.claims


def tried(chapter: str, home: Path, count: int) -> Tried:
    """Run one chapter on the shipped models, and on those of `count` other seeds."""
    names = models_of(chapter)
    itself = {name: name for name in names} or {"induction": "induction"}  # not strict: all claims
    shipped = dict(claims_of(chapter, itself, untrained=UNTRAINED))
    others = {text: [] for text in shipped}
    for seed in range(FIRST, FIRST + count):
        models = {name: str(folder_with(name, seed, home)) for name in names}
        found = claims_of(chapter, models or itself, seed=seed)
        for text, values in others.items():
            values.append(found[text].value if text in found else None)
    return Tried(shipped, others)


def stored(chapter: str) -> Tried:
    """One chapter's claims on the shipped models, with what evidence.json says of the others."""
    itself = {name: name for name in models_of(chapter)} or {"induction": "induction"}
    shipped, others = dict(claims_of(chapter, itself)), {}
    for text, claim in shipped.items():
        found = evidence.spread(chapter, text)
        others[text] = found.others if found else []
        claim.untrained = found.untrained if found else []
    return Tried(shipped, others)


def spreads(one: Tried) -> dict[str, evidence.Spread]:
    """What evidence.json says of each claim; one that is the same everywhere has no others."""
    found = {}
    for text, claim in one.shipped.items():
        values = [value for value in one.others[text] if value is not None]
        same = all(abs(value - claim.value) <= 1e-6 * (1 + abs(claim.value)) for value in values)
        found[text] = evidence.Spread(claim.value, [] if same else values, claim.untrained)
    return found


def report(chapter: str, one: Tried) -> tuple[int, int]:
    """Print which bands were left; (pairs of the second half inside, pairs of the second half)."""
    inside, pairs, rows = 0, 0, []
    for text, found in spreads(one).items():
        values, claim = one.others[text], one.shipped[text]
        if not found.others:
            continue
        left = [value for value in values if value is None or not claim.inside(value)]
        held_out = values[len(values) // 2 :]
        inside += sum(value is not None and claim.inside(value) for value in held_out)
        pairs += len(held_out)
        through = sum(claim.inside(value) for value in claim.untrained)
        if left or through:
            shown = ", ".join("not reached" if value is None else f"{value:.4g}" for value in left)
            note = f"; {through} of {len(claim.untrained)} untrained inside" if through else ""
            rows.append(f"    {claim.low:g} to {claim.high:g}, {text}: {shown}{note}")
    print(f"{chapter}: {inside} of {pairs} held-out pairs inside", flush=True)
    print("\n".join(rows), flush=True)
    return inside, pairs


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.claims")
    parser.add_argument("chapters", nargs="*", type=int, metavar="CHAPTER")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", default=stubs.ROOT / "runs/evidence")
    parser.add_argument("--seeds", type=int, help="only so many: a look, nothing is written")
    parser.add_argument("--stored", action="store_true", help="train nothing, write nothing")
    args = parser.parse_args()
    torch.set_num_threads(1)
    home, totals = args.keep.resolve(), [0, 0]
    with tempfile.TemporaryDirectory() as temporary:
        os.chdir(temporary)  # the chapters draw pictures; not into the reader's folder
        for chapter in stubs.chapters():
            if args.chapters and int(chapter[2:4]) not in args.chapters:
                continue
            slow = set(models_of(chapter)) & set(ARITHMETIC_PRESETS)
            count = args.seeds or (ARITHMETIC if slow else FAMILY)
            one = stored(chapter) if args.stored else tried(chapter, home, count)
            if not args.seeds and not args.stored:
                evidence.write(chapter, spreads(one))
            inside, pairs = report(chapter, one)
            totals = [totals[0] + inside, totals[1] + pairs]
        os.chdir(stubs.ROOT)
    print(f"\n{totals[0]} of {totals[1]} held-out (claim, seed) pairs inside their bands")


if __name__ == "__main__":
    main()
