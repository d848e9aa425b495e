"""Tags as pinexQ writes them: ``key`` or ``key=value``, in one form for each value. And the links that stand for its addresses."""

from __future__ import annotations

import datetime
import re
from typing import TYPE_CHECKING, Final

from broker_jobs.errors import ValidationError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

HIDDEN: Final = "pinexq-hidden"
"""The tag of what is hidden."""
_SCHEME: Final = "broker-jobs"
_TIME: Final = re.compile(r"\d\d:\d\d:\d\d", re.ASCII)
_FLOAT: Final = re.compile(r"([+-]?)(\d*)\.(\d*)", re.ASCII)
_STAMP: Final = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d.*", re.ASCII)


def normalised(tag: str) -> str:
    """A tag in its one form: nothing around key and value, and numbers, truth values, times and timestamps in one way of writing.

    Raises:
        ValidationError: a timestamp has no zone, or is none
    """
    key, equals, value = (part.strip() for part in tag.partition("="))
    return f"{key}={_value(value)}" if equals else key


def labels(tags: Iterable[str]) -> list[str]:
    """Tags in their one form, each once; `ValidationError` where they are no list of texts."""
    given = [] if isinstance(tags, str) else list(tags)
    if isinstance(tags, str) or not all(isinstance(tag, str) for tag in given):
        raise ValidationError(f"tags must be a list of texts, not {tags!r:.200}")
    return list(dict.fromkeys(map(normalised, given)))


def _value(text: str) -> str:
    if text.lower() in {"true", "false"}:
        return text.lower()
    if (number := _FLOAT.fullmatch(text)) and text.strip("+-") != ".":
        return f"{number[1]}{number[2] or '0'}.{number[3] or '0'}"
    if _TIME.fullmatch(text):
        return f"{text}:00"
    if not _STAMP.fullmatch(text):
        return text
    try:
        stamp = datetime.datetime.fromisoformat(text)
    except ValueError:
        raise ValidationError(f"{text!r} is no timestamp: write it as '2026-01-31T10:00:00Z'") from None
    if stamp.tzinfo is None:
        raise ValidationError(f"the timestamp {text!r} needs a zone: write it as '{text}Z', or with an offset such as +01:00")
    return stamp.astimezone(datetime.UTC).isoformat().replace("+00:00", "Z")


def tag_list_to_dict(tags: Iterable[str]) -> dict[str, str | None]:
    """Tags by key; None where one has no value."""
    return {key: value if equals else None for key, equals, value in (tag.partition("=") for tag in tags)}


def tag_dict_to_list(tags: Mapping[str, str | None]) -> list[str]:
    """The tags of these keys and values."""
    return [key if value is None else f"{key}={value}" for key, value in tags.items()]


def tag_list_update(old: Iterable[str], new: Iterable[str]) -> list[str]:
    """Old tags, with the new ones in place of those of the same key: ``['a=1', 'b']`` and ``['a=2']`` give ``['a=2', 'b']``."""
    return tag_dict_to_list(tag_list_to_dict(old) | tag_list_to_dict(new))


def link(kind: str, *parts: object) -> str:
    """The text that stands for an address: ``broker-jobs:job/<id>``."""
    return f"{_SCHEME}:{kind}/{'/'.join(map(str, parts))}"


def linked(kind: str, text: str) -> list[str]:
    """What a link names; `ValidationError` where it is none, or of something else."""
    start = f"{_SCHEME}:{kind}/"
    if not isinstance(text, str) or not text.startswith(start):
        raise ValidationError(f"{text!r:.200} is no link to a {kind}: they begin with {start}, as self_link() writes them")
    return text.removeprefix(start).split("/")
