"""Sequences that can only be predicted in context: random tokens, then the same random tokens
again.

One row, worked by hand: length 12, prefix 3, period 4, and a shuffled vocabulary that begins 17 5
42 8 30 61 2 ...

    column of the shuffle      0  1  2 | 3  4  5  6 | 3  4  5  6       prefix once, then the block again and again
    position      0     1  2  3   4  5  6  7    8  9 10 11
    token        BOS   17  5 42   8 30 61  2    8 30 61  2
    predictable?                                x  x  x  x             "from here, is the *next* token determined?"

At position 8 the model reads 8 for the second time, so 30 must come next. At position 7 it reads 2
for the first time: nobody can know that the block starts over. Period and prefix are drawn afresh
for every row. If all rows had one period, "copy what stood 4 back" would be a perfect strategy, and
the model would learn that instead of induction."""

from typing import NamedTuple

import torch
from torch import Tensor

from .config import require_periods, require_whole

BOS = 0
# share of rows in which only the last token is predictable; without them nothing is ever needed
# there
LATEST = 0.25


class Batch(NamedTuple):
    """What one step of training needs to know, whatever the task."""

    tokens: Tensor  # [batch, pos]
    predictable: Tensor  # [batch, pos] bool: can the token after this one be known?


class Repeats(NamedTuple):
    """A batch of repeated random sequences and how it was made."""

    tokens: Tensor  # [batch, pos], BOS first
    # [batch, pos] bool: is the token after this one determined by what has been read?
    predictable: Tensor
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
    """Draw a batch: BOS, a prefix of distinct tokens, a block of distinct tokens, and the block
    again to the end.

    periods: shortest and longest block. Each row draws one, log-uniformly: short ones are where the
    last positions have something to copy. prefix: its length, or None to draw one per row. Raises
    ValueError if the parts do not fit."""
    require_periods(periods)
    low, high = periods
    if prefix is not None:  # None: one is drawn per row
        require_whole("prefix", prefix, least=0)
    check_periods(length, d_vocab, low, high + (prefix or 0))
    check_draw(batch, generator)
    period = (
        (low * ((high + 1) / low) ** torch.rand(batch, generator=generator)).long().clamp(max=high)
    )
    drawn = (
        draw_prefix(length - 3 - period, generator)
        if prefix is None
        else torch.full((batch,), prefix)
    )
    # every token but BOS
    shuffled = torch.rand(batch, d_vocab - 1, generator=generator).argsort(dim=1) + 1
    column = torch.arange(length - 1).expand(batch, -1)
    in_block = (column - drawn[:, None]) % period[:, None] + drawn[:, None]
    tokens = shuffled.gather(1, torch.where(column < drawn[:, None], column, in_block))
    tokens = torch.cat([torch.full((batch, 1), BOS), tokens], dim=1)
    second_copy = 1 + drawn + period  # the position where the block starts again
    return Repeats(tokens, torch.arange(length) >= second_copy[:, None], drawn, period)


def draw_prefix(longest: Tensor, generator: torch.Generator) -> Tensor:
    """[batch] prefix lengths: uniform from 0 to `longest`, but `longest` itself in a share LATEST
    of the rows.
    """
    uniform = (torch.rand(len(longest), generator=generator) * (longest + 1)).long()
    return torch.where(torch.rand(len(longest), generator=generator) < LATEST, longest, uniform)


def random_tokens(batch: int, length: int, d_vocab: int, generator: torch.Generator) -> Tensor:
    """[batch, length]: BOS, then independent uniform tokens, which cost any model ln(d_vocab -
    1).
    """
    require_whole("length", length)
    require_whole("d_vocab", d_vocab, least=2)
    check_draw(batch, generator)
    tokens = torch.randint(1, d_vocab, (batch, length), generator=generator)
    tokens[:, 0] = BOS
    return tokens


def check_periods(length: int, d_vocab: int, low: int, high: int) -> None:
    """Raises ValueError unless blocks of low to high tokens (prefix included) fit the length and
    the vocabulary.

    Besides them there must be room for BOS, for one token of the second copy, and for the one that
    it predicts."""
    require_whole("length", length)
    require_whole("d_vocab", d_vocab)
    if length < 4:
        raise ValueError(
            f"nothing can repeat in sequences of {length}: with BOS, that takes at least 4 tokens."
        )
    if not 1 <= low <= high <= length - 3:
        raise ValueError(
            f"periods must satisfy 1 <= low <= high (+ prefix) <= length - 3 = {length - 3}: {low} to {high}."
        )
    if d_vocab < length:
        raise ValueError(
            f"distinct tokens for sequences of {length} need d_vocab >= {length}, not {d_vocab}."
        )


def check_draw(batch: int, generator: torch.Generator | None) -> None:
    """Raises ValueError, or TypeError for what is no generator (a seed, for example)."""
    require_whole("batch", batch)
    if not isinstance(generator, torch.Generator | None):
        raise TypeError(
            f"generator must be a generator, like torch.Generator().manual_seed(0), not {generator!r}."
        )
