"""Read hints.toml: per chapter its title and minutes, per exercise its minutes, difficulty (1 to 3)
and hints.
"""

import functools
import tomllib
from pathlib import Path


@functools.cache
def hints() -> dict:
    return tomllib.loads((Path(__file__).parent / "hints.toml").read_text())
