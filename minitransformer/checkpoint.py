"""Save and load models: one file that is either complete or not there, and that can hold nothing
but numbers.

    model = load("induction")           # shipped with the course
    model = load("runs/induction")      # the one you trained

A file is written beside its place and moved there in one step, so that a run killed at any moment
leaves the last complete checkpoint. Files are read with `weights_only=True`: opening somebody
else's model cannot run their code."""

import io
import json
import os
import platform
import tempfile
from dataclasses import asdict
from pathlib import Path

import torch

from .config import ModelConfig, from_dict
from .model import Transformer, parameter_table

FORMAT = "minitransformer 1"
PRETRAINED = Path(__file__).parent / "pretrained"
UMASK = os.umask(0)  # the only way to read it is to set it
os.umask(UMASK)


class CheckpointError(ValueError):
    """A checkpoint that cannot be used; the message says why and what to do."""


def save(path: Path, model: Transformer, training: dict | None = None) -> None:
    """Write weights and config (and, for --resume, the state of the training) to `path`, all or
    nothing.
    """
    weights = {name: tensor.detach().cpu() for name, tensor in model.state_dict().items()}
    content = {
        "format": FORMAT,
        "config": json.dumps(asdict(model.cfg)),
        "weights": weights,
        "training": training,
    }
    buffer = io.BytesIO()  # torch.save straight to a full disk raises an error that does not say so
    torch.save(content, buffer)
    write_atomically(path, lambda file: file.write(buffer.getbuffer()))


def write_atomically(path: Path, write) -> None:
    """Call `write(file)` on a new binary file beside `path`, then move it there in one step. Raises
    CheckpointError.
    """
    path, temporary = Path(path), None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            dir=path.parent, prefix=f".{path.name}.", delete=False
        ) as file:
            temporary = file.name
            write(file)
            file.flush()
            os.fsync(file.fileno())  # on the disk before the old file goes
        # temporary files are private; this one is to be shared like any other
        os.chmod(temporary, 0o666 & ~UMASK)
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
    if str(where) in pretrained_names():
        return PRETRAINED / f"{where}.pt"
    named = isinstance(where, str | os.PathLike)
    path = Path(where, "model.pt") if named and os.path.isdir(where) else where
    # Path.is_file would raise an error for a name too long for a file
    if not (named and os.path.isfile(path)):
        raise CheckpointError(
            f"there is no model at {str(where)!r}. Give a run folder, a model.pt, or one of the shipped models: "
            f"{', '.join(pretrained_names())}."
        )
    return Path(path)


def load(where: str | Path, device: str = "cpu") -> Transformer:
    """The model stored under a shipped name, in a run folder or in a file. Raises
    CheckpointError.
    """
    return put_on(build(read(find(where)), where), device)


def put_on(model: Transformer, device: str) -> Transformer:
    """The model, moved to a device. Raises ValueError if it is not there."""
    try:
        return model.to(device)
    except (RuntimeError, AssertionError) as error:  # torch has both
        raise ValueError(
            f"no model can be put on {device!r} here: {str(error).splitlines()[0].rstrip('.')}."
        ) from None


def read(path: Path) -> dict:
    """The content of a checkpoint file, only if it is a whole one of ours. Raises
    CheckpointError.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # zip, pickle and torch each raise their own kinds
        # what torch writes misleads: its own options
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise CheckpointError(
            f"{path} is damaged, or is no checkpoint of this project, or holds more than numbers; "
            f"nothing in it was run ({reason}). Take another copy, or train anew."
        ) from None
    if (
        not isinstance(content, dict)
        or content.get("format") != FORMAT
        or not is_tensors(content.get("weights"))
    ):
        raise CheckpointError(
            f"{path} was not written by this project ('{FORMAT}'); train a model or use a shipped one."
        )
    return content


def is_tensors(weights) -> bool:
    return isinstance(weights, dict) and all(
        isinstance(value, torch.Tensor) for value in weights.values()
    )


def build(content: dict, where: str | Path) -> Transformer:
    """The model that a checkpoint describes, with its weights. Raises CheckpointError if they
    disagree.
    """
    try:
        config = from_dict(ModelConfig, json.loads(content.get("config", "null")))
    except (ValueError, TypeError) as error:
        reason = f"{error}".rstrip(".")
        raise CheckpointError(
            f"the config stored in {where} is not one this version can build: {reason}."
        ) from None
    # first: a wrong size might not fit into the memory
    check_weights(config, content["weights"], where)
    model = Transformer(config)
    model.load_state_dict(content["weights"])
    return model


def check_weights(config: ModelConfig, weights: dict, where: str | Path) -> None:
    """Raises CheckpointError that names the first tensor that does not fit a model of this
    config.
    """
    expected = {name: shape for name, shape, _ in parameter_table(config)}
    found = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    for name in [*expected, *found]:
        if expected.get(name) != found.get(name):
            raise CheckpointError(
                f"{where} does not fit this config: {name} is {found.get(name, 'missing')} there, "
                f"{expected.get(name, 'unknown')} here. Load it with the config it was trained with."
            )


def versions() -> dict[str, str]:
    """What made a result: Python, torch, platform."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "platform": platform.machine(),
    }
