"""The slow oracles of chapter 15: a small model with MLPs and LayerNorm, run place by place;
probabilities one by one.
"""

import functools
import math

import numpy as np
import torch

from minitransformer import ModelConfig, Transformer
from minitransformer.arithmetic import SPLITS as SPLITS
from minitransformer.arithmetic import TRAIN, Problems, problems
from tests.exercises.checking import expect


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


SMALL = Transformer(
    ModelConfig(n_heads=2, d_model=8, d_head=4, d_vocab=11, n_ctx=5, layer_norm=True, d_mlp=6),
    seed=3,
).double()
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


def few_problems(size=7):
    """The arithmetic problems with both operands below `size`, some of them held out."""
    whole = problems("arithmetic")
    keep = (whole.a < size) & (whole.b < size)
    columns = (getattr(whole, name)[keep] for name in ("operator", "a", "b", "split"))
    return Problems(whole.words, whole.tokens[keep], whole.predictable, *columns)


FEW = few_problems()


TABLE = list(
    zip(
        *(getattr(FEW, name).tolist() for name in ("a", "operator", "b", "split")),
        FEW.tokens[:, -1].tolist(),
    )
)


@functools.cache
def candidates(row, changed, trained=True, answer=True, each=True, only=True):
    """The counterfactuals of one problem of FEW, by going through all of them."""
    found = []
    for other, values in enumerate(TABLE):
        differs = {
            name: values[i] != TABLE[row][i] for i, name in enumerate(("a", "operator", "b"))
        }
        fits = (all if each else any)(differs[name] for name in changed)
        fits &= not (only and any(differs[name] for name in differs if name not in changed))
        fits &= not (answer and values[-1] == TABLE[row][-1])
        if fits and not (trained and values[3] != TRAIN):
            found.append(other)
    return found


def wrong_rows(kept, possible):
    """Which problem is there without a counterfactual, or missing although it has one; possible:
    row -> candidates.
    """
    for row, others in possible.items():
        if bool(others) != (row in kept):
            fault = (
                "is missing, it has counterfactuals"
                if others
                else "must be left out: no training problem with another answer fits"
            )
            return f"{FEW.decode(FEW.tokens[row])} {fault}"
    return "the rows that remain must keep their order"


def counterfactuals(problems, rows, changed, generator, pick=None, drop=True, **rules):
    """Like counterfactual_rows, by loops; pick: which of the candidates (default: a random one)."""
    kept, others = [], []
    for row in rows.tolist():
        if found := candidates(row, changed, **rules):
            at = int(torch.randint(len(found), (), generator=generator)) if pick is None else pick
            others.append(found[at])
        if found or not drop:
            kept.append(row)
    return torch.tensor(kept), torch.tensor(others)


def effects(
    p_before,
    p_after,
    r,
    r_cf,
    formula=lambda P, Q, P_cf, Q_cf: ((Q_cf - P_cf) / P_cf + (P - Q) / Q) / 2,
):
    """E row by row; formula(P(r), P*(r), P(r'), P*(r'))."""
    flat = p_after.reshape(-1, *p_after.shape[-2:])
    values = [
        formula(p_before[b, r[b]], after[b, r[b]], p_before[b, r_cf[b]], after[b, r_cf[b]])
        for after in flat
        for b in range(len(r))
    ]
    return torch.stack(values).reshape(p_after.shape[:-1])


def forms(
    before,
    after,
    r,
    r_cf,
    double=True,
    log=lambda E: sum(map(math.log1p, E)) / len(E),
    half=True,
    sign=1,
    both=True,
):
    """effect_forms in loops: medians by sorting, log1p with math."""
    p, q = ((x.double() if double else x).softmax(dim=-1).double() for x in (before, after))
    E = effects(p, q, r, r_cf).reshape(-1, len(r)).tolist()
    flat = after.double().reshape(-1, *after.shape[-2:])
    base = before.double()
    change = [
        [
            x[b, r_cf[b]] - base[b, r_cf[b]] - both * (x[b, r[b]] - base[b, r[b]])
            for b in range(len(r))
        ]
        for x in flat
    ]
    n = len(r)
    middle = [
        (sorted(row)[(n - 1) // 2] + sorted(row)[n // 2 if half else (n - 1) // 2]) / 2 for row in E
    ]
    columns = {
        "mean": [sum(row) / n for row in E],
        "median": middle,
        "log1p": [log(row) for row in E],
        "logit difference": [sign * float(sum(row)) / n for row in change],
    }
    return {
        name: torch.tensor(x, dtype=torch.float64).reshape(after.shape[:-2])
        for name, x in columns.items()
    }


def last_logits(tokens, replaced):
    """The last logits if some places hold given values: replaced = [((name, index), values [batch,
    ...])].
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
    prompts, others = tokens[:, :end], donors[:, :end]
    _, saved = SMALL.run_with_cache(others)
    after = [
        last_logits(
            prompts,
            [((n, i), saved[n][(EVERY, *i)]) for n, i in (cell[:1] if first_only else cell)],
        )
        for cell in cells
    ]
    return SMALL(prompts if base is None else base[:, :end])[:, -1], torch.stack(after)


PLACES = [
    *[("blocks.0.attn.hook_z", (pos, head)) for pos in range(4) for head in range(2)],
    *[("blocks.0.hook_mlp_out", (pos,)) for pos in range(4)],
    *[("blocks.1.attn.hook_z", (3, head)) for head in range(2)],
    ("blocks.1.hook_mlp_out", (3,)),
]
CIRCUITS = [PLACES[2:9], PLACES, [], [PLACES[-1], PLACES[11], PLACES[3]], PLACES[:12]]
_, other = SMALL.run_with_cache(torch.randint(11, (9, 4), generator=draw))
MEANS = {name: other[name].mean(dim=0, keepdim=True) for name in {name for name, _ in PLACES}}


def distance(logits, right):
    """A metric that is not symmetric between prompts, so that the order of averages matters."""
    return logits.softmax(dim=-1)[..., torch.arange(len(right)), right]


@functools.cache
def ablated(outside, zero):
    """The last logits with these places at their means, or at 0."""
    return last_logits(
        TOKENS[:, :-1], [(p, (0 if zero else 1) * MEANS[p[0]][0][p[1]]) for p in outside]
    )


def faithful(
    model,
    tokens,
    circuits,
    means,
    metric=distance,
    formula=lambda c, m, e: (c - e) / (m - e),
    invert=False,
    zero=False,
):
    """F, one run for each circuit."""

    def score(circuit):
        outside = tuple(p for p in PLACES if (p in circuit) == invert)
        return metric(ablated(outside, zero), tokens[:, -1]).mean()

    whole, empty = (score(x) for x in ((PLACES, []) if not invert else ([], PLACES)))
    return torch.stack([formula(score(circuit), whole, empty) for circuit in circuits])


circuits_as_cells = functools.partial(
    faithful, invert=True, formula=lambda c, m, e: (c - m) / (e - m)
)


def ridge_accuracy(x, y, n_classes, fit=0.8, test_on_fit=False):
    """Share right of a ridge probe, x [row, d_model], by least squares on rows that stand for the
    penalty; numpy.
    """
    n = int(fit * len(x))
    x, y = x.numpy(), y.numpy()
    target = np.eye(n_classes)[y[:n]]
    centred, mean = x[:n] - x[:n].mean(0), target.mean(0)
    penalty = np.sqrt(1e-3 * n) * np.eye(x.shape[1])
    stacked = (
        np.concatenate([centred, penalty]),
        np.concatenate([target - mean, np.zeros((x.shape[1], n_classes))]),
    )
    W = np.linalg.lstsq(*stacked, rcond=None)[0]
    rows = slice(0, n) if test_on_fit else slice(n, None)
    guesses = ((x[rows] - x[:n].mean(0)) @ W + mean).argmax(1)
    return float((guesses == y[rows]).mean())


STREAM = [
    f"blocks.{x}"
    for x in ("0.hook_resid_pre", "0.hook_resid_mid", "0.hook_resid_post", "1.hook_resid_mid")
]
STREAM += ["blocks.1.hook_resid_post"]


def probes(model, tokens, labels, n_classes, names=STREAM, **options):
    _, cache = SMALL.run_with_cache(tokens)
    return torch.tensor(
        [
            [
                ridge_accuracy(cache[n][:, p], labels, n_classes, **options)
                for p in range(tokens.shape[1])
            ]
            for n in names
        ]
    )


def lens(model, x, scale, centre=True, weight=True, bias=False, own=False, inverse=False):
    """frozen_lens, one vector at a time."""
    x_flat, s_flat = x.reshape(-1, x.shape[-1]), scale.expand(*x.shape[:-1], 1).reshape(-1)
    out = []
    for vector, s in zip(x_flat, s_flat):
        mean = sum(vector) / len(vector)
        centred = vector - mean if centre else vector
        if own:
            s = ((vector - mean).pow(2).sum() / len(vector) + 1e-5).sqrt()
        y = (centred * s if inverse else centred / s) * (
            SMALL.ln_final_w if weight else 1
        ) + bias * SMALL.ln_final_b
        out.append(y @ SMALL.W_U)
    return torch.stack(out).reshape(*x.shape[:-1], -1)


def deletion(model, cache, layer, tokens, sign=1, centre=True, own=False, name="hook_mlp_out"):
    """How the stream's lens changes across the MLP, one token at a time."""
    scale = cache["ln_final.hook_scale"]
    before, after = (
        lens(SMALL, cache[f"blocks.{layer}.hook_resid_{x}"], scale, own=own)
        for x in ("mid", "post")
    )
    change = (
        after - before
        if name == "hook_mlp_out"
        else lens(SMALL, cache[f"blocks.{layer}.{name}"], scale)
    )
    got = torch.zeros(tokens.shape, dtype=torch.float64)
    for b in range(len(tokens)):
        for p in range(tokens.shape[1]):
            got[b, p] = sign * (change[b, p, tokens[b, p]] - centre * change[b, p].mean())
    return got


def expect_refused(function, *args, why):
    """A ValueError is due for these arguments."""
    try:
        function(*args)
    except Exception as error:
        expect(
            "ValueError" in f"{type(error).__name__}: {error}",
            f"{why}: a ValueError is due, not {error}",
        )
    else:
        expect(False, f"{why}: this was accepted; raise a ValueError")


# Inputs of the checks, and answers that are nearly right

P = torch.randn(4, 11, generator=seeded(5)).double().softmax(dim=-1)
Q = torch.randn(3, 4, 11, generator=seeded(6)).double().mul(2).softmax(dim=-1)
RIGHT, OTHER = torch.tensor([1, 4, 9, 0]), torch.tensor([2, 3, 0, 10])
BEFORE = 3 * torch.randn(4, 11, generator=seeded(7))
BEFORE[0, 2], BEFORE[0, 1] = -70.0, 60.0  # a probability that float32 calls 0
AFTER = BEFORE + torch.randn(2, 4, 11, generator=seeded(8))


LOGITS = torch.randn(2, 4, 11, generator=seeded(9)).double() + 3


EFFECTS = torch.tensor([0.0, 3.0, -0.5, 40.0, 0.2]).double()
CHOSEN = torch.tensor([False, True, True, False, True])


MANY = torch.randint(11, (90, 4), generator=seeded(10))
LABELS = (MANY[:, 0] + MANY[:, 2]) % 3


def share(effects, chosen, log=math.log1p, over=lambda logs, chosen: sum(logs)):
    logs = [log(e) for e in effects.tolist()]
    return sum(x for x, c in zip(logs, chosen.tolist()) if c) / over(logs, chosen.tolist())


def means_over(dim, keepdim=True, scale=1.0):
    def answer(model, tokens, names):
        cache = SMALL.run_with_cache(tokens, names)[1]
        return {name: scale * cache[name].mean(dim=dim, keepdim=keepdim) for name in names}

    return answer


def ratio(logits, right, centre=True, top=max, base=lambda x: sum(x) / len(x)):
    rows = [
        [float(v) for v in (row - base(row) if centre else row)]
        for part in logits.reshape(-1, 4, 11)
        for row in part
    ]
    values = [row[right[i % 4]] / top(row) for i, row in enumerate(rows)]
    return torch.tensor(values, dtype=torch.float64).reshape(logits.shape[:-1])


def ratio_of_small(logits, right):
    centred = logits - logits.mean(dim=-1, keepdim=True)
    return centred[torch.arange(len(right)), right] / centred.amax(dim=-1)
