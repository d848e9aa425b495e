"""A submitted job: its state, results, errors and output, from this or any other process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeVar

from broker_jobs.client import control, inquiry
from broker_jobs.client.deletion import Deletion, delete_all
from broker_jobs.client.placeholders import EarlierTask
from broker_jobs.client.results import value_of
from broker_jobs.core.outcome import Succeeded
from broker_jobs.ids import short
from broker_jobs.wire.messages import CloseJob, JobInfo

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator, Sequence
    from concurrent.futures import Future

    from broker_jobs.client.client import Client
    from broker_jobs.client.core import Core
    from broker_jobs.client.followed import Followed
    from broker_jobs.client.inquiry import Event, TaskRef
    from broker_jobs.client.jobview import JobView
    from broker_jobs.client.results import TaskError
    from broker_jobs.core.states import JobState
    from broker_jobs.wire.messages import CancelResult, Explanation, PauseResult, ResumeResult, TaskInfo

_Result = TypeVar("_Result")


class SubmittedJob:
    """A job that was submitted; made by `Client.submit`, `Client.job` and `Client.jobs`.

    Tasks are named by their number, by the `Task` object that the job was written with, or by their name where only one has it.
    """

    def __init__(self, client: Client, followed: Followed) -> None:
        self.client = client
        self._followed = followed

    @property
    def id(self) -> str:
        """The whole id, 32 hexadecimal digits; the last 8 are enough to find it again."""
        return self._followed.id

    @property
    def name(self) -> str:
        """What the job is called."""
        return self.view.name

    @property
    def view(self) -> JobView:
        """What is known of the job here."""
        return self._followed.view

    @property
    def state(self) -> JobState:
        """Its state now; asks the ledger, unless it is known here."""
        followed = self._followed
        if not (followed.fed or followed.view.ended):
            self.info()
        return self.view.state

    def info(self) -> JobInfo:
        """The job at a glance, from the ledger: state, tasks by state, times, and notes on why it waits."""
        return self._ask(lambda core, job: core.info(job))

    def tasks(self, numbers: Sequence[int] | None = None) -> list[TaskInfo]:
        """Its tasks at a glance, from the ledger.

        Args:
            numbers: only these, with their outcomes (default: all, without)
        """
        return self._ask(lambda core, job: inquiry.tasks(core, job, numbers))

    def number(self, task: TaskRef) -> int:
        """The number of a task: of a `Task`, of a name that only one has, or of ``"[7]"``, the id 7 of an array.

        Raises:
            TaskNotFound: the job has none of this name
            ValidationError: several have it
        """
        return self._ask(lambda core, job: inquiry.number_of(core, job, task))

    def task(self, task: TaskRef) -> EarlierTask:
        """A task of this job for tasks of later jobs: to wait for (`deps=`, `after=`), or, with ``.output``, as an argument.

        Raises:
            TaskNotFound: the job has none of this name
        """
        return EarlierTask(self.id, self.number(task))

    @property
    def open(self) -> bool:
        """Whether more tasks may be submitted to it; asks the ledger."""
        return self.info().open

    def close(self) -> None:
        """Let an open job end with the tasks that it has; again does nothing.

        Raises:
            ValidationError: the job was not opened
        """
        self._ask(lambda core, job: core.ask(CloseJob(job.id), JobInfo))

    def wait_for_tasks(self, timeout: float | None = None) -> bool:
        """Wait until every task that was submitted so far has ended, also where the job is open; whether all succeeded.

        Raises:
            TimeoutError: they have not, after `timeout` seconds
        """
        return self._ask(lambda core, job: inquiry.idle(core, job, timeout))

    def explain(self, task: TaskRef) -> Explanation:
        """Why a task has not started, and what each worker lacks for it; from the coordinator.

        Raises:
            TaskNotFound: the job has no such task
            CoordinatorUnavailable: nobody is there who could say
        """
        return self._ask(lambda core, job: inquiry.explain(core, job, task))

    def wait_for_start(self, timeout: float | None = None) -> None:
        """Wait until one of its tasks has started, or it has ended before. `TimeoutError` after `timeout` seconds."""
        self._ask(lambda core, job: inquiry.started(core, job, timeout))

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for its end; whether it succeeded. `TimeoutError` after `timeout` seconds."""
        return self.client.wait_for_jobs([self], timeout=timeout, raise_on_error=False, progress=False)

    def result(self, task: TaskRef, *, timeout: float | None = None) -> Any:
        """Wait for the end of a task; its value, or of a program its exit code.

        Raises:
            TaskFailed: it failed; the text has the remote traceback, and the cause is the task's own exception
            TaskCanceled: somebody ended it
            TaskAborted: a task that it depends on did not succeed, or its job was stopped
            TimeoutError: it has not ended after `timeout` seconds
            TaskNotFound: the job has no such task
        """
        return value_of(self._ask(lambda core, job: inquiry.ending(core, job, task, timeout)), self.id)

    def results(self, *, timeout: float | None = None) -> dict[int, Any]:
        """Wait for the end of the job; the values of the tasks that succeeded, by number."""
        found = self._ask(lambda core, job: inquiry.endings(core, job, timeout))
        succeeded = [ending for ending in found if isinstance(ending.outcome, Succeeded)]
        return {ending.number: value_of(ending, self.id) for ending in sorted(succeeded, key=lambda ending: ending.number)}

    def as_completed(self) -> Iterator[tuple[int, Any]]:
        """Pairs of number and value of the tasks that succeed, as they do, until the job has ended."""
        for endings in self.client.runtime.iterate(lambda core: core.as_completed(self.joined(core))):
            for ending in endings:
                if isinstance(ending.outcome, Succeeded):
                    yield ending.number, value_of(ending, self.id)

    def errors(self) -> dict[int, TaskError]:
        """Why tasks have failed so far, by number; does not wait."""
        return self._ask(inquiry.task_errors)

    def stdout(self, task: TaskRef, *, timeout: float | None = None) -> bytes:
        """What a task has printed, once it has ended, from wherever it ran.

        All of it while a worker of that host serves this broker, up to 64 MiB (of more the end); else its last 64 KiB.
        Where something is missing, a `UserWarning` says how much.

        Raises:
            TimeoutError: it has not ended after `timeout` seconds
            TaskNotFound: the job has no such task
        """
        return inquiry.all_of(self._ask(lambda core, job: inquiry.output(core, job, task, timeout)), task)

    def stderr(self, task: TaskRef, *, timeout: float | None = None) -> bytes:
        """What a task has printed to standard error; as `stdout`."""
        return inquiry.all_of(self._ask(lambda core, job: inquiry.output(core, job, task, timeout, stderr=True)), task)

    def follow(self, task: TaskRef, stream: Literal["stdout", "stderr"] = "stdout") -> Iterator[bytes]:
        """What a task prints, as it does, from its beginning to its end; of one that is tried again, each attempt.

        Raises:
            TaskNotFound: the job has no such task
        """
        return self.client.runtime.iterate(lambda core: inquiry.follow(core, self.joined(core), task, stderr=stream == "stderr"))

    def cancel(self, reason: str = "", *, tasks: Sequence[TaskRef] | str | None = None) -> CancelResult:
        """End the job: what waits does not start, also after a restart of anything; what runs is stopped.

        Args:
            reason: shown with the job
            tasks: only these, in a list, or as a selection such as ``"1-5,7"``

        Returns:
            numbers of tasks: canceled `before_start`, told to stop `while_running`, `ended_already`, `unknown`
        """
        return self._ask(lambda core, job: control.cancel(core, job, reason, tasks))

    def pause(self, reason: str = "", *, tasks: Sequence[TaskRef] | str | None = None) -> PauseResult:
        """Hold the job back: what has started goes on, and nothing else starts until `resume`.

        Args:
            reason: shown with the job
            tasks: only these, in a list, or as a selection such as ``"1-5,7"``

        Returns:
            numbers of tasks: `paused`, `running` on, `waiting` for others, `ended_already`, `unknown`
        """
        return self._ask(lambda core, job: control.pause(core, job, reason, tasks))

    def resume(self, *, tasks: Sequence[TaskRef] | str | None = None) -> ResumeResult:
        """Let the job go on, or these tasks of it.

        Returns:
            numbers of tasks: `resumed`, `not_paused`, `ended_already`, `unknown`
        """
        return self._ask(lambda core, job: control.resume(core, job, tasks))

    def resubmit(self, *, tasks: Sequence[TaskRef] | str | None = None, everything: bool = False) -> SubmittedJob:
        """Run again what did not succeed: a new job, in which the other tasks stand as they ended, with their results.

        Args:
            tasks: only these, in a list, or as a selection such as ``"1-5,7"``
            everything: what succeeded, too

        Raises:
            JobActive: the job has not ended
            ValidationError: nothing is left to run again
            TaskNotFound: it has no such task
            Vetoed: a plugin would not have it
        """
        return type(self)(self.client, self._ask(lambda core, job: control.resubmit(core, job, tasks, everything=everything)))

    def events(self) -> Iterator[Event]:
        """What happens to the job and its tasks, as it happens, from its beginning to its end: `JobChanged` and `TaskChanged`."""
        for events in self.client.runtime.iterate(lambda core: inquiry.events(core, self.joined(core))):
            yield from events

    def sub_jobs(self) -> list[SubmittedJob]:
        """Jobs that were submitted inside a task of this one, the newest first; from the ledger."""
        return self.client.jobs(parent=self, limit=None)

    def wait_for_sub_jobs(self, timeout: float | None = None, *, raise_on_error: bool = True) -> bool:
        """Wait until the jobs inside it have ended (`sub_jobs`), those that come meanwhile too; whether all succeeded.

        Raises:
            FailedJobsError: some did not succeed; the text has their first failures
            TimeoutError: they have not ended after `timeout` seconds
        """
        self._ask(lambda core, job: control.ended_inside(core, job, timeout))
        return self.client.wait_for_jobs(self.sub_jobs(), raise_on_error=raise_on_error, progress=False)

    def forget(self) -> None:
        """Drop the job from the ledger, with its values and output.

        Raises:
            JobActive: it has not ended
            InUse: data is left that it has made, or jobs that were submitted inside it
        """
        self.client.forget(self)

    def delete_with_associated(
        self, *, delete_output_data: bool = True, delete_input_data: bool = False, delete_subjobs_with_data: bool = True
    ) -> Deletion:
        """Drop the job with what belongs to it, as far as the rules allow; what became of every part.

        Args:
            delete_output_data: the data that it has made
            delete_input_data: the data that it takes, as far as no other job does
            delete_subjobs_with_data: the jobs that were submitted inside it, with what belongs to them

        Raises:
            JobNotFound: it is gone
        """
        return self.client.runtime.run(
            lambda core: delete_all(core, self.id, outputs=delete_output_data, inputs=delete_input_data, sub_jobs=delete_subjobs_with_data)
        )

    def __repr__(self) -> str:
        return f"<SubmittedJob {short(self.id)} {self.name!r} {self.view.state.value}>"

    def start(self, work: Callable[[Core, Followed], Coroutine[Any, Any, _Result]]) -> Future[_Result]:
        """Begin something with this job on the client's loop; its future."""
        return self.client.runtime.start(lambda core: work(core, self.joined(core)))

    def _ask(self, work: Callable[[Core, Followed], Coroutine[Any, Any, _Result]]) -> _Result:
        return self.client.runtime.run(lambda core: work(core, self.joined(core)))

    def joined(self, core: Core) -> Followed:
        """The job on the client's present connection."""
        self._followed = core.join(self._followed)
        return self._followed
