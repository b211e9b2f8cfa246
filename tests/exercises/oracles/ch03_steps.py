"""What the checks of chapter 3 compare with, second part: the loss of one step, token by token, and
curves; each can be made wrong.
"""

import math

import numpy
import torch

from tests.exercises.checking import expect, expect_close
from tests.exercises.oracles.ch03 import read_before

# training_step_by_hand


def full_or_elsewhere(known, elsewhere):
    return torch.where(known, 1.0, elsewhere)


def weighted_mean(losses, weights):
    return (losses * weights).sum() / weights.sum()


def loss_of_tokens(
    model, tokens, elsewhere=0.1, ahead=1, mask_ahead=0, weigh=full_or_elsewhere, mean=weighted_mean
):
    """The loss of training_step_by_hand, by its definition; with the defaults it is right."""
    log_probs, known = model(tokens[:, :-1]).log_softmax(dim=-1), read_before()(tokens)
    n = tokens.shape[1] - 1
    row, position = torch.arange(len(tokens))[:, None], torch.arange(n)
    losses = -log_probs[row, position, tokens[:, ahead : ahead + n]]
    return mean(losses, weigh(known[:, mask_ahead : mask_ahead + n], elsewhere))


def step_with(**changes):
    """training_step_by_hand with one thing changed; with the defaults it is right."""

    def step(model, optimizer, tokens, elsewhere=0.1):
        loss = loss_of_tokens(model, tokens, elsewhere, **changes)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def after_the_step(model, optimizer, tokens, elsewhere=0.1):
    step_with()(model, optimizer, tokens, elsewhere)
    return loss_of_tokens(model, tokens, elsewhere).item()


def two_means(losses, weights):
    known = weights == 1
    return losses[known].mean() + (weights[~known] * losses[~known]).mean()


def last_dropped(losses, weights):
    return weighted_mean(losses[:, :-1], weights[:, :-1])


def first_dropped(losses, weights):
    return weighted_mean(losses[:, 1:], weights[:, 1:])


def row_by_row(losses, weights):
    return ((losses * weights).sum(dim=1) / weights.sum(dim=1)).mean()


def only_known(losses, weights):
    return (losses * weights).sum() / (weights == 1).sum()


STEP_MISTAKES = {
    "each position was asked for the token it has just read, not for the next one": (
        step_with(ahead=0)
    ),
    "the mask is shifted: position i counts fully if the token *at* i was read before": (
        step_with(mask_ahead=1)
    ),
    "all positions weigh the same": step_with(
        weigh=lambda known, elsewhere: torch.ones(known.shape)
    ),
    "the weight elsewhere is always .1; it is the argument `elsewhere`": step_with(
        weigh=lambda known, elsewhere: torch.where(known, 1.0, 0.1)
    ),
    "only the predictable positions count; the others have the weight `elsewhere`": step_with(
        weigh=lambda known, elsewhere: known.float()
    ),
    "the weights are exchanged: it is 1 where the next token is known": step_with(
        weigh=lambda known, elsewhere: torch.where(known, elsewhere, 1.0)
    ),
    "the predictable positions weigh 1 + elsewhere; they must weigh 1": step_with(
        weigh=lambda known, elsewhere: known.float() + elsewhere
    ),
    "the predictable positions weigh 1 - elsewhere; they must weigh 1": step_with(
        weigh=lambda known, elsewhere: torch.where(known, 1 - elsewhere, elsewhere)
    ),
    "the weighted sum was divided by the number of positions, not by the sum of the weights": (
        step_with(mean=lambda losses, weights: (losses * weights).mean())
    ),
    "the weighted sum was divided by the number of predictable positions": step_with(
        mean=only_known
    ),
    "the weighted sum was divided by the number of rows": step_with(
        mean=lambda losses, weights: (losses * weights).sum(dim=1).mean()
    ),
    "the weighted losses were added up; divide by the sum of the weights": step_with(
        mean=lambda losses, weights: (losses * weights).sum()
    ),
    "a mean was taken for each row, then over the rows; all weights count in one mean": step_with(
        mean=row_by_row
    ),
    "two means were added, each divided by its own count; divide once by all weights": step_with(
        mean=two_means
    ),
    "the last guess was left out: it is about the token that is not read": step_with(
        mean=last_dropped
    ),
    "the guess made at BOS was left out; it has the weight `elsewhere`": step_with(
        mean=first_dropped
    ),
    "the loss is in bits; use the natural logarithm": step_with(
        mean=lambda losses, weights: weighted_mean(losses, weights) / math.log(2)
    ),
    "the sign is missing: the loss is minus the log-probability": step_with(
        mean=lambda losses, weights: -weighted_mean(losses, weights)
    ),
}


def expect_moved_by(moved, gradient, earlier, which):
    """moved: the step divided by -lr. earlier: a gradient that must not count."""
    why = "is optimizer.step() missing, or were gradients cleared between backward and step?"
    expect(moved.any(), f"W_E did not move: {why}")
    both = earlier.any() and torch.allclose(moved, gradient + earlier, atol=1e-4)
    left = "gradients left over from earlier were added: clear them before backward"
    expect(not both, f"{which}: {left}")
    up = torch.allclose(moved, -gradient, atol=1e-4)
    expect(not up, f"{which}: the step goes up the gradient; take the loss, not its negative")
    ratio = float((moved * gradient).sum() / gradient.square().sum())
    along = torch.allclose(moved, ratio * gradient, atol=1e-4) and abs(ratio - 1) > 1e-3
    far = f"{which}: the step has the right direction, but {ratio:.3f} times the right length"
    expect(not along, f"{far}: clipped, scaled, or taken more than once?")
    why = f"{which} moved W_E by -lr times the gradient of the loss"
    expect_close(moved, gradient, "vocab d_model", why, 1e-4)


# crossing_step


def on_the_line(steps, gone, i, share):
    part = (share - gone[i - 1]) / (gone[i] - gone[i - 1])
    return steps[i - 1] + part * (steps[i] - steps[i - 1])


def on_a_log_axis(steps, gone, i, share):
    shifted = [math.log(step + 1) for step in steps]
    return math.exp(on_the_line(shifted, gone, i, share)) - 1


def from_the_start(steps, gone, i, share):
    part, width = share / gone[i], steps[i] - steps[i - 1]
    return steps[i - 1] + part * width


def turned_round(steps, gone, i, share):
    return steps[i - 1] + steps[i] - on_the_line(steps, gone, i, share)


def nearest(steps, gone, i, share):
    return steps[i] if gone[i] - share <= share - gone[i - 1] else steps[i - 1]


def evenly_spaced(steps, gone, i, share):
    index = on_the_line(range(len(steps)), gone, i, share)
    return steps[0] + index * (steps[-1] - steps[0]) / (len(steps) - 1)


def shares_of_the_way(values):
    return [(value - values[0]) / (values[-1] - values[0]) for value in values]


def shares_of_the_range(values):
    low, high = min(values), max(values)
    if values[-1] < values[0]:
        low, high = high, low
    return [(value - low) / (high - low) for value in values]


def shares_from_the_smallest(values):
    low, high = min(values), max(values)
    return [(value - low) / (high - low) for value in values]


def shares_of_the_last(values):
    return [value / values[-1] for value in values]


def first_there(gone, share):
    return next(i for i in range(1, len(gone)) if gone[i] >= share)


def first_beyond(gone, share):
    return next(i for i in range(1, len(gone)) if gone[i] > share)


def last_crossing(gone, share):
    return max(i for i in range(1, len(gone)) if gone[i] >= share > gone[i - 1])


def strictly_across(steps, values, share=0.5):
    """Looks for values on both sides of the one wanted, and ends at the last step."""
    gone = shares_of_the_way(values)
    for i in range(1, len(gone)):
        if (gone[i - 1] - share) * (gone[i] - share) < 0:
            return float(on_the_line(steps, gone, i, share))
    return float(steps[-1])


def as_if_sorted(steps, values, share=0.5):
    return float(numpy.interp(share, shares_of_the_way(values), steps))


def only_upwards(first):
    """crossing_step for one who thinks of rising curves: from the index `first` on, the first value
    at or above the one that is wanted.
    """

    def cross(steps, values, share=0.5):
        wanted = values[0] + share * (values[-1] - values[0])
        i = next(i for i in range(first, len(values)) if values[i] >= wanted)
        return float(on_the_line(steps, values, i, wanted))

    return cross


def crossing(gone=shares_of_the_way, pick=first_there, place=on_the_line, share=None):
    """crossing_step with one thing changed; with the defaults it is right."""
    fixed = share

    def cross(steps, values, share=0.5):
        wanted = fixed or share
        way = gone(values)
        return float(place(steps, way, pick(way, wanted), wanted))

    return cross


CROSSING_MISTAKES = {
    "the share is of the last value, not of the way from the first to the last": (
        crossing(shares_of_the_last)
    ),
    "the way goes from the first value to the last, not from the smallest to the largest": (
        crossing(shares_of_the_range)
    ),
    "the way goes from the first value to the last, up or down, not from the smallest up to the "
    "largest": crossing(shares_from_the_smallest),
    "a measured step was returned, the first that is there; go on a straight line": (
        crossing(place=lambda steps, gone, i, share: steps[i])
    ),
    "a measured step was returned, the last before it; go on a straight line": (
        crossing(place=lambda steps, gone, i, share: steps[i - 1])
    ),
    "the nearest measured step was returned; go on a straight line": crossing(place=nearest),
    "the step was rounded to a whole one": crossing(place=lambda *x: round(on_the_line(*x))),
    "the index of the measurement was returned, not a step": (
        crossing(place=lambda steps, gone, i, share: i)
    ),
    "the index was interpolated, not the step": crossing(
        place=lambda steps, *x: on_the_line(range(len(steps)), *x)
    ),
    "the steps were taken to be evenly spaced": crossing(place=evenly_spaced),
    "the line was drawn on a logarithmic axis of steps": crossing(place=on_a_log_axis),
    "the part of the line still to go was taken for the part gone": crossing(place=turned_round),
    "the line begins at the measurement before, not at 0": crossing(place=from_the_start),
    "a way that is gone in the other direction counts as less than nothing, not by its size": (
        crossing(lambda values: [abs(share) for share in shares_of_the_way(values)])
    ),
    "a measurement that is exactly there is missed where only a change of sign is looked for": (
        strictly_across
    ),
    "the last crossing was taken, not the first": crossing(pick=last_crossing),
    "being there exactly is enough: `at least`, not `more than`": crossing(pick=first_beyond),
    "values were searched as if they were sorted, but a curve may go back and forth": as_if_sorted,
    "the share is always one half; it is the argument `share`": crossing(share=0.5),
    "the first value *above* the one wanted was taken; where a curve falls, the first below it is "
    "meant": only_upwards(1),
    "where a curve falls, its first value is above the one wanted already, and was taken": (
        only_upwards(0)
    ),
}
