# %% [markdown]
# # 3. When does it learn?
#
# 30 minutes to read, 120 with the exercises. Afterwards you can make the data, train a model in
# seconds, say when and how suddenly it learns induction, and unmask one that only looks so. Not
# covered: which heads do it (chapters 5 to 9).
#
# **The question.** Does a model get a little better at induction with every step? Or is there a
# moment before which it cannot? And what would a model look like that fools us?
#
# ## The data
#
# Each row is BOS, a random prefix, a random block, and the block again to the end. The length of
# the block, its *period*, differs from row to row, and so does the prefix. Why not give all rows
# the same period? Keep your answer.
#
# **Exercise `make_repeated_tokens`** (20 minutes) draws such rows. **`predictable_mask`** (10
# minutes) says, from the tokens alone, where the next one can be known.

# %%
import torch

from course.desk import claim, fresh_seeds, show, the_model, untrained_model
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
from solutions.ch07_qk_ov_circuits import centre, copying_accuracy, copying_score, full_ov_circuit
from solutions.ch08_composition import token_space_composition

model = the_model()
train.choose_threads(model.cfg)  # models this small gain nothing from a second thread
rows = make_repeated_tokens(14, 32, 65, (1, 16), torch.Generator().manual_seed(0))
show(pictures.draw_rows(rows, predictable_mask(rows)), "data")
known = predictable_mask(rows).float().mean()
claim("share of positions whose next token can be known", known, low=0.3, high=0.7)

# %% [markdown]
# ## What is a good loss?
#
# *Route `core`: on to "The phase change".*
#
# The loss is -log p(right token), with the natural logarithm; its unit is the *nat*. What to hold
# it against:
#
# - Guessing among 64 tokens costs ln 64 = 4.16 nats.
# - Prefix and block never use a token twice. So whoever remembers the k - 1 tokens so far pays only
#   ln(64 - k + 1).
#
# **Exercise `chance_loss`** (10 minutes) gives both. *Predict:* which of the two does the trained
# model pay where nothing can be known?

# %%
once = held_out(model, (29, 29), batch=512, prefix=0)  # BOS and 29 tokens for the first time
loss = predict(model, once.tokens).losses.mean(dim=0)[:29]  # entry i: the loss of token i + 1
floor = torch.tensor([chance_loss(64, seen=k - 1) for k in range(1, 30)])
show(pictures.draw_floors(loss, chance_loss(64), floor), "floors")
above = (loss - chance_loss(64)).mean()
claim("mean loss above ln 64", above, low=-0.02, high=0.25, measured=0.031)
above = (loss - floor).mean()
claim("above the floor of a perfect memory", above, low=0.2, high=0.6, measured=0.292)
by_hand = planted.induction_model(n_ctx=20, s=10.0).double()
exact = repeat_scores(by_hand, held_out(by_hand, (1, 17), batch=64))["loss_predictable"]
above = exact - chance_loss(20, margin=10.0)
claim("model set by hand: loss in the repeat minus closed form", above, low=-1e-8, high=1e-8)

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
def right_at_2_to_5(model):
    return strict_induction_accuracy(model, held_out(model, (2, 5)))


seed = fresh_seeds(1)[0]
generator = torch.Generator().manual_seed(seed)
tiny = Transformer(ModelConfig(n_heads=2, d_model=32, d_vocab=14, n_ctx=12), seed=seed)
optimizer = torch.optim.AdamW(tiny.parameters(), lr=2e-2, betas=(0.9, 0.99), weight_decay=0.0)
losses = []
for _ in range(100):
    tokens = make_repeated_tokens(32, 13, 14, (2, 5), generator)
    losses.append(training_step_by_hand(tiny, optimizer, tokens))
show(pictures.draw_tiny(losses), "tiny")
right = right_at_2_to_5(tiny)
claim("right next tokens after 100 steps", right, low=0.9, untrained=right_at_2_to_5)

# %% [markdown]
# ## The phase change
#
# Now the course's architecture, from three seeds; to save time, on 24 tokens instead of 32, and
# learning a little faster. On snapshots we measure what later chapters define:
#
# - the **loss** in the repeat: over all periods, and over periods 6 to 12;
# - the same with **blind attention**: each pattern is replaced by its mean over many rows;
# - the **ICL score**: late loss minus early loss;
# - **previous token**: the attention of the best layer-0 head to the token just before;
# - **prefix matching**: the attention of the best layer-1 head to what followed the earlier copy of
#   the current token;
# - **copying score** and **copying accuracy**: do layer 1's heads raise the token they attend to,
#   and is it the one that they raise most?
# - **K-composition**: how far a layer-0 head moves a score of a layer-1 head through its keys.
#
# *Predict:* draw the curves. Which rises first?


# %%
@torch.no_grad()
def blind_loss(model, repeats):
    """The loss in the repeat when no pattern may depend on the tokens of its own row."""

    def average(pattern, hook):
        return pattern.mean(dim=0, keepdim=True).expand_as(pattern)

    everywhere = [(lambda name: name.endswith("hook_pattern"), average)]
    logits = model.run_with_hooks(repeats.tokens, everywhere if model.cfg.n_layers else [])
    in_repeat = repeats.predictable[:, :-1]
    following = repeats.tokens[:, 1:][in_repeat]
    return torch.nn.functional.cross_entropy(logits[:, :-1][in_repeat], following).item()


@torch.no_grad()
def progress(model, mixed, long):
    """Every measure of a two-layer model. mixed, long: rows with all periods, and with long ones
    only.
    """
    losses, correct = predict(model, mixed.tokens)
    in_repeat = mixed.predictable[:, :-1]
    first, second = attention(model, long.tokens)
    copying = [centre(full_ov_circuit(model, 1, head)) for head in range(4)]
    return {
        "loss, all periods": losses[in_repeat].mean().item(),
        "loss, periods 6 to 12": repeat_scores(model, long)["loss_predictable"],
        "loss, blind attention": blind_loss(model, mixed),
        "ICL score": icl_score(losses.mean(dim=0), early=1, late=22),
        "copying score": sum(copying_score(circuit) for circuit in copying) / 4,
        "copying accuracy": sum(copying_accuracy(circuit) for circuit in copying) / 4,
        "K-composition": token_space_composition(model, "K").max().item(),
        "previous token": previous_token_score(first).max().item(),
        "prefix matching": prefix_matching_score(second, long.tokens).max().item(),
        "accuracy": correct[in_repeat].float().mean().item(),
    }


cfg = ModelConfig(n_ctx=24)
recipe = PRESETS["fast"].train.changed(steps=181, periods=(1, 12), eval_every=181)
runs = [train.train(cfg, recipe.changed(seed=seed)) for seed in fresh_seeds(3)]


def at_step(run, step):
    """The run's model as it was at a snapshot."""
    model = Transformer(run.model.cfg)
    model.load_state_dict(run.snapshots[step])
    return model


mixed = held_out(runs[0].model, (1, 12), batch=64)
long = held_out(runs[0].model, (6, 12), batch=64)
kept = list(runs[0].snapshots)  # 12 % apart
early = [step for step in kept if 4 < step < 60]
steps = [0, 4, *early[::2], *[step for step in kept if step > 60]]
curves = [{step: progress(at_step(run, step), mixed, long) for step in steps} for run in runs]


def over_seeds(name, step):
    return torch.tensor([curve[step][name] for curve in curves])


def crossings(name, curve):
    """The steps at which a curve has gone 10, 50 and 90 % of its way."""
    values = [curve[step][name] for step in steps]
    return [crossing_step(steps, values, share) for share in (0.1, 0.5, 0.9)]


fall = torch.tensor([crossings("loss, periods 6 to 12", curve) for curve in curves])  # seed share
show(pictures.draw_progress(curves, fall), "phase_change")
long_loss = "loss, periods 6 to 12"
claim("least loss on long periods at step 81", over_seeds(long_loss, 81).min(), low=3.6)
claim("largest loss on long periods at step 181", over_seeds(long_loss, 181).max(), high=1.0)
claim("least accuracy at step 81", over_seeds("accuracy", 81).min(), low=0.38)
claim("largest accuracy at step 81", over_seeds("accuracy", 81).max(), high=0.58)
claim("least accuracy at step 181", over_seeds("accuracy", 181).min(), low=0.9)

# %% [markdown]
# On long periods there is a plateau: at step 81 the model still pays nearly as much as for
# guessing. Then the loss falls. The grey band runs from the first seed that has gone a tenth of the
# way to the last that has gone nine tenths.
#
# How sudden is that? **Exercise `crossing_step`** (15 minutes): when has a curve gone a given share
# of its way? *Predict:* how many steps does the fall take?

# %%
begun, done = fall[:, 0], fall[:, 2]
claim("fall on long periods: first seed begins at step", begun.min(), low=60, high=115)
claim("fall on long periods: last seed ends at step", done.max(), low=140, high=180)
claim("fall on long periods: shortest (steps)", (done - begun).min(), low=40, high=90)
claim("fall on long periods: longest (steps)", (done - begun).max(), low=50, high=105)
slow = over_seeds("loss, all periods", 64) - over_seeds("loss, all periods", 91)
claim("loss over all periods, steps 64 to 91: least fall (nats)", slow.min(), low=0.1, high=0.4)
late = [step for step in steps if step > 80]
slopes = []
for here, there in zip(late, late[1:]):
    change = over_seeds("loss, all periods", here) - over_seeds("loss, all periods", there)
    slopes.append(change / (there - here))
steeper = torch.stack(slopes).max(dim=0).values / (slow / 27)
claim("its steepest stretch, times as steep (least of the seeds)", steeper.min(), low=1.5, high=6)

# %% [markdown]
# So "sudden" means: a third of the training or more, before which next to nothing happens on long
# periods. Over *all* periods no plateau is flat: the loss creeps down, then falls faster. At step
# 81 nearly half of the tokens are right already.
#
# ## What is the plateau?
#
# *Route `core`: on to "The period trap".*
#
# *Predict:* half right without induction: how? One guess: heads look fixed distances back
# and copy. For short periods that is often right. If so, blinding the attention costs next to
# nothing on the plateau. And a model of one layer, which does not learn induction, gets just as
# far, period by period.


# %%
def period_map(model, longest=29):
    """Loss [period, position], the block starting right after BOS."""
    losses = []
    for period in range(1, longest + 1):
        repeats = held_out(model, (period, period), batch=32, prefix=0)
        losses.append(predict(model, repeats.tokens).losses.mean(dim=0))
    return torch.stack(losses)


def loss_by_period(model):
    losses = period_map(model, longest=12)
    return torch.stack([losses[p - 1, p + 1 :].mean() for p in range(1, 13)])


others = {
    "no layers": ModelConfig(n_layers=0, n_ctx=24),
    "one layer": ModelConfig(n_layers=1, n_ctx=24),
    "one layer, smeared keys": ModelConfig(n_layers=1, n_ctx=24, smeared_keys=True),
}
shorter = recipe.changed(steps=102, eval_every=10, seed=fresh_seeds(1)[0])
shallow = {name: train.train(config, shorter) for name, config in others.items()}
accuracies = {}  # accuracy on predictable tokens: name -> step -> share
for name, run in shallow.items():
    accuracies[name] = {row["step"]: row["induction_accuracy"] for row in run.history}
accuracies["two layers"] = {step: curves[0][step]["accuracy"] for step in steps}
one_layer = loss_by_period(at_step(shallow["one layer"], 81))
plateau, after = loss_by_period(at_step(runs[0], 81)), loss_by_period(runs[0].model)
show(pictures.draw_layers(accuracies, [one_layer, plateau, after]), "layers")
blind = over_seeds("loss, blind attention", 81) - over_seeds("loss, all periods", 81)
claim("largest cost of blind attention on the plateau (nats)", blind.max(), low=-0.3, high=0.3)
blind = over_seeds("loss, blind attention", 181) - over_seeds("loss, all periods", 181)
claim("least cost of blind attention after the fall (nats)", blind.min(), low=1.0)
apart = (one_layer - plateau).abs().mean()
claim("one layer and the plateau, mean difference over 12 periods", apart, high=0.4)
apart = (one_layer - after).abs().mean()
claim("one layer and two layers after the fall, the same", apart, low=1.5)

# %% [markdown]
# Both hold. On the plateau no head needs a token. Edelman et al. 2024, "The Evolution of
# Statistical Induction Heads" (arXiv 2402.11004) found a plateau on a simpler solution too, on
# Markov chains. How far do simpler models get?

# %%
claim("accuracy without layers", accuracies["no layers"][100], low=0.1, high=0.45)
claim("accuracy with one layer", accuracies["one layer"][100], low=0.4, high=0.62)
in_the_end = strict_induction_accuracy(the_model("one-layer"), mixed)
claim("one layer, the shipped model of 800 steps", in_the_end, high=0.7, measured=0.55)
smeared = accuracies["one layer, smeared keys"][100]
claim("accuracy with one layer and smeared keys", smeared, low=0.93)

# %% [markdown]
# A model without layers can only say "the same again", right at period 1. A model with one
# layer goes on collecting distances.
#
# Why does one layer not learn it? A key has to say "the token *before* me was A", but it is made
# from its own position alone. A head of layer 0 can bring that token in. So can **smeared keys**,
# which mix each key with the one before it (Olsson et al. 2022, "In-context Learning and Induction
# Heads", Argument 2); then one layer is enough. That this layer *cannot* do it is not proved: it
# lies above the bound of Sanford, Hsu and Telgarsky 2024, "One-layer transformers fail to solve the
# induction heads task" (arXiv 2408.14332).
#
# ## What comes first?
#
# A curve has *begun* when it has gone a tenth of its way.

# %%
measures = [name for name in curves[0][0] if name not in ("accuracy", "loss, blind attention")]
order = {name: [crossings(name, curve) for curve in curves] for name in measures}
show(pictures.draw_order(order), "order")
begun = {name: torch.tensor([seed[0] for seed in order[name]]) for name in order}
half = {name: torch.tensor([seed[1] for seed in order[name]]) for name in order}
claim("copying score: the last seed is half-way at step", half["copying score"].max(), high=25)
last = half["copying accuracy"].max()
claim("copying accuracy: the last seed is half-way at step", last, low=25, high=60)
share = (over_seeds("ICL score", 81) / over_seeds("ICL score", 181)).min()
claim("least share of the ICL score that is there at step 81", share, low=0.25)

# %% [markdown]
# In all three seeds **copying comes first**: its score is half-way at step 12, its accuracy later
# but before the fall. So copying is no sign of induction. Nor is the **ICL score**, a good part of
# which is there on the plateau.

# %%
lead = (begun["prefix matching"] - begun["K-composition"]).min()
claim("K-composition has begun before prefix matching, by steps", lead, low=15)
grown = token_space_composition(model, "K").max() / over_seeds("K-composition", 181).mean()
claim("K-composition of the shipped model, times as large", grown, low=1.1)
lead = (begun["prefix matching"] - begun["previous token"]).min()
claim("previous token has begun before prefix matching, by steps", lead, low=2)
apart = (half["prefix matching"] - half["previous token"]).abs().max()
claim("half-way these two differ by at most (steps)", apart, high=15)

# %% [markdown]
# **K-composition** begins before **prefix matching** and goes on growing: the shipped model,
# trained longer, has twice as much. So when it is half-way depends on where one stops.
#
# The textbook story is "first the previous-token head, then the induction head"; Reddy 2023, "The
# mechanistic basis of data dependence and abrupt learning in an in-context classification task"
# (arXiv 2312.03002) finds such a sequence. Here the **previous-token** score does *begin* before,
# but on the plateau: one back is a fixed distance too. Then both grow together. A score is no
# cause. For causes one must interfere with training: Singh et al. 2024, "What needs to go right for
# an induction head?" (arXiv 2404.07129).
#
# ## The period trap
#
# Back to your first answer. Here is a model that saw period 10 only: the **impostor**, this
# chapter's control. The usual test for induction heads: repeat 10 random tokens, and look for a
# stripe of attention one period back, less one. *Predict:* what does it do at period 11? At 5?

# %%
impostor = the_model("impostor")


@torch.no_grad()
def stripe(model):
    """The usual test: the best head's mean attention to the token 9 back, on rows of period 10."""
    tokens = held_out(model, (10, 10), batch=64, prefix=0).tokens
    patterns = attention(model, tokens)  # layer batch head query key
    return patterns.diagonal(-9, dim1=-2, dim2=-1).mean(dim=(1, 3)).max()


def right_at(model, period):
    return strict_induction_accuracy(model, held_out(model, (period, period)))


maps = {"The model: right at every period": period_map(model)}
maps["After ten tokens, the impostor:\nright at 10 and its divisors"] = period_map(impostor)
show(pictures.draw_periods(maps), "periods")
claim("stripe of the real model", stripe(model), low=0.5, measured=0.769, untrained=stripe)
claim("stripe of the impostor", stripe(impostor), low=0.5, measured=0.833, untrained=stripe)
worst = min(right_at(model, period) for period in (1, 5, 10, 11))
claim("the model at periods 1, 5, 10, 11: worst accuracy", worst, low=0.95, measured=1.0)

# %% [markdown]
# The stripe test likes the impostor, too. It has learnt "copy what stood 10 back".

# %%
claim("impostor at period 10", right_at(impostor, 10), low=0.95, measured=1.0)
claim("impostor at period 11", right_at(impostor, 11), high=0.05, measured=0.0051)
claim("impostor at period 5", right_at(impostor, 5), low=0.5, high=0.9, measured=0.6996)
claim("impostor at period 1", right_at(impostor, 1), low=0.3, high=0.8, measured=0.524)
only_2 = train.train(cfg, recipe.changed(seed=fresh_seeds(1)[0], periods=(2, 2))).model
claim("a model that saw period 2 only, at period 3", right_at(only_2, 3), low=0.15, high=0.6)

# %% [markdown]
# A careless second period flatters it: what repeats every 5 tokens also repeats every 10. **A fixed
# period allows a fixed distance.** It does not enforce one: a model that saw only period 2 is right
# at period 3 more often than one guess in 64.
#
# [Try it in the lab](site/lab.html#experiment=impostor-10).
#
# **Exercise `diagnose`** (20 minutes): a verdict that no such habit can pass. It predicts a
# thousand tokens at *every* period, early and late ones, and says between which bounds the accuracy
# lies where the model does worst. Three models are new: the **lag matcher** looks where the
# *previous* token stood before, so it fails where a repeat has just begun; one is silent before
# position 16; one cannot *say* 6 of its 20 tokens.

# %%
mute = planted.induction_model()
with torch.no_grad():
    mute.W_U[:, -6:] = 0.0


class Late(Transformer):
    """A model that guesses until it has read 16 tokens."""

    def forward(self, tokens, *hooks):
        logits = super().forward(tokens, *hooks)
        late = torch.arange(tokens.shape[1]) >= 16
        return logits * late[:, None]


late = Late(model.cfg)
late.load_state_dict(model.state_dict())
zoo = {
    "the model": (model, "induction"),
    "set by hand, K-composition": (planted.induction_model(), "induction"),
    "set by hand, pointer": (planted.pointer_model(), "induction"),
    "the impostor: a fixed distance": (impostor, "in part"),
    "the lag matcher: a wrong key": (planted.lag_model(), "in part"),
    "silent before position 16": (late, "in part"),
    "mute at 6 of 20 tokens": (mute, "in part"),
    "one layer": (the_model("one-layer"), "in part"),
    "two layers on the plateau": (at_step(runs[0], 81), "in part"),
    "random weights": (untrained_model(), "no"),
}
print("                                  verdict    worst at   accuracy there")
right = []
for name, (each, truth) in zoo.items():
    found = diagnose(each)
    right.append(found.verdict == truth)
    where = f"period {found.period}"
    print(f"  {name:31} {found.verdict:10} {where:10} {found.low:.3f} to {found.high:.3f}")
claim("verdicts as they should be, of ten", sum(right), low=10)

# %% [markdown]
# "In part" has many reasons; the worst period need not tell which. And a verdict is about
# behaviour: both models set by hand pass it, and work in different ways (chapter 8).
#
# ## What you have now
#
# - Data that cannot be predicted without looking at the tokens, and losses to compare with.
# - Induction comes after a plateau that is the one-layer solution: fixed distances, blind to
#   tokens.
# - Copying first; composition begins before prefix matching.
# - A diagnosis that the impostor and the lag matcher cannot pass: every detector to come has to
#   refuse them.
#
# Next: what exactly can the trained model do, and where does it stop? `python -m course 4`.
