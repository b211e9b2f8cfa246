"""Checks of chapter 11. The oracles: one pass per cell, the algebra of the stream, differences, and
planted gates. The random models have three layers and one; no two sizes are equal.
"""

import math

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
    ONE_LAYER,
    OTHER,
    PATTERN,
    SAVED,
    TOKENS,
    Z,
    both_ways,
    cache_of,
    cells_one_by_one,
    heads_one_by_one,
    inputs_by_algebra,
    metrics_by_hand,
    named,
    paths_by_algebra,
    residual_one_by_one,
    run_cell,
    true_slopes,
    written_change,
)
from tests.exercises.oracles.ch11_direction_mistakes import DIRECTION_MISTAKES
from tests.exercises.oracles.ch11_metric_mistakes import METRIC_MISTAKES
from tests.exercises.oracles.ch11_mistakes import NORMALISED_MISTAKES, PAIR_MISTAKES
from tests.exercises.oracles.ch11_path_mistakes import (
    INPUT_MISTAKES,
    LOGITS_MISTAKES,
    PATH_MISTAKES,
)
from tests.exercises.oracles.ch11_slope_mistakes import SLOPE_MISTAKES
from tests.exercises.oracles.ch11_sweep_mistakes import (
    CELL_MISTAKES,
    HEAD_MISTAKES,
    POSITION_MISTAKES,
    RESIDUAL_MISTAKES,
)
from tests.exercises.oracles.wording import expect_result
from tests.material import seeded

PROMPTS = induction_prompts(8, 20, seeded())
PLANTED = induction_model()
SWAPPED = {"key": [3, 9], "value": [4, 10], "query": [13]}  # the positions that must change


@checks("corrupt_pairs", mistakes=PAIR_MISTAKES)
def test_pairs_swap_their_answers(corrupt_pairs):
    """The oracle is the hand-built induction model: it knows what follows."""
    every = [corrupt_pairs(PROMPTS, 3, 9, swap) for swap in SWAPPED]
    for (swap, truth), pairs in zip(SWAPPED.items(), every):
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


POSSIBLE = {  # as far out, and as close, as is still possible
    (9, 3): "C D may stand before A B",
    (1, 3): "A B C D may begin right after BOS, and C may follow B at once",
    (11, 9): "A B may stand right before the last token",
    (9, 11): "C D may stand right before the last token",
}
IMPOSSIBLE = {
    (3, 4, "key"): "C stands where B is",
    (5, 4, "value"): "A stands where D is",
    (3, 3, "key"): "A and C are one position",
    (3, 12, "key"): "D would be the last token",
    (12, 3, "query"): "B would be the last token",
    (0, 9, "value"): "A stands on BOS",
    (9, 0, "key"): "C stands on BOS",
    (3, 9, "keys"): "there is no such swap",
}


@checks("corrupt_pairs")
def test_pairs_refuse_what_cannot_be(corrupt_pairs):
    for (first, second), reason in POSSIBLE.items():
        what = f"A at {first}, C at {second} of 14 tokens must not be refused: {reason}"
        corrupt = expect_result(corrupt_pairs, (PROMPTS, first, second, "key"), what)[1]
        expect(torch.equal(corrupt[:, first], PROMPTS[:, second]), f"{what}, and change places")
    for (first, second, swap), reason in IMPOSSIBLE.items():
        what = f"swap {swap!r}, A at {first}, C at {second} of 14 tokens: {reason}"
        expect_value_error(corrupt_pairs, (PROMPTS, first, second, swap), what)


# two cells, three heads, five prompts; the last prompt is the same in clean and in corrupt
PATCHED = 5 * torch.randn(2, 3, 5, dtype=torch.float64, generator=seeded(8))
CLEAN = torch.tensor([3.0, 1.0, 2.0, -4.0, 0.5]).double()
CORRUPT = torch.tensor([-1.0, 2.5, -3.0, -7.0, 0.5]).double()


@checks("normalised_metric", mistakes=NORMALISED_MISTAKES)
def test_normalised_from_0_to_1(normalised_metric):
    """Once clean is the larger one, once (as with a loss) corrupt is."""
    cases = {
        "single prompts may have the same metric in both runs": (CLEAN, CORRUPT),
        "a metric may be smaller in the clean run": (CORRUPT, CLEAN),
    }
    got = [expect_result(normalised_metric, (PATCHED, *ends), why) for why, ends in cases.items()]
    small = [1e-6 * metric for metric in (PATCHED, CLEAN, CORRUPT)]
    why = "a small gap is a gap: the shares are those of metrics a million times as large"
    expect_close(expect_result(normalised_metric, small, why), got[0], "cell head", why)
    for (clean, corrupt), found in zip(cases.values(), got):
        low, high = sum(corrupt.tolist()) / 5, sum(clean.tolist()) / 5
        truth = (PATCHED.sum(dim=-1) / 5 - low) / (high - low)
        expect_close(found, truth, "cell head", "the means first, then the fraction")


@checks("normalised_metric")
def test_normalised_ends_and_refusal(normalised_metric):
    ends = normalised_metric(torch.stack([CORRUPT, CLEAN]), CLEAN, CORRUPT)
    why = "nothing restored is 0, everything restored is 1"
    expect_close(ends, torch.tensor([0.0, 1.0]).double(), "cell", why)
    what = "equal means of clean and corrupt, though their rows differ: nothing to explain"
    expect_value_error(normalised_metric, (PATCHED, CLEAN, CLEAN.flip(0)), what)


LOGITS = 3 * torch.randn(2, 3, 5, generator=seeded(4)).double()  # cell batch vocab
REFERENCE = 3 * torch.randn(3, 5, generator=seeded(5)).double()
RIGHT, WRONG = torch.tensor([2, 0, 4]), torch.tensor([1, 3, 0])
LOGITS[0, 0] = torch.tensor([0.1, 0.2, 0.9, -0.5, 0.3])  # right has the largest, but not a half


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
def test_metrics_of_a_hopeless_answer(compare_metrics):
    """1000 nats behind: the probability is 0 in every computer, its logarithm is -1000."""
    logits, even = torch.tensor([[0.0, 1000.0]]), torch.zeros(1, 2)
    got = compare_metrics(logits, even, torch.tensor([0]), torch.tensor([1]))
    why = "the right token is 1000 nats behind: take log_softmax, not the log of a softmax"
    truth = {"log-probability": -1000.0, "KL": 500 - math.log(2), "probability": 0.0}
    for name, value in truth.items():
        expect_close(got[name].double(), torch.tensor([value]).double(), "batch", f"{name}: {why}")


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


MANY = 131  # prompts: three cells fit in one pass, of five
MANY_TOKENS, MANY_SAVED = TOKENS.repeat(19, 1)[:MANY], cache_of(MODEL, OTHER.repeat(19, 1)[:MANY])


@checks("patch_cells", mistakes=CELL_MISTAKES)
def test_cells_do_not_disturb_each_other(patch_cells):
    """More cells than fit in one pass."""
    assert ROWS // MANY == 3
    got = patch_cells(MODEL, MANY_TOKENS, dict(MANY_SAVED), CELLS)
    if got.ndim == 4:
        expect(False, f"the logits of the last position only, not {list(got.shape)}")
    truth = cells_one_by_one(MODEL, MANY_TOKENS, MANY_SAVED, CELLS)
    expect_close(got, truth, "cell batch vocab", "one pass per cell must give the same")


class Counting(Transformer):
    """A model that counts the sequences of each of its forward passes."""

    passes = []

    def forward(self, tokens, *hook):
        self.passes.append(len(tokens))
        return super().forward(tokens, *hook)


@checks("patch_cells")
def test_cells_share_forward_passes(patch_cells):
    model, z = Counting(ONE_LAYER.cfg, seed=5).double(), named(0, "z")
    for prompts, n_cells, passes in ((7, 5, 1), (131, 7, 3), (521, 3, 3)):
        tokens = TOKENS.repeat(75, 1)[:prompts, :2]
        saved = {z: cache_of(model, tokens.flip(0))[z]}
        cells = [[(z, (c % 2, c % 2))] for c in range(n_cells)]
        what = f"{n_cells} cells of {prompts} prompts"
        model.passes.clear()
        got = expect_result(patch_cells, (model, tokens, saved, cells), what)
        most, n = max(model.passes), len(model.passes)
        why = f"at most about ROWS = {ROWS} rows (or one cell) go in one pass, {most} did"
        expect(most <= max(1.1 * ROWS, prompts), f"{what}: {why}")
        expect(n <= passes + 1, f"{what}: forward passes needed {passes}, there were {n}")
        truth = cells_one_by_one(model, tokens, saved, cells)
        expect_close(got, truth, "cell batch vocab", what)


@checks("patch_residual", mistakes=RESIDUAL_MISTAKES)
def test_residual_is_one_place_at_a_time(patch_residual):
    got, truth = patch_residual(MODEL, TOKENS, OTHER), residual_one_by_one(MODEL, TOKENS, OTHER)
    expect_close(got, truth, "depth pos batch vocab", "one run for each place of three layers")
    end = MODEL(OTHER)[:, -1].detach()
    why = "the last place of all decides the answer: the other run's logits"
    expect_close(got[-1, -1], end, "batch vocab", why)


@checks("patch_residual")
def test_residual_of_one_layer(patch_residual):
    got = patch_residual(ONE_LAYER, TOKENS, OTHER)
    truth = residual_one_by_one(ONE_LAYER, TOKENS, OTHER)
    expect_close(got, truth, "depth pos batch vocab", "one run for each place of one layer")


def expect_heads(function, cases):
    """All runs first, so that a mistake is told by all of them."""
    got = [function(*case) for case in cases]
    for case, logits in zip(cases, got):
        truth, what = heads_one_by_one(*case), case[3]
        axes = "layer head pos batch vocab" if case[4] else "layer head batch vocab"
        expect_close(logits, truth, axes, f"{what}: one run for each place")


@checks("patch_heads", mistakes=HEAD_MISTAKES)
def test_heads_one_thing_at_a_time(patch_heads):
    expect_heads(patch_heads, [(MODEL, TOKENS, OTHER, what, False) for what in ("pattern", "k")])


@checks("patch_heads", mistakes=POSITION_MISTAKES)
def test_heads_at_one_position_at_a_time(patch_heads):
    expect_heads(patch_heads, [(MODEL, TOKENS, OTHER, what, True) for what in ("pattern", "z")])


@checks("patch_heads")
def test_heads_of_one_layer(patch_heads):
    expect_heads(patch_heads, [(ONE_LAYER, TOKENS, OTHER, what, True) for what in "qv"])


@checks("sufficiency_and_necessity", mistakes=DIRECTION_MISTAKES)
def test_both_directions_by_running(sufficiency_and_necessity):
    """Cells of several places in several layers; some shares are below 0, some above 1."""
    cells = [
        CELLS[1],
        [("blocks.1.hook_resid_pre", (3,))],
        [(named(2, "v"), (ALL, 1)), (Z, (5, 0))],
    ]
    cells += [[(PATTERN, (1, 2)), ("blocks.0.hook_resid_pre", (2,))]]
    arguments = MODEL, TOKENS, OTHER, cells, GAP
    what = "cells with places in several layers"
    got = expect_result(sufficiency_and_necessity, arguments, what)
    truths = both_ways(*arguments)
    assert min(map(torch.min, truths)) < 0 and max(map(torch.max, truths)) > 1
    for name, values, truth in zip(("sufficient", "necessary"), got, truths):
        expect_close(values.detach(), truth.detach(), "cell", f"{name}, by running each cell")


CASES = [[("blocks.0.attn.hook_z", (-1, 0))], [("blocks.0.attn.hook_z", (-1, 1))]]
CASES += [CASES[0] + CASES[1]]


@checks("sufficiency_and_necessity")
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
    senders = [(0, 1), (1, 0), (2, 1)]
    got = [direct_inputs(MODEL, TOKENS, OTHER, sender) for sender in senders]
    for sender, found in zip(senders, got):
        truth = inputs_by_algebra(MODEL, TOKENS, OTHER, sender)
        missing = sorted(set(truth) - set(found))
        expect(not missing, f"these activations are missing: {missing}")
        for name in truth:
            axes = "batch pos d_model" if name == LAST else "batch pos head d_head"
            why = f"sender {sender[0]}.{sender[1]}, {name}: only its own change"
            expect_close(found[name], truth[name], axes, why)


READERS = [(layer, head, x) for layer in (1, 2) for head in (0, 1) for x in "qkv"]
SEVERAL = [
    [(1, 0, "v"), (2, 1, "k"), (1, 1, "v")],
    [(1, 1, "q"), (2, 0, "v")],
    [(1, 0, "k"), (1, 0, "q"), (2, 0, "k"), (2, 1, "k")],
]


@checks("path_patch", mistakes=PATH_MISTAKES)
def test_paths_are_edges(path_patch):
    got = [path_patch(MODEL, TOKENS, OTHER, (0, 1), receivers) for receivers in SEVERAL]
    for receivers, logits in zip(SEVERAL, got):
        truth = paths_by_algebra(MODEL, TOKENS, OTHER, (0, 1), receivers)
        if logits.ndim == 3:
            expect(False, f"the logits of the last position only, not {list(logits.shape)}")
        why = f"0.1 -> {receivers}: the change through these edges only"
        expect_close(logits, truth, "batch vocab", why)


@checks("path_patch", mistakes=LOGITS_MISTAKES)
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


@checks("attribution_patch", mistakes=SLOPE_MISTAKES)
def test_attribution_is_a_slope(attribution_patch):
    """Of two names at once: what flows through the later one counts for the earlier one."""
    names = [named(0, "z"), named(1, "z")]
    got = attribution_patch(MODEL, TOKENS, OTHER, GAP, names)
    for name, truth in true_slopes(*names).items():
        why = f"{name}: the slope of the metric along (a_other - a), times 1"
        expect_close(got[name], truth, "batch pos head", why)


@checks("attribution_patch")
def test_attribution_is_exact_where_the_rest_is_linear(attribution_patch):
    """After the last softmax everything is linear: the guess equals really patching."""
    at_heads = [(5, 1), (2, 0)]
    places = {named(2, "z"): at_heads, named(2, "v"): at_heads}
    places |= {named(2, "pattern"): [(1, 5), (0, 3)], LAST: [(5,)]}
    with torch.no_grad():  # it must find gradients without gradients around it
        arguments = MODEL, TOKENS, OTHER, GAP, list(places)
        got = expect_result(attribution_patch, arguments, "under torch.no_grad() it must work, too")
        plain = GAP(MODEL(TOKENS)[:, -1])
    for name in places:
        for place in places[name]:
            truth = GAP(run_cell(MODEL, TOKENS, SAVED, [(name, place)])) - plain
            why = f"{name} at {place}: exactly what patching does"
            expect_close(got[name][(ALL, *place)], truth, "batch", why, 1e-9)


@checks("attribution_patch")
def test_attribution_leaves_no_gradients(attribution_patch):
    model = Transformer(MODEL.cfg, seed=1).double()
    attribution_patch(model, TOKENS, OTHER, GAP, [named(1, "z")])
    left = [name for name, parameter in model.named_parameters() if parameter.grad is not None]
    expect(not left, f"it left gradients in the model's {left}: use torch.autograd.grad")
