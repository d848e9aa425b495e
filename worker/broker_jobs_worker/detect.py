"""What this machine lets us use: processors in their groups, and memory, within affinity and control groups."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import psutil

if TYPE_CHECKING:
    from collections.abc import Iterator
    from collections.abc import Set as AbstractSet

ROOT: Final = Path("/")
_CGROUPS: Final = "sys/fs/cgroup"
_CPUS: Final = "sys/devices/system/cpu"
_NODES: Final = "sys/devices/system/node"


@dataclass(frozen=True, slots=True)
class Processors:
    """The processors that this process may use.

    Attributes:
        groups: their numbers, in groups that share a socket and a NUMA node
        allowed: how many the affinity allows
        quota: how many the control groups allow to be busy at once; None where they do not care
        threads: how many more there would be with the other threads of their cores
    """

    groups: tuple[tuple[int, ...], ...]
    allowed: int
    quota: float | None = None
    threads: int = 0

    @property
    def count(self) -> int:
        """How many there are."""
        return sum(map(len, self.groups))


def usable_cpus(root: Path = ROOT, allowed: AbstractSet[int] | None = None, *, hyper_threading: bool = True) -> Processors:
    """Processors that this process may use: its affinity, and the quota of its control groups rounded down; at least 1.

    Args:
        root: of the file system
        allowed: the affinity (default: that of this process)
        hyper_threading: False for one thread of each core
    """
    numbers = sorted(os.sched_getaffinity(0) if allowed is None else allowed)
    kept = numbers if hyper_threading else _one_of_each_core(root, numbers)
    nodes = _nodes(root)
    places: dict[tuple[int, int], list[int]] = {}
    for number in kept:
        places.setdefault((_number(root / _CPUS / f"cpu{number}/topology/physical_package_id"), nodes.get(number, 0)), []).append(number)
    quota = min(_cpu_quotas(root), default=None)
    left = len(kept) if quota is None else min(len(kept), max(1, int(quota)))
    groups = []
    for place in sorted(places):
        groups.append(tuple(places[place][:left]))
        left -= len(groups[-1])
    return Processors(tuple(group for group in groups if group), len(numbers), quota, len(numbers) - len(kept))


@dataclass(frozen=True, slots=True)
class Memory:
    """The memory that this process may use, in bytes.

    Attributes:
        limited: it is the limit of a control group
    """

    size: int
    limited: bool


def usable_memory(root: Path = ROOT) -> Memory:
    """Memory of this machine, or of the smallest limit of its control groups."""
    installed: int = psutil.virtual_memory().total
    limit = min((limit for limit in _memory_limits(root) if limit > 0), default=installed)
    return Memory(min(installed, limit), limit < installed)


# --- processors ----------------------------------------------------------------------------------------------------


def _nodes(root: Path) -> dict[int, int]:
    """The NUMA node of each processor."""
    return {
        number: int(folder.name.removeprefix("node"))
        for folder in (root / _NODES).glob("node[0-9]*")
        for number in listed(_read(folder / "cpulist"))
    }


def _one_of_each_core(root: Path, numbers: list[int]) -> list[int]:
    """The first allowed thread of each core."""
    kept, seen = [], set[int]()
    for number in numbers:
        if number not in seen:
            kept.append(number)
        seen.update(listed(_read(root / _CPUS / f"cpu{number}/topology/thread_siblings_list")))
    return kept


def listed(text: str) -> list[int]:
    """The numbers of a list as the kernel writes it: ``0-3,8``; of anything else none."""
    numbers: list[int] = []
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        if not (first.isdigit() and (last or first).isdigit()):
            return []
        numbers += range(int(first), int(last or first) + 1)
    return numbers


def _number(path: Path) -> int:
    text = _read(path)
    return int(text) if text.isdigit() else 0


# --- control groups ------------------------------------------------------------------------------------------------


def _groups(root: Path) -> Iterator[tuple[str, Path]]:
    """Our control groups and those around them: controller (empty for version 2) and folder."""
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        for controller in controllers.split(","):
            top = root / _CGROUPS / controller
            folder = top / path.lstrip("/")
            # In a container the path may be that of the host, and only the top is visible.
            yield controller, top
            while folder != top and top in folder.parents:
                yield controller, folder
                folder = folder.parent


def _cpu_quotas(root: Path) -> Iterator[float]:
    """Processors that each group may use, where it is limited."""
    for controller, folder in _groups(root):
        if controller == "":
            quota, _, period = _read(folder / "cpu.max").partition(" ")
        elif controller == "cpu":
            quota, period = _read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us")
        else:
            continue
        if quota.isdigit() and period.isdigit() and int(period):
            yield int(quota) / int(period)


def _memory_limits(root: Path) -> Iterator[int]:
    """Bytes that each group may use, where it is limited."""
    for controller, folder in _groups(root):
        name = {"": "memory.max", "memory": "memory.limit_in_bytes"}.get(controller)
        text = _read(folder / name) if name else ""
        if text.isdigit():
            yield int(text)


def _read(path: Path) -> str:
    """The text of a small file; empty where there is none."""
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""
