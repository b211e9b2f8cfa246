"""The usual wrong answers of chapter 13 to its searches for a circuit, as code."""

from functools import partial

import torch

from tests.exercises.oracles import ch13 as o
from tests.exercises.oracles.ch13 import HEADS, without

# Removing one by one


def removed_one_by_one(model, repeats, metric, ablation="mean", choose=max, once=False, back=False):
    """greedy_path on SMALL; the options are the mistakes."""

    def quality(circuit):
        return o.share([circuit], metric, ablation).item()

    path = [HEADS]
    if once:
        order = sorted(HEADS, key=lambda head: quality(without(HEADS, [head])), reverse=True)
        return [without(HEADS, order[:size]) for size in range(len(HEADS) + 1)]
    while path[-1]:
        path.append(choose([without(path[-1], [head]) for head in path[-1]], key=quality))
    return path[::-1] if back else path


def grown(model, repeats, metric, ablation="mean"):
    path = [[]]
    while len(path[-1]) < len(HEADS):
        larger = [sorted([*path[-1], head]) for head in without(HEADS, path[-1])]
        path.append(max(larger, key=lambda circuit: o.share([circuit], metric, ablation).item()))
    return path[::-1]


def no_empty_circuit(*arguments):
    return removed_one_by_one(*arguments)[:-1]


def no_whole_model(*arguments):
    return removed_one_by_one(*arguments)[1:]


def last_of_equals(model, repeats, metric, ablation="mean"):
    """On the OR gate, where either input will do: the last head goes first."""
    return [[(0, 0), (0, 1)], [(0, 0)], []]


PATH = {
    "the head that is missed most was left out; leave out the one missed least": partial(
        removed_one_by_one, choose=min
    ),
    "the heads were ranked once; measure anew after each removal": partial(
        removed_one_by_one, once=True
    ),
    "the path runs from none to all; it starts with all heads": partial(
        removed_one_by_one, back=True
    ),
    "it was grown from nothing; start with all heads and remove": grown,
    "the empty circuit is missing at the end": no_empty_circuit,
    "the whole model is missing at the start": no_whole_model,
}

# Attribution


def sign_wrong(*arguments):
    return -o.slopes_by_steps(*arguments)


def towards_zero(model, repeats, metric, ablation="mean"):
    return o.slopes_by_steps(model, repeats, metric, "zero")


def absolute(*arguments):
    return o.slopes_by_steps(*arguments).abs()


def really_ablated(model, repeats, metric, ablation="mean"):
    whole = o.score(HEADS, metric, ablation)
    falls = [whole - o.score(without(HEADS, [head]), metric, ablation) for head in HEADS]
    return torch.stack(falls).view(2, 2)


def sign_wrong_on_twins(*arguments):
    return torch.tensor([[0, 0], [-9.5, -9.5]], dtype=torch.float64)


def direct_only(model, repeats, metric, ablation="mean"):
    """The gradient of what goes straight to the output; layer 1 was detached from layer 0."""
    after = "blocks.1.hook_resid_post"
    return o.slopes_by_steps(model, repeats, metric, ablation, where=after)


SLOPES = {
    "the sign is wrong: a head that helps has a positive number": sign_wrong,
    "the outputs were compared with 0; use ablated_outputs": towards_zero,
    "the gradient was not multiplied with the change": partial(o.slopes_by_steps, ablate=False),
    "absolute values were added up": absolute,
    "heads were really ablated; here one gradient must do": really_ablated,
    "layer 1 was detached from layer 0: only what goes straight to the logits": direct_only,
}

# The smallest circuit


def found(
    model,
    repeats,
    method,
    metric,
    ablation="mean",
    share=0.95,
    choose="smallest",
    reverse=True,
    only=None,
    off=0,
):
    """find_circuit on SMALL; the options are the mistakes."""
    path = removed_one_by_one(model, repeats, metric, ablation)[::-1]
    if (only or method) == "attribution":
        drops = o.slopes_by_steps(o.SMALL, o.REPEATS, metric, ablation)
        ranked = sorted(HEADS, key=lambda head: drops[head].item(), reverse=reverse)
        path = [ranked[:size] for size in range(5)]
    good = [size for size, value in enumerate(o.share(path, metric, ablation)) if value >= share]
    if choose == "from the top":
        good = [size for size in range(5) if set(range(size, 5)) <= set(good)]
    size = good[-1] if choose == "largest" else good[0]
    return sorted(path[max(0, size - off)])


def always_95(model, repeats, method, metric, ablation="mean", share=0.95):
    return found(model, repeats, method, metric, ablation)


def more_than(model, repeats, method, metric, ablation="mean", share=0.95):
    """On the gates with share 1: no circuit has more."""
    raise StopIteration


def by_absolute_value(*arguments):
    """The head that works against the answer ranks second on AGAINST."""
    return [(0, 0), (1, 0), (1, 1)]


def one_twin(*arguments):
    return [(0, 0), (1, 0)]


FOUND = {
    "the largest circuit was returned, which is the whole model": partial(found, choose="largest"),
    "it stopped at the first circuit that is not good enough; a smaller one may be": partial(
        found, choose="from the top"
    ),
    "one head is missing: that circuit is below `share`": partial(found, off=1),
    "the heads were ranked from lowest to highest attribution": partial(found, reverse=False),
    "the method was ignored: always greedy": partial(found, only="greedy"),
    "the method was ignored: always by attribution": partial(found, only="attribution"),
    "`share` was ignored": always_95,
}
