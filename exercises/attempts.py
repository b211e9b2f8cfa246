"""Load and run the learner's functions so that they can hurt nothing but their own check.

A mistake becomes a `Wrong` with a sentence and the learner's own line: a syntax error, an endless
loop, an endless recursion, a None, an argument edited in place, any exception.
"""

import contextlib
import functools
import importlib.util
import math
import signal
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor

SECONDS = 10  # for one check; Windows has no alarm signal, there Ctrl-C must do
UNUSABLE = "the file cannot be"  # read, or imported: then all checks of the chapter say the same


class Wrong(AssertionError):
    """What a check found wrong, said for the learner. `line`: where in their file, if known."""

    def __init__(self, sentence: str, line: int | None = None):
        super().__init__(sentence)
        self.line = line


@contextlib.contextmanager
def time_limit(seconds: float):
    """Raises TimeoutError in the code inside once it has taken this long."""

    def ring(*_):
        raise TimeoutError(f"still running after {seconds} s: is there a loop that never ends?")

    if not hasattr(signal, "SIGALRM"):
        yield
        return
    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def load_file(path: Path) -> ModuleType:
    """Import a chapter's file anew. Raises Wrong, with the line, if it cannot be imported."""
    spec = importlib.util.spec_from_file_location(f"{path.parent.name}.{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    try:
        with time_limit(SECONDS):
            spec.loader.exec_module(module)
    except SyntaxError as error:
        raise Wrong(unreadable(error, path), error.lineno) from None
    except (Exception, SystemExit) as error:
        sentence = f"{UNUSABLE} imported: {describe(error)} (exercises/{path.name})"
        raise Wrong(sentence, own_line(error, path)) from None
    return module


def unreadable(error: SyntaxError, path: Path) -> str:
    line = f", line {error.lineno}" if error.lineno else ""
    return f"{UNUSABLE} read: {error.msg} (exercises/{path.name}{line})"


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
        except (Exception, SystemExit) as error:
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


def describe(error: BaseException) -> str:
    if isinstance(error, RecursionError):
        return "RecursionError: it calls itself without end"
    return f"{type(error).__name__}: {(str(error) or 'no message').splitlines()[0]}"


def own_line(error: BaseException, path: Path, caller: bool = False) -> int | None:
    """The last line of the learner's own file in an error's traceback; caller: the one before it.

    Lines of a class come last: a chapter gives its classes, the learner writes the functions that
    call them.
    """
    lines, in_classes = [], []
    for frame, line in traceback.walk_tb(error.__traceback__):
        if Path(frame.f_code.co_filename) == path:
            name = frame.f_code.co_qualname
            given = name.count(".") > 2 * name.count("<locals>")
            (in_classes if given else lines).append(line)
    lines = lines or in_classes
    if not lines:
        return None
    return lines[-2] if caller and len(lines) > 1 else lines[-1]


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
