"""What the cases of bad_input.py work on: a folder full of broken files, and the names that their
expressions use.
"""

import functools
import importlib
import json
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import torch

import minitransformer
from course import cells, desk
from exercises import stubs
from minitransformer import (
    ModelConfig,
    TrainConfig,
    Transformer,
    arithmetic,
    checkpoint,
    config,
    data,
    planted,
    tasks,
    train,
)
from minitransformer.__main__ import choose_device

CHAPTER = "ch01_transformer"
SMALL = {"n_heads": 2, "d_model": 8, "d_head": 4, "d_vocab": 9, "n_ctx": 6}
TRAINING = TrainConfig(steps=3, batch_size=2, periods=(1, 3), eval_every=1)

# What a learner's chapter 1 may look like: a body of attention_pattern, or what is done to the
# whole file.
BODIES = {
    "a bracket left open": "return (",
    "no return": "q @ k.transpose(-1, -2)",
    "a print that stops": "print(undefined)",
}
FILES: dict[str, Callable[[bytes], bytes]] = {
    "latin-1": lambda stub: stub + "# précis\n".encode("latin-1"),
    "a null byte": lambda stub: stub + b"\x00",
    "an unknown import": lambda stub: answered(stub, "return q") + b"import no_such_module\n",
    "an empty file": lambda stub: b"",
    "a renamed function": lambda stub: answered(stub, "return q").replace(
        b"def attention_pattern", b"def pattern"
    ),
    "one argument": lambda stub: answered(stub, "return q").replace(
        b"(q: Tensor, k: Tensor)", b"(q)"
    ),
}


def answered(stub: bytes, body: str) -> bytes:
    """Chapter 1's exercise file with this body of attention_pattern."""
    return stub.replace(b'raise NotImplementedError("attention_pattern")', body.encode())


def write_attempts(folder: Path) -> None:
    """A folder for each attempt, named after it, that holds chapter 1's exercise file."""
    stub = stubs.stub_text(stubs.solution_path(CHAPTER).read_text()).encode()
    for name in [*BODIES, *FILES]:
        content = FILES[name](stub) if name in FILES else answered(stub, BODIES[name])
        (folder / name).mkdir(parents=True)
        (folder / name / f"{CHAPTER}.py").write_bytes(content)
    (folder / "no file").mkdir()
    (folder / "a folder" / f"{CHAPTER}.py").mkdir(parents=True)


# ---- checkpoints


def small_model(**changes) -> Transformer:
    return Transformer(ModelConfig(**SMALL | changes))


def write_run(folder: Path) -> None:
    """A finished training, far too short to learn anything, with its record."""
    run = train.train(ModelConfig(**SMALL), TRAINING, folder=folder)
    checkpoint.write_json(
        folder / "model.json", train.provenance(run, "python -m minitransformer train")
    )


def write_checkpoints(folder: Path) -> None:
    """A file for each way in which a checkpoint can be useless."""
    whole, content = (
        (folder / "run/model.pt").read_bytes(),
        torch.load(folder / "run/model.pt", weights_only=True),
    )
    for name, broken in {
        "half": whole[: len(whole) // 2],
        "empty": b"",
        "text": b"a letter\n",
        "a-byte-short": whole[:-1],
    }.items():
        (folder / f"{name}.pt").write_bytes(broken)
    configs = {
        "bigger": {"d_vocab": 10},
        "enormous": {"d_vocab": 10**13},
        "newer": {"rotary": True},
        "no-heads": {"n_heads": 0},
    }
    changes = {
        name: {"config": json.dumps(asdict(ModelConfig(**SMALL)) | change)}
        for name, change in configs.items()
    }
    changes |= {
        "no-config": {"config": "{"},
        "list-config": {"config": "[2, 4]"},
        "no-weights": {"weights": {}},
    }
    changes |= {
        "words": {"weights": {"W_E": "a word"}},
        "older": {"format": "minitransformer 0"},
        "code": {"training": Path},
    }
    for name, change in changes.items():
        torch.save(content | change, folder / f"{name}.pt")
    torch.save({"weight": torch.zeros(2)}, folder / "foreign.pt")
    checkpoint.save(folder / "three-tokens.pt", small_model(n_ctx=3))
    checkpoint.save(folder / "few-words.pt", small_model(d_vocab=4))


def write_records(folder: Path) -> None:
    """Runs with a model.json that is none, or that belongs to another model."""
    record = json.loads((folder / "run/model.json").read_text())
    other = (
        {"train": record["train"] | {"task": "sorting"}},
        {"model": record["model"] | {"n_ctx": 7}},
    )
    texts = {"no-json": b"{", "binary": b"\xff\xfe{", "list": b"[]"}
    texts |= {
        name: json.dumps(record | change).encode()
        for name, change in zip(("other-task", "other-model"), other)
    }
    texts |= {"no-history": json.dumps(record | {"history": [{"step": 1}]}).encode()}
    texts |= {"a-typo": json.dumps(record | {"train": {"learning_rat": 1}}).encode()}
    for name, text in texts.items():
        (folder / f"record-{name}").mkdir()
        shutil.copy(folder / "run/model.pt", folder / f"record-{name}")
        (folder / f"record-{name}" / "model.json").write_bytes(text)


def write_trainings(folder: Path) -> None:
    """Runs that cannot be resumed: their training state, or one of their snapshots, is not what it
    was.
    """
    content = torch.load(folder / "run/model.pt", weights_only=True)
    state = content["training"]
    changes = {"none": None, "number": 5, "empty": {}, "no-optimizer": state | {"optimizer": {}}}
    changes |= {
        "no-json": state | {"config": "{"},
        "no-dice": state | {"generator": torch.zeros(3)},
    }
    changes |= {
        "no-step": state | {"step": "last"},
        "other-task": state | {"config": json.dumps({"task": "digits"})},
    }
    for name, training in changes.items():
        (folder / f"training-{name}").mkdir()
        torch.save(content | {"training": training}, folder / f"training-{name}" / "model.pt")
    for name in ("cut", "named"):
        shutil.copytree(folder / "run", folder / f"snapshot-{name}")
    (folder / "snapshot-cut/snapshots/00001.pt").write_bytes(b"PK")
    shutil.copy(folder / "run/snapshots/00001.pt", folder / "snapshot-named/snapshots/best.pt")


def write_folder(folder: Path) -> None:
    """Everything that the command lines of the cases name."""
    write_run(folder / "run")
    write_checkpoints(folder)
    write_records(folder)
    write_trainings(folder)
    write_attempts(folder / "attempts")
    shutil.copytree(folder / "run/snapshots", folder / "leftovers/snapshots")
    (folder / "nothing-in-it").mkdir()
    (folder / "a-file").write_text("in the way")
    (folder / "in-the-way").mkdir()
    (folder / "in-the-way/figures").write_text("not a folder")
    (folder / "in-the-way" / f"{CHAPTER}.ipynb").write_text("my notes")


# ---- expressions


def fails(activation, hook):
    raise RuntimeError("a hook's own mistake is what arrives.")


@functools.cache
def names() -> dict:
    """What an expression may use: the package, all solutions, and a few small things to hand to
    them.
    """
    found = {
        name: value for name, value in vars(minitransformer).items() if not name.startswith("_")
    }
    for chapter in stubs.chapters():
        found |= vars(importlib.import_module(f"solutions.{chapter}"))
    for module in (arithmetic, checkpoint, config, data, planted, tasks, train, cells, desk):
        found[module.__name__.split(".")[-1]] = module
    neurons, tokens = small_model(d_mlp=3), torch.tensor([[0, 1, 2, 3], [0, 4, 5, 6]])
    places = {name for name, _ in found["answer_places"](neurons, 3)}
    return found | {
        "model": small_model(),
        "neurons": neurons,
        "tokens": tokens,
        "means": found["mean_cache"](neurons, tokens[:, :-1], sorted(places)),
        "generator": torch.Generator().manual_seed(0),
        "repeats": data.repeated_tokens(4, 6, 9, (1, 2), torch.Generator().manual_seed(0)),
        "fails": fails,
        "torch": torch,
        "Path": Path,
        "choose_device": choose_device,
    }
