"""Put a finished run among the shipped models: python -m minitransformer.publish runs/induction

For authors. Writes pretrained/NAME.pt (weights and config, without the training state) and pretrained/NAME.json (how it
was made), NAME being that of the run folder.
"""

import shutil
import sys
from pathlib import Path

from . import checkpoint


def publish(folder: Path) -> None:
    target = checkpoint.PRETRAINED / folder.name
    checkpoint.save(target.with_suffix(".pt"), checkpoint.load(folder))
    shutil.copyfile(folder / "model.json", target.with_suffix(".json"))


if __name__ == "__main__":
    publish(Path(sys.argv[1]))
