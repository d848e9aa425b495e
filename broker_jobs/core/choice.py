"""What narrows a list of jobs or data down."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Collection


@dataclass(frozen=True, slots=True)
class Choice:
    """Some of what was made.

    Attributes:
        some: tags of which one must be there; empty means any
        none: tags of which none may be there
        since_ms: made then or later, in milliseconds since 1970
        until_ms: made before
    """

    tag: ClassVar[str] = "choice"
    some: tuple[str, ...] = ()
    none: tuple[str, ...] = ()
    since_ms: int | None = None
    until_ms: int | None = None

    def takes(self, tags: Collection[str], made_ms: int) -> bool:
        """Whether it takes what has these tags, and was made then."""
        return (
            (not self.some or any(tag in tags for tag in self.some))
            and not any(tag in tags for tag in self.none)
            and (self.since_ms is None or made_ms >= self.since_ms)
            and (self.until_ms is None or made_ms < self.until_ms)
        )
