"""Endings of tasks as the caller meets them: values, and exceptions. Unpickles, so it runs in the caller's thread."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from broker_jobs.core.outcome import Cause, Failed, Succeeded
from broker_jobs.core.states import TaskState
from broker_jobs.core.value import Inline, Stored
from broker_jobs.data.store import fetch
from broker_jobs.errors import TaskAborted, TaskCanceled, TaskFailed
from broker_jobs.ids import reference, short
from broker_jobs.wire import payload

if TYPE_CHECKING:
    from collections.abc import Iterable

    from broker_jobs.client.jobview import Ending, JobView
    from broker_jobs.core.value import Value

MOST_SHOWN = 5


@dataclass(frozen=True, slots=True)
class TaskError:
    """Why a task failed.

    Attributes:
        cause: kind of failure: error, exit code, signal, time limit, memory limit, crash limit, rejected
        message: one paragraph
        traceback: the remote traceback, or empty
        attempt: which attempt it was, from 1
        worker: where it ran
        exit_status: as a shell has it: the exit code, or 128 and the number of the signal that ended the program; None where neither did
    """

    cause: Cause
    message: str
    traceback: str
    attempt: int
    worker: str
    exit_status: int | None = None

    def __str__(self) -> str:
        return f"{self.message}\n\n{self.traceback}".rstrip()


def value_of(ending: Ending, job: str) -> object:
    """The value of a task that succeeded; of a program its exit code, 0.

    Raises:
        TaskFailed, TaskCanceled, TaskAborted: it did not succeed
        ValueStoreError: its value is in a store that cannot be reached from here
    """
    match ending.outcome:
        case Succeeded(value=value):
            if ending.program:
                return 0
            return None if value is None else loaded(value)
        case Failed() as failed:
            raise failure(ending, failed, job)
        case _:
            text = f"{title(ending)} of job {short(job)} was {ending.state.value}: {ending.reason or 'no reason was given'}"
            raise TaskCanceled(text) if ending.state is TaskState.canceled else TaskAborted(text)


def stored_bytes(ending: Ending) -> int:
    """Bytes of its value in the value store."""
    match ending.outcome:
        case Succeeded(value=Stored(size=size)):
            return size
        case _:
            return 0


def loaded(value: Value) -> object:
    """The object in these bytes, wherever they are."""
    return payload.load(value if isinstance(value, Inline) else fetch(value))


def failure(ending: Ending, failed: Failed, job: str) -> TaskFailed:
    """The exception for a task that failed; its cause is the task's own exception, where that could be sent."""
    error = TaskFailed(
        f"{title(ending)} of job {short(job)} failed ({failed.cause.value}): {failed.message}",
        cause=failed.cause.value,
        remote_traceback=failed.traceback,
        exit_status=exit_status(failed),
    )
    error.__cause__ = own_exception(failed)
    return error


def own_exception(failed: Failed) -> Exception | None:
    """The exception that the task has raised, where it could be sent and means something here."""
    if failed.exception is None:
        return None
    try:
        found = loaded(failed.exception)
    except Exception:  # noqa: BLE001 (the class is the user's, and may be missing here; the text of it is in the failure)
        return None
    return found if isinstance(found, Exception) else None


def task_error(ending: Ending, failed: Failed) -> TaskError:
    """A failure as data."""
    return TaskError(failed.cause, failed.message, failed.traceback, ending.attempt, ending.worker, exit_status(failed))


def exit_status(failed: Failed) -> int | None:
    """What a shell would have in ``$?``."""
    return failed.exit_code if failed.signal is None else 128 + failed.signal


def title(ending: Ending) -> str:
    """A task for a message to people."""
    return f"task {ending.number} {ending.name!r}" if ending.name else f"task {ending.number}"


def summary(view: JobView, failures: Iterable[tuple[Ending, Failed]]) -> str:
    """A job that did not succeed, and why."""
    counts = ", ".join(f"{count} {state}" for state, count in view.progress.items() if count)
    lines = [f"job {short(view.job)} {view.name!r} {view.state.value}: {counts} of {sum(view.progress.values())} tasks"]
    if view.info and view.info.reason:
        lines.append(f"  {view.info.reason}")
    shown = list(failures)
    lines += [f"  {title(ending)} ({failed.cause.value}): {_first_line(failed.message)}" for ending, failed in shown[:MOST_SHOWN]]
    if len(shown) > MOST_SHOWN:
        lines.append("  …")
    lines.append(f"  more: broker-jobs job info {reference(view.job)}")
    return "\n".join(lines)


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0]
