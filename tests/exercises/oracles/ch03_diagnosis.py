"""What the checks of `diagnose` compare with: models of known habits, and the diagnosis by other
draws, which can be made wrong.
"""

import functools
from collections import Counter
from typing import NamedTuple

import torch

from minitransformer import ModelConfig, Transformer, planted
from minitransformer.data import repeated_tokens
from minitransformer.evaluate import predict
from solutions.ch03_training import accuracy_interval, one_copy
from tests.exercises.oracles.ch03 import period_and_prefix
from tests.material import seeded

OFFSET = 340  # of the seeds: with these draws every mistake below is seen to be one


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


class Lapsing(Transformer):
    """A model that does induction, but at some periods is wrong about one row in so many of those
    that it sees, {period: so many}: a known share of them, whatever is drawn.
    """

    def __init__(self, one_in, d_vocab=24, n_ctx=12):
        super().__init__(ModelConfig(n_heads=1, d_model=2, d_vocab=d_vocab, n_ctx=n_ctx))
        self.one_in, self.seen = one_in, Counter()

    def forward(self, tokens, *others):
        following = torch.zeros_like(tokens)
        for row, read in enumerate(tokens.tolist()):
            period = period_and_prefix(read)[0]
            self.seen[period] += 1
            if period not in self.one_in or self.seen[period] % self.one_in[period]:
                following[row, period - 1 :] = tokens[row, : len(read) + 1 - period]
        return torch.nn.functional.one_hot(following, self.cfg.d_vocab).float()


class Awake(Transformer):
    """A model that says what another one says, but only at positions first, ..., last - 1."""

    def __init__(self, other, first=0, last=None):
        super().__init__(other.cfg)
        self.load_state_dict(other.state_dict())
        self.first, self.last = first, last or other.cfg.n_ctx

    def forward(self, tokens, *others):
        logits = super().forward(tokens, *others).clone()
        logits[:, : self.first] = 0.0
        logits[:, self.last :] = 0.0
        return logits


class Remembering(Transformer):
    """A model with random weights that keeps every row it was run on."""

    def __init__(self, cfg):
        super().__init__(cfg, seed=0)
        self.rows = []

    def forward(self, tokens, *others):
        self.rows += tokens.tolist()
        return super().forward(tokens, *others)


OFTEN = {period: 3 for period in (1, 2, 3, 5, 6, 7, 8, 9)}  # not at 4


@functools.cache
def known_habits():
    """[(verdict, name, model, n_tokens)]"""
    blank = ModelConfig(n_heads=2, d_model=8, d_head=5, d_vocab=10, n_ctx=10)
    return [
        ("in part", "one that never says the token just read", no_echo(16, 16), 200),
        ("induction", "planted.induction_model", planted.induction_model(12, 12), 200),
        ("in part", "a model that copies what stood 6 back", looks_back(6), 200),
        ("in part", "planted.lag_model, which has a wrong key", planted.lag_model(12, 12), 200),
        ("induction", "one that cannot say 1 of its 23 tokens", missing_tokens(1), 500),
        ("in part", "wrong in every third row, but never at period 4", Lapsing(OFTEN), 200),
        ("in part", "at period 9 wrong in every 12th row", Lapsing({9: 12}), 500),
        ("in part", "at period 9 wrong in every 9th row", Lapsing({9: 9}), 500),
        ("no", "one that cannot say 12 of its 23 tokens", missing_tokens(12), 200),
        ("no", "one that cannot say 14 of its 23 tokens", missing_tokens(14), 200),
        ("no", "random weights", Transformer(blank, seed=0), 200),
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


# which predictions count: (repeats, generator) -> [batch, pos - 1] bool


def everywhere(repeats, generator):
    return repeats.predictable[:, :-1]


def last_copy(repeats, generator):
    place = torch.arange(repeats.tokens.shape[1] - 1)
    in_time = place >= repeats.tokens.shape[1] - 1 - repeats.period[:, None]
    return in_time & repeats.predictable[:, :-1]


def first_copy(repeats, generator):
    place = torch.arange(repeats.tokens.shape[1] - 1)
    early = place < 1 + repeats.prefix[:, None] + 2 * repeats.period[:, None]
    return early & repeats.predictable[:, :-1]


def last_position(repeats, generator):
    counted = torch.zeros_like(repeats.predictable[:, :-1])
    counted[:, -1] = True
    return counted


@functools.cache  # the models of known_habits are asked again and again
def counted_right(model, period, n_tokens=1000, n_rows=None, counting=one_copy):
    """(right, n): of about n_tokens predictable tokens at one period, or of all those of n_rows."""
    n = min(model.cfg.n_ctx, model.cfg.d_vocab)
    generator, batch = seeded(OFFSET + period), n_rows or n_tokens
    drawn = repeated_tokens(batch, n, model.cfg.d_vocab, (period, period), generator)
    counted = counting(drawn, generator)
    if n_rows is None:
        enough = int((counted.sum(dim=1).cumsum(dim=0) < n_tokens).sum()) + 1
        drawn, counted = drawn._replace(tokens=drawn.tokens[:enough]), counted[:enough]
    right = predict(model, drawn.tokens).correct[counted]
    return int(right.sum()), len(right)


def all_periods(model):
    return range(1, min(model.cfg.n_ctx, model.cfg.d_vocab) - 2)


class Measured(NamedTuple):
    """At one period: the share of right tokens, and its interval."""

    share: float
    low: float
    high: float


def measured(model, period, n_tokens=1000, **counting):
    right, n = counted_right(model, period, n_tokens, **counting)
    return Measured(right / n, *accuracy_interval(right, n))


def least(what):
    return lambda every: min(getattr(one, what) for one in every)


def most(what):
    return lambda every: max(getattr(one, what) for one in every)


def mean_low(every):
    return sum(one.low for one in every) / len(every)


def up_to_the_first_failure(every):
    for i, one in enumerate(every):
        if one.low < 0.9:
            return every[: i + 1]
    return every


WORST_LOW, BEST_LOW = least("low"), most("low")


def diagnosis(
    periods=all_periods,
    induction=WORST_LOW,
    in_part=BEST_LOW,
    shown=min,
    kept=list,
    n_tokens=None,
    **counting,
):
    """diagnose with one thing changed; with the defaults it is right.

    induction, in_part: the numbers that are held against .9 and .5.
    """
    fixed = n_tokens

    def diagnose(model, n_tokens=1000):
        tried = list(periods(model))
        every = kept([measured(model, each, fixed or n_tokens, **counting) for each in tried])
        verdict = "in part" if in_part(every) > 0.5 else "no"
        if induction(every) >= 0.9:
            verdict = "induction"
        pick = shown(range(len(every)), key=lambda i: every[i].low)
        return AboutTheSame(verdict, tried[pick], every[pick].low, every[pick].high)

    return diagnose


DIAGNOSIS_MISTAKES = {
    "one good period is enough for it; any habit has that": diagnosis(induction=BEST_LOW),
    "the accuracies were averaged over the periods": diagnosis(
        induction=mean_low, in_part=mean_low
    ),
    "the mean over the periods was held against .5; one good period is enough for `in part`": (
        diagnosis(in_part=mean_low)
    ),
    "the worst period was held against .5; one good period is enough for `in part`": (
        diagnosis(in_part=WORST_LOW)
    ),
    "it stops at the first period that fails; a later one may be good, or worse": (
        diagnosis(kept=up_to_the_first_failure)
    ),
    "a fixed number of sequences was drawn: at the longest periods that is a handful of tokens": (
        diagnosis(n_rows=32)
    ),
    "the share itself was held against .9; its interval may reach far below": (
        diagnosis(induction=least("share"))
    ),
    "the share itself was held against .5; its interval may reach below": (
        diagnosis(in_part=most("share"))
    ),
    "the shares themselves were held against .9 and .5; the lower end of the interval decides": (
        diagnosis(induction=least("share"), in_part=most("share"))
    ),
    "the upper ends were held against .9 and .5; the lower one decides": diagnosis(
        induction=least("high"), in_part=most("high")
    ),
    "the upper end was held against .9; the lower one decides": diagnosis(induction=least("high")),
    "the upper end was held against .5; the lower one decides": diagnosis(in_part=most("high")),
}
OTHER_COPIES = {
    "every predictable token was counted; of each token only one copy, that of `one_copy`": (
        diagnosis(counting=everywhere)
    ),
    "only the last copy of each token was counted; a model that begins late passes": (
        diagnosis(counting=last_copy)
    ),
    "only the first predictable copy of each token was counted; later ones may fail": (
        diagnosis(counting=first_copy)
    ),
    "only the last position was counted; each token of the block counts, by `one_copy`": (
        diagnosis(counting=last_position)
    ),
}
BEST_SHOWN = {"the interval is that of the best period; show the worst": diagnosis(shown=max)}
ALWAYS_1000 = {"n_tokens was not used: it is always 1000": diagnosis(n_tokens=1000)}
