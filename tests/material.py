"""What several test files need: a seeded generator, a small model with random weights, two ways to
compare tensors.
"""

import torch

from minitransformer import ModelConfig, Transformer

# No two sizes are equal, so that an exchanged axis cannot pass unseen.
SIZES = {"n_heads": 3, "d_model": 12, "d_head": 5, "d_vocab": 11, "n_ctx": 8}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def small_model(seed: int = 3, **config) -> Transformer:
    """In float64."""
    return Transformer(ModelConfig(**SIZES | config), seed).double()


def same_tensors(first: dict, second: dict) -> bool:
    """Bit for bit, under the same names."""
    return first.keys() == second.keys() and all(map(torch.equal, first.values(), second.values()))


def assert_exact(found, expected) -> None:
    """Equal in float64, but for rounding."""
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)
