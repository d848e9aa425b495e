"""Plain data: what JSON can say, and where in it something is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from broker_jobs.errors import ValidationError

if TYPE_CHECKING:
    from collections.abc import Iterable

DEEPEST: Final = 100
"""Plain data is nested no deeper."""

_LEAST: Final = -(2**63)
_MOST: Final = 2**64 - 1

Plain = None | bool | int | float | str | list["Plain"] | dict[str, "Plain"]


def plain(value: object, path: tuple[str | int, ...] = ()) -> Plain:
    """A copy of plain data, with tuples as lists, and without subclasses.

    Raises:
        ValidationError: something in it is none: the text says where, and what to do instead
    """
    if len(path) > DEEPEST:
        raise ValidationError(f"{where(path[:3])}…: plain data is nested at most {DEEPEST} deep")
    match value:
        case None | bool():
            return value
        case int():
            if _LEAST <= value <= _MOST:
                return int(value)
            raise ValidationError(f"{where(path)}: an integer of {value.bit_length()} bits is no plain data: give a text")
        case str():
            return str.__str__(value)
        case float():
            if math.isfinite(value):
                return float(value)
            raise ValidationError(f"{where(path)}: {value} is no plain data, since JSON has no such number; give None")
        case list() | tuple():
            return [plain(item, (*path, index)) for index, item in enumerate(value)]
        case Mapping():
            for key in value:
                if not isinstance(key, str):
                    raise ValidationError(f"{where(path)}: the key {key!r} is no plain data: keys are texts")
            return {key: plain(item, (*path, key)) for key, item in value.items()}
        case _:
            kinds = "None, numbers, texts, lists and dictionaries with texts as keys"
            raise ValidationError(f"{where(path)}: {type(value).__qualname__} is no plain data: give {kinds}")


def where(path: Iterable[str | int]) -> str:
    """A place in plain data, much as Python writes it: ``mesh.layers[2].size``; its first part stands as it is."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        elif not text:
            text = part
        elif part.isidentifier():
            text += f".{part}"
        else:
            text += f"[{part!r}]"
    return text or "here"
