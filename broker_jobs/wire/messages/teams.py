"""Workers that run a task of several nodes together: what a coordinator wants of them, and where they are."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar

from broker_jobs.core.spec import Lane
from broker_jobs.errors import ValidationError


@dataclass(frozen=True, slots=True)
class Member:
    """A worker of a team."""

    tag: ClassVar[str] = "member"
    worker: str
    boot: str
    host: str


@dataclass(frozen=True, slots=True)
class Team:
    """Workers of one group, each of which gives all of itself to one task; then the team is over.

    Attributes:
        name: unique for ever
        resource_class: of the queue from which the root takes the task
        lane: the same
        members: the first is the *root*: the task starts there

    Raises:
        ValidationError: nobody is in it, or somebody twice
    """

    tag: ClassVar[str] = "team"
    name: str
    resource_class: str
    lane: Lane
    members: tuple[Member, ...]

    def __post_init__(self) -> None:
        if not self.members or len({member.worker for member in self.members}) < len(self.members):
            raise ValidationError("a team has members, each once")


class SeatState(StrEnum):
    """How far a worker is with its team."""

    joining = "joining"
    """What else runs there must end first; it takes nothing more."""
    ready = "ready"
    """It does nothing else."""
    working = "working"
    """It is the root, and has the task."""


@dataclass(frozen=True, slots=True)
class Seat:
    """The place of a worker in a team."""

    tag: ClassVar[str] = "seat"
    team: Team
    state: SeatState


@dataclass(frozen=True, slots=True)
class TeamAsked:
    """To one worker: be in this team, or, where there is none, in no team any more. It answers by its heartbeat.

    A root that has the task stays until that has ended.

    Attributes:
        complete: all are ready: the root may take the task
    """

    tag: ClassVar[str] = "team asked"
    worker: str
    boot: str
    team: Team | None = None
    complete: bool = False
