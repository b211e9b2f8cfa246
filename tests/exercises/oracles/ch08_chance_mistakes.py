"""What people get wrong in chapter 8 about chance and the best possible: label -> the function they
write.
"""

from functools import partial

import torch

from tests.exercises.oracles import ch08 as slow
from tests.exercises.oracles.ch08 import length, score


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
    "one sample is missing": lambda d_model, d_head, samples, generator: slow.chance(
        d_model, d_head, samples - 1, generator
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


def smallest(A, B):
    a, b = slow.spectrum(A), slow.spectrum(B)
    shared = min(len(a), len(b))
    return slow.ceiling_of(a[-shared:], b[-shared:])


CUT_FIRST = {
    "both spectra were cut to equal length before |A| and |B| were taken": cut_first,
    "the smallest of the longer list were kept; the largest meet the largest": smallest,
}
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
    "only the largest singular value of A was used; all of them meet, each its own partner": (
        lambda A, B: float(slow.spectrum(A)[0])
    ),
    "all singular values of A met the largest of B; each meets its own partner": (
        lambda A, B: float(slow.spectrum(B)[0])
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
    "the fraction is upside down: (score - baseline) comes above the line": (
        lambda A, B: 1 / share(A, B)
    ),
    "it was divided by the baseline, not by (ceiling - baseline)": (
        lambda A, B: slow.normalised(share=False)(A, B) * A.shape[-1] ** 0.5
    ),
    "that is how much is missing to the best; how much is above chance was asked for": (
        lambda A, B: 1 - share(A, B)
    ),
    "the result was cut off at 0 (and 1); below chance it is negative": (
        lambda A, B: min(max(share(A, B), 0.0), 1.0)
    ),
    "the sign was lost: below chance it is negative": lambda A, B: abs(share(A, B)),
}
