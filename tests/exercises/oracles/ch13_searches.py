"""The usual wrong answers of chapter 13 to its searches for a circuit, as code."""

from functools import partial

import torch

from minitransformer import planted
from tests.exercises.oracles import ch13 as o
from tests.exercises.oracles.ch09 import instead
from tests.exercises.oracles.ch13 import heads, without

# Removing one by one


def highest(scores, now):
    return max(range(len(scores)), key=lambda i: scores[i])


def lowest(scores, now):
    return min(range(len(scores)), key=lambda i: scores[i])


def last_highest(scores, now):
    return max(range(len(scores)), key=lambda i: (round(scores[i], 5), i))


def nearly_highest(scores, now):
    return next(i for i in range(len(scores)) if scores[i] > max(scores) - 1e-3)


def closest_to_1(scores, now):
    return min(range(len(scores)), key=lambda i: abs(scores[i] - 1))


def least_change(scores, now):
    return min(range(len(scores)), key=lambda i: abs(scores[i] - now))


def removed(model, repeats, metric, ablation="mean", choose=highest, judged=without):
    """greedy_path. choose: scores, F now -> which head leaves; judged: what is measured for it."""
    path, now = [heads(model)], 1.0
    while path[-1]:
        some = [judged(path[-1], [head]) for head in path[-1]]
        scores = o.share(model, repeats, some, metric, ablation).tolist()
        gone = choose(scores, now)
        now = scores[gone]
        path.append(without(path[-1], [path[-1][gone]]))
    return path


def in_order_of(rank):
    """The heads leave in an order that is found once: rank(model, repeats, metric, ablation)."""

    def path(model, repeats, metric, ablation="mean"):
        order = rank(model, repeats, metric, ablation)
        return [without(heads(model), order[:size]) for size in range(len(order) + 1)]

    return path


def by_single_removals(model, repeats, metric, ablation):
    every = heads(model)
    some = [without(every, [head]) for head in every]
    scores = o.share(model, repeats, some, metric, ablation).tolist()
    return [every[i] for i in sorted(range(len(every)), key=lambda i: -scores[i])]


def by_slope(model, repeats, metric, ablation):
    drops = o.slopes_by_steps(model, repeats, metric, ablation)
    return sorted(heads(model), key=lambda head: drops[head].item())


def grown(model, repeats, metric, ablation="mean"):
    path = [[]]
    while len(path[-1]) < len(heads(model)):
        larger = [sorted([*path[-1], head]) for head in without(heads(model), path[-1])]
        scores = o.share(model, repeats, larger, metric, ablation).tolist()
        path.append(larger[highest(scores, 0)])
    return path[::-1]


def by_mean(model, repeats, metric, ablation="mean"):
    return removed(model, repeats, metric)


def by_right(model, repeats, metric, ablation="mean"):
    return removed(model, repeats, o.right_by_loops, ablation)


def only_lost(*arguments):
    """The heads that left, instead of the circuits."""
    path = removed(*arguments)
    return [without(larger, smaller)[0] for larger, smaller in zip(path, path[1:])]


PATH = {
    "the head that is missed most was left out; leave out the one missed least": partial(
        removed, choose=lowest
    ),
    "the faithfulness closest to 1 was taken; take the highest": partial(
        removed, choose=closest_to_1
    ),
    "the smallest change was taken, up or down; take the highest faithfulness": partial(
        removed, choose=least_change
    ),
    "the heads were measured by themselves; measure the circuit without each": partial(
        removed, choose=lowest, judged=lambda circuit, head: head
    ),
    "the heads were ranked once; measure anew after each removal": in_order_of(by_single_removals),
    "the heads were ranked by attribution; measure faithfulness": in_order_of(by_slope),
    "the path runs from none to all; it starts with all heads": lambda *pair: removed(*pair)[::-1],
    "it was grown from nothing; start with all heads and remove": grown,
    "the empty circuit is missing at the end": lambda *pair: removed(*pair)[:-1],
    "the whole model is missing at the start": lambda *pair: removed(*pair)[1:],
    "the heads of a circuit are not in order": lambda *pair: [
        circuit[::-1] for circuit in removed(*pair)
    ],
    "these are the heads that leave; return the circuits that are left": only_lost,
    "the ablation was ignored: always mean": by_mean,
    "the metric was ignored: always right_minus_mean": by_right,
}
OF_EQUALS = {"of equal heads the last was left out": partial(removed, choose=last_highest)}
NEARLY = {
    "of heads that are missed nearly alike the first was left out": partial(
        removed, choose=nearly_highest
    )
}
UNEVEN_TWINS = planted.induction_model(strengths=(1.0005, 1.0)).double().requires_grad_(False)

# Attribution


def graded(
    model,
    repeats,
    metric,
    ablation="mean",
    towards=None,
    detach=False,
    disturbed=0.0,
    live=False,
    combine=torch.mul,
    gather=lambda x: x.sum(dim=(0, 1, 3)),
):
    """head_attribution by autograd; the options are the mistakes. towards: another ablation, or
    "nothing"; disturbed: how far towards ablation the gradient is taken; live: the change is that
    of the same run; combine: change, slope ->; gather: batch pos head d_head -> head.
    """
    cache = o.clean_outputs(model, repeats.tokens)
    ablated = {name: instead_of_all(z, towards or ablation) for name, z in cache.items()}
    zeros = {name: torch.zeros_like(z).requires_grad_() for name, z in cache.items()}

    read = dict(cache)

    def add(z, hook):
        if live:
            read[hook.name] = z.detach()
        z = z + disturbed * (ablated[hook.name] - z)
        return (z.detach() if detach else z) + zeros[hook.name]

    with torch.enable_grad():
        logits = model.run_with_hooks(repeats.tokens, [(name, add) for name in zeros])
        slopes = torch.autograd.grad(metric(logits, repeats), list(zeros.values()))
    changes = [read[name] - ablated[name] for name in zeros]
    return torch.stack([gather(combine(*pair)) for pair in zip(changes, slopes)])


def instead_of_all(z, kind):
    if kind == "nothing":
        return torch.zeros_like(z)
    return torch.stack([instead(z[:, :, head], kind) for head in range(z.shape[2])], dim=2)


def really_ablated(model, repeats, metric, ablation="mean"):
    every = heads(model)
    whole = o.score(model, repeats, every, metric, ablation)
    falls = [
        whole - o.score(model, repeats, without(every, [head]), metric, ablation) for head in every
    ]
    return torch.stack(falls).view(-1, 2)


def of_the_loss(model, repeats, metric, ablation="mean"):
    return graded(model, repeats, o.minus_planted_loss, ablation)


def lengths(change, slope):
    return change.norm(dim=3, keepdim=True) * slope.norm(dim=3, keepdim=True)


SLOPES = {
    "the sign is wrong: a head that helps has a positive number": lambda *pair: -graded(*pair),
    "the outputs were compared with 0; use ablated_outputs": partial(graded, towards="nothing"),
    "the ablation was ignored: always mean": partial(graded, towards="mean"),
    "the gradient was not multiplied with the change": partial(
        graded, combine=lambda change, slope: slope
    ),
    "lengths were multiplied; multiply number by number": partial(graded, combine=lengths),
    "absolute values were added up": partial(
        graded, combine=lambda change, slope: (change * slope).abs()
    ),
    "the absolute value of the result was taken": lambda *pair: graded(*pair).abs(),
    "sums over d_head were made absolute before batch and pos were added up": partial(
        graded, gather=lambda x: x.sum(dim=3).abs().sum(dim=(0, 1))
    ),
    "it is a mean over batch and positions; add up": partial(
        graded, gather=lambda x: x.sum(dim=3).mean(dim=(0, 1))
    ),
    "it is a mean over the batch; add up": partial(
        graded, gather=lambda x: x.sum(dim=(1, 3)).mean(dim=0)
    ),
    "it is a mean over d_head; add up": partial(
        graded, gather=lambda x: x.sum(dim=(0, 1)).mean(dim=1)
    ),
    "it is a mean over batch, pos and d_head; add up": partial(
        graded, gather=lambda x: x.mean(dim=(0, 1, 3))
    ),
    "heads were added up, d_head is left; add up d_head": partial(
        graded, gather=lambda x: x.sum(dim=(0, 1, 2))
    ),
    "the gradient is that of the ablated run; take the undisturbed one": partial(
        graded, disturbed=1.0
    ),
    "the gradient is that at gates of 0, with all heads ablated; take it undisturbed": partial(
        graded, disturbed=1.0, live=True
    ),
    "the gradient is that half-way to ablation; take the undisturbed one": partial(
        graded, disturbed=0.5
    ),
    "changes and slopes were added up over batch and pos before they were multiplied": partial(
        graded, combine=lambda change, slope: change.sum((0, 1), True) * slope.sum((0, 1), True)
    ),
    "only the last position was added up": partial(
        graded, gather=lambda x: x[:, -1].sum(dim=(0, 2))
    ),
    "heads were really ablated; here one gradient must do": really_ablated,
    "layer 1 was detached from layer 0: only what goes straight to the logits": partial(
        graded, detach=True
    ),
    "the last layer stands first": lambda *pair: graded(*pair).flip(0),
    "the axes are exchanged: [layer, head]": lambda *pair: graded(*pair).T,
    "the metric was ignored: always minus_loss": of_the_loss,
}
