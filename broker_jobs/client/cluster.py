"""A coordinator and workers on this machine, in processes of their own, for as long as they are needed."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import importlib.util
import json
import os
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from broker_jobs import config
from broker_jobs.broker import open_broker
from broker_jobs.client.client import Client
from broker_jobs.cmdline import command, python_environment
from broker_jobs.core.spec import Lane
from broker_jobs.errors import BrokerError, BrokerJobsError, CoordinatorUnavailable, ValidationError
from broker_jobs.hooks.found import CLIENTS, OFF, installed
from broker_jobs.ids import new_name
from broker_jobs.wire.messages import Cluster, GetWorkers
from broker_jobs.wire.signing import new_key
from broker_jobs.wire.topology import Topology

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from types import ModuleType

START_TIMEOUT: Final = 60.0
_PAUSE: Final = 0.02
_SHORT: Final = 1.0
_TAIL: Final = 2000


class LocalCluster:
    """A coordinator and workers on this machine: real processes, on an embedded broker in a temporary folder, or on RabbitMQ.

    It is ready when it is made, and everything of it is gone after `close` or when this process ends, however it ends.

    Args:
        workers: number of worker processes to begin with
        cpus: processors of each, as ``broker-jobs worker start --cpus`` takes them (default: all of this machine, shared out);
            graphics processors that are found belong to the first worker
        url: ``amqp://…`` for a broker that is there; default: a temporary embedded one
        steps: modules whose steps the workers serve, or their names

    Raises:
        ValidationError: a number is wrong, or a module cannot be found
        BrokerJobsError: a process did not come up; the text has the end of its log
    """

    def __init__(
        self, workers: int = 1, cpus: float | str | None = None, url: str | None = None, steps: Iterable[str | ModuleType] = ()
    ) -> None:
        if isinstance(workers, bool) or not isinstance(workers, int) or workers < 0:
            raise ValidationError(f"workers must be an integer that is not negative, not {workers!r}")
        self._steps = _step_arguments(steps)
        self._folder = tempfile.TemporaryDirectory(prefix="broker-jobs-cluster-", ignore_cleanup_errors=True)
        self.folder = Path(self._folder.name)
        self.url = url or config.sqlite_url(self.folder / "queue.db")
        self._network = url is not None and config.scheme(url) != "sqlite"
        self.namespace = new_name("cluster") if url else config.DEFAULT_NAMESPACE
        self.key = new_key()
        self._values = self.folder / "values"
        self._write_configuration()
        self._has_worker = False
        self._cpus = cpus if cpus is not None else max(1, len(os.sched_getaffinity(0)) // max(workers, 1))
        self._clients: list[Client] = []
        self._guard: subprocess.Popen[str] | None = None
        self._started = 0
        self.processes: dict[int, str] = {}
        try:
            self._guard = subprocess.Popen(
                command("broker_jobs.client.guard"),
                env=python_environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
            self.start_coordinator()
            for _ in range(workers):
                self.start_worker()
            self._wait_for_workers(workers)
        except BaseException:
            self.close()
            raise

    def start_coordinator(self) -> int:
        """Start a coordinator; its process id."""
        return self._start("coordinator", "--store", f"sqlite:///{self.folder / 'ledger.db'}")

    def start_worker(self, cpus: float | str | None = None) -> int:
        """Start one more worker; its process id.

        Args:
            cpus: its processors (default: as many as the others have)
        """
        # One and the same graphics processor is not given out twice.
        others = ["--gpus=0"] if self._has_worker else []
        self._has_worker = True
        return self._start("worker", f"--cpus={self._cpus if cpus is None else cpus}", *others, *self._steps)

    def client(self, **options: Any) -> Client:
        """A client of this cluster, closed with it at the latest.

        Args:
            options: of `Client`
        """
        given = {
            "namespace": self.namespace,
            "signing_key": self.key,
            "partition": 0,
            **{name: value for name, value in options.items() if value is not None},
        }
        client = Client(self.url, **given)
        # Also where the broker is on a network: all of the cluster is on this host.
        client.settings = dataclasses.replace(client.settings, value_store=client.settings.value_store or str(self._values))
        client.runtime.reports_left_work = False  # it ends with the cluster
        self._clients.append(client)
        return client

    def close(self) -> None:
        """End all processes, and drop what they kept. Again does nothing."""
        guard, self._guard = self._guard, None
        if guard is None:
            return
        for client in self._clients:
            client.close()
        left = self._queues() if self._network else ()
        # The guard ends its processes, and then itself, when its standard input ends.
        guard.communicate()
        if left:
            with ThreadPoolExecutor(1) as thread:  # the caller may have an event loop
                thread.submit(asyncio.run, _delete(self.url, left)).result()
        self._folder.cleanup()

    def logs(self) -> str:
        """The ends of the logs of all processes."""
        return "\n".join(f"--- {log.stem}\n{log.read_text(errors='replace')[-_TAIL:]}" for log in sorted(self.folder.glob("*.log")))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<LocalCluster {config.shown(self.url)} of {len(self.processes)} processes>"

    def _start(self, kind: str, *arguments: str) -> int:
        self._started += 1
        name = f"{kind}-{self._started}"
        answer = self._ask(
            {
                "start": command("broker_jobs", kind, "start", *arguments),
                "log": str(self.folder / f"{name}.log"),
                "env": self._environment(),
            }
        )
        self.processes[answer["pid"]] = name
        return int(answer["pid"])

    def _write_configuration(self) -> None:
        """What a `Client()` finds inside a task, which has neither address nor key in its environment."""
        entries = {"url": self.url, "namespace": self.namespace, "signing_key_file": config.KEY_FILE, "value_store": str(self._values)}
        # A JSON text is a TOML text.
        text = "".join(f"{name} = {json.dumps(value)}\n" for name, value in entries.items())
        for name, content in ((config.FILE_NAME, text), (config.KEY_FILE, self.key + "\n")):
            with os.fdopen(os.open(self.folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(content)

    def _environment(self) -> Mapping[str, str]:
        """Address and key are secrets: they travel in the environment, not in the command line."""
        environ = {name: value for name, value in python_environment().items() if not name.startswith("BROKER_JOBS_")}
        return {
            **environ,
            "BROKER_JOBS_URL": self.url,
            "BROKER_JOBS_NAMESPACE": self.namespace,
            "BROKER_JOBS_SIGNING_KEY": self.key,
            "BROKER_JOBS_HOME": str(self.folder),
            "BROKER_JOBS_CONFIG": str(self.folder / config.FILE_NAME),
            "BROKER_JOBS_VALUE_STORE": str(self._values),
        }

    def _wait_for_workers(self, workers: int) -> None:
        """Return when all have said hello to the coordinator."""
        deadline = time.monotonic() + START_TIMEOUT
        without = [f"{OFF}{entry.name}" for entry in installed(CLIENTS)]  # nobody's plugin need know of a look at the cluster
        with Client(self.url, namespace=self.namespace, signing_key=self.key, partition=0, plugins=without) as client:
            client.runtime.reports_left_work = False
            while _active(client) < workers:
                ended = [name for pid, name in self.processes.items() if self._ask({"poll": pid})["code"] is not None]
                if ended or time.monotonic() > deadline:
                    problem = f"{' and '.join(ended)} ended" if ended else f"not ready within {START_TIMEOUT:g} s"
                    raise BrokerJobsError(f"the local cluster did not come up: {problem}\n{self.logs()}")
                time.sleep(_PAUSE)

    def _queues(self) -> tuple[str, ...]:
        """The queues of this cluster on a broker that stays."""
        names = Topology(self.namespace)
        found = [names.ledger_name(0), names.keeper_name(0), names.dead_name]
        try:
            with Client(self.url, namespace=self.namespace, signing_key=self.key, partition=0) as client:
                known = client.runtime.run(lambda core: core.ask(GetWorkers(), Cluster, _SHORT))
        except BrokerJobsError:
            return tuple(found)  # nobody is there any more to tell of the others
        found += [names.class_name(one.name, lane) for one in known.classes for lane in Lane]
        found += [names.lease_queue(worker.worker).name for worker in known.workers]
        return tuple(found)

    def _ask(self, request: Mapping[str, object]) -> dict[str, Any]:
        guard = self._guard
        if guard is None or guard.stdin is None or guard.stdout is None:
            raise BrokerJobsError("this cluster was closed")
        guard.stdin.write(json.dumps(request) + "\n")
        guard.stdin.flush()
        answer: dict[str, Any] = json.loads(guard.stdout.readline())
        return answer


def _step_arguments(steps: Iterable[str | ModuleType]) -> list[str]:
    """What tells a worker to serve these modules; they are found there where they are found here."""
    arguments: dict[str, None] = {}
    for module in (steps,) if isinstance(steps, str) else steps:
        name = module if isinstance(module, str) else module.__name__
        found = importlib.util.find_spec(name.partition(".")[0]) if name != "__main__" else None
        if found is None:
            raise ValidationError(f"the steps of {name!r} cannot be served: workers import them, so put them into a module of their own")
        places = found.submodule_search_locations
        home = Path(next(iter(places))).parent if places else Path(found.origin or ".").parent
        arguments |= dict.fromkeys((f"--path={home}", f"--steps={name}"))
    return list(arguments)


async def _delete(url: str, queues: Iterable[str]) -> None:
    """Delete queues that nobody needs any more; a broker that is gone keeps them."""
    with contextlib.suppress(BrokerError):
        broker = await open_broker(url, name=new_name("cluster"), timeout=_SHORT)
        try:
            for queue in queues:
                await broker.delete(queue)
        finally:
            await broker.close()


def _active(client: Client) -> int:
    """Workers that have said hello."""
    try:
        cluster = client.runtime.run(lambda core: core.ask(GetWorkers(), Cluster, _SHORT))
    except CoordinatorUnavailable:
        return 0
    return sum(worker.state == "active" for worker in cluster.workers)
