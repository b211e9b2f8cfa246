"""What people get wrong in chapter 9: label -> the function they write. Patterns and paths are in
ch09_pattern_mistakes.py.
"""

import math
from functools import partial

import torch

from tests.exercises.oracles import ch09 as slow
from tests.exercises.oracles.ch09 import cost, silenced, single

# Hook builders


def hook(edit):
    """A wrong builder: edit(new, heads, *rest) changes the copy of the activation, in place."""

    def builder(heads, *rest):
        def fn(activation, hook):
            new = activation.clone()
            edit(new, heads, *rest)
            return new

        return fn

    return builder


def to(value):
    """A wrong builder that gives the heads value(reference, activation, *rest) instead."""

    def edit(new, heads, reference, *rest):
        new[:, :, heads] = value(reference, new.clone(), *rest).expand_as(new)[:, :, heads]

    return hook(edit)


def to_mean(*axes):
    """A wrong builder that gives the heads the mean of the reference over these axes."""
    return to(lambda reference, activation: reference.mean(axes, keepdim=True))


def to_own_mean(*axes):
    return to(lambda reference, activation: activation.mean(axes, keepdim=True))


def at(*index):
    """An edit that zeroes along the wrong axis."""
    return hook(lambda new, heads: new.__setitem__((*index, heads), 0.0))


def in_place(heads, returned=True):
    def fn(activation, hook):
        activation[:, :, heads] = 0.0
        return activation if returned else None

    return fn


def others_zero(new, heads):
    new[:, :, [head for head in range(new.shape[2]) if head not in heads]] = 0.0


def cut_out(heads):
    """The heads are cut out of the tensor, which gets narrower."""

    def fn(activation, hook):
        return activation[:, :, [h for h in range(activation.shape[2]) if h not in heads]]

    return fn


ALL_ZERO = {"all heads were zeroed": hook(lambda new, heads: new.zero_())}
ZERO = ALL_ZERO | {
    "positions were zeroed; the heads are the third axis": at(slice(None)),
    "sequences were zeroed; the heads are the third axis": at(),
    "entries within every head (d_head) were zeroed; the heads are the third axis": at(...),
    "all the other heads were zeroed": hook(others_zero),
    "only the first of the heads was zeroed": hook(lambda new, heads: new[:, :, heads[0]].zero_()),
    "all from the first of the heads to the last were zeroed": hook(
        lambda new, heads: new[:, :, heads[0] : heads[-1] + 1].zero_()
    ),
    "only the last position was zeroed": at(slice(None), -1),
    "BOS was spared; zero all positions": at(slice(None), slice(1, None)),
    "only the first sequence was zeroed": at(0, slice(None)),
    "the heads were cut out; their entries become 0, the shape stays": cut_out,
    "the activation was edited in place; work on a copy: activation.clone()": in_place,
    "the activation was edited in place and nothing returned; return a new one": partial(
        in_place, returned=False
    ),
}

OWN_MEAN = "the mean of the activation at hand was taken; take that of `reference`"
MEAN = {
    "the mean went over the sequences only; over the positions too": to_mean(0),
    "the mean went over the positions only; over the sequences too": to_mean(1),
    "the mean went over the heads too; each has its own": to_mean(0, 1, 2),
    "the mean went over d_head too; it is a vector": to_mean(0, 1, 3),
    "the median was taken, not the mean": to(
        lambda reference, z: reference.flatten(0, 1).median(0).values[None, None]
    ),
    OWN_MEAN: to_own_mean(0, 1),
    "the sum was taken, not the mean": to(lambda reference, z: reference.sum((0, 1), keepdim=True)),
    "BOS was left out of the mean; over all positions": to(
        lambda reference, z: reference[:, 1:].mean((0, 1), keepdim=True)
    ),
    "only the first sequence of the reference was averaged; over all of them": to(
        lambda reference, z: reference[:1].mean((0, 1), keepdim=True)
    ),
    "all heads were replaced; only `heads` are": hook(
        lambda new, heads, reference: new.copy_(reference.mean((0, 1)).expand_as(new))
    ),
    "the mean was subtracted; the heads must become the mean": to(
        lambda reference, z: z - reference.mean((0, 1), keepdim=True)
    ),
}
BECAME_ZERO = {"these heads became 0": to(lambda reference, z: torch.zeros_like(z))}


def running_mean(reference, z):
    count = torch.arange(1, reference.shape[1] + 1)[:, None, None]
    return reference.mean(0, keepdim=True).cumsum(1) / count


MEAN_PER_POSITION = {
    "the mean went over the positions as well": to_mean(0, 1),
    "the mean went over the positions; it must go over the sequences": to_mean(1),
    "the mean went over the heads too; each has its own": to_mean(0, 2),
    OWN_MEAN: to_own_mean(0),
    "only the first sequence of the reference was taken": to(lambda reference, z: reference[:1]),
    "the first sequence was left out of the mean": to(
        lambda reference, z: reference[1:].mean(0, keepdim=True)
    ),
    "the sum was taken, not the mean": to(lambda reference, z: reference.sum(0, keepdim=True)),
    "it was divided by one sequence fewer": to(
        lambda reference, z: reference.sum(0, keepdim=True) / (len(reference) - 1)
    ),
    "the mean went over all positions up to this one; each position has its own": to(running_mean),
    "all heads were replaced; only `heads` are": hook(
        lambda new, heads, reference: new.copy_(reference.mean(0).expand_as(new))
    ),
}
POSITIONS_TOO = {"the mean went over the positions too": to_mean(0, 1)}


def given_away(reference, donors):
    """Row b goes to sequence donors[b], if there is such a sequence."""
    values = reference.clone()
    for b, donor in enumerate(donors.tolist()):
        values[donor] = reference[b]
    return values[: len(donors)]


RESAMPLE = {
    "the donors were used the wrong way round: sequence b gets row donors[b]": to(
        lambda reference, z, donors: given_away(reference, donors)
    ),
    "the activation at hand was reordered; the donors are rows of `reference`": to(
        lambda reference, z, donors: z[donors]
    ),
    "positions were shuffled; each gets what was written at the same one": to(
        lambda reference, z, donors: reference[donors].roll(1, 1)
    ),
    "the donors were ignored": to(lambda reference, z, donors: reference[: len(donors)]),
    "each sequence got the row before its own; it gets row donors[b]": to(
        lambda reference, z, donors: reference.roll(1, 0)[: len(donors)]
    ),
    "the donors were counted from 1; rows count from 0": to(
        lambda reference, z, donors: reference[donors - 1]
    ),
    "the donors were sorted": to(lambda reference, z, donors: reference[donors.sort().values]),
    "all sequences got the row of the first donor": to(
        lambda reference, z, donors: reference[donors[:1]]
    ),
    "the mean of the donors was taken": to(
        lambda reference, z, donors: reference[donors].mean(0, keepdim=True)
    ),
    "all heads were replaced": hook(
        lambda new, heads, reference, donors: new.copy_(reference[donors])
    ),
}
SHUFFLED = {"positions were shuffled": to(lambda reference, z, donors: reference[donors].flip(1))}

# Groups of heads


def sum_of_singles(model, repeats, heads, kind="zero"):
    return sum(cost(model, repeats, [head], kind) for head in heads)


def loss_of_the_difference(model, repeats, heads):
    logits = silenced(model, heads)(repeats.tokens) - model(repeats.tokens)
    return slow.slow_loss(logits.detach(), repeats)


JOINT = {
    "the loss without the heads was returned; subtract that of the whole model": partial(
        cost, minus=0.0
    ),
    "the sign is wrong: what it costs is positive": lambda *args: -cost(*args),
    "every position counted; use loss_where_known": partial(cost, everywhere=True),
    "the single effects were added up; ablate the group in one run": sum_of_singles,
    "only the first head was ablated": (
        lambda model, repeats, heads, kind="zero": cost(model, repeats, heads[:1], kind)
    ),
    "only the last head was ablated": (
        lambda model, repeats, heads, kind="zero": cost(model, repeats, heads[-1:], kind)
    ),
    "all the other heads were ablated": partial(cost, keep=True),
    "whole layers were ablated; only `heads` are": partial(cost, whole=True),
    "it was divided by the loss of the model; the unit is nats": (
        lambda model, repeats, heads: (
            cost(model, repeats, heads) / cost(model, repeats, [], minus=0.0)
        )
    ),
    "it was divided by the number of heads; the cost of the group was asked for": (
        lambda *args: cost(*args) / len(args[2])
    ),
    "it was divided by ln 2, which gives bits; the unit is nats": (
        lambda *args: cost(*args) / math.log(2)
    ),
    "what is below 0 was cut off; a model can be better off without": (
        lambda *args: max(cost(*args), 0.0)
    ),
    "the sign was lost; a model can be better off without": lambda *args: abs(cost(*args)),
    "the logits were subtracted; subtract the losses": loss_of_the_difference,
    "the outputs were taken away after all layers had read them (from the last stream); do it in "
    "hook_z": partial(cost, late=True),
}
LIVE = (
    "what ablated heads write was taken from a run in which others are ablated already; the cache "
    "is of an undisturbed run"
)
OF_A_KIND = {
    LIVE: partial(cost, live=True),
    "the heads were always zeroed; use `kind`": (
        lambda model, repeats, heads, kind="zero": cost(model, repeats, heads)
    ),
}


def one_after_another(model, repeats, kind="zero"):
    every, table = slow.every_head(model), torch.zeros(model.cfg.n_layers, model.cfg.n_heads)
    for count, head in enumerate(every, start=1):
        table[head] = cost(model, repeats, every[:count], kind)
    return table


def whole_layers(model, repeats, kind="zero"):
    heads = [[(layer, 0)] for layer in range(model.cfg.n_layers)]
    costs = [cost(model, repeats, layer, kind, whole=True) for layer in heads]
    return torch.tensor(costs)[:, None].expand(-1, model.cfg.n_heads)


def only(rows=None, columns=None):
    """A wrong ablation_table: the entries beyond so many rows and columns stay 0."""

    def ablation_table(*args):
        table = torch.zeros_like(single(*args))
        table[:rows, : columns or len(table)] = single(*args)[:rows, : columns or len(table)]
        return table

    return ablation_table


TRANSPOSED = {"rows and columns are exchanged: [layer, head]": lambda *args: single(*args).T}
TABLE = TRANSPOSED | {
    "the heads before were not put back: one at a time": one_after_another,
    "all heads but one were ablated; ablate one": partial(single, keep=True),
    "the whole layer was ablated each time; ablate one head": whole_layers,
    "only two layers were tried": only(2, 100),
    "only as many heads were tried as there are layers": only(),
    "the heads were always zeroed; use `kind`": lambda *args: single(*args[:2]),
    "the sign is wrong: what it costs is positive": lambda *args: -single(*args),
    "what is below 0 was cut off; a model can be better off without": (
        lambda *args: single(*args).clamp(min=0)
    ),
    "it was divided by the sum of all; the unit is nats": (
        lambda *args: single(*args) / single(*args).sum()
    ),
    "the loss was returned; subtract that of the whole model": partial(single, minus=0.0),
    "it was divided by the loss of the model; the unit is nats": (
        lambda model, repeats, kind="zero": (
            single(model, repeats, kind) / cost(model, repeats, [], minus=0.0)
        )
    ),
}
