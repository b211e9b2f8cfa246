"""Checks of chapter 7. The oracles: the definition in loops, and the package's model with
everything else switched off.
"""

import math

import pytest
import torch

from solutions.ch07_qk_ov_circuits import LowRank
from tests.exercises.checking import checks, expect, expect_close, expect_value_error
from tests.exercises.oracles import ch07 as oracle
from tests.exercises.oracles import ch07_factor_mistakes as factor_mistakes
from tests.exercises.oracles import ch07_mistakes as mistakes
from tests.exercises.oracles.ch07 import HEADS, IDENTITY, MODEL, dense, draw

# Factors: each case is m, r, k, s, n. In the last ones everything is square, so that a wrong order
# can be recognised.

OBLONG = [(5, 2, 7, 3, 4), (4, 3, 7, 2, 5), (1, 1, 6, 2, 1), (2, 4, 3, 5, 2)]
SQUARE = [(6, 2, 6, 3, 6), (6, 3, 6, 2, 6), (6, 2, 6, 2, 6)]


def expect_thin_product(low_rank_matmul, sizes, batch=()):
    m, r, k, s, n = sizes
    A, B = draw(*batch, m, r, seed=0), draw(*batch, r, k, seed=1)
    C, D = draw(*batch, k, s, seed=2), draw(*batch, s, n, seed=3)
    left, right = low_rank_matmul(A, B, C, D)
    case = f"m, r, k, s, n = {m}, {r}, {k}, {s}, {n}:"
    axes, why = "batch " * len(batch) + "m n", f"{case} left @ right must be (A B)(C D)"
    expect_close(left @ right, (A @ B) @ (C @ D), axes, why)
    thin, met = min(r, s), left.shape[-1]
    sentence = f"the factors must meet at min(r, s) = {thin}, yours meet at {met}"
    expect(met == thin and right.shape[-2] == thin, f"{case} {sentence}")


@checks("low_rank_matmul", mistakes=factor_mistakes.MATMUL)
def test_product_stays_thin(low_rank_matmul):
    expect_thin_product(low_rank_matmul, OBLONG[0], batch=(2, 3))
    for sizes in reversed(OBLONG + SQUARE):
        expect_thin_product(low_rank_matmul, sizes)


@pytest.mark.filterwarnings("ignore:Casting complex")
@checks("low_rank_eigenvalues", mistakes=factor_mistakes.EIGENVALUES)
def test_eigenvalues_have_the_right_power_sums(low_rank_eigenvalues):
    """Whatever their order: the sum of the k-th powers of the eigenvalues is the trace of the k-th
    power of A B.
    """
    for batch, n, r in [((), 7, 3), ((2,), 5, 4), ((), 4, 1), ((), 3, 3), ((), 2, 5)]:
        A, B = draw(*batch, n, r, seed=5), draw(*batch, r, n, seed=6)
        got, power = low_rank_eigenvalues(A, B), torch.eye(n, dtype=A.dtype)
        sentence = f"A [{n}, {r}] and B [{r}, {n}] have {r} eigenvalues; yours: {list(got.shape)}"
        expect(got.shape == (*batch, r), sentence)
        sentence = f"eigenvalues may be complex; expected complex numbers, got {got.dtype}"
        expect(got.is_complex(), sentence)
        axes = "batch " * len(batch)
        for k in range(1, r + 1):
            power = power @ A @ B
            trace, powers = power.diagonal(dim1=-2, dim2=-1).sum(-1), (got**k).sum(-1)
            why = f"the eigenvalues to the power {k} must add up to trace((A B)^{k})"
            expect_close(powers.real, trace, axes, why)
            expect_close(powers.imag, 0 * trace, axes, f"{why}, a real number")


def expect_svd(low_rank_svd, m, r, n, batch=()):
    A, B, t = draw(*batch, m, r, seed=7), draw(*batch, r, n, seed=8), min(m, r, n)
    U, S, Vh = low_rank_svd(A, B)
    case, axes = f"m, r, n = {m}, {r}, {n}:", "batch " * len(batch)
    for name, got, wanted in (("U", U, (m, t)), ("S", S, (t,)), ("Vh", Vh, (t, n))):
        shapes = f"expected {[*batch, *wanted]}, got {list(got.shape)}"
        expect(got.shape == (*batch, *wanted), f"{case} the shape of {name}: {shapes}")
    falling = bool((S >= 0).all() and (S.diff(dim=-1) <= 0).all())
    expect(falling, "singular values are never negative and the largest is first")
    again, why = U @ (S[..., None] * Vh), f"{case} U diag(S) Vh must be A B again"
    expect_close(again, A @ B, axes + "m n", why)
    one = torch.eye(t, dtype=A.dtype).expand(*batch, t, t)
    expect_close(U.mT @ U, one, axes + "t t", "the columns of U are orthonormal")
    expect_close(Vh @ Vh.mT, one, axes + "t t", "the rows of Vh are orthonormal")


@checks("low_rank_svd", mistakes=factor_mistakes.SVD)
def test_svd_is_a_decomposition(low_rank_svd):
    for m, r, n in [(4, 4, 4), (2, 4, 3), (4, 1, 6), (5, 3, 5)]:
        expect_svd(low_rank_svd, m, r, n)
    expect_svd(low_rank_svd, 6, 3, 5, batch=(2,))


# Circuits. What would the model compute if only this part of the stream, or only this head,
# existed?


@checks("qk_matrix", mistakes=mistakes.QK)
def test_qk_is_query_times_key(qk_matrix):
    for layer, head in HEADS:
        directions = torch.eye(MODEL.cfg.d_model, dtype=torch.float64)
        got = dense(qk_matrix(MODEL, layer, head))
        truth = oracle.scores_by_loops(directions, layer, head)
        what = "entry [a, b] is the query of direction a times the key of direction b"
        expect_close(got, truth, "d_model(query) d_model(key)", f"head {layer}.{head}: {what}")


@checks("ov_matrix", mistakes=mistakes.OV)
def test_ov_is_what_the_head_writes(ov_matrix):
    x = draw(9, 2, MODEL.cfg.d_model)
    for layer, head in HEADS:
        got = x[:, 0] @ dense(ov_matrix(MODEL, layer, head))
        truth = oracle.written_from_first(x, layer, head)
        why = f"head {layer}.{head}, forced to attend to x alone, must write x W_OV"
        expect_close(got, truth, "x d_model", why)


@checks("full_qk_circuit", mistakes=mistakes.FULL_QK)
def test_full_qk_is_the_score_of_every_pair(full_qk_circuit):
    for layer, head in HEADS:
        got = dense(full_qk_circuit(MODEL, layer, head))
        truth = oracle.score_of_tokens(layer, head)
        what = "the score of every pair of tokens, without positions and lower heads"
        why = f"head {layer}.{head}: sqrt(d_head) times {what}"
        expect_close(got, truth, "vocab(query) vocab(key)", why)


@checks("full_ov_circuit", mistakes=mistakes.FULL_OV)
def test_full_ov_is_what_forced_attention_does_to_the_logits(full_ov_circuit):
    sources = MODEL.W_E.detach()[:, None].expand(-1, 2, -1)  # vocab 2 d_model
    for layer, head in HEADS:
        got = dense(full_ov_circuit(MODEL, layer, head))
        truth = oracle.written_from_first(sources, layer, head) @ MODEL.W_U.detach()
        what = "forced to attend to each token in turn: what it adds to the logits"
        expect_close(got, truth, "vocab(source) vocab(logit)", f"head {layer}.{head}, {what}")


@checks("position_qk_circuit", mistakes=mistakes.POSITION_QK)
def test_position_circuit(position_qk_circuit):
    for layer, head in HEADS:
        got = dense(position_qk_circuit(MODEL, layer, head))
        truth = oracle.scores_by_loops(MODEL.W_pos.detach(), layer, head)
        what = "the query of W_pos[i] times the key of W_pos[j], for all positions"
        expect_close(got, truth, "query key", f"head {layer}.{head}: {what}")


@checks("score_from_weights", mistakes=mistakes.SCORES)
def test_scores_are_those_of_the_model(score_from_weights):
    tokens = torch.tensor([[0, 3, 22, 3, 10], [0, 5, 5, 2, 9]])
    for model in (MODEL, oracle.STANDARD):
        _, cache = model.run_with_cache(tokens)
        stream = cache["blocks.1.hook_resid_pre"]
        hooked = cache["blocks.1.attn.hook_attn_scores"][:, 1]
        truth, seen = mistakes.score_variant()(model, 1, 1, stream), hooked > -math.inf
        # the definition in loops knows the pairs that the mask hides, too
        assert torch.allclose(truth[seen], hooked[seen])
        positions = f"positions are {model.cfg.positional_embedding_type}"
        why = f"{positions}: the model's scores, and those of pairs that it masks"
        expect_close(score_from_weights(model, 1, 1, stream), truth, "batch query key", why)


# Scores: circuits whose answer is known, random weights, and one that only looks as if it copied
# (oracle.RAISES_3)


def expect_float(got):
    expect(type(got) is float, f"expected a float, got {type(got).__name__}")


@checks("copying_accuracy", mistakes={mistakes.TENSOR: mistakes.accuracy_as_tensor})
def test_copying_accuracy_is_a_float(copying_accuracy):
    expect_float(copying_accuracy(oracle.MIXED))


@checks("copying_score", mistakes={mistakes.TENSOR: mistakes.score_as_tensor})
def test_copying_score_is_a_float(copying_score):
    for circuit in (oracle.PAIR, 0 * IDENTITY):
        expect_float(copying_score(circuit))


@checks("copying_accuracy", mistakes=mistakes.COPYING_ACCURACY)
def test_copying_accuracy_of_known_circuits(copying_accuracy):
    noise = LowRank(draw(40, 5), draw(5, 40, seed=2))
    rows = enumerate(noise.dense.tolist())
    by_loops = sum(row.index(max(row)) == source for source, row in rows) / 40
    for name, circuit, truth in [
        ("3 of 6 rows, but 4 of 6 columns", oracle.MIXED, 3 / 6),
        ("a circle of tokens, each raising another", oracle.CIRCLE, 0.0),
        ("every source raises token 3", oracle.RAISES_3, 1 / 6),
        ("minus the identity", -IDENTITY, 0.0),
        ("noise", noise, by_loops),
        ("the identity", IDENTITY, 1.0),
        ("the planted induction head", oracle.planted_circuit(layer=1), 1.0),
    ]:
        if isinstance(circuit, LowRank):
            circuit = oracle.as_kind_of(copying_accuracy, circuit)
        why = f"{name}: the share of rows with the diagonal on top"
        expect_close(copying_accuracy(circuit), truth, "", why)


@checks("copying_score", mistakes=mistakes.COPYING_SCORE)
def test_copying_score_of_known_circuits(copying_score):
    A = draw(6, 2)
    for name, circuit, truth in [
        ("eigenvalues 1, -3, 1", oracle.TRIANGLE, -0.2),
        ("eigenvalues 1, -5 and a complex pair of size 1", oracle.PAIR, -0.625),
        ("all 0", 0 * IDENTITY, math.nan),
        ("minus the identity", -IDENTITY, -1.0),
        ("the identity", IDENTITY, 1.0),
        ("a circle of tokens: the 6th roots of 1", oracle.CIRCLE, 0.0),
        ("every source raises token 3: 7 and 0", oracle.RAISES_3, 1.0),
        ("the planted induction head", oracle.planted_circuit(layer=1), 1.0),
        ("the planted previous-token head, all 0", oracle.planted_circuit(layer=0), math.nan),
        ("A A^T", LowRank(A, A.T), 1.0),
        ("A (-A^T)", LowRank(A, -A.T), -1.0),
    ]:
        if isinstance(circuit, LowRank):
            circuit = oracle.as_kind_of(copying_score, circuit)
        why = f"{name}: sum of eigenvalues / sum of their sizes"
        expect_close(copying_score(circuit), truth, "", why)


@checks("copying_score")
def test_random_heads_neither_copy_nor_suppress(copying_score):
    circuits = [oracle.as_kind_of(copying_score, each) for each in oracle.random_circuits()]
    scores = torch.tensor([copying_score(circuit) for circuit in circuits])
    mean, spread = scores.mean(), scores.std()
    expect(abs(mean) < 0.05, f"80 random heads must score 0 on average; yours: {mean:.3f}")
    sentence = f"80 random heads of d_head 16 must spread by about .10; yours: {spread:.3f}"
    expect(0.06 < spread < 0.14, sentence)


@checks("centre", mistakes=mistakes.CENTRED | mistakes.WIDE)
def test_each_row_loses_its_mean(centre):
    for m, r, n in ((6, 2, 6), (7, 3, 5), (4, 1, 9)):
        A, B = draw(m, r), draw(r, n, seed=2) + 1
        got = centre(oracle.as_kind_of(centre, LowRank(A, B)))
        truth = oracle.centred_rows(A @ B)
        expect_close(dense(got), truth, "source logit", f"[{m}, {n}]: each row less its mean")
        met = got.A.shape[-1]
        expect(met == r, f"the factors must still meet at {r}, yours meet at {met}: stay thin")
    batch = LowRank(draw(2, 6, 3), draw(2, 3, 5, seed=2))
    truth = torch.stack([oracle.centred_rows(each) for each in batch.dense])
    got = dense(centre(oracle.as_kind_of(centre, batch)))
    expect_close(got, truth, "batch source logit", "a batch of circuits")


@checks("centre", mistakes={"nothing was subtracted": mistakes.CENTRED["nothing was subtracted"]})
def test_no_gauge_moves_a_centred_circuit(centre):
    for layer, head in HEADS:
        before = centre(oracle.as_kind_of(centre, oracle.full_ov(MODEL, layer, head)))
        after = centre(oracle.as_kind_of(centre, oracle.full_ov(oracle.OTHER, layer, head)))
        why = f"head {layer}.{head}: other weights, one vector added to every column of W_U"
        expect_close(dense(after), dense(before), "source logit", why)


@checks("centre", mistakes={"the given circuit was changed": mistakes.centred_in_place})
def test_the_given_circuit_stays(centre):
    circuit = oracle.as_kind_of(centre, LowRank(draw(6, 2), draw(2, 6, seed=2)))
    A, B = circuit.A.clone(), circuit.B.clone()
    centre(circuit)
    same = torch.equal(circuit.A, A) and torch.equal(circuit.B, B)
    expect(same, "it changed the circuit that it was given; make a new LowRank")


@checks("effective_ov", mistakes=mistakes.MERGING)
def test_heads_that_attend_alike_act_as_one(effective_ov):
    x = draw(9, 2, MODEL.cfg.d_model)
    for heads in ([(0, 2)], [(1, 2), (1, 0)], [(1, 0), (1, 1), (1, 2)]):
        got = x[:, 0] @ dense(effective_ov(MODEL, heads))
        truth = sum(oracle.written_from_first(x, layer, head) for layer, head in heads)
        why = f"the heads {heads} were forced to attend to x alone; together they must write x W_OV"
        expect_close(got, truth, "x d_model", why)


@checks("effective_ov")
def test_only_heads_of_one_layer_are_added(effective_ov):
    for heads in ([], [(0, 1), (1, 1)]):
        why = f"heads {heads}: heads of one layer are needed, at least one"
        expect_value_error(effective_ov, (MODEL, heads), why)
