"""What people get wrong in the last two exercises of chapter 10: sides and roles."""

import functools
import itertools

import torch

from tests.exercises.oracles.ch10_ledger_mistakes import ledger
from tests.exercises.oracles.ch10_mistakes import WAYS, held, runs

# query_and_key_effects


def query_key(q="hook_q", k="hook_k", extra=lambda r: [], held_still=True, finish=None, sign=1):
    """query_and_key_effects with something wrong; finish(entries, total): the last changes."""

    def function(model, tokens, head, metric):
        r = runs(model, tokens, head)

        def change(hooks):
            run = model.run_with_hooks(tokens, hooks + extra(r))
            return sign * (metric(run) - metric(r.logits))

        out = {
            "via queries": change(held(r.removed, q) + (held(r.clean, k) if held_still else [])),
            "via keys": change(held(r.removed, k) + (held(r.clean, q) if held_still else [])),
            "both": change(held(r.removed, q) + held(r.removed, k)),
        }
        if finish:
            finish(out, change(r.zero))
        return out

    return function


def next_layer_sides(model, tokens, head, metric):
    """query_and_key_effects that forces the layer after the head's only."""
    if head[0] + 1 == model.cfg.n_layers:
        return query_key()(model, tokens, head, metric)
    at = f"blocks.{head[0] + 1}.attn.hook_"
    return query_key(q=at + "q", k=at + "k")(model, tokens, head, metric)


def own_layer_sides(model, tokens, head, metric):
    """query_and_key_effects that forces the head's own layer only, which does not hear it."""
    at = f"blocks.{head[0]}.attn.hook_"
    return query_key(q=at + "q", k=at + "k")(model, tokens, head, metric)


def both_as_sum(out, total):
    out["both"] = out["via queries"] + out["via keys"]


def both_as_one(side):
    def finish(out, total):
        out["both"] = out[side]

    return finish


def keys_as_rest(out, total):
    out["via keys"] = out["both"] - out["via queries"]


def queries_as_rest(out, total):
    out["via queries"] = out["both"] - out["via keys"]


def both_as_total(out, total):
    out["both"] = total


SIDE_MISTAKES = {
    "queries and keys are exchanged": query_key(q="hook_k", k="hook_q"),
    '"both" was computed as a sum; a softmax stands between them, so run it': query_key(
        finish=both_as_sum
    ),
    '"via keys" is what was left of "both"; run it': query_key(finish=keys_as_rest),
    '"via queries" is what was left of "both"; run it': query_key(finish=queries_as_rest),
    '"both" is the total effect; there nothing is zeroed, q and k are forced': query_key(
        finish=both_as_total
    ),
    '"both" has the queries only; force the keys besides': query_key(
        finish=both_as_one("via queries")
    ),
    '"both" has the keys only; force the queries besides': query_key(
        finish=both_as_one("via keys")
    ),
    "the values came from the removed run as well": query_key(
        extra=lambda r: held(r.removed, "hook_v")
    ),
    "the head was zeroed besides; nothing may be zeroed here": query_key(extra=lambda r: r.zero),
    "only the head's own layer was forced, which does not hear it; force all": own_layer_sides,
    "all signs are turned round": query_key(sign=-1),
}
DEEP_SIDE_MISTAKES = {
    "the other side was not held: in later layers it reacted, too": query_key(held_still=False),
    "only the layer after the head's was forced; force all of them": next_layer_sides,
    "the values were held, too; everything but q and k follows by itself": query_key(
        extra=lambda r: held(r.clean, "hook_v")
    ),
}


# causal_roles


@functools.cache
def entries_of(model, rows, head, metric):
    """The right ledger in plain numbers; rows: the tokens as a tuple, so that it can be kept."""
    entries = ledger()(model, torch.tensor(rows), head, metric)
    return {way: entry.item() for way, entry in entries.items()}


def roles(
    largest=abs,
    kept=lambda entries, way, least: abs(entries[way]) >= least,
    order=lambda entries, way, head: -abs(entries[way]),
    ways=WAYS,
    every=False,
    empty=True,
    layers=lambda model: model.cfg.n_layers,
    name=lambda layer, number: (layer, number),
):
    """causal_roles with one thing changed; the defaults are right."""

    def function(model, tokens, metric, least=1.0):
        rows = tuple(map(tuple, tokens.tolist()))
        found = {way: [] for way in WAYS}
        asked = range(layers(model))
        for head in itertools.product(asked, range(model.cfg.n_heads)):
            entries = entries_of(model, rows, head, metric)
            best = max(ways, key=lambda way: largest(entries[way]))
            for way in WAYS if every else [best]:
                if way in WAYS and kept(entries, way, least):
                    found[way].append((order(entries, way, head), name(*head)))
        listed = {way: [head for _, head in sorted(pairs)] for way, pairs in found.items()}
        return {way: heads for way, heads in listed.items() if heads or empty}

    return function


ROLE_MISTAKES = {
    "the sign was not dropped: what lowers the metric when removed has a negative effect": roles(
        largest=lambda x: x, kept=lambda entries, way, least: entries[way] >= least
    ),
    "the sign was turned round, not dropped: heads that work against the answer are lost": roles(
        largest=lambda x: -x, kept=lambda entries, way, least: -entries[way] >= least
    ),
    "`least` was ignored": roles(kept=lambda entries, way, least: abs(entries[way]) > 1e-9),
    "`least` was taken to be 1, whatever was given": roles(
        kept=lambda entries, way, least: abs(entries[way]) >= 1
    ),
    "the total effect was compared with `least`; compare the effect of the head's own way": roles(
        kept=lambda entries, way, least: abs(entries["total"]) >= least
    ),
    "the heads are in the order of their numbers, not of their effects": roles(
        order=lambda entries, way, head: head
    ),
    "the smallest effect comes first": roles(order=lambda entries, way, head: abs(entries[way])),
    "the heads are sorted by their total effects; sort by the effect of their own way": roles(
        order=lambda entries, way, head: -abs(entries["total"])
    ),
    "the heads are sorted with the sign, the largest positive effect first": roles(
        order=lambda entries, way, head: -entries[way]
    ),
    "the heads are sorted with the sign, the most negative effect first": roles(
        order=lambda entries, way, head: entries[way]
    ),
    "all four ways together were compared with `least`; the head's own way has to reach it": roles(
        kept=lambda entries, way, least: sum(abs(entries[each]) for each in WAYS) >= least
    ),
    "the direct way was left out: it is one of the four": roles(ways=WAYS[1:]),
    "the interaction was left out: it is one of the four ways": roles(ways=WAYS[:3]),
    "a head is listed under several ways; it belongs to the one with its largest effect": roles(
        every=True
    ),
    "ways without heads are missing: give them an empty list": roles(empty=False),
    "only the heads of the first two layers were asked": roles(
        layers=lambda model: min(2, model.cfg.n_layers)
    ),
    "the heads of the last layer were left out; they can act directly": roles(
        layers=lambda model: model.cfg.n_layers - 1
    ),
    "the total was counted as a fifth way": roles(ways=[*WAYS, "total"]),
    "a head is (number, layer); it should be (layer, number)": roles(
        name=lambda layer, number: (number, layer)
    ),
}
MORE_THAN = {
    "an effect of exactly `least` counts": roles(
        kept=lambda entries, way, least: abs(entries[way]) > least
    )
}
