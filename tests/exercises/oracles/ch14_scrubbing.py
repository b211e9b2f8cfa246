"""Oracles for the second half of chapter 14: causal scrubbing in slow loops, and wrong stories."""

from functools import partial

import torch

from solutions.ch14_by_hand import Hypothesis
from tests.exercises.oracles.ch10 import attend
from tests.exercises.oracles.ch14_donors import donors_by_loops

# resample_parts


def facts(tokens, features):
    """Labels by comparing facts, position by position."""
    seen, labels = {}, []
    for b, row in enumerate(tokens.tolist()):
        for i, token in enumerate(row):
            here = {"token": token, "position": i, "sequence": b, "bos": i == 0}
            here["previous"] = row[i - 1] if i else -1
            labels.append(seen.setdefault(tuple(here[name] for name in features), len(seen)))
    return torch.tensor(labels).view_as(tokens)


def fetched(part, donors):
    """The part, at each position that of its donor."""
    return part.flatten(0, 1)[donors.flatten()].view_as(part)


def sent(part, donors):
    """The part of each position, at its donor."""
    moved = torch.zeros_like(part.flatten(0, 1))
    moved[donors.flatten()] = part.flatten(0, 1)
    return moved.view_as(part)


def resampled(
    parts,
    matters,
    tokens,
    generator,
    *,
    in_order=lambda parts, matters: parts,
    features=lambda name, matters: matters.get(name, ()),
    move=fetched,
    before=lambda generator, state: None,
):
    """resample_parts in loops; the keywords are places for mistakes.

    before(generator, its first state): what is done before each draw.
    """
    total, state = 0.0, generator.get_state()
    for name in in_order(parts, matters):
        before(generator, state)
        donors = donors_by_loops(facts(tokens, features(name, matters)), generator)
        total = total + move(parts[name], donors)
    return total


def parts_with(**switches):
    return partial(resampled, **switches)


def transposed_lookup(part, donors):
    """The donor's number, looked up as if positions were numbered column by column."""
    columns = part.transpose(0, 1).flatten(0, 1)
    return columns[donors.flatten()].view_as(part)


def changes_of_parts(parts, *arguments):
    return resampled(parts, *arguments) - sum(parts.values())


def all_but_zeroed(parts, kept):
    """The parts, with zeros in the place of those that are not among `kept`."""
    return {name: part if name in kept else torch.zeros_like(part) for name, part in parts.items()}


def last_part(parts, *arguments):
    """The sum, in which every part but the last is 0; all are drawn."""
    last = list(parts)[-1]
    return resampled(all_but_zeroed(parts, [last]), *arguments)


def unnamed_kept(draw):
    """Parts that nobody names stay as they are; draw: their donors are drawn all the same."""

    def function(parts, matters, tokens, generator):
        taken = parts if draw else {name: parts[name] for name in parts if name in matters}
        named = all_but_zeroed(taken, matters)
        kept = sum(part for name, part in parts.items() if name not in matters)
        return resampled(named, matters, tokens, generator) + kept

    return function


def unnamed_dropped(parts, matters, tokens, generator):
    """Parts that nobody names are drawn, and left out."""
    named = all_but_zeroed(parts, matters)
    return resampled(named, matters, tokens, generator)


def one_draw(parts, matters, tokens, generator):
    """Donors that agree in all that matters for any part, for all parts."""
    features = tuple(each for name in parts for each in matters.get(name, ()))
    donors = donors_by_loops(facts(tokens, features), generator)
    return sum(fetched(part, donors) for part in parts.values())


def mean_of_parts(parts, *arguments):
    return resampled(parts, *arguments) / len(parts)


PART_MISTAKES = {
    "parts that are not named were kept as they are; they may come from anywhere": (
        unnamed_kept(draw=False)
    ),
    "parts that are not named were kept, as if everything had to agree; nothing has to": (
        unnamed_kept(draw=True)
    ),
    "parts that are not named were skipped; they may come from anywhere": parts_with(
        in_order=lambda parts, matters: [name for name in parts if name in matters]
    ),
    "parts that are not named were drawn and left out": unnamed_dropped,
    "each part began with the same random numbers; each needs a draw of its own": parts_with(
        before=lambda generator, state: generator.set_state(state)
    ),
    "all parts got the same donors; each needs a draw of its own": one_draw,
    "the draws are in the order of the story; draw in the order of the parts": parts_with(
        in_order=lambda parts, matters: [*matters, *(x for x in parts if x not in matters)]
    ),
    "every part's donors had to agree in all that matters for any part": parts_with(
        features=lambda name, matters: tuple(each for of in matters.values() for each in of)
    ),
    "the donor's number b * pos + i was looked up column by column": parts_with(
        move=transposed_lookup
    ),
    "the undisturbed sum was subtracted": changes_of_parts,
    "only the last part came out; add them up": last_part,
    "donors do not agree in what matters": parts_with(features=lambda name, matters: ()),
    "donors agree in the first feature only; it has to be all": parts_with(
        features=lambda name, matters: matters.get(name, ())[:1]
    ),
    "each part was sent to its donors; fetch it from them": parts_with(move=sent),
    "the parts were averaged; they are added up": mean_of_parts,
}

# scrub


def layer_1(model, x, head):
    """What one head of layer 1 writes; x: the streams [batch, pos, d_model] that q, k and v read,
    positions included.
    """
    at, out = (1, head), []
    for q, k, v in zip(x["q"], x["k"], x["v"]):
        pattern = attend(model, at, len(q), q, k, placed=True)
        out.append(pattern @ v @ model.W_V[at] @ model.W_O[at])
    return torch.stack(out).detach()


TOKEN, PREVIOUS, POSITION = ("token",), ("previous",), ("position",)
EMBED = {"embed": TOKEN}
INDUCTION = Hypothesis((0,), q=EMBED, k={"0.0": PREVIOUS}, v=EMBED)
WRONG_STORIES = {
    "the key needs only its own token": INDUCTION._replace(k={"embed": TOKEN, "0.0": TOKEN}),
    "only the position matters": INDUCTION._replace(
        q={"positions": POSITION}, k={"positions": POSITION}
    ),
    "the query's token does not matter": INDUCTION._replace(q={}),
    "any value will do": INDUCTION._replace(v={}),
}
