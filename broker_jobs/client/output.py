"""What tasks print, from wherever it is: the worker while the task runs, the worker's files, the ledger."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from broker_jobs.client.link import PATIENCE
from broker_jobs.client.reading import Cursor
from broker_jobs.core.states import ENDED, TaskState
from broker_jobs.data.excerpt import excerpt_of
from broker_jobs.errors import CoordinatorUnavailable
from broker_jobs.host import host_identity
from broker_jobs.wire.messages import Changes, GetChanges, GetOutput, GetOutputs, Outputs, Piece, ReadOutput, TaskOutput

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence

    from broker_jobs.client.core import Core
    from broker_jobs.client.followed import Followed
    from broker_jobs.client.reading import Part
    from broker_jobs.wire.messages import Output

PIECE: Final = 2**20
"""Bytes that are asked for at once."""
MOST_SEEN: Final = 64 * 2**20
"""Bytes that are read of a file that nobody could look into."""
_PAGE: Final = 500
_WAIT_MS: Final = 2000
_SOON: Final = 2.0
_PAUSE: Final = 0.1
_TRIES: Final = 20
RUNS: Final = frozenset({TaskState.running, TaskState.canceling})
"""States of a task that is with a worker."""


class Printed(NamedTuple):
    """Something that a task of a job has printed; of a part of None there is no more."""

    task: int
    part: Part | None


@dataclass(frozen=True, slots=True)
class Whole:
    """One stream of a task that has ended.

    Attributes:
        lost: bytes that are missing, and the reason
    """

    data: bytes
    lost: int = 0


async def whole(core: Core, job: Followed, task: int, *, stderr: bool) -> Whole:
    """One stream of a task, once that has ended."""
    await core.ending(job, task)
    data: list[bytes] = []
    lost = 0
    async with aclosing(parts(core, job, task, stderr=stderr)) as found:
        async for part in found:
            data.append(part.data)
            lost += part.lost
    return Whole(b"".join(data), lost)


async def parts(
    core: Core, job: Followed, task: int, *, stderr: bool, follow: bool = False, pause: Callable[[], float] = lambda: 0.0
) -> AsyncGenerator[Part, None]:
    """What a task has printed so far, or, following, until its end, through all attempts that are still to come.

    Args:
        pause: seconds before the next question, where the last answer was not a whole piece

    Raises:
        TaskNotFound: the job has no such task
        CoordinatorUnavailable: nobody knows where to look
    """
    cursor = Cursor()
    goal: int | None = None
    tries = _TRIES
    while True:
        answer = await _ask(core, job, task, cursor, stderr=stderr, wait_ms=_WAIT_MS if follow and goal is not None else 0)
        if isinstance(answer, TaskOutput):
            if answer.state in ENDED:
                async for rest in _rest(cursor, answer, stderr=stderr):
                    yield rest
                return
            if follow:
                await _until_changed(core, job, task, answer)
            elif answer.state not in RUNS or tries == 0:
                return
            else:
                tries -= 1
                await asyncio.sleep(_PAUSE)
            continue
        part = cursor.take(answer)
        if part is not None:
            yield part
            if follow and len(part.data) < PIECE:
                await asyncio.sleep(pause())
        goal = answer.size if goal is None or follow else goal
        if not follow and (part is None or cursor.at >= goal):
            return
        if answer.ended and cursor.at >= answer.size:
            # The worker has said all; the ledger says whether that was the last attempt.
            known = await core.ask(GetOutput(job.id, task), TaskOutput)
            if known.state in ENDED and known.execution == cursor.execution:
                return
            await asyncio.sleep(_PAUSE)


async def _ask(core: Core, job: Followed, task: int, cursor: Cursor, *, stderr: bool, wait_ms: int) -> Piece | TaskOutput:
    """The next piece; where its worker does not have it or does not answer, what the ledger has."""
    question = ReadOutput(job.id, task, stderr, cursor.execution, cursor.at, PIECE, wait_ms)
    try:
        # Whoever follows asks again soon: a question is lost with the connection of its worker.
        answer = await core.link.ask(question, PATIENCE if wait_ms == 0 else _SOON + wait_ms / 1000)
    except CoordinatorUnavailable:
        answer = Piece("", missing=True)
    if isinstance(answer, Piece) and not answer.missing:
        return answer
    if isinstance(answer, TaskOutput):
        return answer
    # Between the end of an execution and the ledger's hearing of it nobody has it; later it may be gone.
    return await core.ask(GetOutput(job.id, task), TaskOutput)


async def _rest(cursor: Cursor, found: TaskOutput, *, stderr: bool) -> AsyncGenerator[Part, None]:
    """What the ledger has; before that what lies in a file of this host, when its worker has ended."""
    output = found.stderr if stderr else found.stdout
    end = output.size - len(output.tail)
    if _unseen(output):
        end = MOST_SEEN
    at = cursor.at if cursor.execution == found.execution else 0
    while output.path and at < end and found.host == host_identity():
        left = await asyncio.to_thread(excerpt_of, output.path, at, min(PIECE, end - at))
        part = None if left is None else cursor.take(Piece(found.execution, left.start, left.data, left.size))
        if part is None:
            break
        yield part
        at = cursor.at
    part = cursor.finish(output, found.execution)
    if part is not None:
        yield part


def _unseen(output: Output) -> bool:
    """Whether there is a file of the user of which only the path is known: nobody could look into it when its task was killed."""
    return output.path is not None and output.size == 0


async def _until_changed(core: Core, job: Followed, task: int, known: TaskOutput) -> None:
    """Wait until a task that does not run may run."""
    if known.state in RUNS:
        await asyncio.sleep(_PAUSE)
        return
    since = 0
    while True:
        question = GetChanges(job.id, since, _WAIT_MS if since else 0, 1, tasks=(task,))
        changes = await core.ask(question, Changes, PATIENCE + _WAIT_MS / 1000)
        if any(info.state is not known.state or info.attempt != known.attempt for info in changes.tasks):
            return
        since = max(changes.upto, changes.info.version)
        await asyncio.sleep(_PAUSE)


async def outputs(core: Core, job: Followed, tasks: Sequence[int]) -> AsyncGenerator[TaskOutput, None]:
    """What the ledger has of the output of these tasks, in this order."""
    left = list(tasks)
    while left:
        answer = await core.ask(GetOutputs(job.id, tuple(left[:_PAGE])), Outputs)
        for found in answer.outputs:
            yield found
        del left[: max(1, answer.answered)]


async def printed(core: Core, job: Followed, tasks: Sequence[int], *, stderr: bool) -> AsyncGenerator[Printed, None]:
    """What these tasks have printed so far, one after the other; each ends with a part of None."""
    async for found in outputs(core, job, tasks):
        output = found.stderr if stderr else found.stdout
        if found.state in ENDED and len(output.tail) == output.size and not _unseen(output):
            part = Cursor().finish(output, found.execution)
            if part is not None:
                yield Printed(found.task, part)
        else:
            async with aclosing(parts(core, job, found.task, stderr=stderr)) as more:
                async for part in more:
                    yield Printed(found.task, part)
        yield Printed(found.task, None)
