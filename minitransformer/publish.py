"""Put a finished run among the shipped models: python -m minitransformer.publish runs/induction

For authors. Writes pretrained/NAME.pt (weights and config, without the training state) and
pretrained/NAME.json (how it was made), NAME being that of the run folder.
"""

import sys
from pathlib import Path

from . import checkpoint
from .config import require
from .files import PRETRAINED, CheckpointError, write_atomically


def publish(folder: Path) -> None:
    """Raises CheckpointError if the folder holds no finished run, before anything is written; or if
    nothing can be written.
    """
    target, record = PRETRAINED / folder.name, folder / "model.json"
    advice = f"{record} is missing. Train first."
    require(record.is_file(), f"{folder} holds no finished run: {advice}", CheckpointError)
    checkpoint.save(target.with_suffix(".pt"), checkpoint.load(folder))
    text = record.read_bytes()
    write_atomically(target.with_suffix(".json"), lambda file: file.write(text))


if __name__ == "__main__":
    try:
        publish(Path(*sys.argv[1:]))
    except CheckpointError as error:
        sys.exit(f"error: {error}")
