"""Checks of chapter 7. The oracles: the definition in loops, and the package's model with
everything else switched off.
"""

import math

import pytest
import torch

from minitransformer import ModelConfig, Transformer
from solutions.ch07_qk_ov_circuits import LowRank
from tests.exercises.checking import checks, expect, expect_close
from tests.exercises.oracles import ch07 as oracle
from tests.exercises.oracles.ch07 import HEADS, IDENTITY, MODEL, dense, draw, product_of

# Factors: each case is m, r, k, s, n; in the last ones everything is square, so that a wrong order
# can be recognised

CASES = [
    (5, 2, 7, 3, 4),
    (4, 3, 7, 2, 5),
    (1, 1, 6, 2, 1),
    (2, 4, 3, 5, 2),
    (6, 2, 6, 3, 6),
    (6, 3, 6, 2, 6),
    (6, 2, 6, 2, 6),
]


@checks(
    "low_rank_matmul",
    mistakes={
        "the two matrices are exchanged: A B comes first": oracle.exchanged_product,
        "the wider of the two middles was kept": oracle.wider_product,
        "B C, in the middle, was left out": lambda A, B, C, D: (A, D),
        "A B and C D were returned: where they meet they are wide": lambda A, B, C, D: (
            A @ B,
            C @ D,
        ),
    },
)
def test_product_stays_thin(low_rank_matmul):
    for batch, (m, r, k, s, n) in [((2, 3), CASES[0]), *(((), case) for case in reversed(CASES))]:
        shapes = [(m, r), (r, k), (k, s), (s, n)]
        A, B, C, D = (draw(*batch, *shape, seed=seed) for seed, shape in enumerate(shapes))
        left, right = low_rank_matmul(A, B, C, D)
        case, thin, got = (
            f"m, r, k, s, n = {m}, {r}, {k}, {s}, {n}:",
            min(r, s),
            (left.shape[-1], right.shape[-2]),
        )
        axes = "batch batch m n" if batch else "m n"
        expect_close(
            left @ right, (A @ B) @ (C @ D), axes, f"{case} left @ right must be (A B)(C D)"
        )
        expect(
            got == (thin, thin),
            f"{case} the factors must meet at min(r, s) = {thin}, yours meet at {got[0]}",
        )


@pytest.mark.filterwarnings("ignore:Casting complex")
@checks("low_rank_eigenvalues", mistakes=oracle.EIGENVALUE_MISTAKES)
def test_eigenvalues_have_the_right_power_sums(low_rank_eigenvalues):
    """Whatever their order: the sum of the k-th powers of the eigenvalues is the trace of the k-th
    power of A B.
    """
    for batch, n, r in [((), 7, 3), ((2,), 5, 4), ((), 4, 1), ((), 3, 3), ((), 2, 5)]:
        A, B = draw(*batch, n, r, seed=5), draw(*batch, r, n, seed=6)
        got, power = low_rank_eigenvalues(A, B), torch.eye(n, dtype=A.dtype)
        expect(
            got.shape == (*batch, r),
            f"A [{n}, {r}] and B [{r}, {n}] have {r} eigenvalues; yours: {list(got.shape)}",
        )
        expect(
            got.is_complex(),
            f"eigenvalues may be complex; expected complex numbers, got {got.dtype}",
        )
        for k in range(1, r + 1):
            power = power @ A @ B
            trace = power.diagonal(dim1=-2, dim2=-1).sum(-1)
            truth, powers = torch.view_as_real(trace + 0j), torch.view_as_real((got**k).sum(-1))
            axes = "batch real_or_imaginary" if batch else "real_or_imaginary"
            expect_close(
                powers,
                truth,
                axes,
                f"the eigenvalues to the power {k} must add up to trace((A B)^{k})",
            )


@checks("low_rank_svd", mistakes=oracle.SVD_MISTAKES)
def test_svd_is_a_decomposition(low_rank_svd):
    for batch, m, r, n in [
        ((), 4, 4, 4),
        ((), 2, 4, 3),
        ((), 4, 1, 6),
        ((), 5, 3, 5),
        ((2,), 6, 3, 5),
    ]:
        A, B, t, axes = (
            draw(*batch, m, r, seed=7),
            draw(*batch, r, n, seed=8),
            min(m, r, n),
            "batch " * len(batch),
        )
        U, S, Vh = low_rank_svd(A, B)
        for name, got, truth in (("U", U, (m, t)), ("S", S, (t,)), ("Vh", Vh, (t, n))):
            shapes = f"expected {[*batch, *truth]}, got {list(got.shape)}"
            expect(
                got.shape == (*batch, *truth),
                f"m, r, n = {m}, {r}, {n}: the shape of {name}: {shapes}",
            )
        expect(
            bool((S >= 0).all() and (S.diff(dim=-1) <= 0).all()),
            "singular values are never negative and the largest is first",
        )
        expect_close(
            U @ (S[..., None] * Vh),
            A @ B,
            axes + "m n",
            f"m, r, n = {m}, {r}, {n}: U diag(S) Vh must be A B again",
        )
        one = torch.eye(t, dtype=A.dtype).expand(*batch, t, t)
        expect_close(U.mT @ U, one, axes + "t t", "the columns of U are orthonormal")
        expect_close(Vh @ Vh.mT, one, axes + "t t", "the rows of Vh are orthonormal")


# Circuits. What would the model compute if only this part of the stream, or only this head,
# existed?

EXCHANGED, SCALED = (
    "query and key are exchanged: W_Q W_K^T is wanted",
    "1/sqrt(d_head) belongs to the score, not to the circuit",
)
NO_LAYER, ONLY_20 = "the layer was ignored", "only the first 20 tokens are right"


@checks(
    "qk_matrix",
    mistakes={
        EXCHANGED: product_of(lambda w: (w.K, w.Q.T)),
        SCALED: product_of(lambda w: (w.Q / 2, w.K.T)),
        NO_LAYER: oracle.layer_0_only(product_of(lambda w: (w.Q, w.K.T))),
    },
)
def test_qk_is_query_times_key(qk_matrix):
    for layer, head in HEADS:
        truth = oracle.scores_by_loops(torch.eye(12, dtype=torch.float64), layer, head)
        why = f"head {layer}.{head}: entry [a, b] is the query of direction a times the key of direction b"
        expect_close(
            dense(qk_matrix(MODEL, layer, head)), truth, "d_model(query) d_model(key)", why
        )


@checks(
    "ov_matrix",
    mistakes={
        "W_OV is transposed: rows are what is read, columns what is written": product_of(
            lambda w: (w.O.T, w.V.T)
        ),
        "W_K was used in the place of W_V": product_of(lambda w: (w.K, w.O)),
        NO_LAYER: oracle.layer_0_only(product_of(lambda w: (w.V, w.O))),
    },
)
def test_ov_is_what_the_head_writes(ov_matrix):
    for layer, head in HEADS:
        x = draw(9, 2, 12)
        why = f"head {layer}.{head}, forced to attend to x alone, must write x W_OV"
        got = x[:, 0] @ dense(ov_matrix(MODEL, layer, head))
        expect_close(got, oracle.written_from_first(x, layer, head), "x d_model", why)


@checks(
    "full_qk_circuit",
    mistakes={
        EXCHANGED: product_of(lambda w: (w.E @ w.K, w.Q.T, w.E.T)),
        SCALED: product_of(lambda w: (w.E @ w.Q / 2, w.K.T, w.E.T)),
        "W_U stands where W_E^T belongs: keys are made from embeddings": product_of(
            lambda w: (w.E @ w.Q, w.K.T, w.U)
        ),
        ONLY_20: product_of(lambda w: (oracle.first_20(w.E) @ w.Q, w.K.T, w.E.T)),
    },
)
def test_full_qk_is_the_score_of_every_pair(full_qk_circuit):
    for layer, head in HEADS:
        got, truth = dense(full_qk_circuit(MODEL, layer, head)), oracle.score_of_tokens(layer, head)
        why = f"head {layer}.{head}: sqrt(d_head) times the score of every pair of tokens, without positions and lower heads"
        expect_close(got, truth, "vocab(query) vocab(key)", why)


@checks(
    "full_ov_circuit",
    mistakes={
        "the circuit is transposed: rows are sources, columns logits": product_of(
            lambda w: (w.U.T @ w.O.T, w.V.T, w.E.T)
        ),
        "W_OV is transposed inside": product_of(lambda w: (w.E @ w.O.T, w.V.T, w.U)),
        "W_E^T stands where W_U belongs: logits are wanted": product_of(
            lambda w: (w.E @ w.V, w.O, w.E.T)
        ),
        ONLY_20: product_of(lambda w: (oracle.first_20(w.E) @ w.V, w.O, w.U)),
    },
)
def test_full_ov_is_what_forced_attention_does_to_the_logits(full_ov_circuit):
    for layer, head in HEADS:
        sources = MODEL.W_E.detach()[:, None].expand(-1, 2, -1)  # vocab 2 d_model
        truth = oracle.written_from_first(sources, layer, head) @ MODEL.W_U.detach()
        why = f"head {layer}.{head}, forced to attend to each token in turn: what it adds to the logits"
        expect_close(
            dense(full_ov_circuit(MODEL, layer, head)), truth, "vocab(source) vocab(logit)", why
        )


@checks(
    "position_qk_circuit",
    mistakes={
        EXCHANGED: product_of(lambda w: (w.pos @ w.K, w.Q.T, w.pos.T)),
        SCALED: product_of(lambda w: (w.pos @ w.Q / 2, w.K.T, w.pos.T)),
        "later keys were masked: the circuit is the whole matrix": product_of(
            lambda w: ((w.pos @ w.Q @ w.K.T @ w.pos.T).tril(), torch.eye(7, dtype=torch.float64))
        ),
    },
)
def test_position_circuit(position_qk_circuit):
    for layer, head in HEADS:
        truth = oracle.scores_by_loops(MODEL.W_pos.detach(), layer, head)
        why = f"head {layer}.{head}: the query of W_pos[i] times the key of W_pos[j], for all positions"
        expect_close(dense(position_qk_circuit(MODEL, layer, head)), truth, "query key", why)


@checks(
    "score_from_weights",
    mistakes={
        "the scores were not divided by sqrt(d_head)": oracle.score_variant(scale=1.0),
        "the scores were divided by d_head, not by its square root": oracle.score_variant(
            scale=4.0
        ),
        "in a shortformer q and k read stream + W_pos; the positions are missing": oracle.score_variant(
            positions="never"
        ),
        "in a standard model the stream holds the positions already; they were added twice": oracle.score_variant(
            positions="always"
        ),
        "query and key are exchanged": oracle.score_variant(swapped=True),
        "the causal mask was applied; the scores of all pairs are wanted": oracle.score_variant(
            masked=True
        ),
        "the scores were divided by sqrt(d_model); the scale is sqrt(d_head)": oracle.score_variant(
            scale=MODEL.cfg.d_model**0.5
        ),
    },
)
def test_scores_are_those_of_the_model(score_from_weights):
    for model in (MODEL, oracle.STANDARD):
        _, cache = model.run_with_cache(torch.tensor([[0, 3, 22, 3, 10], [0, 5, 5, 2, 9]]))
        stream, hooked = (
            cache["blocks.1.hook_resid_pre"],
            cache["blocks.1.attn.hook_attn_scores"][:, 1],
        )
        truth, seen = oracle.score_variant()(model, 1, 1, stream), hooked > -math.inf
        # the definition in loops knows the pairs that the mask hides, too
        assert torch.allclose(truth[seen], hooked[seen])
        why = f"positions are {model.cfg.positional_embedding_type}: the model's scores, and those of pairs that it masks"
        expect_close(score_from_weights(model, 1, 1, stream), truth, "batch query key", why)


# Scores: circuits whose answer is known, random weights, and one that only looks as if it copied
# (oracle.RAISES_3)


@checks(
    "copying_accuracy",
    mistakes={
        "the largest entry of each column was taken; a row belongs to one source": oracle.on_matrix(
            lambda M: oracle.diagonal_wins(M, 0)
        ),
        "absolute values were compared: a suppressed logit is no copy": oracle.on_matrix(
            lambda M: oracle.diagonal_wins(M.abs())
        ),
        "it is not enough that a token is raised, it must be raised most": oracle.on_matrix(
            lambda M: (M.diagonal() > 0).double().mean()
        ),
        "a share of the tokens is wanted, not their number": oracle.on_matrix(
            lambda M: len(M) * oracle.diagonal_wins(M)
        ),
    },
)
def test_copying_accuracy_of_known_circuits(copying_accuracy):
    noise = LowRank(draw(40, 5), draw(5, 40, seed=2))
    by_loops = (
        sum(row.index(max(row)) == source for source, row in enumerate(noise.dense.tolist())) / 40
    )
    known = [
        ("4 of 6 rows, but 5 of 6 columns", oracle.MIXED, 4 / 6),
        ("a circle of tokens, each raising another", oracle.CIRCLE, 0),
    ]
    known += [
        ("every source raises token 3", oracle.RAISES_3, 1 / 6),
        ("minus the identity", -IDENTITY, 0),
        ("noise", noise, by_loops),
    ]
    known += [
        ("the identity", IDENTITY, 1),
        ("the planted induction head", oracle.planted_circuits()[0], 1),
    ]
    for name, circuit, truth in known:
        expect_close(
            copying_accuracy(circuit),
            float(truth),
            "",
            f"{name}: the share of rows with the diagonal on top",
        )


@checks("copying_score", mistakes=oracle.COPYING_MISTAKES)
def test_copying_score_of_known_circuits(copying_score):
    copies, moves = oracle.planted_circuits()
    known = [
        ("eigenvalues 1, -3, 1", oracle.TRIANGLE, -0.2),
        ("eigenvalues 1, -5 and a complex pair of size 1", oracle.PAIR, -0.625),
    ]
    known += [
        ("all 0", 0 * IDENTITY, math.nan),
        ("minus the identity", -IDENTITY, -1),
        ("the identity", IDENTITY, 1),
    ]
    known += [
        ("a circle of tokens: the 6th roots of 1", oracle.CIRCLE, 0),
        ("every source raises token 3: 7 and 0", oracle.RAISES_3, 1),
    ]
    known += [
        ("the planted induction head", copies, 1),
        ("the planted previous-token head, all 0", moves, math.nan),
    ]
    known += [
        ("A A^T", LowRank(draw(6, 2), draw(6, 2).T), 1),
        ("A (-A^T)", LowRank(draw(6, 2), -draw(6, 2).T), -1),
    ]
    for name, circuit, truth in known:
        expect_close(
            copying_score(circuit),
            float(truth),
            "",
            f"{name}: sum of eigenvalues / sum of their sizes",
        )


@checks("copying_score")
def test_random_heads_neither_copy_nor_suppress(copying_score):
    models = [Transformer(ModelConfig(n_layers=1, n_heads=16), seed) for seed in range(5)]
    circuits = [
        LowRank(m.W_E @ m.W_V[0, head], m.W_O[0, head] @ m.W_U)
        for m in models
        for head in range(16)
    ]
    scores = torch.tensor([copying_score(circuit) for circuit in circuits])
    expect(
        abs(scores.mean()) < 0.05,
        f"80 random heads must score 0 on average; yours: {scores.mean():.3f}",
    )
    expect(
        0.06 < scores.std() < 0.14,
        f"80 random heads of d_head 16 must spread by about .10; yours: {scores.std():.3f}",
    )


@checks("effective_ov", mistakes=oracle.MERGING_MISTAKES)
def test_heads_that_attend_alike_act_as_one(effective_ov):
    x = draw(9, 2, 12)
    for heads in ([(0, 2)], [(1, 2), (1, 0)], [(1, 0), (1, 1), (1, 2)]):
        truth = sum(oracle.written_from_first(x, layer, head) for layer, head in heads)
        why = f"the heads {heads} were forced to attend to x alone; together they must write x W_OV"
        expect_close(x[:, 0] @ dense(effective_ov(MODEL, heads)), truth, "x d_model", why)


@checks("effective_ov")
def test_only_heads_of_one_layer_are_added(effective_ov):
    for heads in ([], [(0, 1), (1, 1)]):
        try:
            effective_ov.function(MODEL, heads)
            raised = "nothing"
        except Exception as error:
            raised = type(error).__name__
        expect(
            raised == "ValueError",
            f"heads {heads}: expected a ValueError (one layer is needed), {raised} was raised",
        )
