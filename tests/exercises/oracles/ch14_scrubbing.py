"""Oracles for the second half of chapter 14: causal scrubbing in slow loops, and wrong stories."""

import math
from functools import partial

import torch

from solutions.ch14_by_hand import Hypothesis


def anyone(here, members, n):
    return members


def same_row(here, members, n):
    return [there for there in members if there // n == here // n]


def not_itself(here, members, n):
    return [there for there in members if there != here] or [here]


def donors_by_loops(labels, generator, candidates=anyone, one_each=False):
    """For each position the members of its group, one by one, and the one that the draw picks.

    candidates(position, members, positions per row): those of the members that may be picked.
    """
    u = torch.rand(labels.shape, generator=generator).flatten()
    flat, n = labels.flatten().tolist(), labels.shape[1]
    donors = []
    for here, label in enumerate(flat):
        members = [there for there, other in enumerate(flat) if other == label]
        allowed = candidates(here, members, n)
        draw = u[members[0] if one_each else here]
        donors.append(allowed[int(draw * len(allowed))])
    return torch.tensor(donors).view_as(labels)


def labels_unused(labels, generator):
    return donors_by_loops(torch.zeros_like(labels), generator)


def column_numbers(labels, generator):
    return donors_by_loops(labels, generator) % labels.shape[1]


DONOR_MISTAKES = {
    "the labels were not used": labels_unused,
    "donors come from the same row only": partial(donors_by_loops, candidates=same_row),
    "a position never gets itself; all that agree, itself included, have the same chance": partial(
        donors_by_loops, candidates=not_itself
    ),
    "all positions with one label got the same donor": partial(donors_by_loops, one_each=True),
    "the donors are column numbers; number the positions through the whole batch: b * pos + i": (
        column_numbers
    ),
}


def facts(tokens, features):
    """Labels by comparing facts, position by position."""
    seen, labels = {}, []
    for b, row in enumerate(tokens.tolist()):
        for i, token in enumerate(row):
            here = {"token": token, "position": i, "sequence": b, "bos": i == 0}
            here["previous"] = row[i - 1] if i else -1
            labels.append(seen.setdefault(tuple(here[name] for name in features), len(seen)))
    return torch.tensor(labels).view_as(tokens)


def resampled(parts, matters, tokens, generator, unnamed="anywhere", shared=False, ignore=False):
    """resample_parts in loops; the switches are mistakes."""
    total, state = 0.0, generator.get_state()
    for name, each in parts.items():
        if name not in matters and unnamed == "skipped":
            continue
        if shared:
            generator.set_state(state)
        features = () if ignore else matters.get(name, ())
        donors = donors_by_loops(facts(tokens, features), generator).flatten().tolist()
        moved = torch.stack([each.flatten(0, 1)[donor] for donor in donors]).view_as(each)
        if name not in matters and unnamed == "kept":
            moved = each
        if name not in matters and unnamed == "dropped":
            moved = torch.zeros_like(each)
        total = total + moved
    return total


PART_MISTAKES = {
    "parts that are not named were kept as they are; they may come from anywhere": partial(
        resampled, unnamed="kept"
    ),
    "parts that are not named were skipped; they may come from anywhere": partial(
        resampled, unnamed="skipped"
    ),
    "parts that are not named were drawn and left out": partial(resampled, unnamed="dropped"),
    "all parts got the same donors; each needs a draw of its own": partial(resampled, shared=True),
    "donors do not agree in what matters": partial(resampled, ignore=True),
}


def layer_1(model, x, head):
    """What one head of layer 1 writes, query by query; x: what q, k and v read."""
    q = x["q"] @ model.W_Q[1, head].detach()
    k = x["k"] @ model.W_K[1, head].detach()
    v = x["v"] @ model.W_V[1, head].detach()
    z = torch.zeros_like(q)
    for b in range(len(q)):
        for i in range(q.shape[1]):
            pattern = (k[b, : i + 1] @ q[b, i] / math.sqrt(q.shape[-1])).softmax(dim=0)
            z[b, i] = pattern @ v[b, : i + 1]
    return z @ model.W_O[1, head].detach()


def scrubbed(wrong=""):
    """scrub in loops, with one thing `wrong`."""

    def run(model, tokens, story, generator):
        _, cache = model.run_with_cache(tokens)
        content = {"embed": cache["hook_embed"]}
        for head, out in enumerate(cache["blocks.0.attn.hook_result"].unbind(dim=2)):
            content[f"0.{head}"] = out
        embed, *others = content.items()
        parts = dict([embed, ("positions", cache["hook_pos_embed"]), *others])
        x, state = {}, generator.get_state()
        for side in "qkv":
            if wrong == "same donors":
                generator.set_state(state)
            matters = getattr(story, "k" if wrong == "q like k" and side == "q" else side)
            read = content if side == "v" and wrong != "v positions" else parts
            x[side] = resampled(read, matters, tokens, generator)
        if wrong == "last one":
            x = dict.fromkeys("qkv", x["v"])
        out = 0.0
        undisturbed = cache["blocks.1.attn.hook_result"].unbind(dim=2)
        for head in range(model.cfg.n_heads):
            own = layer_1(model, x, head)
            if head in story.heads or wrong == "all heads":
                out = out + own
            elif wrong == "others kept":
                out = out + undisturbed[head]
            else:
                source = own if wrong == "others scrubbed too" else undisturbed[head]
                elsewhere = resampled({"": source}, {}, tokens, generator)
                out = out + (0.0 if wrong == "others zeroed" else elsewhere)
        if wrong == "direct kept":
            direct = sum(content.values())
        else:
            direct = resampled(content, story.direct, tokens, generator)
        return ((0.0 if wrong == "no direct" else direct) + out) @ model.W_U.detach()

    return run


SCRUB_MISTAKES = {
    "positions were given to the values; only q and k read them": scrubbed("v positions"),
    "the direct way was left as it was": scrubbed("direct kept"),
    "the direct way is missing": scrubbed("no direct"),
    "heads that are not in the story went on working": scrubbed("all heads"),
    "heads that are not in the story kept what they wrote undisturbed; resample it": scrubbed(
        "others kept"
    ),
    "queries and keys got the new values: a lambda in a loop read `new` late; bind it, new=new": (
        scrubbed("last one")
    ),
    "heads that are not in the story were zeroed, not resampled": scrubbed("others zeroed"),
    "the other heads' outputs come from the second run; take the undisturbed one": scrubbed(
        "others scrubbed too"
    ),
    "q, k and v got the same donors; each needs a draw of its own": scrubbed("same donors"),
    "the queries were resampled by what the story says of the keys": scrubbed("q like k"),
}


def on_another_story(**changes):
    """scrub in loops, of a story in which something is changed."""
    right = scrubbed()

    def run(model, tokens, story, generator):
        return right(model, tokens, story._replace(**changes), generator)

    return run


TOKEN, PREVIOUS, POSITION = ("token",), ("previous",), ("position",)
EMBED = {"embed": TOKEN}
INDUCTION = Hypothesis((0,), q=EMBED, k={"0.0": PREVIOUS}, v=EMBED)
WRONG_STORIES = {
    "the key needs only its own token": INDUCTION._replace(k={"embed": TOKEN, "0.0": TOKEN}),
    "only the position matters": INDUCTION._replace(
        q={"positions": POSITION}, k={"positions": POSITION}
    ),
    "the query's token does not matter": INDUCTION._replace(q={}),
    "any value will do": INDUCTION._replace(v={}),
}
