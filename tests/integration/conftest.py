"""What integration tests share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from broker_jobs import LocalCluster
from tests.support import served, served_data

if TYPE_CHECKING:
    from collections.abc import Iterator

    from broker_jobs import Client


@pytest.fixture(scope="session")
def cluster() -> Iterator[LocalCluster]:
    """A coordinator and a worker with four processors, for tests that disturb nobody."""
    with LocalCluster(cpus=4, steps=[served, served_data]) as found:
        yield found


@pytest.fixture
def client(cluster: LocalCluster) -> Iterator[Client]:
    """A client of the cluster."""
    with cluster.client() as found:
        yield found
