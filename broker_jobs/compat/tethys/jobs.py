"""Types and templates of jobs. Names are those of ``tethys_sdk.jobs`` and of Tethys' models. A job is a view of one of the manager."""

from __future__ import annotations

import copy
import logging
import time
import weakref
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from pathlib import Path, PurePath
from typing import Any, ClassVar, Final

from broker_jobs.compat.tethys.compute import EXECUTORS, WORKERS, Scheduler, get_scheduler
from broker_jobs.compat.tethys.condor import CondorJobDescription
from broker_jobs.errors import BrokerError, CoordinatorUnavailable, TemplateNotFound, ValidationError
from broker_jobs.manager import NAMES, Category, Code, JobManager, ManagedJob
from broker_jobs.manager.functions import function
from broker_jobs.manager.statuses import CATEGORIES, Statuses
from broker_jobs.templates import escaped

KEPT: Final = "__tethys__"  # the property of a job that is the face's own: its class, and what it was made from
CUSTOM: Final[dict[str, str]] = {}  # category of each custom status of this process
MANAGERS: Final[weakref.WeakSet[JobManager]] = weakref.WeakSet()  # those that have to know of them


def _members(category: Category) -> list[str]:
    return [NAMES[code] for code in Code if code is not Code.OTH and category in CATEGORIES[code]]


def _adder(category: str, *lists: str) -> classmethod[TethysJob, [str], None]:
    def add(cls: type[TethysJob], status: str) -> None:
        """Declare a custom status of this process, and its category; one that is not declared is active."""
        Statuses({status: category})  # refuses what is none
        if CUSTOM.setdefault(status, category) != category:
            raise ValidationError(f"{status!r} is a custom status already, of the category {CUSTOM[status]}")
        for manager in list(MANAGERS):
            manager.declare_status(status, category)
        for members in (getattr(cls, f"{name}_STATUSES") for name in lists):
            members.extend([status] if status not in members else [])

    return classmethod(add)


class TethysJob:
    """A job over one of the manager, `native`, whose attributes it has, too. `save` keeps `description` and `extended_properties`."""

    STATUSES: ClassVar = tuple((code.value, name) for code, name in NAMES.items())
    PRE_RUNNING_STATUSES, RUNNING_STATUSES, ACTIVE_STATUSES, NON_TERMINAL_STATUSES, TERMINAL_STATUSES = map(_members, Category)
    native_type: ClassVar[str] = "basic"

    type = property(lambda self: type(self).__name__)
    workspace = property(lambda self: str(self.native.workspace), doc="Its own folder, where it runs and leaves its output.")
    status_message = property(lambda self: self.native.message)
    run_time = property(lambda self: self.native.run_time or "", doc="A timedelta; an empty text before it was executed.")
    cached_status = property(lambda self: self.native.status, doc="Display name of its status, as last read.")

    def __init__(self, native: ManagedJob) -> None:
        self.native = native
        self.update_status_interval = timedelta(seconds=10)  # at most so often this object asks how the work is
        self._asked = float("-inf")
        self.refresh_from_db()

    @classmethod
    def translated(cls, given: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Parameters as the manager takes them, and what is kept of them beside."""
        return dict(given), {}

    add_custom_pre_running_status = _adder("pre_running", "PRE_RUNNING", "NON_TERMINAL")
    add_custom_running_status = _adder("running", "RUNNING", "ACTIVE", "NON_TERMINAL")
    add_custom_active_status = _adder("active", "ACTIVE", "NON_TERMINAL")
    add_custom_terminal_status = _adder("terminal", "TERMINAL")

    def _function(self) -> Callable[..., object] | None:
        try:
            return function(self.native.record.process_results)
        except ValidationError:
            return None

    process_results_function = property(_function, lambda self, it: self.native.configure(process_results=it), doc="Called once, with it.")

    def is_time_to_update(self) -> bool:
        """Whether the next `update_status` asks."""
        return time.monotonic() - self._asked >= self.update_status_interval.total_seconds()

    def update_status(self, status: str | None = None) -> None:
        """Ask how its work is, if it is time; or set a status: of jobs with work a custom one that is no end (else `WrongStatus`)."""
        if status is not None:
            self.native.update_status(status)
        elif self.is_time_to_update():
            self.native.update_status()
            self._asked = time.monotonic()
        else:
            self.native.refresh()
        self._adopt()

    def _status(self) -> str:
        try:
            self.update_status()
        except (BrokerError, CoordinatorUnavailable) as error:
            logging.getLogger(__name__).warning("the status of %r is not up to date: %s", self, error)
        return self.native.status

    status = property(
        _status, update_status, doc="As `update_status` finds it, or as last known where nobody can be asked; set, it is given to it."
    )

    def save(self) -> None:
        """Keep what was set; what its work is made with, only as long as it is pending (else `WrongStatus`)."""
        given: dict[str, Any] = {}
        if self.description != self.native.description:
            given["description"] = self.description
        if (self.extended_properties, self._kept) != (self._saved, self.native.extended_properties.get(KEPT)):
            given["extended_properties"] = {**self.extended_properties, **({KEPT: self._kept} if self._kept else {})}
        if given:
            work = self.translated(escaped(self._kept["given"]))[0] if self._kept != self.native.extended_properties.get(KEPT) else {}
            self.native.configure(**work, **escaped(given))
            self.refresh_from_db()

    def refresh_from_db(self) -> None:
        """Read it again; what was set and not saved is lost."""
        self.native.refresh()
        self.description = self.native.description
        self._kept: Any = copy.deepcopy(self.native.extended_properties.get(KEPT))
        self.extended_properties: dict[str, Any] = {}
        self._saved: dict[str, Any] = {}
        self._adopt()

    def execute(self) -> None:
        """Send its work. Where that fails its status is Error, and `status_message` says why; `WrongStatus` if it is not pending."""
        self.save()
        self._asked = float("-inf")
        self.native.execute(before=self._bring)

    def resubmit(self) -> None:
        """Run it again, with new status, times and message; `WrongStatus` if it has not ended."""
        self._asked = float("-inf")
        self.native.resubmit(before=self._bring)

    def process_results(self, *, again: bool = False) -> None:
        """Call `process_results_function` if nobody has; `again`: also after that. Updates do so by themselves."""
        self.native.process_results(again=again)
        self._adopt()

    def __getattr__(self, name: str) -> Any:
        return getattr(vars(self).get("native"), name)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TethysJob) and self.id == other.id

    def __hash__(self) -> int:
        return hash(self.id)

    def _bring(self) -> None:
        """Put files where its work looks for them."""

    def _adopt(self) -> None:
        """Take over properties that others have saved, unless some are not saved here."""
        if self.extended_properties == self._saved:
            found = {key: value for key, value in self.native.extended_properties.items() if key != KEPT}
            self.extended_properties, self._saved = copy.deepcopy(found), found


class BasicJob(TethysJob):
    """A job without work: its app says how it goes."""

    def resubmit(self) -> None:
        """It is Running anew."""
        super().resubmit()
        self.native.update_status("RUN")


class CondorJob(TethysJob):
    """A program of the workers, in its own folder, with files from another: of the parameter ``workspace``, else that of the user."""

    native_type = "program"

    scheduler = property(lambda self: get_scheduler(self._kept["given"]["scheduler"]), doc="None where this process does not know it.")
    attributes = property(
        lambda self: CondorJobDescription.read(self._kept["given"]).attributes, doc="All, whether they mean something or not."
    )

    @classmethod
    def translated(cls, given: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Programs, and what they were made from."""
        chosen = given.get("scheduler") or WORKERS
        scheduler = chosen if isinstance(chosen, Scheduler) else get_scheduler(chosen)
        if scheduler is None:
            raise ValidationError(f"there is no scheduler {chosen!r} in this process: make it, and save() it")
        kept = {"workspace": "$(USER_WORKSPACE)", **given, "scheduler": scheduler.name}
        return cls._work(kept, EXECUTORS[scheduler.type]), kept

    def get_attribute(self, name: str) -> Any:
        """One of the attributes, or None."""
        return self.attributes.get(name)

    def set_attribute(self, name: str, value: Any) -> None:
        """Set one, as long as the job is pending."""
        self._kept["given"][name] = value

    @classmethod
    def _work(cls, given: Mapping[str, Any], executor: Mapping[str, Any]) -> dict[str, Any]:
        return {**CondorJobDescription.read(given).program(), **executor}

    def _bring(self) -> None:
        CondorJobDescription.read(self._kept["given"]).bring(self.native, Path(self._kept["given"]["workspace"]))


class CondorWorkflow(CondorJob):
    """Programs that wait for each other, each in a folder of its own in that of the job."""

    native_type = "workflow"

    @classmethod
    def _work(cls, given: Mapping[str, Any], executor: Mapping[str, Any]) -> dict[str, Any]:
        jobs = _jobs(given).items()
        return {"nodes": [{"name": name, "cwd": name, **options, **described.program(), **executor} for name, (options, described) in jobs]}

    def _bring(self) -> None:
        jobs = _jobs(self._kept["given"])
        for name, (_, described) in jobs.items():
            described.bring(self.native, Path(self._kept["given"]["workspace"]), name, jobs)


JOB_TYPES: Final = {"CONDOR": CondorJob, "CONDORJOB": CondorJob, "CONDORWORKFLOW": CondorWorkflow, "BASIC": BasicJob}


def viewed(native: ManagedJob) -> TethysJob:
    """A job of the manager as an object of the class that it was made with; where that is not there, of the one that fits its type."""
    own = native.extended_properties.get(KEPT)
    found: Any = TethysJob
    if own is not None:
        try:
            found = function(own["class"])
        except ValidationError:
            found = next(kind for kind in JOB_TYPES.values() if kind.native_type == native.type)
    return found(native)  # type: ignore[no-any-return] # only `create_job` writes there


def _jobs(given: Mapping[str, Any]) -> dict[str, tuple[dict[str, Any], CondorJobDescription]]:
    """Options and description of each node of a workflow."""
    found = {}
    for job in given.get("jobs") or ():
        if not isinstance(job.get("name"), str) or PurePath(job["name"]).name != job["name"] or job["name"] in found:
            raise ValidationError(f"a node of a workflow needs a name of its own, which can be that of a folder, not {job.get('name')!r}")
        options = {key: job[key] for key in ("parents", "retry", "priority") if job.get(key)}
        rest = {key: value for key, value in job.items() if key not in {"name", "parents", "retry", "priority", "category"}}
        found[job["name"]] = options, CondorJobDescription.read(rest)
    return found


class JobTemplate:
    """What many jobs of an app have in common: their type (one of `JOB_TYPES`, or its key; a basic job) and parameters.

    ``$(APP_WORKSPACE)``, ``$(USER_WORKSPACE)`` and ``$(JOB_WORKSPACE)`` in texts, at any depth, stand for folders; others stay as they are.
    """

    def __init__(self, name: str, type: str | type[TethysJob] | None = None, parameters: Mapping[str, Any] | None = None) -> None:  # noqa: A002 (Tethys' name)
        if isinstance(type, str) and type not in JOB_TYPES:
            raise TemplateNotFound(f"there is no type of jobs {type!r}; there are {', '.join(JOB_TYPES)}")
        if not isinstance(parameters, Mapping | None):
            raise ValidationError(f"the parameters of the template {name!r} must be a dictionary, not {parameters!r:.200}")
        self.name = name
        self.type: Any = JOB_TYPES[type] if isinstance(type, str) else type or BasicJob
        self.parameters = dict(parameters or {})


class BasicJobTemplate(JobTemplate):
    """A template of basic jobs."""

    def __init__(self, name: str, parameters: Mapping[str, Any] | None = None) -> None:
        super().__init__(name, BasicJob, parameters)


class CondorJobTemplate(JobTemplate):
    """A template of condor jobs: with `parameters` as in the document, or with `job_description` and `scheduler`."""

    def __init__(self, name: str, parameters: Any = None, job_description: Any = None, scheduler: Any = None, **kwargs: Any) -> None:
        described = vars(job_description) if job_description is not None else {}
        super().__init__(name, CondorJob, {"scheduler": scheduler, **(parameters or {}), **described, **kwargs})


class CondorWorkflowJobTemplate(dict[str, Any]):
    """A node of a workflow, as plain data; among `kwargs` may be ``retry`` and ``priority``, and `parents` are nodes or their names."""

    def __init__(self, name: str, job_description: CondorJobDescription, parents: Iterable[Any] = (), **kwargs: Any) -> None:
        names = [parent if isinstance(parent, str) else parent["name"] for parent in parents]
        super().__init__(vars(job_description), name=name, parents=names, **kwargs)


class CondorWorkflowTemplate(JobTemplate):
    """A template of workflows, whose nodes are `jobs`."""

    def __init__(self, name: str, parameters: Any = None, jobs: Iterable[CondorWorkflowJobTemplate] = (), **kwargs: Any) -> None:
        super().__init__(name, CondorWorkflow, {"jobs": list(jobs), **(parameters or {}), **kwargs})
