"""--mine: the learner's functions in the place of the reference, and who was called where.

When a claim fails, the functions that its cell called are named: one of them is the reason.
"""

import functools
import importlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from exercises import stubs
from exercises.attempts import Wrong, function_in, load_file, unreadable


class Called:
    """The learner's functions that a chapter called: in this cell, and in all."""

    here: dict[str, None] = {}  # in the order of their first call
    ever: dict[str, None] = {}

    @classmethod
    def begin_chapter(cls) -> None:
        cls.here, cls.ever = {}, {}

    @classmethod
    def begin_cell(cls) -> None:
        cls.here = {}


def recorded(function: Callable, name: str) -> Callable:
    """The same function; each call is noted."""

    @functools.wraps(function)
    def call(*args, **kwargs):
        Called.here[name] = Called.ever[name] = None
        try:
            return function(*args, **kwargs)
        except SystemExit as error:  # or the chapter would end without a word
            raise RuntimeError("it ends the program").with_traceback(error.__traceback__) from None

    return call


def use_mine(chapter: str) -> None:
    """Put every function that the learner wrote in the place of the reference; print which of this
    chapter's. Raises Wrong or SyntaxError if the chapter's file cannot be used.
    """
    Called.begin_chapter()
    for other in stubs.chapters():
        try:
            names = replace(other)
        except (Wrong, SyntaxError) as error:
            if other == chapter:
                raise
            print(f"left out, yours of chapter {int(other[2:4])}: {in_words(error, other)}")
            continue
        if other == chapter:
            listed = ", ".join(names) or "nothing yet"
            print(f"yours in this chapter: {listed}\neverything else: the reference\n")


def in_words(error: Wrong | SyntaxError, chapter: str) -> str:
    unread = isinstance(error, SyntaxError)
    return unreadable(error, stubs.exercise_path(chapter)) if unread else f"{error}"


def replace(chapter: str) -> list[str]:
    """Give the reference of one chapter the learner's functions. -> their names"""
    tried = stubs.attempted(chapter)
    if not tried:
        return []
    path = stubs.exercise_path(chapter)
    mine, reference = load_file(path), importlib.import_module(f"solutions.{chapter}")
    found = {name: checked(mine, path, name) for name in tried}
    for name in stubs.exercise_names(chapter):
        if name not in found:  # what your functions call, and you have not written yet
            setattr(mine, name, getattr(reference, name))
    put_in(reference, found)
    return tried


def checked(mine: ModuleType, path: Path, name: str) -> Callable:
    try:
        return function_in(mine, path, name)
    except Wrong as error:
        raise Wrong(f"{name}: {error}", error.line) from None


def put_in(reference: ModuleType, found: dict[str, Callable]) -> None:
    for name, function in found.items():
        setattr(reference, name, recorded(function, name))
