"""What chapter 4 is checked against: losses and rows by loops; each can be made wrong."""

import math

import torch

from minitransformer import BOS


def losses_by_loops(logits, tokens, shift=1):
    """The definition, one number at a time: [batch, pos - 1]."""
    losses = torch.zeros(tokens.shape[0], tokens.shape[1] - 1, dtype=logits.dtype)
    for b, i in losses.isfinite().nonzero().tolist():
        top = max(logits[b, i].tolist())
        norm = top + math.log(sum(math.exp(x - top) for x in logits[b, i].tolist()))
        losses[b, i] = norm - logits[b, i, tokens[b, i + shift]]
    return losses


def naive_losses(logits, tokens):
    return -logits.softmax(-1)[:, :-1].gather(2, tokens[:, 1:, None])[..., 0].log().mean(0)


def right_by_loops(model, tokens, predictable, shift=1, mask_shift=0, everywhere=False):
    """Per row, the list of rights and wrongs at the positions that count."""
    rows, guesses, last = [[] for _ in tokens], model(tokens).argmax(-1), tokens.shape[1] - 1
    for b, i in torch.cartesian_prod(torch.arange(len(tokens)), torch.arange(last)).tolist():
        if everywhere or predictable[b, i + mask_shift]:
            rows[b].append(float(guesses[b, i] == tokens[b, i + shift]))
    return rows


def pooled(**changes):
    def accuracy(model, tokens, predictable):
        every = sum(right_by_loops(model, tokens, predictable, **changes), [])
        return sum(every) / len(every)

    return accuracy


def mean_of_rows(model, tokens, predictable):
    rows = [sum(row) / len(row) for row in right_by_loops(model, tokens, predictable) if row]
    return sum(rows) / len(rows)


def partial(
    length,
    part,
    gap,
    batch,
    d_vocab,
    generator,
    shift=0,
    mark=(0, -1),
    bos=True,
    gap_first=True,
    draws=1,
):
    """partial_repeat_tokens with one thing changed; the defaults are right."""
    order = [
        torch.rand(batch, d_vocab - 1, generator=generator).argsort(dim=1) + 1 for _ in range(draws)
    ]
    drawn = torch.cat([order[0][:, :length], order[-1][:, length * (draws == 1) :][:, :gap]], dim=1)
    again = drawn[:, max(part[0] + shift, 0) : part[1] + shift]
    pieces = [drawn, again] if gap_first else [drawn[:, :length], again, drawn[:, length:]]
    tokens = torch.cat([torch.full((batch, bos), BOS), *pieces], dim=1)
    predictable = torch.zeros_like(tokens, dtype=torch.bool)
    predictable[:, bos + length + gap * gap_first + mark[0] : tokens.shape[1] + mark[1]] = True
    return tokens, predictable


def predictable_by_loops(tokens):
    """True at i if the token at i was read before, and the same token followed it then as now."""
    known = torch.zeros(tokens.shape, dtype=torch.bool)
    for b, row in enumerate(tokens.tolist()):
        pairs = list(zip(row, row[1:]))
        for i, pair in enumerate(pairs):
            known[b, i] = pair in pairs[:i]
    return known


def distract(
    followers,
    gap,
    batch,
    d_vocab,
    generator,
    bos=True,
    ask=True,
    new_each_time=False,
    same_gap=False,
    last=False,
):
    """distractor_tokens with one thing changed; the defaults are right."""
    kinds = list(range(len(followers))) if new_each_time else list(dict.fromkeys(followers))
    drawn = torch.rand(batch, d_vocab - 1, generator=generator).argsort(dim=1) + 1
    asked, candidates, others = drawn.split([1, len(kinds), d_vocab - 2 - len(kinds)], dim=1)
    pieces = [torch.full((batch, bos), BOS)]
    for turn, letter in enumerate(followers):
        kind = turn if new_each_time else kinds.index(letter)
        begin = 0 if same_gap else turn * gap
        pieces += [asked, candidates[:, kind, None], others[:, begin : begin + gap]]
    return torch.cat([*pieces, asked[:, :ask]], dim=1), candidates.flip(1) if last else candidates
