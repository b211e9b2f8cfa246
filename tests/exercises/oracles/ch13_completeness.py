"""The usual wrong answers of chapter 13 about completeness and minimality, as code."""

from functools import partial
from itertools import combinations

import torch

from tests.exercises.oracles import ch13 as o
from tests.exercises.oracles.ch13 import heads, without

# Completeness


def both(model, repeats, circuit, sets, metric, ablation="mean", make=without, of_model=None):
    """completeness; the options are the mistakes. make: circuit, K -> which heads work; of_model:
    model, circuit, K -> which of the whole model work.
    """
    of_model = of_model or (lambda model, circuit, lost: make(heads(model), lost))
    left = [make(circuit, lost) for lost in sets]
    left_of_model = [of_model(model, circuit, lost) for lost in sets]
    columns = [o.share(model, repeats, some, metric, ablation) for some in (left, left_of_model)]
    return torch.stack(columns, dim=1)


def changed(change, **options):
    """What `change` makes of both columns."""
    return lambda *arguments: change(both(*arguments, **options))


def on_sets(change):
    """completeness with other sets."""

    def wrong(model, repeats, circuit, sets, metric, ablation="mean"):
        return both(model, repeats, circuit, change(circuit, sets), metric, ablation)

    return wrong


def together(circuit, sets):
    return [sum(sets, [])] * len(sets)


def piled_up(circuit, sets):
    return [sum(sets[: number + 1], []) for number in range(len(sets))]


def inside(circuit, sets):
    return [lost for lost in sets if set(lost) <= set(circuit)]


def both_by_mean(model, repeats, circuit, sets, metric, ablation="mean"):
    return both(model, repeats, circuit, sets, metric)


def both_by_loss(model, repeats, circuit, sets, metric, ablation="mean"):
    return both(model, repeats, circuit, sets, o.minus_planted_loss, ablation)


def raw_scores(model, repeats, circuit, sets, metric, ablation="mean"):
    pairs = [(without(circuit, lost), without(heads(model), lost)) for lost in sets]
    of = partial(o.score, model, repeats, metric=metric, kind=ablation)
    return torch.stack([torch.stack([of(kept) for kept in pair]) for pair in pairs])


def of_its_own(model, repeats, circuit, sets, metric, ablation="mean"):
    """The first column as a share of the circuit's own faithfulness."""
    columns = both(model, repeats, circuit, sets, metric, ablation)
    own = o.share(model, repeats, [circuit], metric, ablation)
    return torch.stack([columns[:, 0] / own, columns[:, 1]], dim=1)


BOTH = {
    "the columns are exchanged: the circuit first": changed(lambda x: x.flip(1)),
    "K was left out of the circuit only, the model stayed whole": partial(
        both, of_model=lambda model, circuit, lost: heads(model)
    ),
    "the model lost the circuit, not K": partial(
        both, of_model=lambda model, circuit, lost: without(heads(model), circuit)
    ),
    "the model lost the circuit as well as K": partial(
        both, of_model=lambda model, circuit, lost: without(heads(model), [*circuit, *lost])
    ),
    "the model lost only those of K that are in the circuit": partial(
        both,
        of_model=lambda model, circuit, lost: [
            head for head in heads(model) if head not in lost or head not in circuit
        ],
    ),
    "only K was kept; leave K out": partial(
        both, make=lambda circuit, lost: [head for head in circuit if head in lost]
    ),
    "all sets were knocked out together; each by itself": on_sets(together),
    "the sets pile up; knock each out by itself": on_sets(piled_up),
    "sets with heads outside the circuit were skipped": on_sets(inside),
    "the gap was returned; return both columns": changed(lambda x: x[:, 1] - x[:, 0]),
    "this is what is lost, 1 - F": changed(lambda x: 1 - x),
    "rows and columns are exchanged: [set, 2]": changed(lambda x: x.T),
    "neighbours were paired: first come all C without K, then all M; make each a column": changed(
        lambda x: x.T.reshape(-1, 2)
    ),
    "the first column was divided by F of the circuit": of_its_own,
    "these are the metrics; return faithfulness": raw_scores,
    "the ablation was ignored: always mean": both_by_mean,
    "the metric was ignored: always minus_loss": both_by_loss,
}

# Minimality


def largest(gains):
    return max(gains.values(), key=abs)


def worth(model, repeats, circuit, metric, ablation="mean", pick=largest, whole=False, alone=None):
    """minimality; the options are the mistakes. gains: what the head adds to each set of the
    others; pick: makes at_most of them; alone: gains, F -> another number under that name.
    """
    values, of = {}, partial(o.share, model, repeats, metric=metric, kind=ablation)
    for head in circuit:
        rest, gains = without(heads(model) if whole else circuit, [head]), {}
        for size in range(len(rest) + 1):
            for part in combinations(rest, size):
                pair = of([[*part, head], part])
                gains[frozenset(part)] = (pair[0] - pair[1]).item()
        others = frozenset(without(circuit, [head]))
        lost = alone(of, head, others) if alone else gains[others]
        values[head] = (lost, pick(gains))
    return values


def picked(pick):
    return partial(worth, pick=pick)


def reshaped(change):
    """Another pair made of (alone, at_most)."""
    return lambda *arguments: {head: change(*pair) for head, pair in worth(*arguments).items()}


def by_mean(model, repeats, circuit, metric, ablation="mean"):
    return worth(model, repeats, circuit, metric)


def by_itself(of, head, others):
    return of([[head]]).item()


def below_the_model(of, head, others):
    return 1 - of([list(others)]).item()


def among(some):
    """at_most over some of the parts: those of which some(size, all others) holds."""

    def pick(gains):
        most = max(map(len, gains))
        return largest({part: gain for part, gain in gains.items() if some(len(part), most)})

    return picked(pick)


def best_score(model, repeats, circuit, metric, ablation="mean"):
    """at_most: the best F of a part that contains the head."""
    of = partial(o.share, model, repeats, metric=metric, kind=ablation)
    values = {}
    for head, (alone, _) in worth(model, repeats, circuit, metric, ablation).items():
        rest = without(circuit, [head])
        parts = [part for size in range(len(rest) + 1) for part in combinations(rest, size)]
        values[head] = (alone, max(of([[head, *part] for part in parts]).tolist(), key=abs))
    return values


def in_turn(model, repeats, circuit, metric, ablation="mean"):
    """at_most: what each head adds to those that stand before it."""
    of = partial(o.share, model, repeats, metric=metric, kind=ablation)
    values = {}
    for head, (alone, _) in worth(model, repeats, circuit, metric, ablation).items():
        before = circuit[: circuit.index(head)]
        pair = of([[*before, head], before])
        values[head] = (alone, (pair[0] - pair[1]).item())
    return values


WORTH = {
    "the pair is the wrong way round: alone first": reshaped(lambda alone, most: (most, alone)),
    "the signs are wrong: a head that helps is worth a positive number": reshaped(
        lambda alone, most: (-alone, -most)
    ),
    "at_most kept only the absolute value; keep the sign": reshaped(
        lambda alone, most: (alone, abs(most))
    ),
    "at_most is the largest value; take the largest in absolute value": picked(
        lambda gains: max(gains.values())
    ),
    "at_most is the smallest in absolute value; take the largest": picked(
        lambda gains: min(gains.values(), key=abs)
    ),
    "at_most is a mean over the parts; take the largest in absolute value": picked(
        lambda gains: sum(gains.values()) / len(gains)
    ),
    "at_most is the best F of a part; it is the best F(S) - F(S without v)": best_score,
    "at_most looked only at what stands before the head; try all parts": in_turn,
    "only the whole circuit was tried: at_most must look at all its parts": among(
        lambda size, most: size == most
    ),
    "only the head by itself was tried: at_most must look at all parts": among(
        lambda size, most: size == 0
    ),
    "the circuit itself is missing among its parts": among(lambda size, most: size < most),
    "the head by itself is missing among the parts": among(lambda size, most: size > 0),
    "only parts of one or two heads were tried": among(lambda size, most: size < 2),
    "the parts of the whole model were tried, not those of the circuit": partial(worth, whole=True),
    "alone means that v alone is lost, not that v alone is left": partial(worth, alone=by_itself),
    "alone was measured from the model: take F(C), not 1": partial(worth, alone=below_the_model),
    "the ablation was ignored: always mean": by_mean,
}
