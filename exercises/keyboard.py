"""Single keys from a terminal, without Enter; where there is no terminal, only the passing of time.

with keyboard() as key:
    pressed = key(0.3)      # "n", or None after 0.3 seconds
"""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

Key = Callable[[float], str | None]


@contextlib.contextmanager
def keyboard() -> Iterator[Key]:
    """Gives the function that waits so many seconds for a key. Ctrl-C works as ever."""
    if not on_terminal():
        yield wait
    elif sys.platform == "win32":
        yield key_of_windows
    else:
        with single_keys() as key:
            yield key


def on_terminal() -> bool:
    """Does somebody sit at both ends?"""
    return bool(sys.stdin and sys.stdin.isatty() and sys.stdout.isatty())


def wait(seconds: float) -> None:
    time.sleep(seconds)


def key_of_windows(seconds: float) -> str | None:
    import msvcrt

    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if msvcrt.kbhit():
            return msvcrt.getwch()
        time.sleep(0.05)
    return None


@contextlib.contextmanager
def single_keys() -> Iterator[Key]:
    """The terminal hands over each key at once; afterwards it is as it was."""
    import os
    import select
    import termios
    import tty

    def key(seconds: float) -> str | None:
        ready, _, _ = select.select([number], [], [], seconds)
        return os.read(number, 1).decode("ascii", "replace") if ready else None

    number = sys.stdin.fileno()
    before = termios.tcgetattr(number)
    tty.setcbreak(number)
    try:
        yield key
    finally:
        termios.tcsetattr(number, termios.TCSADRAIN, before)
