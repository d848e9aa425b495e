"""What a batch system has to be able to do for the worker: all that a new one implements.

An entry point of the group `GROUP` names a class that does; ``--executor NAME`` finds it, and calls it with the options of the worker.
Everything else is done by `BatchExecutor`: scripts, output, exit codes, limits, lost jobs, and the way back after a restart.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

GROUP: Final = "broker_jobs.executors"


@dataclass(frozen=True, slots=True)
class BatchJob:
    """A program that is to be run by the batch system, once.

    Attributes:
        name: for people, such as ``bj-3f2a91c07d54-12``; no other job has it
        script: path of what is to be run by ``/bin/sh``, without arguments; it changes to the `folder`
        folder: path of a folder of this job alone; the batch system may write into it
        files: paths in it, besides the script, that have to lie where the script starts on a host that does not have the folder; what the
            script then leaves there has to come back into the folder
        options: values by name, in order; a name without values is a flag. Those of the worker, and in place of them those of the task
    """

    name: str
    script: str
    folder: str
    files: tuple[str, ...] = ()
    options: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Waiting:
    """It will run some time; `reason` is for people."""

    reason: str = ""


@dataclass(frozen=True, slots=True)
class Running:
    """It runs, or is about to, or its end is being worked on."""


@dataclass(frozen=True, slots=True)
class Stuck:
    """It will not run by itself: it is held, or in an error. It is canceled, and its task fails for this reason."""

    reason: str


@dataclass(frozen=True, slots=True)
class Ended:
    """It is over and will not run again, however it ended; one that is not known any more counts as this, too."""

    reason: str = ""


JobState = Waiting | Running | Stuck | Ended


class JobRefused(Exception):
    """The batch system does not take a job, and will not; the text is its reason."""


class Unusable(Exception):
    """The batch system cannot be used from this host, and a worker over it does not start; the text says what is missing."""


class SchedulerSilent(Exception):
    """The batch system does not answer, or not in a way that can be understood; the text says how. It is asked again later."""


class Scheduler(Protocol):
    """A batch system; made with the options of the worker, which it may refuse (`JobRefused`); `Unusable` where that is not the trouble.

    Each method may raise `SchedulerSilent`; nothing is known then, and no job is given up for it.
    """

    async def submit(self, job: BatchJob) -> str:
        """Hand over a job; its id there. Where this fails, the folder goes, and a job that was taken all the same ends at once.

        Raises:
            JobRefused: with the reason of the batch system
        """

    async def poll(self, ids: Collection[str]) -> Mapping[str, JobState]:
        """How these jobs are, by one question for all of them; those that it does not know any more are left out."""

    async def cancel(self, ids: Collection[str]) -> None:
        """End these jobs, and let them not start; those that have ended before are no error. It is asked again until they are gone."""

    async def explain(self, id: str) -> str:  # noqa: A002 (what it is called everywhere)
        """Why a job has ended that left no exit code, as far as the batch system remembers; empty where it does not."""
