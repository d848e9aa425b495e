"""Results that are kept at hand for the tasks that wait for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from broker_jobs.coordinator import results
from broker_jobs.coordinator.results import Results
from broker_jobs.coordinator.store.parts import dump_outcome
from broker_jobs.core.outcome import Cause, Failed, Succeeded
from broker_jobs.core.value import Encoding, Stored
from tests.support.cast import value

if TYPE_CHECKING:
    import pytest


class Rows:
    """Outcomes as the ledger has them."""

    def __init__(self, **outcomes: Succeeded | Failed) -> None:
        self.rows = {int(name[1:]): dump_outcome(outcome) for name, outcome in outcomes.items()}
        self.asked: list[list[int]] = []

    def outcomes(self, job: int, numbers: list[int]) -> dict[int, bytes]:
        assert job == 1
        self.asked.append(list(numbers))
        return {number: self.rows[number] for number in numbers if number in self.rows}


def test_what_has_just_come_is_not_read_again() -> None:
    kept, rows = Results(), Rows()
    kept.keep(1, [(3, Succeeded(value(30))), (4, Succeeded())])
    assert kept.find(rows, 1, [3, 4]) == {3: value(30), 4: value(None)}  # type: ignore[arg-type]
    assert not rows.asked


def test_the_rest_is_in_the_ledger() -> None:
    kept, rows = Results(), Rows(n5=Succeeded(value(50)), n6=Failed(Cause.error, "no"), n7=Succeeded())
    kept.keep(1, [(3, Succeeded(value(30))), (8, Failed(Cause.error, "no"))])
    kept.keep(2, [(5, Succeeded(value("of another job")))])
    found = kept.find(rows, 1, [3, 5, 6, 7, 8, 9])  # type: ignore[arg-type]
    assert found == {3: value(30), 5: value(50), 7: value(None)}
    assert rows.asked == [[5, 6, 7, 8, 9]]


def test_the_oldest_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "MOST_BYTES", 5000)
    kept, rows = Results(), Rows()
    kept.keep(1, [(number, Succeeded(value("x" * 1000))) for number in range(9)])
    assert list(kept.find(rows, 1, range(9))) == [6, 7, 8]  # type: ignore[arg-type]
    kept.keep(1, [(9, Succeeded(Stored(Encoding.pickle, "/values", "job/digest", b"", 10**9)))])
    assert 9 in kept.find(rows, 1, [9]), "what is in the value store takes no room"  # type: ignore[arg-type]
