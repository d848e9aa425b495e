"""The codec: what is written is read again, and any bytes end as a message or as one error."""

from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker_jobs.core.outcome import Cause, Failed
from broker_jobs.core.spec import TaskOptions
from broker_jobs.errors import DecodeError, ValidationError
from broker_jobs.wire import codec, messages
from tests.support.strategies import from_hint

MESSAGES = from_hint(messages.Message)


@given(MESSAGES)
def test_every_message_survives_the_round_trip(message: messages.Message) -> None:
    assert codec.decode(codec.encode(message)) == message


@given(from_hint(TaskOptions), from_hint(Failed))
def test_parts_survive_on_their_own(options: TaskOptions, failed: Failed) -> None:
    assert codec.decode_part(TaskOptions, codec.encode_part(options)) == options
    assert codec.decode_part(Failed, codec.encode_part(failed)) == failed


@given(st.binary(max_size=200))
def test_any_bytes_end_as_message_or_decode_error(data: bytes) -> None:
    try:
        decoded = codec.decode(data)
    except DecodeError:
        return
    assert isinstance(decoded, get_args(messages.Message))


_plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=5) | st.binary(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)


@given(MESSAGES, st.data())
def test_wrong_types_in_any_field_end_as_decode_error(message: messages.Message, data: st.DataObject) -> None:
    raw = codec.unpack(codec.encode(message))
    assert isinstance(raw, dict)
    raw[data.draw(st.sampled_from(sorted(raw)))] = data.draw(_plain)
    try:
        decoded = codec.decode(codec.pack(raw))
    except DecodeError:
        return
    assert codec.decode(codec.encode(decoded)) == decoded


@given(MESSAGES, st.text(min_size=1, max_size=8), _plain)
def test_unknown_fields_are_ignored(message: messages.Message, name: str, value: object) -> None:
    raw = codec.unpack(codec.encode(message))
    assert isinstance(raw, dict)
    raw["new_in_a_later_version_" + name] = value
    assert codec.decode(codec.pack(raw)) == message


def test_errors_name_the_place() -> None:
    with pytest.raises(DecodeError, match=r"message\.reply\.items\.ended\.outcome\.failed lacks 'message'"):
        codec.decode(
            codec.pack(
                {
                    "_": "reply",
                    "job": "j",
                    "worker": "w",
                    "boot": "b",
                    "items": [
                        {
                            "_": "ended",
                            "task": 1,
                            "attempt": 1,
                            "execution": "x",
                            "started_ms": 1,
                            "ended_ms": 2,
                            "outcome": {"_": "failed", "cause": Cause.error.value},
                        }
                    ],
                }
            )
        )


def test_deep_nesting_is_a_decode_error() -> None:
    with pytest.raises(DecodeError):
        codec.decode(b"\x91" * 100_000)


def test_a_number_over_64_bits_is_refused_before_it_is_sent() -> None:
    with pytest.raises(ValidationError, match="a reply cannot be sent"):
        codec.encode(messages.Reply("j", "w", "b", (messages.Started(1, 2**70, "x", 1),)))


def test_tags_are_distinct() -> None:
    tags = [kind.tag for kind in get_args(messages.Message)]
    assert len(tags) == len(set(tags))
