"""Checks of chapter 8. The oracles: the definition in loops, exact identities in float64, planted
models whose composition is known, and the long way: frozen patterns, heads kept or left out one set
at a time.
"""

import math
from itertools import product

import torch

from minitransformer import load, planted
from solutions.ch07_qk_ov_circuits import LowRank
from solutions.ch08_composition import with_weights
from tests.exercises.checking import checks, expect, expect_close
from tests.exercises.oracles import ch08 as slow
from tests.exercises.oracles import ch08_mistakes as mistakes
from tests.exercises.oracles.ch08 import run_kept, score
from tests.material import seeded, small_model

GENERATOR = seeded(8)
PAIR, LOGITS = "layer_0_head layer_1_head", "batch pos vocab"


def randn(*shape):
    return torch.randn(shape, generator=GENERATOR, dtype=torch.float64)


A, B = randn(6, 6), randn(6, 6)
WIDE, TALL = randn(5, 4), randn(4, 7)
MODEL, ADDITIVE = small_model(), small_model(positional_embedding_type="standard")
TOKENS = torch.tensor([[0, 3, 7, 3, 10, 1], [0, 5, 5, 2, 9, 4]])


@checks("composition_score", mistakes.SCORE)
def test_score_is_its_definition(composition_score):
    expect_close(composition_score(A, B), score(A, B), "", "|A B| / (|A| |B|), two random matrices")


@checks("composition_score")
def test_score_of_low_rank_of_oblong_and_of_zero(composition_score):
    expect_close(composition_score(WIDE, TALL), score(WIDE, TALL), "", "A [5, 4] and B [4, 7]")
    first, second = LowRank(randn(6, 2), randn(2, 6)), LowRank(randn(6, 2), randn(2, 6))
    truth = score(first.dense, second.dense)
    expect_close(composition_score(first, second), truth, "", "A and B kept as LowRank")
    idle = composition_score(0 * A, B)
    expect(math.isnan(idle), "an idle head, all zero, has no composition score: expected nan")
    left, right = torch.eye(6).double().split(3)
    got = composition_score(left.T @ left, right.T @ right)
    expect_close(got, 0.0, "", "B reads only what A never writes")


@checks("composition_table", mistakes.TABLE)
def test_three_planted_pairs_light_up_once_each(composition_table):
    """Any transposition and any wrong order moves, adds or loses an entry here; the matrices were
    chosen for it.
    """
    model = planted.three_composers().double()
    tables = {kind: composition_table(model, kind) for kind in "QKV"}
    for head, (kind, got) in enumerate(tables.items()):
        truth = torch.zeros(3, 3).double()
        truth[head, head] = math.sqrt(82 / 140)
        why = f"{kind}: 0.{head} with 1.{head} was planted, nothing else"
        expect_close(got, truth, PAIR, why)


@checks("composition_table", mistakes.TABLE | mistakes.FLIPPED)
def test_table_on_random_weights(composition_table):
    tables = {kind: composition_table(MODEL, kind) for kind in "QKV"}
    for kind, got in tables.items():
        expect_close(got, slow.table()(MODEL, kind), PAIR, f"{kind}, every pair by loops")


@checks("composition_table", mistakes.EXCHANGED)
def test_two_ways_to_do_induction(composition_table):
    """The usual circuit composes by K, pointer arithmetic by Q; the impostor composes by
    neither.
    """
    usual = (planted.induction_model(), "K", 20**-0.5)
    pointer = (planted.pointer_model(), "Q", 40**-0.5)
    for model, composes_by, strength in (usual, pointer):
        for kind in "QK":
            truth = torch.full((1, 1), strength if kind == composes_by else 0.0)
            expect_close(composition_table(model, kind), truth, PAIR, f"{kind} of a planted model")
    strongest = composition_table(load("impostor"), "K").max()
    chance = "no head of the impostor K-composes above chance, 1/sqrt(64)"
    expect(strongest < 0.125, f"{chance}; got {strongest:.3f}")


CHANCE = slow.chance(36, 4, 200, seeded(2))


@checks("random_baseline", mistakes.BASELINE)
def test_baseline_has_the_right_mean_and_spread(random_baseline):
    got, again = random_baseline(36, 4, 200, seeded(1)), random_baseline(36, 4, 200, seeded(1))
    expect(got.shape == (200,), f"expected one score per sample, [200], got {list(got.shape)}")
    mean, spread, expected = got.mean(), got.std(), CHANCE.std()
    near = abs(mean * 6 - 1) < 0.06
    expect(near, f"the mean should be near 1/sqrt(36) = .167, got {mean:.3f}")
    near = 0.75 < spread / expected < 1.35
    expect(near, f"the spread of 200 pairs should be near {expected:.4f}, got {spread:.4f}")
    expect(torch.equal(got, again), "the same generator must give the same samples")


@checks("random_baseline", mistakes.DRAWN_ONCE)
def test_baseline_draws_every_pair_afresh(random_baseline):
    """A head's own spectrum sets how far its scores spread: with one head for all pairs, the spread
    would depend on that draw.
    """
    spreads = [random_baseline(4, 2, 400, seeded(seed)).std().item() for seed in range(12)]
    ratio = max(spreads) / min(spreads)
    expect(ratio < 1.25, f"12 generators: the largest spread is {ratio:.2f} times the smallest")


@checks("composition_ceiling", mistakes.CEILING)
def test_ceiling_is_reached_by_turning(composition_ceiling):
    """Turn B so that what A writes most strongly is what B reads most strongly; no other turn beats
    that.
    """
    got, out, into = composition_ceiling(A, B), torch.linalg.svd(A).Vh, torch.linalg.svd(B).U
    expect_close(got, score(A, out.T @ into.T @ B), "", "the score of A with B turned onto it")
    turns = torch.linalg.qr(torch.randn(300, 6, 6, generator=seeded(3)).double()).Q
    best = max(score(A, turn @ B) for turn in turns)
    expect(got >= best, f"one of 300 random turns scores {best:.4f}, above the ceiling {got:.4f}")


@checks("composition_ceiling", mistakes.CUT_FIRST)
def test_ceiling_of_unequal_spectra(composition_ceiling):
    narrow = randn(6, 3)
    got, out, into = (
        composition_ceiling(A, narrow),
        torch.linalg.svd(A).Vh,
        torch.linalg.svd(narrow),
    )
    best = score(A, out.T @ into.U.T @ narrow)
    expect_close(
        got, best, "", "A has 6 singular values, B 3: the score of A with B turned onto it"
    )


@checks("composition_ceiling")
def test_ceiling_of_flat_maps(composition_ceiling):
    flat = torch.eye(6).double()[:, :3]
    got = composition_ceiling(flat @ flat.T, flat)
    expect_close(got, 3**-0.5, "", "two flat maps of rank 3: 1/sqrt(3)")
    thin = LowRank(WIDE, TALL[:, :5])
    reached = score(thin.dense, thin.dense)
    expect(composition_ceiling(thin, thin) >= reached, "two LowRank maps score above the ceiling")


@checks("normalised_composition", mistakes.NORMALISED)
def test_normalised_score_knows_best_and_chance(normalised_composition):
    thin, other = randn(9, 3) @ randn(3, 9), randn(9, 3) @ randn(3, 9)
    for A, why in (
        (thin, "two random maps of rank 3 in 9 dimensions"),
        (thin[:7], "A [7, 9] and B [9, 9]: d_model is 9"),
    ):
        truth = (score(A, other) - 1 / 3) / (slow.ceiling(A, other) - 1 / 3)
        expect_close(normalised_composition(A, other), truth, "", why)
    turned = torch.linalg.svd(thin).Vh.T @ torch.linalg.svd(other).U.T @ other
    expect_close(normalised_composition(thin, turned), 1.0, "", "the best possible turn is 1")


def weights_of(model):
    return {name: weight.detach() for name, weight in model.named_parameters()}


@checks("stretch_stream", mistakes.STRETCH)
def test_a_stretched_stream_is_the_old_one_times_S(stretch_stream):
    """Every vector of the stream becomes x S; every pattern and every logit stays."""
    for n_layers, kind in ((2, "shortformer"), (3, "standard")):
        model = small_model(n_layers=n_layers, positional_embedding_type=kind)
        S = torch.eye(12).double() + 0.4 * randn(12, 12)
        got = stretch_stream(weights_of(model), S)
        expect(set(got) == set(weights_of(model)), f"expected the same keys, got {sorted(got)}")
        expect_close(got["W_E"], model.W_E.detach() @ S, "token d_model", "W_E becomes W_E S")
        before, cache = model.run_with_cache(TOKENS)
        after, stretched = with_weights(model, got).run_with_cache(TOKENS)
        for name in cache:
            if "hook_resid" in name:
                why, truth = f"({kind}) {name} becomes x S", cache[name] @ S
                expect_close(stretched[name], truth, "batch pos d_model", why, tolerance=1e-9)
            elif "hook_pattern" in name:
                why = f"({kind}) {name} stays"
                expect_close(stretched[name], cache[name], "batch head query key", why)
        expect_close(after.detach(), before.detach(), LOGITS, f"({kind}) the logits stay")


@checks("stretch_stream")
def test_stretching_twice_is_stretching_once(stretch_stream):
    first, second = torch.eye(12).double() + 0.4 * randn(2, 12, 12)
    twice = stretch_stream(stretch_stream(weights_of(MODEL), first), second)
    once = stretch_stream(weights_of(MODEL), first @ second)
    for name in once:
        axes = " ".join(f"axis_{axis}" for axis in range(once[name].ndim))
        expect_close(twice[name], once[name], axes, f"{name}: S, then T, is S T", tolerance=1e-9)


# 5 tokens at 3 places: 15 inputs
PLACED = small_model(d_vocab=5, n_ctx=3, positional_embedding_type="standard")


@checks("token_space_composition", mistakes.TOKEN_SPACE)
def test_token_space_is_what_really_happens(token_space_composition):
    """One layer-0 head is made to write what it moves, for every pair of tokens."""
    for kind in "QKV":
        truth = slow.token_space_by_running(MODEL, kind)
        expect_close(token_space_composition(MODEL, kind), truth, PAIR, f"{kind}, by running")


@checks("token_space_composition", mistakes.NO_POSITIONS)
def test_token_space_with_positions_in_the_stream(token_space_composition):
    for kind in "QKV":
        truth = slow.token_space_by_running(PLACED, kind)
        why = f"{kind}, positions in the stream, by running"
        expect_close(token_space_composition(PLACED, kind), truth, PAIR, why)


@checks("token_space_composition")
def test_token_space_of_planted_models(token_space_composition):
    """The usual circuit works by K, pointer arithmetic by Q. A perfect match is one of 20."""
    for model, used, size in (
        (planted.induction_model(), "K", planted.SHARPNESS / 20**0.5),
        (planted.pointer_model(), "Q", None),
    ):
        for kind in "QKV":
            got, why = token_space_composition(model, kind), f"{kind} of a planted model"
            if kind != used:
                expect_close(got, torch.zeros(1, 1), PAIR, f"{why}: nothing")
            elif size:
                expect_close(got, torch.full((1, 1), size), PAIR, f"{why}: 2000 at 1 pair in 20")
            else:
                expect(got.item() > 100, f"{why} should be large, got {got.item():.3f}")


@checks("token_space_composition")
def test_token_space_does_not_move_with_the_gauge(token_space_composition):
    weights = weights_of(MODEL)
    stretched = slow.stretched(weights, torch.eye(12).double() + 0.4 * randn(12, 12))
    shifted = weights | {"W_U": weights["W_U"] + randn(12, 1)}
    for kind in "QKV":
        truth = token_space_composition(MODEL, kind)
        for changed, what in ((stretched, "the stream stretched"), (shifted, "W_U shifted")):
            got = token_space_composition(with_weights(MODEL, changed), kind)
            why = f"{kind}: the same after {what}, which no logit difference can see"
            expect_close(got, truth, PAIR, why, tolerance=1e-9)


@checks("decompose_qk_inputs", mistakes.PARTS)
def test_parts_make_the_queries_and_keys_of_layer_1(decompose_qk_inputs):
    for model in (MODEL, ADDITIVE):
        _, cache = model.run_with_cache(TOKENS)
        labels, parts = decompose_qk_inputs(cache)
        names = ["embed", "positions", "0.0", "0.1", "0.2"]
        expect(list(labels) == names, f"labels: expected {names}, got {labels}")
        expect(len(parts) == 5, f"expected 5 parts for 3 heads, got {len(parts)}")
        q = torch.einsum("bpd,hdk->bphk", parts.sum(0), model.W_Q[1].detach())
        kind, truth = model.cfg.positional_embedding_type, cache["blocks.1.attn.hook_q"]
        expect_close(q, truth, "batch pos head d_head", f"({kind}) sum of the parts, times W_Q")
        gone = run_kept(model, TOKENS, {(0, 0), (0, 2)}, "blocks.1.hook_resid_pre")
        truth = cache["blocks.1.hook_resid_pre"] - gone
        why = f"({kind}) what is missing when head 0.1 is really zeroed"
        expect_close(parts[3], truth, "batch pos d_model", why)


@checks("decompose_scores", mistakes.TERMS)
def test_terms_are_products_of_parts(decompose_scores):
    parts, W_Q, W_K = randn(3, 2, 4, 8), randn(8, 5), randn(8, 5)
    truth = torch.zeros(3, 3, 2, 4, 4).double()
    for a, b, row, i, j in product(range(3), range(3), range(2), range(4), range(4)):
        truth[a, b, row, i, j] = (parts[a, row, i] @ W_Q) @ (parts[b, row, j] @ W_K) / 5**0.5
    got = decompose_scores(parts, W_Q, W_K)
    expect_close(got, truth, "query_part key_part batch query key", "each term by itself")


@checks("decompose_scores")
def test_terms_add_up_to_the_scores_of_the_model(decompose_scores):
    _, cache = MODEL.run_with_cache(TOKENS)
    parts = slow.stack(cache)[1]
    terms = decompose_scores(parts, MODEL.W_Q[1, 2].detach(), MODEL.W_K[1, 2].detach())
    truth = cache["blocks.1.attn.hook_attn_scores"][:, 2].nan_to_num(neginf=0.0)
    why = "the sum of all terms is the hooked score of head 1.2"
    expect_close(terms.sum(dim=(0, 1)).tril(), truth, "batch query key", why, tolerance=1e-12)


@checks("k_composition_circuit", mistakes.CIRCUIT)
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
    tokens, axes = torch.eye(20)[1:], "query_token key_token"  # every token but BOS
    got = tokens @ k_composition_circuit(planted.induction_model(), (0, 0), (1, 0)) @ tokens.T
    why = "hand-built induction: each token seeks itself"
    expect(got.max() > 0, f"{why}, but in your circuit no entry is positive")
    expect_close(got / got.max(), torch.eye(19), axes, f"{why}, nothing else")
    got = k_composition_circuit(planted.pointer_model(), (0, 0), (1, 0))
    why = "pointer arithmetic composes by Q: here is nothing"
    expect_close(got, torch.zeros(20, 20), axes, why)


@checks("path_expansion", mistakes.PATHS)
def test_each_path_is_what_its_heads_add_together(path_expansion):
    """The path 0.g>1.h by really zeroing: what both write, less what each writes alone."""
    labels, got = path_expansion(MODEL, TOKENS)
    names, found = ", ".join(slow.paths(MODEL, TOKENS)[0]), ", ".join(map(str, labels))
    expect(found == names, f"labels: expected {names}; got {found}")
    shape, wanted = list(got.shape), [16, 2, 6, 11]
    expect(shape == wanted, f"expected [path, batch, pos, vocab] = {wanted}, got {shape}")
    none, term = run_kept(MODEL, TOKENS, set()), dict(zip(labels, got))
    expect_close(term["direct"], none, LOGITS, "direct: all heads zeroed")
    for g, h in product(range(3), range(3)):
        first = run_kept(MODEL, TOKENS, {(0, g)}) - none
        second = run_kept(MODEL, TOKENS, {(1, h)}) - none
        both = run_kept(MODEL, TOKENS, {(0, g), (1, h)}) - none - first - second
        for label, truth in ((f"0.{g}", first), (f"1.{h}", second), (f"0.{g}>1.{h}", both)):
            why = f"path {label}, by zeroing all other heads"
            expect_close(term[label], truth, LOGITS, why)


@checks("path_expansion", mistakes.WRONG_SUMS)
def test_paths_sum_to_the_logits(path_expansion):
    for model in (MODEL, ADDITIVE):
        got, truth = path_expansion(model, TOKENS)[1].sum(dim=0), model(TOKENS).detach()
        why = f"({model.cfg.positional_embedding_type}) all paths together are the logits"
        expect_close(got, truth, LOGITS, why, tolerance=1e-12)


@checks("term_importance", mistakes.IMPORTANCE)
def test_round_n_has_the_paths_of_n_heads(term_importance):
    got, none = term_importance(MODEL, TOKENS), run_kept(MODEL, TOKENS, set())
    shape, wanted = list(got.shape), [3, 2, 6, 11]
    expect(shape == wanted, f"expected [round, batch, pos, vocab] = {wanted}, got {shape}")
    expect_close(got[0], none, LOGITS, "round 0: no head")
    alone = [run_kept(MODEL, TOKENS, {head}) - none for head in product(range(2), range(3))]
    why = "round 1: each head alone, by zeroing all others"
    expect_close(got[1], none + sum(alone), LOGITS, why)
    truth = MODEL(TOKENS).detach()
    expect_close(got[2], truth, LOGITS, "round 2 is the model itself", tolerance=1e-12)


@checks("term_importance")
def test_last_round_is_the_model_at_any_depth(term_importance):
    for n_layers in (1, 3):
        model, rounds = small_model(n_layers=n_layers), n_layers + 1
        got = term_importance(model, TOKENS)
        expect(len(got) == rounds, f"{n_layers} layers: expected {rounds} rounds, got {len(got)}")
        why = f"the last of {rounds} rounds is the model"
        expect_close(got[-1], model(TOKENS).detach(), LOGITS, why)
