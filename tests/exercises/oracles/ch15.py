"""What the checks of chapters 15 and 17 run: a small model with MLPs and LayerNorm, place by place.
The oracles of effects are in ch15_effects.py, those of probes and lenses in ch15_readouts.py.
"""

import torch

from tests.exercises.checking import expect
from tests.material import seeded, small_model

SMALL = small_model(n_heads=2, d_model=8, d_head=4, n_ctx=6, layer_norm=True, d_mlp=6)
SMALL.requires_grad_(False)
draw = seeded(4)
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
LONGER = torch.randint(11, (6, 6), generator=draw)
_, other = SMALL.run_with_cache(torch.randint(11, (9, 5), generator=draw))
LONGER_MEANS = {name: other[name].mean(dim=0, keepdim=True) for name in MEANS}


def last_logits(model, tokens, replaced):
    """The last logits if some places hold given values.

    replaced: [((name, index), values [batch, ...]), ...].
    """
    hooks = []
    for (name, index), values in replaced:

        def put(activation, hook, index=index, values=values):
            activation[(EVERY, *index)] = values
            return activation

        hooks.append((name, put))
    return model.run_with_hooks(tokens, hooks)[:, -1]


def patched(model, tokens, donors, cells, end=-1, base=None, chosen=lambda cells, at: cells[at]):
    """patched_answers, one run for each cell. chosen: what is patched in the run of a cell."""
    prompts, base = tokens[:, :end], tokens if base is None else base
    _, saved = model.run_with_cache(donors[:, :end])
    after = []
    for at in range(len(cells)):
        pairs = [(place, saved[place[0]][(EVERY, *place[1])]) for place in chosen(cells, at)]
        after.append(last_logits(model, prompts, pairs))
    return model(base[:, :end])[:, -1], torch.stack(after)


def means_over(dim, keepdim=True, scale=1.0, read=None):
    """mean_cache, over whichever axes; read: how many positions the model reads."""

    def answer(model, tokens, names):
        _, cache = model.run_with_cache(tokens[:, :read])
        return {name: scale * cache[name].mean(dim=dim, keepdim=keepdim) for name in names}

    return answer


def share_of_right(logits, right):
    """The probability of the right answer: no symmetric metric, so the order of averages counts."""
    return logits.softmax(dim=-1)[..., torch.arange(len(right)), right]


def share_explained(circuit, model, nothing):
    return (circuit - nothing) / (model - nothing)


def all_places(model, n_read):
    """What a circuit is chosen from: PLACES, for a prompt of another length."""
    places, last = [], model.cfg.n_layers - 1
    for layer in range(model.cfg.n_layers):
        for pos in range(n_read):
            if layer < last or pos == n_read - 1:
                places.append((f"blocks.{layer}.hook_mlp_out", (pos,)))
                for head in range(model.cfg.n_heads):
                    places.append((f"blocks.{layer}.attn.hook_z", (pos, head)))
    return places


def mean_scores(metric, logits, right):
    return metric(logits, right).mean()


def faithful(
    model,
    tokens,
    circuits,
    means,
    metric=share_of_right,
    formula=share_explained,
    invert=False,
    scale=1.0,
    score_of=mean_scores,
    refuses=True,
    length=None,
):
    """F, one run for each circuit. scale: of the means; length: of the prompts whose places count,
    if it is not that of the tokens.
    """
    prompts, right = tokens[:, :-1], tokens[:, -1]
    places = all_places(model, length or prompts.shape[1])

    def score(circuit):
        outside = [place for place in places if (place in circuit) == invert]
        put = [((name, index), scale * means[name][0][index]) for name, index in outside]
        return score_of(metric, last_logits(model, prompts, put), right)

    whole, nothing = score(places), score([])
    if invert:
        whole, nothing = nothing, whole
    if refuses and whole.mean() <= nothing.mean():
        raise ValueError("no better than nothing")
    return torch.stack([formula(score(circuit), whole, nothing).mean() for circuit in circuits])


def metric_for(tokens, means, better=True):
    """A metric by which the whole model is the better one, or the worse one."""
    right, prompts = tokens[:, -1], tokens[:, :-1]
    put = [(place, means[place[0]][0][place[1]]) for place in all_places(SMALL, prompts.shape[1])]
    whole = share_of_right(last_logits(SMALL, prompts, []), right).mean()
    nothing = share_of_right(last_logits(SMALL, prompts, put), right).mean()
    sign = 1 if (whole > nothing) == better else -1
    return lambda logits, right: sign * share_of_right(logits, right)


def metric_of_longer():
    """A metric by which the whole model is better than LONGER_MEANS at all places, and better than
    these at the places of four positions.
    """
    prompts, gained = LONGER[:, :-1], 0
    whole = last_logits(SMALL, prompts, []).softmax(dim=-1)
    for length in (4, 5):
        places = all_places(SMALL, length)
        put = [((name, index), LONGER_MEANS[name][0][index]) for name, index in places]
        difference = whole - last_logits(SMALL, prompts, put).softmax(dim=-1)
        gained = gained + difference / difference.norm()  # of equal length: both are positive
    return lambda logits, right: (logits.softmax(dim=-1) * gained).sum(dim=-1)


def faithfulness_of(arithmetic_faithfulness, model, tokens, circuits, means, metric):
    """What it returns for a model that does better than nothing."""
    asked = []

    def noted(logits, right):
        asked.append(len(logits))
        return metric(logits, right)

    try:
        return arithmetic_faithfulness(model, tokens, circuits, means, noted)
    except Exception as error:
        refused = str(error).startswith("ValueError") and "which is given" not in str(error)
        expect(asked or not refused, "the metric that is given was not used")
        sentence = "a model that does better than nothing was refused: are the circuit's places set"
        expect(not refused, f"{sentence} to their means, and not those outside?")
        raise


def ratio(logits, right, centre=True, top=max, base=lambda x: sum(x) / len(x)):
    """normalised_logit, row by row."""
    values = []
    for i, row in enumerate(logits.reshape(-1, 11)):
        row = row - base(row) if centre else row
        row = row.tolist()
        values.append(row[right[i % len(right)]] / top(row))
    return torch.tensor(values, dtype=torch.float64).reshape(logits.shape[:-1])
