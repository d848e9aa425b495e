"""Columns: many of one class in a row are written smaller, and read as the same; what is no such thing is refused."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker_jobs.core.outcome import Outcome, Succeeded
from broker_jobs.core.value import Encoding, Inline
from broker_jobs.errors import DecodeError
from broker_jobs.wire import codec
from broker_jobs.wire.messages import Chunk, Ended, Reply, ReplyItem, Started, Task
from tests.support import examples as ex
from tests.support.strategies import from_hint

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True)
class Leaf:
    tag: ClassVar[str] = "leaf"
    number: int
    flag: bool = False


@dataclass(frozen=True, slots=True)
class Other:
    tag: ClassVar[str] = "other"
    text: str = "x"


@dataclass(frozen=True, slots=True)
class Tree:
    name: str
    one: Leaf
    either: Leaf | Other | None = None
    many: tuple[Leaf, ...] = ()
    number: float = 0.0


@dataclass(frozen=True, slots=True)
class Forest:
    trees: tuple[Tree, ...]
    mixed: tuple[Leaf | Other, ...] = ()
    outcomes: tuple[Outcome, ...] = ()


_few = st.integers(0, 2)
_leaf = st.builds(Leaf, _few, st.booleans())
_other = st.builds(Other, st.sampled_from("xy"))
_tree = st.builds(
    Tree, st.sampled_from("ab"), _leaf, st.none() | _leaf | _other, st.lists(_leaf, max_size=8).map(tuple), st.sampled_from([0.0, 1, 0.5])
)
_forest = st.builds(
    Forest,
    st.lists(_tree, max_size=9).map(tuple),
    st.lists(_leaf | _other, max_size=12).map(tuple),
    st.lists(from_hint(Outcome), max_size=9).map(tuple),
)


@given(_forest)
def test_whatever_stands_in_a_list_is_read_as_it_was_written(forest: Forest) -> None:
    assert codec.decode_part(Forest, codec.encode_part(forest)) == forest


@given(st.lists(from_hint(Task), max_size=6), st.lists(from_hint(ReplyItem), max_size=8), st.integers(0, 8))
def test_tasks_and_replies_are_read_as_they_were_written(tasks: list[Task], items: list[ReplyItem], twice: int) -> None:
    chunk: Chunk = replace(ex.CHUNK, tasks=(*tasks, *tasks[:1] * twice))
    reply: Reply = replace(ex.REPLY, items=(*items, *items[:1] * twice))
    assert codec.decode(codec.encode(chunk)) == chunk
    assert codec.decode(codec.encode(reply)) == reply


@pytest.mark.parametrize("message", ex.MANY)
def test_messages_with_many_of_a_class_are_read_as_they_were_written(message: Chunk | Reply) -> None:
    assert codec.decode(codec.encode(message)) == message


def test_a_thousand_calls_are_a_few_bytes_each() -> None:
    tasks = tuple(replace(ex.CALL, number=number, deps=()) for number in range(1000))
    assert len(codec.encode(replace(ex.CHUNK, tasks=tasks, isolated=False))) < 1000 * 5


def test_a_hundred_successes_are_a_few_bytes_each() -> None:
    ends = tuple(
        Ended(n, 1, f"boot-{n}", Succeeded(Inline(Encoding.msgpack, b"\xc0")), 1_790_000_000_000, 1_790_000_000_001) for n in range(100)
    )
    assert len(codec.encode(Reply(ex.JOB, "w", "b", ends))) < 100 * 20


def test_none_is_lost_between_others() -> None:
    started = [Started(n, 1, "e", n) for n in range(6)]
    items = (started[0], ex.REPLY.items[1], *started, ex.REPLY.items[2], *started[:2])
    message = replace(ex.REPLY, items=items)
    assert codec.decode(codec.encode(message)) == message


def _tasks(change: Callable[[dict[str, Any]], object]) -> bytes:
    raw: Any = codec.unpack(codec.encode(ex.MANY[0]))
    [columns] = raw["tasks"]
    change(columns)
    return codec.pack(raw)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda raw: raw[":"]["number"].pop(), None),
        (lambda raw: raw[":"].update(number=[]), None),
        (lambda raw: raw[":"].update(attempt=[1]), "columns of the lengths"),
        (lambda raw: raw.pop(":"), "lacks 'number'"),
        (lambda raw: (raw.pop(":"), raw["="].update(number=1)), "columns of the lengths"),
        (lambda raw: raw.update({":": [1]}), "must be a map"),
        (lambda raw: raw[":"].update(number=7), "number must be a list"),
        (lambda raw: raw[":"].update(number=[1, 2, "x", 4, 5, 6]), "must be int"),
        (lambda raw: raw["="].update(work=3), "must be a map"),
        (lambda raw: raw["="].pop("work"), "lacks 'work'"),
        (lambda raw: raw.update({".": {"work": {"=": {"_": []}, ":": {"args": [1, 2, 3, 4, 5, 6]}}}}), "of an unknown kind"),
        (lambda raw: raw.update({".": {"work": {"=": {"_": "nothing"}}}}), "of an unknown kind"),
        (lambda raw: raw.update({".": {"work": 3}}), "must be a map"),
    ],
)
def test_what_is_no_columns_is_refused(change: Callable[[dict[str, Any]], object], problem: str | None) -> None:
    if problem is None:
        decoded = codec.decode(_tasks(change))
        assert isinstance(decoded, Chunk)
        assert len(decoded.tasks) in {0, 5}, "fewer is for others to judge"
    else:
        with pytest.raises(DecodeError, match=problem):
            codec.decode(_tasks(change))


def test_what_a_later_version_adds_is_ignored() -> None:
    body = _tasks(lambda raw: (raw[":"].update(news=[1]), raw["="].update(more=2), raw.update({"!": 3})))
    assert codec.decode(body) == ex.MANY[0]
