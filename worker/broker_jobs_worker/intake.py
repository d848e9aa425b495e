"""Whether a message may be worked on: signed by somebody who may send it, well formed, and in the queue where it belongs.

Bytes from a queue are hostile until they have passed here. What does not pass is a dead letter with a reason.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from broker_jobs.core.data import inside
from broker_jobs.core.resource_class import class_name
from broker_jobs.core.value import Encoding
from broker_jobs.errors import DecodeError, SecurityError, ValidationError
from broker_jobs.ids import MOST_NUMBER, is_job_id, is_partition, is_process_name, partition_of
from broker_jobs.wire.messages import (
    Call,
    Chunk,
    ClassOpened,
    DrainAsked,
    HelloAsked,
    JobsForgotten,
    OutputAsked,
    Program,
    Revoked,
    Role,
    StepCall,
    TeamAsked,
    Welcome,
)

if TYPE_CHECKING:
    from collections.abc import Collection

    from broker_jobs.wire.messages import Task
    from broker_jobs.wire.signing import Signer
    from broker_jobs.wire.topology import Topology
    from broker_jobs_worker.machine.events import Control


def read_chunk(frame: bytes, queue: str, signer: Signer, topology: Topology) -> Chunk:
    """The chunk in a frame that lay in a class queue.

    Raises:
        DecodeError: it is none, or refers to what is not in it
        SecurityError: not signed for this, or in the wrong queue
    """
    opened = signer.open(frame)
    chunk = opened.message
    if not isinstance(chunk, Chunk):
        raise SecurityError(f"a message {chunk.tag!r} in a queue of tasks")
    if opened.role not in {Role.submitter, Role.coordinator}:
        raise SecurityError(f"a {opened.role} may not send tasks")
    if queue != topology.class_name(chunk.resource_class, chunk.lane):
        raise SecurityError(f"a chunk of class {chunk.resource_class!r}, lane {chunk.lane}, in the queue {queue!r}")
    if chunk.chain and opened.role is not Role.coordinator:
        raise SecurityError(f"a {opened.role} may not say what follows a task")
    _check_contents(chunk)
    return chunk


def read_control(frame: bytes, signer: Signer) -> Control | JobsForgotten | OutputAsked:
    """The control message in a frame.

    Raises:
        DecodeError: it is none
        SecurityError: not signed by a coordinator
    """
    opened = signer.open(frame)
    if opened.role is not Role.coordinator:
        raise SecurityError(f"a {opened.role} may not tell workers what to do")
    match opened.message:
        case Welcome() | ClassOpened() | Revoked() | TeamAsked() | DrainAsked() | HelloAsked() | JobsForgotten() | OutputAsked():
            return opened.message
        case other:
            raise SecurityError(f"a message {other.tag!r} in a queue of control messages")


def _check_contents(chunk: Chunk) -> None:
    """What a chunk refers to is in it, and its tasks are of its class and lane."""
    if not is_job_id(chunk.job):
        raise DecodeError(f"{chunk.job[:100]!r} is no job id")
    if not is_partition(partition_of(chunk.job)):
        # No ledger would hear of it, and the worker would say it for ever.
        raise DecodeError(f"job {chunk.job} is of partition {partition_of(chunk.job)} of the ledger, which there cannot be")
    if chunk.submitter and not is_process_name(chunk.submitter):
        raise DecodeError(f"{chunk.submitter[:100]!r} cannot be the name of a process")
    if not chunk.tasks:
        raise DecodeError("a chunk without tasks")
    if chunk.isolated and len(chunk.tasks) != 1:
        raise DecodeError("an isolated chunk has one task")
    for options in chunk.options:
        try:
            name = class_name(options.resources)
        except ValidationError as error:
            raise DecodeError(f"a resource request that is none: {error}") from None
        if (name, options.lane) != (chunk.resource_class, chunk.lane):
            raise SecurityError(
                f"options of class {name!r}, lane {options.lane}, in a chunk of {chunk.resource_class!r}, lane {chunk.lane}"
            )
    for task in chunk.tasks:
        _check_task(task, chunk, chunk.values)
    if chunk.chain:
        _check_chain(chunk)


def _check_chain(chunk: Chunk) -> None:
    """What follows a task is like it, and is only another one."""
    before = chunk.tasks[0]
    if len(chunk.tasks) != 1 or chunk.isolated or any(options.resources.nodes for options in chunk.options):
        raise DecodeError("tasks follow only one that is alone in its chunk, has one node and is not isolated")
    if len({before.number, *(task.number for task in chunk.chain)}) <= len(chunk.chain):
        raise DecodeError("a task that follows itself")
    for task in chunk.chain:
        if task.options != before.options:
            raise DecodeError(f"task {task.number} has other options than the one that it follows")
        _check_task(task, chunk, {*chunk.values, str(before.number)})
        before = task


def _check_task(task: Task, chunk: Chunk, values: Collection[str]) -> None:
    """Check one task, which may take these values."""
    if not 0 <= task.options < len(chunk.options):
        raise DecodeError(f"task {task.number} has the options {task.options}, and the chunk has {len(chunk.options)}")
    if not (0 <= task.number <= MOST_NUMBER and 1 <= task.attempt <= MOST_NUMBER):
        raise DecodeError(f"attempt {task.attempt} of task {task.number}: there is no such thing")
    match task.work:
        case Call(function=function, inputs=inputs, setup=setup):
            if function not in chunk.functions or (setup is not None and setup not in chunk.functions):
                raise DecodeError(f"task {task.number} calls a function that the chunk does not have")
            if inputs and (missing := [key for key in inputs if key not in values]):
                raise DecodeError(f"task {task.number} needs values that the chunk does not have: {missing[:3]}")
        case StepCall(parameters=parameters) if parameters.encoding is Encoding.pickle:
            raise SecurityError(f"task {task.number} brings pickled parameters to a step, which takes plain data")
        case StepCall(inputs=inputs) as call:
            if not chunk.options[task.options].resources.demands(call.feature):
                raise DecodeError(f"task {task.number} calls the {call.feature}, which is not in its resource request")
            missing = [key for key in inputs if key not in values]
            if missing:
                raise DecodeError(f"task {task.number} needs values that the chunk does not have: {missing[:3]}")
            if not call.filled:
                raise DecodeError(f"task {task.number} fills a parameter with a value that it does not have")
        case Program(argv=argv):
            if not argv:
                raise DecodeError(f"task {task.number} is a program without a name")
            try:
                for path in (*(path for path, _ in task.work.files), *task.work.collects):
                    inside(path)
            except ValidationError as error:
                raise DecodeError(f"task {task.number}: {error}") from None
        case _:
            assert_never(task.work)
