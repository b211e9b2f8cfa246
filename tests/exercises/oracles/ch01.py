"""What the checks of chapter 1 compare with: the definitions in loops, the package's own model, and
what people get wrong.
"""

import math

import torch
from einops import einsum

from tests.exercises.oracles.reshaped import MIXED_WEIGHTS, heads_mixed_up
from tests.material import seeded

BATCH, POS, HEADS, D_HEAD = 2, 7, 3, 5  # all different, and D_HEAD no square
Q = 2 * torch.randn(BATCH, POS, HEADS, D_HEAD, generator=seeded(1), dtype=torch.float64)
K = 2 * torch.randn(BATCH, POS, HEADS, D_HEAD, generator=seeded(2), dtype=torch.float64)
Q[0, 4, 1] = 0  # a query whose scores are all exactly 0: it looks at every key so far alike
K[1, 2, 0] = 0


# attention_pattern


def pattern_by_loops(q, k):
    """The definition, one number at a time."""
    batch, n, heads, d_head = q.shape
    pattern = torch.zeros(batch, heads, n, n, dtype=q.dtype)
    for b in range(batch):
        for h in range(heads):
            for i in range(n):
                scores = [float(q[b, i, h] @ k[b, j, h] / d_head**0.5) for j in range(i + 1)]
                weights = [math.exp(score - max(scores)) for score in scores]
                for j, weight in enumerate(weights):
                    pattern[b, h, i, j] = weight / sum(weights)
    return pattern


def root_of_d_head(q):
    return math.sqrt(q.shape[-1])


def later_keys(scores):
    return torch.ones_like(scores).triu(1).bool()


def nowhere(scores):
    return torch.zeros_like(scores).bool()


def softmax_over_keys(scores):
    return scores.softmax(dim=-1)


def pattern_with(scale=root_of_d_head, forbidden=later_keys, hide=-math.inf, end=softmax_over_keys):
    """attention_pattern with one thing changed; the defaults are right."""

    def pattern(q, k):
        axes = "batch query head d_head, batch key head d_head -> batch head query key"
        scores = einsum(q, k, axes) / scale(q)
        return end(scores.masked_fill(forbidden(scores), hide))

    return pattern


def swapped(q, k):
    return pattern_with()(k, q)


def mask_last(q, k):
    scores = pattern_with(forbidden=nowhere)(q, k)
    return scores.masked_fill(later_keys(scores), 0.0)


def cosines(q, k):
    return pattern_with()(q / q.norm(dim=-1, keepdim=True), k / k.norm(dim=-1, keepdim=True))


def shares_of_exp(scores):
    """A softmax by its formula; exp of a large score is infinite."""
    return scores.exp() / scores.exp().sum(dim=-1, keepdim=True)


LARGE_SCORES = {
    "later keys got a low score, and large scores are lower still; -inf is never reached": (
        pattern_with(hide=-30.0)
    ),
    "exp of a large score is infinite; softmax subtracts the largest score first": (
        pattern_with(end=shares_of_exp)
    ),
}
LOOKS_AHEAD = {
    "there is no causal mask": pattern_with(forbidden=nowhere),
    "the mask is off by one: a token may not look at the next one": pattern_with(
        forbidden=lambda scores: torch.ones_like(scores).triu(2).bool()
    ),
}
WRONG_SCALES = {
    "the scores were not divided by sqrt(d_head)": lambda q: 1.0,
    "the scores were divided by d_head, not by its square root": lambda q: q.shape[-1],
    "the scores were multiplied by sqrt(d_head)": lambda q: 1 / root_of_d_head(q),
    "the scores were divided by a fixed 4: that is sqrt(d_head) in the course's model only": (
        lambda q: 4.0
    ),
    "the root was taken of all heads' sizes together; each head has d_head numbers": (
        lambda q: math.sqrt(q.shape[-1] * q.shape[-2])
    ),
    "the root was taken of the number of heads; it is that of d_head": (
        lambda q: math.sqrt(q.shape[2])
    ),
    "the root was taken of the number of positions; it is that of d_head": (
        lambda q: math.sqrt(q.shape[1])
    ),
    "the fourth root of d_head was used once; that is right only on q and on k": (
        lambda q: root_of_d_head(q) ** 0.5
    ),
}
WRONG_MASKS = {
    "the mask is off by one: a token may look at itself": (
        lambda scores: torch.ones_like(scores).triu(0).bool()
    ),
    "the wrong triangle is masked: a token may look back, not ahead": (
        lambda scores: torch.ones_like(scores).tril(-1).bool()
    ),
    "the past and the token itself are masked; a token may look back, not ahead": (
        lambda scores: torch.ones_like(scores).tril(0).bool()
    ),
    "the mask was read off the scores: a score that is 0 is not a forbidden one": (
        lambda scores: scores.tril() == 0
    ),
}
WRONG_ENDS = {
    "the softmax ran over the queries; it must run over the keys, the last axis": (
        lambda scores: scores.softmax(dim=-2)
    ),
    "the softmax ran over the heads; it must run over the keys, the last axis": (
        lambda scores: scores.softmax(dim=1)
    ),
    "the softmax ran over the batch; it must run over the keys, the last axis": (
        lambda scores: scores.softmax(dim=0)
    ),
    "that is the logarithm of the pattern": lambda scores: scores.log_softmax(dim=-1),
    "there is no softmax: these are the scores": lambda scores: scores,
    "the scores went through exp, but no row was divided by its sum": lambda scores: scores.exp(),
}
PATTERN_MISTAKES = {
    **{label: pattern_with(scale=scale) for label, scale in WRONG_SCALES.items()},
    **{label: pattern_with(forbidden=mask) for label, mask in WRONG_MASKS.items()},
    **{label: pattern_with(end=end) for label, end in WRONG_ENDS.items()},
    **LOOKS_AHEAD,
    "the mask was applied after the softmax, so rows no longer sum to 1": mask_last,
    "forbidden scores were set to 0, which still gets attention: exp(0) = 1; use -inf": (
        pattern_with(hide=0.0)
    ),
    "query and key are swapped": swapped,
    "q and k were brought to length 1; the dot product is of the vectors as they are": cosines,
}


# head_output

D_MODEL = 11
X = torch.randn(BATCH, POS, D_MODEL, generator=seeded(3), dtype=torch.float64)
PATTERN = pattern_by_loops(Q, K)
W_V = torch.randn(HEADS, D_MODEL, D_HEAD, generator=seeded(4), dtype=torch.float64)
W_O = torch.randn(HEADS, D_HEAD, D_MODEL, generator=seeded(5), dtype=torch.float64)


def head_by_loops(x, pattern, W_V, W_O):
    batch, n, d_model = x.shape
    out = torch.zeros(batch, n, len(W_V), d_model, dtype=x.dtype)
    for b in range(batch):
        for h in range(len(W_V)):
            offered = x[b] @ W_V[h] @ W_O[h]  # key d_model
            for i in range(n):
                out[b, i, h] = pattern[b, h, i] @ offered
    return out


def own_value(x, pattern, W_V, W_O):
    itself = torch.eye(x.shape[1], dtype=x.dtype).expand_as(pattern)
    return head_by_loops(x, itself, W_V, W_O)


def head_axis_moved(x, pattern, W_V, W_O):
    return head_by_loops(x, pattern, W_V, W_O).transpose(1, 2)


def evenly(pattern):
    """Every key so far counts the same."""
    seen = torch.ones_like(pattern).tril()
    return seen / seen.sum(dim=-1, keepdim=True)


HEAD_MISTAKES = {
    "the pattern was used transposed: a query must collect from its keys, not the other way "
    "round": lambda x, A, V, W: head_by_loops(x, A.mT, V, W),
    "the pattern was ignored: every position wrote its own value": own_value,
    "the pattern was ignored: every key so far counted the same": (
        lambda x, A, V, W: head_by_loops(x, evenly(A), V, W)
    ),
    "the pattern was used twice": lambda x, A, V, W: head_by_loops(x, A @ A, V, W),
    "a softmax was taken of the pattern, which already is one": (
        lambda x, A, V, W: head_by_loops(x, A.softmax(dim=-1), V, W)
    ),
    "all heads used one pattern, the mean: head h has its own": (
        lambda x, A, V, W: head_by_loops(x, A.mean(dim=1, keepdim=True).expand_as(A), V, W)
    ),
    "all heads used the pattern of head 0: head h has its own": (
        lambda x, A, V, W: head_by_loops(x, A[:, :1].expand_as(A), V, W)
    ),
    "the heads were mixed up: head h must use its own W_O[h]": (
        lambda x, A, V, W: head_by_loops(x, A, V, W.roll(1, 0))
    ),
    "W_V and W_O are exchanged": lambda x, A, V, W: head_by_loops(x, A, W.mT, V.mT),
    "the heads were added up; return one output per head": (
        lambda x, A, V, W: head_by_loops(x, A, V, W).sum(dim=2)
    ),
    "the outputs were divided by the number of heads": (
        lambda x, A, V, W: head_by_loops(x, A, V, W) / len(W)
    ),
    "the values were divided by sqrt(d_head); only the scores are": (
        lambda x, A, V, W: head_by_loops(x, A, V, W) / math.sqrt(V.shape[-1])
    ),
    "the stream was added to every head's output; a head says only what it adds": (
        lambda x, A, V, W: x[:, :, None] + head_by_loops(x, A, V, W)
    ),
    "the axes are batch, head, pos; move the heads behind the positions": head_axis_moved,
    MIXED_WEIGHTS: lambda x, A, V, W: head_by_loops(x, A, heads_mixed_up(V), W),
    "head and pos were exchanged by a reshape, which mixes the numbers up; transpose instead": (
        lambda x, A, V, W: head_axis_moved(x, A, V, W).reshape(
            x.shape[0], x.shape[1], len(V), x.shape[2]
        )
    ),
}
