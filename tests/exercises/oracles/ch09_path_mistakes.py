"""What people get wrong in chapter 9 about strict_path_model: label -> the function they write."""

from functools import partial

import torch

from tests.exercises.oracles import ch09 as slow


def the_others(parts, names):
    return [part for name, part in parts.items() if name not in names]


def positions_always(model, tokens, queries, keys, values):
    queries = [name for name in queries if name != "positions"] + ["positions"]
    keys = [name for name in keys if name != "positions"] + ["positions"]
    return slow.strict(model, tokens, queries, keys, values)


def whole_stream(model, tokens, queries, keys, values):
    """Values are made from all that is in the stream before layer 1."""
    seen = ["embed", *[f"0.{head}" for head in range(model.cfg.n_heads)]]
    if model.cfg.positional_embedding_type == "standard":
        seen.append("positions")
    return slow.strict(model, tokens, queries, keys, seen)


def each_head(model, tokens, *story):
    heads = [slow.strict(model, tokens, *story, heads=[h]) for h in range(model.cfg.n_heads)]
    return torch.stack(heads, dim=2)


STRICT = {
    "queries and keys met the wrong way round: attention_pattern(q, k)": partial(
        slow.strict, crossed=True
    ),
    "keys were made from the parts of the values": (
        lambda model, tokens, queries, keys, values: slow.strict(
            model, tokens, queries, values, values
        )
    ),
    "values were made from the whole stream; only from the parts in `values`": whole_stream,
    "the parts were averaged; add them up": partial(
        slow.strict, pick=lambda parts, names: [parts[name] / len(names) for name in names]
    ),
    "all heads got the pattern of the first; each has its own": partial(
        slow.strict, pattern_of=lambda head: 0
    ),
    "the sum of the parts was multiplied by their number; only add them up": partial(
        slow.strict, pick=lambda parts, names: [parts[name] * len(names) for name in names]
    ),
    "the logits were subtracted from those of the model; return them": (
        lambda model, tokens, *story: model(tokens).detach() - slow.strict(model, tokens, *story)
    ),
    "the keys saw the parts of the queries as well": (
        lambda model, tokens, queries, keys, values: slow.strict(
            model, tokens, queries, sorted({*queries, *keys}), values
        )
    ),
    "the weights of layer 0 were used; layer 1 reads the parts": partial(slow.strict, layer=0),
    "the logits of each head were returned; add up the heads of layer 1": each_head,
    "queries and keys are exchanged": (
        lambda model, tokens, queries, keys, values: slow.strict(
            model, tokens, keys, queries, values
        )
    ),
    "values were made from the parts of the keys": (
        lambda model, tokens, queries, keys, values: slow.strict(model, tokens, queries, keys, keys)
    ),
    "the patterns of the undisturbed run were used; make them from these q and k": partial(
        slow.strict, clean_pattern=True
    ),
    "the named parts were left out; they are all that is seen": partial(
        slow.strict, pick=the_others
    ),
    "only the first of the named parts was seen": partial(
        slow.strict, pick=lambda parts, names: [parts[name] for name in names[:1]]
    ),
    "the scores were not divided by sqrt(d_head)": partial(slow.strict, scale=False),
    "later keys were seen: the mask is missing": partial(slow.strict, causal=False),
    "the embedding was unembedded too; only what layer 1 writes is": partial(
        slow.strict, direct=["embed"]
    ),
    "what the values see was unembedded too; only what layer 1 writes is": (
        lambda model, tokens, queries, keys, values: slow.strict(
            model, tokens, queries, keys, values, direct=values
        )
    ),
    "what layer 0 writes was unembedded too; only what layer 1 writes is": partial(
        slow.strict, direct=["0.0", "0.1", "0.2"]
    ),
    "the whole stream was unembedded; only what layer 1 writes is": partial(
        slow.strict, direct=["embed", "0.0", "0.1", "0.2"]
    ),
    "positions were added to q and k although nobody named them": positions_always,
    "only the first head of layer 1 writes; all of them do": partial(slow.strict, heads=[0]),
}


def without_unnamed_positions(model, tokens, *story):
    """The parts of a run that had no positions, if nobody named them."""
    named = "positions" in story[0] + story[1] + story[2]
    hooks = [] if named else [("hook_pos_embed", lambda x, hook: 0 * x)]
    return slow.strict(model, tokens, *story, hooks=hooks)


UNDISTURBED = {
    "the heads of layer 0 were run again without the positions; the parts are those of the "
    "undisturbed run": without_unnamed_positions
}
MEANS_ALL = {
    "an empty list was taken for all parts; it is a stream of zeros": partial(
        slow.strict, pick=lambda parts, names: [parts[name] for name in names or parts]
    )
}
LEFT_OUT = {label: wrong for label, wrong in STRICT.items() if "left out" in label}
