"""Functions of users of the job manager, to be found by their dotted paths."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from broker_jobs.manager import ManagedJob

NO_FUNCTION = 3


def note(job: ManagedJob) -> None:
    """Leave a line in the workspace of the job each time."""
    with (job.workspace / "notes").open("a") as notes:
        notes.write(f"{job.code} {job.status}\n")


def oops(job: ManagedJob) -> None:
    raise ValueError(f"no use for {job.name}")


class Holder:
    """A class with a function."""

    @staticmethod
    def inner(job: ManagedJob) -> None:
        """Leave a line, as `note` does."""
        note(job)


def notes(job: ManagedJob) -> list[str]:
    """The lines so far."""
    file = job.workspace / "notes"
    return file.read_text().splitlines() if file.exists() else []


def keep(job: Any) -> None:
    """What an app of Tethys does with results: a property, and `save`."""
    job.extended_properties["kept"] = [*job.extended_properties.get("kept", []), job.cached_status]
    job.save()
