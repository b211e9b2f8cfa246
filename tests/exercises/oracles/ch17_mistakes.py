"""What people get wrong in chapter 17: label -> the function they write."""

import math

import torch

from tests.exercises.oracles import ch17 as o
from tests.exercises.oracles.ch17 import covered, differing, likelihood, repaired, variants

# How likely is an input?


def one_value_per_token(model, tokens, length):
    shorter = [likelihood()(model, tokens, at) for at in range(2, length + 1)]
    return torch.stack([shorter[0], *[x - y for x, y in zip(shorter[1:], shorter)]], dim=1)


def over_positions(model, tokens, length):
    """A wrong input_log_likelihood: at each token of the vocabulary, the positions make 1."""
    p = model(tokens[:, : length - 1]).softmax(dim=1)
    total = 0
    for at in range(1, length):
        total = total + p[torch.arange(len(tokens)), at - 1, tokens[:, at]].log()
    return total


def to_the_end(model, tokens, length):
    return likelihood()(model, tokens, tokens.shape[1])


SHIFTED = likelihood(shift=0)
LIKELIHOOD = {
    "the logits at a position speak about the next token; yours were asked about their own": (
        SHIFTED
    ),
    "what stands at `length` was counted too; it is the answer": likelihood(extra=1),
    "the last token of the input is missing": likelihood(extra=-1),
    "the mean over the tokens was taken; the log of a product is a sum": likelihood(mean=True),
    "the sign is turned round: it is the log-likelihood, below 0": likelihood(sign=-1),
    "probabilities were added up; it is their logs": likelihood(log=False),
    "the logits themselves were added up; log_softmax comes first": likelihood(raw=True),
    "each token was read off its own position, the first one too; the logits there speak about "
    "the next": likelihood(shift=0, first=0),
    "each token but the last was read off its own position; the logits there speak about the "
    "next": likelihood(shift=0, first=0, extra=-1),
    "the softmax was taken over the positions; it goes over the vocabulary": over_positions,
    "`length` was ignored: the answer was counted, too": to_the_end,
    "the tokens were not added up": one_value_per_token,
}


# The same problem with other numbers

VARIANTS = {
    "the operator may change; it has to stay": variants(operator_counts=False),
    "the problem itself is no variant of itself": variants(itself=True),
    "an operand of one digit may become one of two": variants(longer=False),
    "no operand may become 0": variants(zero=True),
    "an operand of one digit may become anything from 1 to 99: also one of two digits, but not "
    "0": variants(longer=False, zero=True),
    "10 has two digits": variants(two_digits=11),
    "a 10 was taken to have one digit": variants(one_digit=10),
    "the signs of the values were not compared": variants(sign=False),
    "0 and below were taken as one sign; they are two": variants(sign="above 0"),
    "0 and above were taken as one sign; they are two": variants(sign="from 0"),
    "a whole number became a fraction, or the other way round": variants(whole=False),
    "where the original has a fraction, a variant has one too; yours asks for whole numbers": (
        variants(whole="always")
    ),
    "where the original has a fraction, a variant has one too; yours may have anything": (
        variants(whole="where it was")
    ),
    "one operand and one value are enough for you; each has to fit": variants(
        operands_fit=any, values_fit=any
    ),
    "one operand that fits is enough for you; each has to": variants(operands_fit=any),
    "one value that fits is enough for you; each has to": variants(values_fit=any),
    "only the first value was compared; each one has to fit": variants(compared=slice(1)),
    "only the last value was compared; each one has to fit": variants(compared=slice(2, 3)),
    "problems with the same values were left out; they are variants": variants(other_values=True),
}

OPERANDS = {
    "only the first two operands were looked at; there may be more": variants(looked_at=slice(2)),
    "only the last operand was looked at; each one counts": variants(looked_at=slice(-1, None)),
}


# Missing or weak?


def first_of_type(name, names):
    """Where the first heuristic of the same type stands."""
    return [each.split(":")[0] for each in names].index(name.split(":")[0])


COVERS = {
    "'none' speaks of nothing, not of everything": covered(none=True),
    "the number in the name was ignored: it says how many results": covered(count=2),
    "the problems were taken over, not their results: on other problems the same places mean "
    "something else": covered(places=True),
    "the results that the neuron promotes least were taken": covered(least=True),
    "the results of the few most promoted *problems* were taken; it is the mean over all "
    "problems of a result": covered(singly=True),
    "what is promoted was added up over the problems of a result; it is the mean": covered(
        average=torch.sum
    ),
    "`promoted` belongs to the problems where the neuron was studied; you gave it the new "
    "results": covered(mixed=True),
    "only the type of the name was looked up, not the whole name": covered(find=first_of_type),
}


def shares(*numbers):
    o.refuse_zero(*numbers)
    missing = math.log(numbers[2] / numbers[0])
    whole = math.log(numbers[3] / numbers[1])
    return missing / whole, 1 - missing / whole


def in_logits(count, promoted, count_there, promoted_there):
    o.refuse_zero(count, promoted, count_there, promoted_there)
    missing = (count_there - count) * promoted / count
    return missing, promoted_there - promoted - missing


def ratios(count, promoted, count_there, promoted_there):
    o.refuse_zero(count, promoted, count_there, promoted_there)
    return count_there / count, promoted_there / promoted * count / count_there


FACTORS = {
    "both ratios are upside down: fewer neurons than there means a positive number": o.factors(
        sign=-1
    ),
    "the logarithm is to base 2; nats are asked for": o.factors(log=math.log2),
    "weak is per neuron: the two must add up to log(promoted_there / promoted)": o.factors(taken=0),
    "missing was added to the whole to get weak; it is subtracted": o.factors(taken=-1),
    "missing and weak are exchanged": o.factors(swapped=True),
    "logs were not taken: factors multiply, logs add": o.factors(log=lambda x: x),
    "logs were not taken: the two are ratios whose product is the whole": ratios,
    "shares of the whole, which add up to 1; in nats they add up to the log of the ratio": shares,
    "differences were taken apart, not ratios": in_logits,
}


# A repair


def shifted(by, nothing=0):
    """A wrong first_difference: moved by so many where there is one, by `nothing` where not."""

    def position(tokens, other):
        right = differing()(tokens, other)
        return right + torch.where((tokens != other).any(dim=1), by, nothing)

    return position


def of_any_row(tokens, other):
    return differing()(tokens, other).min().expand(len(tokens)).clone()


def largest_of(tokens, other):
    right = differing()(tokens, other)
    size = (tokens - other).abs()
    return torch.where(size.any(dim=1), size.argmax(dim=1), right)


DIFFERENCES = {
    "where nothing differs the answer is the number of positions, not 0": differing(nothing=0),
    "where nothing differs the answer is the number of positions, not -1": differing(nothing=-1),
    "where nothing differs the answer is the number of positions, not the last position": shifted(
        0, nothing=-1
    ),
    "the last difference was given, not the first": differing(last=True),
    "positions count from 0": differing(base=1),
    "the first position that is equal was given": differing(equal=True),
    "the last position that is equal was given, not the first that differs": shifted(-1),
    "equal positions were counted, also those behind the first difference": differing(counted=True),
    "the largest difference was looked for, not the first": largest_of,
    "the first position at which any of the sequences differs; each has its own": of_any_row,
}

EXCHANGED = repaired(roles=lambda wrong, corrected: (corrected, wrong))
REPAIRED = {
    "the model read the answers; leave the last token away": repaired(end=None),
    "the roles are exchanged: the wrong run runs, the corrected one gives": EXCHANGED,
    "the activations came from the wrong run itself": repaired(
        roles=lambda wrong, corrected: (wrong, wrong)
    ),
    "the held places were not held": repaired(hold=False),
    "the held places were only taken out of the cells; they have to be put back, too": repaired(
        hold=False, chosen=lambda cells, at, held: [p for p in cells[at] if p not in held]
    ),
    "the held places got what they hold in the corrected run": repaired(held_from="corrected"),
    "the held places were set to 0": repaired(held_from="zero"),
    "a place that is in a cell and held is held": repaired(held_wins=False),
    "the whole activation was held, at all positions; a place is only one index of it": (
        repaired(whole=True)
    ),
    "all cells were patched at once; each has a run of its own": repaired(
        chosen=lambda cells, at, held: sum(cells, [])
    ),
    "each run kept the cells before it, too; each cell has a run of its own": repaired(
        chosen=lambda cells, at, held: sum(cells[: at + 1], [])
    ),
}
