"""The usual wrong answers of chapter 12, as code: label -> what the learner wrote instead."""

import torch

from tests.exercises.oracles.ch12 import (
    accuracy_by_rows,
    back_by_loops,
    erased_by_loops,
    means_by_loops,
    probe_by_equations,
)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def with_options(**options):
    return lambda x, labels, n_classes, ridge=1e-3: probe_by_equations(
        x, labels, n_classes, ridge, **options
    )


def bias_unmoved(x, labels, n_classes, ridge=1e-3):
    W, b = probe_by_equations(x, labels, n_classes, ridge)
    return W, b + x.double().mean(dim=0) @ W


def scored(**options):
    return lambda x, labels, n_classes, share=0.8: accuracy_by_rows(
        x, labels, n_classes, share, **options
    )


def last_class_too(x, labels, n_classes, share=0.8):
    return accuracy_by_rows(x, labels % n_classes, n_classes, share)


def compared(shuffle, control=None):
    """selectivity with one thing changed. shuffle: labels, generator -> the control's labels."""

    def wrong(x, labels, n_classes, generator):
        other = shuffle(labels, generator)
        return accuracy_by_rows(x, labels, n_classes) - (
            accuracy_by_rows(x, other, n_classes)
            if control is None
            else control(x, labels, other, n_classes)
        )

    return wrong


def fitted_true_tested_shuffled(x, labels, other, n_classes):
    W, b = probe_by_equations(x[:96].flatten(0, 1), labels[:96].flatten(), n_classes)
    return (
        ((x[96:].flatten(0, 1) @ W + b).argmax(-1) == other[96:].flatten()).double().mean().item()
    )


def anywhere(labels, generator):
    return labels.flatten()[torch.randperm(labels.numel(), generator=generator)].view_as(labels)


def new_every_time(tokens, d_vocab, n_classes, generator):
    return torch.where(tokens >= 0, torch.randint(n_classes, tokens.shape, generator=generator), -1)


STREAM = ("blocks.0.hook_resid_pre", *(f"blocks.{layer}.hook_resid_post" for layer in range(3)))


def depths(names=STREAM, shift=0, split="sequences"):
    """probe_by_depth with one thing changed; shift: the stream is read that many positions later
    than the label.
    """

    def probed(model, tokens, labels, n_classes):
        names_here = [name for name in names if int(name.split(".")[1]) < model.cfg.n_layers]
        _, cache = model.run_with_cache(tokens, names_here)
        streams = (cache[name][:, shift:] for name in names_here)
        return torch.tensor(
            [accuracy_by_rows(x, labels[:, : x.shape[1]], n_classes, split=split) for x in streams]
        )

    return probed


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


BACK = {
    "wrong direction: this is the token `back` places later": lambda tokens, back: back_by_loops(
        tokens, -back
    ),
    "one place too far back": lambda tokens, back: back_by_loops(tokens, back, shift=-1),
    "one place too late: back = 1 gives the token itself": lambda tokens, back: back_by_loops(
        tokens, back, shift=1
    ),
    "the end of the sequence came round to its beginning; nothing stood there: -1": (
        lambda tokens, back: tokens.roll(back, dims=1)
    ),
    "the first places hold 0, which is a token (BOS); they need -1": lambda tokens, back: (
        back_by_loops(tokens, back, fill=0)
    ),
}

PROBE = {
    "the bias is forgotten: the lines must not all pass through 0": with_options(bias=False),
    "the bias is penalised too": with_options(free_bias=False),
    "ridge was not multiplied by the number of rows": with_options(per_row=False),
    "there is no penalty": lambda x, labels, n_classes, ridge=1e-3: probe_by_equations(
        x, labels, n_classes, 0.0
    ),
    "the bias is only the mean of the labels; x was centred, so (mean of x) W must come off": bias_unmoved,
    "W is transposed: [d_model, label]": lambda *args: (
        probe_by_equations(*args)[0].T,
        probe_by_equations(*args)[1],
    ),
}

SPLIT = {
    "the probe was tested on the rows it was fitted to": scored(split="tested on fit"),
    "there is no split: all rows fit, and all rows test": scored(split="no split"),
    "the probe was fitted to all rows, the test rows among them": scored(split="all fit"),
    "fitting and testing are swapped: the first `share` fits": scored(split="swapped"),
    "the positions were split; split the sequences": scored(split="positions"),
    "all labelled places were put in one list and that was split; split the sequences": scored(
        split="places"
    ),
    "places with label -1 were counted as wrong answers": scored(known_only=False),
    "-1 was taken for the last class": last_class_too,
    "the bias was left out": scored(bias=False),
}

CONTROL = {
    "the labels of the control were not shuffled, or only within each sequence": compared(
        lambda labels, generator: labels
    ),
    "the control was fitted to the true labels and only tested on shuffled ones": compared(
        anywhere, fitted_true_tested_shuffled
    ),
    "1 / n_classes was taken off instead of the control's accuracy": compared(
        anywhere, lambda x, y, o, n: 1 / n
    ),
    "nothing was taken off: this is the accuracy": compared(anywhere, lambda *_: 0.0),
    "the sign is wrong: accuracy minus control": lambda *args: -compared(anywhere)(*args),
}

TABLE = torch.randint(4, (4000,), generator=seeded(3))

TASK = {
    "every occurrence got a class of its own; a token keeps its class": new_every_time,
    "the table is not random: token % n_classes": (
        lambda tokens, d_vocab, n_classes, generator: torch.where(
            tokens >= 0, tokens % n_classes, -1
        )
    ),
    "-1 was looked up in the table, as its last row": (
        lambda tokens, d_vocab, n_classes, generator: torch.randint(
            n_classes, (d_vocab,), generator=generator
        )[tokens]
    ),
    "the table does not come from the generator": (
        lambda tokens, d_vocab, n_classes, generator: torch.where(
            tokens >= 0, TABLE[tokens] % n_classes, -1
        )
    ),
}

DEPTHS = {
    "the embedding is missing: begin before layer 0": depths(STREAM[1:]),
    "the last layer is missing: n_layers + 1 depths": depths(STREAM[:-1]),
    "these are the outputs of the layers alone, not the stream": depths(
        (STREAM[0], *(f"blocks.{layer}.hook_attn_out" for layer in range(3)))
    ),
    "the stream was read one position later than the label": depths(shift=1),
    "the probe was tested on the rows it was fitted to": depths(split="tested on fit"),
}

MEANS = {
    "the mean of all labelled places was not taken off": lambda *args: means_by_loops(
        *args, centred=False
    ),
    "the mean of the class means was taken off; take the mean of all labelled places": (
        lambda *args: means_by_loops(*args, of_means=True)
    ),
    "places with label -1 were counted in the overall mean": lambda *args: means_by_loops(
        *args, minus_one=True
    ),
    "a class that does not occur is nan: 0 / 0; it must be 0": lambda *args: means_by_loops(
        *args, empty=torch.nan
    ),
    "-1 was taken for the last class": lambda x, labels, n: means_by_loops(x, labels % n, n),
    "these are sums, not means": (
        lambda x, labels, n: (
            means_by_loops(x, labels, n) * labels[labels >= 0].bincount(minlength=n)[:, None]
        )
    ),
}

ERASED = {
    "the whole class mean was taken off; keep the part that all classes share": (
        lambda *args: erased_by_loops(*args, offset=False)
    ),
    "places with label -1 were changed": lambda *args: erased_by_loops(*args, others=True),
    "every place was set to the overall mean; only the class offset may go": (
        lambda *args: erased_by_loops(*args, all_gone=True)
    ),
    "the class offset was added, not taken off": lambda x, labels, n: (
        2 * x - erased_by_loops(x, labels, n)
    ),
}

STEERED = {
    "the vector was added at every position": steered(lambda stream, i, v: stream.add_(v[:, None])),
    "the stream was replaced; add to it": steered(lambda stream, i, v: stream[:, i].copy_(v)),
    "it was added before layer 0": steered(add, "blocks.0.hook_resid_pre"),
    "it was added after layer 1, where no head reads it": steered(add, "blocks.1.hook_resid_post"),
    "it was added one position later": steered(lambda stream, i, v: add(stream, i + 1, v)),
    "the vector of the first sequence was used for all": steered(
        lambda stream, i, v: add(stream, i, v[:1])
    ),
    "it was taken off, not added": steered(lambda stream, i, v: add(stream, i, -v)),
}
