"""The files of a run: find them, write them all or nothing, let one process alone write them.

A file is written beside its place and moved there in one step, so that a run killed at any moment
leaves the last complete one. No torch here: `--help` needs the names of the shipped models.
"""

import json
import os
import re
import sys
import tempfile
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, TextIO

from .config import require

PRETRAINED = Path(__file__).parent / "pretrained"
UMASK = os.umask(0)  # the only way to read it is to set it
os.umask(UMASK)
LOCK = ".lock"
# what write_atomically may leave when it is killed
LEFTOVER = re.compile(r"\.(model\.pt|model\.json|\d+\.pt)\.\w{8}")


class CheckpointError(ValueError):
    """A checkpoint that cannot be used; the message says why and what to do."""


def write_atomically(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Call `write(file)` on a new binary file beside `path`, then move it there in one step.

    Raises CheckpointError.
    """
    path, temporary = Path(path), None
    beside = {"dir": path.parent, "prefix": f".{path.name}."}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(**beside, delete=False) as file:
            temporary = file.name
            write(file)
            file.flush()
            os.fsync(file.fileno())  # on the disk before the old file goes
        os.chmod(temporary, 0o666 & ~UMASK)  # temporary files are private, this one is not
        os.replace(temporary, path)
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        if temporary and os.path.exists(temporary):
            os.unlink(temporary)


def cannot_write(path: Path, error: OSError) -> CheckpointError:
    """Why, and what helps: a run that was begun must stay in its folder."""
    begun = any((folder / "model.pt").exists() for folder in list(path.parents)[:2])
    advice = "Choose another folder with --out, or make this one writable"
    if begun:
        advice = "What was saved before is kept: make room there, then go on with --resume"
    return CheckpointError(f"cannot write {path}: {error.strerror or error}. {advice}.")


def write_json(path: Path, content: dict) -> None:
    text = json.dumps(content, indent=1) + "\n"
    write_atomically(path, lambda file: file.write(text.encode()))


@contextmanager
def held(folder: Path | None, new: bool = False):
    """Inside, no other process may train in `folder`, and what killed writes left there is gone.

    None: nothing is held. Raises CheckpointError if another process holds it, or if it is to be
    `new` and holds a run.
    """
    if folder is None:
        yield
        return
    folder = Path(folder)
    if new:
        check_free(folder)  # before anything is written there
    path = folder / LOCK
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = path.open("w", encoding="utf-8")
    except OSError as error:
        raise cannot_write(path, error) from error
    with file:  # closing it lets go of the lock, and so does the end of the process, even by a kill
        busy = f"another process is training in {folder}"
        require(lock(file), f"{busy}. Wait until it ends.", CheckpointError)
        if new:
            check_free(folder)  # again: another process may have been quicker
        remove_leftovers(folder)
        yield


def check_free(folder: Path) -> None:
    """Raises CheckpointError if `folder` holds a run, or what is left of one: they would mix."""
    another = "or give another folder with --out"
    advice = f"Continue it with --resume {quoted(folder)}, {another}."
    free = not (folder / "model.pt").exists()
    require(free, f"{folder} already holds a run. {advice}", CheckpointError)
    left = [name for name in ("model.json", "snapshots") if (folder / name).exists()]
    fault = f"{folder} holds {' and '.join(left)} of some other run"
    require(not left, f"{fault}. Move it away, {another}.", CheckpointError)


def quoted(path: Path) -> str:
    """As it can be typed; bash, PowerShell and cmd all understand these quotes."""
    return f'"{path}"' if " " in f"{path}" else f"{path}"


def lock(file: TextIO) -> bool:
    """Take this file for this process alone; False if another one has it."""
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):  # Windows has the second
        return False
    except OSError:  # some network drives have no locks
        return True
    return True


def snapshot_path(folder: Path, step: int) -> Path:
    return Path(folder) / "snapshots" / f"{step:05d}.pt"


def remove_leftovers(folder: Path) -> None:
    for path in [*folder.glob(".*"), *folder.glob("snapshots/.*")]:
        if LEFTOVER.fullmatch(path.name):
            path.unlink(missing_ok=True)


def pretrained_names() -> list[str]:
    """The models that ship with the course."""
    return sorted(path.stem for path in PRETRAINED.glob("*.pt"))


def find(where: str | Path) -> Path:
    """The file behind a shipped name, a run folder or a file. Raises CheckpointError, listing the
    shipped names.
    """
    shipped = pretrained_names()
    if str(where) in shipped:
        return PRETRAINED / f"{where}.pt"
    named = isinstance(where, str | os.PathLike)
    path = Path(where, "model.pt") if named and os.path.isdir(where) else where
    # Path.is_file would raise an error for a name too long for a file
    if named and os.path.isfile(path):
        return Path(path)
    advice = f"Give a run folder, a model.pt, or one of the shipped models: {', '.join(shipped)}"
    raise CheckpointError(f"there is no model at {str(where)!r}. {advice}.")
