"""scrub in slow loops, and what people get wrong in it: the same steps, one of them changed."""

from typing import NamedTuple

import torch

from tests.exercises.oracles.ch14_donors import donors_by_loops
from tests.exercises.oracles.ch14_scrubbing import fetched, layer_1, resampled


class Steps(NamedTuple):
    """One scrubbing: what it is given, and what the undisturbed run gave."""

    model: object
    tokens: torch.Tensor
    story: object
    generator: torch.Generator
    parts: dict  # what q and k read
    content: dict  # what v and the direct way read
    written: list  # what each head of layer 1 wrote, [batch, pos, d_model]

    def resample(self, parts, matters):
        return resampled(parts, matters, self.tokens, self.generator)


def undisturbed(model, tokens, story, generator):
    _, cache = model.run_with_cache(tokens)
    heads = cache["blocks.0.attn.hook_result"].unbind(dim=2)
    content = {"embed": cache["hook_embed"]}
    parts = content | {"positions": cache["hook_pos_embed"]}
    content |= {f"0.{head}": out for head, out in enumerate(heads)}
    parts |= content
    if model.cfg.positional_embedding_type == "standard":
        content = parts
    written = list(cache["blocks.1.attn.hook_result"].unbind(dim=2))
    return Steps(model, tokens, story, generator, parts, content, written)


def read(s: Steps):
    """The streams of q, k and v, drawn in this order."""
    x = {"q": s.resample(s.parts, s.story.q), "k": s.resample(s.parts, s.story.k)}
    return x | {"v": s.resample(s.content, s.story.v)}


def elsewhere(s: Steps, head, own):
    """What a head writes that is not in the story."""
    return s.resample({"": s.written[head]}, {})


def direct(s: Steps):
    return s.resample(s.content, s.story.direct)


def in_story(s: Steps, head, own):
    return own


def heads_then_direct(s: Steps, x, of_story, of_others, way):
    """What the heads write, one after another, then the direct way: the sum."""
    out = 0.0
    for head in range(s.model.cfg.n_heads):
        own = layer_1(s.model, x, head)
        out = out + (of_story if head in s.story.heads else of_others)(s, head, own)
    return out + way(s)


def direct_then_heads(s: Steps, x, of_story, of_others, way):
    """The direct way is drawn first."""
    early = way(s)
    return heads_then_direct(s, x, of_story, of_others, lambda s: 0.0) + early


def scrubbed(
    read=read, of_story=in_story, of_others=elsewhere, way=direct, add_up=heads_then_direct
):
    """scrub, with other streams read, other things written by heads in the story and not in it,
    another direct way, or another order; the defaults are right.
    """

    def run(model, tokens, story, generator):
        s = undisturbed(model, tokens, story, generator)
        return (add_up(s, read(s), of_story, of_others, way) @ model.W_U).detach()

    return run


def keys_first(s: Steps):
    k = s.resample(s.parts, s.story.k)
    q = s.resample(s.parts, s.story.q)
    return {"q": q, "k": k, "v": s.resample(s.content, s.story.v)}


def values_first(s: Steps):
    v = s.resample(s.content, s.story.v)
    return {"q": s.resample(s.parts, s.story.q), "k": s.resample(s.parts, s.story.k), "v": v}


def one_stream(s: Steps):
    """Queries and keys share a draw."""
    q = s.resample(s.parts, s.story.q)
    return {"q": q, "k": q, "v": s.resample(s.content, s.story.v)}


def last_stream(s: Steps):
    return dict.fromkeys("qkv", read(s)["v"])


def same_donors(s: Steps):
    state, x = s.generator.get_state(), {}
    for side, parts in (("q", s.parts), ("k", s.parts), ("v", s.content)):
        s.generator.set_state(state)
        x[side] = s.resample(parts, getattr(s.story, side))
    return x


def parts_of(q=None, v=None):
    """Other parts for q and k, or for v: q(steps), v(steps)."""

    def function(s: Steps):
        placed, moved = q(s) if q else s.parts, v(s) if v else s.content
        x = {"q": s.resample(placed, s.story.q), "k": s.resample(placed, s.story.k)}
        return x | {"v": s.resample(moved, s.story.v)}

    return function


def without_positions(s: Steps):
    return {name: part for name, part in s.parts.items() if name != "positions"}


def keys_without_positions(s: Steps):
    x = {"q": s.resample(s.parts, s.story.q), "k": s.resample(s.content, s.story.k)}
    return x | {"v": s.resample(s.content, s.story.v)}


def others_first(s: Steps):
    """The streams, drawn after what the heads outside the story write."""
    for head in range(s.model.cfg.n_heads):
        if head not in s.story.heads:
            s.written[head] = elsewhere(s, head, None)
    return read(s)


def told(change):
    """The streams of another story: change(story) -> names and new values."""
    return lambda s: read(s._replace(story=s.story._replace(**change(s.story))))


def nothing(s: Steps, head, own):
    return 0.0


def one_draw_for_all():
    """Others fetched with donors that are drawn once, for the first of them."""
    drawn = {}

    def function(s: Steps, head, own):
        if drawn.get("of") is not s:
            drawn.update(of=s, donors=donors_by_loops(torch.zeros_like(s.tokens), s.generator))
        return fetched(s.written[head], drawn["donors"])

    return function


def falling(s: Steps, x, of_story, of_others, way):
    out = 0.0
    for head in reversed(range(s.model.cfg.n_heads)):
        own = layer_1(s.model, x, head)
        out = out + (of_story if head in s.story.heads else of_others)(s, head, own)
    return out + way(s)


def second_run_only(s: Steps, x, of_story, of_others, way):
    """q, k and v replaced, and the rest of the run kept as it is."""
    return sum(layer_1(s.model, x, head) for head in range(len(s.written))) + sum(
        s.content.values()
    )


SCRUB_MISTAKES = {
    "positions were given to the values, though they are not in the stream": scrubbed(
        read=parts_of(v=lambda s: s.parts)
    ),
    "positions never reach the values; with standard embeddings they are in the stream": scrubbed(
        read=parts_of(v=without_positions)
    ),
    "positions go past layer 1, though they are not in the stream": scrubbed(
        way=lambda s: s.resample(s.parts, s.story.direct)
    ),
    "positions reach nothing: with standard embeddings they are in the stream": scrubbed(
        read=parts_of(v=without_positions),
        way=lambda s: s.resample(without_positions(s), s.story.direct),
    ),
    "positions go to the values and past layer 1, though they are not in the stream": scrubbed(
        read=parts_of(v=lambda s: s.parts), way=lambda s: s.resample(s.parts, s.story.direct)
    ),
    "the keys read no positions; q and k always read them": scrubbed(read=keys_without_positions),
    "the other heads were drawn before queries, keys and values": scrubbed(
        read=others_first, of_others=lambda s, head, own: s.written[head]
    ),
    "queries and keys read no positions; q and k always read them": scrubbed(
        read=parts_of(q=lambda s: s.content)
    ),
    "the keys were drawn before the queries": scrubbed(read=keys_first),
    "the values were drawn before queries and keys": scrubbed(read=values_first),
    "queries and keys share one resampled stream; each needs a draw of its own": scrubbed(
        read=one_stream
    ),
    "q, k and v got the same donors; each needs a draw of its own": scrubbed(read=same_donors),
    "queries and keys got the new values: a lambda in a loop read `new` late; bind it, new=new": (
        scrubbed(read=last_stream)
    ),
    "the queries were resampled by what the story says of the keys": scrubbed(
        read=told(lambda story: {"q": story.k})
    ),
    "the keys were resampled by what the story says of the queries": scrubbed(
        read=told(lambda story: {"k": story.q})
    ),
    "what the story says of queries and of keys is exchanged": scrubbed(
        read=told(lambda story: {"q": story.k, "k": story.q})
    ),
    "heads that are not in the story went on working": scrubbed(of_others=in_story),
    "heads that are not in the story kept what they wrote undisturbed; resample it": scrubbed(
        of_others=lambda s, head, own: s.written[head]
    ),
    "heads that are not in the story were zeroed, not resampled": scrubbed(of_others=nothing),
    "the other heads' outputs come from the second run; take the undisturbed one": scrubbed(
        of_others=lambda s, head, own: s.resample({"": own}, {})
    ),
    "all heads that are not in the story share one draw; each needs its own": scrubbed(
        of_others=one_draw_for_all()
    ),
    "heads that are not in the story had to agree in what the values need; nothing has to": (
        scrubbed(
            of_others=lambda s, head, own: s.resample(
                {"": s.written[head]}, {"": s.story.v.get("embed", ())}
            )
        )
    ),
    "the other heads were drawn in falling order": scrubbed(add_up=falling),
    "the heads in the story were resampled, the others went on working": scrubbed(
        of_story=elsewhere, of_others=in_story
    ),
    "all heads were resampled, also those in the story": scrubbed(of_story=elsewhere),
    "the heads in the story write what they wrote undisturbed; take the second run": scrubbed(
        of_story=lambda s, head, own: s.written[head]
    ),
    "the direct way was left as it was": scrubbed(way=lambda s: sum(s.content.values())),
    "the direct way is the undisturbed embedding; resample all that goes past layer 1": scrubbed(
        way=lambda s: s.content["embed"]
    ),
    "the direct way is missing": scrubbed(way=lambda s: 0.0),
    "the direct way was drawn before the heads; it comes last": scrubbed(add_up=direct_then_heads),
    "the direct way was resampled by what the story says of the values": scrubbed(
        way=lambda s: s.resample(s.content, s.story.v)
    ),
    "only q, k and v were resampled: other heads and the direct way went on as before": scrubbed(
        add_up=second_run_only
    ),
}
