"""A task is held to the processors that it was given, and to no others, as long as it runs."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from broker_jobs.core.spec import Pin

if TYPE_CHECKING:
    from collections.abc import Iterator
    from collections.abc import Set as AbstractSet

    from broker_jobs_worker.runners.protocol import Run


class UnpinnableError(Exception):
    """The processors of the task are none that this worker may use; the text says so."""


@contextlib.contextmanager
def pinned(run: Run) -> Iterator[None]:
    """Hold this process, with all its threads, and what it starts to the processors of the task; afterwards to those from before.

    Raises:
        UnpinnableError: it may not use them
    """
    listed = run.allocation.get("BROKER_JOBS_CPUS", "")
    if run.options.pin is not Pin.taskset or not listed:
        yield
        return
    before, wanted = os.sched_getaffinity(0), {int(label) for label in listed.split(",")}
    if not wanted <= before:
        allowed = ",".join(map(str, sorted(before)))
        raise UnpinnableError(
            f"the task cannot be pinned: it was given the processors {listed}, and this worker may use {allowed}. "
            "Start the worker without --cpus, or with the numbers of processors that it may use, as in --cpus '[0,1]'"
        )
    _hold(wanted)
    try:
        yield
    finally:
        _hold(before)


def _hold(cpus: AbstractSet[int]) -> None:
    """All threads of this process: libraries keep theirs from one task to the next."""
    for thread in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):  # it has ended meanwhile
            os.sched_setaffinity(int(thread.name), cpus)
