"""The slow oracles of chapter 13: circuits run layer by layer with every replaced output worked
out, metrics in loops.
"""

import functools
import math
from itertools import product

import torch

from minitransformer import ModelConfig, Transformer, planted
from minitransformer.data import Repeats, repeated_tokens
from tests.exercises.checking import expect

HEADS = list(product(range(2), range(2)))
SMALL = (
    Transformer(ModelConfig(n_heads=2, d_model=8, d_head=4, d_vocab=14, n_ctx=10), seed=7)
    .double()
    .requires_grad_(False)
)
for name in ("W_O", "W_U"):
    SMALL.get_parameter(name).mul_(3)  # so that every head matters
REPEATS = repeated_tokens(5, 10, 14, (2, 5), torch.Generator().manual_seed(1))
TOKENS = REPEATS.tokens
PLANTED = repeated_tokens(6, 16, 20, (3, 6), torch.Generator().manual_seed(2))
TWINS = planted.duplicated_heads_model(2).double().requires_grad_(False)
AGAINST = planted.negative_head_model(s=16.0, negative=6.0).double().requires_grad_(False)
CIRCUITS = [[(0, 0), (1, 0)], HEADS, [(1, 1)], [], [(0, 1), (1, 0), (1, 1)]]


def exact_loss(s):
    """The loss if the right logit is s and those of the 19 other tokens are 0."""
    return math.log1p(19 * math.exp(-s))


def instead_of(out, kind):
    """out [batch, pos, d_model] of one head -> what it writes when it is ablated."""
    batch, n, _ = out.shape
    if kind == "resample":
        return torch.stack([out[b - 1] for b in range(batch)])
    means = {"zero": 0 * out[:1], "mean per position": sum(out[b] for b in range(batch)) / batch}
    means["mean"] = sum(out[b, p] for b in range(batch) for p in range(n)) / (batch * n)
    return means[kind].expand_as(out)


def replaced(model, tokens, heads, kind):
    """The logits if each of `heads` writes something else, layer by layer; what, comes from an
    undisturbed run.
    """
    _, clean = model.run_with_cache(tokens)
    stream = clean["blocks.0.hook_resid_pre"]
    for layer in range(model.cfg.n_layers):
        name = f"blocks.{layer}.attn.hook_result"
        at = (f"blocks.{layer}.hook_resid_pre", lambda x, hook, stream=stream: stream.clone())
        out = model.run_with_cache(tokens, [name], [at])[1][name]
        for head in (head for where, head in heads if where == layer):
            out[:, :, head] = instead_of(clean[name][:, :, head], kind)
        stream = stream + out.sum(dim=2)
    return stream @ model.W_U


@functools.cache
def logits_of(kept, kind="mean"):
    """SMALL with only the heads of the frozenset `kept`."""
    outside = [head for head in HEADS if head not in kept]
    return replaced(SMALL, TOKENS, outside, kind)


@functools.cache
def surprise(token):
    """A metric that no answer takes for granted: -log p(token), over all positions from 4 on."""
    return lambda logits, repeats: -logits.log_softmax(dim=-1)[:, 4:, token].mean()


# chosen so that greedy and other searches differ, and one head works against it
SURPRISE = surprise(11)


def spoken_against(logits, repeats):
    return -SURPRISE(logits, repeats)


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
                right = values[tokens[p + next_token]]
                others = torch.cat([values[: tokens[p + 1]], values[tokens[p + 1] + 1 :]])
                low = {
                    "mean": values.mean(),
                    "none": 0.0,
                    "best": others.max(),
                    "others": others.mean(),
                }[baseline]
                gaps.append(right - low)
    return torch.stack(gaps).mean()


def loss_share(k, copies=2, s=10.0):
    """Exact faithfulness by -loss of k of TWINS' induction heads, with the previous-token head;
    "zero".
    """
    empty, whole = exact_loss(0.0), exact_loss(copies * s)
    return (empty - exact_loss(k * s)) / (empty - whole)


def minus_planted_loss(logits, repeats):
    known = repeats.predictable[:, :-1]
    chosen, following = logits[:, :-1][known], repeats.tokens[:, 1:][known]
    return chosen.log_softmax(dim=-1)[range(len(following)), following].mean()


def gate_metric(gate):
    return lambda logits, repeats: logits[0, -1, gate.right] - logits[0, -1, gate.wrong]


def gate(kind):
    """A gate with its clean prompt as a batch: (model, repeats, metric)."""
    made = planted.gate_model(kind)
    return (
        made.model.requires_grad_(False),
        Repeats(made.clean, made.clean > 0, None, None),
        gate_metric(made),
    )


@functools.cache
def slopes_by_steps(model, repeats, metric, kind="mean", step=1e-4, power=1.0, ablate=True):
    """head_attribution by going a little way towards ablation and a little way back: [layer,
    head].
    """
    table = torch.zeros(model.cfg.n_layers, model.cfg.n_heads, dtype=torch.float64)
    _, cache = model.run_with_cache(repeats.tokens, lambda name: name.endswith("hook_z"))
    for layer, head in product(*(range(n) for n in table.shape)):
        name, z = f"blocks.{layer}.attn.hook_z", cache[f"blocks.{layer}.attn.hook_z"]
        target = {
            "zero": lambda z: torch.zeros_like(z),
            "mean": lambda z: (
                sum(z[b, p] for b in range(len(z)) for p in range(z.shape[1]))
                / z[:, :, 0, 0].numel()
            ),
            "mean per position": lambda z: sum(z[b] for b in range(len(z))) / len(z),
            "resample": lambda z: torch.stack([z[b - 1] for b in range(len(z))]),
        }[kind](z)
        change = (z - target.expand_as(z))[:, :, head] if ablate else torch.ones_like(z[:, :, head])

        def value(by, name=name, head=head, change=change):
            def nudge(x, hook):
                x[:, :, head] += by * change
                return x

            return metric(model.run_with_hooks(repeats.tokens, [(name, nudge)]), repeats).item()

        table[layer, head] = (value(step) - value(-step)) / (2 * step)
    return table


def expect_refused(function, *args, why):
    """Raises Wrong unless the function under test raises ValueError on args."""
    try:
        function.function(*args)
    except ValueError:
        return
    function(*args)  # so that the diagnosis sees what came back
    expect(False, f"{why}: expected ValueError")
