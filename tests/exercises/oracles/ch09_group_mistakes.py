"""What people get wrong in chapter 9 about groups of heads and what they are worth: label -> the
function they write.
"""

import math
from functools import partial

import torch

from tests.exercises.oracles import ch09 as slow
from tests.exercises.oracles.ch09 import cost, silenced, single


def sum_of_singles(model, repeats, heads, kind="zero"):
    return sum(cost(model, repeats, [head], kind) for head in heads)


def loss_of_the_difference(model, repeats, heads):
    logits = silenced(model, heads)(repeats.tokens) - model(repeats.tokens)
    return slow.slow_loss(logits.detach(), repeats)


def difference_of_perplexities(model, repeats, heads):
    clean = cost(model, repeats, [], minus=0.0)
    return math.exp(clean + cost(model, repeats, heads)) - math.exp(clean)


def cached_when_ablated(model, repeats, heads, kind="zero"):
    """What ablated heads write is taken from the cache of a run in which they are ablated."""
    _, clean = model.run_with_cache(repeats.tokens)
    names = {layer: f"blocks.{layer}.attn.hook_z" for layer, _ in heads}

    def run(cache):
        hooks = []
        for layer, name in names.items():
            own = [head for at, head in heads if at == layer]
            hooks.append((name, lambda z, hook, own=own: put(z, own, cache[hook.name], kind)))
        return model.run_with_cache(repeats.tokens, None, hooks)

    logits, _ = run(run(clean)[1])
    return slow.slow_loss(logits.detach(), repeats) - cost(model, repeats, [], minus=0.0)


def put(z, heads, source, kind):
    for head in heads:
        z[:, :, head] = slow.instead(source[:, :, head], kind)
    return z


JOINT = {
    "the loss without the heads was returned; subtract that of the whole model": partial(
        cost, minus=0.0
    ),
    "the sign is wrong: what it costs is positive": lambda *args: -cost(*args),
    "every position counted; use loss_where_known": partial(cost, everywhere=True),
    "the single effects were added up; ablate the group in one run": sum_of_singles,
    "only the first head was ablated": (
        lambda model, repeats, heads, kind="zero": cost(model, repeats, heads[:1], kind)
    ),
    "only the last head was ablated": (
        lambda model, repeats, heads, kind="zero": cost(model, repeats, heads[-1:], kind)
    ),
    "all the other heads were ablated": partial(cost, keep=True),
    "whole layers were ablated; only `heads` are": partial(cost, whole=True),
    "it was divided by the loss of the model; the unit is nats": (
        lambda model, repeats, heads: (
            cost(model, repeats, heads) / cost(model, repeats, [], minus=0.0)
        )
    ),
    "it was divided by the number of heads; the cost of the group was asked for": (
        lambda *args: cost(*args) / len(args[2])
    ),
    "it was divided by ln 2, which gives bits; the unit is nats": (
        lambda *args: cost(*args) / math.log(2)
    ),
    "what is below 0 was cut off; a model can be better off without": (
        lambda *args: max(cost(*args), 0.0)
    ),
    "the sign was lost; a model can be better off without": lambda *args: abs(cost(*args)),
    "only heads of layer 1 were ablated; the group may have heads of any layer": (
        lambda model, repeats, heads: cost(model, repeats, [at for at in heads if at[0] == 1])
    ),
    "the losses were added up over the positions; their mean was asked for": (
        lambda model, repeats, heads: (
            cost(model, repeats, heads) * repeats.predictable[:, :-1].sum().item()
        )
    ),
    "that is the difference of exp(loss); the unit is nats": difference_of_perplexities,
    "the logits were subtracted; subtract the losses": loss_of_the_difference,
    "the outputs were taken away after all layers had read them (from the last stream); do it in "
    "hook_z": partial(cost, late=True),
}
LIVE = (
    "what ablated heads write was taken from a run in which others are ablated already; the cache "
    "is of an undisturbed run"
)
OF_A_KIND = {
    "the cache is that of an ablated run; take one of an undisturbed run": cached_when_ablated,
    LIVE: partial(cost, live=True),
    "the heads were always zeroed; use `kind`": (
        lambda model, repeats, heads, kind="zero": cost(model, repeats, heads)
    ),
}


def one_after_another(model, repeats, kind="zero"):
    every, table = slow.every_head(model), torch.zeros(model.cfg.n_layers, model.cfg.n_heads)
    for count, head in enumerate(every, start=1):
        table[head] = cost(model, repeats, every[:count], kind)
    return table


def whole_layers(model, repeats, kind="zero"):
    heads = [[(layer, 0)] for layer in range(model.cfg.n_layers)]
    costs = [cost(model, repeats, layer, kind, whole=True) for layer in heads]
    return torch.tensor(costs)[:, None].expand(-1, model.cfg.n_heads)


def with_later_layers(model, repeats, kind="zero"):
    table, every = torch.zeros(model.cfg.n_layers, model.cfg.n_heads), slow.every_head(model)
    for at in every:
        later = [other for other in every if other[0] > at[0]]
        table[at] = cost(model, repeats, [at, *later], kind)
    return table


def shares(*args):
    table = single(*args)
    return table / table.sum()


def only(rows=None, columns=None):
    """A wrong ablation_table: the entries beyond so many rows and columns stay 0."""

    def ablation_table(*args):
        table = single(*args)
        if rows:
            table[rows:] = 0
        table[:, columns or len(table) :] = 0
        return table

    return ablation_table


TRANSPOSED = {"rows and columns are exchanged: [layer, head]": lambda *args: single(*args).T}
TABLE = TRANSPOSED | {
    "the heads before were not put back: one at a time": one_after_another,
    "all heads but one were ablated; ablate one": partial(single, keep=True),
    "the whole layer was ablated each time; ablate one head": whole_layers,
    "the layers stand in reverse order; layer 0 comes first": lambda *args: single(*args).flip(0),
    "the heads of later layers were ablated as well; ablate one head": with_later_layers,
    "the costs were rounded": lambda *args: (single(*args) * 1000).round() / 1000,
    "only two layers were tried": only(2, 100),
    "only as many heads were tried as there are layers": only(),
    "the heads were always zeroed; use `kind`": lambda *args: single(*args[:2]),
    "the sign is wrong: what it costs is positive": lambda *args: -single(*args),
    "what is below 0 was cut off; a model can be better off without": (
        lambda *args: single(*args).clamp(min=0)
    ),
    "it was divided by the sum of all; the unit is nats": shares,
    "the loss was returned; subtract that of the whole model": partial(single, minus=0.0),
    "it was divided by the loss of the model; the unit is nats": (
        lambda model, repeats, kind="zero": (
            single(model, repeats, kind) / cost(model, repeats, [], minus=0.0)
        )
    ),
}
