"""A running deployment for the chaos suite: a RabbitMQ of three nodes, coordinators, workers and submitters, all real processes.

Every process reaches the broker through a `Link` of its own. What ends by itself is started again, as systemd or Kubernetes would, and
remembered.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from broker_jobs.wire.signing import new_key
from tests.support.daemons import Daemons, until
from tests.system.chaos import work
from tests.system.chaos.faults import Role, Target, can_step, partition_for
from tests.system.chaos.journal import Journal, What
from tests.system.chaos.links import Link, Links
from tests.system.chaos.submitter import STOP

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.support.rabbitmq import RabbitMQCluster, RabbitMQNode
    from tests.system.chaos.ground import Ground

ROOT: Final = Path(__file__).resolve().parents[3]
_PATH: Final = os.pathsep.join([str(ROOT), str(ROOT / "worker")])
_LIBRARIES: Final = sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
CLOCK: Final = str(_LIBRARIES[0]) if _LIBRARIES else None
"""The library that changes the time of day of a process, where it is installed."""
_LOOK: Final = 0.2
_AGAIN: Final = 1.0
"""Seconds until something that has ended is started again."""


@dataclass(frozen=True, slots=True)
class Ending:
    """A process ended although nobody wanted that."""

    name: str
    at: float
    code: int
    log: str


@dataclass(slots=True)
class Unit:
    """A place for a process, and the one that is there.

    Attributes:
        wanted: whether one should be there
        frozen: whether it was stopped by SIGSTOP
        clock: the file that says which time of day it sees
    """

    target: Target
    launch: Callable[[], subprocess.Popen[bytes]]
    link: Link
    wanted: bool = False
    frozen: bool = False
    clock: Path | None = None
    process: subprocess.Popen[bytes] | None = None
    ended: float = 0.0
    lock: threading.RLock = field(default_factory=threading.RLock)

    def start(self) -> None:
        """Start it, and again whenever it ends by itself."""
        with self.lock:
            self.wanted = True
            self.process = self.launch()

    def signal(self, number: int) -> None:
        """Send it a signal, if it is there."""
        with self.lock:
            if self.process is not None and self.process.poll() is None:
                self.process.send_signal(number)
                self.frozen = number == signal.SIGSTOP

    def end(self, number: int, timeout: float) -> int:
        """End it with a signal; its exit code."""
        with self.lock:
            self.wanted = False
            self.signal(signal.SIGCONT)
            self.signal(number)
            assert self.process is not None
        return self.process.wait(timeout)


class Deployment:
    """Everything, as long as it is entered.

    Args:
        folder: for logs, the ledger, values, journals and what tasks leave
        cluster: the broker; it stays
        ground: where the ledger lies
        seconds: how long a task takes
        tasks: how many each submitter asks for at least
        partitions: how many the ledger has

    Attributes:
        units: the processes
        endings: those that ended by themselves
    """

    def __init__(
        self,
        folder: Path,
        cluster: RabbitMQCluster,
        ground: Ground,
        *,
        seed: int,
        seconds: float,
        tasks: int,
        partitions: int = 1,
        workers: int = 4,
        submitters: int = 3,
    ) -> None:
        self.folder = folder
        self.cluster = cluster
        self.ground = ground
        self.partitions = partitions
        self.crowd = {
            Role.worker: workers,
            Role.coordinator: ground.coordinators * partitions,
            Role.submitter: submitters,
            Role.node: len(cluster.nodes),
            Role.store: 1,
        }
        self.units: dict[Target, Unit] = {}
        self.endings: list[Ending] = []
        self.key = new_key()
        self.vhost = ""
        self._seed, self._seconds, self._tasks = seed, seconds, tasks
        self._closing = contextlib.ExitStack()
        self._over = threading.Event()
        self._tending = threading.Thread(target=self._tend, name="tending")

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            self.vhost = self.cluster.nodes[0].management.make_vhost()
            stack.enter_context(self.ground)
            self._links = stack.enter_context(Links([node.port for node in self.cluster.nodes]))
            env = {"BROKER_JOBS_SIGNING_KEY": self.key, "BROKER_JOBS_VALUE_STORE": str(self.folder / "values")}
            self.daemons = stack.enter_context(Daemons(self.folder, env))
            stack.callback(self._stop)
            for role in (Role.coordinator, Role.worker, Role.submitter):
                for index in range(self.crowd[role]):
                    self._add(Target(role, index))
            for unit in self.units.values():
                if unit.target.role is not Role.submitter:
                    unit.start()
            self._tending.start()
            for unit in self._of(Role.worker):
                until(lambda unit=unit: self._says(unit, "is connected"), f"{unit.target} is connected", 60)
            for unit in self._of(Role.submitter):
                unit.start()
            self._closing = stack.pop_all()
        return self

    def __exit__(self, *details: object) -> None:
        self._closing.close()

    def unit(self, target: Target) -> Unit:
        """The process of a target."""
        return self.units[target]

    def node(self, target: Target) -> RabbitMQNode:
        """The node of a target."""
        return self.cluster.nodes[target.index]

    def become(self, target: Target, mode: object) -> None:
        """Change what the ways of a process to the broker are like."""
        self._links.become(self.units[target].link, mode)

    def straight(self) -> str:
        """Address of the broker, past all links."""
        hosts = ",".join(f"127.0.0.1:{node.port}" for node in self.cluster.nodes)
        return f"amqp://guest:guest@{hosts}/{self.vhost}"

    # --- the end ---

    def finish_submitters(self, timeout: float) -> list[Target]:
        """Tell the submitters to come to an end, and wait; those that have not when none was told of a job for so long."""
        (self.folder / STOP).touch()
        told, deadline = -1, 0.0
        while any(unit.wanted for unit in self._of(Role.submitter)):
            now = sum(len(Journal.of(self.folder, unit.target.index).last(What.told)) for unit in self._of(Role.submitter))
            if now > told:
                told, deadline = now, time.monotonic() + timeout
            elif time.monotonic() > deadline:
                break
            time.sleep(_LOOK)
        return [unit.target for unit in self._of(Role.submitter) if unit.wanted]

    def finish(self, role: Role, timeout: float) -> list[str]:
        """End all of a role in order; what was wrong with it."""
        wrong = []
        for unit in self._of(role):
            unit.wanted = False
            unit.signal(signal.SIGTERM)
        for unit in self._of(role):
            try:
                code = unit.end(signal.SIGCONT, timeout)
            except subprocess.TimeoutExpired:
                wrong.append(f"{unit.target} has not ended {timeout:g} s after SIGTERM")
            else:
                if code:
                    wrong.append(f"{unit.target} ended with code {code} after SIGTERM: {self._log(unit)[-2000:]}")
        return wrong

    # --- inside ---

    def _add(self, target: Target) -> None:
        link = self._links.make(target.index)
        hosts = ",".join(f"127.0.0.1:{port}" for port in link.ports)
        env = {"BROKER_JOBS_URL": f"amqp://guest:guest@{hosts}/{self.vhost}"}
        unit = Unit(target, lambda: self._launch(target, env), link)
        if CLOCK and can_step(target):
            unit.clock = self.folder / f"clock-{target}"
            unit.clock.write_text("+0")
            env |= {
                "LD_PRELOAD": CLOCK, "FAKETIME_TIMESTAMP_FILE": str(unit.clock), "FAKETIME_CACHE_DURATION": "1", "DONT_FAKE_MONOTONIC": "1",
                "FAKETIME_DONT_RESET": "1", "PYTHONPATH": _PATH,
            }  # fmt: skip
        self.units[target] = unit

    def _launch(self, target: Target, env: dict[str, str]) -> subprocess.Popen[bytes]:
        module = "tests.system.chaos.stepped" if "LD_PRELOAD" in env else "broker_jobs"
        partition = partition_for(target.index, self.partitions)
        match target.role:
            case Role.coordinator:
                words = ("coordinator", "start", "--partition", str(partition), "--store", self.ground.url(partition))
                return self.daemons.start(*words, module=module, env=env)
            case Role.worker:
                words = ("worker", "start", "--name", str(target), "--cpus", "2", "--gpus", "0")
                return self.daemons.start(*words, module=module, env={**env, work.WORKER: str(target)})
            case Role.submitter:
                words = (str(self.folder), str(target.index), str(self._seed), str(self._seconds), str(self._tasks))
                env = {**env, "BROKER_JOBS_PARTITION": str(partition), "PYTHONPATH": _PATH}
                return self.daemons.start(*words, module="tests.system.chaos.submitter", env=env)
            case _:
                raise ValueError(target)

    def _of(self, role: Role) -> Sequence[Unit]:
        return [unit for unit in self.units.values() if unit.target.role is role]

    def _says(self, unit: Unit, text: str) -> bool:
        return unit.process is not None and text in self._log(unit)

    def _log(self, unit: Unit) -> str:
        assert unit.process is not None
        return self.daemons.log(unit.process)

    def _tend(self) -> None:
        """Start again what has ended by itself."""
        while not self._over.wait(_LOOK):
            for unit in self.units.values():
                with unit.lock:
                    process = unit.process
                    if not unit.wanted or process is None or process.poll() is None:
                        unit.ended = 0.0
                    elif unit.target.role is Role.submitter and process.returncode == 0:
                        unit.wanted = False
                    elif not unit.ended:
                        unit.ended = time.monotonic()
                        self.endings.append(Ending(str(unit.target), unit.ended, process.returncode, self._log(unit)[-3000:]))
                    elif time.monotonic() > unit.ended + _AGAIN:
                        unit.start()

    def _stop(self) -> None:
        self._over.set()
        if self._tending.is_alive():
            self._tending.join()
        for unit in self.units.values():
            unit.wanted = False
            unit.signal(signal.SIGCONT)
            if unit.target.role is Role.submitter:
                unit.signal(signal.SIGKILL)
