"""Checks of chapter 15. The oracles: definitions in loops, single places patched by hand, parts
that sum to the logits.
"""

import torch

from tests.exercises.checking import checks, expect, expect_close, expect_value_error
from tests.exercises.oracles import ch15 as o
from tests.exercises.oracles import ch15_circuit_mistakes as circuit_slips
from tests.exercises.oracles import ch15_effects as by_row
from tests.exercises.oracles import ch15_mistakes as slips
from tests.exercises.oracles import ch15_readouts as readouts
from tests.exercises.oracles.ch15 import DONORS, MEANS, PLACES, SMALL, TOKENS
from tests.exercises.oracles.ch15_effects import FEW, LOGITS, OTHER, RIGHT, P, Q, share
from tests.exercises.oracles.ch15_readouts import LABELS, MANY
from tests.material import seeded

ALL_CHANGES = (("a",), ("operator",), ("b",), ("a", "b"))


@checks("counterfactual_rows", mistakes=slips.COUNTERFACTUALS)
def test_counterfactuals_differ_in_what_is_named_and_nothing_else(counterfactual_rows):
    for changed in ALL_CHANGES:
        rows = torch.randperm(len(FEW.a), generator=seeded(1))[:60]
        possible = {row: by_row.candidates(row, changed) for row in rows.tolist()}
        got = counterfactual_rows(FEW, rows, changed, seeded())
        is_pair = isinstance(got, tuple) and len(got) == 2
        expect(is_pair, "return two tensors: the rows that remain, their counterfactuals")
        kept, others = got[0].tolist(), got[1].tolist()
        why = by_row.wrong_pairs(kept, others, possible, changed)
        expect(not why, f"changed={changed}: {why}")
        expected = [row for row in possible if possible[row]]
        why = by_row.wrong_rows(kept, possible)
        expect(kept == expected, f"changed={changed}: {why}")
    one = next(row for row in range(len(FEW.a)) if len(by_row.candidates(row, ("b",))) > 3)
    found = by_row.candidates(one, ("b",))
    drawn = counterfactual_rows(FEW, torch.full((600,), one), ("b",), seeded(2))[1].tolist()
    shares = [drawn.count(other) / 600 * len(found) for other in found]
    evenly = min(shares) > 0.6 and max(shares) < 1.4
    expect(evenly, "each possible counterfactual has to be drawn equally often")
    everything = ("a", "operator", "b")
    found = by_row.candidates(one, everything)
    given = FEW, torch.full((4000,), one), everything, seeded(4)
    early = torch.isin(counterfactual_rows(*given)[1], torch.tensor(found[: len(found) // 2]))
    off = early.double().mean().item() - len(found) // 2 / len(found)
    expect(abs(off) < 0.035, "the first half of the possible ones has to be drawn half of the time")
    again = counterfactual_rows(FEW, torch.full((600,), one), ("b",), seeded(2))[1].tolist()
    expect(drawn == again, "the same generator has to give the same counterfactuals again")
    other = counterfactual_rows(FEW, torch.full((600,), one), ("b",), seeded(3))[1].tolist()
    expect(drawn != other, "another generator has to give other counterfactuals")


# Effects


@checks("effect", mistakes=slips.EFFECT)
def test_effect_is_its_definition(effect):
    still = effect(P, P, RIGHT, OTHER).abs().max()
    added = "nothing changed, and E is nearly 0, but not 0: is something added to a denominator?"
    expect(not 1e-13 < still < 0.01, added)
    truth = by_row.effects(P, Q, RIGHT, OTHER)
    expect_close(effect(P, Q, RIGHT, OTHER), truth, "cell batch", "E(r, r') term by term")
    zero = torch.zeros(4).double()
    expect_close(effect(P, P, RIGHT, OTHER), zero, "batch", "nothing changed: E = 0")
    sure_of_r = torch.tensor([[0.9, 0.01, 0.09]]).double()
    sure_of_other = torch.tensor([[0.01, 0.9, 0.09]]).double()
    got = effect(sure_of_r, sure_of_other, torch.tensor([0]), torch.tensor([1]))
    expect_close(got, torch.tensor([89.0]).double(), "batch", ".9 and .01 swapped: E = 89, not 1")
    sure = by_row.SURE[:1], by_row.SURE[1:], torch.tensor([0]), torch.tensor([1])
    why = "a model that is sure: small probabilities stand below the line as they are"
    expect_close(effect(*sure), by_row.effects(*sure), "batch", why)
    row = torch.arange(4)
    gap = (Q[..., row, OTHER] / Q[..., row, RIGHT]).log() - (P[row, OTHER] / P[row, RIGHT]).log()
    bound = (gap / 2).exp() - 1
    above = (effect(P, Q, RIGHT, OTHER) >= bound - 1e-9).all()
    expect(above, "E must be at least exp(half the logit difference) - 1")


@checks("effect_forms", mistakes=slips.FORMS)
def test_effect_forms_are_their_definitions(effect_forms):
    given = by_row.BEFORE, by_row.AFTER, RIGHT, OTHER
    got, truth = effect_forms(*given), by_row.forms(*given)
    has_keys = isinstance(got, dict) and set(got) == set(truth)
    expect(has_keys, f"expected a dict with the keys {', '.join(truth)}")
    for name in truth:
        expect_close(got[name], truth[name], "cell", f'"{name}" of two patches')
    above = (got["log1p"] >= got["logit difference"] / 2 - 1e-9).all()
    expect(above, "log1p is at least half the logit difference")


EVERYTHING = [("hook_embed", (slice(None),))]
CELLS = [[PLACES[3]], [PLACES[9], PLACES[12]], EVERYTHING, [("hook_embed", (1,))], [PLACES[-1]]]


@checks("patched_answers", mistakes=slips.PATCHED)
def test_patches_come_from_the_donors_one_cell_at_a_time(patched_answers):
    before, after = patched_answers(SMALL, TOKENS, DONORS, CELLS)
    truth_before, truth_after = o.patched(SMALL, TOKENS, DONORS, CELLS)
    expect_close(before, truth_before, "batch vocab", "nothing patched: the model's own answers")
    expect_close(after, truth_after, "cell batch vocab", "five cells, each patched by hand")
    donors_own = SMALL(DONORS[:, :-1])[:, -1]
    why = "all embeddings patched: the donors' answers"
    expect_close(after[CELLS.index(EVERYTHING)], donors_own, "batch vocab", why)
    _, unchanged = patched_answers(SMALL, TOKENS, TOKENS, CELLS)
    expect_close(unchanged[0], before, "batch vocab", "its own values: no change")


@checks("relative_importance", mistakes=slips.IMPORTANCE)
def test_relative_importance_is_a_share(relative_importance):
    effects, chosen = by_row.EFFECTS, by_row.CHOSEN
    got = relative_importance(effects, chosen)
    expect_close(got, share(effects, chosen), "", "three of five parts")
    expect_close(relative_importance(effects, chosen | ~chosen), 1.0, "", "all parts: 1")
    below = torch.tensor([-0.5, 0.1]).double(), torch.tensor([True, False])
    why = "effects -0.5 and 0.1: their logs have no positive sum"
    expect_value_error(relative_importance, below, why)
    none = torch.zeros(2).double(), torch.tensor([True, False])
    expect_value_error(relative_importance, none, "two effects of 0: the sum of their logs is 0")


# Circuits

NAMES = ["blocks.0.attn.hook_z", "blocks.1.hook_mlp_out"]


@checks("mean_cache", mistakes=circuit_slips.MEAN_CACHE)
def test_means_are_taken_position_by_position(mean_cache):
    got = mean_cache(SMALL, TOKENS[:, :4], NAMES)
    has_keys = isinstance(got, dict) and set(got) == set(NAMES)
    expect(has_keys, f"expected a dict with the keys {NAMES}")
    _, cache = SMALL.run_with_cache(TOKENS[:, :4])
    for name, axes in zip(NAMES, ("prompt pos head d_head", "prompt pos d_model")):
        mean = sum(one_prompt for one_prompt in cache[name])[None] / len(TOKENS)
        expect_close(got[name], mean, axes, f"the mean of {name}")


@checks("normalised_logit", mistakes=circuit_slips.NORMALISED)
def test_normalised_logit_does_not_see_a_shift(normalised_logit):
    got = normalised_logit(LOGITS, RIGHT)
    why = "centred logit of the right answer / largest centred logit"
    expect_close(got, o.ratio(LOGITS, RIGHT), "cell batch", why)
    moved = normalised_logit(LOGITS + torch.arange(8.0).double().view(2, 4, 1), RIGHT)
    expect_close(moved, got, "cell batch", "a constant added to all logits changes nothing")
    alone = normalised_logit(LOGITS[0], RIGHT)
    expect_close(alone, got[0], "batch", "the same without the first axis")


@checks("arithmetic_faithfulness", mistakes=circuit_slips.FAITHFULNESS)
def test_faithfulness_by_one_run_for_each_circuit(arithmetic_faithfulness):
    metric = o.metric_for(TOKENS, MEANS)
    given = SMALL, TOKENS, o.CIRCUITS, MEANS
    got = o.faithfulness_of(arithmetic_faithfulness, *given, metric)
    truth = o.faithful(*given, metric)
    expect_close(got, truth, "circuit", "five circuits, one run each")
    ends = torch.tensor([1.0, 0.0]).double()
    expect_close(got[1:3], ends, "circuit", "everything: 1; nothing: 0")
    always_0 = (*given, lambda logits, right: 0 * metric(logits, right))
    expect_value_error(arithmetic_faithfulness, always_0, "a metric that is always 0")
    turned = (*given, o.metric_for(TOKENS, MEANS, better=False))
    expect_value_error(arithmetic_faithfulness, turned, "a model that does worse than nothing")
    longer = SMALL, o.LONGER, o.CIRCUITS, o.LONGER_MEANS, o.metric_of_longer()
    why = "problems of five tokens before the answer"
    expect_close(arithmetic_faithfulness(*longer), o.faithful(*longer), "circuit", why)


# Probes and lenses


@checks("probe_map", mistakes=circuit_slips.PROBES)
def test_each_place_has_its_own_probe(probe_map):
    got, truth = probe_map(SMALL, MANY, LABELS, 3), readouts.probes(SMALL, MANY, LABELS, 3)
    expect_close(got, truth, "depth pos", "one ridge probe at each depth and position")
    nearest = readouts.class_means
    got = probe_map(SMALL, MANY, LABELS, 3, fit=nearest)
    truth = readouts.probes(SMALL, MANY, LABELS, 3, fit=nearest)
    expect_close(got, truth, "depth pos", "another probe is given as `fit`: the nearest class mean")
    classes = MANY[:, 1] // 4
    got, truth = probe_map(SMALL, MANY, classes, 3), readouts.probes(SMALL, MANY, classes, 3)
    expect_close(got[0, 1], truth[0, 1], "", "the token itself, from its embedding")


_, CACHE = SMALL.run_with_cache(TOKENS[:, :4])
SCALE = CACHE["ln_final.hook_scale"]


@checks("frozen_lens", mistakes=circuit_slips.LENS)
def test_the_lenses_of_all_parts_sum_to_the_logits(frozen_lens):
    parts = [CACHE["hook_embed"]]
    for layer in range(2):
        parts += CACHE[f"blocks.{layer}.attn.hook_result"].unbind(dim=2)
        parts.append(CACHE[f"blocks.{layer}.hook_mlp_out"])
    parts = torch.stack(parts)
    got, truth = frozen_lens(SMALL, parts, SCALE), readouts.lens(SMALL, parts, SCALE)
    expect_close(got, truth, "part batch pos vocab", "each part's lens")
    total = got.sum(dim=0) + SMALL.ln_final_b @ SMALL.W_U
    why = "all parts and ln_final_b @ W_U: the logits"
    expect_close(total, SMALL(TOKENS[:, :4]), "batch pos vocab", why)


ASKED = TOKENS[:, [4, 0, 2, 1]]


@checks("ffn_deletion", mistakes=circuit_slips.DELETION)
def test_deletion_is_the_change_across_the_mlp(ffn_deletion):
    for layer in (1, 0):
        got = ffn_deletion(SMALL, CACHE, layer, ASKED)
        truth = readouts.deletion(SMALL, CACHE, layer, ASKED)
        expect_close(got, truth, "batch pos", f"the stream's lens after MLP {layer} - before")
