"""Is a damaged file ever taken for a whole one? python -m tests.benchmarks.damage

Damages a shipped model, the last checkpoint of a run and one of its snapshots in 900 ways each, and
every bit of a small checkpoint that no check sum covers. Exits with 1 if one of them was read as
something else than it was, or met no sentence.
"""

import sys
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random

import torch

from minitransformer import checkpoint
from minitransformer.files import PRETRAINED
from tests.minitransformer.damage import DAMAGES, fate, flat, read_run, with_bit_flipped, write_run

COUNTS = dict(zip(DAMAGES, (400, 400, 100)))


def fates(path: Path, damaged: list[bytes], read: Callable[[Path], object]) -> Counter:
    """How often which fate came. The file is whole again afterwards."""
    whole, content, found = path.read_bytes(), flat(read(path)), Counter()
    for each in damaged:
        try:
            found[fate(each, content, path, read)] += 1
        except Exception as error:  # what would be a traceback
            found[f"{type(error).__name__}: {error}"] += 1
    path.write_bytes(whole)
    return found


def outside_of_parts(path: Path) -> list[int]:
    """The bits of a zip file that belong to no part's content: headers, padding, the directory."""
    whole, covered = path.read_bytes(), set()
    with zipfile.ZipFile(path) as parts:
        for part in parts.infolist():
            header = whole[part.header_offset : part.header_offset + 30]
            names = int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:], "little")
            start = part.header_offset + 30 + names
            covered |= set(range(start, start + part.compress_size))
    free = [place for place in range(len(whole)) if place not in covered]
    return [8 * place + bit for place in free for bit in range(8)]


def row(name: str, damage: str, found: Counter) -> str:
    others = {fate: count for fate, count in found.items() if fate not in ("refused", "unchanged")}
    cells = [name, damage, found.total(), found["refused"], found["unchanged"], others or 0]
    return "| " + " | ".join(map(str, cells)) + " |"


def main() -> int:
    torch.set_num_threads(1)
    began, bad = time.perf_counter(), 0
    print("| file | damage | tried | refused | read, nothing changed | anything else |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as home:
        run = Path(home, "run")
        write_run(run)
        shipped, last = Path(home, "induction.pt"), run / "model.pt"
        shipped.write_bytes((PRETRAINED / "induction.pt").read_bytes())
        snapshot = run / "snapshots" / "00003.pt"
        readers = {
            "a shipped model": (shipped, checkpoint.read),
            "a checkpoint, loaded": (last, checkpoint.read),
            "a checkpoint, resumed": (last, read_run),
            "a snapshot": (snapshot, checkpoint.read),
        }
        for name, (path, read) in readers.items():
            whole, dice = path.read_bytes(), Random(0)
            for damage, count in COUNTS.items():
                damaged = [DAMAGES[damage](whole, dice) for _ in range(count)]
                found = fates(path, damaged, read)
                bad += found.total() - found["refused"] - found["unchanged"]
                print(row(name, damage, found), flush=True)
        whole = snapshot.read_bytes()
        damaged = [with_bit_flipped(whole, bit) for bit in outside_of_parts(snapshot)]
        found = fates(snapshot, damaged, checkpoint.read)
        bad += found.total() - found["refused"] - found["unchanged"]
        print(row("a snapshot", "each bit without a check sum, flipped", found))
    print(
        f"\n{bad} read as something else, or without a sentence; "
        f"{time.perf_counter() - began:.0f} s"
    )
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
