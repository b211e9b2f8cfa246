"""Oracles for the whole transformer of chapter 14: it is made on coordinates, and compared in what
does not depend on how the stream is turned.
"""

from functools import partial

import torch
from torch.nn.functional import cross_entropy, pad

from minitransformer import Transformer, planted
from minitransformer.data import BOS, repeated_tokens
from solutions.ch14_by_hand import AT_REST, MATCH
from tests.exercises.oracles.ch14 import draw, orthonormal
from tests.material import seeded


def by_coordinates(d_vocab, n_ctx, s, edit=None):
    """The hand-built transformer on columns of the identity; edit(model, space, s): one thing made
    wrong.
    """
    model = planted.induction_model(d_vocab, n_ctx, s)
    space = planted.induction_spaces(d_vocab, n_ctx)
    with torch.no_grad():
        model.W_V[1, 0] = pad(space.token, (0, model.cfg.d_head - d_vocab))
        model.W_O[1, 0] = pad(space.output.T, (0, 0, 0, model.cfg.d_head - d_vocab))
        model.W_U[:, BOS] = 0.0
        if edit:
            edit(model, space, s)
    return model


def no_rest(model, space, s):
    model.W_E[BOS] = space.token[:, BOS]


def all_rest(model, space, s):
    model.W_E[BOS + 1 :] += AT_REST * space.previous.sum(dim=1)


def only_rest(model, space, s):
    model.W_E[BOS] -= space.token[:, BOS]


def mean_rest(model, space, s):
    model.W_E[BOS] = space.token[:, BOS] + AT_REST * space.previous.mean(dim=1)


def full_rest(model, space, s):
    model.W_E[BOS] = space.token[:, BOS] + space.previous.sum(dim=1)


def rest_on_tokens(model, space, s):
    model.W_E[BOS] = space.token[:, BOS] + AT_REST * space.token.sum(dim=1)


def rest_of_another(model, space, s):
    model.W_E[BOS] = space.token[:, BOS]
    model.W_E[BOS + 1] += AT_REST * space.previous.sum(dim=1)


def one_head_twice(layer):
    def edit(model, space, s):
        for W in (model.W_Q, model.W_K, model.W_V, model.W_O):
            W[1 - layer] = W[layer].clone()

    return edit


def s_on_positions(model, space, s):
    model.W_pos *= s


def bos_predicted(model, space, s):
    model.W_U.copy_(s * space.output)


def no_s(model, space, s):
    model.W_U /= s


def divided_by_s(model, space, s):
    model.W_U /= s * s


def s_on_both(model, space, s):
    model.W_E[:] = s * space.token.T
    model.W_E[BOS] += AT_REST * space.previous.sum(dim=1)


def s_on_embedding(model, space, s):
    s_on_both(model, space, s)
    model.W_U /= s


def reads(name):
    def edit(model, space, s):
        model.W_U.copy_(s * getattr(space, name))
        model.W_U[:, BOS] = 0

    return edit


def layers_swapped(model, space, s):
    for W in (model.W_Q, model.W_K, model.W_V, model.W_O):
        W.copy_(W.flip(0))


def notes_on_token(model, space, s):
    model.W_O[0, 0] += model.W_V[0, 0].T


def coordinates_only(d_vocab=20, n_ctx=20, s=10.0, seed=0):
    return by_coordinates(d_vocab, n_ctx, s)


def turned(d_vocab=20, n_ctx=20, s=10.0, seed=0, edit=None):
    """The model with one thing wrong, its stream turned at random."""
    model = by_coordinates(d_vocab, n_ctx, s, edit)
    turn = orthonormal(draw(model.cfg.d_model, model.cfg.d_model, seeded(seed)))
    with torch.no_grad():
        for W in (model.W_E, model.W_pos, model.W_O):
            W.copy_(W @ turn)
        for W in (model.W_Q, model.W_K, model.W_V, model.W_U):
            W.copy_(turn.T @ W)
    return model


def meaning(model: Transformer) -> dict:
    """All that counts of a hand-built model, whatever directions its parts have: sizes, the dot
    products of what is written and read, and what each head looks for and moves.
    """
    scale = MATCH * model.cfg.d_head**0.5
    notes = model.W_E @ model.W_V[0, 0] @ model.W_O[0, 0]
    rows = torch.cat([model.W_E, model.W_pos, model.W_U.T, notes])
    found = {"sizes": list(map(list, (W.shape for W in model.parameters()))), "rows": rows @ rows.T}
    for layer, name in enumerate(("0.0", "1.0")):
        QK = model.W_Q[layer, 0] @ model.W_K[layer, 0].T / scale
        found[f"what {name} looks for"] = rows @ QK @ rows.T
        found[f"what {name} moves"] = rows @ model.W_V[layer, 0] @ model.W_O[layer, 0] @ rows.T
    return {name: x.detach() if isinstance(x, torch.Tensor) else x for name, x in found.items()}


def built(edit):
    return partial(turned, edit=edit)


MEANING_MISTAKES = {
    "BOS has no notes": built(no_rest),
    "every token notes all tokens a little; only BOS does": built(all_rest),
    "BOS lost its own direction: the notes are added to it": built(only_rest),
    "the notes of BOS were averaged; they are added up": built(mean_rest),
    "BOS notes every token fully; AT_REST makes it a little": built(full_rest),
    'BOS carries all tokens in "token"; its notes belong into "previous"': built(rest_on_tokens),
    "the notes were given to token 1; they belong to BOS, which is 0": built(rest_of_another),
    "the previous-token head is in both layers": built(one_head_twice(0)),
    "the induction head is in both layers": built(one_head_twice(1)),
    "the positions were multiplied by s": built(s_on_positions),
    "the column of W_U for BOS is not 0": built(bos_predicted),
    "W_U was not multiplied by s": built(no_s),
    "W_U was divided by s; multiply": built(divided_by_s),
    "the embedding was multiplied by s, too": built(s_on_both),
    "s stands in the embedding; it belongs into W_U": built(s_on_embedding),
    'W_U reads "token": the model predicts the token that it just read': built(reads("token")),
    'W_U reads "previous": it predicts the token before': built(reads("previous")),
    "the two heads are in each other's layer": built(layers_swapped),
    'head 0.0 writes into "token" as well: its notes can be mistaken for tokens': built(
        notes_on_token
    ),
}


def losses(model, period, length):
    """(losses where the next token is known, losses elsewhere) on sequences of one period."""
    d_vocab, periods = model.cfg.d_vocab, (period, period)
    repeats = repeated_tokens(24, length, d_vocab, periods, seeded(period))
    logits, known = model(repeats.tokens).detach()[:, :-1], repeats.predictable[:, :-1]
    loss = cross_entropy(logits.transpose(1, 2), repeats.tokens[:, 1:], reduction="none")
    return loss[known], loss[~known]
