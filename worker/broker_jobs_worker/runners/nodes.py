"""Files that tell a task of several nodes where they are, a name a line, that of the worker on which it runs first.

Other programs read them: ``mpirun --hostfile "$BROKER_JOBS_NODE_FILE"``. One has the names as the workers know themselves, one without
what follows their first dot.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from broker_jobs_worker.runners.protocol import Run


def variables(run: Run) -> dict[str, str]:
    """What such a task is told."""
    if not run.hosts:
        return {}
    short, full = files(run.folder)
    return {"BROKER_JOBS_NUM_NODES": str(len(run.hosts)), "BROKER_JOBS_NODE_FILE": short, "BROKER_JOBS_HOST_FILE": full}


def files(folder: str) -> tuple[str, str]:
    """Their paths, from the name of the task folder."""
    return f"{folder}.nodes", f"{folder}.hosts"


def write(run: Run) -> None:
    """Make them.

    Raises:
        OSError: that is impossible
    """
    for path, names in zip(files(run.folder), ([_short(host) for host in run.hosts], run.hosts), strict=True):
        _write(path, names)


def _write(path: str, names: Sequence[str]) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(fd, "w", encoding="utf-8") as file:  # noqa: PTH123 (a descriptor)
        file.writelines(f"{name}\n" for name in names)


def _short(host: str) -> str:
    """A name without its domain; an address stays."""
    first = host.partition(".")[0]
    return host if first.isdigit() else first
