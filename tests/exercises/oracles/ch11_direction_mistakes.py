"""What people get wrong in sufficiency_and_necessity: the slow oracle, finished in another way."""

import torch

from solutions.ch11_patching import ALL
from tests.exercises.oracles.ch11 import both_ways, ends_of, moved_metric


def ways_with(finish):
    """sufficiency_and_necessity with its two results finished in another way."""
    return lambda *arguments: finish(*both_ways(*arguments))


def from_itself(model, clean, corrupt, cells, metric):
    """Each run patched from its own cache: nothing moves."""
    nothing = torch.zeros(len(cells), dtype=torch.float64)
    return nothing, nothing.clone()


def by_zeroing(model, clean, corrupt, cells, metric):
    """Necessity by taking the cell away, in place of the corrupt one."""

    def zero(x, there, index):
        x[(ALL, *index)] = 0

    good, bad = ends_of(model, clean, corrupt, metric)
    sufficient, _ = both_ways(model, clean, corrupt, cells, metric)
    lost = good - moved_metric(model, clean, corrupt, cells, metric, zero)
    return sufficient, lost / (good - bad)


def not_shared(model, clean, corrupt, cells, metric):
    good, bad = ends_of(model, clean, corrupt, metric)
    return tuple(each * (good - bad) for each in both_ways(model, clean, corrupt, cells, metric))


DIRECTION_MISTAKES = {
    "necessary is how much of the metric is lost: 1 minus what remains": ways_with(
        lambda sufficient, necessary: (sufficient, 1 - necessary)
    ),
    "the two are exchanged: sufficient comes from the corrupt run with clean cells": ways_with(
        lambda sufficient, necessary: (necessary, sufficient)
    ),
    "necessary was computed as 1 - sufficient; it needs runs of its own": ways_with(
        lambda sufficient, necessary: (sufficient, 1 - sufficient)
    ),
    "both were measured by denoising; necessity needs the clean run with corrupt cells": ways_with(
        lambda sufficient, necessary: (sufficient, sufficient)
    ),
    "the cells were averaged; each cell has shares of its own": ways_with(
        lambda sufficient, necessary: (sufficient.mean(), necessary.mean())
    ),
    "clean and corrupt are exchanged where the gap is measured": ways_with(
        lambda sufficient, necessary: (1 - sufficient, 1 - necessary)
    ),
    "sufficient is how much is restored, not 1 minus that": ways_with(
        lambda sufficient, necessary: (1 - sufficient, necessary)
    ),
    "the shares were clipped to 0 to 1; they may leave it": ways_with(
        lambda sufficient, necessary: (sufficient.clamp(0, 1), necessary.clamp(0, 1))
    ),
    "each run was patched from itself, so that nothing moves; patch it from the other": from_itself,
    "necessary was measured by zeroing the cell; put the corrupt one in": by_zeroing,
    "the results are in the metric's unit; divide by the gap": not_shared,
}
