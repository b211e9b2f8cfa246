"""The pictures of chapter 18: what heads look at, a claim beside the model, how changes spread."""

import torch
from torch import Tensor

from minitransformer import Transformer
from minitransformer.plots import BLUE, GREEN, ORANGE, RED, SKY, Figure, array, heatmap, plt
from solutions.ch18_blind_models import BETWEEN, Claim, predicted, share_kept, sure_answers
from solutions.examination import Verdict, change_in_words

LIGHT = "#F2F2F2"
MOST = 26  # changes in a picture
FATES = {
    "as claimed": SKY,
    "another answer": RED,
    "claimed, not given": ORANGE,
    "given, not claimed": GREEN,
}


def draw_looks(patterns: dict[str, Tensor]) -> Figure:
    """The attention of some heads, one row per model: patterns [layer, batch, head, query, key]."""
    figure, axes = plt.subplots(len(patterns), 3, figsize=(9.5, 6.4), sharex=True, sharey=True)
    for row, (name, pattern) in zip(axes, patterns.items()):
        for ax, (layer, head) in zip(row, ((0, 0), (1, 0), (1, 1))):
            image = heatmap(ax, pattern[layer, 0, head], signed=False, limit=1.0)
            ax.set_title(f"{name} model, head {layer}.{head}", fontsize=11)
        row[0].set_ylabel("query position")
    for ax in axes[-1]:
        ax.set_xlabel("key position")
    figure.colorbar(image, ax=axes, label="attention", shrink=0.6)
    figure.suptitle("The two models look alike", x=0.02, ha="left")
    return figure


def draw_side_by_side(
    model: Transformer, claim: Claim, tokens: Tensor, verdicts: list[Verdict]
) -> Figure:
    """A claim beside the model. Left: its answers, on sequences [batch, pos]. Right: which share of
    the model's answers survives a change, and which the claim lets survive.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(12.5, 6.2), width_ratios=[1.25, 1])
    before, promised = sure_answers(model(tokens)), predicted(claim, tokens)
    draw_answers(left, tokens[:10], before[:10], promised[:10])
    draw_fates(right, model, claim, tokens, worth_showing(verdicts), before)
    words = [each.word for each in verdicts]
    counts = ", ".join([f"{words.count(word)} {word}" for word in ("right", "wrong", "vacuous")])
    title = f"Claim and model: of {len(words)} predictions {counts}"
    figure.suptitle(title, x=0.02, ha="left")
    return figure


def worth_showing(verdicts: list[Verdict]) -> list[Verdict]:
    """What is predicted wrongly, then each head alone, then edges whose cut takes answers away."""
    wrong = [each for each in verdicts[1:] if each.word == "wrong"]
    heads = [each for each in verdicts[1:] if len(each.change.zero + each.change.mean) == 1]
    heads = [each for each in heads if not each.change.cut]
    telling = [each for each in verdicts[1:] if each.telling]
    order = {id(each): each for each in [*wrong, *heads, *telling]}
    return list(order.values())[:MOST]


def draw_answers(ax, tokens: Tensor, before: Tensor, promised: Tensor) -> None:
    """Each position with its token; its colour says how the answers there agree."""
    cases = [
        (before == promised) & (before >= 0),
        (before != promised) & (before >= 0) & (promised >= 0),
        (before < 0) & (before != BETWEEN) & (promised >= 0),
        (before >= 0) & (promised < 0),
    ]
    for (name, colour), case in zip(FATES.items(), cases):
        ax.scatter([], [], marker="s", s=90, color=colour, label=name)
        for row, pos in case.nonzero().tolist():
            ax.add_patch(plt.Rectangle((pos - 0.5, row - 0.5), 1, 1, color=colour, linewidth=0))
    for row, sequence in enumerate(tokens.tolist()):
        for pos, token in enumerate(sequence):
            ax.text(pos, row, token, ha="center", va="center", fontsize=9)
    rows, n = tokens.shape
    ax.set(xlim=(-0.5, n - 0.5), ylim=(rows - 0.5, -0.5), xlabel="position (the number: its token)")
    ax.set(ylabel="sequence", title="Answers after each token")
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2, fontsize=9)


def draw_fates(ax, model, claim: Claim, tokens: Tensor, shown: list, before: Tensor) -> None:
    """Bars: what the model keeps under each change. Diamonds: what the claim says it keeps."""
    changes, answered = [each.change for each in shown], before >= 0
    kept, said = share_kept(model, tokens, changes), []
    for change in changes:
        survives = predicted(claim, tokens, change) == before
        said.append(survives[answered].double().mean().item())
    places = range(len(changes))
    ax.barh(
        places, [max(share, 0.006) for share in kept], color=BLUE, height=0.6, label="the model"
    )
    ax.scatter(
        said,
        places,
        marker="D",
        s=50,
        color=ORANGE,
        edgecolor="black",
        zorder=3,
        clip_on=False,
        label="the claim",
    )
    ax.set_yticks(places, [change_in_words(change) for change in changes], fontsize=8)
    for label, each in zip(ax.get_yticklabels(), shown):
        label.set_color(RED if each.word == "wrong" else "black")
    ax.set(xlim=(0, 1), ylim=(len(changes) - 0.5, -0.5), xlabel="share of the answers that survive")
    ax.set_title(f"Under {len(shown)} of the changes (red: predicted wrongly)")
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2, fontsize=9)


def draw_spread(kept: dict[str, Tensor]) -> Figure:
    """Which share of the answers survives each single change, sorted, one line per model."""
    figure, ax = plt.subplots(figsize=(8, 3.9))
    styles = ((BLUE, "o", "full"), (RED, "s", "none"))  # an open square hides no dot
    for (name, shares), (colour, marker, filled) in zip(kept.items(), styles):
        ranked = array(torch.as_tensor(shares).sort().values)
        label = f"{name} model, {len(ranked)} changes"
        how = {"color": colour, "fillstyle": filled, "markersize": 6, "label": label}
        ax.plot(range(1, len(ranked) + 1), ranked, marker, **how)
    ax.set(xlim=(0, 40.5), ylim=(-0.03, 1.05), xlabel="single change, worst first (the first 40)")
    ax.set(ylabel="share of answers that survives")
    ax.set_title("Planted: all or nothing. Trained: some things by halves")
    ax.legend(loc="lower right")
    return figure
