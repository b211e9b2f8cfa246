"""The data of chapter 12's checks: drawn once, sizes all different."""

import torch

from minitransformer import ModelConfig, Transformer
from minitransformer.hooks import NO_HOOKS
from tests.exercises.oracles.ch12 import back_by_loops, planted_rows
from tests.material import seeded, small_model


def draw(seed, *shape):
    return torch.randn(*shape, generator=seeded(seed)).double()


def whole(seed, n, *shape):
    """Whole numbers from 0 to n - 1."""
    return torch.randint(n, shape, generator=seeded(seed))


# no row begins with 0, and 0 is a token like any other
TOKENS = torch.tensor([[8, 3, 7, 3, 10, 1, 6], [2, 5, 5, 0, 9, 4, 7], [4, 10, 2, 6, 0, 3, 1]])

# 61 rows off centre; of classes 0 to 6 only the first three occur, unequally often
X = draw(21, 61, 5) * torch.tensor([1.0, 0.5, 2.0, 1.0, 3.0]).double()
X = X + torch.tensor([3.0, -2.0, 0.0, 5.0, 1.0]).double()
LABELS = (whole(22, 7, 61) // 3).clamp(max=2)
ROTATION = torch.linalg.qr(draw(23, 5, 5))[0]

LINE = whole(
    24, 3, 43, 5
)  # a third of the places has no label, in some sequences more than in others
LINE[whole(25, 3, 43, 5) == 0] = -1
NOISY = planted_rows(LINE, 3, d_model=8, noise=1.6)

# nine sequences whose x says where it stands: sequence, position
PLACES = whole(26, 3, 9, 5)
PLACES[whole(27, 3, 9, 5) == 0] = -1
PLACES[1] = -1
PLACED = torch.stack(torch.meshgrid(torch.arange(9.0), torch.arange(5.0), indexing="ij"), dim=-1)

SHORT = whole(28, 5, 43, 6)
SHORT_LABELS = back_by_loops(SHORT, 1)  # and of half of the sequences the first token, too
SHORT_LABELS[::2, 0] = SHORT[::2, 0]
SHORT_LABELS[whole(36, 11, 43, 6) == 0] = -1

# one label per sequence, 25 % ones
UNEVEN = (torch.rand(120, 1, generator=seeded(29)) < 0.25).long().repeat(1, 4)
UNEVEN_X = planted_rows(UNEVEN, 2, noise=1.5)  # not to be read without errors

WORDS = whole(30, 13, 80, 5)
SPOKEN = torch.where(whole(31, 6, 80, 5) == 0, -1, WORDS % 2)  # even or odd, not known everywhere
AS_WORDS = torch.eye(13).double()[WORDS] + 0.1 * draw(32, 80, 5, 13)  # tells all words apart
AS_PARITY = planted_rows(WORDS % 2, 2, d_model=3)  # tells even from odd and nothing else

ROWS, ROW_LABELS = draw(33, 7, 5, 4) + 2.0, (whole(34, 7, 7, 5) // 3).clamp(max=2)
ROW_LABELS[0, :3] = -1

MODEL = small_model(n_layers=3, d_model=7, d_head=3, n_ctx=7)
PUSH = 2 * draw(35, 3, 7)


class Counted(Transformer):
    """A model that counts how often it is run."""

    runs = 0

    def forward(self, tokens, hook=NO_HOOKS):
        self.runs += 1
        return super().forward(tokens, hook)


def model_for_depths(n_layers: int, positions: str = "shortformer") -> Counted:
    """Random weights. With "standard" positions the stream before layer 0 is more than the
    embedding.
    """
    sizes = {"n_heads": 2, "d_model": 7, "d_head": 3, "d_vocab": 5, "n_ctx": 6}
    return Counted(ModelConfig(n_layers, positional_embedding_type=positions, **sizes), seed=1)
