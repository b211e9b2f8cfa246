"""The page about another library's models: it may say only what was measured; where that library is
installed, everything is measured again.
"""

import copy
import math

import pytest
import torch

from course import __main__ as course
from course import cells, notebooks
from course.carry_over import calls, measure, their_library
from course.carry_over.material import Sequences
from exercises import stubs
from minitransformer import load
from tests.material import seeded

needs_library = pytest.mark.skipif(
    not their_library.is_there(),
    reason=f"the other library is not here, so nothing was measured again: {their_library.INSTALL}",
)
PAGE = stubs.ROOT / "course" / "other_models.py"
CALLS = calls.ON_INDUCTION | calls.ON_ARITHMETIC


def test_the_stored_table_is_about_these_tools():
    _, rows = measure.stored()
    assert list(rows) == list(CALLS), f"measure anew: {measure.__doc__.splitlines()[-1].strip()}"
    exercises = {name for chapter in stubs.chapters() for name in stubs.exercise_names(chapter)}
    assert set(rows) <= exercises


def test_at_least_25_tools_carry_over_and_each_row_is_evidence():
    _, rows = measure.stored()
    light = [name for name, row in rows.items() if row.lines is not None and len(row.lines) < 2]
    assert len(light) >= 25
    for name, row in rows.items():
        assert (row.as_it_is == measure.SAYS_SAME) == (row.lines == []), name
        assert row.lines is None or row.difference <= measure.SAME, name
        assert row.control > measure.SAME, f"{name}: other weights give the same result"
        assert set(row.lines or []) <= set(their_library.LINES), name
    assert {name for name, row in rows.items() if row.lines is None} == set(measure.REASONS)


@pytest.mark.parametrize("name", ["find_heads", "copying_score", "effect_ledger", "scrub"])
def test_a_call_is_repeatable_and_sees_the_weights(name):
    """On our own models: the same model gives no difference, another one does."""
    ours = load("induction")
    material, call = Sequences(ours), CALLS[name]
    with torch.no_grad():
        truth = call(ours, material)
        assert measure.difference(truth, call(copy.deepcopy(ours), material)) == 0
        assert measure.difference(truth, call(measure.shaken(ours), material)) > measure.SAME


def test_a_difference_is_the_largest_one_anywhere():
    first = {"a": [torch.tensor([1.0, -math.inf]), "to"], "b": (2, True)}
    assert measure.difference(first, copy.deepcopy(first)) == 0
    for second, apart in [
        ({"a": [torch.tensor([1.5, -math.inf]), "to"], "b": (2, True)}, 0.5),
        ({"a": [torch.tensor([1.0, -math.inf]), "to"], "b": (2, False)}, 1),
        ({"a": [torch.tensor([1.0, -math.inf]), "tp"], "b": (2, True)}, 1),
        ({"a": [torch.tensor([1.0, -7.0]), "to"], "b": (2, True)}, math.inf),
        ({"a": [torch.tensor([1.0, math.nan]), "to"], "b": (2, True)}, math.inf),
        ({"a": [torch.tensor([1.0]), "to"], "b": (2, True)}, math.inf),
        ({"a": [torch.tensor([1.0, -math.inf]), "to"], "c": (2, True)}, 1),
    ]:
        assert measure.difference(first, second) == apart


def test_the_page_runs_without_the_library(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(their_library, "is_there", lambda: False)
    assert course.main(["other_models"]) == 0
    said = capsys.readouterr().out
    assert their_library.INSTALL in said and "other_models: " in said
    assert list((tmp_path / "figures").glob("other_models_*.png"))


def test_the_page_is_a_notebook_too(tmp_path):
    said = notebooks.write_chapters("other_models", tmp_path, mine=True, models=[])
    assert said.startswith("written: other_models_mine.ipynb")


def test_the_prose_holds_no_number_that_the_code_does_not_print():
    """But the minutes, a year, a version, the numbers of layers and chapters."""
    known = {"10", "2022", "4", "1", "2", "8", "11", "15"}
    for cell in cells.cells(PAGE.read_text(encoding="utf-8")):
        if cell.kind == "markdown":
            words = cell.text.replace("`", " ").split()
            numbers = {word.strip(".,:;()?") for word in words if word.strip(".,:;()?").isdigit()}
            assert numbers <= known, cell.text


@needs_library
@pytest.mark.parametrize("name", ["induction", "additive", "one-layer", "arithmetic"])
def test_the_other_model_has_the_same_logits_and_activations(name):
    ours = load(name)
    tokens = torch.randint(ours.cfg.d_vocab, (3, ours.cfg.n_ctx), generator=seeded())
    with torch.no_grad():
        logits, cache = ours.run_with_cache(tokens)
        their_logits, theirs = their_library.their_model(ours).run_with_cache(tokens)
    assert measure.difference(logits, their_logits) < measure.SAME
    for place, activation in cache.items():
        assert measure.difference(activation, theirs[place]) < measure.SAME, place


@needs_library
def test_the_stored_table_is_what_is_measured():
    _, stored = measure.stored()
    for name, row in measure.measure().items():
        assert (row.as_it_is, row.lines) == (stored[name].as_it_is, stored[name].lines), name
        assert row.lines is None or row.difference <= measure.SAME, name
        assert row.control > measure.SAME, name


@needs_library
def test_a_training_step_differs_because_of_the_biases():
    """The reason that the page gives: with the biases held, it is the same."""
    ours, call = load("induction"), CALLS["training_step_by_hand"]
    material, theirs = Sequences(ours), their_library.their_model(ours)
    truth = call(ours, material)
    assert measure.difference(truth[0], call(theirs, material)[0]) < measure.SAME
    assert measure.difference(truth, call(theirs, material)) > measure.SAME
    for name, parameter in theirs.named_parameters():
        parameter.requires_grad_(".b_" not in name)
    assert measure.difference(truth, call(theirs, material)) < measure.SAME
