"""The pictures of chapter 6: waterfalls, the shift, the same push in logits and in probability,
lenses, what misleads.
"""

import torch
from torch import Tensor

from minitransformer.plots import BLUE, GREEN, ORANGE, RED, Figure, heatmap, plt, write_values


def draw_waterfalls(labels: list[str], panels: dict[str, Tensor]) -> Figure:
    """One panel per title. Each part's bar starts where the one before it ended, the last is the
    sum. The first panel sets the scale.
    """
    figure, axes = plt.subplots(1, len(panels), figsize=(10, 3.9), sharey=True)
    colours = [{"0": ORANGE, "1": BLUE}.get(label[0], "grey") for label in labels]
    half_way = 0.55 * next(iter(panels.values())).sum()
    for ax, (title, values) in zip(axes, panels.items()):
        ends = values.cumsum(0)
        ax.bar(labels, values, bottom=ends - values, color=colours, edgecolor=colours, linewidth=2)
        ax.bar(["sum"], ends[-1], color="black")
        ax.text(0, half_way, f"largest part {values.abs().max():.2f}\nsum {ends[-1]:.2f}")
        ax.axhline(0, color="black", linewidth=0.8)
        ax.set(title=title, xlabel="part of the stream")
        ax.tick_params(axis="x", labelrotation=90)
    axes[0].set_ylabel("contribution to the logit (nats)")
    title = "The answer is written by layer 1 (blue); layer 0 (orange) writes none of it"
    figure.suptitle(title, x=0.02, ha="left")
    return figure


def draw_shift(labels: list[str], panels: dict[str, tuple[Tensor, Tensor]]) -> Figure:
    """One panel per title: attributions before and after u was added to every column of W_U."""
    figure, axes = plt.subplots(1, len(panels), figsize=(10, 3.6), sharey=True)
    place = torch.arange(len(labels))
    for ax, (title, (before, after)) in zip(axes, panels.items()):
        ax.bar(place - 0.2, before, 0.4, color=BLUE, label="W_U as trained")
        ax.bar(place + 0.2, after, 0.4, color=ORANGE, label="W_U + u: the same probabilities")
        ax.axhline(0, color="black", linewidth=0.8)
        ax.set_xticks(place, labels)
        ax.set(title=title, xlabel="part of the stream")
    axes[0].set_ylabel("attribution (nats)")
    axes[-1].legend(loc="upper left")
    return figure


def draw_probability(
    pushes: list[tuple[float, float]], shares: Tensor, p_with: float, p_without: float
) -> Figure:
    """The same push in log-odds from several starts (before, after), and a head that only the
    logits show.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.5, 3.7), width_ratios=[2, 1])
    x = torch.linspace(-7, 7, 200)
    left.plot(x, x.sigmoid(), color="grey")
    for (before, after), colour, aside in zip(pushes, (BLUE, ORANGE, GREEN), (0.3, 0.3, -3.0)):
        start, end = torch.tensor([before, after]).logit().tolist()
        arrow = {"arrowstyle": "-|>", "color": colour, "linewidth": 2.5}
        left.annotate("", (end, after), (start, before), arrowprops=arrow)
        label = f"{100 * before:.3g} % to {100 * after:.3g} %"
        left.text(end + aside, after - 0.09, label, color=colour)
    left.set(xlabel="log-odds of the token (nats)", ylabel="probability")
    left.set_title("The same push, +2 logits")
    right.bar(["1.0", "1.1"], shares, color=[BLUE, RED], width=0.6)
    right.axhline(0, color="black", linewidth=0.8)
    right.set(xlabel="head", ylabel="right minus wrong (nats)")
    said = f"Probability: {p_with:.6f},\nand {p_without:.6f} without 1.1"
    right.set_title(f"1.1 writes against the answer.\n{said}", fontsize=11)
    return figure


def draw_lenses(panels: dict[str, Tensor], tokens: Tensor, repeat_starts: int) -> Figure:
    """The lens on one sequence: one panel per title, lens [depth, pos, vocab]; the cells hold each
    depth's first choice.
    """
    figure, axes = plt.subplots(len(panels), 1, figsize=(10.5, 4.6))
    for ax, (title, lens) in zip(axes, panels.items()):
        n = len(tokens) - 1  # what follows the last token is unknown
        p = lens[:, :n].softmax(dim=-1)
        right = p[:, torch.arange(n), tokens[1:]]  # depth pos
        image = heatmap(ax, right, signed=False, limit=1.0, title=title)
        first_choice = p.argmax(dim=-1)  # depth pos
        for depth, place in torch.cartesian_prod(torch.arange(len(p)), torch.arange(n)).tolist():
            colour = "white" if right[depth, place] > 0.6 else "black"
            style = {"ha": "center", "va": "center", "fontsize": 8, "color": colour}
            ax.text(place, depth, first_choice[depth, place].item(), **style)
        after = [f"after layer {layer}" for layer in range(len(p) - 1)]
        ax.set_yticks(range(len(p)), ["embedding", *after])
        ax.set_xticks(range(n), tokens[:n].tolist(), fontsize=8)
        ax.set_aspect("auto")
        ax.axvline(repeat_starts - 0.5, color=RED, linestyle=":")
    axes[-1].set_xlabel("token just read; in the cells: the first choice for the next one")
    figure.colorbar(image, ax=axes, label="probability of\nthe right next token")
    return figure


def draw_component_lens(
    labels: list[str], asked: list[str], table: Tensor, own_choice: Tensor
) -> Figure:
    """table [component, which token]: what each part says about it; beside the part: how often its
    first choice is right.
    """
    figure, ax = plt.subplots(figsize=(7.5, 4.6))
    image = heatmap(ax, table, signed=True)
    write_values(ax, table)
    ax.set_title("Layer 1 says the right token and nothing else;\nlayer 0 says nothing")
    ax.set_ylabel("part, and how often its own\nfirst choice is right")
    ax.set_aspect("auto")
    ax.set_xticks(range(len(asked)), asked)
    rows = [f"{name}   {share:4.0%}" for name, share in zip(labels, own_choice)]
    ax.set_yticks(range(len(labels)), rows)
    figure.colorbar(image, label="logit relative to the mean token (nats)")
    return figure


def draw_misled(
    heads: list[tuple[int, int]], direct: Tensor, effect: Tensor, joint: tuple[float, float]
) -> Figure:
    """Attribution against what zeroing really does, per head, and (star) for all previous-token
    heads together.
    """
    figure, ax = plt.subplots(figsize=(7, 4.8))
    predicted = "what attribution predicts: effect = -attribution"
    ax.axline((0, 0), slope=-1, color="grey", linestyle=":", label=predicted)
    for layer, colour in enumerate((ORANGE, BLUE)):
        here = [at for at, head in enumerate(heads) if head[0] == layer]
        dots = {"color": colour, "s": 45, "zorder": 3}  # in front of the star
        ax.scatter(direct[here], effect[here], label=f"heads of layer {layer}", **dots)
    star = {"marker": "*", "s": 500, "facecolor": "none", "edgecolor": RED}
    ax.scatter(*joint, label="all previous-token heads at once", **star)
    for (layer, head), x, y in zip(heads, direct, effect):
        side = -1 if head % 2 else 1  # neighbours are labelled on either side
        aside = (0.0, 0.55 * side) if layer else (0.25 * side, 0.0)
        at = {"ha": "center", "va": "center", "zorder": 2.5}  # above the line, below the dots
        box = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}
        ax.text(x + aside[0], y + aside[1], f"{layer}.{head}", bbox=box, **at)
    ax.set_xlabel("direct attribution (nats)")
    ax.set_ylabel("change of right minus wrong\nwhen zeroed (nats)")
    ax.set_xlim(-1, None)
    ax.set_title("Previous-token heads: no attribution,\nand without them everything breaks")
    ax.legend(loc="lower right")
    return figure
