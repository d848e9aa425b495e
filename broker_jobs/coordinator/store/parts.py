"""Parts of messages as columns: the bytes of a class, with its tag in front where it may be one of several."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

from broker_jobs.core.outcome import Canceled, Crashed, Failed, Outcome, Succeeded
from broker_jobs.core.value import Inline, Stored, Value
from broker_jobs.errors import DecodeError
from broker_jobs.wire.codec import decode_part, encode_part

if TYPE_CHECKING:
    from collections.abc import Mapping

_Tagged = TypeVar("_Tagged")

_OUTCOMES: Final[Mapping[str, type[Outcome]]] = {kind.tag: kind for kind in (Succeeded, Failed, Canceled, Crashed)}
_VALUES: Final[Mapping[str, type[Value]]] = {kind.tag: kind for kind in (Inline, Stored)}


def dump_outcome(outcome: Outcome) -> bytes:
    """An outcome as a column."""
    return outcome.tag.encode() + b"\0" + encode_part(outcome)


def load_outcome(data: bytes) -> Outcome:
    """What `dump_outcome` wrote; `DecodeError` for any other bytes."""
    return _load(_OUTCOMES, data)


def dump_value(value: Value) -> bytes:
    """A value as a column."""
    return value.tag.encode() + b"\0" + encode_part(value)


def load_value(data: bytes) -> Value:
    """What `dump_value` wrote; `DecodeError` for any other bytes."""
    return _load(_VALUES, data)


def _load(kinds: Mapping[str, type[_Tagged]], data: bytes) -> _Tagged:
    tag, _, part = data.partition(b"\0")
    kind = kinds.get(tag.decode(errors="replace"))
    if kind is None:
        raise DecodeError(f"the ledger holds a part of an unknown kind: {tag[:40]!r}")
    return decode_part(kind, part)


def clean(text: str) -> str:
    """A text that a database takes: lone surrogates (of file names that are not UTF-8) and zero bytes are written as escapes."""
    if text.isascii() and "\0" not in text:
        return text
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")
