# %% [markdown]
# # 9. What breaks when a part is taken away?
#
# 30 minutes to read, 105 with the exercises. Afterwards you can ablate heads in four ways, say why
# one at a time misleads, cut a single edge between two heads, and state on one page, with numbers
# and controls, how this model does induction. Not covered: putting activations of other runs in
# place (chapter 11), and finding circuits systematically (chapter 13).
#
# **The question.** Chapters 5 to 8 described. A description can be true and beside the point. So
# break something: if a part is needed, the answer must suffer.
#
# ## Taken away, and replaced by what?
#
# A head always writes *something*. To ablate it is to choose what:
#
# - **zero**: nothing at all;
# - **mean**: its own average, always the same vector;
# - **mean per position**: its average at that position;
# - **resample**: what it wrote for another sequence.
#
# **Exercises `zero_ablate`** (10 minutes), **`mean_ablate`**, **`mean_per_position_ablate`**,
# **`resample_ablate`** (5 minutes each) build hooks. **Exercise `joint_ablation`** (10 minutes)
# measures what a group of heads is worth.
#
# *Predict:* all heads ablated. Is the loss the same, whatever the kind? What would a model give
# that knows nothing?

# %%
import math

import torch

from course.desk import claim, show, the_model
from course.pictures.ch09 import draw_argument, draw_groups, draw_kinds, draw_targeted
from minitransformer import Transformer
from minitransformer.evaluate import follows_earlier_copy, held_out, strict_induction_accuracy
from minitransformer.planted import duplicated_heads_model
from minitransformer.plots import BLUE, ORANGE
from solutions.ch02_residual_stream import residual_decomposition
from solutions.ch05_finding_heads import find_heads, score_heads
from solutions.ch06_logit_attribution import logit_difference_attribution
from solutions.ch07_qk_ov_circuits import (
    copying_accuracy,
    effective_ov,
    full_ov_circuit,
    position_qk_circuit,
)
from solutions.ch08_composition import decompose_qk_inputs, decompose_scores, k_composition_circuit
from solutions.ch09_ablation import (
    KINDS,
    ablation_hooks,
    ablation_table,
    joint_ablation,
    loss_where_known,
    pattern_preserving_ablation,
    targeted_ablation,
)

torch.set_grad_enabled(False)
model, impostor, untrained = (
    the_model(),
    the_model("impostor"),
    Transformer(the_model().cfg, seed=1),
)
n = model.cfg.n_ctx
# every row its own prefix and its own period
repeats = held_out(model, periods=(n // 4, n // 2), batch=128)
tokens, known = repeats.tokens, repeats.predictable
roles = find_heads(model)
previous = [at for at in roles["previous_token"] if at[0] == 0]  # best first
induction = [at for at in roles["induction"] if at[0] == 1]
layer_0, layer_1 = ([(layer, head) for head in range(model.cfg.n_heads)] for layer in (0, 1))
others = [at for at in layer_0 if at not in previous] or previous[-1:]
clean = loss_where_known(model(tokens), repeats)
groups = {
    "other heads\nof layer 0": others,
    "previous-token\nheads": previous,
    "induction\nheads": induction,
}
groups["all heads"] = layer_0 + layer_1
costs = {
    name: [joint_ablation(model, repeats, heads, kind) for kind in KINDS]
    for name, heads in groups.items()
}
for kind, cost, (low, high, measured) in zip(
    KINDS,
    costs["all heads"],
    [(3.9, 4.5, 4.182), (3.9, 4.5, 4.173), (3.9, 4.5, 4.099), (7.5, 11, 8.831)],
):
    claim(f"all heads ablated, {kind}: loss", clean + cost, low=low, high=high, measured=measured)
claim("a model that knows nothing: ln 64", math.log(model.cfg.d_vocab - 1), low=4.15, high=4.16)
claim(
    "dearest ablation of the other heads of layer 0",
    max(costs["other heads\nof layer 0"]),
    high=0.02,
    measured=0.0004,
)
show(draw_kinds(costs, KINDS, clean, model.cfg.d_vocab), "kinds")

# %% [markdown]
# Zero and both means leave a model that guesses: 4.1 to 4.2. Resampling leaves one that is
# *misinformed*: 8.8. Its heads carry on with conviction, about another sequence. Neither is wrong;
# they ask different things. "What is this part worth?" has no answer before you say: compared with
# what? So always name the kind. (Zero and mean agree here, because these heads write almost nothing
# on average. Where a mean is large, zero itself is strange input.)
#
# ## One at a time
#
# **Exercise `ablation_table`** (5 minutes). *Predict:* which of the four induction heads is the
# most important?

# %%
table = ablation_table(model, repeats)  # layer head
single, together = [table[at].item() for at in induction], joint_ablation(model, repeats, induction)
print(table.numpy().round(3))
claim("dearest induction head, alone", max(single), high=0.3, measured=0.0352)
claim("all single costs added", sum(single), high=0.5, measured=0.0898)
claim("all induction heads in one run", together, low=3.5, high=4.6, measured=4.199)
claim("dearest previous-token head, alone", table[0].max(), low=0.7, measured=4.035)
claim(
    "all previous-token heads in one run",
    joint_ablation(model, repeats, previous),
    low=3.5,
    high=4.6,
    measured=4.164,
)

# %% [markdown]
# None! That is the wrong story of this chapter: "I removed each head of layer 1, nothing happened,
# so induction lives elsewhere." Together they are worth everything. Are they watching each other,
# one stepping in when another falls out?
#
# Look at the logits instead of the loss, while the heads go one after another. And take a planted
# model, where we know the truth: four equal heads, each adding 3 to the right logit.


# %%
def going(model, repeats, heads):
    """The loss and (right logit - logit of the token just before) after zeroing 0, 1, 2, .. of
    these heads.
    """
    right, wrong = (repeats.tokens.roll(by, dims=1)[..., None] for by in (-1, 1))
    inside = repeats.predictable & (
        torch.arange(repeats.tokens.shape[1]) < repeats.tokens.shape[1] - 1
    )
    losses, margins = [], []
    for count in range(len(heads) + 1):
        logits = model.run_with_hooks(repeats.tokens, ablation_hooks(heads[:count]))
        losses.append(loss_where_known(logits, repeats))
        margins.append((logits.gather(-1, right) - logits.gather(-1, wrong))[inside].mean().item())
    return losses, margins


planted = duplicated_heads_model(copies=len(induction), s=3.0, d_vocab=40)
planted_repeats = held_out(planted, periods=(10, 20), batch=32)
losses, margins = going(model, repeats, induction)
planted_losses, planted_margins = going(
    planted, planted_repeats, [(1, head) for head in range(len(induction))]
)
exact = [math.log1p(39 * math.exp(-3.0 * (len(induction) - k))) for k in range(len(induction) + 1)]
_, cache = model.run_with_cache(tokens)
right, wrong = tokens.roll(-1, dims=1), tokens.roll(1, dims=1)
inside = known & (torch.arange(n) < n - 1)
# component
shares = logit_difference_attribution(cache, model.W_U, right, wrong)[..., inside].mean(dim=-1)
written = dict(zip(residual_decomposition(cache)[0], shares.tolist()))
names = [f"{layer}.{head}" for layer, head in induction]
predicted = margins[0] - torch.tensor([0.0] + [written[name] for name in names]).cumsum(0)
claim(
    "planted: largest distance from log(1 + 39 exp(-3 left))",
    max(abs(torch.tensor(exact) - torch.tensor(planted_losses))),
    high=1e-4,
)
claim("loss with one head gone", losses[1], high=0.3, measured=0.0293)
claim("loss with all but one gone", losses[-2], low=1.0, high=3.5, measured=2.196)
claim("right minus wrong logit, whole model", margins[0], low=9, high=20, measured=13.08)
claim("right minus wrong logit, one head gone", margins[1], low=5, high=18, measured=9.4)
claim(
    "largest distance from what attribution predicts",
    (torch.tensor(margins) - predicted).abs().max(),
    high=1e-3,
)
curves = {
    "our model": (BLUE, losses, margins),
    "planted: equal heads": (ORANGE, planted_losses, planted_margins),
}
show(draw_groups(names, single, together, curves), "groups")

# %% [markdown]
# Nobody steps in. Each head goes on adding its share to the logits, exactly what attribution
# (chapter 6) says. But the loss is flat where the answer is safe: from 13 logits to 9, next to
# nothing happens. Redundancy here is a *margin*. So report a group, or a measure that does not
# saturate. (In models with layer normalisation or more layers, heads *can* react.)
#
# ## What was lost, the message or the direction?
#
# Zero the previous-token heads and all is lost. But did the answer pass through *what they move* or
# through *where others look*? **Exercise `pattern_preserving_ablation`** (15 minutes): zero the
# heads, keep every pattern.
#
# And then, sharper: take their outputs out of the *keys of a single head*, and of nothing else.
# **Exercise `targeted_ablation`** (20 minutes). *Predict* the attention on the right tokens:
# without them in its keys, without them in its queries, and without the *other* layer-0 heads in
# its keys.

# %%
kept = loss_where_known(pattern_preserving_ablation(model, tokens, previous), repeats) - clean
target, follower = induction[0], follows_earlier_copy(tokens)  # batch query key
even = torch.ones(n, n).tril() / torch.arange(1, n + 1)[:, None]


def where_it_belongs(pattern):
    """Attention on the tokens that followed an earlier copy, where there are any."""
    return (pattern * follower).sum(dim=-1)[known].mean().item()


panels = {
    "as it is": cache["blocks.1.attn.hook_pattern"][:, target[1]],
    "previous-token heads out of its keys": targeted_ablation(model, tokens, previous, target),
    "control: out of its queries": targeted_ablation(model, tokens, previous, target, "q"),
    "control: others out of its keys": targeted_ablation(model, tokens, others, target),
}
looks = [where_it_belongs(pattern) for pattern in panels.values()]
claim(
    "cost of zeroing the previous-token heads, patterns kept",
    kept,
    low=-0.05,
    high=0.05,
    measured=-0.0001,
)
claim("attention on the right tokens", looks[0], low=0.9, measured=0.970)
claim("previous-token heads out of its keys", looks[1], high=0.02, measured=0.0003)
claim("control: out of its queries", looks[2], low=0.9, measured=0.984)
claim("control: the other heads out of its keys", looks[3], low=0.85, measured=0.967)
claim(
    "attention there if spread evenly", where_it_belongs(even), low=0.04, high=0.06, measured=0.0485
)
row = int(((repeats.prefix < 4) & (repeats.period < 12)).nonzero()[0])
show(
    draw_targeted(
        {name: pattern[row] for name, pattern in panels.items()}, f"{target[0]}.{target[1]}", looks
    ),
    "targeted",
)

# %% [markdown]
# One edge, cut at one place, and the stripe is gone; even attention would leave .05 there. What the
# heads write is nowhere else needed. One caution: *something breaks* proves need, not mechanism.
# The impostor breaks as thoroughly, and does no induction at all:

# %%
fixed = held_out(impostor, periods=(10, 10), batch=64)
fixed_loss = loss_where_known(impostor(fixed.tokens), fixed)
broken = fixed_loss + joint_ablation(impostor, fixed, layer_0 + layer_1)
claim("impostor at period 10: loss", fixed_loss, high=0.5)
claim("all its heads zeroed", broken, low=3.5)
claim(
    "its accuracy at random periods",
    strict_induction_accuracy(impostor, repeats),
    high=0.3,
    measured=0.1235,
)

# %% [markdown]
# # The argument on one page
#
# **This model does induction, because:**
#
# 1. It predicts repeats of *random* periods: 100 % right. *Control:* the impostor 12 %, thanks to
#    the rows of period 10.
# 2. Heads of layer 0 look **one token back**: .99, by position: at every position their position
#    circuit prefers the one before. *Controls:* no head of layer 1 above .04; an untrained head
#    prefers it at 6 % of positions.
# 3. They write that token into the **keys** of layer 1. In the weights, each token seeks itself in
#    what was moved: 100 %. *Control:* untrained at most 5 %. (A wrong head reaches 64 %. Weights
#    alone do not suffice; hence 4 and 5.)
# 4. The **query** is the current token. Embedding times previous-token heads is 98 % of what lifts
#    the right key. *Control:* the other layer-0 heads: half a percent.
# 5. So layer 1 **attends** to the token after an earlier copy: .97. *Control:* with the
#    previous-token heads out of its keys .0003; out of its queries, or others out of its keys: .97
#    and more.
# 6. Its OV circuits **copy**: each alone at least 95 % of the tokens, together all. *Control:*
#    heads of layer 0: 9 %.
# 7. What they write **is** the answer: 100 % of the 13 logits between right and wrong. *Control:*
#    another row's: 0.
# 8. All of this is **needed**: no previous-token heads +4.2 nats, no induction heads +4.2.
#    *Control:* the other heads: 0.
# 9. And it **suffices**: everything else (here two heads of eight) ablated, whichever kind, costs
#    below .001. *Control:* to keep only the textbook pair, one previous-token and one induction
#    head, costs 1.4 to 5.4, depending on the kind.


# %%
def looks_one_back(model, at):
    """For what share of positions is the one before the best key, judged by positions alone?"""
    circuit = position_qk_circuit(model, *at).dense.masked_fill(
        torch.ones(n, n).triu(1) > 0, -math.inf
    )
    return (circuit[1:].argmax(dim=-1) == torch.arange(n - 1)).float().mean()


def copies_tokens(circuit):
    return copying_accuracy(circuit[1:, 1:])  # BOS, the first token, is never an answer


def seek_themselves(model, first, second):
    return copies_tokens(k_composition_circuit(model, first, second))


scores = score_heads(model, tokens)
_, parts = decompose_qk_inputs(cache)
# query part, key part, batch, query, key
terms = decompose_scores(parts, model.W_Q[target], model.W_K[target])
ordinary = (torch.ones(n, n).tril() - follower).clamp(min=0) * known[:, :, None]
ordinary[:, :, 0] = 0  # compared with any visible key but BOS
lift = sum(
    s * (terms * w).sum(dim=(-3, -2, -1)) / w.sum()
    for s, w in ((1, follower * known[:, :, None]), (-1, ordinary))
)
share, rest = (
    sum(lift[0, 2 + head] for _, head in group) / lift.sum() for group in (previous, others)
)
copied = [copies_tokens(full_ov_circuit(model, *at)) for at in induction]
copied_0 = max(copies_tokens(full_ov_circuit(model, *at)) for at in layer_0)
copied_all = copies_tokens(model.W_E @ effective_ov(model, induction) @ model.W_U)
by_induction = sum(written[name] for name in names)
shuffle = torch.randperm(len(tokens), generator=torch.Generator().manual_seed(0))
shuffled = (
    logit_difference_attribution(cache, model.W_U, right[shuffle], wrong[shuffle])[..., inside]
    .mean(dim=-1)
    .sum()
)
suffices, naive = (
    [
        joint_ablation(model, repeats, [at for at in layer_0 + layer_1 if at not in keep], kind)
        for kind in KINDS
    ]
    for keep in (previous + induction, previous[:1] + induction[:1])
)
pairs_0 = [seek_themselves(untrained, a, b) for a in layer_0 for b in layer_1]
pairs = [seek_themselves(model, a, b) for a in others for b in induction]
accuracy = strict_induction_accuracy(model, repeats)
claim("1  right next tokens", accuracy, low=0.98, measured=1.0)
claim(
    "   control: impostor", strict_induction_accuracy(impostor, repeats), high=0.3, measured=0.1235
)
claim(
    "2  attention to the token before",
    scores["previous_token"][previous[0]],
    low=0.9,
    measured=0.991,
)
claim(
    "   by position: share of positions", looks_one_back(model, previous[0]), low=0.9, measured=1.0
)
claim(
    "   control: best head of layer 1", scores["previous_token"][1].max(), high=0.1, measured=0.0334
)
claim(
    "   control: untrained 0.0, by position",
    looks_one_back(untrained, (0, 0)),
    high=0.35,
    measured=0.0645,
)
claim(
    "3  tokens that seek themselves",
    seek_themselves(model, previous[0], target),
    low=0.9,
    measured=1.0,
)
claim("   control: untrained, best of 16 pairs", max(pairs_0), high=0.15, measured=0.0469)
claim("   wrong head, best pair", max(pairs), low=0.1, high=0.98, measured=0.641)
claim("4  share of the right key's advantage", share, low=0.8, high=1.1, measured=0.976)
claim("   control: other layer-0 heads", rest, high=0.12, measured=0.0049)
claim("5  attention on the right token", looks[0], low=0.9, measured=0.970)
claim("   cut: previous-token heads out of the keys", looks[1], high=0.02, measured=0.0003)
claim("   controls: queries; other heads", min(looks[2:]), low=0.85, measured=0.967)
claim("6  tokens copied, worst induction head", min(copied), low=0.6, measured=0.953)
claim("   together", copied_all, low=0.9, measured=1.0)
claim("   control: best head of layer 0", copied_0, high=0.3, measured=0.0938)
claim(
    "7  share of right minus wrong",
    by_induction / sum(written.values()),
    low=0.95,
    high=1.05,
    measured=1.002,
)
claim("   control: the tokens of another row, in logits", shuffled, low=-1, high=1)
claim("8  no induction heads, cost", together, low=3.5, measured=4.199)
claim(
    "   no previous-token heads, cost",
    joint_ablation(model, repeats, previous),
    low=3.5,
    measured=4.164,
)
claim("   control: other heads of layer 0", joint_ablation(model, repeats, others), high=0.02)
claim("9  everything else gone, dearest kind", max(suffices), high=0.05, measured=0.0003)
claim("   control: one of each kept, cheapest kind", min(naive), low=0.3, measured=1.401)
claim("   ... and dearest kind", max(naive), low=1, measured=5.384)

story = {
    "attention": looks[0],
    "cut_keys": looks[1],
    "share": float(share),
    "copied": copied_all,
    "clean": clean,
}
story |= {
    "back": scores["previous_token"][previous[0]].item(),
    "cut_heads": clean + together,
    "accuracy": accuracy,
}
story |= {
    "chance": math.log(model.cfg.d_vocab - 1),
    "logit": margins[0],
    "induction": "induction heads " + ", ".join(names),
}
story["previous"] = "previous-token heads\n" + ", ".join(
    f"{layer}.{head}" for layer, head in previous
)
show(draw_argument(story), "circuit")

# %% [markdown]
# ## What remains unexplained
#
# - *Resting.* While its token is new, a head rests on BOS. Clause 4 compared no key with BOS. What
#   makes BOS win, and lose?
# - *The other layer-0 heads.* Without them the loss is the same. We know that they do not matter
#   *here*, not what they do.
# - *Why four, and why unequal?* Chapter 3 shows when they appear; neither it nor we say why the
#   work is split so.
# - *Heads are coarse parts.* "Head 0.2 is needed" says nothing about which of its directions are.
#   Chapter 14 goes finer.
# - *These sequences.* Blocks of distinct tokens after BOS. On other inputs the same heads may do
#   other things.
#
# ## What you have now
#
# - Four kinds of ablation, and the habit of naming the kind.
# - Two warnings with numbers: single ablations hide groups (.09 against 4.2), and a broken model
#   proves need, not mechanism.
# - A knife for one edge, `targeted_ablation`, and one argument, each clause of which could have
#   failed.
#
# Next: how much of an effect is direct, how much passes through others? `python -m course 10`.
