"""What the checks of chapter 7 measure against: definitions in loops, the model run the long way,
circuits whose scores are known.
"""

import math

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from minitransformer import ModelConfig, Transformer
from minitransformer.planted import induction_model
from solutions.ch07_qk_ov_circuits import LowRank
from tests.exercises.checking import expect
from tests.exercises.guarded import Promise
from tests.exercises.oracles.ch05_gauges import in_another_gauge
from tests.material import seeded, small_model

MODEL = small_model(d_vocab=23, n_ctx=7)
STANDARD = small_model(d_vocab=23, n_ctx=7, positional_embedding_type="standard")
OTHER = in_another_gauge(MODEL, seed=1)  # other weights, the same patterns and probabilities
HEADS = [(0, 2), (1, 0), (1, 1)]
VOCAB = torch.arange(MODEL.cfg.d_vocab)
SCALE = math.sqrt(MODEL.cfg.d_head)


def draw(*shape, seed=1):
    return torch.randn(*shape, dtype=torch.float64, generator=seeded(seed))


def dense(result) -> Tensor:
    """The whole matrix of a LowRank, from whichever file its class is, in float64."""
    return result.A.double() @ result.B.double()


def matrix(function, *arguments) -> Tensor:
    """The whole matrix of the LowRank that function(*arguments) returns: how it is split into
    factors does not count.
    """
    result = function(*arguments)
    kind = type(result).__name__
    good = hasattr(result, "A") and hasattr(result, "B")
    expect(good, f"expected a LowRank, which keeps two factors apart, got {kind}")
    function.look(dense)
    return dense(result)


def product_and_width(factors: tuple[Tensor, Tensor]) -> tuple[Tensor, int]:
    """What counts of two factors: their product, and where they meet."""
    left, right = factors
    return left @ right, left.shape[-1]


class Largest(TorchFunctionMode):
    """While it is on, it remembers how many numbers the largest result of torch held."""

    numbers = 0

    def __torch_function__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for each in result if isinstance(result, tuple) else [result]:
            if isinstance(each, Tensor):
                self.numbers = max(self.numbers, each.numel())
        return result


def without_wide(function, *arguments, sizes: tuple[int, int]):
    """function(*arguments), which must not make a matrix of these sizes on the way."""
    with Largest() as largest:
        result = function(*arguments)
    m, n = sizes
    if largest.numbers >= m * n:
        made = f"a tensor of {largest.numbers} numbers was made, the wide matrix has {m} x {n}"
        raise Promise(f"{made}: thin factors are enough")
    return result


def full_ov(model, layer, head) -> LowRank:
    """The full OV circuit, from its definition."""
    A, B = model.W_E @ model.W_V[layer, head], model.W_O[layer, head] @ model.W_U
    return LowRank(A, B)


def centred_rows(matrix):
    """Each row less its mean, one row at a time."""
    return torch.stack([row - sum(row.tolist()) / len(row) for row in matrix])


def scores_by_loops(x, layer, head, model=MODEL, for_keys=None):
    """x [pos, d_model] -> [query, key]: q_i . k_j, one number at a time.

    for_keys: what the keys are made of, if not of x.
    """
    k = (x if for_keys is None else for_keys) @ model.W_K[layer, head].detach()
    q = x @ model.W_Q[layer, head].detach()
    rows = [[sum(a * b for a, b in zip(qi, kj)) for kj in k.tolist()] for qi in q.tolist()]
    return torch.tensor(rows, dtype=x.dtype)


def score_of_tokens(layer, head):
    """[vocab, vocab], the long way: run every pair of tokens without positions and without what
    layer 0 writes.
    """
    pairs = torch.cartesian_prod(VOCAB, VOCAB).flip(1)  # the key stands first, the query second
    unwanted = ["hook_pos_embed", "blocks.0.hook_attn_out"]
    hooks = [(name, lambda old, hook: 0 * old) for name in unwanted]
    scores = f"blocks.{layer}.attn.hook_attn_scores"
    _, cache = MODEL.run_with_cache(pairs, [scores], hooks)
    return cache[scores][:, head, 1, 0].view(len(VOCAB), len(VOCAB)) * SCALE


def written_from_first(x, layer, head):
    """[batch, d_model]: what a head writes at position 1 of the stream x [batch, 2, d_model] if it
    sees position 0 only.
    """
    at, tokens = f"blocks.{layer}.", torch.zeros(len(x), 2, dtype=torch.long)
    first = torch.tensor([[1.0, 0.0], [1.0, 0.0]], dtype=x.dtype)
    stream = (at + "hook_resid_pre", lambda old, hook: x)
    pattern = (at + "attn.hook_pattern", lambda old, hook: first.expand_as(old))
    result = at + "attn.hook_result"
    _, cache = MODEL.run_with_cache(tokens, [result], [stream, pattern])
    return cache[result][:, 1, head]


def planted_circuit(layer):
    """The full OV circuit without BOS of a hand-built model's head: in layer 1 the induction head,
    which copies; in layer 0 the previous-token head, all 0.
    """
    return full_ov(induction_model(d_vocab=8, n_ctx=12).double(), layer, 0)[1:, 1:]


def random_circuits(n_models=5, n_heads=16):
    """The full OV circuits of the heads of untrained models."""
    circuits = []
    for seed in range(n_models):
        model = Transformer(ModelConfig(n_layers=1, n_heads=n_heads), seed)
        circuits += [full_ov(model, 0, head) for head in range(n_heads)]
    return circuits


# Circuits whose scores are known

IDENTITY = torch.eye(6, dtype=torch.float64)
# each token raises another one; the eigenvalues are the 6th roots of 1
CIRCLE = IDENTITY.roll(1, dims=0)
# token 3 is raised most, whatever the source: it only looks as if it copied; eigenvalues 7 and 0
RAISES_3 = torch.ones(6, 6, dtype=torch.float64) + IDENTITY[3]
# 3 of 6 rows have their largest entry on the diagonal, 4 of 6 columns
MIXED = IDENTITY.clone()
MIXED[[2, 3], 0] = 2.0
MIXED[4, 1] = 2.0
MIXED[1, 5] = -3.0
# eigenvalues 1, -3, 1
TRIANGLE = torch.tensor([[1.0, 9.0, 0.0], [0.0, -3.0, 0.0], [5.0, 0.0, 1.0]], dtype=torch.float64)
# eigenvalues 1, e^(2 pi i/3), e^(-2 pi i/3), -5
PAIR = torch.block_diag(IDENTITY[:3, :3].roll(1, dims=0), torch.tensor([[-5.0]]).double())
# eigenvalues 2, -3, 2: the largest is negative, their sum is not
MORE = torch.tensor([[2.0, 7.0, 0.0], [0.0, -3.0, 0.0], [4.0, 0.0, 2.0]], dtype=torch.float64)
