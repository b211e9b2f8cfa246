"""Chapter 8 the slow way: what its checks compare with. Options that change one thing make the
usual mistakes, which ch08_mistakes.py names. Scores and gauges; all that needs a run of a model is
in ch08_paths.py.
"""

import functools
import math
from copy import deepcopy
from itertools import product

import torch

from minitransformer.planted import induction_spaces
from tests.material import seeded


def length(x):
    """The Frobenius norm: the root of the sum of all squares."""
    return math.sqrt(float((x * x).sum()))


def score(A, B):
    """The definition, apart from the code under test; nan for zero."""
    below = length(A) * length(B)
    return length(A @ B) / below if below else math.nan


RIGHT = {"Q": lambda QK, OV: QK, "K": lambda QK, OV: QK.T, "V": lambda QK, OV: OV}


def table(reads=RIGHT, writes=None, layers=(0, 1), score=score, flip=False):
    """composition_table by loops, with one thing changed. reads: kind -> what the later head reads
    with. writes: what the earlier head (layer, head) of a model writes. layers: who comes first.
    """

    @torch.no_grad()
    def of(model, kind):
        early, late = layers
        heads = range(model.cfg.n_heads)
        made = torch.zeros(len(heads), len(heads), dtype=model.W_Q.dtype)
        for g, h in product(heads, heads):
            QK = model.W_Q[late, h] @ model.W_K[late, h].T
            read = reads[kind](QK, model.W_V[late, h] @ model.W_O[late, h])
            made[g, h] = score((writes or moves)(model, (early, g)), read)
        return made.T if flip else made

    return of


def moves(model, at):
    """W_OV of the head (layer, head)."""
    return (model.W_V[at] @ model.W_O[at]).detach()


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


def drawn_factors(random_baseline, d_model, d_head, samples):
    """How many thin factors, of d_model * d_head numbers each, random_baseline takes from its
    generator. In float64 a number takes twice as much from it.
    """
    used, counted = torch.Generator().manual_seed(5), torch.Generator().manual_seed(5)
    random_baseline.function(d_model, d_head, samples, used)
    for count in range(16 * samples):
        if torch.equal(used.get_state(), counted.get_state()):
            return count
        torch.randn(d_model * d_head, generator=counted)
    return math.inf


def ceiling_of(a, b):
    return math.sqrt(sum(float(x * y) ** 2 for x, y in zip(a, b)))


def spectrum(A):
    """The singular values, largest first, scaled to length 1."""
    return torch.linalg.svdvals(A) / length(A)


def ceiling(A, B):
    return ceiling_of(spectrum(A), spectrum(B))


def normalised(baseline=lambda A, B: A.shape[-1] ** -0.5, top=ceiling, share=True):
    def of(A, B):
        low = baseline(A, B)
        return (score(A, B) - low) / (top(A, B) - low if share else 1)

    return of


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


@functools.cache  # a check asks once for each mistake
def token_space_by_running(model, kind):
    heads = range(model.cfg.n_heads)
    made = torch.zeros(len(heads), len(heads), dtype=model.W_E.dtype)
    for g, h in product(heads, heads):
        moved = really_moved(model, kind, g, h)
        if kind != "V":  # [pair]: the key of a pair is the inner one
            moved = moved.unflatten(0, (-1, len(inputs(model))))
        made[g, h] = root_mean_square(moved - moved.mean(dim=-1, keepdim=True))
    return made


def centred(made, kind, axis=-1):
    """Less the mean over the keys or the output tokens, whatever the kind."""
    return made - made.mean(dim=axis, keepdim=True)


def token_space(
    model,
    kind,
    size=root_mean_square,
    scale=lambda cfg, kind: 1.0 if kind == "V" else cfg.d_head**-0.5,
    centre=centred,
    moved=lambda model, g, x: x @ moves(model, (0, g)),
    last=lambda model, h: moves(model, (1, h)),
    late=1,
    x_of=inputs,
    both="",
    unembed=True,
    flip=False,
):
    """token_space_composition from the weights, with one thing changed. x_of: what x runs over."""
    heads, x = range(model.cfg.n_heads), x_of(model)
    W_Q, W_K = model.W_Q[late].detach(), model.W_K[late].detach()
    made = torch.zeros(len(heads), len(heads), dtype=x.dtype)
    for g, h in product(heads, heads):
        carried = moved(model, g, x)
        if kind == "V":
            table = carried @ last(model, h)
            table = table @ model.W_U.detach() if unembed else table
        else:
            asks, answers = (carried, x) if kind == "Q" else (x, carried)
            if kind in both:
                asks = answers = carried
            table = asks @ W_Q[h] @ (answers @ W_K[h]).T
        made[g, h] = size(centre(table * scale(model.cfg, kind), kind))
    return made.T if flip else made


@torch.no_grad()
def constant_writer(model, size):
    """A copy of planted.induction_model with a second head in layer 0, in which that idle head
    writes one and the same vector into the keys, wherever it looks: no logit and no pattern moves.
    """
    model, space = deepcopy(model), induction_spaces(model.cfg.d_vocab, model.cfg.n_ctx)
    generator = seeded(5)
    constant = size * torch.randn(model.cfg.d_vocab, generator=generator).to(model.W_O)
    model.W_V[0, 1, :, 0] = space.token.sum(dim=1)  # reads 1 from every token
    model.W_O[0, 1, 0] = constant @ space.previous.T.to(model.W_O)
    return model
