"""Wrong answers to the exercises of chapter 7 about circuits: label -> what people write."""

import math
from types import SimpleNamespace

import torch
from torch import Tensor

from tests.exercises.oracles.ch07 import MODEL, SCALE, VOCAB, scores_by_loops

# Circuits


class Product:
    """What a wrong answer returns in the place of a LowRank."""

    def __init__(self, A: Tensor, *others: Tensor):
        self.A, self.B = A.detach(), others[0].detach()
        for factor in others[1:]:
            self.B = self.B @ factor.detach()


def product_of(build):
    """A wrong circuit: build(w) gives its factors, from w.Q, w.K, w.V, w.O (of the head) and w.E,
    w.U, w.pos.
    """

    def circuit(model, layer, head):
        own = {name: getattr(model, f"W_{name}")[layer, head] for name in "QKVO"}
        return Product(*build(SimpleNamespace(**own, E=model.W_E, U=model.W_U, pos=model.W_pos)))

    return circuit


def layer_0_only(build):
    circuit = product_of(build)
    return lambda model, layer, head: circuit(model, 0, head)


def head_0_only(build):
    circuit = product_of(build)
    return lambda model, layer, head: circuit(model, layer, 0)


def less_mean(x, dim):
    return x - x.mean(dim=dim, keepdim=True)


def placed(w):
    """The embeddings, with the position of the same number added to each that has one."""
    return w.E + torch.cat([w.pos, torch.zeros(len(w.E) - len(w.pos), w.pos.shape[1])])


def first_20(W_E):
    return W_E * (VOCAB < 20)[:, None]


def masked(w):
    scores = w.pos @ w.Q @ w.K.T @ w.pos.T
    return scores.tril(), torch.eye(len(scores), dtype=scores.dtype)


EXCHANGED = "query and key are exchanged: W_Q W_K^T is wanted"
SCALED = "1/sqrt(d_head) belongs to the score, not to the circuit"
NO_LAYER = "the layer was ignored"
NO_HEAD = "the head was ignored: this is head 0"
ONLY_20 = "only the first 20 tokens are right"

QK = {
    EXCHANGED: product_of(lambda w: (w.K, w.Q.T)),
    SCALED: product_of(lambda w: (w.Q / SCALE, w.K.T)),
    "W_Q was used twice; keys are made by W_K": product_of(lambda w: (w.Q, w.Q.T)),
    "this is W_Q^T W_K, of d_head x d_head: multiply the other axes": (
        product_of(lambda w: (w.Q.T, w.K))
    ),
    NO_HEAD: head_0_only(lambda w: (w.Q, w.K.T)),
    "W_Q and W_K were added; they are multiplied": product_of(lambda w: (w.Q + w.K, (w.Q + w.K).T)),
    "W_E stands on both sides: that is the full QK circuit": (
        product_of(lambda w: (w.E @ w.Q, w.K.T, w.E.T))
    ),
    "W_V was used in the place of W_K": product_of(lambda w: (w.Q, w.V.T)),
    NO_LAYER: layer_0_only(lambda w: (w.Q, w.K.T)),
}
OV = {
    "W_OV is transposed: rows are what is read, columns what is written": (
        product_of(lambda w: (w.O.T, w.V.T))
    ),
    "W_K was used in the place of W_V": product_of(lambda w: (w.K, w.O)),
    NO_LAYER: layer_0_only(lambda w: (w.V, w.O)),
    NO_HEAD: head_0_only(lambda w: (w.V, w.O)),
    "W_Q was used in the place of W_V": product_of(lambda w: (w.Q, w.O)),
    "this is the head before; heads are counted from 0": (
        lambda model, layer, head: product_of(lambda w: (w.V, w.O))(model, layer, head - 1)
    ),
    "all heads of the layer are in it": (
        lambda model, layer, head: Product(
            torch.cat(list(model.W_V[layer]), dim=1), torch.cat(list(model.W_O[layer]))
        )
    ),
    "W_V was used twice; the head writes with W_O": product_of(lambda w: (w.V, w.V.T)),
    "1/sqrt(d_head) belongs to the scores; what a head moves is not scaled": (
        product_of(lambda w: (w.V / SCALE, w.O))
    ),
    "this is W_O W_V, of d_head x d_head: first it reads, then it writes": (
        product_of(lambda w: (w.O, w.V))
    ),
    "W_E and W_U are in it: that is the full OV circuit": (
        product_of(lambda w: (w.E @ w.V, w.O, w.U))
    ),
}
FULL_QK = {
    EXCHANGED: product_of(lambda w: (w.E @ w.K, w.Q.T, w.E.T)),
    SCALED: product_of(lambda w: (w.E @ w.Q / SCALE, w.K.T, w.E.T)),
    "W_U stands where W_E^T belongs: keys are made from embeddings": (
        product_of(lambda w: (w.E @ w.Q, w.K.T, w.U))
    ),
    "W_pos was used; the circuit of tokens has W_E": (
        product_of(lambda w: (w.pos @ w.Q, w.K.T, w.pos.T))
    ),
    "W_OV stands where W_QK belongs": product_of(lambda w: (w.E @ w.V, w.O, w.E.T)),
    "the mean embedding was subtracted on both sides": (
        product_of(lambda w: (less_mean(w.E, 0) @ w.Q, w.K.T, less_mean(w.E, 0).T))
    ),
    "the key side is missing: multiply by W_E^T": product_of(lambda w: (w.E @ w.Q, w.K.T)),
    "W_U stands on both sides; tokens come in by W_E": (
        product_of(lambda w: (w.U.T @ w.Q, w.K.T, w.U))
    ),
    "the mean embedding was subtracted from the keys": (
        product_of(lambda w: (w.E @ w.Q, w.K.T, less_mean(w.E, 0).T))
    ),
    "W_pos was added to the embeddings; the circuit speaks of tokens alone": (
        product_of(lambda w: (placed(w) @ w.Q, w.K.T, placed(w).T))
    ),
    ONLY_20: product_of(lambda w: (first_20(w.E) @ w.Q, w.K.T, w.E.T)),
}
FULL_OV = {
    "the circuit is transposed: rows are sources, columns logits": (
        product_of(lambda w: (w.U.T @ w.O.T, w.V.T, w.E.T))
    ),
    "W_OV is transposed inside": product_of(lambda w: (w.E @ w.O.T, w.V.T, w.U)),
    "W_E^T stands where W_U belongs: logits are wanted": (
        product_of(lambda w: (w.E @ w.V, w.O, w.E.T))
    ),
    "W_E is missing: this begins with the stream, not with tokens": (
        product_of(lambda w: (w.V, w.O, w.U))
    ),
    "W_pos was added to the sources; in this model no value reads it": (
        product_of(lambda w: (placed(w) @ w.V, w.O, w.U))
    ),
    "W_U is missing: this ends in the stream, not in the logits": (
        product_of(lambda w: (w.E @ w.V, w.O))
    ),
    "W_U^T stands where W_E belongs: sources are embedded tokens": (
        product_of(lambda w: (w.U.T @ w.V, w.O, w.U))
    ),
    "W_E W_U was added: that is what the embedding says itself, not the head": (
        product_of(lambda w: (w.E @ (w.V @ w.O + torch.eye(len(w.U)).double()), w.U))
    ),
    "W_pos stands where W_E belongs: sources are tokens": (
        product_of(lambda w: (w.pos @ w.V, w.O, w.U))
    ),
    "W_QK stands where W_OV belongs": product_of(lambda w: (w.E @ w.Q, w.K.T, w.U)),
    "each row was centred; that is another exercise": (
        product_of(lambda w: (w.E @ w.V, w.O, less_mean(w.U, 1)))
    ),
    ONLY_20: product_of(lambda w: (first_20(w.E) @ w.V, w.O, w.U)),
}
POSITION_QK = {
    EXCHANGED: product_of(lambda w: (w.pos @ w.K, w.Q.T, w.pos.T)),
    SCALED: product_of(lambda w: (w.pos @ w.Q / SCALE, w.K.T, w.pos.T)),
    "later keys were masked: the circuit is the whole matrix": product_of(masked),
    "embeddings stand on both sides; this circuit is made of positions": (
        product_of(lambda w: (w.E @ w.Q, w.K.T, w.E.T))
    ),
    "the keys are tokens; positions are wanted on both sides": (
        product_of(lambda w: (w.pos @ w.Q, w.K.T, w.E.T))
    ),
    "the queries are tokens; positions are wanted on both sides": (
        product_of(lambda w: (w.E @ w.Q, w.K.T, w.pos.T))
    ),
    "W_OV stands where W_QK belongs": product_of(lambda w: (w.pos @ w.V, w.O, w.pos.T)),
    "the key side is missing: multiply by W_pos^T": product_of(lambda w: (w.pos @ w.Q, w.K.T)),
    "the mean position was subtracted": (
        product_of(lambda w: (less_mean(w.pos, 0) @ w.Q, w.K.T, less_mean(w.pos, 0).T))
    ),
}


def first_positions(model, stream):
    return model.W_pos.detach()[: stream.shape[1]]


def last_positions(model, stream):
    return model.W_pos.detach()[-stream.shape[1] :]


def position_of_row(model, stream):
    return model.W_pos.detach()[: len(stream)][:, None]


def twice(model, stream):
    return 2 * first_positions(model, stream)


def read_by_qk(model, stream):
    shortformer = model.cfg.positional_embedding_type == "shortformer"
    return stream + first_positions(model, stream) if shortformer else stream


def positions_only(model, layer, head, stream):
    shortformer = model.cfg.positional_embedding_type == "shortformer"
    x = first_positions(model, stream).expand_as(stream) if shortformer else stream
    W_QK = model.W_Q[layer, head] @ model.W_K[layer, head].T
    return (x @ W_QK @ x.mT / SCALE).detach()


def by_query_weights(model, layer, head, stream):
    q = read_by_qk(model, stream) @ model.W_Q[layer, head].detach()
    return q @ q.mT / SCALE


def by_values(model, layer, head, stream):
    x, W_OV = read_by_qk(model, stream), model.W_V[layer, head] @ model.W_O[layer, head]
    return (x @ W_OV @ x.mT / SCALE).detach()


def score_variant(
    scale=SCALE, positions="right", swapped=False, masked=False, which=first_positions, sides="qk"
):
    """score_from_weights with one thing changed; the defaults are right.

    which: the positions that are added. sides: for queries, for keys, or both.
    """

    def score(model, layer, head, stream):
        shortformer = model.cfg.positional_embedding_type == "shortformer"
        added = {"right": shortformer, "never": False, "always": True, "other": not shortformer}
        added["layer 0"] = shortformer and layer == 0
        x = stream + added[positions] * which(model, stream)
        rows = zip(x if "q" in sides else stream, x if "k" in sides else stream)
        scores = torch.stack([scores_by_loops(q, layer, head, model, k) for q, k in rows]) / scale
        scores = scores.mT.contiguous() if swapped else scores
        hidden = torch.ones_like(scores).triu(1) > 0
        return scores.masked_fill(hidden, -math.inf) if masked else scores

    return score


SCORES = {
    "the scores were not divided by sqrt(d_head)": score_variant(scale=1.0),
    "the scores were divided by d_head, not by its square root": score_variant(scale=SCALE**2),
    "in a shortformer q and k read stream + W_pos; the positions are missing": (
        score_variant(positions="never")
    ),
    "in a standard model the stream holds the positions already; they were added twice": (
        score_variant(positions="always")
    ),
    "query and key are exchanged": score_variant(swapped=True),
    "the causal mask was applied; the scores of all pairs are wanted": score_variant(masked=True),
    "the scores were divided by sqrt(d_model); the scale is sqrt(d_head)": (
        score_variant(scale=math.sqrt(MODEL.cfg.d_model))
    ),
    "positions were added where they are in the stream already, and not where they are missing": (
        score_variant(positions="other")
    ),
    "positions were added in layer 0 only; q and k read them in every layer": (
        score_variant(positions="layer 0")
    ),
    "positions were added for the queries alone; keys read them, too": score_variant(sides="q"),
    "positions were added for the keys alone; queries read them, too": score_variant(sides="k"),
    "positions were added twice": score_variant(which=twice),
    "only positions were scored; the stream belongs there, too": positions_only,
    "the keys were made by W_Q; they are made by W_K": by_query_weights,
    "W_OV stands where W_QK belongs": by_values,
    "the last rows of W_pos were taken; sequences begin at position 0": (
        score_variant(which=last_positions)
    ),
    "each sequence got one position; W_pos has a row for each place in it": (
        score_variant(which=position_of_row)
    ),
    "the softmax was taken; the scores are wanted": (
        lambda *given: score_variant()(*given).softmax(dim=-1)
    ),
}
