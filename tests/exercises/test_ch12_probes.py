"""Checks of chapter 12. The oracles: normal equations and means in loops, data that hold a known
feature or none, planted models, and the layers after the first written out by hand. Controls:
rotated streams, shuffled labels, random weights, sequence noise.
"""

import torch

from minitransformer import planted
from minitransformer.evaluate import held_out
from tests.exercises.cases import in_case
from tests.exercises.checking import checks, expect, expect_close, expect_value_error
from tests.exercises.oracles import ch12 as o
from tests.exercises.oracles import ch12_controls as controls
from tests.exercises.oracles import ch12_data as data
from tests.exercises.oracles import ch12_logistic as strong
from tests.exercises.oracles import ch12_mistakes as mistakes
from tests.exercises.oracles import ch12_reasons as reasons
from tests.exercises.oracles import ch12_steering as steering
from tests.exercises.oracles.ch12_data import LABELS, TOKENS, X, draw, whole
from tests.exercises.oracles.watched import Watched
from tests.exercises.related import expect_related
from tests.material import seeded

# Labels


@checks("token_back", mistakes=mistakes.BACK)
def test_labels_come_from_the_right_place(token_back):
    for back, note in ((1, ""), (0, ", each token itself (a slice [:-0] is empty)"), (2, "")):
        got = in_case(f"back = {back}{note}", token_back, TOKENS.clone(), back)
        reasons.expect_labels(got, TOKENS, back)


@checks("token_back")
def test_before_the_beginning_there_is_nothing(token_back):
    got = in_case("back = 7, in rows of 7 tokens", token_back, TOKENS.clone(), 7)
    expect((got == -1).all(), "7 back in rows of 7 tokens: expected -1 everywhere")


# One probe


@checks("linear_probe", mistakes=mistakes.PROBE)
def test_probe_is_the_minimum(linear_probe):
    for ridge in (3.0, 1e-3):
        W, b = o.expect_pair(linear_probe(X, LABELS, 7, ridge), 5, 7)  # labels 3 to 6: nowhere
        W_true, b_true = o.probe_by_equations(X, LABELS, 7, ridge)
        why, other = f"of the normal equations, ridge {ridge}", (X, LABELS, 7, ridge)
        expect_related(W, W_true, "d_model label", f"W {why}", explain=reasons.ridge_behind(*other))
        expect_related(b, b_true, "label", f"b {why}")


@checks("linear_probe", mistakes={"the bias is forgotten": mistakes.fitted(bias=False)})
def test_rotating_and_shifting_the_stream_changes_no_guess(linear_probe):
    """The stream has no preferred basis and no preferred zero; a probe must not care for either."""
    moved = X @ data.ROTATION + 100.0
    W, b = o.expect_pair(linear_probe(X, LABELS, 3), 5, 3)
    W_moved, b_moved = linear_probe(moved, LABELS, 3)
    got, truth = moved @ W_moved + b_moved, X @ W + b
    why = "x was rotated, and shifted by 100 (float32 has too few digits: compute in float64)"
    expect_close(got, truth, "row label", why)


@checks("linear_probe")
def test_a_planted_feature_is_found(linear_probe):
    labels = torch.arange(120) % 6
    rows = o.planted_rows(labels, 6)
    W, b = o.expect_pair(linear_probe(rows.float(), labels, 6), 12, 6)
    right = ((rows @ W + b).argmax(dim=-1) == labels).double().mean().item()
    planted_how = "six classes, planted along six directions"
    expect(right == 1.0, f"{planted_how}: expected 100 % right, got {100 * right:.1f} %")


# On sequences it has not seen


@checks("held_out_accuracy", mistakes=mistakes.FITTED)
def test_the_first_sequences_fit_the_probe(held_out_accuracy):
    for share, first in ((0.8, 7), (0.3, 2), (0.85, 7)):
        fit, calls = o.noting_probe()
        case = f"share {share}, labelled places in both parts"
        got = in_case(case, held_out_accuracy, data.PLACED, data.PLACES, 3, share, fit)
        o.expect_fitted_to(calls, data.PLACES, share, first)
        truth = o.accuracy_by_rows(data.PLACED, data.PLACES, 3, share, fit=fit)
        if abs(got - truth) > 1e-6:
            reasons.expect_places_count(held_out_accuracy, data.PLACES, share)
        expect_close(got, truth, "", f"share {share} of 9 sequences, `fit` = another probe")


@checks("held_out_accuracy", mistakes=mistakes.TESTED)
def test_the_other_sequences_test_it(held_out_accuracy):
    for share in (0.8, 0.55):
        got = held_out_accuracy(data.NOISY, data.LINE, 3, share)
        truth = o.accuracy_by_rows(data.NOISY, data.LINE, 3, share)
        expect_close(got, truth, "", f"share right, fitted to {share} of 43 sequences")


@checks("held_out_accuracy", mistakes=mistakes.SHARED)
def test_positions_of_one_sequence_know_of_each_other(held_out_accuracy):
    """Each sequence has one random vector and label: nothing helps with a new sequence."""
    own, labels = draw(1, 60, 1, 80).expand(-1, 5, -1), whole(2, 2, 60, 1).expand(-1, 5)
    got = held_out_accuracy((own + 0.01 * draw(3, 60, 5, 80)).float(), labels, 2)
    expected = "labels that only identify the sequence: expected about .5"
    expect(got < 0.9, f"{expected}, got {got:.2f}; split whole sequences")


@checks("held_out_accuracy")
def test_nothing_to_test_is_an_error(held_out_accuracy):
    first = torch.arange(43)[:, None] < 34
    parts = {"the part that tests has no labelled place": torch.where(first, data.LINE, -1)}
    parts["the part that fits has no labelled place"] = torch.where(first, -1, data.LINE)
    parts["neither part has a labelled place"] = torch.full_like(data.LINE, -1)
    for why, labels in parts.items():
        expect_value_error(held_out_accuracy, (data.NOISY, labels, 3), why)


# By depth


@checks("probe_by_depth", mistakes=mistakes.NO_FIT | mistakes.DEPTHS)
def test_the_probe_gets_each_stream(probe_by_depth):
    for n_layers in (2, 3, 1):
        model, (fit, calls) = data.model_for_depths(n_layers), o.noting_probe()
        got = probe_by_depth(model, data.SHORT, data.SHORT_LABELS, 5, fit)
        expect(model.runs <= 1, f"one run of the model is enough; it was run {model.runs} times")
        truth = mistakes.depths()(model, data.SHORT, data.SHORT_LABELS, 5, fit)
        if got.shape != truth.shape or not torch.allclose(got, truth):
            _, cache = model.run_with_cache(data.SHORT)
            heard = calls[: -len(truth)]  # the truth called it, too
            reasons.expect_streams(heard, cache, data.SHORT_LABELS, mistakes.stream(n_layers))
        expect_close(got, truth, "depth", f"random weights, {n_layers} layer(s), another `fit`")


@checks("probe_by_depth", mistakes=mistakes.FIRST)
def test_positions_in_the_stream_belong_to_it(probe_by_depth):
    """The label is the position, which a model with "standard" positions adds to the stream."""
    model = data.model_for_depths(2, "standard")
    places = (torch.arange(6) % 5).expand_as(data.SHORT)
    got = probe_by_depth(model, data.SHORT, places, 5)
    truth = mistakes.depths()(model, data.SHORT, places, 5)
    expect_close(got, truth, "depth", "positions added to the stream, where does a token stand?")


@checks("probe_by_depth", mistakes=mistakes.LATE)
def test_the_hand_built_circuit_shows_its_steps(probe_by_depth):
    """There the current token is in the stream from the start, the previous one from layer 0 on."""
    model = planted.induction_model(d_vocab=12, n_ctx=12)
    repeats = held_out(model, (2, 4), batch=120, prefix=0)
    for back in (0, 1):
        got = probe_by_depth(model, repeats.tokens, o.back_by_loops(repeats.tokens, back), 12)
        expect(got.shape == (3,), f"two layers: expected 3 depths, got {list(got.shape)}")
        for depth, value in enumerate(got.tolist()):
            where = f"the token {back} back at depth {depth}"
            if depth >= back:
                expect(value == 1.0, f"{where}: expected 1, got {value:.2f}")
            else:
                expect(value < 0.5, f"{where}: expected little, got {value:.2f}")


# The strong probe


@checks("logistic_probe", mistakes=strong.MINIMA)
def test_strong_probe_is_the_minimum(logistic_probe):
    for weight_decay in (0.03, 1e-3):
        got = logistic_probe(X, LABELS, 3, weight_decay)
        strong.expect_minimum(got, X, LABELS, 3, weight_decay)


@checks("logistic_probe", mistakes=strong.STRETCHED)
def test_a_stretch_of_the_stream_changes_no_answer(logistic_probe):
    lengths = torch.tensor([1.0, 300.0, 0.003, 3.0, 1.0]).double()
    stretched = X @ data.ROTATION @ torch.diag(lengths)
    strong.expect_same_answers(logistic_probe, stretched, X, LABELS, strong.which_directions)


@checks("logistic_probe", mistakes=strong.SHRUNK)
def test_the_unit_of_the_stream_changes_no_answer(logistic_probe):
    strong.expect_same_answers(logistic_probe, 1e-8 * X, X, LABELS, strong.in_another_unit)


@checks("logistic_probe")
def test_directions_without_spread_are_left_out(logistic_probe):
    """A stream that fills 5 of 8 dimensions: two copies, and one number that is always 2."""
    flat = torch.cat([X, X[:, :2], torch.full((61, 1), 2.0).double()], dim=1).float()
    W, b = o.expect_pair(logistic_probe(flat, LABELS, 3, 0.01), 8, 3)
    truth_W, truth_b = strong.logistic_by_newton(X, LABELS, 3, 0.01)
    got, truth = flat.double() @ W + b, X @ truth_W + truth_b
    why = "dimensions that say nothing new were added: directions without spread are left out"
    expect_close(got.log_softmax(-1), truth.log_softmax(-1), "row label", why, tolerance=1e-3)


@checks("logistic_probe", mistakes={"`steps` was ignored": strong.minimum()})
def test_the_strong_probe_stops_after_its_steps(logistic_probe):
    stopped, _ = logistic_probe(X, LABELS, 3, 1e-3, 1)
    W, _ = strong.logistic_by_newton(X, LABELS, 3, 1e-3)
    there = (stopped - W).abs().max() < 1e-3
    expect(not there, "steps=1 gave the minimum: `steps` was ignored")


# What the probe would get anyway


@checks("above_shuffled", mistakes=controls.ACROSS)
def test_labels_change_places_across_both_parts(above_shuffled):
    """Nearly all sequences that fit are 0, all that test are 1."""
    labels = (torch.arange(100)[:, None] % 10 == 0).long().repeat(1, 3)
    labels[80:] = 1
    x, share = o.planted_rows(labels, 2, noise=1.0), labels.double().mean().item()
    accuracy = o.accuracy_by_rows(x, labels, 2)
    got = [above_shuffled(x, labels, 2, seeded(seed)) for seed in range(3)]
    case = f"accuracy {accuracy:.2f}, {1 - share:.2f} of all labels are 0"
    reasons.expect_above(got[0], accuracy - (1 - share), 0.12, case)
    why = "another seed gets the same answer: use the `generator` that is given"
    expect(len(set(got)) > 1, why)


@checks("above_shuffled", mistakes=controls.BY_POSITION)
def test_labels_change_places_across_positions(above_shuffled):
    labels = torch.tensor([0, 1, 1, 0]).repeat(50, 1)
    got = above_shuffled(o.planted_rows(labels, 2), labels, 2, seeded())
    reasons.expect_above(got, 0.5, 0.2, "each sequence has the labels 0 1 1 0, and x tells them")


@checks("above_shuffled", mistakes=controls.SHUFFLED)
def test_the_commonest_class_is_no_merit(above_shuffled):
    """A good probe; but naming the commonest class already scores about its share."""
    rare, labels = data.UNEVEN.double().mean().item(), data.UNEVEN.clone()
    accuracy = o.accuracy_by_rows(data.UNEVEN_X, labels, 2)
    got = sum(above_shuffled(data.UNEVEN_X, labels, 2, seeded(seed)) for seed in range(5)) / 5
    case = f"accuracy {accuracy:.2f}, and {1 - rare:.2f} of the labels are alike"
    reasons.expect_above(got, accuracy - (1 - rare), 0.06, case)


@checks("above_shuffled")
def test_nothing_there_nothing_found(above_shuffled):
    labels = torch.where(whole(4, 5, 150, 4) == 0, -1, whole(5, 2, 150, 4))
    got = above_shuffled(draw(6, 150, 4, 6), labels, 2, seeded())
    reasons.expect_above(got, 0.0, 0.25, "x is noise")
    got = above_shuffled(o.planted_rows(labels, 2), labels, 2, seeded())
    reasons.expect_above(got, 0.5, 0.2, "a planted bit, half 0 and half 1")


@checks("above_shuffled", mistakes=controls.ONCE)
def test_a_shuffle_uses_every_label_once(above_shuffled):
    """Five 0, five 1, and x says nothing: the probe names what is commoner among the eight labels
    that fit it, and so is rarer among the two others. It cannot score more than half.
    """
    labels = torch.tensor([0, 1, 0, 1, 1, 0, 1, 0, 1, 0])[:, None]
    for seed in range(12):
        got = above_shuffled(torch.ones(10, 1, 3), labels, 2, seeded(seed))
        case = "five labels are 0, five are 1, x says nothing: shuffled in any way they score at"
        expect(
            got > -0.1, f"{case} most .5, like the true ones. Use each label once; got {got:.2f}"
        )


@checks("above_shuffled", mistakes=controls.MOVED)
def test_places_without_a_label_stay_where_they_are(above_shuffled):
    """With one labelled place to test on, an accuracy is 0 or 1, so the difference is whole."""
    generator = seeded(5)
    labels = torch.randint(2, (40, 4), generator=generator)
    labels[32:] = torch.tensor([[-1, 1, -1, -1]] + 7 * [4 * [-1]])
    x = torch.randn(40, 4, 6, generator=generator).double()
    for seed in range(3):
        got, case = above_shuffled(x, labels, 2, seeded(seed)), "one labelled place to test on"
        expect(got in (-1, 0, 1), f"{case}: expected -1, 0 or 1, got {got:.3f}")


@checks("control_task", mistakes=controls.TASK)
def test_a_control_task_is_a_random_table(control_task):
    row = torch.cat([torch.arange(4001), torch.tensor([-1])])
    tokens = torch.stack([row, row.roll(7)])
    labels = control_task(tokens, 4001, 4, seeded(1))
    again = control_task(tokens, 4001, 4, seeded(1))
    other = control_task(tokens, 4001, 4, seeded(2))
    shape = list(labels.shape)
    expect(shape == [2, 4002], f"expected one label per token, [2, 4002], got {shape}")
    expect(labels.dtype == torch.long, f"classes are whole numbers, got {labels.dtype}")
    expect(labels[0, -1] == -1, f"-1 must stay -1, got {labels[0, -1]}")
    alike = torch.equal(labels[0], labels[1].roll(-7))
    expect(alike, "the same token has different classes in different places")
    expect(torch.equal(labels, again), "the same generator must give the same table")
    expect((labels[0, :-1] >= 0).all(), "every token needs a class, 0 as well; some have -1")
    reasons.expect_a_draw(labels[0, :-1])
    agree = (labels[0, :-1] == other[0, :-1]).double().mean().item()
    expected = "two generators should agree on 1 token in 4"
    expect(abs(agree - 0.25) < 0.05, f"{expected}, they agree on {100 * agree:.0f} %")


@checks("control_task")
def test_tokens_of_any_shape(control_task):
    for shape in ((), (7,), (2, 3, 5)):
        tokens = whole(7, 11, *shape)
        labels = in_case(f"tokens of shape {list(shape)}", control_task, tokens, 11, 3, seeded())
        expected = f"tokens of shape {list(shape)}: expected labels of that shape"
        expect(labels.shape == tokens.shape, f"{expected}, got {list(labels.shape)}")
    drawn = torch.stack([control_task(torch.arange(5), 5, 3, seeded(seed)) for seed in range(40)])
    o.expect_all_classes(drawn, 3)


@checks("selectivity", mistakes=controls.SELECTIVE)
def test_selectivity_is_accuracy_beyond_a_control_task(selectivity):
    """Told apart, words allow any classes; where only even and odd are, no table by lot."""
    made_up, known = [], []
    for seed in range(3):
        for x, values in ((data.AS_WORDS, made_up), (data.AS_PARITY, known)):
            values.append(selectivity(x, data.SPOKEN, data.WORDS, 13, 2, seeded(seed)))
    for got in made_up:
        expected = "x tells all words apart: expected 0 for any classes"
        expect(abs(got) < 0.05, f"{expected}, got {got:.2f}")
    lottery = whole(8, 2, 80, 5)
    got = selectivity(data.AS_WORDS, lottery, data.WORDS, 13, 2, seeded())
    expect(got < -0.3, f"labels at random, x tells the words: expected about -.5, got {got:.2f}")
    expect(len(set(known)) > 1, f"three generators gave the same answer, {known[0]:.3g}")
    least, mean = min(known), sum(known) / len(known)
    expect(0.12 < least and mean < 0.48, f"x tells parity alone: expected about .4, got {mean:.2f}")


@checks("selectivity", mistakes=controls.EVERYWHERE)
def test_the_control_has_labels_where_the_task_has(selectivity):
    """With one labelled place to test on, accuracies are 0 or 1, so the difference is whole."""
    spoken = data.SPOKEN.clone()
    spoken[64:], spoken[67, 2] = -1, data.WORDS[67, 2] % 2
    for seed in range(4):
        got = selectivity(draw(9, 80, 5, 3), spoken, data.WORDS, 13, 2, seeded(seed))
        expect(got in (-1, 0, 1), f"one labelled place to test on: expected -1, 0 or 1, got {got}")


# Taking it out


@checks("class_means", mistakes=steering.MEANS)
def test_means_are_their_definition(class_means):
    x, labels = data.ROWS, data.ROW_LABELS
    truth, why = o.means_by_loops(x, labels, 5), "class mean minus the mean of all labelled places"
    for lead in ((7, 5), (35,), (7, 1, 5)):
        case = f"labels of shape {list(lead)}"
        got = in_case(case, class_means, x.reshape(*lead, 4), labels.reshape(lead), 5)
        explain = reasons.counts_behind(x, labels, truth)
        expect_related(got, truth, "label d_model", f"{case}: {why}", explain=explain)


@checks("class_means")
def test_means_have_the_type_of_x(class_means):
    for dtype in (torch.float32, torch.float64):
        got = class_means(data.ROWS.to(dtype), data.ROW_LABELS, 3)
        expect(got.dtype == dtype, f"x is {dtype}: expected means of that type, got {got.dtype}")


@checks("erase", mistakes=steering.ERASED)
def test_erase_moves_all_classes_to_one_mean(erase):
    x, labels = data.ROWS, data.ROW_LABELS
    got, truth = erase(x.clone(), labels, 3), o.erased_by_loops(x, labels, 3)
    why = "each place without the offset of its class"
    explain = reasons.taken_by_place(x, labels, 3)
    expect_related(got, truth, "batch pos d_model", why, explain=explain)
    W, _ = o.probe_by_equations(got[labels >= 0], labels[labels >= 0], 3)
    digits = "x is float64: was something made float32?"
    expect(W.abs().max() < 1e-9, f"now no class can be read, up to 16 digits. {digits}")


@checks("erase")
def test_erase_works_on_rows(erase):
    x, labels = data.ROWS.flatten(0, 1), data.ROW_LABELS.flatten()
    got = in_case("labels with one axis", erase, x.clone(), labels, 3)
    expect_close(got, o.erased_by_loops(x, labels, 3), "row d_model", "labels with one axis")


# Steering


@checks("steer", mistakes=steering.STEERED)
def test_layer_1_reads_the_sum(steer):
    model = Watched.like(data.MODEL)
    _, cache = data.MODEL.run_with_cache(TOKENS)
    stream = cache["blocks.1.hook_resid_pre"].clone()
    stream[:, 2] += data.PUSH
    logits, patterns = o.later_layers_by_hand(data.MODEL, stream, cache["hook_pos_embed"])
    result = steer(model, TOKENS.clone(), 2, data.PUSH)
    explain = reasons.what_was_added(model, 2, data.PUSH)
    why = "layer 1's attention on the stream with the vector added, in a model of three layers"
    pattern = patterns[0].detach()
    expect_related(result[1], pattern, "batch head query key", why, explain=explain)
    why = "the logits that follow from it"
    expect_related(result[0], logits.detach(), "batch pos vocab", why, explain=explain)


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
