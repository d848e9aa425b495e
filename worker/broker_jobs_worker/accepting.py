"""A worker that runs some kinds of work alone: what else comes ends as failed, and no byte of it is run or unpickled."""

from __future__ import annotations

import asyncio
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self, assert_never

from broker_jobs.core.outcome import Cause, Failed
from broker_jobs.core.value import Encoding
from broker_jobs.errors import ValidationError
from broker_jobs.wire.messages import Call, Output, Program, StepCall
from broker_jobs_worker.executors.port import ExecutionEnded, ExecutionsRecalled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from broker_jobs.wire.messages import Piece
    from broker_jobs_worker.executors.port import Execution, ExecutionNews, Executor, Legacy

PROGRAMS: Final = "programs"
FUNCTIONS: Final = "functions"
STEPS: Final = "steps"
_STEP: Final = re.compile(r"step:([^:\s]+)")


@dataclass(frozen=True, slots=True)
class Accepted:
    """The kinds of work that a worker runs.

    Attributes:
        steps: names of steps; empty for all where `every_step`
    """

    programs: bool
    functions: bool
    every_step: bool
    steps: frozenset[str] = frozenset()

    @classmethod
    def parse(cls, words: Iterable[str]) -> Self:
        """Of ``programs``, ``functions``, ``steps`` and ``step:NAME``; `ValidationError` where one is something else."""
        given = list(words)
        named = {word: _STEP.fullmatch(word) for word in given if word not in {PROGRAMS, FUNCTIONS, STEPS}}
        for word, name in named.items():
            if name is None:
                raise ValidationError(f"a worker accepts programs, functions, steps, or step:NAME, not {word!r}")
        return cls(PROGRAMS in given, FUNCTIONS in given, STEPS in given, frozenset(name[1] for name in named.values() if name))

    def __str__(self) -> str:
        """For people."""
        kinds = [(self.programs, PROGRAMS), (self.functions, FUNCTIONS), (self.every_step, STEPS)]
        words = [word for wanted, word in kinds if wanted] + [f"the step {name}" for name in sorted(self.steps)]
        return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))

    def refusal(self, execution: Execution) -> str | None:
        """Why a worker does not run this; None where it does."""
        match execution.work:
            case Program():
                what, fits = "a program", self.programs
            case Call():
                what, fits = "a function", self.functions
            case StepCall(name=name):
                what, fits = f"the step {name}", self.every_step or name in self.steps
            case _:
                assert_never(execution.work)
        if not fits:
            return f"this is {what}, and the worker accepts only {self}"
        if not self.functions and any(value.encoding is Encoding.pickle for value in execution.values.values()):
            return f"it takes a pickled result of another task, and the worker, which accepts only {self}, unpickles nothing"
        return None


class AcceptingExecutor:
    """An executor behind a gate.

    Args:
        behind: runs what passes
        report: hears of the end of what does not
    """

    def __init__(self, accepted: Accepted, behind: Executor, report: Callable[[ExecutionNews], None]) -> None:
        self._accepted = accepted
        self._behind = behind
        self._report = report
        self._refused: set[str] = set()
        self.away = behind.away
        self.longest_line = behind.longest_line

    def legacy(self) -> Legacy | None:
        """What there is to go on with."""
        return self._behind.legacy()

    async def open(self, resumed: Sequence[str] = ()) -> None:
        """Start what is needed."""
        await self._behind.open(resumed)

    def start(self, execution: Execution, then: Sequence[Execution] = ()) -> None:
        """Run it, or report that it is refused; all of a line are of one kind, and take the same values."""
        refusal = self._accepted.refusal(execution)
        if refusal is None:
            self._behind.start(execution, then)
            return
        for each in (execution, *then):
            self._refused.add(each.execution)
            asyncio.get_running_loop().call_soon(self._end, each.execution, refusal)

    def _end(self, execution: str, refusal: str) -> None:
        self._refused.discard(execution)
        now = time.time_ns() // 1_000_000
        self._report(ExecutionEnded(execution, Failed(Cause.rejected, refusal), now, now, Output(), Output()))

    def recall(self, execution: str) -> None:
        """Forget what of its line has not begun: nothing, where its end is on the way."""
        if execution in self._refused:
            self._report(ExecutionsRecalled(()))
        else:
            self._behind.recall(execution)

    def stop(self, execution: str, reason: str, within: float | None = None) -> None:
        """End it; what is refused ends by itself."""
        if execution not in self._refused:
            self._behind.stop(execution, reason, within)

    async def read(self, execution: str, *, stderr: bool, path: str | None, start: int, most: int) -> Piece:
        """Part of what an execution has printed."""
        return await self._behind.read(execution, stderr=stderr, path=path, start=start, most=most)

    def kept(self) -> tuple[str, ...]:
        """Jobs of which there is output that is kept."""
        return self._behind.kept()

    async def forget(self, jobs: Sequence[str]) -> None:
        """Remove what is kept of jobs."""
        await self._behind.forget(jobs)

    async def close(self) -> None:
        """Kill what still runs."""
        await self._behind.close()
