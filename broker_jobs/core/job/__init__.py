"""The job machine: what happens to the tasks of one job, as a function of what is heard of them.

`JobMachine.handle` takes an event and returns commands as data. It reads no clock and draws no random number:
noise comes with the event. The coordinator performs the commands in the transaction that records the event.

Rules that everything here follows:

- An attempt number is made here and nowhere else, so news of an older attempt is recognised: it is answered by
  `Duplicate` or by nothing, and changes nothing. So is news that comes twice.
- A task that ended never changes, nor does a job.
- The first redelivery of a chunk charges nobody: its unfinished tasks go out again, *isolated*: alone in a message,
  with ``started`` confirmed before the start. From then on a lost attempt is a crash of that one task.
- Once all of a job was canceled, or it was given up, nothing of it goes out any more: what is still to come ends as it
  comes, and what a cancel left running has no further attempt.
- What is paused does not go out. Of a paused task whose message is out already, news counts as long as none has come (its execution
  is empty): it may have begun before it was called back. When it is resumed, it goes out as the next attempt. A task that must never
  start twice is not called back, for that reason.
- What is asked of a whole job moves its tasks together (`Swept`), however many they are.
- What nearly all tasks do, to come alike and to succeed, many of them do at once (`DirectAdded`, `WaitingAdded`, `AttemptsSucceeded`):
  what is said of the whole job is then derived once. They mean what the events of single tasks mean, as `Together` and `QueueAll` mean
  what the commands of single tasks do.
- Tasks, replies and the seal may come in any order. A reply for a task that is not known yet is the caller's to keep
  (`JobMachine.knows` tells).
"""

from __future__ import annotations

from broker_jobs.core.job.commands import (
    Changed,
    Delay,
    Duplicate,
    Finished,
    JobCommand,
    Queue,
    QueueAll,
    Recorded,
    Revoke,
    Swept,
    Together,
    Withdraw,
)
from broker_jobs.core.job.events import (
    AttemptEnded,
    AttemptReturned,
    AttemptsSucceeded,
    AttemptStarted,
    CancelRequested,
    DirectAdded,
    JobEvent,
    JobSealed,
    JobVoided,
    NewTask,
    OutsideEnded,
    PauseRequested,
    ResumeRequested,
    RetryDue,
    Return,
    TasksAdded,
    WaitingAdded,
)
from broker_jobs.core.job.machine import JobMachine
from broker_jobs.core.job.record import TaskRecord
from broker_jobs.core.job.reservations import Reservations

__all__ = [
    "AttemptEnded",
    "AttemptReturned",
    "AttemptStarted",
    "AttemptsSucceeded",
    "CancelRequested",
    "Changed",
    "Delay",
    "DirectAdded",
    "Duplicate",
    "Finished",
    "JobCommand",
    "JobEvent",
    "JobMachine",
    "JobSealed",
    "JobVoided",
    "NewTask",
    "OutsideEnded",
    "PauseRequested",
    "Queue",
    "QueueAll",
    "Recorded",
    "Reservations",
    "ResumeRequested",
    "RetryDue",
    "Return",
    "Revoke",
    "Swept",
    "TaskRecord",
    "TasksAdded",
    "Together",
    "WaitingAdded",
    "Withdraw",
]
