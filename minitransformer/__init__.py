"""A small transformer, hand-written, with its hooks in sight. Start with model.py.

    from minitransformer import load
    model = load("induction")

Importing this draws no picture and starts no training; matplotlib is loaded only where a picture is
drawn.
"""

from .checkpoint import CheckpointError, load, pretrained_names
from .config import ModelConfig, TrainConfig
from .data import BOS, Repeats, repeated_tokens
from .hooks import ActivationCache, HookPoint
from .model import Transformer

__all__ = [
    "BOS",
    "ActivationCache",
    "CheckpointError",
    "HookPoint",
    "ModelConfig",
    "Repeats",
    "TrainConfig",
    "Transformer",
    "load",
    "pretrained_names",
    "repeated_tokens",
]
