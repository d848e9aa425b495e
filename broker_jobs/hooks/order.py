"""Which moments of a job its plugins are told of, and when: each once and in order, whatever the news looks like. Pure.

News may come late, twice, in another order, or never. What is told of a task is *submitted*, *started*, *polling* as often as there is
something new while it goes on, and one of *succeeded*, *failed* and *killed*. A start that nobody has seen is told before an end that
needs one. Of an attempt that another has followed, nothing more is told, and none goes back to where it was: what comes again is another.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from broker_jobs.core.states import ENDED, TaskState
from broker_jobs.hooks.facts import Moment

if TYPE_CHECKING:
    from collections.abc import Collection

    from broker_jobs.hooks.facts import JobNow, TaskNow

SUBMITTED: Final = "on_task_submitted"
STARTED: Final = "on_task_started"
POLLING: Final = "on_task_polling"
KILLED: Final = "on_task_killed"
FAILED: Final = "on_task_failed"
SUCCEEDED: Final = "on_task_succeeded"
COMPLETE: Final = "on_complete"

_ENDING: Final = {
    TaskState.succeeded: SUCCEEDED,
    TaskState.failed: FAILED,
    TaskState.canceled: KILLED,
    TaskState.aborted: KILLED,
}
_BEGUN: Final = frozenset({TaskState.running, TaskState.retrying, TaskState.canceling})
_NOT_OURS, _EXPECTED, _GOES_ON, _OVER = range(4)

_Seen = tuple[int, TaskState, float | None, str]


class Order:
    """The tasks of a job of which plugins are told.

    Attributes:
        open: tasks that have not ended
        over: whether the end of the job was told
    """

    def __init__(self) -> None:
        self.open = 0
        self.over = False
        self._phases = bytearray()
        self._seen: dict[int, _Seen] = {}
        self._holds = 0
        self._held: list[TaskNow] = []

    def expect(self, numbers: Collection[int]) -> None:
        """These are tasks of ours; again changes nothing."""
        self._phases.extend(bytes(max(0, max(numbers, default=-1) + 1 - len(self._phases))))
        for number in numbers:
            if self._phases[number] == _NOT_OURS:
                self._phases[number] = _EXPECTED
                self.open += 1

    def forget(self, numbers: Collection[int]) -> None:
        """These were never submitted."""
        for number in numbers:
            if self._phases[number] in {_EXPECTED, _GOES_ON}:
                self._end(number)
            self._phases[number] = _NOT_OURS

    def expects(self, number: int) -> bool:
        """Whether this is a task of ours."""
        return 0 <= number < len(self._phases) and self._phases[number] != _NOT_OURS

    def was(self, number: int, state: TaskState, attempt: int) -> None:
        """Take up a task of ours of which plugins were told earlier."""
        self.expect((number,))
        if state in ENDED:
            self._end(number)
        elif state in _BEGUN or attempt > 1:
            self._phases[number] = _GOES_ON
            self._seen[number] = attempt, state, None, ""

    def hold(self) -> None:
        """Keep news until `release`: something is on its way, and its *submitted* comes first."""
        self._holds += 1

    def release(self) -> list[Moment]:
        """What was kept, once nothing is on its way any more."""
        self._holds -= 1
        if self._holds:
            return []
        held, self._held = self._held, []
        return [moment for now in held for moment in self.news(now)]

    def news(self, now: TaskNow) -> list[Moment]:
        """What to tell after this news of a task."""
        number = now.number
        if not self.expects(number) or self._phases[number] == _OVER:
            return []
        if self._holds:
            self._held.append(now)
            return []
        ending = _ENDING.get(now.state)
        if ending is not None:
            begun = self._phases[number] == _GOES_ON
            self._end(number)
            if begun or ending == KILLED:
                return [Moment(ending, now)]
            started = replace(now, state=TaskState.running, reason="")
            return [Moment(STARTED, started), Moment(ending, now)]
        return self._going_on(now)

    def job_over(self, job: JobNow) -> list[Moment]:
        """What to tell when the job has ended."""
        if self.over:
            return []
        self.over = True
        return [Moment(COMPLETE, job)]

    def check(self) -> None:
        """What must always be true; `AssertionError` where it is not."""
        counted = sum(phase in {_EXPECTED, _GOES_ON} for phase in self._phases)
        assert counted == self.open, "every open task is counted once"  # noqa: S101
        assert all(self._phases[number] == _GOES_ON for number in self._seen), "of what has ended nothing is remembered"  # noqa: S101
        assert self._holds or not self._held, "what was kept is told"  # noqa: S101

    def _going_on(self, now: TaskNow) -> list[Moment]:
        number = now.number
        if self._phases[number] == _EXPECTED:
            if now.state not in _BEGUN:
                return []
            self._phases[number] = _GOES_ON
            self._seen[number] = now.attempt, TaskState.running, None, ""
            started = Moment(STARTED, replace(now, state=TaskState.running, reason="", progress=None, progress_text=""))
            return [started, *self._going_on(now)]
        attempt, state, progress, text = self._seen[number]
        if (now.attempt, _reach(now.state)) < (attempt, _reach(state)):
            return []
        same = now.attempt == attempt
        seen = (
            now.attempt,
            now.state,
            progress if same and now.progress is None else now.progress,
            text if same and not now.progress_text else now.progress_text,
        )
        if seen == (attempt, state, progress, text):
            return []
        self._seen[number] = seen
        return [Moment(POLLING, replace(now, progress=seen[2], progress_text=seen[3]))]

    def _end(self, number: int) -> None:
        self._phases[number] = _OVER
        self._seen.pop(number, None)
        self.open -= 1


def _reach(state: TaskState) -> int:
    """How far an attempt has come."""
    if state in {TaskState.retrying, TaskState.canceling}:
        return 2
    return int(state is TaskState.running)
