"""Tasks in packs: what is written for them, and when they get rows of their own."""

from __future__ import annotations

import dataclasses
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from broker_jobs.coordinator import works
from broker_jobs.coordinator.store import packs
from broker_jobs.coordinator.window import WINDOW
from broker_jobs.core.outcome import Succeeded
from broker_jobs.core.value import CHUNK_LIMIT
from broker_jobs.wire import messages as m
from broker_jobs.wire.codec import decode_part
from tests.support.cast import FUNCTION, call, job_chunks, value
from tests.support.ledger_world import SIGNER, World

if TYPE_CHECKING:
    from collections.abc import Iterator

OF_TASKS = ("tasks", "specs", "outcomes", "packs", "moves", "successes", "options", "blobs", "chunks", "uses")


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


def submit(world: World, *chunks: m.Chunk) -> None:
    for chunk in chunks:
        world.submit(chunk)
    step(world)


def rows(world: World, *tables: str) -> tuple[int, ...]:
    """How many there are."""
    with closing(sqlite3.connect(world.folder / "ledger.db")) as ledger:
        return tuple(ledger.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in tables)


def good(world: World, chunk: m.Chunk, *numbers: int) -> list[m.ReplyItem]:
    return [world.ended(task, Succeeded(value(task.number))) for task in chunk.tasks if task.number in numbers]


def test_tasks_that_come_and_succeed_together_are_one_row_and_their_reply_another(world: World) -> None:
    (chunk,) = job_chunks([call(number) for number in range(50)], direct=True)
    submit(world, chunk)
    assert rows(world, "packs", "tasks", "specs") == (1, 0, 0)
    world.reply(chunk.job, *good(world, chunk, *range(50)))
    step(world)
    assert rows(world, "packs", "successes", "tasks", "specs", "outcomes") == (1, 1, 0, 0, 0)
    assert not world.ledger.jobs.live


def test_all_tasks_of_a_pack_get_rows_when_one_of_them_does_something_else(world: World) -> None:
    (chunk,) = job_chunks([call(number) for number in range(5)], direct=True)
    submit(world, chunk)
    world.reply(chunk.job, *good(world, chunk, 0, 4))
    step(world)
    world.reply(chunk.job, m.Started(2, 1, "e.2", world.now_ms))
    step(world)
    assert rows(world, "packs", "tasks", "specs", "outcomes") == (0, 5, 5, 2)
    facts = world.store.look.job(chunk.job)
    assert facts is not None
    assert [view.state for _, view in sorted(world.store.look.views(facts.key, range(5)).items())] == [
        "succeeded",
        "queued",
        "running",
        "queued",
        "succeeded",
    ]
    (task,) = (task for task in world.ledger.jobs.live[chunk.job].tasks.values() if task.worker)
    assert task.size == len(world.store.look.specs(facts.key, [2])[2])


def test_what_was_asked_of_all_tasks_is_not_done_to_those_that_came_later(world: World) -> None:
    first, second = job_chunks([call(number) for number in range(4)], size=2, direct=True)
    submit(world, first)
    world.ask(m.PauseTasks(first.job, None, "later"))
    world.ask(m.ResumeTasks(first.job))
    world.submit(second)
    world.reply(first.job, m.Started(2, 1, "e.2", world.now_ms))
    step(world)
    facts = world.store.look.job(first.job)
    assert facts is not None
    views = world.store.look.views(facts.key, range(4))
    assert [(views[number].state, views[number].attempt) for number in range(4)] == [
        ("queued", 2),
        ("queued", 2),
        ("running", 1),
        ("queued", 1),
    ]


@pytest.mark.parametrize("waits", [False, True])
@pytest.mark.parametrize("broken", [False, True])
def test_nothing_is_left_of_a_job_that_is_forgotten(world: World, broken: bool, waits: bool) -> None:
    first, second = job_chunks([call(number) for number in range(4)], size=2, direct=not waits, ephemeral=True)
    submit(world, first, second)
    step(world)
    world.reply(first.job, *good(world, first, 0), *([m.Started(1, 1, "e.1", world.now_ms)] if broken else []))
    step(world)
    world.ask(m.ForgetJobs((first.job,)))
    step(world)
    assert rows(world, *OF_TASKS) == (0,) * len(OF_TASKS)


def test_what_waits_for_others_in_a_chunk_that_is_under_way_is_in_no_pack(world: World) -> None:
    submit(world, *job_chunks([call(0), call(1, 0), call(2, after=[0])], size=3, direct=True))
    assert rows(world, "packs", "tasks") == (0, 3)


def test_what_waits_in_the_ledger_stays_one_row_and_what_it_does_together_is_one_each(world: World) -> None:
    (chunk,) = job_chunks([call(0), *(call(number, 0) for number in range(1, 9))])
    submit(world, chunk)
    step(world)
    assert rows(world, "packs", "moves", "tasks", "specs") == (1, 1, 0, 0)
    facts = world.store.look.job(chunk.job)
    assert facts is not None
    assert [view.state for _, view in sorted(world.store.look.views(facts.key, range(3)).items())] == ["queued", "waiting", "waiting"]
    world.settle([chunk.job])
    assert not world.ledger.jobs.live
    assert rows(world, "packs", "tasks", "specs", "outcomes") == (1, 0, 0, 0)


def test_a_job_that_waits_is_paused_resumed_and_canceled_by_a_row_each(world: World) -> None:
    count = 500
    (chunk,) = job_chunks(
        [call(0), *(call(number, 0) for number in range(1, 9)), *(call(number) for number in range(9, count))], size=count
    )
    submit(world, chunk)
    step(world)
    (moved,) = rows(world, "moves")
    world.ask(m.PauseTasks(chunk.job, None, "later"))
    step(world)
    world.check()
    world.ask(m.ResumeTasks(chunk.job))
    step(world)
    world.check()
    world.ask(m.CancelTasks(chunk.job, None, "enough"))
    step(world)
    facts = world.store.look.job(chunk.job)
    assert facts is not None
    assert facts.counts == {"canceled": count}
    assert {view.reason for view in world.store.look.views(facts.key, range(count)).values()} == {"enough"}
    assert rows(world, "packs", "tasks", "specs") == (1, 0, 0)
    # What stands in chunks is told apart by these.
    assert rows(world, "moves")[0] - moved < 3 * (WINDOW + 2)


@pytest.mark.parametrize("at_once", [3, 1000])
def test_changes_of_tasks_in_packs_are_read_in_parts_and_none_is_left_out(
    world: World, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packs, "_AT_ONCE", at_once)
    (chunk,) = job_chunks([call(0), *(call(number, 0) for number in range(1, 40))])
    submit(world, chunk)
    facts = world.store.look.job(chunk.job)
    assert facts is not None
    seen: dict[int, str] = {}
    since = 0
    for _ in range(3):
        world.work_all()
        step(world)
        while views := world.store.look.changes(facts.key, since, 7, None):
            assert len(views) <= 7
            assert since < views[0].changed
            since = views[-1].changed
            seen.update((view.number, view.state) for view in views)
        assert seen == {number: view.state for number, view in world.store.look.views(facts.key, range(40)).items()}
    # Tasks of the first pack have gone on, those of the second have not: who begins to read sees these before the others, and none twice.
    graph = [call(0), *(call(number, 0) for number in range(1, 20)), *(call(number, 19) for number in range(20, 40))]
    chunk, other = job_chunks(graph, size=20)
    submit(world, chunk, other)
    world.reply(chunk.job, *good(world, chunk, 0))
    step(world)
    world.reply(chunk.job, *good(world, chunk, *range(1, 5), *range(10, 18, 2)))
    step(world)
    facts = world.store.look.job(chunk.job)
    assert facts is not None
    read: list[tuple[int, int]] = []
    while views := world.store.look.changes(facts.key, read[-1][0] if read else 0, 5, None):
        read += [(view.changed, view.number) for view in views]
    assert read == sorted((view.changed, view.number) for view in world.store.look.views(facts.key, range(40)).values())
    for limit in (1000, 39):
        first = [view.number for view in world.store.look.changes(facts.key, 0, limit, None)]
        assert len(first) == len(set(first)) == min(limit, 40), "each task once"


def test_large_tasks_of_a_pack_are_published_in_parts(world: World) -> None:
    large = [dataclasses.replace(call(number), work=m.Call(FUNCTION, value(bytes([number]) * 200_000))) for number in range(100)]
    submit(world, *job_chunks(large))
    step(world)
    chunks = [standing.chunk for queue in world.queues.values() for standing in queue]
    assert all(len(chunk.tasks) * 200_000 <= CHUNK_LIMIT for chunk in chunks)
    assert [task for chunk in chunks for task in chunk.tasks] == large[: sum(len(chunk.tasks) for chunk in chunks)]


def test_tasks_that_have_come_before_come_once(world: World) -> None:
    first, _ = job_chunks([call(number) for number in range(6)], size=3)
    submit(world, first, dataclasses.replace(first, chunk="1", header=None, tasks=tuple(call(number) for number in range(2, 5))))
    assert rows(world, "packs", "tasks") == (1, 2)
    live = world.ledger.jobs.live[first.job]
    assert [(number, live.tasks[number].pack) for number in range(5)] == [(0, 0), (1, 0), (2, 0), (3, None), (4, None)]


def test_jobs_do_their_own_work(world: World) -> None:
    jobs = [job_chunks([dataclasses.replace(call(0), work=m.Call(FUNCTION, value(what)))])[0] for what in ("one", "other")]
    submit(world, *jobs)
    step(world)
    sent = {standing.chunk.job: standing.chunk.tasks for queue in world.queues.values() for standing in queue}
    assert sent == {job.job: job.tasks for job in jobs}


def test_a_task_of_any_block_of_a_pack_is_found(world: World) -> None:
    count = 2 * packs.BLOCK + 7
    tasks = [dataclasses.replace(call(number), work=m.Call(FUNCTION, value(number))) for number in range(count)]
    (chunk,) = job_chunks(tasks, size=count)
    submit(world, chunk)
    facts = world.store.look.job(chunk.job)
    assert facts is not None
    for number in (0, packs.BLOCK - 1, packs.BLOCK, count - 1):
        assert {one: decode_part(m.Task, spec) for one, spec in world.store.look.specs(facts.key, [number]).items()} == {
            number: tasks[number]
        }


def test_a_task_that_waits_is_read_again_where_it_is_not_at_hand(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(works, "MOST_BYTES", 0)
    chunks = job_chunks([call(0), call(1, 0), call(2, 1)], size=1)
    submit(world, *chunks)
    world.settle([chunks[0].job])
    facts = world.store.look.job(chunks[0].job)
    assert facts is not None
    assert facts.counts == {"succeeded": 3}


def test_a_job_that_ran_in_packs_runs_again(world: World) -> None:
    (chunk,) = job_chunks([call(number) for number in range(3)], direct=True)
    submit(world, chunk)
    world.reply(chunk.job, *good(world, chunk, 0, 1, 2))
    step(world)
    new = "0190f3a2b4c57d6e8f90a1b200000009"
    world.ask(m.ResubmitJob(chunk.job, new, (1,), everything=True))
    step(world)
    facts = world.store.look.job(new)
    assert facts is not None
    assert facts.counts == {"succeeded": 2, "queued": 1}
    live = world.ledger.jobs.live[new]
    assert live.tasks[1].size == len(world.store.look.specs(facts.key, [1])[1])
    assert set(world.store.look.outcomes(facts.key, range(3))) == {0, 2}


def test_late_news_of_a_job_that_has_ended_is_looked_up_at_once(world: World) -> None:
    (chunk,) = job_chunks([call(number) for number in range(3)], direct=True)
    submit(world, chunk)
    items = good(world, chunk, 0, 1, 2)
    world.reply(chunk.job, *items)
    step(world)
    world.reply(chunk.job, *items, *good(world, chunk, 1))
    with world.store.transaction():
        world.ledger.begin(world.now, world.now_ms)
        message = SIGNER.open(world.inbox.pop()[2]).message
        assert isinstance(message, m.Reply)
        world.ledger.take(message)
        effects = world.ledger.finish()
    assert effects.counted.duplicates == {"class": 1}, "the same news again is no duplicate, another execution is one"
