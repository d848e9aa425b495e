"""A managed job as its users meet it."""

from __future__ import annotations

import datetime
import os
import shutil
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from broker_jobs.errors import ValidationError
from broker_jobs.manager import record as records
from broker_jobs.manager.actions import nodes
from broker_jobs.manager.programs import parents_of
from broker_jobs.manager.statuses import Category, Code, Status

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from broker_jobs.client.submitted import SubmittedJob
    from broker_jobs.manager.manager import JobManager
    from broker_jobs.manager.record import JobRecord


@dataclass(frozen=True, slots=True)
class Node:
    """A node of a workflow, or the one program of a program job.

    Attributes:
        status: display name, as of a job
        message: why it is in this status
        attempts: how often it was started
        parents: nodes that it waits for
    """

    name: str
    status: str
    message: str
    attempts: int
    parents: tuple[str, ...]


class ManagedJob:
    """A job of a `JobManager`: a row, with work of the client once it is executed. Properties are as last read, by this object.

    Attributes:
        record: the row
    """

    def __init__(self, manager: JobManager, record: JobRecord) -> None:
        self._manager = manager
        self._kept: SubmittedJob | None = None
        self.record = record

    # --- what it is ---

    @property
    def id(self) -> str:
        """Its id, 32 hexadecimal digits; ids sort by the time at which jobs were made."""
        return self.record.id

    @property
    def name(self) -> str:
        """What it is called."""
        return self.record.name

    @property
    def user(self) -> str:
        """Whose it is."""
        return self.record.user

    @property
    def groups(self) -> tuple[str, ...]:
        """The groups that it belongs to."""
        return self.record.groups

    @property
    def label(self) -> str:
        """The application that it belongs to."""
        return self.record.app

    @property
    def type(self) -> str:
        """Its type, such as ``"program"``."""
        return self.record.type

    @property
    def description(self) -> str:
        """A text for people."""
        return self.record.description

    @property
    def parameters(self) -> Mapping[str, Any]:
        """What its work was given."""
        return self.record.parameters

    @property
    def extended_properties(self) -> Mapping[str, Any]:
        """Whatever its user keeps with it; changed with `configure`."""
        return self.record.extended_properties

    @property
    def workspace(self) -> Path:
        """Its own folder, made and removed with it."""
        return Path(self.record.workspace)

    # --- how it goes ---

    @property
    def status(self) -> str:
        """Display name of its status, or the text of a custom one, as last read: `update_status` asks."""
        return str(self.record.status)

    @property
    def code(self) -> str:
        """The code of its status, such as ``"RUN"``; ``"OTH"`` for a custom one."""
        return self.record.status.code.value

    @property
    def categories(self) -> frozenset[Category]:
        """What holds for its status: ``pre_running``, ``running``, ``active``, ``non_terminal``, ``terminal``."""
        if self.record.ended:
            return frozenset({Category.terminal})
        return self._manager.actions.statuses.categories(self.record.status)

    @property
    def message(self) -> str:
        """Why it is in this status, and what went wrong in callbacks."""
        return self.record.message

    @property
    def creation_time(self) -> datetime.datetime:
        """When it was made."""
        return _time(self.record.created_ms)

    @property
    def execute_time(self) -> datetime.datetime | None:
        """When it was executed."""
        return None if self.record.executed_ms is None else _time(self.record.executed_ms)

    @property
    def start_time(self) -> datetime.datetime | None:
        """When its work began."""
        return None if self.record.started_ms is None else _time(self.record.started_ms)

    @property
    def completion_time(self) -> datetime.datetime | None:
        """When its work ended."""
        return None if self.record.completed_ms is None else _time(self.record.completed_ms)

    @property
    def run_time(self) -> datetime.timedelta | None:
        """How long it ran, or has run so far; None before it was executed."""
        found = records.run_time_ms(self.record, time.time_ns() // 1_000_000)
        return None if found is None else datetime.timedelta(milliseconds=found)

    @property
    def submitted(self) -> SubmittedJob | None:
        """The client's job, with its output, results and events; None where there is none.

        Raises:
            JobNotFound: it was forgotten
        """
        if not self.record.work:
            return None
        self._kept = self._manager.actions.work(self.record)
        return self._kept

    def nodes(self) -> list[Node]:
        """The nodes of a workflow as they are now; once it has ended, as they ended, from the row."""
        found = self.record.nodes
        if not found and self.record.work:
            found = nodes(self._manager.actions.work(self.record))
        parents = parents_of(self.record)
        return [
            Node(row["name"], str(Status(Code(row["status"]))), row["message"], row["attempts"], parents.get(row["name"], ()))
            for row in found
        ]

    # --- what is done with it; each answers with the status that follows ---

    def execute(self, *, before: Callable[[], object] | None = None) -> str:
        """Send its work. Where that fails its status is Error, and `message` says why.

        Args:
            before: called first, such as a function that puts files into the workspace; if it raises, nothing is sent, and the status
                is Error. Where several execute the job at once each calls it, and one sends

        Raises:
            WrongStatus: it is not pending
        """
        self._kept = self._manager.actions.execute(self.id, before)
        return self.refresh()

    def update_status(self, status: str | None = None, message: str | None = None) -> str:
        """Ask the ledger how its work is, or take the caller's word for it; results are processed where it has succeeded.

        An end stays: news that comes late changes nothing. Of a job that has ended, nobody is asked.

        Args:
            status: a code, a display name, or a text of its own; for jobs with work only the last, and not a terminal one
            message: why

        Raises:
            WrongStatus: the status of its work cannot be set
            CoordinatorUnavailable: nobody is there who could say
        """
        if status is None:
            self._manager.actions.update(self.id)
        else:
            self._manager.actions.set(self.id, self._manager.actions.statuses.parse(status), message)
        return self.refresh()

    def wait(self, timeout: float | None = None) -> str:
        """Wait for the end of its work.

        Raises:
            TimeoutError: it has not ended after `timeout` seconds
            WrongStatus: it was not executed
            ValidationError: it is a basic job, which has none
        """
        self._manager.actions.wait(self.id, timeout)
        return self.refresh()

    def stop(self, reason: str = "") -> str:
        """End it: what waits does not start, and what runs is stopped. One that has ended stays as it is."""
        self._manager.actions.stop(self.id, reason)
        return self.refresh()

    def pause(self, reason: str = "") -> str:
        """Hold it back: what has started goes on, and nothing else starts.

        Raises:
            WrongStatus: it was not executed
        """
        self._manager.actions.pause(self.id, reason)
        return self.refresh()

    def resume(self) -> str:
        """Let it go on.

        Raises:
            WrongStatus: it was not executed
        """
        self._manager.actions.resume(self.id)
        return self.refresh()

    def resubmit(self, *, everything: bool = False, before: Callable[[], object] | None = None) -> str:
        """Run it again: status, times and message begin anew. Of a workflow, what did not succeed; all of it, where all has succeeded.

        Args:
            everything: also what succeeded
            before: as in `execute`

        Raises:
            WrongStatus: it has not ended
        """
        self._kept = self._manager.actions.resubmit(self.id, before, everything=everything)
        return self.refresh()

    def process_results(self, *, again: bool = False) -> str:
        """Call its function with it, once in its life, whoever asks; `update_status` does so by itself.

        Where the function raises, the status is Error. Where it cannot be imported here, the results stay ready for another process.

        Args:
            again: also where somebody has begun before: the function has raised, or its process has died
        """
        self._manager.actions.process(self.id, once_more=again)
        return self.refresh()

    def configure(self, **parameters: Any) -> None:
        """Give it other parameters, as `JobManager.create_job` takes them; each replaces what was there.

        Raises:
            WrongStatus: it was executed; `description`, `extended_properties`, `callbacks` and `process_results` can be changed even then
            ValidationError: something is wrong with them
        """
        self._manager.configure(self.id, parameters)
        self.refresh()

    def bring(self, place: str | os.PathLike[str], name: str = "") -> Path:
        """Copy a file, or a folder with all that is in it, into its workspace. A copy of a file is complete as soon as it is there.

        Args:
            place: of the file or folder
            name: of the copy, relative to the workspace; default: as it is called

        Returns:
            the copy

        Raises:
            FileNotFoundError: there is nothing at the place
            ValidationError: the name leads out of the workspace
        """
        target = Path(os.path.normpath(self.workspace / (name or Path(place).name)))
        if self.workspace not in target.parents:
            raise ValidationError(f"{name!r} is no name for a file in the workspace of a job")
        target.parent.mkdir(parents=True, exist_ok=True)
        if Path(place).is_dir():
            return Path(shutil.copytree(place, target, dirs_exist_ok=True))
        part = target.with_name(f".{uuid.uuid4().hex}.part")
        try:
            shutil.copy2(place, part)
            return part.replace(target)  # a link in its place is not followed
        finally:
            part.unlink(missing_ok=True)

    def delete(self) -> None:
        """As `JobManager.delete`."""
        self._manager.delete(self)

    def refresh(self) -> str:
        """Read the row again.

        Raises:
            JobNotFound: it was deleted
        """
        self.record = self._manager.actions.store.get(self.id)
        return self.status

    def __repr__(self) -> str:
        return f"<ManagedJob {self.id[-8:]} {self.name!r} {self.status}>"


def _time(ms: int) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(ms / 1000, datetime.UTC)
