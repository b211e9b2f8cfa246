"""Checks of chapter 8. The oracles: the definition in loops, exact identities in float64, planted
models whose composition is known, and the long way: frozen patterns, heads kept or left out one set
at a time.
"""

import math
from itertools import product

import torch

from minitransformer import load, planted
from minitransformer.evaluate import held_out
from solutions.ch07_qk_ov_circuits import LowRank
from solutions.ch08_composition import with_weights
from tests.exercises.cases import heads_of, in_case
from tests.exercises.checking import checks, expect, expect_close
from tests.exercises.oracles import ch08 as slow
from tests.exercises.oracles import ch08_chance_mistakes as chance_mistakes
from tests.exercises.oracles import ch08_gauge_mistakes as gauge_mistakes
from tests.exercises.oracles import ch08_mistakes as mistakes
from tests.exercises.oracles import ch08_path_mistakes as path_mistakes
from tests.exercises.oracles import ch08_paths as long_way
from tests.exercises.oracles.ch08 import score
from tests.exercises.oracles.ch08_paths import run_kept
from tests.material import seeded, small_model

GENERATOR = seeded(8)
PAIR, LOGITS = "layer_0_head layer_1_head", "batch pos vocab"


def randn(*shape):
    return torch.randn(shape, generator=GENERATOR, dtype=torch.float64)


A, B = randn(6, 6), randn(6, 6)
WIDE, TALL = randn(5, 4), randn(4, 7)
MODEL, ADDITIVE = small_model(), small_model(positional_embedding_type="standard")
DEEP = small_model(n_layers=3)  # layer 1 is neither the last nor the first
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


@checks("composition_table", mistakes.ON_RANDOM_WEIGHTS)
def test_table_on_random_weights(composition_table):
    tables = {kind: in_case(heads_of(DEEP), composition_table, DEEP, kind) for kind in "QKV"}
    for kind, got in tables.items():
        expect_close(got, slow.table()(DEEP, kind), PAIR, f"{kind}, every pair by loops")


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


@checks("random_baseline", chance_mistakes.BASELINE)
def test_baseline_has_the_right_mean_and_spread(random_baseline):
    got, again = random_baseline(36, 4, 200, seeded(1)), random_baseline(36, 4, 200, seeded(1))
    expect(got.shape == (200,), f"expected one score per sample, [200], got {list(got.shape)}")
    mean, spread, expected = got.mean(), got.std(), CHANCE.std()
    near = abs(mean * 6 - 1) < 0.06
    expect(near, f"the mean should be near 1/sqrt(36) = .167, got {mean:.3f}")
    near = 0.75 < spread / expected < 1.35
    expect(near, f"the spread of 200 pairs should be near {expected:.4f}, got {spread:.4f}")
    expect(torch.equal(got, again), "the same generator must give the same samples")


@checks("random_baseline", chance_mistakes.DRAWN_ONCE)
def test_baseline_draws_every_pair_afresh(random_baseline):
    """Scores of pairs that share a head are hard to tell from right ones; what was taken from the
    generator is not. All ways to draw 12 x 4 numbers at a time take the same.
    """
    random_baseline(12, 4, 5, seeded(6))
    count = slow.drawn_factors(random_baseline, 12, 4, 5)
    why = "5 pairs are 10 heads, each of 2 factors: 20 were to be drawn from the generator"
    expect(count in (20, 40), f"{why}, it drew {count}")


@checks("composition_ceiling", chance_mistakes.CEILING)
def test_ceiling_is_reached_by_turning(composition_ceiling):
    """Turn B so that what A writes most strongly is what B reads most strongly; no other turn beats
    that.
    """
    got, out, into = composition_ceiling(A, B), torch.linalg.svd(A).Vh, torch.linalg.svd(B).U
    expect_close(got, score(A, out.T @ into.T @ B), "", "the score of A with B turned onto it")
    turns = torch.linalg.qr(torch.randn(300, 6, 6, generator=seeded(3)).double()).Q
    best = max(score(A, turn @ B) for turn in turns)
    expect(got >= best, f"one of 300 random turns scores {best:.4f}, above the ceiling {got:.4f}")


@checks("composition_ceiling", chance_mistakes.CUT_FIRST)
def test_ceiling_of_unequal_spectra(composition_ceiling):
    narrow = randn(6, 3)
    out, into = torch.linalg.svd(A).Vh, torch.linalg.svd(narrow).U
    case = "A has 6 singular values, B 3"
    got, best = in_case(case, composition_ceiling, A, narrow), score(A, out.T @ into.T @ narrow)
    expect_close(got, best, "", f"{case}: the score of A with B turned onto it")


@checks("composition_ceiling")
def test_ceiling_of_flat_maps(composition_ceiling):
    flat = torch.eye(6).double()[:, :3]
    got = composition_ceiling(flat @ flat.T, flat)
    expect_close(got, 3**-0.5, "", "two flat maps of rank 3: 1/sqrt(3)")
    thin = LowRank(WIDE, TALL[:, :5])
    reached = score(thin.dense, thin.dense)
    expect(composition_ceiling(thin, thin) >= reached, "two LowRank maps score above the ceiling")


@checks("normalised_composition", chance_mistakes.NORMALISED)
def test_normalised_score_knows_best_and_chance(normalised_composition):
    A, B = randn(7, 3) @ randn(3, 11), randn(11, 3) @ randn(3, 5)  # d_model is 11
    out, into = torch.linalg.svd(A).Vh, torch.linalg.svd(B).U
    turns = {
        "A [7, 11] and B [11, 5] of rank 3, as they come": torch.eye(11).double(),
        "B turned onto what A writes: 1": out.T @ into.T,
        "B turned away from all that A writes: below 0": out.T @ into.roll(3, dims=1).T,
    }
    found = {why: normalised_composition(A, turn @ B) for why, turn in turns.items()}
    chance = 11**-0.5
    for why, got in found.items():
        truth = (score(A, turns[why] @ B) - chance) / (slow.ceiling(A, B) - chance)
        expect_close(got, truth, "", f"{why} (the baseline is 1/sqrt(11) = {chance:.4f})")
    expect_close(list(found.values())[1], 1.0, "", "the best possible turn is 1")


def weights_of(model):
    return {name: weight.detach() for name, weight in model.named_parameters()}


@checks("stretch_stream", gauge_mistakes.STRETCH)
def test_a_stretched_stream_is_the_old_one_times_S(stretch_stream):
    """Every vector of the stream becomes x S; every pattern and every logit stays."""
    for n_layers, kind in ((2, "shortformer"), (3, "standard")):
        model = small_model(n_layers=n_layers, positional_embedding_type=kind)
        S = torch.eye(12).double() + 0.4 * randn(12, 12)
        got = stretch_stream(weights_of(model), S)
        missing = ", ".join(sorted(set(weights_of(model)) ^ set(got)))
        expect(not missing, f"expected the same keys as in `weights`; missing or new: {missing}")
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


@checks("stretch_stream", gauge_mistakes.NEVER_COMPLAINS)
def test_a_map_without_inverse_is_refused(stretch_stream):
    flat = torch.eye(12).double()
    flat[7, 7] = 0
    stretch_stream(weights_of(MODEL), torch.eye(12).double() + flat)
    try:
        stretch_stream.without_result(weights_of(MODEL), flat)
        raised = "nothing was raised"
    except torch.linalg.LinAlgError:
        return
    except Exception as error:
        raised = f"got {type(error).__name__}"
    expect(False, f"S has no inverse: expected torch.linalg.LinAlgError, {raised}")


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


@checks("token_space_composition", gauge_mistakes.TOKEN_SPACE)
def test_token_space_is_what_really_happens(token_space_composition):
    """One layer-0 head is made to write what it moves, for every pair of tokens."""
    tables = {kind: in_case(heads_of(DEEP), token_space_composition, DEEP, kind) for kind in "QKV"}
    for kind, got in tables.items():
        expect_close(got, slow.token_space_by_running(DEEP, kind), PAIR, f"{kind}, by running")


@checks("token_space_composition", gauge_mistakes.NO_POSITIONS)
def test_token_space_with_positions_in_the_stream(token_space_composition):
    tables = {kind: token_space_composition(PLACED, kind) for kind in "QKV"}
    for kind, got in tables.items():
        why, truth = f"{kind}, positions in the stream", slow.token_space_by_running(PLACED, kind)
        expect_close(got, truth, PAIR, f"{why}, by running")


@checks("token_space_composition")
def test_token_space_of_planted_models(token_space_composition):
    """The usual circuit works by K, pointer arithmetic by Q. A perfect match is one of 20."""
    for model, used, size in (
        (planted.induction_model(), "K", planted.SHARPNESS * 19**0.5 / 20),
        (planted.pointer_model(), "Q", None),
    ):
        for kind in "QKV":
            got, why = token_space_composition(model, kind), f"{kind} of a planted model"
            if kind != used:
                expect_close(got, torch.zeros(1, 1), PAIR, f"{why}: nothing")
            elif size:
                expect_close(got, torch.full((1, 1), size), PAIR, f"{why}: 2000 at 1 key in 20")
            else:
                expect(got.item() > 100, f"{why} should be large, got {got.item():.3f}")


@checks("token_space_composition", gauge_mistakes.CONSTANT_COUNTS)
def test_token_space_of_a_head_that_writes_a_constant(token_space_composition):
    """The same into every key: no softmax sees it, so no logit and no pattern moves."""
    plain = planted.induction_model(40, 20, strengths=(1.0, 1.0)).double()
    model = slow.constant_writer(plain, size=0.5)
    tokens = held_out(plain, (3, 15), batch=8).tokens
    expect_close(model(tokens).detach(), plain(tokens).detach(), LOGITS, "(the logits stay)")
    truth = planted.SHARPNESS * 39**0.5 / 40 * torch.tensor([[1.0, 1.0], [0.0, 0.0]]).double()
    why = "K: 0.1 writes the same vector into every key, which no softmax sees: 0"
    expect_close(token_space_composition(model, "K"), truth, PAIR, why)


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


@checks("decompose_qk_inputs", path_mistakes.PARTS)
def test_parts_make_the_queries_and_keys_of_layer_1(decompose_qk_inputs):
    caches = [model.run_with_cache(TOKENS)[1] for model in (MODEL, ADDITIVE)]
    results = [in_case("layer 0 has 3 heads", decompose_qk_inputs, cache) for cache in caches]
    names, place = ["embed", "positions", "0.0", "0.1", "0.2"], "batch pos d_model"
    for model, cache, result in zip((MODEL, ADDITIVE), caches, results):
        parts = long_way.labelled(result, names, f"part {place}", [5, 2, 6, 12])
        kind, truth = model.cfg.positional_embedding_type, model.W_E[TOKENS].detach()
        expect_close(parts[0], truth, place, f"({kind}) embed: W_E of each token, nothing else")
        truth = model.W_pos[:6].detach().expand(2, -1, -1)
        expect_close(parts[1], truth, place, f"({kind}) positions: W_pos of each, in any model")
        q = torch.einsum("bpd,hdk->bphk", parts.sum(0), model.W_Q[1].detach())
        truth = cache["blocks.1.attn.hook_q"]
        expect_close(q, truth, "batch pos head d_head", f"({kind}) sum of the parts, times W_Q")
        for head in range(3):
            kept = {(0, other) for other in range(3) if other != head}
            gone = run_kept(model, TOKENS, kept, "blocks.1.hook_resid_pre")
            truth = cache["blocks.1.hook_resid_pre"] - gone
            why = f"({kind}) what is missing when head 0.{head} is really zeroed"
            expect_close(parts[2 + head], truth, place, why)


@checks("decompose_scores", path_mistakes.TERMS)
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
    parts = long_way.stack(cache)[1]
    terms = decompose_scores(parts, MODEL.W_Q[1, 2].detach(), MODEL.W_K[1, 2].detach())
    truth = cache["blocks.1.attn.hook_attn_scores"][:, 2].nan_to_num(neginf=0.0)
    why = "the sum of all terms is the hooked score of head 1.2"
    expect_close(terms.sum(dim=(0, 1)).tril(), truth, "batch query key", why, tolerance=1e-12)


@checks("k_composition_circuit", path_mistakes.CIRCUIT)
def test_circuit_is_what_the_query_seeks(k_composition_circuit):
    """Token t asks; the key holds nothing but what the first head moved there from token s: every
    pair, by hand.
    """
    pairs = [((0, 2), (1, 1)), ((1, 0), (2, 1)), ((0, 1), (2, 2))]
    found = [k_composition_circuit(DEEP, *pair) for pair in pairs]
    axes = "query_token key_token"
    for (first, then), got in zip(pairs, found):
        truth = torch.zeros(11, 11).double()
        for t, s in product(range(11), range(11)):
            key = DEEP.W_E[s] @ DEEP.W_V[first] @ DEEP.W_O[first]
            truth[t, s] = ((DEEP.W_E[t] @ DEEP.W_Q[then]) @ (key @ DEEP.W_K[then])).item()
        why = f"previous {first}, induction {then}: (W_E[t] W_Q) . (W_E[s] W_V W_O W_K)"
        expect_close(got, truth, axes, why)


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


@checks("path_expansion", path_mistakes.PATHS)
def test_each_path_is_what_its_heads_add_together(path_expansion):
    """The path 0.g>1.h by really zeroing: what both write, less what each writes alone."""
    result = in_case(heads_of(MODEL), path_expansion, MODEL, TOKENS)
    labels = long_way.paths(MODEL, TOKENS)[0]
    got = long_way.labelled(result, labels, f"path {LOGITS}", [16, 2, 6, 11])
    none, term = run_kept(MODEL, TOKENS, set()), dict(zip(labels, got))
    expect_close(term["direct"], none, LOGITS, "direct: all heads zeroed")
    for g, h in product(range(3), range(3)):
        first = run_kept(MODEL, TOKENS, {(0, g)}) - none
        second = run_kept(MODEL, TOKENS, {(1, h)}) - none
        both = run_kept(MODEL, TOKENS, {(0, g), (1, h)}) - none - first - second
        for label, truth in ((f"0.{g}", first), (f"1.{h}", second), (f"0.{g}>1.{h}", both)):
            why = f"path {label}, by zeroing all other heads"
            expect_close(term[label], truth, LOGITS, why)


@checks("path_expansion", path_mistakes.WRONG_SUMS | path_mistakes.NOT_THE_STREAM)
def test_paths_sum_to_the_logits(path_expansion):
    for model in (MODEL, ADDITIVE):
        got, truth = path_expansion(model, TOKENS)[1].sum(dim=0), model(TOKENS).detach()
        why = f"({model.cfg.positional_embedding_type}) all paths together are the logits"
        expect_close(got, truth, LOGITS, why, tolerance=1e-12)


@checks("term_importance", path_mistakes.IMPORTANCE)
def test_round_n_at_any_depth(term_importance):
    for model in (DEEP, small_model(n_layers=1)):
        got = in_case(heads_of(model), term_importance, model, TOKENS)
        truth = long_way.rounds(model, TOKENS)
        why = f"layers: {model.cfg.n_layers}. Round n has the paths through at most n heads"
        expect_close(got, truth, f"round {LOGITS}", why)


@checks("term_importance")
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
