"""A ready chunk, from a draft and the rows of its tasks.

Results of predecessors are put in here, once for each chunk. Where those that one task needs are too large together for a message,
the larger ones go to the value store of the job, if that is a folder here; docs/decisions/0001 says why.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Final

from broker_jobs.coordinator.store.parts import load_value
from broker_jobs.core.value import CHUNK_LIMIT, INLINE_LIMIT_WITHOUT_STORE, Inline, Value
from broker_jobs.data.files import is_url
from broker_jobs.data.store import ValueStore
from broker_jobs.errors import ValueStoreError, ValueTooLarge
from broker_jobs.wire.codec import decode_part
from broker_jobs.wire.inputs import is_task
from broker_jobs.wire.messages import Chunk, Function

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from broker_jobs.coordinator.live import LiveJob
    from broker_jobs.coordinator.ready import Ready
    from broker_jobs.coordinator.results import Results
    from broker_jobs.coordinator.store import Lookups
    from broker_jobs.coordinator.window import Draft
    from broker_jobs.coordinator.works import Works
    from broker_jobs.wire.messages import Task

SPILLED: Final = 1024
"""A value of more bytes than this goes to the value store, where all together are too large."""

FUNCTION: Final = "f:"
VALUE: Final = "v:"
"""What the keys of blobs begin with."""

_NO_VALUES: Final[Mapping[str, Value]] = {}


@dataclass(slots=True)
class Built:
    """What became of a draft.

    Attributes:
        chunk: None where none of its tasks can go
        tasks: those that are in the chunk
        left: those for which it had no room
        stalled: those that need a value which has not come
        failed: those that cannot be sent, and why
    """

    chunk: Chunk | None = None
    tasks: list[Ready] = field(default_factory=list)
    left: list[Ready] = field(default_factory=list)
    stalled: list[Ready] = field(default_factory=list)
    failed: list[tuple[Ready, str]] = field(default_factory=list)


@dataclass(slots=True)
class _Load:
    """What the tasks of a chunk bring, each value and function once.

    Args:
        functions: of all of them
    """

    functions: Mapping[str, Function]
    size: int = 0
    values: dict[str, Value] = field(default_factory=dict)
    called: dict[str, Function] = field(default_factory=dict)

    def take(self, task: Task, size: int, values: Mapping[str, Value], *, first: bool = False) -> bool:
        """Take a task along, with its values; False where there is no room for it, as there always is for the first."""
        needed = {digest: self.functions[digest] for digest in task.work.functions if digest not in self.called}
        size += sum(len(function.data) for function in needed.values())
        size += sum(inline_size(value) for key, value in values.items() if key not in self.values)
        if not first and self.size + size > CHUNK_LIMIT:
            return False
        self.size += size
        self.called |= needed
        self.values |= values
        return True


@dataclass(frozen=True, slots=True)
class Parts:
    """Where the parts of a chunk are found.

    Attributes:
        works: what tasks do
        results: what others have returned
    """

    look: Lookups
    works: Works
    results: Results


def build(parts: Parts, job: LiveJob, draft: Draft, name: str) -> Built:
    """The chunk of a draft, and what it leaves over.

    Args:
        name: of the chunk
    """
    facts, look = job.facts, parts.look
    tasks = parts.works.find(job, [*(ready.number for ready in draft.tasks), *draft.chain])
    to_come = set(map(str, (draft.tasks[0].number, *draft.chain))) if draft.chain else set()
    values = _inputs(look, parts.results, facts.key, {key for task in tasks.values() for key in task.work.inputs} - to_come)

    built = Built()
    sent: list[Task] = []
    load = _Load(_functions(look, facts.key, {digest for task in tasks.values() for digest in task.work.functions}))
    for position, ready in enumerate(draft.tasks):
        task, more = tasks[ready.number], _NO_VALUES
        if task.work.inputs:
            wanted = {key: values.get(key) for key in task.work.inputs}
            if None in wanted.values():
                built.stalled.append(ready)
                continue
            try:
                more = fitting({key: value for key, value in wanted.items() if value is not None}, facts.store, facts.id)
            except ValueTooLarge as error:
                built.failed.append((ready, str(error)))
                continue
        if not load.take(task, ready.size, more, first=not sent):
            built.left.extend(draft.tasks[position:])
            break
        if task.attempt != ready.attempt or task.options or task.outside:
            task = replace(task, attempt=ready.attempt, options=0, outside=())
        sent.append(task)
        built.tasks.append(ready)
    following: list[Task] = []  # as far as that can be sent
    for before, number in pairwise((draft.tasks[0].number, *draft.chain)) if sent else ():
        task = tasks[number]
        more = {key: value for key in task.work.inputs if (value := values.get(key)) is not None}
        if not {*task.work.inputs} <= {*more, str(before)} or not load.take(task, job.tasks.seen(number).size, more):
            break
        following.append(replace(task, options=0) if task.options else task)
    if sent:
        shared = job.shared[draft.group.options]
        built.chunk = Chunk(
            job=facts.id,
            chunk=name,
            resource_class=shared.resource_class,
            lane=shared.options.lane,
            submitter=facts.submitter,
            tasks=tuple(sent),
            options=(shared.options,),
            origin=shared.origin or facts.origin,
            functions=load.called,
            values=load.values,
            store=facts.store,
            isolated=draft.group.isolated,
            chain=tuple(following),
        )
    return built


def fitting(values: Mapping[str, Value], store: str | None, job: str) -> dict[str, Value]:
    """Values for one task in a form that fits into a message.

    Args:
        store: folder of the job's value store

    Raises:
        ValueTooLarge: they are too large together, and there is no store to put them into
    """
    size = sum(map(inline_size, values.values()))
    if size <= CHUNK_LIMIT:
        return dict(values)
    problem = "no value store is configured"
    if store is not None:
        problem = f"the value store {store} cannot be reached from the coordinator"
        if is_url(store) or Path(store).is_dir():
            try:
                return {key: _spilled(value, ValueStore(store), job) for key, value in values.items()}
            except ValueStoreError as error:
                problem = str(error)
    if size <= INLINE_LIMIT_WITHOUT_STORE:
        return dict(values)
    raise ValueTooLarge(
        f"the arguments of the task are {size} bytes together, over the limit of {INLINE_LIMIT_WITHOUT_STORE}, and {problem}"
    )


def inline_size(value: Value) -> int:
    """Bytes that a value takes in a message; a reference counts as none."""
    return value.size if isinstance(value, Inline) else 0


def _spilled(value: Value, store: ValueStore, job: str) -> Value:
    return store.put(job, value.encoding, value.data) if isinstance(value, Inline) and value.size > SPILLED else value


def _inputs(look: Lookups, results: Results, job: int, keys: set[str]) -> dict[str, Value]:
    """Values by their key in the inputs; those that have not come are missing."""
    found = results.find(look, job, [int(key) for key in keys if is_task(key)])
    values = {str(number): value for number, value in found.items()}
    digests = [VALUE + key for key in keys if not is_task(key)]
    for key, data in (look.blobs(job, digests) if digests else {}).items():
        values[key.removeprefix(VALUE)] = load_value(data)
    return values


def _functions(look: Lookups, job: int, hashes: Sequence[str] | set[str]) -> dict[str, Function]:
    found = look.blobs(job, [FUNCTION + name for name in hashes]) if hashes else {}
    return {key.removeprefix(FUNCTION): decode_part(Function, data) for key, data in found.items()}
