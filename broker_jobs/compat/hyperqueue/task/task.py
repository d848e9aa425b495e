"""What programs and functions have in common."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import broker_jobs
from broker_jobs.compat.hyperqueue.ffi.protocol import ResourceRequest
from broker_jobs.compat.hyperqueue.output import GenericPath, Stdio, StdioDef, build_stdio, default_stderr, default_stdout

if TYPE_CHECKING:
    from collections.abc import Sequence

    from broker_jobs.compat.hyperqueue.ffi import TaskId
    from broker_jobs.compat.hyperqueue.task.function import PythonEnv

EnvType = dict[str, str]
Resources = ResourceRequest | list[ResourceRequest] | tuple[ResourceRequest, ...]


class Task:
    """A task of a job that is being written.

    Attributes:
        task_id: its number, from 0 in the order in which they were made
        dependencies: tasks whose success it waits for
        stdout: where its standard output goes; None is nowhere
    """

    def __init__(  # noqa: PLR0917 (HyperQueue's signature)
        self,
        task_id: TaskId,
        dependencies: Sequence[Task] = (),
        priority: int = 0,
        resources: Resources | None = None,
        env: EnvType | None = None,
        cwd: GenericPath | None = None,
        stdout: Stdio | None = None,
        stderr: Stdio | None = None,
        name: str | None = None,
        crash_limit: int | None = None,
    ) -> None:
        self.task_id = task_id
        self.dependencies = dependencies
        self.priority = priority
        self.resources = resources
        self.env = env or {}
        self.cwd = str(cwd) if cwd else None
        self.stdout = build_stdio(stdout, "stdout")
        self.stderr = build_stdio(stderr, "stderr")
        self.name = name
        self.crash_limit = crash_limit

    @property
    def label(self) -> str:
        """Its name, else its number."""
        return self.name if self.name is not None else str(self.task_id)

    def add_to(self, job: broker_jobs.Job, deps: Sequence[broker_jobs.Task], python_env: PythonEnv) -> broker_jobs.Task:
        """Add it to a job of broker-jobs."""
        raise NotImplementedError

    @property
    def folder(self) -> str:
        """Where it runs."""
        return str(Path(self.cwd).absolute()) if self.cwd else str(Path.cwd())

    def path_of(self, stream: str) -> str | None:
        """The file of ``"stdout"`` or ``"stderr"``, as far as it is known here; None where there is none."""
        definition: StdioDef | None = getattr(self, stream)
        if definition is None:
            return None
        text = _path(definition, stream)
        for name, value in (("CWD", self.folder), ("TASK_ID", str(self.task_id)), ("SUBMIT_DIR", str(Path.cwd()))):
            text = text.replace(f"%{{{name}}}", value)
        return os.path.join(self.folder, text)  # noqa: PTH118 (placeholders are not to be normalised)

    def common(self, deps: Sequence[broker_jobs.Task]) -> dict[str, Any]:
        """What a task of broker-jobs is given besides its work."""
        given: dict[str, Any] = {
            "name": self.label,
            "deps": list(deps),
            "env": self.env,
            "cwd": self.cwd,
            "stdout": self._stream("stdout"),
            "stderr": self._stream("stderr"),
            "priority": self.priority,
        }
        if self.resources is not None:
            requests = [self.resources] if isinstance(self.resources, ResourceRequest) else list(self.resources)
            native = [request.native() for request in requests]
            given["resources"] = native[0] if len(native) == 1 else native
        if self.crash_limit is not None:
            given["crash_limit"] = self.crash_limit
        return given

    def _stream(self, stream: str) -> broker_jobs.Stdio:
        definition: StdioDef | None = getattr(self, stream)
        if definition is None:
            return broker_jobs.Stdio(keep="never")
        keep: Literal["always", "on_failure"] = "on_failure" if definition.on_close == "rm-if-finished" else "always"
        return broker_jobs.Stdio(_path(definition, stream), keep)


def _path(definition: StdioDef, stream: str) -> str:
    """The file of a stream, with placeholders."""
    default = default_stdout() if stream == "stdout" else default_stderr()
    return default if definition.path is None else str(definition.path)
