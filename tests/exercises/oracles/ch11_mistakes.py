"""What people get wrong in chapter 11, first part: pairs and shares."""

from solutions.ch11_patching import Pairs
from tests.exercises.oracles.ch11 import pairs_by_hand

# corrupt_pairs


def edited_pairs(edit):
    """corrupt_pairs with something changed: edit(pairs, first, second, swap) -> pairs."""

    def function(clean, first, second, swap):
        return edit(pairs_by_hand(clean, first, second, swap), first, second, swap)

    return function


def edited_corrupt(edit):
    """corrupt_pairs with other corrupt prompts: edit(corrupt, clean, first, second, swap)."""

    def function(pairs, first, second, swap):
        corrupt = pairs.corrupt.clone()
        edit(corrupt, pairs.clean, first, second, swap)
        return pairs._replace(corrupt=corrupt)

    return edited_pairs(function)


def question_too(corrupt, clean, first, second, swap):
    if swap == "key":
        corrupt[:, -1] = clean[:, second]


def twice(which, swaps):
    """Only one of two tokens replaced: `which` of the two places is left as it was."""

    def edit(corrupt, clean, first, second, swap):
        if swap in swaps:
            place = (first, second)[which] + (swap == "value")
            corrupt[:, place] = clean[:, place]

    return edited_corrupt(edit)


def asks_for_D(corrupt, clean, first, second, swap):
    if swap == "query":
        corrupt[:, -1] = clean[:, second + 1]


def whole_pairs(corrupt, clean, first, second, swap):
    """A B and C D change places together, so that B follows A all the same."""
    if swap == "key":
        corrupt[:, [first + 1, second + 1]] = clean[:, [second + 1, first + 1]]


def first_asks_too(corrupt, clean, first, second, swap):
    if swap == "query":
        corrupt[:, first] = clean[:, second]


def ends_in_C_D(corrupt, clean, first, second, swap):
    if swap == "query":
        corrupt[:, [-2, -1]] = clean[:, [second, second + 1]]


def runs_exchanged(pairs, first, second, swap):
    return pairs._replace(clean=pairs.corrupt, corrupt=pairs.clean)


def other_swap(clean, first, second, swap):
    mixed = {"key": "value", "value": "key", "query": "query"}
    return pairs_by_hand(clean, first, second, mixed[swap])


def answers(right, wrong):
    """Other answers: right(pairs, first, second) and wrong(pairs, first, second)."""

    def edit(pairs, first, second, swap):
        return Pairs(*pairs[:2], right(pairs, first, second), wrong(pairs, first, second))

    return edited_pairs(edit)


PAIR_MISTAKES = {
    "right and wrong are A and C; the answers B and D stand one position later": answers(
        lambda pairs, first, second: pairs.clean[:, first],
        lambda pairs, first, second: pairs.clean[:, second],
    ),
    "right and wrong are exchanged: right is what follows in clean": answers(
        lambda pairs, first, second: pairs.wrong, lambda pairs, first, second: pairs.right
    ),
    "wrong was read in the corrupt prompt, where B and D may have changed places": answers(
        lambda pairs, first, second: pairs.right,
        lambda pairs, first, second: pairs.corrupt[:, second + 1],
    ),
    "right and wrong were both read in the corrupt prompt": answers(
        lambda pairs, first, second: pairs.corrupt[:, first + 1],
        lambda pairs, first, second: pairs.corrupt[:, second + 1],
    ),
    "the last token was exchanged as well; for key it must stay A": edited_corrupt(question_too),
    "with key, C stands there twice; A and C change places": twice(1, ["key"]),
    "with key, A stands there twice; A and C change places": twice(0, ["key"]),
    "with value, D stands there twice; B and D change places": twice(1, ["value"]),
    "with value, B stands there twice; B and D change places": twice(0, ["value"]),
    "only one of the two tokens was replaced: C, or D, stands there twice": twice(
        1, ["key", "value"]
    ),
    "only one of the two tokens was replaced: A, or B, stands there twice": twice(
        0, ["key", "value"]
    ),
    "the last token is D; with query it is C, and D has to follow": edited_corrupt(asks_for_D),
    "with key, A B changed places with C D; B and D have to stay": edited_corrupt(whole_pairs),
    "with query, the last two tokens are C D; only the last one changes, to C": edited_corrupt(
        ends_in_C_D
    ),
    "with query, A at `first` was changed, too; only the last token may change": edited_corrupt(
        first_asks_too
    ),
    "clean and corrupt stand in each other's place": edited_pairs(runs_exchanged),
    "key and value are mixed up: key swaps A with C, value swaps B with D": other_swap,
}

# normalised_metric


def share(bottom=lambda clean, corrupt: clean.mean() - corrupt.mean(), top=None):
    """normalised_metric with another fraction; top(patched, clean, corrupt)."""

    def function(patched, clean, corrupt):
        moved = top(patched, clean, corrupt) if top else patched.mean(dim=-1) - corrupt.mean()
        return moved / bottom(clean, corrupt)

    return function


def averaged_last(patched, clean, corrupt):
    return ((patched - corrupt) / (clean - corrupt)).mean(dim=-1)


def clipped(patched, clean, corrupt):
    return share()(patched, clean, corrupt).clamp(0, 1)


def by_medians(patched, clean, corrupt):
    low = corrupt.median()
    return (patched.median(dim=-1).values - low) / (clean.median() - low)


NORMALISED_MISTAKES = {
    "each row was divided by itself and then averaged; average first": averaged_last,
    "the scale is turned round: corrupt must give 0 and clean 1": share(
        top=lambda patched, clean, corrupt: clean.mean() - patched.mean(dim=-1)
    ),
    "it was divided by clean alone; corrupt has to be subtracted there too": share(
        bottom=lambda clean, corrupt: clean.mean()
    ),
    "clean was subtracted above the line; subtract corrupt": share(
        top=lambda patched, clean, corrupt: patched.mean(dim=-1) - clean.mean()
    ),
    "corrupt was not subtracted above the line": share(
        top=lambda patched, clean, corrupt: patched.mean(dim=-1)
    ),
    "the sign of the denominator was dropped: a metric may be smaller in the clean run": share(
        bottom=lambda clean, corrupt: (clean.mean() - corrupt.mean()).abs()
    ),
    "something was added to the denominator, which moves every share": share(
        bottom=lambda clean, corrupt: clean.mean() - corrupt.mean() + 1e-3
    ),
    "the result was clipped to 0 to 1": clipped,
    "it is a share of medians; take means": by_medians,
    "there is a sum above the line and a mean below": share(
        top=lambda patched, clean, corrupt: patched.sum(dim=-1) - corrupt.sum()
    ),
    "the mean ran over all axes; only the last one is the batch": share(
        top=lambda patched, clean, corrupt: patched.mean() - corrupt.mean()
    ),
    "the mean ran over the first axis; the batch is the last one": share(
        top=lambda patched, clean, corrupt: patched.mean(dim=0) - corrupt.mean()
    ),
}
