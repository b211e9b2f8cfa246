"""The planted three composers and gates: known scores, known effects of patching."""

import math
from itertools import product

import pytest
import torch

from minitransformer.data import BOS
from minitransformer.planted import EQUALS, OFF, ON, gate_model, three_composers
from tests.minitransformer.test_planted import S, composition, pattern


def test_three_composers_score_is_in_exactly_three_places():
    model = three_composers().double()
    composing = {("Q", 0, 0), ("K", 1, 1), ("V", 2, 2)}
    for kind, h1, h2 in product("QKV", range(3), range(3)):
        score = composition(model, kind, h1, h2)
        if (kind, h1, h2) in composing:
            assert score == pytest.approx(math.sqrt(82 / 140), abs=1e-12)
            assert round(score, 4) == 0.7653
        else:
            assert score == 0.0


def ratio(product_, *factors):
    return (product_.norm() / math.prod(f.norm() for f in factors)).item()


def test_three_composers_make_transposition_mistakes_visible():
    model = three_composers().double()
    OV1, QK2 = model.W_V[0] @ model.W_O[0], model.W_Q[1] @ model.W_K[1].mT  # head d_model d_model
    OV2 = model.W_V[1] @ model.W_O[1]
    # K without the transpose misses the K pair
    assert ratio(OV1[1] @ QK2[1], OV1[1], QK2[1]) == 0.0
    assert ratio(OV1[0] @ QK2[0], OV1[0], QK2[0]) > 0.7  # and finds the Q pair instead
    assert ratio(OV1[1] @ QK2[1].T, OV1[1], QK2[1]) > 0.7  # Q with a transpose finds the K pair
    # order reversed: pairs that share nothing light up
    for B, own in ((QK2[0], 0), (QK2[1].T, 1), (OV2[2], 2)):
        for other in {0, 1, 2} - {own}:
            wrong = ratio(B @ OV1[other], B, OV1[other])
            assert wrong == pytest.approx(math.sqrt(37 / 140))


def test_three_composers_make_the_cyclic_norm_mistake_visible():
    model = three_composers().double()
    V1, O1, Q, K = model.W_V[0], model.W_O[0], model.W_Q[1], model.W_K[1]
    # B = left @ right
    factors = [(Q[0], K[0].T), (K[1], Q[1].T), (model.W_V[1, 2], model.W_O[1, 2])]
    for h, (left, right) in enumerate(factors):
        wrong = ratio(right @ V1[h] @ O1[h] @ left, V1[h] @ O1[h], left @ right)  # d_head d_head
        assert wrong == pytest.approx(math.sqrt(37 / 140), abs=1e-12) and round(wrong, 4) == 0.5141


def test_the_two_maps_of_three_composers_have_the_stated_norms():
    model = three_composers().double()
    shared, by_v = slice(0, 3), slice(9, 12)
    A = (model.W_V[0, 2] @ model.W_O[0, 2])[shared, by_v]
    B = (model.W_V[1, 2] @ model.W_O[1, 2])[by_v, shared]
    squares = [(M**2).sum().item() for M in (A, B, A @ B, B @ A, A @ B.T, A.T @ B)]
    assert squares == pytest.approx([14, 10, 82, 37, 18, 13], abs=1e-12)


# Gates


def difference(gate, logits):
    return (logits[0, -1, gate.right] - logits[0, -1, gate.wrong]).item()


def patched(gate, base, donor, *heads):
    """The logit difference of `base` when these heads have their value in `donor` at the end."""
    _, cache = gate.model.run_with_cache(donor)

    def swap(z, hook):
        z[:, -1, list(heads)] = cache[hook.name][:, -1, list(heads)]
        return z

    return difference(gate, gate.model.run_with_hooks(base, [(gate.hook, swap)]))


@pytest.mark.parametrize(
    "kind, truth", [("and", lambda a, b: a and b), ("or", lambda a, b: a or b)]
)
def test_gate_truth_table_attention_and_bits(kind, truth):
    gate = gate_model(kind)
    for a, b in product((False, True), repeat=2):
        tokens = torch.tensor([[BOS, ON if a else OFF, ON if b else OFF, EQUALS]])
        logits, cache = gate.model.run_with_cache(tokens)
        assert difference(gate, logits) == (S if truth(a, b) else -S)
        assert cache[gate.hook][0, -1, list(gate.heads), 0].tolist() == [a, b]
        for head, operand in zip(gate.heads, (1, 2)):
            assert pattern(gate.model, tokens, 0, head)[0, -1, operand] == 1


@pytest.mark.parametrize("kind, one_restored, one_corrupted", [("and", -S, -S), ("or", S, S)])
def test_gate_asymmetry_of_denoising_and_noising(kind, one_restored, one_corrupted):
    gate = gate_model(kind)
    assert difference(gate, gate.model(gate.clean)) == S
    assert difference(gate, gate.model(gate.corrupt)) == -S
    for head in gate.heads:
        assert patched(gate, gate.corrupt, gate.clean, head) == one_restored
        assert patched(gate, gate.clean, gate.corrupt, head) == one_corrupted
    assert patched(gate, gate.corrupt, gate.clean, *gate.heads) == S
    assert patched(gate, gate.clean, gate.corrupt, *gate.heads) == -S
