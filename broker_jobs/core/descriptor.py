"""What a worker has, as people write it: ``8``, ``2x8``, ``[0,1]``, ``[[0-3],[8-11]]``, ``range(1-3)``, ``sum(1000)``."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from broker_jobs.core.quantities import UNIT, amount, shown_amount, size_bytes
from broker_jobs.core.request import MEMORY, RESOURCE_NAME
from broker_jobs.core.resources import INDEXED, Resources
from broker_jobs.errors import ValidationError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from broker_jobs.core.resources import Groups

MOST_SINGLES: Final = 10_000
"""A resource has no more single ones: as many as a machine has, not as many as a typing error makes."""

_DIGITS: Final = r"\d{1,30}"
_NUMBER: Final = re.compile(_DIGITS, re.ASCII)
_PRODUCT: Final = re.compile(rf"({_DIGITS})x({_DIGITS})", re.ASCII)
_RANGE: Final = re.compile(rf"range\(\s*({_DIGITS})\s*-\s*({_DIGITS})\s*\)", re.ASCII)
_SUM: Final = re.compile(r"sum\((.*)\)")
_SPAN: Final = re.compile(rf"({_DIGITS})-({_DIGITS})", re.ASCII)
_TOKEN: Final = re.compile(r"\s*(?:(?P<sign>[\[\],])|\"(?P<quoted>[^\"]+)\"|(?P<label>[A-Za-z0-9_.:/-]+))\s*")


def described(descriptors: Mapping[str, float | str]) -> Resources:
    """What these texts describe, by the name of the resource; what is described as nothing is left out.

    Raises:
        ValidationError: one cannot be read; the text says which and how it is written
    """
    amounts, groups = {}, {}
    for name, text in descriptors.items():
        if not RESOURCE_NAME.fullmatch(name):
            raise ValidationError(f"{name!r} cannot be the name of a resource: use letters, digits, '_', '-' and '/'")
        amounts[name], groups[name] = _read(name, str(text).strip())
    return Resources(
        tuple(sorted((name, value) for name, value in amounts.items() if value)),
        tuple(
            sorted((name, each) for name, each in groups.items() if each and not (name.partition("/")[0] in INDEXED and _is_usual(each)))
        ),
    )


def descriptor(resources: Resources, name: str) -> str:
    """How a resource is written, so that `described` reads it as the same."""
    value, groups = dict(resources.amounts)[name], resources.labels(name)
    if name == MEMORY:
        return str(value)
    if not groups:
        return f"sum({shown_amount(value)})"
    if value % UNIT:
        return shown_amount(value)
    sizes = {len(group) for group in groups}
    if _is_usual((tuple(label for group in groups for label in group),)) and len(sizes) == 1:
        if len(groups) > 1:
            return f"{len(groups)}x{len(groups[0])}"
        if name.partition("/")[0] in INDEXED:
            return str(len(groups[0]))
    lists = [f"[{','.join(_spans(group))}]" for group in groups]
    return lists[0] if len(lists) == 1 else f"[{','.join(lists)}]"


def _read(name: str, text: str) -> tuple[int, Groups]:
    """Amount and groups."""
    if found := _SUM.fullmatch(text):
        if name.partition("/")[0] in INDEXED:
            raise ValidationError(f"{name} are single things, and no sum: write their number, as in {name}=8, or a list of them")
        return (size_bytes(found[1], name) if name == MEMORY else amount(found[1], name)), ()
    if name == MEMORY:
        return (0 if text == "0" else size_bytes(text, name)), ()
    if found := _PRODUCT.fullmatch(text):
        count, size = _few(name, int(found[1])), _few(name, int(found[2]))
        _few(name, count * size)
        return count * size * UNIT, tuple(tuple(map(str, range(size * group, size * (group + 1)))) for group in range(count if size else 0))
    if found := _RANGE.fullmatch(text):
        return _singles(name, (tuple(_span(name, found[1], found[2])),))
    if text.startswith("["):
        return _singles(name, _lists(name, text))
    if name.partition("/")[0] in INDEXED and _NUMBER.fullmatch(text):
        return _few(name, int(text)) * UNIT, ()
    try:
        return amount(text, name), ()
    except ValidationError:
        raise _unreadable(name, text) from None


def _lists(name: str, text: str) -> Groups:
    """The labels of ``[a,b]`` or ``[[a,b],[c]]``."""
    tokens, place = [], 0
    while place < len(text):
        found = _TOKEN.match(text, place)
        if not found:
            raise _unreadable(name, text)
        tokens.append(found)
        place = found.end()
    # A single list is a list of one group.
    inner = [found["sign"] for found in tokens[:2]] == ["[", "["]
    groups: list[tuple[str, ...]] = []
    signs = "".join(found["sign"] or "x" for found in tokens)
    shape = r"\[(\[x(,x)*\])(,\[x(,x)*\])*\]" if inner else r"\[x(,x)*\]"
    if not re.fullmatch(shape, signs):
        raise _unreadable(name, text)
    labels: list[str] = []
    for found in tokens[1:-1] if inner else tokens:
        if found["sign"] == "]":
            groups.append(tuple(labels))
            labels = []
        elif found["quoted"]:
            labels.append(found["quoted"])
        elif found["label"]:
            span = _SPAN.fullmatch(found["label"])
            labels += _span(name, span[1], span[2]) if span else [found["label"]]
    return tuple(groups)


def _singles(name: str, groups: Groups) -> tuple[int, Groups]:
    labels = [label for group in groups for label in group]
    _few(name, len(labels))
    twice = next((label for label in labels if labels.count(label) > 1), None) if len(set(labels)) < len(labels) else None
    if twice is not None:
        raise ValidationError(f"{name} has {twice!r} twice")
    if name == "cpus" and not all(map(_NUMBER.fullmatch, labels)):
        raise ValidationError(f"cpus are listed by their numbers, as in [0-3], not {labels!r}")
    return len(labels) * UNIT, groups


def _span(name: str, first: str, last: str) -> Iterator[str]:
    if int(last) < int(first):
        raise ValidationError(f"{name}: the range {first}-{last} runs backwards")
    _few(name, int(last) - int(first) + 1)
    return map(str, range(int(first), int(last) + 1))


def _few(name: str, count: int) -> int:
    if count > MOST_SINGLES:
        raise ValidationError(f"{name} cannot be more than {MOST_SINGLES} single ones; what is only counted is written sum({count})")
    return count


def _is_usual(groups: Groups) -> bool:
    """Whether these are the numbers from 0 in one group."""
    return len(groups) == 1 and groups[0] == tuple(map(str, range(len(groups[0]))))


def _spans(labels: tuple[str, ...]) -> list[str]:
    """Labels as short as they can be written: numbers that follow each other as a range."""
    found: list[list[str]] = []
    for label in labels:
        if label.isdigit() and found and found[-1][-1].isdigit() and int(label) == int(found[-1][-1]) + 1 and str(int(label)) == label:
            found[-1].append(label)
        else:
            found.append([label])
    shown = []
    for run in found:
        if len(run) > 2:  # noqa: PLR2004 (a range of two is no shorter)
            shown.append(f"{run[0]}-{run[-1]}")
        else:
            shown += [label if re.fullmatch(r"[A-Za-z0-9_.:/-]+", label) and not _SPAN.fullmatch(label) else f'"{label}"' for label in run]
    return shown


def _unreadable(name: str, text: str) -> ValidationError:
    return ValidationError(
        f"{name}={text!r} cannot be read: write a number (8), groups (2x8 or [[0,1],[2,3]]), a list ([0,1] or [0-3]), "
        "range(1-3) or sum(1000)"
    )
