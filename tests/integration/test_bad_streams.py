"""Streams of messages to real daemons on the embedded broker: truncated, changed, twice, mixed, a day old, of the next major version.

What can be read has its effect once; what cannot be read is a dead letter with its reason, and counted; nothing else happens to it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import sqlite3
import time
from typing import TYPE_CHECKING, Final

from broker_jobs.broker import open_broker
from broker_jobs.broker.port import Outgoing, Receipt
from broker_jobs.core.job import Return
from broker_jobs.core.outcome import Cause, Failed, Succeeded
from broker_jobs.core.spec import Lane
from broker_jobs.core.states import JobState, TaskState
from broker_jobs.errors import MessageError
from broker_jobs.wire import messages as m
from broker_jobs.wire.signing import Signer, SigningKey, new_key
from broker_jobs_worker.config import WorkerConfig
from tests.integration.test_worker_daemon import PATIENT, working
from tests.support.cast import FakeClient, FakeWorker, call, job_chunks, playing, value
from tests.support.coordinator import Ground, in_a_thread
from tests.support.daemons import until
from tests.support.inbox import PATIENCE, run
from tests.support.ledger import FakeCoordinator, program
from tests.support.mutations import SEED, Mutator

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from prometheus_client import CollectorRegistry

DAY_MS: Final = 86_400_000
TASKS: Final = 40
FEW: Final = 20

NAMES: Final = ("", "last", "../../etc", "0" * 31, "A" * 32, "\0" * 32)
"""Names that no job has."""

Post = tuple[str, str, bytes]
"""Exchange, routing key and frame."""


def damaged(chance: random.Random, posts: Iterable[Post], signer: Signer) -> list[Post]:
    """Of each frame: one cut off, one changed, one of the next major version. None of them can be read."""
    found = []
    for exchange, key, frame in posts:
        changed = Mutator(chance).octets(frame)
        for body in (frame[: chance.randrange(len(frame))], changed, frame[:2] + bytes((m.VERSION + 1,)) + frame[3:]):
            try:
                signer.open(body)
            except MessageError:
                found.append((exchange, key, body))
    return found


async def publish(url: str, posts: Iterable[Post]) -> None:
    """Send them, in this order, as somebody who is neither client nor worker."""
    vandal = await open_broker(url, name="vandal", timeout=PATIENCE)
    try:
        messages = [Outgoing(*post) for post in posts]
        assert await vandal.publish(messages) == [Receipt.confirmed] * len(messages)
    finally:
        await vandal.close()


def dead_letters(folder: Path) -> list[tuple[bytes, str]]:
    """The dead letters in the file of the broker, and their reasons."""
    with contextlib.closing(sqlite3.connect(f"file:{folder}/queue.db?mode=ro", uri=True)) as database:
        rows = database.execute(
            "SELECT body, headers FROM bodies JOIN messages USING (id) JOIN queues ON queues.id = queue WHERE name = 't.v2.dead'"
        ).fetchall()
    return [(body, json.loads(headers)["reason"]) for body, headers in rows]


def counted(registry: CollectorRegistry, name: str, **labels: str) -> float:
    """A counter of a daemon."""
    return registry.get_sample_value(f"broker_jobs_{name}_total", labels) or 0.0


def refused(registry: CollectorRegistry) -> float:
    """Messages that a daemon has refused."""
    return sum(counted(registry, "dead_letters", reason=reason) for reason in ("decode", "security"))


def of_job(chunk: m.Chunk, name: str) -> m.Chunk:
    """The same of another job."""
    return m.Chunk(name, chunk.chunk, chunk.resource_class, chunk.lane, chunk.submitter, chunk.tasks, chunk.options, chunk.origin)


def check_reasons(found: list[tuple[bytes, str]], bad: list[Post]) -> None:
    """Each of the bad ones is a dead letter once, and says why."""
    assert sorted(body for body, _ in found) == sorted(body for _, _, body in bad)
    for body, reason in found:
        kind, _, words = reason.partition(": ")
        assert kind in {"decode", "security"}
        assert len(words) > 10
        if len(body) > 3 and body[:2] == b"BJ" and body[2] == m.VERSION + 1:
            assert "update this program" in reason


def test_a_coordinator_is_sent_a_job_in_pieces_of_which_most_are_bad(tmp_path: Path) -> None:
    ground = Ground(tmp_path)
    chance = random.Random(SEED)
    tasks = [call(number) if number < TASKS // 2 else call(number, number - TASKS // 2) for number in range(TASKS)]
    chunks = job_chunks(tasks, size=4)
    job = chunks[0].job

    async def story() -> None:
        async with playing(FakeClient.open(ground.url, ground.signer), FakeWorker.open(ground.url, ground.signer)) as (client, worker):
            names = client.names
            whole = [(names.tasks, names.ledger_key(0), ground.signer.seal(chunk, m.Role.submitter)) for chunk in chunks]
            # A day ago: word of attempts that there never were, from a worker that is gone, and a question whose asker went home.
            past = time.time_ns() // 1_000_000 - DAY_MS
            old: list[m.Message] = [m.Request("q", "client-1", m.FindJob("last"), past)]
            stray = m.Reply(job, "worker-0", "boot-0", (m.Started(0, 9, "e0", past), m.Returned(1, 7, Return.lost)), "c")
            late = [
                *((names.tasks, names.ledger_key(0), ground.signer.seal(message, m.Role.submitter)) for message in old),
                (names.replies, "_.0", ground.signer.seal(m.Goodbye("worker-0", "boot-0"), m.Role.worker)),
                (names.replies, "_.0", ground.signer.seal(stray, m.Role.worker)),
            ]
            bad = damaged(chance, whole + late, ground.signer)
            posts = whole * 2 + late + bad
            chance.shuffle(posts)
            await publish(ground.url, posts)
            changes = await client.ended(job)
            assert changes.info.state is JobState.succeeded
            assert {task.number: task.outcome for task in changes.tasks} == {number: Succeeded(value(number)) for number in range(TASKS)}
            assert sorted(work.task.number for work in worker.seen) == list(range(TASKS)), "each ran once"
            # Another outcome for each of them, twice, and the job once more.
            other = Failed(Cause.error, "too late")
            replies = [worker.ended(number, 1, other) for number in range(TASKS)]
            again = [
                (names.replies, "_.0", ground.signer.seal(m.Reply(job, "worker-1", worker.boot, (each,), "c"), m.Role.worker))
                for each in replies
            ]
            worse = damaged(chance, again, ground.signer)
            bad += worse
            posts = again * 2 + whole + worse
            chance.shuffle(posts)
            await publish(ground.url, posts)
            registry = coordinator._metrics.registry  # noqa: SLF001 (as it would be served)
            await asyncio.to_thread(
                until,
                lambda: counted(registry, "duplicates", **{"class": "c"}) >= 2 * TASKS,
                "each other outcome is counted as a duplicate",
            )
            assert await client.ended(job) == changes, "the first outcome stays"
            await asyncio.to_thread(until, lambda: len(dead_letters(tmp_path)) >= len(bad), f"{len(bad)} dead letters")
            check_reasons(dead_letters(tmp_path), bad)
            assert refused(registry) == len(bad)
            assert counted(registry, "duplicates", **{"class": "c"}) == 2 * TASKS
            assert counted(registry, "dropped_messages", reason="late question") == 1
            next_job = await client.submit(job_chunks([call(0)]))
            assert (await client.ended(next_job)).tasks[0].state is TaskState.succeeded

    with in_a_thread(ground.config()) as coordinator:
        run(story())


def test_a_worker_is_sent_chunks_of_which_most_are_bad(tmp_path: Path) -> None:
    key = new_key()
    url = f"sqlite:///{tmp_path}/queue.db"
    chance = random.Random(SEED + 1)
    settings = WorkerConfig(url, "t", SigningKey.parse(key), tmp_path / "spool", name="w1", resources={"cpus": 2}, timing=PATIENT)
    stranger = Signer("t", SigningKey.parse(new_key()))

    async def story() -> None:
        async with FakeCoordinator(url, key) as coordinator:
            async with working(settings) as daemon:
                await coordinator.until(coordinator.hellos, "hello")
                await coordinator.leave_dead_letters()
                names, signer = coordinator.names, coordinator.signer
                chunks = [coordinator.chunk(program(number, "true")) for number in range(FEW)]
                place = names.ready, names.task_key(chunks[0].resource_class, Lane.normal, 0)
                whole = [(*place, signer.seal(chunk, m.Role.coordinator)) for chunk in chunks]
                # A day ago: other tasks were to stop, another boot was in a team, and a coordinator came up.
                old: list[m.Message] = [
                    m.Revoked((m.Revocation(coordinator.job, 10**6, 1, "a day ago"),)),
                    m.TeamAsked("w1", "another boot", None),
                    m.HelloAsked("coordinator-0"),
                ]
                control = [(names.control, "w1", signer.seal(message, m.Role.coordinator)) for message in old]
                foreign = [(*place, stranger.seal(chunk, m.Role.coordinator)) for chunk in chunks[:5]]
                nowhere = [
                    (*place, signer.seal(of_job(chunk, name), m.Role.coordinator)) for chunk, name in zip(chunks, NAMES, strict=False)
                ]
                bad = [*damaged(chance, whole + control, signer), *foreign, *nowhere]
                posts = whole * 2 + control + bad
                chance.shuffle(posts)
                await publish(url, posts)
                await coordinator.until(lambda: all(coordinator.items(m.Ended, number) for number in range(FEW)), "each has ended")
                assert all(isinstance(item, m.Ended) and item.outcome == Succeeded() for item in coordinator.items(m.Ended))
                registry = daemon._metrics.registry  # noqa: SLF001 (as it would be served)
                await asyncio.to_thread(until, lambda: len(dead_letters(tmp_path)) >= len(bad), f"{len(bad)} dead letters")
                check_reasons(dead_letters(tmp_path), bad)
                assert refused(registry) == len(bad)
                await coordinator.run(program(FEW, "true"))
                await coordinator.until_ended(FEW)
            assert not await coordinator.unsettled(), "all was acknowledged"

    run(story())
