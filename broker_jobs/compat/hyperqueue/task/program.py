"""External programs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from broker_jobs.compat.hyperqueue.task.task import Task
from broker_jobs.compat.hyperqueue.validation import ValidationException

if TYPE_CHECKING:
    from collections.abc import Sequence

    import broker_jobs
    from broker_jobs.compat.hyperqueue.ffi import TaskId
    from broker_jobs.compat.hyperqueue.task.function import PythonEnv

ProgramArgs = list[str] | str


class ExternalProgram(Task):
    """A task that runs a program.

    Args:
        args: the program and its arguments; a text is a program without arguments
        common: of `Task`

    Raises:
        ValidationException: an argument is no text
    """

    def __init__(
        self, task_id: TaskId, *, args: ProgramArgs, stdin: str | bytes | None = None, task_dir: bool = False, **common: Any
    ) -> None:
        super().__init__(task_id, **common)
        self.args = [args] if isinstance(args, str) else list(args)
        for argument in self.args:
            if not isinstance(argument, str):
                raise ValidationException(f"the arguments of a program must be texts, not {argument!r} of type {type(argument).__name__}")
        if stdin is not None and not isinstance(stdin, str | bytes):
            raise TypeError(f"stdin must be a text, bytes or None, not {stdin!r}")
        self.stdin = stdin.encode() if isinstance(stdin, str) else stdin
        self.task_dir = task_dir

    def add_to(self, job: broker_jobs.Job, deps: Sequence[broker_jobs.Task], python_env: PythonEnv) -> broker_jobs.Task:  # noqa: ARG002
        """Add it to a job of broker-jobs."""
        return job.program(self.args, stdin=self.stdin, task_dir=self.task_dir, **self.common(deps))

    def __repr__(self) -> str:
        return f"Task(args={self.args}, env={self.env}, cwd={self.cwd})"
