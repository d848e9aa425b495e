"""Python functions."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from broker_jobs.compat.hyperqueue.task.task import Task
from broker_jobs.compat.hyperqueue.validation import ValidationException

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import broker_jobs
    from broker_jobs.compat.hyperqueue.ffi import TaskId


class PythonEnv:
    """The interpreter of functions.

    Args:
        python_bin: the interpreter
        prologue: shell commands that run before it, and whose environment it gets
        shell: what runs the prologue: bash

    Raises:
        ValidationException: another shell
    """

    def __init__(self, python_bin: str = "python3", prologue: str | None = None, shell: str = "bash") -> None:
        if Path(shell).name not in {"bash", "sh"}:
            raise ValidationException(f"the prologue is run by bash, not by {shell!r}: call that in the prologue")
        self.python_bin = python_bin
        self.prologue = prologue
        self.shell = shell

    def options(self, folder: str) -> dict[str, Any]:
        """The same for a function of broker-jobs; the prologue begins in this folder.

        ``python3`` without a prologue is the interpreter of the submitter.
        """
        if self.prologue is None:
            return {} if self.python_bin == "python3" else {"python": self.python_bin}
        there = f"mkdir -p {shlex.quote(folder)} && cd {shlex.quote(folder)} || exit 1"
        return {"python": self.python_bin, "prologue": f"{there}\n{self.prologue}\n"}


class PythonFunction(Task):
    """A task that calls a function; it is called ``name/number`` unless it is told.

    Args:
        fn: any callable
        common: of `Task`
    """

    def __init__(
        self,
        task_id: TaskId,
        fn: Callable[..., object],
        *,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        name: str | None = None,
        **common: Any,
    ) -> None:
        own = getattr(fn, "__name__", None)
        super().__init__(task_id, name=name if name is not None or own is None else f"{own}/{task_id}", **common)
        self.fn = fn
        self.args = args
        self.kwargs = kwargs

    def add_to(self, job: broker_jobs.Job, deps: Sequence[broker_jobs.Task], python_env: PythonEnv) -> broker_jobs.Task:
        """Add it to a job of broker-jobs."""
        interpreter = python_env.options(self.folder)
        return job.function(self.fn, args=tuple(self.args), kwargs=self.kwargs, **self.common(deps), **interpreter)

    def __repr__(self) -> str:
        return f"<PyFunction fn={getattr(self.fn, '__name__', self.fn)}>"
