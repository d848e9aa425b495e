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
    PauseRequested,
    Queue,
    Recorded,
    ResumeRequested,
    RetryDue,
    Return,
    Revoke,
    TasksAdded,
    Withdraw,
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

    @property
    def called_back(self) -> bool:
        """Paused, and its message may be out."""
        return self.state is S.paused and self.attempt > 0 and not self.execution


@dataclass
class NaiveJob:
    """All tasks of a job."""

    max_fails: int | None
    tasks: dict[int, NaiveTask] = field(default_factory=dict)
    total: int | None = None
    canceled: bool = False
    void: bool = False
    paused: bool = False
    state: JobState = JobState.waiting

    @property
    def ended(self) -> bool:
        return self.state not in {JobState.waiting, JobState.running, JobState.paused}

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
                if task and (task.state is S.waiting or (task.state is S.paused and not task.attempt)) and need not in task.heard:
                    task.heard |= {need}
                    task.hopeless = task.hopeless or bool(problem and need in task.new.outside)
            case JobVoided():
                self.void = self.void or not over
            case CancelRequested():
                self._cancel(event, over=over)
            case PauseRequested() | ResumeRequested():
                self._pause_or_resume(event, over=over)
            case AttemptStarted(number, attempt, execution):
                task = self.tasks.get(number)
                self._catch_up(task, attempt)
                if task and task.attempt == attempt and (task.state in {S.queued, S.running} or task.called_back):
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
                elif task.state in {S.waiting, S.queued, S.paused, S.retrying}:
                    task.state = S.canceled

    def _pause_or_resume(self, event: PauseRequested | ResumeRequested, *, over: bool) -> None:
        if isinstance(event, PauseRequested):
            if not (over or self.canceled or self.void):
                self._pause(event)
            return
        self.paused = self.paused and not (event.tasks is None and not over)
        for number, task in self.tasks.items():
            if task.state is S.paused and (event.tasks is None or number in event.tasks):
                self._resume(task)

    def _pause(self, event: PauseRequested) -> None:
        if event.tasks is None and self.paused:
            return
        self.paused = self.paused or event.tasks is None
        for number, task in self.tasks.items():
            if event.tasks is None or number in event.tasks:
                never = task.new.crash_limit == 1 and number in event.out
                if (task.state is S.queued and not never) or task.state is S.retrying or (task.state is S.waiting and event.tasks):
                    task.state = S.paused

    def _resume(self, task: NaiveTask) -> None:
        if task.attempt or self._free(task):
            task.state, task.execution = S.queued, ""
            task.attempt += 1
        else:
            task.state = S.waiting

    def _returned(self, event: AttemptReturned) -> list[JobCommand]:
        task = self.tasks.get(event.task)
        if task and task.attempt == event.attempt and task.called_back:
            task.execution = "-"
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
        self._catch_up(task, event.attempt)
        if task.attempt != event.attempt or not (task.state in OUT or task.called_back):
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
                    if task.state is S.paused:
                        return recorded
                    task.state = S.retrying
                    return [*recorded, Delay(event.task, task.attempt, verdict.delay)]
                task.state = S.failed
            case Crashed(message):
                return self._crash(task, message)
        return recorded

    def _catch_up(self, task: NaiveTask | None, attempt: int) -> None:
        """What is held back, and could have gone out, may have run in a chain."""
        if task and task.state is S.paused and task.attempt == 0 and attempt == 1 and self._free(task):
            task.attempt = 1

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
        elif self.paused or task.state is S.paused:
            task.state, task.execution = S.paused, task.execution or "-"
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
                elif task.state in {S.queued, S.paused, S.retrying}:
                    task.state = S.aborted
        changed = True
        while changed:
            changed = False
            for task in self.tasks.values():
                if task.state is S.waiting or (task.state is S.paused and not task.attempt):
                    changed = self._look(task) or changed

    def _states(self, numbers: tuple[int, ...]) -> list[TaskState]:
        return [self.tasks[number].state if number in self.tasks else S.waiting for number in numbers]

    def _free(self, task: NaiveTask) -> bool:
        needs = all(state is S.succeeded for state in self._states(task.new.deps))
        return needs and all(state in ENDED for state in self._states(task.new.after)) and task.new.outside <= task.heard

    def _look(self, task: NaiveTask) -> bool:
        deps, before = self._states(task.new.deps), task.state
        if self.canceled:
            task.state = S.canceled
        elif self.void or task.hopeless or any(state in ENDED - {S.succeeded} for state in deps):
            task.state = S.aborted
        elif task.state is S.waiting and self._free(task):
            called = task.new.direct
            if self.paused and not (called and task.new.crash_limit == 1):
                task.state, task.attempt = S.paused, int(called)
            else:
                task.state, task.attempt = S.queued, 1
        return task.state is not before

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
        if self.paused or (S.paused in states and not states & {S.queued, S.running, S.canceling, S.retrying}):
            return JobState.paused
        if states & (ENDED | {S.running, S.canceling, S.retrying}):
            return JobState.running
        return JobState.waiting

    # --- what must be asked for ---

    def _expected(self, before: dict[int, NaiveTask], event: JobEvent, about: list[JobCommand], *, newly_over: bool) -> list[JobCommand]:
        commands = list(about)
        told = event.task if isinstance(event, AttemptEnded | AttemptReturned) else None
        for number, task in self.tasks.items():
            old = before.get(number)
            if task.state is S.queued and task.attempt > (old.attempt if old else 0) and not (task.new.direct and old is None):
                commands.append(Queue(number, task.attempt, task.isolated))
            out = old and (old.state in {S.queued, S.running} or old.called_back)
            if old and out and number != told and task.state in {S.canceling, S.canceled, S.aborted}:
                commands.append(Revoke(number, task.attempt, ANY))
            if old is None and task.new.direct and task.state in {S.canceled, S.aborted}:
                commands.append(Revoke(number, 1, ANY))
            if task.state is S.paused and number != told and (old.state is S.queued if old else task.new.direct):
                commands.append(Withdraw(number, task.attempt, ANY))
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
