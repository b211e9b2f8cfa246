"""How the reference answers of chapter 18 come about: one method for all eight models.

Whoever has not solved them should stop here.

First behaviour: on many sequences, which of a few rules says what the model answers? Then edges:
cut one at a time; those whose loss takes the answers away make the route. Where two heads can do
without each other, but the model cannot do without both: take away the one, then the other, and
look again.
"""

import functools
from collections import Counter
from collections.abc import Callable
from itertools import combinations, product

import torch
from torch import Tensor

from minitransformer import Transformer
from minitransformer.data import random_tokens, repeated_tokens
from solutions.ch18_blind_models import Change, Claim, Route, edges_in, heads_in, sure_answers
from solutions.examination import sender_of
from solutions.many_changes import answers_under

FARTHEST = 10  # the longest distance that is tried


def sequences(model: Transformer, batch: int = 8, seed: int = 0) -> Tensor:
    """[2 batch, pos]: half of them repeated blocks, half random tokens."""
    generator = torch.Generator().manual_seed(seed)
    n, vocab = model.cfg.n_ctx, model.cfg.d_vocab
    blocks = repeated_tokens(batch, n, vocab, (3, n // 2 - 1), generator).tokens
    return torch.cat([blocks, random_tokens(batch, n, vocab, generator)])


# Rules


def look_up(asked: int, before: int, taken: int, which: str) -> Callable:
    """The rule: at every j where the token `before` places earlier is the one `asked` places before
    the end, take the token `taken` places before j. which: the "first" of these, or the "most"
    frequent if there is just one.
    """

    def answer(tokens: list[int]) -> int | None:
        n, found = len(tokens), []
        for j in range(before + 1, n):
            if n - 1 - asked > 0 and tokens[j - before] == tokens[n - 1 - asked]:
                found.append(tokens[j - taken])
        if not found or which == "first":
            return found[0] if found else None
        ranked = Counter(found).most_common(2)
        tie = len(ranked) == 2 and ranked[0][1] == ranked[1][1]
        return None if tie else ranked[0][0]

    return answer


def look_back(distance: int) -> Callable:
    """The rule: take the token that stood so many places back."""
    return lambda tokens: tokens[-1 - distance] if len(tokens) > distance + 1 else None


def rules() -> list[Callable]:
    found = [look_back(distance) for distance in range(FARTHEST + 1)]
    for asked, before, taken, which in product((0, 1), (1, 2, 3), (0, 1), ("most", "first")):
        found.append(look_up(asked, before, taken, which))
    return found


def fit_of(rule: Callable, tokens: Tensor, answers: Tensor) -> float:
    """The share of right answers among all that the rule or the model gives."""
    right, given = 0, 0
    for sequence, answered in zip(tokens.tolist(), answers.tolist()):
        for pos, token in enumerate(answered):
            said = rule(sequence[: pos + 1])
            if token >= 0 or said is not None:
                given += 1
                right += token == said
    return right / max(given, 1)


# Edges


def edges_needed(
    model: Transformer, tokens: Tensor, silent: tuple[str, ...] = ()
) -> tuple[str, ...]:
    """The edges without which most answers are gone, while the silent heads write 0."""
    tokens, edges = tokens[::2], edges_in(model)
    changes = [Change(zero=silent), *[Change(zero=silent, cut=(edge,)) for edge in edges]]
    before, *after = answers_under(model, tokens, changes)
    kept = [(answers == before)[before >= 0].double().mean() for answers in after]
    return tuple(edge for edge, share in zip(edges, kept) if share < 0.5)


def substitutes(model: Transformer, tokens: Tensor) -> tuple[str, str] | None:
    """Two heads of which either may write 0, but not both; None if there are none."""
    heads = heads_in(model)
    pairs = list(combinations(heads, 2))
    changes = [Change(zero=pair) for pair in [(), *[(head,) for head in heads], *pairs]]
    before, *after = answers_under(model, tokens, changes)
    kept = [(answers == before)[before >= 0].double().mean() for answers in after]
    alone, together = dict(zip(heads, kept)), kept[len(heads) :]
    for (one, other), share in zip(pairs, together):
        if share < 0.5 and alone[one] > 0.5 and alone[other] > 0.5:
            return one, other
    return None


def route_without(model: Transformer, tokens: Tensor, rule: Callable, silent: str) -> Route:
    """The route that is left while one head writes 0. An edge of that head which matters even then
    brings a mean when it is cut: it must be quiet.
    """
    edges = edges_needed(model, tokens, (silent,))
    kept = tuple(edge for edge in edges if sender_of(edge) != silent)
    shut = [edge for edge in edges if sender_of(edge) == silent]
    return Route(rule, kept, unless=shut[0] if shut else "")


@functools.cache
def claim_about(model: Transformer) -> Claim:
    """A claim about any of the eight models."""
    with torch.no_grad():
        tokens = sequences(model)
        answers = sure_answers(model(tokens))
        if not (answers >= 0).any():
            return []
        rule = max(rules(), key=lambda rule: fit_of(rule, tokens, answers))
        pair = substitutes(model, tokens)
        if pair is None:
            return [Route(rule, edges_needed(model, tokens))]
        routes = [route_without(model, tokens, rule, head) for head in pair]
        return sorted(routes, key=lambda route: route.unless)  # first what is always open
