"""Chapter 15. Which parts of a model do arithmetic, and when does what reach "="?

Axis words: row batch pos head d_model vocab cell circuit depth component; `...` stands for any axes
in front. A problem is a row [a, operator, b, =, answer] of `problems("arithmetic").tokens`; the
model reads the first four and answers at "=". A *place* is (hook name, index into the axes after
batch), a *cell* a list of places, as in chapter 11.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from minitransformer import ActivationCache, Transformer
from minitransformer.arithmetic import TRAIN, Problems
from solutions.ch11_patching import patch_cells
from solutions.ch12_probes import held_out_accuracy, linear_probe


def answer_places(model: Transformer, length: int = 4) -> list[tuple]:
    """Every head's z and every MLP at every position, one place each; of the last layer only the
    last position.

    What the last layer writes elsewhere cannot reach the answer: as part of a circuit it would be
    free of charge.
    """
    places, heads = [], range(model.cfg.n_heads)
    for layer in range(model.cfg.n_layers):
        is_last = layer == model.cfg.n_layers - 1
        for pos in range(length - 1 if is_last else 0, length):
            places += [(f"blocks.{layer}.attn.hook_z", (pos, head)) for head in heads]
            places.append((f"blocks.{layer}.hook_mlp_out", (pos,)))
    return places


def stream_names(model: Transformer) -> list[str]:
    """The hook names of the stream from bottom to top: before layer 0, after its attention, after
    its MLP, and so on.
    """
    names = ["blocks.0.hook_resid_pre"]
    for layer in range(model.cfg.n_layers):
        names += [f"blocks.{layer}.hook_resid_mid", f"blocks.{layer}.hook_resid_post"]
    return names


def counterfactual_rows(
    problems: Problems, rows: Tensor, changed: tuple[str, ...], generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """For each problem another one to take activations from: it differs in what is named, and in
    nothing else.

    rows [row]: indices of problems. changed: some of "a", "operator", "b", which are columns
    [problem] of `problems`. The counterfactual differs from its problem in *each* changed column,
    is equal in each other one, has another answer (last token), and is a training problem
    (problems.split == TRAIN), for those the model can do. It is drawn evenly among all such
    problems, with `generator`. Some problems have none: with b = 0, a x b is 0 for every a. They
    are left out. -> the rows that remain, in their order, and their counterfactuals, both [row].
    """
    # YOUR CODE: a table [row, problem] of what is allowed; torch.multinomial; roughly 9 lines
    answer = problems.tokens[:, -1]
    allowed = (answer[rows][:, None] != answer) & (problems.split == TRAIN)  # row problem
    for name in ("a", "operator", "b"):
        column = getattr(problems, name)
        same = column[rows][:, None] == column
        allowed &= ~same if name in changed else same
    possible = allowed.any(dim=1)
    drawn = torch.multinomial(allowed[possible].double(), 1, generator=generator)  # row 1
    return rows[possible], drawn[:, 0]


def patched_answers(
    model: Transformer, tokens: Tensor, donors: Tensor, cells: list[list[tuple]]
) -> tuple[Tensor, Tensor]:
    """Run problems with a counterfactual's activations, one cell at a time: the logits at "="
    before and after.

    tokens, donors [batch, pos]: whole problems with their answers, which the model must not read.
    One undisturbed run on the donors gives all activations; `patch_cells` of chapter 11 puts them
    in. -> before [batch, vocab] (nothing patched), after [cell, batch, vocab].
    """
    # YOUR CODE: drop the answers, cache what the cells name, patch_cells; roughly 4 lines
    prompts = tokens[:, :-1]
    names = {name for cell in cells for name, _ in cell}
    _, saved = model.run_with_cache(donors[:, :-1], lambda name: name in names)
    return model(prompts)[:, -1], patch_cells(model, prompts, saved, cells)


def effect(p_before: Tensor, p_after: Tensor, r: Tensor, r_counterfactual: Tensor) -> Tensor:
    """How far a patch moves the answer from r to r'.

    1 + E = [ P*(r') / P(r')  +  P(r) / P*(r) ] / 2, with P the probabilities before the patch and
    P* those after it: the mean of two factors, by how much r' grew and by how much r shrank. As
    published: E = [ (P*(r') - P(r')) / P(r')  +  (P(r) - P*(r)) / P*(r) ] / 2, with two different
    denominators. 0 if nothing changes; from -1 to infinity. Nothing is added to a denominator.
    p_before [batch, vocab], p_after [..., batch, vocab]; r, r_counterfactual [batch]: tokens ->
    [..., batch]. Stolfo et al. 2023, "A Mechanistic Interpretation of Arithmetic Reasoning in
    Language Models using Causal Mediation Analysis" (arXiv 2305.15054).
    """
    # YOUR CODE: pick four probabilities per row, then the formula; roughly 4 lines
    row = torch.arange(len(r))
    gained = p_after[..., row, r_counterfactual] / p_before[row, r_counterfactual]
    lost = p_before[row, r] / p_after[..., row, r]
    return (gained + lost) / 2 - 1


def effect_forms(
    before: Tensor, after: Tensor, r: Tensor, r_counterfactual: Tensor
) -> dict[str, Tensor]:
    """One patch, four summaries over the prompts, because the mean of E belongs to its few largest
    values.

    before [batch, vocab], after [..., batch, vocab]: logits -> each [...], float64: "mean" and
    "median": of E (the 0.5 quantile); "log1p": the mean of log(1 + E), in nats; "logit difference":
    the mean change of logit(r') - logit(r), in nats. For each prompt log(1 + E) >= half that change
    (arithmetic mean >= geometric mean). Take the softmax in float64: in float32 a probability may
    be 0, and E infinite.
    """
    # YOUR CODE: to float64, effect() of the softmaxes, the differences; roughly 6 lines
    before, after, row = before.double(), after.double(), torch.arange(len(r))
    E = effect(before.softmax(dim=-1), after.softmax(dim=-1), r, r_counterfactual)
    change = after - before
    moved = change[..., row, r_counterfactual] - change[..., row, r]
    return {
        "mean": E.mean(dim=-1),
        "median": E.quantile(0.5, dim=-1),
        "log1p": E.log1p().mean(dim=-1),
        "logit difference": moved.mean(dim=-1),
    }


def relative_importance(effects: Tensor, chosen: Tensor) -> float:
    """What share of all the effect the chosen parts have: sum of log(1 + E) over them / the same
    sum over all parts.

    effects [component]: E of each part, > -1, averaged over the prompts in one way or another;
    chosen [component] bool. A part with E < 0 counts against. Raises ValueError if the whole sum is
    not positive: then there is no effect to share. Stolfo et al. 2023.
    """
    # YOUR CODE: two sums, one refusal; roughly 4 lines
    logs = effects.log1p()
    if logs.sum() <= 0:
        raise ValueError(f"no effect to share: the logarithms add up to {logs.sum():.3g}.")
    return (logs[chosen].sum() / logs.sum()).item()


def mean_cache(model: Transformer, tokens: Tensor, names: list[str]) -> dict[str, Tensor]:
    """What each place holds on average over the prompts, position by position: name -> [1, pos,
    ...].

    tokens [batch, pos]: what the model reads. One undisturbed run. The axis of the prompts stays,
    with length 1 here; whoever patches a batch with these means repeats them.
    """
    # YOUR CODE: one run_with_cache, one mean per name; roughly 2 lines
    _, cache = model.run_with_cache(tokens, names)
    return {name: cache[name].mean(dim=0, keepdim=True) for name in names}


def normalised_logit(logits: Tensor, right: Tensor) -> Tensor:
    """NL: the right answer's logit divided by the largest one; 1 if it is the answer, less if not.

    Adding a constant to all logits changes no probability, but it would change this ratio. So first
    subtract from the logits their mean over the vocabulary: a choice, without which NL means
    nothing. logits [..., batch, vocab], right [batch] -> [..., batch]. After Nikankin et al. 2024,
    "Arithmetic Without Algorithms: Language Models Solve Math With a Bag of Heuristics" (arXiv
    2410.21272), whose NL is taken of the logits as they are.
    """
    # YOUR CODE: centre, pick, divide; roughly 3 lines
    centred = logits - logits.mean(dim=-1, keepdim=True)
    return centred[..., torch.arange(len(right)), right] / centred.amax(dim=-1)


def logit_over_mean(logits: Tensor, right: Tensor) -> Tensor:
    """The right answer's logit minus the mean logit: logits [..., batch, vocab], right [batch] ->
    [..., batch], in nats.
    """
    return logits[..., torch.arange(len(right)), right] - logits.mean(dim=-1)


def is_right(logits: Tensor, right: Tensor) -> Tensor:
    """1.0 where the right answer has the largest logit, else 0.0: [..., batch, vocab], [batch] ->
    [..., batch].
    """
    return (logits.argmax(dim=-1) == right).to(logits.dtype)


METRICS = {
    "normalised logit": normalised_logit,
    "logit difference": logit_over_mean,
    "accuracy": is_right,
}


def arithmetic_faithfulness(
    model: Transformer,
    tokens: Tensor,
    circuits: list[list[tuple]],
    means: dict[str, Tensor],
    metric: Callable[[Tensor, Tensor], Tensor] = normalised_logit,
) -> Tensor:
    """F(c) = (m(c) - m(nothing)) / (m(model) - m(nothing)) of several circuits, lists of places:
    [circuit].

    tokens [batch, pos]: whole problems with their answers. m(c): the metric (see METRICS), averaged
    over the problems, when every place of answer_places(model, pos - 1) outside c gives its mean;
    m(nothing) with all of them at their means. means: what mean_cache returned, name -> [1, pos,
    ...]; `patch_cells` wants [batch, pos, ...]. Not clipped. Raises ValueError if the model does no
    better than nothing. Nikankin et al. 2024 divide prompt by prompt and average the ratios; here
    the averages are divided, so that no single prompt with a small denominator decides.
    """
    # YOUR CODE: a cell holds what is *outside* its circuit; expand the means; roughly 10 lines
    prompts, right = tokens[:, :-1], tokens[:, -1]
    places, cells = answer_places(model, prompts.shape[1]), []
    for circuit in [places, [], *circuits]:
        cells.append([place for place in places if place not in circuit])
    saved = {name: mean.expand(len(tokens), *mean.shape[1:]) for name, mean in means.items()}
    scores = metric(patch_cells(model, prompts, saved, cells), right).mean(dim=-1)
    whole, nothing = scores[0], scores[1]
    if whole <= nothing:
        raise ValueError(f"nothing to explain: the model {whole:.3g}, all means {nothing:.3g}.")
    return (scores[2:] - nothing) / (whole - nothing)


def probe_map(
    model: Transformer, tokens: Tensor, labels: Tensor, n_classes: int, fit: Callable = linear_probe
) -> Tensor:
    """Can a linear probe read the labels from the stream, at each depth and position? Held-out
    accuracy [depth, pos].

    tokens [batch, pos]: what the model reads, in random order; labels [batch], 0 to n_classes - 1:
    one per problem. The depths are those of stream_names(model). Each position has its own probe.
    `held_out_accuracy` of chapter 12 fits on 80 % of the sequences and tests on the others, with
    the `fit` that it is given: linear_probe, logistic_probe or another. It wants x [batch, pos,
    d_model] and labels [batch, pos]: give it one position.
    """
    # YOUR CODE: one cache, two loops, keep the axis of positions with length 1; roughly 7 lines
    names = stream_names(model)
    _, cache = model.run_with_cache(tokens, names)
    table = torch.zeros(len(names), tokens.shape[1])  # depth pos
    for depth, name in enumerate(names):
        for pos in range(tokens.shape[1]):
            x = cache[name][:, pos, None]  # batch 1 d_model
            table[depth, pos] = held_out_accuracy(x, labels[:, None], n_classes, fit=fit)
    return table


def frozen_lens(model: Transformer, x: Tensor, scale: Tensor) -> Tensor:
    """What a part of the stream says about every token, with the last LayerNorm's scale held fixed:
    linear in x.

    (x - its mean over d_model) / scale * ln_final_w, then W_U; without ln_final_b, which belongs to
    no part. So the lenses of all parts add up, and the sum, plus ln_final_b @ W_U, is the logits. x
    [..., batch, pos, d_model], scale [batch, pos, 1] from `ln_final.hook_scale` of an undisturbed
    run -> [..., batch, pos, vocab].
    """
    # YOUR CODE: one expression, roughly 2 lines
    centred = x - x.mean(dim=-1, keepdim=True)
    return (centred / scale * model.ln_final_w) @ model.W_U


def stream_lens(model: Transformer, cache: ActivationCache) -> Tensor:
    """The logit lens of each stream of stream_names, scale frozen: [depth, batch, pos, vocab]; the
    last are the logits.
    """
    streams = torch.stack([cache[name] for name in stream_names(model)])
    return frozen_lens(model, streams, cache["ln_final.hook_scale"]) + model.ln_final_b @ model.W_U


def ffn_deletion(model: Transformer, cache: ActivationCache, layer: int, tokens: Tensor) -> Tensor:
    """What the MLP of a layer does to one token's logit, in nats: < 0 if it deletes the token, > 0
    if it promotes it.

    It is the frozen_lens of blocks.<layer>.hook_mlp_out, minus its mean over the vocabulary (a
    constant added to all logits says nothing), at that token. tokens [batch, pos]: the token asked
    for at each position -> [batch, pos]. Equal to the change of the stream's lens from
    hook_resid_mid to hook_resid_post. Reading MLPs through W_U: Geva et al. 2022, "Transformer
    Feed-Forward Layers Build Predictions by Promoting Concepts in the Vocabulary Space" (arXiv
    2203.14680), who speak of promoting, not of deleting.
    """
    # YOUR CODE: frozen_lens, centre, gather; roughly 3 lines
    lens = frozen_lens(model, cache[f"blocks.{layer}.hook_mlp_out"], cache["ln_final.hook_scale"])
    centred = lens - lens.mean(dim=-1, keepdim=True)
    return centred.gather(dim=-1, index=tokens[..., None])[..., 0]
