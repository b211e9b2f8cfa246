"""Chapter 8 the slow way, second half: parts of the stream, terms of a score, paths through a
model. Options that change one thing make the usual mistakes, which ch08_path_mistakes.py names.
"""

import functools
from itertools import product

import torch
from torch import Tensor

from tests.exercises.checking import expect
from tests.exercises.oracles.ch08 import moves


def labelled(result, labels: list[str], axes: str, shape: list[int]) -> Tensor:
    """The tensor of a pair (labels, tensor), if the labels and the shape are the right ones."""
    pair = tuple(type(part).__name__ for part in result) if isinstance(result, tuple) else None
    found = f"a tuple ({', '.join(pair)})" if pair else type(result).__name__
    right = pair is not None and len(pair) == 2 and isinstance(result[1], Tensor)
    expect(right, f"expected a pair, first the list of labels, then one tensor; got {found}")
    names, tensor = list(result[0]), result[1]
    expect(
        names == labels, f"labels: expected {', '.join(labels)}; got {', '.join(map(str, names))}"
    )
    same = list(tensor.shape) == shape
    expect(same, f"expected the shape [{axes}] = {shape}, got {list(tensor.shape)}")
    return tensor


def stack(cache, embed="hook_embed", positions=True, heads=0, order=None):
    """decompose_qk_inputs with one thing changed. order: in which the first two parts stand."""
    parts = [cache[embed]]
    if positions:
        parts.append(cache["hook_pos_embed"])
    results = cache[f"blocks.{heads}.attn.hook_result"]  # batch pos head d_model
    labels = ["embed", "positions"] + [f"0.{h}" for h in range(results.shape[2])]
    return labels, torch.stack([*parts[::order], *results.unbind(2)])


def terms(parts, W_Q, W_K, scale=lambda W: W.shape[1] ** 0.5, flip=False, to="acbij"):
    """decompose_scores with one thing changed."""
    made = torch.einsum(f"abid,cbjd->{to}", parts @ W_Q, parts @ W_K) / scale(W_Q)
    return made.transpose(0, 1) if flip else made


def circuit(model, mover, looker, moved=moves, qk=lambda Q, K: Q @ K.T, asks=None, flip=False):
    """k_composition_circuit with one thing changed. W_V, W_O are taken from `mover`, W_Q, W_K from
    `looker`; asks: the model -> what the query is made from.
    """
    W_E, W_Q, W_K = model.W_E.detach(), model.W_Q[looker].detach(), model.W_K[looker].detach()
    made = (asks(model) if asks else W_E) @ qk(W_Q, W_K) @ (W_E @ moved(model, mover)).T
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


def paths(
    model,
    tokens,
    order="gh",
    patterns=(0, 1),
    reads=lambda stream, first: stream,
    carries=lambda stream, written: written,
    weights=1,
    start=lambda cache: cache["blocks.0.hook_resid_pre"],
    direct=None,
    pattern_of=lambda head: head,
    layers=(0, 1),
    unembed=True,
):
    """path_expansion with one thing changed; the paths in loops. reads, carries: what layer 1 reads
    alone, and behind a head of layer 0. weights: the layer whose values the virtual heads use.
    """
    _, cache = model.run_with_cache(tokens)
    heads, stream = range(model.cfg.n_heads), start(cache)

    def move(layer, head, x, values=None):
        pattern = cache[f"blocks.{patterns[layer]}.attn.hook_pattern"][:, pattern_of(head)]
        return pattern @ x @ moves(model, (layer if values is None else values, head))

    first = [move(0, g, stream) for g in heads]
    second = [move(1, h, reads(stream, sum(first))) for h in heads]
    pairs = list(product(heads, heads))
    labels = ["direct"] + [f"{layer}.{h}" for layer in (0, 1) for h in heads]
    labels += [f"0.{g}>1.{h}" for g, h in pairs]
    if order == "hg":
        pairs = [(g, h) for h, g in pairs]
    both = [move(1, h, carries(stream, first[g]), weights) for g, h in pairs]
    alone = {0: first, 1: second}
    whole = cache[direct] if direct else stream
    made = torch.stack([whole, *alone[layers[0]], *alone[layers[1]], *both])
    return labels, made @ model.W_U.detach() if unembed else made


@functools.cache
def rounds(model, tokens) -> Tensor:
    """term_importance without listing anything: with fixed patterns the logits are a polynomial in
    a factor on what every head writes, and its term of degree n has the paths of n heads.
    """
    _, full = model.run_with_cache(tokens)
    forced = (lambda name: name.endswith("hook_pattern"), lambda x, hook: full[hook.name])
    factors = torch.arange(model.cfg.n_layers + 1).double() / 2
    made = []
    for factor in factors:
        weaker = (lambda name: name.endswith("attn_out"), lambda out, hook, f=factor: f * out)
        made.append(model.run_with_hooks(tokens, [forced, weaker]).detach())
    powers = torch.linalg.inv(torch.vander(factors, increasing=True))
    degrees = torch.einsum("nf,fbpv->nbpv", powers, torch.stack(made))
    return degrees.cumsum(dim=0)


def importance(
    model,
    tokens,
    pattern=lambda full, name: full[name],
    keep_replaced=False,
    start=0.0,
    layers=slice(None),
    more=1,
    rounds=None,
    added=False,
):
    """term_importance with one thing changed. pattern: what a pattern is forced to, None leaves it.
    layers: which are replaced. more: how many rounds more than layers. added: rounds add up.
    """
    _, full = model.run_with_cache(tokens)
    names = [f"blocks.{layer}.hook_attn_out" for layer in range(model.cfg.n_layers)][layers]
    saved = {name: start * full[name] for name in names}
    made = []
    for _ in range(rounds or model.cfg.n_layers + more):
        now = {}

        def swap(out, hook, now=now, saved=saved):
            now[hook.name] = saved[hook.name] if keep_replaced else out
            return saved[hook.name]

        hooks = [(name, swap) for name in names]
        forced = (lambda name: name.endswith("hook_pattern"), lambda x, at: pattern(full, at.name))
        made.append(model.run_with_hooks(tokens, [*hooks, forced]).detach())
        saved = {name: out + added * saved[name] for name, out in now.items()}
    return torch.stack(made)


def layers_cut(model, tokens):
    """A wrong term_importance: in round n the layers from n on write nothing."""
    _, full = model.run_with_cache(tokens)
    forced = (lambda name: name.endswith("hook_pattern"), lambda x, hook: full[hook.name])
    made = []
    for n in range(model.cfg.n_layers + 1):
        silent = [f"blocks.{layer}.hook_attn_out" for layer in range(n, model.cfg.n_layers)]
        hooks = [(name, lambda out, hook: 0 * out) for name in silent]
        made.append(model.run_with_hooks(tokens, [forced, *hooks]).detach())
    return torch.stack(made)
