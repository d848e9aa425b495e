"""Faults of all kinds over a running deployment: nothing is lost, nothing doubled, nothing wrong, and all are at work again in time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.system.chaos.faults import LONG, SHORT, Role, Target
from tests.system.chaos.ground import FileGround, ServerGround
from tests.system.chaos.run import run

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.postgres import Postgres
    from tests.support.rabbitmq import RabbitMQCluster

pytestmark = pytest.mark.owns_node


@pytest.mark.alone
@pytest.mark.timeout(300)
def test_a_short_run(cluster: RabbitMQCluster, postgres: Postgres, tmp_path: Path) -> None:
    report = run(tmp_path, cluster, ServerGround(postgres), seed=2, seconds=20, tasks=500, pace=SHORT)
    print(report.text())
    assert not report.wrong, report.text()
    assert len(report.faults) >= 15


@pytest.mark.long
@pytest.mark.timeout(300)
def test_a_run_with_two_partitions(cluster: RabbitMQCluster, postgres: Postgres, tmp_path: Path) -> None:
    report = run(tmp_path, cluster, ServerGround(postgres), seed=3, seconds=60, tasks=1000, pace=SHORT, partitions=2)
    print(report.text())
    assert not report.wrong, report.text()
    assert len(report.faults) >= 45
    assert {done.fault.target for done in report.faults} >= {Target(Role.coordinator, index) for index in range(4)}
    assert min(report.verdict.partitions[partition] for partition in range(2)) >= 5


@pytest.mark.long
@pytest.mark.hours
@pytest.mark.timeout(600)
def test_a_long_run(cluster: RabbitMQCluster, tmp_path: Path) -> None:
    report = run(tmp_path, cluster, FileGround(tmp_path), seed=5, seconds=150, tasks=1000, pace=LONG)
    print(report.text())
    assert not report.wrong, report.text()
    assert report.verdict.outcomes.total() >= 1000
