"""The pictures of chapter 11: maps of patches, gates, metrics, paths, errors of a gradient."""

import numpy as np
from torch import Tensor

from minitransformer.plots import BLACK, BLUE, GREEN, ORANGE, RED, SKY, Figure, array, heatmap, plt

ROLES = ["BOS", "·", "·", "A", "B", "·", "·", "·", "·", "C", "D", "·", "·", "A?"]
SWAPPED = {
    "key": "key: A and C swapped. The news goes from A and C to B and D, then to the end",
    "value": "value: B and D swapped. The news goes from B to the end",
    "query": "query: the last token is C. The news is at the end all along",
}


def write_large(ax, values, form="{:.2f}", least=0.05, size=9) -> None:
    """Print the values of a heat map that are not nearly 0 into their cells."""
    for (row, column), value in np.ndenumerate(array(values)):
        if abs(value) >= least:
            colour = "white" if abs(value) > 0.6 else "black"
            centred = {"ha": "center", "va": "center", "fontsize": size}
            ax.text(column, row, form.format(value), color=colour, **centred)


def draw_patched_stream(maps: dict[str, Tensor]) -> Figure:
    """Denoising by depth and position, [depth, pos] for each kind of corruption."""
    figure, axes = plt.subplots(3, 1, figsize=(9, 7.2), sharex=True)
    for ax, (swap, values) in zip(axes, maps.items()):
        image = heatmap(ax, values, signed=True, limit=1.0, title=SWAPPED[swap])
        ax.set_aspect("auto")
        write_large(ax, values)
        ax.set_yticks(range(3), ["before layer 0", "before layer 1", "after layer 1"])
        ax.set_xticks(range(len(ROLES)), ROLES)
    axes[-1].set_xlabel("position at which the clean stream is put in")
    figure.colorbar(image, ax=axes, label="answer restored (0 corrupt, 1 clean)", shrink=0.6)
    return figure


def head_axis(ax, n_heads: int) -> None:
    """Rows are the heads of two layers, with a line between them."""
    ax.set_yticks(range(2 * n_heads), [f"{i // n_heads}.{i % n_heads}" for i in range(2 * n_heads)])
    ax.axhline(n_heads - 0.5, color=BLACK, linewidth=1)


def draw_patched_heads(maps: dict[str, dict[str, Tensor]]) -> Figure:
    """Denoising of one thing of one head at a time: swap -> what -> [layer, head]."""
    figure, axes = plt.subplots(1, 3, figsize=(11, 4.8), sharey=True)
    wires = {"key": "keys", "value": "values", "query": "queries"}
    for ax, (swap, parts) in zip(axes, maps.items()):
        values = np.stack([array(part).flatten() for part in parts.values()], axis=1)  # head what
        image = heatmap(ax, values, signed=True, limit=1.0, xlabel="what is put in")
        ax.set_title(f"{swap} changed:\nlayer 1 hears it by its {wires[swap]}", fontsize=11)
        write_large(ax, values)
        ax.set_xticks(range(len(parts)), parts)
        head_axis(ax, len(values) // 2)
    axes[0].set_ylabel("head")
    figure.colorbar(image, ax=axes, label="answer restored (0 corrupt, 1 clean)", shrink=0.8)
    return figure


def draw_both_ways(denoised: Tensor, noised: Tensor) -> Figure:
    """One head's output at one position, [head, pos]: restored in the corrupt run, lost in the
    clean one.
    """
    figure, axes = plt.subplots(1, 2, figsize=(12, 3.9), sharey=True)
    panels = {
        "Denoising points at D: the false match goes": denoised,
        "Noising points at B: the true match breaks": noised,
    }
    for ax, (title, values) in zip(axes, panels.items()):
        image = heatmap(ax, values, signed=True, limit=1.0, title=title)
        ax.set_xlabel("position of the output")
        ax.set_aspect("auto")
        write_large(ax, values, size=8)
        ax.set_xticks(range(len(ROLES)), ROLES)
        head_axis(ax, len(values) // 2)
    axes[0].set_ylabel("head")
    figure.colorbar(image, ax=axes, label="share of the gap", shrink=0.9)
    return figure


def draw_gates(panels: dict[str, tuple[list[str], Tensor, Tensor]]) -> Figure:
    """For each title the names of the cells, and how sufficient and how necessary each is."""
    figure, axes = plt.subplots(2, 2, figsize=(10, 6.6), sharey=True)
    for ax, (title, (names, sufficient, necessary)) in zip(axes.flat, panels.items()):
        x = np.arange(len(names))
        restored = "denoising: this alone restores the answer"
        ax.bar(x - 0.2, array(sufficient), 0.38, color=BLUE, label=restored)
        lost = "noising: without this the answer is lost"
        ax.bar(x + 0.2, array(necessary), 0.38, color=ORANGE, label=lost)
        ax.axhline(0, color=BLACK, linewidth=0.8)
        ax.set_xticks(x, names)
        ax.set(ylim=(-0.05, 1.12))
        ax.set_title(title, fontsize=11)
    axes[0, 0].set_ylabel("share of the logit difference")
    axes[1, 0].set_ylabel("share of the prompts\n(accuracy)")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


def draw_metric_panels(
    trained: dict[str, Tensor], negative: dict[str, tuple[float, float]]
) -> Figure:
    """Above, what five metrics say of the same patches, [layer, head] each; below, of a planted
    head against the answer.
    """
    figure = plt.figure(figsize=(11, 5.6))
    above, below = figure.subfigures(2, 1, height_ratios=[1, 1.25])
    axes = above.subplots(1, 5, sharey=True)
    for ax, (name, values) in zip(axes, trained.items()):
        image = heatmap(ax, values, signed=True, limit=1.0, title=name)
        write_large(ax, values, size=8, least=0.005)
        ax.set_xticks(range(values.shape[1]))
        ax.set_yticks(range(2), ["layer 0", "layer 1"])
    axes[2].set_xlabel("head")
    above.colorbar(image, ax=axes, label="restored", shrink=0.9)
    title = (
        "Trained model, one clean head put in: by probability and accuracy most heads do nothing"
    )
    above.suptitle(title, x=0.01, ha="left")
    draw_negative(below.subplots(), negative)
    return figure


def draw_negative(ax, shares: dict[str, tuple[float, float]]) -> None:
    """Bars for a head against the answer: metric -> its share of the gap (denoising, noising)."""
    x = np.arange(len(shares))
    denoising, noising = np.array(list(shares.values())).T
    ax.bar(x - 0.2, denoising, 0.38, color=BLUE, label="denoising")
    ax.bar(x + 0.2, noising, 0.38, color=ORANGE, label="noising")
    for place, value in zip([*(x - 0.2), *(x + 0.2)], [*denoising, *noising]):
        text = f"{value:.3f}".replace("-0.000", "0.000")
        ax.text(place, min(value, 0) - 0.04, text, ha="center", va="top", fontsize=9)
    ax.axhline(0, color=BLACK, linewidth=0.8)
    ax.set_xticks(x, shares)
    ax.set(ylabel="share of the gap", ylim=(-1.5, 0.15))
    ax.set_title("Planted head against the answer: only the logit difference sees it both ways")
    ax.legend(loc="lower center", bbox_to_anchor=(0.7, 0))


def draw_path_map(paths: Tensor, columns: list[str], nodes: Tensor) -> Figure:
    """Effects of single edges [sender, receiver], and beside them that of the whole sender."""
    widths = [len(columns), 1.6]
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 3.6), width_ratios=widths, sharey=True)
    image = heatmap(left, paths, signed=True, limit=1.0, xlabel="receiver", ylabel="sender")
    left.set_title("Edges: layer 0 reaches the answer through the keys of layer 1")
    heatmap(right, nodes[:, None], signed=True, limit=1.0, title="node")
    right.set_xlabel("activation\npatching")
    for ax, values in ((left, paths), (right, nodes[:, None])):
        ax.set_aspect("auto")
        write_large(ax, values)
        ax.set_yticks(range(len(paths)), [f"0.{head}" for head in range(len(paths))])
    left.set_xticks(range(len(columns)), columns, rotation=45)
    right.set_xticks([0], ["all"])
    for group in (1, 2, 3):
        left.axvline(group * len(paths) - 0.5, color=BLACK, linewidth=0.8)
    figure.colorbar(image, ax=right, label="answer restored", shrink=0.9)
    return figure


def draw_guesses(guesses: dict[str, tuple[Tensor, Tensor]]) -> Figure:
    """What patching does against what the gradient promised: for each kind (true, guessed), a dot
    per prompt.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.8), width_ratios=[1.15, 1])
    looks = zip((BLUE, SKY, GREEN, ORANGE, RED), "osD^v")
    for (name, (true, guess)), (colour, marker) in zip(guesses.items(), looks):
        look = {"s": 16, "color": colour, "marker": marker, "alpha": 0.6}
        left.scatter(array(true), array(guess), label=name, **look)
    lowest = min(true.min() for true, _ in guesses.values()) - 1
    highest = max(true.max() for true, _ in guesses.values()) + 1
    left.plot([lowest, highest], [lowest, highest], color=BLACK, linewidth=1, linestyle=":")
    left.set(xlabel="what patching does (nats)", ylabel="what the gradient promises (nats)")
    left.set_title("Exact behind the last softmax;\nbefore it, mostly far too little")
    left.legend(fontsize=9, loc="upper left")
    errors = [(guess - true).abs().mean().item() for true, guess in guesses.values()]
    sizes = [true.abs().mean().item() for true, _ in guesses.values()]
    y = np.arange(len(errors))
    right.barh(y - 0.2, sizes, 0.38, color=BLUE, label="size of the effect")
    right.barh(y + 0.2, errors, 0.38, color=RED, label="error of the guess")
    for place, size in zip(y, sizes):
        if size < 0.01:
            right.text(0.05, place, "no effect", va="center", fontsize=9)
    right.set_yticks(y, list(guesses))
    right.invert_yaxis()
    right.set(xlabel="mean over prompts and heads (nats)", title="Error against effect")
    right.legend(loc="center right", fontsize=9)
    return figure
