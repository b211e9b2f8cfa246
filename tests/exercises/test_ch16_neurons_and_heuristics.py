"""Checks of chapter 16. The oracles: one neuron at a time, loops, slopes by finite differences,
planted neurons.
"""

import torch

from minitransformer import ModelConfig, Transformer
from solutions.ch16_neurons_and_heuristics import all_heuristics
from tests.exercises.checking import checks, expect, expect_close
from tests.exercises.oracles.ch16 import (
    by_differences,
    classifier,
    laid_out,
    one_by_one,
    order_for_rank,
    planted_neurons,
    scores_by_loops,
    senseless_neurons,
    without,
)

SHAPE = {"n_layers": 2, "n_heads": 2, "d_model": 8, "d_head": 4, "d_vocab": 11, "n_ctx": 4}
MODEL = (
    Transformer(ModelConfig(**SHAPE, layer_norm=True, d_mlp=6), seed=2)
    .double()
    .requires_grad_(False)
)
DRAW = torch.Generator().manual_seed(16)
for _name, _weight in MODEL.named_parameters():
    # biases and LayerNorm weights start at 0 and 1: too kind to mistakes
    if _name.startswith(("b_", "ln")):
        _weight += 0.4 * torch.randn(_weight.shape, generator=DRAW, dtype=torch.float64)
TOKENS = torch.randint(11, (5, 4), generator=DRAW)
ANSWERS = torch.randint(11, (5,), generator=DRAW)
CACHE = dict(MODEL.run_with_cache(TOKENS)[1])
MEANS = torch.rand(2, 6, generator=DRAW, dtype=torch.float64)


def contributions(model, cache, layer, of="post", bias=0.0, other=0):
    h, v = cache[f"blocks.{layer}.mlp.hook_{of}"], model.W_out[(layer + other) % 2]
    return h[..., None] * v + bias * model.b_out[layer] / h.shape[-1]


@checks(
    "neuron_contributions",
    mistakes={
        "the bias was shared out among the neurons; it belongs to none of them": lambda m, c, at: (
            contributions(m, c, at, bias=1)
        ),
        "hook_pre was used: what a neuron writes is its activation after the relu": (
            lambda m, c, at: contributions(m, c, at, "pre")
        ),
        "the value vectors are those of the other layer": lambda m, c, at: contributions(
            m, c, at, other=1
        ),
    },
)
def test_contributions_and_the_bias_are_the_mlp(neuron_contributions):
    for layer in (1, 0):
        got = neuron_contributions(MODEL, CACHE, layer)
        expect(
            got.shape == (5, 4, 6, 8),
            f"expected [batch, pos, neuron, d_model] = [5, 4, 6, 8], got {list(got.shape)}",
        )
        truth = CACHE[f"blocks.{layer}.hook_mlp_out"] - MODEL.b_out[layer]
        expect_close(
            got.sum(dim=2),
            truth,
            "batch pos d_model",
            f"layer {layer}: their sum is hook_mlp_out minus b_out",
        )
        alone = MODEL.run_with_hooks  # one neuron alone, by silencing the five others
        for n in range(6):
            seen = {}
            only = [
                (f"blocks.{layer}.mlp.hook_post", lambda h, hook, n=n: h * (torch.arange(6) == n))
            ]
            alone(
                TOKENS,
                [
                    *only,
                    (
                        f"blocks.{layer}.hook_mlp_out",
                        lambda out, hook, s=seen: s.update(out=out.clone()),
                    ),
                ],
            )
            expect_close(
                got[:, :, n],
                seen["out"] - MODEL.b_out[layer],
                "batch pos d_model",
                f"neuron {n} alone",
            )


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
        "LayerNorm subtracts the mean of the vector first: the value vectors were not centred": lens(
            centre=False
        ),
        "ln_final_w is missing": lens(weigh=False),
        "LayerNorm was left out altogether": lens(centre=False, weigh=False),
        "ln_final_b was added: it belongs to no neuron": lens(bias=True),
    },
)
def test_one_more_unit_of_activation(value_logits):
    """Done the long way: add 1 to one neuron of the last layer, all scales frozen, and see what the
    logits do.
    """
    got = value_logits(MODEL, 1)
    expect(got.shape == (6, 11), f"expected [neuron, vocab] = [6, 11], got {list(got.shape)}")
    for n in range(6):
        more = ("blocks.1.mlp.hook_post", lambda h, hook, n=n: h + (torch.arange(6) == n))
        moved = MODEL.run_with_hooks(TOKENS, [frozen("ln_final.hook_scale"), more]) - MODEL(TOKENS)
        moved = moved * CACHE["ln_final.hook_scale"]
        expect_close(
            got[n].expand_as(moved),
            moved,
            "batch pos vocab",
            f"neuron {n}: change of the logits times the scale",
        )
    other = Transformer(MODEL.cfg, seed=2).double()
    other.load_state_dict(
        {name: w.flip(0) if name == "W_out" else w for name, w in MODEL.state_dict().items()}
    )
    expect_close(
        value_logits(MODEL, 0),
        value_logits(other, 1).detach(),
        "neuron vocab",
        "layer 0 has value vectors of its own",
    )


def direct(scale=True, position=-1, answers_of=lambda answers: answers):
    def to_answer(model, cache, layer, answers):
        each = (
            lens()(model, layer)[:, answers_of(answers)].T
            * cache[f"blocks.{layer}.mlp.hook_post"][:, position]
        )
        return each / (cache["ln_final.hook_scale"][:, position] if scale else 1)

    return to_answer


@checks(
    "answer_contributions",
    mistakes={
        "it was not divided by the frozen scale": direct(scale=False),
        "the first position was used; the answer is predicted at the last one": direct(position=0),
        "the answers were mixed up: each prompt has its own": direct(
            answers_of=lambda answers: answers.flip(0)
        ),
    },
)
def test_take_the_neuron_away(answer_contributions):
    got, before = answer_contributions(MODEL, CACHE, 1, ANSWERS), MODEL(TOKENS)[:, -1]
    expect(got.shape == (5, 6), f"expected [batch, neuron] = [5, 6], got {list(got.shape)}")
    for n in range(6):
        silent = ("blocks.1.mlp.hook_post", lambda h, hook, n=n: h * (torch.arange(6) != n))
        lost = before - MODEL.run_with_hooks(TOKENS, [frozen("ln_final.hook_scale"), silent])[:, -1]
        lost = lost.gather(1, ANSWERS[:, None])[:, 0]
        expect_close(
            got[:, n],
            lost,
            "batch",
            f"neuron {n} of the last layer silenced, ln_final scale frozen: logit lost",
        )


@checks(
    "without_neurons",
    mistakes={
        "the neurons were set to 0, not to the means that were given": without(fill="zero"),
        "the mean was taken over this batch; use the means that were given": without(fill="batch"),
        "the neurons were changed at every position; only the last one is meant": without(
            position=None
        ),
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
        without_neurons(MODEL, TOKENS, each, MEANS),
        torch.stack(truth),
        "batch vocab",
        "other neurons in each prompt",
    )
    same = without()(MODEL, TOKENS, each[0], MEANS)
    expect_close(
        without_neurons(MODEL, TOKENS, each[0], MEANS),
        same,
        "batch vocab",
        "the same neurons in every prompt",
    )
    none = without_neurons(MODEL, TOKENS, torch.zeros(2, 6, dtype=torch.bool), MEANS)
    expect_close(none, MODEL(TOKENS)[:, -1], "batch vocab", "nothing taken away, nothing changed")


EFFECT_MISTAKES = {
    "the sign is turned round: a neuron that helps has a positive effect": {"sign": -1},
    "the logit was not centred; subtract its mean over the vocabulary": {"centred": False},
    "the neurons were set to 0, not to their means": {"fill": "zero"},
    "the neurons were changed at every position; only the last one is meant": {"position": None},
    "prompts and neurons changed places: repeat(...) and repeat_interleave(...) must fit": {
        "scrambled": True
    },
}


@checks(
    "neuron_effects",
    mistakes={label: one_by_one(**wrong) for label, wrong in EFFECT_MISTAKES.items()},
)
def test_effects_one_neuron_at_a_time(neuron_effects):
    truth = one_by_one()(MODEL, TOKENS, ANSWERS)
    for at_once in (64, 5):
        got = neuron_effects(MODEL, TOKENS, ANSWERS, at_once=at_once)
        expect_close(
            got,
            truth,
            "layer neuron batch",
            f"undisturbed minus this neuron at its mean, at_once={at_once}",
        )


ATTRIBUTION_MISTAKES = {
    "the mean was not subtracted: compared with 0, not with the mean": by_differences(
        centre_h=False
    ),
    "the sign is turned round: (h - mean) times the slope": by_differences(sign=-1),
    "the logit was not centred; subtract its mean over the vocabulary": by_differences(
        centred=False
    ),
    "the slope is that of a mean over the prompts: use the sum": by_differences(share=0.2),
}


@checks("attributed_effects", mistakes=ATTRIBUTION_MISTAKES)
def test_attribution_is_displacement_times_slope(attributed_effects):
    with torch.no_grad():  # chapters run like this
        got = attributed_effects(MODEL, TOKENS, ANSWERS)
    expect_close(
        got,
        by_differences()(MODEL, TOKENS, ANSWERS),
        "layer neuron batch",
        "(h - mean) x slope",
        1e-5,
    )


A, B = torch.cartesian_prod(torch.arange(20), torch.arange(20))[
    torch.randperm(400, generator=DRAW)[:300]
].T
SOME = torch.randn(300, 2, generator=DRAW)  # two neurons, 300 of 400 problems


@checks(
    "key_map",
    mistakes={
        "a and b changed places: row a, column b": laid_out(transposed=True),
        "where there is no problem there must be nan; 0 would be a value": laid_out(empty=0.0),
    },
)
def test_every_problem_in_its_place(key_map):
    expect_close(
        key_map(SOME, A, B, 21),
        laid_out()(SOME, A, B, 21),
        "a b neuron",
        "row a, column b, nan elsewhere",
    )
    expect_close(
        key_map(SOME[:, 0], A, B, 20), laid_out()(SOME[:, 0], A, B, 20), "a b", "one neuron"
    )


SCORE_MISTAKES = {
    "zeros were counted: a silent neuron would match whatever comes first": scores_by_loops(
        zeros_count=True
    ),
    "argsort lists the problems by rank; the rank of each problem is that list turned round": order_for_rank,
    "the lowest values were taken, not the highest": scores_by_loops(highest=False),
    "k is the size of the heuristic, not the number of problems where the neuron is active": (
        scores_by_loops(k_of=lambda mask, values: int((values > 0).sum()))
    ),
    "the overlap was divided by the union; divide by k": (
        scores_by_loops(over=lambda mask, values, overlap: 2 * int(mask.sum()) - overlap)
    ),
}


@checks("heuristic_scores", mistakes=SCORE_MISTAKES)
def test_overlap_of_the_highest_values(heuristic_scores):
    masks = torch.stack([A < 5, B % 3 == 1, A == B, A + B < 25])
    mixed = SOME[:, 0] + 1.5 * (A < 5)
    for values in (mixed, mixed.abs(), mixed - 1):  # half silent, never silent, mostly silent
        truth = scores_by_loops()(values, masks)
        expect_close(heuristic_scores(values, masks).float(), truth, "heuristic", "overlap / k")
    nothing = heuristic_scores(torch.zeros(300), masks).float()
    expect_close(nothing, torch.zeros(4), "heuristic", "a silent neuron stands for nothing")


@checks(
    "classify_neuron",
    mistakes={
        "everything was scored on activation; direct heuristics need promoted": classifier(
            on=("activation", "activation")
        ),
        "everything was scored on promoted; operands need activation": classifier(
            on=("promoted", "promoted")
        ),
        "the three multi-result masks were forgotten": classifier(multi=False),
        "below the threshold the name is none": classifier(ignore_threshold=True),
    },
)
def test_planted_neurons_and_senseless_ones(classify_neuron):
    generator = torch.Generator().manual_seed(7)
    a, b = torch.cartesian_prod(torch.arange(40), torch.arange(40)).T
    known = all_heuristics(a, b, a + b)
    for name, (activation, promoted, made_from) in planted_neurons(a, b, a + b, generator).items():
        got, score = classify_neuron(activation, promoted, a + b, known)
        expect(
            got == made_from and score >= 0.6,
            f"a neuron planted as '{name}' was named '{got}' ({score:.2f})",
        )
    for label, (activation, promoted) in senseless_neurons(a, b, a + b, generator).items():
        got, score = classify_neuron(activation, promoted, a + b, known)
        expect(got == "none", f"{label}: expected 'none', got '{got}' ({score:.2f})")
    half = (a < 20).float() * torch.rand(1600, generator=generator)
    for threshold in (0.3, 0.9999):
        truth = classifier()(half, half * 0, a + b, known, threshold)
        got = classify_neuron(half, half * 0, a + b, known, threshold)
        expect(
            got[0] == truth[0],
            f"threshold {threshold}: expected '{truth[0]}', got '{got[0]}' ({got[1]:.2f})",
        )
        expect_close(got[1], truth[1], "", "the score of the best heuristic")


@checks(
    "classify_neuron",
    mistakes={"of equal scores the smaller heuristic was taken": classifier(ties="small")},
)
def test_the_heuristic_that_explains_more(classify_neuron):
    a, b = torch.cartesian_prod(torch.arange(40), torch.arange(40)).T
    known = all_heuristics(a, b, a + b)
    # highest for a = 10 to 14, and then 15 to 19
    steep = torch.where((a >= 10) & (a < 20), 30.0 - a, 0.0) + 0.001 * b
    steep = steep * (steep > 1)
    got, score = classify_neuron(steep, -steep, a + b, known)
    expect(
        got == "range: 10 <= a < 20",
        f"10 <= a < 15 and 10 <= a < 20 both score 1; expected the larger, got '{got}'",
    )
