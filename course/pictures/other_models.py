"""The picture of course/other_models.py."""

import math

from minitransformer.plots import BLUE, ORANGE, Figure, plt

LEAST, MOST = 1e-9, 1e3  # what is 0, or of another form, is drawn at the edge


def draw_differences(found: dict[str, tuple[float, float]], same: float, title: str) -> Figure:
    """One row per tool, ordered: how far its results are apart with equal and with other weights.

    found: tool -> (difference with equal weights, with other ones). same: the line between.
    """
    rows = sorted(found.values(), key=lambda pair: (max(pair[0], LEAST), pair[1]))
    figure, ax = plt.subplots(figsize=(7, 3.8))
    for column, (colour, name) in enumerate(
        [(BLUE, "the same weights"), (ORANGE, "other weights")]
    ):
        values = [min(max(pair[column], LEAST), MOST) for pair in rows]
        ax.scatter(range(len(rows)), values, s=14, color=colour, label=name)
    ax.axhline(same, color="grey", linestyle=":", linewidth=1)
    exponent = round(math.log10(same))
    ax.text(0, same * 1.3, f"$10^{{{exponent}}}$: counts as the same", color="grey", fontsize=9)
    ax.set(yscale="log", ylim=(LEAST / 3, MOST * 3), xlabel="tool (ordered by difference)")
    ax.set(
        ylabel="largest difference of a result\n(lowest row: 0; highest: another form)", title=title
    )
    ax.legend(loc="center right", bbox_to_anchor=(1, 0.55), frameon=True)
    return figure
