"""What every chapter uses to show its evidence: a model, a picture, a claim.

    model = the_model()                       # the shipped one, or yours: --model runs/mine
    show(figure, "stripe")                    # figures/ch07_qk_ov_circuits_stripe.png
    claim("best previous-token score", best(model), low=0.9, measured=0.995, untrained=best)
    claim_rate("the later follower wins", wins, low=0.6, measured=0.84)
    in_others("best previous-token score", "20 of 20", low=0.9)

A claim prints the value and asserts that it lies in the band that the text promises. `measured` is
what the shipped model gave when the text was written; it is printed, so that the reader can
compare, and asserted too on the shipped model. Beside it stands the spread over other models, from
evidence.json.
"""

import math
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from minitransformer import Transformer, load
from minitransformer.plots import Figure, plt

from .evidence import Spread, spread
from .output import Notebook, Output, usual

__all__ = [
    "claim",
    "claim_rate",
    "fresh_seeds",
    "in_others",
    "plt",
    "print_table",
    "run_folder",
    "show",
    "the_model",
    "untrained_model",
]

ROOT = Path(__file__).resolve().parent.parent
RESAMPLES = 2000


class Session:
    """How the chapter at hand is being run; `python -m course` and the benchmarks set it."""

    chapter: str = "notebook"
    models: dict[str, str] = {}  # --model: shipped name -> the run folder in its place
    output: Output = usual()  # where claims, tables and pictures go
    strict: bool = True  # a failed claim stops the chapter; not so on a learner's own model
    seed: int = 0  # the first seed of what a chapter trains itself
    untrained: int = 1  # how many untrained models each control is computed on
    used: set[str] = set()  # the models that the chapter asked for
    claims: dict[str, "Claim"] = {}  # every claim made so far, in order
    failed: list[str] = []  # the texts of those that do not hold

    @classmethod
    def begin(cls, chapter: str, models: dict[str, str], output: Output | None = None) -> None:
        cls.chapter, cls.models, cls.output = chapter, models, output or usual()
        cls.strict = not models
        cls.used, cls.claims, cls.failed = set(), {}, []


class ClaimFails(AssertionError):
    """A claim that does not hold: its text, what was given, what the text says (if it does)."""

    def __init__(self, made: "Claim", reason: str, measured: float | None):
        super().__init__(f"{made.text}: {reason}")
        self.text, self.given, self.measured = made.text, number(made.value), measured


class Claim:
    """One claim as it was made: its text, value, band, and the values of its untrained control."""

    def __init__(self, text: str, value: float, low: float, high: float, untrained: list[float]):
        self.text, self.value, self.low, self.high = text, value, low, high
        self.untrained = untrained

    def inside(self, value: float) -> bool:
        return self.low <= value <= self.high


def the_model(name: str = "induction") -> Transformer:
    """A shipped model by name, or the learner's own of the same task if they asked for that."""
    Session.used.add(name)
    return load(Session.models.get(name, name))


def untrained_model(seed: int = 0, name: str = "induction") -> Transformer:
    """A model of the same shape with random weights: what every claim about training is held
    against.
    """
    return Transformer(load(Session.models.get(name, name)).cfg, seed)


def run_folder(name: str) -> Path:
    """Where the snapshots of a training are, if there are any: the learner's folder, or
    runs/NAME.
    """
    return Path(Session.models.get(name, f"runs/{name}"))


def fresh_seeds(count: int) -> range:
    """Seeds for what a chapter trains itself; other ones when its claims are tried on other
    models.
    """
    return range(Session.seed, Session.seed + count)


def show(figure: Figure, name: str) -> None:
    """Hand over a finished picture; at a terminal it is written to figures/, and said where."""
    Session.output.picture(figure, f"{Session.chapter}_{name}")


def claim(
    text: str,
    value: float,
    low: float = -math.inf,
    high: float = math.inf,
    measured: float | None = None,
    untrained: Callable[[Transformer], float] | None = None,
    like: str = "induction",
) -> None:
    """Print `text: value` with its band and its spread, and assert low <= value <= high.

    measured: the shipped model's value; off by more than 2 % of it (or .002) is an error there, so
    the text stays true. untrained: computes the same number on a model with random weights (of the
    shape of the shipped model `like`); it must fall outside the band, or the claim says nothing
    about training.
    """
    blanks = range(Session.untrained if untrained else 0)
    control = [float(untrained(untrained_model(seed, like))) for seed in blanks]
    made = Claim(text, float(value), low, high, control)
    again = isinstance(Session.output, Notebook)  # there, cells are run again
    if text in Session.claims and not again:
        raise AssertionError(f"two claims of this chapter say {text!r}")
    Session.claims[text] = made
    notes = promised(made, measured)
    fault = fault_of(made, measured)
    Session.output.claim(text, number(made.value), notes, fault)
    if fault:
        Session.failed.append(text)
        if Session.strict:
            raise ClaimFails(made, f"{fault} ({'; '.join(notes.values())})", measured)


def claim_rate(text: str, hits: Tensor, *band: float, **options) -> None:
    """A claim on the mean of `hits` [prompt], with an interval over prompts printed below it.

    The interval holds 95 % of the means of as many prompts drawn with replacement (bootstrap, Efron
    1979, "Bootstrap Methods: Another Look at the Jackknife").
    """
    hits = hits.double().flatten()
    claim(text, hits.mean(), *band, **options)
    low, high = interval(hits)
    found = f"over {len(hits)} prompts, 95 % interval {number(low)} to {number(high)}"
    Session.output.note(found)


def interval(
    values: Tensor, statistic: Callable[[Tensor], Tensor] | None = None
) -> tuple[float, float]:
    """The middle 95 % of a statistic (default: the mean) over resampled `values` [prompt, ...]."""
    generator = torch.Generator().manual_seed(0)
    rows = torch.randint(len(values), (RESAMPLES, len(values)), generator=generator)
    if statistic is None:
        drawn = values.double()[rows].mean(dim=1)
    else:
        drawn = torch.stack([torch.as_tensor(statistic(values[row])) for row in rows]).double()
    low, high = drawn.quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return low, high


def in_others(text: str, says: str, low: float = -math.inf, high: float = math.inf) -> None:
    """Print, and assert, in how many other trained models a claim of this chapter lies in a band.

    says: what the prose says, as "19 of 20". Only evidence.json may speak of other models.
    """
    found = spread(Session.chapter, text)
    others = found.others if found else []
    count = f"{sum(low <= value <= high for value in others)} of {len(others)}"
    Session.output.others(text, count, band(low, high))
    if Session.strict and count != says:
        raise AssertionError(f"{text}: the text says {says} other models, evidence.json {count}")


def print_table(title: str, rows: list[str], columns: list[str], values, form="{:.2f}") -> None:
    """A table with names: values [row][column], numbers (written in `form`) or words."""
    cells = []
    for row in values:
        cells.append([each if isinstance(each, str) else form.format(each) for each in row])
    Session.output.table(title, rows, columns, cells)


def fault_of(made: Claim, measured: float | None) -> str:
    """What is wrong with a claim; "" if nothing is."""
    if not made.inside(made.value):
        return f"{number(made.value)} is not what the text says"
    off = measured is not None and abs(made.value - measured) > max(0.002, 0.02 * abs(measured))
    if off and Session.strict:
        return f"{number(made.value)} is not what the text says"
    if made.untrained and made.inside(made.untrained[0]):
        return f"an untrained model passes too, with {number(made.untrained[0])}"
    return ""


def promised(made: Claim, measured: float | None) -> dict[str, str]:
    """What stands beside a claim: its band, the shipped model's value, the spread of others."""
    notes = {}
    if (made.low, made.high) != (-math.inf, math.inf):
        notes["band"] = band(made.low, made.high)
    if measured is not None:
        notes["measured"] = f"the course's model: {number(measured)}"
    found = spread(Session.chapter, made.text) or Spread(made.value, [], [])
    if found.others:
        notes["others"] = f"{len(found.others)} others {span(found.others)}"
    values = found.untrained or made.untrained
    if values:
        count = "untrained" if len(values) == 1 else f"{len(values)} untrained"
        notes["untrained"] = f"{count} {span(values)}"
    return notes


def span(values: list[float]) -> str:
    """The least and the largest of some values, once if they are the same."""
    least, largest = number(min(values)), number(max(values))
    return least if least == largest else f"{least} to {largest}"


def band(low: float, high: float) -> str:
    """The promised band in words: "0.9 or more", "at most 0.1", "exactly 0", "0.2 to 0.4"."""
    if low == high:
        return f"exactly {low:g}"
    if high == math.inf:
        return f"{low:g} or more"
    return f"at most {high:g}" if low == -math.inf else f"{low:g} to {high:g}"


def number(value: float) -> str:
    """Four digits that matter, whole numbers whole; a power of ten only where there must be one."""
    whole = abs(value) < 1e9 and value == round(value)
    kept = value if whole else float(f"{value:.4g}")
    plain = whole or 1000 <= abs(kept) < 1e9
    return f"{kept:.0f}" if plain else f"{kept:.4g}"
