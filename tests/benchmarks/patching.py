"""What does batching a sweep bring? python -m tests.benchmarks.patching

One sweep is every head output of the course's model at every position of a 14-token prompt, 2 x 4 x
14 = 112 cells. The batched sweep (patch_cells: cells are rows) takes turns with one forward pass
per cell, each on one thread and on two; medians of the same minutes; both give the same logits. The
last column compares the best of each. Batching saves the fixed cost of a pass, so it pays most for
few prompts; the arithmetic itself stays the same. On a busy machine two threads wait for each
other: judge them on a quiet one.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from minitransformer import Transformer, load
from solutions.ch11_patching import ALL, corrupt_pairs, induction_prompts, patch_cells
from tests.benchmarks.step import settle_memory, take_turns
from tests.material import seeded

TARGET = 5.0  # for a single prompt


def one_pass_per_cell(model: Transformer, tokens: Tensor, saved: dict, cells: list) -> Tensor:
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
    """Median seconds of one sweep over this many prompts, for both ways on one and two threads."""
    clean = induction_prompts(prompts, model.cfg.d_vocab, seeded())
    pairs = corrupt_pairs(clean, 3, 9, "key")
    names = [f"blocks.{layer}.attn.hook_z" for layer in range(model.cfg.n_layers)]
    _, saved = model.run_with_cache(pairs.clean, names)
    heads, positions = range(model.cfg.n_heads), range(clean.shape[1])
    cells = [[(name, (pos, head))] for name in names for head in heads for pos in positions]
    ways = {
        "one by one": partial(one_pass_per_cell, model, pairs.corrupt, saved, cells),
        "batched": partial(patch_cells, model, pairs.corrupt, saved, cells),
    }
    one_by_one, batched = ways.values()
    torch.testing.assert_close(one_by_one(), batched(), rtol=1e-3, atol=1e-3)
    calls = {}
    for threads, text in ((1, "1 thread"), (2, "2 threads")):
        calls |= {f"{name}, {text}": on_threads(threads, way) for name, way in ways.items()}
    return take_turns(calls, rounds, warm_up=2)


@torch.no_grad()
def main() -> None:
    model, tables = load("induction"), {}
    settle_memory()
    for prompts in (1, 4, 16):
        tables[prompts] = sweep(model, prompts)
    last = f"best : best, target {TARGET:.0f} for one prompt"
    columns = ["prompts", *tables[1], last]
    print("| " + " | ".join(columns) + " |")
    print("|---" * len(columns) + "|")
    for prompts, seconds in tables.items():
        slow = min(t for name, t in seconds.items() if name.startswith("one by one"))
        fast = min(t for name, t in seconds.items() if name.startswith("batched"))
        times = " | ".join(f"{1e3 * t:.1f} ms" for t in seconds.values())
        print(f"| {prompts} | {times} | {slow / fast:.1f} |")


if __name__ == "__main__":
    main()
