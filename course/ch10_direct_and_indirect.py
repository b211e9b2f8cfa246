# %% [markdown]
# # 10. By which way does a head matter?
#
# 25 minutes to read, 90 with the exercises. Afterwards you can split what is lost without a head
# into what it wrote itself, where it made others look, and what it gave them to move, and show that
# the books balance. Not covered: swapping activations between prompts (chapter 11), LayerNorm and
# MLPs.
#
# **The question.** Chapter 6 divided the answer among those who write it. The previous-token head
# gets nothing. Here is a story that sounds scientific: "Its attribution is about 0 of 13 nats, so
# it does not matter."
#
# *Predict:* heads of layer 0 with an attribution near 0: which of them can be removed?

# %%
import torch

from course.desk import claim, show, the_model
from course.pictures.ch10 import draw_direct_indirect, draw_known, draw_ledgers, draw_sides
from minitransformer import Transformer, planted
from minitransformer.evaluate import held_out
from solutions.ch05_finding_heads import find_heads
from solutions.ch06_logit_attribution import logit_difference_attribution
from solutions.ch09_ablation import mean_ablate
from solutions.ch10_direct_and_indirect import (
    ASK,
    NO,
    POINT,
    START,
    WAYS,
    YES,
    causal_roles,
    direct_effect,
    effect_ledger,
    query_and_key_effects,
    total_effect,
    two_way_model,
)

torch.set_grad_enabled(False)
model = the_model()
n_layers, n_heads = model.cfg.n_layers, model.cfg.n_heads
heads = [(layer, number) for layer in range(n_layers) for number in range(n_heads)]


def gap_on(repeats):
    """The metric: how far the right token is ahead of another token of the block, in nats, where it
    can be known.
    """
    right, wrong = (repeats.tokens.roll(by, dims=1)[..., None] for by in (-1, 6))
    # the last has no next token
    known = repeats.predictable & (torch.arange(right.shape[1]) < right.shape[1] - 1)
    return lambda logits: (logits.gather(-1, right) - logits.gather(-1, wrong))[..., 0][
        known
    ].mean()


# BOS, a random prefix, then 10 random tokens again and again
repeats = held_out(model, periods=(10, 10), batch=24)
tokens, gap = repeats.tokens, gap_on(repeats)
logits, cache = model.run_with_cache(tokens)
# part batch pos
shares = logit_difference_attribution(
    cache, model.W_U, tokens.roll(-1, dims=1), tokens.roll(6, dims=1)
)
known = repeats.predictable[:, :-1]
attribution = dict(zip(heads, shares[-len(heads) :, :, :-1][..., known].mean(dim=-1)))
previous, induction = (find_heads(model)[role] for role in ("previous_token", "induction"))
# of them the one that is missed most
first = min(previous, key=lambda head: total_effect(model, tokens, head, gap))
claim("right minus wrong, in nats", gap(logits), low=8, high=20, measured=13.07)
claim(
    "attribution of that previous-token head",
    attribution[first],
    low=-0.5,
    high=0.5,
    measured=-0.0346,
)

# %% [markdown]
# ## Two questions that sound alike
#
# *What if this head had written nothing?* Zero it and let everything after it react: the **total
# effect**. *What if only the unembedding had not heard of it?* Take its output out of the final
# stream, when all other heads have done their work: the **direct effect**. What lies between the
# two is **indirect**: it went through other heads.
#
# An effect is always "changed minus undisturbed". If a head helps, its effect is negative.
#
# *Predict:* for which heads are both the same, exactly?
#
# **Exercises `total_effect`** (5 minutes) and **`direct_effect`** (10 minutes).


# %%
def direct_and_indirect(model):
    """head -> (direct effect, indirect effect) on our tokens."""
    direct = {head: direct_effect(model, tokens, head, gap).item() for head in heads}
    return {
        head: (direct[head], total_effect(model, tokens, head, gap).item() - direct[head])
        for head in heads
    }


cast = {
    "the model": model,
    "a second trained model": the_model("additive"),
    "impostor": the_model("impostor"),
    "random weights": Transformer(model.cfg, seed=1),
}
effects = {name: direct_and_indirect(each) for name, each in cast.items()}
ours = effects["the model"]
others = [head for head in heads if head[0] == 0 and head not in previous]
claim(
    "direct effect + attribution, largest",
    max(abs(ours[head][0] + attribution[head]) for head in heads),
    high=1e-4,
)
claim(
    "indirect effect of a head of layer 1, largest",
    max(abs(ours[head][1]) for head in heads if head[0] == 1),
    high=1e-4,
)
claim(
    "layer 0: largest direct effect", max(abs(ours[head][0]) for head in heads[:n_heads]), high=0.6
)
claim(
    "direct effect of the previous-token head that is missed most",
    ours[first][0],
    low=-0.5,
    high=0.5,
    measured=0.0346,
)
claim("its indirect effect", ours[first][1], low=-18, high=-5, measured=-12.94)
claim(
    "other heads of layer 0: largest total effect",
    max([abs(sum(ours[head])) for head in others] or [0]),
    high=3,
    measured=0.454,
)
second, fake, nothing = (
    effects["a second trained model"],
    effects["impostor"],
    effects["random weights"],
)
claim(
    "second trained model: indirect effect of its steerer",
    min(pair[1] for pair in second.values()),
    low=-18,
    high=-5,
)
claim(
    "impostor: largest indirect effect",
    max(abs(pair[1]) for pair in fake.values()),
    high=0.6,
    measured=0.0373,
)
claim(
    "impostor: direct effects of its layer 0",
    sum(fake[head][0] for head in heads[:n_heads]),
    high=-2,
    measured=-4.475,
)
claim(
    "random weights: largest effect of any kind",
    max(abs(x) for pair in nothing.values() for x in pair),
    high=0.1,
)
show(draw_direct_indirect(effects, [[first], others]), "scatter")

# %% [markdown]
# Heads of the last layer: behind them comes only the sum. (And for every head the direct effect of
# zeroing is minus its attribution. So attribution was right all along about what it measures.)
#
# Now look at the heads of layer 0. All have a direct effect near 0. Without one of them everything
# is lost, without those that do not look one back next to nothing. **An attribution of 0 cannot
# tell the two apart**, and so the story above has no evidence for it. The controls look different:
# the impostor's heads write for themselves, in *both* layers, which fits its one-step trick; random
# weights do nothing in any way.
#
# ## The books
#
# "Indirect" is one word for several things. A later head reads the stream three times: for its
# queries and keys, which decide where it looks, and for its values, which are what it moves. So
# what a head of layer 0 writes arrives by these ways:
#
# - **direct**: the unembedding reads it;
# - **via patterns**: later heads look elsewhere because of it;
# - **via values**: later heads look where they looked, and move it on;
# - **interaction**: they look elsewhere *and* find something else there. More, or less, than the
#   two alone.
#
# Each is an intervention of its own: force the patterns to those of the run without the head, or
# hold them and take the head out, and put back at the end what only the unembedding should see. For
# the interaction, let both change at once, and take off the two alone. Then add up: for a metric
# linear in the logits the sum must give the measured total. (That tests direct against the rest.
# How the rest is *divided* no sum can test: the two alone cancel in it. Known heads can, below.)
#
# *Predict:* which way does the previous-token head use?
#
# **Exercise `effect_ledger`** (25 minutes).

# %%
ledgers = {head: effect_ledger(model, tokens, head, gap) for head in heads}
errors = [abs(sum(ledger[way] for way in WAYS) - ledger["total"]) for ledger in ledgers.values()]
claim("largest error of a sum, in nats", max(errors), high=1e-3)
share = ledgers[first]["via patterns"] / ledgers[first]["total"]
claim("previous-token head: share via patterns", share, low=0.9, high=1.1, measured=1.003)
claim(
    "largest via values",
    max(abs(ledger["via values"]) for ledger in ledgers.values()),
    high=0.6,
    measured=0.0331,
)
claim(
    "largest interaction",
    max(abs(ledger["interaction"]) for ledger in ledgers.values()),
    high=0.3,
    measured=0.0236,
)
harm = max(ledger["total"] for ledger in ledgers.values())
claim("the head that is most in the way: gained without it", harm, low=-0.1, high=3, measured=0.454)
show(
    draw_ledgers(
        {f"{head[0]}.{head[1]}": ledger for head, ledger in ledgers.items()}, gap(logits).item()
    ),
    "ledger",
)

# %% [markdown]
# All by one way. It gives the others nothing to move and tells the unembedding nothing. It only
# says where to look. (Heads with a bar to the right of 0 are a little in the way: without them
# layer 1 looks at slightly better places.)
#
# Would the ledger have found another way, if there had been one? For that we need heads whose way
# is *known*: the previous-token head of the hand-built model, the duplicate-token head of the
# pointer model, a head that composes by values, and two made for the next question. What if two
# ways work only together? In the model `both`, head 0.0 tells 1.0 where to look and writes what is
# found there. In `either`, each of the two is enough.
#
# *Predict* the rows of both before you look: direct, via patterns, via values, interaction.


# %%
def answer_yes(logits):
    return (logits[:, -1, YES] - logits[:, -1, NO]).mean()


def one_before_zero(logits):
    return (logits[..., 1] - logits[..., 0]).mean()


prompt, mixed = torch.tensor([[START, POINT, ASK]]), torch.tensor([[0, 1, 2, 1, 0, 2, 2, 1]])
looped = held_out(planted.induction_model(40), periods=(10, 10), batch=8)
cases = {
    "induction: previous-token head": (
        planted.induction_model(40),
        looped.tokens,
        (0, 0),
        gap_on(looped),
    ),
    "induction: induction head": (
        planted.induction_model(40),
        looped.tokens,
        (1, 0),
        gap_on(looped),
    ),
    "pointer: duplicate-token head": (
        planted.pointer_model(40),
        looped.tokens,
        (0, 0),
        gap_on(looped),
    ),
    "composer by values": (planted.three_composers(), mixed, (0, 2), one_before_zero),
    "both ways needed": (two_way_model("both"), prompt, (0, 0), answer_yes),
    "either way enough": (two_way_model("either"), prompt, (0, 0), answer_yes),
}
found = {name: effect_ledger(*case) for name, case in cases.items()}
for (name, ledger), truth in zip(
    found.items(), ([0, -1, 0, 0], [-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, -1, 0])
):
    off = max(abs(ledger[way] / ledger["total"].abs() - share) for way, share in zip(WAYS, truth))
    claim(f"{name}: largest error of a share", off, high=1e-4)
claim(
    "both needed: via patterns", found["both ways needed"]["via patterns"], low=-10.01, high=-9.99
)
claim("both needed: interaction", found["both ways needed"]["interaction"], low=9.99, high=10.01)
claim(
    "either enough: via patterns", found["either way enough"]["via patterns"], low=-0.01, high=0.01
)
claim(
    "either enough: interaction", found["either way enough"]["interaction"], low=-10.01, high=-9.99
)
show(draw_known(found), "known")

# %% [markdown]
# If both are needed, each alone costs everything, and the interaction takes back what was counted
# twice. If either is enough, neither alone costs anything, and all stands under interaction. That
# is how a part can be causal although no single path shows it. Whoever leaves out the interaction,
# or calls it rounding, misses it.
#
# ## What is asked, or what is offered?
#
# Patterns are made of queries and keys. Chapter 8 said from the weights: our head composes with the
# *keys* of layer 1. In the pointer model it should be the queries. Now as an intervention: take the
# queries, or the keys, from the run without the head.
#
# *Predict:* will the two add up to the effect via patterns?
#
# **Exercise `query_and_key_effects`** (15 minutes).

# %%
named = {
    f"head {layer}.{number}": (model, tokens, (layer, number), gap)
    for layer, number in heads[:n_heads]
}
named |= {
    "hand-built\n0.0": cases["induction: previous-token head"],
    "pointer\n0.0": cases["pointer: duplicate-token head"],
}
sides = {name: query_and_key_effects(*case) for name, case in named.items()}
mine = sides[f"head {first[0]}.{first[1]}"]
claim(
    "previous-token head: via keys, share of both",
    mine["via keys"] / mine["both"],
    low=0.9,
    high=1.2,
    measured=1.001,
)
claim("via queries", mine["via queries"], low=-0.5, high=0.8, measured=0.0355)
claim("pointer model: via keys", sides["pointer\n0.0"]["via keys"], low=0, high=0)
missing = max(abs(each["via queries"] + each["via keys"] - each["both"]) for each in sides.values())
claim("largest error if the two are simply added, in nats", missing, low=0.02, measured=1.277)
show(draw_sides(sides), "sides")

# %% [markdown]
# By keys, as the weights had said. Two kinds of evidence that could have disagreed, and do not. And
# adding is wrong again: inside a pattern there is a softmax, outside everything is a sum.
#
# ## Roles without looking
#
# Chapter 5 named heads by where they look, and admitted that this proves nothing. Now name them by
# what they do.
#
# **Exercise `causal_roles`** (10 minutes): each head under its largest way, if that is at least 1
# nat.

# %%
roles = causal_roles(model, tokens, gap)
print({way: [f"{layer}.{number}" for layer, number in found] for way, found in roles.items()})
agree = sum(
    ((head in roles["via patterns"]) == (head in previous))
    and ((head in roles["direct"]) == (head in induction))
    for head in heads
)
claim("heads, of 8, for which both kinds of name agree", agree, low=6, measured=8)
fakes = causal_roles(the_model("impostor"), tokens, gap, least=0.3)
claim("impostor: heads that act via patterns", len(fakes["via patterns"]), high=0)
claim(
    "impostor: heads that act directly, in layer 0",
    sum(layer == 0 for layer, _ in fakes["direct"]),
    low=2,
    measured=4,
)

# %% [markdown]
# ## What the ledger does not say
#
# *It is the ledger of one head.* Its rows add up, its columns do not: in layer 0, taking out one
# head and then another is not the same as the two effects added, since what is lost cannot be lost
# twice.
#
# *It needs a linear metric.* With the loss it need not close. (Here the error is small, since one
# way carries nearly all.)
#
# *It is about zeroing.* Give the head its average in place of 0, and every entry may be another.
# (Here hardly.)


# %%
def loss_in_repeat(logits):
    return -logits[:, :-1].log_softmax(dim=-1).gather(-1, tokens[:, 1:, None])[..., 0][known].mean()


one_by_one = sum(ledgers[head]["total"] for head in heads[:n_heads])
no_layer_0 = model.run_with_hooks(tokens, [("blocks.0.hook_attn_out", lambda out, hook: 0 * out)])
claim("layer 0, head by head, added up", one_by_one, low=-40, high=-9, measured=-17.5)
claim("layer 0 at once", gap(no_layer_0) - gap(logits), low=-20, high=-8, measured=-13.11)
in_loss = effect_ledger(model, tokens, first, loss_in_repeat)
unexplained = abs(in_loss["total"] - sum(in_loss[way] for way in WAYS))
claim("ledger of the loss: total", in_loss["total"], low=0.5, high=8, measured=4.015)
claim("ledger of the loss: not accounted for", unexplained, low=1e-5, high=0.3)
averaged = (
    f"blocks.{first[0]}.attn.hook_z",
    mean_ablate([first[1]], cache[f"blocks.{first[0]}.attn.hook_z"]),
)
by_mean = gap(model.run_with_hooks(tokens, [averaged])) - gap(logits)
claim("total effect if the head writes its average", by_mean, low=-18, high=-5, measured=-12.92)

# %% [markdown]
# ## What you have now
#
# - A ledger that closes, and whose single entries were tested on heads with known ways.
# - The role of each head by intervention: layer 0 steers, by keys; layer 1 writes.
# - Controls: six hand-built heads, an impostor that writes in both layers, random weights.
# - A caution: direct attribution of 0 means "does not write", and no more.
#
# Zeroing shows the model a stream that it never met in training. Next: take an activation from
# another prompt, and ask what carries the *difference*. `python -m course 11`.
