"""Chapter 7. What a head does, read from its weights: where it looks (QK) and what it moves (OV).

Axis words: batch pos query key head d_model d_head vocab. Row vectors: x @ W. A head is a pair
(layer, head). A circuit is the product of a few weight matrices with the narrow d_head in the
middle, so it is kept in two thin factors. The class LowRank makes such a pair comfortable to use.
It calls three functions that you write: for the product, singular values and eigenvalues.
"""

import math

import torch
from torch import Tensor

from minitransformer import Transformer


def low_rank_matmul(A: Tensor, B: Tensor, C: Tensor, D: Tensor) -> tuple[Tensor, Tensor]:
    """The product (A B)(C D), again as two thin factors: left @ right = A B C D.

    No wide matrix is ever made. A [.., m, r], B [.., r, k], C [.., k, s], D [.., s, n] -> left
    [.., m, t], right [.., t, n] with t = min(r, s): a product has at most the rank of its weaker
    half.
    """
    # YOUR CODE: first multiply what is small, then keep the narrower middle; roughly 2 lines
    middle = B @ C  # [.., r, s], tiny
    return (A, middle @ D) if A.shape[-1] <= D.shape[-2] else (A @ middle, D)


class LowRank:
    """The matrix M = A B, kept as two thin factors A [.., m, r] and B [.., r, n].

    Leading axes are a batch. M @ other and other @ M: LowRank for a matrix or a LowRank, a tensor
    for a vector [n]. M[rows, columns] picks from the last two axes: LowRank, or a tensor where an
    index is a whole number. M.T, M.trace(), M.norm() (Frobenius), M.eigenvalues(), M.svd(), M.dense
    (all of it, as a tensor), M.shape. Gradients are left behind: circuits are for reading.
    """

    def __init__(self, A: Tensor, B: Tensor):
        if A.ndim < 2 or B.ndim < 2 or A.shape[-1] != B.shape[-2]:
            shapes = f"{list(A.shape)} and {list(B.shape)}"
            raise ValueError(f"A [.., m, r] and B [.., r, n] do not fit: {shapes}.")
        self.A, self.B = A.detach(), B.detach()

    @property
    def dense(self) -> Tensor:
        return self.A @ self.B

    @property
    def shape(self) -> torch.Size:
        batch = torch.broadcast_shapes(self.A.shape[:-2], self.B.shape[:-2])
        return torch.Size([*batch, self.A.shape[-2], self.B.shape[-1]])

    @property
    def T(self) -> "LowRank":
        return LowRank(self.B.mT, self.A.mT)

    def __matmul__(self, other: "Tensor | LowRank") -> "Tensor | LowRank":
        if not isinstance(other, Tensor):
            return LowRank(*low_rank_matmul(self.A, self.B, other.A, other.B))
        if other.ndim == 1:
            return (self @ other[:, None]).dense[..., 0]
        return LowRank(self.A, self.B @ other)

    def __rmatmul__(self, other: Tensor) -> "Tensor | LowRank":
        if other.ndim == 1:
            return (other[None] @ self).dense[..., 0, :]
        return LowRank(other @ self.A, self.B)

    def __getitem__(self, index) -> "Tensor | LowRank":
        rows, columns = index if isinstance(index, tuple) else (index, slice(None))
        one_row, one_column = isinstance(rows, int), isinstance(columns, int)
        A = self.A[..., [rows] if one_row else rows, :]
        B = self.B[..., [columns] if one_column else columns]
        if not one_row and not one_column:
            return LowRank(A, B)
        picked = A @ B  # [.., rows, columns]; an axis that was asked for by number goes
        picked = picked.squeeze(-1) if one_column else picked
        return picked.squeeze(-1 if one_column else -2) if one_row else picked

    def trace(self) -> Tensor:
        return (self.A * self.B.mT).sum(dim=(-2, -1))

    def norm(self) -> Tensor:
        R_A = torch.linalg.qr(self.A, mode="r").R
        R_B = torch.linalg.qr(self.B.mT, mode="r").R
        return (R_A @ R_B.mT).norm(dim=(-2, -1))

    def eigenvalues(self) -> Tensor:
        return low_rank_eigenvalues(self.A, self.B)

    def svd(self) -> tuple[Tensor, Tensor, Tensor]:
        return low_rank_svd(self.A, self.B)

    def __repr__(self) -> str:
        return f"LowRank({list(self.shape)}, rank at most {self.A.shape[-1]})"


def qk_matrix(model: Transformer, layer: int, head: int) -> LowRank:
    """Where a head looks: W_QK = W_Q W_K^T [d_model, d_model].

    Rows belong to the query side, columns to the key side. x_i W_QK x_j^T / sqrt(d_head) is a
    score; the scale 1/sqrt(d_head) is *not* in W_QK. Elhage et al. 2021, "A Mathematical Framework
    for Transformer Circuits" (which writes column vectors: every matrix there is transposed).
    """
    # YOUR CODE: roughly 1 line
    return LowRank(model.W_Q[layer, head], model.W_K[layer, head].T)


def ov_matrix(model: Transformer, layer: int, head: int) -> LowRank:
    """What a head moves: W_OV = W_V W_O [d_model, d_model]; attending fully to x_j writes x_j W_OV.

    Rows belong to the source (what is read), columns to the destination (what is written). Elhage
    et al. 2021.
    """
    # YOUR CODE: roughly 1 line
    return LowRank(model.W_V[layer, head], model.W_O[layer, head])


def low_rank_svd(A: Tensor, B: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The singular value decomposition U diag(S) Vh = A B, from a small matrix in the middle.

    A [.., m, r], B [.., r, n] -> U [.., m, t], S [.., t] falling and never negative, Vh [.., t, n],
    t = min(m, r, n). The columns of U and the *rows* of Vh are orthonormal. With QR decompositions
    A = Q_A R_A and B^T = Q_B R_B, A B = Q_A (R_A R_B^T) Q_B^T, and orthonormal Q_A, Q_B do not
    change singular values.
    """
    # YOUR CODE: two QR decompositions, one small SVD, two products; roughly 4 lines
    Q_A, R_A = torch.linalg.qr(A)
    Q_B, R_B = torch.linalg.qr(B.mT)
    U, S, Vh = torch.linalg.svd(R_A @ R_B.mT, full_matrices=False)
    return Q_A @ U, S, Vh @ Q_B.mT


def low_rank_eigenvalues(A: Tensor, B: Tensor) -> Tensor:
    """The eigenvalues of A B, from a matrix of only r x r.

    A [.., n, r], B [.., r, n] -> complex [.., r], in any order. A B and B A have the same
    eigenvalues, apart from zeros: if A B v = c v with c not 0, then B A (B v) = c (B v). The other
    n - r eigenvalues of A B are 0. A d_vocab x d_vocab circuit of a head thus needs a d_head x
    d_head problem only.
    """
    # YOUR CODE: roughly 1 line; torch.linalg has it for square matrices
    return torch.linalg.eigvals(B @ A)


def score_from_weights(model: Transformer, layer: int, head: int, stream: Tensor) -> Tensor:
    """The attention scores of a head from W_QK alone: x_i W_QK x_j^T / sqrt(d_head), unmasked.

    stream [batch, pos, d_model]: the residual stream in front of this layer
    (`blocks.L.hook_resid_pre`). Returns [batch, query, key]. x is what q and k read: if
    model.cfg.positional_embedding_type is "shortformer", the first `pos` rows of W_pos have to be
    added to the stream; if "standard", they are in it already. Exact without LayerNorm and smeared
    keys.
    """
    # YOUR CODE: what q and k read, both sides of W_QK, the scale; roughly 3 lines
    in_stream = model.cfg.positional_embedding_type == "standard"
    x = stream if in_stream else stream + model.W_pos[: stream.shape[1]]  # batch pos d_model
    return (x @ qk_matrix(model, layer, head) @ x.mT).dense / math.sqrt(model.cfg.d_head)


def position_qk_circuit(model: Transformer, layer: int, head: int) -> LowRank:
    """Which position wants which: W_pos W_QK W_pos^T, [query position, key position].

    Not divided by sqrt(d_head). No causal mask: also pairs with a later key have a value, which no
    head ever uses.
    """
    # YOUR CODE: roughly 1 line
    return model.W_pos @ qk_matrix(model, layer, head) @ model.W_pos.T


def full_ov_circuit(model: Transformer, layer: int, head: int) -> LowRank:
    """What attending to a source token adds to every logit: W_E W_V W_O W_U.

    [vocab of the source, vocab of the logit]. Elhage et al. 2021.
    """
    # YOUR CODE: roughly 1 line
    return model.W_E @ ov_matrix(model, layer, head) @ model.W_U


def as_matrix(circuit: Tensor | LowRank) -> Tensor:
    """A circuit as a plain matrix, whichever way it is kept."""
    return circuit if isinstance(circuit, Tensor) else circuit.dense


def copying_accuracy(circuit: Tensor | LowRank) -> float:
    """For what share of source tokens is the most raised logit the token itself? Chance: 1 / vocab.

    circuit [vocab of the source, vocab of the logit], such as full_ov_circuit gives. The most
    raised logit is the largest of its row, not the one that moves most; of equal ones any may
    count. Every row counts, also the first. Returns a float from 0 to 1.
    """
    # YOUR CODE: the helper `as_matrix` makes a matrix of it; roughly 3 lines
    favourite = as_matrix(circuit).argmax(dim=-1)  # vocab of the source
    itself = torch.arange(len(favourite), device=favourite.device)
    return (favourite == itself).double().mean().item()


def copying_score(circuit: Tensor | LowRank) -> float:
    """Does a circuit map things to themselves? sum of its eigenvalues / sum of their sizes.

    circuit: square; a LowRank knows its eigenvalues, for a plain matrix use torch.linalg.eigvals.
    The size of an eigenvalue is its absolute value, so the score lies between -1 and 1. The sum is
    real: complex eigenvalues come in conjugate pairs. Returns a float, nan if every eigenvalue is
    0. 1: all others are positive, and an eigenvector v comes out as itself, v M = c v with c > 0
    (the identity, copying heads). That is no promise for other vectors: [[1, -10], [0, 1]] scores
    1, and turns (2, 1) against itself. -1: all are negative. About 0: as with random weights.
    Elhage et al. 2021.
    """
    # YOUR CODE: roughly 4 lines
    plain = isinstance(circuit, Tensor)
    values = torch.linalg.eigvals(circuit) if plain else circuit.eigenvalues()
    size = values.abs().sum().item()
    return values.sum().real.item() / size if size else math.nan


def centre(circuit: LowRank) -> LowRank:
    """A full OV circuit as softmax sees it: each row less its mean over the output vocabulary.

    circuit [.., vocab of the source, vocab of the logit], such as full_ov_circuit gives. A vector u
    added to every column of W_U adds one number to each row; of the centred circuit it changes
    nothing. Rows still belong to single sources: nothing is averaged over the sources. Works on the
    thin factors, without making the wide matrix, and leaves the given circuit as it is.
    """
    # YOUR CODE: which of the two factors holds the columns of the product? roughly 1 line
    return LowRank(circuit.A, circuit.B - circuit.B.mean(dim=-1, keepdim=True))


def effective_ov(model: Transformer, heads: list[tuple[int, int]]) -> LowRank:
    """Several heads of one layer as one: the sum of their W_OV, [d_model, d_model].

    Its rank is up to len(heads) d_head. It is exactly what the heads write together where they
    attend alike, since a layer adds up its heads. heads: pairs (layer, head), each named once. As
    factors: the W_V side by side, the W_O below each other. (W_QK cannot be added: scores of
    different heads never meet, each goes through a softmax of its own.) Raises ValueError if
    `heads` is empty or spans several layers, which read different streams.
    """
    # YOUR CODE: roughly 5 lines, with torch.cat
    if len({layer for layer, _ in heads}) != 1:
        raise ValueError(f"heads of one layer are needed, at least one; not {heads}.")
    W_V = torch.cat([model.W_V[layer, head] for layer, head in heads], dim=1)
    W_O = torch.cat([model.W_O[layer, head] for layer, head in heads], dim=0)
    return LowRank(W_V, W_O)


def full_qk_circuit(model: Transformer, layer: int, head: int) -> LowRank:
    """Which query token wants which key token: W_E W_QK W_E^T.

    [vocab of the query, vocab of the key]. Not divided by sqrt(d_head). It speaks of what the
    embedding put into the stream, nothing else. Elhage et al. 2021.
    """
    # YOUR CODE: a LowRank can be multiplied by a matrix from both sides; roughly 1 line
    return model.W_E @ qk_matrix(model, layer, head) @ model.W_E.T
