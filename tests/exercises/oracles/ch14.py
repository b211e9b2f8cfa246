"""Oracles for the first half of chapter 14: subspaces, heads, a transformer made another way."""

import math

import torch
from torch.nn.functional import cross_entropy, pad

from minitransformer import planted
from minitransformer.data import BOS, repeated_tokens
from solutions.ch14_by_hand import AT_REST, MATCH
from tests.exercises.guarded import same
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


def unscaled(d_head):
    return 1.0


def scaled_down(d_head):
    return d_head**-0.5


NO_SCALE = "MATCH has to be multiplied by sqrt(d_head), which the model divides away"
TWICE = "sqrt(d_head) divides here, too"
WRITES_TOKEN = 'it writes into "token", where it destroys what is read'

LOOKING_MISTAKES = {
    "it looks one position ahead": head(POSITION, places(1), TOKEN, PREVIOUS),
    "it looks at its own position": head(POSITION, POSITION, TOKEN, PREVIOUS),
    "it looks two positions back": head(places(2), places(0, -2), TOKEN, PREVIOUS),
    NO_SCALE: head(*BACK, TOKEN, PREVIOUS, unscaled),
    TWICE: head(*BACK, TOKEN, PREVIOUS, scaled_down),
}
NOTING_MISTAKES = {
    WRITES_TOKEN: head(*BACK, TOKEN, TOKEN),
    "it moves the position, not the token": head(
        *BACK, POSITION, lambda space: space["previous"][:, [0] * 6]
    ),
    "W_O was left at zero": head(*BACK, TOKEN, lambda space: 0 * space["previous"]),
}
MATCHING_MISTAKES = {
    "the key reads the token that stands there, not the note: a duplicate-token head": head(
        TOKEN, TOKEN, TOKEN, OUTPUT
    ),
    "query and key are the wrong way round": head(PREVIOUS, TOKEN, TOKEN, OUTPUT),
    NO_SCALE: head(TOKEN, PREVIOUS, TOKEN, OUTPUT, unscaled),
    TWICE: head(TOKEN, PREVIOUS, TOKEN, OUTPUT, scaled_down),
}
COPYING_MISTAKES = {
    "it copies the note: the token *before* the one that is looked at": head(
        TOKEN, PREVIOUS, PREVIOUS, OUTPUT
    ),
    WRITES_TOKEN: head(TOKEN, PREVIOUS, TOKEN, TOKEN),
    'it writes into "previous", which is not unembedded': head(TOKEN, PREVIOUS, TOKEN, PREVIOUS),
}


def sum_of_pairs(left, right):
    """The matrix that takes column c of `left` to column c of `right`, one pair after another."""
    return sum(torch.outer(a, b) for a, b in zip(left.T, right.T))


def looks_for(weights, d_head):
    """The score matrix in units of a full match, as the model divides it."""
    W_Q, W_K, _, _ = weights
    return W_Q @ W_K.T / math.sqrt(d_head) / MATCH


class SameHead:
    """Weights of a head, equal to all others that mean the same, however the columns are used."""

    def __init__(self, weights, d_head):
        self.d_head = d_head
        self.products = self.products_of(weights)

    def products_of(self, weights):
        return [looks_for(weights, self.d_head), weights[2] @ weights[3]]

    def __eq__(self, weights):
        return same(self.products_of(weights), self.products, tolerance=1e-4)


# A whole transformer, on coordinates, then turned by a random rotation


def by_coordinates(d_vocab, n_ctx, s, seed, wrong=""):
    """The hand-built transformer on columns of the identity, with one thing `wrong`."""
    model = planted.induction_model(d_vocab, n_ctx, s)
    space = planted.induction_spaces(d_vocab, n_ctx)
    with torch.no_grad():
        model.W_V[1, 0] = pad(space.token, (0, model.cfg.d_head - d_vocab))
        model.W_O[1, 0] = pad(space.output.T, (0, 0, 0, model.cfg.d_head - d_vocab))
        model.W_U[:, BOS] = 0.0
        if wrong == "no rest":
            model.W_E[BOS] -= AT_REST * space.previous.sum(dim=1)
        if wrong == "BOS predicted":
            model.W_U.copy_(s * space.output)
        if wrong == "no s":
            model.W_U /= s
        if wrong == "reads token":
            model.W_U.copy_(s * space.token)
        if wrong == "layers swapped":
            for W in (model.W_Q, model.W_K, model.W_V, model.W_O):
                W.copy_(W.flip(0))
        if wrong == "notes on token":
            model.W_O[0, 0] += model.W_V[0, 0].T
    return model


def built(wrong=""):
    """A function like build_induction_transformer, with one thing `wrong`."""

    def build(d_vocab=20, n_ctx=20, s=10.0, seed=0):
        model = by_coordinates(d_vocab, n_ctx, s, seed, wrong)
        if wrong == "coordinates":
            return model
        turn = orthonormal(draw(model.cfg.d_model, model.cfg.d_model, seeded(seed)))
        with torch.no_grad():
            for W in (model.W_E, model.W_pos, model.W_O):
                W.copy_(W @ turn)
            for W in (model.W_Q, model.W_K, model.W_V, model.W_U):
                W.copy_(turn.T @ W)
        return model

    return build


def losses(model, period, length):
    """(losses where the next token is known, losses elsewhere) on sequences of one period."""
    d_vocab, periods = model.cfg.d_vocab, (period, period)
    repeats = repeated_tokens(24, length, d_vocab, periods, seeded(period))
    logits, known = model(repeats.tokens).detach()[:, :-1], repeats.predictable[:, :-1]
    loss = cross_entropy(logits.transpose(1, 2), repeats.tokens[:, 1:], reduction="none")
    return loss[known], loss[~known]
