"""What people get wrong in chapter 4, as code: label -> the function that they write."""

import math

from tests.exercises.oracles.ch04 import distract, losses_by_loops, mean_of_rows, partial, pooled

LOSS_MISTAKES = {
    "compared with the token just read; position i predicts token i + 1": lambda *x: (
        losses_by_loops(*x, shift=0).mean(0)
    ),
    "compared with the token at i - 1": lambda x, tokens: (
        losses_by_loops(x.flip(1), tokens.flip(1)).mean(0).flip(0)
    ),
    "the sign is missing: the loss is minus the log-probability": lambda *x: (
        -losses_by_loops(*x).mean(0)
    ),
    "the losses were added up over the batch; take the mean": lambda *x: losses_by_loops(*x).sum(0),
    "the mean ran over the positions; average over the batch": lambda *x: losses_by_loops(*x).mean(
        1
    ),
    "probabilities were averaged; average the losses": lambda *x: (
        -(-losses_by_loops(*x)).exp().mean(0).log()
    ),
    "the logits were used as log-probabilities: the log_softmax is missing": (
        lambda x, tokens: -x[:, :-1].gather(2, tokens[:, 1:, None])[..., 0].mean(0)
    ),
    "the loss is in bits; use the natural logarithm": lambda *x: (
        losses_by_loops(*x).mean(0) / math.log(2)
    ),
}

ACCURACY_MISTAKES = {
    "each guess was compared with the token just read; position i predicts token i + 1": pooled(
        shift=0
    ),
    "the mask is one position off: predictable[:, i] is about the prediction made at i": pooled(
        mask_shift=1
    ),
    "all positions were counted, also those that nobody could predict": pooled(everywhere=True),
    "the rows were averaged first; every marked position counts the same": mean_of_rows,
}

PARTIAL_MISTAKES = {
    "BOS is missing": lambda *x: partial(*x, bos=False),
    "part was counted with BOS: the repeat is shifted by one token": lambda *x: partial(
        *x, shift=-1
    ),
    "the gap stands after the repeat; it belongs before it": lambda *x: partial(
        *x, gap_first=False
    ),
    "predictable begins too early: nobody can know that the part is about to begin": lambda *x: (
        partial(*x, mark=(-1, -1))
    ),
    "predictable begins too late: one token read again is enough": lambda *x: partial(
        *x, mark=(1, -1)
    ),
    "the last position is marked, and no token follows it": lambda *x: partial(*x, mark=(0, 0)),
    "sentence and gap were drawn separately and may share tokens": lambda *x: partial(*x, draws=2),
}

DISTRACTOR_MISTAKES = {
    "BOS is missing": lambda *x: distract(*x, bos=False),
    "the row must end in A: that is where the question is asked": lambda *x: distract(
        *x, ask=False
    ),
    "every turn got a new follower; the same letter means the same token": lambda *x: distract(
        *x, new_each_time=True
    ),
    "the same gap tokens stand in every gap, so they repeat too": lambda *x: distract(
        *x, same_gap=True
    ),
    "the candidates are in the wrong order: the letter that appears first comes first": lambda *x: (
        distract(*x, last=True)
    ),
}
