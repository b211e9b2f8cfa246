"""What does readability cost? python -m tests.benchmarks.step

Times our Transformer against a bare one of the same shape, written below with no hooks, no checks
and one fused product for q and k; the hook calls that nobody uses against the forward pass that
makes them; run_with_cache against forward; growing context; one thread against two. Competitors
take turns, step by step (ABAB), so that whatever else the machine does hits both alike; each ratio
is one of medians from the same minutes.
"""

import math
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from minitransformer import ModelConfig, Transformer
from minitransformer.data import random_tokens
from minitransformer.hooks import NO_HOOKS, Hooks
from tests.material import seeded

BATCH = 32


def take_turns(competitors: dict[str, Callable], rounds: int, warm_up=10) -> dict[str, float]:
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
    """The model's weights as plain matrices; per layer W_QK is [d_model, 2 * head * d_head]."""

    def flat(W):  # head d_model d_head -> d_model (head d_head)
        return W.transpose(0, 1).flatten(1)

    fused = {name: model.get_parameter(name) for name in ("W_E", "W_pos", "W_U")}
    for layer in range(model.cfg.n_layers):
        fused["QK", layer] = torch.cat([flat(model.W_Q[layer]), flat(model.W_K[layer])], dim=1)
        fused["V", layer] = flat(model.W_V[layer])
        fused["O", layer] = model.W_O[layer].flatten(0, 1)
    return {name: weights.detach().clone().requires_grad_() for name, weights in fused.items()}


def bare_forward(W: dict, cfg: ModelConfig, mask: Tensor, tokens: Tensor) -> Tensor:
    batch, n = tokens.shape
    resid, scale = W["W_E"][tokens], cfg.d_head**-0.5
    for layer in range(cfg.n_layers):
        qk = ((resid + W["W_pos"][:n]) @ W["QK", layer]).view(batch, n, 2, cfg.n_heads, -1)
        q, k = qk.permute(2, 0, 3, 1, 4)  # batch head pos d_head
        v = (resid @ W["V", layer]).view(batch, n, cfg.n_heads, -1).transpose(1, 2)
        pattern = ((q @ k.transpose(-1, -2)) * scale + mask[:n, :n]).softmax(dim=-1)
        resid = resid + (pattern @ v).transpose(1, 2).reshape(batch, n, -1) @ W["O", layer]
    return resid @ W["W_U"]


# ---- the measurements; each returns rows (what, target, measured)


def training_step(
    parameters, forward: Callable, tokens: Tensor, capturable=False
) -> Callable[[], None]:
    """One step on the same batch: forward, loss, backward, AdamW."""
    optimizer = torch.optim.AdamW(parameters, lr=1e-3, fused=True, capturable=capturable)

    def step() -> None:
        logits = forward(tokens[:, :-1])
        cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten()).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def setting(n_ctx: int) -> tuple[Transformer, Tensor]:
    """The default model with another context, and one batch with one token more than it reads."""
    cfg = replace(ModelConfig(), n_ctx=n_ctx)
    return Transformer(cfg), random_tokens(BATCH, n_ctx + 1, cfg.d_vocab, seeded())


def against_bare(n_ctx: int) -> tuple[str, str, str]:
    model, tokens = setting(n_ctx)
    W, mask = bare_weights(model), torch.full((n_ctx, n_ctx), -math.inf).triu(1)
    forward = partial(bare_forward, W, model.cfg, mask)
    torch.testing.assert_close(forward(tokens[:, :-1]), model(tokens[:, :-1]))
    ours = training_step(model.parameters(), model, tokens)
    bare = training_step(W.values(), forward, tokens)
    seconds = take_turns({"ours": ours, "bare": bare}, rounds=400)
    ms = f"{1e3 * seconds['ours']:.2f} ms : {1e3 * seconds['bare']:.2f} ms"
    ratio = f"{seconds['ours'] / seconds['bare']:.2f} ({ms})"
    return f"training step, n_ctx {n_ctx}: ours : bare", "1.20", ratio


class Questions(Hooks):
    """Changes nothing, and keeps whatever the forward pass asks, to be asked again."""

    def __init__(self):
        super().__init__()
        self.asked: list[Callable] = []

    def __call__(self, name: str, activation: Tensor, fresh: bool = False) -> Tensor:
        self.asked.append(partial(NO_HOOKS, name, activation, fresh))
        return activation

    def listens(self, name: str) -> bool:
        self.asked.append(partial(NO_HOOKS.listens, name))
        return False

    def edits(self, name: str) -> bool:
        self.asked.append(partial(NO_HOOKS.edits, name))
        return False


def unused_hooks() -> tuple[str, str, str]:
    """What a forward pass asks its hooks, asked alone (the names are built before), against it."""
    model, tokens = setting(32)
    tokens, questions = tokens[:, :-1], Questions()
    model(tokens, questions)

    def ask() -> None:
        for question in questions.asked:
            question()

    seconds = take_turns({"ask": ask, "forward": lambda: model(tokens)}, rounds=2000)
    times = f"{1e6 * seconds['ask']:.0f} µs : {1e3 * seconds['forward']:.2f} ms"
    share = f"{seconds['ask'] / seconds['forward']:.4f} ({times})"
    return f"{len(questions.asked)} hook calls that nobody uses : their forward", "0.03", share


def against_cache() -> list[tuple[str, str, str]]:
    """With all activations, and without hook_result, which the plain pass never computes."""
    model, tokens = setting(32)
    tokens, rows = tokens[:, :-1], []
    no_results = [name for name in model.hook_names if not name.endswith("hook_result")]
    for what, names in (("everything", None), ("all but hook_result", no_results)):
        cache = partial(model.run_with_cache, tokens, names)
        seconds = take_turns({"cache": cache, "plain": lambda: model(tokens)}, rounds=500)
        ratio = f"{seconds['cache'] / seconds['plain']:.2f}"
        rows.append((f"run_with_cache, {what} : forward", "1.30", ratio))
    return rows


def settle_memory() -> None:
    """Free one large tensor: from then on the C library keeps freed memory and asks for no new.

    Any real session does so by itself sooner or later; until then every step pays for it, and by
    luck not alike.
    """
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
    rows = [against_bare(32), against_bare(48), unused_hooks(), *against_cache()]
    rows += [by_threads(), *by_context()]
    print("| | target, at most | measured |\n|---|---|---|")
    for row in rows:
        print("| " + " | ".join(row) + " |")


if __name__ == "__main__":
    main()
