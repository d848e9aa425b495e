"""Apps and their job managers. Names are those of ``tethys_sdk.base`` and of the document."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, ClassVar

from broker_jobs import manager as native
from broker_jobs.compat.tethys.jobs import CUSTOM, KEPT, MANAGERS, JobTemplate, TethysJob, viewed
from broker_jobs.errors import TemplateNotFound, ValidationError
from broker_jobs.manager.functions import path_of
from broker_jobs.templates import OWN, escaped
from broker_jobs.templates import JobTemplate as NativeTemplate

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from broker_jobs.manager.record import JobRecord


class _Manager(native.JobManager):
    def facade(self, record: JobRecord) -> TethysJob:
        return viewed(native.ManagedJob(self, record))


class JobManager:
    """The jobs of an app (or of its class), over a manager with the `options` ``store``, ``client`` and ``workspaces``: `native`."""

    def __init__(self, app: Any, **options: Any) -> None:
        self.app = app() if isinstance(app, type) else app
        self.job_templates: dict[str, JobTemplate] = {template.name: template for template in self.app.job_templates()}
        templates = [NativeTemplate(name, name) for name in ("basic", "program", "workflow")]
        self.native = _Manager(templates=templates, app=self.app.package, statuses=dict(CUSTOM), **options)
        MANAGERS.add(self.native)

    def create_job(
        self, name: str, user: Any, template_name: str | None = None, *, job_type: Any = None, groups: Any = (), **kwargs: Any
    ) -> TethysJob:
        """Make a job, from a template or of a type. It is kept; nothing runs before `TethysJob.execute`.

        Users and groups are names, or those of Django. `kwargs` are `description`, `extended_properties`, `process_results_function`, and
        parameters, which go before those of the template. `TemplateNotFound` (a `KeyError`) where there is no such template or type.
        """
        if (template_name is None) == (job_type is None):
            raise ValidationError("give either the name of a template or a job_type")
        template = JobTemplate("", job_type) if template_name is None else self.job_templates.get(template_name)
        if template is None:
            raise TemplateNotFound(f"A job template with name {template_name} was not defined; known here: {', '.join(self.job_templates)}")
        given = {**escaped(template.parameters, OWN), **escaped(kwargs)}
        settings = {key: given.pop(key) for key in ("description", "extended_properties") if key in given}
        settings["process_results"] = given.pop("process_results_function", None)
        work, kept = template.type.translated(given)
        own = {"class": path_of(template.type, "a type of jobs"), "given": kept}
        settings["extended_properties"] = {**settings.get("extended_properties", {}), KEPT: own}
        found = self.native.create_job(name, _name(user), template.type.native_type, groups=_names(groups), **work, **settings)
        return viewed(found)

    def list_jobs(self, user: Any = None, groups: Any = None, order_by: str = "id", filters: Any = None) -> list[TethysJob]:
        """Jobs of a user or of some groups (of both a `ValueError`), with just the values of `filters`, in the order of an attribute."""
        found = self.native.list_jobs(None if user is None else _name(user), None if groups is None else _names(groups))
        jobs = [job for job in map(viewed, found) if _fits(job, filters)]
        key = order_by.removeprefix("-")
        return sorted(jobs, key=lambda job: (_value(job, key) is not None, _value(job, key)), reverse=order_by != key)

    def get_job(self, job_id: str, user: Any = None, filters: Any = None) -> TethysJob | None:
        """The job of this id; None where the app has none, or where user or filters do not fit."""
        found = self.native.get_job(job_id, None if user is None else _name(user))
        return viewed(found) if found is not None and _fits(viewed(found), filters) else None


class TethysAppBase:
    """An app, called `package`, with `manager_options` for its manager: ``store``, ``client`` and ``workspaces``."""

    package: ClassVar[str] = "default"
    manager_options: ClassVar[Mapping[str, Any]] = {}

    def job_templates(self) -> Iterable[JobTemplate]:
        """Its templates; none unless an app says so."""
        return ()

    @classmethod
    @functools.cache
    def get_job_manager(cls) -> JobManager:
        """Its manager, one for each process."""
        return JobManager(cls, **cls.manager_options)

    @classmethod
    def get_app_workspace(cls) -> Path:
        """The folder of the app."""
        return cls.get_job_manager().native.app_workspace()

    @classmethod
    def get_user_workspace(cls, user: Any) -> Path:
        """The folder of a user."""
        return cls.get_job_manager().native.user_workspace(_name(user))


def _name(given: Any) -> Any:
    if getattr(given, "is_anonymous", False):
        return "AnonymousUser"
    return getattr(given, "username", None) or getattr(given, "name", given)


def _names(given: Any) -> list[Any]:
    return [_name(one) for one in (given if isinstance(given, list | tuple | set) else [given])]


def _value(job: TethysJob, field: str) -> Any:
    if not hasattr(job, field if field != "status" else "cached_status"):
        raise ValidationError(f"jobs have no attribute {field!r}")
    return getattr(job, field if field != "status" else "cached_status")  # asking for each would be slow


def _fits(job: TethysJob, filters: Mapping[str, Any] | None) -> bool:
    return all(_value(job, field) == (_name(value) if field == "user" else value) for field, value in (filters or {}).items())
