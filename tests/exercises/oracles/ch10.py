"""Chapter 10 the slow way: the whole model in explicit matrices, one sequence and one head at a
time, and the mistakes.
"""

import functools
import math

import torch

from minitransformer import Transformer, repeated_tokens
from minitransformer.planted import induction_model, pointer_model, three_composers
from solutions.ch10_direct_and_indirect import ASK, NO, POINT, START, YES, two_way_model

READERS = {
    "direct": ["logits"],
    "via patterns": ["q", "k"],
    "via values": ["v"],
    "via queries": ["q"],
    "via keys": ["k"],
}


def attend(model: Transformer, at: tuple, n: int, x_q, x_k):
    """The pattern [query, key] of head `at` if its queries are made from x_q [pos, d_model] and its
    keys from x_k.
    """
    if model.cfg.positional_embedding_type == "shortformer":
        x_q, x_k = x_q + model.W_pos[:n], x_k + model.W_pos[:n]
    scores = (x_q @ model.W_Q[at]) @ (x_k @ model.W_K[at]).T / math.sqrt(model.cfg.d_head)
    rows = [
        torch.cat([scores[i, : i + 1].softmax(0), torch.zeros(n - i - 1).to(scores)])
        for i in range(n)
    ]
    return torch.stack(rows)


def start(model: Transformer, row):
    stream = model.W_E[row]
    return (
        stream
        if model.cfg.positional_embedding_type == "shortformer"
        else stream + model.W_pos[: len(row)]
    )


def two_layers(model: Transformer, tokens, head: int, missing: list[str]):
    """Logits if the output of head 0.`head` is missing from what these readers see: "q", "k", "v"
    of layer 1, "logits".
    """
    logits = []
    for row in tokens:
        n, x = len(row), start(model, row)
        out = [
            attend(model, (0, h), n, x, x) @ x @ model.W_V[0, h] @ model.W_O[0, h]
            for h in range(model.cfg.n_heads)
        ]
        full = x + sum(out)
        sees = {
            reader: full - out[head] if reader in missing else full
            for reader in ("q", "k", "v", "logits")
        }
        stream = sees["logits"]
        for h in range(model.cfg.n_heads):
            stream = (
                stream
                + attend(model, (1, h), n, sees["q"], sees["k"])
                @ sees["v"]
                @ model.W_V[1, h]
                @ model.W_O[1, h]
            )
        logits.append(stream @ model.W_U)
    return torch.stack(logits)


def ledger_of_two_layers(model: Transformer, tokens, head: int, metric) -> dict:
    """The ledger of a layer-0 head: which readers miss it. The interaction: q, k and v miss it,
    less each alone.
    """
    undisturbed = metric(two_layers(model, tokens, head, []))

    def change(*missing):
        return metric(two_layers(model, tokens, head, list(missing))) - undisturbed

    ledger = {way: change(*READERS[way]) for way in ("direct", "via patterns", "via values")}
    ledger["interaction"] = change("q", "k", "v") - ledger["via patterns"] - ledger["via values"]
    return ledger | {"total": change("q", "k", "v", "logits")}


def by_hand(model: Transformer, tokens, patterns=None, silent=None, mix=None):
    """Any number of layers: logits, patterns, streams, and what the silent head would have written
    [batch, pos, d_model].

    patterns {(row, layer, head): A}: force these. silent: a head that writes nothing. mix(row,
    layer, own) -> the stream that q and the one that k read, where `own` is the stream of this run.
    """
    logits, seen, streams, written = [], {}, {}, []
    for b, row in enumerate(tokens):
        stream = start(model, row)
        for layer in range(model.cfg.n_layers):
            streams[b, layer], added = stream, 0
            x_q, x_k = mix(b, layer, stream) if mix else (stream, stream)
            for h in range(model.cfg.n_heads):
                A = (
                    patterns[b, layer, h]
                    if patterns
                    else attend(model, (layer, h), len(row), x_q, x_k)
                )
                out = A @ stream @ model.W_V[layer, h] @ model.W_O[layer, h]
                seen[b, layer, h] = A
                if (layer, h) == silent:
                    written.append(out)
                else:
                    added = added + out
            stream = stream + added
        logits.append(stream @ model.W_U)
    return torch.stack(logits), seen, streams, torch.stack(written) if written else None


def ledger_of_any(model: Transformer, tokens, head: tuple, metric) -> dict:
    """The ledger in any number of layers, from its definition, for a metric that is linear in the
    logits.
    """
    logits, clean, _, _ = by_hand(model, tokens)
    removed_logits, removed, _, written = by_hand(model, tokens, silent=head)
    # what the unembedding makes of the head: its direct logit attribution
    own = written @ model.W_U
    steered = by_hand(model, tokens, patterns=removed)[0]
    frozen = by_hand(model, tokens, patterns=clean, silent=head)[0] + own
    runs = {
        "direct": logits - own,
        "via patterns": steered,
        "via values": frozen,
        "total": removed_logits,
    }
    ledger = {way: metric(run) - metric(logits) for way, run in runs.items()}
    both = metric(removed_logits + own) - metric(logits)
    ledger["interaction"] = both - ledger["via patterns"] - ledger["via values"]
    return ledger


def query_key_of_any(model: Transformer, tokens, head: tuple, metric) -> dict:
    """Via queries, via keys and both, in any number of layers: q and k read streams of two
    different runs.
    """
    logits, _, clean, _ = by_hand(model, tokens)
    removed = by_hand(model, tokens, silent=head)[2]
    sides = {
        "via queries": (removed, clean),
        "via keys": (clean, removed),
        "both": (removed, removed),
    }
    effects = {}
    for way, (q, k) in sides.items():
        mixed = by_hand(
            model, tokens, mix=lambda b, layer, own, q=q, k=k: (q[b, layer], k[b, layer])
        )[0]
        effects[way] = metric(mixed) - metric(logits)
    return effects


# Circuits whose ledger is known because they were set by hand.


def on_repeats(model, batch=2, length=14, period=6):
    """Model, tokens and metric: the mean of logit[next token] - logit[a token not in the row],
    where the next is known.
    """
    d_vocab = model.cfg.d_vocab
    repeats = repeated_tokens(
        batch, length, d_vocab, (period, period), torch.Generator().manual_seed(7), prefix=2
    )
    tokens, known = repeats.tokens, repeats.predictable.clone()
    known[:, -1] = False
    right = tokens.roll(-1, dims=1)
    absent = torch.tensor([min(set(range(1, d_vocab)) - set(row)) for row in tokens.tolist()])
    wrong = absent[:, None].expand_as(right)

    def metric(logits):
        return (logits.gather(-1, right[..., None]) - logits.gather(-1, wrong[..., None]))[..., 0][
            known
        ].mean()

    return model.double(), tokens, metric


def as_entries(numbers, names):
    return {name: torch.tensor(number).double() for name, number in zip(names, numbers)}


def logit_gap(logits):
    return (logits[:, -1, YES] - logits[:, -1, NO]).mean()


def first_against_second(logits):
    return (logits[..., 1] - logits[..., 0]).mean()


def evenly(tokens, read_from=9, s=10.0):
    """The pointer model without its pointer attends evenly: the right token gets s times its share
    of what was read.
    """
    rows, at = tokens.tolist(), range(read_from, tokens.shape[1] - 1)
    lost = [s * row[: i + 1].count(row[i + 1]) / (i + 1) - s for row in rows for i in at]
    return sum(lost) / len(lost)


@functools.cache
def planted_ledgers():
    """(name, model, tokens, metric, head, its known direct, via patterns, via values, interaction
    and total).
    """
    prompt, induction, pointer = (
        torch.tensor([[START, POINT, ASK]]),
        on_repeats(induction_model(14, 14)),
        on_repeats(pointer_model(14, 14)),
    )
    both, either = (two_way_model(kind).double() for kind in ("both", "either"))
    lost = evenly(pointer[1])
    cases = [
        ("induction, previous-token head", *induction, (0, 0), [0.0, -10.0, 0.0, 0.0, -10.0]),
        ("induction, induction head", *induction, (1, 0), [-10.0, 0.0, 0.0, 0.0, -10.0]),
        ("pointer, duplicate-token head", *pointer, (0, 0), [0.0, lost, 0.0, 0.0, lost]),
        ("both ways needed", both, prompt, logit_gap, (0, 0), [0.0, -10.0, -10.0, 10.0, -10.0]),
        ("either way enough", either, prompt, logit_gap, (0, 0), [0.0, 0.0, 0.0, -10.0, -10.0]),
    ]
    composers, tokens = three_composers().double(), torch.tensor([[0, 1, 2, 1, 0, 2, 2, 1]])
    for number, way in enumerate((1, 1, 2)):  # by Q, by K: via patterns; by V: via values
        without = two_layers(composers, tokens, number, ["q", "k", "v", "logits"])
        known = [0.0] * 4 + [
            (first_against_second(without) - first_against_second(composers(tokens))).item()
        ]
        known[way] = known[4]
        assert abs(known[4]) > 0.1
        cases.append(
            (
                f"three composers, 0.{number}",
                composers,
                tokens,
                first_against_second,
                (0, number),
                known,
            )
        )
    return cases


# What people get wrong: the same runs by hooks, with one thing changed.


def runs(model: Transformer, tokens, head: tuple):
    """Hooks that zero the head; logits and cache of both runs; hooks that put the head back, or
    take it off, at the end.
    """
    layer, number = head

    def silence(z, hook):
        z[:, :, number] = 0
        return z

    zero = [(f"blocks.{layer}.attn.hook_z", silence)]
    logits, clean = model.run_with_cache(tokens)
    off, removed = model.run_with_cache(tokens, fwd_hooks=zero)
    written = clean[f"blocks.{layer}.attn.hook_result"][:, :, number]
    last = f"blocks.{model.cfg.n_layers - 1}.hook_resid_post"
    back, away = ([(last, lambda x, hook, s=s: x + s * written)] for s in (1, -1))
    return zero, (logits, clean), (off, removed), back, away


def held(cache, *ends):
    return [(name, lambda x, hook: cache[hook.name]) for name in cache if name.endswith(ends)]


def effect(hooks=None, sign=1, change=lambda after, before: after - before, at=lambda head: head):
    """total_effect or direct_effect with something wrong: hooks(zero, clean, back, away) ->
    fwd_hooks.
    """

    def function(model, tokens, head, metric):
        zero, (logits, clean), _, back, away = runs(model, tokens, at(head))
        after = model.run_with_hooks(tokens, hooks(zero, clean, back, away))
        return sign * change(metric(after), metric(logits))

    return function


def ledger(values=None, patterns=None, interaction=None, total=None, sign=1):
    """effect_ledger with one entry wrong; each argument is a function of the runs or of the other
    entries.
    """

    def function(model, tokens, head, metric):
        zero, (logits, clean), (_, removed), back, away = runs(model, tokens, head)

        def change(hooks):
            return sign * (metric(model.run_with_hooks(tokens, hooks)) - metric(logits))

        P, P_removed = held(clean, "hook_pattern"), held(removed, "hook_pattern")
        out = {"direct": change(away)}
        out["via patterns"] = change(patterns(zero, P_removed, back) if patterns else P_removed)
        out["via values"] = change(values(zero, P, P_removed, back) if values else P + zero + back)
        whole = change(zero)
        both = change(zero + back)
        rest = both - out["via patterns"] - out["via values"]
        out["interaction"] = interaction(out, both, whole) if interaction else rest
        return out | {"total": total(out) if total else whole}

    return function


LEDGER_MISTAKES = {
    "via values holds the direct effect too: what the head wrote was not added back at the end": ledger(
        values=lambda zero, P, P_removed, back: P + zero
    ),
    "via values was measured with the patterns of the removed run; hold the undisturbed ones": ledger(
        values=lambda zero, P, P_removed, back: P_removed + zero + back
    ),
    "via patterns zeroed the head as well; only where later heads look may change": ledger(
        patterns=lambda zero, P_removed, back: P_removed + zero
    ),
    "via patterns zeroed the head and put it back; nothing may be zeroed there, only patterns change": ledger(
        patterns=lambda zero, P_removed, back: P_removed + zero + back
    ),
    "what the head wrote was put back nowhere: via values and interaction hold the direct effect too": ledger(
        values=lambda zero, P, P_removed, back: P + zero,
        interaction=lambda out, both, whole: whole - out["via patterns"] - out["via values"],
    ),
    "the interaction still holds the effects via patterns and via values": ledger(
        interaction=lambda out, both, whole: both
    ),
    "all signs are turned round": ledger(sign=-1),
}
LAZY_MISTAKES = {
    "the interaction was taken to be what is left of the total; then the ledger closes whatever you measured": ledger(
        interaction=lambda out, both, whole: (
            whole - out["direct"] - out["via patterns"] - out["via values"]
        )
    ),
    "the total was computed as a sum; measure it, so that the sum can be tested": ledger(
        total=lambda out: sum(out.values())
    ),
}


def query_key(
    q="hook_q", k="hook_k", extra=lambda zero, removed: [], both_is_sum=False, free=False
):
    """query_and_key_effects with something wrong."""

    def function(model, tokens, head, metric):
        zero, (logits, clean), (_, removed), _, _ = runs(model, tokens, head)

        def change(*hooks):
            edits = [pair for group in hooks for pair in group] + extra(zero, removed)
            return metric(model.run_with_hooks(tokens, edits)) - metric(logits)

        of_q, of_k = held(removed, q), held(removed, k)
        out = {
            "via queries": change(of_q, [] if free else held(clean, k)),
            "via keys": change(of_k, [] if free else held(clean, q)),
        }
        return out | {"both": sum(out.values()) if both_is_sum else change(of_q, of_k)}

    return function
