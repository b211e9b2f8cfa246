"""Oracles for the first half of chapter 14: subspaces, and heads by what they read and write."""

import math

import torch
from torch.nn.functional import pad

from solutions.ch14_by_hand import MATCH
from tests.material import seeded

# Subspaces


def draw(d_model, n, generator):
    return torch.randn(d_model, n, generator=generator)


def orthonormal(drawn):
    return torch.linalg.qr(drawn).Q


def unit_length(drawn):
    return drawn / drawn.norm(dim=0)


def independent_bases(d_model, widths, generator, finish=orthonormal):
    """Each basis drawn on its own: nothing keeps it at right angles to the others."""
    return {name: finish(draw(d_model, n, generator)) for name, n in widths.items()}


def cut(columns, widths):
    """The columns in pieces: name -> [d_model, width]."""
    starts, at = {}, 0
    for name, n in widths.items():
        starts[name], at = at, at + n
    return {name: columns[:, starts[name] : starts[name] + n] for name, n in widths.items()}


def one_basis(d_model, widths, generator):
    """A right answer."""
    return cut(orthonormal(draw(d_model, sum(widths.values()), generator)), widths)


def almost_at_right_angles(d_model, widths, generator):
    return independent_bases(d_model, widths, generator, unit_length)


def same_first_columns(d_model, widths, generator):
    columns = orthonormal(draw(d_model, sum(widths.values()), generator))
    return {name: columns[:, :n] for name, n in widths.items()}


def transposed(d_model, widths, generator):
    return {name: basis.T for name, basis in one_basis(d_model, widths, generator).items()}


def coordinates(d_model, widths, generator):
    return cut(torch.eye(d_model), widths)


def own_generator(d_model, widths, generator):
    return one_basis(d_model, widths, seeded())


def uniform(d_model, widths, generator):
    drawn = torch.rand(d_model, sum(widths.values()), generator=generator)
    return cut(orthonormal(drawn), widths)


def along_axes(d_model, widths, generator):
    axes = torch.randperm(d_model, generator=generator)
    return cut(torch.eye(d_model)[:, axes], widths)


ANGLE_MISTAKES = {
    "each basis has a draw of its own: nothing keeps different names at right angles": (
        independent_bases
    ),
    "random columns are almost at right angles, not exactly: orthonormalise them": (
        almost_at_right_angles
    ),
    "every name got the same first columns": same_first_columns,
    "transposed: a basis is [d_model, width], its vectors are columns": transposed,
}
DRAW_MISTAKES = {
    "columns of the identity: any reader could tell the parts by their coordinates": coordinates,
    "shuffled columns of the identity: any reader could tell the parts by their coordinates": (
        along_axes
    ),
    "uniform numbers are positive, so that the first direction leans to (1, 1, ...)": uniform,
    "the generator was not used": own_generator,
}


def a_space(vocab=4, n=6):
    widths = {"token": vocab, "position": n, "previous": vocab, "output": vocab}
    return one_basis(sum(widths.values()) + 3, widths, seeded(14))


# Heads: what they look for and what they move, in gauge-free products


def head(query, key, value, out, scale=math.sqrt):
    """A function (space, d_head) -> weights; query, key, value, out: space -> [d_model, n]."""

    def padded(basis, d_head):
        return pad(basis, (0, d_head - basis.shape[1]))

    def weights(space, d_head):
        W_Q = MATCH * scale(d_head) * padded(query(space), d_head)
        W_K, W_V = padded(key(space), d_head), padded(value(space), d_head)
        return W_Q, W_K, W_V, padded(out(space), d_head).T

    return weights


def part(name):
    return lambda space: space[name]


def places(first, last=None):
    return lambda space: space["position"][:, first:last]


TOKEN, PREVIOUS, OUTPUT, POSITION = (
    part("token"),
    part("previous"),
    part("output"),
    part("position"),
)
BACK = places(1), POSITION  # what the query reads, what the key reads


def power(exponent, factor=1.0):
    """A wrong scale: a power of d_head, times a factor."""
    return lambda d_head: factor * d_head**exponent


def first_of_position(space):
    """As many columns of "previous" as there are positions; further ones are 0."""
    previous, n = space["previous"], space["position"].shape[1]
    return pad(previous, (0, max(0, n - previous.shape[1])))[:, :n]


def around(space):
    """What position 0 asks for, if -1 is the last position."""
    return space["position"].roll(-1, dims=1)


def self_at_first(space):
    """Queries that ask for the position before, and one more: position 0 for itself."""
    return torch.cat([space["position"][:, 1:], space["position"][:, :1]], dim=1)


def also_first(space):
    """The keys that these queries find."""
    return torch.cat([space["position"][:, :-1], space["position"][:, :1]], dim=1)


def all_later(space):
    """For each key, the sum of all positions after it."""
    position = space["position"]
    return position.flip(1).cumsum(dim=1).flip(1) - position


def both_parts(one, two):
    return lambda space: space[one] + space[two]


def negative_answer(space):
    return -space["output"]


def next_answer(space):
    return space["output"].roll(-1, dims=1)


def first_tokens(space):
    """Tokens in the place of positions: query t + 1 asks for key t."""
    return space["token"][:, 1:]


NO_SCALE = "MATCH has to be multiplied by sqrt(d_head), which the model divides away"
TWICE = "sqrt(d_head) divides here, too"
TOO_MUCH = "MATCH was multiplied by d_head; it is sqrt(d_head) that the model divides away"
BOTH_SIDES = "MATCH stands in W_Q and in W_K: they are multiplied with each other"
OF_STREAM = "sqrt(d_model) is no factor here; the model divides by sqrt(d_head)"
OF_VOCAB = "sqrt of the vocabulary is no factor here; the model divides by sqrt(d_head)"
OF_POSITIONS = "sqrt of the number of positions is not wanted; the model divides by sqrt(d_head)"
WRITES_TOKEN = 'it writes into "token", where it destroys what is read'


def root_of(number, *reads_and_writes):
    """A head that is right, but for the root of number(space) in place of that of d_head."""

    def weights(space, d_head):
        return head(*reads_and_writes, power(0, number(space) ** 0.5))(space, d_head)

    return weights


def scales(*reads_and_writes):
    """The mistakes of scale of a head that is right otherwise."""
    return {
        "MATCH is missing: the score of a match is 1": head(
            *reads_and_writes, power(0.5, 1 / MATCH)
        ),
        NO_SCALE: head(*reads_and_writes, power(0)),
        TWICE: head(*reads_and_writes, power(-0.5)),
        TOO_MUCH: head(*reads_and_writes, power(1)),
        BOTH_SIDES: head(*reads_and_writes, power(0.5, MATCH)),
        OF_STREAM: root_of(lambda space: len(space["token"]), *reads_and_writes),
        OF_VOCAB: root_of(lambda space: space["token"].shape[1], *reads_and_writes),
    }


LOOKING_MISTAKES = {
    "it looks one position ahead": head(POSITION, places(1), TOKEN, PREVIOUS),
    "it looks at its own position": head(POSITION, POSITION, TOKEN, PREVIOUS),
    "it looks two positions back": head(places(2), places(0, -2), TOKEN, PREVIOUS),
    "position 0 asks for the last one: nothing comes before it, so it asks for nothing": head(
        around, POSITION, TOKEN, PREVIOUS
    ),
    "position 0 asks for itself; nothing comes before it, so it asks for nothing": head(
        self_at_first, also_first, TOKEN, PREVIOUS
    ),
    "it looks at all earlier positions alike; it is the one before": head(
        all_later, POSITION, TOKEN, PREVIOUS
    ),
    "queries and keys read tokens; it is positions that come one before another": head(
        first_tokens, TOKEN, TOKEN, PREVIOUS
    ),
    **scales(*BACK, TOKEN, PREVIOUS),
    OF_POSITIONS: root_of(lambda space: space["position"].shape[1], *BACK, TOKEN, PREVIOUS),
}
NOTING_MISTAKES = {
    WRITES_TOKEN: head(*BACK, TOKEN, TOKEN),
    'it writes into "previous" and into "token", where it destroys what is read': head(
        *BACK, TOKEN, both_parts("previous", "token")
    ),
    'it writes into "output"; the note belongs into "previous"': head(*BACK, TOKEN, OUTPUT),
    "it moves the position, not the token": head(*BACK, POSITION, first_of_position),
    "it reads the notes; the value is the token that stands at the key": head(
        *BACK, PREVIOUS, PREVIOUS
    ),
    "W_O was left at zero": head(*BACK, TOKEN, lambda space: 0 * space["previous"]),
}
MATCHING_MISTAKES = {
    "the key reads the token that stands there, not the note: a duplicate-token head": head(
        TOKEN, TOKEN, TOKEN, OUTPUT
    ),
    "query and key are the wrong way round": head(PREVIOUS, TOKEN, TOKEN, OUTPUT),
    "the key reads its own token, besides the note": head(
        TOKEN, both_parts("previous", "token"), TOKEN, OUTPUT
    ),
    'the query reads "output"; it must read its own token': head(OUTPUT, PREVIOUS, TOKEN, OUTPUT),
    'the key reads "output"; it must read the note': head(TOKEN, OUTPUT, TOKEN, OUTPUT),
    "the query reads its note, besides its token": head(
        both_parts("previous", "token"), PREVIOUS, TOKEN, OUTPUT
    ),
    "the query reads its note; it must read its own token": head(PREVIOUS, PREVIOUS, TOKEN, OUTPUT),
    **scales(TOKEN, PREVIOUS, TOKEN, OUTPUT),
}
COPYING_MISTAKES = {
    "it copies the note: the token *before* the one that is looked at": head(
        TOKEN, PREVIOUS, PREVIOUS, OUTPUT
    ),
    WRITES_TOKEN: head(TOKEN, PREVIOUS, TOKEN, TOKEN),
    'it writes into "previous", which is not unembedded': head(TOKEN, PREVIOUS, TOKEN, PREVIOUS),
    'it moves what stands in "output"; it must move the token': head(
        TOKEN, PREVIOUS, OUTPUT, OUTPUT
    ),
    "the sign of the answer is turned round": head(TOKEN, PREVIOUS, TOKEN, negative_answer),
    "the answer is one number off: the token that is found is the one that follows": head(
        TOKEN, PREVIOUS, TOKEN, next_answer
    ),
}


def sum_of_pairs(left, right):
    """The matrix that takes column c of `left` to column c of `right`, one pair after another."""
    return sum(torch.outer(a, b) for a, b in zip(left.T, right.T))


def looks_for(weights, d_head):
    """The score matrix in units of a full match, as the model divides it."""
    W_Q, W_K, _, _ = weights
    return W_Q @ W_K.T / math.sqrt(d_head) / MATCH


def products(weights, d_head):
    """What two heads share that mean the same, however their columns are used. Each product is
    divided by its size, so that rounding counts alike.
    """
    every = looks_for(weights, d_head), weights[2] @ weights[3]
    return [product / (1 + product.abs().max()) for product in every]
