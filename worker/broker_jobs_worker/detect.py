"""What this machine lets us use: processors and memory, within affinity and control groups."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

import psutil

if TYPE_CHECKING:
    from collections.abc import Iterator

_ROOT: Final = Path("/")
_CGROUPS: Final = "sys/fs/cgroup"


def usable_cpus(root: Path = _ROOT) -> int:
    """Processors that this process may use: its affinity, and the quota of its control groups rounded down; at least 1."""
    cpus = len(os.sched_getaffinity(0))
    for quota in _cpu_quotas(root):
        cpus = min(cpus, max(1, int(quota)))
    return cpus


def usable_memory(root: Path = _ROOT) -> int:
    """Bytes of memory of this machine, or of the smallest limit of its control groups."""
    installed: int = psutil.virtual_memory().total
    return min([installed, *(limit for limit in _memory_limits(root) if limit > 0)])


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
    except OSError:
        return ""
