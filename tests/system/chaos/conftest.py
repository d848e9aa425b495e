"""The broker of the chaos suite."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.rabbitmq import RabbitMQCluster

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def cluster() -> Iterator[RabbitMQCluster]:
    """Three nodes that are one broker; whoever takes one away brings it back."""
    found = RabbitMQCluster()
    try:
        found.start()
        yield found
    finally:
        found.remove()
