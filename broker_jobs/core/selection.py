"""Numbers that a person selects: ``1-3``, ``0-10:2``, ``1,5,8-10``, ``1-1_000``."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from broker_jobs.errors import ValidationError

if TYPE_CHECKING:
    from collections.abc import Sequence

MOST_SELECTED: Final = 10_000_000
"""A selection has no more numbers: as many as a person means, not as many as a typing error makes."""

_DIGITS: Final = r"\d(?:_?\d){0,29}"
_PART: Final = re.compile(rf"(?P<first>{_DIGITS})(?:-(?P<last>{_DIGITS})(?::(?P<step>{_DIGITS}))?)?", re.ASCII)
_MOST: Final = 2**31 - 1


def selected(text: str) -> Sequence[int]:
    """The numbers of a selection, in order, each once.

    Args:
        text: numbers, ranges ``first-last`` (both included) and ranges with a step ``first-last:step``, with commas between;
            an underscore may stand between digits

    Raises:
        ValidationError: it cannot be read, or a range runs backwards; the text says which part
    """
    parts = [_part(part.strip(), text) for part in text.split(",")]
    if len(parts) == 1:
        return parts[0]
    if sum(map(len, parts)) > MOST_SELECTED:
        raise ValidationError(f"{text!r} selects more than {MOST_SELECTED} numbers")
    return tuple(sorted({number for part in parts for number in part}))


def task_refs(text: str) -> list[int | str]:
    """The tasks of a selection such as ``0,5-9,20-90:10,[33],train``: numbers, ids of arrays, names; `ValidationError` as `selected`."""
    found: dict[int | str, None] = {}
    for part in text.split(","):
        name = part.strip()
        found.update(dict.fromkeys(selected(name)) if name[:1].isdigit() else {name: None})
    return list(found)


def shown(numbers: Sequence[int]) -> str:
    """Numbers in the shortest selection that has ranges without steps, such as ``1-3,7``."""
    if isinstance(numbers, range) and numbers.step == 1 and len(numbers) > 1:
        return f"{numbers[0]}-{numbers[-1]}"
    found: list[list[int]] = []
    for number in sorted(set(numbers)):
        if found and found[-1][-1] == number - 1:
            found[-1][1:] = [number]
        else:
            found.append([number])
    return ",".join("-".join(map(str, part)) for part in found)


def _part(part: str, text: str) -> range:
    found = _PART.fullmatch(part)
    if not found:
        raise ValidationError(f"{part!r} in {text!r} is no number and no range: write 5, 1-3 or 0-10:2, with commas between")
    first, last, step = (None if digits is None else int(digits) for digits in found.groups())
    first = first or 0
    last = first if last is None else last
    if last < first:
        raise ValidationError(f"the range {part!r} runs backwards: write {last}-{first}")
    if step == 0:
        raise ValidationError(f"the step of {part!r} must be 1 or more")
    if last > _MOST:
        raise ValidationError(f"{part!r} is too large: numbers go up to {_MOST}")
    numbers = range(first, last + 1, step or 1)
    if len(numbers) > MOST_SELECTED:
        raise ValidationError(f"{part!r} selects more than {MOST_SELECTED} numbers")
    return numbers
