"""From what users wrote to tasks of the wire: places, dependencies, values of the job, and what cannot be sent."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from broker_jobs import Job, ResourceRequest
from broker_jobs.client.encoding import Encoded, Encoder
from broker_jobs.core.value import INLINE_LIMIT, Inline, Stored
from broker_jobs.data.store import ValueStore, fetch
from broker_jobs.errors import CycleError, UnpicklableError, ValidationError, ValueTooLarge
from broker_jobs.ids import new_job_id
from broker_jobs.wire import payload
from broker_jobs.wire.messages import Call

if TYPE_CHECKING:
    from pathlib import Path


def work(*_args: object, **_kwargs: object) -> None:
    """Anything."""


def _encoded(job: Job, store: ValueStore | None = None) -> list[Encoded]:
    return list(Encoder(new_job_id(), store=store).tasks(job))


def _call(encoded: Encoded) -> Call:
    assert isinstance(encoded.task.work, Call)
    return encoded.task.work


def _loaded(encoded: Encoded, inputs: list[object]) -> tuple[list[Any], dict[str, Any]]:
    args = _call(encoded).args
    assert isinstance(args, Inline)
    return payload.load_call(args, inputs)


def test_outputs_become_places_wherever_they_stand() -> None:
    job = Job()
    first, second = job.function(work), job.function(work)
    job.function(work, args=([second.output, {"k": first.output["a"]}],), kwargs={"x": second.output})
    found = _encoded(job)[2]
    assert _call(found).inputs == ("1", "0")
    assert found.task.deps == (1, 0)
    positional, keywords = _loaded(found, ["second", {"a": "part"}])
    assert (positional, keywords) == ([["second", {"k": "part"}]], {"x": "second"})


def test_the_output_of_an_array_is_the_list_of_its_values() -> None:
    job = Job()
    many = job.map(work, range(3))
    job.function(work, args=(many.output, many.output[1]))
    found = _encoded(job)[3]
    assert _call(found).inputs == ("0", "1", "2", "1")
    assert found.task.deps == (0, 1, 2)
    assert _loaded(found, ["a", "b", "c", "b"])[0] == [["a", "b", "c"], "b"]


def test_explicit_dependencies_come_first_and_once() -> None:
    job = Job()
    tasks = [job.function(work) for _ in range(3)]
    job.function(work, args=(tasks[0].output,), deps=[tasks[2], tasks[0]], after=[tasks[1]])
    assert _encoded(job)[3].task.deps == (2, 0)
    assert _encoded(job)[3].task.after == (1,)


def test_a_value_of_the_job_is_encoded_once() -> None:
    job = Job()
    big = job.value({"a": 1})
    job.map(work, [big, big, [big]])
    found = _encoded(job)
    keys = {key for encoded in found for key, _ in encoded.values}
    assert len(keys) == 1
    assert [_call(encoded).inputs for encoded in found] == [tuple(keys)] * 3
    assert [_loaded(encoded, [{"a": 1}])[0] for encoded in found] == [[{"a": 1}], [{"a": 1}], [[{"a": 1}]]]


def prepare() -> int:
    """A setup."""
    return 1


def test_a_setup_travels_as_its_function_does() -> None:
    job = Job()
    job.map(work, range(2), setup=prepare)
    job.function(work)
    first, second, plain = _encoded(job)
    assert _call(first).setup == _call(second).setup is not None
    assert _call(plain).setup is None
    assert first.callee is not None
    assert plain.callee is not None
    assert [function.name for _, function in first.callee.functions] == ["work", "prepare"]
    assert [digest for digest, _ in first.callee.functions] == [_call(first).function, _call(first).setup]
    assert [function.name for _, function in plain.callee.functions] == ["work"]


def test_large_values_go_to_the_store(tmp_path: Path) -> None:
    job, store = Job(), ValueStore(tmp_path)
    large = b"x" * (INLINE_LIMIT + 1)
    job.function(work, args=(large,))
    job.function(work, args=(job.value(large),))
    argument, value = _encoded(job, store)
    stored = _call(argument).args
    assert isinstance(stored, Stored)
    assert payload.load_call(fetch(stored).joined(), [])[0] == [large]
    assert [type(part) for _, part in value.values] == [Stored]
    assert argument.size < 1000


def test_without_a_store_there_is_a_limit() -> None:
    job = Job()
    job.function(work, args=(b"x" * (9 * 2**20),), name="big")
    with pytest.raises(ValueTooLarge, match=r"the arguments of task 0 'big' take 9\.0 MiB.*value_store"):
        _encoded(job)


def test_a_function_may_enclose_only_so_much() -> None:
    job, data = Job(), bytes(9 * 2**20)
    job.function(lambda: len(data))
    with pytest.raises(ValueTooLarge, match=r"job\.value"):
        _encoded(job)


def test_what_a_program_is_given_has_a_limit() -> None:
    job = Job()
    job.program(["cat"], stdin=bytes(9 * 2**20))
    with pytest.raises(ValueTooLarge, match=r"task 0 'cat'.*let the program read a file"):
        _encoded(job)


def test_an_argument_that_cannot_be_sent_is_named_with_its_task() -> None:
    job = Job()
    job.function(work)
    job.function(work, args=(1, threading.Lock()), name="train")
    with pytest.raises(UnpicklableError, match=r"task 1 'train': argument 2: lock .* cannot be sent"):
        _encoded(job)


def test_an_element_of_a_map_that_cannot_be_sent_is_named() -> None:
    job = Job()
    job.map(work, [1, threading.Lock()])
    with pytest.raises(UnpicklableError, match=r"task 1 'work\[1\]': argument 1"):
        _encoded(job)


def test_a_program_inside_an_argument_is_refused_with_its_own_message() -> None:
    job = Job()
    program = job.program(["true"])
    job.function(work, args=([program.output],))
    with pytest.raises(ValidationError, match="is a program: its result is its exit code"):
        _encoded(job)


def test_an_empty_job_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"is empty: add a task"):
        _encoded(Job())
    empty = Job()
    empty.map(work, [])
    with pytest.raises(ValidationError, match="is empty"):
        _encoded(empty)


def test_a_circle_made_by_changing_a_list_is_found_with_its_path() -> None:
    job = Job()
    late: list[object] = []
    first = job.function(work, args=(late,), name="first")
    second = job.function(work, args=(first.output,), name="second")
    late.append(second.output)
    with pytest.raises(CycleError) as caught:
        _encoded(job)
    assert set(caught.value.path) == {"0 'first'", "1 'second'"}


def test_a_later_task_may_be_needed_without_a_circle() -> None:
    job = Job()
    late: list[object] = []
    job.function(work, args=(late,))
    late.append(job.function(work).output)
    assert _encoded(job)[0].task.deps == (1,)


def test_memory_is_rounded_to_its_class() -> None:
    job = Job()
    job.function(work, resources=ResourceRequest(memory=1_000_001))
    job.function(work, resources=ResourceRequest(memory=1_000_002))
    first, second = _encoded(job)
    assert first.placement == second.placement


def test_the_folder_of_the_submitter_goes_along() -> None:
    job = Job()
    job.function(work)
    job.function(work, cwd="/data")
    here, there = Encoder(new_job_id(), home="/home/me").tasks(job)
    assert (here.placement.options.home, there.placement.options.home) == ("/home/me", "/home/me")
