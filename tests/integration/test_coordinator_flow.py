"""A real coordinator on the embedded broker; a client and a worker that only speak the wire."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import TYPE_CHECKING

import pytest

from broker_jobs.broker.port import Outgoing
from broker_jobs.config import sqlite_url
from broker_jobs.coordinator.ledger import Ledger
from broker_jobs.core.job import Return
from broker_jobs.core.outcome import Cause, Crashed, Failed, Succeeded
from broker_jobs.core.quantities import UNIT
from broker_jobs.core.request import Request
from broker_jobs.core.resource_class import class_name
from broker_jobs.core.resources import Resources
from broker_jobs.core.spec import NEVER_START_TWICE, Lane, Retry, TaskOptions
from broker_jobs.core.states import JobState, TaskState
from broker_jobs.core.value import Encoding, Inline, Stored
from broker_jobs.data.store import fetch
from broker_jobs.errors import IllegalTransition, LedgerRefused
from broker_jobs.ids import new_job_id
from broker_jobs.wire import messages as m
from broker_jobs.wire.signing import Signer, SigningKey, new_key
from tests.support.cast import FakeClient, FakeWorker, Work, call, job_chunks, playing, program, succeed, value
from tests.support.coordinator import Ground, in_a_thread
from tests.support.inbox import PATIENCE, run

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from pathlib import Path

    from broker_jobs.core.outcome import Outcome


@pytest.fixture
def ground(tmp_path: Path) -> Ground:
    return Ground(tmp_path)


def play(ground: Ground, story: Coroutine[object, object, None], **options: object) -> None:
    with in_a_thread(ground.config(**options)):
        run(story)


def states(changes: m.Changes) -> dict[int, TaskState]:
    return {task.number: task.state for task in changes.tasks}


def results(changes: m.Changes) -> dict[int, object]:
    return {task.number: task.outcome.value if isinstance(task.outcome, Succeeded) else task.outcome for task in changes.tasks}


def test_a_graph_runs_in_order_and_values_travel(ground: Ground) -> None:
    async def story() -> None:
        async with playing(FakeClient.open(ground.url, ground.signer), FakeWorker.open(ground.url, ground.signer)) as (client, worker):
            job = await client.submit(job_chunks([call(0), call(1, 0), call(2, 0, 1), program(3, "true", deps=[2])], name="graph"))
            changes = await client.ended(job)
            assert changes.info.state is JobState.succeeded
            assert changes.info.counts == {"succeeded": 4}
            assert results(changes) == {0: value(0), 1: value(1), 2: value(2), 3: None}
            assert [work.task.number for work in worker.seen] == [0, 1, 2, 3]
            assert [dict(work.chunk.values) for work in worker.seen] == [{}, {"0": value(0)}, {"0": value(0), "1": value(1)}, {}]
            assert {task.worker for task in changes.tasks} == {"worker-1"}
            news = [await asyncio.wait_for(client.news.get(), PATIENCE)]
            while not (isinstance(news[-1], m.JobNews) and news[-1].info.state is JobState.succeeded):
                news.append(await asyncio.wait_for(client.news.get(), PATIENCE))

    play(ground, story())


def test_chunks_come_in_any_order_and_twice(ground: Ground) -> None:
    async def story() -> None:
        async with playing(FakeClient.open(ground.url, ground.signer), FakeWorker.open(ground.url, ground.signer)) as (client, worker):
            chunks = job_chunks([call(0, 5), call(1), call(2, 1), call(3), call(4, 3), call(5)], size=2)
            first, second, third = chunks
            await client.submit([third, second, third])
            found = await client.until(first.job, lambda info: info.counts.get("succeeded") == 3)
            assert (found.info.incomplete, found.info.total) == (True, 6)
            await client.submit([first, second, third])
            changes = await client.ended(first.job)
            assert set(states(changes).values()) == {TaskState.succeeded}
            await client.submit(chunks)
            assert await client.ended(first.job) == changes
            assert sorted(work.task.number for work in worker.seen) == [0, 1, 2, 3, 4, 5]

    play(ground, story())


def test_a_reply_that_comes_before_its_chunk_is_kept(ground: Ground) -> None:
    async def story() -> None:
        async with playing(FakeClient.open(ground.url, ground.signer), FakeWorker.open(ground.url, ground.signer)) as (client, worker):
            chunks = job_chunks([call(0), call(1, 0)], submitter="client-1")
            direct = dataclasses.replace(chunks[0], direct=True, tasks=(call(0),), seal=None)
            rest = dataclasses.replace(chunks[0], chunk="1", tasks=(call(1, 0),), header=None, seal=m.Seal(2, 2))
            await worker.reply(direct.job, worker.ended(0, 1, Succeeded(value("early"))))
            await client.submit([rest, direct])
            changes = await client.ended(direct.job)
            assert results(changes) == {0: value("early"), 1: value(1)}

    play(ground, story())


def test_direct_chunks_whose_class_is_new_are_not_lost(ground: Ground) -> None:
    async def story() -> None:
        async with playing(FakeClient.open(ground.url, ground.signer), FakeWorker.open(ground.url, ground.signer)) as (client, worker):
            job = await client.submit(job_chunks([call(number) for number in range(5)], direct=True))
            changes = await client.ended(job)
            assert set(states(changes).values()) == {TaskState.succeeded}
            before = len(worker.seen)
            job = await client.submit(job_chunks([call(number) for number in range(5)], direct=True))
            await client.ended(job)
            assert {work.chunk.chunk for work in worker.seen[before:]} == {"0"}, "the class exists, so nothing is sent twice"

    play(ground, story())


def test_failures_are_tried_again_and_then_final(ground: Ground) -> None:
    tried: list[int] = []

    def behave(work: Work) -> Outcome:
        tried.append(work.task.attempt)
        return Failed(Cause.exit_code, "exit code 3", exit_code=3) if work.task.attempt < 3 or work.task.number else Succeeded(value("ok"))

    async def story() -> None:
        options = TaskOptions(retry=Retry(3, 0.01, 1.0, jitter=0.0))
        async with playing(FakeClient.open(ground.url, ground.signer), FakeWorker.open(ground.url, ground.signer, behave=behave)) as (
            client,
            _,
        ):
            job = await client.submit(job_chunks([call(0), call(1), call(2, 1)], options=options))
            changes = await client.ended(job)
            assert changes.info.state is JobState.failed
            assert states(changes) == {0: TaskState.succeeded, 1: TaskState.failed, 2: TaskState.aborted}
            assert {task.number: task.attempt for task in changes.tasks} == {0: 3, 1: 3, 2: 0}
            assert [task.reason for task in changes.tasks if task.number == 2] == ["task 1 failed"]

    play(ground, story())
    assert sorted(tried) == [1, 1, 2, 2, 3, 3]


def test_a_redelivered_chunk_comes_back_isolated_and_crashes_are_counted(ground: Ground) -> None:
    def behave(work: Work) -> list[m.ReplyItem] | Outcome:
        number, attempt = work.task.number, work.task.attempt
        if attempt == 1:
            return [m.Returned(number, attempt, Return.redelivered)]
        if number == 0:
            return Crashed("killed by signal 9", 9)
        return succeed(work)

    async def story() -> None:
        options = TaskOptions(crash_limit=2)
        async with playing(FakeClient.open(ground.url, ground.signer), FakeWorker.open(ground.url, ground.signer, behave=behave)) as (
            client,
            worker,
        ):
            job = await client.submit(job_chunks([call(0), call(1)], options=options))
            changes = await client.ended(job)
            assert states(changes) == {0: TaskState.failed, 1: TaskState.succeeded}
            failed = next(task.outcome for task in changes.tasks if task.number == 0)
            assert isinstance(failed, Failed)
            assert failed.cause is Cause.crash_limit
            assert [(work.chunk.isolated, len(work.chunk.tasks)) for work in worker.seen if work.task.attempt > 1] == [(True, 1)] * 3

    play(ground, story())


def test_unstarted_tasks_come_back_in_smaller_chunks(ground: Ground) -> None:
    def behave(work: Work) -> list[m.ReplyItem]:
        number, attempt = work.task.number, work.task.attempt
        if len(work.chunk.tasks) > 10 and number != work.chunk.tasks[0].number:
            return [m.Returned(number, attempt, Return.unstarted)]
        return [m.Ended(number, attempt, f"e.{number}", Succeeded(), 1000, 2000)]

    async def story() -> None:
        one_slot = Resources((("cpus", UNIT),))
        async with playing(
            FakeClient.open(ground.url, ground.signer), FakeWorker.open(ground.url, ground.signer, behave=behave, resources=one_slot)
        ) as (client, worker):
            job = await client.submit(job_chunks([call(number) for number in range(160)], size=200))
            changes = await client.ended(job)
            assert set(states(changes).values()) == {TaskState.succeeded}
            sizes = {len(work.chunk.tasks) for work in worker.seen if work.task.attempt == 1}
            assert max(sizes) == 40, "four chunks for each slot"
            assert max(len(work.chunk.tasks) for work in worker.seen if work.task.attempt > 1) <= 10

    play(ground, story())


def test_what_a_worker_had_taken_is_tried_again_when_it_is_gone(ground: Ground) -> None:
    def take(work: Work) -> list[m.ReplyItem]:
        execution = f"lost.{work.task.number}"
        return [m.Started(work.task.number, work.task.attempt, execution, 1), m.Taken(work.task.number, work.task.attempt, execution)]

    async def story() -> None:
        async with playing(FakeClient.open(ground.url, ground.signer)) as (client,):
            lost = await FakeWorker.open(ground.url, ground.signer, "worker-lost", token=True, behave=take)
            job = await client.submit(job_chunks([call(0)]))
            await client.until(job, lambda info: info.counts.get("running") == 1)
            await lost.close()
            async with playing(FakeWorker.open(ground.url, ground.signer, "worker-2")) as (worker,):
                changes = await client.ended(job)
                assert [(work.task.attempt, work.chunk.isolated) for work in worker.seen] == [(2, True)]
                assert [(task.attempt, task.crashes, task.worker) for task in changes.tasks] == [(2, 1, "worker-2")]
            cluster = await client.ask(m.GetWorkers())
            assert isinstance(cluster, m.Cluster)
            assert {item.worker: item.state for item in cluster.workers}["worker-lost"] == "lost"

    play(ground, story(), grace=0.2, reconnect_grace=0.2)


def test_a_worker_that_comes_back_keeps_what_it_had_taken(ground: Ground) -> None:
    def take(work: Work) -> list[m.ReplyItem]:
        return [m.Taken(work.task.number, work.task.attempt, "e.1")]

    async def story() -> None:
        async with playing(FakeClient.open(ground.url, ground.signer)) as (client,):
            worker = await FakeWorker.open(ground.url, ground.signer, token=True, behave=take)
            job = await client.submit(job_chunks([call(0)]))
            await client.until(job, lambda info: info.counts.get("running") == 1)
            await worker.close()
            held = (m.Held(job, 0, 1, taken=True),)
            again = FakeWorker.open(ground.url, ground.signer, token=True, boot=worker.boot, held=held)
            async with playing(again) as (worker,):
                await worker.reply(job, worker.ended(0, 1, Succeeded(value("kept"))))
                changes = await client.ended(job)
                assert results(changes) == {0: value("kept")}
                assert changes.tasks[0].crashes == 0

    play(ground, story(), grace=30.0)


def test_cancel_stops_what_runs_and_what_does_not(ground: Ground) -> None:
    def behave(work: Work) -> list[m.ReplyItem]:
        return [m.Started(work.task.number, work.task.attempt, "e.1", 1), m.Taken(work.task.number, work.task.attempt, "e.1")]

    async def story() -> None:
        async with playing(FakeClient.open(ground.url, ground.signer), FakeWorker.open(ground.url, ground.signer, behave=behave)) as (
            client,
            worker,
        ):
            job = await client.submit(job_chunks([call(0), call(1, 0)]))
            await client.until(job, lambda info: info.counts.get("running") == 1)
            answer = await client.ask(m.CancelTasks(job, reason="wrong input"))
            assert answer == m.CancelResult(before_start=1, while_running=1)
            said = await asyncio.wait_for(worker.control.get(), PATIENCE)
            while not isinstance(said, m.Revoked):
                said = await asyncio.wait_for(worker.control.get(), PATIENCE)
            assert said.revocations == (m.Revocation(job, 0, 1, "wrong input"),)
            await worker.reply(job, worker.ended(0, 1, Succeeded(value("too late to stop"))))
            changes = await client.ended(job)
            assert states(changes) == {0: TaskState.succeeded, 1: TaskState.canceled}
            assert changes.info.state is JobState.canceled
            assert await client.ask(m.CancelTasks(job)) == m.CancelResult(ended_already=2)

    play(ground, story())


def test_late_chunks_of_a_canceled_job_end_as_they_come(ground: Ground) -> None:
    async def story() -> None:
        async with playing(FakeClient.open(ground.url, ground.signer)) as (client,):
            first, second = job_chunks([call(0), call(1)], size=1)
            await client.submit([first])
            await client.ask(m.CancelTasks(first.job, reason="no"))
            await client.ended(first.job)
            await client.submit([second])
            changes = await client.until(first.job, lambda info: info.counts.get("canceled") == 2)
            assert changes.info.state is JobState.canceled
            assert changes.info.incomplete is False

    play(ground, story())


def test_jobs_are_found_listed_and_forgotten(ground: Ground) -> None:
    async def story() -> None:
        async with playing(FakeClient.open(ground.url, ground.signer), FakeWorker.open(ground.url, ground.signer)) as (client, worker):
            ids = [new_job_id()[:-8] + ending for ending in ("0000abcd", "1111abcd", "22222222")]
            for job in ids:
                await client.submit(job_chunks([call(0)], job=job, tags=("a=b", job[-8:]), idempotency_key=f"key {job[-8:]}"))
                await client.ended(job)

            async def found(text: str) -> object:
                answer = await client.ask(m.FindJob(text))
                return answer.job if isinstance(answer, m.JobInfo) else answer

            assert await found("last") == ids[2]
            assert await found("22222222") == ids[2]
            assert await found("1abcd") == ids[1]
            assert await found(ids[0].upper()) == ids[0]
            assert await found("key:key 1111abcd") == ids[1]
            assert await found("abcd") == m.Refused(
                m.Refusal.ambiguous, "several jobs end with 'abcd': 1111abcd, 0000abcd; give more digits", (ids[1], ids[0])
            )
            for text in ("99999999", "f" * 32, "key:none", "abc", "x' OR 1=1", "%%%%"):
                answer = await client.ask(m.FindJob(text))
                assert isinstance(answer, m.Refused)
                assert answer.kind in {m.Refusal.job_not_found, m.Refusal.invalid}
            listed = await client.ask(m.ListJobs(tags=("1111abcd",)))
            assert isinstance(listed, m.JobList)
            assert [info.job for info in listed.jobs] == [ids[1]]
            listed = await client.ask(m.ListJobs(state=JobState.succeeded, limit=2, name="jo*"))
            assert isinstance(listed, m.JobList)
            assert ([info.job for info in listed.jobs], listed.more) == ([ids[2], ids[1]], True)
            assert await client.ask(m.ForgetJobs((ids[0],))) == m.Forgotten(1)
            assert await found("abcd") == ids[1]
            worker.behave = lambda _: ()  # it says no more
            waiting = await client.submit(job_chunks([call(0)], options=TaskOptions(Request((("cpus", 1000 * UNIT),)))))
            refused = await client.ask(m.ForgetJobs((waiting,)))
            assert isinstance(refused, m.Refused)
            assert refused.kind is m.Refusal.job_active
            info = await client.ask(m.FindJob(waiting))
            assert isinstance(info, m.JobInfo)
            assert any("no worker seen so far could meet" in note for note in info.notes), info

    play(ground, story())


def test_a_second_job_with_the_same_idempotency_key_is_void(ground: Ground) -> None:
    async def story() -> None:
        async with playing(FakeClient.open(ground.url, ground.signer), FakeWorker.open(ground.url, ground.signer)) as (client, worker):
            first = await client.submit(job_chunks([call(0)], idempotency_key="once"))
            second = await client.submit(job_chunks([call(0)], idempotency_key="once"))
            changes = await client.ended(second)
            assert changes.info.state is JobState.aborted
            assert first in changes.info.reason
            await client.ended(first)
            assert {work.chunk.job for work in worker.seen} == {first}

    play(ground, story())


def test_output_and_changes_tell_what_happened(ground: Ground) -> None:
    def behave(work: Work) -> list[m.ReplyItem]:
        ended = m.Ended(0, work.task.attempt, "e.1", Succeeded(), 5, 6, m.Output(b"tail", 10, "/spool/1"), m.Output())
        return [m.Started(0, 1, "e.1", 5), m.Progress(0, 1, 0.5, "half"), ended]

    async def story() -> None:
        async with playing(FakeClient.open(ground.url, ground.signer), FakeWorker.open(ground.url, ground.signer, behave=behave)) as (
            client,
            _,
        ):
            job = await client.submit(job_chunks([program(0, "sort")]))
            changes = await client.ended(job)
            task = changes.tasks[0]
            assert (task.started_ms, task.ended_ms, task.kind, task.worker) == (5, 6, "program", "worker-1")
            printed = await client.ask(m.GetOutput(job, 0))
            assert printed == m.TaskOutput(
                TaskState.succeeded, m.Output(b"tail", 10, "/spool/1"), m.Output(), "host", 0, 1, "e.1", "worker-1"
            )
            missing = await client.ask(m.GetOutput(job, 7))
            assert isinstance(missing, m.Refused)
            assert missing.kind is m.Refusal.task_not_found
            nothing = await client.changes(job, since=changes.upto, wait_ms=5000)
            assert nothing.tasks == (), "a job that has ended is not waited for"

    play(ground, story())


def test_changes_come_in_pages_and_none_is_missed(ground: Ground) -> None:
    async def story() -> None:
        async with playing(FakeClient.open(ground.url, ground.signer), FakeWorker.open(ground.url, ground.signer)) as (client, _):
            job = await client.submit(job_chunks([call(number) for number in range(250)]))
            seen: dict[int, TaskState] = {}
            since = 0
            while len(seen) < 250 or set(seen.values()) != {TaskState.succeeded}:
                changes = await client.changes(job, since=since, wait_ms=2000, limit=7)
                assert len(changes.tasks) <= 7
                assert changes.upto >= since
                since = changes.upto
                seen.update(states(changes))
            only = await client.changes(job, tasks=(3, 249, 2**40), values=True)
            assert results(only) == {3: value(3), 249: value(249)}

    play(ground, story())


def test_large_sums_of_values_go_to_the_store(ground: Ground) -> None:
    large = Inline(Encoding.pickle, b"x" * 60_000)

    def behave(work: Work) -> Outcome:
        return Succeeded(value("done") if work.task.number == 99 else large)

    async def story() -> None:
        store = ground.folder / "values"
        store.mkdir()
        async with playing(FakeClient.open(ground.url, ground.signer), FakeWorker.open(ground.url, ground.signer, behave=behave)) as (
            client,
            worker,
        ):
            tasks = [*(call(number) for number in range(40)), call(99, *range(40))]
            job = await client.submit(job_chunks(tasks, store=str(store)))
            await client.ended(job)
            last = next(work for work in worker.seen if work.task.number == 99)
            stored = [item for item in last.chunk.values.values() if isinstance(item, Stored)]
            assert len(stored) == 40
            assert fetch(stored[0]).joined().data == large.data
            assert (store / job).is_dir()
            await client.ask(m.ForgetJobs((job,)))
            async with asyncio.timeout(PATIENCE):
                while (store / job).exists():
                    await asyncio.sleep(0.01)
            # Without a store they travel inline, up to 8 MiB.
            job = await client.submit(job_chunks(tasks))
            await client.ended(job)
            last = worker.seen[-1]
            assert all(isinstance(item, Inline) for item in last.chunk.values.values())

    play(ground, story())


def test_values_over_the_limit_fail_their_task(ground: Ground) -> None:
    large = Inline(Encoding.pickle, b"x" * 3_000_000)

    async def story() -> None:
        def behave(work: Work) -> Outcome:
            return Succeeded(large)

        async with playing(FakeClient.open(ground.url, ground.signer), FakeWorker.open(ground.url, ground.signer, behave=behave)) as (
            client,
            _,
        ):
            job = await client.submit(job_chunks([call(0), call(1), call(2), call(3, 0, 1, 2)]))
            await client.until(job, lambda info: info.ended_ms is not None)
            found = await client.changes(job, tasks=(3,), values=True)
            failed = found.tasks[0].outcome
            assert isinstance(failed, Failed)
            assert failed.cause is Cause.error
            assert "9000000 bytes" in failed.message
            assert "no value store" in failed.message

    play(ground, story())


def test_too_many_classes_are_rejected(ground: Ground) -> None:
    async def story() -> None:
        resources = Resources((("cpus", 1000 * UNIT),))
        async with playing(FakeClient.open(ground.url, ground.signer), FakeWorker.open(ground.url, ground.signer, resources=resources)) as (
            client,
            _,
        ):
            jobs = []
            for number in range(1, 202):
                options = TaskOptions(Request((("cpus", number * UNIT),)))
                jobs.append(await client.submit(job_chunks([call(0)], options=options)))
            for job in jobs[:200]:
                assert (await client.ended(job)).info.state is JobState.succeeded
            changes = await client.ended(jobs[200])
            failed = changes.tasks[0].outcome
            assert isinstance(failed, Failed)
            assert failed.cause is Cause.rejected
            assert "resource classes" in failed.message

    play(ground, story())


def _in_a_team(other: str) -> m.Heartbeat:
    """A worker says that it is in a team with another of this name, to which the coordinator might want to write."""
    team = m.Team("t", "c", Lane.normal, (m.Member("worker-1", "boot", "h"), m.Member(other, "boot", "h")))
    return m.Heartbeat("worker-1", "boot", Resources(()), seat=m.Seat(team, m.SeatState.working))


def test_what_does_not_belong_into_the_ledger_is_a_dead_letter(ground: Ground) -> None:
    async def story() -> None:
        async with playing(FakeClient.open(ground.url, ground.signer), FakeWorker.open(ground.url, ground.signer)) as (client, _):
            names = client.names
            stranger = Signer("t", SigningKey.parse(new_key()))
            chunk = job_chunks([call(0)])[0]
            reply = m.Reply(chunk.job, "worker-1", "boot", (m.Taken(0, 1, "e"),))
            ledger = names.ledger_key(0)
            bad = [
                (names.tasks, ledger, b"garbage"),
                (names.tasks, ledger, b""),
                (names.tasks, ledger, stranger.seal(chunk, m.Role.submitter)),
                (names.tasks, ledger, ground.signer.seal(chunk, m.Role.worker)),
                (names.tasks, ledger, ground.signer.seal(dataclasses.replace(chunk, direct=True), m.Role.submitter)),
                (names.tasks, ledger, ground.signer.seal(dataclasses.replace(chunk, resource_class="cpu1-0"), m.Role.submitter)),
                (names.tasks, ledger, ground.signer.seal(dataclasses.replace(chunk, job="last"), m.Role.submitter)),
                (names.tasks, ledger, ground.signer.seal(dataclasses.replace(chunk, options=()), m.Role.submitter)),
                (names.tasks, ledger, ground.signer.seal(dataclasses.replace(chunk, tasks=(call(2**40),)), m.Role.submitter)),
                (names.tasks, ledger, ground.signer.seal(dataclasses.replace(chunk, functions={}), m.Role.submitter)),
                (names.tasks, ledger, ground.signer.seal(reply, m.Role.worker)),
                (names.replies, "_.0", ground.signer.seal(reply, m.Role.submitter)),
                (names.replies, "_.0", ground.signer.seal(m.HelloAsked("me"), m.Role.coordinator)),
                (names.replies, "_.0", ground.signer.seal(dataclasses.replace(reply, items=(m.Taken(2**63, 1, "e"),)), m.Role.worker)),
                (names.returned, "x.0", ground.signer.seal(reply, m.Role.worker)),
                (names.replies, "_.0", ground.signer.seal(_in_a_team("w" * 300), m.Role.worker)),
                (names.replies, "_.0", ground.signer.seal(_in_a_team("a.b"), m.Role.worker)),
            ]
            for exchange, key, body in bad:
                await client.broker.publish([Outgoing(exchange, key, body)])
            async with asyncio.timeout(PATIENCE):
                while True:
                    depth = await client.broker.depth(names.dead_name)
                    if depth is not None and depth.ready == len(bad):
                        break
                    await asyncio.sleep(0.01)
            job = await client.submit(job_chunks([call(0)]))
            assert (await client.ended(job)).info.state is JobState.succeeded, "nothing of it did harm"

    play(ground, story())


def test_a_chunk_that_was_lost_on_its_way_is_published_again(ground: Ground) -> None:
    async def story() -> None:
        async with playing(FakeClient.open(ground.url, ground.signer)) as (client,):
            job = await client.submit(job_chunks([call(0)]))
            queue = client.names.class_name(class_name(Request()), Lane.normal)
            async with asyncio.timeout(PATIENCE):
                while (depth := await client.broker.depth(queue)) is None or not depth.ready:
                    await asyncio.sleep(0.01)
            # The broker loses the queue and what was in it.
            await client.broker.delete(queue)
            async with playing(FakeWorker.open(ground.url, ground.signer)) as (worker,):

                async def beat() -> None:
                    while True:
                        await worker.heartbeat()
                        await asyncio.sleep(0.5)

                beating = asyncio.ensure_future(beat())
                changes = await client.ended(job, 60)
                beating.cancel()
                assert [(task.attempt, task.state) for task in changes.tasks] == [(1, TaskState.succeeded)]

    play(ground, story(), republish_after=0.5)


def test_a_task_that_must_never_start_twice_is_given_up_when_its_worker_is_lost(ground: Ground) -> None:
    def take(work: Work) -> list[m.ReplyItem]:
        assert work.chunk.isolated
        return [m.Started(0, 1, "e.1", 1), m.Taken(0, 1, "e.1")]

    async def story() -> None:
        async with playing(FakeClient.open(ground.url, ground.signer)) as (client,):
            lost = await FakeWorker.open(ground.url, ground.signer, token=True, behave=take)
            job = await client.submit(job_chunks([call(0)], options=TaskOptions(crash_limit=NEVER_START_TWICE)))
            await client.until(job, lambda info: info.counts.get("running") == 1)
            await lost.close()
            changes = await client.ended(job)
            assert states(changes) == {0: TaskState.failed}

    play(ground, story(), grace=0.1, reconnect_grace=0.1)


def test_an_unsealed_job_of_a_vanished_submitter_is_void(ground: Ground) -> None:
    async def story() -> None:
        async with playing(FakeClient.open(ground.url, ground.signer), FakeWorker.open(ground.url, ground.signer)) as (client, _):
            first, _second = job_chunks([call(0), call(1)], size=1)
            await client.submit([first])
            changes = await client.ended(first.job)
            assert changes.info.state is JobState.aborted
            assert "vanished" in changes.info.reason

    play(ground, story(), incomplete_after=1.0)


def test_a_second_coordinator_is_refused_and_so_is_another_namespace(ground: Ground) -> None:
    with in_a_thread(ground.config()), pytest.raises(LedgerRefused, match="process"), in_a_thread(ground.config()):
        pass
    # Another store at the same broker would be another ledger of the same namespace.
    elsewhere = dataclasses.replace(ground.config(), store=sqlite_url(ground.folder / "elsewhere.db"))
    with in_a_thread(ground.config()), pytest.raises(LedgerRefused, match="use its store"), in_a_thread(elsewhere):
        pass
    refused = pytest.raises(LedgerRefused, match=r"another ledger than .*elsewhere\.db keeps .* delete the queue t\.ledger\.0\.keeper")
    with refused, in_a_thread(elsewhere):
        pass
    with in_a_thread(ground.config()):
        pass
    other = dataclasses.replace(ground.config(), namespace="other")
    with pytest.raises(LedgerRefused, match="belongs to the namespace 't'"), in_a_thread(other):
        pass


def test_a_bug_stops_it_loudly_and_nothing_is_acknowledged(
    ground: Ground, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise IllegalTransition("a task that is succeeded cannot be released")

    async def story() -> None:
        async with playing(FakeClient.open(ground.url, ground.signer)) as (client,):
            await client.submit(job_chunks([call(0)]))
            async with asyncio.timeout(PATIENCE):
                while "nothing of the last batch was acknowledged" not in caplog.text:
                    await asyncio.sleep(0.01)

    monkeypatch.setattr(Ledger, "take", fail)
    with pytest.raises(IllegalTransition), in_a_thread(ground.config()):
        run(story())
    assert "'chunk'" in caplog.text, "the story is told"
    monkeypatch.undo()

    async def again() -> None:
        async with playing(FakeClient.open(ground.url, ground.signer), FakeWorker.open(ground.url, ground.signer)) as (client, _):
            answer = await client.ask(m.FindJob("last"))
            assert isinstance(answer, m.JobInfo)
            assert (await client.ended(answer.job)).info.state is JobState.succeeded

    play(ground, again())
