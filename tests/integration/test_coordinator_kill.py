"""A coordinator that is killed at any moment, and another that goes on from its rows."""

from __future__ import annotations

import asyncio
import random
import sqlite3
from typing import TYPE_CHECKING

import pytest

from broker_jobs.coordinator.verify import verify
from broker_jobs.core.outcome import Cause, Crashed, Failed, Succeeded
from broker_jobs.core.spec import Retry, TaskOptions
from broker_jobs.core.states import JobState, TaskState
from broker_jobs.wire import messages as m
from tests.support.cast import FakeClient, FakeWorker, Work, call, job_chunks, playing, value
from tests.support.coordinator import Ground, Process
from tests.support.inbox import PATIENCE, run

if TYPE_CHECKING:
    from pathlib import Path

    from broker_jobs.core.outcome import Outcome

LAYERS = 25
WIDTH = 20


def graph() -> list[m.Task]:
    """Layers of tasks; each takes the results of two of the layer before, the last one of all of the last layer."""
    tasks = [call(number) for number in range(WIDTH)]
    for layer in range(1, LAYERS):
        first, before = layer * WIDTH, (layer - 1) * WIDTH
        tasks += [call(first + place, before + place, before + (place + 1) % WIDTH) for place in range(WIDTH)]
    last = (LAYERS - 1) * WIDTH
    tasks.append(call(LAYERS * WIDTH, *range(last, last + WIDTH)))
    return tasks


def test_killed_again_and_again_it_records_one_outcome_for_each_task(tmp_path: Path) -> None:
    ground = Ground(tmp_path)
    chance = random.Random(7)
    tasks = graph()
    wrong: list[str] = []
    kills = 0
    started_until_kill = 0
    enough, answered = asyncio.Event(), asyncio.Event()

    def behave(work: Work) -> Outcome:
        nonlocal started_until_kill
        started_until_kill -= 1
        if started_until_kill <= 0:
            enough.set()
        assert isinstance(work.task.work, m.Call)
        given = {key: work.chunk.values.get(key) for key in work.task.work.inputs}
        wrong.extend(f"task {work.task.number} was given {item} for {key}" for key, item in given.items() if item != value(int(key)))
        lot = chance.random()
        if lot < 0.02:
            return Crashed("killed by signal 9", 9)
        if lot < 0.05:
            return Failed(Cause.error, "ValueError: tried too early")
        return Succeeded(value(work.task.number))

    async def kill(first: Process) -> None:
        nonlocal kills, started_until_kill
        coordinator = first
        try:
            while True:
                started_until_kill = chance.randint(5, 40)
                enough.clear()
                await enough.wait()
                await asyncio.sleep(chance.choice([0.0, 0.001, 0.003, 0.01, 0.03]))
                if kills % 5 == 4:  # On a busy machine most of them die before they have answered anything.
                    answered.clear()
                    await answered.wait()
                coordinator.kill()
                kills += 1
                coordinator = Process(ground)
        finally:
            coordinator.kill()

    async def story() -> None:
        async with playing(FakeClient.open(ground.url, ground.signer)) as (client,):
            killing = asyncio.ensure_future(kill(Process(ground)))
            options = TaskOptions(retry=Retry(50, 0.01, 1.0, jitter=0.0), crash_limit=None)
            async with playing(
                FakeWorker.open(ground.url, ground.signer, "worker-1", behave=behave),
                FakeWorker.open(ground.url, ground.signer, "worker-2", behave=behave),
            ) as workers:
                job = await client.submit(job_chunks(tasks, options=options, size=40))
                ended: dict[int, m.TaskInfo] = {}
                async with asyncio.timeout(80):
                    while len(ended) < len(tasks):
                        changes = await client.changes(job, values=True, limit=10_000)
                        answered.set()
                        for task in changes.tasks:
                            if task.number in ended:
                                assert ended[task.number] == task, "what ended does not change"
                            elif task.state is TaskState.succeeded:
                                ended[task.number] = task
                        await asyncio.sleep(0.05)
                killing.cancel()
                await asyncio.gather(killing, return_exceptions=True)
                assert workers[0].seen
        assert not wrong
        assert kills > 5
        assert {number: task.outcome for number, task in ended.items()} == {task.number: Succeeded(value(task.number)) for task in tasks}

    run(story())
    assert verify(ground.store, "t").problems == []
    with sqlite3.connect(tmp_path / "ledger.db") as ledger:
        assert ledger.execute("SELECT state, counts FROM jobs").fetchone() == (JobState.succeeded.value, f'{{"succeeded": {len(tasks)}}}')


def test_sigterm_ends_it_in_order_and_nothing_is_left_in_the_outbox(tmp_path: Path) -> None:
    ground = Ground(tmp_path)

    async def story() -> None:
        async with playing(FakeClient.open(ground.url, ground.signer)) as (client,):
            with Process(ground) as coordinator:
                async with playing(FakeWorker.open(ground.url, ground.signer)):
                    job = await client.submit(job_chunks([call(0), call(1, 0)]))
                    assert (await client.ended(job)).info.state is JobState.succeeded
                assert await asyncio.to_thread(coordinator.stop) == 0

    run(story())
    with sqlite3.connect(tmp_path / "ledger.db") as ledger:
        assert ledger.execute("SELECT count(*) FROM outbox").fetchone() == (0,)


def test_a_second_process_says_who_holds_the_ledger(tmp_path: Path) -> None:
    ground = Ground(tmp_path)

    async def story() -> None:
        with Process(ground) as first:
            async with playing(FakeClient.open(ground.url, ground.signer)) as (client,):
                await client.ask(m.GetWorkers())
            with Process(ground) as second:
                assert await asyncio.to_thread(second.wait) == 1
            assert f"process {first.pid}" in (tmp_path / "coordinator.log").read_text()

    run(story())


@pytest.mark.parametrize("pause", [0.0, 0.3])
def test_a_delay_is_kept_over_a_kill(tmp_path: Path, pause: float) -> None:
    ground = Ground(tmp_path)

    def behave(work: Work) -> Outcome:
        return Failed(Cause.error, "no") if work.task.attempt == 1 else Succeeded(value("yes"))

    async def story() -> None:
        async with playing(FakeClient.open(ground.url, ground.signer)) as (client,):
            with Process(ground) as first:
                async with playing(FakeWorker.open(ground.url, ground.signer, behave=behave)):
                    options = TaskOptions(retry=Retry(2, 0.5, jitter=0.0))
                    job = await client.submit(job_chunks([call(0)], options=options))
                    await client.until(job, lambda info: info.counts.get("retrying") == 1)
                    first.kill()
                    await asyncio.sleep(pause)
                    with Process(ground):
                        changes = await client.ended(job, PATIENCE)
                        assert [(task.state, task.attempt) for task in changes.tasks] == [(TaskState.succeeded, 2)]

    run(story())
