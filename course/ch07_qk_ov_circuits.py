# %% [markdown]
# # 7. What a head does, read from its weights
#
# 35 minutes to read, 145 with the exercises. Afterwards you can say from a head's weights alone
# where it looks and what it moves, for all tokens at once, and you know when such a reading
# misleads. Not covered: what one layer reads of the other (chapter 8), whether the head matters
# (chapters 9 and 10), LayerNorm.
#
# **The question.** Chapter 5 watched heads at work. But watching shows what a head did on a few
# hundred sequences, not what it would do on others. The weights know it all. Can we read them?

# %%
import torch

from course.desk import claim, show, the_model
from course.pictures.ch07 import draw_eigenvalues, draw_maps, draw_qk, draw_spectrum, draw_sums
from minitransformer import ModelConfig, Transformer
from minitransformer.evaluate import held_out
from solutions.ch05_finding_heads import find_heads, previous_token_score
from solutions.ch07_qk_ov_circuits import (
    LowRank,
    copying_accuracy,
    copying_score,
    effective_ov,
    full_ov_circuit,
    full_qk_circuit,
    ov_matrix,
    position_qk_circuit,
    qk_matrix,
    score_from_weights,
)

torch.set_grad_enabled(False)
model, impostor = the_model(), the_model("impostor")
untrained = Transformer(ModelConfig(), seed=0)
found = find_heads(model)
looks_back, copiers = found["previous_token"], found["induction"]
print(f"previous-token heads: {looks_back}, induction heads: {copiers}")
layer, head = copiers[0]
examples = {
    "induction head": (model, layer, head),
    "previous-token head": (model, *looks_back[0]),
    "untrained head": (untrained, *looks_back[0]),
}
repeats = held_out(model, periods=(10, 10), batch=64, prefix=0)
tokens = repeats.tokens  # each row: BOS, then 10 random tokens again and again
later = torch.ones(32, 32, dtype=torch.bool).triu(1)  # the keys that a query cannot see
_, cache = model.run_with_cache(tokens)

# %% [markdown]
# ## Four matrices are two
#
# A head's score is `q_i . k_j / sqrt(d_head)` with `q = x W_Q` and `k = x W_K`. Put that together:
#
#     score[i, j]        = x_i (W_Q W_K^T) x_j^T / sqrt(d_head)
#     what a head writes = pattern x (W_V W_O)
#
# Only two products ever count, the QK circuit `W_QK = W_Q W_K^T`, *where to look*, and the OV
# circuit `W_OV = W_V W_O`, *what to move* (Elhage et al. 2021).
#
# *Predict:* multiply `W_Q` by any invertible matrix M and `W_K` by the transposed inverse of M.
# What changes? **Exercises `low_rank_matmul`** (10 minutes), **`qk_matrix`, `ov_matrix`** (5
# minutes each). Both return a `LowRank`: a product kept as its two factors. The class is given,
# below the first three functions of the exercise file.

# %%
M = torch.randn(16, 16, generator=torch.Generator().manual_seed(0))
W_QK, W_OV = qk_matrix(model, layer, head), ov_matrix(model, layer, head)
other = LowRank(model.W_Q[layer, head] @ M, (model.W_K[layer, head] @ M.inverse().T).T)
longer, change = other.A.norm() / W_QK.A.norm(), (other.dense - W_QK.dense).norm() / W_QK.norm()
claim("W_Q is longer by a factor of", longer, low=2, high=8, measured=3.788)
claim("relative change of W_QK", change, high=1e-4)
rank_QK, rank_OV = torch.linalg.matrix_rank(W_QK.dense), torch.linalg.matrix_rank(W_OV.dense)
claim("rank of W_QK, a 64 x 64 matrix", rank_QK, low=16, high=16)
claim("rank of W_OV, a 64 x 64 matrix", rank_OV, low=16, high=16)

# %% [markdown]
# Nothing changes but the parts. This freedom is called a *gauge*. So "this head has a large W_Q"
# says nothing about the model; only products do. They are wide but pass through the 16 numbers of
# `d_head`. `LowRank` therefore keeps the thin factors: whatever you need of the wide matrix, a 16 x
# 16 one will tell.
#
# **Exercises `low_rank_svd`** (20 minutes), **`low_rank_eigenvalues`** (10 minutes).

# %%
circuits = {name: full_ov_circuit(*where) for name, where in examples.items()}
show(draw_spectrum(circuits), "spectrum")
circuit = circuits["untrained head"]
U, S, Vh = circuit.svd()
difference = (U * S @ Vh - circuit.dense).abs().max()
claim("largest difference of U diag(S) Vh from the circuit", difference, high=1e-3)
wide, thin = torch.linalg.eigvals(circuit.dense).sum().real, circuit.eigenvalues().sum().real
claim("sum of 65 eigenvalues, less that of 16", wide - thin, low=-0.01, high=0.01)

# %% [markdown]
# ## Where does it look?
#
# **Exercise `score_from_weights`** (10 minutes). Mind two things. In this model q and k read
# `stream + W_pos`. And `1/sqrt(d_head)`, which the 2021 paper leaves out, is part of every real
# head: a product of 16 random pairs has a spread of 4, and the scale takes that out, so that a
# softmax is not sharp merely because the head is wide.

# %%
stream, hooked = cache["blocks.1.hook_resid_pre"], cache["blocks.1.attn.hook_attn_scores"][:, head]
scores = score_from_weights(model, layer, head, stream)  # batch query key
difference = (scores - hooked)[:, ~later].abs().max()
claim("largest difference from the model's own scores", difference, high=1e-3)

# %% [markdown]
# Exact, so nothing is left out. Now leave things out on purpose: what if only positions existed,
# and no tokens? *Predict:* draw `W_pos W_QK W_pos^T` for the previous-token head, query down, key
# across. What should it look like? **Exercise `position_qk_circuit`** (5 minutes).


# %%
def position_pattern(model, layer, head, scale=4.0):
    """The attention [1, 1, query, key] if there were only positions."""
    scores = position_qk_circuit(model, layer, head).dense / scale
    return scores.masked_fill(later, -torch.inf).softmax(dim=-1)[None, None]


patterns = {name: position_pattern(*where) for name, where in examples.items()}
maps = {name: pattern[0, 0] for name, pattern in patterns.items()}
title = "If there were only positions: one head's weights say 'look one back', wherever it stands"
how = {"signed": False, "limit": 1.0, "xlabel": "key position", "ylabel": "query position"}
show(draw_maps(maps, title, "attention (share)", **how), "positions")

watched = previous_token_score(cache["blocks.0.attn.hook_pattern"])[looks_back[0][1]]
score = {name: previous_token_score(pattern).item() for name, pattern in patterns.items()}
read = score["previous-token head"]
unscaled = previous_token_score(position_pattern(model, *looks_back[0], scale=1.0))
claim("previous-token score, watched on data", watched, low=0.9, measured=0.992)
claim("the same, from positions and weights alone", read, low=0.85, measured=0.991)
claim("difference", abs(watched - read), high=0.02, measured=0.001)
claim("with the scale forgotten", unscaled, low=read, measured=1.0)
claim("control: an induction head", score["induction head"], high=0.25, measured=0.068)
claim("control: an untrained head", score["untrained head"], high=0.2, measured=0.0998)

# %% [markdown]
# One token back, at all positions, and not a single token was run. What tokens add moves the score
# by less than .02. And look what the forgotten scale does: it does not fail, it flatters. An error
# in your favour is the kind you will not look for. (Drawn after the softmax, because a constant
# added to a row of scores changes nothing.)
#
# ## What does it move?
#
# `W_E W_V W_O W_U` has a row for every token a head could attend to, and a column for every logit.
#
# *Predict:* an induction head should raise the logit of the token that it attends to. Which pattern
# is that? **Exercises `full_ov_circuit`** (5 minutes), **`copying_accuracy`** (10 minutes).

# %%
maps = {}
for name, circuit in circuits.items():
    maps[f"{name}\n{100 * copying_accuracy(circuit):.0f} % copied"] = circuit.dense
title = "Full OV circuits: the induction head raises what it attends to"
how = {"signed": True, "limit": 5, "xlabel": "logit of token", "ylabel": "attended token"}
show(draw_maps(maps, title, "added to the logit", **how), "ov")
copying = [full_ov_circuit(model, *where) for where in copiers]
moving = [full_ov_circuit(model, *where) for where in looks_back]
worst, best = min(map(copying_accuracy, copying)), max(map(copying_accuracy, moving))
claim("tokens copied, worst of the induction heads", worst, low=0.7, measured=0.892)
claim("tokens copied, best of the previous-token heads", best, high=0.2, measured=0.046)

# %% [markdown]
# A diagonal: this is copying, for almost every token. The previous-token head, seen from the
# logits, does nothing in particular. Whatever it moves is not meant for them; chapter 8 will show
# who reads it.
#
# Is the matrix true? Do it the long way: force the head to look at position 5, and compare with the
# logits without it.


# %%
def force(pattern, hook, onto=5):
    pattern[:, head] = 0.0
    pattern[:, head, :, onto] = 1.0
    return pattern


def write_nothing(z, hook):
    return z.index_fill(2, torch.tensor(head), 0.0)


def effect_of_forced_attention(*other_hooks):
    """What the head, forced onto position 5, adds to the last logits: [batch, vocab]."""
    at = f"blocks.{layer}.attn."
    forced = model.run_with_hooks(tokens, [(at + "hook_pattern", force), *other_hooks])
    silent = model.run_with_hooks(tokens, [(at + "hook_z", write_nothing), *other_hooks])
    return (forced - silent)[:, -1]


def own_logit(rows):
    """The logit of the attended token, relative to the mean token, on average."""
    return (rows - rows.mean(1, keepdim=True)).gather(1, tokens[:, 5:6]).mean()


rows = circuits["induction head"][tokens[:, 5]].dense  # batch vocab
no_positions = ("hook_pos_embed", lambda out, hook: 0 * out)
no_layer_0 = ("blocks.0.hook_attn_out", lambda out, hook: 0 * out)
alone, whole = effect_of_forced_attention(no_positions, no_layer_0), effect_of_forced_attention()
difference, relative = (alone - rows).abs().max(), (whole - rows).norm() / rows.norm()
ratio = own_logit(rows) / own_logit(whole)
claim("largest difference from the circuit, only embeddings", difference, high=1e-3)
claim("relative difference, layer 0 at work", relative, high=0.5, measured=0.273)
claim("the token's own logit: circuit / real run", ratio, low=0.9, high=1.1, measured=0.986)

# %% [markdown]
# Exact while the stream holds embeddings only. In the real run the head also moves what layer 0
# wrote there: the logits change by a quarter, the token's own hardly. The circuit answers "what
# would the head do with an embedding?" For copying, in layer 1 of this model, that is nearly
# everything. It need not be so elsewhere.
#
# ## One number for copying
#
# Copying means: what goes in comes out larger, in its own direction. That is what a positive
# *eigenvalue* is. Hence the score of Elhage et al.: sum of eigenvalues / sum of their sizes. 1
# copies, -1 suppresses.
#
# *Predict:* what do random heads score? How far from 0 would you need to be, before you believe it?
# **Exercise `copying_score`** (10 minutes).


# %%
def ov_circuits(model, layer=0):
    """The full OV circuit of every head of a layer."""
    return [full_ov_circuit(model, layer, index) for index in range(model.cfg.n_heads)]


def random_circuits(**sizes):
    """The full OV circuits of the heads in layer 0 of 25 untrained models."""
    cfg = ModelConfig(**sizes)
    return [each for seed in range(25) for each in ov_circuits(Transformer(cfg, seed))]


def scores_of(circuits):
    return torch.tensor([copying_score(circuit) for circuit in circuits])


for d_head, usual in ((8, 0.203), (16, 0.112), (32, 0.062)):
    spread = scores_of(random_circuits(n_layers=1, n_heads=8, d_head=d_head)).std()
    text = f"spread (sd) of the score of 200 random heads, d_head {d_head}"
    claim(text, spread, low=0.8 * usual, high=1.2 * usual, measured=usual)

# %% [markdown]
# That is the band for "nothing". And the heads of trained models?

# %%
groups = {"induction heads": copying, "previous-token heads": moving}
groups["impostor's layer 0"] = ov_circuits(impostor)
scores = {name: scores_of(group) for name, group in groups.items()}
values = {name: torch.stack([each.eigenvalues() for each in groups[name]]) for name in groups}
grey = torch.stack([each.eigenvalues() for each in random_circuits()])
show(draw_eigenvalues(values, scores, grey), "eigenvalues")
copies, moves = scores["induction heads"].min(), scores["previous-token heads"].abs().max()
fake, layer_0 = scores["impostor's layer 0"].min(), ov_circuits(model)
highest, most = scores_of(layer_0).max(), max(map(copying_accuracy, layer_0))
claim("lowest score of the induction heads", copies, low=0.98, measured=0.999)
claim("largest size, previous-token heads", moves, high=0.6, measured=0.169)
claim("the impostor's worst in layer 0", fake, low=0.98, measured=0.998)
claim("highest score in layer 0 (varies with the seed)", highest, low=0, measured=0.625)
claim("most tokens copied in layer 0", most, high=0.5, measured=0.092)

# %% [markdown]
# Far outside the band. But: **the impostor copies just as well, in layer 0 already**, from a fixed
# distance back. A copying score of 1 does not make an induction head. It is one half, the *what*;
# the *where* has to be shown on its own.
#
# **A score is not an accuracy.** In layer 0 of the course's model a head scores .63, far above the
# band, yet no head there copies even a tenth of the tokens. Positive eigenvalues alone do not put
# the diagonal on top. At the extreme, a matrix that raises the same logit whatever it reads scores
# 1. Show both numbers.
#
# ## Several heads as one
#
# No induction head copies every token, yet the model makes hardly a mistake. A layer adds up its
# heads, so where they attend alike, their OV circuits may be added. *Predict:* may we add QK
# circuits, too? **Exercise `effective_ov`** (15 minutes).

# %%
merged = model.W_E @ effective_ov(model, copiers) @ model.W_U
together, without_BOS = copying_accuracy(merged), copying_accuracy(merged[1:, 1:])
claim("tokens copied by the induction heads together", together, low=0.965, measured=0.985)
claim("tokens copied, BOS (never an answer) aside", without_BOS, low=0.98, measured=1.0)

pattern = cache["blocks.1.attn.hook_pattern"][:, [index for _, index in copiers]].mean(dim=1)
one_head = pattern @ (stream @ effective_ov(model, copiers)).dense  # batch pos d_model
logits = model.run_with_hooks(tokens, [("blocks.1.hook_attn_out", lambda out, hook: one_head)])
right = logits[:, :-1].argmax(dim=-1) == tokens[:, 1:]
accuracy = right[repeats.predictable[:, :-1]].float().mean()
claim("right tokens, layer 1 replaced by one merged head", accuracy, low=0.98, measured=1.0)

before_0, every_head = cache["blocks.0.hook_resid_pre"], range(model.cfg.n_heads)
added = sum(score_from_weights(model, 0, index, before_0) for index in every_head)
added = added.masked_fill(later, -torch.inf).softmax(dim=-1)[:, None]  # batch 1 query key
mean = previous_token_score(cache["blocks.0.attn.hook_pattern"]).mean().item()
summed = previous_token_score(added).item()
claim("layer 0 looks one back with, on average", mean, low=0.2, measured=0.527)
claim("the same, had the scores been added", summed, low=mean + 0.1, measured=0.943)

copied = {f"{a}.{b}": copying_accuracy(each) for (a, b), each in zip(copiers, copying)}
one_back = {"mean of the\n4 patterns": mean, "4 scores added,\none softmax": summed}
show(draw_sums(copied | {"together": together}, one_back), "sums")

# %% [markdown]
# No. Each head has a softmax of its own, and a sum of softmaxes is not the softmax of the sum.
# Added scores describe a head that does not exist: its loudest part decides alone.
#
# ## What is still missing
#
# Why do induction heads look where they look? Their weights should tell. *Predict:* an induction
# head has to do with earlier copies of its own token. Is the diagonal of its full QK circuit
# positive? **Exercise `full_qk_circuit`** (5 minutes).

# %%
matrices = torch.stack([full_qk_circuit(model, *where).dense / 4 for where in copiers])
matrices = matrices[:, 1:, 1:]  # head query key, without BOS
own = matrices.diagonal(dim1=-2, dim2=-1)
rest = matrices[:, ~torch.eye(64, dtype=torch.bool)]
show(draw_qk(matrices[0], f"{layer}.{head}", own, rest), "qk")
claim("mean score, key holds another token", rest.mean(), low=-0.3, high=0.3, measured=-0.064)
claim("mean score, key holds the same token", own.mean(), low=-1.5, high=-0.2, measured=-0.542)

# %% [markdown]
# It is *negative*. Judged by embeddings, these heads look away from copies of their own token,
# although on data they find the token after one. Both are true: their keys must be made of
# something other than the embedding at that place. The circuit was read correctly; it was asked the
# wrong question.
#
# ## What you have now
#
# - W_QK and W_OV, all that a head is, and a way to handle them at full size.
# - From weights alone: the previous-token head looks one back, the induction heads copy.
# - Controls: untrained heads give the band for "nothing"; the impostor shows that copying is not
#   induction.
#
# Missing: where induction heads get their keys from. Next: reading what other heads wrote. `python
# -m course 8`.
