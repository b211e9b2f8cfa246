# %% [markdown]
# # 18. Models that nobody has explained to you
#
# 20 minutes to read, 179 with the exercises. Afterwards you can make a claim about an unknown model
# that says what will happen, and look for what would refute it. Not covered: models with MLPs, and
# models too large for a scan of all edges.
#
# **The question.** In every chapter so far somebody knew the answer. Can you explain a model that
# nobody has explained to you?
#
# Eight such models wait for you, A to H, from easy to hard. They are drawn on your machine; nobody
# else has yours. Three layers of three heads, positions in the stream. Every tool that you wrote is
# your instrument.
#
# ## A claim says what will happen
#
# "Head 1.2 is an induction head" cannot fail: what would it look like if it were false? So a claim
# here is a list of **routes**. A route says what the model answers (a function of the tokens so
# far), and which **edges** that takes: `"0.1>1.2.k"` is what head 0.1 writes, as head 1.2 reads it
# for its keys. An edge that no route names is claimed *not to matter*. Two routes are two ways to
# the answer; `unless` names an edge that keeps the second way shut while something comes along it.
#
# A claim predicts every intervention: heads that write 0, heads that write their mean, edges that
# carry their mean. For each answer it says: stays, or is lost. On each prediction the verdict is
# *right*, *wrong*, or *vacuous*: it promised nothing that could have been lost.
#
# **Exercises `sure_answers`** (5 minutes), **`run_changed`** (20 minutes), **`open_routes`** (20
# minutes).
#
# ## From a first look to a claim that holds
#
# We practise on a known model, as if we did not know it.
#
# **Behaviour first.** Before you look inside: what does it answer, on what, and where is it silent?
# Feed it repeated blocks, random tokens, and rows that you write yourself. Guess a rule, and look
# for the row on which the rule is wrong.

# %%
import torch

from course.desk import claim, in_others, print_table, show, the_model
from course.pictures.ch18 import draw_looks, draw_side_by_side, draw_spread
from minitransformer.data import random_tokens, repeated_tokens
from minitransformer.evaluate import attention
from minitransformer.planted import duplicated_heads_model, negative_head_model
from solutions.ch18_blind_models import Change, Route, edges_in, predicted, share_kept, sure_answers
from solutions.examination import change_in_words, examine, passes, single_changes

torch.set_grad_enabled(False)
V, n = 20, 16
generator = torch.Generator().manual_seed(0)
blocks = repeated_tokens(8, n, V, (3, 7), generator).tokens
tokens = torch.cat([blocks, random_tokens(8, n, V, generator)])
first, second = negative_head_model(V, n), duplicated_heads_model(2, V, n)


def what_followed(tokens):
    """What stood after the earlier copies of the last token, if they agree."""
    found = {tokens[j] for j in range(2, len(tokens)) if tokens[j - 1] == tokens[-1]}
    return found.pop() if len(found) == 1 else None


def by_rule(answer):
    return predicted([Route(answer, ())], tokens)


answered = sure_answers(first(tokens))
agrees = (by_rule(what_followed) == answered)[answered >= 0].double().mean()
claim("answers of the first model that the rule gives", agrees, low=0.95, measured=1.0)
same = (answered == sure_answers(second(tokens))).double().mean()
claim("places where both models say the same", same, low=0.95, measured=1.0)

# %% [markdown]
# We took two models. Both answer with what followed the token's earlier copies, if those agree.
#
# **Then heads.** Patterns of attention suggest who might do it.

# %%
block = repeated_tokens(1, n, V, (5, 5), generator, prefix=2).tokens
show(draw_looks({"first": attention(first, block), "second": attention(second, block)}), "looks")
patterns = [attention(model, tokens)[1] for model in (first, second)]
apart = (patterns[0] - patterns[1]).abs().max()
claim("layer 1: largest difference in attention between the models", apart, high=1e-4)

# %% [markdown]
# 0.0 looks one back; 1.0 and 1.1 look at what followed. Both heads of layer 1, in both models,
# alike to the last digit.
#
# *Predict:* so both heads of layer 1 give the answer?
#
# **Then edges.** Cut each one alone. Which cuts take the answers away?


# %%
def needed(model, zero=()):
    """The edges that most answers need, while some heads write 0."""
    edges = edges_in(model)
    kept = share_kept(model, tokens, [Change(zero=zero, cut=(edge,)) for edge in edges])
    return tuple(edge for edge, share in zip(edges, kept) if share < 0.5)


found = needed(first)
print("edges that the first model needs:\n ", ", ".join(found))
story = [Route(what_followed, found)]
both = [Route(what_followed, (*found, "embed>1.1.q", "0.0>1.1.k", "embed>1.1.v", "1.1>logits"))]
verdicts, of_both = examine(first, story, tokens), examine(first, both, tokens)
rows, columns = ["head 1.0 alone", "both heads"], ["right", "wrong", "vacuous"]
counts = []
for some in (verdicts, of_both):
    words = [each.word for each in some]
    counts.append([words.count(word) for word in columns])
print_table("predictions", rows, columns, counts, form="{}")
claim("first model: wrong predictions of 1.0 alone", counts[0][1], low=0, high=0)
claim("first model: wrong predictions of both heads", counts[1][1], low=4, measured=6)
show(draw_side_by_side(first, both, tokens, of_both), "both_heads")

# %% [markdown]
# Head 1.1 looks like 1.0, and no answer needs it. (It writes *against* the answer, too weakly to
# turn it. A claim speaks of sure answers, not of how sure.) The claim with 1.0 alone holds.
#
# **Then weights**, if you still cannot say *why* an edge matters: token-space circuits of chapters
# 7 and 8. Frobenius scores will not help you: the blind models' streams are stretched.
#
# ## From a plausible story to its refutation
#
# The second model: the same behaviour, the same pictures. So the same story?
#
# **Ask what would refute it.** The story says: without 1.0 the answers are lost. *Predict:* are
# they?

# %%
verdicts = examine(second, story, tokens)
for each in verdicts:
    if each.word == "wrong":
        print("  wrong:", change_in_words(each.change))
wrong = [each.word for each in verdicts].count("wrong")
claim("second model: wrong predictions of the same story", wrong, low=4, measured=6)
found = needed(second)
print("edges that the second model needs:\n ", ", ".join(found))
in_layer_1 = sum(">1." in edge or "logits" in edge for edge in found)
claim("of these, edges into layer 1 or the logits", in_layer_1, low=0, high=0)

# %% [markdown]
# No single edge of layer 1 matters. "So layer 1 does nothing" would be the next wrong story: the
# answers need notes that 0.0 takes, and nobody seems to read them. When a chain has a hole,
# somebody steps in. Take one of them away, and look again. (Do you not know whom? Let two heads at
# a time write 0: which pairs are spared one by one, and missed together?)

# %%
ways = [Route(what_followed, needed(second, (head,))) for head in ("1.1", "1.0")]
for number, route in enumerate(ways, 1):
    print(f"route {number}:", ", ".join(route.edges))
verdicts = examine(second, ways, tokens)
claim("second model: the claim with two routes holds", passes(verdicts), low=1)
wrong = [each.word for each in verdicts].count("wrong")
claim("second model: wrong predictions of two routes", wrong, low=0, high=0)
show(draw_side_by_side(second, ways, tokens, verdicts), "two_routes")

# %% [markdown]
# Two routes, either is enough. The claim has been tried on each edge alone, and again while 1.0 or
# 1.1 writes 0.
#
# Here a route stood ready all the time. Another kind wakes only when the first falls *silent*:
# write 0 in its place and it wakes, write the mean and it sleeps on. That is what `unless` is for.
# Scan once more while the first head writes 0: an edge from that head itself keeps the second way
# shut, and belongs in `unless`, not among the edges. The first route needs its q and k edges too,
# though no single cut shows them: cut there, the first head finds nothing, rests, and the second
# wakes.
#
# ## How far does this carry?
#
# Our models are planted: an edge takes all answers, or none. Is that so in a trained model?
# *Predict:* in the course's model, how many of its 113 single changes take some of the answers, but
# not all?

# %%
model = the_model()
own = repeated_tokens(16, model.cfg.n_ctx, model.cfg.d_vocab, (5, 14), generator).tokens
kept = torch.tensor(share_kept(model, own, single_changes(model)))
planted = torch.tensor(share_kept(first, tokens, single_changes(first)))
show(draw_spread({"planted": planted, "trained": kept}), "spread")
text = "trained: single changes that take a tenth to nine tenths of the answers"
claim(text, ((kept > 0.1) & (kept < 0.9)).sum(), low=1, measured=6)
in_others(text, "20 of 20", low=1)
text = "trained: single changes that take more than nine tenths"
claim(text, (kept <= 0.1).sum(), low=0, high=20, measured=4)

# %% [markdown]
# Six; at least one in 20 of 20 other models. A trained model does some things in several places, by
# halves. There a claim needs shares, as in chapters 9 to 14; no list of edges is simply true.
#
# ## Eight models
#
#     from solutions.examination import blind_model, examine
#     model = blind_model("A")
#
# The call draws all eight the first time. They answer what a rule says, or nothing. When several
# earlier places fit, count them: with one against one, and with two against one, does the model
# answer, and with which? Some heads look right and are not. If a model has no answers, `[]` is the
# claim; the check notices if you say so too early.
#
# The check tries your claim on new sequences, on all single changes, on pairs of heads, and on all
# edges that you did not name, cut together. It says which predictions were wrong and on which
# input, never why: it does not know. Of each sort of change 95 % must be right, and so must the
# rule, on sequences in which several places fit. An answer function that runs the model is refused.
#
# Six of eight is a pass. A scan of all edges, like `needed`, will take you far, and that is a
# lesson: for circuits this clean, behaviour and cuts suffice. (Few sequences keep the scan quick.)
# It does not tell you the *rule*, nor what sleeps. Neighbours such as C and D may have changed
# places in your set.
#
# **Exercises `claim_a`** and **`claim_b`** (12 minutes each), **`claim_c`** and **`claim_d`** (10
# minutes each), **`claim_e`** and **`claim_f`** (15 minutes each), **`claim_g`** and **`claim_h`**
# (20 minutes each).
#
# To see your claim beside the model:
#
#     from course.pictures.ch18 import draw_side_by_side
#     from exercises.ch18_blind_models import claim_a
#     verdicts = examine(model, claim_a(model), tokens)       # tokens: your own sequences
#     draw_side_by_side(model, claim_a(model), tokens, verdicts).savefig("a.png")
#
# ## What you have now
#
# - A way to say what you believe so that it can fail, and a machine that tries to make it fail.
# - An order: behaviour, heads, edges, weights, and at each step what would refute you.
# - The whole course, in your own functions. They take any model with these names and shapes.
