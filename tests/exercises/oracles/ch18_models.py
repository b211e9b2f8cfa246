"""The blind models of chapter 18. Whoever wants to take the chapter should not read on.

A model is set by hand like those of minitransformer/planted.py, then disguised: an invertible
change of the whole stream, invertible maps inside the heads, a shift of all logits, a little noise.
Its circuit takes one to three of nine heads; which, is drawn. Of the others some look right and are
not: decoys, a previous-token head whose notes only heads read that write where nobody looks.

The learner's eight are drawn from the system's own randomness when they are first asked for, and
kept as weights alone. The tests draw theirs from seeds.
"""

import os
from pathlib import Path

import torch
from torch import Tensor

from exercises.stubs import ROOT
from minitransformer import Transformer, load
from minitransformer.checkpoint import save
from minitransformer.data import BOS
from minitransformer.planted import SHARPNESS as PLANTED
from minitransformer.planted import all_but_bos, blank_model, move, subspaces, write_head

FOLDER = ROOT / "runs" / "blind"
LETTERS = "ABCDEFGH"
V, N, LAYERS, HEADS = 19, 17, 3, 3
WIDTHS = {"token": V, "position": N, "note": V, "other": V, "decoy": V, "pointer": N}
WIDTHS |= {"output": V, "junk": V}
SHARP, SOFT, LOUD = 30.0, 12.0, 40.0  # the score of a match: as a rule, of a head beside loud ones
REST = 0.7  # BOS matches every query of a searching head by this share
GAIN, BIGRAMS, NOISE = 12.0, 0.4, 3e-4
PAIRS = [(0, 1), (0, 2), (1, 2)]  # the layers of two heads that work together
SPACE = subspaces(**WIDTHS)
TOKEN = all_but_bos(SPACE.token)  # a head with this for its value writes nothing when it rests
ANY, IS_BOS = SPACE.token.sum(dim=1, keepdim=True), SPACE.token[:, BOS : BOS + 1]


class Draft:
    """A model that is being written: which of its heads are free, and what is drawn."""

    def __init__(self, generator: torch.Generator):
        self.generator = generator
        sizes = {"d_model": sum(WIDTHS.values()), "d_head": 23, "d_vocab": V, "n_ctx": N}
        shape = {"n_layers": LAYERS, "n_heads": HEADS, "positional_embedding_type": "standard"}
        self.model = blank_model(**sizes, **shape)
        self.free = [(layer, head) for layer in range(LAYERS) for head in range(HEADS)]

    def pick(self, options):
        return options[int(torch.randint(len(options), (1,), generator=self.generator))]

    def take(self, layer: int) -> tuple[int, int]:
        """One of the free heads of a layer, which is then no longer free."""
        at = self.pick([head for head in self.free if head[0] == layer])
        self.free.remove(at)
        return at

    def write(self, layer: int, query, key, value, out, sharp: float = SHARP) -> None:
        at = self.take(layer)
        write_head(self.model, *at, query * sharp / PLANTED, key, value, out)

    def back(self, layer: int, steps: int, to: Tensor, value: Tensor = TOKEN) -> None:
        """A head that looks so many positions back, or at BOS, and notes the token there."""
        query = SPACE.position @ steps_back(steps)
        self.write(layer, query, SPACE.position, value, to.T)

    def match(self, layer: int, query, key, value=TOKEN, to=SPACE.output, pin=0, **named) -> None:
        """A head that looks where the key is what the query says, and rests on BOS without one.

        pin: what else makes it rest, [d_model, 1].
        """
        query, key = torch.cat([query, REST * ANY + pin], dim=1), torch.cat([key, IS_BOS], dim=1)
        self.write(layer, query, key, value, to.T, **named)


def steps_back(steps: int) -> Tensor:
    """[n, n]: maps the one-hot of position i to that of i - steps, and of the first ones to 0."""
    back = move(N, -steps) if steps else torch.eye(N)
    back[:steps, 0] = 1
    return back


# The kinds, as functions that write a circuit into a draft


def impostor(draft: Draft) -> None:
    query = SPACE.position @ steps_back(draft.pick(range(3, 9)))
    draft.match(draft.pick([0, 1, 2]), query, SPACE.position)


def loud(draft: Draft) -> None:
    first, second = draft.pick(PAIRS)
    draft.back(first, 1, SPACE.note)
    draft.match(second, SPACE.token, SPACE.note, sharp=SOFT)
    for _ in range(2):
        draft.match(second, SPACE.token, SPACE.note, to=1.5 * SPACE.junk, sharp=LOUD)


def skip(draft: Draft) -> None:
    first, second = draft.pick(PAIRS)
    draft.back(first, draft.pick([2, 3]), SPACE.note)
    draft.match(second, SPACE.token, SPACE.note)


def nothing(draft: Draft) -> None:
    """Decoys alone."""


def echo(draft: Draft) -> None:
    """Two heads take the same notes; either is enough."""
    last = draft.pick([1, 2])
    for _ in range(2):
        draft.back(draft.pick(range(last)), 1, SPACE.note)
    draft.match(last, SPACE.token, SPACE.note, value=all_but_bos(SPACE.note))


def lag(draft: Draft) -> None:
    first, second = draft.pick(PAIRS)
    draft.back(first, 1, SPACE.note, value=SPACE.token)
    draft.back(first, 2, SPACE.other)
    draft.match(second, SPACE.note, SPACE.other)


def pointer(draft: Draft) -> None:
    first, second = draft.pick(PAIRS)
    lateness = SPACE.position @ torch.arange(float(N))[:, None]
    # scores: 150 for a match, 4 less for each position, 60 for BOS
    query = torch.cat([5 * SPACE.token, 4 / SHARP * ANY, 2 * ANY], dim=1)
    key = torch.cat([SPACE.token, -lateness, IS_BOS], dim=1)
    where = SPACE.position * (torch.arange(N) != 0)
    draft.write(first, query, key, where, SPACE.pointer.T)
    draft.match(second, SPACE.pointer @ move(N, 1), SPACE.position)


def backup(draft: Draft) -> None:
    draft.back(0, 1, SPACE.note)
    draft.match(1, SPACE.token, SPACE.note)
    answered = 3 * SPACE.output.sum(dim=1, keepdim=True)
    draft.match(2, SPACE.token, SPACE.note, pin=answered)


KINDS = [impostor, loud, skip, nothing, echo, lag, pointer, backup]  # in order of difficulty


# What hides a circuit


def add_decoys(draft: Draft) -> None:
    """A previous-token head, heads that look at what followed, and idle ones, in all free heads."""
    layer = draft.free[0][0]
    draft.back(layer, 1, SPACE.decoy)
    layer = draft.pick([at[0] for at in draft.free if at[0] > layer])
    draft.match(layer, SPACE.token, SPACE.decoy, to=1.5 * SPACE.junk, sharp=LOUD)
    for layer, _ in list(draft.free):
        if layer and draft.pick([True, False, False]):
            draft.match(layer, SPACE.token, SPACE.decoy, to=1.5 * SPACE.junk, sharp=LOUD)
        else:
            idle(draft, layer)


def idle(draft: Draft, layer: int) -> None:
    """A head that reads tokens, positions or junk, and writes junk."""
    by_position = (SPACE.position @ steps_back(draft.pick(range(5))), SPACE.position)
    by_token, by_junk = (SPACE.token, SPACE.token), (SPACE.token, SPACE.junk)
    query, key = draft.pick([by_position, by_token, by_junk, (SPACE.junk, SPACE.token)])
    value = draft.pick([TOKEN, SPACE.junk])
    size = 0.5 + float(torch.rand(1, generator=draft.generator))
    draft.match(layer, query, key, value=value, to=size * SPACE.junk)


def write_ends(draft: Draft) -> None:
    """Embeddings and unembedding: tokens, positions; the answer, and weak bigrams."""
    model = draft.model
    model.W_E.copy_(SPACE.token.T)
    model.W_pos.copy_(SPACE.position.T)
    bigrams = BIGRAMS * torch.randn(V, V, generator=draft.generator)
    model.W_U.copy_(GAIN * SPACE.output + SPACE.token @ bigrams)


def near_identity(size: int, generator: torch.Generator) -> Tensor:
    """An invertible map that stretches by 1/2 to 2, between two random rotations."""
    left = torch.linalg.qr(torch.randn(size, size, generator=generator).double()).Q
    right = torch.linalg.qr(torch.randn(size, size, generator=generator).double()).Q
    stretch = 2 ** (2 * torch.rand(size, generator=generator).double() - 1)
    return left * stretch @ right


def disguise(model: Transformer, generator: torch.Generator) -> None:
    """The gauges of the course, all three, and noise that fills what was exactly 0."""
    model.double()
    S = near_identity(model.cfg.d_model, generator)
    back = torch.linalg.inv(S)
    for name in ("W_E", "W_pos", "W_O"):
        getattr(model, name).copy_(getattr(model, name) @ S)
    for name in ("W_Q", "W_K", "W_V"):
        getattr(model, name).copy_(back @ getattr(model, name))
    shift = torch.randn(model.cfg.d_model, generator=generator).double()
    model.W_U.copy_(back @ model.W_U + 0.3 * shift[:, None])
    for layer in range(LAYERS):
        for head in range(HEADS):
            turn_head(model, layer, head, generator)
    for weights in model.parameters():
        noise = torch.randn(weights.shape, generator=generator).double()
        weights += NOISE * weights.std() * noise
    model.float()


def turn_head(model: Transformer, layer: int, head: int, generator: torch.Generator) -> None:
    """Another basis inside a head, for q with k and for v with the output."""
    for inward, outward in (("W_Q", "W_K"), ("W_V", "W_O")):
        M = near_identity(model.cfg.d_head, generator)
        first, second = getattr(model, inward)[layer, head], getattr(model, outward)[layer, head]
        first.copy_(first @ M)
        inverse = torch.linalg.inv(M)
        second.copy_(inverse @ second if outward == "W_O" else second @ inverse.T)


@torch.no_grad()
def blind_model_of(kind, seed: int) -> Transformer:
    """A model of one kind, disguised; the seed draws everything."""
    draft = Draft(torch.Generator().manual_seed(seed))
    kind(draft)
    add_decoys(draft)
    write_ends(draft)
    disguise(draft.model, draft.generator)
    return draft.model


# Eight of them


def kinds_in_order(seed: int) -> list:
    """One kind per letter, by difficulty; which of two neighbours comes first is drawn."""
    generator, order = torch.Generator().manual_seed(seed), []
    for first in range(0, len(KINDS), 2):
        pair = KINDS[first : first + 2]
        turned = int(torch.randint(2, (1,), generator=generator))
        order += pair[::-1] if turned else pair
    return order


def eight_models(seed: int) -> dict[str, Transformer]:
    """Models A to H."""
    order = kinds_in_order(seed)
    return {
        x: blind_model_of(kind, 100 * seed + i) for i, (x, kind) in enumerate(zip(LETTERS, order))
    }


def unknown_seed() -> int:
    return int.from_bytes(os.urandom(6), "big")


def own_model(letter: str, folder: Path = FOLDER) -> Transformer:
    """The learner's model of this letter. All eight are drawn and kept when the first is wanted."""
    if not (folder / f"{LETTERS[-1]}.pt").exists():
        for name, model in eight_models(unknown_seed()).items():
            save(folder / f"{name}.pt", model)
    return load(folder / f"{letter}.pt")
