"""What a wrong result has to do with the right one: the sign, a factor, an axis that runs backwards,
one place at which alone it is wrong. Said for the learner, where it is so simple.
"""

from itertools import permutations

import torch
from torch import Tensor

from exercises.attempts import Wrong
from tests.exercises.checking import expect_close

TOLERANCE = 1e-4  # relative


def expect_related(got, truth, axes: str, why: str, tolerance: float = 1e-6, explain=None) -> None:
    """expect_close, whose sentence says more where it can. explain: got -> what was done, or None;
    it is asked first.
    """
    try:
        expect_close(got, truth, axes, why, tolerance)
    except Wrong as wrong:
        reason = explain(got) if explain else None
        reason = reason or relation(got, truth, axes.split())
        first, *others = str(wrong).split("\n")
        first = f"{first}: {reason}" if reason else first
        raise Wrong("\n".join([first, *others]), wrong.line) from None


def relation(got, truth, axes: list[str]) -> str | None:
    """What `got` is, told from `truth`; None if nothing simple."""
    got = torch.as_tensor(got).detach().double()
    truth = torch.as_tensor(truth).detach().double()
    if got.isnan().any() or truth.isnan().any() or not truth.numel():
        return None
    if got.shape != truth.shape:
        return of_other_shape(got, truth, axes)
    changes = {"the sign is wrong": -truth, "these are absolute values": truth.abs()}
    changes["this is 1 minus what is expected"] = 1 - truth
    for number, axis in enumerate(axes):
        changes[f"{axis} runs backwards"] = truth.flip(number)
    for sentence, changed in changes.items():
        if alike(got, changed):
            return sentence
    return proportion(got, truth) or shift(got, truth, axes) or only_there(got, truth, axes)


def alike(got: Tensor, other: Tensor) -> bool:
    if got.shape != other.shape or not got.numel():
        return False
    return bool(((got - other).abs() <= TOLERANCE * (1 + other.abs())).all())


def proportion(got: Tensor, truth: Tensor) -> str | None:
    if truth.numel() < 2:
        return None
    factor = (got * truth).sum() / truth.square().sum().clamp(min=1e-30)
    if factor.abs() > 1e-6 and alike(got / factor, truth):
        return f"everything is {factor:.4g} times what is expected"
    if alike(got, truth + (got - truth).mean()):
        return f"everything is off by the same number, {(got - truth).mean():.4g}"
    return None


def shift(got: Tensor, truth: Tensor, axes: list[str]) -> str | None:
    for number, axis in enumerate(axes):
        for by in range(1, min(3, truth.shape[number] - 1)):
            early, late = slice_of(number, 0, -by), slice_of(number, by, None)
            for mine, theirs, sign in ((late, early, "-"), (early, late, "+")):
                if alike(got[mine], truth[theirs]):
                    return f"at {axis} i stands what belongs to {axis} i {sign} {by}"
    return None


def slice_of(axis: int, start: int, end: int | None) -> tuple:
    return (*[slice(None)] * axis, slice(start, end))


def only_there(got: Tensor, truth: Tensor, axes: list[str]) -> str | None:
    """Along which axis is it wrong at a few places only?"""
    wrong = (got - truth).abs() > TOLERANCE * (1 + truth.abs())
    for number, axis in enumerate(axes):
        others = [other for other in range(truth.ndim) if other != number]
        places = wrong.any(dim=others).nonzero().flatten().tolist() if others else []
        if 0 < len(places) <= truth.shape[number] // 2:
            return f"it is wrong only at {axis} {', '.join(map(str, places[:4]))}"
    return None


def of_other_shape(got: Tensor, truth: Tensor, axes: list[str]) -> str | None:
    if got.ndim == truth.ndim:
        for order in permutations(range(truth.ndim)):
            if alike(got, truth.permute(order)):
                return f"the axes stand in the order {', '.join(axes[i] for i in order)}"
    for number, axis in enumerate(axes[: truth.ndim]):
        if alike(got, truth.mean(dim=number)) or alike(got, truth.sum(dim=number)):
            return f"the axis {axis} was averaged or added up"
    for number in range(got.ndim):
        if alike(got.mean(dim=number), truth):
            return f"its axis {number} is still to be averaged"
        if alike(got.sum(dim=number), truth):
            return f"its axis {number} is still to be added up"
    return None
