"""The usual wrong answers of chapter 12 about erasing and steering: label -> what was written
instead.
"""

import torch

from tests.exercises.oracles.ch12 import erased_by_loops, means_by_loops

# Means and erasing


def meant(**options):
    """class_means with one thing changed."""
    return lambda x, labels, n_classes: means_by_loops(x, labels, n_classes, **options)


def last_class_meant(x, labels, n_classes):
    return means_by_loops(x, labels % n_classes, n_classes)


def sums(x, labels, n_classes):
    counts = labels[labels >= 0].bincount(minlength=n_classes)
    return means_by_loops(x, labels, n_classes) * counts[:, None]


def over_all_rows(x, labels, n_classes):
    return sums(x, labels, n_classes) / int((labels >= 0).sum())


def class_0_too(x, labels, n_classes):
    return means_by_loops(x, labels.clamp(min=0), n_classes)


def class_0_left_out(x, labels, n_classes):
    return means_by_loops(x, torch.where(labels > 0, labels, -1), n_classes)


def from_the_others(x, labels, n_classes):
    """Each class mean minus the mean of all other classes' places."""
    offsets = means_by_loops(x, labels, n_classes)
    found, all_of_them = labels[labels >= 0], int((labels >= 0).sum())
    others = all_of_them - found.bincount(minlength=n_classes)
    return offsets * all_of_them / others[:, None]


def missing_moved(x, labels, n_classes):
    """A class that does not occur has 0 for its mean, from which the common mean is taken off."""
    means = means_by_loops(x, labels, n_classes, centred=False)
    return means - x[labels >= 0].mean(dim=0)


MEANS = {
    "the mean of all labelled places was not taken off": meant(centred=False),
    "the mean of the class means was taken off; take the mean of all places": meant(of_means=True),
    "the mean of the other classes was taken off; take the mean of all places": from_the_others,
    "places with label -1 were counted in the overall mean": meant(minus_one=True),
    "a class that does not occur is nan: 0 / 0; it must be 0": meant(empty=torch.nan),
    "a class that does not occur lost the overall mean; it must be 0": missing_moved,
    "-1 was taken for the last class": last_class_meant,
    "-1 was taken for class 0": class_0_too,
    "class 0 was left out": class_0_left_out,
    "these are sums, not means": sums,
    "the sums were divided by the number of all places": over_all_rows,
}


def erased(**options):
    """erase with one thing changed."""
    return lambda x, labels, n_classes: erased_by_loops(x, labels, n_classes, **options)


def added(x, labels, n_classes):
    return 2 * x - erased_by_loops(x, labels, n_classes)


def projected_out(x, labels, n_classes):
    """Everything in the subspace of the class means is gone, not only the classes."""
    found = labels >= 0
    _, _, basis = torch.linalg.svd(means_by_loops(x, labels, n_classes), full_matrices=False)
    basis = basis[: n_classes - 1]
    inside = (x - x[found].mean(dim=0)) @ basis.T @ basis
    return torch.where(found[..., None], x - inside, x)


def span_projected_out(x, labels, n_classes):
    """The same without the common mean: what lies in the span of the offsets is gone from x."""
    offsets = means_by_loops(x, labels, n_classes)
    _, _, basis = torch.linalg.svd(offsets, full_matrices=False)
    basis = basis[: n_classes - 1]
    return torch.where(labels[..., None] >= 0, x - x @ basis.T @ basis, x)


def own_line_projected_out(x, labels, n_classes):
    """What x has along the offset of its own class is gone."""
    own = means_by_loops(x, labels, n_classes)[labels]
    share = (x * own).sum(dim=-1, keepdim=True) / own.square().sum(dim=-1, keepdim=True)
    return torch.where(labels[..., None] >= 0, x - share * own, x)


def to_own_mean(x, labels, n_classes):
    means = means_by_loops(x, labels, n_classes, centred=False)
    return torch.where(labels[..., None] >= 0, means[labels], x)


def others_to_0(x, labels, n_classes):
    return torch.where(labels[..., None] >= 0, erased_by_loops(x, labels, n_classes), 0.0)


def class_0_kept(x, labels, n_classes):
    return torch.where(labels[..., None] == 0, x, erased_by_loops(x, labels, n_classes))


def by_sequence_means(x, labels, n_classes):
    return torch.stack([erased_by_loops(*pair, n_classes) for pair in zip(x, labels)])


ERASED = {
    "the whole class mean was taken off; keep what all classes share": erased(offset=False),
    "places with label -1 were changed": erased(others=True),
    "places with label -1 became 0; they stay as they are": others_to_0,
    "class 0 was left as it was": class_0_kept,
    "every place was set to the overall mean; only the class offset may go": erased(all_gone=True),
    "every place was set to the mean of its class; only the class offset may go": to_own_mean,
    "the class offset was added, not taken off": added,
    "a whole subspace was projected out; take off the class offsets": projected_out,
    "the span of the offsets was projected out; take off the class offsets": span_projected_out,
    "the direction of the offset was projected out; take off the offset": own_line_projected_out,
    "each sequence has class means of its own; take those of all places": by_sequence_means,
}


# Steering


def steered(change, name="blocks.1.hook_resid_pre", pattern="blocks.1.attn.hook_pattern"):
    """steer with one thing changed: `change` edits the stream in place at hook `name`."""

    def run(model, tokens, position, vectors):
        def edit(stream, hook):
            change(stream, position, vectors)
            return stream

        logits, cache = model.run_with_cache(tokens, pattern, fwd_hooks=[(name, edit)])
        return logits.detach(), cache[pattern]

    return run


def add(stream, position, vectors):
    stream[:, position] += vectors


def add_later(stream, position, vectors):
    stream[:, position + 1] += vectors


def add_before(stream, position, vectors):
    stream[:, position - 1] += vectors


def add_everywhere(stream, position, vectors):
    stream += vectors[:, None]


def add_from_there_on(stream, position, vectors):
    stream[:, position:] += vectors[:, None]


def add_the_first(stream, position, vectors):
    stream[:, position] += vectors[0]


def add_the_mean(stream, position, vectors):
    stream[:, position] += vectors.mean(dim=0)


def replace(stream, position, vectors):
    stream[:, position] = vectors


def take_off(stream, position, vectors):
    stream[:, position] -= vectors


def steered_keys(model, tokens, position, vectors):
    """The vector reaches the keys of layer 1 alone."""

    def edit(k, hook):
        k[:, position] += torch.einsum("bm,hmd->bhd", vectors, model.W_K[1])
        return k

    pattern = "blocks.1.attn.hook_pattern"
    hooks = [("blocks.1.attn.hook_k", edit)]
    logits, cache = model.run_with_cache(tokens, pattern, fwd_hooks=hooks)
    return logits.detach(), cache[pattern].detach()


def untouched(model, tokens, position, vectors):
    return steered(lambda *_: None)(model, tokens, position, vectors)


def old_pattern(*arguments):
    return steered(add)(*arguments)[0], untouched(*arguments)[1]


def old_logits(*arguments):
    return untouched(*arguments)[0], steered(add)(*arguments)[1]


def pattern_first(*arguments):
    return steered(add)(*arguments)[::-1]


def one_row(model, tokens, position, vectors):
    logits, pattern = steered(add)(model, tokens, position, vectors)
    return logits, pattern[:, :, position]


def last_logits(*arguments):
    logits, pattern = steered(add)(*arguments)
    return logits[:, -1], pattern


STEERED = {
    "the vector was added at every position": steered(add_everywhere),
    "it was added at later positions too": steered(add_from_there_on),
    "the stream was replaced; add to it": steered(replace),
    "it was added before layer 0": steered(add, "blocks.0.hook_resid_pre"),
    "it was added after layer 1, where no head reads it": steered(add, "blocks.1.hook_resid_post"),
    "it was added before the last layer, not before layer 1": steered(
        add, "blocks.2.hook_resid_pre", "blocks.2.attn.hook_pattern"
    ),
    "it was added one position later": steered(add_later),
    "it was added one position before": steered(add_before),
    "the vector of the first sequence was used for all": steered(add_the_first),
    "the mean of the vectors was used for all sequences": steered(add_the_mean),
    "it was taken off, not added": steered(take_off),
    "only the keys saw it; queries and values read the stream too": steered_keys,
    "nothing was added": untouched,
    "the pattern is that of layer 0": steered(add, pattern="blocks.0.attn.hook_pattern"),
    "the pattern is that of the last layer": steered(add, pattern="blocks.2.attn.hook_pattern"),
    "the pattern is that of an undisturbed run": old_pattern,
    "the logits are those of an undisturbed run": old_logits,
    "these are the scores before the softmax": steered(
        add, pattern="blocks.1.attn.hook_attn_scores"
    ),
    "the pair is the wrong way round: logits, then pattern": pattern_first,
    "the pattern is only that of the marked query; return all of it": one_row,
    "the logits are only those of the last position; return all of them": last_logits,
}
