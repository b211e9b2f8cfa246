"""Oracles of chapter 17: everything the slow way, with single things changed. The small model is
that of chapter 15.
"""

import itertools
import math

import torch

from solutions.ch16_neurons_and_heuristics import all_heuristics
from tests.exercises.oracles.ch15 import DONORS, EVERY, PLACES, SMALL, TOKENS, last_logits, seeded

# the first two tokens are those of TOKENS, the wrong run
CORRECTED = torch.cat([TOKENS[:, :2], DONORS[:, 2:]], dim=1)
CELLS = [
    [],
    PLACES[4:7],
    [PLACES[9]],
    [("hook_embed", (EVERY,))],
    [("hook_embed", (2,)), ("blocks.0.hook_mlp_out", (3,))],
]
# the cells patch it elsewhere
HELD = [PLACES[-1], ("blocks.0.hook_resid_post", (2,)), ("blocks.0.hook_mlp_out", (2,))]


def likelihood(shift=1, first=1, extra=0, mean=False, sign=1, log=True, raw=False, dim=-1):
    """input_log_likelihood, one token at a time, each from a run on what stands before it. dim: -1
    vocab, 1 pos.
    """

    def total(model, tokens, length):
        each, row = [], torch.arange(len(tokens))
        for at in range(first, length + extra):
            logits = model(tokens[:, : at if shift else at + 1])  # batch pos vocab
            p = logits.softmax(dim=dim)[row, -1, tokens[:, at]]
            each.append(logits[row, -1, tokens[:, at]] if raw else p.log() if log else p)
        return sign * sum(each) / (len(each) if mean else 1)

    return total


# begin with 3; the last token is free
ALL_INPUTS = torch.tensor([(3, *rest, 0) for rest in itertools.product(range(11), repeat=3)])


def pairs(tie=0.5, turned=False, wins=lambda x, y: x > y):
    def area(higher, lower):
        total = [
            1.0 if wins(x, y) else tie * (x == y) for x in higher.tolist() for y in lower.tolist()
        ]
        share = sum(total) / len(total)
        return 1 - share if turned else share

    return area


def unsorted(higher, lower):
    """torch.searchsorted on scores in whatever order they came."""
    below, upto = (torch.searchsorted(lower, higher, right=right) for right in (False, True))
    return (below + upto).double().mean().item() / 2 / len(lower)


def above_the_mean(higher, lower):
    return (higher > lower.double().mean()).double().mean().item()


# Problems of which some have negative, zero and broken values: a - b, a / b and (a - b) / 2

A, B = (
    torch.tensor(list(itertools.product((0, 1, 4, 8, 9, 10, 12, 24, 99), repeat=2))).repeat(2, 1).T
)
OPERATOR = torch.arange(len(A)) // (len(A) // 2)
OPERANDS = torch.stack([A, B], dim=1)
VALUES = torch.stack([(A - B).double(), A / (B + 2.0), (A - B) / 2.0], dim=1)


def variants(
    operator_counts=True,
    itself=False,
    longer=True,
    zero=False,
    two_digits=10,
    sign=True,
    whole=True,
    every=all,
):
    def allowed(operator, operands, values, row):
        def digits_fit(old, new):
            if old >= 10:
                return new >= two_digits
            return (new >= 1 or zero) and (longer or new < 10)

        def alike(old, new):
            same_sign = (old > 0) == (new > 0) and ((old < 0) == (new < 0) or sign == "above 0")
            same_kind = (old == round(old) or whole == "always") == (new == round(new))
            return (same_sign or not sign) and (same_kind or not whole)

        found = []
        for other in range(len(operator)):
            fits = operator[other] == operator[row] or not operator_counts
            fits &= itself or other != row
            fits &= every(
                digits_fit(x, y) for x, y in zip(operands[row].tolist(), operands[other].tolist())
            )
            fits &= every(alike(x, y) for x, y in zip(values[row].tolist(), values[other].tolist()))
            found.append(bool(fits))
        return torch.tensor(found)

    return allowed


# Where a neuron was studied (a + b), and elsewhere (a - b); as many problems here as there

HERE = torch.cartesian_prod(torch.arange(20), torch.arange(20))
THERE = torch.cartesian_prod(torch.arange(10, 30), torch.arange(20))
RESULT, NEW_RESULT = HERE.sum(dim=1), THERE[:, 0] - THERE[:, 1]
NEW = all_heuristics(THERE[:, 0], THERE[:, 1], NEW_RESULT, most=1.0, least=1)
PROMOTED = torch.rand(400, generator=seeded(1)) + torch.rand(40, generator=seeded(2))[RESULT]
SPOKEN_OF = {
    "range: 10 <= a < 20": lambda a, b: 10 <= a < 20,
    "range: 5 <= result < 15": lambda a, b: 5 <= a - b < 15,
    "modulo: b mod 4 = 1": lambda a, b: b % 4 == 1,
    "pattern: result has a 2": lambda a, b: abs(a - b) % 10 == 2 or abs(a - b) // 10 == 2,
    "identical: a = b": lambda a, b: a == b,
}


def best_results(promoted, result, count):
    """The results with the highest mean of promoted, by loops."""
    means = {r: promoted[result == r].double().mean().item() for r in result.unique().tolist()}
    return set(sorted(means, key=means.get, reverse=True)[:count])


def covered(none=False, count=None, places=False, least=False, singly=False, mixed=False):
    def mask(name, promoted, result, new, new_result):
        if name == "none":
            return torch.full((len(new_result),), none)
        if not name.startswith("multi-result"):
            return new.masks[new.names.index(name)]
        k, belongs_to = count or int(name.split()[1]), new_result if mixed else result
        wanted = best_results(-promoted if least else promoted, belongs_to, k)
        wanted = set(result[promoted.argsort(descending=True)[:k]].tolist()) if singly else wanted
        return torch.tensor([int(r) in wanted for r in (result if places else new_result)])

    return mask


# Results 0 to 4; the reference has no 4; result 3 is wanted often and rare in the reference

RESULTS = torch.tensor([0, 0, 1, 1, 1, 2, 3, 3, 3, 3, 4, 4, 0, 2])
REFERENCE = torch.tensor([1, 1, 1, 1, 0, 1, 1, 0, 0, 0, 0, 0, 0, 0], dtype=torch.bool)
WANTED = torch.tensor([0, 0, 0, 0, 1, 0, 0, 1, 1, 1, 1, 1, 1, 0], dtype=torch.bool)
MEASURED = torch.rand(14, generator=seeded(3)).double() + RESULTS


def matched(
    keep_all=False,
    once=False,
    pooled=False,
    plain=False,
    among=lambda reference, wanted: reference,
    swapped=False,
):
    def both(values, result, reference, wanted):
        means, pool = {}, among(reference, wanted)
        for r in set(result[pool].tolist()):
            mine = [
                v
                for v, other, ok in zip(values.tolist(), result.tolist(), pool.tolist())
                if ok and other == r
            ]
            means[r] = sum(mine) / len(mine)
        rows = [
            i for i in range(len(result)) if wanted[i] and (keep_all or int(result[i]) in means)
        ]
        mine = {
            int(result[i]): float(values[wanted & (result == result[i])].double().mean())
            for i in rows
        }.values()
        mine = mine if once == "both" else [float(values[i]) for i in rows]
        own = sum(mine) / len(mine)
        results, partners = (
            {int(result[i]) for i in rows},
            [means[int(result[i])] for i in rows if int(result[i]) in means],
        )
        partners = [means[r] for r in results] if once else partners
        partners = (
            [v for v, r in zip(values[pool].tolist(), result[pool].tolist()) if r in results]
            if pooled
            else partners
        )
        other = float(values[reference].mean()) if plain else sum(partners) / len(partners)
        return (other, own) if swapped else (own, other)

    return both


def factors(sign=1, log=math.log, whole=False, swapped=False):
    def split(count, promoted, count_there, promoted_there):
        missing = sign * log(count_there / count)
        weak = sign * log(promoted_there / promoted) - (0 if whole else missing)
        return (weak, missing) if swapped else (missing, weak)

    return split


def differing(nothing=None, last=False, base=0, equal=False, counted=False):
    def position(tokens, other):
        found = []
        for x, y in zip(tokens.tolist(), other.tolist()):
            at = [i for i, (u, v) in enumerate(zip(x, y)) if (u == v) == equal]
            none = len(x) if nothing is None else nothing
            found.append(
                len(x) - len(at) if counted else (at[-1 if last else 0] + base) if at else none
            )
        return torch.tensor(found)

    return position


def repaired(
    end=-1,
    roles=lambda wrong, corrected: (wrong, corrected),
    hold=True,
    held_from="own",
    held_wins=True,
    whole=False,
):
    """corrected_run_patch, one run for each cell."""

    def logits(model, wrong, corrected, cells, held=()):
        prompts, others = (run[:, :end] for run in roles(wrong, corrected))
        (_, own), (_, saved) = SMALL.run_with_cache(prompts), SMALL.run_with_cache(others)
        kept, out = own if held_from == "own" else saved, []
        saved = {**saved, **{name: kept[name] for name, _ in held}} if whole else saved
        for cell in cells:
            put = [((name, index), saved[name][(EVERY, *index)]) for name, index in cell]
            keep = [
                ((name, index), kept[name][(EVERY, *index)])
                for name, index in (held if hold else ())
            ]
            out.append(last_logits(prompts, [*put, *keep] if held_wins else [*keep, *put]))
        return torch.stack(out)

    return logits
