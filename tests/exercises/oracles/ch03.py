"""What the checks of chapter 3 compare with: loops, logits written out, models of known habits;
each can be made wrong.
"""

import math

import torch

from minitransformer import BOS, planted
from minitransformer.data import repeated_tokens
from minitransformer.evaluate import predict


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def rows(
    longest=True,
    per_row=True,
    prefix=True,
    replacement=False,
    first=1,
    last=True,
    own=True,
    bos=True,
):
    """make_repeated_tokens with one thing changed; with the defaults it is right."""

    def make(batch, length, d_vocab, periods, generator):
        generator = generator if own else None
        tokens, n = torch.full((batch, length), BOS), length - 1 if bos else length
        for row in range(batch):
            if row == 0 or per_row:
                period = int(
                    torch.randint(periods[0], periods[1] + longest, (1,), generator=generator)
                )
            before = (
                int(torch.randint(0, length - 2 - period, (1,), generator=generator))
                if prefix
                else 0
            )
            drawn = torch.randperm(d_vocab - first - (not last), generator=generator) + first
            if replacement:
                drawn = torch.randint(1, d_vocab, (d_vocab,), generator=generator)
            places = [j if j < before else before + (j - before) % period for j in range(n)]
            tokens[row, length - n :] = drawn[places]
        return tokens

    return make


def period_and_prefix(row):
    """How a row was made: its first token that comes a second time says it. (None, None) if there
    is none.
    """
    for i, token in enumerate(row):
        if token in row[:i]:
            return i - row.index(token), row.index(token) - 1
    return None, None


def read_before(earlier=lambda i, j: j < i, at=lambda i: i):
    """predictable_mask in loops: is the token at `at(i)` the same as one that counts as
    `earlier`?
    """

    def mask(tokens):
        hit = torch.zeros(tokens.shape, dtype=torch.bool)
        n = tokens.shape[1]
        for b, row in enumerate(tokens.tolist()):
            for i in range(n):
                hit[b, i] = 0 <= at(i) < n and any(
                    row[at(i)] == row[j] for j in range(n) if earlier(at(i), j)
                )
        return hit

    return mask


def written_out(n, seen, margin):
    """chance_loss from the logits themselves, in float64."""
    logits = torch.full((n,), 3.0, dtype=torch.float64)
    logits[0] += margin
    logits[n - seen :] = -math.inf
    return -logits.log_softmax(dim=0)[0].item()


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


def crossing(from_zero=False, between="line", last=False, rising=False):
    """crossing_step with one thing changed; with the defaults it is right."""

    def cross(steps, values, share=0.5):
        start = 0.0 if from_zero else values[0]
        level, sign = (
            start + share * (values[-1] - start),
            1 if rising or values[-1] > values[0] else -1,
        )
        there = [i for i in range(1, len(values)) if sign * values[i] >= sign * level]
        if last:
            there = [i for i in there if sign * values[i - 1] < sign * level][::-1]
        i = there[0]
        if between == "index":
            return float(i)
        part = (level - values[i - 1]) / (values[i] - values[i - 1]) if between == "line" else 1.0
        return steps[i - 1] + part * (steps[i] - steps[i - 1])

    return cross


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


def verdict_from(judge, periods=lambda n: range(1, n - 2), everywhere=False):
    """diagnose with another judge of the accuracies, other periods, or all positions counted
    instead of the predictable.
    """

    def diagnosis(model):
        n, right = min(model.cfg.n_ctx, model.cfg.d_vocab), []
        for p in periods(n):
            repeats = repeated_tokens(32, n, model.cfg.d_vocab, (p, p), seeded(p))
            counted = repeats.predictable[:, :-1] | everywhere
            right.append(predict(model, repeats.tokens).correct[counted].float().mean().item())
        least, most = judge(right)
        return "induction" if least >= 0.9 else "some periods only" if most > 0.5 else "neither"

    return diagnosis
