"""Arithmetic problems as sequences of tokens: all of them listed, and some of them kept from
training.

    arithmetic   position      0   1   2   3   4               one token per number, operands below 50
                 token        12   -  34   = -22
                 predictable?              x                   "from here, is the next token part of an answer?"

    digits       position      0   1   2   3   4   5   6   7   8   9      one token per digit, operands below 100
                 token       BOS   1   2   +   3   4   =   0   4   6
                 predictable?                          x   x   x

    two-step     position      0   1   2   3   4   5   6   7   8   9  10  the first answer is an operand of the second step
                 token        12   -  34   = -22   ; -22   +   5   = -17
                 predictable?              x       x               x

What one token per number asks for. Answers can be negative, so -1 to -49 are tokens too. Products
are written as a display of two digits would show them: 12 x 34 = 8, the last two digits of 408.
Written in full they would need hundreds of tokens that occur in one or two problems each, and those
can be memorised but not learnt. With one token per digit there is no sign: problems a - b have a >=
b. Leading zeros are written. The first step of a two-step problem is + or -: without the sums, no
number above 34 would ever be an answer in training.

What training never sees, the same for every seed:
    held out   one pair in ten. With + and - in both orders: 34 + 12 does not give 12 + 34 away, and only who adds can
               know it. With x in one of the two orders: kept back both ways round, models of this size got no more
               than a quarter of them right, so all that is asked of x is to know that order does not matter.
    region     a - b for all large a (from 35 on; with digits, from 70 on), although a + b is trained there and so is
               a - b below. Who has learnt subtraction should not care. Chapter 17 is about those who do.
"""

import random
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from .data import BOS, Batch

OPERATORS = ("+", "-", "x")
PLUS, MINUS, TIMES = range(3)
SPLITS = ("train", "held out", "region")
TRAIN, PAIRS, REGION = range(3)  # PAIRS: held out one by one; REGION: held out as a whole
HELD_OUT_SHARE = 0.1
SPLIT_SEED = 2410  # decides which pairs are held out; no training seed changes that
# one token per number: operands are below the first, the region starts at the second
OPERANDS, REGION_FROM = 50, 35
DIGIT_OPERANDS, DIGIT_REGION_FROM = 100, 70  # the same for digits
DIGIT = BOS + 1  # the token of digit 0; those of 1 to 9 follow


@dataclass(frozen=True, eq=False)
class Problems:
    """Every problem of one kind, in a fixed order: one row each."""

    words: tuple[str, ...]  # token -> what it stands for
    tokens: Tensor  # [problem, pos]
    predictable: Tensor  # [pos] bool: is the token after this one part of an answer?
    operator: Tensor  # [problem] index into OPERATORS (of the first step)
    a: Tensor  # [problem] first operand
    b: Tensor  # [problem] second operand
    split: Tensor  # [problem] index into SPLITS

    def rows(self, split: int, operator: int | None = None) -> Tensor:
        """The indices of the problems of one split, or of those of them with one operator."""
        wanted = self.split == split
        return (wanted if operator is None else wanted & (self.operator == operator)).nonzero()[
            :, 0
        ]

    def encode(self, *texts: str) -> Tensor:
        """[text, pos]: encode("12 - 34 =", "5 x 6 ="), words with spaces between them, the same
        number in each text.

        Raises ValueError for others.
        """
        unknown = sorted({word for text in texts for word in text.split()} - set(self.words))
        if unknown:
            raise ValueError(
                f"no token stands for {', '.join(unknown)}; the words are {' '.join(self.words)}."
            )
        lengths = [len(text.split()) for text in texts]
        if not texts or len(set(lengths)) > 1 or lengths[0] == 0:
            raise ValueError(
                f"texts must have the same number of words, at least one; these have {lengths}."
            )
        return torch.tensor([[self.words.index(word) for word in text.split()] for text in texts])

    def first_answer(self, tokens: Tensor) -> list[int | None]:
        """[row, pos] -> the number that is written as the (first) answer in each row; None where it
        is no number.
        """
        first = last = int(self.predictable.nonzero()[0])
        while self.predictable[last + 1]:
            last += 1
        written = [
            "".join(self.words[token] for token in row)
            for row in tokens[:, first + 1 : last + 2].tolist()
        ]
        return [int(text) if text.lstrip("-").isdecimal() else None for text in written]

    def decode(self, tokens: Tensor) -> str:
        """One sequence [pos] as text. Raises ValueError for a batch, or for a token that stands for
        no word.
        """
        if tokens.ndim != 1:
            raise ValueError(
                f"decode takes one sequence [pos], not {list(tokens.shape)}; one of a batch: tokens[0]."
            )
        if len(tokens) and not 0 <= int(tokens.min()) <= int(tokens.max()) < len(self.words):
            raise ValueError(
                f"tokens go from 0 to {len(self.words) - 1}; these are {tokens.tolist()}."
            )
        return " ".join(self.words[token] for token in tokens.tolist())


@lru_cache
def problems(kind: str) -> Problems:
    """All problems of one kind: "arithmetic", "digits" or "two-step". Raises ValueError for
    another.
    """
    if kind not in KINDS:
        raise ValueError(
            f"there are no problems called {kind!r}; the kinds are {', '.join(KINDS)}."
        )
    return KINDS[kind]()


def draw_problems(all_of_them: Problems, batch: int, generator: torch.Generator) -> Batch:
    """Training problems, each as likely as any other, with replacement."""
    rows = all_of_them.rows(TRAIN)
    tokens = all_of_them.tokens[rows[torch.randint(len(rows), (batch,), generator=generator)]]
    return Batch(tokens, all_of_them.predictable.expand(batch, -1))


def answer_to(operator: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """a + b, a - b, or the last two digits of a x b."""
    return torch.stack([a + b, a - b, a * b % 100]).gather(0, operator[None])[0]


# ---- one token per number


def number_words(largest: int) -> list[str]:
    """0 to largest, then the negatives: the token of v is v % (how many numbers there are), so that
    -1 is the last.
    """
    return [str(v) for v in [*range(largest + 1), *range(1 - OPERANDS, 0)]]


def one_token_each() -> Problems:
    numbers = number_words(99)
    words = (*numbers, *OPERATORS, "=")
    operator, a, b = torch.cartesian_prod(
        *(torch.arange(n) for n in (len(OPERATORS), OPERANDS, OPERANDS))
    ).T
    answer, equals = answer_to(operator, a, b) % len(numbers), torch.full_like(a, words.index("="))
    tokens = torch.stack([a, len(numbers) + operator, b, equals, answer], dim=1)
    split = split_of(operator, a, b, REGION_FROM)
    return Problems(words, tokens, at_positions(5, 3), operator, a, b, split)


def two_steps() -> Problems:
    numbers = number_words(3 * (OPERANDS - 1))
    words = (*numbers, "+", "-", "=", ";")
    operator, a, b, d = torch.cartesian_prod(
        torch.arange(2), *(torch.arange(OPERANDS) for _ in "abd")
    ).T
    c, n = answer_to(operator, a, b), len(numbers)
    plus, equals, then = (torch.full_like(a, words.index(word)) for word in "+=;")
    tokens = torch.stack(
        [a, n + operator, b, equals, c % n, then, c % n, plus, d, equals, (c + d) % n], dim=1
    )
    first = split_of(operator, a, b, REGION_FROM)
    second = held_out_pairs(1, 3 * OPERANDS)[0, c + OPERANDS, d]  # c starts at 1 - OPERANDS
    split = torch.where((first == TRAIN) & second, PAIRS, first)
    return Problems(words, tokens, at_positions(11, 3, 5, 9), operator, a, b, split)


# ---- one token per digit


def digit_by_digit() -> Problems:
    words = ("BOS", *"0123456789", "+", "-", "=")
    operator, a, b = torch.cartesian_prod(
        torch.arange(2), *(torch.arange(DIGIT_OPERANDS) for _ in "ab")
    ).T
    operator, a, b = (column[(operator == PLUS) | (a >= b)] for column in (operator, a, b))
    bos, equals = (torch.full((len(a), 1), words.index(word)) for word in ("BOS", "="))
    sign, answer = words.index("+") + operator[:, None], digits_of(answer_to(operator, a, b), 3)
    tokens = torch.cat([bos, digits_of(a, 2), sign, digits_of(b, 2), equals, answer], dim=1)
    split = split_of(operator, a, b, DIGIT_REGION_FROM)
    return Problems(words, tokens, at_positions(10, 6, 7, 8), operator, a, b, split)


def digits_of(number: Tensor, count: int) -> Tensor:
    """[problem] -> [problem, count]: the tokens of the digits, the most significant first."""
    return torch.stack(
        [DIGIT + number // 10**place % 10 for place in reversed(range(count))], dim=1
    )


# ---- what is kept from training


def split_of(operator: Tensor, a: Tensor, b: Tensor, region_from: int) -> Tensor:
    """[problem] index into SPLITS."""
    drawn = held_out_pairs(len(OPERATORS), int(a.max()) + 1)
    both = drawn[operator, a.minimum(b), a.maximum(b)]
    one = drawn[operator, a, b] & ~drawn[operator, b, a]
    chosen = torch.where(operator == TIMES, one, both)
    return torch.where(
        (operator == MINUS) & (a >= region_from), REGION, torch.where(chosen, PAIRS, TRAIN)
    )


def held_out_pairs(tables: int, size: int) -> Tensor:
    """[tables, size, size] bool. Python promises that `random()` gives these numbers for this seed
    in every version.
    """
    draw = random.Random(SPLIT_SEED).random
    chosen = [draw() < HELD_OUT_SHARE for _ in range(tables * size * size)]
    return torch.tensor(chosen).view(tables, size, size)


def at_positions(length: int, *positions: int) -> Tensor:
    """[length] bool: True at these positions."""
    return torch.isin(torch.arange(length), torch.tensor(positions))


KINDS = {"arithmetic": one_token_each, "digits": digit_by_digit, "two-step": two_steps}
