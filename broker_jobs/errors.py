"""Every exception that a user of broker-jobs can meet.

::

    BrokerJobsError
    ├── ValidationError (ValueError)     a job, task or request is wrong; nothing was sent
    │   ├── CycleError                   the tasks of a job depend on each other in a circle
    │   ├── UnpicklableError             a function or an argument cannot be sent
    │   ├── ValueTooLarge                a value is over the limit
    │   ├── TooManyClasses               more distinct resource requests than a broker should carry
    │   └── UnknownVariable              a parameter names a variable that nobody has defined
    ├── AddressError (ValueError)        the URL of the broker cannot be understood
    ├── BrokerError                      the broker does not do what is asked
    │   ├── BrokerUnavailable            nothing answers there, or not in time
    │   ├── AccessRefused                user, password or permission is wrong
    │   ├── VirtualHostNotFound          the broker has no such virtual host
    │   ├── TopologyMismatch             a queue or exchange exists with other properties
    │   └── BrokerBlocked                the broker is out of memory or disk and takes nothing
    ├── SubmitUnknown                    the broker did not say whether it has the job
    ├── CoordinatorUnavailable           no coordinator answers, and the call needs one
    ├── LedgerRefused                    another coordinator holds this ledger, or it belongs to others
    │   └── LedgerLost                   another coordinator has taken it over, or its database is gone
    ├── SigningKeyMissing                no key to sign or to check messages with
    ├── LookupFailed (LookupError)
    │   ├── JobNotFound                  no such job
    │   ├── TaskNotFound                 the job has no such task
    │   ├── WorkerNotFound               no such worker
    │   ├── StepNotFound                 no worker has announced such a step, or not in such a version
    │   ├── DataNotFound                 no such data
    │   ├── AmbiguousStep                the step has several versions, and none was named
    │   ├── TemplateNotFound (KeyError)  the job manager has no template of this name
    │   └── AmbiguousId                  a short id that fits several jobs, or a short name several workers
    ├── JobActive                        the job still runs, so it cannot be forgotten
    ├── InUse                            something depends on the job or the data, so it cannot be deleted
    ├── WrongStatus                      a job of the manager, or a call of a step, cannot do that in its present state
    ├── ManagerStoreError                the database of the job manager cannot be used
    ├── WorkspaceError                   a workspace cannot be made or removed
    ├── ClientClosed                     the client was closed
    ├── Vetoed                           a plugin would not have the job submitted; nothing was sent
    ├── ValueStoreError                  a large value cannot be written, or not be read
    ├── TaskUnsuccessful                 a task did not succeed, so it has no value
    │   ├── TaskFailed                   it failed; the remote traceback is in the text
    │   ├── TaskCanceled                 somebody asked for its end
    │   └── TaskAborted                  a task that it depends on did not succeed
    ├── FailedJobsError                  some of the awaited jobs did not succeed
    ├── NotInTask                        `current` was asked for its task outside of one
    ├── TimeLimitReached                 raised inside a task whose time limit has passed
    ├── MessageError                     bytes from outside that are refused
    │   ├── DecodeError                  not a message of ours
    │   │   └── UnknownVersion           a message of a version that is not understood
    │   └── SecurityError                not signed, wrongly signed, or out of place
    └── IllegalTransition                a bug in broker-jobs: please report it

The docstring of each class is its default message.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "AccessRefused",
    "AddressError",
    "AmbiguousId",
    "AmbiguousStep",
    "BrokerBlocked",
    "BrokerError",
    "BrokerJobsError",
    "BrokerUnavailable",
    "ClientClosed",
    "CoordinatorUnavailable",
    "CycleError",
    "DataNotFound",
    "DecodeError",
    "FailedJobsError",
    "IllegalTransition",
    "InUse",
    "JobActive",
    "JobNotFound",
    "LedgerLost",
    "LedgerRefused",
    "LookupFailed",
    "ManagerStoreError",
    "MessageError",
    "NotInTask",
    "SecurityError",
    "SigningKeyMissing",
    "StepNotFound",
    "SubmitUnknown",
    "TaskAborted",
    "TaskCanceled",
    "TaskFailed",
    "TaskNotFound",
    "TaskUnsuccessful",
    "TemplateNotFound",
    "TimeLimitReached",
    "TooManyClasses",
    "TopologyMismatch",
    "UnknownVariable",
    "UnknownVersion",
    "UnpicklableError",
    "ValidationError",
    "ValueStoreError",
    "ValueTooLarge",
    "Vetoed",
    "VirtualHostNotFound",
    "WorkerNotFound",
    "WorkspaceError",
    "WrongStatus",
]


class BrokerJobsError(Exception):
    """Something went wrong in broker-jobs."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or (type(self).__doc__ or "").strip().splitlines()[0])


class ValidationError(BrokerJobsError, ValueError):
    """A job, task or request is wrong; nothing was sent."""


class CycleError(ValidationError):
    """The tasks of the job depend on each other in a circle."""

    def __init__(self, message: str | None = None, *, path: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.path = tuple(path)


class UnpicklableError(ValidationError):
    """A function or an argument cannot be sent to another process."""


class ValueTooLarge(ValidationError):
    """A value is too large to travel in a message; configure a value store that all hosts can reach."""


class TooManyClasses(ValidationError):
    """More distinct resource requests than one broker should carry; round the requests to fewer values."""


class UnknownVariable(ValidationError):
    """A parameter names a variable that nobody has defined."""


class AddressError(BrokerJobsError, ValueError):
    """The address of the broker cannot be understood; use amqp://user:password@host:5672/vhost or sqlite:////path/queue.db."""


class BrokerError(BrokerJobsError):
    """The broker does not do what is asked."""


class BrokerUnavailable(BrokerError):
    """No broker answers at this address."""


class AccessRefused(BrokerError):
    """The broker refuses this user: check user, password and permissions."""


class VirtualHostNotFound(BrokerError):
    """The broker has no such virtual host."""


class TopologyMismatch(BrokerError):
    """A queue or exchange of this name exists with other properties.

    Attributes:
        argument: the property, as the broker names it
        wanted: its value as it should be; ``none`` where there should be none
        found: its value as it is
    """

    def __init__(self, message: str | None = None, *, argument: str = "", wanted: str = "", found: str = "") -> None:
        super().__init__(message)
        self.argument = argument
        self.wanted = wanted
        self.found = found

    @classmethod
    def of(cls, where: str, argument: str, wanted: str, found: str) -> Self:
        """With a text that says how the queue (or exchange) `where` gets the property."""
        kind, _, name = where.partition(" ")
        if kind == "queue":
            remedy = f"stop what consumes it, and migrate it: broker-jobs queue migrate {name}"
        else:
            remedy = "delete it, since nothing waits in an exchange; it is made again"
        return cls(f"{where} has {argument} {found}, and should have {wanted}; {remedy}", argument=argument, wanted=wanted, found=found)


class BrokerBlocked(BrokerError):
    """The broker is short of memory or disk and takes no messages."""


class SubmitUnknown(BrokerJobsError):
    """The broker did not confirm the job in time: it may or may not run. Submit it again with the same idempotency key."""

    def __init__(self, message: str | None = None, *, job_id: str = "") -> None:
        super().__init__(message)
        self.job_id = job_id


class CoordinatorUnavailable(BrokerJobsError):
    """No coordinator answers. Start one with: broker-jobs coordinator start"""


class LedgerRefused(BrokerJobsError):
    """This ledger is in use by another coordinator, or does not belong to this namespace."""


class LedgerLost(LedgerRefused):
    """Another coordinator has taken this ledger over, or its database does not answer any more."""


class SigningKeyMissing(BrokerJobsError):
    """No signing key: pass signing_key=, set BROKER_JOBS_SIGNING_KEY, or name signing_key_file in broker-jobs.toml. Make one with: broker-jobs key new"""


class LookupFailed(BrokerJobsError, LookupError):
    """There is no such thing."""


class JobNotFound(LookupFailed):
    """There is no such job."""


class TaskNotFound(LookupFailed):
    """The job has no such task."""


class WorkerNotFound(LookupFailed):
    """No such worker."""


class StepNotFound(LookupFailed):
    """No worker has announced such a step."""


class DataNotFound(LookupFailed):
    """No such data."""


class AmbiguousStep(LookupFailed):
    """The step has several versions, and none was named."""


class TemplateNotFound(LookupFailed, KeyError):
    """The job manager has no template of this name."""

    # A KeyError would show the text as Python writes it, with quotes.
    __str__ = Exception.__str__


class AmbiguousId(LookupFailed):
    """This short id fits several jobs."""

    def __init__(self, message: str | None = None, *, candidates: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.candidates = tuple(candidates)


class JobActive(BrokerJobsError):
    """The job still runs: cancel it, or wait for its end, before forgetting it."""


class InUse(BrokerJobsError):
    """Something depends on the job or the data.

    Attributes:
        objects: ids of what depends on it
    """

    def __init__(self, message: str | None = None, *, objects: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.objects = tuple(objects)


class WrongStatus(BrokerJobsError):
    """A job of the manager, or a call of a step, cannot do that in its present state."""


class ManagerStoreError(BrokerJobsError):
    """The database of the job manager cannot be used."""


class WorkspaceError(BrokerJobsError):
    """A workspace cannot be made or removed."""


class ClientClosed(BrokerJobsError):
    """This client was closed."""


class Vetoed(BrokerJobsError):
    """A plugin would not have this job submitted; nothing was sent.

    Attributes:
        plugin: its name
        tasks: numbers of the tasks that it would not have
    """

    def __init__(self, message: str | None = None, *, plugin: str = "", tasks: Sequence[int] = ()) -> None:
        super().__init__(message)
        self.plugin = plugin
        self.tasks = tuple(tasks)


class ValueStoreError(BrokerJobsError):
    """The value store cannot be written or read."""


class TaskUnsuccessful(BrokerJobsError):
    """The task did not succeed, so it has no value."""


class TaskFailed(TaskUnsuccessful):
    """The task failed.

    Attributes:
        cause: why, one of the values of `broker_jobs.core.outcome.Cause`
        remote_traceback: the traceback in the worker, or an empty text
        exit_status: as a shell has it: the exit code, or 128 and the number of the signal that ended the program; None where neither did
    """

    def __init__(
        self, message: str | None = None, *, cause: str = "error", remote_traceback: str = "", exit_status: int | None = None
    ) -> None:
        super().__init__(message)
        self.cause = cause
        self.exit_status = exit_status
        self.remote_traceback = remote_traceback

    def __str__(self) -> str:
        text = super().__str__()
        return f"{text}\n\n{self.remote_traceback.rstrip()}" if self.remote_traceback else text


class TaskCanceled(TaskUnsuccessful):
    """The task was canceled."""


class TaskAborted(TaskUnsuccessful):
    """The task was aborted, because one that it depends on did not succeed or its job was stopped."""


class FailedJobsError(BrokerJobsError):
    """Some of the jobs did not succeed.

    Attributes:
        jobs: the jobs that did not succeed
    """

    def __init__(self, message: str | None = None, *, jobs: Sequence[object] = ()) -> None:
        super().__init__(message)
        self.jobs = tuple(jobs)


class TimeLimitReached(BrokerJobsError):
    """The time limit of this task has passed; clean up and return, the process is killed soon."""


class NotInTask(BrokerJobsError):
    """This code does not run inside a task, so `current` has no job, task or attempt."""


class MessageError(BrokerJobsError):
    """Bytes from outside were refused."""


class DecodeError(MessageError):
    """These bytes are not a message of broker-jobs."""


class UnknownVersion(DecodeError):
    """This message was written by a version of broker-jobs that is not understood here."""


class SecurityError(MessageError):
    """The message is not signed, is signed with another key, or lies where it does not belong."""


class IllegalTransition(BrokerJobsError):
    """A bug in broker-jobs: an event that cannot happen in this state. Please report it with the log."""
