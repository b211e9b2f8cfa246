"""logistic_probe by Newton's method, and the minima that other criteria have."""

import functools

import torch

from exercises.attempts import Wrong
from tests.exercises.cases import in_case
from tests.exercises.checking import expect_close
from tests.exercises.oracles.ch12 import expect_pair, probe_by_equations


def remembered(function):
    """Newton's method solves the same few problems again and again: keep what it found."""
    known = {}

    @functools.wraps(function)
    def again(x, labels, *arguments, **options):
        key = (tuple(x.flatten().tolist()), tuple(labels.tolist()), arguments, *options.items())
        if key not in known:
            known[key] = function(x, labels, *arguments, **options)
        return known[key]

    return again


def covariance(x):
    return (x - x.mean(dim=0)).T @ (x - x.mean(dim=0)) / len(x)


@remembered
def logistic_by_newton(
    x,
    labels,
    n_classes,
    weight_decay=1e-4,
    form=covariance,
    bias_penalty=0.0,
    total=False,
    bias=True,
):
    """All numbers of W and b, for the centred x, by Newton's method. The penalty is W^T form(x) W
    + bias_penalty * b^2. total: losses are added up; bias False: b stays 0.
    """
    x, size = x.double(), x.shape[1] + bias
    padded = torch.cat([x - x.mean(dim=0), torch.ones(len(x), 1).double()], dim=1)[:, :size]
    target = torch.eye(n_classes).double()[labels]
    penalty = torch.full((size, size), 0.0).double()
    penalty[: x.shape[1], : x.shape[1]] = form(x)
    if bias:
        penalty[-1, -1] = bias_penalty
    per_row, one = 1 if total else 1 / len(x), torch.eye(n_classes).double()
    V = torch.zeros(size, n_classes).double()
    for _ in range(30):
        p = (padded @ V).softmax(dim=-1)
        slope = per_row * padded.T @ (p - target) + 2 * weight_decay * penalty @ V
        spread = torch.diag_embed(p) - p[:, :, None] * p[:, None]  # row label label
        curvature = per_row * torch.einsum("ri,rj,rab->iajb", padded, padded, spread)
        curvature += 2 * weight_decay * torch.einsum("ij,ab->iajb", penalty, one)
        matrix = curvature.reshape(V.numel(), V.numel())
        step = torch.linalg.lstsq(matrix, slope.reshape(-1, 1), driver="gelsd").solution
        V = V - step.view_as(V)
        if step.abs().max() < 1e-10:
            break
    W = V[: x.shape[1]]
    b = V[-1] if bias else torch.zeros(n_classes).double()
    return W, b - x.mean(dim=0) @ W


def minimum(**options):
    """What another criterion makes of logistic_probe."""

    def probe(x, labels, n_classes, weight_decay=1e-4, steps=100):
        return logistic_by_newton(x, labels, n_classes, weight_decay, **options)

    return probe


def after(change):
    """The right minimum, changed on the way back from z to x: change(x, W, b) -> W, b."""

    def probe(x, labels, n_classes, weight_decay=1e-4, steps=100):
        return change(x.double(), *logistic_by_newton(x, labels, n_classes, weight_decay))

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


def for_z(x, W, b):
    """V instead of T V."""
    variances, directions = torch.linalg.eigh(covariance(x))
    along_directions = directions.T @ W
    return variances.sqrt()[:, None] * along_directions, b


def only_turned_back(x, W, b):
    variances, directions = torch.linalg.eigh(covariance(x))
    along_directions = directions.T @ W
    turned = directions @ (variances.sqrt()[:, None] * along_directions)
    return turned, b + x.mean(dim=0) @ W - x.mean(dim=0) @ turned


def identity(x):
    return torch.eye(x.shape[1]).double()


def diagonal(x):
    return torch.diag(covariance(x).diag())


def wider_than(least):
    """least: variances -> a number; directions with a smaller variance are left out."""

    def probe(x, labels, n_classes, weight_decay=1e-4, steps=100):
        x = x.double()
        variances, directions = torch.linalg.eigh(covariance(x))
        kept = directions[:, variances > least(variances)]
        W, b = logistic_by_newton(x @ kept, labels, n_classes, weight_decay)
        return kept @ W, b

    return probe


only_wide = wider_than(lambda variances: 1e-6 * variances.max())


def which_directions(answers, x, *given):
    """What to say of the answers [row, label] to a stretched x, if they have changed."""
    W, b = only_wide(x, *given)
    off = answers.log_softmax(dim=-1) - (x @ W + b).log_softmax(dim=-1)
    reason = "directions were left out by 1e-6 of the variance; it is of the spread, its root"
    known = f" ({reason})" if off.abs().max() < 1e-3 else ""
    return f"x was stretched, one direction to 1/100000 of another: no answer may change{known}"


def in_another_unit(answers, x, *given):
    gone = (answers - answers[0]).abs().max() < 1e-6  # no direction is left
    reason = "directions were left out by a fixed length; 1e-6 is of the largest spread"
    known = f" ({reason})" if gone else ""
    return f"x was multiplied by 1e-8: no answer may change{known}"


def expect_same_answers(probe, moved, x, labels, why):
    """The probe says of moved what it says of x. why: the answers, and what it was given -> a
    sentence.
    """
    W, b = expect_pair(probe(x, labels, 3, 0.01), 5, 3)
    with torch.no_grad():
        given = moved, labels, 3, 0.01
        W_moved, b_moved = in_case("under torch.no_grad()", probe, *given)
    got, truth = moved @ W_moved + b_moved, x @ W + b
    says = why(got, *given)
    expect_close(got.log_softmax(-1), truth.log_softmax(-1), "row label", says, tolerance=1e-3)


SHRUNK = {
    "directions were left out by a fixed length; 1e-6 is of the largest spread": wider_than(
        lambda variances: 1e-12
    ),
    "the penalty is |W|^2": minimum(form=identity),
}
STRETCHED = {
    "the penalty is |W|^2": minimum(form=identity),
    "directions were left out by their variance; 1e-6 is of the spread, its root": only_wide,
}
MINIMA = {
    "the penalty is |W|^2, which a stretch of the stream changes": minimum(form=identity),
    "there is no penalty": minimum(form=lambda x: 0 * covariance(x)),
    "the penalty is half of what it should be": minimum(form=lambda x: covariance(x) / 2),
    "the penalty is twice what it should be": minimum(form=lambda x: 2 * covariance(x)),
    "the penalty is a mean over the labels; it is a sum": minimum(form=lambda x: covariance(x) / 3),
    "the penalty is a mean over V; it is a sum": minimum(
        form=lambda x: covariance(x) / 3 / x.shape[1]
    ),
    "the bias is penalised too": minimum(bias_penalty=1.0),
    "there is no bias to fit": minimum(bias=False),
    "the losses were added up; take their mean": minimum(total=True),
    "the variance was divided by rows - 1; divide by rows": minimum(
        form=lambda x: covariance(x) * len(x) / (len(x) - 1)
    ),
    "the variance was not divided by the rows": minimum(form=lambda x: covariance(x) * len(x)),
    "T divides by the variances; divide by their roots": minimum(
        form=lambda x: covariance(x) @ covariance(x)
    ),
    "T multiplies by the roots of the variances; divide by them": minimum(
        form=lambda x: torch.linalg.inv(covariance(x))
    ),
    "each coordinate was scaled by itself; turn x to the eigenvectors first": minimum(
        form=diagonal
    ),
    "the covariance was taken about 0; take the mean of x off first": minimum(
        form=lambda x: x.T @ x / len(x)
    ),
    "this is least squares, not logistic regression": least_squares,
    "each label got a yes-or-no regression of its own; use one softmax": one_against_the_rest,
    "W is for z, not for x: it must be T V": after(for_z),
    "W was turned back to x but not stretched back: it must be T V": after(only_turned_back),
    "b is for the centred x: take off (mean of x) W": after(
        lambda x, W, b: (W, b + x.mean(dim=0) @ W)
    ),
    "(mean of x) W was taken off b, but z was not made from the centred x": after(
        lambda x, W, b: (W, b - x.mean(dim=0) @ W)
    ),
    "(mean of x) W was added to b; take it off": after(
        lambda x, W, b: (W, b + 2 * x.mean(dim=0) @ W)
    ),
}


def alike(got, truth):
    """As near as an iteration comes. The same for all labels, in b, changes no answer."""
    W, W_true, b = got[0], truth[0], got[1] - got[1].mean()
    if W.shape != W_true.shape:
        return False
    off = (W - W_true).abs() / (1 + W_true.abs())
    b_true = truth[1] - truth[1].mean()
    off_b = (b - b_true).abs() / (1 + b_true.abs())
    return bool(off.max() < 1e-3 and off_b.max() < 3e-3)


def objective(x, labels, W, b, weight_decay):
    right = (x @ W + b).log_softmax(dim=-1)[range(len(x)), labels]
    return weight_decay * (x @ W).var(dim=0, unbiased=False).sum() - right.mean()


def expect_minimum(got, x, labels, n_classes, weight_decay):
    """got: (W, b) of the strong probe. What else is known to be minimal there, is said."""
    W, b = expect_pair(got, x.shape[1], n_classes)
    truth = logistic_by_newton(x, labels, n_classes, weight_decay)
    if alike((W, b), truth):
        return
    for label, wrong in MINIMA.items():
        if alike((W, b), wrong(x, labels, n_classes, weight_decay)):
            raise Wrong(f"this is another minimum, weight_decay {weight_decay}: {label}")
    least = objective(x, labels, *truth, weight_decay).item()
    reached = objective(x, labels, W, b, weight_decay).item()
    so = f"the loss with its penalty is {reached:.7g} there, the least is {least:.7g}"
    if reached < least + 1e-3:
        so += ". That is near: are up to `steps` steps of LBFGS taken, all in float64?"
    raise Wrong(f"this W and b are not the minimum, weight_decay {weight_decay}: {so}")
