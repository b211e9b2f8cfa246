"""The live lab: one file in which trained models run.

    lab.write(Path("site/lab.html"), {})                             # the shipped models
    lab.write(Path("site/lab.html"), {"induction": "runs/mine"})     # yours in the place of one

The page is put together from lab.html, lab.css and the modules below, whose lines of import and
export are dropped; it holds the weights as float32 and asks for nothing else.
"""

import base64
import json
import re
from dataclasses import asdict
from pathlib import Path

import torch

from minitransformer import Transformer, load
from minitransformer.config import require
from minitransformer.model import parameter_table

from .experiments import MOST_WORDS, experiments
from .measures import found_heads, switched

FOLDER = Path(__file__).parent
MODULES = ["model", "words", "gauge", "seen", "state", "page", "grid", "panels", "main"]
TITLES = {
    "induction": "induction, two layers",
    "impostor": "impostor, two layers",
    "one-layer": "one layer",
}
LEAST = MOST_WORDS + 1  # positions: the longest sentence of an experiment, and BOS
MOST = 32  # rows of the grid
MOST_WEIGHTS = 200_000  # more would make the file large and each change slow


def write(target: Path, models: dict[str, str]) -> Path:
    """Write the lab to the file `target` and return it. models: as Session.models, a shipped name
    -> the run folder in its place.

    The address of the page may name a state after #: `lab.html#experiment=NAME`, with NAME one of
    `experiment_names()`, and further fields that change it, as state.js lists them
    (`lab.html#experiment=which-james&deal=3`). Raises ValueError for a model that the page cannot
    show.
    """
    text = page(models)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text, encoding="utf-8")
    return target


def page(models: dict[str, str], changes: dict[str, str] | None = None) -> str:
    """The page as text. changes: parts of the JavaScript and what stands there instead (a test's
    broken copies).
    """
    code = "\n".join(without_modules(source(f"{name}.js")) for name in MODULES)
    for old, new in (changes or {}).items():
        require(code.count(old) == 1, f"{old!r} must stand in the JavaScript once.")
        code = code.replace(old, new)
    parts = {"/*CSS*/": source("lab.css"), "/*JAVASCRIPT*/": code, "/*PAYLOAD*/": payload(models)}
    text = source("lab.html")
    for place, part in parts.items():
        text = text.replace(place, part)
    return text


def source(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")


def without_modules(code: str) -> str:
    """A module's text for a page that has them all in one: no import, no export."""
    code = re.sub(r'^import [^;]*? from "[^"]*";\n', "", code, flags=re.MULTILINE)
    return re.sub(r"^export ", "", code, flags=re.MULTILINE)


def payload(models: dict[str, str]) -> str:
    """All that the page knows, as JSON: the models, the experiments, the rows of its grid."""
    loaded = {}
    for name in TITLES:
        where = models.get(name, name)
        loaded[name] = load(where)
        refuse_what_cannot_be_shown(loaded[name], where)
    entries = {}
    for name, model in loaded.items():
        mine = f"yours: {Path(models[name]).name}" if name in models else TITLES[name]
        entries[name] = {"title": mine} | entry(model)
    told = {"models": entries, "experiments": experiments(loaded), "size": MOST}
    return json.dumps(told, ensure_ascii=False, separators=(",", ":")).replace("</", "<\\/")


def entry(model: Transformer) -> dict:
    """One model: its sizes, its weights, the heads that were found, and logits to compare with."""
    kept = ("n_layers", "n_heads", "d_model", "d_head", "d_vocab", "n_ctx")
    sizes = {name: value for name, value in asdict(model.cfg).items() if name in kept}
    weights = [model.get_parameter(name) for name, _, _ in parameter_table(model.cfg)]
    numbers = torch.cat([weight.detach().flatten() for weight in weights])
    encoded = base64.b64encode(numbers.numpy().astype("<f4").tobytes()).decode()
    return {"cfg": sizes, "found": found_heads(model), "cases": cases(model), "weights": encoded}


def cases(model: Transformer) -> list[dict]:
    """PyTorch's logits at the last positions of some sequences, heads switched: for the page to
    compare its own with.
    """
    cfg, stored = model.cfg, []
    last, half = f"{cfg.n_layers - 1}.0", cfg.n_ctx // 2
    for seed, switches in enumerate(({}, {"0.1": "off"}, {"0.0": "off", last: "freeze"})):
        generator = torch.Generator().manual_seed(seed)
        tokens = torch.randperm(cfg.d_vocab, generator=generator)[:half].repeat(2)
        logits, _ = switched(model, tokens[None], switches)
        kept = [round(value, 6) for value in logits[0, -2:].flatten().tolist()]
        stored.append({"tokens": tokens.tolist(), "switches": switches, "logits": kept})
    return stored


def refuse_what_cannot_be_shown(model: Transformer, where: str) -> None:
    """Raises ValueError, saying why, unless the page can run this model and has room for it."""
    cfg, size = model.cfg, sum(weight.numel() for weight in model.parameters())
    shown = "the lab shows models of one or two layers of attention heads, nothing else"
    for has, what in (
        (cfg.layer_norm, "LayerNorm"),
        (cfg.d_mlp > 0, "an MLP"),
        (cfg.smeared_keys, "smeared keys"),
        (cfg.positional_embedding_type != "shortformer", "positions in the residual stream"),
    ):
        require(not has, f"{where} has {what}; {shown}, with positions on queries and keys alone.")
    require(1 <= cfg.n_layers <= 2, f"{where} has {cfg.n_layers} layers; {shown}.")
    room = f"the lab has room for {LEAST} to {MOST}"
    require(LEAST <= cfg.n_ctx <= MOST, f"{where} reads {cfg.n_ctx} words; {room}.")
    least = f"the lab needs at least {MOST}, one for each word"
    require(cfg.d_vocab >= MOST, f"{where} knows {cfg.d_vocab} tokens; {least}.")
    require(cfg.n_heads <= 8, f"{where} has {cfg.n_heads} heads a layer; the lab has room for 8.")
    limit = f"the lab runs at most {MOST_WEIGHTS:,} in time"
    require(size <= MOST_WEIGHTS, f"{where} has {size:,} weights; {limit}.")
    finite = all(bool(weight.isfinite().all()) for weight in model.parameters())
    require(finite, f"{where} has weights that are no numbers; train it anew.")
