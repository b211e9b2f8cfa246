"""What people get wrong in chapter 17 about pairs: of scores, and of problems with one result."""

import torch

from tests.exercises.oracles import ch17 as o
from tests.exercises.oracles.ch17 import matched

# Pairs of scores


def folded(higher, lower):
    area = o.pairs()(higher, lower)
    return max(area, 1 - area)


def unsorted(higher, lower):
    """torch.searchsorted on scores in whatever order they came."""
    o.refuse_empty(higher, lower)
    below = torch.searchsorted(lower, higher)
    not_above = torch.searchsorted(lower, higher, right=True)
    return (below + not_above).double().mean().item() / 2 / len(lower)


def above(middle):
    """A wrong auroc: each score against one number, the middle of the other group."""

    def share(higher, lower):
        o.refuse_empty(higher, lower)
        return (higher > middle(lower.double())).double().mean().item()

    return share


def one_to_one(higher, lower):
    """Each score against the one at the same place only."""
    o.refuse_empty(higher, lower)
    wins = [x > y for x, y in zip(higher.tolist(), lower.tolist())]
    return sum(wins) / len(wins)


def at_thresholds(higher, lower):
    """The area under a curve of 1000 points, from above the largest score to below the least."""
    o.refuse_empty(higher, lower)
    both = torch.cat([higher, lower]).double()
    ends = both.max().item() + 1, both.min().item() - 1
    thresholds = torch.linspace(*ends, 1000).double()[:, None]
    rates = [(scores.double() > thresholds).double().mean(dim=1) for scores in (higher, lower)]
    return torch.trapezoid(*rates).item()


AUROC = {
    "a tie counts half, not nothing": o.pairs(tie=0.0),
    "a tie counts half, not a whole": o.pairs(tie=1.0),
    "the groups are exchanged: the first one should lie higher": o.pairs(turned=True),
    "an area below .5 was turned over: it says that the score points the wrong way": folded,
    "torch.searchsorted was given scores that were not sorted": unsorted,
    "each score was compared with the mean of the other group, not with each of its scores": (
        above(torch.mean)
    ),
    "each score was compared with the median of the other group, not with each of its scores": (
        above(torch.median)
    ),
    "each score was compared with one other only, the one at the same place": one_to_one,
    "scores between two evenly spaced thresholds became ties; compare scores with each other": (
        at_thresholds
    ),
    "it runs from -1 to 1; .5 stands for a score that says nothing": lambda *scores: (
        2 * o.pairs()(*scores) - 1
    ),
}

# Pairs of problems


def never_wanted(values, result, reference, wanted):
    return matched()(values, result, reference & ~wanted, wanted)


def without_itself(values, result, reference, wanted):
    """A wanted problem is no reference problem for itself, but it is for other ones."""
    rows, partners = [], []
    for row in wanted.nonzero()[:, 0].tolist():
        others = reference & (torch.arange(len(result)) != row)
        alone = torch.arange(len(result)) == row
        if (others & (result == result[row])).any():
            found, partner = matched()(values, result, others, alone)
            rows.append(found)
            partners.append(partner)
    if not rows:
        raise ValueError("no pair")
    return torch.cat(rows), torch.cat(partners)


MATCHED = {
    "the plain mean over the reference: results were not matched": matched(plain=True),
    "each result was given once; a problem for each wanted one": matched(once=True),
    "one reference problem was taken as the partner, not the mean of all": matched(first_only=True),
    "wanted problems without a partner were not left out": matched(keep_all=True),
    "the wanted problems were compared with all problems of their results": matched(
        among=lambda reference, wanted: torch.ones_like(reference)
    ),
    "wanted problems were kept out of the reference; those that are in it count, too": never_wanted,
    "a problem was kept from being its own partner; it is one of the reference problems": (
        without_itself
    ),
    "the wanted problems were compared with themselves": matched(
        among=lambda reference, wanted: wanted
    ),
    "the two results are exchanged: rows first, then partners": matched(swapped=True),
    "the values of the wanted problems were returned, not which problems they are": matched(
        own=True
    ),
    "the median was taken, not the mean": matched(
        average=lambda numbers: float(torch.tensor(numbers).median())
    ),
    "the rows were counted among the wanted problems, not among all": matched(
        number=lambda row, wanted: int(wanted[:row].sum())
    ),
    "the rows were sorted by result; they keep their order": matched(
        order=lambda rows, result: sorted(rows, key=lambda row: (result[row], row))
    ),
    "a table was indexed by the result: a negative one is read from the end, where another result "
    "stands": matched(place=lambda result: result % (result.max() + 1)),
    "the difference was returned; the partner is what values[rows] is compared with": matched(
        difference=True
    ),
}
