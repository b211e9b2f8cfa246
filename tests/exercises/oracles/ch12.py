"""What the checks of chapter 12 compare with: probes by their normal equations, means in loops,
data with known answers.

Most functions take options whose defaults are right; any other value makes a mistake that a check
must notice.
"""

from itertools import product

import torch
from einops import einsum

from tests.exercises.checking import expect
from tests.material import seeded


def probe_by_equations(x, labels, n_classes, ridge=1e-3, bias=True, free_bias=True, per_row=True):
    """The minimum by its normal equations, in loops: the bias is one more column, always 1."""
    rows, d_model = x.shape
    size = d_model + bias
    padded = torch.cat([x.double(), torch.ones(rows, 1).double()], dim=1)[:, :size]
    left, right = torch.zeros(size, size).double(), torch.zeros(size, n_classes).double()
    for i in range(size):
        left[i] = (padded[:, i, None] * padded).sum(dim=0)
        for label in range(n_classes):
            right[i, label] = padded[labels == label, i].sum()
        left[i, i] += ridge * (rows if per_row else 1) * (i < d_model or not free_bias)
    solved = torch.linalg.solve(left, right)
    return solved[:d_model], solved[d_model] if bias else torch.zeros(n_classes).double()


def accuracy_by_rows(
    x, labels, n_classes, share=0.8, split="sequences", known_only=True, fit=None, **options
):
    """held_out_accuracy, one row at a time. split: which rows fit and which test; anything but
    "sequences" is a mistake.
    """
    batch, n = labels.shape
    places = [(b, i) for b in range(batch) for i in range(n) if labels[b, i] >= 0]
    first = int(share * batch)
    to_fit, to_test = parted(places, split, first, int(share * n), int(share * len(places)))
    if not to_fit or not to_test:
        raise ValueError("nothing to fit or to test")
    pick = tuple(torch.tensor(axis) for axis in zip(*to_fit))
    W, b = (fit or probe_by_equations)(x[pick], labels[pick], n_classes, **options)
    right = sum(int((x[at].double() @ W + b).argmax()) == labels[at] for at in to_test)
    total = len(to_test) if known_only else (batch - first) * n
    return float(right) / total


def parted(places, split, first, first_late, cut):
    """The places that fit and those that test: the sequences before `first`, and the others."""
    early = [(b, i) for b, i in places if b < first]
    late = [(b, i) for b, i in places if b >= first]
    before = [(b, i) for b, i in places if i < first_late]
    after = [(b, i) for b, i in places if i >= first_late]
    parts = {"sequences": (early, late), "swapped": (late, early), "positions": (before, after)}
    parts |= {"all fit": (places, late), "no split": (places, places)}
    parts |= {"tested on fit": (early, early), "tested on all": (early, places)}
    parts["places"] = (places[:cut], places[cut:])
    return parts[split]


def means_by_loops(x, labels, n_classes, centred=True, minus_one=False, empty=0.0, of_means=False):
    """class_means, label by label. minus_one: places with -1 count in the overall mean, a mistake;
    of_means: the mean of the class means is taken off, another.
    """
    rows, flat = x.reshape(-1, x.shape[-1]), labels.flatten()
    overall = rows.mean(dim=0) if minus_one else rows[flat >= 0].mean(dim=0)
    means = torch.full((n_classes, x.shape[-1]), empty, dtype=x.dtype)
    for label in range(n_classes):
        members = [row for row, each in zip(rows, flat.tolist()) if each == label]
        if members:
            means[label] = sum(members) / len(members) - (overall if centred else 0)
    if of_means:
        seen = torch.tensor([bool((flat == label).any()) for label in range(n_classes)])
        means = torch.where(seen[:, None], means - means[seen].mean(dim=0), 0.0)
    return means


def erased_by_loops(x, labels, n_classes, offset=True, others=False, all_gone=False, **options):
    """erase, place by place. offset False: the whole class mean is taken; others: -1 is treated as
    the last class.
    """
    means = means_by_loops(x, labels, n_classes, centred=offset, **options)
    result = x.clone()
    overall = x[labels >= 0].mean(dim=0)
    for at in product(*map(range, labels.shape)):
        if labels[at] >= 0 or others:
            result[at] = overall if all_gone else x[at] - means[labels[at]]
    return result


def planted_rows(labels, n_classes, d_model=12, noise=0.1, seed=0):
    """x [..., d_model] that holds the labels along random directions, off-centre, with a little
    noise. Where the label is -1 there is noise alone.
    """
    generator = seeded(seed)
    directions = torch.randn(n_classes, d_model, generator=generator).double()
    held = directions[labels]
    held[labels < 0] = 0.0
    return held + 3.0 + noise * torch.randn(held.shape, generator=generator).double()


def later_layers_by_hand(model, stream, pos_embed):
    """Layer 1 and those after it, by hand: stream [batch, pos, d_model] -> logits, patterns."""
    n, patterns = stream.shape[1], []
    later = torch.ones(n, n).triu(1) > 0
    project = "batch pos d_model, head d_model d_head -> batch pos head d_head"
    gather = "batch head query key, batch key head d_head -> batch query head d_head"
    for layer in range(1, model.cfg.n_layers):
        q = einsum(stream + pos_embed, model.W_Q[layer], project)
        k = einsum(stream + pos_embed, model.W_K[layer], project)
        v = einsum(stream, model.W_V[layer], project)
        scores = einsum(q, k, "batch q head d_head, batch k head d_head -> batch head q k")
        scores = scores / q.shape[-1] ** 0.5
        patterns.append(scores.masked_fill(later, -torch.inf).softmax(dim=-1))
        z = einsum(patterns[-1], v, gather)
        back = "batch pos head d_head, head d_head d_model -> batch pos d_model"
        stream = stream + einsum(z, model.W_O[layer], back)
    return stream @ model.W_U, patterns


def back_by_loops(tokens, back, shift=0, fill=-1):
    labels = torch.full_like(tokens, fill)
    for b, row in enumerate(tokens.tolist()):
        for i in range(len(row)):
            if 0 <= i - back + shift < len(row):
                labels[b, i] = row[i - back + shift]
    return labels


def expect_pair(result, d_model, n_classes):
    expect(isinstance(result, tuple) and len(result) == 2, "expected a pair (W, b)")
    W, b = list(result[0].shape), list(result[1].shape)
    expect(result[0].dtype == result[1].dtype == torch.float64, "W and b must be float64")
    expected = f"expected W [d_model, label] = {[d_model, n_classes]} and b [label] = {[n_classes]}"
    expect(W == [d_model, n_classes] and b == [n_classes], f"{expected}, got {W} and {b}")
    return result


def noting_probe():
    """A probe that is always one label off, and the list of what it was fitted to."""
    calls = []

    def fit(x, labels, n_classes):
        calls.append((x, labels))
        W, b = probe_by_equations(x, labels.clamp(min=0), n_classes)
        return W.roll(1, 1), b.roll(1)

    return fit, calls


def expect_fitted_to(calls, labels, share, first):
    """`calls`: what the probe got as x and labels, where x says sequence and position."""
    expect(calls, "`fit` was ignored: it was never called, but it is the probe to use")
    x, given = calls[-1]
    expect(x.ndim == 2, f"`fit` wants x [row, d_model], it got {list(x.shape)}")
    expect((given >= 0).all(), "`fit` got the label -1: places without a label must be left out")
    sequences = sorted(set(x[:, 0].int().tolist()))
    wanted = [b for b in range(first) if (labels[b] >= 0).any()]
    rule = f"share {share} of 9 sequences: the first int({share} * 9) = {first} fit the probe"
    pair = f"labelled are places of sequences {wanted}, it got places of {sequences}"
    expect(sequences == wanted, f"{rule}; {pair}")
    wanted = int((labels[:first] >= 0).sum())
    expect(len(x) == wanted, f"{rule}, with {wanted} labelled places; it got {len(x)}")
    right = labels[x[:, 0].int(), x[:, 1].int()].equal(given)
    expect(right, "the labels that `fit` got belong to other places than its rows of x")


def expect_all_classes(drawn, n_classes):
    """drawn [generator, token]: with so many generators each token gets each class."""
    for token, classes in enumerate(drawn.T.tolist()):
        got = f"{sorted(set(classes))} from {len(drawn)} generators"
        sentence = f"of {n_classes} classes token {token} got {got}"
        expect(set(classes) == set(range(n_classes)), sentence)


def always_two(x, labels, n_classes):
    """A probe that names class 2 whatever it sees."""
    return torch.zeros(x.shape[1], n_classes).double(), torch.eye(n_classes)[2].double()
