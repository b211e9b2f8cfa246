"""The slow oracles of chapter 13: circuits run layer by layer with every replaced output worked
out, metrics in loops.
"""

import functools
from itertools import product

import torch

from minitransformer import ModelConfig, Transformer, planted
from minitransformer.data import Repeats, repeated_tokens
from tests.exercises.oracles.ch09 import exact_loss, instead, replaced
from tests.material import seeded

HEADS = [(0, 0), (0, 1), (1, 0), (1, 1)]
SIZES = ModelConfig(n_heads=2, d_model=8, d_head=4, d_vocab=14, n_ctx=10)
SMALL = Transformer(SIZES, seed=7).double().requires_grad_(False)
for name in ("W_O", "W_U"):
    SMALL.get_parameter(name).mul_(3)  # so that every head matters
REPEATS = repeated_tokens(5, 10, 14, (2, 5), seeded(1))
TOKENS = REPEATS.tokens
PLANTED = repeated_tokens(6, 16, 20, (3, 6), seeded(2))
TWINS = planted.duplicated_heads_model(2).double().requires_grad_(False)
AGAINST = planted.negative_head_model(s=16.0, negative=6.0).double().requires_grad_(False)
CIRCUITS = [[(0, 0), (1, 0)], HEADS, [(1, 1)], [], [(0, 1), (1, 0), (1, 1)]]


def without(heads, lost):
    """The list `heads` without those in `lost`."""
    return [head for head in heads if head not in lost]


@functools.cache
def logits_of(kept, kind="mean"):
    """SMALL with only the heads of the frozenset `kept`."""
    return replaced(SMALL, TOKENS, without(HEADS, kept), kind)


@functools.cache
def surprise(token):
    """A metric that no answer takes for granted: -log p(token), over all positions from 4 on."""
    return lambda logits, repeats: -logits.log_softmax(dim=-1)[:, 4:, token].mean()


# chosen so that greedy and other searches differ, and one head works against it
SURPRISE = surprise(11)


def spoken_against(logits, repeats):
    return -SURPRISE(logits, repeats)


def always_zero(logits, repeats):
    return 0 * logits.sum()


def run_with_cache_of(cache, keep):
    """SMALL with only the heads in `keep`; the others put out what `cache` holds of the sequence
    before.
    """
    hooks = []
    for layer in range(2):
        lost = [head for head in range(2) if (layer, head) not in keep]

        def resample(z, hook, lost=lost):
            others = torch.stack([cache[hook.name][b - 1] for b in range(len(z))])
            z[:, :, lost] = others[:, :, lost]
            return z

        hooks.append((f"blocks.{layer}.attn.hook_z", resample))
    return SMALL.run_with_hooks(TOKENS, hooks)


def score(kept, metric=SURPRISE, kind="mean"):
    return metric(logits_of(frozenset(kept), kind), REPEATS)


def share(circuits, metric=SURPRISE, kind="mean", formula=None):
    """faithfulness of circuits of SMALL, or what `formula` makes of (circuit, whole, none)."""
    whole, none = score(HEADS, metric, kind), score([], metric, kind)
    formula = formula or (lambda c, m, e: (c - e) / (m - e))
    return torch.stack([formula(score(circuit, metric, kind), whole, none) for circuit in circuits])


def right_by_loops(logits, repeats, next_token=1, everywhere=False, baseline="mean", scale=None):
    """right_minus_mean, one position at a time; the options are the mistakes."""
    gaps = []
    for row, known, tokens in zip(logits, repeats.predictable, repeats.tokens):
        for p in range(len(tokens) - 1):
            if known[p] or everywhere:
                values = scale(row[p]) if scale else row[p]
                others = torch.cat([values[: tokens[p + 1]], values[tokens[p + 1] + 1 :]])
                baselines = {"mean": values.mean(), "none": 0.0}
                baselines |= {"best": others.max(), "others": others.mean()}
                gaps.append(values[tokens[p + next_token]] - baselines[baseline])
    return torch.stack(gaps).mean()


def loss_share(k, copies=2, s=10.0):
    """Exact faithfulness by -loss, "zero", of the previous-token head with k of TWINS' induction
    heads.
    """
    empty, whole = exact_loss(0.0), exact_loss(copies * s)
    return (empty - exact_loss(k * s)) / (empty - whole)


def minus_planted_loss(logits, repeats):
    known = repeats.predictable[:, :-1]
    chosen, following = logits[:, :-1][known], repeats.tokens[:, 1:][known]
    return chosen.log_softmax(dim=-1)[range(len(following)), following].mean()


def gate(kind):
    """A gate with its clean prompt as a batch: (model, repeats, metric)."""
    made = planted.gate_model(kind)

    def answer(logits, repeats):
        return logits[0, -1, made.right] - logits[0, -1, made.wrong]

    prompt = Repeats(made.clean, made.clean > 0, None, None)
    return made.model.requires_grad_(False), prompt, answer


@functools.cache
def slopes_by_steps(
    model, repeats, metric, kind="mean", step=1e-4, ablate=True, where="blocks.{}.attn.hook_z"
):
    """head_attribution by going a little way towards ablation and a little way back: [layer,
    head]. ablate False: every number of z moves by the same amount, a mistake; where: another
    place feels it, after W_O, another.
    """
    table = torch.zeros(model.cfg.n_layers, model.cfg.n_heads, dtype=torch.float64)
    _, cache = model.run_with_cache(repeats.tokens)
    for layer, head in product(range(model.cfg.n_layers), range(model.cfg.n_heads)):
        name = f"blocks.{layer}.attn.hook_z"
        z = cache[name][:, :, head]
        change = z - instead(z, kind) if ablate else torch.ones_like(z)

        moved = torch.zeros_like(cache[name])
        moved[:, :, head] = change
        if not where.endswith("hook_z"):
            moved = change @ model.W_O[layer, head]

        place = where.format(layer)

        def value(by, place=place, moved=moved):
            nudged = [(place, lambda x, hook: x + by * moved)]
            return metric(model.run_with_hooks(repeats.tokens, nudged), repeats).item()

        table[layer, head] = (value(step) - value(-step)) / (2 * step)
    return table
