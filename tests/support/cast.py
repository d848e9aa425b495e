"""A client and a worker that tests play against a real coordinator: both speak the wire, neither runs anything."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from broker_jobs.broker import open_broker
from broker_jobs.broker.port import Outgoing, Receipt
from broker_jobs.core.outcome import Outcome, Succeeded
from broker_jobs.core.quantities import UNIT
from broker_jobs.core.resource_class import class_name
from broker_jobs.core.resources import Resources
from broker_jobs.core.spec import Lane, TaskOptions
from broker_jobs.core.value import Encoding, Inline
from broker_jobs.ids import new_job_id, new_name
from broker_jobs.wire import messages as m
from broker_jobs.wire.codec import pack
from broker_jobs.wire.topology import Topology
from tests.support.inbox import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from broker_jobs.broker.port import Broker, Delivery
    from broker_jobs.wire.signing import Signer

HERE = m.Origin("host", "/usr/bin/python3", "3.11.0")
FUNCTION = "f" * 64
FUNCTIONS = {FUNCTION: m.Function("work", "tests", b"code")}
NO_ARGUMENTS = Inline(Encoding.msgpack, pack([[], {}]))
FOUR_CPUS = Resources((("cpus", 4 * UNIT),))


def value(plain: object) -> Inline:
    """A value as it travels."""
    return Inline(Encoding.msgpack, pack(plain))


def call(number: int, *inputs: int | str, after: Iterable[int] = (), options: int = 0, name: str = "") -> m.Task:
    """A function call that takes the results of these tasks."""
    deps = tuple(item for item in inputs if isinstance(item, int))
    return m.Task(number, m.Call(FUNCTION, NO_ARGUMENTS, tuple(map(str, inputs))), options, name, deps=deps, after=tuple(after))


def program(number: int, *words: str, deps: Iterable[int] = ()) -> m.Task:
    """A program."""
    return m.Task(number, m.Program(tuple(word.encode() for word in words)), deps=tuple(deps))


def job_chunks(
    tasks: Iterable[m.Task],
    *,
    job: str = "",
    submitter: str = "client-1",
    size: int = 100,
    options: TaskOptions | None = None,
    direct: bool = False,
    values: dict[str, m.Value] | None = None,
    store: str | None = None,
    **header: object,
) -> list[m.Chunk]:
    """A whole job, cut into chunks."""
    job = job or new_job_id()
    shared = options or TaskOptions()
    listed = list(tasks)
    parts = [listed[start : start + size] for start in range(0, len(listed), size)]
    head = m.JobHeader(**{"name": "job", **header}, submitter=submitter, submitted_ms=time.time_ns() // 1_000_000, origin=HERE)  # type: ignore[arg-type]
    return [
        m.Chunk(
            job,
            str(number),
            class_name(shared.resources),
            shared.lane,
            submitter,
            tuple(part),
            (shared,),
            HERE,
            functions=FUNCTIONS if any(isinstance(task.work, m.Call) for task in part) else {},
            values=values or {},
            store=store,
            direct=direct,
            header=head if number == 0 else None,
            seal=m.Seal(len(listed), len(parts)) if number == len(parts) - 1 else None,
        )
        for number, part in enumerate(parts)
    ]


class Actor:
    """A connection of somebody who plays in a test."""

    def __init__(self, signer: Signer, broker: Broker, role: m.Role, name: str) -> None:
        self.signer = signer
        self.names = Topology(signer.namespace)
        self.broker = broker
        self.role = role
        self.name = name

    async def publish(self, exchange: str, key: str, *messages: m.Message, mandatory: bool = True) -> None:
        """Publish until everything is confirmed."""
        left = [Outgoing(exchange, key, self.signer.seal(message, self.role), mandatory=mandatory) for message in messages]
        while left:
            receipts = await self.broker.publish(left)
            left = [message for message, receipt in zip(left, receipts, strict=True) if receipt is not Receipt.confirmed]

    async def close(self) -> None:
        """End the connection."""
        await self.broker.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


class FakeClient(Actor):
    """Submits chunks and asks questions.

    Attributes:
        news: what came without being asked for
    """

    def __init__(self, signer: Signer, broker: Broker, name: str) -> None:
        super().__init__(signer, broker, m.Role.submitter, name)
        self.news: asyncio.Queue[m.Message] = asyncio.Queue()
        self._answers: dict[str, asyncio.Future[m.Answer]] = {}
        self._asked = 0

    @classmethod
    async def open(cls, url: str, signer: Signer, name: str = "client-1") -> Self:
        """Connect."""
        client = cls(signer, await open_broker(url, name=name, timeout=PATIENCE), name)
        await client.broker.declare(client.names.exchanges(), [client.names.ledger(0), client.names.reply_queue(name)])
        await client.broker.consume(client.names.reply_queue(name).name, 1000, client._receive)
        return client

    def _receive(self, delivery: Delivery) -> None:
        self.broker.done(delivery)
        message = self.signer.open(delivery.body).message
        if isinstance(message, m.Response):
            future = self._answers.pop(message.request, None)
            if future is not None and not future.done():
                future.set_result(message.answer)
        else:
            self.news.put_nowait(message)

    async def submit(self, chunks: Iterable[m.Chunk]) -> str:
        """Publish the chunks of a job; its id."""
        job = ""
        for chunk in chunks:
            job = chunk.job
            key = self.names.task_key(chunk.resource_class, chunk.lane, 0) if chunk.direct else self.names.ledger_key(0)
            await self.publish(self.names.tasks, key, chunk)
        return job

    async def ask(self, question: m.Question, patience: float = PATIENCE) -> m.Answer:
        """The answer to any time that it was asked: it is asked again where none comes, as after the death of a coordinator."""
        answer = asyncio.get_running_loop().create_future()
        asked: list[str] = []
        try:
            async with asyncio.timeout(patience):
                while True:
                    self._asked += 1
                    request = m.Request(f"q{self._asked}", self.name, question, time.time_ns() // 1_000_000 + 30_000)
                    asked.append(request.request)
                    self._answers[request.request] = answer
                    await self.publish(self.names.tasks, self.names.ledger_key(0), request)
                    await asyncio.wait([answer], timeout=2.0)
                    if answer.done():
                        return answer.result()
        finally:
            for request_id in asked:
                self._answers.pop(request_id, None)

    async def changes(self, job: str, **options: object) -> m.Changes:
        """What changed in a job."""
        answer = await self.ask(m.GetChanges(job, **options))  # type: ignore[arg-type]
        assert isinstance(answer, m.Changes), answer
        return answer

    async def until(self, job: str, fits: Callable[[m.JobInfo], bool], patience: float = PATIENCE) -> m.Changes:
        """Wait for a state of a job; everything about it."""
        deadline, since = time.monotonic() + patience, 0
        while True:
            changes = await self.changes(job, since=since, wait_ms=500, values=False, limit=1)
            if fits(changes.info):
                return await self.changes(job, values=True, limit=10_000)
            since = changes.info.version
            assert time.monotonic() < deadline, f"not within {patience} s: {changes.info}"

    async def ended(self, job: str, patience: float = PATIENCE) -> m.Changes:
        """Wait for the end of a job; everything about it."""
        return await self.until(job, lambda info: info.ended_ms is not None, patience)


@dataclass(slots=True)
class Work:
    """A task that a fake worker was given."""

    chunk: m.Chunk
    task: m.Task
    redelivered: bool


def succeed(work: Work) -> Outcome:
    """What most tasks do: their number is their result."""
    return Succeeded(None if isinstance(work.task.work, m.Program) else value(work.task.number))


@dataclass(slots=True)
class FakeWorker:
    """Answers chunks as it is told.

    Attributes:
        behave: the outcome of a task, or the items of a reply
        seen: every task that it was given
        control: what the coordinator said
    """

    actor: Actor
    boot: str
    behave: Callable[[Work], Outcome | Iterable[m.ReplyItem]] = succeed
    resources: Resources = FOUR_CPUS
    seen: list[Work] = field(default_factory=list)
    control: asyncio.Queue[m.Message] = field(default_factory=asyncio.Queue)
    welcomed: asyncio.Event = field(default_factory=asyncio.Event)
    held: tuple[m.Held, ...] = ()
    _consumed: set[str] = field(default_factory=set)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _executions: int = 0

    @classmethod
    async def open(
        cls, url: str, signer: Signer, name: str = "worker-1", *, token: bool = False, boot: str = "", **options: object
    ) -> Self:
        """Connect, say hello, and wait for the welcome."""
        broker = await open_broker(url, name=name, timeout=PATIENCE)
        actor = Actor(signer, broker, m.Role.worker, name)
        worker = cls(actor, boot or new_name("boot"), **options)  # type: ignore[arg-type]
        names = actor.names
        await broker.declare(names.exchanges(), [names.ledger(0), names.control_queue(name)])
        await broker.consume(names.control_queue(name).name, 1000, worker._hear)
        if token:
            sealed = signer.seal(m.Token(name, worker.boot), m.Role.worker)
            await broker.hold_token(names.lease_queue(name), Outgoing(names.lease, names.token_key(name), sealed))
        await worker.hello()
        await asyncio.wait_for(worker.welcomed.wait(), PATIENCE)
        return worker

    async def hello(self) -> None:
        """Say hello."""
        hello = m.Hello(self.actor.name, self.boot, "host", 1, "0", self.resources, self.resources, self.held)
        await self.actor.publish(self.actor.names.replies, Topology.worker_key(), hello)

    async def heartbeat(self) -> None:
        """Say what it holds."""
        beat = m.Heartbeat(self.actor.name, self.boot, self.resources, self.held)
        await self.actor.publish(self.actor.names.replies, Topology.worker_key(), beat)

    async def reply(self, job: str, *items: m.ReplyItem, submitter: str = "", resource_class: str = "") -> None:
        """Say something of attempts."""
        reply = m.Reply(job, self.actor.name, self.boot, tuple(items), resource_class)
        await self.actor.publish(self.actor.names.replies, Topology.reply_key(submitter, 0), reply)

    def ended(self, task: int, attempt: int, outcome: Outcome) -> m.Ended:
        """An end, of an execution of its own."""
        self._executions += 1
        now = time.time_ns() // 1_000_000
        return m.Ended(task, attempt, f"{self.boot}.{self._executions}", outcome, now, now)

    async def close(self) -> None:
        """End the connection without a word."""
        for task in self._tasks:
            task.cancel()
        await self.actor.close()

    def _hear(self, delivery: Delivery) -> None:
        self.actor.broker.done(delivery)
        message = self.actor.signer.open(delivery.body).message
        self.control.put_nowait(message)
        match message:
            case m.Welcome(boot=self.boot, classes=classes):
                for item in classes:
                    self._spawn(self._consume(item.name))
                self.welcomed.set()
            case m.ClassOpened(resource_class=item):
                self._spawn(self._consume(item.name))
            case m.HelloAsked():
                self._spawn(self.hello())
            case _:
                pass

    async def _consume(self, name: str) -> None:
        for lane in Lane:
            queue = self.actor.names.class_name(name, lane)
            if queue not in self._consumed:
                self._consumed.add(queue)
                # A class of the welcome may be on its way still; it is announced again when it is there.
                if await self.actor.broker.depth(queue) is None:
                    self._consumed.discard(queue)
                else:
                    await self.actor.broker.consume(queue, 4, self._work)

    def _work(self, delivery: Delivery) -> None:
        self._spawn(self._do(delivery))

    async def _do(self, delivery: Delivery) -> None:
        chunk = self.actor.signer.open(delivery.body).message
        assert isinstance(chunk, m.Chunk)
        items: list[m.ReplyItem] = []
        for task in chunk.tasks:
            work = Work(chunk, task, delivery.redelivered)
            self.seen.append(work)
            answer = self.behave(work)
            if isinstance(answer, Outcome):
                items.append(self.ended(task.number, task.attempt, answer))
            else:
                items.extend(answer)
        if items:
            await self.reply(chunk.job, *items, submitter=chunk.submitter, resource_class=chunk.resource_class)
            self.actor.broker.done(delivery)

    def _spawn(self, coroutine: Awaitable[None]) -> None:
        task = asyncio.ensure_future(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


@contextlib.asynccontextmanager
async def playing(*actors: Awaitable[FakeClient | FakeWorker]):  # type: ignore[no-untyped-def]  # noqa: ANN201
    """Actors, closed at the end."""
    opened = []
    try:
        for actor in actors:
            opened.append(await actor)  # noqa: PERF401 (the first ones must be closed where a later one fails)
        yield opened
    finally:
        for actor in opened:
            await actor.close()
