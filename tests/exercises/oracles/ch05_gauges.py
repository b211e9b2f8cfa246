"""The same model in other weights: what an instrument of chapters 5 to 7 may not notice.

Three changes leave every attention pattern and every probability as they are, in a model without
LayerNorm: another basis inside each head, another basis of the stream, and one vector added to
every column of W_U. Written here from their definitions; chapters 2, 6 and 8 teach them.
"""

import copy

import torch

from minitransformer import Transformer
from tests.material import seeded


def stretch(n, generator):
    """An invertible matrix [n, n]: turned, lengthened and shortened up to ten times, turned."""
    left = torch.linalg.qr(torch.randn(n, n, dtype=torch.float64, generator=generator)).Q
    right = torch.linalg.qr(torch.randn(n, n, dtype=torch.float64, generator=generator)).Q
    return left * torch.logspace(-1, 1, n, dtype=torch.float64) @ right


@torch.no_grad()
def in_another_gauge(model: Transformer, seed: int = 0, shift: float = 1.0) -> Transformer:
    """A copy in float64 with the same patterns and probabilities, and other weights everywhere.

    shift: how long the vector is that is added to every column of W_U; 0: the logits stay too.
    """
    other, generator = copy.deepcopy(model).double(), seeded(seed)
    cfg = other.cfg
    S = stretch(cfg.d_model, generator)
    undo = torch.linalg.inv(S)
    for writer in (other.W_E, other.W_pos, other.W_O):
        writer.copy_(writer @ S)
    for reader in (other.W_Q, other.W_K, other.W_V, other.W_U):
        reader.copy_(undo @ reader)
    for left, right in ((other.W_Q, other.W_K.mT), (other.W_V, other.W_O)):
        M = stretch(cfg.d_head, generator)
        left.copy_(left @ M)
        right.copy_(torch.linalg.inv(M) @ right)
    u = torch.randn(cfg.d_model, 1, dtype=torch.float64, generator=generator)
    other.W_U.add_(shift * u)
    return other
