"""A function under test, watched: what it was given, what it gave back, what it left changed."""

import functools
import inspect
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy
import torch

from exercises.attempts import Wrong, own_line
from exercises.limits import OutOfTime
from tests.exercises import given
from tests.exercises.annotations import misfit
from tests.exercises.values import copy, frozen, put_back, same


class Promise(Wrong):
    """A promise that holds for every exercise is broken; the sentence says all there is to say."""


class Call(NamedTuple):
    """One call of a function under test, as it was before the function saw it."""

    args: tuple
    kwargs: dict
    result: Any = None
    look: Callable = lambda result: result  # what of a result counts, see Guarded.look
    changes: tuple[str, ...] = ()
    returned: bool = True  # False where an error is asked for

    def made_by(self, function: Callable, seed: int | None = None):
        """What counts of the result when this function gets the same call. seed: for generators."""
        args, kwargs = copy((self.args, self.kwargs), self.changes)
        args = [as_known_to(function, x) for x in args]
        kwargs = {name: as_known_to(function, x) for name, x in kwargs.items()}
        for generator in generators(Call(args, kwargs)):
            if seed is not None:
                generator.manual_seed(seed)
        models = [x for x in [*args, *kwargs.values()] if isinstance(x, torch.nn.Module)]
        states, surroundings = frozen(models), Surroundings.now()
        try:
            return self.look(function(*args, **kwargs))
        finally:
            surroundings.set_back()
            if not same(frozen(models), states):
                put_back(tuple(models), states)


def as_known_to(function: Callable, x):
    """The same object, also an instance of the class of its name in the file of the function: a
    learner's file has a LowRank of its own, and may ask `isinstance(x, LowRank)`.
    """
    names = getattr(getattr(function, "function", function), "__globals__", {})
    theirs = names.get(type(x).__name__)
    if not isinstance(theirs, type) or isinstance(x, theirs) or isinstance(x, tuple):
        return x  # a named tuple is read by its fields, of whatever class it is
    twin = object.__new__(type(theirs.__name__, (type(x), theirs), {}))
    twin.__dict__.update(x.__dict__)
    return twin


def generators(call: Call) -> list[torch.Generator]:
    every = [*call.args, *call.kwargs.values()]
    return [x for x in every if isinstance(x, torch.Generator)]


class Guarded:
    """A function under test: behaves like it, and remembers its calls for the diagnosis.

    changes: the names of arguments that it is asked to change. returns: the type of its result.
    """

    def __init__(
        self, function: Callable, path: Path, changes: tuple[str, ...] = (), returns: Any = Any
    ):
        self.function, self.path, self.changes, self.returns = function, path, changes, returns
        self.calls: list[Call] = []
        functools.update_wrapper(self, function)

    def __call__(self, *args, **kwargs):
        before = copy((args, kwargs), self.changes)
        state, surroundings = frozen((args, kwargs)), Surroundings.now()
        try:
            result = self.function(*args, **kwargs)
        except NotImplementedError as error:
            raise self.unwritten(error) from None
        except (OutOfTime, KeyboardInterrupt):
            raise
        except BaseException as error:  # also pytest.skip, for one
            raise given.wrong(error, self.path) from None
        finally:
            broken = surroundings.broken() or self.changed((args, kwargs), state)
        if result is None:
            raise Promise("it returned None: is the `return` missing?")
        self.calls.append(Call(*before, copy(result), changes=self.changes))
        complaint = misfit(result, self.returns)
        if broken or complaint:
            raise Promise(broken or f"expected {complaint}")
        return result

    def without_result(self, *args, **kwargs):
        """Call the function where it must raise: the exception arrives as it is."""
        before = copy((args, kwargs), self.changes)
        self.calls.append(Call(*before, changes=self.changes, returned=False))
        return self.function(*args, **kwargs)

    def look(self, view: Callable) -> None:
        """What counts of the last result: view(result), for instance what a hook does, or a product
        of weights. Mistakes are recognised by that.
        """
        last = self.calls[-1]
        self.calls[-1] = last._replace(look=view, result=copy(view(last.result)))

    def changed(self, arguments: tuple[tuple, dict], state) -> str | None:
        """Which argument differs from what it was, said for the learner; it is put back."""
        (args, kwargs), (old_args, old_kwargs) = arguments, state
        names = names_of(self.function, args, kwargs)
        pairs = zip([*args, *kwargs.values()], [*old_args, *old_kwargs.values()])
        for name, (now, then) in zip(names, pairs):
            if name not in self.changes and not same(frozen(now), then):
                put_back(now, then)
                if isinstance(now, torch.nn.Module):
                    return f"it changed the model that it was given (`{name}`); it may only look"
                return f"it changed one of its arguments in place: {name}; use a copy (x.clone())"
        return None

    def unwritten(self, error: NotImplementedError) -> Wrong:
        """What a NotImplementedError means: a line left over, or an exercise to write first."""
        if str(error) in ("", self.function.__name__):
            sentence = "`raise NotImplementedError` is still in it: delete that line"
            return Wrong(sentence, own_line(error, self.path))
        sentence = f"it calls {error}, which is not written yet"
        return Wrong(sentence, own_line(error, self.path, caller=True))


def names_of(function: Callable, args: tuple, kwargs: dict) -> list[str]:
    """The names of the arguments of a call, in the order in which they are given."""
    try:
        parameters = list(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        parameters = []
    unnamed = [f"argument {number}" for number in range(len(parameters) + 1, len(args) + 1)]
    return [*[*parameters, *unnamed][: len(args)], *kwargs]


class Surroundings(NamedTuple):
    """What a function shares with all others: random states and settings."""

    torch_state: torch.Tensor
    numpy_state: tuple
    random_state: tuple
    gradients: bool
    dtype: torch.dtype
    threads: int

    @classmethod
    def now(cls) -> "Surroundings":
        return cls(
            torch.get_rng_state(),
            numpy.random.get_state(),
            random.getstate(),
            torch.is_grad_enabled(),
            torch.get_default_dtype(),
            torch.get_num_threads(),
        )

    def broken(self) -> str | None:
        """What is no longer as it was, said for the learner; it is set back."""
        now = Surroundings.now()
        self.set_back()
        drawn = (
            "it drew from the global random numbers of {0}, or seeded them; use a generator: the "
        )
        drawn += "one that is given, or one of your own"
        if not torch.equal(now.torch_state, self.torch_state):
            return drawn.format("torch")
        if not same(list(now.numpy_state), list(self.numpy_state)):
            return drawn.format("numpy")
        if now.random_state != self.random_state:
            return drawn.format("Python")
        if now.gradients != self.gradients:
            switched = "on" if now.gradients else "off"
            return (
                f"it left gradients switched {switched} for everybody; use `with torch.no_grad():`"
            )
        if now.dtype != self.dtype:
            return f"it left torch's default type changed, to {now.dtype}"
        if now.threads != self.threads:
            return f"it left the number of torch's threads changed, to {now.threads}"
        return None

    def set_back(self) -> None:
        torch.set_rng_state(self.torch_state)
        numpy.random.set_state(self.numpy_state)
        random.setstate(self.random_state)
        torch.set_grad_enabled(self.gradients)
        torch.set_default_dtype(self.dtype)
        if torch.get_num_threads() != self.threads:
            torch.set_num_threads(self.threads)
