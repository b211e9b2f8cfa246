"""Checks of chapter 14. The oracles: geometry, products of weights, exact losses, slow scrubbing.

Weights that mean the same are equal here: heads are compared by what they look for and move, whole
models by all dot products, however the stream is turned. The true story must survive on a
hand-built model of another make (minitransformer.planted), and four wrong ones must not.
"""

import math

import torch

from minitransformer import planted
from minitransformer.data import BOS, repeated_tokens
from minitransformer.evaluate import attention, repeat_scores
from solutions.ch05_finding_heads import find_heads
from solutions.ch14_by_hand import EVERYTHING, Hypothesis
from tests.exercises.checking import checks, expect, expect_close, expect_value_error
from tests.exercises.oracles.ch05 import MATCHING
from tests.exercises.oracles.ch05 import PREVIOUS as LOOKS_BACK
from tests.exercises.oracles.ch10 import loud_model
from tests.exercises.oracles.ch14 import (
    ANGLE_MISTAKES,
    COPYING_MISTAKES,
    DRAW_MISTAKES,
    LOOKING_MISTAKES,
    MATCHING_MISTAKES,
    NOTING_MISTAKES,
    a_space,
    looks_for,
    products,
    sum_of_pairs,
)
from tests.exercises.oracles.ch14_built import (
    MEANING_MISTAKES,
    by_coordinates,
    coordinates_only,
    losses,
    meaning,
)
from tests.exercises.oracles.ch14_donors import DONOR_MISTAKES, donors_by_loops
from tests.exercises.oracles.ch14_scrub_mistakes import SCRUB_MISTAKES, scrubbed
from tests.exercises.oracles.ch14_scrubbing import (
    EMBED,
    INDUCTION,
    PART_MISTAKES,
    WRONG_STORIES,
    facts,
    resampled,
)
from tests.exercises.oracles.wording import expect_result
from tests.material import seeded

WIDTHS = {"a": 5, "b": 3, "c": 7}
PAIRS = (("a", "a"), ("b", "b"), ("c", "c"), ("a", "b"), ("a", "c"), ("b", "c"))

# orthogonal_subspaces


@checks("orthogonal_subspaces", mistakes=ANGLE_MISTAKES)
def test_subspaces_are_orthogonal(orthogonal_subspaces):
    every = {18: "15 directions in 18 dimensions", 15: "15 directions fit into 15 dimensions"}
    for d_model, what in every.items():
        space = expect_result(orthogonal_subspaces, (d_model, WIDTHS, seeded()), what)
        expect(list(space) == list(WIDTHS), f"expected the names {list(WIDTHS)}, got {list(space)}")
        for name, width in WIDTHS.items():
            shape, truth = list(space[name].shape), [d_model, width]
            if shape[0] == d_model:
                expect(shape == truth, f"{name}: its width is {width}, not {shape[1:]}")
            why = "its vectors are columns, so the shape [d_model, width] is"
            expect(shape == truth, f"{name}: {why} {truth}, got {shape}")
        for one, other in PAIRS:
            found = space[one].double().T @ space[other].double()
            truth = torch.eye(WIDTHS[one]).double() if one == other else torch.zeros_like(found)
            axes = f"column_of_{one} column_of_{other}"
            if one == other:
                why = f"{one}: the columns have length 1"
                expect_close(found.diagonal(), truth.diagonal(), f"column_of_{one}", why, 1e-5)
                why = f"{one}: its columns are at right angles to each other (torch.linalg.qr)"
            else:
                why = f"{one} and {other} are at right angles: all columns come out of one QR"
            expect_close(found, truth, axes, why, 1e-5)


@checks("orthogonal_subspaces", mistakes=DRAW_MISTAKES)
def test_subspaces_are_random(orthogonal_subspaces):
    first = orthogonal_subspaces(60, WIDTHS, seeded(1))
    again = orthogonal_subspaces(60, WIDTHS, seeded(1))
    other = orthogonal_subspaces(60, WIDTHS, seeded(2))
    columns = torch.cat(list(first.values()), dim=1)
    along = (columns.abs() > 0.95).any()
    expect(
        not along, "a basis vector lies along a coordinate axis; the directions should be random"
    )
    one_sign = (columns.sign().sum(dim=0).abs() == 60).any()
    why = "they must come from normal numbers (randn), not from positive ones (rand)"
    expect(not one_sign, f"all 60 entries of a basis vector have one sign: {why}")
    expect(torch.equal(first["b"], again["b"]), "the same generator must give the same subspaces")
    same = (first["b"] - other["b"]).abs().max() < 1e-3
    expect(not same, "two generators with different seeds gave the same subspaces")


@checks("orthogonal_subspaces")
def test_subspaces_need_room(orthogonal_subspaces):
    why = "15 directions at right angles in 14 dimensions"
    expect_value_error(orthogonal_subspaces, (14, WIDTHS, seeded()), why)


# The two heads. Products of weights, because W_Q and W_K may be chosen in many ways that mean the
# same.


SPACES = [(a_space(4, 6), 11), (a_space(7, 3), 13)]  # and d_head


def heads_of(builder):
    """What it built, in both spaces: (space, d_head, weights)."""
    every = []
    for space, d_head in SPACES:
        what = f"{space['token'].shape[1]} tokens, {space['position'].shape[1]} positions"
        weights = expect_result(builder, (space, d_head), what)
        builder.look(lambda weights, d_head=d_head: products(weights, d_head))
        every.append((space, d_head, weights))
    for space, d_head, weights in every:
        expect(len(weights) == 4, f"expected W_Q, W_K, W_V, W_O, got {len(weights)} things")
        d_model = len(space["token"])
        for name, W in zip(("W_Q", "W_K", "W_V", "W_O"), weights):
            shape = [d_head, d_model] if name == "W_O" else [d_model, d_head]
            same = list(W.shape) == shape
            expect(same, f"{name}: expected the shape {shape}, got {list(W.shape)}")
    return every


@checks("previous_token_weights", mistakes=LOOKING_MISTAKES)
def test_previous_token_head_looks_back(previous_token_weights):
    for space, d_head, weights in heads_of(previous_token_weights):
        position, got = space["position"], looks_for(weights, d_head)
        truth = sum_of_pairs(position[:, 1:], position[:, :-1])
        why, axes = "score / MATCH of every pair of positions", "query_position key_position"
        expect_close(position.T @ got @ position, position.T @ truth @ position, axes, why, 1e-4)
        why = "W_Q W_K^T must read positions and nothing else"
        expect_close(got, truth, "d_model d_model", why, 1e-4)


def expect_moves(space, weights, target):
    """W_V W_O takes token t to direction t of the target, and everything else to nothing."""
    moved, tokens = weights[2] @ weights[3], space["token"]
    for name in ("token", "previous", "output", "position"):
        landed = tokens.T @ moved @ space[name]
        truth = torch.eye(tokens.shape[1]) if name == target else torch.zeros_like(landed)
        why = f'where a token ends up, seen in "{name}"'
        expect_close(landed, truth, f"token direction_of_{name}", why, 1e-4)
    truth, why = sum_of_pairs(tokens, space[target]), "W_V W_O must read tokens, nothing else"
    expect_close(moved, truth, "d_model d_model", why, 1e-4)


@checks("previous_token_weights", mistakes=NOTING_MISTAKES)
def test_previous_token_head_takes_notes(previous_token_weights):
    for space, _, weights in heads_of(previous_token_weights):
        expect_moves(space, weights, "previous")


@checks("induction_weights", mistakes=MATCHING_MISTAKES)
def test_induction_head_matches_notes(induction_weights):
    for space, d_head, weights in heads_of(induction_weights):
        got = looks_for(weights, d_head)
        matching = space["token"].T @ got @ space["previous"]
        truth, axes = torch.eye(len(matching)), "query_token noted_token"
        expect_close(matching, truth, axes, "score / MATCH of token and note", 1e-4)
        truth = sum_of_pairs(space["token"], space["previous"])
        why = "the query must read tokens only, the key notes only"
        expect_close(got, truth, "d_model d_model", why, 1e-4)


@checks("induction_weights", mistakes=COPYING_MISTAKES)
def test_induction_head_copies(induction_weights):
    for space, _, weights in heads_of(induction_weights):
        expect_moves(space, weights, "output")


# The whole transformer


@checks("build_induction_transformer", mistakes=MEANING_MISTAKES)
def test_every_weight_means_what_it_should(build_induction_transformer):
    """Once there are more tokens than positions, once the reverse."""
    every = []
    for d_vocab, n_ctx, s, seed in ((13, 7, 4.0, 3), (5, 11, 1.5, 2)):
        what = f"{d_vocab} tokens, {n_ctx} positions (a head needs a column for each)"
        model = expect_result(build_induction_transformer, (d_vocab, n_ctx, s, seed), what)
        build_induction_transformer.look(meaning)
        every.append((what, model, by_coordinates(d_vocab, n_ctx, s)))
    for what, model, truth in every:
        for name in ("n_layers", "n_heads", "d_head", "d_model", "d_vocab", "n_ctx"):
            got, wanted = getattr(model.cfg, name), getattr(truth.cfg, name)
            expect(got == wanted, f"{what}: {name} must be {wanted}, not {got}")
        why = "the column of W_U for BOS is not 0 (W_U is [d_model, vocab])"
        expect(not model.W_U[:, BOS].any(), f"{what}: {why}")
        names = [f"{x}{i}" for x, W in zip(("t", "p", "u", "n"), shown(truth)) for i in range(W)]
        for part, right in meaning(truth).items():
            if part != "sizes":
                found = meaning(model)[part]
                expect_part(f"{what}: {part}", found, right, names)


def shown(model):
    """How many rows `meaning` has of W_E, W_pos, W_U^T, and the notes of the tokens."""
    vocab, n = model.cfg.d_vocab, model.cfg.n_ctx
    return vocab, n, vocab, vocab


def expect_part(why, got, truth, names):
    """All dot products, by name: t3 is token 3 in W_E, p3 position 3 in W_pos, u3 token 3 in W_U,
    n3 the note of token 3.
    """
    off = (got - truth).abs() / (1 + truth.abs())
    if off.max() > 1e-4:
        row, column = divmod(int(off.argmax()), len(names))
        pair = f"expected {truth[row, column]:.4g}, got {got[row, column]:.4g}"
        legend = "t: row of W_E, p: row of W_pos, u: column of W_U, n: note of a token"
        expect(False, f"{why}: {names[row]} with {names[column]}: {pair} ({legend})")


@checks("build_induction_transformer")
def test_loss_is_the_formula_at_every_period(build_induction_transformer):
    for d_vocab, n_ctx, s in ((20, 20, 10.0), (12, 9, 4.0), (15, 24, 1.0)):
        model, length = build_induction_transformer(d_vocab, n_ctx, s, seed=3), min(d_vocab, n_ctx)
        truth = math.log(1 + (d_vocab - 1) * math.exp(-s))
        why = f"expected the loss log(1 + (d_vocab - 1) exp(-s)) = {truth:.6f} where it is known"
        for period in range(1, length - 2):
            loss = losses(model, period, length)[0]
            worst = loss[(loss - truth).abs().argmax()].item()
            where = f"d_vocab {d_vocab}, n_ctx {n_ctx}, s {s:g}, period {period}"
            expect(abs(worst - truth) < 1e-5, f"{where}: {why}, got {worst:.6f}")


@checks("build_induction_transformer")
def test_it_rests_when_there_is_nothing_to_find(build_induction_transformer):
    model = build_induction_transformer(seed=4)
    with torch.no_grad():
        tokens = torch.tensor([[0, 5, 9, 3, 7, 11]])
        logits, rest = model(tokens), attention(model, tokens)[1, 0, 0, :, 0].min()
    why = f"head 1.0 should look at BOS only, and looks there with {rest:.3f}"
    expect(rest > 0.999, f"all tokens are new: {why}")
    why = "all tokens are new, so all logits are 0 (W_U for BOS too)"
    expect_close(logits, torch.zeros_like(logits), "batch pos vocab", why, 1e-4)
    _, elsewhere = losses(model, 7, 20)
    truth, why = math.log(20), "loss where nobody can know: log(d_vocab)"
    expect_close(elsewhere, torch.full_like(elsewhere, truth), "place", why, 1e-4)


@checks("build_induction_transformer")
def test_the_detectors_find_it(build_induction_transformer):
    model = build_induction_transformer(seed=5)
    found = find_heads(model)
    for role, at in (("previous_token", [(0, 0)]), ("induction", [(1, 0)])):
        why = f"find_heads (chapter 5) should give {at} as {role} heads, it gives {found[role]}"
        expect(found[role] == at, why)
    tokens = repeated_tokens(6, 20, 20, (3, 9), seeded(1)).tokens
    first, second = attention(model, tokens)
    back, matching = LOOKS_BACK(first, tokens).item(), MATCHING(second, tokens).item()
    expect_close(back, 1.0, "", "previous-token score of head 0.0", 1e-5)
    expect_close(matching, 1.0, "", "prefix-matching score of head 1.0", 1e-5)


@checks("build_induction_transformer")
def test_it_composes_by_keys_only(build_induction_transformer):
    model = build_induction_transformer(16, 12, 5.0, seed=6)
    wrote, OV = model.W_V[0, 0] @ model.W_O[0, 0], model.W_V[1, 0] @ model.W_O[1, 0]
    QK = model.W_Q[1, 0] @ model.W_K[1, 0].T
    for kind, read, truth in (("Q", QK, 0.0), ("K", QK.T, 16**-0.5), ("V", OV, 0.0)):
        score = ((wrote @ read).norm() / wrote.norm() / read.norm()).item()
        why = f"{kind}-composition of 0.0 with 1.0 (1/sqrt(d_vocab) is the most it can be)"
        expect_close(score, truth, "", why, 1e-4)


@checks(
    "build_induction_transformer",
    mistakes={"the subspaces are blocks of coordinates": coordinates_only},
)
def test_it_lies_in_no_special_direction(build_induction_transformer):
    model, other = build_induction_transformer(seed=7), build_induction_transformer(seed=8)
    d_model = model.cfg.d_model
    expect(d_model == 80, f"four subspaces of 20 need d_model = 80, got {d_model}")
    lengths = model.W_E[1:].norm(dim=1)
    expect_close(lengths, torch.ones(19), "token", "the length of a token's embedding", 1e-4)
    spread = (model.W_E[1:].abs() > 1e-4).float().mean()
    expect(spread > 0.8, "W_E lies along the coordinates; take orthogonal_subspaces")
    expect((model.W_E - other.W_E).abs().max() > 1e-3, "two seeds gave the same embedding")


# Scrubbing

TOKENS = torch.tensor([[0, 3, 1, 3, 1, 3], [0, 2, 4, 1, 2, 4], [0, 1, 3, 4, 1, 3]])
LABELS = torch.tensor([[5, 2, 2, 7, 5], [2, 2, 2, 7, 0], [7, 5, 2, 2, 2]])


ANOTHER_DRAW = (
    "the donors agree, but it is another draw: u = torch.rand(...) once, then floor(u * n)"
)


@checks("draw_donors", mistakes=DONOR_MISTAKES)
def test_donors_agree(draw_donors):
    for seed in range(3):
        got, truth = draw_donors(LABELS, seeded(seed)), donors_by_loops(LABELS, seeded(seed))
        why = "number of the donor of each position"
        if got.shape == truth.shape and torch.equal(LABELS.flatten()[got], LABELS):
            why = f"{ANOTHER_DRAW}; {why}"
        expect_close(got, truth, "batch pos", why)
    many = draw_donors(torch.zeros(40, 25).long(), seeded(1)).flatten()
    n = len(many.unique())
    expect(n > 500, f"1000 draws among 1000 positions should hit about 632 of them, not {n}")


PARTS = dict(
    zip(("embed", "0.0", "0.1"), torch.randn(3, *TOKENS.shape, 4, generator=seeded(2)).double())
)
MATTERS = {"0.1": ("previous", "bos"), "embed": ("token",)}  # in another order than the parts


@checks("resample_parts", mistakes=PART_MISTAKES)
def test_parts_are_resampled(resample_parts):
    got = resample_parts(PARTS, MATTERS, TOKENS, seeded(3))
    truth = resampled(PARTS, MATTERS, TOKENS, seeded(3))
    expect_close(got, truth, "batch pos d_model", "the sum of the resampled parts")
    whole = resample_parts(PARTS, dict.fromkeys(PARTS, EVERYTHING), TOKENS, seeded(4))
    why = "if everything must agree, nothing changes"
    expect_close(whole, sum(PARTS.values()), "batch pos d_model", why)
    assert facts(TOKENS, EVERYTHING).unique().numel() == TOKENS.numel()


# batch 3, pos 6, head 4, d_head 5, vocab 7, d_model 12
MODEL = loud_model(1, n_heads=4, d_vocab=7)
STANDARD = loud_model(2, n_heads=4, d_vocab=7, positional_embedding_type="standard")
STORY = Hypothesis(
    (1,),
    q=EMBED,
    k={"0.1": ("previous",), "positions": ("position",)},
    v={"0.3": ("token",)} | EMBED,
    direct={"0.0": ("bos",), "positions": ("position",)},
)
OTHER_STORY = Hypothesis((2, 0), q={"positions": ("bos",)}, k=EMBED, direct={"0.2": EVERYTHING})
KEPT = dict.fromkeys(("embed", "positions", "0.0", "0.1", "0.2", "0.3"), EVERYTHING)


@checks("scrub", mistakes=SCRUB_MISTAKES)
def test_scrub_is_the_slow_loop(scrub):
    """All results first, so that a mistake is told by all of them."""
    cases = ((MODEL, STORY), (STANDARD, STORY), (MODEL, OTHER_STORY))
    got = [scrub(model, TOKENS, story, seeded()) for model, story in cases]
    for (model, story), logits in zip(cases, got):
        truth, kind = (
            scrubbed()(model, TOKENS, story, seeded()),
            model.cfg.positional_embedding_type,
        )
        why = f"logits of the scrubbed run (positional_embedding_type {kind!r})"
        expect_close(logits, truth, "batch pos vocab", why)


@checks("scrub")
def test_a_story_that_keeps_everything_changes_nothing(scrub):
    story = Hypothesis((0, 1, 2, 3), KEPT, KEPT, KEPT, KEPT)
    for model in (MODEL, STANDARD):
        got, truth = scrub(model, TOKENS, story, seeded()), model(TOKENS).detach()
        kind = model.cfg.positional_embedding_type
        why = f"everything must agree, so the logits are the model's ({kind})"
        expect_close(got, truth, "batch pos vocab", why)


@checks("scrub")
def test_the_true_story_and_no_other(scrub):
    model = planted.induction_model(d_vocab=10, n_ctx=10)
    repeats = repeated_tokens(20, 10, 10, (1, 6), seeded(5))
    known = repeats.predictable[:, :-1]

    def loss(story):
        log_probs = scrub(model, repeats.tokens, story, seeded()).log_softmax(dim=-1)[:, :-1]
        return -log_probs.gather(-1, repeats.tokens[:, 1:, None])[..., 0][known].mean().item()

    truth = repeat_scores(model, repeats)["loss_predictable"]
    assert abs(truth - math.log(1 + 9 * math.exp(-10))) < 1e-6
    why = "the true story keeps the loss of a hand-built model"
    expect_close(loss(INDUCTION), truth, "", why, 1e-5)
    for name, story in WRONG_STORIES.items():
        kept = loss(story)
        expect(kept > 1.0, f"the story '{name}' is wrong, yet it keeps a loss of {kept:.3f}")
