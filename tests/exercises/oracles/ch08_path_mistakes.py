"""What people get wrong in chapter 8 about parts, terms and paths: label -> the function they
write.
"""

from functools import partial

import torch

from tests.exercises.oracles import ch08_paths as slow
from tests.exercises.oracles.ch08 import moves


def reversed_heads(cache):
    labels, parts = slow.stack(cache)
    return labels, torch.cat([parts[:2], parts[2:].flip(0)])


def heads_first(cache):
    labels, parts = slow.stack(cache)
    return labels, torch.cat([parts[2:], parts[:2]])


PARTS = {
    "hook_resid_pre of standard models holds the positions already": partial(
        slow.stack, embed="blocks.0.hook_resid_pre"
    ),
    "the embedding and the positions stand in the order of the labels; they are exchanged": partial(
        slow.stack, order=-1
    ),
    "the heads stand in reverse order; the labels count from 0.0 up": reversed_heads,
    "the heads stand before the embedding; the labels begin with it": heads_first,
    "those are the heads of layer 1; its q and k are made from what came before": partial(
        slow.stack, heads=1
    ),
}


def masked(parts, W_Q, W_K):
    made = slow.terms(parts, W_Q, W_K)
    later = torch.ones(made.shape[-2:]).triu(1) > 0
    return made.masked_fill(later, -torch.inf)


TERMS = {
    "the terms were not divided by sqrt(d_head)": partial(slow.terms, scale=lambda W: 1.0),
    "the terms were divided by sqrt(d_model)": partial(slow.terms, scale=lambda W: len(W) ** 0.5),
    "the terms were divided by d_head, or twice by its root": partial(
        slow.terms, scale=lambda W: W.shape[1]
    ),
    "the terms were multiplied with sqrt(d_head); divide by it": partial(
        slow.terms, scale=lambda W: W.shape[1] ** -0.5
    ),
    "the terms were divided by d_head squared; the scale is its root": partial(
        slow.terms, scale=lambda W: W.shape[1] ** 2
    ),
    "all parts of the query were added up; every query part meets every key part": (
        lambda parts, W_Q, W_K: slow.terms(parts, W_Q, W_K).sum(dim=0)
    ),
    "query part and key part are exchanged": partial(slow.terms, flip=True),
    "query and key are exchanged: the last axis is the key": partial(slow.terms, to="acbji"),
    "the batch axis was put first; the parts come first": partial(slow.terms, to="bacij"),
    "W_Q and W_K are exchanged": lambda parts, W_Q, W_K: slow.terms(parts, W_K, W_Q),
    "W_Q was used on both sides; keys are made with W_K": (
        lambda parts, W_Q, W_K: slow.terms(parts, W_Q, W_Q)
    ),
    "W_K was used on both sides; queries are made with W_Q": (
        lambda parts, W_Q, W_K: slow.terms(parts, W_K, W_K)
    ),
    "each part met only itself; every query part meets every key part": (
        lambda parts, W_Q, W_K: slow.terms(parts, W_Q, W_K).diagonal().movedim(-1, 0)
    ),
    "later keys were masked; the terms are those before the mask": masked,
    "a softmax was applied to each term; only before the softmax can terms be added": (
        lambda parts, W_Q, W_K: slow.terms(parts, W_Q, W_K).softmax(-1)
    ),
    "the terms were divided by the root of the number of positions; the scale is sqrt(d_head)": (
        lambda parts, W_Q, W_K: slow.terms(parts, W_Q, W_K, scale=lambda W: parts.shape[2] ** 0.5)
    ),
}


def moved_into_the_query(model, previous, induction):
    W_E, W_Q, W_K = model.W_E.detach(), model.W_Q[induction], model.W_K[induction]
    return (W_E @ moves(model, previous) @ W_Q @ W_K.T @ W_E.T).detach()


def with_positions(model, previous, induction):
    x, n = model.W_E.detach().clone(), min(len(model.W_E), len(model.W_pos))
    x[:n] += model.W_pos[:n].detach()
    W_QK = (model.W_Q[induction] @ model.W_K[induction].T).detach()
    return x @ W_QK @ (x @ moves(model, previous)).T


def into_the_logits(model, previous, induction):
    moved = model.W_E.detach() @ moves(model, previous) @ moves(model, induction)
    return moved @ model.W_U.detach()


CIRCUIT = {
    "rows and columns are exchanged: a row is the token at the query": partial(
        slow.circuit, flip=True
    ),
    "W_Q and W_K are exchanged: that is Q-composition": partial(
        slow.circuit, qk=lambda W_Q, W_K: W_K @ W_Q.T
    ),
    "it was moved into the query; `previous` moves it into the key": moved_into_the_query,
    "it was divided by sqrt(d_head); here no scale was asked for": (
        lambda model, previous, induction: (
            slow.circuit(model, previous, induction) / model.cfg.d_head**0.5
        )
    ),
    "a softmax was applied; scores before the softmax were asked for": (
        lambda model, previous, induction: slow.circuit(model, previous, induction).softmax(-1)
    ),
    "the mean of each row was subtracted; the plain products were asked for": (
        lambda model, previous, induction: (
            slow.circuit(model, previous, induction)
            - slow.circuit(model, previous, induction).mean(-1, keepdim=True)
        )
    ),
    "BOS was left out; t and s run over all tokens": (
        lambda model, previous, induction: slow.circuit(model, previous, induction)[1:, 1:]
    ),
    "W_OV was left out: that is the full QK circuit": partial(
        slow.circuit, moved=lambda model, at: torch.eye(model.cfg.d_model).double()
    ),
    "W_OV is transposed": partial(slow.circuit, moved=lambda model, at: moves(model, at).T),
    "the token itself was kept beside what was moved; the key holds only what was moved": partial(
        slow.circuit,
        moved=lambda model, at: torch.eye(model.cfg.d_model).double() + moves(model, at),
    ),
    "the token asks with its embedding W_E, not with its column of W_U": partial(
        slow.circuit, asks=lambda model: model.W_U.detach().T
    ),
    "positions were added to the embeddings; tokens alone were asked for": with_positions,
    "that is V-composition, into the logits; `previous` moves into the key": into_the_logits,
    "the two heads are exchanged": (
        lambda model, previous, induction: slow.circuit(model, induction, previous)
    ),
    "W_OV of the induction head was used, not that of `previous`": (
        lambda model, previous, induction: slow.circuit(model, induction, induction)
    ),
    "layers 0 and 1 were taken, whatever `previous` and `induction` say": (
        lambda model, previous, induction: slow.circuit(model, (0, previous[1]), (1, induction[1]))
    ),
}

WRONG_SUMS = {
    "the patterns of the two layers are exchanged": partial(slow.paths, patterns=(1, 0)),
    "layer 1 reads the whole stream, so the virtual heads are counted twice": partial(
        slow.paths, reads=lambda stream, first: stream + first
    ),
    "positions are not in the stream of every model; start from blocks.0.hook_resid_pre": partial(
        slow.paths, start=lambda cache: cache["hook_embed"] + cache["hook_pos_embed"]
    ),
    "the direct path is the stream before layer 0, not the final one": partial(
        slow.paths, direct="blocks.1.hook_resid_post"
    ),
    "virtual heads read the embedding too; behind 0.g they read only what 0.g wrote": partial(
        slow.paths, carries=lambda stream, written: stream + written
    ),
    "virtual heads used W_V and W_O of layer 0 twice": partial(slow.paths, weights=0),
    "the virtual heads are missing: layer 1 also moves what layer 0 wrote": partial(
        slow.paths, carries=lambda stream, written: 0 * written
    ),
}


NOT_THE_STREAM = {
    "a standard model's stream holds positions; start from blocks.0.hook_resid_pre": partial(
        slow.paths, start=lambda cache: cache["hook_embed"]
    )
}


def backwards(model, tokens):
    """Virtual heads that go from layer 1 into layer 0."""
    _, cache = model.run_with_cache(tokens)
    labels, terms = slow.paths(model, tokens)
    stream, terms = cache["blocks.0.hook_resid_pre"], list(terms)
    for i, label in enumerate(labels):
        if ">" in label:
            g, h = int(label[2]), int(label[6])
            first = cache["blocks.1.attn.hook_pattern"][:, g] @ stream @ moves(model, (1, g))
            out = cache["blocks.0.attn.hook_pattern"][:, h] @ first @ moves(model, (0, h))
            terms[i] = out @ model.W_U.detach()
    return labels, torch.stack(terms)


def blind_second(model, tokens):
    """The paths 1.h with the patterns of a run in which layer 0 writes nothing."""
    labels, terms = slow.paths(model, tokens)
    silence = [("blocks.0.hook_attn_out", lambda out, hook: 0 * out)]
    _, blind = model.run_with_cache(tokens, None, silence)
    heads = range(model.cfg.n_heads)
    for h in heads:
        pattern = blind["blocks.1.attn.hook_pattern"][:, h]
        moved = pattern @ blind["blocks.0.hook_resid_pre"] @ moves(model, (1, h))
        terms[labels.index(f"1.{h}")] = moved @ model.W_U.detach()
    return labels, terms


def shared_out(model, tokens):
    """Every virtual head gets an equal share of what all heads of layer 0 pass on."""
    labels, terms = slow.paths(model, tokens)
    n = model.cfg.n_heads
    virtual = terms[1 + 2 * n :].unflatten(0, (n, n)).mean(dim=0).repeat(n, 1, 1, 1)
    return labels, torch.cat([terms[: 1 + 2 * n], virtual])


def log_probabilities(model, tokens):
    labels, terms = slow.paths(model, tokens)
    return labels, terms.log_softmax(dim=-1)


PATHS = WRONG_SUMS | {
    "the virtual heads are in another order than their labels": partial(slow.paths, order="hg"),
    "layer 1 stands before layer 0, in another order than the labels": partial(
        slow.paths, layers=(1, 0)
    ),
    "the patterns of head 0 were used for all heads of the layer": partial(
        slow.paths, pattern_of=lambda head: 0
    ),
    "the virtual heads do not differ in their head of layer 0; each 0.g has its own": shared_out,
    "a softmax was applied to each path; only logits can be added": log_probabilities,
    "the virtual heads run backwards: layer 0 comes first, then layer 1": backwards,
    "the patterns of layer 1 are those of the whole run, also on the paths 1.h": blind_second,
    "the paths were not unembedded": partial(slow.paths, unembed=False),
}


def differences(model, tokens):
    made = slow.importance(model, tokens)
    return torch.cat([made[:1], made.diff(dim=0)])


def saved_in_round_0(model, tokens):
    """The patterns are saved in round 0, in which no layer sees what another wrote."""
    names = [f"blocks.{layer}.hook_attn_out" for layer in range(model.cfg.n_layers)]
    silent = [(name, lambda out, hook: 0 * out) for name in names]
    _, blind = model.run_with_cache(tokens, None, silent)
    return slow.importance(model, tokens, pattern=lambda full, name: blind[name])


def last_pattern(model, tokens):
    last = f"blocks.{model.cfg.n_layers - 1}.attn.hook_pattern"
    return slow.importance(model, tokens, pattern=lambda full, name: full[last])


IMPORTANCE = {
    "the patterns were not forced to the saved ones": partial(
        slow.importance, pattern=lambda full, name: None
    ),
    "the patterns were saved in round 0; save those of one undisturbed run": saved_in_round_0,
    "all layers got the patterns of the last: a lambda in a loop reads `name` too late; use "
    "hook.name": last_pattern,
    "zero was written in every round: save what the layer wrote, not what was put in its place": (
        partial(slow.importance, keep_replaced=True)
    ),
    "nothing was taken away, every round is the whole model; in round 0 layers write zero": partial(
        slow.importance, start=1.0
    ),
    "one round is missing: rounds 0 to n_layers": partial(slow.importance, more=0),
    "always three rounds were made; there are n_layers + 1": partial(slow.importance, rounds=3),
    "there is one round too many: rounds 0 to n_layers": partial(slow.importance, more=2),
    "round 0, in which no head writes, is missing": (
        lambda model, tokens: slow.importance(model, tokens)[1:]
    ),
    "the rounds stand in reverse order; round 0 comes first": (
        lambda model, tokens: slow.importance(model, tokens).flip(0)
    ),
    "what was written in all rounds before was added up; only round n - 1 counts": (
        partial(slow.importance, added=True)
    ),
    "that is what exactly n heads add; at most n was asked for": differences,
    "only layer 0 was replaced; replace what every layer writes": partial(
        slow.importance, layers=slice(0, 1)
    ),
    "only the last layer was replaced; replace what every layer writes": partial(
        slow.importance, layers=slice(-1, None)
    ),
    "the layers from n on were silenced; n counts the heads on a path, in any layers": (
        slow.layers_cut
    ),
}
