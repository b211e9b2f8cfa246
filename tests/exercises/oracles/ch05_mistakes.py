"""Wrong answers to the exercises of chapter 5: label -> the function that people write."""

import torch
from torch.nn.functional import normalize, pad

from tests.exercises.oracles import ch05 as oracle
from tests.exercises.oracles.ch05 import at, bos, by_definition, copies, followers

WRONG_AXIS = "the mean went over the wrong axes: batch and positions go, the heads stay"
TRANSPOSED = "the pattern was read transposed: its last axis is the key, which is looked at"
BOS_COUNTED = "query 0, BOS, was counted: it can only look at itself"
PAIRS = "divided by the number of pairs; divide by the number of queries that have a copy"
LATER = "a later copy was enough to be counted; only what has been read can be found"

# Habits that do not depend on the tokens


ONE_LESS = "query 1 was left out, too; only query 0 is not counted"
LARGEST = "queries were counted whose largest share goes there; average the shares themselves"
ADDED = "the shares were added up over the queries; their mean is wanted"
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


def without_first_sequence(pattern):
    return pattern.diagonal(dim1=-2, dim2=-1)[1:].mean(dim=(0, -1))


PREVIOUS = {
    TRANSPOSED: by_definition(at(1), flip=True),
    "off by one: this is the diagonal of looking at oneself": by_definition(at(0, 0)),
    "off by one: this is the diagonal of looking two back": by_definition(at(2, 2)),
    "query 0 was counted; it has no token before it": by_definition(at(1), everyone=True),
    ONE_LESS: by_definition(at(1, 2)),
    LARGEST: largest_there(1),
    ADDED: added_up(oracle.PREVIOUS),
    WRONG_AXIS: diagonal_per_batch(-1),
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
    WRONG_AXIS: diagonal_per_batch(0, first=1),
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
    "the mean went over the key axis, which has one entry left; average over the queries": (
        lambda pattern: pattern[:, :, 1:, :1].mean(dim=(0, -1))
    ),
    WRONG_AXIS: lambda pattern: pattern[:, :, 1:, 0].mean(dim=(1, -1)),
}


# Habits that depend on the tokens


def same_token(tokens):
    return tokens[:, :, None] == tokens[:, None, :]  # batch query key


def on_wanted(pattern, wanted, count=None):
    """Attention on the wanted pairs [batch, query, key], over the number of queries with one."""
    total = (pattern * wanted[:, None]).sum(dim=(0, 2, 3))
    return total / (wanted.any(dim=-1).sum() if count is None else count)


def per_pair(shift):
    def score(pattern, tokens):
        wanted = pad(same_token(tokens).tril(-1), (shift, 0))[:, :, : tokens.shape[1]]
        return on_wanted(pattern, wanted, wanted.sum())

    return score


def wrapped_round(pattern, tokens):
    return on_wanted(pattern, same_token(tokens).roll(1, dims=-1).tril())


def strict_after_the_shift(pattern, tokens):
    return on_wanted(pattern, pad(same_token(tokens)[:, :, :-1], (1, 0)).tril(-1))


def itself_before_the_shift(pattern, tokens):
    return on_wanted(pattern, pad(same_token(tokens).tril()[:, :, :-1], (1, 0)))


def next_token_matched(pattern, tokens):
    following = tokens.roll(-1, dims=1)
    wanted = (following[:, :, None] == tokens[:, None, :]).tril()
    wanted[:, -1] = False
    return on_wanted(pattern, wanted)


def two_to_the_right(pattern, tokens):
    return on_wanted(pattern, pad(same_token(tokens).tril(-1)[:, :, :-2], (2, 0)))


def queries_shifted(pattern, tokens):
    return on_wanted(pattern, pad(same_token(tokens).tril(-1)[:, :-1], (0, 0, 1, 0)))


def with_later(shift):
    """The attention is right, but queries that have only a later copy are counted too."""

    def score(pattern, tokens):
        itself = torch.eye(tokens.shape[1], dtype=torch.bool)
        same = same_token(tokens) & ~itself
        return on_wanted(pattern, same.roll(shift, -1).tril(), same.any(dim=-1).sum())

    return score


def fixed_diagonal(pattern, tokens):
    """The classic detector: it takes the period from the first sequence and reads one diagonal."""
    row = tokens[0].tolist()
    period = next((i - copies(row, i)[0] for i in range(len(row)) if copies(row, i)), 1)
    return pattern.diagonal(1 - period, dim1=-2, dim2=-1).mean(dim=(0, -1))


def token_mistakes(right):
    """What goes wrong with either score: right(row, i) lists the keys that it should count."""
    return {
        "every query was counted; those whose token is new have nothing to find": (
            by_definition(right, everyone=True)
        ),
        "each sequence was averaged first; every counted query of the batch weighs the same": (
            by_definition(right, by_row=True)
        ),
        "the attention of a query was averaged over its keys; add it up": (
            by_definition(right, shared=True)
        ),
        TRANSPOSED: by_definition(right, flip=True),
    }


def not_bos(row, i):
    return [j for j in copies(row, i) if row[j]]


DUPLICATE = token_mistakes(copies) | {
    "the token itself was counted as its own copy": (
        by_definition(lambda row, i: [*copies(row, i), i])
    ),
    "only the first copy was counted; add up all of them": (
        by_definition(lambda row, i: copies(row, i)[:1])
    ),
    "only the last copy was counted; add up all of them": (
        by_definition(lambda row, i: copies(row, i)[-1:])
    ),
    "these are the tokens after the copies; that is the prefix-matching score": oracle.MATCHING,
    "BOS was left out; a second 0 in a sequence is a copy like any other": by_definition(not_bos),
    PAIRS: per_pair(0),
    LATER: with_later(0),
}
MATCHING = token_mistakes(followers) | {
    "off by one: these are the copies, a whole period back; induction looks at period - 1": (
        oracle.DUPLICATE
    ),
    "off by one: these are the tokens before the copies; induction needs the ones after": (
        by_definition(lambda row, i: [j - 1 for j in copies(row, i)])
    ),
    "only the first copy was counted; add up the followers of all of them": (
        by_definition(lambda row, i: followers(row, i)[:1])
    ),
    "only the last copy was counted; add up the followers of all of them": (
        by_definition(lambda row, i: followers(row, i)[-1:])
    ),
    "the shift wrapped round: a match with the last token came back at key 0": wrapped_round,
    "a follower may be the query's own position (in `3 3`): cut before the shift, not after": (
        strict_after_the_shift
    ),
    "the token itself was counted as its own copy, so every query was counted": (
        itself_before_the_shift
    ),
    "the queries were shifted; shift the keys": queries_shifted,
    "off by two: these are two to the right of the copies; one to the right is wanted": (
        two_to_the_right
    ),
    "keys that hold the token after the query: that is the answer, which nobody has read yet": (
        next_token_matched
    ),
    "the token before the query's own was matched; match its own": (
        by_definition(lambda row, i: [j + 2 for j in copies(row, i - 1)] if i else [])
    ),
    "BOS was left out; what came after it counts where 0 stands again": (
        by_definition(lambda row, i: [j + 1 for j in not_bos(row, i)])
    ),
    PAIRS: per_pair(1),
    LATER: with_later(1),
    "one fixed diagonal was read; where the copies stand depends on the tokens": fixed_diagonal,
}


# Value-weighted patterns


def length(x):
    return x.norm(dim=-1)


def weighted(reduce=length, axis=2, by_W_O=True):
    """value_weighted_pattern with one thing changed. axis 2: the lengths belong to the keys, axis
    3: to the queries.
    """

    def wrong(pattern, v, W_O):
        offered = torch.einsum("bkhd,hdm->bhkm", v, W_O) if by_W_O else v.transpose(1, 2)
        return pattern * reduce(offered).unsqueeze(axis)

    return wrong


def heads_together(pattern, v, W_O):
    return pattern * length(torch.einsum("bkhd,hdm->bkm", v, W_O))[:, None, None]


VALUE_WEIGHTED = {
    "W_O was left out: the length of v is free, what the head does depends on v W_O": (
        weighted(by_W_O=False)
    ),
    "the value of the query was taken; what is moved is the value of the key": weighted(axis=3),
    "the square root of the sum of squares is missing": weighted(lambda x: length(x) ** 2),
    "this is the sum of the vector's entries, not its length": weighted(lambda x: x.sum(-1)),
    "this is the sum of absolute entries, not the length": weighted(lambda x: x.abs().sum(-1)),
    "this is the root mean square of the entries; the length has a sum there": (
        weighted(lambda x: x.pow(2).mean(-1).sqrt())
    ),
    "the length was taken over the keys; each key has its own, over d_model": (
        lambda pattern, v, W_O: (
            pattern * torch.einsum("bkhd,hdm->bhkm", v, W_O).norm(dim=2)[:, :, None, :1]
        )
    ),
    "the heads were added up before the length was taken; each head has its own": heads_together,
    "length of v times size of W_O; the length of the product v W_O is shorter": (
        lambda pattern, v, W_O: pattern * (length(v) * W_O.norm(dim=(-2, -1))).mT[:, :, None]
    ),
    "the lengths were scaled to a largest of 1; keep the units of the stream": (
        weighted(lambda x: length(x) / length(x).max())
    ),
    "each row was made to sum to 1 again; keep the units of the stream": (
        lambda pattern, v, W_O: normalize(weighted()(pattern, v, W_O), p=1, dim=-1)
    ),
}
