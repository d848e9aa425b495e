"""Schedulers: where condor jobs go. Names are those of ``tethys_sdk.compute``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from broker_jobs.errors import ValidationError

# Where the executor of a scheduler is chosen: options of tasks by its type.
EXECUTORS: Final[dict[str, dict[str, Any]]] = {"workers": {}, "condor": {"executor": "htcondor"}}
_saved: Final[dict[str, Scheduler]] = {}


@dataclass(frozen=True, slots=True)
class Scheduler:
    """Where condor jobs go: ``condor``, or ``workers``, which is always there."""

    name: str
    host: str = ""
    type: str = "condor"

    def save(self) -> None:
        """Let this process find it by its name; `ValidationError` where another one has it."""
        if self.name == WORKERS.name or _saved.setdefault(self.name, self) != self:
            raise ValidationError(f"there is a scheduler {self.name!r} already: give this one another name")


WORKERS: Final = Scheduler("workers", type="workers")


def list_schedulers() -> list[Scheduler]:
    """The schedulers that were saved in this process, by name, and at last the workers of the broker."""
    return [*sorted(_saved.copy().values(), key=lambda one: one.name), WORKERS]


def get_scheduler(name: str) -> Scheduler | None:
    """The scheduler of this name, or None."""
    return WORKERS if name == WORKERS.name else _saved.get(name)


def create_condor_scheduler(name: str, host: str, *_login: Any, **_logins: Any) -> Scheduler:
    """A scheduler, which is found once it is saved. Nobody logs in anywhere: users, passwords and keys are taken, and not kept."""
    return Scheduler(name, host)
