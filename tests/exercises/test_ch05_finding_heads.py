"""Checks of chapter 5. The oracles: definitions in loops, patterns made by hand, planted models,
keys really cut one by one.

Detectors must accept the hand-built circuits, and reject random weights, the impostor and heads
with a fixed offset."""

import torch

from minitransformer import ModelConfig, Transformer, load, planted
from tests.exercises.checking import checks, expect, expect_close, expect_value_error
from tests.exercises.oracles.ch05 import (
    CURRENT,
    DUPLICATE,
    FIRST,
    HEADS,
    LINE_UP,
    MATCHING,
    MIXED,
    PREVIOUS,
    ROLES,
    at,
    bos,
    by_definition,
    copies,
    detector,
    fixed_diagonal,
    followers,
    lengths_key_by_key,
    offset_model,
    with_later,
)
from tests.material import seeded, small_model

ROWS = [[0, 3, 3, 1, 3, 2, 1, 4], [0, 1, 2, 3, 4, 5, 6, 2], [0, 5, 1, 5, 1, 5, 1, 5]]
TOKENS = torch.tensor(ROWS)  # batch pos
LATER = torch.ones(8, 8, dtype=torch.bool).triu(1)
NOISE = 2 * torch.randn(3, 2, 8, 8, dtype=torch.float64, generator=seeded(5))
PATTERN = NOISE.masked_fill(LATER, -torch.inf).softmax(dim=-1)

WRONG_AXIS = "the mean went over the wrong axes: batch and positions go, the heads stay"
TRANSPOSED = "the pattern was read transposed: its last axis is the key, which is looked at"
BOS_COUNTED = "query 0, BOS, was counted: it can only look at itself"


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


def diagonal_per_batch(offset, first=0):
    def score(pattern):
        return pattern.diagonal(offset, dim1=-2, dim2=-1)[..., first:].mean(dim=(1, -1))

    return score


@checks(
    "previous_token_score",
    mistakes={
        TRANSPOSED: by_definition(at(1), flip=True),
        "off by one: this is the diagonal of looking at oneself": by_definition(at(0, 0)),
        "off by one: this is the diagonal of looking two back": by_definition(at(2, 2)),
        "query 0 was counted; it has no token before it": by_definition(at(1), everyone=True),
        WRONG_AXIS: diagonal_per_batch(-1),
    },
)
def test_previous_token_score_is_its_definition(previous_token_score):
    got, why = previous_token_score(PATTERN), "the mean of pattern[i, i - 1] over i >= 1"
    expect_close(got, PREVIOUS(PATTERN), "head", why)
    expect_ranking(previous_token_score(LINE_UP), "previous token")


@checks(
    "current_token_score",
    mistakes={
        BOS_COUNTED: by_definition(at(0, 0)),
        "off by one: this is the diagonal of looking one back": by_definition(at(1)),
        WRONG_AXIS: diagonal_per_batch(0, first=1),
    },
)
def test_current_token_score_is_its_definition(current_token_score):
    got, why = current_token_score(PATTERN), "the mean of pattern[i, i] over i >= 1"
    expect_close(got, CURRENT(PATTERN), "head", why)
    expect_ranking(current_token_score(LINE_UP), "current token")


@checks(
    "first_token_score",
    mistakes={
        BOS_COUNTED: by_definition(lambda row, i: [0]),
        TRANSPOSED: by_definition(bos, flip=True),
        "this is key 1, the token after BOS": by_definition(lambda row, i: [1] if i else []),
        WRONG_AXIS: lambda pattern: pattern[:, :, 1:, 0].mean(dim=(1, -1)),
    },
)
def test_first_token_score_is_its_definition(first_token_score):
    got, why = first_token_score(PATTERN), "the mean of pattern[i, 0] over i >= 1"
    expect_close(got, FIRST(PATTERN), "head", why)
    expect_ranking(first_token_score(LINE_UP), "first token")


# Habits that depend on the tokens

NO_REPEAT = torch.arange(8).expand(3, -1)


def expect_nan(scores):
    good = scores.shape == (2,) and scores.isnan().all()
    expect(good, f"no token occurs twice: expected nan for each head, got {scores}")


def token_mistakes(right):
    """What goes wrong with either score: right(row, i) lists the keys that it should count."""
    return {
        "every query was counted; those whose token is new have nothing to find": (
            by_definition(right, everyone=True)
        ),
        "each sequence was averaged first; every counted query of the batch weighs the same": (
            by_definition(right, by_row=True)
        ),
        TRANSPOSED: by_definition(right, flip=True),
    }


DUPLICATE_MISTAKES = token_mistakes(copies) | {
    "the token itself was counted as its own copy": (
        by_definition(lambda row, i: [*copies(row, i), i])
    ),
    "only the first copy was counted; add up all of them": (
        by_definition(lambda row, i: copies(row, i)[:1])
    ),
    "only the last copy was counted; add up all of them": (
        by_definition(lambda row, i: copies(row, i)[-1:])
    ),
    "these are the tokens after the copies; that is the prefix-matching score": MATCHING,
    "a later copy was enough to be counted; only what has been read can be found": (
        lambda pattern, tokens: with_later(pattern, tokens, 0)
    ),
}


@checks("duplicate_token_score", mistakes=DUPLICATE_MISTAKES)
def test_duplicate_token_score_is_its_definition(duplicate_token_score):
    got, truth = duplicate_token_score(PATTERN, TOKENS), DUPLICATE(PATTERN, TOKENS)
    expect_close(got, truth, "head", "attention on all earlier copies")
    expect_ranking(duplicate_token_score(LINE_UP, MIXED), "duplicate token")
    expect_nan(duplicate_token_score(PATTERN, NO_REPEAT))


MATCHING_MISTAKES = token_mistakes(followers) | {
    "off by one: these are the copies, a whole period back; induction looks at period - 1": (
        DUPLICATE
    ),
    "off by one: these are the tokens before the copies; induction needs the ones after": (
        by_definition(lambda row, i: [j - 1 for j in copies(row, i)])
    ),
    "only the first copy was counted; add up the followers of all of them": (
        by_definition(lambda row, i: followers(row, i)[:1])
    ),
    "only the last copy was counted; add up the followers of all of them": (
        by_definition(lambda row, i: followers(row, i)[-1:])
    ),
    "a later copy was enough to be counted; only what has been read can be found": (
        lambda pattern, tokens: with_later(pattern, tokens, 1)
    ),
    "one fixed diagonal was read; where the copies stand depends on the tokens": fixed_diagonal,
}


@checks("prefix_matching_score", mistakes=MATCHING_MISTAKES)
def test_prefix_matching_score_is_its_definition(prefix_matching_score):
    got, truth = prefix_matching_score(PATTERN, TOKENS), MATCHING(PATTERN, TOKENS)
    expect_close(got, truth, "head", "attention on what followed all earlier copies")
    expect_ranking(prefix_matching_score(LINE_UP, MIXED), "induction")
    expect_nan(prefix_matching_score(PATTERN, NO_REPEAT))


@checks(
    "prefix_matching_score",
    mistakes={"one fixed diagonal was read; go by the tokens": fixed_diagonal},
)
def test_a_fixed_offset_earns_little(prefix_matching_score):
    """The impostor by hand: .93 of its attention on the stripe of period 10, on sequences with
    periods from 6 to 13."""
    score = prefix_matching_score(LINE_UP, MIXED)[-1].item()
    got = f"a head that looks 9 back whatever the period scores {score:.3f}"
    expect(score < 0.4, f"{got}; expected less than .4")


# Value-weighted patterns

MODEL = small_model(n_layers=1)
_, CACHE = MODEL.run_with_cache(TOKENS)
ATTN, V = CACHE["blocks.0.attn.hook_pattern"], CACHE["blocks.0.attn.hook_v"]
W_O = MODEL.W_O[0].detach()


def length(x):
    return x.norm(dim=-1)


def weighted(reduce=length, axis=2, by_W_O=True):
    """value_weighted_pattern with one thing changed. axis 2: the lengths belong to the keys, axis
    3: to the queries."""

    def wrong(pattern, v, W_O):
        offered = torch.einsum("bkhd,hdm->bhkm", v, W_O) if by_W_O else v.transpose(1, 2)
        return pattern * reduce(offered).unsqueeze(axis)

    return wrong


def rows_sum_to_one(pattern, v, W_O):
    return torch.nn.functional.normalize(weighted()(pattern, v, W_O), p=1, dim=-1)


@checks(
    "value_weighted_pattern",
    mistakes={
        "W_O was left out: the length of v is free, what the head does depends on v W_O": (
            weighted(by_W_O=False)
        ),
        "the value of the query was taken; what is moved is the value of the key": weighted(axis=3),
        "the square root of the sum of squares is missing": weighted(lambda x: length(x) ** 2),
        "this is the sum of the vector's entries, not its length": weighted(lambda x: x.sum(-1)),
        "this is the sum of absolute entries, not the length": weighted(lambda x: x.abs().sum(-1)),
        "the lengths were scaled to a largest of 1; keep the units of the stream": (
            weighted(lambda x: length(x) / length(x).max())
        ),
        "each row was made to sum to 1 again; keep the units of the stream": rows_sum_to_one,
    },
)
def test_lengths_are_what_each_key_adds(value_weighted_pattern):
    got, truth = value_weighted_pattern(ATTN, V, W_O), lengths_key_by_key(MODEL, TOKENS)
    expect_close(got, truth, "batch head query key", "what is written if only this key counts")


HAND = planted.induction_model()


@checks(
    "value_weighted_pattern",
    mistakes={"the values were ignored: this is the pattern": lambda pattern, v, W_O: pattern},
)
def test_a_resting_head_moves_nothing(value_weighted_pattern):
    """The hand-built induction head rests on BOS while its token is new; the value it takes from
    there is 0."""
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
        expect(sorted(got) == heads, f"{name}, role {role}: expected the heads {heads}, got {got}")


@checks(
    "find_heads",
    mistakes={
        "short blocks make any head look like induction: begin at a quarter of the length": (
            detector(lambda n: (1, n // 2))
        ),
        "only the best head of each role was returned": detector(best_only=True),
        "the pairs are the wrong way round: (layer, head)": detector(flip=-1),
        "the sequences are n_ctx long, but d_vocab distinct tokens do not reach that far": (
            detector(length=lambda n_ctx, d_vocab: n_ctx)
        ),
    },
)
def test_planted_heads_are_found(find_heads):
    hand = {"previous_token": [(0, 0)], "induction": [(1, 0)]}
    hand |= {"duplicate_token": [], "current_token": []}
    expect_roles(find_heads, HAND, "the hand-built circuit", **hand)
    twins = planted.duplicated_heads_model()
    two = hand | {"induction": [(1, 0), (1, 1)]}
    expect_roles(find_heads, twins, "two equal induction heads", **two)
    one_back = offset_model((1, 99.0), n_ctx=12)
    alone = {"previous_token": [(0, 0)], "induction": []}
    expect_roles(find_heads, one_back, "a previous-token head", **alone)
    pointer = {"previous_token": [], "duplicate_token": [(0, 0)], "induction": [(1, 0)]}
    expect_roles(find_heads, planted.pointer_model(), "pointer arithmetic", **pointer)


@checks(
    "find_heads",
    mistakes={
        "all sequences had one period, so looking a fixed distance back was enough": (
            detector(lambda n: (10, 10))
        ),
        "all periods were a quarter of the length: looking a fixed distance back was enough": (
            detector(lambda n: (n // 4, n // 4))
        ),
        "the threshold is too low: use FOUND": detector(threshold=0.02),
    },
)
def test_what_only_looks_right_is_rejected(find_heads):
    nothing = {role: [] for role in ROLES}
    name = "the impostor (it looks 9 back, whatever the period)"
    expect_roles(find_heads, load("impostor"), name, induction=[])
    every_offset = [(offset, 99.0) for offset in range(5, 14)]
    lookers = offset_model(*every_offset)  # for any single period from 7 to 14, one fits
    expect_roles(find_heads, lookers, "head 0.h always looks h + 5 back", induction=[])
    untrained = Transformer(ModelConfig(n_layers=3), seed=1)
    expect_roles(find_heads, untrained, "random weights", **nothing)
    without_layers = Transformer(ModelConfig(n_layers=0))
    expect_roles(find_heads, without_layers, "a model without layers", **nothing)


@checks(
    "find_heads",
    mistakes={
        "worst first; the best comes first": detector(order=1),
        "in the order of the layers": detector(order=0),
    },
)
def test_the_best_comes_first(find_heads):
    found = find_heads(offset_model((1, 6.0), (1, 4.0), (1, 99.0), (1, 1.0)))["previous_token"]
    sentence = f"heads of sharpness 6, 4, 99 and 1: expected 0.2, 0.0, 0.1, got {found}"
    expect(found == [(0, 2), (0, 0), (0, 1)], sentence)


@checks("find_heads")
def test_other_shapes_and_sizes(find_heads):
    short = {"n_ctx": 5, "d_vocab": 9}
    few_tokens = {"n_ctx": 40, "d_vocab": 12, "positional_embedding_type": "standard"}
    for sizes in (short, few_tokens):
        found = find_heads(Transformer(ModelConfig(n_layers=1, **sizes), seed=2))
        expect(set(found) >= set(ROLES), f"expected the keys {', '.join(ROLES)}, got {list(found)}")
    too_short = Transformer(ModelConfig(n_ctx=3))
    why = "three tokens are too few for anything to repeat"
    expect_value_error(find_heads, (too_short,), why)


@checks("find_heads")
def test_the_same_model_gets_the_same_answer(find_heads):
    before = torch.get_rng_state()
    find_heads(HAND)
    same = torch.equal(before, torch.get_rng_state())
    expect(same, "it drew from torch's global generator; make and seed your own")
