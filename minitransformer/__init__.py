"""A small transformer, hand-written, with its hooks in sight. Start with model.py.

    from minitransformer import load
    model = load("induction")

Importing this draws no picture and starts no training; torch and matplotlib are loaded only where
they are needed, so that a program can answer --help at once.
"""

import importlib

HOMES = {
    "BOS": "data",
    "ActivationCache": "hooks",
    "CheckpointError": "files",
    "HookPoint": "hooks",
    "ModelConfig": "config",
    "Repeats": "data",
    "TrainConfig": "config",
    "Transformer": "model",
    "load": "checkpoint",
    "pretrained_names": "files",
    "repeated_tokens": "data",
}
__all__ = list(HOMES)


def __getattr__(name: str):
    """What this package offers, from the module that it lives in."""
    if name not in HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{HOMES[name]}", __name__), name)
