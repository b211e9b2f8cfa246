"""What people get wrong in chapter 8: label -> the function they write."""

from functools import partial

import torch

from tests.exercises.oracles import ch08 as slow
from tests.exercises.oracles.ch08 import RIGHT, length, score, table


def largest(A):
    """The spectral norm: the largest singular value."""
    return torch.linalg.svdvals(A)[0].item()


SCORE = {
    "the product is in the wrong order: row vectors meet A first, so A @ B": (
        lambda A, B: score(B, A)
    ),
    "the result is |A B| alone; it must be divided by |A| |B|": lambda A, B: length(A @ B),
    "the root is missing: use norms, not sums of squares": lambda A, B: score(A, B) ** 2,
    "that is the spectral norm (largest singular value); use the root of the sum of all squares": (
        lambda A, B: largest(A @ B) / (largest(A) * largest(B))
    ),
    "B was transposed": lambda A, B: score(A, B.T),
    "that is the cosine of A and B as lists of numbers; the matrices must be multiplied": (
        lambda A, B: ((A * B).sum() / length(A) / length(B)).item()
    ),
}


def cyclic_score(factors, B):
    """factors: W_V and W_O of the head that writes."""
    W_V, W_O = factors
    return length(W_O @ B @ W_V) / (length(W_V @ W_O) * length(B))


def factors(model, kind):
    """composition_table with W_Q, W_K or W_V alone, which a rotation inside the head changes."""
    read, heads = {"Q": model.W_Q, "K": model.W_K, "V": model.W_V}[kind][1].detach(), (0, 1, 2)
    OV = model.W_V[0].detach() @ model.W_O[0].detach()
    return torch.tensor([[score(OV[g], read[h]) for h in heads] for g in heads]).to(OV.dtype)


EXCHANGED = {"Q and K are exchanged": table({**RIGHT, "Q": RIGHT["K"], "K": RIGHT["Q"]})}
TABLE = EXCHANGED | {
    "for K, W_QK must be transposed: the key is what stands on its right": table(
        {**RIGHT, "K": RIGHT["Q"]}
    ),
    "for Q, W_QK must not be transposed: the query stands on its left": table(
        {**RIGHT, "Q": RIGHT["K"]}
    ),
    "W_OV of the layer-1 head is transposed": table({**RIGHT, "V": lambda QK, OV: OV.T}),
    "W_OV of the layer-0 head is transposed": table(writes=lambda V, out: (V @ out).T),
    "the order is reversed: the layer-0 head comes first": table(score=lambda A, B: score(B, A)),
    "the factors were moved around the circle; a trace allows that, the Frobenius norm does not": (
        table(writes=lambda V, out: (V, out), score=cyclic_score)
    ),
    "V must use W_OV of the layer-1 head, not its W_QK": table({**RIGHT, "V": RIGHT["Q"]}),
    "layer 1 reads with W_QK or W_OV, whole circuits, not with W_Q, W_K or W_V alone": factors,
}
FLIPPED = {"rows and columns are exchanged: a row is a head of layer 0": table(flip=True)}


def one_head_for_all(d_model, d_head, samples, generator):
    def head():
        writes = torch.randn(d_model, d_head, generator=generator)
        return writes @ torch.randn(d_head, d_model, generator=generator)

    first = head()
    return torch.tensor([score(first, head()) for _ in range(samples)])


DRAWN_ONCE = {"one head was drawn once and met all others; draw both afresh": one_head_for_all}
BASELINE = {
    "the heads were drawn as full matrices; a head is a product of two thin ones": partial(
        slow.chance, full=True
    ),
    "one pair was scored again and again; draw a new pair each time": partial(
        slow.chance, repeat=True
    ),
    "torch.rand gives numbers that are all positive; use torch.randn": partial(
        slow.chance, draw=torch.rand
    ),
    "the mean was returned; return every sample, for the spread": (
        lambda *sizes: slow.chance(*sizes).mean()
    ),
    "the formula 1/sqrt(d_model) was returned, nothing was drawn": (
        lambda d_model, d_head, samples, generator: torch.full((samples,), d_model**-0.5)
    ),
    "the factors were drawn without `generator`, so nobody can repeat it": (
        lambda d_model, d_head, samples, generator: slow.chance(d_model, d_head, samples, None)
    ),
}


def sizes_of_eigenvalues(A):
    return torch.linalg.eigvals(A).abs().sort(descending=True).values / length(A)


def cut_first(A, B):
    a, b = torch.linalg.svdvals(A), torch.linalg.svdvals(B)
    shared = min(len(a), len(b))
    return slow.ceiling_of(a[:shared] / a[:shared].norm(), b[:shared] / b[:shared].norm())


CUT_FIRST = {"both spectra were cut to equal length before |A| and |B| were taken": cut_first}
CEILING = {
    "the spectra meet in opposite order, which gives the smallest score, not the largest": (
        lambda A, B: slow.ceiling_of(slow.spectrum(A), slow.spectrum(B).flip(0))
    ),
    "the products a_i b_i were added without squares": (
        lambda A, B: float((slow.spectrum(A) * slow.spectrum(B)).sum())
    ),
    "the root is missing": lambda A, B: slow.ceiling(A, B) ** 2,
    "eigenvalues are not singular values": (
        lambda A, B: slow.ceiling_of(sizes_of_eigenvalues(A), sizes_of_eigenvalues(B))
    ),
    "1/sqrt(rank) holds for flat spectra only": lambda A, B: 6**-0.5,
}

NORMALISED = {
    "the baseline is missing: chance must come out as 0": slow.normalised(lambda A: 0.0),
    "the baseline is 1/sqrt(d_model), not 1/sqrt(rank)": slow.normalised(lambda A: 3**-0.5),
    "the ceiling was taken to be 1": slow.normalised(top=lambda A, B: 1.0),
    "it was not divided by (ceiling - baseline)": slow.normalised(share=False),
    "it was divided by the ceiling, not by (ceiling - baseline)": (
        lambda A, B: slow.normalised(share=False)(A, B) / slow.ceiling(A, B)
    ),
}


STRETCH = {
    "S.T undoes S only if S is a rotation; any S that has an inverse must do": partial(
        slow.stretched, undo=lambda S: S.T
    ),
    "what reads from the stream was left as it was": partial(slow.stretched, readers=()),
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


def mean_size(x):
    return x.abs().mean().item()


def exchange_q_and_k(model, kind):
    return slow.token_space(model, {"Q": "K", "K": "Q", "V": "V"}[kind])


NO_POSITIONS = {
    "a standard model's stream holds positions too: x is W_E[t] + W_pos[p]": partial(
        slow.token_space, x_of=lambda model: model.W_E.detach()
    )
}
TOKEN_SPACE = {
    "Q and K are exchanged": exchange_q_and_k,
    "the scores were not divided by sqrt(d_head)": partial(slow.token_space, scale=False),
    "that is the norm, which grows with the vocabulary; take the mean before the root": partial(
        slow.token_space, size=length
    ),
    "the mean of the sizes was taken; square, take the mean, then the root": partial(
        slow.token_space, size=mean_size
    ),
    "the root is missing": partial(slow.token_space, size=lambda x: x.square().mean().item()),
    "the standard deviation was taken, which leaves out what all pairs share": partial(
        slow.token_space, size=lambda x: x.std(correction=0).item()
    ),
    "the logits of V were not centred: subtract their mean over the output tokens": partial(
        slow.token_space, centre=None
    ),
    "V was centred over the inputs; subtract the mean over the output tokens": partial(
        slow.token_space, centre=0
    ),
    "V was left in the stream; unembed it, logits are what W_U makes of it": partial(
        slow.token_space, unembed=False
    ),
    "heads of a shortformer model move no positions: x is W_E[t]": partial(
        slow.token_space, x_of=slow.tokens_at_places
    ),
    "W_OV of the layer-0 head was left out: that is layer 1 alone": partial(
        slow.token_space, moves=lambda V, out: torch.eye(len(V)).to(V)
    ),
    "W_OV of the layer-0 head is transposed": partial(
        slow.token_space, moves=lambda V, out: (V @ out).T
    ),
    "rows and columns are exchanged: a row is a head of layer 0": partial(
        slow.token_space, flip=True
    ),
}

PARTS = {
    "the positions are missing": partial(slow.stack, positions=False),
    "hook_resid_pre of standard models holds the positions already": partial(
        slow.stack, embed="blocks.0.hook_resid_pre"
    ),
    "those are the heads of layer 1; its q and k are made from what came before": partial(
        slow.stack, heads=1
    ),
}

TERMS = {
    "the terms were not divided by sqrt(d_head)": partial(slow.terms, scale=1.0),
    "the terms were divided by sqrt(d_model)": partial(slow.terms, scale=8**0.5),
    "query part and key part are exchanged": partial(slow.terms, flip=True),
    "W_Q and W_K are exchanged": lambda parts, W_Q, W_K: slow.terms(parts, W_K, W_Q),
    "each part met only itself; every query part meets every key part": partial(
        slow.terms, diagonal=True
    ),
    "a softmax was applied to each term; only before the softmax can terms be added": (
        lambda parts, W_Q, W_K: slow.terms(parts, W_Q, W_K).softmax(-1)
    ),
}


def without_ov(V, out):
    return torch.eye(len(V)).to(V)


CIRCUIT = {
    "rows and columns are exchanged: a row is the token at the query": partial(
        slow.circuit, flip=True
    ),
    "W_Q and W_K are exchanged: that is Q-composition": partial(
        slow.circuit, qk=lambda W_Q, W_K: W_K @ W_Q.T
    ),
    "it was divided by sqrt(d_head); here no scale was asked for": (
        lambda model, previous, induction: (
            slow.circuit(model, previous, induction) / model.cfg.d_head**0.5
        )
    ),
    "W_OV was left out: that is the full QK circuit": partial(slow.circuit, ov=without_ov),
    "W_OV is transposed": partial(slow.circuit, ov=lambda V, out: (V @ out).T),
    "the two heads are exchanged": (
        lambda model, previous, induction: slow.circuit(model, induction, previous)
    ),
    "W_OV of the induction head was used, not that of `previous`": (
        lambda model, previous, induction: slow.circuit(model, induction, induction)
    ),
}

WRONG_SUMS = {
    "the patterns of the two layers are exchanged": partial(slow.paths, patterns=(1, 0)),
    "layer 1 reads the whole stream, so the virtual heads are counted twice": partial(
        slow.paths, twice=True
    ),
}
PATHS = WRONG_SUMS | {
    "the virtual heads are missing: layer 1 also moves what layer 0 wrote": partial(
        slow.paths, virtual=0.0
    ),
    "the virtual heads are in another order than their labels": partial(slow.paths, order="hg"),
    "the paths were not unembedded": partial(slow.paths, unembed=False),
}

IMPORTANCE = {
    "the patterns were not forced to the saved ones": partial(slow.importance, force=False),
    "what was put in the stream was saved, not what the layer wrote": partial(
        slow.importance, keep_replaced=True
    ),
    "round 0 must write zero, not what the full run wrote": partial(slow.importance, start=1.0),
    "one round is missing: rounds 0 to n_layers": partial(slow.importance, rounds=2),
}
