"""Calls on their way: how many travel together, and how much of a map is kept."""

from __future__ import annotations

import gc
import itertools
import time
from collections import Counter
from typing import TYPE_CHECKING, cast

import pytest

from broker_jobs.client.chunking import MOST_READY, MOST_WAITING, WINDOW, share
from broker_jobs.client.encoding import Encoded
from broker_jobs.client.executor import CallExecutor
from broker_jobs.client.jobview import Ending, JobView
from broker_jobs.client.mapping import MappedResults, Rows
from tests.support.answering import AnsweringLink, answering_caller

if TYPE_CHECKING:
    from collections.abc import Iterator

    from broker_jobs.client.calls import Caller
    from broker_jobs.client.executor import CallFuture
    from broker_jobs.client.mapping import News


@pytest.fixture
def answering() -> Iterator[tuple[Caller, AnsweringLink]]:
    caller, link = answering_caller()
    yield caller, link
    caller.runtime.close()


def take(rows: Rows, news: list[News], count: int) -> None:
    """Take so many results, in a pace of the clock that `rows` has."""
    for _ in range(count):
        while not rows.ready:
            if news:
                rows.note(news.pop(0))
        rows.take()


def living() -> Counter[type]:
    """How many there are of what a call is made of here."""
    gc.collect()
    return Counter(type(each) for each in gc.get_objects() if type(each) in {Ending, Encoded, JobView})


@pytest.mark.parametrize(("seconds", "most"), [(0.02, MOST_READY), (0.0002, 500), (0.000001, MOST_WAITING)])
def test_jobs_of_a_map_are_as_many_rows_as_are_taken_in_a_tenth_of_a_second(
    answering: tuple[Caller, AnsweringLink], seconds: float, most: int
) -> None:
    caller, link = answering
    news: list[News] = []
    taken = 0
    rows = Rows(caller, str, (range(10**9),), news.append, clock=lambda: taken * seconds)
    is_open = caller.open_classes()
    rows.send_ahead(is_open)
    while len(link.chunks) < 2 * WINDOW + 2:
        take(rows, news, 1)
        taken += 1
        rows.send_ahead(is_open)
    assert link.chunks[:WINDOW] == [MOST_READY] * WINDOW
    assert link.chunks[-1] == pytest.approx(most, abs=1)
    rows.close()


def test_no_job_of_a_map_is_more_than_a_part_of_it(answering: tuple[Caller, AnsweringLink]) -> None:
    caller, link = answering
    assert sum(1 for _ in MappedResults(caller, str, (range(20_000),), None)) == 20_000
    assert max(link.chunks) == share(20_000, MOST_WAITING) == 312


def test_an_endless_map_keeps_no_more_than_a_window(answering: tuple[Caller, AnsweringLink]) -> None:
    caller, _ = answering
    before = living()
    read: list[int] = []
    results = MappedResults(caller, abs, ((read.append(number) or number for number in itertools.count()),), None)  # type: ignore[func-returns-value]
    for taken in range(5_000, 30_001, 5_000):
        assert sum(1 for _ in itertools.islice(results, 5_000)) == 5_000
        assert len(read) <= taken + WINDOW * MOST_WAITING
    kept = living()
    kept.subtract(before)
    assert kept[JobView] <= WINDOW
    assert kept[Ending] <= len(read) - 30_000
    assert kept[Encoded] <= MOST_WAITING
    results.close()


def test_calls_of_one_millisecond_are_one_job(answering: tuple[Caller, AnsweringLink]) -> None:
    caller, _ = answering
    pool = CallExecutor(caller)
    begun = time.monotonic()
    futures = [pool.submit(abs, number) for number in range(2_000)]
    seconds = time.monotonic() - begun
    assert [future.result(30.0) for future in futures] == [[[number], {}] for number in range(2_000)]
    jobs = {cast("CallFuture", future).job for future in futures}
    assert len(jobs) <= 1000 * seconds + 2
    pool.shutdown()
