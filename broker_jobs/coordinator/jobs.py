"""The live jobs of the ledger: their machines are handed events, and the commands that come back are performed.

Performing means: leave rows and messages in the batch, put ready tasks into the window of their job, keep the time of what is due.
At the end of a batch `finish` builds the chunks that have room and writes the rows of all that changed.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict, deque
from typing import TYPE_CHECKING, Final, assert_never

from broker_jobs.coordinator.chains import chained
from broker_jobs.coordinator.datasets import Datasets, job_log
from broker_jobs.coordinator.links import Links
from broker_jobs.coordinator.live import LiveJob, Shared
from broker_jobs.coordinator.queries import job_info
from broker_jobs.coordinator.release import Parts, build
from broker_jobs.coordinator.results import Results
from broker_jobs.coordinator.standing import Standing
from broker_jobs.coordinator.store import job_row
from broker_jobs.coordinator.successes import NOTHING, outcome_row, succeed
from broker_jobs.coordinator.sweeps import sweep
from broker_jobs.coordinator.teams import Demand, Place, longest
from broker_jobs.coordinator.urgency import Fleet, choose
from broker_jobs.coordinator.window import Turns
from broker_jobs.coordinator.works import Works
from broker_jobs.core.job import (
    AttemptEnded,
    AttemptReturned,
    CancelRequested,
    Changed,
    Delay,
    Duplicate,
    Finished,
    PauseRequested,
    Queue,
    QueueAll,
    Recorded,
    Reservations,
    RetryDue,
    Return,
    Revoke,
    Swept,
    Together,
    Withdraw,
)
from broker_jobs.core.outcome import Cause, Failed, Succeeded
from broker_jobs.core.states import ENDED, JOB_ENDED, TaskState
from broker_jobs.errors import ValueTooLarge
from broker_jobs.wire.messages import LogKind, Revocation

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from broker_jobs.coordinator.classes import Classes
    from broker_jobs.coordinator.effects import Batch
    from broker_jobs.coordinator.mailer import Mailer
    from broker_jobs.coordinator.reconcile import Missing, Published
    from broker_jobs.coordinator.store import JobFacts, LedgerStore, OutcomeRow
    from broker_jobs.coordinator.successes import Said
    from broker_jobs.coordinator.telling import Telling
    from broker_jobs.coordinator.window import Draft, Group
    from broker_jobs.coordinator.workers import Workers
    from broker_jobs.core.job import JobEvent
    from broker_jobs.core.request import Request
    from broker_jobs.wire.messages import Ended
    from broker_jobs.wire.topology import Topology

MOST_CHUNKS: Final = 64
"""Ready chunks that one transaction makes; the others wait for the next."""

FEW: Final = 100
"""So many jobs can be looked at in each batch."""

REMEMBERED: Final = 10_000
"""Jobs that were dropped lately and are still known by their ids, so that a chunk or reply that comes twice does not revive them."""

_WHOLE_JOB_FROM: Final = 100
"""So many revocations of one event become one for the whole job."""


class Jobs:
    """All jobs that have not ended, and those that end in the present batch.

    Attributes:
        live: by id
        standing: what was revoked while a message of it may stand in a class queue
        changed: jobs that the present batch has changed, by id
        links: what tasks wait for in other jobs
        data: what tasks take and make
        works: what the tasks do that wait
    """

    def __init__(
        self,
        store: LedgerStore,
        mailer: Mailer,
        classes: Classes,
        workers: Workers,
        topology: Topology,
        *,
        telling: Telling | None = None,
    ) -> None:
        self.live: dict[str, LiveJob] = {}
        self.changed: dict[str, LiveJob] = {}
        self._store = store
        self._mailer = mailer
        self._classes = classes
        self._workers = workers
        self._topology = topology
        self._telling = telling
        self.standing = Standing(store.look.revocations())
        self._hungry: set[str] = set()
        self._turns = Turns()
        self._fleet = 0
        self._due: list[tuple[float, str, int, int]] = []
        self._forgotten: OrderedDict[str, None] = OrderedDict()
        self.links = Links(self, store)
        self.data = Datasets(store)
        self.works = Works(store)
        self._parts = Parts(store.look, self.works, Results())

    # --- jobs come and go ---

    def load(self, now: float, now_ms: int) -> None:
        """Take up all jobs that have not ended."""
        for facts in self._store.look.live_jobs():
            job = self.restore(facts, now)
            self.live[facts.id] = job
            self.links.load(job)
            if self._telling is not None:
                self._telling.load(job)
            if job.window.open():
                self._hungry.add(facts.id)
            for number, task in job.tasks.items():
                if task.due_ms is not None:
                    # Who wrote that may have had another time of day: no delay is longer than that of the policy.
                    retry = job.shared[task.options].options.retry
                    longest = retry.max_backoff if retry is not None else 0.0
                    wait = min(max(0.0, (task.due_ms - now_ms) / 1000), longest)
                    task.due_ms = now_ms + round(wait * 1000)
                    heapq.heappush(self._due, (now + wait, facts.id, number, job.machine.tasks.seen(number).attempt))

    def restore(self, facts: JobFacts, now: float) -> LiveJob:
        """A job from its rows."""
        options = self._store.look.options(facts.key)
        shared = [
            Shared(row.options, row.resource_class, self._topology.class_name(row.resource_class, row.options.lane), row.origin)
            for row in options
        ]
        look = self._store.look
        tasks, links, packs = look.tasks(facts.key, options), look.links(facts.key), look.packs.heads(facts.key)
        job = LiveJob.restore(facts, shared, look.chunk_names(facts.key), tasks, now, links=links, packs=packs)
        if facts.reserved is not None:
            job.reservations = Reservations((row.key, row.first, row.tasks) for row in look.reservations(facts.key))
        return job

    def add(self, job: LiveJob) -> None:
        """A job that was not there before."""
        self.live[job.facts.id] = job

    def drop(self, job_id: str) -> None:
        """Forget a job, whatever its state."""
        self.live.pop(job_id, None)
        self.changed.pop(job_id, None)
        self._hungry.discard(job_id)
        self._turns.drop(job_id)

    def forget(self, batch: Batch, jobs: list[JobFacts]) -> None:
        """Drop jobs with their rows and their values, at the end of the batch."""
        for facts in jobs:
            self.drop(facts.id)
            self._forgotten[facts.id] = None
            if not facts.ephemeral:
                batch.writes.log.append(job_log(facts, batch.now_ms, LogKind.job_deleted))
            if facts.store is not None:
                batch.effects.forget.append((facts.store, facts.id))
        # What belongs to a client alone comes and goes by the thousand; workers hear of its end at their next hello.
        self._mailer.jobs_forgotten(batch, [facts.id for facts in jobs if not facts.ephemeral])
        while len(self._forgotten) > REMEMBERED:
            self._forgotten.popitem(last=False)
        batch.writes.jobs_done.extend(facts.key for facts in jobs)

    @property
    def all_out(self) -> bool:
        """Whether nothing of the live jobs waits for something; where there are many, that is not looked at."""
        return len(self.live) <= FEW and all(job.all_out for job in self.live.values())

    def forgotten(self, job_id: str) -> bool:
        """Whether the job was dropped lately: what still comes of it is no news."""
        return job_id in self._forgotten

    # --- events ---

    def apply(self, batch: Batch, job: LiveJob, event: JobEvent, said: Said = NOTHING) -> None:
        """Hand an event to the machine of a job and perform what it commands.

        Args:
            said: the reply in which outcomes came, and what the tasks printed
        """
        self.changed[job.facts.id] = job
        events: deque[JobEvent] = deque((event,))
        revoked: list[tuple[Revocation, str]] = []
        while events:
            for command in job.machine.handle(events.popleft()):
                match command:
                    case Queue(number):
                        job.go_again(number, batch.now_ms)
                        events.extend(self._queue_all(batch, job, (number,)))
                    case QueueAll(numbers):
                        events.extend(self._queue_new(batch, job, numbers))
                    case Delay(number, attempt, seconds):
                        job.tasks[number].due_ms = batch.now_ms + round(seconds * 1000)
                        heapq.heappush(self._due, (batch.now + seconds, job.facts.id, number, attempt))
                    case Revoke(number, attempt, reason) | Withdraw(number, attempt, reason):
                        # What was never published, nobody has; of what was taken, no message is left.
                        task = job.tasks.seen(number)
                        if task.chunk is not None or number in job.taken:
                            queue = job.shared[task.options].queue if task.chunk is not None else ""
                            soft = isinstance(command, Withdraw)
                            revoked.append((Revocation(job.facts.id, number, attempt, reason, unstarted_only=soft), queue))
                    case Swept():
                        revoked += self._swept(batch, job, command)
                        if command.after is TaskState.queued:
                            events.extend(self._queue_all(batch, job, command.tasks))
                    case Changed(number):
                        self._changed(batch, job, number, said.ends.get(number))
                        if number in job.following:
                            job.following.discard(number)
                            revoked += _called_off(job, event, number)
                    case Together():
                        self._together(batch, job, command, said)
                    case Recorded(number, outcome):
                        self._record(batch, job, command, outcome_row(job, number, outcome, said))
                    case Duplicate():
                        batch.effects.counted.duplicates[self.class_of(job, command.task)] += 1
                    case Finished():
                        job.facts.ended_ms = batch.now_ms
                        self.links.all_ended(job.facts.id)
                    case _:
                        assert_never(command)
        if len(revoked) >= _WHOLE_JOB_FROM and job.machine.closed and _nothing_goes_on(job):
            everything = Revocation(job.facts.id, reason=revoked[0][0].reason)
            revoked = [(everything, queue) for queue in sorted({queue for _, queue in revoked})]
        for revocation, queue in revoked:
            self.revoke(batch, revocation, queue)

    def _record(self, batch: Batch, job: LiveJob, recorded: Recorded, row: OutcomeRow) -> None:
        batch.writes.outcomes.append(row)
        if isinstance(recorded.outcome, Succeeded) and recorded.outcome.made:
            self.data.made(batch, job, recorded.task, recorded.outcome)

    def revoke(self, batch: Batch, revocation: Revocation, queue: str = "") -> None:
        """Tell the workers that are there, and those that come as long as a message of it may stand in this class queue."""
        if revocation not in batch.effects.revocations[-1:]:
            batch.effects.revocations.append(revocation)
        if queue:
            self.standing.add(batch, revocation, queue)

    def lose(self, batch: Batch, worker: str, boot: str) -> None:
        """What this boot of a worker had taken is lost, and what ran there from a message is on its way to others."""
        for job, number in self.taken_by(worker, boot):
            self.lose_task(batch, job, number)
        for job, number in self._begun_by(worker, boot):
            # As the next worker would say that gets the message; but there may be none for long, and nothing of it runs any more.
            self.apply(batch, job, AttemptReturned(number, job.machine.tasks.seen(number).attempt, Return.redelivered))

    def lose_task(self, batch: Batch, job: LiveJob, number: int) -> None:
        """A task was lost with its worker."""
        batch.effects.counted.crashes[self.class_of(job, number)] += 1
        self.apply(batch, job, AttemptReturned(number, job.machine.tasks.seen(number).attempt, Return.lost))

    def taken_by(self, worker: str, boot: str) -> list[tuple[LiveJob, int]]:
        """Tasks that this boot of a worker has taken."""
        taken = [(job, number) for job in self.live.values() for number in job.taken]
        return [(job, number) for job, number in taken if (job.tasks[number].worker, job.tasks[number].boot) == (worker, boot)]

    def _begun_by(self, worker: str, boot: str) -> list[tuple[LiveJob, int]]:
        """Tasks that have begun with this boot of a worker, and whose message it still had."""
        flying = [(job, number) for job in self.live.values() for flight in job.window.flights.values() for number in flight.open]
        return [
            (job, number)
            for job, number in flying
            if number not in job.taken
            and (job.tasks[number].worker, job.tasks[number].boot) == (worker, boot)
            and job.machine.tasks.seen(number).state in {TaskState.running, TaskState.canceling}
        ]

    def send_again(self, batch: Batch, job: LiveJob, number: int, attempt: int) -> None:
        """An attempt that was published is nowhere: publish it once more; one that had begun, as the next attempt."""
        record = job.machine.tasks.get(number)
        if record is None or record.ended or record.attempt != attempt or job.tasks[number].chunk is None:
            return
        if record.state is TaskState.queued:
            self.touch(batch, job, number)
            job.land(number)
            job.make_ready(number, attempt)
            self.changed[job.facts.id] = job
        else:
            self.apply(batch, job, AttemptReturned(number, attempt, Return.unrouted))

    def missing(self, batch: Batch, lost: Missing) -> None:
        """Publish again what the reconciler misses."""
        job = self.live.get(lost.job)
        if job is None:
            return
        for number, attempt in lost.attempts:
            self.send_again(batch, job, number, attempt)

    def unopened(self, batch: Batch, queues: set[str]) -> None:
        """These class queues were missing: what submitters published there is nowhere."""
        for job in self.live.values():
            for chunk, flight in list(job.window.flights.items()):
                if flight.group.queue in queues and chunk.isdigit():
                    for number in list(flight.open):
                        self.send_again(batch, job, number, job.machine.tasks.seen(number).attempt)

    def published(self, before: float) -> list[Published]:
        """Chunks that stand in class queues since before a time, in seconds."""
        return [chunk for job in self.live.values() for chunk in job.published(before)]

    def demands(self, classes: frozenset[str]) -> list[Demand]:
        """Tasks of these classes that are in their queues and have not started, by queue."""
        found: dict[Place, Demand] = {}
        for job in self.live.values():
            for flight in job.window.flights.values():
                shared = job.shared[flight.group.options]
                if shared.resource_class in classes:
                    place, request = Place(shared.resource_class, shared.options.lane), shared.options.resources
                    tasks = sum(job.machine.tasks.seen(number).state is TaskState.queued for number in flight.open)
                    before = found.get(place, Demand(place, request, 0, flight.since))
                    found[place] = Demand(place, longest(before.request, request), before.tasks + tasks, min(before.since, flight.since))
        return [demand for demand in found.values() if demand.tasks]

    def others(self, classes: frozenset[str]) -> bool:
        """Whether tasks of other classes than these wait for a worker."""
        return any(
            job.shared[flight.group.options].resource_class not in classes
            and any(job.machine.tasks.seen(number).state is TaskState.queued for number in flight.open)
            for job in self.live.values()
            for flight in job.window.flights.values()
        )

    def next_due(self) -> float | None:
        """When the next delayed attempt is due, in seconds."""
        return self._due[0][0] if self._due else None

    # --- commands ---

    def _queue_new(self, batch: Batch, job: LiveJob, numbers: Sequence[int]) -> list[JobEvent]:
        """Put first attempts among those that may go out."""
        for number in numbers:
            job.tasks.released(number, batch.now_ms)
        return self._queue_all(batch, job, numbers)

    def _queue_all(self, batch: Batch, job: LiveJob, numbers: Sequence[int]) -> list[JobEvent]:
        """Put many attempts among those that may go out; what happens at once to those that cannot."""
        refused = {
            index: self._classes.use(batch, job.shared[index].resource_class, job.shared[index].options.resources)
            for index in ({job.tasks.seen(number).options for number in numbers} if len(job.shared) > 1 else {0})
        }
        if not any(refused.values()):
            job.make_all_ready(numbers)
            return []
        job.make_all_ready(number for number in numbers if not refused[job.tasks.seen(number).options])
        return [
            AttemptEnded(number, job.machine.tasks.seen(number).attempt, "", Failed(Cause.rejected, refused[job.tasks[number].options]))
            for number in numbers
            if refused[job.tasks.seen(number).options]
        ]

    def _swept(self, batch: Batch, job: LiveJob, swept: Swept) -> list[tuple[Revocation, str]]:
        """Many tasks have moved because of something that was asked of all: what must be revoked of that in which class queue."""
        # The statement moves rows: those that are in packs move with rows of their own.
        job.dirty.update((number, None) for number in swept.tasks if job.tasks.seen(number).pack is not None)
        row, revoked = sweep(job, swept, batch.now_ms)
        batch.writes.sweeps.append(row)
        if swept.after in ENDED:
            self.links.all_ended(job.facts.id)
            if self._telling is not None:
                self._telling.changed(job, swept.tasks)
        return revoked

    def _together(self, batch: Batch, job: LiveJob, moved: Together, said: Said) -> None:
        """Many tasks have moved."""
        job.following.difference_update(moved.tasks if job.following else ())
        if moved.after is TaskState.succeeded:
            if job.machine.linked:
                self._parts.results.keep(job.facts.key, ((number, said.ends[number].outcome) for number in moved.tasks))
            succeed(batch, job, moved.tasks, said)
            self.links.ended(job.facts.id, moved.tasks)
        elif not moved.came:  # else they are in a pack, which says so
            job.dirty.update(dict.fromkeys(moved.tasks))
        if moved.after is TaskState.succeeded:
            if self._telling is not None:
                # Of tasks that have not begun there is nothing to tell yet.
                self._telling.changed(job, moved.tasks)
            job.forget_packed(moved.tasks)

    def _changed(self, batch: Batch, job: LiveJob, number: int, ended: Ended | None) -> None:
        if job.tasks.seen(number).pack is None or job.moves_alone(number):
            self.touch(batch, job, number)
        else:
            job.dirty[number] = None
        if self._telling is not None:
            self._telling.changed(job, (number,))
        record, task = job.machine.tasks.seen(number), job.tasks[number]
        if record.state is TaskState.paused:
            task.due_ms = None
            job.taken.discard(number)
            if not record.called_back:
                job.land(number)
        if record.ended or record.state is TaskState.retrying:
            busy = None if ended is None else ended.ended_ms - ended.started_ms
            if busy is not None and job.ordered:
                job.pace.ran(job.shared[task.options].queue, busy)
            job.land(number, busy)
            job.taken.discard(number)
        if record.ended:
            self.links.ended(job.facts.id, (number,))
            task.due_ms = None
            if task.ended_ms is None:
                task.ended_ms = batch.now_ms
            batch.effects.counted.ended[self.class_of(job, number)].append(max(0, task.ended_ms - job.facts.submitted_ms))

    def touch(self, batch: Batch, job: LiveJob, number: int) -> None:
        """The row of a task is out of date; where it has none because it is in a pack, all tasks of that get theirs."""
        pack = job.tasks.seen(number).pack
        if pack is not None:
            self._take_apart(batch, job, pack)
        job.dirty[number] = None

    def _take_apart(self, batch: Batch, job: LiveJob, pack: int) -> None:
        """Give all tasks of a pack rows of their own."""
        job.tasks.take_apart(pack)
        for number, size in self._store.take_apart(batch.writes, job.facts.key, pack).items():
            task = job.tasks.find(number)
            if task is not None:
                task.size = size

    @staticmethod
    def class_of(job: LiveJob, number: int) -> str:
        """The resource class of a task that has not ended, else an empty text."""
        task = job.tasks.seen(number) if number in job.tasks else None
        return job.shared[task.options].resource_class if task else ""

    # --- the end of a batch ---

    def finish(self, batch: Batch) -> set[str]:
        """Release what is due, build the chunks that have room, and write the rows of what changed: these jobs."""
        self.links.settle(batch)
        self._release_due(batch)
        for job_id, job in self.changed.items():
            if job.window.open():
                self._hungry.add(job_id)
        if self._fleet != self._workers.changes:
            # There may be room that no task has made.
            self._fleet = self._workers.changes
            self._hungry.update(job_id for job_id, job in self.live.items() if job.window.waiting)
        if self._hungry:
            self._store.write_payloads(batch.writes)
            self._release(batch)
        changed = list(self.changed.values())
        for job in changed:
            self._write(batch, job)
        self.changed.clear()
        batch.effects.more = bool(self._hungry) or self.links.unsettled
        if batch.effects.revocations:
            self._mailer.revoke(batch, batch.effects.revocations)
        return {job.facts.id for job in changed}

    def _release_due(self, batch: Batch) -> None:
        while self._due and self._due[0][0] <= batch.now:
            _, job_id, number, attempt = heapq.heappop(self._due)
            job = self.live.get(job_id)
            if job is not None:
                self.apply(batch, job, RetryDue(number, attempt))

    def _release(self, batch: Batch) -> None:
        """Build chunks, one for each job in turn, as long as there is room."""
        turn = deque(self._turns.order(self._hungry))
        made = 0
        while turn and made < MOST_CHUNKS:
            job = self.live[turn.popleft()]
            draft = self._draft(job)
            if draft is None:
                self._hungry.discard(job.facts.id)
                continue
            if self._send(batch, job, draft):
                made += 1
                self._turns.served(job.facts.id)
            turn.append(job.facts.id)

    def _draft(self, job: LiveJob) -> Draft | None:
        """The tasks of the next chunk of a job; None where no more can go out now."""

        def slots(group: Group) -> int:
            return self._workers.slots(needs(group))

        def needs(group: Group) -> Request:
            return job.shared[group.options].options.resources

        if not job.ordered:
            return job.window.draft(slots, job.current)
        fleet = Fleet(self._workers.total(), slots, lambda group: self._workers.takes(needs(group)))
        while chosen := choose(job.window.tops(), job.out(), fleet, job.pace):
            draft = job.window.fill(*chosen, job.current)
            if draft is not None:
                return draft
        return None

    def _send(self, batch: Batch, job: LiveJob, draft: Draft) -> bool:
        """A chunk of a job; False where none went out."""
        self.changed[job.facts.id] = job
        whole, draft = draft, chained(job, draft, self._workers.slots(job.shared[draft.group.options].options.resources))
        for ready in whole.tasks[len(draft.tasks) :]:
            job.window.add(draft.group, ready)
        name = f"r{job.facts.released}"
        built = build(self._parts, job, draft, name)
        for ready in built.left:
            job.window.add(draft.group, ready)
        for ready in built.stalled:
            if job.machine.complete:
                built.failed.append((ready, "a value of the job that it takes did not come with the job"))
            else:
                job.stalled.append(ready)
        if built.chunk is not None:
            job.facts.released += 1
            self._take_off(batch, job, name, draft.group, [ready.number for ready in built.tasks])
            job.following.update(task.number for task in built.chunk.chain)
            self._mailer.chunk(batch, built.chunk)
        for ready, message in built.failed:
            too_large = (f"{ValueTooLarge.__module__}.{ValueTooLarge.__qualname__}",)
            failed = Failed(Cause.error, message, exception_types=too_large)
            self.apply(batch, job, AttemptEnded(ready.number, ready.attempt, "", failed))
        return built.chunk is not None

    def joined(self, batch: Batch, job: LiveJob, number: int) -> None:
        """A worker runs a task that went along with another one: it is under way by itself from now on."""
        self.touch(batch, job, number)
        self._take_off(batch, job, f"r{job.facts.released}", job.group(number), (number,))
        job.facts.released += 1

    def _take_off(self, batch: Batch, job: LiveJob, name: str, group: Group, tasks: Collection[int]) -> None:
        job.window.take_off(name, group, tasks, batch.now)
        for number in tasks:
            job.tasks[number].chunk = name
            job.dirty[number] = None

    def _write(self, batch: Batch, job: LiveJob) -> None:
        """The rows of a job and of its tasks, and the news of it."""
        facts, machine = job.facts, job.machine
        before = facts.state
        new, rows, moves = job.rows()
        batch.writes.new_tasks.extend(new)
        batch.writes.tasks.extend(rows)
        batch.writes.moves.extend(moves)
        if not new and not rows and not moves:
            facts.version += 1
        facts.state, facts.total = machine.state, machine.total
        facts.counts = dict(machine.counts)
        facts.cancel_reason, facts.void_reason = machine.cancel_reason, machine.void_reason
        facts.pause_reason = machine.pause_reason
        (batch.writes.new_jobs if job.fresh else batch.writes.jobs).append(job_row(facts))
        job.fresh = False
        if facts.state is not before:
            self._mailer.news(batch, job_info(facts), facts.submitter)
        if facts.state in JOB_ENDED:
            if not facts.ephemeral and facts.state is not before:
                batch.writes.log.append(job_log(facts, batch.now_ms, LogKind.job_ended))
            if self._telling is not None and before not in JOB_ENDED:
                self._telling.ended(job)
            self.standing.job_ended(batch, facts.id, facts.cancel_reason or facts.void_reason or "")
            self.drop(facts.id)


def _nothing_goes_on(job: LiveJob) -> bool:
    """Whether every task has ended, or was told to."""
    counts = job.machine.counts
    return not any(count for state, count in counts.items() if state not in ENDED and state is not TaskState.canceling)


def _called_off(job: LiveJob, event: JobEvent, number: int) -> list[tuple[Revocation, str]]:
    """Of what was canceled or held back while it waited, the chain in which it has gone along: no attempt of it was released."""
    record = job.machine.tasks.seen(number)
    if record.attempt or not isinstance(event, CancelRequested | PauseRequested):
        return []
    return [(Revocation(job.facts.id, number, 0, record.reason, unstarted_only=True), job.shared[job.tasks.seen(number).options].queue)]
