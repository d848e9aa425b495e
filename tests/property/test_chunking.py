"""Chunks of any job: every task once, in order, with all that it needs, and none too large."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from broker_jobs.client.chunking import MOST_WAITING, WINDOW, Chunker, cut, share
from broker_jobs.client.encoding import Callee, Encoded, Placement
from broker_jobs.core.spec import Lane, TaskOptions
from broker_jobs.core.value import CHUNK_LIMIT, Encoding, Inline
from broker_jobs.wire.codec import decode, encode
from broker_jobs.wire.messages import Call, Chunk, Function, JobHeader, Origin, Task

ORIGIN = Origin("host", "python", "3.11")
HEADER = JobHeader("job", "client-1", 0, Origin("", "", ""))
JOB = "0" * 32

_placements = st.builds(
    Placement,
    st.builds(TaskOptions, priority=st.sampled_from([0, 1]), crash_limit=st.sampled_from([1, 5, None]), lane=st.sampled_from(Lane)),
    st.sampled_from(["a", "b"]),
)
_functions = st.sampled_from(["f", "g", "large"])
_SIZES = {"f": 10, "g": 1000, "large": CHUNK_LIMIT // 2}


def _named(function: str) -> tuple[str, Function]:
    return function, Function(function, "m", bytes(_SIZES[function]))


@st.composite
def _tasks(draw: st.DrawFn) -> list[Encoded]:
    found: list[Encoded] = []
    for placement, function, setup, size, keys, runs in draw(
        st.lists(
            st.tuples(
                _placements,
                _functions,
                st.none() | _functions,
                st.sampled_from([1, 1000, CHUNK_LIMIT // 3]),
                st.sets(st.sampled_from("xyz")),
                st.integers(1, 40),
            ),
            max_size=12,
        )
    ):
        for _ in range(runs):
            number = len(found)
            deps = (number - 1,) if number and draw(st.booleans()) else ()
            callee = Callee(*_named(function), None if setup is None else _named(setup))
            call = callee.call(Inline(Encoding.pickle, bytes(size)), tuple(sorted(keys)))
            values = tuple((key, Inline(Encoding.pickle, b"v" * 1000)) for key in sorted(keys))
            found.append(Encoded(Task(number, call, deps=deps), placement, size, callee, values))
    return found


def _cut(tasks: list[Encoded], opened: bool, *, ordered: bool = False) -> list[Chunk]:
    classes = frozenset((name, lane) for name in "ab" for lane in Lane) if opened else frozenset()
    return list(cut(Chunker(JOB, HEADER, ORIGIN, classes, most=share(len(tasks)), ordered=ordered), tasks))


@given(_tasks(), st.booleans())
def test_every_task_travels_once_with_what_it_needs(tasks: list[Encoded], opened: bool) -> None:
    chunks = _cut(tasks, opened)
    sent = [(chunk, task) for chunk in chunks for task in chunk.tasks]
    assert [task.number for _, task in sent] == list(range(len(tasks)))
    for (chunk, task), encoded in zip(sent, tasks, strict=True):
        options = chunk.options[task.options]
        assert options == encoded.placement.options
        assert (chunk.resource_class, chunk.lane) == (encoded.placement.resource_class, options.lane)
        assert replace(task, options=0) == encoded.task
        assert isinstance(task.work, Call)
        assert set(task.work.functions) <= chunk.functions.keys()
        assert set(task.work.inputs) <= chunk.values.keys()
        if chunk.direct:
            assert opened
            assert not task.deps
            assert options.crash_limit != 1


@given(_tasks(), st.booleans())
def test_the_first_chunk_introduces_the_job_and_the_last_seals_it(tasks: list[Encoded], opened: bool) -> None:
    chunks = _cut(tasks, opened)
    assert [chunk.chunk for chunk in chunks] == [str(number) for number in range(len(chunks))]
    assert [chunk.header for chunk in chunks[:1]] == [HEADER] * min(1, len(tasks))
    assert not any(chunk.header for chunk in chunks[1:])
    assert not any(chunk.seal for chunk in chunks[:-1])
    for chunk in chunks[-1:]:
        assert chunk.seal is not None
        assert (chunk.seal.tasks, chunk.seal.chunks) == (len(tasks), len(chunks))


@given(_tasks(), st.booleans())
def test_chunks_are_bounded_and_shared_out(tasks: list[Encoded], opened: bool) -> None:
    chunks = _cut(tasks, opened)
    assert sum(chunk.direct for chunk in chunks) <= WINDOW
    for chunk in chunks:
        assert len(chunk.tasks) <= (share(len(tasks)) if chunk.direct else MOST_WAITING)
        assert chunk.origin is ORIGIN
        assert len(set(chunk.options)) == len(chunk.options)
        payload = sum(
            len(task.work.args.data) for task in chunk.tasks if isinstance(task.work, Call) and isinstance(task.work.args, Inline)
        )
        payload += sum(len(function.data) for function in chunk.functions.values())
        assert payload <= CHUNK_LIMIT or len(chunk.tasks) == 1


@given(_tasks())
def test_chunks_survive_the_wire(tasks: list[Encoded]) -> None:
    for chunk in _cut(tasks[:5], True):
        assert decode(encode(chunk)) == chunk


@given(_tasks())
def test_a_job_with_priorities_is_the_coordinators_to_send(tasks: list[Encoded]) -> None:
    assert not any(chunk.direct for chunk in _cut(tasks, True, ordered=True))


def test_shares() -> None:
    assert [share(tasks) for tasks in (0, 1, 63, 128, 6400, 10**6)] == [1, 1, 1, 2, 100, 100]
