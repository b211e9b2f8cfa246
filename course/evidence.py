"""What the claims of the course are on other models than the shipped ones: evidence.json, read and
written.

    spread("ch05_finding_heads", "best previous-token score in layer 0").others   # 20 numbers

The file is made by `python -m tests.benchmarks.claims`, which runs every chapter on models of new
seeds. Each claim has the shipped model's value, the values of the other trained models in the order
of their seeds, and, where the claim has an untrained control, the values of untrained models.
"""

import functools
import json
import os
from pathlib import Path
from typing import NamedTuple

PATH = Path(__file__).with_name("evidence.json")


class Spread(NamedTuple):
    """The values of one claim: on the shipped model, on other trained models, on untrained ones."""

    shipped: float
    others: list[float]  # empty if the claim is the same on every model
    untrained: list[float]  # empty if the claim has no untrained control


@functools.cache
def content() -> dict[str, dict[str, dict]]:
    """Chapter -> claim -> its values."""
    return json.loads(PATH.read_text(encoding="utf-8")) if PATH.exists() else {}


def spread(chapter: str, text: str) -> Spread | None:
    """The values of a claim; None if it has not been tried on other models yet."""
    entry = content().get(chapter, {}).get(text)
    if entry is None:
        return None
    return Spread(entry["shipped"], entry.get("others", []), entry.get("untrained", []))


def write(chapter: str, claims: dict[str, Spread]) -> None:
    """Put the claims of one chapter in the place of what the file held of it."""
    whole = json.loads(PATH.read_text(encoding="utf-8")) if PATH.exists() else {}
    entries = {}
    for text, values in claims.items():
        kept = {name: rounded(value) for name, value in values._asdict().items() if value != []}
        entries[text] = kept
    whole[chapter] = entries
    fresh = PATH.with_suffix(f".{os.getpid()}.new")
    fresh.write_text(as_text(whole), encoding="utf-8")
    fresh.replace(PATH)
    content.cache_clear()


def as_text(whole: dict) -> str:
    """JSON with one line per claim, so that a change of one claim is a change of one line."""
    chapters = []
    for chapter in sorted(whole):
        lines = [
            f"  {json.dumps(text)}: {json.dumps(entry)}" for text, entry in whole[chapter].items()
        ]
        chapters.append(f" {json.dumps(chapter)}: {{\n" + ",\n".join(lines) + "\n }")
    return "{\n" + ",\n".join(chapters) + "\n}\n"


def rounded(value):
    """Four digits that matter: what a claim prints."""
    if isinstance(value, list):
        return [rounded(each) for each in value]
    return float(f"{value:.4g}")
