"""What the checks of chapter 2 compare with: subspaces turned by known angles, loops over pairs,
and what people get wrong.
"""

import math

import torch
from torch.linalg import inv, svdvals

from tests.material import seeded, small_model

TOKENS = torch.tensor([[0, 3, 7, 3, 10, 1], [0, 5, 5, 2, 9, 4]])
PLAIN = small_model()
HEADS = ["0.0", "0.1", "0.2", "1.0", "1.1", "1.2"]
STANDARD = small_model(positional_embedding_type="standard")
MODELS = {
    "positions on q and k only": (PLAIN, ["embed", *HEADS]),
    "positions in the stream": (STANDARD, ["embed", "pos", *HEADS]),
    "one layer": (small_model(n_layers=1), ["embed", *HEADS[:3]]),
    "with an MLP": (small_model(d_mlp=7), ["embed", *HEADS[:3], "0.mlp", *HEADS[3:], "1.mlp"]),
}


def cache_of(model):
    return model.run_with_cache(TOKENS)[1]


# residual_decomposition


def decomposed(positions="where added", residuals=False, whole_layers=False, skip=()):
    """residual_decomposition with one thing changed, by other means: a component is one change of
    the stream.
    """

    def decompose(cache):
        parts = {"embed": cache["hook_embed"], "pos": cache["hook_pos_embed"]}
        added = not torch.equal(cache["blocks.0.hook_resid_pre"], parts["embed"])
        if positions == "never" or (positions == "where added" and not added):
            del parts["pos"]
        for name, value in cache.items():
            layer = name.split(".")[1] if "." in name else None
            if name.endswith("hook_result") and not whole_layers:
                parts |= {f"{layer}.{head}": value[:, :, head] for head in range(value.shape[2])}
            if name.endswith("hook_attn_out") and whole_layers:
                parts[f"{layer}.0"] = value
            if name.endswith("hook_mlp_out"):
                parts[f"{layer}.mlp"] = value
            if name.endswith("hook_resid_post") and residuals:
                parts[f"{layer}.resid"] = value
        kept = {label: part for label, part in parts.items() if label not in skip}
        return list(kept), torch.stack(list(kept.values()))

    return decompose


def misnamed(cache):
    labels, components = decomposed()(cache)
    return labels, components[[0, 3, 2, 1, 6, 5, 4]]


DECOMPOSITION_MISTAKES = {
    "positions are counted as part of the stream; this model gives them to q and k only": (
        decomposed(positions="always")
    ),
    "positions are missing where the model does add them to the stream": (
        decomposed(positions="never")
    ),
    "hook_resid_post was taken as a component: that is the sum so far, not what a layer adds": (
        decomposed(residuals=True)
    ),
    "the heads of a layer are one component (hook_attn_out); give each head its own "
    "(hook_result)": decomposed(whole_layers=True),
    "the embedding is missing: it was there first": decomposed(skip=("embed",)),
    "the MLPs are missing": decomposed(skip=("0.mlp", "1.mlp")),
}


# rotate_head

HEAD = [PLAIN.state_dict()[name][1, 2] for name in ("W_Q", "W_K", "W_V", "W_O")]
D_HEAD = PLAIN.cfg.d_head
TURN = torch.randn(D_HEAD, D_HEAD, generator=seeded(2)).double()
M = torch.eye(D_HEAD).double() + 0.6 * TURN  # invertible, and far from a rotation


def itself(M):
    return M


def transposed(M):
    return M.T


def inverse_transposed(M):
    return inv(M).T


def nothing(M):
    return torch.eye(len(M)).to(M)


def rotated(for_k=inverse_transposed, for_o=inv, for_q_and_v=itself):
    """rotate_head, given by what multiplies each matrix; the defaults are right."""

    def rotate(W_Q, W_K, W_V, W_O, M):
        return W_Q @ for_q_and_v(M), W_K @ for_k(M), W_V @ for_q_and_v(M), for_o(M) @ W_O

    return rotate


ROTATION_MISTAKES = {
    "W_K was multiplied by M as well: that is right only if M is a rotation": rotated(for_k=itself),
    "W_K was multiplied by the inverse of M, not transposed: in q k^T the k stands transposed": (
        rotated(for_k=inv)
    ),
    "W_K was left as it is": rotated(for_k=nothing),
    "W_O was multiplied by M transposed: that is right only if M is a rotation": (
        rotated(for_o=transposed)
    ),
    "this is right only if M is a rotation: in general M transposed does not undo M": (
        rotated(for_k=itself, for_o=transposed)
    ),
    "W_O was multiplied by M, which does not undo it": rotated(for_o=itself),
    "W_O was left as it is, and now reads a z in another basis": rotated(for_o=nothing),
    "nothing was changed: W_Q must become W_Q M": rotated(nothing, nothing, nothing),
}


# principal_angles and subspace_overlap

ANGLES = torch.tensor([0.0, 20.0, 45.0, 90.0]).double()
UNIT = torch.linalg.qr(torch.randn(10, 10, generator=seeded(3)).double())[0]  # orthonormal rows


def turned(degrees):
    """Two subspaces whose principal angles are known: direction i of the second is turned away from
    the first by angle i.
    """
    n, radians = len(degrees), torch.deg2rad(degrees)[:, None]
    return UNIT[:n], radians.cos() * UNIT[:n] + radians.sin() * UNIT[n : 2 * n]


def mixed(rows, seed):
    return torch.randn(len(rows), len(rows), generator=seeded(seed)).double() @ rows


STRAIGHT_A, STRAIGHT_B = turned(ANGLES)
A, B = mixed(STRAIGHT_A, 4), mixed(STRAIGHT_B, 5)
SINGULAR = torch.cat([A, A[:2] - A[2:], torch.zeros(1, 10)])  # four dimensions in seven rows
PAIRS = {
    "angles of 0, 20, 45, 90 degrees, bases mixed": (A, B, ANGLES),
    "the rows as they come: angles of 30 and 60 degrees": (
        *turned(torch.tensor([30.0, 60.0]).double()),
        (30, 60),
    ),
    "seven rows that span four dimensions": (SINGULAR, B, ANGLES),
    "a line inside a larger subspace": (A, A[:1] + 2 * A[1:2], (0,)),
    "a subspace with itself": (B, 3 * B.flip(0), (0, 0, 0, 0)),
    "float32 rows": (UNIT[:3].float(), UNIT[4:6].float(), (90, 90)),
}


def ranked(W):
    """Orthonormal rows, by eigenvectors of W^T W: independent of the reference's way."""
    values, vectors = torch.linalg.eigh(W.double().T @ W.double())
    return vectors.T[values > 1e-9 * values.max()]


def as_many_as_rows(W):
    return torch.linalg.eigh(W.double().T @ W.double())[1].T[-min(W.shape) :]


def unit_rows(W):
    return W.double() / W.double().norm(dim=1, keepdim=True).clamp(min=1e-9)


def cosines(A, B, basis=ranked):
    return svdvals(basis(A) @ basis(B).T).clamp(max=1)


def degrees(cosines):
    return torch.rad2deg(torch.arccos(cosines))


def spanned_by_columns(A, B):
    return degrees(cosines(A[: len(B)].T, B[: len(A)].T))


ANGLE_MISTAKES = {
    "the rows were used as they are; make them orthonormal first": (
        lambda A, B: degrees(cosines(A, B, unit_rows))
    ),
    "these are radians, not degrees": lambda A, B: torch.arccos(cosines(A, B)),
    "these are the cosines, not the angles": cosines,
    "the order is descending; the smallest angle comes first": (
        lambda A, B: degrees(cosines(A, B)).flip(0)
    ),
    "the cosines are the singular values, not their squares": (
        lambda A, B: degrees(cosines(A, B).square())
    ),
    "zero rows, or mixtures of others, were counted as dimensions": (
        lambda A, B: degrees(cosines(A, B, as_many_as_rows))
    ),
    "the subspaces are spanned by the rows, not by the columns": spanned_by_columns,
}


def mean_cosine(A, B):
    return cosines(A, B).mean().item()


def squared(A, B):
    return cosines(A, B).square()


def over_larger_dimension(A, B):
    return squared(A, B).sum().item() / max(len(ranked(A)), len(ranked(B)))


MEAN_COSINE = {"that is the mean cosine; square the cosines first": mean_cosine}
OVERLAP_MISTAKES = MEAN_COSINE | {
    "degrees went into cos; .deg2rad() first": (
        lambda A, B: degrees(cosines(A, B)).cos().square().mean().item()
    ),
    "the cosines were added up; take their mean": lambda A, B: squared(A, B).sum().item(),
    "only the smallest angle was used": lambda A, B: squared(A, B).max().item(),
    "divided by d_model; the mean runs over the principal angles": (
        lambda A, B: squared(A, B).sum().item() / A.shape[1]
    ),
    "divided by the larger dimension; what the smaller one loses counts": over_larger_dimension,
    "that is the cosine of the mean angle": (
        lambda A, B: math.cos(degrees(cosines(A, B)).mean().deg2rad())
    ),
}


# interference


def plain_cosine(a, b):
    return float(a @ b / (a.norm() * b.norm()))


def dot(a, b):
    return float(a @ b)


def over_pairs(rows, cosine=plain_cosine, different=True):
    """cosine(a, b) for every pair of rows, one at a time."""
    found = []
    for i, a in enumerate(rows):
        for j, b in enumerate(rows):
            if i != j or not different:
                found.append(cosine(a, b))
    return torch.tensor(found, dtype=torch.float64)


def root_mean_square(values):
    return values.square().mean().sqrt().item()


INTERFERENCE_MISTAKES = {
    "each row was also compared with itself": (
        lambda rows: root_mean_square(over_pairs(rows, different=False))
    ),
    "the rows were not brought to length 1": lambda rows: root_mean_square(over_pairs(rows, dot)),
    "cosines of opposite sign cancelled; square them before the mean": (
        lambda rows: over_pairs(rows).mean().item()
    ),
    "the zeros on the diagonal were averaged in: there are n (n - 1) cosines, not n^2": (
        lambda rows: root_mean_square(over_pairs(rows)) * math.sqrt(1 - 1 / len(rows))
    ),
    "sizes were averaged; square, mean, root": lambda rows: over_pairs(rows).abs().mean().item(),
    "the columns were brought to length 1, not the rows": (
        lambda rows: root_mean_square(over_pairs(rows / rows.norm(dim=0), dot))
    ),
    "the square root is missing": lambda rows: over_pairs(rows).square().mean().item(),
    "columns were compared; the features are the rows": (
        lambda rows: root_mean_square(over_pairs(rows.T))
    ),
}
