"""The class LowRank, which chapter 7 gives to its reader: everything it does equals its dense
matrix, whatever the shape.
"""

import pytest
import torch

from solutions.ch07_qk_ov_circuits import LowRank
from tests.exercises.oracles.ch07 import draw


@pytest.mark.parametrize("batch", [(), (2,)])
@pytest.mark.parametrize("m, r, n", [(5, 2, 7), (6, 3, 6), (1, 1, 4), (3, 5, 2)])
def test_it_is_its_dense_matrix(m, r, n, batch):
    M = LowRank(draw(*batch, m, r), draw(*batch, r, n, seed=2))
    v, w, X, Y = draw(n), draw(m), draw(n, 3), draw(4, m)
    full, square = M.A @ M.B, M @ M.T
    pairs = {
        "T": (M.T.dense, full.mT),
        "norm": (M.norm(), full.norm(dim=(-2, -1))),
        "trace": (square.trace(), (full @ full.mT).diagonal(dim1=-2, dim2=-1).sum(-1)),
        "eigenvalues": (square.eigenvalues().sum(-1).real, full.pow(2).sum(dim=(-2, -1))),
        "svd": (M.svd()[1].norm(dim=-1), full.norm(dim=(-2, -1))),
        "vector": (M @ v, full @ v),
        "vector from the left": (w @ M, w @ full),
        "matrix": ((M @ X).dense, full @ X),
        "matrix from the left": ((Y @ M).dense, Y @ full),
        "product": (square.dense, full @ full.mT),
        "row": (M[0], full[..., 0, :]),
        "column": (M[:, -1], full[..., -1]),
        "number": (M[-1, 1], full[..., -1, 1]),
        "part": (M[:2, 1:].dense, full[..., :2, 1:]),
        "picked rows": (M[torch.tensor([0, 0])].dense, full[..., [0, 0], :]),
    }
    for name, (got, truth) in pairs.items():
        assert got.shape == truth.shape and torch.allclose(got, truth), name
    assert M.shape == full.shape


@pytest.mark.parametrize("A, B", [(draw(3, 2), draw(3, 3)), (draw(3), draw(3, 3))])
def test_factors_that_do_not_fit_are_refused(A, B):
    with pytest.raises(ValueError, match="do not fit"):
        LowRank(A, B)


def test_gradients_are_left_behind():
    A, identity = draw(3, 2).requires_grad_(), torch.eye(3).double().requires_grad_()
    assert not (identity @ LowRank(A, A.T)).dense.requires_grad
