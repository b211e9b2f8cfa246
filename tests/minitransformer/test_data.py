"""Repeated random sequences: what is promised of them, checked row by row in loops."""

import re

import pytest
import torch

from minitransformer import BOS, data
from minitransformer.data import LATEST, random_tokens, repeated_tokens
from tests.material import seeded

LENGTH, VOCAB, PERIODS = 24, 40, (2, 9)


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
        start = 1 + prefix
        for position in range(LENGTH):
            read_before = position >= start and tokens[position] in tokens[start:position]
            assert predictable[position] == read_before


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
    first = repeated_tokens(256, LENGTH, VOCAB, PERIODS, seeded(1))
    again = repeated_tokens(256, LENGTH, VOCAB, PERIODS, seeded(1))
    other = repeated_tokens(256, LENGTH, VOCAB, PERIODS, seeded(2))
    assert all(map(torch.equal, first, again))
    assert torch.equal(torch.get_rng_state(), state)
    assert not set(sequences(first)) & set(sequences(other))


def sequences(repeats) -> list[tuple[int, ...]]:
    return [tuple(row) for row in repeats.tokens.tolist()]


def test_a_generator_goes_on_and_never_gives_the_same_rows_twice():
    generator, seen = seeded(1), []
    for _ in range(8):
        seen += sequences(repeated_tokens(64, LENGTH, VOCAB, PERIODS, generator))
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


def test_random_tokens_are_bos_and_then_uniform():
    tokens = random_tokens(4000, 10, 11, seeded(0))
    assert (tokens[:, 0] == BOS).all() and tokens.shape == (4000, 10)
    shares = torch.bincount(tokens[:, 1:].flatten(), minlength=11) / (4000 * 9)
    assert shares[0] == 0 and (shares[1:] - 0.1).abs().max() < 5 * (0.1 * 0.9 / 36_000) ** 0.5
    # the second does not depend on the first
    pairs = torch.bincount(11 * tokens[:, 1] + tokens[:, 2], minlength=121).view(11, 11) / 4000
    assert (pairs[1:, 1:] - 0.01).abs().max() < 5 * (0.01 / 4000) ** 0.5


# ---- the worked row in the module's docstring


def line_of(start):
    (line,) = [line for line in data.__doc__.splitlines() if line.strip().startswith(start)]
    return line


def test_the_worked_row_is_what_the_code_makes(monkeypatch):
    position_line, x_line = line_of("position  "), line_of("predictable?")
    tokens = [BOS if word == "BOS" else int(word) for word in line_of("token").split()[1:]]
    assert [int(word) for word in position_line.split()[1:]] == list(range(12))
    assert len(tokens) == 12
    shuffle = [int(word) for word in data.__doc__.split("begins")[1].split("...")[0].split()]
    rest = [token for token in range(1, 65) if token not in shuffle]
    ranks = (torch.tensor([shuffle + rest]) - 1).argsort(dim=1).float()  # they sort like that
    monkeypatch.setattr(
        torch, "rand", lambda *shape, **_: ranks if len(shape) == 2 else torch.zeros(shape)
    )
    made = repeated_tokens(1, 12, 65, (4, 4), seeded(0), prefix=3)
    assert made.tokens.tolist() == [tokens]
    columns = [int(word) for word in line_of("column of").replace("|", " ").split()[4:15]]
    assert tokens[1:] == [shuffle[column] for column in columns]
    # an x stands under the last digit of its position
    ends = [number.end() - 1 for number in re.finditer(r"\d+", position_line)]
    assert [x_line[end : end + 1] == "x" for end in ends] == made.predictable[0].tolist()
