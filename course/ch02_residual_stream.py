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
# ## One stream, one sum
# Nothing in the model ever erases. The embedding is put into the stream and every head adds to it.
# So at any position the final stream *is* a sum: `embed + head 0.0 + head 0.1 + ... + head 1.3`.
# There is no term for the position: this model tells positions only to q and k.
#
# **Exercise `residual_decomposition`** (15 minutes). *Predict:* is the length of the stream the sum
# of the lengths of its terms?

# %%
import torch

from course.desk import claim, show, the_model
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
    residual_decomposition,
    right_without,
    stretch_stream,
    strongest_directions,
    subspace_overlap,
    typical_angle,
    with_rotated_head,
)

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
shorter = stream[:, 16:31].norm(dim=-1).mean() / lengths[:, :, 16:31].sum(dim=0).mean()
claim(
    "length of the stream / summed length of its parts", shorter, low=0.4, high=0.65, measured=0.517
)
louder = lengths[5:, :, 16:31].mean() / lengths[5:, :, :15].mean()
claim("layer 1's heads in the repeat, times as long as before", louder, low=5, measured=11.1)

# %% [markdown]
# The decomposition is exact; it is bookkeeping, not a theory. The picture shows who is loud, and
# being loud is not being important. Nor do lengths add up as the bands suggest: the parts point in
# different directions, and together they are only half as long as the sum of their lengths.
#
# ## What must not be read into a head
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
show(pictures.draw_gauge((before, after), (logits[:8, 20], logits_rotated[:8, 20])), "gauge")
longer = after.mean() / before.mean()
claim("queries are longer by a factor of", longer, low=2.5, high=3.8, measured=3.39)
claim("largest change of any logit", (logits_rotated - logits).abs().max(), high=2e-3)
same = subspace_overlap(model.W_Q[0, previous].T, rotated.W_Q[0, previous].T)
claim("overlap of the directions the query reads, before and after", same, low=0.9999, high=1.0001)

# %% [markdown]
# The lengths of q and k are an accident of bookkeeping: this *gauge* freedom can make them
# anything. What survives is the **subspace** that a head reads, here 16 of the 64 directions. So
# let us compare subspaces.
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
    "built by hand: where it reads and writes": by_hand[:16],
    f"head 0.{previous}: where it reads and writes": own,
    f"where 0.{previous} writes, and the keys of 1.{best}": to_keys,
    f"where 0.{previous} writes, and the queries of 1.{best}": to_queries,
}
show(pictures.draw_angles(lines, chance), "angles")
claim("smallest angle, reads against writes (degrees)", own[0], low=32, high=50, measured=42.1)
random = chance[:, 0].mean()
claim("the same for two random subspaces, on average", random, low=32, high=36, measured=33.7)
claim("built by hand", by_hand[0], low=90, high=90)
anything = principal_angles(model.W_E, random_rows(0))
claim("largest angle between the 65 token vectors and 16 random ones", anything[-1], high=0.01)

# %% [markdown]
# Two traps. In 64 dimensions even random 16-dimensional subspaces come within 34° of each other,
# and most of their angles are large: an angle must be compared with chance. And the 65 token
# vectors together span *all* 64 dimensions, so the angle between "the token subspace" and anything
# is 0. For tokens, positions and output we take the 16 strongest directions, and say how much that
# leaves out:

# %%
for name, rows, share in (
    ("tokens", model.W_E, 0.71),
    ("positions", model.W_pos, 0.928),
    ("output", model.W_U.T, 0.8),
):
    kept = (rows @ strongest_directions(rows, 16).float().T).square().sum() / rows.square().sum()
    claim(f"{name}: share of squared length in 16 directions", kept, low=0.6, measured=share)
overlap = subspace_overlap(reads, writes)
claim("overlap, where the previous-token head reads and writes", overlap, high=0.24, measured=0.154)
random = chance.deg2rad().cos().square().mean(dim=1)
claim("100 random pairs: mean overlap", random.mean(), low=0.24, high=0.26, measured=0.248)
claim("100 random pairs: smallest overlap", random.min(), low=0.2, measured=0.218)

# %% [markdown]
# So the previous-token head writes to a *different* subspace than the one it reads the token from:
# less overlap than any of 100 random pairs, yet far from 0. (Over training seeds it runs from .15
# to .22; the latter is hardly below chance.)
#
# Now all that writes against all that reads. 60° is chance, since cos² 60° = .25; blank means that
# the reader never gets it. Tokens and positions are added together in the input of q and k, and
# must not be confused there. *Predict:* layer 1 must find "the position whose *previous* token is
# my *current* token". Which of its readers, q, k, v, should see the tokens, and which the
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
# added to the stream, they get a channel that the values of layer 1 avoid. None of this was
# designed.
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
shares = torch.tensor(
    [[right_without(model, mixed, reader, what) for reader in readers] for what in hidden.values()]
)
show(pictures.draw_hidden(shares, hidden, readers.values()), "hidden")
claim("layer 0 hidden from the queries: right", shares[2, 0], low=0.99, measured=1)
claim("layer 0 hidden from the values", shares[2, 2], low=0.99, measured=1)
claim("control, hidden from the queries", shares[3, 0], high=0.97, measured=0.91)
claim("control, hidden from the values", shares[3, 2], high=0.97, measured=0.882)

# %% [markdown]
# Each row needs the control below it. Layer 0 hidden from queries or values does no harm, although
# random directions of the same length do: these readers really look elsewhere.

# %%
claim("layer 0 hidden from the keys", shares[2, 1], high=0.2, measured=0.0194)
claim("control, hidden from the keys", shares[3, 1], low=0.95, measured=1)
claim("the token hidden from the queries", shares[0, 0], high=0.2, measured=0.027)
claim("the token hidden from the values", shares[0, 2], high=0.2, measured=0.04)
claim("control for the token, the worst of the four", shares[1].min(), low=0.95, measured=0.998)

# %% [markdown]
# Layer 0 hidden from the keys is fatal, although random directions are not: here it is needed. The
# token is needed by queries and values. But that keys and output do without the token shows
# nothing, for they do without anything of that size. Without the control we would have counted it
# as evidence.
#
# And "right" is a coarse measure. *Predict:* with layer 0 hidden from the queries, by how much do
# the logits move, next to the model built by hand? In the repeat, and before it?

# %%
planted = induction_model(d_vocab=40)
by_hand = logits_moved(planted, held_out(planted, periods=(1, 16), batch=64), "q")
claim("built by hand: typical change of a logit, anywhere", max(by_hand), low=0, high=0)
repeat, elsewhere = logits_moved(model, mixed, "q")
claim("trained, in the repeat (share of the logits' spread)", repeat, high=0.2, measured=0.0447)
claim("trained, elsewhere", elsewhere, low=0.35, measured=0.97)

# %% [markdown]
# Exactly nothing by hand; a little in the repeat of the trained model; and a lot elsewhere, where
# nothing can be predicted and so nobody notices. "The queries ignore layer 0" is true for the task
# that we measured, and no further.
#
# ## More features than dimensions
# At one position the stream may have to say which of 64 tokens is here, which of 64 came before,
# and which of 64 comes next: 192 directions in 64 dimensions. They cannot all be orthogonal.
# **Exercise `interference`** (10 minutes): how much they get in each other's way.

# %%
W_OV = model.W_V[0, previous] @ model.W_O[0, previous]
now, following = model.W_E[1:], model.W_U.T[1:]  # 64 rows each, BOS left out
before = now @ W_OV
clutter = interference(torch.cat([now, before, following]))
claim("interference of the 192 directions", clutter, low=0.11, high=0.17, measured=0.138)
random = interference(random_rows(0, 192))
claim("of 192 random directions", random, low=0.12, high=0.13, measured=0.126)
middle = cache["blocks.1.hook_resid_pre"][:, 2:]  # between the layers, where a previous token is
current, last = repeats.tokens[:, 2:], repeats.tokens[:, 1:-1]
by_now = 1 + (middle @ now.T).argmax(dim=-1)  # the token whose direction has the longest shadow
by_before = 1 + (middle @ before.T).argmax(dim=-1)
right = (by_now == current).float().mean()
claim("current token, read with the token directions", right, low=0.98, measured=1)
right = (by_before == last).float().mean()
claim("previous token, read with the head's directions", right, low=0.9, measured=1)
right = (by_now == last).float().mean()
claim("previous token, read with the token directions", right, high=0.05, measured=0)

# %% [markdown]
# No better than random directions. And yet both tokens are read off one vector by plain dot
# products, each in its own set of directions. The last line is the control: the same directions do
# not serve for both.
#
# Why is that possible? Because only a few of the 192 are present at once. Each adds a little noise
# to the reading of the others. So the limit is on how many are *active*, much less on how many
# *exist*. Random directions show it:

# %%
sizes = [2**power for power in range(5, 13)]
shares = {active: [read_back(n, active) for n in sizes] for active in (1, 3, 8, 24)}
show(pictures.draw_bandwidth(sizes, shares), "bandwidth")
claim("4096 directions, 3 active", read_back(4096, 3), low=0.9, high=1, measured=0.963)
claim("192 directions, 24 active", read_back(192, 24), high=0.75, measured=0.555)

# %% [markdown]
# ## A caveat about every angle in this chapter
# The stream has a gauge of its own. Put *any* invertible matrix `S` behind everything that writes,
# and its inverse in front of everything that reads (`stretch_stream`): the same model. *Predict:*
# what becomes of the angle between two writers?

# %%
other = stretch_stream(model)
largest = (other(repeats.tokens) - logits).abs().max()
claim("largest change of any logit in the stretched stream", largest, high=5e-3)
trained = typical_angle(model.W_O[1, 0], list(model.W_O[1, 1:]))
stretched = typical_angle(other.W_O[1, 0], list(other.W_O[1, 1:]))
claim("where two heads of layer 1 write (degrees), as trained", trained, low=50, measured=56.1)
claim("in the stretched stream", stretched, high=30, measured=18)

# %% [markdown]
# The angles are gone, and it is the same model: an angle depends on the basis in which training
# happened to leave the stream. What a reader receives from a writer, `W_O W_Q`, does not. So
# believe the hiding; angles say where to try it.
#
# ## What you have now
# - The stream as an exact sum, and the warning that long does not mean important.
# - Two freedoms that change no logit: look at subspaces, not at the lengths of q and k; and do not
#   trust angles alone.
# - Three channels: the token for queries and values of layer 1, what layer 0 wrote for its keys,
#   the answer for the output.
# - Three controls: random subspaces, random directions of the same length, a model built by hand.
#
# Next: these channels were not there at the start. When do they appear, and how suddenly? `python
# -m course 3`.
