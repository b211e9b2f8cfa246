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
    files,
    planted,
    publish,
    tasks,
    train,
)
from minitransformer.commands import choose_device
from tests.material import seeded, small_model

CHAPTER = "ch01_transformer"
SMALL = {"n_heads": 2, "d_model": 8, "d_head": 4, "d_vocab": 9, "n_ctx": 6}
TRAINING = TrainConfig(steps=3, batch_size=2, periods=(1, 3), eval_every=1)

# A checkpoint cut off: how much of it is left
CUTS = {
    "empty": 0.0,
    "a-thousandth": 0.001,
    "a-tenth": 0.1,
    "half": 0.5,
    "nine-tenths": 0.9,
    "all-but-a-thousandth": 0.999,
}

# What a learner's chapter 1 may look like: a body of attention_pattern, or what is done to the
# whole file
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
    "a renamed function": lambda stub: answered(
        stub.replace(b"def attention_", b"def "), "return q"
    ),
    "one argument": lambda stub: answered(stub, "return q").replace(b"q: Tensor, k: Tensor", b"q"),
}


def answered(stub: bytes, body: str) -> bytes:
    """Chapter 1's exercise file with this body of attention_pattern."""
    return stub.replace(b'raise NotImplementedError("attention_pattern")', body.encode())


def write_attempts(folder: Path) -> None:
    """A folder for each attempt, named after it, that holds chapter 1's exercise file."""
    stub = stubs.stub_text(stubs.solution_path(CHAPTER).read_text(encoding="utf-8")).encode()
    for name in [*BODIES, *FILES]:
        content = FILES[name](stub) if name in FILES else answered(stub, BODIES[name])
        (folder / name).mkdir(parents=True)
        (folder / name / f"{CHAPTER}.py").write_bytes(content)
    (folder / "no file").mkdir()
    (folder / "a folder" / f"{CHAPTER}.py").mkdir(parents=True)


# ---- checkpoints


def tiny(**changes) -> Transformer:
    return small_model(0, **SMALL | changes).float()


def write_run(folder: Path) -> None:
    """A finished training, far too short to learn anything, with its record."""
    run = train.train(ModelConfig(**SMALL), TRAINING, folder=folder)
    record = train.provenance(run, "python -m minitransformer train")
    files.write_json(folder / "model.json", record)


def write_checkpoints(folder: Path) -> None:
    """A file for each way in which a checkpoint can be useless."""
    whole = (folder / "run/model.pt").read_bytes()
    for name, share in CUTS.items():
        (folder / f"{name}.pt").write_bytes(whole[: int(share * len(whole))])
    (folder / "a-byte-short.pt").write_bytes(whole[:-1])
    (folder / "text.pt").write_bytes(b"a letter\n")

    content = torch.load(folder / "run/model.pt", weights_only=True)
    weights = content["weights"]
    changes = {
        "bigger": config_with(d_vocab=10),
        "enormous": config_with(d_vocab=10**13),
        "newer": config_with(rotary=True),
        "no-heads": config_with(n_heads=0),
        "no-config": {"config": "{"},
        "null-config": {"config": None},
        "list-config": {"config": "[2, 4]"},
        "no-weights": {"weights": {}},
        "no-W_pos": {"weights": {name: weights[name] for name in weights if name != "W_pos"}},
        "surplus": {"weights": weights | {"W_gate": torch.zeros(2)}},
        "words": {"weights": weights | {"W_E": "a word"}},
        "numbers": {"weights": weights | {"W_E": [1.0, 2.0]}},
        "list-weights": {"weights": list(weights.values())},
        "null-weights": {"weights": None},
        "older": {"format": "minitransformer 0"},
        "code": {"training": Path},
    }
    for name, change in changes.items():
        torch.save(content | change, folder / f"{name}.pt")

    foreign = {
        "foreign": {"weight": torch.zeros(2)},
        "a-list": [1, 2],
        "a-tensor": torch.zeros(3),
        "a-number": 7,
    }
    for name, other in foreign.items():
        torch.save(other, folder / f"{name}.pt")
    checkpoint.save(folder / "three-tokens.pt", tiny(n_ctx=3))
    checkpoint.save(folder / "few-words.pt", tiny(d_vocab=4))


def config_with(**change) -> dict[str, str]:
    return {"config": json.dumps(asdict(ModelConfig(**SMALL)) | change)}


def write_records(folder: Path) -> None:
    """Runs with a model.json that is none, or that belongs to another model."""
    record = json.loads((folder / "run/model.json").read_text(encoding="utf-8"))
    changes = {
        "other-task": {"train": record["train"] | {"task": "sorting"}},
        "other-model": {"model": record["model"] | {"n_ctx": 7}},
        "no-history": {"history": [{"step": 1}]},
        "half-a-row": {"history": [without_loss_elsewhere(row) for row in record["history"]]},
        "words-in-a-row": {"history": [row | {"step": "last"} for row in record["history"]]},
        "a-typo": {"train": {"learning_rat": 1}},
    }
    texts = {name: json.dumps(record | change).encode() for name, change in changes.items()}
    texts |= {"no-json": b"{", "binary": b"\xff\xfe{", "list": b"[]"}
    for name, text in texts.items():
        (folder / f"record-{name}").mkdir()
        shutil.copy(folder / "run/model.pt", folder / f"record-{name}")
        (folder / f"record-{name}" / "model.json").write_bytes(text)


def without_loss_elsewhere(row: dict) -> dict:
    return {name: value for name, value in row.items() if name != "loss_elsewhere"}


def write_trainings(folder: Path) -> None:
    """Runs that cannot be resumed: their training state, or one of their snapshots, is not what it
    was.
    """
    content = torch.load(folder / "run/model.pt", weights_only=True)
    state = content["training"]
    trainings = {
        "none": None,
        "number": 5,
        "empty": {},
        "no-optimizer": state | {"optimizer": {}},
        "no-json": state | {"config": "{"},
        "no-dice": state | {"generator": torch.zeros(3)},
        "no-step": state | {"step": "last"},
        "other-task": state | {"config": json.dumps({"task": "digits"})},
    }
    for name, training in trainings.items():
        (folder / f"training-{name}").mkdir()
        torch.save(content | {"training": training}, folder / f"training-{name}" / "model.pt")
    (folder / "training-damaged").mkdir()
    (folder / "training-damaged/model.pt").write_bytes(b"")
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
    (folder / "a-file").write_text("in the way", encoding="utf-8")
    (folder / "in-the-way").mkdir()
    (folder / "in-the-way/figures").write_text("not a folder", encoding="utf-8")
    (folder / "in-the-way" / f"{CHAPTER}.ipynb").write_text("my notes", encoding="utf-8")


# ---- expressions


def fails(activation, hook):
    raise RuntimeError("a hook's own mistake is what arrives.")


def no_score(logits, right):
    return logits[..., 0] * 0


@functools.cache
def names() -> dict:
    """What an expression may use: the package, all solutions, and a few small things to hand to
    them.
    """
    found = {name: getattr(minitransformer, name) for name in minitransformer.__all__}
    for chapter in stubs.chapters():
        found |= vars(importlib.import_module(f"solutions.{chapter}"))
    package = (arithmetic, checkpoint, config, data, planted, publish, tasks, train)
    for module in (*package, cells, desk):
        found[module.__name__.split(".")[-1]] = module
    model, neurons = tiny(), tiny(d_mlp=3)
    tokens = torch.tensor([[0, 1, 2, 3], [0, 4, 5, 6]])
    places = {name for name, _ in found["answer_places"](neurons, 3)}
    return found | {
        "model": model,
        "weights": dict(model.named_parameters()),
        "neurons": neurons,
        "tokens": tokens,
        "means": found["mean_cache"](neurons, tokens[:, :-1], sorted(places)),
        "generator": seeded(),
        "repeats": data.repeated_tokens(4, 6, 9, (1, 2), seeded()),
        "fails": fails,
        "no_score": no_score,
        "ones": torch.ones(4),
        "two": torch.arange(2),
        "torch": torch,
        "Path": Path,
        "choose_device": choose_device,
    }
