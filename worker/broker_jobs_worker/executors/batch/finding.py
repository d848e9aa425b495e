"""Batch systems by name: those of the entry points of the group `GROUP`, ours among them."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import TYPE_CHECKING

from broker_jobs.errors import ValidationError
from broker_jobs.host import host_identity
from broker_jobs_worker.executors.archive import Archive, usual_room
from broker_jobs_worker.executors.batch.executor import BatchExecutor
from broker_jobs_worker.executors.batch.port import GROUP, JobRefused, Unusable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from broker_jobs_worker.config import WorkerConfig
    from broker_jobs_worker.executors.batch.port import Scheduler
    from broker_jobs_worker.executors.port import ExecutionNews


def scheduler_named(name: str, options: Mapping[str, tuple[str, ...]]) -> Scheduler:
    """The batch system of this name.

    Raises:
        ValidationError: there is none, it cannot be loaded or used on this host, or it does not take the options
    """
    known = entry_points(group=GROUP)
    found = {point.name: point for point in known}.get(name)
    if found is None:
        there = ", ".join(sorted({"local", *known.names}))
        raise ValidationError(f"there is no executor {name!r}; there are {there}, and others by entry points of the group {GROUP}")
    try:
        made: Scheduler = found.load()(options)
    except JobRefused as refusal:
        raise ValidationError(f"the executor {name} does not take these options: {refusal}") from None
    except Unusable as trouble:
        raise ValidationError(f"the executor {name} cannot be used here: {trouble}") from None
    except Exception as error:
        raise ValidationError(f"the executor {name} ({found.value}) cannot be used: {type(error).__name__}: {error}") from error
    return made


def batch_executor(config: WorkerConfig, name: str, report: Callable[[ExecutionNews], None]) -> BatchExecutor:
    """The executor that runs programs in the batch system of the settings; `ValidationError` as above."""
    scheduler = scheduler_named(config.executor, config.executor_options)
    room = usual_room(config.output) if config.spool_limit is None else config.spool_limit
    return BatchExecutor(
        report,
        scheduler,
        config.executor,
        folder=config.output / name / "batch",
        archive=Archive(config.archive, room),
        options=config.executor_options,
        owner=host_identity(),
        returns=config.name is not None,
    )
