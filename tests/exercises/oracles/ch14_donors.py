"""draw_donors by loops, and what people get wrong in it."""

import math
from functools import partial

import torch


def floor(u, n):
    return int(u * n)


def donors_by_loops(labels, generator, pick=floor, candidates=lambda here, members, n: members):
    """For each position the members of its group, one by one, and the one that the draw picks.

    pick(u, how many): the number of one of them. candidates(position, members, positions per row):
    those of the members that may be picked, in the order in which they are counted.
    """
    u = torch.rand(labels.shape, generator=generator).flatten().tolist()
    flat, n = labels.flatten().tolist(), labels.shape[1]
    donors = []
    for here, label in enumerate(flat):
        members = [there for there, other in enumerate(flat) if other == label]
        allowed = candidates(here, members, n)
        donors.append(allowed[pick(u[here], len(allowed))])
    return torch.tensor(donors).view_as(labels)


def donors_with(**switches):
    return partial(donors_by_loops, **switches)


def one_for_each_label(labels, generator):
    u = torch.rand(labels.shape, generator=generator).flatten()
    flat = labels.flatten()
    donors = torch.zeros_like(flat)
    for label in flat.unique():
        members = (flat == label).nonzero()[:, 0]
        donors[members] = members[int(u[members[0]] * len(members))]
    return donors.view_as(labels)


def group_by_group(draw):
    """Each group drawn on its own: draw(how many, generator) -> numbers of members."""

    def function(labels, generator):
        flat = labels.flatten()
        donors = torch.zeros_like(flat)
        for label in flat.unique():
            members = (flat == label).nonzero()[:, 0]
            donors[members] = members[draw(len(members), generator)]
        return donors.view_as(labels)

    return function


def one_for_each_row(labels, generator):
    """A number drawn for each row, and used at all its positions."""
    u = torch.rand(len(labels), 1, generator=generator).expand(labels.shape).flatten()
    flat, donors = labels.flatten(), []
    for here, label in enumerate(flat):
        members = (flat == label).nonzero()[:, 0]
        donors.append(members[int(u[here] * len(members))])
    return torch.stack(donors).view_as(labels)


def shuffled(n, generator):
    return torch.randperm(n, generator=generator)


def in_order_of_u(labels, generator):
    """Each group, put in the order of its u, takes the places of the group in rising order."""
    u, flat = torch.rand(labels.shape, generator=generator).flatten(), labels.flatten()
    donors = torch.zeros_like(flat)
    for label in flat.unique():
        members = (flat == label).nonzero()[:, 0]
        donors[members] = members[u[members].argsort()]
    return donors.view_as(labels)


def drawn_alone(n, generator):
    return (torch.rand(n, generator=generator) * n).long()


def whole_numbers(labels, generator):
    """A whole number drawn for each position, in place of u."""
    flat, donors = labels.flatten(), []
    for label in flat:
        members = (flat == label).nonzero()[:, 0]
        donors.append(members[torch.randint(len(members), (1,), generator=generator)])
    return torch.cat(donors).view_as(labels)


def labels_unused(labels, generator):
    return donors_by_loops(torch.zeros_like(labels), generator)


def column_numbers(labels, generator):
    return donors_by_loops(labels, generator) % labels.shape[1]


def column_by_column(here, members, n):
    return sorted(members, key=lambda there: (there % n, there // n))


def numbered_by_columns(labels, generator):
    """Position (b, i) has the number i * batch + b, and members are counted in that order."""
    donors, n = donors_by_loops(labels, generator, candidates=column_by_column), labels.shape[1]
    return donors % n * len(labels) + donors // n


DONOR_MISTAKES = {
    "the labels were not used": labels_unused,
    "donors come from the same row only": donors_with(
        candidates=lambda here, members, n: [each for each in members if each // n == here // n]
    ),
    "a position never gets itself; all that agree, itself included, have the same chance": (
        donors_with(candidates=lambda here, members, n: [x for x in members if x != here] or [here])
    ),
    "all positions with one label got the same donor": one_for_each_label,
    "the donors are column numbers; number the positions through the whole batch: b * pos + i": (
        column_numbers
    ),
    "the positions are numbered column by column; number them row by row": numbered_by_columns,
    "the members of a group were counted column by column; count them row by row": donors_with(
        candidates=column_by_column
    ),
    "the members of a group were counted backwards; count in rising order": donors_with(
        candidates=lambda here, members, n: members[::-1]
    ),
    "u * n was rounded up; floor makes it the numbers 0 to n - 1": donors_with(
        pick=lambda u, n: min(math.ceil(u * n), n - 1)
    ),
    "u * n was rounded to the nearest; take the floor": donors_with(
        pick=lambda u, n: min(round(u * n), n - 1)
    ),
    "u * (n - 1) was rounded: the first and the last member have half a chance": donors_with(
        pick=lambda u, n: round(u * (n - 1))
    ),
    "every position got the first member of its group": donors_with(pick=lambda u, n: 0),
    "one number was drawn for each row; draw one for each position": one_for_each_row,
    "the donor is one member too far: members are counted from 0": donors_with(
        pick=lambda u, n: (int(u * n) + 1) % n
    ),
    "u was multiplied by n - 1: the last member is never drawn": donors_with(
        pick=lambda u, n: int(u * (n - 1))
    ),
    "the members were shuffled, so that each is a donor once; draw for each position": (
        group_by_group(shuffled)
    ),
    "u was sorted, so that each member is a donor once; take number floor(u * n)": in_order_of_u,
    # a learner who draws for each group, or reads u along the sorted positions, gets the same
    "u was used up group by group; position (b, i) has the number u[b, i], drawn once for all": (
        group_by_group(drawn_alone)
    ),
    "whole numbers were drawn; draw u with torch.rand, once, for all positions": whole_numbers,
}
