"""What people get wrong in chapter 4, as code: label -> the function that they write."""

import math

import torch

from tests.exercises.oracles.ch04 import (
    both_copies_marked,
    distract,
    divided_by,
    everything_marked,
    last_position_too,
    losses_by_loops,
    marked_from_the_gap_on,
    mean_of_rows,
    new_each_time,
    no_last_gap,
    one_candidate_a_turn,
    partial,
    pooled,
    with_log_probs,
)


def losses_of(view, **changes):
    return lambda *x: view(losses_by_loops(*x, **changes))


LOSS_MISTAKES = {
    "compared with the token just read; position i predicts token i + 1": losses_of(
        lambda losses: losses.mean(0), shift=0
    ),
    "the logits at i + 1 were compared with the token at i + 1, which they have read": (
        lambda x, tokens: losses_by_loops(x.roll(-1, 1), tokens).mean(0)
    ),
    "compared with the token at i - 1": lambda x, tokens: (
        losses_by_loops(x.flip(1), tokens.flip(1)).mean(0).flip(0)
    ),
    "the sign is missing: the loss is minus the log-probability": losses_of(
        lambda losses: -losses.mean(0)
    ),
    "the losses were added up over the batch; take the mean": losses_of(
        lambda losses: losses.sum(0)
    ),
    "the median was taken over the batch; take the mean": losses_of(
        lambda losses: losses.median(0).values
    ),
    "the mean ran over the positions; average over the batch": losses_of(
        lambda losses: losses.mean(1)
    ),
    "the mean ran over the positions too; keep one loss for each": losses_of(
        lambda losses: losses.mean()
    ),
    "no mean was taken; average over the batch": losses_of(lambda losses: losses),
    "an entry for the token at position 0 comes first; entry i belongs to the token read at i": (
        losses_of(lambda losses: torch.cat([0 * losses[0, :1], losses.mean(0)]))
    ),
    "an entry stands for the last position, which has no next token": losses_of(
        lambda losses: torch.cat([losses.mean(0), 0 * losses[0, :1]])
    ),
    "the last guess about a token of the row is missing: there are pos - 1": losses_of(
        lambda losses: losses[:, :-1].mean(0)
    ),
    "the guess made at BOS is missing: entry 0 belongs to it": losses_of(
        lambda losses: losses[:, 1:].mean(0)
    ),
    "probabilities were averaged; average the losses": losses_of(
        lambda losses: -(-losses).exp().mean(0).log()
    ),
    "these are probabilities, not their logarithms": losses_of(
        lambda losses: (-losses).exp().mean(0)
    ),
    "the logits were used as log-probabilities: the log_softmax is missing": with_log_probs(
        lambda logits: logits
    ),
    "the log_softmax ran over the positions; it must run over the vocabulary": with_log_probs(
        lambda logits: logits.log_softmax(dim=1)
    ),
    "the log_softmax ran over the batch; it must run over the vocabulary": with_log_probs(
        lambda logits: logits.log_softmax(dim=0)
    ),
    "the loss is in bits; use the natural logarithm": losses_of(
        lambda losses: losses.mean(0) / math.log(2)
    ),
}
LARGE_LOGITS = {
    "log(softmax) is -inf for large logits; log_softmax is not": with_log_probs(
        lambda logits: logits.softmax(dim=-1).log()
    ),
    "a small number was added before the logarithm: that cuts large losses off": with_log_probs(
        lambda logits: (logits.softmax(dim=-1) + 1e-9).log()
    ),
}
ICL_MISTAKES = {
    "the sign is turned round; it is late minus early": lambda x, early, late: x[early] - x[late],
    "the size of the difference was taken; a score below 0 says that context helps": (
        lambda x, early, late: (x[late] - x[early]).abs()
    ),
    "positions were counted from 1; position 0 is BOS": (
        lambda x, early, late: x[late - 1] - x[early - 1]
    ),
    "`late` was counted from the end": lambda x, early, late: x[-late] - x[early],
    "one position was asked for, not the mean from `late` on": (
        lambda x, early, late: x[late:].mean() - x[early]
    ),
    "two positions were asked for, not the means up to `early` and from `late` on": (
        lambda x, early, late: x[late:].mean() - x[: early + 1].mean()
    ),
    "two positions were asked for, not the means before `early` and from `late` on": (
        lambda x, early, late: x[late:].mean() - x[:early].mean()
    ),
    "the mean between the two positions was taken": lambda x, early, late: x[early:late].mean(),
    "the difference was divided by the distance": (
        lambda x, early, late: (x[late] - x[early]) / (late - early)
    ),
    "the difference was divided by the early loss": (
        lambda x, early, late: (x[late] - x[early]) / x[early]
    ),
    "this is a ratio; take the difference, in nats": lambda x, early, late: x[late] / x[early],
    "the difference is in bits; nats need no factor": (
        lambda x, early, late: (x[late] - x[early]) / math.log(2)
    ),
}
ICL_MISTAKES = {
    label: lambda *x, change=change: float(change(*x)) for label, change in ICL_MISTAKES.items()
}

TIES_COUNT = {
    "a right token that shares the highest logit with others was counted; there is one guess": (
        pooled(score=lambda logits, right: (logits[right] >= logits.max()).float())
    )
}
ACCURACY_MISTAKES = {
    "each guess was compared with the token just read; position i predicts token i + 1": pooled(
        shift=0
    ),
    "the mask is one position off: predictable[:, i] is about the prediction made at i": pooled(
        mask_shift=1
    ),
    "all positions were counted, also those that nobody could predict": pooled(torch.ones_like),
    "the positions that are *not* marked were counted": pooled(torch.logical_not),
    "the rows were averaged first; every marked position counts the same": mean_of_rows,
    "divided by the number of all guesses; only the marked ones count": divided_by(
        lambda tokens, predictable: tokens[:, 1:].numel()
    ),
    "divided by the number of all positions; only the marked ones count": divided_by(
        lambda tokens, predictable: tokens.numel()
    ),
    "divided by all marks, also those on last positions, where no guess counts": divided_by(
        lambda tokens, predictable: int(predictable.sum())
    ),
    "divided by the number of rows; divide by the number of marked positions": divided_by(
        lambda tokens, predictable: len(tokens)
    ),
    "the guesses were counted; take their share": divided_by(lambda tokens, predictable: 1),
    "the last guess was compared with the first token; no token follows it": last_position_too,
    "the probability of the right token was averaged; count right guesses": pooled(
        score=lambda logits, right: logits.softmax(dim=-1)[right]
    ),
    "the right token among the two most likely was enough; it must be the first": pooled(
        score=lambda logits, right: right in logits.topk(2).indices
    ),
    "BOS was never guessed; any token may be the most likely": pooled(
        score=lambda logits, right: 1 + logits[1:].argmax() == right
    ),
    "the least likely token was taken": pooled(
        score=lambda logits, right: logits.argmin() == right
    ),
    "wrong guesses were counted": pooled(score=lambda logits, right: logits.argmax() != right),
}


def changed(build, **changes):
    return lambda *arguments: build(*arguments, **changes)


PARTIAL_MISTAKES = {
    "BOS is missing": changed(partial, bos=False),
    "part was counted with BOS: the repeat is shifted by one token": changed(
        partial, start=-1, stop=-1
    ),
    "part was counted from 1: the repeat is shifted by one token": changed(
        partial, start=1, stop=1
    ),
    "token part[1] was repeated too; the part ends before it": changed(partial, stop=1),
    "the last token of the part is missing: part[1] - 1 belongs to it": changed(partial, stop=-1),
    "part[1] was taken for the length of the part": lambda length, part, *x: partial(
        length, (part[0], min(sum(part), length)), *x
    ),
    "the gap stands after the repeat; it belongs before it": changed(
        partial, order="sentence part gap"
    ),
    "the gap stands before the sentence; it belongs after it": changed(
        partial, order="gap sentence part"
    ),
    "there is no gap": changed(partial, order="sentence part"),
    "predictable begins too early: nobody can know that the part is about to begin": changed(
        partial, mark=(-1, -1)
    ),
    "the gap is marked too: none of its tokens was read before": marked_from_the_gap_on,
    "predictable begins too late: one token read again is enough": changed(partial, mark=(1, -1)),
    "predictable ends too early: only the last position has no next token": changed(
        partial, mark=(0, -2)
    ),
    "the last position is marked, and no token follows it": changed(partial, mark=(0, 0)),
    "the marks are one position early: position i is marked if what follows it is known": changed(
        partial, mark=(-1, -2)
    ),
    "the tokens that can be known are marked; mark where they are predicted, one earlier": (
        changed(partial, mark=(1, 0))
    ),
    "the first copy is marked; nothing is known before the second": changed(
        partial, first=True, mark=(0, 0)
    ),
    "the first copy is marked, without its last token; nothing is known before the second": (
        changed(partial, first=True)
    ),
    "both copies are marked; nothing is known before the second": both_copies_marked,
    "everything is marked": everything_marked,
    "sentence and gap were drawn separately and may share tokens": changed(partial, draws=2),
}

DISTRACTOR_MISTAKES = {
    "BOS is missing": changed(distract, bos=False),
    "the row must end in A: that is where the question is asked": changed(
        distract, ask=lambda asked, candidates: asked[:, :0]
    ),
    "the row ends in the last follower: the question is what comes after A": changed(
        distract, ask=lambda asked, candidates: candidates[:, -1:]
    ),
    "the row ends in A and a follower; the model has to say that one": changed(
        distract, ask=lambda asked, candidates: torch.cat([asked, candidates[:, -1:]], dim=1)
    ),
    "every turn got a new follower; the same letter means the same token": new_each_time,
    "the same gap tokens stand in every gap, so they repeat too": changed(
        distract, gaps=lambda turn, gap: (0, gap)
    ),
    "the gaps overlap, so their tokens repeat too": changed(
        distract, gaps=lambda turn, gap: (turn, turn + gap)
    ),
    "the gap stands between A and its follower": changed(distract, turn_of="A gap follower"),
    "the gap stands before A; it belongs after the follower": changed(
        distract, turn_of="gap A follower"
    ),
    "no gap follows the last follower": no_last_gap,
    "a gap is one token too short": changed(
        distract, gaps=lambda turn, gap: (turn * gap, turn * gap + gap - 1)
    ),
    "there are no gaps": changed(distract, turn_of="A follower"),
    "the candidates are in the wrong order: the letter that appears first comes first": changed(
        distract, view=lambda asked, candidates: candidates.flip(1)
    ),
    "the letters were sorted; the one that appears first comes first": changed(
        distract, kinds=lambda followers: sorted(set(followers))
    ),
    "there is a candidate for each turn; one for each *different* letter": one_candidate_a_turn,
    "A is no candidate": changed(
        distract, view=lambda asked, candidates: torch.cat([asked, candidates], dim=1)
    ),
    "the candidates are [kind, batch]; batch comes first": changed(
        distract, view=lambda asked, candidates: candidates.T
    ),
}
