"""Many of a class at once are as if each had been made by itself."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, dataclass, field
from itertools import repeat

import pytest

from broker_jobs.core.many import many
from broker_jobs.core.outcome import Succeeded
from broker_jobs.wire.messages import Ended


@dataclass(frozen=True, slots=True)
class Picky:
    """It looks at what it is given."""

    number: int

    def __post_init__(self) -> None:
        assert self.number


@dataclass(frozen=True, slots=True)
class Listing:
    """Each has a list of its own."""

    number: int
    items: list[int] = field(default_factory=list)


def test_they_are_as_those_that_were_made_one_by_one() -> None:
    made = many(Ended, range(3), repeat(1), ["a", "b", "c"], many(Succeeded, [None] * 3), (5, 6, 7), (6, 7, 8))
    assert made == [Ended(number, 1, "abc"[number], Succeeded(), 5 + number, 6 + number) for number in range(3)]
    assert [type(each) for each in made] == [Ended] * 3
    assert len(set(made)) == 3
    with pytest.raises(FrozenInstanceError):
        made[0].task = 1  # type: ignore[misc]


def test_none_are_made_of_nothing() -> None:
    assert many(Succeeded, ()) == []


def test_what_is_made_by_its_own_init_is_not_made_so() -> None:
    with pytest.raises(TypeError, match="Picky"):
        many(Picky, [0])


def test_what_has_no_default_must_be_given() -> None:
    with pytest.raises(TypeError, match=r"Listing\.items"):
        many(Listing, [1])
    assert many(Listing, [1], [[2]]) == [Listing(1, [2])]
