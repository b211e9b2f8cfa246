"""Checks of chapter 8. The oracles: the definition in loops, exact identities in float64, planted
models whose composition is known, and the long way: frozen patterns, heads kept or left out one set
at a time."""

import math
from functools import partial
from itertools import product

import torch

from minitransformer import ModelConfig, Transformer, load, planted
from solutions.ch07_qk_ov_circuits import LowRank
from tests.exercises.checking import checks, expect, expect_close
from tests.exercises.oracles import ch08 as slow
from tests.exercises.oracles.ch08 import length, run_kept, score

torch.manual_seed(8)
A, B = torch.randn(6, 6).double(), torch.randn(6, 6).double()
WIDE, TALL = torch.randn(5, 4).double(), torch.randn(4, 7).double()


def small_model(seed=3, **config):
    return Transformer(
        ModelConfig(n_heads=3, d_model=8, d_head=4, d_vocab=11, n_ctx=6, **config), seed
    ).double()


MODEL, ADDITIVE = small_model(), small_model(positional_embedding_type="standard")
TOKENS = torch.tensor([[0, 3, 7, 3, 10, 1], [0, 5, 5, 2, 9, 4]])


@checks(
    "composition_score",
    mistakes={
        "the product is in the wrong order: row vectors meet A first, so A @ B": lambda A, B: score(
            B, A
        ),
        "the result is |A B| alone; it must be divided by |A| |B|": lambda A, B: length(A @ B),
        "the root is missing: use norms, not sums of squares": lambda A, B: score(A, B) ** 2,
        "that is the spectral norm (largest singular value); use the root of the sum of all squares": (
            lambda A, B: (slow.largest(A @ B) / slow.largest(A) / slow.largest(B)).item()
        ),
        "B was transposed": lambda A, B: score(A, B.T),
        "that is the cosine of A and B as lists of numbers; the matrices must be multiplied": (
            lambda A, B: ((A * B).sum() / length(A) / length(B)).item()
        ),
    },
)
def test_score_is_its_definition(composition_score):
    expect_close(composition_score(A, B), score(A, B), "", "|A B| / (|A| |B|), two random matrices")


@checks("composition_score")
def test_score_of_low_rank_of_oblong_and_of_zero(composition_score):
    expect_close(composition_score(WIDE, TALL), score(WIDE, TALL), "", "A [5, 4] and B [4, 7]")
    thin = [LowRank(torch.randn(6, 2).double(), torch.randn(2, 6).double()) for _ in "AB"]
    expect_close(
        composition_score(*thin), score(thin[0].dense, thin[1].dense), "", "A and B kept as LowRank"
    )
    expect(
        math.isnan(composition_score(0 * A, B)),
        "an idle head, all zero, has no composition score: expected nan",
    )
    left, right = torch.eye(6).double().split(3)
    expect_close(
        composition_score(left.T @ left, right.T @ right),
        0.0,
        "",
        "B reads only what A never writes",
    )


@checks("composition_table", mistakes=slow.TABLE_MISTAKES)
def test_three_planted_pairs_light_up_once_each(composition_table):
    """Any transposition and any wrong order moves, adds or loses an entry here; the matrices were
    chosen for it.
    """
    model = planted.three_composers().double()
    tables = {kind: composition_table(model, kind) for kind in "QKV"}
    for h, kind in enumerate("QKV"):
        truth = torch.zeros(3, 3).double()
        truth[h, h] = math.sqrt(82 / 140)
        expect_close(
            tables[kind],
            truth,
            "layer_0_head layer_1_head",
            f"{kind}: 0.{h} with 1.{h} was planted, nothing else",
        )


@checks("composition_table", mistakes=slow.TABLE_MISTAKES | slow.FLIPPED)
def test_table_on_random_weights(composition_table):
    tables = {kind: composition_table(MODEL, kind) for kind in "QKV"}
    for kind, got in tables.items():
        expect_close(
            got,
            slow.table(slow.RIGHT)(MODEL, kind),
            "layer_0_head layer_1_head",
            f"{kind}, every pair by loops",
        )


@checks(
    "composition_table",
    mistakes={"Q and K are exchanged": slow.TABLE_MISTAKES["Q and K are exchanged"]},
)
def test_two_ways_to_do_induction(composition_table):
    """The usual circuit composes by K, pointer arithmetic by Q; the impostor composes by
    neither.
    """
    for model, kind, truth in (
        (planted.induction_model(), "K", 20**-0.5),
        (planted.pointer_model(), "Q", 40**-0.5),
    ):
        for each in "QK":
            here = torch.full((1, 1), truth if each == kind else 0.0)
            expect_close(
                composition_table(model, each),
                here,
                "layer_0_head layer_1_head",
                f"{each} of a planted model",
            )
    strongest = composition_table(load("impostor"), "K").max()
    expect(
        strongest < 0.125,
        f"no head of the impostor K-composes above chance, 1/sqrt(64); got {strongest:.3f}",
    )


CHANCE = slow.chance(36, 4, 200, torch.Generator().manual_seed(2))


@checks(
    "random_baseline",
    mistakes={
        "the heads were drawn as full matrices; a head is a product of two thin ones": partial(
            slow.chance, full=True
        ),
        "one pair was scored again and again; draw a new pair each time": partial(
            slow.chance, repeat=True
        ),
        "torch.rand gives numbers that are all positive; use torch.randn": partial(
            slow.chance, draw=torch.rand
        ),
        "the mean was returned; return every sample, for the spread": lambda *args: slow.chance(
            *args
        ).mean(),
        "the formula 1/sqrt(d_model) was returned, nothing was drawn": lambda d, r, n, generator: (
            torch.full((n,), d**-0.5)
        ),
        "the factors were drawn without `generator`, so nobody can repeat it": lambda d, r, n, _: (
            slow.chance(d, r, n, None)
        ),
    },
)
def test_baseline_has_the_right_mean_and_spread(random_baseline):
    got, again = (random_baseline(36, 4, 200, torch.Generator().manual_seed(1)) for _ in range(2))
    expect(got.shape == (200,), f"expected one score per sample, [200], got {list(got.shape)}")
    expect(
        abs(got.mean() * 6 - 1) < 0.06,
        f"the mean should be near 1/sqrt(36) = .167, got {got.mean():.3f}",
    )
    off = got.std() / CHANCE.std()
    expect(
        0.75 < off < 1.35,
        f"the spread of 200 pairs should be near {CHANCE.std():.4f}, got {got.std():.4f}",
    )
    expect(torch.equal(got, again), "the same generator must give the same samples")


@checks(
    "composition_ceiling",
    mistakes={
        "the spectra meet in opposite order, which gives the smallest score, not the largest": (
            lambda A, B: slow.ceiling_of(slow.spectra(A, B)[0], slow.spectra(A, B)[1].flip(0))
        ),
        "the products a_i b_i were added without squares": lambda A, B: float(
            math.prod(slow.spectra(A, B)).sum()
        ),
        "the root is missing": lambda A, B: slow.ceiling(A, B) ** 2,
        "eigenvalues are not singular values": lambda A, B: slow.ceiling_of(
            slow.eigenvalues(A), slow.eigenvalues(B)
        ),
        "1/sqrt(rank) holds for flat spectra only": lambda A, B: 6**-0.5,
    },
)
def test_ceiling_is_reached_by_turning(composition_ceiling):
    """Turn B so that what A writes most strongly is what B reads most strongly; no other turn beats
    that.
    """
    got, out, into = composition_ceiling(A, B), torch.linalg.svd(A).Vh, torch.linalg.svd(B).U
    expect_close(got, score(A, out.T @ into.T @ B), "", "the score of A with B turned onto it")
    turns = torch.linalg.qr(
        torch.randn(300, 6, 6, generator=torch.Generator().manual_seed(3)).double()
    ).Q
    best = max(score(A, turn @ B) for turn in turns)
    expect(got >= best, f"one of 300 random turns scores {best:.4f}, above the ceiling {got:.4f}")


@checks("composition_ceiling")
def test_ceiling_of_flat_maps(composition_ceiling):
    flat = torch.eye(6).double()[:, :3]
    expect_close(
        composition_ceiling(flat @ flat.T, flat), 3**-0.5, "", "two flat maps of rank 3: 1/sqrt(3)"
    )
    thin = LowRank(WIDE, TALL[:, :5])
    expect(
        composition_ceiling(thin, thin) >= score(thin.dense, thin.dense),
        "two LowRank maps score above the ceiling",
    )


@checks(
    "normalised_composition",
    mistakes={
        "the baseline is missing: chance must come out as 0": slow.normalised(
            baseline=lambda A: 0.0
        ),
        "the baseline is 1/sqrt(d_model), not 1/sqrt(rank)": slow.normalised(
            baseline=lambda A: 3**-0.5
        ),
        "the ceiling was taken to be 1": slow.normalised(top=lambda A, B: 1.0),
        "it was not divided by (ceiling - baseline)": slow.normalised(share=False),
        "it was divided by the ceiling, not by (ceiling - baseline)": (
            lambda A, B: slow.normalised(share=False)(A, B) / slow.ceiling(A, B)
        ),
    },
)
def test_normalised_score_knows_best_and_chance(normalised_composition):
    thin, other = (torch.randn(9, 3).double() @ torch.randn(3, 9).double() for _ in "AB")
    truth = (score(thin, other) - 1 / 3) / (slow.ceiling(thin, other) - 1 / 3)
    expect_close(
        normalised_composition(thin, other), truth, "", "two random maps of rank 3 in 9 dimensions"
    )
    # 7 rows, but 9 columns: d_model is 9
    few = score(thin[:7], other), slow.ceiling(thin[:7], other)
    truth = (few[0] - 1 / 3) / (few[1] - 1 / 3)
    expect_close(
        normalised_composition(thin[:7], other), truth, "", "A [7, 9] and B [9, 9]: d_model is 9"
    )
    turned = torch.linalg.svd(thin).Vh.T @ torch.linalg.svd(other).U.T @ other
    expect_close(normalised_composition(thin, turned), 1.0, "", "the best possible turn is 1")


X, W_Q, W_K = (
    torch.randn(3, 2, 4, 8).double(),
    torch.randn(8, 5).double(),
    torch.randn(8, 5).double(),
)


@checks(
    "decompose_qk_inputs",
    mistakes={
        "the positions are missing": partial(slow.stack, positions=0),
        "hook_resid_pre of standard models holds the positions already": partial(
            slow.stack, embed="blocks.0.hook_resid_pre"
        ),
        "those are the heads of layer 1; its q and k are made from what came before": partial(
            slow.stack, heads=1
        ),
    },
)
def test_parts_make_the_queries_and_keys_of_layer_1(decompose_qk_inputs):
    for model in (MODEL, ADDITIVE):
        _, cache = model.run_with_cache(TOKENS)
        labels, parts = decompose_qk_inputs(cache)
        names = ["embed", "positions", "0.0", "0.1", "0.2"]
        expect(list(labels) == names, f"labels: expected {names}, got {labels}")
        expect(len(parts) == 5, f"expected 5 parts for 3 heads, got {len(parts)}")
        q = torch.einsum("bpd,hdk->bphk", parts.sum(0), model.W_Q[1].detach())
        kind = model.cfg.positional_embedding_type
        expect_close(
            q,
            cache["blocks.1.attn.hook_q"],
            "batch pos head d_head",
            f"({kind}) sum of the parts, times W_Q",
        )
        gone = run_kept(model, TOKENS, {(0, 0), (0, 2)}, "blocks.1.hook_resid_pre")
        truth = cache["blocks.1.hook_resid_pre"] - gone
        expect_close(
            parts[3],
            truth,
            "batch pos d_model",
            f"({kind}) what is missing when head 0.1 is really zeroed",
        )


@checks(
    "decompose_scores",
    mistakes={
        "the terms were not divided by sqrt(d_head)": partial(slow.terms, scale=1.0),
        "the terms were divided by sqrt(d_model)": partial(slow.terms, scale=8**0.5),
        "query part and key part are exchanged": partial(slow.terms, flip=True),
        "W_Q and W_K are exchanged": lambda parts, W_Q, W_K: slow.terms(parts, W_K, W_Q),
        "each part met only itself; every query part meets every key part": partial(
            slow.terms, diagonal=True
        ),
        "a softmax was applied to each term; only before the softmax can terms be added": (
            lambda parts, W_Q, W_K: slow.terms(parts, W_Q, W_K).softmax(-1)
        ),
    },
)
def test_terms_are_products_of_parts(decompose_scores):
    truth = torch.zeros(3, 3, 2, 4, 4).double()
    for a, c, b, i, j in product(range(3), range(3), range(2), range(4), range(4)):
        truth[a, c, b, i, j] = (X[a, b, i] @ W_Q) @ (X[c, b, j] @ W_K) / 5**0.5
    expect_close(
        decompose_scores(X, W_Q, W_K),
        truth,
        "query_part key_part batch query key",
        "each term by itself",
    )


@checks("decompose_scores")
def test_terms_add_up_to_the_scores_of_the_model(decompose_scores):
    _, cache = MODEL.run_with_cache(TOKENS)
    got = (
        decompose_scores(slow.stack(cache)[1], MODEL.W_Q[1, 2].detach(), MODEL.W_K[1, 2].detach())
        .sum(dim=(0, 1))
        .tril()
    )
    truth = cache["blocks.1.attn.hook_attn_scores"][:, 2].nan_to_num(neginf=0.0)
    expect_close(
        got,
        truth,
        "batch query key",
        "the sum of all terms is the hooked score of head 1.2",
        tolerance=1e-12,
    )


@checks(
    "k_composition_circuit",
    mistakes={
        "rows and columns are exchanged: a row is the token at the query": partial(
            slow.circuit, flip=True
        ),
        "W_Q and W_K are exchanged: that is Q-composition": partial(
            slow.circuit, qk=lambda Q, K: K @ Q.T
        ),
        "W_OV was left out: that is the full QK circuit": partial(
            slow.circuit, ov=lambda V, out: torch.eye(len(V)).to(V)
        ),
        "W_OV is transposed": partial(slow.circuit, ov=lambda V, out: (V @ out).T),
        "the two heads are exchanged": lambda m, p, i: slow.circuit(m, i, p),
        "W_OV of the induction head was used, not that of `previous`": lambda m, p, i: slow.circuit(
            m, i, i
        ),
    },
)
def test_circuit_is_what_the_query_seeks(k_composition_circuit):
    """Token t asks; the key holds nothing but what 0.2 moved there from token s: every pair, by
    hand.
    """
    got, truth = k_composition_circuit(MODEL, (0, 2), (1, 1)), torch.zeros(11, 11).double()
    for t, s in product(range(11), range(11)):
        key = MODEL.W_E[s] @ MODEL.W_V[0, 2] @ MODEL.W_O[0, 2]
        truth[t, s] = ((MODEL.W_E[t] @ MODEL.W_Q[1, 1]) @ (key @ MODEL.W_K[1, 1])).item()
    expect_close(got, truth, "query_token key_token", "(W_E[t] W_Q) . (W_E[s] W_V W_O W_K)")


@checks("k_composition_circuit")
def test_circuit_of_planted_models(k_composition_circuit):
    tokens = torch.eye(20)[1:]  # every token but BOS
    got = tokens @ k_composition_circuit(planted.induction_model(), (0, 0), (1, 0)) @ tokens.T
    expect(
        got.max() > 0,
        "hand-built induction: each token seeks itself, but in your circuit no entry is positive",
    )
    got = got / got.max()
    expect_close(
        got,
        torch.eye(19),
        "query_token key_token",
        "hand-built induction: each token seeks itself, nothing else",
    )
    got = k_composition_circuit(planted.pointer_model(), (0, 0), (1, 0))
    expect_close(
        got,
        torch.zeros(20, 20),
        "query_token key_token",
        "pointer arithmetic composes by Q: here is nothing",
    )


@checks("path_expansion", mistakes=slow.PATH_MISTAKES)
def test_each_path_is_what_its_heads_add_together(path_expansion):
    """The path 0.g>1.h by really zeroing: what both write, less what each writes alone."""
    labels, got = path_expansion(MODEL, TOKENS)
    names = slow.paths(MODEL, TOKENS)[0]
    expect(
        list(labels) == names,
        f"labels: expected {', '.join(names)}; got {', '.join(map(str, labels))}",
    )
    expect(
        got.shape == (16, 2, 6, 11),
        f"expected [path, batch, pos, vocab] = [16, 2, 6, 11], got {list(got.shape)}",
    )
    none, term = run_kept(MODEL, TOKENS, set()), dict(zip(labels, got))
    expect_close(term["direct"], none, "batch pos vocab", "direct: all heads zeroed")
    for g, h in product(range(3), range(3)):
        first, second = (run_kept(MODEL, TOKENS, {head}) - none for head in ((0, g), (1, h)))
        both = run_kept(MODEL, TOKENS, {(0, g), (1, h)}) - none - first - second
        for label, truth in ((f"0.{g}", first), (f"1.{h}", second), (f"0.{g}>1.{h}", both)):
            expect_close(
                term[label], truth, "batch pos vocab", f"path {label}, by zeroing all other heads"
            )


@checks(
    "path_expansion",
    mistakes={label: slow.PATH_MISTAKES[label] for label in list(slow.PATH_MISTAKES)[2:4]},
)
def test_paths_sum_to_the_logits(path_expansion):
    for model in (MODEL, ADDITIVE):
        got, kind = path_expansion(model, TOKENS)[1].sum(dim=0), model.cfg.positional_embedding_type
        expect_close(
            got,
            model(TOKENS).detach(),
            "batch pos vocab",
            f"({kind}) all paths together are the logits",
            1e-12,
        )


@checks(
    "term_importance",
    mistakes={
        "the patterns were not forced to the saved ones": partial(slow.importance, force=False),
        "what was put in the stream was saved, not what the layer wrote": partial(
            slow.importance, keep_replaced=True
        ),
        "round 0 must write zero, not what the full run wrote": partial(slow.importance, start=1.0),
        "one round is missing: rounds 0 to n_layers": partial(slow.importance, rounds=2),
    },
)
def test_round_n_has_the_paths_of_n_heads(term_importance):
    got, none = term_importance(MODEL, TOKENS), run_kept(MODEL, TOKENS, set())
    alone = [run_kept(MODEL, TOKENS, {head}) - none for head in product(range(2), range(3))]
    expect(
        got.shape == (3, 2, 6, 11),
        f"expected [round, batch, pos, vocab] = [3, 2, 6, 11], got {list(got.shape)}",
    )
    expect_close(got[0], none, "batch pos vocab", "round 0: no head")
    expect_close(
        got[1],
        none + sum(alone),
        "batch pos vocab",
        "round 1: each head alone, by zeroing all others",
    )
    expect_close(
        got[2],
        MODEL(TOKENS).detach(),
        "batch pos vocab",
        "round 2 is the model itself",
        tolerance=1e-12,
    )


@checks("term_importance")
def test_last_round_is_the_model_at_any_depth(term_importance):
    for n_layers in (1, 3):
        model = small_model(n_layers=n_layers)
        got = term_importance(model, TOKENS)
        expect(
            len(got) == n_layers + 1,
            f"{n_layers} layers: expected {n_layers + 1} rounds, got {len(got)}",
        )
        expect_close(
            got[-1],
            model(TOKENS).detach(),
            "batch pos vocab",
            f"the last of {n_layers + 1} rounds is the model",
        )
