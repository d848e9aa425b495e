"""Values of users: msgpack where nothing changes, else pickle; places are filled wherever they stand."""

from __future__ import annotations

import collections
import pickle
import threading
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker_jobs.core.value import INLINE_LIMIT, Encoding, Inline, Pieces
from broker_jobs.errors import DecodeError, UnpicklableError
from broker_jobs.wire import payload
from broker_jobs.wire.codec import BULK, pack, pack_pieces
from broker_jobs.wire.payload import Place

_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(st.characters(), max_size=8) | st.binary(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=3) | st.integers() | st.booleans(), inner, max_size=3)
        | st.frozensets(st.integers(), max_size=3)
    ),
    max_leaves=20,
)


def _same(left: Any, right: Any) -> bool:
    """Equal, with the same types everywhere."""
    if type(left) is not type(right) or left != right:
        return False
    if isinstance(left, list | tuple):
        return all(map(_same, left, right))
    if isinstance(left, dict):
        return all(_same(a, b) for pair in zip(left.items(), right.items(), strict=True) for a, b in zip(*pair, strict=True))
    return True


@given(_values)
def test_values_come_back_exactly(value: object) -> None:
    assert _same(payload.load(payload.dump(value)), value)


class Number(int):
    """A subclass that msgpack would flatten."""


@pytest.mark.parametrize(
    "value",
    [(1, 2), bytearray(b"x"), memoryview(b"x").tobytes(), 2**70, {1.5: 1}, {True: 1}, Number(3), collections.OrderedDict(a=1), {1, 2}],
)
def test_types_that_msgpack_would_change_survive(value: object) -> None:
    back = payload.load(payload.dump(value))
    assert type(back) is type(value)
    assert back == value


def test_plain_values_need_no_pickle() -> None:
    for value in (None, 1, "a", b"b", 1.5, [1, [2, {"a": None}]], {"a": [1], 2: "b"}):
        assert payload.dump(value).encoding is Encoding.msgpack


BULKY = b"x" * (BULK + 1)


def _with_bulk() -> list[object]:
    return [
        BULKY,
        [BULKY, 1, BULKY],
        {"a": [BULKY, {2: BULKY, b"k": "v"}], "b": [1, 2], "c": b"small"},
        [[1, 2], {}, [], BULKY, "\udc80", b""],
        bytes(BULK),
    ]


@pytest.mark.parametrize("value", _with_bulk())
def test_plain_values_in_pieces_are_the_same_bytes(value: object) -> None:
    assert b"".join(pack_pieces(value)) == pack(value)
    assert payload.dump(value) == Inline(Encoding.msgpack, pack(value))
    assert _same(payload.load(payload.dump(value)), value)
    assert _same(payload.load(payload.dump_pieces(value)), value)


def test_bytes_that_msgpack_has_not_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("broker_jobs.wire.codec._LARGEST_BYTES", BULK)
    with pytest.raises(ValueError, match="4 GiB"):
        pack_pieces([BULKY])
    assert payload.dump([BULKY]).encoding is Encoding.pickle
    assert payload.load(payload.dump([BULKY])) == [BULKY]


@pytest.mark.parametrize("value", [BULKY, [1, BULKY], (BULKY, 1), {BULKY}, {"a": (BULKY,)}])
def test_large_bytes_are_not_copied(value: object) -> None:
    for found in (payload.dump_pieces(value), payload.dump_call_pieces((1, value), {}), payload.dump_call_pieces((), {"x": value})):
        assert isinstance(found, Pieces)
        assert any(piece is BULKY for piece in found.pieces)
        assert found.size == found.joined().size > BULK


class Array:
    """Pickled as arrays are: by its buffer."""

    def __init__(self, data: bytearray | memoryview | bytes) -> None:
        self.data = data

    def __reduce_ex__(self, protocol: object) -> tuple[type[Array], tuple[pickle.PickleBuffer]]:
        return Array, (pickle.PickleBuffer(self.data),)


def test_what_can_change_is_sent_as_it_was() -> None:
    data = bytearray(BULKY)
    for value in (data, Array(data), Array(memoryview(data).toreadonly())):
        sent = payload.dump_pieces(value)
        assert isinstance(sent, Pieces)
        data[0] = 0
        back: Any = payload.load(sent.joined())
        assert bytes(back.data if isinstance(back, Array) else back) == BULKY
        data[0] = BULKY[0]


def test_the_columns_of_a_buffer_keep_their_order() -> None:
    grid = memoryview(bytearray(range(256)) * (BULK // 64)).cast("B", (BULK // 16, 64))
    back: Any = payload.load(payload.dump(Array(grid)))
    assert bytes(back.data) == grid.tobytes()


def test_what_is_small_is_in_one_piece() -> None:
    for value in (b"x" * 100, (1, 2), [b"x"] * 100):
        assert isinstance(payload.dump_pieces(value), Inline)
    assert isinstance(payload.dump_pieces(("x" * INLINE_LIMIT, 1)), Pieces)


def test_shared_parts_stay_shared_and_circles_stay_circles() -> None:
    shared: list[Any] = [1]
    back: Any = payload.load(payload.dump([shared, shared]))
    assert back[0] is back[1]
    shared.append(shared)
    circle: Any = payload.load(payload.dump(shared))
    assert circle[1] is circle


@dataclass
class Result:
    """Stands for the result of another task."""

    index: int
    path: tuple[object, ...] = ()


@dataclass
class Holder:
    """Somebody's own class."""

    inside: object


def _place(value: object) -> Place | None:
    return Place(value.index, None, value.path) if isinstance(value, Result) else None


def test_places_are_filled_at_any_depth() -> None:
    args = (Result(0), [Result(1), {"k": Result(0, ("a", 1))}], Holder((Result(1),)))
    positional, keywords = payload.load_call(payload.dump_call(args, {"x": Result(1)}, _place), [{"a": [5, 6]}, "second"])
    assert positional == [{"a": [5, 6]}, ["second", {"k": 6}], Holder(("second",))]
    assert keywords == {"x": "second"}


def test_a_place_for_several_inputs_is_their_list() -> None:
    assert Place(1, 2).fill(["a", "b", "c", "d"]) == ["b", "c"]


def test_an_argument_that_cannot_be_sent_is_named() -> None:
    with pytest.raises(UnpicklableError, match=r"argument 2: lock .*cannot be sent"):
        payload.dump_call((1, threading.Lock()), {}, lambda _: None)
    with pytest.raises(UnpicklableError, match=r"argument 'guard': lock .*cannot be sent"):
        payload.dump_call((1,), {"guard": threading.Lock()}, lambda _: None)


def test_a_function_that_cannot_be_sent_is_named() -> None:
    lock = threading.Lock()
    with pytest.raises(UnpicklableError, match=r"function .*<lambda>"):
        payload.dump_function(lambda: lock)


def test_functions_are_named_by_their_bytes() -> None:
    name, function = payload.dump_function(len)
    assert (name, function) == payload.dump_function(len)
    assert payload.load_function(function.data) is len
    assert function.name == "len"


def test_arguments_that_are_none_are_refused() -> None:
    with pytest.raises(DecodeError):
        payload.load_call(payload.dump(3), [])
