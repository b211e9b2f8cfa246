"""Slow oracles for chapter 11, with switches that turn them into the usual mistakes. One pass per
cell, no batching.
"""

import functools
import itertools
import math

import torch

from minitransformer import ModelConfig, Transformer
from minitransformer.data import random_tokens
from solutions.ch11_patching import ALL, Pairs, answer_gap

MODEL = Transformer(
    ModelConfig(n_layers=3, n_heads=2, d_model=8, d_head=4, d_vocab=11, n_ctx=6), seed=5
).double()
SMALL = Transformer(
    ModelConfig(n_heads=2, d_model=8, d_head=4, d_vocab=11, n_ctx=6), seed=5
).double()
TOKENS, OTHER = (random_tokens(2, 5, 11, torch.Generator().manual_seed(seed)) for seed in (1, 2))
GAP = answer_gap(torch.tensor([3, 4]), torch.tensor([7, 2]))
LAST = "blocks.2.hook_resid_post"


def cache_of(model, tokens):
    return model.run_with_cache(tokens)[1]


def named(layer, what):
    return f"blocks.{layer}.attn.hook_{what}"


def run_cell(model, tokens, saved, cell):
    """One run with one cell patched, place by place: [batch, vocab]."""

    def put(index, name):
        def hook_fn(activation, hook):
            activation[(ALL, *index)] = saved[name][(ALL, *index)]
            return activation

        return hook_fn

    return model.run_with_hooks(tokens, [(name, put(index, name)) for name, index in cell])[
        :, -1
    ].detach()


def cells_one_by_one(
    model, tokens, saved, cells, joined=False, mixed=False, first_prompt=False, group=None
):
    """patch_cells with one pass per cell; the switches are mistakes."""
    # the rows lie prompt by prompt (repeat_interleave), but are patched and read cell by cell
    if mixed:
        n, batch = len(cells), len(tokens)
        rows = [
            (tokens[r // n, None], {name: x[r % batch, None] for name, x in saved.items()})
            for r in range(n * batch)
        ]
        return torch.stack(
            [run_cell(model, *row, cells[r // batch])[0] for r, row in enumerate(rows)]
        ).unflatten(0, (n, batch))
    if joined:
        cells = [[place for cell in cells for place in cell]] * len(cells)
    if first_prompt:
        saved = {name: value[:1].expand_as(value) for name, value in saved.items()}
    if group:
        cells = [cells[number % group] for number in range(len(cells))]
    logits = torch.stack([run_cell(model, tokens, saved, cell) for cell in cells])
    return logits


def residual_one_by_one(
    model, tokens, other, swapped=False, late=False, no_last=False, onward=False
):
    """patch_residual by loops; the switches are mistakes."""
    tokens, other = (other, tokens) if swapped else (tokens, other)
    saved, layers = cache_of(model, other), range(model.cfg.n_layers)
    names = [f"blocks.{layer}.hook_resid_{'post' if late else 'pre'}" for layer in layers]
    names += [] if no_last else [f"blocks.{model.cfg.n_layers - 1}.hook_resid_post"]
    n = tokens.shape[1]
    rows = [
        [
            run_cell(model, tokens, saved, [(name, (slice(pos, n if onward else pos + 1),))])
            for pos in range(n)
        ]
        for name in names
    ]
    return torch.stack([torch.stack(row) for row in rows])


def heads_one_by_one(
    model,
    tokens,
    other,
    what,
    by_position=False,
    swapped=False,
    by_key=False,
    turned=False,
    neighbour=0,
):
    """patch_heads by loops; the switches are mistakes."""
    tokens, other = (other, tokens) if swapped else (tokens, other)
    saved, n, H = cache_of(model, other), tokens.shape[1], model.cfg.n_heads
    logits = []
    for layer, head, pos in itertools.product(
        range(model.cfg.n_layers), range(H), range(n) if by_position else [ALL]
    ):
        place = (pos, (head + neighbour) % H)
        if what == "pattern":
            place = (place[1], ALL, pos) if by_key else (place[1], pos)
        logits.append(run_cell(model, tokens, saved, [(named(layer, what), place)]))
    shape = (model.cfg.n_layers, H, n) if by_position else (model.cfg.n_layers, H)
    logits = torch.stack(logits).unflatten(0, shape)
    return logits.transpose(0, 1) if turned else logits


def both_ways(model, clean, corrupt, cells, metric, turned=True, exchanged=False, only=None):
    """sufficiency_and_necessity in plain numbers; the switches are mistakes."""
    good, bad = (metric(model(x)[:, -1]).mean() for x in (clean, corrupt))
    share = []
    for tokens, other in ((corrupt, clean), (clean, corrupt)):
        values = [
            metric(run_cell(model, tokens, cache_of(model, other), cell)).mean() for cell in cells
        ]
        share.append((torch.stack(values) - bad) / (good - bad))
    sufficient, necessary = share[0], 1 - share[1] if turned else share[1]
    if only:
        return sufficient, sufficient
    return (necessary, sufficient) if exchanged else (sufficient, necessary)


def written_change(model, tokens, other, sender):
    """What the sender would add to the stream in the other run, less what it adds in this one:
    [batch, pos, d_model].
    """
    layer, head = sender
    here, there = (cache_of(model, x)[named(layer, "z")][:, :, head] for x in (tokens, other))
    return (there - here) @ model.W_O[layer, head].detach()


def inputs_by_algebra(model, tokens, other, sender):
    """direct_inputs without running anything twice: only the sender's change, through each reader's
    own weights.
    """
    plain, change, layers = (
        cache_of(model, tokens),
        written_change(model, tokens, other, sender),
        range(model.cfg.n_layers),
    )
    truth = {named(layer, x): plain[named(layer, x)].clone() for layer in layers for x in "qkv"}
    for layer in range(sender[0] + 1, model.cfg.n_layers):
        for x, W in zip("qkv", (model.W_Q[layer], model.W_K[layer], model.W_V[layer])):
            truth[named(layer, x)] += torch.einsum("bpm,hmd->bphd", change, W.detach())
    last = f"blocks.{model.cfg.n_layers - 1}.hook_resid_post"
    return truth | {last: plain[last] + change}


def inputs_by_running(model, tokens, other, sender, freeze="here", whole_layer=False):
    """direct_inputs by running; freeze = "none" or "there", or a whole layer for a sender, is a
    mistake.
    """
    here, there, hooks = cache_of(model, tokens), cache_of(model, other), []
    for layer in range(model.cfg.n_layers):

        def fix(z, hook, layer=layer):
            z = {"none": z, "here": here[hook.name], "there": there[hook.name]}[freeze].clone()
            if layer == sender[0]:
                heads = ALL if whole_layer else sender[1]
                z[:, :, heads] = there[hook.name][:, :, heads]
            return z

        hooks.append((named(layer, "z"), fix))
    read = [named(layer, x) for layer in range(model.cfg.n_layers) for x in "qkv"]
    return dict(
        model.run_with_cache(
            tokens, [*read, f"blocks.{model.cfg.n_layers - 1}.hook_resid_post"], hooks
        )[1]
    )


def paths_by_algebra(
    model,
    tokens,
    other,
    sender,
    receivers,
    setting=False,
    all_heads=False,
    swapped=False,
    frozen=True,
):
    """path_patch from inputs_by_algebra; the switches are mistakes."""
    tokens, other = (other, tokens) if swapped else (tokens, other)
    read = inputs_by_algebra if frozen else (lambda *x: inputs_by_running(*x, freeze="none"))
    plain, direct = cache_of(model, tokens), read(model, tokens, other, sender)
    hooks = []
    for receiver in receivers:
        name = (
            f"blocks.{model.cfg.n_layers - 1}.hook_resid_post"
            if receiver == "logits"
            else named(receiver[0], receiver[2])
        )
        mask = torch.ones(())
        if receiver != "logits" and not all_heads:
            mask = (torch.arange(model.cfg.n_heads) == receiver[1])[:, None].double()

        def move(x, hook, mask=mask):
            moved = direct[hook.name] if setting else x + direct[hook.name] - plain[hook.name]
            return x * (1 - mask) + moved * mask

        hooks.append((name, move))
    return model.run_with_hooks(tokens, hooks)[:, -1].detach()


def slopes_by_differences(
    model,
    tokens,
    other,
    metric,
    names,
    h=1e-5,
    sign=1.0,
    at_other=False,
    times="difference",
    mean=False,
):
    """attribution_patch by central differences, one number at a time along (a_other - a); the
    switches are mistakes.
    """
    run, found = other if at_other else tokens, {}
    here, there = cache_of(model, tokens), cache_of(model, other)
    for name in names:
        direction = {
            "difference": there[name] - here[name],
            "other": there[name],
            "none": torch.ones_like(here[name]),
        }[times]
        result = torch.zeros(direction.shape[:-1], dtype=direction.dtype)
        for spot in itertools.product(*(range(size) for size in result.shape[1:])):

            def moved(step, name=name, spot=spot, direction=direction):
                def add(x, hook):
                    x[(ALL, *spot)] += step * direction[(ALL, *spot)]
                    return x

                return metric(model.run_with_hooks(run, [(name, add)])[:, -1]).detach()

            result[(ALL, *spot)] = sign * (moved(h) - moved(-h)) / (2 * h)
        found[name] = result / len(tokens) if mean else result
    return found


def pairs_by_hand(
    clean,
    first,
    second,
    swap,
    shift=1,
    question_too=False,
    one_only=False,
    exchanged=False,
    mixed=False,
):
    """corrupt_pairs row by row; the switches are mistakes."""
    rows = []
    for row in clean.tolist():
        a, c, after = row[first], row[second], (swap == "value") != (mixed and swap != "query")
        new = list(row)
        if swap == "query":
            new[-1] = c
        else:
            new[first + after] = row[second + after]
            new[second + after] = row[second + after] if one_only else row[first + after]
            if question_too and swap == "key":
                new[-1] = c if new[-1] == a else a
        rows.append(new)
    answers = clean[:, first + shift], clean[:, second + shift]
    return Pairs(clean, torch.tensor(rows), *(answers[::-1] if exchanged else answers))


def metrics_by_hand(
    logits, clean_logits, right, wrong, reverse=False, unit=1.0, duel=False, pair=False, at=0
):
    """compare_metrics in plain numbers; the switches are mistakes."""
    names = ("probability", "log-probability", "logit difference", "accuracy", "KL")
    found = {name: torch.zeros(logits.shape[:-1], dtype=logits.dtype) for name in names}
    for *cell, b in (
        torch.cartesian_prod(*(torch.arange(n) for n in logits.shape[:-1]))
        .reshape(-1, logits.ndim - 1)
        .tolist()
    ):
        spot, row, clean = (*cell, b), logits[(*cell, b)].tolist(), clean_logits[b].tolist()
        r, w = int(right[b]), int(wrong[b])
        q, p = (
            [math.exp(x) / sum(map(math.exp, values)) for x in values] for values in (row, clean)
        )
        found["probability"][spot] = (
            math.exp(row[r]) / (math.exp(row[r]) + math.exp(row[w])) if pair else q[r]
        )
        found["log-probability"][spot] = math.log(q[r]) / unit
        found["logit difference"][spot] = row[r] - row[w]
        found["accuracy"][spot] = float(row[r] > row[w]) if duel else float(row[r] == max(row))
        p, q = (q, p) if reverse else (p, q)
        found["KL"][spot] = sum(x * (math.log(x) - math.log(y)) for x, y in zip(p, q)) / unit
    return found


change = functools.partial
PAIR_MISTAKES = {
    "right and wrong are A and C; the answers B and D stand one position later": change(
        pairs_by_hand, shift=0
    ),
    "the last token was exchanged as well; for key it must stay A": change(
        pairs_by_hand, question_too=True
    ),
    "only one of the two tokens was replaced, so one token now stands there twice": change(
        pairs_by_hand, one_only=True
    ),
    "right and wrong are exchanged: right is what follows in clean": change(
        pairs_by_hand, exchanged=True
    ),
    "key and value are mixed up: key swaps A with C, value swaps B with D": change(
        pairs_by_hand, mixed=True
    ),
}
NORMALISED_MISTAKES = {
    "each row was divided by itself and then averaged; average first": (
        lambda p, clean, corrupt: ((p - corrupt) / (clean - corrupt)).mean(dim=-1)
    ),
    "the scale is turned round: corrupt must give 0 and clean 1": (
        lambda p, clean, corrupt: (clean.mean() - p.mean(dim=-1)) / (clean.mean() - corrupt.mean())
    ),
    "it was divided by clean alone; corrupt has to be subtracted there too": (
        lambda p, clean, corrupt: (p.mean(dim=-1) - corrupt.mean()) / clean.mean()
    ),
    "the result was clipped to 0 to 1": (
        lambda p, clean, corrupt: (
            (p.mean(dim=-1) - corrupt.mean()) / (clean.mean() - corrupt.mean())
        ).clamp(0, 1)
    ),
    "the mean ran over all axes; only the last one is the batch": (
        lambda p, clean, corrupt: (p.mean() - corrupt.mean()) / (clean.mean() - corrupt.mean())
    ),
}
CELL_MISTAKES = {
    "every cell got the patches of all cells": change(cells_one_by_one, joined=True),
    "rows are mixed up: row c * batch + b is prompt b with cell c, as tokens.repeat(cells, 1) lays them out": (
        change(cells_one_by_one, mixed=True)
    ),
    "every prompt was patched with the first prompt's activation": change(
        cells_one_by_one, first_prompt=True
    ),
    "only the first place of each cell was patched": (
        lambda model, tokens, saved, cells: cells_one_by_one(
            model, tokens, saved, [cell[:1] for cell in cells]
        )
    ),
}


def last_head_everywhere(model, tokens, other, sender, receivers):
    """What hooks made in a loop do if they name the loop's variable: all of them find the head of
    the last receiver.
    """
    head = next((each[1] for each in reversed(receivers) if each != "logits"), None)
    receivers = [each if each == "logits" else (each[0], head, each[2]) for each in receivers]
    return paths_by_algebra(model, tokens, other, sender, receivers)


PATH_MISTAKES = {
    "all hooks changed the last receiver's head: a function in a loop reads `head` too late; bind it, head=head": (
        last_head_everywhere
    ),
    "the receiver's input was set; add the change, or later receivers miss what earlier ones do": (
        change(paths_by_algebra, setting=True)
    ),
    "every head of the layer received the change: that is more than one edge": change(
        paths_by_algebra, all_heads=True
    ),
    "tokens and other are exchanged: tokens runs, the sender's output comes from other": change(
        paths_by_algebra, swapped=True
    ),
    "the other heads were not frozen when the input was recorded": change(
        paths_by_algebra, frozen=False
    ),
}

Z, PATTERN = named(1, "z"), named(2, "pattern")
SAVED = cache_of(MODEL, OTHER)
CELLS = [
    [("blocks.0.hook_resid_pre", (3,))],
    [(Z, (ALL, 1)), (PATTERN, (0, 4))],
    [(Z, (2, 0)), (Z, (4, 1))],
    [(named(0, "k"), (ALL, 1)), ("blocks.0.hook_resid_pre", (4,))],
]
