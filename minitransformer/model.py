"""The transformer: the only forward pass in this project, with its hooks visible in it.

    model = Transformer(ModelConfig(), seed=0)
    logits = model(tokens)                      # tokens [batch, pos] -> logits [batch, pos, vocab]

Axis words, the same in every einsum and every shape comment:
    batch   which sequence                      layer, head   which attention head
    pos     which token of the sequence         d_model       the residual stream
    query   the position that looks             d_head        one head's inner space
    key     the position that is looked at      d_mlp         the neurons of one MLP
    vocab   which token

Row vectors everywhere: x @ W. Weights have the field's names and shapes and are plain parameters,
so `model.W_Q[1, 3]` is layer 1, head 3: read it, or write to it under `torch.no_grad()`.
Architecture: Elhage et al. 2021, "A Mathematical Framework for Transformer Circuits"; positions on
q and k only: Press et al. 2020, "Shortformer".
"""

import functools
import math
from dataclasses import replace

import torch
from einops import einsum
from torch import Tensor, nn
from torch.nn.functional import embedding

from .config import ModelConfig, require, require_seed
from .hooks import NO_HOOKS, ActivationCache, Hooks, Recorder, select_names

SCORES_STD = 1 / 8  # of the first W_Q and W_K, whatever the width


class Transformer(nn.Module):
    """A decoder-only transformer.

    `seed` draws the initial weights; the global random state is not touched.
    """

    def __init__(self, cfg: ModelConfig, seed: int = 0):
        super().__init__()
        if not isinstance(cfg, ModelConfig):
            raise TypeError(
                "a Transformer is made from a ModelConfig, like ModelConfig(n_layers=2), "
                f"not from {cfg!r}."
            )
        require_seed(seed)
        self.cfg = cfg
        for name, shape, _ in parameter_table(cfg):
            self.register_parameter(name, nn.Parameter(torch.empty(shape)))
        self.reset_parameters(seed)

    def reset_parameters(self, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for name, shape, std in parameter_table(self.cfg):
                drawn = torch.randn(shape, generator=generator) * std
                self.get_parameter(name).copy_(drawn + 1.0 if name.endswith("_w") else drawn)

    def forward(self, tokens: Tensor, hook: Hooks = NO_HOOKS) -> Tensor:
        """tokens [batch, pos] -> logits [batch, pos, vocab].

        Raises TypeError or ValueError, saying what is wrong, for tokens that it cannot read.
        """
        check_tokens(tokens, self.cfg)
        try:
            return self.logits(tokens, hook)
        except IndexError:
            require_known(tokens, self.cfg)
            raise

    def logits(self, tokens: Tensor, hook: Hooks = NO_HOOKS) -> Tensor:
        """The forward pass itself, for tokens known to be right: training makes its own."""
        embed = hook("hook_embed", embedding(tokens, self.W_E))  # batch pos d_model
        pos_embed = hook("hook_pos_embed", self.W_pos[: tokens.shape[1]].expand_as(embed))
        resid, seen_by_qk = embed, pos_embed
        if self.cfg.positional_embedding_type == "standard":
            resid, seen_by_qk = embed + pos_embed, None
        for layer in range(self.cfg.n_layers):
            resid = self.block(layer, resid, seen_by_qk, hook)
        if self.cfg.layer_norm:
            resid = layer_norm(resid, self.ln_final_w, self.ln_final_b, "ln_final.", hook)
        return resid @ self.W_U

    def block(self, layer: int, resid: Tensor, pos: Tensor | None, hook: Hooks) -> Tensor:
        """One layer: the stream [batch, pos, d_model], and to it what heads and neurons write.

        pos: the positions, if q and k alone see them; None if they are in the stream.
        """
        at = f"blocks.{layer}."
        resid = hook(at + "hook_resid_pre", resid)
        resid = resid + self.attention(layer, resid, pos, hook)
        if self.cfg.d_mlp:
            resid = hook(at + "hook_resid_mid", resid)
            resid = resid + self.mlp(layer, resid, hook)
        return hook(at + "hook_resid_post", resid)

    def attention(self, layer: int, resid: Tensor, pos: Tensor | None, hook: Hooks) -> Tensor:
        """What the heads of one layer write, summed: [batch, pos, d_model].

        scores = q k^T / sqrt(d_head), -inf for later keys;  pattern = softmax(scores);
        z = pattern v;  out = sum over heads of z W_O.
        """
        at = f"blocks.{layer}.attn."
        q, k, v = self.qkv(layer, resid, pos, hook)
        q = hook(at + "hook_q", q)
        k = hook(at + "hook_k", k)
        v = hook(at + "hook_v", v)
        scores = products(q, k) / math.sqrt(self.cfg.d_head) + causal_mask(q)
        scores = hook(at + "hook_attn_scores", scores, fresh=True)
        pattern = hook(at + "hook_pattern", scores.softmax(dim=-1))
        z = hook(at + "hook_z", weighted_sum(pattern, v))
        return self.heads_out(layer, z, hook)

    def qkv(self, layer: int, resid: Tensor, pos: Tensor | None, hook: Hooks) -> list[Tensor]:
        """q, k and v, each [batch, pos, head, d_head]; positions outside the stream reach no v."""
        if self.cfg.layer_norm:
            at = f"blocks.{layer}.ln1."
            resid = layer_norm(resid, self.ln1_w[layer], self.ln1_b[layer], at, hook)
        placed = resid if pos is None else resid + pos
        W_QK = torch.cat([self.W_Q[layer], self.W_K[layer]])  # one wide product: faster than two
        q, k = project(placed, W_QK).split(self.cfg.n_heads, dim=2)
        if self.cfg.smeared_keys:
            k = smear(k, self.smear_alpha[layer])
        return [q, k, project(resid, self.W_V[layer])]

    def heads_out(self, layer: int, z: Tensor, hook: Hooks) -> Tensor:
        """z [batch, pos, head, d_head] -> the sum of the heads' outputs, [batch, pos, d_model]."""
        name, W_O = f"blocks.{layer}.attn.hook_result", self.W_O[layer]
        if hook.listens(name):  # each head on its own: work that is done only if somebody asks
            result = hook(name, each_output(z, W_O), fresh=True)
        attn_out = result.sum(dim=2) if hook.edits(name) else summed_output(z, W_O)
        return hook(f"blocks.{layer}.hook_attn_out", attn_out, fresh=True)

    def mlp(self, layer: int, resid: Tensor, hook: Hooks) -> Tensor:
        """What the neurons of one layer write: relu(x W_in + b_in) W_out + b_out."""
        at = f"blocks.{layer}."
        if self.cfg.layer_norm:
            resid = layer_norm(resid, self.ln2_w[layer], self.ln2_b[layer], at + "ln2.", hook)
        pre = hook(at + "mlp.hook_pre", resid @ self.W_in[layer] + self.b_in[layer])
        post = hook(at + "mlp.hook_post", pre.relu())  # batch pos d_mlp
        return hook(at + "hook_mlp_out", post @ self.W_out[layer] + self.b_out[layer])

    def run_with_hooks(self, tokens: Tensor, fwd_hooks=()) -> Tensor:
        """The logits when each hook function `fn(activation, hook)` may look at its activation, or
        return another.

        fwd_hooks: pairs (name or predicate on names, fn). Raises ValueError for an unknown name or
        a changed shape.
        """
        return self(tokens, Hooks(self.hook_names, fwd_hooks))

    def run_with_cache(
        self, tokens: Tensor, names_filter=None, fwd_hooks=()
    ) -> tuple[Tensor, ActivationCache]:
        """The logits and a copy of every activation (as the hooks left it) that names_filter picks
        (None: all).
        """
        hook = Hooks(self.hook_names, fwd_hooks, cached=select_names(self.hook_names, names_filter))
        return self(tokens, hook), hook.cache

    @property
    def hook_names(self) -> list[str]:
        """Every name that fwd_hooks and names_filter accept, in the order of the forward pass."""
        return list(hook_names_of(self.cfg))


@functools.cache
def hook_names_of(cfg: ModelConfig) -> tuple[str, ...]:
    """The names that the forward pass calls, recorded from one pass of the smallest such model."""
    one = {"n_heads": 1, "d_model": 1, "d_head": 1, "d_vocab": 1, "n_ctx": 1}
    smallest = Transformer(replace(cfg, **one, d_mlp=min(cfg.d_mlp, 1)))
    recorder = Recorder()
    smallest(torch.zeros(1, 1, dtype=torch.long), recorder)
    return tuple(recorder.names)


def parameter_table(cfg: ModelConfig) -> list[tuple[str, tuple[int, ...], float]]:
    """Every parameter: (name, shape, standard deviation of its first draw). LayerNorm weights start
    at 1.

    W_E and W_pos start large, so that a head can tell tokens and positions apart from the first
    step on: together they decide how fast induction appears. Their rows have a norm of 4 and 2.4 at
    any width, and W_Q and W_K one standard deviation at any width, so that the first scores are as
    large in a wide model as in a narrow one.
    """
    layer, head, d_mlp = cfg.n_layers, cfg.n_heads, cfg.d_mlp
    d_model, d_head = cfg.d_model, cfg.d_head
    std = d_model**-0.5
    table = [("W_E", (cfg.d_vocab, d_model), 4 * std), ("W_pos", (cfg.n_ctx, d_model), 2.4 * std)]
    table += [(name, (layer, head, d_model, d_head), SCORES_STD) for name in ("W_Q", "W_K")]
    table += [("W_V", (layer, head, d_model, d_head), std)]
    table += [("W_O", (layer, head, d_head, d_model), (head * d_head) ** -0.5)]
    if cfg.smeared_keys:
        table += [("smear_alpha", (layer, head), 0.0)]
    if d_mlp:
        table += [("W_in", (layer, d_model, d_mlp), std), ("b_in", (layer, d_mlp), 0.0)]
        table += [("W_out", (layer, d_mlp, d_model), d_mlp**-0.5), ("b_out", (layer, d_model), 0.0)]
    if cfg.layer_norm:
        norms = ["ln1", "ln2"] if d_mlp else ["ln1"]
        table += [(f"{norm}_{x}", (layer, d_model), 0.0) for norm in norms for x in "wb"]
        table += [(f"ln_final_{x}", (d_model,), 0.0) for x in "wb"]
    return table + [("W_U", (d_model, cfg.d_vocab), std)]


def project(x: Tensor, W: Tensor) -> Tensor:
    """x [batch, pos, d_model], W [head, d_model, d_head] -> [batch, pos, head, d_head]."""
    return einsum(x, W, "batch pos d_model, head d_model d_head -> batch pos head d_head")


def products(q: Tensor, k: Tensor) -> Tensor:
    """Each query with each key: [batch, head, query, key]."""
    return einsum(q, k, "batch query head d_head, batch key head d_head -> batch head query key")


def causal_mask(q: Tensor) -> Tensor:
    """[query, key]: 0 where the key is at or before the query, -inf where it is later."""
    n = q.shape[1]
    return torch.full((n, n), -math.inf, dtype=q.dtype, device=q.device).triu(1)


def weighted_sum(pattern: Tensor, v: Tensor) -> Tensor:
    """The values that each query gets: [batch, query, head, d_head]."""
    axes = "batch head query key, batch key head d_head -> batch query head d_head"
    return einsum(pattern, v, axes)


def each_output(z: Tensor, W_O: Tensor) -> Tensor:
    """What each head writes: [batch, pos, head, d_model]."""
    return einsum(z, W_O, "batch pos head d_head, head d_head d_model -> batch pos head d_model")


def summed_output(z: Tensor, W_O: Tensor) -> Tensor:
    """What all heads write together, in one product: [batch, pos, d_model]."""
    return einsum(z, W_O, "batch pos head d_head, head d_head d_model -> batch pos d_model")


def smear(k: Tensor, alpha: Tensor) -> Tensor:
    """k_j <- s k_j + (1 - s) k_{j-1} with s = sigmoid(alpha) per head; the first key stays.

    Olsson et al. 2022, "In-context Learning and Induction Heads", Argument 2 (arXiv 2209.11895).
    """
    s = alpha.sigmoid()[:, None]  # head 1
    return torch.cat([k[:, :1], s * k[:, 1:] + (1 - s) * k[:, :-1]], dim=1)


def layer_norm(x: Tensor, w: Tensor, b: Tensor, at: str, hook: Hooks) -> Tensor:
    """(x - mean) / scale * w + b over d_model; `hook_scale` [batch, pos, 1] can be frozen.

    Ba et al. 2016, "Layer Normalization" (arXiv 1607.06450).
    """
    x = x - x.mean(dim=-1, keepdim=True)
    scale = hook(at + "hook_scale", (x.pow(2).mean(dim=-1, keepdim=True) + 1e-5).sqrt())
    return x / scale * w + b


def check_tokens(tokens: Tensor, cfg: ModelConfig) -> None:
    """Raises TypeError or ValueError, saying what is wrong, unless the model can read `tokens`.

    What the tokens are is looked at only on other devices than the CPU: there a wrong one would end
    in an error that nothing recovers from, and looking makes the CPU wait. On the CPU the embedding
    itself notices, at no cost.
    """
    if not isinstance(tokens, Tensor) or tokens.dtype not in (torch.int64, torch.int32):
        kind = tokens.dtype if isinstance(tokens, Tensor) else type(tokens).__name__
        raise TypeError(f"tokens must be a tensor of whole numbers (torch.long), not {kind}.")
    shape, least = list(tokens.shape), "tokens must have shape [batch, pos], neither of them 0"
    right = len(shape) == 2 and 0 not in shape
    require(right, f"{least}, not {shape}. One sequence: tokens[None].")
    most = f"this model reads at most n_ctx = {cfg.n_ctx}"
    require(shape[1] <= cfg.n_ctx, f"the sequence has {shape[1]} tokens; {most}.")
    if tokens.device.type != "cpu":
        require_known(tokens, cfg)


def require_known(tokens: Tensor, cfg: ModelConfig) -> None:
    """Raises ValueError for a token that the model has no embedding of."""
    low, high = int(tokens.min()), int(tokens.max())
    known = f"this model knows 0 to d_vocab - 1 = {cfg.d_vocab - 1}"
    require(0 <= low and high < cfg.d_vocab, f"tokens run from {low} to {high}; {known}.")
