"""What does batching a sweep bring? python -m tests.benchmarks.patching

One sweep is every head output of the course's model at every position of a 14-token prompt, 2 x 4 x
14 = 112 cells. The batched sweep (patch_cells: cells are rows) takes turns with one forward pass
per cell, each on one thread and on two; medians of the same minutes; both give the same logits. The
last column compares the best of each. Batching saves the fixed cost of a pass, so it pays most for
few prompts; the arithmetic itself stays the same. On a busy machine two threads wait for each
other: judge them on a quiet one."""

from collections.abc import Callable

import torch
from torch import Tensor

from minitransformer import Transformer, load
from solutions.ch11_patching import ALL, corrupt_pairs, induction_prompts, patch_cells
from tests.benchmarks.step import settle_memory, take_turns

TARGET = 5.0  # for a single prompt


def one_pass_per_cell(
    model: Transformer, tokens: Tensor, saved: dict[str, Tensor], cells: list[list[tuple]]
) -> Tensor:
    """patch_cells without batching: [cell, batch, vocab]."""
    logits = []
    for [(name, index)] in cells:

        def patch(activation: Tensor, hook, name=name, index=index) -> Tensor:
            activation[(ALL, *index)] = saved[name][(ALL, *index)]
            return activation

        logits.append(model.run_with_hooks(tokens, [(name, patch)])[:, -1])
    return torch.stack(logits)


def on_threads(threads: int, run: Callable) -> Callable[[], Tensor]:
    def call() -> Tensor:
        torch.set_num_threads(threads)
        return run()

    return call


def sweep(model: Transformer, prompts: int, rounds: int = 7) -> dict[str, float]:
    """Median seconds of one sweep over this many prompts, for both ways on one and on two
    threads.
    """
    clean = induction_prompts(prompts, model.cfg.d_vocab, torch.Generator().manual_seed(0))
    pairs = corrupt_pairs(clean, 3, 9, "key")
    names = [f"blocks.{layer}.attn.hook_z" for layer in range(model.cfg.n_layers)]
    _, saved = model.run_with_cache(pairs.clean, names)
    cells = [
        [(name, (pos, head))]
        for name in names
        for head in range(model.cfg.n_heads)
        for pos in range(clean.shape[1])
    ]
    ways = [
        lambda f=f: f(model, pairs.corrupt, saved, cells) for f in (one_pass_per_cell, patch_cells)
    ]
    torch.testing.assert_close(ways[0](), ways[1](), rtol=1e-3, atol=1e-3)
    names = [
        f"{name}, {threads} thread{'s' * (threads > 1)}"
        for threads in (1, 2)
        for name in ("one by one", "batched")
    ]
    calls = [on_threads(threads, way) for threads in (1, 2) for way in ways]
    return take_turns(dict(zip(names, calls)), rounds, warm_up=2)


@torch.no_grad()
def main() -> None:
    model, tables = load("induction"), {}
    settle_memory()
    for prompts in (1, 4, 16):
        tables[prompts] = sweep(model, prompts)
    names = list(tables[1])
    print(
        "| prompts | " + " | ".join(names) + f" | best : best, target {TARGET:.0f} for one prompt |"
    )
    print("|---" * (len(names) + 2) + "|")
    for prompts, seconds in tables.items():
        slow, fast = (
            min(t for name, t in seconds.items() if name.startswith(way))
            for way in ("one by one", "batched")
        )
        print(
            f"| {prompts} | "
            + " | ".join(f"{1e3 * t:.1f} ms" for t in seconds.values())
            + f" | {slow / fast:.1f} |"
        )


if __name__ == "__main__":
    main()
