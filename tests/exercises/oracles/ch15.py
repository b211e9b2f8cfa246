"""What the checks of chapters 15 and 17 run: a small model with MLPs and LayerNorm, place by place.
The oracles of effects are in ch15_effects.py, those of probes and lenses in ch15_readouts.py.
"""

import functools

import torch

from tests.material import small_model

SMALL = small_model(n_heads=2, d_model=8, d_head=4, n_ctx=5, layer_norm=True, d_mlp=6)
SMALL.requires_grad_(False)
draw = torch.Generator().manual_seed(4)
for name, parameter in SMALL.named_parameters():
    # so that every LayerNorm and bias does something
    if name.endswith(("_w", "_b")) or name.startswith("b_"):
        parameter += 0.3 * torch.randn(parameter.shape, generator=draw)
for name in ("W_O", "W_out", "W_U"):
    SMALL.get_parameter(name).mul_(2)
TOKENS = torch.randint(11, (6, 5), generator=draw)
DONORS = torch.randint(11, (6, 5), generator=draw)
EVERY = slice(None)

PLACES = [
    *[("blocks.0.attn.hook_z", (pos, head)) for pos in range(4) for head in range(2)],
    *[("blocks.0.hook_mlp_out", (pos,)) for pos in range(4)],
    *[("blocks.1.attn.hook_z", (3, head)) for head in range(2)],
    ("blocks.1.hook_mlp_out", (3,)),
]
CIRCUITS = [PLACES[2:9], PLACES, [], [PLACES[-1], PLACES[11], PLACES[3]], PLACES[:12]]
_, other = SMALL.run_with_cache(torch.randint(11, (9, 4), generator=draw))
MEANS = {name: other[name].mean(dim=0, keepdim=True) for name in {name for name, _ in PLACES}}


def last_logits(tokens, replaced):
    """The last logits if some places hold given values.

    replaced: [((name, index), values [batch, ...]), ...].
    """
    hooks = []
    for (name, index), values in replaced:

        def put(activation, hook, index=index, values=values):
            activation[(EVERY, *index)] = values
            return activation

        hooks.append((name, put))
    return SMALL.run_with_hooks(tokens, hooks)[:, -1]


def patched(model, tokens, donors, cells, end=-1, base=None, first_only=False):
    """patched_answers, one run for each cell."""
    prompts, base = tokens[:, :end], tokens if base is None else base
    _, saved = SMALL.run_with_cache(donors[:, :end])
    after = []
    for cell in cells:
        chosen = cell[:1] if first_only else cell
        put = [((name, index), saved[name][(EVERY, *index)]) for name, index in chosen]
        after.append(last_logits(prompts, put))
    return SMALL(base[:, :end])[:, -1], torch.stack(after)


def means_over(dim, keepdim=True, scale=1.0):
    """mean_cache, over whichever axes."""

    def answer(model, tokens, names):
        _, cache = SMALL.run_with_cache(tokens, names)
        return {name: scale * cache[name].mean(dim=dim, keepdim=keepdim) for name in names}

    return answer


def not_averaged(model, tokens, names):
    _, cache = SMALL.run_with_cache(tokens)
    return {name: cache[name] for name in names}


def distance(logits, right):
    """A metric that is not symmetric between prompts, so that the order of averages matters."""
    return logits.softmax(dim=-1)[..., torch.arange(len(right)), right]


@functools.cache
def ablated(outside, zero):
    """The last logits with these places at their means, or at 0."""
    factor = 0 if zero else 1
    put = [((name, index), factor * MEANS[name][0][index]) for name, index in outside]
    return last_logits(TOKENS[:, :-1], put)


def share_explained(circuit, model, nothing):
    return (circuit - nothing) / (model - nothing)


def faithful(
    model,
    tokens,
    circuits,
    means,
    metric=distance,
    formula=share_explained,
    invert=False,
    zero=False,
):
    """F, one run for each circuit."""

    def score(circuit):
        outside = tuple(place for place in PLACES if (place in circuit) == invert)
        return metric(ablated(outside, zero), tokens[:, -1]).mean()

    whole, nothing = score(PLACES), score([])
    if invert:
        whole, nothing = nothing, whole
    return torch.stack([formula(score(circuit), whole, nothing) for circuit in circuits])


def turned_distance(logits, right):
    """A metric by which the whole model is the worse one: everything at its mean scores more."""
    sign = -1 if faithful_ends()[0] > faithful_ends()[1] else 1
    return sign * distance(logits, right)


@functools.cache
def faithful_ends():
    """What the model scores, and what nothing scores."""
    right = TOKENS[:, -1]
    whole = distance(ablated((), False), right).mean().item()
    return whole, distance(ablated(tuple(PLACES), False), right).mean().item()


def unless_equal(model, tokens, circuits, means, metric=distance):
    """Refuses only a model that is exactly as good as nothing."""
    F = faithful(model, tokens, circuits, means, metric)
    if not F.isfinite().all():
        raise ValueError("the same as nothing")
    return F


def circuits_as_cells(model, tokens, circuits, means, metric=distance):
    """The ends of the scale are right, but the circuits themselves are set to their means."""

    def exchanged(circuit, model, nothing):
        return share_explained(circuit, nothing, model)

    options = {"invert": True, "formula": exchanged}
    return faithful(model, tokens, circuits, means, metric, **options)


def ratio(logits, right, centre=True, top=max, base=lambda x: sum(x) / len(x)):
    """normalised_logit, row by row."""
    values = []
    for i, row in enumerate(logits.reshape(-1, 11)):
        row = row - base(row) if centre else row
        row = row.tolist()
        values.append(row[right[i % len(right)]] / top(row))
    return torch.tensor(values, dtype=torch.float64).reshape(logits.shape[:-1])


def ratio_of_small(logits, right):
    centred = logits - logits.mean(dim=-1, keepdim=True)
    return centred[torch.arange(len(right)), right] / centred.amax(dim=-1)
