# %% [markdown]
# # Your tools on other people's models
#
# 10 minutes to read. Afterwards you know which of your functions run on a model that somebody else
# built, which line of them has to be written in another way, and where a tool gives no error there
# but a wrong number. Not covered: what is true of larger models.
#
# **The question.** Every function of this course was written against one class of ours. Are they
# tools for that class, or for transformers?
#
# We took the field's names and shapes on purpose: `W_Q` is `[layer, head, d_model, d_head]`, the
# pattern of layer 1 is `blocks.1.attn.hook_pattern`. A library for such work has them, too:
# TransformerLens (Nanda & Bloom 2022, "TransformerLens"). So we put the weights of our models into
# its `HookedTransformer`, which that library announces to drop in version 4, and call each tool on
# both: the same function, the same tokens. Even `shortformer`, positions on q and k only, is there.
#
# *Predict:* which of your tools will give the same numbers, which an error, and which another
# number?

# %%
from collections import Counter
from textwrap import fill

from course.carry_over import measure, their_library
from course.desk import claim, print_table, show
from course.pictures import other_models as pictures
from exercises import stubs

source, rows = measure.stored()
if their_library.is_there():
    source, rows = f"{their_library.version()}, measured now", measure.measure()
else:
    print(f"{their_library.LIBRARY} is not installed. What you see was measured with {source}.")
    print(f"To measure it yourself: {their_library.INSTALL} (several hundred megabytes)")

chapter_of = {name: each for each in stubs.chapters() for name in stubs.exercise_names(each)}


def how(row):
    """What a tool needs, in a word."""
    return (
        "not the same"
        if row.lines is None
        else ("as it is", "one line", "two lines")[len(row.lines)]
    )


columns = ["as it is", "one line", "two lines", "not the same"]
chapters = sorted({chapter_of[name] for name in rows})
counts = Counter((chapter_of[name], how(row)) for name, row in rows.items())
table = [[counts[chapter, column] for column in columns] for chapter in chapters]
print_table("chapter", [f"{int(each[2:4])}" for each in chapters], columns, table, "{:.0f}")
claim("tools that were tried", len(rows), low=80)
light = [name for name, row in rows.items() if row.lines is not None and len(row.lines) < 2]
claim("tools that run as they are or with one line", len(light), low=25)
apart = [row.difference for row in rows.values() if row.lines is not None]
claim("the largest difference of a result", max(apart), high=measure.SAME)

# %% [markdown]
# What reads weights, a cache or a pattern runs as it is, but for a name here and there, and so does
# what only calls the model. What hands over hooks, or asks for some activations only, needs a
# line or two: these calls are spelt differently there.

# %%
indented = {"initial_indent": "  ", "subsequent_indent": "    "}
for name, (_, text) in their_library.LINES.items():
    needed = [tool for tool, row in rows.items() if row.lines and name in row.lines]
    print(f"{name}: write\n    {text}")
    print(fill(f"in {', '.join(needed)}\n", 100, **indented))

# %% [markdown]
# Our `run_with_hooks(tokens, hooks)` takes the hooks as its second argument. There, the second
# argument is what to return, and hooks have to be named: `fwd_hooks=hooks`. Write it so from now
# on; our model understands it as well. And our `run_with_cache` takes hooks; theirs takes none, so
# the hooks go around it, in a `with`.
#
# *Predict:* what happens to a hook that is handed over without its name?

# %%
needy = {name: row for name, row in rows.items() if row.lines}
for said, count in Counter(row.as_it_is for row in needy.values()).items():
    print(f"written for our model, called on the other: {said} in {count} of {len(needy)} tools")
silent = [name for name, row in needy.items() if row.as_it_is == measure.SAYS_OTHER]
print("no error, and another number:", ", ".join(silent))
claim("tools with another number and no error", len(silent), low=1)

# %% [markdown]
# Where the logits are needed it ends in an error, because they are missing. But a tool that looks
# only at the cache gets one: that of a run *without its hook*. A warning is logged; the number
# looks like any other. What would have caught it? Not a second look at the code. A case whose
# answer you know: an intervention that changes nothing at all is suspicious.
#
# The same doubt belongs to this page. Would we notice if the two models were *not* the same? The
# control calls each tool on copies of models with other weights.

# %%
found = {name: (row.difference, row.control) for name, row in rows.items() if row.lines is not None}
title = "The same weights, the same results; other weights, other results"
show(pictures.draw_differences(found, measure.SAME, title), "differences")
control = min(row.control for row in rows.values())
claim("control, other weights: the smallest difference", control, low=measure.SAME)

# %% [markdown]
# Each dot of the lower group is a tool on two models with the same weights, each of the upper one
# the same tool where the weights differ: no tool is blind to the weights.
#
# ## What does not carry over

# %%
for name, row in rows.items():
    if row.lines is None:
        why = measure.REASONS.get(name, "Not known why.")
        print(fill(f"not the same: {name}. {why}", 100))
others = {}
for name in chapter_of:
    if name not in rows:
        others.setdefault(int(chapter_of[name][2:4]), []).append(name)
print("\nnot tried; most take nothing of a model, or make one of ours:")
for chapter, names in others.items():
    print(fill(f"chapter {chapter}: {', '.join(names)}", 100, **indented))

# %% [markdown]
# A tool that runs is not yet a tool that is right. The docstrings say for which models a function
# holds, and larger models break many of these conditions. We did not run one here. What you have to
# ask of it:
#
# - **LayerNorm** before each reading? Then what a head reads is no linear function of the stream.
#   Attribution needs a frozen scale, as in chapter 15. By default that library's `from_pretrained`
#   folds LayerNorm's weights into the matrices behind it and centres what writes to the stream: the
#   same logits, but weights that nobody trained.
# - **Positions** in the stream, or turned into q and k (rotary)? `position_qk_circuit` and
#   `score_from_weights` are written for positions that are added to what q and k read.
# - **Biases?** The heads of GPT-2 have them. `W_V W_O` is then not all that a head writes.
# - **MLPs?** The paths of chapter 8 and the direct inputs of chapter 11 do not know them.
# - **Memory:** what each head writes (`hook_result`) is kept there only if you ask for it, with
#   `use_attn_result`, since it is large.
# - **BOS:** is there one, and did the model see one in training? Heads may rest on it.
#
# So: first the controls of a chapter, then its claims. What you can take along is not a number of a
# small model. It is a set of questions, each with a test that can fail.
