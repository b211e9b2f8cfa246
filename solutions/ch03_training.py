"""Chapter 3. Training: the data, the loss, one step, and two instruments for what training did.

Axis words: batch pos vocab. tokens [batch, pos] begin with BOS, token 0. The prediction made at
position i is about the token at i + 1. Losses in nats. "Predictable": the next token follows from
what was read, if one notices the repeat.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from minitransformer import BOS, Transformer
from minitransformer.data import Repeats, repeated_tokens
from minitransformer.evaluate import predict


def make_repeated_tokens(
    batch: int, length: int, d_vocab: int, periods: tuple[int, int], generator: torch.Generator
) -> Tensor:
    """Rows that only their own past can explain: BOS, a prefix, a block, and the block again and
    again to the end.

    length 12, prefix 3, period 4:    BOS  a b c  d e f g  d e f g

    -> tokens [batch, length], torch.long. Drawn anew for *each row*, from `generator` and nothing
    else:
    - the period: each of periods[0] ... periods[1], both included, equally likely;
    - the length of the prefix: each of 0 ... length - 3 - period (so that, of the second copy, at
      least one token is read and one more can be predicted), equally likely;
    - the tokens of prefix and block: all different, from 1 ... d_vocab - 1, each equally likely.
      BOS comes first only.
    """
    # YOUR CODE: for each row period, prefix, tokens, and which stands where; roughly 9 lines
    tokens = torch.full((batch, length), BOS)
    column = torch.arange(length - 1)
    for row in tokens:
        period = int(torch.randint(periods[0], periods[1] + 1, (1,), generator=generator))
        prefix = int(torch.randint(0, length - 2 - period, (1,), generator=generator))
        drawn = 1 + torch.randperm(d_vocab - 1, generator=generator)
        in_block = prefix + (column - prefix) % period
        row[1:] = drawn[torch.where(column < prefix, column, in_block)]
    return tokens


def predictable_mask(tokens: Tensor) -> Tensor:
    """Where is the next token known? Wherever the token just read has been read before.

    tokens [batch, pos] -> bool [batch, pos]: True at i if some j < i has tokens[j] == tokens[i]. In
    the rows of make_repeated_tokens a token comes twice only because the block came round, so its
    follower is known; the mask looks at nothing later than i. (The last position is judged like any
    other, although its next token lies outside the row.)
    """
    # YOUR CODE: compare each position with each earlier one; roughly 2 lines
    same = tokens[:, :, None] == tokens[:, None, :]  # batch pos earlier
    return same.tril(-1).any(dim=-1)


def chance_loss(n: int, seen: int = 0, margin: float = 0.0) -> float:
    """The loss in nats, -log p(right token), if the logits say only this:

    of n tokens, `seen` are ruled out (probability 0); of those left, one is right and has a logit
    that is `margin` higher than that of all the others, which are equal. A closed form, also for
    `seen` and `margin` together: no tensors, no sampling.
    - chance_loss(n): pure guessing among n tokens.
    - chance_loss(n, seen=k - 1): the best guess at the k-th token that is drawn without
      replacement.
    - chance_loss(n, margin=s): a model that knows, as firmly as s says; the hand-built models of
      minitransformer.planted. Raises ValueError unless 0 <= seen < n.
    """
    # YOUR CODE: how many are left, their softmax, its logarithm; roughly 4 lines
    if not 0 <= seen < n:
        raise ValueError(f"of {n} tokens 0 to {n - 1} can be ruled out, not {seen}.")
    others = n - seen - 1
    return math.log1p(others * math.exp(-margin))


def training_step_by_hand(
    model: Transformer, optimizer: torch.optim.Optimizer, tokens: Tensor, elsewhere: float = 0.1
) -> float:
    """Descend the loss once; returns the loss before the step, in nats.

    tokens [batch, pos]; the last one is not read, only predicted (pos may be n_ctx + 1). The loss
    is a weighted mean of all -log p: weight 1 where predictable_mask says that the next token is
    known, weight `elsewhere` where it is not (weighted mean: divide by the sum of the weights).
    Gradients left over from earlier must not count.
    """
    # YOUR CODE: predict, compare, weigh; then clear, backward, step; roughly 8 lines
    log_probs = model(tokens[:, :-1]).log_softmax(dim=-1)  # batch pos-1 vocab
    losses = -log_probs.gather(2, tokens[:, 1:, None])[..., 0]  # batch pos-1
    weight = torch.where(predictable_mask(tokens)[:, :-1], 1.0, elsewhere)  # batch pos-1
    loss = (weight * losses).sum() / weight.sum()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


def crossing_step(steps: Sequence[int], values: Sequence[float], share: float = 0.5) -> float:
    """When had a curve gone `share` of its way, from its first value to its last, for the first
    time?

    steps rise; values, one for each, may rise or fall, and go back and forth. share: above 0, at
    most 1. Between two measurements the curve is a straight line. Returns a step, usually between
    two of `steps`. Raises ValueError if the last value equals the first: it went nowhere.
    """
    # YOUR CODE: values as shares of the way; the first that is there; interpolate; roughly 7 lines
    first, last = values[0], values[-1]
    if first == last:
        raise ValueError(f"the curve ends where it began, at {first}.")
    gone = [(value - first) / (last - first) for value in values]
    i = next(i for i in range(1, len(gone)) if gone[i] >= share)
    between = (share - gone[i - 1]) / (gone[i] - gone[i - 1])
    return steps[i - 1] + between * (steps[i] - steps[i - 1])


class Diagnosis(NamedTuple):
    """A verdict, and the accuracy it rests on: that at the period where the model does worst."""

    verdict: str  # "induction", "in part" or "no"
    period: int
    low: float  # the accuracy there lies between low and high
    high: float


def accuracy_interval(right: int, n: int) -> tuple[float, float]:
    """Given. Which accuracies go with `right` of n? The 95 % interval of Wilson 1927, "Probable
    Inference, the Law of Succession, and Statistical Inference"; it treats the n as independent.
    """
    z = 1.96
    middle = (right + z * z / 2) / (n + z * z)
    half = z / (n + z * z) * math.sqrt(right * (n - right) / n + z * z / 4)
    return max(0.0, middle - half), min(1.0, middle + half)


def one_copy(repeats: Repeats, generator: torch.Generator) -> Tensor:
    """Given. [batch, pos - 1] bool: of all the times that a token of the block is read again and
    its follower can be predicted, one, drawn with `generator`.

    So each token counts once per sequence: what a model does with it at the other copies says
    little that is new, and would make an interval too narrow. And none of them, early or late, is
    left out: a habit that begins late, or ends early, cannot hide.
    """
    known, read = repeats.predictable[:, :-1], repeats.tokens[:, :-1]
    drawn = torch.rand(known.shape, generator=generator).masked_fill(~known, -1.0)
    same = read[:, :, None] == read[:, None, :]  # batch pos other
    highest = drawn[:, None, :].masked_fill(~same, -1.0).amax(dim=-1)  # batch pos
    return known & (drawn == highest)


@torch.no_grad()
def diagnose(model: Transformer, n_tokens: int = 1000) -> Diagnosis:
    """Does a model do induction? Judged by its predictions, period by period.

    At each period that fits, predict `n_tokens` tokens, in each sequence those of `one_copy`, not
    fewer where periods are long and each sequence has only one; `accuracy_interval` says what the
    accuracy may be.
    - "induction": at *every* period the lower end is at least .9;
    - "in part": not that, but at some period the lower end is above .5. Many faults look like this:
      a fixed distance (right at periods that divide it), a wrong key (wrong where a repeat has just
      begun, so at the longest periods), a late start (wrong until many tokens were read, so at
      short periods), tokens it cannot say (a bit wrong at every period);
    - "no": neither.

    The interval that is returned is that of the period with the fewest right tokens, the shortest
    such period. The longest sequence that fits has n tokens, n the smaller of n_ctx and d_vocab (a
    row's tokens are distinct); periods then run from 1 to n - 3. Use a seeded generator, so that a
    model gets the same verdict every time.
    """
    # YOUR CODE: for each period draw, predict, until there is enough; then judge; roughly 15 lines
    n = min(model.cfg.n_ctx, model.cfg.d_vocab)
    generator = torch.Generator().manual_seed(0)
    intervals = []  # of period 1, 2, ...
    for period in range(1, n - 2):
        right = torch.empty(0, dtype=torch.bool)
        while len(right) < n_tokens:
            repeats = repeated_tokens(64, n, model.cfg.d_vocab, (period, period), generator)
            correct = predict(model, repeats.tokens).correct
            right = torch.cat([right, correct[one_copy(repeats, generator)]])
        intervals.append(accuracy_interval(int(right[:n_tokens].sum()), n_tokens))
    worst = min(intervals)
    verdict = "in part" if max(intervals)[0] > 0.5 else "no"
    if worst[0] >= 0.9:
        verdict = "induction"
    return Diagnosis(verdict, 1 + intervals.index(worst), *worst)
