"""A worker on this machine, for as long as a program needs it."""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
import time
from typing import IO, TYPE_CHECKING, Final, Self

from broker_jobs.client.client import Client
from broker_jobs.client.cluster import START_TIMEOUT
from broker_jobs.cmdline import command, python_environment
from broker_jobs.core.batch_options import frozen
from broker_jobs.errors import BrokerJobsError, ValidationError
from broker_jobs.hooks.found import CLIENTS, OFF, installed
from broker_jobs.host import host_identity

if TYPE_CHECKING:
    from collections.abc import Mapping

_PAUSE: Final = 0.05
_TAIL: Final = 2000
_MISUSE: Final = 2
_SOON: Final = 0.5
"""Seconds between two signals, which are one where the first was not seen yet."""
_LAST: Final = 10.0


class LocalWorker:
    """One more worker on this machine, for a broker and a coordinator that are there; a process of its own, and a context manager.

    It is ready when it is made, and gone after `close`. When this program ends without that, the worker goes on with what there is for it,
    and ends after `idle_timeout`.

    Args:
        url: and `namespace`, `signing_key`: as of `Client`
        cpus: processors that it gives to tasks, as ``broker-jobs worker start --cpus`` takes them; over a batch system how many of its
            tasks may be there at once. It gives out no graphics processors: those belong to the worker that was there before
        name: of the worker (default: a new one); over a batch system it goes on with jobs that an earlier worker of this name has left
        executor: where programs run: ``"sge"``, ``"htcondor"`` or another one that is installed (default: here)
        executor_options: for all jobs in the batch system, such as ``{"q": "all.q", "V": True}``
        idle_timeout: it ends in order after so long without a task: a text such as ``"10m"``

    Raises:
        ValidationError: an argument is wrong, or the batch system cannot be used from here
        BrokerJobsError: it did not come up; the text has the end of its log. Others as for `Client`
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        namespace: str | None = None,
        signing_key: str | None = None,
        cpus: float | str,
        name: str | None = None,
        executor: str | None = None,
        executor_options: Mapping[str, object] | None = None,
        idle_timeout: str = "10m",
    ) -> None:
        options = {"cpus": cpus, "gpus": 0, "name": name, "executor": executor, "idle-timeout": idle_timeout}
        arguments = [f"--{option}={value}" for option, value in options.items() if value is not None]
        for option, values in frozen(executor_options):
            arguments += [f"--executor-option={option}={value}" for value in values] or [f"--executor-option={option}"]
        # Address and key are secrets: they travel in the environment. What is not said here, it finds as this process does.
        said = {"BROKER_JOBS_URL": url, "BROKER_JOBS_NAMESPACE": namespace, "BROKER_JOBS_SIGNING_KEY": signing_key}
        environ = python_environment() | {variable: value for variable, value in said.items() if value is not None}
        without = [f"{OFF}{entry.name}" for entry in installed(CLIENTS)]  # nobody's plugin need know of a look at the cluster
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the worker)
        with Client(url, namespace=namespace, signing_key=signing_key, plugins=without) as client:
            client.runtime.reports_left_work = False
            self._process = subprocess.Popen(
                command("broker_jobs", "worker", "start", *arguments),
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=self._log,
                start_new_session=True,  # neither Ctrl-C nor the end of the terminal is for it
            )
            try:
                self._wait(client)
            except BaseException:
                self.close(0)
                raise

    @property
    def pid(self) -> int:
        """The id of its process."""
        return self._process.pid

    def close(self, timeout: float = 30.0) -> None:
        """Let it end: what it runs may finish within `timeout` seconds, then it is given back, for other workers. Again does nothing."""
        drain, give_back, kill = self._process.terminate, self._process.terminate, self._process.kill
        for end, patience in ((drain, max(timeout, _SOON)), (give_back, _LAST), (kill, None)):
            if self._process.poll() is None:
                end()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(patience)
        self._log.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<LocalWorker {self.pid}>"

    def _wait(self, client: Client) -> None:
        """Return when it has said hello to the coordinator."""
        here, deadline = host_identity(), time.monotonic() + START_TIMEOUT
        while not any((worker.host, worker.pid, worker.state) == (here, self.pid, "active") for worker in client.cluster().workers):
            code = self._process.poll()
            if code is not None or time.monotonic() > deadline:
                self._log.seek(0)
                log = self._log.read().decode(errors="replace")[-_TAIL:].strip()
                problem = "has ended" if code is not None else f"was not ready within {START_TIMEOUT:g} s"
                raise (ValidationError if code == _MISUSE else BrokerJobsError)(f"the worker {problem}: {log}")
            time.sleep(_PAUSE)
