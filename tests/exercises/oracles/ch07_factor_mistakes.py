"""Wrong answers to the exercises of chapter 7 about thin factors: label -> what people write."""

import torch


def exchanged_product(A, B, C, D):
    return (C, D @ A @ B) if C.shape[-1] < B.shape[-2] else (C @ D @ A, B)


def wider_product(A, B, C, D):
    return (A @ B @ C, D) if A.shape[-1] < D.shape[-2] else (A, B @ C @ D)


MATMUL = {
    "the two matrices are exchanged: A B comes first": exchanged_product,
    "the wider of the two middles was kept": wider_product,
    "B C, in the middle, was left out": lambda A, B, C, D: (A, D),
    "A B and C D were returned: where they meet they are wide": lambda A, B, C, D: (A @ B, C @ D),
}

EIGENVALUES = {
    "these are the eigenvalues of the wide A B, zeros and all: take those of B A": (
        lambda A, B: torch.linalg.eigvals(A @ B)
    ),
    "singular values are not eigenvalues": lambda A, B: torch.linalg.svdvals(B @ A) + 0j,
    "eigvalsh is for symmetric matrices only": lambda A, B: torch.linalg.eigvalsh(B @ A) + 0j,
    "the absolute values were taken": lambda A, B: torch.linalg.eigvals(B @ A).abs() + 0j,
}


def svd_variant(change):
    """low_rank_svd as its docstring says, its results changed: change(A, B, U, S, Vh)."""

    def svd(A, B):
        Q_A, R_A = torch.linalg.qr(A)
        Q_B, R_B = torch.linalg.qr(B.mT)
        U, S, Vh = torch.linalg.svd(R_A @ R_B.mT, full_matrices=False)
        return change(A, B, Q_A @ U, S, Vh @ Q_B.mT)

    return svd


def multiplied(A, B, U, S, Vh):
    products = torch.linalg.svdvals(A) * torch.linalg.svdvals(B)
    return U, products[..., : S.shape[-1]], Vh


SVD = {
    "the third result is V; wanted is Vh, its transpose (well-known libraries confused them)": (
        svd_variant(lambda A, B, U, S, Vh: (U, S, Vh.mT.contiguous()))
    ),
    "the singular values were squared": svd_variant(lambda A, B, U, S, Vh: (U, S**2, Vh)),
    "singular values of a product are not the products of singular values": svd_variant(multiplied),
    "directions with singular value 0 were kept: there are at most min(m, r, n) others": (
        lambda A, B: torch.linalg.svd(A @ B, full_matrices=False)
    ),
}
