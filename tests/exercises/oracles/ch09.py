"""The slow, obvious oracles of chapter 9: really zeroing W_O, a forward pass in loops, the exact
loss of planted heads.

Options make the mistakes: each changes one thing.
"""

import math
from copy import deepcopy
from functools import partial

import torch

from exercises.attempts import Wrong, describe, own_line, same
from minitransformer.hooks import HookPoint
from tests.exercises.checking import expect


class Tried:
    """What a hook made of one activation. A hook that makes the same of it is equal: so mistakes
    can be recognised.
    """

    def __init__(self, activation, got):
        self.activation, self.got = activation, got

    def __eq__(self, hook):
        return same(hook(self.activation.clone(), HookPoint("blocks.1.attn.hook_z")), self.got)


def apply(builder, activation, *args):
    """What the hook builder(*args) makes of an activation; it must not change the activation or the
    arguments.
    """
    activation = activation.clone()
    before, kept = (
        activation.clone(),
        [x.clone() if isinstance(x, torch.Tensor) else x for x in args],
    )
    hook = builder(*args)
    expect(callable(hook), f"expected a function fn(activation, hook), got {type(hook).__name__}")
    try:
        got = hook(activation, HookPoint("blocks.1.attn.hook_z"))
    except Exception as error:
        raise Wrong(
            f"the hook that it built: {describe(error)}", own_line(error, builder.path)
        ) from None
    builder.calls[-1] = (builder.calls[-1][0], Tried(before, got))
    expect(
        same(activation, before),
        "the hook changed the activation in place; it must return a new tensor",
    )
    expect(all(same(a, b) for a, b in zip(args, kept)), "the hook changed the reference in place")
    expect(got is not None, "the hook that it built returned None: is the `return` missing?")
    return got


def silenced(model, heads):
    """A copy of the model in which these heads write nothing."""
    model = deepcopy(model)
    with torch.no_grad():
        for layer, head in heads:
            model.W_O[layer, head] = 0.0
    return model


def cost(model, repeats, heads, kind="zero", minus=1.0, everywhere=False, keep=False, late=False):
    """joint_ablation the long way. Kinds other than "zero": what the heads write is worked out and
    put in their place.
    """
    if keep:
        every = [
            (layer, head)
            for layer in range(model.cfg.n_layers)
            for head in range(model.cfg.n_heads)
        ]
        heads = [head for head in every if head not in heads]
    logits = model(repeats.tokens).detach()
    if kind == "zero" and not late:
        broken = silenced(model, heads)(repeats.tokens).detach()
    else:
        broken = replaced(model, repeats.tokens, heads, kind, late)
    return slow_loss(broken, repeats, everywhere) - minus * slow_loss(logits, repeats, everywhere)


def replaced(model, tokens, heads, kind, late=False):
    """The logits if each of `heads` writes something else, layer by layer; what, comes from an
    undisturbed run. late: the last stream is changed, when all layers have read.
    """
    _, clean = model.run_with_cache(tokens)
    stream = clean["blocks.0.hook_resid_pre"]
    for layer in range(model.cfg.n_layers):
        name = f"blocks.{layer}.attn.hook_result"
        run = [(f"blocks.{layer}.hook_resid_pre", lambda x, hook, stream=stream: stream.clone())]
        out = clean[name] if late else model.run_with_cache(tokens, [name], run)[1][name]
        out = out.clone()
        for head in (head for at, head in heads if at == layer):
            out[:, :, head] = instead(clean[name][:, :, head], kind)
        stream = stream + out.sum(dim=2)
    return stream @ model.W_U.detach()


def instead(out, kind):
    """out [batch, pos, d_model] of one head -> what it writes when it is ablated."""
    batch, n, _ = out.shape
    if kind == "zero":
        return torch.zeros_like(out)
    if kind == "mean":
        return sum(out[b, p] for b in range(batch) for p in range(n)).expand_as(out) / (batch * n)
    if kind == "resample":
        return torch.stack([out[b - 1] for b in range(batch)])
    return sum(out[b] for b in range(batch)).expand_as(out) / batch


def slow_loss(logits, repeats, everywhere=False):
    """The mean of -log p(next token), sequence by sequence."""
    losses = []
    for row, known, tokens in zip(logits, repeats.predictable, repeats.tokens):
        positions = [p for p in range(len(tokens) - 1) if everywhere or known[p]]
        losses.append(
            row.logsumexp(dim=-1)[positions] - row[positions, tokens[[p + 1 for p in positions]]]
        )
    return torch.cat(losses).mean().item()


def exact_loss(s, d_vocab=20):
    """The loss if the right logit is s and all others are 0."""
    return math.log1p((d_vocab - 1) * math.exp(-s))


@torch.no_grad()
def by_hand(model, tokens, heads):
    """The logits, head by head, with the patterns of the undisturbed run and with `heads` writing
    nothing.
    """
    _, cache = model.run_with_cache(tokens)
    stream = model.W_E[tokens]
    for layer in range(model.cfg.n_layers):
        read, pattern = stream.clone(), cache[f"blocks.{layer}.attn.hook_pattern"]
        for head in range(model.cfg.n_heads):
            if (layer, head) not in heads:
                stream = (
                    stream
                    + pattern[:, head] @ read @ model.W_V[layer, head] @ model.W_O[layer, head]
                )
    return stream @ model.W_U


def without(model, tokens, heads, layers=(), values=False):
    """Zero the heads; the patterns of these layers are forced to those of the undisturbed run, and
    the values too.
    """
    _, cache = model.run_with_cache(tokens)
    names = [f"blocks.{layer}.attn.hook_pattern" for layer in layers]
    names += [f"blocks.{layer}.attn.hook_v" for layer in layers if values]
    hooks = [(name, lambda x, hook: cache[hook.name].clone()) for name in names]
    return silenced(model, heads).run_with_hooks(tokens, hooks).detach()


@torch.no_grad()
def last_pattern_everywhere(model, tokens, heads):
    """What a lambda in a loop does that names the loop's variable: every layer gets the patterns of
    the last one.
    """
    names = [f"blocks.{layer}.attn.hook_pattern" for layer in range(model.cfg.n_layers)]
    last = model.run_with_cache(tokens, names)[1][names[-1]]
    return silenced(model, heads).run_with_hooks(
        tokens, [(name, lambda x, hook: last.clone()) for name in names]
    )


@torch.no_grad()
def pattern_without(model, tokens, sources, target, side="k", factor=0.0, only=False):
    """targeted_ablation the long way: q or k of a run with the sources' W_O times `factor`, the
    other of a clean run.

    only: just the sources' share, the mistake of keeping what should go.
    """
    layer, head = target
    names = {part: f"blocks.{layer}.attn.hook_{part}" for part in "qk"}
    changed = deepcopy(model)
    for at, source in sources:
        changed.W_O[at, source] *= factor
    caches = {False: model.run_with_cache(tokens)[1], True: changed.run_with_cache(tokens)[1]}
    q, k = (caches[part in side][names[part]][:, :, head] for part in "qk")
    if only:
        q, k = (
            caches[False][names[p]][:, :, head] - x if p in side else x
            for p, x in zip("qk", (q, k))
        )
    scores = q @ k.mT / model.cfg.d_head**0.5
    later = torch.ones(scores.shape[-2:]).triu(1) > 0
    return scores.masked_fill(later, -math.inf).softmax(dim=-1)


# Wrong hook builders


def hook(edit):
    """A wrong builder: edit(new, heads, *rest) changes the copy of the activation, in place."""

    def builder(heads, *rest):
        def fn(activation, hook):
            new = activation.clone()
            edit(new, heads, *rest)
            return new

        return fn

    return builder


def to(value):
    """A wrong builder that gives the heads value(reference, activation, *rest) instead."""

    def edit(new, heads, reference, *rest):
        new[:, :, heads] = value(reference, new.clone(), *rest).expand_as(new)[:, :, heads]

    return hook(edit)


def at(*index):
    """An edit that zeroes along the wrong axis."""
    return hook(lambda new, heads: new.__setitem__((*index, heads), 0.0))


def in_place(heads, returned=True):
    def fn(activation, hook):
        activation[:, :, heads] = 0.0
        return activation if returned else None

    return fn


def others_zero(new, heads):
    new[:, :, [head for head in range(new.shape[2]) if head not in heads]] = 0.0


# Wrong tables


def single(model, repeats, kind="zero", **options):
    heads = range(model.cfg.n_heads)
    return torch.tensor(
        [
            [cost(model, repeats, [(layer, h)], kind, **options) for h in heads]
            for layer in range(model.cfg.n_layers)
        ]
    )


def one_after_another(model, repeats, kind="zero"):
    every = [(layer, head) for layer in range(2) for head in range(3)]
    return torch.tensor([cost(model, repeats, every[: n + 1], kind) for n in range(6)]).view(2, 3)


def aimed(change):
    """A wrong targeted_ablation: change(sources, target, side) -> what it aims at instead."""
    return lambda model, tokens, sources, target, side="k": pattern_without(
        model, tokens, *change(sources, target, side)
    )


def even(model, tokens, sources, target, side="k"):
    """A wrong targeted_ablation: all keys, or queries, are 0, so that all scores are."""
    visible = torch.ones(tokens.shape[1], tokens.shape[1]).tril()
    return (visible / visible.sum(dim=-1, keepdim=True)).expand(len(tokens), -1, -1)


TARGET_MISTAKES = {
    "all of the target's keys (or queries) were set to 0; only the sources' share goes": even,
    "the pattern of the undisturbed run was returned": aimed(
        lambda s, target, side: (s, target, "")
    ),
    "the sources were taken out of queries and keys; out of one only": aimed(
        lambda s, target, side: (s, target, "qk")
    ),
    "keys and queries are exchanged, or it was always the queries": aimed(
        lambda s, target, side: (s, target, "q" if side == "k" else "k")
    ),
    "`side` was ignored": aimed(lambda s, target, side: (s, target, "k")),
    "only the first source was taken out": aimed(lambda s, target, side: (s[:1], target, side)),
    "only the last source was taken out": aimed(lambda s, target, side: (s[-1:], target, side)),
    "the pattern of another head was returned": aimed(
        lambda s, target, side: (s, (1, (target[1] + 1) % 3), side)
    ),
    "the sources were added once more, not taken out": partial(pattern_without, factor=2.0),
    "only the sources' share was kept, not taken out": partial(pattern_without, only=True),
}
