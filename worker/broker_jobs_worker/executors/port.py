"""Where and how a task runs: the interface between the daemon and an executor.

The daemon decides *whether* a task runs (resources, cancel, drain); an executor runs it, holds its limits on the whole
process tree, and reports how it ended. It never raises for what a task does.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from broker_jobs.core.outcome import Outcome
    from broker_jobs.core.spec import TaskOptions
    from broker_jobs.core.value import Inline, Value
    from broker_jobs.wire.messages import Function, Origin, Output, Piece, Work


@dataclass(frozen=True, slots=True)
class Execution:
    """All that is needed to run one attempt once.

    Attributes:
        execution: name of the execution, unique for ever: boot id and counter
        task_name: what the user calls the task
        function: of a call, else None
        setup: what runs before it, once in each process
        values: for `Call.inputs`, by key
        env: variables that say what it was allotted; those of the options win
        hosts: of the workers of a task of several nodes, that of this one first
        submitter: the client to which its end is told
        resource_class: from whose queue it came
    """

    execution: str
    job: str
    task: int
    attempt: int
    work: Work
    options: TaskOptions
    origin: Origin
    task_name: str = ""
    function: Function | None = None
    setup: Function | None = None
    values: Mapping[str, Value] = field(default_factory=dict)
    store: str | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    hosts: tuple[str, ...] = ()
    submitter: str = ""
    resource_class: str = ""


@dataclass(frozen=True, slots=True)
class ExecutionEnded:
    """An execution is over, and no process of it lives."""

    execution: str
    outcome: Outcome
    started_ms: int
    ended_ms: int
    stdout: Output
    stderr: Output


@dataclass(frozen=True, slots=True)
class ExecutionsSucceeded:
    """Executions of a line have succeeded one after the other, and nothing else: they printed nothing and made no data.

    Attributes:
        started_ms: when the first began; each further one began when the one before it had ended
        values: of each, by position as `ended_ms`
    """

    executions: tuple[str, ...]
    started_ms: int
    ended_ms: tuple[int, ...]
    values: tuple[Inline | None, ...]


@dataclass(frozen=True, slots=True)
class ExecutionProgressed:
    """A task says how far it is (fraction: 0 to 1)."""

    execution: str
    fraction: float
    text: str


@dataclass(frozen=True, slots=True)
class ExecutionsRecalled:
    """These had not begun, and are forgotten here; the others of their line have begun."""

    executions: tuple[str, ...]


ExecutionNews = ExecutionEnded | ExecutionsSucceeded | ExecutionProgressed | ExecutionsRecalled


@dataclass(frozen=True, slots=True)
class Legacy:
    """What an earlier process of this worker has started, and what goes on without it.

    Attributes:
        boot: of that process
        life: counts the processes that have gone on with it, from 1
    """

    boot: str
    life: int
    executions: tuple[Execution, ...]


class Executor(Protocol):
    """Runs executions; it reports to the callable that it was made with, on the event loop on which it was opened.

    Attributes:
        away: seconds for which what runs goes on without this process, so that the next one may go on with it
        longest_line: how many executions it takes at once, to run them one after the other; 1: each for itself
    """

    away: float
    longest_line: int

    def legacy(self) -> Legacy | None:
        """What there is to go on with; asked once, before it is opened."""

    async def open(self, resumed: Sequence[str] = ()) -> None:
        """Start what is needed (guardian, warm children).

        Args:
            resumed: executions of the legacy that go on as if they were started here; others are ended
        """

    def start(self, execution: Execution, then: Sequence[Execution] = ()) -> None:
        """Run it. Of each execution that was not recalled there is exactly one end, whatever happens.

        Args:
            then: calls of the same function with the same options, which follow one after the other with the same resources: a *line*
        """

    def recall(self, execution: str) -> None:
        """Forget what of the line of this execution has not begun; `ExecutionsRecalled` says what that was, also where it is nothing."""

    def stop(self, execution: str, reason: str, within: float | None = None) -> None:
        """End it: SIGTERM (an exception in a function), after the grace SIGKILL, to the whole tree.

        The outcome is `Canceled` unless it ended before.

        Args:
            within: seconds that its grace does not exceed
        """

    async def read(self, execution: str, *, stderr: bool, path: str | None, start: int, most: int) -> Piece:
        """Part of what an execution has printed so far, or, once it has ended, of the file that its `Output` named."""

    def kept(self) -> tuple[str, ...]:
        """Jobs of which there is output that is kept, the latest ones."""

    async def forget(self, jobs: Sequence[str]) -> None:
        """Remove what is kept of jobs."""

    async def close(self) -> None:
        """Kill what still runs, and end every process."""
