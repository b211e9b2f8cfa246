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
q and k only: Press et al. 2020, "Shortformer"."""

import math

import torch
from einops import einsum, rearrange
from torch import Tensor, nn

from .config import ModelConfig, require_seed
from .hooks import NO_HOOKS, ActivationCache, Hooks, select_names


class Transformer(nn.Module):
    """A decoder-only transformer. `seed` draws the initial weights; the global random state is not
    touched.
    """

    def __init__(self, cfg: ModelConfig, seed: int = 0):
        super().__init__()
        if not isinstance(cfg, ModelConfig):
            raise TypeError(
                f"a Transformer is made from a ModelConfig, like ModelConfig(n_layers=2), not from {cfg!r}."
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
        """tokens [batch, pos] -> logits [batch, pos, vocab]."""
        check_tokens(tokens, self.cfg)
        batch, n = tokens.shape
        embed = hook("hook_embed", self.W_E[tokens])  # batch pos d_model
        # batch pos d_model
        pos_embed = hook("hook_pos_embed", self.W_pos[:n].expand(batch, -1, -1))
        in_stream = self.cfg.positional_embedding_type == "standard"
        resid = embed + pos_embed if in_stream else embed  # batch pos d_model
        for layer in range(self.cfg.n_layers):
            at = f"blocks.{layer}."
            resid = hook(at + "hook_resid_pre", resid)
            resid = resid + self.attention(layer, resid, None if in_stream else pos_embed, hook)
            if self.cfg.d_mlp:
                resid = hook(at + "hook_resid_mid", resid)
                resid = resid + self.mlp(layer, resid, hook)
            resid = hook(at + "hook_resid_post", resid)
        if self.cfg.layer_norm:
            resid = layer_norm(resid, self.ln_final_w, self.ln_final_b, "ln_final.", hook)
        return resid @ self.W_U

    def attention(self, layer: int, resid: Tensor, pos_embed: Tensor | None, hook: Hooks) -> Tensor:
        """What the heads of one layer add to the stream: [batch, pos, d_model].

        pattern = softmax(q k^T / sqrt(d_head)), over keys at or before the query; z = pattern v;
        out = sum of z W_O."""
        at = f"blocks.{layer}.attn."
        q, k, v = (
            hook(at + f"hook_{name}", x)
            for name, x in zip("qkv", self.qkv(layer, resid, pos_embed, hook))
        )
        scores = einsum(
            q, k, "batch query head d_head, batch key head d_head -> batch head query key"
        )
        scores = hook(
            at + "hook_attn_scores",
            scores / math.sqrt(self.cfg.d_head) + causal_mask(scores),
            fresh=True,
        )
        pattern = hook(at + "hook_pattern", scores.softmax(dim=-1))  # batch head query key
        z = einsum(
            pattern, v, "batch head query key, batch key head d_head -> batch query head d_head"
        )
        return self.heads_out(layer, hook(at + "hook_z", z), hook)

    def qkv(
        self, layer: int, resid: Tensor, pos_embed: Tensor | None, hook: Hooks
    ) -> tuple[Tensor, Tensor, Tensor]:
        """q, k, v, each [batch, pos, head, d_head]. In shortformer mode only q and k see the
        positions.
        """
        if self.cfg.layer_norm:
            resid = layer_norm(
                resid, self.ln1_w[layer], self.ln1_b[layer], f"blocks.{layer}.ln1.", hook
            )
        x_qk = resid if pos_embed is None else resid + pos_embed
        # one product of twice the width is faster than two
        W_Q_and_K = torch.cat([self.W_Q[layer], self.W_K[layer]])
        q, k = project(x_qk, W_Q_and_K).split(self.cfg.n_heads, dim=2)
        if self.cfg.smeared_keys:
            k = smear(k, self.smear_alpha[layer])
        return q, k, project(resid, self.W_V[layer])

    def heads_out(self, layer: int, z: Tensor, hook: Hooks) -> Tensor:
        """z [batch, pos, head, d_head] -> the sum of the heads' outputs, [batch, pos, d_model]."""
        at, W_O = f"blocks.{layer}.", self.W_O[layer]
        attn_out = rearrange(z, "batch pos head d_head -> batch pos (head d_head)") @ rearrange(
            W_O, "head d_head d_model -> (head d_head) d_model"
        )
        if hook.listens(at + "attn.hook_result"):  # each head on its own: only if somebody asks
            result = einsum(
                z, W_O, "batch pos head d_head, head d_head d_model -> batch pos head d_model"
            )
            result = hook(at + "attn.hook_result", result, fresh=True)
            # so that an edit counts, and gradients flow through it
            if hook.edits(at + "attn.hook_result"):
                attn_out = result.sum(dim=2)
        return hook(at + "hook_attn_out", attn_out, fresh=True)

    def mlp(self, layer: int, resid: Tensor, hook: Hooks) -> Tensor:
        """What the neurons of one layer add to the stream: relu(x W_in + b_in) W_out + b_out,
        [batch, pos, d_model].
        """
        at = f"blocks.{layer}."
        if self.cfg.layer_norm:
            resid = layer_norm(resid, self.ln2_w[layer], self.ln2_b[layer], at + "ln2.", hook)
        # batch pos d_mlp
        pre = hook(at + "mlp.hook_pre", resid @ self.W_in[layer] + self.b_in[layer])
        post = hook(at + "mlp.hook_post", pre.relu())  # batch pos d_mlp
        return hook(at + "hook_mlp_out", post @ self.W_out[layer] + self.b_out[layer])

    def run_with_hooks(self, tokens: Tensor, fwd_hooks=()) -> Tensor:
        """The logits when each hook function `fn(activation, hook)` may look at its activation, or
        return another.

        fwd_hooks: pairs (name or predicate on names, fn). Raises ValueError for an unknown name or
        a changed shape."""
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
        cfg, names = self.cfg, ["hook_embed", "hook_pos_embed"]
        attn = "q k v attn_scores pattern z result".split()
        block = [
            "hook_resid_pre",
            *["ln1.hook_scale"] * cfg.layer_norm,
            *(f"attn.hook_{x}" for x in attn),
            "hook_attn_out",
        ]
        if cfg.d_mlp:
            block += [
                "hook_resid_mid",
                *["ln2.hook_scale"] * cfg.layer_norm,
                "mlp.hook_pre",
                "mlp.hook_post",
                "hook_mlp_out",
            ]
        names += [
            f"blocks.{layer}.{name}"
            for layer in range(cfg.n_layers)
            for name in [*block, "hook_resid_post"]
        ]
        return names + ["ln_final.hook_scale"] * cfg.layer_norm


def parameter_table(cfg: ModelConfig) -> list[tuple[str, tuple[int, ...], float]]:
    """Every parameter: (name, shape, standard deviation of its first draw). LayerNorm weights start
    at 1.

    W_E and W_pos start large, so that a head can tell tokens and positions apart from the first
    step on: together they decide how fast induction appears."""
    layer, head, d_model, d_head, d_mlp = (
        cfg.n_layers,
        cfg.n_heads,
        cfg.d_model,
        cfg.d_head,
        cfg.d_mlp,
    )
    std = d_model**-0.5
    table = [("W_E", (cfg.d_vocab, d_model), 4 * std), ("W_pos", (cfg.n_ctx, d_model), 0.3)]
    table += [(name, (layer, head, d_model, d_head), std) for name in ("W_Q", "W_K", "W_V")]
    table += [("W_O", (layer, head, d_head, d_model), (head * d_head) ** -0.5)]
    if cfg.smeared_keys:
        table += [("smear_alpha", (layer, head), 0.0)]
    if d_mlp:
        table += [("W_in", (layer, d_model, d_mlp), std), ("b_in", (layer, d_mlp), 0.0)]
        table += [("W_out", (layer, d_mlp, d_model), d_mlp**-0.5), ("b_out", (layer, d_model), 0.0)]
    if cfg.layer_norm:
        norms = ["ln1"] + ["ln2"] * bool(d_mlp)
        table += [(f"{norm}_{x}", (layer, d_model), 0.0) for norm in norms for x in "wb"]
        table += [(f"ln_final_{x}", (d_model,), 0.0) for x in "wb"]
    return table + [("W_U", (d_model, cfg.d_vocab), std)]


def project(x: Tensor, W: Tensor) -> Tensor:
    """x [batch, pos, d_model], W [head, d_model, d_head] -> [batch, pos, head, d_head], as one
    matrix product.
    """
    fused = rearrange(W, "head d_model d_head -> d_model (head d_head)")
    return rearrange(x @ fused, "batch pos (head d_head) -> batch pos head d_head", head=len(W))


def causal_mask(scores: Tensor) -> Tensor:
    """[query, key]: 0 where the key is at or before the query, -inf where it is later."""
    n = scores.shape[-1]
    return torch.full((n, n), -math.inf, dtype=scores.dtype, device=scores.device).triu(1)


def smear(k: Tensor, alpha: Tensor) -> Tensor:
    """k_j <- s k_j + (1 - s) k_{j-1} with s = sigmoid(alpha) per head; the first key stays. Elhage
    et al. 2021.
    """
    s = alpha.sigmoid()[:, None]  # head 1
    return torch.cat([k[:, :1], s * k[:, 1:] + (1 - s) * k[:, :-1]], dim=1)


def layer_norm(x: Tensor, w: Tensor, b: Tensor, at: str, hook: Hooks) -> Tensor:
    """(x - mean) / scale * w + b over d_model; `hook_scale` [batch, pos, 1] can be frozen. Ba et
    al. 2016.
    """
    x = x - x.mean(dim=-1, keepdim=True)
    scale = hook(at + "hook_scale", (x.pow(2).mean(dim=-1, keepdim=True) + 1e-5).sqrt())
    return x / scale * w + b


def check_tokens(tokens: Tensor, cfg: ModelConfig) -> None:
    """Raises TypeError or ValueError, saying what is wrong, unless tokens is a [batch, pos] that
    the model can read.
    """
    if not isinstance(tokens, Tensor) or tokens.dtype not in (torch.int64, torch.int32):
        kind = tokens.dtype if isinstance(tokens, Tensor) else type(tokens).__name__
        raise TypeError(f"tokens must be a tensor of whole numbers (torch.long), not {kind}.")
    if tokens.ndim != 2 or tokens.numel() == 0:
        shape = list(tokens.shape)
        raise ValueError(
            f"tokens must have shape [batch, pos], neither of them 0, not {shape}. One sequence: tokens[None]."
        )
    if tokens.shape[1] > cfg.n_ctx:
        raise ValueError(
            f"the sequence has {tokens.shape[1]} tokens; this model reads at most n_ctx = {cfg.n_ctx}."
        )
    low, high = (int(x) for x in tokens.aminmax())
    if low < 0 or high >= cfg.d_vocab:
        raise ValueError(
            f"tokens run from {low} to {high}; this model knows 0 to d_vocab - 1 = {cfg.d_vocab - 1}."
        )
