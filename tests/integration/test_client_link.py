"""The client's connection and core against a broker that does what the test says."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest

from broker_jobs.broker.port import Delivery, Depth, Outgoing, Receipt, Tag
from broker_jobs.client.core import Core
from broker_jobs.client.jobview import Layout, Row
from broker_jobs.client.link import BrokerLink, Frame
from broker_jobs.client.output import parts
from broker_jobs.config import Settings
from broker_jobs.core.outcome import Succeeded
from broker_jobs.core.spec import Lane
from broker_jobs.core.states import JobState, TaskState
from broker_jobs.core.value import Encoding, Inline
from broker_jobs.errors import AccessRefused, BrokerBlocked, BrokerUnavailable, CoordinatorUnavailable, JobNotFound, SubmitUnknown
from broker_jobs.wire.messages import (
    Changes,
    Ended,
    FindJob,
    GetChanges,
    GetOutput,
    JobInfo,
    JobNews,
    Output,
    Piece,
    ReadOutput,
    Refusal,
    Refused,
    Reply,
    Request,
    Response,
    Role,
    TaskInfo,
    TaskOutput,
)
from broker_jobs.wire.signing import Signer, SigningKey
from broker_jobs.wire.topology import Topology
from tests.support.examples import CHUNK

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from broker_jobs.broker.port import Broker
    from broker_jobs.wire.messages import Answer, Message
    from broker_jobs.wire.topology import Exchange, Queue

KEY = SigningKey.parse("ab" * 32)
SIGNER = Signer("bj", KEY)
JOB = f"{7:032x}"
LAYOUT = Layout((Row(0, 2, "one", range(2), program=False, retry=None),), 2, flat=True)
TO_LEDGER = Topology.ledger_key(0)
VALUE = Inline(Encoding.msgpack, b"\x07")


class Subscription:
    """Of the reply queue."""

    queue, credit = "q", 1

    async def cancel(self, *, requeue: bool = False) -> None:
        pass


class ScriptedBroker:
    """Keeps what is published, and answers as told."""

    def __init__(self) -> None:
        self.connected = True
        self.generation = 1
        self.blocked: str | None = None
        self.denied: str | None = None
        self.published: list[Outgoing] = []
        self.dead: list[str] = []
        self.declared = 0
        self.ledger = Depth(0, 0)
        self.receipt: Callable[[Outgoing], Receipt] = lambda _: Receipt.confirmed
        self.on_publish: Callable[[Outgoing], None] = lambda _: None
        self.receive: Callable[[Delivery], None] = lambda _: None
        self._tags = 0

    def watch(self, up: Callable[[int], None], down: Callable[[str], None]) -> None:
        self.up, self.down = up, down

    async def declare(self, exchanges: Sequence[Exchange], queues: Sequence[Queue]) -> None:
        self.declared += 1

    async def depth(self, queue: str) -> Depth | None:
        if not self.connected:
            raise BrokerUnavailable
        if queue == "bj.v2.ledger.0":
            return self.ledger
        return Depth(0, 0) if queue.endswith("open.normal") else None

    async def publish(self, messages: Sequence[Outgoing]) -> list[Receipt]:
        self.published += messages
        for message in messages:
            self.on_publish(message)
        await asyncio.sleep(0)
        return [self.receipt(message) for message in messages]

    async def consume(self, queue: str, credit: int, receive: Callable[[Delivery], None]) -> Subscription:
        self.receive = receive
        return Subscription()

    def done(self, delivery: Delivery) -> bool:
        return True

    async def dead_letter(self, delivery: Delivery, exchange: str, reason: str, *, key: str | None = None) -> bool:
        self.dead.append(reason)
        return True

    async def close(self) -> None:
        pass

    def hear(self, message: Message, role: Role, signer: Signer = SIGNER) -> None:
        self.hear_bytes(signer.seal(message, role))

    def hear_bytes(self, body: bytes) -> None:
        self._tags += 1
        self.receive(Delivery("q", "x", "k", body, Tag(1, self._tags)))

    def requests(self) -> list[Request]:
        found = [SIGNER.open(message.body).message for message in self.published if message.body.startswith(b"BJ")]
        return [message for message in found if isinstance(message, Request)]

    def answer_with(self, answer: Callable[[Request], Answer | None]) -> None:
        """Answer questions from now on; None keeps silent."""

        def on_publish(message: Outgoing) -> None:
            opened = SIGNER.open(message.body).message if message.body.startswith(b"BJ") else None
            found = answer(opened) if isinstance(opened, Request) else None
            if found and isinstance(opened, Request):
                asyncio.get_running_loop().call_soon(self.hear, Response(opened.request, found), Role.coordinator)

        self.on_publish = on_publish


def _settings(key: SigningKey | None = KEY) -> Settings:
    return Settings("amqp://nowhere/", "bj", key, Path("/nowhere"), None, embedded=False)


def _play(story: Callable[[ScriptedBroker, Core], Coroutine[None, None, None]]) -> ScriptedBroker:
    broker = ScriptedBroker()

    async def run() -> None:
        link = BrokerLink(cast("Broker", broker), _settings(), "client-1", None)
        await link.begin()
        core = Core(link)
        async with asyncio.timeout(20):
            await story(broker, core)
            await core.close()

    asyncio.run(run())
    return broker


def _info(state: JobState, version: int, **counts: int) -> JobInfo:
    return JobInfo(JOB, "job", state, version, 0, counts, 2)


def _ended(task: int, attempt: int = 1) -> Reply:
    return Reply(JOB, "w", "b", (Ended(task, attempt, "e", Succeeded(VALUE), 0, 0),))


def test_what_is_not_confirmed_is_sent_again_until_it_is() -> None:
    async def story(broker: ScriptedBroker, core: Core) -> None:
        answers = iter([Receipt.unknown, Receipt.refused])
        broker.receipt = lambda _: next(answers, Receipt.confirmed)
        await core.submit(JOB, LAYOUT, [Frame(TO_LEDGER, b"one")], 10)

    broker = _play(story)
    assert [message.body for message in broker.published] == [b"one"] * 3


def test_a_chunk_that_nobody_answered_for_goes_to_the_ledger_alone() -> None:
    """Its class queue may be dead; one that only refuses is full, and will have room."""
    direct = replace(CHUNK, job=JOB, direct=True)

    async def story(broker: ScriptedBroker, core: Core) -> None:
        answers = iter([Receipt.refused, Receipt.unknown, Receipt.unknown])
        broker.receipt = lambda _: next(answers, Receipt.confirmed)
        await core.submit(JOB, LAYOUT, [core.link.seal(direct)], 10)

    sent = [(message.key, SIGNER.open(message.body).message) for message in _play(story).published]
    to_class = Topology.task_key(CHUNK.resource_class, CHUNK.lane, 0)
    assert sent == [(to_class, direct)] * 2 + [(TO_LEDGER, replace(direct, direct=False))] * 2


def test_what_was_never_confirmed_is_unknown() -> None:
    async def story(broker: ScriptedBroker, core: Core) -> None:
        broker.receipt = lambda message: Receipt.unknown if message.body == b"two" else Receipt.confirmed
        with pytest.raises(SubmitUnknown, match="idempotency_key") as caught:
            await core.submit(JOB, LAYOUT, [Frame(TO_LEDGER, b"one"), Frame(TO_LEDGER, b"two")], 0.2)
        assert caught.value.job_id == JOB

    broker = _play(story)
    bodies = [message.body for message in broker.published]
    assert (bodies.count(b"one"), bodies.count(b"two") > 1) == (1, True)


def test_what_this_user_may_not_send_is_refused_at_once() -> None:
    async def story(broker: ScriptedBroker, core: Core) -> None:
        broker.receipt = lambda _: Receipt.refused
        broker.denied = "write access to exchange 'bj.dead' refused"
        with pytest.raises(SubmitUnknown):
            await core.submit(JOB, LAYOUT, [Frame(TO_LEDGER, b"one")], 0.1)
        broker.denied = "write access to exchange 'bj.tasks' refused"
        with pytest.raises(AccessRefused, match=r"bj\.tasks"):
            await core.submit(JOB, LAYOUT, [Frame(TO_LEDGER, b"one")], 10)

    _play(story)


def test_a_broker_without_memory_takes_nothing() -> None:
    async def story(broker: ScriptedBroker, core: Core) -> None:
        broker.blocked = "memory"
        with pytest.raises(BrokerBlocked, match=r"memory.*nothing was sent"):
            await core.submit(JOB, LAYOUT, [Frame(TO_LEDGER, b"one")], 1)

    assert _play(story).published == []


def test_a_broker_that_runs_out_of_memory_meanwhile_is_the_reason() -> None:
    async def story(broker: ScriptedBroker, core: Core) -> None:
        broker.receipt = lambda _: Receipt.unknown
        broker.on_publish = lambda _: setattr(broker, "blocked", "low on memory")
        with pytest.raises(SubmitUnknown, match=r"within 0.2 s \(low on memory\): it may or may not run"):
            await core.submit(JOB, LAYOUT, [Frame(TO_LEDGER, b"one")], 0.2)

    _play(story)


def test_without_a_connection_nothing_is_sent() -> None:
    async def story(broker: ScriptedBroker, core: Core) -> None:
        broker.down("gone")
        with pytest.raises(BrokerUnavailable, match="nothing was sent"):
            await core.submit(JOB, LAYOUT, [Frame(TO_LEDGER, b"one")], 0.1)

    assert _play(story).published == []


def test_a_ledger_queue_that_was_deleted_is_made_again() -> None:
    async def story(broker: ScriptedBroker, core: Core) -> None:
        answers = iter([Receipt.unroutable])
        broker.receipt = lambda _: next(answers, Receipt.confirmed)
        await core.submit(JOB, LAYOUT, [Frame(TO_LEDGER, b"one")], 10)

    assert _play(story).declared == 2


def test_classes_that_are_open_are_remembered() -> None:
    async def story(broker: ScriptedBroker, core: Core) -> None:
        wanted = frozenset({("open", Lane.normal), ("closed", Lane.normal)})
        assert core.opened(wanted) == frozenset()
        assert await core.open_classes(wanted) == {("open", Lane.normal)}
        assert core.opened(wanted) == {("open", Lane.normal)}

    _play(story)


def test_without_a_connection_no_class_is_known_to_be_open() -> None:
    async def story(broker: ScriptedBroker, core: Core) -> None:
        broker.connected = False
        assert await core.open_classes(frozenset({("open", Lane.normal)})) == frozenset()

    _play(story)


def test_replies_alone_bring_flat_work_to_its_end() -> None:
    async def story(broker: ScriptedBroker, core: Core) -> None:
        job = await core.submit(JOB, LAYOUT, [Frame(TO_LEDGER, b"one")], 1)
        asyncio.get_running_loop().call_soon(broker.hear, _ended(0), Role.worker)
        assert (await core.ending(job, 0)).outcome == Succeeded(VALUE)
        assert core.unfinished == {JOB}
        broker.hear(_ended(1), Role.worker)
        await core.ended(job)
        assert len(await core.endings(job)) == 2
        assert core.unfinished == set()

    assert _play(story).requests() == []


def test_a_question_without_an_answer() -> None:
    async def story(broker: ScriptedBroker, core: Core) -> None:
        with pytest.raises(CoordinatorUnavailable, match="broker-jobs coordinator start"):
            await core.ask(FindJob("last"), JobInfo, 0.1)
        broker.answer_with(lambda _: Refused(Refusal.job_not_found, "there is no job yet"))
        with pytest.raises(JobNotFound, match="no job yet"):
            await core.find("last")
        broker.answer_with(lambda _: Changes(_info(JobState.running, 1), 1))
        with pytest.raises(CoordinatorUnavailable, match="of another version"):
            await core.find("last")

    _play(story)


def test_a_coordinator_that_is_behind_has_longer_for_an_answer() -> None:
    async def story(broker: ScriptedBroker, core: Core) -> None:
        broker.ledger = Depth(ready=70, consumers=1)
        looks: list[str] = []

        async def depth(queue: str) -> Depth:
            """It gets on with what waits before the question, and answers that with the next look."""
            looks.append(queue)
            if len(looks) == 3:
                [request] = broker.requests()
                assert request.deadline_ms > time.time() * 1000
                broker.hear(Response(request.request, _info(JobState.running, 7)), Role.coordinator)
            return broker.ledger

        broker.depth = depth  # type: ignore[method-assign]
        assert (await core.ask(FindJob("last"), JobInfo, 0.02)).version == 7
        assert looks == ["bj.v2.ledger.0"] * 3

    _play(story)


def test_questions_do_not_wait_behind_what_goes_to_a_class_queue() -> None:
    async def story(broker: ScriptedBroker, core: Core) -> None:
        broker.answer_with(lambda _: _info(JobState.running, 7))
        await core.submit(JOB, LAYOUT, [Frame(TO_LEDGER, b"one")], 1)
        await core.ask(FindJob("last"), JobInfo, 1)

    assert [each.apart for each in _play(story).published] == [True, False]


def test_a_coordinator_that_has_nothing_to_do_and_does_not_answer_is_said_to_be_there() -> None:
    async def story(broker: ScriptedBroker, core: Core) -> None:
        broker.ledger = Depth(ready=0, consumers=1)
        with pytest.raises(CoordinatorUnavailable, match=r"that is there has not answered within .* its log"):
            await core.ask(FindJob("last"), JobInfo, 0.02)

    _play(story)


def test_a_question_whose_answer_went_with_the_connection_of_the_coordinator_is_asked_again() -> None:
    async def story(broker: ScriptedBroker, core: Core) -> None:
        broker.ledger = Depth(ready=0, consumers=1)
        asking = asyncio.ensure_future(core.ask(FindJob("last"), JobInfo, 0.02))
        await asyncio.sleep(0.01)
        broker.answer_with(lambda _: _info(JobState.running, 7))
        assert (await asking).version == 7
        first, second = broker.requests()
        assert first == second

    _play(story)


def test_after_a_reconnect_questions_are_asked_again_and_the_ledger_is_asked_for_what_was_missed() -> None:
    async def story(broker: ScriptedBroker, core: Core) -> None:
        job = await core.submit(JOB, LAYOUT, [Frame(TO_LEDGER, b"one")], 1)
        waiting = asyncio.ensure_future(core.ended(job))
        asking = asyncio.ensure_future(core.find("last"))
        await asyncio.sleep(0.01)
        broker.down("gone")
        assert [type(request.question) for request in broker.requests()] == [FindJob]

        def answer(request: Request) -> Answer:
            info = _info(JobState.succeeded, 5, succeeded=2)
            return info if isinstance(request.question, FindJob) else Changes(info, 5)

        broker.answer_with(answer)
        broker.up(2)
        assert (await asking).version == 5
        await waiting
        assert [type(request.question) for request in broker.requests()] == [FindJob, FindJob, GetChanges]

    _play(story)


def test_news_of_an_end_bring_the_outcomes_that_no_worker_tells() -> None:
    async def story(broker: ScriptedBroker, core: Core) -> None:
        job = await core.submit(JOB, LAYOUT, [Frame(TO_LEDGER, b"one")], 1)
        tasks = (TaskInfo(0, TaskState.succeeded, outcome=Succeeded(VALUE)), TaskInfo(1, TaskState.aborted, reason="task 0 failed"))
        broker.answer_with(lambda _: Changes(_info(JobState.aborted, 9), 9, tasks))
        asyncio.get_running_loop().call_soon(broker.hear, JobNews(_info(JobState.aborted, 9)), Role.coordinator)
        assert (await core.ending(job, 1)).reason == "task 0 failed"

    (request,) = _play(story).requests()
    assert request.question == GetChanges(JOB, values=True, tasks=(1,))


def test_what_does_not_belong_here_is_a_dead_letter_with_a_reason() -> None:
    async def story(broker: ScriptedBroker, core: Core) -> None:
        job = await core.submit(JOB, LAYOUT, [Frame(TO_LEDGER, b"one")], 1)
        broker.hear_bytes(b"garbage")
        broker.hear(_ended(0), Role.submitter)
        broker.hear(_ended(0), Role.worker, Signer("bj", SigningKey.parse("cd" * 32)))
        broker.hear(_ended(0), Role.worker, Signer("other", KEY))
        broker.hear(JobNews(_info(JobState.succeeded, 3)), Role.worker)
        broker.hear(Response("client-1.1", _info(JobState.succeeded, 3)), Role.worker)
        broker.hear(Response("client-1.1", Piece("e", 0, b"some")), Role.worker)
        await asyncio.sleep(0.01)
        assert not job.view.ended
        assert job.view.ending(0) is None

    assert [reason.partition(":")[0] for reason in _play(story).dead] == ["decode"] + ["security"] * 5


def test_a_stream_is_read_from_worker_and_ledger_without_a_seam() -> None:
    running, second = TaskOutput(TaskState.running, execution="e.1"), TaskOutput(TaskState.running, execution="e.2")
    answers: list[tuple[int, str, Answer]] = [
        (0, "", Piece("e.1", 0, b"first ", 6)),
        (6, "e.1", Piece("e.1", missing=True)),  # it has ended, and the ledger has not heard of it
        (6, "e.1", Piece("e.2", 0, b"second", 6)),  # and runs again elsewhere
        (6, "e.2", Piece("e.2", 6, b" half", 20)),
        (11, "e.2", TaskOutput(TaskState.succeeded, Output(b"alf ends", 20), execution="e.2")),
    ]
    known = iter([running, second])

    def answer(request: Request) -> Answer | None:
        match request.question:
            case ReadOutput(start=start, execution=execution):
                wanted = answers.pop(0)
                assert (start, execution) == wanted[:2]
                return wanted[2]
            case GetOutput():
                return next(known)
            case _:
                return None

    async def story(broker: ScriptedBroker, core: Core) -> None:
        broker.answer_with(answer)
        found = [part async for part in parts(core, core.follow(JOB), 0, stderr=False, follow=True)]
        assert [(part.execution, part.data, part.lost) for part in found] == [
            ("e.1", b"first ", 0),
            ("e.2", b"second", 0),
            ("e.2", b" half", 0),
            ("e.2", b"alf ends", 1),
        ]

    _play(story)
    assert not answers
