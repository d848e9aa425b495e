"""Apps and their job managers. Names are those of ``tethys_sdk.base`` and of the document."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, ClassVar, Final

from broker_jobs import manager as native
from broker_jobs.compat.tethys.jobs import CUSTOM, KEPT, MANAGERS, TethysJob, type_of, viewed
from broker_jobs.errors import TemplateNotFound, ValidationError
from broker_jobs.manager.functions import path_of
from broker_jobs.templates import OWN, escaped
from broker_jobs.templates import JobTemplate as NativeTemplate

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from broker_jobs.compat.tethys.jobs import JobTemplate
    from broker_jobs.manager.record import JobRecord

ANONYMOUS: Final = "AnonymousUser"
_FIELDS: Final = (
    "id",
    "name",
    "description",
    "label",
    "user",
    "type",
    "status",
    "creation_time",
    "execute_time",
    "start_time",
    "completion_time",
)
_managers: Final[dict[type, JobManager]] = {}
_lock: Final = threading.Lock()


class _Manager(native.JobManager):
    """Functions of users are given jobs of the face."""

    def facade(self, record: JobRecord) -> TethysJob:
        return viewed(native.ManagedJob(self, record))


class JobManager:
    """The jobs of an app.

    Args:
        app: the app, or its class
        options: ``store``, ``client`` and ``workspaces`` of the manager below

    Attributes:
        native: the manager below
    """

    def __init__(self, app: Any, **options: Any) -> None:
        self.app = app() if isinstance(app, type) else app
        self.label: str = self.app.package
        self.job_templates: dict[str, JobTemplate] = {template.name: template for template in self.app.job_templates()}
        templates = [NativeTemplate(name, name) for name in ("basic", "program", "workflow")]
        self.native = _Manager(**{**options, "templates": templates, "app": self.label, "statuses": dict(CUSTOM)})
        MANAGERS.add(self.native)

    def create_job(
        self, name: str, user: Any, template_name: str | None = None, *, job_type: Any = None, groups: Any = (), **kwargs: Any
    ) -> TethysJob:
        """Make a job, from a template or of a type. It is kept; nothing runs before `TethysJob.execute`.

        Args:
            user: a name, or a user of Django; one that is not logged in is ``AnonymousUser``
            groups: names or groups, one or several
            kwargs: parameters, which go before those of the template; `description`, `extended_properties`, `process_results_function`

        Raises:
            TemplateNotFound: there is no such template or type (a `KeyError`)
            ValidationError: something is wrong with the parameters
        """
        if (template_name is None) == (job_type is None):
            raise ValidationError("give either the name of a template or a job_type")
        template = self.job_templates.get(template_name) if template_name is not None else None
        if template is None and template_name is not None:
            raise TemplateNotFound(f"A job template with name {template_name} was not defined; known here: {', '.join(self.job_templates)}")
        kind = template.type if template is not None else type_of(job_type)
        given = {**(escaped(template.parameters, OWN) if template is not None else {}), **escaped(kwargs)}
        settings = {key: given.pop(key) for key in ("description", "extended_properties") if key in given}
        settings["process_results"] = given.pop("process_results_function", None)
        work, kept = kind.translated(given)
        own = {"class": path_of(kind, "a type of jobs"), "given": kept}
        settings["extended_properties"] = {**settings.get("extended_properties", {}), KEPT: own}
        made = self.native.create_job(name, _name(user), kind.native_type, groups=_names(groups), **work, **settings)
        return viewed(made)

    def list_jobs(
        self, user: Any = None, groups: Any = None, order_by: str = "id", filters: Mapping[str, Any] | None = None
    ) -> list[TethysJob]:
        """Jobs of the app.

        Args:
            user: only those of this user
            groups: only those of one of these groups
            order_by: an attribute; ``-`` before it for the other direction
            filters: only those with just these values of attributes

        Raises:
            ValidationError: both user and groups were given, or there is no such attribute (a `ValueError`)
        """
        found = self.native.list_jobs(None if user is None else _name(user), None if groups is None else _names(groups))
        jobs = [job for job in map(viewed, found) if _fits(job, filters)]
        key = order_by.removeprefix("-")
        return sorted(jobs, key=lambda job: (_value(job, key) is not None, _value(job, key)), reverse=order_by != key)

    def get_job(self, job_id: str, user: Any = None, filters: Mapping[str, Any] | None = None) -> TethysJob | None:
        """The job of this id; None where the app has none, or where user or filters do not fit."""
        found = self.native.get_job(job_id, None if user is None else _name(user))
        job = None if found is None else viewed(found)
        return job if job is not None and _fits(job, filters) else None


class TethysAppBase:
    """An app.

    Attributes:
        package: its name for the manager
        manager_options: ``store``, ``client`` and ``workspaces`` of its manager
    """

    name: ClassVar[str] = ""
    package: ClassVar[str] = "default"
    manager_options: ClassVar[Mapping[str, Any]] = {}

    def job_templates(self) -> Iterable[JobTemplate]:
        """Its templates; none unless an app says so."""
        return ()

    @classmethod
    def get_job_manager(cls) -> JobManager:
        """Its manager, one for each process."""
        with _lock:
            if cls not in _managers:
                _managers[cls] = JobManager(cls, **cls.manager_options)
            return _managers[cls]

    @classmethod
    def get_app_workspace(cls) -> Path:
        """The folder of the app."""
        return cls.get_job_manager().native.app_workspace()

    @classmethod
    def get_user_workspace(cls, user: Any) -> Path:
        """The folder of a user."""
        return cls.get_job_manager().native.user_workspace(_name(user))


def _name(given: Any) -> Any:
    """Of a user or a group: a name, or an object of Django that has one."""
    if getattr(given, "is_anonymous", False):
        return ANONYMOUS
    return getattr(given, "username", None) or getattr(given, "name", given)


def _names(given: Any) -> list[Any]:
    return [_name(one) for one in (given if isinstance(given, list | tuple | set) else [given])]


def _value(job: TethysJob, field: str) -> Any:
    if field not in _FIELDS:
        raise ValidationError(f"jobs are not chosen or sorted by {field!r}; there are {', '.join(_FIELDS)}")
    return job.cached_status if field == "status" else getattr(job, field)


def _fits(job: TethysJob, filters: Mapping[str, Any] | None) -> bool:
    return all(_value(job, field) == (_name(value) if field == "user" else value) for field, value in (filters or {}).items())
