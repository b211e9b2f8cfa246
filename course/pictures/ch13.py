"""The pictures of chapter 13: two stories, size, completeness, minimality, edges, data."""

import numpy as np
from torch import Tensor

from minitransformer.plots import BLUE, GREEN, ORANGE, PINK, RED, Figure, plt

KIND_COLOURS = {"zero": ORANGE, "mean": BLUE, "mean per position": GREEN, "resample": PINK}


def percent_axis(ax, label: str = "faithfulness (%)") -> None:
    ax.axhline(0, color="black", linewidth=0.8)
    ax.axhline(100, color="grey", linewidth=0.8, linestyle=":")
    ax.set_ylabel(label)


def named(heads: list[tuple[int, int]]) -> str:
    """Heads as the text calls them: "0.2 1.1"."""
    return " ".join([f"{layer}.{head}" for layer, head in heads])


def draw_two_stories(scores: dict[str, dict[str, Tensor]], heads: dict[str, list]) -> Figure:
    """scores[metric][ablation] [story]: a panel per story, bars per metric and ablation."""
    figure, axes = plt.subplots(1, len(heads), figsize=(9.5, 3.8), sharey=True)
    for story, (ax, title) in enumerate(zip(axes, heads)):
        percent_axis(ax, "faithfulness (%)" if story == 0 else "")
        for place, (kind, colour) in enumerate(KIND_COLOURS.items()):
            values = [100 * scores[metric][kind][story].item() for metric in scores]
            spots = np.arange(len(scores)) + 0.2 * (place - 1.5)
            ax.bar(spots, values, 0.19, color=colour, label=kind)
            for x, value in zip(spots, values):
                ax.text(x, value + 1.5, f"{value:.0f}", ha="center", fontsize=9)
        ax.set_xticks(range(len(scores)), [f"metric: {metric}" for metric in scores])
        ax.set_title(f"{title}: {named(heads[title])}", fontsize=11)
    axes[0].legend(title="the other heads are ablated by", fontsize=9, title_fontsize=9)
    title = "The short story's worth depends on how you ask; the full story is good however you ask"
    figure.suptitle(title, x=0.02, ha="left")
    return figure


def draw_sizes(
    curves: dict, every: dict[str, Tensor], sizes: Tensor, stories: dict, story_sizes: list[int]
) -> Figure:
    """curves[metric][ablation] [size]; every[metric] [set]: all sets, of these sizes, by "mean";
    stories as above.
    """
    figure, axes = plt.subplots(1, len(curves), figsize=(10.5, 5), sharey=True)
    for ax, metric in zip(axes, curves):
        percent_axis(ax, "faithfulness (%)" if ax is axes[0] else "")
        of_size = [100 * every[metric][sizes == size] for size in range(sizes.max() + 1)]
        low = [shares.quantile(0.05).item() for shares in of_size]
        middle = [shares.quantile(0.5).item() for shares in of_size]
        high = [shares.quantile(0.95).item() for shares in of_size]
        ax.fill_between(
            range(len(low)),
            low,
            high,
            color="grey",
            alpha=0.25,
            label="all sets of that size: middle 90 %",
        )
        ax.plot(middle, color="grey", linestyle="--", linewidth=1.2, label="their median")
        # beside each other, and two of them without lines: so no line hides another
        looks = ("o-", "o-", "s", "^")
        for place, ((kind, colour), look) in enumerate(zip(KIND_COLOURS.items(), looks)):
            values = 100 * curves[metric][kind].numpy()
            spots = np.arange(len(values)) + 0.17 * (place - 1)
            ax.plot(spots, values, look, markersize=5, color=colour, label=f"greedy, {kind}")
        ax.axhline(95, color="black", linestyle=":", linewidth=1)
        ax.text(0, 92, "95 %", va="top")
        for name, size, share in zip(
            ("textbook", "full"), story_sizes, 100 * stories[metric]["mean"]
        ):
            ax.plot(size, share, marker="X", markersize=10, color=RED, linestyle="none", zorder=5)
            ax.annotate(
                name,
                (size, share),
                xytext=(9, -26),
                textcoords="offset points",
                color=RED,
                fontsize=9,
            )
        ax.set(xlabel="heads in the circuit", ylim=(-12, 110))
        ax.set_title(f"metric: {metric}", fontsize=11)
    figure.legend(
        *axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=9
    )
    title = (
        "How many heads for 95 %? It depends on metric and ablation. Most such sets do far worse"
    )
    figure.suptitle(title, x=0.02, ha="left")
    return figure


def draw_completeness(panels: dict[str, Tensor]) -> Figure:
    """panels[title] [set, 2]: what is left of the circuit against what is left of the model, one
    dot per knock-out.
    """
    figure, axes = plt.subplots(1, len(panels), figsize=(9.5, 4.4), sharey=True)
    for ax, (title, pairs) in zip(axes, panels.items()):
        circuit, model = 100 * pairs.T.numpy()
        ax.plot([-5, 105], [-5, 105], color="grey", linewidth=0.8, linestyle=":")
        ax.scatter(model, circuit, s=34, color=BLUE, alpha=0.6)
        worst = abs(circuit - model).argmax()
        gap = abs(circuit - model)[worst]
        ax.annotate(
            "",
            (model[worst], circuit[worst]),
            (model[worst], model[worst]),
            arrowprops={"arrowstyle": "<->" if gap > 10 else "-", "color": RED},
        )
        middle = (model[worst] + circuit[worst]) / 2
        label = f"worst gap: {gap:.0f}"
        ax.text(model[worst] - 3, middle, label, color=RED, ha="right", fontsize=10)
        ax.set(
            xlabel="left of the model without K (%)", aspect="equal", xlim=(-8, 108), ylim=(-8, 108)
        )
        ax.set_title(title, fontsize=11)
    axes[0].set_ylabel("left of the circuit without K (%)")
    figure.suptitle(
        "Both are faithful; only one breaks as the model breaks (a dot: one set K knocked out)",
        x=0.02,
        ha="left",
    )
    return figure


def draw_worth(panels: dict[str, dict]) -> Figure:
    """panels[title] = minimality's dict: for each head a bar for `alone`, a bar for `at most`."""
    widths = [len(worth) for worth in panels.values()]
    figure, axes = plt.subplots(1, len(panels), figsize=(10, 4), sharey=True, width_ratios=widths)
    for ax, (title, worth) in zip(axes, panels.items()):
        percent_axis(ax, "worth of the head (%)" if ax is axes[0] else "")
        for shift, (column, colour, label) in enumerate(
            [(0, ORANGE, "alone: all others at work"), (1, BLUE, "at most")]
        ):
            values = [100 * pair[column] for pair in worth.values()]
            spots = np.arange(len(values)) + 0.4 * shift - 0.2
            ax.bar(spots, values, 0.38, color=colour, label=label)
            for x, value in zip(spots, values):
                ax.text(
                    x,
                    max(value, 0) + 1.5,
                    f"{value:.0f}" if abs(value) >= 1 else f"{abs(value):.1f}",
                    ha="center",
                    fontsize=9,
                )
        ax.set_xticks(range(len(worth)), [f"{layer}.{head}" for layer, head in worth])
        ax.set(xlabel="head", ylim=(None, 118))
        ax.set_title(title, fontsize=11)
    figure.legend(
        *axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=9
    )
    title = "Redundant heads look worthless alone, and are not; an idle one is worthless in both"
    figure.suptitle(title, x=0.02, ha="left")
    return figure


def draw_routes(scores: dict[str, float]) -> Figure:
    figure, ax = plt.subplots(figsize=(8, 3.1))
    percent_axis(ax)
    ax.bar(
        range(len(scores)),
        [100 * score for score in scores.values()],
        color=[GREEN if s > 0.5 else ORANGE for s in scores.values()],
    )
    for x, score in enumerate(scores.values()):
        ax.text(x, 100 * max(score, 0) + 2, f"{abs(100 * score):.0f}", ha="center")
    ax.set_xticks(range(len(scores)), list(scores))
    ax.set(xlabel="where layer 1 hears the circuit's layer-0 heads", ylim=(-5, 125))
    ax.set_title("The keys of layer 1 are the only readers of layer 0 that count", fontsize=11)
    return figure


def draw_data(
    periods: list[int], shares: dict[str, list[float]], gaps: dict[str, list[float]]
) -> Figure:
    """Left: circuits found at other periods, tested at each. Right: what is there to explain?"""
    figure, (left, right) = plt.subplots(1, 2, figsize=(10.5, 3.9))
    percent_axis(left)
    for (name, values), colour in zip(shares.items(), (BLUE, GREEN, RED)):
        left.plot(
            periods,
            [100 * value for value in values],
            marker="o",
            markersize=4.5,
            color=colour,
            label=name,
        )
    left.set(xlabel="period of the sequences (tokens)", ylim=(-5, 115))
    left.set_title("One circuit serves all periods", fontsize=11)
    left.legend(fontsize=9, loc="center right", bbox_to_anchor=(1, 0.55))
    for (name, values), colour in zip(gaps.items(), (BLUE, RED)):
        right.plot(periods, values, marker="o", markersize=4.5, color=colour, label=name)
    right.axhline(0, color="black", linewidth=0.8)
    right.set(
        xlabel="period of the sequences (tokens)",
        ylabel="model minus empty circuit\n(right-minus-mean logit, nats)",
    )
    right.set_title("Faithful to what? The impostor knows only divisors of 10", fontsize=11)
    right.legend(fontsize=9, loc="center right", bbox_to_anchor=(1, 0.7))
    return figure
