"""Checks of chapter 12. The oracles: normal equations and means in loops, data that hold a known
feature or none, planted models, and layer 1 written out by hand. Controls: rotated streams,
shuffled labels, random weights, sequence noise.
"""

import torch

from minitransformer import ModelConfig, Transformer, planted
from minitransformer.evaluate import held_out
from tests.exercises.checking import checks, expect, expect_close, expect_value_error
from tests.exercises.oracles.ch12 import (
    accuracy_by_rows,
    always_two,
    back_by_loops,
    erased_by_loops,
    expect_from_generator,
    expect_pair,
    layer_1_by_hand,
    logistic_by_newton,
    means_by_loops,
    planted_rows,
    probe_by_equations,
)
from tests.exercises.oracles.ch12_controls import (
    ACROSS,
    ERASED,
    EVERYWHERE,
    MEANS,
    SELECTIVE,
    SHUFFLED,
    STEERED,
    TASK,
    UNUSED,
    anywhere,
    compared,
)
from tests.exercises.oracles.ch12_data import (
    AS_PARITY,
    AS_WORDS,
    LABELS,
    LINE,
    NOISY,
    ROTATION,
    ROW_LABELS,
    ROWS,
    SHORT,
    SHORT_LABELS,
    SPOKEN,
    UNEVEN,
    UNEVEN_X,
    WORDS,
    X,
    draw,
    whole,
)
from tests.exercises.oracles.ch12_mistakes import (
    BACK,
    DEPTHS,
    FIT,
    LOGISTIC,
    PROBE,
    SPLIT,
    depths,
    fitted,
    regressed,
    scored,
)
from tests.material import seeded, small_model

# Labels

TOKENS = torch.tensor([[0, 3, 7, 3, 10, 1], [0, 5, 5, 2, 9, 4]])


@checks("token_back", mistakes=BACK)
def test_labels_come_from_the_right_place(token_back):
    for back in (1, 0, 2):
        got, truth = token_back(TOKENS, back), back_by_loops(TOKENS, back)
        expect_close(got, truth, "batch pos", f"the token {back} back, and -1 before the beginning")


# One probe


@checks("linear_probe", mistakes=PROBE)
def test_probe_is_the_minimum(linear_probe):
    for ridge in (0.3, 1e-3):
        W, b = expect_pair(linear_probe(X, LABELS, 5, ridge), 4, 5)  # labels 3 and 4 do not occur
        W_true, b_true = probe_by_equations(X, LABELS, 5, ridge)
        expect_close(W, W_true, "d_model label", f"W of the normal equations, ridge {ridge}")
        expect_close(b, b_true, "label", f"b of the normal equations, ridge {ridge}")


@checks("linear_probe", mistakes={"the bias is forgotten": fitted(bias=False)})
def test_rotating_and_shifting_the_stream_changes_no_guess(linear_probe):
    """The stream has no preferred basis and no preferred zero; a probe must not care for either."""
    moved = X @ ROTATION + 100.0
    W, b = expect_pair(linear_probe(X, LABELS, 3), 4, 3)
    W_moved, b_moved = linear_probe(moved, LABELS, 3)
    got, truth = moved @ W_moved + b_moved, X @ W + b
    expect_close(got, truth, "row label", "x was rotated, and shifted by 100")


@checks("linear_probe")
def test_a_planted_feature_is_found(linear_probe):
    labels = torch.arange(120) % 6
    rows = planted_rows(labels, 6)
    W, b = expect_pair(linear_probe(rows.float(), labels, 6), 12, 6)
    guesses = (rows @ W.double() + b.double()).argmax(dim=-1)
    right = (guesses == labels).double().mean().item()
    planted_how = "six classes, planted along six directions"
    expect(right == 1.0, f"{planted_how}: expected 100 % right, got {100 * right:.1f} %")


# On sequences it has not seen


@checks("held_out_accuracy", mistakes=SPLIT)
def test_accuracy_by_hand(held_out_accuracy):
    for share in (0.8, 0.5):
        got, truth = (
            held_out_accuracy(NOISY, LINE, 3, share),
            accuracy_by_rows(NOISY, LINE, 3, share),
        )
        expect_close(got, truth, "", f"share right, fitted to {share} of 40 sequences")


@checks("held_out_accuracy", mistakes=FIT)
def test_the_given_probe_is_used(held_out_accuracy):
    got = held_out_accuracy(NOISY, LINE, 3, fit=always_two)
    truth = accuracy_by_rows(NOISY, LINE, 3, fit=always_two)
    expect_close(got, truth, "", "fit = a probe that always says 2")


SHARED = {"rows of one sequence both fit the probe and test it": scored(split="positions")}


@checks("held_out_accuracy", mistakes=SHARED)
def test_positions_of_one_sequence_know_of_each_other(held_out_accuracy):
    """Each sequence has one random vector and label: nothing helps with a new sequence."""
    own, labels = draw(60, 1, 80).expand(-1, 5, -1), whole(2, 60, 1).expand(-1, 5)
    got = held_out_accuracy(own + 0.01 * draw(60, 5, 80), labels, 2)
    expected = "labels that only identify the sequence: expected about .5"
    expect(got < 0.9, f"{expected}, got {got:.2f}; split whole sequences")


@checks("held_out_accuracy")
def test_nothing_to_test_is_an_error(held_out_accuracy):
    none_to_test = torch.where(torch.arange(40)[:, None] < 32, LINE, -1)
    for labels in (none_to_test, torch.full_like(LINE, -1)):
        why = "one of the two parts has no labelled place"
        expect_value_error(held_out_accuracy, (NOISY, labels, 3), why)


# By depth

THREE_LAYERS = ModelConfig(n_layers=3, n_heads=2, d_model=8, d_head=4, d_vocab=5, n_ctx=6)
SMALL = Transformer(THREE_LAYERS, seed=1)


@checks("probe_by_depth", mistakes=DEPTHS)
def test_each_depth_has_its_accuracy(probe_by_depth):
    got = probe_by_depth(SMALL, SHORT, SHORT_LABELS, 5)
    truth = depths()(SMALL, SHORT, SHORT_LABELS, 5)
    expect_close(got, truth, "depth", "random weights, the previous token")


LATE = {"the stream was read one position later than the label": depths(shift=1)}


@checks("probe_by_depth", mistakes=LATE)
def test_the_hand_built_circuit_shows_its_steps(probe_by_depth):
    """There the current token is in the stream from the start, the previous one from layer 0 on."""
    model = planted.induction_model(d_vocab=12, n_ctx=12)
    repeats = held_out(model, (2, 4), batch=120, prefix=0)
    for back in (0, 1):
        got = probe_by_depth(model, repeats.tokens, back_by_loops(repeats.tokens, back), 12)
        expect(got.shape == (3,), f"two layers: expected 3 depths, got {list(got.shape)}")
        for depth, value in enumerate(got.tolist()):
            where = f"the token {back} back at depth {depth}"
            if depth >= back:
                expect(value == 1.0, f"{where}: expected 1, got {value:.2f}")
            else:
                expect(value < 0.5, f"{where}: expected little, got {value:.2f}")


@checks("probe_by_depth")
def test_depths_use_the_probe_that_is_given(probe_by_depth):
    got = probe_by_depth(SMALL, SHORT, SHORT_LABELS, 5, always_two)
    truth = accuracy_by_rows(SHORT[..., None].double(), SHORT_LABELS, 5, fit=always_two)
    expect_close(got.double(), torch.full((4,), truth).double(), "depth", "a probe that says 2")


# The strong probe


@checks("logistic_probe", mistakes=LOGISTIC)
def test_strong_probe_is_the_minimum(logistic_probe):
    for weight_decay in (0.03, 1e-3):
        got = expect_pair(logistic_probe(X, LABELS, 3, weight_decay), 4, 3)
        W, b = logistic_by_newton(X, LABELS, 3, weight_decay)
        why = f"the minimum, found by Newton's method, weight_decay {weight_decay}"
        expect_close(got[0], W, "d_model label", why, tolerance=1e-3)
        got_b, b = got[1] - got[1].mean(), b - b.mean()  # the same for all labels changes nothing
        expect_close(got_b, b, "label", "b, less its mean: " + why, tolerance=3e-3)


WEIGHTS = {"the penalty is |W|^2": regressed(whiten=False)}


@checks("logistic_probe", mistakes=WEIGHTS)
def test_a_stretch_of_the_stream_changes_no_answer(logistic_probe):
    stretch = ROTATION @ torch.diag(torch.tensor([1.0, 100.0, 0.01, 3.0]).double())
    W, b = expect_pair(logistic_probe(X, LABELS, 3, 0.01), 4, 3)
    with torch.no_grad():
        W_moved, b_moved = logistic_probe(X @ stretch, LABELS, 3, 0.01)
    got, truth = X @ stretch @ W_moved + b_moved, X @ W + b
    why = "x was multiplied by an invertible matrix"
    expect_close(got.log_softmax(-1), truth.log_softmax(-1), "row label", why, tolerance=1e-3)


@checks("logistic_probe")
def test_directions_without_spread_are_left_out(logistic_probe):
    """A stream that fills 4 of 7 dimensions: two copies, and one number that is always 2."""
    flat = torch.cat([X, X[:, :2], torch.full((30, 1), 2.0).double()], dim=1).float()
    W, b = expect_pair(logistic_probe(flat, LABELS, 3, 0.01), 7, 3)
    truth_W, truth_b = logistic_by_newton(X, LABELS, 3, 0.01)
    got, truth = flat.double() @ W + b, X @ truth_W + truth_b
    why = "dimensions that say nothing new were added"
    expect_close(got.log_softmax(-1), truth.log_softmax(-1), "row label", why, tolerance=1e-3)


# What the probe would get anyway


@checks("above_shuffled", mistakes=SHUFFLED)
def test_the_commonest_class_is_no_merit(above_shuffled):
    """A perfect probe; but naming the commonest class already scores about its share."""
    rare = UNEVEN.double().mean().item()
    got = sum(above_shuffled(UNEVEN_X, UNEVEN, 2, seeded(seed)) for seed in range(5)) / 5
    case = f"accuracy 1, and {1 - rare:.2f} of the labels are alike"
    expect(
        abs(got - rare) < 0.06,
        f"{case}: expected an accuracy above chance of about {rare:.2f}, got {got:.2f}",
    )


@checks("above_shuffled")
def test_nothing_there_nothing_found(above_shuffled):
    labels = torch.where(whole(5, 150, 4) == 0, -1, whole(2, 150, 4))
    got = above_shuffled(draw(150, 4, 6), labels, 2, seeded())
    expect(
        abs(got) < 0.25, f"x is noise: expected an accuracy above chance of about 0, got {got:.2f}"
    )
    got, case = above_shuffled(planted_rows(labels, 2), labels, 2, seeded()), "half 0 and half 1"
    expect(
        0.3 < got < 0.7,
        f"a planted bit, {case}: expected an accuracy above chance of about .5, got {got:.2f}",
    )


MOVED = {"-1 changed places as well; those labels stay where they are": compared(anywhere)}


@checks("above_shuffled", mistakes=MOVED)
def test_places_without_a_label_stay_where_they_are(above_shuffled):
    """With one labelled place to test on, an accuracy is 0 or 1, so the difference is whole."""
    generator = seeded(5)
    labels = torch.randint(2, (40, 4), generator=generator)
    labels[32:] = torch.tensor([[-1, 1, -1, -1]] + 7 * [4 * [-1]])
    x = torch.randn(40, 4, 6, generator=generator).double()
    for seed in range(3):
        got, case = above_shuffled(x, labels, 2, seeded(seed)), "one labelled place to test on"
        expect(got in (-1, 0, 1), f"{case}: expected -1, 0 or 1, got {got:.3f}")


@checks("above_shuffled", mistakes=ACROSS)
def test_labels_change_places_across_both_parts(above_shuffled):
    """Nearly all sequences that fit the probe are 0, all that test it are 1."""
    labels = (torch.arange(100)[:, None] % 10 == 0).long().repeat(1, 3)
    labels[80:] = 1
    got = above_shuffled(planted_rows(labels, 2), labels, 2, seeded())
    share = labels.double().mean().item()
    expected = f"accuracy 1, and {share:.2f} of all labels are 1: expected about {share:.2f}"
    expect(abs(got - share) < 0.12, f"{expected}, got {got:.2f}")


@checks("above_shuffled")
def test_the_shuffling_comes_from_the_generator(above_shuffled):
    expect_from_generator(lambda generator: above_shuffled(NOISY, LINE, 3, generator))


@checks("control_task", mistakes=TASK)
def test_a_control_task_is_a_random_table(control_task):
    tokens = torch.cat([torch.arange(4000), torch.arange(4000), torch.tensor([-1, -1])])
    labels = control_task(tokens, 4000, 4, seeded(1))
    again = control_task(tokens, 4000, 4, seeded(1))
    other = control_task(tokens, 4000, 4, seeded(2))
    shape = list(labels.shape)
    expect(shape == [8002], f"expected one label per token, [8002], got {shape}")
    alike = torch.equal(labels[:4000], labels[4000:8000])
    expect(alike, "the same token has different classes in different places")
    expect(labels[-2:].tolist() == [-1, -1], f"-1 must stay -1, got {labels[-2:].tolist()}")
    expect(torch.equal(labels, again), "the same generator must give the same table")
    counts = labels[:4000].bincount(minlength=4)
    expected = "4000 tokens, 4 classes: expected about 1000 each"
    expect(len(counts) == 4 and counts.min() > 850, f"{expected}, got {counts.tolist()}")
    agree = (labels[:4000] == other[:4000]).double().mean().item()
    expected = "two generators should agree on 1 token in 4"
    expect(abs(agree - 0.25) < 0.05, f"{expected}, they agree on {100 * agree:.0f} %")


@checks("selectivity", mistakes=SELECTIVE)
def test_selectivity_is_accuracy_beyond_a_control_task(selectivity):
    """Told apart, words allow any classes; where only even and odd are, no table by lot."""
    made_up, known = [], []
    for seed in range(4):
        made_up.append(selectivity(AS_WORDS, SPOKEN, WORDS, 13, 2, seeded(seed)))
        known.append(selectivity(AS_PARITY, SPOKEN, WORDS, 13, 2, seeded(seed)))
    for got in made_up:
        expect(
            abs(got) < 0.02, f"x tells all words apart: expected 0 for any classes, got {got:.2f}"
        )
    lottery = whole(2, 120, 5)
    got = selectivity(AS_WORDS, lottery, WORDS, 13, 2, seeded())
    expect(got < -0.3, f"labels at random, x tells the words: expected about -.5, got {got:.2f}")
    least, mean = min(known), sum(known) / len(known)
    expect(0.12 < least and mean < 0.48, f"x tells parity alone: expected about .4, got {mean:.2f}")


@checks("selectivity", mistakes=EVERYWHERE)
def test_the_control_has_labels_where_the_task_has(selectivity):
    """With one labelled place to test on, accuracies are 0 or 1, so the difference is whole."""
    spoken = SPOKEN.clone()
    spoken[96:], spoken[97, 2] = -1, WORDS[97, 2] % 2
    for seed in range(4):
        got = selectivity(draw(120, 5, 3), spoken, WORDS, 13, 2, seeded(seed))
        expect(got in (-1, 0, 1), f"one labelled place to test on: expected -1, 0 or 1, got {got}")


@checks("selectivity", mistakes=UNUSED)
def test_the_table_comes_from_the_generator(selectivity):
    def call(generator):
        return selectivity(AS_PARITY, SPOKEN, WORDS, 13, 2, generator)

    expect_from_generator(call)


# Taking it out


@checks("class_means", mistakes=MEANS)
def test_means_are_their_definition(class_means):
    got, truth = class_means(ROWS, ROW_LABELS, 5), means_by_loops(ROWS, ROW_LABELS, 5)
    why = "class mean minus the mean of all labelled places"
    expect_close(got, truth, "label d_model", why)


@checks("erase", mistakes=ERASED)
def test_erase_moves_all_classes_to_one_mean(erase):
    got, truth = erase(ROWS, ROW_LABELS, 3), erased_by_loops(ROWS, ROW_LABELS, 3)
    expect_close(got, truth, "batch pos d_model", "each place without the offset of its class")
    known = ROW_LABELS >= 0
    W, _ = probe_by_equations(got[known], ROW_LABELS[known], 3)
    expect(W.abs().max() < 1e-9, "all classes have one mean now, so the best probe must be W = 0")


# Steering

MODEL = small_model(d_model=8, d_head=4, n_ctx=6)
PUSH = 2 * draw(2, 8)


@checks("steer", mistakes=STEERED)
def test_layer_1_reads_the_sum(steer):
    _, cache = MODEL.run_with_cache(TOKENS)
    stream = cache["blocks.1.hook_resid_pre"].clone()
    stream[:, 2] += PUSH
    logits, pattern = layer_1_by_hand(MODEL, stream, cache["hook_pos_embed"])
    result = steer(MODEL, TOKENS, 2, PUSH)
    pair = isinstance(result, tuple) and len(result) == 2
    expect(pair, "expected a pair (logits, pattern of layer 1)")
    why = "layer 1's attention on the stream with the vector added"
    expect_close(result[1], pattern.detach(), "batch head query key", why)
    expect_close(result[0], logits.detach(), "batch pos vocab", "the logits that follow from it")


@checks("steer")
def test_a_hand_built_head_can_be_sent_anywhere(steer):
    """Write "my previous token is 7" at position 3, where it is not true. At the next 7 the
    induction head attends there.
    """
    model, space = planted.induction_model(), planted.induction_spaces(20, 40)
    lie = 2 * (space.previous[:, 7] - space.previous[:, 4])[None]
    logits, pattern = steer(model, torch.tensor([[0, 9, 4, 3, 5, 7]]), 3, lie)
    got = pattern[0, 0, 5, 3].detach()
    expect_close(got, torch.tensor(1.0), "", "attention from the 7 to position 3")
    expect(logits[0, 5].argmax() == 3, "position 3 holds token 3, which must be predicted now")
