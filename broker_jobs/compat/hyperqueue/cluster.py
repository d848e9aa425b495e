"""A coordinator and workers on this machine, for as long as they are needed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import broker_jobs
from broker_jobs.compat.hyperqueue.client import Client
from broker_jobs.compat.hyperqueue.ffi.client import ClientConnection
from broker_jobs.errors import ValidationError

if TYPE_CHECKING:
    from pathlib import Path

    from broker_jobs.compat.hyperqueue.task.function import PythonEnv


@dataclass
class WorkerConfig:
    """A worker of a local cluster.

    Attributes:
        cores: its processors; None is all of this machine
    """

    cores: int | None = None


class LocalCluster:
    """A coordinator, and the workers that are started: real processes, all gone after `stop`. A context manager.

    Args:
        server_dir: must be None: its files are in a temporary folder
        worker_config: a worker to begin with
    """

    def __init__(self, server_dir: Path | None = None, worker_config: WorkerConfig | None = None) -> None:
        if server_dir is not None:
            raise ValidationError("a local cluster keeps its files in a temporary folder: leave server_dir out, and use its client()")
        self.cluster: broker_jobs.LocalCluster | None = broker_jobs.LocalCluster(workers=0)
        if worker_config is not None:
            self.start_worker(worker_config)

    def start_worker(self, config: WorkerConfig | None = None) -> None:
        """Start one more worker."""
        self._running().start_worker(config.cores if config else None)

    def client(self, python_env: PythonEnv | None = None) -> Client:
        """A client of this cluster."""
        return Client.over(ClientConnection(native=self._running().client(), stop=self.stop), python_env)

    def stop(self) -> None:
        """End all processes; `RuntimeError` where that was done before."""
        cluster = self._running()
        self.cluster = None
        cluster.close()

    def _running(self) -> broker_jobs.LocalCluster:
        if self.cluster is None:
            raise RuntimeError("this cluster was stopped")
        return self.cluster

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.cluster is not None:
            self.stop()
