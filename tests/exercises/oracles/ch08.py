"""Chapter 8 the slow way: what its checks compare with. Options that change one thing make the
usual mistakes, which ch08_mistakes.py names.
"""

import math
from copy import deepcopy
from itertools import product

import torch
from torch import Tensor


def length(x):
    """The Frobenius norm: the root of the sum of all squares."""
    return math.sqrt(float((x * x).sum()))


def score(A, B):
    """The definition, apart from the code under test; nan for zero."""
    below = length(A) * length(B)
    return length(A @ B) / below if below else math.nan


RIGHT = {"Q": lambda QK, OV: QK, "K": lambda QK, OV: QK.T, "V": lambda QK, OV: OV}


def table(reads=RIGHT, writes=lambda V, out: V @ out, score=score, flip=False):
    """composition_table by loops, with one thing changed. reads: kind -> what the layer-1 head
    reads with.
    """

    def of(model, kind):
        W_Q, W_K = model.W_Q[1].detach(), model.W_K[1].detach()
        W_V, W_O = model.W_V.detach(), model.W_O.detach()
        heads = range(model.cfg.n_heads)
        made = torch.zeros(len(heads), len(heads), dtype=W_Q.dtype)
        for g, h in product(heads, heads):
            read = reads[kind](W_Q[h] @ W_K[h].T, W_V[1, h] @ W_O[1, h])
            made[g, h] = score(writes(W_V[0, g], W_O[0, g]), read)
        return made.T if flip else made

    return of


def chance(d_model, d_head, samples, generator, draw=torch.randn, full=False, repeat=False):
    """random_baseline with one thing changed."""

    def head():
        if full:
            return draw(d_model, d_model, generator=generator)
        writes = draw(d_model, d_head, generator=generator)
        return writes @ draw(d_head, d_model, generator=generator)

    if repeat:
        return torch.full((samples,), score(head(), head()))
    return torch.tensor([score(head(), head()) for _ in range(samples)])


def ceiling_of(a, b):
    return math.sqrt(sum(float(x * y) ** 2 for x, y in zip(a, b)))


def spectrum(A):
    """The singular values, largest first, scaled to length 1."""
    return torch.linalg.svdvals(A) / length(A)


def ceiling(A, B):
    return ceiling_of(spectrum(A), spectrum(B))


def normalised(baseline=lambda A: A.shape[-1] ** -0.5, top=ceiling, share=True):
    def of(A, B):
        low = baseline(A)
        return (score(A, B) - low) / (top(A, B) - low if share else 1)

    return of


def stack(cache, embed="hook_embed", positions=True, heads=0):
    """decompose_qk_inputs with one thing changed."""
    parts = [cache[embed]]
    if positions:
        parts.append(cache["hook_pos_embed"])
    results = cache[f"blocks.{heads}.attn.hook_result"]  # batch pos head d_model
    labels = ["embed", "positions"] + [f"0.{h}" for h in range(results.shape[2])]
    return labels, torch.stack([*parts, *results.unbind(2)])


def terms(parts, W_Q, W_K, scale=5**0.5, flip=False, diagonal=False):
    """decompose_scores with one thing changed; the scale is right for d_head 5."""
    made = torch.einsum("abid,cbjd->acbij", parts @ W_Q, parts @ W_K) / scale
    if diagonal:
        made = made * torch.eye(len(parts)).double()[:, :, None, None, None]
    return made.transpose(0, 1) if flip else made


def circuit(model, mover, looker, ov=lambda V, out: V @ out, qk=lambda Q, K: Q @ K.T, flip=False):
    """k_composition_circuit with one thing changed. W_V, W_O are taken from `mover`, W_Q, W_K from
    `looker`.
    """
    W_E, W_Q, W_K = model.W_E.detach(), model.W_Q[looker].detach(), model.W_K[looker].detach()
    moved = W_E @ ov(model.W_V[mover].detach(), model.W_O[mover].detach())
    made = W_E @ qk(W_Q, W_K) @ moved.T
    return made.T if flip else made


def run_kept(model, tokens, kept, name: str | None = None) -> Tensor:
    """The long way: patterns forced to those of the full run, every head (layer, head) not in
    `kept` really zeroed.

    Returns the logits, or the activation called `name`.
    """
    _, full = model.run_with_cache(tokens)

    def force(pattern, hook):
        return full[hook.name]

    def zero_others(z, hook):
        layer = int(hook.name.split(".")[1])
        z[:, :, [head for head in range(z.shape[2]) if (layer, head) not in kept]] = 0
        return z

    patterns = (lambda name: name.endswith("hook_pattern"), force)
    others = (lambda name: name.endswith("hook_z"), zero_others)
    logits, cache = model.run_with_cache(tokens, fwd_hooks=[patterns, others])
    return cache[name] if name else logits.detach()


def paths(model, tokens, virtual=1.0, order="gh", patterns=(0, 1), twice=False, unembed=True):
    """path_expansion with one thing changed; the paths in loops."""
    _, cache = model.run_with_cache(tokens)
    heads, stream = range(model.cfg.n_heads), cache["blocks.0.hook_resid_pre"]

    def move(layer, head, x):
        pattern = cache[f"blocks.{patterns[layer]}.attn.hook_pattern"][:, head]
        return pattern @ x @ model.W_V[layer, head].detach() @ model.W_O[layer, head].detach()

    first = [move(0, g, stream) for g in heads]
    second = [move(1, h, stream + sum(first) if twice else stream) for h in heads]
    pairs = list(product(heads, heads))
    labels = ["direct"] + [f"{layer}.{h}" for layer in (0, 1) for h in heads]
    labels += [f"0.{g}>1.{h}" for g, h in pairs]
    if order == "hg":
        pairs = [(g, h) for h, g in pairs]
    both = [virtual * move(1, h, first[g]) for g, h in pairs]
    made = torch.stack([stream, *first, *second, *both])
    return labels, made @ model.W_U.detach() if unembed else made


def importance(model, tokens, force=True, keep_replaced=False, start=0.0, rounds=None):
    """term_importance with one thing changed."""
    _, full = model.run_with_cache(tokens)
    saved = {name: start * out for name, out in full.items() if name.endswith("attn_out")}
    made = []
    for _ in range(rounds or model.cfg.n_layers + 1):
        now = {}

        def swap(out, hook, now=now, saved=saved):
            now[hook.name] = saved[hook.name] if keep_replaced else out
            return saved[hook.name]

        hooks = [(lambda name: name.endswith("attn_out"), swap)]
        if force:
            patterns = (lambda name: name.endswith("hook_pattern"), lambda x, hook: full[hook.name])
            hooks.append(patterns)
        made.append(model.run_with_hooks(tokens, hooks).detach())
        saved = now
    return torch.stack(made)


# What no behaviour can see

WRITERS, READERS = ("W_E", "W_pos", "W_O"), ("W_Q", "W_K", "W_V", "W_U")


def stretched(weights, S, writers=WRITERS, readers=READERS, undo=torch.linalg.inv):
    """stretch_stream with one thing changed."""
    made = dict(weights)
    for name in writers:
        made[name] = weights[name] @ S
    for name in readers:
        made[name] = undo(S) @ weights[name]
    return made


def inputs(model):
    """All that the stream can hold before layer 0, one row each."""
    if model.cfg.positional_embedding_type == "shortformer":
        return model.W_E.detach()
    return tokens_at_places(model)


def tokens_at_places(model):
    """W_E[t] + W_pos[p] for all t and p: [input, d_model]."""
    return (model.W_E.detach()[:, None] + model.W_pos.detach()).flatten(0, 1)


@torch.no_grad()
def really_moved(model, kind, g, h):
    """The long way, for all pairs of inputs: head 0.g writes what it moves from an input, no other
    head of layer 0 writes anything. What this changes in the scores of head 1.h, or in what it adds
    to the logits: [pair], or [pair, output].
    """
    model = deepcopy(model)
    x = inputs(model)
    if model.cfg.positional_embedding_type == "shortformer":
        model.W_pos.zero_()
    asks, answers = x.repeat_interleave(len(x), 0), x.repeat(len(x), 1)
    source, where = (answers, 0) if kind == "K" else (asks, 1)
    moved = source @ model.W_V[0, g] @ model.W_O[0, g]

    def run(strength):
        def write(result, hook):
            result.zero_()
            result[:, where, g] = strength * moved
            return result

        start = ("blocks.0.hook_resid_pre", lambda x, hook: torch.stack([answers, asks], dim=1))
        tokens = torch.zeros(len(asks), 2, dtype=torch.long)
        hooks = [start, ("blocks.0.attn.hook_result", write)]
        if kind == "V":  # the second position looks at itself only
            itself = torch.eye(2, dtype=x.dtype)
            hooks.append(("blocks.1.attn.hook_pattern", lambda p, hook: itself.expand_as(p)))
        return model.run_with_cache(tokens, fwd_hooks=hooks)[1]

    with_it, without = run(1.0), run(0.0)
    if kind == "V":
        name = "blocks.1.attn.hook_result"
        return (with_it[name] - without[name])[:, 1, h] @ model.W_U
    name = "blocks.1.attn.hook_attn_scores"
    return (with_it[name] - without[name])[:, h, 1, 0]


def root_mean_square(x):
    return math.sqrt((x * x).sum().item() / x.numel())


def token_space_by_running(model, kind):
    heads = range(model.cfg.n_heads)
    made = torch.zeros(len(heads), len(heads), dtype=model.W_E.dtype)
    for g, h in product(heads, heads):
        moved = really_moved(model, kind, g, h)
        if kind == "V":
            moved = moved - moved.mean(dim=-1, keepdim=True)
        made[g, h] = root_mean_square(moved)
    return made


def token_space(
    model,
    kind,
    size=root_mean_square,
    scale=True,
    centre=-1,
    moves=lambda V, out: V @ out,
    x_of=inputs,
    unembed=True,
    flip=False,
):
    """token_space_composition from the weights, with one thing changed. x_of: what x runs over."""
    heads, x = range(model.cfg.n_heads), x_of(model)
    W_Q, W_K = model.W_Q.detach(), model.W_K.detach()
    W_V, W_O = model.W_V.detach(), model.W_O.detach()
    made = torch.zeros(len(heads), len(heads), dtype=x.dtype)
    for g, h in product(heads, heads):
        moved = x @ moves(W_V[0, g], W_O[0, g])
        if kind == "V":
            table = moved @ W_V[1, h] @ W_O[1, h]
            if unembed:
                table = table @ model.W_U.detach()
            if centre is not None:
                table = table - table.mean(dim=centre, keepdim=True)
        else:
            asks, answers = (moved, x) if kind == "Q" else (x, moved)
            table = asks @ W_Q[1, h] @ (answers @ W_K[1, h]).T
            if scale:
                table = table / model.cfg.d_head**0.5
        made[g, h] = size(table)
    return made.T if flip else made
