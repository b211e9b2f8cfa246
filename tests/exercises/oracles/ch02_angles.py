"""What the checks of chapter 2 compare with, second part: subspaces turned by known angles; and
what people get wrong.
"""

import math

import torch
from torch.linalg import svdvals

from solutions.ch02_residual_stream import strongest_directions
from tests.material import seeded

ANGLES = torch.tensor([10.0, 20.0, 45.0, 90.0]).double()
UNIT = torch.linalg.qr(torch.randn(11, 11, generator=seeded(3)).double())[0]  # orthonormal rows


def turned(degrees):
    """Two subspaces whose principal angles are known: direction i of the second is turned away from
    the first by angle i.
    """
    n, radians = len(degrees), torch.deg2rad(degrees)[:, None]
    return UNIT[:n], radians.cos() * UNIT[:n] + radians.sin() * UNIT[n : 2 * n]


def mixed(rows, seed, n=None):
    """n mixtures of the rows, of very different lengths."""
    drawn = torch.randn(n or len(rows), len(rows), generator=seeded(seed)).double() @ rows
    return drawn * torch.arange(1, len(drawn) + 1)[:, None]


STRAIGHT_A, STRAIGHT_B = turned(ANGLES)
A, B = mixed(STRAIGHT_A, 4), mixed(STRAIGHT_B, 5)
SINGULAR = torch.cat([A, A[:2] - A[2:], 2 * A[:1]])  # four dimensions in seven rows
TWO, OTHER_TWO = turned(torch.tensor([30.0, 70.0]).double())
THREE = torch.cat([OTHER_TWO, UNIT[10:]])
PAIRS = {
    "the rows as they come: angles of 30 and 70 degrees": (TWO, OTHER_TWO, (30, 70)),
    "angles of 10, 20, 45, 90 degrees, bases mixed": (A, B, ANGLES),
    "seven rows that span four dimensions": (SINGULAR, B, ANGLES),
    "five rows that span two dimensions, and four rows that span three": (
        mixed(TWO, 6, n=5),
        mixed(THREE, 7, n=4),
        (30, 70),
    ),
    "a line and a larger subspace": (STRAIGHT_B[2:3], A, (45,)),
    "float32 rows": (UNIT[:3].float(), UNIT[4:6].float(), (90, 90)),
    "a line inside a larger subspace": (A, A[:1] + 2 * A[1:2], (0,)),
    "a subspace with itself": (B, 3 * B.flip(0), (0, 0, 0, 0)),
}


def ranked(W):
    """Orthonormal rows, by eigenvectors of W^T W: independent of the reference's way."""
    values, vectors = torch.linalg.eigh(W.double().T @ W.double())
    return vectors.T[values > 1e-9 * values.max()]


def as_many_as_rows(W):
    return torch.linalg.eigh(W.double().T @ W.double())[1].T[-min(W.shape) :]


def unit_rows(W):
    return torch.nn.functional.normalize(W.double(), dim=1)


def by_qr(W):
    return torch.linalg.qr(W.double().T)[0].T


def as_they_are(W):
    return W.double()


def cosines(A, B, basis=ranked):
    return svdvals(basis(A) @ basis(B).T).clamp(max=1)


def degrees(cosines):
    return torch.rad2deg(torch.arccos(cosines))


def spanned_by_columns(A, B):
    return degrees(cosines(A[: len(B)].T, B[: len(A)].T))


def strongest_of_each(size):
    """Of both, only as many directions as the smaller has: by size(rows)."""

    def angles(A, B):
        n = min(size(A), size(B))
        return degrees(cosines(strongest_directions(A, n), strongest_directions(B, n)))

    return angles


def nearest_rows(A, B):
    entries = (strongest_directions(A) @ strongest_directions(B).T).abs()
    return degrees(entries.amax(dim=1).clamp(max=1)).sort().values


def raw_product(A, B):
    strengths = svdvals(A.double() @ B.double().T)
    return degrees(strengths / strengths.max())


def as_many_as_first(A, B):
    found = cosines(A, B)
    return degrees(torch.cat([found, found.new_zeros(max(0, len(A) - len(found)))]))


ANGLE_MISTAKES = {
    "the rows were only brought to length 1; they must be orthogonal too": (
        lambda A, B: degrees(cosines(A, B, unit_rows))
    ),
    "QR keeps a direction for every row, also for zero rows and mixtures of others": (
        lambda A, B: degrees(cosines(A, B, by_qr))
    ),
    "the rows were used as they are; make them orthonormal first": (
        lambda A, B: degrees(cosines(A, B, as_they_are))
    ),
    "the rows were used as they are, and their product scaled; make the rows orthonormal first": (
        raw_product
    ),
    "these are radians, not degrees": lambda A, B: torch.arccos(cosines(A, B)),
    "these are the cosines, not the angles": cosines,
    "the arcsine was taken; singular values are cosines": (
        lambda A, B: torch.rad2deg(torch.arcsin(cosines(A, B)))
    ),
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
    "both were cut to the same number of directions; the larger subspace counts as a whole": (
        strongest_of_each(len)
    ),
    "both were cut to as many directions as the smaller has dimensions; the larger subspace counts "
    "as a whole": strongest_of_each(lambda rows: len(ranked(rows))),
    "each direction was paired with the nearest of the other basis; take singular values": (
        nearest_rows
    ),
    "there are as many angles as A has rows; only as many as the smaller subspace has dimensions": (
        as_many_as_first
    ),
}


def mean_cosine(A, B):
    return cosines(A, B).mean().item()


def squared(A, B):
    return cosines(A, B).square()


def mean_angle(A, B):
    return degrees(cosines(A, B)).mean().deg2rad()


def sum_over(size):
    """The sum of cos^2, divided by size(A, B)."""
    return lambda A, B: squared(A, B).sum().item() / size(A, B)


def kept_of_rows(A, B):
    """The share of the smaller one's squared length, its rows as they are, that the other keeps."""
    small, large = sorted((A.double(), B.double()), key=lambda rows: len(ranked(rows)))
    return ((small @ ranked(large).T).square().sum() / small.square().sum()).item()


MEAN_COSINE = {"that is the mean cosine; square the cosines first": mean_cosine}
OVERLAP_MISTAKES = MEAN_COSINE | {
    "degrees went into cos; .deg2rad() first": (
        lambda A, B: degrees(cosines(A, B)).cos().square().mean().item()
    ),
    "the cosines were added up; take their mean": sum_over(lambda A, B: 1),
    "only the smallest angle was used": lambda A, B: squared(A, B).max().item(),
    "only the largest angle was used": lambda A, B: squared(A, B).min().item(),
    "divided by d_model; the mean runs over the principal angles": (
        sum_over(lambda A, B: A.shape[1])
    ),
    "divided by the larger dimension; what the smaller one loses counts": sum_over(
        lambda A, B: max(len(ranked(A)), len(ranked(B)))
    ),
    "divided by the dimension of A, whichever is smaller": sum_over(lambda A, B: len(ranked(A))),
    "divided by the number of rows; some of them add no dimension": (
        sum_over(lambda A, B: min(len(A), len(B)))
    ),
    "divided by the number of A's rows, not of angles": sum_over(lambda A, B: len(A)),
    "divided by the number of B's rows, not of angles": sum_over(lambda A, B: len(B)),
    "that is the cosine of the mean angle": lambda A, B: math.cos(mean_angle(A, B)),
    "that is the squared cosine of the mean angle; square the cosines, then take the mean": (
        lambda A, B: math.cos(mean_angle(A, B)) ** 2
    ),
    "the mean was taken first, then squared; square the cosines first": (
        lambda A, B: mean_cosine(A, B) ** 2
    ),
    "a root was taken at the end: that is the root mean square cosine": (
        lambda A, B: math.sqrt(squared(A, B).mean().item())
    ),
    "that is sin^2, the share that is lost": lambda A, B: 1 - squared(A, B).mean().item(),
    "the squared cosines were multiplied; take their mean": (
        lambda A, B: squared(A, B).prod().item()
    ),
    "long rows count more here; only the subspaces count, so make the rows orthonormal": (
        kept_of_rows
    ),
}
