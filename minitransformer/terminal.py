"""What the three programs owe any terminal: signs that it can print, a silent end when nobody reads
any more, one sentence on Ctrl-C. Nothing is imported here that takes a while.

    if __name__ == "__main__":
        terminal.run_main(main)      # main returns the exit status; it imports torch inside

A closed stream (`>&-`) is replaced, so that code need not ask whether sys.stdout is there.
"""

import _thread
import codecs
import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from typing import NoReturn

EXIT_BAD_INPUT, EXIT_INTERRUPTED, EXIT_UNREAD = 2, 130, 141  # 128 + the number of the signal
AGAIN = 1.0  # seconds after which a Ctrl-C that ended nothing is repeated
# what an ASCII or cp1252 terminal shows of signs that it does not have
PLAIN = {"✓": "+", "✗": "x", "✕": "x", "·": ".", "→": "->", "−": "-", "…": "..."}
PLAIN |= {"“": '"', "”": '"', "²": "^2", "°": " deg", "±": "+-", "µ": "u", "∂": "d"}


def spell_out(error: UnicodeError) -> tuple[str, int]:
    """An error handler for text that an encoding lacks: the plain form of each sign, or "?"."""
    lacking = error.object[error.start : error.end]
    return "".join(PLAIN.get(sign, "?") for sign in lacking), error.end


codecs.register_error("spell out", spell_out)


def prepare_streams() -> None:
    """Make stdout and stderr take any text, line by line; what is closed goes nowhere, but errors
    go to stdout if that is open.
    """
    occupied = os.open(os.devnull, os.O_RDWR)
    while occupied <= 2:  # no file that is opened later may take the place of a closed stream
        occupied = os.open(os.devnull, os.O_RDWR)
    os.close(occupied)
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")
    if sys.stderr is None:
        sys.stderr = sys.stdout
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="spell out", line_buffering=True)


def run_main(main: Callable[[], int | None]) -> NoReturn:
    """End the process with the exit status that `main` returns (None: 0).

    Ctrl-C: 130, and one sentence. Nobody reads the output any more: 141, silently. `main` must let
    KeyboardInterrupt and BrokenPipeError pass.
    """
    prepare_streams()
    pressed = noting_ctrl_c()
    try:
        status = status_of(main)
        sys.stdout.flush()
    except BaseException as error:
        status = status_after(error, bool(pressed))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it is decided; the rest is clearing up
    exec("")  # `python -m` ends by the signal itself if the last exec of a text was interrupted
    sys.exit(status)


def noting_ctrl_c() -> list[bool]:
    """A list that Ctrl-C makes longer. It raises KeyboardInterrupt as ever, but a library that is
    just being imported may turn that into an ImportError, or swallow it: then it comes again.
    """
    pressed = []

    def interrupt(*_):
        pressed.append(True)
        again = threading.Timer(AGAIN, press_again)
        again.daemon = True
        again.start()
        raise KeyboardInterrupt

    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else: ignored, as by nohup
        signal.signal(signal.SIGINT, interrupt)
    return pressed


def press_again() -> None:
    """Ctrl-C once more, for the main thread."""
    if hasattr(signal, "pthread_kill"):  # it also ends a sleep
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
    else:
        _thread.interrupt_main()


def status_after(error: BaseException, pressed: bool) -> int:
    """The exit status of a program that ended with this error; raises it anew if it is a fault."""
    if pressed or isinstance(error, KeyboardInterrupt):
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second one must not tear the sentence
        complain("\nstopped.")
        return EXIT_INTERRUPTED
    if not isinstance(error, OSError) or error.filename:
        raise error
    silence(sys.stdout)
    if isinstance(error, BrokenPipeError):
        silence(sys.stderr)
        return EXIT_UNREAD
    complain(f"error: the output cannot be written: {error.strerror or error}.")  # a full disk, say
    return EXIT_BAD_INPUT


def status_of(main: Callable[[], int | None]) -> int | str | None:
    """What `main` returns, or what it hands to sys.exit."""
    try:
        return main()
    except SystemExit as stop:  # argparse's, for example
        return stop.code


def complain(sentence: str) -> None:
    """Print to stderr, if it can still be written."""
    try:
        print(sentence, file=sys.stderr)
    except OSError:
        silence(sys.stderr)


def silence(stream) -> None:
    """Drop what is written to this stream from now on, and what still waits in its buffer."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


class Unheard:
    """A stream for work that goes on when nobody reads any more: then what is written is dropped.

    Everything but `write` and `flush` is the stream's own.
    """

    def __init__(self, stream):
        self.stream = stream

    def __getattr__(self, name: str):
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        self.attempt(self.stream.write, text)
        return len(text)

    def flush(self) -> None:
        self.attempt(self.stream.flush)

    def attempt(self, act: Callable, *text: str) -> None:
        try:
            act(*text)
        except OSError:
            silence(self.stream)


@contextmanager
def unheard():
    """Inside, a closed pipe stops nothing: a training goes on after `| head -1`."""
    with ExitStack() as stack:
        stack.enter_context(redirect_stdout(Unheard(sys.stdout)))
        stack.enter_context(redirect_stderr(Unheard(sys.stderr)))
        yield
