"""What the checks of `diagnose` compare with: models of known habits, and the diagnosis by other
draws, which can be made wrong.
"""

import functools

import torch

from minitransformer import ModelConfig, Transformer, planted
from minitransformer.data import repeated_tokens
from minitransformer.evaluate import predict
from solutions.ch03_training import accuracy_interval, last_copy
from tests.material import seeded

OFFSET = 280  # of the seeds: with these draws every mistake below is seen to be one


def looks_back(distance, n=12):
    """A model with one habit: it predicts the token that stands `distance` before the one to come,
    whatever it is.
    """
    space = planted.subspaces(token=n, position=n)
    model = planted.blank_model(n_layers=1, n_heads=1, d_model=2 * n, d_head=n, d_vocab=n, n_ctx=n)
    with torch.no_grad():
        model.W_E.copy_(space.token.T)
        model.W_pos.copy_(space.position.T)
        there = space.position @ planted.move(n, 1 - distance)
        planted.write_head(model, 0, 0, there, space.position, space.token, 10 * space.token.T)
        model.W_U.copy_(10 * space.token)
    return model


def missing_tokens(count, d_vocab=24, n_ctx=12):
    """The induction model set by hand, but `count` of its tokens never come out."""
    model = planted.induction_model(d_vocab, n_ctx)
    with torch.no_grad():
        model.W_U[:, -count:] = 0.0
    return model


def no_echo(d_vocab=12, n_ctx=12):
    """The induction model set by hand, but it never says the token that it has just read."""
    model, space = planted.induction_model(d_vocab, n_ctx), planted.induction_spaces(d_vocab, n_ctx)
    with torch.no_grad():
        model.W_U -= 100.0 * space.token
    return model


class Remembering(Transformer):
    """A model with random weights that keeps every row it was run on."""

    def __init__(self, cfg):
        super().__init__(cfg, seed=0)
        self.rows = []

    def forward(self, tokens, *others):
        self.rows += tokens.tolist()
        return super().forward(tokens, *others)


@functools.cache
def known_habits():
    """[(verdict, name, model)]"""
    blank = ModelConfig(n_heads=2, d_model=8, d_head=5, d_vocab=10, n_ctx=10)
    return [
        ("induction", "planted.induction_model", planted.induction_model(12, 12)),
        ("induction", "planted.pointer_model", planted.pointer_model(12, 12)),
        ("in part", "a model that copies what stood 6 back", looks_back(6)),
        ("in part", "a model that copies what stood 5 back", looks_back(5)),
        ("in part", "planted.lag_model, which has a wrong key", planted.lag_model(12, 12)),
        ("induction", "an induction model that cannot say 1 of its 23 tokens", missing_tokens(1)),
        ("in part", "an induction model that cannot say 2 of its 23 tokens", missing_tokens(2)),
        ("in part", "an induction model that cannot say 6 of its 23 tokens", missing_tokens(6)),
        ("in part", "an induction model that never says the token just read", no_echo()),
        ("no", "random weights", Transformer(blank, seed=0)),
    ]


class AboutTheSame:
    """A diagnosis by other draws: equal to one with the same verdict and nearly the same interval.

    Not a tuple, so that `same` leaves the comparison to it.
    """

    def __init__(self, verdict, period, low, high):
        self.verdict, self.period, self.low, self.high = verdict, period, low, high

    def __eq__(self, other):
        near = abs(self.low - other.low) < 0.05 and abs(self.high - other.high) < 0.05
        return self.verdict == other.verdict and near


@functools.cache  # the models of known_habits are asked again and again
def counted_right(model, period, n_tokens=1000, n_rows=None, everywhere=False):
    """(right, n): of about n_tokens predictable tokens at one period, or of all those of n_rows."""
    n = min(model.cfg.n_ctx, model.cfg.d_vocab)
    generator, batch = seeded(OFFSET + period), n_rows or n_tokens
    drawn = repeated_tokens(batch, n, model.cfg.d_vocab, (period, period), generator)
    counted = last_copy(drawn) | everywhere
    if n_rows is None:
        enough = int((counted.sum(dim=1).cumsum(dim=0) < n_tokens).sum()) + 1
        drawn, counted = drawn._replace(tokens=drawn.tokens[:enough]), counted[:enough]
    right = predict(model, drawn.tokens).correct[counted]
    return int(right.sum()), len(right)


def all_periods(model):
    return range(1, min(model.cfg.n_ctx, model.cfg.d_vocab) - 2)


def diagnosis(periods=all_periods, decides="worst", shown="worst", margin=True, **counting):
    """diagnose with one thing changed; with the defaults it is right."""

    def diagnose(model, n_tokens=1000):
        tried = list(periods(model))
        counts = [counted_right(model, period, n_tokens, **counting) for period in tried]
        intervals = [accuracy_interval(*count) for count in counts]
        lows = [low for low, _ in intervals]
        if not margin:
            lows = [right / n for right, n in counts]
        least, most = min(lows), max(lows)
        if decides == "best":
            least = most
        if decides == "mean":
            least = most = sum(lows) / len(lows)
        verdict = "in part" if most > 0.5 else "no"
        if least >= 0.9:
            verdict = "induction"
        pick = intervals.index(min(intervals) if shown == "worst" else max(intervals))
        return AboutTheSame(verdict, tried[pick], *intervals[pick])

    return diagnose


DIAGNOSIS_MISTAKES = {
    "one good period is enough for it; any habit has that": diagnosis(decides="best"),
    "the accuracies were averaged over the periods": diagnosis(decides="mean"),
    "all positions were counted, also those where nobody can know the next token": (
        diagnosis(everywhere=True)
    ),
    "a fixed number of sequences was drawn: at the longest periods that is a handful of tokens": (
        diagnosis(n_rows=32)
    ),
    "the share itself was held against .9; its interval may reach far below": (
        diagnosis(margin=False)
    ),
}
BEST_SHOWN = {"the interval is that of the best period; show the worst": diagnosis(shown="best")}
ONE_PERIOD = {
    "only one period was tried: a model that was trained on that one passes": (
        diagnosis(periods=lambda model: [10])
    )
}
