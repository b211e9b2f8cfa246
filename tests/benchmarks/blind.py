"""Which claims pass on which blind models? python -m tests.benchmarks.blind [--seeds 20]

Makes chapter 18's eight kinds of models from each seed and examines claims about them: the true
one, the true ones of all other kinds, the easy stories, and claims one step beside the truth.
Prints how often each passes, and how long a model and an examination take.

The kinds are numbered here in order of difficulty, as in oracles/ch18_models.py; so a reader of the
table learns nothing about their own models.
"""

import argparse
import time
from collections import Counter

import torch

from solutions.investigation import claim_about
from tests.exercises.oracles.ch18_exam import Exam
from tests.exercises.oracles.ch18_models import KINDS, blind_model_of
from tests.exercises.oracles.ch18_stories import (
    STORIES,
    other_rules,
    q_for_k,
    with_one_more,
    without_one,
)

MORE = 8  # so many of the claims with one edge more are tried on each model


def beside(model, claim: list) -> dict[str, list]:
    """Claims that are nearly true: what they do -> the claims."""
    more = with_one_more(claim, model)
    order = torch.randperm(len(more), generator=torch.Generator().manual_seed(0)).tolist()
    turned = q_for_k(claim)
    return {
        "the right edges, another rule": other_rules(claim, model),
        "one edge less": without_one(claim),
        "one edge more": [more[number] for number in order[:MORE]],
        "q and k exchanged": [turned] if edges_of(turned) != edges_of(claim) else [],
        "`unless` left out, or no second route": [claim[:1]] if len(claim) > 1 else [],
    }


def edges_of(claim: list) -> set[str]:
    return {edge for route in claim for edge in route.edges}


def share_right(verdicts: list) -> float:
    """The share of right predictions among those that are not vacuous."""
    words = [verdict.word for verdict in verdicts]
    return words.count("right") / (len(words) - words.count("vacuous"))


class Table:
    """What was counted so far."""

    def __init__(self):
        self.passed, self.tried = Counter(), Counter()
        self.lowest = [1.0] * len(KINDS)
        self.seconds = {"a model": [], "an examination": [], "a reference answer": []}

    def examine(self, what, exam: Exam, claims: list) -> None:
        for claim in claims:
            self.tried[what] += 1
            self.passed[what] += exam.holds(claim)

    def timed(self, what: str, function, *arguments):
        began = time.perf_counter()
        result = function(*arguments)
        self.seconds[what].append(time.perf_counter() - began)
        return result

    def add(self, seed: int) -> None:
        """All kinds of one seed."""
        models = []
        for number, kind in enumerate(KINDS):
            models.append(self.timed("a model", blind_model_of, kind, 1000 * seed + number))
        claims = [self.timed("a reference answer", claim_about, model) for model in models]
        for i, model in enumerate(models):
            exam = self.timed("an examination", Exam, model, seed)
            for j, claim in enumerate(claims):
                self.examine((i, j), exam, [claim])
            self.lowest[i] = min(self.lowest[i], share_right(exam.verdicts(claims[i])))
            for name, story in STORIES.items():
                self.examine((i, name), exam, [story(model)])
            if claims[i]:
                for name, near in beside(model, claims[i]).items():
                    self.examine((i, name), exam, near)

    def printed(self) -> None:
        numbers = range(len(KINDS))
        print("| claim | " + " | ".join(f"kind {i + 1}" for i in numbers) + " |")
        print("|---|" + "---|" * len(KINDS))
        for j in numbers:
            self.row(f"true of kind {j + 1}", j)
        for name in dict.fromkeys(what for _, what in self.tried if isinstance(what, str)):
            self.row(name, name)
        shares = " | ".join(f"{share:.3f}" for share in self.lowest)
        print(f"| lowest share right, true claim | {shares} |")
        for what, seconds in self.seconds.items():
            ranked = sorted(seconds)
            middle, worst = ranked[len(ranked) // 2], ranked[-1]
            print(f"{what}: {middle:.2f} s (median), {worst:.2f} s (worst)")

    def row(self, name: str, what) -> None:
        cells = []
        for i in range(len(KINDS)):
            tried = self.tried[i, what]
            cells.append(f"{self.passed[i, what]} of {tried}" if tried else "")
        print(f"| {name} | " + " | ".join(cells) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.blind")
    parser.add_argument("--seeds", type=int, default=20)
    args = parser.parse_args()
    torch.set_num_threads(1)
    table = Table()
    for seed in range(args.seeds):
        table.add(seed)
        print(f"seed {seed} done", flush=True)
    table.printed()


if __name__ == "__main__":
    main()
