"""The client: submits jobs and waits for them."""

from __future__ import annotations

import weakref
from itertools import islice
from typing import TYPE_CHECKING, Final, Self

import broker_jobs
from broker_jobs.compat.hyperqueue.ffi.client import ClientConnection, FailedTaskContext, TaskFailureMap
from broker_jobs.compat.hyperqueue.job import Job, SubmittedJob, get_job_id
from broker_jobs.compat.hyperqueue.task.function import PythonEnv
from broker_jobs.errors import ValidationError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from broker_jobs.compat.hyperqueue.ffi import JobId, TaskId
    from broker_jobs.compat.hyperqueue.job import HasJobId
    from broker_jobs.compat.hyperqueue.output import GenericPath
    from broker_jobs.compat.hyperqueue.task.task import Task

MAX_PRINTED_TASKS: Final = 5
_NAME: Final = "PyAPI job"


class FailedJobsException(Exception):
    """Some of the awaited jobs did not succeed.

    Attributes:
        failed_tasks: the failures by job and task
        job_map: the jobs by id
    """

    def __init__(self, failed_tasks: TaskFailureMap, job_map: dict[JobId, Job]) -> None:
        super().__init__(failed_tasks, job_map)
        self.failed_tasks = failed_tasks
        self.job_map = job_map

    def task_label(self, job_id: JobId, task_id: TaskId) -> str:
        """What a task is called."""
        task = self.job_map[job_id].task_by_id(task_id)
        return task.label if task is not None else str(task_id)

    def __str__(self) -> str:
        lines: list[str] = []
        for job_id, tasks in self.failed_tasks.items():
            lines.append(f"job {job_id}: {len(tasks)} tasks failed")
            for task_id, context in islice(tasks.items(), MAX_PRINTED_TASKS):
                lines.append(f"task {self.task_label(job_id, task_id)} (id={task_id}):\n{context.error}")
                places = (("working directory", context.cwd), ("stdout", context.stdout), ("stderr", context.stderr))
                lines += [f"  {name}: {place}" for name, place in places if place]
            if len(tasks) > MAX_PRINTED_TASKS:
                lines.append(f"… and {len(tasks) - MAX_PRINTED_TASKS} more")
        return "\n".join(lines)


class Client:
    """A client of this user's own node, of a state folder, or of an address such as ``amqp://…``.

    Args:
        server_dir: state folder or address (default: this user's own node, started where none runs)
        python_env: how the interpreter of functions is started

    Attributes:
        connection: the same with ids in place of jobs
        native: the client of broker-jobs below it, which can do more
    """

    def __init__(self, server_dir: GenericPath | None = None, python_env: PythonEnv | None = None) -> None:
        self._begin(ClientConnection(None if server_dir is None else str(server_dir)), python_env)

    @classmethod
    def over(cls, connection: ClientConnection, python_env: PythonEnv | None = None) -> Self:
        """A client over a connection that is there already."""
        client = cls.__new__(cls)
        client._begin(connection, python_env)  # noqa: SLF001 (of its own class)
        return client

    def _begin(self, connection: ClientConnection, python_env: PythonEnv | None) -> None:
        self.connection = connection
        self.native = connection.native
        self.python_env = python_env or PythonEnv()
        self._made: weakref.WeakKeyDictionary[Task, broker_jobs.Task] = weakref.WeakKeyDictionary()

    def submit(self, job: Job) -> SubmittedJob:
        """Submit a job: all of it or nothing; `ValidationError` where it has no task."""
        if not job.tasks:
            raise ValidationError("Submitted job must have at least a single task")
        native = broker_jobs.Job(name=job.name or _NAME, max_fails=job.max_fails)
        made: dict[int, broker_jobs.Task] = {}
        for task in job.tasks:
            made[id(task)] = task.add_to(native, [self._dependency(made, dep) for dep in _flat(task.dependencies)], self.python_env)
        submitted = self.native.submit(native)
        self._made.update((task, made[id(task)]) for task in job.tasks)
        return SubmittedJob(job, int(submitted.id, 16), submitted)

    def wait_for_jobs(self, jobs: Sequence[SubmittedJob], raise_on_error: bool = True) -> bool:  # noqa: FBT001, FBT002 (HyperQueue's signature)
        """Wait until jobs have ended; whether every task of them succeeded.

        Raises:
            FailedJobsException: some did not, and `raise_on_error`
        """
        succeeded = self.native.wait_for_jobs([self._native(job) for job in jobs], raise_on_error=False)
        if not succeeded and raise_on_error:
            bad = [job for job in jobs if self._native(job).state.value != "succeeded"]
            raise FailedJobsException({job.id: self.get_failed_tasks(job) for job in bad}, {job.id: job.job for job in jobs})
        return succeeded

    def get_failed_tasks(self, job: SubmittedJob) -> dict[TaskId, FailedTaskContext]:
        """The failed tasks of a job, by number."""
        return {number: _context(text, job.job.task_by_id(number)) for number, text in self.connection.failures(job.id).items()}

    def forget(self, job: HasJobId) -> None:
        """Drop a job that has ended; `RuntimeError` where it has not, or is not known."""
        self.connection.forget_job(get_job_id(job))

    def _native(self, job: SubmittedJob) -> broker_jobs.SubmittedJob:
        if job.native is None:
            job.native = self.native.job(job.id)
        return job.native

    def _dependency(self, made: dict[int, broker_jobs.Task], task: Task) -> broker_jobs.Task:
        found = made.get(id(task)) or self._made.get(task)
        if found is None:
            raise ValidationError(f"a task depends on {task!r}, which is neither an earlier task of this job nor of one that was submitted")
        return found


def _flat(dependencies: Sequence[Task]) -> list[Task]:
    """Tasks in nested lists."""
    found: list[Task] = []
    for item in dependencies:
        found += _flat(item) if isinstance(item, list | tuple) else [item]
    return found


def _context(error: str, task: Task | None) -> FailedTaskContext:
    if task is None:
        return FailedTaskContext(error, None, None, None)
    return FailedTaskContext(error, task.folder, task.path_of("stdout"), task.path_of("stderr"))
