"""Statuses of managed jobs: those of Tethys with their codes, custom ones, and what the client's states mean in them. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from broker_jobs.core.states import ENDED, JobState, TaskState
from broker_jobs.errors import ValidationError

if TYPE_CHECKING:
    from collections.abc import Mapping


class Code(StrEnum):
    """The code of a status; `NAMES` has the words for people."""

    PEN = "PEN"
    """A row, and nothing else yet."""
    SUB = "SUB"
    RUN = "RUN"
    VAR = "VAR"
    """Nodes of a workflow are in different states."""
    PAS = "PAS"
    COM = "COM"
    ERR = "ERR"
    ABT = "ABT"
    VCP = "VCP"
    """A workflow has ended; some of its nodes have succeeded, and some have not."""
    RES = "RES"
    """The work has succeeded, and its results are not processed yet."""
    OTH = "OTH"
    """A custom status, which has a text instead."""


NAMES: Final[Mapping[Code, str]] = {
    Code.PEN: "Pending",
    Code.SUB: "Submitted",
    Code.RUN: "Running",
    Code.VAR: "Various",
    Code.PAS: "Paused",
    Code.COM: "Complete",
    Code.ERR: "Error",
    Code.ABT: "Aborted",
    Code.VCP: "Various-Complete",
    Code.RES: "Results-Ready",
    Code.OTH: "Other",
}


class Category(StrEnum):
    """What may be asked of a status."""

    pre_running = "pre_running"
    running = "running"
    active = "active"
    non_terminal = "non_terminal"
    terminal = "terminal"
    """A job leaves it by `resubmit` alone."""


_C = Category
_PRE_RUNNING: Final = frozenset({_C.pre_running, _C.non_terminal})
_RUNNING: Final = frozenset({_C.running, _C.active, _C.non_terminal})
_ACTIVE: Final = frozenset({_C.active, _C.non_terminal})
_TERMINAL: Final = frozenset({_C.terminal})

CATEGORIES: Final[Mapping[Code, frozenset[Category]]] = {
    Code.PEN: _PRE_RUNNING,
    Code.SUB: _PRE_RUNNING | _ACTIVE,
    Code.RUN: _RUNNING,
    Code.VAR: _RUNNING,
    Code.PAS: _ACTIVE,
    Code.COM: _TERMINAL,
    Code.ERR: _TERMINAL,
    Code.ABT: _TERMINAL,
    Code.VCP: _TERMINAL,
    Code.RES: _TERMINAL,
    Code.OTH: _ACTIVE,  # of a text that nobody has declared: whoever sets it goes on to work
}
_OF_CUSTOM: Final = {_C.pre_running: _PRE_RUNNING, _C.running: _RUNNING, _C.active: _ACTIVE, _C.terminal: _TERMINAL}


@dataclass(frozen=True, slots=True)
class Status:
    """A status of a job.

    Attributes:
        text: of a custom one; empty otherwise
    """

    code: Code
    text: str = ""

    def __str__(self) -> str:
        return self.text or NAMES[self.code]


PENDING: Final = Status(Code.PEN)
SUBMITTED: Final = Status(Code.SUB)
PAUSED: Final = Status(Code.PAS)
RUNNING: Final = Status(Code.RUN)
COMPLETE: Final = Status(Code.COM)
ERROR: Final = Status(Code.ERR)
ABORTED: Final = Status(Code.ABT)
VARIOUS_COMPLETE: Final = Status(Code.VCP)
RESULTS_READY: Final = Status(Code.RES)

_WORDS: Final = {word.casefold(): Status(code) for code, name in NAMES.items() if code is not Code.OTH for word in (code.value, name)}


class Statuses:
    """The statuses of one manager.

    Args:
        custom: category of each custom status by its text: ``pre_running``, ``running``, ``active`` or ``terminal``

    Raises:
        ValidationError: a text is that of another status, or a category is none of these
    """

    def __init__(self, custom: Mapping[str, str] | None = None) -> None:
        self._custom: dict[str, frozenset[Category]] = {}
        for text, category in (custom or {}).items():
            self.declare(text, category)

    def declare(self, text: str, category: str) -> None:
        """Declare one; of one that was declared before, the category is changed."""
        if self.parse(text).code is not Code.OTH:
            raise ValidationError(f"{text!r} is a status already: give your own another name")
        if category not in set(_OF_CUSTOM):
            raise ValidationError(f"the category of {text!r} must be one of {', '.join(_OF_CUSTOM)}, not {category!r}")
        self._custom[text] = _OF_CUSTOM[Category(category)]

    def parse(self, word: str) -> Status:
        """The status of a code, a display name, or of any other text: then a custom one.

        Raises:
            ValidationError: it is no text, an empty one, too long, or stands for all custom ones
        """
        if not isinstance(word, str) or not word.strip() or "\0" in word or len(word) > 200:  # noqa: PLR2004 (as the text says)
            raise ValidationError(f"a status must be a code, a name or a text of your own of up to 200 characters, not {word!r:.250}")
        if word in {Code.OTH.value, NAMES[Code.OTH]}:
            raise ValidationError(f"{word!r} stands for all custom statuses: give the text of one")
        return _WORDS.get(word.casefold()) or Status(Code.OTH, word)

    def categories(self, status: Status) -> frozenset[Category]:
        """What holds for a status; one that was not declared is active."""
        return self._custom.get(status.text, CATEGORIES[status.code]) if status.text else CATEGORIES[status.code]

    def terminal(self, status: Status) -> bool:
        """Whether it is an end."""
        return Category.terminal in self.categories(status)


OF_TASKS: Final[Mapping[TaskState, Code]] = {
    TaskState.waiting: Code.PEN,
    TaskState.queued: Code.SUB,
    TaskState.paused: Code.PAS,
    TaskState.running: Code.RUN,
    TaskState.retrying: Code.SUB,
    TaskState.canceling: Code.RUN,
    TaskState.succeeded: Code.COM,
    TaskState.failed: Code.ERR,
    TaskState.canceled: Code.ABT,
    TaskState.aborted: Code.ABT,
}
"""What the state of a task means for a node."""

_OF_JOBS: Final[Mapping[JobState, Status]] = {
    JobState.waiting: SUBMITTED,
    JobState.running: RUNNING,
    JobState.paused: PAUSED,
    JobState.succeeded: COMPLETE,
    JobState.failed: ERROR,
    JobState.canceled: ABORTED,
    JobState.aborted: ABORTED,
}


def of_job(state: JobState, counts: Mapping[str, int]) -> Status:
    """What the state of the client's job means.

    Args:
        counts: tasks by state
    """
    there = {TaskState(name) for name, count in counts.items() if count}
    if state is JobState.running and len({OF_TASKS[task] for task in there}) > 1:
        return Status(Code.VAR)
    if state is JobState.failed and TaskState.succeeded in there and there <= ENDED:
        return VARIOUS_COMPLETE
    return _OF_JOBS[state]
