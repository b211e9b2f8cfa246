"""Repeated random sequences: what is promised of them, checked row by row in loops."""

import pytest
import torch

from minitransformer import BOS, data
from minitransformer.data import LATEST, random_tokens, repeated_tokens

LENGTH, VOCAB, PERIODS = 24, 40, (2, 9)


def seeded(seed):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def many():
    return repeated_tokens(4000, LENGTH, VOCAB, PERIODS, seeded(0))


def rows(repeats):
    """(tokens, predictable, prefix, period) of every row, as plain Python."""
    return zip(*(part.tolist() for part in repeats))


def test_every_row_is_bos_prefix_and_one_block_of_distinct_tokens_repeated_to_the_end(many):
    for tokens, _, prefix, period in rows(many):
        assert len(tokens) == LENGTH and tokens[0] == BOS and BOS not in tokens[1:]
        block = tokens[1 + prefix : 1 + prefix + period]
        # distinct, and apart from each other
        assert len({*tokens[1 : 1 + prefix], *block}) == prefix + period
        for position in range(1 + prefix, LENGTH):
            assert tokens[position] == block[(position - 1 - prefix) % period]
        assert all(0 < token < VOCAB for token in tokens[1:])


def test_predictable_means_that_the_token_was_read_before_in_the_block(many):
    for tokens, predictable, prefix, _ in rows(many):
        for position in range(LENGTH):
            in_the_block = position >= 1 + prefix
            assert predictable[position] == (
                in_the_block and tokens[position] in tokens[1 + prefix : position]
            )


def test_at_predictable_positions_and_only_there_copying_is_always_right(many):
    """The rule of induction: find the token just read, earlier; say what followed it."""
    for tokens, predictable, _, _ in rows(many):
        for position in range(LENGTH - 1):
            earlier = [j for j in range(1, position) if tokens[j] == tokens[position]]
            assert predictable[position] == bool(earlier)
            assert all(tokens[j + 1] == tokens[position + 1] for j in earlier)


def test_periods_and_prefixes_cover_their_range_with_both_ends(many):
    low, high = PERIODS
    assert set(many.period.tolist()) == set(range(low, high + 1))
    assert many.prefix.min() == 0
    for period in range(low, high + 1):
        assert many.prefix[many.period == period].max() == LENGTH - 3 - period
    at_the_limit = (many.prefix == LENGTH - 3 - many.period).float().mean().item()
    assert LATEST < at_the_limit < LATEST + 0.1  # and a few more by chance


def test_periods_are_log_uniform():
    period = repeated_tokens(20_000, 40, 64, (1, 15), seeded(0)).period
    # [1], [2, 3], [4 .. 7], [8 .. 15]: each a doubling, so each a quarter
    for first in (1, 2, 4, 8):
        share = ((first <= period) & (period < 2 * first)).float().mean().item()
        assert share == pytest.approx(0.25, abs=0.015)


def test_each_token_is_as_likely_as_any_other_first():
    """A token that came up more often in some place would be a hint; 5 standard deviations are
    allowed.
    """
    firsts = repeated_tokens(20_000, 8, 11, (1, 5), seeded(0)).tokens[:, 1]
    shares = torch.bincount(firsts, minlength=11)[1:] / 20_000
    assert (shares - 0.1).abs().max() < 5 * (0.1 * 0.9 / 20_000) ** 0.5


def test_there_is_always_something_to_predict(many):
    assert many.predictable[:, :-1].any(dim=1).all() and not many.predictable[:, :3].any()


def test_the_seed_of_the_generator_decides_the_batch_and_the_global_random_state_is_left_alone():
    state = torch.get_rng_state()
    first, again, other = (
        repeated_tokens(256, LENGTH, VOCAB, PERIODS, seeded(s)) for s in (1, 1, 2)
    )
    assert all(torch.equal(a, b) for a, b in zip(first, again))
    assert torch.equal(torch.get_rng_state(), state)
    shared = {tuple(row) for row in first.tokens.tolist()} & {
        tuple(row) for row in other.tokens.tolist()
    }
    assert not shared


def test_a_generator_goes_on_and_never_gives_the_same_rows_twice():
    generator = seeded(1)
    seen = [
        tuple(row)
        for _ in range(8)
        for row in repeated_tokens(64, LENGTH, VOCAB, PERIODS, generator).tokens.tolist()
    ]
    assert len(set(seen)) == len(seen)


@pytest.mark.parametrize("prefix", [0, 5])
def test_prefix_and_period_can_be_fixed(prefix):
    repeats = repeated_tokens(50, LENGTH, VOCAB, (7, 7), seeded(0), prefix)
    assert (repeats.prefix == prefix).all() and (repeats.period == 7).all()
    first = 1 + prefix + 7
    assert not repeats.predictable[:, :first].any() and repeats.predictable[:, first:].all()
    assert torch.equal(repeats.tokens[:, first:], repeats.tokens[:, 1 + prefix : LENGTH - 7])


def test_the_tightest_fit_works():
    """The longest period that leaves one prediction, and just enough tokens to be distinct."""
    repeats = repeated_tokens(200, 8, 8, (5, 5), seeded(0))
    assert repeats.predictable.sum(dim=1).tolist() == [2] * 200 and (repeats.prefix == 0).all()
    assert repeated_tokens(10, 4, 4, (1, 1), seeded(0)).tokens.shape == (10, 4)


@pytest.mark.parametrize(
    "length, vocab, periods, prefix, words",
    [
        (24, 40, (0, 5), None, "at least 1, not 0"),
        (24, 40, (6, 5), None, "low <= high"),
        (24, 40, (2, 22), None, "length - 3 = 21: 2 to 22"),
        (24, 40, (2, 9), 13, "length - 3 = 21"),
        (24, 40, (2, 9), -1, "prefix"),
        (24, 23, (2, 9), None, "d_vocab >= 24, not 23"),
        (3, 40, (1, 1), None, "in sequences of 3: .*at least 4 tokens"),
    ],
)
def test_impossible_sequences_are_refused_with_the_reason(length, vocab, periods, prefix, words):
    with pytest.raises(ValueError, match=words):
        repeated_tokens(4, length, vocab, periods, seeded(0), prefix)


def test_random_tokens_are_bos_and_then_uniform():
    tokens = random_tokens(4000, 10, 11, seeded(0))
    assert (tokens[:, 0] == BOS).all() and tokens.shape == (4000, 10)
    shares = torch.bincount(tokens[:, 1:].flatten(), minlength=11) / (4000 * 9)
    assert shares[0] == 0 and (shares[1:] - 0.1).abs().max() < 5 * (0.1 * 0.9 / 36_000) ** 0.5
    pairs = (
        torch.bincount(11 * tokens[:, 1] + tokens[:, 2], minlength=121).view(11, 11)[1:, 1:] / 4000
    )
    # the second does not depend on the first
    assert (pairs - 0.01).abs().max() < 5 * (0.01 / 4000) ** 0.5


# ---- the worked row in the module's docstring


def line_of(start):
    (line,) = [line for line in data.__doc__.splitlines() if line.strip().startswith(start)]
    return line


def test_the_worked_row_is_what_the_code_makes(monkeypatch):
    position_line, token_line, x_line = (
        line_of(start) for start in ("position  ", "token", "predictable?")
    )
    tokens = [BOS if word == "BOS" else int(word) for word in token_line.split()[1:]]
    assert [int(word) for word in position_line.split()[1:]] == list(range(12)) and len(
        tokens
    ) == 12
    shuffle = [int(word) for word in data.__doc__.split("begins")[1].split("...")[0].split()]
    rest = [token for token in range(1, 65) if token not in shuffle]
    order = torch.tensor([shuffle + rest])
    monkeypatch.setattr(
        torch,
        "rand",
        lambda *shape, **_: ranks(order - 1) if len(shape) == 2 else torch.zeros(shape),
    )
    made = repeated_tokens(1, 12, 65, (4, 4), seeded(0), prefix=3)
    assert made.tokens.tolist() == [tokens]
    columns = [int(word) for word in line_of("column of").replace("|", " ").split()[4:15]]
    assert tokens[1:] == [shuffle[column] for column in columns]
    # an x stands under the last digit of its position
    ends = [
        i
        for i, letter in enumerate(position_line)
        if letter.isdigit() and not position_line[i + 1 : i + 2].isdigit()
    ]
    assert [x_line[end : end + 1] == "x" for end in ends] == made.predictable[0].tolist()


def ranks(order):
    """Numbers whose argsort is `order`."""
    return order.argsort(dim=1).float()
