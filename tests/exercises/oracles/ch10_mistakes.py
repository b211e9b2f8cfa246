"""What people get wrong in chapter 10: the same runs by hooks, with one thing changed."""

from typing import NamedTuple

import torch
from torch import Tensor

from minitransformer import Transformer

WAYS = ["direct", "via patterns", "via values", "interaction"]


class Runs(NamedTuple):
    """The undisturbed and the removed run of one head, and hooks to make others from them."""

    logits: Tensor
    own_pattern: str  # the name of the patterns of the head's layer
    next_pattern: str  # and of those of the layer after it
    clean: dict
    removed: dict
    zero: list  # zeroes the head
    here: list  # puts the undisturbed head back right after its layer
    back: list  # puts the undisturbed head back, at the end
    away: list  # takes it off, at the end


def runs(model: Transformer, tokens, head: tuple) -> Runs:
    layer, number = head

    def silence(z, hook):
        z[:, :, number] = 0
        return z

    zero = [(f"blocks.{layer}.attn.hook_z", silence)]
    logits, clean = model.run_with_cache(tokens)
    _, removed = model.run_with_cache(tokens, fwd_hooks=zero)
    written = clean[f"blocks.{layer}.attn.hook_result"][:, :, number]
    last = f"blocks.{model.cfg.n_layers - 1}.hook_resid_post"
    here = [(f"blocks.{layer}.hook_resid_post", lambda x, hook: x + written)]
    back = [(last, lambda x, hook: x + written)]
    away = [(last, lambda x, hook: x - written)]
    own_pattern = f"blocks.{layer}.attn.hook_pattern"
    next_pattern = f"blocks.{layer + 1}.attn.hook_pattern"
    return Runs(logits, own_pattern, next_pattern, clean, removed, zero, here, back, away)


def held(cache, end):
    return [(name, lambda x, hook: cache[hook.name]) for name in cache if name.endswith(end)]


def held_patterns(r: Runs):
    return held(r.clean, "hook_pattern")


def removed_patterns(r: Runs):
    return held(r.removed, "hook_pattern")


def some(mistakes, *words):
    return {
        label: function
        for label, function in mistakes.items()
        if any(word in label for word in words)
    }


# total_effect and direct_effect


def effect(hooks, sign=1, subtract=True, at=lambda head: head):
    """total_effect or direct_effect with something wrong; hooks(runs) -> fwd_hooks."""

    def function(model, tokens, head, metric):
        r = runs(model, tokens, at(head))
        changed = metric(model.run_with_hooks(tokens, hooks(r)))
        return sign * (changed - metric(r.logits) if subtract else changed)

    return function


def of_difference(hooks):
    """An effect that is the metric of the difference of the logits."""

    def function(model, tokens, head, metric):
        r = runs(model, tokens, head)
        return metric(model.run_with_hooks(tokens, hooks(r)) - r.logits)

    return function


def as_a_share(model, tokens, head, metric):
    """The total effect, divided by the undisturbed metric."""
    r = runs(model, tokens, head)
    whole = metric(r.logits)
    return (metric(model.run_with_hooks(tokens, r.zero)) - whole) / whole


def edited(edit, names=lambda layer, model: [f"blocks.{layer}.attn.hook_z"]):
    """The total effect of something else than zeroing one head: edit(activation, number) -> None,
    at the hooks of these names.
    """

    def function(model, tokens, head, metric):
        layer, number = head

        def hook_fn(activation, hook):
            edit(activation, number)
            return activation

        hooks = [(name, hook_fn) for name in names(layer, model)]
        return metric(model.run_with_hooks(tokens, hooks)) - metric(model(tokens))

    return function


def zero_all(z, number):
    z.zero_()


def zero_head(z, number):
    z[:, :, number] = 0


def zero_at_the_end(z, number):
    z[:, -1, number] = 0


def average(z, number):
    z[:, :, number] = z[:, :, number].mean(dim=(0, 1))


def zero_neighbour(z, number):
    z[:, :, (number + 1) % z.shape[2]] = 0


def zero_others(z, number):
    kept = z[:, :, number].clone()
    z.zero_()
    z[:, :, number] = kept


def zeroed_keys(layer, model):
    return [f"blocks.{layer}.attn.hook_k"]


def absolute(function):
    """An effect without its sign."""
    return lambda *arguments: function(*arguments).abs()


def in_all_layers(layer, model):
    return [f"blocks.{each}.attn.hook_z" for each in range(model.cfg.n_layers)]


def in_layer_0(head):
    return (0, head[1])


DIFFERENCE = (
    "the metric was taken of the difference of the logits; take it of each run, then subtract"
)
TOTAL_MISTAKES = {
    "the sign is turned round; it is the zeroed run minus the undisturbed one": effect(
        lambda r: r.zero, sign=-1
    ),
    "the undisturbed metric was not subtracted": effect(lambda r: r.zero, subtract=False),
    "later heads did not react: only the final stream was changed": effect(lambda r: r.away),
    "the patterns were held; in the total effect everything reacts": effect(
        lambda r: r.zero + held_patterns(r)
    ),
    "the sign was dropped: what helps has a negative effect": absolute(effect(lambda r: r.zero)),
    "the other heads of the layer were zeroed, and this one kept": edited(zero_others),
    "the head's keys were zeroed, so that it attends evenly; zero what it writes": edited(
        zero_head, zeroed_keys
    ),
    "all heads of all layers were zeroed, not one": edited(zero_all, in_all_layers),
    "all heads of the layer were zeroed, not one": edited(zero_all),
    "the head of this number was zeroed in every layer": edited(zero_head, in_all_layers),
    "the head was zeroed at the last position only": edited(zero_at_the_end),
    "the head wrote its average; zero it": edited(average),
    "the effect was divided by the undisturbed metric; it is a difference, not a share": as_a_share,
    "a neighbouring head was zeroed": edited(zero_neighbour),
    "the layer was ignored: a head of layer 0 was zeroed": effect(lambda r: r.zero, at=in_layer_0),
    DIFFERENCE: of_difference(lambda r: r.zero),
}


def taken_off(at, what):
    """The effect of taking something off the stream at one place; what(result, number)."""

    def function(model, tokens, head, metric):
        layer, number = head
        logits, cache = model.run_with_cache(tokens)
        written = what(cache[f"blocks.{layer}.attn.hook_result"], number)
        hooks = [(at(layer, model), lambda stream, hook: stream - written)]
        return metric(model.run_with_hooks(tokens, hooks)) - metric(logits)

    return function


def at_the_end(layer, model):
    return f"blocks.{model.cfg.n_layers - 1}.hook_resid_post"


def own(result, number):
    return result[:, :, number]


def own_at_the_end(result, number):
    last = torch.zeros_like(result[:, :, number])
    last[:, -1] = result[:, -1, number]
    return last


def own_alone(model, tokens, head, metric):
    """The effect of keeping nothing but the head."""
    layer, number = head
    logits, cache = model.run_with_cache(tokens)
    alone = cache[f"blocks.{layer}.attn.hook_result"][:, :, number] @ model.W_U
    return metric(alone) - metric(logits)


def minus_own_logits(model, tokens, head, metric):
    """Minus the metric of what the head alone makes of the logits."""
    layer, number = head
    _, cache = model.run_with_cache(tokens)
    return -metric(cache[f"blocks.{layer}.attn.hook_result"][:, :, number] @ model.W_U)


def total_less_direct(model, tokens, head, metric):
    r = runs(model, tokens, head)
    zeroed = metric(model.run_with_hooks(tokens, r.zero))
    return zeroed - metric(model.run_with_hooks(tokens, r.away))


DIRECT_MISTAKES = {
    "the head's output was added to the final stream; subtract it": effect(lambda r: r.back),
    "the sign is turned round; subtract the undisturbed metric from the other": effect(
        lambda r: r.away, sign=-1
    ),
    "later heads reacted: the head was zeroed where it writes, not in the final stream": effect(
        lambda r: r.zero
    ),
    "later heads reacted: it was subtracted before the last layer, not after it": taken_off(
        lambda layer, model: f"blocks.{model.cfg.n_layers - 1}.hook_resid_pre", own
    ),
    "it was subtracted after layer 1, whatever the number of layers": taken_off(
        lambda layer, model: f"blocks.{min(1, model.cfg.n_layers - 1)}.hook_resid_post", own
    ),
    "later heads reacted: it was subtracted at the very beginning of the stream": taken_off(
        lambda layer, model: "blocks.0.hook_resid_pre", own
    ),
    "the head's output took the place of the stream; subtract it from the stream": own_alone,
    "the head's output was taken off at the last position only": taken_off(
        at_the_end, own_at_the_end
    ),
    "the head's output was subtracted twice": taken_off(
        at_the_end, lambda result, number: 2 * result[:, :, number]
    ),
    "the sign was dropped: what helps has a negative effect": absolute(effect(lambda r: r.away)),
    "only the patterns were held; values of later heads reacted": effect(
        lambda r: r.zero + held_patterns(r)
    ),
    "the undisturbed metric was not subtracted": effect(lambda r: r.away, subtract=False),
    "this is the indirect effect: the unembedding is the one that must miss the head": effect(
        lambda r: r.zero + r.back
    ),
    "this is the indirect effect, total minus direct": total_less_direct,
    "all heads of the layer were taken off, not one": taken_off(
        at_the_end, lambda result, number: result.sum(dim=2)
    ),
    "what the head wrote at the last position was taken off everywhere": taken_off(
        at_the_end, lambda result, number: result[:, -1:, number]
    ),
    "what the head writes was averaged over the batch": taken_off(
        at_the_end, lambda result, number: result[:, :, number].mean(dim=0)
    ),
    "the metric was taken of the head's own logits; take it of the logits without them": (
        minus_own_logits
    ),
    "another head was taken: its number was used in layer 0 whatever the layer": effect(
        lambda r: r.away, at=in_layer_0
    ),
    DIFFERENCE: of_difference(lambda r: r.away),
}
