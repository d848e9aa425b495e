"""The worker daemon: the one shell around `WorkerMachine`.

Everything that happens becomes an event in one inbox; the machine answers with commands; `_perform` does them. Nothing is
decided here. The daemon lives on one event loop and has no global state, so that a node may run it beside a coordinator.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import signal
import time
from collections import deque
from dataclasses import replace
from importlib.metadata import version
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, assert_never

from broker_jobs.broker import open_broker
from broker_jobs.broker.port import Outgoing, Receipt
from broker_jobs.core.request import executor_feature
from broker_jobs.errors import BrokerError, DecodeError, SecurityError
from broker_jobs.host import host_identity
from broker_jobs.metrics import MetricsServer, Pulse, WorkerMetrics
from broker_jobs.wire.messages import Hello, JobsForgotten, OutputAsked, Response, Role, Token, Welcome
from broker_jobs.wire.signing import Signer
from broker_jobs.wire.topology import Topology
from broker_jobs_worker.accepting import Accepted, AcceptingExecutor
from broker_jobs_worker.config import LOCAL, fresh_worker_name
from broker_jobs_worker.executors.archive import Archive, usual_room
from broker_jobs_worker.executors.batch.finding import batch_executor
from broker_jobs_worker.executors.local import LocalExecutor
from broker_jobs_worker.executors.port import ExecutionEnded, ExecutionsSucceeded
from broker_jobs_worker.executors.spool import clear_leftovers
from broker_jobs_worker.intake import read_chunk, read_control
from broker_jobs_worker.machine.commands import Exit, Publish, Recall, Say, Settle, Start, Stop, Subscribe, Unsubscribe
from broker_jobs_worker.machine.events import (
    ChunkArrived,
    Connected,
    Disconnected,
    DrainRequested,
    ExecutionsEnded,
    PublishConfirmed,
    PublishFailed,
    StopRequested,
    SubscribeFailed,
    Tick,
)
from broker_jobs_worker.machine.state import Identity, Lifetime, Source
from broker_jobs_worker.machine.worker import WorkerMachine
from broker_jobs_worker.observer import Observer
from broker_jobs_worker.readers import Readers
from broker_jobs_worker.stepping import served
from broker_jobs_worker.story import tell

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

    from broker_jobs.broker.port import Broker, Delivery, Subscription
    from broker_jobs.core.step import StepSpec
    from broker_jobs.wire.messages import Piece
    from broker_jobs_worker.config import WorkerConfig
    from broker_jobs_worker.executors.port import ExecutionNews, Executor
    from broker_jobs_worker.machine.commands import Command
    from broker_jobs_worker.machine.events import Event

TICK: Final = 0.05
QUIET_TICK: Final = 0.5
"""Seconds between two ticks of a worker that has nothing to do."""
QUIET_AFTER: Final = 1.0
"""Seconds without news after which that is so."""
CONTROL_CREDIT: Final = 100
STORY: Final = 50
BUG: Final = 70
"""Exit code of a daemon that found a bug in itself (EX_SOFTWARE)."""

_log = logging.getLogger("broker_jobs.worker")


def local_executor(config: WorkerConfig, name: str, report: Callable[[ExecutionNews], None], steps: Mapping[str, str]) -> Executor:
    """The executor that runs tasks in processes of this host.

    Args:
        steps: the modules of those that it serves, by name and version
    """
    config.spool.mkdir(mode=0o700, parents=True, exist_ok=True)
    clear_leftovers(config.spool)
    room = usual_room(config.spool) if config.spool_limit is None else config.spool_limit
    return LocalExecutor(
        report,
        spool=config.spool / name,
        archive=Archive(config.archive, room),
        path=config.path,
        steps=steps,
        recycling=config.recycling,
    )


def chosen_executor(config: WorkerConfig, name: str, report: Callable[[ExecutionNews], None], steps: Mapping[str, str]) -> Executor:
    """The executor that the settings name, behind a gate where not all is accepted; `ValidationError` where there is none of this name."""
    found: Executor = local_executor(config, name, report, steps) if config.executor == LOCAL else batch_executor(config, name, report)
    return AcceptingExecutor(Accepted.parse(config.accept), found, report) if config.accept else found


class WorkerDaemon:
    """One worker; made on the event loop on which it will serve.

    Args:
        config: its settings
        executor: makes what runs the tasks
        lent: a connection of this loop that somebody else closes; without one, it opens its own
        steps: what it serves, and which module holds that

    Attributes:
        welcomed: set when a coordinator has answered for the first time
    """

    def __init__(
        self,
        config: WorkerConfig,
        executor: Callable[[WorkerConfig, str, Callable[[ExecutionNews], None], Mapping[str, str]], Executor] = chosen_executor,
        lent: Broker | None = None,
        steps: Mapping[StepSpec, str] = MappingProxyType({}),
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._exit: asyncio.Future[Exit] = self._loop.create_future()
        self.welcomed = asyncio.Event()
        self._config = config
        self._lent = lent
        self.name = config.name or fresh_worker_name()
        self._executor = executor(config, self.name, self._hear, {str(spec): module for spec, module in steps.items()})
        legacy = self._executor.legacy()
        boot, life = (secrets.token_hex(6), 0) if legacy is None else (legacy.boot, legacy.life)
        now, now_ms, limit = time.monotonic(), time.time_ns() // 1_000_000, config.time_limit
        ends_ms = None if limit is None else now_ms + round(limit * 1000)
        total = replace(config.total(), features=tuple(sorted(spec.feature for spec in steps)))
        if config.executor != LOCAL:
            total = replace(total, features=(executor_feature(config.executor),), demands=executor_feature(config.executor))
        me = Identity(
            self.name,
            boot,
            host_identity(),
            os.getpid(),
            version("broker-jobs"),
            total,
            config.group,
            now_ms,
            ends_ms,
            tuple(steps),
            life,
            round(self._executor.away * 1000),
        )
        lifetime = Lifetime(config.idle_timeout, None if limit is None else now + limit, config.on_broker_lost)
        # What goes on without this process is taken at once: its message would be given to others when it is gone.
        timing = replace(config.timing, taken_after=0.0) if self._executor.away else config.timing
        self._machine = WorkerMachine(me, timing, lifetime, longest_line=self._executor.longest_line)
        left = () if legacy is None else legacy.executions
        self._resumed = [execution.execution for execution in left if self._machine.resume(execution)]
        self._topology = Topology(config.namespace)
        self._signer = Signer(config.namespace, config.key)
        self._token = Token(self.name, boot)
        self._readers = Readers(self._executor, self._show)
        self._metrics = WorkerMetrics(me.total)
        self._observer = Observer(self._metrics)
        self._pulse = Pulse({"worker": self.name, "connected": False})
        self._inbox: deque[Event] = deque()
        self._ends: list[ExecutionEnded | ExecutionsSucceeded] = []
        self._story: deque[tuple[float, Event, tuple[Command, ...]]] = deque(maxlen=STORY)
        self._handling = False
        self._heard_at = now
        self._woken = asyncio.Event()
        self._exit.add_done_callback(lambda _: self._woken.set())
        self._outbox: list[tuple[int | None, Outgoing]] = []
        self._orders: asyncio.Queue[Subscribe | Unsubscribe] = asyncio.Queue()
        self._subscriptions: dict[Source, Subscription] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self, *, signals: bool = False) -> int:
        """Work until told to stop; the exit code: 0 when everything was handed over in order.

        Args:
            signals: SIGTERM and SIGINT drain, a second one stops at once

        Raises:
            BrokerError: there is no connection to begin with
            ValidationError: the metrics port cannot be used
        """
        server = self._serve_metrics()
        try:
            if self._lent:
                self._broker = self._lent
                return await self._work(signals=signals)
            self._broker = await open_broker(self._config.url, name=self.name, timeout=self._config.connect_timeout)
            try:
                return await self._work(signals=signals)
            finally:
                await self._broker.close()
        finally:
            if server:
                server.close()

    @property
    def busy(self) -> bool:
        """Whether a task runs here."""
        return self._machine.running > 0

    def drain(self) -> None:
        """Start nothing more, and end when what runs has ended; a second call stops what runs."""
        self._feed(StopRequested() if self._machine.draining else DrainRequested())

    # --- the life of the daemon -----------------------------------------------------------------------------------------

    def _serve_metrics(self) -> MetricsServer | None:
        port = self._config.metrics_port
        if port == 0:
            return None
        server = MetricsServer(self._metrics.registry, self._pulse, host=self._config.metrics_host, port=port)
        _log.info("numbers at http://%s:%d/metrics", server.host, server.port)
        return server

    async def _work(self, *, signals: bool) -> int:
        await self._executor.open(self._resumed)
        try:
            await self._introduce()
            if signals:
                for number in (signal.SIGTERM, signal.SIGINT):
                    self._loop.add_signal_handler(number, self.drain)
            self._spawn(self._keep_subscriptions())
            while not self._exit.done():
                self._feed(Tick(time.time_ns() // 1_000_000))
                self._metrics.resources(self._machine.free)
                self._metrics.running.set(self._machine.running)
                self._pulse.beat(connected=self._broker.connected, running=self._machine.running, draining=self._machine.draining)
                await self._pause()
            last = self._exit.result()
            if last.in_order:
                await self._broker.drop_token()
            return last.code
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await self._executor.close()

    async def _pause(self) -> None:
        """Wait for the next tick: rare ones while nothing has happened for a moment and nothing is due."""
        quiet = not self._machine.at_work and time.monotonic() - self._heard_at > QUIET_AFTER
        self._woken.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(QUIET_TICK if quiet else TICK):
                await self._woken.wait()

    async def _introduce(self) -> None:
        """Declare what a worker needs, hold the token, listen, and begin."""
        names = self._topology
        control = names.control_queue(self.name)
        await self._broker.declare(names.exchanges(), [names.dead_letters(), control])
        self._broker.watch(lambda generation: self._feed(Connected(generation)), lambda reason: self._feed(Disconnected(reason)))
        token = Outgoing(names.lease, names.token_key(self.name), self._signer.seal(self._token, Role.worker))
        await self._broker.hold_token(names.lease_queue(self.name), token)
        await self._broker.consume(control.name, CONTROL_CREDIT, self._control)
        _log.info("worker %s is connected", self.name)
        self._feed(Connected(self._broker.generation))

    # --- what happens ---------------------------------------------------------------------------------------------------

    def _feed(self, event: Event) -> None:
        """Let the machine handle an event, after those that are being handled."""
        self._inbox.append(event)
        if not isinstance(event, Tick):
            self._note_news()
        if self._handling:
            return
        self._handling = True
        try:
            while self._inbox and not self._exit.done():
                self._handle(self._inbox.popleft())
        except Exception as error:  # noqa: BLE001 (a bug of ours: its story is logged, and the daemon stops loudly)
            self._break_down(error)
        finally:
            self._handling = False

    def _note_news(self) -> None:
        """Something happens: ticks are frequent again."""
        now = time.monotonic()
        if now - self._heard_at > QUIET_AFTER:
            self._woken.set()
        self._heard_at = now

    def _hear(self, news: ExecutionNews) -> None:
        """Take in what the executor says; ends of one turn of the loop are one event."""
        if isinstance(news, ExecutionEnded | ExecutionsSucceeded):
            if not self._ends:
                self._loop.call_soon(self._tell_ends)
            self._ends.append(news)
        else:
            self._tell_ends()
            self._feed(news)

    def _tell_ends(self) -> None:
        ends, self._ends = self._ends, []
        if ends:
            self._feed(ends[0] if len(ends) == 1 else ExecutionsEnded(tuple(ends)))

    def _handle(self, event: Event) -> None:
        now = time.monotonic()
        commands: tuple[Command, ...] = ()
        leaving = self._machine.leaving
        try:
            commands = self._machine.handle(event, now)
        finally:
            if self._machine.leaving != leaving:
                _log.info("worker %s takes no more tasks: %s", self.name, self._machine.leaving)
            if commands or not isinstance(event, Tick):
                self._story.append((now, event, commands))
        for command in commands:
            self._perform(command)
        self._observer.observe(event, commands)

    def _break_down(self, error: BaseException) -> None:
        _log.critical("a bug in broker-jobs, please report it with this log:\n%s", tell(self._story), exc_info=error)
        if not self._exit.done():
            self._exit.set_result(Exit(BUG, in_order=False))

    def _chunk(self, delivery: Delivery) -> None:
        """A message has come from a class queue."""
        try:
            chunk = read_chunk(delivery.body, delivery.queue, self._signer, self._topology)
        except (DecodeError, SecurityError) as error:
            self._refuse(delivery, error)
        else:
            self._feed(ChunkArrived(_without_body(delivery), chunk))

    def _control(self, delivery: Delivery) -> None:
        """A message has come from the control queue."""
        try:
            message = read_control(delivery.body, self._signer)
        except (DecodeError, SecurityError) as error:
            self._refuse(delivery, error)
        else:
            self._broker.done(delivery)
            match message:
                case OutputAsked():
                    self._spawn(self._readers.serve(message))
                case JobsForgotten(jobs):
                    self._spawn(self._executor.forget(jobs))
                case Welcome(forgotten=forgotten):
                    if forgotten:
                        self._spawn(self._executor.forget(forgotten))
                    self._feed(message)
                    self.welcomed.set()
                case _:
                    self._feed(message)

    def _show(self, asked: OutputAsked, piece: Piece) -> None:
        """Somebody reads output."""
        body = self._signer.seal(Response(asked.request, piece), Role.worker)
        self._publish(None, self._topology.answer_key(asked.reply_to), body)

    def _refuse(self, delivery: Delivery, error: DecodeError | SecurityError) -> None:
        kind = "security" if isinstance(error, SecurityError) else "decode"
        _log.warning("a message in %s is refused: %s: %s", delivery.queue, kind, error)
        self._metrics.dead_letters.labels(kind).inc()
        self._spawn(self._dead_letter(delivery, f"{kind}: {error}"))

    # --- what is to be done ---------------------------------------------------------------------------------------------

    def _perform(self, command: Command) -> None:
        match command:
            case Start(execution, then=then):
                self._executor.start(execution, then)
            case Recall(execution):
                self._executor.recall(execution)
            case Stop(execution, reason, within):
                self._executor.stop(execution, reason, within)
            case Publish(number, key, message, leisurely):
                self._publish(number, key, self._signer.seal(message, Role.worker), leisurely=leisurely)
            case Say(message):
                if isinstance(message, Hello):
                    message = replace(message, kept=self._executor.kept())
                self._publish(None, self._topology.worker_key(), self._signer.seal(message, Role.worker))
            case Settle(delivery):
                self._broker.done(delivery)
            case Subscribe() | Unsubscribe():
                self._orders.put_nowait(command)
            case Exit():
                self._exit.set_result(command)
            case _:
                assert_never(command)

    def _publish(self, number: int | None, key: str, body: bytes, *, leisurely: bool = False) -> None:
        """Publish together with everything else of this turn of the loop."""
        if not self._outbox:
            self._spawn(self._send_outbox())
        self._outbox.append((number, Outgoing(self._topology.replies, key, body, leisurely=leisurely)))

    async def _send_outbox(self) -> None:
        batch, self._outbox = self._outbox, []
        receipts = await self._broker.publish([message for _, message in batch])
        for (number, _), receipt in zip(batch, receipts, strict=True):
            if number is not None:
                self._feed(PublishConfirmed(number) if receipt is Receipt.confirmed else PublishFailed(number, receipt.value))

    async def _dead_letter(self, delivery: Delivery, reason: str) -> None:
        # A worker may publish to this one exchange alone.
        await self._broker.dead_letter(delivery, self._topology.replies, reason, key=self._topology.dead_key())

    async def _keep_subscriptions(self) -> None:
        """Consume and stop consuming, one after the other, in the order of the commands."""
        while True:
            match await self._orders.get():
                case Subscribe(resource_class, lane, credit, behind):
                    queue = self._topology.class_name(resource_class, lane)
                    try:
                        begun = await self._broker.consume(queue, credit, self._chunk, behind=behind)
                        self._subscriptions[Source(resource_class, lane)] = begun
                    except BrokerError as error:
                        self._feed(SubscribeFailed(resource_class, lane, str(error)))
                case Unsubscribe(resource_class, lane):
                    subscription = self._subscriptions.pop(Source(resource_class, lane), None)
                    if subscription:
                        await subscription.cancel()

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        """Do it beside; an exception of it is a bug."""
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._spawned)

    def _spawned(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            self._break_down(error)


def _without_body(delivery: Delivery) -> Delivery:
    """What is enough to settle it: chunks are held for a while, and their bytes are not needed any more."""
    return type(delivery)(delivery.queue, delivery.exchange, delivery.key, b"", delivery.tag, delivery.redelivered)


async def serve(config: WorkerConfig) -> int:
    """Run a worker until SIGTERM or SIGINT; its exit code. `ValidationError` where its steps cannot be read."""
    return await WorkerDaemon(config, steps=await served(config.steps, config.path)).serve(signals=True)
