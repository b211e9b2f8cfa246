"""Chapter 9 the slow, obvious way: really zeroing W_O, a forward pass in loops, the exact loss of
planted heads. Options that change one thing make the usual mistakes, which ch09_mistakes.py names.
"""

import math
from copy import deepcopy
from itertools import product

import torch

from exercises.attempts import Wrong, describe, own_line
from minitransformer.hooks import HookPoint
from tests.exercises.checking import expect
from tests.exercises.guarded import same


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
    before = activation.clone()
    kept = [x.clone() if isinstance(x, torch.Tensor) else x for x in args]
    hook = builder(*args)
    expect(callable(hook), f"expected a function fn(activation, hook), got {type(hook).__name__}")
    try:
        got = hook(activation, HookPoint("blocks.1.attn.hook_z"))
    except Exception as error:
        line = own_line(error, builder.path)
        raise Wrong(f"the hook that it built: {describe(error)}", line) from None
    builder.calls[-1] = (builder.calls[-1][0], Tried(before, got))
    untouched = same(activation, before)
    expect(untouched, "the hook changed the activation in place; it must return a new tensor")
    untouched = all(same(now, then) for now, then in zip(args, kept))
    expect(untouched, "the hook changed the reference in place")
    expect(got is not None, "the hook that it built returned None: is the `return` missing?")
    return got


# Models without some heads


def every_head(model):
    return list(product(range(model.cfg.n_layers), range(model.cfg.n_heads)))


def silenced(model, heads):
    """A copy of the model in which these heads write nothing."""
    model = deepcopy(model)
    with torch.no_grad():
        for layer, head in heads:
            model.W_O[layer, head] = 0.0
    return model


def instead(out, kind):
    """out [batch, pos, d_model] of one head -> what it writes when it is ablated."""
    batch, n, _ = out.shape
    if kind == "zero":
        return torch.zeros_like(out)
    if kind == "mean":
        total = sum(out[b, p] for b in range(batch) for p in range(n))
        return total.expand_as(out) / (batch * n)
    if kind == "resample":
        return torch.stack([out[b - 1] for b in range(batch)])
    assert kind == "mean per position", kind
    return sum(out[b] for b in range(batch)).expand_as(out) / batch


def replaced(model, tokens, heads, kind, late=False):
    """The logits if each of `heads` writes something else, layer by layer; what, comes from an
    undisturbed run. late: the last stream is changed, when all layers have read.
    """
    _, clean = model.run_with_cache(tokens)
    stream = clean["blocks.0.hook_resid_pre"]
    for layer in range(model.cfg.n_layers):
        name = f"blocks.{layer}.attn.hook_result"
        start = (f"blocks.{layer}.hook_resid_pre", lambda x, hook, stream=stream: stream.clone())
        out = clean[name] if late else model.run_with_cache(tokens, [name], [start])[1][name]
        out = out.clone()
        for head in (head for at, head in heads if at == layer):
            out[:, :, head] = instead(clean[name][:, :, head], kind)
        stream = stream + out.sum(dim=2)
    return stream @ model.W_U.detach()


def slow_loss(logits, repeats, everywhere=False):
    """The mean of -log p(next token), sequence by sequence."""
    losses = []
    for row, known, tokens in zip(logits, repeats.predictable, repeats.tokens):
        for p in range(len(tokens) - 1):
            if everywhere or known[p]:
                losses.append(row[p].logsumexp(dim=-1) - row[p, tokens[p + 1]])
    return torch.stack(losses).mean().item()


def cost(model, repeats, heads, kind="zero", minus=1.0, everywhere=False, keep=False, late=False):
    """joint_ablation the long way. Kinds other than "zero": what the heads write is worked out and
    put in their place.
    """
    if keep:
        heads = [head for head in every_head(model) if head not in heads]
    logits = model(repeats.tokens).detach()
    if kind == "zero" and not late:
        broken = silenced(model, heads)(repeats.tokens).detach()
    else:
        broken = replaced(model, repeats.tokens, heads, kind, late)
    return slow_loss(broken, repeats, everywhere) - minus * slow_loss(logits, repeats, everywhere)


def single(model, repeats, kind="zero", **options):
    """ablation_table the long way."""
    table = torch.zeros(model.cfg.n_layers, model.cfg.n_heads)
    for at in every_head(model):
        table[at] = cost(model, repeats, [at], kind, **options)
    return table


def exact_loss(s, d_vocab=20):
    """The loss if the right logit is s and all others are 0."""
    return math.log1p((d_vocab - 1) * math.exp(-s))


# Patterns kept, or changed at one place


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
                moved = pattern[:, head] @ read @ model.W_V[layer, head]
                stream = stream + moved @ model.W_O[layer, head]
    return stream @ model.W_U


def without(model, tokens, heads, layers=(), values=False):
    """Zero the heads; the patterns of these layers are forced to those of the undisturbed run, and
    the values too.
    """
    _, cache = model.run_with_cache(tokens)
    names = [f"blocks.{layer}.attn.hook_pattern" for layer in layers]
    if values:
        names += [f"blocks.{layer}.attn.hook_v" for layer in layers]
    hooks = [(name, lambda x, hook: cache[hook.name].clone()) for name in names]
    return silenced(model, heads).run_with_hooks(tokens, hooks).detach()


@torch.no_grad()
def pattern_without(model, tokens, sources, target, side="k", factor=0.0, only=False):
    """targeted_ablation the long way: q or k of a run with the sources' W_O times `factor`, the
    other of a clean run.

    only: just the sources' share, the mistake of keeping what should go.
    """
    layer, head = target
    changed = deepcopy(model)
    for at, source in sources:
        changed.W_O[at, source] *= factor
    _, clean = model.run_with_cache(tokens)
    _, ablated = changed.run_with_cache(tokens)
    made = {}
    for part in "qk":
        name = f"blocks.{layer}.attn.hook_{part}"
        made[part] = clean[name][:, :, head]
        if part in side and only:
            made[part] = made[part] - ablated[name][:, :, head]
        elif part in side:
            made[part] = ablated[name][:, :, head]
    scores = made["q"] @ made["k"].mT / model.cfg.d_head**0.5
    later = torch.ones(scores.shape[-2:]).triu(1) > 0
    return scores.masked_fill(later, -math.inf).softmax(dim=-1)


# Nothing left but the paths of a story


def named_parts(model, cache):
    """Every part of what layer 1 reads, by its name."""
    parts = {"embed": cache["hook_embed"], "positions": cache["hook_pos_embed"]}
    for head in range(model.cfg.n_heads):
        parts[f"0.{head}"] = cache["blocks.0.attn.hook_result"][:, :, head]
    return {name: part.expand_as(parts["embed"]) for name, part in parts.items()}


@torch.no_grad()
def strict(
    model,
    tokens,
    queries,
    keys,
    values,
    scale=True,
    causal=True,
    heads=None,
    clean_pattern=False,
    direct=(),
    pick=lambda parts, names: [parts[name] for name in names],
):
    """strict_path_model head by head and query by query; the options change one thing each.
    direct: parts that are unembedded as well.
    """
    _, cache = model.run_with_cache(tokens)
    parts = named_parts(model, cache)
    nothing = torch.zeros_like(parts["embed"])
    asks, answers = sum(pick(parts, queries), nothing), sum(pick(parts, keys), nothing)
    moved = sum(pick(parts, values), nothing)
    out = sum((parts[name] for name in direct), nothing).clone()
    for head in range(model.cfg.n_heads) if heads is None else heads:
        q, k, v = (
            asks @ model.W_Q[1, head],
            answers @ model.W_K[1, head],
            moved @ model.W_V[1, head],
        )
        for i in range(tokens.shape[1]):
            last = i + 1 if causal else tokens.shape[1]
            scores = (k[:, :last] * q[:, i, None]).sum(dim=-1)
            if scale:
                scores = scores / model.cfg.d_head**0.5
            weights = scores.softmax(dim=-1)
            if clean_pattern:
                weights = cache["blocks.1.attn.hook_pattern"][:, head, i, :last]
            seen = (weights[:, :, None] * v[:, :last]).sum(dim=1)
            out[:, i] = out[:, i] + seen @ model.W_O[1, head]
    return out @ model.W_U
