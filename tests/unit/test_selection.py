"""Numbers that a person selects."""

from __future__ import annotations

import pytest

from broker_jobs.core.selection import selected, shown
from broker_jobs.errors import ValidationError


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("7", [7]),
        ("1-3", [1, 2, 3]),
        ("0-10:2", [0, 2, 4, 6, 8, 10]),
        ("0-9:4", [0, 4, 8]),
        ("1,5,8-10", [1, 5, 8, 9, 10]),
        ("8-10, 1, 9", [1, 8, 9, 10]),
        ("1_000-1_002", [1000, 1001, 1002]),
    ],
)
def test_selections(text: str, numbers: list[int]) -> None:
    assert list(selected(text)) == numbers


def test_a_range_stays_a_range() -> None:
    assert selected("0-999_999") == range(1_000_000)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is no number"),
        ("a", "is no number"),
        ("1,,2", "is no number"),
        ("-1", "is no number"),
        ("1_", "is no number"),
        ("1__000", "is no number"),
        ("٣", "is no number"),
        ("9" * 5000, "is no number"),
        ("5-3", "write 3-5"),
        ("1-9:0", "1 or more"),
        ("99999999999", "too large"),
        ("0-99_999_999", "more than"),
        ("0-9_999_998,0-9_999_998", "more than"),
    ],
)
def test_what_is_no_selection_is_named(text: str, said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        selected(text)


def test_numbers_are_shown_as_a_selection() -> None:
    assert shown([3, 1, 2, 7, 9, 10]) == "1-3,7,9-10"
    assert shown(range(4, 8)) == "4-7"
    assert shown([]) == ""
