"""Checks of chapter 11. The oracles: one pass per cell, the algebra of the stream, differences, and
planted gates.
"""

from functools import partial

import torch

from minitransformer import Transformer
from minitransformer.planted import gate_model, induction_model, negative_head_model
from solutions.ch11_patching import ALL, ROWS, answer_gap, induction_prompts
from tests.exercises.checking import checks, expect, expect_close, expect_value_error
from tests.exercises.oracles.ch11 import (
    CELLS,
    GAP,
    LAST,
    MODEL,
    OTHER,
    SAVED,
    SMALL,
    TOKENS,
    Z,
    cache_of,
    cells_one_by_one,
    heads_one_by_one,
    inputs_by_algebra,
    metrics_by_hand,
    named,
    paths_by_algebra,
    residual_one_by_one,
    run_cell,
    slopes_by_differences,
    written_change,
)
from tests.exercises.oracles.ch11_mistakes import (
    CELL_MISTAKES,
    DIRECTION_MISTAKES,
    HEAD_MISTAKES,
    INPUT_MISTAKES,
    METRIC_MISTAKES,
    NORMALISED_MISTAKES,
    PAIR_MISTAKES,
    PATH_MISTAKES,
    RESIDUAL_MISTAKES,
    SLOPE_MISTAKES,
)
from tests.material import seeded

PROMPTS = induction_prompts(8, 20, seeded())
PLANTED = induction_model()


@checks("corrupt_pairs", mistakes=PAIR_MISTAKES)
def test_pairs_swap_their_answers(corrupt_pairs):
    """The oracle is the hand-built induction model: it knows what follows."""
    for swap, truth in (("key", [3, 9]), ("value", [4, 10]), ("query", [13])):
        pairs = corrupt_pairs(PROMPTS, 3, 9, swap)
        expect(len(pairs) == 4, "it must return Pairs(clean, corrupt, right, wrong)")
        clean, corrupt, right, wrong = pairs
        for tokens, answer, name in ((clean, right, "clean"), (corrupt, wrong, "corrupt")):
            same = torch.equal(PLANTED(tokens)[:, -1].argmax(dim=-1), answer)
            why = f"a perfect induction model answers {name} with another token"
            expect(same, f"swap {swap!r}: {why}")
        changed = (clean != corrupt).any(dim=0).nonzero().flatten().tolist()
        why = f"positions {truth} must differ from clean, positions {changed} do"
        expect(changed == truth, f"swap {swap!r}: {why}")
        if swap != "query":
            kept = torch.equal(corrupt.sort(dim=1).values, PROMPTS.sort(dim=1).values)
            why = "corrupt must hold the same tokens as clean, in another order"
            expect(kept, f"swap {swap!r}: {why}")


@checks("corrupt_pairs")
def test_pairs_refuse_what_cannot_be(corrupt_pairs):
    # as far out, and as close, as is still possible
    for first, second in ((9, 3), (1, 3), (11, 9)):
        corrupt = corrupt_pairs(PROMPTS, first, second, "key")[1]
        swapped = torch.equal(corrupt[:, first], PROMPTS[:, second])
        expect(swapped, f"A at {first}, C at {second} is possible in 14 tokens")
    for first, second, swap in ((3, 4, "key"), (3, 12, "key"), (0, 9, "value"), (3, 9, "keys")):
        what = f"{swap} of {first} and {second}"
        expect_value_error(corrupt_pairs, (PROMPTS, first, second, swap), what)


PATCHED = torch.tensor([[4.0, -2.0, 0.5], [9.0, 9.0, 9.0]]).double()
CLEAN = torch.tensor([3.0, 1.0, 2.0]).double()
CORRUPT = torch.tensor([-1.0, 0.5, -3.0]).double()


@checks("normalised_metric", mistakes=NORMALISED_MISTAKES)
def test_normalised_from_0_to_1(normalised_metric):
    low, high = -3.5 / 3, 2.0
    truth = torch.tensor([(2.5 / 3 - low) / (high - low), (9 - low) / (high - low)]).double()
    got = normalised_metric(PATCHED, CLEAN, CORRUPT)
    expect_close(got, truth, "cell", "the means first, then the fraction")
    ends = normalised_metric(torch.stack([CORRUPT, CLEAN]), CLEAN, CORRUPT)
    why = "nothing restored is 0, everything restored is 1"
    expect_close(ends, torch.tensor([0.0, 1.0]).double(), "cell", why)
    what = "equal means of clean and corrupt"
    expect_value_error(normalised_metric, (PATCHED, CLEAN, CLEAN.flip(0)), what)


LOGITS = 3 * torch.randn(2, 3, 5, generator=seeded(4)).double()  # cell batch vocab
REFERENCE = 3 * torch.randn(3, 5, generator=seeded(5)).double()
RIGHT, WRONG = torch.tensor([2, 0, 4]), torch.tensor([1, 3, 0])


@checks("compare_metrics", mistakes=METRIC_MISTAKES)
def test_metrics_are_their_definitions(compare_metrics):
    for logits, axes in ((LOGITS, "cell batch"), (REFERENCE, "batch")):
        got = compare_metrics(logits, REFERENCE, RIGHT, WRONG)
        truth = metrics_by_hand(logits, REFERENCE, RIGHT, WRONG)
        in_order = list(got) == list(truth)
        expect(in_order, f"expected the keys {list(truth)}, in this order, got {list(got)}")
        for name in truth:
            expect_close(got[name], truth[name], axes, name)


@checks("compare_metrics")
def test_probability_hides_the_negative_head(compare_metrics):
    """The planted head 1.1 takes 6 off the right logit: probability hardly sees it."""
    model = negative_head_model().double()
    z = named(1, "z")
    nothing = {z: torch.zeros_like(cache_of(model, PROMPTS)[z])}
    undisturbed = model(PROMPTS)[:, -1].detach()
    without = run_cell(model, PROMPTS, nothing, [(z, (ALL, 1))])
    for logits, logit in ((undisturbed, 10.0), (without, 16.0)):
        got = compare_metrics(logits, logits, PROMPTS[:, 4], PROMPTS[:, 10])
        truth = torch.full((8,), logit).double()
        why = "s = 16, less 6 while the negative head is there"
        expect_close(got["logit difference"], truth, "batch", why)
        probability = 1 / (1 + 19 * torch.exp(-truth))
        why = "one logit of 10 or 16, nineteen of 0"
        expect_close(got["probability"], probability, "batch", why)


MANY = 4  # cells in one group, when there are this many prompts: ROWS // MANY


@checks("patch_cells", mistakes=CELL_MISTAKES)
def test_cells_do_not_disturb_each_other(patch_cells):
    truth = cells_one_by_one(MODEL, TOKENS, SAVED, CELLS)
    got = patch_cells(MODEL, TOKENS, dict(SAVED), CELLS)
    expect_close(got, truth, "cell batch vocab", "one pass per cell must give the same")


GROUP_MISTAKES = {
    "later groups were patched with the cells of the first group": partial(
        cells_one_by_one, group=MANY
    )
}


@checks("patch_cells", mistakes=GROUP_MISTAKES)
def test_cells_in_several_groups(patch_cells):
    copies = ROWS // MANY // len(TOKENS)
    tokens, saved = TOKENS.repeat(copies, 1), cache_of(SMALL, OTHER.repeat(copies, 1))
    cells = [[(Z, (pos, pos % 2))] for pos in range(5)]
    cells.append([("blocks.1.hook_resid_post", (4,))])
    got = patch_cells(SMALL, tokens, dict(saved), cells)
    truth = cells_one_by_one(SMALL, tokens, saved, cells)
    expect_close(got, truth, "cell batch vocab", "more cells than fit in one pass")


class Counting(Transformer):
    """A model that counts the sequences of each of its forward passes."""

    def forward(self, tokens, *hook):
        self.passes.append(len(tokens))
        return super().forward(tokens, *hook)


ONE_BY_ONE = {"there is one forward pass per cell; the cells must share one": cells_one_by_one}


@checks("patch_cells", mistakes=ONE_BY_ONE)
def test_cells_share_a_forward_pass(patch_cells):
    model = Counting(MODEL.cfg, seed=5).double()
    model.passes = []
    patch_cells(model, TOKENS, dict(SAVED), CELLS)
    n = len(model.passes)
    expect(n == 1, f"{len(CELLS)} cells fit in one forward pass, there were {n}")


@checks("patch_residual", mistakes=RESIDUAL_MISTAKES)
def test_residual_is_one_place_at_a_time(patch_residual):
    got, truth = patch_residual(SMALL, TOKENS, OTHER), residual_one_by_one(SMALL, TOKENS, OTHER)
    expect_close(got, truth, "depth pos batch vocab", "one run for each place")
    end = SMALL(OTHER)[:, -1].detach()
    why = "the last place of all decides the answer: the other run's logits"
    expect_close(got[-1, -1], end, "batch vocab", why)


@checks("patch_heads", mistakes=HEAD_MISTAKES)
def test_heads_one_thing_at_a_time(patch_heads):
    for what, by_position in (("z", True), ("pattern", True), ("k", False), ("pattern", False)):
        got = patch_heads(SMALL, TOKENS, OTHER, what, by_position)
        truth = heads_one_by_one(SMALL, TOKENS, OTHER, what, by_position)
        axes = "layer head pos batch vocab" if by_position else "layer head batch vocab"
        expect_close(got, truth, axes, f"{what}: one run for each place")


CASES = [[("blocks.0.attn.hook_z", (-1, 0))], [("blocks.0.attn.hook_z", (-1, 1))]]
CASES += [CASES[0] + CASES[1]]


@checks("sufficiency_and_necessity", mistakes=DIRECTION_MISTAKES)
def test_gates_tell_the_directions_apart(sufficiency_and_necessity):
    """The planted gates: AND needs both heads, OR is content with one."""
    for kind, truths in {"and": ([0, 0, 1], [1, 1, 1]), "or": ([1, 1, 1], [0, 0, 1])}.items():
        gate = gate_model(kind)
        metric = answer_gap(torch.tensor([gate.right]), torch.tensor([gate.wrong]))
        got = sufficiency_and_necessity(gate.model, gate.clean, gate.corrupt, CASES, metric)
        for name, values, truth in zip(("sufficient", "necessary"), got, truths):
            why = f"{kind.upper()} gate, {name}: first head, second head, both"
            expect_close(values.detach(), torch.tensor(truth).float(), "cell", why, 1e-4)


@checks("direct_inputs", mistakes=INPUT_MISTAKES)
def test_only_the_sender_changes(direct_inputs):
    for sender in ((0, 1), (1, 0), (2, 1)):
        got = direct_inputs(MODEL, TOKENS, OTHER, sender)
        truth = inputs_by_algebra(MODEL, TOKENS, OTHER, sender)
        missing = sorted(set(truth) - set(got))
        expect(not missing, f"these activations are missing: {missing}")
        for name in truth:
            axes = "batch pos d_model" if name == LAST else "batch pos head d_head"
            why = f"sender {sender[0]}.{sender[1]}, {name}: only its own change"
            expect_close(got[name], truth[name], axes, why)


READERS = [(layer, head, x) for layer in (1, 2) for head in (0, 1) for x in "qkv"]


@checks("path_patch", mistakes=PATH_MISTAKES)
def test_paths_are_edges(path_patch):
    several = [(1, 1, "q"), (2, 0, "v")]
    for receivers in ([(2, 1, "k")], [(1, 0, "v")], several, ["logits", (2, 0, "k")]):
        got = path_patch(MODEL, TOKENS, OTHER, (0, 1), receivers)
        truth = paths_by_algebra(MODEL, TOKENS, OTHER, (0, 1), receivers)
        why = f"0.1 -> {receivers}: the change through these edges only"
        expect_close(got, truth, "batch vocab", why)


@checks("path_patch")
def test_paths_to_everybody_are_the_node(path_patch):
    """The two identities: all edges together are the node, the edge to the logits is direct."""
    node = run_cell(MODEL, TOKENS, SAVED, [(named(0, "z"), (ALL, 1))])
    got = path_patch(MODEL, TOKENS, OTHER, (0, 1), [*READERS, "logits"])
    why = "all outgoing edges of 0.1 together: the same as patching 0.1"
    expect_close(got, node, "batch vocab", why)
    change = written_change(MODEL, TOKENS, OTHER, (0, 1)) @ MODEL.W_U
    direct = (MODEL(TOKENS) + change)[:, -1].detach()
    got = path_patch(MODEL, TOKENS, OTHER, (0, 1), ["logits"])
    expect_close(got, direct, "batch vocab", "the edge to the logits: what 0.1 writes, times W_U")


@checks("attribution_patch")
def test_attribution_is_exact_where_the_rest_is_linear(attribution_patch):
    """After the last softmax everything is linear: the guess equals really patching."""
    at_heads = [(4, 1), (2, 0)]
    places = {named(2, "z"): at_heads, named(2, "v"): at_heads}
    places |= {named(2, "pattern"): [(1, 4), (0, 3)], LAST: [(4,)]}
    with torch.no_grad():  # it must find gradients without gradients around it
        got = attribution_patch(MODEL, TOKENS, OTHER, GAP, list(places))
        plain = GAP(MODEL(TOKENS)[:, -1])
    for name in places:
        for place in places[name]:
            truth = GAP(run_cell(MODEL, TOKENS, SAVED, [(name, place)])) - plain
            why = f"{name} at {place}: exactly what patching does"
            expect_close(got[name][(ALL, *place)], truth, "batch", why, 1e-9)


@checks("attribution_patch", mistakes=SLOPE_MISTAKES)
def test_attribution_is_a_slope(attribution_patch):
    name = "blocks.0.hook_resid_pre"
    got = attribution_patch(SMALL, TOKENS, OTHER, GAP, [name])
    truth = slopes_by_differences(SMALL, TOKENS, OTHER, GAP, [name])
    why = "the slope of the metric along (a_other - a), times 1"
    expect_close(got[name], truth[name], "batch pos", why)
