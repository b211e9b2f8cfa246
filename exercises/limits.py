"""What keeps one attempt from harming another: it ends in time, and what it set is set back."""

import contextlib
import faulthandler
import os
import random
import signal
import sys
import warnings
from collections.abc import Callable

SECONDS = 10  # for one check, and for the import of a chapter's file
GRACE = 2  # so much later the process is ended, if the attempt does not hear the alarm
AGAIN = 0.1  # the alarm rings again so many seconds later, if it was swallowed


class OutOfTime(BaseException):
    """What the alarm raises. It is no Exception, so that `except Exception` does not swallow it."""

    def __init__(self, seconds: float):
        super().__init__(f"still running after {seconds:g} s: is there a loop that never ends?")


class time_limit:
    """Raises OutOfTime in the code inside once it has taken SECONDS, again until it has an end.

    One long call of C hears no alarm; nor does Windows have one. There the process ends, GRACE
    later, and a traceback says where, if the process is one that may (ends_process).
    """

    running = False  # the outer limit holds for what is inside of it
    ends_process = False  # runner.py sets it

    def __enter__(self):
        self.outermost = not time_limit.running
        if not self.outermost:
            return
        time_limit.running = True
        if hasattr(signal, "SIGALRM"):
            self.before = signal.signal(signal.SIGALRM, self.ring)
            signal.setitimer(signal.ITIMER_REAL, SECONDS, AGAIN)
        if self.ends_process:
            faulthandler.dump_traceback_later(SECONDS + GRACE, exit=True, file=sys.__stderr__)

    def ring(self, _, frame) -> None:
        while frame:
            if frame.f_code is time_limit.__exit__.__code__:
                return  # it has ended in this very moment
            frame = frame.f_back
        raise OutOfTime(SECONDS)

    def __exit__(self, *_):
        if not self.outermost:
            return
        if hasattr(signal, "SIGALRM"):
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, self.before)
        if self.ends_process:
            faulthandler.cancel_dump_traceback_later()
        time_limit.running = False


@contextlib.contextmanager
def restored_state():
    """Afterwards the settings of torch, the random states, the environment, the working folder,
    Python's path and its warnings are as they were.
    """
    known = settings()
    before = [get() for get, _ in known]
    with warnings.catch_warnings():
        try:
            yield
        finally:
            for (_, set_back), value in zip(known, before):
                set_back(value)


def settings() -> list[tuple[Callable, Callable]]:
    """How each part of the state is read, and how it is set."""
    import numpy
    import torch  # here, since a program that runs no check must not wait for it

    return [
        (torch.is_grad_enabled, torch.set_grad_enabled),
        (torch.get_default_dtype, torch.set_default_dtype),
        (torch.get_default_device, set_default_device),
        (torch.get_num_threads, torch.set_num_threads),
        (torch.are_deterministic_algorithms_enabled, set_deterministic),
        (torch.get_rng_state, torch.set_rng_state),
        (numpy.random.get_state, numpy.random.set_state),
        (numpy.geterr, lambda errors: numpy.seterr(**errors)),
        (random.getstate, random.setstate),
        (sys.getrecursionlimit, sys.setrecursionlimit),
        (sys.path.copy, set_path),
        (os.environ.copy, set_environment),
        (os.getcwd, os.chdir),
    ]


def set_deterministic(wanted: bool) -> None:
    import torch

    if torch.are_deterministic_algorithms_enabled() != wanted:  # the call itself takes a second
        torch.use_deterministic_algorithms(wanted)


def set_default_device(device) -> None:
    import torch

    if torch.get_default_device() != device:
        torch.set_default_device(None if device.type == "cpu" else device)


def set_path(folders: list[str]) -> None:
    sys.path[:] = folders


def set_environment(variables: dict[str, str]) -> None:
    if os.environ != variables:
        os.environ.clear()
        os.environ.update(variables)
