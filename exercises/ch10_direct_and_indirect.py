"""Chapter 10. Which way does a head take effect: by what it writes, or through other heads?

Axis words: batch pos head d_head d_model vocab query key. A head is a pair (layer, head). A
*metric* is a function of the logits [batch, pos, vocab] that returns one number (a tensor without
axes), for instance a mean logit difference in nats. An *effect* is always: the metric with
something changed, minus the metric of the undisturbed model. So what helps has a negative effect
when it is taken away. All models here are attention only, without LayerNorm.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from minitransformer import Transformer
from minitransformer.planted import REST, blank_model, subspaces, write_head
from solutions.ch09_ablation import zero_ablate

Metric = Callable[[Tensor], Tensor]  # logits [batch, pos, vocab] -> one number
WAYS = ("direct", "via patterns", "via values", "interaction")


def total_effect(
    model: Transformer, tokens: Tensor, head: tuple[int, int], metric: Metric
) -> Tensor:
    """What happens if a head writes nothing and everything after it reacts.

    metric(head zeroed) - metric(undisturbed): one number, in the unit of the metric; negative if
    the head helped. tokens [batch, pos], head (layer, head). Later heads may also make up for what
    is lost: McGrath et al. 2023, "The Hydra Effect" (arXiv 2307.15771), Rushing & Nanda 2024,
    "Explorations of Self-Repair in Language Models" (arXiv 2402.15390).
    """
    # YOUR CODE: two runs; zero_ablate makes the hook for hook_z; roughly 4 lines
    raise NotImplementedError("total_effect")


def direct_effect(
    model: Transformer, tokens: Tensor, head: tuple[int, int], metric: Metric
) -> Tensor:
    """What happens if only the unembedding misses what a head wrote: no later head notices that
    anything is gone.

    The head's output, blocks.<layer>.attn.hook_result[:, :, head] of the undisturbed run, is
    subtracted from the final stream: hook_resid_post [batch, pos, d_model] of the *last* layer. ->
    one number, metric(that) - metric(undisturbed). For a logit, or a difference of logits, it
    equals minus the direct logit attribution. A head of the last layer has no other effect than
    this. Pearl 2001, "Direct and Indirect Effects"; Vig et al. 2020, "Causal Mediation Analysis for
    Interpreting Neural NLP: The Case of Gender Bias" (arXiv 2004.12265).
    """
    # YOUR CODE: a cache, a hook on the last hook_resid_post, the difference; roughly 6 lines
    raise NotImplementedError("direct_effect")


def held_at(cache: dict[str, Tensor], *names: str) -> list[tuple[str, Callable]]:
    """fwd_hooks that force all activations whose name ends with one of `names` to their values in
    `cache`.
    """
    return [(name, lambda x, hook: cache[hook.name]) for name in cache if name.endswith(names)]


def effect_ledger(
    model: Transformer, tokens: Tensor, head: tuple[int, int], metric: Metric
) -> dict[str, Tensor]:
    """Where the total effect of zeroing a head comes from: {"direct", "via patterns", "via values",
    "interaction", "total"}.

    Each entry is metric(a changed run) - metric(undisturbed). "Removed run": the run in which the
    head is zeroed.
    - "direct" and "total": as in direct_effect and total_effect.
    - "via patterns": nothing is zeroed, but all layers attend as in the removed run (hook_pattern
      forced to its values).
    - "via values": the head is zeroed, but all layers attend as in the undisturbed run, and what
      the head wrote in the undisturbed run is added back to the final stream (hook_resid_post of
      the last layer).
    - "interaction": the head is zeroed, nothing is forced, and what it wrote is added back to the
      final stream as before; from this effect subtract "via patterns" and "via values". It is what
      only happens if both change together.

    If the metric is linear in the logits, the first four add up to "total" exactly, in any number
    of layers.
    """
    # YOUR CODE: two caches, hooks that zero or put back, a function `change`; roughly 16 lines
    raise NotImplementedError("effect_ledger")


def query_and_key_effects(
    model: Transformer, tokens: Tensor, head: tuple[int, int], metric: Metric
) -> dict[str, Tensor]:
    """The effect via patterns, taken apart once more: does a head change what is asked for or what
    is offered?

    {"via queries", "via keys", "both"}: nothing is zeroed, but in all layers hook_q is forced to
    its values in the removed run and hook_k to those in the undisturbed run ("via queries"), the
    other way round ("via keys"), or both to those of the removed run ("both", the same as "via
    patterns" in effect_ledger). Everything else follows by itself. The first two need not add up to
    the third: a softmax stands between them. Q- and K-composition: Elhage et al. 2021, "A
    Mathematical Framework for Transformer Circuits".
    """
    # YOUR CODE: both caches, three runs with hook_q and hook_k held_at a cache; roughly 10 lines
    raise NotImplementedError("query_and_key_effects")


def causal_roles(
    model: Transformer, tokens: Tensor, metric: Metric, least: float = 1.0
) -> dict[str, list[tuple[int, int]]]:
    """Which heads matter, and by which way: way -> heads (layer, head), the largest effect first,
    [] if there is none.

    The ways are those of WAYS, in that order. A head belongs to the one way by which its effect, in
    absolute value, is largest in its effect_ledger, provided that this is at least `least` (in the
    unit of the metric); otherwise to none. No attention pattern is looked at: these roles can be
    compared with those that find_heads gave for where heads look.
    """
    # YOUR CODE: for each head its ledger's largest way, then sort the lists; roughly 10 lines
    raise NotImplementedError("causal_roles")


START, POINT, ASK, YES, NO = range(5)  # the tokens of two_way_model


@torch.no_grad()
def two_way_model(kind: str, s: float = 10.0) -> Transformer:
    """A hand-built model for the one prompt [START, POINT, ASK] in which head 0.0 acts by two ways
    at once.

    0.0 copies each token to a subspace called note. At ASK, 1.0 attends to POINT because of the
    note there, or else rests on START; logit YES - NO is s. kind "both": 1.0 copies the note at
    POINT, so both ways are needed, and losing either costs s. kind "either": 1.0 reads POINT
    itself, or on START the note; losing one way costs 0, losing both costs s.
    """
    space = subspaces(token=5, note=5, output=1)
    model = blank_model(n_heads=1, d_model=11, d_head=5, d_vocab=5, n_ctx=5)
    model.W_E.copy_(space.token.T)
    write_head(model, 0, 0, space.token, space.token, space.token, space.note.T)
    key = space.note[:, POINT] + REST * space.token[:, START]
    value = space.note[:, POINT] if kind == "both" else space.token[:, POINT] + space.note[:, START]
    write_head(model, 1, 0, space.token[:, [ASK]], key[:, None], value[:, None], space.output.T)
    model.W_U[:, [YES]] = s * space.output
    return model
