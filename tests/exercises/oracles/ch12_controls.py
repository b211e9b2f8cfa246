"""The usual wrong answers of chapter 12 about controls: label -> what was written instead."""

import torch

from tests.exercises.oracles.ch12 import accuracy_by_rows, probe_by_equations
from tests.material import seeded

# Above shuffled labels


def beyond(accuracy, control):
    return accuracy - control


def compared(shuffle, control=None, combine=beyond):
    """above_shuffled with one thing changed. shuffle: labels, generator -> the control's labels;
    control: what is taken off.
    """

    def wrong(x, labels, n_classes, generator):
        other = shuffle(labels, generator)
        if control is None:
            taken_off = accuracy_by_rows(x, other, n_classes)
        else:
            taken_off = control(x, labels, other, n_classes)
        return combine(accuracy_by_rows(x, labels, n_classes), taken_off)

    return wrong


def unshuffled(labels, generator):
    return labels


def refilled(change):
    """Only the labelled places get something else: change(found, generator)."""

    def shuffle(labels, generator):
        other = labels.clone()
        other[labels >= 0] = change(labels[labels >= 0], generator)
        return other

    return shuffle


def permuted(found, generator):
    return found[torch.randperm(len(found), generator=generator)]


def with_replacement(found, generator):
    return found[torch.randint(len(found), (len(found),), generator=generator)]


def evenly(found, generator):
    return torch.randint(int(found.max()) + 1, (len(found),), generator=generator)


def not_across(labels, generator):
    """Only the labels that fit the probe are shuffled; those that test it are the true ones."""
    n = int(0.8 * len(labels))
    return torch.cat([refilled(permuted)(labels[:n], generator), labels[n:]])


def by_whole_sequences(labels, generator):
    return labels[torch.randperm(len(labels), generator=generator)]


def anywhere(labels, generator):
    return labels.flatten()[torch.randperm(labels.numel(), generator=generator)].view_as(labels)


def by_position(labels, generator):
    """Labels change places with those of the same position only."""
    columns = [refilled(permuted)(column, generator) for column in labels.T]
    return torch.stack(columns, dim=1)


def fitted_true_tested_shuffled(x, labels, other, n_classes):
    W, b = probe_by_equations(x[:96].flatten(0, 1), labels[:96].flatten(), n_classes)
    guesses = (x[96:].flatten(0, 1) @ W + b).argmax(-1)
    return (guesses == other[96:].flatten()).double().mean().item()


def one_in_n(x, labels, other, n_classes):
    return 1 / n_classes


def commonest(x, labels, other, n_classes):
    found = labels[labels >= 0]
    return (found.bincount().max() / len(found)).item()


def nothing(x, labels, other, n_classes):
    return 0.0


def backwards(accuracy, control):
    return control - accuracy


def ratio(accuracy, control):
    return accuracy / control


def control_alone(accuracy, control):
    return control


SHUFFLED = {
    "the control is as easy as the task: labels not shuffled, or only inside sequences": compared(
        unshuffled
    ),
    "the control was fitted to the true labels and only tested on shuffled ones": compared(
        anywhere, fitted_true_tested_shuffled
    ),
    "1 / n_classes was taken off, not the control's accuracy": compared(anywhere, one_in_n),
    "nothing was taken off: this is the accuracy": compared(anywhere, nothing),
    "the sign is wrong: accuracy minus control": compared(refilled(permuted), combine=backwards),
    "this is the ratio; take the difference": compared(refilled(permuted), combine=ratio),
    "this is the control's accuracy alone": compared(refilled(permuted), combine=control_alone),
    "the labels were drawn evenly; shuffle those that there are": compared(refilled(evenly)),
}
MOVED = {
    "-1 changed places as well; those labels stay where they are": compared(anywhere),
    "whole sequences changed places; each label goes by itself": compared(by_whole_sequences),
    "the share of the commonest class was taken off, not a control's accuracy": compared(
        unshuffled, commonest
    ),
}
ONCE = {
    "labels were drawn with replacement; each is used once": compared(refilled(with_replacement)),
    "the labels were drawn evenly; shuffle those that there are": compared(refilled(evenly)),
}
ACROSS = {
    "labels did not change places across the parts that fit and test: it was tested on the true "
    "labels, or each part was shuffled by itself": compared(not_across)
}
BY_POSITION = {
    "labels changed places inside each position only; all positions go in together": compared(
        by_position
    )
}

# The control task

TABLE = torch.randint(4, (4001,), generator=seeded(3))


def new_every_time(tokens, d_vocab, n_classes, generator):
    return torch.where(tokens >= 0, torch.randint(n_classes, tokens.shape, generator=generator), -1)


def remainder(tokens, d_vocab, n_classes, generator):
    return torch.where(tokens >= 0, tokens % n_classes, -1)


def last_row(tokens, d_vocab, n_classes, generator):
    return torch.randint(n_classes, (d_vocab,), generator=generator)[tokens]


def always_the_same(tokens, d_vocab, n_classes, generator):
    return torch.where(tokens >= 0, TABLE[tokens] % n_classes, -1)


def from_table(make):
    """control_task with another table: make(d_vocab, n_classes, generator)."""

    def wrong(tokens, d_vocab, n_classes, generator):
        return torch.where(tokens >= 0, make(d_vocab, n_classes, generator)[tokens], -1)

    return wrong


def by_row(tokens, d_vocab, n_classes, generator):
    """Each sequence has a table of its own."""
    rows = tokens.view(-1, tokens.shape[-1])
    tables = torch.randint(n_classes, (len(rows), d_vocab), generator=generator)
    labels = tables.gather(1, rows.clamp(min=0))
    return torch.where(rows >= 0, labels, -1).view(tokens.shape)


def token_0_left_out(tokens, d_vocab, n_classes, generator):
    table = torch.randint(n_classes, (d_vocab,), generator=generator)
    return torch.where(tokens > 0, table[tokens], -1)


TASK = {
    "every occurrence got a class of its own; a token keeps its class": new_every_time,
    "the table is not random: token % n_classes": remainder,
    "-1 was looked up in the table, as its last row": last_row,
    "the table does not come from the generator": always_the_same,
    "each sequence got a table of its own; a token keeps its class": by_row,
    "token 0 was taken for a place without a token": token_0_left_out,
    "each class has equally many tokens; draw them independently": from_table(
        lambda d_vocab, n_classes, generator: (
            torch.randperm(d_vocab, generator=generator) % n_classes
        )
    ),
    "numbers were rounded: the first and the last class come half as often": from_table(
        lambda d_vocab, n_classes, generator: (
            (torch.rand(d_vocab, generator=generator) * (n_classes - 1)).round().long()
        )
    ),
    "the last class is never drawn": from_table(
        lambda d_vocab, n_classes, generator: table(n_classes - 1, d_vocab, generator)
    ),
    "class 0 is never drawn": from_table(
        lambda d_vocab, n_classes, generator: 1 + table(n_classes - 1, d_vocab, generator)
    ),
    "there is a class too many: from 0 to n_classes - 1": from_table(
        lambda d_vocab, n_classes, generator: table(n_classes + 1, d_vocab, generator)
    ),
}

# Selectivity


def table(n_classes, d_vocab, generator):
    return torch.randint(n_classes, (d_vocab,), generator=generator)


def against(make, taken=None, combine=beyond):
    """selectivity with one thing changed. make: what gives the control's labels; taken: what is
    taken off instead of their accuracy.
    """

    def wrong(x, labels, words, d_vocab, n_classes, generator):
        control = make(labels, words, d_vocab, n_classes, generator)
        if taken is None:
            off = accuracy_by_rows(x, control, n_classes)
        else:
            off = taken(x, labels, control, n_classes)
        return combine(accuracy_by_rows(x, labels, n_classes), off)

    return wrong


def by_word(labels, words, d_vocab, n_classes, generator):
    return torch.where(labels >= 0, table(n_classes, d_vocab, generator)[words], -1)


def shuffled_labels(labels, words, d_vocab, n_classes, generator):
    return refilled(permuted)(labels, generator)


def drawn_twice(labels, words, d_vocab, n_classes, generator):
    """One table for the sequences that fit, another for those that test."""
    n = int(0.8 * len(labels))
    first = by_word(labels[:n], words[:n], d_vocab, n_classes, generator)
    return torch.cat([first, by_word(labels[n:], words[n:], d_vocab, n_classes, generator)])


def tested_on_the_task(labels, words, d_vocab, n_classes, generator):
    n = int(0.8 * len(labels))
    return torch.cat([by_word(labels, words, d_vocab, n_classes, generator)[:n], labels[n:]])


def d_vocab_classes(x, labels, words, d_vocab, n_classes, generator):
    control = by_word(labels, words, d_vocab, d_vocab, generator)
    return accuracy_by_rows(x, labels, n_classes) - accuracy_by_rows(x, control, d_vocab)


def of_each_place(labels, words, d_vocab, n_classes, generator):
    drawn = torch.randint(n_classes, labels.shape, generator=generator)
    return torch.where(labels >= 0, drawn, -1)


def of_the_label(labels, words, d_vocab, n_classes, generator):
    return torch.where(labels >= 0, table(n_classes, n_classes, generator)[labels], -1)


def everywhere(labels, words, d_vocab, n_classes, generator):
    return table(n_classes, d_vocab, generator)[words]


def absolute(*arguments):
    return abs(against(by_word)(*arguments))


SELECTIVE = {
    "the labels were shuffled; that is above_shuffled": against(shuffled_labels),
    "every place drew a class of its own; a word keeps its class": against(of_each_place),
    "the table is over the labels; it goes over the words": against(of_the_label),
    "1 / n_classes was taken off, not the control's accuracy": against(by_word, one_in_n),
    "nothing was taken off: this is the accuracy": against(by_word, nothing),
    "the sign is wrong: accuracy minus control": against(by_word, combine=backwards),
    "this is the ratio; take the difference": against(by_word, combine=ratio),
    "this is the control's accuracy alone": against(by_word, combine=control_alone),
    "the absolute value was returned; it may be negative": absolute,
    "the table was drawn once for the fit and again for the test": against(drawn_twice),
    "the control's probe was tested on the labels of the task": against(tested_on_the_task),
    "the control has d_vocab classes; it has as many as the task": d_vocab_classes,
}
EVERYWHERE = {"the control has labels at more places than the task": against(everywhere)}
