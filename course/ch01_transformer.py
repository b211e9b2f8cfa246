# %% [markdown]
# # 1. A transformer small enough to see through
#
# 30 minutes to read, 90 with the exercises. Afterwards you can write a transformer from an empty
# file, say what every number in it is for, and look inside it with hooks. Not covered: MLPs and
# LayerNorm (chapter 15), how it was trained (chapter 3).
#
# *Short of time? `python -m course --route core` is an afternoon. Lines like this one say what it
# skips; of this chapter, nothing.*
#
# **The question.** A language model is a function from tokens to guesses about the next token.
# Most are too large to look at. How small can it be and still do something worth explaining?
#
# Ours has two layers of four attention heads, and nothing else: no MLP, no LayerNorm, no bias. It
# reads random tokens that repeat, such as `17 5 42 8 | 17 5 42 8`, and once the second copy has
# begun, it predicts every token. (A *token* is a number that stands for a piece of text; all there
# are, here 65, are the *vocabulary*.) That little skill is called *induction*, and to the end of
# chapter 9 we shall prove how it is done.
#
# *Predict before you run on:* how many numbers does this model consist of? A thousand? A million?

# %%
import torch

from course.desk import claim, claim_rate, show, the_model
from course.pictures import ch01 as pictures
from minitransformer.evaluate import held_out, repeat_scores
from solutions.ch01_transformer import attention_pattern, forward, forward_with_hooks, head_output

torch.set_grad_enabled(False)
model = the_model()
weights = {name: tensor.detach() for name, tensor in model.state_dict().items()}
for name, tensor in weights.items():
    print(f"  {name:6} {str(list(tensor.shape)):18} {tensor.numel():6}")
count = sum(tensor.numel() for tensor in weights.values())
claim("numbers in the model", count, measured=43136)

# %% [markdown]
# Seven tensors, 43,136 numbers. Here is all that happens to a sequence:
#
# 1. **Embed.** Each token becomes a row of `W_E`: a vector of 64 numbers. This vector is the
#    *residual stream*.
# 2. **Attend, twice.** In each layer every head reads the stream, moves something from earlier
#    positions to later ones, and *adds* it to the stream. `W_pos` is told only to what decides
#    where to look (q and k); it never enters the stream (*shortformer* positions).
# 3. **Unembed.** The stream times `W_U` gives one number per token of the vocabulary, the *logits*.
#    Softmax turns them into probabilities for the next token.

# %%
show(pictures.draw_model(), "model")

# %% [markdown]
# ## Who looks at whom?
#
# The only place where one position learns about another is the *pattern*. Position `i` asks a
# question, `q_i`. Every position `j` up to `i` offers a key, `k_j`. The better they match, the more
# `i` looks at `j`:
#
#     pattern[i, j] = softmax over j <= i of  q_i . k_j / sqrt(d_head)
#
# *Predict:* what must the first row of every pattern be, whatever the weights are?
#
# **Exercise `attention_pattern`** (15 minutes, `python -m exercises check attention_pattern`).
# Afterwards come back.

# %%
# BOS, then 10 random tokens again and again
repeats = held_out(model, periods=(10, 10), batch=256, prefix=0)
_, cache = model.run_with_cache(repeats.tokens)
q, k = cache["blocks.1.attn.hook_q"], cache["blocks.1.attn.hook_k"]
pattern = attention_pattern(q, k)  # batch head query key
difference = pattern - cache["blocks.1.attn.hook_pattern"]
claim("largest difference from the model's own pattern", difference.abs().max(), high=1e-5)
claim("attention of position 0 to itself", pattern[:, :, 0, 0].min(), low=1.0, high=1.0)
claim("largest attention to a later token", pattern.triu(1).abs().max(), low=0.0, high=0.0)

# %% [markdown]
# The first row is `1 0 0 ...`: position 0 has nobody else to look at. It holds the token BOS
# ("beginning of sequence"), and as we shall see, heads with nothing to do rest there.
#
# Now let us break the formula on purpose. A model that may look ahead is not a better model, it is
# a cheat: the answer stands in front of it. Here it would spend three quarters of its attention on
# the future. Forgetting `sqrt(d_head)` is no detail either: every softmax gets sharper, in a model
# that was trained with the blunter one.

# %%
root = q.shape[-1] ** 0.5  # sqrt(d_head)
scores = torch.einsum("bihd,bjhd->bhij", q, k) / root  # batch head query key
patterns = {
    "as trained": pattern,
    "scale forgotten": attention_pattern(q * root, k),
    "no causal mask": scores.softmax(dim=-1),
}
show(pictures.draw_three_patterns(patterns), "three_patterns")
ahead = patterns["no causal mask"].triu(1).sum(dim=-1).mean()
claim("attention that goes to later tokens once the mask is gone", ahead, low=0.3, measured=0.751)

# %% [markdown]
# ## What is moved, and where it goes
#
# A pattern says where to look. What is carried over is another matter, with weights of its own:
# `v = x W_V` is what a position offers, and `W_O` says where in the stream it is put down. *Where
# to look* and *what to move* are two separate circuits in every head. Chapter 7 is about nothing
# else.
#
# **Exercise `head_output`** (10 minutes), then **`forward`** (15 minutes): the whole model in about
# nine lines.

# %%
logits = forward(weights, repeats.tokens)
difference = logits - model(repeats.tokens)
claim("largest difference of your logits from the model's", difference.abs().max(), high=1e-4)
stream = cache["blocks.1.hook_resid_pre"]
out = head_output(stream, pattern, weights["W_V"][1], weights["W_O"][1])  # batch pos head d_model
difference = out - cache["blocks.1.attn.hook_result"]
claim("largest difference of a head's output", difference.abs().max(), high=1e-4)


def right_next_tokens(model):
    return repeat_scores(model, repeats)["induction_accuracy"]


right, control = right_next_tokens(model), right_next_tokens
claim("right next tokens in the repeat", right, low=0.99, measured=1.0, untrained=control)

# %% [markdown]
# Two separately written forward passes agree to rounding. So nothing is hidden in the package's
# model: what you wrote *is* the model, and it predicts the repeat.
#
# Would we notice a wrong one? That is the question to ask of every piece of evidence in this
# course, so let us ask it here. Take a forward pass that adds the positions to the stream, as most
# models do, and is right in all else. How far off is it?

# %%
embedded = weights["W_E"][repeats.tokens] + weights["W_pos"][: repeats.tokens.shape[1]]
wrong = model.run_with_hooks(repeats.tokens, [("hook_embed", lambda embed, hook: embedded)])
moved = ((wrong - logits).abs() > 1e-3).float().mean()
claim("share of logits that are off by more than .001", moved, low=0.95, measured=0.9997)

# %% [markdown]
# ## Looking inside: hooks
#
# To explain a model we must see, and change, what happens in the middle. A **hook** is a function
# that is handed an activation while the model runs, and may hand back another one. There is no
# magic to it: wherever an activation can be looked at, the forward pass calls the functions that
# asked for it, and goes on with what comes back. Hooks that only look and keep fill a **cache**:
# each activation by its name, as `run_with_cache` returned it above.
#
# Elsewhere hooks are attached to a model and must be taken off again. Forget it once, and your next
# ten results are measured on a model that you broke. Here they are an argument of a call, and gone
# when it returns.
#
# **Exercise `forward_with_hooks`** (20 minutes).
#
# *Predict:* suppose a hook takes away all that layer 0 wrote. Layer 1, which does the predicting,
# is untouched. What happens to the predictions?


# %%
def without_layer_0(stream, name):
    return weights["W_E"][repeats.tokens]  # what the stream held before layer 0 added to it


def right_in_repeat(logits):
    """[prompt]: the share of right next tokens among those that can be known."""
    right = logits[:, :-1].argmax(dim=-1) == repeats.tokens[:, 1:]
    return right[:, 11:].float().mean(dim=1)  # the second copy begins at position 11


broken = forward_with_hooks(weights, repeats.tokens, [("stream.1", without_layer_0)])
again = forward_with_hooks(weights, repeats.tokens, [])
claim_rate("right next tokens without layer 0", right_in_repeat(broken), high=0.25)
claim_rate("right next tokens in the next run, no hook", right_in_repeat(again), low=0.99)
claim("bits that the hook changed for good", (again != logits).sum(), low=0, high=0)

# %% [markdown]
# Without layer 0 the model guesses, although the heads that predict are all in layer 1. So they
# must need something that layer 0 left in the stream. What it is, and how they read it, is the
# story of chapters 5 to 9.
#
# Beware of the easy conclusion, though. "Without X it breaks" shows that X is needed *for
# something*. It does not show what for.
#
# Take two controls. In the place of what layer 0 wrote, put what it wrote for *another row*: the
# same kind of vectors, with the wrong content. And *add* these to what it wrote. *Predict:* which
# of the two does more harm?


# %%
def of_another_row(stream):
    """What layer 0 wrote, each row's given to the next one."""
    return (stream - weights["W_E"][repeats.tokens]).roll(1, dims=0)


def in_place_of_layer_0(stream, name):
    return weights["W_E"][repeats.tokens] + of_another_row(stream)


def beside_layer_0(stream, name):
    return stream + of_another_row(stream)


instead = forward_with_hooks(weights, repeats.tokens, [("stream.1", in_place_of_layer_0)])
beside = forward_with_hooks(weights, repeats.tokens, [("stream.1", beside_layer_0)])
shares = {
    "as trained": right_in_repeat(logits),
    "without\nlayer 0": right_in_repeat(broken),
    "another row's\nin its place": right_in_repeat(instead),
    "another row's\nbeside it": right_in_repeat(beside),
    "next run,\nno hook": right_in_repeat(again),
}
show(pictures.draw_hooks({name: share.mean() for name, share in shares.items()}), "hooks")
text = "right next tokens with another row's layer 0 in its place"
claim_rate(text, shares["another row's\nin its place"], high=0.25)
text = "right next tokens with another row's layer 0 beside it"
claim_rate(text, shares["another row's\nbeside it"], low=0.3)

# %% [markdown]
# *In its place*: lost. The same vectors *beside* what layer 0 wrote do harm too, but much less. So
# it is not the disturbance alone that breaks the model: something that layer 0 wrote about *this*
# row is missing. (Random noise would be a poor control: how much harm it does depends on the basis
# of the stream, which no behaviour can tell us, chapter 2.)
#
# ## What you have now
#
# - A transformer of 43,136 numbers that you wrote yourself, equal to the course's model up to
#   rounding.
# - Patterns say where to look, values what is moved. Scores are bilinear in what two positions
#   hold, each head has one softmax of its own, and what it moves is linear in the stream.
# - Hooks to look and to interfere, which leave nothing behind.
# - A habit: for each claim, the control that would have exposed it. Here: a wrong forward pass, an
#   untrained model, and another row's activations.
#
# Next: if everything is added to one stream, who wrote what? `python -m course 2`.
