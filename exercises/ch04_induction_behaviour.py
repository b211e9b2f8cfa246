"""Chapter 4. Tests of behaviour: what a model predicts, and on which sequences.

Axis words: batch pos vocab. The prediction made at position i is about the token at i + 1, so it is
compared with tokens[:, 1:], and the last position has nothing to be compared with. BOS, token 0,
begins every sequence. Losses in nats.
"""

import torch
from torch import Tensor

from minitransformer import BOS, Transformer


def loss_by_position(logits: Tensor, tokens: Tensor) -> Tensor:
    """Mean over the batch of -log p(token i + 1), for each position i that has a next token; in
    nats.

    logits [batch, pos, vocab], tokens [batch, pos] -> [pos - 1]. Entry i belongs to the token just
    *read*, at position i. Must stay finite for logits of any size. In-context learning is a curve
    that falls: Olsson et al. 2022, "In-context Learning and Induction Heads" (arXiv 2209.11895).
    """
    # YOUR CODE: log-probabilities, pick those of the next tokens, average; roughly 3 lines
    raise NotImplementedError("loss_by_position")


def icl_score(losses: Tensor, early: int, late: int) -> float:
    """In-context learning in one number: loss at position `late` - loss at position `early`.
    Negative: context helps.

    losses [pos - 1] in nats, from loss_by_position: entry i is the loss of the prediction made at
    position i; position 0 is BOS. Raises ValueError unless 0 <= early < late < len(losses). Olsson
    et al. 2022 take the 500th and the 50th token.
    """
    # YOUR CODE: refuse positions that make no sense, then subtract; roughly 3 lines
    raise NotImplementedError("icl_score")


@torch.no_grad()
def induction_accuracy(model: Transformer, tokens: Tensor, predictable: Tensor) -> float:
    """Of all marked positions in the batch, the share at which the most likely next token is the
    true one. Where several are equally likely, the first of them is the guess, as for argmax.

    tokens [batch, pos]; predictable [batch, pos] bool: can the token *after* this position be known
    from what was read? The last position never counts: there is no next token. All marked positions
    weigh the same, whichever row they are in. Raises ValueError if no position counts.
    """
    # YOUR CODE: guess, compare with the next tokens, average where it counts; roughly 5 lines
    raise NotImplementedError("induction_accuracy")


def distinct_tokens(batch: int, n: int, d_vocab: int, generator: torch.Generator) -> Tensor:
    """[batch, n]: n random tokens per row, no two of a row equal, none BOS.

    Raises ValueError if there are too few.
    """
    if n > d_vocab - 1:
        there = f"a vocabulary of {d_vocab} has {d_vocab - 1} besides BOS."
        raise ValueError(f"{n} distinct tokens were asked for; {there}")
    return torch.rand(batch, d_vocab - 1, generator=generator).argsort(dim=1)[:, :n] + 1


def partial_repeat_tokens(
    length: int,
    part: tuple[int, int],
    gap: int,
    batch: int,
    d_vocab: int,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """BOS, a sentence, other tokens, and a part of the sentence again.

    The sentence has `length` tokens, `gap` others follow, then its tokens part[0] to part[1] - 1.

    length 5, part (1, 4), gap 2:    BOS  a b c d e  x y  b c d
    predictable from                                      b c
    (at y nobody knows that b comes; after d nothing comes)

    -> tokens [batch, pos], pos = 1 + length + gap + part[1] - part[0], and predictable [batch, pos]
    bool as in induction_accuracy. Apart from the repeat, a row's tokens are all distinct: draw them
    in one call of distinct_tokens. Raises ValueError unless 0 <= part[0] < part[1] <= length.
    """
    # YOUR CODE: draw, put the pieces one after another, mark; roughly 9 lines
    raise NotImplementedError("partial_repeat_tokens")


def distractor_tokens(
    followers: str, gap: int, batch: int, d_vocab: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """The same token followed by different things: what comes after it now? BOS A B ... A C ... A ?

    followers: one letter for each time A was read. "BC": A was followed by B, then by C. "BBC": by
    B twice, then by C. gap: how many other tokens stand after each follower.

    followers "BC", gap 2:    BOS  A B w x  A C y z  A

    -> tokens [batch, pos], pos = 2 + len(followers) * (2 + gap), ending in A; and candidates
    [batch, kind]: the tokens that stood after A, one per *different* letter, in the order in which
    the letters first appear. A, the candidates and all gap tokens of a row are distinct: draw them
    in one call of distinct_tokens. Raises ValueError if followers is "".
    """
    # YOUR CODE: draw once, cut into A, candidates and gaps, put them in order; roughly 10 lines
    raise NotImplementedError("distractor_tokens")


@torch.no_grad()
def candidate_shares(model: Transformer, tokens: Tensor, candidates: Tensor) -> Tensor:
    """[kind]: the probability that the model gives each candidate [batch, kind] after the last
    token, batch mean.
    """
    return model(tokens)[:, -1].softmax(dim=-1).gather(1, candidates).mean(dim=0)
