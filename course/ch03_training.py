# %% [markdown]
# # 3. When does it learn?
#
# 30 minutes to read, 120 with the exercises. Afterwards you can make the data, train a model in
# seconds, say when and how suddenly it learns induction, and unmask one that only looks so. Not
# covered: which heads do it (chapters 5 to 9).
#
# **The question.** Does a model get a little better at induction with every step? Or is there a
# moment before which it cannot do it, and after which it can? And what would a model look like that
# fools us?
#
# ## The data
#
# Each row is BOS, a random prefix, a random block, and the block again to the end. The length of
# prefix and block differs from row to row. *Predict:* why not give all rows the same period? Keep
# your answer; it decides this chapter.
#
# **Exercise `make_repeated_tokens`** (20 minutes) draws such rows. **`predictable_mask`** (10
# minutes) says, from the tokens alone, where the next one can be known.

# %%
import torch

from course.desk import claim, show, the_model
from course.pictures import ch03 as pictures
from minitransformer import ModelConfig, Transformer, planted, train
from minitransformer.config import PRESETS
from minitransformer.evaluate import (
    attention,
    held_out,
    predict,
    repeat_scores,
    strict_induction_accuracy,
)
from solutions.ch03_training import (
    chance_loss,
    crossing_step,
    diagnose,
    make_repeated_tokens,
    predictable_mask,
    training_step_by_hand,
)
from solutions.ch04_induction_behaviour import icl_score
from solutions.ch05_finding_heads import prefix_matching_score, previous_token_score
from solutions.ch07_qk_ov_circuits import copying_score, full_ov_circuit, ov_matrix, qk_matrix
from solutions.ch08_composition import composition_table, normalised_composition

model = the_model()
train.choose_threads(model.cfg)  # models this small gain nothing from a second thread
rows = make_repeated_tokens(14, 32, 65, (1, 16), torch.Generator().manual_seed(0))
show(pictures.draw_rows(rows, predictable_mask(rows)), "data")
claim(
    "share of positions whose next token can be known",
    predictable_mask(rows).float().mean(),
    low=0.3,
    high=0.7,
)

# %% [markdown]
# ## What is a good loss?
#
# **Exercise `chance_loss`** (10 minutes) gives what to hold a loss against, in closed form.
# Guessing among 64 tokens costs ln 64 = 4.16 nats. Prefix and block never use a token twice, so
# whoever remembers the k - 1 tokens so far pays only ln(64 - k + 1) for the next. *Predict:* which
# of the two does the trained model pay where nothing can be known?

# %%
once = held_out(model, (29, 29), batch=512, prefix=0)  # BOS and 29 tokens for the first time
loss = predict(model, once.tokens).losses.mean(dim=0)[:29]  # entry i: the loss of token i + 1
without_replacement = torch.tensor([chance_loss(64, seen=k - 1) for k in range(1, 30)])
show(pictures.draw_floors(loss, chance_loss(64), without_replacement), "floors")
claim(
    "mean loss above ln 64", (loss - chance_loss(64)).mean(), low=-0.02, high=0.25, measured=0.031
)
claim(
    "above the floor of a perfect memory",
    (loss - without_replacement).mean(),
    low=0.2,
    high=0.6,
    measured=0.292,
)
by_hand = planted.induction_model(n_ctx=20, s=10.0).double()
exact = repeat_scores(by_hand, held_out(by_hand, (1, 17), batch=64))["loss_predictable"]
claim(
    "hand-built model: loss in the repeat minus closed form",
    exact - chance_loss(20, margin=10.0),
    low=-1e-8,
    high=1e-8,
)

# %% [markdown]
# It guesses among all. To rule out what was seen would need a circuit of its own, and in training
# these tokens weigh only a tenth. In the repeat the floor is 0; a model set by hand stays above it
# by exactly as much as its logits say.
#
# ## One step
#
# **Exercise `training_step_by_hand`** (15 minutes). *Predict:* how many steps does a model of two
# layers need, on rows of 12 tokens with periods 2 to 5?

# %%
generator = torch.Generator().manual_seed(0)
tiny = Transformer(ModelConfig(n_heads=2, d_model=32, d_vocab=14, n_ctx=12), seed=0)
optimizer = torch.optim.AdamW(tiny.parameters(), lr=2e-2, betas=(0.9, 0.99), weight_decay=0.0)
batches = (make_repeated_tokens(32, 13, 14, (2, 5), generator) for _ in range(100))
losses = [training_step_by_hand(tiny, optimizer, tokens) for tokens in batches]
show(pictures.draw_tiny(losses), "tiny")
claim(
    "right next tokens after 100 steps",
    strict_induction_accuracy(tiny, held_out(tiny, (2, 5))),
    low=0.9,
)

# %% [markdown]
# ## The phase change
#
# Now the course's architecture, from three seeds. To save you time, it reads 24 tokens instead of
# 32 and learns a little faster than the shipped model did. Snapshots are kept at log-spaced steps.
# On each we measure:
#
# - the **loss** in the repeat: over all periods, over periods 6 to 12, and with **blind
#   attention**, where each pattern is replaced by its mean over many rows, so that heads still know
#   positions but see no tokens;
# - the **ICL score**, late loss minus early loss (chapter 4);
# - the parts of an induction circuit. **Previous token**: the best such head of layer 0 (chapter
#   5). **Matching**: how much the best head of layer 1 looks at what followed the earlier copy
#   (chapter 5). **Copying**: do layer 1's heads raise the token they attend to (chapter 7)?
#   **K-composition**: does a layer-1 key read what a layer-0 head wrote (chapter 8)?
#
# *Predict:* draw the curves. Which rises first?


# %%
@torch.no_grad()
def blind_loss(model, repeats):
    """The loss in the repeat when no pattern may depend on the tokens of its own row."""
    names = [f"blocks.{layer}.attn.hook_pattern" for layer in range(model.cfg.n_layers)]
    average = [
        (name, lambda pattern, hook: pattern.mean(dim=0, keepdim=True).expand_as(pattern))
        for name in names
    ]
    logits, in_repeat = model.run_with_hooks(repeats.tokens, average), repeats.predictable[:, :-1]
    return torch.nn.functional.cross_entropy(
        logits[:, :-1][in_repeat], repeats.tokens[:, 1:][in_repeat]
    ).item()


@torch.no_grad()
def progress(model, mixed, long):
    """Every progress measure of a two-layer model. mixed, long: rows with all periods, and with
    long ones only.
    """
    (losses, correct), in_repeat = predict(model, mixed.tokens), mixed.predictable[:, :-1]
    first, second = attention(model, long.tokens)
    pairs = composition_table(model, "K")
    one, other = divmod(int(pairs.argmax()), pairs.shape[1])
    return {
        "loss, all periods": losses[in_repeat].mean().item(),
        "loss, periods 6 to 12": repeat_scores(model, long)["loss_predictable"],
        "loss, blind attention": blind_loss(model, mixed),
        "ICL score": icl_score(losses.mean(dim=0), early=1, late=22),
        "copying": sum(copying_score(full_ov_circuit(model, 1, head)) for head in range(4)) / 4,
        "K-composition": normalised_composition(
            ov_matrix(model, 0, one), qk_matrix(model, 1, other).T
        ),
        "previous token": previous_token_score(first).max().item(),
        "matching": prefix_matching_score(second, long.tokens).max().item(),
        "accuracy": correct[in_repeat].float().mean().item(),
    }


BEFORE = 81  # a snapshot on the plateau; the last one is at step 181
cfg = ModelConfig(n_ctx=24)
recipe = PRESETS["fast"].train.changed(steps=181, periods=(1, 12), eval_every=181)
runs = [train.train(cfg, recipe.changed(seed=seed)) for seed in range(3)]


def at_step(run, step):
    """The run's model as it was at a snapshot."""
    model = Transformer(run.model.cfg)
    model.load_state_dict(run.snapshots[step])
    return model


def over_seeds(name, step):
    return torch.tensor([curve[step][name] for curve in curves])


mixed, long = (held_out(runs[0].model, periods, batch=64) for periods in ((1, 12), (6, 12)))
steps = [
    step
    for i, step in enumerate(runs[0].snapshots)
    if step in (0, 4) or step > 80 or (step > 4 and i % 2)
]
curves = [{step: progress(at_step(run, step), mixed, long) for step in steps} for run in runs]
show(pictures.draw_progress(curves), "phase_change")
claim(
    "least loss on long periods at step 81",
    over_seeds("loss, periods 6 to 12", BEFORE).min(),
    low=3.6,
)
claim(
    "largest loss on long periods at step 181",
    over_seeds("loss, periods 6 to 12", 181).max(),
    high=1.0,
)
claim("least accuracy at step 81", over_seeds("accuracy", BEFORE).min(), low=0.38)
claim("largest accuracy at step 81", over_seeds("accuracy", BEFORE).max(), high=0.58)
claim("least accuracy at step 181", over_seeds("accuracy", 181).min(), low=0.9)

# %% [markdown]
# A plateau near 2 nats, not quite half of the tokens right, and then, between steps 95 and 160, a
# fall. On long periods there is hardly a first descent: at step 81 the model still pays nearly as
# much as for guessing.
#
# ## What is the plateau?
#
# *Predict:* half right without induction: how? One guess: heads look some fixed distances back,
# wherever they are, and copy. For short periods that is often right. If so, two things must hold.
# Blinding the attention costs next to nothing on the plateau. And a model of one layer, which
# cannot do induction, gets just as far, period by period.

# %%
others = {
    "no layer": ModelConfig(n_layers=0, n_ctx=24),
    "one layer": ModelConfig(n_layers=1, n_ctx=24),
}
others["one layer, smeared keys"] = ModelConfig(n_layers=1, n_ctx=24, smeared_keys=True)
shallow = {
    name: train.train(other, recipe.changed(steps=102, eval_every=10))
    for name, other in others.items()
}
accuracies = {
    name: {row["step"]: row["induction_accuracy"] for row in run.history}
    for name, run in shallow.items()
}
accuracies["two layers"] = {step: curves[0][step]["accuracy"] for step in steps}


def period_map(model, longest=29):
    """Loss [period, position], the block starting right after BOS."""
    batches = [
        held_out(model, (period, period), batch=32, prefix=0) for period in range(1, longest + 1)
    ]
    return torch.stack([predict(model, repeats.tokens).losses.mean(dim=0) for repeats in batches])


models = at_step(shallow["one layer"], BEFORE), at_step(runs[0], BEFORE), runs[0].model
maps = [period_map(each, longest=12) for each in models]
one_layer, plateau, after = profiles = [
    torch.stack([each[p - 1, p + 1 :].mean() for p in range(1, 13)]) for each in maps
]
show(pictures.draw_layers(accuracies, profiles), "layers")
cost = over_seeds("loss, blind attention", BEFORE) - over_seeds("loss, all periods", BEFORE)
claim("largest cost of blind attention on the plateau (nats)", cost.max(), low=-0.3, high=0.3)
cost = over_seeds("loss, blind attention", 181) - over_seeds("loss, all periods", 181)
claim("least cost of blind attention after the fall (nats)", cost.min(), low=1.0)
claim(
    "one layer and the plateau, mean difference over 12 periods",
    (one_layer - plateau).abs().mean(),
    high=0.4,
)
claim("one layer and two after the fall, the same", (one_layer - after).abs().mean(), low=1.5)
claim("accuracy with no layer", accuracies["no layer"][100], low=0.1, high=0.45)
claim("accuracy with one layer", accuracies["one layer"][100], low=0.4, high=0.62)
in_the_end = strict_induction_accuracy(the_model("one-layer"), mixed)
claim(
    "accuracy with one layer, the shipped model of 800 steps", in_the_end, high=0.7, measured=0.55
)
claim(
    "accuracy with one layer and smeared keys", accuracies["one layer, smeared keys"][100], low=0.93
)

# %% [markdown]
# Both hold. On the plateau no head needs to see a token; all that comes later is attention that
# does. One layer goes on collecting distances and gets no further. No layer can only say "the same
# again", which is right at period 1.
#
# Why can one layer not do it? A key has to say "the token *before* me was A", but is made from its
# own position alone. Layer 0 can bring that in. (Or a layer about as wide as the context is long:
# Sanford, Hsu and Telgarsky 2024.) **Smeared keys** mix each key with the one before it (Elhage et
# al. 2021): the same information, for free. Then one layer is enough, and there is hardly a
# plateau.
#
# ## What comes first?
#
# "First" needs a definition. **Exercise `crossing_step`** (15 minutes): when has a curve gone a
# given share of its way?


# %%
def crossings(name, curve):
    return [
        crossing_step(steps, [curve[step][name] for step in steps], share)
        for share in (0.1, 0.5, 0.9)
    ]


measures = [name for name in curves[0][0] if name not in ("accuracy", "loss, blind attention")]
order = {name: [crossings(name, curve) for curve in curves] for name in measures}
show(pictures.draw_order(order), "order")
begun, half, done = (
    {name: torch.tensor([seed[i] for seed in order[name]]) for name in order} for i in range(3)
)
claim("copying is half-way at step, at the latest", half["copying"].max(), high=25)
claim(
    "share of the ICL score on the plateau",
    (over_seeds("ICL score", BEFORE) / over_seeds("ICL score", 181)).min(),
    low=0.25,
)
claim(
    "K-composition is half-way before matching, by steps",
    (half["matching"] - half["K-composition"]).min(),
    low=3,
)
claim(
    "previous token has begun before matching, by steps",
    (begun["matching"] - begun["previous token"]).min(),
    low=2,
)
claim(
    "half-way the two differ by at most",
    (half["matching"] - half["previous token"]).abs().max(),
    high=15,
)
claim(
    "loss on long periods has begun to fall by step",
    begun["loss, periods 6 to 12"].min(),
    low=50,
    high=125,
)
claim(
    "loss on long periods has gone nine tenths by step",
    done["loss, periods 6 to 12"].max(),
    low=125,
    high=181,
)

# %% [markdown]
# In all three seeds: **copying first, by far** (step 12), while the heads still look at fixed
# distances. So copying is no sign of induction. Nor is the **ICL score**: a good third of it is
# there on the plateau. Of the rest **K-composition** is half-way first, then **matching** and
# **previous token**, together with the loss.
#
# The usual story is "first the previous-token head, then the induction head". Here the
# previous-token score does *begin* first, but on the plateau: one back is a fixed distance too,
# right at period 2. Half-way no order is left. The parts grow together, as if each paid only
# through the others. Two caveats: snapshots are 12 % apart (half of them are used before step 80),
# so small differences mean nothing; and a score is not a cause. For that one must interfere with
# training: Singh et al. 2024, "What needs to go right for an induction head?".
#
# ## The period trap
#
# Back to your first answer. Here is a model that saw period 10 and nothing else: the **impostor**,
# this chapter's control. The usual test for induction heads: repeat 10 random tokens, look for a
# stripe of attention 9 back. Stripe, right answers, done? *Predict:* what does it do at period 11?
# At 5?

# %%
impostor = the_model("impostor")


def stripe(model):
    """The usual test: the best head's mean attention to the token 9 back, on rows of period 10."""
    # layer batch head query key
    patterns = attention(model, held_out(model, (10, 10), batch=64, prefix=0).tokens)
    return patterns.diagonal(-9, dim1=-2, dim2=-1).mean(dim=(1, 3)).max()


claim("stripe of the real model", stripe(model), low=0.5, measured=0.769)
claim("stripe of the impostor", stripe(impostor), low=0.5, measured=0.833)
for period, measured in {10: 1.0, 11: 0.0051, 5: 0.6996, 1: 0.524}.items():
    real, fake = (
        strict_induction_accuracy(each, held_out(each, (period, period)))
        for each in (model, impostor)
    )
    claim(f"period {period}: right answers of the model", real, low=0.95, measured=1.0)
    claim(
        f"period {period}: right answers of the impostor",
        fake,
        low=measured - 0.2,
        high=measured + 0.2,
        measured=measured,
    )
maps = {"The model: right at every period": period_map(model)}
maps["The impostor: right at 10 and its divisors"] = period_map(impostor)
show(pictures.draw_periods(maps), "periods")

# %% [markdown]
# The stripe test likes the impostor as well as the real thing. It has learnt "copy what stood 10
# back". And a careless second period flatters it: what repeats every 5, 2 or 1 tokens also repeats
# every 10, so there it is right from position 11 on. **A fixed period teaches a fixed distance.**
#
# **Exercise `diagnose`** (20 minutes): a verdict that no such habit can pass.

# %%
verdicts = {
    "the model": (model, "induction"),
    "built by hand, K-composition": (planted.induction_model(), "induction"),
    "built by hand, pointer": (planted.pointer_model(), "induction"),
    "the impostor": (impostor, "some periods only"),
    "one layer": (the_model("one-layer"), "some periods only"),
    "two layers on the plateau": (at_step(runs[0], BEFORE), "some periods only"),
    "random weights": (Transformer(cfg, seed=0), "neither"),
}
for name, (each, truth) in verdicts.items():
    verdict = diagnose(each)
    claim(f"{name}: {verdict}. As it should be", verdict == truth, low=1)

# %% [markdown]
# The caveat: this is a verdict on behaviour. The two models built by hand pass it and work in
# different ways (chapter 8). *What* a model does is not yet *how*.
#
# ## What you have now
#
# - Data that nobody can predict without looking at the tokens, and losses to compare with.
# - Induction comes suddenly, after a plateau that is the one-layer solution: fixed distances, blind
#   to tokens.
# - Copying first; composition, previous token and matching together: measured, with a definition of
#   "first".
# - A diagnosis that the impostor cannot pass. It stays with us: every detector to come has to
#   refuse it.
#
# Next: what exactly can the trained model do, and where does it stop? `python -m course 4`.
