"""What does readability cost? python -m tests.benchmarks.step

Times our Transformer against a bare one of the same shape, written below with no hooks, no checks
and one fused product for q, k and v; the forward pass with hooks nobody uses against the same
without hook code; run_with_cache against forward; growing context; one thread against two.
Competitors take turns, step by step (ABAB), so that whatever else the machine does hits both alike;
each ratio is one of medians from the same minutes."""

import math
import statistics
import time
from collections.abc import Callable
from dataclasses import replace

import torch
from einops import einsum, rearrange
from torch import Tensor
from torch.nn.functional import cross_entropy

from minitransformer import ModelConfig, Transformer
from minitransformer.data import random_tokens
from minitransformer.model import causal_mask, check_tokens, project

BATCH = 32


def take_turns(
    competitors: dict[str, Callable], rounds: int, warm_up: int = 10
) -> dict[str, float]:
    """Median seconds of one call of each, called in turns."""
    seconds = {name: [] for name in competitors}
    for turn in range(warm_up + rounds):
        for name, call in competitors.items():
            began = time.perf_counter()
            call()
            if turn >= warm_up:
                seconds[name].append(time.perf_counter() - began)
    return {name: statistics.median(values) for name, values in seconds.items()}


# ---- a bare transformer: the same function, as few operations as PyTorch needs


def bare_weights(model: Transformer) -> dict:
    """Per layer W_QK [d_model, 2 * head * d_head], W_V and W_O as plain matrices; the same numbers
    as the model's.
    """

    def flat(W):  # head d_model d_head -> d_model (head d_head)
        return W.transpose(0, 1).flatten(1)

    layers = range(model.cfg.n_layers)
    fused = {("QK", i): torch.cat([flat(model.W_Q[i]), flat(model.W_K[i])], dim=1) for i in layers}
    fused |= {("V", i): flat(model.W_V[i]) for i in layers} | {
        ("O", i): model.W_O[i].flatten(0, 1) for i in layers
    }
    fused |= {name: model.get_parameter(name) for name in ("W_E", "W_pos", "W_U")}
    return {name: weights.detach().clone().requires_grad_() for name, weights in fused.items()}


def bare_forward(W: dict, cfg: ModelConfig, mask: Tensor, tokens: Tensor) -> Tensor:
    batch, n = tokens.shape
    resid, scale = W["W_E"][tokens], cfg.d_head**-0.5
    for layer in range(cfg.n_layers):
        q, k = (
            ((resid + W["W_pos"][:n]) @ W["QK", layer])
            .view(batch, n, 2, cfg.n_heads, -1)
            .permute(2, 0, 3, 1, 4)
        )
        # batch head pos d_head
        v = (resid @ W["V", layer]).view(batch, n, cfg.n_heads, -1).transpose(1, 2)
        pattern = ((q @ k.transpose(-1, -2)) * scale + mask[:n, :n]).softmax(dim=-1)
        resid = resid + (pattern @ v).transpose(1, 2).reshape(batch, n, -1) @ W["O", layer]
    return resid @ W["W_U"]


# ---- the model's own forward pass with the hook calls taken out, and nothing else


class WithoutHooks(Transformer):
    """Line by line the forward pass of model.py for the default architecture, `hook(name, x)`
    replaced by `x`.
    """

    def forward(self, tokens: Tensor) -> Tensor:
        check_tokens(tokens, self.cfg)
        batch, n = tokens.shape
        embed = self.W_E[tokens]
        pos_embed = self.W_pos[:n].expand(batch, -1, -1)
        resid = embed
        for layer in range(self.cfg.n_layers):
            resid = resid + self.attention(layer, resid, pos_embed)
        return resid @ self.W_U

    def attention(self, layer: int, resid: Tensor, pos_embed: Tensor) -> Tensor:
        q, k, v = self.qkv(layer, resid, pos_embed)
        scores = einsum(
            q, k, "batch query head d_head, batch key head d_head -> batch head query key"
        )
        scores = scores / math.sqrt(self.cfg.d_head) + causal_mask(scores)
        pattern = scores.softmax(dim=-1)
        z = einsum(
            pattern, v, "batch head query key, batch key head d_head -> batch query head d_head"
        )
        return self.heads_out(layer, z)

    def qkv(self, layer: int, resid: Tensor, pos_embed: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x_qk = resid + pos_embed
        W_Q_and_K = torch.cat([self.W_Q[layer], self.W_K[layer]])
        q, k = project(x_qk, W_Q_and_K).split(self.cfg.n_heads, dim=2)
        return q, k, project(resid, self.W_V[layer])

    def heads_out(self, layer: int, z: Tensor) -> Tensor:
        W_O = self.W_O[layer]
        return rearrange(z, "batch pos head d_head -> batch pos (head d_head)") @ rearrange(
            W_O, "head d_head d_model -> (head d_head) d_model"
        )


# ---- the measurements; each returns rows (what, target, measured)


def training_step(parameters, forward: Callable, tokens: Tensor) -> Callable[[], None]:
    """One step on the same batch: forward, loss, backward, AdamW."""
    optimizer = torch.optim.AdamW(parameters, lr=1e-3, fused=True)

    def step() -> None:
        logits = forward(tokens[:, :-1])
        cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten()).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def setting(n_ctx: int) -> tuple[Transformer, Tensor]:
    """The default model with another context, and one batch with one token more than it reads."""
    cfg = replace(ModelConfig(), n_ctx=n_ctx)
    return Transformer(cfg), random_tokens(
        BATCH, n_ctx + 1, cfg.d_vocab, torch.Generator().manual_seed(0)
    )


def against_bare(n_ctx: int) -> tuple[str, str, str]:
    model, tokens = setting(n_ctx)
    W, mask = bare_weights(model), torch.full((n_ctx, n_ctx), -math.inf).triu(1)
    torch.testing.assert_close(
        bare_forward(W, model.cfg, mask, tokens[:, :-1]), model(tokens[:, :-1])
    )
    ours = training_step(model.parameters(), model, tokens)
    bare = training_step(
        W.values(), lambda tokens: bare_forward(W, model.cfg, mask, tokens), tokens
    )
    seconds = take_turns({"ours": ours, "bare": bare}, rounds=400)
    ms = f"{1e3 * seconds['ours']:.2f} ms : {1e3 * seconds['bare']:.2f} ms"
    return (
        f"training step, n_ctx {n_ctx}: ours : bare",
        "1.20",
        f"{seconds['ours'] / seconds['bare']:.2f} ({ms})",
    )


def against_stripped() -> tuple[str, str, str]:
    model, tokens = setting(32)
    stripped, tokens = WithoutHooks(model.cfg), tokens[:, :-1]
    assert torch.equal(stripped(tokens), model(tokens))
    seconds = take_turns(
        {"hooks": lambda: model(tokens), "stripped": lambda: stripped(tokens)}, rounds=2000
    )
    ratio = f"{seconds['hooks'] / seconds['stripped']:.3f} ({1e3 * seconds['hooks']:.2f} ms)"
    return "forward, hooks there and unused : no hook code", "1.03", ratio


def against_cache() -> list[tuple[str, str, str]]:
    """Once with all activations, and once without hook_result, which the plain forward pass never
    computes.
    """
    model, tokens = setting(32)
    tokens, rows = tokens[:, :-1], []
    no_results = [name for name in model.hook_names if not name.endswith("hook_result")]
    for what, names in (("everything", None), ("all but hook_result", no_results)):
        runs = {
            "cache": lambda names=names: model.run_with_cache(tokens, names),
            "plain": lambda: model(tokens),
        }
        seconds = take_turns(runs, rounds=500)
        rows.append(
            (
                f"run_with_cache, {what} : forward",
                "1.30",
                f"{seconds['cache'] / seconds['plain']:.2f}",
            )
        )
    return rows


def settle_memory() -> None:
    """Free one large tensor: from then on the C library keeps freed memory instead of asking for it
    anew each time.

    Any real session does so by itself sooner or later; until then every step pays for it, and by
    luck not alike."""
    torch.zeros(8_000_000).sum()


def by_context() -> list[tuple[str, str, str]]:
    rows = []
    for n_ctx in (64, 128, 256, 512, 1024):
        model, tokens = setting(n_ctx)
        step = training_step(model.parameters(), model, tokens[:4])
        seconds = take_turns({"step": step}, rounds=max(3, 2000 // n_ctx), warm_up=2)["step"]
        rows.append((f"training step, n_ctx {n_ctx}, batch 4", "", f"{1e3 * seconds:.1f} ms"))
    return rows


def by_threads() -> tuple[str, str, str]:
    model, tokens = setting(32)
    step = training_step(model.parameters(), model, tokens)

    def on(threads: int) -> Callable[[], None]:
        return lambda: (torch.set_num_threads(threads), step())

    seconds = take_turns({"one": on(1), "two": on(2)}, rounds=400)
    torch.set_num_threads(1)
    return "training step, 2 threads : 1 thread", "", f"{seconds['two'] / seconds['one']:.2f}"


def main() -> None:
    torch.set_num_threads(1)
    settle_memory()
    rows = [
        against_bare(32),
        against_bare(48),
        against_stripped(),
        *against_cache(),
        by_threads(),
        *by_context(),
    ]
    print("| | target, at most | measured |\n|---|---|---|")
    for row in rows:
        print("| " + " | ".join(row) + " |")


if __name__ == "__main__":
    main()
