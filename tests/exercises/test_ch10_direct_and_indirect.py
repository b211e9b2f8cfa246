"""Checks of chapter 10. The oracles: the model in matrices, exact identities in float64, planted
circuits. Random models have one, two and three layers and loud weights, so that every way carries
something; a metric that is not linear comes first, since a linear one hides what was done in which
order.
"""

import itertools

import torch

from minitransformer import ModelConfig, Transformer, load
from minitransformer.evaluate import attention
from minitransformer.planted import induction_model, pointer_model
from tests.exercises.cases import heads_of, in_case
from tests.exercises.checking import checks, expect, expect_close
from tests.exercises.oracles.ch10 import (
    as_entries,
    by_hand,
    evenly,
    ledger_of_any,
    ledger_of_two_layers,
    loud_model,
    on_repeats,
    planted_ledgers,
    query_key_of_any,
    two_layers,
)
from tests.exercises.oracles.ch10_ledger_mistakes import DEEP_LEDGER_MISTAKES, LEDGER_MISTAKES
from tests.exercises.oracles.ch10_mistakes import DIRECT_MISTAKES, TOTAL_MISTAKES, WAYS, some
from tests.exercises.oracles.ch10_role_mistakes import (
    DEEP_SIDE_MISTAKES,
    MORE_THAN,
    ROLE_MISTAKES,
    SIDE_MISTAKES,
)
from tests.material import seeded

ONE = loud_model(1, n_layers=1)
MODEL = loud_model(0)
DEEPER = loud_model(20, n_layers=3, positional_embedding_type="standard")
ROLES = loud_model(5, n_layers=3, positional_embedding_type="standard")
TOKENS = torch.tensor([[0, 3, 7, 3, 10, 1], [0, 5, 5, 2, 9, 4]])
WEIGHT = torch.randn(2, 6, 11, dtype=torch.float64, generator=seeded()) / 20


def linear(logits):
    """A metric that is linear in the logits, as a logit difference is, but touches all of them."""
    return (WEIGHT * logits).sum()


def loss(logits):
    """A metric that is not linear: minus the mean log-probability of token 3."""
    return -logits.log_softmax(dim=-1)[..., 3].mean()


LOSS, LINEAR = ("the loss of token 3", loss), ("a linear metric", linear)
# model, head, (words for the metric, metric)
CASES = [
    (DEEPER, (0, 0), LOSS),
    (DEEPER, (1, 2), LINEAR),
    (MODEL, (0, 1), LOSS),
    (MODEL, (1, 2), LINEAR),
]
ONE_LAYER = [(ONE, (0, 2), LOSS), (ONE, (0, 1), LINEAR)]


def results(function, cases=CASES):
    """All results first, so that a mistake is told by all of them; then (words, model, head,
    metric, result) one by one.
    """
    got = []
    for model, head, (_, metric) in cases:
        got.append(in_case(heads_of(model), function, model, TOKENS, head, metric))
    for (model, head, (name, metric)), result in zip(cases, got):
        which = f"{name}, head {head[0]}.{head[1]} of {model.cfg.n_layers} layers"
        yield which, model, head, metric, result


@checks("total_effect", mistakes=TOTAL_MISTAKES)
def test_total_is_a_run_without_the_head(total_effect):
    """The long way: the same model with this head's W_O set to 0."""
    for which, model, (layer, number), metric, got in results(total_effect):
        without = Transformer(model.cfg).double().requires_grad_(False)
        without.load_state_dict(model.state_dict())
        without.W_O[layer, number] = 0
        truth = metric(without(TOKENS)) - metric(model(TOKENS))
        why = f"{which}: with its W_O set to 0, minus the same undisturbed"
        expect_close(got, truth, "", why)


def expect_no_readers(function, names=()):
    """In a model of one layer nobody reads what a head writes: its total effect is direct."""
    for which, model, (_, number), metric, got in results(function, ONE_LAYER):
        missing = by_hand(model, TOKENS, silent=(0, number))[0]
        truth = metric(missing) - metric(model(TOKENS))
        if names:
            truth = {name: truth * (name in ("direct", "total")) for name in names}
            expect_entries(got, truth, which)
        else:
            expect_close(got, truth, "", f"{which}: nobody else reads the head")


@checks("total_effect", mistakes=some(TOTAL_MISTAKES, "sign is turned"))
def test_total_of_one_layer(total_effect):
    expect_no_readers(total_effect)


@checks("direct_effect", mistakes=DIRECT_MISTAKES)
def test_direct_is_minus_the_attribution(direct_effect):
    """z W_O W_U of a head is its direct logit attribution; and a nonlinear metric of the rest."""
    for which, model, (layer, number), metric, got in results(direct_effect):
        logits, cache = model.run_with_cache(TOKENS)
        z = cache[f"blocks.{layer}.attn.hook_z"][:, :, number]
        own = z @ model.W_O[layer, number] @ model.W_U
        truth = metric(logits - own) - metric(logits)
        expect_close(got, truth, "", f"{which}: without its attribution, minus undisturbed")
        assert metric is loss or torch.allclose(truth, -linear(own))


@checks("direct_effect", mistakes=some(DIRECT_MISTAKES, "sign is turned"))
def test_direct_of_one_layer(direct_effect):
    expect_no_readers(direct_effect)


@checks("direct_effect", mistakes=some(DIRECT_MISTAKES, "heads reacted: the"))
def test_the_last_layer_acts_directly_and_the_previous_token_head_does_not(direct_effect):
    model, tokens, metric = on_repeats(induction_model(14, 14))
    for head, truth, name in (((0, 0), 0.0, "previous-token"), ((1, 0), -10.0, "induction")):
        got = direct_effect(model, tokens, head, metric)
        expect_close(got, truth, "", f"hand-built {name} head")


def expect_entries(got, truth, why):
    """Every entry of a dict of effects, by name."""
    expect(isinstance(got, dict), f"{why}: expected a dict, got {type(got).__name__}")
    expect(set(got) == set(truth), f"{why}: expected the entries {list(truth)}, got {list(got)}")
    for name, value in truth.items():
        expect_close(got[name], value, "", f'{why}, "{name}"')


@checks("effect_ledger", mistakes=LEDGER_MISTAKES | DEEP_LEDGER_MISTAKES)
def test_ledger_of_every_depth(effect_ledger):
    """With a metric that is not linear the ledger need not close; the definitions still hold."""
    for which, model, head, metric, got in results(effect_ledger):
        truth = ledger_of_any(model, TOKENS, head, metric)
        missing = abs(sum(truth[way] for way in WAYS) - truth["total"])
        assert (missing < 1e-10) == (metric is linear or head[0] + 1 == model.cfg.n_layers)
        expect_entries(got, truth, which)


@checks("effect_ledger", mistakes=some(LEDGER_MISTAKES, "interaction", "signs"))
def test_ledger_of_two_layers(effect_ledger):
    """In matrices: the head's output is missing from q and k, from v, from the logits, or more."""
    for metric, number in ((loss, 1), (linear, 0), (linear, 2)):
        truth = ledger_of_two_layers(MODEL, TOKENS, number, metric)
        # every way is used, so every mistake shows
        assert min(abs(value) for value in truth.values()) > 1e-3
        got = effect_ledger(MODEL, TOKENS, (0, number), metric)
        expect_entries(got, truth, f"head 0.{number}, random weights")


@checks("effect_ledger", mistakes=some(LEDGER_MISTAKES, "all signs"))
def test_ledger_of_one_layer(effect_ledger):
    expect_no_readers(effect_ledger, [*WAYS, "total"])


@checks("effect_ledger", mistakes=some(LEDGER_MISTAKES, "via patterns and via values", "signs"))
def test_ledgers_of_planted_circuits(effect_ledger):
    """Positive controls: heads that act via patterns, one via values, and two by both ways."""
    for name, model, tokens, metric, head, known in planted_ledgers():
        truth = as_entries(known, [*WAYS, "total"])
        expect_entries(effect_ledger(model, tokens, head, metric), truth, f"hand-built: {name}")


SIDES = ("via queries", "via keys", "both")


@checks("query_and_key_effects", mistakes=SIDE_MISTAKES | DEEP_SIDE_MISTAKES)
def test_queries_and_keys_of_every_depth(query_and_key_effects):
    for which, model, head, metric, got in results(query_and_key_effects):
        expect_entries(got, query_key_of_any(model, TOKENS, head, metric), which)
        if metric is linear:
            patterns = ledger_of_any(model, TOKENS, head, metric)["via patterns"]
            expect_close(got["both"], patterns, "", '"both" is the effect via patterns')


@checks("query_and_key_effects", mistakes=some(SIDE_MISTAKES, "exchanged", "signs"))
def test_queries_and_keys_of_two_layers(query_and_key_effects):
    plain = linear(two_layers(MODEL, TOKENS, 0, []))
    for number in (0, 1):
        truth = {
            "via queries": linear(two_layers(MODEL, TOKENS, number, ["q"])) - plain,
            "via keys": linear(two_layers(MODEL, TOKENS, number, ["k"])) - plain,
            "both": linear(two_layers(MODEL, TOKENS, number, ["q", "k"])) - plain,
        }
        got = query_and_key_effects(MODEL, TOKENS, (0, number), linear)
        expect_entries(got, truth, f"head 0.{number}, random weights")


@checks("query_and_key_effects", mistakes=some(SIDE_MISTAKES, "exchanged"))
def test_which_side_a_planted_head_acts_on(query_and_key_effects):
    """Controls: the previous-token head acts on keys, the duplicate-token head on queries."""
    model, tokens, metric = on_repeats(induction_model(14, 14))
    truth = as_entries([0.0, -10.0, -10.0], SIDES)
    got = query_and_key_effects(model, tokens, (0, 0), metric)
    expect_entries(got, truth, "hand-built: induction, head 0.0")
    model, tokens, metric = on_repeats(pointer_model(14, 14))
    lost = evenly(tokens)
    truth = as_entries([lost, 0.0, lost], SIDES)
    got = query_and_key_effects(model, tokens, (0, 0), metric)
    expect_entries(got, truth, "hand-built: pointer, head 0.0")


def expect_roles(got, truth, why):
    expect(got == truth, f"{why}: expected {truth}, got {got}")


def roles_by_hand(model, metric, least):
    """The roles from slow ledgers."""
    sizes = {way: {} for way in WAYS}
    for head in itertools.product(range(model.cfg.n_layers), range(model.cfg.n_heads)):
        entries = ledger_of_any(model, TOKENS, head, metric)
        way = max(WAYS, key=lambda each: entries[each].abs())
        if entries[way].abs() >= least:
            sizes[way][head] = entries[way].abs()
    return {way: sorted(heads, key=heads.get, reverse=True) for way, heads in sizes.items()}


@checks("causal_roles", mistakes=ROLE_MISTAKES)
def test_roles_from_slow_ledgers(causal_roles):
    cases = ((ROLES, 0.5), (MODEL, 0.5))
    got = []
    for model, least in cases:
        got.append(in_case(heads_of(model), causal_roles, model, TOKENS, linear, least))
    for (model, least), found in zip(cases, got):
        which = f"random weights, {model.cfg.n_layers} layers, least = {least:g}"
        expect_roles(found, roles_by_hand(model, linear, least), which)


@checks("causal_roles", mistakes=some(ROLE_MISTAKES, "numbers"))
def test_roles_of_one_layer(causal_roles):
    got = causal_roles(ONE, TOKENS, linear, 0.01)
    truth = roles_by_hand(ONE, linear, 0.01)
    assert truth["direct"] != sorted(truth["direct"])
    expect_roles(got, truth, "one layer, where all heads act directly")


@checks("causal_roles", mistakes=some(ROLE_MISTAKES, "least` was ignored", "numbers", "smallest"))
def test_roles_of_planted_heads(causal_roles):
    """Positive control: a strong induction head, one against the answer, one too weak to count."""
    model, tokens, metric = on_repeats(induction_model(14, 14, strengths=(-0.8, 1.0, 0.7, 0.05)))
    truth = dict.fromkeys(WAYS, []) | {"direct": [(1, 1), (1, 0), (1, 2)], "via patterns": [(0, 0)]}
    got = causal_roles(model, tokens, metric)
    expect_roles(got, truth, "induction heads of -8, 10, 7 and 0.5 nats, least = 1")
    cases = {name: case for name, *case, _, _ in planted_ledgers()}
    found = causal_roles(*cases["either way enough"], 0.1)
    why = "either way enough: head 0.0 has only an interaction"
    expect(found["interaction"] == [(0, 0)], why)
    found = causal_roles(*cases["three composers, 0.0"], 0.1)
    expect(found["via values"] == [(0, 2)], "three composers: 0.2 acts via values")


@checks("causal_roles", mistakes=MORE_THAN)
def test_a_role_of_exactly_the_least_effect(causal_roles):
    cases = {name: case for name, *case, _, _ in planted_ledgers()}
    found = causal_roles(*cases["either way enough"], 10.0)
    why = "an interaction of exactly 10 nats, least = 10: head 0.0 has this role"
    expect(found["interaction"] == [(0, 0)], why)


@checks("causal_roles")
def test_roles_of_trained_models(causal_roles):
    """The best steerer of the trained model looks one back. The impostor has no steerer. Random
    weights have no roles.
    """
    repeats = {"batch": 3, "length": 28, "period": 10}
    model, tokens, metric = on_repeats(load("induction"), **repeats)
    found = causal_roles(model, tokens, metric)
    layer, number = found["via patterns"][0]
    back = attention(model, tokens)[layer, :, number].diagonal(-1, dim1=-2, dim2=-1).mean()
    expect(back > 0.9, f"trained: the best head via patterns looks one back with {back:.2f}")
    direct = found["direct"]
    only_layer_1 = {layer for layer, _ in direct} == {1}
    expect(only_layer_1, f"trained: only layer 1 acts directly, got {direct}")
    steerers = causal_roles(*on_repeats(load("impostor"), **repeats), 0.5)["via patterns"]
    expect(not steerers, f"impostor: nobody acts via patterns, got {steerers}")
    untrained = causal_roles(*on_repeats(Transformer(ModelConfig(), seed=0), **repeats), 0.5)
    expect(not any(untrained.values()), f"random weights: no head has a role, got {untrained}")
