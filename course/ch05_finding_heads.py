# %% [markdown]
# # 5. Which heads do it?
#
# 25 minutes to read, 110 with the exercises. Afterwards you can say from numbers what a head looks
# at, find the induction heads of a model you have never seen, and name what such a detector cannot
# tell you. Not covered: what the heads do to the answer (chapter 6), how they do it (7 and 8),
# whether they are needed (9).
#
# **The question.** The model predicts repeats of any period (chapter 4). It has eight heads. Which
# of them do that?
#
# The usual way is to look at pictures of attention patterns until one shows a stripe. Pictures are
# for finding ideas. To decide we want a number for each head, a baseline for that number, and an
# example that it must reject.
#
# *Predict:* how many of the eight heads look one token back? How many do induction?
#
# ## Three simple habits
#
# A pattern is `[query, key]`: row 7 says how position 7 shares its attention among positions 0 to
# 7. Looking one token back is the diagonal just below the main one. Looking at oneself is the main
# diagonal, looking at BOS the first column.
#
# **Exercises `previous_token_score`, `current_token_score`, `first_token_score`** (5 minutes each).
# Mind position 0: it has one place to look, so its row says nothing about the head.

# %%
import torch

from course.desk import claim, plt, show, the_model
from minitransformer import ModelConfig, Transformer, planted
from minitransformer.evaluate import attention, held_out
from minitransformer.plots import BLUE, GREEN, ORANGE, PINK, RED, draw_attention_patterns, heatmap
from solutions.ch05_finding_heads import (
    FOUND,
    current_token_score,
    duplicate_token_score,
    find_heads,
    first_token_score,
    prefix_matching_score,
    previous_token_score,
    score_heads,
    value_weighted_pattern,
)

torch.set_grad_enabled(False)
model, impostor = the_model(), the_model("impostor")
n = model.cfg.n_ctx
# every row its own prefix and its own period
repeats = held_out(model, periods=(n // 4, n // 2), batch=128)
tokens, new = repeats.tokens, ~repeats.predictable & (repeats.tokens != 0)
patterns = attention(model, tokens)  # layer batch head query key
for layer, pattern in enumerate(patterns):
    print(
        f"layer {layer}   previous {[round(x, 2) for x in previous_token_score(pattern).tolist()]}"
    )
    print(f"          current  {[round(x, 2) for x in current_token_score(pattern).tolist()]}")
    print(f"          first    {[round(x, 2) for x in first_token_score(pattern).tolist()]}")
# knows nothing
even = (torch.ones(n, n).tril() / torch.arange(1, n + 1)[:, None]).expand(len(tokens), 1, n, n)
previous = previous_token_score(patterns[0])
claim("best previous-token score in layer 0", previous.max(), low=0.9, measured=0.991)
claim("heads of layer 0 above one half", (previous > FOUND).sum(), low=1, high=4, measured=2)
claim(
    "best previous-token score in layer 1",
    previous_token_score(patterns[1]).max(),
    high=0.2,
    measured=0.033,
)
claim(
    "previous-token score of even attention",
    previous_token_score(even),
    low=0.05,
    high=0.15,
    measured=0.0987,
)
claim(
    "least first-token score in layer 1",
    first_token_score(patterns[1]).min(),
    low=0.5,
    measured=0.743,
)

# %% [markdown]
# Layer 0 has a very sharp previous-token head, in this model and in most others a second one. The
# baseline is *even* attention, which spreads itself over all it can see: .10. A score means little
# until you know what knowing nothing earns.
#
# And all of layer 1 looks at BOS most of the time. Is that all those heads do?
#
# ## Habits that depend on the tokens
#
# In `... 7 3 ... 7`, at the second 7, a head may look back at the first 7: a *duplicate-token
# head*. Or it may look at the 3, at what came *after* the earlier copy. This is *prefix matching*,
# and the first half of the definition of an induction head (Olsson et al. 2022). If 7 occurred
# several times, every follower counts. If 7 is new, there is nothing to find, and the position is
# not counted.
#
# *Predict:* the block has 12 tokens. How far back does an induction head look? And a
# duplicate-token head?
#
# **Exercises `duplicate_token_score`** (15 minutes) and **`prefix_matching_score`** (15 minutes).

# %%
matching = prefix_matching_score(patterns[1], tokens)
claim("prefix-matching score of the best head", matching.max(), low=0.9, measured=0.97)
claim("and of the worst head of layer 1", matching.min(), low=0.6, measured=0.925)
claim(
    "best in layer 0", prefix_matching_score(patterns[0], tokens).max(), high=0.2, measured=0.0196
)
claim(
    "best duplicate-token score",
    score_heads(model, tokens)["duplicate_token"].max(),
    high=0.2,
    measured=0.0229,
)
claim(
    "prefix matching by even attention",
    prefix_matching_score(even, tokens),
    low=0.02,
    high=0.1,
    measured=0.0485,
)
claim(
    "duplicate token by even attention",
    duplicate_token_score(even, tokens),
    low=0.02,
    high=0.1,
    measured=0.0485,
)

scores = score_heads(model, tokens)
BADGES = {"previous_token": "previous", "induction": "induction", "first_token": "BOS"}
badges = [
    [
        "  ".join(
            f"{name} {scores[role][layer, head]:.2f}"
            for role, name in BADGES.items()
            if scores[role][layer, head] > FOUND
        )
        for head in range(model.cfg.n_heads)
    ]
    for layer in range(model.cfg.n_layers)
]
# BOS, then one block of 12 again and again
shown = held_out(model, periods=(12, 12), batch=1, prefix=0).tokens
title = "Layer 0 looks one back; layer 1 looks at what followed (stripe, between the triangles), or rests on BOS"
show(draw_attention_patterns(attention(model, shown)[:, 0], 12, title, badges), "atlas")

# %% [markdown]
# All four heads of layer 1 do the same job. Textbook pictures show *the* induction head. Redundancy
# is the normal case, and chapter 9 shows how it hides heads from those who remove one at a time.
# The answer to the last question: 11 and 12 back. Induction looks `period - 1` back, the stripe in
# the picture. Off by one, and you measure the wrong kind of head.
#
# These heads rest on BOS while their token is new, and leave it as soon as there is something to
# find. A mean over all positions would have called them "BOS heads". So say at which positions you
# measure.
#
# ## The impostor
#
# So why not just measure the stripe? Show the model one block twice, and read one diagonal. Here is
# a model that was trained with period 10 *only*.


# %%
def stripe_scores(model, period):
    """The classic detector: BOS and a block twice; the mean of the one diagonal, over the second
    copy.
    """
    twice = held_out(model, (period, period), batch=128, prefix=0).tokens[:, : 2 * period + 1]
    # layer head
    return attention(model, twice).diagonal(1 - period, dim1=-2, dim2=-1)[..., 2:].mean(dim=(1, -1))


def matching_at(model, *periods):
    tokens = held_out(model, periods, batch=64).tokens
    # layer head
    return torch.stack(
        [prefix_matching_score(pattern, tokens) for pattern in attention(model, tokens)]
    )


claim(
    "one diagonal, period 10: the model", stripe_scores(model, 10).max(), low=0.85, measured=0.932
)
claim(
    "one diagonal, period 10: the impostor",
    stripe_scores(impostor, 10).max(),
    low=0.85,
    measured=0.94,
)
claim(
    "by tokens, period 10: the impostor",
    matching_at(impostor, 10, 10).max(),
    low=0.8,
    measured=0.909,
)
claim(
    "by tokens, random periods: the impostor",
    matching_at(impostor, n // 4, n // 2).max(),
    high=0.3,
    measured=0.13,
)
claim(
    "by tokens, random periods: the model",
    matching_at(model, n // 4, n // 2).max(),
    low=0.9,
    measured=0.968,
)

# %% [markdown]
# The diagonal gives both the same mark. Yet the impostor has learnt "look 9 back": a fixed offset
# and no matching. Look at the third line, too: going by the tokens *does not help by itself*. At
# period 10, looking 9 back and finding the follower are the same thing, and no formula can tell
# them apart. What tells them apart is data on which they differ.
#
# *Predict:* at which other periods will the impostor score well?

# %%
every_period = range(1, n - 7)
untrained = Transformer(ModelConfig(), seed=0)
named = {
    "trained on random periods": (model, BLUE),
    "impostor: trained on period 10": (impostor, RED),
    "random weights": (untrained, "grey"),
}
curves = {
    name: [matching_at(each, p, p).max().item() for p in every_period]
    for name, (each, _) in named.items()
}
figure, ax = plt.subplots(figsize=(8, 4.2))
for (name, curve), (_, colour) in zip(curves.items(), named.values()):
    ax.plot(every_period, curve, marker="o", markersize=4, color=colour, label=name)
ax.axhline(FOUND, color="black", linestyle=":", linewidth=1)
ax.set(
    xlabel="period of the test sequences (tokens)",
    ylabel="best head's\nprefix-matching score",
    ylim=(0, 1.03),
)
ax.set_title("At period 10 the impostor looks real. Test at other periods", pad=30)
ax.legend(loc="lower left", bbox_to_anchor=(0, 0.98), ncols=3, fontsize=9)
show(figure, "periods")
real, fake, none = (torch.tensor(curve) for curve in curves.values())
claim("the model's lowest score at any period", real.min(), low=0.85, measured=0.959)
claim("the impostor's mean score at periods 11 to 24", fake[10:].mean(), high=0.2, measured=0.0335)
claim("random weights at period 1", none[0], low=0.3, measured=0.497)

# %% [markdown]
# At 5, 2 and 1, the divisors of 10, where 9 back is a follower too. And see the left end of the
# grey curve: if the block is one token long, almost every key is a follower, and random weights
# score well. Even the previous-token head does:

# %%
short = score_heads(model, held_out(model, (1, n // 2), batch=128).tokens)
first, best = find_heads(model)["previous_token"][0], find_heads(model)["induction"][0]
claim(
    "its prefix-matching score, periods from 1", short["induction"][first], low=0.3, measured=0.4145
)
claim(
    "the same, periods from a quarter of the length",
    scores["induction"][first],
    high=0.05,
    measured=0.0,
)

# %% [markdown]
# So three choices make the detector: go by the tokens, draw the period for each row, leave out the
# short ones.
#
# **Exercise `find_heads`** (25 minutes): put it together, with a threshold of one half. It then
# meets five models: ours, a hand-built one with *known* heads, one that does induction by pointer
# arithmetic, the impostor, and random weights.

# %%
cast = {
    "trained": model,
    "built by hand": planted.induction_model(),
    "pointer arithmetic": planted.pointer_model(),
}
cast |= {"impostor": impostor, "random weights": untrained}
found = {name: find_heads(each) for name, each in cast.items()}
COLOURS = {
    "induction": BLUE,
    "previous_token": ORANGE,
    "duplicate_token": GREEN,
    "first_token": PINK,
}
figure, axes = plt.subplots(1, 5, figsize=(11, 2.4))
for ax, (name, each) in zip(axes, cast.items()):
    for layer in range(2):
        for head in range(each.cfg.n_heads):
            roles = [role for role in COLOURS if (layer, head) in found[name][role]]
            colour = COLOURS[roles[0]] if roles else "white"  # the most telling role first
            ax.add_patch(
                plt.Rectangle(
                    (head + 0.06, layer + 0.06),
                    0.88,
                    0.88,
                    facecolor=colour,
                    alpha=0.6,
                    edgecolor="grey",
                )
            )
            ax.text(
                head + 0.5, layer + 0.5, f"{layer}.{head}", ha="center", va="center", color="black"
            )
    ax.set(xlim=(-0.1, max(4, each.cfg.n_heads) + 0.5), ylim=(0, 2), aspect="equal")
    ax.set_title(name, fontsize=11)
    ax.axis("off")
handles = [plt.Rectangle((0, 0), 1, 1, color=colour, alpha=0.6) for colour in COLOURS.values()]
figure.legend(
    handles,
    ["induction", "previous token", "duplicate token", "BOS only"],
    loc="outside lower center",
    ncols=4,
)
figure.suptitle(
    "One detector, five models: real heads are found, the impostor's are not (layer 1 above layer 0)",
    x=0.02,
    ha="left",
)
show(figure, "roles")
claim("induction heads of the model", len(found["trained"]["induction"]), low=2, measured=4)
claim(
    "of them in layer 1",
    sum(layer == 1 for layer, _ in found["trained"]["induction"]),
    low=2,
    measured=4,
)
claim(
    "hand-built: the right two heads",
    found["built by hand"]["previous_token"] == [(0, 0)]
    and found["built by hand"]["induction"] == [(1, 0)],
    low=1,
)
claim(
    "pointer: duplicate-token head 0.0",
    found["pointer arithmetic"]["duplicate_token"] == [(0, 0)],
    low=1,
)
claim("pointer: previous-token heads", len(found["pointer arithmetic"]["previous_token"]), high=0)
claim("impostor: induction heads", len(found["impostor"]["induction"]), high=0)
claim(
    "random weights: heads with any role",
    sum(len(heads) for heads in found["random weights"].values()),
    high=0,
)

# %% [markdown]
# The pointer model is as good at induction as the hand-built one, and its layer-1 head scores 1.
# But the partner differs: a duplicate-token head, which passes on *where* the token stood. Equal
# behaviour, equal stripes, another algorithm.
#
# ## Attention is not use
#
# A pattern says where a head looks. What arrives is the value, through `W_O`. If the value at BOS
# is nearly zero, all that attention moves nearly nothing. So weight each entry with the length of
# what it would add to the stream.
#
# **Exercise `value_weighted_pattern`** (15 minutes).

# %%
layer, head = best
_, cache = model.run_with_cache(tokens)
pattern, v = (cache[f"blocks.{layer}.attn.hook_{name}"] for name in ("pattern", "v"))
moved = value_weighted_pattern(pattern, v, model.W_O[layer])[:, head]  # batch query key
on_bos = pattern[:, head, :, 0][new].mean()
resting, working = moved.sum(dim=-1)[new].mean(), moved.sum(dim=-1)[repeats.predictable].mean()
claim(
    "attention on BOS while the token is new, best induction head", on_bos, low=0.9, measured=0.992
)
claim(
    "length it moves then, over the length when there is a match",
    resting / working,
    high=0.3,
    measured=0.078,
)

_, cache = model.run_with_cache(shown)
pattern, v = (cache[f"blocks.{layer}.attn.hook_{name}"] for name in ("pattern", "v"))
moved = value_weighted_pattern(pattern, v, model.W_O[layer])[0, head]
figure, axes = plt.subplots(1, 2, figsize=(10, 4.6))
panels = [(pattern[0, head], 1.0, f"head {layer}.{head}: where it looks", "attention (share)")]
panels.append((moved, moved.max().item(), "what that moves", "length added to the stream"))
for ax, (values, limit, title, unit) in zip(axes, panels):
    image = heatmap(
        ax,
        values,
        signed=False,
        limit=limit,
        title=title,
        xlabel="key: looked at",
        ylabel="query: looking",
    )
    figure.colorbar(image, ax=ax, label=unit, shrink=0.8)
figure.suptitle(
    "Attention on BOS (left column) is rest: hardly anything is moved", x=0.02, ha="left"
)
show(figure, "value_weighted")

# %% [markdown]
# The bright BOS column goes pale, the stripe stays. A long vector is still no *useful* vector: its
# length does not say whether it points anywhere that a later part reads.
#
# The control for this whole chapter is a head that looks perfectly and says nothing. We take the
# hand-built model and set the output weights of its induction head to zero.
#
# *Predict:* what does our detector say?

# %%
silent = planted.induction_model()
silent.W_O[1] = 0.0
claim(
    "induction heads found in the silenced model",
    len(find_heads(silent)["induction"]),
    low=1,
    high=1,
)
small = torch.tensor([[0, 7, 3, 9, 7, 3, 9, 7]])
_, cache = silent.run_with_cache(small)
nothing = value_weighted_pattern(
    cache["blocks.1.attn.hook_pattern"], cache["blocks.1.attn.hook_v"], silent.W_O[1]
)
claim("what that head moves", nothing.abs().max(), high=0.0)

# %% [markdown]
# It says "induction head", and is wrong. Prefix matching is half of the definition: an induction
# head also has to *copy*, to raise the logit of the token it looks at. Scores of attention cannot
# see that. They give candidates, not proofs.
#
# ## What you have now
#
# - Five scores, each with what it gives for even attention: .05 to .10.
# - `find_heads`, which later chapters call to name heads. It accepts both hand-built circuits,
#   rejects random weights and the impostor, because its data leaves no other way to earn the score.
#   (With fewer than 10 tokens of context it could not: too few periods fit.)
# - In our model: previous-token heads in layer 0, and not one but four induction heads in layer 1.
# - What it cannot say: whether a head copies, whether anybody reads it, whether the model would
#   miss it.
#
# Next: which heads push up the right answer? `python -m course 6`.
