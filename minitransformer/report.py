"""What the command line shows of a model: tables for `evaluate`, pictures for `look`."""

import json
from pathlib import Path

import torch

from . import checkpoint
from .config import TrainConfig, from_dict
from .data import Repeats
from .evaluate import accuracy_by_period, head_scores, held_out, predict, repeats_for_heads, summary
from .model import Transformer


def provenance_of(where: str | Path) -> dict | None:
    """What the .json beside a checkpoint says about its making; None if there is none (an interrupted run)."""
    path = checkpoint.find(where).with_suffix(".json")
    try:
        record = json.loads(path.read_text()) if path.is_file() else None
    except ValueError as error:  # JSONDecodeError, UnicodeDecodeError
        hint = "delete it, the weights do not need it"
        raise checkpoint.CheckpointError(f"{path} is not readable JSON ({error}); {hint}.") from None
    if record is not None and not (isinstance(record, dict) and {"train", "history"} <= set(record)):
        raise checkpoint.CheckpointError(f"{path} is not the record of a training; delete it, or move it away.")
    return record


def trained_periods(where: str | Path, model: Transformer) -> tuple[int, int]:
    """The periods a model was trained on, or, where nobody wrote them down, those up to half its context."""
    record = provenance_of(where)
    return from_dict(TrainConfig, record["train"]).periods if record else (1, model.cfg.n_ctx // 2)


def plain_repeats(model: Transformer, batch: int) -> Repeats:
    """Sequences that are easy to look at: no prefix, one block of a third of the context, read three times."""
    period = model.cfg.n_ctx // 3
    return held_out(model, (period, period), batch, prefix=0)


def print_report(where: str | Path) -> None:
    """Accuracy by period (seen in training and not), loss by position, and the two head scores, as tables."""
    model = checkpoint.load(where)
    low, high = periods = trained_periods(where, model)
    print(f"{where}: {model.cfg}")
    for name, value in summary(model, periods).items():
        print(f"  {name:28} {value:8.4f}")
    print("\nstrict induction accuracy by period (* = seen in training)")
    rows = [f"{p:3}{'*' if low <= p <= high else ' '} {share:6.1%}" for p, share in accuracy_by_period(model).items()]
    print_columns(rows, columns=6)
    repeats = plain_repeats(model, batch=2048)
    print(f"\nloss by position (nats; a block of {repeats.period[0]} repeated from position 1 on)")
    losses = predict(model, repeats.tokens).losses.mean(dim=0)
    print_columns([f"{pos:3} {loss:6.3f}" for pos, loss in enumerate(losses.tolist())], columns=6)
    print("\nhead scores (mean attention)   previous token   induction")
    scores = head_scores(model, repeats_for_heads(model))
    for layer in range(model.cfg.n_layers):
        for head in range(model.cfg.n_heads):
            previous, induction = scores.previous_token[layer, head], scores.induction[layer, head]
            print(f"  head {layer}.{head} {previous:32.3f} {induction:11.3f}")


def print_columns(cells: list[str], columns: int) -> None:
    for first in range(0, len(cells), columns):
        print("  " + "   ".join(cells[first : first + columns]))


def print_outcome(record: dict, expect: str) -> None:
    """After training: what was reached, how long it took, and what this preset should reach."""
    scores = record["scores"]
    print(f"trained {record['steps']} steps in {record['seconds']} s (stopped by: {record['stopped']})")
    print(f"reached: strict induction accuracy {scores['induction_accuracy']:.2%},", end=" ")
    print(f"best previous-token head {scores['best_previous_token_score']:.3f},", end=" ")
    print(f"best induction head {scores['best_induction_score']:.3f}")
    if expect:
        print(f"expect:  {expect}")


def draw_all(where: str | Path, folder: Path) -> None:
    """Write the pictures of one model to `folder` and print their paths."""
    from . import plots  # matplotlib takes a while to import, and only pictures need it

    model, record = checkpoint.load(where), provenance_of(where)
    name, repeats = Path(where).stem, plain_repeats(model, batch=2048)
    period = repeats.period[0].item()
    if record and record["history"]:
        figure = plots.draw_phase_change(record["history"], model.cfg.d_vocab, f"{name}: loss on sequences it never saw")
        plots.save_figure(figure, folder / f"{name}_training.png")
    losses = {name: predict(model, repeats.tokens).losses.mean(dim=0)}
    title = f"{name}: random tokens, repeated every {period}"
    plots.save_figure(
        plots.draw_loss_by_position(losses, 1 + period, model.cfg.d_vocab, title), folder / f"{name}_loss_by_position.png"
    )
    if model.cfg.n_layers:
        _, cache = model.run_with_cache(repeats.tokens[:1], lambda hook: hook.endswith("hook_pattern"))
        pattern = torch.cat(list(cache.values()))  # layer head query key
        scores = head_scores(model, repeats_for_heads(model))
        badges = [[badge(scores, layer, head) for head in range(model.cfg.n_heads)] for layer in range(model.cfg.n_layers)]
        title = f"{name}: who looks where while {period} random tokens are read three times (triangles: {period - 1} back)"
        plots.save_figure(plots.draw_attention_patterns(pattern, period, title, badges), folder / f"{name}_attention.png")


def badge(scores, layer: int, head: int) -> str:
    """What a head's scores say it is, for the title of its picture."""
    previous, induction = scores.previous_token[layer, head].item(), scores.induction[layer, head].item()
    if max(previous, induction) < 0.5:
        return "neither score above 0.5"
    return f"previous token {previous:.2f}" if previous > induction else f"induction {induction:.2f}"
