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
# A pattern is `[query, key]`: row 7 says how position 7 shares its attention among positions
# 0 to 7. Looking one token back is the diagonal just below the main one. Looking at oneself is the
# main diagonal, looking at BOS the first column.
#
# **Exercises `previous_token_score`, `current_token_score`, `first_token_score`** (5 minutes each).
# Mind position 0: it has one place to look, so its row says nothing about the head.

# %%
import torch

from course.desk import (
    claim,
    claim_rate,
    fresh_seeds,
    in_others,
    print_table,
    show,
    the_model,
    untrained_model,
)
from course.pictures.ch05 import badges, draw_by_period, draw_roles, draw_values
from minitransformer import planted
from minitransformer.data import random_tokens
from minitransformer.evaluate import attention, held_out, repeat_scores
from minitransformer.plots import draw_attention_patterns
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
repeats = held_out(model, periods=(n // 4, n // 2), batch=128)  # each row has its own period
tokens = repeats.tokens
new = ~repeats.predictable & (tokens != 0)  # where the token has not occurred before


def habit(score, model, layer):
    """One of the three scores, [head], of a layer on these tokens."""
    return score(attention(model, tokens)[layer])


def one_back(model):
    return habit(previous_token_score, model, 0).max()


def rests(model):
    return habit(first_token_score, model, 1).min()


rows = {}
for score in (previous_token_score, current_token_score, first_token_score):
    rows[score.__name__] = torch.cat([habit(score, model, layer) for layer in (0, 1)])
heads = [f"{layer}.{head}" for layer in (0, 1) for head in range(model.cfg.n_heads)]
print_table("score", list(rows), heads, [row.tolist() for row in rows.values()])

even = torch.ones(n, n).tril() / torch.arange(1, n + 1)[:, None]  # a head that knows nothing
even = even.expand(len(tokens), 1, n, n)
looks_back = habit(previous_token_score, model, 0) > FOUND
best_in_1, by_even = habit(previous_token_score, model, 1).max(), previous_token_score(even)
claim("previous token: best of layer 0", one_back(model), 0.9, measured=0.991, untrained=one_back)
claim("heads of layer 0 above one half", looks_back.sum(), low=1, high=4, measured=2)
in_others("heads of layer 0 above one half", "18 of 20", low=2)
claim("previous token: best of layer 1", best_in_1, high=0.2, measured=0.033)
claim("previous token: even attention", by_even, low=0.05, high=0.15, measured=0.0987)
claim("BOS: least of layer 1", rests(model), 0.5, measured=0.743, untrained=rests)

# %% [markdown]
# Layer 0 has a very sharp previous-token head, and a second one here and in 18 of 20 other models.
# The baseline is *even* attention, which spreads itself over all it can see: .10. A score means
# little until you know what knowing nothing earns.
#
# And all of layer 1 looks at BOS most of the time. Is that all those heads do?
#
# ## Habits that depend on the tokens
#
# In `... 7 3 ... 7`, at the second 7, a head may look back at the first 7: a *duplicate-token
# head*. Or it may look at the 3, at what came *after* the earlier copy. This is *prefix matching*,
# the first half of the definition of an induction head (Olsson et al. 2022, "In-context Learning
# and Induction Heads", arXiv 2209.11895). If 7 occurred several times, every follower counts. If 7
# is new, there is nothing to find, and the position is not counted.
#
# *Predict:* the block has 12 tokens. How far back does an induction head look? And a
# duplicate-token head?
#
# **Exercises `duplicate_token_score`** (15 minutes) and **`prefix_matching_score`** (15 minutes).

# %%
scores = score_heads(model, tokens)  # role -> [layer, head]
shown = held_out(model, periods=(12, 12), batch=1, prefix=0).tokens  # BOS, then one block of 12
title = "Layer 0 looks one back; layer 1 looks along the stripe (triangles), or rests on BOS"
on_shown = attention(model, shown)[:, 0]  # layer head query key
show(draw_attention_patterns(on_shown, 12, title, badges(scores, FOUND)), "atlas")


def match(model, layer=1):
    return score_heads(model, tokens)["induction"][layer].max()


worst, duplicate = scores["induction"][1].min(), scores["duplicate_token"].max()
claim("prefix matching: best of layer 1", match(model), 0.9, measured=0.97, untrained=match)
claim("prefix matching: worst of layer 1", worst, low=0.5, measured=0.925)
claim("prefix matching: best of layer 0", match(model, 0), high=0.2, measured=0.0196)
claim("duplicate token: best of all heads", duplicate, high=0.2, measured=0.0229)
by_even = prefix_matching_score(even, tokens)
claim("prefix matching: even attention", by_even, low=0.02, high=0.1, measured=0.0485)
by_even = duplicate_token_score(even, tokens)
claim("duplicate token: even attention", by_even, low=0.02, high=0.1, measured=0.0485)

# %% [markdown]
# All four heads of layer 1 do the same job. Textbook pictures show *the* induction head. In trained
# models there are often several, and what they do adds up (Singh et al. 2024, "What needs to go
# right for an induction head?", arXiv 2404.07129). Chapter 9 shows how this hides heads from those
# who remove one at a time. The answer to the last question: 11 and 12 back. Induction looks
# `period - 1` back, the stripe in the picture. Off by one, and you measure the wrong kind of head.
#
# These heads rest on BOS while their token is new, and leave it as soon as there is something to
# find. A mean over all positions would have called them "BOS heads". So say at which positions you
# measure.
#
# ## The impostor
#
# *Route `core`: on to "What you have now".*
#
# So why not just measure the stripe? Show the model one block twice, and read one diagonal. Here is
# a model that was trained with period 10 *only*.


# %%
def stripe_scores(model, period):
    """The classic detector, [layer, head]: BOS and one block twice, the mean of one diagonal."""
    twice = held_out(model, (period, period), batch=128, prefix=0).tokens[:, : 2 * period + 1]
    stripe = attention(model, twice).diagonal(1 - period, dim1=-2, dim2=-1)
    return stripe[..., 2:].mean(dim=(1, -1))  # over the second copy


def matching_at(model, *periods):
    """The prefix-matching scores [layer, head] on sequences with periods in this range."""
    tokens = held_out(model, periods, batch=64).tokens
    return torch.stack([prefix_matching_score(each, tokens) for each in attention(model, tokens)])


def matching_at_random(model):
    """The same where each row has its own period, none shorter than a quarter of the length."""
    return matching_at(model, model.cfg.n_ctx // 4, model.cfg.n_ctx // 2)


ours, fake = stripe_scores(model, 10).max(), stripe_scores(impostor, 10).max()
claim("one diagonal, period 10: the model", ours, low=0.85, measured=0.932)
claim("one diagonal, period 10: the impostor", fake, low=0.85, measured=0.94)
fake = matching_at(impostor, 10, 10).max()
claim("by tokens, period 10: the impostor", fake, low=0.8, measured=0.909)
fake = matching_at_random(impostor).max()
claim("by tokens, random periods: the impostor", fake, high=0.3, measured=0.132)
ours = matching_at(model, n // 4, n // 2).max()
claim("by tokens, random periods: the model", ours, low=0.9, measured=0.969)

# %% [markdown]
# The diagonal gives both the same mark. Yet the impostor has learnt "look 9 back": a fixed offset
# and no matching. Look at the third line, too: going by the tokens *does not help by itself*. At
# period 10, looking 9 back and finding the follower are the same thing, and no formula can tell
# them apart. What tells them apart is data on which they differ.
#
# *Predict:* at which other periods will the impostor score well?


# %%
def best_by_period(model):
    every_period = range(1, model.cfg.n_ctx - 7)
    return torch.stack([matching_at(model, period, period).max() for period in every_period])


untrained = [untrained_model(seed) for seed in fresh_seeds(3)]
real, fake = best_by_period(model), best_by_period(impostor)
none = torch.stack([best_by_period(each) for each in untrained]).mean(dim=0)
curves = {"trained on random periods": real, "impostor: trained on period 10": fake}
curves["random weights, mean of 3"] = none
show(draw_by_period(curves, FOUND), "periods")
claim("the model's lowest score at any period", real.min(), low=0.85, measured=0.959)
claim("the impostor's mean score at periods 11 to 24", fake[10:].mean(), high=0.2, measured=0.0335)
claim("random weights at period 1", none[0], low=0.3, measured=0.499)

# %% [markdown]
# At 5, 2 and 1, the divisors: there, the same distance back finds a follower, too. And see the left
# end of the grey curve. If the block is one token long, almost every key is a follower, and random
# weights score well. Even the previous-token head does:

# %%
first, best = find_heads(model)["previous_token"][0], find_heads(model)["induction"][0]
with_short = score_heads(model, held_out(model, (1, n // 2), batch=128).tokens)["induction"]
without = scores["induction"][first]
claim("its prefix-matching score, periods from 1", with_short[first], low=0.3, measured=0.4145)
claim("the same, periods from a quarter of the length", without, high=0.05, measured=0.0001)

# %% [markdown]
# So: go by the tokens, draw the period for each row, leave out the short ones. Is that enough?
#
# [Try it in the lab](site/lab.html#experiment=impostor-9).
#
# ## The lag matcher
#
# Here is a head, set by hand, that never looks at its own token. It asks where the token *before*
# its own stood, and goes on from there. In a repeated block the neighbours repeat as well, so it
# arrives at the right key, for every period.
#
# *Predict:* on which sequences does it fail?

# %%
sizes = {"d_vocab": model.cfg.d_vocab, "n_ctx": n}
by_hand, pointer = planted.induction_model(**sizes), planted.pointer_model(**sizes)
lag = planted.lag_model(**sizes)
cast = {"trained": model, "built by hand": by_hand, "pointer arithmetic": pointer}
cast |= {"impostor": impostor, "lag matcher": lag, "random weights": untrained[0]}


def alone_in(model):
    """The best prefix-matching score where tokens are independent: a token repeats by itself."""
    cfg, generator = model.cfg, torch.Generator().manual_seed(0)
    alone = random_tokens(128, cfg.n_ctx, min(cfg.d_vocab, 2 * cfg.n_ctx), generator)
    return score_heads(model, alone)["induction"].max()


def right_on_alone(model, prompts=400):
    """Whether B is the answer to `BOS A B w x y z A`, for each prompt."""
    generator = torch.Generator().manual_seed(1)
    drawn = torch.rand(prompts, model.cfg.d_vocab - 1, generator=generator).argsort(dim=1) + 1
    ABwxyz = torch.cat([torch.zeros(prompts, 1).long(), drawn[:, :6]], dim=1)
    logits = model(torch.cat([ABwxyz, drawn[:, :1]], dim=1))
    return logits[:, -1].argmax(dim=-1) == drawn[:, 1]


names = ["period 10", "random periods", "independent", "right on A B w x y z A"]
rows = {}
for name, each in cast.items():
    by_blocks = [matching_at(each, 10, 10).max(), matching_at_random(each).max()]
    right = right_on_alone(each).float().mean()
    rows[name] = torch.stack([*by_blocks, alone_in(each), right])
print_table("best head of", list(rows), names, [row.tolist() for row in rows.values()])
blocks, alone = rows["lag matcher"][1], rows["lag matcher"][2]
claim("lag matcher, random periods", blocks, low=0.8, measured=0.8845)
claim("lag matcher, independent tokens", alone, high=0.15, measured=0.0768)
claim("the model, independent tokens", alone_in(model), 0.8, measured=0.957, untrained=alone_in)
claim_rate("the model, right on A B w x y z A", right_on_alone(model), 0.9, 1, measured=1)
claim("lag matcher, right on A B w x y z A", rows["lag matcher"][3], high=0)

# %% [markdown]
# Where a token repeats *without its neighbours*: independent tokens, some of which occur twice by
# chance, or `A B w x y z A`. There the lag matcher finds nothing. A detector is as good as the
# data it is tried on, and no formula makes up for data on which two stories agree.
#
# **Exercise `find_heads`** (25 minutes): put it together, with a threshold of one half. It then
# meets these six models.

# %%
found = {name: find_heads(each) for name, each in cast.items()}
show(draw_roles(cast, found), "roles")
induction = found["trained"]["induction"]
in_layer_1 = [head for layer, head in induction if layer == 1]
claim("induction heads of the model", len(induction), low=2, measured=4)
claim("of them in layer 1", len(in_layer_1), low=2, measured=4)
known = found["built by hand"]
right = known["previous_token"] == [(0, 0)] and known["induction"] == [(1, 0)]
claim("hand-built: the right two heads", right, low=1)
known = found["pointer arithmetic"]
claim("pointer: duplicate-token head 0.0", known["duplicate_token"] == [(0, 0)], low=1)
claim("pointer: previous-token heads", len(known["previous_token"]), high=0)

# %% [markdown]
# The pointer model is as good at induction as the hand-built one, and its layer-1 head scores 1.
# But the partner differs: a duplicate-token head, which passes on *where* the token stood. Equal
# behaviour, equal stripes, another algorithm.
#
# In the last three models there is no induction head to be found.

# %%
roles = sum(len(heads) for each in untrained for heads in find_heads(each).values())
claim("impostor: induction heads", len(found["impostor"]["induction"]), high=0)
claim("lag matcher: induction heads", len(found["lag matcher"]["induction"]), high=0)
claim("3 models with random weights: heads with any role", roles, high=0)

# %% [markdown]
# ## Attention is not use
#
# A pattern says where a head looks. What arrives is the value, through `W_O`. If the value at BOS
# is nearly zero, all that attention moves nearly nothing. So weight each entry with the length of
# what it would add to the stream.
#
# **Exercise `value_weighted_pattern`** (15 minutes).


# %%
def looks_and_moves(model, tokens, layer):
    """A layer's pattern and its value-weighted pattern, each [batch, head, query, key]."""
    _, cache = model.run_with_cache(tokens)
    pattern = cache[f"blocks.{layer}.attn.hook_pattern"]
    v = cache[f"blocks.{layer}.attn.hook_v"]
    return pattern, value_weighted_pattern(pattern, v, model.W_O[layer])


layer, head = best
pattern, moved = looks_and_moves(model, tokens, layer)
on_bos = pattern[:, head, :, 0][new].mean()
length = moved[:, head].sum(dim=-1)  # batch query
ratio = length[new].mean() / length[repeats.predictable].mean()
claim("attention of the best head on BOS while its token is new", on_bos, low=0.9, measured=0.992)
claim("length it moves then, over the length at a match", ratio, high=0.3, measured=0.078)

pattern, moved = looks_and_moves(model, shown, layer)
show(draw_values(pattern[0, head], moved[0, head], f"{layer}.{head}"), "value_weighted")

# %% [markdown]
# The bright BOS column goes pale, the stripe stays. A long vector is still no *useful* vector: its
# length does not say whether it points anywhere that a later part reads.
#
# The control for this whole chapter is a head that looks perfectly and says next to nothing. We
# take the hand-built model and multiply the output weights of its induction head by .0001.
#
# *Predict:* what does our detector say?

# %%
quiet = planted.induction_model(**sizes)
quiet.W_O[1] *= 1e-4
still_found = find_heads(quiet)["induction"]
_, moved = looks_and_moves(quiet, torch.tensor([[0, 7, 3, 9, 7, 3, 9, 7]]), layer=1)
on_repeats = held_out(quiet, periods=(n // 4, n // 2), batch=128)
loud, hushed = repeat_scores(by_hand, on_repeats), repeat_scores(quiet, on_repeats)
claim("induction heads found in the quiet model", len(still_found), low=1, high=1)
claim("the longest vector that it moves", moved.max(), high=2e-4, measured=1e-4)
claim("loss on repeats as built, in nats", loud["loss_predictable"], high=0.01)
claim("loss on repeats of the quiet one", hushed["loss_predictable"], low=4, measured=4.173)

# %% [markdown]
# It says "induction head", as loudly as before. Prefix matching is half of the definition: an
# induction head also has to *copy*, to raise the logit of the token it looks at, by enough to
# matter. Scores of attention cannot see that. They give candidates, not proofs.
#
# ## What you have now
#
# - Five scores, each with what it gives for even attention: .05 to .10.
# - `find_heads`, which later chapters call to name heads. It accepts both hand-built circuits and
#   rejects random weights, the impostor and the lag matcher, because its data tells them apart.
#   Whoever builds a head that no such data tells from induction has found the next impostor.
# - In our model: previous-token heads in layer 0, and not one but four induction heads in layer 1.
# - What it cannot say: whether a head copies, whether anybody reads it, whether the model would
#   miss it.
#
# Next: which heads push up the right answer? `python -m course 6`.
