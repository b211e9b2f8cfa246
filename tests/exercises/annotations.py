"""Is a result of the type that its function is annotated with?"""

import functools
import types
import typing
from collections.abc import Callable

from torch import Tensor

from tests.exercises.given import in_words


@functools.cache
def hints_of(function: Callable) -> dict:
    return typing.get_type_hints(function)


def misfit(value, wanted) -> str | None:
    """What should be there instead: "a float, got a tensor [3]"; None if the value fits."""
    origin, inner = typing.get_origin(wanted), typing.get_args(wanted)
    if origin in (typing.Union, types.UnionType):
        complaints = [misfit(value, option) for option in inner]
        return None if None in complaints else complaints[0]
    if not is_a(value, origin or wanted):
        advice = ""
        if isinstance(value, Tensor) and wanted in (float, int, bool):
            advice = " (x.item() is the number in it)"
        return f"{named(origin or wanted)}, got {in_words(value)}{advice}"
    return misfit_inside(value, origin, inner)


def misfit_inside(value, origin, inner: tuple) -> str | None:
    """The same for what a tuple, list or dict holds."""
    if origin is tuple and inner[-1] is not ...:
        if len(value) != len(inner):
            return f"a tuple of {len(inner)}, got {in_words(value)}"
        pairs = zip(value, inner)
    elif origin in (list, tuple):
        pairs = [(x, inner[0]) for x in value]
    elif origin is dict:
        pairs = [(key, inner[0]) for key in value] + [(x, inner[1]) for x in value.values()]
    else:
        return None
    for x, wanted in pairs:
        complaint = misfit(x, wanted)
        if complaint:
            return f"{named(origin)} that holds {complaint}"
    return None


def is_a(value, wanted) -> bool:
    if wanted is typing.Any or not hasattr(wanted, "__name__"):
        return True
    if wanted is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if wanted is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if wanted.__name__ == "Callable":
        return callable(value)
    # A learner's file has the given classes too: they are other objects of the same name.
    return wanted.__name__ in [kind.__name__ for kind in type(value).__mro__]


def named(wanted) -> str:
    known = {Tensor: "a tensor", str: "a string", int: "a whole number", Callable: "a function"}
    return known.get(wanted, f"a {getattr(wanted, '__name__', wanted)}")
