"""The data of chapter 12's checks: drawn once, sizes all different."""

import torch

from tests.exercises.oracles.ch12 import back_by_loops, planted_rows
from tests.material import seeded

GENERATOR = seeded(12)


def draw(*shape):
    return torch.randn(*shape, generator=GENERATOR).double()


def whole(n, *shape):
    return torch.randint(n, shape, generator=GENERATOR)


X, LABELS = draw(30, 4) + torch.tensor([3.0, -2.0, 0.0, 5.0]).double(), whole(3, 30)
ROTATION = torch.linalg.qr(draw(4, 4))[0]

LINE = whole(3, 40, 5)
LINE[whole(2, 40, 5) * whole(2, 40, 5) == 1] = -1
NOISY = planted_rows(LINE, 3, d_model=8, noise=1.6)

SHORT = whole(5, 40, 6)
SHORT_LABELS = back_by_loops(SHORT, 1)

# one label per sequence, 25 % ones
UNEVEN = (torch.rand(120, 1, generator=GENERATOR) < 0.25).long().expand(-1, 4)
UNEVEN_X = planted_rows(UNEVEN, 2)

WORDS = whole(13, 120, 5)
SPOKEN = torch.where(whole(6, 120, 5) == 0, -1, WORDS % 2)  # even or odd, not known everywhere
AS_WORDS = torch.eye(13).double()[WORDS] + 0.1 * draw(120, 5, 13)  # tells all words apart
AS_PARITY = planted_rows(WORDS % 2, 2, d_model=3)  # tells even from odd and nothing else

ROWS, ROW_LABELS = draw(6, 5, 4) + 2.0, whole(3, 6, 5)
ROW_LABELS[0, :3] = -1
