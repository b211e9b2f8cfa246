"""Models whose circuits are known, since every weight was set by hand: the positive controls.

    model = induction_model()                  # float32; model.double() for exact work
    loss = log(1 + (d_vocab - 1) * exp(-s))    # on every predictable token, and you can say why

How they are built. The residual stream is cut into named, orthogonal subspaces, each a block of its
coordinates: `space.token` [d_model, d_vocab] is the part that holds one-hot tokens. `x @
space.token` reads it, `y @ space.token.T` writes it. So a head is four such matrices: what its
query, key and value read, and where its output goes.

Attention here is exactly one-hot. The scores of the wanted and of every other key differ by at
least 1000, and exp(-1000) is 0 in float32 and float64 alike. Keys with equal scores share the
attention equally.

The idea of reading off what a hand-built circuit must do: Elhage et al. 2021, "A Mathematical
Framework for Transformer Circuits"; what each part of an induction circuit is called: Olsson et al.
2022, "In-context Learning and Induction Heads".
"""

import math
from types import SimpleNamespace
from typing import NamedTuple

import torch
from torch import Tensor

from .config import ModelConfig, require
from .data import BOS
from .model import Transformer

SHARPNESS = 2000.0  # the score of a perfect match
REST = 0.5  # BOS matches every query by this share: a head with nothing to find rests there


def subspaces(**widths: int) -> SimpleNamespace:
    """Named orthogonal parts of the stream: subspaces(token=20, ...).token is [d_model, 20]."""
    identity = torch.eye(sum(widths.values()))
    return SimpleNamespace(**dict(zip(widths, identity.split(list(widths.values()), dim=1))))


def blank_model(**config) -> Transformer:
    """A Transformer in which every weight is 0: its heads attend evenly and write nothing."""
    model = Transformer(ModelConfig(**config))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    return model


@torch.no_grad()
def write_head(model: Transformer, layer: int, head: int, query, key, value, out) -> None:
    """Set one head: score = SHARPNESS * (x_i query) . (x_j key); it writes x_j value out.

    query, key: [d_model, n] for any n <= d_head; value: [d_model, m] and out: [m, d_model] for any
    m <= d_head.
    """
    query = query * SHARPNESS * math.sqrt(model.cfg.d_head)  # the model divides by the root
    for weights, part in ((model.W_Q, query), (model.W_K, key), (model.W_V, value)):
        weights[layer, head, :, : part.shape[1]] = part
    model.W_O[layer, head, : out.shape[0]] = out


def move(n: int, by: int) -> Tensor:
    """[n, n]: maps the one-hot of position p to that of p + by, if there is such a position."""
    return torch.diag(torch.ones(n - abs(by)), by)


def all_but_bos(token: Tensor) -> Tensor:
    """space.token without BOS: a head with this for its value writes nothing when it rests."""
    return token * (torch.arange(token.shape[1]) != BOS)


# Induction, the usual way: K-composition


def induction_spaces(d_vocab: int, n_ctx: int) -> SimpleNamespace:
    return subspaces(token=d_vocab, position=n_ctx, previous=d_vocab, output=d_vocab)


@torch.no_grad()
def induction_model(
    d_vocab: int = 20, n_ctx: int = 40, s: float = 10.0, strengths: tuple[float, ...] = (1.0,)
) -> Transformer:
    """The induction circuit: 0.0 is a previous-token head, every head of layer 1 an induction head.

    Positions reach q and k only. 0.0 looks one position back and copies that token from `token` to
    `previous`. A head of layer 1 asks: where is *my* token the previous one? It copies the token
    there to `output`, and only that is unembedded. Head 1.h adds strengths[h] * s to the logit of
    the token it copies.

    With BOS first, on every predictable position of `repeated_tokens`, whatever the period:
    - previous-token score of 0.0 (mean A[i, i-1], i >= 1) 1; prefix-matching score of every 1.h 1:
      with several earlier copies it shares the attention among all their followers. 0.0 at BOS can
      only attend to itself.
    - right logit s * sum(strengths), every other 0: loss log(1 + (d_vocab - 1) exp(-s *
      sum(strengths))), which is 8.622268e-4 for 20 tokens and s = 10. A token that has not occurred
      before: layer 1 rests on BOS and writes nothing; logits all 0, loss log(d_vocab).

    Without BOS the first position attends to itself, so it too says that its token is the previous
    one, and ties with the true follower: on [block][block] of L tokens the score over the second
    block is 1 - 1/(2L), .96875 for L = 16.

    Composition of 0.0 with any 1.h, by the formula of Elhage et al. 2021: K 1/sqrt(d_vocab), Q and
    V exactly 0. With more than one strength, layer 0 has idle heads: weights all 0, attention even,
    composition scores undefined (0/0).
    """
    space = induction_spaces(d_vocab, n_ctx)
    sizes = {"d_model": 3 * d_vocab + n_ctx, "d_head": max(d_vocab, n_ctx)}
    model = blank_model(n_heads=len(strengths), d_vocab=d_vocab, n_ctx=n_ctx, **sizes)
    model.W_E.copy_(space.token.T)
    model.W_E[BOS] += REST * space.previous.sum(dim=1)  # as a key, BOS follows every token a little
    model.W_pos.copy_(space.position.T)
    one_back, value = space.position @ move(n_ctx, -1), all_but_bos(space.token)
    write_head(model, 0, 0, one_back, space.position, space.token, space.previous.T)
    for head, strength in enumerate(strengths):
        write_head(model, 1, head, space.token, space.previous, value, strength * space.output.T)
    model.W_U.copy_(s * space.output)
    return model


def duplicated_heads_model(
    copies: int = 2, d_vocab: int = 20, n_ctx: int = 40, s: float = 10.0
) -> Transformer:
    """Redundancy: `induction_model` with `copies` induction heads, each strong enough alone.

    Each adds s to the right logit. After zeroing any k of them, the loss on predictable positions
    is exactly log(1 + (d_vocab - 1) exp(-(copies - k) s)). For 2 copies: 3.916e-8, then 8.622e-4
    without one, then log 20 = 2.996 without both. Zeroing one at a time finds no important head.
    Trained models do too: Singh et al. 2024, "What needs to go right for an induction head?"
    """
    return induction_model(d_vocab, n_ctx, s, strengths=(1.0,) * copies)


def negative_head_model(
    d_vocab: int = 20, n_ctx: int = 40, s: float = 16.0, negative: float = 6.0
) -> Transformer:
    """A head against the right answer: 1.0 adds s to its logit, 1.1 takes `negative` off again.

    On predictable positions the right logit is s - negative, and s once 1.1 is zeroed; all others
    are 0. The probability 1 / (1 + (d_vocab - 1) exp(-logit)) moves from .999138 to .999998 only,
    the logit difference from 10 to 16. Zeroing 1.0 leaves -6. Such heads exist: McDougall et al.
    2023, "Copy Suppression". Probability hides them: Zhang & Nanda 2023, "Towards Best Practices of
    Activation Patching in Language Models" (arXiv 2309.16042).
    """
    return induction_model(d_vocab, n_ctx, s, strengths=(1.0, -negative / s))


# Induction, another way: Q-composition


@torch.no_grad()
def pointer_model(d_vocab: int = 20, n_ctx: int = 40, s: float = 10.0) -> Transformer:
    """Induction by pointers: 0.0 finds *where* the token stood before, 1.0 looks one further.

    Positions are in the residual stream. 0.0 is a duplicate-token head: it attends to the first
    occurrence of its own token (itself, if there was none before) and copies that *position* to
    `pointer`. The query of 1.0 reads the pointer, adds one, and copies the token that stands there
    to `output`.

    On every predictable position of `repeated_tokens`, whatever the period and however many copies:
    0.0 attends with 1 to the first copy of the token and 1.0 with 1 to the token after it; right
    logit s, every other 0; loss as in `induction_model`. On other data it is exact wherever the
    token is followed by what followed its *first* occurrence. A token that has not occurred before
    points to itself, and the position after that is not visible: 1.0 rests on BOS and writes
    nothing, logits all 0. Without BOS predictable positions stay exact: score 1 on [block][block].

    Composition of the pair: Q 1/sqrt(n_ctx), K and V exactly 0. That both algorithms exist: Elhage
    et al. 2021.
    """
    space = subspaces(token=d_vocab, position=n_ctx, pointer=n_ctx, output=d_vocab)
    sizes = {"d_model": 2 * (d_vocab + n_ctx), "d_head": max(d_vocab + 1, n_ctx), "n_ctx": n_ctx}
    in_stream = {"positional_embedding_type": "standard"}
    model = blank_model(n_heads=1, d_vocab=d_vocab, **sizes, **in_stream)
    model.W_E.copy_(space.token.T)
    model.W_E[BOS] += REST * space.position.sum(dim=1)  # as a key, BOS stands everywhere a little
    model.W_pos.copy_(space.position.T)
    one = space.token.sum(dim=1, keepdim=True)  # reads 1 from every token
    lateness = space.position @ torch.arange(float(n_ctx))[:, None]  # reads j at position j
    # score (n_ctx + 1) [same token] - j: the first one wins
    query = torch.cat([(n_ctx + 1) * space.token, one], dim=1)
    key = torch.cat([space.token, -lateness], dim=1)
    write_head(model, 0, 0, query, key, space.position, space.pointer.T)
    next_position, value = space.pointer @ move(n_ctx, 1), all_but_bos(space.token)
    write_head(model, 1, 0, next_position, space.position, value, space.output.T)
    model.W_U.copy_(s * space.output)
    return model


@torch.no_grad()
def lag_model(d_vocab: int = 20, n_ctx: int = 40, s: float = 10.0) -> Transformer:
    """The lag matcher: 1.0 never looks at its own token, it asks where the *previous* one stood.

    0.0 copies the token one back to `previous`, 0.1 the token two back to `second` (at position 1:
    BOS). The query of 1.0 reads `previous`, its keys `second`, so it attends to j where token j - 2
    equals token i - 1, and copies the token there. In a repeated block that is the follower of an
    earlier copy of token i. So on `repeated_tokens`, at every predictable position but the first of
    a row: prefix matching 1, right logit s, every other 0, as in `induction_model`. At that first
    one, and wherever a token repeats without its neighbours (A B w x y z A), 1.0 rests on BOS and
    writes nothing. 0.0 composes with 1.0 by Q, 0.1 by K, each 1/sqrt(d_vocab).
    """
    widths = {"token": d_vocab, "previous": d_vocab, "second": d_vocab, "output": d_vocab}
    space = subspaces(position=n_ctx, **widths)
    sizes = {"d_model": 4 * d_vocab + n_ctx, "d_head": max(d_vocab, n_ctx)}
    model = blank_model(n_heads=2, d_vocab=d_vocab, n_ctx=n_ctx, **sizes)
    model.W_E.copy_(space.token.T)
    model.W_E[BOS] += REST * space.second.sum(dim=1)  # as a key, BOS fits every query a little
    model.W_pos.copy_(space.position.T)
    one_back, two_back = move(n_ctx, -1), move(n_ctx, -2)
    two_back[1, 0] = 1  # position 1 has nothing two back: it looks at BOS
    for head, (back, to) in enumerate(((one_back, space.previous), (two_back, space.second))):
        write_head(model, 0, head, space.position @ back, space.position, space.token, to.T)
    value = all_but_bos(space.token)
    write_head(model, 1, 0, space.previous, space.second, value, space.output.T)
    model.W_U.copy_(s * space.output)
    return model


@torch.no_grad()
def three_composers() -> Transformer:
    """Three pairs of heads, one per kind of composition: 0.0-1.0 by Q, 0.1-1.1 by K, 0.2-1.2 by V.

    Each of the three scores sqrt(82/140) = .7653; the other 24 (nine pairs, three kinds) are
    exactly 0. Every layer-0 head has W_OV = A, from `shared` to its own subspace. On the side that
    composes, a layer-1 head applies B (in W_QK times a constant), from that subspace back to
    `shared`; its other sides read `shared`, which no layer-0 head writes. So a score is |AB| / (|A|
    |B|). A and B are chosen so that every other order tells: |AB|^2 = 82, |BA|^2 = 37, |AB^T|^2 =
    18, |A^T B|^2 = 13.
    - W_QK for W_QK^T: the Q-composing pair appears under K, or the K-composing pair scores 0.
    - order reversed (W_QK W_OV): pairs light up that share nothing, because all read `shared`.
    - factors rotated as if the Frobenius norm were cyclic (it is not; the erratum of Elhage et al.
      2021): sqrt(37/140) = .5141 for each composing pair. Only the weights are meant to be studied;
      as a language model it predicts nothing sensible.
    """
    A = torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, 2.0], [3.0, 0.0, 0.0]])
    B = torch.tensor([[0.0, 3.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    space = subspaces(shared=3, by_q=3, by_k=3, by_v=3)
    shared = space.shared
    model = blank_model(n_heads=3, d_model=12, d_head=3, d_vocab=3, n_ctx=8)
    model.W_E.copy_(shared.T)
    model.W_U.copy_(shared)
    for head, own in enumerate((space.by_q, space.by_k, space.by_v)):
        write_head(model, 0, head, shared, shared, shared @ A, own.T)
    to_shared = B @ shared.T
    write_head(model, 1, 0, space.by_q, to_shared.T, shared, to_shared)  # W_QK = B: by_q -> shared
    write_head(model, 1, 1, to_shared.T, space.by_k, shared, to_shared)  # W_QK^T = B: from by_k
    write_head(model, 1, 2, shared, to_shared.T, space.by_v, to_shared)  # W_OV = B: from by_v
    return model


class Gate(NamedTuple):
    """A model that computes one logic gate, and what is needed to patch it."""

    model: Transformer
    clean: Tensor  # [1, 4] BOS ON ON EQUALS: the answer is YES
    corrupt: Tensor  # [1, 4] BOS OFF OFF EQUALS: the answer is NO
    right: int  # YES, the clean answer
    wrong: int  # NO, the corrupt answer
    hook: str = "blocks.0.attn.hook_z"  # z[:, -1, 0] carries the first bit, z[:, -1, 1] the second
    heads: tuple[int, int] = (0, 1)


OFF, ON, EQUALS, NO, YES = range(1, 6)  # after BOS = 0


@torch.no_grad()
def gate_model(kind: str, s: float = 10.0) -> Gate:
    """[BOS, a, b, EQUALS] with a, b in {OFF, ON}: YES or NO by the gate `kind`, "and" or "or".

    One layer. At EQUALS, head 0.0 attends with 1 to a, head 0.1 with 1 to b; each carries its bit,
    1 for ON. Two neurons read relu(a + b) and relu(a + b - 1), on bits exactly: AND is the second,
    OR the first minus the second. The logit difference YES - NO at EQUALS is s where the gate is 1
    and -s where it is 0.

    Patch one head with its value in the other run, and the two gates answer in opposite ways:
               denoising: corrupt run, one clean head     noising: clean run, one corrupt head
        and    neither head restores anything: -s         either head destroys everything: -s
        or     either head restores everything: s         neither head matters: s
    Patching both heads always moves everything. Heimersheim & Nanda 2024, "How to use and interpret
    activation patching".
    """
    weights = {"and": (0.0, 1.0), "or": (1.0, -1.0)}
    require(kind in weights, f'kind must be "and" or "or", not {kind!r}.')
    space = subspaces(token=6, position=4, bits=2, verdict=1)
    model = blank_model(n_layers=1, n_heads=2, d_model=13, d_head=1, d_vocab=6, n_ctx=4, d_mlp=2)
    model.W_E.copy_(space.token.T)
    model.W_pos.copy_(space.position.T)
    at_equals, is_on = space.position[:, 3:], space.token[:, ON, None]  # position 3 alone asks
    for head, operand in enumerate((1, 2)):
        at_operand = space.position[:, operand, None]
        write_head(model, 0, head, at_equals, at_operand, is_on, space.bits.T[head, None])
    model.W_in[0] = space.bits.sum(dim=1, keepdim=True)  # both neurons read a + b
    model.b_in[0] = torch.tensor([0.0, -1.0])
    model.W_out[0] = torch.tensor(weights[kind])[:, None] * space.verdict.T
    model.b_out[0] = -0.5 * space.verdict[:, 0]  # verdict: gate - 1/2
    model.W_U[:, [YES, NO]] = space.verdict * torch.tensor([s, -s])
    clean = torch.tensor([[BOS, ON, ON, EQUALS]])
    corrupt = torch.tensor([[BOS, OFF, OFF, EQUALS]])
    return Gate(model, clean, corrupt, right=YES, wrong=NO)
