"""What people get wrong in chapter 9: label -> the function they write."""

from functools import partial

import torch

from tests.exercises.oracles import ch09 as slow
from tests.exercises.oracles.ch09 import cost, pattern_without, silenced, single

# Hook builders


def hook(edit):
    """A wrong builder: edit(new, heads, *rest) changes the copy of the activation, in place."""

    def builder(heads, *rest):
        def fn(activation, hook):
            new = activation.clone()
            edit(new, heads, *rest)
            return new

        return fn

    return builder


def to(value):
    """A wrong builder that gives the heads value(reference, activation, *rest) instead."""

    def edit(new, heads, reference, *rest):
        new[:, :, heads] = value(reference, new.clone(), *rest).expand_as(new)[:, :, heads]

    return hook(edit)


def to_mean(*axes):
    """A wrong builder that gives the heads the mean of the reference over these axes."""
    return to(lambda reference, activation: reference.mean(axes, keepdim=True))


def to_own_mean(*axes):
    return to(lambda reference, activation: activation.mean(axes, keepdim=True))


def at(*index):
    """An edit that zeroes along the wrong axis."""
    return hook(lambda new, heads: new.__setitem__((*index, heads), 0.0))


def in_place(heads, returned=True):
    def fn(activation, hook):
        activation[:, :, heads] = 0.0
        return activation if returned else None

    return fn


def others_zero(new, heads):
    new[:, :, [head for head in range(new.shape[2]) if head not in heads]] = 0.0


ALL_ZERO = {"all heads were zeroed": hook(lambda new, heads: new.zero_())}
ZERO = ALL_ZERO | {
    "positions were zeroed; the heads are the third axis": at(slice(None)),
    "sequences were zeroed; the heads are the third axis": at(),
    "entries within every head (d_head) were zeroed; the heads are the third axis": at(...),
    "all the other heads were zeroed": hook(others_zero),
    "the activation was edited in place; work on a copy: activation.clone()": in_place,
    "the activation was edited in place and nothing returned; return a new one": partial(
        in_place, returned=False
    ),
}

OWN_MEAN = "the mean of the activation at hand was taken; take that of `reference`"
MEAN = {
    "the mean went over the sequences only; over the positions too": to_mean(0),
    "the mean went over the positions only; over the sequences too": to_mean(1),
    "the mean went over the heads too; each has its own": to_mean(0, 1, 2),
    "the mean went over d_head too; it is a vector": to_mean(0, 1, 3),
    "the median was taken, not the mean": to(
        lambda reference, z: reference.flatten(0, 1).median(0).values[None, None]
    ),
    OWN_MEAN: to_own_mean(0, 1),
    "the mean was subtracted; the heads must become the mean": to(
        lambda reference, z: z - reference.mean((0, 1), keepdim=True)
    ),
}
BECAME_ZERO = {"these heads became 0": to(lambda reference, z: torch.zeros_like(z))}

MEAN_PER_POSITION = {
    "the mean went over the positions as well": to_mean(0, 1),
    "the mean went over the positions; it must go over the sequences": to_mean(1),
    "the mean went over the heads too; each has its own": to_mean(0, 2),
    OWN_MEAN: to_own_mean(0),
    "only the first sequence of the reference was taken": to(lambda reference, z: reference[:1]),
}
POSITIONS_TOO = {"the mean went over the positions too": to_mean(0, 1)}

RESAMPLE = {
    "the donors were used the wrong way round: sequence b gets row donors[b]": to(
        lambda reference, z, donors: reference[donors.argsort()]
    ),
    "the activation at hand was reordered; the donors are rows of `reference`": to(
        lambda reference, z, donors: z[donors]
    ),
    "positions were shuffled; each gets what was written at the same one": to(
        lambda reference, z, donors: reference[donors].roll(1, 1)
    ),
    "the donors were ignored": to(lambda reference, z, donors: reference),
    "the mean of the donors was taken": to(
        lambda reference, z, donors: reference[donors].mean(0, keepdim=True)
    ),
    "all heads were replaced": hook(
        lambda new, heads, reference, donors: new.copy_(reference[donors])
    ),
}
SHUFFLED = {"positions were shuffled": to(lambda reference, z, donors: reference[donors].flip(1))}

# Groups of heads


def sum_of_singles(model, repeats, heads, kind="zero"):
    return sum(cost(model, repeats, [head], kind) for head in heads)


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
    "the outputs were taken away after all layers had read them (from the last stream); do it in "
    "hook_z": partial(cost, late=True),
}
ALWAYS_ZERO = {
    "the heads were always zeroed; use `kind`": (
        lambda model, repeats, heads, kind="zero": cost(model, repeats, heads)
    )
}
ADDED_UP = {"the single effects were added up": sum_of_singles}


def one_after_another(model, repeats, kind="zero"):
    every, table = slow.every_head(model), torch.zeros(model.cfg.n_layers, model.cfg.n_heads)
    for count, head in enumerate(every, start=1):
        table[head] = cost(model, repeats, every[:count], kind)
    return table


TRANSPOSED = {"rows and columns are exchanged: [layer, head]": lambda *args: single(*args).T}
TABLE = TRANSPOSED | {
    "the heads before were not put back: one at a time": one_after_another,
    "all heads but one were ablated; ablate one": partial(single, keep=True),
    "the loss was returned; subtract that of the whole model": partial(single, minus=0.0),
    "it was divided by the loss of the model; the unit is nats": (
        lambda model, repeats, kind="zero": (
            single(model, repeats, kind) / cost(model, repeats, [], minus=0.0)
        )
    ),
}

# Patterns kept, or changed at one place


@torch.no_grad()
def last_pattern_everywhere(model, tokens, heads):
    """What a lambda in a loop does that names the loop's variable: every layer gets the patterns of
    the last one.
    """
    names = [f"blocks.{layer}.attn.hook_pattern" for layer in range(model.cfg.n_layers)]
    last = model.run_with_cache(tokens, names)[1][names[-1]]
    hooks = [(name, lambda x, hook: last.clone()) for name in names]
    return silenced(model, heads).run_with_hooks(tokens, hooks)


def others_silenced(model, tokens, heads):
    others = [head for head in slow.every_head(model) if head not in heads]
    return slow.by_hand(model, tokens, others)


NOT_KEPT = {"the patterns were not kept": slow.without}
PRESERVING = {
    "the patterns are those of the ablated run; force those of the undisturbed one": slow.without,
    "the values were kept as well": partial(slow.without, layers=(0, 1), values=True),
    "all layers got the patterns of the last: a lambda in a loop reads `name` too late; use "
    "hook.name": last_pattern_everywhere,
    "nothing was ablated": lambda model, tokens, heads: slow.by_hand(model, tokens, []),
    "all the other heads were ablated": others_silenced,
}


FIRST_LAYERS_ONLY = {
    "only the patterns of the first two layers were kept; keep those of every layer": partial(
        slow.without, layers=(0, 1)
    )
}


def aimed(change):
    """A wrong targeted_ablation: change(sources, target, side) -> what it aims at instead."""

    def targeted_ablation(model, tokens, sources, target, side="k"):
        return pattern_without(model, tokens, *change(sources, target, side))

    return targeted_ablation


def even(model, tokens, sources, target, side="k"):
    """A wrong targeted_ablation: all keys, or queries, are 0, so that all scores are."""
    visible = torch.ones(tokens.shape[1], tokens.shape[1]).tril()
    return (visible / visible.sum(dim=-1, keepdim=True)).expand(len(tokens), -1, -1)


ALWAYS_QUERIES = {
    "the queries lost the sources": aimed(lambda sources, target, side: (sources, target, "q"))
}
TARGETED = {
    "all of the target's keys (or queries) were set to 0; only the sources' share goes": even,
    "the pattern of the undisturbed run was returned": aimed(
        lambda sources, target, side: (sources, target, "")
    ),
    "the sources were taken out of queries and keys; out of one only": aimed(
        lambda sources, target, side: (sources, target, "qk")
    ),
    "keys and queries are exchanged, or it was always the queries": aimed(
        lambda sources, target, side: (sources, target, "q" if side == "k" else "k")
    ),
    "`side` was ignored": aimed(lambda sources, target, side: (sources, target, "k")),
    "only the first source was taken out": aimed(
        lambda sources, target, side: (sources[:1], target, side)
    ),
    "only the last source was taken out": aimed(
        lambda sources, target, side: (sources[-1:], target, side)
    ),
    "the pattern of another head was returned": aimed(
        lambda sources, target, side: (sources, (1, (target[1] + 1) % 3), side)
    ),
    "the sources were added once more, not taken out": partial(pattern_without, factor=2.0),
    "only the sources' share was kept, not taken out": partial(pattern_without, only=True),
}


def the_others(parts, names):
    return [part for name, part in parts.items() if name not in names]


def positions_always(model, tokens, queries, keys, values):
    queries = [name for name in queries if name != "positions"] + ["positions"]
    keys = [name for name in keys if name != "positions"] + ["positions"]
    return slow.strict(model, tokens, queries, keys, values)


STRICT = {
    "queries and keys are exchanged": (
        lambda model, tokens, queries, keys, values: slow.strict(
            model, tokens, keys, queries, values
        )
    ),
    "values were made from the parts of the keys": (
        lambda model, tokens, queries, keys, values: slow.strict(model, tokens, queries, keys, keys)
    ),
    "the patterns of the undisturbed run were used; make them from these q and k": partial(
        slow.strict, clean_pattern=True
    ),
    "the named parts were left out; they are all that is seen": partial(
        slow.strict, pick=the_others
    ),
    "only the first of the named parts was seen": partial(
        slow.strict, pick=lambda parts, names: [parts[name] for name in names[:1]]
    ),
    "the scores were not divided by sqrt(d_head)": partial(slow.strict, scale=False),
    "later keys were seen: the mask is missing": partial(slow.strict, causal=False),
    "the embedding was unembedded too; only what layer 1 writes is": partial(
        slow.strict, direct=["embed"]
    ),
    "what layer 0 writes was unembedded too; only what layer 1 writes is": partial(
        slow.strict, direct=["0.0", "0.1", "0.2"]
    ),
    "the whole stream was unembedded; only what layer 1 writes is": partial(
        slow.strict, direct=["embed", "0.0", "0.1", "0.2"]
    ),
    "positions were added to q and k although nobody named them": positions_always,
    "only the first head of layer 1 writes; all of them do": partial(slow.strict, heads=[0]),
}
LEFT_OUT = {label: wrong for label, wrong in STRICT.items() if "left out" in label}
