"""Sequences that can only be predicted in context: random tokens, then the same tokens again.

One row, worked by hand: length 12, prefix 3, period 4, and a shuffled vocabulary that begins 17 5
42 8 30 61 2 ...

    column of the shuffle   0  1  2 | 3  4  5  6 | 3  4  5  6   prefix, then the block, repeated
    position      0         1  2  3   4  5  6  7   8  9 10 11
    token        BOS       17  5 42   8 30 61  2   8 30 61  2
    predictable?                                   x  x  x  x   is the *next* token determined?

At position 8 the model reads 8 for the second time, so 30 must come next. At position 7 it reads 2
for the first time: nobody can know that the block starts over. Period and prefix are drawn afresh
for every row. If all rows had one period, "copy what stood 4 back" would be a perfect strategy, and
the model would learn that instead of induction.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from .config import require, require_periods, require_whole

BOS = 0
# share of rows with the longest prefix: without them nothing is ever needed at the last position
LATEST = 0.25


class Batch(NamedTuple):
    """What one step of training needs to know, whatever the task."""

    tokens: Tensor  # [batch, pos]
    predictable: Tensor  # [batch, pos] bool: can the token after this one be known?


class Repeats(NamedTuple):
    """A batch of repeated random sequences and how it was made."""

    tokens: Tensor  # [batch, pos], BOS first
    predictable: Tensor  # [batch, pos] bool: does what was read determine the next token?
    prefix: Tensor  # [batch] random tokens between BOS and the block
    period: Tensor  # [batch] tokens in the block


def repeated_tokens(
    batch: int,
    length: int,
    d_vocab: int,
    periods: tuple[int, int],
    generator: torch.Generator,
    prefix: int | None = None,
) -> Repeats:
    """Draw a batch: BOS, a prefix and a block of distinct tokens, and the block again to the end.

    periods: shortest and longest block. Each row draws one, log-uniformly: short ones are where the
    last positions have something to copy. prefix: its length, or None to draw one per row. Raises
    ValueError if the parts do not fit.
    """
    require_periods(periods)
    low, high = periods
    if prefix is not None:  # None: one is drawn per row
        require_whole("prefix", prefix, least=0)
    check_periods(length, d_vocab, low, high + (prefix or 0))
    check_draw(batch, generator)
    chances = draw_chances(batch, d_vocab, generator, prefixes=prefix is None)
    return arranged(chances, length, periods, prefix)


class Chances(NamedTuple):
    """What chance decides of a batch: numbers between 0 and 1. None where nothing was drawn."""

    period: Tensor  # [batch] how many doublings of the shortest
    prefix: Tensor | None  # [batch] which share of the longest
    latest: Tensor | None  # [batch] is it the longest?
    order: Tensor  # [batch, vocab - 1] the tokens, in the order of their numbers


def draw_chances(batch: int, d_vocab: int, generator: torch.Generator, prefixes=True) -> Chances:
    drawn = [torch.rand(batch, generator=generator) for _ in range(3 if prefixes else 1)]
    period, prefix, latest = drawn if prefixes else [*drawn, None, None]
    return Chances(period, prefix, latest, torch.rand(batch, d_vocab - 1, generator=generator))


def arranged(
    chances: Chances, length: int, periods: tuple[int, int], prefix: int | None = None
) -> Repeats:
    """The batch that these make, with no more chance in it."""
    low, high = periods
    period = (low * ((high + 1) / low) ** chances.period).long().clamp(max=high)
    if prefix is None:
        longest = length - 3 - period
        uniform = (chances.prefix * (longest + 1)).long()
        drawn = torch.where(chances.latest < LATEST, longest, uniform)
    else:
        drawn = torch.full_like(period, prefix)
    batch = len(period)
    # the beginning of a shuffle: no more of it is ever needed
    not_bos = chances.order.topk(length - 1, dim=1, largest=False).indices + 1
    column = torch.arange(length - 1).expand(batch, -1)
    in_block = (column - drawn[:, None]) % period[:, None] + drawn[:, None]
    tokens = not_bos.gather(1, torch.where(column < drawn[:, None], column, in_block))
    tokens = torch.cat([torch.full((batch, 1), BOS), tokens], dim=1)
    second_copy = 1 + drawn + period  # the position where the block starts again
    return Repeats(tokens, torch.arange(length) >= second_copy[:, None], drawn, period)


def random_tokens(batch: int, length: int, d_vocab: int, generator: torch.Generator) -> Tensor:
    """[batch, length]: BOS, then uniform tokens: no model pays less than ln(d_vocab - 1)."""
    require_whole("length", length)
    require_whole("d_vocab", d_vocab, least=2)
    check_draw(batch, generator)
    tokens = torch.randint(1, d_vocab, (batch, length), generator=generator)
    tokens[:, 0] = BOS
    return tokens


def check_periods(length: int, d_vocab: int, low: int, high: int) -> None:
    """Raises ValueError unless blocks of low to high tokens (prefix included) fit.

    Besides them there must be room for BOS, for one token of the second copy, and for the one that
    it predicts.
    """
    require_whole("length", length)
    require_whole("d_vocab", d_vocab)
    longest, sequences = length - 3, f"sequences of {length}"
    least = "with BOS, that takes at least 4 tokens"
    require(length >= 4, f"nothing can repeat in {sequences}: {least}.")
    rule = f"1 <= low <= high (+ prefix) <= length - 3 = {longest}"
    require(1 <= low <= high <= longest, f"periods must satisfy {rule}: {low} to {high}.")
    need = f"distinct tokens for {sequences} need d_vocab >= {length}"
    require(d_vocab >= length, f"{need}, not {d_vocab}.")


def check_draw(batch: int, generator: torch.Generator | None) -> None:
    """Raises ValueError, or TypeError for what is no generator (a seed, for example)."""
    require_whole("batch", batch)
    example = "a generator, like torch.Generator().manual_seed(0)"
    fits = isinstance(generator, torch.Generator | None)
    require(fits, f"generator must be {example}, not {generator!r}.", TypeError)
