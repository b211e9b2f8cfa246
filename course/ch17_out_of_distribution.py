# %% [markdown]
# # 17. Where it was never trained
#
# 45 minutes to read, 175 with the exercises. Afterwards you can test whether a model notices that
# it is out of its depth, tell a heuristic that is missing from one that is too weak, and say what a
# repair by patching proves, and what not. Not covered: how to make a model generalise.
#
# *Route: `arithmetic`.*
#
# **The question.** Our models never saw `a - b` with a large a: from 70 on with digits, from 35 on
# with one token per number. They saw all these numbers in sums. They fail there. Do they notice?
# Can we repair it?
#
# Three models take part: *digits* writes digit by digit, *arithmetic* is that of chapters 15 and
# 16, *two-step* writes two answers.

# %%
import math

import torch

from course.desk import claim, claim_rate, in_others, interval, show, the_model
from course.pictures import ch17 as pictures
from minitransformer.arithmetic import MINUS, PAIRS, REGION, TRAIN, answer_to, problems
from minitransformer.evaluate import problem_scores, wrong_answers
from solutions.ch11_patching import patch_cells
from solutions.ch15_arithmetic_circuits import answer_places, is_right, mean_cache
from solutions.ch16_neurons_and_heuristics import highest_of
from solutions.ch17_out_of_distribution import (
    at_equal_results,
    auroc,
    corrected_run_patch,
    drawn,
    first_difference,
    input_log_likelihood,
    m2_variants,
    missing_and_weak,
    mistaken_runs,
    of_type,
    smallest_circuit,
    study_differences,
    with_number,
)

torch.set_grad_enabled(False)
generator = torch.Generator().manual_seed(17)
digits, every = the_model("digits"), problems("digits")
right = problem_scores(digits, every, torch.arange(len(every.tokens))).correct
train, pairs, region = every.rows(TRAIN), every.rows(PAIRS), every.rows(REGION)
claim_rate("digits: right answers, held-out pairs", right[pairs], low=0.95, measured=1.0)
claim_rate("digits: right answers, region", right[region], high=0.6, measured=0.299)

# %% [markdown]
# ## Does it notice?
#
# The digit model was trained on *every* token, the problem itself included. So it gives each input
# a probability: the product over its tokens. There are M = 11,287 training problems, each as likely
# as any other. Who knows exactly that, and no more, is surprised by log M = 9.33 nats each time.
#
# *Predict:* how surprised is the model by held-out pairs? By the region? **Exercises
# `input_log_likelihood`** (15 minutes), and **`auroc`** (15), the AUROC: how well one number
# separates two groups.

# %%
READ = 7  # BOS 1 2 - 3 4 =


def surprise_of(model, length: int = READ) -> torch.Tensor:
    return -input_log_likelihood(model, every.tokens, length)


def told_apart(model) -> float:
    """AUROC of the surprise, region against held-out pairs."""
    values = surprise_of(model)
    return auroc(values[region], values[pairs])


surprise, log_M = surprise_of(digits), math.log(len(train))
upto = torch.stack([surprise_of(digits, length) for length in range(2, READ + 1)], dim=1)
by_token = torch.cat([upto[:, :1], upto.diff(dim=1)], dim=1)  # problem token
groups = {"training problems": train, "held-out pairs": pairs, "region: a from 70 on": region}
title = "The minus sign is the surprise"
show(pictures.draw_likelihood(groups, surprise, by_token, log_M, title), "likelihood")
print(f"  {'surprise, nats':22} problems   mean   minus log M")
for name, rows in groups.items():
    mean = surprise[rows].mean().item()
    print(f"  {name:22} {len(rows):8} {mean:6.2f} {mean - log_M:13.2f}")
claim("log M, nats", log_M, measured=9.331)
known = surprise[train].mean() - log_M
claim("training problems: mean surprise minus log M, nats", known, 0, 0.4, measured=0.132)
strange = surprise[region].mean() - log_M
claim("region: mean surprise minus log M, nats", strange, low=2.5, measured=6.12)
apart = told_apart(digits)
control = {"untrained": told_apart, "like": "digits"}
claim("AUROC, region against held-out pairs", apart, low=0.98, measured=1.0, **control)

# %% [markdown]
# It notices. Are held-out pairs a little strange? Where pairs were held out, fewer
# training problems share their a or b. So each is compared with training problems whose a and b
# came equally often (`at_equal_results`). Mirror images were held out together, so the
# interval resamples pairs of them.

# %%
code_a, code_b = 100 * every.operator + every.a, 100 * every.operator + every.b  # [problem]
often_a = code_a[train].bincount(minlength=200)[code_a]
often_b = code_b[train].bincount(minlength=200)[code_b]
equal_counts = 1000 * often_a + often_b
is_train, is_held_out = every.split == TRAIN, every.split == PAIRS
rows, partners = at_equal_results(surprise, equal_counts, is_train, is_held_out)
mirror = 10000 * every.operator + 100 * every.a.minimum(every.b) + every.a.maximum(every.b)


def by_cluster(values: torch.Tensor, cluster: torch.Tensor) -> torch.Tensor:
    """The sums of values [row, column] over the rows of each cluster: [cluster, column]."""
    names, belongs_to = cluster.unique(return_inverse=True)
    sums = torch.zeros(len(names), values.shape[1], dtype=torch.float64)
    return sums.index_add(0, belongs_to, values.double())


def ratio_of_sums(sums: torch.Tensor) -> torch.Tensor:
    return sums[:, 0].sum() / sums[:, 1].sum()


raw = surprise[pairs].mean() - surprise[train].mean()
difference = surprise[rows] - partners
clusters = by_cluster(torch.stack([difference, torch.ones(len(rows))], dim=1), mirror[rows])
low, high = interval(clusters, ratio_of_sums)
claim("held-out pairs minus training, nats", raw, high=0.1, measured=0.0164)
text = "the same at equal counts of a and b"
claim(text, difference.mean(), low=-0.005, high=0.04, measured=0.0086)
in_others(text, "10 of 10", low=0.0)
print(f"      over {len(clusters)} mirror pairs, 95 % interval {low:.4f} to {high:.4f}")

# %% [markdown]
# Half of it is counting. The other half is above 0 in 10 of 10 other models, but the same pairs
# were kept from all: it may be chance. At most they remember single problems, faintly. What do they
# notice about the region?

# %%
at_sign = by_token[region, 2].mean() - by_token[train, 2].mean()
share = at_sign / (surprise[region].mean() - surprise[train].mean())
claim("share of the extra surprise that the operator brings", share, low=0.4, measured=0.785)
failed, solved = region[~right[region]], region[right[region]]
within = auroc(surprise[failed], surprise[solved])
text = "AUROC within the region, wrong against right"
claim(text, within, 0.3, 0.95, measured=0.745)
in_others(text, "8 of 10", low=0.5)
model, single = the_model("arithmetic"), problems("arithmetic")
answers_only = -input_log_likelihood(model, single.tokens, 4)
log_M_single = math.log(len(single.rows(TRAIN)))
excess = answers_only[single.rows(TRAIN)].mean() / log_M_single
claim("trained on answers only: surprise / log M", excess, low=1.3, measured=2.437)
meaningless = auroc(answers_only[single.rows(REGION)], answers_only[single.rows(PAIRS)])
claim("trained on answers only: the same AUROC", meaningless, 0.05, 0.95, measured=0.465)

# %% [markdown]
# Most of the extra surprise sits at one token: after a large a, a minus never came. "I have not
# seen such a problem" is not "I cannot do it": within the region the surprise tells wrong answers
# from right ones only in part (better than a coin in 8 of 10 other models). And it means nothing in
# the model of chapter 15, which learnt answers only.
#
# ## The same problem with other numbers
#
# Take a solved problem. Draw new numbers of the same size (two digits stay two, one
# digit may become 1 to 99), such that each result keeps its sign and stays whole. In large models
# such variants break many answers (Xie et al. 2024, "Adversarial Math Word Problem Generation").
# **Exercise `m2_variants`** (20 minutes). *Predict:* which of ours break?

# %%
operands = torch.stack([every.a, every.b], dim=1)
values = answer_to(every.operator, every.a, every.b)[:, None].float()
variants, originals = [], []
for row in drawn(train[right[train]], 400, generator).tolist():
    possible = m2_variants(every.operator, operands, values, row).nonzero()[:, 0]
    variants.append(drawn(possible, 25, generator))
    originals.append(torch.full_like(variants[-1], row))
variants, originals = torch.cat(variants), torch.cat(originals)
title = "Variants break where training never went"
show(pictures.draw_variants(every, variants, right, title), "variants")
broken, unbroken = variants[~right[variants]], variants[right[variants]]
share = right[variants].float().mean()
claim("variants answered right", share, low=0.85, high=0.98, measured=0.933)
longer = ((operands[variants] > 9) != (operands[originals] > 9)).any(dim=1)
share = longer.float().mean()
claim("variants with another number of digits", share, 0.05, 0.3, measured=0.1765)
share = (every.split[variants] == REGION).float().mean()
claim("share of the region among the variants", share, 0.05, 0.15, measured=0.088)
share = (every.split[broken] == REGION).float().mean()
claim("share of the region among those that break", share, low=0.95, measured=1.0)
warned = auroc(surprise[broken], surprise[unbroken])
claim("AUROC of the surprise, broken against right", warned, low=0.9, measured=0.994)

# %% [markdown]
# All that break lie in the region, where one variant in eleven falls. Training may never have
# covered what looks like the same problem. Here the likelihood would have warned.
#
# ## What is wrong with the wrong answers?
#
# Now with one token per number:

# %%
failures = wrong_answers(model, single, single.rows(REGION))
errors = torch.tensor([wrong.said - wrong.right for wrong in failures if wrong.said is not None])
print("  " + ";  ".join(wrong.problem for wrong in failures[::80]))
claim("wrong answers in the region, of 750", len(failures), low=200, high=750, measured=472)
claim_rate("share of the errors that are even", errors % 2 == 0, low=0.7, measured=0.994)
in_others("share of the errors that are even", "10 of 10", low=0.9)
claim_rate("share of the errors that are whole tens", errors % 10 == 0, measured=0.89)
in_others("share of the errors that are whole tens", "9 of 10", high=0.2)

# %% [markdown]
# Nine errors in ten are whole tens: modulo 10 these answers are right. Tens are rare in 9 of 10
# other models; but nine in ten are even in 10 of 10.
#
# **Two hypotheses** (Nikankin et al. 2024, "Arithmetic Without Algorithms: Language Models Solve
# Math With a Bag of Heuristics"):
#
# - *missing*: fewer neurons have a heuristic that covers the problem;
# - *weak*: they are there, but each adds less to the right answer's logit.
#
# In Llama the wrong prompts had *more* covering neurons and the right ones a slight advantage in
# logits. Our names were given on trained problems. A fair comparison needs equal results: 7 has
# other neurons than 30. And a control: region problems that come out *right*.
#
# **Exercises `covers`** (20 minutes), **`at_equal_results`** (20), **`missing_and_weak`** (10).
# *Predict:* who is weak?

# %%
d = study_differences(model)
groups = {"wrong": d.inside & ~d.good, "right": d.inside & d.good}
neurons = {kind: of_type(d, kind) for kind in ("multi-result", "modulo", "range", "all")}
neurons["met"] = neurons["all"] & d.cover[d.inside].any(dim=0)  # that cover some region problem
sums = {}  # [result, (neurons, logits, neurons there, logits there, problems)]
for kind, theirs in neurons.items():
    count, logits = theirs.sum(dim=1).float(), (theirs * d.promoted).sum(dim=1)
    for group, wanted in groups.items():
        rows, count_there = at_equal_results(count, d.result, ~d.inside, wanted)
        _, logits_there = at_equal_results(logits, d.result, ~d.inside, wanted)
        columns = [count[rows], logits[rows], count_there, logits_there, torch.ones(len(rows))]
        sums[kind, group] = by_cluster(torch.stack(columns, dim=1), d.result[rows])


def gaps(sums_of: torch.Tensor) -> torch.Tensor:
    """(missing, weak) in nats, of sums [result, 5]; nan where there is no ratio to take apart."""
    totals = sums_of[:, :4].sum(dim=0).tolist()
    return torch.tensor(missing_and_weak(*totals) if min(totals) > 0 else (math.nan, math.nan))


def with_interval(sums_of: torch.Tensor, which: int) -> str:
    """One of the two gaps, with its interval over results."""
    low, high = interval(sums_of, lambda drawn_again: gaps(drawn_again)[which])
    return f"   {gaps(sums_of)[which]:5.2f} ({low:5.2f} to {high:5.2f})"


header = "number  there  logits  there    missing (95 %)      weak (95 %)"
print(f"  {'neurons':12} {'answered':8} {header}")
for (kind, group), sums_of in sums.items():
    total = sums_of.sum(dim=0)
    n, p, n_there, p_there = (total[:4] / total[4]).tolist()
    line = f"  {kind:12} {group:8} {n:6.1f} {n_there:6.1f} {p:7.2f} {p_there:6.2f}"
    if kind in ("all", "met"):  # the others add too few logits for ratios
        line += with_interval(sums_of, 0) + with_interval(sums_of, 1)
    print(line)
title = "Failures miss hardly more neurons than successes, but those for the result are weak"
show(pictures.draw_hypotheses(sums, title), "hypotheses")
missing, weak = (gaps(sums["all", "wrong"]) - gaps(sums["all", "right"])).tolist()
claim("all, wrong minus right: missing, nats", missing, -0.35, 0.35, measured=0.017)
claim("all, wrong minus right: weak, nats", weak, low=0.05, measured=0.56)
in_others("all, wrong minus right: weak, nats", "10 of 10", low=0.2)
in_others("all, wrong minus right: missing, nats", "9 of 10", low=0.0)
in_others("all, wrong minus right: missing, nats", "10 of 10", high=0.2)
missing, weak = (gaps(sums["met", "wrong"]) - gaps(sums["met", "right"])).tolist()
claim("met, wrong minus right: missing, nats", missing, -0.35, 0.35, measured=0.0985)
claim("met, wrong minus right: weak, nats", weak, low=0.05, measured=0.4775)

# %% [markdown]
# *There* means trained problems with the same results, *missing* and *weak* are the two factors in
# nats; intervals resample results. Failures have fewer covering neurons, which give less.
# But region problems that come out right miss nearly as many. **Missing heuristics hardly tell
# failures from successes; weak ones do.** Failures are weaker by .2 nats or more in 10 of 10 other
# models; they miss more in 9 of 10, always by less. (*met* leaves out ranges such as 25 <= a < 35,
# which no region problem can meet.)
#
# But is it *these* neurons? *Predict:* do named ones that do **not** cover the problem fall short,
# too?

# %%
named = torch.tensor([name != "none" for name in d.names])
short, adds = {}, {}  # logits fewer than there, [problem]; logits that they add, their mean
print("  logits fewer than there   in failures   in successes")
for kind, theirs in {"covering": neurons["all"], "not covering": named & ~d.cover}.items():
    added = (theirs * d.promoted).sum(dim=1)
    for group, wanted in groups.items():
        rows, there = at_equal_results(added, d.result, ~d.inside, wanted)
        short[kind, group], adds[kind, group] = there - added[rows], added[rows].mean()
    means = [short[kind, group].mean().item() for group in ("wrong", "right")]
    print(f"  {kind:22} {means[0]:14.2f} {means[1]:14.2f}")
title = "In failures, neurons that do not cover the problem fall short as well"
show(pictures.draw_short(short, title), "short")
for kind, measured in (("covering", 0.89), ("not covering", 0.8742)):
    told = auroc(short[kind, "wrong"], short[kind, "right"])
    claim(f"{kind}: AUROC of that, wrong against right", told, low=0.6, measured=measured)
missed = short["not covering", "wrong"].mean()
claim("not covering, failures: logits fewer than there", missed, low=1.5, measured=3.47)
claim("not covering, failures: logits that they add", adds["not covering", "wrong"], high=0)
in_others("not covering: AUROC of that, wrong against right", "10 of 10", low=0.75)

# %% [markdown]
# They do, nearly as much, and tell failures as well, in 10 of 10 other models. So weakness is
# nothing particular to the heuristics of a problem. A third hypothesis is as good: *others
# interfere*. In failures, neurons that have nothing to say push the answer down. Which of the
# covering ones are weak?

# %%
fewer = {}
for kind in ("multi-result", "modulo"):
    total = sums[kind, "wrong"].sum(dim=0)
    fewer[kind] = (total[3] - total[1]) / total[4]
text = "failures, multi-result neurons: logits fewer than there"
claim(text, fewer["multi-result"], low=1, measured=2.85)
text = "failures, modulo neurons: logits fewer than there"
claim(text, fewer["modulo"], high=0.6, measured=0.1457)
fires = (neurons["multi-result"] & (d.h > 0)).sum(dim=1)
share = fires / neurons["multi-result"].sum(dim=1).clamp(min=1)
for group, low, high, measured in (("wrong", 0.1, 0.85, 0.638), ("right", 0.6, 1, 0.9555)):
    rows, share_there = at_equal_results(share, d.result, ~d.inside, groups[group])
    text = f"{group}: share of its multi-result neurons that fires"
    claim(text, share[rows].mean(), low, high, measured=measured)
    if group == "wrong":
        claim("the same, trained problems", share_there.mean(), low=0.8, measured=0.969)
left_out = groups["wrong"] & (d.result > 34)
text = "failures left out: no trained problem has their result"
claim(text, left_out.sum(), low=20, high=200, measured=67)

# %% [markdown]
# Neurons for a few results are weak; those that count modulo something hardly. This fits the
# errors: modulo 10 all is well, the tens are wrong. Value vectors are weights, so apart from the
# last LayerNorm's scale, weak means less *active*. In failures a third of the multi-result neurons
# that cover the problem are silent, in successes hardly any.
#
# Caveats: that all neurons together promote a wrong answer too little is no finding. At equal
# results a neuron named for a result cannot be missing. Failures with results above 34 are left
# out: no trained difference has them.
#
# ## Would louder do?
#
# If the covering neurons are too weak, amplify them. Controls of the same
# number: neurons that cover another failure, drawn by lot, the most active, and those with the
# highest direct contribution to the right answer, named or not. *Predict:* which repair most?

# %%
FACTORS = [1, 1.5, 2, 3, 4, 8, 16, 32]
bad = (d.inside & ~d.good).nonzero()[:, 0]
cover, tokens = d.cover[bad], d.tokens[bad]
count, everyone = cover.sum(dim=1), torch.ones_like(cover)
order = torch.randperm(len(bad), generator=generator)  # another failure for each
lot = torch.rand(cover.shape, generator=generator)


def amplified(tokens: torch.Tensor, which: torch.Tensor, factor: float) -> torch.Tensor:
    """The answers' logits when some activations at "=" are multiplied; which [batch, neuron]."""
    by_layer = which.unflatten(1, (model.cfg.n_layers, model.cfg.d_mlp))

    def multiply(h, hook):
        chosen = by_layer[:, int(hook.name.split(".")[1])]
        h[:, -1] = torch.where(chosen, factor * h[:, -1], h[:, -1])
        return h

    every_mlp = [(lambda name: name.endswith("mlp.hook_post"), multiply)]
    return model.run_with_hooks(tokens[:, :-1], every_mlp)[:, -1]


differ = d.result[bad] != d.result[bad[order]]
same = tokens[:, -1]
louder = {  # which neurons, in which problems, and what is looked for
    "those that cover the problem": (cover, tokens, same),
    "highest contribution to its answer": (
        highest_of(d.promoted[bad], everyone, count),
        tokens,
        same,
    ),
    "those that cover another failure": (cover[order], tokens, same),
    "strong ones, drawn by lot": (highest_of(lot, d.strong.expand_as(cover), count), tokens, same),
    "the most active ones": (highest_of(d.h[bad], everyone, count), tokens, same),
    "another failure's, and its answer comes": (
        cover[order][differ],
        tokens[differ],
        same[order][differ],
    ),
}
repaired = {}
for name, (which, prompts, wanted) in louder.items():
    hits = [is_right(amplified(prompts, which, factor), wanted) for factor in FACTORS]
    repaired[name] = [share.mean().item() for share in hits]
show(pictures.draw_louder(FACTORS, repaired, "Named neurons repair a quarter"), "louder")
own, highest, another, by_lot, active, imposed = torch.tensor(list(repaired.values())).amax(dim=1)
claim("repaired by amplifying, at best", own, low=0.1, high=0.6, measured=0.271)
claim("the same, highest contribution", highest, low=0.3, measured=0.782)
claim("the same, neurons of another failure", another, high=0.2, measured=0.0784)
claim("the same, drawn by lot", by_lot, high=0.2, measured=0.0784)
claim("the same, the most active", active, high=0.2, measured=0.03)
claim("another failure's neurons give its answer, at best", imposed, high=0.6, measured=0.1573)

# %% [markdown]
# The named neurons repair about a quarter, those by lot or activity a twelfth at most. But those
# with the highest contribution repair three times as many: chosen by the answer, they impose it.
# Another failure's neurons, when very loud, sometimes bring out *its* answer. What comes only when
# loud may be our own choice.
#
# ## A repair, and what it proves
#
# The third model writes two steps: `45 - 31 = 14 ; 14 + 9 = 23`. In the
# region its first number is mostly wrong, and it goes on with it. Patch activations of a *corrected
# run*, which reads the right number, into this *wrong run*. If the final answer comes right, have
# we found the missing skill? *Predict:* what can a patch at `45 - 31 =` do? **Exercises
# `first_difference`** (10 minutes), **`corrected_run_patch`** (20).

# %%
chain, two = the_model("two-step"), problems("two-step")
runs = mistaken_runs(chain, two, drawn(two.rows(REGION), 1500, generator))
claim("first answers that are another number, of 1500", len(runs.wrong), low=300, measured=1164)
claim_rate("of these: copied faithfully", runs.copied, low=0.8, measured=0.973)
claim_rate("of these: final answer right", runs.right_wrong, high=0.1, measured=0.007)
text = "of these: right once the right number is read"
claim_rate(text, runs.right_corrected, low=0.3, measured=0.802)
usable = ~runs.right_wrong & runs.right_corrected
wrong, corrected = runs.wrong[usable], runs.corrected[usable]
where = first_difference(wrong, corrected)
claim("the two runs first differ at position", where.double().mean(), low=4, high=4)

places = answer_places(chain, 10)
early = [place for place in places if place[1][0] < 4]
late = [place for place in places if place[1][0] >= 4]
# chosen on 100 runs, and tested on others:
W, C, e = wrong[100:400], corrected[100:400], corrected[100:400, 10]
singly = corrected_run_patch(chain, wrong[:100], corrected[:100], [[place] for place in places])
shares = is_right(singly, corrected[:100, 10]).mean(dim=-1)
title = 'Single places repair only at the last "="'
show(pictures.draw_single_patches(places, shares, title), "singly")

# %% [markdown]
# Which places are enough? The first few, largest effects first, that repair 95 % of these hundred
# runs; tested on others.

# %%
circuit = smallest_circuit(chain, wrong[:100], corrected[:100], late)
print("  the circuit:", ", ".join(f"{name} at {index}" for name, index in circuit))
claim("places in the circuit", len(circuit), low=1, high=15, measured=2)
both_mlps = [("blocks.0.hook_mlp_out", (9,)), ("blocks.1.hook_mlp_out", (9,))]  # at the last "="
rest = [place for place in late if place not in both_mlps]
lots = []
for _ in range(20):
    lots.append([late[i] for i in drawn(torch.arange(len(late)), len(circuit), generator)])
patched = corrected_run_patch(chain, W, C, [circuit, early, rest, both_mlps, *lots])
hits = is_right(patched, e)
middle = hits[4:].mean(dim=-1).argsort()[10] + 4  # of the 20 that were drawn by lot
held = is_right(corrected_run_patch(chain, W, C, [rest], held=both_mlps)[0], e)
moved = (patched[1] - chain(W[:, :-1])[:, -1]).abs().max()
text = "largest change of any logit by all places before the difference"
claim(text, moved, low=0, high=0)
claim_rate("repaired by the circuit", hits[0], low=0.85, measured=0.96)
text = "repaired by as many places drawn by lot, the middle one of 20"
claim_rate(text, hits[middle], high=0.4, measured=0.01)

# %% [markdown]
# Before the first difference: exactly 0, up to there both are the same run. After it two MLPs
# repair nearly all, those at the last "=". Are they needed?

# %%
claim_rate("repaired by the two MLPs at the last =", hits[3], low=0.7, measured=0.96)
claim_rate("repaired by all places but these two", hits[2], low=0.95, measured=1.0)
claim_rate("repaired by all but these two, the two held", held, high=0.15, measured=0.0)

# %% [markdown]
# All places but these two repair everything too, but only *through* the two: hold them, and nothing
# is left. *What was carried*?

# %%
rows = drawn(two.rows(TRAIN, MINUS), 10000, generator)
solvable = two.tokens[rows[problem_scores(chain, two, rows).correct]]


def matching_donors(same: tuple[int, ...], other: tuple[int, ...]) -> tuple:
    """For each wrong run a solved problem with equal tokens at some positions, different ones at
    others: (which runs have one, [run] donors).
    """
    fits = torch.ones(len(C), len(solvable), dtype=torch.bool)
    for pos in (*same, *other):
        equal = C[:, pos, None] == solvable[:, pos]
        fits &= equal if pos in same else ~equal
    kept = fits.any(dim=1)
    chosen = torch.multinomial(fits[kept].double(), 1, generator=generator)[:, 0]
    return kept, solvable[chosen]


c, d_pos, last = 4, 8, 10
kept, donors = matching_donors((last,), (c, d_pos))
same_answer = is_right(corrected_run_patch(chain, W[kept], donors, [circuit])[0], e[kept])
kept, donors = matching_donors((), (c, d_pos, last))
logits = corrected_run_patch(chain, W[kept], donors, [circuit])[0]
another, imposed = is_right(logits, e[kept]), is_right(logits, donors[:, last])
means = mean_cache(chain, solvable[:1000, :-1], sorted({name for name, _ in circuit}))
saved = {name: mean.expand(len(W), *mean.shape[1:]) for name, mean in means.items()}
by_mean = is_right(patch_cells(chain, W[:, :-1], saved, [circuit])[0], e)
easy, numbers = solvable[:300], sum(word.lstrip("-").isdecimal() for word in two.words)
spoilt = with_number(easy, drawn(easy[:, c], 300, generator), numbers)
hurt = is_right(chain(spoilt[:, :-1])[:, -1], easy[:, last]) == 0
healed = corrected_run_patch(chain, spoilt[hurt], easy[hurt], [circuit])[0]
healed = is_right(healed, easy[hurt, last])
tried = {
    "the circuit, from the corrected run": hits[0],
    "everything before the first difference": hits[1],
    "as many places by lot, the middle one of 20": hits[middle],
    "all places but the two MLPs": hits[2],
    "the same, the two MLPs held": held,
    "the circuit, means over trained problems": by_mean,
    "donor: the same answer, other numbers": same_answer,
    "donor: another answer": another,
    "no failure: a wrong number put into a solved problem": healed,
}
bars = {name: (hit.mean().item(), math.nan) for name, hit in tried.items()}
bars["donor: another answer"] = (another.mean().item(), imposed.mean().item())
title = "The patch repairs whatever is broken, by carrying an answer"
show(pictures.draw_repair(bars, title), "repair")
claim_rate("repaired by means over trained problems", by_mean, high=0.15, measured=0.027)
text = "repaired by a donor with the same answer, other numbers"
claim_rate(text, same_answer, low=0.85, measured=0.993)
claim_rate("repaired by a donor with another answer", another, high=0.1, measured=0)
claim_rate("with that donor: its own answer", imposed, low=0.6, measured=0.977)
claim_rate("solved problems: wrong with a wrong number put in", hurt, low=0.5, measured=0.97)
claim_rate("solved problems: repaired", healed, low=0.85, measured=0.997)

# %% [markdown]
# - A donor with the **same answer and other numbers** repairs as well.
# - A donor with **another answer** repairs nothing; the run then gives *that* answer.
# - The impostor: problems that the model **solves**, with a wrong number put in. Their undisturbed
#   runs repair nearly all, though no skill was ever missing.
#
# **What this shows:** where the second answer is made, in two MLPs. **What it does not show:** why
# the first step fails, that a skill is missing, or that the model "nearly knew". The corrected run
# brings the answer along. Evidence about the *failure* must not contain the answer.
#
# ## What you have now
#
# - An input's likelihood beside its theory, log M: it knows what was never seen, not what cannot be
#   done.
# - Two hypotheses as two numbers that add up, and a control that makes room for a third.
# - One repair with eight controls, three of which take the story away.
#
# Next: eight models that nobody explains: `python -m course 18`.
