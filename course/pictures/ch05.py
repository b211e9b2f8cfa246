"""The pictures and tables of chapter 5: scores by period, the roles of every head, where a head
looks and what that moves.
"""

from torch import Tensor

from minitransformer import Transformer
from minitransformer.plots import BLUE, GREEN, ORANGE, PINK, RED, Figure, heatmap, plt

# the most telling role first: a head is drawn in the colour of the first one that it has
COLOURS = {
    "induction": BLUE,
    "previous_token": ORANGE,
    "duplicate_token": GREEN,
    "first_token": PINK,
}
NAMES = ("induction", "previous token", "duplicate token", "BOS only")
BADGES = {"previous_token": "previous", "induction": "induction", "first_token": "BOS"}


def badges(scores: dict[str, Tensor], threshold: float) -> list[list[str]]:
    """The text above the pattern of each head, [layer][head]: its scores above the threshold."""
    n_layers, n_heads = scores["induction"].shape

    def badge(layer: int, head: int) -> str:
        score = {name: scores[role][layer, head].item() for role, name in BADGES.items()}
        return "  ".join(f"{name} {x:.2f}" for name, x in score.items() if x > threshold)

    return [[badge(layer, head) for head in range(n_heads)] for layer in range(n_layers)]


def draw_by_period(curves: dict[str, Tensor], threshold: float) -> Figure:
    """The best head's score on sequences of each period from 1 on, one curve for each model."""
    figure, ax = plt.subplots(figsize=(8, 4.2))
    for (name, curve), colour in zip(curves.items(), (BLUE, RED, "grey")):
        ax.plot(range(1, len(curve) + 1), curve, marker="o", markersize=4, color=colour, label=name)
    ax.axhline(threshold, color="black", linestyle=":", linewidth=1)
    ax.set_xlabel("period of the test sequences (tokens)")
    ax.set_ylabel("best head's\nprefix-matching score")
    ax.set_ylim(0, 1.03)
    ax.set_title("At period 10 the impostor looks real. Test at other periods", pad=30)
    ax.legend(loc="lower left", bbox_to_anchor=(0, 0.98), ncols=3, fontsize=9)
    return figure


def draw_roles(
    models: dict[str, Transformer], found: dict[str, dict[str, list[tuple[int, int]]]]
) -> Figure:
    """One panel per model: a box for each head, in the colour of its role."""
    figure, axes = plt.subplots(2, (len(models) + 1) // 2, figsize=(8, 4.2))
    for ax, (name, model) in zip(axes.flat, models.items()):
        for layer in range(model.cfg.n_layers):
            for head in range(model.cfg.n_heads):
                roles = [role for role in COLOURS if (layer, head) in found[name][role]]
                colour = COLOURS[roles[0]] if roles else "white"
                corner = (head + 0.06, layer + 0.06)
                look = {"facecolor": colour, "edgecolor": "grey", "alpha": 0.6}
                ax.add_patch(plt.Rectangle(corner, 0.88, 0.88, **look))
                ax.text(head + 0.5, layer + 0.5, f"{layer}.{head}", ha="center", va="center")
        ax.set(xlim=(-0.1, max(4, model.cfg.n_heads) + 0.5), ylim=(0, 2), aspect="equal")
        ax.set_title(name, fontsize=11)
        ax.axis("off")
    keys = [plt.Rectangle((0, 0), 1, 1, color=colour, alpha=0.6) for colour in COLOURS.values()]
    figure.legend(keys, NAMES, loc="outside lower center", ncols=4)
    title = "One detector, six models: induction is found where it is,\nand nowhere else"
    figure.suptitle(f"{title} (layer 1 above layer 0)", x=0.02, ha="left")
    return figure


def draw_values(pattern: Tensor, moved: Tensor, name: str) -> Figure:
    """One head on one sequence, [query, key]: its attention, and the length of what it moves."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4.6))
    how = {"signed": False, "xlabel": "key: looked at", "ylabel": "query: looking"}
    image = heatmap(left, pattern, limit=1.0, title=f"head {name}: where it looks", **how)
    figure.colorbar(image, ax=left, label="attention (share)", shrink=0.8)
    image = heatmap(right, moved, title="what that moves", **how)
    figure.colorbar(image, ax=right, label="length added to the stream", shrink=0.8)
    title = "Attention on BOS (left column) is rest: hardly anything is moved"
    figure.suptitle(title, x=0.02, ha="left")
    return figure
