"""Chapter 14. Write the circuit yourself, then put a whole story about a model to the test.

Axis words: batch pos query key head d_model d_head vocab. Row vectors: x @ W. All models here have
two layers, attention only, without LayerNorm. First half: an induction transformer whose every
weight is chosen. Second half: causal scrubbing, which replaces all that a story calls irrelevant.
`python -m exercises check` says how you are doing.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
from einops import einsum
from torch import Tensor

from minitransformer import ModelConfig, Transformer
from minitransformer.data import BOS
from solutions.ch08_composition import decompose_qk_inputs

# the score of the key that a hand-built head wants; every other key scores at most half of it
MATCH = 2000.0
# BOS answers every query with this fraction of a match, so a head that finds nothing rests there
AT_REST = 0.5

# W_Q, W_K, W_V [d_model, d_head], W_O [d_head, d_model]
Weights = tuple[Tensor, Tensor, Tensor, Tensor]


def orthogonal_subspaces(
    d_model: int, widths: dict[str, int], generator: torch.Generator
) -> dict[str, Tensor]:
    """Cut the stream into named parts that do not overlap, lying in no special direction: name ->
    basis [d_model, width].

    The columns of all bases together are orthonormal: unit length, and at right angles to each
    other, also across names. They are random: the orthonormal factor of a matrix of standard normal
    numbers (torch.linalg.qr), drawn with `generator`. `x @ basis` reads a part of the stream, `y @
    basis.T` writes it. Any float type. Raises ValueError if the widths add up to more than d_model:
    there is no room for more directions at right angles than dimensions.
    """
    # YOUR CODE: one draw for all, one QR, then split the columns; roughly 5 lines
    raise NotImplementedError("orthogonal_subspaces")


def previous_token_weights(space: dict[str, Tensor], d_head: int) -> Weights:
    """A head that looks one position back and notes which token stands there: (W_Q, W_K, W_V, W_O).

    space: "token" [d_model, vocab] (column t: token t), "position" [d_model, pos] (column i:
    position i) and "previous" [d_model, vocab]; d_head is at least vocab and pos. Query i scores
    MATCH on key i - 1 and 0 on every other one (query 0: on all), *after* the model has divided by
    sqrt(d_head). The value is the token; the head writes it into "previous", not into "token": the
    stream must still say which token stands here. Nothing else is read or written.
    """
    # YOUR CODE: columns c of W_Q and W_K are multiplied with each other; roughly 7 lines
    raise NotImplementedError("previous_token_weights")


def induction_weights(space: dict[str, Tensor], d_head: int) -> Weights:
    """A head that looks for its own token among the notes, and copies the token found there: (W_Q,
    W_K, W_V, W_O).

    space: "token", "previous", "output", each [d_model, vocab]; d_head is at least vocab. The score
    is MATCH where the token at the query equals the one *noted* at the key by the previous-token
    head, and 0 elsewhere, after the division by sqrt(d_head). The value is the token at the key;
    the head writes it into "output". Nothing else is read or written.
    """
    # YOUR CODE: as above, but what do query and key read now? roughly 6 lines
    raise NotImplementedError("induction_weights")


@torch.no_grad()
def build_induction_transformer(
    d_vocab: int = 20, n_ctx: int = 20, s: float = 10.0, seed: int = 0
) -> Transformer:
    """A transformer that does induction because you wrote it: 0.0 takes notes, 1.0 uses them.

    One head per layer, d_head the larger of d_vocab and n_ctx, d_model just wide enough for four
    orthogonal subspaces: token, position, previous, output. Every token is a direction of "token"
    (a row of W_E), every position one of "position". The embedding of BOS, moreover, *notes every
    token a little*: AT_REST times the sum of the columns of "previous" are added to it. So a head
    1.0 that finds no match rests on BOS. W_U reads "output", times s; but its column for BOS is 0,
    as BOS never comes next. `seed` seeds the generator of the subspaces. Then the right logit is s
    and all others are 0 wherever the next token is known: loss log(1 + (d_vocab - 1) exp(-s)),
    whatever the period. Elsewhere all logits are 0: loss log(d_vocab).
    """
    # YOUR CODE: subspaces, a Transformer, its W_E, W_pos, W_U, then its two heads; roughly 16 lines
    raise NotImplementedError("build_induction_transformer")


# names of facts about an input position that have to agree; () asks for nothing
Features = tuple[str, ...]
EVERYTHING: Features = ("sequence", "position")  # only a position itself agrees with itself in both


class Hypothesis(NamedTuple):
    """A story about layer 1: what matters. All that it does not name is claimed to be irrelevant.

    heads: the numbers of the heads of layer 1 whose output matters. q, k, v: what their queries,
    keys and values need: the name of a part of the stream ("embed", "positions", "0.0", "0.1", ...)
    -> which facts that part has to carry. direct: the same for the way past layer 1, straight to
    the logits. Example, the induction story:
        Hypothesis((0,), q={"embed": ("token",)}, k={"0.0": ("previous",)}, v={"embed": ("token",)})
    """

    heads: tuple[int, ...] = ()
    q: Mapping[str, Features] = {}
    k: Mapping[str, Features] = {}
    v: Mapping[str, Features] = {}
    direct: Mapping[str, Features] = {}


def agreement(tokens: Tensor, features: Features) -> Tensor:
    """Labels [batch, pos], whole numbers: equal where two positions agree in all the features.

    tokens [batch, pos]. features: any of "token" (which one stands here), "previous" (which one
    stands before it; BOS has none), "position", "sequence" (its row) and "bos" (is it the first
    position?). With () all positions agree.
    """
    batch, n = tokens.shape
    columns = torch.arange(n).expand(batch, n)
    facts = {
        "token": tokens,
        "previous": torch.nn.functional.pad(tokens[:, :-1], (1, 0), value=-1) + 1,
        "position": columns,
        "sequence": torch.arange(batch)[:, None].expand(batch, n),
        "bos": (columns == 0).long(),
    }
    labels = torch.zeros_like(tokens)
    for name in features:
        labels = labels * (facts[name].max() + 1) + facts[name]
    return labels


def draw_donors(labels: Tensor, generator: torch.Generator) -> Tensor:
    """For every position of the batch a random one with the same label: [batch, pos], as labels.

    Positions are numbered through the whole batch, row by row: (b, i) has the number b * pos + i.
    The choice is uniform, so a position may get itself. To make it repeatable: draw u =
    torch.rand(labels.shape, generator=generator) once. If n positions share a label, the donor of
    one of them, (b, i), is number floor(u[b, i] * n), from 0, of these n in rising order.
    """
    # YOUR CODE: a stable sort by label; where does each group start, how big is it? roughly 5 lines
    raise NotImplementedError("draw_donors")


def resample_parts(
    parts: dict[str, Tensor], matters: Mapping[str, Features], tokens: Tensor, generator
) -> Tensor:
    """The sum of the parts, each taken from other positions that agree in what matters.

    parts: name -> [batch, pos, d_model], and so is the sum. matters: name -> features in which the
    donor has to agree; a part that it does not name needs nothing to agree, so it comes from
    anywhere in the batch (`agreement` makes labels of features). Each part has donors of its own,
    drawn in the order of `parts` with draw_donors.
    """
    # YOUR CODE: for each part labels, donors, and the part at the donors; roughly 5 lines
    raise NotImplementedError("resample_parts")


def stream_parts(cache: dict[str, Tensor]) -> dict[str, Tensor]:
    """All that layer 1 reads: "embed", "positions", "0.0", "0.1", ... -> [batch, pos, d_model]."""
    return dict(zip(*decompose_qk_inputs(cache)))


@torch.no_grad()
def scrub(
    model: Transformer, tokens: Tensor, story: Hypothesis, generator: torch.Generator
) -> Tensor:
    """The logits [batch, pos, vocab] when all that a story does not ask for is resampled.

    1. Run undisturbed; stream_parts(cache) are the parts that q and k read. v and the direct way
       read the same parts, but without "positions" if model.cfg.positional_embedding_type is
       "shortformer", not "standard".
    2. Make what q reads with resample_parts and story.q, then k with story.k, then v with story.v:
       three draws, in this order. Run again with hook_q, hook_k, hook_v of layer 1 replaced by
       these streams times W_Q, W_K, W_V (all heads).
    3. Heads of layer 1 in the story write what they write in that second run
       ("blocks.1.attn.hook_result"). Each other head, in rising order, writes what it wrote in the
       *undisturbed* run at donors that need not agree in anything.
    4. Logits: (the direct way, resampled with story.direct, drawn last, + what the heads write) @
       W_U.

    If the story is true, nothing that counts has changed. Chan et al. 2022, "Causal Scrubbing: a
    method for rigorously testing interpretability hypotheses".
    """
    # YOUR CODE: 1 is four lines, 2 a loop over q, k, v, 3 a loop over heads, 4 two lines: 18
    raise NotImplementedError("scrub")
