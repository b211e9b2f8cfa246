# %% [markdown]
# # 8. How do two heads become one algorithm?
#
# 35 minutes to read, 150 with the exercises. Afterwards you can measure from the weights which
# heads work together, take an attention score apart into exact terms, and say what neither of the
# two proves. Not covered: whether the parts are *needed* (chapter 9), and composition through MLPs
# (chapter 15).
#
# **The question.** An induction head looks at the token *after* an earlier copy of the current one.
# But a key knows only its own token! "What stood before me" must have been written there by
# somebody else. So two heads work together.
#
# A head of layer 1 reads the stream three times, so there are three places where it can pick up
# what a layer-0 head wrote:
#
# - **Q-composition**: in its query. *What I look for* depends on layer 0.
# - **K-composition**: in its keys. *What can be found* depends on layer 0.
# - **V-composition**: in its values. *What I move* was moved once before.
#
# *Predict:* which one does induction need?
#
# ## A number for working together
#
# Layer 0 writes with `W_OV`, layer 1 reads with some matrix `B`. If the first writes where the
# second does not read, the product is small. Hence the score of Elhage et al. (2021): `|W_OV B| /
# (|W_OV| |B|)`. It uses whole circuits only, so no rotation inside a head (chapter 2) can change
# it.
#
# **Exercises `composition_score`** (5 minutes) and **`composition_table`** (10 minutes). It is easy
# to lose a transpose here and still get plausible numbers, so we first look at models where we know
# the answer.

# %%
import torch

from course.desk import claim, show, the_model
from course.pictures.ch08 import (
    draw_circuits,
    draw_compositions,
    draw_paths,
    draw_softmax,
    draw_story,
    draw_terms,
)
from minitransformer import Transformer
from minitransformer.evaluate import follows_earlier_copy, held_out
from minitransformer.planted import induction_model, pointer_model, three_composers
from solutions.ch05_finding_heads import find_heads, score_heads
from solutions.ch07_qk_ov_circuits import copying_accuracy, ov_matrix, qk_matrix
from solutions.ch08_composition import (
    composition_ceiling,
    composition_table,
    decompose_qk_inputs,
    decompose_scores,
    k_composition_circuit,
    normalised_composition,
    path_expansion,
    random_baseline,
    term_importance,
)

torch.set_grad_enabled(False)
planted = {
    "three pairs": three_composers(),
    "induction": induction_model(),
    "pointer": pointer_model(),
}
# kind, layer 0, layer 1
three = torch.stack([composition_table(planted["three pairs"], kind) for kind in "QKV"])
claim("planted pairs that light up", (three > 0).sum(), low=3, high=3)
claim("the score of each", three[range(3), range(3), range(3)].min(), low=0.765, high=0.766)
for name, used, unused, score in (("induction", "K", "QV", 0.2236), ("pointer", "Q", "KV", 0.1581)):
    claim(
        f"{name}: {used}",
        composition_table(planted[name], used),
        low=score - 1e-4,
        high=score + 1e-4,
    )
    claim(
        f"{name}: {unused}",
        sum(composition_table(planted[name], kind) for kind in unused),
        low=0,
        high=0,
    )

# %% [markdown]
# Both hand-built models do induction without a mistake, by different algorithms. The usual one puts
# "the token before me" into every **key**. The other, pointer arithmetic, lets a head find *where*
# its token stood before and puts that position into the **query**; layer 1 then looks one further.
# On repeated sequences both answer alike. Their scores do not. Which of them did our model learn?
#
# ## What is a large score?
#
# .16 in one model, .77 in another, and both were planted. So first: what does chance give? Draw
# random heads and see.
#
# **Exercise `random_baseline`** (10 minutes). *Predict:* does the mean depend on d_head?

# %%
model, impostor = the_model(), the_model("impostor")
untrained = Transformer(model.cfg, seed=1)
d_model, d_head, heads = model.cfg.d_model, model.cfg.d_head, range(model.cfg.n_heads)
chance = random_baseline(d_model, d_head, 200, torch.Generator().manual_seed(0))
thin = random_baseline(d_model, 4, 200, torch.Generator().manual_seed(0))
claim(
    "mean of random pairs, times sqrt(d_model)", chance.mean() * d_model**0.5, low=0.97, high=1.03
)
claim("the same with d_head 4", thin.mean() * d_model**0.5, low=0.95, high=1.05)
claim("spread of random pairs (standard deviation)", chance.std(), low=0.005, high=0.01)

# %% [markdown]
# The mean is `1/sqrt(d_model)` whatever d_head is; only the spread changes. And the best possible?
# A head with 16 directions spreads its norm over them, so even perfect alignment stays far below 1.
# **Exercises `composition_ceiling`** and **`normalised_composition`** (10 and 5 minutes): 0 is
# chance, 1 is the best that these two spectra allow.


# %%
def every_pair(function, model, kind):
    """function(what the layer-0 head writes, what the layer-1 head reads with): [head of layer 0,
    head of layer 1].
    """
    each = range(model.cfg.n_heads)
    writes, values = ([ov_matrix(model, layer, head) for head in each] for layer in (0, 1))
    queries = [qk_matrix(model, 1, head) for head in each]
    reads = {"Q": queries, "K": [QK.T for QK in queries], "V": values}[kind]
    return torch.tensor([[function(write, read) for read in reads] for write in writes])


previous = [head for layer, head in find_heads(model)["previous_token"] if layer == 0]  # best first
induction = [head for layer, head in find_heads(model)["induction"] if layer == 1]
tables = {kind: composition_table(model, kind) for kind in "QKV"}
shares = {kind: every_pair(normalised_composition, model, kind) for kind in "QKV"}
ceiling = every_pair(composition_ceiling, model, "K").mean()
band = (chance.mean() - 3 * chance.std(), chance.mean() + 3 * chance.std())
best, looker = previous[0], induction[0]
others = [head for head in heads if head not in previous] or previous[-1:]
print(
    f"previous-token heads: {[f'0.{h}' for h in previous]}, induction heads: {[f'1.{h}' for h in induction]}"
)
claim(
    "K score of the best previous-token head, mean",
    tables["K"][best].mean(),
    low=0.2,
    high=0.3,
    measured=0.2404,
)
claim(
    "that as a share of what is possible",
    shares["K"][best].mean(),
    low=0.4,
    high=0.9,
    measured=0.654,
)
claim(
    "largest K score of any other head",
    tables["K"][others].max(),
    low=0.13,
    high=0.22,
    measured=0.1756,
)
claim("largest Q or V score", max(tables["Q"].max(), tables["V"].max()), high=0.13, measured=0.0954)
claim(
    "impostor: largest K score",
    composition_table(impostor, "K").max(),
    high=band[1],
    measured=0.1057,
)
by_chance = torch.stack([composition_table(untrained, kind) for kind in "QKV"])
claim(
    "untrained: largest distance from chance, in sd",
    (by_chance - chance.mean()).abs().max() / chance.std(),
    high=4.5,
)
claim(
    "hand-built induction: share",
    every_pair(normalised_composition, planted["induction"], "K"),
    low=0.999,
    high=1.001,
)
claim(
    "pointer arithmetic: share, by Q",
    every_pair(normalised_composition, planted["pointer"], "Q"),
    low=0.999,
    high=1.001,
)
show(draw_compositions(tables, shares, band, float(ceiling), (previous, induction)), "edges")

# %% [markdown]
# K it is, as in the hand-built induction model. Two warnings about the other dots.
#
# *Below chance is not nothing.* Queries and values of layer 1 read *less* of layer 0 than random
# matrices would: they keep out of its way. *Above chance is not use.* Heads that look anywhere but
# one back score above the band as well. The score is a norm: it counts directions, whether or not
# anything ever goes along them. And in larger models, where many heads share one stream, scores lie
# much closer to chance than here. To see what is *used*, we need data.
#
# ## Taking a score apart
#
# What `q` and `k` of layer 1 are made from is a sum: embedding, position, each head of layer 0. A
# score is a product of two such sums, so with H heads it has exactly `(2 + H)^2` terms. (With
# LayerNorm that holds only while its scale is frozen.) **Exercises `decompose_qk_inputs`** (10
# minutes) and **`decompose_scores`** (15 minutes).
#
# *Predict:* of our 36 terms, how many matter? We measure by how much each favours the right key
# over other tokens.

# %%
# BOS, a random prefix, then 10 random tokens again and again
repeats = held_out(model, periods=(10, 10), batch=64)
tokens, known = repeats.tokens, repeats.predictable
visible = torch.ones(tokens.shape[1], tokens.shape[1]).tril()
# batch query key: where an induction head should look
follower = follows_earlier_copy(tokens) * known[:, :, None]
other = (visible - follows_earlier_copy(tokens)) * known[:, :, None]
other[:, :, 0] = 0  # BOS is where heads rest; we compare with ordinary tokens


def advantage(scores):
    """By how much the score of a follower exceeds that of other keys, on average: [.., batch,
    query, key] -> [..].
    """
    return (scores * follower).sum(dim=(-3, -2, -1)) / follower.sum() - (scores * other).sum(
        dim=(-3, -2, -1)
    ) / other.sum()


def taken_apart(model, head):
    _, cache = model.run_with_cache(tokens)
    labels, parts = decompose_qk_inputs(cache)
    return labels, decompose_scores(parts, model.W_Q[1, head], model.W_K[1, head]), cache


labels, terms, cache = taken_apart(model, looker)
scores = terms.sum(dim=(0, 1))  # batch query key
_, exact, exact_cache = taken_apart(the_model().double(), looker)
error = exact.sum(dim=(0, 1)) - exact_cache["blocks.1.attn.hook_attn_scores"][:, looker]
gain = advantage(terms)  # query part, key part
through_previous = gain[0, [2 + head for head in previous]].sum()
claim("largest error of the sum, in float64", error[:, visible.bool()].abs().max(), high=1e-12)
claim("advantage of the right key, in score units", gain.sum(), low=10, high=25, measured=15.8)
claim(
    "share of embedding x previous-token heads",
    through_previous / gain.sum(),
    low=0.8,
    high=1.1,
    measured=0.976,
)
claim(
    "largest share of any other head",
    (gain[0, [2 + h for h in others]] / gain.sum()).max(),
    high=0.12,
    measured=0.0035,
)
show(draw_terms(labels, gain, f"1.{looker}"), "terms")

# %% [markdown]
# The query is just the token itself; the key is what the previous-token heads wrote. And the heads
# that scored above chance without looking one back? They bring almost nothing. Their edge exists in
# the weights only.
#
# ## Linear only up to the softmax
#
# It is tempting to go on: "this term brings so much *attention*". It does not. Softmax of a sum is
# not the sum of softmaxes. Add the second-largest term in three situations: to nothing, to the
# largest term, to all the others.


# %%
def on_follower(scores):
    """The attention on the right keys, from scores before the mask."""
    pattern = scores.masked_fill(visible == 0, -torch.inf).softmax(dim=-1)
    return ((pattern * follower).sum(dim=-1)[..., known]).mean(dim=-1)


first, second = gain[0].topk(2).indices
largest, small = terms[0, first], terms[0, second]
situations = {"nothing": 0 * small, "the largest term": largest, "all others": scores - small}
brought = [
    float(on_follower(before + small) - on_follower(before)) for before in situations.values()
]
claim("attention on the right key", on_follower(scores), low=0.9, measured=0.971)
claim(
    "mean attention of the 36 separate softmaxes",
    on_follower(terms).mean(),
    high=0.25,
    measured=0.0945,
)
claim("the second term brings, in score units, each time", advantage(small), low=0.2, measured=4.72)
claim("... in attention, added to nothing", brought[0], low=0.02, measured=0.612)
claim("... added to the largest term", brought[1], high=0.25, measured=0.0145)
claim("... added to all others", brought[2], low=0.005, measured=0.484)
show(draw_softmax(list(situations), float(advantage(small)), brought), "softmax")

# %% [markdown]
# ## The circuit, read from the weights, and its controls
#
# Write both heads as one matrix: rows are tokens that ask, columns tokens that a layer-0 head moved
# into the key. If this is induction, each token must seek *itself*: a diagonal. **Exercise
# `k_composition_circuit`** (10 minutes).
#
# This picture is often shown as the proof. *Predict:* what does it look like for a layer-0 head
# that does **not** look one back? Let us compute every pair.


# %%
def diagonals(model):
    """For what share of tokens is the token itself the best key? BOS left out. [head of layer 0,
    head of layer 1]
    """
    each = range(model.cfg.n_heads)
    circuits = [[k_composition_circuit(model, (0, g), (1, h))[1:, 1:] for h in each] for g in each]
    return torch.tensor([[copying_accuracy(circuit) for circuit in row] for row in circuits])


def attention_back(model):
    return score_heads(model, tokens)["previous_token"][0]  # heads of layer 0


accuracy, looks_back = diagonals(model), attention_back(model)
controls = {"untrained": untrained, "impostor": impostor}
controls = {
    name: (attention_back(m).repeat_interleave(len(heads)), diagonals(m).flatten())
    for name, m in controls.items()
}
# the most convincing wrong head
control = max(others, key=lambda head: accuracy[head].mean().item())
print(accuracy.numpy().round(2))
claim(
    "best previous-token head: lowest share of its pairs",
    accuracy[best].min(),
    low=0.9,
    measured=1.0,
)
claim(
    f"control 0.{control}: share, best pair",
    accuracy[control].max(),
    low=0.2,
    high=0.95,
    measured=0.641,
)
claim(
    f"control 0.{control}: attention to the token before",
    looks_back[control],
    high=0.5,
    measured=0.09,
)
claim(
    f"control 0.{control}: share of the score's advantage",
    gain[0, 2 + control] / gain.sum(),
    high=0.12,
    measured=0.0035,
)
claim("untrained: largest share", controls["untrained"][1].max(), high=0.12)
claim("impostor: largest share", controls["impostor"][1].max(), high=0.2)
maps = {}
for g, what in ((best, "previous-token head"), (control, "control")):
    title = f"0.{g} into 1.{looker} ({what}):\n{100 * accuracy[g, looker]:.0f} % seek themselves"
    maps[title] = k_composition_circuit(model, (0, g), (1, looker))[1:, 1:]
show(draw_circuits(maps, looks_back, accuracy, (previous, induction), controls), "k_circuit")

# %% [markdown]
# The true pair is perfect. But a head that hardly ever looks one back makes a diagonal for many
# tokens too. The circuit says: *if* this head moved a token into the key, *then* that token finds
# it. It does not say that the head looks one back, nor that anything flows. The claim needs three
# pieces: where the head looks (chapter 5), this matrix, and the terms above.
#
# ## All paths through the model
#
# Freeze the patterns and everything is linear: the logits are a sum over paths. Direct; through one
# head; through a head of layer 0 *and* then a head of layer 1, a **virtual head**, which is
# V-composition at work. **Exercise `path_expansion`** (20 minutes). **`term_importance`** (20
# minutes) sums paths by length, without listing them.

# %%
logits = model(tokens)
paths, path_terms = path_expansion(model, tokens)
rounds = term_importance(model, tokens)  # round batch pos vocab
inside = known & (torch.arange(tokens.shape[1]) < tokens.shape[1] - 1)
right = tokens.roll(-1, dims=1)


def hits(logits):
    return (logits.argmax(dim=-1) == right)[inside].float().mean()


def to_right(terms):
    """What a path adds to the right logit over the mean logit, on average: [path]."""
    picked = terms.gather(-1, right[None, ..., None].expand(len(terms), -1, -1, 1))[..., 0]
    return (picked - terms.mean(dim=-1))[:, inside].mean(dim=1)


written = to_right(path_terms)
kinds = ["direct" if p == "direct" else "virtual" if ">" in p else f"layer {p[0]}" for p in paths]
groups = {
    kind: float(sum(w for w, k in zip(written, kinds) if k == kind))
    for kind in dict.fromkeys(kinds)
}
blind = model.run_with_cache(
    tokens, fwd_hooks=[("blocks.0.hook_attn_out", lambda out, hook: 0 * out)]
)[0]
claim(
    "largest error of the sum over paths", (path_terms.sum(dim=0) - logits).abs().max(), high=1e-4
)
claim("largest error of round 2", (rounds[2] - logits).abs().max(), high=1e-5)
claim(
    "share of the right logit from layer-1 heads alone",
    groups["layer 1"] / sum(groups.values()),
    low=0.95,
    measured=0.99,
)
claim(
    "share of all virtual heads together",
    groups["virtual"] / sum(groups.values()),
    low=-0.05,
    high=0.05,
    measured=0.0059,
)
claim("right answers in round 0, no head", hits(rounds[0]), high=0.1)
claim("right answers in round 1, paths through one head", hits(rounds[1]), low=0.98, measured=1.0)
claim("right answers if layer 0 writes nothing at all", hits(blind), high=0.25, measured=0.0213)
bars = {
    "0 heads": rounds[0],
    "up to 1": rounds[1],
    "up to 2\n(the model)": rounds[2],
    "layer 0\nsilenced": blind,
}
show(draw_paths(groups, {name: 100 * float(hits(each)) for name, each in bars.items()}), "paths")

# %% [markdown]
# Here is the trap. "Layer 0 brings nothing, alone or in virtual heads, so layer 1 suffices." But
# the patterns were frozen, and layer 0 is *inside* them. Silence it for real and the model fails.
# Path expansion sees V-composition; Q and K it takes for granted. An exact sum can still answer a
# question that you did not ask.
#
# ## The story as one diagram


# %%
share, attention = float(through_previous / gain.sum()), float(on_follower(scores))
show(draw_story(f"0.{best}", f"1.{looker}", float(looks_back[best]), share, attention), "story")

# %% [markdown]
# ## What you have now
#
# - Composition scores with a baseline, a ceiling and planted truth: our model composes by K, not by
#   Q or V.
# - Scores of layer 1 as 36 exact terms; the terms through previous-token heads carry nearly all.
# - Three warnings, each with its number: an edge may be unused, a diagonal may be no circuit,
#   frozen patterns hide Q and K.
#
# All of this describes. Nothing has been broken yet. Next: what happens to the answer when a part
# is taken away? `python -m course 9`.
