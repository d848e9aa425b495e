"""The node: a coordinator and a worker in one program, ``python -m broker_jobs_worker.node``.

``broker-jobs up`` runs it in the foreground. A client without an address starts it in the background; then it ends by itself when
no client is attached and nothing is left to do. Clients are attached while they hold a shared lock on ``clients.lock``; a node that
ends takes that lock for itself first, so a client that comes at that moment waits, and starts the next node.

Both live on one event loop and share one connection; tasks run in children as always.
"""

from __future__ import annotations

import argparse
import asyncio
import fcntl
import logging
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from broker_jobs.broker import open_broker
from broker_jobs.client.node import CLIENTS_FILE, LOCK_FILE, READY_FILE
from broker_jobs.collecting import collect_rarely
from broker_jobs.config import make_private, private_file, resolve, scheme
from broker_jobs.coordinator.config import CoordinatorConfig, Durability
from broker_jobs.coordinator.service import Coordinator
from broker_jobs.core.quantities import milliseconds
from broker_jobs.errors import BrokerError, BrokerJobsError, LedgerRefused
from broker_jobs.logs import start_logging
from broker_jobs.wire.messages import DEFAULT_GROUP
from broker_jobs_worker.config import WorkerConfig, fresh_worker_name
from broker_jobs_worker.daemon import WorkerDaemon
from broker_jobs_worker.hardware import given_resources
from broker_jobs_worker.stepping import served

if TYPE_CHECKING:
    from io import TextIOWrapper

    from broker_jobs.broker.port import Broker
    from broker_jobs.config import Settings

LINGER: Final = 5.0
"""Seconds without a client and without work after which a background node ends."""

MISUSE: Final = 2
UNREACHABLE: Final = 3

_LOOK: Final = 0.5
_READY_PATIENCE: Final = 60.0
_log = logging.getLogger("broker_jobs.node")


class _Held:
    """A file whose lock is held until the end of the process."""

    def __init__(self, path: Path) -> None:
        self._file: TextIOWrapper = private_file(path).open("a+", encoding="utf-8")

    def try_exclusive(self) -> bool:
        """Take the lock, unless somebody has it."""
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def release(self) -> Self:
        """Give the lock back."""
        fcntl.flock(self._file, fcntl.LOCK_UN)
        return self


class _Node:
    """One run of the node."""

    def __init__(self, settings: Settings, arguments: argparse.Namespace) -> None:
        self._settings = settings
        self._foreground: bool = arguments.foreground
        self._linger: float = arguments.linger
        local = scheme(settings.url) == "sqlite"
        name = fresh_worker_name()
        self._coordinator_config = CoordinatorConfig(
            settings.url,
            settings.required_key(),
            f"sqlite:///{settings.home / 'ledger.db'}",
            namespace=settings.namespace,
            name=name,
            durability=Durability.process if local else Durability.power,
        )
        self._worker_config = WorkerConfig(
            settings.url,
            settings.namespace,
            settings.required_key(),
            settings.home / "output",
            name=name,
            resources=given_resources(arguments.cpus, arguments.memory, arguments.gpus, arguments.resource),
            hyper_threading=not arguments.no_hyper_threading,
            path=tuple(str(folder.absolute()) for folder in arguments.path),
            steps=tuple(arguments.steps),
            group=arguments.group,
            time_limit=None if arguments.time_limit is None else milliseconds(arguments.time_limit, "--time-limit") / 1000,
        )

    async def run(self) -> int:
        """Work until told to end, or until nothing is left to do; the exit code."""
        config = self._worker_config
        broker = await open_broker(config.url, name=config.name or "node", timeout=config.connect_timeout)
        try:
            return await self._work(broker)
        finally:
            await broker.close()

    async def _work(self, broker: Broker) -> int:
        """One connection for both halves: what the coordinator publishes, the worker receives in the same transaction, and back."""
        loop = asyncio.get_running_loop()
        coordinator = Coordinator(self._coordinator_config, broker)
        coordinating = asyncio.ensure_future(coordinator.serve())
        try:
            # The worker needs the coordinator's welcome, so it is the second to begin.
            await _ready(coordinator, coordinating)
            steps = await served(self._worker_config.steps, self._worker_config.path)
            daemon = WorkerDaemon(self._worker_config, lent=broker, steps=steps)
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, daemon.drain)
            working = asyncio.ensure_future(daemon.serve())
            watching = asyncio.ensure_future(self._watch(daemon, coordinator, coordinating))
            # Whoever waits for the node finds a worker that the ledger knows.
            welcomed = asyncio.ensure_future(daemon.welcomed.wait())
            await asyncio.wait([working, welcomed], return_when=asyncio.FIRST_COMPLETED)
            welcomed.cancel()
            private_file(self._settings.home / READY_FILE).write_text(f"{os.getpid()}\n", encoding="utf-8")
            _log.info("node %s works for %s", daemon.name, self._settings)
            try:
                return await working
            finally:
                watching.cancel()
        finally:
            (self._settings.home / READY_FILE).unlink(missing_ok=True)
            coordinator.stop()
            await coordinating

    async def _watch(self, daemon: WorkerDaemon, coordinator: Coordinator, coordinating: asyncio.Future[None]) -> None:
        """End the worker with the coordinator, and a background node when nobody needs it."""
        clients = _Held(self._settings.home / CLIENTS_FILE)
        loop = asyncio.get_running_loop()
        idle_since = loop.time()
        while not coordinating.done():
            await asyncio.wait([coordinating], timeout=_LOOK)
            if self._foreground:
                continue
            if not clients.try_exclusive():
                idle_since = loop.time()
            elif not coordinator.idle or daemon.busy:
                clients.release()
                idle_since = loop.time()
            elif loop.time() - idle_since < self._linger:
                clients.release()
            else:
                # The lock is kept: a client that comes now waits for our end, and starts another node.
                _log.info("no client and nothing to do for %g s", self._linger)
                break
        daemon.drain()
        if coordinating.done():
            daemon.drain()


async def _ready(coordinator: Coordinator, coordinating: asyncio.Future[None]) -> None:
    """Return when the coordinator works; raise what ended it."""
    for _ in range(int(_READY_PATIENCE / 0.01)):
        if coordinator.ready.is_set():
            return
        await asyncio.wait([coordinating], timeout=0.01)
        if coordinating.done():
            coordinating.result()
            break
    raise BrokerError("the coordinator did not come up in time; the log says more")


def main() -> int:
    """Run the node; the exit code: 0 in order, 2 misuse, 3 the broker cannot be reached, 70 a bug of the worker."""
    parser = argparse.ArgumentParser(prog="broker-jobs up", description="A coordinator and a worker in one program.")
    parser.add_argument("--home", type=Path, help="state folder")
    parser.add_argument("--url", help="address of the broker; by default a file in the state folder")
    parser.add_argument("--namespace", help="prefix of all queues")
    parser.add_argument("--cpus", help="processors to give to tasks; by default all")
    parser.add_argument("--memory", help="memory to give to tasks; by default all")
    parser.add_argument("--gpus", help="graphics processors to give to tasks; by default those that are found")
    parser.add_argument("--resource", action="append", help="another resource, NAME=WHAT")
    parser.add_argument("--no-hyper-threading", action="store_true", help="take one thread of each core")
    parser.add_argument("--path", type=Path, action="append", default=[], help="folder with modules that functions and steps need")
    parser.add_argument("--steps", action="append", default=[], help="module whose steps it serves")
    parser.add_argument("--group", default=DEFAULT_GROUP, help="workers that belong together")
    parser.add_argument("--time-limit", help="it stops after so long, such as 1h30m, and gives back what still runs")
    parser.add_argument("--linger", type=float, default=LINGER, help="seconds without client and work after which it ends")
    parser.add_argument("--foreground", action="store_true", help="go on without clients and without work")
    arguments = parser.parse_args()
    start_logging()
    collect_rarely()
    try:
        return asyncio.run(_run(arguments))
    except BrokerJobsError as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        return UNREACHABLE if isinstance(error, BrokerError) else MISUSE


async def _run(arguments: argparse.Namespace) -> int:
    settings = resolve(arguments.url, arguments.namespace, home=arguments.home)
    make_private(settings.home)
    lock = _Held(settings.home / LOCK_FILE)
    if not lock.try_exclusive():
        raise LedgerRefused(f"a node of {settings.home} runs already; end it with: broker-jobs down")
    return await _Node(settings, arguments).run()


if __name__ == "__main__":
    sys.exit(main())
