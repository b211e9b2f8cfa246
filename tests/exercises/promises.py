"""Promises that hold for every exercise, tried on each by name once its check passes: the same call
gets the same answer, a generator that is given is used, a batch of one keeps its axes.
"""

import inspect
import re
from collections.abc import Callable

import torch
from torch import Tensor

from exercises.attempts import describe, own_line
from tests.exercises.given import in_words
from tests.exercises.guarded import Call, Guarded, Promise, generators
from tests.exercises.values import copy, remade, same


def expect_promises(guarded: Guarded, reference: Callable) -> None:
    """Raises Promise if one is broken."""
    if guarded.calls and not guarded.changes:
        expect_steady(guarded, reference)
        expect_batch_of_one(guarded, reference)


def raises(function: Callable, call: Call) -> bool:
    try:
        call.made_by(function)
    except Exception:
        return True
    return False


# The same call twice


def expect_steady(guarded: Guarded, reference: Callable) -> None:
    """The first call of a check, made once more, gets the same answer, whatever the global seed; a
    given generator decides, and nothing else.
    """
    results = [call for call in guarded.calls if call.returned]
    call = next((call for call in results if generators(call)), results[0] if results else None)
    if call and not same(again(guarded.function, call), call.result):
        if raises(reference, call):
            return  # what it is given counts its calls, for instance
        drawn = "that `generator` does not decide" if generators(call) else "without a seed"
        sentence = "the same call, made twice, got two answers: is something drawn"
        raise Promise(f"{sentence} {drawn}, or kept from call to call?")
    if call and generators(call):
        expect_generator(guarded.function, reference, call)


def again(function: Callable, call: Call):
    """What the call gets under another global seed: a result, or an error."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        try:
            return call.made_by(function)
        except Exception as error:
            return error


def expect_generator(function: Callable, reference: Callable, call: Call) -> None:
    """Other seeds get other answers, and what is drawn is drawn from the generator itself."""
    theirs = [call.made_by(reference, seed) for seed in range(5)]
    mine = [call.made_by(function, seed) for seed in range(5)]
    varied = not all([same(x, theirs[0]) for x in theirs])
    draws = advances(function, call)  # what is drawn may not show here, for another reason
    if varied and not draws and all([same(x, mine[0]) for x in mine]):
        raise Promise("another seed gets the same answer: use the `generator` that is given")
    if advances(reference, call) and not draws:
        raise Promise("nothing is drawn from the `generator` itself: two calls in a row are equal")


def advances(function: Callable, call: Call) -> bool:
    """Does the function leave the generator in another state?"""
    args, kwargs = copy((call.args, call.kwargs))
    drawn = generators(Call(args, kwargs))
    before = [generator.get_state() for generator in drawn]
    function(*args, **kwargs)
    return not all([torch.equal(x, y.get_state()) for x, y in zip(before, drawn)])


# A batch of one


def expect_batch_of_one(guarded: Guarded, reference: Callable) -> None:
    """With one sequence alone the result has the axes that it had with many.

    Where that is not so for the reference, nothing is promised.
    """
    call = guarded.calls[0]
    size = batch_size(reference, call)
    if size < 2:
        return
    alone = Call(*cut((call.args, call.kwargs), size), look=call.look)
    try:
        promised = keeps_axes(call.result, alone.made_by(reference), size)
    except Exception:
        return  # one alone is too few for it
    if not promised:
        return
    try:
        mine = alone.made_by(guarded.function)
    except Exception as error:
        line = own_line(error, guarded.path)
        raise Promise(f"with a batch of one: {describe(error)}", line) from None
    if not keeps_axes(call.result, mine, size):
        pair = f"got {in_words(mine)}, and {in_words(call.result)} with {size}"
        raise Promise(f"with a batch of one: {pair}; does a squeeze() take too many axes?")


def batch_size(reference: Callable, call: Call) -> int:
    """How many sequences a call holds: the first axis of an argument that is said to begin with
    `batch`; 0 if none is.
    """
    named_so = re.findall(r"((?:\w+, )*\w+) \[batch\b", inspect.getdoc(reference) or "")
    names = {name for group in named_so for name in group.split(", ")}
    try:
        bound = inspect.signature(reference).bind(*call.args, **call.kwargs)
    except TypeError:
        return 0
    for name, value in bound.arguments.items():
        if name in names and isinstance(value, Tensor) and value.ndim:
            return len(value)
    return 0


def cut(value, size: int):
    """The value with the first of everything that has `size` of them along its first axis."""
    if isinstance(value, Tensor):
        return value[:1] if value.ndim and len(value) == size else value
    if type(value) is dict or type(value).__name__ == "ActivationCache":
        again = copy(value)
        again.update({key: cut(x, size) for key, x in value.items()})
        return again
    if isinstance(value, tuple):
        return remade(value, [cut(x, size) for x in value])
    return value


def keeps_axes(many, one, size: int) -> bool:
    """Are these put together alike, each axis as long as before, or 1 where it was `size`?"""
    if isinstance(many, Tensor) and isinstance(one, Tensor):
        pairs = zip(many.shape, one.shape)
        return many.ndim == one.ndim and all(a == b or (a, b) == (size, 1) for a, b in pairs)
    if isinstance(many, dict) and isinstance(one, dict):
        return many.keys() == one.keys() and all(
            keeps_axes(many[key], one[key], size) for key in many
        )
    if isinstance(many, tuple | list) and isinstance(one, tuple | list):
        alike = len(many) == len(one)
        return alike and all(keeps_axes(x, y, size) for x, y in zip(many, one))
    return not isinstance(many, Tensor) and not isinstance(one, Tensor)
