# %% [markdown]
# # 4. What exactly can the model do?
#
# 25 minutes to read, 85 with the exercises. Afterwards you can test a model from outside: with
# sequences built so that different explanations predict different answers. Not covered: which heads
# do it (chapter 5) and how (chapters 6 to 9).
#
# *Route `core`: on to chapter 5.*
#
# **The question.** Our model predicts repeated random tokens. "It has learnt induction" is one
# description of that. "It copies what stood ten tokens back" is another. Before we open the model
# we should know what there is to explain.
#
# So others sit the same tests: models with **one layer** and with **no layers**, trained the same
# way (the latter here, 100 steps); the **impostor** of chapter 3, trained on period 10 only; and an
# **untrained** one with random weights. Two more are built by hand, so we know how they work.
# *Sharing* attends equally to every token that followed an earlier copy of the current one.
# *Pointing* finds the *first* copy and looks one position further.

# %%
import torch

from course.desk import claim, in_others, plt, show, the_model, untrained_model
from minitransformer import ModelConfig
from minitransformer.config import PRESETS
from minitransformer.evaluate import held_out
from minitransformer.planted import induction_model, pointer_model
from minitransformer.plots import BLUE, GREEN, ORANGE, RED, heatmap, write_values
from minitransformer.train import train
from solutions.ch04_induction_behaviour import (
    candidate_shares,
    distractor_tokens,
    icl_score,
    induction_accuracy,
    loss_by_position,
    partial_repeat_tokens,
)

model = the_model()
vocab, n_ctx = model.cfg.d_vocab, model.cfg.n_ctx
no_layers = train(
    ModelConfig(n_layers=0), PRESETS["induction"].train.changed(steps=100, eval_every=100)
).model
torch.set_grad_enabled(False)
one_layer, impostor = the_model("one-layer"), the_model("impostor")
untrained = untrained_model()
sharing, pointing = induction_model(vocab, n_ctx), pointer_model(vocab, n_ctx)
chance = torch.tensor(vocab - 1.0).log().item()
claim("loss of pure guessing, ln 64, in nats", chance, measured=4.159)

# %% [markdown]
# ## Test 1: does the loss fall, and where?
#
# Take sequences that begin their second copy at position 11 (period 10). Average the loss at each
# position separately. **Exercise `loss_by_position`** (10 minutes). *Predict:* four curves, for
# zero, one and two layers and for the impostor. Which of them fall at position 11?


# %%
def losses_at(model, period):
    tokens = held_out(model, (period, period), 128, prefix=0).tokens
    return loss_by_position(model(tokens), tokens)


contestants = {
    "no layers": no_layers,
    "one layer": one_layer,
    "two layers": model,
    "impostor": impostor,
}
curves = {
    (name, period): losses_at(each, period)
    for name, each in contestants.items()
    for period in (10, 13)
}
figure, axes = plt.subplots(1, 2, figsize=(10.5, 4.2), sharey=True)
for ax, period in zip(axes, (10, 13)):
    for name, colour, marker in zip(contestants, (ORANGE, GREEN, BLUE, RED), "s^ox"):
        ax.plot(curves[name, period], color=colour, marker=marker, markersize=4, label=name)
    ax.axhline(chance, color="grey", linestyle=":")
    ax.axvline(period + 0.5, color="grey", linestyle=":")
    ax.text(period + 0.3, 8.4, "second copy begins ", color="grey", ha="right", fontsize=9)
    ax.set(xlabel="position of the token just read (0 = BOS)", ylim=(0, 9))
axes[0].set(ylabel="loss on the next token (nats)", title="Period 10: the impostor gets there too")
axes[1].set_title("Period 13: it was doing something else")
axes[1].legend(loc="lower left", bbox_to_anchor=(0, 0.06))
axes[1].text(30, chance - 0.35, "ln 64 = 4.16: guessing", color="grey", ha="right", fontsize=9)
show(figure, "loss_by_position")
claim(
    "two layers, period 10, second copy on",
    curves["two layers", 10][11:].mean(),
    high=0.05,
    measured=0.00147,
)
claim(
    "two layers, period 13, second copy on",
    curves["two layers", 13][14:].mean(),
    high=0.05,
    measured=0.00186,
)
claim("impostor, last position, period 10", curves["impostor", 10][-1], high=0.1, measured=0.022)
claim("impostor, period 13", curves["impostor", 13][14:].mean(), low=chance, measured=6.40)
claim("one layer, period 13", curves["one layer", 13][14:].mean(), low=3.0, measured=4.49)
claim(
    "no layers, period 13", curves["no layers", 13][14:].mean(), low=chance, high=5.0, measured=4.42
)

# %% [markdown]
# The left panel is the wrong story, told with honest numbers. Whoever tests at period 10 alone
# finds the impostor right every time (the table after the last test shows it), and at the end
# nearly as sure as ours. Only its slow start could make you suspicious. At period 13 it is *worse
# than guessing*: it is sure of the wrong token.
#
# No layers means bigrams: the guess depends on the token just read and on nothing else. Among
# random tokens the best such guess is "anything", ln 64. Ours is slightly worse, because it learnt
# that a token sometimes repeats at once (period 1). One layer has learnt a few fixed distances, and
# none of them is 13.
#
# ## Test 2: one number
#
# Olsson et al. (2022) sum such a curve up in the *ICL score*: loss at a late position minus loss at
# an early one. Negative means that context helps. **Exercise `icl_score`** (5 minutes). *Predict:*
# can a predictor that never copies anything have a negative score? Think of sequences that do *not*
# repeat, but in which no token occurs twice.

# %%
claim(
    "ICL score, two layers, period 10",
    icl_score(curves["two layers", 10], 5, 30),
    high=-4,
    measured=-4.18,
)
at_10, at_13 = curves["impostor", 10], curves["impostor", 13]
claim("ICL score, impostor, period 10", icl_score(at_10, 5, 30), high=-3, measured=-4.16)
claim("ICL score, impostor, period 13", icl_score(at_13, 5, 30), low=1, measured=4.50)
nothing = icl_score(curves["no layers", 10], 5, 30)
claim("ICL score, no layers", nothing, low=-0.3, high=0.3, measured=0.006)
# position k: k tokens were read, 64 - k are left
crossing_out = (vocab - 1.0 - torch.arange(n_ctx - 1)).log()
crossed = icl_score(crossing_out, 5, 30)
claim("ICL score of crossing out the tokens already seen", crossed, high=-0.5, measured=-0.551)

# %% [markdown]
# So a negative score shows learning in context, and not *how*. Crossing out tokens is in-context
# learning too, and no induction at all. What large models do is disputed. Olsson et al. 2022,
# "In-context Learning and Induction Heads" (arXiv 2209.11895), write that induction heads might
# constitute most of it. Yin & Steinhardt 2025, "Which Attention Heads Matter for In-Context
# Learning?" (arXiv 2502.14010), find that other heads matter more when a task is shown by examples.
# Sahin et al. 2025, "In-Context Learning Without Copying" (arXiv 2511.05743), train models in which
# copying pays little: tasks that need abstraction are learnt all the same.
#
# ## Test 3: other periods, and a third time
#
# Accuracy is easier to read than nats, if we count only positions whose next token can be known.
# **Exercise `induction_accuracy`** (10 minutes). Training used periods up to 16. *Predict:* what
# happens at longer ones, which the model has never seen?


# %%
def accuracy_at_periods(model, periods, batch=64):
    repeats = held_out(model, periods, batch)
    return induction_accuracy(model, repeats.tokens, repeats.predictable)


periods = range(1, n_ctx - 2)
figure, ax = plt.subplots(figsize=(7.5, 3.8))
ax.axvspan(0.5, 16.5, color="grey", alpha=0.12, linewidth=0)
ax.text(
    16.3, 50, "periods in training\n(impostor: only 10)", ha="right", fontsize=9, color="dimgrey"
)
for name, colour, marker in (
    ("two layers", BLUE, "o"),
    ("one layer", GREEN, "^"),
    ("impostor", RED, "x"),
):
    curve = [100 * accuracy_at_periods(contestants[name], (p, p), batch=32) for p in periods]
    ax.plot(periods, curve, color=colour, marker=marker, markersize=5, label=name)
ax.set(
    title="Only the two-layer model does not care about the period",
    xlabel="period (tokens)",
    ylim=(-4, 105),
)
ax.set_ylabel("right next token in the repeat (%)")
ax.legend(loc="center right")
show(figure, "unseen_periods")


def beyond_training(model):
    """Accuracy at periods that no model was trained on."""
    return accuracy_at_periods(model, (17, 29))


unseen = beyond_training(model)
claim("two layers, periods 17 to 29", unseen, low=0.98, measured=1.0, untrained=beyond_training)
claim("impostor, periods 17 to 29", beyond_training(impostor), high=0.05, measured=0.0)
claim("impostor, period 5", accuracy_at_periods(impostor, (5, 5)), low=0.2, measured=0.7)
nine = losses_at(model, 9)  # copies begin at positions 1, 10 and 19
claim("loss in the second copy, period 9", nine[10:19].mean(), high=0.02, measured=0.00247)
claim("loss in the third copy, period 9", nine[19:28].mean(), high=0.01, measured=0.00082)

# %% [markdown]
# Beyond training nothing changes for ours. One earlier occurrence is enough; a third copy makes it
# only a little surer. The impostor also gets something at the periods that divide 10: ten back
# stands the right token there, too.
#
# ## Test 4: part of a sentence comes back
#
# So far everything repeated at one fixed distance within a sequence, until the end. Real text is
# not like that. **Exercise `partial_repeat_tokens`** (15 minutes). Twelve tokens, six others, then
# tokens 3 to 7 of the twelve again.


# %%
def on_part(model, gap):
    generator = torch.Generator().manual_seed(2)
    rows = partial_repeat_tokens(12, (3, 8), gap, 256, vocab, generator)
    return induction_accuracy(model, *rows)


def on_part_15_back(model):
    return on_part(model, 6)


found = on_part_15_back(model)
claim("two layers, gap 6", found, low=0.98, measured=1.0, untrained=on_part_15_back)
claim("impostor, gap 6: the repeat lies 15 back", on_part(impostor, 6), high=0.1, measured=0.0)
claim("impostor, gap 1: the repeat lies 10 back", on_part(impostor, 1), low=0.9, measured=1.0)

# %% [markdown]
# With an unlucky gap this new test passes the impostor. **A test is only as good as the wrong
# explanations it excludes.**
#
# ## Test 5: two answers
#
# `A B ... A C ... A ?` Here induction itself does not say what comes next. On every sequence so
# far, *sharing* and *pointing* gave the same predictions. *Predict:* what do they say now? And the
# trained model, which never saw such a conflict?
#
# **Exercise `distractor_tokens`** (20 minutes).

# %%
STORIES = ["BC", "BBC", "BCC", "BCB"]


def shares_of(model, story):
    """The probabilities of B and of C after the last A, the mean over 256 rows."""
    generator = torch.Generator().manual_seed(1)
    return candidate_shares(model, *distractor_tokens(story, 4, 256, vocab, generator))


figure, axes = plt.subplots(1, 3, figsize=(10.5, 3.9), sharey=True)
answers = {}
for ax, (name, each) in zip(
    axes, (("sharing", sharing), ("pointing", pointing), ("trained", model))
):
    answers[name] = {story: shares_of(each, story) for story in STORIES}
    B, C = torch.stack(list(answers[name].values())).T
    ax.bar(STORIES, 100 * B, color=BLUE, label="B", width=0.7)
    ax.bar(STORIES, 100 * C, bottom=100 * B, color=ORANGE, label="C", width=0.7)
    others = 100 * (1 - B - C)
    ax.bar(STORIES, others, bottom=100 * (B + C), color="lightgrey", label="all others", width=0.7)
    ax.set(title=name, xlabel="what followed A so far, in order")
axes[0].set_ylabel("probability after the last A (%)")
figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right center")
figure.suptitle("Three models that agree on every repeat disagree here", x=0.02, ha="left")
show(figure, "distractors")
trained = answers["trained"]
claim("sharing, BC: probability of B", answers["sharing"]["BC"][0], low=0.412, high=0.413)
claim("pointing, BCC: probability of B", answers["pointing"]["BCC"][0], low=0.99)
claim("trained, BC: B or C", trained["BC"].sum(), low=0.8, measured=0.94)
second_vote = trained["BCC"][1] - trained["BC"][1]
claim("trained, what a second vote adds to C", second_vote, low=-0.1, high=0.5, measured=0.152)
coming_last = trained["BCB"][0] - trained["BBC"][0]
claim("trained, what coming last adds to B", coming_last, low=-0.1, high=0.8, measured=0.378)

# %% [markdown]
# *Sharing* takes a vote: at a tie B and C get the same. *Pointing* believes the first time. The
# trained model does neither: votes count, and the later one wins.
#
# Is that chance? Nothing in training asked for it; there, all earlier followers agreed. *Predict:*
# would a model of another seed prefer the earlier one?
#
# Here is a suspect. Layer 1 sees positions in its queries and keys. Take just these away, `W_pos`
# in layer 1, and ask again.


# %%
def without_positions(model):
    """The model, as a function of tokens, if layer 1's queries and keys saw no positions."""

    def run(tokens):
        place = model.W_pos[: tokens.shape[1]]
        q_part = torch.einsum("pm,hmd->phd", place, model.W_Q[1])
        k_part = torch.einsum("pm,hmd->phd", place, model.W_K[1])
        hooks = [("blocks.1.attn.hook_q", lambda q, hook: q - q_part)]
        hooks.append(("blocks.1.attn.hook_k", lambda k, hook: k - k_part))
        return model.run_with_hooks(tokens, hooks)

    return run


def lead_of_later(run):
    """How much more of B and C's probability goes to C, the later one, after BC: -1 to 1."""
    B, C = shares_of(run, "BC").tolist()
    return (C - B) / (B + C)


blind = without_positions(model)
lead, blind_lead = lead_of_later(model), lead_of_later(blind)
claim("the later one's lead over the earlier", lead, low=0.3, measured=0.7314)
claim("the same, layer 1 without positions", blind_lead, low=-0.4, high=0.9, measured=-0.0164)
claim("how much of the lead is positional", 1 - blind_lead / lead, low=0.1, measured=1.022)
still = induction_accuracy(
    blind, held_out(model, (4, 16)).tokens, held_out(model, (4, 16)).predictable
)
claim("accuracy without positions in layer 1", still, low=0.5, measured=1.0)
in_others("the later one's lead over the earlier", "20 of 20", low=0.3)
in_others("how much of the lead is positional", "14 of 20", low=0.5)


figure, ax = plt.subplots(figsize=(7.5, 3))
for row, run in enumerate((model, blind)):
    B, C = shares_of(run, "BC").tolist()
    ax.barh(row, 100 * B, color=BLUE, label="B, the earlier" if row == 0 else None)
    ax.barh(row, 100 * C, left=100 * B, color=ORANGE, label="C, the later" if row == 0 else None)
ax.set_yticks([0, 1], ["as trained", "layer 1 without\npositions"])
ax.invert_yaxis()
ax.set(xlabel="probability after A B ... A C ... A (%)", xlim=(0, 100))
ax.set_title("Without positions in layer 1 the later one loses its lead")
figure.legend(loc="outside lower center", ncols=2)
show(figure, "later")

# %% [markdown]
# So it is not chance: the later follower leads in 20 of 20 other models. And it is largely
# positional. Here nothing of the lead is left; in 14 of 20 other models more than half of it goes.
# The predictions in the repeat do not suffer.
#
# *Predict:* are positions in layer 1 good for this tie alone? And is the lead as large further on
# in the context? So far the story stood at its start.


# %%
def after_others(tokens, count):
    """The same rows with `count` other tokens, all different, between BOS and the story."""
    order = torch.rand(len(tokens), vocab, generator=torch.Generator().manual_seed(3))
    unused = order.scatter(1, tokens, 2.0).argsort(dim=1)[:, :count]
    return torch.cat([tokens[:, :1], unused, tokens[:, 1:]], dim=1)


def lead_after_others(run, count):
    generator = torch.Generator().manual_seed(1)
    tokens, candidates = distractor_tokens("BC", 4, 256, vocab, generator)
    B, C = candidate_shares(run, after_others(tokens, count), candidates).tolist()
    return (C - B) / (B + C)


def loss_where_unknown(run):
    repeats = held_out(model, (8, 16))
    log_probs = run(repeats.tokens)[:, :-1].log_softmax(dim=-1)
    losses = -log_probs.gather(-1, repeats.tokens[:, 1:, None])[..., 0]
    return losses[~repeats.predictable[:, :-1]].mean()


later = lead_after_others(model, 14)
claim("its lead after 14 other tokens", later, low=-0.5, high=0.8, measured=0.2513)
claim("how much smaller that is", lead - later, low=0.05, measured=0.4801)
in_others("how much smaller that is", "20 of 20", low=0.05)
in_others("its lead after 14 other tokens", "3 of 20", high=0)
guessing, not_resting = loss_where_unknown(model), loss_where_unknown(blind)
claim("loss where nothing can be known", guessing, low=4.1, high=4.3, measured=4.189)
claim("... layer 1 without positions", not_resting, low=5, measured=6.696)
in_others("... layer 1 without positions", "20 of 20", low=6)

# %% [markdown]
# Twice no. Further on the lead is smaller, here and in 20 of 20 other models; in 3 of 20 it is the
# earlier one that leads.
#
# And where nothing can be known, layer 1 without positions no longer guesses: it pays more than 6
# nats, here and in 20 of 20 other models. Positions also help it to say nothing (chapter 9).
#
# So equal accuracy on the training task does not mean the same algorithm. Nor do these bars prove
# one: that takes a look inside. Here is the whole battery, with every control.


# %%
def on_distractors(model):
    """The share of rows in which the best guess is B or C."""
    tokens, candidates = distractor_tokens("BC", 4, 256, vocab, torch.Generator().manual_seed(1))
    guess = model(tokens)[:, -1].argmax(dim=-1, keepdim=True)
    return (guess == candidates).any(dim=1).float().mean().item()


repeats = held_out(model, (9, 9), 256, prefix=0)
third_copy = torch.arange(n_ctx).expand_as(repeats.tokens) >= 19
tests = {
    "period 10": lambda each: accuracy_at_periods(each, (10, 10)),
    "periods 17 to 29": lambda each: accuracy_at_periods(each, (17, 29)),
    "third copy, period 9": lambda each: induction_accuracy(each, repeats.tokens, third_copy),
    "part of a sentence": lambda each: on_part(each, 6),
    "A B ... A C ... A: B or C": on_distractors,
}
everyone = {
    "two\nlayers": model,
    "one\nlayer": one_layer,
    "no\nlayers": no_layers,
    "impostor": impostor,
    "untrained": untrained,
    "sharing\n(handmade)": sharing,
    "pointing\n(handmade)": pointing,
}
table = torch.tensor([[100 * test(each) for each in everyone.values()] for test in tests.values()])
figure, ax = plt.subplots(figsize=(9, 3.9))
image = heatmap(
    ax, table, signed=False, limit=100.0, title="The impostor passes only the first test"
)
write_values(ax, table, "{:.0f}")
ax.set_xticks(range(len(everyone)), everyone, fontsize=9)
ax.set_yticks(range(len(tests)), tests)
ax.set_aspect("auto")
figure.colorbar(image, ax=ax, label="right (%)")
show(figure, "battery")
claim("two layers, worst test (%)", table[:, 0].min(), low=95, measured=100)
claim("impostor, first test (%)", table[0, 3], low=95, measured=100)
claim("impostor, best test but the first (%)", table[1:, 3].max(), high=15)
claim("one layer, last test (%)", table[-1, 1], high=60, measured=32)
claim("untrained, best test (%)", table[:, 4].max(), high=15)

# %% [markdown]
# The 32 % of one layer in the last row is no induction either: the last A lies six back, and the
# picture of test 3 shows that it knows this distance.
#
# ## The same in words
#
# Give each of the 64 tokens a word, in any order. *Predict:* after the second "James", what comes
# next? And where will the model be confident and *wrong*?

# %%
WORDS = """
James Bond Bean orders one dry martini , shaken not stirred . the barman asks : ? yes says a
an my his her name is was who drink glass bar spy man woman walks runs into out of for and
or but never always again tonight Moscow London gun car red black money nobody door watch
poker king queen ace smile cold hot
""".split()
SENTENCE = (
    "James Bond orders one dry martini , shaken not stirred . the barman asks : "
    "shaken not stirred ? yes , says James"
)


def guesses(sentence):
    """The probabilities after each word, [pos, vocab], BOS left out."""
    tokens = torch.tensor([[0] + [1 + WORDS.index(word) for word in sentence.split()]])
    return model(tokens)[0, 1:].softmax(dim=-1)


words = SENTENCE.split()
best, guess = guesses(SENTENCE).max(dim=-1)
figure, ax = plt.subplots(figsize=(7.5, 7))
for row, (probability, token, follows) in enumerate(zip(best, guess, [*words[1:], None])):
    word, sure = ["BOS", *WORDS][token], probability > 0.5
    right = follows in (word, None)
    ax.barh(row, 100 * probability, color="lightgrey" if not sure else BLUE if right else RED)
    note = "no idea" if not sure else f"“{word}”" if right else f"“{word}”, but “{follows}” came"
    x, side, shade = (97, "right", "white") if sure else (4, "left", "dimgrey")
    ax.text(x, row, note, ha=side, va="center", fontsize=9, color=shade)
ax.set_yticks(range(len(words)), words)
ax.margins(y=0.01)
ax.invert_yaxis()
ax.set(
    xlabel="probability of the best guess for the next word (%)",
    ylabel="word just read",
    xlim=(0, 100),
)
ax.set_title("Sure wherever a word was read before, even where that is wrong")
show(figure, "words")
bond, bean = 1 + WORDS.index("Bond"), 1 + WORDS.index("Bean")
renamed, unnamed = SENTENCE.replace("Bond", "Bean"), SENTENCE.replace("James Bond", "a spy")
claim("James Bond ... James: Bond", guesses(SENTENCE)[-1, bond], low=0.8, measured=0.989)
claim("James Bean ... James: Bean", guesses(renamed)[-1, bean], low=0.85, measured=0.983)
claim("a spy ... James: Bond", guesses(unnamed)[-1, bond], high=0.1, measured=0.0106)
claim("the first 'shaken': its best guess", best[7], high=0.15, measured=0.0241)
claim("the second ',': probability of 'shaken', which is wrong", best[20], low=0.8, measured=1.0)

# %% [markdown]
# Rename Bond, and the model says Bean. Take away the first mention, and it has no idea. It knows
# nothing about spies: it knows this sequence. And after "stirred" and "," it is sure and wrong.
# Induction is a bet that what followed once will follow again, and real text sometimes says no.
#
# What these tests do **not** show: everything here is made of random tokens (the words too: their
# ids carry no meaning), at most 32 of them. Synonyms, grammar, longer contexts and competing skills
# do not occur. A language model's induction may look different.
#
# [Try it in the lab](site/lab.html#experiment=names).
#
# ## What you have now
#
# - Five tests, and for each the wrong explanation that it excludes. The impostor passes one, or two
#   with an unlucky gap.
# - A behaviour to explain: any period, any part, one earlier occurrence is enough; in a tie near
#   the start the later leads, partly because of where it stands.
# - A limit: three models, equal on every repeat, answer a conflict in three ways. Testing one task
#   does not decide *how*.
#
# Next: open it. Which heads do this? `python -m course 5`.
