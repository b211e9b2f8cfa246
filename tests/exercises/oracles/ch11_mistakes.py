"""What people get wrong in chapter 11: the slow oracles with one switch set, by exercise."""

import math
from functools import partial

import torch

from solutions.ch11_patching import ALL, Pairs
from tests.exercises.oracles.ch11 import (
    both_ways,
    cache_of,
    cells_one_by_one,
    final,
    heads_one_by_one,
    inputs_by_running,
    metrics_by_hand,
    named,
    pairs_by_hand,
    paths_by_algebra,
    residual_one_by_one,
    run_cell,
    slopes_by_differences,
)

EXCHANGED = "tokens and other are exchanged: tokens runs, the patch comes from other"


def answers_exchanged(clean, first, second, swap):
    clean, corrupt, right, wrong = pairs_by_hand(clean, first, second, swap)
    return Pairs(clean, corrupt, wrong, right)


PAIR_MISTAKES = {
    "right and wrong are A and C; the answers B and D stand one position later": partial(
        pairs_by_hand, shift=0
    ),
    "the last token was exchanged as well; for key it must stay A": partial(
        pairs_by_hand, question_too=True
    ),
    "only one of the two tokens was replaced, so one token now stands there twice": partial(
        pairs_by_hand, one_only=True
    ),
    "right and wrong are exchanged: right is what follows in clean": answers_exchanged,
    "key and value are mixed up: key swaps A with C, value swaps B with D": partial(
        pairs_by_hand, mixed=True
    ),
}


def averaged_last(patched, clean, corrupt):
    return ((patched - corrupt) / (clean - corrupt)).mean(dim=-1)


def turned_round(patched, clean, corrupt):
    return (clean.mean() - patched.mean(dim=-1)) / (clean.mean() - corrupt.mean())


def by_clean_alone(patched, clean, corrupt):
    return (patched.mean(dim=-1) - corrupt.mean()) / clean.mean()


def clipped(patched, clean, corrupt):
    return (1 - turned_round(patched, clean, corrupt)).clamp(0, 1)


def mean_of_all(patched, clean, corrupt):
    return (patched.mean() - corrupt.mean()) / (clean.mean() - corrupt.mean())


NORMALISED_MISTAKES = {
    "each row was divided by itself and then averaged; average first": averaged_last,
    "the scale is turned round: corrupt must give 0 and clean 1": turned_round,
    "it was divided by clean alone; corrupt has to be subtracted there too": by_clean_alone,
    "the result was clipped to 0 to 1": clipped,
    "the mean ran over all axes; only the last one is the batch": mean_of_all,
}


def raw_logits(logits, clean_logits, right, wrong):
    """compare_metrics with a logit where the log-probability belongs."""
    found = metrics_by_hand(logits, clean_logits, right, wrong)
    return found | {"log-probability": logits[..., torch.arange(len(right)), right]}


METRIC_MISTAKES = {
    "the KL divergence is turned round: the weights are the clean run's probabilities": partial(
        metrics_by_hand, reverse=True
    ),
    "logarithms are to the base 2; nats need the natural one": partial(
        metrics_by_hand, unit=math.log(2)
    ),
    "accuracy compares right with wrong only; right must beat every token": partial(
        metrics_by_hand, duel=True
    ),
    "the probability is shared between right and wrong only; all tokens take part": partial(
        metrics_by_hand, pair=True
    ),
    "the log-probability is a raw logit; take log_softmax first": raw_logits,
}


def rows_mixed_up(model, tokens, saved, cells):
    """patch_cells whose rows lie prompt by prompt, but are patched and read cell by cell."""
    n, batch = len(cells), len(tokens)
    rows = []
    for row in range(n * batch):
        there = {name: x[row % batch, None] for name, x in saved.items()}
        rows.append(run_cell(model, tokens[row // n, None], there, cells[row // batch])[0])
    return torch.stack(rows).unflatten(0, (n, batch))


def first_place_only(model, tokens, saved, cells):
    return cells_one_by_one(model, tokens, saved, [cell[:1] for cell in cells])


CELL_MISTAKES = {
    "every cell got the patches of all cells": partial(cells_one_by_one, joined=True),
    "rows are mixed up: in tokens.repeat(cells, 1) row c * batch + b is prompt b with cell c": (
        rows_mixed_up
    ),
    "every prompt was patched with the first prompt's activation": partial(
        cells_one_by_one, first_prompt=True
    ),
    "only the first place of each cell was patched": first_place_only,
}
RESIDUAL_MISTAKES = {
    EXCHANGED: partial(residual_one_by_one, swapped=True),
    "depth L is the stream *before* layer L": partial(residual_one_by_one, late=True),
    "the last depth, after all layers, is missing": partial(residual_one_by_one, no_last=True),
    "all later positions were patched as well; one position at a time": partial(
        residual_one_by_one, onward=True
    ),
}


def heads_exchanged(model, tokens, other, *args):
    """patch_heads that runs other and patches from tokens."""
    return heads_one_by_one(model, other, tokens, *args)


HEAD_MISTAKES = {
    EXCHANGED: heads_exchanged,
    "a pattern was patched by key; its position is the query": partial(
        heads_one_by_one, by_key=True
    ),
    "the axes of layer and head are exchanged": partial(heads_one_by_one, turned=True),
    "a neighbouring head was patched": partial(heads_one_by_one, neighbour=1),
}
DIRECTION_MISTAKES = {
    "necessary is how much of the metric is lost: 1 minus what remains": partial(
        both_ways, turned=False
    ),
    "the two are exchanged: sufficient comes from the corrupt run with clean cells": partial(
        both_ways, exchanged=True
    ),
    "necessary was computed as 1 - sufficient; it needs runs of its own": partial(
        both_ways, complement=True
    ),
    "both were measured by denoising; necessity needs the clean run with corrupt cells": partial(
        both_ways, only=True
    ),
}
INPUT_MISTAKES = {
    "the other heads were not frozen: they reacted to the sender": partial(
        inputs_by_running, freeze="none"
    ),
    "the other heads were frozen at what they are in other; they stay as in tokens": partial(
        inputs_by_running, freeze="there"
    ),
    "all heads of the sender's layer were replaced": partial(inputs_by_running, whole_layer=True),
}


def paths_exchanged(model, tokens, other, *args):
    """path_patch that runs other and takes the sender from tokens."""
    return paths_by_algebra(model, other, tokens, *args)


def whole_other_run(model, tokens, other, sender, receivers):
    """path_patch with the change of everything between the two runs, not of the sender alone."""
    plain, there = cache_of(model, tokens), cache_of(model, other)
    hooks = []
    for receiver in receivers:
        if receiver == "logits":
            name, index = final(model), (ALL,)
        else:
            name, index = named(receiver[0], receiver[2]), (ALL, ALL, receiver[1])

        def add(x, hook, index=index):
            x[index] += (there[hook.name] - plain[hook.name])[index]
            return x

        hooks.append((name, add))
    return model.run_with_hooks(tokens, hooks)[:, -1].detach()


def last_head_everywhere(model, tokens, other, sender, receivers):
    """What hooks made in a loop do if they name the loop's variable: all of them find the head of
    the last receiver.
    """
    head = next((each[1] for each in reversed(receivers) if each != "logits"), None)
    receivers = [each if each == "logits" else (each[0], head, each[2]) for each in receivers]
    return paths_by_algebra(model, tokens, other, sender, receivers)


PATH_MISTAKES = {
    "all hooks changed the last receiver's head: `head` was read too late; bind it, head=head": (
        last_head_everywhere
    ),
    "the receiver's input was set; add the change, or later receivers miss what earlier ones do": (
        partial(paths_by_algebra, setting=True)
    ),
    "every head of the layer received the change: that is more than one edge": partial(
        paths_by_algebra, all_heads=True
    ),
    "tokens and other are exchanged: tokens runs, the sender's output comes from other": (
        paths_exchanged
    ),
    "the input changed by all that differs between the runs; only the sender may change": (
        whole_other_run
    ),
    "the other heads were not frozen when the input was recorded": partial(
        paths_by_algebra, frozen=False
    ),
}
SLOPE_MISTAKES = {
    "the sign is turned round: it is other minus tokens": partial(slopes_by_differences, sign=-1.0),
    "the gradient was taken in the run on other; it belongs to the run on tokens": partial(
        slopes_by_differences, at_other=True
    ),
    "the gradient was multiplied by a_other alone, not by the difference": partial(
        slopes_by_differences, times="other"
    ),
    "the gradient was not multiplied by the difference": partial(
        slopes_by_differences, times="none"
    ),
    "the metric was averaged over the batch, so each prompt counts too little": partial(
        slopes_by_differences, mean=True
    ),
}
