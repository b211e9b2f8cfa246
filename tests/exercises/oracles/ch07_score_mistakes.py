"""Wrong answers to the exercises of chapter 7 about scores of circuits, centring and merging: label
-> what people write.
"""

import math

import torch
from torch import Tensor

from tests.exercises.oracles.ch07_mistakes import Product, less_mean
from tests.exercises.oracles.reshaped import MIXED_WEIGHTS, heads_mixed_up


def on_matrix(score):
    return lambda circuit: float(score(circuit if isinstance(circuit, Tensor) else circuit.dense))


def diagonal_wins(M, dim=-1):
    return (M.argmax(dim) == torch.arange(len(M))).double().mean()


def largest_both_ways(M):
    own = torch.arange(len(M))
    return ((M.argmax(-1) == own) & (M.argmax(0) == own)).double().mean()


def among_the_first(k):
    def share(M):
        best = M.topk(k, dim=-1).indices
        return (best == torch.arange(len(M))[:, None]).any(dim=-1).double().mean()

    return share


COPYING_ACCURACY = {
    "the first token was left out, as if it were BOS; all of the circuit given counts": (
        on_matrix(lambda M: diagonal_wins(M[1:, 1:]))
    ),
    "the largest entry of each column was taken; a row belongs to one source": (
        on_matrix(lambda M: diagonal_wins(M, 0))
    ),
    "absolute values were compared: a suppressed logit is no copy": (
        on_matrix(lambda M: diagonal_wins(M.abs()))
    ),
    "it is not enough that a token is raised, it must be raised most": (
        on_matrix(lambda M: (M.diagonal() > 0).double().mean())
    ),
    "a share of the tokens is wanted, not their number": (
        on_matrix(lambda M: len(M) * diagonal_wins(M))
    ),
    "a share from 0 to 1 is wanted, not a percentage": on_matrix(lambda M: 100 * diagonal_wins(M)),
    "the first row was left out, as if it were BOS; all of the circuit given counts": (
        on_matrix(lambda M: (M.argmax(-1) == torch.arange(len(M)))[1:].double().mean())
    ),
    "the probabilities of the tokens themselves were averaged; count how often one is on top": (
        on_matrix(lambda M: M.softmax(-1).diagonal().mean())
    ),
    "the most lowered logit was taken; the most raised one is wanted": (
        on_matrix(lambda M: diagonal_wins(-M))
    ),
    "the mean over the sources was subtracted first; take the circuit as it is": (
        on_matrix(lambda M: diagonal_wins(M - M.mean(0)))
    ),
    "it is enough that a row is largest on the diagonal; columns are not asked": (
        on_matrix(largest_both_ways)
    ),
    "a token raised above the mean of its row was enough; it must be raised most": (
        on_matrix(lambda M: (M.diagonal() > M.mean(-1)).double().mean())
    ),
    "a token among the five most raised was enough; it must be raised most": (
        on_matrix(among_the_first(5))
    ),
}


def eigenvalue_ratio(above, below, nothing=math.nan):
    def ratio(M):
        values = torch.linalg.eigvals(M)
        return above(values) / below(values).sum() if values.abs().sum() else nothing

    return on_matrix(ratio)


def share_of_positive(circuit):
    plain = isinstance(circuit, Tensor)
    values = torch.linalg.eigvals(circuit) if plain else circuit.eigenvalues()
    return (values.real > 0).double().mean().item()


def mean_direction(M):
    values = torch.linalg.eigvals(M)
    some = values[values.abs() > 1e-9]
    return (some.real / some.abs()).mean() if len(some) else math.nan


def by_eigvalsh(M):
    values = torch.linalg.eigvalsh(M)
    return values.sum() / values.abs().sum() if values.any() else math.nan


def by_the_largest(M):
    values = torch.linalg.eigvals(M)
    largest = values[values.abs().argmax()]
    return largest.real / largest.abs() if largest.abs() else math.nan


COPYING_SCORE = {
    "absolute values were added up above the line too": (
        eigenvalue_ratio(lambda c: c.abs().sum(), torch.abs)
    ),
    "the absolute value of the sum was taken; the sign tells copying from suppressing": (
        eigenvalue_ratio(lambda c: c.sum().abs(), torch.abs)
    ),
    "below the line: the absolute value of the complex number, not of its real part": (
        eigenvalue_ratio(lambda c: c.real.sum(), lambda c: c.real.abs())
    ),
    "signs were counted; a large eigenvalue must weigh more": (
        eigenvalue_ratio(lambda c: c.real.sign().sum(), lambda c: torch.ones(len(c)))
    ),
    "the diagonal was taken; eigenvalues are wanted": (
        on_matrix(lambda M: M.trace() / M.diagonal().abs().sum())
    ),
    "this is trace / norm; below the line belong the absolute eigenvalues": (
        on_matrix(lambda M: M.trace() / M.norm())
    ),
    "with no eigenvalue but 0 the score is undefined: nan": (
        eigenvalue_ratio(lambda c: c.real.sum(), torch.abs, nothing=0.0)
    ),
    "this is the share of positive eigenvalues; how large they are counts": (share_of_positive),
    "below the line stands the size of the sum; add up the sizes": (
        eigenvalue_ratio(lambda c: c.real.sum(), lambda c: c.sum().abs())
    ),
    "singular values stand below the line; the sizes of the eigenvalues are meant": (
        on_matrix(lambda M: M.trace() / torch.linalg.svdvals(M).sum() if M.any() else math.nan)
    ),
    "each eigenvalue was divided by its own size; a large one must weigh more": (
        on_matrix(mean_direction)
    ),
    "eigvalsh is for symmetric matrices only": on_matrix(by_eigvalsh),
    "only the largest eigenvalue was asked": on_matrix(by_the_largest),
    "the trace was divided by the number of tokens; below the line belong the sizes": (
        on_matrix(lambda M: M.trace() / len(M))
    ),
    "only the positive ones stand above the line; negative ones count against them": (
        eigenvalue_ratio(lambda c: c.real.clamp(min=0).sum(), torch.abs)
    ),
    "sizes of real parts stand above the line; the sign tells copying from suppressing": (
        eigenvalue_ratio(lambda c: c.real.abs().sum(), torch.abs)
    ),
    "below the line stands a root of squares; add up the sizes": (
        eigenvalue_ratio(lambda c: c.real.sum(), lambda c: c.abs().pow(2).sum().sqrt())
    ),
}


def centred_by(change):
    """centre with other factors: change(A, B) gives them."""
    return lambda circuit: Product(*change(circuit.A, circuit.B))


def one_mean(A, B):
    M = A @ B
    return M - M.mean(dim=(-2, -1), keepdim=True), torch.eye(M.shape[-1], dtype=M.dtype)


def wide(A, B):
    M = less_mean(A @ B, -1)
    return M, torch.eye(M.shape[-1], dtype=M.dtype)


CENTRED = {
    "nothing was subtracted": centred_by(lambda A, B: (A, B)),
    "the mean over the sources was subtracted, from each column; the rows are meant": (
        centred_by(lambda A, B: (less_mean(A, -2), B))
    ),
    "both means were subtracted; only that over the output vocabulary": (
        centred_by(lambda A, B: (less_mean(A, -2), less_mean(B, -1)))
    ),
    "one mean over everything was subtracted; each row has its own": centred_by(one_mean),
    "the mean went over the narrow axis of B; its columns are those of the circuit": (
        centred_by(lambda A, B: (A, less_mean(B, -2)))
    ),
    "the rows were divided by a standard deviation, too": (
        centred_by(lambda A, B: (A, less_mean(B, -1) / B.std(dim=-1, keepdim=True)))
    ),
    "the sum was subtracted; the mean is meant": (
        centred_by(lambda A, B: (A, B - B.sum(dim=-1, keepdim=True)))
    ),
    "one mean of all of B was subtracted; each of its rows has its own": (
        centred_by(lambda A, B: (A, B - B.mean()))
    ),
    "the mean was added; subtract it": centred_by(lambda A, B: (A, 2 * B - less_mean(B, -1))),
    "axis 1 is not the last one in a batch; count from the end, dim=-1": (
        centred_by(lambda A, B: (A, less_mean(B, 1)))
    ),
    "the median of each row of B was subtracted; the mean is meant": (
        centred_by(lambda A, B: (A, B - B.median(dim=-1, keepdim=True).values))
    ),
}
WIDE = {"the wide matrix was made; centre one of the thin factors": centred_by(wide)}


def merged_qk(model, heads):
    if len({layer for layer, _ in heads}) != 1:
        raise ValueError
    W_Q = torch.cat([model.W_Q[at] for at in heads], dim=1)
    return Product(W_Q, torch.cat([model.W_K[at] for at in heads], dim=1).T)


def merged_ov(merge):
    """effective_ov with another way to merge: merge(W_V [head, d_model, d_head], W_O [head, d_head,
    d_model], heads).
    """

    def effective(model, heads):
        if len({layer for layer, _ in heads}) != 1:
            raise ValueError
        layer = heads[0][0]
        return Product(*merge(model.W_V[layer], model.W_O[layer], [head for _, head in heads]))

    return effective


def side_by_side(V, out, heads):
    return torch.cat(list(V[heads]), dim=1), torch.cat(list(out[heads]))


def join(out, heads):
    return torch.cat(list(out[heads]))


def over_the_root(V, out, heads):
    W_V, W_O = side_by_side(V, out, heads)
    return W_V, W_O / len(heads) ** 0.5


def one_after_the_other(V, out, heads):
    whole = V[heads[0]] @ out[heads[0]]
    for head in heads[1:]:
        whole = whole @ V[head] @ out[head]
    return whole, torch.eye(len(whole), dtype=whole.dtype)


def mean_of_heads(V, out, heads):
    W_V, W_O = side_by_side(V, out, heads)
    return W_V, W_O / len(heads)


MERGING = {
    "W_V and W_O were added up before they were multiplied, so heads mix": (
        merged_ov(lambda V, out, heads: (V[heads].sum(0), out[heads].sum(0)))
    ),
    "the mean was taken; a layer adds its heads up": merged_ov(mean_of_heads),
    "all heads of the layer are in it, not only those asked for": (
        merged_ov(lambda V, out, heads: side_by_side(V, out, range(len(V))))
    ),
    "the sum was divided by a root of the number of heads": (
        merged_ov(
            lambda V, out, heads: (join(V.mT, heads).mT / len(heads) ** 0.5, join(out, heads))
        )
    ),
    "W_Q and W_K were merged; what heads write comes from W_V and W_O": merged_qk,
    "only the first of the heads is in it": (
        merged_ov(lambda V, out, heads: (V[heads[0]], out[heads[0]]))
    ),
    MIXED_WEIGHTS: merged_ov(
        lambda V, out, heads: (torch.cat(list(heads_mixed_up(V[heads])), dim=1), join(out, heads))
    ),
    "the heads were multiplied, one after the other; heads of one layer are added": (
        merged_ov(one_after_the_other)
    ),
    "W_V and W_O stand in different orders, so that heads mix": (
        merged_ov(lambda V, out, heads: (*side_by_side(V, out, heads)[:1], join(out, heads[::-1])))
    ),
}
