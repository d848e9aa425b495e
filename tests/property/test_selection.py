"""What is shown of numbers selects them again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from broker_jobs.core.selection import selected, shown


@given(st.sets(st.integers(0, 200), min_size=1))
def test_shown_numbers_select_themselves(numbers: set[int]) -> None:
    assert list(selected(shown(tuple(numbers)))) == sorted(numbers)


@given(st.integers(0, 1000), st.integers(0, 50), st.integers(1, 20))
def test_a_range_with_a_step_has_both_bounds_where_they_fit(first: int, steps: int, step: int) -> None:
    found = selected(f"{first}-{first + steps * step}:{step}")
    assert (found[0], found[-1], len(found)) == (first, first + steps * step, steps + 1)
