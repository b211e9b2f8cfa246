"""Do the checks recognise what people get wrong? python -m tests.benchmarks.human

Two tables, per chapter. `fresh`: the stored answers that no mistake was written for, and how the
checks met each the first time it was tried. `blind`: those written by somebody who knew neither the
checks nor the other answers, and how the finished checks met them.
"""

from collections import Counter
from collections.abc import Callable

from tests.exercises import human


def row(name: str, answers: list[human.Answer]) -> str:
    met = Counter(answer.fresh for answer in answers if answer.fresh)
    fresh = met.total()
    share = f"{met['named'] / fresh:.0%}" if fresh else ""
    wrong = len([answer for answer in answers if not answer.right])
    counts = [wrong, len(answers) - wrong, fresh, *[met[how] for how in human.FRESH]]
    return f"| {name} | " + " | ".join(map(str, counts)) + f" | {share} |"


def blind_row(name: str, answers: list[human.Answer]) -> str:
    met = Counter(answer.blind for answer in answers if answer.blind)
    share = f"{met['named'] / met.total():.0%}" if met else ""
    counts = [met.total(), *[met[how] for how in human.FRESH]]
    return f"| {name} | " + " | ".join(map(str, counts)) + f" | {share} |"


def table(columns: list[str], row: Callable[[str, list[human.Answer]], str]) -> None:
    """Print one row a chapter, and one of all."""
    print("| " + " | ".join(columns) + " |")
    print("|---" * len(columns) + "|")
    every = []
    for chapter in human.chapters():
        answers = human.answers(chapter)
        every += answers
        print(row(str(int(chapter[2:4])), answers))
    print(row("all", every))


def main() -> None:
    how = [*human.FRESH, "share named"]
    table(["chapter", "wrong answers", "unusual right ones", "fresh", *how], row)
    print()
    table(["chapter", "blind", *how], blind_row)


if __name__ == "__main__":
    main()
