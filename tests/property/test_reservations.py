"""Numbers of open jobs: whoever asks, however often, each submission has a range of its own."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker_jobs.core.job import Reservations


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(1, 4), st.booleans())))
def test_ranges_follow_each_other_and_stay_with_their_submission(asked: list[tuple[str, int, bool]]) -> None:
    found = Reservations()
    known: dict[str, range] = {}
    for key, count, restarted in asked:
        if key in known and len(known[key]) != count:
            with pytest.raises(ValueError, match="this submission has"):
                found.reserve(key, count)
        else:
            numbers = found.reserve(key, count)
            assert known.setdefault(key, numbers) == numbers
            assert len(numbers) == count
        found.check()
        given = [number for numbers in known.values() for number in numbers]
        assert sorted(given) == list(range(found.total)), "each number is given out once, and none is left out"
        if restarted:
            found = Reservations((key, numbers.start, len(numbers)) for key, numbers in reversed(known.items()))
