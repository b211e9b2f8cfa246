"""The files of a run: find them, write them all or nothing. No torch here.

A file is written beside its place and moved there in one step, so that a run killed at any moment
leaves the last complete one.
"""

import json
import os
import tempfile
from pathlib import Path

PRETRAINED = Path(__file__).parent / "pretrained"
UMASK = os.umask(0)  # the only way to read it is to set it
os.umask(UMASK)


class CheckpointError(ValueError):
    """A checkpoint that cannot be used; the message says why and what to do."""


def write_atomically(path: Path, write) -> None:
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
        reason = error.strerror or error
        advice = "Choose another folder with --out, or make this one writable"
        raise CheckpointError(f"cannot write {path}: {reason}. {advice}.") from error
    finally:
        if temporary and os.path.exists(temporary):
            os.unlink(temporary)


def write_json(path: Path, content: dict) -> None:
    text = json.dumps(content, indent=1) + "\n"
    write_atomically(path, lambda file: file.write(text.encode()))


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
