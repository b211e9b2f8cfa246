"""Chapter 16. What single neurons write, what they are worth, and what they stand for.

Axis words: batch pos neuron d_model vocab problem heuristic. Row vectors: x @ W. Neuron n of a
layer has an activation h_n, `hook_post[:, :, n]`, and a value vector v_n, `W_out[layer, n]`. Every
intervention is at the last position, "=". `python -m exercises check` says how you are doing.
"""

import itertools
from typing import NamedTuple

import torch
from einops import einsum
from torch import Tensor

from minitransformer import Transformer
from minitransformer.arithmetic import REGION, answer_to, problems

THRESHOLD = 0.6  # the score from which a neuron counts as named: Nikankin et al. 2024


def neuron_contributions(model: Transformer, cache: dict[str, Tensor], layer: int) -> Tensor:
    """What each neuron adds to the stream: h_n v_n, [batch, pos, neuron, d_model].

    The sum over the neurons plus the bias b_out[layer], which belongs to no neuron, is the layer's
    output `blocks.L.hook_mlp_out`. cache: a run with `blocks.L.mlp.hook_post`. Geva et al. 2021,
    "Transformer Feed-Forward Layers Are Key-Value Memories".
    """
    # YOUR CODE: activations times value vectors; roughly 2 lines
    raise NotImplementedError("neuron_contributions")


def value_logits(model: Transformer, layer: int) -> Tensor:
    """Which tokens a neuron promotes: its value vector through ln_final and W_U, [neuron, vocab].

    LayerNorm subtracts the mean of a vector, divides by a scale and multiplies by ln_final_w.
    Everything but the scale is linear and done here; the scale depends on the whole stream and is
    left at 1. No bias: ln_final_b belongs to no neuron. Last, each neuron's mean over the
    vocabulary is subtracted: a shift of all logits promotes nothing. One more unit of h_n raises
    the logit of token t above the mean logit by value_logits[n, t] / scale, if the scale stays.
    """
    # YOUR CODE: centre the value vectors, weigh, unembed, centre the logits; roughly 4 lines
    raise NotImplementedError("value_logits")


def answer_contributions(
    model: Transformer, cache: dict[str, Tensor], layer: int, answers: Tensor
) -> Tensor:
    """What each neuron of this layer adds directly to the answer's logit: [batch, neuron].

    At the last position: h_n value_logits[n, answer] / scale, with `ln_final.hook_scale` [batch,
    pos, 1] frozen at what it was in this run. answers [batch]: token numbers. Change h with that
    scale frozen, and (in the last layer) centred_answer below moves exactly so.
    """
    # YOUR CODE: activations and scale of the last position, and value_logits; roughly 3 lines
    raise NotImplementedError("answer_contributions")


def mean_activations(model: Transformer, tokens: Tensor) -> Tensor:
    """Each neuron's mean activation at the last position over these prompts: [layer, neuron]."""
    _, cache = model.run_with_cache(tokens, lambda name: name.endswith("mlp.hook_post"))
    return torch.stack([h[:, -1].mean(dim=0) for h in cache.values()])


def without_neurons(model: Transformer, tokens: Tensor, out: Tensor, means: Tensor) -> Tensor:
    """The last position's logits, [batch, vocab], with some neurons set to their means there.

    out: bool [layer, neuron], or [batch, layer, neuron] to take other neurons out of each prompt.
    means [layer, neuron]. At other positions, and where `out` is False, nothing is touched. To keep
    only a few neurons, pass ~keep.
    """
    # YOUR CODE: one hook per layer on mlp.hook_post; roughly 7 lines
    raise NotImplementedError("without_neurons")


def centred_answer(logits: Tensor, answers: Tensor) -> Tensor:
    """The answer's logit minus the mean logit, so that no shift changes it: [batch].

    logits [batch, vocab], answers [batch]: token numbers.
    """
    return logits.gather(-1, answers[:, None])[:, 0] - logits.mean(dim=-1)


def neuron_effects(
    model: Transformer, tokens: Tensor, answers: Tensor, at_once: int = 16
) -> Tensor:
    """What each neuron is worth to each prompt, exactly: [layer, neuron, batch], in logits.

    effect = centred_answer(undisturbed) - centred_answer(this one neuron at its mean over the
    prompts): positive if the neuron helps. Not one run per neuron: `at_once` of them share a
    forward pass, each with its own copy of the prompts (without_neurons takes an `out` per prompt).
    """
    # YOUR CODE: loop over groups of neurons; repeat tokens, answers, identity; roughly 10 lines
    raise NotImplementedError("neuron_effects")


def attributed_effects(model: Transformer, tokens: Tensor, answers: Tensor) -> Tensor:
    """The same to first order, in one backward pass: [layer, neuron, batch], in logits.

    (h_n - mean of h_n) x (slope of centred_answer with respect to h_n), all at the last position.
    Exact where what comes behind the neuron is linear. Works also while gradients are switched off.
    Nanda 2023, "Attribution Patching: Activation Patching At Industrial Scale".
    """
    # YOUR CODE: add zeros that carry a gradient, by hooks; torch.autograd.grad; roughly 10 lines
    raise NotImplementedError("attributed_effects")


def key_map(values: Tensor, a: Tensor, b: Tensor, size: int) -> Tensor:
    """One number per problem, laid out over the operands: [size, size, ...], row a, column b.

    values [problem, ...]; a, b [problem]: the operands, below size. nan where there is no problem.
    """
    # YOUR CODE: an array of nan, then one indexed assignment; roughly 3 lines
    raise NotImplementedError("key_map")


class Heuristics(NamedTuple):
    """Everything a neuron may stand for. `direct`: it speaks of the result or of both operands."""

    names: list[str]  # "range: 10 <= a < 20", the type before the colon
    masks: Tensor  # [heuristic, problem] bool: the problems that it speaks of
    direct: Tensor  # [heuristic] bool


def all_heuristics(
    a: Tensor, b: Tensor, result: Tensor, most: float = 0.35, least: int = 20
) -> Heuristics:
    """The candidates on these problems: a = b, and for x = a, b and the result "has the digit d",
    x mod n = r, and ranges between multiples of 5.

    A heuristic that covers half of the problems scores .5 with any neuron that is silent nowhere,
    so those that cover more than the share `most` are left out (even and odd among them); so is
    what speaks of fewer than `least` problems.
    """
    masks, direct = {"identical: a = b": a == b}, {"identical: a = b": True}
    for name, x in (("a", a), ("b", b), ("result", result)):
        found = {}
        ends = range(int(x.min()) // 5 * 5, int(x.max()) + 6, 5)
        for low, high in itertools.combinations(ends, 2):
            found[f"range: {low} <= {name} < {high}"] = (x >= low) & (x < high)
        for n in range(3, 11):
            for r in range(n):
                found[f"modulo: {name} mod {n} = {r}"] = x % n == r
        for d in range(10):
            found[f"pattern: {name} has a {d}"] = (x.abs() % 10 == d) | (x.abs() // 10 == d)
        for text, mask in found.items():
            if least <= mask.sum() <= most * len(x):
                masks[text], direct[text] = mask, name == "result"
    return Heuristics(list(masks), torch.stack([*masks.values()]), torch.tensor([*direct.values()]))


def several_results(promoted: Tensor, result: Tensor, count: int) -> Tensor:
    """[problem] bool: is its result one of the `count` with the highest mean of `promoted`?"""
    values, index = result.unique(return_inverse=True)
    sums = torch.zeros(len(values), dtype=promoted.dtype).index_add(0, index, promoted)
    means = sums / index.bincount()
    return torch.isin(index, means.topk(count).indices)


def heuristic_scores(values: Tensor, masks: Tensor) -> Tensor:
    """Are a neuron's highest values where a heuristic says? The share that is: [heuristic].

    Take the k problems with the highest values, k being how many the mask has; the score is the
    number of them in the mask / k. Equal values share: of all problems that have the k-th highest
    value, in the mask or not, each counts as places left / how many have it, so the order of the
    problems says nothing. A problem whose value is not above 0 counts as 0; k stays k. values
    [problem], masks [heuristic, problem] bool. Nikankin et al. 2024, "Arithmetic Without
    Algorithms: Language Models Solve Math With a Bag of Heuristics" (arXiv 2410.21272), section 4.
    """
    # YOUR CODE: the k-th highest value, who is above it, who is level with it; roughly 6 lines
    raise NotImplementedError("heuristic_scores")


def classify_neuron(
    activation: Tensor,
    promoted: Tensor,
    result: Tensor,
    heuristics: Heuristics,
    threshold: float = THRESHOLD,
    counts: tuple[int, ...] = (2, 3, 4),
) -> tuple[str, float]:
    """The heuristic with the highest score, and that score; "none" below the threshold.

    activation [problem] is h_n; promoted [problem] is h_n times value_logits of that problem's
    answer. Heuristics on one operand (direct is False) are scored on activation, the direct ones on
    promoted. To them come, also on promoted, "multi-result: 2 values" to "multi-result: 4 values"
    (or other counts): the masks several_results(promoted, result, count). Of equal scores, the
    heuristic of more problems wins: it explains more.
    """
    # YOUR CODE: scores of the listed ones, scores of the fitted ones, the best; roughly 9 lines
    raise NotImplementedError("classify_neuron")


class Study(NamedTuple):
    """What the chapter keeps about one operator. The neurons of all layers stand in one row."""

    tokens: Tensor  # [problem, pos]: the prompts, up to "="
    answers: Tensor  # [problem]: token numbers
    a: Tensor  # [problem]
    b: Tensor  # [problem]
    result: Tensor  # [problem]
    h: Tensor  # [problem, neuron]: activations at "="
    means: Tensor  # [layer, neuron]: their means
    lens: Tensor  # [neuron, vocab]: value_logits
    order: Tensor  # [neuron]: the strongest first, by the mean size of attributed_effects
    heuristics: Heuristics
    cache: dict[str, Tensor]


def study_operator(model: Transformer, operator: int) -> Study:
    """All problems of one operator but those of the region that was held out as a whole."""
    every, layers = problems("arithmetic"), range(model.cfg.n_layers)
    rows = ((every.operator == operator) & (every.split != REGION)).nonzero()[:, 0]
    tokens, answers = every.tokens[rows, :4], every.tokens[rows, 4]
    a, b = every.a[rows], every.b[rows]
    result = answer_to(every.operator[rows], a, b)
    parts = ("mlp.hook_pre", "mlp.hook_post", "mlp_out", "scale")
    _, cache = model.run_with_cache(tokens, lambda name: name.endswith(parts))
    h = torch.cat([cache[f"blocks.{layer}.mlp.hook_post"][:, -1] for layer in layers], dim=1)
    lens = torch.cat([value_logits(model, layer) for layer in layers])
    strength = attributed_effects(model, tokens, answers).abs().mean(dim=-1).flatten()
    order = strength.argsort(descending=True)
    means, known = mean_activations(model, tokens), all_heuristics(a, b, result)
    return Study(tokens, answers, a, b, result, h, means, lens, order, known, cache)


def name_neurons(
    s: Study, neurons: Tensor, h: Tensor | None = None, **options
) -> list[tuple[str, float]]:
    """classify_neuron for these neurons; h: other activations in place of the model's."""
    activations = (s.h if h is None else h)[:, neurons]  # problem neuron
    promoted = activations * s.lens[neurons][:, s.answers].T
    pairs = zip(activations.T, promoted.T)
    return [classify_neuron(x, y, s.result, s.heuristics, **options) for x, y in pairs]


def answers_without(model: Transformer, s: Study, out: Tensor) -> tuple[float, float]:
    """Share of right answers and mean centred_answer, with some neurons set to their means.

    out: bool [neuron], or [problem, neuron] to take other neurons out of each problem.
    """
    logits = without_neurons(model, s.tokens, out.view(*out.shape[:-1], *s.means.shape), s.means)
    right = logits.argmax(dim=-1) == s.answers
    return right.float().mean().item(), centred_answer(logits, s.answers).mean().item()


def highest_of(keys: Tensor, allowed: Tensor, counts: Tensor) -> Tensor:
    """[problem, neuron] bool: per row, the counts[problem] allowed ones with the highest keys."""
    rank = keys.masked_fill(~allowed, -torch.inf).argsort(dim=-1, descending=True).argsort(dim=-1)
    return allowed & (rank < counts[:, None])
