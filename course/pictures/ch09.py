"""The pictures of chapter 9: four kinds of ablation, one head against many, patterns before and
after, the whole circuit.
"""

import math

from torch import Tensor

from minitransformer.plots import BLACK, BLUE, GREEN, ORANGE, RED, Figure, heatmap, plt


def draw_kinds(
    costs: dict[str, list[float]], kinds: tuple[str, ...], clean: float, d_vocab: int
) -> Figure:
    """The loss after each kind of ablation, one group of bars for each group of heads."""
    figure, ax = plt.subplots(figsize=(8.8, 4))
    for place, (kind, colour) in enumerate(zip(kinds, (BLUE, GREEN, "dimgrey", RED))):
        x = [group + 0.2 * (place - 1.5) for group in range(len(costs))]
        losses = [clean + row[place] for row in costs.values()]
        ax.bar(x, losses, width=0.18, color=colour, label=kind)
        for at, loss in zip(x, losses):
            inside = {"y": loss - 0.15, "va": "top", "color": "white"} if loss > 1 else {"y": 0.1}
            ax.text(
                x=at, s=f"{loss:.1f}" if loss > 0.05 else "0", ha="center", fontsize=9, **inside
            )
    chance = math.log(d_vocab - 1)
    ax.axhline(chance, color=BLACK, linestyle=":", linewidth=1)
    ax.text(-0.45, chance + 0.1, f"guessing: ln {d_vocab - 1} = {chance:.2f}", fontsize=9)
    ax.set_xticks(range(len(costs)), costs)
    ax.set(
        ylabel="loss in the repeat (nats)",
        title="Without information the model guesses; with wrong information it errs",
    )
    ax.legend(title="what the heads write instead", loc="upper left")
    return figure


def draw_groups(
    names: list[str], single: list[float], together: float, curves: dict[str, tuple]
) -> Figure:
    """Each induction head alone against all together; then what happens while they go, one after
    another.

    curves: name -> (colour, loss after removing 0, 1, .. heads, right logit minus a wrong one after
    removing them)."""
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(12, 3.9), width_ratios=[1.1, 1, 1])
    values = [*single, sum(single), together]
    left.bar(
        [*names, "their\nsum", "all in\none run"], values, color=[BLUE] * len(names) + ["grey", RED]
    )
    for x, value in enumerate(values):
        left.text(x, value + 0.06, f"{value:.2f}", ha="center", fontsize=9)
    left.set(ylabel="cost of zeroing (nats of loss)", title="No head matters,\nall of them do")
    for name, (colour, losses, margins) in curves.items():
        middle.plot(losses, marker="o", color=colour, label=name)
        right.plot(margins, marker="o", color=colour, label=name)
    middle.set(
        ylabel="loss in the repeat (nats)",
        xlabel="induction heads zeroed",
        title="The loss bends ...",
    )
    right.set(
        ylabel="right logit minus a wrong one",
        xlabel="induction heads zeroed",
        title="... each takes its share of the logits",
    )
    right.set_ylim(min(-0.5, min(curves[name][2][-1] for name in curves) - 0.5), None)
    middle.legend(fontsize=9)
    for ax in (middle, right):
        ax.set_xticks(range(len(names) + 1))
    return figure


def draw_targeted(patterns: dict[str, Tensor], target: str, scores: list[float]) -> Figure:
    """One head's pattern on one sequence, as it is and with something taken out of its keys or
    queries.
    """
    figure, axes = plt.subplots(1, len(patterns), figsize=(13, 4), sharey=True)
    for ax, (name, pattern), score in zip(axes, patterns.items(), scores):
        image = heatmap(ax, pattern, signed=False, limit=1.0, xlabel="key: looked at")
        ax.set_title(f"{name}\nattention where it belongs: {score:.2f}", fontsize=9.5)
    axes[0].set_ylabel("query: looking")
    figure.colorbar(image, ax=axes, label="attention (share)", shrink=0.8)
    figure.suptitle(
        f"Head {target} loses its stripe only if the previous-token heads leave its keys",
        x=0.02,
        ha="left",
    )
    return figure


def draw_argument(measured: dict[str, float | str]) -> Figure:
    """The whole circuit on one sequence X Y ... X, with the measured numbers on its edges and what
    cutting them costs.
    """
    figure, ax = plt.subplots(figsize=(10.8, 7))

    def note(x, y, text, colour=BLACK, size=10.5, **style):
        ax.text(
            x, y, text, ha="center", va="center", color=colour, fontsize=size, zorder=6, **style
        )

    def box(x, y, text, colour):
        frame = {
            "boxstyle": "round,pad=0.5",
            "facecolor": "white",
            "edgecolor": colour,
            "linewidth": 2,
        }
        note(x, y, text, bbox=frame)

    def flow(start, end, colour, bend=0.0, width=3.0):
        style = {
            "arrowstyle": "-|>,head_width=.35,head_length=.7",
            "color": colour,
            "linewidth": width,
        }
        ax.annotate(
            "",
            end,
            start,
            arrowprops=style | {"connectionstyle": f"arc3,rad={bend}", "shrinkA": 0, "shrinkB": 0},
        )

    def cut(x, y, text, dx=0.0, dy=0.0):
        note(x, y, "✕", RED, size=24, weight="bold")
        note(x + dx, y + dy, text.format(**measured), RED, size=10)

    for x, token, colour in (
        (1.3, "X", GREEN),
        (4, "Y", ORANGE),
        (7, ". . .", BLACK),
        (10, "X", BLUE),
    ):
        note(x, 0, token, colour, size=22, weight="bold")
    flow((1.55, 0.4), (3.25, 2.1), GREEN)
    note(0.85, 1.45, "{previous}\nlook one back: {back:.2f}".format(**measured), GREEN)
    flow((4, 0.4), (4, 2.1), ORANGE)
    flow((10, 0.4), (10, 2.1), BLUE)
    box(4, 2.6, "I am Y\nbefore me: X", GREEN)
    box(10, 2.6, "I am X", BLUE)
    flow((4.95, 2.75), (8.0, 4.4), GREEN)
    note(5.35, 3.4, "key: X", GREEN, size=13)
    cut(
        6.6,
        3.64,
        "taken out of the keys only:\nattention {attention:.2f} → {cut_keys:.4f}",
        dx=0.95,
        dy=-0.75,
    )
    flow((10, 2.95), (10, 4.3), BLUE)
    note(10.75, 3.6, "query: X", BLUE, size=13)
    box(
        9.5,
        4.75,
        "{induction}\nX meets X: {share:.0%} of the right key's lead".format(**measured),
        BLUE,
    )
    flow((3.9, 3.15), (7.65, 4.95), ORANGE, bend=-0.5, width=4.0)
    note(
        3.3,
        5.3,
        "attention jumps to Y: {attention:.2f}\nthe value Y is moved".format(**measured),
        ORANGE,
        size=12,
    )
    flow((9.4, 5.25), (9.4, 6.65), ORANGE, width=4.0)
    note(10.75, 6.0, "copied: {copied:.0%} of tokens,\nfrom the weights".format(**measured), ORANGE)
    cut(
        9.4,
        5.8,
        "all silenced:\nloss {clean:.3f} → {cut_heads:.2f}\n(guessing {chance:.2f})",
        dx=-1.4,
        dy=0.1,
    )
    box(
        8.9,
        7.1,
        "next token: Y    {accuracy:.0%} right,  logit {logit:.0f} above a wrong one".format(
            **measured
        ),
        ORANGE,
    )
    note(-0.3, 2.9, "layer 0\nwrites labels", "grey")
    note(-0.3, 4.75, "layer 1\nfinds the label", "grey")
    ax.set(xlim=(-1.1, 11.9), ylim=(-0.5, 7.7))
    ax.set_title(
        "Induction: layer 0 labels each token with the one before it, layer 1 looks for its own token among the labels"
    )
    ax.axis("off")
    return figure
