"""The adapters on which every sentence of the broker port is tried."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.outage import CutCable, MovedFolder, Outage


@pytest.fixture(params=["embedded", "amqp-quorum", "amqp-classic"])
def broker_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Address of a broker of its own for this test."""
    if request.param == "embedded":
        (tmp_path / "store").mkdir()
        return f"sqlite:///{tmp_path}/store/queue.db"
    url: str = request.getfixturevalue("rabbitmq").fresh_vhost()
    return url if request.param == "amqp-quorum" else f"{url}?queues=classic"


@pytest.fixture
def outage(broker_url: str) -> Outage:
    """The same broker, which can be taken away."""
    path = broker_url.removeprefix("sqlite:///")
    return CutCable(broker_url) if path == broker_url else MovedFolder(Path(path).parent, broker_url)
