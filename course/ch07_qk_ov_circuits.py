# %% [markdown]
# # 7. What a head does, read from its weights
#
# 35 minutes to read, 155 with the exercises. Afterwards you can say from a head's weights alone
# where it looks and what it moves, for all tokens at once, and you know which readings of weights
# mean something and which do not. Not covered: what one layer reads of the other (chapter 8),
# whether the head matters (chapters 9 and 10), LayerNorm.
#
# **The question.** Chapter 5 watched heads at work. But watching shows what a head did on a few
# hundred sequences, not what it would do on others. Can we read its weights?

# %%
import torch

from course.desk import claim, fresh_seeds, in_others, print_table, show, the_model, untrained_model
from course.pictures import ch07 as pictures
from minitransformer import ModelConfig, Transformer
from minitransformer.evaluate import held_out
from solutions.ch02_residual_stream import rotate_head
from solutions.ch05_finding_heads import find_heads, previous_token_score
from solutions.ch06_logit_attribution import shift_unembedding
from solutions.ch07_qk_ov_circuits import (
    LowRank,
    centre,
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
from solutions.ch08_composition import stretch_stream, with_weights

torch.set_grad_enabled(False)
model, impostor = the_model(), the_model("impostor")
untrained = untrained_model()
found = find_heads(model)
looks_back, copiers = found["previous_token"], found["induction"]
roles = {"previous-token heads": looks_back, "induction heads": copiers}
for role, heads in roles.items():
    print(f"{role}:", ", ".join(f"{layer}.{head}" for layer, head in heads))
layer, head = copiers[0]
examples = {
    "induction head": (model, layer, head),
    "previous-token head": (model, *looks_back[0]),
    "untrained head": (untrained, *looks_back[0]),
}
repeats = held_out(model, periods=(10, 10), batch=64, prefix=0)
tokens = repeats.tokens  # each row: BOS, then 10 random tokens again and again
n = model.cfg.n_ctx
later = torch.ones(n, n, dtype=torch.bool).triu(1)  # the keys that a query cannot see
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
# circuit `W_OV = W_V W_O`, *what to move* (Elhage et al. 2021, "A Mathematical Framework for
# Transformer Circuits").
#
# *Predict:* multiply `W_Q` by any invertible matrix M and `W_K` by the transposed inverse of M.
# What changes?
#
# **Exercises `low_rank_matmul`** (10 minutes), **`qk_matrix`, `ov_matrix`** (5 minutes each). The
# last two return a `LowRank`: a product kept as its two factors. The class is given, below the
# first function; its `@` calls your `low_rank_matmul`.

# %%
size = model.cfg.d_head
M = torch.randn(size, size, generator=torch.Generator().manual_seed(0))
W_QK, W_OV = qk_matrix(model, layer, head), ov_matrix(model, layer, head)
other = LowRank(model.W_Q[layer, head] @ M, (model.W_K[layer, head] @ M.inverse().T).T)
longer, change = other.A.norm() / W_QK.A.norm(), (other.dense - W_QK.dense).norm() / W_QK.norm()
claim("W_Q is longer by a factor of", longer, low=2, high=8, measured=3.788)
claim("relative change of W_QK", change, high=1e-4)
rank_QK, rank_OV = torch.linalg.matrix_rank(W_QK.dense), torch.linalg.matrix_rank(W_OV.dense)
claim("rank of W_QK, a 64 x 64 matrix", rank_QK, low=16, high=16)
claim("rank of W_OV, a 64 x 64 matrix", rank_OV, low=16, high=16)

# %% [markdown]
# Nothing changes but the parts. Such a freedom is called a *gauge*. So "this head has a large W_Q"
# says nothing about the model; only products do. They are wide but pass through the 16 numbers of
# `d_head`. `LowRank` therefore keeps the thin factors: whatever you need of the wide matrix, a 16 x
# 16 one will tell. That holds for a head after a head, too, the product of two such products.
#
# **Exercises `low_rank_svd`** (20 minutes), **`low_rank_eigenvalues`** (10 minutes).

# %%
circuits = {name: full_ov_circuit(*where) for name, where in examples.items()}
one_after_the_other = ov_matrix(model, *looks_back[0]) @ W_OV  # your low_rank_matmul
both = {"both trained heads, one after the other": model.W_E @ one_after_the_other @ model.W_U}
show(pictures.draw_spectrum(circuits | both), "spectrum")
circuit = circuits["untrained head"]
U, S, Vh = circuit.svd()
difference = (U * S @ Vh - circuit.dense).abs().max()
claim("largest difference of U diag(S) Vh from the circuit", difference, high=1e-3)
middle = one_after_the_other.A.shape[1]
claim("width in the middle, of one head after the other", middle, low=16, high=16)
wide, thin = torch.linalg.eigvals(circuit.dense).sum().real, circuit.eigenvalues().sum().real
claim("sum of 65 eigenvalues, less that of 16", wide - thin, low=-0.01, high=0.01)

# %% [markdown]
# ## Where does it look?
#
# **Exercise `score_from_weights`** (10 minutes). In this model q and k read `stream + W_pos`. And
# `1/sqrt(d_head)`, which the 2021 paper leaves out, is part of every real head: without it a
# softmax would be sharp merely because the head is wide.

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
show(pictures.draw_maps(maps, title, "attention (share)", **how), "positions")


def read_from_positions(model):
    """The best previous-token score in layer 0, from positions and weights alone."""
    every = [position_pattern(model, 0, index) for index in range(model.cfg.n_heads)]
    return max(previous_token_score(pattern).item() for pattern in every)


watched = previous_token_score(cache["blocks.0.attn.hook_pattern"])[looks_back[0][1]]
score = {name: previous_token_score(pattern).item() for name, pattern in patterns.items()}
read = read_from_positions(model)
unscaled = previous_token_score(position_pattern(model, *looks_back[0], scale=1.0))
claim("previous-token score, watched on data", watched, low=0.9, measured=0.992)
claim("the same from weights", read, 0.85, measured=0.991, untrained=read_from_positions)
claim("difference", abs(watched - read), high=0.02, measured=0.001)
claim("more, with the scale forgotten", unscaled - read, low=0, measured=0.009)
in_others("more, with the scale forgotten", "19 of 20", low=0)
claim("control: an induction head", score["induction head"], high=0.25, measured=0.068)

# %% [markdown]
# One token back, at all positions, and not a single token was run. What tokens add moves the score
# by less than .02. And the forgotten scale does not fail, it flatters, here and in 19 of 20 other
# models. An error in your favour is the kind you will not look for.
#
# ## What does it move?
#
# `W_E W_V W_O W_U` has a row for every token a head could attend to, and a column for every logit.
#
# *Predict:* an induction head should raise the logit of the token that it attends to. Which pattern
# is that? **Exercises `full_ov_circuit`** (5 minutes), **`copying_accuracy`** (10 minutes).


# %%
def ov_circuits(model, layer=0):
    """The full OV circuit of every head of a layer."""
    return [full_ov_circuit(model, layer, index) for index in range(model.cfg.n_heads)]


maps = {}
for name, circuit in circuits.items():
    maps[f"{name}\n{100 * copying_accuracy(circuit):.0f} % copied"] = circuit.dense
title = "Full OV circuits: the induction head raises what it attends to"
how = {"signed": True, "limit": 5, "xlabel": "logit of token", "ylabel": "attended token"}
copying = [full_ov_circuit(model, *where) for where in copiers]
moving = [full_ov_circuit(model, *where) for where in looks_back]


def best_copier(model, layer=0):
    """The largest share of tokens copied by a head of this layer."""
    return max(map(copying_accuracy, ov_circuits(model, layer)))


worst, best = min(map(copying_accuracy, copying)), max(map(copying_accuracy, moving))
claim("tokens copied, worst induction head", worst, 0.5, measured=0.892, untrained=best_copier)
claim("tokens copied, best previous-token head", best, high=0.2, measured=0.046)
show(pictures.draw_maps(maps, title, "added to the logit", **how), "ov")

# %% [markdown]
# A diagonal: this is copying, for almost every token; their share is the *copying accuracy*. (BOS
# counts here. Chapter 9 leaves it out, as it is never an answer, and has higher numbers.) The
# previous-token head, seen from the logits, does nothing in particular. Chapter 8 shows who reads
# it.
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
# *Route `core`: on to "What is still missing".*
#
# Take a mixture of tokens `v` that the circuit M gives back as itself, `v M = c v`: an
# *eigenvector*, with *eigenvalue* `c`. It is raised if `c` is positive. Hence the score of Elhage
# et al.: sum of eigenvalues / sum of their sizes, from -1 to 1.
#
# **Exercise `copying_score`** (10 minutes). *Predict:* what do induction heads score, and what
# random ones?


# %%
def every_circuit(model, W_U):
    """The full OV circuits of all heads, layer by layer, with this unembedding."""
    every = [(layer, index) for layer in (0, 1) for index in range(model.cfg.n_heads)]
    return [model.W_E @ ov_matrix(model, *where) @ W_U for where in every]


def scores_of(circuits):
    return torch.tensor([copying_score(circuit) for circuit in circuits])


def highest_score(model):
    return scores_of(every_circuit(model, model.W_U)).max()


lowest = scores_of(copying).min()
claim("lowest score of the induction heads", lowest, 0.95, measured=1.0, untrained=highest_score)

# %% [markdown]
# Random heads stay far below. But remember chapter 6: one vector `u`, added to every column of
# `W_U`, changes no probability. To the sum of a circuit's eigenvalues, its trace, it adds `(sum of
# the rows of W_E) W_OV . u`. That is one linear equation for each head, and `u` has 64 entries.
#
# *Predict:* can `u` make all induction heads "suppress", all heads of layer 0 "copy", and every
# head of a random model as well?


# %%
def adversary(model, signs):
    """The shortest u that moves the trace of each head's full OV circuit to where signs say."""
    circuits = every_circuit(model, model.W_U)
    sizes = torch.stack([each.eigenvalues().abs().sum() for each in circuits])
    OV = model.W_V @ model.W_O  # layer head d_model d_model
    rows = (model.W_E.sum(dim=0) @ OV).flatten(0, 1)  # layer*head d_model
    return torch.linalg.lstsq(rows, (20 * signs * sizes)[:, None]).solution[:, 0]


n_heads = model.cfg.n_heads
copy, suppress = torch.ones(n_heads), -torch.ones(n_heads)
u = adversary(model, torch.cat([copy, suppress]))
W_shifted = shift_unembedding(model.W_U, u)
before = scores_of(every_circuit(model, model.W_U))
after = scores_of(every_circuit(model, W_shifted))
random_after = []
for seed in fresh_seeds(3):
    blank = untrained_model(seed)
    shifted = shift_unembedding(blank.W_U, adversary(blank, torch.cat([copy, copy])))
    random_after.append(scores_of(every_circuit(blank, shifted)).min())
logits, final = model.run_with_cache(tokens)
stream_1 = final["blocks.1.hook_resid_post"]
moved = (stream_1 @ W_shifted).softmax(dim=-1) - logits.softmax(dim=-1)
length = u.norm() / model.W_U.norm(dim=0).mean()
show(pictures.draw_gauge({"as trained": before, "with u": after}, n_heads), "shifted")
claim("largest change of a probability by u", moved.abs().max(), high=0.01)
claim("length of u, relative to a column of W_U", length, high=1000, measured=278)
claim("under u: highest score in layer 1", after[n_heads:].max(), high=-0.8, measured=-0.91)
claim("under u: lowest score in layer 0", after[:n_heads].min(), low=0.8, measured=0.942)
claim("under u: lowest score, random weights", min(random_after), low=0.8, measured=0.943)

# %% [markdown]
# You can. No training will produce so long a `u`. But the model is the same, so the score is no
# property of the model. Softmax sees each row of the circuit up to a constant. Fix it: subtract
# from each row its mean over the output tokens.
#
# **Exercise `centre`** (10 minutes). The table tries all three gauges: `u`, another basis S of the
# stream, another basis M inside the head.


# %%
def highest_centred(model):
    return scores_of(map(centre, every_circuit(model, model.W_U))).max()


plain = dict(model.named_parameters())
width = model.cfg.d_model
noise = torch.randn(width, width, generator=torch.Generator().manual_seed(0))
stretched = with_weights(model, stretch_stream(plain, torch.eye(width) + 0.3 * noise))
turned, shifted = with_weights(model, plain), with_weights(model, plain | {"W_U": W_shifted})
parts = [weights[layer, head] for weights in (turned.W_Q, turned.W_K, turned.W_V, turned.W_O)]
for part, new in zip(parts, rotate_head(*parts, M)):
    part.copy_(new)
rows = {"score": [], "centred score": [], "tokens copied": []}
same_model = {"as trained": model, "u": shifted, "S": stretched, "M": turned}
for each in same_model.values():
    circuit = full_ov_circuit(each, layer, head)
    rows["score"].append(copying_score(circuit))
    rows["centred score"].append(copying_score(centre(circuit)))
    rows["tokens copied"].append(copying_accuracy(circuit))
rows = {name: torch.tensor(values) for name, values in rows.items()}
print_table(
    "an induction head", list(rows), list(same_model), [row.tolist() for row in rows.values()]
)
centred = scores_of(map(centre, every_circuit(model, model.W_U)))
centred_after = scores_of(map(centre, every_circuit(model, W_shifted)))
kinds = {"as trained": before, "with u": after, "centred, with or without u": centred_after}
show(pictures.draw_gauge(kinds, n_heads), "centred")
moved, copied = (centred_after - centred).abs().max(), rows["tokens copied"]
copies = scores_of(map(centre, copying)).min()
claim("largest change of a centred score by u", moved, high=0.01)
claim("tokens copied: largest change by a gauge", (copied - copied[0]).abs().max(), high=0.02)
claim("centred: lowest of the induction heads", copies, 0.95, untrained=highest_centred)

# %% [markdown]
# Centred, the induction heads still copy. How far from 0 must a score be, before you believe it?


# %%
def random_circuits(**sizes):
    """The centred full OV circuits of the heads in layer 0 of 25 untrained models."""
    models = [Transformer(ModelConfig(**sizes), seed) for seed in fresh_seeds(25)]
    return [centre(each) for blank in models for each in ov_circuits(blank)]


for d_head, usual in ((8, 0.205), (16, 0.113), (32, 0.0635)):
    spread = scores_of(random_circuits(n_layers=1, n_heads=8, d_head=d_head)).std()
    text = f"spread (sd) of the centred score of 200 random heads, d_head {d_head}"
    claim(text, spread, low=0.8 * usual, high=1.2 * usual, measured=usual)

# %% [markdown]
# That is the band for "nothing"; beside it the trained heads:

# %%
groups = {"induction heads": copying, "previous-token heads": moving}
groups["impostor's layer 0"] = ov_circuits(impostor)
groups = {name: [centre(each) for each in group] for name, group in groups.items()}
scores = {name: scores_of(group) for name, group in groups.items()}
values = {name: torch.stack([each.eigenvalues() for each in groups[name]]) for name in groups}
grey = torch.stack([each.eigenvalues() for each in random_circuits()])
show(pictures.draw_eigenvalues(values, scores, grey), "eigenvalues")
moves, fake = scores["previous-token heads"].abs().max(), scores["impostor's layer 0"].min()
highest, most = centred[:n_heads].max(), best_copier(model)
claim("centred: largest size, previous-token heads", moves, high=0.6, measured=0.163)
claim("centred: the impostor's worst in layer 0", fake, low=0.95, measured=0.998)
claim("centred: highest in layer 0", highest, low=0, measured=0.70)
claim("most tokens copied in layer 0", most, high=0.5, measured=0.092)

# %% [markdown]
# Induction heads lie far outside that band, previous-token heads inside. But: **the impostor copies
# just as well, in layer 0 already**, from a fixed distance back. Copying is one half of an
# induction head, the *what*; the *where* has to be shown on its own.
#
# **A score is not an accuracy.** In our layer 0 a head scores .70, far above the band, yet none
# there copies a tenth of the tokens. A score of 1 says that every eigenvector is raised. Other
# mixtures need not be, and a single token is another mixture: `[[1, -10], [0, 1]]` scores 1 and
# turns `(2, 1)` into `(2, -19)`. Show both numbers.
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
claim("more, had the scores been added", summed - mean, low=0.1, measured=0.416)

copied = {f"{a}.{b}": copying_accuracy(each) for (a, b), each in zip(copiers, copying)}
one_back = {"mean of the\n4 patterns": mean, "4 scores added,\none softmax": summed}
show(pictures.draw_sums(copied | {"together": together}, one_back), "sums")

# %% [markdown]
# No. Each head has a softmax of its own, and a sum of softmaxes is not the softmax of the sum.
# Added scores describe a head that does not exist: its loudest part decides alone.
#
# ## What is still missing
#
# Why do induction heads look where they look? Their weights should tell. *Predict:* an induction
# head has to do with earlier copies of its own token. Is the diagonal of its full QK circuit, `W_E
# W_QK W_E^T`, asking token down and key across, positive? **Exercise `full_qk_circuit`** (5
# minutes).

# %%
matrices = torch.stack([full_qk_circuit(model, *where).dense / 4 for where in copiers])
matrices = matrices[:, 1:, 1:]  # head query key, without BOS
own = matrices.diagonal(dim1=-2, dim2=-1)
rest = matrices[:, ~torch.eye(matrices.shape[-1], dtype=torch.bool)]
show(pictures.draw_qk(matrices[0], f"{layer}.{head}", own, rest), "qk")
claim("mean score, key holds another token", rest.mean(), low=-0.3, high=0.3, measured=-0.064)
claim("mean score, key holds the same token", own.mean(), low=-1.5, high=-0.2, measured=-0.542)
in_others("mean score, key holds the same token", "20 of 20", high=0)

# %% [markdown]
# On average it is *negative*, here and in 20 of 20 other models. Judged by embeddings, these heads
# look away from copies of their own token, although on data they find the token after one. Their
# keys must be made of something other than the embedding at that place. The circuit was read
# correctly; it was asked the wrong question.
#
# ## What you have now
#
# - W_QK and W_OV, all that a head is, and a way to handle them at full size.
# - From weights alone: the previous-token head looks one back, the induction heads copy.
# - A habit: before you believe a number read from weights, change the weights in a way that no
#   behaviour shows, and see whether the number moves.
# - Controls: random heads give the band for "nothing"; the impostor shows that copying is not
#   induction.
#
# Missing: where induction heads get their keys. Next: reading what other heads wrote. `python
# -m course 8`.
