"""The place of a worker in a team: some workers that give all of themselves to one task of several nodes.

A worker that is asked into a team starts and takes nothing more, gives back what waits, and is *ready* when what ran has ended.
When all are ready, the root alone may take one message from the queue of the team; the others do nothing. The root leaves the team by
itself when its task has ended, and the coordinator then lets the others go. What it wants of a worker it says again until the worker's
heartbeat agrees; a root that has the task stays.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from broker_jobs.wire.messages import Seat, SeatState

if TYPE_CHECKING:
    from broker_jobs.core.request import Request
    from broker_jobs.core.spec import Lane
    from broker_jobs.wire.messages import Team
    from broker_jobs_worker.machine.state import Source


@dataclass(slots=True)
class Seating:
    """The seat of a worker, while it has one.

    Args:
        worker: its name

    Attributes:
        team: in which it is
    """

    worker: str
    team: Team | None = None
    _state: SeatState = SeatState.joining
    _complete: bool = False

    @property
    def seat(self) -> Seat | None:
        """What the coordinator is told."""
        return None if self.team is None else Seat(self.team, self._state)

    @property
    def root(self) -> bool:
        """Whether the task of the team starts here."""
        return self.team is not None and self.team.members[0].worker == self.worker

    @property
    def place(self) -> tuple[str, Lane] | None:
        """The queue from which its root takes the task of the team."""
        return (self.team.resource_class, self.team.lane) if self.team is not None and self.root else None

    @property
    def working(self) -> bool:
        """Whether the task of the team has started here."""
        return self._state is SeatState.working

    @property
    def hosts(self) -> tuple[str, ...]:
        """Where the members of the team are, that of the root first."""
        return () if self.team is None else tuple(member.host for member in self.team.members)

    def ask(self, team: Team | None, *, complete: bool, at_work: bool) -> bool:
        """A coordinator wants this; whether the seat is another now.

        Args:
            complete: the root may take the task
            at_work: a message of the team's queue is here
        """
        same = self.team is not None and team is not None and team.name == self.team.name
        if same or self.team == team:
            self._complete = self._complete or (same and complete)
            return False
        if at_work or self.working:
            return False
        self.leave()
        self.team = team
        return True

    def leave(self) -> None:
        """Be in no team any more."""
        self.team, self._state, self._complete = None, SeatState.joining, False

    def started(self) -> None:
        """The task of the team starts here."""
        self._state = SeatState.working

    def look(self, *, idle: bool) -> bool:
        """Whether the seat has changed, since what ran here has ended.

        Args:
            idle: nothing runs here, nor is about to
        """
        if self.team is None or not idle:
            return False
        match self._state:
            case SeatState.joining:
                self._state = SeatState.ready
                return True
            case SeatState.working:
                self.leave()
                return True
            case SeatState.ready:
                return False

    def closes(self, source: Source, request: Request) -> bool:
        """Whether nothing of this queue may start or be taken.

        Args:
            request: of its tasks
        """
        if self.team is None or not self._complete or self._state is not SeatState.ready:
            return self.team is not None or bool(request.nodes)
        return self.place != source
