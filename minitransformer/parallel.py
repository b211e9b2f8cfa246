"""One training on several devices: torchrun --nproc-per-node 2 -m minitransformer train

Every process draws the same batch and runs its share of the rows; PyTorch's DistributedDataParallel
averages the gradients, so that all take the same step. What one decides for all, the first decides:
it measures, writes and speaks. gloo carries what CPUs say to each other, nccl what cards do.
"""

import os
import signal
import sys
from contextlib import contextmanager, redirect_stdout
from functools import partial

import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

from .config import require
from .descent import Loss, descend

ENDED = "another process of this training ended, and no step can be taken without it"


def is_parallel() -> bool:
    """Did torchrun start this process?"""
    return "TORCHELASTIC_RUN_ID" in os.environ


def is_first() -> bool:
    return not is_parallel() or os.environ["RANK"] == "0"


@contextmanager
def together(device: str):
    """Join the other processes; gives the device of this one. Only the first is heard.

    Ends the process with a sentence when another one is gone. Raises ValueError for mps.
    """
    require(device != "mps", "torchrun works on cuda and on CPUs: add --device cpu.")
    if device == "cuda":
        device = f"cuda:{os.environ['LOCAL_RANK']}"
        torch.cuda.set_device(device)
    distributed.init_process_group("gloo" if device == "cpu" else "cpu:gloo,cuda:nccl")
    signal.signal(signal.SIGTERM, lambda *_: leave())  # how torchrun says that one has ended
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        with redirect_stdout(sys.stdout if is_first() else nowhere):
            try:
                yield device
            except RuntimeError as error:
                if "gloo" not in str(error) and not isinstance(error, distributed.DistBackendError):
                    raise
                leave()
    distributed.destroy_process_group()


def leave() -> None:
    if is_first():
        print(f"\nerror: {ENDED}. Go on from the last checkpoint: --resume.", file=sys.stderr)
        sys.stderr.flush()
    os._exit(1)  # an orderly end would wait for the others


def share(run) -> None:
    """Let the steps of a run be taken together, if there are several processes.

    Raises ValueError if one of them would get no row.
    """
    if not is_parallel():
        return
    processes, batch_size = distributed.get_world_size(), run.config.batch_size
    need = f"{processes} processes cannot share a batch of {batch_size} sequences"
    require(processes <= batch_size, f"{need}: start fewer.")
    loss = Loss(run.model, run.config.elsewhere, distributed.get_rank(), processes)
    device = str(run.model.W_E.device)
    run.descend = partial(descend, DistributedDataParallel(loss), run.optimizer, device)


def anywhere(here: bool) -> bool:
    """Is it so in any process? All must ask at the same time."""
    if not is_parallel():
        return here
    somewhere = torch.tensor(float(here))
    distributed.all_reduce(somewhere, distributed.ReduceOp.MAX)
    return bool(somewhere)


def from_first(value):
    """What the first process has, in all of them."""
    values = [value]
    if is_parallel():
        distributed.broadcast_object_list(values)
    return values[0]
