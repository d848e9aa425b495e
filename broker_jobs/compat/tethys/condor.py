"""Condor jobs as programs: what their attributes mean for a task, and which files they bring."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, Final

from broker_jobs.errors import ValidationError

if TYPE_CHECKING:
    from broker_jobs.manager import ManagedJob

# Attributes, and options of nodes, that would change what runs, and mean nothing here: better no job than another one.
_REFUSED: Final = ("input", "transfer_output_remaps", "queue", "pre_script", "post_script", "variables", "noop", "done", "abort_dag_on")


class CondorJobDescription:
    """What a condor job runs. docs/faces.md lists the attributes of HTCondor that mean something here; all are kept."""

    def __init__(self, condorpy_template_name: str | None = None, remote_input_files: Any = None, **attributes: Any) -> None:
        self.condorpy_template_name = condorpy_template_name
        self.remote_input_files = _files(remote_input_files, "remote_input_files")
        self.attributes = attributes

    @classmethod
    def read(cls, parameters: Mapping[str, Any]) -> CondorJobDescription:
        """From parameters of a condor job: what is nothing else is an attribute, beside those in ``attributes``."""
        given = {name: value for name, value in parameters.items() if name not in {"workspace", "scheduler"}}
        attributes = given.pop("attributes", None) or {}
        if not isinstance(attributes, Mapping):
            raise ValidationError(f"attributes must be a dictionary, not {attributes!r:.200}")
        if given.pop("num_jobs", 1) not in {None, 1}:
            raise ValidationError("num_jobs must be 1: write a workflow with a node for each job")
        template, files = given.pop("condorpy_template_name", None), given.pop("remote_input_files", None)
        return cls(template, files, **{**attributes, **given})

    def program(self) -> dict[str, Any]:
        """Parameters of a program job; `ValidationError` where an attribute cannot be understood, or would mean something else here."""
        given = self.attributes
        for name in _REFUSED:
            if given.get(name):
                raise ValidationError(f"{name!r} of condor jobs means nothing here: leave it out")
        executable = given.get("executable")
        if not isinstance(executable, str) or not executable:
            raise ValidationError(f"a condor job needs the attribute executable, a file, not {executable!r}")
        self.inputs()
        found: dict[str, Any] = {
            "executable": f"./{PurePath(executable).name}" if self._brings_executable() else executable,
            "arguments": [str(one) for one in _words(given.get("arguments"), None)],
            "env": given["environment"] if isinstance(given.get("environment"), Mapping) else _pairs(given.get("environment")),
        }
        for attribute, name in (("output", "stdout"), ("error", "stderr")):
            # Numbers that HTCondor would put in are not known here: then the stream is kept as of any task.
            if given.get(attribute) and "$$(" not in str(given[attribute]):
                found[name] = given[attribute]
        resources = {to: given[name] for name, to in (("request_cpus", "cpus"), ("request_gpus", "gpus")) if given.get(name)}
        if memory := given.get("request_memory"):
            resources["memory"] = f"{memory} MiB" if str(memory).isdigit() else memory
        return {**found, "resources": resources} if resources else found

    def bring(self, job: ManagedJob, source: Path, node: str = "", nodes: Collection[str] = ()) -> None:
        """Copy executable and input files, from `source` on, into the folder where the program runs; link to what other nodes will make."""
        folder = job.workspace / node
        folder.mkdir(exist_ok=True)
        places: dict[str, str | Path] = {}
        for text in self.inputs():
            parts, target = PurePath(text).parts, folder / PurePath(text).name
            linked = parts[0] == ".." and parts[1] in nodes
            place = text if linked else Path(os.path.normpath(source / text.removeprefix("../")))
            if isinstance(place, Path) and not place.exists() and not target.exists():
                raise ValidationError(f"the input file {text} is not there: it was looked for as {place}, and as {target}")
            if places.setdefault(target.name, place) != place:
                raise ValidationError(f"two input files are called {target.name}: give one of them another name")
            if linked:
                target.unlink(missing_ok=True)
                target.symlink_to(text)
            elif isinstance(place, Path) and place.exists():
                job.bring(place, f"{node}/{target.name}" if node else target.name)
        if self._brings_executable():
            program = folder / PurePath(self.attributes["executable"]).name
            program.chmod(program.stat().st_mode | 0o100)

    def _brings_executable(self) -> bool:
        stays = str(self.attributes.get("transfer_executable", True)).casefold() in {"false", "no", "0"}
        # One with a whole path is there already; so is what begins with a variable, which stands for a folder.
        return not stays and not self.attributes["executable"].startswith(("/", "$("))

    def inputs(self) -> list[str]:
        """Files to bring, each once."""
        executable = [self.attributes["executable"]] if self._brings_executable() else []
        sent = _files(self.attributes.get("transfer_input_files"), "transfer_input_files")
        found = list(dict.fromkeys(executable + self.remote_input_files + sent))
        if bad := [text for text in found if PurePath(text).name in {"", ".."}]:
            raise ValidationError(f"an input file must be a file or a folder with a name, not {bad[0]!r}")
        return found


def _files(given: Any, what: str) -> list[str]:
    """A list; or a text with commas or spaces between, as HTCondor has it."""
    found = _words(given.replace(",", " ") if isinstance(given, str) else given, None)
    if not all(isinstance(text, str | os.PathLike) for text in found):
        raise ValidationError(f"{what} must be a list of files, not {given!r:.200}")
    return [os.fspath(text) for text in found]


def _pairs(given: Any) -> dict[str, str]:
    """An environment, such as ``A=1;B=2`` or ``"A=1 B='2 3'"``."""
    if bad := [pair for pair in _words(given, ";") if "=" not in pair]:
        raise ValidationError(f"environment must be a dictionary, or a text such as 'A=1;B=2': {bad[0]!r} has no value")
    return dict(pair.split("=", 1) for pair in _words(given, ";"))


def _words(given: Any, between: str | None) -> list[Any]:
    """A list; or a text, in HTCondor's old syntax (with something between) or in its new one (in double quotes, with single ones in it)."""
    if not isinstance(given, str):
        if not isinstance(given, list | tuple | None):
            raise ValidationError(f"{given!r:.200} must be a list or a text")
        return list(given or ())
    if not given.strip().startswith('"'):
        return [word.strip() for word in given.split(between) if word.strip()]
    if (inner := given.strip()[1:].removesuffix('"').replace('""', '"')).count("'") % 2:
        raise ValidationError(f"{given!r:.200} has a quote without an end")
    return [word.replace("'", "") for word in re.findall(r"(?:[^\s']|'[^']*')+", inner)]
