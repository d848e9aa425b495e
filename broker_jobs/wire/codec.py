"""Messages to bytes and back: msgpack maps, made from the field types of the classes in `messages`.

A class becomes a map of its fields; fields that hold their default are left out. Where a field may be of several classes,
and at the top, the map says which one under the key ``_``. Decoding is total: any bytes end as a message or as `DecodeError`;
unknown fields are ignored, every known one is checked for its type, down to the leaves.

This is the one module that knows msgpack.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from functools import cache
from typing import Any, Final, TypeVar, Union, cast, get_args, get_origin, get_type_hints

import msgpack

from broker_jobs.core.value import Value
from broker_jobs.errors import DecodeError, ValidationError
from broker_jobs.wire.messages import Message

_KIND: Final = "_"
_UNREADABLE: Final = (ValueError, TypeError, OverflowError, RecursionError, MemoryError, msgpack.UnpackException)
_NAMES: Final = {"Mapping": Mapping, "Value": Value}
"""Names that the annotated modules import for type checkers alone."""

_Part = TypeVar("_Part")

Encoder = Callable[[Any], object]
Decoder = Callable[[object, str], Any]


def pack(value: object) -> bytes:
    """Plain data (None, bool, int, float, str, bytes, list, dict) as msgpack.

    Raises:
        TypeError, ValueError, OverflowError: it is no plain data, or an integer needs more than 64 bits
    """
    return cast("bytes", msgpack.packb(value, strict_types=True, unicode_errors="surrogatepass"))


def unpack(data: bytes | memoryview) -> object:
    """The plain data in these bytes, lists as lists; `DecodeError` where there is none, or more than one."""
    try:
        return msgpack.unpackb(data, raw=False, strict_map_key=False, unicode_errors="surrogatepass")
    except _UNREADABLE as error:
        raise DecodeError(f"not msgpack: {error}") from error


def encode(message: Message) -> bytes:
    """The bytes of a message.

    Raises:
        ValidationError: a number needs more than 64 bits
    """
    try:
        return pack(_MESSAGE[0](message))
    except OverflowError as error:
        raise ValidationError(f"a {type(message).tag} cannot be sent: {error}") from error


def decode(data: bytes | memoryview) -> Message:
    """The message in these bytes; `DecodeError` for any others."""
    return cast("Message", _MESSAGE[1](unpack(data), "message"))


def encode_part(part: object) -> bytes:
    """The bytes of a class of `messages` or `core` on its own, as kept in the ledger."""
    kind: Any = type(part)
    return pack(_class_codec(kind)[0](part))


def decode_part(kind: type[_Part], data: bytes) -> _Part:
    """What `encode_part` wrote, of this class; `DecodeError` for any other bytes."""
    hashable: Any = kind
    return cast("_Part", _class_codec(hashable)[1](unpack(data), kind.__name__))


def _bad(where: str, wanted: str, raw: object) -> DecodeError:
    return DecodeError(f"{where} must be {wanted}, not {type(raw).__name__}")


# --- one codec for each kind of annotation --------------------------------------------------------------------------


def _same(value: object) -> object:
    return value


def _scalar(kind: type) -> tuple[Encoder, Decoder]:
    def read(raw: object, where: str) -> object:
        if type(raw) is kind:
            return raw
        if kind is float and type(raw) is int:
            return float(raw)
        raise _bad(where, kind.__name__, raw)

    return _same, read


def _enum(kind: type[Enum]) -> tuple[Encoder, Decoder]:
    def read(raw: object, where: str) -> Enum:
        try:
            return kind(raw)
        except ValueError:
            raise DecodeError(f"{where} cannot be {str(raw)[:100]!r}") from None

    return lambda value: value.value, read


def _sequence(item: object) -> tuple[Encoder, Decoder]:
    write_item, read_item = _codec(item)

    def write(value: tuple[object, ...]) -> object:
        return list(value) if write_item is _same else [write_item(part) for part in value]

    def read(raw: object, where: str) -> tuple[object, ...]:
        if type(raw) is not list:
            raise _bad(where, "a list", raw)
        return tuple([read_item(part, where) for part in raw])

    return write, read


def _record(items: tuple[object, ...]) -> tuple[Encoder, Decoder]:
    codecs = [_codec(item) for item in items]

    def write(value: tuple[object, ...]) -> object:
        return [encoder(part) for (encoder, _), part in zip(codecs, value, strict=True)]

    def read(raw: object, where: str) -> tuple[object, ...]:
        if type(raw) is not list or len(raw) != len(codecs):
            raise _bad(where, f"a list of {len(codecs)}", raw)
        return tuple([decoder(part, where) for (_, decoder), part in zip(codecs, raw, strict=True)])

    return write, read


def _mapping(item: object) -> tuple[Encoder, Decoder]:
    write_item, read_item = _codec(item)

    def write(value: Mapping[str, object]) -> object:
        return {key: write_item(part) for key, part in value.items()}

    def read(raw: object, where: str) -> dict[str, object]:
        if type(raw) is not dict:
            raise _bad(where, "a map", raw)
        if any(type(key) is not str for key in raw):
            raise DecodeError(f"{where} must have texts as keys")
        return {key: read_item(part, f"{where}.{key[:40]}") for key, part in raw.items()}

    return write, read


def _union(options: tuple[object, ...]) -> tuple[Encoder, Decoder]:
    """Classes are told apart by their tag, everything else by its type."""
    tagged: list[Any] = [option for option in options if is_dataclass(option)]
    others = [_codec(option) for option in options if not is_dataclass(option)]
    writers: dict[type, tuple[str, Encoder]] = {kind: (kind.tag, _class_codec(kind)[0]) for kind in tagged}
    readers: dict[str, Decoder] = {kind.tag: _class_codec(kind)[1] for kind in tagged}

    def write(value: object) -> object:
        known = writers.get(type(value))
        if known is None:
            # At most one of our unions' other options needs writing: a tuple, a mapping or an enumeration.
            for encoder, _ in others:
                if encoder is not _same and value is not None and not isinstance(value, str | int | float | bytes):
                    return encoder(value)
            return value.value if isinstance(value, Enum) else value
        tag, encoder = known
        return {_KIND: tag, **cast("dict[str, object]", encoder(value))}

    def read(raw: object, where: str) -> object:
        if type(raw) is dict and readers:
            tag = raw.get(_KIND)
            reader = readers.get(tag) if isinstance(tag, str) else None
            if reader is None:
                raise DecodeError(f"{where} is of an unknown kind: {str(tag)[:100]!r}")
            return reader(raw, f"{where}.{tag}")
        problem: DecodeError | None = None
        for _, decoder in others:
            try:
                return decoder(raw, where)
            except DecodeError as error:
                problem = error
        raise problem or _bad(where, "a map", raw)

    return write, read


@cache
def _class_codec(kind: Any) -> tuple[Encoder, Decoder]:
    hints = get_type_hints(kind, None, _NAMES)
    plan: list[tuple[str, object, Encoder, Decoder]] = []
    for entry in fields(kind):
        default = entry.default
        if default is MISSING and entry.default_factory is not MISSING:
            default = entry.default_factory()
        plan.append((entry.name, default, *_codec(hints[entry.name])))

    def write(value: object) -> object:
        result: dict[str, object] = {}
        for name, default, encoder, _ in plan:
            part = getattr(value, name)
            if part is not default and (default is MISSING or part != default):
                result[name] = encoder(part)
        return result

    def read(raw: object, where: str) -> object:
        if type(raw) is not dict:
            raise _bad(where, "a map", raw)
        given: dict[str, object] = {}
        for name, default, _, decoder in plan:
            if name in raw:
                given[name] = decoder(raw[name], f"{where}.{name}")
            elif default is MISSING:
                raise DecodeError(f"{where} lacks {name!r}")
        try:
            return kind(**given)
        except ValidationError as error:
            raise DecodeError(f"{where}: {error}") from error

    return write, read


@cache
def _codec(hint: Any) -> tuple[Encoder, Decoder]:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in {Union, types.UnionType}:
        return _union(arguments)
    if origin is tuple:
        return _sequence(arguments[0]) if arguments[1:] == (...,) else _record(arguments)
    if origin is Mapping:
        return _mapping(arguments[1])
    if isinstance(hint, type):
        if is_dataclass(hint):
            return _class_codec(hint)
        if issubclass(hint, Enum):
            return _enum(hint)
        return _scalar(hint)
    raise TypeError(f"no codec for fields of type {hint!r}")


_MESSAGE: Final = _codec(Message)
