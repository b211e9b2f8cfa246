"""Damages files, and judges what a reader makes of them.

    damaged = flipped(whole, random.Random(0))
    fate(damaged, whole_content, path, read)        # "refused", "unchanged" or "changed"

One bit, a cut end, a block of zeros: what disks, cables and interrupted copies do.
"""

import json
from collections.abc import Callable
from pathlib import Path
from random import Random

import torch

from minitransformer import CheckpointError, ModelConfig, TrainConfig, train

SMALL = ModelConfig(n_heads=2, d_model=8, d_head=4, d_vocab=9, n_ctx=6)
SHORT = TrainConfig(steps=5, batch_size=2, periods=(1, 3), eval_every=1)


def write_run(folder: Path) -> None:
    """A training of five steps: model.pt, and snapshots of the steps 0 to 5."""
    train.train(SMALL, SHORT, folder=folder)


def flipped(whole: bytes, dice: Random) -> bytes:
    return with_bit_flipped(whole, dice.randrange(8 * len(whole)))


def with_bit_flipped(whole: bytes, bit: int) -> bytes:
    damaged = bytearray(whole)
    damaged[bit // 8] ^= 1 << bit % 8
    return bytes(damaged)


def cut(whole: bytes, dice: Random) -> bytes:
    return whole[: dice.randrange(len(whole))]


def zeroed(whole: bytes, dice: Random) -> bytes:
    """As a sector that was never written: up to 512 bytes of zeros."""
    start = dice.randrange(len(whole))
    end = min(len(whole), start + dice.randint(1, 512))
    return whole[:start] + bytes(end - start) + whole[end:]


DAMAGES: dict[str, Callable[[bytes, Random], bytes]] = {
    "one flipped bit": flipped,
    "a cut end": cut,
    "a zeroed block": zeroed,
}


def fate(damaged: bytes, content: dict, path: Path, read: Callable[[Path], object]) -> str:
    """What becomes of a damaged file at `path`: "refused", with the sentence about damage, or read
    as "unchanged" or as "changed". Any other error passes through.
    """
    path.write_bytes(damaged)
    try:
        found = flat(read(path))
    except CheckpointError as error:
        return "refused" if "is damaged" in f"{error}" else f"{error}"
    return "unchanged" if found == content else "changed"


def flat(content, place: str = "") -> dict[str, object]:
    """Place -> value, for everything in nested dicts; a tensor as its type, shape and bytes."""
    if isinstance(content, dict):
        found = {}
        for name, inner in content.items():
            found |= flat(inner, f"{place}/{name}")
        return found
    if torch.is_tensor(content):
        values = content.detach().contiguous().view(-1).numpy().tobytes()
        return {place: (content.dtype, content.shape, values)}
    return {place: json.dumps(content)}


def read_run(path: Path) -> dict:
    """Everything that --resume takes from the folder of this file."""
    run = train.load_run(path.parent)
    return {
        "weights": run.model.state_dict(),
        "optimizer": run.optimizer.state_dict(),
        "generator": run.generator.get_state(),
        "history": run.history,
        "snapshots": run.snapshots,
    }
