"""Chapter 18. A claim about a model that nobody has explained to you, and what would refute it.

Axis words: batch pos head vocab d_model. *Senders* write into the stream: "embed", "pos" (the
positions) and the heads, "0.2" for layer 0, head 2. *Receivers* read it: "1.0.q", "1.0.k" and
"1.0.v", what head 1.0 reads for its query, key and value, and "logits", the unembedding. An *edge*
is a sender and a later receiver: "0.2>1.0.k". What goes along it is the sender's *message*, a
vector at each position. All this is for attention alone: no MLP, LayerNorm or smeared keys.
`python -m exercises check` says how you are doing.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from minitransformer import Transformer

SURE, NO_IDEA_BELOW = 0.9, 0.6  # probabilities of the most likely token
NO_IDEA, BETWEEN = -1, -2  # what stands in the place of an answer


class Route(NamedTuple):
    """One way in which a model comes to its answers: a part of a claim.

    answer: a function of the tokens so far, a list of numbers with BOS first, that gives the next
    token or None. It must do without the model. edges: all edges that this way needs; an edge that
    is named nowhere is claimed not to matter. unless: another edge, "1.2>2.0.q", if this way is
    open only while nothing comes along that one; "" if it is always open.
    """

    answer: Callable
    edges: tuple[str, ...]
    unless: str = ""


Claim = list[Route]  # the first open route that has an answer gives it


class Change(NamedTuple):
    """What is done to a model: heads that write 0, heads that write their mean, edges that are cut.

    No head is in zero and in mean. A cut edge carries its mean message, over all positions of all
    sequences at hand, in the unchanged run.
    """

    zero: tuple[str, ...] = ()
    mean: tuple[str, ...] = ()
    cut: tuple[str, ...] = ()


UNCHANGED = Change()


def heads_in(model: Transformer, layers: range | None = None) -> list[str]:
    """The names of all heads, or of those in some layers."""
    layers = range(model.cfg.n_layers) if layers is None else layers
    return [f"{layer}.{head}" for layer in layers for head in range(model.cfg.n_heads)]


def edges_in(model: Transformer) -> list[str]:
    """All edges of a model, receiver by receiver.

    Where positions are not in the stream ("shortformer"), they reach queries and keys only. Raises
    ValueError for a model with MLPs, LayerNorm or smeared keys.
    """
    if model.cfg.d_mlp or model.cfg.layer_norm or model.cfg.smeared_keys:
        raise ValueError("edges are defined here for models of attention alone, keys not smeared.")
    in_stream, found = model.cfg.positional_embedding_type == "standard", []
    for layer in range(model.cfg.n_layers + 1):
        heads = heads_in(model, range(layer, layer + 1)) if layer < model.cfg.n_layers else []
        for receiver in [f"{head}.{what}" for head in heads for what in "qkv"] or ["logits"]:
            senders = ["embed", "pos", *heads_in(model, range(layer))]
            if not in_stream and not receiver.endswith((".q", ".k")):
                senders.remove("pos")
            found += [f"{sender}>{receiver}" for sender in senders]
    return found


def sure_answers(logits: Tensor) -> Tensor:
    """What a model answers at each position, if it is sure: logits [batch, pos, vocab] ->
    [batch, pos].

    The most likely token where its probability is at least SURE; NO_IDEA where that is at most
    NO_IDEA_BELOW; BETWEEN where it lies strictly between the two.
    """
    # YOUR CODE: the largest probability and its token, then torch.where twice; roughly 4 lines
    top, token = logits.softmax(dim=-1).max(dim=-1)
    answers = torch.where(top >= SURE, token, BETWEEN)
    return torch.where(top <= NO_IDEA_BELOW, NO_IDEA, answers)


def messages_in(cache: dict, model: Transformer) -> dict[str, Tensor]:
    """What every sender wrote in one run: name -> [batch, pos, d_model]; cache: see is_message."""
    messages = {"embed": cache["hook_embed"], "pos": cache["hook_pos_embed"]}
    for name in heads_in(model):
        layer, head = name.split(".")
        messages[name] = cache[f"blocks.{layer}.attn.hook_result"][:, :, int(head)]
    return messages


def is_message(name: str) -> bool:
    """Picks the hooks that messages_in needs: the embeddings, and what each head writes."""
    return name.endswith(("embed", "hook_result"))


def refuse_unknown(model: Transformer, change: Change) -> None:
    """Raises ValueError for a head or an edge that the model does not have."""
    for known, named in (
        (heads_in(model), [*change.zero, *change.mean]),
        (edges_in(model), change.cut),
    ):
        unknown = sorted(set(named) - set(known))
        if unknown:
            raise ValueError(
                f"this model has no {unknown[0]!r}; it has {', '.join(known[-4:])}, ..."
            )


def input_hook(model: Transformer, receiver: str) -> str:
    """The hook on what a receiver makes of the stream: q, k, v; or the stream, for "logits"."""
    if receiver == "logits":
        return f"blocks.{model.cfg.n_layers - 1}.hook_resid_post"
    layer, _, what = receiver.split(".")
    return f"blocks.{layer}.attn.hook_{what}"


def run_changed(model: Transformer, tokens: Tensor, change: Change) -> Tensor:
    """The logits [batch, pos, vocab] of a run on tokens [batch, pos] with all of a change in force.

    First an unchanged run, for the means: of each sender's message over batch and pos, [d_model].
    Then one run in which the heads of change.zero write 0 and those of change.mean their mean, into
    the stream, for all readers; and in which each receiver of a cut edge reads the stream with the
    sender's message *of this very run* taken out and its mean put in. Everything after that reacts.
    A receiver "1.0.q" reads through W_Q of its head, "logits" reads the stream after the last
    layer. Raises ValueError if a name is none of heads_in or edges_in.
    """
    # YOUR CODE: the means; a hook that writes and notes; one per edge that reads; roughly 24 lines
    refuse_unknown(model, change)
    _, plain = model.run_with_cache(tokens, is_message)
    plain = messages_in(plain, model)
    means = {sender: message.mean(dim=(0, 1)) for sender, message in plain.items()}
    heard = dict(plain)

    def write(result: Tensor, hook) -> Tensor:
        for head in range(model.cfg.n_heads):
            name = f"{hook.name.split('.')[1]}.{head}"
            if name in change.zero:
                result[:, :, head] = 0
            if name in change.mean:
                result[:, :, head] = means[name]
            heard[name] = result[:, :, head]
        return result

    def read(x: Tensor, hook, sender: str, receiver: str) -> Tensor:
        move = means[sender] - heard[sender]
        if receiver == "logits":
            return x + move
        layer, head, what = receiver.split(".")
        x[:, :, int(head)] += move @ getattr(model, f"W_{what.upper()}")[int(layer), int(head)]
        return x

    hooks = [(lambda name: name.endswith("hook_result"), write)]
    for edge in change.cut:
        sender, receiver = edge.split(">")
        hooks.append((input_hook(model, receiver), partial(read, sender=sender, receiver=receiver)))
    return model.run_with_hooks(tokens, hooks)


def open_routes(claim: Claim, change: Change) -> Claim:
    """The routes of a claim that a change leaves open, in their order.

    A change *hits* an edge if it cuts it, or if the edge's sender writes 0 or its mean. A route
    with an edge that is hit is closed. An edge is *broken* if it is hit, or if any edge of the same
    route into its sender is broken. A head that finds nothing rests and writes nothing. So an edge
    is *quiet* if its sender writes 0 by the change, or if in some route an edge into the q or k of
    its sender is broken; but never if it is cut itself or its sender writes its mean, for a mean is
    something. A route with `unless` is closed while that edge is not quiet.
    """

    # YOUR CODE: is an edge hit? is it broken (it calls itself)? is it quiet? roughly 18 lines
    def hit(edge: str) -> bool:
        return edge in change.cut or edge.split(">")[0] in (*change.zero, *change.mean)

    def broken(edge: str, route: Route) -> bool:
        others = into(route, edge.split(">")[0])
        return hit(edge) or any([broken(other, route) for other in others])

    def quiet(edge: str) -> bool:
        sender = edge.split(">")[0]
        searching = [(other, route) for route in claim for other in into(route, sender, "qk")]
        lost = any([broken(other, route) for other, route in searching])
        may_be = edge not in change.cut and sender not in change.mean
        return may_be and (sender in change.zero or lost)

    found = []
    for route in claim:
        whole = not any([hit(edge) for edge in route.edges])
        if whole and (not route.unless or quiet(route.unless)):
            found.append(route)
    return found


def into(route: Route, head: str, parts: str = "qkv") -> list[str]:
    """The edges of a route that end in a head, at any of these parts."""
    ends = [f"{head}.{part}" for part in parts]
    return [edge for edge in route.edges if edge.split(">")[1] in ends]


def predicted(claim: Claim, tokens: Tensor, change: Change = UNCHANGED) -> Tensor:
    """What a claim says that the changed model answers: [batch, pos], NO_IDEA where nothing."""
    said, routes = torch.full_like(tokens, NO_IDEA), open_routes(claim, change)
    for row, sequence in enumerate(tokens.tolist()):
        for pos in range(len(sequence)):
            answers = [route.answer(sequence[: pos + 1]) for route in routes]
            said[row, pos] = next((each for each in answers if each is not None), NO_IDEA)
    return said


def share_kept(model: Transformer, tokens: Tensor, changes: list[Change]) -> list[float]:
    """For each change: which share of the model's sure answers survives it; nan without answers."""
    before = sure_answers(model(tokens))
    answered = before >= 0
    shares = []
    for change in changes:
        after = sure_answers(run_changed(model, tokens, change))
        shares.append((after == before)[answered].double().mean().item())
    return shares


# The eight models: solutions/examination.py has blind_model(letter) and examine(...)


def claim_a(model: Transformer) -> Claim:
    """Your claim about model A, from blind_model("A"): a list of routes, [] if it has no answers.

    You may name heads by the numbers that you found. `model` is that model, if you want to look for
    them here; the answers of a route must do without it.
    """
    # YOUR CODE: an answer function; the edges you found; as many routes as it takes
    from solutions.investigation import claim_about

    return claim_about(model)


def claim_b(model: Transformer) -> Claim:
    """Your claim about model B, like claim_a."""
    # YOUR CODE: an answer function; the edges you found; as many routes as it takes
    from solutions.investigation import claim_about

    return claim_about(model)


def claim_c(model: Transformer) -> Claim:
    """Your claim about model C, like claim_a."""
    # YOUR CODE: an answer function; the edges you found; as many routes as it takes
    from solutions.investigation import claim_about

    return claim_about(model)


def claim_d(model: Transformer) -> Claim:
    """Your claim about model D, like claim_a."""
    # YOUR CODE: an answer function; the edges you found; as many routes as it takes
    from solutions.investigation import claim_about

    return claim_about(model)


def claim_e(model: Transformer) -> Claim:
    """Your claim about model E, like claim_a."""
    # YOUR CODE: an answer function; the edges you found; as many routes as it takes
    from solutions.investigation import claim_about

    return claim_about(model)


def claim_f(model: Transformer) -> Claim:
    """Your claim about model F, like claim_a."""
    # YOUR CODE: an answer function; the edges you found; as many routes as it takes
    from solutions.investigation import claim_about

    return claim_about(model)


def claim_g(model: Transformer) -> Claim:
    """Your claim about model G, like claim_a."""
    # YOUR CODE: an answer function; the edges you found; as many routes as it takes
    from solutions.investigation import claim_about

    return claim_about(model)


def claim_h(model: Transformer) -> Claim:
    """Your claim about model H, like claim_a."""
    # YOUR CODE: an answer function; the edges you found; as many routes as it takes
    from solutions.investigation import claim_about

    return claim_about(model)
