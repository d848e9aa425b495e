"""A managed job as its row has it, and every change of one: a record goes in, the next one comes out. Pure.

Each function answers with the record as it was where there is nothing to change: news that is old, or comes twice, is ordinary.
The store writes a change only onto the very version that it was made from, so what holds here holds between processes, too.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from broker_jobs.errors import WrongStatus
from broker_jobs.manager.statuses import (
    ABORTED,
    COMPLETE,
    ERROR,
    PENDING,
    RESULTS_READY,
    SUBMITTED,
    VARIOUS_COMPLETE,
    Category,
    Code,
    Status,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from broker_jobs.manager.statuses import Statuses

MOST_MESSAGE: Final = 2000
"""Characters of a message; of a longer one the beginning is kept."""


@dataclass(frozen=True, slots=True)
class JobRecord:
    """The row of a job. Times are milliseconds since 1970.

    Attributes:
        app: the application whose manager made it
        template: from which it was made
        groups: that may see it
        parameters: of its work, as its type understands them
        ended: whether `status` is terminal, as whoever set it understood it
        callbacks: dotted path of a function, by code or text of a status
        process_results: dotted path of a function; empty where there is none
        work: id of the client's job; empty where there is none (yet)
        run: how often it was executed
        processings: how often `process_results` has begun for this run
        nodes: what became of its tasks, once it has ended
        version: grows with every change
    """

    id: str
    app: str
    name: str
    user: str
    template: str
    type: str
    workspace: str
    created_ms: int
    description: str = ""
    groups: tuple[str, ...] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)
    extended_properties: Mapping[str, Any] = field(default_factory=dict)
    callbacks: Mapping[str, str] = field(default_factory=dict)
    process_results: str = ""
    status: Status = PENDING
    ended: bool = False
    message: str = ""
    work: str = ""
    run: int = 0
    processings: int = 0
    nodes: tuple[Mapping[str, Any], ...] = ()
    executed_ms: int | None = None
    started_ms: int | None = None
    completed_ms: int | None = None
    version: int = 1

    def __str__(self) -> str:
        return f"job {self.name!r} of {self.user}"


@dataclass(frozen=True, slots=True)
class News:
    """What is heard of a job.

    Attributes:
        run: which run of the job it is about
        message: None where there is nothing to say
        started_ms: when its work began; None: now, if it has
        ended_ms: when its work ended; None: now, if it has
    """

    status: Status
    run: int
    message: str | None = None
    started_ms: int | None = None
    ended_ms: int | None = None
    nodes: tuple[Mapping[str, Any], ...] = ()


def executed(record: JobRecord, now_ms: int) -> JobRecord:
    """It is sent now: whoever writes this is the one who sends it.

    Raises:
        WrongStatus: it was executed before
    """
    if record.status != PENDING:
        raise WrongStatus(f"{record} is {record.status}: only a pending job can be executed; use resubmit() for one that has ended")
    return replace(record, status=SUBMITTED, executed_ms=now_ms, run=record.run + 1, message="")


def again(record: JobRecord, now_ms: int) -> JobRecord:
    """It is sent once more: nothing is left of the last run, whose news are old from here on.

    Raises:
        WrongStatus: it has not ended
    """
    if not record.ended:
        raise WrongStatus(f"{record} is {record.status}: only a job that has ended can be resubmitted")
    return replace(
        record,
        status=SUBMITTED,
        ended=False,
        message="",
        work="",
        run=record.run + 1,
        processings=0,
        nodes=(),
        executed_ms=now_ms,
        started_ms=None,
        completed_ms=None,
    )


def sent(record: JobRecord, run: int, work: str) -> JobRecord:
    """The client has the work of this run."""
    return replace(record, work=work) if record.run == run and record.work != work else record


def heard(record: JobRecord, news: News, statuses: Statuses, now_ms: int) -> JobRecord:
    """The status after news: an end stays, and news of an earlier run changes nothing."""
    if record.ended or news.run != record.run:
        return record
    status, ended = news.status, statuses.terminal(news.status)
    if status == COMPLETE and record.process_results and not record.processings:
        status = RESULTS_READY
    moving = Category.running in statuses.categories(status)
    begun = news.started_ms if news.started_ms is not None else now_ms if moving else None
    return replace(
        record,
        status=status,
        ended=ended,
        message=record.message if news.message is None else clipped(news.message),
        nodes=news.nodes,
        started_ms=record.started_ms if record.started_ms is not None else begun,
        completed_ms=(now_ms if news.ended_ms is None else news.ended_ms) if ended else None,
    )


def heard_of_work(record: JobRecord, news: News, statuses: Statuses, now_ms: int) -> JobRecord:
    """The same for news of the client: a custom status says more than that the work goes on, and is kept until it has ended."""
    if record.status.code is Code.OTH and not statuses.terminal(news.status):
        return record
    return heard(record, replace(news, message=joined(news.message or "", record.message)), statuses, now_ms)


def set_by_hand(record: JobRecord, status: Status, message: str | None, statuses: Statuses, now_ms: int, *, has_work: bool) -> JobRecord:
    """The status that its user gives it.

    Args:
        has_work: it has a status of its own, which only a custom one can go before, as long as the work lasts

    Raises:
        WrongStatus: that is impossible
    """
    if has_work and (status.code is not Code.OTH or statuses.terminal(status)):
        raise WrongStatus(f"{record} is of type {record.type!r}: its status is that of its work, or a custom one that is not terminal")
    return heard(record, News(status, record.run, message), statuses, now_ms)


def failed(record: JobRecord, run: int, message: str, now_ms: int, work: str = "") -> JobRecord:
    """It could not be sent."""
    if record.run != run or record.ended:
        return record
    return replace(record, status=ERROR, ended=True, message=clipped(message), completed_ms=now_ms, work=work)


def stopped(record: JobRecord, message: str, now_ms: int) -> JobRecord:
    """It ends without any work."""
    if record.ended:
        return record
    return replace(record, status=ABORTED, ended=True, message=clipped(message) or record.message, completed_ms=now_ms)


def processing(record: JobRecord, run: int, *, once_more: bool) -> JobRecord:
    """Its results are processed now: whoever writes this is the one who does it.

    Args:
        once_more: also where somebody has begun before, and may not have come to an end
    """
    ready = record.status in {RESULTS_READY, COMPLETE, VARIOUS_COMPLETE} or (record.status == ERROR and record.processings)
    if record.run != run or not ready or (record.processings and not once_more):
        return record
    status = record.status if record.status == VARIOUS_COMPLETE else RESULTS_READY
    message = "" if record.status == ERROR else record.message
    return replace(record, processings=record.processings + 1, status=status, message=message)


def processed(claimed: JobRecord, record: JobRecord, problem: str | None) -> JobRecord:
    """Its results were processed.

    Args:
        claimed: the record when that began
        problem: what the user's function raised
    """
    if (record.run, record.processings) != (claimed.run, claimed.processings):
        return record
    if problem is not None:
        return replace(record, status=ERROR, message=joined(problem, record.message))
    return replace(record, status=COMPLETE) if record.status == RESULTS_READY else record


def remarked(record: JobRecord, remark: str) -> JobRecord:
    """One thing more in its message."""
    return replace(record, message=joined(record.message, remark))


def run_time_ms(record: JobRecord, now_ms: int) -> int | None:
    """From its start (else from when it was executed) to its end, or to now; None where it was not executed."""
    begin = record.started_ms if record.started_ms is not None else record.executed_ms
    if begin is None:
        return None
    end = record.completed_ms if record.completed_ms is not None else now_ms
    return max(0, end - begin)


def joined(first: str, second: str) -> str:
    """Both texts of a message, where neither says what the other does."""
    if first in second or second in first:
        return clipped(max(first, second, key=len))
    return clipped(f"{first}; {second}")


def clipped(text: str) -> str:
    """A message as databases take it: no NUL, nothing that is no Unicode, and not too long."""
    clean = text.replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()
    return clean if len(clean) <= MOST_MESSAGE else clean[: MOST_MESSAGE - 1] + "…"
