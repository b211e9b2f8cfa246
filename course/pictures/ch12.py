"""The pictures of chapter 12."""

import torch

from minitransformer.plots import BLACK, BLUE, GREEN, ORANGE, PINK, RED, Figure, heatmap, plt


def draw_memory(rows: list[int], seen: list[float], unseen: list[float], d_model: int) -> Figure:
    """Accuracy on meaningless labels against the number of rows a probe was fitted to, on those
    rows and on others.
    """
    figure, ax = plt.subplots(figsize=(7, 3.6))
    for values, marker, colour, label in (
        (seen, "o", RED, "tested on the rows it was fitted to"),
        (unseen, "s", BLUE, "tested on other rows"),
    ):
        ax.plot(rows, [100 * x for x in values], marker=marker, color=colour, label=label)
    ax.axvline(d_model, color="grey", linestyle=":", linewidth=1)
    ax.text(d_model * 1.06, 55, f"d_model\n= {d_model}", color="grey", fontsize=10)
    ax.set_xscale("log", base=2)
    ax.set_xticks(rows, rows)
    ax.set(xlabel="rows that the probe was fitted to", ylabel="right answers (%)", ylim=(-3, 105))
    ax.set_title("A probe can learn nonsense by heart: test it elsewhere")
    ax.legend(loc="upper right")
    return figure


def draw_depths(curves: dict[str, torch.Tensor], control: torch.Tensor) -> Figure:
    """Probe accuracy at each depth, a bar per feature, so that no equal value hides another; the
    largest of control [shuffle, depth] is a line.
    """
    figure, ax = plt.subplots(figsize=(8.8, 4.4))
    colours, depths = (BLUE, ORANGE, GREEN, RED, PINK), range(control.shape[1])
    for row, ((name, accuracy), colour) in enumerate(zip(curves.items(), colours)):
        spots = [depth + 0.17 * (row - 2) for depth in depths]
        bars = ax.bar(spots, 100 * accuracy, width=0.16, color=colour, label=name)
        ax.bar_label(bars, fmt="%.0f", fontsize=9)
    guessed = 100 * control.max().item()
    ax.axhline(guessed, color="black", linestyle=":", linewidth=1, label="shuffled labels, at most")
    ax.set_xticks(depths, ["embedding", *(f"after layer {layer}" for layer in depths[:-1])])
    ax.set(ylim=(0, 112), ylabel="right answers of the probe,\nunseen sequences (%)")
    ax.set_title("Layer 0 brings in the previous token, layer 1 the answer")
    figure.legend(loc="outside lower center", ncols=3, fontsize=9)
    return figure


def draw_strength(ridges: list[float], sweep: dict[str, list[float]]) -> Figure:
    """sweep[case]: accuracy for each ridge, and at last that of the strong probe."""
    figure, ax = plt.subplots(figsize=(8.4, 4))
    places = range(len(ridges) + 1)
    # wide below narrow, so that no line hides another
    styles = zip((ORANGE, RED, PINK, GREEN), "os^v", (7, 2, 2, 2), (13, 7, 7, 7))
    for (name, values), (colour, marker, width, size) in zip(sweep.items(), styles):
        percent = [100 * value for value in values]
        look = {"marker": marker, "color": colour, "markersize": size, "linewidth": width}
        ax.plot(places[:-1], percent[:-1], label=name, **look)
        ax.plot(places[-1:], percent[-1:], **look)
    ax.axvline(len(ridges) - 0.5, color="grey", linestyle=":", linewidth=1)
    ax.set_xticks(places, [*(f"ridge\n{ridge:.0e}" for ridge in ridges), "strong\nprobe"])
    ax.set(ylabel="right answers after layer 0 (%)", ylim=(-3, 106))
    ax.set_title("What a ridge misses can be all there: the stretched model says the same")
    ax.legend(loc="upper left", bbox_to_anchor=(1, 0.8))
    return figure


def draw_places(previous: torch.Tensor, repeat: dict[str, torch.Tensor]) -> Figure:
    """Left: previous-token accuracy [depth, pos]. Right: one line per way to answer "did the token
    stand there before?" by position.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 3.7), width_ratios=[1.15, 1])
    values = 100 * previous.flip(0)  # the embedding at the bottom, like the stream itself
    below = "position (0 is BOS: nothing before it)"
    image = heatmap(left, values, signed=False, limit=100.0, xlabel=below)
    left.set_aspect("auto")
    names = ["embedding", *(f"after layer {layer}" for layer in range(len(previous) - 1))]
    left.set_yticks(range(len(previous)), names[::-1])
    left.set_title("previous token: everywhere alike", fontsize=11)
    figure.colorbar(image, ax=left, label="right answers (%)")
    styles = zip((GREEN, ORANGE, "grey"), ("-", "-", ":"))
    for (name, curve), (colour, style) in zip(repeat.items(), styles):
        positions = range(1, len(curve) + 1)
        right.plot(positions, 100 * curve, style, color=colour, label=name, linewidth=2)
    right.set(xlabel="position", ylabel="right answers (%)", ylim=(40, 104))
    right.set_title("did the token stand there before? (after layer 1)", fontsize=11)
    right.legend(loc="lower left", fontsize=9)
    title = "What a linear probe misses can be as plain as the length of a vector"
    figure.suptitle(title, x=0.02, ha="left")
    return figure


def draw_erasures(
    right: dict[tuple[str, str, str], torch.Tensor], places: tuple[str, str]
) -> Figure:
    """right[feature, place, what was taken off]: share of right predictions, by sequence. One panel
    per place, one group of bars per feature.
    """
    features = list(dict.fromkeys(feature for feature, _, _ in right))
    taken = list(dict.fromkeys(what for _, _, what in right))
    figure, axes = plt.subplots(1, 2, figsize=(11, 4.3), sharey=True)
    titles = ("taken off before layer 1", "taken off after layer 1")
    for ax, place, title in zip(axes, places, titles):
        for row, (what, colour) in enumerate(zip(taken, (RED, ORANGE, BLUE, GREEN))):
            heights = [100 * right[feature, place, what].mean().item() for feature in features]
            spots = [group + 0.2 * (row - 1.5) for group in range(len(features))]
            bars = ax.bar(spots, heights, width=0.19, color=colour, label=what)
            ax.bar_label(bars, fmt="%.0f", fontsize=9)
        ax.set_xticks(range(len(features)), features)
        ax.set_title(title, fontsize=11)
        ax.set_ylim(0, 112)
    axes[0].set_ylabel("right next token\nin the repeat (%)")
    handles = axes[0].get_legend_handles_labels()
    figure.legend(
        *handles, loc="outside lower center", ncols=4, title="at each place was taken off"
    )
    title = "The previous token: readable before and after layer 1, used only before"
    figure.suptitle(title, x=0.02, ha="left")
    return figure


def draw_doses(doses: list[float], curves: dict[str, tuple[list[float], list[float]]]) -> Figure:
    """What steering does, by dose: attention to the marked position, and the probability of its
    token.
    """
    figure, axes = plt.subplots(1, 2, figsize=(10.8, 4.2), sharex=True)
    colours, markers = (GREEN, BLUE, PINK, BLACK), "os^x"
    units = ("attention to the marked position", "probability of the token there")
    for panel, (ax, unit) in enumerate(zip(axes, units)):
        for (name, curve), colour, marker in zip(curves.items(), colours, markers):
            ax.plot(doses, curve[panel], marker=marker, markersize=5, color=colour, label=name)
        ax.set_xlabel("dose: length of what is added (1 = as the model writes it)")
        ax.set(ylabel=unit, ylim=(-0.03, 1.03))
    handles = axes[0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", ncols=4, fontsize=9)
    title = "Write 'my previous token was X' in the middle, and layer 1 comes to read"
    figure.suptitle(title, x=0.02, ha="left")
    return figure
