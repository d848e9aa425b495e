"""What the ledger takes from its queue; pure.

A signature says who wrote a message, not that it lies where it belongs, nor that its numbers fit into a database.
Both are asked here, once, so that nothing behind has to; what is refused goes to the dead letters with the reason.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, assert_never

from broker_jobs.core.data import inside
from broker_jobs.core.resource_class import class_name
from broker_jobs.core.value import Encoding
from broker_jobs.errors import DecodeError, SecurityError, ValidationError
from broker_jobs.ids import MOST_NUMBER, is_job_id, is_process_name, partition_of
from broker_jobs.wire.inputs import is_task
from broker_jobs.wire.messages import (
    Call,
    Chunk,
    Ended,
    Goodbye,
    Heartbeat,
    Hello,
    OpenJob,
    Program,
    Progress,
    Reply,
    Request,
    ReserveTasks,
    ResubmitJob,
    Returned,
    Role,
    Started,
    StepCall,
    Taken,
    Task,
    Token,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from broker_jobs.wire.messages import JobHeader, Question, ReplyItem
    from broker_jobs.wire.signing import Opened
    from broker_jobs.wire.topology import Topology

LedgerMessage = Chunk | Reply | Hello | Heartbeat | Goodbye | Token | Request

LATEST_MS: Final = 2**53
MOST_AWAY_MS: Final = 24 * 3_600_000
MOST_TASKS: Final = 2**27
"""So many a submission to an open job may bring: numbers end at `MOST_NUMBER`."""

_CHUNK: Final = re.compile(r"[0-9]{1,9}")
_KEY: Final = re.compile(r"[0-9a-f]{1,64}")


def admit(opened: Opened, topology: Topology, exchange: str, key: str, partition: int) -> LedgerMessage:
    """The message of a delivery, if it belongs into the ledger.

    Args:
        exchange: through which it came
        key: its routing key

    Raises:
        SecurityError: this sender may not say that, or not here
        DecodeError: it says something that cannot be
    """
    message = opened.message
    match message:
        case Chunk():
            if exchange == topology.returned:
                _require(opened, Role.submitter, Role.coordinator)
                _check_names(message)
                _ours(message.job, partition)
            else:
                _require(opened, Role.submitter)
                _at(exchange, topology.tasks)
                _check_names(message)
                wanted = (
                    topology.task_key(message.resource_class, message.lane, partition) if message.direct else topology.ledger_key(partition)
                )
                if key != wanted:
                    raise SecurityError(f"a chunk for {wanted!r} was published with the key {key!r}")
                _ours(message.job, partition)
                _check_submitted(message)
        case Request():
            _require(opened, Role.submitter)
            _at(exchange, topology.tasks)
            _name(message.reply_to)
            _check_wish(message.question, partition)
        case Reply():
            _require(opened, Role.worker)
            _at(exchange, topology.replies)
            _job(message.job)
            _ours(message.job, partition)
            _name(message.worker)
            _name(message.boot)
            for item in message.items:
                _check_item(item)
        case Hello() | Heartbeat() | Goodbye():
            _require(opened, Role.worker)
            _at(exchange, topology.replies)
            _name(message.worker)
            _name(message.boot)
            if not isinstance(message, Goodbye):
                _check_worker(message)
        case Token():
            _require(opened, Role.worker)
            _at(exchange, topology.returned)
            _name(message.worker)
            _name(message.boot)
        case _:
            raise SecurityError(f"a {message.tag} does not belong into the ledger")
    return message


def _require(opened: Opened, *roles: Role) -> None:
    if opened.role not in roles:
        raise SecurityError(f"a {opened.message.tag} comes from a {roles[0].value}, not from a {opened.role.value}")


def _at(exchange: str, wanted: str) -> None:
    if exchange != wanted:
        raise SecurityError(f"it belongs to the exchange {wanted}, not to {exchange}")


def _job(job: str) -> None:
    if not is_job_id(job):
        raise DecodeError(f"{job[:100]!r} is no job id")


def _ours(job: str, partition: int) -> None:
    """Whether this ledger keeps a job, or will."""
    if (its := partition_of(job)) != partition:
        raise SecurityError(f"job {job} is of partition {its} of the ledger, not of {partition}")


def _name(name: str) -> None:
    if not is_process_name(name):
        raise DecodeError(f"{name[:100]!r} cannot be the name of a process")


def _numbers(numbers: Iterable[int], what: str, most: int = MOST_NUMBER) -> None:
    for number in numbers:
        if not 0 <= number <= most:
            raise DecodeError(f"{what} cannot be {number}")


def _check_worker(message: Hello | Heartbeat) -> None:
    if isinstance(message, Hello):
        _numbers((message.pid,), "pid")
        _numbers((message.started_ms, message.ends_ms or 0), "a time", LATEST_MS)
        _numbers((message.away_ms,), "the time that a worker may be away", MOST_AWAY_MS)
        for job in message.kept:
            _job(job)
    for held in message.held:
        _job(held.job)
        _numbers((held.task,), "the number of a task")
        _numbers((held.attempt,), "an attempt")
    if message.seat is not None:
        for member in message.seat.team.members:
            _name(member.worker)
            _name(member.boot)


def _check_names(chunk: Chunk) -> None:
    _job(chunk.job)
    if chunk.submitter:
        _name(chunk.submitter)
    if not chunk.tasks:
        raise DecodeError("a chunk without tasks")
    _numbers((task.number for task in chunk.tasks), "the number of a task")
    _numbers((task.attempt for task in chunk.tasks), "an attempt")


def _check_submitted(chunk: Chunk) -> None:
    """What a submitter's chunk must fulfil; a ready one is our own."""
    if not _CHUNK.fullmatch(chunk.chunk):
        raise DecodeError(f"{chunk.chunk[:100]!r} is no number of a chunk")
    if chunk.header is not None:
        _check_header(chunk.header)
    if chunk.seal is not None:
        _numbers((chunk.seal.tasks, chunk.seal.chunks), "a seal")
    for key in (*chunk.functions, *chunk.values):
        if not _KEY.fullmatch(key):
            raise DecodeError(f"{key[:100]!r} is no key of a function or of a value")
    for options in chunk.options:
        try:
            wanted = class_name(options.resources)
        except ValidationError as error:
            raise DecodeError(f"a resource request that is none: {error}") from None
        if wanted != chunk.resource_class or options.lane is not chunk.lane:
            raise DecodeError(f"tasks of {wanted}.{options.lane.value} in a chunk of {chunk.resource_class[:100]}.{chunk.lane.value}")
        _numbers((options.priority + 2**31,), "a priority", 2**32)
    if len({task.number for task in chunk.tasks}) < len(chunk.tasks):
        raise DecodeError("a chunk with the same task twice")
    for task in chunk.tasks:
        _check_task(chunk, task)


def _check_header(header: JobHeader) -> None:
    _numbers((header.submitted_ms,), "a time", LATEST_MS)
    if header.max_fails is not None:
        _numbers((header.max_fails,), "max_fails")
    _name(header.submitter)
    if header.parent is not None:
        _job(header.parent)


def _check_wish(question: Question, partition: int) -> None:
    """What changes a job, and is no chunk."""
    match question:
        case OpenJob(job=job, header=header):
            _job(job)
            _ours(job, partition)
            _check_header(header)
        case ResubmitJob(new=new):
            _job(new)
            _ours(new, partition)
        case ReserveTasks(tasks=tasks):
            _numbers((tasks,), "a number of tasks", MOST_TASKS)
        case _:
            pass


def _check_task(chunk: Chunk, task: Task) -> None:
    if task.deps or task.after or task.outside:
        _check_needs(chunk, task)
    if not 0 <= task.options < len(chunk.options):
        raise DecodeError(f"task {task.number} has options that are not in its chunk")
    if task.attempt != 1:
        raise DecodeError(f"task {task.number} begins with attempt {task.attempt}")
    match task.work:
        case Call(function=function, inputs=inputs, setup=setup):
            if function not in chunk.functions or (setup is not None and setup not in chunk.functions):
                raise DecodeError(f"task {task.number} calls a function that is not in its chunk")
            if inputs and any(is_task(key) and int(key) not in task.deps for key in inputs):
                raise DecodeError(f"task {task.number} takes the result of a task that it does not depend on")
        case StepCall(parameters=parameters) if parameters.encoding is Encoding.pickle:
            raise SecurityError(f"task {task.number} brings pickled parameters to a step, which takes plain data")
        case StepCall(inputs=inputs) as call:
            if not chunk.options[task.options].resources.demands(call.feature):
                raise DecodeError(f"task {task.number} calls the {call.feature}, and would come to workers that do not serve it")
            if any(is_task(key) and int(key) not in task.deps for key in inputs):
                raise DecodeError(f"task {task.number} takes the result of a task that it does not depend on")
            if not call.filled:
                raise DecodeError(f"task {task.number} fills a parameter with a result that it does not take")
        case Program(argv=argv):
            if not argv:
                raise DecodeError(f"task {task.number} is a program without a name")
            for path in (*(path for path, _ in task.work.files), *task.work.collects):
                _inside(path)
        case _:
            assert_never(task.work)


def _check_needs(chunk: Chunk, task: Task) -> None:
    """What a task waits for."""
    _numbers(task.deps, "a dependency")
    _numbers(task.after, "a predecessor")
    for other in task.outside:
        _job(other.job)
        _numbers((other.task,), "a dependency in another job")
        if other.job == chunk.job:
            raise DecodeError(f"task {task.number} waits for another job, which is its own")
        _ours(other.job, partition_of(chunk.job))
    if task.number in task.deps or task.number in task.after:
        raise DecodeError(f"task {task.number} waits for itself")


def _inside(path: str) -> None:
    try:
        inside(path)
    except ValidationError as error:
        raise DecodeError(str(error)) from None


def _check_item(item: ReplyItem) -> None:
    # Of all that comes these are the most: what is right takes no further call.
    if not (0 <= item.task <= MOST_NUMBER and 0 <= item.attempt <= MOST_NUMBER):
        _numbers((item.task,), "the number of a task")
        _numbers((item.attempt,), "an attempt")
    match item:
        case Ended(started_ms=started, ended_ms=ended):
            if not (0 <= started <= LATEST_MS and 0 <= ended <= LATEST_MS):
                _numbers((started, ended), "a time", LATEST_MS)
        case Started(at_ms=at):
            _numbers((at,), "a time", LATEST_MS)
        case Progress(fraction=fraction):
            if not 0 <= fraction <= 1:
                raise DecodeError(f"progress cannot be {fraction}")
        case Returned() | Taken():
            pass
