# %% [markdown]
# # 17. Where it was never trained
#
# 30 minutes to read, 160 with the exercises. Afterwards you can test whether a model notices that
# it is out of its depth, tell a heuristic that is missing from one that is too weak, and say what a
# repair by patching proves, and what not. Not covered: how to make a model generalise.
#
# **The question.** Our models never saw `a - b` with a large a: from 70 on with digits, from 35 on
# with one token per number. They saw all these numbers in sums. They fail there. Do they notice?
# What is lacking? Can we repair it?

# %%
import math  # noqa: I001

import torch

from course.pictures import ch17 as pictures
from course.desk import claim, show, the_model
from minitransformer import Transformer
from minitransformer.arithmetic import MINUS, PAIRS, REGION, SPLITS, TRAIN, answer_to, problems
from minitransformer.evaluate import problem_scores, wrong_answers
from solutions.ch11_patching import patch_cells
from solutions.ch15_arithmetic_circuits import answer_places, is_right, mean_cache
from solutions.ch17_out_of_distribution import (
    at_equal_results,
    auroc,
    corrected_run_patch,
    drawn,
    first_difference,
    input_log_likelihood,
    louder_repairs,
    m2_variants,
    missing_and_weak,
    mistaken_runs,
    of_type,
    repair_by_donors,
    repair_rate,
    smallest_circuit,
    study_differences,
    with_number,
)

torch.set_grad_enabled(False)
generator = torch.Generator().manual_seed(17)
digits, every = the_model("digits"), problems("digits")
right = problem_scores(digits, every, torch.arange(len(every.tokens))).correct
train, pairs, region = (every.rows(split) for split in range(len(SPLITS)))
claim("right answers, held-out pairs", right[pairs].float().mean(), low=0.95, measured=1.0)
claim("right answers, region", right[region].float().mean(), high=0.6, measured=0.299)

# %% [markdown]
# ## Does it notice?
#
# The digit model was trained on *every* token, the problem itself included. So it gives each input
# a probability: the product over its tokens. There are M = 11,287 training problems, each as likely
# as any other. Who knows exactly that, and no more, is surprised by log M = 9.33 nats each time.
#
# *Predict:* how surprised is the model by held-out pairs? By the region? **Exercises
# `input_log_likelihood`** (15 minutes), and **`auroc`** (15): how well one number separates two
# groups.

# %%
READ = 7  # BOS 1 2 - 3 4 =
surprise = -input_log_likelihood(digits, every.tokens, READ)
upto = torch.stack(
    [-input_log_likelihood(digits, every.tokens, length) for length in range(2, READ + 1)], dim=1
)
by_token = torch.cat([upto[:, :1], upto.diff(dim=1)], dim=1)  # problem token
groups, log_M = (
    {"training problems": train, "held-out pairs": pairs, "region: a from 70 on": region},
    math.log(len(train)),
)
show(
    pictures.draw_likelihood(groups, surprise, by_token, log_M, "The minus sign is the surprise"),
    "likelihood",
)
claim("M, training problems", len(train), measured=11287)
claim("log M, nats", log_M, measured=9.331)
claim(
    "mean surprise, training problems",
    surprise[train].mean(),
    low=log_M,
    high=log_M + 0.3,
    measured=9.464,
)
claim(
    "mean surprise, held-out pairs",
    surprise[pairs].mean(),
    low=log_M,
    high=log_M + 0.3,
    measured=9.48,
)
claim("mean surprise, region", surprise[region].mean(), low=12, measured=15.45)
claim(
    "AUROC, region against held-out pairs",
    auroc(surprise[region], surprise[pairs]),
    low=0.99,
    measured=1.0,
)
claim(
    "AUROC, held-out pairs against training",
    auroc(surprise[pairs], surprise[train]),
    low=0.5,
    high=0.6,
    measured=0.5555,
)
claim(
    "log of M and the held-out pairs together, nats",
    math.log(len(train) + len(pairs)),
    measured=9.432,
)
claim(
    "held-out pairs minus training, nats",
    surprise[pairs].mean() - surprise[train].mean(),
    high=0.1,
    measured=0.0164,
)
often_a, often_b = (
    x[train].bincount(minlength=200)[x]
    for x in every.operator * 100 + torch.stack([every.a, every.b])
)
# at_equal_results is an exercise further down: the mean of the held-out pairs, and of training
# problems with equal counts
held_out, partners = at_equal_results(
    surprise, 1000 * often_a + often_b, every.split == TRAIN, every.split == PAIRS
)
claim(
    "the same at equal counts of a and b",
    held_out - partners,
    low=-0.02,
    high=0.05,
    measured=0.0086,
)
claim(
    "standard error of that mean",
    surprise[pairs].std() / len(pairs) ** 0.5,
    high=0.01,
    measured=0.0043,
)
at_sign = by_token[region, 2].mean() - by_token[train, 2].mean()
extra = surprise[region].mean() - surprise[train].mean()
claim(
    "share of the extra surprise that the operator brings",
    at_sign / extra,
    low=0.5,
    measured=0.7847,
)
failed = auroc(surprise[region[~right[region]]], surprise[region[right[region]]])
claim("AUROC within the region, wrong against right", failed, low=0.3, high=0.9, measured=0.7452)
model, single = the_model("arithmetic"), problems("arithmetic")
answer_only, log_M = (
    -input_log_likelihood(model, single.tokens, 4),
    math.log(len(single.rows(TRAIN))),
)
claim(
    "trained on answers only: surprise / log M",
    answer_only[single.rows(TRAIN)].mean() / log_M,
    low=1.5,
    measured=2.437,
)
separated = auroc(answer_only[single.rows(REGION)], answer_only[single.rows(PAIRS)])
claim("its AUROC, region against held-out pairs", separated, low=0.1, high=0.9, measured=0.4648)
blank = -input_log_likelihood(Transformer(digits.cfg, seed=1), every.tokens, READ)
claim(
    "untrained digit model, the same AUROC",
    auroc(blank[region], blank[pairs]),
    low=0.3,
    high=0.7,
    measured=0.5346,
)

# %% [markdown]
# It notices, perfectly: AUROC 1. Held-out pairs look nearly like training problems: .016 nats
# apart, where the region is 6 away. Who cannot tell the two apart is surprised by log(11,287 +
# 1,198) = 9.43 nats; the model is by 9.46. Half of the .016 is counting: where pairs were held out,
# fewer training problems share their a or b. Where a and b came equally often, .009 is left, two
# standard errors: chance, or a faint memory of single problems. This does not say which.
#
# But what does it notice? Most of the extra surprise, 78 %, sits at one token: after a large a, a
# minus never came. "I have not seen such a problem" is not "I cannot do it": within the region it
# tells wrong answers from right ones with .75 only (other seeds: .40 to .78), and 30 % of what
# looks so strange is solved. And it is worth nothing where it was not trained: in a model that
# learnt answers only it is a number without meaning (.46), as in an untrained one (.53).
#
# ## The same problem with other numbers
#
# Take a problem that the model solves. Draw new numbers with as many digits, such that each result
# keeps its sign and stays whole. In large models such variants break many answers (Xie et al.
# 2024). **Exercise `m2_variants`** (20 minutes). *Predict:* which of ours break?

# %%
operands, values = (
    torch.stack([every.a, every.b], dim=1),
    answer_to(every.operator, every.a, every.b)[:, None].float(),
)
solved = drawn(train[right[train]], 400, generator).tolist()
possible = (m2_variants(every.operator, operands, values, row).nonzero()[:, 0] for row in solved)
variants = torch.cat([drawn(rows, 25, generator) for rows in possible])
broken, unbroken = variants[~right[variants]], variants[right[variants]]
show(
    pictures.draw_variants(every, variants, right, "Variants break where training never went"),
    "variants",
)
claim(
    "variants answered right", right[variants].float().mean(), low=0.85, high=0.98, measured=0.9332
)
shares = [(every.split[rows] == REGION).float().mean() for rows in (variants, broken)]
claim("share of the region among the variants", shares[0], low=0.05, high=0.15, measured=0.0883)
claim("share of the region among those that break", shares[1], low=0.95, measured=1.0)
claim(
    "AUROC of the surprise, broken against right",
    auroc(surprise[broken], surprise[unbroken]),
    low=0.95,
    measured=0.9937,
)

# %% [markdown]
# All that break lie in the region, where one variant in eleven falls. Keeping the number of digits
# kept nothing else: who makes variants makes inputs that training may not have covered, and should
# look before calling a model brittle. Here the likelihood would have warned (.99).
#
# ## What is wrong with the wrong answers? (Now with one token per number: the model of chapter 16.)

# %%
failures = wrong_answers(model, single, single.rows(REGION))
errors = [wrong.said - wrong.right for wrong in failures if wrong.said is not None]
print("  " + ";  ".join(wrong.problem for wrong in failures[::60]))
claim("wrong answers in the region, of 750", len(failures), low=200, high=720, measured=472)
claim(
    "share of the errors that are whole tens",
    sum(error % 10 == 0 for error in errors) / len(errors),
    measured=0.8898,
)
claim(
    "share of the errors that are even",
    sum(error % 2 == 0 for error in errors) / len(errors),
    low=0.8,
    measured=0.9936,
)

# %% [markdown]
# 35 - 28 = -3, 46 - 20 = -24: nine errors in ten are whole tens. Modulo 10 these are right:
# something in there still works. (Other training seeds gave multiples of two or four: in all that
# we looked at, some residue survives.)
#
# **Two hypotheses** (Nikankin et al. 2024, who found the second in Llama):
#
# - *missing*: fewer neurons have a heuristic that covers the problem;
# - *weak*: they are there, but each adds less to the right answer's logit.
#
# All names were given on trained problems, before a look at failures. A fair comparison needs equal
# results: 7 has other neurons than 30. And a control: region problems that come out *right*.
#
# **Exercises `covers`** (20 minutes), **`at_equal_results`** (20), **`missing_and_weak`** (10).
# *Predict:* who is weak?

# %%
d, compared = study_differences(model), {}
groups = {"wrong": d.inside & ~d.good, "right": d.inside & d.good}
# problem neuron
neurons = {kind: of_type(d, kind) for kind in ("multi-result", "modulo", "range", "all")}
# only those that cover some problem of the region
neurons["met"] = neurons["all"] & d.cover[d.inside].any(dim=0)
for kind, theirs in neurons.items():
    for group, wanted in groups.items():
        sums = theirs.sum(dim=1).float(), (theirs * d.promoted).sum(dim=1)
        compared[kind, group] = [
            at_equal_results(values, d.result, ~d.inside, wanted) for values in sums
        ]
show(
    pictures.draw_hypotheses(
        compared, "Failures: neurons for the result are weak, modulo neurons hardly"
    ),
    "hypotheses",
)
(n, n_there), (p, p_there) = compared["all", "wrong"]
claim("wrong: neurons that cover the problem", n, low=3, high=40, measured=17.16)
claim(
    "trained, equal results: neurons that cover the problem", n_there, low=5, high=50, measured=22.5
)
claim("wrong: logits they give the right answer", p, low=0.3, high=7, measured=3.886)
claim(
    "trained, equal results: logits they give the right answer",
    p_there,
    low=3,
    high=14,
    measured=7.826,
)
gaps = {
    key: missing_and_weak(n, p, n_there, p_there)
    for key, ((n, n_there), (p, p_there)) in compared.items()
    if p > 0
}
(missing, weak), (missing_right, weak_right) = gaps["all", "wrong"], gaps["all", "right"]
claim("wrong: missing, nats", missing, low=0, high=0.8, measured=0.2711)
claim("right: missing, nats", missing_right, low=0, high=0.8, measured=0.2531)
claim("wrong: weak, nats", weak, low=0.2, measured=0.429)
claim("right: weak, nats", weak_right, high=0.3, measured=-0.1352)
given = {
    "multi-result": (0, 0.67, 0.3981),
    "modulo": (0.3, math.inf, 0.9048),
    "range": (0, 1, 0.2935),
}
for kind in [kind for kind in given if (kind, "wrong") in gaps]:
    claim(f"what {kind} neurons give, as a share", math.exp(-gaps[kind, "wrong"][1]), *given[kind])
for group, m, w in (("wrong", 0.0525, 0.641), ("right", -0.046, 0.1612)):
    claim(f"met, {group}: missing, nats", gaps["met", group][0], low=-0.3, high=0.3, measured=m)
    claim(f"met, {group}: weak, nats", gaps["met", group][1], low=-0.2, high=1.5, measured=w)
claim(
    "met, wrong minus right: weak, nats",
    gaps["met", "wrong"][1] - gaps["met", "right"][1],
    low=0.2,
    measured=0.4798,
)
claim(
    "failures left out: no trained problem has their result",
    (groups["wrong"] & (d.result > 34)).sum(),
    measured=67,
)
share = (neurons["multi-result"] & (d.h > 0)).sum(dim=1) / neurons["multi-result"].sum(dim=1).clamp(
    min=1
)
active, active_there = at_equal_results(share, d.result, ~d.inside, groups["wrong"])
claim("wrong, multi-result: share that is active", active, low=0.2, high=0.85, measured=0.6372)
claim("trained, equal results: share that is active", active_there, low=0.85, measured=0.9694)

# %% [markdown]
# Over all named neurons: 17 cover a failure and give the right answer 3.9 logits; trained problems
# with the same results have 22 that give 7.8. As factors, in nats: .27 missing, .43 weak. So, both?
# Look at the control. Region problems that come out *right* miss as many (.25), and are not weak
# (-.14). **Missing heuristics do not tell failures from successes; weak ones do.** What is missing
# are ranges such as 25 <= a < 35, which no region problem can meet. Without the neurons that cover
# nothing in the region almost none is missing (.05, -.05), and failures are weaker (.64) than
# successes (.16): the -.14 came from a mean over fewer neurons.
#
# By type it gets concrete. Modulo neurons give 90 % of what they should: modulo 10 all is well.
# Those for a few results give 40 %, those for a range 29 % (other seeds: 31 to 83 %): the tens are
# wrong. Value vectors are weights. So for neurons named for results, apart from the last
# LayerNorm's scale, weak can only mean less *active*: of those for a few results 64 % are active,
# not 97 %.
#
# Three caveats. That a wrong answer was promoted too little, by all neurons together, is no
# finding; *which* is. At equal results a neuron named for a result cannot be missing, by
# construction: the first bars say 100 to everyone. And 67 failures are left out: no trained
# difference has their results, above 34.
#
# ## Would louder do?
#
# If they are too weak, amplify them: multiply the activations of exactly the covering neurons
# (which we can choose because *we* know the right result). *Predict:* how many of the 472 failures
# come right?

# %%
FACTORS = [1, 1.5, 2, 3, 4, 8, 16, 32]
repaired = louder_repairs(model, d, FACTORS, generator)
show(pictures.draw_louder(FACTORS, repaired, "Louder repairs a few"), "louder")
own, another, lot, imposed = repaired.values()
claim("repaired by amplifying, at best", max(own), low=0.05, high=0.7, measured=0.2648)
claim("the same, neurons of another failure", max(another), high=0.3, measured=0.0614)
claim("the same, drawn by lot", max(lot), high=0.3, measured=0.0551)
claim("times 4: repaired", own[4], low=0.05, high=0.7, measured=0.1695)
claim(
    "times 4: neurons of another failure give that one's answer",
    imposed[4],
    high=0.1,
    measured=0.0194,
)
claim("the same at best", max(imposed), high=0.6, measured=0.149)

# %% [markdown]
# At best 26 %, against 6 % in both controls. But we chose them by the answer: do they impose it?
# Those of another failure bring out *its* answer in 2 % at 4 times, where 17 % are repaired, but in
# 15 % at 32 times. So weakness is real, but it is not all, and what comes only when very loud may
# be our own choice.
#
# ## A repair, and what it proves
#
# Now a popular experiment. A third model writes two steps: `45 - 31 = 14 ; 14 + 9 = 23`. In the
# region its first number is mostly wrong, and it goes on with it. Take the *wrong run*, which reads
# the model's own number, and a *corrected run*, which reads the right one. Patch activations of the
# corrected run into the wrong run. If the final answer comes right, have we found the missing
# skill? *Predict:* what can a patch at the positions of `45 - 31 =` do? **Exercises
# `first_difference`** (10 minutes), **`corrected_run_patch`** (20).

# %%
chain, two = the_model("two-step"), problems("two-step")
runs = mistaken_runs(chain, two, drawn(two.rows(REGION), 1500, generator))
claim("first answers that are another number, of 1500", len(runs.wrong), low=300, measured=1164)
claim("of these: copied faithfully", runs.copied.float().mean(), low=0.8, measured=0.9734)
claim("of these: final answer right", runs.right_wrong.float().mean(), high=0.1, measured=0.0069)
claim(
    "of these: right once the right number is read",
    runs.right_corrected.float().mean(),
    low=0.3,
    measured=0.8024,
)
usable = ~runs.right_wrong & runs.right_corrected
wrong, corrected = runs.wrong[usable], runs.corrected[usable]
claim(
    "the two runs first differ at position",
    first_difference(wrong, corrected).double().mean(),
    low=4,
    high=4,
)
early, late = (
    [place for place in answer_places(chain, 10) if (place[1][0] < 4) == first]
    for first in (True, False)
)
# chosen here, and tested on others:
circuit = smallest_circuit(chain, wrong[:100], corrected[:100], late)
print("  the circuit:", ", ".join(f"{name} at {index}" for name, index in circuit))
claim("places in the circuit", len(circuit), low=1, high=15, measured=2)
W, C, e = wrong[100:400], corrected[100:400], corrected[100:400, 10]
rest = [place for place in late if place not in circuit]
lots = [
    [late[i] for i in drawn(torch.arange(len(late)), len(circuit), generator)] for _ in range(20)
]
patched = corrected_run_patch(chain, W, C, [circuit, early, rest, *lots])
own, nothing, others, *each_lot = repair_rate(patched, e).tolist()
by_lot = sorted(each_lot)[10]
held = repair_rate(corrected_run_patch(chain, W, C, [rest], held=circuit), e).item()
moved = (patched[1] - chain(W[:, :-1])[:, -1]).abs().max()
claim("largest change of any logit by all places before the difference", moved, low=0, high=0)
claim("repaired by the circuit", own, low=0.85, measured=0.96)
claim(
    "repaired by as many places drawn by lot, the middle one of 20", by_lot, high=0.2, measured=0.01
)
claim("repaired by all other places", others, measured=1.0)
claim("repaired by these, circuit held", held, high=0.15, measured=0.0)

# %% [markdown]
# Before the first difference: exactly 0, up to there both are the same run. After it two places,
# the MLPs at the last "=", repair 96 %; two drawn by lot, 1 %. All other places repair everything
# too, but only *through* the circuit: hold that, and nothing is left. (Where another seed needs
# more places, the others alone may fail.) Now the controls that ask *what was carried*.

# %%
rows = drawn(two.rows(TRAIN, MINUS), 10000, generator)
solvable = two.tokens[rows[problem_scores(chain, two, rows).correct]]
by_answer = repair_by_donors(chain, W, C, solvable, circuit, ("e",), ("c", "d"), generator)
by_another = repair_by_donors(chain, W, C, solvable, circuit, (), ("c", "d", "e"), generator)
means = mean_cache(chain, solvable[:1000, :-1], sorted({name for name, _ in circuit}))
saved = {name: mean.expand(len(W), *mean.shape[1:]) for name, mean in means.items()}
by_mean = repair_rate(patch_cells(chain, W[:, :-1], saved, [circuit]), e).item()
easy, numbers = solvable[:300], sum(word.lstrip("-").isdecimal() for word in two.words)
spoilt = with_number(easy, drawn(easy[:, 4], 300, generator), numbers)
hurt = is_right(chain(spoilt[:, :-1])[:, -1], easy[:, 10]) == 0
healed = repair_rate(
    corrected_run_patch(chain, spoilt[hurt], easy[hurt], [circuit]), easy[hurt, 10]
).item()
bars = {
    "the circuit, from the corrected run": (own, own),
    "everything before the first difference": (nothing, nothing),
    "as many places by lot, the middle one of 20": (by_lot, by_lot),
    "all other places": (others, others),
    "all other places, circuit held": (held, held),
    "the circuit, means over trained problems": (by_mean, math.nan),
    "donor: the same answer, other numbers": by_answer,
    "donor: another answer": by_another,
    "no failure: a wrong number put into a solved problem": (healed, healed),
}
show(
    pictures.draw_repair(bars, "The patch repairs whatever is broken, by carrying an answer"),
    "repair",
)
claim("repaired by means over trained problems", by_mean, high=0.15, measured=0.0267)
claim(
    "repaired by a donor with the same answer, other numbers",
    by_answer[0],
    low=0.85,
    measured=0.9932,
)
claim("repaired by a donor with another answer", by_another[0], high=0.1, measured=0)
claim("with that donor: its own answer", by_another[1], low=0.8, measured=0.9767)
claim(
    "solved problems: wrong with a wrong number put in", hurt.float().mean(), low=0.5, measured=0.97
)
claim("solved problems: repaired", healed, low=0.85, measured=0.9966)

# %% [markdown]
# - A donor with the **same answer and other numbers** repairs as well: 99 %. Nothing of this
#   problem is needed.
# - A donor with **another answer** repairs nothing; in 98 % the run then gives *that* answer.
# - The impostor: problems that the model **solves**, with a wrong number put in. Their own
#   undisturbed runs repair 99.7 %, though no skill was ever missing.
#
# **What this shows:** where this model makes the second answer, in the MLPs at the last "=". **What
# it does not show:** why the first step fails, that a skill is missing, or that the model "nearly
# knew". The corrected run brings the answer along, so it comes out. To speak about the *failure*,
# use evidence that does not contain the answer, like silent neurons.
#
# ## What you have now
#
# - The likelihood of an input beside its theory, log M. It knows what was never seen, not what
#   cannot be done.
# - Two hypotheses as two numbers that add up, and a control that tells them apart.
# - Nine bars for one repair: eight are controls, and three of them take the story away.
