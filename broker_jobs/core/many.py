"""Many of a frozen class at once.

Its own `__init__` sets each field by a call, which for a task among thousands takes longer than most of what is done with it. So a *blank*
with the same slots, which is not frozen, is filled, and becomes one of the class.
"""

from __future__ import annotations

from dataclasses import MISSING, fields
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

_Kind = TypeVar("_Kind")


def many(kind: type[_Kind], *columns: Iterable[object]) -> list[_Kind]:
    """One for each row of the columns.

    Args:
        columns: its first fields, in their order, one of which has an end; others have their default
    """
    hashable: Any = kind
    return _maker(hashable, len(columns))(columns)


def fits(kind: Any) -> bool:
    """Whether a class can be made so: it does not look at its fields, and has slots for them alone."""
    return not hasattr(kind, "__post_init__") and getattr(kind, "__slots__", None) == tuple(entry.name for entry in fields(kind))


def blank(kind: Any) -> type:
    """What becomes one of a class that `fits`."""
    return type(kind.__name__, (), {"__slots__": kind.__slots__})


@cache
def _maker(kind: Any, given: int) -> Callable[[Sequence[Iterable[object]]], list[Any]]:
    if not fits(kind):
        raise TypeError(f"{kind.__qualname__} is made by its own __init__")
    names: dict[str, Any] = {"kind": kind, "blank": blank(kind)}
    lines = ["def make(columns):", "    items = []", f"    for {''.join(f'p{number}, ' for number in range(given))}in zip(*columns):"]
    lines += ["        made = blank()"]
    for number, entry in enumerate(fields(kind)):
        if number >= given:
            if entry.default is MISSING:
                raise TypeError(f"{kind.__qualname__}.{entry.name} must be given")
            names[f"p{number}"] = entry.default
        lines.append(f"        made.{entry.name} = p{number}")
    lines += ["        made.__class__ = kind", "        items.append(made)", "    return items"]
    # The source is made of names of fields; `dataclasses` makes `__init__` in the same way.
    exec(compile("\n".join(lines), f"<many of {kind.__qualname__}>", "exec"), names)  # noqa: S102
    made: Callable[[Sequence[Iterable[object]]], list[Any]] = names["make"]
    return made
