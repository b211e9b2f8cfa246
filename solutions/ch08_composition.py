"""Chapter 8. Composition: how a head of layer 1 uses what a head of layer 0 wrote.

Row vectors: x @ W. W_OV = W_V W_O is what a head moves, W_QK = W_Q W_K^T is what it looks for; both
[d_model, d_model]. A pair of heads is (head of layer 0, head of layer 1). All models here are
attention only, without LayerNorm. Source of the ideas: Elhage et al. 2021, "A Mathematical
Framework for Transformer Circuits".
"""

import copy
import math

import torch
from einops import einsum
from torch import Tensor

from minitransformer import Transformer
from solutions.ch01_transformer import head_output
from solutions.ch07_qk_ov_circuits import as_matrix


def composition_score(A, B) -> float:
    """How much of what A writes B reads: |A B| / (|A| |B|), with Frobenius norms (root of the sum
    of squares).

    A [m, d_model] is what the earlier head writes into the stream, B [d_model, n] what the later
    one reads from it, both for row vectors: x A B. Tensors or LowRank; `as_matrix` (chapter 7)
    makes a tensor of either. Between 0 and 1; two random matrices give about 1/sqrt(d_model), not
    0. nan if A or B is zero. Elhage et al. 2021.
    """
    # YOUR CODE: one product, three norms; roughly 2 lines
    A, B = as_matrix(A), as_matrix(B)
    return ((A @ B).norm() / (A.norm() * B.norm())).item()


def composition_table(model, kind: str) -> Tensor:
    """The composition score of every pair of heads: [head of layer 0, head of layer 1].

    kind: "Q", "K" or "V". What the layer-0 head writes, W_OV, is followed by the matrix of the
    layer-1 head that reads it: as its query W_QK (from the left: x_i W_QK x_j^T), as its key
    W_QK^T, as its value W_OV. Elhage et al. 2021.
    """
    # YOUR CODE: W_OV of layer 0, what layer 1 reads, a score for each pair; roughly 6 lines
    OV = model.W_V.detach() @ model.W_O.detach()  # layer head d_model d_model
    QK = model.W_Q[1].detach() @ model.W_K[1].detach().mT  # head d_model d_model
    reads = {"Q": QK, "K": QK.mT, "V": OV[1]}[kind]
    scores = [[composition_score(writes, read) for read in reads] for writes in OV[0]]
    return torch.tensor(scores, dtype=OV.dtype)


def random_baseline(d_model: int, d_head: int, samples: int, generator: torch.Generator) -> Tensor:
    """What chance gives: the scores of random pairs of heads, [samples]. Their mean is about
    1/sqrt(d_model).

    A head's matrix is a product of two factors, [d_model, d_head] and [d_head, d_model]; draw all
    four factors of a pair afresh from the standard normal distribution with `generator`, and score
    the pair. d_head does not move the mean (the expected |A B|^2 is |A|^2 |B|^2 / d_model), but it
    sets the spread, and the spread is what a finding has to beat.
    """
    # YOUR CODE: draw two heads, score them, again and again; roughly 6 lines

    def head() -> Tensor:
        writes = torch.randn(d_model, d_head, generator=generator)
        return writes @ torch.randn(d_head, d_model, generator=generator)

    return torch.tensor([composition_score(head(), head()) for _ in range(samples)])


def composition_ceiling(A, B) -> float:
    """The best score that A and B could reach if one of them were turned freely: sqrt(sum_i a_i^2
    b_i^2) / (|A| |B|).

    a_i and b_i are the singular values of A and B, each list sorted from the largest down:
    strongest output meets strongest input. A and B as in composition_score. Two flat maps of rank r
    give 1/sqrt(r), so a score of 1 is out of reach for a head with more than one direction. von
    Neumann 1937, "Some matrix inequalities and metrization of matrix space".
    """
    # YOUR CODE: torch.linalg.svdvals returns them sorted; roughly 3 lines
    a, b = torch.linalg.svdvals(as_matrix(A)), torch.linalg.svdvals(as_matrix(B))
    # if A or B is not square, the rest of the longer list meets nothing
    shared = min(len(a), len(b))
    return ((a[:shared] * b[:shared]).norm() / (a.norm() * b.norm())).item()


def normalised_composition(A, B) -> float:
    """Where a score stands between chance and the best possible: (score - baseline) / (ceiling -
    baseline).

    The baseline is 1/sqrt(d_model), d_model being the number of columns of A; the ceiling is
    composition_ceiling(A, B). 1: aligned as well as these two spectra allow. 0: like random
    matrices. Below 0: B avoids what A writes.
    """
    # YOUR CODE: roughly 3 lines
    baseline = 1 / math.sqrt(as_matrix(A).shape[-1])
    return (composition_score(A, B) - baseline) / (composition_ceiling(A, B) - baseline)


def stretch_stream(weights: dict[str, Tensor], S: Tensor) -> dict[str, Tensor]:
    """The same model in another basis of its stream: every vector x of the stream becomes x S.

    weights: as in chapter 1, W_E [vocab, d_model], W_pos [pos, d_model], W_Q, W_K, W_V [layer,
    head, d_model, d_head], W_O [layer, head, d_head, d_model], W_U [d_model, vocab]. S [d_model,
    d_model]: any invertible matrix, not only a rotation. What writes into the stream must write x
    S; what reads from it must undo S first. Returns a new dict with the same keys. Every attention
    pattern and every logit stays as it was; lengths, angles and norms in the stream do not. Not
    for models with LayerNorm, which looks at lengths. Raises torch.linalg.LinAlgError if S has no
    inverse. Elhage et al. 2021 say why: the stream has no privileged basis.
    """
    # YOUR CODE: who writes, who reads, and in which order row vectors meet S; roughly 4 lines
    undo = torch.linalg.inv(S)
    writers = {name: weights[name] @ S for name in ("W_E", "W_pos", "W_O")}
    readers = {name: undo @ weights[name] for name in ("W_Q", "W_K", "W_V", "W_U")}
    return writers | readers


def with_weights(model: Transformer, weights: dict[str, Tensor]) -> Transformer:
    """A copy of the model with other weights; weights: dict(model.named_parameters()), changed."""
    other = copy.deepcopy(model)
    other.load_state_dict(weights)
    return other


def token_space_composition(model: Transformer, kind: str) -> Tensor:
    """How much each pair of heads can do together, measured from tokens to scores or logits: [head
    of layer 0, head of layer 1].

    x and y run over everything that the stream can hold before layer 0: W_E[t] for all tokens t,
    without the positions that only q and k see; in models with positions in the stream ("standard")
    W_E[t] + W_pos[p] for all t and p. W_OV is that of the layer-0 head, W_Q, W_K and W_OV' are
    those of the layer-1 head. The entry is a root mean square, over all pairs (x, y) or (x, output
    token), of
    - "K": (x W_Q) . (y W_OV W_K) / sqrt(d_head), x asks and y was moved into the key;
    - "Q": (x W_OV W_Q) . (y W_K) / sqrt(d_head), x was moved into the query;
    - "V": x W_OV W_OV' W_U,
    each less its mean over the keys y, or over the output tokens: a softmax does not see what all
    of them share. K and Q are in units of the score, nats before the softmax; V is in logits.
    Unlike a norm in the stream, the entry moves under no gauge, nor with a constant that a head
    writes into every key. It says what would happen if the layer-0 head moved each token, not
    whether it does.
    """
    # YOUR CODE: all x; then for each pair what is moved, and where it ends; roughly 14 lines
    W_E, W_Q, W_K = model.W_E.detach(), model.W_Q[1].detach(), model.W_K[1].detach()
    OV = model.W_V.detach() @ model.W_O.detach()  # layer head d_model d_model
    x = W_E  # input d_model
    if model.cfg.positional_embedding_type == "standard":
        x = (W_E[:, None] + model.W_pos.detach()).flatten(0, 1)
    heads, scale = range(model.cfg.n_heads), math.sqrt(model.cfg.d_head)
    table = torch.zeros(len(heads), len(heads), dtype=W_E.dtype)
    for g in heads:
        moved = x @ OV[0, g]
        for h in heads:
            if kind == "K":
                made = (x @ W_Q[h]) @ (moved @ W_K[h]).T / scale
            elif kind == "Q":
                made = (moved @ W_Q[h]) @ (x @ W_K[h]).T / scale
            else:
                made = moved @ OV[1, h] @ model.W_U.detach()
            seen = made - made.mean(dim=-1, keepdim=True)
            table[g, h] = seen.square().mean().sqrt()
    return table


def decompose_qk_inputs(cache: dict[str, Tensor]) -> tuple[list[str], Tensor]:
    """All that the queries and keys of layer 1 are made from: (labels, parts [part, batch, pos,
    d_model]).

    labels: "embed", "positions", "0.0", "0.1", ..., one for each head of layer 0, 2 + H in all. The
    parts add up to what W_Q and W_K of layer 1 are applied to. cache: of a run with all
    activations; useful are "hook_embed", "hook_pos_embed" [batch, pos, d_model] and
    "blocks.0.attn.hook_result" [batch, pos, head, d_model]. It must be right whether positions are
    in the stream ("standard") or reach only q and k ("shortformer"): each part is there once.
    """
    # YOUR CODE: roughly 3 lines
    heads = cache["blocks.0.attn.hook_result"].unbind(dim=2)
    labels = ["embed", "positions"] + [f"0.{head}" for head in range(len(heads))]
    return labels, torch.stack([cache["hook_embed"], cache["hook_pos_embed"], *heads])


def decompose_scores(parts: Tensor, W_Q: Tensor, W_K: Tensor) -> Tensor:
    """One head's attention scores as a sum of terms, one for each (part of the query, part of the
    key).

    parts [part, batch, pos, d_model], W_Q and W_K [d_model, d_head] -> [query_part, key_part,
    batch, query, key]. Term (a, b) is (parts_a W_Q) . (parts_b W_K) / sqrt(d_head). Summed over
    both parts: the scores before the mask, exactly, because a product of two sums is the sum of all
    products. Elhage et al. 2021.
    """
    # YOUR CODE: project each part, multiply every pair (a, b), scale; roughly 3 lines
    q, k = parts @ W_Q, parts @ W_K  # part batch pos d_head
    products = einsum(q, k, "a batch query d_head, b batch key d_head -> a b batch query key")
    return products / math.sqrt(W_Q.shape[-1])


def mean_over(scores: Tensor, keys: Tensor) -> Tensor:
    """The mean score where `keys` is 1: scores [.., batch, query, key], keys [batch, query, key] of
    0 and 1 -> [..].
    """
    return (scores * keys).sum(dim=(-3, -2, -1)) / keys.sum()


def k_composition_circuit(model, previous: tuple[int, int], induction: tuple[int, int]) -> Tensor:
    """What an induction head seeks through a previous-token head: [token at the query, token before
    the key].

    previous: (layer, head) of the head that wrote into the key; induction: (layer, head) of the
    head that looks. Entry (t, s) is (W_E[t] W_Q) . (W_E[s] W_V W_O W_K): token t asks, and the key
    holds what `previous` moved there from token s. W_V, W_O are those of `previous`, W_Q, W_K those
    of `induction`. No scale, no positions, no attention: weights only. An induction circuit has its
    largest entry of each row on the diagonal. Elhage et al. 2021.
    """
    # YOUR CODE: two matrices of embedded tokens, one product; roughly 4 lines
    W_E = model.W_E.detach()  # vocab d_model
    queries = W_E @ model.W_Q[induction].detach()
    moved = W_E @ model.W_V[previous].detach() @ model.W_O[previous].detach()
    return queries @ (moved @ model.W_K[induction].detach()).T


def path_expansion(model, tokens: Tensor) -> tuple[list[str], Tensor]:
    """The logits of a two-layer model as a sum over paths: (labels, terms [path, batch, pos,
    vocab]).

    The attention patterns of the run are kept fixed; then every head is a linear map, and each way
    through the model adds its own share. labels, with H heads per layer, in this order: "direct",
    "0.0", "0.1", ..., "1.0", ..., then the virtual heads "0.0>1.0", "0.0>1.1", ..., "0.1>1.0", ...:
    layer 0 head, then layer 1 head. 1 + 2H + H^2 paths in all. They sum to the logits exactly.
    head_output(x, pattern, W_V, W_O) of chapter 1 sends x through all heads of a layer: [batch,
    pos, head, d_model]. The stream before layer 0 is cached as "blocks.0.hook_resid_pre". Elhage et
    al. 2021.
    """
    # YOUR CODE: patterns; direct, layer 0, layer 1, layer 1 of layer 0; unembed; roughly 10 lines
    _, cache = model.run_with_cache(tokens)
    W_V, W_O = model.W_V.detach(), model.W_O.detach()

    def through(layer: int, x: Tensor) -> list[Tensor]:
        pattern = cache[f"blocks.{layer}.attn.hook_pattern"]
        return list(head_output(x, pattern, W_V[layer], W_O[layer]).unbind(dim=2))

    stream, heads = cache["blocks.0.hook_resid_pre"], range(model.cfg.n_heads)
    first, second = through(0, stream), through(1, stream)
    virtual = [out for written in first for out in through(1, written)]
    labels = ["direct"] + [f"{layer}.{head}" for layer in (0, 1) for head in heads]
    labels += [f"0.{g}>1.{h}" for g in heads for h in heads]
    return labels, torch.stack([stream, *first, *second, *virtual]) @ model.W_U.detach()


def term_importance(model, tokens: Tensor) -> Tensor:
    """What the model predicts from paths through at most n heads, n = 0, 1, ..., n_layers: [round,
    batch, pos, vocab].

    The algorithm of Elhage et al. 2021, for any attention-only model. Run once, save all patterns.
    Then in round n every pattern is forced to the saved one, and what each layer really wrote is
    saved but replaced in the stream by what it wrote in round n - 1 (in round 0: by zero). Returned
    are the logits of each round. Two layers: round 2 is the model again. Useful hooks:
    "blocks.L.attn.hook_pattern" and "blocks.L.hook_attn_out"; a hook gets (activation, hook) with
    hook.name.
    """
    # YOUR CODE: two hooks and a loop over the rounds; roughly 12 lines
    layers = range(model.cfg.n_layers)
    patterns = [f"blocks.{layer}.attn.hook_pattern" for layer in layers]
    _, saved = model.run_with_cache(tokens, patterns)
    written, rounds = {}, []

    def write_what_was_written(out: Tensor, hook) -> Tensor:
        now[hook.name] = out
        return written.get(hook.name, torch.zeros_like(out))

    fwd_hooks = [(name, lambda pattern, hook: saved[hook.name]) for name in patterns]
    fwd_hooks += [(f"blocks.{layer}.hook_attn_out", write_what_was_written) for layer in layers]
    for _ in range(model.cfg.n_layers + 1):
        now = {}
        rounds.append(model.run_with_hooks(tokens, fwd_hooks).detach())
        written = now
    return torch.stack(rounds)
