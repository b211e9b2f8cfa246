"""Load and run the learner's functions so that they can hurt nothing but their own check.

A mistake becomes a `Wrong` with a sentence and the learner's own line: a syntax error, an endless
loop, an endless recursion, a None, an argument edited in place, any exception.
"""

import contextlib
import importlib.util
import signal
import traceback
from pathlib import Path
from types import ModuleType

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
