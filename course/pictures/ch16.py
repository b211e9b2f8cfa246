"""The pictures of chapter 16: curves, the neuron atlas, named shares, knock-outs."""

from collections import Counter

import torch
from torch import Tensor

from minitransformer.plots import (
    BLACK,
    BLUE,
    GREEN,
    ORANGE,
    PINK,
    RED,
    SEQUENTIAL,
    SKY,
    Figure,
    array,
    plt,
)

RESULTS = torch.arange(-49, 50)  # what a - b can be; the token of a result r is r % 149
NUMBERS = 149
COLOUR = {
    "range": BLUE,
    "modulo": ORANGE,
    "pattern": PINK,
    "identical": BLACK,
    "multi-result": SKY,
    "none": "lightgrey",
}


def draw_two_effects(exact: Tensor, attributed: Tensor, title: str) -> Figure:
    """Mean effects, [layer, neuron]: measured against estimated, one panel per layer."""
    figure, axes = plt.subplots(1, len(exact), figsize=(8.4, 4))
    for layer, ax in enumerate(axes):
        x, y = array(attributed[layer]), array(exact[layer])
        ax.axline((0, 0), slope=1, color="grey", linestyle=":", linewidth=1, label="equal")
        ax.legend(fontsize=9, loc="upper left", frameon=False)
        ax.set_xlim(1.1 * x.min(), 1.1 * x.max())
        ax.scatter(x, y, s=14, alpha=0.6)
        ax.set(xlabel="attributed (logits)", ylabel="measured by ablation (logits)")
        ax.set_title(f"layer {layer}, a dot per neuron")
    figure.suptitle(title, x=0.02, ha="left")
    return figure


def draw_top_k(
    sizes: list[int], kept: dict[str, list[float]], lots: dict[str, list[float]], title: str
) -> Figure:
    """Accuracy against the number of neurons kept: strongest first (solid), by lot (dashed)."""
    figure, ax = plt.subplots(figsize=(7, 4))
    for name, colour in zip(kept, (BLUE, ORANGE, GREEN)):
        strongest = [100 * share for share in kept[name]]
        by_lot = [100 * share for share in lots[name]]
        ax.plot(sizes, strongest, "o-", color=colour, ms=4, label=f"a {name} b, strongest first")
        ax.plot(sizes, by_lot, "--", color=colour, label=f"a {name} b, drawn by lot")
    ax.set(xlabel="neurons kept, of 512; the others at their means", ylabel="right answers (%)")
    ax.set(ylim=(0, 103), title=title)
    ax.legend(fontsize=9, loc="lower right")
    return figure


def pick_for_atlas(
    neurons: list[int], named: list[tuple[str, float]], d_mlp: int
) -> list[tuple[int, str]]:
    """The first few neurons of each type, an even number of them, with their labels."""
    most = {"range": 4, "modulo": 3, "multi-result": 2, "none": 1}
    seen, picked = Counter(), []
    for neuron, (name, score) in zip(neurons, named):
        kind, _, rest = name.partition(": ")
        seen[kind] += 1
        if seen[kind] <= most.get(kind, 0):
            place = f"layer {neuron // d_mlp}, neuron {neuron % d_mlp}"
            name = f"{kind}: {rest}" if rest else "no name"
            picked.append((kind, neuron, f"{place}\n{name}\nscore {score:.2f}"))
    even = sorted(picked[: len(picked) // 2 * 2])
    return [(neuron, label) for _, neuron, label in even]


def type_shares(named: list[tuple[str, float]]) -> dict[str, float]:
    """The share of each type among these names, and under "named" of all but "none"."""
    kinds = Counter(name.split(":")[0] for name, _ in named)
    shares = {kind: kinds[kind] / len(named) for kind in COLOUR}
    return shares | {"named": 1 - shares["none"]}


def draw_atlas(maps: list[Tensor], lenses: list[Tensor], labels: list[str], title: str) -> Figure:
    """Per neuron: when it is active, [a, b], and below it how much it promotes each of RESULTS."""
    columns = len(maps) // 2
    size = (2.65 * columns, 9.2)
    figure, axes = plt.subplots(4, columns, figsize=size, height_ratios=[3, 1, 3, 1])
    for i, (grid, promoted, label) in enumerate(zip(maps, lenses, labels)):
        row, column = 2 * (i // columns), i % columns
        top, bottom = axes[row, column], axes[row + 1, column]
        top.set_facecolor("lightgrey")
        shares = array(grid / grid.nan_to_num().max())
        image = top.imshow(shares, cmap=SEQUENTIAL, vmin=0, vmax=1, origin="lower")
        top.set_title(label, fontsize=9)
        colours = [BLUE if x > 0 else RED for x in promoted.tolist()]
        bottom.bar(array(RESULTS), array(promoted), width=1.0, color=colours)
        top.set_xlabel("b")
        bottom.set_xlabel("result")
        if column == 0:
            top.set_ylabel("a")
            bottom.set_ylabel("promoted\n(logits x scale)")
    figure.colorbar(image, ax=axes[[0, 2]], label="activation (share of its largest)", shrink=0.6)
    figure.suptitle(title, x=0.02, ha="left")
    return figure


def draw_names(shares: dict[str, dict[str, float]], title: str) -> Figure:
    """One stacked bar per set of neurons: the share of each type; the rest is nameless."""
    figure, ax = plt.subplots(figsize=(8.4, 4.2))
    left = array(torch.zeros(len(shares)))
    for kind, colour in COLOUR.items():
        widths = array(torch.tensor([100 * share.get(kind, 0.0) for share in shares.values()]))
        label = {"pattern": "pattern (a digit)", "identical": "identical (a = b)"}.get(kind, kind)
        ax.barh(range(len(shares)), widths, left=left, color=colour, label=label)
        left = left + widths
    ax.axvline(91, color=RED, linestyle=":", linewidth=1.5)
    ax.text(90.3, len(shares) - 0.35, "91 % named in Llama 3 8B", color=RED, fontsize=9, ha="right")
    ax.set_yticks(range(len(shares)), shares)
    ax.invert_yaxis()
    ax.set(xlabel="share of the neurons (%)", xlim=(0, 100), title=title)
    ax.set_ylim(len(shares) - 0.1, -0.6)
    figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=6, fontsize=9)
    return figure


def draw_predictions(ratios: dict[str, tuple[Tensor, Tensor]], title: str) -> Figure:
    """Per operator, a dot per neuron: activity where its own name, the next one's name holds."""
    figure, ax = plt.subplots(figsize=(7.4, 3.8))
    spread = torch.Generator().manual_seed(0)
    kinds = ("own name", "next neuron's name")
    for row, both in enumerate(ratios.values()):
        for values, colour, kind, shift in zip(both, (BLUE, ORANGE), kinds, (-0.2, 0.2)):
            shown, height = values.clamp(1 / 32), row + shift
            heights = height + 0.2 * (torch.rand(len(values), generator=spread) - 0.5)
            label = kind if row == 0 else None
            ax.scatter(array(shown), array(heights), s=12, alpha=0.6, color=colour, label=label)
            ax.vlines(shown.nanmedian().item(), height - 0.16, height + 0.16, color=BLACK)
    ax.plot([], [], "|", color=BLACK, markersize=10, label="median")
    ax.axvline(1, color="grey", linestyle=":")
    ax.set_xscale("log", base=2)
    ax.set_xticks([1 / 32, 1 / 8, 1 / 2, 1, 2, 4, 8], ["1/32 or less", "1/8", "1/2", 1, 2, 4, 8])
    ax.set_yticks(range(len(ratios)), [f"a {op} b" for op in ratios])
    ax.invert_yaxis()
    ax.set(xlabel="times as active as on average, problems not used for the name", title=title)
    figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=9)
    return figure


def draw_knock_outs(lost: dict[str, dict[str, float]], title: str) -> Figure:
    """Groups of bars: lost[group][which neurons were taken away]."""
    figure, ax = plt.subplots(figsize=(8.4, 4.4))
    kinds = list(next(iter(lost.values())))
    for i, (kind, colour) in enumerate(zip(kinds, (BLUE, SKY, GREEN, ORANGE, RED, "grey"))):
        places = [group + 0.13 * (i - (len(kinds) - 1) / 2) for group in range(len(lost))]
        ax.bar(places, [each[kind] for each in lost.values()], width=0.12, color=colour, label=kind)
    ax.axhline(0, color="grey", linewidth=0.8)
    ax.set_xticks(range(len(lost)), lost)
    ax.set(ylabel="logits lost by the answer", title=title)
    figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=9)
    return figure


def draw_history(history: dict[int, tuple[float, float, float]], title: str) -> Figure:
    """Against the training step: share named, share named when shuffled, share of right answers."""
    figure, ax = plt.subplots(figsize=(9.4, 4))
    steps, rows = list(history), list(history.values())
    as_they_are = [100 * named for named, _, _ in rows]
    mixed = [100 * named for _, named, _ in rows]
    above = [100 * (named - by_chance) for named, by_chance, _ in rows]
    right = [100 * share for _, _, share in rows]
    ax.plot(steps, as_they_are, "o--", color=SKY, label="named")
    ax.plot(steps, mixed, "s--", color="grey", label="named, activations shuffled")
    ax.plot(steps, above, "o-", color=BLUE, linewidth=2.5, label="the difference")
    ax.plot(steps, right, "^-", color=ORANGE, linewidth=2.5, label="right answers")
    ax.set_xscale("log")
    ax.set_xticks(steps, steps, minor=False)
    ax.minorticks_off()
    ax.set(xlabel="training step (the last one: the model of this chapter)", title=title)
    ax.set_ylabel("share of neurons, of answers (%)")
    ax.set_ylim(-9, 103)
    ax.legend(fontsize=9, loc="upper left", bbox_to_anchor=(1, 1))
    return figure
