"""The slow oracles of chapter 13: circuits run layer by layer with every replaced output worked
out, metrics in loops, gradients by small steps.
"""

import functools

import torch

from minitransformer import ModelConfig, Transformer, planted
from minitransformer.data import Repeats, repeated_tokens
from tests.exercises.oracles.ch09 import exact_loss, instead, replaced, silenced
from tests.exercises.oracles.watched import Watched
from tests.material import seeded

KINDS = ("zero", "mean", "mean per position", "resample")


def random_model(n_layers, seed):
    """Weights drawn here, as large as they must be for every head to matter."""
    sizes = {"n_heads": 2, "d_model": 11, "d_head": 5, "d_vocab": 13, "n_ctx": 10}
    model, generator = Transformer(ModelConfig(n_layers, **sizes)).double(), seeded(seed)
    scales = {"W_Q": 0.5, "W_K": 0.5, "W_V": 0.4, "W_O": 0.6, "W_U": 0.5}
    for name, weights in model.requires_grad_(False).named_parameters():
        weights.copy_(scales.get(name, 1.0) * torch.randn(weights.shape, generator=generator))
    return model


def half_expected(model, batch, generator):
    """Sequences of which the model expects every second token, so that there is something that it
    does. Of the positions before these some count, more in some sequences than in others.
    """
    cfg = model.cfg
    tokens = torch.randint(1, cfg.d_vocab, (batch, cfg.n_ctx), generator=generator)
    tokens[:, 0] = 0
    for p in range(2, cfg.n_ctx, 2):
        tokens[:, p] = model(tokens[:, :p])[:, -1].argmax(dim=-1)
    often = torch.linspace(0.4, 0.9, batch)[:, None]
    counts = torch.rand(batch, cfg.n_ctx, generator=generator) < often
    counts[:, 0:-1:2] = False
    return Repeats(tokens, counts, torch.zeros(batch).long(), torch.full((batch,), 2))


SMALL = random_model(3, seed=0)
REPEATS = half_expected(SMALL, 7, seeded(1))
WATCHED = Watched.like(SMALL)
PLANTED = repeated_tokens(6, 16, 20, (3, 6), seeded(2))
TWINS = planted.duplicated_heads_model(2).double().requires_grad_(False)
AGAINST = planted.negative_head_model(s=16.0, negative=6.0).double().requires_grad_(False)
CANCELLING = planted.induction_model(strengths=(1.0, 1.5)).double().requires_grad_(False)
CANCELLING.W_O[1, 1, :20] *= torch.where(torch.arange(20) % 2 == 0, 1.0, -0.9)[:, None]
MANY = repeated_tokens(40, 16, 20, (3, 6), seeded(5))
CIRCUITS = [[(0, 0), (1, 0)], [(0, 1), (1, 0), (2, 1)], [(1, 1)], [], [(0, 1), (1, 1), (2, 0)]]


def heads(model):
    return [(layer, head) for layer in range(model.cfg.n_layers) for head in range(2)]


def without(circuit, lost):
    """The list `circuit` without the heads in `lost`."""
    return [head for head in circuit if head not in lost]


KNOWN = {}  # what circuits gave: the same few are run again and again


def logits_of(model, tokens, kept, kind="mean", live=False):
    """The model with only the heads in `kept`. live: the others get what the ablated run gives."""
    lost = without(heads(model), kept)

    def find():
        if model.cfg.d_mlp:  # the gates, which are only tried with heads that are zeroed
            return silenced(model, lost)(tokens)
        return replaced(model, tokens, lost, kind, live=live)

    key = (model, tuple(tokens.flatten().tolist()), frozenset(kept), kind, live)
    return once(key, find).clone()


def once(key, find):
    """What find() gives, found once for each key."""
    if key not in KNOWN:
        KNOWN[key] = find()
    return KNOWN[key]


def score(model, repeats, kept, metric, kind="mean"):
    key = (model, tuple(repeats.tokens.flatten().tolist()), frozenset(kept), kind, metric)
    return once(key, lambda: metric(logits_of(model, repeats.tokens, kept, kind), repeats))


def plain_share(c, whole, none):
    return (c - none) / (whole - none)


def share(
    model, repeats, circuits, metric, kind="mean", formula=plain_share, none_by=None, refuse=True
):
    """faithfulness, or what `formula` makes of a circuit, the whole and none."""
    whole = score(model, repeats, heads(model), metric, kind)
    none = score(model, repeats, [], metric, none_by or kind)
    if refuse and whole <= none:
        raise ValueError("nothing to explain")
    scores = [score(model, repeats, circuit, metric, kind) for circuit in circuits]
    return torch.stack([formula(one, whole, none) for one in scores])


# Metrics


@functools.cache
def likes(shift, sign):
    """A metric that no answer takes for granted: how (un)likely another token is, from position 4
    on, where the other token depends on the one that stands there.
    """

    def metric(logits, repeats):
        other = (repeats.tokens + shift) % logits.shape[-1]
        chosen = logits.log_softmax(dim=-1).gather(-1, other[..., None])[..., 0]
        return sign * chosen[:, 4:].mean()

    return metric


def close_calls(model, repeats, number):
    """The metrics of this kind by which the model does a little more than no heads do, however
    they are ablated: then some heads work for it and some against it.
    """

    def least_gap(metric):
        whole = score(model, repeats, heads(model), metric)
        return min([(whole - score(model, repeats, [], metric, kind)).item() for kind in KINDS])

    every = [likes(shift, sign) for shift in range(model.cfg.d_vocab) for sign in (1, -1)]
    gaps = {metric: least_gap(metric) for metric in every}
    return sorted([metric for metric in every if gaps[metric] > 0.3], key=gaps.get)[:number]


METRICS = close_calls(SMALL, REPEATS, 3)
METRIC = METRICS[0]


def turned_round(logits, repeats):
    return -METRIC(logits, repeats)


def always_zero(logits, repeats):
    return 0 * logits.sum()


def right_by_loops(logits, repeats, next_token=1, everywhere=False, baseline="mean", scale=None):
    """right_minus_mean, one position at a time; the options are the mistakes."""
    gaps = []
    for row, known, tokens in zip(logits, repeats.predictable, repeats.tokens):
        for p in range(len(tokens) - 1):
            if known[p] or everywhere:
                values = scale(row[p]) if scale else row[p]
                others = torch.cat([values[: tokens[p + 1]], values[tokens[p + 1] + 1 :]])
                baselines = {"mean": values.mean(), "none": 0.0, "median": values.median()}
                baselines |= {"best": others.max(), "others": others.mean(), "most": values.max()}
                gaps.append(values[tokens[p + next_token]] - baselines[baseline])
    return torch.stack(gaps).mean()


def closeness_by_loops(model, repeats, circuit):
    """1 - the mean distance of a circuit / that of no heads, one position at a time."""
    whole, far = model(repeats.tokens), []
    for kept in (circuit, []):
        some, total = logits_of(model, repeats.tokens, kept, "zero"), 0.0
        for row, p in repeats.predictable[:, :-1].nonzero().tolist():
            token = repeats.tokens[row, p + 1]
            gaps = [x[row, p, token] - x[row, p].mean() for x in (some, whole)]
            total += abs(gaps[0] - gaps[1])
        far.append(total)
    return (1 - far[0] / far[1]).item()


def minus_planted_loss(logits, repeats):
    known = repeats.predictable[:, :-1]
    chosen, following = logits[:, :-1][known], repeats.tokens[:, 1:][known]
    return chosen.log_softmax(dim=-1)[range(len(following)), following].mean()


def loss_share(k, copies=2, s=10.0):
    """Exact faithfulness by -loss, "zero", of the previous-token head with k of TWINS' induction
    heads.
    """
    empty, whole = exact_loss(0.0), exact_loss(copies * s)
    return (empty - exact_loss(k * s)) / (empty - whole)


def gate(kind):
    """A gate with its clean prompt as a batch: (model, repeats, metric)."""
    made = planted.gate_model(kind)

    def answer(logits, repeats):
        return logits[0, -1, made.right] - logits[0, -1, made.wrong]

    prompt = Repeats(made.clean, made.clean > 0, None, None)
    return made.model.requires_grad_(False), prompt, answer


# A given cache


def run_with_cache_of(cache, keep):
    """SMALL with only the heads in `keep`; the others put out what `cache` holds of the sequence
    before.
    """
    hooks = []
    for layer in range(SMALL.cfg.n_layers):
        lost = [head for head in range(2) if (layer, head) not in keep]

        def resample(z, hook, lost=lost):
            others = torch.stack([cache[hook.name][b - 1] for b in range(len(z))])
            z[:, :, lost] = others[:, :, lost]
            return z

        hooks.append((f"blocks.{layer}.attn.hook_z", resample))
    return SMALL.run_with_hooks(REPEATS.tokens, hooks)


# Slopes


def clean_outputs(model, tokens):
    """hook name -> z, in an undisturbed run."""
    _, cache = model.run_with_cache(tokens, lambda name: name.endswith("hook_z"))
    return cache


def slopes_by_steps(model, repeats, metric, kind="mean"):
    """head_attribution by going a little way towards ablation and a little way back: [layer,
    head].
    """
    key = ("slopes", model, tuple(repeats.tokens.flatten().tolist()), metric, kind)
    return once(key, lambda: stepped(model, repeats, metric, kind)).clone()


def stepped(model, repeats, metric, kind, step=1e-5):
    table = torch.zeros(model.cfg.n_layers, 2, dtype=torch.float64)
    cache = clean_outputs(model, repeats.tokens)
    for layer, head in heads(model):
        name = f"blocks.{layer}.attn.hook_z"
        moved = torch.zeros_like(cache[name])
        moved[:, :, head] = cache[name][:, :, head] - instead(cache[name][:, :, head], kind)

        def value(by, name=name, moved=moved):
            nudged = [(name, lambda z, hook: z + by * moved)]
            return metric(model.run_with_hooks(repeats.tokens, nudged), repeats).item()

        table[layer, head] = (value(step) - value(-step)) / (2 * step)
    return table
