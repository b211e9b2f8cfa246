"""Checks of chapter 5. The oracles: definitions in loops, patterns made by hand, planted models,
keys really cut one by one.

Detectors must accept the hand-built circuits, and reject random weights, the impostor and heads
with a fixed offset.
"""

import torch

from minitransformer import ModelConfig, Transformer, load, planted
from tests.exercises.cases import in_case
from tests.exercises.checking import checks, expect, expect_close, expect_value_error
from tests.exercises.guarded import Promise
from tests.exercises.oracles import ch05 as oracle
from tests.exercises.oracles import ch05_detector_mistakes as wrong_detectors
from tests.exercises.oracles import ch05_habit_mistakes as habit_mistakes
from tests.exercises.oracles import ch05_mistakes as mistakes
from tests.exercises.oracles.ch05 import HEADS, LINE_UP, MIXED, ROLES, detector, offset_model
from tests.exercises.oracles.ch05_gauges import in_another_gauge
from tests.material import seeded, small_model

ROWS = [[0, 3, 3, 1, 3, 2, 1], [0, 1, 2, 3, 2, 5, 6], [0, 5, 1, 5, 1, 5, 1]]
ROWS += [[0, 4, 0, 6, 6, 0, 4], [0, 2, 7, 1, 4, 2, 2]]  # in one of them BOS comes again
TOKENS = torch.tensor(ROWS)  # batch pos
LATER = torch.ones(7, 7, dtype=torch.bool).triu(1)
NOISE = 2 * torch.randn(5, 3, 7, 7, dtype=torch.float64, generator=seeded(5))
PATTERN = NOISE.masked_fill(LATER, -torch.inf).softmax(dim=-1)  # 5 sequences, 3 heads


def expect_ranking(scores, own):
    """The perfect head of this kind scores 1, every other one clearly less."""
    shape = list(scores.shape)
    expect(shape == [len(HEADS)], f"expected one score per head, [{len(HEADS)}], got {shape}")
    for name, score in zip(HEADS, scores.tolist()):
        good = abs(score - 1) < 1e-6 if name == own else score < 0.8
        wanted = "1" if name == own else "less"
        got = f"a perfect {name} head scores {score:.3f} as a {own} head"
        expect(good, f"{got}; expected {wanted}")


# Habits that do not depend on the tokens


@checks("previous_token_score", mistakes=habit_mistakes.PREVIOUS)
def test_previous_token_score_is_its_definition(previous_token_score):
    got, why = previous_token_score(PATTERN), "the mean of pattern[i, i - 1] over i >= 1"
    expect_close(got, oracle.PREVIOUS(PATTERN), "head", why)
    expect_ranking(previous_token_score(LINE_UP), "previous token")


@checks("current_token_score", mistakes=habit_mistakes.CURRENT)
def test_current_token_score_is_its_definition(current_token_score):
    got, why = current_token_score(PATTERN), "the mean of pattern[i, i] over i >= 1"
    expect_close(got, oracle.CURRENT(PATTERN), "head", why)
    expect_ranking(current_token_score(LINE_UP), "current token")


@checks("first_token_score", mistakes=habit_mistakes.FIRST)
def test_first_token_score_is_its_definition(first_token_score):
    got, why = first_token_score(PATTERN), "the mean of pattern[i, 0] over i >= 1"
    expect_close(got, oracle.FIRST(PATTERN), "head", why)
    expect_ranking(first_token_score(LINE_UP), "first token")


# Habits that depend on the tokens

NO_REPEAT = torch.arange(7).expand(5, -1)


def expect_nan(scores):
    good = scores.shape == (3,) and scores.isnan().all()
    expect(good, f"no token occurs twice: expected nan for each head, got {scores}")


@checks("duplicate_token_score", mistakes=mistakes.DUPLICATE)
def test_duplicate_token_score_is_its_definition(duplicate_token_score):
    got, truth = duplicate_token_score(PATTERN, TOKENS), oracle.DUPLICATE(PATTERN, TOKENS)
    expect_close(got, truth, "head", "attention on all earlier copies")
    expect_ranking(duplicate_token_score(LINE_UP, MIXED), "duplicate token")
    expect_nan(duplicate_token_score(PATTERN, NO_REPEAT))


@checks("prefix_matching_score", mistakes=mistakes.MATCHING)
def test_prefix_matching_score_is_its_definition(prefix_matching_score):
    got, truth = prefix_matching_score(PATTERN, TOKENS), oracle.MATCHING(PATTERN, TOKENS)
    expect_close(got, truth, "head", "attention on what followed all earlier copies")
    expect_ranking(prefix_matching_score(LINE_UP, MIXED), "induction")
    expect_nan(prefix_matching_score(PATTERN, NO_REPEAT))


@checks(
    "prefix_matching_score",
    mistakes={"one fixed diagonal was read; go by the tokens": mistakes.fixed_diagonal},
)
def test_a_fixed_offset_earns_little(prefix_matching_score):
    """The impostor by hand: .93 of its attention on the stripe of period 10, on sequences with
    periods from 6 to 13.
    """
    score = prefix_matching_score(LINE_UP, MIXED)[-1].item()
    got = f"a head that looks 9 back whatever the period scores {score:.3f}"
    expect(score < 0.4, f"{got}; expected less than .4")


# Value-weighted patterns

MODEL = small_model(n_layers=1, d_head=11, d_model=13, d_vocab=17, n_ctx=7)
_, CACHE = MODEL.run_with_cache(TOKENS)
ATTN, V = CACHE["blocks.0.attn.hook_pattern"], CACHE["blocks.0.attn.hook_v"]
W_O = MODEL.W_O[0].detach()


@checks("value_weighted_pattern", mistakes=mistakes.VALUE_WEIGHTED)
def test_lengths_are_what_each_key_adds(value_weighted_pattern):
    got, truth = value_weighted_pattern(ATTN, V, W_O), oracle.lengths_key_by_key(MODEL, TOKENS)
    expect_close(got, truth, "batch head query key", "what is written if only this key counts")


HAND = planted.induction_model()


@checks(
    "value_weighted_pattern",
    mistakes={"the values were ignored: this is the pattern": lambda pattern, v, W_O: pattern},
)
def test_a_resting_head_moves_nothing(value_weighted_pattern):
    """The hand-built induction head rests on BOS while its token is new; the value it takes from
    there is 0.
    """
    _, cache = HAND.run_with_cache(torch.tensor([[0, 7, 3, 9, 7]]))
    pattern, v = cache["blocks.1.attn.hook_pattern"], cache["blocks.1.attn.hook_v"]
    moved = value_weighted_pattern(pattern, v, HAND.W_O[1].detach())[0, 0]
    expect_close(moved[:4, 0], torch.zeros(4), "query", "attention 1 on BOS, whose value is 0")
    only_the_3 = torch.tensor([0.0, 0, 1, 0, 0])
    why = "the second 7 looks at 3, and moves a vector of length 1"
    expect_close(moved[4], only_the_3, "key", why)


# The detector


def expect_roles(find_heads, model, name, **wanted):
    """The heads of each role in `wanted`, in any order."""
    found = find_heads(model)
    good = isinstance(found, dict) and set(found) >= set(ROLES)
    expect(good, f"expected a dict with the keys {', '.join(ROLES)}")
    for role, heads in wanted.items():
        got = found[role]
        pairs = f"{role}: expected a list of pairs of whole numbers (layer, head), got {got}"
        expect(isinstance(got, list), pairs)
        for pair in got:
            expect(type(pair) is tuple and all(type(x) is int for x in pair), pairs)
        sentence = f"{name}, role {role}: expected the heads {heads}, got {got}"
        exchanged = sorted((head, layer) for layer, head in got) == heads != sorted(got)
        reason = "; those are (head, layer), wanted are (layer, head)" if exchanged else ""
        if role == "induction" and (0, 0) in got and 0 < len(heads) < len(got):
            reason = "; 0.0 looks one back, which is a follower only where blocks are very short"
        elif set(got) > set(heads):
            reason = "; is a score below FOUND enough? Or do your sequences let others pass?"
        n_heads = model.cfg.n_heads
        if got and sorted(got) == sorted((0, n_heads * layer + head) for layer, head in heads):
            reason = "; heads are counted anew in each layer"
        expect(sorted(got) == heads, sentence + reason)


@checks("find_heads", mistakes=wrong_detectors.NOT_FOUND)
def test_planted_heads_are_found(find_heads):
    hand = {"previous_token": [(0, 0)], "induction": [(1, 0)]}
    hand |= {"duplicate_token": [], "current_token": []}
    two = hand | {"induction": [(1, 0), (1, 1)]}
    twins, negative = planted.duplicated_heads_model(), planted.negative_head_model()
    expect_roles(find_heads, twins, "two equal induction heads", **two)
    expect_roles(find_heads, negative, "two induction heads that write opposite things", **two)
    expect_roles(find_heads, HAND, "the hand-built circuit", **hand)
    late = {"previous_token": [(1, 0)], "induction": [(2, 0)]}
    idle_first = oracle.with_idle_layers(HAND, before=1)
    expect_roles(
        find_heads, idle_first, "the hand-built circuit, in the last two of three layers", **late
    )
    idle_last = oracle.with_idle_layers(HAND, after=1)
    expect_roles(
        find_heads, idle_last, "the hand-built circuit, in the first two of three layers", **hand
    )
    many = planted.induction_model(d_vocab=150, n_ctx=11)  # where few tokens repeat by chance
    expect_roles(find_heads, many, "the hand-built circuit, 150 tokens, 11 positions", **hand)
    one_back = offset_model((1, 99.0), n_ctx=12)
    alone = {"previous_token": [(0, 0)], "induction": []}
    expect_roles(find_heads, one_back, "a previous-token head", **alone)
    pointer = {"previous_token": [], "duplicate_token": [(0, 0)], "induction": [(1, 0)]}
    expect_roles(find_heads, planted.pointer_model(), "pointer arithmetic", **pointer)


@checks("find_heads", mistakes=wrong_detectors.NOT_REJECTED)
def test_what_only_looks_right_is_rejected(find_heads):
    nothing = {role: [] for role in ROLES}
    name = "the impostor (it looks 9 back, whatever the period)"
    expect_roles(find_heads, load("impostor"), name, induction=[])
    every_offset = [(offset, 99.0) for offset in range(5, 14)]
    lookers = offset_model(*every_offset)  # for any single period from 7 to 14, one fits
    expect_roles(find_heads, lookers, "head 0.h always looks h + 5 back", induction=[])
    name = "the lag matcher (1.0 looks where the token *before* its own stood)"
    for lag in (planted.lag_model(), planted.lag_model(d_vocab=47, n_ctx=31)):
        expect_roles(find_heads, lag, name, previous_token=[(0, 0)], induction=[])
    untrained = Transformer(ModelConfig(n_layers=3), seed=1)
    expect_roles(find_heads, untrained, "random weights", **nothing)
    without_layers = Transformer(ModelConfig(n_layers=0))
    expect_roles(find_heads, without_layers, "a model without layers", **nothing)


UNSEEDED = "the sequences differ from call to call: seed the generator, with manual_seed"


@checks("find_heads", mistakes={UNSEEDED: detector(oracle.without_a_seed)})
def test_the_same_model_gets_the_same_answer(find_heads):
    model, runs = planted.induction_model(), []
    for _ in range(2):
        read = []
        watch = model.register_forward_pre_hook(lambda _, given, read=read: read.append(given[0]))
        runs.append((find_heads(model), read))
        watch.remove()
    (first, tokens), (second, others) = runs
    alike = len(tokens) == len(others) and all(map(torch.equal, tokens, others))
    if not alike or first != second:
        raise Promise(UNSEEDED)


@checks("find_heads", mistakes=wrong_detectors.ORDER)
def test_the_best_comes_first(find_heads):
    # scores .96 .83 1 .21 .64 .92
    heads = [(1, 6.0), (1, 4.0), (1, 99.0), (1, 1.0), (1, 3.0), (1, 5.0)]
    found = find_heads(offset_model(*heads))["previous_token"]
    sentence = (
        f"heads of sharpness 6, 4, 99, 1, 3, 5: expected 0.2, 0.0, 0.5, 0.1, 0.4, got {found}"
    )
    expect(found == [(0, 2), (0, 0), (0, 5), (0, 1), (0, 4)], sentence)


ONE_ROLE = "each head was listed under its best role only; it may have several"


@checks("find_heads", mistakes={ONE_ROLE: oracle.one_role_each})
def test_a_head_may_have_several_roles(find_heads):
    name = "the hand-built circuit, but at a match 1.0 leaves .45 of its attention on BOS"
    hand = {"previous_token": [(0, 0)], "induction": [(1, 0)]}
    expect_roles(find_heads, oracle.undecided_model(), name, **hand)


@checks("find_heads", mistakes=wrong_detectors.GAUGE)
def test_other_weights_for_the_same_patterns_change_nothing(find_heads):
    """In another gauge every pattern and every probability is as before."""
    for seed, model in enumerate((HAND, planted.pointer_model(), load("induction"))):
        plain, other = find_heads(model), find_heads(in_another_gauge(model, seed))
        same = f"expected {plain}, got {other}"
        expect(plain == other, f"the same patterns from other weights: {same}")


@checks("find_heads")
def test_other_shapes_and_sizes(find_heads):
    short, shortest = {"n_ctx": 5, "d_vocab": 9}, {"n_ctx": 4, "d_vocab": 4}
    few_tokens = {"n_ctx": 40, "d_vocab": 12, "positional_embedding_type": "standard"}
    for sizes in (short, shortest, few_tokens):
        model = Transformer(ModelConfig(n_layers=1, **sizes), seed=2)
        case = f"n_ctx {sizes['n_ctx']}, d_vocab {sizes['d_vocab']}"
        found = in_case(case, find_heads, model)
        expect(set(found) >= set(ROLES), f"expected the keys {', '.join(ROLES)}, got {list(found)}")
    for n_ctx, d_vocab in ((3, 9), (9, 3)):
        too_small = Transformer(ModelConfig(n_ctx=n_ctx, d_vocab=d_vocab))
        why = f"n_ctx {n_ctx}, d_vocab {d_vocab}: too few for anything to repeat"
        expect_value_error(find_heads, (too_small,), why)
