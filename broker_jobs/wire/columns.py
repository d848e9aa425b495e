"""Many of one class in a row travel as columns: what they have in common once, and the rest field by field.

In a list of classes, a map with the key ``=`` stands for several that follow one another. A hundred calls of one function are::

    {'=': {'_': 'task', 'name': 'f'},
     ':': {'number': [0, 1, …]},
     '.': {'work': {'=': {'_': 'call', 'function': 'a1…'},
                    '.': {'args': {'=': {'_': 'inline', 'encoding': 'm'},
                                   ':': {'data': [b'…', b'…', …]}}}}}}

Under ``=`` is a class as always, without the fields in which they differ; under ``:`` are those, a list each; and under ``.`` those that
are of one class again and differ in parts of it. There is at least one list, and all are of one length, so nothing small stands for many.
"""

from __future__ import annotations

from dataclasses import MISSING
from itertools import groupby, repeat
from operator import is_
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

KIND: Final = "_"
"""The key that says which class a map is, where there are several."""
SHARED: Final = "="
EACH: Final = ":"
PARTS: Final = "."
FEWEST: Final = 5
"""So many in a row are worth it."""


class Field(NamedTuple):
    """A field of a class, or what stands in a list.

    Attributes:
        get: reads it
        write: a value of it, as plain data; None where it is plain data
        read: the same, back
        exact: types of plain data that are read as they are
        default: what is left out; `MISSING` where there is none
        classes: those of its values, by tag
        tagged: whether a value has to say which one it is of
    """

    name: str
    get: Callable[[Any], object]
    write: Callable[[Any], object] | None
    read: Callable[[Any], object]
    exact: frozenset[type]
    default: object
    classes: Mapping[str, type]
    tagged: bool


class Shape(NamedTuple):
    """What is to be known of a class.

    Attributes:
        build: makes many of it from an iterable for each field, of which one at least has an end
    """

    tag: str
    fields: tuple[Field, ...]
    build: Callable[[Sequence[Iterable[object]]], list[Any]]


class Columns:
    """Writes and reads lists of classes.

    Args:
        item: what stands in them; it has classes
        shape: of a class
        misfit: the exception for what does not fit, from its text
    """

    def __init__(self, item: Field, shape: Callable[[type], Shape], misfit: Callable[[str], Exception]) -> None:
        self._item = item
        self._kinds = frozenset(item.classes.values())
        self._shape = shape
        self._misfit = misfit

    def write(self, items: Sequence[object]) -> list[object]:
        """As plain data."""
        write = self._item.write or _same
        written: list[object] = []
        for kind, several in groupby(items, type):
            run = list(several)
            columns = self._columns(run, tagged=self._item.tagged) if len(run) >= FEWEST and kind in self._kinds else None
            if columns is None:
                written += map(write, run)
            else:
                written.append(columns)
        return written

    def _columns(self, items: Sequence[object], *, tagged: bool) -> dict[str, object] | None:
        """Several of one class; None where they do not differ."""
        tag, fields, _ = self._shape(type(items[0]))
        shared: dict[str, object] = {KIND: tag} if tagged else {}
        each: dict[str, object] = {}
        parts: dict[str, object] = {}
        for name, get, write, _, _, default, classes, union in fields:
            values = list(map(get, items))
            first = values[0]
            if not all(map(is_, values, repeat(first))):
                alike = len(set(map(type, values))) == 1
                if alike and type(first) in classes.values():
                    columns = self._columns(values, tagged=union)
                    if columns is not None:
                        parts[name] = columns
                        continue
                elif not alike or values.count(first) != len(values):
                    each[name] = values if write is None else list(map(write, values))
                    continue
            if first is not default and first != default:
                shared[name] = first if write is None else write(first)
        if not each and not parts:
            return None
        return {SHARED: shared, **({EACH: each} if each else {}), **({PARTS: parts} if parts else {})}

    def read(self, raw: list[object]) -> tuple[object, ...]:
        """From plain data; raises where it does not fit."""
        item, items = self._item, []
        read, exact = item.read, item.exact
        for part in raw:
            if type(part) is dict and SHARED in part:
                items += self._expanded(item, part)
            else:
                items.append(part if type(part) in exact else read(part))
        return tuple(items)

    def _expanded(self, item: Field, raw: dict[Any, Any]) -> list[Any]:
        shared, each, parts = (self._map(raw.get(key, {})) for key in (SHARED, EACH, PARTS))
        tag = shared.get(KIND) if item.tagged else next(iter(item.classes))
        kind = item.classes.get(tag) if type(tag) is str else None
        if kind is None:
            raise self._misfit(f" is of an unknown kind: {str(tag)[:100]!r}")
        fields, build = self._shape(kind)[1:]
        columns = list(map(self._column, fields, repeat(shared), repeat(each), repeat(parts)))
        lengths = {len(column) for column in columns if isinstance(column, list)}
        if len(lengths) != 1:
            raise self._misfit(f" has columns of the lengths {sorted(lengths)}")
        return build(columns)

    def _column(self, field: Field, shared: dict[Any, Any], each: dict[Any, Any], parts: dict[Any, Any]) -> Iterable[object]:
        name = field.name
        if name in each:
            column = each[name]
            if type(column) is not list:
                raise self._misfit(f".{name} must be a list, not {type(column).__name__}")
            read, exact = field.read, field.exact
            if exact.issuperset(map(type, column)):
                return column
            return [value if type(value) in exact else read(value) for value in column]
        if name in parts and field.classes:
            return self._expanded(field, self._map(parts[name]))
        if name in shared:
            value = shared[name]
            return repeat(value if type(value) in field.exact else field.read(value))
        if field.default is MISSING:
            raise self._misfit(f" lacks {name!r}")
        return repeat(field.default)

    def _map(self, raw: object) -> dict[Any, Any]:
        if type(raw) is not dict:
            raise self._misfit(f" must be a map, not {type(raw).__name__}")
        return raw


def _same(value: object) -> object:
    return value
