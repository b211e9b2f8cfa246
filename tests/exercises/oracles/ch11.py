"""Slow oracles for chapter 11: one pass per cell, no batching. Switches make the usual mistakes."""

import itertools
import math

import torch

from minitransformer.data import random_tokens
from solutions.ch11_patching import ALL, Pairs, answer_gap
from tests.material import seeded, small_model

MODEL = small_model(5, n_layers=3, n_heads=2)
SMALL = small_model(5, n_heads=2)
TOKENS, OTHER = random_tokens(2, 5, 11, seeded(1)), random_tokens(2, 5, 11, seeded(2))
GAP = answer_gap(torch.tensor([3, 4]), torch.tensor([7, 2]))
LAST = "blocks.2.hook_resid_post"


def cache_of(model, tokens):
    return model.run_with_cache(tokens)[1]


def named(layer, what):
    return f"blocks.{layer}.attn.hook_{what}"


def final(model):
    return f"blocks.{model.cfg.n_layers - 1}.hook_resid_post"


def run_cell(model, tokens, saved, cell):
    """One run with one cell patched, place by place: [batch, vocab]."""

    def put(index, name):
        def hook_fn(activation, hook):
            activation[(ALL, *index)] = saved[name][(ALL, *index)]
            return activation

        return hook_fn

    hooks = [(name, put(index, name)) for name, index in cell]
    return model.run_with_hooks(tokens, hooks)[:, -1].detach()


def cells_one_by_one(model, tokens, saved, cells, joined=False, first_prompt=False, group=None):
    """patch_cells with one pass per cell; the switches are mistakes."""
    if joined:
        cells = [[place for cell in cells for place in cell]] * len(cells)
    if first_prompt:
        saved = {name: value[:1].expand_as(value) for name, value in saved.items()}
    if group:
        cells = [cells[number % group] for number in range(len(cells))]
    return torch.stack([run_cell(model, tokens, saved, cell) for cell in cells])


def residual_one_by_one(
    model, tokens, other, swapped=False, late=False, no_last=False, onward=False
):
    """patch_residual by loops; the switches are mistakes."""
    tokens, other = (other, tokens) if swapped else (tokens, other)
    saved, n = cache_of(model, other), tokens.shape[1]
    kind = "post" if late else "pre"
    names = [f"blocks.{layer}.hook_resid_{kind}" for layer in range(model.cfg.n_layers)]
    if not no_last:
        names.append(final(model))
    logits = []
    for name in names:
        for pos in range(n):
            place = slice(pos, n if onward else pos + 1)
            logits.append(run_cell(model, tokens, saved, [(name, (place,))]))
    return torch.stack(logits).unflatten(0, (len(names), n))


def heads_one_by_one(
    model, tokens, other, what, by_position=False, *, by_key=False, turned=False, neighbour=0
):
    """patch_heads by loops; the switches are mistakes."""
    saved, n_heads = cache_of(model, other), model.cfg.n_heads
    positions = list(range(tokens.shape[1])) if by_position else [ALL]
    layers, logits = range(model.cfg.n_layers), []
    for layer, head, pos in itertools.product(layers, range(n_heads), positions):
        place = (pos, (head + neighbour) % n_heads)
        if what == "pattern":
            place = (place[1], ALL, pos) if by_key else (place[1], pos)
        logits.append(run_cell(model, tokens, saved, [(named(layer, what), place)]))
    shape = (len(layers), n_heads, len(positions)) if by_position else (len(layers), n_heads)
    logits = torch.stack(logits).unflatten(0, shape)
    return logits.transpose(0, 1) if turned else logits


def both_ways(
    model, clean, corrupt, cells, metric, turned=True, exchanged=False, only=False, complement=False
):
    """sufficiency_and_necessity in plain numbers; the switches are mistakes."""
    good, bad = metric(model(clean)[:, -1]).mean(), metric(model(corrupt)[:, -1]).mean()

    def shares(tokens, other):
        saved = cache_of(model, other)
        values = [metric(run_cell(model, tokens, saved, cell)).mean() for cell in cells]
        return (torch.stack(values) - bad) / (good - bad)

    sufficient, necessary = shares(corrupt, clean), shares(clean, corrupt)
    if turned:
        necessary = 1 - necessary
    if only:
        return sufficient, sufficient
    if complement:
        return sufficient, 1 - sufficient
    return (necessary, sufficient) if exchanged else (sufficient, necessary)


def written_change(model, tokens, other, sender):
    """What the sender would add to the stream in the other run, less what it adds in this one."""
    layer, head = sender
    here = cache_of(model, tokens)[named(layer, "z")][:, :, head]
    there = cache_of(model, other)[named(layer, "z")][:, :, head]
    return (there - here) @ model.W_O[layer, head].detach()  # batch pos d_model


def inputs_by_algebra(model, tokens, other, sender):
    """direct_inputs without running anything twice: only the sender's change, through each reader's
    own weights.
    """
    plain, change = cache_of(model, tokens), written_change(model, tokens, other, sender)
    truth = {final(model): plain[final(model)] + change}
    for layer in range(model.cfg.n_layers):
        for x, W in zip("qkv", (model.W_Q[layer], model.W_K[layer], model.W_V[layer])):
            heard = torch.einsum("bpm,hmd->bphd", change, W.detach())
            if layer <= sender[0]:
                heard = 0
            truth[named(layer, x)] = plain[named(layer, x)] + heard
    return truth


def inputs_by_running(model, tokens, other, sender, freeze="here", whole_layer=False):
    """direct_inputs by running; freeze = "none" or "there", or a whole layer for a sender, is a
    mistake.
    """
    here, there = cache_of(model, tokens), cache_of(model, other)
    own_layer, heads = named(sender[0], "z"), ALL if whole_layer else sender[1]

    def fix(z, hook):
        frozen = {"none": z, "here": here[hook.name], "there": there[hook.name]}[freeze].clone()
        if hook.name == own_layer:
            frozen[:, :, heads] = there[hook.name][:, :, heads]
        return frozen

    layers = range(model.cfg.n_layers)
    read = [named(layer, x) for layer in layers for x in "qkv"]
    hooks = [(named(layer, "z"), fix) for layer in layers]
    return dict(model.run_with_cache(tokens, [*read, final(model)], hooks)[1])


def paths_by_algebra(
    model, tokens, other, sender, receivers, *, setting=False, all_heads=False, frozen=True
):
    """path_patch from inputs_by_algebra; the switches are mistakes."""
    plain = cache_of(model, tokens)
    if frozen:
        direct = inputs_by_algebra(model, tokens, other, sender)
    else:
        direct = inputs_by_running(model, tokens, other, sender, freeze="none")
    hooks = []
    for receiver in receivers:
        name = final(model) if receiver == "logits" else named(receiver[0], receiver[2])
        mask = torch.ones(())
        if receiver != "logits" and not all_heads:
            mask = (torch.arange(model.cfg.n_heads) == receiver[1])[:, None].double()

        def move(x, hook, mask=mask):
            moved = direct[hook.name] if setting else x + direct[hook.name] - plain[hook.name]
            return x * (1 - mask) + moved * mask

        hooks.append((name, move))
    return model.run_with_hooks(tokens, hooks)[:, -1].detach()


def slopes_by_differences(
    model, tokens, other, metric, names, sign=1.0, at_other=False, times="difference", mean=False
):
    """attribution_patch by central differences, one number at a time along (a_other - a); the
    switches are mistakes.
    """
    h = 1e-5
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
    clean, first, second, swap, *, shift=1, question_too=False, one_only=False, mixed=False
):
    """corrupt_pairs row by row; the switches are mistakes."""
    rows = []
    for row in clean.tolist():
        a, c, new = row[first], row[second], list(row)
        if swap == "query":
            new[-1] = c
        else:
            after = (swap == "value") != mixed
            new[first + after] = row[second + after]
            if not one_only:
                new[second + after] = row[first + after]
            if question_too and swap == "key":
                new[-1] = c if new[-1] == a else a
        rows.append(new)
    return Pairs(clean, torch.tensor(rows), clean[:, first + shift], clean[:, second + shift])


def metrics_by_hand(
    logits, clean_logits, right, wrong, *, reverse=False, unit=1.0, duel=False, pair=False
):
    """compare_metrics in plain numbers; the switches are mistakes."""
    names = ("probability", "log-probability", "logit difference", "accuracy", "KL")
    found = {name: torch.zeros(logits.shape[:-1], dtype=logits.dtype) for name in names}
    for spot in itertools.product(*(range(n) for n in logits.shape[:-1])):
        row, b = logits[spot].tolist(), spot[-1]
        r, w, q, p = int(right[b]), int(wrong[b]), shares(row), shares(clean_logits[b].tolist())
        found["probability"][spot] = shares([row[r], row[w]])[0] if pair else q[r]
        found["log-probability"][spot] = math.log(q[r]) / unit
        found["logit difference"][spot] = row[r] - row[w]
        found["accuracy"][spot] = float(row[r] > row[w]) if duel else float(row[r] == max(row))
        if reverse:
            p, q = q, p
        found["KL"][spot] = sum(x * (math.log(x) - math.log(y)) for x, y in zip(p, q)) / unit
    return found


def shares(numbers):
    """The softmax of some plain numbers."""
    total = sum(map(math.exp, numbers))
    return [math.exp(x) / total for x in numbers]


Z, PATTERN = named(1, "z"), named(2, "pattern")
SAVED = cache_of(MODEL, OTHER)
CELLS = [
    [("blocks.0.hook_resid_pre", (3,))],
    [(Z, (ALL, 1)), (PATTERN, (0, 4))],
    [(Z, (2, 0)), (Z, (4, 1))],
    [(named(0, "k"), (ALL, 1)), ("blocks.0.hook_resid_pre", (4,))],
]
