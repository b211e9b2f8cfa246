"""Chapter 13 done the slow way, with options that turn each exercise into a usual mistake."""

from itertools import combinations

import torch

from tests.exercises.oracles import ch13 as o
from tests.exercises.oracles.ch13 import HEADS

SETS = [[], [(0, 1)], [(1, 0)], [(0, 1), (1, 0)], [(0, 0)]]


def circuit_run(model, tokens, keep, ablation="mean", cache=None, change=None):
    """run_circuit the long way; change: what to make of the list of heads outside."""
    outside = [
        (layer, h) for layer in range(2) for h in range(model.cfg.n_heads) if (layer, h) not in keep
    ]
    lost = change(outside) if change else outside
    return o.logits_of(frozenset(HEADS) - set(lost), ablation)


def means_on_the_way(model, tokens, keep, ablation="mean", cache=None):
    """The mistake: layer 1 is replaced by what it writes when layer 0 is already ablated."""
    half = [head for head in HEADS if head[0] == 0 or head in keep]
    first = circuit_run(model, tokens, keep, ablation)
    if ablation == "zero" or half == HEADS:
        return first
    hooks = []
    for layer in range(2):
        lost = [h for h in range(2) if (layer, h) not in keep]

        def ablate(z, hook, lost=lost):
            means = {
                "mean": z.mean((0, 1)),
                "mean per position": z.mean(0),
                "resample": z.roll(1, 0),
            }[ablation]
            z[:, :, lost] = means.expand_as(z)[:, :, lost].clone()
            return z

        hooks.append((f"blocks.{layer}.attn.hook_z", ablate))
    return model.run_with_hooks(tokens, hooks)


def shares(model, repeats, circuits, metric, ablation="mean", formula=None, invert=False):
    circuits = [[head for head in HEADS if head not in c] for c in circuits] if invert else circuits
    return o.share(circuits, metric, ablation, formula)


def both(
    model,
    repeats,
    circuit,
    knocked_out,
    metric,
    ablation="mean",
    swap=False,
    make=None,
    intact=False,
):
    """completeness on SMALL; the options are the mistakes."""
    columns = []
    for heads in (circuit, HEADS):
        without = [[h for h in heads if h not in K] for K in knocked_out]
        without = [make(heads, K) for K in knocked_out] if make else without
        columns.append(
            o.share([heads] * len(SETS) if intact and heads == HEADS else without, metric, ablation)
        )
    return torch.stack(columns[::-1] if swap else columns, dim=1)


def worth(
    model,
    repeats,
    circuit,
    metric,
    ablation="mean",
    alone=True,
    pick=lambda x: max(x, key=abs),
    whole=False,
    first=-1,
):
    """minimality on SMALL; the options are the mistakes."""
    values = {}
    base = HEADS if whole else circuit
    for v in circuit:
        rest = [h for h in base if h != v]
        parts = [list(some) for n in range(len(rest) + 1) for some in combinations(rest, n)]
        gains = [
            (o.share([[*part, v]], metric, ablation) - o.share([part], metric, ablation)).item()
            for part in parts
        ]  # the last part is all of the rest
        values[v] = (gains[first], pick(gains)) if alone else (pick(gains), gains[first])
    return values


def removed_one_by_one(model, repeats, metric, ablation="mean", choose=max, once=False, back=False):
    """greedy_path on SMALL; the options are the mistakes."""
    path = [HEADS]
    if once:
        kept = {v: o.share([[h for h in HEADS if h != v]], metric, ablation).item() for v in HEADS}
        order = sorted(HEADS, key=kept.get, reverse=True)
        return [[h for h in HEADS if h not in order[:n]] for n in range(len(HEADS) + 1)]
    while path[-1]:
        smaller = [[h for h in path[-1] if h != v] for v in path[-1]]
        path.append(choose(smaller, key=lambda c: o.share([c], metric, ablation).item()))
    return path[::-1] if back else path


def grown(model, repeats, metric, ablation="mean"):
    path = [[]]
    while len(path[-1]) < len(HEADS):
        larger = [sorted([*path[-1], h]) for h in HEADS if h not in path[-1]]
        path.append(max(larger, key=lambda c: o.share([c], metric, ablation).item()))
    return path[::-1]


def found(
    model,
    repeats,
    method,
    metric,
    ablation="mean",
    share=0.95,
    choose=0,
    reverse=True,
    only=None,
    off=0,
):
    """find_circuit on SMALL; the options are the mistakes."""
    path = removed_one_by_one(model, repeats, metric, ablation)[::-1]
    if (only or method) == "attribution":
        drops = o.slopes_by_steps(o.SMALL, o.REPEATS, metric, ablation)
        ranked = sorted(HEADS, key=lambda h: drops[h].item(), reverse=reverse)
        path = [ranked[:n] for n in range(5)]
    good = [n for n, s in enumerate(o.share(path, metric, ablation)) if s >= share]
    if choose == "from the top":
        good = [n for n in range(5) if set(range(n, 5)) <= set(good)]
    n = good[-1] if choose == "largest" else good[0]
    return sorted(path[max(0, n - off)])
