"""What the tasks of an array are told apart by: chosen ids, lines of a file, items of a JSON list."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from broker_jobs.core.selection import selected, shown
from broker_jobs.errors import ValidationError


@dataclass(frozen=True, slots=True)
class Array:
    """The ids of an array, and an entry for each where there are entries."""

    ids: Sequence[int]
    entries: Sequence[str] | None = None


def array_of(array: str | None, each_line: Path | None, from_json: Path | None) -> Array | None:
    """The array that these options ask for, or None.

    Raises:
        ValidationError: they do not go together, a file cannot be read, or an id has no entry
    """
    if each_line is not None and from_json is not None:
        raise ValidationError("--each-line and --from-json cannot be given together")
    chosen = None if array is None else selected(array)
    file = each_line or from_json
    if file is None:
        return None if chosen is None else Array(chosen)
    entries = lines(file) if each_line is not None else items(file)
    if not entries:
        raise ValidationError(f"{file} has no entries, so there is no task")
    if chosen is None:
        return Array(range(len(entries)), entries)
    missing = [number for number in chosen if number >= len(entries)]
    if missing:
        raise ValidationError(
            f"{file} has the entries 0-{len(entries) - 1}, and --array selects {shown(missing)} too: leave out what is not there"
        )
    return Array(chosen, [entries[number] for number in chosen])


def lines(file: Path) -> list[str]:
    """The lines of a file; whether the last one ends with a newline makes no difference."""
    text = _read(file)
    found = text.split("\n")
    if found[-1] == "":
        found.pop()
    return [line.removesuffix("\r") for line in found]


def items(file: Path) -> list[str]:
    """The items of the list in a JSON file, each as JSON without spaces."""
    try:
        found = json.loads(_read(file))
    except (ValueError, RecursionError) as error:
        raise ValidationError(f"{file} is no JSON: {error}") from None
    if not isinstance(found, list):
        raise ValidationError(f"{file} must hold a JSON list, one item for each task, not {type(found).__name__}")
    return [json.dumps(item, separators=(",", ":"), ensure_ascii=False) for item in found]


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError as error:
        raise ValidationError(f"{file} cannot be read: {error.strerror}") from None
