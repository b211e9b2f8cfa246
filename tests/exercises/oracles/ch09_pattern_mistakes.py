"""What people get wrong in chapter 9 about patterns and paths: label -> the function they write."""

from functools import partial

import torch

from tests.exercises.oracles import ch09 as slow
from tests.exercises.oracles.ch09 import kept, pattern_without, silenced


def only_layers(chosen):
    """A wrong pattern_preserving_ablation: patterns are kept in some layers. chosen: the model and
    the heads -> which.
    """

    def pattern_preserving_ablation(model, tokens, heads):
        layers = chosen(model, heads)
        return kept(model, tokens, heads, lambda at, what: at in layers and "pattern" in what)

    return pattern_preserving_ablation


def all_that(*kinds, **options):
    """A wrong pattern_preserving_ablation: in every layer these are kept."""
    return lambda model, tokens, heads: kept(
        model, tokens, heads, lambda at, what: what.removeprefix("hook_") in kinds, **options
    )


@torch.no_grad()
def last_pattern_everywhere(model, tokens, heads):
    """What a lambda in a loop does that names the loop's variable: every layer gets the patterns of
    the last one.
    """
    names = [f"blocks.{layer}.attn.hook_pattern" for layer in range(model.cfg.n_layers)]
    last = model.run_with_cache(tokens, names)[1][names[-1]]
    hooks = [(name, lambda x, hook: last.clone()) for name in names]
    return silenced(model, heads).run_with_hooks(tokens, hooks)


def ordinary(model, tokens, heads):
    """An ordinary ablation. To keep the patterns of layer 0, or those of the heads themselves,
    makes no difference.
    """
    return silenced(model, heads)(tokens).detach()


def others_silenced(model, tokens, heads):
    others = [head for head in slow.every_head(model) if head not in heads]
    return slow.by_hand(model, tokens, others)


def layers_silenced(model, tokens, heads):
    layers = {layer for layer, _ in heads}
    return slow.by_hand(model, tokens, [at for at in slow.every_head(model) if at[0] in layers])


def means_in_their_place(model, tokens, heads):
    """The heads write their mean instead of nothing, all patterns kept."""
    _, cache = model.run_with_cache(tokens)
    names = [f"blocks.{layer}.attn.hook_pattern" for layer in range(model.cfg.n_layers)]
    hooks = [(name, lambda x, hook: cache[hook.name].clone()) for name in names]

    def mean(z, hook):
        for layer, head in heads:
            if hook.name == f"blocks.{layer}.attn.hook_z":
                z[:, :, head] = cache[hook.name][:, :, head].mean(dim=(0, 1))
        return z

    hooks.append((lambda name: name.endswith("hook_z"), mean))
    return model.run_with_hooks(tokens, hooks).detach()


PRESERVING = {
    "the patterns of later layers changed: force those of the undisturbed run in every layer": (
        ordinary
    ),
    "only the patterns of layer 1, or of layers 0 and 1, were kept; keep all": only_layers(
        lambda model, heads: [1]
    ),
    "only the patterns of the last layer were kept; keep those of every layer": only_layers(
        lambda model, heads: [model.cfg.n_layers - 1]
    ),
    "only the patterns of the layer after the last of the heads were kept; keep all": only_layers(
        lambda model, heads: [max(layer for layer, _ in heads) + 1]
    ),
    "the values were kept as well": all_that("pattern", "v"),
    "the queries were kept, not the patterns: the keys still change": all_that("q"),
    "the keys were kept, not the patterns: the queries still change": all_that("k"),
    "every sequence got the mean pattern of the batch; each has its own": all_that(
        "pattern", made=lambda pattern: pattern.mean(dim=0, keepdim=True)
    ),
    "all layers got the patterns of the last: a lambda in a loop reads `name` too late; use "
    "hook.name": last_pattern_everywhere,
    "nothing was ablated": lambda model, tokens, heads: slow.by_hand(model, tokens, []),
    "all the other heads were ablated": others_silenced,
    "whole layers were silenced; only `heads` are": layers_silenced,
    "only the first of the heads was silenced": (
        lambda model, tokens, heads: slow.by_hand(model, tokens, heads[:1])
    ),
    "the heads wrote their mean; they write nothing": means_in_their_place,
    "probabilities were returned; return the logits": (
        lambda model, tokens, heads: slow.by_hand(model, tokens, heads).softmax(dim=-1)
    ),
    "the patterns were made even; keep those of the undisturbed run": all_that(
        "pattern", made=lambda pattern: torch.full_like(pattern, 1 / pattern.shape[-1])
    ),
    "the undisturbed logits were subtracted; return the logits": (
        lambda model, tokens, heads: slow.by_hand(model, tokens, heads) - model(tokens).detach()
    ),
}
NOT_KEPT = {"the patterns were not kept": ordinary}


def aimed(change):
    """A wrong targeted_ablation: change(sources, target, side) -> what it aims at instead."""

    def targeted_ablation(model, tokens, sources, target, side="k"):
        return pattern_without(model, tokens, *change(sources, target, side))

    return targeted_ablation


def taking(taken):
    """A wrong targeted_ablation: it takes something else out. taken(cache, sources)."""
    return partial(pattern_without, taken=taken)


def even(model, tokens, sources, target, side="k"):
    """A wrong targeted_ablation: all keys, or queries, are 0, so that all scores are."""
    visible = torch.ones(tokens.shape[1], tokens.shape[1]).tril()
    return (visible / visible.sum(dim=-1, keepdim=True)).expand(len(tokens), -1, -1)


def everywhere(model, tokens, sources, target, side="k"):
    layer, head = target
    _, after = silenced(model, sources).run_with_cache(tokens)
    return after[f"blocks.{layer}.attn.hook_pattern"][:, head]


def all_heads(model, tokens, sources, target, side="k"):
    heads = [(target[0], head) for head in range(model.cfg.n_heads)]
    every = [pattern_without(model, tokens, sources, at, side) for at in heads]
    whole = model.run_with_cache(tokens)[1][f"blocks.{target[0]}.attn.hook_pattern"]
    whole[:, target[1]] = every[target[1]]
    return whole


@torch.no_grad()
def from_scores(model, tokens, sources, target, side="k", scale=1.0, softmax=True):
    """Taken out of the scores instead; scale: what the product of q and k is divided by."""
    layer, head = target
    _, cache = model.run_with_cache(tokens)
    at, gone = f"blocks.{layer}.attn.hook_", slow.of_heads(cache, sources)
    q, k = cache[at + "q"][:, :, head], cache[at + "k"][:, :, head]
    if side == "k":
        taken = q @ (gone @ model.W_K[target]).mT
    else:
        taken = gone @ model.W_Q[target] @ k.mT
    scores = cache[at + "attn_scores"][:, head] - taken / scale
    return scores.softmax(dim=-1) if softmax else scores


def scores_instead(model, tokens, *rest):
    root = model.cfg.d_head**0.5
    return from_scores(model, tokens, *rest, scale=root, softmax=False)


def whole_layers(cache, sources):
    return sum(cache[f"blocks.{layer}.hook_attn_out"] for layer, _ in sources)


def centred(cache, sources):
    written = slow.of_heads(cache, sources)
    return written - written.mean(dim=(0, 1))


@torch.no_grad()
def by_shares(model, tokens, sources, target, side="k", at=None, always_W_K=False, W=None):
    """The share is subtracted from q or k themselves. at: in which layer. W: what makes it."""
    layer, head = target
    _, cache = model.run_with_cache(tokens)
    if W is None:
        W = (model.W_K if side == "k" or always_W_K else model.W_Q)[target]
    name = f"blocks.{layer if at is None else at}.attn.hook_"
    made = {part: cache[name + part][:, :, head] for part in "qk"}
    made[side] = made[side] - slow.of_heads(cache, sources) @ W
    return slow.pattern_of(**made)


def z_through_W_V(model, tokens, sources, target, side="k"):
    def taken(cache, heads):
        z = {at: cache[f"blocks.{at[0]}.attn.hook_z"][:, :, at[1]] for at in heads}
        return sum([z[at] @ model.W_V[at].detach().T for at in heads])

    return pattern_without(model, tokens, sources, target, side, taken=taken)


def aimed_share(of_keys, of_queries):
    """A wrong targeted_ablation: other weights make the share that is subtracted."""

    def targeted_ablation(model, tokens, sources, target, side="k"):
        W = (of_keys if side == "k" else of_queries)(model, sources, target)
        return by_shares(model, tokens, sources, target, side, W=W.detach())

    return targeted_ablation


def patterns_multiplied(model, tokens, sources, target, side="k"):
    """What the sources look at is taken out of the pattern itself."""
    _, cache = model.run_with_cache(tokens)
    pattern = cache[f"blocks.{target[0]}.attn.hook_pattern"][:, target[1]]
    for layer, source in sources:
        pattern = pattern * (1 - cache[f"blocks.{layer}.attn.hook_pattern"][:, source])
    return pattern / pattern.sum(dim=-1, keepdim=True)


@torch.no_grad()
def made_anew(model, tokens, sources, target, side="k", both=True):
    """Made from the stream alone, which holds no positions: queries and keys, or just `side`."""
    layer, head = target
    _, cache = model.run_with_cache(tokens)
    read = cache[f"blocks.{layer}.hook_resid_pre"]
    made = {part: cache[f"blocks.{layer}.attn.hook_{part}"][:, :, head] for part in "qk"}
    if both:
        made = {"q": read @ model.W_Q[target], "k": read @ model.W_K[target]}
    W = model.W_K if side == "k" else model.W_Q
    made[side] = (read - slow.of_heads(cache, sources)) @ W[target]
    return slow.pattern_of(**made)


ALWAYS_QUERIES = {
    "the queries lost the sources": aimed(lambda sources, target, side: (sources, target, "q"))
}
TARGETED = {
    "all of the target's keys (or queries) were set to 0; only the sources' share goes": even,
    "the pattern of the undisturbed run was returned": aimed(
        lambda sources, target, side: (sources, target, "")
    ),
    "the sources were taken out of queries and keys; out of one only": aimed(
        lambda sources, target, side: (sources, target, "qk")
    ),
    "the sources were silenced in the whole model; only the target's keys (or queries) lose them": (
        everywhere
    ),
    "the keys (or queries) are those of a run in which the sources are silent, so that heads in "
    "between miss them too; subtract what the sources wrote themselves": partial(
        pattern_without, early=True
    ),
    "keys and queries are exchanged, or it was always the queries": aimed(
        lambda sources, target, side: (sources, target, "q" if side == "k" else "k")
    ),
    "`side` was ignored": aimed(lambda sources, target, side: (sources, target, "k")),
    "what goes out of the queries must be multiplied with W_Q, not with W_K": partial(
        by_shares, always_W_K=True
    ),
    "the share was divided by sqrt(d_head); that scale belongs to scores": aimed_share(
        lambda model, sources, target: model.W_K[target] / model.cfg.d_head**0.5,
        lambda model, sources, target: model.W_Q[target] / model.cfg.d_head**0.5,
    ),
    "the weights are those of the first source; the target makes its keys with its own": (
        aimed_share(
            lambda model, sources, target: model.W_K[sources[0]],
            lambda model, sources, target: model.W_Q[sources[0]],
        )
    ),
    "what a source wrote is in hook_result (z W_O); z was multiplied with W_V": z_through_W_V,
    "only the first source was taken out": aimed(
        lambda sources, target, side: (sources[:1], target, side)
    ),
    "only the last source was taken out": aimed(
        lambda sources, target, side: (sources[-1:], target, side)
    ),
    "the sources were looked up in layer 0; each has a layer of its own": aimed(
        lambda sources, target, side: ([(0, head) for _, head in sources], target, side)
    ),
    "the target was looked up in layer 1; it has a layer of its own": aimed(
        lambda sources, target, side: (sources, (1, target[1]), side)
    ),
    "the hooks are those of layer 1; the target has a layer of its own": partial(by_shares, at=1),
    "all that the sources' layers wrote was taken out; only the sources go": taking(whole_layers),
    "the mean of what the sources wrote was left in; take out all of it": taking(centred),
    "the pattern of another head was returned": aimed(
        lambda sources, target, side: (sources, (target[0], (target[1] + 1) % 3), side)
    ),
    "the patterns of all heads were returned; only the target's is asked for": all_heads,
    "the attention of the sources was taken out of the pattern; take what they wrote out of the "
    "keys": patterns_multiplied,
    "the scores were returned; the pattern is their softmax": scores_instead,
    "what was taken out of the scores was not divided by sqrt(d_head)": from_scores,
    "the sources were added once more, not taken out": partial(pattern_without, left=2.0),
    "q and k were made anew without the positions that they read": made_anew,
    "what lost the sources lost its positions, too": partial(made_anew, both=False),
    "only the sources' share was kept, not taken out": partial(pattern_without, only=True),
}
