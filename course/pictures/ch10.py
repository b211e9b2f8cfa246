"""The pictures of chapter 10: direct against indirect, the ledger of every head, ledgers that are
known, queries or keys.
"""

import numpy as np
import torch
from torch import Tensor

from minitransformer.plots import BLUE, GREEN, ORANGE, PINK, RED, Figure, heatmap, plt

COLOURS = {"direct": BLUE, "via patterns": ORANGE, "via values": GREEN, "interaction": PINK}


def draw_direct_indirect(
    panels: dict[str, dict[tuple[int, int], tuple[float, float]]], named: list[list]
) -> Figure:
    """One panel per model: head -> (direct effect, indirect effect). named: groups of heads to name
    in the first panel.
    """
    figure, axes = plt.subplots(1, len(panels), figsize=(12.5, 4.3), sharex=True, sharey=True)
    for ax, (title, effects) in zip(axes, panels.items()):
        ax.axhline(0, color="grey", linewidth=0.8)
        ax.axvline(0, color="grey", linewidth=0.8)
        for layer, colour, marker in ((0, ORANGE, "o"), (1, BLUE, "s")):
            points = torch.tensor([pair for head, pair in effects.items() if head[0] == layer])
            ax.scatter(
                *points.T,
                color=colour,
                marker=marker,
                s=55,
                alpha=0.8,
                label=f"heads of layer {layer}",
            )
        ax.set_title(title, fontsize=11)
        ax.set_xlabel("direct effect (nats)")
    axes[0].set_ylabel("indirect effect = total - direct (nats)")
    first = next(iter(panels.values()))
    for group in filter(None, named):
        x, y = torch.tensor([first[head] for head in group]).mean(dim=0).tolist()
        axes[0].text(
            x - 0.25,
            y,
            ", ".join(f"{layer}.{number}" for layer, number in group),
            ha="right",
            va="center",
        )
    axes[-1].legend(loc="lower left", fontsize=10)
    figure.suptitle(
        "Trained models: layer 0 steers, layer 1 writes. The impostor's heads all write for themselves",
        x=0.02,
        ha="left",
    )
    return figure


def draw_ledgers(ledgers: dict[str, dict[str, Tensor]], kept: float) -> Figure:
    """One bar per head, stacked from the four ways (helping parts to the left), and a mark at the
    measured total.
    """
    figure, ax = plt.subplots(figsize=(9, 4.2))
    for row, ledger in enumerate(ledgers.values()):
        ends = {-1: 0.0, 1: 0.0}
        for way, colour in COLOURS.items():
            size = ledger[way].item()
            side = 1 if size > 0 else -1
            ax.barh(
                row,
                size,
                left=ends[side],
                color=colour,
                height=0.6,
                label=way if row == 0 else None,
            )
            ends[side] += size
        total = ledger["total"].item()
        ax.plot(
            [total, total],
            [row - 0.42, row + 0.42],
            color="black",
            linewidth=2,
            label=None if row else "total, measured",
        )
    ax.axvline(0, color="black", linewidth=0.8)
    ax.axvline(-kept, color="grey", linestyle=":")
    ax.text(-kept + 0.1, 0, "all that there is to lose", color="grey", fontsize=10, va="center")
    ax.set_yticks(range(len(ledgers)), ledgers)
    ax.invert_yaxis()
    ax.set(xlabel="effect of zeroing the head on right minus wrong (nats)", ylabel="head")
    ax.set_title("Layer 0 acts by telling layer 1 where to look, layer 1 by writing the answer")
    ax.legend(loc="lower left", bbox_to_anchor=(0.3, 0.02), fontsize=10)
    return figure


def draw_known(rows: dict[str, dict[str, Tensor]]) -> Figure:
    """Ledgers of hand-built heads as shares of the size of their total: negative is lost when the
    head is zeroed.
    """
    figure, ax = plt.subplots(figsize=(8.4, 4.4))
    shares = torch.stack(
        [torch.stack(list(ledger.values())) / ledger["total"].abs() for ledger in rows.values()]
    )
    heatmap(
        ax,
        shares,
        signed=True,
        limit=1.2,
        title="Heads whose ways are known: the ledger finds each of them",
    )
    for (row, column), share in np.ndenumerate(shares.numpy()):
        text = f"{share:+.0%}" if abs(share) > 0.005 else "0"
        ax.text(
            column,
            row,
            text,
            ha="center",
            va="center",
            color="white" if abs(share) > 0.6 else "black",
        )
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
    values = np.array(
        [
            [each[way].item() for way in ("via queries", "via keys", "both")]
            for each in sides.values()
        ]
    )
    bars = {"via queries": (values[:, 0], GREEN), "via keys": (values[:, 1], ORANGE)}
    bars |= {
        "sum of the two": (values[:, :2].sum(axis=1), "lightgrey"),
        "both at once": (values[:, 2], RED),
    }
    for number, (label, (heights, colour)) in enumerate(bars.items()):
        ax.bar(places + 0.2 * (number - 1.5), heights, 0.19, color=colour, label=label)
    ax.axhline(0, color="black", linewidth=0.8)
    ax.set_xticks(places, sides)
    ax.set(ylabel="effect on right minus wrong\n(nats)")
    ax.set_title("The previous-token heads change what layer 1 is offered, not what it asks")
    ax.legend(loc="lower left", fontsize=10)
    return figure
