"""What people get wrong in chapter 11, first part: pairs, shares and metrics."""

import math

import torch
from torch.nn.functional import one_hot

from solutions.ch11_patching import Pairs
from tests.exercises.oracles.ch11 import metrics_by_hand, pairs_by_hand

# corrupt_pairs


def edited_pairs(edit):
    """corrupt_pairs with something changed: edit(pairs, first, second, swap) -> pairs."""

    def function(clean, first, second, swap):
        return edit(pairs_by_hand(clean, first, second, swap), first, second, swap)

    return function


def edited_corrupt(edit):
    """corrupt_pairs with other corrupt prompts: edit(corrupt, clean, first, second, swap)."""

    def function(pairs, first, second, swap):
        corrupt = pairs.corrupt.clone()
        edit(corrupt, pairs.clean, first, second, swap)
        return pairs._replace(corrupt=corrupt)

    return edited_pairs(function)


def question_too(corrupt, clean, first, second, swap):
    if swap == "key":
        corrupt[:, -1] = clean[:, second]


def twice(which, swaps):
    """Only one of two tokens replaced: `which` of the two places is left as it was."""

    def edit(corrupt, clean, first, second, swap):
        if swap in swaps:
            place = (first, second)[which] + (swap == "value")
            corrupt[:, place] = clean[:, place]

    return edited_corrupt(edit)


def asks_for_D(corrupt, clean, first, second, swap):
    if swap == "query":
        corrupt[:, -1] = clean[:, second + 1]


def whole_pairs(corrupt, clean, first, second, swap):
    """A B and C D change places together, so that B follows A all the same."""
    if swap == "key":
        corrupt[:, [first + 1, second + 1]] = clean[:, [second + 1, first + 1]]


def first_asks_too(corrupt, clean, first, second, swap):
    if swap == "query":
        corrupt[:, first] = clean[:, second]


def runs_exchanged(pairs, first, second, swap):
    return pairs._replace(clean=pairs.corrupt, corrupt=pairs.clean)


def other_swap(clean, first, second, swap):
    mixed = {"key": "value", "value": "key", "query": "query"}
    return pairs_by_hand(clean, first, second, mixed[swap])


def answers(right, wrong):
    """Other answers: right(pairs, first, second) and wrong(pairs, first, second)."""

    def edit(pairs, first, second, swap):
        return Pairs(*pairs[:2], right(pairs, first, second), wrong(pairs, first, second))

    return edited_pairs(edit)


PAIR_MISTAKES = {
    "right and wrong are A and C; the answers B and D stand one position later": answers(
        lambda pairs, first, second: pairs.clean[:, first],
        lambda pairs, first, second: pairs.clean[:, second],
    ),
    "right and wrong are exchanged: right is what follows in clean": answers(
        lambda pairs, first, second: pairs.wrong, lambda pairs, first, second: pairs.right
    ),
    "wrong was read in the corrupt prompt, where B and D may have changed places": answers(
        lambda pairs, first, second: pairs.right,
        lambda pairs, first, second: pairs.corrupt[:, second + 1],
    ),
    "right and wrong were both read in the corrupt prompt": answers(
        lambda pairs, first, second: pairs.corrupt[:, first + 1],
        lambda pairs, first, second: pairs.corrupt[:, second + 1],
    ),
    "the last token was exchanged as well; for key it must stay A": edited_corrupt(question_too),
    "with key, C stands there twice; A and C change places": twice(1, ["key"]),
    "with key, A stands there twice; A and C change places": twice(0, ["key"]),
    "with value, D stands there twice; B and D change places": twice(1, ["value"]),
    "with value, B stands there twice; B and D change places": twice(0, ["value"]),
    "only one of the two tokens was replaced: C, or D, stands there twice": twice(
        1, ["key", "value"]
    ),
    "only one of the two tokens was replaced: A, or B, stands there twice": twice(
        0, ["key", "value"]
    ),
    "the last token is D; with query it is C, and D has to follow": edited_corrupt(asks_for_D),
    "with key, A B changed places with C D; B and D have to stay": edited_corrupt(whole_pairs),
    "with query, A at `first` was changed, too; only the last token may change": edited_corrupt(
        first_asks_too
    ),
    "clean and corrupt stand in each other's place": edited_pairs(runs_exchanged),
    "key and value are mixed up: key swaps A with C, value swaps B with D": other_swap,
}

# normalised_metric


def share(bottom=lambda clean, corrupt: clean.mean() - corrupt.mean(), top=None):
    """normalised_metric with another fraction; top(patched, clean, corrupt)."""

    def function(patched, clean, corrupt):
        moved = top(patched, clean, corrupt) if top else patched.mean(dim=-1) - corrupt.mean()
        return moved / bottom(clean, corrupt)

    return function


def averaged_last(patched, clean, corrupt):
    return ((patched - corrupt) / (clean - corrupt)).mean(dim=-1)


def clipped(patched, clean, corrupt):
    return share()(patched, clean, corrupt).clamp(0, 1)


def by_medians(patched, clean, corrupt):
    low = corrupt.median()
    return (patched.median(dim=-1).values - low) / (clean.median() - low)


NORMALISED_MISTAKES = {
    "each row was divided by itself and then averaged; average first": averaged_last,
    "the scale is turned round: corrupt must give 0 and clean 1": share(
        top=lambda patched, clean, corrupt: clean.mean() - patched.mean(dim=-1)
    ),
    "it was divided by clean alone; corrupt has to be subtracted there too": share(
        bottom=lambda clean, corrupt: clean.mean()
    ),
    "corrupt was not subtracted above the line": share(
        top=lambda patched, clean, corrupt: patched.mean(dim=-1)
    ),
    "the sign of the denominator was dropped: a metric may be smaller in the clean run": share(
        bottom=lambda clean, corrupt: (clean.mean() - corrupt.mean()).abs()
    ),
    "something was added to the denominator, which moves every share": share(
        bottom=lambda clean, corrupt: clean.mean() - corrupt.mean() + 1e-3
    ),
    "the result was clipped to 0 to 1": clipped,
    "it is a share of medians; take means": by_medians,
    "there is a sum above the line and a mean below": share(
        top=lambda patched, clean, corrupt: patched.sum(dim=-1) - corrupt.sum()
    ),
    "the mean ran over all axes; only the last one is the batch": share(
        top=lambda patched, clean, corrupt: patched.mean() - corrupt.mean()
    ),
    "the mean ran over the first axis; the batch is the last one": share(
        top=lambda patched, clean, corrupt: patched.mean(dim=0) - corrupt.mean()
    ),
}

# compare_metrics


def metric_of(name, value):
    """compare_metrics with one entry wrong: value(logits, clean_logits, right, wrong)."""

    def function(*arguments):
        return metrics_by_hand(*arguments) | {name: value(*arguments)}

    return function


def spread(logits, clean_logits):
    """(log q, log p) of the patched and of the clean run."""
    return logits.log_softmax(dim=-1), clean_logits.log_softmax(dim=-1).expand_as(logits)


def divergence(f):
    """compare_metrics with f(log q, log p, probabilities of q and of p) for the KL."""

    def value(logits, clean_logits, right, wrong):
        log_q, log_p = spread(logits, clean_logits)
        return f(log_q, log_p, log_q.exp(), log_p.exp())

    return metric_of("KL", value)


def logit_of(logits, token):
    return logits[..., torch.arange(len(token)), token]


def best_other(logits, clean_logits, right, wrong):
    is_right = one_hot(right, logits.shape[-1]).bool()
    others = logits.masked_fill(is_right, -torch.inf)
    return logit_of(logits, right) - others.amax(dim=-1)


def in_bits(*arguments):
    found = metrics_by_hand(*arguments)
    units = {"log-probability": math.log(2), "KL": math.log(2)}
    return {name: value / units.get(name, 1) for name, value in found.items()}


def over_batch(*arguments):
    return {name: value.mean(dim=-1) for name, value in metrics_by_hand(*arguments).items()}


METRIC_MISTAKES = {
    "the KL divergence is turned round: the weights are the clean run's probabilities": divergence(
        lambda log_q, log_p, q, p: (q * (log_q - log_p)).sum(dim=-1)
    ),
    "the sign of the KL divergence is turned round: p (log p - log q), which is never negative": (
        divergence(lambda log_q, log_p, q, p: (p * (log_q - log_p)).sum(dim=-1))
    ),
    "the KL divergence was averaged over the vocabulary; it is the sum": divergence(
        lambda log_q, log_p, q, p: (p * (log_p - log_q)).mean(dim=-1)
    ),
    "this is the cross entropy, -sum p log q; the KL divergence has p log p in it, too": divergence(
        lambda log_q, log_p, q, p: -(p * log_q).sum(dim=-1)
    ),
    "the KL divergence is to the base 2; nats need the natural logarithm": divergence(
        lambda log_q, log_p, q, p: (p * (log_p - log_q)).sum(dim=-1) / math.log(2)
    ),
    "logarithms are to the base 2; nats need the natural one": in_bits,
    "accuracy compares right with wrong only; right must beat every token": metric_of(
        "accuracy",
        lambda logits, clean, right, wrong: torch.where(
            logit_of(logits, right) > logit_of(logits, wrong), 1.0, 0.0
        ).to(logits.dtype),
    ),
    "accuracy asks for the clean run's best token; it is right that must be the best": metric_of(
        "accuracy",
        lambda logits, clean, right, wrong: torch.where(
            logits.argmax(dim=-1) == clean.argmax(dim=-1), 1.0, 0.0
        ).to(logits.dtype),
    ),
    "accuracy is True or False; give 1.0 or 0.0": metric_of(
        "accuracy", lambda logits, clean, right, wrong: logits.argmax(dim=-1) == right
    ),
    "the probability is shared between right and wrong only; all tokens take part": metric_of(
        "probability",
        lambda logits, clean, right, wrong: (
            logit_of(logits, right) - logit_of(logits, wrong)
        ).sigmoid(),
    ),
    "this is the probability of wrong; it is right that counts": metric_of(
        "probability", lambda logits, clean, right, wrong: logit_of(logits.softmax(dim=-1), wrong)
    ),
    "this is the log-probability of wrong; it is right that counts": metric_of(
        "log-probability",
        lambda logits, clean, right, wrong: logit_of(logits.log_softmax(dim=-1), wrong),
    ),
    "the log-probability is to the base 2; nats need the natural logarithm": metric_of(
        "log-probability",
        lambda logits, clean, right, wrong: (
            logit_of(logits.log_softmax(dim=-1), right) / math.log(2)
        ),
    ),
    "the log-probability is to the base 10; nats need the natural logarithm": metric_of(
        "log-probability",
        lambda logits, clean, right, wrong: (
            logit_of(logits.log_softmax(dim=-1), right) / math.log(10)
        ),
    ),
    "the log-probability is a raw logit; take log_softmax first": metric_of(
        "log-probability", lambda logits, clean, right, wrong: logit_of(logits, right)
    ),
    "the logit difference is turned round: right minus wrong": metric_of(
        "logit difference",
        lambda logits, clean, right, wrong: logit_of(logits, wrong) - logit_of(logits, right),
    ),
    "the logit difference was taken from the best other token; take it from wrong": metric_of(
        "logit difference", best_other
    ),
    "the logit difference mixes the rows: each row has answers of its own": metric_of(
        "logit difference",
        lambda logits, clean, right, wrong: (logits[..., right] - logits[..., wrong]).mean(dim=-2),
    ),
    "the batch was averaged; every prompt keeps its own number": over_batch,
}
