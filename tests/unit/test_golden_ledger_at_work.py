"""A ledger in the middle of its work, of each released version: it is opened and gone on with for ever.

Files of released versions are never edited. A new version gets one of its own: ``python -m tests.unit.test_golden_ledger_at_work VERSION``
writes it, and refuses to write another over it.
"""

from __future__ import annotations

import dataclasses
import shutil
import sqlite3
import sys
from pathlib import Path

import pytest

from broker_jobs.core.job import Return
from broker_jobs.core.outcome import Cause, Failed, Succeeded
from broker_jobs.core.spec import Retry, TaskOptions
from broker_jobs.core.states import JobState, TaskState
from broker_jobs.wire import messages as m
from tests.support.cast import call, job_chunks, program, value
from tests.support.ledger_world import World

GOLDEN = Path(__file__).parents[1] / "golden"
ENDED, LIVE, INCOMPLETE, EARLY = (f"0190f3a2b4c57d6e8f90a1b2{number:08x}" for number in (1, 2, 3, 4))
SUBMITTED = 900_000


def chunks(job: str, tasks: list[m.Task], **options: object) -> list[m.Chunk]:
    """A job that was submitted at a fixed time."""
    first, *others = job_chunks(tasks, job=job, **options)  # type: ignore[arg-type]
    assert first.header is not None
    return [dataclasses.replace(first, header=dataclasses.replace(first.header, submitted_ms=SUBMITTED)), *others]


def fill(world: World) -> None:
    """A ledger in which there is something of everything."""

    def step() -> None:
        world.batch(range(len(world.inbox)), confirms=len(world.unconfirmed))

    def work() -> None:
        world.work_all()
        step()

    step()
    tasks = [call(0), program(1, "sort", deps=[0])]
    for chunk in chunks(ENDED, tasks, tags=("a=b", "nightly"), idempotency_key="once", user="somebody", name="ended"):
        world.submit(chunk)
    step()
    work()
    work()
    options = TaskOptions(retry=Retry(3, 60.0, jitter=0.0), priority=2, env=(("N", "3"),))
    for chunk in chunks(LIVE, [*(call(number) for number in range(4)), call(4, 0), call(5, 1)], options=options, max_fails=3):
        world.submit(chunk)
    step()
    given = {task.number: (item.chunk, task) for queue in world.queues.values() for item in queue for task in item.chunk.tasks}
    world.queues.clear()
    ended = m.Ended(0, 1, "e.0", Succeeded(value("zero")), 1_000_000, 1_000_500, m.Output(b"printed", 7), m.Output())
    world.reply(LIVE, m.Started(0, 1, "e.0", 1_000_000), ended)
    world.reply(LIVE, world.ended(given[1][1], Failed(Cause.exit_code, "exit code 3", exit_code=3)))
    world.reply(LIVE, m.Started(2, 1, "e.2", 1_000_100), m.Taken(2, 1, "e.2"), m.Progress(2, 1, 0.5, "half"))
    world.reply(LIVE, m.Returned(3, 1, Return.redelivered))
    step()
    incomplete = chunks(INCOMPLETE, [call(0, 1), call(1)], size=1)[0]
    world.submit(incomplete)
    (early,) = chunks(EARLY, [call(0)])
    world.reply(EARLY, world.ended(early.tasks[0], Succeeded(value("early"))))
    world.batch(range(len(world.inbox)))


@pytest.mark.parametrize("version", ["0.1.0"])
def test_a_ledger_of_an_older_version_is_gone_on_with(version: str, tmp_path: Path) -> None:
    shutil.copy(GOLDEN / version / "ledger-at-work.db", tmp_path / "ledger.db")
    world = World(folder=tmp_path)
    world.check()
    look = world.store.look
    ended = look.job(ENDED)
    assert ended is not None
    assert (ended.name, ended.user, ended.tags, ended.idempotency_key) == ("ended", "somebody", ("a=b", "nightly"), "once")
    assert (ended.state, ended.counts, ended.submitted_ms) == (JobState.succeeded, {TaskState.succeeded: 2}, SUBMITTED)
    live = world.ledger.jobs.live[LIVE]
    assert {number: record.state.value for number, record in live.machine.tasks.items()} == {
        0: "succeeded",
        1: "retrying",
        2: "running",
        3: "queued",
        4: "queued",
        5: "waiting",
    }
    assert live.taken == {2}
    assert live.machine.tasks[3].isolated
    assert live.shared[0].options == TaskOptions(retry=Retry(3, 60.0, jitter=0.0), priority=2, env=(("N", "3"),))
    assert world.ledger.jobs.live[INCOMPLETE].machine.total is None
    assert look.early_jobs()[0] == {EARLY}
    assert {worker.name for worker in look.workers()} == {"w"}
    assert len(look.classes()) == 1
    standing = [task.number for queue in world.queues.values() for item in queue for task in item.chunk.tasks]
    assert sorted(standing) == [3, 4], "what was not confirmed is published again"
    # And it goes on: the taken task is lost, the delayed one is due, the incomplete job is sealed.
    world.submit(chunks(INCOMPLETE, [call(0, 1), call(1)], size=1)[1])
    world.submit(chunks(EARLY, [call(0)])[0])
    world.now += 100
    world.settle([LIVE, INCOMPLETE, EARLY])
    assert {look.job(job).state for job in (LIVE, INCOMPLETE, EARLY)} == {JobState.succeeded}  # type: ignore[union-attr]
    world.close()


def _write(version: str) -> None:
    target = GOLDEN / version / "ledger-at-work.db"
    if target.exists():
        raise SystemExit(f"{target} is there; that of a released version is never edited")
    world = World()
    fill(world)
    world.store.close()
    with sqlite3.connect(world.folder / "ledger.db", isolation_level=None) as ledger:
        ledger.execute("PRAGMA journal_mode=DELETE")
        ledger.execute("VACUUM")
    shutil.copy(world.folder / "ledger.db", target)
    shutil.rmtree(world.folder)


if __name__ == "__main__":
    _write(sys.argv[1])
