"""What people get wrong in compare_metrics: one of the five, or all of them, in another way."""

import math

import torch
from torch.nn.functional import one_hot

from tests.exercises.oracles.ch11 import metrics_by_hand


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
    "accuracy asks for a probability above one half; the largest of all logits may have less": (
        metric_of(
            "accuracy",
            lambda logits, clean, right, wrong: (logit_of(logits.softmax(dim=-1), right) > 0.5).to(
                logits.dtype
            ),
        )
    ),
    "this is a difference of probabilities; take it of the logits": metric_of(
        "logit difference",
        lambda logits, clean, right, wrong: (
            logit_of(logits.softmax(dim=-1), right) - logit_of(logits.softmax(dim=-1), wrong)
        ),
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
