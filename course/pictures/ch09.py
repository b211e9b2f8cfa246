"""The pictures of chapter 9: four kinds of ablation, one head against many, patterns before and
after, the strict path model, the whole circuit.
"""

import math

from torch import Tensor

from minitransformer.plots import BLACK, BLUE, GREEN, ORANGE, RED, Figure, heatmap, plt

from .ch08 import note


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
            style = {"ha": "center", "fontsize": 9}
            if loss > 1:
                ax.text(at, loss - 0.15, f"{loss:.1f}", va="top", color="white", **style)
            else:
                ax.text(at, 0.1, f"{loss:.1f}" if loss > 0.05 else "0", **style)
    chance = math.log(d_vocab - 1)
    ax.axhline(chance, color=BLACK, linestyle=":", linewidth=1)
    words = f"guessing: ln {d_vocab - 1} = {chance:.2f}"
    ax.text(-0.45, chance - 0.1, words, va="top", fontsize=9)
    ax.set_xticks(range(len(costs)), costs)
    ax.set_ylabel("loss in the repeat (nats)")
    ax.set_title("Without information the model guesses; with wrong information it errs")
    ax.legend(title="what the heads write instead", loc="upper left")
    return figure


def draw_groups(
    names: list[str], single: list[float], together: float, curves: dict[str, tuple]
) -> Figure:
    """Each induction head alone against all together; then what happens while they go, one after
    another.

    curves: name -> (colour, loss after removing 0, 1, .. heads, right logit minus a wrong one after
    removing them).
    """
    widths = [max(1.1, 0.15 * (len(names) + 2)), 1, 1]  # the more bars, the wider
    size = (3.87 * sum(widths), 3.9)
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=size, width_ratios=widths)
    values = [*single, sum(single), together]
    colours = [BLUE for _ in names] + ["grey", RED]
    left.bar([*names, "their\nsum", "all in\none run"], values, color=colours)
    for x, value in enumerate(values):
        left.text(x, value + 0.06, f"{value:.2f}", ha="center", fontsize=9)
    left.set(
        ylabel="cost of zeroing (nats of loss)", title="Hardly a cost alone,\nall of it together"
    )
    for name, (colour, losses, margins) in curves.items():
        middle.plot(losses, marker="o", color=colour, label=name)
        right.plot(margins, marker="o", color=colour, label=name)
    middle.set(ylabel="loss in the repeat (nats)", title="The loss bends")
    right.set(ylabel="right logit minus a wrong one", title="Each takes its share of the logits")
    lowest = min(margins[-1] for _, _, margins in curves.values())
    right.set_ylim(min(-0.5, lowest - 0.5), None)
    middle.legend(fontsize=9)
    for ax in (middle, right):
        ax.set_xlabel("induction heads zeroed")
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
    words = f"Head {target} loses its stripe only if the previous-token heads leave its keys"
    figure.suptitle(words, x=0.02, ha="left")
    return figure


def draw_leads(leads: dict[str, tuple[float, float]]) -> Figure:
    """The lead of the right key over each competitor: what the match brings, and all the rest."""
    figure, ax = plt.subplots(figsize=(8, 2.6))
    for y, (match, rest) in enumerate(leads.values()):
        ax.barh(y, match, color=GREEN, label="embedding x previous-token heads" if y == 0 else None)
        ax.barh(y, rest, color="grey", height=0.4, label="all other terms" if y == 0 else None)
        ax.plot(match + rest, y, marker="D", color=BLACK, linestyle="", label=None if y else "sum")
        colour = BLACK if match + rest > match else "white"
        ax.text(match + rest + 0.7, y, f"{match + rest:.1f}", va="center", color=colour)
    ax.axvline(0, color=BLACK, linewidth=1)
    ax.set_yticks(range(len(leads)), [f"over {competitor}" for competitor in leads])
    ax.invert_yaxis()
    ax.set(xlabel="lead of the right key (score units)", xlim=(None, 20))
    ax.set_title("The match must first make up for the head start of BOS")
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def draw_kept(costs: dict[str, list[float]], kinds: tuple[str, ...]) -> Figure:
    """What it costs if only some heads are kept, one group of bars for each choice of heads."""
    figure, ax = plt.subplots(figsize=(8.8, 3.4))
    for place, (kind, colour) in enumerate(zip(kinds, (BLUE, GREEN, "dimgrey", RED))):
        x = [group + 0.2 * (place - 1.5) for group in range(len(costs))]
        values = [row[place] for row in costs.values()]
        ax.bar(x, values, width=0.18, color=colour, label=kind)
        for at, value in zip(x, values):
            text = f"{value:.1f}" if value > 0.05 else "0"
            ax.text(at, value + 0.08, text, ha="center", fontsize=9)
    ax.set_xticks(range(len(costs)), costs)
    ax.set_ylim(0, 1.05 * max(max(row) for row in costs.values()))
    ax.set_ylabel("cost (nats of loss)")
    ax.set_title("Both groups suffice, the textbook pair does not")
    ax.legend(title="what the others write instead")
    return figure


def draw_strict(results: dict[str, float]) -> Figure:
    """Right answers of the strict path model, and of models that see one wrong thing each."""
    figure, ax = plt.subplots(figsize=(8.4, 3.4))
    colours = [GREEN] + [RED for _ in range(len(results) - 1)]
    ax.barh(list(results), [100 * share for share in results.values()], color=colours)
    for y, share in enumerate(results.values()):
        ax.text(100 * share + 1, y, f"{100 * share:.0f} %", va="center")
    ax.invert_yaxis()
    ax.set(xlim=(0, 112), xlabel="right next token in the repeat (%)")
    ax.set_title("Three paths alone do the task; exchange one and it is gone")
    return figure


def draw_argument(measured: dict[str, float | str]) -> Figure:
    """The whole circuit on one sequence X Y ... X, with the measured numbers on its edges and what
    cutting them costs.
    """
    figure, ax = plt.subplots(figsize=(10.8, 7))

    def flow(start, end, colour, bend=0.0, width=3.0):
        head = {"arrowstyle": "-|>,head_width=.35,head_length=.7", "shrinkA": 0, "shrinkB": 0}
        line = {"color": colour, "linewidth": width, "connectionstyle": f"arc3,rad={bend}"}
        ax.annotate("", end, start, arrowprops=head | line)

    def cut(x, y, text, dx=0.0, dy=0.0):
        ax.text(x, y, "✕", ha="center", va="center", color=RED, size=24, weight="bold", zorder=6)
        note(ax, x + dx, y + dy, text.format(**measured), RED, size=10)

    tokens = ((1.3, "X", GREEN), (4, "Y", ORANGE), (7, ". . .", BLACK), (10, "X", BLUE))
    for x, token, colour in tokens:
        ax.text(x, 0, token, ha="center", va="center", color=colour, size=22, weight="bold")
    flow((1.55, 0.4), (3.25, 2.1), GREEN)
    note(ax, 0.85, 1.45, "{previous}\nlook one back: {back:.2f}".format(**measured), GREEN)
    flow((4, 0.4), (4, 2.1), ORANGE)
    flow((10, 0.4), (10, 2.1), BLUE)
    note(ax, 4, 2.6, "I am Y\nbefore me: X", GREEN, frame=True)
    note(ax, 10, 2.6, "I am X", BLUE, frame=True)
    flow((4.95, 2.75), (8.0, 4.4), GREEN)
    note(ax, 5.35, 3.4, "key: X", GREEN, size=13)
    words = "taken out of the keys only:\nattention {attention:.2f} → {cut_keys:.4f}"
    cut(6.6, 3.64, words, dx=0.95, dy=-0.75)
    flow((10, 2.95), (10, 4.3), BLUE)
    note(ax, 10.75, 3.6, "query: X", BLUE, size=13)
    words = "{induction}\nX meets X: {share:.0%} of the lead over other tokens"
    note(ax, 9.2, 4.75, words.format(**measured), BLUE, frame=True)
    flow((3.9, 3.15), (7.0, 4.95), ORANGE, bend=-0.5, width=4.0)
    words = "attention jumps to Y: {attention:.2f}\nthe value Y is moved"
    note(ax, 3.0, 5.3, words.format(**measured), ORANGE, size=12)
    flow((9.4, 5.25), (9.4, 6.65), ORANGE, width=4.0)
    words = "copied: {copied:.0%} of tokens,\nfrom the weights"
    note(ax, 10.75, 6.0, words.format(**measured), ORANGE)
    words = "all silenced:\nloss {clean:.3f} → {cut_heads:.2f}\n(guessing {chance:.2f})"
    cut(9.4, 5.8, words, dx=-1.4, dy=0.1)
    words = "next token: Y    {accuracy:.0%} right,  logit {logit:.0f} above a wrong one"
    note(ax, 8.9, 7.1, words.format(**measured), ORANGE, frame=True)
    words = "only what is drawn here:\n{strict:.0%} right"
    note(ax, 3.0, 7.0, words.format(**measured), BLACK, frame=True)
    note(ax, -0.3, 2.9, "layer 0\nwrites labels", "grey")
    note(ax, -0.3, 4.75, "layer 1\nfinds the label", "grey")
    ax.set(xlim=(-1.1, 11.9), ylim=(-0.5, 7.7))
    words = "layer 1 looks for its own token among the labels"
    ax.set_title(f"Induction: layer 0 labels each token with the one before it, {words}", size=11)
    ax.axis("off")
    return figure
