"""What a submitter was told, line by line: it survives the death of the submitter."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


class What(StrEnum):
    """What a line says of a job."""

    intended = "intended"
    """It is submitted now; nobody knows whether it will be."""
    confirmed = "confirmed"
    """Nothing of it can be lost any more; `Line.text` is its id."""
    unknown = "unknown"
    """The broker has not confirmed it; `Line.text` says why."""
    refused = "refused"
    """Nothing of it was sent; `Line.text` says why."""
    troubled = "troubled"
    """A question was not answered; `Line.text` says why."""
    told = "told"
    """It has ended, and this is what came of it: `Line.wrong` is what should not have."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line.

    Attributes:
        at: when, on the monotonic clock, which all processes of a machine share
    """

    what: What
    key: str
    ordinal: int
    text: str = ""
    wrong: tuple[str, ...] = ()
    at: float = 0.0


class Journal:
    """The lines of one submitter, over all its lives."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines = read(path)

    @classmethod
    def of(cls, folder: Path, submitter: int) -> Self:
        """That of the submitter with this number."""
        return cls(folder / f"journal-{submitter}.jsonl")

    def say(self, what: What, key: str, ordinal: int, text: str = "", wrong: Iterable[str] = ()) -> None:
        """Add a line."""
        line = Line(what, key, ordinal, text, tuple(wrong), time.monotonic())
        with self.path.open("ab", buffering=0) as file:
            file.write(json.dumps(asdict(line)).encode() + b"\n")
        self.lines.append(line)

    def last(self, what: What) -> dict[str, Line]:
        """The last line of this kind of each job."""
        return {line.key: line for line in self.lines if line.what is what}


def read(path: Path) -> list[Line]:
    """All lines; one that was being written when its submitter was killed is none."""
    if not path.exists():
        return []
    found = []
    for text in path.read_bytes().splitlines():
        try:
            fields = json.loads(text)
        except ValueError:
            continue
        found.append(Line(What(fields["what"]), fields["key"], fields["ordinal"], fields["text"], tuple(fields["wrong"]), fields["at"]))
    return found
