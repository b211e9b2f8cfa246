"""The pictures and tables of chapter 8: edges between heads before and after a change that nobody
can see, circuits with their controls, the story of K-composition.
"""

import math

import torch
from torch import Tensor

from minitransformer.plots import (
    BLACK,
    BLUE,
    GREEN,
    HEADS_IN_A_ROW,
    ORANGE,
    RED,
    Figure,
    heatmap,
    plt,
    write_values,
)


def draw_chance(samples: dict[str, Tensor], d_model: int) -> Figure:
    """The scores of random pairs of heads, for heads of different sizes."""
    figure, ax = plt.subplots(figsize=(8, 3.2))
    least = min(float(values.min()) for values in samples.values())
    largest = max(float(values.max()) for values in samples.values())
    bins = torch.linspace(least, largest, 40).tolist()
    for (name, values), colour in zip(samples.items(), (BLUE, ORANGE)):
        ax.hist(values.numpy(), bins=bins, color=colour, alpha=0.65, label=f"random pairs, {name}")
    ax.axvline(d_model**-0.5, color=BLACK, linestyle="--", label="1/sqrt(d_model)")
    ax.set(xlabel="published composition score", ylabel="pairs")
    ax.set_title("Chance has one mean for every d_head; d_head sets the spread")
    ax.legend()
    return figure


def draw_numbers(rows: list[str], columns: list[str], values: list[list[float]]) -> Figure:
    """A table of numbers on one model and on changed models: what moved is coloured."""
    figure, ax = plt.subplots(figsize=(8.6, 4.6))
    for y, (name, row) in enumerate(zip(rows, values)):
        moved = [abs(value - row[0]) > 1e-3 * abs(row[0]) for value in row]
        ax.text(-0.6, y, name, ha="right", va="center", color=RED if any(moved) else BLACK)
        for x, value in enumerate(row):
            style = {"color": RED, "weight": "bold"} if moved[x] else {"color": "grey"}
            text = f"{value:.3f}" if abs(value) < 20 else f"{value:.0f}"
            ax.text(x, y, text, ha="center", va="center", **style)
    ax.set(xlim=(-3.4, len(columns) - 0.5), ylim=(len(rows) - 0.5, -0.6))
    ax.set_xticks(range(len(columns)), columns)
    ax.xaxis.tick_top()
    ax.set_yticks([])
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)
    figure.suptitle("Bold: moved by a change that no probability can see", x=0.02, ha="left")
    return figure


def draw_compositions(
    tables: dict[str, Tensor], shares: dict, band: tuple, best: float, roles: tuple[list, list]
) -> Figure:
    """All composition scores against chance, then the pairs above it as edges; width: share of what
    is possible.
    """
    heads, pairs = len(tables["K"]), tables["K"].numel()
    size = (12.5, max(4.1, 0.5 * heads))
    figure, axes = plt.subplots(1, 4, figsize=size, width_ratios=[1.6, 1, 1, 1])
    draw_scores(axes[0], tables, roles[0])
    axes[0].axhspan(*band, color=BLUE, alpha=0.2)
    axes[0].text(-0.45, band[1] + 0.003, "random pairs, ± 3 sd", color=BLUE, fontsize=9)
    axes[0].axhline(best, color=RED, linestyle="--")
    words = "best possible for these heads (K)"
    axes[0].text(-0.45, best - 0.003, words, color=RED, fontsize=9, va="top")
    axes[0].set(ylabel="published composition score", title=f"Each kind: {pairs} pairs of heads")
    axes[0].set_ylim(0, 1.08 * best)
    for ax, kind in zip(axes[1:], tables):
        above = tables[kind] > band[1]
        draw_edges(ax, above, shares[kind], roles)
        count = f"{kind}: {int(above.sum())} of {above.numel()}"
        ax.set_title(f"{count}\nabove the band", loc="center")
    words = (
        "Layer 1 reads layer 0 in its keys. Green: previous-token heads, orange: induction heads"
    )
    figure.suptitle(words, x=0.01, ha="left")
    return figure


def draw_scores(ax, tables: dict[str, Tensor], previous: list[int]) -> None:
    """One dot per pair of heads, a column per kind; green if the layer-0 head looks one back."""
    for place, table in enumerate(tables.values()):
        for g, row in enumerate(table):
            apart = min(0.12, 0.8 / len(row))
            x = place + apart * (torch.arange(len(row)) - (len(row) - 1) / 2)
            ax.scatter(x, row, color=GREEN if g in previous else "grey", s=22, zorder=3)
    ax.set(xlim=(-0.5, 2.5), ylim=(0, None))
    ax.set_xticks(range(3), tables)


def draw_edges(ax, shown: Tensor, widths: Tensor, roles: tuple[list, list]) -> None:
    size = min(650, 5400 / len(shown))
    for g, h in shown.nonzero().tolist():
        colour = GREEN if g in roles[0] else "grey"
        ax.plot([0, 1], [-g, -h], color=colour, linewidth=6 * widths[g, h])
    for layer, colour in enumerate((GREEN, ORANGE)):
        for head in range(shown.shape[layer]):
            fill = colour if head in roles[layer] else "lightgrey"
            ax.scatter(layer, -head, s=size, color=fill, edgecolor=BLACK, zorder=3)
            style = {"ha": "center", "va": "center", "fontsize": 11 if size == 650 else 9}
            ax.text(layer, -head, f"{layer}.{head}", zorder=4, **style)
    ax.set(xlim=(-0.3, 1.3), ylim=(-shown.shape[0] + 0.4, 0.6))
    ax.axis("off")


def draw_stretched(
    published: list[dict], in_tokens: list[dict], band: tuple, roles: tuple
) -> Figure:
    """Both scores, each of the same model before and after its stream was stretched."""
    figure, axes = plt.subplots(1, 4, figsize=(13, 4))
    names = ("as trained", "its stream stretched")
    for ax, tables, name in zip(axes[:2], published, names):
        draw_scores(ax, tables, roles[0])
        ax.axhspan(*band, color=BLUE, alpha=0.2)
        ax.set(ylim=(0, 0.75), ylabel="published composition score", title=f"Published,\n{name}")
    axes[1].text(-0.45, band[1] + 0.01, "random pairs, ± 3 sd", color=BLUE, fontsize=9)
    largest = max(float(table.max()) for table in in_tokens[0].values())
    for ax, tables, name in zip(axes[2:], in_tokens, names):
        draw_scores(ax, tables, roles[0])
        ax.set(ylim=(0, 1.15 * largest), title=f"In token space,\n{name}")
        ax.set_ylabel("score units (Q, K), logits (V)")
    words = "No answer of the model moved, the published score did. Green: previous-token heads"
    figure.suptitle(words, x=0.01, ha="left")
    return figure


def draw_terms(labels: list[str], gains: dict[str, Tensor], head: str) -> Figure:
    """The terms of one head's score, a panel for each competitor: rows are parts of the query,
    columns parts of the key.
    """
    size = (max(11.5, 1.2 * len(labels)), max(5, 0.5 * len(labels)))
    figure, axes = plt.subplots(1, len(gains), figsize=size)
    limit = max(float(gain.abs().max()) for gain in gains.values())
    for ax, (competitor, gain) in zip(axes, gains.items()):
        image = heatmap(ax, gain, signed=True, limit=limit, xlabel="part of the key")
        write_values(ax, (10 * gain).round() / 10 + 0.0, "{:.1f}")  # + 0 turns -0.0 into 0.0
        ax.set_xticks(range(len(labels)), labels, rotation=30, ha="right", rotation_mode="anchor")
        ax.set_yticks(range(len(labels)), labels)
        ax.set_title(f"lead over {competitor}: {gain.sum():.1f}")
    axes[0].set_ylabel("part of the query")
    figure.colorbar(image, ax=axes, label="lead of the right key (score units)", shrink=0.8)
    words = f"Head {head}: the match lifts the right key; everything else speaks for BOS"
    figure.suptitle(words, x=0.01, ha="left")
    return figure


def draw_softmax(situations: list[str], score: float, brought: list[float]) -> Figure:
    """One term, added to a score in several situations, and what it does to the attention there."""
    figure, (before, after) = plt.subplots(1, 2, figsize=(9.5, 3.3), sharey=True)
    before.barh(situations, [score] * len(situations), color=BLUE)
    for y in range(len(situations)):
        before.text(score + 0.1, y, f"+{score:.1f}", va="center")
    before.set(xlabel="what the term adds to the score", ylabel="added to")
    before.set(title="before the softmax:\neach time the same", xlim=(0, 1.2 * score))
    after.barh(situations, brought, color=ORANGE)
    for y, value in enumerate(brought):
        after.text(value + 0.02, y, f"+{value:.2f}", va="center")
    after.set(xlabel="what it adds to the attention (share)", xlim=(0, 1))
    after.set_title("after the softmax:\nit depends on the rest")
    before.invert_yaxis()
    return figure


def draw_paths(groups: dict[str, float], hits: dict[str, float]) -> Figure:
    """What each kind of path adds to the answer, and how much of the task paths of each length
    solve.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.5))
    left.bar(list(groups), list(groups.values()), color=[BLACK, GREEN, ORANGE, BLUE])
    left.set(ylabel="right logit, over the mean", xlabel="kind of path")
    left.set_title("Paths through one head of layer 1\nwrite the answer")
    right.bar(list(hits), list(hits.values()), color=[BLUE, BLUE, BLUE, RED])
    right.set_xlabel("blue: paths with frozen patterns; red: a real run")
    right.set(ylabel="right next token (%)", title="Frozen patterns hide\nwhat layer 0 is for")
    return figure


def draw_circuits(
    circuits: dict[str, Tensor], looks_back: Tensor, accuracy: Tensor, roles: tuple, controls: dict
) -> Figure:
    """Two circuits as heat maps, without BOS; then, for every pair, how diagonal it is against what
    the layer-0 head looks at.
    """
    figure, axes = plt.subplots(1, 3, figsize=(13, 4.2), width_ratios=[1, 1, 1.15])
    for ax, (title, circuit) in zip(axes, circuits.items()):
        image = heatmap(ax, circuit, signed=True, title=title)
        ax.set(xlabel="token moved into the key", ylabel="token that asks")
        apart = 10 * math.ceil(len(circuit) / 64)
        ticks = [1, *range(apart, len(circuit) + 1, apart)]  # the tokens that are named
        places = [token - 1 for token in ticks]  # the first row and column are token 1
        ax.set_xticks(places, ticks)
        ax.set_yticks(places, ticks)
        figure.colorbar(image, ax=ax, shrink=0.75, label="match (before the scale)")
    last = axes[2]
    for g, row in enumerate(accuracy):
        colour = GREEN if g in roles[0] else "grey"
        last.scatter([looks_back[g]] * len(row), 100 * row, color=colour, s=45)
        if len(accuracy) > HEADS_IN_A_ROW and row.mean() < 0.1:
            continue  # of many heads, only those that stand out have a name
        beside = (7, -4) if looks_back[g] < 0.5 else (-26, -1 if g == roles[0][0] else -8)
        at = (looks_back[g], 100 * row.mean())
        last.annotate(f"0.{g}", at, beside, textcoords="offset points")
    for (name, (x, values)), marker in zip(controls.items(), "x+"):
        last.scatter(x, 100 * values, color=RED, marker=marker, label=name, s=30)
    last.set(xlim=(-0.05, 1.08), ylim=(-4, 106), xlabel="attention to the token before")
    last.set_ylabel("tokens that seek themselves (%)")
    last.set_title("A diagonal alone does not\nmake a previous-token head")
    last.legend(loc="center right")
    return figure


def arrow(ax, start, end, colour, bend=0.0) -> None:
    style = {"arrowstyle": "-|>", "color": colour, "linewidth": 2.5}
    ax.annotate("", end, start, arrowprops=style | {"connectionstyle": f"arc3,rad={bend}"})


def note(ax, x, y, text, colour=BLACK, frame=False, size=10.5) -> None:
    """Words on a diagram; in a frame of that colour, or written in it."""
    style = {"ha": "center", "va": "center", "fontsize": size, "color": colour, "zorder": 5}
    if frame:
        box = {"boxstyle": "round,pad=0.45", "facecolor": "white", "linewidth": 1.8}
        style |= {"bbox": box | {"edgecolor": colour}, "color": BLACK}
    ax.text(x, y, text, **style)


def draw_story(
    previous: str, induction: str, looks_back: float, share: float, attention: float
) -> Figure:
    """K-composition on one sequence, ... A B ... A, with the measured numbers on its arrows."""
    figure, ax = plt.subplots(figsize=(10, 6))
    for x, token in zip((0.6, 2.3, 4, 6, 8.5, 11), ("BOS", "...", "A", "B", "...", "A")):
        note(ax, x, 0, token, size=16)
    arrow(ax, (4.1, 0.3), (5.4, 1.85), GREEN)
    words = f"1. previous-token head {previous}\nlooks one back ({looks_back:.2f})"
    note(ax, 3.1, 1.35, words, GREEN)
    arrow(ax, (6, 0.3), (6, 1.85), "grey")
    arrow(ax, (11, 0.3), (11, 1.85), "grey")
    note(ax, 6, 2.4, 'the stream at B:\n"I am B", "before me: A"', GREEN, frame=True)
    note(ax, 11, 2.4, 'the stream at A:\n"I am A"', BLUE, frame=True)
    arrow(ax, (6.4, 3.0), (7.6, 4.15), GREEN)
    words = f"{100 * share:.0f} % of its lead over other tokens\n(all previous-token heads)"
    note(ax, 8.8, 3.4, f'2. key: "before me: A"\n{words}', GREEN, size=9)
    arrow(ax, (11, 3.0), (10.1, 4.15), BLUE)
    note(ax, 12.0, 3.7, 'query: "who has\nA before?"', BLUE)
    words = f"3. induction head {induction}: they match, attention {attention:.2f}"
    note(ax, 8.2, 4.6, words, ORANGE, frame=True)
    arrow(ax, (5.2, 3.0), (7.5, 6.3), ORANGE, bend=-0.35)
    note(ax, 3.9, 5.3, '4. value: "B" is moved\nfrom there to here', ORANGE)
    arrow(ax, (8.2, 5.05), (8.2, 6.05), ORANGE)
    note(ax, 9.0, 6.45, "guess for the next token: B", ORANGE, frame=True)
    ax.set(xlim=(0.2, 12.8), ylim=(-0.4, 7))
    words = "layer 0 labels each token with the one before it, layer 1 looks for the label"
    ax.set_title(f"K-composition: {words}", fontsize=11)
    ax.axis("off")
    return figure
