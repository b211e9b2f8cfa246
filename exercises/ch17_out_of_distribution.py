"""Chapter 17. Where a model was never trained: does it know, what is missing, and what does a
repair prove?

Axis words: problem row batch pos vocab neuron cell; `...` stands for any axes in front. Tokens are
rows of `problems(kind).tokens`: whole problems with their answers. A *place* is (hook name, index
into the axes after batch), a *cell* a list of places, as in chapters 11 and 15. `python -m
exercises check` says how you are doing."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from minitransformer import Transformer
from minitransformer.arithmetic import MINUS, REGION, Problems, problems
from minitransformer.evaluate import answered, problem_scores
from solutions.ch11_patching import patch_cells
from solutions.ch15_arithmetic_circuits import effect_forms, is_right
from solutions.ch16_neurons_and_heuristics import (
    Heuristics,
    all_heuristics,
    answer_contributions,
    highest_of,
    name_neurons,
    several_results,
    study_operator,
)


def input_log_likelihood(model: Transformer, tokens: Tensor, length: int) -> Tensor:
    """How likely the model finds an input: the sum of log P(token | all tokens before it), in nats,
    [batch].

    Over the first `length` tokens; the very first has nothing before it, it is given and counts 0.
    What stands at `length` and later (the answer) must not matter. tokens [batch, pos]. Added up
    over all inputs that begin with the same token, the exponentials make 1. A model that knows that
    one of M inputs comes, each as likely as any other, says -log(M)."""
    # YOUR CODE: log_softmax of the logits, the token that followed, a sum; roughly 3 lines
    raise NotImplementedError("input_log_likelihood")


def drawn(rows: Tensor, most: int, generator: torch.Generator) -> Tensor:
    """At most so many of the rows, in random order, none twice."""
    return rows[torch.randperm(len(rows), generator=generator)[:most]]


def auroc(higher: Tensor, lower: Tensor) -> float:
    """How well a score separates two groups: P(one of the first has more than one of the second), a
    tie counts half.

    Over all pairs. 1: every score of `higher` lies above every one of `lower`; 0: the other way
    round; .5: the score says nothing. higher [row], lower [another row]. Raises ValueError if one
    group is empty. The area under the receiver operating characteristic: Hanley & McNeil 1982."""
    # YOUR CODE: compare all pairs, or sort one group and use torch.searchsorted twice; one refusal;
    raise NotImplementedError("auroc")


def m2_variants(operator: Tensor, operands: Tensor, values: Tensor, row: int) -> Tensor:
    """Which problems are "the same with other numbers" as the one in `row`? [problem] bool.

    operator [problem]; operands [problem, n]: the numbers that are given, from 0 to 99; values
    [problem, m]: the numbers that have to be found, also those on the way, as floats. A variant has
    the same operator; each operand has as many digits (but one with a single digit, 0 to 9, may
    become anything from 1 to 99); each value has the same sign (-, 0 or +), and is a whole number
    exactly where the original's is. The problem itself is no variant. After Xie et al. 2024,
    "LLM-Resistant Math Word Problem Generation via Adversarial Attacks"."""
    # YOUR CODE: one condition after the other, each [problem]; roughly 9 lines
    raise NotImplementedError("m2_variants")


def covers(
    name: str, promoted: Tensor, result: Tensor, new: Heuristics, new_result: Tensor
) -> Tensor:
    """Which problems of *another* set would a neuron's heuristic speak of? [new problem] bool.

    name: what classify_neuron (chapter 16) called the neuron on the problems where it was studied;
    promoted [problem] and result [problem] belong to those. "multi-result: k values" means the k
    results which the neuron promotes most *there* (`several_results` gives their problems). Every
    other name is looked up among the heuristics of the new problems, and "none" speaks of nothing.
    new_result [new problem]."""
    # YOUR CODE: three cases; the results of a multi-result neuron are a set of numbers, see
    raise NotImplementedError("covers")


def at_equal_results(
    values: Tensor, result: Tensor, reference: Tensor, wanted: Tensor
) -> tuple[float, float]:
    """The mean of `values` over the wanted problems, and what to compare it with: reference
    problems of the same results.

    For each wanted problem the fair comparison is the mean over all reference problems that have
    *its* result; the second number is the mean of these. Wanted problems whose result no reference
    problem has are left out of both. values and result [problem]; reference and wanted bool
    [problem]. Raises ValueError if none is left."""
    # YOUR CODE: a mean per result, the wanted problems that have one, two means; roughly 8 lines
    raise NotImplementedError("at_equal_results")


def missing_and_weak(
    count: float, promoted: float, count_there: float, promoted_there: float
) -> tuple[float, float]:
    """Why do the covering neurons promote less than there? Too few of them, or too weak: (missing,
    weak), in nats.

    promoted = count x promoted per neuron. So log(promoted_there / promoted) is exactly the sum of
    log(count_there / count), the share of "missing", and the log of the same ratio per neuron, the
    share of "weak". Raises ValueError if one of the four numbers is not positive: then there is no
    ratio to take apart."""
    # YOUR CODE: one refusal, two logarithms; roughly 5 lines
    raise NotImplementedError("missing_and_weak")


class Differences(NamedTuple):
    """What the chapter keeps about all problems a - b, the region included; neurons in one row,
    layer 0 first.
    """

    tokens: Tensor  # [problem, pos]: whole problems
    result: Tensor  # [problem]
    inside: Tensor  # [problem] bool: in the region that was never trained?
    good: Tensor  # [problem] bool: answered right?
    strong: Tensor  # [neuron] bool: among those that were asked for a name
    names: list[str]  # of each neuron, as in chapter 16: "range: 5 <= a < 20", ..., "none"
    cover: Tensor  # [problem, neuron] bool: does the neuron's heuristic speak of the problem?
    # [problem, neuron]: what the neuron adds directly to the right answer's logit, scale frozen
    promoted: Tensor
    h: Tensor  # [problem, neuron]: activations at "="


def study_differences(model: Transformer, count: int = 256) -> Differences:
    """Name the `count` strongest neurons on the trained problems only, then look at all problems a
    - b.
    """
    s, every, layers = (
        study_operator(model, MINUS),
        problems("arithmetic"),
        range(model.cfg.n_layers),
    )
    rows = (every.operator == MINUS).nonzero()[:, 0]
    tokens, result = every.tokens[rows], every.a[rows] - every.b[rows]
    # so that every name is found
    new = all_heuristics(every.a[rows], every.b[rows], result, most=1.0, least=1)
    names, cover = ["none"] * s.h.shape[1], torch.zeros(len(rows), s.h.shape[1], dtype=torch.bool)
    for n, (name, _) in zip(s.order.tolist(), name_neurons(s, s.order[:count])):
        names[n] = name
        cover[:, n] = covers(name, s.h[:, n] * s.lens[n, s.answers], s.result, new, result)
    _, cache = model.run_with_cache(
        tokens[:, :-1], lambda name: name.endswith(("hook_post", "hook_scale"))
    )
    promoted = torch.cat(
        [answer_contributions(model, cache, layer, tokens[:, -1]) for layer in layers], dim=1
    )
    h = torch.cat([cache[f"blocks.{layer}.mlp.hook_post"][:, -1] for layer in layers], dim=1)
    good, strong = (
        problem_scores(model, every, rows).correct,
        torch.isin(torch.arange(h.shape[1]), s.order[:count]),
    )
    return Differences(
        tokens, result, every.split[rows] == REGION, good, strong, names, cover, promoted, h
    )


def of_type(d: Differences, kind: str) -> Tensor:
    """[problem, neuron] bool: the neurons of one type, or of "all", that cover the problem."""
    return d.cover & torch.tensor(
        [kind in (name.split(":")[0], "all") and name != "none" for name in d.names]
    )


def amplified(model: Transformer, tokens: Tensor, which: Tensor, factor: float) -> Tensor:
    """The logits at "=", [batch, vocab], with some activations there multiplied. which [batch,
    neuron] bool.
    """
    by_layer = which.unflatten(1, (model.cfg.n_layers, model.cfg.d_mlp))

    def multiply(h: Tensor, hook) -> Tensor:
        chosen = by_layer[:, int(hook.name.split(".")[1])]
        h[:, -1] = torch.where(chosen, factor * h[:, -1], h[:, -1])
        return h

    return model.run_with_hooks(
        tokens[:, :-1], [(lambda name: name.endswith("mlp.hook_post"), multiply)]
    )[:, -1]


def louder_repairs(
    model: Transformer, d: Differences, factors: list[float], generator
) -> dict[str, list[float]]:
    """Which neurons are made louder in the region's failures -> the share that comes out right, for
    each factor.

    In the last row it is not the right answer that counts, but that of the other failure, where it
    is another one."""
    bad = (d.inside & ~d.good).nonzero()[:, 0]
    cover, tokens, draw = (
        d.cover[bad],
        d.tokens[bad],
        torch.rand(len(bad), d.cover.shape[1], generator=generator),
    )
    order = torch.randperm(len(bad), generator=generator)
    differ = d.result[bad] != d.result[bad[order]]
    by_lot = highest_of(draw, d.strong & ~cover, cover.sum(dim=1))
    louder = {  # which neurons, in which problems, and what is looked for
        "neurons that cover the problem": (cover, tokens, tokens),
        "neurons that cover another failure": (cover[order], tokens, tokens),
        "as many strong ones, drawn by lot": (by_lot, tokens, tokens),
        "another failure's, and its answer comes": (
            cover[order][differ],
            tokens[differ],
            tokens[order][differ],
        ),
    }
    return {
        name: [
            repair_rate(amplified(model, prompts, which, factor), wanted[:, -1]).item()
            for factor in factors
        ]
        for name, (which, prompts, wanted) in louder.items()
    }


def first_difference(tokens: Tensor, other: Tensor) -> Tensor:
    """The first position at which two sequences differ, [batch]; the number of positions if they do
    not differ at all.

    tokens, other [batch, pos]. At every position before it, a causal model does the same in both
    runs, bit for bit."""
    # YOUR CODE: compare, and find the first True of each row; a row without any needs care; roughly
    raise NotImplementedError("first_difference")


def matching_donors(
    wanted: dict[str, Tensor],
    columns: dict[str, Tensor],
    same: tuple[str, ...],
    other: tuple[str, ...],
    generator,
) -> tuple[Tensor, Tensor]:
    """For each wanted row a donor: equal in each column of `same`, different in each column of
    `other`.

    wanted: name -> [row], columns: name -> [problem], the same names in both; a column that neither
    `same` nor `other` names is free. Drawn evenly among all problems that qualify, with
    `generator`. Rows without any are left out. -> the rows that remain, in their order, and a
    problem for each of them, both [row]."""
    # each [row, problem]
    equal = {name: wanted[name][:, None] == columns[name] for name in (*same, *other)}
    allowed = torch.stack([equal[name] if name in same else ~equal[name] for name in equal]).all(
        dim=0
    )
    possible = allowed.any(dim=1)
    donors = torch.multinomial(allowed[possible].double(), 1, generator=generator)[:, 0]
    return possible.nonzero()[:, 0], donors


def corrected_run_patch(
    model: Transformer,
    wrong: Tensor,
    corrected: Tensor,
    cells: list[list[tuple]],
    held: list[tuple] = (),
) -> Tensor:
    """The wrong run with activations of the corrected one, a cell at a time: the last logits [cell,
    batch, vocab].

    wrong, corrected [batch, pos]: whole problems with their answers, which the model must not read.
    Only two undisturbed runs are needed: the corrected one fills the cells; the wrong one fills the
    places of `held`, which keep what they hold in the wrong run whatever is patched before them. A
    place that is in a cell and held is held. `patch_cells` of chapter 11 puts everything in. After
    Wang et al. 2022, "Interpretability in the Wild" (freezing what is not asked about)."""
    # YOUR CODE: drop the answers, two caches, write the held places over the corrected ones,
    raise NotImplementedError("corrected_run_patch")


def with_number(tokens: Tensor, number: Tensor, numbers: int) -> Tensor:
    """Two-step problems `a - b = c ; c + d = e` with another c written, twice, and the e that
    follows from it.

    tokens [batch, 11]; number [batch]: the token of c; numbers: how many tokens are numbers (that
    of v is v % numbers)."""
    changed = tokens.clone()
    changed[:, 4] = changed[:, 6] = number
    changed[:, 10] = (number + tokens[:, 8]) % numbers
    return changed


class Runs(NamedTuple):
    """Two-step problems of the region, each twice: with the number that the model wrote, and with
    the right one.
    """

    wrong: Tensor  # [problem, pos]
    corrected: Tensor  # [problem, pos]
    copied: Tensor  # [problem] bool: did the model copy its own wrong number faithfully?
    right_wrong: Tensor  # [problem] bool: is the final answer right in the wrong run?
    right_corrected: Tensor  # [problem] bool: and in the corrected run?


def mistaken_runs(model: Transformer, every: Problems, rows: Tensor) -> Runs:
    """Those of the problems in `rows` where the model's first answer is a number, but not the right
    one.
    """
    tokens, own = every.tokens[rows], answered(model, every, rows)
    numbers = sum(word.lstrip("-").isdecimal() for word in every.words)
    mistaken = (own[:, 4] != tokens[:, 4]) & (own[:, 4] < numbers)
    tokens, own = tokens[mistaken], own[mistaken]
    wrong = with_number(tokens, own[:, 4], numbers)
    right = [model(run[:, :-1])[:, -1].argmax(dim=-1) == tokens[:, -1] for run in (wrong, tokens)]
    return Runs(wrong, tokens, own[:, 6] == own[:, 4], *right)


def repair_rate(logits: Tensor, answers: Tensor) -> Tensor:
    """The share of prompts whose most likely token is this one: [..., batch, vocab], [batch] ->
    [...].
    """
    return is_right(logits, answers).mean(dim=-1)


def smallest_circuit(
    model: Transformer, wrong: Tensor, corrected: Tensor, places: list[tuple], goal: float = 0.95
) -> list:
    """The first few places, largest effects E first, that together repair `goal` of the runs. All
    of them, if none do.
    """
    before, right = model(wrong[:, :-1])[:, -1], corrected[:, -1]
    singly = corrected_run_patch(model, wrong, corrected, [[place] for place in places])
    strength = effect_forms(before, singly, before.argmax(dim=-1), right)["log1p"]
    order = [places[i] for i in strength.argsort(descending=True).tolist()]
    nested = [order[: k + 1] for k in range(len(order))]
    repaired = repair_rate(corrected_run_patch(model, wrong, corrected, nested), right).tolist()
    return next((circuit for circuit, share in zip(nested, repaired) if share > goal - 1e-6), order)


def repair_by_donors(
    model, wrong, corrected, pool, circuit, same, other, generator
) -> tuple[float, float]:
    """Patch the circuit from matching donors [problem, pos] of the pool: shares of (right answers,
    the donors' answers).
    """
    wanted, columns = (
        {"c": tokens[:, 4], "d": tokens[:, 8], "e": tokens[:, 10]} for tokens in (corrected, pool)
    )
    kept, donors = matching_donors(wanted, columns, same, other, generator)
    logits = corrected_run_patch(model, wrong[kept], pool[donors], [circuit])
    return repair_rate(logits, corrected[kept, 10]).item(), repair_rate(
        logits, pool[donors, 10]
    ).item()
