"""A function under test, watched: what it was given, what it gave back, what it left changed."""

import functools
import math
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from exercises.attempts import Wrong, describe, own_line
from exercises.limits import OutOfTime


class Guarded:
    """A function under test: behaves like it, and remembers its last calls for the diagnosis."""

    def __init__(self, function: Callable, path: Path):
        self.function, self.path, self.calls = function, path, []
        functools.update_wrapper(self, function)

    def __call__(self, *args, **kwargs):
        before = copy((args, kwargs))
        try:
            result = self.function(*args, **kwargs)
        except NotImplementedError as error:
            raise self.unwritten(error) from None
        except (OutOfTime, KeyboardInterrupt):
            raise
        except BaseException as error:  # also pytest.skip, for one
            raise Wrong(describe(error), own_line(error, self.path)) from None
        if result is None:
            raise Wrong("it returned None: is the `return` missing?")
        self.calls = [*self.calls[-4:], (before, copy(result))]
        if not same(copy_without_generators((args, kwargs)), copy_without_generators(before)):
            raise Wrong("it changed one of its arguments in place; work on a copy (x.clone())")
        return result

    def unwritten(self, error: NotImplementedError) -> Wrong:
        """What a NotImplementedError means: a line left over, or an exercise to write first."""
        if str(error) in ("", self.function.__name__):
            sentence = "`raise NotImplementedError` is still in it: delete that line"
            return Wrong(sentence, own_line(error, self.path))
        sentence = f"it calls {error}, which is not written yet"
        return Wrong(sentence, own_line(error, self.path, caller=True))

    def behaves_like(self, other: Callable) -> bool:
        """Does `other` give the same results as this function gave, on the last calls?"""
        try:
            for (args, kwargs), got in copy(self.calls):
                if not same(other(*args, **kwargs), got):
                    return False
        except Exception:
            return False
        return bool(self.calls)


def copy(value, tensor=lambda x: x.detach().clone(), generator=lambda x: x.clone_state()):
    """The same nested value with its tensors and generators copied; anything else is kept."""
    again = functools.partial(copy, tensor=tensor, generator=generator)
    if isinstance(value, Tensor):
        return tensor(value)
    if isinstance(value, torch.Generator):
        return generator(value)
    if type(value) is dict:
        return {key: again(x) for key, x in value.items()}
    if type(value) in (tuple, list):
        return type(value)(again(x) for x in value)
    return value


# drawing from one is no edit
copy_without_generators = functools.partial(copy, generator=lambda _: None)


def same(a, b, tolerance: float = 1e-6) -> bool:
    """Equal up to rounding, for tensors, numbers, and tuples, lists and dicts of them."""
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        if a.shape != b.shape or kind(a) != kind(b):
            return False
        exact = torch.complex128 if a.is_complex() else torch.float64
        a, b = a.to(exact), b.to(exact)
        return torch.allclose(a, b, rtol=tolerance, atol=tolerance, equal_nan=True)
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key], tolerance) for key in a)
    if isinstance(a, (tuple, list)) and isinstance(b, (tuple, list)):
        return len(a) == len(b) and all(same(x, y, tolerance) for x, y in zip(a, b))
    if isinstance(a, float) or isinstance(b, float):
        if not (isinstance(a, int | float) and isinstance(b, int | float)):
            return False
        return abs(a - b) <= tolerance or (math.isnan(a) and math.isnan(b))
    return a is b or a == b


def kind(x: Tensor) -> str:
    """What counts as one type of number here: whole, real or complex."""
    if x.is_complex():
        return "complex"
    return "real" if x.is_floating_point() else "whole"
