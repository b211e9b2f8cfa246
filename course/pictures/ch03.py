"""The pictures of chapter 3: each function draws one and returns the figure."""

import numpy as np

from course.desk import plt
from minitransformer.plots import BLACK, BLUE, GREEN, ORANGE, PINK, RED, SKY, heatmap

GREY = "#7F7F7F"
NATS = {
    "loss, all periods": BLUE,
    "loss, periods 6 to 12": ORANGE,
    "loss, blind attention": BLACK,
    "ICL score": SKY,
    "K-composition": PINK,
}
SHARES = {
    "copying score": GREEN,
    "copying accuracy": GREY,
    "previous token": BLACK,
    "prefix matching": RED,
}
STEPS = [4, 8, 16, 32, 64, 128, 181]  # to be written at a logarithmic axis


def draw_rows(rows, known):
    """Each row of tokens as written, blue where the next token can be known."""
    figure, ax = plt.subplots(figsize=(9.5, 4))
    heatmap(ax, known, signed=False, limit=2.5, xlabel="position", ylabel="row")
    ax.set_title("Blue: the next token can be known")
    for (row, column), token in np.ndenumerate(rows.numpy()):
        ax.text(column, row, token or "B", ha="center", va="center", fontsize=8)
    return figure


def draw_floors(loss, guessing, floor):
    """loss, floor: of the k-th new token of a row."""
    figure, ax = plt.subplots(figsize=(7, 3.6))
    k = range(1, len(loss) + 1)
    ax.plot(k, loss, marker="o", markersize=4, label="the trained model")
    ax.axhline(guessing, color=BLACK, linestyle="--", linewidth=1.2, label="ln 64: guess among all")
    ax.plot(k, floor, color=ORANGE, label="ln(64 - k + 1): rule out what was seen")
    ax.set(xlabel="k-th new token of the row", ylabel="loss (nats)", ylim=(3.2, 4.6))
    ax.set_title("Where nothing can be known, the model guesses among all tokens")
    ax.legend(loc="lower left")
    return figure


def draw_tiny(losses):
    figure, ax = plt.subplots(figsize=(7, 3.2))
    ax.plot(losses)
    ax.set(xlabel="training step", ylabel="weighted loss\nof the batch (nats)", ylim=(0, None))
    ax.set_title("Your step, a hundred times: a tiny model learns induction")
    return figure


def draw_progress(curves, fall):
    """curves: one per seed, step -> {measure: value}; the first seed is drawn strong, the others
    pale. fall [seed, share]: the steps at which the fall has gone 10, 50, 90 % of its way.
    """
    figure, axes = plt.subplots(2, 1, figsize=(8, 7), sharex=True)
    for ax, colours in zip(axes, (NATS, SHARES)):
        for seed, curve in enumerate(curves):
            steps = [step for step in curve if step]  # a logarithmic axis has no 0
            for name, colour in colours.items():
                style = {"linestyle": "--" if "blind" in name else "-", "color": colour}
                strength = {"linewidth": 1, "alpha": 0.4}
                if seed == 0:
                    strength = {"linewidth": 2, "label": name}
                ax.plot(steps, [curve[step][name] for step in steps], **style, **strength)
        ax.axvspan(fall[:, 0].min(), fall[:, 2].max(), color="grey", alpha=0.12, linewidth=0)
        ax.legend(loc="lower left" if ax is axes[0] else "upper left", fontsize=9)
    axes[0].text(float(fall[:, 0].min()) * 1.01, -4.4, "the fall", color="grey")
    axes[0].set_title("On long periods: a plateau, then a fall (three seeds, one of them bold)")
    axes[0].set(ylabel="nats (K-composition: of score)", ylim=(-4.8, 5.2))
    axes[1].set(xscale="log", xlabel="training step (log scale)")
    axes[1].set(ylabel="score, 1 = perfect", ylim=(-0.05, 1.05))
    axes[1].set_xticks(STEPS, STEPS)
    axes[1].minorticks_off()
    return figure


def draw_order(order):
    """order: measure -> [seed][10 %, 50 %, 90 %] steps; a bar from 10 % to 90 % and a dot half-way,
    for each seed.
    """
    order = dict(sorted(order.items(), key=lambda item: sum(half for _, half, _ in item[1])))
    figure, ax = plt.subplots(figsize=(8, 4))
    for row, (name, seeds) in enumerate(order.items()):
        colour = (NATS | SHARES)[name]
        for seed, (begun, half, done) in enumerate(seeds):
            y = row + 0.22 * (seed - 1)
            ax.plot([begun, done], [y, y], color=colour, linewidth=2, alpha=0.5)
            ax.plot([half], [y], marker="o", color=colour, markersize=6)
    ax.set_yticks(range(len(order)), order)
    ax.set(xscale="log", xlabel="training step (log scale)")
    ax.set_xticks(STEPS, STEPS)
    ax.minorticks_off()
    ax.invert_yaxis()
    key = "(dot: half-way, bar: 10 % to 90 % of the way, one bar per seed)"
    ax.set_title(f"Copying comes first, K-composition before prefix matching\n{key}", fontsize=11)
    return figure


def draw_layers(accuracies, profiles):
    """accuracies: name -> {step: share}; profiles: losses by period of one layer, the plateau, the
    end.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(10.5, 4))
    styles = [{"color": SKY}, {"color": ORANGE}, {"color": GREEN}, {"color": BLUE}]
    for (name, shares), style in zip(accuracies.items(), styles):
        percents = [100 * share for share in shares.values()]
        left.plot(list(shares), percents, label=name, linewidth=2, **style)
    left.set(xlabel="training step", ylabel="right next token in the repeat (%)", ylim=(0, 103))
    left.set_title("One layer stays on the plateau")
    left.legend(fontsize=9)
    names = ["one layer, step 81", "two layers, step 81", "two layers, step 181"]
    styles = [{"color": ORANGE}, {"color": BLUE}, {"color": BLUE, "linestyle": ":"}]
    for name, losses, style in zip(names, profiles, styles):
        right.plot(range(1, len(losses) + 1), losses, marker="o", markersize=4, label=name, **style)
    right.set(xlabel="period", ylabel="loss in the repeat (nats)", ylim=(0, 5))
    right.set_title("The plateau is the one-layer solution")
    right.legend(loc="center right", fontsize=9)
    return figure


def draw_periods(maps):
    """maps: name -> loss [period, position], the block starting right after BOS."""
    figure, axes = plt.subplots(1, len(maps), figsize=(10.5, 4.4), sharey=True)
    for ax, (name, losses) in zip(axes, maps.items()):
        image = heatmap(ax, losses, signed=False, limit=6.0, title=name)
        ax.set_xlabel("position of the token just read")
        n = len(losses)
        ax.step(np.arange(1, n + 2) + 0.5, np.arange(n + 1) - 0.5, color=RED, linewidth=1.2)
        ax.set_yticks([0, 1, 4, 9, 14, 19, 24, 28], [1, 2, 5, 10, 15, 20, 25, 29])
        ax.set_xlim(-0.5, losses.shape[1] - 0.5)
    axes[0].set_ylabel("period")
    axes[0].text(15.5, 5, "right of the red line\neverything can be known", color=RED, fontsize=9)
    figure.colorbar(image, ax=axes, label="loss (nats); white: known", extend="max", shrink=0.9)
    return figure
