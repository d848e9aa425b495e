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
Decoder = Callable[[object], Any]


class _Misfit(Exception):
    """Data that is not of the kind it should be.

    Attributes:
        path: where in the message, such as ``.tasks.work``; put together on the way up, so that what fits costs nothing
        problem: what follows the path in the message
    """

    def __init__(self, problem: str) -> None:
        self.path = ""
        self.problem = problem

    def inside(self, name: str) -> _Misfit:
        """The same, seen from one level higher."""
        self.path = f".{name}{self.path}"
        return self


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
    return cast("Message", _read(_MESSAGE[1], data, "message"))


def encode_part(part: object) -> bytes:
    """The bytes of a class of `messages` or `core` on its own, as kept in the ledger."""
    kind: Any = type(part)
    return pack(_class_codec(kind)[0](part))


def decode_part(kind: type[_Part], data: bytes) -> _Part:
    """What `encode_part` wrote, of this class; `DecodeError` for any other bytes."""
    hashable: Any = kind
    return cast("_Part", _read(_class_codec(hashable)[1], data, kind.__name__))


def _read(decoder: Decoder, data: bytes | memoryview, what: str) -> object:
    try:
        return decoder(unpack(data))
    except _Misfit as misfit:
        raise DecodeError(f"{what}{misfit.path}{misfit.problem}") from misfit.__cause__


def _bad(wanted: str, raw: object) -> _Misfit:
    return _Misfit(f" must be {wanted}, not {type(raw).__name__}")


# --- one codec for each kind of annotation --------------------------------------------------------------------------


def _same(value: object) -> object:
    return value


def _scalar(kind: type) -> tuple[Encoder, Decoder]:
    def read(raw: object) -> object:
        if type(raw) is kind:
            return raw
        if kind is float and type(raw) is int:
            return float(raw)
        raise _bad(kind.__name__, raw)

    return _same, read


def _enum(kind: type[Enum]) -> tuple[Encoder, Decoder]:
    def read(raw: object) -> Enum:
        try:
            return kind(raw)
        except ValueError:
            raise _Misfit(f" cannot be {str(raw)[:100]!r}") from None

    return lambda value: value.value, read


def _sequence(item: object) -> tuple[Encoder, Decoder]:
    write_item, read_item = _codec(item)
    exact = _exact(item)

    def write(value: tuple[object, ...]) -> object:
        return list(value) if write_item is _same else [write_item(part) for part in value]

    def read(raw: object) -> tuple[object, ...]:
        if type(raw) is not list:
            raise _bad("a list", raw)
        return tuple([part if type(part) is exact else read_item(part) for part in raw])

    return write, read


def _record(items: tuple[object, ...]) -> tuple[Encoder, Decoder]:
    codecs = [_codec(item) for item in items]

    def write(value: tuple[object, ...]) -> object:
        return [encoder(part) for (encoder, _), part in zip(codecs, value, strict=True)]

    def read(raw: object) -> tuple[object, ...]:
        if type(raw) is not list or len(raw) != len(codecs):
            raise _bad(f"a list of {len(codecs)}", raw)
        return tuple([decoder(part) for (_, decoder), part in zip(codecs, raw, strict=True)])

    return write, read


def _mapping(item: object) -> tuple[Encoder, Decoder]:
    write_item, read_item = _codec(item)

    def write(value: Mapping[str, object]) -> object:
        return {key: write_item(part) for key, part in value.items()}

    def read(raw: object) -> dict[str, object]:
        if type(raw) is not dict:
            raise _bad("a map", raw)
        result: dict[str, object] = {}
        for key, part in raw.items():
            if type(key) is not str:
                raise _Misfit(" must have texts as keys")
            try:
                result[key] = read_item(part)
            except _Misfit as misfit:
                raise misfit.inside(key[:40]) from misfit.__cause__
        return result

    return write, read


def _union(options: tuple[object, ...]) -> tuple[Encoder, Decoder]:
    """Classes are told apart by their tag, everything else by its type."""
    tagged: list[Any] = [option for option in options if is_dataclass(option)]
    others = [_codec(option) for option in options if not is_dataclass(option)]
    exact = frozenset(kind for option in options if (kind := _exact(option)) is not None)
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

    def read(raw: object) -> object:
        if type(raw) in exact:
            return raw
        if type(raw) is dict and readers:
            tag = raw.get(_KIND)
            reader = readers.get(tag) if isinstance(tag, str) else None
            if reader is None:
                raise _Misfit(f" is of an unknown kind: {str(tag)[:100]!r}")
            try:
                return reader(raw)
            except _Misfit as misfit:
                raise misfit.inside(str(tag)) from misfit.__cause__
        problem: _Misfit | None = None
        for _, decoder in others:
            try:
                return decoder(raw)
            except _Misfit as misfit:
                problem = misfit
        raise problem or _bad("a map", raw)

    return write, read


@cache
def _class_codec(kind: Any) -> tuple[Encoder, Decoder]:
    hints = get_type_hints(kind, None, _NAMES)
    writing: list[tuple[str, object, Encoder]] = []
    reading: list[tuple[str, object, type | None, Decoder]] = []
    for entry in fields(kind):
        default = entry.default
        if default is MISSING and entry.default_factory is not MISSING:
            default = entry.default_factory()
        encoder, decoder = _codec(hints[entry.name])
        writing.append((entry.name, default, encoder))
        reading.append((entry.name, default, _exact(hints[entry.name]), decoder))

    def write(value: object) -> object:
        result: dict[str, object] = {}
        for name, default, encoder in writing:
            part = getattr(value, name)
            if part is not default and (default is MISSING or part != default):
                result[name] = part if encoder is _same else encoder(part)
        return result

    def read(raw: object) -> object:
        if type(raw) is not dict:
            raise _bad("a map", raw)
        parts: list[object] = []
        for name, default, exact, decoder in reading:
            part = raw.get(name, MISSING)
            if part is MISSING:
                if default is MISSING:
                    raise _Misfit(f" lacks {name!r}")
                part = default
            elif type(part) is not exact:
                try:
                    part = decoder(part)
                except _Misfit as misfit:
                    raise misfit.inside(name) from misfit.__cause__
            parts.append(part)
        try:
            return kind(*parts)
        except ValidationError as error:
            raise _Misfit(f": {error}") from error

    return write, read


def _exact(hint: object) -> type | None:
    """The type of which every value is right as it is, where there is one."""
    return hint if isinstance(hint, type) and hint in {str, int, float, bool, bytes, type(None)} else None


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
