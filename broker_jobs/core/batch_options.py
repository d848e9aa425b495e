"""Options of batch systems, such as a queue: values by name, in order, as their commands and description files take them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, Literal

from broker_jobs.errors import ValidationError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Frozen = tuple[tuple[str, tuple[str, ...]], ...]
"""The form in which they are sent; a name without values is a flag."""

_NAME: Final = re.compile(r"[A-Za-z_+][A-Za-z0-9_.+-]{0,99}")


def frozen(options: Mapping[str, object] | None) -> Frozen:
    """Options as they are sent.

    Raises:
        ValidationError: a name or a value cannot be one; the text names it
    """
    return tuple((_name(name), _values(name, value)) for name, value in (options or {}).items())


def given(texts: Iterable[str]) -> dict[str, list[str] | Literal[True]]:
    """Options of a command line as one writes them in Python: ``NAME=VALUE``, more than once for several values, ``NAME`` for a flag."""
    found: dict[str, list[str]] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        found.setdefault(name, []).extend([value] if equals else [])
    return {name: values or True for name, values in found.items()}


def parsed(texts: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """The same as they are sent; `ValidationError` as above."""
    return dict(frozen(given(texts)))


def _name(name: object) -> str:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValidationError(f"{name!r} cannot be an option of a batch system: letters, digits, '_', '.', '+' and '-', such as q or l")
    return name


def _values(name: str, value: object) -> tuple[str, ...]:
    if value is True:
        return ()
    values = value if isinstance(value, list | tuple) else (value,)
    for one in values:
        if isinstance(one, bool) or not isinstance(one, str | int | float):
            raise ValidationError(f"the option {name} takes a text, a list of texts, or True for a flag, not {value!r}")
        if any(each in str(one) for each in "\0\r\n"):
            raise ValidationError(f"the option {name} is one line, not {one!r}")
    if not values:
        raise ValidationError(f"the option {name} has no value: leave it out, or write True for a flag")
    return tuple(str(one) for one in values)
