"""The usual wrong answers of chapter 12, as code: label -> what the learner wrote instead."""

import torch

from tests.exercises.oracles.ch12 import (
    accuracy_by_rows,
    back_by_loops,
    erased_by_loops,
    means_by_loops,
    probe_by_equations,
)
from tests.material import seeded

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

# Held-out accuracy


def scored(**options):
    """held_out_accuracy with one thing changed."""

    def accuracy(x, labels, n_classes, share=0.8):
        return accuracy_by_rows(x, labels, n_classes, share, **options)

    return accuracy


def last_class_too(x, labels, n_classes, share=0.8):
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

# Selectivity


def compared(shuffle, control=None, sign=1):
    """selectivity with one thing changed. shuffle: labels, generator -> the control's labels;
    control: what is taken off."""

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


CONTROL = {
    "the control's labels were not shuffled, or only within each sequence": compared(unshuffled),
    "the control was fitted to the true labels and only tested on shuffled ones": compared(
        anywhere, fitted_true_tested_shuffled
    ),
    "1 / n_classes was taken off, not the control's accuracy": compared(anywhere, one_in_n),
    "nothing was taken off: this is the accuracy": compared(anywhere, nothing),
    "the sign is wrong: accuracy minus control": compared(anywhere, sign=-1),
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

# By depth

STREAM = ["blocks.0.hook_resid_pre", *(f"blocks.{layer}.hook_resid_post" for layer in range(3))]
OUTPUTS = [STREAM[0], *(f"blocks.{layer}.hook_attn_out" for layer in range(3))]


def depths(names=STREAM, shift=0, split="sequences"):
    """probe_by_depth with one thing changed; shift: the stream is read that many positions later
    than the label."""

    def probed(model, tokens, labels, n_classes):
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


ERASED = {
    "the whole class mean was taken off; keep what all classes share": erased(offset=False),
    "places with label -1 were changed": erased(others=True),
    "every place was set to the overall mean; only the class offset may go": erased(all_gone=True),
    "the class offset was added, not taken off": added,
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


STEERED = {
    "the vector was added at every position": steered(add_everywhere),
    "the stream was replaced; add to it": steered(replace),
    "it was added before layer 0": steered(add, "blocks.0.hook_resid_pre"),
    "it was added after layer 1, where no head reads it": steered(add, "blocks.1.hook_resid_post"),
    "it was added one position later": steered(add_later),
    "the vector of the first sequence was used for all": steered(add_the_first),
    "it was taken off, not added": steered(take_off),
}
