# %% [markdown]
# # 11. Patching: whose message changes the answer?
#
# 30 minutes to read, 195 with the exercises, in two sittings: the first ends at "Half-way".
# Afterwards you can follow one piece of information through a model, part by part and edge by edge,
# and you know what "no effect" fails to show. Not covered: whole circuits (chapter 13).
#
# *Route: `causes`.*
#
# **The question.** Taking a head away (chapter 9) shows that something breaks. But a head carries
# many messages. Which one decides between *this* answer and *that* one? So take two prompts that
# differ in one thing, and move one activation of one run into the other run. That is **activation
# patching**.
#
# Our prompts: `BOS · · A B · · · · C D · · A`, and B must follow. In a corrupt prompt D follows. It
# can be made in three ways: swap A and C (an induction head sees other *keys*), swap B and D (other
# *values*), or ask for C (another *query*). Both prompts of a pair are normal input. Noise in the
# embeddings (Meng et al. 2022, "Locating and Editing Factual Associations in GPT") takes the model
# where it has never been.
#
# **Exercises `corrupt_pairs`** (15 minutes) and **`normalised_metric`** (10).
#
# The share restored is 0 for the corrupt answer, 1 for the clean one.

# %%
from functools import partial

import torch

from course.desk import claim, claim_rate, in_others, show, the_model
from course.pictures import ch11 as pictures
from minitransformer import planted
from solutions.ch05_finding_heads import find_heads
from solutions.ch11_patching import (
    ALL,
    answer_accuracy,
    answer_gap,
    attribution_patch,
    compare_metrics,
    corrupt_pairs,
    direct_inputs,
    induction_prompts,
    normalised_metric,
    patch_cells,
    patch_heads,
    patch_residual,
    path_patch,
    sufficiency_and_necessity,
    whole_heads,
)

torch.set_grad_enabled(False)
model = the_model()
heads = range(model.cfg.n_heads)
clean = induction_prompts(200, model.cfg.d_vocab, torch.Generator().manual_seed(0))
data = {swap: corrupt_pairs(clean, 3, 9, swap) for swap in ("key", "value", "query")}


def ends(model, pairs, metric):
    """The metric of the clean and of the corrupt prompts, without any patch."""
    return metric(model(pairs.clean)[:, -1]), metric(model(pairs.corrupt)[:, -1])


def share_restored(model, pairs, logits):
    """How far patched logits [..., batch, vocab] come from the corrupt answer to the clean one."""
    gap = answer_gap(pairs.right, pairs.wrong)
    good, bad = ends(model, pairs, gap)
    return normalised_metric(gap(logits), good, bad)


def mean_gap(pairs, tokens, model):
    """Logit of the clean answer minus that of the corrupt one: the mean over prompts, in nats."""
    return answer_gap(pairs.right, pairs.wrong)(model(tokens)[:, -1]).mean().item()


for swap, pairs in data.items():
    on_clean = partial(mean_gap, pairs, pairs.clean)
    good, bad = on_clean(model), mean_gap(pairs, pairs.corrupt, model)
    claim(f"{swap}: logit difference, clean", good, low=10, high=17, untrained=on_clean)
    claim(f"{swap}: logit difference, corrupt", bad, low=-17, high=-10)

# %% [markdown]
# ## Where is the message?
#
# Run the corrupt prompt, but put the clean run's stream in at one depth and one position. Does B
# come back? That makes 42 runs. One at a time, a small model spends most of its time starting up.
# So make them rows of *one* batch: each row patches another cell.
#
# *Predict:* the swap of A and C changes tokens 3 and 9. Which position of the stream carries the
# news in the middle?
#
# **Exercises `patch_cells`** (25 minutes), the engine of this chapter, and **`patch_residual`**
# (10).

# %%
stream = {}
for swap, pairs in data.items():
    logits = patch_residual(model, pairs.corrupt, pairs.clean)
    stream[swap] = share_restored(model, pairs, logits)  # depth pos
show(pictures.draw_patched_stream(stream), "stream")

key, value = stream["key"], stream["value"]
claim("key, before layer 0: clean A put in", key[0, 3], low=0.25, high=0.55, measured=0.3753)
claim("key, before layer 1: the stream at B", key[1, 4], low=0.25, high=0.55, measured=0.3781)
claim("value, before layer 1: the stream at B", value[1, 4], low=0.95, high=1.05, measured=1.0)

# %% [markdown]
# The key's message sits at A and C, jumps to B and D in layer 0, and to the end in layer 1. Why
# does no single cell restore it all? With A restored, *two* positions follow an A, and the heads
# divide themselves between B and D.
#
# The control: other prompts, in which two bystanders have changed places. The answer is the same.

# %%
bystanders = clean.clone()
bystanders[:, [6, 8]] = clean[:, [8, 6]]
gap = answer_gap(data["key"].right, data["key"].wrong)
moved = gap(patch_residual(model, clean, bystanders)) - gap(model(clean)[:, -1])
largest = moved.mean(dim=-1).abs().max()
claim("control: most that any cell moves the answer, in nats", largest, high=0.05)

# %% [markdown]
# The activations differ, and no cell does anything. A difference alone is not a cause.
#
# ## Which head, and which of its inputs?
#
# *Route `arithmetic`: on to chapter 12.*
#
# *Predict:* with A and C swapped, do the induction heads need clean queries, keys or values?
#
# **Exercise `patch_heads`** (15 minutes).

# %%
WHATS = ["q", "k", "v", "pattern", "z"]
parts = {}  # swap -> what -> [layer, head]
for swap, pairs in data.items():
    parts[swap] = {}
    for what in WHATS:
        logits = patch_heads(model, pairs.corrupt, pairs.clean, what)
        parts[swap][what] = share_restored(model, pairs, logits)
show(pictures.draw_patched_heads(parts), "heads")

wires = {"key": "k", "value": "v", "query": "q"}
for swap, wire in wires.items():
    in_layer_1 = {what: parts[swap][what][1] for what in "qkv"}
    total = in_layer_1.pop(wire).sum()
    name = f"{swap}: sum over layer 1 of restoring {wire}"
    claim(name, total, low=0.98, high=1.02, measured=1.0)
    other = max(values.abs().max() for values in in_layer_1.values())
    claim(f"{swap}: largest of its other two inputs", other, high=0.01)

# %% [markdown]
# One circuit, three maps. *What you corrupt decides what you can find*: with B and D swapped the
# previous-token heads are silent, for at B and D they write the same in both runs. No effect means
# "does not carry this difference", not "unused".
#
# ## What happens if the patch goes the other way?
#
# Putting a clean activation into a corrupt run (*denoising*) asks: is this part **sufficient**?
# Putting a corrupt one into a clean run (*noising*) asks: is it **necessary**? *Predict:* an answer
# needs heads a AND b. What does each direction say of a alone? And if a OR b will do?
#
# **Exercise `sufficiency_and_necessity`** (15 minutes). First on two planted gates.

# %%
panels = {}
for kind in ("and", "or"):
    gate = planted.gate_model(kind)
    cells = [whole_heads("z", group) for group in ([(0, 0)], [(0, 1)], [(0, 0), (0, 1)])]
    metric = answer_gap(torch.tensor([gate.right]), torch.tensor([gate.wrong]))
    both = sufficiency_and_necessity(gate.model, gate.clean, gate.corrupt, cells, metric)
    found_by = "noising" if kind == "and" else "denoising"
    panels[f"Planted {kind.upper()}: {found_by} finds both heads"] = (["a", "b", "both"], *both)
    alone = float(kind == "or")
    claim(f"{kind} gate: one head, sufficient", both[0][0], low=alone, high=alone)
    claim(f"{kind} gate: one head, necessary", both[1][0], low=1 - alone, high=1 - alone)

# %% [markdown]
# **Turned round, a patch answers another question.** In the AND, each head is necessary and neither
# suffices; in the OR, the reverse. Run both directions, whatever you expect.
#
# Now the model, with pairs of independent prompts, so that an induction head differs in q, k and v
# at once. What counts is whether the answer is right.


# %%
def right_after(model, tokens, other, cells, right):
    """Is the answer right when a cell is patched from the run on `other`? [cell, batch]"""
    names = list({name for cell in cells for name, _ in cell})
    _, saved = model.run_with_cache(other, names)
    return answer_accuracy(right)(patch_cells(model, tokens, saved, cells))


layer_1 = [(1, head) for head in heads]
elsewhere = induction_prompts(200, model.cfg.d_vocab, torch.Generator().manual_seed(1), first=9)
combinations = ["q", "k", "v", "qk", "qv", "kv", "qkv"]
cells = []
for each in combinations:
    cells.append([place for what in each for place in whole_heads(what, layer_1)])
brought = right_after(model, elsewhere, clean, cells, right=clean[:, 4])
lost = 1 - right_after(model, clean, elsewhere, cells, right=clean[:, 4])
title = "Trained, inputs of layer 1: an AND of q, k, v"
panels[title] = (combinations, brought.mean(dim=1), lost.mean(dim=1))

best = brought[:-1].mean(dim=1).argmax()
claim_rate("q, k, v: restored by the best one or two", brought[best], high=0.1, measured=0.02)
least = lost[:3].mean(dim=1).argmin()
claim_rate("q, k, v: lost without the least of them", lost[least], low=0.9, measured=0.98)
claim_rate("q, k and v: restored by all three", brought[-1], low=0.99, measured=1.0)

queries = cells[0]
claim_rate("clean queries alone: right answers", brought[0], high=0.08, measured=0.005)
_, saved = model.run_with_cache(clean, [name for name, _ in queries])
gap = answer_gap(clean[:, 4], elsewhere[:, 10])
good, bad = gap(model(clean)[:, -1]), gap(model(elsewhere)[:, -1])
after = gap(patch_cells(model, elsewhere, saved, [queries])[0])
half = normalised_metric(after, good, bad)
claim("clean queries alone: logit difference restored", half, low=0.45, high=0.56, measured=0.505)
claim("the logit difference itself, in nats", after.mean(), low=-1, high=0.5, measured=-0.1707)

# %% [markdown]
# The last three claims hold a warning. By logit difference, clean queries alone "restore" a half.
# They only silence the *wrong* answer: the gap rises to about 0, and the right answer still wins on
# hardly any prompt. Look at accuracy too.
#
# And each induction head alone, with A and C swapped?

# %%
pairs, induction = data["key"], find_heads(model)["induction"]
cells = [whole_heads("z", group) for group in [*([head] for head in induction), induction]]
brought = right_after(model, pairs.corrupt, pairs.clean, cells, pairs.right)
lost = 1 - right_after(model, pairs.clean, pairs.corrupt, cells, pairs.right)
names = [*(f"1.{head}" for _, head in induction), "all"]
title = "Trained, induction heads: hardly seen alone"
panels[title] = (names, brought.mean(dim=1), lost.mean(dim=1))
show(pictures.draw_gates(panels), "gates")

best = brought[:-1].mean(dim=1).argmax()
claim_rate("one induction head: most restored", brought[best], high=0.15, measured=0.0)
worst = lost[:-1].mean(dim=1).argmax()
claim_rate("one induction head: most damage", lost[worst], high=0.15, measured=0.02)
claim_rate("all of them: restored", brought[-1], low=0.95, measured=1.0)
claim_rate("all of them: damage", lost[-1], low=0.95, measured=1.0)

# %% [markdown]
# **How can a part be causal if no single patch shows it?** Because a substitute covers for it (OR,
# noising), because it lacks its partner (AND, denoising), or because the metric has a threshold:
# the two lower panels go by accuracy, and the last shows next to nothing for any single induction
# head, either way, while all together are everything. Patch groups before you write "does nothing".
#
# Does the direction matter in the trained model, too? Swapped keys, each head at each position.

# %%
denoised = patch_heads(model, pairs.corrupt, pairs.clean, "z", by_position=True)
denoised = share_restored(model, pairs, denoised).flatten(0, 1)  # head pos
noised = patch_heads(model, pairs.clean, pairs.corrupt, "z", by_position=True)
noised = 1 - share_restored(model, pairs, noised).flatten(0, 1)  # what is lost
show(pictures.draw_both_ways(denoised, noised), "both_ways")

at_B = denoised[: len(heads), 4], noised[: len(heads), 4]
at_D = denoised[: len(heads), 10], noised[: len(heads), 10]
to_D = (at_D[0] - at_B[0]).sum()
claim("denoising layer 0, added up: D less B", to_D, low=0.1, measured=0.7427)
to_B = (at_B[1] - at_D[1]).sum()
claim("noising layer 0, added up: B less D", to_B, low=0, measured=0.6998)
claim("denoising one head of layer 0 at B", at_B[0].max(), high=0.4, measured=0.034)
in_others("denoising layer 0, added up: D less B", "18 of 20", low=0.5)
in_others("noising layer 0, added up: B less D", "17 of 20", low=0.5)
in_others("denoising one head of layer 0 at B", "18 of 20", high=0.1)

# %% [markdown]
# **Denoising points at D, noising at B**, by half of the gap or more in (at least) 17 of 20 other
# models. Clean news at D ends the *false* match, corrupt news at B breaks the *true* one. At B one
# head alone restores next to nothing, for D still matches better; the stream at B, all of layer 0
# together, restored more.
#
# ## Which metric?
#
# **Exercise `compare_metrics`** (15 minutes), with *log-probability*, the logarithm of p(right
# token), and *KL divergence*, how far in nats the guesses are from the clean run's. Below, the
# planted head 1.1 takes 6 off the right logit. *Predict:* what will the probability show?


# %%
def shares(model, pairs, tokens, other):
    """Each metric's share of the gap when one head's output is patched: name -> [layer, head]."""
    reference = model(pairs.clean)[:, -1]
    answers = pairs.right, pairs.wrong
    good = compare_metrics(reference, reference, *answers)
    bad = compare_metrics(model(pairs.corrupt)[:, -1], reference, *answers)
    patched = compare_metrics(patch_heads(model, tokens, other, "z"), reference, *answers)
    return {name: normalised_metric(patched[name], good[name], bad[name]) for name in good}


trained = shares(model, pairs, pairs.corrupt, pairs.clean)
against = planted.negative_head_model()
prompts = corrupt_pairs(induction_prompts(16, 20, torch.Generator().manual_seed(0)), 3, 9, "key")
denoising = shares(against, prompts, prompts.corrupt, prompts.clean)
noising = shares(against, prompts, prompts.clean, prompts.corrupt)
negative = {}
for name in denoising:
    negative[name] = denoising[name][1, 1].item(), 1 - noising[name][1, 1].item()
show(pictures.draw_metric_panels(trained, negative), "metrics")

for way in (0, 1):
    name = f"planted head, {'noising' if way else 'denoising'}"
    claim(f"{name}: logit difference", negative["logit difference"][way], low=-0.601, high=-0.599)
    claim(f"{name}: probability", negative["probability"][way], low=-0.01, high=0.01)
noised = negative["log-probability"][1]
claim("planted head, noising: log-probability", noised, low=-0.01, high=0.01)

# %% [markdown]
# And in the trained model, one clean induction head put into the corrupt run:

# %%
by_gap, by_probability = trained["logit difference"][1], trained["probability"][1]
claim("one head of layer 1: probability, at most", by_probability.max(), high=0.1, measured=0.02436)
claim("one head of layer 1: logit difference, at most", by_gap.max(), low=0.22, measured=0.3049)
claim("layer 1 added up: logit difference", by_gap.sum(), low=0.999, high=1.001, measured=1)

# %% [markdown]
# Probability and accuracy move in one jump near the middle: the planted head escapes them.
# Log-probability and KL flatten out when the answer is safe. Only the logit difference is linear in
# the stream, so that here the heads of the last layer add up to 1. It is the default, with its own
# trap (the half above).
#
# ## Half-way
#
# The first sitting ends here.
#
# ## A node or an edge?
#
# **What exactly is patched in path patching?** Activation patching changes a *node*: what head 0.h
# writes, for all its readers. Path patching changes an *edge*: what *one* reader hears of it. Two
# steps: (1) with the sender as in the other run and all other heads frozen, record the reader's
# input; (2) run again with only that input changed.
#
# **Exercises `direct_inputs`** (20 minutes) and **`path_patch`** (20).

# %%
receivers = [(1, head, what) for what in "qkv" for head in heads]
cells = [whole_heads(what, [(1, head)]) for _, head, what in receivers]
cells.append([("blocks.1.hook_resid_post", (ALL,))])  # the unembedding
edges = []
for head in heads:  # one sender at a time, all receivers in one batch
    saved = direct_inputs(model, pairs.corrupt, pairs.clean, (0, head))
    edges.append(share_restored(model, pairs, patch_cells(model, pairs.corrupt, saved, cells)))
edges, nodes = torch.stack(edges), parts["key"]["z"][0]  # sender receiver; sender
columns = [f"1.{head} {what}" for _, head, what in receivers] + ["logits"]
show(pictures.draw_path_map(edges, columns, nodes), "paths")

best = int(nodes.argmax())
sender = (0, best)
keys = [(layer, head, part) for layer, head, part in receivers if part == "k"]
together = share_restored(model, pairs, path_patch(model, pairs.corrupt, pairs.clean, sender, keys))
claim("best sender: its edges to keys, together", together, low=0.35, high=1.05, measured=0.6767)
to_keys = slice(len(heads), 2 * len(heads))
claim("the same edges one by one, added up", edges[best, to_keys].sum(), low=0.35, high=1.05)
rest = edges.clone()
rest[:, to_keys] = 0
largest = rest.abs().max()
claim("largest edge to a query, a value or the logits", largest, high=0.01, measured=0.0025)

everybody = path_patch(model, pairs.corrupt, pairs.clean, sender, [*receivers, "logits"])
_, saved = model.run_with_cache(pairs.clean)
node = patch_cells(model, pairs.corrupt, saved, [whole_heads("z", [sender])])[0]
error = (everybody - node).abs().max()
claim("all edges of a sender against the node: largest error of a logit", error, high=1e-3)

# %% [markdown]
# The story of chapter 8 again, now as a cause: layer 0 speaks to the *keys* of layer 1, and no
# other edge carries this difference. Two identities guard the tool: all edges of a sender together
# are the node, and the edge to the logits is its direct effect.
#
# **What if two paths work only together?** Edges into *different* heads of the last layer add up,
# as the two sums show. Edges into *one* head need not: a query meets a key in a product, and a
# softmax follows. In the AND of three, the path to q alone gives nothing, nor k alone, nor both
# without v. No list of single edges shows that. Patch pairs, and compare with the sum.
#
# ## A thousand patches for one gradient
#
# To first order a patch moves the metric by `(a_other − a) · ∂metric/∂a`: one backward pass for all
# places at once.
#
# *Predict:* where is that exact, where worst?
#
# **Exercise `attribution_patch`** (20 minutes).

# %%
gap = answer_gap(pairs.right, pairs.wrong)
plain = gap(model(pairs.corrupt)[:, -1])
kinds = {
    "1.h output (exact)": (1, "z"),
    "1.h values (exact)": (1, "v"),
    "1.h queries": (1, "q"),
    "1.h keys": (1, "k"),
    "0.h output": (0, "z"),
}
names = {label: f"blocks.{layer}.attn.hook_{what}" for label, (layer, what) in kinds.items()}
promised = attribution_patch(model, pairs.corrupt, pairs.clean, gap, list(names.values()))
guesses = {}
for label, (layer, what) in kinds.items():
    true = gap(patch_heads(model, pairs.corrupt, pairs.clean, what))[layer] - plain  # head batch
    guesses[label] = (true, promised[names[label]].sum(dim=1).T)
show(pictures.draw_guesses(guesses), "attribution")

for label in ("1.h output (exact)", "1.h values (exact)"):
    true, guess = guesses[label]
    claim(f"{label}: largest error, in nats", (guess - true).abs().max(), high=1e-3)
true, guess = guesses["0.h output"]
really, promise = true[best].mean(), guess[best].mean()
claim("best sender: effect of really patching it, in nats", really, low=9, high=29, measured=17.4)
share = promise / really
claim("share of it that the gradient promises", share, low=0.15, high=0.7, measured=0.3227)

# %% [markdown]
# Exact behind the last softmax, where all is linear. Before it, a third of the best sender's
# effect. And where a softmax is saturated? The hand-built circuit attends with weight 1 or 0.

# %%
circuit, gap = planted.induction_model(), answer_gap(prompts.right, prompts.wrong)
z = "blocks.0.attn.hook_z"
promise = attribution_patch(circuit, prompts.corrupt, prompts.clean, gap, [z])[z]
really = gap(patch_heads(circuit, prompts.corrupt, prompts.clean, "z"))[0, 0]
really = (really - gap(circuit(prompts.corrupt)[:, -1])).mean()
claim("planted circuit: effect of its head 0.0, in nats", really, low=19.99, high=20.01)
promise = promise.sum(dim=(1, 2)).mean()
claim("planted circuit: the gradient's promise", promise, low=-0.001, high=0.001)

# %% [markdown]
# The gradient promises *nothing* of a head that decides everything. Kramár et al. 2024, "AtP*: An
# efficient and scalable method for localizing LLM behaviour to components" (arXiv 2403.00745),
# describe this failure and a repair for queries and keys. Use the gradient to find candidates. Then
# patch.
#
# ## What you have now
#
# - Sweeps over stream, heads, q, k, v and patterns, batched; nodes and edges; five metrics.
# - A circuit traced from cause to effect: A → previous-token head → key at B → induction heads →
#   answer.
# - Habits: a symmetric pair, both directions, groups, a second metric, and a control with
#   bystanders.
#
# Next: what does a direction in the stream *mean*? `python -m course 12`.
