"""A place where programs written for HyperQueue run: a coordinator and workers, and clients that know nothing of ours."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from broker_jobs import Client as NativeClient
from broker_jobs.compat.hyperqueue import Client
from broker_jobs.compat.hyperqueue.ffi.client import ClientConnection
from tests.support.daemons import Daemons, until

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

    from broker_jobs.compat.hyperqueue import PythonEnv, SubmittedJob


class Site:
    """A coordinator, and the workers that a test starts.

    Args:
        folder: for state and logs
        url: of a broker; default: an embedded one in the folder
        key: the signing key, with a url
    """

    def __init__(self, folder: Path, url: str | None = None, key: str | None = None) -> None:
        self.url = url or f"sqlite:///{folder}/queue.db"
        self.key = key
        self.daemons = Daemons(folder, {"BROKER_JOBS_URL": self.url, **({"BROKER_JOBS_SIGNING_KEY": key} if key else {})})
        self._clients: list[NativeClient] = []
        self.daemons.start("coordinator", "start")

    def close(self) -> None:
        """End everything."""
        for client in self._clients:
            client.close()
        self.daemons.__exit__(None, None, None)
        until(lambda: not self.daemons.alive(), "no process is left")

    def start_worker(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start a worker, and wait until the coordinator knows it."""
        before = self.workers()
        process = self.daemons.start("worker", "start", *arguments)
        until(lambda: self.workers() > before or process.poll() is not None, f"a worker more is there: {self.daemons.logs()}")
        return process

    def workers(self) -> int:
        """Workers that are up."""
        return sum(worker.state == "active" for worker in self.client().native.cluster().workers)

    def client(self, python_env: PythonEnv | None = None) -> Client:
        """A client with HyperQueue's names."""
        if not self._clients:
            native = NativeClient(self.url, signing_key=self.key)
            native.runtime.reports_left_work = False
            self._clients.append(native)
        return Client.over(ClientConnection(native=self._clients[0]), python_env)


def states(job: SubmittedJob) -> list[str]:
    """The states of the tasks of a job, in order."""
    assert job.native is not None
    return [task.state.value for task in job.native.tasks()]


def state(job: SubmittedJob) -> str:
    """The state of a job."""
    assert job.native is not None
    return job.native.info().state.value


def log(path: Path) -> list[Any]:
    """What tasks have written, one JSON value a line."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []
