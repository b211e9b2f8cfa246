# %% [markdown]
# # 12. What can be read from the stream, and does the model read it?
#
# 30 minutes to read, 135 with the exercises. Afterwards you can fit a linear probe, say what its
# accuracy is worth, take a feature out of the stream, and push the model along a direction. Not
# covered: probes that are not linear, features without labels (sparse autoencoders).
#
# **The question.** Somewhere in 64 numbers the model keeps what it knows about a position. A
# *probe* is a small classifier that tries to read one thing from them. If it succeeds, the thing is
# there. Is it also *used*?
#
# *Predict:* from the stream after layer 0 we try to read the token itself, the previous one, the
# next one. Which works?
#
# ## A probe is a regression
#
# Turn each label into a one-hot vector, fit straight lines by least squares, guess the highest
# line. This has a closed form: nothing to tune, no random state, the same answer each time.
#
# **Exercises `token_back`** (5 minutes), the labels, **`linear_probe`** (20 minutes), and
# **`held_out_accuracy`** (15 minutes), which tests on *sequences* the probe never saw. Why so
# strict? Fit a probe to labels that mean nothing:

# %%
import torch

from course.desk import claim, show, the_model
from course.pictures.ch12 import draw_depths, draw_doses, draw_erasures, draw_memory, draw_places
from minitransformer import Transformer
from minitransformer.evaluate import held_out
from solutions.ch12_probes import (
    class_means,
    control_task,
    erase,
    held_out_accuracy,
    linear_probe,
    probe_by_depth,
    selectivity,
    steer,
    token_back,
    unread_feature_model,
)

torch.set_grad_enabled(False)
model, generator = the_model(), torch.Generator().manual_seed(12)
n, d_vocab = model.cfg.n_ctx, model.cfg.d_vocab
repeats = held_out(model, periods=(n // 4, n // 2), batch=512)
tokens, known = repeats.tokens, repeats.predictable
DEPTHS = ["blocks.0.hook_resid_pre"] + [
    f"blocks.{layer}.hook_resid_post" for layer in range(model.cfg.n_layers)
]
_, cache = model.run_with_cache(
    tokens, [*DEPTHS, "blocks.1.hook_attn_out", "blocks.1.attn.hook_pattern"]
)
embedding, after_0, after_1 = (cache[name] for name in DEPTHS)  # each batch pos d_model

order = torch.randperm(tokens[:, 1:].numel(), generator=generator)
x, meaningless = after_0[:, 1:].flatten(0, 1), tokens[:, 1:].flatten()[order]
sizes, seen, unseen = [32, 64, 128, 256, 512, 1024, 2048, 4096], [], []
for size in sizes:
    W, b = linear_probe(x[:size], meaningless[:size], d_vocab)
    right = (x.double() @ W + b).argmax(dim=-1) == meaningless
    seen.append(right[:size].double().mean().item())
    unseen.append(right[-8192:].double().mean().item())
show(
    draw_memory(
        sizes,
        seen,
        unseen,
        model.cfg.d_model,
        "A probe can learn nonsense by heart: test it elsewhere",
    ),
    "memory",
)
claim("meaningless labels, 64 rows, tested on the same rows", seen[1], low=0.9, measured=1)
claim("the same probe on other rows", unseen[1], low=0.0, high=0.05, measured=0.01575)
claim("4096 rows, tested on the same rows", seen[-1], low=0.04, high=0.15, measured=0.08398)

# %% [markdown]
# With as many rows as dimensions nearly every labelling can be learnt by heart. On other rows,
# nonsense scores 1/64. And split by sequence: positions of one sequence share tokens, so a probe
# may recognise the sequence.
#
# ## By depth
#
# **Exercise `probe_by_depth`** (15 minutes).

# %%
nowhere = torch.full_like(tokens[:, :1], -1)
# the answer, where it can be known
following = torch.where(known, torch.cat([tokens[:, 1:], nowhere], dim=1), -1)
in_block = torch.arange(n) - 1 - repeats.prefix[:, None]
# which place of the block?
phase = torch.where(in_block >= 0, in_block % repeats.period[:, None], -1)
previous = token_back(tokens, 1)
features = {
    "current token": token_back(tokens, 0),
    "previous token": previous,
    "next token": following,
}
curves = {name: probe_by_depth(model, tokens, labels, d_vocab) for name, labels in features.items()}
guessing = phase[phase >= 0].bincount().max() / (phase >= 0).sum()  # always the commonest place
place = f"place in the block\n(guessing: {100 * guessing:.0f} %)"
curves[place] = probe_by_depth(model, tokens, phase, n // 2)
shuffles = [
    previous.flatten()[torch.randperm(previous.numel(), generator=generator)].view_as(previous)
    for _ in range(3)
]
control = torch.stack([probe_by_depth(model, tokens, labels, d_vocab) for labels in shuffles])
title = "Layer 0 brings in the previous token, layer 1 the answer"
show(draw_depths(curves, control, title), "depths")
claim("current token, after layer 0", curves["current token"][1], low=0.95, measured=1)
claim("previous token, after layer 0", curves["previous token"][1], low=0.9, measured=0.9997)
claim("next token, after layer 0", curves["next token"][1], high=0.06, measured=0.02149)
claim("previous token, in the embedding", curves["previous token"][0], high=0.05, measured=0.01879)
claim("previous token, after layer 1", curves["previous token"][2], low=0.9, measured=0.9959)
claim("next token, after layer 1", curves["next token"][2], low=0.95, measured=1)
claim("shuffled labels, best of all", control.max(), high=0.05, measured=0.02442)
untrained = probe_by_depth(Transformer(model.cfg, seed=0), tokens, previous, d_vocab)
claim("previous token after layer 0, random weights", untrained[1], high=0.3, measured=0.08049)

# %% [markdown]
# The current token is there from the start, the previous one comes with layer 0, the answer with
# layer 1: the three steps of induction in three lines. Two controls: shuffled labels, the grey
# band, and random weights, whose heads mix all tokens before.
#
# But look at the end of the second line. Layer 1 has done its work, and the previous token is still
# there. Who reads it?
#
# ## What is an accuracy worth?
#
# *Predict:* a probe finds with 100 % whether the current token is an even number. Does the model
# know about even numbers?
#
# **Exercises `selectivity`** (10 minutes) and **`control_task`** (10 minutes).

# %%
even = torch.where(tokens > 0, tokens % 2, -1)  # BOS left out
invented = control_task(torch.where(tokens > 0, tokens, -1), d_vocab, 2, generator)
claim(
    "is the token even? accuracy on the embedding",
    held_out_accuracy(embedding, even, 2),
    low=0.97,
    measured=1,
)
above = selectivity(embedding, even, 2, generator)
claim("its selectivity against shuffled labels", above, low=0.4, high=0.6, measured=0.5074)
claim(
    "accuracy for classes drawn by lot",
    held_out_accuracy(embedding, invented, 2),
    low=0.97,
    measured=1,
)
above = selectivity(after_0, previous, d_vocab, generator)
claim("selectivity: previous token, after layer 0", above, low=0.9, measured=0.9825)
above = selectivity(after_1, phase, n // 2, generator)
claim(
    "selectivity: place in the block, after layer 1", above, low=-0.05, high=0.05, measured=-0.01882
)
claim("the commonest place", guessing, low=0.1, high=0.15, measured=0.1162)
claim("accuracy for the place in the block", curves[place][2], low=0.05, high=0.2, measured=0.1024)

# %% [markdown]
# No. The tokens have no order, their numbers are names. But 64 different vectors in 64 dimensions
# can be cut in any way you like: classes drawn by lot are read just as well. The *probe* learnt
# what is even. Shuffled labels do not notice, because shuffling destroys the token too. The control
# task (Hewitt & Liang 2019) does: a fixed random class per token.
#
# So "the previous token" passes (the token itself must have been moved there), while "the previous
# token is even" would be our invention. And the place in the block? A probe that guesses the
# commonest place gets .12. Its selectivity is 0.
#
# ## By position, and what a probe misses
#
# *Predict:* the model knows very well whether it is in the repeat: only there does it dare a
# prediction. Can we read it?


# %%
def right_by_position(x, labels, n_classes):
    """[pos - 1] accuracy at each position but BOS, of one probe for all of them."""
    fit, labels, x = int(0.8 * len(x)), labels[:, 1:], x[:, 1:]
    W, b = linear_probe(x[:fit].flatten(0, 1), labels[:fit].flatten(), n_classes)
    return ((x[fit:].double() @ W + b).argmax(dim=-1) == labels[fit:]).double().mean(dim=0)


in_repeat = torch.where(tokens > 0, known.long(), -1)
# how much layer 1 wrote: one number per place
written = cache["blocks.1.hook_attn_out"].norm(dim=-1, keepdim=True)
# batch pos: do its heads look at BOS?
resting = cache["blocks.1.attn.hook_pattern"][..., 0].mean(dim=1) > 0.5
commonest = in_repeat[:, 1:].double().mean(dim=0)
lines = {"linear probe on the stream": right_by_position(after_1, in_repeat, 2)}
lines["the length of what layer 1 wrote"] = right_by_position(written, in_repeat, 2)
lines["no probe: the commonest answer"] = torch.maximum(commonest, 1 - commonest)
by_depth = torch.stack(
    [right_by_position(stream, previous, d_vocab) for stream in (embedding, after_0, after_1)]
)
title = "What a linear probe misses can be as plain as the length of a vector"
show(
    draw_places(torch.nn.functional.pad(by_depth, (1, 0), value=torch.nan), lines, title), "places"
)
claim("previous token after layer 0, worst position", by_depth[1].min(), low=0.75, measured=0.9903)
at_first, at_last = (held_out_accuracy(stream, in_repeat, 2) for stream in (embedding, after_1))
claim(
    "is this the repeat? linear probe, after layer 1", at_last, low=0.75, high=0.93, measured=0.8478
)
claim(
    "on the embedding: no better than always 'no'", at_first, low=0.65, high=0.75, measured=0.6909
)
claim(
    "by the length of what layer 1 wrote",
    held_out_accuracy(written, in_repeat, 2),
    low=0.98,
    measured=0.9997,
)
claim(
    "by whether its heads look at BOS",
    (resting[:, 1:] != known[:, 1:]).double().mean(),
    low=0.98,
    measured=0.9999,
)

# %% [markdown]
# The probe does poorly, and the thing is there all the same: layer 1 writes much in the repeat and
# little before, always in another *direction*, the predicted token's. A length is no linear
# feature. "The probe fails" means "not like this".
#
# ## Readable, but unused
#
# For the other direction, a planted case. Take the hand-built induction model of chapter 5 and add
# a head 0.1 that looks *two* back and notes that token in a corner that nothing reads.
#
# To test use, take the feature out and see what breaks. If all classes have the same mean, least
# squares finds only flat lines, and names the commonest class everywhere. So subtract from each
# place the offset of its class.
#
# **Exercises `class_means`** (10 minutes) and **`erase`** (10 minutes).


# %%
def erasing(labels, n_classes, head=None):
    """A hook function that takes these labels out of the stream, or out of what one head writes."""

    def fn(x, hook):
        if head is None:
            return erase(x, labels, n_classes)
        x[:, :, head] = erase(x[:, :, head], labels, n_classes)
        return x

    return fn


hand = unread_feature_model()
hand_repeats = held_out(hand, (6, 12), batch=256)
two_back = token_back(hand_repeats.tokens, 2)
hand_logits, hand_cache = hand.run_with_cache(hand_repeats.tokens, DEPTHS)
silenced = [("blocks.0.attn.hook_result", erasing(two_back, hand.cfg.d_vocab, head=1))]
logits, gone = hand.run_with_cache(hand_repeats.tokens, DEPTHS, fwd_hooks=silenced)
found = held_out_accuracy(hand_cache[DEPTHS[1]], two_back, 24)
claim("planted: two back, accuracy after layer 0", found, low=1.0, high=1.0, measured=1)
claim(
    "the same after erasing",
    held_out_accuracy(gone[DEPTHS[1]], two_back, 24),
    high=0.15,
    measured=0.05245,
)
claim(
    "largest change of any logit", (logits - hand_logits).abs().max(), low=0.0, high=0.0, measured=0
)

# %% [markdown]
# Accuracy 1, use 0, exactly. No probe could have told.
#
# Now the trained model. The previous token can be read before and after layer 1, nearly perfectly.
# *Predict:* what happens if we erase it here, or there?


# %%
def right_after(*fwd_hooks):
    guesses = model.run_with_hooks(tokens, fwd_hooks)[:, :-1].argmax(dim=-1)
    return (guesses == tokens[:, 1:])[known[:, :-1]].double().mean().item()


before, after = "blocks.1.hook_resid_pre", "blocks.1.hook_resid_post"
erasures = {
    "previous\ntoken": previous,
    "current\ntoken": tokens,
    "next token\n(the answer)": following,
}
erasures["shuffled labels\n(control)"] = shuffles[0]
broken = {
    name: tuple(right_after((place, erasing(labels, d_vocab))) for place in (before, after))
    for name, labels in erasures.items()
}
_, emptied = model.run_with_cache(tokens, after, fwd_hooks=[(after, erasing(previous, d_vocab))])
title = "The previous token: readable before and after layer 1, used only before"
show(draw_erasures(broken, right_after(), title), "erased")
claim("right predictions, untouched", right_after(), low=0.99, measured=1)
claim(
    "previous token erased before layer 1", broken["previous\ntoken"][0], high=0.1, measured=0.01844
)
claim("previous token erased after layer 1", broken["previous\ntoken"][1], low=0.99, measured=1)
claim(
    "accuracy of its probe then",
    held_out_accuracy(emptied[after], previous, d_vocab),
    high=0.05,
    measured=0.02975,
)
claim(
    "the answer erased after layer 1",
    broken["next token\n(the answer)"][1],
    high=0.2,
    measured=0.07353,
)
claim(
    "shuffled labels erased before layer 1",
    broken["shuffled labels\n(control)"][0],
    low=0.98,
    measured=1,
)

# %% [markdown]
# Before layer 1 everything hangs on it. After layer 1, where only `W_U` reads, it is litter: the
# stream keeps what nobody takes away. The same goes for the current token. The two controls on the
# right: erasing the answer shows that the method can hurt at that place; erasing shuffled labels,
# that it does not hurt by itself.
#
# ## Steering
#
# The strongest test of "this direction means X" is to write X ourselves. Take sequences without any
# repeat. The last token is X, and occurs nowhere before. At one marked position in the middle we
# add to the stream: "my previous token was X".
#
# *Predict:* where will layer 1 look from the last position, and what will the model predict?
#
# Which direction? The probe has one for each token, the column of `W` that *reads* it. The model
# *writes* something else: the mean of all places whose previous token was X, our `class_means`. Try
# both. Controls, all of the same length: a random direction, and the honest direction for another
# token.
#
# **Exercise `steer`** (10 minutes).

# %%
means = class_means(after_0, previous, d_vocab)  # label d_model: what the model writes
# what reads it
W, _ = linear_probe(after_0[:, 1:].flatten(0, 1), previous[:, 1:].flatten(), d_vocab)
# all tokens different
fresh = torch.rand(256, d_vocab - 1, generator=generator).argsort(dim=1)[:, : n - 1] + 1
fresh = torch.cat([torch.zeros(256, 1, dtype=torch.long), fresh], dim=1)
marked, last, other = n // 3, fresh[:, -1], fresh[:, n // 2]
size = means[last].norm(dim=-1, keepdim=True)
names = ("mean of 'previous = X': what is written", "column X of the probe: what reads")
directions = dict(zip(names, (means[last], W.T[last].float()))) | {
    "mean for another token": means[other]
}
directions["random direction"] = torch.randn(means[last].shape, generator=generator)
doses, effects = [0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0], {}
for name, vectors in directions.items():
    attended, predicted = [], []
    for dose in doses:
        logits, pattern = steer(
            model, fresh, marked, dose * size * vectors / vectors.norm(dim=-1, keepdim=True)
        )
        attended.append(pattern[:, :, -1, marked].mean().item())
        predicted.append(
            logits[:, -1].softmax(dim=-1).gather(1, fresh[:, marked, None]).mean().item()
        )
    effects[name] = (attended, predicted)
show(
    draw_doses(
        doses, effects, "Write 'my previous token was X' anywhere, and layer 1 comes to read"
    ),
    "steering",
)
written_mean, reading, wrong_token, noise = effects.values()
claim("attention to the marked position, nothing added", noise[0][0], high=0.05, measured=0.00974)
claim("with the written direction, dose 1", written_mean[0][4], low=0.5, measured=0.8834)
claim("with the probe's direction, dose 1", reading[0][4], low=0.03, high=0.4, measured=0.1217)
claim("with a random direction, dose 1", noise[0][4], high=0.1, measured=0.03672)
claim("with the direction of another token, dose 1", wrong_token[0][4], high=0.15, measured=0.04594)
claim(
    "probability of the marked token: written direction, dose 2",
    written_mean[1][6],
    low=0.95,
    measured=0.999,
)
claim("and with a random direction, dose 2", noise[1][6], high=0.1, measured=0.04902)
cosine = torch.cosine_similarity(means[1:], W.T[1:].float(), dim=1).mean()
claim(
    "cosine between the two directions, mean over tokens",
    cosine,
    low=0.05,
    high=0.4,
    measured=0.1916,
)

# %% [markdown]
# A sentence that we wrote into the stream is believed: the model predicts what stands at the marked
# position. The probe's own direction is a weak lever, though it reads with 99.9 %. It points where
# X differs *most safely* from everything else in the stream, away from all that disturbs; what X
# itself writes lies elsewhere (Haufe et al. 2014). Read with `W`, write with means.
#
# A caveat. Dose 2 is more than the model ever writes, and even nonsense moves something there. Show
# the whole curve.
#
# ## What you have now
#
# - Probes with their three controls: unseen sequences, shuffled labels, a control task.
# - A timeline: current token, previous token, answer.
# - Readable is not used: exactly so in the planted model, and for the previous token after layer 1
#   in ours.
# - Not readable by a line is not absent: the model knows the repeat by a length.
# - Erasing and steering, which turn "readable" into a claim about causes.
#
# What a wrong story would have looked like: "after layer 1 the previous token is decoded with 99 %,
# so the output depends on it". The number is right, the "so" is not.
#
# Next: when is an explanation complete? `python -m course 13`.
