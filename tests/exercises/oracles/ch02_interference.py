"""What the checks of chapter 2 compare with, third part: how far rows get in each other's way,
pair by pair; and what people get wrong.
"""

import math

import torch

from tests.material import seeded

FEATURES = 2 * torch.randn(7, 5, generator=seeded(3)).double()
FEATURES[3] = -3 * FEATURES[1]  # opposite, and longer
FEATURES[6] = 2 * FEATURES[0]  # a second row in the same direction


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


def times(factor):
    """The right answer times factor(n)."""
    return lambda rows: factor(len(rows)) * root_mean_square(over_pairs(rows))


def without_parallel_rows(rows):
    found = over_pairs(rows)
    return root_mean_square(found[found < 0.9999])


def row_by_row(rows):
    table = over_pairs(rows).view(len(rows), -1)
    return table.square().mean(dim=1).sqrt().mean().item()


INTERFERENCE_MISTAKES = {
    "each row was also compared with itself": (
        lambda rows: root_mean_square(over_pairs(rows, different=False))
    ),
    "the rows were not brought to length 1": lambda rows: root_mean_square(over_pairs(rows, dot)),
    "cosines of opposite sign cancelled; square them before the mean": (
        lambda rows: over_pairs(rows).mean().item()
    ),
    "cosines of opposite sign cancelled, and the size was taken after the mean": (
        lambda rows: abs(over_pairs(rows).mean().item())
    ),
    "the mean cosine was taken off: that is a standard deviation": (
        lambda rows: over_pairs(rows).std(correction=0).item()
    ),
    "the mean cosine was taken off, and one pair too few counted: a standard deviation": (
        lambda rows: over_pairs(rows).std().item()
    ),
    "the zeros on the diagonal were averaged in: there are n (n - 1) cosines, not n^2": (
        times(lambda n: math.sqrt(1 - 1 / n))
    ),
    "half of a table was averaged over all n^2: there are n (n - 1) / 2 pairs": (
        times(lambda n: math.sqrt((1 - 1 / n) / 2))
    ),
    "each pair was counted twice, and divided by the number of pairs": (
        times(lambda n: math.sqrt(2))
    ),
    "each pair was counted once, and divided by n (n - 1)": times(lambda n: math.sqrt(1 / 2)),
    "the sum of the squares was divided by n, not by n (n - 1)": (
        times(lambda n: math.sqrt(n - 1))
    ),
    "the squares were added up; take their mean": times(lambda n: math.sqrt(n * (n - 1))),
    "sizes were averaged; square, mean, root": lambda rows: over_pairs(rows).abs().mean().item(),
    "that is the largest of them; all count": lambda rows: over_pairs(rows).abs().max().item(),
    "a mean was taken for each row, then over the rows; all pairs count alike": row_by_row,
    "rows in the same direction were left out; only a row with itself does not count": (
        without_parallel_rows
    ),
    "the columns were brought to length 1, not the rows": (
        lambda rows: root_mean_square(over_pairs(rows / rows.norm(dim=0), dot))
    ),
    "the whole table was brought to length 1, not each row": (
        lambda rows: root_mean_square(over_pairs(rows / rows.norm(), dot))
    ),
    "the square root is missing": lambda rows: over_pairs(rows).square().mean().item(),
    "columns were compared; the features are the rows": (
        lambda rows: root_mean_square(over_pairs(rows.T))
    ),
}
