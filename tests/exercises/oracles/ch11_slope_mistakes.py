"""What people get wrong in attribution_patch: one backward pass, with something changed."""

import torch

from tests.exercises.oracles.ch11 import cache_of


def add_zero(x):
    zero = torch.zeros_like(x, requires_grad=True)
    return zero, x + zero


def cut_off(x):
    leaf = x.detach().clone().requires_grad_()
    return leaf, leaf


def gradients(model, tokens, metric, names, total=torch.sum, leaf_of=add_zero):
    """The slope of the metric along each activation. total: one number of the metric's [batch].
    leaf_of(x): what is differentiated, and the activation made of it.
    """
    leaves = {}

    def listen(x, hook):
        leaves[hook.name], new = leaf_of(x)
        return new

    with torch.enable_grad():
        logits = model.run_with_hooks(tokens, [(name, listen) for name in names])
        return torch.autograd.grad(total(metric(logits[:, -1])), [leaves[name] for name in names])


def there_less_here(here, there):
    return there - here


def dot(slope, direction):
    return (slope * direction).sum(dim=-1)


def slopes_with(direction=there_less_here, product=dot, run_on=lambda here, there: here, **options):
    """attribution_patch with another direction(here, there), another product(slope, direction), in
    another run, or with other options of `gradients`.
    """

    def function(model, tokens, other, metric, names):
        here, there = cache_of(model, tokens), cache_of(model, other)
        slopes = gradients(model, run_on(tokens, other), metric, names, **options)
        return {
            name: product(slope, direction(here[name], there[name]))
            for name, slope in zip(names, slopes)
        }

    return function


def half_way(model, tokens, other, metric, names):
    """The slope at activations half-way between both runs."""
    there = cache_of(model, other)

    def average(x, hook):
        return (x + there[hook.name]) / 2

    class Moved:
        def run_with_hooks(self, tokens, hooks):
            return model.run_with_hooks(tokens, [*((name, average) for name in names), *hooks])

    slopes, here = gradients(Moved(), tokens, metric, names), cache_of(model, tokens)
    return {name: dot(slope, there[name] - here[name]) for name, slope in zip(names, slopes)}


def mean_of_both_slopes(*arguments):
    one = slopes_with()(*arguments)
    two = slopes_with(run_on=lambda here, there: there)(*arguments)
    return {name: (one[name] + two[name]) / 2 for name in one}


SLOPE_MISTAKES = {
    "the sign is turned round: it is other minus tokens": slopes_with(
        lambda here, there: here - there
    ),
    "the sign was dropped": slopes_with(product=lambda slope, by: dot(slope, by).abs()),
    "the gradient was taken in the run on other; it belongs to the run on tokens": slopes_with(
        run_on=lambda here, there: there
    ),
    "the gradient was averaged over both runs; it belongs to the run on tokens": (
        mean_of_both_slopes
    ),
    "the gradient was taken half-way between both runs; it belongs to the run on tokens": half_way,
    "the gradient was multiplied by a_other alone, not by the difference": slopes_with(
        lambda here, there: there
    ),
    "the gradient was multiplied by a alone, not by the difference": slopes_with(
        lambda here, there: here
    ),
    "the gradient was not multiplied by the difference": slopes_with(
        lambda here, there: torch.ones_like(here)
    ),
    "the last axis was not summed over: it is a dot product": slopes_with(
        product=lambda slope, by: slope * by
    ),
    "the last axis was averaged over; it is a dot product": slopes_with(
        product=lambda slope, by: (slope * by).mean(dim=-1)
    ),
    "both sides were summed before they were multiplied; it is a dot product": slopes_with(
        product=lambda slope, by: slope.sum(dim=-1) * by.sum(dim=-1)
    ),
    "sizes were added up; it is a dot product": slopes_with(
        product=lambda slope, by: (slope * by).abs().sum(dim=-1)
    ),
    "the positions were summed over; the dot product is over the last axis": slopes_with(
        product=lambda slope, by: (slope * by).sum(dim=1)
    ),
    "the batch was summed over; every prompt keeps its own guess": slopes_with(
        product=lambda slope, by: dot(slope, by).sum(dim=0)
    ),
    "the batch was averaged; every prompt keeps its own guess": slopes_with(
        product=lambda slope, by: dot(slope, by).mean(dim=0)
    ),
    "the metric was averaged over the batch, so each prompt counts too little": slopes_with(
        total=torch.mean
    ),
    "only the first prompt's metric was differentiated": slopes_with(
        total=lambda metric: metric[0]
    ),
    "named activations were cut off from each other: nothing flows on through a later one": (
        slopes_with(leaf_of=cut_off)
    ),
}
