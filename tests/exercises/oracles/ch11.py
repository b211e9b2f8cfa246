"""Slow oracles for chapter 11: one pass per cell, no batching. Switches make the usual mistakes."""

import functools
import itertools
import math

import torch

from minitransformer.data import random_tokens
from solutions.ch11_patching import ALL, Pairs, answer_gap
from tests.exercises.oracles.ch10 import loud_model
from tests.material import seeded

# batch 7, pos 6, head 2, d_head 5, d_model 12, vocab 11, three layers: no two are equal
MODEL = loud_model(5, n_layers=3, n_heads=2)
ONE_LAYER = loud_model(6, n_layers=1, n_heads=2)
TOKENS = random_tokens(7, 6, 11, seeded(1))
OTHER = torch.randint(1, 11, (7, 6), generator=seeded(12))  # even the first token is another
GAP = answer_gap(torch.tensor([3, 4, 1, 9, 5, 8, 2]), torch.tensor([7, 2, 6, 3, 10, 1, 4]))
LAST = "blocks.2.hook_resid_post"


def cache_of(model, tokens):
    return model.run_with_cache(tokens)[1]


def named(layer, what):
    return f"blocks.{layer}.attn.hook_{what}"


def final(model):
    return f"blocks.{model.cfg.n_layers - 1}.hook_resid_post"


def copied(x, there, index):
    x[(ALL, *index)] = there[(ALL, *index)]


def run_cell(model, tokens, saved, cell, put=copied, at_pos=-1):
    """One run with one cell patched, place by place: [batch, vocab]. put(x, there, index) changes
    the activation x.
    """

    def at(index):
        def hook_fn(activation, hook):
            put(activation, saved[hook.name], index)
            return activation

        return hook_fn

    hooks = [(name, at(index)) for name, index in cell]
    return model.run_with_hooks(tokens, hooks)[:, at_pos].detach()


def cells_one_by_one(
    model, tokens, saved, cells, put=copied, cell_of=lambda cells, c: cells[c], at_pos=-1
):
    """patch_cells with one pass per cell. cell_of(cells, c): the places that cell c gets."""
    every = [cell_of(cells, c) for c in range(len(cells))]
    return torch.stack([run_cell(model, tokens, saved, cell, put, at_pos) for cell in every])


def rows_of(tokens):
    """Tokens as tuples, so that results can be kept."""
    return tuple(map(tuple, tokens.tolist()))


@functools.cache
def sweep(model, tokens, other, names, places):
    """One run for each name and place (one or more indices; None stands for all of an axis):
    [name, place, batch, vocab]. tokens, other: rows.
    """
    tokens, saved = torch.tensor(tokens), cache_of(model, torch.tensor(other))
    logits = []
    for name, place in itertools.product(names, places):
        index = tuple(slice(*i) if isinstance(i, tuple) else ALL if i is None else i for i in place)
        logits.append(run_cell(model, tokens, saved, [(name, index)]))
    return torch.stack(logits).unflatten(0, (len(names), len(places)))


def stream_names(model):
    before = [f"blocks.{layer}.hook_resid_pre" for layer in range(model.cfg.n_layers)]
    return [*before, final(model)]


def residual_one_by_one(model, tokens, other, names=stream_names, place=lambda pos, n: pos):
    """patch_residual by loops. place(pos, number of positions): an index, or (start, stop)."""
    n = tokens.shape[1]
    places = tuple((place(pos, n),) for pos in range(n))
    return sweep(model, rows_of(tokens), rows_of(other), tuple(names(model)), places)


def head_place(what, head, pos):
    return (head, pos) if what == "pattern" else (pos, head)


def heads_one_by_one(
    model, tokens, other, what, by_position=False, place=head_place, at=lambda pos, n: pos
):
    """patch_heads by loops. place(what, head, pos), with None for all positions; at(pos, number of
    positions): what of the positions is patched.
    """
    n, n_heads = tokens.shape[1], model.cfg.n_heads
    positions = [at(pos, n) for pos in range(n)] if by_position else [None]
    places = tuple(place(what, head, pos) for head in range(n_heads) for pos in positions)
    names = tuple(named(layer, what) for layer in range(model.cfg.n_layers))
    logits = sweep(model, rows_of(tokens), rows_of(other), names, places)
    return logits.unflatten(1, (n_heads, n)) if by_position else logits


def ends_of(model, clean, corrupt, metric):
    return metric(model(clean)[:, -1]).mean(), metric(model(corrupt)[:, -1]).mean()


def moved_metric(model, tokens, other, cells, metric, put=copied):
    """The mean metric with each cell patched: [cell]."""
    saved = cache_of(model, other)
    return torch.stack([metric(run_cell(model, tokens, saved, c, put)).mean() for c in cells])


def both_ways(model, clean, corrupt, cells, metric):
    """sufficiency_and_necessity in plain numbers."""
    good, bad = ends_of(model, clean, corrupt, metric)
    sufficient = (moved_metric(model, corrupt, clean, cells, metric) - bad) / (good - bad)
    necessary = (good - moved_metric(model, clean, corrupt, cells, metric)) / (good - bad)
    return sufficient, necessary


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


def read_by(model):
    """The names of what direct_inputs keeps."""
    layers = range(model.cfg.n_layers)
    return [*(named(layer, x) for layer in layers for x in "qkv"), final(model)]


def receiver_mask(model, receiver, all_heads=False):
    """1 for the heads that receive, [head, 1]; 1 for the unembedding."""
    if receiver == "logits" or all_heads:
        return torch.ones(())
    return (torch.arange(model.cfg.n_heads) == receiver[1])[:, None].double()


def receiver_name(model, receiver):
    return final(model) if receiver == "logits" else named(receiver[0], receiver[2])


def paths_by_algebra(
    model, tokens, other, sender, receivers, *, direct=inputs_by_algebra, moved=None, extra=()
):
    """path_patch from inputs_by_algebra. direct: a function like direct_inputs. moved(x, change,
    mask, direct): the receiver's new input. extra: hooks besides.
    """
    plain, heard = cache_of(model, tokens), direct(model, tokens, other, sender)
    hooks = list(extra)
    for receiver in receivers:
        mask = receiver_mask(model, receiver)

        def move(x, hook, mask=mask):
            change = heard[hook.name] - plain[hook.name]
            return moved(x, change, mask, heard[hook.name]) if moved else x + change * mask

        hooks.append((receiver_name(model, receiver), move))
    return model.run_with_hooks(tokens, hooks)[:, -1].detach()


def slopes_by_differences(model, tokens, other, metric, names):
    """attribution_patch by central differences, one number at a time along (a_other - a)."""
    h, found = 1e-5, {}
    here, there = cache_of(model, tokens), cache_of(model, other)
    for name in names:
        direction = there[name] - here[name]
        result = torch.zeros(direction.shape[:-1], dtype=direction.dtype)
        for spot in itertools.product(*(range(size) for size in result.shape[1:])):

            def moved(step, name=name, spot=spot, direction=direction):
                def add(x, hook):
                    x[(ALL, *spot)] += step * direction[(ALL, *spot)]
                    return x

                return metric(model.run_with_hooks(tokens, [(name, add)])[:, -1]).detach()

            result[(ALL, *spot)] = (moved(h) - moved(-h)) / (2 * h)
        found[name] = result
    return found


def pairs_by_hand(clean, first, second, swap):
    """corrupt_pairs row by row."""
    rows = []
    for row in clean.tolist():
        new, after = list(row), int(swap == "value")
        if swap == "query":
            new[-1] = row[second]
        else:
            new[first + after], new[second + after] = row[second + after], row[first + after]
        rows.append(new)
    return Pairs(clean, torch.tensor(rows), clean[:, first + 1], clean[:, second + 1])


def metrics_by_hand(logits, clean_logits, right, wrong):
    """compare_metrics in plain numbers."""
    names = ("probability", "log-probability", "logit difference", "accuracy", "KL")
    found = {name: torch.zeros(logits.shape[:-1], dtype=logits.dtype) for name in names}
    for spot in itertools.product(*(range(n) for n in logits.shape[:-1])):
        row, b = logits[spot].tolist(), spot[-1]
        r, w, q, p = int(right[b]), int(wrong[b]), shares(row), shares(clean_logits[b].tolist())
        found["probability"][spot] = q[r]
        found["log-probability"][spot] = math.log(q[r])
        found["logit difference"][spot] = row[r] - row[w]
        found["accuracy"][spot] = float(row[r] == max(row))
        found["KL"][spot] = sum(x * (math.log(x) - math.log(y)) for x, y in zip(p, q))
    return found


def shares(numbers):
    """The softmax of some plain numbers."""
    total = sum(map(math.exp, numbers))
    return [math.exp(x) / total for x in numbers]


@functools.cache
def true_slopes(*names):
    return slopes_by_differences(MODEL, TOKENS, OTHER, GAP, names)


Z, PATTERN = named(1, "z"), named(1, "pattern")
SAVED = cache_of(MODEL, OTHER)
CELLS = [
    [("blocks.0.hook_resid_pre", (3,))],
    [(Z, (ALL, 1)), (PATTERN, (0, 1))],
    [(Z, (2, 0)), (Z, (5, 1))],
    [(named(0, "k"), (ALL, 1)), ("blocks.0.hook_resid_pre", (4,))],
    [(LAST, (5,))],
]
