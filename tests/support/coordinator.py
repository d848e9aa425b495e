"""A coordinator for a test: in a thread of the test, or as a process that can be killed."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Self

from broker_jobs.config import sqlite_url
from broker_jobs.coordinator.config import CoordinatorConfig
from broker_jobs.coordinator.service import Coordinator
from broker_jobs.wire.signing import Signer, SigningKey, new_key
from tests.support.inbox import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Ground:
    """Where a coordinator works: an embedded broker, a ledger and a key in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.secret = new_key()
        self.key = SigningKey.parse(self.secret)
        self.signer = Signer("t", self.key)
        self.url = sqlite_url(folder / "queue.db")
        self.store = sqlite_url(folder / "ledger.db")

    def config(self, **options: object) -> CoordinatorConfig:
        """For this ground."""
        return CoordinatorConfig(self.url, self.key, self.store, "t", **options)  # type: ignore[arg-type]


@contextlib.contextmanager
def in_a_thread(config: CoordinatorConfig) -> Iterator[Coordinator]:
    """A coordinator that works, stopped in order at the end; an error of it is raised here."""
    coordinator = Coordinator(config)
    errors: list[BaseException] = []

    def work() -> None:
        try:
            coordinator.run()
        except BaseException as error:  # noqa: BLE001 (raised below)
            errors.append(error)
            coordinator.ready.set()

    thread = threading.Thread(target=work, name="coordinator")
    thread.start()
    try:
        assert coordinator.ready.wait(PATIENCE), "the coordinator is not ready"
        if not errors:
            yield coordinator
    finally:
        coordinator.stop()
        thread.join(PATIENCE)
    if errors:
        raise errors[0]
    assert not thread.is_alive(), "the coordinator does not stop"


class Process:
    """A coordinator as a process of its own."""

    def __init__(self, ground: Ground, *arguments: str) -> None:
        environment = {**os.environ, "BROKER_JOBS_SIGNING_KEY": ground.secret, "BROKER_JOBS_NAMESPACE": "t"}
        command = [sys.executable, "-P", "-m", "broker_jobs.coordinator", "--url", ground.url, "--store", ground.store, *arguments]
        self._log = (ground.folder / "coordinator.log").open("ab")
        self._process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log)

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def kill(self) -> None:
        """End it by SIGKILL."""
        self._process.kill()
        self._process.wait(PATIENCE)
        self._log.close()

    def stop(self) -> int:
        """End it by SIGTERM; its exit code."""
        self._process.send_signal(signal.SIGTERM)
        code = self.wait()
        self._log.close()
        return code

    def wait(self) -> int:
        """Wait for its end; its exit code."""
        return self._process.wait(PATIENCE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self.kill()
        self._log.close()
