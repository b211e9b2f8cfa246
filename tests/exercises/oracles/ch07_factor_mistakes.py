"""Wrong answers to the exercises of chapter 7 about thin factors: label -> what people write."""

import torch


def exchanged_product(A, B, C, D):
    return (C, D @ A @ B) if C.shape[-1] < B.shape[-2] else (C @ D @ A, B)


def product_kept(keep_left):
    """low_rank_matmul with another rule: keep_left(A, D) says when A stays as it is."""
    return lambda A, B, C, D: (A, B @ C @ D) if keep_left(A, D) else (A @ B @ C, D)


def middle_on_both_sides(A, B, C, D):
    return A @ (B @ C), (B @ C).mT @ D


def by_the_wide_product(A, B, C, D):
    U, S, Vh = torch.linalg.svd((A @ B) @ (C @ D), full_matrices=False)
    thin = min(A.shape[-1], D.shape[-2])
    return U[..., :thin] * S[..., None, :thin], Vh[..., :thin, :]


MATMUL = {
    "the two matrices are exchanged: A B comes first": exchanged_product,
    "the wider of the two middles was kept": (
        product_kept(lambda A, D: A.shape[-1] >= D.shape[-2])
    ),
    "A was always kept; where s is less than r, keep D": product_kept(lambda A, D: True),
    "D was always kept; where r is less than s, keep A": product_kept(lambda A, D: False),
    "the outer sizes m and n were compared; the middles r and s decide": (
        product_kept(lambda A, D: A.shape[-2] <= D.shape[-1])
    ),
    "axes were counted from the front; with a batch, r is shape[-1] and s is shape[-2]": (
        product_kept(lambda A, D: A.shape[1] <= D.shape[0])
    ),
    "the middle was transposed: B C is wanted": lambda A, B, C, D: (A, (B @ C).mT @ D),
    "the middle B C went to both sides; it belongs to one": middle_on_both_sides,
    "B C, in the middle, was left out": lambda A, B, C, D: (A, D),
    "A B and C D were returned: where they meet they are wide": lambda A, B, C, D: (A @ B, C @ D),
}


def inner(A, B, turned=True):
    """(Q_A, the small matrix in the middle, Q_B) with A B = Q_A (R_A R_B^T) Q_B^T."""
    Q_A, R_A = torch.linalg.qr(A)
    Q_B, R_B = torch.linalg.qr(B.mT)
    return Q_A, R_A @ (R_B.mT if turned else R_B), Q_B


EIGENVALUES = {
    "these are the eigenvalues of the wide A B, zeros and all: take those of B A": (
        lambda A, B: torch.linalg.eigvals(A @ B)
    ),
    "singular values are not eigenvalues": lambda A, B: torch.linalg.svdvals(B @ A) + 0j,
    "eigvalsh is for symmetric matrices only": lambda A, B: torch.linalg.eigvalsh(B @ A) + 0j,
    "the absolute values were taken": lambda A, B: torch.linalg.eigvals(B @ A).abs() + 0j,
    "these are products of singular values, not eigenvalues of the product": (
        lambda A, B: torch.linalg.svdvals(A) * torch.linalg.svdvals(B) + 0j
    ),
    "only the real parts were kept": lambda A, B: torch.linalg.eigvals(B @ A).real + 0j,
    "A was left out: B A is wanted, not B B^T": lambda A, B: torch.linalg.eigvals(B @ B.mT),
    "R_A R_B^T has the singular values of A B, not its eigenvalues": (
        lambda A, B: torch.linalg.eigvals(inner(A, B)[1])
    ),
}


def svd_variant(change):
    """low_rank_svd as its docstring says, its results changed: change(A, B, U, S, Vh)."""

    def svd(A, B):
        Q_A, middle, Q_B = inner(A, B)
        U, S, Vh = torch.linalg.svd(middle, full_matrices=False)
        return change(A, B, Q_A @ U, S, Vh @ Q_B.mT)

    return svd


def V_inside(A, B):
    Q_A, middle, Q_B = inner(A, B)
    U, S, Vh = torch.linalg.svd(middle, full_matrices=False)
    return Q_A @ U, S, Vh.mT @ Q_B.mT


def square_V_inside(A, B):
    Q_A, middle, Q_B = inner(A, B)
    U, S, Vh = torch.linalg.svd(middle)
    thin = S.shape[-1]
    return Q_A @ U[..., :thin], S, (Vh.mT @ Q_B.mT)[..., :thin, :]


def full_matrices(A, B):
    Q_A, middle, Q_B = inner(A, B)
    U, S, Vh = torch.linalg.svd(middle, full_matrices=True)
    return Q_A @ U, S, Vh @ Q_B.mT


def without_the_outside(A, B):
    return torch.linalg.svd(inner(A, B)[1], full_matrices=False)


def R_not_transposed(A, B):
    Q_A, middle, Q_B = inner(A, B, turned=False)
    U, S, Vh = torch.linalg.svd(middle, full_matrices=False)
    return Q_A @ U, S, Vh @ Q_B.mT


def B_not_transposed(A, B):
    (Q_A, R_A), (Q_B, R_B) = torch.linalg.qr(A), torch.linalg.qr(B)
    U, S, Vh = torch.linalg.svd(R_A @ Q_B, full_matrices=False)
    return Q_A @ U, S, Vh @ R_B


def svd_of_each(A, B):
    U, S, _ = torch.linalg.svd(A, full_matrices=False)
    _, T, Vh = torch.linalg.svd(B, full_matrices=False)
    return U, S * T, Vh


def cut_svd_of_each(A, B):
    U, S, _ = torch.linalg.svd(A, full_matrices=False)
    _, T, Vh = torch.linalg.svd(B, full_matrices=False)
    thin = min(A.shape[-2], A.shape[-1], B.shape[-1])
    return U[..., :thin], S[..., :thin] * T[..., :thin], Vh[..., :thin, :]


def multiplied(A, B, U, S, Vh):
    products = torch.linalg.svdvals(A) * torch.linalg.svdvals(B)
    return U, products[..., : S.shape[-1]], Vh


def by_the_wide_svd(A, B):
    U, S, Vh = torch.linalg.svd(A @ B, full_matrices=False)
    thin = min(A.shape[-2], A.shape[-1], B.shape[-1])
    return U[..., :thin], S[..., :thin], Vh[..., :thin, :]


SVD = {
    "the third result is V; wanted is Vh, its transpose (well-known libraries confused them)": (
        svd_variant(lambda A, B, U, S, Vh: (U, S, Vh.mT.contiguous()))
    ),
    "the singular values were squared": svd_variant(lambda A, B, U, S, Vh: (U, S**2, Vh)),
    "singular values of a product are not the products of singular values": svd_variant(multiplied),
    "directions with singular value 0 were kept: there are at most min(m, r, n) others": (
        lambda A, B: torch.linalg.svd(A @ B, full_matrices=False)
    ),
    "the smallest come first; the largest is wanted first": (
        svd_variant(lambda A, B, U, S, Vh: (U.flip(-1), S.flip(-1), Vh.flip(-2)))
    ),
    "these are square roots of the singular values": (
        svd_variant(lambda A, B, U, S, Vh: (U, S.sqrt(), Vh))
    ),
    "these are the singular values of A alone": (
        svd_variant(lambda A, B, U, S, Vh: (U, torch.linalg.svdvals(A)[..., : S.shape[-1]], Vh))
    ),
    "the inner SVD made square matrices: say full_matrices=False": full_matrices,
    "S is in U already: U diag(S) Vh has it twice": (
        svd_variant(lambda A, B, U, S, Vh: (U * S[..., None, :], S, Vh))
    ),
    "the inner Vh was transposed; torch.linalg.svd gives Vh, not V": V_inside,
    "Q_A and Q_B are missing: this is the decomposition of the small matrix": without_the_outside,
    "R_B has to be transposed: A B = Q_A (R_A R_B^T) Q_B^T": R_not_transposed,
    "B itself was split by QR; of B^T the orthonormal part belongs to the rows of B": (
        B_not_transposed
    ),
    "each factor was decomposed for itself; singular values of a product are not products": (
        svd_of_each
    ),
}
# Like two of those where all is square; but oblong factors give a result, too.
SVD_CUT = {
    "the inner Vh, a square matrix, was transposed; torch.linalg.svd gives Vh, not V": (
        square_V_inside
    ),
    "each factor was decomposed for itself, and cut; singular values of a product are not products "
    "of singular values": cut_svd_of_each,
}
