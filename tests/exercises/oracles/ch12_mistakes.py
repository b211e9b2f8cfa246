"""The usual wrong answers of chapter 12 about labels and probes: label -> what was written
instead.
"""

import torch
from torch.nn.functional import cross_entropy

from tests.exercises.oracles.ch12 import (
    accuracy_by_rows,
    back_by_loops,
    logistic_by_newton,
    probe_by_equations,
)

# Labels


def shifted(change=1, **options):
    """token_back with one thing changed; change -1: in the wrong direction."""
    return lambda tokens, back: back_by_loops(tokens, change * back, **options)


def came_round(tokens, back):
    return tokens.roll(back, dims=1)


BACK = {
    "wrong direction: this is the token `back` places later": shifted(-1),
    "one place too far back": shifted(shift=-1),
    "one place too late: back = 1 gives the token itself": shifted(shift=1),
    "the end of the sequence came round to its beginning; nothing stood there: -1": came_round,
    "the first places hold 0, which is a token (BOS); they need -1": shifted(fill=0),
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


PROBE = {
    "the bias is forgotten: the lines must not all pass through 0": fitted(bias=False),
    "the bias is penalised too": fitted(free_bias=False),
    "ridge was not multiplied by the number of rows": fitted(per_row=False),
    "there is no penalty": unpenalised,
    "the bias is the mean of the labels; x was centred, so (mean of x) W must go": bias_unmoved,
    "W is transposed: [d_model, label]": transposed,
}


def regressed(
    whiten=True, penalty=1.0, bias=True, total=False, steps_left=None, back="both", unbiased=False
):
    """logistic_probe as its docstring tells, with one thing changed. penalty: its factor, or a
    function of V and b; back: what is brought back to the coordinates of x.
    """

    def probe(x, labels, n_classes, weight_decay=1e-4, steps=100):
        x, mean = x.double(), x.double().mean(dim=0)
        T = torch.eye(x.shape[1]).double()
        if whiten:
            scatter = (x - mean).T @ (x - mean)
            variances, directions = torch.linalg.eigh(scatter / (len(x) - unbiased))
            kept = variances > 1e-12 * variances.max()
            T = directions[:, kept] / variances[kept].sqrt()
        z = (x - mean) @ T
        V = torch.zeros(z.shape[1], n_classes, dtype=x.dtype, requires_grad=True)
        b = torch.zeros(n_classes, dtype=x.dtype, requires_grad=bias)
        numbers = [V, b] if bias else [V]
        optimizer = torch.optim.LBFGS(
            numbers, max_iter=steps_left or steps, line_search_fn="strong_wolfe"
        )

        def closure():
            optimizer.zero_grad()
            size = penalty(V, b) if callable(penalty) else penalty * V.square().sum()
            reduction = "sum" if total else "mean"
            loss = cross_entropy(z @ V + b, labels, reduction=reduction) + weight_decay * size
            loss.backward()
            return loss

        optimizer.step(closure)
        V, b = V.detach(), b.detach()
        W = V if back == "bias" else T @ V
        return W, b if back == "W" else b - mean @ (T @ V)

    return probe


def least_squares(x, labels, n_classes, weight_decay=1e-4, steps=100):
    return probe_by_equations(x, labels, n_classes, weight_decay)


def one_against_the_rest(x, labels, n_classes, weight_decay=1e-4, steps=100):
    """A yes-or-no regression for each label."""
    columns, biases = [], []
    for label in range(n_classes):
        W, b = logistic_by_newton(x, (labels == label).long(), 2, weight_decay)
        columns.append(W[:, 1] - W[:, 0])
        biases.append(b[1] - b[0])
    return torch.stack(columns, dim=1), torch.stack(biases)


def with_the_bias(V, b):
    return V.square().sum() + b.square().sum()


def mean_square(V, b):
    return V.square().mean()


LOGISTIC = {
    "the penalty is |W|^2, which a stretch of the stream changes": regressed(whiten=False),
    "there is no penalty": regressed(penalty=0.0),
    "the penalty is half of what it should be": regressed(penalty=0.5),
    "the penalty is a mean over V; it is a sum": regressed(penalty=mean_square),
    "the bias is penalised too": regressed(penalty=with_the_bias),
    "there is no bias to fit": regressed(bias=False),
    "the losses were added up; take their mean": regressed(total=True),
    "the variance was divided by rows - 1; divide by rows": regressed(unbiased=True),
    "only a few steps were taken": regressed(steps_left=3),
    "this is least squares, not logistic regression": least_squares,
    "each label got a yes-or-no regression of its own; use one softmax": one_against_the_rest,
    "W is for z, not for x: it must be T V": regressed(back="bias"),
    "b is for the centred x: take off (mean of x) W": regressed(back="W"),
}

# Held-out accuracy


def scored(**options):
    """held_out_accuracy with one thing changed."""

    def accuracy(x, labels, n_classes, share=0.8, fit=None):
        return accuracy_by_rows(x, labels, n_classes, share, **options)

    return accuracy


def last_class_too(x, labels, n_classes, share=0.8, fit=None):
    return accuracy_by_rows(x, labels % n_classes, n_classes, share)


SPLIT = {
    "the probe was tested on the rows it was fitted to": scored(split="tested on fit"),
    "there is no split: all rows fit, and all rows test": scored(split="no split"),
    "the probe was fitted to all rows, the test rows among them": scored(split="all fit"),
    "fitting and testing are swapped: the first `share` fits": scored(split="swapped"),
    "the positions were split; split the sequences": scored(split="positions"),
    "all places were put in one list, which was split; split the sequences": scored(split="places"),
    "places with label -1 were counted as wrong answers": scored(known_only=False),
    "-1 was taken for the last class": last_class_too,
    "the bias was left out": scored(bias=False),
}

FIT = {"`fit` was ignored: it is always the ridge regression": scored()}

# By depth

STREAM = ["blocks.0.hook_resid_pre", *(f"blocks.{layer}.hook_resid_post" for layer in range(3))]
OUTPUTS = [STREAM[0], *(f"blocks.{layer}.hook_attn_out" for layer in range(3))]


def depths(names=STREAM, shift=0, split="sequences"):
    """probe_by_depth with one thing changed; shift: the stream is read that many positions later
    than the label.
    """

    def probed(model, tokens, labels, n_classes, fit=None):
        names_here = [name for name in names if int(name.split(".")[1]) < model.cfg.n_layers]
        _, cache = model.run_with_cache(tokens, names_here)
        accuracies = []
        for name in names_here:
            x = cache[name][:, shift:]
            labels_here = labels[:, : x.shape[1]]
            accuracies.append(accuracy_by_rows(x, labels_here, n_classes, split=split))
        return torch.tensor(accuracies)

    return probed


DEPTHS = {
    "the embedding is missing: begin before layer 0": depths(STREAM[1:]),
    "the last layer is missing: n_layers + 1 depths": depths(STREAM[:-1]),
    "these are the outputs of the layers alone, not the stream": depths(OUTPUTS),
    "the stream was read one position later than the label": depths(shift=1),
    "the probe was tested on the rows it was fitted to": depths(split="tested on fit"),
}
