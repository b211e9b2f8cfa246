"""The longer pictures of chapter 15: where operands travel, one patch's effects, circuits, probes,
the lens.
"""

import math

import torch

from minitransformer.plots import BLUE, GREEN, ORANGE, RED, Figure, array, heatmap, plt

READ = ["a", "op", "b", "="]  # the four positions
DEPTHS = ["embedding", "after attention 0", "after MLP 0", "after attention 1", "after MLP 1"]


def bar_part(place: tuple) -> str:
    """A short name of a place: "head 0.2" or "MLP 1"."""
    name, index = place
    layer = name.split(".")[1]
    return f"head {layer}.{index[1]}" if "hook_z" in name else f"MLP {layer}"


def draw_travel(places: list, effects: dict, streams: dict, title: str) -> Figure:
    """One column per changed word. Top: E of each part by position; bottom: E of the stream by
    depth and position.
    """
    figure, axes = plt.subplots(2, len(effects), figsize=(11.5, 7.6), height_ratios=[10, 5])
    parts = list(dict.fromkeys(bar_part(place) for place in places))[::-1]
    limit = max(values.max().item() for values in (*effects.values(), *streams.values()))
    for (top, bottom), changed in zip(axes.T, effects):
        table = torch.full((len(parts), len(READ)), float("nan"))
        for place, value in zip(places, effects[changed]):
            table[parts.index(bar_part(place)), place[1][0]] = value
        for ax, values in ((top, table), (bottom, streams[changed].flip(0))):
            ax.set_facecolor("lightgrey")
            image = heatmap(ax, values, signed=False, limit=limit)
            ax.set_aspect("auto")
            ax.set_xticks(range(len(READ)), READ)
            number_cells(ax, values, "{:.1f}", white_above=limit / 2, least=0.05)
        top.text(1, 2, "no way from here\nto the answer", ha="center", va="center", fontsize=9)
        top.set_title(f"another {changed}", fontsize=11)
        bottom.set_xlabel("position")
    axes[0, 0].set_yticks(range(len(parts)), parts)
    axes[1, 0].set_yticks(range(len(DEPTHS)), DEPTHS[::-1])
    for ax in axes[:, 1:].flat:
        ax.set_yticks([])
    axes[0, 0].set_ylabel("one part patched")
    axes[1, 0].set_ylabel("the whole stream patched")
    figure.colorbar(image, ax=axes, label="effect: mean of log(1 + E), in nats", shrink=0.6)
    figure.suptitle(title, x=0.02, ha="left")
    return figure


def number_cells(ax, table: torch.Tensor, form: str, white_above: float, least: float) -> None:
    """Write every entry from `least` on, which would not print as 0, into its square."""
    for y, row in enumerate(table.tolist()):
        for x, value in enumerate(row):
            if value >= least:
                colour = "white" if value > white_above else "black"
                text = form.format(value)
                ax.text(x, y, text, ha="center", va="center", color=colour, fontsize=9)


def draw_one_patch(E: torch.Tensor, forms: dict, title: str) -> Figure:
    """How E is spread over the prompts, and what mean, median and log1p make of it."""
    figure, ax = plt.subplots(figsize=(7.4, 3.6))
    ax.hist((1 + E).log10(), bins=30, color=BLUE, alpha=0.6)
    summaries = [
        ("median", forms["median"].log1p(), GREEN, "--"),
        ("mean of log(1 + E)", forms["log1p"], ORANGE, "-"),
        ("mean", forms["mean"].log1p(), RED, "-"),
    ]
    for name, nats, colour, style in summaries:
        powers = nats / math.log(10)
        ax.axvline(powers, color=colour, linestyle=style, linewidth=2.5, label=name)
    ax.set(xlabel="1 + E of one prompt (powers of ten)", ylabel="prompts", title=title)
    ax.yaxis.get_major_locator().set_params(integer=True)
    ax.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def draw_circuit_sizes(curves: dict, random: dict, title: str) -> Figure:
    """F against the number of places kept; curves[metric][order] [size], random[metric] [size,
    draw] as a band.
    """
    figure, axes = plt.subplots(1, len(curves), figsize=(12, 4), sharey=True)
    for ax, (metric, lines) in zip(axes, curves.items()):
        low, middle, high = 100 * random[metric].quantile(torch.tensor([0.05, 0.5, 0.95]), dim=1)
        sizes, label = range(len(low)), "random circuits, 5 to 95 %"
        ax.fill_between(sizes, low, high, color="lightgrey", label=label)
        ax.plot(middle, color="grey", label="random circuits, median")
        for (order, values), colour, style in zip(lines.items(), (BLUE, ORANGE), ("o-", "o--")):
            ax.plot(100 * values, style, color=colour, linewidth=2, markersize=3, label=order)
        ax.axhline(100, color="grey", linestyle=":", linewidth=1)
        ax.set(xlabel="places in the circuit")
        ax.set_title(metric, fontsize=11)
    axes[0].set(ylabel="faithfulness F (%)", ylim=(-25, 112))
    lines_and_names = axes[0].get_legend_handles_labels()
    figure.legend(*lines_and_names, loc="outside lower center", ncols=4, fontsize=10)
    figure.suptitle(title, x=0.02, ha="left")
    return figure


def draw_readable(maps: dict[str, torch.Tensor], title: str) -> Figure:
    """Probe accuracy by depth and position, one map for each label."""
    figure, axes = plt.subplots(1, len(maps), figsize=(12, 3.4))
    for ax, (name, table) in zip(axes, maps.items()):
        percent = 100 * table.flip(0)
        image = heatmap(ax, percent, signed=False, limit=100.0)
        ax.set_aspect("auto")
        number_cells(ax, percent, "{:.0f}", white_above=50, least=0.5)
        ax.set_title(name, fontsize=11)
        ax.set_xticks(range(len(READ)), READ)
        ax.set_yticks([])
        ax.set_xlabel("position")
    axes[0].set_yticks(range(len(DEPTHS)), DEPTHS[::-1])
    figure.colorbar(image, ax=axes, label="right guesses (%)")
    figure.suptitle(title, x=0.02, ha="left")
    return figure


def draw_numbers_read(read: dict[str, torch.Tensor], title: str) -> Figure:
    """One panel for each: what least squares reads, against what is right; values [2, problem]."""
    figure, axes = plt.subplots(1, len(read), figsize=(11.5, 4.0))
    for ax, (name, (guess, right)) in zip(axes, read.items()):
        ends = [right.min().item(), right.max().item()]
        ax.plot(ends, ends, color="grey", linestyle=":", label="read without error")
        ax.scatter(array(right), array(guess), s=9, alpha=0.6, color=BLUE, label="unseen problems")
        ax.set(xlabel="right result", title=name)
    axes[0].set_ylabel("result read at =, after attention 0")
    axes[0].legend(fontsize=9, loc="upper left")
    figure.suptitle(title, x=0.02, ha="left")
    return figure


def draw_lens_at_equals(
    lines: dict[str, torch.Tensor], deleted: dict[str, list[float]], title: str
) -> Figure:
    """Left: the lens of the stream at "=" by depth. Right: what each MLP adds there to the
    operands' logits.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(11.5, 4.0), width_ratios=[1.3, 1])
    styles = ((RED, "o-", 6), (BLUE, "s-", 9), (GREEN, "v--", 5))  # b lies over a, both visible
    for (name, line), (colour, style, size) in zip(lines.items(), styles):
        left.plot(line, style, color=colour, markersize=size, label=name)
    names = [depth.replace(" ", "\n", 1) for depth in DEPTHS]
    left.set_xticks(range(len(DEPTHS)), names, fontsize=9)
    left.set(xlabel='depth of the stream at "="', ylabel="logit above the mean (nats)")
    left.legend(loc="upper left")
    for i, (name, values) in enumerate(deleted.items()):
        colour, shift = (BLUE, GREEN, "grey")[i], 0.27 * (i - 1)
        bars = right.bar([shift, 1 + shift], values, width=0.25, color=colour, label=name)
        numbers = [f"{value:.2f}" if abs(value) >= 0.005 else "0" for value in values]
        right.bar_label(bars, numbers, fontsize=9, padding=2)
    right.axhline(0, color="black", linewidth=0.8)
    right.set_xticks([0, 1], ["MLP 0", "MLP 1"])
    right.set(ylabel='change of the logit at "=" (nats)')
    right.margins(y=0.2)
    right.set_title("what the MLPs add there, enlarged", fontsize=11)
    left.set_title("the whole stream", fontsize=11)
    right.legend(fontsize=9)
    figure.suptitle(title, x=0.02, ha="left")
    return figure
