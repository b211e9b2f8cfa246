"""Chapter 13. Is this set of heads the explanation? Take all the others away and measure.

Axis words: batch pos head d_head vocab circuit. A head is a pair (layer, head), a *circuit* a list
of heads. The claim "this circuit does it" means: ablate every head outside, and the model still
does what it did. A metric is a function metric(logits [batch, pos, vocab], repeats) -> a tensor
with one number, larger for better, through which gradients flow. An ablation is one of chapter 9's
KINDS: "zero", "mean", "mean per position", "resample".
"""

from collections.abc import Callable
from itertools import combinations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from minitransformer import Transformer
from minitransformer.data import Repeats
from solutions.ch09_ablation import ablation_hooks

Head = tuple[int, int]
Metric = Callable[[Tensor, Repeats], Tensor]


def heads_of(model: Transformer) -> list[Head]:
    """All heads (layer, head) of a model, in order."""
    layers, heads = range(model.cfg.n_layers), range(model.cfg.n_heads)
    return [(layer, head) for layer in layers for head in heads]


def subsets_of(circuit: list[Head]) -> list[list[Head]]:
    """All 2^n sets of heads of a circuit, the empty one first, the whole one last."""
    return [list(some) for n in range(len(circuit) + 1) for some in combinations(circuit, n)]


def is_z(name: str) -> bool:
    """What heads put out before W_O: run_with_cache(tokens, is_z) caches these hooks alone."""
    return name.endswith("hook_z")


def run_circuit(
    model: Transformer,
    tokens: Tensor,
    keep: list[Head],
    ablation: str = "mean",
    cache: dict | None = None,
) -> Tensor:
    """The logits [batch, pos, vocab] when only the heads in `keep` work: all others are ablated.

    The heads of all layers are ablated in one run. What they write instead comes from an
    undisturbed run on the same tokens, never from the run in which earlier heads are already
    ablated. cache: of that undisturbed run, with hook_z; if it is None, make it, otherwise use it.
    `ablation_hooks` of chapter 9 takes the heads to ablate, the kind and the cache. `keep` may be
    empty. Raises ValueError if it names a head that the model does not have, by a number that is
    too high or negative: a slip of the pen would otherwise count as a broken circuit.
    """
    # YOUR CODE: refuse unknown heads, a cache if none is given, the heads outside; roughly 7 lines
    raise NotImplementedError("run_circuit")


def heard_by(model: Transformer, tokens: Tensor, keep: list[Head], readers: str) -> Tensor:
    """The logits of run_circuit by "mean", but only `readers` of layer 1 hear layer 0's kept heads.

    The model has two layers. readers: some of the letters q, k, v. All else in layer 1, and the
    unembedding, gets layer 0 ablated as a whole.
    """
    _, cache = model.run_with_cache(tokens, is_z)
    lost_in_0 = [(0, head) for head in range(model.cfg.n_heads) if (0, head) not in keep]
    lost_in_1 = [(1, head) for head in range(model.cfg.n_heads) if (1, head) not in keep]
    all_of_0 = [(0, head) for head in range(model.cfg.n_heads)]
    listening = [f"blocks.1.attn.hook_{letter}" for letter in readers]
    _, heard = model.run_with_cache(tokens, listening, ablation_hooks(lost_in_0, "mean", cache))
    hooks = ablation_hooks(all_of_0 + lost_in_1, "mean", cache)
    hooks += [(name, lambda activation, hook: heard[hook.name]) for name in listening]
    return model.run_with_hooks(tokens, hooks)


def minus_loss(logits: Tensor, repeats: Repeats) -> Tensor:
    """The metric -loss in nats per token, where the next token is determined and in the batch."""
    known = repeats.predictable[:, :-1]  # the last position has no next token
    return -cross_entropy(logits[:, :-1][known], repeats.tokens[:, 1:][known])


def right_minus_mean(logits: Tensor, repeats: Repeats) -> Tensor:
    """The metric: logit of the right next token minus the mean logit of the vocabulary, in nats.

    logits [batch, pos, vocab] -> one number (a tensor without axes): the mean over all positions
    where repeats.predictable says that the next token is determined, and where the next token is in
    the batch; all these positions count alike, whatever their sequence. "Right" is the token that
    comes next. It is linear in the residual stream, so what heads add to it adds up; adding a
    constant to all logits changes nothing. Gradients flow through it.
    """
    # YOUR CODE: pick the positions, their right logits, their mean logits; roughly 4 lines
    raise NotImplementedError("right_minus_mean")


def closeness(undisturbed: Tensor) -> Metric:
    """The metric minus the mean distance from the model's right_minus_mean, position by position.

    undisturbed [batch, pos, vocab]: the model's own logits on the same sequences. 0 for the model,
    less for everything else, in nats. In right_minus_mean, errors of opposite sign at two positions
    cancel; here both count. By it F(C) is 1 - (mean distance of C) / (mean distance of no heads).
    """

    def metric(logits: Tensor, repeats: Repeats) -> Tensor:
        known = repeats.predictable[:, :-1]
        change, following = (logits - undisturbed)[:, :-1][known], repeats.tokens[:, 1:][known]
        # change of the right logit; of a change in all logits alike nothing is left
        right = change.logsumexp(dim=-1) - cross_entropy(change, following, reduction="none")
        return -(right - change.mean(dim=-1)).abs().mean()

    return metric


def faithfulness(
    model: Transformer,
    repeats: Repeats,
    circuits: list[list[Head]],
    metric: Metric,
    ablation: str = "mean",
) -> Tensor:
    """What share of the model's work each circuit does, [circuit].

        F(C) = (m(C) - m(none)) / (m(model) - m(none))

    m(C) is the metric of run_circuit with C kept; m(none) with no head kept; m(model) of the
    undisturbed model. So all heads give exactly 1 and no head 0. F may leave 0 to 1, and must not
    be clipped: above 1 a circuit lacks heads that work *against* the answer. m may be of any sign.
    If m is a mean over positions, errors of opposite sign cancel in F; not so by `closeness`.
    Raises ValueError if m(model) <= m(none): then the model does nothing for a circuit to share.
    Wang et al. 2022, "Interpretability in the Wild"; in this normalised form: Marks et al. 2024,
    "Sparse Feature Circuits".
    """
    # YOUR CODE: an undisturbed run with its cache, then [] and each circuit; roughly 9 lines
    raise NotImplementedError("faithfulness")


def greedy_path(
    model: Transformer, repeats: Repeats, metric: Metric, ablation: str = "mean"
) -> list[list[Head]]:
    """Circuits of every size: all heads, then each time without the head that is missed least.

    "Missed least": the head after whose removal faithfulness is highest; of equal ones the first.
    Everything is measured anew after each removal, since a head may matter only once its backup is
    gone. The heads of a circuit stay in the order of heads_of. This is backward elimination. ACDC
    removes edges, in one pass: Conmy et al. 2023, "Towards Automated Circuit Discovery for
    Mechanistic Interpretability" (arXiv 2304.14997).
    """
    # YOUR CODE: all heads; try each removal, keep the best, until none is left; roughly 6 lines
    raise NotImplementedError("greedy_path")


def ablated_outputs(model: Transformer, cache: dict, ablation: str) -> dict[str, Tensor]:
    """What every head puts out when it is ablated: hook name -> z [batch, pos, head, d_head].

    cache: of an undisturbed run, with hook_z of all layers.
    """
    hooks = ablation_hooks(heads_of(model), ablation, cache)
    return {name: ablate(cache[name], None) for name, ablate in hooks}


def head_attribution(
    model: Transformer, repeats: Repeats, metric: Metric, ablation: str = "mean"
) -> Tensor:
    """How far the metric falls when each head is ablated alone: a guess by one gradient.

    [layer, head]: for each head the sum over batch, pos and d_head of (z - z_ablated) * d metric /
    d z, with z and the gradient taken in the undisturbed run and z_ablated from ablated_outputs. In
    the metric's unit; positive if the head helps. Exact where the metric is linear in z, a
    straight-line guess elsewhere. It must work under torch.no_grad() too, and leave no gradients at
    the model's weights. For heads: Nanda 2023, "Attribution Patching: Activation Patching At
    Industrial Scale"; for edges: Syed et al. 2023, "Attribution Patching Outperforms Automated
    Circuit Discovery" (arXiv 2310.10348).
    """
    # YOUR CODE: add a zero that wants a gradient to each hook_z, run, multiply; roughly 10 lines
    raise NotImplementedError("head_attribution")


def find_circuit(
    model: Transformer,
    repeats: Repeats,
    method: str,
    metric: Metric,
    ablation: str = "mean",
    share: float = 0.95,
) -> list[Head]:
    """The smallest circuit on the path of a method with a faithfulness of at least `share`.

    share is at most 1, which all heads together have exactly. The heads come in the order of
    heads_of. method "greedy": the circuits of greedy_path. "attribution": rank all heads by
    head_attribution, highest first; the circuits are the first 0, 1, 2, ... of them. All sizes are
    tried, from none up: faithfulness need not grow with size.
    """
    # YOUR CODE: the path, its faithfulness, the smallest that is good enough; roughly 8 lines
    raise NotImplementedError("find_circuit")


def completeness(
    model: Transformer,
    repeats: Repeats,
    circuit: list[Head],
    knocked_out: list[list[Head]],
    metric: Metric,
    ablation: str = "mean",
) -> Tensor:
    """Does the circuit break as the model breaks, for each set K of knocked_out heads? [set, 2].

    The first column is F(C without K), the second F(M without K). C is the circuit, M all heads of
    the model, F faithfulness. K may hold heads outside C. A complete circuit has two equal columns.
    Where the second is larger, the model has a backup that the circuit does not know of. Wang et
    al. 2022, "Interpretability in the Wild".
    """
    # YOUR CODE: both lists of heads with each K left out, one column for each; roughly 5 lines
    raise NotImplementedError("completeness")


def minimality(
    model: Transformer,
    repeats: Repeats,
    circuit: list[Head],
    metric: Metric,
    ablation: str = "mean",
) -> dict[Head, tuple[float, float]]:
    """What each head v of a circuit C is good for, in units of faithfulness: {v: (alone, at_most)}.

    The heads come in the order of C. alone = F(C) - F(C without v): v is lost, everybody else in C
    works. at_most: the F(S) - F(S without v) of the largest absolute value, with its sign, over all
    parts S of C that contain v. A redundant head has alone = 0 but a large at_most, a superfluous
    one has 0 in both. Tries all 2^n parts. Wang et al. 2022, "Interpretability in the Wild".
    """
    # YOUR CODE: F of all subsets_of(circuit) in a dict, then two numbers per head; roughly 7 lines
    raise NotImplementedError("minimality")
