"""Checks of chapter 11. The oracles: one pass per cell, the algebra of the stream, differences, and
planted gates.
"""

import torch

from minitransformer import Transformer
from minitransformer.planted import gate_model, induction_model, negative_head_model
from solutions.ch11_patching import ALL, ROWS, answer_gap, induction_prompts
from tests.exercises.checking import checks, expect, expect_close
from tests.exercises.oracles.ch11 import (
    CELL_MISTAKES,
    CELLS,
    GAP,
    LAST,
    MODEL,
    NORMALISED_MISTAKES,
    OTHER,
    PAIR_MISTAKES,
    PATH_MISTAKES,
    PATTERN,
    SAVED,
    SMALL,
    TOKENS,
    Z,
    both_ways,
    cache_of,
    cells_one_by_one,
    change,
    heads_one_by_one,
    inputs_by_algebra,
    inputs_by_running,
    metrics_by_hand,
    named,
    paths_by_algebra,
    residual_one_by_one,
    run_cell,
    slopes_by_differences,
    written_change,
)

PROMPTS = induction_prompts(8, 20, torch.Generator().manual_seed(0))
PLANTED = induction_model()


def refuses(function, *args, sentence):
    try:
        function(*args)
    except AssertionError as wrong:  # the guard turns the learner's exceptions into its own
        expect(str(wrong).startswith("ValueError"), f"{sentence}; got {wrong}")
        return
    expect(False, sentence)


@checks("corrupt_pairs", mistakes=PAIR_MISTAKES)
def test_pairs_swap_their_answers(corrupt_pairs):
    """The oracle is the hand-built induction model: it knows what follows."""
    for swap in ("key", "value", "query"):
        pairs = corrupt_pairs(PROMPTS, 3, 9, swap)
        expect(len(pairs) == 4, "it must return Pairs(clean, corrupt, right, wrong)")
        for tokens, answer, name in (
            (pairs[0], pairs[2], "clean"),
            (pairs[1], pairs[3], "corrupt"),
        ):
            got = PLANTED(tokens)[:, -1].argmax(dim=-1)
            expect(
                torch.equal(got, answer),
                f"swap {swap!r}: a perfect induction model answers {name} with another token",
            )
        changed = (pairs[0] != pairs[1]).any(dim=0).nonzero().flatten().tolist()
        truth = {"key": [3, 9], "value": [4, 10], "query": [13]}[swap]
        expect(
            changed == truth,
            f"swap {swap!r}: positions {truth} must differ from clean, positions {changed} do",
        )
        if swap != "query":
            kept = torch.equal(pairs[1].sort(dim=1).values, PROMPTS.sort(dim=1).values)
            expect(
                kept, f"swap {swap!r}: corrupt must hold the same tokens as clean, in another order"
            )


@checks("corrupt_pairs")
def test_pairs_refuse_what_cannot_be(corrupt_pairs):
    # as far out, and as close, as is still possible
    for first, second in ((9, 3), (1, 3), (11, 9)):
        corrupt = corrupt_pairs(PROMPTS, first, second, "key")[1]
        expect(
            torch.equal(corrupt[:, first], PROMPTS[:, second]),
            f"A at {first}, C at {second} is possible in 14 tokens",
        )
    for first, second, swap in ((3, 4, "key"), (3, 12, "key"), (0, 9, "value"), (3, 9, "keys")):
        refuses(
            corrupt_pairs,
            PROMPTS,
            first,
            second,
            swap,
            sentence=f"{swap} of {first} and {second}: raise ValueError",
        )


PATCHED = torch.tensor([[4.0, -2.0, 0.5], [9.0, 9.0, 9.0]]).double()
CLEAN, CORRUPT = torch.tensor([3.0, 1.0, 2.0]).double(), torch.tensor([-1.0, 0.5, -3.0]).double()


@checks("normalised_metric", mistakes=NORMALISED_MISTAKES)
def test_normalised_from_0_to_1(normalised_metric):
    low, high = -3.5 / 3, 2.0
    truth = torch.tensor([(2.5 / 3 - low) / (high - low), (9 - low) / (high - low)]).double()
    expect_close(
        normalised_metric(PATCHED, CLEAN, CORRUPT),
        truth,
        "cell",
        "the means first, then the fraction",
    )
    ends = normalised_metric(torch.stack([CORRUPT, CLEAN]), CLEAN, CORRUPT)
    expect_close(
        ends,
        torch.tensor([0.0, 1.0]).double(),
        "cell",
        "nothing restored is 0, everything restored is 1",
    )
    refuses(
        normalised_metric,
        PATCHED,
        CLEAN,
        CLEAN.flip(0),
        sentence="equal means of clean and corrupt: raise ValueError",
    )


# cell batch vocab
LOGITS = 3 * torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(4)).double()
REFERENCE = 3 * torch.randn(3, 5, generator=torch.Generator().manual_seed(5)).double()
RIGHT, WRONG = torch.tensor([2, 0, 4]), torch.tensor([1, 3, 0])


@checks(
    "compare_metrics",
    mistakes={
        "the KL divergence is turned round: the weights are the clean run's probabilities": change(
            metrics_by_hand, reverse=True
        ),
        "logarithms are to the base 2; nats need the natural one": change(
            metrics_by_hand, unit=0.6931471805599453
        ),
        "accuracy compares right with wrong only; right must beat every token": change(
            metrics_by_hand, duel=True
        ),
        "the probability is shared between right and wrong only; all tokens take part": change(
            metrics_by_hand, pair=True
        ),
    },
)
def test_metrics_are_their_definitions(compare_metrics):
    for logits in (LOGITS, REFERENCE):
        got, truth = (
            f(logits, REFERENCE, RIGHT, WRONG) for f in (compare_metrics, metrics_by_hand)
        )
        expect(
            list(got) == list(truth),
            f"expected the keys {list(truth)}, in this order, got {list(got)}",
        )
        for name in truth:
            expect_close(
                got[name], truth[name], "cell batch" if logits.ndim == 3 else "batch", name
            )


@checks("compare_metrics")
def test_probability_hides_the_negative_head(compare_metrics):
    """The planted head 1.1 takes 6 off the right logit: probability hardly sees it, the logit
    difference does.
    """
    model = negative_head_model().double()
    without = [(named(1, "z"), (ALL, 1))]
    nothing = {named(1, "z"): torch.zeros_like(cache_of(model, PROMPTS)[named(1, "z")])}
    right, wrong = PROMPTS[:, 4], PROMPTS[:, 10]
    for logits, logit in (
        (model(PROMPTS)[:, -1].detach(), 10.0),
        (run_cell(model, PROMPTS, nothing, without), 16.0),
    ):
        got, truth = compare_metrics(logits, logits, right, wrong), torch.full((8,), logit).double()
        expect_close(
            got["logit difference"],
            truth,
            "batch",
            "s = 16, less 6 while the negative head is there",
        )
        expect_close(
            got["probability"],
            1 / (1 + 19 * torch.exp(-truth)),
            "batch",
            "one logit of 10 or 16, nineteen of 0",
        )


MANY = 4  # cells in one group, when there are this many prompts: ROWS // MANY


@checks("patch_cells", mistakes=CELL_MISTAKES)
def test_cells_do_not_disturb_each_other(patch_cells):
    truth = cells_one_by_one(MODEL, TOKENS, SAVED, CELLS)
    got = patch_cells(MODEL, TOKENS, dict(SAVED), CELLS)
    expect_close(got, truth, "cell batch vocab", "one pass per cell must give the same")


@checks(
    "patch_cells",
    mistakes={
        "later groups were patched with the cells of the first group": change(
            cells_one_by_one, group=MANY
        )
    },
)
def test_cells_in_several_groups(patch_cells):
    tokens, saved = (
        TOKENS.repeat(ROWS // MANY // 2, 1),
        cache_of(SMALL, OTHER.repeat(ROWS // MANY // 2, 1)),
    )
    cells = [[(Z, (pos, pos % 2))] for pos in range(5)] + [[("blocks.1.hook_resid_post", (4,))]]
    got, truth = (
        patch_cells(SMALL, tokens, dict(saved), cells),
        cells_one_by_one(SMALL, tokens, saved, cells),
    )
    expect_close(got, truth, "cell batch vocab", "more cells than fit in one pass")


class Counting(Transformer):
    """A model that counts the sequences of each of its forward passes."""

    def forward(self, tokens, *hook):
        self.passes.append(len(tokens))
        return super().forward(tokens, *hook)


@checks(
    "patch_cells",
    mistakes={"there is one forward pass per cell; the cells must share one": cells_one_by_one},
)
def test_cells_share_a_forward_pass(patch_cells):
    model = Counting(MODEL.cfg, seed=5).double()
    model.passes = []
    patch_cells(model, TOKENS, dict(SAVED), CELLS)
    expect(
        len(model.passes) == 1,
        f"{len(CELLS)} cells fit in one forward pass, there were {len(model.passes)}",
    )


@checks(
    "patch_residual",
    mistakes={
        "tokens and other are exchanged: tokens runs, the patch comes from other": change(
            residual_one_by_one, swapped=True
        ),
        "depth L is the stream *before* layer L": change(residual_one_by_one, late=True),
        "the last depth, after all layers, is missing": change(residual_one_by_one, no_last=True),
        "all later positions were patched as well; one position at a time": change(
            residual_one_by_one, onward=True
        ),
    },
)
def test_residual_is_one_place_at_a_time(patch_residual):
    got = patch_residual(SMALL, TOKENS, OTHER)
    expect_close(
        got,
        residual_one_by_one(SMALL, TOKENS, OTHER),
        "depth pos batch vocab",
        "one run for each place",
    )
    end = SMALL(OTHER)[:, -1].detach()
    expect_close(
        got[-1, -1],
        end,
        "batch vocab",
        "the last place of all decides the answer: the other run's logits",
    )


@checks(
    "patch_heads",
    mistakes={
        "tokens and other are exchanged: tokens runs, the patch comes from other": change(
            heads_one_by_one, swapped=True
        ),
        "a pattern was patched by key; its position is the query": change(
            heads_one_by_one, by_key=True
        ),
        "the axes of layer and head are exchanged": change(heads_one_by_one, turned=True),
        "a neighbouring head was patched": change(heads_one_by_one, neighbour=1),
    },
)
def test_heads_one_thing_at_a_time(patch_heads):
    for what, by_position in (("z", True), ("pattern", True), ("k", False), ("pattern", False)):
        got = patch_heads(SMALL, TOKENS, OTHER, what, by_position)
        truth, axes = (
            heads_one_by_one(SMALL, TOKENS, OTHER, what, by_position),
            "layer head pos batch vocab",
        )
        expect_close(
            got,
            truth,
            axes if by_position else "layer head batch vocab",
            f"{what}: one run for each place",
        )


CASES = [[("blocks.0.attn.hook_z", (-1, 0))], [("blocks.0.attn.hook_z", (-1, 1))]]
CASES += [CASES[0] + CASES[1]]


@checks(
    "sufficiency_and_necessity",
    mistakes={
        "necessary is how much of the metric is lost: 1 minus what remains": change(
            both_ways, turned=False
        ),
        "the two are exchanged: sufficient comes from the corrupt run with clean cells": change(
            both_ways, exchanged=True
        ),
        "both were measured by denoising; necessity needs the clean run with corrupt cells": change(
            both_ways, only=True
        ),
    },
)
def test_gates_tell_the_directions_apart(sufficiency_and_necessity):
    """The planted gates: AND needs both heads, OR is content with one."""
    for kind, truths in {"and": ([0, 0, 1], [1, 1, 1]), "or": ([1, 1, 1], [0, 0, 1])}.items():
        gate = gate_model(kind)
        metric = answer_gap(torch.tensor([gate.right]), torch.tensor([gate.wrong]))
        got = sufficiency_and_necessity(gate.model, gate.clean, gate.corrupt, CASES, metric)
        for name, values, truth in zip(("sufficient", "necessary"), got, truths):
            why = f"{kind.upper()} gate, {name}: first head, second head, both"
            expect_close(values.detach(), torch.tensor(truth).float(), "cell", why, 1e-4)


@checks(
    "direct_inputs",
    mistakes={
        "the other heads were not frozen: they reacted to the sender": change(
            inputs_by_running, freeze="none"
        ),
        "the other heads were frozen at what they are in other; they stay as in tokens": change(
            inputs_by_running, freeze="there"
        ),
        "all heads of the sender's layer were replaced": change(
            inputs_by_running, whole_layer=True
        ),
    },
)
def test_only_the_sender_changes(direct_inputs):
    for sender in ((0, 1), (1, 0), (2, 1)):
        got, truth = (
            direct_inputs(MODEL, TOKENS, OTHER, sender),
            inputs_by_algebra(MODEL, TOKENS, OTHER, sender),
        )
        expect(
            set(truth) <= set(got),
            f"these activations are missing: {sorted(set(truth) - set(got))}",
        )
        for name in truth:
            axes = "batch pos d_model" if name == LAST else "batch pos head d_head"
            expect_close(
                got[name],
                truth[name],
                axes,
                f"sender {sender[0]}.{sender[1]}, {name}: only its own change",
            )


READERS = [(layer, head, x) for layer in (1, 2) for head in (0, 1) for x in "qkv"]


@checks("path_patch", mistakes=PATH_MISTAKES)
def test_paths_are_edges(path_patch):
    for receivers in (
        [(2, 1, "k")],
        [(1, 0, "v")],
        [(1, 1, "q"), (2, 0, "v")],
        ["logits", (2, 0, "k")],
    ):
        got, truth = (
            f(MODEL, TOKENS, OTHER, (0, 1), receivers) for f in (path_patch, paths_by_algebra)
        )
        expect_close(
            got, truth, "batch vocab", f"0.1 -> {receivers}: the change through these edges only"
        )


@checks("path_patch")
def test_paths_to_everybody_are_the_node(path_patch):
    """The two identities: all edges together are activation patching, the edge to the logits is the
    direct effect.
    """
    node = run_cell(MODEL, TOKENS, SAVED, [(named(0, "z"), (ALL, 1))])
    got = path_patch(MODEL, TOKENS, OTHER, (0, 1), [*READERS, "logits"])
    expect_close(
        got, node, "batch vocab", "all outgoing edges of 0.1 together: the same as patching 0.1"
    )
    direct = (MODEL(TOKENS) + written_change(MODEL, TOKENS, OTHER, (0, 1)) @ MODEL.W_U)[
        :, -1
    ].detach()
    got = path_patch(MODEL, TOKENS, OTHER, (0, 1), ["logits"])
    expect_close(got, direct, "batch vocab", "the edge to the logits: what 0.1 writes, times W_U")


@checks("attribution_patch")
def test_attribution_is_exact_where_the_rest_is_linear(attribution_patch):
    """After the last softmax everything is linear, so the guess equals really patching. Without
    gradients around it.
    """
    names = [named(2, "z"), named(2, "v"), named(2, "pattern"), LAST]
    with torch.no_grad():
        got = attribution_patch(MODEL, TOKENS, OTHER, GAP, names)
        plain = GAP(MODEL(TOKENS)[:, -1])
    for name in names:
        for place in (
            [(4,)] if name == LAST else [(1, 4), (0, 3)] if name == PATTERN else [(4, 1), (2, 0)]
        ):
            truth = GAP(run_cell(MODEL, TOKENS, SAVED, [(name, place)])) - plain
            expect_close(
                got[name][(ALL, *place)],
                truth,
                "batch",
                f"{name} at {place}: exactly what patching does",
                1e-9,
            )


@checks(
    "attribution_patch",
    mistakes={
        "the sign is turned round: it is other minus tokens": change(
            slopes_by_differences, sign=-1.0
        ),
        "the gradient was taken in the run on other; it belongs to the run on tokens": change(
            slopes_by_differences, at_other=True
        ),
        "the gradient was multiplied by a_other alone, not by the difference": change(
            slopes_by_differences, times="other"
        ),
        "the gradient was not multiplied by the difference": change(
            slopes_by_differences, times="none"
        ),
        "the metric was averaged over the batch, so each prompt counts too little": change(
            slopes_by_differences, mean=True
        ),
    },
)
def test_attribution_is_a_slope(attribution_patch):
    got, truth = (
        f(SMALL, TOKENS, OTHER, GAP, ["blocks.0.hook_resid_pre"])
        for f in (attribution_patch, slopes_by_differences)
    )
    (got,), (truth,) = got.values(), truth.values()
    expect_close(got, truth, "batch pos", "the slope of the metric along (a_other - a), times 1")
