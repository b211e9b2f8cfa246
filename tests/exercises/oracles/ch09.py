"""Chapter 9 the slow, obvious way: really zeroing W_O, a forward pass in loops, the exact loss of
planted heads. Options that change one thing make the usual mistakes, which ch09_mistakes.py names.
"""

import math
from copy import deepcopy
from itertools import product

import torch

from exercises.attempts import Wrong
from minitransformer.hooks import HookPoint
from tests.exercises.given import wrong
from tests.exercises.guarded import Promise
from tests.exercises.values import same

AT = HookPoint("blocks.1.attn.hook_z")


def apply(builder, activation, *args):
    """What the hook builder(*args) makes of an activation, which it must leave as it is."""
    hook = builder(*args)
    given = activation.clone()
    try:
        got = hook(given, AT)
    except Exception as error:
        found = wrong(error, builder.path)
        raise Wrong(f"the hook that it built: {found}", found.line) from None
    if got is None:
        raise Promise("the hook that it built returned None: is the `return` missing?")
    if not same(given, activation):
        raise Promise("the hook changed the activation in place; it must return a new tensor")
    builder.look(lambda hook: hook(activation.clone(), AT))
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


def replaced(model, tokens, heads, kind, late=False, live=False):
    """The logits if each of `heads` writes something else, layer by layer; what, comes from an
    undisturbed run. late: the last stream is changed, when all layers have read. live: what, comes
    from the run itself.
    """
    _, clean = model.run_with_cache(tokens)
    stream = clean["blocks.0.hook_resid_pre"]
    for layer in range(model.cfg.n_layers):
        name = f"blocks.{layer}.attn.hook_result"
        start = (f"blocks.{layer}.hook_resid_pre", lambda x, hook, stream=stream: stream.clone())
        out = clean[name] if late else model.run_with_cache(tokens, [name], [start])[1][name]
        source = out.clone() if live else clean[name]
        out = out.clone()
        for head in [head for at, head in heads if at == layer]:
            out[:, :, head] = instead(source[:, :, head], kind)
        stream = stream + out.sum(dim=2)
    return stream @ model.W_U.detach()


def slow_loss(logits, repeats, everywhere=False):
    """The mean of -log p(next token), position by position."""
    losses = []
    for row, known, tokens in zip(logits.log_softmax(dim=-1), repeats.predictable, repeats.tokens):
        for p in range(len(tokens) - 1):
            if everywhere or known[p]:
                losses.append(-row[p, tokens[p + 1]])
    return torch.stack(losses).mean().item()


def cost(
    model,
    repeats,
    heads,
    kind="zero",
    minus=1.0,
    everywhere=False,
    keep=False,
    whole=False,
    late=False,
    live=False,
):
    """joint_ablation the long way. Kinds other than "zero": what the heads write is worked out and
    put in their place. keep: the others go; whole: every head of the layers that are named.
    """
    if keep:
        heads = [head for head in every_head(model) if head not in heads]
    if whole:
        heads = [head for head in every_head(model) if head[0] in dict(heads)]
    logits = model(repeats.tokens).detach()
    if kind == "zero" and not late:
        broken = silenced(model, heads)(repeats.tokens).detach()
    else:
        broken = replaced(model, repeats.tokens, heads, kind, late, live)
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


def kept(model, tokens, heads, keep, made=lambda saved: saved):
    """A run without the heads in which some activations are those of the undisturbed run. keep: a
    predicate on (layer, what), with what such as "hook_pattern"; made: what is done with them.
    """
    names = [f"blocks.{layer}.attn.{what}" for layer in range(model.cfg.n_layers) for what in WHAT]
    names = [name for name in names if keep(int(name.split(".")[1]), name.split(".")[-1])]
    _, clean = model.run_with_cache(tokens, names)
    hooks = [(name, lambda x, hook: made(clean[hook.name]).expand_as(x).clone()) for name in names]
    return silenced(model, heads).run_with_hooks(tokens, hooks).detach()


WHAT = ("hook_q", "hook_k", "hook_v", "hook_pattern")


def pattern_of(q, k, scale=True):
    """One head's pattern [batch, query, key] from its queries and keys [batch, pos, d_head]."""
    scores = q @ k.mT / (q.shape[-1] ** 0.5 if scale else 1)
    later = torch.ones(scores.shape[-2:]).triu(1) > 0
    return scores.masked_fill(later, -math.inf).softmax(dim=-1)


def of_heads(cache, heads):
    """What these heads wrote, together: [batch, pos, d_model]."""
    return sum(cache[f"blocks.{at}.attn.hook_result"][:, :, head] for at, head in heads)


@torch.no_grad()
def pattern_without(
    model, tokens, sources, target, side="k", taken=of_heads, left=0.0, only=False, early=False
):
    """targeted_ablation the long way: one side from a run whose stream before the target's layer
    lost what the sources had written, the other side from a clean run.

    taken: what goes. left: how much of it stays. only: nothing else stays, the mistake of keeping
    what should go. early: the sources are silent from the start, so that other heads miss them.
    """
    layer, head = target
    _, clean = model.run_with_cache(tokens)
    gone = taken(clean, sources)
    before = (f"blocks.{layer}.hook_resid_pre", lambda x, hook: x - (1 - left) * gone)
    _, changed = model.run_with_cache(tokens, None, [before])
    if early:
        _, changed = silenced(model, sources).run_with_cache(tokens)
    made = {}
    for part in "qk":
        name = f"blocks.{layer}.attn.hook_{part}"
        with_it, without_it = clean[name][:, :, head], changed[name][:, :, head]
        made[part] = without_it if part in side else with_it
        if part in side and only:
            made[part] = with_it - without_it
    return pattern_of(**made)


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
    layer=1,
    crossed=False,
    hooks=(),
    pattern_of=lambda head: head,
    pick=lambda parts, names: [parts[name] for name in names],
):
    """strict_path_model head by head and query by query; the options change one thing each.
    direct: parts that are unembedded as well. crossed: queries meet keys the wrong way round.
    hooks: of the run that the parts come from.
    """
    _, cache = model.run_with_cache(tokens, None, hooks)
    parts = named_parts(model, cache)
    nothing = torch.zeros_like(parts["embed"])
    asks, answers = sum(pick(parts, queries), nothing), sum(pick(parts, keys), nothing)
    moved = sum(pick(parts, values), nothing)
    out = sum((parts[name] for name in direct), nothing).clone()
    for head in range(model.cfg.n_heads) if heads is None else heads:
        looking = (layer, pattern_of(head))
        q, k = asks @ model.W_Q[looking], answers @ model.W_K[looking]
        v = moved @ model.W_V[layer, head]
        if crossed:
            q, k = k, q
        for i in range(tokens.shape[1]):
            last = i + 1 if causal else tokens.shape[1]
            scores = (k[:, :last] * q[:, i, None]).sum(dim=-1)
            if scale:
                scores = scores / model.cfg.d_head**0.5
            weights = scores.softmax(dim=-1)
            if clean_pattern:
                weights = cache["blocks.1.attn.hook_pattern"][:, head, i, :last]
            seen = (weights[:, :, None] * v[:, :last]).sum(dim=1)
            out[:, i] = out[:, i] + seen @ model.W_O[layer, head]
    return out @ model.W_U
