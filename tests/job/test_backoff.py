"""Backoff: the wait before each attempt, with jitter, by a list or a callable."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relevo.errors import OptionError
from relevo.job import backoff

WAITS = st.lists(st.floats(0, 10_000), min_size=1, max_size=6)


@pytest.mark.parametrize(
    ("given_as", "expected"),
    [
        (30, [30, 30, 30]),
        ([10, 30, 60], [10, 30, 60, 60, 60]),
        ((5,), [5, 5]),
        (0, [0, 0]),
        (lambda attempt: 2**attempt, [2, 4, 8, 16]),
    ],
)
def test_each_attempt_waits_its_turn_and_the_last_wait_repeats(given_as, expected):
    waits = backoff.waits(given_as)
    assert [backoff.seconds(waits, attempt) for attempt in range(1, len(expected) + 1)] == expected


@given(WAITS, st.integers(1, 20), st.floats(0, 1), st.floats(0, 1))
def test_jitter_only_ever_lengthens_a_wait_and_by_no_more_than_it_says(
    waits, attempt, jitter, dice
):
    plain = backoff.seconds(tuple(waits), attempt)
    assert (
        plain
        <= backoff.seconds(tuple(waits), attempt, jitter, dice)
        <= plain * (1 + jitter) * (1 + 1e-9)
    )


def test_a_wait_that_runs_away_stops_at_a_year():
    assert backoff.seconds(lambda attempt: 10**attempt, 300) == backoff.MAX_SECONDS


@pytest.mark.parametrize("answer", [-1, None, "5", True, math.inf, math.nan])
def test_an_invalid_value_of_a_callable_is_an_error(answer):
    with pytest.raises(
        OptionError, match=r"expected backoff\(2\) to give a number of seconds, got"
    ):
        backoff.seconds(lambda _attempt: answer, 2)
