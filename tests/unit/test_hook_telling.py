"""What a coordinator's plugins are told: stories of the ledger."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from broker_jobs.coordinator import telling
from broker_jobs.core.job import Return
from broker_jobs.core.outcome import Cause, Failed, Succeeded
from broker_jobs.core.spec import Retry, TaskOptions
from broker_jobs.hooks.facts import JobNow, TaskNow
from broker_jobs.wire import messages as m
from tests.support.cast import call, job_chunks
from tests.support.ledger_world import World

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    step(world)
    yield world
    world.check()
    world.close()


def step(world: World) -> None:
    world.batch(range(len(world.inbox)))


def submit(world: World, chunks: list[m.Chunk]) -> str:
    for chunk in chunks:
        world.submit(chunk)
    step(world)
    return chunks[0].job


def take(world: World) -> m.Chunk:
    (chunk,) = [item.chunk for queue in world.queues.values() for item in queue]
    world.queues.clear()
    return chunk


def told(world: World) -> list[tuple[object, ...]]:
    """What was told since the last look, shortly."""
    found = [
        (moment.hook, moment.of.number, moment.of.name) if isinstance(moment.of, TaskNow) else (moment.hook, moment.of.state)
        for moment in world.moments
    ]
    world.check()
    world.moments.clear()
    return found


def test_a_task_and_its_job(world: World) -> None:
    job = submit(world, job_chunks([call(0, name="first"), call(1, 0, name="second")]))
    chunk = take(world)
    assert told(world) == []
    world.reply(job, m.Started(0, 1, "e.1", world.now_ms))
    step(world)
    assert told(world) == [("on_task_started", 0, "first")]
    world.reply(job, world.ended(chunk.tasks[0], Failed(Cause.error, "no")))
    step(world)
    (failed, killed, complete) = world.moments
    assert isinstance(failed.of, TaskNow)
    assert isinstance(complete.of, JobNow)
    assert (failed.of.reason, failed.of.attempt, failed.of.worker) == ("no", 1, "w")
    assert (complete.of.id, complete.of.name, complete.of.counts) == (job, "job", {"failed": 1, "aborted": 1})
    assert [moment.hook for moment in (failed, killed, complete)] == ["on_task_failed", "on_task_killed", "on_complete"]


def test_an_end_without_a_start_and_a_retry(world: World) -> None:
    job = submit(world, job_chunks([call(0, name="t")], options=TaskOptions(retry=Retry(2, 1.0, jitter=0.0))))
    world.reply(job, world.ended(take(world).tasks[0], Failed(Cause.error, "no")))
    step(world)
    assert told(world) == [("on_task_started", 0, "t")]
    world.now += 1.1
    step(world)
    second = take(world)
    world.reply(job, m.Started(0, 2, "e.2", world.now_ms), world.ended(second.tasks[0], Succeeded()))
    step(world)
    assert told(world) == [("on_task_succeeded", 0, "t"), ("on_complete", "succeeded")]


def test_after_a_restart_nothing_is_told_twice(world: World) -> None:
    job = submit(world, job_chunks([call(0, name="t")]))
    chunk = take(world)
    world.reply(job, m.Started(0, 1, "e.1", world.now_ms))
    step(world)
    assert told(world) == [("on_task_started", 0, "t")]
    world.batch((), confirms=len(world.unconfirmed))
    world.restart()
    world.reply(job, m.Started(0, 1, "e.9", world.now_ms), m.Returned(0, 1, Return.lost))
    step(world)
    assert told(world) == []
    again = take(world)
    assert again.tasks[0].attempt == 2
    world.reply(job, world.ended(again.tasks[0], Succeeded()))
    world.reply(job, world.ended(chunk.tasks[0], Succeeded()))
    step(world)
    assert told(world) == [("on_task_succeeded", 0, "t"), ("on_complete", "succeeded")]


def test_a_job_that_is_canceled_at_once_and_whose_rest_comes_later(world: World) -> None:
    first, second, third = job_chunks([call(number, name=f"t{number}") for number in range(30)], size=10)
    submit(world, [first])
    world.ask(m.CancelTasks(first.job, reason="no"))
    step(world)
    assert told(world) == [*(("on_task_killed", number, f"t{number}") for number in range(10)), ("on_complete", "canceled")]
    submit(world, [second, third, second])
    assert told(world) == [("on_task_killed", number, f"t{number}") for number in range(10, 30)]


def test_calls_concern_their_client_alone(world: World) -> None:
    job = submit(world, job_chunks([call(0)], ephemeral=True))
    world.reply(job, world.ended(take(world).tasks[0], Succeeded()))
    step(world)
    assert told(world) == []


def test_what_is_too_much_for_a_batch_is_dropped_and_counted(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telling, "MOST", 7)
    job = submit(world, job_chunks([call(number) for number in range(20)], size=20))
    world.ask(m.CancelTasks(job, reason="no"))
    step(world)
    assert len(told(world)) == 8, "the end of the job is told all the same"
    assert world.ledger.telling is not None
    assert world.ledger.telling.dropped == 13
