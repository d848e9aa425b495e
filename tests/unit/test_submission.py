"""Into how many chunks a job goes, by what is known of its tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pytest

from broker_jobs import Job
from broker_jobs.client.chunking import LARGEST, MOST_READY, QUICK_SHARE, SHARE, WINDOW, WORTH_MS
from broker_jobs.client.submission import Submission
from broker_jobs.core.pace import Pace
from tests.support.answering import AnsweringLink

if TYPE_CHECKING:
    from collections.abc import Callable

    from broker_jobs.client.jobview import Layout
    from broker_jobs.client.link import Frame, Link
    from broker_jobs.wire.messages import Chunk

JOB_ID = "1" * 32


class NotingLink(AnsweringLink):
    """Notes the chunks that it seals."""

    def __init__(self) -> None:
        super().__init__()
        self.sealed: list[Chunk] = []

    def seal(self, chunk: Chunk) -> Frame:
        self.sealed.append(chunk)
        return super().seal(chunk)


def sent(job: Job, pace: Pace) -> tuple[Layout, list[Chunk]]:
    """The job as a client sends it whose class queues are all there."""
    link = NotingLink()
    submission = Submission(job, JOB_ID, None, ())
    is_open = frozenset((placement.resource_class, placement.options.lane) for placement in submission.placements)
    spool, layout = submission.encode(cast("Link", link), is_open, None, pace)
    spool.close()
    return layout, link.sealed


def programs(tasks: int, name: str = "/bin/true") -> Job:
    job = Job()
    for number in range(tasks):
        job.program([name, number])
    return job


def array(tasks: int) -> Job:
    job = Job()
    job.array(["/bin/true"], ids=range(tasks))
    return job


def calls(tasks: int) -> Job:
    job = Job()
    job.map(abs, range(tasks))
    return job


@pytest.mark.parametrize("write", [programs, array, calls])
def test_what_was_quick_goes_out_many_at_a_time(write: Callable[[int], Job]) -> None:
    pace = Pace(WORTH_MS)
    tasks = SHARE * 50
    layout, before = sent(write(tasks), pace)
    assert layout.sort is not None
    assert {len(chunk.tasks) for chunk in before if chunk.direct} == {tasks // SHARE}
    pace.several_ended(layout.sort, [1] * 100)
    again, chunks = sent(write(tasks), pace)
    assert again.sort == layout.sort
    assert {len(chunk.tasks) for chunk in chunks} == {tasks // QUICK_SHARE}
    assert all(chunk.direct for chunk in chunks)


def test_of_large_chunks_few_go_to_a_class_queue() -> None:
    pace = Pace(WORTH_MS)
    layout, _ = sent(programs(1), pace)
    assert layout.sort is not None
    pace.ended(layout.sort, 1)
    _, chunks = sent(programs(10_000), pace)
    most = LARGEST * WORTH_MS
    assert [len(chunk.tasks) for chunk in chunks if chunk.direct] == [most] * (WINDOW * MOST_READY // most)
    assert sum(len(chunk.tasks) for chunk in chunks) == 10_000


def test_tasks_that_differ_are_no_sort() -> None:
    pace = Pace(WORTH_MS)
    assert sent(programs(2, "/bin/true"), pace)[0].sort != sent(programs(2, "/bin/false"), pace)[0].sort
    mixed, both, other = programs(1), programs(1), calls(1)
    mixed.program(["/bin/false"])
    both.map(abs, range(2))
    other.map(str, range(2))
    assert {sent(job, pace)[0].sort for job in (mixed, both, other)} == {None}
