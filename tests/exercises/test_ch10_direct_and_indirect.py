"""Checks of chapter 10. The oracles: the model in matrices, exact identities in float64, planted
circuits.
"""

import itertools

import torch

from minitransformer import ModelConfig, Transformer, load
from minitransformer.evaluate import attention
from minitransformer.planted import induction_model, pointer_model
from tests.exercises.checking import checks, expect, expect_close
from tests.exercises.oracles.ch10 import (
    as_entries,
    evenly,
    ledger_of_any,
    ledger_of_two_layers,
    on_repeats,
    planted_ledgers,
    query_key_of_any,
    two_layers,
)
from tests.exercises.oracles.ch10_mistakes import (
    DIRECT_MISTAKES,
    DIRECT_NONLINEAR,
    FREE,
    LAZY_MISTAKES,
    LEDGER_MISTAKES,
    MORE_THAN,
    ROLE_MISTAKES,
    SIDE_MISTAKES,
    TOTAL_MISTAKES,
    TOTAL_NONLINEAR,
    TWICE,
    WAYS,
    some,
)
from tests.material import seeded, small_model

MODEL = small_model().requires_grad_(False)
DEEPER = small_model(4, n_layers=3, positional_embedding_type="standard").requires_grad_(False)
TOKENS = torch.tensor([[0, 3, 7, 3, 10, 1], [0, 5, 5, 2, 9, 4]])
WEIGHT = torch.randn(2, 6, 11, dtype=torch.float64, generator=seeded())


def linear(logits):
    """A metric that is linear in the logits, as a logit difference is, but touches all of them."""
    return (WEIGHT * logits).sum()


def loss(logits):
    """A metric that is not linear: minus the mean log-probability of token 3."""
    return -logits.log_softmax(dim=-1)[..., 3].mean()


@checks("total_effect", mistakes=TOTAL_MISTAKES)
def test_total_is_a_run_without_the_head(total_effect):
    """The long way: the same model with this head's W_O set to 0, and, for layer 0, in matrices."""
    for layer, number in ((0, 1), (1, 2), (0, 2)):
        without = Transformer(MODEL.cfg).double().requires_grad_(False)
        without.load_state_dict(MODEL.state_dict())
        without.W_O[layer, number] = 0
        truth = linear(without(TOKENS)) - linear(MODEL(TOKENS))
        got = total_effect(MODEL, TOKENS, (layer, number), linear)
        why = f"head {layer}.{number}: the metric with its W_O set to 0, minus the metric"
        expect_close(got, truth, "", why)
        if layer == 0:
            by_matrices = two_layers(MODEL, TOKENS, number, ["q", "k", "v", "logits"])
            assert torch.allclose(truth, linear(by_matrices) - linear(MODEL(TOKENS)))


@checks("total_effect", mistakes=TOTAL_NONLINEAR)
def test_total_with_a_metric_that_is_not_linear(total_effect):
    by_matrices = two_layers(MODEL, TOKENS, 2, ["q", "k", "v", "logits"])
    truth = loss(by_matrices) - loss(MODEL(TOKENS))
    got = total_effect(MODEL, TOKENS, (0, 2), loss)
    expect_close(got, truth, "", "head 0.2: the loss without it, minus the loss")


@checks("direct_effect", mistakes=DIRECT_MISTAKES | DIRECT_NONLINEAR)
def test_direct_is_minus_the_attribution(direct_effect):
    """z W_O W_U of a head is its direct logit attribution; and a nonlinear metric of the rest."""
    for model, heads in ((MODEL, [(0, 1), (1, 2), (0, 2)]), (DEEPER, [(0, 0), (1, 2), (2, 1)])):
        logits, cache = model.run_with_cache(TOKENS)
        for layer, number in heads:
            z = cache[f"blocks.{layer}.attn.hook_z"][:, :, number]
            own = z @ model.W_O[layer, number] @ model.W_U
            got = direct_effect(model, TOKENS, (layer, number), linear)
            why = f"head {layer}.{number} of {model.cfg.n_layers} layers: minus its attribution"
            expect_close(got, -linear(own), "", why)
            got = direct_effect(model, TOKENS, (layer, number), loss)
            why = "the loss of the logits less the head's attribution, minus the loss"
            expect_close(got, loss(logits - own) - loss(logits), "", why)


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


@checks("effect_ledger", mistakes=LEDGER_MISTAKES)
def test_ledger_of_two_layers(effect_ledger):
    """In matrices: the head's output is missing from q and k, from v, from the logits, or more."""
    for number in (0, 2):
        truth = ledger_of_two_layers(MODEL, TOKENS, number, linear)
        # every way is used, so every mistake shows
        assert min(abs(value) for value in truth.values()) > 1e-2
        assert abs(sum(truth[way] for way in WAYS) - truth["total"]) < 1e-10
        got = effect_ledger(MODEL, TOKENS, (0, number), linear)
        expect_entries(got, truth, f"head 0.{number}, random weights")


@checks("effect_ledger", mistakes=LEDGER_MISTAKES)
def test_ledger_closes_in_three_layers(effect_ledger):
    for head in ((0, 1), (1, 0), (2, 2)):
        which = f"head {head[0]}.{head[1]} of three layers"
        got = effect_ledger(DEEPER, TOKENS, head, linear)
        expect_entries(got, ledger_of_any(DEEPER, TOKENS, head, linear), which)
        ways = sum(got[way] for way in WAYS)
        expect_close(ways, got["total"], "", f"{which}: the four ways add up to the total")
        if head[0] == 2:
            why = f"{which}: the last layer has no indirect effect"
            expect_close(got["direct"], got["total"], "", why)


@checks("effect_ledger", mistakes=LAZY_MISTAKES)
def test_every_entry_is_measured(effect_ledger):
    """With a metric that is not linear the ledger need not close; the definitions still hold."""
    truth = ledger_of_two_layers(MODEL, TOKENS, 1, loss)
    assert abs(sum(truth[way] for way in WAYS) - truth["total"]) > 1e-3
    got = effect_ledger(MODEL, TOKENS, (0, 1), loss)
    expect_entries(got, truth, "head 0.1, with the loss for a metric")


@checks("effect_ledger", mistakes=some(LEDGER_MISTAKES, "interaction still", "signs"))
def test_ledgers_of_planted_circuits(effect_ledger):
    """Positive controls: heads that act via patterns, one via values, and two by both ways."""
    for name, model, tokens, metric, head, known in planted_ledgers():
        truth = as_entries(known, [*WAYS, "total"])
        expect_entries(effect_ledger(model, tokens, head, metric), truth, f"hand-built: {name}")


SIDES = ("via queries", "via keys", "both")


@checks("query_and_key_effects", mistakes=SIDE_MISTAKES)
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


@checks("query_and_key_effects", mistakes=SIDE_MISTAKES | FREE)
def test_queries_and_keys_of_three_layers(query_and_key_effects):
    got = query_and_key_effects(DEEPER, TOKENS, (0, 1), linear)
    truth = query_key_of_any(DEEPER, TOKENS, (0, 1), linear)
    expect_entries(got, truth, "head 0.1 of three layers")
    truth = ledger_of_any(DEEPER, TOKENS, (0, 1), linear)["via patterns"]
    expect_close(got["both"], truth, "", '"both" is the effect via patterns')


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


@checks("causal_roles", mistakes=ROLE_MISTAKES)
def test_roles_of_planted_heads(causal_roles):
    """Positive control: a strong induction head, one against the answer, one too weak to count."""
    model, tokens, metric = on_repeats(induction_model(14, 14, strengths=(-0.4, 1.0, 0.7, 0.05)))
    truth = dict.fromkeys(WAYS, []) | {"direct": [(1, 1), (1, 2), (1, 0)], "via patterns": [(0, 0)]}
    got = causal_roles(model, tokens, metric)
    expect_roles(got, truth, "induction heads of -4, 10, 7 and 0.5 nats, least = 1")
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


@checks("causal_roles", mistakes=some(ROLE_MISTAKES, "numbers", "smallest") | TWICE)
def test_roles_from_slow_ledgers(causal_roles):
    sizes = {way: {} for way in WAYS}
    for head in itertools.product(range(2), range(3)):
        entries = ledger_of_any(MODEL, TOKENS, head, linear)
        way = max(WAYS, key=lambda each: entries[each].abs())
        sizes[way][head] = entries[way].abs()
    truth = {way: sorted(heads, key=heads.get, reverse=True) for way, heads in sizes.items()}
    expect_roles(causal_roles(MODEL, TOKENS, linear, 1e-9), truth, "random weights, least = 1e-9")


@checks("causal_roles")
def test_roles_of_trained_models(causal_roles):
    """The best steerer of the trained model looks one back. The impostor has no steerer. Random
    weights have no roles.
    """
    repeats = {"batch": 8, "length": 32, "period": 10}
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
