"""Variables in parameters: ``$(NAME)`` in a text, at any depth of lists, tuples and dictionaries. Pure."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping
from typing import Any, Final

from broker_jobs.errors import UnknownVariable, ValidationError

NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PLACE: Final = re.compile(r"\$(\$?)\(([^()]*)(\)?)")
_BEGIN: Final = re.compile(r"\$\((?:([^()]*)\))?")


def replaced(value: Any, variables: Mapping[str, str]) -> Any:
    """The value with each ``$(NAME)`` replaced in the texts of it; ``$$(`` is written for ``$(`` itself.

    Keys of dictionaries stay as they are, and so does everything that is no text. What a variable stands for is not looked into again.

    Args:
        value: a text, or lists, tuples and dictionaries with texts in them
        variables: text by name

    Raises:
        UnknownVariable: there is none of this name; those that there are are listed
    """
    match value:
        case str():
            return _PLACE.sub(lambda found: _text(found, variables), value)
        case Mapping():
            return {key: replaced(item, variables) for key, item in value.items()}
        case list():
            return [replaced(item, variables) for item in value]
        case tuple():
            items = (replaced(item, variables) for item in value)
            return type(value)(*items) if hasattr(value, "_fields") else tuple(items)  # a named tuple takes its items one by one
        case _:
            return value


def escaped(value: Any, known: Collection[str] = ()) -> Any:
    """The value written so that `replaced` gives it back as it is, but for variables that are known; paths become texts.

    Args:
        value: a text, or lists, tuples and dictionaries with texts in them
        known: names of variables that stay variables
    """
    match value:
        case os.PathLike():
            return escaped(os.fspath(value), known)
        case str():
            return _BEGIN.sub(lambda found: found[0] if found[1] in known else f"${found[0]}", value)
        case Mapping():
            return {key: escaped(item, known) for key, item in value.items()}
        case list() | tuple():
            return [escaped(item, known) for item in value]
        case _:
            return value


def _text(found: re.Match[str], variables: Mapping[str, str]) -> str:
    doubled, name, end = found.groups()
    if doubled:
        return found[0][1:]
    if not end or name not in variables:
        known = ", ".join(f"$({each})" for each in sorted(variables)) or "none"
        what = f"there is no variable {found[0]}" if end else f"{found[0]!r} has no end that fits"
        raise UnknownVariable(f"{what}; known here: {known}. For a $( that stays as it is, write $$(")
    return variables[name]


def checked(variables: Mapping[str, object], reserved: frozenset[str]) -> dict[str, str]:
    """Variables as texts; `ValidationError` where one has no name that can be written, another's name, or is no text, path or number."""
    texts = {}
    for name, value in variables.items():
        if not isinstance(name, str) or not NAME.fullmatch(name):
            raise ValidationError(f"{name!r} cannot be the name of a variable: use letters, digits and '_'")
        if name in reserved:
            raise ValidationError(f"$({name}) is what the manager says: give the variable another name")
        if isinstance(value, bool) or not isinstance(value, str | int | float | os.PathLike):
            raise ValidationError(f"the variable {name} must be a text, a path or a number, not {value!r}")
        text = os.fspath(value) if isinstance(value, os.PathLike) else str(value)
        if not isinstance(text, str):
            raise ValidationError(f"the variable {name} must be a text, a path or a number, not {value!r}")
        texts[name] = text
    return texts
