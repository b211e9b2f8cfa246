"""What several test files need: a seeded generator, a small model with random weights, two ways to
compare tensors.
"""

import os

import torch

from minitransformer import ModelConfig, Transformer

# No two sizes are equal, so that an exchanged axis cannot pass unseen.
SIZES = {"n_heads": 3, "d_model": 12, "d_head": 5, "d_vocab": 11, "n_ctx": 8}
shift = 0  # added to every seed, for the same data drawn again


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed + shift)


def small_model(seed: int = 3, **config) -> Transformer:
    """In float64."""
    return Transformer(ModelConfig(**SIZES | config), seed + shift).double()


def same_tensors(first: dict, second: dict) -> bool:
    """Bit for bit, under the same names."""
    return first.keys() == second.keys() and all(map(torch.equal, first.values(), second.values()))


def assert_exact(found, expected) -> None:
    """Equal in float64, but for rounding."""
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)


def largest_difference(model: Transformer, other: Transformer) -> float:
    """The largest difference between two models in any one weight."""
    pairs = zip(model.parameters(), other.parameters(), strict=True)
    return max((mine - theirs).abs().max().item() for mine, theirs in pairs)


def refuse_fork_after_backward() -> None:
    """From now on, os.fork raises once a backward pass has run in this process.

    On a machine with a GPU, autograd has threads by then, which a forked child lacks: it hangs, or
    torch refuses. Without a GPU nothing would be noticed.
    """
    ran, fork = [], os.fork

    def noting(run):
        def backward(*arguments, **named):
            ran.append(run)
            return run(*arguments, **named)

        return backward

    def checked_fork() -> int:
        if ran:
            raise RuntimeError("os.fork after a backward pass: it would fail where a GPU is")
        return fork()

    torch.autograd.backward = noting(torch.autograd.backward)
    torch.autograd.grad = noting(torch.autograd.grad)
    os.fork = checked_fork
