"""What the checks of chapter 3 compare with, first part: rows, masks and losses by loops; each can
be made wrong.
"""

import math

import torch

from minitransformer import BOS
from tests.exercises.oracles.ch04 import predictable_by_loops

# make_repeated_tokens


def above_longest(length, period, periods):
    """The prefix is shorter than this."""
    return length - 2 - period


def again_and_again(column, prefix, period):
    """Which drawn token stands in this column."""
    return column if column < prefix else prefix + (column - prefix) % period


def prefix_too(column, prefix, period):
    return column % (prefix + period)


def twice(column, prefix, period):
    if column < prefix + 2 * period:
        return again_and_again(column, prefix, period)
    return column - period


def any_period(periods, generator):
    return int(torch.randint(periods[0], periods[1] + 1, (1,), generator=generator))


def all_but_longest(periods, generator):
    return int(torch.randint(periods[0], periods[1], (1,), generator=generator))


def short_ones_more(periods, generator):
    doublings = torch.rand(1, generator=generator).item()
    shortest, longest = periods
    ratio = (longest + 1) / shortest
    return int(shortest * ratio**doublings)


def shuffle(d_vocab, generator):
    return 1 + torch.randperm(d_vocab - 1, generator=generator)


def rows(period=any_period, above=above_longest, draw=shuffle, which=again_and_again, once=()):
    """make_repeated_tokens with one thing changed; with the defaults it is right.

    once: what is drawn for the first row only.
    """

    def make(batch, length, d_vocab, periods, generator):
        tokens = torch.full((batch, length), BOS)
        for row in range(batch):
            if row == 0 or "period" not in once:
                n = period(periods, generator)
            if row == 0 or "prefix" not in once:
                highest = max(1, above(length, n, periods))
                before = int(torch.randint(0, highest, (1,), generator=generator))
            if row == 0 or "tokens" not in once:
                drawn = draw(d_vocab, generator)
            tokens[row, 1:] = drawn[[which(column, before, n) for column in range(length - 1)]]
        return tokens

    return make


def without_bos(batch, length, d_vocab, periods, generator):
    return rows()(batch, length + 1, d_vocab, periods, generator)[:, 1:]


def global_state(batch, length, d_vocab, periods, generator):
    return rows()(batch, length, d_vocab, periods, None)


ROW_MISTAKES = {
    "the longest period never comes: randint leaves out its upper end": rows(
        period=all_but_longest
    ),
    "the longest prefix never comes: randint leaves out its upper end": rows(
        above=lambda length, period, periods: length - 3 - period
    ),
    "the prefix may be one token too long: of the second copy two tokens must fit": rows(
        above=lambda length, period, periods: length - 1 - period
    ),
    "the prefix leaves room for the longest period; it may fill what its own period leaves": rows(
        above=lambda length, period, periods: length - 2 - periods[1]
    ),
    "one period was drawn for the whole batch": rows(once=("period",)),
    "one prefix was drawn for the whole batch": rows(
        above=lambda length, period, periods: length - 2 - periods[1], once=("prefix",)
    ),
    "one shuffle was drawn for the whole batch": rows(once=("tokens",)),
    "there is no prefix, so the repeat starts at a place that can be guessed": rows(
        above=lambda length, period, periods: 1
    ),
    "the prefix comes round again with the block": rows(which=prefix_too),
    "there are two copies only, then new tokens": rows(which=twice),
    "tokens were drawn with replacement": rows(
        draw=lambda d_vocab, generator: torch.randint(1, d_vocab, (99,), generator=generator)
    ),
    "BOS was drawn as an ordinary token": rows(
        draw=lambda d_vocab, generator: torch.randperm(d_vocab, generator=generator)
    ),
    "the last token of the vocabulary never comes": rows(
        draw=lambda d_vocab, generator: shuffle(d_vocab - 1, generator)
    ),
    "BOS is missing": without_bos,
    "the global random state was used instead of `generator`": global_state,
}
UNEVEN_ROWS = {
    "short periods come more often; all must be equally likely": rows(period=short_ones_more)
}


def period_and_prefix(row):
    """How a row was made: its first token that comes a second time says it. (None, None) if there
    is none.
    """
    for i, token in enumerate(row):
        if token in row[:i]:
            return i - row.index(token), row.index(token) - 1
    return None, None


# predictable_mask


def before(i, j):
    return j < i


def read_before(earlier=before, ahead=0, least=1, most=99):
    """predictable_mask in loops: at how many j with `earlier(i + ahead, j)` does the token at
    i + ahead stand? At least `least`, at most `most`.
    """

    def mask(tokens):
        n = tokens.shape[1]
        hit = torch.zeros(tokens.shape, dtype=torch.bool)
        for b, row in enumerate(tokens.tolist()):
            for i in range(n):
                at = i + ahead
                if 0 <= at < n:
                    found = sum(row[at] == row[j] for j in range(n) if earlier(at, j))
                    hit[b, i] = least <= found <= most
        return hit

    return mask


def afterwards(change):
    """The right mask, and then a change."""
    return lambda tokens: change(read_before()(tokens), tokens)


def last_never(mask, tokens):
    mask[:, -1] = False
    return mask


def in_any_row(tokens):
    return read_before()(tokens.reshape(1, -1)).view_as(tokens)


MASK_MISTAKES = {
    "each position was compared with itself too, so everything looks repeated": (
        read_before(lambda i, j: j <= i)
    ),
    "later positions were looked at: a model cannot do that": read_before(lambda i, j: j != i),
    "only later positions were looked at: that is the wrong triangle of the table": (
        read_before(lambda i, j: j > i)
    ),
    "off by one: it marks the token *before* the second copy, where nobody can know what comes": (
        read_before(ahead=1)
    ),
    "off by one: it marks the token after the one that was read before": read_before(ahead=-1),
    "only the token just before was compared": read_before(lambda i, j: j == i - 1),
    "the token just before was left out": read_before(lambda i, j: j < i - 1),
    "position 0 was left out": read_before(lambda i, j: 0 < j < i),
    "once True, it stays True to the end of the row": afterwards(
        lambda mask, tokens: mask.cummax(dim=1).values
    ),
    "only the second time counts here; the third is as good": read_before(most=1),
    "only the third time counts here; the second is enough": read_before(least=2),
    "the last position is judged like any other": afterwards(last_never),
    "BOS is judged like any other token": afterwards(lambda mask, tokens: mask & (tokens != BOS)),
    "the whole batch was searched; each row knows itself only": in_any_row,
    "it asks whether the same *pair* came before; what was read is enough": predictable_by_loops,
    "True and False are exchanged": afterwards(lambda mask, tokens: ~mask),
}


# chance_loss


def written_out(n, seen=0, margin=0.0):
    """chance_loss from the logits themselves, in float64."""
    logits = torch.full((n,), 3.0, dtype=torch.float64)
    logits[0] += margin
    logits[n - seen :] = -math.inf
    return -logits.log_softmax(dim=0)[0].item()


def loss_mistake(change):
    return lambda n, seen=0, margin=0.0: change(n, seen, margin)


LOSS_MISTAKES = {
    "the logarithm has base 2; nats need the natural one": (
        loss_mistake(lambda n, seen, margin: written_out(n, seen, margin) / math.log(2))
    ),
    "the logarithm has base 10; nats need the natural one": (
        loss_mistake(lambda n, seen, margin: written_out(n, seen, margin) / math.log(10))
    ),
    "the tokens that are ruled out still count": (
        loss_mistake(lambda n, seen, margin: written_out(n, 0, margin))
    ),
    "one token too many is ruled out: n - seen are left": (
        loss_mistake(lambda n, seen, margin: written_out(n, min(seen + 1, n - 1), margin))
    ),
    "the right token was counted among the others, of which there are n - seen - 1": (
        loss_mistake(lambda n, seen, margin: written_out(n + 1, seen, margin))
    ),
    "a minus sign is missing: a loss is -log p, never negative": (
        loss_mistake(lambda n, seen, margin: -written_out(n, seen, margin))
    ),
    "that is the probability; the loss is -log of it": (
        loss_mistake(lambda n, seen, margin: math.exp(-written_out(n, seen, margin)))
    ),
    "the margin counts against the right token": (
        loss_mistake(lambda n, seen, margin: written_out(n, seen, -margin))
    ),
    "the margin is missing": loss_mistake(lambda n, seen, margin: written_out(n, seen)),
    "the margin is missing where tokens are ruled out": (
        loss_mistake(lambda n, seen, margin: written_out(n, seen, 0 if seen else margin))
    ),
    "the tokens that are ruled out still count where there is a margin": (
        loss_mistake(lambda n, seen, margin: written_out(n, 0 if margin else seen, margin))
    ),
    "the margin was taken off the loss; it belongs into the softmax": (
        loss_mistake(lambda n, seen, margin: written_out(n, seen) - margin)
    ),
    "the margin is no probability: the right token is exp(margin) times as likely, not 1 + margin "
    "times": loss_mistake(lambda n, seen, margin: math.log1p((n - seen - 1) / (1 + margin))),
    "the margin is no probability: the right token is exp(margin) times as likely, not margin "
    "times": loss_mistake(lambda n, seen, margin: math.log1p((n - seen - 1) / (margin or 1))),
    "the others' share is missing below the fraction: that is -margin, or no loss at all": (
        loss_mistake(lambda n, seen, margin: (n - seen - 1) * math.exp(-margin))
    ),
}
