# %% [markdown]
# # 2. What is written where?
#
# 30 minutes to read, 95 with the exercises. Afterwards you can take the residual stream apart into
# who wrote what, say which part of the model sees which part of the stream, and tell a remarkable
# angle from an ordinary one. Not covered: which tokens the parts make more likely (chapter 6),
# composition scores (chapter 8).
#
# **The question.** All heads write into the same 64 numbers, and all heads read from them. Token,
# previous token, answer: how does this not end in a muddle?
#
# Some names. Beside our model stand a model **set by hand**, which works as we chose, and an
# **untrained** one with random weights. The **previous-token head** is the head of layer 0 that
# attends most to the token just before; the **induction head** is the head of layer 1 that attends
# most to what followed an earlier copy of the current token (chapter 5).
#
# ## One stream, one sum
# Nothing in the model ever erases. The embedding is put into the stream and every head adds to it.
# So at any position the final stream *is* a sum: `embed + head 0.0 + head 0.1 + ... + head 1.3`.
# There is no term for the position: this model tells positions only to q and k.
#
# **Exercise `residual_decomposition`** (15 minutes). *Predict:* is the length of the stream the sum
# of the lengths of its terms?

# %%
import torch

from course.desk import claim, claim_rate, show, the_model
from course.pictures import ch02 as pictures
from minitransformer.evaluate import head_scores, held_out
from minitransformer.planted import induction_model
from solutions.ch02_residual_stream import (
    angle_table,
    interference,
    logits_moved,
    principal_angles,
    random_rows,
    read_back,
    read_tokens,
    residual_decomposition,
    right_without,
    strongest_directions,
    subspace_overlap,
    typical_angle,
    with_rotated_head,
)
from solutions.ch06_logit_attribution import shift_unembedding
from solutions.ch08_composition import stretch_stream, with_weights

torch.set_grad_enabled(False)
model = the_model()
repeats = held_out(model, periods=(12, 12), batch=256, prefix=3)
logits, cache = model.run_with_cache(repeats.tokens)
labels, parts = residual_decomposition(cache)  # component batch pos d_model
stream = cache["blocks.1.hook_resid_post"]  # batch pos d_model
lengths = parts.norm(dim=-1)  # component batch pos
unit = (parts / lengths[..., None]).flatten(1)
cosines = unit @ unit.T / lengths[0].numel()
means = lengths.mean(dim=1), stream.norm(dim=-1).mean(dim=0)
show(pictures.draw_river(labels, *means, cosines), "river")
difference = parts.sum(dim=0) - stream
claim("largest difference between their sum and the stream", difference.abs().max(), high=1e-4)
share = stream[:, 16:31].norm(dim=-1).mean() / lengths[:, :, 16:31].sum(dim=0).mean()
claim("length of the stream / that of its parts, summed", share, low=0.4, high=0.65, measured=0.517)
louder = lengths[5:, :, 16:31].mean() / lengths[5:, :, :15].mean()
claim("layer 1's heads in the repeat, times as long as before", louder, low=5, measured=11.1)

# %% [markdown]
# The decomposition is exact; it is bookkeeping, not a theory. The picture shows who is loud, and
# being loud is not being important. Nor do lengths add up: the parts point in different directions,
# and together they are half as long as the sum of their lengths.
#
# ## What must not be read into a head
# *Route `core`: on to chapter 3.*
#
# A tempting measurement is "this head has long queries, so it cares a lot". *Predict:* multiply
# `W_Q` of a head by 10 and divide its `W_K` by 10. What changes? **Exercise `rotate_head`** (15
# minutes): the general form, any invertible `M`.

# %%
scores = head_scores(model, repeats)
previous = int(scores.previous_token[0].argmax())  # the head of layer 0
best = int(scores.induction[1].argmax())  # the head of layer 1
M = 3 * torch.eye(16) + torch.randn(16, 16, generator=torch.Generator().manual_seed(0)) / 4
rotated = with_rotated_head(model, (0, previous), M)
logits_rotated, cache_rotated = rotated.run_with_cache(repeats.tokens)
before = cache["blocks.0.attn.hook_q"][:8, :, previous].norm(dim=-1)  # batch pos
after = cache_rotated["blocks.0.attn.hook_q"][:8, :, previous].norm(dim=-1)
longer = after.mean() / before.mean()
claim("queries are longer by a factor of", longer, low=2.5, high=3.8, measured=3.39)
claim("largest change of any logit", (logits_rotated - logits).abs().max(), high=2e-3)
same = subspace_overlap(model.W_Q[0, previous].T, rotated.W_Q[0, previous].T)
claim("overlap of the directions the query reads, before and after", same, low=0.9999, high=1.0001)

# %% [markdown]
# The lengths of q and k are an accident of bookkeeping: such a change of weights, which changes no
# probability, is called a *gauge*. This one can make the lengths anything. What survives it is the
# **subspace** that a head reads, here 16 of the 64 directions. So let us compare subspaces.
#
# ## Angles
# Two planes in space meet at an angle. Two 16-dimensional subspaces have 16 *principal angles*: the
# smallest angle between any vector of one and any of the other, then the smallest among what is
# left, and so on.
#
# **Exercise `principal_angles`** (15 minutes), then **`subspace_overlap`** (10 minutes), which
# makes them one number. The previous-token head takes a token from the stream and writes it back
# one position later. *Predict:* if the smallest angle between where it reads and where it writes is
# 42°, is that large?

# %%
reads, writes = model.W_V[0, previous].T, model.W_O[0, previous]  # both [16, 64]
pairs = [(random_rows(2 * seed), random_rows(2 * seed + 1)) for seed in range(100)]
chance = torch.stack([principal_angles(one, other) for one, other in pairs])
planted = induction_model()
by_hand = principal_angles(planted.W_V[0, 0].T, planted.W_O[0, 0])
own = principal_angles(reads, writes)
to_keys = principal_angles(writes, model.W_K[1, best].T)
to_queries = principal_angles(writes, model.W_Q[1, best].T)
lines = {
    "set by hand: where it reads and writes": by_hand[:16],
    f"head 0.{previous}: where it reads and writes": own,
    f"where 0.{previous} writes, and the keys of 1.{best}": to_keys,
    f"where 0.{previous} writes, and the queries of 1.{best}": to_queries,
}
show(pictures.draw_angles(lines, chance), "angles")
claim("smallest angle, reads against writes (degrees)", own[0], low=32, high=50, measured=42.1)
random = chance[:, 0].mean()
claim("smallest angle of two random subspaces, on average", random, low=32, high=36, measured=33.7)
claim("smallest angle, set by hand", by_hand[0], low=90, high=90)
anything = principal_angles(model.W_E, random_rows(0))
claim("largest angle between the 65 token vectors and 16 random ones", anything[-1], high=0.01)

# %% [markdown]
# Two traps. Even random subspaces of this size come within 34° of each other: an angle must be
# compared with chance. And the token vectors span *all* dimensions of the stream, so the angle
# between "the token subspace" and anything is 0.
#
# So for tokens, positions and output we take the 16 strongest directions, and say how much they
# hold:

# %%
for name, rows, share in (
    ("tokens", model.W_E, 0.71),
    ("positions", model.W_pos, 0.928),
    ("output", model.W_U.T, 0.8),
):
    kept = (rows @ strongest_directions(rows, 16).float().T).square().sum() / rows.square().sum()
    claim(f"{name}: share of squared length in 16 directions", kept, low=0.6, measured=share)
overlap = subspace_overlap(reads, writes)
text = "overlap, where the previous-token head reads and writes"
claim(text, overlap, high=0.217, measured=0.154)
random = chance.deg2rad().cos().square().mean(dim=1)
claim("100 random pairs: mean overlap", random.mean(), low=0.24, high=0.26, measured=0.248)
claim("100 random pairs: smallest overlap", random.min(), low=0.217, measured=0.218)

# %% [markdown]
# So the previous-token head writes to a *different* subspace than it reads from: less overlap than
# any of 100 random pairs, yet far from 0.
#
# Now all that writes against all that reads. 60° is chance, since cos² 60° = .25; blank means that
# the reader never gets it. *Predict:* layer 1 must find "the position whose *previous* token is my
# *current* token". Which of its readers, q, k, v, should see the tokens, and which the
# previous-token head?

# %%
table, additive = angle_table(model), angle_table(the_model("additive"))
tables = {"the course's model": table, "positions added to the stream": additive}
show(pictures.draw_angle_tables(tables, labels[1:]), "who_reads_whom")
apart = typical_angle(strongest_directions(model.W_E, 16), [strongest_directions(model.W_pos, 16)])
claim("tokens and positions (degrees)", apart, low=64, measured=69.1)
claim("tokens and the queries of layer 1", table[0, 3], low=25, high=40, measured=32.6)
claim("tokens and the keys of layer 1", table[0, 4], low=66, measured=73)
from_queries, from_keys = table[2 + previous, 3], table[2 + previous, 4]
claim("previous-token head and the queries of layer 1", from_queries, low=66, measured=76.8)
claim("previous-token head and the keys of layer 1", from_keys, low=30, high=48, measured=38.9)
apart = additive[1, 5]
claim("positions in the stream, and the values of layer 1", apart, low=64, measured=68.9)

# %% [markdown]
# The same 64 dimensions, used as several channels. The token stands in one; layer 0 puts the
# previous token in another; queries look at the first and keys at the second. Where positions *are*
# added to the stream, they get a channel that the values of layer 1 avoid.
#
# ## What orthogonal buys
# If a reader is orthogonal to a writer, it cannot notice it. At 90° that is exact. At 76° it is a
# hope. So test it: take what layer 0 wrote away from *one* kind of reader in layer 1, leave it to
# the others, and count right predictions. *Predict:* chapter 1 removed layer 0 for everybody, and
# the model was lost. Who needed it?

# %%
mixed = held_out(model, periods=(1, 16), batch=256)
_, cache_mixed = model.run_with_cache(mixed.tokens)
token, layer_0 = cache_mixed["hook_embed"], cache_mixed["blocks.0.hook_attn_out"]
turn = torch.linalg.qr(random_rows(0, 64))[0]  # a random rotation of the whole stream
hidden = {"the token": token, "the token,\nturned at random": token @ turn}
hidden |= {"what layer 0 wrote": layer_0, "what layer 0 wrote,\nturned at random": layer_0 @ turn}
readers = {"q": "queries", "k": "keys", "v": "values", "output": "output"}
right = torch.zeros(len(hidden), len(readers), len(mixed.tokens))  # hidden reader prompt
for row, what in enumerate(hidden.values()):
    for column, reader in enumerate(readers):
        right[row, column] = right_without(model, mixed, reader, what)
show(pictures.draw_hidden(right.mean(dim=-1), hidden, readers.values()), "hidden")
claim_rate("layer 0 hidden from the queries: right", right[2, 0], low=0.97, measured=1)
claim_rate("layer 0 hidden from the values", right[2, 2], low=0.97, measured=1)
claim_rate("control, hidden from the queries", right[3, 0], high=0.96, measured=0.867)
claim_rate("control, hidden from the values", right[3, 2], high=0.96, measured=0.888)

# %% [markdown]
# Each row needs the control below it. Layer 0 hidden from queries or values does no harm, although
# random directions of the same length do: these readers really look elsewhere.

# %%
claim_rate("layer 0 hidden from the keys", right[2, 1], high=0.2, measured=0.033)
claim_rate("control, hidden from the keys", right[3, 1], low=0.95, measured=1)
claim_rate("the token hidden from the queries", right[0, 0], high=0.2, measured=0.0333)
claim_rate("the token hidden from the values", right[0, 2], high=0.2, measured=0.0442)
worst = right[1].mean(dim=-1).min()
claim("control for the token, the worst of the four", worst, low=0.95, measured=0.998)

# %% [markdown]
# Layer 0 hidden from the keys is fatal, although random directions are not: here it is needed. The
# token is needed by queries and values. But that keys and output do without the token shows
# nothing, for they do without anything of that size.
#
# And "right" is a coarse measure. *Predict:* with layer 0 hidden from the queries, by how much do
# the logits move, next to the model set by hand? In the repeat, and before it?

# %%
planted = induction_model(d_vocab=40)
by_hand = logits_moved(planted, held_out(planted, periods=(1, 16), batch=64), "q")
claim("set by hand: typical change of a logit, anywhere", max(by_hand), low=0, high=0)
repeat, elsewhere = logits_moved(model, mixed, "q")
claim("trained, in the repeat (share of the logits' spread)", repeat, high=0.2, measured=0.0447)
claim("trained, elsewhere", elsewhere, low=0.35, measured=0.97)

# %% [markdown]
# Set by hand: nothing. Trained: a little in the repeat, and a lot elsewhere, where nothing can be
# predicted. "The queries ignore layer 0" is true for the task that we measured, and no further.
#
# ## More features than dimensions
# At one position the stream may have to say which of 64 tokens is here, which came before, and
# which comes next: 192 directions in 64 dimensions. They cannot all be orthogonal. **Exercise
# `interference`** (10 minutes): how much they get in each other's way. In the table, heads are
# ranked: 1 looks one back most, 4 least.

# %%
now, following = model.W_E[1:], model.W_U.T[1:]  # 64 rows each, BOS left out
last = now @ model.W_V[0, previous] @ model.W_O[0, previous]
clutter = interference(torch.cat([now, last, following]))
claim("interference of the 192 directions", clutter, low=0.11, high=0.17, measured=0.138)
random = interference(random_rows(0, 192))
claim("of 192 random directions", random, low=0.12, high=0.13, measured=0.126)
found = read_tokens(model, repeats)
print("\n  read with the directions of           current token  previous token")
for name, (of_current, of_previous) in found.items():
    print(f"  {name:38} {of_current:12.1%} {of_previous:15.1%}")


def read_through(rank):
    """A function of a model: how often the previous token is read through this head of layer 0."""
    name = f"tokens moved by head {rank} of layer 0"
    return lambda model: read_tokens(model, repeats)[name][1]


claim("current token, read with the token directions", found["tokens"][0], low=0.98, measured=1)
most, least = read_through(1), read_through(4)
claim("previous token, through head 1", most(model), low=0.9, measured=1, untrained=most)
claim("previous token, through head 4", least(model), low=0.1, measured=0.383, untrained=least)
random = max(found[f"tokens moved by a random head ({seed})"][1] for seed in range(3))
claim("previous token, through the best of three random heads", random, high=0.08)

# %% [markdown]
# No better than random. And yet plain dot products read both tokens off one vector, with two sets
# of directions. But do not say that the second set belongs to the previous-token head. Read through
# any other head, even the one that hardly looks there, the previous token is found far more often
# than through a random or untrained one: the heads of a layer move tokens in partly the same
# directions.
#
# Why is it possible? Because few of the 192 are present at once. Each adds a little noise to
# reading the others. So the limit is on how many are *active*, much less on how many *exist*.
# Random directions show it:

# %%
sizes = [2**power for power in range(5, 13)]
shares = {active: [read_back(n, active) for n in sizes] for active in (1, 3, 8, 24)}
show(pictures.draw_bandwidth(sizes, shares), "bandwidth")
claim("4096 directions, 3 active", read_back(4096, 3), low=0.9, high=1, measured=0.963)
claim("192 directions, 24 active", read_back(192, 24), high=0.75, measured=0.555)

# %% [markdown]
# ## Optional: three changes that nobody sees
# A model has three gauges.
# - **Rotation** of a head's inner space: you did that.
# - **u**: add one vector to every column of `W_U` (chapter 6). At each position all logits move by
#   the same number, and softmax does not see it.
# - **S**: put any invertible matrix behind all that writes into the stream, and its inverse in
#   front of all that reads from it (chapter 8).
#
# A number that moves under one of them depends on how the weights were written down. *Predict:*
# which numbers of this chapter survive all three?


# %%
def numbers(model):
    """What this chapter measured on a model."""
    logits, seen = model.run_with_cache(repeats.tokens)
    _, seen_mixed = model.run_with_cache(mixed.tokens)
    written = seen_mixed["blocks.0.hook_attn_out"]
    query, stream = seen["blocks.0.attn.hook_q"], seen["blocks.1.hook_resid_post"]
    hidden_keys = right_without(model, mixed, "k", written)
    control = right_without(model, mixed, "q", written @ turn)
    return {
        "length of a query": query[:, :, previous].norm(dim=-1).mean(),
        "logit of the right token": logits[:, :-1].gather(2, repeats.tokens[:, 1:, None]).mean(),
        "length of the stream": stream.norm(dim=-1).mean(),
        "tokens and the queries of layer 1 (degrees)": angle_table(model)[0, 3],
        "current token read by dot products": read_tokens(model, repeats)["tokens"][0],
        "control, hidden from the queries": control.mean(),
        "layer 0 hidden from the keys": hidden_keys.mean(),
        "right next tokens": right_without(model, mixed, "q", 0 * written).mean(),
    }


weights = dict(model.named_parameters())
some = strongest_directions(random_rows(1)).float()
S = torch.eye(64) + 9 * some.T @ some  # stretches 16 random directions by 10
u = 0.3 * random_rows(5, 1)[0]
gauges = {
    "as trained": model,
    "rotation": rotated,
    "u": with_weights(model, weights | {"W_U": shift_unembedding(model.W_U, u)}),
    "S": with_weights(model, stretch_stream(weights, S)),
}
table = {name: numbers(other) for name, other in gauges.items()}
print(" " * 46 + "".join(f"{name:>11}" for name in gauges))
for name in table["as trained"]:
    values = [float(table[gauge][name]) for gauge in gauges]
    print(f"  {name:44}" + "".join(f"{value:11.3g}" for value in values))
moved = {name: other(repeats.tokens) for name, other in gauges.items()}
angles = angle_table(model), angle_table(gauges["S"])
show(pictures.draw_gauges((before, after), moved, angles), "gauges")
probabilities = torch.stack([logits.softmax(-1) for logits in moved.values()])
largest = (probabilities - probabilities[0]).abs().max()
claim("largest change of any probability, all three", largest, high=1e-3)
change = (moved["u"] - moved["as trained"]).square().mean().sqrt()
claim("u: change of the logits (root mean square)", change, low=0.5)
stretched, trained = table["S"], table["as trained"]
name = "tokens and the queries of layer 1 (degrees)"
claim("S: tokens and the queries of layer 1 (degrees)", stretched[name], low=60)
name = "control, hidden from the queries"
claim("S: the control, right next tokens", stretched[name], high=0.5)
name = "layer 0 hidden from the keys"
change = (stretched[name] - trained[name]).abs()
claim("S: change of the share right, layer 0 hidden from keys", change, high=0.005)

# %% [markdown]
# Lengths, angles and dot products within the stream move under S, and it is the same model. What a
# reader receives from a writer, `W_O W_Q`, does not: hiding layer 0 from the keys does the same
# harm. So believe the hiding; angles say where to try it. But "random directions *of the same
# length*" is no gauge-free control: in the stretched stream they do far more harm.
#
# ## What you have now
# - The stream as an exact sum; long does not mean important.
# - Three gauges, and a question for every number: would it survive them?
# - Three channels: the token for queries and values of layer 1, what layer 0 wrote for its keys,
#   the answer for the output.
# - Controls: random subspaces, random directions, other heads, a model set by hand.
#
# Next: when do these channels appear, and how suddenly? `python -m course 3`.
