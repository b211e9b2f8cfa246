"""The pictures of chapter 10: direct against indirect, ledgers, queries or keys."""

import numpy as np
import torch
from torch import Tensor

from minitransformer.plots import BLUE, GREEN, ORANGE, PINK, RED, Figure, heatmap, plt

COLOURS = {"direct": BLUE, "via patterns": ORANGE, "via values": GREEN, "interaction": PINK}


def draw_direct_indirect(
    panels: dict[str, dict[tuple[int, int], tuple[float, float]]], named: list[list]
) -> Figure:
    """One panel per model: head -> (direct effect, indirect effect).

    named: groups of heads to name in the first panel.
    """
    figure, axes = plt.subplots(1, len(panels), figsize=(12.5, 4.3), sharex=True, sharey=True)
    styles = {0: {"color": ORANGE, "marker": "o"}, 1: {"color": BLUE, "marker": "s"}}
    for ax, (title, effects) in zip(axes, panels.items()):
        ax.axhline(0, color="grey", linewidth=0.8)
        ax.axvline(0, color="grey", linewidth=0.8)
        for layer, look in styles.items():
            direct = [effect[0] for head, effect in effects.items() if head[0] == layer]
            indirect = [effect[1] for head, effect in effects.items() if head[0] == layer]
            ax.scatter(direct, indirect, s=55, alpha=0.8, label=f"heads of layer {layer}", **look)
        ax.set_title(title, fontsize=11)
        ax.set_xlabel("direct effect (nats)")
    axes[0].set_ylabel("indirect effect = total - direct (nats)")
    first = next(iter(panels.values()))
    for group in named:
        if group:
            x, y = torch.tensor([first[head] for head in group]).mean(dim=0).tolist()
            names = ", ".join(f"{layer}.{number}" for layer, number in group)
            axes[0].text(x - 0.25, y, names, ha="right", va="center")
    axes[-1].legend(loc="lower left", fontsize=10)
    title = "Trained models: layer 0 steers, layer 1 writes. The impostor's heads all write"
    figure.suptitle(title, x=0.02, ha="left")
    return figure


def draw_ledgers(ledgers: dict[str, dict[str, Tensor]], kept: float) -> Figure:
    """One bar per head, stacked from the four ways (helping parts to the left), and its total."""
    figure, ax = plt.subplots(figsize=(9, 4.2))
    for row, ledger in enumerate(ledgers.values()):
        left_end, right_end = 0.0, 0.0
        for way, colour in COLOURS.items():
            size = ledger[way].item()
            start = right_end if size > 0 else left_end
            ax.barh(row, size, left=start, color=colour, height=0.6, label=way)
            if size > 0:
                right_end += size
            else:
                left_end += size
        total = ledger["total"].item()
        mark = [row - 0.42, row + 0.42]
        ax.plot([total, total], mark, color="black", linewidth=2, label="total, measured")
        if row == 0:
            legend_of = ax.get_legend_handles_labels()  # once: all rows have the same colours
    ax.axvline(0, color="black", linewidth=0.8)
    ax.axvline(-kept, color="grey", linestyle=":")
    ax.text(-kept + 0.1, 0, "all that there is to lose", color="grey", fontsize=10, va="center")
    ax.set_yticks(range(len(ledgers)), ledgers)
    ax.invert_yaxis()
    ax.set(xlabel="effect of zeroing the head on right minus wrong (nats)", ylabel="head")
    ax.set_title("Layer 0 acts by telling layer 1 where to look, layer 1 by writing the answer")
    ax.legend(*legend_of, loc="lower left", bbox_to_anchor=(0.3, 0.02), fontsize=10)
    return figure


def draw_known(rows: dict[str, dict[str, Tensor]]) -> Figure:
    """Ledgers of hand-built heads as shares of the size of their total: below 0 is a loss."""
    figure, ax = plt.subplots(figsize=(8.4, 4.4))
    ledgers = torch.stack([torch.stack(list(ledger.values())) for ledger in rows.values()])
    totals = torch.stack([ledger["total"] for ledger in rows.values()])
    shares = ledgers / totals.abs()[:, None]
    heatmap(ax, shares, signed=True, limit=1.2)
    ax.set_title("Heads whose ways are known: the ledger finds each of them")
    for (row, column), share in np.ndenumerate(shares.numpy()):
        text = f"{share:+.0%}" if abs(share) > 0.005 else "0"
        colour = "white" if abs(share) > 0.6 else "black"
        ax.text(column, row, text, ha="center", va="center", color=colour)
    ax.set_aspect("auto")
    ax.set_yticks(range(len(rows)), rows)
    ax.set_xticks(range(shares.shape[1]), list(next(iter(rows.values()))))
    ax.axvline(3.5, color="black", linewidth=1.5)
    ax.set_xlabel("way (in % of the size of the total effect)")
    return figure


def draw_sides(sides: dict[str, dict[str, Tensor]]) -> Figure:
    """Per head: the effect via queries, via keys, their sum, and both at once."""
    figure, ax = plt.subplots(figsize=(8.6, 3.9))
    places = np.arange(len(sides))
    queries = np.array([each["via queries"].item() for each in sides.values()])
    keys = np.array([each["via keys"].item() for each in sides.values()])
    both = np.array([each["both"].item() for each in sides.values()])
    ax.bar(places - 0.3, queries, 0.19, color=GREEN, label="via queries")
    ax.bar(places - 0.1, keys, 0.19, color=ORANGE, label="via keys")
    ax.bar(places + 0.1, queries + keys, 0.19, color="lightgrey", label="sum of the two")
    ax.bar(places + 0.3, both, 0.19, color=RED, label="both at once")
    ax.axhline(0, color="black", linewidth=0.8)
    ax.set_xticks(places, sides)
    ax.set(ylabel="effect on right minus wrong\n(nats)")
    ax.set_title("The previous-token heads change what layer 1 is offered, not what it asks")
    ax.legend(loc="lower left", fontsize=10)
    return figure
