"""Chapter 6. Which parts of the model write the answer?

Axis words: component batch pos vocab d_model. Row vectors: stream @ W_U = logits. `cache` is what
`model.run_with_cache(tokens)` returns, for an attention-only model without LayerNorm; W_U is
[d_model, vocab]. Everything here is in logits, which are natural-log units (nats): +1 logit
multiplies the odds by e.
"""

import torch
from einops import einsum
from torch import Tensor

from minitransformer import ActivationCache
from solutions.ch02_residual_stream import residual_decomposition


def direct_logit_attribution(cache: ActivationCache, W_U: Tensor, tokens: Tensor) -> Tensor:
    """How much each part of the stream adds to one logit: part . W_U[:, token].

    tokens [batch, pos]: the token whose logit is asked for at each position. It can be any token;
    nothing is shifted here. -> [component, batch, pos], in logits, the components in the order of
    residual_decomposition(cache). Summed over the parts: the logit itself. Elhage et al. 2021, "A
    Mathematical Framework for Transformer Circuits".
    """
    # YOUR CODE: pick each position's column of W_U, multiply it with every part; roughly 3 lines
    _, parts = residual_decomposition(cache)
    columns = W_U.T[tokens]  # batch pos d_model
    axes = "component batch pos d_model, batch pos d_model -> component batch pos"
    return einsum(parts, columns, axes)


def shift_unembedding(W_U: Tensor, u: Tensor) -> Tensor:
    """Other weights, the same model: u [d_model] is added to every column of W_U [d_model, vocab].

    At each position, every logit moves by the same number, stream . u, and softmax does not see it.
    Such a change of weights that no behaviour shows is called a gauge: a number that moves with it
    says something about how the weights were written down, and nothing about the model. Returns a
    new W_U and leaves the old one as it is.
    """
    # YOUR CODE: roughly 1 line
    return W_U + u[:, None]


def logit_difference_attribution(
    cache: ActivationCache, W_U: Tensor, right: Tensor, wrong: Tensor
) -> Tensor:
    """How much each part favours one token over another: what it adds to the difference
    logit[right] - logit[wrong].

    right, wrong [batch, pos]: the two tokens that are compared at each position -> [component,
    batch, pos], in nats. Summed over the parts it is log p(right) - log p(wrong). Adding any one
    vector to every column of W_U changes no probability, and must change nothing here. Wang et al.
    2022, "Interpretability in the Wild".
    """
    # YOUR CODE: use direct_logit_attribution, or one direction instead of two; roughly 1 line
    return direct_logit_attribution(cache, W_U, right) - direct_logit_attribution(cache, W_U, wrong)


def logit_lens(cache: ActivationCache, W_U: Tensor) -> Tensor:
    """What the model would answer if it stopped early: the stream at every depth, unembedded.

    -> [depth, batch, pos, vocab]. Depth 0 is the stream before layer 0, depth L the one after layer
    L - 1; so there is one depth more than there are layers, of which there is at least one, and the
    last depth equals the model's logits. nostalgebraist 2020, "interpreting GPT: the logit lens".
    """
    # YOUR CODE: the streams (hook_resid_pre, hook_resid_post once), unembedded; roughly 3 lines
    n_layers = sum(name.endswith("hook_resid_post") for name in cache)
    streams = [cache[f"blocks.{layer}.hook_resid_pre"] for layer in range(n_layers)]
    streams.append(cache[f"blocks.{n_layers - 1}.hook_resid_post"])
    return torch.stack(streams) @ W_U


def component_lens(cache: ActivationCache, W_U: Tensor) -> Tensor:
    """What each part alone says about every token, relative to the mean over all tokens.

    part @ W_U, minus its mean over the vocabulary -> [component, batch, pos, vocab]: every [vocab]
    row has mean 0. Summed over the parts: the logits minus their mean, and so, since softmax
    ignores the mean, the same probabilities. Adding any one vector to every column of W_U must
    change nothing here.
    """
    # YOUR CODE: unembed every part, centre over the vocabulary; roughly 3 lines
    _, parts = residual_decomposition(cache)
    logits = parts @ W_U  # component batch pos vocab
    return logits - logits.mean(dim=-1, keepdim=True)
