"""What is known of a program in a batch system that has not ended, and what cannot run there."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from broker_jobs.wire.messages import Program
from broker_jobs_worker.runners.protocol import Run

if TYPE_CHECKING:
    from pathlib import Path

    from broker_jobs.core.outcome import Outcome
    from broker_jobs_worker.executors.batch.folders import Seen
    from broker_jobs_worker.executors.port import Execution

_ALLOTTED: Final = re.compile(r"OMP_NUM_THREADS|BROKER_JOBS_RESOURCE_(REQUEST_.*|VARIANT)")
"""What a program is told of its allotment: numbers of processors and devices are those of the worker's host, and mean nothing elsewhere."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How often is looked; all in seconds.

    Attributes:
        look: between two looks into the folders, at least
        poll: between two questions to the batch system
        soon: the same while a job is to end, or was submitted a moment ago
        patience: a batch system that does not take a job for so long is given up
        reason: why a job has gone is asked for so long
        closing: what is to end has this long when the worker stops
    """

    look: float = 0.5
    poll: float = 5.0
    soon: float = 1.0
    patience: float = 300.0
    reason: float = 30.0
    closing: float = 20.0


DEFAULT_PACE: Final = Pace()


@dataclass(slots=True, eq=False)
class Running:
    """An execution that has not ended.

    Attributes:
        program: what it runs; after a restart, only its name
        id: of its job; None until the batch system has said it
        folder: of its job
        submitted_ms: when it was handed over
        began: when the program was seen to run, on the loop's clock
        missing: polls in a row that did not know it
        sentence: with which it ends, as soon as nothing of it is left, whatever it does until then
        resumed: an earlier process has submitted it
        silent: nobody is to hear of its end
    """

    execution: Execution
    program: Program
    submitted_ms: int
    id: str | None = None
    folder: Path | None = None
    began: float | None = None
    seen: Seen | None = None
    missing: int = 0
    note: str = ""
    sentence: Outcome | None = None
    resumed: bool = False
    silent: bool = False
    woken: asyncio.Event = field(default_factory=asyncio.Event)

    def run(self) -> Run:
        """The program with its surroundings."""
        execution = self.execution
        return Run(
            execution.execution,
            execution.job,
            execution.task,
            execution.attempt,
            self.program,
            execution.options,
            folder="",
            name=execution.task_name,
            allocation={name: value for name, value in execution.env.items() if _ALLOTTED.fullmatch(name)},
        )


def unfit(execution: Execution, system: str) -> str | None:
    """Why a task cannot run in a batch system, and what to do; None where it can."""
    options = execution.options
    match execution.work:
        case Program(argv) if not argv or not argv[0]:
            return "the program has no name: argv is empty"
        case Program() if options.memory_limit is not None:
            what = "memory_limit= is not held there: ask for memory by executor_options=, such as {'l': 'h_vmem=2G'}"
        case Program() if options.pin is not None:
            what = "pin= is for processors of the worker's host: ask for it by executor_options="
        case Program() if options.resources.nodes:
            what = "a task of several nodes takes whole workers: ask for hosts by executor_options="
        case Program(files=files, collects=collects) if files or collects:
            what = "inputs= and outputs= are for folders of the worker's host: keep files in a folder that all hosts share"
        case Program():
            return None
        case _:
            what = "functions and steps run in processes of a worker: let one without --executor take them"
    return f"this worker runs programs in {system}, and {what}"
