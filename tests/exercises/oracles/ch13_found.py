"""The usual wrong answers of chapter 13 to find_circuit, as code."""

from functools import partial

from tests.exercises.oracles import ch13 as o
from tests.exercises.oracles.ch13 import heads
from tests.exercises.oracles.ch13_searches import highest, removed


def first_good(path, scores, share):
    return next(circuit for circuit, value in zip(path, scores) if value >= share)


def from_the_top(path, scores, share):
    good = [size for size in range(len(path)) if min(scores[size:]) >= share]
    return path[good[0]]


def one_less(path, scores, share):
    return path[max(0, path.index(first_good(path, scores, share)) - 1)]


def largest_good(path, scores, share):
    return first_good(path[::-1], scores[::-1], share)


def most_faithful(path, scores, share):
    return path[highest(scores, 0)]


def nearest_to_share(path, scores, share):
    return path[min(range(len(path)), key=lambda size: abs(scores[size] - share))]


def not_none(path, scores, share):
    return first_good(path[1:], scores[1:], share)


def more(path, scores, share):
    return next(circuit for circuit, value in zip(path, scores) if value > share + 1e-9)


def found(
    model,
    repeats,
    method,
    metric,
    ablation="mean",
    share=0.95,
    pick=first_good,
    rank=lambda drop: -drop,
    only=None,
    ranked_by=None,
    judged_by=None,
    from_the_large_end=False,
    in_order=True,
):
    """find_circuit; the options are the mistakes."""
    if (only or method) == "greedy":
        path = removed(model, repeats, metric, ablation)[::-1]
        path = path[::-1] if from_the_large_end else path
    else:
        drops = o.slopes_by_steps(model, repeats, metric, ranked_by or ablation)
        ranked = sorted(heads(model), key=lambda head: rank(drops[head].item()))
        path = [ranked[:size] for size in range(len(ranked) + 1)]
    scores = o.share(model, repeats, path, metric, judged_by or ablation).tolist()
    circuit = pick(path, scores, share)
    return sorted(circuit) if in_order else circuit


def path_of(model, repeats, method, metric, kind):
    """The circuits among which the smallest that is good enough is looked for."""
    if method == "greedy":
        return removed(model, repeats, metric, kind)[::-1]
    drops = o.slopes_by_steps(model, repeats, metric, kind)
    ranked = sorted(heads(model), key=lambda head: -drops[head].item())
    return [ranked[:size] for size in range(len(ranked) + 1)]


def always_95(model, repeats, method, metric, ablation="mean", share=0.95):
    return found(model, repeats, method, metric, ablation)


def by_mean(model, repeats, method, metric, ablation="mean", share=0.95):
    return found(model, repeats, method, metric, "mean", share)


def added_up(model, repeats, method, metric, ablation="mean", share=0.95):
    """By attribution: heads until their attributions add up to the share; nothing is run."""
    if method == "greedy":
        return found(model, repeats, method, metric, ablation, share)
    drops = o.slopes_by_steps(model, repeats, metric, ablation)
    circuit, total = [], 0.0
    for head in sorted(heads(model), key=lambda head: -drops[head].item()):
        if total >= share * drops.sum().item():
            break
        circuit.append(head)
        total += drops[head].item()
    return sorted(circuit)


ABSOLUTE = {
    "ranked by absolute value; a head that harms comes last": partial(
        found, rank=lambda drop: -abs(drop)
    )
}
FOUND = ABSOLUTE | {
    "the largest circuit was returned, which is the whole model": partial(found, pick=largest_good),
    "the most faithful circuit was returned; the smallest that is good enough": partial(
        found, pick=most_faithful
    ),
    "the circuit nearest to `share` was returned; at least `share` is asked for": partial(
        found, pick=nearest_to_share
    ),
    "it stopped at the first circuit that is not good enough; a smaller one may be": partial(
        found, pick=from_the_top
    ),
    "one head is missing: that circuit is below `share`": partial(found, pick=one_less),
    "the heads were ranked from lowest to highest attribution": partial(
        found, rank=lambda drop: drop
    ),
    "attributions were added up to the share; run the circuits": added_up,
    "the heads come in the order of their rank; sort them": partial(found, in_order=False),
    "the method was ignored: always greedy": partial(found, only="greedy"),
    "the method was ignored: always by attribution": partial(found, only="attribution"),
    "the ranking ignored the ablation: always mean": partial(found, ranked_by="mean"),
    "the circuits of the path were measured by mean ablation, whatever the ablation": partial(
        found, judged_by="mean"
    ),
    "the ablation was ignored: always mean": by_mean,
    "greedy_path runs from all to none; look from the small end": partial(
        found, from_the_large_end=True
    ),
    "`share` was ignored": always_95,
}
NOT_NONE = {"the empty circuit was not tried": partial(found, pick=not_none)}
MORE = {"`share` itself is enough, it need not be more": partial(found, pick=more)}
ONE_TOO_FEW = {"one head is missing: that circuit is below `share`": partial(found, pick=one_less)}
