"""How much of what has arrived is recorded in one transaction."""

from __future__ import annotations

from collections import deque

import pytest

from broker_jobs.broker.port import Delivery
from broker_jobs.coordinator.post import Arrived, Confirmed
from broker_jobs.coordinator.service import BATCH, BATCH_BYTES, batch_of


def arrived(size: int) -> Arrived:
    return Arrived(Delivery("q", "tasks", "key", bytes(size), ("embedded", 1)), 0.0)


@pytest.mark.parametrize(
    ("sizes", "taken"),
    [
        ([], 0),
        ([1] * (BATCH - 1), BATCH - 1),
        ([1] * (BATCH + 1), BATCH),
        ([10 * BATCH_BYTES, 1], 1),
        ([BATCH_BYTES - 1, 1, 1], 2),
        ([BATCH_BYTES // 4] * 9, 4),
    ],
)
def test_a_batch_has_so_many_messages_and_so_many_bytes_at_most(sizes: list[int], taken: int) -> None:
    inbox = deque(map(arrived, sizes))
    assert [len(item.delivery.body) for item in batch_of(inbox) if isinstance(item, Arrived)] == sizes[:taken]
    assert len(inbox) == len(sizes) - taken


def test_what_is_no_message_takes_no_bytes() -> None:
    inbox = deque([*[Confirmed((1,))] * 100, arrived(2 * BATCH_BYTES), Confirmed((2,))])
    assert len(batch_of(inbox)) == 101
