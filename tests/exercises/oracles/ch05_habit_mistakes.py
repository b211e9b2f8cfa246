"""Wrong answers to the first three exercises of chapter 5, on habits that do not depend on the
tokens: label -> the function that people write.
"""

import torch

from tests.exercises.oracles import ch05 as oracle
from tests.exercises.oracles.ch05 import at, bos, by_definition

WRONG_AXIS = "the mean went over the wrong axes: batch and positions go, the heads stay"
TRANSPOSED = "the pattern was read transposed: its last axis is the key, which is looked at"
BOS_COUNTED = "query 0, BOS, was counted: it can only look at itself"

ONE_LESS = "query 1 was left out, too; only query 0 is not counted"
LARGEST = "queries were counted whose largest share goes there; average the shares themselves"
ADDED = "the shares were added up over the queries; their mean is wanted"
BATCH_KEPT = "the batch was not averaged: one score per head is wanted"
QUERIES_KEPT = "the queries were not averaged: one score per head is wanted"
OVER_N = "divided by n queries, but n - 1 are counted: query 0 is not"


def diagonal_per_batch(offset, first=0):
    def score(pattern):
        return pattern.diagonal(offset, dim1=-2, dim2=-1)[..., first:].mean(dim=(1, -1))

    return score


def largest_there(offset=None):
    """The share of the queries i >= 1 whose largest entry is at i - offset; None: at BOS."""

    def score(pattern):
        queries = torch.arange(1, pattern.shape[-1])
        there = 0 * queries if offset is None else queries - offset
        return (pattern.argmax(dim=-1)[..., 1:] == there).double().mean(dim=(0, -1))

    return score


def added_up(right):
    return lambda pattern: right(pattern) * (pattern.shape[-1] - 1)


def over_n(right):
    return lambda pattern: right(pattern) * (pattern.shape[-1] - 1) / pattern.shape[-1]


def over_before(pattern):
    """n / (n - 1)^2: of a mean over all n queries, once it is added up, a mean over n - 1."""
    n = pattern.shape[-1]
    return n / (n - 1) ** 2


def without_first_sequence(pattern):
    return pattern.diagonal(dim1=-2, dim2=-1)[1:].mean(dim=(0, -1))


def median_one_back(pattern):
    return pattern.diagonal(-1, dim1=-2, dim2=-1).transpose(0, 1).flatten(1).median(dim=1).values


PREVIOUS = {
    TRANSPOSED: by_definition(at(1), flip=True),
    "off by one: this is the diagonal of looking at oneself": by_definition(at(0, 0)),
    "off by one: this is the diagonal of looking two back": by_definition(at(2, 2)),
    "query 0 was counted; it has no token before it": by_definition(at(1), everyone=True),
    ONE_LESS: by_definition(at(1, 2)),
    LARGEST: largest_there(1),
    ADDED: added_up(oracle.PREVIOUS),
    "the median was taken; the mean is meant": median_one_back,
    "the largest was taken; the mean is meant": (
        lambda pattern: pattern.diagonal(-1, dim1=-2, dim2=-1).amax(dim=(0, -1))
    ),
    WRONG_AXIS: diagonal_per_batch(-1),
    BATCH_KEPT: lambda pattern: pattern.diagonal(-1, dim1=-2, dim2=-1).mean(dim=-1),
    QUERIES_KEPT: lambda pattern: pattern.diagonal(-1, dim1=-2, dim2=-1).mean(dim=0),
    "the diagonal runs over batch and head: say dim1=-2, dim2=-1": (
        lambda pattern: pattern.diagonal(-1).mean(dim=(0, -1))
    ),
}
CURRENT = {
    BOS_COUNTED: by_definition(at(0, 0)),
    "off by one: this is the diagonal of looking one back": by_definition(at(1)),
    "this is the diagonal of looking one back, without query 1": by_definition(at(1, 2)),
    "the last query was left out; query 0 is the one that is not counted": (
        by_definition(lambda row, i: [i] if i < len(row) - 1 else [])
    ),
    "the first sequence was left out: [1:] is for the last axis, [..., 1:]": without_first_sequence,
    ONE_LESS: by_definition(at(0, 2)),
    LARGEST: largest_there(0),
    ADDED: added_up(oracle.CURRENT),
    OVER_N: over_n(oracle.CURRENT),
    "query 0 is in the sum, but not in the number of queries": (
        lambda pattern: added_up(by_definition(at(0, 0)))(pattern) * over_before(pattern)
    ),
    "the whole block without BOS was averaged; its diagonal is meant": (
        lambda pattern: pattern[:, :, 1:, 1:].mean(dim=(0, 2, 3))
    ),
    WRONG_AXIS: diagonal_per_batch(0, first=1),
    BATCH_KEPT: lambda pattern: pattern.diagonal(dim1=-2, dim2=-1)[..., 1:].mean(dim=-1),
    QUERIES_KEPT: lambda pattern: pattern.diagonal(dim1=-2, dim2=-1)[..., 1:].mean(dim=0),
    "the diagonal runs over batch and head: say dim1=-2, dim2=-1": (
        lambda pattern: pattern.diagonal()[..., 1:].mean(dim=(0, -1))
    ),
}
FIRST = {
    BOS_COUNTED: by_definition(lambda row, i: [0]),
    TRANSPOSED: by_definition(bos, flip=True),
    "this is key 1, the token after BOS": by_definition(lambda row, i: [1] if i else []),
    "only the last query was asked; average over all but query 0": (
        lambda pattern: pattern[:, :, -1, 0].mean(dim=0)
    ),
    ONE_LESS: by_definition(lambda row, i: [0] if i > 1 else []),
    LARGEST: largest_there(),
    ADDED: added_up(oracle.FIRST),
    OVER_N: over_n(oracle.FIRST),
    "the mean went over the heads; it goes over the queries, and the heads stay": (
        lambda pattern: pattern[:, :, 1:, 0].mean(dim=(0, 1))
    ),
    "the mean went over the key axis, which has one entry left; average over the queries": (
        lambda pattern: pattern[:, :, 1:, :1].mean(dim=(0, -1))
    ),
    WRONG_AXIS: lambda pattern: pattern[:, :, 1:, 0].mean(dim=(1, -1)),
    BATCH_KEPT: lambda pattern: pattern[:, :, 1:, 0].mean(dim=-1),
}
