"""HTCondor: ``condor_submit``, ``condor_q``, ``condor_rm`` and ``condor_history``."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from broker_jobs_worker.executors.batch.commands import PATIENCE, ask, located
from broker_jobs_worker.executors.batch.port import Ended, JobRefused, JobState, Running, SchedulerSilent, Stuck, Waiting

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from broker_jobs_worker.executors.batch.commands import Answer
    from broker_jobs_worker.executors.batch.port import BatchJob

COMMANDS: Final = ("condor_submit", "condor_q", "condor_rm", "condor_history")
OURS: Final = frozenset({"executable", "arguments", "args", "queue", "initialdir", "initial_dir", "input", "transfer_executable"})
"""Commands of a submit description that would change what a job is."""
MOST_IDS: Final = 1000
"""So many are named in one command."""

_ATTRIBUTES: Final = ("ClusterId", "ProcId", "JobStatus", "HoldReason", "HoldReasonCode", "RemoveReason")
_HISTORY: Final = ("JobStatus", "ExitCode", "ExitBySignal", "ExitSignal", "RemoveReason", "HoldReason", "LastRemoteHost")
_FIRST: Final = re.compile(r"^(\d+\.\d+) - \d+\.\d+$", re.MULTILINE)
_UNREACHED: Final = ("Can't find address", "Failed to connect", "can't connect", "Can't send", "timed out", "Failed to fetch ads")
_PREFIX: Final = "condor_"
_LISTS: Final = frozenset({"transfer_input_files", "transfer_output_files"})
_SPOOLING: Final = 16
"""Code of a hold that ends by itself, when the files have come."""


class HTCondor:
    """HTCondor.

    Args:
        options: of the worker; ``condor_submit``, ``condor_q``, ``condor_rm`` and ``condor_history`` are paths of these commands
        patience: seconds that a command has

    Raises:
        JobRefused: an option for each job cannot be one
        Unusable: one of the commands is not there
    """

    def __init__(self, options: Mapping[str, tuple[str, ...]], patience: float = PATIENCE) -> None:
        lines(options)
        self._commands = located(COMMANDS, options)
        self._patience = patience

    async def submit(self, job: BatchJob) -> str:
        """Hand over a job, by a submit description in its folder."""
        path = Path(job.folder, "submit")
        await asyncio.to_thread(path.write_text, description(job), encoding="utf-8", errors="surrogateescape")
        answer = await self._ask("condor_submit", "-terse", str(path))
        found = _FIRST.search(answer.stdout)
        if answer.code == 0 and found is not None:
            return found[1]
        if answer.code > 0 and not any(words in answer.words for words in _UNREACHED):
            raise JobRefused(answer.words)
        raise SchedulerSilent(f"condor_submit: {answer.words}")

    async def poll(self, ids: Collection[str]) -> Mapping[str, JobState]:
        """How these jobs are, by one ``condor_q``."""
        found: dict[str, JobState] = {}
        for some in _parts(ids):
            answer = await self._ask("condor_q", "-json", "-attributes", ",".join(_ATTRIBUTES), *some)
            if answer.code != 0:
                raise SchedulerSilent(f"condor_q: {answer.words}")
            for job in listed(answer.stdout, "condor_q"):
                cluster, process, status = job.get("ClusterId"), job.get("ProcId"), job.get("JobStatus")
                if not isinstance(cluster, int) or not isinstance(process, int) or not isinstance(status, int):
                    raise SchedulerSilent("condor_q lists a job without its number or its state")
                found[f"{cluster}.{process}"] = state_of(status, job)
        return {id_: state for id_, state in found.items() if id_ in ids}

    async def cancel(self, ids: Collection[str]) -> None:
        """End these jobs; ``condor_rm`` fails where one of them has ended, and says so."""
        for some in _parts(ids):
            answer = await self._ask("condor_rm", *some)
            if answer.code != 0 and any(words in answer.words for words in _UNREACHED):
                raise SchedulerSilent(f"condor_rm: {answer.words}")

    async def explain(self, id: str) -> str:  # noqa: A002 (as in the port)
        """What the history says of a job."""
        answer = await self._ask("condor_history", "-json", "-attributes", ",".join(_HISTORY), "-limit", "1", id)
        if answer.code != 0:
            return ""
        jobs = listed(answer.stdout, "condor_history")
        return ended_words(jobs[0]) if jobs else ""

    async def _ask(self, command: str, *arguments: str) -> Answer:
        return await ask([self._commands[command], *arguments], self._patience)


def description(job: BatchJob) -> str:
    """The submit description of a job.

    The arguments of the program are not in it: they are in the script, so that HTCondor's own quoting has nothing to do with them.

    Raises:
        JobRefused: an option would change what the job is, or cannot be read
    """
    files = [_literal(path) for path in job.files]
    own = {
        "universe": ("vanilla",),
        "should_transfer_files": ("IF_NEEDED",),
        "when_to_transfer_output": ("ON_EXIT",),
        "+JobBatchName": (f'"{job.name}"',),
        # What was thrown off its host does not run again as if nothing had been: the ledger decides about that.
        "periodic_remove": ("JobStatus == 1 && NumJobStarts > 0",),
    }
    options = lines({**own, **{_name(name): values for name, values in job.options.items()}}, files)
    begin = [f"executable = {_literal(job.script)}", f"initialdir = {_literal(job.folder)}"]
    return "\n".join([*begin, *options, "queue 1", ""])


def lines(options: Mapping[str, tuple[str, ...]], files: Collection[str] = ()) -> list[str]:
    """Options as lines of a submit description; a list of files is one line, and ours come first.

    Raises:
        JobRefused: as above
    """
    given = {_name(name): values for name, values in options.items()}
    if files:
        given["transfer_input_files"] = (*files, *given.get("transfer_input_files", ()))
    if "transfer_output_files" in given:
        # Without it, all new files come back; with it, ours must.
        given["transfer_output_files"] = ("exit", "started", "stdout", "stderr", *given["transfer_output_files"])
    found = []
    for name, values in given.items():
        if name in COMMANDS:
            continue
        if name in OURS:
            raise JobRefused(f"{name} of a submit description is set by broker-jobs")
        if len(values) > 1 and name not in _LISTS:
            raise JobRefused(f"{name} of a submit description has one value, not {len(values)}")
        text = ", ".join(values) if values else "true"
        if text.rstrip().endswith("\\"):
            raise JobRefused(f"{name} cannot end with a backslash, by which HTCondor continues a line")
        found.append(f"{name} = {text}")
    return found


def listed(text: str, command: str) -> list[dict[str, Any]]:
    """The jobs that a command lists; where there are none, it says nothing at all.

    Raises:
        SchedulerSilent: it is no such list
    """
    if not text.strip():
        return []
    try:
        jobs = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SchedulerSilent(f"{command} said no list of jobs: {error}") from error
    if not isinstance(jobs, list) or not all(isinstance(job, dict) for job in jobs):
        raise SchedulerSilent(f"{command} said no list of jobs, but {text[:100]!r}")
    return jobs


def state_of(status: int, job: Mapping[str, Any]) -> JobState:
    """What the number of a state means: 1 idle, 2 running, 3 removed, 4 completed, 5 held, 6 sending output, 7 suspended."""
    match status:
        case 1:
            return Waiting("idle")
        case 3:
            return Ended(str(job.get("RemoveReason", "removed")))
        case 4:
            return Ended()
        case 5 if job.get("HoldReasonCode") == _SPOOLING:
            return Waiting("its files are on the way")
        case 5:
            return Stuck(f"held: {job.get('HoldReason', 'without a reason')}")
        case _:
            return Running()


def ended_words(job: Mapping[str, Any]) -> str:
    """How a job ended, as the history says."""
    said = [str(job[name]) for name in ("RemoveReason", "HoldReason") if job.get(name)]
    if job.get("ExitBySignal"):
        said.append(f"ended by signal {job.get('ExitSignal')}")
    elif "ExitCode" in job:
        said.append(f"exit code {job['ExitCode']}")
    if job.get("LastRemoteHost"):
        said.append(f"on {job['LastRemoteHost']}")
    return ", ".join(said)


def _name(given: str) -> str:
    if given in COMMANDS or given.startswith("+"):
        return given
    name = given.removeprefix(_PREFIX)
    return name if "." in name else name.lower()


def _literal(path: str) -> str:
    """A path as HTCondor takes it.

    Raises:
        JobRefused: that is impossible
    """
    if any(each in path for each in ",\n\r") or path != path.strip() or path.endswith("\\"):
        raise JobRefused(f"HTCondor cannot take files of the folder {path!r}: choose another one with --executor-folder")
    return path.replace("$", "$(DOLLAR)")


def _parts(ids: Collection[str]) -> list[list[str]]:
    every = list(ids)
    return [every[begin : begin + MOST_IDS] for begin in range(0, len(every), MOST_IDS)]
