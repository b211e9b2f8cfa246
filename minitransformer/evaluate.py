"""What a model can do: loss and accuracy, by position, period or problem, and which heads do it.

Everything is measured on sequences that training never saw, drawn from a generator of their own
(HELD_OUT). The head scores, previous-token attention and prefix matching, use the definitions of
Olsson et al. 2022, "In-context Learning and Induction Heads".
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from .arithmetic import Problems
from .data import Repeats, repeated_tokens
from .model import Transformer

HELD_OUT = 20_211_222  # seed of the measuring sequences; training seeds start at 0


def held_out(
    model: Transformer, periods: tuple[int, int], batch: int = 512, prefix: int | None = None
) -> Repeats:
    """Repeated random sequences of the model's own length to measure on, always the same ones."""
    cfg, generator = model.cfg, torch.Generator().manual_seed(HELD_OUT)
    return repeated_tokens(batch, cfg.n_ctx, cfg.d_vocab, periods, generator, prefix)


class NextToken(NamedTuple):
    """How well a model predicts each next token, both [batch, pos - 1]."""

    losses: Tensor  # minus the log-probability of the true token, in nats
    correct: Tensor  # bool: is the true token the most likely one?


@torch.no_grad()
def predict(model: Transformer, tokens: Tensor) -> NextToken:
    """Run the model on tokens [batch, pos]; compare each position with the token that follows."""
    rows = rows_at_once(tokens.shape[1] * max(model.cfg.d_vocab, model.cfg.d_mlp))
    parts = []
    for some in tokens.split(rows):
        some = some.to(model.W_E.device)
        parts.append(compared(model(some), some))
    return NextToken(*(torch.cat(part) for part in zip(*parts)))


def compared(logits: Tensor, tokens: Tensor) -> NextToken:
    """Logits [..., pos, vocab] at each position with the token that follows; on the CPU."""
    logits = logits[..., :-1, :]
    following = tokens[:, 1:].expand(logits.shape[:-1])
    losses = cross_entropy(logits.flatten(0, -2), following.flatten(), reduction="none")
    correct = logits.argmax(dim=-1) == following
    return NextToken(losses.view_as(following).cpu(), correct.cpu())


def rows_at_once(numbers_per_row: int) -> int:
    """How many sequences to run together, so that what they leave stays near 64 MB."""
    return max(1, 2**24 // numbers_per_row)


def strict_induction_accuracy(model: Transformer, repeats: Repeats) -> float:
    """Accuracy on predictable tokens: the share of right guesses where the next token is determined
    by what was read.
    """
    return predict(model, repeats.tokens).correct[repeats.predictable[:, :-1]].float().mean().item()


def repeat_scores(model: Transformer, repeats: Repeats) -> dict[str, float]:
    """What `repeat_row` says of a model."""
    return repeat_row(predict(model, repeats.tokens), repeats)


def repeat_row(predicted: NextToken, repeats: Repeats) -> dict[str, float]:
    """Loss in nats on predictable tokens and elsewhere, and the accuracy on predictable tokens.

    Records call that accuracy `induction_accuracy`. It says what a model can do, not that induction
    heads do it.
    """
    (losses, correct), known = predicted, repeats.predictable[:, :-1]
    return {
        "loss_predictable": losses[known].mean().item(),
        "loss_elsewhere": losses[~known].mean().item(),
        "induction_accuracy": correct[known].float().mean().item(),
    }


def accuracy_by_period(model: Transformer, batch: int = 128) -> dict[int, float]:
    """Accuracy on predictable tokens for each period that fits, also those never trained on."""
    accuracy = {}
    for period in range(1, model.cfg.n_ctx - 2):
        repeats = held_out(model, (period, period), batch)
        accuracy[period] = strict_induction_accuracy(model, repeats)
    return accuracy


class HeadScores(NamedTuple):
    """Mean attention of every head, each [layer, head], between 0 and 1."""

    previous_token: Tensor  # from each token to the one before it, over all positions
    induction: Tensor  # prefix matching: from predictable positions to what followed earlier copies


@torch.no_grad()
def head_scores(model: Transformer, repeats: Repeats) -> HeadScores:
    """Score every head on a batch, by tokens: a fixed distance back earns nothing as such."""
    cfg, n = model.cfg, repeats.tokens.shape[1]
    previous = induction = torch.zeros(cfg.n_layers, cfg.n_heads)
    rows = rows_at_once(max(1, cfg.n_layers) * cfg.n_heads * n * n)
    for tokens, counted in zip(repeats.tokens.split(rows), repeats.predictable.split(rows)):
        pattern = attention(model, tokens)  # layer batch head query key
        previous = previous + pattern.diagonal(-1, dim1=-2, dim2=-1).sum(dim=(1, 3))
        on_followers = (pattern * follows_earlier_copy(tokens)[:, None]).sum(dim=-1)
        induction = induction + (on_followers * counted[:, None]).sum(dim=(1, 3))
    positions = len(repeats.tokens) * (n - 1)
    return HeadScores(previous / positions, induction / repeats.predictable.sum())


def attention(model: Transformer, tokens: Tensor) -> Tensor:
    """[layer, batch, head, query, key]: the attention patterns of all layers, on the CPU."""
    names = [f"blocks.{layer}.attn.hook_pattern" for layer in range(model.cfg.n_layers)]
    _, cache = model.run_with_cache(tokens.to(model.W_E.device), names)
    if not names:
        batch, n = tokens.shape
        return torch.zeros(0, batch, model.cfg.n_heads, n, n)
    return torch.stack([cache[name].cpu() for name in names])


def repeats_for_heads(model: Transformer, batch: int = 512) -> Repeats:
    """Sequences to score heads on, whatever the model was trained on: many periods, so that a fixed
    distance earns little, and none below a quarter of the context, where almost every key is a
    follower of almost every query.
    """
    n = model.cfg.n_ctx
    return held_out(model, (max(1, min(n // 4, n - 3)), max(1, min(n // 2, n - 3))), batch)


def follows_earlier_copy(tokens: Tensor) -> Tensor:
    """[batch, query, key]: 1 where the token *before* key is an earlier copy of that at query."""
    before = tokens[:, None, :-1] == tokens[:, :, None]  # batch query key-1
    follows = torch.nn.functional.pad(before, (1, 0))  # the first token follows nothing
    return follows.float().tril()


def summary(model: Transformer, periods: tuple[int, int]) -> dict[str, float]:
    """What a model's record says of it, from the weights alone and the same every time."""
    found = repeat_scores(model, held_out(model, periods))
    for name, score in head_scores(model, repeats_for_heads(model))._asdict().items():
        found[f"best_{name}_score"] = score.max().item() if score.numel() else 0.0
    return found


# ---- arithmetic problems


def problem_scores(model: Transformer, problems: Problems, rows: Tensor) -> NextToken:
    """Mean loss on the tokens of the answers (nats), and whether all of these are right, both
    [row].

    The true earlier tokens of the answer are given, which changes nothing about who is right: as
    long as a model that writes its own has made no mistake, they are the same.
    """
    return on_answers(predict(model, problems.tokens[rows]), problems)


def on_answers(predicted: NextToken, problems: Problems) -> NextToken:
    (losses, correct), known = predicted, problems.predictable[:-1]
    return NextToken(losses[:, known].mean(dim=1), correct[:, known].all(dim=1))


@torch.no_grad()
def answered(model: Transformer, problems: Problems, rows: Tensor) -> Tensor:
    """[row, pos]: the problems with the model's own answers, each token the most likely next."""
    tokens = problems.tokens[rows].clone()
    for position in problems.predictable.nonzero()[:, 0].tolist():
        read = tokens[:, : position + 1].to(model.W_E.device)
        tokens[:, position + 1] = model(read)[:, -1].argmax(dim=-1).cpu()
    return tokens


class WrongAnswer(NamedTuple):
    """One problem that a model got wrong."""

    problem: str  # as the model completed it
    said: int | None  # the (first) answer, None if it is no number
    right: int
    a: int
    b: int


def wrong_answers(model: Transformer, problems: Problems, rows: Tensor) -> list[WrongAnswer]:
    """What the model says where its (first) answer is wrong."""
    tokens = answered(model, problems, rows)
    texts = [problems.decode(row) for row in tokens]
    said, right = problems.first_answer(tokens), problems.first_answer(problems.tokens[rows])
    operands = problems.a[rows].tolist(), problems.b[rows].tolist()
    each = [WrongAnswer(*columns) for columns in zip(texts, said, right, *operands)]
    return [answer for answer in each if answer.said != answer.right]
