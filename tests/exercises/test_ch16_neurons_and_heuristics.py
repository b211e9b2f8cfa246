"""Checks of chapter 16: one neuron at a time, loops, slopes by differences, planted neurons."""

import torch

from minitransformer import Transformer
from solutions.ch16_neurons_and_heuristics import all_heuristics
from tests.exercises.cases import in_case
from tests.exercises.checking import checks, expect, expect_close
from tests.exercises.oracles import ch16_mistakes as slips
from tests.exercises.oracles.ch16 import (
    ANSWERS,
    CACHE,
    DEEP,
    DEEP_MEANS,
    MEANS,
    MODEL,
    TOKENS,
    by_differences,
    counted_runs,
    frozen_scale,
    only,
    run_with,
    without,
    worth_one_by_one,
)
from tests.exercises.oracles.ch16_heuristics import (
    classifier,
    laid_out,
    planted_neurons,
    scores_by_loops,
    senseless_neurons,
)
from tests.material import seeded


def expect_shape(got, axes, *sizes):
    wanted = f"[{', '.join(axes.split())}] = {list(sizes)}"
    expect(got.shape == sizes, f"expected {wanted}, got {list(got.shape)}")


@checks("neuron_contributions", mistakes=slips.CONTRIBUTIONS)
def test_contributions_and_the_bias_are_the_mlp(neuron_contributions):
    for layer in (1, 0):
        got, bias = neuron_contributions(MODEL, CACHE, layer), MODEL.b_out[layer]
        expect_shape(got, "batch pos neuron d_model", 5, 4, 6, 8)
        truth = CACHE[f"blocks.{layer}.hook_mlp_out"] - bias
        why = f"layer {layer}: their sum is hook_mlp_out minus b_out"
        expect_close(got.sum(dim=2), truth, "batch pos d_model", why)
        for n in range(6):  # one neuron alone, by silencing the five others
            name = f"blocks.{layer}.hook_mlp_out"
            alone = run_with(layer, lambda h, n=n: h * only(n), name) - bias
            expect_close(got[:, :, n], alone, "batch pos d_model", f"neuron {n} alone")


@checks("value_logits", mistakes=slips.VALUE_LOGITS)
def test_one_more_unit_of_activation(value_logits):
    """The long way: add 1 to a neuron of the last layer, all scales frozen; what do logits do?"""
    got, scale = value_logits(MODEL, 1), CACHE["ln_final.hook_scale"]
    expect_shape(got, "neuron vocab", 6, 11)
    for n in range(6):
        logits = run_with(1, lambda h, n=n: h + only(n), hooks=[frozen_scale])
        moved = (logits - MODEL(TOKENS)) * scale
        moved = moved - moved.mean(dim=-1, keepdim=True)
        why = f"neuron {n}: change of the logits, less their mean, times the scale"
        expect_close(got[n].expand_as(moved), moved, "batch pos vocab", why)
    weights = MODEL.state_dict()
    exchanged = Transformer(MODEL.cfg, seed=2).double()
    exchanged.load_state_dict(weights | {"W_out": weights["W_out"].flip(0)})
    truth = value_logits(exchanged, 1).detach()
    why = "layer 0 has value vectors of its own"
    expect_close(value_logits(MODEL, 0), truth, "neuron vocab", why)
    shifted = Transformer(MODEL.cfg, seed=2).double().requires_grad_(False)
    u = torch.randn(8, 1, generator=seeded(3)).double()
    shifted.load_state_dict(weights | {"W_U": weights["W_U"] + u})
    why = "one vector added to every column of W_U, which no probability notices"
    expect_close(value_logits(shifted, 1), got, "neuron vocab", why)


@checks("answer_contributions", mistakes=slips.DIRECT)
def test_take_the_neuron_away(answer_contributions):
    got, before = answer_contributions(MODEL, CACHE, 1, ANSWERS), MODEL(TOKENS)[:, -1]
    expect_shape(got, "batch neuron", 5, 6)
    for n in range(6):
        after = run_with(1, lambda h, n=n: h * ~only(n), hooks=[frozen_scale])[:, -1]
        lost = before - after
        lost = lost.gather(1, ANSWERS[:, None])[:, 0] - lost.mean(dim=-1)
        why = f"neuron {n} of the last layer silenced, ln_final scale frozen: centred logit lost"
        expect_close(got[:, n], lost, "batch", why)


@checks("without_neurons", mistakes=slips.WITHOUT)
def test_neurons_at_their_means(without_neurons):
    each = torch.rand(5, 2, 6, generator=seeded(1)) < 0.4
    truth = []
    for row in range(5):  # one prompt at a time, one neuron after the other
        hooks = []
        for layer, n in each[row].nonzero().tolist():

            def set_one(h, hook, layer=layer, n=n):
                h[0, -1, n] = MEANS[layer, n]
                return h

            hooks.append((f"blocks.{layer}.mlp.hook_post", set_one))
        truth.append(MODEL.run_with_hooks(TOKENS[row : row + 1], hooks)[0, -1])
    case = "`out` is [batch, layer, neuron], for each prompt its own"
    got = in_case(case, without_neurons, MODEL, TOKENS, each, MEANS)
    expect_close(got, torch.stack(truth), "batch vocab", "other neurons in each prompt")
    same, truth = each[0], without()(MODEL, TOKENS, each[0], MEANS)
    case = "`out` is [layer, neuron], the same for all prompts"
    got = in_case(case, without_neurons, MODEL, TOKENS, same, MEANS)
    expect_close(got, truth, "batch vocab", "the same neurons in every prompt")
    some = torch.rand(3, 6, generator=seeded(4)) < 0.5
    truth = without()(DEEP, TOKENS, some, DEEP_MEANS)
    got = in_case("a model of three layers", without_neurons, DEEP, TOKENS, some, DEEP_MEANS)
    expect_close(got, truth, "batch vocab", "three layers, neurons of each at their means")
    nobody = torch.zeros(2, 6, dtype=torch.bool)
    got = without_neurons(MODEL, TOKENS, nobody, MEANS)
    expect_close(got, MODEL(TOKENS)[:, -1], "batch vocab", "nothing taken away, nothing changed")


@checks("neuron_effects", mistakes=slips.EFFECTS)
def test_effects_one_neuron_at_a_time(neuron_effects):
    truth = worth_one_by_one()(MODEL, TOKENS, ANSWERS)
    for at_once, most in ((64, 3), (5, 5)):
        with counted_runs(MODEL) as runs:
            got = neuron_effects(MODEL, TOKENS, ANSWERS, at_once=at_once)
        why = f"undisturbed minus this neuron at its mean, at_once={at_once}"
        expect_close(got, truth, "layer neuron batch", why)
        groups = f"12 neurons, {at_once} at a time: {len(runs)} forward passes"
        expect(len(runs) <= most + 1, f"{groups}; with the undisturbed one, {most} are enough")


@checks("attributed_effects", mistakes=slips.ATTRIBUTED)
def test_attribution_is_displacement_times_slope(attributed_effects):
    with torch.no_grad():  # chapters run like this
        got = attributed_effects(MODEL, TOKENS, ANSWERS)
    truth = by_differences()(MODEL, TOKENS, ANSWERS)
    expect_close(got, truth, "layer neuron batch", "(h - mean) x slope", 1e-5)


GENERATOR = seeded(16)
SOME_OF_400 = torch.randperm(400, generator=GENERATOR)[:300]
A, B = torch.cartesian_prod(torch.arange(20), torch.arange(20))[SOME_OF_400].T
TWO_NEURONS = torch.randn(300, 2, generator=GENERATOR)


@checks("key_map", mistakes=slips.KEY_MAP)
def test_every_problem_in_its_place(key_map):
    got, truth = key_map(TWO_NEURONS, A, B, 21), laid_out()(TWO_NEURONS, A, B, 21)
    expect_close(got, truth, "a b neuron", "row a, column b, nan elsewhere")
    one = TWO_NEURONS[:, 0]
    expect_close(key_map(one, A, B, 20), laid_out()(one, A, B, 20), "a b", "one neuron")


@checks("heuristic_scores", mistakes=slips.SCORES)
def test_overlap_of_the_highest_values(heuristic_scores):
    masks = torch.stack([A < 5, B % 3 == 1, A == B, A + B < 25])
    mixed = TWO_NEURONS[:, 0] + 1.5 * (A < 5)
    # half silent, never silent, mostly silent
    for values in (mixed.clamp(min=0), mixed.abs(), mixed - 1):
        truth = scores_by_loops()(values, masks)
        expect_close(heuristic_scores(values, masks).float(), truth, "heuristic", "overlap / k")


@checks("heuristic_scores")
def test_a_silent_neuron_stands_for_nothing(heuristic_scores):
    got = heuristic_scores(torch.zeros(300), torch.stack([A < 5, B % 3 == 1])).float()
    expect_close(got, torch.zeros(2), "heuristic", "a neuron that is 0 everywhere: no overlap")


@checks("heuristic_scores", mistakes=slips.EQUAL)
def test_equal_values_share_the_places(heuristic_scores):
    masks = torch.stack([A < 5, B % 3 == 1, A == B, A + B < 25])
    steps = (2 * TWO_NEURONS[:, 1]).round().clamp(min=-1)  # -1, 0, 1, 2, ...: many of each
    for values in (steps + 2 * (B % 3 == 1), steps.abs(), (A < 8).float()):
        truth = scores_by_loops()(values, masks)
        got = heuristic_scores(values, masks).float()
        expect_close(got, truth, "heuristic", "equal values share the places left")
    got = heuristic_scores(torch.full((300,), 0.7), masks).float()
    why = "a neuron that is always equally active: the share of all problems in each mask"
    expect_close(got, masks.float().mean(dim=1), "heuristic", why)


A40, B24 = torch.cartesian_prod(torch.arange(40), torch.arange(24)).T
SUM = A40 + B24
KNOWN = all_heuristics(A40, B24, SUM)


@checks("classify_neuron", mistakes=slips.CLASSIFY)
def test_planted_neurons_and_senseless_ones(classify_neuron):
    generator = seeded(7)
    planted = planted_neurons(A40, B24, SUM, generator)
    for name, (activation, promoted) in planted.items():
        got, score = classify_neuron(activation, promoted, SUM, KNOWN)
        named = f"a neuron planted as '{name}' was named '{got}' ({score:.2f})"
        expect(got == name and score >= 0.6, named)
    senseless = senseless_neurons(A40, B24, generator)
    for label, (activation, promoted) in senseless.items():
        got, score = classify_neuron(activation, promoted, SUM, KNOWN)
        expect(got == "none", f"{label}: expected 'none', got '{got}' ({score:.2f})")
    half = (A40 < 20).float() * torch.rand(960, generator=generator)
    for threshold in (0.3, 0.9999):
        name, score = classifier()(half, half * 0, SUM, KNOWN, threshold)
        got = classify_neuron(half, half * 0, SUM, KNOWN, threshold)
        difference = f"expected '{name}', got '{got[0]}' ({got[1]:.2f})"
        expect(got[0] == name, f"threshold {threshold}: {difference}")
        expect_close(got[1], score, "", "the score of the best heuristic")
    three_quarters = ((A40 >= 10) & (A40 < 20) & (B24 % 4 > 0)) * (1 + half)
    got, score = classify_neuron(three_quarters, -half, SUM, KNOWN, 0.75)
    exactly = "its score is .75, and so is the threshold"
    expect(got == "range: 10 <= a < 20", f"{exactly}: got '{got}' ({score:.4f})")
    both = planted["multi-result: 3 values"][1]  # its activation, too, is highest at these results
    got, score = classify_neuron(both, both, SUM, KNOWN)
    why = "active and promoting at three results: expected 'multi-result: 3 values'"
    expect(got == "multi-result: 3 values", f"{why}, got '{got}' ({score:.2f})")
    planted = planted["multi-result: 4 values"]
    name, score = classifier()(*planted, SUM, KNOWN, 0.3, ())
    got = classify_neuron(*planted, SUM, KNOWN, threshold=0.3, counts=())
    expect(got[0] == name, f"counts=(), no multi-result: expected '{name}', got '{got[0]}'")


@checks("classify_neuron", mistakes=slips.TIES)
def test_the_heuristic_that_explains_more(classify_neuron):
    # highest for a = 10 to 14, and then 15 to 19
    steep = torch.where((A40 >= 10) & (A40 < 20), 30.0 - A40, 0.0) + 0.001 * B24
    steep = steep * (steep > 1)
    got, score = classify_neuron(steep, -steep, SUM, KNOWN)
    both = "10 <= a < 15 and 10 <= a < 20 both score 1"
    expect(got == "range: 10 <= a < 20", f"{both}; expected the larger, got '{got}'")
