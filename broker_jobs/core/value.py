"""How a value of a user travels: inside a message, or as a reference into a value store.

Nothing here reads the bytes; `broker_jobs.wire.payload` does, in the processes that may run user code.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar, Final

INLINE_LIMIT: Final = 64 * 1024
"""Values up to this many bytes travel in messages; larger ones go to the value store where there is one."""

INLINE_LIMIT_WITHOUT_STORE: Final = 8 * 1024 * 1024
"""Without a value store, a value may be this large; beyond it `ValueTooLarge` is raised."""

CHUNK_LIMIT: Final = 1024 * 1024
"""A chunk of tasks is closed before it grows over this many bytes."""


class Encoding(StrEnum):
    """How the bytes of a value are written."""

    msgpack = "m"
    pickle = "p"


@dataclass(frozen=True, slots=True)
class Inline:
    """A value inside the message."""

    tag: ClassVar[str] = "inline"
    encoding: Encoding
    data: bytes

    @property
    def size(self) -> int:
        """Bytes of the value."""
        return len(self.data)

    @property
    def pieces(self) -> tuple[bytes, ...]:
        """Its bytes, as those of `Pieces`."""
        return (self.data,)

    def joined(self) -> Inline:
        """Itself, as of `Pieces`."""
        return self


@dataclass(frozen=True, slots=True)
class Pieces:
    """A value that is large, on its way to a store or into a message, or from there.

    Attributes:
        pieces: its bytes, one piece after the other. Large ones are the user's own objects, which saves a copy of each; none can change
    """

    encoding: Encoding
    pieces: tuple[bytes, ...]

    @property
    def size(self) -> int:
        """Bytes of the value."""
        return sum(map(len, self.pieces))

    def joined(self) -> Inline:
        """The same in one piece."""
        return Inline(self.encoding, b"".join(self.pieces))


@dataclass(frozen=True, slots=True)
class Stored:
    """A reference into a value store.

    Attributes:
        store: the absolute folder of the store
        key: path of the value inside the store, ``<job id>/<digest in hex>``
        sha256: digest of the bytes where version 0.1.0 has written them, else empty
        size: bytes of the value
        blake3: digest of the bytes, checked by whoever reads them; empty where they have the other one
    """

    tag: ClassVar[str] = "stored"
    encoding: Encoding
    store: str
    key: str
    sha256: bytes
    size: int
    blake3: bytes = b""

    @property
    def digest(self) -> bytes:
        """What stands for the bytes."""
        return self.blake3 or self.sha256


Value = Inline | Stored
