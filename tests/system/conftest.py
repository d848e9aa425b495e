"""What system tests share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.support.rabbitmq import RabbitMQ


@pytest.fixture(scope="module", params=[pytest.param("embedded", marks=pytest.mark.long), "rabbitmq"])
def url(request: pytest.FixtureRequest) -> str | None:
    """A broker of either kind for the tests of a file: the address that `LocalCluster` takes."""
    if request.param == "embedded":
        return None
    node: RabbitMQ = request.getfixturevalue("rabbitmq")
    return node.fresh_vhost()
