"""Checks of chapter 14. The oracles: geometry, products of weights pair by pair, exact losses,
scrubbing in slow loops.

The true story must survive on a hand-built model of another make (minitransformer.planted), and
four wrong ones must not."""

import math
from dataclasses import replace

import torch

from minitransformer import ModelConfig, Transformer, planted
from minitransformer.data import repeated_tokens
from minitransformer.evaluate import attention, repeat_scores
from solutions.ch05_finding_heads import find_heads
from solutions.ch14_by_hand import EVERYTHING, Hypothesis
from tests.exercises.checking import checks, expect, expect_close
from tests.exercises.oracles.ch05 import MATCHING
from tests.exercises.oracles.ch05 import PREVIOUS as LOOKS_BACK
from tests.exercises.oracles.ch14 import (
    ANGLE_MISTAKES,
    COPYING_MISTAKES,
    DRAW_MISTAKES,
    LOOKING_MISTAKES,
    MATCHING_MISTAKES,
    NOTING_MISTAKES,
    SameHead,
    a_space,
    built,
    looks_for,
    losses,
    sum_of_pairs,
)
from tests.exercises.oracles.ch14_scrubbing import (
    DONOR_MISTAKES,
    INDUCTION,
    PART_MISTAKES,
    SCRUB_MISTAKES,
    WRONG_STORIES,
    donors_by_loops,
    facts,
    on_another_story,
    resampled,
    scrubbed,
)

WIDTHS, SPACE, D_HEAD = {"a": 5, "b": 3, "c": 7}, a_space(), 9


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


# orthogonal_subspaces


@checks("orthogonal_subspaces", mistakes=ANGLE_MISTAKES)
def test_subspaces_are_orthogonal(orthogonal_subspaces):
    for d_model in (18, 15):
        space = orthogonal_subspaces(d_model, WIDTHS, seeded())
        expect(list(space) == list(WIDTHS), f"expected the names {list(WIDTHS)}, got {list(space)}")
        for name, width in WIDTHS.items():
            shape = tuple(space[name].shape)
            expect(
                shape == (d_model, width),
                f"{name}: expected the shape [{d_model}, {width}], got {list(shape)}",
            )
        for one, other in (("a", "a"), ("b", "b"), ("c", "c"), ("a", "b"), ("a", "c"), ("b", "c")):
            products = space[one].double().T @ space[other].double()
            truth = torch.eye(WIDTHS[one]).double() if one == other else torch.zeros_like(products)
            expect_close(
                products,
                truth,
                f"column_of_{one} column_of_{other}",
                "dot products of basis vectors",
                1e-5,
            )


@checks("orthogonal_subspaces", mistakes=DRAW_MISTAKES)
def test_subspaces_are_random(orthogonal_subspaces):
    first, again, other = (
        orthogonal_subspaces(60, WIDTHS, seeded(seed))["b"] for seed in (1, 1, 2)
    )
    expect(torch.equal(first, again), "the same generator must give the same subspaces")
    expect(
        first.abs().max() < 0.95,
        "a basis vector lies along a coordinate axis; the directions should be random",
    )
    expect(
        (first - other).abs().max() > 1e-3,
        "two generators with different seeds gave the same subspaces",
    )


@checks("orthogonal_subspaces")
def test_subspaces_need_room(orthogonal_subspaces):
    try:
        orthogonal_subspaces.function(14, WIDTHS, seeded())
        expect(
            False,
            "15 directions at right angles in 14 dimensions: expected ValueError, nothing was raised",
        )
    except ValueError:
        pass


# The two heads. Products of weights, because W_Q and W_K alone may be chosen in many ways that mean
# the same


def head_of(builder):
    """What it built: W_Q, W_K, W_V, W_O. A mistake is recognised by their products too, however the
    columns were used.
    """
    weights = builder(SPACE, D_HEAD)
    expect(len(weights) == 4, f"expected W_Q, W_K, W_V, W_O, got {len(weights)} things")
    for name, W, shape in zip(
        ("W_Q", "W_K", "W_V", "W_O"), weights, 3 * [(len(SPACE["token"]), D_HEAD)] + [(D_HEAD, 21)]
    ):
        expect(
            tuple(W.shape) == shape,
            f"{name}: expected the shape {list(shape)}, got {list(W.shape)}",
        )
    builder.calls[-1] = (builder.calls[-1][0], SameHead(weights, D_HEAD))
    return weights


@checks("previous_token_weights", mistakes=LOOKING_MISTAKES)
def test_previous_token_head_looks_back(previous_token_weights):
    weights, position = head_of(previous_token_weights), SPACE["position"]
    got, truth = looks_for(weights, D_HEAD), sum_of_pairs(position[:, 1:], position[:, :-1])
    table = (position.T @ x @ position for x in (got, truth))
    expect_close(
        *table, "query_position key_position", "score / MATCH of every pair of positions", 1e-4
    )
    expect_close(
        got, truth, "d_model d_model", "W_Q W_K^T must read positions and nothing else", 1e-4
    )


def expect_moves(weights, source, target):
    """W_V W_O takes token t to direction t of the target, and everything else to nothing."""
    moved, tokens = weights[2] @ weights[3], len(SPACE["token"].T)
    for name in ("token", "previous", "output", "position"):
        landed = SPACE["token"].T @ moved @ SPACE[name]
        truth = torch.eye(tokens) if name == target else torch.zeros_like(landed)
        expect_close(
            landed,
            truth,
            f"token direction_of_{name}",
            f'where a token ends up, seen in "{name}"',
            1e-4,
        )
    expect_close(
        moved,
        sum_of_pairs(source, SPACE[target]),
        "d_model d_model",
        "W_V W_O must read tokens, nothing else",
        1e-4,
    )


@checks("previous_token_weights", mistakes=NOTING_MISTAKES)
def test_previous_token_head_takes_notes(previous_token_weights):
    expect_moves(head_of(previous_token_weights), SPACE["token"], "previous")


@checks("induction_weights", mistakes=MATCHING_MISTAKES)
def test_induction_head_matches_notes(induction_weights):
    got = looks_for(head_of(induction_weights), D_HEAD)
    matching = SPACE["token"].T @ got @ SPACE["previous"]
    expect_close(
        matching,
        torch.eye(len(matching)),
        "query_token noted_token",
        "score / MATCH of token and note",
        1e-4,
    )
    truth = sum_of_pairs(SPACE["token"], SPACE["previous"])
    expect_close(
        got, truth, "d_model d_model", "the query must read tokens only, the key notes only", 1e-4
    )


@checks("induction_weights", mistakes=COPYING_MISTAKES)
def test_induction_head_copies(induction_weights):
    expect_moves(head_of(induction_weights), SPACE["token"], "output")


# The whole transformer


@checks(
    "build_induction_transformer",
    mistakes={
        "W_U was not multiplied by s": built("no s"),
        'W_U reads "token": the model predicts the token that it just read': built("reads token"),
        "the two heads are in each other's layer": built("layers swapped"),
    },
)
def test_loss_is_the_formula_at_every_period(build_induction_transformer):
    for d_vocab, n_ctx, s in ((20, 20, 10.0), (12, 9, 4.0), (15, 24, 1.0)):
        model, length = build_induction_transformer(d_vocab, n_ctx, s, seed=3), min(d_vocab, n_ctx)
        truth = math.log(1 + (d_vocab - 1) * math.exp(-s))
        for period in range(1, length - 2):
            loss = losses(model, period, length)[0]
            where = f"d_vocab {d_vocab}, n_ctx {n_ctx}, s {s:g}, period {period}"
            worst = loss[(loss - truth).abs().argmax()].item()
            expect(
                abs(worst - truth) < 1e-5,
                f"{where}: expected the loss log(1 + (d_vocab - 1) exp(-s)) = {truth:.6f} "
                f"wherever the next token is known, got {worst:.6f}",
            )


@checks(
    "build_induction_transformer",
    mistakes={
        "BOS has no notes": built("no rest"),
        "the column of W_U for BOS is not 0": built("BOS predicted"),
    },
)
def test_it_rests_when_there_is_nothing_to_find(build_induction_transformer):
    model = build_induction_transformer(seed=4)
    with torch.no_grad():
        tokens = torch.tensor([[0, 5, 9, 3, 7, 11]])
        logits, rest = model(tokens), attention(model, tokens)[1, 0, 0, :, 0]
    expect(
        rest.min() > 0.999,
        f"all tokens are new: head 1.0 should look at BOS only, and looks there with {rest.min():.3f}",
    )
    truth = torch.zeros(1, 6, model.cfg.d_vocab)
    expect_close(
        logits,
        truth,
        "batch pos vocab",
        "all tokens are new, so all logits are 0 (W_U for BOS too)",
        1e-4,
    )
    elsewhere = losses(model, 7, 20)[1]
    expect_close(
        elsewhere,
        torch.full_like(elsewhere, math.log(20)),
        "place",
        "loss where nobody can know: log(d_vocab)",
        1e-4,
    )


@checks(
    "build_induction_transformer",
    mistakes={"the two heads are in each other's layer": built("layers swapped")},
)
def test_the_detectors_find_it(build_induction_transformer):
    model = build_induction_transformer(seed=5)
    found = find_heads(model)
    for role, at in (("previous_token", [(0, 0)]), ("induction", [(1, 0)])):
        expect(
            found[role] == at,
            f"find_heads (chapter 5) should give {at} as {role} heads, it gives {found[role]}",
        )
    tokens = repeated_tokens(6, 20, 20, (3, 9), seeded(1)).tokens
    patterns = attention(model, tokens)
    expect_close(
        LOOKS_BACK(patterns[0], tokens).item(), 1.0, "", "previous-token score of head 0.0", 1e-5
    )
    expect_close(
        MATCHING(patterns[1], tokens).item(), 1.0, "", "prefix-matching score of head 1.0", 1e-5
    )


@checks(
    "build_induction_transformer",
    mistakes={
        'head 0.0 writes into "token" as well: its notes can be mistaken for tokens': built(
            "notes on token"
        )
    },
)
def test_it_composes_by_keys_only(build_induction_transformer):
    model = build_induction_transformer(16, 12, 5.0, seed=6)
    wrote, OV = (model.W_V[layer, 0] @ model.W_O[layer, 0] for layer in (0, 1))
    QK = model.W_Q[1, 0] @ model.W_K[1, 0].T
    for kind, read, truth in (("Q", QK, 0.0), ("K", QK.T, 16**-0.5), ("V", OV, 0.0)):
        score = ((wrote @ read).norm() / wrote.norm() / read.norm()).item()
        expect_close(
            score,
            truth,
            "",
            f"{kind}-composition of 0.0 with 1.0 (1/sqrt(d_vocab) is the most it can be)",
            1e-4,
        )


@checks(
    "build_induction_transformer",
    mistakes={"the subspaces are blocks of coordinates": built("coordinates")},
)
def test_it_lies_in_no_special_direction(build_induction_transformer):
    model, other = (build_induction_transformer(seed=seed) for seed in (7, 8))
    expect(
        model.cfg.d_model == 80, f"four subspaces of 20 need d_model = 80, got {model.cfg.d_model}"
    )
    lengths = model.W_E[1:].norm(dim=1)
    expect_close(lengths, torch.ones(19), "token", "the length of a token's embedding", 1e-4)
    expect(
        (model.W_E[1:].abs() > 1e-4).float().mean() > 0.8,
        "W_E lies along the coordinates; take orthogonal_subspaces",
    )
    expect((model.W_E - other.W_E).abs().max() > 1e-3, "two seeds gave the same embedding")


# Scrubbing

TOKENS = torch.tensor([[0, 3, 1, 3, 1, 3], [0, 2, 4, 1, 2, 4], [0, 1, 3, 4, 1, 3]])
LABELS = torch.tensor([[5, 2, 2, 7, 5], [2, 2, 2, 7, 0], [7, 5, 2, 2, 2]])


@checks("draw_donors", mistakes=DONOR_MISTAKES)
def test_donors_agree(draw_donors):
    for seed in range(3):
        donors = draw_donors(LABELS, seeded(seed))
        expect_close(
            donors,
            donors_by_loops(LABELS, seeded(seed)),
            "batch pos",
            "number of the donor of each position",
        )
    many = draw_donors(torch.zeros(40, 25).long(), seeded(1)).flatten()
    expect(
        len(many.unique()) > 500,
        f"1000 draws among 1000 positions should hit about 632 of them, not {len(many.unique())}",
    )


PARTS = dict(
    zip(("embed", "0.0", "0.1"), torch.randn(3, *TOKENS.shape, 4, generator=seeded(2)).double())
)
MATTERS = {"embed": ("token",), "0.1": ("previous", "bos")}


@checks("resample_parts", mistakes=PART_MISTAKES)
def test_parts_are_resampled(resample_parts):
    got, truth = (fn(PARTS, MATTERS, TOKENS, seeded(3)) for fn in (resample_parts, resampled))
    expect_close(got, truth, "batch pos d_model", "the sum of the resampled parts")
    whole = resample_parts(PARTS, dict.fromkeys(PARTS, EVERYTHING), TOKENS, seeded(4))
    expect_close(
        whole, sum(PARTS.values()), "batch pos d_model", "if everything must agree, nothing changes"
    )
    assert facts(TOKENS, EVERYTHING).unique().numel() == TOKENS.numel()


MODEL = Transformer(
    ModelConfig(n_heads=2, d_model=8, d_head=3, d_vocab=5, n_ctx=6), seed=1
).double()
EMBED = {"embed": ("token",)}
STORY = Hypothesis(
    (1,),
    q=EMBED,
    k={"0.1": ("previous",), "positions": ("position",)},
    v=EMBED,
    direct={"0.0": ("bos",)},
)
KEPT = dict.fromkeys(("embed", "positions", "0.0", "0.1"), EVERYTHING)


@checks("scrub", mistakes=SCRUB_MISTAKES)
def test_scrub_is_the_slow_loop(scrub):
    got, truth = (fn(MODEL, TOKENS[:2, :5], STORY, seeded()) for fn in (scrub, scrubbed()))
    expect_close(got, truth, "batch pos vocab", "logits of the scrubbed run")


@checks(
    "scrub", mistakes={"heads that are in the story were resampled": on_another_story(heads=())}
)
def test_a_story_that_keeps_everything_changes_nothing(scrub):
    story = Hypothesis((0, 1), KEPT, KEPT, KEPT, KEPT)
    standard = Transformer(
        replace(MODEL.cfg, positional_embedding_type="standard"), seed=2
    ).double()
    for model in (MODEL, standard):
        got, truth = scrub(model, TOKENS, story, seeded()), model(TOKENS).detach()
        why = f"everything must agree, so the logits are the model's ({model.cfg.positional_embedding_type})"
        expect_close(got, truth, "batch pos vocab", why)


@checks(
    "scrub",
    mistakes={"what the story says of queries and keys was not used": on_another_story(q={}, k={})},
)
def test_the_true_story_and_no_other(scrub):
    model = planted.induction_model(d_vocab=10, n_ctx=10)
    repeats = repeated_tokens(20, 10, 10, (1, 6), seeded(5))
    known = repeats.predictable[:, :-1]

    def loss(story):
        log_probs = scrub(model, repeats.tokens, story, seeded()).log_softmax(dim=-1)[:, :-1]
        return -log_probs.gather(-1, repeats.tokens[:, 1:, None])[..., 0][known].mean().item()

    truth = repeat_scores(model, repeats)["loss_predictable"]
    assert abs(truth - math.log(1 + 9 * math.exp(-10))) < 1e-6
    expect_close(
        loss(INDUCTION), truth, "", "the true story keeps the loss of a hand-built model", 1e-5
    )
    for name, story in WRONG_STORIES.items():
        expect(
            loss(story) > 1.0,
            f"the story '{name}' is wrong, yet it keeps a loss of {loss(story):.3f}",
        )
