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


def scores_by_loops(
    zeros_count=False,
    highest=True,
    k_is_active=False,
    over_union=False,
    over_active=False,
    one_more=0,
):
    """heuristic_scores, one problem at a time; the defaults are right."""

    def scores(values, masks):
        order, found = values.argsort(descending=highest).tolist(), []
        for mask in masks:
            size = int(mask.sum())
            active = int((values > 0).sum())
            k = active if k_is_active else size
            overlap = 0
            for problem in order[: k + one_more]:
                counts = zeros_count or bool(values[problem] > 0)
                overlap += bool(mask[problem]) and counts
            union = 2 * size - overlap
            divisor = k
            if over_union:
                divisor = union
            if over_active:
                divisor = active
            found.append(overlap / divisor)
        return torch.tensor(found)

    return scores


def order_for_rank(values, masks):
    """A wrong heuristic_scores: the list of problems, best first, is read as if it were ranks."""
    sizes = masks.sum(dim=-1)
    counted = (values.argsort(descending=True) < sizes[:, None]) & (values > 0)
    return (masks & counted).sum(dim=-1) / sizes


def classifier(
    on=("activation", "promoted"),
    most=9,
    ties="large",
    ignore_threshold=False,
    above=False,
    own_counts=None,
):
    """classify_neuron with one thing changed; on: what the operands' heuristics and the direct ones
    are scored on. most: larger multi-result sets are forgotten. above: the threshold itself is not
    enough. own_counts: in place of the counts that were given.
    """

    def classify(activation, promoted, result, heuristics, threshold=0.6, counts=(2, 3, 4)):
        values = {"activation": activation, "promoted": promoted}
        best = ("none", -1.0, 0)
        listed = list(zip(heuristics.names, heuristics.masks, heuristics.direct))
        for count in [count for count in own_counts or counts if count <= most]:
            mask = several_results(promoted, result, count)
            listed.append((f"multi-result: {count} values", mask, torch.tensor(True)))
        for name, mask, is_direct in listed:
            scored, k = values[on[int(is_direct)]], int(mask.sum())
            highest = scored.topk(k).indices
            score = float((mask[highest] & (scored[highest] > 0)).sum() / k)
            size = {"large": 1, "small": -1}[ties] * k
            if (round(score, 6), size) > (round(best[1], 6), best[2]):
                best = (name, score, size)
        name, score, _ = best
        named = score > threshold or (score == threshold and not above) or ignore_threshold
        return (name if named else "none"), score

    return classify


def planted_neurons(a, b, result, generator):
    """The heuristic it was made from -> (activation, promoted): one of every type, with noise.

    A neuron on one operand promotes all kinds of results. A direct one is active on problems that
    have little to do with its heuristic; only together with its value vector does it stand for
    something.
    """
    masks = {
        "range: 10 <= a < 20": (a >= 10) & (a < 20),
        "range: 5 <= b < 15": (b >= 5) & (b < 15),
        "range: 20 <= result < 30": (result >= 20) & (result < 30),
        "modulo: a mod 7 = 3": a % 7 == 3,
        "modulo: b mod 4 = 1": b % 4 == 1,
        "modulo: result mod 5 = 2": result % 5 == 2,
        "pattern: a has a 3": (a % 10 == 3) | (a // 10 == 3),
        "pattern: b has a 1": (b % 10 == 1) | (b // 10 == 1),
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
    shuffled = torch.randperm(len(a), generator=generator)
    return {
        "pure noise": (noise(), noise()),
        "a silent neuron": (torch.zeros(len(a)), torch.zeros(len(a))),
        "a neuron that only ever speaks against the answer": (noise(), -noise()),
        "a number drawn for each operand": (product, product * noise()),
        "a shuffled range": (((a >= 10) & (a < 25)).float()[shuffled], noise()),
    }
