# %% [markdown]
# # 6. Which heads matter for the answer?
#
# 30 minutes to read, 80 with the exercises. Afterwards you can split any logit into what each head
# wrote, watch the answer appear from layer to layer, and say where both methods mislead. Not
# covered: effects that pass through other heads (chapter 10), LayerNorm and MLPs (chapter 15).
#
# **The question.** Chapter 5 found heads by where they *look*. Who writes the answer? The stream is
# a sum: the embedding plus one vector per head. The unembedding is a matrix product. So every logit
# is a sum as well:
#
#     logit[token] = sum over the parts of  part . W_U[:, token]
#
# No approximation anywhere. Each term is the part's **direct logit attribution**.
#
# *Predict:* nine parts, the embedding and eight heads. Which of them write the answer, and which
# write none of it?
#
# **Exercise `direct_logit_attribution`** (10 minutes).

# %%
import torch

from course.desk import claim, claim_rate, show, the_model, untrained_model
from course.pictures.ch06 import (
    draw_component_lens,
    draw_lenses,
    draw_misled,
    draw_probability,
    draw_shift,
    draw_waterfalls,
)
from minitransformer.evaluate import held_out
from minitransformer.planted import induction_model, negative_head_model
from solutions.ch02_residual_stream import residual_decomposition
from solutions.ch05_finding_heads import find_heads
from solutions.ch06_logit_attribution import (
    component_lens,
    direct_logit_attribution,
    logit_difference_attribution,
    logit_lens,
    shift_unembedding,
)
from solutions.ch08_composition import stretch_stream, with_weights

torch.set_grad_enabled(False)
model, impostor = the_model(), the_model("impostor")
random_model = untrained_model(1)
W_U, n_heads = model.W_U, model.cfg.n_heads
# each row: BOS, a random prefix, then 10 random tokens again and again
repeats = held_out(model, periods=(10, 10), batch=256)
tokens = repeats.tokens
right = tokens.roll(-1, dims=1)  # the next token
known = repeats.predictable.clone()  # where the next token can be known
known[:, -1] = False  # what follows the last token is not in the batch


def average(x):
    """The mean of x [..., batch, pos] over the positions whose next token can be known."""
    return x[..., known].float().mean(dim=-1)


def by_prompt(hits):
    """The share of these positions at which hits [batch, pos] is true, for each prompt: [batch]."""
    return (hits & known).sum(dim=1) / known.sum(dim=1)


def of(logits, asked):
    """The entries of logits [..., batch, pos, vocab] for the tokens asked about, [batch, pos]."""
    return logits.gather(-1, asked[..., None].expand(*logits.shape[:-1], 1))[..., 0]


def written(model, asked):
    """What each part writes about the tokens asked for, on average: [component]."""
    _, cache = model.run_with_cache(tokens)
    return average(direct_logit_attribution(cache, model.W_U, asked))


def logit_of_right(model):
    return written(model, right).sum()


logits, cache = model.run_with_cache(tokens)
labels, parts = residual_decomposition(cache)  # "embed", "0.0", "0.1", ...
attribution = direct_logit_attribution(cache, W_U, right)  # component batch pos
answer = average(attribution)  # component
total, layer_1 = answer.sum(), answer[-n_heads:]
error = (attribution.sum(dim=0) - of(logits, right)).abs().max()
least = layer_1.min() / total
claim("largest error of the sum, in logits", error, high=1e-4)
claim("logit of the right token", total, 8, 20, measured=12.98, untrained=logit_of_right)
claim("share of it written by layer 1", layer_1.sum() / total, low=0.97, high=1.03, measured=0.998)
claim("smallest share of a layer-1 head", least, low=0.05, high=0.25, measured=0.173)

# %% [markdown]
# All of layer 1, none of layer 0. Is that a finding, or would any model look so? Two controls:
# models with random weights, and the same model asked about shuffled tokens. The sum is *exact in
# both*. An exact sum proves arithmetic, not a story. The story is in which terms are large.
#
# And where we know the truth? In the hand-built model the induction head writes a logit of 10 by
# construction. It gets 10, all else 0.


# %%
order = torch.randperm(right.numel(), generator=torch.Generator().manual_seed(0))
shuffled = right.flatten()[order].view_as(right)
controls = {"control: shuffled tokens": written(model, shuffled)}
controls["control: random weights"] = written(random_model, right)
largest = max(values.abs().max() for values in controls.values())
claim("controls: largest part", largest, high=0.4)
show(draw_waterfalls(labels, {"the right next token": answer, **controls}), "waterfall")

planted = induction_model(d_vocab=40)
small = held_out(planted, periods=(10, 10), batch=16, prefix=0).tokens
small_right = small.roll(-1, dims=1)
_, planted_cache = planted.run_with_cache(small)
found = direct_logit_attribution(planted_cache, planted.W_U, small_right)  # component batch pos
found = found[:, :, 11:-1].mean(dim=(1, 2))  # from position 11 on all is known
error = (found - torch.tensor([0, 0, 10])).abs().max()
claim("hand-built model: error of the known answer 0, 0, 10", error, high=1e-4)

# %% [markdown]
# ## A logit alone means nothing
#
# Add one vector `u` to every column of `W_U`. At each position all logits move by the same amount,
# and softmax does not see it. It is the same model. But its attributions move, and we may choose
# `u`. A change of the weights that no behaviour shows is called a *gauge*.
#
# **Exercise `shift_unembedding`** (5 minutes).
#
# *Predict:* can we pick `u` so that the previous-token head "writes" the whole answer and the
# induction heads nothing?

# %%
roles = find_heads(model)
previous = [labels.index(f"{layer}.{head}") for layer, head in roles["previous_token"]]
induction = [labels.index(f"{layer}.{head}") for layer, head in roles["induction"]]
wish = torch.zeros(len(labels))
wish[previous[0]] = total
directions = average(parts.movedim(-1, 0)).T  # component d_model
u = torch.linalg.lstsq(directions, (wish - answer)[:, None]).solution[:, 0]  # d_model
W_shifted = shift_unembedding(W_U, u)
story = average(direct_logit_attribution(cache, W_shifted, right))
share = story / story.sum()
length = u.norm() / W_U.norm(dim=0).mean()
moved = (parts.sum(dim=0) @ W_shifted).softmax(dim=-1) - logits.softmax(dim=-1)
claim("length of u, relative to a column of W_U", length, high=300, measured=65.5)
claim("largest change of a probability", moved.abs().max(), high=1e-3)
claim("previous-token head, share of the shifted logit", share[previous[0]], low=0.99, high=1.01)
claim("induction heads, share of the shifted logit", share[induction].sum(), low=-0.01, high=0.01)

# %% [markdown]
# We can. It takes a long `u`, some 65 times as long as a column, because that head's outputs nearly
# cancel on average. So this is no accident to fear in practice, but a bare logit attribution is a
# convention: the loss is the same for every `u`. What survives is a **difference** of two logits:
# `u` cancels. It has a meaning too, since softmax divides all by the same sum: `logit[a] - logit[b]
# = log p(a) - log p(b)`.
#
# There is a second gauge. Write the whole stream in another basis: all that writes into it is
# multiplied by a matrix `S`, all that reads from it by its inverse (chapter 8). Lengths and angles
# in the stream change at will. Does attribution?
#
# **Exercise `logit_difference_attribution`** (10 minutes). As the wrong token, take another one of
# the same block.

# %%
wrong = tokens.roll(6, dims=1)  # seen 6 back: the one that comes 4 later in the block of 10
difference = average(logit_difference_attribution(cache, W_U, right, wrong))
after = average(logit_difference_attribution(cache, W_shifted, right, wrong))
claim("largest change of a difference by u", (after - difference).abs().max(), high=1e-2)
noise = torch.randn(64, 64, generator=torch.Generator().manual_seed(0))
S = torch.eye(64) + 0.3 * noise
stretched = with_weights(model, stretch_stream(dict(model.named_parameters()), S))
_, other_cache = stretched.run_with_cache(tokens)
_, other_parts = residual_decomposition(other_cache)
longer = other_parts.norm(dim=-1) / parts.norm(dim=-1)
by_S = average(logit_difference_attribution(other_cache, stretched.W_U, right, wrong))
claim("lengths in the stream grow by S, on average", longer.mean(), low=1.5, measured=2.507)
claim("largest change of a difference by S", (by_S - difference).abs().max(), high=1e-2)
log_p = logits.log_softmax(dim=-1)
ratio = average(of(log_p, right) - of(log_p, wrong))
claim("log p(right) - log p(wrong), in nats", ratio, low=8, high=20, measured=13.1)
claim("the attributions add up to it; error", (difference.sum() - ratio).abs(), high=1e-3)
bars = {"the logit of the right token: any story you like": (answer, story)}
bars["right minus wrong: one story"] = (difference, after)
show(draw_shift(labels, bars), "shift")

# %% [markdown]
# Neither gauge moves a difference.
#
# ## Why not simply use probabilities?
#
# *Route `core`: on to "Where attribution misleads".*
#
# Because they do not add up. `+2` logits, all others fixed, multiply the odds by `e²`. How much
# probability that is depends on where you start. Near certainty almost nothing is left to gain, so
# a head can push hard *against* the answer and not be seen. In a hand-built model, head 1.0 writes
# for the answer, and head 1.1 against it, as the negative heads of McDougall et al. 2023, "Copy
# Suppression: Comprehensively Understanding an Attention Head", do.
#
# *Predict:* remove 1.1. How much does the probability rise?


# %%
def plus(p, logit):
    """A probability after so many logits more for its token."""
    return torch.as_tensor(p).logit().add(logit).sigmoid()


def silence_head_1(z, hook):
    z[:, :, 1] = 0
    return z


claim("1 % and 2 logits more", plus(0.01, 2), low=0.06, high=0.08, measured=0.0695)
claim("30 % and 2 logits more", plus(0.30, 2), low=0.75, high=0.77, measured=0.760)
hidden = negative_head_model(d_vocab=40)
hidden_logits, hidden_cache = hidden.run_with_cache(small)
without_logits = hidden.run_with_hooks(small, [("blocks.1.attn.hook_z", silence_head_1)])
small_wrong = small.roll(6, dims=1)
shares = logit_difference_attribution(hidden_cache, hidden.W_U, small_right, small_wrong)
shares = shares[:, :, 11:-1].mean(dim=(1, 2))  # component
p_with = of(hidden_logits.softmax(dim=-1), small_right)[:, 11:-1].mean()
p_without = of(without_logits.softmax(dim=-1), small_right)[:, 11:-1].mean()
claim("head 1.1, attributed", shares[-1], low=-6.01, high=-5.99)
claim("probability of the right token with it", p_with, low=0.997, high=0.999, measured=0.99823)
claim("and without it", p_without, low=0.9999, high=1.0)
pushes = [(start, plus(start, 2)) for start in (0.01, 0.30, 0.99)]
show(draw_probability(pushes, shares[-2:], p_with, p_without), "probability")

# %% [markdown]
# From .998 to 1.000. Whoever ranks heads by probability never meets this head.
#
# ## When does the answer appear?
#
# Unembed the stream before its time and you see what the model would say if it stopped there: the
# **logit lens** (nostalgebraist 2020, "interpreting GPT: the logit lens").
#
# *Predict:* how often is the lens right after layer 0? And in the impostor of chapter 3, which was
# trained on period 10 only, and is right on period 10?
#
# **Exercise `logit_lens`** (15 minutes).


# %%
def lens_of(model):
    """The logit lens of any model on our tokens, [depth, batch, pos, vocab]."""
    _, cache = model.run_with_cache(tokens)
    return logit_lens(cache, model.W_U)


def right_by_depth(lens):
    """Where the first choice of each depth is right, [depth, batch, pos]."""
    return lens.argmax(dim=-1) == right


def right_in_the_end(model):
    return average(right_by_depth(lens_of(model))[-1])


ours, fake = lens_of(model), lens_of(impostor)
error = (ours[-1] - logits).abs().max()
early, early_fake = by_prompt(right_by_depth(ours)[1]), by_prompt(right_by_depth(fake)[1])
claim("the last depth is the model's logits; error", error, high=1e-3)
claim_rate("the model: right after layer 0", early, high=0.15, measured=0.019)
claim_rate("impostor: right after layer 0", early_fake, low=0.8, measured=0.999)
claim("the model: right in the end", right_in_the_end(model), 0.99, untrained=right_in_the_end)
claim("impostor: right in the end", right_in_the_end(impostor), low=0.99, measured=1.0)
row = int((repeats.prefix == 3).nonzero()[0])
panels = {"The model: nothing until layer 1, then the whole repeat": ours[:, row]}
panels["The impostor: the answer already stands after layer 0"] = fake[:, row]
show(draw_lenses(panels, tokens[row], repeat_starts=1 + 3 + 10), "lens")

# %% [markdown]
# The lens exposes the impostor: an answer that is there after one layer was not composed from two.
# In the picture, the impostor also gives the block's first token one step before anybody could know
# it. It counts to ten:

# %%
before = known.roll(-1, dims=1) & ~repeats.predictable  # the last token of the first block
too_early = right_by_depth(ours)[-1][before]
claim_rate("the model: right one token too early", too_early, high=0.15)
too_early = right_by_depth(fake)[-1][before]
claim_rate("impostor: right one token too early", too_early, low=0.7, measured=0.977)

# %% [markdown]
# In the model the lens shows *nothing* after layer 0. But a lens reads one language only, that of
# `W_U`. Nothing legible is not nothing there. One can learn a translation for each depth and read
# more (Belrose et al. 2023, "Eliciting Latent Predictions from Transformers with the Tuned Lens",
# arXiv 2303.08112).
#
# Now each part on its own. To be free of `u`, compare each token with the mean of all tokens.
#
# **Exercise `component_lens`** (10 minutes).
#
# *Predict:* the induction heads raise the right token. Do they also raise its neighbours in the
# block?

# %%
single = component_lens(cache, W_U)  # component batch pos vocab
asked = {
    "the right\nnext token": right,
    "the one\nafter that": tokens.roll(-2, dims=1),
    "the token\njust read": tokens,
    "the one\nbefore it": tokens.roll(1, dims=1),
    "another one\nof the block": wrong,
}
two_ahead = known & known.roll(-1, dims=1)  # the token after the next one is in the batch as well
table = torch.stack([of(single, each)[:, two_ahead].mean(dim=1) for each in asked.values()], dim=1)
own_choice = average(single.argmax(dim=-1) == right)  # component
weakest, layer_0 = own_choice[induction].min(), own_choice[:-n_heads].max()
elsewhere = table[induction, 1:].abs().max()
error = (single.sum(dim=0).softmax(-1) - logits.softmax(-1)).abs().max()
claim("sum of the parts, softmaxed: error", error, high=1e-4)
claim("weakest induction head: right all by itself", weakest, low=0.6, measured=0.908)
claim("best part of layer 0: right by itself", layer_0, high=0.1, measured=0.0157)
claim("induction heads: most for any other token, in nats", elsewhere, high=0.6, measured=0.118)
show(draw_component_lens(labels, list(asked), table, own_choice), "component_lens")

# %% [markdown]
# Each induction head alone is a nearly complete predictor of one token, and of no neighbour of it.
#
# ## Where attribution misleads
#
# By all three tools layer 0 is useless. A story that many would believe: "the previous-token head
# does not matter here". It can be tested. Zero a head and run again.
#
# *Predict* two numbers: by how much does "right minus wrong" fall when an induction head is zeroed,
# and when the previous-token heads are?


# %%
def run_without(heads, fwd_hooks=()):
    """The model's logits when these heads (layer, head) write nothing."""

    def zero(z, hook):
        z[:, :, [head for layer, head in heads if hook.name.startswith(f"blocks.{layer}.")]] = 0
        return z

    return model.run_with_hooks(tokens, [(lambda name: name.endswith("hook_z"), zero), *fwd_hooks])


def gap(logits):
    """Right minus wrong, in nats."""
    return average(of(logits, right) - of(logits, wrong))


every_head = [(layer, head) for layer in range(2) for head in range(n_heads)]
direct = difference[-len(every_head) :]
effect = torch.stack([gap(run_without([head])) - gap(logits) for head in every_head])
behind = (effect + direct)[n_heads:].abs().max()
claim("layer 1: effect + attribution, largest", behind, high=1e-3)

broken = run_without(roles["previous_token"])
together, joint = difference[previous].sum(), gap(broken) - gap(logits)
claim("previous-token heads, attributed together", together, low=-0.5, high=0.5, measured=-0.002)
claim("effect of zeroing them", joint, low=-20, high=-10, measured=-13.11)
accuracy = by_prompt(broken.argmax(dim=-1) == right)
claim_rate("right next tokens then", accuracy, high=0.1, measured=0.0136)

keep = ("blocks.1.attn.hook_pattern", lambda pattern, hook: cache[hook.name])
kept = gap(run_without(roles["previous_token"], [keep])) - gap(logits)
claim("effect, the patterns of layer 1 kept as they were", kept, low=-2, high=2, measured=-0.0026)
show(draw_misled(every_head, direct, effect, (together, joint)), "misled")

# %% [markdown]
# For layer 1, attribution predicts the effect *exactly*: behind it comes nothing but the sum. The
# previous-token heads work through the patterns of layer 1: keep those, and next to nothing is
# lost. They tell the induction heads where to look, and the unembedding nothing. Direct attribution
# counts direct effects, as its name says.
#
# [Try it in the lab](site/lab.html#experiment=previous-off).
#
# It misleads the other way as well. An induction head is worth about 3 of 13 nats. By how much does
# the loss rise without it?


# %%
def loss(logits):
    return -average(of(logits.log_softmax(dim=-1), right))


credit = difference[induction].mean()
costs = torch.stack([loss(run_without([head])) - loss(logits) for head in roles["induction"]])
all_of_them = loss(run_without(roles["induction"])) - loss(logits)
claim("an induction head, attributed, on average", credit, low=2, high=5, measured=3.278)
claim("largest cost of removing one, in nats of loss", costs.max(), high=0.3, measured=0.0346)
claim("cost of removing all of them", all_of_them, low=2.5, measured=4.213)

# %% [markdown]
# Next to nothing: the others are enough. Attribution splits the credit; it does not say who is
# needed.
#
# ## What you have now
#
# - Attribution and lens, both exact sums, and five functions that you wrote.
# - A rule: attribute *differences* of logits. Single logits shift at will, and probabilities
#   saturate. No gauge moves a difference, neither `u` nor `S`.
# - Controls: shuffled tokens, random weights, a hand-built model, an impostor whose answer comes
#   one layer early.
# - The limit: direct attribution sees who *writes* the answer. The previous-token head writes none
#   of it, and without it all is lost.
#
# Next: how can a head decide where to look, and what to move? It is all in the weights. `python -m
# course 7`.
