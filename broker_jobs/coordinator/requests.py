"""Questions and wishes of clients, answered in the transaction in which they arrive."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, assert_never

from broker_jobs.coordinator import queries
from broker_jobs.coordinator.choice import choose
from broker_jobs.coordinator.control import Control
from broker_jobs.coordinator.explain import explain
from broker_jobs.coordinator.openings import Openings
from broker_jobs.coordinator.polls import LONGEST_MS, Poll, Polls
from broker_jobs.coordinator.workers import ABSENT
from broker_jobs.wire.messages import (
    AddData,
    CancelTasks,
    CloseJob,
    Cluster,
    DeleteData,
    EndingWorkers,
    EndWorkers,
    ExplainTask,
    FindData,
    FindJob,
    ForgetJobs,
    GetChanges,
    GetOutput,
    GetOutputs,
    GetWork,
    GetWorkers,
    Held,
    ListData,
    ListJobs,
    ListLog,
    ListSteps,
    ListUses,
    OpenJob,
    OutputAsked,
    PauseTasks,
    ReadOutput,
    Refused,
    ReserveTasks,
    ResubmitJob,
    ResumeTasks,
    TagData,
    WorkerInfo,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from broker_jobs.coordinator.classes import Classes
    from broker_jobs.coordinator.effects import Batch
    from broker_jobs.coordinator.intake import Intake
    from broker_jobs.coordinator.jobs import Jobs
    from broker_jobs.coordinator.mailer import Mailer
    from broker_jobs.coordinator.registry import Registry
    from broker_jobs.coordinator.store import JobFacts, LedgerStore
    from broker_jobs.coordinator.teams import Teams
    from broker_jobs.coordinator.workers import WorkerCommand, Workers
    from broker_jobs.wire.messages import Answer, Request

LATE_MS: Final = 60_000
"""A question is dropped when it is so much older than its deadline: nobody waits, and clocks of hosts differ by less."""


class Requests:
    """Answers requests.

    Args:
        name: of the coordinator
        version: of this program

    Attributes:
        wanted: what must be done about workers, for the caller to perform
    """

    def __init__(
        self,
        jobs: Jobs,
        store: LedgerStore,
        mailer: Mailer,
        workers: Workers,
        classes: Classes,
        *,
        teams: Teams,
        registry: Registry,
        intake: Intake,
        name: str,
        version: str,
    ) -> None:
        self.polls = Polls()
        self.wanted: list[WorkerCommand] = []
        self._jobs = jobs
        self._store = store
        self._mailer = mailer
        self._workers = workers
        self._teams = teams
        self._registry = registry
        self._classes = classes
        self._openings = Openings(jobs, store, intake)
        self._name = name
        self._version = version
        self._control = Control(jobs, store, intake)
        self._asked: list[Request] = []

    def take(self, batch: Batch, request: Request) -> None:
        """A request has come. Wishes are performed at once; questions are answered when the batch is written."""
        match request.question:
            case CancelTasks() as wish:
                self._answer(batch, request, self._control.cancel(batch, wish))
            case PauseTasks() as wish:
                self._answer(batch, request, self._control.pause(batch, wish))
            case ResumeTasks() as wish:
                self._answer(batch, request, self._control.resume(batch, wish))
            case ResubmitJob() as wish:
                self._answer(batch, request, self._control.resubmit(batch, wish, request.reply_to))
            case ForgetJobs() as wish:
                self._answer(batch, request, self._control.forget(batch, wish))
            case EndWorkers() as wish:
                self._answer(batch, request, self._end_workers(wish))
            case OpenJob() as wish:
                self._answer(batch, request, self._openings.open(batch, wish))
            case ReserveTasks() as wish:
                self._answer(batch, request, self._openings.reserve(batch, wish))
            case CloseJob() as wish:
                self._answer(batch, request, self._openings.close(batch, wish))
            case AddData() | TagData() | DeleteData() as wish:
                self._answer(batch, request, self._jobs.data.perform(batch, wish))
            case _:
                if request.deadline_ms + LATE_MS > batch.now_ms:
                    self._asked.append(request)
                else:
                    batch.effects.counted.dropped["late question"] += 1

    def finish(self, batch: Batch, changed: Iterable[str]) -> None:
        """Answer the questions of this batch, and those that waited for a change; the rows are written."""
        for request in self._asked:
            answer = self._look_up(batch, request)
            if answer is not None:
                self._answer(batch, request, answer)
        self._asked.clear()
        for poll in self.polls.ripe(changed, batch.now):
            facts = self._facts(poll.job)
            if isinstance(facts, Refused):
                self._answer(batch, poll.request, facts)
            else:
                self._answer(batch, poll.request, self._changes(facts, poll.question))

    def _answer(self, batch: Batch, request: Request, answer: Answer) -> None:
        self._mailer.answer(batch, request.reply_to, request.request, answer)

    def _look_up(self, batch: Batch, request: Request) -> Answer | None:
        """The answer to a question; None where it waits for a change."""
        match request.question:
            case FindJob(text):
                facts = queries.find(self._store.look, text)
                return (
                    facts
                    if isinstance(facts, Refused)
                    else queries.job_info(facts, self._notes(facts), queries.requests(self._store.look, facts))
                )
            case ListJobs() as question:
                return queries.job_list(self._store.look, question)
            case GetChanges() as question:
                return self._changes_or_wait(batch, request, question)
            case GetOutput(name, task) | GetWork(name, task):
                facts = self._facts(name)
                tell = queries.output if isinstance(request.question, GetOutput) else queries.work
                return facts if isinstance(facts, Refused) else tell(self._store.look, facts, task)
            case GetOutputs() as question:
                facts = self._facts(question.job)
                return facts if isinstance(facts, Refused) else queries.outputs(self._store.look, facts, question)
            case ReadOutput() as question:
                facts = self._facts(question.job)
                return facts if isinstance(facts, Refused) else self._read(batch, request, facts, question)
            case ExplainTask() as question:
                return self._explain(batch, question)
            case GetWorkers() | ListSteps() as question:
                return self._fleet(batch, question)
            case FindData() | ListData() | ListUses() | ListLog() as question:
                return self._jobs.data.answer(batch, question)
            case (
                CancelTasks()
                | PauseTasks()
                | ResumeTasks()
                | ResubmitJob()
                | ForgetJobs()
                | EndWorkers()
                | OpenJob()
                | ReserveTasks()
                | CloseJob()
                | AddData()
                | TagData()
                | DeleteData()
            ):
                return None
            case _:
                assert_never(request.question)

    def _facts(self, job: str) -> JobFacts | Refused:
        live = self._jobs.live.get(job)
        return live.facts if live is not None else queries.find(self._store.look, job)

    def _changes_or_wait(self, batch: Batch, request: Request, question: GetChanges) -> Answer | None:
        facts = self._facts(question.job)
        if isinstance(facts, Refused):
            return facts
        if facts.version <= question.since and question.wait_ms > 0 and queries.active(facts):
            due = batch.now + min(question.wait_ms, LONGEST_MS) / 1000
            self.polls.add(Poll(request, question, facts.id, due))
            return None
        return self._changes(facts, question)

    def _explain(self, batch: Batch, question: ExplainTask) -> Answer:
        facts = self._facts(question.job)
        if isinstance(facts, Refused):
            return facts
        return explain(self._store.look, facts, self._jobs.live.get(facts.id), question.task, self._teams, now_ms=batch.now_ms)

    def _changes(self, facts: JobFacts, question: GetChanges) -> Answer:
        return queries.changes(self._store.look, facts, self._jobs.live.get(facts.id), question, self._workers.present())

    def _read(self, batch: Batch, request: Request, facts: JobFacts, question: ReadOutput) -> Answer | None:
        """What the ledger has, or None where a worker is asked, who has more."""
        found = queries.output(self._store.look, facts, question.task)
        if isinstance(found, Refused):
            return found
        worker = queries.keeper(found, question, self._workers.present())
        if worker is None:
            return found
        stream = found.stderr if question.stderr else found.stdout
        asked = OutputAsked(
            request.request,
            request.reply_to,
            found.execution,
            question.stderr,
            stream.path,
            question.start if question.execution == found.execution else 0,
            question.most,
            min(question.wait_ms, LONGEST_MS),
        )
        self._mailer.ask_output(batch, worker.name, asked)
        return None

    def _notes(self, facts: JobFacts) -> tuple[str, ...]:
        live = self._jobs.live.get(facts.id)
        return queries.notes(live, self._workers.present()) if live is not None else ()

    def _fleet(self, batch: Batch, question: GetWorkers | ListSteps) -> Answer:
        """The workers, or what they serve."""
        if isinstance(question, ListSteps):
            return self._registry.list(question, self._workers.present())
        return self._cluster(question, batch.now_ms)

    def _cluster(self, question: GetWorkers, now_ms: int) -> Answer:
        chosen = choose(self._workers.known.values(), question.workers, question.group)
        if isinstance(chosen, Refused):
            return chosen
        workers = tuple(
            WorkerInfo(
                worker=worker.name,
                host=worker.host,
                pid=worker.pid,
                state=worker.state.value,
                resources=worker.resources,
                free=worker.free,
                seen_ms=worker.seen_ms,
                version=worker.version,
                held=len(worker.held),
                group=worker.group,
                started_ms=worker.started_ms,
                ends_ms=worker.ends_ms,
                reason=worker.reason,
                attempts=tuple(Held(*attempt) for attempt in sorted(worker.held)) if question.held else (),
                team=self._teams.names(worker),
                steps=tuple(f"{name} {version}" for name, version in sorted(worker.steps)),
            )
            for worker in chosen
        )
        return Cluster(self._name, self._version, now_ms, workers, self._classes.open(), len(self._jobs.live))

    def _end_workers(self, wish: EndWorkers) -> Answer:
        chosen = choose(self._workers.known.values(), wish.workers, wish.group)
        if isinstance(chosen, Refused):
            return chosen
        there = [worker for worker in chosen if worker.state not in ABSENT]
        for worker in there:
            self.wanted.extend(self._workers.end(worker, stop=wish.stop, reason=wish.reason))
        return EndingWorkers(tuple(worker.name for worker in there), sum(len(worker.held) for worker in there))
