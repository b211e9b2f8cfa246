"""What a model can be trained to do. A task draws batches and measures models; the training loop
knows no more of it.

    task = task_called("digits")
    batch = task.draw(cfg, config, generator)               # tokens; is the next determined?
    (row,) = task.scores(predict_by(model), task.sample(model, config))  # one row of the history

`loss` and `accuracy` name the two figures of such a row that the progress bar shows; `accuracy` is
what `TrainConfig.target` is about.
"""

from collections import ChainMap
from collections.abc import Callable

import torch
from torch import Tensor

from .arithmetic import KINDS, OPERATORS, SPLITS, Problems, draw_problems, problems
from .config import ModelConfig, TrainConfig, require
from .data import Batch, Chances, Repeats, arranged, check_periods, draw_chances
from .evaluate import (
    HELD_OUT,
    NextToken,
    held_out,
    on_answers,
    predict,
    problem_scores,
    repeat_row,
    summary,
)
from .model import Transformer

Predict = Callable[[Tensor], list[NextToken]]  # tokens -> how well each model predicts them
MEASURED = 2048  # at most so many problems of a kind are measured for a model's record


class RepeatsTask:
    """Repeated random sequences: data.py."""

    loss, accuracy = "loss_predictable", "induction_accuracy"

    def check(self, cfg: ModelConfig, config: TrainConfig) -> None:
        """Raises ValueError unless the sequences fit the model."""
        check_periods(cfg.n_ctx + 1, cfg.d_vocab, *config.periods)

    def draw(self, cfg: ModelConfig, config: TrainConfig, *generators: torch.Generator) -> Batch:
        """The tokens of one step, [batch, pos], of each generator in turn. n_ctx of them are read,
        and one more is drawn, so that the last has something to predict.
        """
        rows, length = config.batch_size, cfg.n_ctx + 1
        each = [draw_chances(rows, cfg.d_vocab, generator) for generator in generators]
        together = Chances(*(torch.cat(part) for part in zip(*each)))
        return Batch(*arranged(together, length, config.periods)[:2])

    def sample(self, model: Transformer, config: TrainConfig) -> Repeats:
        """What every measurement of one training is made on."""
        return held_out(model, config.periods, batch=128)

    def scores(self, predict_each: Predict, sample: Repeats) -> list[dict[str, float]]:
        """One row of a history for each model that `predict_each` speaks for."""
        return [repeat_row(predicted, sample) for predicted in predict_each(sample.tokens)]

    def summary(self, model: Transformer, config: TrainConfig) -> dict[str, float]:
        """What the record of a model says of it, from the weights alone and the same every time."""
        return summary(model, config.periods)


class ProblemsTask:
    """One kind of arithmetic problems: arithmetic.py."""

    loss, accuracy = "held_out_loss", "held_out_accuracy"

    def __init__(self, kind: str):
        self.kind = kind

    @property
    def problems(self) -> Problems:
        return problems(self.kind)  # made when it is first needed

    def check(self, cfg: ModelConfig, config: TrainConfig) -> None:
        """Raises ValueError unless the problems fit the model."""
        words, length = shape_of(self.kind)
        need = f"the task {self.kind} needs d_vocab = {words} and n_ctx = {length}"
        fits = (cfg.d_vocab, cfg.n_ctx) == (words, length)
        require(fits, f"{need}, not {cfg.d_vocab} and {cfg.n_ctx}.")

    def draw(self, cfg: ModelConfig, config: TrainConfig, *generators: torch.Generator) -> Batch:
        """Training problems, [batch, pos], of each generator in turn."""
        every, rows = self.problems, config.batch_size
        drawn = [draw_problems(every, rows, generator).tokens for generator in generators]
        return Batch(torch.cat(drawn), every.predictable.expand(rows * len(drawn), -1))

    def sample(self, model: Transformer, config: TrainConfig, most=512) -> dict[str, torch.Tensor]:
        """The problems that are measured, by split: all, or `most`, the same ones every time."""
        return {name: self.some(most, split) for split, name in enumerate(SPLITS)}

    def some(self, most: int, split: int, operator: int | None = None) -> torch.Tensor:
        rows, generator = self.problems.rows(split, operator), torch.Generator()
        order = torch.randperm(len(rows), generator=generator.manual_seed(HELD_OUT))
        return rows[order[:most]]

    def scores(self, predict_each: Predict, sample: dict[str, Tensor]) -> list[dict[str, float]]:
        """One row of a history for each model that `predict_each` speaks for."""
        by_split = []
        for split, rows in sample.items():
            each = predict_each(self.problems.tokens[rows])
            by_split.append([self.split_row(split, predicted) for predicted in each])
        return [dict(ChainMap(*rows)) for rows in zip(*by_split)]

    def split_row(self, split: str, predicted: NextToken) -> dict[str, float]:
        losses, right = on_answers(predicted, self.problems)
        name, accuracy = split.replace(" ", "_"), right.float().mean().item()
        return {f"{name}_loss": losses.mean().item(), f"{name}_accuracy": accuracy}

    def by_operator(self, model: Transformer, most: int = MEASURED) -> dict[tuple[str, str], float]:
        """(operator, split) -> accuracy; left out where a split has no such problems."""
        table = {}
        for operator, name in enumerate(OPERATORS):
            for split, where in enumerate(SPLITS):
                rows = self.some(most, split, operator)
                if len(rows):
                    right = problem_scores(model, self.problems, rows).correct
                    table[name, where] = right.float().mean().item()
        return table

    def summary(self, model: Transformer, config: TrainConfig | None = None) -> dict[str, float]:
        """What the record of a model says of it, from the weights alone and the same every time."""
        (overall,) = self.scores(predict_by(model), self.sample(model, config, most=MEASURED))
        table = self.by_operator(model)
        return overall | {f"{where} {name}": share for (name, where), share in table.items()}


def predict_by(*models: Transformer) -> Predict:
    """How these models predict: what `scores` asks for."""
    return lambda tokens: [predict(model, tokens) for model in models]


TASKS = {"repeats": RepeatsTask()} | {kind: ProblemsTask(kind) for kind in KINDS}


def task_called(name: str) -> RepeatsTask | ProblemsTask:
    """Raises ValueError, listing the names, for a task that does not exist."""
    known = ", ".join(TASKS)
    require(name in TASKS, f"there is no task called {name!r}; the tasks are {known}.")
    return TASKS[name]


def task_that_fits(cfg: ModelConfig) -> str:
    """The task of a model of which nobody wrote down how it was trained, by what it can read."""
    shapes = {shape_of(kind): kind for kind in KINDS}
    return shapes.get((cfg.d_vocab, cfg.n_ctx), "repeats")


def shape_of(kind: str) -> tuple[int, int]:
    """d_vocab and n_ctx of a model that reads problems of this kind."""
    return len(problems(kind).words), problems(kind).tokens.shape[1]
