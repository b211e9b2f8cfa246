"""The slow oracles of chapter 15's effects: problem by problem, probability by probability."""

import functools
import math

import torch

from minitransformer.arithmetic import TRAIN, Problems, problems
from tests.material import seeded


def few_problems(size=7):
    """The arithmetic problems with both operands below `size`, some of them held out."""
    whole = problems("arithmetic")
    keep = (whole.a < size) & (whole.b < size)
    columns = [getattr(whole, name)[keep] for name in ("operator", "a", "b", "split")]
    return Problems(whole.words, whole.tokens[keep], whole.predictable, *columns)


FEW = few_problems()
WORDS = ("a", "operator", "b")
COLUMNS = [getattr(FEW, name).tolist() for name in (*WORDS, "split")]
TABLE = list(zip(*COLUMNS, FEW.tokens[:, -1].tolist()))


@functools.cache
def candidates(row, changed, trained=True, answer=True, each=True, only=True):
    """The counterfactuals of one problem of FEW, by going through all of them."""
    found = []
    for other, values in enumerate(TABLE):
        differs = {name: values[i] != TABLE[row][i] for i, name in enumerate(WORDS)}
        named = [differs[name] for name in changed]
        fits = all(named) if each else any(named)
        if only and any(differs[name] for name in WORDS if name not in changed):
            fits = False
        if answer and values[-1] == TABLE[row][-1]:
            fits = False
        if trained and values[3] != TRAIN:
            fits = False
        if fits:
            found.append(other)
    return found


def wrong_rows(kept, possible):
    """Which problem is there without a counterfactual, or missing although it has one.

    possible: row -> candidates.
    """
    for row, others in possible.items():
        problem = FEW.decode(FEW.tokens[row])
        if others and row not in kept and not set(others) & set(possible):
            return f"{problem} is missing: donors may be any problems, not only those of `rows`"
        if others and row not in kept:
            return f"{problem} is missing, it has counterfactuals"
        if not others and row in kept:
            return f"{problem} must be left out: no training problem with another answer fits"
    return "the rows that remain must keep their order"


def wrong_pairs(kept, drawn, possible, changed):
    """What is wrong with the first pair that is none; None if all are counterfactuals.

    possible: row -> candidates.
    """
    if kept == [at for at, row in enumerate(possible) if possible[row]]:
        return "the rows that remain were counted within `rows`; they are indices of problems"
    for row, other in zip(kept, drawn):
        if row == other and row in possible and not possible[row]:
            problem = FEW.decode(FEW.tokens[row])
            return f"{problem} has no counterfactual: leave it out; yours is the problem itself"
        if len(kept) == len(drawn) and other not in possible.get(row, []):
            return why_not(row, other, changed)
    return None


def why_not(row, other, changed):
    """What keeps `other` from being a counterfactual of the problem `row`, said for the learner."""
    pair = f"{FEW.decode(FEW.tokens[row])} and {FEW.decode(FEW.tokens[other])}"
    for i, name in enumerate(WORDS):
        if (TABLE[row][i] != TABLE[other][i]) != (name in changed):
            if name in changed:
                return f"{pair}: {name} is the same; each column of `changed` has to differ"
            return f"{pair}: {name} differs; what is not named in `changed` has to stay"
    if TABLE[other][3] != TRAIN:
        return f"{pair}: the second is held out; only training problems may be taken"
    return f"{pair}: both have the same answer; a counterfactual has another"


def any_of(found, generator):
    return int(torch.randint(len(found), (), generator=generator))


def later_ones(found, generator):
    """Which of these is drawn if the last is three times as likely as the first."""
    weights = torch.linspace(1, 3, len(found))
    return int(torch.multinomial(weights, 1, generator=generator))


def counterfactuals(problems, rows, changed, generator, pick=any_of, drop=True, seed=None, **rules):
    """counterfactual_rows in loops; pick: which of the candidates (default: a random one)."""
    kept, others = [], []
    generator = generator if seed is None else seeded(seed)
    for row in rows.tolist():
        found = candidates(row, changed, **rules)
        if found:
            others.append(found[pick(found, generator)])
        if found or not drop:
            kept.append(row)
    return torch.tensor(kept), torch.tensor(others)


def two_denominators(P, Q, P_cf, Q_cf):
    """E from P(r), P*(r), P(r'), P*(r')."""
    return ((Q_cf - P_cf) / P_cf + (P - Q) / Q) / 2


def effects(p_before, p_after, r, r_cf, formula=two_denominators):
    """E row by row."""
    values = []
    for after in p_after.reshape(-1, *p_after.shape[-2:]):
        for b in range(len(r)):
            P, P_cf = p_before[b, r[b]], p_before[b, r_cf[b]]
            values.append(formula(P, after[b, r[b]], P_cf, after[b, r_cf[b]]))
    return torch.stack(values).reshape(p_after.shape[:-1])


def mean_of_logs(E):
    return sum(math.log1p(e) for e in E) / len(E)


def median(values, between=True):
    """The middle value; of an even number of values the mean of two, or the lower one."""
    ordered, n = sorted(values), len(values)
    lower, upper = ordered[(n - 1) // 2], ordered[n // 2]
    return (lower + upper) / 2 if between else lower


def forms(before, after, r, r_cf, double=True, log=mean_of_logs, between=True, sign=1, both=True):
    """effect_forms in loops: medians by sorting, log1p with math."""
    if double:
        before, after = before.double(), after.double()
    p, p_after = before.softmax(dim=-1).double(), after.softmax(dim=-1).double()
    E = effects(p, p_after, r, r_cf).reshape(-1, len(r)).tolist()
    moved = []
    for logits in after.double().reshape(-1, *after.shape[-2:]):
        change, total = logits - before.double(), 0.0
        for b in range(len(r)):
            total += change[b, r_cf[b]].item()
            if both:
                total -= change[b, r[b]].item()
        moved.append(sign * total / len(r))
    columns = {
        "mean": [sum(row) / len(row) for row in E],
        "median": [median(row, between) for row in E],
        "log1p": [log(row) for row in E],
        "logit difference": moved,
    }
    shape = after.shape[:-2]
    return {name: torch.tensor(x).double().reshape(shape) for name, x in columns.items()}


def share(effects, chosen, log=math.log1p, over=lambda logs, chosen: sum(logs), refused=0.0):
    """relative_importance, part by part; sums up to `refused` are refused."""
    logs, chosen = [log(effect) for effect in effects.tolist()], chosen.tolist()
    if sum(logs) <= refused:
        raise ValueError("no effect to share")
    mine = torch.tensor([value for value, mine in zip(logs, chosen) if mine]).double().sum()
    return (mine / over(logs, chosen)).item()


def log_of(x):
    """The logarithm as torch has it: nan below 0."""
    return torch.tensor(x, dtype=torch.float64).log().item()


# Probabilities, logits and effects that the checks give

P = torch.randn(4, 11, generator=seeded(5)).double().softmax(dim=-1)
Q = torch.randn(3, 4, 11, generator=seeded(6)).double().mul(2).softmax(dim=-1)
RIGHT, OTHER = torch.tensor([1, 4, 9, 0]), torch.tensor([2, 3, 0, 10])
BEFORE = 3 * torch.randn(4, 11, generator=seeded(7))
BEFORE[0, 2], BEFORE[0, 1] = -70.0, 60.0  # a probability that float32 calls 0
AFTER = BEFORE + torch.randn(2, 4, 11, generator=seeded(8))
SURE = torch.tensor([[1 - 3e-9, 1e-9, 2e-9], [2e-9, 1 - 3e-9, 1e-9]]).double()
LOGITS = torch.randn(2, 4, 11, generator=seeded(9)).double() + 3
LOGITS[1, 2, RIGHT[2]] += 4  # one right answer is the largest
EFFECTS = torch.tensor([0.0, 3.0, -0.5, 40.0, 0.2]).double()
CHOSEN = torch.tensor([False, True, True, False, True])
