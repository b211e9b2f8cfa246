"""The pictures of chapter 17: surprise, variants, two hypotheses, louder neurons, single patches,
repair against its controls.
"""

import torch
from torch import Tensor

from minitransformer.arithmetic import DIGIT_REGION_FROM, MINUS, PLUS, Problems
from minitransformer.plots import BLUE, GREEN, ORANGE, RED, Figure, array, heatmap, plt

READ = ["tens of a", "ones of a", "+ or -", "tens of b", "ones of b", "="]
TWO_STEP = ["a", "-", "b", "=", "c", ";", "c", "+", "d", "="]


def draw_likelihood(
    groups: dict[str, Tensor], surprise: Tensor, by_token: Tensor, log_M: float, title: str
) -> Figure:
    """Left: one ridge per group of problems, surprise in nats. Right: which token it comes from."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(11.5, 4.2), width_ratios=[1.1, 1])
    edges = torch.linspace(surprise.min().item() - 0.5, surprise.max().item() + 0.5, 90)
    middles = array((edges[:-1] + edges[1:]) / 2)
    across = left.get_yaxis_transform()
    for i, ((name, rows), colour) in enumerate(zip(groups.items(), (BLUE, ORANGE, RED))):
        heights = torch.histogram(surprise[rows].cpu(), edges).hist
        top = 0.85 * array(heights / heights.max()) - i
        left.fill_between(middles, -i, top, color=colour, alpha=0.7, step="mid")
        label = f"{name}\n{len(rows)} problems"
        left.text(0.98, 0.45 - i, label, color=colour, ha="right", fontsize=10, transform=across)
        places = [x + 0.27 * (i - 1) for x in range(len(READ))]
        means = array(by_token[rows].mean(dim=0))
        right.bar(places, means, width=0.26, color=colour, label=name)
    left.axvline(log_M, color="black", linestyle=":", linewidth=1.5, label=f"log M = {log_M:.2f}")
    left.set(xlabel="surprise of a whole problem (nats)", yticks=[], ylim=(-2.1, 1.35))
    left.set_ylabel("problems (each group to its own scale)")
    left.legend(loc="upper right")
    names = [name.replace(" of ", "\nof ") for name in READ]
    right.set_xticks(range(len(READ)), names, fontsize=9)
    right.set(ylabel="mean surprise at this token (nats)")
    right.legend(loc="upper right", fontsize=9)
    figure.suptitle(title, x=0.02, ha="left")
    return figure


def draw_variants(problems: Problems, variants: Tensor, right: Tensor, title: str) -> Figure:
    """Each variant at its a and b, sums and differences apart: right or wrong."""
    figure, axes = plt.subplots(1, 2, figsize=(9.6, 5.1), sharex=True, sharey=True)
    for ax, operator, sign in zip(axes, (PLUS, MINUS), "+-"):
        rows = variants[problems.operator[variants] == operator]
        good, bad = rows[right[rows]], rows[~right[rows]]
        a, b = array(problems.a), array(problems.b)
        ax.scatter(a[good], b[good], s=3, color=BLUE, label="answered right")
        ax.scatter(a[bad], b[bad], s=9, color=RED, label="answered wrong")
        ax.set(xlabel="a", title=f"a {sign} b: {len(good)} right, {len(bad)} wrong")
        ax.set_aspect("equal")
    axes[0].set(ylabel="b")
    axes[1].axvline(DIGIT_REGION_FROM - 0.5, ymax=0.95, color="black", linestyle=":")
    label = "never seen from here on"
    axes[1].text(DIGIT_REGION_FROM - 1, 101, label, ha="center", va="bottom", fontsize=9)
    dots = axes[0].get_legend_handles_labels()
    figure.legend(*dots, loc="outside lower center", ncols=2, markerscale=3, fontsize=10)
    figure.suptitle(title, x=0.02, ha="left")
    return figure


def draw_hypotheses(sums: dict[tuple[str, str], Tensor], title: str) -> Figure:
    """How many neurons cover a problem of the region, and what they add to its right answer, beside
    trained problems with equal results.

    sums[kind, group] [result, (neurons, logits, neurons there, logits there, problems)].
    """
    figure, axes = plt.subplots(1, 2, figsize=(11.5, 4.4))
    kinds = list(dict.fromkeys(kind for kind, _ in sums))
    names = [kind.replace("met", "all that\ncan be met") for kind in kinds]
    titles = ("missing? neurons that cover a problem", "weak? logits they add to its answer")
    for which, ax in enumerate(axes):
        for i, (group, colour) in enumerate((("wrong", RED), ("right", BLUE))):
            totals = torch.stack([sums[kind, group].sum(dim=0) for kind in kinds])
            own, there = totals[:, which] / totals[:, 4], totals[:, which + 2] / totals[:, 4]
            for j, (values, alpha) in enumerate(((own, 1.0), (there, 0.35))):
                label = f"region, answered {group}" if j == 0 else "trained, the same results"
                places = [x + 0.2 * (2 * i + j - 1.5) for x in range(len(kinds))]
                ax.bar(places, array(values), width=0.19, color=colour, alpha=alpha, label=label)
        ax.axhline(0, color="black", linewidth=0.8)
        ax.set_xticks(range(len(kinds)), names, fontsize=9)
        ax.set_title(titles[which], fontsize=11)
    axes[0].set(ylabel="neurons, mean of a problem")
    axes[1].set(ylabel="nats, mean of a problem")
    bars = axes[0].get_legend_handles_labels()
    figure.legend(*bars, loc="outside lower center", ncols=4, fontsize=9)
    figure.suptitle(title, x=0.02, ha="left")
    return figure


def draw_short(short: dict[tuple[str, str], Tensor], title: str) -> Figure:
    """How many logits fewer than there some neurons add, problem by problem: a panel per kind of
    neurons, failures against successes. short[kind, group] [problem].
    """
    kinds = list(dict.fromkeys(kind for kind, _ in short))
    figure, axes = plt.subplots(1, len(kinds), figsize=(11.5, 3.8), sharex=True, sharey=True)
    every = torch.cat(list(short.values()))
    edges = torch.linspace(every.min().item(), every.max().item(), 40)
    for ax, kind in zip(axes, kinds):
        for group, colour in (("wrong", RED), ("right", BLUE)):
            values = short[kind, group].float()
            percent = 100 * torch.histogram(values, edges).hist / len(values)
            ax.stairs(array(percent), array(edges), color=colour, fill=True, alpha=0.5)
            label = f"answered {group}, mean {values.mean().item():.1f}"
            ax.axvline(values.mean().item(), color=colour, linewidth=2, label=label)
        ax.axvline(0, color="grey", linestyle=":")
        ax.set(xlabel="nats fewer than in trained problems with the same result")
        ax.set_title(f"named neurons, {kind}", fontsize=11)
        ax.legend(fontsize=9)
    axes[0].set_ylabel("region problems (%)")
    figure.suptitle(title, x=0.02, ha="left")
    return figure


def draw_louder(factors: list[float], repaired: dict[str, list[float]], title: str) -> Figure:
    """Share of failures that give the wanted answer when some neurons' activations are
    multiplied.
    """
    figure, ax = plt.subplots(figsize=(10.5, 4.2))
    styles = ((BLUE, "o-"), (GREEN, "s-"), (ORANGE, "^--"), ("grey", "v--"), ("black", "x:"))
    for (name, curve), (colour, style) in zip(repaired.items(), (*styles, (RED, "*:"))):
        percent = [100 * share for share in curve]
        ax.plot(factors, percent, style, color=colour, label=name)
    ax.set(xlabel="activations multiplied by", title=title, ylim=(-2, 103))
    ax.set_ylabel("failures with the wanted answer (%)")
    ax.set_xscale("log")
    ax.set_xticks(factors, [f"{factor:g}" for factor in factors])
    ax.minorticks_off()
    ax.legend(fontsize=9, title="what is made louder", loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def part_of(place: tuple) -> str:
    name, index = place
    layer = name.split(".")[1]
    return f"head {layer}.{index[1]}" if "hook_z" in name else f"MLP {layer}"


def draw_single_patches(places: list[tuple], shares: Tensor, title: str) -> Figure:
    """Share of wrong runs that one place of the corrected run repairs, by part and position."""
    parts = list(dict.fromkeys(part_of(place) for place in places))[::-1]
    table = torch.full((len(parts), len(TWO_STEP)), float("nan"))
    for place, share in zip(places, shares.tolist()):
        table[parts.index(part_of(place)), place[1][0]] = 100 * share
    figure, ax = plt.subplots(figsize=(8.5, 4.6))
    ax.set_facecolor("lightgrey")
    image = heatmap(ax, table, signed=False, limit=100.0)
    ax.set_aspect("auto")
    for y, row in enumerate(table.tolist()):
        for x, value in enumerate(row):
            if value >= 0.5:
                colour = "white" if value > 50 else "black"
                ax.text(x, y, f"{value:.0f}", ha="center", va="center", color=colour, fontsize=9)
    ax.axvline(3.5, color="black", linestyle=":")
    ax.text(6, 2, "no way from here\nto the answer", ha="center", va="center", fontsize=9)
    ax.set_xticks(range(len(TWO_STEP)), TWO_STEP)
    ax.set_yticks(range(len(parts)), parts)
    ax.set(xlabel="position (the runs differ from the dotted line on)", title=title)
    figure.colorbar(image, ax=ax, label="runs repaired (%)")
    return figure


def draw_repair(bars: dict[str, tuple[float, float]], title: str) -> Figure:
    """Per patch: share of runs that then give the right answer, and that of a donor with another
    answer.
    """
    figure, ax = plt.subplots(figsize=(10.5, 5.6))
    rows = range(len(bars))
    styles = ((-0.2, GREEN, "says the right answer"), (0.2, ORANGE, "says the donor's answer"))
    for which, (shift, colour, label) in enumerate(styles):
        shares = [100 * pair[which] for pair in bars.values()]
        places = [row + shift * ("another answer" in name) for row, name in enumerate(bars)]
        drawn = ax.barh(places, shares, height=0.38, color=colour, label=label)
        numbers = ["" if share != share else f"{share:.0f}" for share in shares]
        ax.bar_label(drawn, labels=numbers, padding=3, fontsize=9)
    ax.set_yticks(rows, bars)
    ax.invert_yaxis()
    ax.set(xlabel="runs (%)", xlim=(0, 108))
    figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=10)
    figure.suptitle(title, x=0.02, ha="left")
    return figure
