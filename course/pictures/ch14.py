"""The pictures of chapter 14: a circuit written by hand, and the ladder of scrubbed losses."""

import torch
from torch import Tensor

from minitransformer.plots import BLACK, BLUE, ORANGE, RED, Figure, heatmap, plt


def draw_by_hand(QK: Tensor, basis: dict[str, Tensor], patterns: Tensor) -> Figure:
    """W_QK of the induction head in coordinates and by subspaces, and both heads' attention on one
    sequence.

    QK [d_model, d_model] in units of a full match; basis: name -> [d_model, width]; patterns
    [layer, query, key]."""
    figure, axes = plt.subplots(1, 4, figsize=(15.5, 4.2))
    sides = {"xlabel": "stream coordinate of the key", "ylabel": "stream coordinate of the query"}
    image = heatmap(
        axes[0], QK, signed=True, title="W_QK of head 1.0\nas the weights have it", **sides
    )
    figure.colorbar(image, ax=axes[0], shrink=0.6)
    by_name = heatmap_by_name(axes[1], QK, basis)
    axes[1].set_title("the same matrix,\nread by subspaces")
    figure.colorbar(by_name, ax=axes[1], label="score / full match", shrink=0.6)
    for ax, pattern, name in zip(
        axes[2:], patterns, ("0.0: one back", "1.0: what followed, or BOS")
    ):
        image = heatmap(
            ax, pattern, signed=False, limit=1.0, xlabel="key: looked at", ylabel="query: looking"
        )
        ax.set_title(f"attention of head\n{name}")
        ax.set_xticks(range(0, len(pattern), 5))
        ax.set_yticks(range(0, len(pattern), 5))
        figure.colorbar(image, ax=ax, label="attention (share)", shrink=0.6)
    figure.suptitle(
        "Noise to the eye, one clean block to whoever knows the basis", x=0.01, ha="left"
    )
    return figure


def heatmap_by_name(ax, matrix: Tensor, basis: dict[str, Tensor]):
    """A [d_model, d_model] matrix in the coordinates of named subspaces, with lines between them;
    the image.
    """
    columns = torch.cat(list(basis.values()), dim=1)
    image = heatmap(ax, columns.T @ matrix @ columns, signed=True, limit=1.0)
    edges = torch.tensor([0, *(each.shape[1] for each in basis.values())]).cumsum(0).tolist()
    middles = [(a + b - 1) / 2 for a, b in zip(edges, edges[1:])]
    for edge in edges[1:-1]:
        ax.axhline(edge - 0.5, color="grey", linewidth=0.6)
        ax.axvline(edge - 0.5, color="grey", linewidth=0.6)
    ax.set_xticks(middles, basis, fontsize=9, rotation=45)
    ax.set_yticks(middles, basis, fontsize=9)
    ax.set(xlabel="part that the key reads", ylabel="part that the query reads")
    return image


def draw_ladder(ladders: dict[str, tuple[dict[str, float], float, float]], wrong: int) -> Figure:
    """Scrubbed loss of each story, one panel per model, on a logarithmic scale; lines mark guessing
    and the model itself.

    ladders: title -> (story -> loss, loss of the model, loss of guessing). The first `wrong`
    stories ought to fail."""
    figure, axes = plt.subplots(1, len(ladders), figsize=(13.5, 5.2), sharey=True)
    names = list(list(ladders.values())[-1][0])
    for ax, (title, (losses, model, guess)) in zip(axes, ladders.items()):
        for row, name in enumerate(names):
            draw_rung(ax, row, losses[name], model, guess, RED if row < wrong else BLUE)
        ax.axvline(guess, color=BLACK, linestyle=":", linewidth=1.2)
        ax.axvline(model, color=ORANGE, linewidth=2)
        above = {
            "xycoords": ("data", "axes fraction"),
            "textcoords": "offset points",
            "ha": "center",
            "fontsize": 9,
        }
        ax.annotate(f"guessing\n{guess:.2f}", (guess, 1), (0, 4), **above)
        ax.annotate(f"the model itself\n{model:.2g}", (model, 1), (0, 4), color=ORANGE, **above)
        ax.axhline(wrong - 0.5, color="grey", linewidth=0.8)
        ax.set(
            xscale="log",
            xlim=(model / 1.8, 1500),
            xlabel="loss in the repeat after scrubbing (nats, log scale)",
        )
        ax.set_title(title, pad=36)
        ax.set_xticks([0.001, 0.01, 0.1, 1, 10], ["0.001", "0.01", "0.1", "1", "10"])
    axes[0].set_yticks(range(len(names)), names)
    axes[0].invert_yaxis()
    figure.suptitle(
        "Wrong stories (red) end beyond guessing; right ones (blue) come down to the model",
        x=0.01,
        ha="left",
    )
    return figure


def draw_rung(ax, row: int, loss: float, model: float, guess: float, colour: str) -> None:
    """One story: a line from guessing to its loss, and what share of the performance that keeps."""
    style = {"textcoords": "offset points", "va": "center", "fontsize": 9}
    share = (guess - loss) / (guess - model)
    ax.plot([loss, guess], [row, row], color=colour, linewidth=2.5, alpha=0.35)
    ax.plot(loss, row, "o", color=colour, markersize=8)
    text = f"{loss:.2g} nats" + (f", {100 * share:.1f} % kept" if share > 0 else "")
    ax.annotate(text, (max(loss, guess), row), (10, 0), color=colour, **style)
