"""Say in which case something went wrong: what a check expects of a call beyond its result."""

from collections.abc import Callable

from exercises.attempts import Wrong, describe, own_line
from tests.exercises.guarded import Guarded


def in_case(sentence: str, function: Guarded, *arguments, **named):
    """function(...), but an exception in it begins with the case in which it happened."""
    try:
        return function(*arguments, **named)
    except Wrong as wrong:
        raise Wrong(f"{sentence}: {wrong}", wrong.line) from None


def heads_of(model) -> str:
    """The case of a model whose size is not that of the course's."""
    return f"a model of {model.cfg.n_layers} layers with {model.cfg.n_heads} heads each"


def expect_error(
    function: Guarded, arguments: tuple, kind: type, sentence: str, called: str = ""
) -> None:
    """The call must raise `kind`, and no other error, whatever its words. called: what the message
    calls it.
    """
    name = called or kind.__name__.lstrip("_")
    try:
        function.without_result(*arguments)
    except kind:
        return
    except Exception as error:
        line = own_line(error, function.path)
        raise Wrong(f"{sentence}: expected {name}, got {describe(error)}", line) from None
    raise Wrong(f"{sentence}: expected {name}, nothing was raised")


def first_true(reasons: dict[str, Callable], *values) -> str:
    """The first reason whose test holds for the values, in brackets; else nothing."""
    for reason, holds in reasons.items():
        if holds(*values):
            return f" ({reason})"
    return ""
