"""All that an executor needs to run a task of a chunk."""

from __future__ import annotations

from typing import TYPE_CHECKING

from broker_jobs.wire.messages import Call
from broker_jobs_worker.executors.port import Execution
from broker_jobs_worker.machine.allotment import allotment

if TYPE_CHECKING:
    from broker_jobs.core.resources import Allocation, Resources
    from broker_jobs.wire.messages import Chunk, Task


def make_execution(
    name: str, chunk: Chunk, task: Task, allocation: Allocation, total: Resources, *, hosts: tuple[str, ...] = ()
) -> Execution:
    """The execution of a task; the chunk was checked, so what the task refers to is there.

    Args:
        name: unique for ever
        chunk: what the task came in
        task: what to run
        allocation: what it may use
        total: what the worker has
        hosts: of its team, for a task of several nodes
    """
    call = task.work if isinstance(task.work, Call) else None
    options = chunk.options[task.options]
    return Execution(
        execution=name,
        job=chunk.job,
        task=task.number,
        attempt=task.attempt,
        work=task.work,
        options=options,
        origin=chunk.origin,
        task_name=task.name,
        function=chunk.functions[call.function] if call else None,
        setup=chunk.functions[call.setup] if call and call.setup is not None else None,
        values={key: chunk.values[key] for key in task.work.inputs},
        store=chunk.store,
        env=allotment(allocation, total, options.pin),
        hosts=hosts if options.resources.nodes else (),
        submitter=chunk.submitter,
        resource_class=chunk.resource_class,
    )
