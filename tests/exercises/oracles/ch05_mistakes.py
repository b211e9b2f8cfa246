"""Wrong answers to the exercises of chapter 5: label -> the function that people write."""

import torch
from torch.nn.functional import normalize, pad

from tests.exercises.oracles import ch05 as oracle
from tests.exercises.oracles.ch05 import by_definition, copies, followers
from tests.exercises.oracles.ch05_habit_mistakes import TRANSPOSED

PAIRS = "divided by the number of pairs; divide by the number of queries that have a copy"
LATER = "a later copy was enough to be counted; only what has been read can be found"


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


def previous_matched(pattern, tokens):
    wanted = (tokens.roll(1, dims=1)[:, :, None] == tokens[:, None, :]).tril(-1)
    return on_wanted(pattern, wanted)


def copies_of_the_first(pattern, tokens):
    return on_wanted(pattern, same_token(tokens[:1]).tril(-1).expand(len(tokens), -1, -1))


def zero_where_no_copy(pattern, tokens):
    wanted = same_token(tokens).tril(-1)
    total = (pattern * wanted[:, None]).sum(dim=(2, 3))
    return (total / wanted.any(dim=-1).sum(dim=-1).clamp(min=1)[:, None]).mean(dim=0)


def with_the_copies(pattern, tokens):
    copied = same_token(tokens).tril(-1)
    return on_wanted(pattern, copied | pad(copied[:, :, :-1], (1, 0)))


def counted_if_again(pattern, tokens):
    wanted = pad(same_token(tokens).tril(-1)[:, :, :-1], (1, 0))
    return on_wanted(pattern, wanted, (same_token(tokens).sum(dim=-1) > 1).sum())


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
    "the token before the query's own was matched; match its own": previous_matched,
    "the copies of the first sequence were used for all": copies_of_the_first,
    "each sequence was averaged first, one without a copy as 0": zero_where_no_copy,
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
    "copies and their followers were counted; only the followers are meant": with_the_copies,
    "queries were counted whose token comes again later; only what has been read can be found": (
        counted_if_again
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


def length_of_the_sum(pattern, v, W_O):
    return length(torch.einsum("bhqk,bkhd,hdm->bhqm", pattern, v, W_O))


def heads_together(pattern, v, W_O):
    return pattern * length(torch.einsum("bkhd,hdm->bkm", v, W_O))[:, None, None]


def lengths_reshaped(pattern, v, W_O):
    lengths = length(torch.einsum("bkhd,hdm->bkhm", v, W_O))  # batch key head
    batch, n, heads = lengths.shape
    return pattern * lengths.reshape(batch, heads, 1, n)


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
    "only W_O was measured; each key has a value of its own": (
        lambda pattern, v, W_O: pattern * W_O.norm(dim=(-2, -1))[None, :, None, None]
    ),
    "head and key were exchanged by a reshape, which mixes the numbers up; transpose instead": (
        lengths_reshaped
    ),
    "this is the length of what all keys add together; each key has its own": length_of_the_sum,
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
