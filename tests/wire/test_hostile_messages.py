"""A message that is changed anywhere ends as a message whose every field is of its type, or as one error."""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any, Union, get_args, get_origin, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker_jobs.core.value import Value
from broker_jobs.errors import DecodeError
from broker_jobs.wire import codec, messages
from tests.support.strategies import from_hint

NAMES = {"Mapping": Mapping, "Value": Value}

plain: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(max_size=5) | st.binary(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5) | st.integers(0, 9), inner, max_size=3),
    max_leaves=5,
)


def conforms(value: object, hint: Any) -> bool:
    """Whether a value is what an annotation says, all the way down."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in {Union, types.UnionType}:
        return any(conforms(value, option) for option in arguments)
    if origin is tuple and isinstance(value, tuple):
        parts: tuple[Any, ...] = arguments[:1] * len(value) if arguments[1:] == (...,) else arguments
        return len(parts) == len(value) and all(map(conforms, value, parts))
    if origin is Mapping:
        return isinstance(value, dict) and all(type(key) is str and conforms(part, arguments[1]) for key, part in value.items())
    if type(value) is not hint:
        return False
    hints = get_type_hints(hint, None, NAMES) if is_dataclass(hint) else {}
    return all(conforms(getattr(value, entry.name), hints[entry.name]) for entry in (fields(hint) if is_dataclass(hint) else ()))


def places(raw: object) -> Iterator[tuple[Any, Any]]:
    """Every container in a piece of plain data, with every key of it."""
    items = raw.items() if isinstance(raw, dict) else enumerate(raw) if isinstance(raw, list) else ()
    for key, part in items:
        yield raw, key
        yield from places(part)


@given(from_hint(messages.Message), st.data())
def test_a_change_anywhere_ends_as_a_message_or_as_decode_error(message: messages.Message, data: st.DataObject) -> None:
    raw = codec.unpack(codec.encode(message))
    container, key = data.draw(st.sampled_from(list(places(raw))))
    if isinstance(container, dict) and data.draw(st.booleans()):
        container[data.draw(st.integers(0, 9))] = container.pop(key)
    else:
        container[key] = data.draw(plain)
    try:
        decoded = codec.decode(codec.pack(raw))
    except DecodeError:
        return
    assert conforms(decoded, messages.Message)


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ({"amounts": [["cpus", -1]]}, "amounts must be positive"),
        ({"amounts": [["memory", 1], ["cpus", 1]]}, "amounts must be positive"),
        ({"amounts": [["cpus", 1, 1]]}, "must be a list of 2"),
        ({"amounts": {"cpus": 1}}, "must be a list"),
    ],
)
def test_what_a_core_refuses_is_a_decode_error(field: object, wrong: str) -> None:
    hello = {"_": "hello", "worker": "w", "boot": "b", "host": "h", "pid": 1, "version": "1", "free": {}, "resources": field}
    with pytest.raises(DecodeError, match=wrong):
        codec.decode(codec.pack(hello))


@pytest.mark.parametrize("workers", [[], ["w", "v", "w"]])
def test_a_team_has_members_each_once(workers: list[str]) -> None:
    members = [{"worker": name, "boot": "b", "host": "h"} for name in workers]
    team = {"_": "team", "name": "t", "resource_class": "c", "lane": "normal", "members": members}
    with pytest.raises(DecodeError, match=r"message\.team asked\.team\.team: a team has members, each once"):
        codec.decode(codec.pack({"_": "team asked", "worker": "w", "boot": "b", "team": team}))


def test_keys_of_maps_are_texts() -> None:
    info = {"job": "", "name": "", "state": "running", "version": 1, "submitted_ms": 1, "counts": {1: 1}}
    with pytest.raises(DecodeError, match="must have texts as keys"):
        codec.decode(codec.pack({"_": "job news", "info": info}))


def test_a_value_that_an_enumeration_lacks_is_said_with_its_place() -> None:
    info = {"job": "", "name": "", "state": "sleeping", "version": 1, "submitted_ms": 1}
    with pytest.raises(DecodeError, match=r"message\.job news\.info\.state cannot be 'sleeping'"):
        codec.decode(codec.pack({"_": "job news", "info": info}))
