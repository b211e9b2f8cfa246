"""Launch a training step as one CUDA graph.

A small model's step is some hundred kernels of a few microseconds; launching them one by one takes
Python longer. A graph records the launches once and replays them with one call. It reads its batch
from tensors that stay where they are, so each new batch is copied there.
"""

from collections.abc import Callable

from torch import cuda
from tqdm import tqdm

from .data import Batch

EAGER_STEPS = 3  # libraries set themselves up in the first ones, which a recording cannot hold


class Captured:
    """Calls `step(batch)`: the first times as it is, then recorded and replayed."""

    def __init__(self, step: Callable[[Batch], None], device: str):
        self.step, self.device = step, device
        self.batch, self.graph, self.calls = None, None, 0

    def __call__(self, batch: Batch) -> None:
        self.place(batch)
        if self.calls == EAGER_STEPS:
            self.record()
        if self.graph is not None:
            self.graph.replay()
        else:
            self.step(self.batch)
        self.calls += 1

    def place(self, batch: Batch) -> None:
        """Copy a batch to where the graph reads; the CPU does not wait for it."""
        pinned = [part.contiguous().pin_memory() for part in batch]
        self.batch = self.batch or Batch(*(part.to(self.device) for part in pinned))
        for mine, new in zip(self.batch, pinned):
            mine.copy_(new, non_blocking=True)

    def record(self) -> None:
        graph = cuda.CUDAGraph()
        try:
            with cuda.graph(graph):
                self.step(self.batch)  # runs nothing: weights and moments stay as they are
            self.graph = graph
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
            tqdm.write(f"steps are launched piece by piece, without a CUDA graph: {reason}")
