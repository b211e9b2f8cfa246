"""What the checks of chapter 3 compare with: loops, logits written out, models of known habits;
each can be made wrong.
"""

import math

import torch

from minitransformer import BOS

# make_repeated_tokens


def rows(longest=True, per_row=True, prefix=True, replacement=False, first=1, last=True, bos=True):
    """make_repeated_tokens with one thing changed; with the defaults it is right."""

    def make(batch, length, d_vocab, periods, generator):
        n = length - 1 if bos else length
        tokens = torch.full((batch, length), BOS)
        for row in range(batch):
            if row == 0 or per_row:
                above = periods[1] + longest
                period = int(torch.randint(periods[0], above, (1,), generator=generator))
            before = 0
            if prefix:
                before = int(torch.randint(0, length - 2 - period, (1,), generator=generator))
            drawn = torch.randperm(d_vocab - first - (not last), generator=generator) + first
            if replacement:
                drawn = torch.randint(1, d_vocab, (d_vocab,), generator=generator)
            places = [j if j < before else before + (j - before) % period for j in range(n)]
            tokens[row, length - n :] = drawn[places]
        return tokens

    return make


def global_state(batch, length, d_vocab, periods, generator):
    return rows()(batch, length, d_vocab, periods, None)


ROW_MISTAKES = {
    "the longest period never comes: randint leaves out its upper end": rows(longest=False),
    "one period was drawn for the whole batch": rows(per_row=False),
    "there is no prefix, so the repeat starts at a place that can be guessed": rows(prefix=False),
    "tokens were drawn with replacement": rows(replacement=True),
    "BOS was drawn as an ordinary token": rows(first=0),
    "the last token of the vocabulary never comes": rows(last=False),
    "BOS is missing": rows(bos=False),
    "the global random state was used instead of `generator`": global_state,
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


def read_before(earlier=before, ahead=0):
    """predictable_mask in loops: does the token at i + ahead also stand at a j with
    `earlier(i + ahead, j)`?
    """

    def mask(tokens):
        n = tokens.shape[1]
        hit = torch.zeros(tokens.shape, dtype=torch.bool)
        for b, row in enumerate(tokens.tolist()):
            for i in range(n):
                at = i + ahead
                if 0 <= at < n:
                    hit[b, i] = any(row[at] == row[j] for j in range(n) if earlier(at, j))
        return hit

    return mask


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
    "the margin counts against the right token": (
        loss_mistake(lambda n, seen, margin: written_out(n, seen, -margin))
    ),
    "the margin is missing": loss_mistake(lambda n, seen, margin: written_out(n, seen)),
}


# training_step_by_hand


def loss_in_loops(model, tokens, elsewhere, shift=1, mask_shift=0, weighted=True, mean=True):
    """The loss of training_step_by_hand, token by token; with the defaults it is right."""
    log_probs, known = model(tokens[:, :-1]).log_softmax(dim=-1), read_before()(tokens)
    total = weights = 0.0
    for b, row in enumerate(tokens.tolist()):
        for i in range(len(row) - 1):
            weight = 1.0 if known[b, i + mask_shift] or not weighted else elsewhere
            total = total - weight * log_probs[b, i, row[i + shift]]
            weights += weight
    return total / (weights if mean else tokens[:, 1:].numel())


def step_with(clear=True, go=True, **changes):
    """training_step_by_hand with one thing changed; with the defaults it is right."""

    def step(model, optimizer, tokens, elsewhere=0.1):
        loss = loss_in_loops(model, tokens, elsewhere, **changes)
        if clear:
            optimizer.zero_grad()
        loss.backward()
        if go:
            optimizer.step()
        return loss.item()

    return step


STEP_MISTAKES = {
    "each position was asked for the token it has just read, not for the next one": (
        step_with(shift=0)
    ),
    "the mask is shifted: position i counts fully if the token *at* i was read before": (
        step_with(mask_shift=1)
    ),
    "all positions weigh the same": step_with(weighted=False),
    "the weighted sum was divided by the number of positions, not by the sum of the weights": (
        step_with(mean=False)
    ),
}


# crossing_step


def crossing(from_zero=False, between="line", last=False, rising=False):
    """crossing_step with one thing changed; with the defaults it is right."""

    def cross(steps, values, share=0.5):
        start = 0.0 if from_zero else values[0]
        level = start + share * (values[-1] - start)
        sign = 1 if rising or values[-1] > values[0] else -1
        there = [i for i in range(1, len(values)) if sign * values[i] >= sign * level]
        if last:
            there = [i for i in there if sign * values[i - 1] < sign * level][::-1]
        i = there[0]
        if between == "index":
            return float(i)
        if between == "none":
            return steps[i]
        part = (level - values[i - 1]) / (values[i] - values[i - 1])
        return steps[i - 1] + part * (steps[i] - steps[i - 1])

    return cross


CROSSING_MISTAKES = {
    "the share is of the last value, not of the way from the first to the last": (
        crossing(from_zero=True)
    ),
    "a measured step was returned; go on a straight line between two measurements": (
        crossing(between="none")
    ),
    "the index of the measurement was returned, not a step": crossing(between="index"),
    "the last crossing was taken, not the first": crossing(last=True),
    "a falling curve was treated like a rising one": crossing(rising=True),
}
