"""What the executor knows of an execution that has not ended, and what is to be removed after its end."""

from __future__ import annotations

import contextlib
import os
import shutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from broker_jobs.core.outcome import Succeeded
from broker_jobs.core.spec import Keep
from broker_jobs.wire.messages import Output, Program
from broker_jobs_worker.runners import nodes
from broker_jobs_worker.runners.program import error_file
from broker_jobs_worker.runners.protocol import Done, Redirected

if TYPE_CHECKING:
    import asyncio

    from broker_jobs.core.outcome import Outcome
    from broker_jobs_worker.executors.groups import Group
    from broker_jobs_worker.executors.line import Line
    from broker_jobs_worker.executors.port import Execution
    from broker_jobs_worker.executors.server import Child
    from broker_jobs_worker.executors.verdicts import Verdict

_TO_SPOOL: Final = Redirected(None, None)


@dataclass(slots=True, eq=False)
class Running:
    """An execution that has not ended.

    Attributes:
        folder: its task folder, if it has one
        child: None while it waits for one
        group: holds its memory
        condemned_at: on the loop's clock
        answer: what the child said at the end; its tree may still have to go
        printed: bytes of its output in the spool, at the last look
        looking: the next look at its group
        line: what follows it
    """

    execution: Execution
    started_ms: int
    folder: str
    child: Child | None = None
    group: Group | None = None
    verdict: Verdict | None = None
    condemned_at: float = 0.0
    answer: Done | None = None
    redirected: Redirected = _TO_SPOOL
    printed: int = 0
    progress_at: float = float("-inf")
    timers: list[asyncio.TimerHandle] = field(default_factory=list)
    looking: asyncio.TimerHandle | None = None
    line: Line | None = None

    def forget_timers(self) -> None:
        """Let nothing more happen by itself."""
        for timer in self.timers:
            timer.cancel()
        self.timers.clear()
        if self.looking is not None:
            self.looking.cancel()
            self.looking = None


@dataclass(frozen=True, slots=True)
class Remains:
    """What goes when nothing of an execution lives any more.

    Attributes:
        files: to be removed
        trees: folders to be removed with all that is in them
        empty: folders to be removed if nothing is in them
    """

    files: tuple[str, ...] = ()
    trees: tuple[str, ...] = ()
    empty: tuple[str, ...] = ()
    group: Group | None = None

    def __bool__(self) -> bool:
        return bool(self.files or self.trees or self.empty or self.group)

    def remove(self) -> None:
        """Remove them; for a thread, since a large folder takes its time."""
        for path in self.files:
            with contextlib.suppress(OSError):
                os.unlink(path)  # noqa: PTH108 (a text)
        for path in self.trees:
            shutil.rmtree(path, ignore_errors=True)
        for path in self.empty:
            with contextlib.suppress(OSError):
                os.rmdir(path)  # noqa: PTH106 (as above)
        if self.group is not None:
            self.group.remove()


def remains(running: Running, outcome: Outcome, stdout: Output, stderr: Output) -> tuple[Remains, Output, Output]:
    """What is to be removed, and what is left to tell of the output."""
    options, work = running.execution.options, running.execution.work
    files: list[str] = []
    streams = [stdout, stderr]
    if isinstance(outcome, Succeeded):
        for index, keep in enumerate((options.keep_stdout, options.keep_stderr)):
            if keep is Keep.on_failure:
                path = streams[index].path
                streams[index] = Output()
                if path is not None:
                    files.append(path)
    cut_off = running.answer is None and running.child is not None
    if cut_off and isinstance(work, Program):
        files.append(error_file(running.folder))
    if running.execution.hosts:
        files.extend(nodes.files(running.folder))
    if isinstance(work, Program) and work.task_dir:
        return Remains(tuple(files), trees=(running.folder,), group=running.group), streams[0], streams[1]
    empty = (running.folder,) if cut_off else ()
    return Remains(tuple(files), empty=empty, group=running.group), streams[0], streams[1]
