"""What people get wrong in chapter 10: the same runs by hooks, with one thing changed."""

import functools
import itertools
from typing import NamedTuple

import torch
from torch import Tensor

from minitransformer import Transformer

WAYS = ["direct", "via patterns", "via values", "interaction"]


class Runs(NamedTuple):
    """The undisturbed and the removed run of one head, and hooks to make others from them."""

    logits: Tensor
    clean: dict
    removed: dict
    zero: list  # zeroes the head
    back: list  # puts the undisturbed head back, at the end
    away: list  # takes it off, at the end


def runs(model: Transformer, tokens, head: tuple) -> Runs:
    layer, number = head

    def silence(z, hook):
        z[:, :, number] = 0
        return z

    zero = [(f"blocks.{layer}.attn.hook_z", silence)]
    logits, clean = model.run_with_cache(tokens)
    _, removed = model.run_with_cache(tokens, fwd_hooks=zero)
    written = clean[f"blocks.{layer}.attn.hook_result"][:, :, number]
    last = f"blocks.{model.cfg.n_layers - 1}.hook_resid_post"
    back = [(last, lambda x, hook: x + written)]
    away = [(last, lambda x, hook: x - written)]
    return Runs(logits, clean, removed, zero, back, away)


def held(cache, end):
    return [(name, lambda x, hook: cache[hook.name]) for name in cache if name.endswith(end)]


def held_patterns(r: Runs):
    return held(r.clean, "hook_pattern")


def removed_patterns(r: Runs):
    return held(r.removed, "hook_pattern")


def some(mistakes, *words):
    return {
        label: function
        for label, function in mistakes.items()
        if any(word in label for word in words)
    }


# total_effect and direct_effect


def effect(hooks, sign=1, subtract=True, at=lambda head: head):
    """total_effect or direct_effect with something wrong; hooks(runs) -> fwd_hooks."""

    def function(model, tokens, head, metric):
        r = runs(model, tokens, at(head))
        changed = metric(model.run_with_hooks(tokens, hooks(r)))
        return sign * (changed - metric(r.logits) if subtract else changed)

    return function


def of_difference(hooks):
    """An effect that is the metric of the difference of the logits."""

    def function(model, tokens, head, metric):
        r = runs(model, tokens, head)
        return metric(model.run_with_hooks(tokens, hooks(r)) - r.logits)

    return function


def everything(r):
    return [
        ("blocks.0.attn.hook_z", lambda z, hook: 0 * z),
        ("blocks.1.attn.hook_z", lambda z, hook: 0 * z),
    ]


def in_layer_0(head):
    return (0, head[1])


TOTAL_MISTAKES = {
    "the sign is turned round; it is the zeroed run minus the undisturbed one": effect(
        lambda r: r.zero, sign=-1
    ),
    "the undisturbed metric was not subtracted": effect(lambda r: r.zero, subtract=False),
    "later heads did not react: only the final stream was changed": effect(lambda r: r.away),
    "the patterns were held; in the total effect everything reacts": effect(
        lambda r: r.zero + held_patterns(r)
    ),
    "all heads were zeroed, not one": effect(everything),
    "the layer was ignored: a head of layer 0 was zeroed": effect(lambda r: r.zero, at=in_layer_0),
}
DIFFERENCE = (
    "the metric was taken of the difference of the logits; take it of each run, then subtract"
)
TOTAL_NONLINEAR = {DIFFERENCE: of_difference(lambda r: r.zero)}
DIRECT_NONLINEAR = {DIFFERENCE: of_difference(lambda r: r.away)}
DIRECT_MISTAKES = {
    "the sign is turned round; subtract the undisturbed metric from the other": effect(
        lambda r: r.back
    ),
    "later heads reacted: the head was zeroed where it writes, not in the final stream": effect(
        lambda r: r.zero
    ),
    "only the patterns were held; values of later heads reacted": effect(
        lambda r: r.zero + held_patterns(r)
    ),
    "the undisturbed metric was not subtracted": effect(lambda r: r.away, subtract=False),
    "this is the indirect effect: the unembedding is the one that must miss the head": effect(
        lambda r: r.zero + r.back
    ),
    "another head was taken: its number was used in layer 0 whatever the layer": effect(
        lambda r: r.away, at=in_layer_0
    ),
}


# effect_ledger


def ledger(
    patterns=removed_patterns,
    values=lambda r: held_patterns(r) + r.zero + r.back,
    interaction=None,
    total=None,
    sign=1,
):
    """effect_ledger with one entry wrong; the defaults are right.

    patterns, values: runs -> fwd_hooks. interaction: a function of the other entries, of the effect
    of both ways together, and of the total. total: a function of the other entries.
    """

    def function(model, tokens, head, metric):
        r = runs(model, tokens, head)

        def change(hooks):
            return sign * (metric(model.run_with_hooks(tokens, hooks)) - metric(r.logits))

        out = {
            "direct": change(r.away),
            "via patterns": change(patterns(r)),
            "via values": change(values(r)),
        }
        whole, both = change(r.zero), change(r.zero + r.back)
        if interaction:
            out["interaction"] = interaction(out, both, whole)
        else:
            out["interaction"] = both - out["via patterns"] - out["via values"]
        return out | {"total": total(out) if total else whole}

    return function


LEDGER_MISTAKES = {
    "via values holds the direct effect too: what the head wrote was not added back": ledger(
        values=lambda r: held_patterns(r) + r.zero
    ),
    "via values had the patterns of the removed run; hold the undisturbed ones": ledger(
        values=lambda r: removed_patterns(r) + r.zero + r.back
    ),
    "via patterns zeroed the head as well; only where later heads look may change": ledger(
        patterns=lambda r: removed_patterns(r) + r.zero
    ),
    "via patterns zeroed the head and put it back; there only patterns may change": ledger(
        patterns=lambda r: removed_patterns(r) + r.zero + r.back
    ),
    "nothing was added back: via values and interaction hold the direct effect too": ledger(
        values=lambda r: held_patterns(r) + r.zero,
        interaction=lambda out, both, whole: whole - out["via patterns"] - out["via values"],
    ),
    "the interaction holds the direct effect too: what the head wrote was not added back": ledger(
        interaction=lambda out, both, whole: whole - out["via patterns"] - out["via values"]
    ),
    "the interaction still holds the effects via patterns and via values": ledger(
        interaction=lambda out, both, whole: both
    ),
    "all signs are turned round": ledger(sign=-1),
}
LAZY_MISTAKES = {
    "the interaction is what was left of the total: so the ledger closes whatever it holds": ledger(
        interaction=lambda out, both, whole: whole - sum(out.values())
    ),
    "the total was computed as a sum; measure it, so that the sum can be tested": ledger(
        total=lambda out: sum(out.values())
    ),
}


# query_and_key_effects


def query_key(q="hook_q", k="hook_k", extra=lambda r: [], both_is_sum=False, free=False):
    """query_and_key_effects with something wrong."""

    def function(model, tokens, head, metric):
        r = runs(model, tokens, head)

        def change(hooks):
            run = model.run_with_hooks(tokens, hooks + extra(r))
            return metric(run) - metric(r.logits)

        q_held, k_held = held(r.clean, q), held(r.clean, k)
        if free:
            q_held = k_held = []
        out = {
            "via queries": change(held(r.removed, q) + k_held),
            "via keys": change(held(r.removed, k) + q_held),
        }
        both = change(held(r.removed, q) + held(r.removed, k))
        return out | {"both": sum(out.values()) if both_is_sum else both}

    return function


SIDE_MISTAKES = {
    "queries and keys are exchanged": query_key(q="hook_k", k="hook_q"),
    '"both" was computed as a sum; a softmax stands between them, so run it': query_key(
        both_is_sum=True
    ),
    "the values came from the removed run as well": query_key(
        extra=lambda r: held(r.removed, "hook_v")
    ),
    "the head was zeroed besides; nothing may be zeroed here": query_key(extra=lambda r: r.zero),
}
FREE = {"the other side was not held: in later layers it reacted, too": query_key(free=True)}


# causal_roles


@functools.cache
def entries_of(model, rows, head, metric):
    """The right ledger in plain numbers; rows: the tokens as a tuple, so that it can be kept."""
    entries = ledger()(model, torch.tensor(rows), head, metric)
    return {way: entry.item() for way, entry in entries.items()}


def roles(
    largest=abs,
    kept=lambda size, least: size >= least,
    order=lambda size, head: -size,
    every=False,
    empty=True,
):
    """causal_roles with one thing changed; the defaults are right."""

    def function(model, tokens, metric, least=1.0):
        rows = tuple(map(tuple, tokens.tolist()))
        found = {way: [] for way in WAYS}
        for head in itertools.product(range(model.cfg.n_layers), range(model.cfg.n_heads)):
            entries = entries_of(model, rows, head, metric)
            sizes = {way: largest(entries[way]) for way in WAYS}
            for way in WAYS if every else [max(sizes, key=sizes.get)]:
                if kept(sizes[way], least):
                    found[way].append((order(abs(entries[way]), head), head))
        listed = {way: [head for _, head in sorted(pairs)] for way, pairs in found.items()}
        return {way: heads for way, heads in listed.items() if heads or empty}

    return function


ROLE_MISTAKES = {
    "the sign was not dropped: what lowers the metric when removed has a negative effect": roles(
        largest=lambda x: x
    ),
    "the sign was turned round, not dropped: heads that work against the answer are lost": roles(
        largest=lambda x: -x
    ),
    "`least` was ignored": roles(kept=lambda size, least: size > 1e-9),
    "the heads are in the order of their numbers, not of their effects": roles(
        order=lambda size, head: head
    ),
    "the smallest effect comes first": roles(order=lambda size, head: size),
    "ways without heads are missing: give them an empty list": roles(empty=False),
}
MORE_THAN = {"an effect of exactly `least` counts": roles(kept=lambda size, least: size > least)}
TWICE = {
    "a head is listed under several ways; it belongs to the one with its largest effect": roles(
        every=True
    )
}
