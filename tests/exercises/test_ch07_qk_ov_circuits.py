"""Checks of chapter 7. The oracles: the definition in loops, and the package's model with
everything else switched off.
"""

import math

import pytest
import torch

from solutions.ch07_qk_ov_circuits import LowRank
from tests.exercises.cases import in_case
from tests.exercises.checking import checks, expect, expect_close, expect_value_error
from tests.exercises.guarded import as_known_to
from tests.exercises.oracles import ch07 as oracle
from tests.exercises.oracles import ch07_factor_mistakes as factor_mistakes
from tests.exercises.oracles import ch07_mistakes as mistakes
from tests.exercises.oracles import ch07_score_mistakes as score_mistakes
from tests.exercises.oracles.ch07 import HEADS, IDENTITY, MODEL, dense, draw, matrix, without_wide

# Factors: each case is m, r, k, s, n. Where everything is square, a wrong order can be recognised;
# elsewhere each of r and s, and of m and n, is the larger one once.

SQUARE = [(6, 2, 6, 2, 6), (6, 2, 6, 3, 6), (6, 3, 6, 2, 6)]
OBLONG = [(5, 2, 7, 3, 4), (4, 3, 7, 2, 5), (4, 2, 6, 3, 5), (7, 5, 6, 3, 4), (2, 4, 3, 5, 2)]


def expect_thin_product(low_rank_matmul, sizes, batch=()):
    m, r, k, s, n = sizes
    A, B = draw(*batch, m, r, seed=0), draw(*batch, r, k, seed=1)
    C, D = draw(*batch, k, s, seed=2), draw(*batch, s, n, seed=3)
    case = f"m, r, k, s, n = {m}, {r}, {k}, {s}, {n}"
    if batch:
        case += f", with a batch {list(batch)} in front"
    left, right = in_case(case, low_rank_matmul, A, B, C, D)
    thin, met = min(r, s), (left.shape[-1], right.shape[-2])
    axes, why = "batch " * len(batch) + "m n", f"{case}: left @ right must be (A B)(C D)"
    shapes = f"left {list(left.shape)} and right {list(right.shape)} cannot be multiplied"
    expect(met[0] == met[1], f"{case}: {shapes}")
    low_rank_matmul.look(oracle.product_and_width)
    expect_close(left @ right, (A @ B) @ (C @ D), axes, why)
    sentence = f"the factors must meet at min(r, s) = {thin}, yours meet at {met[0]}"
    expect(met[0] == thin, f"{case}: {sentence}")


@checks("low_rank_matmul", mistakes=factor_mistakes.MATMUL)
def test_product_stays_thin(low_rank_matmul):
    for sizes in SQUARE + OBLONG:
        expect_thin_product(low_rank_matmul, sizes)
    # axes counted from the front would be those of the batch: equal ones decide nothing
    expect_thin_product(low_rank_matmul, OBLONG[0], batch=(3, 3))
    expect_thin_product(low_rank_matmul, OBLONG[1], batch=(3, 3))


WIDE = "the wide matrix was made on the way"


@checks("low_rank_matmul", mistakes={WIDE: factor_mistakes.by_the_wide_product})
def test_no_wide_product_is_made(low_rank_matmul):
    A, B, C, D = draw(37, 2), draw(2, 41, seed=2), draw(41, 3, seed=3), draw(3, 31, seed=4)
    left, right = without_wide(low_rank_matmul, A, B, C, D, sizes=(31, 37))
    expect_close(left @ right, A @ B @ C @ D, "m n", "left @ right must be (A B)(C D)")


@pytest.mark.filterwarnings("ignore:Casting complex")
@checks("low_rank_eigenvalues", mistakes=factor_mistakes.EIGENVALUES)
def test_eigenvalues_have_the_right_power_sums(low_rank_eigenvalues):
    """Whatever their order: the sum of the k-th powers of the eigenvalues is the trace of the k-th
    power of A B.
    """
    for batch, n, r in [((), 7, 3), ((2,), 5, 4), ((), 4, 1), ((), 3, 3), ((), 2, 5)]:
        A, B = draw(*batch, n, r, seed=5), draw(*batch, r, n, seed=6)
        got, power = low_rank_eigenvalues(A, B), torch.eye(n, dtype=A.dtype)
        kind = type(got).__name__
        expect(isinstance(got, torch.Tensor), f"expected a tensor of eigenvalues, got {kind}")
        low_rank_eigenvalues.look(lambda values: values + 0j)  # a type is not what went wrong
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
    axes = "batch " * len(batch)
    case = f"m, r, n = {m}, {r}, {n}"
    if batch:
        case += f", with a batch {list(batch)} in front"
    U, S, Vh = in_case(case, low_rank_svd, A, B)
    for name, got, wanted in (("U", U, (m, t)), ("S", S, (t,)), ("Vh", Vh, (t, n))):
        shapes = f"expected {[*batch, *wanted]}, got {list(got.shape)}"
        expect(got.shape == (*batch, *wanted), f"{case}: the shape of {name}: {shapes}")
    falling = bool((S >= 0).all() and (S.diff(dim=-1) <= 0).all())
    expect(falling, "singular values are never negative and the largest is first")
    again, why = U @ (S[..., None] * Vh), f"{case}: U diag(S) Vh must be A B again"
    expect_close(again, A @ B, axes + "m n", why)
    one = torch.eye(t, dtype=A.dtype).expand(*batch, t, t)
    expect_close(U.mT @ U, one, axes + "t t", "the columns of U are orthonormal")
    expect_close(Vh @ Vh.mT, one, axes + "t t", "the rows of Vh are orthonormal")


@checks("low_rank_svd", mistakes=factor_mistakes.SVD)
def test_svd_is_a_decomposition(low_rank_svd):
    for m, r, n in [(4, 4, 4), (2, 4, 3), (4, 1, 6), (5, 3, 5)]:
        expect_svd(low_rank_svd, m, r, n)
    expect_svd(low_rank_svd, 6, 3, 5, batch=(2,))


@checks("low_rank_svd", mistakes={WIDE: factor_mistakes.by_the_wide_svd} | factor_mistakes.SVD_CUT)
def test_no_wide_matrix_is_decomposed(low_rank_svd):
    A, B = draw(37, 3), draw(3, 31, seed=2)
    U, S, Vh = without_wide(low_rank_svd, A, B, sizes=(37, 31))
    expect_close(U * S @ Vh, A @ B, "m n", "U diag(S) Vh must be A B again")


# Circuits. What would the model compute if only this part of the stream, or only this head,
# existed?


@checks("qk_matrix", mistakes=mistakes.QK)
def test_qk_is_query_times_key(qk_matrix):
    for layer, head in HEADS:
        directions = torch.eye(MODEL.cfg.d_model, dtype=torch.float64)
        got = matrix(qk_matrix, MODEL, layer, head)
        truth = oracle.scores_by_loops(directions, layer, head)
        what = "entry [a, b] is the query of direction a times the key of direction b"
        expect_close(got, truth, "d_model(query) d_model(key)", f"head {layer}.{head}: {what}")


@checks("ov_matrix", mistakes=mistakes.OV)
def test_ov_is_what_the_head_writes(ov_matrix):
    d_model = MODEL.cfg.d_model
    x = torch.eye(d_model, dtype=torch.float64)[:, None].expand(-1, 2, -1)  # each direction alone
    for layer, head in HEADS:
        got = matrix(ov_matrix, MODEL, layer, head)
        truth = oracle.written_from_first(x, layer, head)
        why = f"head {layer}.{head}, forced to attend to x alone, must write x W_OV"
        expect_close(got, truth, "d_model(source) d_model(destination)", why)


@checks("full_qk_circuit", mistakes=mistakes.FULL_QK)
def test_full_qk_is_the_score_of_every_pair(full_qk_circuit):
    for layer, head in HEADS:
        got = matrix(full_qk_circuit, MODEL, layer, head)
        truth = oracle.score_of_tokens(layer, head)
        what = "the score of every pair of tokens, without positions and lower heads"
        why = f"head {layer}.{head}: sqrt(d_head) times {what}"
        expect_close(got, truth, "vocab(query) vocab(key)", why)


@checks("full_ov_circuit", mistakes=mistakes.FULL_OV)
def test_full_ov_is_what_forced_attention_does_to_the_logits(full_ov_circuit):
    sources = MODEL.W_E.detach()[:, None].expand(-1, 2, -1)  # vocab 2 d_model
    for layer, head in HEADS:
        got = matrix(full_ov_circuit, MODEL, layer, head)
        truth = oracle.written_from_first(sources, layer, head) @ MODEL.W_U.detach()
        what = "forced to attend to each token in turn: what it adds to the logits"
        expect_close(got, truth, "vocab(source) vocab(logit)", f"head {layer}.{head}, {what}")


@checks("position_qk_circuit", mistakes=mistakes.POSITION_QK)
def test_position_circuit(position_qk_circuit):
    for layer, head in HEADS:
        got = matrix(position_qk_circuit, MODEL, layer, head)
        truth = oracle.scores_by_loops(MODEL.W_pos.detach(), layer, head)
        what = "the query of W_pos[i] times the key of W_pos[j], for all positions"
        expect_close(got, truth, "query key", f"head {layer}.{head}: {what}")


@checks("score_from_weights", mistakes=mistakes.SCORES)
def test_scores_are_those_of_the_model(score_from_weights):
    tokens = torch.tensor([[0, 3, 22, 3, 10], [0, 5, 5, 2, 9]])
    for model in (MODEL, oracle.STANDARD):
        _, cache = model.run_with_cache(tokens)
        for layer in (1, 0):
            stream = cache[f"blocks.{layer}.hook_resid_pre"]
            hooked = cache[f"blocks.{layer}.attn.hook_attn_scores"][:, 1]
            truth, seen = mistakes.score_variant()(model, layer, 1, stream), hooked > -math.inf
            # the definition in loops knows the pairs that the mask hides, too
            assert torch.allclose(truth[seen], hooked[seen])
            case = f"positions are {model.cfg.positional_embedding_type}, layer {layer}"
            why = f"{case}: the model's scores, and those of pairs that it masks"
            got = score_from_weights(model, layer, 1, stream)
            expect_close(got, truth, "batch query key", why)


# Scores: circuits whose answer is known, random weights, and one that only looks as if it copied
# (oracle.RAISES_3)


@checks("copying_accuracy", mistakes=score_mistakes.COPYING_ACCURACY)
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
            circuit = as_known_to(copying_accuracy, circuit)
        why = f"{name}: the share of rows with the diagonal on top"
        expect_close(copying_accuracy(circuit), truth, "", why)


@checks("copying_score", mistakes=score_mistakes.COPYING_SCORE)
def test_copying_score_of_known_circuits(copying_score):
    A = draw(6, 2)
    for name, circuit, truth in [
        ("eigenvalues 1, -3, 1", oracle.TRIANGLE, -0.2),
        ("eigenvalues 1, -5 and a complex pair of size 1", oracle.PAIR, -0.625),
        ("eigenvalues 2, -3, 2", oracle.MORE, 1 / 7),
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
            circuit = as_known_to(copying_score, circuit)
        why = f"{name}: sum of eigenvalues / sum of their sizes"
        expect_close(copying_score(circuit), truth, "", why)


@checks("copying_score")
def test_random_heads_neither_copy_nor_suppress(copying_score):
    circuits = [as_known_to(copying_score, each) for each in oracle.random_circuits()]
    scores = torch.tensor([copying_score(circuit) for circuit in circuits])
    mean, spread = scores.mean(), scores.std()
    expect(abs(mean) < 0.05, f"80 random heads must score 0 on average; yours: {mean:.3f}")
    sentence = f"80 random heads of d_head 16 must spread by about .10; yours: {spread:.3f}"
    expect(0.06 < spread < 0.14, sentence)


@checks("centre", mistakes=score_mistakes.CENTRED)
def test_each_row_loses_its_mean(centre):
    for m, r, n in ((6, 2, 6), (7, 3, 5), (4, 1, 9)):
        A, B = draw(m, r), draw(r, n, seed=2) + 1
        got = matrix(centre, as_known_to(centre, LowRank(A, B)))
        truth = oracle.centred_rows(A @ B)
        expect_close(got, truth, "source logit", f"[{m}, {n}]: each row less its mean")
    batch = LowRank(draw(2, 6, 3), draw(2, 3, 5, seed=2))
    truth = torch.stack([oracle.centred_rows(each) for each in batch.dense])
    got = matrix(centre, as_known_to(centre, batch))
    expect_close(got, truth, "batch source logit", "a batch of circuits")


@checks(
    "centre", mistakes={"nothing was subtracted": score_mistakes.CENTRED["nothing was subtracted"]}
)
def test_no_gauge_moves_a_centred_circuit(centre):
    for layer, head in HEADS:
        circuit = oracle.full_ov(MODEL, layer, head)
        before = matrix(centre, as_known_to(centre, circuit))
        other = oracle.full_ov(oracle.OTHER, layer, head)
        after = matrix(centre, as_known_to(centre, other))
        why = f"head {layer}.{head}: other weights, one vector added to every column of W_U"
        expect_close(after, before, "source logit", why)


@checks("centre", mistakes=score_mistakes.WIDE)
def test_centring_stays_thin(centre):
    circuit = as_known_to(centre, LowRank(draw(37, 3), draw(3, 31, seed=2)))
    got = dense(without_wide(centre, circuit, sizes=(37, 31)))
    centre.look(dense)
    expect_close(got, oracle.centred_rows(circuit.dense), "source logit", "rows less means")


@checks("effective_ov", mistakes=score_mistakes.MERGING)
def test_heads_that_attend_alike_act_as_one(effective_ov):
    d_model = MODEL.cfg.d_model
    x = torch.eye(d_model, dtype=torch.float64)[:, None].expand(-1, 2, -1)  # each direction alone
    for heads in ([(0, 2)], [(1, 2), (1, 0)], [(1, 0), (1, 1), (1, 2)]):
        got = matrix(effective_ov, MODEL, heads)
        truth = sum(oracle.written_from_first(x, layer, head) for layer, head in heads)
        why = f"the heads {heads} were forced to attend to x alone; together they must write x W_OV"
        expect_close(got, truth, "d_model(source) d_model(destination)", why)


@checks("effective_ov")
def test_only_heads_of_one_layer_are_added(effective_ov):
    for heads in ([], [(0, 1), (1, 1)]):
        why = f"heads {heads}: heads of one layer are needed, at least one"
        expect_value_error(effective_ov, (MODEL, heads), why)
