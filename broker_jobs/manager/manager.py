"""The job manager: makes jobs from templates, and finds them again."""

from __future__ import annotations

import dataclasses
import os
import threading
import time
from typing import TYPE_CHECKING, Any, Self

from broker_jobs import config
from broker_jobs.client.client import Client
from broker_jobs.errors import TemplateNotFound, ValidationError, WrongStatus
from broker_jobs.ids import new_job_id
from broker_jobs.manager.actions import Actions
from broker_jobs.manager.job import ManagedJob
from broker_jobs.manager.kinds import kind_of
from broker_jobs.manager.parameters import read, text
from broker_jobs.manager.record import JobRecord
from broker_jobs.manager.statuses import PENDING, Statuses
from broker_jobs.manager.store import JobStore
from broker_jobs.manager.workspaces import Workspaces
from broker_jobs.templates import JobTemplate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path


class JobManager:
    """The jobs of one application, in tables of its own: a job is a row before it is executed, and a job of the client after.

    It may be used by many threads, and by several processes on the same store. A context manager.

    Args:
        store: a file, or ``postgresql://user:password@host/database`` (needs ``broker-jobs[postgres]``);
            default: ``manager.db`` in the state folder
        client: over which work is sent; default: ``Client()``, when it is needed first, closed with the manager
        templates: from which jobs are made
        app: name of the application: a manager sees the jobs of its own alone
        workspaces: folder for the workspaces of all applications; default: ``workspaces`` in the state folder. Workers must see it, too
        statuses: category (``pre_running``, ``running``, ``active``, ``terminal``) of each custom status; of one that is not
            declared, ``active``

    Raises:
        ValidationError: one of these is wrong
        ManagerStoreError: the database cannot be used
    """

    def __init__(
        self,
        store: str | os.PathLike[str] | None = None,
        *,
        client: Client | None = None,
        templates: Iterable[JobTemplate] = (),
        app: str = "default",
        workspaces: str | os.PathLike[str] | None = None,
        statuses: Mapping[str, str] | None = None,
    ) -> None:
        self.app = text(app, "app")
        self.templates: dict[str, JobTemplate] = {}
        for template in templates:
            if template.name in self.templates:
                raise ValidationError(f"there are two templates {template.name!r}")
            kind_of(template.type)
            self.templates[template.name] = template
        self._given = client
        self._own: Client | None = None
        self._lock = threading.Lock()
        folders = Workspaces(config.state_folder() / "workspaces" if workspaces is None else workspaces, self.app)
        place = config.state_folder() / "manager.db" if store is None else os.fspath(store)
        self.actions = Actions(JobStore(place), Statuses(statuses), folders, self._client, self.facade)

    def create_job(self, name: str, user: str, template_name: str, *, groups: Iterable[str] = (), **parameters: Any) -> ManagedJob:
        """Make a job: a row and a workspace. Nothing of it runs before `ManagedJob.execute`.

        Args:
            name: of the job
            user: whose it is
            template_name: of one of the manager's templates
            groups: that may see it, too
            parameters: each replaces the template's of the same name, as a whole. `description`, `extended_properties` (a dictionary),
                `process_results` (a function, or its dotted path) and `callbacks` (such paths by status) belong to the job itself,
                all others to its work. Variables are replaced in both

        Raises:
            TemplateNotFound: there is no such template
            UnknownVariable: a parameter names a variable that there is not
            ValidationError: something else is wrong; the text says what
            WorkspaceError: a workspace cannot be made
        """
        template = self.templates.get(template_name)
        if template is None:
            known = ", ".join(map(repr, self.templates)) or "none"
            raise TemplateNotFound(f"there is no template {template_name!r}; known here: {known}")
        job_id = str(new_job_id())
        label, owner = text(name, "the name of a job"), text(user, "the user of a job")
        folders = self.actions.workspaces
        given = read(template.filled(parameters, self._variables(owner, job_id)), self.actions.statuses)
        record = JobRecord(
            id=job_id,
            app=self.app,
            name=label,
            user=owner,
            template=template.name,
            type=template.type,
            workspace=str(folders.job(job_id)),
            created_ms=time.time_ns() // 1_000_000,
            groups=_groups(groups),
            parameters=given.parameters,
            **given.settings,
        )
        kind_of(record.type).check(record)
        folders.make(job_id)
        try:
            self.actions.store.add(record)
        except BaseException:
            folders.remove(job_id)
            raise
        return ManagedJob(self, record)

    def list_jobs(self, user: str | None = None, groups: Iterable[str] | str | None = None) -> list[ManagedJob]:
        """Jobs of this application, the oldest first.

        Args:
            user: only those of this user
            groups: only those of one of these groups

        Raises:
            ValidationError: both were given
        """
        if user is not None and groups is not None:
            raise ValidationError("give a user or groups, not both")
        wanted = None if groups is None else _groups([groups] if isinstance(groups, str) else groups)
        return [ManagedJob(self, record) for record in self.actions.store.jobs(self.app, user=user, groups=wanted)]

    def get_job(self, job_id: str, user: str | None = None) -> ManagedJob | None:
        """The job of this id; None where this application has none, or where it is not this user's."""
        record = self.actions.store.find(job_id)
        if record is None or record.app != self.app or (user is not None and record.user != user):
            return None
        return ManagedJob(self, record)

    def delete(self, job: ManagedJob | str) -> None:
        """Delete a job with its workspace, and forget what the ledger has of it.

        Raises:
            JobActive: it is active, or its work still runs
            CoordinatorUnavailable: it has work, and nobody is there who could forget it; nothing was deleted
            JobNotFound: there is none
            WorkspaceError: the row is gone, and something of the workspace is left
        """
        self.actions.delete(job if isinstance(job, str) else job.id)

    def on(self, status: str, function: Callable[[ManagedJob], object]) -> None:
        """Call a function with each job that gets a status through this manager; what it raises is logged, and kept in the job's message.

        Args:
            status: a code, a display name, or the text of a custom one
            function: of one argument
        """
        if not callable(function):
            raise ValidationError(f"what is called for {status!r} must be a function, not {function!r}")
        self.actions.listen(self.actions.statuses.parse(status), function)

    def declare_status(self, text: str, category: str) -> None:
        """Declare one more custom status, as with `statuses`.

        Raises:
            ValidationError: the text is that of another status, or there is no such category
        """
        self.actions.statuses.declare(text, category)

    def facade(self, record: JobRecord) -> object:
        """What functions of users are given as a job; a subclass with jobs of its own says so here."""
        return ManagedJob(self, record)

    def app_workspace(self) -> Path:
        """The folder of the application, ``$(APP_WORKSPACE)``."""
        return self.actions.workspaces.app()

    def user_workspace(self, user: str) -> Path:
        """The folder of a user, ``$(USER_WORKSPACE)``."""
        return self.actions.workspaces.user(text(user, "the user"))

    def configure(self, job_id: str, parameters: Mapping[str, Any]) -> None:
        """See `ManagedJob.configure`."""
        record = self.actions.store.get(job_id)
        template = self.templates.get(record.template) or JobTemplate(record.template)
        bare = dataclasses.replace(template, parameters={})
        given = read(bare.filled(parameters, self._variables(record.user, job_id)), self.actions.statuses)

        def decide(found: JobRecord) -> JobRecord:
            if given.parameters and found.status != PENDING:
                raise WrongStatus(f"{found} is {found.status}: {', '.join(given.parameters)} cannot be changed after it was executed")
            changed = dataclasses.replace(found, parameters={**found.parameters, **given.parameters}, **given.settings)
            kind_of(changed.type).check(changed)
            return changed

        self.actions.store.change(job_id, decide)

    def close(self) -> None:
        """Close the client that the manager has opened."""
        with self._lock:
            client, self._own = self._own, None
        if client is not None:
            client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<JobManager of {self.app!r} in {self.actions.store.place}>"

    def _client(self) -> Client:
        if self._given is not None:
            return self._given
        with self._lock:
            if self._own is None:
                self._own = Client()
            return self._own

    def _variables(self, user: str, job_id: str) -> dict[str, str]:
        folders = self.actions.workspaces
        paths = {"APP_WORKSPACE": folders.app(), "USER_WORKSPACE": folders.user(user), "JOB_WORKSPACE": folders.job(job_id)}
        return {name: str(path) for name, path in paths.items()}


def _groups(given: Iterable[str]) -> tuple[str, ...]:
    if isinstance(given, str):
        raise ValidationError(f"groups must be a list of names, not {given!r}")
    return tuple(sorted({text(name, "a group") for name in given}))
