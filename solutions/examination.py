"""The examination of a claim: what it predicts, held against what the model does.

    model = blind_model("A")
    verdicts = examine(model, claim_a(model), tokens)     # your own sequences, [batch, pos]
    passes(verdicts)

Axis words: batch pos, as in chapter 18. Nothing here knows how any model works.
"""

from typing import NamedTuple

from torch import Tensor

from minitransformer import Transformer
from minitransformer.config import require
from solutions.ch18_blind_models import (
    BETWEEN,
    UNCHANGED,
    Change,
    Claim,
    edges_in,
    heads_in,
    predicted,
)
from solutions.many_changes import answers_under


def change_in_words(change: Change) -> str:
    """For a report: "0.1 writes 0, cut embed>1.2.q"; "unchanged"."""
    words = [f"{head} writes 0" for head in change.zero]
    words += [f"{head} writes its mean" for head in change.mean]
    cut = change.cut if len(change.cut) < 4 else (*change.cut[:2], f"{len(change.cut) - 2} more")
    if cut:
        words.append("cut " + " and ".join(cut))
    return ", ".join(words) or "unchanged"


class Verdict(NamedTuple):
    """How a prediction fared: "right", "wrong" or "vacuous", over all sequences together."""

    change: Change
    word: str
    telling: bool  # do answers change, or does the claim say so?
    place: tuple[int, int] | None  # the first (row, pos) where it is wrong


def single_changes(model: Transformer) -> list[Change]:
    """Every change of one thing: each head writes 0, each its mean, each edge is cut."""
    changes = [Change(zero=(head,)) for head in heads_in(model)]
    changes += [Change(mean=(head,)) for head in heads_in(model)]
    return changes + [Change(cut=(edge,)) for edge in edges_in(model)]


def verdict_on(
    change: Change, said: Tensor, promised: Tensor, after: Tensor, before: Tensor
) -> Verdict:
    """Judge one prediction; all tensors [batch, pos]. said, promised: what the claim predicts with
    the change and without; after, before: what the model answers, by sure_answers.

    No change: right if 95 % of the answers agree, given or predicted ones. Any other: right if for
    90 % of the model's answers the claim says truly whether the answer survives; vacuous if none of
    them was predicted in the first place. Where the model is BETWEEN, nothing is counted.
    """
    if change == UNCHANGED:
        counted, right, least = (before >= 0) | (promised >= 0), promised == before, 0.95
        hopeless = False
    else:
        counted, right, least = before >= 0, (said == before) == (after == before), 0.9
        hopeless = not ((promised == before) & counted).any()
    counted = counted & (before != BETWEEN) & (after != BETWEEN)
    wrong = (counted & ~right).nonzero().tolist()
    fails = len(wrong) > (1 - least) * counted.sum()
    lost = counted & ((after != before) | (said != before))
    telling = bool(lost.sum() > 0.1 * counted.sum())
    word = "vacuous" if hopeless else "wrong" if fails else "right"
    return Verdict(change, word, telling, tuple(wrong[0]) if wrong else None)


def passes(verdicts: list[Verdict]) -> bool:
    """Is the unchanged model predicted, and of every sort of change 95 %?

    A sort: so many heads, so many edges, telling or not. What is vacuous counts for nothing.
    """
    words = {}
    for each in verdicts:
        heads, edges = len(each.change.zero + each.change.mean), min(len(each.change.cut), 2)
        words.setdefault((heads, edges, each.telling), []).append(each.word)
    few = [19 * found.count("wrong") <= found.count("right") for found in words.values()]
    return verdicts[0].word == "right" and all(few)


def changes_for(claim: Claim, model: Transformer) -> list[Change]:
    """What a claim is tried on: no change, all single changes, all edges that it does not name at
    once; and each edge while those heads write 0 that only one of its routes needs.
    """
    named = {edge for route in claim for edge in route.edges}
    others = tuple(edge for edge in edges_in(model) if edge not in named)
    changes = [UNCHANGED, *single_changes(model), Change(cut=others)]
    for route in claim if len(claim) > 1 else []:
        elsewhere = {sender_of(edge) for other in claim if other != route for edge in other.edges}
        needed = {sender_of(edge) for edge in route.edges} - elsewhere
        own = tuple(head for head in heads_in(model) if head in needed)
        changes += [Change(zero=own, cut=(edge,)) for edge in edges_in(model)]
    return changes


def sender_of(edge: str) -> str:
    return edge.split(">")[0]


def examine(model: Transformer, claim: Claim, tokens: Tensor) -> list[Verdict]:
    """Try a claim on your own inputs, tokens [batch, pos]: one verdict for each of changes_for.

    The check does the same with inputs and changes of its own.
    """
    changes = changes_for(claim, model)
    found = answers_under(model, tokens, changes)
    promised, verdicts = predicted(claim, tokens), []
    for change, after in zip(changes, found):
        said = predicted(claim, tokens, change)
        verdicts.append(verdict_on(change, said, promised, after, before=found[0]))
    return verdicts


def blind_model(letter: str) -> Transformer:
    """Your own model of this letter, "A" to "H".

    All eight are drawn when the first is asked for, and kept as weights alone in runs/blind. No two
    readers have the same. Whoever deletes that folder gets new ones. Raises ValueError for another
    letter.
    """
    from tests.exercises.oracles.ch18_models import own_model  # it knows too much: do not open it

    require(len(letter) == 1 and letter in "ABCDEFGH", f"the letters are A to H, not {letter!r}.")
    return own_model(letter)
