# %% [markdown]
# # 10. Which way does a head's effect take?
#
# 25 minutes to read, 90 with the exercises. Afterwards you can split what is lost without a head
# into what it wrote itself, where it made others look, and what it gave them to move, and show that
# the books balance. Not covered: swapping activations between prompts (chapter 11), LayerNorm and
# MLPs.
#
# *Route: `causes`.*
#
# **The question.** Chapter 6 divided the answer among those who write it. The previous-token head
# gets nothing. (Of several, we take the one whose removal costs most.) Here is a story that sounds
# scientific: "Its attribution is about 0 of 13 nats, so it does not matter."
#
# *Predict:* heads of layer 0 with an attribution near 0: which of them can be removed?

# %%
import torch

from course.desk import claim, in_others, print_table, show, the_model, untrained_model
from course.pictures.ch10 import draw_direct_indirect, draw_known, draw_ledgers, draw_sides
from minitransformer import planted
from minitransformer.evaluate import held_out
from solutions.ch05_finding_heads import find_heads
from solutions.ch06_logit_attribution import logit_difference_attribution
from solutions.ch09_ablation import loss_where_known, mean_ablate
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
n_heads = model.cfg.n_heads
layer_0 = [(0, number) for number in range(n_heads)]
layer_1 = [(1, number) for number in range(n_heads)]
heads = layer_0 + layer_1


def gap_on(repeats):
    """The metric: logit of the right token minus that of another token of the block, in nats."""
    right = repeats.tokens.roll(-1, dims=1)[..., None]
    wrong = repeats.tokens.roll(6, dims=1)[..., None]
    known = repeats.predictable.clone()
    known[:, -1] = False  # the last position has no next token

    def gap(logits):
        return (logits.gather(-1, right) - logits.gather(-1, wrong))[..., 0][known].mean()

    return gap


# BOS, a random prefix, then 10 random tokens again and again
repeats = held_out(model, periods=(10, 10), batch=24)
tokens, gap = repeats.tokens, gap_on(repeats)
logits, cache = model.run_with_cache(tokens)
right, wrong = tokens.roll(-1, dims=1), tokens.roll(6, dims=1)
shares = logit_difference_attribution(cache, model.W_U, right, wrong)  # part batch pos
of_heads = shares[-len(heads) :, :, :-1][..., repeats.predictable[:, :-1]].mean(dim=-1)
attribution = dict(zip(heads, of_heads))

looks = find_heads(model)
previous, induction = looks["previous_token"], looks["induction"]
# the previous-token head whose removal costs most
steerer = min(previous, key=lambda head: total_effect(model, tokens, head, gap))
claim("right minus wrong, in nats", gap(logits), low=10, high=18, measured=13.07)
mine = attribution[steerer]
claim("attribution of that previous-token head", mine, low=-0.2, high=0.2, measured=-0.0346)

# %% [markdown]
# ## Two questions that sound alike
#
# *What if this head had written nothing?* Zero it and let everything after it react: the **total
# effect**. *What if only the unembedding had not heard of it?* Take its output out of the final
# stream, when all other heads have done their work: the **direct effect**. What lies between the
# two is **indirect**: it went through other heads.
#
# An effect is "changed minus undisturbed" throughout. If a head helps, its effect is negative.
#
# *Predict:* for which heads are both the same, exactly?
#
# **Exercises `total_effect`** (5 minutes) and **`direct_effect`** (10 minutes).


# %%
def direct_and_indirect(model):
    """head -> (direct effect, indirect effect) on our tokens."""
    effects = {}
    for head in heads:
        direct = direct_effect(model, tokens, head, gap).item()
        total = total_effect(model, tokens, head, gap).item()
        effects[head] = direct, total - direct
    return effects


effects = {
    "the model": direct_and_indirect(model),
    "a second trained model": direct_and_indirect(the_model("additive")),
    "impostor": direct_and_indirect(the_model("impostor")),
    "random weights": direct_and_indirect(untrained_model()),
}
others = [head for head in layer_0 if head not in previous]
show(draw_direct_indirect(effects, [*([head] for head in previous), others]), "scatter")

ours = effects["the model"]
behind = max(abs(ours[head][1]) for head in layer_1)
claim("indirect effect of a head of layer 1, largest", behind, high=1e-4)
mismatch = max(abs(ours[head][0] + attribution[head]) for head in heads)
claim("direct effect + attribution, largest", mismatch, high=1e-4)

# %% [markdown]
# Both are the same for the heads of the last layer: behind them comes only the sum. And for every
# head the direct effect of zeroing it is minus its attribution. So attribution was right all along
# about what it measures.
#
# Now look at the heads of layer 0.


# %%
def most_steering(model):
    """The most that any head does indirectly, in nats: the control of the story."""
    return min(indirect for _, indirect in direct_and_indirect(model).values())


direct, indirect = ours[steerer]
claim("previous-token head: direct effect", direct, low=-0.2, high=0.2, measured=0.0346)
name = "previous-token head: indirect effect"
claim(name, indirect, low=-18, high=-8, measured=-12.94, untrained=most_steering)
largest = max(abs(ours[head][0]) for head in layer_0)
claim("layer 0: largest direct effect", largest, high=0.2)
largest = max([abs(sum(ours[head])) for head in others], default=0)
claim("other heads of layer 0: largest total effect", largest, high=3, measured=0.454)

# %% [markdown]
# All of them have a direct effect near 0. Without the previous-token head everything is lost.
# Without those that do not look one back, next to nothing is lost. **An attribution of 0 cannot
# tell the two apart**, and so the story above has no evidence for it.
#
# The controls look different. The impostor's heads write for themselves, in *both* layers, which
# fits its one-step trick. Random weights do nothing in any way (the untrained values above).

# %%
steering = most_steering(the_model("additive"))
claim("second trained model: indirect effect of its steerer", steering, low=-18, high=-3)
steering = max(abs(indirect) for _, indirect in effects["impostor"].values())
claim("impostor: largest indirect effect", steering, high=0.3, measured=0.0373)
written = sum(effects["impostor"][head][0] for head in layer_0)
claim("impostor: direct effects of its layer 0", written, high=-1.5, measured=-4.475)

# %% [markdown]
# ## The books
#
# "Indirect" is one word for several things. A later head reads the stream three times: for its
# queries and its keys, which decide where it looks, and for its values, which are what it moves. So
# what a head of layer 0 writes can arrive in four ways. Each has an intervention of its own:
#
# - **direct**: the unembedding reads it. (Subtract the head's output from the final stream.)
# - **via patterns**: later heads look elsewhere because of it. (Zero nothing, but force all
#   patterns to those of the run without the head.)
# - **via values**: later heads look where they looked, and move it on. (Zero the head, hold all
#   patterns, and add its output back at the end, so that the unembedding still sees it.)
# - **interaction**: later heads look elsewhere *and* find something else there: more, or less, than
#   the two alone. (Zero the head, hold nothing, add its output back at the end. Then subtract the
#   two effects above.)
#
# If the metric is linear in the logits, the four entries add up to the total that was measured.
# This test has a gap. The interaction subtracts the effects via patterns and via values, so both
# cancel in the sum, and a wrong division between them would not show. Heads whose way is known will
# show it, below.
#
# *Predict:* which way does the previous-token head use?
#
# **Exercise `effect_ledger`** (25 minutes).

# %%
ledgers = {head: effect_ledger(model, tokens, head, gap) for head in heads}
by_name = {f"{layer}.{number}": ledger for (layer, number), ledger in ledgers.items()}
show(draw_ledgers(by_name, gap(logits).item()), "ledger")

errors = [abs(sum(ledger[way] for way in WAYS) - ledger["total"]) for ledger in ledgers.values()]
claim("largest error of a sum, in nats", max(errors), high=1e-3)
share = ledgers[steerer]["via patterns"] / ledgers[steerer]["total"]
claim("previous-token head: share via patterns", share, low=0.95, high=1.05, measured=1.003)
values = max(abs(ledger["via values"]) for ledger in ledgers.values())
claim("largest effect via values", values, high=0.4, measured=0.0331)
interaction = max(abs(ledger["interaction"]) for ledger in ledgers.values())
claim("largest interaction", interaction, high=0.2, measured=0.0236)
harm = max(ledger["total"] for ledger in ledgers.values())
claim("the head that is most in the way: gained without it", harm, low=0, high=3, measured=0.454)

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
# *Predict* the rows of these two before you look: direct, via patterns, via values, interaction.


# %%
def answer_yes(logits):
    return (logits[:, -1, YES] - logits[:, -1, NO]).mean()


def one_before_zero(logits):
    return (logits[..., 1] - logits[..., 0]).mean()


hand_built, pointer = planted.induction_model(40), planted.pointer_model(40)
looped = held_out(hand_built, periods=(10, 10), batch=8)
looped_gap = gap_on(looped)
mixed, prompt = torch.tensor([[0, 1, 2, 1, 0, 2, 2, 1]]), torch.tensor([[START, POINT, ASK]])
cases = {
    "induction: previous-token head": (hand_built, looped.tokens, (0, 0), looped_gap),
    "induction: induction head": (hand_built, looped.tokens, (1, 0), looped_gap),
    "pointer: duplicate-token head": (pointer, looped.tokens, (0, 0), looped_gap),
    "composer by values": (planted.three_composers(), mixed, (0, 2), one_before_zero),
    "both ways needed": (two_way_model("both"), prompt, (0, 0), answer_yes),
    "either way enough": (two_way_model("either"), prompt, (0, 0), answer_yes),
}
found = {name: effect_ledger(*case) for name, case in cases.items()}
show(draw_known(found), "known")

one_way = {
    "induction: previous-token head": "via patterns",
    "induction: induction head": "direct",
    "pointer: duplicate-token head": "via patterns",
    "composer by values": "via values",
}
on_it, beside_it = [], []  # shares of the total effect
for name, known_way in one_way.items():
    shares = {way: (found[name][way] / found[name]["total"]).item() for way in WAYS}
    on_it.append(shares.pop(known_way))
    beside_it += map(abs, shares.values())
claim("four heads with one way: smallest share on it", min(on_it), low=0.9999, high=1.0001)
claim("four heads with one way: largest share on another", max(beside_it), high=1e-4)
both, either = found["both ways needed"], found["either way enough"]
claim("both needed: via patterns", both["via patterns"], low=-10.01, high=-9.99)
claim("both needed: interaction", both["interaction"], low=9.99, high=10.01)
claim("either enough: via patterns", either["via patterns"], low=-0.01, high=0.01)
claim("either enough: interaction", either["interaction"], low=-10.01, high=-9.99)

# %% [markdown]
# If both are needed, each alone costs everything, and the interaction takes back what was counted
# twice. If either is enough, neither alone costs anything, and the whole effect stands under
# interaction. In this way a part can be causal although no single path shows it. Whoever leaves out
# the interaction, or calls it rounding, misses it.
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
sides = {}
for head in layer_0:
    sides[f"head 0.{head[1]}"] = query_and_key_effects(model, tokens, head, gap)
sides["hand-built\n0.0"] = query_and_key_effects(*cases["induction: previous-token head"])
sides["pointer\n0.0"] = query_and_key_effects(*cases["pointer: duplicate-token head"])

mine = sides[f"head 0.{steerer[1]}"]
share = mine["via keys"] / mine["both"]
claim("previous-token head: via keys, share of both", share, low=0.95, high=1.1, measured=1.001)
claim("via queries", mine["via queries"], low=-0.2, high=0.5, measured=0.0355)
claim("pointer model: via keys", sides["pointer\n0.0"]["via keys"], low=0, high=0)
missing = max(abs(each["via queries"] + each["via keys"] - each["both"]) for each in sides.values())
claim("largest error if the two are simply added, in nats", missing, low=0.02, measured=1.277)
show(draw_sides(sides), "sides")

# %% [markdown]
# By keys, as the weights had said. Two kinds of evidence that could have disagreed do not. And
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
for way in WAYS:
    print(f"  {way:13}", *(f"{layer}.{number}" for layer, number in roles[way]))


def same_names(model):
    """How many heads the two ways of naming call the same: (previous-token heads, induction)."""
    roles, looks = causal_roles(model, tokens, gap), find_heads(model)
    steer = set(roles["via patterns"]) & set(looks["previous_token"])
    write = set(roles["direct"]) & set(looks["induction"])
    return len(steer), len(write)


steer, write = same_names(model)
name = "previous-token heads that act via patterns"
claim(name, steer, low=1, measured=2, untrained=lambda blank: same_names(blank)[0])
name = "induction heads that act directly"
claim(name, write, low=2, measured=4, untrained=lambda blank: same_names(blank)[1])
by_role = {*roles["via patterns"], *roles["direct"]}
apart = by_role ^ {*previous, *induction}
claim("heads that have a name of one kind only", len(apart), high=2, measured=0)
in_others("heads that have a name of one kind only", "17 of 20", high=0)
fakes = causal_roles(the_model("impostor"), tokens, gap, least=0.3)
claim("impostor: heads that act via patterns", len(fakes["via patterns"]), high=0)
in_layer_0 = sum(layer == 0 for layer, _ in fakes["direct"])
claim("impostor: heads that act directly, in layer 0", in_layer_0, low=2, measured=4)

# %% [markdown]
# The heads that look one back steer, the heads that look like induction heads write, and no others.
# In 17 of 20 other models, too, the two kinds of names agree for every head. Of the impostor's
# heads, counted from .3 nats on, none steers, and those of layer 0 write.
#
# ## What the ledger does not say
#
# *It is the ledger of one head.* Its rows add up, its columns do not. In layer 0, taking out one
# head and then another is not the same as the two effects added, since what is lost cannot be lost
# twice.
#
# *It needs a linear metric.* With another metric the direct effect and the rest need not add up.
# With the loss, our ledger closes nearly, because the head has no direct effect. The model `both`
# closes for the same reason. Let its unembedding read the note too, so that the head acts in both
# ways: each way alone is then enough for a low loss, and the four entries add up to nothing.
#
# *It is about zeroing.* Give the head its average in place of 0, and every entry may be another.
# (Here hardly.)

# %%
two_ways, three_ways = two_way_model("both"), two_way_model("both")
three_ways.W_U[5 + ASK, YES] = 10.0  # the note at the last position is the token ASK


def loss_of_yes(logits):
    return -logits[:, -1].log_softmax(dim=-1)[0, YES]


def loss_in_repeat(logits):
    return torch.tensor(loss_where_known(logits, repeats))


of_loss = {
    "our previous-token head": effect_ledger(model, tokens, steerer, loss_in_repeat),
    "both ways needed": effect_ledger(two_ways, prompt, (0, 0), loss_of_yes),
    "and a direct way besides": effect_ledger(three_ways, prompt, (0, 0), loss_of_yes),
}
rows, missing = [], {}
for name, ledger in of_loss.items():
    rows.append([ledger[way].item() for way in [*WAYS, "total"]])
    missing[name] = (ledger["total"] - sum(ledger[way] for way in WAYS)).abs()
print_table("loss (nats)", list(of_loss), [*WAYS, "total"], rows, "{:z.3f}")
error = missing["our previous-token head"]
claim("ledger of the loss: not accounted for", error, low=5e-4, high=0.06, measured=0.0236)
error = missing["both ways needed"]
claim("both needed, loss: not accounted for", error, high=1e-4)
error = missing["and a direct way besides"]
claim("direct way besides, loss: not accounted for", error, low=1.6, high=1.62)

# %% [markdown]
# The first and the last limit, in numbers.

# %%
one_by_one = sum(ledgers[head]["total"] for head in layer_0)
claim("layer 0, head by head, added up", one_by_one, low=-32, high=-10, measured=-17.5)
no_layer_0 = model.run_with_hooks(tokens, [("blocks.0.hook_attn_out", lambda out, hook: 0 * out)])
claim("layer 0 at once", gap(no_layer_0) - gap(logits), low=-18, high=-10, measured=-13.11)
z = f"blocks.{steerer[0]}.attn.hook_z"
averaged = model.run_with_hooks(tokens, [(z, mean_ablate([steerer[1]], cache[z]))])
by_mean = gap(averaged) - gap(logits)
claim("total effect if the head writes its average", by_mean, low=-18, high=-8, measured=-12.92)

# %% [markdown]
# ## What you have now
#
# - A ledger that closes, and whose single entries were tested on heads with known ways.
# - The role of each head by intervention: layer 0 steers, by keys; layer 1 writes.
# - Controls: hand-built heads, an impostor that writes in both layers, random weights.
# - A caution: direct attribution of 0 means "does not write", and no more.
#
# Zeroing shows the model a stream that it never met in training. Next: take an activation from
# another prompt, and ask what carries the *difference*. `python -m course 11`.
