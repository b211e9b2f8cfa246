"""What chapter 5 is checked against: scores by loops, patterns of perfect heads, models whose heads
have a fixed offset.
"""

import torch
from torch.nn.functional import one_hot

from minitransformer import planted
from minitransformer.data import repeated_tokens
from minitransformer.evaluate import attention


def counted_by_loops(pattern, tokens, wanted, everyone=False, by_row=False):
    """The definition: attention on the wanted keys j of row i, mean over the queries that have one
    (or over everyone).
    """
    total, count = (
        torch.zeros(tokens.shape[0], pattern.shape[1]).to(pattern),
        torch.zeros(len(tokens), 1),
    )
    for b, row in enumerate(tokens.tolist()):
        for i in range(len(row)):
            keys = [j for j in wanted(row, i) if 0 <= j <= i]
            total[b] += pattern[b, :, i, keys].sum(dim=-1)
            count[b] += bool(keys) or everyone
    return (total / count).mean(dim=0) if by_row else total.sum(dim=0) / count.sum()


def by_definition(wanted, flip=False, **options):
    """A score (pattern, tokens) or (pattern): `wanted(row, i)` lists the keys that query i ought to
    look at.
    """

    def score(pattern, tokens=None):
        tokens = torch.zeros(pattern.shape[0], pattern.shape[-1]) if tokens is None else tokens
        return counted_by_loops(
            pattern.transpose(-1, -2) if flip else pattern, tokens, wanted, **options
        )

    return score


def at(offset, first=1):
    return lambda row, i: [i - offset] if i >= first else []


def copies(row, i):
    return [j for j in range(i) if row[j] == row[i]]


def followers(row, i):
    return [j + 1 for j in copies(row, i)]


PREVIOUS, CURRENT, FIRST = (
    by_definition(at(1)),
    by_definition(at(0)),
    by_definition(lambda row, i: [0] if i else []),
)
DUPLICATE, MATCHING = by_definition(copies), by_definition(followers)


def with_later(pattern, tokens, shift):
    """The attention is right, but queries that have only a later copy are counted too."""
    same = (tokens[:, :, None] == tokens[:, None, :]) & ~torch.eye(
        tokens.shape[1], dtype=torch.bool
    )
    on_keys = (pattern * same.roll(shift, -1)[:, None].tril()).sum(dim=(0, 2, 3))
    return on_keys / same.any(dim=-1).sum()


def fixed_diagonal(pattern, tokens):
    """The classic detector: it takes the period from the first sequence and reads one diagonal."""
    row = tokens[0].tolist()
    period = next((i - copies(row, i)[0] for i in range(len(row)) if copies(row, i)), 1)
    return pattern.diagonal(1 - period, dim1=-2, dim2=-1).mean(dim=(0, -1))


# Patterns of perfect heads, and of two impostors, on sequences whose periods differ

MIXED = torch.cat(  # the first sequence has period 10: that is the one which fools a fixed diagonal
    [
        repeated_tokens(rows, 26, 40, periods, torch.Generator().manual_seed(1)).tokens
        for rows, periods in ((1, (10, 10)), (20, (6, 13)))
    ]
)


def perfect_head(wanted, rest=0, strength=1.0):
    """[batch, query, key]: looks evenly at the wanted keys with `strength`, at the key `rest`
    otherwise.
    """
    pattern = torch.zeros(*MIXED.shape, MIXED.shape[1]).double()
    for b, row in enumerate(MIXED.tolist()):
        for i in range(len(row)):
            keys = [j for j in wanted(row, i) if 0 <= j <= i]
            pattern[b, i, rest] += 1 - strength * bool(keys)
            pattern[b, i, keys] += strength / max(1, len(keys))
    return pattern


HEADS = [
    "previous token",
    "current token",
    "first token",
    "duplicate token",
    "induction",
    "offset 9",
    "offset 9, .93",
]
WANTED = [at(1), at(0), lambda row, i: [0], copies, followers, at(9, 9)]
LINE_UP = torch.stack([*map(perfect_head, WANTED), perfect_head(at(9, 9), strength=0.93)], dim=1)


# The long way, and the detector


def lengths_key_by_key(model, tokens):
    """The long way: let only one key through, run the model, and measure what each head then
    writes.
    """
    columns = []
    for key in range(tokens.shape[1]):
        only = one_hot(torch.tensor(key), tokens.shape[1]).double()
        hook = ("blocks.0.attn.hook_pattern", lambda pattern, hook, only=only: pattern * only)
        _, cache = model.run_with_cache(tokens, fwd_hooks=[hook])
        # batch head query
        columns.append(cache["blocks.0.attn.hook_result"].norm(dim=-1).transpose(1, 2))
    return torch.stack(columns, dim=-1)


ROLES = ("previous_token", "current_token", "first_token", "duplicate_token", "induction")


def detector(
    periods=lambda n: (n // 4, n // 2), length=min, order=-1, best_only=False, threshold=0.5, flip=1
):
    """find_heads with one thing changed, by loops over heads and the scores of this file."""

    def find(model):
        n = length(model.cfg.n_ctx, model.cfg.d_vocab)
        generator = torch.Generator().manual_seed(2)
        tokens = repeated_tokens(4, n, model.cfg.d_vocab, periods(n), generator).tokens
        found = {role: [] for role in ROLES}
        for layer, pattern in enumerate(attention(model, tokens)):
            for role, score in zip(ROLES, (PREVIOUS, CURRENT, FIRST, DUPLICATE, MATCHING)):
                found[role] += [
                    (s, (layer, head))
                    for head, s in enumerate(score(pattern, tokens).tolist())
                    if s > threshold
                ]
        ranked = {
            role: sorted(heads, key=lambda pair: order * pair[0]) for role, heads in found.items()
        }
        return {
            role: [at[::flip] for _, at in heads[: 1 if best_only else None]]
            for role, heads in ranked.items()
        }

    return find


def offset_model(*heads, n_ctx=28):
    """One layer; each head is a pair (offset, sharpness): how far back it looks, and by how much
    that beats all else.
    """
    space = planted.subspaces(token=n_ctx, position=n_ctx)
    model = planted.blank_model(
        n_layers=1, n_heads=len(heads), d_model=2 * n_ctx, d_head=n_ctx, d_vocab=n_ctx, n_ctx=n_ctx
    )
    with torch.no_grad():
        model.W_E.copy_(space.token.T)
        model.W_pos.copy_(space.position.T)
    for head, (offset, sharpness) in enumerate(heads):
        query = space.position @ planted.move(n_ctx, -offset) * (sharpness / planted.SHARPNESS)
        planted.write_head(model, 0, head, query, space.position, space.token, space.token.T)
    return model
