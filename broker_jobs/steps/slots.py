"""Slots of steps: parameters that take and give data instead of plain values, and what they are inside a step."""

from __future__ import annotations

import io
import json
import shutil
import types
import typing
import uuid
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, TYPE_CHECKING, Any, BinaryIO, Literal

from broker_jobs.core.data import OCTETS, Artifact, DataRef, SlotSpec, check_media_type, check_name, check_tags
from broker_jobs.data.files import checked, copy_to
from broker_jobs.errors import ValidationError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from broker_jobs.data.files import Files


@dataclass(frozen=True, slots=True)
class Slot:
    """More about a slot, in its annotation: ``mesh: Annotated[InputData, Slot(media_type="text/csv")]``.

    Args:
        media_type: which it takes, or gives where the step does not say; ``*`` stands for anything
        least, most: of a collection: how many it takes
    """

    media_type: str | None = None
    title: str = ""
    description: str = ""
    least: int | None = None
    most: int | None = None


class InputData:
    """Data that a step is given.

    Attributes:
        id, name, media_type, size, sha256: of the data; the last as hexadecimal text
    """

    def __init__(self, data: DataRef) -> None:
        self._data = data
        self.id, self.name, self.media_type, self.size, self.sha256 = data.id, data.name, data.media_type, data.size, data.sha256.hex()

    def open(self) -> BinaryIO:
        """A stream over its bytes, once they were found to be what was written; nothing is held in memory.

        Raises:
            ValueStoreError: it cannot be read here, or is not what was written
        """
        return checked(self._data)

    def read(self) -> bytes:
        """All of it."""
        with self.open() as file:
            return file.read()

    def text(self, encoding: str = "utf-8") -> str:
        """All of it, as a text."""
        return self.read().decode(encoding)

    def json(self) -> Any:
        """All of it, read as JSON."""
        return json.loads(self.read())

    @contextmanager
    def path(self) -> Iterator[Path]:
        """A file of this host with its bytes, under its name; gone, or not to be touched, afterwards."""
        with TemporaryDirectory(prefix="broker-jobs-data-") as folder:
            file = Path(folder, self.name)
            copy_to(self._data, file)
            yield file

    def __repr__(self) -> str:
        return f"<InputData {self.name!r}, {self.media_type}, {self.size} bytes>"


class OutputData:
    """Data that a step makes. What is written can be read by others while the step runs; it counts when the step has succeeded.

    Attributes:
        name: as of a file; may be changed until the step ends
        media_type: the same
        tags: the same
    """

    def __init__(self, files: Files, key: str, name: str, media_type: str) -> None:
        self.name = name
        self.media_type = media_type
        self.tags: list[str] = []
        self._files = files
        self._key = key
        self._open: list[IO[Any]] = []
        self._begun = False

    def open(self, mode: Literal["wb", "w"] = "wb", encoding: str = "utf-8") -> IO[Any]:
        """A stream to write it through, in place of what was written before; closed with the step at the latest."""
        if mode not in {"wb", "w"}:
            raise ValidationError(f"data is written with the mode 'wb' or 'w', not {mode!r}")
        raw = self._files.write(self._key)
        self._begun = True
        stream: IO[Any] = raw if mode == "wb" else io.TextIOWrapper(raw, encoding=encoding)
        self._open.append(stream)
        return stream

    def write(self, content: bytes | str) -> None:
        """Write all of it; a text as UTF-8."""
        with self.open() as file:
            file.write(content.encode() if isinstance(content, str) else content)

    def json(self, value: object) -> None:
        """Write a value as JSON."""
        self.write(json.dumps(value))

    def copy(self, path: str | Path) -> None:
        """Write what is in a file of this host."""
        with Path(path).open("rb") as source, self.open() as target:
            shutil.copyfileobj(source, target)

    def finish(self, slot: str) -> Artifact:
        """Close it; what it is now. For the process that runs the step."""
        if not self._begun:
            self.write(b"")
        for stream in self._open:
            stream.close()
        check_name(self.name)
        check_media_type(self.media_type)
        check_tags(self.tags)
        size, digest = self._files.digest(self._key)
        data = DataRef(uuid.uuid4().hex, self.name, self.media_type, size, digest, self._files.place, self._key)
        return Artifact(slot, data, tuple(self.tags))

    def discard(self) -> None:
        """Remove it. For the process that runs the step."""
        for stream in self._open:
            stream.close()
        if self._begun:
            self._files.remove(self._key)

    def __repr__(self) -> str:
        return f"<OutputData {self.name!r}, {self.media_type}>"


class OutputCollection:
    """Several pieces of data that a step makes."""

    def __init__(self, files: Files, key: str, media_type: str) -> None:
        self._files = files
        self._key = key
        self._media_type = media_type
        self.made: list[OutputData] = []

    def new(self, name: str, media_type: str | None = None) -> OutputData:
        """One more."""
        check_name(name)
        one = OutputData(self._files, f"{self._key}.{len(self.made)}", name, media_type or self._media_type)
        self.made.append(one)
        return one

    def __repr__(self) -> str:
        return f"<OutputCollection of {len(self.made)}>"


def slot_of(name: str, hint: object, *, optional: bool) -> tuple[SlotSpec, bool] | None:
    """The slot that a parameter is, by its annotation, and whether the step makes what is in it; None where it is a plain parameter.

    Args:
        optional: it has a default

    Raises:
        ValidationError: the slot is described wrongly
    """
    more = Slot()
    if typing.get_origin(hint) is typing.Annotated:
        hint, *notes = typing.get_args(hint)
        more = next((note for note in notes if isinstance(note, Slot)), more)
    if typing.get_origin(hint) in {typing.Union, types.UnionType} and type(None) in typing.get_args(hint):
        inner = [each for each in typing.get_args(hint) if each is not type(None)]
        hint = inner[0] if len(inner) == 1 else hint
    is_list = typing.get_origin(hint) is list and typing.get_args(hint) == (InputData,)
    if hint not in {InputData, OutputData, OutputCollection} and not is_list:
        return None
    made = hint in {OutputData, OutputCollection}
    if made and optional:
        raise ValidationError(f"the slot {name!r} has a default, and what a step makes is never left out")
    media_type = more.media_type or "*/*"
    if is_list or hint is OutputCollection:
        spec = SlotSpec(name, more.title, more.description, media_type, collection=True, least=more.least or 0, most=more.most)
    elif more.least is not None or more.most is not None:
        raise ValidationError(f"the slot {name!r} holds one: least= and most= are for list[InputData] and OutputCollection")
    else:
        spec = SlotSpec(name, more.title, more.description, media_type, least=0 if optional else 1)
    return spec, made


def usual_type(slot: SlotSpec) -> str:
    """The media type of what a step puts into a slot, if it does not say."""
    return OCTETS if "*" in slot.media_type else slot.media_type
