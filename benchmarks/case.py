"""What a case is: sides that do the same work, figures that are taken, and targets of ours."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.measure import Measure, Setting

OURS: Final = "broker-jobs"
RABBITMQ: Final = f"{OURS}, RabbitMQ"
EMBEDDED: Final = f"{OURS}, embedded"

SAFE: Final = (
    "quorum queues, persistent messages, publisher confirms; acknowledged after the confirmed reply; each outcome in the ledger "
    "(SQLite, synchronous=FULL) before its acknowledgement; results stored"
)
SAFE_EMBEDDED: Final = (
    "one SQLite file for the messages and one for the ledger (synchronous=NORMAL: safe against SIGKILL, not against loss of power); "
    "acknowledged after the recorded reply; results stored"
)


class Better(StrEnum):
    """Which way a figure is better."""

    higher = "higher"
    lower = "lower"


@dataclass(frozen=True, slots=True)
class Figure:
    """A number that each side of a case may have.

    Attributes:
        key: its name in a `Measure`
        unit: as printed behind it
        better: which way
        digits: behind the point
    """

    key: str
    unit: str
    better: Better = Better.higher
    digits: int = 0


@dataclass(frozen=True, slots=True)
class Side:
    """Somebody who does the work.

    Attributes:
        name: of the system, and of its settings where it comes with several
        run: a function, or ``module:function`` in the environment of the peers
        safety: what is confirmed, persistent, stored, and when it is acknowledged; empty where nothing is sent
        rabbitmq: whether it gets a virtual host
        tasks: how many it does at most, where it cannot do as many as the others; None: as many
        seconds: what one measurement should take at most, where it is not what the others of its kind take; None: the same
    """

    name: str
    run: Callable[[Setting], Measure] | str
    safety: str
    rabbitmq: bool = False
    tasks: int | None = None
    seconds: float | None = None

    @property
    def peer(self) -> bool:
        """Whether it needs the environment of the peers."""
        return isinstance(self.run, str)

    @property
    def ours(self) -> bool:
        """Whether it is broker-jobs."""
        return self.name.startswith(OURS)

    @property
    def entry(self) -> str:
        """``module:function``."""
        return self.run if isinstance(self.run, str) else f"{self.run.__module__}:{self.run.__name__}"


class Bound(StrEnum):
    """Which way a target binds."""

    least = "at least"
    most = "at most"


@dataclass(frozen=True, slots=True)
class Target:
    """What one figure of ours should be: a number, or so many times a figure of another side in the same run.

    Attributes:
        side: whose
        figure: which
        bound: which way
        value: the number, or the factor
        other: side and figure that the factor is of; None for a number
        whole: whether it only counts with all tasks
    """

    side: str
    figure: str
    bound: Bound
    value: float
    other: tuple[str, str] | None = None
    whole: bool = False


@dataclass(frozen=True, slots=True)
class Case:
    """A row of the comparison.

    Attributes:
        name: what `./scripts/bench` takes
        title: the work, in a few words
        counted: what the figures are, in a sentence
        tasks: how many, by default
        sides: ours first
        figures: in the order of the columns
        targets: what is aimed at
        once: whether one round is enough, because it is long
        seconds: what one measurement of ours should take at most
        limit: seconds after which a side is stopped
    """

    name: str
    title: str
    counted: str
    tasks: int
    sides: tuple[Side, ...]
    figures: tuple[Figure, ...]
    targets: tuple[Target, ...] = ()
    once: bool = False
    seconds: float = 10.0
    limit: float = 120.0


RATE: Final = Figure("rate", "tasks/s")
