"""One step down the loss: what is minimised, at which rate, and by which optimizer.

    loss = Loss(model, elsewhere=0.1)
    optimizer = optimizer_of(model.named_parameters(), model.cfg, config, "cpu")
    set_rates(optimizer, config, step=0)
    descend(loss, optimizer, "cpu", batch)

On CUDA the lines of `descend` are some hundred launches, and a small model waits for each;
there `cuda_graph.py` makes one of them.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from .config import ModelConfig, TrainConfig
from .data import Batch
from .model import Transformer

TUNED_WIDTH = 64  # the d_model at which the presets' learning rates were found
PER_TOKEN = ("W_E", "W_pos")  # a step moves single rows of these, whatever the width


class Loss(nn.Module):
    """The mean of the next-token losses of a batch, in nats, with weight 1 on predictable tokens
    and `elsewhere` on others.

    Of several processes that share each batch (parallel.py), number `process` runs the rows
    process, process + processes, ...; the mean of what they return is the loss of the batch.
    """

    def __init__(self, model: Transformer, elsewhere: float, process=0, processes=1):
        super().__init__()
        self.model, self.elsewhere = model, elsewhere
        self.rows, self.processes = slice(process, None, processes), processes

    def forward(self, tokens: Tensor, predictable: Tensor) -> Tensor:
        known = predictable[:, :-1]
        weight = known + self.elsewhere * ~known  # batch pos
        tokens, next_tokens = tokens[self.rows, :-1], tokens[self.rows, 1:]
        logits = self.model.logits(tokens)
        losses = cross_entropy(logits.flatten(0, 1), next_tokens.flatten(), reduction="none")
        total = (weight[self.rows] * losses.view_as(next_tokens)).sum()
        return self.processes * total / weight.sum()


def descend(loss: nn.Module, optimizer: torch.optim.Optimizer, device: str, batch: Batch) -> None:
    """One step of the weights, which lie on `device`."""
    loss(*(part.to(device) for part in batch)).backward()
    optimizer.step()
    optimizer.zero_grad()


def optimizer_of(
    parameters, cfg: ModelConfig, config: TrainConfig, device: str
) -> torch.optim.Optimizer:
    """AdamW for named parameters, with the rate of a matrix in inverse proportion to d_model, once
    that is greater than TUNED_WIDTH.

    Adam moves every entry alike; a product sums over as many entries as the model is wide, so that
    the same rate would move what it gives further in a wider model. Yang et al. 2022, "Tensor
    Programs V: Tuning Large Neural Networks via Zero-Shot Hyperparameter Transfer" (arXiv
    2203.03466).
    """
    cuda = device.startswith("cuda")
    by_share: dict[float, list] = {}
    for name, weights in parameters:
        is_matrix = name.startswith("W_") and name not in PER_TOKEN
        share = min(1.0, TUNED_WIDTH / cfg.d_model) if is_matrix else 1.0
        by_share.setdefault(share, []).append(weights)
    groups = []
    for share, weights in by_share.items():
        rate = torch.tensor(0.0, device=device) if cuda else 0.0  # a graph can only read a tensor
        groups.append({"params": weights, "share": share, "lr": rate})
    only = {"fused": device != "mps", "capturable": cuda}
    return torch.optim.AdamW(groups, betas=(0.9, 0.99), weight_decay=config.weight_decay, **only)


def set_rates(optimizer: torch.optim.Optimizer, config: TrainConfig, step: int) -> None:
    for group in optimizer.param_groups:
        rate = config.learning_rate * group["share"] * schedule(step, config)
        if torch.is_tensor(group["lr"]):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


def schedule(step: int, config: TrainConfig) -> float:
    """Learning rate as a share of its peak: it rises over `warmup` steps, and falls to 0 at the
    end, both in a straight line.
    """
    rise = (step + 1) / (config.warmup + 1)
    fall = (config.steps - step) / max(1.0, config.decay * config.steps)
    return min(1.0, rise, fall)
