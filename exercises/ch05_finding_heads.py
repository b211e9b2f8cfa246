"""Chapter 5. Scores that say what a head looks at, and a detector that is hard to fool.

Axis words: batch query key pos head layer d_head d_model. A pattern [batch, head, query, key] is
one layer's attention: each row, a query, sums to 1 over its keys. tokens [batch, pos], BOS (token
0) first. All scores are shares between 0 and 1, one per head. `python -m exercises check` says how
you are doing.
"""

import torch
from einops import einsum
from torch import Tensor

from minitransformer import Transformer
from minitransformer.data import random_tokens, repeated_tokens
from minitransformer.evaluate import attention

FOUND = 0.5  # a head has a role if, on average, more than half of its attention goes there


def previous_token_score(pattern: Tensor) -> Tensor:
    """How much a head looks one token back: mean of pattern[i, i - 1] over the batch and i >= 1.

    pattern [batch, head, query, key] -> [head]. Query 0 has no token before it and is not counted.
    After Olsson et al. 2022, "In-context Learning and Induction Heads" (arXiv 2209.11895).
    """
    # YOUR CODE: one diagonal of the last two axes, and its mean; roughly 1 line
    raise NotImplementedError("previous_token_score")


def current_token_score(pattern: Tensor) -> Tensor:
    """How much a head looks at its own token: mean of pattern[i, i] over the batch and i >= 1.

    pattern [batch, head, query, key] -> [head]. Query 0 is not counted: it has nothing else to look
    at, so its 1 says nothing about the head.
    """
    # YOUR CODE: another diagonal; roughly 1 line
    raise NotImplementedError("current_token_score")


def first_token_score(pattern: Tensor) -> Tensor:
    """How much a head looks at BOS, the first token: mean of pattern[i, 0] over batch and i >= 1.

    pattern [batch, head, query, key] -> [head]. Query 0 is not counted, for the reason above. Heads
    with nothing to do often rest there: Elhage et al. 2021, "A Mathematical Framework for
    Transformer Circuits"; Xiao et al. 2023, "Efficient Streaming Language Models with Attention
    Sinks" (arXiv 2309.17453).
    """
    # YOUR CODE: one column; roughly 1 line
    raise NotImplementedError("first_token_score")


def duplicate_token_score(pattern: Tensor, tokens: Tensor) -> Tensor:
    """How much a head looks at earlier copies of the token it stands on.

    For a query i, add up pattern[i, j] over *all* j < i with tokens[j] == tokens[i]. The score is
    the mean of that over the queries, of the whole batch, that have at least one such j; each of
    them weighs the same. The others are not counted. pattern [batch, head, query, key], tokens
    [batch, pos] -> [head]; nan if no token occurs twice. Wang et al. 2022, "Interpretability in the
    Wild".
    """
    # YOUR CODE: the wanted (query, key) pairs, the attention on them, the count; roughly 3 lines
    raise NotImplementedError("duplicate_token_score")


def prefix_matching_score(pattern: Tensor, tokens: Tensor) -> Tensor:
    """How much a head looks at what came *after* earlier copies of its token: what induction needs.

    For a query i, add up pattern[i, j] over *all* j <= i with tokens[j - 1] == tokens[i] (so j >=
    1: the copy stands at j - 1, before i). The score is the mean of that over the queries, of the
    whole batch, that have at least one such j; each of them weighs the same. The others are not
    counted. pattern [batch, head, query, key], tokens [batch, pos] -> [head]; nan if no token
    occurs twice. Olsson et al. 2022, "In-context Learning and Induction Heads".
    """
    # YOUR CODE: the wanted keys, one right of each copy; attention on them, count; roughly 4 lines
    raise NotImplementedError("prefix_matching_score")


def value_weighted_pattern(pattern: Tensor, v: Tensor, W_O: Tensor) -> Tensor:
    """How much each key moves: pattern[i, j] times |v_j W_O|, the length of what j would add.

    pattern [batch, head, query, key], v [batch, pos, head, d_head], W_O [head, d_head, d_model] ->
    [batch, head, query, key], in the units of the residual stream; rows no longer sum to 1.
    Kobayashi et al. 2020, "Attention is Not Only a Weight: Analyzing Transformers with Vector
    Norms".
    """
    # YOUR CODE: what each key offers, its length, the product with the right axes; roughly 3 lines
    raise NotImplementedError("value_weighted_pattern")


@torch.no_grad()
def score_heads(model: Transformer, tokens: Tensor) -> dict[str, Tensor]:
    """All five scores of every head on these tokens [batch, pos]: role -> [layer, head].

    Works with any number of layers, also with none.
    """
    patterns = attention(model, tokens)  # layer batch head query key
    scores = {
        "previous_token": [previous_token_score(pattern) for pattern in patterns],
        "current_token": [current_token_score(pattern) for pattern in patterns],
        "first_token": [first_token_score(pattern) for pattern in patterns],
        "duplicate_token": [duplicate_token_score(pattern, tokens) for pattern in patterns],
        "induction": [prefix_matching_score(pattern, tokens) for pattern in patterns],
    }
    return {
        role: torch.stack(rows) if rows else torch.zeros(0, model.cfg.n_heads)
        for role, rows in scores.items()
    }


def find_heads(model: Transformer) -> dict[str, list[tuple[int, int]]]:
    """Which heads do what: role -> the heads (layer, head) with a score above FOUND, best first.

    The roles are those of score_heads, each with a list, empty if no head has the role; a head may
    have several. If you ask for two kinds of sequences, either score may decide the order. The
    sequences are for you to choose, with `repeated_tokens`, `random_tokens` or by hand, and a
    seeded generator (the same model must get the same answer each time). Choose them so that each
    role can only be earned by doing what it says. No head may pass for an induction head
    - by looking a fixed distance back, whatever that distance;
    - by matching another token than its own, such as the one before it;
    - because so much repeats that every key is as good as any other.
    They have to fit the model: at most n_ctx long, tokens below d_vocab, and distinct tokens reach
    no further than d_vocab. Raises ValueError if n_ctx or d_vocab is less than 4: too few for
    anything to repeat. A role says where a head looks, not what comes of it: a head that writes
    next to nothing has its role, too.
    """
    # YOUR CODE: sequences, scores, and each role's heads in order; roughly 12 lines
    raise NotImplementedError("find_heads")
