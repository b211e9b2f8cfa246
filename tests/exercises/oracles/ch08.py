"""Chapter 8 the slow way: what its checks compare with, and the usual mistakes, as variants with
one thing changed.
"""

import math
from functools import partial

import torch
from torch import Tensor


def length(x):
    """The Frobenius norm: the root of the sum of all squares."""
    return math.sqrt(float((x * x).sum()))


def largest(x):
    return torch.linalg.svdvals(x)[0]


def score(A, B):
    """The definition, apart from the code under test; nan for zero."""
    below = length(A) * length(B)
    return length(A @ B) / below if below else math.nan


def table(reads, writes=lambda V, out: V @ out, score=score, flip=False):
    """composition_table by loops, with one thing changed. reads: kind -> what the layer-1 head
    reads with.
    """

    def of(model, kind):
        W_Q, W_K, W_V, W_O = (w.detach() for w in (model.W_Q, model.W_K, model.W_V, model.W_O))
        heads = range(model.cfg.n_heads)
        parts = [(W_Q[1, h] @ W_K[1, h].T, W_V[1, h] @ W_O[1, h]) for h in heads]
        made = [
            [score(writes(W_V[0, g], W_O[0, g]), reads[kind](*parts[h])) for h in heads]
            for g in heads
        ]
        made = torch.tensor(made, dtype=W_Q.dtype)
        return made.T if flip else made

    return of


RIGHT = {"Q": lambda QK, OV: QK, "K": lambda QK, OV: QK.T, "V": lambda QK, OV: OV}


def cyclic(A_and_factors, B):
    W_V, W_O = A_and_factors
    return length(W_O @ B @ W_V) / (length(W_V @ W_O) * length(B))


TABLE_MISTAKES = {
    "for K, W_QK must be transposed: the key is what stands on its right": table(
        {**RIGHT, "K": RIGHT["Q"]}
    ),
    "for Q, W_QK must not be transposed: the query stands on its left": table(
        {**RIGHT, "Q": RIGHT["K"]}
    ),
    "Q and K are exchanged": table({**RIGHT, "Q": RIGHT["K"], "K": RIGHT["Q"]}),
    "W_OV of the layer-1 head is transposed": table({**RIGHT, "V": lambda QK, OV: OV.T}),
    "W_OV of the layer-0 head is transposed": table(RIGHT, lambda V, out: (V @ out).T),
    "the order is reversed: the layer-0 head comes first": table(
        RIGHT, score=lambda A, B: score(B, A)
    ),
    "the factors were moved around the circle; a trace allows that, the Frobenius norm does not": (
        table(RIGHT, lambda V, out: (V, out), cyclic)
    ),
    "V must use W_OV of the layer-1 head, not its W_QK": table({**RIGHT, "V": RIGHT["Q"]}),
}
FLIPPED = {"rows and columns are exchanged: a row is a head of layer 0": table(RIGHT, flip=True)}


def chance(d_model, d_head, samples, generator, draw=torch.randn, full=False, repeat=False):
    """random_baseline with one thing changed."""

    def head():
        if full:
            return draw(d_model, d_model, generator=generator)
        return draw(d_model, d_head, generator=generator) @ draw(
            d_head, d_model, generator=generator
        )

    values = [score(head(), head()) for _ in range(1 if repeat else samples)]
    return torch.tensor(values * (samples if repeat else 1))


def ceiling_of(a, b):
    return math.sqrt(sum(float(x * y) ** 2 for x, y in zip(a, b)))


def spectra(A, B):
    """The singular values of A and of B, largest first, each list scaled to length 1."""
    return torch.linalg.svdvals(A) / length(A), torch.linalg.svdvals(B) / length(B)


def ceiling(A, B):
    return ceiling_of(*spectra(A, B))


def eigenvalues(A):
    return torch.linalg.eigvals(A).abs().sort(descending=True).values / length(A)


def normalised(baseline=lambda A: A.shape[-1] ** -0.5, top=ceiling, share=True):
    def of(A, B):
        low = baseline(A)
        return (score(A, B) - low) / (top(A, B) - low if share else 1)

    return of


def stack(cache, embed="hook_embed", positions=1, heads=0):
    """decompose_qk_inputs with one thing changed."""
    first = [cache[embed]] + [cache["hook_pos_embed"]] * positions
    results = cache[f"blocks.{heads}.attn.hook_result"]  # batch pos head d_model
    labels = ["embed", "positions", *(f"0.{h}" for h in range(results.shape[2]))]
    return labels, torch.stack([*first, *results.unbind(2)])


def terms(parts, W_Q, W_K, scale=5**0.5, flip=False, diagonal=False):
    """decompose_scores with one thing changed; the scale is right for d_head 5."""
    made = torch.einsum("abid,cbjd->acbij", parts @ W_Q, parts @ W_K) / scale
    made = made * torch.eye(len(parts)).double()[:, :, None, None, None] if diagonal else made
    return made.transpose(0, 1) if flip else made


def circuit(model, mover, looker, ov=lambda V, out: V @ out, qk=lambda Q, K: Q @ K.T, flip=False):
    """k_composition_circuit with one thing changed. W_V, W_O are taken from `mover`, W_Q, W_K from
    `looker`.
    """
    W_E, V, out = (w.detach() for w in (model.W_E, model.W_V[mover], model.W_O[mover]))
    made = W_E @ qk(model.W_Q[looker].detach(), model.W_K[looker].detach()) @ (W_E @ ov(V, out)).T
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

    hooks = [
        (lambda n: n.endswith("hook_pattern"), force),
        (lambda n: n.endswith("hook_z"), zero_others),
    ]
    logits, cache = model.run_with_cache(tokens, fwd_hooks=hooks)
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
    pairs = (
        [(g, h) for g in heads for h in heads]
        if order == "gh"
        else [(g, h) for h in heads for g in heads]
    )
    both = [virtual * move(1, h, first[g]) for g, h in pairs]
    labels = ["direct", *(f"{layer}.{h}" for layer in (0, 1) for h in heads)]
    labels += [f"0.{g}>1.{h}" for g in heads for h in heads]
    terms_ = torch.stack([stream, *first, *second, *both])
    return labels, terms_ @ model.W_U.detach() if unembed else terms_


PATH_MISTAKES = {
    "the virtual heads are missing: layer 1 also moves what layer 0 wrote": partial(
        paths, virtual=0.0
    ),
    "the virtual heads are in another order than their labels": partial(paths, order="hg"),
    "the patterns of the two layers are exchanged": partial(paths, patterns=(1, 0)),
    "layer 1 reads the whole stream, so the virtual heads are counted twice": partial(
        paths, twice=True
    ),
    "the paths were not unembedded": partial(paths, unembed=False),
}


def importance(model, tokens, force=True, keep_replaced=False, start=0.0, rounds=None):
    """term_importance with one thing changed."""
    _, full = model.run_with_cache(tokens)
    saved, made = {name: start * out for name, out in full.items() if name.endswith("attn_out")}, []
    for _ in range(rounds or model.cfg.n_layers + 1):
        now = {}

        def swap(out, hook, now=now, saved=saved):
            now[hook.name] = saved[hook.name] if keep_replaced else out
            return saved[hook.name]

        hooks = [(lambda n: n.endswith("attn_out"), swap)]
        hooks += [
            (lambda n: n.endswith("hook_pattern"), lambda pattern, hook: full[hook.name])
        ] * force
        made.append(model.run_with_hooks(tokens, hooks).detach())
        saved = now
    return torch.stack(made)
