# %% [markdown]
# # 11. Patching: whose message changes the answer?
#
# 30 minutes to read, 195 with the exercises. Afterwards you can follow one piece of information
# through a model, part by part and edge by edge, and you know what "no effect" fails to show. Not
# covered: whole circuits (chapter 13).
#
# **The question.** Taking a head away (chapter 9) shows that something breaks. But a head carries
# many messages. Which one decides between *this* answer and *that* one? So take two prompts that
# differ in one thing, and move one activation of one run into the other run. That is **activation
# patching**.
#
# Our prompts: `BOS · · A B · · · · C D · · A`, and B must follow. Corrupt ones, where D follows,
# can be had in three ways: swap A and C (an induction head sees other *keys*), swap B and D (other
# *values*), or ask for C (another *query*). Both prompts of a pair are normal input. Noise in the
# embeddings, the older way, takes the model where it has never been.
#
# *Predict:* the swap of A and C changes tokens 3 and 9. Which position of the stream carries the
# news in the middle?
#
# **Exercises `corrupt_pairs`** (15 minutes) and **`normalised_metric`** (10): 0 is the corrupt
# answer, 1 the clean one.

# %%
import torch

from course.desk import claim, show, the_model
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


def ends(model, pairs, metric):
    """The metric of the clean and of the corrupt prompts, without any patch."""
    return metric(model(pairs.clean)[:, -1]), metric(model(pairs.corrupt)[:, -1])


clean = induction_prompts(24, model.cfg.d_vocab, torch.Generator().manual_seed(0))
data = {swap: corrupt_pairs(clean, 3, 9, swap) for swap in ("key", "value", "query")}
for swap, each in data.items():
    right, wrong = (x.mean() for x in ends(model, each, answer_gap(each.right, each.wrong)))
    claim(f"{swap}: logit difference, clean", right, low=8, high=16)
    claim(f"{swap}: logit difference, corrupt", wrong, low=-16, high=-8)

# %% [markdown]
# ## Where is the message?
#
# Run the corrupt prompt, but put the clean run's stream in at one depth and one position. Does B
# come back? That makes 42 runs. One at a time, a small model spends most of its time starting up.
# So make them rows of *one* batch: each row patches another cell. (`python -m
# tests.benchmarks.patching`: about ten times as fast for one prompt, not twice for 16.)
#
# **Exercises `patch_cells`** (25 minutes), the engine of this chapter, and **`patch_residual`**
# (10).

# %%
stream = {}
for swap, each in data.items():
    gap = answer_gap(each.right, each.wrong)
    stream[swap] = normalised_metric(
        gap(patch_residual(model, each.corrupt, each.clean)), *ends(model, each, gap)
    )
show(pictures.draw_patched_stream(stream), "stream")
claim(
    "key, before layer 0: clean A put in", stream["key"][0, 3], low=0.2, high=0.5, measured=0.4235
)
claim(
    "key, before layer 1: the stream at B", stream["key"][1, 4], low=0.2, high=0.5, measured=0.427
)
claim(
    "value, before layer 1: the stream at B",
    stream["value"][1, 4],
    low=0.95,
    high=1.05,
    measured=1.0,
)
bystanders = clean.clone()
bystanders[:, [6, 8]] = clean[:, [8, 6]]  # the control: other prompts, same answer
gap = answer_gap(data["key"].right, data["key"].wrong)
moved = (gap(patch_residual(model, clean, bystanders)) - gap(model(clean)[:, -1])).mean(dim=-1)
claim(
    "control: most that any cell moves when two bystanders are swapped (nats)",
    moved.abs().max(),
    high=1.0,
)

# %% [markdown]
# The key's message sits at A and C, jumps to B and D in layer 0, and to the end in layer 1. Why
# about a half each? With A restored, *two* positions follow an A, and the heads divide themselves
# between B and D. The control swaps tokens that do not matter: the activations differ, and no cell
# does anything. A difference alone is not a cause.
#
# ## Which head, and which of its inputs?
#
# *Predict:* with A and C swapped, do the induction heads need clean queries, keys or values?
#
# **Exercise `patch_heads`** (15 minutes).

# %%
WHATS = ["q", "k", "v", "pattern", "z"]
parts = {}
for swap, each in data.items():
    gap = answer_gap(each.right, each.wrong)
    # what layer head ...
    logits = torch.stack([patch_heads(model, each.corrupt, each.clean, what) for what in WHATS])
    parts[swap] = normalised_metric(gap(logits), *ends(model, each, gap)).flatten(1).T  # head what
show(pictures.draw_patched_heads(parts, WHATS), "heads")
later = {swap: dict(zip(WHATS, values[model.cfg.n_heads :].T)) for swap, values in parts.items()}
for swap, wire in (("key", "k"), ("value", "v"), ("query", "q")):
    claim(
        f"{swap}: sum over layer 1 of restoring {wire}",
        later[swap][wire].sum(),
        low=0.9,
        high=1.1,
        measured=1.0,
    )
    others = torch.stack([later[swap][other] for other in "qkv" if other != wire])
    claim(f"{swap}: largest of its other two inputs", others.abs().max(), high=0.05)

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
# **Exercise `sufficiency_and_necessity`** (15 minutes). We test it on two planted gates, then on
# the model, with pairs of independent prompts, so that an induction head differs in q, k and v at
# once.


# %%
panels, last_layer = {}, [(1, head) for head in heads]
for kind, text in (
    ("and", "Planted AND: noising finds both heads"),
    ("or", "Planted OR: denoising finds both heads"),
):
    gate = planted.gate_model(kind)
    cells = [whole_heads("z", group) for group in ([(0, 0)], [(0, 1)], [(0, 0), (0, 1)])]
    metric = answer_gap(torch.tensor([gate.right]), torch.tensor([gate.wrong]))
    both = sufficiency_and_necessity(gate.model, gate.clean, gate.corrupt, cells, metric)
    panels[text] = (["head a", "head b", "both"], *both)
    claim(
        f"{kind} gate: one head, sufficient",
        both[0][0],
        low=float(kind == "or"),
        high=float(kind == "or"),
    )
    claim(
        f"{kind} gate: one head, necessary",
        both[1][0],
        low=float(kind == "and"),
        high=float(kind == "and"),
    )

elsewhere = induction_prompts(24, model.cfg.d_vocab, torch.Generator().manual_seed(1), first=9)
combinations = ["q", "k", "v", "qk", "qv", "kv", "qkv"]
cells = [
    [place for what in each for place in whole_heads(what, last_layer)] for each in combinations
]
both = sufficiency_and_necessity(model, clean, elsewhere, cells, answer_accuracy(clean[:, 4]))
panels["Trained, inputs of layer 1: an AND of q, k, v"] = (combinations, *both)
claim(
    "q, k, v: largest share restored by one or two of them",
    both[0][:-1].max(),
    high=0.15,
    measured=0.0417,
)
claim("q, k, v: least damage by one", both[1][:3].min(), low=0.85, measured=0.958)
claim("all three: restored", both[0][-1], low=0.99, measured=1.0)
by_gap = sufficiency_and_necessity(
    model, clean, elsewhere, cells, answer_gap(clean[:, 4], elsewhere[:, 10])
)
claim("q alone, by logit difference: restored", by_gap[0][0], low=0.4, high=0.65, measured=0.541)

each, induction = data["key"], find_heads(model)["induction"]
cells = [whole_heads("z", group) for group in [*([head] for head in induction), induction]]
both = sufficiency_and_necessity(
    model, each.clean, each.corrupt, cells, answer_accuracy(each.right)
)
panels["Trained, induction heads: hardly seen alone"] = (
    [*(f"1.{head}" for _, head in induction), "all"],
    *both,
)
claim("one induction head: most restored", both[0][:-1].max(), high=0.25, measured=0.0)
claim("one induction head: most damage", both[1][:-1].max(), high=0.4, measured=0.0417)
claim("all of them: restored", both[0][-1], low=0.95, measured=1.0)
claim("all of them: damage", both[1][-1], low=0.95, measured=1.0)
show(pictures.draw_gates(panels), "gates")

gap, ways = answer_gap(each.right, each.wrong), []
for tokens, other in ((each.corrupt, each.clean), (each.clean, each.corrupt)):
    # head pos batch
    by_position = gap(patch_heads(model, tokens, other, "z", by_position=True)).flatten(0, 1)
    ways.append(normalised_metric(by_position, *ends(model, each, gap)))
ways[1] = 1 - ways[1]  # lost, not left
show(pictures.draw_both_ways(*ways), "both_ways")
first_b, first_d = (torch.stack(ways)[:, : model.cfg.n_heads, at] for at in (4, 10))  # way head
claim(
    "denoising layer 0, added up: D less B", (first_d - first_b)[0].sum(), low=0.1, measured=0.752
)
claim(
    "that, and noising: B less D",
    (first_d[0] - first_b[0] + first_b[1] - first_d[1]).sum(),
    low=0.1,
    measured=1.432,
)
claim("denoising one head of layer 0 at B", first_b[0].max(), high=0.4, measured=0.034)

# %% [markdown]
# **Turned round, a patch answers another question.** In the AND, each head is necessary and neither
# suffices; in the OR, the reverse. Run both directions, always.
#
# **How can a part be causal if no single patch shows it?** Because a substitute covers for it (OR,
# noising), because it lacks its partner (AND, denoising), or because the metric has a threshold:
# the two lower panels go by accuracy, and the last shows next to nothing for any single induction
# head, either way, while all four together are everything. Patch groups before you write "does
# nothing".
#
# In the trained model too (last picture, swapped keys, each head at each position): **denoising
# points at D, noising at B**. Clean news at D ends the *false* match, corrupt news at B breaks the
# *true* one. And at B one head alone restores next to nothing, for D still matches better; all of
# layer 0 together, the stream at B, brought .43. (A model with only one previous-token head shows
# less of this.)
#
# A warning: by logit difference, clean queries alone "restore" a half. They only silence the
# *wrong* answer: the gap rises from −12 to about 0, and the right one still wins on hardly any
# prompt. Look at accuracy too.
#
# ## Which metric?
#
# **Exercise `compare_metrics`** (15 minutes). Below, the planted head 1.1 takes 6 off the right
# logit, and a saturated softmax hides it. *Predict:* what will the probability show?


# %%
def shares(model, pairs, tokens, other):
    """Each metric's share of the gap when one head's output is patched: name -> [layer, head]."""
    reference = model(pairs.clean)[:, -1]
    runs = (patch_heads(model, tokens, other, "z"), reference, model(pairs.corrupt)[:, -1])
    rows = zip(
        *(compare_metrics(logits, reference, pairs.right, pairs.wrong).items() for logits in runs)
    )
    return {
        name: normalised_metric(patched, good, bad) for (name, patched), (_, good), (_, bad) in rows
    }


trained = shares(model, each, each.corrupt, each.clean)
against = planted.negative_head_model()
prompts = corrupt_pairs(induction_prompts(16, 20, torch.Generator().manual_seed(0)), 3, 9, "key")
restored = shares(against, prompts, prompts.corrupt, prompts.clean)
remaining = shares(against, prompts, prompts.clean, prompts.corrupt)
negative = {
    name: (restored[name][1, 1].item(), 1 - remaining[name][1, 1].item()) for name in restored
}
show(pictures.draw_metric_panels(trained, negative), "metrics")
for way, gap_share, p_share in zip(
    ("denoising", "noising"), negative["logit difference"], negative["probability"]
):
    claim(f"planted, {way}, logit difference", gap_share, low=-0.601, high=-0.599)
    claim(f"planted, {way}, probability", p_share, low=-0.01, high=0.01)
claim("planted, noising, log-probability", negative["log-probability"][1], low=-0.01, high=0.01)
claim(
    "trained: one induction head, probability, at most",
    trained["probability"][1].max(),
    high=0.15,
    measured=0.0226,
)
claim(
    "trained: the same, logit difference",
    trained["logit difference"][1].max(),
    low=0.2,
    measured=0.308,
)
claim(
    "trained: layer 1 added up, logit difference",
    trained["logit difference"][1].sum(),
    low=0.999,
    high=1.001,
    measured=1,
)

# %% [markdown]
# Probability and accuracy move in one jump near the middle; log-probability and KL flatten out when
# the answer is safe. Only the logit difference is linear in the stream, so that here the last layer
# adds up to exactly 1. It is the default, and it still lies in its own way (the half above).
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
base, edges = ends(model, each, gap), []
cells = [whole_heads(what, [(1, head)]) for _, head, what in receivers] + [
    [("blocks.1.hook_resid_post", (ALL,))]
]
for head in heads:  # one sender at a time, all receivers in one batch
    saved = direct_inputs(model, each.corrupt, each.clean, (0, head))
    edges.append(normalised_metric(gap(patch_cells(model, each.corrupt, saved, cells)), *base))
edges, nodes = torch.stack(edges), parts["key"][: model.cfg.n_heads, -1]
show(
    pictures.draw_path_map(
        edges, [f"1.{head} {what}" for _, head, what in receivers] + ["logits"], nodes
    ),
    "paths",
)

sender = (0, int(nodes.argmax()))
all_edges = path_patch(model, each.corrupt, each.clean, sender, [*receivers, "logits"])
node = patch_cells(
    model, each.corrupt, model.run_with_cache(each.clean)[1], [whole_heads("z", [sender])]
)[0]
claim(
    "all edges of a sender against the node: largest difference in a logit",
    (all_edges - node).abs().max(),
    high=1e-3,
)
keys = [receiver for receiver in receivers if receiver[2] == "k"]
together = normalised_metric(gap(path_patch(model, each.corrupt, each.clean, sender, keys)), *base)
claim("best sender: its edges to keys, together", together, low=0.3, high=1.1, measured=0.7)
claim(
    "the same edges one by one, added up",
    edges[sender[1], len(heads) : 2 * len(heads)].sum(),
    low=0.3,
    high=1.1,
)
rest = torch.cat([edges[:, : len(heads)], edges[:, 2 * len(heads) :]], dim=1)
claim(
    "largest edge to a query, a value or the logits", rest.abs().max(), high=0.06, measured=0.0088
)

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
# *Predict:* where is that exact? Where will it fail worst?
#
# **Exercise `attribution_patch`** (20 minutes).

# %%
plain, guesses = base[1], {}
labels = ["1.h output (exact)", "1.h values (exact)", "1.h queries", "1.h keys", "0.h output"]
kinds = dict(zip(("1 z", "1 v", "1 q", "1 k", "0 z"), labels))
names = {
    f"{layer} {what}": f"blocks.{layer}.attn.hook_{what}"
    for layer, what in (kind.split() for kind in kinds)
}
promised = attribution_patch(model, each.corrupt, each.clean, gap, list(names.values()))
for kind, label in kinds.items():
    # head batch
    true = gap(patch_heads(model, each.corrupt, each.clean, kind[2]))[int(kind[0])] - plain
    guesses[label] = (true, promised[names[kind]].sum(dim=1).T)
show(pictures.draw_guesses(guesses), "attribution")
for label in labels[:2]:
    claim(
        f"{label}: largest error (nats)",
        (guesses[label][1] - guesses[label][0]).abs().max(),
        high=1e-3,
    )
true, guess = (x.mean(dim=1)[sender[1]] for x in guesses["0.h output"])
claim("best sender: effect of really patching it (nats)", true, low=8, high=25, measured=17.6)
claim("share of it that the gradient promises", guess / true, low=0.15, high=0.7, measured=0.37)

circuit, gap = planted.induction_model(), answer_gap(prompts.right, prompts.wrong)
promise = attribution_patch(circuit, prompts.corrupt, prompts.clean, gap, ["blocks.0.attn.hook_z"])[
    "blocks.0.attn.hook_z"
]
true = (
    gap(patch_heads(circuit, prompts.corrupt, prompts.clean, "z"))[0, 0]
    - ends(circuit, prompts, gap)[1]
)
claim(
    "planted circuit: effect of its previous-token head (nats)", true.mean(), low=19.99, high=20.01
)
claim("the gradient's promise", promise.sum(dim=(1, 2)).mean(), low=-0.001, high=0.001)

# %% [markdown]
# Exact behind the last softmax, where all is linear. Before it, a third of the truth; on a
# saturated softmax, *nothing* of a head that decides everything. Use the gradient to find
# candidates. Then patch.
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
