"""Messages to bytes and back: msgpack maps, made from the field types of the classes in `messages`.

A class becomes a map of its fields; fields that hold their default are left out. Where a field may be of several classes,
and at the top, the map says which one under the key ``_``. Decoding is total: any bytes end as a message or as `DecodeError`;
unknown fields are ignored, every known one is checked for its type, down to the leaves.

This is the one module that knows msgpack; how a class becomes a map, and again a class, is in `compiled`.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

import msgpack

from broker_jobs.errors import DecodeError, ValidationError
from broker_jobs.wire.compiled import Codec, Decoder, Misfit, codec

if TYPE_CHECKING:
    from broker_jobs.wire.messages import Message

_UNREADABLE: Final = (ValueError, TypeError, OverflowError, RecursionError, MemoryError, msgpack.UnpackException)
_LARGE: Final = 256 * 1024
BULK: Final = 64 * 1024
"""Bytes up to this many are quicker copied than kept apart."""
HEAD: Final = 5
"""Bytes of msgpack that stand before such bytes, and say how many they are."""
_LARGEST_BYTES: Final = 2**32 - 1
_HOLDING: Final = frozenset({bytes, list, dict})
_spare: list[msgpack.Packer] = []
"""Packers that are not at work, at most as many as ever were at a time: what a new one costs is more than a small message."""

_Part = TypeVar("_Part")


def pack(value: object) -> bytes:
    """Plain data (None, bool, int, float, str, bytes, list, dict) as msgpack.

    Raises:
        TypeError, ValueError, OverflowError: it is no plain data, or an integer needs more than 64 bits
    """
    try:
        packer = _spare.pop()
    except IndexError:
        packer = msgpack.Packer(strict_types=True)
    try:
        data = cast("bytes", packer.pack(value))
    except UnicodeEncodeError:
        # Half of a surrogate pair, as in a file name that is no text. It is not asked for at first, since all texts take longer then.
        return cast("bytes", msgpack.packb(value, strict_types=True, unicode_errors="surrogatepass"))
    if len(data) <= _LARGE:
        _spare.append(packer)
    return data


def pack_pieces(value: object) -> list[bytes]:
    """What `pack` gives, in pieces: bytes larger than `BULK` are pieces themselves, and are not copied. Raises what `pack` does."""
    pieces: list[bytes] = []
    packer = msgpack.Packer(strict_types=True, unicode_errors="surrogatepass", autoreset=False)
    _pack_pieces(value, packer, pieces)
    pieces.append(packer.bytes())
    return pieces


def _pack_pieces(value: object, packer: msgpack.Packer, pieces: list[bytes]) -> None:
    kind = type(value)
    if kind is bytes and len(value) > BULK:  # type: ignore[arg-type]  # mypy does not narrow by `type(x) is`
        bulk = cast("bytes", value)
        if len(bulk) > _LARGEST_BYTES:
            raise ValueError("msgpack has no bytes of 4 GiB")
        pieces += (packer.bytes() + _head(len(bulk)), bulk)
        packer.reset()
    elif kind is list and not _HOLDING.isdisjoint(map(type, cast("list[object]", value))):
        parts = cast("list[object]", value)
        packer.pack_array_header(len(parts))
        for part in parts:
            _pack_pieces(part, packer, pieces)
    elif kind is dict:
        mapping = cast("dict[object, object]", value)
        packer.pack_map_header(len(mapping))
        for key, part in mapping.items():
            packer.pack(key)
            _pack_pieces(part, packer, pieces)
    else:
        packer.pack(value)


def is_one_bulk(head: bytes, size: int) -> bool:
    """Whether data of so many bytes that begin so is one bytes object, larger than `BULK`: the rest."""
    return BULK + HEAD < size <= _LARGEST_BYTES + HEAD and head == _head(size - HEAD)


def _head(size: int) -> bytes:
    return b"\xc6" + size.to_bytes(4, "big")


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
        return pack(_message().write(message))
    except OverflowError as error:
        raise ValidationError(f"a {type(message).tag} cannot be sent: {error}") from error


def decode(data: bytes | memoryview) -> Message:
    """The message in these bytes; `DecodeError` for any others."""
    return cast("Message", _read(_message().read, data, "message"))


def encode_part(part: object) -> bytes:
    """The bytes of a class of `messages` or `core` on its own, as kept in the ledger."""
    kind: Any = type(part)
    return pack(codec(kind).write(part))


def decode_part(kind: type[_Part], data: bytes) -> _Part:
    """What `encode_part` wrote, of this class; `DecodeError` for any other bytes."""
    hashable: Any = kind
    return cast("_Part", _read(codec(hashable).read, data, kind.__name__))


def _read(decoder: Decoder, data: bytes | memoryview, what: str) -> object:
    try:
        return decoder(unpack(data))
    except Misfit as misfit:
        raise DecodeError(f"{what}{misfit.path}{misfit.problem}") from misfit.__cause__


@cache
def _message() -> Codec:
    """For whatever travels. A guardian meets none of it, and does not load it."""
    from broker_jobs.wire.messages import Message

    return codec(Message)
