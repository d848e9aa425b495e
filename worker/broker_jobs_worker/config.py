"""What a worker is started with."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import socket
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from broker_jobs.config import shown
from broker_jobs.core.descriptor import described
from broker_jobs.errors import ValidationError
from broker_jobs.wire.messages import DEFAULT_GROUP
from broker_jobs.wire.topology import DIRECT, EVERYONE, NOBODY, Topology
from broker_jobs_worker.accepting import Accepted
from broker_jobs_worker.executors.recycling import KEEP
from broker_jobs_worker.hardware import provided
from broker_jobs_worker.machine.state import DEFAULT_TIMING, OnBrokerLost, Timing

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from broker_jobs.core.resources import Resources
    from broker_jobs.metrics import MetricsPort
    from broker_jobs.wire.signing import SigningKey
    from broker_jobs_worker.executors.recycling import Recycling

LOCAL: Final = "local"
"""The executor that runs everything in processes of the worker's host."""
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")
_RESERVED: Final = frozenset({EVERYONE, DIRECT, NOBODY})


def fresh_worker_name() -> str:
    """A name that no other worker has: host, process and chance, such as ``node17-4711-9f2c``."""
    host = re.sub(r"[^A-Za-z0-9_-]", "-", socket.gethostname().partition(".")[0]).lstrip("-_")[:60] or "worker"
    return f"{host}-{os.getpid()}-{secrets.token_hex(2)}"


@dataclass(frozen=True, slots=True)
class WorkerConfig:
    """The settings of one worker.

    Args:
        url: address of the broker
        namespace: prefix of every name at the broker
        key: signs replies and checks tasks
        spool: folder for output and task folders
        name: letters, digits, ``_`` and ``-``; no other worker may have it (default: a fresh one)
        resources: what to give to tasks, by name, as `broker_jobs.core.descriptor` reads it; of ``cpus``, ``gpus`` and ``memory``,
            what is not given is found out
        hyper_threading: False for one thread of each core, where processors are found out
        spool_limit: bytes of long output that are kept on this host for one cluster (default: a tenth of the file system, 16 GiB at most)
        path: folders with modules of users
        steps: names of modules whose steps it serves
        accept: kinds of work that it runs: ``programs``, ``functions``, ``steps``, ``step:NAME``; empty for all
        metrics_host: address of the numbers
        metrics_port: port of the numbers; 0 for none, ``"auto"`` for any free one
        group: workers that belong together; letters, digits, ``_`` and ``-``
        idle_timeout: it ends when it has had no task for so many seconds
        time_limit: it stops after so many seconds, and gives back what still runs
        on_broker_lost: what becomes of long tasks when the broker stays away
        recycling: when the processes in which functions run make room for new ones
        executor: where programs run: `LOCAL`, or the name of a batch system
        executor_options: for each of its jobs, by name; a name without values is a flag
        executor_folder: folder for scripts and output that its hosts see, too (default: the spool)
        connect_timeout: seconds to wait for the first connection
        timing: how patient it is

    Raises:
        ValidationError: a name or an amount is wrong
    """

    url: str = field(repr=False)
    namespace: str
    key: SigningKey
    spool: Path
    name: str | None = None
    resources: Mapping[str, float | str] = field(default_factory=dict)
    hyper_threading: bool = True
    spool_limit: int | None = None
    path: tuple[str, ...] = ()
    steps: tuple[str, ...] = ()
    accept: tuple[str, ...] = ()
    metrics_host: str = "127.0.0.1"
    metrics_port: MetricsPort = 0
    group: str = DEFAULT_GROUP
    idle_timeout: float | None = None
    time_limit: float | None = None
    on_broker_lost: OnBrokerLost = OnBrokerLost.stop
    recycling: Recycling = KEEP
    executor: str = LOCAL
    executor_options: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    executor_folder: Path | None = None
    connect_timeout: float = 30.0
    timing: Timing = DEFAULT_TIMING

    def __post_init__(self) -> None:
        Topology(self.namespace)
        if self.name is not None and (not _NAME.fullmatch(self.name) or self.name in _RESERVED):
            raise ValidationError(f"the name of a worker is up to 100 letters, digits, '_' and '-', not {self.name!r}")
        if not _NAME.fullmatch(self.group):
            raise ValidationError(f"the group of a worker is up to 100 letters, digits, '_' and '-', not {self.group!r}")
        described(self.resources)
        Accepted.parse(self.accept)
        if self.executor == LOCAL and (self.executor_options or self.executor_folder is not None):
            raise ValidationError("options and folder of an executor are for those of batch systems: name one, such as --executor sge")
        if self.executor != LOCAL and self.steps:
            raise ValidationError(f"steps run in processes of a worker, and not in {self.executor}: serve them by one without --executor")

    @property
    def output(self) -> Path:
        """Folder for what programs and functions print."""
        return self.executor_folder or self.spool

    @property
    def archive(self) -> Path:
        """Folder for output that is kept: all workers of this host at this broker and in this namespace share it."""
        place = hashlib.sha256(f"{shown(self.url)} {self.namespace}".encode()).hexdigest()[:16]
        return self.output / ".kept" / place

    def total(self) -> Resources:
        """What the worker may give to tasks; what is not given is found out."""
        return provided(self.resources, hyper_threading=self.hyper_threading)
