"""The pictures of chapter 8: edges between heads, circuits with their controls, the story of
K-composition.
"""

import torch
from torch import Tensor

from minitransformer.plots import (
    BLACK,
    BLUE,
    GREEN,
    ORANGE,
    RED,
    Figure,
    heatmap,
    plt,
    write_values,
)


def draw_compositions(
    tables: dict[str, Tensor], shares: dict, band: tuple, best: float, roles: tuple[list, list]
) -> Figure:
    """All composition scores against chance, then the pairs above it as edges; width: share of what
    is possible.
    """
    figure, axes = plt.subplots(1, 4, figsize=(12.5, 4.1), width_ratios=[1.6, 1, 1, 1])
    for place, table in enumerate(tables.values()):
        for g, row in enumerate(table):
            x = place + 0.12 * (torch.arange(len(row)) - 1.5)
            axes[0].scatter(x, row, color=GREEN if g in roles[0] else "grey", s=22, zorder=3)
    axes[0].axhspan(*band, color=BLUE, alpha=0.2)
    axes[0].text(-0.45, band[1] + 0.003, "random pairs, ± 3 sd", color=BLUE, fontsize=9)
    axes[0].axhline(best, color=RED, linestyle="--")
    axes[0].text(
        -0.45, best - 0.003, "best possible for these heads (K)", color=RED, fontsize=9, va="top"
    )
    axes[0].set(
        xlim=(-0.5, 2.5),
        ylim=(0, None),
        ylabel="composition score",
        title="Each kind: 16 pairs of heads",
    )
    axes[0].set_xticks(range(3), tables)
    for ax, kind in zip(axes[1:], tables):
        draw_edges(ax, tables[kind] > band[1], shares[kind], roles)
        count = int((tables[kind] > band[1]).sum())
        ax.set_title(f"{kind}: {count} of {tables[kind].numel()}\nabove the band", loc="center")
    figure.suptitle(
        "Layer 1 reads layer 0 in its keys. Green: previous-token heads, orange: induction heads.",
        x=0.01,
        ha="left",
    )
    return figure


def draw_edges(ax, shown: Tensor, widths: Tensor, roles: tuple[list, list]) -> None:
    for g, h in shown.nonzero().tolist():
        ax.plot(
            [0, 1], [-g, -h], color=GREEN if g in roles[0] else "grey", linewidth=6 * widths[g, h]
        )
    for layer, colour in enumerate((GREEN, ORANGE)):
        for head in range(shown.shape[layer]):
            fill = colour if head in roles[layer] else "lightgrey"
            ax.scatter(layer, -head, s=650, color=fill, edgecolor=BLACK, zorder=3)
            ax.text(layer, -head, f"{layer}.{head}", ha="center", va="center", zorder=4)
    ax.set(xlim=(-0.3, 1.3), ylim=(-shown.shape[0] + 0.4, 0.6))
    ax.axis("off")


def draw_terms(labels: list[str], gain: Tensor, head: str) -> Figure:
    """The terms of one head's scores: rows are parts of the query, columns parts of the key."""
    figure, ax = plt.subplots(figsize=(6.8, 5.2))
    image = heatmap(ax, gain, signed=True, xlabel="part of the key", ylabel="part of the query")
    write_values(ax, (10 * gain).round() / 10 + 0.0, "{:.1f}")  # + 0 turns -0.0 into 0.0
    ax.set_xticks(range(len(labels)), labels, rotation=30)
    ax.set_yticks(range(len(labels)), labels)
    ax.set_title(f"Head {head}: my own token asks,\nthe previous-token heads answer")
    figure.colorbar(image, label="advantage of the right key (score units)")
    return figure


def draw_softmax(situations: list[str], score: float, brought: list[float]) -> Figure:
    """One term, added to a score in several situations, and what it does to the attention there."""
    figure, axes = plt.subplots(1, 2, figsize=(9, 3), sharey=True)
    axes[0].barh(situations, [score] * len(situations), color=BLUE)
    axes[1].barh(situations, brought, color=ORANGE)
    for y, value in enumerate(brought):
        axes[1].text(value + 0.02, y, f"+{value:.2f}", va="center")
    axes[0].set(
        xlabel="what the term adds to the score",
        ylabel="added to",
        title="before the softmax: always the same",
    )
    axes[1].set(
        xlabel="what it adds to the attention (share)",
        xlim=(0, 1),
        title="after it: depends on the rest",
    )
    axes[0].invert_yaxis()
    return figure


def draw_paths(groups: dict[str, float], hits: dict[str, float]) -> Figure:
    """What each kind of path adds to the answer, and how much of the task paths of each length
    solve.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.5))
    left.bar(list(groups), list(groups.values()), color=[BLACK, GREEN, ORANGE, BLUE])
    left.set(ylabel="right logit, over the mean", xlabel="kind of path")
    left.set_title("Paths through one head of layer 1\nwrite the answer")
    right.bar(list(hits), list(hits.values()), color=[BLUE] * 3 + [RED])
    right.set(
        ylabel="right next token (%)", xlabel="blue: paths with frozen patterns; red: a real run"
    )
    right.set_title("Frozen patterns hide\nwhat layer 0 is for")
    return figure


def draw_circuits(
    circuits: dict[str, Tensor], looks_back: Tensor, accuracy: Tensor, roles: tuple, controls: dict
) -> Figure:
    """Two circuits as heat maps; then, for every pair, how diagonal it is against what the layer-0
    head looks at.
    """
    figure, axes = plt.subplots(1, 3, figsize=(13, 4.2), width_ratios=[1, 1, 1.15])
    for ax, (title, circuit) in zip(axes, circuits.items()):
        image = heatmap(
            ax,
            circuit,
            signed=True,
            xlabel="token moved into the key",
            ylabel="token that asks",
            title=title,
        )
        figure.colorbar(image, ax=ax, shrink=0.75, label="match (before the scale)")
    for g, row in enumerate(accuracy):
        axes[2].scatter(
            [looks_back[g]] * len(row), 100 * row, color=GREEN if g in roles[0] else "grey", s=45
        )
        beside = (7, -4) if looks_back[g] < 0.5 else (-26, -4 - 4 * (g == roles[0][0]))
        axes[2].annotate(
            f"0.{g}", (looks_back[g], 100 * row.mean()), beside, textcoords="offset points"
        )
    for (name, (x, values)), marker in zip(controls.items(), "x+"):
        axes[2].scatter(
            x, [100 * value for value in values], color=RED, marker=marker, label=name, s=30
        )
    axes[2].set(xlim=(-0.05, 1.08), ylim=(-4, 106), xlabel="attention to the token before")
    axes[2].set(
        ylabel="tokens that seek themselves (%)",
        title="A diagonal alone does not\nmake a previous-token head",
    )
    axes[2].legend(loc="center right")
    return figure


def arrow(ax, start, end, colour, bend=0.0) -> None:
    style = {
        "arrowstyle": "-|>",
        "color": colour,
        "linewidth": 2.5,
        "connectionstyle": f"arc3,rad={bend}",
    }
    ax.annotate("", end, start, arrowprops=style)


def draw_story(
    previous: str, induction: str, looks_back: float, share: float, attention: float
) -> Figure:
    """K-composition on one sequence, ... A B ... A, with the measured numbers on its arrows."""
    figure, ax = plt.subplots(figsize=(10, 6))

    def note(x, y, text, colour=BLACK, frame=False, size=10.5):
        frame = (
            {
                "boxstyle": "round,pad=0.45",
                "facecolor": "white",
                "edgecolor": colour,
                "linewidth": 1.8,
            }
            if frame
            else None
        )
        ax.text(
            x,
            y,
            text,
            ha="center",
            va="center",
            bbox=frame,
            fontsize=size,
            color=BLACK if frame else colour,
            zorder=5,
        )

    for x, token in zip((0.6, 2.3, 4, 6, 8, 10), ("BOS", "...", "A", "B", "...", "A")):
        note(x, 0, token, size=16)
    arrow(ax, (4.1, 0.3), (5.4, 1.85), GREEN)
    note(3.1, 1.35, f"1. previous-token head {previous}\nlooks one back ({looks_back:.2f})", GREEN)
    arrow(ax, (6, 0.3), (6, 1.85), "grey")
    arrow(ax, (10, 0.3), (10, 1.85), "grey")
    note(6, 2.4, 'the stream at B:\n"I am B", "before me: A"', GREEN, frame=True)
    note(10, 2.4, 'the stream at A:\n"I am A"', BLUE, frame=True)
    arrow(ax, (6.4, 3.0), (7.6, 4.15), GREEN)
    note(
        4.9,
        3.65,
        f'2. key: "before me: A"\n{100 * share:.0f} % of the score\'s advantage\n(with all previous-token heads)',
        GREEN,
    )
    arrow(ax, (9.8, 3.0), (8.9, 4.15), BLUE)
    note(10.9, 3.6, 'query: "who has\nA before?"', BLUE)
    note(
        8.2,
        4.6,
        f"3. induction head {induction}: they match, attention {attention:.2f}",
        ORANGE,
        frame=True,
    )
    arrow(ax, (8.2, 5.05), (8.2, 6.05), ORANGE)
    note(6.0, 5.55, '4. value: "B" is moved from there to here', ORANGE)
    note(8.2, 6.45, "guess for the next token: B", ORANGE, frame=True)
    ax.set(xlim=(0.2, 12.2), ylim=(-0.4, 7))
    ax.set_title(
        "K-composition: layer 0 labels each token with the one before it, layer 1 looks for the label"
    )
    ax.axis("off")
    return figure
