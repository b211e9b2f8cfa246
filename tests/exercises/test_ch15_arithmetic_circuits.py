"""Checks of chapter 15. The oracles: definitions in loops, single places patched by hand, parts
that sum to the logits.
"""

import math
from functools import partial

import torch

from minitransformer.arithmetic import SPLITS
from tests.exercises.checking import checks, expect, expect_close, expect_value_error
from tests.exercises.oracles import ch15 as o
from tests.exercises.oracles import ch15_effects as by_row
from tests.exercises.oracles import ch15_readouts as readouts
from tests.exercises.oracles.ch15 import DONORS, MEANS, PLACES, SMALL, TOKENS, distance, means_over
from tests.exercises.oracles.ch15_effects import FEW, LOGITS, OTHER, RIGHT, P, Q, share
from tests.exercises.oracles.ch15_readouts import LABELS, MANY, STREAM
from tests.material import seeded

ALL_CHANGES = (("a",), ("operator",), ("b",), ("a", "b"))
wrong_rule = partial(partial, by_row.counterfactuals)


@checks(
    "counterfactual_rows",
    mistakes={
        "one changed column is enough for you; each one has to differ": wrong_rule(each=False),
        "the other columns may differ; they have to stay": wrong_rule(only=False),
        "the answer may be the same": wrong_rule(answer=False),
        "problems were drawn that training never saw": wrong_rule(trained=False),
        "always the first possible one was taken; draw it": wrong_rule(pick=0),
        "the problems without a counterfactual were not left out": wrong_rule(drop=False),
        "a generator was made inside; use the one that you are given": wrong_rule(seed=0),
        "only the counterfactuals were returned": lambda *a: by_row.counterfactuals(*a)[1],
    },
)
def test_counterfactuals_differ_in_what_is_named_and_nothing_else(counterfactual_rows):
    for changed in ALL_CHANGES:
        rows = torch.randperm(len(FEW.a), generator=seeded(1))[:60]
        possible = {row: by_row.candidates(row, changed) for row in rows.tolist()}
        got = counterfactual_rows(FEW, rows, changed, seeded())
        is_pair = isinstance(got, tuple) and len(got) == 2
        expect(is_pair, "return two tensors: the rows that remain, their counterfactuals")
        kept, others = got[0].tolist(), got[1].tolist()
        expected = [row for row in possible if possible[row]]
        why = by_row.wrong_rows(kept, possible)
        expect(kept == expected, f"changed={changed}: {why}")
        for row, other in zip(kept, others):
            pair = f"{FEW.decode(FEW.tokens[row])} and {FEW.decode(FEW.tokens[other])}"
            what = f"not a counterfactual: {pair} ({SPLITS[FEW.split[other]]})"
            expect(other in possible[row], f"changed={changed}: {what}")
    one = next(row for row in range(len(FEW.a)) if len(by_row.candidates(row, ("b",))) > 3)
    found = by_row.candidates(one, ("b",))
    drawn = counterfactual_rows(FEW, torch.full((600,), one), ("b",), seeded(2))[1].tolist()
    shares = [drawn.count(other) / 600 * len(found) for other in found]
    evenly = min(shares) > 0.6 and max(shares) < 1.4
    expect(evenly, "each possible counterfactual has to be drawn equally often")
    again = counterfactual_rows(FEW, torch.full((600,), one), ("b",), seeded(2))[1].tolist()
    expect(drawn == again, "the same generator has to give the same counterfactuals again")
    other = counterfactual_rows(FEW, torch.full((600,), one), ("b",), seeded(3))[1].tolist()
    expect(drawn != other, "another generator has to give other counterfactuals")


# Effects

with_formula = partial(partial, by_row.effects)


@checks(
    "effect",
    mistakes={
        "both terms were divided by the probability before the patch": with_formula(
            formula=lambda P, Q, P_cf, Q_cf: ((Q_cf - P_cf) / P_cf + (P - Q) / P) / 2
        ),
        "both terms were divided by the probability after the patch": with_formula(
            formula=lambda P, Q, P_cf, Q_cf: ((Q_cf - P_cf) / Q_cf + (P - Q) / Q) / 2
        ),
        "the two denominators are exchanged": with_formula(
            formula=lambda P, Q, P_cf, Q_cf: ((Q_cf - P_cf) / Q_cf + (P - Q) / P) / 2
        ),
        "r and r' (or before and after: it is the same) are exchanged": lambda p, q, r, r_cf: (
            by_row.effects(p, q, r_cf, r)
        ),
        "the half is missing": lambda *a: 2 * by_row.effects(*a),
        "nothing is subtracted: a patch without effect would score 1": lambda *a: (
            by_row.effects(*a) + 1
        ),
        "differences of probabilities, divided by nothing": with_formula(
            formula=lambda P, Q, P_cf, Q_cf: (Q_cf - P_cf + P - Q) / 2
        ),
        "something small was added to the denominators; a sure model's P(r') is small too": (
            with_formula(
                formula=lambda P, Q, P_cf, Q_cf: (
                    ((Q_cf - P_cf) / (P_cf + 1e-8) + (P - Q) / (Q + 1e-8)) / 2
                )
            )
        ),
        "it was averaged over the prompts": lambda *a: by_row.effects(*a).mean(dim=-1),
    },
)
def test_effect_is_its_definition(effect):
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


wrong_form = partial(partial, by_row.forms)


@checks(
    "effect_forms",
    mistakes={
        "the softmax was taken in float32": wrong_form(double=False),
        "the logarithm of the mean was taken; it is the mean of the logarithms": wrong_form(
            log=lambda E: math.log1p(sum(E) / len(E))
        ),
        "the lower of the two middle values was taken (torch.median does); the median lies "
        "between": wrong_form(between=False),
        "the logit difference has the wrong sign; it is r' minus r": wrong_form(sign=-1),
        "only the logit of r' was compared": wrong_form(both=False),
        "log E was taken, without adding 1": wrong_form(
            log=lambda E: sum(math.log(abs(e)) for e in E) / len(E)
        ),
    },
)
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


@checks(
    "patched_answers",
    mistakes={
        "problems and donors are exchanged": lambda m, t, d, cells: o.patched(m, d, t, cells),
        "the model read the answer": partial(o.patched, end=None),
        "`before` is the donors' run": lambda m, t, d, cells: o.patched(m, t, d, cells, base=d),
        "only the first place of each cell was patched": partial(o.patched, first_only=True),
        "the results are exchanged: before first, then after": lambda *a: o.patched(*a)[::-1],
    },
)
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


@checks(
    "relative_importance",
    mistakes={
        "the effects were added without the logarithm: the largest one decides": partial(
            share, log=float
        ),
        "the sum below the line left out the chosen parts": partial(
            share, over=lambda logs, chosen: sum(x for x, c in zip(logs, chosen) if not c)
        ),
        "negative effects were set to 0": partial(share, log=lambda e: math.log1p(max(e, 0))),
        "the mean of the chosen was compared with the mean of all": lambda effects, chosen: (
            share(effects, chosen) * len(chosen) / int(chosen.sum())
        ),
        "the others' share was returned": lambda effects, chosen: share(effects, ~chosen),
        "parts without any effect were accepted": lambda effects, chosen: (
            share(effects, chosen) if effects.log1p().sum() else 0.0
        ),
    },
)
def test_relative_importance_is_a_share(relative_importance):
    effects, chosen = by_row.EFFECTS, by_row.CHOSEN
    got = relative_importance(effects, chosen)
    expect_close(got, share(effects, chosen), "", "three of five parts")
    expect_close(relative_importance(effects, chosen | ~chosen), 1.0, "", "all parts: 1")
    none = torch.tensor([-0.5, 0.1]).double(), torch.tensor([True, False])
    why = "effects -0.5 and 0.1: their logs have no positive sum"
    expect_value_error(relative_importance, none, why)


# Circuits

NAMES = ["blocks.0.attn.hook_z", "blocks.1.hook_mlp_out"]


@checks(
    "mean_cache",
    mistakes={
        "the mean went over the positions too": means_over((0, 1)),
        "the mean went over the positions, not over the prompts": means_over(1),
        "the axis of the prompts is gone; keepdim=True": means_over(0, keepdim=False),
        "zeros are not means": means_over(0, scale=0.0),
        "nothing was averaged": o.not_averaged,
    },
)
def test_means_are_taken_position_by_position(mean_cache):
    got = mean_cache(SMALL, TOKENS[:, :4], NAMES)
    has_keys = isinstance(got, dict) and set(got) == set(NAMES)
    expect(has_keys, f"expected a dict with the keys {NAMES}")
    _, cache = SMALL.run_with_cache(TOKENS[:, :4])
    for name, axes in zip(NAMES, ("prompt pos head d_head", "prompt pos d_model")):
        mean = sum(one_prompt for one_prompt in cache[name])[None] / len(TOKENS)
        expect_close(got[name], mean, axes, f"the mean of {name}")


@checks(
    "normalised_logit",
    mistakes={
        "the logits were not centred: a constant added to all of them would change the "
        "result": partial(o.ratio, centre=False),
        "probabilities were divided, not logits": lambda logits, right: o.ratio(
            logits.softmax(-1), right, centre=False
        ),
        "the smallest logit was made 0; make the mean 0": partial(o.ratio, base=min),
        "the largest was taken without regard to sign": partial(
            o.ratio, top=lambda row: max(map(abs, row))
        ),
        "the ratio is upside down": lambda logits, right: 1 / o.ratio(logits, right),
        "it was averaged over the prompts": lambda logits, right: o.ratio(logits, right).mean(
            dim=-1
        ),
    },
)
def test_normalised_logit_does_not_see_a_shift(normalised_logit):
    got = normalised_logit(LOGITS, RIGHT)
    why = "centred logit of the right answer / largest centred logit"
    expect_close(got, o.ratio(LOGITS, RIGHT), "cell batch", why)
    moved = normalised_logit(LOGITS + torch.arange(8.0).double().view(2, 4, 1), RIGHT)
    expect_close(moved, got, "cell batch", "a constant added to all logits changes nothing")
    alone = normalised_logit(LOGITS[0], RIGHT)
    expect_close(alone, got[0], "batch", "the same without the first axis")


wrongly_faithful = partial(partial, o.faithful)


@checks(
    "arithmetic_faithfulness",
    mistakes={
        "the circuit was set to its means, not what is outside": wrongly_faithful(invert=True),
        "the cells are the circuits themselves; each cell has to hold what is outside": (
            o.circuits_as_cells
        ),
        "the outside was set to zero, not to its mean": wrongly_faithful(zero=True),
        "what nothing scores was not subtracted": wrongly_faithful(formula=lambda c, m, e: c / m),
        "what nothing scores was subtracted above the line only": wrongly_faithful(
            formula=lambda c, m, e: (c - e) / m
        ),
        "it was clipped to 0 to 1": lambda *a: o.faithful(*a).clip(0, 1),
        "the metric itself was returned": wrongly_faithful(formula=lambda c, m, e: c),
        "`metric` was ignored": lambda m, t, c, means, metric=None: o.faithful(
            m, t, c, means, o.ratio_of_small
        ),
        "a model that does no better than nothing, or worse, was accepted": o.unless_equal,
    },
)
def test_faithfulness_by_one_run_for_each_circuit(arithmetic_faithfulness):
    got = arithmetic_faithfulness(SMALL, TOKENS, o.CIRCUITS, MEANS, distance)
    truth = o.faithful(SMALL, TOKENS, o.CIRCUITS, MEANS)
    expect_close(got, truth, "circuit", "five circuits, one run each")
    ends = torch.tensor([1.0, 0.0]).double()
    expect_close(got[1:3], ends, "circuit", "everything: 1; nothing: 0")
    given = SMALL, TOKENS, o.CIRCUITS, MEANS
    always_0 = (*given, lambda logits, right: 0 * distance(logits, right))
    expect_value_error(arithmetic_faithfulness, always_0, "a metric that is always 0")
    turned = (*given, o.turned_distance)
    expect_value_error(arithmetic_faithfulness, turned, "a model that does worse than nothing")


# Probes and lenses


@checks(
    "probe_map",
    mistakes={
        "the probes were tested on what they were fitted to": partial(
            readouts.probes, test_on_fit=True
        ),
        "rows and columns are exchanged: [depth, pos]": lambda *a, **options: (
            readouts.probes(*a, **options).T
        ),
        "the streams are in another order": partial(readouts.probes, names=STREAM[::-1]),
        "the streams between attention and MLP are missing": partial(
            readouts.probes, names=STREAM[::2]
        ),
        "`fit` was not passed on: the probe was a ridge probe": lambda *a, fit=None: (
            readouts.probes(*a)
        ),
    },
)
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
wrong_lens = partial(partial, readouts.lens)


@checks(
    "frozen_lens",
    mistakes={
        "the part's own scale was used; the lenses of the parts then do not add up": wrong_lens(
            own=True
        ),
        "the mean was not subtracted": wrong_lens(centre=False),
        "ln_final_w is missing": wrong_lens(weight=False),
        "ln_final_b was added; it belongs to no part": wrong_lens(bias=True),
        "it was multiplied by the scale; divide": wrong_lens(inverse=True),
    },
)
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
wrong_deletion = partial(partial, readouts.deletion)


@checks(
    "ffn_deletion",
    mistakes={
        "the mean over the vocabulary was not subtracted": wrong_deletion(centre=False),
        "the sign is wrong: below 0 means deleted": wrong_deletion(sign=-1),
        "each stream was divided by its own scale; hold it fixed": wrong_deletion(own=True),
        "the stream after the MLP was taken, not what the MLP adds": wrong_deletion(
            name="hook_resid_post"
        ),
        "the attention's output was taken, not the MLP's": wrong_deletion(name="hook_attn_out"),
        "always the first layer": lambda m, c, layer, t: readouts.deletion(m, c, 0, t),
    },
)
def test_deletion_is_the_change_across_the_mlp(ffn_deletion):
    for layer in (1, 0):
        got = ffn_deletion(SMALL, CACHE, layer, ASKED)
        truth = readouts.deletion(SMALL, CACHE, layer, ASKED)
        expect_close(got, truth, "batch pos", f"the stream's lens after MLP {layer} - before")
