"""Put a finished run among the shipped models: python -m minitransformer.publish runs/induction

For authors. Writes pretrained/NAME.pt (weights and config, without the training state) and
pretrained/NAME.json (how it was made), NAME being that of the run folder."""

import shutil
import sys
from pathlib import Path

from . import checkpoint


def publish(folder: Path) -> None:
    """Raises CheckpointError, before anything is written, if the folder does not hold a finished
    run.
    """
    target, record = checkpoint.PRETRAINED / folder.name, folder / "model.json"
    if not record.is_file():
        raise checkpoint.CheckpointError(
            f"{folder} holds no finished run: {record} is missing. Train first."
        )
    checkpoint.save(target.with_suffix(".pt"), checkpoint.load(folder))
    shutil.copyfile(record, target.with_suffix(".json"))


if __name__ == "__main__":
    try:
        publish(Path(*sys.argv[1:]))
    except checkpoint.CheckpointError as error:
        sys.exit(f"error: {error}")
