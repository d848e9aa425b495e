"""Calls on their way: how many travel together, and how much of a map is kept."""

from __future__ import annotations

import gc
import itertools
import time
from collections import Counter
from typing import TYPE_CHECKING, cast

import pytest

from broker_jobs.client.chunking import MOST_READY, MOST_WAITING, MOST_WORTH, WINDOW, share
from broker_jobs.client.encoding import Encoded
from broker_jobs.client.executor import CallExecutor
from broker_jobs.client.jobview import Ending, JobView
from broker_jobs.client.mapping import MappedResults, Rows
from broker_jobs.errors import BrokerUnavailable
from tests.support.answering import AnsweringLink, answering_caller

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from broker_jobs.client.calls import Caller
    from broker_jobs.client.executor import CallFuture
    from broker_jobs.client.mapping import News
    from broker_jobs.wire.messages import ForgetJobs


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
    assert {MOST_READY} <= {*link.chunks[:WINDOW]} <= {MOST_READY, MOST_WORTH}
    assert link.chunks[WINDOW] == MOST_WORTH, "they are known to be quick, and not yet how quickly they are taken"
    assert link.chunks[-1] == pytest.approx(most, abs=1)
    rows.close()


def test_no_job_of_a_map_is_more_than_a_part_of_it(answering: tuple[Caller, AnsweringLink]) -> None:
    caller, link = answering
    assert sum(1 for _ in MappedResults(caller, str, (range(14_000),), None)) == 14_000
    assert max(link.chunks) == share(14_000, MOST_WAITING, MOST_WORTH) == 875


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


@pytest.fixture
def storing(tmp_path: Path) -> Iterator[tuple[Caller, AnsweringLink]]:
    caller, link = answering_caller(str(tmp_path))
    yield caller, link
    caller.runtime.close()


LARGE = 70_000
"""Bytes of a value that goes to the store."""


def test_a_map_of_large_values_takes_before_it_sends_more(storing: tuple[Caller, AnsweringLink], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("broker_jobs.client.mapping._HEAVY", 3 * LARGE - 1)
    caller, _ = storing
    news: list[News] = []
    read: list[int] = []
    rows = Rows(caller, len, ((read.append(number) or bytes([number]) * LARGE for number in range(100)),), news.append)  # type: ignore[func-returns-value]
    is_open = caller.open_classes()
    rows.send_ahead(is_open)
    assert len(read) == 3
    rows.send_ahead(is_open)
    assert len(read) == 4
    until(lambda: len(news) == 4)
    assert rows.wanting, "nothing was heard of"
    rows.note(news.pop(0))
    rows.note(news.pop(0))
    assert rows.wanting, "workers have as many before them"
    while news:
        rows.note(news.pop(0))
    assert not rows.wanting
    for number in range(4):
        assert rows.take() == [[bytes([number]) * LARGE], {}]
    assert rows.wanting
    rows.send_ahead(is_open)
    assert len(read) == 7, "what was taken does not count any more"
    rows.close()


def test_large_values_that_were_read_are_dropped_soon(storing: tuple[Caller, AnsweringLink], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("broker_jobs.client.core._FORGET_AFTER", 3600.0)
    monkeypatch.setattr("broker_jobs.client.core._FORGET_AT_BYTES", 5 * LARGE)
    caller, link = storing
    results = MappedResults(caller, len, ([bytes(LARGE)] * 9,), None)
    assert len(list(itertools.islice(results, 8))) == 8
    until(lambda: len(link.told) == 2)  # each has arguments and a result
    assert [len(cast("ForgetJobs", each).jobs) for each in link.told] == [3, 3]
    results.close()


def test_why_nothing_more_comes_is_said_after_what_came(storing: tuple[Caller, AnsweringLink], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("broker_jobs.client.mapping._HEAVY", 0)
    caller, _ = storing
    results = MappedResults(caller, len, ([bytes(LARGE)] * 3,), None)
    news = results._news  # noqa: SLF001
    until(lambda: news.qsize() == 1)
    news.put(BrokerUnavailable("gone"))
    assert next(results) == [[bytes(LARGE)], {}]
    assert any(isinstance(news.get_nowait(), BrokerUnavailable) for _ in range(news.qsize())), "it waits for who waits"
    results.close()


def until(happened: Callable[[], bool]) -> None:
    """Wait for it."""
    deadline = time.monotonic() + 30
    while not happened():
        assert time.monotonic() < deadline


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
