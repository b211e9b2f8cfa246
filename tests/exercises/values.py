"""Nested values of any kind: copied, remembered, put back, compared.

A value is a tensor, a number, a model, a generator, a tuple, list or dict of values, or an object
that holds some. Functions are kept as they are.
"""

import copy as library
import functools
import math
from types import FunctionType, MethodType, ModuleType

import torch
from torch import Tensor, nn

# What has attributes, but is no value made of them.
WHOLE = (FunctionType, MethodType, ModuleType, functools.partial, type, torch.optim.Optimizer)


def copy(value, changes: tuple[str, ...] = ()):
    """The same nested value with its tensors and generators copied; models are kept.

    changes: not empty if the function under test may change what it is given. Then everything is
    copied, also models, and what belongs together stays together.
    """
    if changes:
        return library.deepcopy(value)
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, torch.Generator):
        return value.clone_state()
    if isinstance(value, dict):
        again = library.copy(value)
        for key, x in value.items():
            again[key] = copy(x)
        return again
    if isinstance(value, (tuple, list)):
        return remade(value, [copy(x) for x in value])
    return value


def remade(value: tuple | list, items: list):
    """A tuple, a NamedTuple or a list of the same type with other items."""
    return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)


def frozen(value):
    """What a value is made of, in tuples, dicts and copies, to compare it with later. To draw from
    a generator is no change.
    """
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, nn.Module):
        return {"training": value.training} | frozen(value.state_dict())
    if isinstance(value, dict):
        return {key: frozen(x) for key, x in value.items()}
    if isinstance(value, (tuple, list)):
        return [frozen(x) for x in value]
    if is_made_of_attributes(value):
        return frozen(vars(value))
    return None if isinstance(value, torch.Generator) else value


def is_plain(value) -> bool:
    """Is it a number, a word or the like, which cannot be changed in place?"""
    return isinstance(value, str | int | float | None)


def is_made_of_attributes(value) -> bool:
    return hasattr(value, "__dict__") and not isinstance(value, WHOLE)


@torch.no_grad()
def put_back(value, then) -> None:
    """Give a value the content again that `frozen` saw."""
    if isinstance(value, Tensor):
        value.data = then.clone()
    elif isinstance(value, nn.Module):
        value.train(then["training"])
        value.load_state_dict({key: x for key, x in then.items() if key != "training"})
    elif isinstance(value, dict):
        for key in value.keys() & then.keys():
            put_back(value[key], then[key])
        restored = {key: value.get(key, x) for key, x in then.items()}
        value.clear()
        value.update(restored)
    elif isinstance(value, list):
        for x, y in zip(value, then):
            put_back(x, y)
        moved = len(value) != len(then)
        value[:] = then if moved else [y if is_plain(x) else x for x, y in zip(value, then)]
    elif isinstance(value, tuple):
        for x, y in zip(value, then):
            put_back(x, y)
    elif is_made_of_attributes(value):
        put_back(vars(value), then)


def same(a, b, tolerance: float = 1e-6) -> bool:
    """Equal up to rounding, for tensors, numbers, and tuples, lists and dicts of them."""
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return same_tensor(a, b, tolerance)
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all([same(a[key], b[key], tolerance) for key in a])
    if isinstance(a, (tuple, list)) and isinstance(b, (tuple, list)):
        return len(a) == len(b) and all(same(x, y, tolerance) for x, y in zip(a, b))
    if isinstance(a, float) or isinstance(b, float):
        if not (isinstance(a, int | float) and isinstance(b, int | float)):
            return False
        return abs(a - b) <= tolerance * (1 + abs(b)) or a == b or (math.isnan(a) and math.isnan(b))
    if hasattr(a, "dense") and hasattr(b, "dense"):  # a matrix, kept as its factors
        return same(a.dense, b.dense, tolerance)
    if is_made_of_attributes(a) and is_made_of_attributes(b):
        return same(frozen(a), frozen(b), tolerance)
    equal = a == b
    return a is b or bool(equal.all() if hasattr(equal, "all") else equal)


def same_tensor(a: Tensor, b: Tensor, tolerance: float) -> bool:
    if a.shape != b.shape or kind(a) != kind(b):
        return False
    exact = torch.complex128 if a.is_complex() else torch.float64
    a, b = a.detach().to(exact), b.detach().to(exact)
    return torch.allclose(a, b, rtol=tolerance, atol=tolerance, equal_nan=True)


def kind(x: Tensor) -> str:
    """What counts as one type of number here: whole, real or complex."""
    if x.is_complex():
        return "complex"
    return "real" if x.is_floating_point() else "whole"
