"""What a batch brings about beyond its rows: performed after its commit, and only then."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from broker_jobs.coordinator.store import Writes

if TYPE_CHECKING:
    from broker_jobs.broker.port import Outgoing
    from broker_jobs.coordinator.store import OutboxRow
    from broker_jobs.hooks.facts import Moment
    from broker_jobs.wire.messages import Revocation


@dataclass(slots=True)
class Counted:
    """What a batch counts, for the metrics: by class, durations in milliseconds or how many.

    Attributes:
        queued: from the release of an attempt to its start
        ended: from submission to the recorded outcome
        crashes: attempts that were lost or crashed
        duplicates: outcomes that came for a task that had one
        dropped: messages that came too late to be of use, by the reason
    """

    queued: defaultdict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    ended: defaultdict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    crashes: Counter[str] = field(default_factory=Counter)
    duplicates: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True)
class Effects:
    """Messages to publish, classes to open, folders to empty.

    Attributes:
        outbox: published until they are confirmed
        sends: published once; what they say can be asked for again
        open_classes: classes whose queues must be declared before anything is published to them
        new_classes: the same, of classes that nobody in this partition has needed before
        close_classes: classes whose queues nobody needs any more
        forget: folders of value stores, and jobs whose values there are dropped
        delete: stores, and what is removed there
        moments: what plugins are told
        more: there is work left for another batch
    """

    outbox: list[OutboxRow] = field(default_factory=list)
    sends: list[Outgoing] = field(default_factory=list)
    open_classes: list[str] = field(default_factory=list)
    new_classes: list[str] = field(default_factory=list)
    close_classes: list[str] = field(default_factory=list)
    forget: list[tuple[str, str]] = field(default_factory=list)
    delete: list[tuple[str, str]] = field(default_factory=list)
    revocations: list[Revocation] = field(default_factory=list)
    counted: Counted = field(default_factory=Counted)
    moments: list[Moment] = field(default_factory=list)
    more: bool = False


@dataclass(slots=True)
class Batch:
    """One transaction in the making.

    Attributes:
        now: seconds, of a clock that never goes back
        now_ms: milliseconds since 1970
    """

    now: float
    now_ms: int
    writes: Writes = field(default_factory=Writes)
    effects: Effects = field(default_factory=Effects)
