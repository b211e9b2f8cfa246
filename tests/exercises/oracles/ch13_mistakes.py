"""The usual wrong answers of chapter 13, as code: label -> what the learner wrote instead. Each
exercise is done the slow way, with options that turn it into a mistake.
"""

from functools import partial
from itertools import combinations

import torch

from tests.exercises.oracles import ch13 as o
from tests.exercises.oracles.ch13 import HEADS, without

SETS = [[], [(0, 1)], [(1, 0)], [(0, 1), (1, 0)], [(0, 0)]]

# One circuit


def circuit_run(model, tokens, keep, ablation="mean", cache=None, change=None):
    """run_circuit the long way; change: what to make of the list of heads outside."""
    outside = without(HEADS, keep)
    lost = change(outside) if change else outside
    return o.logits_of(frozenset(HEADS) - set(lost), ablation)


def circuit_ablated(model, tokens, keep, ablation="mean", cache=None):
    return circuit_run(model, tokens, without(HEADS, keep), ablation)


def always_zeroed(model, tokens, keep, ablation="mean", cache=None):
    return circuit_run(model, tokens, keep, "zero")


def means_on_the_way(model, tokens, keep, ablation="mean", cache=None):
    """The mistake: layer 1 is replaced by what it writes when layer 0 is already ablated."""
    half = [head for head in HEADS if head[0] == 0 or head in keep]
    if ablation == "zero" or half == HEADS:
        return circuit_run(model, tokens, keep, ablation)
    hooks = []
    for layer in range(2):
        lost = [head for head in range(2) if (layer, head) not in keep]

        def ablate(z, hook, lost=lost):
            new = {"mean": z.mean((0, 1)), "mean per position": z.mean(0), "resample": z.roll(1, 0)}
            z[:, :, lost] = new[ablation].expand_as(z)[:, :, lost].clone()
            return z

        hooks.append((f"blocks.{layer}.attn.hook_z", ablate))
    return model.run_with_hooks(tokens, hooks)


def only_layer(layer):
    return partial(circuit_run, change=lambda heads: [head for head in heads if head[0] == layer])


CIRCUIT = {
    "the circuit was ablated; ablate everybody else": circuit_ablated,
    "the heads outside were always zeroed; use `ablation`": always_zeroed,
    "only layer 0 was ablated": only_layer(0),
    "only the last layer was ablated": only_layer(1),
    "nothing was ablated": partial(circuit_run, change=lambda heads: []),
    "the replacements came from an ablated run; take them from an undisturbed one": (
        means_on_the_way
    ),
}

ACCEPTED = {"heads that do not exist were accepted": circuit_run}
IGNORED = {"the cache that was given was ignored": circuit_run}

# The metric


def right(**options):
    """right_minus_mean with one thing changed."""
    return partial(o.right_by_loops, **options)


def probabilities(logits):
    return logits.softmax(dim=-1)


def unshifted(logits, repeats):
    """The token just read is compared with the logits there, at all predictable positions."""
    known = repeats.predictable
    chosen, tokens = logits[known], repeats.tokens[known]
    return (chosen.gather(1, tokens[:, None])[:, 0] - chosen.mean(dim=-1)).mean()


def gaps_of(logits, repeats):
    """[batch] lists of right logit minus mean logit, at the predictable positions of each row."""
    known, following = repeats.predictable[:, :-1], repeats.tokens[:, 1:]
    right = logits[:, :-1].gather(-1, following[..., None])[..., 0]
    gaps = right - logits[:, :-1].mean(dim=-1)
    return [row[here] for row, here in zip(gaps, known)]


def by_row(logits, repeats):
    return torch.stack([row.mean() for row in gaps_of(logits, repeats)]).mean()


def added_up(logits, repeats):
    return torch.cat(gaps_of(logits, repeats)).sum()


def detached(logits, repeats):
    return o.right_by_loops(logits, repeats).detach()


RIGHT = {
    "the mean of the vocabulary was not subtracted": right(baseline="none"),
    "the best other logit was subtracted; the mean": right(baseline="best"),
    "the mean left out the right token; it goes over all tokens": right(baseline="others"),
    "the token just read was taken for the right one; it is the next": right(next_token=0),
    "the logits were not shifted against the tokens: position p predicts p + 1": unshifted,
    "every position counted; only predictable ones do": right(everywhere=True),
    "the mean was taken by sequence first; all positions count alike": by_row,
    "the positions were added up; take their mean": added_up,
    "this is the log-probability; use the logit less the mean logit": o.minus_planted_loss,
    "probabilities were compared; use the logits": right(scale=probabilities),
    "the numbers were detached; gradients must flow": detached,
}

# Faithfulness


def shares(model, repeats, circuits, metric, ablation="mean", formula=None, invert=False):
    """faithfulness on SMALL; the options are the mistakes."""
    if invert:
        circuits = [without(HEADS, circuit) for circuit in circuits]
    return o.share(circuits, metric, ablation, formula)


def formula(circuit_model_empty):
    return partial(shares, formula=circuit_model_empty)


def shares_by_mean(model, repeats, circuits, metric, ablation="mean"):
    return shares(model, repeats, circuits, metric)


def clipped(model, repeats, circuits, metric, ablation="mean"):
    """What clipping makes of the circuits of one check, whose shares are known."""
    return torch.tensor([1.0, 1.0, 0.0, 0.0], dtype=torch.float64)


SHARES = {
    "the empty circuit was not subtracted": formula(lambda c, m, e: c / m),
    "the empty circuit was subtracted above the line only": formula(lambda c, m, e: (c - e) / m),
    "whole and empty are exchanged": formula(lambda c, m, e: (c - m) / (e - m)),
    "it was clipped to 0 to 1": formula(lambda c, m, e: ((c - e) / (m - e)).clip(0, 1)),
    "the metric itself was returned": formula(lambda c, m, e: c),
    "the heads outside were measured, not the circuit": partial(shares, invert=True),
    "the ablation was ignored": shares_by_mean,
}

# Completeness


def both(
    model,
    repeats,
    circuit,
    knocked_out,
    metric,
    ablation="mean",
    swap=False,
    make=without,
    intact=False,
):
    """completeness on SMALL; the options are the mistakes. make: heads, K -> which of them work."""
    left = [make(circuit, lost) for lost in knocked_out]
    left_of_model = [HEADS if intact else make(HEADS, lost) for lost in knocked_out]
    columns = [o.share(left, metric, ablation), o.share(left_of_model, metric, ablation)]
    if swap:
        columns.reverse()
    return torch.stack(columns, dim=1)


def only_k(heads, lost):
    return [head for head in heads if head in lost]


def difference(*arguments):
    return both(*arguments).diff(dim=1).expand(-1, 2)


def columns_as_rows(*arguments):
    return both(*arguments).T


def both_by_mean(model, repeats, circuit, knocked_out, metric, ablation="mean"):
    return both(model, repeats, circuit, knocked_out, metric)


def model_whole(*arguments):
    """Leaving the model whole, on the circuit and the sets of one check."""
    return torch.tensor([[1.0, 1.0], [0.0, 1.0]])


BOTH = {
    "the columns are exchanged: the circuit first": partial(both, swap=True),
    "K was left out of the circuit only, the model stayed whole": partial(both, intact=True),
    "only K was kept; leave K out": partial(both, make=only_k),
    "the difference was returned; return both columns": difference,
    "rows and columns are exchanged: [set, 2]": columns_as_rows,
    "the ablation was ignored": both_by_mean,
}

# Minimality


def largest(gains):
    return max(gains, key=abs)


def worth(
    model,
    repeats,
    circuit,
    metric,
    ablation="mean",
    alone_first=True,
    pick=largest,
    whole=False,
    alone=-1,
):
    """minimality on SMALL; the options are the mistakes. alone: which of the gains is reported as
    such, of those beside growing sets of the other heads; -1 is beside all of them.
    """
    values = {}
    for head in circuit:
        rest = without(HEADS if whole else circuit, [head])
        gains = []
        for size in range(len(rest) + 1):
            for part in combinations(rest, size):
                pair = o.share([[*part, head], part], metric, ablation)
                gains.append((pair[0] - pair[1]).item())
        values[head] = (gains[alone], pick(gains)) if alone_first else (pick(gains), gains[alone])
    return values


def signs_wrong(*arguments):
    return {head: (-alone, -most) for head, (alone, most) in worth(*arguments).items()}


def only_the_whole(model, repeats, circuit, metric, ablation="mean"):
    """at_most from the whole circuit alone, on the circuit of one check."""
    return {head: (1e-4, 1e-4) for head in circuit}


WORTH = {
    "the pair is the wrong way round: alone first": partial(worth, alone_first=False),
    "at_most kept only the absolute value; keep the sign": partial(
        worth, pick=lambda gains: abs(largest(gains))
    ),
    "at_most is the largest value; take the largest in absolute value": partial(worth, pick=max),
    "the parts of the whole model were tried, not those of the circuit": partial(worth, whole=True),
    "only the whole circuit was tried: at_most must look at all its parts": partial(
        worth, pick=lambda gains: gains[-1]
    ),
    "only the head by itself was tried: at_most must look at all parts": partial(
        worth, pick=lambda gains: gains[0]
    ),
    "alone means that v alone is lost, not that v alone is left": partial(worth, alone=0),
    "the signs are wrong: a head that helps is worth a positive number": signs_wrong,
}
