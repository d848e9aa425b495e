"""Two who want the same row, one in the middle of the other: what was decided on old facts is decided again."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import pytest

from broker_jobs.errors import WrongStatus
from broker_jobs.manager import record as records
from broker_jobs.manager.record import JobRecord, News
from broker_jobs.manager.statuses import ERROR, RUNNING, SUBMITTED, Statuses
from broker_jobs.manager.store import JobStore

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

STATUSES = Statuses()
JOB = JobRecord("1" * 32, "app", "job", "ann", "t", "program", "/w", 1, groups=("g",))


@pytest.fixture
def store(tmp_path: Path) -> JobStore:
    store = JobStore(tmp_path / "manager.db")
    store.add(JOB)
    return store


def meanwhile(
    store: JobStore, quicker: Callable[[JobRecord], JobRecord], slower: Callable[[JobRecord], JobRecord]
) -> Callable[[JobRecord], JobRecord]:
    """A decision in the middle of which somebody else writes his."""
    done = []

    def decide(found: JobRecord) -> JobRecord:
        if not done:
            done.append(store.change(found.id, quicker))
        return slower(found)

    return decide


def test_an_end_that_comes_in_the_middle_stays(store: JobStore) -> None:
    store.change(JOB.id, lambda found: records.executed(found, 1))
    end, late = News(ERROR, 1, "oops"), News(RUNNING, 1)
    decide = meanwhile(store, lambda found: records.heard(found, end, STATUSES, 2), lambda found: records.heard(found, late, STATUSES, 3))
    before, after = store.change(JOB.id, decide)
    assert before is after
    assert (store.get(JOB.id).status, after.message) == (ERROR, "oops")


def test_of_two_who_execute_one_does(store: JobStore) -> None:
    with pytest.raises(WrongStatus):
        store.change(JOB.id, meanwhile(store, lambda found: records.executed(found, 2), lambda found: records.executed(found, 3)))
    found = store.get(JOB.id)
    assert (found.status, found.run, found.executed_ms) == (SUBMITTED, 1, 2)


def test_of_two_who_process_results_one_does(store: JobStore) -> None:
    store.change(JOB.id, lambda found: dataclasses.replace(found, run=1, status=STATUSES.parse("RES"), ended=True, process_results="a.b"))

    def claim(found: JobRecord) -> JobRecord:
        return records.processing(found, 1, once_more=False)

    before, after = store.change(JOB.id, meanwhile(store, claim, claim))
    assert before is after, "the second has claimed nothing"
    assert after.processings == 1


def test_what_became_active_in_the_middle_is_not_deleted(store: JobStore) -> None:
    looks = []

    def check(found: JobRecord) -> None:
        looks.append(found.status)
        if len(looks) == 1:
            store.change(found.id, lambda now: records.executed(now, 2))
        elif found.status == SUBMITTED:
            raise WrongStatus

    with pytest.raises(WrongStatus):
        store.delete(JOB.id, check)
    assert store.get(JOB.id).groups == ("g",)
