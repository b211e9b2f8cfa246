"""What does each stored answer get to read? python -m tests.exercises.human ch05 [EXERCISE]"""

import sys

import torch

from tests.exercises import human


def main(chapter: str, exercise: str | None = None) -> None:
    torch.set_num_threads(1)
    stem = next((stem for stem in human.chapters() if stem.startswith(chapter)), None)
    if stem is None:
        sys.exit(f"tests/exercises/human/ has no answers of {chapter!r}")
    asked = [answer for answer in human.answers(stem) if exercise in (None, answer.exercise)]
    disagree = sum([show(answer) for answer in asked])
    print(f"{len(asked)} answers, {disagree} not as written (✗)")


def show(answer: human.Answer) -> bool:
    """Print an answer and its message. -> does it disagree with what is written of it?"""
    try:
        said = human.met_by(answer)
        complaint = human.complaint(answer, said)
    except (ValueError, KeyError) as error:
        said, complaint = None, f"this entry cannot be used: {error}"
    met = f" [{answer.fresh or answer.blind}]" if answer.fresh or answer.blind else ""
    print(f"{'✗' if complaint else '✓'} {answer.exercise}: {answer.did}{met}")
    print("    " + (said or complaint or "passes, as it should").replace("\n", "\n    "))
    if said and complaint and answer.says not in ("", "?"):
        print(f"    NOT IN IT: {answer.says!r}")
    print()
    return complaint is not None


if __name__ == "__main__":
    main(*sys.argv[1:])
