"""What several test files need: a seeded generator, and a small model with random weights."""

import torch

from minitransformer import ModelConfig, Transformer


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def small_model(seed: int = 3, **config) -> Transformer:
    """In float64; no two sizes are equal, so that an exchanged axis cannot pass unseen."""
    shape = {"n_heads": 3, "d_model": 12, "d_head": 5, "d_vocab": 11, "n_ctx": 8}
    return Transformer(ModelConfig(**shape | config), seed).double()
