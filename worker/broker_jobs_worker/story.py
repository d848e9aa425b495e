"""The last things that happened in a daemon, as text for a bug report: names and numbers, never values of users."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from broker_jobs_worker.machine.commands import Command
    from broker_jobs_worker.machine.events import Event

_LONGEST: Final = 60
_DEEPEST: Final = 4
_SILENT: Final = frozenset(
    {"work", "options", "origin", "functions", "values", "function", "env", "stdout", "stderr", "header", "text", "value", "made"}
)
"""Fields that hold what belongs to users."""


def tell(story: Iterable[tuple[float, Event, tuple[Command, ...]]]) -> str:
    """Events with the commands that followed, one event a paragraph."""
    return "\n".join("\n    → ".join([f"{now:.3f} {_brief(event)}", *map(_brief, commands)]) for now, event, commands in story)


def _brief(thing: object, depth: int = 0) -> str:
    match thing:
        case Enum():
            return thing.name
        case bytes():
            return f"<{len(thing)} bytes>"
        case str():
            return repr(thing if len(thing) <= _LONGEST else f"{thing[:_LONGEST]}…")
        case tuple():
            shown = [_brief(item, depth + 1) for item in thing[:3]]
            return f"({', '.join([*shown, f'… {len(thing)} in all'] if len(thing) > len(shown) else shown)})"
        case _ if is_dataclass(thing):
            if depth == _DEEPEST:
                return type(thing).__name__
            parts = [f"{each.name}={_brief(getattr(thing, each.name), depth + 1)}" for each in fields(thing) if each.name not in _SILENT]
            return f"{type(thing).__name__}({', '.join(parts)})"
        case int() | float() | None:
            return repr(thing)
        case _:
            return f"<{type(thing).__name__}>"
