"""What the checks of chapter 6 measure against: parts read off the weights, the definition in
loops, and wrong answers.
"""

import functools

import torch

from minitransformer import repeated_tokens
from solutions.ch02_residual_stream import residual_decomposition
from tests.exercises.oracles.ch05_gauges import in_another_gauge
from tests.material import seeded, small_model

# d_model is less than the vocabulary, so that W_U[tokens], which takes rows, cannot go unnoticed
MODEL = small_model(n_ctx=6, d_model=9)
DEEPER = small_model(seed=4, n_ctx=6, d_model=9, n_layers=3, positional_embedding_type="standard")
TOKENS = torch.tensor([[0, 3, 7, 3, 10, 1], [0, 5, 5, 2, 9, 4]])
RIGHT, WRONG = TOKENS.flip(1), (TOKENS * 3 + 2) % 11  # nowhere the same token
ELEVEN = small_model(n_ctx=6, d_model=9, n_layers=11)  # as text, "10" comes before "2"
OTHER, OTHER_DEEPER = in_another_gauge(MODEL, seed=1), in_another_gauge(DEEPER, seed=2)
STRETCHED = in_another_gauge(MODEL, seed=1, shift=0)  # the logits stay, too


@functools.cache
def ran(model):
    """W_U, logits and cache of a model on TOKENS."""
    logits, cache = model.run_with_cache(TOKENS)
    return model.W_U.detach(), logits.detach(), cache


def on_repeats(model):
    """A model on repeats of period 10: cache, W_U, the next tokens [batch, pos] and where they can
    be known [batch, pos].
    """
    cfg = model.cfg
    length = min(cfg.n_ctx, cfg.d_vocab, 32)
    repeats = repeated_tokens(16, length, cfg.d_vocab, (10, 10), seeded(7), prefix=2)
    _, cache = model.run_with_cache(repeats.tokens)
    known = repeats.predictable.clone()
    known[:, -1] = False  # what comes after the last token is not in the batch
    return cache, model.W_U.detach(), repeats.tokens.roll(-1, dims=1), known


def asked_about(logits, tokens):
    """The entries of logits [batch, pos, vocab] for the tokens [batch, pos]."""
    return logits.gather(-1, tokens[..., None])[..., 0]


def zero_head(model, layer, head, tokens):
    """The logits when one head writes nothing."""

    def zero(z, hook):
        z[:, :, head] = 0
        return z

    return model.run_with_hooks(tokens, [(f"blocks.{layer}.attn.hook_z", zero)]).detach()


def parts_from_weights():
    """[component, batch, pos, d_model] of MODEL, from its weights: the embedding, then z W_O head
    by head.
    """
    _, _, cache = ran(MODEL)
    parts = [MODEL.W_E[TOKENS]]
    for layer in range(2):
        z = cache[f"blocks.{layer}.attn.hook_z"]
        parts += [z[:, :, head] @ MODEL.W_O[layer, head] for head in range(MODEL.cfg.n_heads)]
    return torch.stack(parts).detach()


def loop_attribution(tokens):
    """direct_logit_attribution of MODEL on TOKENS, one product of two numbers at a time."""
    parts, (W_U, _, _) = parts_from_weights(), ran(MODEL)
    out = torch.zeros(parts.shape[:3], dtype=parts.dtype)
    for c, b, p in torch.cartesian_prod(*map(torch.arange, out.shape)).tolist():
        column = W_U[:, tokens[b, p]].tolist()
        out[c, b, p] = sum(x * w for x, w in zip(parts[c, b, p].tolist(), column))
    return out


def loop_component_lens():
    """component_lens of MODEL on TOKENS: the mean of the differences to all tokens."""
    parts, (W_U, _, _) = parts_from_weights(), ran(MODEL)
    vocab = W_U.shape[1]
    truth = torch.zeros(*parts.shape[:3], vocab, dtype=parts.dtype)
    for v in range(vocab):
        for other in range(vocab):
            truth[..., v] += (parts @ (W_U[:, v] - W_U[:, other])) / vocab
    return truth


def shifted_by_loops(W_U, u):
    out = W_U.clone()
    for row in range(W_U.shape[0]):
        for column in range(W_U.shape[1]):
            out[row, column] = W_U[row, column] + u[row]
    return out


# Functions with one thing changed


def first_column_only(W_U, u):
    out = W_U.clone()
    out[:, 0] += u
    return out


SHIFT_MISTAKES = {
    "u was added to every row; u has d_model entries, and so has a column": lambda W_U, u: W_U + u,
    "u was subtracted": lambda W_U, u: W_U - u[:, None],
    "only the first column was shifted, so one token gained on the others": first_column_only,
    "the columns were multiplied by u; it is added": lambda W_U, u: W_U * u[:, None],
    "u was shared out over the columns; each gets the whole of it": (
        lambda W_U, u: W_U + u[:, None] / W_U.shape[1]
    ),
    "one number was added everywhere: the mean of u": lambda W_U, u: W_U + u.mean(),
    "one number was added everywhere: the sum of u": lambda W_U, u: W_U + u.sum(),
    "u was scaled to length 1": lambda W_U, u: W_U + (u / u.norm())[:, None],
    "the mean of u was left out": lambda W_U, u: W_U + (u - u.mean())[:, None],
}


def any_parts(cache):
    parts = [cache["blocks.0.hook_resid_pre"]]
    for name in cache:
        if name.endswith("hook_result"):
            parts += cache[name].unbind(2)
    return torch.stack(parts)


def unchanged(x):
    return x


def centred(x, dim=-1):
    return x - x.mean(dim=dim, keepdim=True)


def cumulative(parts):
    return parts.cumsum(0)


def attribution(parts=unchanged, logits=unchanged, tokens=unchanged, result=unchanged):
    """direct_logit_attribution with one thing changed."""

    def function(cache, W_U, asked):
        every = logits(parts(any_parts(cache)) @ W_U)
        asked = tokens(asked)[None, ..., None].expand(len(every), -1, -1, 1)
        return result(every.gather(-1, asked)[..., 0])

    return function


def difference(**changes):
    """logit_difference_attribution with one thing changed."""

    def function(cache, W_U, right, wrong):
        one = attribution(**changes)
        return one(cache, W_U, right) - one(cache, W_U, wrong)

    return function


def along_unit_directions(cache, W_U, asked):
    return attribution()(cache, W_U / W_U.norm(dim=0), asked)


def along_a_unit_direction(cache, W_U, right, wrong):
    direction = (W_U[:, right] - W_U[:, wrong]).movedim(0, -1)  # batch pos d_model
    direction = direction / direction.norm(dim=-1, keepdim=True)
    return (any_parts(cache) * direction).sum(dim=-1)


def along_embeddings(cache, W_U, asked):
    return (any_parts(cache) * cache["hook_embed"]).sum(dim=-1)


def every_logit(cache, W_U, asked):
    return any_parts(cache) @ W_U


def sum_of_both(cache, W_U, right, wrong):
    return attribution()(cache, W_U, right) + attribution()(cache, W_U, wrong)


def ratio(cache, W_U, right, wrong):
    return attribution()(cache, W_U, right) / attribution()(cache, W_U, wrong)


def streams(n_layers):
    """The names of the stream at every depth."""
    names = [f"blocks.{layer}.hook_resid_pre" for layer in range(n_layers)]
    return [*names, f"blocks.{n_layers - 1}.hook_resid_post"]


def lens(names=streams, end=unchanged):
    """logit_lens with one thing changed."""

    def function(cache, W_U):
        n_layers = sum(name.endswith("resid_pre") for name in cache)
        return end(torch.stack([cache[name] for name in names(n_layers)]) @ W_U)

    return function


def both_sides_of_layers(n_layers):
    return [f"blocks.{layer}.hook_resid_{x}" for layer in range(n_layers) for x in ("pre", "post")]


def embedding_first(n_layers):
    return ["hook_embed", *streams(n_layers)[1:]]


def sorted_as_text(n_layers):
    """The last one is the stream after the last layer in the order of letters."""
    after = sorted(f"blocks.{layer}.hook_resid_post" for layer in range(n_layers))
    return [*sorted(streams(n_layers)[:-1]), after[-1]]


def lens_with_positions(cache, W_U):
    return lens()(cache, W_U) + cache["hook_pos_embed"] @ W_U


def lens_of_directions(cache, W_U):
    n_layers = sum(name.endswith("resid_pre") for name in cache)
    every = torch.stack([cache[name] for name in streams(n_layers)])
    return every / every.norm(dim=-1, keepdim=True) @ W_U


def less_the_mean_logit(logits):
    return logits - logits.sum(dim=0).mean(dim=-1, keepdim=True)


def lens_part_by_part(cache, W_U):
    _, parts = residual_decomposition(cache)
    return parts.cumsum(dim=0) @ W_U


def unembedded(end=centred, parts=unchanged):
    """component_lens with one thing changed."""
    return lambda cache, W_U: end(parts(any_parts(cache)) @ W_U)


def some(mistakes, *words):
    """Those mistakes whose label contains one of the words: what a check on a special case can
    notice.
    """
    return {
        label: function
        for label, function in mistakes.items()
        if any(word in label for word in words)
    }
