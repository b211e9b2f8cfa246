"""What people get wrong in chapter 16: label -> the function they write."""

import torch

from tests.exercises.oracles import ch16 as o
from tests.exercises.oracles import ch16_heuristics as named
from tests.exercises.oracles.ch16 import by_differences, contributions, direct, lens, without
from tests.exercises.oracles.ch16_heuristics import classifier, laid_out, scores_by_loops

CONTRIBUTIONS = {
    "the bias was shared out among the neurons; it belongs to none of them": contributions(
        bias=1.0
    ),
    "every neuron got the whole bias; it belongs to none of them": contributions(bias=6.0),
    "hook_pre was used: what a neuron writes is its activation after the relu": (
        contributions(of="pre")
    ),
    "the value vectors are those of the other layer": contributions(
        vectors=lambda model, layer: model.W_out[1 - layer]
    ),
    "the value vectors are those of the last layer, whatever `layer` says": contributions(
        vectors=lambda model, layer: model.W_out[-1]
    ),
    "the keys were taken, W_in; what a neuron writes is its row of W_out": contributions(
        vectors=lambda model, layer: model.W_in[layer].T
    ),
}

VALUE_LOGITS = {
    "LayerNorm subtracts the mean of the vector first: the value vectors were not centred": (
        lens(centre=False)
    ),
    "the value vectors were centred over the neurons; each has a mean of its own": lens(of=0),
    "ln_final_w is missing": lens(weigh=False),
    "LayerNorm subtracts the mean first and multiplies by ln_final_w then": lens(weigh_first=True),
    "LayerNorm was left out altogether": lens(centre=False, weigh=False),
    "ln_final_b was added: it belongs to no neuron": lens(bias=True),
    "subtract each neuron's mean over the vocabulary: a shift of all logits promotes nothing": (
        lens(over="nothing")
    ),
    "the mean was taken over the neurons; take it over the vocabulary": lens(over="neurons"),
    "the value vector was divided by a scale of its own; the scale is the stream's": (
        lens(own_scale=0.0)
    ),
    "a whole LayerNorm was taken, with the value vector's own scale; the scale is the stream's": (
        lens(own_scale=1e-5)
    ),
}

DIRECT = {
    "it was not divided by the frozen scale": direct(scale="none"),
    "it was multiplied by the frozen scale; divide": direct(scale="times"),
    "the scale was averaged over the prompts; each prompt has its own": direct(scale="mean"),
    "the scale before the MLP was used; it is that of ln_final": direct(scale="mlp"),
    "the scale of the first position was used; the answer is predicted at the last one": (
        direct(scale_at=0)
    ),
    "the activations of the first position were used; the answer is predicted at the last one": (
        direct(position=0, scale_at=-1)
    ),
    "the first position was used; the answer is predicted at the last one": direct(position=0),
    "the answers were mixed up: each prompt has its own": direct(mixed_up=True),
    "the value vector's logits were not centred over the vocabulary": direct(over="nothing"),
    "the mean activation was subtracted; all of h_n is asked for": direct(less=1),
}

WITHOUT = {
    "the neurons were set to 0, not to the means that were given": without(fill="zero"),
    "the mean was taken over this batch; use the means that were given": without(fill="batch"),
    "the means were subtracted; the activations are set to them": without(fill="less"),
    "every layer got the first layer's means": without(fill="first layer"),
    "the neurons were changed at every position; only the last one is meant": without(
        position=None
    ),
    "the neurons outside `out` were taken away: True means gone": without(keep=True),
    "only the first layer was changed": without(layers=(0,)),
    "only the last layer was changed": without(layers=(-1,)),
    "only two layers were changed; a model may have more": without(layers=(0, 1)),
    "every prompt got the first prompt's neurons; `out` may name others for each": without(
        whose=lambda out: out[:1].expand_as(out)
    ),
    "the logits of all positions were returned; only the last one is asked for": without(
        read=slice(None)
    ),
}

worth = o.worth_one_by_one
EFFECTS = {
    "the sign is turned round: a neuron that helps has a positive effect": worth(sign=-1),
    "the logit was not centred; subtract its mean over the vocabulary": worth(centred=False),
    "the neurons were set to 0, not to their means": worth(fill="zero"),
    "the neurons were changed at every position; only the last one is meant": worth(position=None),
    "all other neurons were taken out, and this one kept": worth(keep=True),
    "the neurons of a group were taken out together; each has a copy of the prompts": (
        worth(together=True)
    ),
    "prompts and neurons changed places: repeat(...) and repeat_interleave(...) must fit": (
        worth(read=o.read_by_neuron)
    ),
    "a pass has its rows neuron by neuron; they were read prompt by prompt": (
        worth(read=o.read_by_prompt)
    ),
    "prompts and neurons are both there by repeat: not every pair of them was run": (
        o.repeated_alike
    ),
}


def log_probability(logits, answers, centred):
    return logits.log_softmax(dim=-1).gather(-1, answers[:, None])[:, 0]


def at_every_position(model, tokens, answers):
    """A wrong attributed_effects: the products of all positions are added up."""
    names, noted = [f"blocks.{layer}.mlp.hook_post" for layer in (0, 1)], {}

    def note(h, hook):
        noted[hook.name] = h if h.requires_grad else h.requires_grad_()
        return noted[hook.name]

    with torch.enable_grad():
        logits = model.run_with_hooks(tokens, [(name, note) for name in names])[:, -1]
        total = o.answer_logit(logits, answers).sum()
        slopes = torch.autograd.grad(total, [noted[name] for name in names])
    h = torch.stack([noted[name].detach() for name in names])  # layer batch pos neuron
    moved = (h - h.mean(dim=1, keepdim=True)) * torch.stack(slopes)
    return moved.sum(dim=2).transpose(1, 2)


ATTRIBUTED = {
    "the mean was not subtracted: compared with 0, not with the mean": by_differences(
        base=lambda h: 0
    ),
    "the mean over the neurons was subtracted; it is each neuron's own, over the prompts": (
        by_differences(base=lambda h: h.mean(dim=1, keepdim=True))
    ),
    "the sign is turned round: (h - mean) times the slope": by_differences(sign=-1),
    "the logit was not centred; subtract its mean over the vocabulary": (
        by_differences(centred=False)
    ),
    "the slope is that of a mean over the prompts: use the sum": by_differences(share=0.2),
    "the slope is that of the log-probability; it is that of centred_answer": by_differences(
        asked=log_probability
    ),
    "the slope was averaged over the prompts; each has its own": by_differences(
        of=lambda slope: slope.mean(dim=-1, keepdim=True)
    ),
    "the path through the next layer's neurons is missing: was something detached?": (
        by_differences(cut=True)
    ),
    "all positions were added up; only the last one is meant": at_every_position,
}


def of_grid(change):
    """A wrong key_map: change(the right one, values, a, b, size)."""
    return lambda values, a, b, size: change(laid_out()(values, a, b, size))


def added_up(values, a, b, size):
    return laid_out(empty=0.0)(values, a, b, size)


KEY_MAP = {
    "a and b changed places: row a, column b": laid_out(transposed=True),
    "where there is no problem there must be nan; 0 would be a value": laid_out(empty=0.0),
    "the rows run from bottom to top; row a stands at index a": of_grid(lambda grid: grid.flip(0)),
    "the operands were counted from 1; row a stands at index a": of_grid(
        lambda grid: grid.roll((-1, -1), dims=(0, 1))
    ),
    "`size` was ignored: the map ends with the largest operand": lambda values, a, b, size: (
        laid_out()(values, a, b, int(max(a.max(), b.max())) + 1)
    ),
    "the operands' axes come last; they come first": of_grid(
        lambda grid: grid.movedim((0, 1), (-2, -1))
    ),
}


def all_of_them(values):
    return torch.ones_like(values, dtype=torch.bool)


SCORES = {
    "zeros were counted: a silent neuron would match whatever comes first": scores_by_loops(
        counts=all_of_them
    ),
    "negative values were counted; a value counts from above 0": scores_by_loops(
        counts=lambda values: values != 0
    ),
    "values of exactly 0 were counted; a value counts from above 0": scores_by_loops(
        counts=lambda values: values >= 0
    ),
    "argsort lists the problems by rank; the rank of each problem is that list turned round": (
        named.order_for_rank
    ),
    "the lowest values were taken, not the highest": scores_by_loops(highest=False),
    "the values were ranked by size, without regard to sign": scores_by_loops(key=torch.abs),
    "k + 1 problems were taken: ranks begin at 0": scores_by_loops(one_more=1),
    "k - 1 problems were taken: ranks begin at 0": scores_by_loops(one_more=-1),
    "k is the size of the heuristic, not the number of problems where the neuron is active": (
        scores_by_loops(k_is_active=True, divisor=lambda size, active, **others: active)
    ),
    "the overlap was divided by the union; divide by k": scores_by_loops(
        divisor=lambda size, counted, overlap, **others: size + counted - overlap
    ),
    "the overlap was divided by the number of active problems; divide by k": scores_by_loops(
        divisor=lambda size, active, **others: active
    ),
    "the overlap was divided by the active ones of the k problems; divide by k": scores_by_loops(
        divisor=lambda size, counted, **others: counted
    ),
    "the overlap was divided by the number of all problems; divide by k": scores_by_loops(
        divisor=lambda size, **others: others["all"]
    ),
}

EQUAL = {
    "equal values were ranked by the order of the problems; those on the boundary share the places "
    "that are left": scores_by_loops(groups=named.one_by_one),
    "equal values were ranked from the last problem to the first; those on the boundary share the "
    "places that are left": scores_by_loops(groups=named.one_by_one_from_behind),
    "all that are level with the k-th highest value were counted in full; they share the places "
    "that are left": scores_by_loops(share=lambda places_left, level: 1.0),
    "those level with the k-th highest value were left out; they share the places that are left": (
        scores_by_loops(share=lambda places_left, level: float(places_left >= level))
    ),
    "the places left went to those of equal value in the mask; all that have it share them": (
        scores_by_loops(among=named.in_mask_first)
    ),
}

CLASSIFY = {
    "everything was scored on activation; direct heuristics need promoted": (
        classifier(on=("activation", "activation"))
    ),
    "everything was scored on promoted; operands need activation": (
        classifier(on=("promoted", "promoted"))
    ),
    "activation and promoted are exchanged": classifier(on=("promoted", "activation")),
    "the multi-result sets were fitted to activation; they are fitted to promoted": classifier(
        fitted_to=lambda activation, promoted: activation
    ),
    "the three multi-result masks were forgotten": classifier(most=1),
    "multi-result goes up to 4 values": classifier(most=3),
    "`counts` says which multi-result sets are tried": classifier(own_counts=(2, 3, 4)),
    "below the threshold the name is none": classifier(named=lambda score, threshold: True),
    "a score equal to the threshold is enough": classifier(
        named=lambda score, threshold: score > threshold
    ),
    "`threshold` was ignored": classifier(own_threshold=0.6),
    "with the name none, too, the best score is returned": classifier(nameless=lambda score: 0.0),
    "the largest heuristic from the threshold on was taken; the best score wins": classifier(
        largest=True
    ),
}

TIES = {
    "of equal scores the smaller heuristic was taken": classifier(
        key=lambda name, score, size: (round(score, 6), -size)
    )
}
