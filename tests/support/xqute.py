"""A place where programs written for xqute run: this user's own node, or a broker on a network with a coordinator and a worker."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from broker_jobs import LocalCluster

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.rabbitmq import RabbitMQ


@contextlib.contextmanager
def place(kind: str, request: pytest.FixtureRequest, folder: Path) -> Iterator[None]:
    """What the environment says of the broker: nothing but a state folder, or all of it."""
    with pytest.MonkeyPatch.context() as patch, contextlib.ExitStack() as at_end:
        for name in [name for name in os.environ if name.startswith("BROKER_JOBS_") and not name.startswith("BROKER_JOBS_TEST")]:
            patch.delenv(name)
        patch.setenv("BROKER_JOBS_HOME", str(folder / "home"))
        if kind == "rabbitmq":
            rabbitmq: RabbitMQ = request.getfixturevalue("rabbitmq")
            cluster = at_end.enter_context(LocalCluster(url=rabbitmq.fresh_vhost()))
            patch.setenv("BROKER_JOBS_URL", cluster.url)
            patch.setenv("BROKER_JOBS_NAMESPACE", cluster.namespace)
            patch.setenv("BROKER_JOBS_SIGNING_KEY", cluster.key)
        else:
            at_end.callback(subprocess.run, [sys.executable, "-P", "-m", "broker_jobs", "down"], check=True, timeout=60)
        yield
