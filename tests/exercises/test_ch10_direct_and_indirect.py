"""Checks of chapter 10. The oracles: the model in explicit matrices, exact identities in float64,
planted circuits.
"""

import functools

import torch

from minitransformer import ModelConfig, Transformer, load
from minitransformer.evaluate import attention
from minitransformer.planted import induction_model, pointer_model
from tests.exercises.checking import checks, expect, expect_close
from tests.exercises.oracles.ch10 import (
    LAZY_MISTAKES,
    LEDGER_MISTAKES,
    as_entries,
    effect,
    evenly,
    held,
    ledger,
    ledger_of_any,
    ledger_of_two_layers,
    on_repeats,
    planted_ledgers,
    query_key,
    query_key_of_any,
    two_layers,
)

CONFIG = {"n_heads": 3, "d_model": 8, "d_head": 4, "d_vocab": 11, "n_ctx": 6}
MODEL = Transformer(ModelConfig(**CONFIG), seed=3).double().requires_grad_(False)
DEEPER = Transformer(
    ModelConfig(**CONFIG, n_layers=3, positional_embedding_type="standard"), seed=4
).double()
DEEPER.requires_grad_(False)
TOKENS = torch.tensor([[0, 3, 7, 3, 10, 1], [0, 5, 5, 2, 9, 4]])
WEIGHT = torch.randn(2, 6, 11, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
WAYS = ["direct", "via patterns", "via values", "interaction"]


def linear(logits):
    """A metric that is linear in the logits, as a logit difference is, but touches every one of
    them.
    """
    return (WEIGHT * logits).sum()


def loss(logits):
    """A metric that is not linear: minus the mean log-probability of token 3."""
    return -logits.log_softmax(dim=-1)[..., 3].mean()


def some(mistakes, *words):
    return {
        label: function
        for label, function in mistakes.items()
        if any(word in label for word in words)
    }


def zeroed(zero, clean, back, away):
    return zero


def everything(zero, clean, back, away):
    return [
        ("blocks.0.attn.hook_z", lambda z, hook: 0 * z),
        ("blocks.1.attn.hook_z", lambda z, hook: 0 * z),
    ]


TOTAL_MISTAKES = {
    "the sign is turned round; it is the zeroed run minus the undisturbed one": effect(
        zeroed, sign=-1
    ),
    "the undisturbed metric was not subtracted": effect(zeroed, change=lambda after, before: after),
    "later heads did not react: only the final stream was changed": effect(
        lambda zero, clean, back, away: away
    ),
    "the patterns were held; in the total effect everything reacts": effect(
        lambda zero, clean, back, away: zero + held(clean, "hook_pattern")
    ),
    "all heads were zeroed, not one": effect(everything),
    "the layer was ignored: a head of layer 0 was zeroed": effect(
        zeroed, at=lambda head: (0, head[1])
    ),
}


@checks("total_effect", mistakes=TOTAL_MISTAKES)
def test_total_is_a_run_without_the_head(total_effect):
    """The long way: the same model with this head's W_O set to 0, and, for layer 0, in explicit
    matrices.
    """
    for layer, number in ((0, 1), (1, 2), (0, 2)):
        without = Transformer(MODEL.cfg).double().requires_grad_(False)
        without.load_state_dict(MODEL.state_dict())
        without.W_O[layer, number] = 0
        truth = linear(without(TOKENS)) - linear(MODEL(TOKENS))
        got = total_effect(MODEL, TOKENS, (layer, number), linear)
        expect_close(
            got,
            truth,
            "",
            f"head {layer}.{number}: the metric with its W_O set to 0, minus the metric",
        )
        if layer == 0:
            by_matrices = two_layers(MODEL, TOKENS, number, ["q", "k", "v", "logits"])
            assert torch.allclose(truth, linear(by_matrices) - linear(MODEL(TOKENS)))


DIRECT_MISTAKES = {
    "the sign is turned round; subtract the undisturbed metric from the other": effect(
        lambda zero, clean, back, away: back
    ),
    "later heads reacted: the head was zeroed where it writes, not in the final stream": effect(
        zeroed
    ),
    "only the patterns were held; values of later heads reacted": effect(
        lambda zero, clean, back, away: zero + held(clean, "hook_pattern")
    ),
    "the undisturbed metric was not subtracted": effect(
        lambda zero, clean, back, away: away, change=lambda after, before: after
    ),
    "this is the indirect effect: the unembedding is the one that must miss the head": effect(
        lambda zero, clean, back, away: zero + back
    ),
    "another head was taken: its number was used in layer 0 whatever the layer": effect(
        lambda zero, clean, back, away: away, at=lambda head: (0, head[1])
    ),
}


@checks("direct_effect", mistakes=DIRECT_MISTAKES)
def test_direct_is_minus_the_attribution(direct_effect):
    """z W_O W_U, head by head, is the direct logit attribution; and a nonlinear metric of what is
    left.
    """
    for model, heads in ((MODEL, [(0, 1), (1, 2), (0, 2)]), (DEEPER, [(0, 0), (1, 2), (2, 1)])):
        logits, cache = model.run_with_cache(TOKENS)
        for layer, number in heads:
            own = (
                cache[f"blocks.{layer}.attn.hook_z"][:, :, number]
                @ model.W_O[layer, number]
                @ model.W_U
            )
            why = f"head {layer}.{number} of {model.cfg.n_layers} layers: minus its attribution"
            expect_close(
                direct_effect(model, TOKENS, (layer, number), linear), -linear(own), "", why
            )
            why = "the loss of the logits less the head's attribution, minus the loss"
            expect_close(
                direct_effect(model, TOKENS, (layer, number), loss),
                loss(logits - own) - loss(logits),
                "",
                why,
            )


@checks("direct_effect", mistakes=some(DIRECT_MISTAKES, "heads reacted: the"))
def test_the_last_layer_acts_directly_and_the_previous_token_head_does_not(direct_effect):
    model, tokens, metric = on_repeats(induction_model(14, 14))
    expect_close(
        direct_effect(model, tokens, (0, 0), metric),
        torch.zeros(()).double(),
        "",
        "hand-built previous-token head",
    )
    expect_close(
        direct_effect(model, tokens, (1, 0), metric),
        torch.tensor(-10.0).double(),
        "",
        "hand-built induction head",
    )


def expect_entries(got, truth, why):
    """Every entry of a dict of effects, by name."""
    expect(isinstance(got, dict), f"{why}: expected a dict, got {type(got).__name__}")
    expect(set(got) == set(truth), f"{why}: expected the entries {list(truth)}, got {list(got)}")
    for name, value in truth.items():
        expect_close(got[name], value, "", f'{why}, "{name}"')


@checks("effect_ledger", mistakes=LEDGER_MISTAKES)
def test_ledger_of_two_layers(effect_ledger):
    """In explicit matrices: the head's output is missing from q and k, from v, from the logits, or
    from several.
    """
    for number in (0, 2):
        truth = ledger_of_two_layers(MODEL, TOKENS, number, linear)
        # every way is used, so every mistake shows
        assert min(abs(value) for value in truth.values()) > 1e-2
        assert abs(sum(truth[way] for way in WAYS) - truth["total"]) < 1e-10
        expect_entries(
            effect_ledger(MODEL, TOKENS, (0, number), linear),
            truth,
            f"head 0.{number}, random weights",
        )


@checks("effect_ledger", mistakes=LEDGER_MISTAKES)
def test_ledger_closes_in_three_layers(effect_ledger):
    for head in ((0, 1), (1, 0), (2, 2)):
        truth, why = (
            ledger_of_any(DEEPER, TOKENS, head, linear),
            f"head {head[0]}.{head[1]} of three layers",
        )
        got = effect_ledger(DEEPER, TOKENS, head, linear)
        expect_entries(got, truth, why)
        expect_close(
            sum(got[way] for way in WAYS),
            got["total"],
            "",
            f"{why}: the four ways add up to the total",
        )
        if head[0] == 2:
            expect_close(
                got["direct"], got["total"], "", f"{why}: the last layer has no indirect effect"
            )


@checks("effect_ledger", mistakes=LAZY_MISTAKES)
def test_every_entry_is_measured(effect_ledger):
    """With a metric that is not linear the ledger need not close, and the definitions still say
    what each entry is.
    """
    truth = ledger_of_two_layers(MODEL, TOKENS, 1, loss)
    assert abs(sum(truth[way] for way in WAYS) - truth["total"]) > 1e-3
    expect_entries(
        effect_ledger(MODEL, TOKENS, (0, 1), loss), truth, "head 0.1, with the loss for a metric"
    )


@checks("effect_ledger", mistakes=some(LEDGER_MISTAKES, "interaction still", "signs"))
def test_ledgers_of_planted_circuits(effect_ledger):
    """Positive controls: previous-token and pointer heads act via patterns, one composer via
    values, two by both ways.
    """
    for name, model, tokens, metric, head, known in planted_ledgers():
        truth = as_entries(known, [*WAYS, "total"])
        expect_entries(effect_ledger(model, tokens, head, metric), truth, f"hand-built: {name}")


SIDES = ("via queries", "via keys", "both")
SIDE_MISTAKES = {
    "queries and keys are exchanged": query_key(q="hook_k", k="hook_q"),
    '"both" was computed as a sum; a softmax stands between them, so run it': query_key(
        both_is_sum=True
    ),
    "the values came from the removed run as well": query_key(
        extra=lambda zero, removed: held(removed, "hook_v")
    ),
    "the head was zeroed besides; nothing may be zeroed here": query_key(
        extra=lambda zero, removed: zero
    ),
}
FREE = {"the other side was not held: in later layers it reacted, too": query_key(free=True)}


@checks("query_and_key_effects", mistakes=SIDE_MISTAKES)
def test_queries_and_keys_of_two_layers(query_and_key_effects):
    plain = linear(two_layers(MODEL, TOKENS, 0, []))
    missing = dict(zip(SIDES, (["q"], ["k"], ["q", "k"])))
    for number in (0, 1):
        truth = {
            way: linear(two_layers(MODEL, TOKENS, number, readers)) - plain
            for way, readers in missing.items()
        }
        got = query_and_key_effects(MODEL, TOKENS, (0, number), linear)
        expect_entries(got, truth, f"head 0.{number}, random weights")


@checks("query_and_key_effects", mistakes=SIDE_MISTAKES | FREE)
def test_queries_and_keys_of_three_layers(query_and_key_effects):
    got, truth = (
        f(DEEPER, TOKENS, (0, 1), linear) for f in (query_and_key_effects, query_key_of_any)
    )
    expect_entries(got, truth, "head 0.1 of three layers")
    truth = ledger_of_any(DEEPER, TOKENS, (0, 1), linear)["via patterns"]
    expect_close(got["both"], truth, "", '"both" is the effect via patterns')


@checks("query_and_key_effects", mistakes=some(SIDE_MISTAKES, "exchanged"))
def test_which_side_a_planted_head_acts_on(query_and_key_effects):
    """Controls: the previous-token head acts on keys, the duplicate-token head of the pointer model
    on queries.
    """
    for name, make, known in (("induction", induction_model, 1), ("pointer", pointer_model, 0)):
        model, tokens, metric = on_repeats(make(14, 14))
        lost = -10.0 if known else evenly(tokens)
        truth = as_entries([0.0 if side == 1 - known else lost for side in range(3)], SIDES)
        expect_entries(
            query_and_key_effects(model, tokens, (0, 0), metric),
            truth,
            f"hand-built: {name}, head 0.0",
        )


@functools.cache
def entries_of(model, rows, head, metric):
    return {
        way: entry.item()
        for way, entry in ledger()(model, torch.tensor(rows), head, metric).items()
    }


def roles(
    largest=abs,
    kept=lambda size, least: size >= least,
    order=lambda size, head: -size,
    every=False,
    empty=True,
):
    """causal_roles with one thing changed; the defaults are right."""

    def function(model, tokens, metric, least=1.0):
        found = {way: [] for way in WAYS}
        for head in (
            (layer, number)
            for layer in range(model.cfg.n_layers)
            for number in range(model.cfg.n_heads)
        ):
            entries = entries_of(model, tuple(map(tuple, tokens.tolist())), head, metric)
            for way in WAYS if every else [max(WAYS, key=lambda way: largest(entries[way]))]:
                if kept(largest(entries[way]), least):
                    found[way].append((order(abs(entries[way]), head), head))
        return {
            way: [head for _, head in sorted(heads)]
            for way, heads in found.items()
            if heads or empty
        }

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
TWICE = {
    "a head is listed under several ways; it belongs to the one with its largest effect": roles(
        every=True
    )
}


def expect_roles(got, truth, why):
    expect(got == truth, f"{why}: expected {truth}, got {got}")


@checks("causal_roles", mistakes=ROLE_MISTAKES)
def test_roles_of_planted_heads(causal_roles):
    """Positive control: a strong induction head, one against the answer, one too weak to count,
    idle heads in layer 0.
    """
    model, tokens, metric = on_repeats(induction_model(14, 14, strengths=(-0.4, 1.0, 0.7, 0.05)))
    truth = {
        "direct": [(1, 1), (1, 2), (1, 0)],
        "via patterns": [(0, 0)],
        "via values": [],
        "interaction": [],
    }
    expect_roles(
        causal_roles(model, tokens, metric),
        truth,
        "induction heads of -4, 10, 7 and 0.5 nats, least = 1",
    )
    found = {name: causal_roles(*case, 0.1) for name, *case, _, _ in planted_ledgers()[-4:-2]}
    expect(
        found["either way enough"]["interaction"] == [(0, 0)],
        "either way enough: head 0.0 has only an interaction",
    )
    expect(
        found["three composers, 0.0"]["via values"] == [(0, 2)],
        "three composers: 0.2 acts via values",
    )


@checks("causal_roles", mistakes=some(ROLE_MISTAKES, "numbers", "smallest") | TWICE)
def test_roles_from_slow_ledgers(causal_roles):
    sizes = {way: {} for way in WAYS}
    for head in ((layer, number) for layer in range(2) for number in range(3)):
        entries = ledger_of_any(MODEL, TOKENS, head, linear)
        way = max(WAYS, key=lambda each: entries[each].abs())
        sizes[way][head] = entries[way].abs()
    truth = {way: sorted(heads, key=heads.get, reverse=True) for way, heads in sizes.items()}
    expect_roles(causal_roles(MODEL, TOKENS, linear, 1e-9), truth, "random weights, least = 1e-9")


@checks("causal_roles")
def test_roles_of_trained_models(causal_roles):
    """The trained model's best steerer looks one back; the impostor has no steerer at all; random
    weights have no roles.
    """
    model, tokens, metric = on_repeats(load("induction"), batch=8, length=32, period=10)
    found = causal_roles(model, tokens, metric)
    layer, number = found["via patterns"][0]
    looks_back = attention(model, tokens)[layer, :, number].diagonal(-1, dim1=-2, dim2=-1).mean()
    expect(
        looks_back > 0.9,
        f"trained: the best head via patterns looks one back with {looks_back:.2f}",
    )
    expect(
        {layer for layer, _ in found["direct"]} == {1},
        f"trained: only layer 1 acts directly, got {found['direct']}",
    )
    impostor = causal_roles(*on_repeats(load("impostor"), batch=8, length=32, period=10), 0.5)
    expect(
        not impostor["via patterns"],
        f"impostor: nobody acts via patterns, got {impostor['via patterns']}",
    )
    untrained = causal_roles(
        *on_repeats(Transformer(ModelConfig(), seed=0), batch=8, length=32, period=10), 0.5
    )
    expect(not any(untrained.values()), f"random weights: no head has a role, got {untrained}")
