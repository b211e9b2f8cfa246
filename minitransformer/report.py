"""What the command line shows of a model: tables for `evaluate`, pictures for `look`."""

import json
from collections import Counter
from pathlib import Path

import torch

from . import checkpoint
from .arithmetic import OPERATORS, REGION, SPLITS
from .config import ModelConfig, TrainConfig, from_dict
from .data import Repeats
from .evaluate import (
    WrongAnswer,
    accuracy_by_period,
    head_scores,
    held_out,
    predict,
    problem_scores,
    repeats_for_heads,
    summary,
    wrong_answers,
)
from .model import Transformer
from .tasks import MEASURED, ProblemsTask, task_called, task_that_fits


def provenance_of(where: str | Path, model: Transformer) -> dict | None:
    """What the .json beside a model's checkpoint says about its making; None if there is none (an
    interrupted run).
    """
    path = checkpoint.find(where).with_suffix(".json")
    if not path.is_file():
        return None
    try:
        record = json.loads(path.read_text())
        check_record(record, model)
    except ValueError as error:  # JSONDecodeError and UnicodeDecodeError are such
        reason, advice = str(error).rstrip("."), "delete it, the weights do not need it"
        raise checkpoint.CheckpointError(
            f"{path} is not the record of this model's training ({reason}); {advice}."
        ) from None
    return record


def check_record(record, model: Transformer) -> None:
    """Raises ValueError unless this says how `model` was trained."""
    if not (isinstance(record, dict) and {"model", "train", "history"} <= set(record)):
        raise ValueError("it must have model, train and history")
    if from_dict(ModelConfig, record["model"]) != model.cfg:
        raise ValueError("it describes another model")
    config = from_dict(TrainConfig, record["train"])
    task = task_called(config.task)
    task.check(model.cfg, config)
    needed, rows = {"step", task.loss, task.accuracy}, record["history"]
    if not (
        isinstance(rows, list) and all(isinstance(row, dict) and needed <= set(row) for row in rows)
    ):
        raise ValueError(f"each row of its history must have {', '.join(sorted(needed))}")


def trained_periods(where: str | Path, model: Transformer) -> tuple[int, int]:
    """The periods a model was trained on, or, where nobody wrote them down, those up to half its
    context.
    """
    record, n = provenance_of(where, model), model.cfg.n_ctx
    return (
        from_dict(TrainConfig, record["train"]).periods
        if record
        else (1, max(1, min(n // 2, n - 3)))
    )


def plain_repeats(model: Transformer, batch: int) -> Repeats:
    """Sequences that are easy to look at: no prefix, one block of a third of the context, read
    three times.
    """
    period = model.cfg.n_ctx // 3
    return held_out(model, (period, period), batch, prefix=0)


def task_of(where: str | Path, model: Transformer) -> str:
    """The task a model was trained on, or, where nobody wrote it down, the one whose sequences it
    reads.
    """
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
    """Accuracy by period (seen in training and not), loss by position, and the two head scores, as
    tables.
    """
    low, high = periods
    for name, value in summary(model, periods).items():
        print(f"  {name:28} {value:8.4f}")
    print("\naccuracy on predictable tokens by period (* = seen in training)")
    rows = [
        f"{p:3}{'*' if low <= p <= high else ' '} {share:6.1%}"
        for p, share in accuracy_by_period(model).items()
    ]
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


def print_problems_report(model: Transformer, task: ProblemsTask) -> None:
    """Accuracy by operator and split, and what is said instead of the right answer in the
    region.
    """
    table = task.by_operator(model)
    print("\nright answers" + "".join(f"{name:>11}" for name in SPLITS))
    for operator in dict.fromkeys(name for name, _ in table):
        cells = [
            f"{table[operator, name]:11.1%}" if (operator, name) in table else " " * 11
            for name in SPLITS
        ]
        print(f"  {operator:11}" + "".join(cells))
    wrong = wrong_answers(model, task.problems, task.some(MEASURED, REGION))
    if wrong:
        print(f"\nin the region: {len(wrong)} wrong first answers, and what they are")
        for kind, some in kinds_of_mistakes(wrong).items():
            print(
                f"  {kind:24} {len(some) / len(wrong):6.1%}   such as {some[0].problem} (right: {some[0].right})"
            )


def kinds_of_mistakes(wrong: list[WrongAnswer], shown: int = 5) -> dict[str, list[WrongAnswer]]:
    """Wrong answers of two kinds worth knowing, and those at the most frequent distances from the
    right answer.

    The kinds overlap: 46 - 6 = 60 is at distance +20, and a multiple of ten away.
    """
    numbers = [each for each in wrong if each.said is not None]
    kinds = {"no number": [each for each in wrong if each.said is None]}
    kinds["a + b"] = [each for each in numbers if each.said == each.a + each.b]
    kinds["a multiple of ten away"] = [
        each for each in numbers if (each.said - each.right) % 10 == 0
    ]
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
    print(
        f"trained {record['steps']} steps in {record['seconds']} s (stopped by: {record['stopped']})"
    )
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
    """Write the pictures of one model to `folder` and print their paths: those that the model's
    task has.
    """
    model = checkpoint.load(where)
    record = provenance_of(where, model)
    task, history = task_called(task_of(where, model)), record["history"] if record else []
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
        figure = plots.draw_learning(
            history, SPLITS, f"{name}: problems of training, held out, and of the held-out region"
        )
        plots.save_figure(figure, folder / f"{name}_training.png")
    shares = {
        OPERATORS[operator]: right_by_operands(model, task, operator)
        for operator in task.problems.operator.unique()
    }
    figure = plots.draw_right_answers(shares, f"{name}: which problems are right")
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
    """Loss and accuracy over training, loss by position, and every attention pattern of one
    sequence.
    """
    from . import plots

    repeats = plain_repeats(model, batch=2048)
    period = repeats.period[0].item()
    if history:
        figure = plots.draw_phase_change(
            history, model.cfg.d_vocab, f"{name}: loss on sequences it never saw"
        )
        plots.save_figure(figure, folder / f"{name}_training.png")
    losses = {name: predict(model, repeats.tokens).losses.mean(dim=0)}
    title = f"{name}: random tokens, repeated every {period}"
    plots.save_figure(
        plots.draw_loss_by_position(losses, 1 + period, model.cfg.d_vocab, title),
        folder / f"{name}_loss_by_position.png",
    )
    if model.cfg.n_layers:
        _, cache = model.run_with_cache(
            repeats.tokens[:1], lambda hook: hook.endswith("hook_pattern")
        )
        pattern = torch.cat(list(cache.values()))  # layer head query key
        scores = head_scores(model, repeats_for_heads(model))
        badges = [
            [badge(scores, layer, head) for head in range(model.cfg.n_heads)]
            for layer in range(model.cfg.n_layers)
        ]
        title = f"{name}: who looks where while {period} random tokens are read three times (triangles: {period - 1} back)"
        plots.save_figure(
            plots.draw_attention_patterns(pattern, period, title, badges),
            folder / f"{name}_attention.png",
        )


def badge(scores, layer: int, head: int) -> str:
    """What a head's scores say it is, for the title of its picture."""
    previous, induction = (
        scores.previous_token[layer, head].item(),
        scores.induction[layer, head].item(),
    )
    if max(previous, induction) < 0.5:
        return "neither score above 0.5"
    return (
        f"previous token {previous:.2f}" if previous > induction else f"induction {induction:.2f}"
    )
