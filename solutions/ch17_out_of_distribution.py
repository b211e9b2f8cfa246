"""Chapter 17. Where a model was never trained: does it know, what is missing, and what does a
repair prove?

Axis words: problem row batch pos vocab neuron cell; `...` stands for any axes in front. Tokens are
rows of `problems(kind).tokens`: whole problems with their answers. A *place* is (hook name, index
into the axes after batch), a *cell* a list of places, as in chapters 11 and 15. `python -m
exercises check` says how you are doing.
"""

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
    one of M inputs comes, each as likely as any other, says -log(M).
    """
    # YOUR CODE: log_softmax of the logits, the token that followed, a sum; roughly 3 lines
    log_p = model(tokens[:, : length - 1]).log_softmax(dim=-1)  # batch pos vocab
    return log_p.gather(-1, tokens[:, 1:length, None])[..., 0].sum(dim=-1)


def drawn(rows: Tensor, most: int, generator: torch.Generator) -> Tensor:
    """At most so many of the rows, in random order, none twice."""
    return rows[torch.randperm(len(rows), generator=generator)[:most]]


def auroc(higher: Tensor, lower: Tensor) -> float:
    """How well a score separates two groups: P(one of the first has more than one of the second), a
    tie counts half.

    Over all pairs, exactly: only equal scores are ties. 1: every score of `higher` lies above every
    one of `lower`; 0: the other way round; .5: the score says nothing. higher [row], lower [another
    row]. Raises ValueError if one group is empty. Hanley & McNeil 1982, "The meaning and use of the
    area under a receiver operating characteristic (ROC) curve".
    """
    # YOUR CODE: compare all pairs (or torch.searchsorted twice); one refusal; roughly 6 lines
    if not len(higher) or not len(lower):
        sizes = f"{len(higher)} and {len(lower)}"
        raise ValueError(f"both groups need at least one score; they have {sizes}.")
    higher, lower = higher.contiguous(), lower.sort().values
    below = torch.searchsorted(lower, higher)  # how many of `lower` lie below each score
    not_above = torch.searchsorted(lower, higher, right=True)
    return ((below + not_above).double().mean() / (2 * len(lower))).item()


def m2_variants(operator: Tensor, operands: Tensor, values: Tensor, row: int) -> Tensor:
    """Which problems are "the same with other numbers" as the one in `row`? [problem] bool.

    operator [problem]; operands [problem, n]: the numbers that are given, from 0 to 99; values
    [problem, m]: the numbers that have to be found, also those on the way, as floats. A variant has
    the same operator; each operand has as many digits (but one with a single digit, 0 to 9, may
    become anything from 1 to 99); each value has the same sign (-, 0 or +), and is a whole number
    exactly where the original's is. The problem itself is no variant. After M2 of Xie
    et al. 2024, "Adversarial Math Word Problem Generation" (arXiv 2402.17916), which also looks at
    the numbers' factors.
    """
    # YOUR CODE: one condition after the other, each [problem]; roughly 9 lines
    same = operator == operator[row]
    one_digit = operands[row] < 10  # n
    fits = torch.where(one_digit, operands >= 1, operands >= 10)  # problem n
    whole = values == values.round()
    alike = (values.sign() == values[row].sign()) & (whole == whole[row])  # problem m
    same = same & fits.all(dim=1) & alike.all(dim=1)
    same[row] = False
    return same


def covers(
    name: str, promoted: Tensor, result: Tensor, new: Heuristics, new_result: Tensor
) -> Tensor:
    """Which problems of *another* set would a neuron's heuristic speak of? [new problem] bool.

    name: what classify_neuron (chapter 16) called the neuron on the problems where it was studied;
    promoted [problem] and result [problem] belong to those. "multi-result: k values" means the k
    results which the neuron promotes most *there* (`several_results` gives their problems). Every
    other name is looked up among the heuristics of the new problems, and "none" speaks of nothing.
    new_result [new problem].
    """
    # YOUR CODE: three cases; a multi-result neuron has a set of results; roughly 6 lines
    if name == "none":
        return torch.zeros_like(new_result, dtype=torch.bool)
    if name.startswith("multi-result"):
        its_results = result[several_results(promoted, result, int(name.split()[1]))]
        return torch.isin(new_result, its_results)
    return new.masks[new.names.index(name)]


def at_equal_results(
    values: Tensor, result: Tensor, reference: Tensor, wanted: Tensor
) -> tuple[Tensor, Tensor]:
    """Give each wanted problem a partner to compare it with: reference problems of its result.

    A partner is the mean of `values` over all reference problems that have the wanted problem's
    result, itself included where it is a reference problem too. Wanted problems whose result no
    reference problem has are left out. values and result [problem]; reference and wanted bool
    [problem] -> rows [pair]: the wanted problems that have a partner, in their order; partners
    [pair]: float, what to compare values[rows] with. Raises ValueError if there is no pair.
    """
    # YOUR CODE: a mean per result, the wanted problems that have one, two lists; roughly 10 lines
    means = {}
    for r in result[reference].unique().tolist():
        means[r] = values[reference & (result == r)].float().mean()
    rows, partners = [], []
    for row in wanted.nonzero()[:, 0].tolist():
        if result[row].item() in means:
            rows.append(row)
            partners.append(means[result[row].item()])
    if not rows:
        raise ValueError("no wanted problem has a result that a reference problem has.")
    return torch.tensor(rows), torch.stack(partners)


def missing_and_weak(
    count: float, promoted: float, count_there: float, promoted_there: float
) -> tuple[float, float]:
    """Why do the covering neurons promote less than there? Too few of them, or too weak: (missing,
    weak), in nats.

    promoted = count x promoted per neuron. So log(promoted_there / promoted) is exactly the sum of
    log(count_there / count), the share of "missing", and the log of the same ratio per neuron, the
    share of "weak". Raises ValueError if one of the four numbers is not positive: then there is no
    ratio to take apart.
    """
    # YOUR CODE: one refusal, two logarithms; roughly 5 lines
    numbers = count, promoted, count_there, promoted_there
    if min(numbers) <= 0:
        raise ValueError(f"only positive numbers are products of factors, not {numbers}.")
    missing = math.log(count_there / count)
    return missing, math.log(promoted_there / promoted) - missing


class Differences(NamedTuple):
    """All problems a - b, the region included; neurons in one row, layer 0 first."""

    tokens: Tensor  # [problem, pos]: whole problems
    result: Tensor  # [problem]
    inside: Tensor  # [problem] bool: in the region that was never trained?
    good: Tensor  # [problem] bool: answered right?
    strong: Tensor  # [neuron] bool: among those that were asked for a name
    names: list[str]  # of each neuron, as in chapter 16: "range: 5 <= a < 20", ..., "none"
    cover: Tensor  # [problem, neuron] bool: does the neuron's heuristic speak of the problem?
    promoted: Tensor  # [problem, neuron]: added directly to the right answer's logit, scale frozen
    h: Tensor  # [problem, neuron]: activations at "="


def study_differences(model: Transformer, count: int = 256) -> Differences:
    """Name the `count` strongest neurons on the trained problems only, then look at all problems
    a - b.
    """
    s, every = study_operator(model, MINUS), problems("arithmetic")
    rows = (every.operator == MINUS).nonzero()[:, 0]
    tokens, a, b = every.tokens[rows], every.a[rows], every.b[rows]
    new = all_heuristics(a, b, a - b, most=1.0, least=1)  # so that every name is found
    n_neurons = s.h.shape[1]
    names = ["none"] * n_neurons
    cover = torch.zeros(len(rows), n_neurons, dtype=torch.bool)
    for n, (name, _) in zip(s.order.tolist(), name_neurons(s, s.order[:count])):
        names[n] = name
        cover[:, n] = covers(name, s.h[:, n] * s.lens[n, s.answers], s.result, new, a - b)
    _, cache = model.run_with_cache(
        tokens[:, :-1], lambda name: name.endswith(("hook_post", "hook_scale"))
    )
    promoted, h = [], []
    for layer in range(model.cfg.n_layers):
        promoted.append(answer_contributions(model, cache, layer, tokens[:, -1]))
        h.append(cache[f"blocks.{layer}.mlp.hook_post"][:, -1])
    return Differences(
        tokens=tokens,
        result=a - b,
        inside=every.split[rows] == REGION,
        good=problem_scores(model, every, rows).correct,
        strong=torch.isin(torch.arange(n_neurons), s.order[:count]),
        names=names,
        cover=cover,
        promoted=torch.cat(promoted, dim=1),
        h=torch.cat(h, dim=1),
    )


def of_type(d: Differences, kind: str) -> Tensor:
    """[problem, neuron] bool: the neurons of one type, or of "all", that cover the problem."""
    wanted = [name != "none" and kind in ("all", name.split(":")[0]) for name in d.names]
    return d.cover & torch.tensor(wanted)


def first_difference(tokens: Tensor, other: Tensor) -> Tensor:
    """The first position at which two sequences differ, [batch]; the number of positions if they do
    not differ at all.

    tokens, other [batch, pos]. At every position before it, a causal model does the same in both
    runs, bit for bit.
    """
    # YOUR CODE: the first True of each row; a row without any needs care; roughly 2 lines
    different = tokens != other
    return torch.where(different.any(dim=1), different.int().argmax(dim=1), tokens.shape[1])


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
    Wang et al. 2022, "Interpretability in the Wild" (freezing what is not asked about).
    """
    # YOUR CODE: two caches, write the held places over the corrected ones; roughly 7 lines
    names = {name for cell in [*cells, held] for name, _ in cell}
    _, saved = model.run_with_cache(corrected[:, :-1], names)
    _, own = model.run_with_cache(wrong[:, :-1], names)
    for name, index in held:
        saved[name][(slice(None), *index)] = own[name][(slice(None), *index)]
    return patch_cells(model, wrong[:, :-1], saved, [[*cell, *held] for cell in cells])


def with_number(tokens: Tensor, number: Tensor, numbers: int) -> Tensor:
    """Two-step problems `a - b = c ; c + d = e` with another c written, twice, and the e that
    follows from it.

    tokens [batch, 11]; number [batch]: the token of c; numbers: how many tokens are numbers (that
    of v is v % numbers).
    """
    changed = tokens.clone()
    changed[:, 4] = changed[:, 6] = number
    changed[:, 10] = (number + tokens[:, 8]) % numbers
    return changed


class Runs(NamedTuple):
    """Two-step problems, each twice: with the number that the model wrote, and the right one."""

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
    wrong, answers = with_number(tokens, own[:, 4], numbers), tokens[:, -1]
    right_wrong = model(wrong[:, :-1])[:, -1].argmax(dim=-1) == answers
    right_corrected = model(tokens[:, :-1])[:, -1].argmax(dim=-1) == answers
    return Runs(wrong, tokens, own[:, 6] == own[:, 4], right_wrong, right_corrected)


def smallest_circuit(
    model: Transformer, wrong: Tensor, corrected: Tensor, places: list[tuple], goal: float = 0.95
) -> list[tuple]:
    """The first few places, largest effects E first, that together repair `goal` of the runs. All
    of them, if none do.
    """
    before, right = model(wrong[:, :-1])[:, -1], corrected[:, -1]
    singly = corrected_run_patch(model, wrong, corrected, [[place] for place in places])
    strength = effect_forms(before, singly, before.argmax(dim=-1), right)["log1p"]
    order = [places[i] for i in strength.argsort(descending=True).tolist()]
    nested = [order[: k + 1] for k in range(len(order))]
    patched = corrected_run_patch(model, wrong, corrected, nested)
    for circuit, share in zip(nested, is_right(patched, right).mean(dim=-1).tolist()):
        if share > goal - 1e-6:
            return circuit
    return order
