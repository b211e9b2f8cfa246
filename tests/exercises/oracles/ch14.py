"""What the first half of chapter 14 is checked against: subspaces, heads and an induction
transformer made another way.
"""

import math

import torch
from torch.nn.functional import cross_entropy, pad

from exercises.attempts import same
from minitransformer import planted
from minitransformer.data import BOS, repeated_tokens
from solutions.ch14_by_hand import AT_REST, MATCH

# Subspaces


def independent_bases(d_model, widths, generator, finish=lambda x: torch.linalg.qr(x).Q):
    """Each basis drawn on its own: orthonormal inside (or what `finish` makes of it), at no right
    angle to the others.
    """
    return {
        name: finish(torch.randn(d_model, n, generator=generator)) for name, n in widths.items()
    }


def one_basis(d_model, widths, generator, columns=None, shared=False):
    """The right answer, except that the columns may be given, or every name may take the first
    ones.
    """
    total = sum(widths.values())
    columns = (
        torch.linalg.qr(torch.randn(d_model, total, generator=generator)).Q
        if columns is None
        else columns(d_model)
    )
    starts = [0 if shared else sum(list(widths.values())[:place]) for place in range(len(widths))]
    return {name: columns[:, start : start + n] for start, (name, n) in zip(starts, widths.items())}


ANGLE_MISTAKES = {
    "each basis has a draw of its own: nothing keeps different names at right angles": independent_bases,
    "random columns are almost at right angles, not exactly: orthonormalise them": (
        lambda *args: independent_bases(*args, finish=lambda x: x / x.norm(dim=0))
    ),
    "every name got the same first columns": lambda *args: one_basis(*args, shared=True),
    "transposed: a basis is [d_model, width], its vectors are columns": (
        lambda *args: {name: basis.T for name, basis in one_basis(*args).items()}
    ),
}

DRAW_MISTAKES = {
    "columns of the identity: any reader could tell the parts by their coordinates": (
        lambda *args: one_basis(*args, columns=torch.eye)
    ),
    "the generator was not used": lambda d_model, widths, generator: one_basis(
        d_model, widths, torch.Generator().manual_seed(0)
    ),
}


def a_space(vocab=4, n=6):
    widths = {"token": vocab, "position": n, "previous": vocab, "output": vocab}
    return one_basis(sum(widths.values()) + 3, widths, torch.Generator().manual_seed(14))


# Heads: what they look for and what they move, in gauge-free products


def head(query, key, value, out, scale=math.sqrt):
    """A function (space, d_head) -> weights; query, key, value, out: space -> [d_model, n] basis
    vectors in order.
    """

    def weights(space, d_head):
        scaled = MATCH * scale(d_head) * query(space)
        ins = [pad(x, (0, d_head - x.shape[1])) for x in (scaled, key(space), value(space))]
        return *ins, pad(out(space).T, (0, 0, 0, d_head - out(space).shape[1]))

    return weights


def part(name):
    return lambda space: space[name]


def places(first, last=None):
    return lambda space: space["position"][:, first:last]


TOKEN, PREVIOUS, OUTPUT = part("token"), part("previous"), part("output")
BACK = (places(1), part("position"))  # what the query reads, what the key reads


NO_SCALE, TWICE = (
    "MATCH has to be multiplied by sqrt(d_head), which the model divides away",
    "sqrt(d_head) divides here, too",
)
WRITES_TOKEN = 'it writes into "token", where it destroys what is read'
LOOKING_MISTAKES = {
    "it looks one position ahead": head(*BACK[::-1], TOKEN, PREVIOUS),
    "it looks at its own position": head(part("position"), part("position"), TOKEN, PREVIOUS),
    "it looks two positions back": head(places(2), places(0, -2), TOKEN, PREVIOUS),
    NO_SCALE: head(*BACK, TOKEN, PREVIOUS, scale=lambda d_head: 1.0),
    TWICE: head(*BACK, TOKEN, PREVIOUS, scale=lambda d_head: d_head**-0.5),
}

NOTING_MISTAKES = {
    WRITES_TOKEN: head(*BACK, TOKEN, TOKEN),
    "it moves the position, not the token": head(
        *BACK, part("position"), lambda space: space["previous"][:, [0] * 6]
    ),
    "W_O was left at zero": head(*BACK, TOKEN, lambda space: 0 * space["previous"]),
}

MATCHING_MISTAKES = {
    "the key reads the token that stands there, not the note: a duplicate-token head": head(
        TOKEN, TOKEN, TOKEN, OUTPUT
    ),
    "query and key are the wrong way round": head(PREVIOUS, TOKEN, TOKEN, OUTPUT),
    NO_SCALE: head(TOKEN, PREVIOUS, TOKEN, OUTPUT, scale=lambda d_head: 1.0),
    TWICE: head(TOKEN, PREVIOUS, TOKEN, OUTPUT, scale=lambda d_head: d_head**-0.5),
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
    """Weights of a head, equal to all others that mean the same: column c of W_Q and W_K may be
    used for anything.
    """

    def __init__(self, weights, d_head):
        self.d_head = d_head
        self.products = self.products_of(weights)

    def products_of(self, weights):
        return [looks_for(weights, self.d_head), weights[2] @ weights[3]]

    def __eq__(self, weights):
        return same(self.products_of(weights), self.products, tolerance=1e-4)


# A whole transformer, on coordinates, then turned by a random rotation


def by_coordinates(d_vocab, n_ctx, s, seed, wrong=""):
    """The hand-built transformer on columns of the identity; `wrong` names one thing that is then
    different.
    """
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
        turn = torch.linalg.qr(
            torch.randn(2 * [model.cfg.d_model], generator=torch.Generator().manual_seed(seed))
        ).Q
        with torch.no_grad():
            for W in (model.W_E, model.W_pos, model.W_O):
                W.copy_(W @ turn)
            for W in (model.W_Q, model.W_K, model.W_V, model.W_U):
                W.copy_(turn.T @ W)
        return model

    return build


def losses(model, period, length):
    """(losses where the next token is known, losses elsewhere) on sequences of one period."""
    repeats = repeated_tokens(
        24, length, model.cfg.d_vocab, (period, period), torch.Generator().manual_seed(period)
    )
    logits, known = model(repeats.tokens).detach()[:, :-1], repeats.predictable[:, :-1]
    loss = cross_entropy(
        logits.flatten(0, 1), repeats.tokens[:, 1:].flatten(), reduction="none"
    ).view_as(known)
    return loss[known], loss[~known]
