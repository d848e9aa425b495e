"""What is known of data: of files that users put into the store, or that tasks have made; and the slots of steps that hold them."""

from __future__ import annotations

import fnmatch
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final

from broker_jobs.errors import ValidationError

if TYPE_CHECKING:
    from collections.abc import Sequence

OCTETS: Final = "application/octet-stream"
LONGEST_NAME: Final = 255
MOST_TAGS: Final = 100

_ID: Final = re.compile(r"[0-9a-f]{32}")
_MEDIA_TYPE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}/[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}", re.ASCII)
_PATTERN: Final = re.compile(r"[A-Za-z0-9*][A-Za-z0-9!#$&^_.+*-]{0,126}/[A-Za-z0-9*][A-Za-z0-9!#$&^_.+*-]{0,126}", re.ASCII)
_KEY: Final = re.compile(r"data(?:/[A-Za-z0-9_][A-Za-z0-9_.-]{0,254}){1,8}", re.ASCII)
_DIGEST_BYTES: Final = 32
_LONGEST_TAG: Final = 1024


@dataclass(frozen=True, slots=True)
class DataRef:
    """Where data lies, and what it is; travels in signed messages, so that whoever reads it can check it.

    Attributes:
        id: 32 hexadecimal digits
        name: as of a file
        size: bytes
        sha256: digest of the bytes
        store: an absolute folder, or a URL as fsspec takes it
        key: path inside the store

    Raises:
        ValidationError: it is none
    """

    tag: ClassVar[str] = "data"
    id: str
    name: str
    media_type: str
    size: int
    sha256: bytes
    store: str
    key: str

    def __post_init__(self) -> None:
        if not _ID.fullmatch(self.id):
            raise ValidationError(f"{self.id[:100]!r} is no id of data")
        check_name(self.name)
        check_media_type(self.media_type)
        if self.size < 0 or len(self.sha256) != _DIGEST_BYTES or not _KEY.fullmatch(self.key):
            raise ValidationError(f"data {self.name!r} has no place: {self.key[:200]!r}")


@dataclass(frozen=True, slots=True)
class Artifact:
    """Data that a task has made.

    Attributes:
        slot: of the step, or the path that a program has written
    """

    tag: ClassVar[str] = "artifact"
    slot: str
    data: DataRef
    tags: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_tags(self.tags)


@dataclass(frozen=True, slots=True)
class SlotSpec:
    """A place of a step for data.

    Attributes:
        media_type: which it takes or gives; ``*`` stands for anything, as in ``image/*``
        collection: for several; `least` and `most` say how many, None for any number
    """

    tag: ClassVar[str] = "slot"
    name: str
    title: str = ""
    description: str = ""
    media_type: str = "*/*"
    collection: bool = False
    least: int = 1
    most: int | None = 1

    def __post_init__(self) -> None:
        if not self.name.isidentifier():
            raise ValidationError(f"{self.name!r} cannot be the name of a slot")
        if not _PATTERN.fullmatch(self.media_type):
            raise ValidationError(f"{self.media_type!r} is no media type: write it as 'text/csv', or as a pattern such as 'image/*'")
        if self.least < 0 or (self.most is not None and self.most < max(self.least, 1)):
            raise ValidationError(f"the slot {self.name!r} cannot hold at least {self.least} and at most {self.most}")

    def check(self, data: Sequence[DataRef]) -> None:
        """`ValidationError` where this cannot go into the slot."""
        for each in data:
            if not fnmatch.fnmatchcase(each.media_type, self.media_type):
                raise ValidationError(f"the slot {self.name!r} takes {self.media_type}, and {each.name!r} is {each.media_type}")
        if len(data) < self.least or (self.most is not None and len(data) > self.most):
            wanted = f"{self.least}" if self.most == self.least else f"{self.least} to {'any number' if self.most is None else self.most}"
            raise ValidationError(f"the slot {self.name!r} takes {wanted}, not {len(data)}")


def check_name(name: str) -> None:
    """`ValidationError` where this cannot be the name of data."""
    if not 0 < len(name) <= LONGEST_NAME or "/" in name or "\0" in name or name in {".", ".."}:
        raise ValidationError(
            f"{name[:100]!r} cannot be the name of data: give one as of a file, at most {LONGEST_NAME} characters, without '/'"
        )


def check_media_type(media_type: str) -> None:
    """`ValidationError` where this is no media type."""
    if not _MEDIA_TYPE.fullmatch(media_type):
        raise ValidationError(f"{media_type[:100]!r} is no media type: write it as 'text/csv'")


def check_tags(tags: Sequence[str]) -> None:
    """`ValidationError` where these are no tags."""
    if len(tags) > MOST_TAGS or not all(0 < len(tag) <= _LONGEST_TAG and tag == tag.strip() for tag in tags):
        raise ValidationError(
            f"tags are at most {MOST_TAGS} texts of 1 to {_LONGEST_TAG} characters without blanks around them, not {tags!r:.200}"
        )


def inside(path: str) -> str:
    """A relative path that stays below its folder; `ValidationError` where it is none."""
    parts = path.split("/")
    if not path or "\0" in path or any(part in {"", ".", ".."} for part in parts):
        raise ValidationError(f"{path[:200]!r} must be a relative path that stays below its folder, such as 'data/mesh.csv'")
    return path


def plain_part(text: str) -> str:
    """A text as a part of a key: what has no place there is replaced."""
    return re.sub(r"[^A-Za-z0-9_.-]", "_", text).lstrip(".-")[:200] or "_"
