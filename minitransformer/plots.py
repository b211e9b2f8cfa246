"""The few pictures that every chapter uses, each a matplotlib Figure; `save_figure` writes it.

Colours can be told apart by colour-blind readers (Okabe & Ito 2008, "Color Universal Design").
Signed values get a diverging map, symmetric about 0; shares between 0 and 1 get a sequential one.
Every axis has a name and, where there is one, a unit.
"""

import warnings
from collections.abc import Sequence
from pathlib import Path

import matplotlib

if matplotlib.get_backend(auto_select=False) is None:  # MPLBACKEND, or a notebook, chose none
    matplotlib.use("Agg")  # pictures go to files; this needs no screen

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
BLUE, RED, PINK = "#0072B2", "#D55E00", "#CC79A7"
CYCLE = [BLUE, ORANGE, GREEN, RED, PINK, SKY, BLACK]
SEQUENTIAL, DIVERGING = "Blues", "RdBu_r"

# matplotlib asks numpy for the sum of a number and a torch tensor; numpy will want to be asked
# differently one day, and says so: that is nobody's fault here, also under -W error
warnings.filterwarnings("ignore", "__array_wrap__ must accept", DeprecationWarning)

plt.rcParams.update(
    {
        "figure.dpi": 120,
        "figure.constrained_layout.use": True,
        "font.size": 11,
        "axes.prop_cycle": matplotlib.cycler(color=CYCLE),
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.titlelocation": "left",
        "legend.frameon": False,
    }
)
HEADS_IN_A_ROW = 6


def save_figure(figure: Figure, path: str | Path) -> Path:
    """Write the picture to `path`, close it, print and return where it is."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # a name in a script without a font
        figure.savefig(path)
    plt.close(figure)
    print(f"picture: {path}")
    return path


def as_label(name: str) -> str:
    """The name of a file as a title can hold it: short, no formula, and without stray bytes."""
    if len(name) > 40:
        name = name[:37] + "..."
    return name.encode("utf-8", "replace").decode("utf-8").replace("$", r"\$")


def array(values) -> np.ndarray:
    return values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)


def heatmap(ax, values, *, signed: bool, limit=None, xlabel="", ylabel="", title=""):
    """One matrix on one axis; returns the image, for a colour bar. signed: symmetric about 0;
    otherwise from 0 up.
    """
    values = array(values)
    if limit is None:
        limit = float(np.nanmax(np.abs(values))) or 1.0
    colours, low = (DIVERGING, -limit) if signed else (SEQUENTIAL, 0.0)
    image = ax.imshow(values, cmap=colours, vmin=low, vmax=limit, interpolation="nearest")
    ax.set(xlabel=xlabel, ylabel=ylabel, title=title)
    ax.spines[:].set_visible(False)
    return image


def write_values(ax, values, form="{:.2f}", size=9) -> None:
    """Print each value of a heat map into its cell, in a colour that can be read there."""
    values = array(values)
    strongest = np.nanmax(np.abs(values)) or 1.0
    for (row, column), value in np.ndenumerate(values):
        style = {"fontsize": size, "color": "white" if abs(value) > 0.6 * strongest else "black"}
        ax.text(column, row, form.format(value), ha="center", va="center", **style)


def draw_phase_change(history: Sequence[dict], d_vocab: int, title: str) -> Figure:
    """Loss and accuracy on held-out sequences over training: the phase change."""
    figure, (top, bottom) = plt.subplots(2, 1, figsize=(7, 5.2), sharex=True, height_ratios=[3, 2])
    steps = [row["step"] for row in history]
    chance = float(np.log(d_vocab - 1))
    top.axhline(chance, color="grey", linestyle=":", linewidth=1)
    label = f"ln {d_vocab - 1} = {chance:.2f}: pure guessing "
    top.text(steps[-1], chance - 0.08, label, ha="right", va="top", color="grey", fontsize=9)
    known = [row["loss_predictable"] for row in history]
    unknown = [row["loss_elsewhere"] for row in history]
    top.plot(steps, known, color=BLUE, label="tokens of the repeat: can be known")
    top.plot(steps, unknown, color=ORANGE, label="first appearance: cannot be known")
    top.set(ylabel="loss (nats per token)", title=title, ylim=(0, None))
    top.legend(loc="center right")
    bottom.plot(steps, [100 * row["induction_accuracy"] for row in history], color=BLUE)
    bottom.set(xlabel="training step", ylabel="right next token in\nthe repeat (%)", ylim=(0, 105))
    return figure


def draw_learning(history: Sequence[dict], splits: Sequence[str], title: str) -> Figure:
    """Loss on the answers and share of right ones over training, one curve for each split."""
    figure, (top, bottom) = plt.subplots(2, 1, figsize=(7, 5.2), sharex=True)
    steps = [row["step"] for row in history]
    for split, style in zip(splits, ("--", "-", "-")):
        name = split.replace(" ", "_")
        top.plot(steps, [row[f"{name}_loss"] for row in history], style, label=split)
        bottom.plot(steps, [100 * row[f"{name}_accuracy"] for row in history], style)
    top.set(ylabel="loss on the answers\n(nats per token)", title=title, ylim=(0, None))
    top.legend()
    bottom.set(xlabel="training step", ylabel="right answers (%)", ylim=(0, 105))
    return figure


def draw_right_answers(shares: dict[str, Tensor], title: str) -> Figure:
    """One map per operator, [a, b]: dark where the answer is right, white where it is wrong, grey
    where there is no problem.
    """
    size = (3.4 * len(shares) + 0.8, 3.7)
    figure, axes = plt.subplots(1, len(shares), figsize=size, squeeze=False)
    for ax, (operator, share) in zip(axes[0], shares.items()):
        ax.set_facecolor("lightgrey")
        image = heatmap(ax, share, signed=False, limit=1.0, title=f"a {operator} b")
        ax.set(xlabel="b", ylabel="a")
    figure.colorbar(image, ax=axes, label="right answers (share)", shrink=0.8)
    figure.suptitle(title, x=0.02, ha="left")
    return figure


def draw_loss_by_position(
    curves: dict[str, tuple], repeat_starts: int, d_vocab: int, title: str
) -> Figure:
    """Mean loss at each position, one curve per model; dotted lines mark guessing and where the
    repeat can be seen.
    """
    figure, ax = plt.subplots(figsize=(7, 3.8))
    chance = float(np.log(d_vocab - 1))
    for name, losses in curves.items():
        ax.plot(range(len(losses)), array(losses), marker="o", markersize=3.5, label=name)
    ax.axhline(chance, color="grey", linestyle=":", linewidth=1)
    label = f"ln {d_vocab - 1} = {chance:.2f}: pure guessing "
    ax.text(len(losses) - 1, chance - 0.05, label, ha="right", va="top", color="grey", fontsize=9)
    ax.axvline(repeat_starts - 0.5, color="grey", linestyle=":", linewidth=1)
    label = "from here on each token\nis read a second time"
    ax.text(repeat_starts - 0.3, 0.45 * chance, label, color="grey", fontsize=9)
    ax.set(xlabel="position of the token just read (0 = BOS)", title=title)
    ax.set(ylabel="loss on the next token (nats)", ylim=(0, None))
    if len(curves) > 1:
        ax.legend()
    return figure


def draw_attention_patterns(
    pattern: Tensor, period: int, title: str, scores: Sequence[Sequence[str]] | None = None
) -> Figure:
    """Every head's attention on one sequence, [layer, head, query, key]; triangles mark the stripe
    period - 1 back. A layer of many heads takes several rows.
    """
    n_layers, n_heads, n, _ = pattern.shape
    columns = min(n_heads, HEADS_IN_A_ROW)
    rows = n_layers * -(-n_heads // columns)
    size = (2.6 * columns + 0.6, 2.9 * rows + 0.5)
    figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False)
    by_head = axes.reshape(n_layers, -1)
    for ax in by_head[:, n_heads:].flat:
        ax.set_axis_off()
    for layer, head in np.ndindex(n_layers, n_heads):
        ax, name = by_head[layer, head], f"head {layer}.{head}"
        image = heatmap(ax, pattern[layer, head], signed=False, limit=1.0, title=name)
        if scores is not None:
            ax.set_title(f"{name}\n{scores[layer][head]}", fontsize=10)
        last_row = layer == n_layers - 1 and head + columns >= n_heads
        ax.set_xlabel("key: looked at" if last_row else "")
        ax.set_ylabel("query: looking" if head % columns == 0 else "")
        ax.plot([n - period + 0.9], [n - 0.2], marker="^", color=RED, markersize=6, clip_on=False)
        ax.plot([0.1], [period - 1 - 0.1], marker=">", color=RED, markersize=6, clip_on=False)
    figure.colorbar(image, ax=axes, label="attention (share)", shrink=0.7)
    figure.suptitle(title, x=0.02, ha="left")
    return figure
