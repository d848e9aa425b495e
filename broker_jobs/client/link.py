"""The connection of a client: chunks and questions go out, replies, news and answers come in. Everything runs on one event loop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Protocol, Self

from broker_jobs.broker import open_broker
from broker_jobs.broker.port import Outgoing, Receipt
from broker_jobs.errors import (
    AccessRefused,
    AmbiguousId,
    BrokerBlocked,
    BrokerJobsError,
    BrokerUnavailable,
    CoordinatorUnavailable,
    DataNotFound,
    InUse,
    JobActive,
    JobNotFound,
    MessageError,
    SecurityError,
    SigningKeyMissing,
    SubmitUnknown,
    TaskNotFound,
    ValidationError,
    WorkerNotFound,
)
from broker_jobs.ids import is_job_id, new_name, partition_of
from broker_jobs.wire.messages import (
    Chunk,
    FindJob,
    ForgetJobs,
    JobNews,
    ListData,
    ListJobs,
    ListLog,
    Piece,
    Refusal,
    Refused,
    Reply,
    Request,
    Response,
    Role,
)
from broker_jobs.wire.signing import Signer
from broker_jobs.wire.topology import Topology

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterable, Iterator, Sequence

    from broker_jobs.broker.port import Broker, Delivery, Depth
    from broker_jobs.client.chunking import OpenClasses
    from broker_jobs.client.node import OwnNode
    from broker_jobs.config import Settings
    from broker_jobs.core.spec import Lane
    from broker_jobs.wire.messages import Answer, JobInfo, Question
    from broker_jobs.wire.topology import Queue

PATIENCE: Final = 10.0
"""Seconds after which a coordinator that does not answer is taken for absent."""

_log = logging.getLogger(__name__)

_BUSY_PATIENCE: Final = 300.0
"""The same for one that works through what stands before the question, as after the submission of a million tasks."""
_LOOK: Final = 1.0
"""Seconds in which a broker that is there says how full a queue is."""
_REVIVE_AFTER: Final = 2.0
_LATE: Final = 3600.0
_CREDIT: Final = 1000
_BATCH: Final = 64
_BATCH_BYTES: Final = 8 * 2**20
_PAUSES: Final = (0.02, 0.05, 0.1, 0.25, 0.5, 1.0)


@dataclass(frozen=True, slots=True)
class Frame:
    """A signed chunk, and the routing key that it goes with."""

    key: str
    body: bytes


class Listener(Protocol):
    """Who hears what comes in."""

    def heard(self, reply: Reply) -> None:
        """A worker has said something of a job of ours."""

    def told(self, info: JobInfo) -> None:
        """The coordinator says that a job of ours has another state."""

    def interrupted(self) -> None:
        """The connection was away: replies may have been missed."""


def asked_of(question: Question, own: int) -> int:
    """The partition whose coordinator answers: that of the job which is named by its whole id, else that of the client."""
    match question:
        case FindJob(text=name) | ForgetJobs(jobs=(name, *_)) | ListJobs(parent=str(name)):
            pass
        case ListData(made_by=made_by, used_by=used_by):
            name = made_by or used_by or ""
        case ListLog(subject=str(name)) if name[12:13] in {"7", "8"}:  # of data it is a 4
            pass
        case _:
            name = getattr(question, "job", "")
    return partition_of(name) if is_job_id(name) else own


class _Nobody:
    """Hears nothing."""

    def heard(self, reply: Reply) -> None: ...

    def told(self, info: JobInfo) -> None: ...

    def interrupted(self) -> None: ...


class Link(Protocol):
    """What a client needs of a connection."""

    @property
    def client(self) -> str:
        """The name to which replies come."""

    def seal(self, chunk: Chunk) -> Frame:
        """The signed frame of a chunk; `SigningKeyMissing` where there is no key."""

    def listen(self, listener: Listener) -> None:
        """Say who hears what comes in, once, before anything is sent."""

    async def open_classes(self, wanted: Iterable[tuple[str, Lane]]) -> OpenClasses:
        """Those of these classes and lanes that have a queue."""

    async def send(self, job: str, frames: Iterable[Frame], timeout: float) -> None:
        """Publish chunks until each is confirmed.

        Raises:
            BrokerBlocked, BrokerUnavailable: nothing was sent
            AccessRefused: this user may not send jobs
            SubmitUnknown: not all were confirmed in time
        """

    async def ask(self, question: Question, timeout: float = PATIENCE) -> Answer:
        """The ledger's answer.

        Raises:
            CoordinatorUnavailable: there was none in time
            LookupFailed, JobActive, ValidationError: the question has no answer
        """

    async def tell(self, question: Question) -> None:
        """Ask without waiting for the answer; returns when the ledger's queue has the question."""

    async def close(self) -> None:
        """End the connection."""


class BrokerLink:
    """A connection to a broker."""

    def __init__(self, broker: Broker, settings: Settings, client: str, node: OwnNode | None) -> None:
        self._broker = broker
        self._topology = Topology(settings.namespace)
        self._partition = settings.partition
        self._signer = Signer(settings.namespace, settings.key) if settings.key else None
        self._client = client
        self._listener: Listener = _Nobody()
        self._node = node
        self._asked: dict[str, tuple[Outgoing, asyncio.Future[Answer]]] = {}
        self._questions = 0
        self._online = asyncio.Event()
        self._online.set()
        self._background: set[asyncio.Task[object]] = set()

    @classmethod
    async def open(cls, settings: Settings, timeout: float, node: OwnNode | None = None) -> Self:
        """Connect.

        Args:
            settings: where, and with which key
            timeout: seconds in which the broker must answer
            node: to be started where it does not run, now or later

        Raises:
            BrokerError: the broker cannot be reached or used; the subclass says why
            CoordinatorUnavailable: the node does not start
        """
        client = new_name("client")
        async with contextlib.AsyncExitStack() as undo:
            if node:
                undo.callback(node.detach)
                await asyncio.to_thread(node.attach)
            broker = await open_broker(settings.url, name=client, timeout=timeout)
            undo.push_async_callback(broker.close)
            self = cls(broker, settings, client, node)
            await self.begin()
            if node:
                await asyncio.to_thread(node.ensure)
            undo.pop_all()
        return self

    async def begin(self) -> None:
        """Declare what is needed, and listen."""
        replies = self._topology.reply_queue(self._client)
        await self._broker.declare(self._topology.exchanges(), [self._ledger(), self._topology.dead_letters(), replies])
        self._broker.watch(self._up, self._down)
        await self._broker.consume(replies.name, _CREDIT, self._receive)

    @property
    def client(self) -> str:
        """The name to which replies come."""
        return self._client

    def listen(self, listener: Listener) -> None:
        """Say who hears what comes in."""
        self._listener = listener

    def seal(self, chunk: Chunk) -> Frame:
        """The signed frame of a chunk."""
        return sealed(chunk, self._required_signer())

    async def open_classes(self, wanted: Iterable[tuple[str, Lane]]) -> OpenClasses:
        """Those of these classes and lanes that are known to have a queue: none while there is no connection; the ledger opens the rest."""
        found = set()
        with contextlib.suppress(BrokerUnavailable):
            for one in set(wanted):
                if await self._broker.depth(self._topology.class_name(*one)) is not None:
                    found.add(one)
        return frozenset(found)

    async def send(self, job: str, frames: Iterable[Frame], timeout: float) -> None:
        """Publish chunks until each is confirmed."""
        blocked = self._broker.blocked
        if blocked is not None:
            raise BrokerBlocked(f"the broker takes no messages now ({blocked}); nothing was sent")
        begun = False
        try:
            async with asyncio.timeout(timeout):
                await self._online.wait()
                begun = True
                for batch in _batches(frames):
                    await self._publish([Outgoing(self._topology.tasks, frame.key, frame.body, apart=True) for frame in batch])
        except TimeoutError:
            if not begun:
                raise BrokerUnavailable(f"no connection to the broker within {timeout:.3g} s; nothing was sent") from None
            # A broker says that it is short of memory or disk only to those who have published something.
            why = f" ({self._broker.blocked})" if self._broker.blocked else ""
            raise SubmitUnknown(
                f"the broker did not confirm all of job {job} within {timeout:.3g} s{why}: it may or may not run. "
                "Submit it again with the same idempotency_key, which goes on with it",
                job_id=job,
            ) from None

    async def ask(self, question: Question, timeout: float = PATIENCE) -> Answer:
        """The ledger's answer; a coordinator that is behind has longer for it."""
        name, outgoing = self._question(question, timeout + _BUSY_PATIENCE)
        answered: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._asked[name] = outgoing, answered
        reviver = asyncio.get_running_loop().call_later(_REVIVE_AFTER, self._revive, self._node) if self._node else None
        try:
            answer = await self._answer(outgoing, answered, timeout, asked_of(question, self._partition))
        finally:
            del self._asked[name]
            if reviver:
                reviver.cancel()
        if isinstance(answer, Refused):
            raise refusal(answer)
        return answer

    async def _answer(self, question: Outgoing, answered: asyncio.Future[Answer], timeout: float, partition: int) -> Answer:
        """Ask, and wait for the answer.

        Raises:
            CoordinatorUnavailable: there was none in time; the text says whether a coordinator is there
        """
        begun = time.monotonic()
        last_chance = False
        ask = True
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout):
                    if ask:
                        await self._publish([question])
                    return await asyncio.shield(answered)
            backlog = await self._backlog(partition)
            waited = time.monotonic() - begun
            if self._broker.blocked is not None:
                raise CoordinatorUnavailable(
                    f"nobody has answered within {waited:.0f} s: the broker takes no messages now ({self._broker.blocked}). "
                    "To find out why: broker-jobs doctor"
                )
            if backlog is None or not backlog.consumers:
                raise CoordinatorUnavailable(
                    f"no coordinator{f' of partition {partition}' if partition else ''} has answered within {waited:.0f} s. "
                    f"Start one with: broker-jobs coordinator start{f' --partition {partition}' if partition else ''}"
                )
            if last_chance or waited >= _BUSY_PATIENCE:
                behind = (
                    f", and {backlog.ready} messages wait for it: ask again later"
                    if backlog.ready
                    else ": its log, or broker-jobs doctor, may say why"
                )
                raise CoordinatorUnavailable(f"the coordinator that is there has not answered within {waited:.0f} s{behind}")
            # What it has taken from its queue it still has to work through; or its answer went with its connection, and it is asked again.
            last_chance = backlog.ready == 0
            ask = last_chance

    async def _backlog(self, partition: int) -> Depth | None:
        """How much waits for a coordinator, and whether one is there; None where that cannot be known."""
        with contextlib.suppress(BrokerUnavailable, TimeoutError):
            async with asyncio.timeout(_LOOK):
                return await self._broker.depth(self._topology.ledger_name(partition))
        return None

    async def tell(self, question: Question) -> None:
        """Ask without waiting for the answer."""
        _, outgoing = self._question(question, _LATE)
        await self._publish([outgoing])

    async def close(self) -> None:
        """End the connection."""
        for task in tuple(self._background):
            task.cancel()
        await self._broker.close()
        if self._node:
            self._node.detach()

    def _question(self, question: Question, timeout: float) -> tuple[str, Outgoing]:
        """A question's name, and its message."""
        self._questions += 1
        name = f"{self._client}.{self._questions}"
        request = Request(name, self._client, question, round((time.time() + timeout) * 1000))
        frame = self._required_signer().seal(request, Role.submitter)
        return name, Outgoing(self._topology.tasks, Topology.ledger_key(asked_of(question, self._partition)), frame)

    def _required_signer(self) -> Signer:
        if self._signer is None:
            raise SigningKeyMissing
        return self._signer

    async def _publish(self, messages: Sequence[Outgoing]) -> None:
        """Publish until each is confirmed, for ever: twice does no harm, and the caller has a deadline.

        A chunk of which a broker that is there has said nothing goes to the ledger alone from then on: its class queue may be dead, and the
        coordinator mends it.

        Raises:
            AccessRefused: this user may not
        """
        attempt = 0
        while True:
            generation = self._broker.generation
            receipts = await self._broker.publish(messages)
            silent = self._broker.connected and self._broker.generation == generation
            messages = [
                self._by_the_ledger(message) if silent and receipt is Receipt.unknown else message
                for message, receipt in zip(messages, receipts, strict=True)
                if receipt is not Receipt.confirmed
            ]
            if not messages:
                return
            denied = self._broker.denied
            if denied and f"'{self._topology.tasks}'" in denied and set(receipts) == {Receipt.refused}:
                raise AccessRefused(denied)
            if Receipt.unroutable in receipts:
                # Somebody has deleted the ledger's queue.
                await self._broker.declare(self._topology.exchanges(), [self._ledger()])
            await asyncio.sleep(_PAUSES[min(attempt, len(_PAUSES) - 1)])
            attempt += 1

    def _by_the_ledger(self, message: Outgoing) -> Outgoing:
        """The same message, to the ledger alone."""
        if not self._topology.is_direct(message.exchange, message.key):
            return message
        chunk = self._required_signer().open(message.body).message
        if not isinstance(chunk, Chunk):
            return message
        frame = self.seal(replace(chunk, direct=False))
        return replace(message, key=frame.key, body=frame.body)

    def _ledger(self) -> Queue:
        return self._topology.ledger(self._partition)

    def _receive(self, delivery: Delivery) -> None:
        try:
            if self._signer is None:
                raise SecurityError("there is no key to check it with")
            opened = self._signer.open(delivery.body)
            match opened.message, opened.role:
                case Reply() as reply, Role.worker:
                    self._listener.heard(reply)
                case JobNews(info=info), Role.coordinator:
                    self._listener.told(info)
                case Response(request=name, answer=answer), role if role is Role.coordinator or _may_say(role, answer):
                    _, answered = self._asked.get(name, (None, None))
                    if answered and not answered.done():
                        answered.set_result(answer)
                case message, role:
                    raise SecurityError(f"a {type(message).tag} of a {role.value} does not belong into a reply queue")
        except MessageError as error:
            kind = "security" if isinstance(error, SecurityError) else "decode"
            self._spawn(self._broker.dead_letter(delivery, self._topology.dead, f"{kind}: {error}"))
        else:
            self._broker.done(delivery)

    def _up(self, _generation: int) -> None:
        """The reply queue is a new one: what was asked is asked again, and whoever waits for replies asks the ledger."""
        self._online.set()
        pending = [outgoing for outgoing, answered in self._asked.values() if not answered.done()]
        if pending:
            self._spawn(self._publish(pending))
        self._listener.interrupted()

    def _down(self, _reason: str) -> None:
        self._online.clear()

    def _revive(self, node: OwnNode) -> None:
        self._spawn(asyncio.to_thread(node.ensure))

    def _spawn(self, work: Awaitable[object]) -> None:
        task = asyncio.ensure_future(_logged(work))
        self._background.add(task)
        task.add_done_callback(self._background.discard)


def sealed(chunk: Chunk, signer: Signer) -> Frame:
    """The signed frame of a chunk."""
    partition = partition_of(chunk.job)
    key = Topology.task_key(chunk.resource_class, chunk.lane, partition) if chunk.direct else Topology.ledger_key(partition)
    return Frame(key, signer.seal(chunk, Role.submitter))


def _may_say(role: Role, answer: Answer) -> bool:
    """Whether a worker answers this itself."""
    return role is Role.worker and isinstance(answer, Piece)


async def _logged(work: Awaitable[object]) -> None:
    """Let this run: whoever needs its effect has a deadline, and says what is missing."""
    try:
        await work
    except (BrokerJobsError, OSError):
        _log.debug("in the background", exc_info=True)


def _batches(frames: Iterable[Frame]) -> Iterator[list[Frame]]:
    batch: list[Frame] = []
    size = 0
    for frame in frames:
        if batch and (len(batch) >= _BATCH or size + len(frame.body) > _BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(frame)
        size += len(frame.body)
    if batch:
        yield batch


def refusal(refused: Refused) -> BrokerJobsError:
    """The exception for an answer that is none."""
    match refused.kind:
        case Refusal.job_not_found:
            return JobNotFound(refused.message)
        case Refusal.task_not_found:
            return TaskNotFound(refused.message)
        case Refusal.worker_not_found:
            return WorkerNotFound(refused.message)
        case Refusal.ambiguous:
            return AmbiguousId(refused.message, candidates=refused.candidates)
        case Refusal.job_active:
            return JobActive(refused.message)
        case Refusal.data_not_found:
            return DataNotFound(refused.message)
        case Refusal.in_use:
            return InUse(refused.message, objects=refused.candidates)
        case Refusal.invalid:
            return ValidationError(refused.message)
