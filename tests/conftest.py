"""One small model of every architecture, for the tests that a property must pass in all of them."""

import pytest
import torch

from minitransformer import Transformer
from tests.material import SIZES, refuse_fork_after_backward, seeded, small_model

torch.set_num_threads(1)
refuse_fork_after_backward()

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


def pytest_addoption(parser) -> None:
    told = "tests/exercises/test_human.py: try every stored answer, not some of each exercise"
    parser.addoption("--all-answers", action="store_true", help=told)


@pytest.fixture(params=ARCHITECTURES)
def model(request) -> Transformer:
    """With every weight random, also those that start at 0 or 1."""
    model, generator = small_model(**ARCHITECTURES[request.param]), seeded(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.4)
    return model


@pytest.fixture
def small() -> Transformer:
    """Two layers, where one architecture is enough."""
    return small_model(0)


@pytest.fixture
def tokens() -> torch.Tensor:
    return torch.randint(SIZES["d_vocab"], (2, SIZES["n_ctx"]), generator=seeded(2))
