"""Checks of chapter 15. The oracles: definitions in loops, single places patched by hand, parts
that sum to the logits.
"""

import math
from functools import partial

import torch

from tests.exercises.checking import checks, expect, expect_close
from tests.exercises.oracles import ch15 as o
from tests.exercises.oracles.ch15 import (
    AFTER,
    BEFORE,
    CHOSEN,
    CIRCUITS,
    DONORS,
    EFFECTS,
    FEW,
    LABELS,
    LOGITS,
    MANY,
    MEANS,
    OTHER,
    PLACES,
    RIGHT,
    SMALL,
    TOKENS,
    P,
    Q,
    distance,
    means_over,
    ratio,
    ratio_of_small,
    seeded,
    share,
)

ALL_CHANGES = (("a",), ("operator",), ("b",), ("a", "b"))
wrong_rule = partial(partial, o.counterfactuals)


@checks(
    "counterfactual_rows",
    mistakes={
        "one changed column is enough for you; each one has to differ": wrong_rule(each=False),
        "the other columns may differ; they have to stay": wrong_rule(only=False),
        "the answer may be the same": wrong_rule(answer=False),
        "problems were drawn that training never saw": wrong_rule(trained=False),
        "always the first possible one was taken; draw it": wrong_rule(pick=0),
        "the problems without a counterfactual were not left out": wrong_rule(drop=False),
        "only the counterfactuals were returned": lambda *a: o.counterfactuals(*a)[1],
    },
)
def test_counterfactuals_differ_in_what_is_named_and_nothing_else(counterfactual_rows):
    for changed in ALL_CHANGES:
        rows = torch.randperm(len(FEW.a), generator=seeded(1))[:60]
        possible = {row: o.candidates(row, changed) for row in rows.tolist()}
        got = counterfactual_rows(FEW, rows, changed, seeded())
        expect(
            isinstance(got, tuple) and len(got) == 2,
            "return two tensors: the rows that remain, their counterfactuals",
        )
        kept, others = (x.tolist() for x in got)
        expect(
            kept == [row for row in possible if possible[row]],
            f"changed={changed}: {o.wrong_rows(kept, possible)}",
        )
        for row, other in zip(kept, others):
            pair = f"{FEW.decode(FEW.tokens[row])} and {FEW.decode(FEW.tokens[other])}"
            expect(
                other in possible[row],
                f"changed={changed}: not a counterfactual: {pair} ({o.SPLITS[FEW.split[other]]})",
            )
    one = next(row for row in range(len(FEW.a)) if len(o.candidates(row, ("b",))) > 3)
    drawn = counterfactual_rows(FEW, torch.full((600,), one), ("b",), seeded(2))[1].tolist()
    shares = [
        drawn.count(other) / 600 * len(o.candidates(one, ("b",)))
        for other in o.candidates(one, ("b",))
    ]
    expect(
        min(shares) > 0.6 and max(shares) < 1.4,
        "each possible counterfactual has to be drawn equally often",
    )


# Effects

with_formula = partial(partial, o.effects)


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
        "r and r' (or before and after: it is the same) are exchanged": lambda p, q, r, s: (
            o.effects(p, q, s, r)
        ),
        "the half is missing": lambda *a: 2 * o.effects(*a),
        "nothing is subtracted: a patch without effect would score 1": lambda *a: o.effects(*a) + 1,
        "differences of probabilities, divided by nothing": with_formula(
            formula=lambda P, Q, P_cf, Q_cf: (Q_cf - P_cf + P - Q) / 2
        ),
        "it was averaged over the prompts": lambda *a: o.effects(*a).mean(dim=-1),
    },
)
def test_effect_is_its_definition(effect):
    expect_close(
        effect(P, Q, RIGHT, OTHER),
        o.effects(P, Q, RIGHT, OTHER),
        "cell batch",
        "E(r, r') term by term",
    )
    expect_close(
        effect(P, P, RIGHT, OTHER), torch.zeros(4).double(), "batch", "nothing changed: E = 0"
    )
    swapped = torch.tensor([[0.9, 0.01, 0.09]]).double(), torch.tensor([[0.01, 0.9, 0.09]]).double()
    got = effect(*swapped, torch.tensor([0]), torch.tensor([1]))
    expect_close(got, torch.tensor([89.0]).double(), "batch", ".9 and .01 swapped: E = 89, not 1")
    row = torch.arange(4)
    gap = (Q[..., row, OTHER] / Q[..., row, RIGHT]).log() - (P[row, OTHER] / P[row, RIGHT]).log()
    bound = (gap / 2).exp() - 1
    expect(
        (effect(P, Q, RIGHT, OTHER) >= bound - 1e-9).all(),
        "E must be at least exp(half the logit difference) - 1",
    )


@checks(
    "effect_forms",
    mistakes={
        "the softmax was taken in float32": partial(o.forms, double=False),
        "the logarithm of the mean was taken; it is the mean of the logarithms": partial(
            o.forms, log=lambda E: math.log1p(sum(E) / len(E))
        ),
        "the lower of the two middle values was taken (torch.median does); the median lies between": partial(
            o.forms, half=False
        ),
        "the logit difference has the wrong sign; it is r' minus r": partial(o.forms, sign=-1),
        "only the logit of r' was compared": partial(o.forms, both=False),
        "log E was taken, without adding 1": partial(
            o.forms, log=lambda E: sum(math.log(abs(e)) for e in E) / len(E)
        ),
    },
)
def test_effect_forms_are_their_definitions(effect_forms):
    got, truth = effect_forms(BEFORE, AFTER, RIGHT, OTHER), o.forms(BEFORE, AFTER, RIGHT, OTHER)
    expect(
        isinstance(got, dict) and set(got) == set(truth),
        f"expected a dict with the keys {', '.join(truth)}",
    )
    for name in truth:
        expect_close(got[name], truth[name], "cell", f'"{name}" of two patches')
    expect(
        (got["log1p"] >= got["logit difference"] / 2 - 1e-9).all(),
        "log1p is at least half the logit difference",
    )


CELLS = [
    [PLACES[3]],
    [PLACES[9], PLACES[12]],
    [("hook_embed", (slice(None),))],
    [("hook_embed", (1,))],
    [PLACES[-1]],
]


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
    truth = o.patched(SMALL, TOKENS, DONORS, CELLS)
    expect_close(before, truth[0], "batch vocab", "nothing patched: the model's own answers")
    expect_close(after, truth[1], "cell batch vocab", "five cells, each patched by hand")
    expect_close(
        after[2],
        SMALL(DONORS[:, :-1])[:, -1],
        "batch vocab",
        "all embeddings patched: the donors' answers",
    )
    expect_close(
        patched_answers(SMALL, TOKENS, TOKENS, CELLS)[1][0],
        before,
        "batch vocab",
        "its own values: no change",
    )


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
        "the mean of the chosen was compared with the mean of all": lambda e, c: (
            share(e, c) * len(c) / int(c.sum())
        ),
        "the others' share was returned": lambda e, c: share(e, ~c),
        "parts without any effect were accepted": lambda e, c: (
            share(e, c) if e.log1p().sum() else 0.0
        ),
    },
)
def test_relative_importance_is_a_share(relative_importance):
    expect_close(
        relative_importance(EFFECTS, CHOSEN), share(EFFECTS, CHOSEN), "", "three of five parts"
    )
    expect_close(relative_importance(EFFECTS, CHOSEN | ~CHOSEN), 1.0, "", "all parts: 1")
    none = torch.tensor([-0.5, 0.1]).double(), torch.tensor([True, False])
    o.expect_refused(
        relative_importance, *none, why="effects -0.5 and 0.1: their logs have no positive sum"
    )


# Circuits

NAMES = ["blocks.0.attn.hook_z", "blocks.1.hook_mlp_out"]


@checks(
    "mean_cache",
    mistakes={
        "the mean went over the positions too": means_over((0, 1)),
        "the mean went over the positions, not over the prompts": means_over(1),
        "the axis of the prompts is gone; keepdim=True": means_over(0, keepdim=False),
        "zeros are not means": means_over(0, scale=0.0),
        "nothing was averaged": lambda m, t, names: {
            n: SMALL.run_with_cache(t)[1][n] for n in names
        },
    },
)
def test_means_are_taken_position_by_position(mean_cache):
    got = mean_cache(SMALL, TOKENS[:, :4], NAMES)
    expect(
        isinstance(got, dict) and set(got) == set(NAMES), f"expected a dict with the keys {NAMES}"
    )
    _, cache = SMALL.run_with_cache(TOKENS[:, :4])
    for name, axes in zip(NAMES, ("prompt pos head d_head", "prompt pos d_model")):
        expect_close(
            got[name], sum(x for x in cache[name])[None] / len(TOKENS), axes, f"the mean of {name}"
        )


@checks(
    "normalised_logit",
    mistakes={
        "the logits were not centred: a constant added to all of them would change the result": partial(
            ratio, centre=False
        ),
        "probabilities were divided, not logits": lambda x, r: ratio(
            x.softmax(-1), r, centre=False
        ),
        "the smallest logit was made 0; make the mean 0": partial(ratio, base=min),
        "the largest was taken without regard to sign": partial(
            ratio, top=lambda row: max(map(abs, row))
        ),
        "the ratio is upside down": lambda x, r: 1 / ratio(x, r),
        "it was averaged over the prompts": lambda x, r: ratio(x, r).mean(dim=-1),
    },
)
def test_normalised_logit_does_not_see_a_shift(normalised_logit):
    got = normalised_logit(LOGITS, RIGHT)
    expect_close(
        got,
        ratio(LOGITS, RIGHT),
        "cell batch",
        "centred logit of the right answer / largest centred logit",
    )
    moved = LOGITS + torch.arange(8.0).double().view(2, 4, 1)
    expect_close(
        normalised_logit(moved, RIGHT),
        got,
        "cell batch",
        "a constant added to all logits changes nothing",
    )
    expect_close(
        normalised_logit(LOGITS[0], RIGHT), got[0], "batch", "the same without the first axis"
    )


@checks(
    "arithmetic_faithfulness",
    mistakes={
        "the circuit was set to its means, not what is outside": partial(o.faithful, invert=True),
        "the cells are the circuits themselves; each cell has to hold what is outside": o.circuits_as_cells,
        "the outside was set to zero, not to its mean": partial(o.faithful, zero=True),
        "what nothing scores was not subtracted": partial(
            o.faithful, formula=lambda c, m, e: c / m
        ),
        "what nothing scores was subtracted above the line only": partial(
            o.faithful, formula=lambda c, m, e: (c - e) / m
        ),
        "it was clipped to 0 to 1": lambda *a: o.faithful(*a).clip(0, 1),
        "the metric itself was returned": partial(o.faithful, formula=lambda c, m, e: c),
        "`metric` was ignored": lambda m, t, c, means, metric=None: o.faithful(
            m, t, c, means, ratio_of_small
        ),
        "a model that does no better than nothing was accepted": o.faithful,
    },
)
def test_faithfulness_by_one_run_for_each_circuit(arithmetic_faithfulness):
    got = arithmetic_faithfulness(SMALL, TOKENS, CIRCUITS, MEANS, distance)
    expect_close(
        got, o.faithful(SMALL, TOKENS, CIRCUITS, MEANS), "circuit", "five circuits, one run each"
    )
    expect_close(
        got[1:3], torch.tensor([1.0, 0.0]).double(), "circuit", "everything: 1; nothing: 0"
    )
    given, why = (
        (SMALL, TOKENS, CIRCUITS, MEANS, lambda x, r: 0 * distance(x, r)),
        "a metric that is always 0",
    )
    o.expect_refused(arithmetic_faithfulness, *given, why=why)


# Probes and lenses


@checks(
    "probe_map",
    mistakes={
        "the probes were tested on what they were fitted to": partial(o.probes, test_on_fit=True),
        "rows and columns are exchanged: [depth, pos]": lambda *a: o.probes(*a).T,
        "the streams are in another order": partial(o.probes, names=o.STREAM[::-1]),
        "the streams between attention and MLP are missing": partial(o.probes, names=o.STREAM[::2]),
    },
)
def test_each_place_has_its_own_probe(probe_map):
    truth = o.probes(SMALL, MANY, LABELS, 3)
    expect_close(
        probe_map(SMALL, MANY, LABELS, 3),
        truth,
        "depth pos",
        "one ridge probe at each depth and position",
    )
    got = probe_map(SMALL, MANY, MANY[:, 1] // 4, 3)
    expect_close(
        got[0, 1],
        o.probes(SMALL, MANY, MANY[:, 1] // 4, 3)[0, 1],
        "",
        "the token itself, from its embedding",
    )


_, CACHE = SMALL.run_with_cache(TOKENS[:, :4])
SCALE = CACHE["ln_final.hook_scale"]


@checks(
    "frozen_lens",
    mistakes={
        "the part's own scale was used; the lenses of the parts then do not add up": partial(
            o.lens, own=True
        ),
        "the mean was not subtracted": partial(o.lens, centre=False),
        "ln_final_w is missing": partial(o.lens, weight=False),
        "ln_final_b was added; it belongs to no part": partial(o.lens, bias=True),
        "it was multiplied by the scale; divide": partial(o.lens, inverse=True),
    },
)
def test_the_lenses_of_all_parts_sum_to_the_logits(frozen_lens):
    parts = [CACHE["hook_embed"]]
    for layer in range(2):
        parts += [
            *CACHE[f"blocks.{layer}.attn.hook_result"].unbind(dim=2),
            CACHE[f"blocks.{layer}.hook_mlp_out"],
        ]
    got = frozen_lens(SMALL, torch.stack(parts), SCALE)
    expect_close(
        got, o.lens(SMALL, torch.stack(parts), SCALE), "part batch pos vocab", "each part's lens"
    )
    whole, constant = SMALL(TOKENS[:, :4]), SMALL.ln_final_b @ SMALL.W_U
    expect_close(
        got.sum(dim=0) + constant,
        whole,
        "batch pos vocab",
        "all parts and ln_final_b @ W_U: the logits",
    )


ASKED = TOKENS[:, [4, 0, 2, 1]]


@checks(
    "ffn_deletion",
    mistakes={
        "the mean over the vocabulary was not subtracted": partial(o.deletion, centre=False),
        "the sign is wrong: below 0 means deleted": partial(o.deletion, sign=-1),
        "each stream was divided by its own scale; hold it fixed": partial(o.deletion, own=True),
        "the stream after the MLP was taken, not what the MLP adds": partial(
            o.deletion, name="hook_resid_post"
        ),
        "the attention's output was taken, not the MLP's": partial(
            o.deletion, name="hook_attn_out"
        ),
        "always the first layer": lambda m, c, layer, t: o.deletion(m, c, 0, t),
    },
)
def test_deletion_is_the_change_across_the_mlp(ffn_deletion):
    for layer in (1, 0):
        got = ffn_deletion(SMALL, CACHE, layer, ASKED)
        expect_close(
            got,
            o.deletion(SMALL, CACHE, layer, ASKED),
            "batch pos",
            f"the stream's lens after MLP {layer} - before",
        )
