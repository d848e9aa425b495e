"""Data as the ledger knows it: what it is, what made it, who uses it; and what is asked and wished of it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar

from broker_jobs.core.choice import Choice
from broker_jobs.core.data import DataRef, check_tags
from broker_jobs.wire.messages.tasks import Work


@dataclass(frozen=True, slots=True)
class DataInfo:
    """Data at a glance.

    Attributes:
        user: who has added it, or submitted what has made it
        created_ms: milliseconds since 1970
        job: that has made it; None where a user has added it
        task: of this job
        slot: of the step, or the path that a program has written
        step: name and version of what has made it; empty for a program
        used: how many jobs take it
    """

    tag: ClassVar[str] = "data info"
    data: DataRef
    tags: tuple[str, ...] = ()
    user: str = ""
    created_ms: int = 0
    job: str | None = None
    task: int = 0
    slot: str = ""
    step: str = ""
    used: int = 0

    def __post_init__(self) -> None:
        check_tags(self.tags)


@dataclass(frozen=True, slots=True)
class AddData:
    """A user has put data into the store. The same again changes nothing. Answer: `DataInfo`."""

    tag: ClassVar[str] = "add data"
    data: DataInfo


@dataclass(frozen=True, slots=True)
class FindData:
    """Which data is meant by a whole id, or the unique ending of one. Answer: `DataInfo`."""

    tag: ClassVar[str] = "find data"
    text: str


@dataclass(frozen=True, slots=True)
class ListData:
    """Data, the newest first. `name` and `step` are shell patterns; all of `tags` must be there. Answer: `DataList`.

    Attributes:
        made_by: only what this job has made
        used_by: only what this job takes
        used: only what some job takes, or what none does
        skip: so many are left out, for the next part of a long list
        choice: more about tags, and when it was made
    """

    tag: ClassVar[str] = "list data"
    name: str | None = None
    tags: tuple[str, ...] = ()
    made_by: str | None = None
    used_by: str | None = None
    used: bool | None = None
    step: str | None = None
    limit: int = 100
    skip: int = 0
    choice: Choice = Choice()


@dataclass(frozen=True, slots=True)
class DataList:
    """Data that fits.

    Attributes:
        more: there is further
    """

    tag: ClassVar[str] = "data list"
    data: tuple[DataInfo, ...] = ()
    more: bool = False


@dataclass(frozen=True, slots=True)
class TagData:
    """Other tags for data. Answer: `DataInfo`."""

    tag: ClassVar[str] = "tag data"
    data: str
    tags: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_tags(self.tags)


@dataclass(frozen=True, slots=True)
class DeleteData:
    """No job takes it: drop it, with its bytes. Answer: `DataDeleted`, or `Refused` with all that keeps it."""

    tag: ClassVar[str] = "delete data"
    data: str


@dataclass(frozen=True, slots=True)
class DataDeleted:
    """It is gone."""

    tag: ClassVar[str] = "data deleted"
    data: str


@dataclass(frozen=True, slots=True)
class ListUses:
    """Which jobs take this data. Answer: `UseList`."""

    tag: ClassVar[str] = "list uses"
    data: str


@dataclass(frozen=True, slots=True)
class Use:
    """A task that takes data, in a slot or as a file."""

    tag: ClassVar[str] = "use"
    job: str
    task: int
    slot: str


@dataclass(frozen=True, slots=True)
class UseList:
    """Tasks that take data, the first thousand of them."""

    tag: ClassVar[str] = "use list"
    uses: tuple[Use, ...] = ()


@dataclass(frozen=True, slots=True)
class GetWork:
    """What a task does. Answer: `WorkInfo`."""

    tag: ClassVar[str] = "get work"
    job: str
    task: int


@dataclass(frozen=True, slots=True)
class WorkInfo:
    """What a task does; of a function without its code."""

    tag: ClassVar[str] = "work info"
    job: str
    task: int
    work: Work


class LogKind(StrEnum):
    """What an entry of the log tells."""

    job_submitted = "job submitted"
    job_ended = "job ended"
    job_deleted = "job deleted"
    data_added = "data added"
    data_made = "data made"
    data_deleted = "data deleted"


@dataclass(frozen=True, slots=True)
class LogEntry:
    """Something that has happened; it stays when what it tells of is gone.

    Attributes:
        number: grows
        subject: id of the job or of the data
        name: of the same
        text: more, for people
        job: that the data belongs to
    """

    tag: ClassVar[str] = "log entry"
    number: int
    at_ms: int
    kind: LogKind
    subject: str
    name: str = ""
    text: str = ""
    job: str | None = None


@dataclass(frozen=True, slots=True)
class ListLog:
    """The log, the newest entry first. Answer: `Log`.

    Attributes:
        subject: only of this job or data (a whole id), and of the data of this job
        before: only entries with smaller numbers
    """

    tag: ClassVar[str] = "list log"
    subject: str | None = None
    before: int | None = None
    limit: int = 100


@dataclass(frozen=True, slots=True)
class Log:
    """Entries of the log."""

    tag: ClassVar[str] = "log"
    entries: tuple[LogEntry, ...] = ()
    more: bool = False
