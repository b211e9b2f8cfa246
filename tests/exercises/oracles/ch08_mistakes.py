"""What people get wrong in chapter 8: label -> the function they write. Scores and tables; chance
and ceiling, gauges, and paths have files of their own.
"""

import math

import torch

from tests.exercises.oracles.ch08 import RIGHT, length, moves, score, table


def largest(A):
    """The spectral norm: the largest singular value."""
    return torch.linalg.svdvals(A)[0].item()


def absolute(A):
    return A.abs().sum().item()


def mean_row(A):
    return A.norm(dim=-1).mean().item()


def nuclear(A):
    return torch.linalg.svdvals(A).sum().item()


def by(size):
    """A composition score with another size than the Frobenius norm."""
    return lambda A, B: size(A @ B) / (size(A) * size(B))


def rows_of_length_1(A, B):
    A, B = A / A.norm(dim=-1, keepdim=True), B / B.norm(dim=-1, keepdim=True)
    return length(A @ B) / math.sqrt(A.numel())


SCORE = {
    "the product is in the wrong order: row vectors meet A first, so A @ B": (
        lambda A, B: score(B, A)
    ),
    "the result is |A B| alone; it must be divided by |A| |B|": lambda A, B: length(A @ B),
    "it was divided by |A| alone; divide by |A| |B|": lambda A, B: length(A @ B) / length(A),
    "it was divided by |A| + |B|; divide by the product |A| |B|": (
        lambda A, B: length(A @ B) / (length(A) + length(B))
    ),
    "the root is missing: use norms, not sums of squares": lambda A, B: score(A, B) ** 2,
    "that is the spectral norm (largest singular value); use the root of the sum of all squares": (
        by(largest)
    ),
    "absolute values were added; the Frobenius norm is the root of the sum of all squares": (
        by(absolute)
    ),
    "singular values were added; the Frobenius norm is the root of the sum of all squares": (
        by(nuclear)
    ),
    "each row was brought to length 1 by itself; divide by the norms of the whole matrices": (
        rows_of_length_1
    ),
    "it was divided by the norm of a product of absolute values; divide by |A| |B|": (
        lambda A, B: length(A @ B) / length(A.abs() @ B.abs())
    ),
    "the lengths of the rows were averaged; the norm is over all entries": by(mean_row),
    "B was transposed": lambda A, B: score(A, B.T),
    "that is the cosine of A and B as lists of numbers; the matrices must be multiplied": (
        lambda A, B: ((A * B).sum() / length(A) / length(B)).item()
    ),
    "entries were multiplied one by one, which adds up to the trace of A B; take its norm": (
        lambda A, B: abs((A * B.T).sum().item()) / (length(A) * length(B))
    ),
    "what chance gives was subtracted; a score does without (normalised_composition comes later)": (
        lambda A, B: score(A, B) - A.shape[-1] ** -0.5
    ),
}


def cyclic_score(factors, B):
    """factors: W_V and W_O of the head that writes."""
    W_V, W_O = factors
    return length(W_O @ B @ W_V) / (length(W_V @ W_O) * length(B))


def factors(model, kind):
    """composition_table with W_Q, W_K or W_V alone, which a rotation inside the head changes."""
    read, heads = {"Q": model.W_Q, "K": model.W_K, "V": model.W_V}[kind][1].detach(), (0, 1, 2)
    OV = model.W_V[0].detach() @ model.W_O[0].detach()
    return torch.tensor([[score(OV[g], read[h]) for h in heads] for g in heads]).to(OV.dtype)


def W_V_alone(model, kind):
    if kind != "V":
        return table()(model, kind)
    read, heads = model.W_V[1].detach(), range(model.cfg.n_heads)
    scores = [[score(moves(model, (0, g)), read[h]) for h in heads] for g in heads]
    return torch.tensor(scores).to(read.dtype)


def what_is_written_transposed(model, kind):
    if kind != "K":
        return table()(model, kind)
    return table(writes=lambda model, at: moves(model, at).T)(model, kind)


EXCHANGED = {"Q and K are exchanged": table({**RIGHT, "Q": RIGHT["K"], "K": RIGHT["Q"]})}
TABLE = EXCHANGED | {
    "for K, W_QK must be transposed: the key is what stands on its right": table(
        {**RIGHT, "K": RIGHT["Q"]}
    ),
    "for Q, W_QK must not be transposed: the query stands on its left": table(
        {**RIGHT, "Q": RIGHT["K"]}
    ),
    "W_OV of the layer-1 head is transposed": table({**RIGHT, "V": lambda QK, OV: OV.T}),
    "W_OV of the layer-0 head is transposed": table(writes=lambda model, at: moves(model, at).T),
    "the order is reversed: the layer-0 head comes first": table(score=lambda A, B: score(B, A)),
    "the factors were moved around the circle; a trace allows that, the Frobenius norm does not": (
        table(writes=lambda model, at: (model.W_V[at], model.W_O[at]), score=cyclic_score)
    ),
    "V must use W_OV of the layer-1 head, not its W_QK": table({**RIGHT, "V": RIGHT["Q"]}),
}
ON_RANDOM_WEIGHTS = TABLE | {
    "rows and columns are exchanged: a row is a head of layer 0": table(flip=True),
    "layer 1 reads with W_QK or W_OV, whole circuits, not with W_Q, W_K or W_V alone": factors,
    "what the layer-0 head writes is W_OV = W_V W_O, not W_O alone": table(
        writes=lambda model, at: model.W_O[at].detach()
    ),
    "the layer-0 head writes with W_OV; its W_QK only says where it looks": table(
        writes=lambda model, at: (model.W_Q[at] @ model.W_K[at].T).detach()
    ),
    "V must use W_OV of the layer-1 head, not W_V alone": W_V_alone,
    "for K, W_QK is transposed, not what layer 0 writes": what_is_written_transposed,
    "only heads of equal number were paired; every head meets every head": (
        lambda model, kind: table()(model, kind).diag().diag()
    ),
    "the same matrix was read for every kind; for Q and K it is W_QK": (
        lambda model, kind: table()(model, "V")
    ),
    "the layers are exchanged: layer 0 writes, layer 1 reads": table(layers=(1, 0)),
    "the last layer was taken instead of layer 1": table(layers=(0, -1)),
    "what chance gives was subtracted; the table holds the scores": table(
        score=lambda A, B: score(A, B) - A.shape[0] ** -0.5
    ),
}
