"""What the checks of chapter 7 measure against: definitions in loops, the model run the long way,
and wrong answers.
"""

import math
from types import SimpleNamespace

import torch
from torch import Tensor

from minitransformer import ModelConfig, Transformer
from minitransformer.planted import induction_model
from solutions.ch07_qk_ov_circuits import LowRank
from tests.exercises.checking import expect

SIZES = {"n_heads": 3, "d_model": 12, "d_head": 4, "d_vocab": 23, "n_ctx": 7}
MODEL, STANDARD = (
    Transformer(ModelConfig(**SIZES, positional_embedding_type=kind), seed=3).double()
    for kind in ("shortformer", "standard")
)
HEADS = [(0, 2), (1, 0), (1, 1)]
VOCAB = torch.arange(SIZES["d_vocab"])


def draw(*shape, seed=1):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


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


def dense(result) -> Tensor:
    """The whole matrix of a LowRank, from whichever file its class is."""
    kind = type(result).__name__
    expect(
        hasattr(result, "A") and hasattr(result, "B"),
        f"expected a LowRank, which keeps two factors apart, got {kind}",
    )
    return result.A @ result.B


# The truth


def scores_by_loops(x, layer, head, model=MODEL):
    """x [pos, d_model] -> [query, key]: q_i . k_j, one number at a time."""
    q, k = (x @ W[layer, head].detach() for W in (model.W_Q, model.W_K))
    return torch.tensor(
        [[sum(a * b for a, b in zip(qi, kj)) for kj in k.tolist()] for qi in q.tolist()],
        dtype=x.dtype,
    )


def score_of_tokens(layer, head):
    """[vocab, vocab], the long way: run every pair of tokens without positions and without what
    layer 0 writes.
    """
    pairs = torch.cartesian_prod(VOCAB, VOCAB).flip(1)  # the key stands first, the query second
    names = ["hook_pos_embed", "blocks.0.hook_attn_out"]
    scores = f"blocks.{layer}.attn.hook_attn_scores"
    _, cache = MODEL.run_with_cache(
        pairs, [scores], [(name, lambda old, hook: 0 * old) for name in names]
    )
    return cache[scores][:, head, 1, 0].view(len(VOCAB), len(VOCAB)) * math.sqrt(MODEL.cfg.d_head)


def written_from_first(x, layer, head):
    """[batch, d_model]: what a head writes at position 1 of the stream x [batch, 2, d_model] if it
    sees position 0 only.
    """
    at, tokens = f"blocks.{layer}.", torch.zeros(len(x), 2, dtype=torch.long)
    first = torch.tensor([[1.0, 0.0], [1.0, 0.0]], dtype=x.dtype)
    hooks = [
        (at + "hook_resid_pre", lambda old, hook: x),
        (at + "attn.hook_pattern", lambda old, hook: first.expand_as(old)),
    ]
    _, cache = MODEL.run_with_cache(tokens, [at + "attn.hook_result"], hooks)
    return cache[at + "attn.hook_result"][:, 1, head]


def planted_circuits():
    """Full OV circuits without BOS: of the planted induction head, which copies, and of its
    previous-token head: all 0.
    """
    model = induction_model(d_vocab=8, n_ctx=12).double()
    full = [
        model.W_E @ LowRank(model.W_V[layer, 0], model.W_O[layer, 0]) @ model.W_U
        for layer in (1, 0)
    ]
    return [circuit[1:, 1:] for circuit in full]


IDENTITY = torch.eye(6, dtype=torch.float64)
# each token raises another one; the eigenvalues are the 6th roots of 1
CIRCLE = IDENTITY.roll(1, dims=0)
# whatever the source; eigenvalues 7 and 0
RAISES_3 = torch.ones(6, 6, dtype=torch.float64) + IDENTITY[3]
MIXED = IDENTITY.clone()  # 4 of 6 rows have their largest entry on the diagonal, 5 of 6 columns
MIXED[[2, 3], 0], MIXED[4, 5] = 2.0, -3.0
# eigenvalues 1, -3, 1
TRIANGLE = torch.tensor([[1.0, 9.0, 0.0], [0.0, -3.0, 0.0], [5.0, 0.0, 1.0]], dtype=torch.float64)
PAIR = torch.block_diag(
    IDENTITY[:3, :3].roll(1, dims=0), torch.tensor([[-5.0]]).double()
)  # 1, e^(2 pi i/3), e^(-2 pi i/3), -5

# Wrong answers


def exchanged_product(A, B, C, D):
    return (C, D @ A @ B) if C.shape[-1] < B.shape[-2] else (C @ D @ A, B)


def wider_product(A, B, C, D):
    return (A @ B @ C, D) if A.shape[-1] < D.shape[-2] else (A, B @ C @ D)


def svd_variant(change):
    """low_rank_svd by way of the dense matrix, with its three results changed: change(A, B, U, S,
    Vh).
    """

    def svd(A, B):
        U, S, Vh = torch.linalg.svd(A @ B, full_matrices=False)
        t = min(A.shape[-2], A.shape[-1], B.shape[-1])
        return change(A, B, U[..., :t], S[..., :t], Vh[..., :t, :])

    return svd


def product_of(build):
    """A wrong circuit: build(w) gives its factors, from w.Q, w.K, w.V, w.O (of the head) and w.E,
    w.U, w.pos.
    """

    def circuit(model, layer, head):
        own = {name: getattr(model, f"W_{name}")[layer, head] for name in "QKVO"}
        return Product(*build(SimpleNamespace(**own, E=model.W_E, U=model.W_U, pos=model.W_pos)))

    return circuit


def layer_0_only(circuit):
    return lambda model, layer, head: circuit(model, 0, head)


def first_20(W_E):
    return W_E * (VOCAB < 20)[:, None]


def score_variant(scale=2.0, positions="right", swapped=False, masked=False):
    """score_from_weights with one thing changed; the defaults are right (d_head is 4 here)."""

    def score(model, layer, head, stream):
        shortformer = model.cfg.positional_embedding_type == "shortformer"
        added = {"right": shortformer, "never": False, "always": True}[positions]
        x = stream + added * model.W_pos.detach()[: stream.shape[1]]
        scores = torch.stack([scores_by_loops(row, layer, head, model) for row in x]) / scale
        scores = scores.mT.contiguous() if swapped else scores
        return (
            scores.masked_fill(torch.ones_like(scores).triu(1) > 0, -math.inf) if masked else scores
        )

    return score


def on_matrix(score):
    return lambda circuit: float(score(circuit if isinstance(circuit, Tensor) else circuit.dense))


def diagonal_wins(M, dim=-1):
    return (M.argmax(dim) == torch.arange(len(M))).double().mean()


def eigenvalue_ratio(above, below, nothing=math.nan):
    def ratio(M):
        values = torch.linalg.eigvals(M)
        return above(values) / below(values).sum() if values.abs().sum() else nothing

    return on_matrix(ratio)


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


EIGENVALUE_MISTAKES = {
    "these are the eigenvalues of the wide A B, zeros and all: take those of B A": lambda A, B: (
        torch.linalg.eigvals(A @ B)
    ),
    "singular values are not eigenvalues": lambda A, B: torch.linalg.svdvals(B @ A) + 0j,
    "eigvalsh is for symmetric matrices only": lambda A, B: torch.linalg.eigvalsh(B @ A) + 0j,
    "the absolute values were taken": lambda A, B: torch.linalg.eigvals(B @ A).abs() + 0j,
}

SVD_MISTAKES = {
    "the third result is V; wanted is Vh, its transpose (a well-known library confused them for years)": svd_variant(
        lambda A, B, U, S, Vh: (U, S, Vh.mT.contiguous())
    ),
    "the singular values were squared": svd_variant(lambda A, B, U, S, Vh: (U, S**2, Vh)),
    "singular values of a product are not the products of singular values": svd_variant(
        lambda A, B, U, S, Vh: (
            U,
            (torch.linalg.svdvals(A) * torch.linalg.svdvals(B))[..., : S.shape[-1]],
            Vh,
        )
    ),
    "directions with singular value 0 were kept: there are at most min(m, r, n) others": (
        lambda A, B: torch.linalg.svd(A @ B, full_matrices=False)
    ),
}

COPYING_MISTAKES = {
    "absolute values were added up above the line too": eigenvalue_ratio(
        lambda c: c.abs().sum(), torch.abs
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
    "the diagonal was taken; eigenvalues are wanted": on_matrix(
        lambda M: M.trace() / M.diagonal().abs().sum()
    ),
    "this is trace / norm; below the line belong the absolute eigenvalues": on_matrix(
        lambda M: M.trace() / M.norm()
    ),
    "with no eigenvalue but 0 the score is undefined: nan": eigenvalue_ratio(
        lambda c: c.real.sum(), torch.abs, nothing=0.0
    ),
}

MERGING_MISTAKES = {
    "W_V and W_O were added up before they were multiplied, so heads mix": merged_ov(
        lambda V, out, heads: (V[heads].sum(0), out[heads].sum(0))
    ),
    "the mean was taken; a layer adds its heads up": merged_ov(
        lambda V, out, heads: (
            torch.cat(list(V[heads]), 1),
            torch.cat(list(out[heads])) / len(heads),
        )
    ),
    "all heads of the layer are in it, not only those asked for": merged_ov(
        lambda V, out, heads: (torch.cat(list(V), 1), torch.cat(list(out)))
    ),
}
