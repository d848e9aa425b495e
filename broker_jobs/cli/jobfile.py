"""Job files: a job as TOML, with the keys that HyperQueue's have.

    name = "simulation"
    [[task]]
    id = 1
    command = ["prepare"]
    [[task]]
    id = 2
    command = ["simulate"]
    deps = [1]
    [[task.request]]
    resources = { cpus = 4 }

A file has tasks (``[[task]]``) or one array (``[array]``). Several ``[[task.request]]`` are variants, in order of preference.
"""

from __future__ import annotations

import contextlib
import difflib
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from broker_jobs.core.graph import order
from broker_jobs.core.request import ResourceRequest
from broker_jobs.core.selection import selected
from broker_jobs.errors import CycleError, ValidationError

if TYPE_CHECKING:
    from pathlib import Path

    from broker_jobs import Job, Task
    from broker_jobs.client.authoring import TaskCommon

_HEADER: Final = re.compile(r"\s*\[\[?\s*([A-Za-z0-9_.\"'-]+)\s*\]\]?")
_KEY: Final = re.compile(r"\s*([A-Za-z0-9_-]+|\"[^\"]*\")\s*(?:=|\.)")

_TEXT: Final = (str, "a text")
_WHOLE: Final = (int, "an integer")
_YES: Final = (bool, "true or false")
_DURATION: Final = ((str, int, float), "seconds, or a text such as '1h 30m'")
_LIST: Final = (list, "a list")
_TABLE: Final = (dict, "a table")
_TABLES: Final = (list, "tables, written [[…]]")
_PIPE: Final = ((str, dict), "a path, 'none', or a table with path and on_close")

_JOB: Final = {"name": _TEXT, "tags": _LIST, "max_fails": _WHOLE, "lane": _TEXT, "task": _TABLES, "array": _TABLE}
_COMMON: Final = {
    "name": _TEXT,
    "command": _LIST,
    "env": _TABLE,
    "stdin": _TEXT,
    "stdout": _PIPE,
    "stderr": _PIPE,
    "cwd": _TEXT,
    "task_dir": _YES,
    "time_limit": _DURATION,
    "grace": _DURATION,
    "memory_limit": ((str, int), "a size such as '4 GiB'"),
    "output_limit": ((str, int), "a size such as '10 MiB'"),
    "priority": _WHOLE,
    "pin": _TEXT,
    "resource_class": _TEXT,
    "executor": _TEXT,
    "executor_options": _TABLE,
    "crash_limit": ((int, str), "an integer, 'never-restart' or 'unlimited'"),
    "request": _TABLES,
}
_AS_THEY_ARE: Final = (
    "name",
    "env",
    "cwd",
    "time_limit",
    "grace",
    "memory_limit",
    "output_limit",
    "priority",
    "pin",
    "resource_class",
    "executor",
    "executor_options",
)
"""Keys that are options of a task by the same name."""

_TASK: Final = {"id": _WHOLE, "deps": _LIST, "after": _LIST, **_COMMON}
_ARRAY: Final = {"ids": _TEXT, "entries": _LIST, **_COMMON}
_STREAM: Final = {"path": _TEXT, "on_close": (str, "'none' or 'rm-if-finished'")}
_REQUEST: Final = {"n_nodes": _WHOLE, "resources": _TABLE, "time_request": _DURATION}

Kind = tuple[Any, str]


@dataclass(frozen=True, slots=True)
class _Place:
    """A table of the file, for messages.

    Attributes:
        header: as in ``[[header]]``; empty for the top
        index: which of several with this header, from 0
    """

    file: Path
    text: str
    header: str = ""
    index: int = 0

    def error(self, problem: str, key: str | None = None) -> ValidationError:
        """An error that names file and line."""
        line = self._line(key)
        return ValidationError(f"{self.file}{'' if line is None else f', line {line}'}: {problem}")

    def _line(self, key: str | None) -> int | None:
        """Where the key stands in the table, or where the table begins."""
        seen, inside, begin = -1, not self.header, None
        for number, line in enumerate(self.text.splitlines(), 1):
            header = _HEADER.match(line)
            if header:
                seen += header[1] == self.header
                inside = header[1] == self.header and seen == self.index
                begin = number if inside else begin
                if inside and key is None:
                    return number
            elif inside and key is not None:
                found = _KEY.match(line)
                if found and found[1].strip('"') == key:
                    return number
        return begin


def read_job(file: Path, *, attached: bool = False) -> Job:
    """The job that a file describes.

    Args:
        attached: its tasks go into a job that is there already, which has a name and settings of its own

    Raises:
        ValidationError: the file cannot be read, or something in it is wrong; the text has the line
        CycleError: tasks wait for each other in a circle
    """
    from broker_jobs import Job

    try:
        text = file.read_text(encoding="utf-8")
        table = tomllib.loads(text)
    except OSError as error:
        raise ValidationError(f"{file} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise ValidationError(f"{file} is no TOML: {error}") from None
    top = _Place(file, text)
    if "stream" in table:
        raise top.error("stream is not needed, leave it out: broker-jobs job cat reads what all tasks have printed", "stream")
    _check(table, _JOB, top)
    if attached:
        for key in ("name", "tags", "max_fails", "lane"):
            if key in table:
                raise top.error(f"{key} belongs to the job that is open already", key)
    job = Job(
        name=table.get("name") or file.stem, tags=table.get("tags", ()), max_fails=table.get("max_fails"), lane=table.get("lane", "normal")
    )
    if ("task" in table) == ("array" in table):
        raise top.error("a job file has [[task]] tables or one [array]" + (", not both" if "task" in table else ""))
    if "array" in table:
        _add_array(job, table["array"], _Place(file, text, "array"))
    else:
        _add_tasks(job, table["task"], [_Place(file, text, "task", index) for index in range(len(table["task"]))])
    return job


def _add_array(job: Job, array: Mapping[str, Any], place: _Place) -> None:
    _check(array, _ARRAY, place)
    entries = array.get("entries")
    if entries is not None and not all(isinstance(entry, str) for entry in entries):
        raise place.error("entries must be texts", "entries")
    if entries is None and "ids" not in array:
        raise place.error("an array needs ids, such as '1-100', or entries")
    with _named(place, "ids"):
        ids = selected(array["ids"]) if "ids" in array else range(len(entries or ()))
    common = _common(array, place)
    with _named(place):
        job.array(_command(array, place), ids, entries=entries, stdin=array.get("stdin"), task_dir=array.get("task_dir", False), **common)


def _add_tasks(job: Job, tasks: list[Any], places: list[_Place]) -> None:
    known: dict[int, int] = {}
    for index, (task, place) in enumerate(zip(tasks, places, strict=True)):
        if not isinstance(task, dict):
            raise place.error("a task is a table, written [[task]]")
        _check(task, _TASK, place)
        if "id" in task:
            if task["id"] < 0:
                raise place.error("an id is not negative", "id")
            if task["id"] in known:
                raise place.error(f"the id {task['id']} is that of another task already", "id")
            known[task["id"]] = index
    following = max(known, default=-1) + 1
    for index, task in enumerate(tasks):
        if "id" not in task:
            known[following] = index
            following += 1
    by_index = {index: number for number, index in known.items()}
    for index, task in enumerate(tasks):
        for key in ("deps", "after"):
            for other in task.get(key, ()):
                if isinstance(other, bool) or not isinstance(other, int) or other not in known:
                    raise places[index].error(f"task {by_index[index]} waits for {other!r}, and no task has this id", key)
    made: dict[int, Task] = {}
    nodes = [(by_index[index], task.get("deps", ()), task.get("after", ())) for index, task in enumerate(tasks)]
    try:
        sequence = order(nodes)
    except CycleError as error:
        raise CycleError(f"{places[0].file}: {error}", path=error.path) from None
    for number in sequence:
        task, place = tasks[known[number]], places[known[number]]
        common = _common(task, place)
        common["deps"] = [made[other] for other in task.get("deps", ())]
        common["after"] = [made[other] for other in task.get("after", ())]
        with _named(place):
            array = job.array(_command(task, place), [number], stdin=task.get("stdin"), task_dir=task.get("task_dir", False), **common)
        made[number] = array[0]


def _common(task: Mapping[str, Any], place: _Place) -> TaskCommon:
    common: Any = {key: task[key] for key in _AS_THEY_ARE if key in task}
    if "crash_limit" in task:
        common["crash_limit"] = "never" if task["crash_limit"] == "never-restart" else task["crash_limit"]
    for key in ("stdout", "stderr"):
        if key in task:
            common[key] = _pipe(task[key], key, place)
    if "request" in task:
        common["resources"] = _resources(task["request"], place)
    found: TaskCommon = common
    return found


def _pipe(value: Any, key: str, place: _Place) -> object:
    from broker_jobs import Stdio

    if isinstance(value, dict):
        _check(value, _STREAM, place)
        if value.get("on_close", "none") not in {"none", "rm-if-finished"}:
            raise place.error(f"on_close of {key} is 'none' or 'rm-if-finished', not {value['on_close']!r}", key)
        return Stdio(value.get("path"), keep="on_failure" if value.get("on_close") == "rm-if-finished" else "always")
    return Stdio(keep="never") if value == "none" else value


def _resources(requests: list[Any], place: _Place) -> Any:
    found = []
    for index, request in enumerate(requests):
        where = _Place(place.file, place.text, f"{place.header}.request", index) if place.index == 0 else place
        if not isinstance(request, dict):
            raise place.error("a request is a table", "request")
        _check(request, _REQUEST, where)
        wanted = dict(request.get("resources", {}))
        given: dict[str, Any] = {"cpus": wanted.pop("cpus", 0)}
        given |= {name: wanted.pop(name) for name in ("memory", "gpus") if name in wanted}
        given["resources"] = wanted
        if "n_nodes" in request:
            given["nodes"] = request["n_nodes"]
        if "time_request" in request:
            given["min_time"] = request["time_request"]
        with _named(where):
            found.append(ResourceRequest(**given))
    return found[0] if len(found) == 1 else found


def _command(task: Mapping[str, Any], place: _Place) -> list[str]:
    if "command" not in task:
        raise place.error("the command is missing, such as command = ['echo', 'hello']")
    command: list[str] = task["command"]
    if not command or not all(isinstance(part, str) for part in command):
        raise place.error("command must be a list of texts: the program and its arguments", "command")
    return command


def _check(table: Mapping[str, Any], allowed: Mapping[str, Kind], place: _Place) -> None:
    for key, value in table.items():
        if key not in allowed:
            near = difflib.get_close_matches(key, allowed, 1)
            raise place.error(f"unknown key {key!r}; " + (f"did you mean {near[0]!r}?" if near else f"known are {', '.join(allowed)}"), key)
        kind, said = allowed[key]
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise place.error(f"{key} must be {said}, not {value!r}", key)


@contextlib.contextmanager
def _named(place: _Place, key: str | None = None) -> Iterator[None]:
    """Errors in this block get the place of a table."""
    try:
        yield
    except ValidationError as error:
        raise place.error(str(error), key) from None
