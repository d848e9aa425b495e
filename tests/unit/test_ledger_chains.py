"""Chains in the ledger: what goes along with a chunk, and what is made of what workers say of it."""

from __future__ import annotations

import contextlib
import dataclasses
import sqlite3
from typing import TYPE_CHECKING

import pytest

from broker_jobs.coordinator.chains import HEADS_PER_SLOT, LONGEST
from broker_jobs.coordinator.results import Results
from broker_jobs.coordinator.store import Lookups
from broker_jobs.core.job import Return
from broker_jobs.core.outcome import Cause, Failed, Succeeded
from broker_jobs.core.spec import TaskOptions
from broker_jobs.core.value import CHUNK_LIMIT
from broker_jobs.wire import messages as m
from tests.support.cast import call, job_chunks, value
from tests.support.ledger_world import World, of_attempt

if TYPE_CHECKING:
    from collections.abc import Iterator

    from broker_jobs.coordinator.store import TaskView

SLOTS = 4


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    step(world)
    yield world
    world.check()
    world.close()


def step(world: World) -> None:
    """The coordinator takes everything that is there."""
    world.batch(range(len(world.inbox)))


def states(world: World, job: str) -> list[str]:
    facts = world.store.look.job(job)
    assert facts is not None
    return [view(world, job, number).state for number in range(facts.total or 0)]


def view(world: World, job: str, number: int) -> TaskView:
    facts = world.store.look.job(job)
    assert facts is not None
    found = world.store.look.task(facts.key, number)
    assert found is not None
    return found


def in_a_row(length: int) -> list[m.Task]:
    return [call(0), *(call(number, number - 1) for number in range(1, length))]


def take(world: World) -> m.Chunk:
    """The worker receives the one chunk that there is."""
    (standing,) = [item for queue in world.queues.values() for item in queue]
    world.queues.clear()
    return standing.chunk


def begun(world: World, tasks: list[m.Task], *, took_ms: int = 0, **job: object) -> m.Chunk:
    """A job whose first chunk has ended, with what then goes out."""
    for chunk in job_chunks(tasks, **job):  # type: ignore[arg-type]
        world.submit(chunk)
    step(world)
    first = take(world)
    assert not first.chain, "nothing is known of its tasks"
    ends = [world.succeed(first, task) for task in first.tasks]
    world.reply(first.job, *(dataclasses.replace(end, ended_ms=end.started_ms + took_ms) for end in ends))
    step(world)
    return take(world)


def numbers(chunk: m.Chunk) -> list[int]:
    return [task.number for task in chunk.chain]


def test_what_follows_a_quick_task_goes_along(world: World) -> None:
    chunk = begun(world, in_a_row(5))
    assert [task.number for task in chunk.tasks] == [1]
    assert numbers(chunk) == [2, 3, 4]
    assert {task.attempt for task in chunk.chain} == {1}
    assert chunk.values == {"0": of_attempt(call(0))}, "the others are with the worker"
    assert states(world, chunk.job) == ["succeeded", "queued", "waiting", "waiting", "waiting"]


def test_a_whole_chain_is_recorded_and_nobody_is_sent_anything(world: World) -> None:
    chunk = begun(world, in_a_row(5))
    ends = [world.succeed(chunk, chunk.tasks[0])]
    for place in range(3):
        ends.append(world.follow(chunk, place, ends[-1].execution))
    world.reply(chunk.job, *ends)
    step(world)
    assert not world.queues
    assert states(world, chunk.job) == ["succeeded"] * 5
    assert [view(world, chunk.job, number).execution for number in range(1, 5)] == [end.execution for end in ends]
    with contextlib.closing(sqlite3.connect(world.folder / "ledger.db")) as rows:
        assert rows.execute("SELECT count(*) FROM tasks").fetchone() == (0,), "tasks that only succeed have no rows of their own"


def test_a_result_that_has_just_come_is_not_read_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(Lookups, "outcomes", read)
    assert begun(world, in_a_row(3)).values == {"0": of_attempt(call(0))}


def test_what_a_worker_does_not_take_up_goes_out_as_ever(world: World) -> None:
    chunk = begun(world, in_a_row(5))
    world.reply(chunk.job, world.succeed(chunk, chunk.tasks[0]))
    step(world)
    again = take(world)
    assert [task.number for task in again.tasks] == [2]
    assert numbers(again) == [3, 4]


def test_what_is_said_to_have_begun_is_sent_to_nobody(world: World) -> None:
    chunk = begun(world, in_a_row(5))
    head = world.succeed(chunk, chunk.tasks[0])
    world.reply(chunk.job, head, world.begin(chunk, 0, head.execution))
    step(world)
    assert not world.queues
    assert states(world, chunk.job) == ["succeeded", "succeeded", "running", "waiting", "waiting"]
    assert view(world, chunk.job, 2).worker == "w"


def test_what_a_lost_worker_had_begun_of_a_chain_goes_out_again(world: World) -> None:
    chunk = begun(world, in_a_row(4))
    head = world.succeed(chunk, chunk.tasks[0])
    world.reply(chunk.job, head, world.begin(chunk, 0, head.execution))
    step(world)
    world.lose_worker()
    world.now += 10
    step(world)
    again = take(world)
    assert [(task.number, task.attempt) for task in again.tasks] == [(2, 2)]
    assert again.isolated


def test_what_vanishes_with_its_worker_is_missed(world: World) -> None:
    chunk = begun(world, in_a_row(4))
    head = world.succeed(chunk, chunk.tasks[0])
    world.reply(chunk.job, head, world.begin(chunk, 0, head.execution))
    step(world)
    while not world.queues:
        world.pass_time()
    assert [(task.number, task.attempt) for task in take(world).tasks] == [(2, 2)]


def test_a_failure_ends_the_chain(world: World) -> None:
    chunk = begun(world, in_a_row(4))
    head = world.succeed(chunk, chunk.tasks[0])
    world.reply(chunk.job, head, world.follow(chunk, 0, head.execution, Failed(Cause.error, "no")))
    step(world)
    assert states(world, chunk.job) == ["succeeded", "succeeded", "failed", "aborted"]


def test_what_followed_an_execution_that_does_not_count_does_not_count_either(world: World) -> None:
    chunk = begun(world, in_a_row(3))
    other = world.succeed(chunk, chunk.tasks[0])
    world.reply(chunk.job, m.Returned(1, 1, Return.redelivered))
    step(world)
    again = take(world)
    world.reply(chunk.job, world.succeed(again, again.tasks[0]))
    step(world)
    last = take(world)
    assert [(task.number, task.attempt) for task in last.tasks] == [(2, 1)]
    wrong = world.follow(chunk, 0, other.execution)
    world.reply(chunk.job, other, dataclasses.replace(wrong, outcome=Succeeded(value("of another value"))))
    world.reply(chunk.job, m.Started(2, 1, "e", world.now_ms, other.execution))
    step(world)
    assert view(world, chunk.job, 2).state == "queued"
    world.reply(chunk.job, world.succeed(last, last.tasks[0]))
    step(world)
    assert states(world, chunk.job) == ["succeeded"] * 3


def test_what_ran_before_the_job_was_paused_counts(world: World) -> None:
    chunk = begun(world, in_a_row(6))
    world.ask(m.PauseTasks(chunk.job, None, "later"))
    step(world)
    head = world.succeed(chunk, chunk.tasks[0])
    second = world.follow(chunk, 0, head.execution)
    third = world.follow(chunk, 1, second.execution)
    world.reply(chunk.job, head, second, third, world.begin(chunk, 2, third.execution))
    step(world)
    assert states(world, chunk.job) == ["succeeded"] * 4 + ["running", "waiting"]
    fourth = dataclasses.replace(world.follow(chunk, 2, third.execution), execution=world.riding[0].execution)
    world.reply(chunk.job, fourth)
    step(world)
    assert states(world, chunk.job) == ["succeeded"] * 5 + ["paused"]
    assert not world.queues


def test_what_was_canceled_meanwhile_is_stopped(world: World) -> None:
    chunk = begun(world, in_a_row(4))
    world.ask(m.CancelTasks(chunk.job, (2,), "enough"))
    step(world)
    head = world.succeed(chunk, chunk.tasks[0])
    world.reply(chunk.job, head, world.begin(chunk, 0, head.execution))
    step(world)
    assert states(world, chunk.job) == ["succeeded", "succeeded", "canceled", "aborted"]


def told(world: World) -> set[tuple[int | None, int | None, bool]]:
    """What a worker that comes now hears to be revoked."""
    return {(each.task, each.attempt, each.unstarted_only) for each in world.ledger.jobs.standing.all()}


def test_results_for_which_nobody_waits_are_not_kept(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[object] = []
    monkeypatch.setattr(Results, "keep", lambda *given: kept.append(given))
    for chunk in job_chunks([call(number) for number in range(300)], size=300):
        world.submit(chunk)
    world.settle([chunk.job])
    assert not kept
    begun(world, in_a_row(2))
    assert kept


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize("asked", [m.CancelTasks, m.PauseTasks])
def test_what_is_called_off_while_it_waits_is_taken_up_by_nobody(world: World, asked: type, restarted: bool) -> None:
    chunk = begun(world, in_a_row(5))
    if restarted:
        world.batch((), confirms=len(world.unconfirmed))
        world.restart()
    world.ask(asked(chunk.job, (3,), "enough"))
    step(world)
    assert (3, 0, True) in told(world)
    assert not {task for task, *_ in told(world)} & {1, 2}


def test_workers_are_told_nothing_of_a_chain_that_ends_by_itself(world: World) -> None:
    chunk = begun(world, in_a_row(5))
    world.reply(chunk.job, world.ended(chunk.tasks[0], Failed(Cause.error, "no")))
    step(world)
    assert states(world, chunk.job) == ["succeeded", "failed", *["aborted"] * 3]
    assert not told(world)


def test_of_what_was_heard_of_nothing_is_called_off(world: World) -> None:
    chunk = begun(world, in_a_row(5))
    head = world.succeed(chunk, chunk.tasks[0])
    world.reply(chunk.job, head, second := world.follow(chunk, 0, head.execution), world.begin(chunk, 1, second.execution))
    step(world)
    assert world.ledger.jobs.live[chunk.job].following == {4}
    world.ask(m.CancelTasks(chunk.job, (3,), "enough"))
    step(world)
    assert {task for task, *_ in told(world)} == {3}
    assert (3, 1, False) in told(world)


def test_of_what_is_released_nothing_is_kept_in_mind(world: World) -> None:
    tasks = [call(number, number - 2) if number > 1 else call(number) for number in range(10)]
    for chunk in job_chunks(tasks):
        world.submit(chunk)
    step(world)
    for _ in range(3):
        standing = [item.chunk for queue in world.queues.values() for item in queue]
        world.queues.clear()
        job = standing[0].job
        world.reply(job, *(world.succeed(chunk, task) for chunk in standing for task in chunk.tasks))
        step(world)
    assert states(world, job) == [*["succeeded"] * 6, "queued", "queued", "waiting", "waiting"]
    assert world.ledger.jobs.live[job].following == {8, 9}


def test_a_reply_that_comes_twice_changes_nothing(world: World) -> None:
    chunk = begun(world, in_a_row(5))
    head = world.succeed(chunk, chunk.tasks[0])
    items = head, world.begin(chunk, 0, head.execution)
    for _ in range(2):
        world.reply(chunk.job, *items)
        step(world)
    assert states(world, chunk.job) == ["succeeded", "succeeded", "running", "waiting", "waiting"]
    assert not world.queues


@pytest.mark.parametrize(
    "tasks",
    [
        pytest.param([call(0), call(1, 0), call(2, 1), call(3, 1)], id="two wait for it"),
        pytest.param([call(0), call(1, 0), call(2, 1, after=[3]), call(3, 0)], id="it waits for another one"),
    ],
)
def test_what_is_no_chain_goes_out_as_ever(world: World, tasks: list[m.Task]) -> None:
    chunk = begun(world, tasks)
    assert numbers(chunk) == []


def test_it_ends_where_tasks_differ(world: World) -> None:
    other = TaskOptions(time_limit=60_000)
    tasks = [call(0), call(1, 0), call(2, 1), call(3, 2, options=1)]
    chunks = [dataclasses.replace(chunk, options=(*chunk.options, other)) for chunk in job_chunks(tasks)]
    for chunk in chunks:
        world.submit(chunk)
    step(world)
    first = take(world)
    world.reply(first.job, world.succeed(first, first.tasks[0]))
    step(world)
    assert numbers(take(world)) == [2]


@pytest.mark.parametrize(("took_ms", "following"), [(10, 4), (24, 1), (60, 0)])
def test_all_of_it_takes_as_long_as_a_chunk_should(world: World, took_ms: int, following: int) -> None:
    assert len(numbers(begun(world, in_a_row(20), took_ms=took_ms))) == following


def test_a_long_one_goes_out_in_parts(world: World) -> None:
    assert numbers(begun(world, in_a_row(LONGEST + 50))) == list(range(2, LONGEST + 2))


def test_what_must_not_start_twice_is_in_no_chain(world: World) -> None:
    for chunk in job_chunks(in_a_row(3), options=TaskOptions(crash_limit=1)):
        world.submit(chunk)
    step(world)
    first = take(world)
    world.reply(first.job, m.Started(0, 1, "e", world.now_ms), dataclasses.replace(world.succeed(first, first.tasks[0]), execution="e"))
    step(world)
    assert not take(world).chain


@pytest.mark.parametrize(("heads", "length", "apart"), [(3, 5, True), (SLOTS * HEADS_PER_SLOT + 1, 40, False), (10, 3, False)])
def test_chains_beside_one_another_go_out_each_for_itself_where_they_are_few_and_long(
    world: World, heads: int, length: int, apart: bool
) -> None:
    tasks = [call(number, number - heads) if number >= heads else call(number) for number in range(heads * length)]
    for chunk in job_chunks(tasks, size=1000):
        world.submit(chunk)
    step(world)
    while any(task.number < heads for queue in world.queues.values() for item in queue for task in item.chunk.tasks):
        for standing in [item for queue in world.queues.values() for item in queue]:
            world.reply(standing.chunk.job, *(world.succeed(standing.chunk, task) for task in standing.chunk.tasks))
        world.queues.clear()
        step(world)
    chunks = [item.chunk for queue in world.queues.values() for item in queue]
    assert {len(chunk.chain) for chunk in chunks} == ({length - 2} if apart else {0})
    assert sum(len(chunk.tasks) for chunk in chunks) == heads


def test_a_chain_is_no_larger_than_a_message(world: World) -> None:
    large = m.Call("f" * 64, value("x" * (CHUNK_LIMIT // 4)))
    tasks = [
        call(0),
        *(m.Task(number, dataclasses.replace(large, inputs=(str(number - 1),)), deps=(number - 1,)) for number in range(1, 9)),
    ]
    chunk = begun(world, tasks, size=1)
    assert 1 <= len(numbers(chunk)) <= 3
