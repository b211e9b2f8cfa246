"""Checks of chapter 16. The oracles: one neuron at a time through the model, loops, slopes by finite differences, planted neurons."""

import torch

from minitransformer import ModelConfig, Transformer
from solutions.ch16_neurons_and_heuristics import Heuristics, all_heuristics, several_results
from tests.exercises.checking import checks, expect, expect_close

SHAPE = {"n_layers": 2, "n_heads": 2, "d_model": 8, "d_head": 4, "d_vocab": 11, "n_ctx": 4}
MODEL = Transformer(ModelConfig(**SHAPE, layer_norm=True, d_mlp=6), seed=2).double().requires_grad_(False)
DRAW = torch.Generator().manual_seed(16)
for _name, _weight in MODEL.named_parameters():
    if _name.startswith(("b_", "ln")):  # biases and LayerNorm weights start at 0 and 1: too kind to mistakes
        _weight += 0.4 * torch.randn(_weight.shape, generator=DRAW, dtype=torch.float64)
TOKENS = torch.randint(11, (5, 4), generator=DRAW)
ANSWERS = torch.randint(11, (5,), generator=DRAW)
CACHE = dict(MODEL.run_with_cache(TOKENS)[1])
POST = [CACHE[f"blocks.{layer}.mlp.hook_post"] for layer in range(2)]
MEANS = torch.rand(2, 6, generator=DRAW, dtype=torch.float64)
OWN_MEANS = torch.stack([h[:, -1].mean(dim=0) for h in POST])
LENS = MODEL.W_out - MODEL.W_out.mean(dim=-1, keepdim=True)  # layer neuron d_model


def contributions(model, cache, layer, of="post", bias=0.0, other=0):
    h, v = cache[f"blocks.{layer}.mlp.hook_{of}"], model.W_out[(layer + other) % 2]
    return h[..., None] * v + bias * model.b_out[layer] / h.shape[-1]


@checks(
    "neuron_contributions",
    mistakes={
        "the bias was shared out among the neurons; it belongs to none of them": lambda m, c, at: contributions(
            m, c, at, bias=1
        ),
        "hook_pre was used: what a neuron writes is its activation after the relu": (
            lambda m, c, at: contributions(m, c, at, "pre")
        ),
        "the value vectors are those of the other layer": lambda m, c, at: contributions(m, c, at, other=1),
    },
)
def test_contributions_and_the_bias_are_the_mlp(neuron_contributions):
    for layer in (1, 0):
        got = neuron_contributions(MODEL, CACHE, layer)
        expect(got.shape == (5, 4, 6, 8), f"expected [batch, pos, neuron, d_model] = [5, 4, 6, 8], got {list(got.shape)}")
        truth = CACHE[f"blocks.{layer}.hook_mlp_out"] - MODEL.b_out[layer]
        expect_close(got.sum(dim=2), truth, "batch pos d_model", f"layer {layer}: their sum is hook_mlp_out minus b_out")
        alone = MODEL.run_with_hooks  # one neuron alone, by silencing the five others
        for n in range(6):
            seen = {}
            only = [(f"blocks.{layer}.mlp.hook_post", lambda h, hook, n=n: h * (torch.arange(6) == n))]
            alone(TOKENS, [*only, (f"blocks.{layer}.hook_mlp_out", lambda out, hook, s=seen: s.update(out=out.clone()))])
            expect_close(got[:, :, n], seen["out"] - MODEL.b_out[layer], "batch pos d_model", f"neuron {n} alone")


def lens(centre=True, weigh=True, bias=False):
    def values(model, layer):
        v = model.W_out[layer] - centre * model.W_out[layer].mean(dim=-1, keepdim=True)
        return (v * (model.ln_final_w if weigh else 1) + bias * model.ln_final_b) @ model.W_U

    return values


def frozen(name):
    return (name, lambda scale, hook: CACHE[name])


@checks(
    "value_logits",
    mistakes={
        "LayerNorm subtracts the mean of the vector first: the value vectors were not centred": lens(centre=False),
        "ln_final_w is missing": lens(weigh=False),
        "LayerNorm was left out altogether": lens(centre=False, weigh=False),
        "ln_final_b was added: it belongs to no neuron": lens(bias=True),
    },
)
def test_one_more_unit_of_activation(value_logits):
    """Done the long way: add 1 to one neuron of the last layer, all scales frozen, and see what the logits do."""
    got = value_logits(MODEL, 1)
    expect(got.shape == (6, 11), f"expected [neuron, vocab] = [6, 11], got {list(got.shape)}")
    for n in range(6):
        more = ("blocks.1.mlp.hook_post", lambda h, hook, n=n: h + (torch.arange(6) == n))
        moved = MODEL.run_with_hooks(TOKENS, [frozen("ln_final.hook_scale"), more]) - MODEL(TOKENS)
        moved = moved * CACHE["ln_final.hook_scale"]
        expect_close(got[n].expand_as(moved), moved, "batch pos vocab", f"neuron {n}: change of the logits times the scale")
    other = Transformer(MODEL.cfg, seed=2).double()
    other.load_state_dict({name: w.flip(0) if name == "W_out" else w for name, w in MODEL.state_dict().items()})
    expect_close(
        value_logits(MODEL, 0), value_logits(other, 1).detach(), "neuron vocab", "layer 0 has value vectors of its own"
    )


def direct(scale=True, position=-1, answers_of=lambda answers: answers):
    def to_answer(model, cache, layer, answers):
        each = lens()(model, layer)[:, answers_of(answers)].T * cache[f"blocks.{layer}.mlp.hook_post"][:, position]
        return each / (cache["ln_final.hook_scale"][:, position] if scale else 1)

    return to_answer


@checks(
    "answer_contributions",
    mistakes={
        "it was not divided by the frozen scale": direct(scale=False),
        "the first position was used; the answer is predicted at the last one": direct(position=0),
        "the answers were mixed up: each prompt has its own": direct(answers_of=lambda answers: answers.flip(0)),
    },
)
def test_take_the_neuron_away(answer_contributions):
    got, before = answer_contributions(MODEL, CACHE, 1, ANSWERS), MODEL(TOKENS)[:, -1]
    expect(got.shape == (5, 6), f"expected [batch, neuron] = [5, 6], got {list(got.shape)}")
    for n in range(6):
        silent = ("blocks.1.mlp.hook_post", lambda h, hook, n=n: h * (torch.arange(6) != n))
        lost = before - MODEL.run_with_hooks(TOKENS, [frozen("ln_final.hook_scale"), silent])[:, -1]
        lost = lost.gather(1, ANSWERS[:, None])[:, 0]
        expect_close(got[:, n], lost, "batch", f"neuron {n} of the last layer silenced, ln_final scale frozen: logit lost")


def without(fill="means", position=-1, keep=False, layers=(0, 1)):
    def logits(model, tokens, out, means):
        out = out.expand(len(tokens), *means.shape) ^ keep
        hooks = []
        for layer in layers:

            def to_mean(h, hook, layer=layer):
                mean = {"means": means[layer], "zero": torch.zeros(()).double(), "batch": h[:, -1].mean(dim=0)}[fill]
                where = out[:, layer, None].expand_as(h).clone()
                if position is not None:
                    where[:, :position] = False
                return torch.where(where, mean, h)

            hooks.append((f"blocks.{layer}.mlp.hook_post", to_mean))
        return model.run_with_hooks(tokens, hooks)[:, -1]

    return logits


@checks(
    "without_neurons",
    mistakes={
        "the neurons were set to 0, not to the means that were given": without(fill="zero"),
        "the mean was taken over this batch; use the means that were given": without(fill="batch"),
        "the neurons were changed at every position; only the last one is meant": without(position=None),
        "the neurons outside `out` were taken away: True means gone": without(keep=True),
        "only the first layer was changed": without(layers=(0,)),
    },
)
def test_neurons_at_their_means(without_neurons):
    each = torch.rand(5, 2, 6, generator=torch.Generator().manual_seed(1)) < 0.4
    truth = []
    for row in range(5):  # one prompt at a time, one neuron after the other
        hooks = []
        for layer, n in each[row].nonzero().tolist():

            def set_one(h, hook, layer=layer, n=n):
                h[0, -1, n] = MEANS[layer, n]
                return h

            hooks.append((f"blocks.{layer}.mlp.hook_post", set_one))
        truth.append(MODEL.run_with_hooks(TOKENS[row : row + 1], hooks)[0, -1])
    expect_close(
        without_neurons(MODEL, TOKENS, each, MEANS), torch.stack(truth), "batch vocab", "other neurons in each prompt"
    )
    same = without()(MODEL, TOKENS, each[0], MEANS)
    expect_close(without_neurons(MODEL, TOKENS, each[0], MEANS), same, "batch vocab", "the same neurons in every prompt")
    none = without_neurons(MODEL, TOKENS, torch.zeros(2, 6, dtype=torch.bool), MEANS)
    expect_close(none, MODEL(TOKENS)[:, -1], "batch vocab", "nothing taken away, nothing changed")


def answer_logit(logits, answers, centred=True):
    return logits.gather(-1, answers[:, None])[:, 0] - centred * logits.mean(dim=-1)


def one_by_one(fill="means", position=-1, centred=True, sign=1, scrambled=False):
    def effects(model, tokens, answers, at_once=64):
        clean, found = answer_logit(model(tokens)[:, -1], answers, centred), []
        for out in torch.eye(12, dtype=torch.bool).view(12, 2, 6):
            logits = without(fill, position)(model, tokens, out, OWN_MEANS)
            found.append(sign * (clean - answer_logit(logits, answers, centred)))
        found = torch.stack(found)
        return (found.T.reshape(12, -1) if scrambled else found).view(2, 6, len(tokens))

    return effects


EFFECT_MISTAKES = {
    "the sign is turned round: a neuron that helps has a positive effect": {"sign": -1},
    "the logit was not centred; subtract its mean over the vocabulary": {"centred": False},
    "the neurons were set to 0, not to their means": {"fill": "zero"},
    "the neurons were changed at every position; only the last one is meant": {"position": None},
    "prompts and neurons changed places: repeat(...) and repeat_interleave(...) must fit": {"scrambled": True},
}


@checks("neuron_effects", mistakes={label: one_by_one(**wrong) for label, wrong in EFFECT_MISTAKES.items()})
def test_effects_one_neuron_at_a_time(neuron_effects):
    truth = one_by_one()(MODEL, TOKENS, ANSWERS)
    for at_once in (64, 5):
        got = neuron_effects(MODEL, TOKENS, ANSWERS, at_once=at_once)
        expect_close(got, truth, "layer neuron batch", f"undisturbed minus this neuron at its mean, at_once={at_once}")


def by_differences(centred=True, centre_h=True, sign=1, share=1.0, step=1e-6):
    """attributed_effects with slopes measured: nudge one neuron up and down."""

    def effects(model, tokens, answers):
        slope = torch.zeros(2, 6, len(tokens), dtype=torch.float64)
        for layer in range(2):
            for n in range(6):
                up, down = (
                    model.run_with_hooks(tokens, [(f"blocks.{layer}.mlp.hook_post", nudge(n, by))])[:, -1]
                    for by in (step, -step)
                )
                rise = answer_logit(up, answers, centred) - answer_logit(down, answers, centred)
                slope[layer, n] = rise / (2 * step)
        h = torch.stack([h[:, -1].T for h in POST])  # layer neuron batch
        return sign * share * slope * (h - centre_h * h.mean(dim=-1, keepdim=True))

    return effects


def nudge(n, by):
    return lambda h, hook: h + by * (torch.arange(6) == n)


ATTRIBUTION_MISTAKES = {
    "the mean was not subtracted: compared with 0, not with the mean": by_differences(centre_h=False),
    "the sign is turned round: (h - mean) times the slope": by_differences(sign=-1),
    "the logit was not centred; subtract its mean over the vocabulary": by_differences(centred=False),
    "the slope is that of a mean over the prompts: use the sum": by_differences(share=0.2),
}


@checks("attributed_effects", mistakes=ATTRIBUTION_MISTAKES)
def test_attribution_is_displacement_times_slope(attributed_effects):
    with torch.no_grad():  # chapters run like this
        got = attributed_effects(MODEL, TOKENS, ANSWERS)
    expect_close(got, by_differences()(MODEL, TOKENS, ANSWERS), "layer neuron batch", "(h - mean) x slope", 1e-5)
