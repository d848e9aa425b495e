"""All that an executor needs to run a task of a chunk."""

from __future__ import annotations

from itertools import repeat
from types import MappingProxyType
from typing import TYPE_CHECKING, assert_never

from broker_jobs.core.many import many
from broker_jobs.core.spec import Isolation, Keep
from broker_jobs.core.value import Inline
from broker_jobs.wire.messages import Call, Program, StepCall
from broker_jobs_worker.executors.port import Execution
from broker_jobs_worker.machine.allotment import allotment

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from broker_jobs.core.resources import Allocation, Resources
    from broker_jobs.core.value import Value
    from broker_jobs.wire.messages import Chunk, Task, Work


def sort_of(work: Work) -> str:
    """What is expected to take as long: calls of one function, runs of one program; empty where nothing is expected."""
    match work:
        case Call(function=function):
            return function
        case Program(argv=(name, *_)):
            return f"program {name.decode(errors='surrogateescape')}"
        case Program() | StepCall():
            return ""
        case _:
            assert_never(work)


def may_lead(chunk: Chunk, task: Task) -> bool:
    """Whether others may follow this task in its process without being asked for: it has neither limits nor files of its own."""
    options = chunk.options[task.options]
    watched = (options.time_limit, options.memory_limit, options.output_limit, options.stdout, options.stderr, options.pin)
    return (
        bool(sort_of(task.work))
        and not chunk.isolated
        and not options.resources.nodes
        and options.isolation is Isolation.warm
        and options.keep_stdout is options.keep_stderr is Keep.always
        and all(one is None for one in watched)
        and may_follow(task, task)
    )


def may_follow(leader: Task, task: Task) -> bool:
    """Whether a task differs from the one that leads the line in its arguments alone."""
    match leader.work, task.work:
        case Call() as one, Call() as other:
            alike = (one.function, one.setup, one.inputs) == (other.function, other.setup, other.inputs) and isinstance(other.args, Inline)
        case Program() as one, Program() as other:
            alike = one.argv[:1] == other.argv[:1] and not (other.task_dir or other.files or other.collects)
        case _:
            alike = False
    return alike and leader.options == task.options


def make_execution(
    name: str,
    chunk: Chunk,
    task: Task,
    allocation: Allocation,
    total: Resources,
    *,
    hosts: tuple[str, ...] = (),
    given: Mapping[str, Value] = MappingProxyType({}),
) -> Execution:
    """The execution of a task; the chunk was checked, so what the task refers to is there.

    Args:
        name: unique for ever
        chunk: what the task came in
        task: what to run
        allocation: what it may use
        total: what the worker has
        hosts: of its team, for a task of several nodes
        given: values that the chunk does not have
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
        values={key: given[key] if key in given else chunk.values[key] for key in task.work.inputs},
        store=chunk.store,
        env=allotment(allocation, total, options.pin),
        hosts=hosts if options.resources.nodes else (),
        submitter=chunk.submitter,
        resource_class=chunk.resource_class,
    )


def make_followers(names: Iterable[str], tasks: Sequence[Task], leader: Execution) -> list[Execution]:
    """The executions of tasks that `may_follow` another one."""
    return many(
        Execution,
        names,
        repeat(leader.job),
        [task.number for task in tasks],
        [task.attempt for task in tasks],
        [task.work for task in tasks],
        repeat(leader.options),
        repeat(leader.origin),
        [task.name for task in tasks],
        repeat(leader.function),
        repeat(leader.setup),
        repeat(leader.values),
        repeat(leader.store),
        repeat(leader.env),
        repeat(leader.hosts),
        repeat(leader.submitter),
        repeat(leader.resource_class),
    )
