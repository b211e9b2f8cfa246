"""What the second half of chapter 14 is checked against: causal scrubbing in slow loops, and
stories known to be wrong.
"""

import math

import torch

from solutions.ch14_by_hand import Hypothesis


def donors_by_loops(labels, generator, candidates=lambda here, members, n: members, one_each=False):
    """For each position the members of its group, one by one, and the one that the draw picks. n:
    positions per row.
    """
    u, flat, n = (
        torch.rand(labels.shape, generator=generator).flatten(),
        labels.flatten().tolist(),
        labels.shape[1],
    )
    donors = []
    for here, label in enumerate(flat):
        members = candidates(
            here, [there for there, other in enumerate(flat) if other == label], n
        ) or [here]
        donors.append(members[int(u[flat.index(label) if one_each else here] * len(members))])
    return torch.tensor(donors).view_as(labels)


DONOR_MISTAKES = {
    "the labels were not used": lambda labels, generator: donors_by_loops(
        torch.zeros_like(labels), generator
    ),
    "donors come from the same row only": lambda labels, generator: donors_by_loops(
        labels, generator, lambda here, members, n: [j for j in members if j // n == here // n]
    ),
    "a position never gets itself; all that agree, itself included, have the same chance": (
        lambda labels, generator: donors_by_loops(
            labels, generator, lambda here, members, n: [j for j in members if j != here]
        )
    ),
    "all positions with one label got the same donor": (
        lambda labels, generator: donors_by_loops(labels, generator, one_each=True)
    ),
    "the donors are column numbers; number the positions through the whole batch: b * pos + i": (
        lambda labels, generator: donors_by_loops(labels, generator) % labels.shape[1]
    ),
}


def facts(tokens, features):
    """Labels by comparing facts, position by position."""
    seen = {}
    labels = []
    for b, row in enumerate(tokens.tolist()):
        for i, token in enumerate(row):
            here = {
                "token": token,
                "previous": row[i - 1] if i else -1,
                "position": i,
                "sequence": b,
                "bos": i == 0,
            }
            labels.append(seen.setdefault(tuple(here[name] for name in features), len(seen)))
    return torch.tensor(labels).view_as(tokens)


def resampled(parts, matters, tokens, generator, unnamed="anywhere", shared=False, ignore=False):
    total, state = 0.0, generator.get_state()
    for name, each in parts.items():
        if name not in matters and unnamed == "skipped":
            continue
        if shared:
            generator.set_state(state)
        donors = donors_by_loops(facts(tokens, () if ignore else matters.get(name, ())), generator)
        moved = torch.stack(
            [each.flatten(0, 1)[donor] for donor in donors.flatten().tolist()]
        ).view_as(each)
        if name not in matters and unnamed != "anywhere":
            moved = each if unnamed == "kept" else torch.zeros_like(each)
        total = total + moved
    return total


PART_MISTAKES = {
    "parts that are not named were kept as they are; they may come from anywhere": (
        lambda *args: resampled(*args, unnamed="kept")
    ),
    "parts that are not named were skipped; they may come from anywhere": lambda *args: resampled(
        *args, unnamed="skipped"
    ),
    "parts that are not named were drawn and left out": lambda *args: resampled(
        *args, unnamed="dropped"
    ),
    "all parts got the same donors; each needs a draw of its own": lambda *args: resampled(
        *args, shared=True
    ),
    "donors do not agree in what matters": lambda *args: resampled(*args, ignore=True),
}


def layer_1(model, x, at, read="qkv"):
    """What one head of layer 1 writes, query by query; x: what q, k and v read, each [batch, pos,
    d_model].
    """
    q, k, v = (x[side] @ getattr(model, f"W_{side.upper()}")[1, at].detach() for side in read)
    z = torch.zeros_like(q)
    for b in range(len(q)):
        for i in range(q.shape[1]):
            pattern = (k[b, : i + 1] @ q[b, i] / math.sqrt(q.shape[-1])).softmax(dim=0)
            z[b, i] = pattern @ v[b, : i + 1]
    return z @ model.W_O[1, at].detach()


def scrubbed(wrong=""):
    """scrub in loops, with one thing `wrong`."""

    def run(model, tokens, story, generator):
        _, cache = model.run_with_cache(tokens)
        heads = cache["blocks.0.attn.hook_result"].unbind(dim=2)
        content = {"embed": cache["hook_embed"]} | {f"0.{h}": out for h, out in enumerate(heads)}
        parts = {"embed": content["embed"], "positions": cache["hook_pos_embed"]} | content
        x, state = {}, generator.get_state()
        for side in "qkv":
            if wrong == "same donors":
                generator.set_state(state)
            matters = getattr(story, "k" if wrong == "q like k" and side == "q" else side)
            x[side] = resampled(
                content if side == "v" and wrong != "v positions" else parts,
                matters,
                tokens,
                generator,
            )
        out = 0.0
        for h in range(model.cfg.n_heads):
            own = layer_1(model, x, h, "vvv" if wrong == "last one" else "qkv")
            if h not in story.heads and wrong == "others kept":
                own = cache["blocks.1.attn.hook_result"][:, :, h]
            elif h not in story.heads and wrong != "all heads":
                undisturbed = (
                    own
                    if wrong == "others scrubbed too"
                    else cache["blocks.1.attn.hook_result"][:, :, h]
                )
                own = resampled({"": undisturbed}, {}, tokens, generator)
                own = 0.0 if wrong == "others zeroed" else own
            out = out + own
        direct = (
            sum(content.values())
            if wrong == "direct kept"
            else resampled(content, story.direct, tokens, generator)
        )
        return ((0.0 if wrong == "no direct" else direct) + out) @ model.W_U.detach()

    return run


SCRUB_MISTAKES = {
    "positions were given to the values; only q and k read them": scrubbed("v positions"),
    "the direct way was left as it was": scrubbed("direct kept"),
    "the direct way is missing": scrubbed("no direct"),
    "heads that are not in the story went on working": scrubbed("all heads"),
    "heads that are not in the story kept what they wrote in the undisturbed run; resample it": scrubbed(
        "others kept"
    ),
    "queries and keys got the new values: a lambda in a loop reads `new` too late; bind it, new=new": scrubbed(
        "last one"
    ),
    "heads that are not in the story were zeroed, not resampled": scrubbed("others zeroed"),
    "the other heads' outputs come from the second run; they belong to the undisturbed one": scrubbed(
        "others scrubbed too"
    ),
    "q, k and v got the same donors; each needs a draw of its own": scrubbed("same donors"),
    "the queries were resampled by what the story says of the keys": scrubbed("q like k"),
}


def on_another_story(**changes):
    """scrub in loops, of a story in which something is changed."""
    return lambda model, tokens, story, generator: scrubbed()(
        model, tokens, story._replace(**changes), generator
    )


INDUCTION = Hypothesis(
    (0,), q={"embed": ("token",)}, k={"0.0": ("previous",)}, v={"embed": ("token",)}
)
WRONG_STORIES = {
    "the key needs only its own token": INDUCTION._replace(
        k={"embed": ("token",), "0.0": ("token",)}
    ),
    "only the position matters": INDUCTION._replace(
        q={"positions": ("position",)}, k={"positions": ("position",)}
    ),
    "the query's token does not matter": INDUCTION._replace(q={}),
    "any value will do": INDUCTION._replace(v={}),
}
