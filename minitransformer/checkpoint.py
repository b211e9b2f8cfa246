"""Save and load models: one file, complete or not there, that can hold nothing but numbers.

    model = load("induction")           # shipped with the course
    model = load("runs/induction")      # the one you trained

A file is written beside its place and moved there in one step, so that a run killed at any moment
leaves the last complete checkpoint. Files are read with `weights_only=True`: opening somebody
else's model cannot run their code.
"""

import io
import json
import os
import platform
import zipfile
from dataclasses import asdict
from pathlib import Path

import torch

from .config import ModelConfig, from_dict, require
from .files import CheckpointError, find, write_atomically
from .model import Transformer, parameter_table

FORMAT = "minitransformer 1"


def save(path: Path, model: Transformer, training: dict | None = None) -> None:
    """Write weights, config and, for --resume, the state of a training: all or nothing."""
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


def load(where: str | Path, device: str = "cpu") -> Transformer:
    """The model behind a shipped name, in a run folder or in a file. Raises CheckpointError."""
    return put_on(build(read(find(where)), where), device)


def put_on(model: Transformer, device: str) -> Transformer:
    """The model, moved to a device. Raises ValueError if it is not there."""
    try:
        return model.to(device)
    except (RuntimeError, AssertionError) as error:  # torch has both
        reason = str(error).splitlines()[0].rstrip(".")
        raise ValueError(f"no model can be put on {device!r} here: {reason}.") from None


def read(path: Path) -> dict:
    """The content of a checkpoint file, if it is a whole one of ours. Raises CheckpointError."""
    try:
        content = torch.load(sound_copy(path), map_location="cpu", weights_only=True)
    except Exception as error:  # zip, pickle and torch each raise their own kinds
        # torch's own sentence would mislead: it tells of torch's options
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise CheckpointError(
            f"{path} is damaged, or is no checkpoint of this project, or holds more than numbers; "
            f"nothing in it was run ({reason}). Take another copy, or train anew."
        ) from None
    fault = f"{path} was not written by this project ('{FORMAT}')"
    advice = "train a model or use a shipped one"
    require(is_ours(content), f"{fault}; {advice}.", CheckpointError)
    return content


def sound_copy(path: Path) -> io.BytesIO:
    """The parts of a zip file, packed anew. Raises BadZipFile if one lacks its stored check sum, or
    if they would take more room than the file.

    A checkpoint is a zip file, but torch looks neither at its sums nor at all of its headers: a
    flipped bit would come back as another weight. Packed anew, no old header is left to mislead it.
    """
    copy = io.BytesIO()
    with zipfile.ZipFile(path) as stored, zipfile.ZipFile(copy, "w") as packed:
        parts = stored.infolist()
        fits = sum(part.file_size for part in parts) <= os.path.getsize(path)  # nothing is squeezed
        require(fits, "its parts are larger than the file", zipfile.BadZipFile)
        for part in parts:
            packed.writestr(part.filename, stored.read(part))  # `read` compares the sums
    copy.seek(0)
    return copy


def is_ours(content) -> bool:
    """Is it of our format, and are its weights tensors?"""
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        return False
    weights = content.get("weights")
    return isinstance(weights, dict) and all(map(torch.is_tensor, weights.values()))


def build(content: dict, where: str | Path) -> Transformer:
    """The model that a checkpoint describes. Raises CheckpointError if the weights do not fit."""
    try:
        config = from_dict(ModelConfig, json.loads(content.get("config", "null")))
    except (ValueError, TypeError) as error:
        reason = f"is not one this version can build: {error}".rstrip(".")
        raise CheckpointError(f"the config stored in {where} {reason}.") from None
    check_weights(config, content["weights"], where)  # first: a wrong size may not fit the memory
    model = Transformer(config)
    model.load_state_dict(content["weights"])
    return model


def check_weights(config: ModelConfig, weights: dict, where: str | Path) -> None:
    """Raises CheckpointError, naming the first tensor that does not fit a model of this config."""
    expected = {name: shape for name, shape, _ in parameter_table(config)}
    found = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    advice = "Load it with the config it was trained with"
    for name in [*expected, *found]:
        there, here = found.get(name, "missing"), expected.get(name, "unknown")
        sizes = f"{name} is {there} there, {here} here"
        fault = f"{where} does not fit this config: {sizes}"
        require(there == here, f"{fault}. {advice}.", CheckpointError)


def versions() -> dict[str, str]:
    """What made a result: Python, torch, platform."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "platform": platform.machine(),
    }
