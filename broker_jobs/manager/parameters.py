"""What a job is given when it is made: settings of the job itself, and parameters of its type. All of it is plain data. Pure."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from broker_jobs.errors import ValidationError
from broker_jobs.manager.functions import path_of
from broker_jobs.manager.record import MOST_MESSAGE, clipped

if TYPE_CHECKING:
    from broker_jobs.manager.statuses import Status, Statuses

_SETTINGS: Final = ("description", "extended_properties", "callbacks", "process_results")


@dataclass(frozen=True, slots=True)
class Given:
    """What was given.

    Attributes:
        settings: fields of the record by name
        parameters: of its type
    """

    settings: Mapping[str, Any]
    parameters: Mapping[str, Any]


def read(given: Mapping[str, Any], statuses: Statuses) -> Given:
    """Settings and parameters apart, checked, as plain data.

    Raises:
        ValidationError: something is wrong; the text says what
    """
    settings: dict[str, Any] = {}
    for name in _SETTINGS:
        if name in given:
            settings[name] = _setting(name, given[name], statuses)
    return Given(settings, {name: plain(value, name) for name, value in given.items() if name not in _SETTINGS})


def _setting(name: str, value: Any, statuses: Statuses) -> Any:
    if name == "process_results":
        return path_of(value, name) if value is not None else ""
    if name == "description":
        return text(value, name, MOST_MESSAGE, empty=True)
    if not isinstance(value, Mapping):
        raise ValidationError(f"{name} must be a dictionary, not {value!r:.200}")
    if name == "callbacks":
        return {key_of(statuses.parse(word)): path_of(function, f"the callback for {word!r}") for word, function in value.items()}
    return plain(value, name)


def key_of(status: Status) -> str:
    """What callbacks for a status are kept under."""
    return status.text or status.code.value


def text(value: Any, what: str, most: int = 255, *, empty: bool = False) -> str:
    """A text as databases take it, of up to `most` characters; `ValidationError`, which names `what`, where it is none."""
    if not isinstance(value, str) or not (value or empty) or len(value) > most or clipped(value) != value:
        raise ValidationError(f"{what} must be a text of up to {most} characters, without NUL, not {value!r:.200}")
    return value


def plain(value: Any, place: str) -> Any:
    """A value as JSON can say it: tuples become lists, paths texts.

    Raises:
        ValidationError: it cannot; the text has the place of what cannot
    """
    match value:
        case None | bool() | str():
            return value
        case int():
            return int(value)
        case float() if math.isfinite(value):
            return value
        case os.PathLike():
            return plain(os.fspath(value), place)
        case list() | tuple():
            return [plain(item, f"{place}[{number}]") for number, item in enumerate(value)]
        case Mapping():
            for key in value:
                if not isinstance(key, str):
                    raise ValidationError(f"{place} has the key {key!r}: keys must be texts")
            return {str(key): plain(item, f"{place}.{key}") for key, item in value.items()}
        case _:
            raise ValidationError(f"{place} cannot be {value!r:.200}: use texts, numbers, booleans, lists and dictionaries")
