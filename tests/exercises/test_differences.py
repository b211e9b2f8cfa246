"""How wrong numbers differ from right ones is said only where it holds exactly."""

import pytest
import torch

from tests.exercises.differences import plain_difference, shape_difference
from tests.material import seeded

FIRST = torch.rand(2, 3, 5, generator=seeded(1))
SECOND = torch.rand(7, 3, 2, generator=seeded(2))
WAYS = {
    "averaged over the second axis": lambda x: x.mean(dim=1),
    "added up over the first axis": lambda x: x.sum(dim=0),
    "with the first and the last axis exchanged": lambda x: x.transpose(0, 2),
    "after a softmax over the last axis": lambda x: x.softmax(dim=-1),
    "in the opposite order along the first axis": lambda x: x.flip(0),
    "with the opposite sign": lambda x: -x,
    "subtracted from 1": lambda x: 1 - x,
    "without the first entry of the last axis": lambda x: x[..., 1:],
    "times 0.5": lambda x: x / 2,
    "plus -3": lambda x: x - 3,
    "every number is 4": lambda x: 0 * x + 4,
}


@pytest.mark.parametrize("words", WAYS)
def test_what_was_done_is_said(words):
    results = [WAYS[words](x) for x in (FIRST, SECOND)]
    assert words in plain_difference(results, [FIRST, SECOND])


def test_what_does_not_hold_on_every_call_is_not_said():
    assert plain_difference([FIRST, SECOND], [FIRST, SECOND]) is None  # nothing is wrong
    assert plain_difference([-FIRST, SECOND], [FIRST, SECOND]) is None
    assert plain_difference([FIRST / 2, SECOND / 3], [FIRST, SECOND]) is None
    assert plain_difference([FIRST**3], [FIRST]) is None
    assert plain_difference([{"a": 1}], [FIRST]) is None


def test_two_numbers_prove_nothing():
    """With two right numbers there is always a factor or a summand for one of them."""
    assert plain_difference([0.5, 1.0], [0.0, 2.0]) is None
    assert "times 0.5" in plain_difference([0.5, 1.0, 1.5], [1.0, 2.0, 3.0])


SHAPES = {
    ": an axis too many, of size 7": [7, 2, 3, 5],
    ": an axis too many, of size 1": [2, 3, 5, 1],
    ": the axis head is missing": [2, 5],
    ": the axes are in another order": [2, 5, 3],
    ": pos is 1 too short": [2, 3, 4],
    ": batch is 4 too long": [6, 3, 5],
}


@pytest.mark.parametrize("words", SHAPES)
def test_what_is_wrong_with_a_shape_is_said(words):
    assert shape_difference(["batch", "head", "pos"], [2, 3, 5], SHAPES[words]) == words


def test_a_shape_that_is_wrong_in_many_ways_is_only_shown():
    names = ["batch", "head", "pos"]
    assert shape_difference(names, [2, 3, 5], [3, 4, 6]) == ""
    assert shape_difference(names, [2, 3, 5], [30]) == ""
    assert shape_difference(names, [2, 5, 5], [2, 5]) == ": an axis is missing"  # which one?
    assert shape_difference(names, [2, 3, 5], [2, 3, 5]) == ""
