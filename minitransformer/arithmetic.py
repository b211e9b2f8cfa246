"""Arithmetic problems as sequences of tokens: all of them listed, and some kept from training.

    arithmetic: one token per number, operands below 50
        position      0   1   2   3   4
        token        12   -  34   = -22
        predictable?              x          from here, is the next token part of an answer?

    digits: one token per digit, operands below 100
        position      0   1   2   3   4   5   6   7   8   9
        token       BOS   1   2   +   3   4   =   0   4   6
        predictable?                          x   x   x

    two-step: the first answer is an operand of the second step
        position      0   1   2   3   4   5   6   7   8   9  10
        token        12   -  34   = -22   ; -22   +   5   = -17
        predictable?              x       x               x

What one token per number asks for. Answers can be negative, so -1 to -49 are tokens too. Products
are written as a display of two digits would show them: 12 x 34 = 8, the last two digits of 408.
Written in full they would need hundreds of tokens that occur in one or two problems each, and those
can be memorised but not learnt. With one token per digit there is no sign: problems a - b have a >=
b. Leading zeros are written. The first step of a two-step problem is + or -: without the sums, no
number above 34 would ever be an answer in training.

What training never sees, the same for every seed:
    held out   one pair in ten. With + and - in both orders: 34 + 12 does not give 12 + 34 away,
               and only who adds can know it. With x in one of the two orders: kept back both ways
               round, models of this size got no more than a quarter of them right, so all that is
               asked of x is to know that order does not matter.
    region     a - b for all large a (from 35 on; with digits, from 70 on), although a + b is
               trained there and so is a - b below. Who has learnt subtraction should not care.
               Chapter 17 is about those who do.
"""

import random
from dataclasses import dataclass
from functools import cached_property, lru_cache

import torch
from torch import Tensor

from .config import require
from .data import BOS, Batch

OPERATORS = ("+", "-", "x")
PLUS, MINUS, TIMES = range(3)
SPLITS = ("train", "held out", "region")
TRAIN, PAIRS, REGION = range(3)  # PAIRS: held out one by one; REGION: held out as a whole
HELD_OUT_SHARE = 0.1
SPLIT_SEED = 2410  # decides which pairs are held out; no training seed changes that
OPERANDS, REGION_FROM = 50, 35  # one token per number: operands below 50, the region from 35 on
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

    @cached_property
    def training_rows(self) -> Tensor:
        """Made once: finding them would make every step wait."""
        return self.rows(TRAIN)

    def rows(self, split: int, operator: int | None = None) -> Tensor:
        """The indices of the problems of one split, or of those of them with one operator."""
        wanted = self.split == split
        if operator is not None:
            wanted = wanted & (self.operator == operator)
        return wanted.nonzero()[:, 0]

    def encode(self, *texts: str) -> Tensor:
        """[text, pos]: encode("12 - 34 =", "5 x 6 ="), words with spaces between them.

        Raises ValueError for an unknown word, or if the texts differ in length.
        """
        rows = [text.split() for text in texts]
        unknown = ", ".join(sorted({word for row in rows for word in row} - set(self.words)))
        known = " ".join(self.words)
        require(not unknown, f"no token stands for {unknown}; the words are {known}.")
        lengths = [len(row) for row in rows]
        rule = "texts must have the same number of words, at least one"
        require(len(set(lengths)) == 1 and lengths[0] > 0, f"{rule}; these have {lengths}.")
        return torch.tensor([[self.words.index(word) for word in row] for row in rows])

    def first_answer(self, tokens: Tensor) -> list[int | None]:
        """[row, pos] -> the (first) answer that is written in each row; None if it is no number."""
        start = int(self.predictable.nonzero()[0]) + 1
        end = start + 1
        while self.predictable[end - 1]:
            end += 1
        written = ["".join(self.words[i] for i in row) for row in tokens[:, start:end].tolist()]
        return [int(text) if text.lstrip("-").isdecimal() else None for text in written]

    def decode(self, tokens: Tensor) -> str:
        """One sequence [pos] as text. Raises ValueError for a batch, or for a token that stands for
        no word.
        """
        one = f"decode takes one sequence [pos], not {list(tokens.shape)}"
        require(tokens.ndim == 1, f"{one}; one of a batch: tokens[0].")
        numbers, last = tokens.tolist(), len(self.words) - 1
        known = all(0 <= number <= last for number in numbers)
        require(known, f"tokens go from 0 to {last}; these are {numbers}.")
        return " ".join(self.words[number] for number in numbers)


@lru_cache
def problems(kind: str) -> Problems:
    """All problems of one kind: a key of KINDS. Raises ValueError for another."""
    known = ", ".join(KINDS)
    require(kind in KINDS, f"there are no problems called {kind!r}; the kinds are {known}.")
    return KINDS[kind]()


def draw_problems(all_of_them: Problems, batch: int, generator: torch.Generator) -> Batch:
    """Training problems, each as likely as any other, with replacement."""
    rows = all_of_them.training_rows
    tokens = all_of_them.tokens[rows[torch.randint(len(rows), (batch,), generator=generator)]]
    return Batch(tokens, all_of_them.predictable.expand(batch, -1))


def answer_to(operator: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """a + b, a - b, or the last two digits of a x b."""
    return torch.stack([a + b, a - b, a * b % 100]).gather(0, operator[None])[0]


# ---- one token per number


def number_words(largest: int) -> list[str]:
    """0 to largest, then the negatives: the token of v is v % (how many there are); -1 is last."""
    return [str(v) for v in [*range(largest + 1), *range(1 - OPERANDS, 0)]]


def one_token_each() -> Problems:
    numbers = number_words(99)
    words = (*numbers, *OPERATORS, "=")
    operand = torch.arange(OPERANDS)
    operator, a, b = torch.cartesian_prod(torch.arange(len(OPERATORS)), operand, operand).T
    answer = answer_to(operator, a, b) % len(numbers)
    equals = torch.full_like(a, words.index("="))
    tokens = torch.stack([a, len(numbers) + operator, b, equals, answer], dim=1)
    split = split_of(operator, a, b, REGION_FROM)
    return Problems(words, tokens, at_positions(5, 3), operator, a, b, split)


def two_steps() -> Problems:
    numbers = number_words(3 * (OPERANDS - 1))
    words = (*numbers, "+", "-", "=", ";")
    operand = torch.arange(OPERANDS)
    operator, a, b, d = torch.cartesian_prod(torch.arange(2), operand, operand, operand).T
    c, n = answer_to(operator, a, b), len(numbers)
    plus = torch.full_like(a, words.index("+"))
    equals = torch.full_like(a, words.index("="))
    then = torch.full_like(a, words.index(";"))
    one_step = [a, n + operator, b, equals, c % n]
    tokens = torch.stack([*one_step, then, c % n, plus, d, equals, (c + d) % n], dim=1)
    first = split_of(operator, a, b, REGION_FROM)
    second = held_out_pairs(1, 3 * OPERANDS)[0, c + OPERANDS, d]  # c starts at 1 - OPERANDS
    split = torch.where((first == TRAIN) & second, PAIRS, first)
    return Problems(words, tokens, at_positions(11, 3, 5, 9), operator, a, b, split)


# ---- one token per digit


def digit_by_digit() -> Problems:
    words = ("BOS", *"0123456789", "+", "-", "=")
    operand = torch.arange(DIGIT_OPERANDS)
    operator, a, b = torch.cartesian_prod(torch.arange(2), operand, operand).T
    kept = (operator == PLUS) | (a >= b)
    operator, a, b = operator[kept], a[kept], b[kept]
    bos = torch.full((len(a), 1), words.index("BOS"))
    equals = torch.full((len(a), 1), words.index("="))
    sign = words.index("+") + operator[:, None]
    answer = digits_of(answer_to(operator, a, b), 3)
    tokens = torch.cat([bos, digits_of(a, 2), sign, digits_of(b, 2), equals, answer], dim=1)
    split = split_of(operator, a, b, DIGIT_REGION_FROM)
    return Problems(words, tokens, at_positions(10, 6, 7, 8), operator, a, b, split)


def digits_of(number: Tensor, count: int) -> Tensor:
    """[problem] -> [problem, count]: the tokens of the digits, the most significant first."""
    places = reversed(range(count))
    return torch.stack([DIGIT + number // 10**place % 10 for place in places], dim=1)


# ---- what is kept from training


def split_of(operator: Tensor, a: Tensor, b: Tensor, region_from: int) -> Tensor:
    """[problem] index into SPLITS."""
    drawn = held_out_pairs(len(OPERATORS), int(a.max()) + 1)
    both = drawn[operator, a.minimum(b), a.maximum(b)]
    one = drawn[operator, a, b] & ~drawn[operator, b, a]
    chosen = torch.where(operator == TIMES, one, both)
    in_region = (operator == MINUS) & (a >= region_from)
    return torch.where(in_region, REGION, torch.where(chosen, PAIRS, TRAIN))


def held_out_pairs(tables: int, size: int) -> Tensor:
    """[tables, size, size] bool, the same everywhere: Python promises that of `random()`."""
    draw = random.Random(SPLIT_SEED).random
    chosen = [draw() < HELD_OUT_SHARE for _ in range(tables * size * size)]
    return torch.tensor(chosen).view(tables, size, size)


def at_positions(length: int, *positions: int) -> Tensor:
    """[length] bool: True at these positions."""
    return torch.isin(torch.arange(length), torch.tensor(positions))


KINDS = {"arithmetic": one_token_each, "digits": digit_by_digit, "two-step": two_steps}
