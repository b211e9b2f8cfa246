"""The pictures of chapter 17: surprise, variants, two hypotheses, louder neurons, repair against
its controls.
"""

import torch
from torch import Tensor

from minitransformer.arithmetic import DIGIT_REGION_FROM, MINUS, PLUS, Problems
from minitransformer.plots import BLUE, GREEN, ORANGE, RED, Figure, array, plt

READ = ["tens of a", "ones of a", "+ or -", "tens of b", "ones of b", "="]


def draw_likelihood(
    groups: dict[str, Tensor], surprise: Tensor, by_token: Tensor, log_M: float, title: str
) -> Figure:
    """Left: one ridge per group of problems, surprise in nats. Right: which token it comes from."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(11.5, 4.2), width_ratios=[1.1, 1])
    edges = torch.linspace(surprise.min().item() - 0.5, surprise.max().item() + 0.5, 90)
    for i, ((name, rows), colour) in enumerate(zip(groups.items(), (BLUE, ORANGE, RED))):
        heights = torch.histogram(surprise[rows].cpu(), edges).hist
        base, middles = -float(i), (edges[:-1] + edges[1:]) / 2
        left.fill_between(
            array(middles),
            base,
            base + 0.85 * array(heights / heights.max()),
            color=colour,
            alpha=0.7,
            step="mid",
        )
        left.text(
            0.98,
            base + 0.45,
            f"{name}\n{len(rows)} problems",
            color=colour,
            ha="right",
            fontsize=10,
            transform=left.get_yaxis_transform(),
        )
        right.bar(
            [x + 0.27 * (i - 1) for x in range(len(READ))],
            array(by_token[rows].mean(dim=0)),
            width=0.26,
            color=colour,
            label=name,
        )
    left.axvline(log_M, color="black", linestyle=":", linewidth=1.5, label=f"log M = {log_M:.2f}")
    left.set(
        xlabel="surprise of a whole problem (nats)",
        ylabel="problems (each group to its own scale)",
        yticks=[],
        ylim=(-2.1, 1.35),
    )
    left.legend(loc="upper right")
    right.set_xticks(range(len(READ)), [name.replace(" of ", "\nof ") for name in READ], fontsize=9)
    right.set(ylabel="mean surprise at this token (nats)")
    right.legend(loc="upper right", fontsize=9)
    figure.suptitle(title, x=0.02, ha="left")
    return figure


def draw_variants(problems: Problems, variants: Tensor, right: Tensor, title: str) -> Figure:
    """Each variant at its a and b, sums and differences apart: right or wrong."""
    figure, axes = plt.subplots(1, 2, figsize=(9.6, 4.6), sharex=True, sharey=True)
    for ax, operator, sign in zip(axes, (PLUS, MINUS), "+-"):
        rows = variants[problems.operator[variants] == operator]
        for label, some, colour, size in (
            ("right", rows[right[rows]], BLUE, 3),
            ("wrong", rows[~right[rows]], RED, 9),
        ):
            ax.scatter(
                array(problems.a[some]),
                array(problems.b[some]),
                s=size,
                color=colour,
                label=f"{label}: {len(some)}",
            )
        ax.set(xlabel="a", title=f"a {sign} b")
        ax.set_aspect("equal")
        ax.legend(loc="upper left", markerscale=2, framealpha=0.9, frameon=True, fontsize=9)
    axes[0].set(ylabel="b")
    axes[1].axvline(DIGIT_REGION_FROM - 0.5, ymax=0.95, color="black", linestyle=":")
    axes[1].text(
        DIGIT_REGION_FROM - 1, 101, "never seen from here on", ha="center", va="bottom", fontsize=9
    )
    figure.suptitle(title, x=0.02, ha="left")
    return figure


def draw_hypotheses(compared: dict, title: str) -> Figure:
    """How many neurons cover a problem, and what each of them adds: as shares of trained problems
    with equal results.

    compared[kind, group]: ((neurons, neurons there), (logits, logits there)), a problem's mean.
    """
    figure, axes = plt.subplots(1, 2, figsize=(10.5, 4.2), sharey=True)
    kinds = list(dict.fromkeys(kind for kind, _ in compared))
    for i, (group, colour) in enumerate((("wrong", RED), ("right", BLUE))):
        counts, logits = (
            torch.tensor([compared[kind, group][which] for kind in kinds]) for which in range(2)
        )
        shares = (
            counts[:, 0] / counts[:, 1],
            (logits[:, 0] / counts[:, 0]) / (logits[:, 1] / counts[:, 1]),
        )
        for ax, share in zip(axes, shares):
            bars = ax.bar(
                [x + 0.36 * (i - 0.5) for x in range(len(kinds))],
                100 * array(share),
                width=0.35,
                color=colour,
                label=f"region, {group} answer",
            )
            ax.bar_label(bars, fmt="%.0f", fontsize=9)
    for ax, name in zip(
        axes, ("missing? how many neurons cover the problem", "weak? logits that each of them adds")
    ):
        ax.axhline(100, color="grey", linestyle=":")
        ax.axhline(0, color="black", linewidth=0.8)
        ax.set_xticks(
            range(len(kinds)),
            [kind.replace("met", "of all, those\nmet in the region") for kind in kinds],
            fontsize=9,
        )
        ax.set_title(name, fontsize=11)
    axes[0].set(ylabel="% of trained problems\nwith the same results")
    axes[0].legend(fontsize=9, loc="upper left", bbox_to_anchor=(0, 0.98))
    axes[0].margins(y=0.25)
    figure.suptitle(title, x=0.02, ha="left")
    return figure


def draw_louder(factors: list[float], repaired: dict[str, list[float]], title: str) -> Figure:
    """Share of failures that give the wanted answer when some neurons' activations are
    multiplied.
    """
    figure, ax = plt.subplots(figsize=(7.4, 4))
    styles = ((BLUE, "-"), (ORANGE, "--"), ("grey", "--"), (RED, ":"))
    for (name, curve), (colour, style) in zip(repaired.items(), styles):
        ax.plot(
            factors, [100 * share for share in curve], style, color=colour, marker="o", label=name
        )
    ax.set(
        xlabel="activations multiplied by",
        ylabel="failures with the wanted answer (%)",
        ylim=(-2, 103),
        title=title,
    )
    ax.set_xscale("log")
    ax.set_xticks(factors, [f"{factor:g}" for factor in factors])
    ax.minorticks_off()
    ax.legend(fontsize=9, title="what is made louder")
    return figure


def draw_repair(bars: dict[str, tuple[float, float]], title: str) -> Figure:
    """Per patch: share of runs that then give the right answer, and the answer of the donor."""
    figure, ax = plt.subplots(figsize=(10.5, 5.6))
    for shift, which, colour, label in (
        (-0.2, 0, GREEN, "says the right answer"),
        (0.2, 1, "grey", "says the donor's answer"),
    ):
        shares = [100 * shares[which] for shares in bars.values()]
        drawn = ax.barh(
            [i + shift for i in range(len(bars))], shares, height=0.38, color=colour, label=label
        )
        ax.bar_label(
            drawn,
            labels=["" if share != share else f"{share:.0f}" for share in shares],
            padding=3,
            fontsize=9,
        )
    ax.set_yticks(range(len(bars)), bars)
    ax.invert_yaxis()
    ax.set(xlabel="runs (%)", xlim=(0, 108))
    figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=10)
    figure.suptitle(title, x=0.02, ha="left")
    return figure
