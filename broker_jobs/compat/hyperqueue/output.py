"""Where the output of a task goes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from broker_jobs.compat.hyperqueue.validation import ValidationException

GenericPath = Path | str
FileOnCloseBehavior = Literal["none", "rm-if-finished"]


@dataclass
class StdioDef:
    """A file for a stream, and what becomes of it.

    Attributes:
        path: None is the default path
        on_close: ``"rm-if-finished"`` removes it when the task has succeeded
    """

    path: GenericPath | None
    on_close: FileOnCloseBehavior

    @staticmethod
    def from_path(path: GenericPath) -> StdioDef:
        """A file that stays."""
        return StdioDef(path, "none")

    @staticmethod
    def remove_if_finished(path: GenericPath | None = None) -> StdioDef:
        """A file that is removed when the task has succeeded."""
        return StdioDef(path, "rm-if-finished")


Stdio = GenericPath | StdioDef
"""A path, or a `StdioDef`; None in its place is no file."""


def default_stdout() -> str:
    """Where standard output goes unless it is told."""
    return "%{CWD}/%{TASK_ID}.stdout"


def default_stderr() -> str:
    """Where standard error goes unless it is told."""
    return "%{CWD}/%{TASK_ID}.stderr"


def build_stdio(stdio: object, stream: str) -> StdioDef | None:
    """The definition of a stream; `ValidationException` where it is none."""
    match stdio:
        case None | StdioDef():
            return stdio
        case str() | Path():
            return StdioDef.from_path(stdio)
        case _:
            raise ValidationException(f"{stream} must be a path, a StdioDef or None, not {stdio!r}")
