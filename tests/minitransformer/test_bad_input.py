"""Whatever is wrong in what is typed or handed over, it gets a sentence, and no file suffers.

The same cases as a table: python -m tests.benchmarks.bad_input
"""

import ast

import pytest

from exercises import stubs
from tests.minitransformer import bad_input
from tests.minitransformer.bad_input_cases import CASES, SOLUTIONS
from tests.minitransformer.bad_input_material import write_folder


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """The folder of broken files."""
    folder = tmp_path_factory.mktemp("bad")
    write_folder(folder)
    return folder


@pytest.fixture(scope="module")
def started(home):
    """Some of the cases as programs: they run while the others are tried here."""
    return bad_input.start_programs(CASES, home)


@pytest.fixture(scope="module")
def before(home, started):
    """The time stamps of all files, and their hashes."""
    return bad_input.fingerprint(home, bad_input.stamp), bad_input.fingerprint(home)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.given} {case.attempt}".strip())
def test_a_wrong_input_gets_a_sentence_and_harms_nothing(case, home, before):
    got = bad_input.answer(case, home)
    assert not bad_input.faults(case, got), got
    assert bad_input.fingerprint(home, bad_input.stamp) == before[0]


def test_programs_answer_alike_and_no_file_has_changed(home, started, before):
    for case, process in started.items():
        got = bad_input.answer_of(process)
        assert not bad_input.faults(case, got)
        assert got.message == bad_input.answer(case, home).message
    assert bad_input.fingerprint(home) == before[1]


def test_no_case_is_there_twice():
    inputs = [(case.given, case.attempt, case.folder) for case in CASES]
    assert len(set(inputs)) == len(inputs)


def test_every_error_that_a_solution_promises_is_tried():
    promised = set()
    for chapter in stubs.chapters():
        nodes = stubs.functions(stubs.solution_path(chapter).read_text(encoding="utf-8"))
        for name, node in nodes.items():
            if "Raises" in (ast.get_docstring(node) or ""):
                promised.add(name)
    assert promised <= {case.given.partition("(")[0] for case in SOLUTIONS}
