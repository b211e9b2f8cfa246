"""Why is it wrong? What a result of chapter 12 shows of how it was made."""

import torch

from exercises.attempts import Wrong
from tests.exercises.checking import expect, expect_close
from tests.exercises.oracles.ch12 import means_by_loops, probe_by_equations
from tests.exercises.related import alike, difference

# token_back


def expect_labels(got, tokens, back):
    """tokens are all different, so each label tells where it was read."""
    expect_close(got, torch.zeros_like(tokens), "batch pos", "one label per token", tolerance=99.0)
    places = {value: (b, i) for b, row in enumerate(tokens.tolist()) for i, value in enumerate(row)}
    for b, i in places.values():
        wanted = tokens[b, i - back].item() if i >= back else -1
        label = got[b, i].item()
        if label != wanted:
            here = f"back = {back}: sequence {b}, position {i}"
            pair = f"expected {read_at(wanted, b, places)}, got {read_at(label, b, places)}"
            raise Wrong(f"{here}: {pair}")


def read_at(label, sequence, places):
    if label == -1:
        return "-1 (nothing stood there)"
    if label not in places:
        return f"{label}, which is no token there"
    b, i = places[label]
    return f"the token of position {i}" + (f" of sequence {b}" if b != sequence else "")


# linear_probe


def ridge_behind(x, labels, n_classes, ridge):
    """W -> the ridge that has this W as its minimum, in a sentence, or None."""

    def explain(W):
        low, high = -9.0, 6.0  # the longer W, the smaller the ridge
        for _ in range(60):
            middle = (low + high) / 2
            W_middle, _ = probe_by_equations(x, labels, n_classes, 10**middle)
            low, high = (middle, high) if W_middle.norm() > W.norm() else (low, middle)
        if W.norm() < 1e-6 or not alike(W / W.norm(), W_middle / W_middle.norm()):
            return None
        times = f"{10**middle / ridge:.4g} times the ridge that was given"
        return f"this W is right for another penalty, {times} ({len(x)} rows, {x.shape[1]} numbers)"

    return explain


# held_out_accuracy


def expect_places_count(held_out_accuracy, labels, share):
    """All guesses are wrong but one: how much does it add?"""
    batch, first = len(labels), int(share * len(labels))
    total = int((labels[first:] >= 0).sum())

    def sees(x, given, n_classes):
        """A probe that says what x says."""
        return torch.eye(3).double(), torch.zeros(3).double()

    for b, i in [(b, b % labels.shape[1]) for b in range(batch)] + [(first, 0), (batch - 1, 1)]:
        said = (labels + 1) % 3
        said[b, i] = labels[b, i].clamp(min=0)
        got = held_out_accuracy(torch.eye(3)[said], labels, 3, share, sees)
        counts = b >= first and labels[b, i] >= 0
        kind = "tests" if b >= first else "fits"
        kind = kind if labels[b, i] >= 0 else kind + " and has no label here"
        one = f"share {share}, all guesses wrong but one in sequence {b}, which {kind}"
        truth = f"expected 1 of the {total} labelled places that test" if counts else "expected 0"
        right = abs(got - (1 / total if counts else 0)) < 1e-6
        expect(right, f"{one}: {truth}, got {got:.4g}")


# probe_by_depth


def expect_streams(calls, cache, labels, names):
    """calls: what `fit` got at each depth; cache: everything in the model."""
    count = f"`fit` must be called once for each of {len(names)} depths, not {len(calls)} times"
    expect(len(calls) == len(names), count)
    fitting = labels[: int(0.8 * len(labels))]
    for depth, (name, (x, given)) in enumerate(zip(names, calls)):
        rows = rows_of(cache[name], fitting)
        if x.shape != rows.shape or not alike(x.double(), rows.double()):
            raise Wrong(f"depth {depth}: {what_it_got(x, rows, cache, fitting, name)}")
        same = given.equal(fitting[fitting >= 0])
        expect(same, f"depth {depth}: the labels that `fit` got are those of other places")


def rows_of(x, labels):
    return x[: len(labels)][labels >= 0]


def what_it_got(x, rows, cache, fitting, name):
    if x.shape != rows.shape:
        pair = f"{list(rows.shape)} of {name}, got {list(x.shape)}"
        return f"`fit` should get the rows of the stream, x [row, d_model] = {pair}"
    for other, value in cache.items():
        if value.ndim == 3 and alike(x.double(), rows_of(value, fitting).double()):
            return f"`fit` got {other}, the stream there is {name}"
    reason = difference(x, rows)
    return f"`fit` should get {name} at the labelled places of the part that fits: {reason}"


# above_shuffled, control_task


def expect_above(got, value, within, case):
    expect(abs(got - value) < within, f"{case}: expected about {value:.2f} above, got {got:.2f}")


def expect_a_draw(classes):
    """classes [token], drawn independently from 0 to 3, each as likely as any other."""
    counts, case = classes.bincount(minlength=4), f"{len(classes)} tokens, 4 classes"
    expected = f"{case}: expected about {len(classes) // 4} each"
    enough = len(counts) == 4 and counts.min() > 0.85 * len(classes) / 4
    expect(enough, f"{expected}, got {counts.tolist()}")
    even = f"{case}: independent draws are not even, got {counts.tolist()}"
    expect(counts.max() - counts.min() > 1, even)


# class_means, erase


def counts_behind(x, labels, truth):
    """got -> were the sums divided by other counts?"""

    def explain(got):
        counts = labels[labels >= 0].bincount(minlength=len(truth))
        parts = []
        for label in range(len(truth)):
            factor = (got[label] * truth[label]).sum() / truth[label].square().sum().clamp(1e-30)
            if truth[label].any() and not alike(got[label], factor * truth[label]):
                return None
            parts.append(f"{counts[label]} places: {factor:.3g} times")
        if all([part.endswith(": 1 times") or part.startswith("0 ") for part in parts]):
            return None
        return f"each class is a multiple of what is expected ({', '.join(parts)})"

    return explain


def taken_by_place(x, labels, n_classes):
    """got -> which offset was taken from which place?"""

    def explain(got):
        if got.shape != x.shape:
            return None
        means, taken = means_by_loops(x, labels, n_classes), x - got
        for at in (labels >= -1).nonzero().tolist():
            at = tuple(at)
            label, here = labels[at].item(), f"place {list(at)} of class {labels[at].item()}"
            if label < 0 and taken[at].any():
                return f"place {list(at)} has no label and must stay as it is"
            if label >= 0 and not alike(taken[at], means[label]):
                others = [c for c in range(n_classes) if alike(taken[at], means[c])]
                if others:
                    return f"{here} lost the offset of class {others[0]}"
                along = (taken[at] * means[label]).sum() / means[label].square().sum()
                if alike(taken[at], along * means[label]):
                    return f"{here} lost {along:.3g} times the offset of its class"
                return f"{here} lost something else than the offset of its class"
        return None

    return explain


# steer


def what_was_added(model, position, vectors):
    """result -> what the hooks of the watched model changed."""

    def explain(result):
        names = model.changed()
        places = {"blocks.1.hook_resid_pre", "blocks.0.hook_resid_post"}
        if not names:
            return "no hook changed anything"
        if len(names) > 1 or not set(names) <= places:
            return f"it changed {' and '.join(names)}; the place is blocks.1.hook_resid_pre"
        run = next(
            run for run in reversed(model.runs) if not run[names[0]][0].equal(run[names[0]][1])
        )
        added = run[names[0]][1] - run[names[0]][0]
        where = added.abs().sum(dim=(0, 2)).nonzero().flatten().tolist()
        if where != [position]:
            return f"the stream was changed at positions {where}, not at {position} alone"
        if alike(added[:, position], vectors):
            return "the right sum was made, something else was returned"
        reason = difference(added[:, position], vectors)
        return f"what was added are not the vectors: {reason}"

    return explain
