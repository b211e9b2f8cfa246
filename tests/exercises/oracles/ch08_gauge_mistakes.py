"""What people get wrong in chapter 8 about what no behaviour can see: label -> the function they
write.
"""

from functools import partial

import torch

from tests.exercises.oracles import ch08 as slow
from tests.exercises.oracles.ch08 import length, moves


def exchanged(weights, S, **changes):
    """A wrong stretch_stream: what becomes of some weights, by their names."""
    made = slow.stretched(weights, S)
    return made | {name: change(weights[name], S) for name, change in changes.items()}


STRETCH = {
    "S.T undoes S only if S is a rotation; any S that has an inverse must do": partial(
        slow.stretched, undo=lambda S: S.T
    ),
    "the inverse was transposed: what reads is (inverse of S) @ W": partial(
        slow.stretched, undo=lambda S: torch.linalg.inv(S).T
    ),
    "S was applied once more instead of undone: what reads is (inverse of S) @ W": partial(
        slow.stretched, undo=lambda S: S
    ),
    "what reads from the stream was left as it was": partial(slow.stretched, readers=()),
    "what writes into the stream was left as it was: W_E, W_pos and W_O are followed by S": partial(
        slow.stretched, writers=()
    ),
    "W_U reads from the stream too": partial(slow.stretched, readers=slow.READERS[:3]),
    "values are read from the stream too: W_V must undo S": partial(
        slow.stretched, readers=("W_Q", "W_K", "W_U")
    ),
    "positions meet W_Q and W_K as well: W_pos is followed by S": partial(
        slow.stretched, writers=("W_E", "W_O")
    ),
    "W_O writes into the stream: it is followed by S": partial(
        slow.stretched, writers=("W_E", "W_pos")
    ),
    "S and its inverse are exchanged: a vector x of the stream must become x S": (
        lambda weights, S: slow.stretched(weights, torch.linalg.inv(S))
    ),
    "S was transposed: a row vector x becomes x S": (
        lambda weights, S: slow.stretched(weights, S.T)
    ),
}
STRETCH |= {
    "W_O was followed by the inverse of S; it writes, so it is followed by S": partial(
        exchanged, W_O=lambda W, S: W @ torch.linalg.inv(S)
    ),
    "W_Q and W_K read from the stream too: each must undo S": partial(
        exchanged, W_Q=lambda W, S: W, W_K=lambda W, S: W
    ),
    "W_K must undo S like W_Q; S does not cancel between them": partial(
        exchanged, W_K=lambda W, S: S.T @ W
    ),
    "W_E writes into the stream: it is followed by S": partial(exchanged, W_E=lambda W, S: W),
}
NEVER_COMPLAINS = {
    "a pseudo-inverse never complains; torch.linalg.inv raises the error that was asked for": (
        partial(slow.stretched, undo=torch.linalg.pinv)
    )
}


def exchange_q_and_k(model, kind):
    return slow.token_space(model, {"Q": "K", "K": "Q", "V": "V"}[kind])


def by_size(size):
    """A wrong token_space_composition: another size than the root mean square."""
    return partial(slow.token_space, size=size)


def over(x_of):
    """A wrong token_space_composition: x runs over something else."""
    return partial(slow.token_space, x_of=x_of)


def tokens_then_positions(model):
    return torch.cat([model.W_E, model.W_pos]).detach()


def at_the_mean_position(model):
    return (model.W_E + model.W_pos.mean(dim=0)).detach()


def with_itself(model, kind):
    """Each x met only itself; V has no such pairs."""
    if kind == "V":
        return slow.token_space(model, kind)
    return slow.token_space(model, kind, size=lambda x: slow.root_mean_square(x.diagonal()))


def only(kinds, instead):
    """A wrong token_space_composition: for these kinds, `instead` of centring."""

    def centre(made, kind):
        return instead(made) if kind in kinds else slow.centred(made, kind)

    return partial(slow.token_space, centre=centre)


NO_POSITIONS = {
    "a standard model's stream holds positions too: x is W_E[t] + W_pos[p]": over(
        lambda model: model.W_E.detach()
    ),
    "tokens and positions were listed one after the other; x is their sum, for all t and p": over(
        tokens_then_positions
    ),
    "each token was put at the mean position; x is W_E[t] + W_pos[p] for every p": over(
        at_the_mean_position
    ),
}
TOKEN_SPACE = {
    "Q and K are exchanged": exchange_q_and_k,
    "the scores were not divided by sqrt(d_head)": partial(
        slow.token_space, scale=lambda cfg, kind: 1.0
    ),
    "the scores were divided by sqrt(d_model); the scale is sqrt(d_head)": partial(
        slow.token_space, scale=lambda cfg, kind: 1.0 if kind == "V" else cfg.d_model**-0.5
    ),
    "the scores were divided by d_head; the scale is its root": partial(
        slow.token_space, scale=lambda cfg, kind: 1.0 if kind == "V" else 1 / cfg.d_head
    ),
    "K and Q were not centred: subtract the mean over the keys, which no softmax sees": only(
        "QK", lambda scores: scores
    ),
    "nothing was centred: subtract the mean over the keys, or over the output tokens": only(
        "QKV", lambda made: made
    ),
    "K and Q were centred over those who ask; subtract the mean over the keys": only(
        "QK", lambda scores: slow.centred(scores, "", axis=0)
    ),
    "K was centred over those who ask; subtract the mean over the keys, as for Q": only(
        "K", lambda scores: slow.centred(scores, "", axis=0)
    ),
    "V ends in W_U after both heads; the layer-1 head is missing": partial(
        slow.token_space, last=lambda model, h: torch.eye(model.cfg.d_model).to(model.W_E)
    ),
    "V was divided by sqrt(d_head) as well; that scale belongs to scores": partial(
        slow.token_space, scale=lambda cfg, kind: cfg.d_head**-0.5
    ),
    "that is the norm, which grows with the vocabulary; take the mean before the root": by_size(
        length
    ),
    "the mean of the sizes was taken; square, take the mean, then the root": by_size(
        lambda x: x.abs().mean().item()
    ),
    "the root was taken row by row and then averaged; one mean over all, then the root": by_size(
        lambda x: x.square().mean(dim=-1).sqrt().mean().item()
    ),
    "each row's standard deviation was taken, and their mean; one mean of all squares, then the "
    "root": by_size(lambda x: x.std(dim=-1).mean().item()),
    "the variance of a row has one pair too few below the line; take the mean of all squares": (
        by_size(lambda x: x.var(dim=-1).mean().sqrt().item())
    ),
    "the largest entry was taken; take the root mean square": by_size(
        lambda x: x.abs().max().item()
    ),
    "the root is missing": by_size(lambda x: x.square().mean().item()),
    "the standard deviation of all pairs was taken; each query has a mean of its own": only(
        "QKV", lambda made: made - made.mean()
    ),
    "the logits of V were not centred: subtract their mean over the output tokens": only(
        "V", lambda logits: logits
    ),
    "V was centred over the inputs; subtract the mean over the output tokens": only(
        "V", lambda logits: slow.centred(logits, "", axis=0)
    ),
    "V was made log-probabilities; only subtract the mean over the output tokens": only(
        "V", lambda logits: logits.log_softmax(dim=-1)
    ),
    "V was left in the stream; unembed it, logits are what W_U makes of it": partial(
        slow.token_space, unembed=False
    ),
    "heads of a shortformer model move no positions: x is W_E[t]": over(slow.tokens_at_places),
    "each token met only itself; take all pairs": with_itself,
    "BOS was left out; x runs over all tokens": over(lambda model: slow.inputs(model)[1:]),
    "W_OV of the layer-0 head was left out: that is layer 1 alone": partial(
        slow.token_space, moved=lambda model, g, x: x
    ),
    "W_OV of the layer-0 head is transposed": partial(
        slow.token_space, moved=lambda model, g, x: x @ moves(model, (0, g)).T
    ),
    "the token itself was kept beside what was moved from it; only x W_OV is asked for": partial(
        slow.token_space, moved=lambda model, g, x: x + x @ moves(model, (0, g))
    ),
    "Q: both sides were moved; only the query is": partial(slow.token_space, both="Q"),
    "K: both sides were moved; only the key is": partial(slow.token_space, both="K"),
    "both sides were moved; for Q only the query, for K only the key": partial(
        slow.token_space, both="QK"
    ),
    "V: W_OV of layer 0 was used twice; the second is that of the layer-1 head": partial(
        slow.token_space, last=lambda model, h: moves(model, (0, h))
    ),
    "the last layer was taken instead of layer 1": partial(
        slow.token_space, late=-1, last=lambda model, h: moves(model, (-1, h))
    ),
    "rows and columns are exchanged: a row is a head of layer 0": partial(
        slow.token_space, flip=True
    ),
}

CONSTANT_COUNTS = {
    name: TOKEN_SPACE[name]
    for name in (
        "K and Q were not centred: subtract the mean over the keys, which no softmax sees",
        "K and Q were centred over those who ask; subtract the mean over the keys",
    )
}
