"""The pictures of chapter 12."""

import torch

from minitransformer.plots import BLACK, BLUE, CYCLE, GREEN, ORANGE, PINK, RED, Figure, heatmap, plt


def draw_depths(curves: dict[str, torch.Tensor], control: torch.Tensor, title: str) -> Figure:
    """Probe accuracy by depth, one line per feature; control [shuffle, depth] is drawn as a
    band.
    """
    figure, ax = plt.subplots(figsize=(7.4, 4.2))
    places = range(control.shape[1])
    ends = {}
    for (name, accuracy), colour, marker in zip(curves.items(), CYCLE, "os^vDP"):
        values = 100 * accuracy
        ax.plot(places, values, marker=marker, color=colour, linewidth=2, markersize=7)
        ends.setdefault(round(values[-1].item() / 7), []).append((name, colour, values[-1].item()))
    for group in ends.values():  # labels of lines that end together stand below each other
        for row, (name, colour, y) in enumerate(group):
            ax.text(places[-1] + 0.06, y - 6 * row, name, color=colour, va="center", fontsize=10)
    low, high = 100 * control.min(dim=0).values, 100 * control.max(dim=0).values
    ax.fill_between(places, low - 0.5, high + 0.5, color="grey", alpha=0.5, linewidth=0)
    ax.text(1.12, high.max() + 1, "shuffled labels", color="dimgrey", fontsize=9, va="bottom")
    ax.set_xticks(places, ["embedding", *(f"after layer {layer}" for layer in places[:-1])])
    ax.set(
        xlim=(-0.1, places[-1] + 0.75),
        ylim=(-3, 106),
        ylabel="right answers of the probe,\nunseen sequences (%)",
    )
    ax.set_title(title)
    return figure


def draw_memory(
    rows: list[int], seen: list[float], unseen: list[float], d_model: int, title: str
) -> Figure:
    """Accuracy on shuffled labels against the number of rows a probe was fitted to, on those rows
    and on others.
    """
    figure, ax = plt.subplots(figsize=(7, 3.6))
    ax.plot(
        rows,
        [100 * x for x in seen],
        marker="o",
        color=RED,
        label="tested on the rows it was fitted to",
    )
    ax.plot(rows, [100 * x for x in unseen], marker="s", color=BLUE, label="tested on other rows")
    ax.axvline(d_model, color="grey", linestyle=":", linewidth=1)
    ax.text(d_model * 1.06, 55, f"d_model\n= {d_model}", color="grey", fontsize=10)
    ax.set_xscale("log", base=2)
    ax.set_xticks(rows, rows)
    ax.set(
        xlabel="rows that the probe was fitted to",
        ylabel="right answers (%)",
        ylim=(-3, 105),
        title=title,
    )
    ax.legend(loc="upper right")
    return figure


def draw_places(previous: torch.Tensor, repeat: dict[str, torch.Tensor], title: str) -> Figure:
    """Left: previous-token accuracy [depth, pos]. Right: one line per way to answer "is this the
    repeat?" by position.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 3.7), width_ratios=[1.15, 1])
    values = 100 * previous.flip(0)  # the embedding at the bottom, like the stream itself
    image = heatmap(
        left, values, signed=False, limit=100.0, xlabel="position (0 is BOS: nothing before it)"
    )
    left.set_aspect("auto")
    names = ["embedding", *(f"after layer {layer}" for layer in range(len(previous) - 1))]
    left.set_yticks(range(len(previous)), names[::-1])
    left.set_title("previous token: everywhere alike", fontsize=11)
    figure.colorbar(image, ax=left, label="right answers (%)")
    for (name, curve), colour, style in zip(
        repeat.items(), (GREEN, ORANGE, "grey"), ("-", "-", ":")
    ):
        right.plot(
            range(1, len(curve) + 1), 100 * curve, style, color=colour, label=name, linewidth=2
        )
    right.set(xlabel="position", ylabel="right answers (%)", ylim=(40, 104))
    right.set_title("is this the repeat? (after layer 1)", fontsize=11)
    right.legend(loc="lower left", fontsize=9)
    figure.suptitle(title, x=0.02, ha="left")
    return figure


def draw_erasures(right: dict[str, tuple[float, float]], untouched: float, title: str) -> Figure:
    """Bars: right predictions after erasing each feature before layer 1 and after it."""
    figure, ax = plt.subplots(figsize=(7.8, 3.9))
    for shift, colour, hatch, label in (
        (-0.2, ORANGE, "", "before layer 1"),
        (0.2, BLUE, "//", "after layer 1"),
    ):
        heights = [100 * pair[shift > 0] for pair in right.values()]
        places = [i + shift for i in range(len(right))]
        bars = ax.bar(
            places, heights, width=0.36, color=colour, hatch=hatch, edgecolor="white", label=label
        )
        ax.bar_label(bars, fmt="%.0f", fontsize=9)
    ax.axhline(100 * untouched, color="grey", linestyle=":", linewidth=1)
    ax.set_xticks(range(len(right)), right)
    ax.set(
        ylabel="right next token\nin the repeat (%)",
        ylim=(0, 112),
        xlabel="what was erased from the stream",
    )
    ax.legend(title="erased", loc="upper left", bbox_to_anchor=(1, 1))
    ax.set_title(title)
    return figure


def draw_doses(
    doses: list[float], curves: dict[str, tuple[list[float], list[float]]], title: str
) -> Figure:
    """What steering does, by dose: attention to the steered position, and the probability of its
    token.
    """
    figure, axes = plt.subplots(1, 2, figsize=(10.8, 4.2), sharex=True)
    colours, markers = (GREEN, BLUE, PINK, BLACK), "os^x"
    for panel, (ax, unit) in enumerate(
        zip(axes, ("attention to the marked position", "probability of the token there"))
    ):
        for (name, curve), colour, marker in zip(curves.items(), colours, markers):
            ax.plot(doses, curve[panel], marker=marker, markersize=5, color=colour, label=name)
        ax.set(
            xlabel="length of what is added (1 = as the model writes it)",
            ylabel=unit,
            ylim=(-0.03, 1.03),
        )
    figure.legend(
        *axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=9
    )
    figure.suptitle(title, x=0.02, ha="left")
    return figure
