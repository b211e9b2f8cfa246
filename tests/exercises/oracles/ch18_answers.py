"""sure_answers position by position, logits exactly at a threshold, and what people get wrong."""

import torch
from torch import Tensor

from solutions.ch18_blind_models import BETWEEN, NO_IDEA, NO_IDEA_BELOW, SURE
from tests.material import seeded


def one_by_one(logits: Tensor) -> Tensor:
    """Each position on its own, in float64."""
    answers = torch.zeros(logits.shape[:2], dtype=torch.long)
    for row, pos in torch.cartesian_prod(*map(torch.arange, logits.shape[:2])).tolist():
        exponentials = logits[row, pos].double().exp()
        top = float(exponentials.max() / exponentials.sum())
        token = int(exponentials.argmax())
        answers[row, pos] = token if top >= SURE else NO_IDEA if top <= NO_IDEA_BELOW else BETWEEN
    return answers


def at_threshold() -> Tensor:
    """Logits [1, pos 3, vocab 5], float64, whose largest probability is NO_IDEA_BELOW: exactly, in
    whichever way it is computed. (No float64 softmax gives exactly SURE.)
    """
    part = 0.2 + 0.6 * torch.rand(4000, generator=seeded(3)).double()
    odds = torch.stack([part, 1 - part], dim=1) * (1 - NO_IDEA_BELOW) / NO_IDEA_BELOW
    rows = torch.full((4000, 5), -200.0).double()
    rows[:, 1], rows[:, [2, 4]] = 0.0, odds.log()
    shares = rows.exp() / rows.exp().sum(dim=-1, keepdim=True)
    exact = shares.amax(dim=-1) == NO_IDEA_BELOW
    for each in (rows.softmax(dim=-1), rows.log_softmax(dim=-1).exp()):
        exact &= each.amax(dim=-1) == NO_IDEA_BELOW
    return rows[exact][None, :3]


def judged(
    top: Tensor, token: Tensor, between=BETWEEN, no_idea=NO_IDEA, has_none=torch.le
) -> Tensor:
    answers = torch.where(top >= SURE, token, between)
    return torch.where(has_none(top, NO_IDEA_BELOW), no_idea, answers)


def margin(logits: Tensor) -> Tensor:
    best = logits.softmax(dim=-1).topk(2, dim=-1)
    return judged(best.values[..., 0] - best.values[..., 1], best.indices[..., 0])


def without_bos(logits: Tensor) -> Tensor:
    top, token = logits[..., 1:].softmax(dim=-1).max(dim=-1)
    return judged(top, token + 1)


def below_alone(logits: Tensor) -> Tensor:
    return judged(*logits.softmax(dim=-1).max(dim=-1), has_none=torch.lt)


AT_THRESHOLD = {
    "a threshold itself was taken for between; it says at least SURE, at most NO_IDEA_BELOW": (
        below_alone
    )
}
ANSWER_MISTAKES = {
    "BOS was left out before the softmax; it is a token of the vocabulary": without_bos,
    "logits were taken for probabilities (softmax over the vocabulary first)": lambda logits: (
        judged(*logits.max(dim=-1))
    ),
    "a sigmoid looks at each token alone; softmax holds them against each other": lambda logits: (
        judged(*logits.sigmoid().max(dim=-1))
    ),
    "the softmax runs over the positions": lambda logits: judged(
        *logits.softmax(dim=1).max(dim=-1)
    ),
    "between the two thresholds it is BETWEEN, not NO_IDEA": lambda logits: judged(
        *logits.softmax(dim=-1).max(dim=-1), between=NO_IDEA
    ),
    "NO_IDEA and BETWEEN are exchanged": lambda logits: judged(
        *logits.softmax(dim=-1).max(dim=-1), between=NO_IDEA, no_idea=BETWEEN
    ),
    "it is the lead over the second token that was compared with the thresholds": margin,
    "every position got an answer (argmax): where the model is not sure, it has none": (
        lambda logits: logits.argmax(dim=-1)
    ),
}
