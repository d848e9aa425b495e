"""What turns fields into plain data and back, for each kind of annotation; for a class, functions that are compiled for it.

Each process writes and reads every field of every task, so a class gets what `dataclasses` gives it for `__init__`: a function made
from source in which its fields stand one after the other. This is `Call`::

    def write(value):
        result = {'function': value.function, 'args': w1[type(value.args)](value.args)}
        part = value.inputs
        if part is not d2 and part != d2:
            result['inputs'] = w2(part)
        part = value.setup
        if part is not d3 and part != d3:
            result['setup'] = w3(part)
        return result

    def read(raw):
        if type(raw) is not dict:
            raise misfit('a map', raw)
        try:
            at = ''
            p0 = raw['function']
            if type(p0) is not str:
                at = 'function'
                p0 = r0(p0)
            p1 = raw['args']
            at = 'args'
            p1 = r1(p1)
            p2 = d2
            if 'inputs' in raw:
                p2 = raw['inputs']
                at = 'inputs'
                p2 = r2(p2)
            p3 = d3
            if 'setup' in raw:
                p3 = raw['setup']
                if type(p3) is not str and p3 is not None:
                    at = 'setup'
                    p3 = r3(p3)
        except KeyError as missing:
            raise Misfit(f' lacks {missing.args[0]!r}') from None
        except Misfit as problem:
            raise problem.inside(at) from problem.__cause__
        made = blank()
        made.function = p0
        made.args = p1
        made.inputs = p2
        made.setup = p3
        made.__class__ = kind
        return made

Here `w1` and `r1` write and read the field with the number 1, and `d2` is the default of the one with the number 2. `tagged` is `write`
once more, and begins with the tag: ``{'_': 'call', …``. A frozen class is slow to make by its own `__init__`, so a `blank` one with the
same slots, which is not frozen, is filled, and becomes one of the class; where the class checks its fields, it is made by its `__init__`.
A class is compiled when it is first met.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from enum import Enum
from functools import cache
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Union, get_args, get_origin, get_type_hints

from broker_jobs.core.many import blank, fits, many
from broker_jobs.core.value import Value
from broker_jobs.errors import ValidationError
from broker_jobs.wire.columns import FEWEST, KIND, Columns, Field, Shape

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

_NAMES: Final = {"Mapping": Mapping, "Value": Value}
"""Names that the annotated modules import for type checkers alone."""

Encoder = Callable[[Any], object]
Decoder = Callable[[object], Any]


class Misfit(Exception):
    """Data that is not of the kind it should be.

    Attributes:
        path: where in the message, such as ``.tasks.work``; put together on the way up, so that what fits costs nothing
        problem: what follows the path in the message
    """

    def __init__(self, problem: str) -> None:
        self.path = ""
        self.problem = problem

    def inside(self, name: str) -> Misfit:
        """The same, seen from one level higher."""
        self.path = f".{name}{self.path}"
        return self


class Codec(NamedTuple):
    """How values of one kind are written and read.

    Attributes:
        by_type: of one of several classes, what `write` chooses from
    """

    write: Encoder
    read: Decoder
    by_type: Mapping[type, Encoder] | None = None


@cache
def codec(hint: Any) -> Codec:
    """The codec for an annotation; `TypeError` where there is none."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in {Union, types.UnionType}:
        return _union(arguments)
    if origin is tuple:
        return _sequence(arguments[0]) if arguments[1:] == (...,) else _record(arguments)
    if origin is Mapping:
        return _mapping(arguments[1])
    if isinstance(hint, type):
        if is_dataclass(hint):
            return Codec(_class(hint).write, _class(hint).read)
        if issubclass(hint, Enum):
            return _enum(hint)
        return _scalar(hint)
    raise TypeError(f"no codec for fields of type {hint!r}")


def _misfit(wanted: str, raw: object) -> Misfit:
    return Misfit(f" must be {wanted}, not {type(raw).__name__}")


def _same(value: object) -> object:
    return value


def _exact(hint: object) -> frozenset[type]:
    """The types of which every value is right as it is."""
    options = get_args(hint) if get_origin(hint) in {Union, types.UnionType} else (hint,)
    return frozenset({str, int, float, bool, bytes, type(None)}.intersection(options))


def _scalar(kind: type) -> Codec:
    def read(raw: object) -> object:
        if type(raw) is kind:
            return raw
        if kind is float and type(raw) is int:
            return float(raw)
        raise _misfit(kind.__name__, raw)

    return Codec(_same, read)


def _enum(kind: type[Enum]) -> Codec:
    members: dict[object, Enum] = {member.value: member for member in kind}

    def read(raw: object) -> Enum:
        try:
            return members[raw]
        except (KeyError, TypeError):
            raise Misfit(f" cannot be {str(raw)[:100]!r}") from None

    return Codec(lambda member: member._value_, read)  # as `value`, which is computed in Python


def _sequence(item: object) -> Codec:
    write_item, read_item, by_type = codec(item)
    exact = _exact(item)
    columns = Columns(_field_of("", item, MISSING), _shape, Misfit) if _classes(item) else None

    def write(value: tuple[object, ...]) -> object:
        if columns is not None and len(value) >= FEWEST:
            return columns.write(value)
        if by_type is not None:
            return [by_type[type(part)](part) for part in value]
        return list(value) if write_item is _same else [write_item(part) for part in value]

    def read(raw: object) -> tuple[object, ...]:
        if type(raw) is not list:
            raise _misfit("a list", raw)
        if columns is not None:
            return columns.read(raw)
        return tuple([part if type(part) in exact else read_item(part) for part in raw] if exact else [read_item(part) for part in raw])

    return Codec(write, read)


def _record(items: tuple[object, ...]) -> Codec:
    codecs = [codec(item) for item in items]

    def write(value: tuple[object, ...]) -> object:
        return [item.write(part) for item, part in zip(codecs, value, strict=True)]

    def read(raw: object) -> tuple[object, ...]:
        if type(raw) is not list or len(raw) != len(codecs):
            raise _misfit(f"a list of {len(codecs)}", raw)
        return tuple([item.read(part) for item, part in zip(codecs, raw, strict=True)])

    return Codec(write, read)


def _mapping(item: object) -> Codec:
    write_item, read_item, _ = codec(item)

    def write(value: Mapping[str, object]) -> object:
        return {key: write_item(part) for key, part in value.items()}

    def read(raw: object) -> dict[str, object]:
        if type(raw) is not dict:
            raise _misfit("a map", raw)
        result: dict[str, object] = {}
        for key, part in raw.items():
            if type(key) is not str:
                raise Misfit(" must have texts as keys")
            try:
                result[key] = read_item(part)
            except Misfit as misfit:
                raise misfit.inside(key[:40]) from misfit.__cause__
        return result

    return Codec(write, read)


def _union(options: tuple[object, ...]) -> Codec:
    """Classes are told apart by their tag, everything else by its type."""
    classes = tuple(option for option in options if is_dataclass(option))
    others = tuple(option for option in options if not is_dataclass(option))
    plain = _plain(others)
    return _tagged(classes, plain) if classes else plain


def _plain(options: tuple[object, ...]) -> Codec:
    """One of several types, none of which is a class of messages."""
    codecs = [codec(option) for option in options]
    exact = frozenset[type]().union(*map(_exact, options))
    # At most one of our unions' options needs writing: a tuple, a mapping or an enumeration.
    encoder = next((option.write for option in codecs if option.write is not _same), _same)

    def write(value: object) -> object:
        if value is None or isinstance(value, str | int | float | bytes):
            return value.value if isinstance(value, Enum) else value
        return encoder(value)

    def read(raw: object) -> object:
        if type(raw) in exact:
            return raw
        problem = _misfit("a map", raw)
        for option in codecs:
            try:
                return option.read(raw)
            except Misfit as misfit:
                problem = misfit
        raise problem

    return Codec(write, read)


class _Writers(dict[type, Encoder]):
    """By class, what writes it with its tag; for any other type, what writes that."""

    def __init__(self, classes: tuple[Any, ...], plain: Encoder) -> None:
        self._classes = classes
        self._plain = plain

    def __missing__(self, kind: type) -> Encoder:
        encoder = self[kind] = _class(kind).tagged if kind in self._classes else self._plain
        return encoder


def _tagged(classes: tuple[Any, ...], plain: Codec) -> Codec:
    """One of several classes, or what `plain` writes and reads."""
    writers = _Writers(classes, plain.write)
    kinds: dict[str, Any] = {kind.tag: kind for kind in classes}
    readers: dict[str, Decoder] = {}

    def read(raw: object) -> object:
        if type(raw) is not dict:
            return plain.read(raw)
        tag = raw.get(KIND)
        decoder = readers.get(tag) if type(tag) is str else None
        if decoder is None:
            if not isinstance(tag, str) or tag not in kinds:
                raise Misfit(f" is of an unknown kind: {str(tag)[:100]!r}")
            decoder = readers[tag] = _class(kinds[tag]).read
        try:
            return decoder(raw)
        except Misfit as misfit:
            raise misfit.inside(str(tag)) from misfit.__cause__

    return Codec(lambda value: writers[type(value)](value), read, writers)


# --- columns --------------------------------------------------------------------------------------------------------


def _classes(hint: Any) -> dict[str, type]:
    """The classes of messages among the types that an annotation allows, by tag."""
    options = get_args(hint) if get_origin(hint) in {Union, types.UnionType} else (hint,)
    return {getattr(option, "tag", ""): option for option in options if is_dataclass(option) and isinstance(option, type)}


def _field_of(name: str, hint: Any, default: object) -> Field:
    known = codec(hint)
    write = None if known.write is _same else known.write
    tagged = get_origin(hint) in {Union, types.UnionType}
    return Field(name, attrgetter(name) if name else _same, write, known.read, _exact(hint), default, _classes(hint), tagged)


@cache
def _shape(kind: Any) -> Shape:
    fields_ = tuple(_field_of(part.name, part.hint, part.default) for part in _fields(kind))
    return Shape(getattr(kind, "tag", ""), fields_, _class(kind).build)


# --- classes --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Field:
    """A field of a class, and what stands for it in source: its number.

    Attributes:
        default: `MISSING` where there is none
    """

    number: int
    name: str
    hint: Any
    default: object

    @property
    def variable(self) -> str:
        """Where it stands when it is read."""
        return f"p{self.number}"

    def written(self, part: str) -> str:
        """The expression for what is written."""
        known = codec(self.hint)
        if known.by_type is not None:
            return f"w{self.number}[type({part})]({part})"
        if isinstance(self.hint, type) and issubclass(self.hint, Enum):
            return f"{part}._value_"
        return part if known.write is _same else f"w{self.number}({part})"

    def writing(self) -> Iterator[str]:
        """The lines that write it, unless it holds its default."""
        yield f"    part = value.{self.name}"
        yield f"    if part is not d{self.number} and part != d{self.number}:"
        yield f"        result[{self.name!r}] = {self.written('part')}"

    def reading(self) -> Iterator[str]:
        """The lines that read it, into a variable."""
        part = self.variable
        indent = " " * 8
        if self.default is not MISSING:
            yield f"{indent}{part} = d{self.number}"
            yield f"{indent}if {self.name!r} in raw:"
            indent += " " * 4
        yield f"{indent}{part} = raw[{self.name!r}]"
        exact = [f"type({part}) is not {kind.__name__}" if kind is not type(None) else f"{part} is not None" for kind in _exact(self.hint)]
        if exact:
            yield f"{indent}if {' and '.join(sorted(exact, reverse=True))}:"
            indent += " " * 4
        yield f"{indent}at = {self.name!r}"
        yield f"{indent}{part} = r{self.number}({part})"


class _Compiled(NamedTuple):
    """What was compiled for a class; `tagged` is for where a map has to say which class it is, `build` for columns."""

    write: Encoder
    tagged: Encoder
    read: Decoder
    build: Callable[[Sequence[Iterable[object]]], list[Any]]


@cache
def _class(kind: Any) -> _Compiled:
    parts = _fields(kind)
    names: dict[str, Any] = {"Misfit": Misfit, "ValidationError": ValidationError, "misfit": _misfit, "kind": kind}
    for part in parts:
        known = codec(part.hint)
        writer = known.write if known.by_type is None else known.by_type
        names |= {f"d{part.number}": part.default, f"w{part.number}": writer, f"r{part.number}": known.read}
    if fits(kind):
        names["blank"] = blank(kind)
    # The source is made of names of fields and of the tag; `dataclasses` makes `__init__` in the same way.
    exec(compile(source(kind), f"<codec of {kind.__qualname__}>", "exec"), names)  # noqa: S102
    return _Compiled(names["write"], names["tagged"], names["read"], _building(kind))


def _building(kind: Any) -> Callable[[Sequence[Iterable[object]]], list[Any]]:
    """What makes many of a class from columns."""
    if fits(kind):
        return lambda columns: many(kind, *columns)

    def build(columns: Sequence[Iterable[object]]) -> list[Any]:
        try:
            return list(map(kind, *columns))
        except ValidationError as error:
            raise Misfit(f": {error}") from error

    return build


def _fields(kind: Any) -> list[_Field]:
    hints = get_type_hints(kind, None, _NAMES)
    return [
        _Field(number, entry.name, hints[entry.name], entry.default if entry.default_factory is MISSING else entry.default_factory())
        for number, entry in enumerate(fields(kind))
    ]


def source(kind: Any) -> str:
    """The functions that write and read a class, as in the text at the top of this module."""
    parts = _fields(kind)
    needed = [f"{part.name!r}: {part.written(f'value.{part.name}')}" for part in parts if part.default is MISSING]
    lines: list[str] = []
    for function, begin in (("write", []), ("tagged", [f"{KIND!r}: {getattr(kind, 'tag', '')!r}"])):
        lines += [f"def {function}(value):", f"    result = {{{', '.join(begin + needed)}}}"]
        lines += [line for part in parts if part.default is not MISSING for line in part.writing()]
        lines += ["    return result"]
    lines += ["def read(raw):", "    if type(raw) is not dict:", "        raise misfit('a map', raw)"]
    lines += ["    try:", "        at = ''", *(line for part in parts for line in part.reading())]
    lines += ["    except KeyError as missing:", "        raise Misfit(f' lacks {missing.args[0]!r}') from None"]
    lines += ["    except Misfit as problem:", "        raise problem.inside(at) from problem.__cause__"]
    if fits(kind):
        lines += ["    made = blank()", *(f"    made.{part.name} = {part.variable}" for part in parts)]
        lines += ["    made.__class__ = kind", "    return made"]
    else:
        lines += ["    try:", f"        return kind({', '.join(part.variable for part in parts)})"]
        lines += ["    except ValidationError as error:", "        raise Misfit(f': {error}') from error"]
    return "\n".join(lines)
