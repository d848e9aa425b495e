"""A world around a ledger, without threads and sockets: queues are lists, the clock is a number, and crashes come as asked.

Bytes go through the real codec and the real admission, rows through the real store.
"""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
import weakref
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

from broker_jobs.broker.port import Depth
from broker_jobs.config import sqlite_url
from broker_jobs.coordinator.admission import admit
from broker_jobs.coordinator.config import CoordinatorConfig
from broker_jobs.coordinator.ledger import Ledger
from broker_jobs.coordinator.store import LedgerStore
from broker_jobs.coordinator.telling import Telling
from broker_jobs.core.job import Return
from broker_jobs.core.outcome import Outcome, Succeeded
from broker_jobs.core.quantities import UNIT
from broker_jobs.core.resources import Resources
from broker_jobs.core.spec import Lane
from broker_jobs.core.states import JobState
from broker_jobs.wire import messages as m
from broker_jobs.wire.signing import Signer, SigningKey
from broker_jobs.wire.topology import Topology
from tests.support.cast import value
from tests.support.told import Everything, check_order

if TYPE_CHECKING:
    from collections.abc import Iterable

    from broker_jobs.coordinator.admission import LedgerMessage
    from broker_jobs.coordinator.effects import Effects
    from broker_jobs.coordinator.kept import TaskFacts
    from broker_jobs.coordinator.live import LiveJob
    from broker_jobs.coordinator.store import OutboxRow
    from broker_jobs.core.value import Inline
    from broker_jobs.hooks.facts import Moment

KEY = SigningKey.parse("ab" * 32)
SIGNER = Signer("t", KEY)
NAMES = Topology("t")
GRACE = 3.0


class Crash(Enum):
    """When the coordinator dies in a batch."""

    never = "never"
    before_commit = "before commit"
    after_commit = "after commit"
    """Nothing was published, nothing acknowledged."""
    before_ack = "before ack"
    """All was published, nothing acknowledged."""


class Killed(Exception):
    """The coordinator dies here."""


def die() -> None:
    """End the transaction of a batch as a kill would."""
    raise Killed


@dataclass(slots=True)
class Standing:
    """A chunk in a class queue."""

    chunk: m.Chunk
    redelivered: bool = False


@dataclass(frozen=True, slots=True)
class Running:
    """An attempt that a worker has taken."""

    job: str
    task: m.Task
    boot: str
    execution: str


@dataclass(frozen=True, slots=True)
class Riding:
    """A task of a chain that a worker has said to have begun.

    Attributes:
        place: in the chain
        after: the execution that it follows
    """

    chunk: m.Chunk
    place: int
    after: str
    boot: str
    execution: str


def of_attempt(task: m.Task) -> Inline:
    """A result that tells its attempt."""
    return value([task.number, task.attempt])


def class_news(effects: Effects) -> list[m.ClassOpened]:
    """Of which classes workers are told."""
    found = [SIGNER.open(each.body).message for each in effects.sends]
    return [each for each in found if isinstance(each, m.ClassOpened)]


@dataclass
class World:
    """A broker, a worker's boot, and the ledger under test.

    Attributes:
        inbox: what stands in the ledger queue: exchange, routing key, body
        queues: chunks in class queues
        unconfirmed: rows of the outbox that were published
        taken: what the worker has taken
        riding: what it runs of chains
        given: values that each execution of a task was given
        moments: what plugins were told
        address: of the ledger's database; a file of the folder, where it is empty
        partition: of the ledger
    """

    folder: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="ledger-")))
    now: float = 1000.0
    ahead_ms: int = 0
    inbox: list[tuple[str, str, bytes]] = field(default_factory=list)
    queues: dict[str, list[Standing]] = field(default_factory=dict)
    unconfirmed: dict[int, OutboxRow] = field(default_factory=dict)
    taken: list[Running] = field(default_factory=list)
    riding: list[Riding] = field(default_factory=list)
    boots: int = 0
    executions: int = 0
    more: bool = False
    opened: list[str] = field(default_factory=list)
    moments: list[Moment] = field(default_factory=list)
    address: str = ""
    partition: int = 0

    def __post_init__(self) -> None:
        # A story that hypothesis gives up has no end.
        weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)
        self.address = self.address or sqlite_url(self.folder / "ledger.db")
        self.config = CoordinatorConfig("sqlite:////none", KEY, self.address, "t", self.partition, grace=GRACE, reconnect_grace=GRACE)
        self.start()
        self.hello()

    @property
    def now_ms(self) -> int:
        """Milliseconds since 1970."""
        return round(self.now * 1000) + self.ahead_ms

    @property
    def boot(self) -> str:
        """Of the worker."""
        return f"boot-{self.boots}"

    # --- the coordinator ---

    def start(self) -> None:
        """A coordinator comes up."""
        self.store = LedgerStore(self.config.store, "t", partition=self.partition)
        self.store.take_epoch()
        self.ledger = Ledger(self.config, self.store, SIGNER, NAMES, version="0", telling=Telling(Everything()))
        self.unconfirmed.clear()
        self.opened.clear()
        self.publish(self.ledger.load(self.now, self.now_ms))

    def restart(self) -> None:
        """It dies, and another comes up."""
        self.store.close()
        self.start()

    def batch(self, chosen: Iterable[int], crash: Crash = Crash.never, confirms: int = 0) -> None:
        """One batch of what stands in the ledger queue.

        Args:
            chosen: positions in the queue
            confirms: how many of the published messages the broker has confirmed before
        """
        positions = sorted(set(chosen))
        bodies = [self.inbox[position] for position in positions]
        try:
            with self.store.transaction():
                self.ledger.begin(self.now, self.now_ms)
                for exchange, key, body in bodies:
                    message = admit(SIGNER.open(body), NAMES, exchange, key, self.partition)
                    self.ledger.take(message, returned=exchange == NAMES.returned)
                for name in self.opened:
                    self.ledger.opened(name, ())
                confirmed = list(self.unconfirmed)[:confirms]
                self.ledger.confirmed(confirmed)
                effects = self.ledger.finish()
                if crash is Crash.before_commit:
                    die()
        except Killed:
            self.restart()
            return
        self.opened.clear()
        for number in confirmed:
            del self.unconfirmed[number]
        if crash is Crash.after_commit:
            self.restart()
            return
        self.publish(effects)
        self.moments += effects.moments
        if crash is Crash.before_ack:
            self.restart()
            return
        for position in reversed(positions):
            del self.inbox[position]

    def take(self, message: LedgerMessage, exchange: str) -> None:
        """A batch of one message, which came over this exchange."""
        with self.store.transaction():
            self.ledger.begin(self.now, self.now_ms)
            self.ledger.take(message, returned=exchange == NAMES.returned)
            for name in self.opened:
                self.ledger.opened(name, ())
            effects = self.ledger.finish()
        self.opened.clear()
        self.publish(effects)

    def publish(self, effects: Effects) -> None:
        """What the broker does with the effects of a batch."""
        self.more = effects.more
        self.opened.extend((*effects.open_classes, *effects.new_classes))
        for row in effects.outbox:
            self.unconfirmed[row.id] = row
            if row.exchange == NAMES.ready:
                chunk = SIGNER.open(row.body).message
                assert isinstance(chunk, m.Chunk)
                self.stand(chunk)

    # --- clients and workers ---

    def stand(self, chunk: m.Chunk) -> None:
        """Put a chunk into its class queue."""
        self.queues.setdefault(NAMES.class_name(chunk.resource_class, chunk.lane), []).append(Standing(chunk))

    def submit(self, chunk: m.Chunk) -> None:
        """Publish a chunk of a submitter."""
        direct = NAMES.task_key(chunk.resource_class, chunk.lane, self.partition)
        key = direct if chunk.direct else NAMES.ledger_key(self.partition)
        self.inbox.append((NAMES.tasks, key, SIGNER.seal(chunk, m.Role.submitter)))
        if chunk.direct:
            self.stand(chunk)

    def give_up(self, chunk: m.Chunk) -> None:
        """A class queue gives a chunk up."""
        key = NAMES.task_key(chunk.resource_class, chunk.lane, self.partition)
        self.inbox.append((NAMES.returned, key, SIGNER.seal(chunk, m.Role.coordinator)))

    def ask(self, question: m.Question) -> None:
        """Publish a request."""
        request = m.Request("q", "client-1", question, self.now_ms + 10_000)
        self.inbox.append((NAMES.tasks, NAMES.ledger_key(self.partition), SIGNER.seal(request, m.Role.submitter)))

    def say(self, message: m.Message, exchange: str = "") -> None:
        """Publish something as the worker."""
        self.inbox.append((exchange or NAMES.replies, "_.0", SIGNER.seal(message, m.Role.worker)))

    def hello(self) -> None:
        """The worker introduces itself."""
        four = Resources((("cpus", 4 * UNIT),))
        held = tuple(m.Held(item.job, item.task.number, item.task.attempt, taken=True) for item in self.taken)
        self.say(m.Hello("w", self.boot, "host", 1, "0", four, four, held))

    def heartbeat(self) -> None:
        """The worker says what it holds."""
        four = Resources((("cpus", 4 * UNIT),))
        held = tuple(m.Held(item.job, item.task.number, item.task.attempt, taken=True) for item in self.taken)
        self.say(m.Heartbeat("w", self.boot, four, held))

    def lose_worker(self) -> None:
        """The worker dies; another comes in its place."""
        self.say(m.Token("w", self.boot), NAMES.returned)
        self.taken.clear()
        self.riding.clear()
        self.boots += 1
        self.hello()

    def execution(self) -> str:
        """A fresh execution."""
        self.executions += 1
        return f"{self.boot}.{self.executions}"

    def reply(self, job: str, *items: m.ReplyItem) -> None:
        """The worker says something of attempts."""
        self.say(m.Reply(job, "w", self.boot, tuple(items), "class"))

    def ended(self, task: m.Task, outcome: Outcome) -> m.Ended:
        """An end of a task, as an item of a reply."""
        return m.Ended(task.number, task.attempt, self.execution(), outcome, self.now_ms, self.now_ms)

    def succeed(self, chunk: m.Chunk, task: m.Task) -> m.Ended:
        """A success whose value tells what the execution was given."""
        inputs = task.work.inputs if isinstance(task.work, m.Call) else ()
        for key in inputs:
            assert key in chunk.values, f"task {task.number} was sent without the value of {key}"
        return self.ended(task, Succeeded(of_attempt(task)))

    def begin(self, chunk: m.Chunk, place: int, after: str) -> m.Started:
        """One of a chain begins."""
        task, execution = chunk.chain[place], self.execution()
        self.riding.append(Riding(chunk, place, after, self.boot, execution))
        return m.Started(task.number, task.attempt, execution, self.now_ms, after)

    def follow(self, chunk: m.Chunk, place: int, after: str, outcome: Outcome | None = None) -> m.Ended:
        """One of a chain ends; without an outcome, with a value that tells what it was given."""
        task, before = chunk.chain[place], (*chunk.tasks, *chunk.chain)[place]
        given = {*chunk.values, str(before.number)}
        assert before.number in {*task.deps, *task.after}, "it follows what it waits for"
        assert given.issuperset(task.work.inputs), f"task {task.number} was sent without a value"
        return dataclasses.replace(self.ended(task, outcome or Succeeded(of_attempt(task))), after=after)

    # --- what must be true ---

    def check(self) -> None:
        """The machines are sound, and what is in memory is what the rows tell."""
        check_order(self.moments)
        for job in self.ledger.jobs.live.values():
            job.machine.check()
            facts = self.store.look.job(job.facts.id)
            assert facts == dataclasses.replace(
                job.facts, tags=tuple(job.facts.tags), counts={key: count for key, count in job.facts.counts.items() if count}
            )
            again = self.ledger.jobs.restore(facts, self.now)
            assert dict(again.machine.tasks.items()) == dict(job.machine.tasks.items())
            needs, needs_again = ({n: r.outside for n, r in one.machine.tasks.items() if not r.ended} for one in (job, again))
            assert needs == needs_again
            assert again.reservations.total == job.reservations.total == (facts.reserved or 0)
            assert again.machine.counts == job.machine.counts
            for name in ("state", "total", "max_fails", "cancel_reason", "void_reason", "pause_reason"):
                assert getattr(again.machine, name) == getattr(job.machine, name), name
            assert self.known(again) == self.known(job)
            assert again.taken == job.taken
            assert again.chunks == job.chunks
            assert {name: flight.open for name, flight in again.window.flights.items()} == {
                name: flight.open for name, flight in job.window.flights.items()
            }
            stalled = {ready.number for ready in job.stalled}
            ready = {item.number for item in job.window.ready() if job.current(item)}
            assert ready | stalled == {item.number for item in again.window.ready()}

    def known(self, job: LiveJob) -> dict[int, TaskFacts]:
        """What is known of the tasks of a job; what is overdue is due now, as it is for a coordinator that comes up."""
        return {
            number: dataclasses.replace(task, ready_ms=0, due_ms=None if task.due_ms is None else max(task.due_ms, self.now_ms))
            for number, task in job.tasks.everything()
        }

    def settle(self, jobs: Iterable[str]) -> None:
        """Let everything come to its end, without further crashes."""
        jobs = list(jobs)
        for _ in range(400):
            if self.inbox or self.more or self.opened:
                self.batch(range(len(self.inbox)), confirms=len(self.unconfirmed))
                continue
            facts = {job: self.store.look.job(job) for job in jobs}
            if all(item is None or item.state not in {JobState.waiting, JobState.running} for item in facts.values()):
                return
            self.work_all()
            if not self.inbox:
                self.pass_time()
        raise AssertionError(f"the jobs do not end: {[self.store.look.job(job) for job in jobs]}")

    def work_all(self) -> None:
        """The worker does what there is."""
        for item in self.taken:
            self.reply(item.job, self.ended(item.task, Succeeded(of_attempt(item.task))))
        self.taken.clear()
        for standing in [standing for queue in self.queues.values() for standing in queue]:
            chunk = standing.chunk
            if standing.redelivered and not chunk.isolated:
                every = (*chunk.tasks, *chunk.chain)
                self.reply(chunk.job, *(m.Returned(task.number, task.attempt, Return.redelivered) for task in every))
            else:
                ends = [self.succeed(chunk, task) for task in chunk.tasks]
                for place in range(len(chunk.chain)):
                    ends.append(self.follow(chunk, place, ends[-1].execution))
                self.reply(chunk.job, *ends)
        self.queues.clear()

    def pass_time(self) -> None:
        """Delays and graces end, and the coordinator looks for what is nowhere."""
        for _ in range(2):
            self.now += 20.0
            self.heartbeat()
            self.batch(range(len(self.inbox)))
            self.look(Depth(0, 1))

    def look(self, depth: Depth) -> list[m.ClassOpened]:
        """All class queues are this full; of which classes workers are told."""
        depths = {NAMES.class_name(name, lane): depth for name in self.ledger._classes.known for lane in Lane}  # noqa: SLF001
        with self.store.transaction():
            self.ledger.begin(self.now, self.now_ms)
            self.ledger.looked(depths)
            effects = self.ledger.finish()
        self.publish(effects)
        return class_news(effects)

    def close(self) -> None:
        """End."""
        self.store.close()
        shutil.rmtree(self.folder)
