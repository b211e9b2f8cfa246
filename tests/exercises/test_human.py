"""Wrong answers that people gave stay refused, with the message that names what they did; unusual
right answers stay right.
"""

import pytest

from exercises import stubs
from tests.exercises import human

EXERCISES = [
    (chapter, name) for chapter in human.chapters() for name in stubs.exercise_names(chapter)
]


QUICKLY = 2  # so many of each exercise, the blind ones first; --all-answers: all, in 3 minutes


def tried(chapter: str, exercise: str, every: bool) -> list[human.Answer]:
    of_it = [answer for answer in human.answers(chapter) if answer.exercise == exercise]
    return of_it if every else sorted(of_it, key=lambda answer: not answer.blind)[:QUICKLY]


@pytest.mark.parametrize("chapter, exercise", EXERCISES)
def test_each_answer_gets_its_message(chapter, exercise, pytestconfig):
    complaints = []
    for answer in tried(chapter, exercise, pytestconfig.getoption("all_answers")):
        complaint = human.complaint(answer, human.met_by(answer))
        complaints += [f"{answer.did}: {complaint}"] if complaint else []
    assert not complaints, "\n" + "\n".join(complaints)


@pytest.mark.parametrize("chapter", human.chapters())
def test_a_file_of_answers_is_of_its_chapter(chapter):
    answers = human.answers(chapter)
    assert {answer.exercise for answer in answers} <= set(stubs.exercise_names(chapter))
    for answer in answers:
        changed = bool(answer.old and answer.new != answer.old) != bool(answer.code)
        assert changed, f"{answer.exercise}, {answer.did}: either old and new, or code"
        assert answer.fresh in ("", *human.FRESH), f"{answer.exercise}, {answer.did}"
        assert answer.blind in ("", *human.FRESH), f"{answer.exercise}, {answer.did}"
