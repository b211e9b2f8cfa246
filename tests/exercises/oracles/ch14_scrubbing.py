"""Oracles for the second half of chapter 14: causal scrubbing in slow loops, and wrong stories."""

import math
from functools import partial

import torch

from solutions.ch14_by_hand import Hypothesis
from tests.exercises.oracles.ch10 import attend

# draw_donors


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


def shuffled(n, generator):
    return torch.randperm(n, generator=generator)


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
    "the donor is one member too far: members are counted from 0": donors_with(
        pick=lambda u, n: (int(u * n) + 1) % n
    ),
    "u was multiplied by n - 1: the last member is never drawn": donors_with(
        pick=lambda u, n: int(u * (n - 1))
    ),
    "the members were shuffled, so that each is a donor once; draw for each position": (
        group_by_group(shuffled)
    ),
    "each group has a draw of its own; draw u once, for all positions": group_by_group(drawn_alone),
    "whole numbers were drawn; draw u with torch.rand, once, for all positions": whole_numbers,
}

# resample_parts


def facts(tokens, features):
    """Labels by comparing facts, position by position."""
    seen, labels = {}, []
    for b, row in enumerate(tokens.tolist()):
        for i, token in enumerate(row):
            here = {"token": token, "position": i, "sequence": b, "bos": i == 0}
            here["previous"] = row[i - 1] if i else -1
            labels.append(seen.setdefault(tuple(here[name] for name in features), len(seen)))
    return torch.tensor(labels).view_as(tokens)


def fetched(part, donors):
    """The part, at each position that of its donor."""
    return part.flatten(0, 1)[donors.flatten()].view_as(part)


def sent(part, donors):
    """The part of each position, at its donor."""
    moved = torch.zeros_like(part.flatten(0, 1))
    moved[donors.flatten()] = part.flatten(0, 1)
    return moved.view_as(part)


def resampled(
    parts,
    matters,
    tokens,
    generator,
    *,
    in_order=lambda parts, matters: parts,
    features=lambda name, matters: matters.get(name, ()),
    move=fetched,
    before=lambda generator, state: None,
):
    """resample_parts in loops; the keywords are places for mistakes.

    before(generator, its first state): what is done before each draw.
    """
    total, state = 0.0, generator.get_state()
    for name in in_order(parts, matters):
        before(generator, state)
        donors = donors_by_loops(facts(tokens, features(name, matters)), generator)
        total = total + move(parts[name], donors)
    return total


def parts_with(**switches):
    return partial(resampled, **switches)


def transposed_lookup(part, donors):
    """The donor's number, looked up as if positions were numbered column by column."""
    columns = part.transpose(0, 1).flatten(0, 1)
    return columns[donors.flatten()].view_as(part)


def changes_of_parts(parts, *arguments):
    return resampled(parts, *arguments) - sum(parts.values())


def unnamed_kept(draw):
    """Parts that nobody names stay as they are; draw: their donors are drawn all the same."""

    def function(parts, matters, tokens, generator):
        taken = parts if draw else {name: parts[name] for name in parts if name in matters}
        named = {name: parts[name] * (name in matters) for name in taken}
        kept = sum(part for name, part in parts.items() if name not in matters)
        return resampled(named, matters, tokens, generator) + kept

    return function


def unnamed_dropped(parts, matters, tokens, generator):
    """Parts that nobody names are drawn, and left out."""
    named = {name: parts[name] * (name in matters) for name in parts}
    return resampled(named, matters, tokens, generator)


def one_draw(parts, matters, tokens, generator):
    """Donors that agree in all that matters for any part, for all parts."""
    features = tuple(each for name in parts for each in matters.get(name, ()))
    donors = donors_by_loops(facts(tokens, features), generator)
    return sum(fetched(part, donors) for part in parts.values())


def mean_of_parts(parts, *arguments):
    return resampled(parts, *arguments) / len(parts)


PART_MISTAKES = {
    "parts that are not named were kept as they are; they may come from anywhere": (
        unnamed_kept(draw=False)
    ),
    "parts that are not named were kept, as if everything had to agree; nothing has to": (
        unnamed_kept(draw=True)
    ),
    "parts that are not named were skipped; they may come from anywhere": parts_with(
        in_order=lambda parts, matters: [name for name in parts if name in matters]
    ),
    "parts that are not named were drawn and left out": unnamed_dropped,
    "each part began with the same random numbers; each needs a draw of its own": parts_with(
        before=lambda generator, state: generator.set_state(state)
    ),
    "all parts got the same donors; each needs a draw of its own": one_draw,
    "the draws are in the order of the story; draw in the order of the parts": parts_with(
        in_order=lambda parts, matters: [*matters, *(x for x in parts if x not in matters)]
    ),
    "every part's donors had to agree in all that matters for any part": parts_with(
        features=lambda name, matters: tuple(each for of in matters.values() for each in of)
    ),
    "the donor's number b * pos + i was looked up column by column": parts_with(
        move=transposed_lookup
    ),
    "the undisturbed sum was subtracted": changes_of_parts,
    "donors do not agree in what matters": parts_with(features=lambda name, matters: ()),
    "donors agree in the first feature only; it has to be all": parts_with(
        features=lambda name, matters: matters.get(name, ())[:1]
    ),
    "each part was sent to its donors; fetch it from them": parts_with(move=sent),
    "the parts were averaged; they are added up": mean_of_parts,
}

# scrub


def layer_1(model, x, head):
    """What one head of layer 1 writes; x: the streams [batch, pos, d_model] that q, k and v read,
    positions included.
    """
    at, out = (1, head), []
    for q, k, v in zip(x["q"], x["k"], x["v"]):
        pattern = attend(model, at, len(q), q, k, placed=True)
        out.append(pattern @ v @ model.W_V[at] @ model.W_O[at])
    return torch.stack(out).detach()


TOKEN, PREVIOUS, POSITION = ("token",), ("previous",), ("position",)
EMBED = {"embed": TOKEN}
INDUCTION = Hypothesis((0,), q=EMBED, k={"0.0": PREVIOUS}, v=EMBED)
WRONG_STORIES = {
    "the key needs only its own token": INDUCTION._replace(k={"embed": TOKEN, "0.0": TOKEN}),
    "only the position matters": INDUCTION._replace(
        q={"positions": POSITION}, k={"positions": POSITION}
    ),
    "the query's token does not matter": INDUCTION._replace(q={}),
    "any value will do": INDUCTION._replace(v={}),
}
