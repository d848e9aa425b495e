"""A job, computed in the plainest way: after each event everything is looked at again until nothing changes.

It knows neither dependents nor counters, and gives no commands: `expected` derives from two pictures of the tasks, the
one before and the one after an event, which commands the event must have had. So what the job machine does fast is
compared with what is easy to see.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from broker_jobs.core.job import (
    AttemptEnded,
    AttemptReturned,
    AttemptStarted,
    CancelRequested,
    Delay,
    Duplicate,
    Finished,
    JobSealed,
    JobVoided,
    OutsideEnded,
    Queue,
    Recorded,
    RetryDue,
    Return,
    Revoke,
    TasksAdded,
)
from broker_jobs.core.outcome import Canceled, Cause, Crashed, Failed, Succeeded
from broker_jobs.core.retry import RetryIn, decide
from broker_jobs.core.states import JobState, TaskState

if TYPE_CHECKING:
    from broker_jobs.core.job import JobCommand, JobEvent, NewTask

S = TaskState
ENDED = {S.succeeded, S.failed, S.canceled, S.aborted}
OUT = {S.queued, S.running, S.canceling}


@dataclass
class NaiveTask:
    """One task."""

    new: NewTask
    isolated: bool
    state: TaskState = S.waiting
    attempt: int = 0
    failures: int = 0
    crashes: int = 0
    execution: str = ""
    aborting: bool = False
    heard: frozenset[str] = frozenset()
    hopeless: bool = False


@dataclass
class NaiveJob:
    """All tasks of a job."""

    max_fails: int | None
    tasks: dict[int, NaiveTask] = field(default_factory=dict)
    total: int | None = None
    canceled: bool = False
    void: bool = False
    state: JobState = JobState.waiting

    @property
    def ended(self) -> bool:
        return self.state not in {JobState.waiting, JobState.running}

    @property
    def whole(self) -> bool:
        return self.total is not None and len(self.tasks) >= self.total

    def handle(self, event: JobEvent) -> list[JobCommand]:
        """Take an event; the commands that it must have, all but `Changed`, in any order."""
        before, over = copy.deepcopy(self.tasks), self.ended
        about = self._take(event, over=over)
        self._settle()
        if not over:
            self.state = self._job_state()
        return self._expected(before, event, about, newly_over=self.ended and not over)

    # --- what an event does ---

    def _take(self, event: JobEvent, *, over: bool) -> list[JobCommand]:
        match event:
            case TasksAdded(tasks):
                for new in tasks:
                    if new.number not in self.tasks and not self.whole:
                        self.tasks[new.number] = NaiveTask(new, isolated=new.crash_limit == 1)
            case JobSealed(total):
                self.total = total if self.total is None and not over else self.total
            case OutsideEnded(number, need, problem):
                task = self.tasks.get(number)
                if task and task.state is S.waiting and need not in task.heard:
                    task.heard |= {need}
                    task.hopeless = task.hopeless or bool(problem and need in task.new.outside)
            case JobVoided():
                self.void = self.void or not over
            case CancelRequested():
                self._cancel(event, over=over)
            case AttemptStarted(number, attempt, execution):
                task = self.tasks.get(number)
                if task and task.attempt == attempt and task.state in {S.queued, S.running}:
                    task.state, task.execution = S.running, execution
            case RetryDue(number, attempt):
                task = self.tasks.get(number)
                if task and task.attempt == attempt and task.state is S.retrying:
                    self._again(task)
            case AttemptReturned():
                return self._returned(event)
            case AttemptEnded():
                return self._attempt_ended(event)
        return []

    def _cancel(self, event: CancelRequested, *, over: bool) -> None:
        self.canceled = self.canceled or (event.tasks is None and not over)
        for number, task in self.tasks.items():
            if event.tasks is None or number in event.tasks:
                if task.state is S.running and not event.unstarted_only:
                    task.state = S.canceling
                elif task.state in {S.waiting, S.queued, S.retrying}:
                    task.state = S.canceled

    def _returned(self, event: AttemptReturned) -> list[JobCommand]:
        task = self.tasks.get(event.task)
        if not task or task.attempt != event.attempt or task.state not in OUT:
            return []
        ran = task.isolated and task.state is not S.queued
        if event.why is Return.lost or (event.why is Return.redelivered and ran):
            return self._crash(task, "its worker was lost")
        if ran and task.new.crash_limit == 1:
            return self._crash(task, "it was stopped with its worker")
        task.isolated = task.isolated or event.why is Return.redelivered
        self._again(task)
        return []

    def _attempt_ended(self, event: AttemptEnded) -> list[JobCommand]:
        task = self.tasks.get(event.task)
        if not task:
            return []
        if task.attempt != event.attempt or task.state not in OUT:
            known = task.attempt == event.attempt and task.execution == event.execution
            return [] if known else [Duplicate(event.task, event.attempt)]
        task.execution = event.execution
        recorded: list[JobCommand] = [Recorded(event.task, event.outcome)]
        match event.outcome:
            case Succeeded():
                task.state = S.succeeded
            case Canceled():
                task.state = S.aborted if task.aborting else S.canceled
            case Failed() as failed:
                task.failures += 1
                verdict = decide(task.new.retry, task.failures, failed, event.noise)
                if isinstance(verdict, RetryIn) and task.state is not S.canceling and not self.canceled:
                    task.state = S.retrying
                    return [*recorded, Delay(event.task, task.attempt, verdict.delay)]
                task.state = S.failed
            case Crashed(message):
                return self._crash(task, message)
        return recorded

    def _crash(self, task: NaiveTask, message: str) -> list[JobCommand]:
        task.crashes += 1
        task.isolated = True
        limit = task.new.crash_limit
        if task.state is S.canceling or limit is None or task.crashes < limit:
            self._again(task)
            return []
        task.state = S.failed
        times = "once" if task.crashes == 1 else f"{task.crashes} times"
        return [Recorded(task.new.number, Failed(Cause.crash_limit, f"crashed {times}, the last time: {message}"))]

    def _again(self, task: NaiveTask) -> None:
        if task.state is S.canceling:
            task.state = S.aborted if task.aborting else S.canceled
        elif self.canceled:
            task.state = S.canceled
        else:
            task.state = S.queued
            task.attempt += 1
            task.execution = ""

    def _settle(self) -> None:
        """Let everything follow that follows, until nothing does."""
        if self.max_fails is not None and sum(task.state is S.failed for task in self.tasks.values()) > self.max_fails:
            self.void = True
        if self.void:
            for task in self.tasks.values():
                if task.state is S.running:
                    task.state, task.aborting = S.canceling, True
                elif task.state in {S.queued, S.retrying}:
                    task.state = S.aborted
        changed = True
        while changed:
            changed = False
            for task in self.tasks.values():
                if task.state is S.waiting:
                    changed = self._look(task) or changed

    def _look(self, task: NaiveTask) -> bool:
        deps = [self.tasks[number].state if number in self.tasks else S.waiting for number in task.new.deps]
        after = [self.tasks[number].state if number in self.tasks else S.waiting for number in task.new.after]
        if self.canceled:
            task.state = S.canceled
        elif self.void or task.hopeless or any(state in ENDED - {S.succeeded} for state in deps):
            task.state = S.aborted
        elif all(state is S.succeeded for state in deps) and all(state in ENDED for state in after) and task.new.outside <= task.heard:
            task.state, task.attempt = S.queued, 1
        return task.state is not S.waiting

    def _job_state(self) -> JobState:
        states = {task.state for task in self.tasks.values()}
        if states <= ENDED and (self.whole or self.canceled or self.void):
            if S.failed in states:
                return JobState.failed
            if S.canceled in states or (self.canceled and not self.whole):
                return JobState.canceled
            if S.aborted in states or (self.void and not self.whole):
                return JobState.aborted
            return JobState.succeeded
        return JobState.running if states - {S.waiting, S.queued} else JobState.waiting

    # --- what must be asked for ---

    def _expected(self, before: dict[int, NaiveTask], event: JobEvent, about: list[JobCommand], *, newly_over: bool) -> list[JobCommand]:
        commands = list(about)
        told = event.task if isinstance(event, AttemptEnded | AttemptReturned) else None
        for number, task in self.tasks.items():
            old = before.get(number)
            if task.state is S.queued and task.attempt > (old.attempt if old else 0) and not (task.new.direct and old is None):
                commands.append(Queue(number, task.attempt, task.isolated))
            if old and old.state in {S.queued, S.running} and number != told and task.state in {S.canceling, S.canceled, S.aborted}:
                commands.append(Revoke(number, task.attempt, ANY))
            if old is None and task.new.direct and task.state in {S.canceled, S.aborted}:
                commands.append(Revoke(number, 1, ANY))
        if newly_over:
            commands.append(Finished(self.state))
        return commands


class _Any(str):
    """Equal to every text but the empty one."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, str) and other != ""

    def __hash__(self) -> int:
        return 0


ANY = _Any("any reason")
