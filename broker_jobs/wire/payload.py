"""Values and functions of users to bytes and back; only processes that may run user code call the ``load`` half.

A value travels as msgpack where that gives back exactly the same (types and shared parts included), else pickled. Where a task's
argument holds the result of another task, the bytes hold a *place*, which is filled when the arguments are loaded.

This is the one module that knows cloudpickle.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import pickle
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast
from weakref import WeakKeyDictionary

import cloudpickle

from broker_jobs.core.value import INLINE_LIMIT, Encoding, Inline, Pieces
from broker_jobs.errors import DecodeError, UnpicklableError
from broker_jobs.wire import unchanged
from broker_jobs.wire.codec import BULK, is_one_bulk, pack, pack_pieces, unpack
from broker_jobs.wire.messages import Function

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import ModuleType

    from broker_jobs.core.plain import Plain

_SCALARS: Final = frozenset({type(None), bool, int, float, str, bytes})
_NEVER_BULK: Final = _SCALARS - {bytes}
_BYTES: Final = 0
"""Stands among the ids of containers that were seen, where one of them holds bytes; no object has it."""
_DEEPEST: Final = 100
_LONGEST_REPR: Final = 80
_registering = threading.Lock()
_pickled_before: WeakKeyDictionary[Callable[..., object], tuple[unchanged.Parts, tuple[str, Function]]] = WeakKeyDictionary()


@dataclass(frozen=True, slots=True)
class Place:
    """Where a value goes that is not there yet.

    Attributes:
        index: which of the inputs
        count: a list of so many inputs from `index` on, instead of one
        path: keys and indices to go down into the value
    """

    index: int
    count: int | None = None
    path: tuple[object, ...] = ()

    def fill(self, inputs: Sequence[object]) -> object:
        """What belongs here."""
        value: Any = inputs[self.index] if self.count is None else list(inputs[self.index : self.index + self.count])
        for key in self.path:
            value = value[key]
        return value


def dump(value: object, by_value: Sequence[ModuleType] = ()) -> Inline:
    """A value as bytes; `UnpicklableError`, which names its type and the reason, where that is impossible.

    Classes of the modules `by_value` travel with it.
    """
    return dump_pieces(value, by_value).joined()


def dump_pieces(value: object, by_value: Sequence[ModuleType] = ()) -> Inline | Pieces:
    """As `dump`; one that is large stays in pieces."""
    seen: set[int] = set()
    small = type(value) in _NEVER_BULK
    if small or _is_plain(value, seen, 0):
        try:
            return Inline(Encoding.msgpack, pack(value)) if small else _packed(value, seen)
        except (OverflowError, ValueError):
            pass  # an integer of more than 64 bits: pickle takes it
    with _shipped(by_value):
        return _large(Encoding.pickle, _pickled(value, None))


def dump_plain(value: Plain) -> Inline:
    """Plain data as bytes, never pickled; what stands in two places is written twice."""
    return Inline(Encoding.msgpack, pack(value))


def load(value: Inline | Pieces) -> object:
    """The value in these bytes. Runs code of whoever made them: check the signature first."""
    if isinstance(value, Pieces):
        if value.encoding is Encoding.msgpack and is_one_bulk(value.pieces[0], value.size):
            return value.pieces[1]
        value = value.joined()
    if value.encoding is Encoding.msgpack:
        return unpack(value.data)
    return pickle.loads(value.data)  # noqa: S301 (signed; see the module docstring)


def dump_call(
    args: Sequence[object],
    kwargs: dict[str, object],
    place_of: Callable[[object], Place | None] | None = None,
    by_value: Sequence[ModuleType] = (),
) -> Inline:
    """The arguments of a call as bytes.

    Args:
        args: positional arguments
        kwargs: keyword arguments
        place_of: the place for an object that stands for the result of another task, and None for every other object; None where no
            object does
        by_value: modules whose classes travel with the arguments

    Raises:
        UnpicklableError: an argument cannot be sent; the text says which
    """
    return dump_call_pieces(args, kwargs, place_of, by_value).joined()


def dump_call_pieces(
    args: Sequence[object],
    kwargs: dict[str, object],
    place_of: Callable[[object], Place | None] | None = None,
    by_value: Sequence[ModuleType] = (),
) -> Inline | Pieces:
    """As `dump_call`; arguments that are large stay in pieces."""
    pair = [list(args), kwargs]
    seen: set[int] = set()
    small = not kwargs and _NEVER_BULK.issuperset(map(type, args))
    if small or _is_plain(pair, seen, 0):
        try:
            return Inline(Encoding.msgpack, pack(pair)) if small else _packed(pair, seen)
        except (OverflowError, ValueError):
            pass
    with _shipped(by_value):
        try:
            return _large(Encoding.pickle, _pickled(pair, place_of))
        except UnpicklableError as error:
            for name, value in _named(args, kwargs):
                try:
                    _pickled(value, place_of)
                except UnpicklableError as cause:
                    raise UnpicklableError(f"{name}: {cause}") from cause
            raise error from error.__cause__


def load_call(args: Inline, inputs: Sequence[object]) -> tuple[list[Any], dict[str, Any]]:
    """Positional and keyword arguments, with the inputs in their places."""
    pair = unpack(args.data) if args.encoding is Encoding.msgpack else _Unpickler(io.BytesIO(args.data), inputs).load()
    match pair:
        case [list() as positional, dict() as keywords]:
            return positional, keywords
        case _:
            raise DecodeError("these are not the arguments of a call")


def dump_function(function: Callable[..., object], by_value: Sequence[ModuleType] = ()) -> tuple[str, Function]:
    """A function as bytes, with the hash that names it.

    Functions of importable modules travel as a name; those of ``__main__``, lambdas, closures and functions of the modules
    `by_value` travel whole. One that cannot have changed since it was pickled is not pickled again.

    Raises:
        UnpicklableError: it holds something that cannot be sent
    """
    parts = None if by_value or cloudpickle.list_registry_pickle_by_value() else unchanged.parts(function)
    if parts is not None:
        before, pickled = _pickled_before.get(function, (None, None))
        if before is not None and pickled is not None and unchanged.same(before, parts):
            return pickled
    name = getattr(function, "__qualname__", None) or type(function).__qualname__
    module = getattr(function, "__module__", None) or ""
    with _shipped(by_value):
        try:
            data = b"".join(_pickled(function, None))
        except UnpicklableError as error:
            raise UnpicklableError(f"function {name!r}: {error}") from error
    made = hashlib.sha256(data).hexdigest(), Function(name, module, data)
    if parts is not None and len(data) <= INLINE_LIMIT:
        _pickled_before[function] = parts, made
    return made


def travels_whole(data: bytes) -> bool:
    """Whether a function travels as bytecode, which other versions of Python cannot run, and not as a name."""
    return b"_make_function" in data


def load_function(data: bytes) -> Callable[..., Any]:
    """The function in these bytes. Runs code of whoever made them: check the signature first."""
    return cast("Callable[..., Any]", pickle.loads(data))  # noqa: S301 (signed; see the module docstring)


@contextlib.contextmanager
def _shipped(by_value: Sequence[ModuleType]) -> Iterator[None]:
    """Let the functions and classes of these modules travel whole; cloudpickle keeps that for the whole process."""
    if not by_value:
        yield
        return
    with _registering:
        for module in by_value:
            cloudpickle.register_pickle_by_value(module)
        try:
            yield
        finally:
            for module in by_value:
                cloudpickle.unregister_pickle_by_value(module)


def _named(args: Sequence[object], kwargs: dict[str, object]) -> Iterator[tuple[str, object]]:
    """Arguments with what to call them in an error."""
    for number, value in enumerate(args, 1):
        yield f"argument {number}", value
    for name, value in kwargs.items():
        yield f"argument {name!r}", value


def _is_plain(value: object, seen: set[int], depth: int) -> bool:
    """Whether msgpack gives back exactly this: plain types, no container in two places, not too deep."""
    kind = type(value)
    if kind in _SCALARS:
        return True
    if kind is list:
        parts: list[object] = value  # type: ignore[assignment]  # mypy does not narrow by `type(x) is`
    elif kind is dict:
        mapping: dict[object, object] = value  # type: ignore[assignment]  # as above
        if not {type(key) for key in mapping} <= {str, int, bytes}:
            return False
        parts = list(mapping.values())
    else:
        return False
    if id(value) in seen or depth > _DEEPEST:
        return False
    seen.add(id(value))
    kinds = set(map(type, parts))
    if bytes in kinds:
        seen.add(_BYTES)
    if kinds <= _SCALARS:
        return True
    return kinds <= _SCALARS | {list, dict} and all(_is_plain(part, seen, depth + 1) for part in parts if type(part) not in _SCALARS)


def _packed(value: object, seen: set[int]) -> Inline | Pieces:
    """Plain data; what was seen in it says whether it may be worth the search for large bytes."""
    if (_BYTES in seen or type(value) is bytes) and _holds_bulk(value):
        return Pieces(Encoding.msgpack, tuple(pack_pieces(value)))
    return Inline(Encoding.msgpack, pack(value))


def _holds_bulk(value: object) -> bool:
    kind = type(value)
    if kind is bytes:
        return len(cast("bytes", value)) > BULK
    parts = cast("list[object]", value) if kind is list else cast("dict[object, object]", value).values() if kind is dict else ()
    return any(_holds_bulk(part) for part in parts if type(part) not in _NEVER_BULK)


def _large(encoding: Encoding, pieces: Sequence[bytes]) -> Inline | Pieces:
    """In pieces, where that is large."""
    if sum(map(len, pieces)) > INLINE_LIMIT:
        return Pieces(encoding, tuple(pieces))
    return Inline(encoding, b"".join(pieces))


class _Pieces(list[bytes]):
    """A file for pickle, which writes large objects as they are."""

    def write(self, piece: bytes | bytearray | memoryview | pickle.PickleBuffer) -> None:
        # What can change is copied: it is sent as it is now.
        self.append(piece if type(piece) is bytes else bytes(piece.raw() if isinstance(piece, pickle.PickleBuffer) else piece))


def _pickled(value: object, place_of: Callable[[object], Place | None] | None) -> list[bytes]:
    pieces = _Pieces()
    try:
        (cloudpickle.Pickler(pieces) if place_of is None else _Pickler(pieces, place_of)).dump(value)
    except Exception as error:
        # Pickling calls methods of the user's objects, which may raise anything.
        raise UnpicklableError(f"{_described(value)} cannot be sent to another process: {type(error).__name__}: {error}") from error
    return pieces


def _described(value: object) -> str:
    """A value for an error message: its type, and a short repr where it has one."""
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 (the repr is the user's code, too)
        text = "…"
    return f"{type(value).__name__} {text if len(text) <= _LONGEST_REPR else text[: _LONGEST_REPR - 1] + '…'}"


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle has no types
    """Writes a place wherever an object stands for the result of another task."""

    def __init__(self, pieces: _Pieces, place_of: Callable[[object], Place | None]) -> None:
        super().__init__(pieces)
        self._place_of = place_of

    def persistent_id(self, obj: object) -> tuple[int, int | None, tuple[object, ...]] | None:
        place = self._place_of(obj)
        return None if place is None else (place.index, place.count, place.path)


class _Unpickler(pickle.Unpickler):
    """Fills the places."""

    def __init__(self, buffer: io.BytesIO, inputs: Sequence[object]) -> None:
        super().__init__(buffer)
        self._inputs = inputs

    def persistent_load(self, pid: Any) -> object:
        return Place(*pid).fill(self._inputs)
