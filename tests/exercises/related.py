"""A check that says why: what a wrong result shows of how it was made."""

from collections.abc import Callable

import torch
from torch import Tensor

from exercises.attempts import Wrong
from tests.exercises.checking import expect_close
from tests.exercises.differences import plain_difference

TOLERANCE = 1e-4  # relative


def expect_related(
    got, truth, axes: str, why: str, tolerance: float = 1e-6, explain: Callable | None = None
) -> None:
    """expect_close, whose sentence says more where it can. explain: got -> what was done, or
    None.
    """
    try:
        expect_close(got, truth, axes, why, tolerance)
    except Wrong as wrong:
        reason = explain(got) if explain else None
        reason = reason or plain_difference([got], [truth]) or only_there(got, truth, axes.split())
        first, *others = str(wrong).split("\n")
        first = f"{first}: {reason}" if reason else first
        raise Wrong("\n".join([first, *others]), wrong.line) from None


def alike(got: Tensor, other: Tensor) -> bool:
    if got.shape != other.shape or not got.numel():
        return False
    return bool(((got - other).abs() <= TOLERANCE * (1 + other.abs())).all())


def difference(got: Tensor, truth: Tensor) -> str:
    """In words, for the middle of a sentence."""
    return plain_difference([got], [truth]) or "these are other numbers"


def only_there(got, truth, axes: list[str]) -> str | None:
    """Is it wrong only at one place, or at a few, along one axis?"""
    got, truth = torch.as_tensor(got).detach(), torch.as_tensor(truth).detach()
    if got.shape != truth.shape or truth.ndim < 2:
        return None
    wrong = ~((got - truth).abs() <= TOLERANCE * (1 + truth.abs()))
    for number, axis in enumerate(axes):
        others = [other for other in range(truth.ndim) if other != number]
        places = wrong.any(dim=others).nonzero().flatten().tolist()
        if 0 < len(places) <= truth.shape[number] // 2:
            return f"it is wrong only at {axis} {', '.join(map(str, places[:4]))}"
    return None
