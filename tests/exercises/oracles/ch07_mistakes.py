"""Wrong answers to the exercises of chapter 7 about circuits: label -> what people write."""

import math
from types import SimpleNamespace

import torch
from torch import Tensor

from tests.exercises.oracles.ch07 import MODEL, SCALE, VOCAB, scores_by_loops

# Circuits


class Product:
    """What a wrong answer returns in the place of a LowRank. Equal to anything that is the same
    matrix.
    """

    def __init__(self, A: Tensor, *others: Tensor):
        self.A, self.B = A.detach(), others[0].detach()
        for factor in others[1:]:
            self.B = self.B @ factor.detach()

    def __eq__(self, other):
        mine, theirs = self.A @ self.B, other.A @ other.B
        return mine.shape == theirs.shape and torch.allclose(mine, theirs)


def product_of(build):
    """A wrong circuit: build(w) gives its factors, from w.Q, w.K, w.V, w.O (of the head) and w.E,
    w.U, w.pos.
    """

    def circuit(model, layer, head):
        own = {name: getattr(model, f"W_{name}")[layer, head] for name in "QKVO"}
        return Product(*build(SimpleNamespace(**own, E=model.W_E, U=model.W_U, pos=model.W_pos)))

    return circuit


def layer_0_only(build):
    circuit = product_of(build)
    return lambda model, layer, head: circuit(model, 0, head)


def first_20(W_E):
    return W_E * (VOCAB < 20)[:, None]


def masked(w):
    scores = w.pos @ w.Q @ w.K.T @ w.pos.T
    return scores.tril(), torch.eye(len(scores), dtype=scores.dtype)


EXCHANGED = "query and key are exchanged: W_Q W_K^T is wanted"
SCALED = "1/sqrt(d_head) belongs to the score, not to the circuit"
NO_LAYER = "the layer was ignored"
ONLY_20 = "only the first 20 tokens are right"

QK = {
    EXCHANGED: product_of(lambda w: (w.K, w.Q.T)),
    SCALED: product_of(lambda w: (w.Q / SCALE, w.K.T)),
    NO_LAYER: layer_0_only(lambda w: (w.Q, w.K.T)),
}
OV = {
    "W_OV is transposed: rows are what is read, columns what is written": (
        product_of(lambda w: (w.O.T, w.V.T))
    ),
    "W_K was used in the place of W_V": product_of(lambda w: (w.K, w.O)),
    NO_LAYER: layer_0_only(lambda w: (w.V, w.O)),
}
FULL_QK = {
    EXCHANGED: product_of(lambda w: (w.E @ w.K, w.Q.T, w.E.T)),
    SCALED: product_of(lambda w: (w.E @ w.Q / SCALE, w.K.T, w.E.T)),
    "W_U stands where W_E^T belongs: keys are made from embeddings": (
        product_of(lambda w: (w.E @ w.Q, w.K.T, w.U))
    ),
    ONLY_20: product_of(lambda w: (first_20(w.E) @ w.Q, w.K.T, w.E.T)),
}
FULL_OV = {
    "the circuit is transposed: rows are sources, columns logits": (
        product_of(lambda w: (w.U.T @ w.O.T, w.V.T, w.E.T))
    ),
    "W_OV is transposed inside": product_of(lambda w: (w.E @ w.O.T, w.V.T, w.U)),
    "W_E^T stands where W_U belongs: logits are wanted": (
        product_of(lambda w: (w.E @ w.V, w.O, w.E.T))
    ),
    ONLY_20: product_of(lambda w: (first_20(w.E) @ w.V, w.O, w.U)),
}
POSITION_QK = {
    EXCHANGED: product_of(lambda w: (w.pos @ w.K, w.Q.T, w.pos.T)),
    SCALED: product_of(lambda w: (w.pos @ w.Q / SCALE, w.K.T, w.pos.T)),
    "later keys were masked: the circuit is the whole matrix": product_of(masked),
}


def score_variant(scale=SCALE, positions="right", swapped=False, masked=False):
    """score_from_weights with one thing changed; the defaults are right."""

    def score(model, layer, head, stream):
        shortformer = model.cfg.positional_embedding_type == "shortformer"
        added = {"right": shortformer, "never": False, "always": True}[positions]
        x = stream + added * model.W_pos.detach()[: stream.shape[1]]
        scores = torch.stack([scores_by_loops(row, layer, head, model) for row in x]) / scale
        scores = scores.mT.contiguous() if swapped else scores
        hidden = torch.ones_like(scores).triu(1) > 0
        return scores.masked_fill(hidden, -math.inf) if masked else scores

    return score


SCORES = {
    "the scores were not divided by sqrt(d_head)": score_variant(scale=1.0),
    "the scores were divided by d_head, not by its square root": score_variant(scale=SCALE**2),
    "in a shortformer q and k read stream + W_pos; the positions are missing": (
        score_variant(positions="never")
    ),
    "in a standard model the stream holds the positions already; they were added twice": (
        score_variant(positions="always")
    ),
    "query and key are exchanged": score_variant(swapped=True),
    "the causal mask was applied; the scores of all pairs are wanted": score_variant(masked=True),
    "the scores were divided by sqrt(d_model); the scale is sqrt(d_head)": (
        score_variant(scale=math.sqrt(MODEL.cfg.d_model))
    ),
}


# Scores of circuits, and several heads as one


def on_matrix(score):
    return lambda circuit: float(score(circuit if isinstance(circuit, Tensor) else circuit.dense))


def diagonal_wins(M, dim=-1):
    return (M.argmax(dim) == torch.arange(len(M))).double().mean()


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
}


def eigenvalue_ratio(above, below, nothing=math.nan):
    def ratio(M):
        values = torch.linalg.eigvals(M)
        return above(values) / below(values).sum() if values.abs().sum() else nothing

    return on_matrix(ratio)


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
}


TENSOR = "a tensor was returned; .item() makes a float of it"


def accuracy_as_tensor(circuit):
    return diagonal_wins(circuit if isinstance(circuit, Tensor) else circuit.dense)


def score_as_tensor(circuit):
    values = torch.linalg.eigvals(circuit if isinstance(circuit, Tensor) else circuit.dense)
    return values.sum().real / values.abs().sum()


def centred_by(change):
    """centre with other factors: change(A, B) gives them."""
    return lambda circuit: Product(*change(circuit.A, circuit.B))


def less_mean(x, dim):
    return x - x.mean(dim=dim, keepdim=True)


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
}
WIDE = {"the wide matrix was made; centre one of the thin factors": centred_by(wide)}


def centred_in_place(circuit):
    circuit.B -= circuit.B.mean(dim=-1, keepdim=True)
    return circuit


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
}
