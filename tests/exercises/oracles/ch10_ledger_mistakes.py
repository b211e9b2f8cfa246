"""What people get wrong in effect_ledger: the same runs by hooks, with one thing changed."""

from tests.exercises.oracles.ch10_mistakes import WAYS, held, held_patterns, removed_patterns, runs


def change_of(model, tokens, r, metric, sign=1):
    """hooks -> the effect of a run with these hooks."""
    return lambda hooks: sign * (metric(model.run_with_hooks(tokens, hooks)) - metric(r.logits))


def ledger(
    direct=lambda r: r.away,
    patterns=removed_patterns,
    values=lambda r: held_patterns(r) + r.zero + r.back,
    put_back=lambda r: r.back,
    finish=None,
    sign=1,
):
    """effect_ledger with something wrong; the defaults are right.

    direct, patterns, values, put_back: runs -> fwd_hooks. finish(entries, both): the last changes
    to the entries; both is the effect of zeroing the head and putting it back.
    """

    def function(model, tokens, head, metric):
        r = runs(model, tokens, head)
        change = change_of(model, tokens, r, metric, sign)
        out = {
            "direct": change(direct(r)),
            "via patterns": change(patterns(r)),
            "via values": change(values(r)),
            "total": change(r.zero),
        }
        both = change(r.zero + put_back(r))
        out["interaction"] = both - out["via patterns"] - out["via values"]
        if finish:
            finish(out, both)
        return out

    return function


def removed_next_only(r):
    return [(name, fn) for name, fn in removed_patterns(r) if name == r.next_pattern]


def held_next_only(r):
    return [(name, fn) for name, fn in held_patterns(r) if name == r.next_pattern]


def not_put_back(out, both):
    out["interaction"] += out["total"] - both


def keeps_both(out, both):
    out["interaction"] = both


def less_patterns_only(out, both):
    out["interaction"] = both - out["via patterns"]


def less_values_only(out, both):
    out["interaction"] = both - out["via values"]


def signs_turned(out, both):
    for way in WAYS[1:]:
        out[way] = -out[way]


def interaction_turned(out, both):
    out["interaction"] = -out["interaction"]


def ways_exchanged(out, both):
    out["via patterns"], out["via values"] = out["via values"], out["via patterns"]


def less_direct_too(out, both):
    out["interaction"] -= out["direct"]


def values_are_the_rest(out, both):
    out["via values"] = both - out["via patterns"]
    out["interaction"] = 0 * both


def what_is_left(out, both):
    out["interaction"] = out["total"] - out["direct"] - out["via patterns"] - out["via values"]


def sum_of_ways(out, both):
    out["total"] = sum(out[way] for way in WAYS)


def direct_is_the_rest(out, both):
    out["direct"] = out["total"] - both


def patterns_are_the_rest(out, both):
    out["via patterns"] = both - out["via values"]
    out["interaction"] = 0 * both


PUT_BACK = "what the head wrote was put back right after its layer, so that later heads hear it"
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
        values=lambda r: held_patterns(r) + r.zero, put_back=lambda r: []
    ),
    "the interaction holds the direct effect too: what the head wrote was not added back": ledger(
        finish=not_put_back
    ),
    "the interaction still holds the effects via patterns and via values": ledger(
        finish=keeps_both
    ),
    "the interaction still holds the effect via values": ledger(finish=less_patterns_only),
    "the interaction still holds the effect via patterns": ledger(finish=less_values_only),
    f"{PUT_BACK}; do it in the final stream": ledger(
        values=lambda r: held_patterns(r) + r.zero + r.here, put_back=lambda r: r.here
    ),
    "via patterns is what was left of both ways; force the patterns": ledger(
        finish=patterns_are_the_rest
    ),
    "the interaction is what was left of the total: so the ledger closes whatever it holds": ledger(
        finish=what_is_left
    ),
    "the sign of the interaction is turned round: both ways together, less each": ledger(
        finish=interaction_turned
    ),
    "via values is what was left of both ways; hold the patterns and zero the head": ledger(
        finish=values_are_the_rest
    ),
    "via patterns and via values are exchanged": ledger(finish=ways_exchanged),
    "the direct effect was subtracted from the interaction; it is not in it": ledger(
        finish=less_direct_too
    ),
    "via values put the head back twice": ledger(
        values=lambda r: held_patterns(r) + r.zero + r.back + r.back
    ),
    "via patterns forced the head's own layer, which does not hear it; force all layers": ledger(
        patterns=lambda r: [pair for pair in removed_patterns(r) if pair[0] == r.own_pattern]
    ),
    "the total was computed as a sum; measure it, so that the sum can be tested": ledger(
        finish=sum_of_ways
    ),
    "direct is what was left of the total; measure it": ledger(finish=direct_is_the_rest),
    "all signs are turned round": ledger(sign=-1),
    "the signs of via patterns, via values and interaction are turned round": ledger(
        finish=signs_turned
    ),
}
DEEP_LEDGER_MISTAKES = {
    "via patterns forced the next layer only; all layers attend as in the removed run": ledger(
        patterns=removed_next_only
    ),
    "via values held the patterns of the next layer only; hold those of all layers": ledger(
        values=lambda r: held_next_only(r) + r.zero + r.back
    ),
    "the patterns were forced in the next layer only, for both ways; force those of all": ledger(
        patterns=removed_next_only, values=lambda r: held_next_only(r) + r.zero + r.back
    ),
    "via values took the values of the removed run; hold the patterns and zero the head": ledger(
        values=lambda r: held(r.removed, "hook_v")
    ),
}
