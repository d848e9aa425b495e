"""All that an executor needs to run a task of a chunk."""

from __future__ import annotations

from typing import TYPE_CHECKING

from broker_jobs.core.spec import Isolation, Keep
from broker_jobs.wire.messages import Call
from broker_jobs_worker.executors.port import Execution
from broker_jobs_worker.machine.allotment import allotment

if TYPE_CHECKING:
    from broker_jobs.core.resources import Allocation, Resources
    from broker_jobs.wire.messages import Chunk, Task


def may_lead(chunk: Chunk, task: Task) -> bool:
    """Whether others may follow this task in its process without being asked for: a call without limits or files."""
    options = chunk.options[task.options]
    watched = (options.time_limit, options.memory_limit, options.output_limit, options.stdout, options.stderr, options.pin)
    return (
        isinstance(task.work, Call)
        and not chunk.isolated
        and not options.resources.nodes
        and options.isolation is Isolation.warm
        and options.keep_stdout is options.keep_stderr is Keep.always
        and all(one is None for one in watched)
    )


def may_follow(leader: Task, task: Task) -> bool:
    """Whether a task differs from the one that leads the line in its arguments alone."""
    one, other = leader.work, task.work
    return (
        isinstance(one, Call)
        and isinstance(other, Call)
        and leader.options == task.options
        and one.function == other.function
        and one.setup == other.setup
        and one.inputs == other.inputs
    )


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


def make_follower(name: str, task: Task, leader: Execution) -> Execution:
    """The execution of a task that `may_follow` another one."""
    return Execution(
        name,
        leader.job,
        task.number,
        task.attempt,
        task.work,
        leader.options,
        leader.origin,
        task.name,
        leader.function,
        leader.setup,
        leader.values,
        leader.store,
        leader.env,
        submitter=leader.submitter,
        resource_class=leader.resource_class,
    )
