"""The pictures of chapter 1: each function draws one and returns the figure."""

from course.desk import plt
from minitransformer.plots import BLUE, GREEN, ORANGE, PINK, RED, heatmap


def draw_model():
    """The parts of the model from the tokens (bottom) to the logits (top)."""
    figure, ax = plt.subplots(figsize=(8, 6.4))
    stream = {"arrowstyle": "-|>", "linewidth": 5, "color": BLUE, "alpha": 0.5}
    ax.annotate("", (2, 9.2), (2, 1.6), arrowprops=stream)
    beside = {"rotation": 90, "ha": "center", "va": "center", "color": BLUE}
    ax.text(1.7, 5.2, "the residual stream\n[batch, pos, 64]", **beside)
    draw_box(ax, 0.6, 0.5, 2.8, "tokens [batch, pos]\nW_E [65, 64]", BLUE)
    draw_box(ax, 0.6, 9.3, 2.8, "W_U [64, 65]\nlogits [batch, pos, 65]", BLUE)
    draw_layer(ax, 0, y=2.0)
    draw_layer(ax, 1, y=5.6)
    ax.text(4.0, 9.7, "orange: where to look     green: what to move", fontsize=10, va="center")
    ax.set_title("The whole model: seven weight tensors, no other parts")
    ax.set(xlim=(0.3, 10.1), ylim=(0.3, 10.3))
    ax.axis("off")
    return figure


def draw_layer(ax, layer, y):
    q_and_k = "q = (x + W_pos) W_Q   [batch, pos, 4, 16]\nk = (x + W_pos) W_K   [batch, pos, 4, 16]"
    pattern = "pattern = softmax(q k / sqrt(16))\n[batch, 4, query, key]"
    draw_box(ax, 3.6, y + 0.6, 3.7, q_and_k, ORANGE)
    draw_box(ax, 3.6, y + 1.8, 3.7, pattern, ORANGE)
    draw_box(ax, 7.8, y + 0.6, 2.2, "v = x W_V\n[batch, pos, 4, 16]", GREEN)
    draw_box(ax, 7.8, y + 1.8, 2.2, "z = pattern v\nout = z W_O", GREEN)
    ax.text(7.8, y + 2.85, f"layer {layer}: 4 heads of 16", fontsize=10, va="center")
    draw_arrow(ax, (2.1, y + 0.2), (3.6, y + 1.0), "grey")  # the stream is read
    draw_arrow(ax, (2.1, y + 0.2), (8.9, y + 0.57), "grey")
    draw_arrow(ax, (5.45, y + 1.4), (5.45, y + 1.8), ORANGE)  # q and k make the pattern
    draw_arrow(ax, (8.9, y + 1.4), (8.9, y + 1.8), GREEN)  # values ...
    draw_arrow(ax, (7.3, y + 2.2), (7.8, y + 2.2), ORANGE)  # ... are mixed by the pattern
    draw_arrow(ax, (7.8, y + 2.65), (2.1, y + 3.3), GREEN)
    ax.text(2.9, y + 3.3, "added", fontsize=9, color=GREEN)


def draw_arrow(ax, start, end, colour):
    ax.annotate("", end, start, arrowprops={"arrowstyle": "->", "color": colour})


def draw_box(ax, x, y, width, text, colour):
    ax.add_patch(plt.Rectangle((x, y), width, 0.8, facecolor=colour, alpha=0.2, edgecolor=colour))
    ax.text(x + width / 2, y + 0.4, text, ha="center", va="center", fontsize=9)


def draw_three_patterns(patterns):
    """patterns: what was done -> [batch, head, query, key]; head 0 on the first row is drawn."""
    figure, axes = plt.subplots(1, len(patterns), figsize=(11, 4.2))
    for ax, (name, pattern) in zip(axes, patterns.items()):
        title = f"head 1.0: {name}"
        image = heatmap(ax, pattern[0, 0], signed=False, limit=1.0, title=title)
        ax.set_xlabel("key: looked at")
    axes[0].set_ylabel("query: looking")
    title = "Without the mask the answer is looked up in the future"
    figure.suptitle(title, x=0.02, ha="left")
    figure.colorbar(image, ax=axes, label="attention (share)", shrink=0.8)
    return figure


def draw_hooks(shares):
    """shares: what was run -> share of right next tokens in the repeat."""
    figure, ax = plt.subplots(figsize=(7, 3.4))
    percents = [100 * share for share in shares.values()]
    ax.bar(range(len(shares)), percents, color=[BLUE, ORANGE, RED, PINK, BLUE])
    ax.set_xticks(range(len(shares)), shares)
    ax.set_ylabel("right next token\nin the repeat (%)")
    ax.set_title("A hook changes one run, and only that run")
    return figure
