"""The pictures of chapter 14: a circuit written by hand, ladders of scrubbed losses, accidents."""

import torch
from torch import Tensor

from minitransformer.plots import BLACK, BLUE, ORANGE, RED, Figure, heatmap, plt


def draw_by_hand(QK: Tensor, basis: dict[str, Tensor], patterns: Tensor) -> Figure:
    """W_QK of the induction head in coordinates and by subspaces, and both heads' attention.

    QK [d_model, d_model] in units of a full match; basis: name -> [d_model, width]; patterns
    [layer, query, key].
    """
    figure, grid = plt.subplots(2, 2, figsize=(10, 8))
    axes = grid.flat
    image = heatmap(axes[0], QK, signed=True)
    axes[0].set_title("W_QK of head 1.0, as the weights have it", fontsize=11)
    axes[0].set(xlabel="stream coordinate of the key", ylabel="stream coordinate of the query")
    figure.colorbar(image, ax=axes[0], label="score / full match", shrink=0.8)
    by_name = heatmap_by_name(axes[1], QK, basis)
    axes[1].set_title("the same matrix, read by subspaces", fontsize=11)
    figure.colorbar(by_name, ax=axes[1], label="score / full match", shrink=0.8)
    names = ("0.0: one back", "1.0: what followed, or BOS")
    for ax, pattern, name in zip(axes[2:], patterns, names):
        image = heatmap(ax, pattern, signed=False, limit=1.0)
        ax.set(xlabel="key: looked at", ylabel="query: looking")
        ax.set_title(f"attention of head {name}", fontsize=11)
        ax.set_xticks(range(0, len(pattern), 5))
        ax.set_yticks(range(0, len(pattern), 5))
        figure.colorbar(image, ax=ax, label="attention (share)", shrink=0.8)
    title = "Noise to the eye, one clean block to whoever knows the basis"
    figure.suptitle(title, x=0.01, ha="left")
    return figure


def heatmap_by_name(ax, matrix: Tensor, basis: dict[str, Tensor]):
    """A [d_model, d_model] matrix in coordinates of named subspaces; returns the image."""
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


def draw_ladder(
    title: str, wrong: dict[str, float], right: dict[str, float], model: float, guess: float
) -> Figure:
    """Scrubbed loss of each story on a logarithmic scale; lines mark guessing and the model.

    wrong, right: story -> loss; model, guess: the losses to compare with.
    """
    figure, ax = plt.subplots(figsize=(9.5, 1.9 + 0.34 * len(wrong | right)))
    for row, (name, loss) in enumerate((wrong | right).items()):
        draw_rung(ax, row, loss, model, guess, RED if name in wrong else BLUE)
    ax.axvline(guess, color=BLACK, linestyle=":", linewidth=1.2)
    ax.axvline(model, color=ORANGE, linewidth=2)
    above = {"textcoords": "offset points", "ha": "center", "fontsize": 9}
    above["xycoords"] = ("data", "axes fraction")
    ax.annotate(f"guessing\n{guess:.2f}", (guess, 1), (0, 4), **above)
    ax.annotate(f"the model itself\n{model:.2g}", (model, 1), (0, 4), **above)
    ax.axhline(len(wrong) - 0.5, color="grey", linewidth=0.8)
    ax.set(xscale="log", xlim=(model / 1.8, 1500))
    ax.set_xlabel("loss in the repeat after scrubbing (nats, log scale)")
    ax.set_xticks([0.001, 0.01, 0.1, 1, 10], ["0.001", "0.01", "0.1", "1", "10"])
    ax.set_yticks(range(len(wrong | right)), [*wrong, *right])
    ax.invert_yaxis()
    title = f"{title}: wrong stories (red) end beyond guessing, right ones (blue) before it"
    figure.suptitle(title, x=0.01, ha="left", fontsize=12)
    return figure


def draw_rung(ax, row: int, loss: float, model: float, guess: float, colour: str) -> None:
    """One story: a line from guessing to its loss, and what share of the performance that keeps."""
    style = {"textcoords": "offset points", "va": "center", "fontsize": 9}
    share = (guess - loss) / (guess - model)
    ax.plot([loss, guess], [row, row], color=colour, linewidth=2.5, alpha=0.35)
    ax.plot(loss, row, "o", color=colour, markersize=8)
    text = f"{loss:.2g} nats" + (f", {100 * share:.1f} % kept" if share > 0 else "")
    ax.annotate(text, (max(loss, guess), row), (10, 0), color=colour, **style)


def draw_accidents(losses: Tensor, worst: Tensor) -> Figure:
    """Where the loss of a scrubbed model sits, [draw, prediction].

    Left: the share of the loss in the worst predictions of a draw, one line per draw. Right, from
    worst [draw, (share, here, elsewhere)]: the loss on the worst hundredth of a draw, in that draw
    and in the others.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4), width_ratios=[1.4, 1])
    n = losses.shape[1]
    shares = losses.sort(dim=1, descending=True).values.cumsum(dim=1)
    percent = 100 * torch.arange(1, n + 1) / n
    for share in shares / shares[:, -1:]:
        left.plot(percent, 100 * share, color=BLUE, alpha=0.4, linewidth=1)
    left.axvline(1, color="grey", linestyle=":")
    left.set(xscale="log", xlim=(0.1, 100), ylim=(0, 101))
    left.set_xticks([0.1, 1, 10, 100], ["0.1", "1", "10", "100"])
    left.set(xlabel="worst predictions (%, log scale)", ylabel="their share of the loss (%)")
    left.set_title("A few predictions make most of what is left")
    _, here, elsewhere = worst.T
    right.plot(here, elsewhere, "o", color=BLUE, alpha=0.7, clip_on=False)
    most = 1.05 * here.max().item()
    right.plot([0, most], [0, most], color=BLACK, linestyle=":", linewidth=1)
    right.text(0.45 * most, 0.5 * most, "the same", rotation=45, fontsize=10, ha="center")
    right.set(xlim=(0, most), ylim=(0, most), aspect="equal")
    right.set(xlabel="in this draw (nats)", ylabel="in the other draws (nats)")
    right.set_title("Loss on its worst hundredth:\nthe donors decide", fontsize=11)
    return figure
