"""The usual wrong answers of chapter 12 about controls, erasing and steering: label -> what was
written instead.
"""

import torch

from tests.exercises.oracles.ch12 import (
    accuracy_by_rows,
    erased_by_loops,
    means_by_loops,
    probe_by_equations,
)
from tests.material import seeded

# Above shuffled labels


def compared(shuffle, control=None, sign=1):
    """above_shuffled with one thing changed. shuffle: labels, generator -> the control's labels;
    control: what is taken off.
    """

    def wrong(x, labels, n_classes, generator):
        other = shuffle(labels, generator)
        if control is None:
            taken_off = accuracy_by_rows(x, other, n_classes)
        else:
            taken_off = control(x, labels, other, n_classes)
        return sign * (accuracy_by_rows(x, labels, n_classes) - taken_off)

    return wrong


def unshuffled(labels, generator):
    return labels


def not_across(labels, generator):
    """Only the labels that fit the probe are shuffled; those that test it are the true ones."""
    other = labels.clone()
    fitting = other[: int(0.8 * len(labels))]  # a view: the labels change in `other`
    found = fitting[fitting >= 0]
    fitting[fitting >= 0] = found[torch.randperm(len(found), generator=generator)]
    return other


def anywhere(labels, generator):
    return labels.flatten()[torch.randperm(labels.numel(), generator=generator)].view_as(labels)


def fitted_true_tested_shuffled(x, labels, other, n_classes):
    W, b = probe_by_equations(x[:96].flatten(0, 1), labels[:96].flatten(), n_classes)
    guesses = (x[96:].flatten(0, 1) @ W + b).argmax(-1)
    return (guesses == other[96:].flatten()).double().mean().item()


def one_in_n(x, labels, other, n_classes):
    return 1 / n_classes


def nothing(x, labels, other, n_classes):
    return 0.0


SHUFFLED = {
    "the control's labels were not shuffled, or only within each sequence": compared(unshuffled),
    "the control was fitted to the true labels and only tested on shuffled ones": compared(
        anywhere, fitted_true_tested_shuffled
    ),
    "1 / n_classes was taken off, not the control's accuracy": compared(anywhere, one_in_n),
    "nothing was taken off: this is the accuracy": compared(anywhere, nothing),
    "the sign is wrong: accuracy minus control": compared(anywhere, sign=-1),
}

ACROSS = {
    "the labels did not change places across the parts that fit and test": compared(not_across)
}

# The control task

TABLE = torch.randint(4, (4000,), generator=seeded(3))


def new_every_time(tokens, d_vocab, n_classes, generator):
    return torch.where(tokens >= 0, torch.randint(n_classes, tokens.shape, generator=generator), -1)


def remainder(tokens, d_vocab, n_classes, generator):
    return torch.where(tokens >= 0, tokens % n_classes, -1)


def last_row(tokens, d_vocab, n_classes, generator):
    return torch.randint(n_classes, (d_vocab,), generator=generator)[tokens]


def always_the_same(tokens, d_vocab, n_classes, generator):
    return torch.where(tokens >= 0, TABLE[tokens] % n_classes, -1)


TASK = {
    "every occurrence got a class of its own; a token keeps its class": new_every_time,
    "the table is not random: token % n_classes": remainder,
    "-1 was looked up in the table, as its last row": last_row,
    "the table does not come from the generator": always_the_same,
}

# Selectivity


def table(n_classes, d_vocab, generator):
    return torch.randint(n_classes, (d_vocab,), generator=generator)


def against(make, taken=None, sign=1):
    """selectivity with one thing changed. make: what gives the control's labels; taken: what is
    taken off instead of their accuracy.
    """

    def wrong(x, labels, words, d_vocab, n_classes, generator):
        control = make(labels, words, d_vocab, n_classes, generator)
        if taken is None:
            off = accuracy_by_rows(x, control, n_classes)
        else:
            off = taken(x, labels, control, n_classes)
        return sign * (accuracy_by_rows(x, labels, n_classes) - off)

    return wrong


def by_word(labels, words, d_vocab, n_classes, generator):
    return torch.where(labels >= 0, table(n_classes, d_vocab, generator)[words], -1)


def shuffled_labels(labels, words, d_vocab, n_classes, generator):
    known, control = labels >= 0, labels.clone()
    found = labels[known]
    control[known] = found[torch.randperm(len(found), generator=generator)]
    return control


def of_each_place(labels, words, d_vocab, n_classes, generator):
    drawn = torch.randint(n_classes, labels.shape, generator=generator)
    return torch.where(labels >= 0, drawn, -1)


def of_the_label(labels, words, d_vocab, n_classes, generator):
    return torch.where(labels >= 0, table(n_classes, n_classes, generator)[labels], -1)


def everywhere(labels, words, d_vocab, n_classes, generator):
    return table(n_classes, d_vocab, generator)[words]


def own_generator(labels, words, d_vocab, n_classes, generator):
    return by_word(labels, words, d_vocab, n_classes, seeded(4))


def absolute(*arguments):
    return abs(against(by_word)(*arguments))


SELECTIVE = {
    "the labels were shuffled; that is above_shuffled": against(shuffled_labels),
    "every place drew a class of its own; a word keeps its class": against(of_each_place),
    "the table is over the labels; it goes over the words": against(of_the_label),
    "1 / n_classes was taken off, not the control's accuracy": against(by_word, one_in_n),
    "nothing was taken off: this is the accuracy": against(by_word, nothing),
    "the sign is wrong: accuracy minus control": against(by_word, sign=-1),
    "the absolute value was returned; it may be negative": absolute,
}
EVERYWHERE = {"the control has labels at more places than the task": against(everywhere)}
UNUSED = {"the generator was not used": against(own_generator)}

# Means and erasing


def meant(**options):
    """class_means with one thing changed."""
    return lambda x, labels, n_classes: means_by_loops(x, labels, n_classes, **options)


def last_class_meant(x, labels, n_classes):
    return means_by_loops(x, labels % n_classes, n_classes)


def sums(x, labels, n_classes):
    counts = labels[labels >= 0].bincount(minlength=n_classes)
    return means_by_loops(x, labels, n_classes) * counts[:, None]


MEANS = {
    "the mean of all labelled places was not taken off": meant(centred=False),
    "the mean of the class means was taken off; take the mean of all places": meant(of_means=True),
    "places with label -1 were counted in the overall mean": meant(minus_one=True),
    "a class that does not occur is nan: 0 / 0; it must be 0": meant(empty=torch.nan),
    "-1 was taken for the last class": last_class_meant,
    "these are sums, not means": sums,
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


ERASED = {
    "the whole class mean was taken off; keep what all classes share": erased(offset=False),
    "places with label -1 were changed": erased(others=True),
    "every place was set to the overall mean; only the class offset may go": erased(all_gone=True),
    "the class offset was added, not taken off": added,
    "a whole subspace was projected out; take off the class offsets": projected_out,
}


# Steering


def steered(change, name="blocks.1.hook_resid_pre"):
    """steer with one thing changed: `change` edits the stream in place at hook `name`."""

    def run(model, tokens, position, vectors):
        def edit(stream, hook):
            change(stream, position, vectors)
            return stream

        pattern = "blocks.1.attn.hook_pattern"
        logits, cache = model.run_with_cache(tokens, pattern, fwd_hooks=[(name, edit)])
        return logits.detach(), cache[pattern]

    return run


def add(stream, position, vectors):
    stream[:, position] += vectors


def add_later(stream, position, vectors):
    stream[:, position + 1] += vectors


def add_everywhere(stream, position, vectors):
    stream += vectors[:, None]


def add_the_first(stream, position, vectors):
    stream[:, position] += vectors[0]


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


STEERED = {
    "the vector was added at every position": steered(add_everywhere),
    "the stream was replaced; add to it": steered(replace),
    "it was added before layer 0": steered(add, "blocks.0.hook_resid_pre"),
    "it was added after layer 1, where no head reads it": steered(add, "blocks.1.hook_resid_post"),
    "it was added one position later": steered(add_later),
    "the vector of the first sequence was used for all": steered(add_the_first),
    "it was taken off, not added": steered(take_off),
    "only the keys saw it; queries and values read the stream too": steered_keys,
}
