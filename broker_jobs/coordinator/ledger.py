"""The ledger: one batch of messages at a time becomes one transaction, and what must be published after it.

Everything here runs in one thread. `begin`, `take`, `finish` belong into one transaction of the store; the effects that `finish`
returns are performed after its commit. What was committed and not performed is found in the outbox at the next start, or can be
asked for again.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Final, assert_never

from broker_jobs.coordinator import queries
from broker_jobs.coordinator.classes import Classes
from broker_jobs.coordinator.effects import Batch, Effects
from broker_jobs.coordinator.intake import Intake
from broker_jobs.coordinator.jobs import Jobs
from broker_jobs.coordinator.mailer import Mailer
from broker_jobs.coordinator.reconcile import Inventory, Reconciler, Unheard
from broker_jobs.coordinator.registry import Announced, Registry
from broker_jobs.coordinator.replies import STALE_MS, Replies
from broker_jobs.coordinator.requests import Requests
from broker_jobs.coordinator.store import StepRow, WorkerRow, Writes
from broker_jobs.coordinator.store.parts import clean
from broker_jobs.coordinator.teams import Teams
from broker_jobs.coordinator.workers import AskDrain, AskHello, Drop, Greet, Lose, Save, Worker, Workers, WorkerState
from broker_jobs.core.job import JobVoided
from broker_jobs.core.states import TaskState
from broker_jobs.ids import made_ms, partition_of
from broker_jobs.wire.messages import (
    Chunk,
    Goodbye,
    Heartbeat,
    Hello,
    Reply,
    Request,
    Revocation,
    Token,
    Welcome,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from broker_jobs.broker.port import Depth
    from broker_jobs.coordinator.admission import LedgerMessage
    from broker_jobs.coordinator.config import CoordinatorConfig
    from broker_jobs.coordinator.reconcile import Published
    from broker_jobs.coordinator.store import LedgerStore
    from broker_jobs.coordinator.telling import Telling
    from broker_jobs.coordinator.workers import WorkerCommand
    from broker_jobs.wire.signing import Signer
    from broker_jobs.wire.topology import Topology

KEEP_HOUSE: Final = 60.0
"""Seconds between two rounds of what has no hurry, at most."""

MOST_KEPT: Final = 1000
"""Jobs of which a worker says that it keeps output."""

LATELY: Final = 60.0
"""Seconds for which workers are thought to have tasks of other partitions since one has said so."""

MOST_FORGOTTEN: Final = 200
"""Old jobs that one round drops."""


class Ledger:
    """All that the coordinator of a partition knows.

    Args:
        store: its epoch is taken
        version: of this program
        telling: finds what plugins are told, where there are some

    Attributes:
        outbox_messages: recorded, and not confirmed yet
        telling: what plugins are told
    """

    def __init__(
        self,
        config: CoordinatorConfig,
        store: LedgerStore,
        signer: Signer,
        topology: Topology,
        *,
        version: str,
        telling: Telling | None = None,
    ) -> None:
        outbox = store.look.outbox()
        self._config = config
        self._store = store
        self._outbox = outbox
        self._mailer = Mailer(signer, topology, config.partition, outbox[-1].id + 1 if outbox else 1)
        self._classes = Classes(store.look.classes(), config.partition)
        self._topology = topology
        self._reconciler = Reconciler(config.look)
        self._unheard = Unheard()
        self.workers = Workers(config.grace)
        self._registry = Registry(Announced(row.spec, row.since_ms) for row in store.look.steps())
        self.teams = Teams(self.workers.known, secrets.token_hex(4))
        self.telling = telling
        self.jobs = Jobs(store, self._mailer, self._classes, self.workers, topology, telling=telling)
        self._intake = Intake(self.jobs, store, self._classes, topology, store.look.next_job_key())
        self._replies = Replies(self.jobs, store, self._mailer, self.workers)
        self._requests = Requests(
            self.jobs,
            store,
            self._mailer,
            self.workers,
            self._classes,
            teams=self.teams,
            registry=self._registry,
            intake=self._intake,
            name=config.name,
            version=version,
        )
        self._patience = 0.0
        self._next_round = 0.0
        self._elsewhere = -LATELY
        self._batch = Batch(0.0, 0)
        self._undeleted: list[int] = []
        self.outbox_messages = len(outbox)

    # --- start ---

    def load(self, now: float, now_ms: int) -> Effects:
        """Take up what the store holds; what must be published first."""
        self._patience = now + self._config.reconnect_grace
        self.workers.come_back(now, self._patience)
        self.teams.adopt_until = self._patience
        self.jobs.load(now, now_ms)
        rows = self._store.look.workers()
        self.workers.restore((_worker(row, now) for row in rows), self._patience)
        batch = Batch(now, now_ms)
        self._mailer.ask_hello(batch, self._config.name)
        batch.effects.open_classes = list(self._classes.known)
        batch.effects.outbox = self._outbox
        self._outbox = []
        batch.effects.more = True
        return batch.effects

    # --- one batch ---

    def begin(self, now: float, now_ms: int) -> None:
        """Start a batch. Times are seconds of a clock that never goes back, and milliseconds since 1970."""
        self._batch = Batch(now, now_ms)

    def take(self, message: LedgerMessage, *, returned: bool = False) -> None:
        """A message of the ledger queue.

        Args:
            returned: it came back from a class queue that gave it up
        """
        batch = self._batch
        match message:
            case Chunk():
                if returned:
                    self._intake.returned(batch, message)
                    return
                job = self._intake.take(batch, message)
                if job is not None:
                    self._replies.catch_up(batch, job, [task.number for task in message.tasks], self._patience)
            case Reply():
                self._replies.take(batch, message, self._patience)
                self._perform(self._replies.mentioned)
                self._replies.mentioned.clear()
            case Hello() | Heartbeat() | Goodbye() | Token():
                self._perform(self.workers.hear(message, batch.now, batch.now_ms, self._patience))
                if isinstance(message, Heartbeat):
                    self._classes.seen(batch, message.used)
                    if not all(self._is_ours(held.job) for held in message.held):
                        self._elsewhere = batch.now
                if isinstance(message, Hello | Heartbeat) and not self._config.partition:  # which alone has teams
                    for asked in self.teams.hear(message.worker, message.boot, message.seat, batch.now):
                        self._mailer.ask_team(batch, asked)
            case Request():
                self._requests.take(batch, message)
                self._perform(self._requests.wanted)
                self._requests.wanted.clear()
            case _:
                assert_never(message)

    def confirmed(self, numbers: Iterable[int]) -> None:
        """The broker has these messages of the outbox."""
        before = len(self._undeleted)
        self._undeleted.extend(numbers)
        self.outbox_messages -= len(self._undeleted) - before

    def tidy(self) -> None:
        """Take what was confirmed out of the outbox, and change nothing else."""
        self._store.write(Writes(outbox_done=self._undeleted))
        self._undeleted = []

    def opened(self, name: str, missing: Iterable[str]) -> None:
        """The queues of a class are there now.

        Args:
            missing: those that were not there before
        """
        self._tell_of_class(name, anew=bool(missing))
        self.jobs.unopened(self._batch, set(missing))

    def _tell_of_class(self, name: str, *, anew: bool) -> None:
        resource_class = self._classes.opened(name, anew=anew)
        if resource_class is not None:
            self._mailer.class_opened(self._batch, resource_class, anew=anew)

    def reconnected(self) -> None:
        """The coordinator's own connection was gone: be patient with the workers, and see that the class queues are there."""
        now = self._batch.now
        self._batch.effects.open_classes += self._classes.known
        self._patience = now + self._config.reconnect_grace
        self.workers.come_back(now, self._patience)
        self._mailer.ask_hello(self._batch, self._config.name)

    def looked(self, depths: Mapping[str, Depth]) -> None:
        """How full the class queues are that were worth a look."""
        batch = self._batch
        ready = {queue: depth.ready for queue, depth in depths.items()}
        wrong = {queue for queue, depth in depths.items() if depth.ready and not depth.consumers}
        for lost in self._reconciler.decide(ready, self._published(batch.now), self._inventories(), batch.now):
            wrong.add(lost.queue)
            if not self.jobs.standing.missing(batch, lost.job, lost.chunk, (task for task, _ in lost.attempts)):
                self.jobs.missing(batch, lost)
        for name in sorted({self._topology.class_in(queue) for queue in self._unheard.look(wrong, batch.now)}):
            self._tell_of_class(name, anew=True)

    def finish(self) -> Effects:
        """End the batch: write its rows; what must be published after the commit."""
        batch = self._batch
        self._perform(self.workers.tick(batch.now))
        if self._next_round <= batch.now:
            self._next_round = batch.now + min(KEEP_HOUSE, self._config.incomplete_after, self._config.retain_ephemeral)
            self._keep_house()
        changed = self.jobs.finish(batch)
        self._plan_teams()
        batch.writes.outbox_done, self._undeleted = self._undeleted, []
        self.outbox_messages += len(batch.effects.outbox)
        self._store.write(batch.writes)
        if self.telling is not None:
            batch.effects.moments = self.telling.take(self._store.look)
        self._requests.finish(batch, changed)
        return batch.effects

    def _plan_teams(self) -> None:
        """Find workers for tasks of several nodes."""
        batch, classes = self._batch, self._classes.of_nodes
        demands = self.jobs.demands(classes) if classes else []
        if demands or self.teams:
            # What waits in other partitions is not known here; what workers had of it lately is.
            others = self.jobs.others(classes) or batch.now < self._elsewhere + LATELY
            for asked in self.teams.plan(demands, batch.now, batch.now_ms, others=others):
                self._mailer.ask_team(batch, asked)

    # --- time ---

    def due_in(self, now: float) -> float:
        """Seconds until something is due without a message."""
        due = (self._next_round, self.jobs.next_due(), self.workers.due(), self.teams.due(), self._requests.polls.due())
        return max(0.0, min(at for at in due if at is not None) - now)

    def suspicious(self, now: float) -> set[str]:
        """Class queues that are worth a look: something published there long ago is with nobody."""
        old = self._published(now)
        return self._reconciler.suspicious(old, self._inventories()) if old else set()

    @property
    def calm(self) -> bool:
        """Whether no outcome sets anything free, and nobody waits for one here."""
        return not self._requests.polls and self.jobs.all_out

    @property
    def unconfirmed_deletions(self) -> int:
        """Confirmed messages of the outbox whose rows are still there."""
        return len(self._undeleted)

    def _published(self, now: float) -> list[Published]:
        """What was published, or revoked after it was, long ago."""
        before = now - self._config.republish_after
        return [*self.jobs.published(before), *self.jobs.standing.published(before)]

    def _inventories(self) -> list[Inventory]:
        return [Inventory(worker.heard, worker.held) for worker in self.workers.present()]

    def _keep_house(self) -> None:
        """Void what will never be whole, forget what is old, close classes that nobody uses."""
        batch, config = self._batch, self._config
        for job in list(self.jobs.live.values()):
            if not job.whole and job.facts.heard_ms + config.incomplete_after * 1000 <= batch.now_ms:
                self.jobs.apply(batch, job, JobVoided("its submitter vanished before the job was whole"))
        old = self._store.look.ended_before(batch.now_ms - round(config.retain_ephemeral * 1000), ephemeral=True, limit=MOST_FORGOTTEN)
        if config.retain is not None:
            old += self._store.look.ended_before(batch.now_ms - round(config.retain * 1000), ephemeral=False, limit=MOST_FORGOTTEN)
        self.jobs.forget(batch, list({facts.key: facts for facts in old}.values()))
        self._classes.retire(batch, {shared.resource_class for job in self.jobs.live.values() for shared in job.shared})
        self._replies.expire(batch)

    # --- workers ---

    def _perform(self, commands: Iterable[WorkerCommand]) -> None:
        batch = self._batch
        for command in commands:
            match command:
                case Greet(hello):
                    self._greet(hello)
                case AskHello(worker):
                    self._mailer.ask_hello(batch, self._config.name, worker)
                case AskDrain(message):
                    self._mailer.ask_drain(batch, message)
                case Lose(worker, boot):
                    self.jobs.lose(batch, worker, boot)
                case Save(worker):
                    batch.writes.workers.append(_row(worker))
                case Drop(worker):
                    batch.writes.workers_done.append(worker)
                case _:
                    assert_never(command)

    def _greet(self, hello: Hello) -> None:
        """Answer a hello, and miss what the worker does not have any more."""
        batch = self._batch
        held = {(item.job, item.task, item.attempt) for item in hello.held if self._is_ours(item.job)}
        for job, number in self.jobs.taken_by(hello.worker, hello.boot):
            if (job.facts.id, number, job.machine.tasks.seen(number).attempt) not in held:
                self.jobs.lose_task(batch, job, number)
        revoked = tuple(revocation for item in sorted(held) if (revocation := self._revoked(*item)) is not None)
        gone = tuple(job for job in [*filter(self._is_ours, hello.kept)][:MOST_KEPT] if self._is_gone(job))
        revoked = (*self.jobs.standing.all(), *revoked)
        for news in self._registry.announce(hello.steps, batch.now_ms):
            batch.writes.steps.append(StepRow(news.spec.name, str(news.spec.version), news.spec, news.since_ms))
        self._mailer.welcome(batch, Welcome(hello.worker, hello.boot, self._classes.open(), revoked, gone, self._config.partition))

    def _is_ours(self, job: str) -> bool:
        """Whether a job is of this partition; of those of others nothing is known here."""
        return partition_of(job) == self._config.partition

    def _is_gone(self, job: str) -> bool:
        """Whether a job was forgotten; what is not known and young may just not have come yet."""
        if job in self.jobs.live or self.jobs.forgotten(job):
            return job not in self.jobs.live
        return self._store.look.job(job) is None and made_ms(job) + STALE_MS < self._batch.now_ms

    def _revoked(self, job_id: str, number: int, attempt: int) -> Revocation | None:
        """Why an attempt must stop, or None: what is not known here may just not have come yet."""
        job = self.jobs.live.get(job_id)
        if job is None:
            facts = self._store.look.job(job_id)
            ended = facts is not None and not queries.active(facts)
            return Revocation(job_id, number, attempt, "the job has ended") if ended or self.jobs.forgotten(job_id) else None
        record = job.machine.tasks.get(number)
        if record is None:
            return None
        if record.ended or record.attempt > attempt or record.state is TaskState.canceling:
            return Revocation(job_id, number, attempt, record.reason)
        return None


def _worker(row: WorkerRow, now: float) -> Worker:
    state = WorkerState(row.state)
    return Worker(row.name, row.boot, state, now, row.seen_ms, row.host, row.pid, row.version, row.resources, row.free, asked=row.asked)


def _row(worker: Worker) -> WorkerRow:
    return WorkerRow(
        worker.name,
        worker.boot,
        worker.state.value,
        clean(worker.host),
        worker.pid,
        clean(worker.version),
        worker.resources,
        worker.free,
        worker.seen_ms,
        worker.asked,
        clean(worker.reason),
    )
