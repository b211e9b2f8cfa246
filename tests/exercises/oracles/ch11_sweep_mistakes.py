"""What people get wrong in chapter 11, second part: cells and sweeps."""

import torch

from solutions.ch11_patching import ALL, ROWS
from tests.exercises.oracles.ch11 import (
    cells_one_by_one,
    head_place,
    heads_one_by_one,
    residual_one_by_one,
    run_cell,
    stream_names,
)

# patch_cells


def in_groups(function):
    """Cells go through in groups: function(model, tokens, saved, the cells of one group)."""

    def grouped(model, tokens, saved, cells):
        size = max(1, ROWS // len(tokens))
        groups = [cells[start : start + size] for start in range(0, len(cells), size)]
        return torch.cat([function(model, tokens, saved, group) for group in groups])

    return grouped


def rows_mixed_up(model, tokens, saved, cells):
    """patch_cells whose rows lie prompt by prompt, but are patched and read cell by cell."""
    rows = tokens.repeat_interleave(len(cells), dim=0).split(len(tokens))
    return torch.stack([run_cell(model, row, saved, cell) for row, cell in zip(rows, cells)])


def added(x, there, index):
    x[(ALL, *index)] += there[(ALL, *index)]


def first_prompt(x, there, index):
    x[(ALL, *index)] = there[(0, *index)]


def in_the_batch(x, there, index):
    x[index] = there[index]


def cells_with(**switches):
    """patch_cells with something wrong in one patch, or in what a cell is, in each group."""
    return in_groups(lambda *arguments: cells_one_by_one(*arguments, **switches))


def name_of_first_place(cells, c):
    """Hooks are made for the names of the first places only; another name has none."""
    names = {cell[0][0] for cell in cells}
    return [place for place in cells[c] if place[0] in names]


def last_group_missing(model, tokens, saved, cells):
    group = max(1, ROWS // len(tokens))
    return cells_one_by_one(model, tokens, saved, cells)[: len(cells) // group * group]


def first_group_again(model, tokens, saved, cells):
    size = max(1, ROWS // len(tokens))
    again = [cells[c % size] for c in range(len(cells))]
    return cells_one_by_one(model, tokens, saved, again)


CELL_MISTAKES = {
    "every cell got the patches of all cells": cells_with(
        cell_of=lambda cells, c: [place for cell in cells for place in cell]
    ),
    "every cell got the patches of the last one": cells_with(cell_of=lambda cells, c: cells[-1]),
    "every cell kept the patches of the cells before it": cells_with(
        cell_of=lambda cells, c: [place for cell in cells[: c + 1] for place in cell]
    ),
    "rows are mixed up: in tokens.repeat(cells, 1) row c * batch + b is prompt b with cell c": (
        in_groups(rows_mixed_up)
    ),
    "every prompt was patched with the first prompt's activation": cells_with(put=first_prompt),
    "the saved activation was added; it takes the other one's place": cells_with(put=added),
    "the index was applied to the batch; it counts the axes after it": cells_with(put=in_the_batch),
    "only the first place of each cell was patched": cells_with(
        cell_of=lambda cells, c: cells[c][:1]
    ),
    "only the name of a cell's first place got a hook": cells_with(cell_of=name_of_first_place),
    "of several places on one hook only the last was patched: names that are keys of a dict": (
        cells_with(cell_of=lambda cells, c: list(dict(cells[c]).items()))
    ),
    "later groups were patched with the cells of the first group": first_group_again,
    "these are the logits of the first position; the answer stands at the last": cells_with(
        at_pos=0
    ),
    "the last group was left out, because it is not full": last_group_missing,
    "the axes are exchanged: cell first, then batch": lambda *arguments: cells_one_by_one(
        *arguments
    ).transpose(0, 1),
}

# patch_residual and patch_heads

EXCHANGED = "tokens and other are exchanged: tokens runs, the patch comes from other"


def residual_with(finish=lambda logits: logits, **switches):
    """patch_residual with other places or names, or finished in another way."""

    def function(model, tokens, other):
        return finish(residual_one_by_one(model, tokens, other, **switches))

    return function


def residual_exchanged(model, tokens, other):
    return residual_one_by_one(model, other, tokens)


def scrambled(logits):
    """Cells made position by position, read as if depth by depth."""
    depth, pos = logits.shape[:2]
    return logits.transpose(0, 1).flatten(0, 1).unflatten(0, (depth, pos))


def written_by_layers(model):
    return ["hook_embed"] + [f"blocks.{i}.hook_attn_out" for i in range(model.cfg.n_layers)]


RESIDUAL_MISTAKES = {
    EXCHANGED: residual_exchanged,
    "depth L is the stream *before* layer L": residual_with(
        names=lambda model: (
            [f"blocks.{i}.hook_resid_post" for i in range(model.cfg.n_layers)]
            + [stream_names(model)[-1]]
        )
    ),
    "the first depth, before layer 0, is missing": residual_with(lambda logits: logits[1:]),
    "there is a depth too many: the embedding is the stream before layer 0": residual_with(
        names=lambda model: ["hook_embed", *stream_names(model)]
    ),
    "all positions were patched at once; one position at a time": residual_with(
        place=lambda pos, n: (0, n)
    ),
    "the positions run backwards": residual_with(lambda logits: logits.flip(1)),
    "the last depth, after all layers, is missing": residual_with(lambda logits: logits[:-1]),
    "the depth after all layers comes first; it is the last": residual_with(
        lambda logits: logits.roll(1, dims=0)
    ),
    "only two layers were patched, whatever their number": residual_with(
        lambda logits: torch.cat([logits[:2], logits[-1:]])
    ),
    "what the layers write was patched; it is the stream": residual_with(names=written_by_layers),
    "all later positions were patched as well; one position at a time": residual_with(
        place=lambda pos, n: (pos, n)
    ),
    "all earlier positions were patched as well; one position at a time": residual_with(
        place=lambda pos, n: (0, pos + 1)
    ),
    "position 0 was left out: position 1 stands in its place": residual_with(
        place=lambda pos, n: max(1, pos)
    ),
    "the axes are exchanged: depth first, then position": residual_with(
        lambda logits: logits.transpose(0, 1)
    ),
    "the cells are made position by position, but read depth by depth": residual_with(scrambled),
}


def heads_with(finish=lambda logits: logits, what_of=lambda what: what, **switches):
    """patch_heads with other places, of another thing, or finished in another way."""

    def function(model, tokens, other, what, by_position=False):
        arguments = what_of(what), by_position
        return finish(heads_one_by_one(model, tokens, other, *arguments, **switches))

    return function


def heads_exchanged(model, tokens, other, *args):
    return heads_one_by_one(model, other, tokens, *args)


def position_ignored(model, tokens, other, what, by_position=False):
    return heads_one_by_one(model, tokens, other, what)


def axis_kept(model, tokens, other, what, by_position=False):
    logits = heads_one_by_one(model, tokens, other, what, by_position)
    return logits if by_position else logits[:, :, None]


def last_position_only(model, tokens, other, what, by_position=False):
    logits = heads_one_by_one(model, tokens, other, what, by_position=True)
    return logits if by_position else logits[:, :, -1]


def mean_over_positions(model, tokens, other, what, by_position=False):
    logits = heads_one_by_one(model, tokens, other, what, by_position=True)
    return logits if by_position else logits.mean(dim=2)


def all_but_first(model, tokens, other, what, by_position=False):
    n = tokens.shape[1]

    def place(what, head, pos):
        return head_place(what, head, (1, n) if pos is None else pos)

    return heads_one_by_one(model, tokens, other, what, by_position, place=place)


def always_z(model, tokens, other, what, by_position=False):
    """The right places, but z stands there."""

    def place(_, head, pos):
        return head_place(what, head, pos)

    return heads_one_by_one(model, tokens, other, "z", by_position, place=place)


def one_position_left(model, tokens, other, what, by_position=False):
    logits = heads_one_by_one(model, tokens, other, what)
    return logits[:, :, None] if by_position else logits


HEAD_MISTAKES = {
    EXCHANGED: heads_exchanged,
    "in a pattern the head stands before the query; here it stood after it": heads_with(
        place=lambda what, head, pos: (pos, head)
    ),
    "the axes of layer and head are exchanged": heads_with(lambda logits: logits.transpose(0, 1)),
    "the cells are made head by head, but read layer by layer": heads_with(scrambled),
    "a neighbouring head was patched": heads_with(
        place=lambda what, head, pos: head_place(what, 1 - head, pos)
    ),
    "all heads of the layer were patched, not one": heads_with(
        place=lambda what, head, pos: head_place(what, None, pos)
    ),
    "the patterns of all heads of the layer were patched, not of one": heads_with(
        place=lambda what, head, pos: head_place(what, None if what == "pattern" else head, pos)
    ),
    "only two layers were patched, whatever their number": heads_with(lambda logits: logits[:2]),
    "the layers run backwards": heads_with(lambda logits: logits.flip(0)),
    "the first position was left out: without by_position it is all": all_but_first,
    "z was patched, at the places of what was asked for": always_z,
    "z was patched, whatever was asked for": heads_with(
        what_of=lambda what: "z", place=lambda what, head, pos: (pos, head)
    ),
    "the positions were patched one by one only at the last: without by_position it is all": (
        last_position_only
    ),
    "the mean over the positions, each patched by itself: without by_position all go in together": (
        mean_over_positions
    ),
    "without by_position there is an axis too many": axis_kept,
}
POSITION_MISTAKES = {
    EXCHANGED: heads_exchanged,
    "a pattern was patched by key; its position is the query": heads_with(
        place=lambda what, head, pos: (head, None, pos) if what == "pattern" else (pos, head)
    ),
    "by_position was ignored": position_ignored,
    "by_position was ignored: the axis is there, with all positions in one": one_position_left,
    "all later positions were patched as well; one position at a time": heads_with(
        at=lambda pos, n: (pos, n)
    ),
    "the axes begin with the position; they should be layer, head, position": heads_with(
        lambda logits: logits.movedim(2, 0)
    ),
    "the axes are layer, position, head; they should be layer, head, position": heads_with(
        lambda logits: logits.transpose(1, 2)
    ),
}
