"""What people get wrong in chapter 15 about circuits, probes and lenses: label -> the function they
write.
"""

from functools import partial

import torch

from tests.exercises.oracles import ch15 as o
from tests.exercises.oracles import ch15_readouts as readouts
from tests.exercises.oracles.ch15_readouts import STREAM


def middle(model, tokens, names):
    _, cache = model.run_with_cache(tokens)
    return {name: cache[name].median(dim=0, keepdim=True).values for name in names}


def not_averaged(model, tokens, names):
    _, cache = model.run_with_cache(tokens)
    return {name: cache[name] for name in names}


def repeated(model, tokens, names):
    means = o.means_over(0)(model, tokens, names)
    return {name: mean.expand(len(tokens), *mean.shape[1:]) for name, mean in means.items()}


def one_for_all_positions(model, tokens, names):
    _, cache = model.run_with_cache(tokens)
    means = o.means_over((0, 1))(model, tokens, names)
    return {name: mean.expand_as(cache[name][:1]) for name, mean in means.items()}


def of_everything(model, tokens, names):
    _, cache = model.run_with_cache(tokens)
    return {name: x.mean(dim=0, keepdim=True) for name, x in cache.items()}


MEAN_CACHE = {
    "the mean went over the positions too": o.means_over((0, 1)),
    "the mean went over the positions too, and stands at each; each has a mean of its own": (
        one_for_all_positions
    ),
    "the mean went over the positions, not over the prompts": o.means_over(1),
    "the axis of the prompts is gone; keepdim=True": o.means_over(0, keepdim=False),
    "zeros are not means": o.means_over(0, scale=0.0),
    "nothing was averaged": not_averaged,
    "the median was taken, not the mean": middle,
    "the last position was cut off; the model reads all of `tokens`": o.means_over(0, read=-1),
    "the mean was repeated for every prompt; its first axis has length 1": repeated,
    "all activations were returned, not only those in `names`": of_everything,
}


def against(base=None, top=None, combine=torch.div):
    """A wrong normalised_logit; base: subtracted from the logits; top: of the centred logits and
    the logits, what is compared with.
    """

    def value(logits, right):
        mean = logits.mean(dim=-1, keepdim=True)
        centred = logits - (base(logits) if base else mean)
        largest = top(centred, logits) if top else centred.amax(dim=-1)
        return combine(centred[..., torch.arange(len(right)), right], largest)

    return value


def largest_other(logits, right):
    centred = logits - logits.mean(dim=-1, keepdim=True)
    row = torch.arange(len(right))
    others = centred.clone()
    others[..., row, right] = -torch.inf
    return centred[..., row, right] / others.amax(dim=-1)


NORMALISED = {
    "it was divided by the largest of the other answers; the right one takes part": largest_other,
    "the logits were not centred: a constant added to all of them would change the result": partial(
        o.ratio, centre=False
    ),
    "probabilities were divided, not logits": lambda logits, right: o.ratio(
        logits.softmax(-1), right, centre=False
    ),
    "the smallest logit was made 0; make the mean 0": partial(o.ratio, base=min),
    "the largest was taken without regard to sign": partial(
        o.ratio, top=lambda row: max(map(abs, row))
    ),
    "the ratio is upside down": lambda logits, right: 1 / o.ratio(logits, right),
    "it was averaged over the prompts": lambda logits, right: o.ratio(logits, right).mean(dim=-1),
    "one mean was taken of everything; each prompt has its own": against(
        base=lambda logits: logits.mean()
    ),
    "the largest logit was not centred, only the right answer's": against(
        top=lambda centred, logits: logits.amax(dim=-1)
    ),
    "it was divided by the largest of all prompts; each has its own": against(
        top=lambda centred, logits: centred.amax()
    ),
    "the largest was subtracted; divide by it": against(combine=torch.sub),
}

wrongly_faithful = partial(partial, o.faithful)


def circuits_as_cells(model, tokens, circuits, means, metric=o.share_of_right):
    """The ends of the scale are right, but the circuits themselves are set to their means."""

    def exchanged(circuit, model, nothing):
        return o.share_explained(circuit, nothing, model)

    options = {"invert": True, "formula": exchanged, "refuses": False}
    return o.faithful(model, tokens, circuits, means, metric, **options)


def unless_equal(model, tokens, circuits, means, metric=o.share_of_right):
    """Refuses only a model that is exactly as good as nothing."""
    F = o.faithful(model, tokens, circuits, means, metric, refuses=False)
    if not F.isfinite().all():
        raise ValueError("the same as nothing")
    return F


def centred_ratio(logits, right):
    centred = logits - logits.mean(dim=-1, keepdim=True)
    return centred[..., torch.arange(len(right)), right] / centred.amax(dim=-1)


FAITHFULNESS = {
    "the circuit was set to its means, not what is outside": wrongly_faithful(
        invert=True, refuses=False
    ),
    "the cells are the circuits themselves; each cell has to hold what is outside": (
        circuits_as_cells
    ),
    "the outside was set to zero, not to its mean": wrongly_faithful(scale=0.0),
    "what nothing scores was not subtracted": wrongly_faithful(formula=lambda c, m, e: c / m),
    "what nothing scores was subtracted above the line only": wrongly_faithful(
        formula=lambda c, m, e: (c - e) / m
    ),
    "it was clipped to 0 to 1": lambda *a: o.faithful(*a).clip(0, 1),
    "the metric itself was returned": wrongly_faithful(formula=lambda c, m, e: c),
    "`metric` was ignored": lambda m, t, c, means, metric=None: o.faithful(
        m, t, c, means, centred_ratio, refuses=False
    ),
    "a model that does no better than nothing, or worse, was accepted": unless_equal,
    "it was divided prompt by prompt, and the ratios averaged": wrongly_faithful(
        score_of=lambda metric, logits, right: metric(logits, right)
    ),
    "the places are those of four positions, whatever the length": wrongly_faithful(length=4),
}

# Probes and lenses


def given_streams(reads):
    """A wrong probe_map: reads(stream, pos) is what the probe of a position sees."""

    def table(model, tokens, labels, n_classes, fit=None):
        return readouts.probes(model, tokens, labels, n_classes, fit, reads=reads)

    return table


def tested_on_all(model, tokens, labels, n_classes, fit=None):
    """A wrong probe_map: every row is fitted on, and tested."""
    return readouts.probes(model, tokens, labels, n_classes, fit, fitted=1.0, test_on_fit=True)


def without_last(model, tokens, labels, n_classes, fit=None):
    table = readouts.probes(model, tokens, labels, n_classes, fit)
    table[:, -1] = 0
    return table


PROBES = {
    "the probes were tested on what they were fitted to": partial(
        readouts.probes, test_on_fit=True
    ),
    "the probes were fitted to all problems, and tested on them": tested_on_all,
    "rows and columns are exchanged: [depth, pos]": lambda *a, **options: (
        readouts.probes(*a, **options).T
    ),
    "the streams are in another order": partial(readouts.probes, names=STREAM[::-1]),
    "the streams between attention and MLP are missing": partial(
        readouts.probes, names=STREAM[::2]
    ),
    "`fit` was not passed on: the probe was a ridge probe": lambda *a, fit=None: readouts.probes(
        *a
    ),
    "the stream was averaged over the positions; each has a probe of its own": given_streams(
        lambda stream, pos: stream.mean(dim=1)
    ),
    "only the last position's stream was probed": given_streams(lambda stream, pos: stream[:, -1]),
    "the last position was left out": without_last,
}


def scale_of_last(model, x, scale):
    return readouts.lens(model, x, scale[:, -1:].expand_as(scale))


def centred_late(model, x, scale):
    logits = readouts.lens(model, x, scale, centre=False)
    return logits - logits.mean(dim=-1, keepdim=True)


wrong_lens = partial(partial, readouts.lens)
LENS = {
    "the part's own scale was used; the lenses of the parts then do not add up": wrong_lens(
        own=True
    ),
    "the mean was not subtracted": wrong_lens(centre=False),
    "ln_final_w is missing": wrong_lens(weight=False),
    "ln_final_b was added; it belongs to no part": wrong_lens(bias=True),
    "it was multiplied by the scale; divide": wrong_lens(inverse=True),
    "the mean was subtracted after ln_final_w; LayerNorm does it first": wrong_lens(
        centre=False, late=True
    ),
    "the mean over the vocabulary was taken off the logits; it is x's own, over d_model": (
        centred_late
    ),
    "the last position's scale was used for all; each has its own": scale_of_last,
    "a softmax was taken; the lenses then do not add up": lambda *a: readouts.lens(*a).softmax(-1),
}


def log_probabilities(model, cache, layer, tokens):
    """How the log-probability of the stream's lens changes across the MLP."""
    change, scale = 0, cache["ln_final.hook_scale"]
    for sign, name in ((1, "hook_resid_post"), (-1, "hook_resid_mid")):
        stream = cache[f"blocks.{layer}.{name}"]
        change = change + sign * readouts.lens(model, stream, scale).log_softmax(dim=-1)
    return change.gather(-1, tokens[..., None])[..., 0]


def own_log_probabilities(model, cache, layer, tokens):
    """The lens of what the MLP adds, as if it were all the logits."""
    scale = cache["ln_final.hook_scale"]
    lens = readouts.lens(model, cache[f"blocks.{layer}.hook_mlp_out"], scale)
    return lens.log_softmax(dim=-1).gather(-1, tokens[..., None])[..., 0]


def of_whole_layer(model, cache, layer, tokens):
    by_attention = readouts.deletion(model, cache, layer, tokens, name="hook_attn_out")
    return by_attention + readouts.deletion(model, cache, layer, tokens)


wrong_deletion = partial(partial, readouts.deletion)
DELETION = {
    "the mean over the vocabulary was not subtracted": wrong_deletion(centre=False),
    "the sign is wrong: below 0 means deleted": wrong_deletion(sign=-1),
    "each stream was divided by its own scale; hold it fixed": wrong_deletion(own=True),
    "the stream after the MLP was taken, not what the MLP adds": wrong_deletion(
        name="hook_resid_post"
    ),
    "the attention's output was taken, not the MLP's": wrong_deletion(name="hook_attn_out"),
    "always the first layer": lambda m, c, layer, t: readouts.deletion(m, c, 0, t),
    "log-probabilities were compared, not logits": log_probabilities,
    "log_softmax of the lens was taken; subtract its mean": own_log_probabilities,
    "what the attention of the layer adds was counted, too": of_whole_layer,
    "one token was asked for everywhere, the last position's": lambda m, c, layer, t: (
        readouts.deletion(m, c, layer, t[:, -1:].expand_as(t))
    ),
    "what is promoted was set to 0": lambda *a: readouts.deletion(*a).clamp(max=0),
}
