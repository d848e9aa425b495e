"""What a client knows of a job: a replica, fed by replies of workers (a shortcut) and by the ledger (the truth). Pure.

A reply tells of an ending at once: a success is final, a failure is where the task's retry policy gives up. What no worker says
(a task aborted before its start, a crash limit) only the ledger knows. Either source may come first, late, twice or never; what is
final stays, except that the ledger's word replaces a worker's.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple, assert_never

from broker_jobs.client.entries import ArrayWork
from broker_jobs.core.outcome import Canceled, Crashed, Failed, Succeeded
from broker_jobs.core.retry import GiveUp, decide
from broker_jobs.core.states import ENDED, JOB_ENDED, JobState, TaskState, job_state
from broker_jobs.core.value import Inline
from broker_jobs.errors import DecodeError, TaskNotFound, ValidationError
from broker_jobs.ids import short
from broker_jobs.wire.messages import Ended, Program, Progress, Returned, Started, Taken

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from broker_jobs.client.authoring import Job
    from broker_jobs.core.outcome import Outcome
    from broker_jobs.core.spec import Retry
    from broker_jobs.wire.messages import Changes, JobInfo, Reply, TaskInfo

BUDGET: Final = 64 * 2**20
"""Bytes of values that are kept of one job."""

_OVERHEAD: Final = 200
_LONGEST_ID: Final = 10
_WITHOUT_OUTCOME: Final = frozenset({TaskState.canceled, TaskState.aborted})
_STATES: Final = tuple(TaskState)
_CODES: Final = {state: code for code, state in enumerate(_STATES)}
_ENDED: Final = frozenset(_CODES[state] for state in ENDED)
_SUCCEEDED: Final = _CODES[TaskState.succeeded]


@dataclass(frozen=True, slots=True)
class Row:
    """Tasks of a job that were added together: what a client must know of them after it has sent them.

    Attributes:
        ids: what its tasks are told apart by; None where it is one task, and for calls, which all have the same name
    """

    first: int
    count: int
    name: str
    ids: Sequence[int] | None
    program: bool
    retry: Retry | None

    def label(self, number: int) -> str:
        """What one of its tasks is called."""
        return self.name if self.ids is None else f"{self.name}[{self.ids[number - self.first]}]"


@dataclass(frozen=True, slots=True)
class Layout:
    """The tasks of a job that this client has sent.

    Attributes:
        flat: every task went straight to a class queue: it runs, and is heard of, without a coordinator
        sort: what all tasks are, as `Pace` knows them; None where they differ
    """

    rows: tuple[Row, ...]
    total: int
    flat: bool = False
    name: str = ""
    sort: str | None = None

    @classmethod
    def of(cls, job: Job, *, flat: bool, sort: str | None = None) -> Layout:
        """The layout of a whole job."""
        rows = (
            Row(entry.first, entry.count, entry.name, entry.ids, isinstance(entry.work, Program | ArrayWork), entry.options.retry)
            for entry in job.entries
        )
        return cls(tuple(rows), len(job), flat, job.name, sort)

    def row(self, number: int) -> Row | None:
        """The row of a task, or None where there is none."""
        low, high = 0, len(self.rows)
        while low < high:
            middle = (low + high) // 2
            low, high = (middle + 1, high) if self.rows[middle].first <= number else (low, middle)
        row = self.rows[low - 1] if low else None
        return row if row and row.first <= number < row.first + row.count else None

    def named(self, name: str) -> int:
        """The number of the task of this name; ``[7]`` alone is that of the array's id 7.

        Raises:
            TaskNotFound: there is none
            ValidationError: there are several
        """
        found = [row.first for row in self.rows if row.name == name and row.ids is None]
        base, _, digits = name.removesuffix("]").rpartition("[")
        if name.endswith("]") and digits.isdecimal() and len(digits) <= _LONGEST_ID:
            chosen = int(digits)
            found += [row.first + row.ids.index(chosen) for row in self.rows if row.ids and base in {"", row.name} and chosen in row.ids]
        return only(found, name)


def only(found: list[int], name: str) -> int:
    """The one number; `TaskNotFound` or `ValidationError` where there is none or more."""
    if not found:
        raise TaskNotFound(f"the job has no task named {name!r}")
    if len(found) > 1:
        raise ValidationError(f"{len(found)} tasks are named {name!r}: use a number, such as {found[0]}")
    return found[0]


class Ending(NamedTuple):
    """How a task has ended.

    Attributes:
        outcome: as recorded; None where it ended before its start
        reason: why it was canceled or aborted
    """

    number: int
    state: TaskState
    outcome: Outcome | None
    reason: str = ""
    name: str = ""
    attempt: int = 0
    worker: str = ""
    program: bool = False


class JobView:
    """The replica of one job.

    Args:
        job: its id
        layout: its tasks, where this client has sent them; their replies come to it, too
        budget: bytes of values that are kept; further ones are asked for again when they are needed
    """

    def __init__(self, job: str, layout: Layout | None = None, budget: int = BUDGET) -> None:
        self.job = job
        self.layout = layout
        self.info: JobInfo | None = None
        self._budget = budget
        # By code. Of tasks that others have sent, those that wait are not counted: nobody knows how many there are.
        self._counts = [0] * len(_STATES)
        self._counts[0] = layout.total if layout else 0
        self._codes = bytearray(layout.total if layout else 0)
        self._endings: dict[int, Ending] = {}
        self._failures: dict[int, set[int]] = {}
        self._size = 0

    @property
    def name(self) -> str:
        """What the job is called, where that is known."""
        return self.layout.name if self.layout else self.info.name if self.info else ""

    @property
    def counts(self) -> Counter[TaskState]:
        """Tasks by state, as far as they are known here."""
        return Counter({state: count for state, count in zip(_STATES, self._counts, strict=True) if count > 0})

    @property
    def ended(self) -> bool:
        """Whether the job is known to have ended."""
        return self.state in JOB_ENDED

    @property
    def state(self) -> JobState:
        """The newest state that is known."""
        if self.info and self.info.state in JOB_ENDED:
            return self.info.state
        here = job_state(self.counts, complete=True) if self.layout else JobState.waiting
        # That a job is paused, its coordinator alone tells.
        if self.info and (here is JobState.waiting or (self.info.state is JobState.paused and here not in JOB_ENDED)):
            return self.info.state
        return here

    @property
    def total(self) -> int | None:
        """The number of tasks, where it is known."""
        if self.layout:
            return self.layout.total
        return self.info.total if self.info and not self.info.open else None

    @property
    def progress(self) -> Mapping[str, int]:
        """Tasks by state, from whoever knows of more that have ended."""
        here = {state.value: count for state, count in self.counts.items()}
        there = self.info.counts if self.info else {}
        return max(here, there, key=_ended)

    @property
    def complete(self) -> bool:
        """Whether the ending of every task is kept here."""
        return self.layout is not None and len(self._endings) == self.layout.total

    def state_of(self, number: int) -> TaskState | None:
        """The last known state of a task, or None."""
        known = 0 <= number < len(self._codes)
        return _STATES[self._codes[number]] if known and (self.layout or self._codes[number]) else None

    def ending(self, number: int) -> Ending | None:
        """How a task ended, where that is known and kept."""
        return self._endings.get(number)

    def endings(self) -> list[Ending]:
        """All endings that are kept, in the order in which they became known."""
        return list(self._endings.values())

    def drop(self, number: int) -> None:
        """Keep the ending of this task no longer: it was delivered."""
        ending = self._endings.pop(number, None)
        if ending:
            self._size -= _size(ending)

    def heard(self, reply: Reply) -> list[Ending]:
        """Take a worker's reply; the endings that became known.

        Raises:
            DecodeError: it is about tasks that the job does not have
        """
        if self.layout and not all(0 <= item.task < self.layout.total for item in reply.items):
            raise DecodeError(f"a reply about a task that job {short(self.job)} does not have: it has {self.layout.total}")
        found: list[Ending] = []
        row: Row | None = None
        for item in reply.items:
            number = item.task
            if number < len(self._codes) and self._codes[number] in _ENDED:
                continue
            match item:
                case Ended():
                    code = self._after(item)
                    self._move(number, code)
                    if code in _ENDED:
                        if self.layout and (row is None or not row.first <= number < row.first + row.count):
                            row = self.layout.row(number)
                        name, program = (row.label(number), row.program) if row else ("", False)
                        ending = Ending(number, _STATES[code], item.outcome, "", name, item.attempt, reply.worker, program)
                        self._keep(ending)
                        found.append(ending)
                case Started() | Taken() | Progress():
                    self._move(number, _CODES[TaskState.running])
                case Returned():
                    self._move(number, _CODES[TaskState.queued])
                case _:
                    assert_never(item)
        return found

    def told(self, info: JobInfo) -> bool:
        """Take the ledger's word of the job; whether it is new."""
        if self.info and info.version <= self.info.version:
            return False
        self.info = info
        return True

    def changed(self, changes: Changes, *, values: bool) -> list[Ending]:
        """Take the ledger's word of tasks; the endings that became known.

        Args:
            changes: the answer to `GetChanges`
            values: whether outcomes were asked for; without them successes and failures are only counted
        """
        self.told(changes.info)
        found: list[Ending] = []
        for task in changes.tasks:
            known = self.state_of(task.number)
            if known in ENDED and task.state not in ENDED:
                continue  # written before the reply came that we have heard
            self._move(task.number, _CODES[task.state])
            kept = self._endings.get(task.number)
            if kept and kept.state is not task.state:
                self.drop(task.number)  # of an attempt that the ledger did not count
                kept = None
            if task.state in ENDED and kept is None and (values or task.state in _WITHOUT_OUTCOME):
                ending = ending_of(task)
                self._keep(ending)
                found.append(ending)
        return found

    def check(self) -> None:
        """What must always be true; `AssertionError` where it is not."""
        counted = Counter(_STATES[code] for code in self._codes)
        if not self.layout:
            del counted[TaskState.waiting]
        assert counted == self.counts, "every known task is counted once"  # noqa: S101
        assert self._size == sum(map(_size, self._endings.values())), "what is kept is counted"  # noqa: S101
        assert all(self.state_of(number) is ending.state for number, ending in self._endings.items()), "endings agree with states"  # noqa: S101

    def _after(self, item: Ended) -> int:
        """The code of the state of the task after this execution: a final one only where nobody but a worker has to be asked."""
        match item.outcome:
            case Succeeded():
                return _SUCCEEDED
            case Failed() as failed:
                row = self.layout.row(item.task) if self.layout else None
                failures = self._failures.setdefault(item.task, set())
                failures.add(item.attempt)
                if isinstance(decide(row.retry if row else None, len(failures), failed, 0.5), GiveUp):
                    del self._failures[item.task]
                    return _CODES[TaskState.failed]
                return _CODES[TaskState.retrying]
            case Canceled():
                return _CODES[TaskState.canceling]
            case Crashed():
                return _CODES[TaskState.queued]
            case _:
                assert_never(item.outcome)

    def _move(self, number: int, code: int) -> None:
        if number >= len(self._codes):
            self._codes.extend(bytes(number + 1 - len(self._codes)))
        self._counts[self._codes[number]] -= 1
        self._counts[code] += 1
        self._codes[number] = code

    def _keep(self, ending: Ending) -> None:
        if not self._budget:
            return
        self.drop(ending.number)
        size = _size(ending)
        if self._size + size <= self._budget:
            self._endings[ending.number] = ending
            self._size += size


def ending_of(task: TaskInfo) -> Ending:
    """The ending of a task as the ledger tells it."""
    return Ending(
        task.number, task.state, task.outcome, task.reason, task.name, task.attempt, task.worker, program=task.kind == Program.tag
    )


def _size(ending: Ending) -> int:
    outcome = ending.outcome
    if isinstance(outcome, Succeeded):
        return _OVERHEAD + (outcome.value.size if isinstance(outcome.value, Inline) else 0)
    return _OVERHEAD + (len(outcome.message) + len(outcome.traceback) if isinstance(outcome, Failed) else 0)


def _ended(counts: Mapping[str, int]) -> int:
    return sum(counts.get(state.value, 0) for state in ENDED)
