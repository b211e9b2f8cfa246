"""Do the checks recognise what people get wrong? python -m tests.benchmarks.human

Counts, per chapter, the stored answers that no mistake was written for (`fresh`): how the checks
met each the first time it was tried.
"""

from collections import Counter

from tests.exercises import human


def row(name: str, answers: list[human.Answer]) -> str:
    met = Counter(answer.fresh for answer in answers if answer.fresh)
    fresh = met.total()
    share = f"{met['named'] / fresh:.0%}" if fresh else ""
    wrong = len([answer for answer in answers if not answer.right])
    counts = [wrong, len(answers) - wrong, fresh, *[met[how] for how in human.FRESH]]
    return f"| {name} | " + " | ".join(map(str, counts)) + f" | {share} |"


def main() -> None:
    columns = ["chapter", "wrong answers", "unusual right ones", "fresh", *human.FRESH]
    print("| " + " | ".join([*columns, "share named"]) + " |")
    print("|---" * (len(columns) + 1) + "|")
    every = []
    for chapter in human.chapters():
        answers = human.answers(chapter)
        every += answers
        print(row(str(int(chapter[2:4])), answers))
    print(row("all", every))


if __name__ == "__main__":
    main()
