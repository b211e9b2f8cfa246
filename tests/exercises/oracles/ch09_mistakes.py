"""What people get wrong in chapter 9 when they build hooks: label -> the function they write.
Groups, patterns and paths have files of their own.
"""

from functools import partial

import torch

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


def made_small(new, heads):
    new[:, :, heads] *= 0.01


def others_by(new, heads, by):
    new[:, :, [head + by for head in heads]] = 0.0


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
    "heads count from 0; those before `heads` were zeroed": hook(
        lambda new, heads: others_by(new, heads, -1)
    ),
    "heads count from 0; those after `heads` were zeroed": hook(
        lambda new, heads: others_by(new, heads, 1)
    ),
    "as many heads from the front were zeroed; `heads` are their numbers": hook(
        lambda new, heads: new[:, :, : len(heads)].zero_()
    ),
    "the heads were only made small; they become 0": hook(made_small),
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
    "the mean over the heads was taken; each head has its own": to_mean(2),
    "only the last position was averaged; over all of them": to(
        lambda reference, z: reference[:, -1:].mean(0, keepdim=True)
    ),
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


def mean_of_these(new, heads, reference):
    """One vector for all heads that are replaced."""
    new[:, :, heads] = reference[:, :, heads].mean(dim=(0, 2), keepdim=True)


def running_mean(reference, z):
    count = torch.arange(1, reference.shape[1] + 1)[:, None, None]
    return reference.mean(0, keepdim=True).cumsum(1) / count


MEAN_PER_POSITION = {
    "the mean went over the positions as well": to_mean(0, 1),
    "the mean went over the positions; it must go over the sequences": to_mean(1),
    "the mean went over the heads too; each has its own": to_mean(0, 2),
    "the mean went over the heads that are replaced, too; each has its own": hook(mean_of_these),
    OWN_MEAN: to_own_mean(0),
    "only the first sequence of the reference was taken": to(lambda reference, z: reference[:1]),
    "the first sequence was left out of the mean": to(
        lambda reference, z: reference[1:].mean(0, keepdim=True)
    ),
    "the sum was taken, not the mean": to(lambda reference, z: reference.sum(0, keepdim=True)),
    "the median was taken, not the mean": to(
        lambda reference, z: reference.median(0, keepdim=True).values
    ),
    "the mean went over d_head too; it is a vector at each position": to_mean(0, 3),
    "the run at hand was averaged in; take the reference alone": to(
        lambda reference, z: torch.cat([z, reference]).mean(0, keepdim=True)
    ),
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


def others_resampled(new, heads, reference, donors):
    others = [head for head in range(new.shape[2]) if head not in heads]
    new[:, :, others] = reference[donors][:, :, others]


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
    "each sequence got the row before its own; it gets row donors[b]": to(
        lambda reference, z, donors: reference.roll(1, 0)[: len(donors)]
    ),
    "the donors were counted from 1; rows count from 0": to(
        lambda reference, z, donors: reference[donors - 1]
    ),
    "all sequences got the row of the first donor": to(
        lambda reference, z, donors: reference[donors[:1]]
    ),
    "the mean of the donors was taken": to(
        lambda reference, z, donors: reference[donors].mean(0, keepdim=True)
    ),
    "the heads kept half of what they wrote; they get the donor's alone": to(
        lambda reference, z, donors: (z + reference[donors]) / 2
    ),
    "all the other heads were replaced": hook(others_resampled),
    "all heads were replaced": hook(
        lambda new, heads, reference, donors: new.copy_(reference[donors])
    ),
}
# Alike where the donors are all rows, in another order.
ALIKE_IF_ALL = {
    "the donors were ignored": to(lambda reference, z, donors: reference[: len(donors)]),
    "the donors were sorted": to(lambda reference, z, donors: reference[donors.sort().values]),
}
SHUFFLED = {"positions were shuffled": to(lambda reference, z, donors: reference[donors].flip(1))}
