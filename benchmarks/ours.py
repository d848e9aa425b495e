"""Our side of every case: a coordinator and one worker with two processors, in processes of their own."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import psutil

from benchmarks import work
from broker_jobs import Client, LocalCluster

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.measure import Setting

CPUS = 2


@contextlib.contextmanager
def cluster(setting: Setting, workers: int = 1, cpus: int = CPUS) -> Iterator[tuple[LocalCluster, Client]]:
    """A cluster and a client of it; on RabbitMQ where the setting has an address. Its children are warm."""
    with LocalCluster(workers=workers, cpus=cpus, url=setting.url or None) as made, made.client() as client:
        assert list(client.map(work.same, range(100))) == list(range(100))
        yield made, client


def process(made: LocalCluster, kind: str) -> psutil.Process:
    """The first process of a kind, ``coordinator`` or ``worker``."""
    return psutil.Process(next(pid for pid, name in made.processes.items() if name.startswith(kind)))


def peak_mb(pid: int | str = "self") -> float:
    """Most memory that a process has had, in MB (10^6 bytes)."""
    with open(f"/proc/{pid}/status", encoding="ascii") as status:  # noqa: PTH123 (a file of the kernel)
        kib = next(int(line.split()[1]) for line in status if line.startswith("VmHWM:"))
    return kib * 1024 / 1e6
