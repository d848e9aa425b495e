"""Jobs: as they are written, and as they were submitted."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Union

from broker_jobs.compat.hyperqueue.ffi import JobId
from broker_jobs.compat.hyperqueue.output import GenericPath, Stdio, default_stderr, default_stdout
from broker_jobs.compat.hyperqueue.task.function import PythonFunction
from broker_jobs.compat.hyperqueue.task.program import ExternalProgram, ProgramArgs

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import broker_jobs
    from broker_jobs.compat.hyperqueue.ffi import TaskId
    from broker_jobs.compat.hyperqueue.task.task import EnvType, Resources, Task


class Job:
    """A graph of tasks.

    Args:
        default_workdir: where its tasks run, unless they have a folder of their own
        max_fails: more failed tasks than this abort the rest; None goes on
        default_env: environment of its tasks, to which they may add
        name: what to call it

    Attributes:
        tasks: in the order in which they were made
        task_map: the same by number
    """

    def __init__(
        self,
        default_workdir: GenericPath | None = None,
        max_fails: int | None = 1,
        default_env: EnvType | None = None,
        name: str | None = None,
    ) -> None:
        self.tasks: list[Task] = []
        self.task_map: dict[TaskId, Task] = {}
        self.max_fails = max_fails
        self.default_workdir = Path(default_workdir).resolve() if default_workdir is not None else None
        self.default_env = default_env or {}
        self.name = name

    def task_by_id(self, id: TaskId) -> Task | None:  # noqa: A002 (HyperQueue's name)
        """The task with this number."""
        return self.task_map.get(id)

    def program(
        self,
        args: ProgramArgs,
        *,
        env: EnvType | None = None,
        cwd: GenericPath | None = None,
        stdout: Stdio | None = default_stdout(),  # noqa: B008 (a text)
        stderr: Stdio | None = default_stderr(),  # noqa: B008 (a text)
        stdin: str | bytes | None = None,
        deps: Sequence[Task] = (),
        name: str | None = None,
        task_dir: bool = False,
        priority: int = 0,
        resources: Resources | None = None,
        crash_limit: int | None = None,
    ) -> ExternalProgram:
        """Add a task that runs a program.

        Args:
            args: the program and its arguments, all of them texts
            env: environment variables, besides those of the job
            cwd: folder to run in
            stdout: file for standard output; None is no file
            stderr: file for standard error; None is no file
            stdin: what it reads
            deps: tasks whose success it waits for
            name: what to call it
            task_dir: run it in a fresh folder of its own
            priority: the highest starts first
            resources: what it needs; a list is variants, the best first
            crash_limit: it fails when it has crashed this often (default 5)
        """
        task = ExternalProgram(
            len(self.tasks),
            args=args,
            stdin=stdin,
            task_dir=task_dir,
            **self._common(env, cwd),
            stdout=stdout,
            stderr=stderr,
            dependencies=deps,
            name=name,
            priority=priority,
            resources=resources,
            crash_limit=crash_limit,
        )
        self._add(task)
        return task

    def function(
        self,
        fn: Callable[..., object],
        *,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        env: EnvType | None = None,
        cwd: GenericPath | None = None,
        stdout: Stdio | None = default_stdout(),  # noqa: B008 (a text)
        stderr: Stdio | None = default_stderr(),  # noqa: B008 (a text)
        deps: Sequence[Task] = (),
        name: str | None = None,
        priority: int = 0,
        resources: Resources | None = None,
        crash_limit: int | None = None,
    ) -> PythonFunction:
        """Add a task that calls a function.

        Args:
            fn: any callable
            args: its positional arguments
            kwargs: its keyword arguments
            env: as for `program`, with all that follows
            cwd: folder to run in
            stdout: file for standard output; None is no file
            stderr: file for standard error; None is no file
            deps: tasks whose success it waits for
            name: what to call it (default: name of the function, a slash and the number)
            priority: the highest starts first
            resources: what it needs; a list is variants, the best first
            crash_limit: it fails when it has crashed this often (default 5)
        """
        task = PythonFunction(
            len(self.tasks),
            fn,
            args=args,
            kwargs=kwargs,
            **self._common(env, cwd),
            stdout=stdout,
            stderr=stderr,
            dependencies=deps,
            name=name,
            priority=priority,
            resources=resources,
            crash_limit=crash_limit,
        )
        self._add(task)
        return task

    def _common(self, env: EnvType | None, cwd: GenericPath | None) -> dict[str, Any]:
        return {"env": {**self.default_env, **(env or {})}, "cwd": cwd or self.default_workdir}

    def _add(self, task: Task) -> None:
        self.tasks.append(task)
        self.task_map[task.task_id] = task


@dataclass
class SubmittedJob:
    """A job that was submitted.

    Attributes:
        id: the id of broker-jobs as an integer
        native: the job as broker-jobs knows it, with results, output and more
    """

    job: Job
    id: JobId
    native: broker_jobs.SubmittedJob | None = field(default=None, repr=False, compare=False)


HasJobId = Union[JobId, SubmittedJob]  # noqa: UP007 (at run time)


def get_job_id(job: HasJobId) -> JobId:
    """The id of a job."""
    return job.id if isinstance(job, SubmittedJob) else job
