# %% [markdown]
# # 15. Arithmetic: where do the operands travel?
#
# 30 minutes to read, 170 with the exercises. Afterwards you can follow a number through a model
# with MLPs and LayerNorm, measure a patch by its effect E, and test a circuit of heads and MLPs.
# Not covered: how the MLPs compute (chapter 16).
#
# *Route: `arithmetic`.*
#
# **The question.** The model reads `12 - 34 =` and answers `-22`, one token per number, also for
# pairs it never saw. Attention is all that moves anything between positions. Which heads bring 12,
# `-` and 34 to "=", and who does the sum?

# %%
from functools import partial

import torch

from course.desk import claim, claim_rate, in_others, print_table, show, the_model, untrained_model
from course.pictures import ch15 as pictures
from minitransformer.arithmetic import MINUS, PAIRS, PLUS, REGION, TRAIN, answer_to, problems
from minitransformer.evaluate import problem_scores
from solutions.ch11_patching import patch_cells
from solutions.ch12_probes import held_out_accuracy, linear_probe, logistic_probe
from solutions.ch15_arithmetic_circuits import (
    METRICS,
    answer_places,
    arithmetic_faithfulness,
    counterfactual_rows,
    effect,
    effect_forms,
    ffn_deletion,
    frozen_lens,
    mean_cache,
    patched_answers,
    probe_map,
    relative_importance,
    stream_lens,
    stream_names,
)

torch.set_grad_enabled(False)
model, every = the_model("arithmetic"), problems("arithmetic")
right = problem_scores(model, every, torch.arange(len(every.tokens))).correct
claim_rate("right answers, training problems", right[every.rows(TRAIN)], 0.98, measured=1.0)
claim_rate("right answers, held-out pairs", right[every.rows(PAIRS)], 0.9, measured=0.998)
in_region = right[every.rows(REGION)]
claim_rate("right answers, region a - b with a from 35 on", in_region, high=0.7, measured=0.371)

generator = torch.Generator().manual_seed(15)
rows = every.rows(TRAIN)
rows = rows[torch.randperm(len(rows), generator=generator)]

# %% [markdown]
# *The region*, all a - b with a from 35 on, was kept out of training as a whole; it comes back in
# chapter 17. Until then: training problems. An *MLP* works on each position alone (chapter 16);
# *LayerNorm* centres what a part reads and divides it by its spread.
#
# ## How big is a patch?
#
# Give the run on `12 - 34 =` an activation from the run on `40 - 34 =`, its *counterfactual*. Does
# the answer move from r = -22 to r' = 6? Stolfo et al. 2023, "A Mechanistic Interpretation of
# Arithmetic Reasoning in Language Models using Causal Mediation Analysis", measure the mean of two
# factors, with P before the patch and P* after it:
#
#     1 + E(r, r') = 1/2 [ P*(r') / P(r')  +  P(r) / P*(r) ]
#
# By how much did r' grow, and r shrink? *Predict:* nothing is patched; everything is patched: what
# is E?
#
# **Exercises `counterfactual_rows`** (20 minutes), **`patched_answers`** (10), **`effect`** (10),
# **`effect_forms`** (15).

# %%
WORDS = {"a": ("a",), "operator": ("operator",), "b": ("b",)}
places = answer_places(model)
whole, nothing = [("hook_embed", (slice(None),))], []
streams = [(name, (pos,)) for name in stream_names(model) for pos in range(4)]
cells = [whole, nothing, *([place] for place in [*places, *streams])]
forms = {}
for name, changed in {**WORDS, "operands": ("a", "b")}.items():
    kept, others = counterfactual_rows(every, rows[:256], changed, generator)
    tokens, donors = every.tokens[kept], every.tokens[others]
    before, after = patched_answers(model, tokens, donors, cells)
    forms[name] = effect_forms(before, after, tokens[:, -1], donors[:, -1])
    if name == "a":
        a_tokens, a_donors, a_before, a_after = tokens, donors, before, after

r, r_cf = a_tokens[:, -1], a_donors[:, -1]
E = effect(a_before.double().softmax(dim=-1), a_after[0].double().softmax(dim=-1), r, r_cf)
all_of_it = {name: values[0] for name, values in forms["a"].items()}
show(pictures.draw_one_patch(E, all_of_it, "The mean of E belongs to a few prompts"), "one_patch")
largest = E.sort(descending=True).values
tenth = largest[: len(E) // 10].sum() / E.sum()
claim("everything patched: median E", all_of_it["median"], low=1000, measured=149800)
ratio = all_of_it["mean"] / all_of_it["median"]
claim("everything patched: mean E / median E", ratio, low=2, measured=9.909)
claim("share of the mean that the largest tenth holds", tenth, low=0.5, measured=0.7312)


def effect_of_everything(model) -> float:
    answers = patched_answers(model, a_tokens, a_donors, [whole])
    return effect_forms(*answers, r, r_cf)["log1p"][0]


claim(
    "everything patched: log1p, nats",
    effect_of_everything(model),
    low=8,
    measured=11.78,
    untrained=effect_of_everything,
    like="arithmetic",
)

# %% [markdown]
# Everything patched does not give 1: E divides by P(r'), and the surer the model, the smaller that
# is. A tenth of the prompts holds nearly three quarters of the mean. So from here on the mean of
# log(1 + E), in nats. The patch must also pass its own tests: a run's own activations change
# nothing, everything patched is the other run, and log(1 + E) is at least half the change of the
# logit difference, since an arithmetic mean is at least the geometric one.

# %%
_, own = patched_answers(model, a_tokens, a_tokens, [whole])
no_op = effect_forms(a_before, own, r, r_cf)["log1p"].abs().max()
donor_run = model(a_donors[:, :-1])[:, -1]
total = effect_forms(a_before, donor_run[None], r, r_cf)["log1p"][0]
claim("effect of a run's own activations", no_op, high=1e-4, measured=0)
claim("nothing patched", forms["a"]["log1p"][1].abs(), high=1e-4, measured=0)
minus_total = (all_of_it["log1p"] - total).abs()
claim("everything patched, minus the total effect", minus_total, high=1e-4, measured=0)
row = torch.arange(len(r))
moved = (a_after - a_before)[0, row, r_cf] - (a_after - a_before)[0, row, r]
slack = (E.log1p() - moved.double() / 2).min()
claim("smallest log(1 + E) - half the logit difference", slack, low=-1e-4, measured=0)

# %% [markdown]
# ## The map
#
# One head or MLP at one position at a time; below, the whole stream at one depth and position.
# *Predict:* a changed `a`: which positions can matter at all? In which layer does it leave its own?

# %%
n = len(places)
effects = {name: forms[name]["log1p"][2 : 2 + n] for name in WORDS}
by_depth = {name: forms[name]["log1p"][2 + n :].view(-1, 4) for name in WORDS}
title = 'Layer 0 brings most of it to "="; nearly all passes the last MLP there'
show(pictures.draw_travel(places, effects, by_depth, title), "travel")
index = {place: i for i, place in enumerate(places)}
mlp_0, mlp_1 = index["blocks.0.hook_mlp_out", (3,)], index["blocks.1.hook_mlp_out", (3,)]
heads_0 = [index["blocks.0.attn.hook_z", (3, head)] for head in range(model.cfg.n_heads)]
print("  E of each head of layer 0 at =, in nats")
leading = {}
for name in WORDS:
    at_equals = effects[name][heads_0]
    leading[name] = set(at_equals.topk(2).indices.tolist())
    shown = [f"{pictures.bar_part(places[i])} {effects[name][i]:5.1f}" for i in heads_0]
    print(f"    another {name:9}", "   ".join(shown))
last = effects["a"][mlp_1] / all_of_it["log1p"]
claim("a, last MLP / everything", last, low=0.85, measured=0.953)
claim("a, first MLP at =", effects["a"][mlp_0], low=4, measured=7.888)
claim("operator, its best head", effects["operator"][heads_0].max(), low=4, measured=10.46)
same = leading["a"] == leading["b"]
claim("the same two heads lead for a and for b (1 = yes)", same, low=1, measured=1)
importance = torch.stack([effects[name] for name in WORDS]).mean(dim=0).exp() - 1
is_mlp = torch.isin(torch.arange(n), torch.tensor([mlp_0, mlp_1]))
importance = relative_importance(importance, is_mlp)
claim('relative importance of the two MLPs at "="', importance, 0.3, 0.7, measured=0.5184)

# %%
for i, name in enumerate(WORDS):
    still = by_depth[name][2, i] / by_depth[name][0, i]
    text = f"{name}: share of the effect still at its own position after layer 0"
    claim(text, still, high=0.5, measured=(0.302, 0.2309, 0.3465)[i])

# %% [markdown]
# In this model one head of layer 0 fetches the operator to "=", and three others both operands, a
# and b alike. A word that is changed at its own position after layer 0 still has a fifth to two
# fifths of its effect (in nats): layer 1 looks once more.
#
# In large models attention carries operands to the last token and *late* MLPs make the result
# (Stolfo et al. 2023; Nikankin et al. 2024, "Arithmetic Without Algorithms: Language Models Solve
# Math With a Bag of Heuristics"). The first half comes out here, the second in part: nearly
# everything passes the last MLP, but two thirds pass the first one at "=" too.
# (`relative_importance` counts what passes several parts several times.)
#
# ## Is that the circuit?
#
# Keep the places with the largest E; give all others their **mean** over training problems,
# position by position. NL is the right logit over the largest. It has a hole: add 100 to every
# logit and NL is nearly 1, though no probability changed. So **logits are centred first**, a choice
# we must state. Beside it: the plain logit difference, and right answers.
#
# **Exercises `relative_importance`** (10 minutes), **`mean_cache`** (5), **`normalised_logit`**
# (10), **`arithmetic_faithfulness`** (20). *Predict:* rank by counterfactuals with other operands
# only. Which part is missed?

# %%
sample = every.tokens[rows[:256]]
means = mean_cache(model, every.tokens[rows][:, :-1], sorted({name for name, _ in places}))
rankings = {
    "ranked by E: a, operator, b": torch.stack(list(effects.values())).amax(dim=0),
    "ranked by E: operands only": forms["operands"]["log1p"][2 : 2 + n],
}
orders = []
for values in rankings.values():
    orders.append([places[i] for i in values.argsort(descending=True)])
sizes = range(n + 1)
nested = [order[:k] for order in orders for k in sizes]
draws = []
for k in sizes:
    for _ in range(20):
        draws.append([places[i] for i in torch.randperm(n, generator=generator)[:k]])
curves, by_lot = {}, {}
for name, metric in METRICS.items():
    F = arithmetic_faithfulness(model, sample, nested, means, metric).view(len(orders), -1)
    curves[name] = dict(zip(rankings, F))
    F = arithmetic_faithfulness(model, sample[:32], draws, means, metric)
    by_lot[name] = F.view(len(sizes), -1)
title = "Ten to fourteen of 25 places give 90 %; by operands only, here ten give half or less"
show(pictures.draw_circuit_sizes(curves, by_lot, title), "sizes")

# %% [markdown]
# How many places give 90 % of each metric? And what does the same number give, ranked by operands
# only, or drawn by lot?

# %%
by_all, by_operands = rankings
enough = {}
for name, measured in zip(METRICS, (10, 14, 14)):
    enough[name] = next(k for k in sizes if curves[name][by_all][k] >= 0.9)
    claim(f"places for 90 %, {name}", enough[name], low=7, high=18, measured=measured)
k = enough["normalised logit"]
F = {name: lines[k] for name, lines in curves["normalised logit"].items()}
claim("the smallest of these, normalised logit", F[by_all], low=0.9, measured=0.9089)
claim("operands only: F at that size", F[by_operands], low=0.1, high=1.05, measured=0.4974)
median = by_lot["normalised logit"][k].median()
in_others("operands only: F at that size", "9 of 10", low=0.85)
claim("drawn by lot: median F at that size", median, high=0.4, measured=0.05537)
correct = curves["accuracy"][by_all][k]
claim("the same circuit, accuracy", correct, low=0.5, measured=0.8474)
by_ten = max(lines[by_operands][10] for lines in curves.values())
claim("operands only: ten places, best of the three metrics", by_ten, measured=0.4974)

# %%
circuit = orders[0][:k]
at_equals = sum(where[1][0] == 3 for where in circuit)
claim('places of it at "="', at_equals, measured=10)
names = [f"{pictures.bar_part(place)} at {pictures.READ[place[1][0]]}" for place in circuit]
print("  the circuit:")
for first in range(0, k, 5):
    print("   ", ", ".join(names[first : first + 5]))

# %% [markdown]
# F is published as a mean of ratios, one per prompt, of logits as they are (Nikankin et al. 2024).
# Ours is a ratio of means, of centred logits. Does it matter?

# %%
prompts, answers, row = sample[:, :-1], sample[:, -1], torch.arange(len(sample))
saved = {name: mean.expand(len(sample), *mean.shape[1:]) for name, mean in means.items()}
outside = [place for place in places if place not in circuit]
logits = patch_cells(model, prompts, saved, [outside, places, []])  # circuit, nothing, model
centred = logits - logits.mean(dim=-1, keepdim=True)
print(f"  {'F of the circuit':20} ratio of means   mean of ratios")
written = {}
for name, x in {"centred logits": centred, "logits as they are": logits}.items():
    NL = x[:, row, answers] / x.amax(dim=-1)
    gained, possible = NL[0] - NL[1], NL[2] - NL[1]
    some = possible > 0  # prompts whose answer "nothing" gives already: 0 / 0, left out
    written[name] = gained.mean() / possible.mean(), (gained / possible)[some].mean()
    print(f"  {name:20} {written[name][0]:14.3f} {written[name][1]:16.3f}")
ours, published = written["centred logits"][0], written["logits as they are"][1]
claim("F as published minus ours", published - ours, -0.1, 0.1, measured=0.0028)

# %% [markdown]
# Not here. But the mean of ratios had to leave prompts out: with everything at its mean the model
# gives a single answer, and where that is right a ratio is 0 / 0.
#
# Ten places of 25, everything at "=", give 91 % of NL. Accuracy is harder to please, so "how large
# is the circuit?" has no answer without a metric. Very small circuits score *below* 0: a part that
# works alone can be worse than none.
#
# Counterfactuals that keep the operator never ask who reads it. Their ranking leaves its head out,
# and is stuck at half of NL until it is added. **A circuit answers the question that its
# counterfactuals asked.** In 9 of 10 other models the mistake costs little, F stays above .85; only
# asking about the operator tells.
#
# ## When can it be read?
#
# One probe per depth and position, by logistic regression (chapter 12). **Exercise `probe_map`**
# (15 minutes). *Predict:* where is the answer? And in a model that was never trained?

# %%
strong = partial(logistic_probe, steps=20)
read = every.tokens[rows[:2500]]
answer_of, prompts = read[:, -1], read[:, :-1]
labels = {"a": (read[:, 0], 50), "operator": (every.operator[rows[:2500]], 3)}
labels |= {"b": (read[:, 2], 50), "answer": (answer_of, 149)}
maps = {}
for name, (values, count) in labels.items():
    maps[name] = probe_map(model, prompts, values, count, fit=strong)
title = 'As one of 149 classes, the answer can be read at "=" from the first MLP on'
show(pictures.draw_readable(maps, title), "probes")


def answer_at_equals(model, depth=2, fit=strong) -> float:
    name = stream_names(model)[depth]
    _, cache = model.run_with_cache(prompts, [name])
    return held_out_accuracy(cache[name][:, 3:], answer_of[:, None], 149, fit=fit)


def after_attention_1(model) -> float:
    return answer_at_equals(model, depth=3)


control = {"untrained": answer_at_equals, "like": "arithmetic"}
at_equals = maps["answer"][:, 3]
claim("answer at =, after attention 0", at_equals[1], high=0.2, measured=0.082)
claim("answer at =, after MLP 0", at_equals[2], low=0.25, measured=0.47, **control)
control["untrained"] = after_attention_1
claim("answer at =, after attention 1", at_equals[3], low=0.3, measured=0.574, **control)
claim("answer at =, after MLP 1", at_equals[4], low=0.9, measured=1.0)
claim("answer, best of the other positions", maps["answer"][:, :3].max(), high=0.1, measured=0.036)
shuffled = answer_of[torch.randperm(len(answer_of), generator=generator)]
best = probe_map(model, prompts, shuffled, 149, fit=strong).max()
claim("answer, shuffled labels, best place", best, high=0.08, measured=0.03)

# %% [markdown]
# As a class the answer appears at "=" when the *first* MLP has written, and is complete after the
# second. But numbers have sizes. What does least squares on the *value* read before any MLP?

# %%
SOME = rows[:6000]


def read_as_number(some_model, operator, depth=1) -> torch.Tensor:
    """What least squares reads at "=" in unseen problems, and what is right: [2, row]."""
    chosen = SOME[every.operator[SOME] == operator]
    name = stream_names(some_model)[depth]
    _, cache = some_model.run_with_cache(every.tokens[chosen, :4], [name])
    x = torch.nn.functional.pad(cache[name][:, 3].double(), (0, 1), value=1.0)  # row d_model + 1
    value = answer_to(every.operator[chosen], every.a[chosen], every.b[chosen]).double()
    seen = round(0.8 * len(x))
    line = torch.linalg.lstsq(x[:seen], value[:seen, None]).solution[:, 0]
    return torch.stack([x[seen:] @ line, value[seen:]])


def share_explained(read_and_right) -> float:
    read, right_value = read_and_right
    return (1 - (read - right_value).square().mean() / right_value.var(correction=0)).item()


def sum_before_mlps(some_model) -> float:
    return share_explained(read_as_number(some_model, PLUS))


as_number = read_as_number(model, PLUS)
shown = {"a + b": as_number, "a - b": read_as_number(model, MINUS)}
shown["a + b, untrained model"] = read_as_number(untrained_model(0, "arithmetic"), PLUS)
title = "As a number, the sum is there before any MLP; the difference only roughly"
show(pictures.draw_numbers_read(shown, title), "numbers")
control = {"untrained": sum_before_mlps, "like": "arithmetic"}
explained = share_explained(as_number)
claim("a + b as a number, after attention 0: R2", explained, low=0.98, measured=0.996, **control)
hits = as_number[0].round() == as_number[1]
claim_rate("and right when rounded", hits, low=0.2, measured=0.326)
difference = share_explained(shown["a - b"])
claim("a - b as a number, after attention 0: R2", difference, high=0.9, measured=0.698)

# %% [markdown]
# a + b, nearly: attention brings both operands as sizes, and the line adds. a - b only roughly: 12
# is the same vector as a and as b, and the heads bring both nearly alike, so mostly the sum
# arrives. And the classes? The untrained model has both operands, too, and still these probes fail.

# %%
untrained = untrained_model(0, "arithmetic")
probes = {"ridge 1e-3": linear_probe, "ridge 1e-6": partial(linear_probe, ridge=1e-6)}
probes["logistic"] = strong
table = {}
for who, some_model in {"model": model, "untrained": untrained}.items():
    for name, fit in probes.items():
        table[who, name] = [answer_at_equals(some_model, depth, fit) for depth in range(5)]
columns = [depth.removeprefix("after ") for depth in pictures.DEPTHS]
readers = [f"{who}, {name}" for who, name in table]
print_table("right at =, after", readers, columns, table.values(), "{:.3f}")
claim(
    "ridge 1e-3: answer after attention 1",
    table["model", "ridge 1e-3"][3],
    high=0.1,
    measured=0.018,
)
claim(
    "ridge 1e-6: answer after attention 1", table["model", "ridge 1e-6"][3], low=0.1, measured=0.29
)
claim("ridge 1e-6: answer after MLP 1", table["model", "ridge 1e-6"][4], low=0.7, measured=0.948)


claim("a at =, after attention 0", maps["a"][1, 3], low=0.3, measured=0.806)
blank = probe_map(untrained, prompts, read[:, 0], 50, fit=strong)[1, 3]
claim("untrained model: a at =, after attention 0", blank, low=0.5, measured=0.836)

# %% [markdown]
# **A negative result belongs to its instrument.** A ridge of 1e-3, which looks small, would have
# told another story: nothing before the last MLP. It hides what is written softly, since it is a
# claim about norms. With 149 classes and 2,000 rows none of these probes is a ceiling.
#
# And a *positive* result needs the untrained model. There the operand can be read at "=" just as
# well: attention brings it, whatever the weights. (Numbers may also be kept as points on circles:
# Kantamneni & Tegmark 2025, "Language Models Use Trigonometry to Do Addition".)
#
# ## Through the output's eyes
#
# The lens of chapter 6, with the last LayerNorm's **scale frozen**: then all parts add up to the
# logits. Do MLPs *delete* the operands from what could be said? In large models attention has been
# seen to suppress earlier answers, while MLPs amplify (Yan & Jia 2025, "Promote, Suppress, Iterate:
# How Language Models Answer One-to-Many Factual Queries"). **Exercises `frozen_lens`** (10
# minutes), **`ffn_deletion`** (15).

# %%
sample = every.tokens[rows[:1000]]
# 7 + 0 = 7: promoting the answer would look like keeping a
sample = sample[(sample[:, [0, 2]] != sample[:, 4:]).all(dim=1)]
_, cache = model.run_with_cache(sample[:, :-1])
parts = [cache["hook_embed"]]
for layer in range(2):
    parts += [cache[f"blocks.{layer}.hook_attn_out"], cache[f"blocks.{layer}.hook_mlp_out"]]
by_part = frozen_lens(model, torch.stack(parts), cache["ln_final.hook_scale"])
missed = by_part.sum(dim=0) + model.ln_final_b @ model.W_U - model(sample[:, :-1])
claim("parts minus logits, largest difference", missed.abs().max(), high=1e-3, measured=0)
lens = stream_lens(model, cache)[:, :, 3]  # depth prompt vocab
lens = lens - lens.mean(dim=-1, keepdim=True)
lines = {}
for name, column in {"answer": 4, "operand a": 0, "operand b": 2}.items():
    lines[name] = lens[:, torch.arange(len(sample)), sample[:, column]].mean(dim=1)
another = sample[torch.arange(len(sample)).roll(1)]  # another problem's numbers: the control
numbers = {"operand a": sample[:, 0], "operand b": sample[:, 2]}
numbers["another problem's a"] = another[:, 0]
fair = another[:, 0] != sample[:, 4]  # where the control is not the answer itself
added, mean_added = {}, {}
for name, asked in numbers.items():
    asked = asked[:, None].expand(-1, 4)
    added[name] = [ffn_deletion(model, cache, layer, asked)[fair, 3] for layer in range(2)]
    mean_added[name] = [values.mean().item() for values in added[name]]
title = "The last MLP writes the answer; hardly anything is deleted"
show(pictures.draw_lens_at_equals(lines, mean_added, title), "lens")
first_choice = lens.argmax(dim=-1) == sample[:, -1]
text = "answer is the first choice of the lens, before the last MLP"
claim_rate(text, first_choice[-2], high=0.3, measured=0.13)
claim_rate("and after it", first_choice[-1], low=0.98, measured=1.0)
for layer in range(2):
    specific = added["operand a"][layer] - added["another problem's a"][layer]
    text = f"MLP {layer}, operand a minus another problem's a, nats"
    claim_rate(text, specific, low=-0.8, high=0.8, measured=(-0.1875, 0.1244)[layer])
in_others("MLP 0, operand a minus another problem's a, nats", "7 of 10", high=0.0)
in_others("MLP 1, operand a minus another problem's a, nats", "10 of 10", low=0.0)
gained = ffn_deletion(model, cache, 1, sample[:, 4, None].expand(-1, 4))[:, 3]
claim_rate("MLP 1, the answer, nats", gained, low=6, measured=10.67)

# %% [markdown]
# The last MLP adds 11 nats to the answer. To the operands hardly anything happens: a strong story
# would have shown bars of several nats for them, beside a flat grey one.
#
# The first MLP lowers a by .2 nats more than another problem's a, and lowers it more in 7 of 10
# other models.
#
# The last one may give some back: it does in 10 of 10, but here the interval, -.08 to .33, holds 0.
# A trace of deletion, not a mechanism: at "=" the operands' logits were never high, so there is
# little to delete.
#
# ## What you have now
#
# - Attention, mostly of layer 0, brings operator and operands to "="; two MLPs there make the
#   answer, the first one a good part of it.
# - E, as the mean of two factors, and three summaries that do not belong to a few prompts.
# - A circuit with a mean per position, random circuits beside it, a trap in its counterfactuals.
# - A probe that failed because of its regulariser, one that asked for a class and not a number, and
#   the control that every reading needs: the untrained model.
# - Something that failed: deletion by the MLPs.
#
# Next: the MLPs, 256 neurons each, and what single ones have learnt: `python -m course 16`.
