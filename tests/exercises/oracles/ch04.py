"""What chapter 4 is checked against: losses and rows by loops; each can be made wrong."""

import math

import torch

from minitransformer import BOS

# loss_by_position


def losses_by_loops(logits, tokens, shift=1):
    """The definition, one number at a time: [batch, pos - 1]."""
    losses = torch.zeros(tokens.shape[0], tokens.shape[1] - 1, dtype=logits.dtype)
    for b, i in losses.isfinite().nonzero().tolist():
        top = max(logits[b, i].tolist())
        norm = top + math.log(sum(math.exp(x - top) for x in logits[b, i].tolist()))
        losses[b, i] = norm - logits[b, i, tokens[b, i + shift]]
    return losses


def with_log_probs(log_probs):
    """loss_by_position with other logarithms of probabilities."""

    def losses(logits, tokens):
        return -log_probs(logits[:, :-1]).gather(2, tokens[:, 1:, None])[..., 0].mean(0)

    return losses


# induction_accuracy


def most_likely(logits, right):
    return (logits.argmax(dim=-1) == right).float()


def by_loops(model, tokens, predictable, shift=1, mask_shift=0, score=most_likely):
    """Per row, the scores at the positions that count."""
    rows, logits, last = [[] for _ in tokens], model(tokens).detach(), tokens.shape[1] - 1
    for b, i in torch.cartesian_prod(torch.arange(len(tokens)), torch.arange(last)).tolist():
        if predictable[b, i + mask_shift]:
            rows[b].append(float(score(logits[b, i], tokens[b, i + shift])))
    return rows


def pooled(mask=lambda predictable: predictable, **changes):
    """induction_accuracy with one thing changed. mask: which positions count."""

    def accuracy(model, tokens, predictable):
        every = sum(by_loops(model, tokens, mask(predictable), **changes), [])
        return sum(every) / len(every)

    return accuracy


def mean_of_rows(model, tokens, predictable):
    rows = [sum(row) / len(row) for row in by_loops(model, tokens, predictable) if row]
    return sum(rows) / len(rows)


def divided_by(size):
    """The number of right guesses that count, divided by another number."""

    def accuracy(model, tokens, predictable):
        return sum(sum(by_loops(model, tokens, predictable), [])) / size(tokens, predictable)

    return accuracy


def last_position_too(model, tokens, predictable):
    """The last guess compared with the first token, as after a roll."""
    right = model(tokens).argmax(dim=-1) == tokens.roll(-1, 1)
    return right[predictable].float().mean().item()


# partial_repeat_tokens and distractor_tokens


def shuffled(batch, d_vocab, generator):
    return torch.rand(batch, d_vocab - 1, generator=generator).argsort(dim=1) + 1


def partial(
    length,
    part,
    gap,
    batch,
    d_vocab,
    generator,
    start=0,
    stop=0,
    mark=(0, -1),
    bos=True,
    order="sentence gap part",
    draws=1,
    first=False,
):
    """partial_repeat_tokens with one thing changed; the defaults are right.

    start, stop: how far the part is moved. mark: how far the marks are. first: the marks stand at
    the first copy.
    """
    drawn = [shuffled(batch, d_vocab, generator) for _ in range(draws)]
    sentence, others = drawn[0][:, :length], drawn[-1][:, length * (draws == 1) :][:, :gap]
    first_token = torch.full((batch, 1), BOS)
    read = torch.cat([first_token, sentence, others], dim=1)
    again = read[:, 1 + part[0] + start : 1 + part[1] + stop]
    named = {"sentence": sentence, "gap": others, "part": again}
    pieces = [named[name] for name in order.split()]
    tokens = torch.cat([first_token[:, :bos], *pieces], dim=1)
    predictable = torch.zeros_like(tokens, dtype=torch.bool)
    begin = tokens.shape[1] - again.shape[1] if order.endswith("part") else bos + length
    end = begin + again.shape[1]
    if first:
        begin, end = bos + part[0], bos + part[1]
    predictable[:, begin + mark[0] : end + mark[1]] = True
    return tokens, predictable


def marked_from_the_gap_on(length, part, gap, *others):
    return partial(length, part, gap, *others, mark=(-gap, -1))


def everything_marked(*arguments):
    tokens, predictable = partial(*arguments)
    return tokens, torch.ones_like(predictable)


def both_copies_marked(*arguments):
    tokens, predictable = partial(*arguments)
    return tokens, predictable | partial(*arguments, first=True)[1]


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
    kinds=lambda followers: list(dict.fromkeys(followers)),
    gaps=lambda turn, gap: (turn * gap, turn * gap + gap),
    turn_of="A follower gap",
    ask=lambda asked, candidates: asked,
    view=lambda asked, candidates: candidates,
):
    """distractor_tokens with one thing changed; the defaults are right.

    kinds: the different letters, in order; gaps: which of the other tokens stand in the gap of a
    turn; ask: what comes last; view: what is returned for the candidates.
    """
    letters = kinds(followers)
    drawn = shuffled(batch, d_vocab, generator)
    asked, candidates, others = drawn.split([1, len(letters), d_vocab - 2 - len(letters)], dim=1)
    pieces = [torch.full((batch, bos), BOS)]
    for turn, letter in enumerate(followers):
        begin, end = gaps(turn, gap)
        follower = candidates[:, letters.index(letter), None]
        named = {"A": asked, "follower": follower, "gap": others[:, begin:end]}
        pieces += [named[name] for name in turn_of.split()]
    last = ask(asked, candidates)
    return torch.cat([*pieces, last], dim=1), view(asked, candidates)


def new_each_time(followers, gap, batch, d_vocab, generator):
    """Every turn has a follower of its own; of each letter the first is the candidate."""
    numbered = "".join(chr(200 + turn) for turn in range(len(followers)))
    tokens, candidates = distract(numbered, gap, batch, d_vocab, generator)
    first = [followers.index(letter) for letter in dict.fromkeys(followers)]
    return tokens, candidates[:, first]


def one_candidate_a_turn(followers, gap, batch, d_vocab, generator):
    tokens, candidates = distract(followers, gap, batch, d_vocab, generator)
    letters = list(dict.fromkeys(followers))
    return tokens, candidates[:, [letters.index(letter) for letter in followers]]


def no_last_gap(followers, gap, batch, d_vocab, generator):
    """The row ends ... A C A: no other tokens stand before the last A."""
    tokens, candidates = distract(followers, gap, batch, d_vocab, generator)
    return torch.cat([tokens[:, : -1 - gap], tokens[:, -1:]], dim=1), candidates
