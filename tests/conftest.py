"""One small model of every architecture, for the tests that a property must pass in all of them."""

import pytest
import torch

from minitransformer import ModelConfig, Transformer

torch.set_num_threads(1)

# No two sizes are equal, so that an exchanged axis cannot pass unseen.
SMALL = {"n_heads": 3, "d_model": 12, "d_head": 5, "d_vocab": 11, "n_ctx": 8}
ARCHITECTURES = {
    "no layer": {"n_layers": 0},
    "one layer": {"n_layers": 1},
    "two layers": {"n_layers": 2},
    "three layers": {"n_layers": 3},
    "standard": {"positional_embedding_type": "standard"},
    "smeared keys": {"smeared_keys": True},
    "LayerNorm": {"layer_norm": True},
    "MLP": {"d_mlp": 7},
    "LayerNorm, no layer": {"n_layers": 0, "layer_norm": True},
    "all": {
        "positional_embedding_type": "standard",
        "smeared_keys": True,
        "layer_norm": True,
        "d_mlp": 7,
    },
}


@pytest.fixture(params=ARCHITECTURES)
def model(request) -> Transformer:
    """In float64, with every weight random, also those that start at 0 or 1."""
    model = Transformer(ModelConfig(**SMALL | ARCHITECTURES[request.param])).double()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.4)
    return model


@pytest.fixture
def tokens() -> torch.Tensor:
    return torch.randint(
        SMALL["d_vocab"], (2, SMALL["n_ctx"]), generator=torch.Generator().manual_seed(2)
    )


@pytest.fixture
def small() -> Transformer:
    """Two layers in float64, where one architecture is enough."""
    return Transformer(ModelConfig(**SMALL)).double()
