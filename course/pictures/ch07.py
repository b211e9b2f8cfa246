"""The pictures of chapter 7: three circuits side by side, their spectrum, eigenvalues, several
heads as one, the scores of token pairs.
"""

import torch
from torch import Tensor

from minitransformer.plots import BLUE, GREEN, ORANGE, RED, Figure, heatmap, plt
from solutions.ch07_qk_ov_circuits import LowRank


def draw_maps(matrices: dict[str, Tensor], title: str, unit: str, **how) -> Figure:
    """Three matrices side by side, on one scale."""
    figure, axes = plt.subplots(1, 3, figsize=(11, 3.9))
    for ax, (name, matrix) in zip(axes, matrices.items()):
        image = heatmap(ax, matrix, title=name, **how)
    figure.colorbar(image, ax=axes, label=unit, shrink=0.8)
    figure.suptitle(title, x=0.01, ha="left")
    return figure


def draw_spectrum(circuits: dict[str, LowRank]) -> Figure:
    """The singular values of each circuit, by size: from its factors, and (grey) from all of it."""
    figure, ax = plt.subplots(figsize=(7, 3.6))
    for name, circuit in circuits.items():
        whole, thin = torch.linalg.svdvals(circuit.dense), circuit.svd()[1]
        ax.plot(range(1, len(whole) + 1), whole, color="lightgrey", linewidth=4)
        ax.plot(range(1, len(thin) + 1), thin, marker="o", label=name)
    ax.set_yscale("log")
    ax.set_xlabel(f"singular value, by size (grey: all {len(whole)}, from the whole matrix)")
    ax.set_ylabel("size (logits)")
    size = f"A circuit of {len(whole)} x {len(whole)} numbers"
    ax.set_title(f"{size} has only {len(thin)} directions;\nthe rest is rounding")
    ax.legend(loc="upper right")
    return figure


def draw_gauge(kinds: dict[str, Tensor], n_heads: int) -> Figure:
    """Copying scores [layer * head] of one model, once for each way to write down its weights."""
    figure, ax = plt.subplots(figsize=(8, 3.9))
    looks = [{"marker": "o", "color": BLUE}, {"marker": "v", "color": RED}]
    looks.append({"marker": "s", "color": "none", "edgecolor": "black", "s": 110})
    for (name, scores), look in zip(kinds.items(), looks):
        ax.scatter(range(len(scores)), scores, label=name, **{"s": 55} | look)
    ax.axhline(0, color="black", linewidth=0.8)
    ax.set_xticks(range(2 * n_heads), [f"{i // n_heads}.{i % n_heads}" for i in range(2 * n_heads)])
    ax.set(xlabel="head", ylabel="copying score", ylim=(-1.1, 1.1))
    title = "The same model: with u, layer 0 'copies' and layer 1 'suppresses'"
    if len(kinds) > 2:
        title += ".\nThe centred score does not move"
    ax.set_title(title)
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def draw_eigenvalues(
    groups: dict[str, Tensor], scores: dict[str, Tensor], untrained: Tensor
) -> Figure:
    """One panel per group of heads: eigenvalues [head, d_head], sizes scaled to sum 1 per head."""
    figure, axes = plt.subplots(1, len(groups), figsize=(11, 3.9), sharex=True, sharey=True)
    for ax, (name, values), colour in zip(axes, groups.items(), (BLUE, GREEN, RED)):
        grey = untrained / untrained.abs().sum(dim=1, keepdim=True)
        share = values / values.abs().sum(dim=1, keepdim=True)
        ax.scatter(grey.real, grey.imag, s=4, color="lightgrey")
        ax.scatter(share.real, share.imag, s=16, color=colour, alpha=0.7)
        ax.set_title(f"{name}\nscores {scores[name].min():.2f} to {scores[name].max():.2f}")
        ax.set(xlabel="real part", aspect="equal", xlim=(-0.24, 0.24), ylim=(-0.2, 0.2))
    axes[0].set_ylabel("imaginary part")
    title = f"Eigenvalues, sizes scaled to sum 1 per head; {len(untrained)} untrained heads in grey"
    figure.suptitle(f"{title}: copying is a push to the right", x=0.01, ha="left")
    return figure


def draw_sums(copied: dict[str, float], looks_back: dict[str, float]) -> Figure:
    """Tokens copied by each head and, last, by their sum; attention one back. Shares, by name."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.6, 3.7), width_ratios=[5, 3])
    percent = [100 * share for share in copied.values()]
    bars = left.bar(list(copied), percent, color=BLUE)
    bars[-1].set_color(ORANGE)
    left.bar_label(bars, fmt="%.0f")
    left.set(xlabel="induction head", ylabel="tokens copied (%)", ylim=(0, 108))
    left.set_title("OV circuits may be added")
    bars = right.bar(list(looks_back), [100 * share for share in looks_back.values()])
    right.bar_label(bars, fmt="%.0f")
    right.set(ylabel="layer 0's attention\nto the previous token (%)", ylim=(0, 108))
    right.set_title("QK circuits may not")
    return figure


def draw_qk(circuit: Tensor, name: str, own: Tensor, rest: Tensor) -> Figure:
    """One head's full QK circuit; and of all induction heads, the scores of pairs by their kind."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4))
    how = {"title": f"full QK circuit of {name}", "xlabel": "key token", "ylabel": "query token"}
    image = heatmap(left, circuit, signed=True, limit=3, **how)
    last = len(circuit) + 0.5
    image.set_extent((0.5, last, last, 0.5))  # without BOS, the first token is 1
    figure.colorbar(image, ax=left, label="score of the pair (nats)", shrink=0.9)
    kinds = {"another token": (rest, "lightgrey"), "its own token": (own, BLUE)}
    for label, (values, colour) in kinds.items():
        style = {"color": colour, "alpha": 0.6, "label": label, "density": True}
        right.hist(values.flatten().numpy(), torch.linspace(-3, 3, 31), **style)
    right.set(xlabel="score of the pair (nats)", ylabel="density")
    right.set_title("induction heads shun their own token")
    right.legend()
    return figure
