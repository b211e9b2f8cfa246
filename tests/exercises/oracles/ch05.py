"""What chapter 5 is checked against: scores by loops, patterns of perfect heads, models whose heads
have a fixed offset.
"""

from dataclasses import replace

import torch
from torch.nn.functional import one_hot

from minitransformer import Transformer, planted
from minitransformer.data import random_tokens, repeated_tokens
from minitransformer.evaluate import attention
from tests.material import seeded


def counted_by_loops(pattern, tokens, wanted, everyone=False, by_row=False, shared=False):
    """The definition: attention on the wanted keys j of row i, mean over the queries that have one.

    everyone: over all queries. by_row: the mean of each sequence first. shared: the attention of a
    query is averaged over its keys, not added up.
    """
    total = torch.zeros(tokens.shape[0], pattern.shape[1]).to(pattern)
    count = torch.zeros(len(tokens), 1)
    for b, row in enumerate(tokens.tolist()):
        for i in range(len(row)):
            keys = [j for j in wanted(row, i) if 0 <= j <= i]
            each = pattern[b, :, i, keys].sum(dim=-1)
            total[b] += each / max(1, len(keys)) if shared else each
            count[b] += bool(keys) or everyone
    return (total / count).mean(dim=0) if by_row else total.sum(dim=0) / count.sum()


def by_definition(wanted, flip=False, **options):
    """A score of (pattern, tokens) or (pattern): wanted(row, i) lists the keys that query i ought
    to look at. flip: with query and key exchanged.
    """

    def score(pattern, tokens=None):
        if tokens is None:
            tokens = torch.zeros(pattern.shape[0], pattern.shape[-1])
        pattern = pattern.transpose(-1, -2) if flip else pattern
        return counted_by_loops(pattern, tokens, wanted, **options)

    return score


def at(offset, first=1):
    """The key `offset` back, for the queries from `first` on."""
    return lambda row, i: [i - offset] if i >= first else []


def copies(row, i):
    return [j for j in range(i) if row[j] == row[i]]


def followers(row, i):
    return [j + 1 for j in copies(row, i)]


def bos(row, i):
    return [0] if i else []


PREVIOUS = by_definition(at(1))
CURRENT = by_definition(at(0))
FIRST = by_definition(bos)
DUPLICATE = by_definition(copies)
MATCHING = by_definition(followers)


# Patterns of perfect heads, and of two impostors, on sequences whose periods differ. The first
# sequence has period 10: that is the one which fools a fixed diagonal.

TEN = repeated_tokens(1, 26, 40, (10, 10), seeded(1)).tokens
OTHERS = repeated_tokens(20, 26, 40, (6, 13), seeded(1)).tokens
MIXED = torch.cat([TEN, OTHERS])


def perfect_head(wanted, strength=1.0):
    """[batch, query, key]: looks evenly at the wanted keys with `strength`, and rests on BOS."""
    pattern = torch.zeros(*MIXED.shape, MIXED.shape[1]).double()
    for b, row in enumerate(MIXED.tolist()):
        for i in range(len(row)):
            keys = [j for j in wanted(row, i) if 0 <= j <= i]
            pattern[b, i, 0] += 1 - strength * bool(keys)
            pattern[b, i, keys] += strength / max(1, len(keys))
    return pattern


PERFECT = {"previous token": at(1), "current token": at(0), "first token": lambda row, i: [0]}
PERFECT |= {"duplicate token": copies, "induction": followers, "offset 9": at(9, 9)}
HEADS = [*PERFECT, "offset 9, .93"]
WEAKER = perfect_head(at(9, 9), strength=0.93)
LINE_UP = torch.stack([*map(perfect_head, PERFECT.values()), WEAKER], dim=1)


# The long way, and the detector


def lengths_key_by_key(model, tokens):
    """The long way: let one key through, run the model, measure what each head writes then."""
    columns = []
    for key in range(tokens.shape[1]):
        only = one_hot(torch.tensor(key), tokens.shape[1]).double()
        hook = ("blocks.0.attn.hook_pattern", lambda pattern, hook, only=only: pattern * only)
        _, cache = model.run_with_cache(tokens, fwd_hooks=[hook])
        written = cache["blocks.0.attn.hook_result"]  # batch query head d_model
        columns.append(written.norm(dim=-1).transpose(1, 2))
    return torch.stack(columns, dim=-1)


SCORES = {"previous_token": PREVIOUS, "current_token": CURRENT, "first_token": FIRST}
SCORES |= {"duplicate_token": DUPLICATE, "induction": MATCHING}
ROLES = tuple(SCORES)


def blocks(low=4, high=2):
    """Sequences of repeated blocks for a model: periods from n / low to n / high tokens."""

    def draw(model):
        n, d_vocab = min(model.cfg.n_ctx, model.cfg.d_vocab), model.cfg.d_vocab
        periods = max(1, n // low), max(1, n // high)
        return repeated_tokens(4, n, d_vocab, periods, seeded(2)).tokens

    return draw


def period_10(model):
    n = min(model.cfg.n_ctx, model.cfg.d_vocab)
    return repeated_tokens(4, n, model.cfg.d_vocab, (10, 10), seeded(2)).tokens


def alone(model):
    """Independent tokens: some repeat, without their neighbours."""
    n, d_vocab = min(model.cfg.n_ctx, model.cfg.d_vocab), model.cfg.d_vocab
    return random_tokens(8, n, min(d_vocab, 2 * n), seeded(2))


def two_kinds_of_tokens(model):
    """Independent tokens again, so few that any key may follow a copy."""
    return random_tokens(8, model.cfg.n_ctx, 3, seeded(2))


def scores_of(model, tokens, weigh=False):
    """role -> (layer, head) -> its score on these tokens.

    weigh: by the length of what is moved, relative to the longest.
    """
    scores = {role: {} for role in ROLES}
    for layer, pattern in enumerate(attention(model, tokens)):
        if weigh:
            pattern = pattern * value_lengths(model, tokens, layer)
        for role, score in SCORES.items():
            for head, value in enumerate(score(pattern, tokens).tolist()):
                scores[role][layer, head] = value
    return scores


def detector(
    draw=alone, order=-1, best_only=False, threshold=0.5, flip=1, weigh=False, layers=slice(None)
):
    """find_heads with one thing changed, by loops over heads and the scores of this file.

    draw: the sequences. order -1: best first, 1: worst first, 0: as the model has them. flip -1:
    pairs (head, layer). layers: those that are looked at.
    """

    def find(model):
        found = {}
        looked_at = range(model.cfg.n_layers)[layers]
        for role, values in scores_of(model, draw(model), weigh).items():
            heads = [at for at in values if values[at] > threshold and at[0] in looked_at]
            ranked = sorted(heads, key=lambda at: order * values[at])
            pairs = [at[::flip] for at in ranked]
            found[role] = pairs[:1] if best_only else pairs
        return found

    return find


def one_role_each(model):
    """Every head under its best role only."""
    scores = scores_of(model, alone(model))
    found = {role: [] for role in ROLES}
    for at in scores["induction"]:
        best = max(ROLES, key=lambda role: scores[role][at])
        if scores[best][at] > 0.5:
            found[best].append(at)
    return found


def without_a_seed(model):
    """Sequences drawn anew at each call, without a seed."""
    generator = torch.Generator()
    generator.seed()
    n = min(model.cfg.n_ctx, model.cfg.d_vocab)
    return random_tokens(8, n, min(model.cfg.d_vocab, 2 * n), generator)


def value_lengths(model, tokens, layer):
    """[batch, head, 1, key]: the length of each value, relative to the longest of the layer."""
    _, cache = model.run_with_cache(tokens)
    lengths = cache[f"blocks.{layer}.attn.hook_v"].norm(dim=-1).mT  # batch head key
    return (lengths / lengths.max())[:, :, None]


@torch.no_grad()
def with_idle_layers(model, before=0, after=0):
    """The same model with layers before and after its own whose heads attend evenly and write
    nothing.
    """
    n_layers = before + model.cfg.n_layers + after
    other = Transformer(replace(model.cfg, n_layers=n_layers))
    for name, value in other.named_parameters():
        own = model.get_parameter(name)
        if name in ("W_Q", "W_K", "W_V", "W_O"):
            value.zero_()
            value[before : before + len(own)] = own
        else:
            value.copy_(own)
    return other


@torch.no_grad()
def undecided_model():
    """The hand-built circuit, whose induction head now leaves .45 of its attention on BOS where
    its token stood once before. It earns both roles, induction and first_token.
    """
    model = planted.induction_model()
    space = planted.induction_spaces(model.cfg.d_vocab, model.cfg.n_ctx)
    as_good = 1 - torch.tensor(0.55 / 0.45).log() / planted.SHARPNESS  # nearly as good as a match
    model.W_E[0] += (as_good - planted.REST) * space.previous.sum(dim=1)
    return model


def offset_model(*heads, n_ctx=28):
    """One layer; each head is a pair (offset, sharpness): how far back it looks, and by how much
    that beats all else.
    """
    space = planted.subspaces(token=n_ctx, position=n_ctx)
    sizes = {"d_model": 2 * n_ctx, "d_head": n_ctx, "d_vocab": n_ctx, "n_ctx": n_ctx}
    model = planted.blank_model(n_layers=1, n_heads=len(heads), **sizes)
    with torch.no_grad():
        model.W_E.copy_(space.token.T)
        model.W_pos.copy_(space.position.T)
    for head, (offset, sharpness) in enumerate(heads):
        query = space.position @ planted.move(n_ctx, -offset) * (sharpness / planted.SHARPNESS)
        planted.write_head(model, 0, head, query, space.position, space.token, space.token.T)
    return model
