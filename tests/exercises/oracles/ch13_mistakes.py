"""The usual wrong answers of chapter 13 about one circuit, the metric and faithfulness, as code:
label -> what the learner wrote instead. Each exercise is done the slow way, with options that turn
it into a mistake.
"""

from functools import partial

import torch

from tests.exercises.oracles import ch13 as o
from tests.exercises.oracles.ch13 import heads, without

# One circuit


def circuit_run(model, tokens, keep, ablation="mean", cache=None, kept=None, live=False, kind=None):
    """run_circuit the long way. kept: model, keep -> the heads that do work; kind: another."""
    working = kept(model, keep) if kept else keep
    return o.logits_of(model, tokens, working, kind or ablation, live)


def ran(**options):
    return partial(circuit_run, **options)


def plus(chosen):
    """keep, and the heads outside for which chosen(head, keep) holds."""
    return lambda model, keep: [
        head for head in heads(model) if head in keep or chosen(model, head, keep)
    ]


def whole_layers(model, keep):
    """A layer works only if all its heads are kept."""
    lost = {layer for layer, head in heads(model) if (layer, head) not in keep}
    return [head for head in heads(model) if head[0] not in lost]


def exchanged(model, keep):
    return [(layer, head) for layer, head in heads(model) if (head, layer) in keep]


CIRCUIT = {
    "the circuit was ablated; ablate everybody else": ran(
        kept=lambda model, keep: without(heads(model), keep)
    ),
    "the heads outside were always zeroed; use `ablation`": ran(kind="zero"),
    "it was always mean ablation; use `ablation`": ran(kind="mean"),
    "only layer 0 was ablated": ran(kept=plus(lambda model, head, keep: head[0] > 0)),
    "only the last layer was ablated": ran(
        kept=plus(lambda model, head, keep: head[0] < model.cfg.n_layers - 1)
    ),
    "only layers 0 and 1 were ablated; heads_of(model) names all": ran(
        kept=plus(lambda model, head, keep: head[0] > 1)
    ),
    "nothing was ablated": ran(kept=lambda model, keep: heads(model)),
    "layers without a kept head were left as they are": ran(
        kept=plus(lambda model, head, keep: head[0] not in [layer for layer, _ in keep])
    ),
    "layers before the first kept head were left as they are": ran(
        kept=plus(lambda model, head, keep: bool(keep) and head[0] < min(keep)[0])
    ),
    "layers after the last kept head were left as they are": ran(
        kept=plus(lambda model, head, keep: bool(keep) and head[0] > max(keep)[0])
    ),
    "every head of a layer was ablated that has one outside": ran(kept=whole_layers),
    "layer and head are exchanged": ran(kept=exchanged),
    "the replacements came from an ablated run; take them from an undisturbed one": ran(live=True),
}

ACCEPTED = {"heads that do not exist were accepted": circuit_run}
IGNORED = {"the cache that was given was ignored": circuit_run}

# The metric


def right(**options):
    """right_minus_mean with one thing changed."""
    return partial(o.right_by_loops, **options)


def gaps_of(logits, repeats, known=None, following=None):
    """[batch] lists of right logit minus mean logit, at the predictable positions of each row."""
    known = repeats.predictable[:, :-1] if known is None else known
    following = repeats.tokens[:, 1:] if following is None else following
    there = logits[:, : known.shape[1]]
    right = there.gather(-1, following[..., None])[..., 0]
    gaps = right - there.mean(dim=-1)
    return [row[here] for row, here in zip(gaps, known)]


def flat(logits, repeats, **options):
    return torch.cat(gaps_of(logits, repeats, **options))


def unshifted(logits, repeats):
    """The token just read is compared with the logits there, at all predictable positions."""
    return flat(logits, repeats, known=repeats.predictable, following=repeats.tokens).mean()


def mask_shifted(logits, repeats):
    return flat(logits, repeats, known=repeats.predictable[:, 1:]).mean()


def token_before(logits, repeats):
    return flat(logits, repeats, following=repeats.tokens.roll(1, 1)[:, :-1]).mean()


def rolled(logits, repeats):
    """After the last position comes the first token again."""
    following = repeats.tokens.roll(-1, 1)
    return flat(logits, repeats, known=repeats.predictable, following=following).mean()


def by_row(logits, repeats):
    return torch.stack([row.mean() for row in gaps_of(logits, repeats)]).mean()


def over_all(logits, repeats):
    return flat(logits, repeats).sum() / repeats.predictable[:, :-1].numel()


def mean_of_positions(logits, repeats):
    """What is subtracted is the token's mean logit over the positions."""
    known = repeats.predictable[:, :-1]
    chosen, following = logits[:, :-1][known], repeats.tokens[:, 1:][known]
    right = chosen.gather(-1, following[:, None])[:, 0]
    return (right - chosen.mean(dim=0)[following]).mean()


RIGHT = {
    "the mean of the vocabulary was not subtracted": right(baseline="none"),
    "the best other logit was subtracted; the mean": right(baseline="best"),
    "the largest logit was subtracted; the mean": right(baseline="most"),
    "the median was subtracted; the mean": right(baseline="median"),
    "the mean left out the right token; it goes over all tokens": right(baseline="others"),
    "the mean over the positions was subtracted; the one over the vocabulary": mean_of_positions,
    "the token just read was taken for the right one; it is the next": right(next_token=0),
    "the token before was taken for the right one; it is the next": token_before,
    "the logits were not shifted against the tokens: position p predicts p + 1": unshifted,
    "the last position counts too, with the first token as its next": rolled,
    "predictable was shifted: it stands where the prediction is made": mask_shifted,
    "every position counted; only predictable ones do": right(everywhere=True),
    "the mean was taken by sequence first; all positions count alike": by_row,
    "the positions were added up; take their mean": lambda *pair: flat(*pair).sum(),
    "the sum was divided by the number of all positions": over_all,
    "one number for each position; take their mean": flat,
    "this is the log-probability; use the logit less the mean logit": o.minus_planted_loss,
    "this is the loss; use the logit less the mean logit": lambda *pair: (
        -o.minus_planted_loss(*pair)
    ),
    "probabilities were compared; use the logits": right(scale=lambda x: x.softmax(dim=-1)),
    "the sign is wrong: right minus mean": lambda *pair: -o.right_by_loops(*pair),
}
DETACHED = {
    "the numbers were detached; gradients must flow": lambda *pair: o.right_by_loops(*pair).detach()
}

# Faithfulness


def shares(model, repeats, circuits, metric, ablation="mean", invert=False, **options):
    """faithfulness; the options are the mistakes."""
    if invert:
        circuits = [without(heads(model), circuit) for circuit in circuits]
    return o.share(model, repeats, circuits, metric, ablation, **options)


def formula(of_circuit_whole_none):
    return partial(shares, formula=of_circuit_whole_none)


def shares_by(kind):
    def wrong(model, repeats, circuits, metric, ablation="mean"):
        return shares(model, repeats, circuits, metric, kind)

    return wrong


def shares_by_right(model, repeats, circuits, metric, ablation="mean"):
    return shares(model, repeats, circuits, o.right_by_loops, ablation)


def of_the_best(model, repeats, circuits, metric, ablation="mean"):
    values = shares(model, repeats, circuits, metric, ablation)
    return values / values.max().clamp(min=1e-9)


def empty_in_front(model, repeats, circuits, metric, ablation="mean"):
    return shares(model, repeats, [[], *circuits], metric, ablation)


def sign_lost(model, repeats, circuits, metric, ablation="mean"):
    return shares(model, repeats, circuits, metric, ablation).abs()


SHARES = {
    "the empty circuit was not subtracted": formula(lambda c, m, e: c / m),
    "the empty circuit was subtracted above the line only": formula(lambda c, m, e: (c - e) / m),
    "the empty circuit was subtracted below the line only": formula(lambda c, m, e: c / (m - e)),
    "this is 1 - F, what is lost": formula(lambda c, m, e: (m - c) / (m - e)),
    "it was clipped to 0 to 1": formula(lambda c, m, e: ((c - e) / (m - e)).clip(0, 1)),
    "it was clipped at 1; F may be more": formula(lambda c, m, e: ((c - e) / (m - e)).clip(max=1)),
    "it was clipped at 0; F may be less": formula(lambda c, m, e: ((c - e) / (m - e)).clip(min=0)),
    "the sign was lost; F may be less than 0": sign_lost,
    "the metric itself was returned": formula(lambda c, m, e: c),
    "the difference was not divided": formula(lambda c, m, e: c - e),
    "it is in per cent": formula(lambda c, m, e: 100 * (c - e) / (m - e)),
    "the heads outside were measured, not the circuit": partial(shares, invert=True),
    "m(none) is always by zeroing; it has the same ablation": partial(shares, none_by="zero"),
    "m(none) is always by the mean; it has the same ablation": partial(shares, none_by="mean"),
    "the ablation was ignored: always mean": shares_by("mean"),
    "the ablation was ignored: always zero": shares_by("zero"),
    "the metric was ignored: always right_minus_mean": shares_by_right,
    "it was divided by the best circuit's; divide by the model's": of_the_best,
    "the empty circuit stands in front; return one number for each circuit": empty_in_front,
}
REFUSED_TOO_LITTLE = {"a gap of 0 or less was accepted": partial(shares, refuse=False)}
