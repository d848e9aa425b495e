"""A coordinator that only listens: it welcomes workers, puts chunks into class queues, and remembers what workers say."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Self

from broker_jobs.broker import open_broker
from broker_jobs.broker.port import Outgoing, Receipt
from broker_jobs.core.job import Return
from broker_jobs.core.request import Request
from broker_jobs.core.resource_class import class_name, rounded
from broker_jobs.core.spec import Lane, TaskOptions
from broker_jobs.host import host_identity
from broker_jobs.ids import new_job_id
from broker_jobs.wire.messages import (
    Call,
    Chunk,
    Ended,
    Function,
    Goodbye,
    Heartbeat,
    Hello,
    Message,
    Origin,
    Program,
    Reply,
    ResourceClass,
    Returned,
    Revocation,
    Revoked,
    Role,
    Task,
    Token,
    Welcome,
)
from broker_jobs.wire.payload import dump_call, dump_function
from broker_jobs.wire.signing import Signer, SigningKey
from broker_jobs.wire.topology import EVERYONE, Topology
from tests.support.inbox import PATIENCE

if TYPE_CHECKING:
    import types
    from collections.abc import Callable, Coroutine

    from broker_jobs.broker.port import Broker, Delivery, Subscription
    from broker_jobs.wire.messages import ReplyItem

ONE_CPU = Request((("cpus", 10_000),))
HERE = Origin(host_identity(), "/nowhere/python", "3.11.0")


def program(number: int, *argv: str) -> Task:
    """A program as a task."""
    return Task(number, Program(tuple(word.encode() for word in argv)))


def function(number: int, target: Callable[..., object], *args: object) -> tuple[Task, dict[str, Function]]:
    """A function as a task, and what its chunk must have."""
    digest, pickled = dump_function(target)
    return Task(number, Call(digest, dump_call(args, {}, lambda _: None))), {digest: pickled}


class FakeCoordinator:
    """Open it with ``async with``.

    Attributes:
        resending: what comes back as redelivered goes out again, as from a real coordinator. RabbitMQ redelivers what was on its way to a
            consumer that was just canceled (`rabbit_fifo_client`, rabbitmq-server#3729), and workers change their consumers.
    """

    def __init__(self, url: str, key: str, *, classes: tuple[Request, ...] = (ONE_CPU,)) -> None:
        self.names = Topology("t")
        self.signer = Signer("t", SigningKey.parse(key))
        self.job = new_job_id()
        self.heard: list[Message] = []
        self.dead: list[Delivery] = []
        self.welcoming = True
        self.revoked: tuple[Revocation, ...] = ()
        self.resending = False
        self._sent: dict[int, Chunk] = {}
        self._url = url
        self._classes = classes
        self._changed = asyncio.Condition()
        self._tasks: set[asyncio.Task[None]] = set()
        self.broker: Broker
        self._burying: Subscription

    async def __aenter__(self) -> Self:
        self.broker = await open_broker(self._url, name="coordinator", timeout=PATIENCE)
        queues = [self.names.class_queue(class_name(needs), lane) for needs in self._classes for lane in Lane]
        await self.broker.declare(self.names.exchanges(), [self.names.ledger(0), self.names.dead_letters(), *queues])
        await self.broker.consume(self.names.ledger_name(0), 1000, self._receive)
        self._burying = await self.broker.consume(self.names.dead_name, 1000, self._receive_dead)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None) -> None:
        await asyncio.gather(*self._tasks)
        await self.broker.close()

    # --- what it hears ---

    def items(self, kind: type[ReplyItem], number: int | None = None) -> list[ReplyItem]:
        """What workers said of tasks."""
        replies = [message for message in self.heard if isinstance(message, Reply)]
        return [item for reply in replies for item in reply.items if isinstance(item, kind) and number in {None, item.task}]

    def ended(self, number: int) -> Ended:
        """The one outcome of a task."""
        [found] = self.items(Ended, number)
        assert isinstance(found, Ended)
        return found

    def hellos(self) -> list[Hello]:
        return [message for message in self.heard if isinstance(message, Hello)]

    async def until(self, condition: Callable[[], object], what: str) -> None:
        """Wait until what was heard fulfils a condition."""
        try:
            async with asyncio.timeout(PATIENCE), self._changed:
                await self._changed.wait_for(condition)
        except TimeoutError:
            raise AssertionError(f"not within {PATIENCE:.0f} s: {what}; heard {self.heard}, dead {self.dead}") from None

    async def until_ended(self, *numbers: int) -> None:
        await self.until(lambda: all(self.items(Ended, number) for number in numbers), f"tasks {numbers} have ended")

    async def until_said(self, kind: type[ReplyItem], number: int) -> None:
        await self.until(lambda: self.items(kind, number), f"{kind.__name__} of task {number}")

    async def leave_dead_letters(self) -> None:
        """From now on they stay where they are."""
        await self._burying.cancel()

    # --- what it says ---

    def chunk(
        self,
        *tasks: Task,
        functions: dict[str, Function] | None = None,
        isolated: bool = False,
        needs: Request = ONE_CPU,
        lane: Lane = Lane.normal,
    ) -> Chunk:
        """A ready chunk."""
        options = (TaskOptions(resources=rounded(needs), lane=lane),)
        return Chunk(self.job, "r0", class_name(needs), lane, "", tasks, options, HERE, functions=functions or {}, isolated=isolated)

    async def put(self, chunk: Chunk, *, role: Role = Role.coordinator) -> None:
        """Put a chunk into its class queue."""
        self._sent |= {task.number: replace(chunk, tasks=(task,), isolated=True) for task in chunk.tasks}
        key = self.names.task_key(chunk.resource_class, chunk.lane, 0)
        await self.publish(self.names.ready, key, self.signer.seal(chunk, role))

    async def run(self, *tasks: Task, functions: dict[str, Function] | None = None, isolated: bool = False) -> None:
        await self.put(self.chunk(*tasks, functions=functions, isolated=isolated))

    async def revoke(self, *revocations: Revocation) -> None:
        await self.publish(self.names.control, EVERYONE, self.signer.seal(Revoked(revocations), Role.coordinator))

    async def publish(self, exchange: str, key: str, body: bytes) -> None:
        receipts = await self.broker.publish([Outgoing(exchange, key, body)])
        assert receipts == [Receipt.confirmed]

    async def unsettled(self) -> bool:
        """Whether the class queues are empty and nothing of them is unacknowledged, which closing the worker would bring back."""
        return any([await self._ready(class_name(needs), lane) for needs in self._classes for lane in Lane])

    async def _ready(self, name: str, lane: Lane) -> int:
        depth = await self.broker.depth(self.names.class_name(name, lane))
        assert depth is not None
        return depth.ready

    # --- inside ---

    def _receive(self, delivery: Delivery) -> None:
        opened = self.signer.open(delivery.body)
        self.broker.done(delivery)
        if isinstance(opened.message, Reply | Hello | Heartbeat | Goodbye | Token):
            assert opened.role is Role.worker
        self._note(self._heard(opened.message))

    def _receive_dead(self, delivery: Delivery) -> None:
        self.broker.done(delivery)
        self.dead.append(delivery)
        self._note(self._wake())

    async def _heard(self, message: Message) -> None:
        self.heard.append(message)
        if isinstance(message, Hello) and self.welcoming:
            classes = tuple(ResourceClass(class_name(needs), rounded(needs)) for needs in self._classes)
            welcome = Welcome(message.worker, message.boot, classes, self.revoked)
            await self.publish(self.names.control, message.worker, self.signer.seal(welcome, Role.coordinator))
        if isinstance(message, Reply) and self.resending:
            for item in message.items:
                if isinstance(item, Returned) and item.why is Return.redelivered:
                    chunk = self._sent[item.task]
                    await self.put(replace(chunk, tasks=(replace(chunk.tasks[0], attempt=item.attempt + 1),)))
        await self._wake()

    async def _wake(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    def _note(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
