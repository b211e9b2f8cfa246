"""The pictures of chapter 2: each function draws one and returns the figure."""

from course.desk import plt
from minitransformer.plots import BLUE, GREEN, ORANGE, RED, array, heatmap, write_values


def draw_river(labels, lengths, stream, cosines):
    """lengths [component, pos], stream [pos]: lengths, batch means; cosines [component, component]
    between parts at the same position.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(12.5, 4.6), width_ratios=[5, 4])
    shades = (0.9, 0.7, 0.5, 0.3)  # one for each head of a layer
    layer_0, layer_1 = [plt.cm.Blues(x) for x in shades], [plt.cm.Oranges(x) for x in shades]
    widths, colours = array(lengths), ["#999999", *layer_0, *layer_1]
    left.stackplot(range(widths.shape[1]), widths, colors=colours, edgecolor="white", linewidth=0.5)
    left.plot(array(stream), color="black", linewidth=2.5)
    left.text(19, stream[17:].mean() + 1.5, "length of the stream itself", fontsize=11)
    place = 0.0
    for label, middle in zip(labels, widths[:, -1].cumsum() - widths[:, -1] / 2):
        place = max(middle, place + 2.2)  # thin bands: the names must not lie on each other
        left.text(31.4, place, label, va="center", fontsize=9)
    left.axvline(15.5, color="grey", linestyle=":")
    left.set(xlabel="position (dotted: the repeat begins)", xlim=(0, 31))
    left.set_ylabel("length of the parts, stacked")
    left.set_title("In the repeat, layer 1 floods the stream")
    title = "Only parts of one layer are alike"
    image = heatmap(right, cosines, signed=True, limit=1.0, title=title)
    right.set(xticks=range(9), yticks=range(9), xticklabels=labels, yticklabels=labels)
    figure.colorbar(image, ax=right, label="mean cosine at the same position", shrink=0.8)
    return figure


def draw_angles(lines, chance):
    """lines: name -> principal angles; chance [pair, angle]: those of random subspaces."""
    figure, ax = plt.subplots(figsize=(8, 4.6))
    low, high = array(chance.quantile(0.025, dim=0)), array(chance.quantile(0.975, dim=0))
    ax.fill_between(range(1, 17), low, high, color="#CCCCCC", label="random subspaces (95 %)")
    for (name, angles), colour in zip(lines.items(), (GREEN, BLUE, ORANGE, RED)):
        ax.plot(range(1, 17), array(angles), "o-", markersize=4, color=colour, label=name)
    ax.set(xlabel="which principal angle", ylabel="degrees", ylim=(0, 95))
    ax.set_title("An angle means something only beside chance")
    ax.legend(fontsize=9, loc="lower right")
    return figure


def draw_angle_tables(tables, heads):
    """tables: name of a model -> angle_table of it. heads: the names of its heads."""
    figure, axes = plt.subplots(1, len(tables), figsize=(12, 5.6))
    for ax, (title, table) in zip(axes, tables.items()):
        image = heatmap(ax, table - 60, signed=True, limit=30, title=title)
        ax.set(xlabel="who reads", ylabel="who writes")
        ax.set_xticks(range(7), ["q 0", "k 0", "v 0", "q 1", "k 1", "v 1", "output"])
        ax.set_yticks(range(2 + len(heads)), ["tokens", "positions", *heads])
        for row, column in (~table.isnan()).nonzero().tolist():
            degrees = float(table[row, column])
            style = {"ha": "center", "va": "center", "fontsize": 10}
            style["color"] = "white" if abs(degrees - 60) > 18 else "black"
            ax.text(column, row, f"{degrees:.0f}°", **style)
    label = "degrees from chance (60°)\nred: hidden from the reader, blue: seen"
    figure.colorbar(image, ax=axes, label=label)
    title = "Layer 1 takes its queries from the tokens and its keys from layer 0"
    figure.suptitle(title, x=0.02, ha="left")
    return figure


def draw_hidden(shares, hidden, readers):
    """shares [hidden, reader]: right next tokens."""
    figure, ax = plt.subplots(figsize=(8, 4))
    image = heatmap(ax, 100 * shares, signed=False, limit=100.0)
    write_values(ax, 100 * shares, "{:.0f} %")
    ax.set_xlabel("hidden from this reader of layer 1")
    ax.set_xticks(range(len(readers)), readers)
    ax.set_yticks(range(len(hidden)), hidden)
    figure.colorbar(image, ax=ax, label="right next tokens (%)", shrink=0.9)
    title = "Queries and values need the token, keys need what layer 0 wrote"
    figure.suptitle(title, x=0.02, ha="left")
    return figure


def draw_bandwidth(sizes, shares):
    """shares: how many are active -> share of them read back, for each of `sizes` directions."""
    figure, ax = plt.subplots(figsize=(7.5, 4))
    for active, found in shares.items():
        percents = [100 * share for share in found]
        (line,) = ax.plot(sizes, percents, marker="o", label=f"{active} at once")
        guessed = [100 * active / size for size in sizes]
        ax.plot(sizes, guessed, color=line.get_color(), linestyle="--", linewidth=1, alpha=0.6)
    ax.plot([], [], color="grey", linestyle="--", linewidth=1, label="by guessing")
    ax.axvline(64, color="grey", linestyle=":", label="64 dimensions")
    ax.set_xscale("log", base=2)
    ax.set_xticks(sizes, sizes)
    ax.set(xlabel="directions that exist", ylabel="read right (%)", ylim=(0, 105))
    ax.set_title("Many may exist, few be active")
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def draw_gauges(queries, logits, angles):
    """Above what moves, below what does not, under each of the three gauges. queries, angles: pairs
    as trained and changed; logits: name of the gauge -> [batch, pos, vocab].
    """
    figure, axes = plt.subplots(2, 3, figsize=(10.5, 7.4))
    trained, rows = logits["as trained"], slice(0, 8)
    moves = {
        "rotation": ("length of a query", *queries),
        "u": ("logit", trained[rows, 20], logits["u"][rows, 20]),
        "S": ("writer, reader (degrees)", *angles),
    }
    for (above, below), (name, (what, before, after)) in zip(axes.T, moves.items()):
        above.scatter(array(before), array(after), s=9, color=ORANGE)
        above.set(xlabel=f"{what}, as trained", ylabel=f"... under {name}")
        above.set_title(f"{name}: moved")
        before, after = trained[rows, 8].log_softmax(-1), logits[name][rows, 8].log_softmax(-1)
        below.scatter(array(before), array(after), s=9, color=BLUE)
        below.set(xlabel="log-probability (nats), as trained", ylabel=f"... under {name}")
        below.set_title("no probability moves")
        for ax in (above, below):
            place = ax.get_xlim()[1]
            ax.axline((place, place), slope=1, color="grey", linestyle=":")
    title = "Above: what each gauge moves. Below: what none moves. Dotted: as it was"
    figure.suptitle(title, x=0.02, ha="left")
    return figure
