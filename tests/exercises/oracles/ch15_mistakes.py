"""What people get wrong in chapter 15: label -> the function they write. Those of circuits, probes
and lenses are in ch15_circuit_mistakes.py.
"""

import math
from functools import partial

import torch

from tests.exercises.oracles import ch15 as o
from tests.exercises.oracles import ch15_effects as by_row

# Which counterfactuals

wrong_rule = partial(partial, by_row.counterfactuals)
COUNTERFACTUALS = {
    "one changed column is enough for you; each one has to differ": wrong_rule(each=False),
    "the other columns may differ; they have to stay": wrong_rule(only=False),
    "the answer may be the same": wrong_rule(answer=False),
    "problems were drawn that training never saw": wrong_rule(trained=False),
    "always the first possible one was taken; draw it": wrong_rule(pick=lambda found, generator: 0),
    "the later problems were drawn more often; each one has to be as likely": wrong_rule(
        pick=by_row.later_ones
    ),
    "the problems without a counterfactual were not left out": wrong_rule(drop=False),
    "a generator was made inside; use the one that you are given": wrong_rule(seed=0),
    "only the counterfactuals were returned": lambda *a: by_row.counterfactuals(*a)[1],
}

# Patches


def probabilities(*given):
    return tuple(logits.softmax(dim=-1) for logits in o.patched(*given))


def change(*given):
    before, after = o.patched(*given)
    return before, after - before


def at_all_positions(model, tokens, donors, cells):
    return model(tokens[:, :-1]), o.patched(model, tokens, donors, cells)[1]


PATCHED = {
    "problems and donors are exchanged": lambda m, t, d, cells: o.patched(m, d, t, cells),
    "the model read the answer": partial(o.patched, end=None),
    "`before` is the donors' run": lambda m, t, d, cells: o.patched(m, t, d, cells, base=d),
    "only the first place of each cell was patched": partial(
        o.patched, chosen=lambda cells, at: cells[at][:1]
    ),
    "the results are exchanged: before first, then after": lambda *a: o.patched(*a)[::-1],
    "all cells were patched at once; each has a run of its own": partial(
        o.patched, chosen=lambda cells, at: sum(cells, [])
    ),
    "each run kept the cells before it, too; each cell has a run of its own": partial(
        o.patched, chosen=lambda cells, at: sum(cells[: at + 1], [])
    ),
    "probabilities were returned; logits are asked for": probabilities,
    "`after` holds the change; it is the logits after the patch": change,
    "`before` holds all positions; only the last one is asked for": at_all_positions,
}

# Effects

with_formula = partial(partial, by_row.effects)


def tiny_added(tiny):
    return with_formula(
        formula=lambda P, Q, P_cf, Q_cf: ((Q_cf - P_cf) / (P_cf + tiny) + (P - Q) / (Q + tiny)) / 2
    )


EFFECT = {
    "both terms were divided by the probability before the patch": with_formula(
        formula=lambda P, Q, P_cf, Q_cf: ((Q_cf - P_cf) / P_cf + (P - Q) / P) / 2
    ),
    "both terms were divided by the probability after the patch": with_formula(
        formula=lambda P, Q, P_cf, Q_cf: ((Q_cf - P_cf) / Q_cf + (P - Q) / Q) / 2
    ),
    "the two denominators are exchanged": with_formula(
        formula=lambda P, Q, P_cf, Q_cf: ((Q_cf - P_cf) / Q_cf + (P - Q) / P) / 2
    ),
    "r and r' (or before and after: it is the same) are exchanged": lambda p, q, r, r_cf: (
        by_row.effects(p, q, r_cf, r)
    ),
    "the half is missing": lambda *a: 2 * by_row.effects(*a),
    "nothing is subtracted: a patch without effect would score 1": lambda *a: (
        by_row.effects(*a) + 1
    ),
    "differences of probabilities, divided by nothing": with_formula(
        formula=lambda P, Q, P_cf, Q_cf: (Q_cf - P_cf + P - Q) / 2
    ),
    "something small was added to the denominators; a sure model's P(r') is small too": (
        tiny_added(1e-8)
    ),
    "it was averaged over the prompts": lambda *a: by_row.effects(*a).mean(dim=-1),
    "the geometric mean of the two factors; it is the arithmetic one": with_formula(
        formula=lambda P, Q, P_cf, Q_cf: (Q_cf / P_cf * P / Q).sqrt() - 1
    ),
    "negative effects were set to 0": lambda *a: by_row.effects(*a).clamp(min=0),
}


def in_float32(before, after, r, r_cf):
    """effect_forms whose probabilities are float32: some are 0, some effects infinite or nan."""
    p, q, row = before.float().softmax(-1), after.float().softmax(-1), torch.arange(len(r))
    p, q = p.double(), q.double()
    E = (q[..., row, r_cf] / p[row, r_cf] + p[row, r] / q[..., row, r]) / 2 - 1
    forms = {"mean": E.mean(-1), "median": E.quantile(0.5, dim=-1), "log1p": E.log1p().mean(-1)}
    return forms | {"logit difference": by_row.forms(before, after, r, r_cf)["logit difference"]}


def of_logits(before, after, r, r_cf):
    """effect_forms with logits where probabilities belong."""
    E = by_row.effects(before.double(), after.double(), r, r_cf)
    forms = {"mean": E.mean(-1), "median": E.quantile(0.5, dim=-1), "log1p": E.log1p().mean(-1)}
    return forms | {"logit difference": by_row.forms(before, after, r, r_cf)["logit difference"]}


def across_patches(before, after, r, r_cf):
    """effect_forms, each averaged over the patches, so that one number per prompt is left."""
    forms = {name: [] for name in ("mean", "median", "log1p", "logit difference")}
    for b in range(len(r)):
        one = before[b : b + 1], after[:, b : b + 1], r[b : b + 1], r_cf[b : b + 1]
        each = by_row.forms(*one)
        for name, values in each.items():
            forms[name].append(values.quantile(0.5) if name == "median" else values.mean())
    return {name: torch.stack(values) for name, values in forms.items()}


def after_alone(before, after, r, r_cf):
    right = by_row.forms(before, after, r, r_cf)
    row, after = torch.arange(len(r)), after.double()
    gap = after[..., row, r_cf] - after[..., row, r]
    return right | {"logit difference": gap.mean(dim=-1)}


wrong_form = partial(partial, by_row.forms)
FORMS = {
    "the softmax was taken in float32": in_float32,
    "the logarithm of the mean was taken; it is the mean of the logarithms": wrong_form(
        log=lambda E: math.log1p(sum(E) / len(E))
    ),
    "the lower of the two middle values was taken (torch.median does); the median lies "
    "between": wrong_form(between=False),
    "the logit difference has the wrong sign; it is r' minus r": wrong_form(sign=-1),
    "only the logit of r' was compared": wrong_form(both=False),
    "log E was taken, without adding 1": wrong_form(
        log=lambda E: sum(by_row.log_of(e) for e in E) / len(E)
    ),
    "the logit difference after the patch was taken, not how it changed": after_alone,
    "logits were given to `effect`; it wants probabilities": of_logits,
    "it was averaged over the patches, not over the prompts": across_patches,
}


def log_of_sums(effects, chosen):
    if effects.sum() <= 0:
        raise ValueError("no effect to share")
    return (effects[chosen].sum().log1p() / effects.sum().log1p()).item()


IMPORTANCE = {
    "the effects were added without the logarithm: the largest one decides": partial(
        by_row.share, log=float
    ),
    "the sum below the line left out the chosen parts": partial(
        by_row.share, over=lambda logs, chosen: sum(x for x, c in zip(logs, chosen) if not c)
    ),
    "negative effects were set to 0": partial(by_row.share, log=lambda e: math.log1p(max(e, 0))),
    "the mean of the chosen was compared with the mean of all": lambda effects, chosen: (
        by_row.share(effects, chosen) * len(chosen) / int(chosen.sum())
    ),
    "the others' share was returned": lambda effects, chosen: by_row.share(effects, ~chosen),
    "log E was taken, without adding 1": partial(by_row.share, log=by_row.log_of),
    "the logarithm of the sums was taken; it is the sum of the logarithms": log_of_sums,
    "the logarithms lost their signs; a part with E < 0 counts against": partial(
        by_row.share, log=lambda e: abs(math.log1p(e))
    ),
    "nothing was refused": lambda effects, chosen: (
        effects.log1p()[chosen].sum() / effects.log1p().sum()
    ).item(),
}
