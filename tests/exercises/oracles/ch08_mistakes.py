"""What people get wrong in chapter 8: label -> the function they write. Scores and gauges; parts,
terms and paths are in ch08_path_mistakes.py.
"""

from functools import partial

import torch

from tests.exercises.oracles import ch08 as slow
from tests.exercises.oracles.ch08 import RIGHT, length, moves, score, table


def largest(A):
    """The spectral norm: the largest singular value."""
    return torch.linalg.svdvals(A)[0].item()


def absolute(A):
    return A.abs().sum().item()


def mean_row(A):
    return A.norm(dim=-1).mean().item()


def by(size):
    """A composition score with another size than the Frobenius norm."""
    return lambda A, B: size(A @ B) / (size(A) * size(B))


SCORE = {
    "the product is in the wrong order: row vectors meet A first, so A @ B": (
        lambda A, B: score(B, A)
    ),
    "the result is |A B| alone; it must be divided by |A| |B|": lambda A, B: length(A @ B),
    "it was divided by |A| alone; divide by |A| |B|": lambda A, B: length(A @ B) / length(A),
    "it was divided by |A| + |B|; divide by the product |A| |B|": (
        lambda A, B: length(A @ B) / (length(A) + length(B))
    ),
    "the root is missing: use norms, not sums of squares": lambda A, B: score(A, B) ** 2,
    "that is the spectral norm (largest singular value); use the root of the sum of all squares": (
        by(largest)
    ),
    "absolute values were added; the Frobenius norm is the root of the sum of all squares": (
        by(absolute)
    ),
    "the lengths of the rows were averaged; the norm is over all entries": by(mean_row),
    "B was transposed": lambda A, B: score(A, B.T),
    "that is the cosine of A and B as lists of numbers; the matrices must be multiplied": (
        lambda A, B: ((A * B).sum() / length(A) / length(B)).item()
    ),
    "entries were multiplied one by one, which adds up to the trace of A B; take its norm": (
        lambda A, B: abs((A * B.T).sum().item()) / (length(A) * length(B))
    ),
    "what chance gives was subtracted; a score does without (normalised_composition comes later)": (
        lambda A, B: score(A, B) - A.shape[-1] ** -0.5
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
    "W_OV of the layer-0 head is transposed": table(writes=lambda model, at: moves(model, at).T),
    "the order is reversed: the layer-0 head comes first": table(score=lambda A, B: score(B, A)),
    "the factors were moved around the circle; a trace allows that, the Frobenius norm does not": (
        table(writes=lambda model, at: (model.W_V[at], model.W_O[at]), score=cyclic_score)
    ),
    "V must use W_OV of the layer-1 head, not its W_QK": table({**RIGHT, "V": RIGHT["Q"]}),
}
ON_RANDOM_WEIGHTS = TABLE | {
    "rows and columns are exchanged: a row is a head of layer 0": table(flip=True),
    "layer 1 reads with W_QK or W_OV, whole circuits, not with W_Q, W_K or W_V alone": factors,
    "what the layer-0 head writes is W_OV = W_V W_O, not W_O alone": table(
        writes=lambda model, at: model.W_O[at].detach()
    ),
    "the layer-0 head writes with W_OV; its W_QK only says where it looks": table(
        writes=lambda model, at: (model.W_Q[at] @ model.W_K[at].T).detach()
    ),
    "the layers are exchanged: layer 0 writes, layer 1 reads": table(layers=(1, 0)),
    "the last layer was taken instead of layer 1": table(layers=(0, -1)),
    "what chance gives was subtracted; the table holds the scores": table(
        score=lambda A, B: score(A, B) - A.shape[0] ** -0.5
    ),
}


def drawn(d_model, d_head, generator):
    writes = torch.randn(d_model, d_head, generator=generator)
    return writes @ torch.randn(d_head, d_model, generator=generator)


def first_for_all(d_model, d_head, samples, generator):
    first = drawn(d_model, d_head, generator)
    return torch.tensor([score(first, drawn(d_model, d_head, generator)) for _ in range(samples)])


def second_for_all(d_model, d_head, samples, generator):
    second = drawn(d_model, d_head, generator)
    return torch.tensor([score(drawn(d_model, d_head, generator), second) for _ in range(samples)])


def chain(d_model, d_head, samples, generator):
    heads = [drawn(d_model, d_head, generator) for _ in range(samples + 1)]
    return torch.tensor([score(A, B) for A, B in zip(heads, heads[1:])])


def with_itself(d_model, d_head, samples, generator):
    heads = [drawn(d_model, d_head, generator) for _ in range(samples)]
    return torch.tensor([score(A, A) for A in heads])


def symmetric(d_model, d_head, samples, generator):
    thin = torch.randn(samples, 2, d_model, d_head, generator=generator)
    return torch.tensor([score(A @ A.T, B @ B.T) for A, B in thin])


DRAWN_ONCE = {
    "one head was drawn once and met all others; draw both afresh": first_for_all,
    "all heads met one that was drawn once; draw both afresh": second_for_all,
    "the second head of a pair was used again in the next; draw both afresh": chain,
    "a head met itself; draw two": with_itself,
    "a factor was multiplied with its own transpose; a head has two factors": symmetric,
}
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
    "the expected value was subtracted; return the scores themselves": (
        lambda d_model, *rest: slow.chance(d_model, *rest) - d_model**-0.5
    ),
    "the factors were multiplied along d_model: a head is [d_model, d_head] @ [d_head, d_model]": (
        lambda d_model, d_head, *rest: slow.chance(d_head, d_model, *rest)
    ),
}


def eigenvalues(A):
    return torch.linalg.eigvals(A).abs().sort(descending=True).values


def by_eigenvalues(A, B):
    a, b = eigenvalues(A), eigenvalues(B)
    return slow.ceiling_of(a / a.norm(), b / b.norm())


def cut_first(A, B):
    a, b = torch.linalg.svdvals(A), torch.linalg.svdvals(B)
    shared = min(len(a), len(b))
    return slow.ceiling_of(a[:shared] / a[:shared].norm(), b[:shared] / b[:shared].norm())


def strongest_only(A, B):
    return float(slow.spectrum(A)[0] * slow.spectrum(B)[0])


def root_of_products(A, B):
    products = torch.linalg.svdvals(A) * torch.linalg.svdvals(B)
    return products.sum().sqrt().item() / (length(A) * length(B))


def by_sums(A, B):
    a, b = torch.linalg.svdvals(A), torch.linalg.svdvals(B)
    return slow.ceiling_of(a / a.sum(), b / b.sum())


CUT_FIRST = {"both spectra were cut to equal length before |A| and |B| were taken": cut_first}
CEILING = {
    "the spectra meet in opposite order, which gives the smallest score, not the largest": (
        lambda A, B: slow.ceiling_of(slow.spectrum(A), slow.spectrum(B).flip(0))
    ),
    "the products a_i b_i were added without squares": (
        lambda A, B: float((slow.spectrum(A) * slow.spectrum(B)).sum())
    ),
    "the squares are missing: the root of the sum of (a_i b_i)^2": root_of_products,
    "the root is missing": lambda A, B: slow.ceiling(A, B) ** 2,
    "the root is missing above the line": lambda A, B: (
        slow.ceiling(A, B) ** 2 * length(A) * length(B)
    ),
    "only the largest singular values were used; all of them meet, each its own partner": (
        strongest_only
    ),
    "every singular value met every other; each meets its own partner only": lambda A, B: 1.0,
    "those are the singular values of A @ B as they stand, the score; the best turn is asked for": (
        score
    ),
    "it was divided by sums of singular values; |A| is the root of the sum of their squares": (
        by_sums
    ),
    "eigenvalues are not singular values": by_eigenvalues,
    "eigenvalues are not singular values, nor do they give |A|": lambda A, B: slow.ceiling_of(
        eigenvalues(A) / length(A), eigenvalues(B) / length(B)
    ),
    "1/sqrt(rank) holds for flat spectra only": lambda A, B: 6**-0.5,
}


def share(A, B):
    return slow.normalised()(A, B)


NORMALISED = {
    "the baseline is missing: chance must come out as 0": slow.normalised(lambda A, B: 0.0),
    "the baseline is 1/sqrt(d_model), not 1/sqrt(rank)": slow.normalised(lambda A, B: 3**-0.5),
    "the baseline is 1/sqrt(d_model); the root is missing": slow.normalised(
        lambda A, B: 1 / A.shape[-1]
    ),
    "d_model is the number of columns of A; its rows were counted": slow.normalised(
        lambda A, B: A.shape[0] ** -0.5
    ),
    "d_model is the number of columns of A; those of B were counted": slow.normalised(
        lambda A, B: B.shape[-1] ** -0.5
    ),
    "the ceiling was taken to be 1": slow.normalised(top=lambda A, B: 1.0),
    "it was not divided by (ceiling - baseline)": slow.normalised(share=False),
    "it was divided by the ceiling, not by (ceiling - baseline)": (
        lambda A, B: slow.normalised(share=False)(A, B) / slow.ceiling(A, B)
    ),
    "that is how much is missing to the best; how much is above chance was asked for": (
        lambda A, B: 1 - share(A, B)
    ),
    "the result was cut off at 0 (and 1); below chance it is negative": (
        lambda A, B: min(max(share(A, B), 0.0), 1.0)
    ),
    "the sign was lost: below chance it is negative": lambda A, B: abs(share(A, B)),
}
