"""What waits for a transaction, and what of it goes into one."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from broker_jobs.broker.embedded.store import Held
from broker_jobs.broker.embedded.work import Pending, Work, parts
from broker_jobs.broker.port import Outgoing
from broker_jobs.errors import BrokerUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from broker_jobs.broker.embedded.store import Store

MIB = 1024 * 1024


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """Makes futures; it never runs."""
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


def nothing(_: Store) -> str:
    return "done"


def test_a_work_that_is_alone_gets_a_transaction_of_its_own(loop: asyncio.AbstractEventLoop) -> None:
    pending = Pending()
    works = [Work(nothing, loop.create_future(), "lost", alone=alone) for alone in (False, False, True, False)]
    pending.work.extend(works)
    pending.settled.append(Held(1, 1))
    first = pending.take()
    assert (first.work, first.settled) == (works[:2], [Held(1, 1)])
    assert pending.take().work == works[2:3]
    assert pending.take().work == works[3:]
    assert not pending


def test_a_transaction_is_bounded(loop: asyncio.AbstractEventLoop) -> None:
    pending = Pending()
    pending.work.extend(Work(nothing, loop.create_future(), "lost", size=MIB) for _ in range(5))
    assert [len(pending.take().work) for _ in range(3)] == [2, 2, 1]


def test_what_was_put_back_comes_first(loop: asyncio.AbstractEventLoop) -> None:
    pending = Pending()
    works = [Work(nothing, loop.create_future(), "lost") for _ in range(3)]
    pending.work.extend(works[:2])
    pending.released.append(Held(1, 1))
    batch = pending.take()
    pending.work.append(works[2])
    pending.released.append(Held(2, 1))
    pending.put_back(batch)
    again = pending.take()
    assert (again.work, again.released) == (works, [Held(1, 1), Held(2, 1)])


def test_patient_work_outlives_the_connection_but_not_the_broker(loop: asyncio.AbstractEventLoop) -> None:
    pending = Pending()
    patient = Work(nothing, loop.create_future(), "lost", patient=True)
    hasty = Work(nothing, loop.create_future(), BrokerUnavailable("gone"))
    pending.work.extend([patient, hasty])
    pending.settled.append(Held(1, 1))
    pending.lose(closed=False)
    assert not patient.done.done()
    assert isinstance(hasty.done.exception(), BrokerUnavailable)
    assert pending.settled == []
    pending.lose(closed=True)
    assert patient.done.result() == "lost"


def test_nobody_waits_for_a_canceled_work(loop: asyncio.AbstractEventLoop) -> None:
    for end in (Work.lose, lambda work: work.succeed("done"), lambda work: work.fail(BrokerUnavailable())):
        work = Work(nothing, loop.create_future(), "lost")
        work.done.cancel()
        end(work)
        assert work.done.cancelled()


def test_publishes_are_cut_into_parts() -> None:
    small, large = Outgoing("x", "a", b"."), Outgoing("x", "a", bytes(MIB))
    assert [(len(part), size) for part, size in parts([small] * 501)] == [(250, 250), (250, 250), (1, 1)]
    assert [(len(part), size) for part, size in parts([large] * 5)] == [(2, 2 * MIB), (2, 2 * MIB), (1, MIB)]
    assert list(parts([])) == []
