"""How do a learner's numbers differ from the right ones, where no listed mistake fits? In one plain
way, perhaps: averaged over an axis, turned round, times a factor. It is said only if it holds
exactly, on every call.
"""

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from tests.exercises.values import same

ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth")
ALIKE = 1e-5  # relative: what is one result

POINTWISE = {
    "with the opposite sign": torch.neg,
    "without their signs": torch.abs,
    "subtracted from 1": lambda x: 1 - x,
    "squared": torch.square,
    "under a square root": torch.sqrt,
    "as powers of e": torch.exp,
    "as logarithms": torch.log,
    "one divided by each": torch.reciprocal,
}
ALONG = {
    "averaged over {0}": lambda x, axis: x.mean(dim=axis),
    "added up over {0}": lambda x, axis: x.sum(dim=axis),
    "reduced to the largest along {0}": lambda x, axis: x.amax(dim=axis),
    "reduced to the place of the largest along {0}": lambda x, axis: x.argmax(dim=axis).double(),
    "in the opposite order along {0}": lambda x, axis: x.flip(axis),
    "moved on by one along {0}": lambda x, axis: x.roll(1, dims=axis),
    "moved back by one along {0}": lambda x, axis: x.roll(-1, dims=axis),
    "without the first entry of {0}": lambda x, axis: x.narrow(axis, 1, x.shape[axis] - 1),
    "without the last entry of {0}": lambda x, axis: x.narrow(axis, 0, x.shape[axis] - 1),
    "only the first entry of {0}": lambda x, axis: x.select(axis, 0),
    "only the last entry of {0}": lambda x, axis: x.select(axis, -1),
    "added up step by step along {0}": lambda x, axis: x.cumsum(dim=axis),
    "as differences from one to the next along {0}": lambda x, axis: x.diff(dim=axis),
    "less their mean over {0}": lambda x, axis: x - x.mean(dim=axis, keepdim=True),
    "less the first entry of {0}": lambda x, axis: x - x.narrow(axis, 0, 1),
    "less the largest along {0}": lambda x, axis: x - x.amax(dim=axis, keepdim=True),
    "divided by their sum over {0}": lambda x, axis: x / x.sum(dim=axis, keepdim=True),
    "divided by their length along {0}": lambda x, axis: x / x.norm(dim=axis, keepdim=True),
    "after a softmax over {0}": lambda x, axis: x.softmax(dim=axis),
    "after a log-softmax over {0}": lambda x, axis: x.log_softmax(dim=axis),
    "averaged over {0}, which is kept": lambda x, axis: x.mean(dim=axis, keepdim=True),
}


def plain_difference(mine: list, truth: list) -> str | None:
    """What was done to the right results, one for each call, to give these; None if nothing plain.

    For tensors and numbers only.
    """
    mine, truth = [as_numbers(x) for x in mine], [as_numbers(x) for x in truth]
    if not truth or any([x is None for x in mine + truth]) or all_same(mine, truth):
        return None
    if not tells_anything(truth):
        return None
    axes = {x.ndim for x in truth}
    for what, function in ways(axes.pop() if len(axes) == 1 else 0):
        if all_same(mine, [attempt(function, x) for x in truth]):
            return f"these are the right numbers, {what}"
    return by_a_constant(mine, truth)


def as_numbers(result) -> Tensor | None:
    """In float64; None for what is no tensor of real numbers, and no number."""
    if isinstance(result, Tensor):
        return None if result.is_complex() or not result.numel() else result.detach().double()
    if isinstance(result, int | float):
        return torch.tensor(float(result), dtype=torch.float64)
    return None


def all_same(mine: list[Tensor], theirs: list[Tensor | None]) -> bool:
    pairs = zip(mine, theirs)
    return all([y is not None and same(x, y, ALIKE) for x, y in pairs])


def tells_anything(truth: list[Tensor]) -> bool:
    """Are there three different numbers in it? Fewer fit a factor or a summand by chance."""
    every = torch.cat([x.flatten() for x in truth])
    return len(every[every.isfinite()].unique()) > 2


def attempt(function: Callable, x: Tensor) -> Tensor | None:
    try:
        return function(x)
    except (RuntimeError, IndexError):  # an axis of length 1 has nothing after its first entry
        return None


def ways(n_axes: int) -> Iterator[tuple[str, Callable]]:
    """What people do to right numbers with so many axes: (in words, the function)."""
    yield from POINTWISE.items()
    for axis in range(n_axes):
        name = f"the {ordinal(axis, n_axes)} axis"
        for what, function in ALONG.items():
            yield what.format(name), lambda x, f=function, axis=axis: f(x, axis)
    for a in range(n_axes):
        for b in range(a + 1, n_axes):
            pair = f"the {ordinal(a, n_axes)} and the {ordinal(b, n_axes)} axis"
            yield f"with {pair} exchanged", lambda x, a=a, b=b: x.transpose(a, b)
            yield f"averaged over {pair}", lambda x, a=a, b=b: x.mean(dim=(a, b))
            yield f"without the first entry of {pair}", lambda x, a=a, b=b: without_first(x, a, b)
    if n_axes > 2:
        yield "averaged over all axes", torch.mean
        yield "added up over all axes", torch.sum


def without_first(x: Tensor, a: int, b: int) -> Tensor:
    return x.narrow(a, 1, x.shape[a] - 1).narrow(b, 1, x.shape[b] - 1)


def ordinal(axis: int, n_axes: int) -> str:
    """The name of an axis, counted from 1; the last one is called so."""
    if n_axes > 1 and axis == n_axes - 1:
        return "last"
    return ORDINALS[axis] if axis < len(ORDINALS) else f"{axis + 1}th"


def by_a_constant(mine: list[Tensor], truth: list[Tensor]) -> str | None:
    """One factor, or one summand, for all numbers of all calls."""
    if [x.shape for x in mine] != [x.shape for x in truth]:
        return None
    every_mine = torch.cat([x.flatten() for x in mine])
    every_truth = torch.cat([x.flatten() for x in truth])
    finite = every_mine.isfinite() & every_truth.isfinite()
    x, y = every_mine[finite], every_truth[finite]
    if not len(x):
        return None
    if same(x, x[:1].expand_as(x), ALIKE):
        return f"every number is {x[0].item():.4g}"
    factor = (x @ y / (y @ y)).item() if y.any() else math.nan
    if all_same(mine, [factor * each for each in truth]):
        return f"these are the right numbers, times {factor:.4g}"
    summand = (x - y).mean().item()
    if all_same(mine, [each + summand for each in truth]):
        return f"these are the right numbers, plus {summand:.4g}"
    return None


def shape_difference(names: list[str], shape: list[int], found: list[int]) -> str:
    """What is wrong with a shape, to go on with after it; "" if there is no one plain way.

    names: of the axes of `shape`, the right one.
    """
    extra = {size for i, size in enumerate(found) if found[:i] + found[i + 1 :] == shape}
    lost = [name for i, name in enumerate(names) if shape[:i] + shape[i + 1 :] == found]
    if extra:
        return f": an axis too many, of size {extra.pop()}"
    if lost:
        return f": the axis {lost[0]} is missing" if len(lost) == 1 else ": an axis is missing"
    if len(shape) != len(found):
        return ""
    off = [each for each in zip(names, shape, found) if each[1] != each[2]]
    if len(off) == 1:
        name, right, got = off[0]
        return f": {name} is {abs(got - right)} too {'long' if got > right else 'short'}"
    return ": the axes are in another order" if off and sorted(shape) == sorted(found) else ""
