"""What the command line shows of a model: tables for `evaluate`, pictures for `look`."""

import json
from collections import Counter
from pathlib import Path

import torch

from . import checkpoint
from .arithmetic import OPERATORS, REGION, SPLITS
from .config import ModelConfig, TrainConfig, from_dict, require
from .data import Repeats
from .evaluate import (
    WrongAnswer,
    accuracy_by_period,
    attention,
    head_scores,
    held_out,
    predict,
    problem_scores,
    repeats_for_heads,
    summary,
    wrong_answers,
)
from .model import Transformer
from .tasks import MEASURED, ProblemsTask, RepeatsTask, task_called, task_that_fits


def provenance_of(where: str | Path, model: Transformer) -> dict | None:
    """What the .json beside a checkpoint says about its making; None if an interrupted run left
    none.
    """
    path = checkpoint.find(where).with_suffix(".json")
    if not path.is_file():
        return None
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        check_record(record, model)
    except ValueError as error:  # JSONDecodeError and UnicodeDecodeError are such
        fault, reason = "is not the record of this model's training", str(error).rstrip(".")
        advice = "delete it, the weights do not need it"
        raise checkpoint.CheckpointError(f"{path} {fault} ({reason}); {advice}.") from None
    return record


def check_record(record, model: Transformer) -> None:
    """Raises ValueError unless this says how `model` was trained."""
    require(has(record, "model", "train", "history"), "it must have model, train and history")
    same = from_dict(ModelConfig, record["model"]) == model.cfg
    require(same, "it describes another model")
    config = from_dict(TrainConfig, record["train"])
    task = task_called(config.task)
    task.check(model.cfg, config)
    needed, rows = columns_of(task), record["history"]
    complete = isinstance(rows, list) and all(has_numbers(row, needed) for row in rows)
    require(complete, f"each row of its history must have numbers for {', '.join(needed)}")


def columns_of(task: RepeatsTask | ProblemsTask) -> list[str]:
    """What each row of a history holds, and a picture of it shows."""
    if not isinstance(task, ProblemsTask):
        return ["step", "loss_predictable", "loss_elsewhere", "induction_accuracy"]
    names = [split.replace(" ", "_") for split in SPLITS]
    return ["step"] + [f"{name}_{what}" for name in names for what in ("loss", "accuracy")]


def has_numbers(row, needed: list[str]) -> bool:
    return has(row, *needed) and all(isinstance(row[name], int | float) for name in needed)


def has(record, *names: str) -> bool:
    """Is it a dict with these keys?"""
    return isinstance(record, dict) and set(names) <= set(record)


def trained_periods(where: str | Path, model: Transformer) -> tuple[int, int]:
    """The periods a model was trained on; if nobody wrote them down, up to half its context."""
    record, n = provenance_of(where, model), model.cfg.n_ctx
    if record:
        return from_dict(TrainConfig, record["train"]).periods
    return 1, max(1, min(n // 2, n - 3))


def plain_repeats(model: Transformer, batch: int) -> Repeats:
    """Sequences that are easy to look at: one block of a third of the context, read three times."""
    period = model.cfg.n_ctx // 3
    return held_out(model, (period, period), batch, prefix=0)


def task_of(where: str | Path, model: Transformer) -> str:
    """The task a model was trained on; if nobody wrote it down, one whose sequences it reads."""
    record = provenance_of(where, model)
    return from_dict(TrainConfig, record["train"]).task if record else task_that_fits(model.cfg)


def print_report(where: str | Path) -> None:
    """The tables of `evaluate`: those that the model's task has."""
    model = checkpoint.load(where)
    print(f"{where}: {model.cfg}")
    task = task_called(task_of(where, model))
    if isinstance(task, ProblemsTask):
        print_problems_report(model, task)
    else:
        print_repeats_report(model, trained_periods(where, model))


def print_repeats_report(model: Transformer, periods: tuple[int, int]) -> None:
    """As tables: accuracy by period (seen in training and not), loss by position, head scores."""
    for name, value in summary(model, periods).items():
        print(f"  {name:28} {value:8.4f}")
    print("\naccuracy on predictable tokens by period (* = seen in training)")
    seen, rows = range(periods[0], periods[1] + 1), []
    for period, share in accuracy_by_period(model).items():
        rows.append(f"{period:3}{'*' if period in seen else ' '} {share:6.1%}")
    print_columns(rows, columns=6)
    repeats = plain_repeats(model, batch=2048)
    print(f"\nloss by position (nats; a block of {repeats.period[0]} repeated from position 1 on)")
    losses = predict(model, repeats.tokens).losses.mean(dim=0)
    print_columns([f"{pos:3} {loss:6.3f}" for pos, loss in enumerate(losses.tolist())], columns=6)
    print("\nhead scores (mean attention)   previous token   prefix matching")
    scores = head_scores(model, repeats_for_heads(model))
    for layer in range(model.cfg.n_layers):
        for head in range(model.cfg.n_heads):
            previous, matching = scores.previous_token[layer, head], scores.induction[layer, head]
            print(f"  head {f'{layer}.{head}':4}{previous:32.3f} {matching:17.3f}")


def print_problems_report(model: Transformer, task: ProblemsTask) -> None:
    """Accuracy by operator and split, and what is said in the region instead of what is right."""
    table = task.by_operator(model)
    print("\nright answers" + "".join(f"{name:>11}" for name in SPLITS))
    for operator in dict.fromkeys(name for name, _ in table):
        shares = [table.get((operator, split)) for split in SPLITS]
        cells = ["" if share is None else f"{share:.1%}" for share in shares]
        print(f"  {operator:11}" + "".join(f"{cell:>11}" for cell in cells))
    wrong = wrong_answers(model, task.problems, task.some(MEASURED, REGION))
    if wrong:
        print(f"\nin the region: {len(wrong)} wrong first answers, and what they are")
        for kind, some in kinds_of_mistakes(wrong).items():
            example = f"such as {some[0].problem} (right: {some[0].right})"
            print(f"  {kind:24} {len(some) / len(wrong):6.1%}   {example}")


def kinds_of_mistakes(wrong: list[WrongAnswer], shown: int = 5) -> dict[str, list[WrongAnswer]]:
    """Wrong answers of two kinds worth knowing, and those at the most frequent distances.

    The kinds overlap: 46 - 6 = 60 is at distance +20, and a multiple of ten away.
    """
    numbers = [each for each in wrong if each.said is not None]
    tens_away = [each for each in numbers if (each.said - each.right) % 10 == 0]
    kinds = {"no number": [each for each in wrong if each.said is None]}
    kinds["a + b"] = [each for each in numbers if each.said == each.a + each.b]
    kinds["a multiple of ten away"] = tens_away
    distances = Counter(each.said - each.right for each in numbers)
    for distance, _ in distances.most_common(shown):
        kinds[f"{distance:+d}"] = [each for each in numbers if each.said - each.right == distance]
    return {kind: some for kind, some in kinds.items() if some}


def print_columns(cells: list[str], columns: int) -> None:
    for first in range(0, len(cells), columns):
        print("  " + "   ".join(cells[first : first + columns]))


def print_outcome(record: dict, expect: str) -> None:
    """After training: what was reached, how long it took, and what this preset should reach."""
    scores = record["scores"]
    ended = f"stopped by: {record['stopped']}"
    print(f"trained {record['steps']} steps in {record['seconds']} s ({ended})")
    if isinstance(task_called(record["train"]["task"]), ProblemsTask):
        reached = [f"{name} {scores[name.replace(' ', '_') + '_accuracy']:.2%}" for name in SPLITS]
        print(f"reached: right answers: {', '.join(reached)}")
    else:
        print(
            f"reached: accuracy on predictable tokens {scores['induction_accuracy']:.2%},", end=" "
        )
        print(f"best previous-token head {scores['best_previous_token_score']:.3f},", end=" ")
        print(f"best induction head {scores['best_induction_score']:.3f}")
    if expect:
        print(f"expect:  {expect}")


def draw_all(where: str | Path, folder: Path) -> None:
    """Write the pictures that the model's task has to `folder`, and print their paths."""
    model = checkpoint.load(where)
    record = provenance_of(where, model)
    history = record["history"] if record else []
    task = task_called(task_of(where, model))
    if isinstance(task, ProblemsTask):
        draw_arithmetic(Path(where).stem, model, task, history, folder)
    else:
        draw_repeats(Path(where).stem, model, history, folder)


def draw_arithmetic(
    name: str, model: Transformer, task: ProblemsTask, history: list[dict], folder: Path
) -> None:
    """Loss and accuracy over training, and which problems are right."""
    from . import plots  # matplotlib takes a while to import, and only pictures need it

    if history:
        splits = "problems of training, held out, and of the held-out region"
        title = f"{plots.as_label(name)}: {splits}"
        figure = plots.draw_learning(history, SPLITS, title)
        plots.save_figure(figure, folder / f"{name}_training.png")
    shares = {}
    for operator in task.problems.operator.unique():
        shares[OPERATORS[operator]] = right_by_operands(model, task, operator)
    title = f"{plots.as_label(name)}: which problems are right"
    figure = plots.draw_right_answers(shares, title)
    plots.save_figure(figure, folder / f"{name}_right_answers.png")


def right_by_operands(model: Transformer, task: ProblemsTask, operator: int) -> torch.Tensor:
    """[a, b]: the share of right answers; nan where no problem was measured."""
    problems, rows = task.problems, (task.problems.operator == operator).nonzero()[:, 0]
    rows = rows[:: max(1, len(rows) // 2**13)]  # of two-step problems, every fifteenth
    n = int(max(problems.a.max(), problems.b.max())) + 1
    counts, right = torch.zeros(2, n, n), problem_scores(model, problems, rows).correct.float()
    place = (problems.a[rows], problems.b[rows])
    counts[0].index_put_(place, torch.ones(len(rows)), accumulate=True)
    counts[1].index_put_(place, right, accumulate=True)
    return counts[1] / counts[0]


def draw_repeats(name: str, model: Transformer, history: list[dict], folder: Path) -> None:
    """Loss and accuracy over training, loss by position, every attention pattern of a sequence."""
    from . import plots

    repeats, label = plain_repeats(model, batch=2048), plots.as_label(name)
    period = repeats.period[0].item()
    if history:
        title = f"{label}: loss on sequences it never saw"
        figure = plots.draw_phase_change(history, model.cfg.d_vocab, title)
        plots.save_figure(figure, folder / f"{name}_training.png")
    losses = {label: predict(model, repeats.tokens).losses.mean(dim=0)}
    title = f"{label}: random tokens, repeated every {period}"
    figure = plots.draw_loss_by_position(losses, 1 + period, model.cfg.d_vocab, title)
    plots.save_figure(figure, folder / f"{name}_loss_by_position.png")
    if model.cfg.n_layers:
        pattern = attention(model, repeats.tokens[:1])[:, 0]  # layer head query key
        scores = head_scores(model, repeats_for_heads(model))
        badges = []
        for rows in zip(scores.previous_token.tolist(), scores.induction.tolist()):
            badges.append([badge(previous, matching) for previous, matching in zip(*rows)])
        looks = f"who looks where while {period} random tokens are read three times"
        title = f"{label}: {looks} (triangles: {period - 1} back)"
        figure = plots.draw_attention_patterns(pattern, period, title, badges)
        plots.save_figure(figure, folder / f"{name}_attention.png")


def badge(previous: float, matching: float) -> str:
    """What a head's scores say it is, for the title of its picture."""
    if max(previous, matching) < 0.5:
        return "neither score above 0.5"
    if previous > matching:
        return f"previous token {previous:.2f}"
    return f"prefix matching {matching:.2f}"
