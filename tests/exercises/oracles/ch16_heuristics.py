"""Oracles of chapter 16's names: maps and scores by loops, planted neurons and senseless ones."""

import torch

from solutions.ch16_neurons_and_heuristics import several_results


def laid_out(transposed=False, empty=torch.nan):
    def grid(values, a, b, size):
        table = torch.full((size, size, *values.shape[1:]), empty)
        for value, i, j in zip(values, b if transposed else a, a if transposed else b):
            table[i, j] = value
        return table

    return grid


def above_0(values):
    return values > 0


def size_of_mask(size, **others):
    return size


def one_by_one(ranked, highest):
    """The problems in the order of their values, equal ones in whatever order sorting left them."""
    return [[problem] for problem in ranked.argsort(descending=highest).tolist()]


def one_by_one_from_behind(ranked, highest):
    """The same, but of equal ones the last problem comes first."""
    order = ranked.flip(0).argsort(descending=highest, stable=True)
    return [[len(ranked) - 1 - problem] for problem in order.tolist()]


def level_groups(ranked, highest):
    """The problems in the order of their values, those with equal values together."""
    found = {}
    for problem, value in enumerate(ranked.tolist()):
        found.setdefault(value, []).append(problem)
    return [found[value] for value in sorted(found, reverse=highest)]


def shared(places_left, level):
    return min(1.0, places_left / level)


def whole_group(group, mask):
    return group


def in_mask_first(group, mask):
    return [problem for problem in group if mask[problem]] or group


def scores_by_loops(
    highest=True,
    one_more=0,
    counts=above_0,
    divisor=size_of_mask,
    k_is_active=False,
    key=None,
    groups=level_groups,
    share=shared,
    among=whole_group,
):
    """heuristic_scores, one group of equal values at a time; the defaults are right. divisor: of
    the size of the heuristic, how many problems are counted, the overlap, how many are active, how
    many there are. share: what each of a group counts, of the places left and how many share them;
    among: who does, of the group and the mask.
    """

    def scores(values, masks):
        ranked = key(values) if key else values
        ordered, found = groups(ranked, highest), []
        active, speaks = int((values > 0).sum()), counts(values).tolist()
        for mask in masks.tolist():
            size, counted, overlap = sum(mask), 0, 0
            left = (active if k_is_active else size) + one_more
            for group in ordered:
                if left <= 0:
                    break
                each = share(left, len(among(group, mask)))
                counted += each * sum(speaks[problem] for problem in group)
                overlap += each * sum(mask[problem] and speaks[problem] for problem in group)
                left -= len(group)
            numbers = {"counted": counted, "overlap": overlap, "active": active, "all": len(values)}
            found.append(torch.tensor(float(overlap)) / divisor(size, **numbers))
        return torch.stack(found)

    return scores


def order_for_rank(values, masks):
    """A wrong heuristic_scores: the list of problems, best first, is read as if it were ranks."""
    sizes = masks.sum(dim=-1)
    counted = (values.argsort(descending=True) < sizes[:, None]) & (values > 0)
    return (masks & counted).sum(dim=-1) / sizes


def highest_score(name, score, size):
    """By what the best heuristic is chosen: the score, then the number of problems."""
    return round(score, 6), size


def of_promoted(activation, promoted):
    return promoted


def classifier(
    on=("activation", "promoted"),
    most=9,
    key=highest_score,
    named=lambda score, threshold: score >= threshold,
    own_counts=None,
    own_threshold=None,
    fitted_to=of_promoted,
    nameless=lambda score: score,
    largest=False,
):
    """classify_neuron with one thing changed; on: what the operands' heuristics and the direct ones
    are scored on. most: larger multi-result sets are forgotten. key: of name, score and size, the
    best has the largest. own_counts, own_threshold: in place of those that were given. fitted_to:
    what the multi-result sets are fitted to. nameless: the score that goes with "none".
    largest: the largest heuristic from the threshold on is taken.
    """

    def classify(activation, promoted, result, heuristics, threshold=0.6, counts=(2, 3, 4)):
        values = {"activation": activation, "promoted": promoted}
        threshold = own_threshold or threshold
        names, masks = list(heuristics.names), [*heuristics.masks]
        direct = heuristics.direct.tolist()
        for count in [count for count in own_counts or counts if count <= most]:
            names.append(f"multi-result: {count} values")
            masks.append(several_results(fitted_to(activation, promoted), result, count))
            direct.append(True)
        masks = torch.stack(masks)
        by_kind, sizes = [overlaps(values[which], masks) for which in on], masks.sum(dim=1).tolist()
        scores = [by_kind[is_direct][i] / sizes[i] for i, is_direct in enumerate(direct)]
        found = list(zip(names, scores, sizes))
        if largest:
            best = max(found, key=lambda heuristic: heuristic[1])
            found = [heuristic for heuristic in found if named(heuristic[1], threshold)] or [best]
            found = [max(found, key=lambda heuristic: heuristic[2])]
        name, score, _ = max(found, key=lambda heuristic: key(*heuristic))
        return (name, score) if named(score, threshold) else ("none", nameless(score))

    return classify


def overlaps(values, masks):
    """Of the k problems with the highest values above 0, how many are among a mask's own k: a list.
    By counting down the sorted problems, all masks at once; over equal values in equal steps.
    """
    best = values.sort(descending=True)
    active = int((values > 0).sum())
    counted = torch.cat([0 * masks[:, :1], masks[:, best.indices].cumsum(dim=1)], dim=1)
    _, level = best.values[:active].unique_consecutive(return_counts=True)
    ends = torch.cat([torch.zeros(1, dtype=torch.long), level.cumsum(dim=0)])  # of equal values
    k = masks.sum(dim=1).clamp(max=active)
    after = torch.searchsorted(ends, k)
    before = (after - 1).clamp(min=0)
    step = (k - ends[before]) / (ends[after] - ends[before]).clamp(min=1)
    low, high = counted.gather(1, torch.stack([ends[before], ends[after]], dim=1)).unbind(dim=1)
    return (low + step * (high - low)).tolist()


def planted_neurons(a, b, result, generator):
    """The heuristic it was made from -> (activation, promoted): one of every type, with noise.

    A neuron on one operand promotes all kinds of results. A direct one is active on problems that
    have little to do with its heuristic; only together with its value vector does it stand for
    something.
    """
    masks = {
        "range: 10 <= a < 20": (a >= 10) & (a < 20),
        "range: 5 <= b < 10": (b >= 5) & (b < 10),
        "range: 20 <= result < 30": (result >= 20) & (result < 30),
        "modulo: a mod 7 = 3": a % 7 == 3,
        "modulo: b mod 4 = 1": b % 4 == 1,
        "modulo: result mod 5 = 2": result % 5 == 2,
        "pattern: a has a 3": (a % 10 == 3) | (a // 10 == 3),
        "pattern: b has a 2": (b % 10 == 2) | (b // 10 == 2),
        "pattern: result has a 2": (result % 10 == 2) | (result // 10 == 2),
        "identical: a = b": a == b,
        "multi-result: 3 values": (result == 17) | (result == 24) | (result == 38),
        "multi-result: 4 values": torch.isin(result, torch.tensor([19, 26, 33, 45])),
    }
    planted = {}
    for name, mask in masks.items():
        noise = torch.rand(len(a), generator=generator)
        there = (0.2 + mask * (1 + torch.rand(len(a), generator=generator))) * (0.9 + 0.1 * noise)
        # a value vector with no message
        of_result = torch.rand(int(result.max()) + 1, generator=generator)[result]
        if "result" not in name and "identical" not in name:
            planted[name] = there, there * (of_result - 0.5)
        else:
            active = 1 + (a < 12).float()  # in its activation alone, it is a range of a
            planted[name] = active * (0.9 + 0.1 * noise), there
    return planted


def senseless_neurons(a, b, generator):
    """label -> (activation, promoted): neurons that stand for nothing."""

    def noise():
        return torch.rand(len(a), generator=generator)

    by_table = torch.rand(50, generator=generator)  # a number for each operand, drawn by lot
    product = by_table[a] * by_table[b]
    two_levels = (1 + (noise() < 0.5)) / 2
    shuffled = torch.randperm(len(a), generator=generator)
    elsewhere = ((a >= 10) & (a < 25))[shuffled].float()  # 1 where another problem is in the range
    return {
        "pure noise": (noise(), noise()),
        "a silent neuron": (torch.zeros(len(a)), torch.zeros(len(a))),
        "a neuron that is always equally active": (torch.ones(len(a)), torch.ones(len(a))),
        "a neuron with two levels, drawn by lot": (two_levels, two_levels),
        "a neuron that only ever speaks against the answer": (noise(), -noise()),
        "a number drawn for each operand": (product, product * noise()),
        "a shuffled range": (elsewhere * (1 + noise()), noise()),
    }
