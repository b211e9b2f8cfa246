"""The usual wrong answers of chapter 12 about labels and probes: label -> what was written
instead.
"""

import torch
from torch.nn.functional import one_hot

from tests.exercises.oracles.ch12 import accuracy_by_rows, back_by_loops, probe_by_equations

# Labels


def shifted(change=1, **options):
    """token_back with one thing changed; change -1: in the wrong direction."""
    return lambda tokens, back: back_by_loops(tokens, change * back, **options)


def came_round(tokens, back):
    return tokens.roll(back, dims=1)


def stayed(tokens, back):
    """The first `back` tokens are not overwritten."""
    labels = back_by_loops(tokens, back)
    return torch.where(labels == -1, tokens, labels)


def other_sequences(tokens, back):
    return back_by_loops(tokens.T, back).T


def bos_is_nothing(tokens, back):
    labels = back_by_loops(tokens, back)
    labels[:, : back + 1] = -1
    return labels


def always_one_back(tokens, back):
    return back_by_loops(tokens, 1)


BACK = {
    "wrong direction: this is the token `back` places later": shifted(-1),
    "one place too far back": shifted(shift=-1),
    "one place too late: back = 1 gives the token itself": shifted(shift=1),
    "the end of the sequence came round to its beginning; nothing stood there: -1": came_round,
    "the first places hold 0, which is a token (BOS); they need -1": shifted(fill=0),
    "the first places kept their own tokens; they need -1": stayed,
    "this is the sequence before, not the position before": other_sequences,
    "`back` was ignored: it is always 1": always_one_back,
    "position 0 was taken for nothing; a token stands there, too": bos_is_nothing,
}

# Probes


def fitted(**options):
    """linear_probe with one thing changed."""

    def probe(x, labels, n_classes, ridge=1e-3):
        return probe_by_equations(x, labels, n_classes, ridge, **options)

    return probe


def unpenalised(x, labels, n_classes, ridge=1e-3):
    return probe_by_equations(x, labels, n_classes, 0.0)


def bias_unmoved(x, labels, n_classes, ridge=1e-3):
    W, b = probe_by_equations(x, labels, n_classes, ridge)
    return W, b + x.double().mean(dim=0) @ W


def transposed(x, labels, n_classes, ridge=1e-3):
    W, b = probe_by_equations(x, labels, n_classes, ridge)
    return W.T, b


def bias_first(x, labels, n_classes, ridge=1e-3):
    W, b = probe_by_equations(x, labels, n_classes, ridge)
    return b, W


def counted_classes(x, labels, n_classes, ridge=1e-3):
    return probe_by_equations(x, labels, int(labels.max()) + 1, ridge)


def ridge_over_rows(x, labels, n_classes, ridge=1e-3):
    return probe_by_equations(x, labels, n_classes, ridge / len(x) ** 2)


def altered(targets=lambda onehot: onehot, centre=True, scale=False, sign=-1):
    """The closed form of the docstring, with one thing changed."""

    def probe(x, labels, n_classes, ridge=1e-3):
        x, target = x.double(), targets(one_hot(labels, n_classes).double())
        mean, target_mean = x.mean(dim=0), target.mean(dim=0)
        moved = x - mean if centre else x
        moved = moved / x.std(dim=0) if scale else moved
        left = moved.T @ moved + ridge * len(x) * torch.eye(x.shape[1]).double()
        W = torch.linalg.solve(left, moved.T @ (target - target_mean))
        return W, target_mean + sign * mean @ W

    return probe


def plus_and_minus(onehot):
    return 2 * onehot - 1


def evenly_weighed(onehot):
    return onehot / onehot.sum(dim=0).clamp(min=1)


PROBE = {
    "the bias is forgotten: the lines must not all pass through 0": fitted(bias=False),
    "the bias is penalised too": fitted(free_bias=False),
    "ridge was not multiplied by the number of rows": fitted(per_row=False),
    "ridge was divided by the number of rows; multiply": ridge_over_rows,
    "there is no penalty": unpenalised,
    "the bias is the mean of the labels; x was centred, so (mean of x) W must go": bias_unmoved,
    "(mean of x) W was added to b; take it off": altered(sign=1),
    "x was not centred before solving": altered(centre=False),
    "x was divided by its standard deviation; W is for x as it is": altered(scale=True),
    "the labels became 1 and -1; one-hot is 1 and 0": altered(plus_and_minus),
    "the one-hot labels were divided by the size of their class": altered(evenly_weighed),
    "the classes were counted in the labels; n_classes says how many": counted_classes,
    "W is transposed: [d_model, label]": transposed,
    "the pair is the wrong way round: W, then b": bias_first,
}

# Held-out accuracy


def scored(**options):
    """held_out_accuracy with one thing changed."""

    def accuracy(x, labels, n_classes, share=0.8, fit=None):
        return accuracy_by_rows(x, labels, n_classes, share, fit=fit, **options)

    return accuracy


def always_ridge(x, labels, n_classes, share=0.8, fit=None):
    return accuracy_by_rows(x, labels, n_classes, share)


def always_80(x, labels, n_classes, share=0.8, fit=None):
    return accuracy_by_rows(x, labels, n_classes, fit=fit)


def last_class_too(x, labels, n_classes, share=0.8, fit=None):
    return accuracy_by_rows(x, labels % n_classes, n_classes, share, fit=fit)


def nearest(x, labels, n_classes, share=0.8, fit=None):
    """int(share * batch), rounded instead of cut."""
    share = (round(share * len(x)) + 0.5) / len(x)
    return accuracy_by_rows(x, labels, n_classes, share, fit=fit)


def by_sequence(x, labels, n_classes, share=0.8, fit=None):
    """The mean over the sequences that test of each one's share of right answers."""
    n = int(share * len(x))
    known, shares = labels >= 0, []
    W, b = (fit or probe_by_equations)(x[:n][known[:n]], labels[:n][known[:n]], n_classes)
    for row, wanted, here in zip(x[n:], labels[n:], known[n:]):
        if here.any():
            right = (row[here].double() @ W + b).argmax(dim=-1) == wanted[here]
            shares.append(right.double().mean().item())
    return sum(shares) / len(shares)


def without_b(x, labels, n_classes, share=0.8, fit=None):
    """The bias is fitted, but not used."""

    def W_only(*arguments):
        W, b = (fit or probe_by_equations)(*arguments)
        return W, 0 * b

    return accuracy_by_rows(x, labels, n_classes, share, fit=W_only)


def errors(x, labels, n_classes, share=0.8, fit=None):
    return 1 - accuracy_by_rows(x, labels, n_classes, share, fit=fit)


def percent(x, labels, n_classes, share=0.8, fit=None):
    return 100 * accuracy_by_rows(x, labels, n_classes, share, fit=fit)


FITTED = {
    "fitting and testing are swapped: the first `share` fits": scored(split="swapped"),
    "the positions were split; split the sequences": scored(split="positions"),
    "all places were put in one list, which was split; split the sequences": scored(split="places"),
    "there is no split: all rows fit, and all rows test": scored(split="no split"),
    "-1 was taken for the last class": last_class_too,
    "`share` was ignored: it is always 0.8": always_80,
    "int(share * batch) was rounded to the nearest": nearest,
    "`fit` was ignored: it is always the ridge regression": always_ridge,
}
TESTED = {
    "the probe was fitted to all rows, the test rows among them": scored(split="all fit"),
    "the probe was tested on the rows it was fitted to": scored(split="tested on fit"),
    "it was tested on all sequences, on those of the fit too": scored(split="tested on all"),
    "places with label -1 were counted as wrong answers": scored(known_only=False),
    "b was left out of the guesses": without_b,
    "the mean was taken by sequence first; all labelled places count alike": by_sequence,
    "this is the share of wrong answers": errors,
    "this is in per cent; a share runs from 0 to 1": percent,
}

SHARED = {"rows of one sequence both fit the probe and test it": scored(split="positions")}

# By depth


def stream(n_layers):
    return [
        "blocks.0.hook_resid_pre",
        *(f"blocks.{layer}.hook_resid_post" for layer in range(n_layers)),
    ]


def outputs(n_layers):
    return [
        "blocks.0.hook_resid_pre",
        *(f"blocks.{layer}.hook_attn_out" for layer in range(n_layers)),
    ]


def depths(names=stream, shift=0, split="sequences", fit_used=True):
    """probe_by_depth with one thing changed; names: of the activations in a model of so many
    layers; shift: the stream is read that many positions later than the label.
    """

    def probed(model, tokens, labels, n_classes, fit=None):
        chosen = names(model.cfg.n_layers)
        _, cache = model.run_with_cache(tokens, chosen)
        n, accuracies = tokens.shape[1], []
        for name in chosen:
            x = cache[name][:, max(shift, 0) : n + min(shift, 0)]
            at = labels[:, max(-shift, 0) : n - max(shift, 0)]
            used = fit if fit_used else None
            accuracies.append(accuracy_by_rows(x, at, n_classes, split=split, fit=used))
        return torch.tensor(accuracies)

    return probed


DEPTHS = {
    "the embedding is missing: begin before layer 0": depths(lambda n: stream(n)[1:]),
    "the last layer is missing: n_layers + 1 depths": depths(lambda n: stream(n)[:-1]),
    "only two layers were read; model.cfg.n_layers says how many": depths(lambda n: stream(2)),
    "these are the outputs of the layers alone, not the stream": depths(outputs),
    "the order is from the last depth to the first": depths(lambda n: stream(n)[::-1]),
    "the stream was read one position later than the label": depths(shift=1),
    "the stream was read one position before the label": depths(shift=-1),
    "the probe was tested on the rows it was fitted to": depths(split="tested on fit"),
    "there is no split: all rows fit, and all rows test": depths(split="no split"),
}
FIRST = {
    "hook_embed was read; before layer 0 the stream is blocks.0.hook_resid_pre": depths(
        lambda n: ["hook_embed", *stream(n)[1:]]
    )
}
LATE = {"the stream was read one position later than the label": depths(shift=1)}
NO_FIT = {"`fit` was not handed on": depths(fit_used=False)}
