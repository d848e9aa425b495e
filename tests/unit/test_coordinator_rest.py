"""When a coordinator looks at what has come: see `COMPANY`."""

from __future__ import annotations

import asyncio

import pytest

from broker_jobs.broker.port import Delivery, Tag
from broker_jobs.coordinator.config import CoordinatorConfig
from broker_jobs.coordinator.post import Arrived
from broker_jobs.coordinator.service import COMPANY, Coordinator
from broker_jobs.core.spec import Lane
from broker_jobs.wire.signing import SigningKey
from broker_jobs.wire.topology import Topology

NAMES = Topology("bj")
CONFIG = CoordinatorConfig("amqp://nowhere", SigningKey.parse("ab" * 32), "sqlite:///nowhere", "bj")
ON_ITS_WAY = (NAMES.tasks, NAMES.task_key("cpus1", Lane.normal, 0))
FOR_THE_LEDGER = (NAMES.tasks, NAMES.ledger_key(0))


@pytest.mark.parametrize(
    ("calm", "came", "rested"),
    [
        (True, [ON_ITS_WAY, ON_ITS_WAY], [COMPANY]),
        (False, [ON_ITS_WAY, ON_ITS_WAY], []),
        (True, [FOR_THE_LEDGER], []),
    ],
)
def test_the_broker_may_rest_where_no_job_waits_for_the_ledger(calm: bool, came: list[tuple[str, str]], rested: list[float]) -> None:
    async def story() -> list[float]:
        rests: list[float] = []
        coordinator = Coordinator(CONFIG)
        coordinator._calm, coordinator._rest = calm, rests.append  # noqa: SLF001 (what `serve` would set)
        for number, (exchange, key) in enumerate(came):
            coordinator._put(Arrived(Delivery("ledger", exchange, key, b"", Tag(1, number)), 0.0))  # noqa: SLF001
        return rests

    assert asyncio.run(story()) == rested
