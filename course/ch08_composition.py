# %% [markdown]
# # 8. How do two heads become one algorithm?
#
# 40 minutes to read, 180 with the exercises. Afterwards you can measure from the weights which
# heads work together, tell a number about the model from one about its coordinates, and take an
# attention score apart. Not covered: whether the parts are *needed* (chapter 9), and composition
# through MLPs (chapter 15).
#
# **The question.** An induction head looks at the token *after* an earlier copy of the current one.
# But a key knows only its own token! "What stood before me" must have been written by another head.
#
# A head of layer 1 reads the stream three times. What a layer-0 head wrote can reach it in three:
#
# - **Q-composition**: in its query. *What I look for* depends on layer 0.
# - **K-composition**: in its keys. *What can be found* depends on layer 0.
# - **V-composition**: in its values. *What I move* was moved once before.
#
# *Predict:* which one does induction need?
#
# ## A number for working together
#
# *Route `core`: on to "Taking a score apart".*
#
# Layer 0 writes with `W_OV`, layer 1 reads with a matrix `B`. If they miss each other, the product
# is small. Hence the composition score `|W_OV B| / (|W_OV| |B|)` of Elhage et al. 2021, "A
# Mathematical Framework for Transformer Circuits". `|A|` is the Frobenius norm: the root of the sum
# of all squared entries. They subtract what random matrices give; we draw it as a band.
#
# **Exercises `composition_score`** (5 minutes) and **`composition_table`** (10 minutes). A lost
# transpose gives plausible numbers, so begin with models whose answer is known.

# %%
import torch

from course.desk import claim, in_others, print_table, show, the_model, untrained_model
from course.pictures.ch08 import (
    draw_chance,
    draw_circuits,
    draw_compositions,
    draw_numbers,
    draw_paths,
    draw_softmax,
    draw_story,
    draw_stretched,
    draw_terms,
)
from minitransformer import planted
from minitransformer.evaluate import follows_earlier_copy, held_out
from solutions.ch02_residual_stream import rotate_head
from solutions.ch05_finding_heads import find_heads, score_heads
from solutions.ch06_logit_attribution import (
    direct_logit_attribution,
    logit_difference_attribution,
    shift_unembedding,
)
from solutions.ch07_qk_ov_circuits import (
    centre,
    copying_accuracy,
    copying_score,
    full_ov_circuit,
    ov_matrix,
)
from solutions.ch08_composition import (
    composition_ceiling,
    composition_score,
    composition_table,
    decompose_qk_inputs,
    decompose_scores,
    k_composition_circuit,
    mean_over,
    normalised_composition,
    path_expansion,
    random_baseline,
    stretch_stream,
    term_importance,
    token_space_composition,
    with_weights,
)

torch.set_grad_enabled(False)


def all_kinds(model, score):
    """The scores of all pairs of heads, by kind: {kind: [head of layer 0, head of layer 1]}."""
    return {kind: score(model, kind) for kind in "QKV"}


three = torch.stack(list(all_kinds(planted.three_composers(), composition_table).values()))
usual = all_kinds(planted.induction_model(), composition_table)
pointer = all_kinds(planted.pointer_model(), composition_table)
claim("planted pairs that light up", (three > 0).sum(), low=3, high=3)
claim("the score of each", three[range(3), range(3), range(3)].min(), low=0.765, high=0.766)
claim("hand-built induction: K", usual["K"], low=0.2235, high=0.2237)
claim("hand-built induction: Q and V", usual["Q"] + usual["V"], low=0, high=0)
claim("hand-built pointer arithmetic: Q", pointer["Q"], low=0.158, high=0.1582)
claim("hand-built pointer arithmetic: K and V", pointer["K"] + pointer["V"], low=0, high=0)

# %% [markdown]
# Both hand-built models do induction without a mistake. The usual one puts "the token before me"
# into every **key**. The other, pointer arithmetic, lets a head find *where* its token stood before
# and puts that position into the **query**; layer 1 then looks one further. Which did our model
# learn?
#
# ## What is a large score?
#
# .16 in one model, .77 in another, and both were planted. What does chance give? **Exercise
# `random_baseline`** (10 minutes). *Predict:* does the mean depend on d_head?

# %%
model, impostor = the_model(), the_model("impostor")
d_model, d_head, heads = model.cfg.d_model, model.cfg.d_head, range(model.cfg.n_heads)
names = [[f"{layer}.{head}" for head in heads] for layer in (0, 1)]
chance = random_baseline(d_model, d_head, 200, torch.Generator().manual_seed(0))
thin = random_baseline(d_model, 4, 200, torch.Generator().manual_seed(0))
mean, mean_thin = chance.mean() * d_model**0.5, thin.mean() * d_model**0.5
claim("mean of random pairs, times sqrt(d_model)", mean, low=0.97, high=1.03)
claim("the same with d_head 4", mean_thin, low=0.95, high=1.05)
claim("spread of random pairs (standard deviation)", chance.std(), low=0.005, high=0.01)
show(draw_chance({f"d_head {d_head}": chance, "d_head 4": thin}, d_model), "chance")

# %% [markdown]
# The mean is `1/sqrt(d_model)` whatever d_head is; only the spread changes.
#
# And the best possible? A head with 16 directions spreads its norm over them, so even perfect
# alignment stays far below 1. **Exercises `composition_ceiling`** and **`normalised_composition`**
# (10 and 5 minutes): 0 is chance, 1 is the best that these two spectra allow.


# %%
def squeezed(W):
    """R of W = Q R, [.., d_model, d_head] -> [.., d_head, d_head]: Q only turns, and to turn the
    far side of a head changes no composition score.
    """
    return torch.linalg.qr(W).R


def that_meet(W_Q, W_K, W_V, W_O):
    """What heads of layer 0 write [head, d_head, d_model], and with what those of layer 1 read it,
    {kind: [head, d_model, d_head]}. Weights: [layer, head, ..].
    """
    reads = {
        "Q": W_Q[1] @ squeezed(W_K[1]).mT,
        "K": W_K[1] @ squeezed(W_Q[1]).mT,
        "V": W_V[1] @ squeezed(W_O[1].mT).mT,
    }
    return squeezed(W_V[0]) @ W_O[0], reads


def every_pair(function, model, kind):
    """function(what the layer-0 head writes, what the layer-1 head reads with): [head of layer 0,
    head of layer 1].
    """
    writes, reads = that_meet(model.W_Q, model.W_K, model.W_V, model.W_O)
    return torch.tensor([[function(A, B) for B in reads[kind]] for A in writes])


roles = find_heads(model)
previous = [head for layer, head in roles["previous_token"] if layer == 0]  # best first
induction = [head for layer, head in roles["induction"] if layer == 1]
best, looker = previous[0], induction[0]
others = [head for head in heads if head not in previous] or previous[-1:]
tables = all_kinds(model, composition_table)
shares = {kind: every_pair(normalised_composition, model, kind) for kind in "QKV"}
print("previous-token heads:", ", ".join(names[0][head] for head in previous))
print("induction heads:", ", ".join(names[1][head] for head in induction))
print_table("K, published", names[0], names[1], tables["K"].tolist(), "{:.3f}")
mean, share, beside = tables["K"][best].mean(), shares["K"][best].mean(), tables["K"][others].max()


def most_by_k(model):
    return composition_table(model, "K").max()


text = "K score of the best previous-token head, mean"
claim(text, mean, low=0.2, high=0.3, measured=0.2404, untrained=most_by_k)
claim("that as a share of what is possible", share, low=0.4, high=0.9, measured=0.654)
claim("largest K score of any other head", beside, low=0.13, high=0.23, measured=0.1756)
claim("largest Q or V score", max(tables["Q"].max(), tables["V"].max()), high=0.14, measured=0.0954)

# %% [markdown]
# K, it seems. The controls: a model without induction, untrained models, planted ones.

# %%
blanks = [untrained_model(seed) for seed in range(5)]
by_chance = [every_pair(composition_score, blank, kind) for blank in blanks for kind in "QKV"]
by_chance = torch.stack(by_chance)
farthest = (by_chance - chance.mean()).abs().max() / chance.std()
band = (chance.mean() - 3 * chance.std(), chance.mean() + 3 * chance.std())
its, generator = impostor.cfg, torch.Generator().manual_seed(0)  # its shape may be another one
by_its_shape = random_baseline(its.d_model, its.d_head, 200, generator)
limit = by_its_shape.mean() + 3 * by_its_shape.std()
usual = every_pair(normalised_composition, planted.induction_model(), "K")
pointer = every_pair(normalised_composition, planted.pointer_model(), "Q")
ceiling = every_pair(composition_ceiling, model, "K").mean()
claim("impostor: largest K score", most_by_k(impostor), high=limit, measured=0.1057)
claim("untrained: largest distance from chance, in sd", farthest, high=5)
claim("hand-built induction: share of what is possible, by K", usual, low=0.999, high=1.001)
claim("hand-built pointer: share of what is possible, by Q", pointer, low=0.999, high=1.001)
show(draw_compositions(tables, shares, band, float(ceiling), (previous, induction)), "edges")

# %% [markdown]
# Is this a fact about the model, or about the coordinates of its stream?
#
# ## A change that nobody can see
#
# A **gauge** is a change of the weights that changes no probability. This model has three:
#
# - **rotation**: another basis inside a head (chapter 2). No whole circuit moves.
# - **u**: one vector added to every column of `W_U` (chapter 6). All logits rise together.
# - **S**: any invertible map of the stream. Whatever writes is followed by `S`, whatever reads
#   undoes it first. **Exercise `stretch_stream`** (10 minutes).
#
# A number that moves under a gauge says nothing about the model alone. *Predict:* we search for an
# `S` that makes K small, Q and V large. How far will it get?


# %%
def norm(x):
    return x.flatten(-2).norm(dim=-1)


def scores_after(S, model):
    """The published scores once the stream is stretched by S, with gradients."""
    undo = torch.linalg.inv(S)
    if d_model > 4 * d_head:  # only in so wide a stream the detour by small matrices pays
        parts = undo @ model.W_Q, undo @ model.W_K, undo @ model.W_V, model.W_O @ S
        writes, reads = that_meet(*parts)
    else:
        writes = undo @ model.W_V[0] @ model.W_O[0] @ S  # head d_model d_model
        QK = undo @ model.W_Q[1] @ model.W_K[1].mT @ undo.T
        reads = {"Q": QK, "K": QK.mT, "V": undo @ model.W_V[1] @ model.W_O[1] @ S}
    writes = writes[:, None]  # for each of them, all that reads
    return {kind: norm(writes @ B) / (norm(writes) * norm(B)) for kind, B in reads.items()}


def find_stretch(model, heads):
    """By gradient descent: an S under which these heads seem to compose by Q and V, not by K."""
    # Adam moves every entry alike: the wider the stream, the farther each step goes
    steps, learning_rate = min(200, 23_040 // d_model), 1.28 / d_model
    exponent = torch.zeros(d_model, d_model, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([exponent], lr=learning_rate)
    with torch.enable_grad():
        for _ in range(steps):
            S = torch.linalg.matrix_exp(exponent + exponent.T)
            size = {kind: s[heads].log().mean() for kind, s in scores_after(S, model).items()}
            optimizer.zero_grad()
            (size["K"] / 2 - size["Q"] - size["V"]).backward()
            optimizer.step()
    return S.detach()


def period_10(model):
    """BOS, a random prefix, then 10 random tokens again and again; fewer rows for wide models."""
    rows = max(16, min(64, 4096 // model.cfg.d_model))
    return held_out(model, periods=(10, 10), batch=rows)


repeats = period_10(model)
tokens, known = repeats.tokens, repeats.predictable
copies = follows_earlier_copy(tokens)  # batch query key: tokens that follow an earlier copy
exact = the_model().double().requires_grad_(False)
weights = dict(exact.named_parameters())
S = find_stretch(exact, previous)
stretched = with_weights(exact, stretch_stream(weights, S))
after = all_kinds(stretched, composition_table)
moved = (stretched(tokens) - exact(tokens)).abs().max()
claim("largest change of any logit, in float64", moved, high=1e-10)
claim("K of the best previous-token head, after S", after["K"][best].mean(), high=0.1)
claim("Q of the best previous-token head, after S", after["Q"][best].mean(), low=0.18)
claim("V of the best previous-token head, after S", after["V"][best].mean(), low=0.18)

# %% [markdown]
# All the way: the same model now "composes by Q and V, not by K". The score compares lengths, and
# this stream has no unit of length. (LayerNorm gives it one: only rotations are left, which do not
# move the score.)
#
# [Try it in the lab](site/lab.html#experiment=gauge).
#
# Tokens have no such freedom. So take what a head moves from each token, and see how far this can
# lift a key above the others, in nats before the softmax. **Exercise `token_space_composition`**
# (15 minutes) subtracts what all keys share, because no softmax sees it.

# %%
in_tokens = all_kinds(model, token_space_composition)
in_tokens_after = all_kinds(stretched, token_space_composition)
for kind, unit in {"K": "nats", "Q": "nats", "V": "logits"}.items():
    print_table(f"{kind}, in {unit}", names[0], names[1], in_tokens[kind].tolist())
carried, beside = in_tokens["K"][best].mean(), in_tokens["K"][others].max()


def most_in_tokens(model):
    return token_space_composition(model, "K").max()


text = "K in token space, best previous-token head, mean"
claim(text, carried, low=2, high=6, measured=3.373, untrained=most_in_tokens)
claim("K in token space, largest of any other head", beside, high=1.6, measured=1.197)
text = "K in token space, best previous-token head over best other head"
claim(text, carried / beside, low=1.4, measured=2.819)
in_others(text, "20 of 20", low=1.5)
claim("Q in token space, largest", in_tokens["Q"].max(), high=0.6, measured=0.2567)
claim("V in token space, largest, in logits", in_tokens["V"].max(), high=0.6, measured=0.2483)
claim("impostor: K in token space, largest", most_in_tokens(impostor), high=0.8, measured=0.3652)
both = [tables, after], [in_tokens, in_tokens_after]
show(draw_stretched(*both, band, (previous, induction)), "gauge")

# %% [markdown]
# The verdict stands, on better ground: **our model composes by K**. (In 20 of 20 other models
# the best previous-token head leads by half or more.) What falls is fine print: in the first
# panel Q and V lie below the band, as if layer 1 kept out of layer 0's way. `S` reverses this.
#
# A second control: a head that writes the same vector into *every* key. No answer depends on it.
# *Predict:* which of the two scores takes it for a part of the circuit?

# %%
by_hand = planted.induction_model(40, 20, strengths=(1.0, 1.0)).double()
space = planted.induction_spaces(40, 20)
before = by_hand(period_10(by_hand).tokens)
constant = torch.randn(40, generator=torch.Generator().manual_seed(0))
by_hand.W_V[0, 1, :, 0] = space.token.sum(dim=1)  # head 0.1 reads a 1 from every token
by_hand.W_O[0, 1, 0] = space.previous @ constant  # and writes this, wherever it looks
moved = (by_hand(period_10(by_hand).tokens) - before).abs().max()
by_lengths = composition_table(by_hand, "K")[:, 0]  # into head 1.0
by_tokens = token_space_composition(by_hand, "K")[:, 0]
claim("the same vector into every key: largest change of a logit", moved, high=1e-10)
text = "its published score over that of the true pair"
claim(text, by_lengths[1] / by_lengths[0], low=0.99, high=1.01)
claim("in token space", by_tokens[1] / by_tokens[0], high=1e-10)

# %% [markdown]
# The published one cannot tell the two heads apart. And other numbers?


# %%
def course_numbers(model):
    """What chapters 2 to 8 measure, on one model: one previous-token head, one induction head."""
    at, label = (1, looker), 1 + len(heads) + looker  # its row among the parts of the stream
    _, cache = model.run_with_cache(tokens)
    right, wrong = tokens.roll(-1, dims=1), tokens.roll(1, dims=1)
    inside = known & (torch.arange(tokens.shape[1]) < tokens.shape[1] - 1)
    own = direct_logit_attribution(cache, model.W_U, right)[label]
    difference = logit_difference_attribution(cache, model.W_U, right, wrong)
    circuit = full_ov_circuit(model, *at)
    pattern = cache["blocks.1.attn.hook_pattern"][:, looker]
    return {
        "attention on the right tokens": (pattern * copies).sum(dim=-1)[known].mean(),
        "logit difference, all parts": difference.sum(dim=0)[inside].mean(),
        "logit difference, the head's part": difference[label][inside].mean(),
        "right logit, the head's part": own[inside].mean(),
        "copying accuracy": copying_accuracy(circuit),
        "copying score, centred": copying_score(centre(circuit)),
        "copying score, not centred": copying_score(circuit),
        "K in token space": token_space_composition(model, "K")[best, looker],
        "K, published score": composition_table(model, "K")[best, looker],
        "length of one head's output": cache["blocks.0.attn.hook_result"][:, :, best].norm(),
        "length of one head's queries": cache["blocks.1.attn.hook_q"][:, :, looker].norm(),
    }


generator = torch.Generator().manual_seed(0)
M = torch.eye(d_head).double() + torch.randn(d_head, d_head, generator=generator)
towards = exact.W_E.sum(dim=0) @ ov_matrix(exact, 1, looker).dense
u = -20 * towards / towards.norm()  # chosen against the copying score
head_weights = ("W_Q", "W_K", "W_V", "W_O")
rotated = rotate_head(*[weights[name] for name in head_weights], M)
gauges = {
    "as trained": weights,
    "rotation": weights | dict(zip(head_weights, rotated)),
    "u": weights | {"W_U": shift_unembedding(weights["W_U"], u)},
    "S": stretch_stream(weights, S),
}
measured = {name: course_numbers(with_weights(exact, changed)) for name, changed in gauges.items()}
FREE = {  # under which gauge a number moves
    "right logit, the head's part": ["u"],
    "copying score, not centred": ["u"],
    "K, published score": ["S"],
    "length of one head's output": ["S"],
    "length of one head's queries": ["rotation"],
}
rows, kept, freed = [], [], []
for name, before in measured["as trained"].items():
    rows.append([float(measured[gauge][name]) for gauge in gauges])
    for gauge in ("rotation", "u", "S"):
        change = abs(measured[gauge][name] - before) / abs(before)
        (freed if gauge in FREE.get(name, []) else kept).append(change)
print_table("number x gauge", list(measured["as trained"]), list(gauges), rows, "{:.3f}")
claim("largest change of a number that may not move, as a share", max(kept), high=1e-6)
claim("smallest change of a number that moves, as a share", min(freed), low=0.05)
show(draw_numbers(list(measured["as trained"]), list(gauges), rows), "numbers")

# %% [markdown]
# A number about the model keeps its value in every column.
#
# A warning: **an edge is not use**. Both scores say what would happen *if* a head moved
# a token into the key, whether it looks there or not.
#
# ## Taking a score apart
#
# What `q` and `k` of layer 1 are made from is a sum: embedding, position, each head of layer 0. A
# score is a product of two such sums, so with H heads it has exactly `(2 + H)^2` terms. (With
# LayerNorm only while its scale is frozen.) **Exercise `decompose_qk_inputs`** (10 minutes) and
# **`decompose_scores`** (15 minutes).
#
# A key wins against others, so we measure a *lead*: by how much a term favours the right key over
# other tokens, or over BOS, where heads rest. *Predict:* of our 36 terms, how many matter?

# %%
visible = torch.ones(tokens.shape[1], tokens.shape[1]).tril()
follower = copies * known[:, :, None]  # batch query key: where an induction head should look
other = (visible - copies) * known[:, :, None]
other[:, :, 0] = 0
bos = torch.zeros_like(other)
bos[:, :, 0] = known.to(bos)


def lead(scores, competitor):
    return mean_over(scores, follower) - mean_over(scores, competitor)


def taken_apart(model, head):
    _, cache = model.run_with_cache(tokens)
    labels, parts = decompose_qk_inputs(cache)
    return labels, decompose_scores(parts, model.W_Q[1, head], model.W_K[1, head]), cache


labels, terms, cache = taken_apart(model, looker)
scores = terms.sum(dim=(0, 1))  # batch query key
_, exact_terms, exact_cache = taken_apart(exact, looker)
hooked = exact_cache["blocks.1.attn.hook_attn_scores"][:, looker]
error = (exact_terms.sum(dim=(0, 1)) - hooked)[:, visible.bool()].abs().max()
gain = lead(terms, other)  # query part, key part
match = gain[0, [2 + head for head in previous]].sum()
rest = gain[0, [2 + head for head in others]].max()
claim("largest error of the sum, in float64", error, high=1e-12)
claim("lead over other tokens, in score units", gain.sum(), low=10, high=25, measured=15.8)
text = "share of embedding x previous-token heads in it"
claim(text, match / gain.sum(), low=0.85, high=1.05, measured=0.976)
claim("largest share of any other head", rest / gain.sum(), high=0.12, measured=0.0035)

# %% [markdown]
# The query is the token itself, the key what the previous-token heads wrote. The other heads bring
# almost nothing: their edge exists in the weights only. Where does the attention go that the right
# key misses?

# %%
pattern = cache["blocks.1.attn.hook_pattern"][:, looker]
missed = 1 - (pattern * follower).sum(dim=-1)[known].mean()
at_bos = pattern[:, :, 0][known].mean()
over_bos = lead(terms, bos)
match_over_bos = over_bos[0, [2 + head for head in previous]].sum()
against = over_bos.sum() - match_over_bos
claim("attention that the right keys miss", missed, low=0.005, high=0.1, measured=0.029)
claim("share of it that sits on BOS", at_bos / missed, low=0.8, high=1.0, measured=0.983)
claim("lead over BOS, in score units", over_bos.sum(), low=3, high=6.5, measured=4.52)
claim("embedding x previous-token heads in it", match_over_bos, low=12, high=20, measured=15.16)
claim("all other terms in it", against, low=-15, high=-8, measured=-10.64)
gains = {"other tokens": gain, "BOS": over_bos}
show(draw_terms(labels, gains, f"1.{looker}"), "terms")

# %% [markdown]
# BOS is the real competitor. It starts ten units ahead, and only a match overcomes that. So the
# head has a threshold: no match, it rests.
#
# [Try it in the lab](site/lab.html#experiment=why-there).
#
# ## Linear only up to the softmax
#
# "This term brings so much *attention*"? Softmax of a sum is no sum of softmaxes. Add the
# second-largest term in three situations: to nothing, to the largest term, to all the others.


# %%
def on_follower(scores):
    """The attention on the right keys, from scores before the mask."""
    pattern = scores.masked_fill(visible == 0, -torch.inf).softmax(dim=-1)
    return ((pattern * follower).sum(dim=-1)[..., known]).mean(dim=-1)


first, second = gain[0].topk(2).indices
largest, small = terms[0, first], terms[0, second]
situations = {"nothing": 0 * small, "the largest term": largest, "all others": scores - small}
brought = []
for before in situations.values():
    brought.append(float(on_follower(before + small) - on_follower(before)))
worth, apart = lead(small, other), on_follower(terms).mean()
claim("attention on the right key", on_follower(scores), low=0.9, measured=0.971)
claim("mean attention of the 36 separate softmaxes", apart, high=0.25, measured=0.0945)
claim("the second term brings, in score units, each time", worth, low=0.1, measured=4.72)
claim("... in attention, added to nothing", brought[0], low=0.005, measured=0.612)
claim("... added to the largest term", brought[1], high=0.25, measured=0.0145)
claim("... added to all others", brought[2], low=0.001, measured=0.484)
show(draw_softmax(list(situations), float(worth), brought), "softmax")

# %% [markdown]
# ## The circuit, read from the weights, and its controls
#
# Write both heads as one matrix: rows are tokens that ask, columns tokens that a layer-0 head moved
# into the key. If this is induction, each token must seek *itself*: a diagonal. **Exercise
# `k_composition_circuit`** (10 minutes).
#
# *Predict:* what does this picture look like for a layer-0 head that does **not** look one back?


# %%
def diagonals(model):
    """For what share of tokens is the token itself the best key? BOS left out. [head of layer 0,
    head of layer 1]
    """
    each = range(model.cfg.n_heads)
    circuits = [[k_composition_circuit(model, (0, g), (1, h))[1:, 1:] for h in each] for g in each]
    return torch.tensor([[copying_accuracy(circuit) for circuit in row] for row in circuits])


def attention_back(model):
    return score_heads(model, period_10(model).tokens)["previous_token"][0]  # heads of layer 0


accuracy, looks_back = diagonals(model), attention_back(model)
control = max(others, key=lambda head: accuracy[head].mean().item())  # the most convincing one
print_table("seek themselves", names[0], names[1], accuracy.tolist())
text = "best previous-token head: lowest share of its pairs"
lowest = accuracy[best].min()
claim(text, lowest, low=0.9, measured=1.0, untrained=lambda model: diagonals(model).max())
text = "most convincing wrong head: share of tokens, best pair"
claim(text, accuracy[control].max(), low=0.2, high=0.97, measured=0.641)
text = "most convincing wrong head: attention to the token before"
claim(text, looks_back[control], high=0.5, measured=0.09)
text = "most convincing wrong head: share of the lead"
claim(text, gain[0, 2 + control] / gain.sum(), high=0.12, measured=0.0035)
claim("impostor: largest share of tokens", diagonals(impostor).max(), high=0.4, measured=0.0625)
controls = {}
for name, blank in {"untrained": untrained_model(), "impostor": impostor}.items():
    looks = attention_back(blank).repeat_interleave(blank.cfg.n_heads)
    controls[name] = (looks, diagonals(blank).flatten())
maps = {}
for g, what in ((best, "previous-token head"), (control, "control")):
    title = f"0.{g} into 1.{looker} ({what}):\n{100 * accuracy[g, looker]:.0f} % seek themselves"
    maps[title] = k_composition_circuit(model, (0, g), (1, looker))[1:, 1:]
show(draw_circuits(maps, looks_back, accuracy, (previous, induction), controls), "k_circuit")

# %% [markdown]
# The true pair is perfect. But a head that hardly looks one back makes a diagonal for many tokens
# too. The circuit says: *if* this head moved a token into the key, *then* that token finds it. The
# claim needs three pieces: where the head looks (chapter 5), this matrix, and the terms above.
#
# ## All paths through the model
#
# *Route `core`: on to chapter 9.*
#
# Freeze the patterns and everything is linear: the logits are a sum over paths. Direct; through one
# head; through a head of layer 0 *and* then a head of layer 1, a **virtual head**, which is
# V-composition at work. **Exercise `path_expansion`** (20 minutes). **`term_importance`** (20
# minutes) sums paths by length, without listing them.

# %%
logits = model(tokens)
paths, path_terms = path_expansion(model, tokens)
rounds = term_importance(model, tokens)  # round batch pos vocab
inside = known & (torch.arange(tokens.shape[1]) < tokens.shape[1] - 1)
right = tokens.roll(-1, dims=1)


def to_right(terms):
    """What a path adds to the right logit over the mean logit, on average: [path]."""
    picked = terms.gather(-1, right[None, ..., None].expand(len(terms), -1, -1, 1))[..., 0]
    return (picked - terms.mean(dim=-1))[:, inside].mean(dim=1)


groups = {"direct": 0.0, "layer 0": 0.0, "layer 1": 0.0, "virtual": 0.0}
for path, written in zip(paths, to_right(path_terms).tolist()):
    kind = path if path == "direct" else "virtual" if ">" in path else f"layer {path[0]}"
    groups[kind] += written
total = sum(groups.values())
error = (path_terms.sum(dim=0) - logits).abs().max()
claim("largest error of the sum over paths", error, high=1e-4)
claim("largest error of round 2", (rounds[2] - logits).abs().max(), high=1e-4)
text = "share of the right logit from layer-1 heads alone"
claim(text, groups["layer 1"] / total, low=0.9, high=1.1, measured=0.99)
text = "share of all virtual heads together"
claim(text, groups["virtual"] / total, low=-0.08, high=0.08, measured=0.0059)

# %% [markdown]
# *Predict:* paths through one head of layer 1 write the whole answer. Is layer 0 needed?


# %%
def hits(logits):
    return (logits.argmax(dim=-1) == right)[inside].float().mean()


silence = [("blocks.0.hook_attn_out", lambda out, hook: 0 * out)]
blind = model.run_with_hooks(tokens, silence)
claim("right answers in round 0, no head", hits(rounds[0]), high=0.1)
claim("right answers in round 1, paths through one head", hits(rounds[1]), low=0.98, measured=1.0)
claim("right answers if layer 0 writes nothing at all", hits(blind), high=0.25, measured=0.0213)
bars = {"0 heads": rounds[0], "up to 1": rounds[1], "up to 2\n(the model)": rounds[2]}
bars["layer 0\nsilenced"] = blind
show(draw_paths(groups, {name: 100 * float(hits(each)) for name, each in bars.items()}), "paths")

# %% [markdown]
# Here is the trap. "Layer 0 brings nothing, so layer 1 suffices." But the patterns were frozen, and
# layer 0 is *inside* them. Silence it for real and the model fails. Path expansion sees
# V-composition; Q and K it takes for granted.
#
# ## The story as one diagram


# %%
share, attention = float(match / gain.sum()), float(on_follower(scores))
show(draw_story(f"0.{best}", f"1.{looker}", float(looks_back[best]), share, attention), "story")

# %% [markdown]
# ## What you have now
#
# - A composition score that depends on coordinates, and one that does not. By that one, our model
#   composes by K.
# - A test for any number: does it move under a gauge?
# - Scores of layer 1 as 36 exact terms, and BOS as the competitor that counts.
# - Three warnings: an edge may be unused, a diagonal may be no circuit, frozen patterns hide Q and
#   K.
#
# Next: what happens to the answer when a part is taken away? `python -m course 9`.
