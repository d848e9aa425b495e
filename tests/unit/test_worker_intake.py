"""What a worker accepts from a queue, and what it refuses."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker_jobs.core.request import Request
from broker_jobs.core.spec import Lane
from broker_jobs.core.value import Encoding, Inline
from broker_jobs.core.versions import Version
from broker_jobs.errors import DecodeError, SecurityError
from broker_jobs.ids import MOST_PARTITIONS, uuid8
from broker_jobs.wire.messages import Call, Fill, Function, HelloAsked, Program, Role, StepCall, Task
from broker_jobs.wire.signing import Signer, SigningKey
from broker_jobs.wire.topology import Topology
from broker_jobs_worker.intake import read_chunk, read_control
from tests.support.worker_world import NODES, ONE_CPU, TWO_CPUS, make_chunk

if TYPE_CHECKING:
    from broker_jobs.wire.messages import Chunk

SIGNER = Signer("t", SigningKey.parse("11" * 32))
NAMES = Topology("t")
CHUNK = make_chunk(0, 1)
QUEUE = NAMES.class_name(CHUNK.resource_class, CHUNK.lane)
CALL = Call("f", Inline(Encoding.msgpack, b""), ("7",))
FUNCTION = Function("f", "m", b"")


STEP = StepCall("fit", Version(1, 0, 0), Inline(Encoding.msgpack, b"\x80"), ("7",), (Fill("x", 0, None, ("y",)), Fill("z", 0, 1)))


def step_chunk(call: StepCall) -> Chunk:
    """A chunk of the class of the step fit 1.0.0."""
    chunk = make_chunk(0, needs=ONE_CPU.offering(STEP.feature))
    return replace(chunk, tasks=(Task(0, call),), values={"7": Inline(Encoding.msgpack, b"")})


def on_either(call: StepCall) -> Chunk:
    """A chunk that may also come to workers that do not serve the step."""
    needs = Request.of([*ONE_CPU.offering(STEP.feature).alternatives, *TWO_CPUS.alternatives])
    return replace(make_chunk(0, needs=needs), tasks=(Task(0, call),), values={"7": Inline(Encoding.msgpack, b"")})


def read(chunk: Chunk, role: Role = Role.submitter, queue: str = QUEUE) -> Chunk:
    return read_chunk(SIGNER.seal(chunk, role), queue, SIGNER, NAMES)


def test_pickled_parameters_of_a_step_are_refused_unread() -> None:
    chunk = step_chunk(replace(STEP, parameters=Inline(Encoding.pickle, b"\x80")))
    with pytest.raises(SecurityError, match="plain data"):
        read(chunk, queue=NAMES.class_name(chunk.resource_class, chunk.lane))


@pytest.mark.parametrize("role", [Role.submitter, Role.coordinator])
def test_a_chunk_in_its_queue_is_accepted(role: Role) -> None:
    assert read(CHUNK, role) == CHUNK


def test_a_call_with_everything_it_refers_to_is_accepted() -> None:
    chunk = replace(CHUNK, tasks=(Task(0, CALL),), functions={"f": FUNCTION}, values={"7": Inline(Encoding.msgpack, b"")})
    assert read(chunk) == chunk


def test_a_step_is_accepted_where_its_class_asks_for_it() -> None:
    chunk = step_chunk(STEP)
    assert read(chunk, queue=NAMES.class_name(chunk.resource_class, chunk.lane)) == chunk


@pytest.mark.parametrize(
    ("chunk", "said"),
    [
        (replace(CHUNK, tasks=(Task(0, STEP),)), "calls the step fit 1.0.0, which is not in its resource request"),
        (step_chunk(replace(STEP, version=Version(1, 0, 1))), "calls the step fit 1.0.1, which is not in its resource request"),
        (on_either(STEP), "which is not in its resource request"),
        (step_chunk(replace(STEP, inputs=("8",))), "values that the chunk does not have"),
        (step_chunk(replace(STEP, fills=(Fill("x", 1),))), "fills a parameter with a value that it does not have"),
        (step_chunk(replace(STEP, fills=(Fill("x", 0, 2),))), "fills a parameter with a value that it does not have"),
        (step_chunk(replace(STEP, fills=(Fill("x", -1),))), "fills a parameter with a value that it does not have"),
        (step_chunk(replace(STEP, fills=(Fill("x", 0, -1),))), "fills a parameter with a value that it does not have"),
    ],
)
def test_a_step_that_is_not_meant_for_this_queue_is_refused(chunk: Chunk, said: str) -> None:
    with pytest.raises(DecodeError, match=said):
        read(chunk, queue=NAMES.class_name(chunk.resource_class, chunk.lane))


@pytest.mark.parametrize(
    ("chunk", "said"),
    [
        (replace(CHUNK, job="last"), "'last' is no job id"),
        (replace(CHUNK, job="../../etc"), "is no job id"),
        (replace(CHUNK, job=uuid8(1, MOST_PARTITIONS, bytes(10))), "is of partition 64 of the ledger, which there cannot be"),
        (replace(CHUNK, submitter="a.b"), "cannot be the name of a process"),
        (replace(CHUNK, tasks=(Task(2**31, Program((b"true",))),)), "there is no such thing"),
        (replace(CHUNK, tasks=()), "without tasks"),
        (replace(CHUNK, isolated=True), "one task"),
        (replace(CHUNK, options=()), "the chunk has 0"),
        (replace(CHUNK, tasks=(Task(0, Program((b"true",)), options=-1),)), "options -1"),
        (replace(CHUNK, tasks=(Task(0, Program(())),)), "without a name"),
        (replace(CHUNK, tasks=(Task(0, Program((b"true",)), attempt=0),)), "attempt 0"),
        (replace(CHUNK, tasks=(Task(0, CALL),)), "a function that the chunk does not have"),
        (replace(CHUNK, tasks=(Task(0, CALL),), functions={"f": FUNCTION}), "values that the chunk does not have"),
        (replace(CHUNK, options=(replace(CHUNK.options[0], resources=Request(())),)), "a resource request that is none"),
    ],
)
def test_a_chunk_that_refers_to_what_is_not_there_is_refused(chunk: Chunk, said: str) -> None:
    with pytest.raises(DecodeError, match=said):
        read(chunk)


def chain(**changes: object) -> Chunk:
    """A chunk of the coordinator in which two calls follow one."""
    return replace(make_chunk(0, 1, 2, functions="f", chain=2), **changes)  # type: ignore[arg-type]


def test_what_a_coordinator_lets_follow_is_accepted() -> None:
    assert read(chain(), Role.coordinator) == chain()
    with pytest.raises(SecurityError, match="may not say what follows"):
        read(chain(), Role.submitter)


FIRST, SECOND = chain().chain


@pytest.mark.parametrize(
    ("chunk", "said"),
    [
        pytest.param(chain(tasks=CHUNK.tasks), "alone in its chunk", id="two before"),
        pytest.param(chain(isolated=True), "alone in its chunk", id="isolated"),
        pytest.param(chain(chain=(FIRST, FIRST)), "follows itself", id="twice"),
        pytest.param(chain(chain=(replace(FIRST, number=0),)), "follows itself", id="the first again"),
        pytest.param(chain(options=CHUNK.options * 2, chain=(replace(FIRST, options=1),)), "other options", id="options"),
        pytest.param(chain(chain=(SECOND,)), "values that the chunk does not have", id="the value of one that is not there"),
        pytest.param(chain(chain=(replace(FIRST, work=CALL),)), "function that the chunk does not have", id="function"),
        pytest.param(chain(chain=(replace(FIRST, number=-1),)), "no such thing", id="number"),
    ],
)
def test_what_cannot_follow_is_refused(chunk: Chunk, said: str) -> None:
    with pytest.raises(DecodeError, match=said):
        read(chunk, Role.coordinator)


def test_tasks_of_several_nodes_are_not_followed() -> None:
    chunk = make_chunk(0, 1, needs=NODES, functions="f", chain=1)
    with pytest.raises(DecodeError, match="one node"):
        read(chunk, Role.coordinator, NAMES.class_name(chunk.resource_class, chunk.lane))


def test_a_chunk_in_another_queue_is_refused() -> None:
    with pytest.raises(SecurityError, match="in the queue"):
        read(CHUNK, queue=NAMES.class_name(CHUNK.resource_class, Lane.high))


@pytest.mark.parametrize("options", [replace(CHUNK.options[0], resources=TWO_CPUS), replace(CHUNK.options[0], lane=Lane.high)])
def test_tasks_of_another_class_or_lane_cannot_hide_in_a_chunk(options: object) -> None:
    assert CHUNK.options[0].resources == ONE_CPU
    with pytest.raises(SecurityError, match="in a chunk of"):
        read(replace(CHUNK, options=(CHUNK.options[0], options)))  # type: ignore[arg-type]


def test_a_worker_may_not_send_tasks_and_only_chunks_are_tasks() -> None:
    with pytest.raises(SecurityError, match="may not send tasks"):
        read(CHUNK, Role.worker)
    with pytest.raises(SecurityError, match="queue of tasks"):
        read_chunk(SIGNER.seal(HelloAsked("c"), Role.coordinator), QUEUE, SIGNER, NAMES)


def test_only_a_coordinator_tells_workers_what_to_do() -> None:
    assert read_control(SIGNER.seal(HelloAsked("c"), Role.coordinator), SIGNER) == HelloAsked("c")
    with pytest.raises(SecurityError, match="may not tell"):
        read_control(SIGNER.seal(HelloAsked("c"), Role.submitter), SIGNER)
    with pytest.raises(SecurityError, match="queue of control"):
        read_control(SIGNER.seal(CHUNK, Role.coordinator), SIGNER)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(frame: bytes) -> None:
    with pytest.raises((DecodeError, SecurityError)):
        read_chunk(frame, QUEUE, SIGNER, NAMES)
    with pytest.raises((DecodeError, SecurityError)):
        read_control(frame, SIGNER)
