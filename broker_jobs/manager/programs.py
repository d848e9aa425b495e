"""Parameters of program jobs, of the nodes of workflows, and of calls of steps, as tasks of a job of the client."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from broker_jobs.client.authoring import Job
from broker_jobs.core.graph import order
from broker_jobs.core.request import ResourceRequest
from broker_jobs.core.spec import Retry
from broker_jobs.errors import CycleError, ValidationError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from broker_jobs.client.authoring import Task
    from broker_jobs.client.client import Client
    from broker_jobs.manager.record import JobRecord

_Made = TypeVar("_Made")

_AS_THEY_ARE: Final = (
    "env",
    "stdout",
    "stderr",
    "priority",
    "resource_class",
    "time_limit",
    "grace",
    "memory_limit",
    "output_limit",
    "pin",
    "executor",
    "executor_options",
    "crash_limit",
)
"""Parameters that are options of a task by the same name (`broker_jobs.client.options.RunOptions`)."""

_PROGRAM: Final = ("argv", "executable", "arguments", "stdin", "cwd", "resources", "retry", *_AS_THEY_ARE)
_NODE: Final = ("name", "parents", *_PROGRAM)
_CONDOR: Final = ("attributes", *(name for name in _PROGRAM if name != "executor_options"))
_HTCONDOR: Final = "htcondor"
_STEP: Final = ("step", "version", "parameters", "inputs", "resources", "retry", *_AS_THEY_ARE)


def program_job(record: JobRecord) -> Job:
    """One program.

    Raises:
        ValidationError: a parameter is wrong or missing
    """
    job = _job(record)
    _known(record.parameters, _PROGRAM, "a program job")
    _add(job, record.parameters, record.workspace, name=None, deps=())
    return job


def condor_job(record: JobRecord) -> Job:
    """One program in HTCondor, with attributes of its submit description.

    Raises:
        ValidationError: a parameter is wrong or missing
    """
    _known(record.parameters, _CONDOR, "a condor job")
    attributes = record.parameters.get("attributes", {})
    if not isinstance(attributes, Mapping):
        raise ValidationError(f"attributes of a condor job must be a dictionary such as {{'request_memory': '2GB'}}, not {attributes!r}")
    given = {name: value for name, value in record.parameters.items() if name != "attributes"}
    job = _job(record)
    _add(job, {"executor": _HTCONDOR, **given, "executor_options": attributes}, record.workspace, name=None, deps=())
    return job


def workflow_job(record: JobRecord) -> Job:
    """Several programs that wait for each other.

    Raises:
        ValidationError: a parameter is wrong or missing
        CycleError: nodes wait for each other in a circle
    """
    job = _job(record)
    _known(record.parameters, ("nodes",), "a workflow job")
    nodes = record.parameters.get("nodes")
    if not isinstance(nodes, list) or not nodes or not all(isinstance(node, Mapping) for node in nodes):
        raise ValidationError("a workflow job needs nodes: a list of dictionaries, each with a name, a program, and its parents")
    names: dict[str, int] = {}
    for number, node in enumerate(nodes):
        _known(node, _NODE, f"node {number}")
        name = node.get("name")
        if not isinstance(name, str) or not name or name in names:
            raise ValidationError(f"node {number} needs a name of its own, not {name!r}")
        names[name] = number
    graph = [(number, _parents(node, names), ()) for number, node in enumerate(nodes)]
    sequence = order(graph, lambda number: nodes[number]["name"])
    made: dict[int, Task] = {}
    for number in sequence:
        node = nodes[number]
        try:
            made[number] = _add(job, node, record.workspace, name=node["name"], deps=[made[parent] for parent in graph[number][1]])
        except CycleError:
            raise
        except ValidationError as error:
            raise ValidationError(f"node {node['name']!r}: {error}") from None
    return job


def step_wanted(record: JobRecord) -> tuple[str, str | None]:
    """Name and version of the step that a job calls.

    Raises:
        ValidationError: a parameter is wrong or missing
    """
    given = record.parameters
    _known(given, _STEP, "a step job")
    name, version = given.get("step"), given.get("version")
    if not isinstance(name, str) or not name or not (version is None or isinstance(version, str)):
        raise ValidationError(f"a step job needs step: its name, and version: one, or a range such as '^1.0', not {name!r} and {version!r}")
    for what in ("parameters", "inputs"):
        if not isinstance(given.get(what, {}), Mapping):
            raise ValidationError(f"{what} of a step job must be a dictionary, not {given[what]!r}")
    _options(given)
    return name, version


def step_job(record: JobRecord, client: Client) -> Job:
    """One call of a step, found now.

    Raises:
        StepNotFound, AmbiguousStep: there is none, or several
        DataNotFound: there is no data with an id that is among the inputs
        ValidationError: the parameters do not fit the step
    """
    run = client.step(*step_wanted(record))
    inputs = {
        slot: [client.data(one) for one in held] if isinstance(held, list) else client.data(held)
        for slot, held in record.parameters.get("inputs", {}).items()
    }
    job = _job(record)
    job.step(run.spec, record.parameters.get("parameters"), inputs=inputs, **_options(record.parameters))
    return job


def parents_of(record: JobRecord) -> dict[str, tuple[str, ...]]:
    """The parents of each node of a workflow; empty for other jobs."""
    nodes = record.parameters.get("nodes", ()) if record.type == "workflow" else ()
    return {node["name"]: tuple(node.get("parents", ())) for node in nodes}


def _job(record: JobRecord) -> Job:
    # The tag leads from `broker-jobs job list` to the row.
    return Job(record.name, tags=[f"managed={record.id}"])


def _parents(node: Mapping[str, Any], names: Mapping[str, int]) -> list[int]:
    parents = node.get("parents", [])
    if not isinstance(parents, list):
        raise ValidationError(f"node {node['name']!r}: parents must be a list of names, not {parents!r}")
    for parent in parents:
        if parent not in names:
            raise ValidationError(f"node {node['name']!r} has the parent {parent!r}, and there are {', '.join(map(repr, names))}")
    return [names[parent] for parent in parents]


def _add(job: Job, parameters: Mapping[str, Any], folder: str, *, name: str | None, deps: Sequence[Task]) -> Task:
    options = _options(parameters)
    cwd = parameters.get("cwd", "")
    if not isinstance(cwd, str):
        raise ValidationError(f"cwd must be a folder, not {cwd!r}")
    stdin = parameters.get("stdin")
    if stdin is not None and not isinstance(stdin, str):
        raise ValidationError(f"stdin must be a text, not {stdin!r}")
    return job.program(_argv(parameters), stdin=stdin, cwd=Path(folder) / cwd, name=name, deps=deps, **options)


def _options(parameters: Mapping[str, Any]) -> dict[str, Any]:
    # What came out of a row may be of any type: the client checks each option, and says which is wrong.
    options: dict[str, Any] = {key: parameters[key] for key in _AS_THEY_ARE if key in parameters}
    if "resources" in parameters:
        options["resources"] = _resources(parameters["resources"])
    if "retry" in parameters:
        options["retry"] = _retry(parameters["retry"])
    if not isinstance(parameters.get("env", {}), Mapping):
        raise ValidationError(f"env must be a dictionary of environment variables, not {parameters['env']!r}")
    return options


def _argv(parameters: Mapping[str, Any]) -> list[Any]:
    if ("argv" in parameters) == ("executable" in parameters) or ("arguments" in parameters and "argv" in parameters):
        raise ValidationError("give either argv, such as ['sort', '-n', 'in.txt'], or executable, and arguments if it takes any")
    argv = parameters.get("argv")
    if argv is None:
        arguments = parameters.get("arguments", [])
        if not isinstance(arguments, list):
            raise ValidationError(f"arguments must be a list such as ['-n', 'in.txt'], not {arguments!r}")
        argv = [parameters["executable"], *arguments]
    if not isinstance(argv, list):
        raise ValidationError(f"argv must be a list such as ['sort', '-n', 'in.txt'], not {argv!r}")
    return argv


def _resources(given: Any) -> Any:
    requests = [
        _made(ResourceRequest, each, "resources must be a dictionary such as {'cpus': 2}, or a list of them")
        for each in (given if isinstance(given, list) else [given])
    ]
    return requests if isinstance(given, list) else requests[0]


def _retry(given: Any) -> Retry:
    if isinstance(given, int) and not isinstance(given, bool):
        if given < 0:
            raise ValidationError(f"retry must not be negative, as {given} is")
        return Retry(max_attempts=given + 1)
    return _made(Retry, given, "retry must be how often it is tried again, or a dictionary such as {'max_attempts': 3}")


def _made(kind: Callable[..., _Made], given: Any, rule: str) -> _Made:
    if not isinstance(given, Mapping):
        raise ValidationError(f"{rule}, not {given!r}")
    try:
        return kind(**given)
    except TypeError as error:
        raise ValidationError(f"{rule}: {error}") from None


def _known(given: Mapping[str, Any], allowed: Sequence[str], what: str) -> None:
    for key in given:
        if key not in allowed:
            near = difflib.get_close_matches(key, allowed, 1)
            raise ValidationError(
                f"{what} has no parameter {key!r}; " + (f"did you mean {near[0]!r}?" if near else f"it takes {', '.join(allowed)}")
            )
