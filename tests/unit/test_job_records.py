"""The records of a job: one for many that are alike, and next to nothing for those that have succeeded."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace

import pytest

from broker_jobs.core.job import (
    AttemptsSucceeded,
    CancelRequested,
    DirectAdded,
    Duplicate,
    JobMachine,
    NewTask,
    TaskRecord,
    TasksAdded,
    WaitingAdded,
)
from broker_jobs.core.job.records import Records
from broker_jobs.core.spec import Retry
from broker_jobs.core.states import TaskState

S = TaskState
MANY = 10_000


def queued(number: int) -> TaskRecord:
    return TaskRecord(number, state=S.queued, attempt=1)


@pytest.fixture
def records() -> Records:
    """Two runs with a gap between them, and a task alone."""
    records = Records()
    records.add_run(queued(10), 3)
    records.add_run(queued(0), 4)
    records.add(TaskRecord(7, deps=(2,)))
    return records


def test_one_record_stands_for_all(records: Records) -> None:
    assert [number for number in range(-1, 15) if number in records] == [0, 1, 2, 3, 7, 10, 11, 12]
    assert len(records) == 8
    assert dict(records.items()) == {record.number: record for record in records.values()}
    assert records.seen(11) is records.seen(10) is records.get(12)
    assert list(records.own()) == [records[7]]
    records.check()


@pytest.mark.parametrize("number", [-1, 4, 9, 13])
def test_what_is_not_there_is_not_made(records: Records, number: int) -> None:
    assert records.get(number) is records.find(number) is None
    with pytest.raises(KeyError):
        records[number]
    with pytest.raises(KeyError):
        records.seen(number)


@pytest.mark.parametrize(
    ("numbers", "found"),
    [
        ((4, 7), False),
        ((8, 10), False),
        ((13, 20), False),
        ((3, 5), True),
        ((9, 11), True),
        ((12, 20), True),
        ((7, 8), True),
        ((0, 20), True),
    ],
)
def test_some_of_many_are_found(records: Records, numbers: tuple[int, int], found: bool) -> None:
    assert records.any_of(range(*numbers)) is found


def test_what_is_changed_of_one_is_not_changed_of_the_others(records: Records) -> None:
    records[11].state = S.running
    assert [records.seen(number).state for number in (10, 11, 12)] == [S.queued, S.running, S.queued]
    assert records.find(11) is records[11]
    assert {record.number for record in records.own()} == {7, 11}
    records.check()


def test_what_is_changed_of_all_is_not_changed_of_one_that_is_apart(records: Records) -> None:
    records[11].failures = 1
    records.succeed(1, "boot-1")
    found = {tuple(numbers): record for record, numbers in records.alike({S.queued})}
    assert found.keys() == {(11,), (10, 12), (0, 2, 3)}
    found[0, 2, 3].state = S.paused
    assert [records[number].state for number in (0, 1, 2, 3, 10)] == [S.paused, S.succeeded, S.paused, S.paused, S.queued]
    records[12].state = records[10].state = S.running
    assert [numbers for _, numbers in records.alike({S.queued})] == [(11,)]


@pytest.mark.parametrize("began", [False, True])
@pytest.mark.parametrize(
    "execution", ["boot-1", "boot-1-42", "boot-007", "boot-0", "", "0", "12", "a.b", "x-12345678901234567890", "x-1000000000", "x-٣"]
)
def test_of_a_success_the_attempt_and_the_execution_are_kept(records: Records, execution: str, began: bool) -> None:
    if began:
        records[11].state, records[11].attempt, records[11].reason = S.running, 3, "again"
    records.succeed(11, execution)
    records.succeed(12, "another-1")
    assert records[11] == TaskRecord(11, state=S.succeeded, attempt=3 if began else 1, execution=execution)
    assert records.seen(12).execution == "another-1"
    assert {record.number for record in records.own()} == {7}, "it has none of its own"
    records.check()


@pytest.mark.parametrize("change", [{"failures": 1}, {"crashes": 2}, {"isolated": True}])
def test_of_a_success_with_a_story_all_is_kept(records: Records, change: dict[str, int]) -> None:
    for name, value in change.items():
        setattr(records[11], name, value)
    records.succeed(11, "boot-1")
    assert records[11] == replace(TaskRecord(11, state=S.succeeded, attempt=1, execution="boot-1"), **change)  # type: ignore[arg-type]
    records.check()


def test_a_success_is_not_changed(records: Records) -> None:
    records.succeed(11, "boot-1")
    records[11].state = S.queued
    assert records[11].state is S.succeeded


def test_tasks_that_are_restored_share_a_record_where_they_can() -> None:
    other = Retry(max_attempts=2)
    given = [
        *map(queued, range(3)),
        TaskRecord(3, state=S.succeeded, attempt=2, execution="boot-3"),
        TaskRecord(4, state=S.running, attempt=1, execution="boot-4"),
        queued(5),
        TaskRecord(6, state=S.paused, attempt=1, reason="later"),
        TaskRecord(7, state=S.paused, attempt=1, reason="later"),
        TaskRecord(8, state=S.paused, attempt=1, execution="boot-8", reason="later"),
        TaskRecord(9, retry=other, state=S.queued, attempt=1),
        TaskRecord(10, retry=other, crash_limit=1, state=S.queued, attempt=1),
        TaskRecord(12, state=S.queued, attempt=2),
        TaskRecord(13, deps=(12,)),
        TaskRecord(14, state=S.queued, attempt=1, failures=1),
        TaskRecord(15, state=S.succeeded, attempt=2, failures=1, execution="boot-15"),
        TaskRecord(16, after=(12,), state=S.succeeded, attempt=1, execution="boot-16"),
    ]
    for order in (given, given[::-1]):
        records = Records()
        for record in order:
            records.restore(replace(record))
        records.check()
        assert dict(records.items()) == {record.number: record for record in given}
        assert {record.number for record in records.own()} == {4, 8, 13, 14, 15, 16}
    records = Records()
    for record in given:
        records.restore(record)
    shared = [list(numbers) for _, numbers in records.alike({S.queued, S.paused}) if isinstance(numbers, list)]
    assert shared == [[0, 1, 2, 5], [6, 7], [9], [10], [12]]


@pytest.mark.parametrize("direct", [False, True])
@pytest.mark.parametrize("restored", [False, True])
def test_a_large_job_takes_little_memory(direct: bool, restored: bool) -> None:
    machine = JobMachine()
    nothing: list[tuple[int, ...]] = [()] * 1000
    tracemalloc.start()
    try:
        for first in range(0, MANY, 1000):
            numbers = range(first, first + 1000)
            machine.handle(DirectAdded(numbers) if direct else WaitingAdded(numbers, nothing, nothing))
        if restored:
            machine = JobMachine.restore(machine.tasks.values())
        for first in range(0, MANY, 100):
            machine.handle(AttemptsSucceeded([(number, 1, f"boot-{number}") for number in range(first, first + 100)]))
        if restored:
            machine = JobMachine.restore(machine.tasks.values())
        assert machine.counts[S.succeeded] == MANY
        assert tracemalloc.get_traced_memory()[0] < 12 * MANY, "eight bytes for a task, and a little for each thousand"
    finally:
        tracemalloc.stop()


def test_what_is_said_of_one_of_many_names_it() -> None:
    machine = JobMachine()
    machine.handle(DirectAdded(range(5)))
    assert machine.handle(AttemptsSucceeded([(3, 2, "boot-1")])) == (Duplicate(3, 2),)
    machine.handle(CancelRequested(tuple(range(4)), "no more"))
    machine = JobMachine.restore(machine.tasks.values())
    machine.handle(TasksAdded((NewTask(9, deps=(2,)),)))
    assert machine.tasks[9].reason == "task 2 canceled"
    machine.check()
