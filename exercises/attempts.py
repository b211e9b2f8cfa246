"""Load and run the learner's functions so that they can hurt nothing but their own check.

A mistake becomes a `Wrong` with a sentence and the learner's own line: a syntax error, an endless
loop, an endless recursion, a None, an argument edited in place, any exception.
"""

import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from . import stubs
from .limits import OutOfTime, restored_state, time_limit

UNUSABLE = "the file cannot be"  # read, or imported: then all checks of the chapter say the same


class Wrong(AssertionError):
    """What a check found wrong, said for the learner. `line`: where in their file, if known."""

    def __init__(self, sentence: str, line: int | None = None):
        super().__init__(sentence)
        self.line = line


def load_file(path: Path) -> ModuleType:
    """Import a chapter's file anew. Raises Wrong, with the line, if it cannot be imported."""
    name = f"{path.parent.name}.{path.stem}"
    module = importlib.util.module_from_spec(importlib.util.spec_from_file_location(name, path))
    before = sys.modules.get(name)
    sys.modules[name] = module  # a dataclass looks there for what its annotations mean
    try:
        with restored_state(), time_limit():  # from the text: a .pyc may be a second too old
            text = stubs.source(path)
            stubs.parsed(text)
            exec(compile(text, str(path), "exec", dont_inherit=True), vars(module))
    except SyntaxError as error:
        raise Wrong(unreadable(error, path), error.lineno) from None
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        sentence = f"{UNUSABLE} imported: {describe(error)} (exercises/{path.name})"
        raise Wrong(sentence, own_line(error, path)) from None
    finally:
        sys.modules[name] = before
        if before is None:
            del sys.modules[name]
    return module


def load_function(path: Path, name: str) -> Callable:
    """The function `name` of a chapter's file, imported anew. Raises Wrong."""
    return function_in(load_file(path), path, name)


def function_in(module: ModuleType, path: Path, name: str) -> Callable:
    """The function `name` of an imported file. Raises Wrong, with the line, if what has this name
    cannot be called like a function.
    """
    places = stubs.bindings(stubs.source(path)).get(name, [])
    found, line = getattr(module, name, None), places[-1].lineno if places else None
    if len(places) > 1 and stubs.is_stub(places[-1]):
        raise Wrong(
            "it stands there twice, and the lower one, still empty, counts: delete it", line
        )
    if found is None:
        raise Wrong(f"there is no function `{name}` in the file: renamed or deleted?")
    kinds = {
        "a class": inspect.isclass(found),
        "an `async def`": inspect.iscoroutinefunction(found) or inspect.isasyncgenfunction(found),
        "a generator (it has a `yield`)": inspect.isgeneratorfunction(found),
        f"no function, but {type(found).__name__}": not callable(found),
    }
    for kind, holds in kinds.items():
        if holds:
            raise Wrong(f"it is {kind}; a function is asked for: `def {name}(...)`", line)
    return found


def unreadable(error: SyntaxError, path: Path) -> str:
    line = f", line {error.lineno}" if error.lineno else ""
    return f"{UNUSABLE} read: {error.msg} (exercises/{path.name}{line})"


def describe(error: BaseException) -> str:
    if isinstance(error, OutOfTime):
        return str(error)
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
