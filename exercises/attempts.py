"""Load and run the learner's functions so that nothing they do can hurt anything but their own
check.

A mistake becomes a `Wrong` with a sentence and the learner's own line: a syntax error, an endless
loop, an endless recursion, a None, an argument edited in place, any exception."""

import contextlib
import functools
import importlib.util
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
    """What a check found wrong, said for the learner. `line`: where in their file, if it is
    known.
    """

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
        raise Wrong(
            f"{UNUSABLE} imported: {describe(error)} (exercises/{path.name})", own_line(error, path)
        ) from None
    return module


def unreadable(error: SyntaxError, path: Path) -> str:
    line = f", line {error.lineno}" if error.lineno else ""
    return f"{UNUSABLE} read: {error.msg} (exercises/{path.name}{line})"


class Guarded:
    """A function under test. It behaves like the function, and remembers its last calls for the
    diagnosis.
    """

    def __init__(self, function: Callable, path: Path):
        self.function, self.path, self.calls = function, path, []
        functools.update_wrapper(self, function)

    def __call__(self, *args, **kwargs):
        before = copy((args, kwargs))
        try:
            result = self.function(*args, **kwargs)
        except NotImplementedError as error:
            own = str(error) in ("", self.function.__name__)
            left = "`raise NotImplementedError` is still in it: delete that line"
            other = f"it calls {error}, which is not written yet"
            raise Wrong(
                left if own else other, own_line(error, self.path, caller=not own)
            ) from None
        except (Exception, SystemExit) as error:
            raise Wrong(describe(error), own_line(error, self.path)) from None
        if result is None:
            raise Wrong("it returned None: is the `return` missing?")
        self.calls = [*self.calls[-4:], (before, copy(result))]
        if not same(copy_without_generators((args, kwargs)), copy_without_generators(before)):
            raise Wrong(
                "it changed one of its arguments in place; work on a copy (x.clone()) instead"
            )
        return result

    def behaves_like(self, other: Callable) -> bool:
        """Does `other` give the same results as this function gave, on the last calls?"""
        try:
            return bool(self.calls) and all(
                same(other(*args, **kwargs), got) for (args, kwargs), got in copy(self.calls)
            )
        except Exception:
            return False


def describe(error: BaseException) -> str:
    if isinstance(error, RecursionError):
        return "RecursionError: it calls itself without end"
    return f"{type(error).__name__}: {(str(error) or 'no message').splitlines()[0]}"


def own_line(error: BaseException, path: Path, caller: bool = False) -> int | None:
    """The last line of the learner's own file in an error's traceback; caller: the one before it.

    Lines of a class come last: a chapter gives its classes, the learner writes the functions that
    call them."""
    frames = [
        (f.f_code, line)
        for f, line in traceback.walk_tb(error.__traceback__)
        if Path(f.f_code.co_filename) == path
    ]
    given = [
        code.co_qualname.count(".") > 2 * code.co_qualname.count("<locals>") for code, _ in frames
    ]
    lines = [line for (_, line), skip in zip(frames, given) if not skip or all(given)]
    return lines[-1 - (caller and len(lines) > 1)] if lines else None


def copy(value, tensor=lambda x: x.detach().clone(), generator=lambda x: x.clone_state()):
    """The same nested value with its tensors and generators copied; anything else is kept as it
    is.
    """
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
        if a.shape != b.shape or (a.is_floating_point(), a.is_complex()) != (
            b.is_floating_point(),
            b.is_complex(),
        ):
            return False
        exact = torch.complex128 if a.is_complex() else torch.float64
        return torch.allclose(
            a.to(exact), b.to(exact), rtol=tolerance, atol=tolerance, equal_nan=True
        )
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key], tolerance) for key in a)
    if isinstance(a, (tuple, list)) and isinstance(b, (tuple, list)):
        return len(a) == len(b) and all(same(x, y, tolerance) for x, y in zip(a, b))
    if isinstance(a, float) or isinstance(b, float):
        return (
            isinstance(a, (int, float))
            and isinstance(b, (int, float))
            and (abs(a - b) <= tolerance or a != a and b != b)
        )
    return a is b or a == b
