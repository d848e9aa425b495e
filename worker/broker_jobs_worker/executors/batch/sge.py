"""Grid Engine, in any of its forms: ``qsub``, ``qstat``, ``qdel`` and ``qacct``."""

from __future__ import annotations

import os
import pwd
import re
import shlex
from typing import TYPE_CHECKING, Final
from xml.etree import ElementTree as ET

from broker_jobs_worker.executors.batch.commands import PATIENCE, ask, located
from broker_jobs_worker.executors.batch.port import JobRefused, JobState, Running, SchedulerSilent, Stuck, Waiting

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from broker_jobs_worker.executors.batch.commands import Answer
    from broker_jobs_worker.executors.batch.port import BatchJob

COMMANDS: Final = ("qsub", "qstat", "qdel", "qacct")
OURS: Final = frozenset({"b", "C", "help", "r", "S", "shell", "sync", "t", "tc", "terse", "verify"})
"""Options that would change what a job is."""
MOST_IDS: Final = 1000
"""So many are named in one command."""

_ID: Final = re.compile(r"^(?:Your job )?(\d+)(?: \(.*\) has been submitted)?$", re.MULTILINE)
_REFUSED: Final = "Unable to run job:"
_UNREACHED: Final = ("commlib error", "unable to send message", "unable to contact qmaster", "got no response", "got read error", "timeout")
_PREFIX: Final = "sge_"


class Sge:
    """Grid Engine.

    Args:
        options: of the worker; ``qsub``, ``qstat``, ``qdel`` and ``qacct`` are paths of these commands
        patience: seconds that a command has

    Raises:
        JobRefused: an option for each job cannot be one
        Unusable: one of the commands is not there
    """

    def __init__(self, options: Mapping[str, tuple[str, ...]], patience: float = PATIENCE) -> None:
        directives(options)
        self._commands = located(COMMANDS, options)
        self._patience = patience

    async def submit(self, job: BatchJob) -> str:
        """Hand over a job."""
        own = {"N": (job.name,), "o": ("/dev/null",), "j": ("y",)}
        options = directives({**own, **{name.removeprefix(_PREFIX): values for name, values in job.options.items()}})
        # Without a prefix, no line of the script is taken for an option, as one of an argument could be.
        answer = await self._ask("qsub", "-terse", "-C", "", "-S", "/bin/sh", "-r", "n", *options, job.script)
        found = _ID.search(answer.stdout)
        if answer.code == 0 and found is not None:
            return found[1]
        if any(words in answer.words for words in _UNREACHED):
            raise SchedulerSilent(answer.words)
        if answer.code > 0:
            raise JobRefused(answer.words.partition(_REFUSED)[2].removesuffix("Exiting.").strip() or answer.words)
        raise SchedulerSilent(f"qsub said no number of the job: {answer.words}")

    async def poll(self, ids: Collection[str]) -> Mapping[str, JobState]:
        """How these jobs are, by one ``qstat`` for all jobs of this user; a second one says why some are in an error."""
        # Not the name that the environment says: jobs of another user would all seem lost.
        answer = await self._ask("qstat", "-u", pwd.getpwuid(os.geteuid()).pw_name, "-xml")
        if answer.code != 0:
            raise SchedulerSilent(f"qstat: {answer.words}")
        letters = {id_: state for id_, state in listed(answer.stdout).items() if id_ in ids}
        errors = [id_ for id_, state in letters.items() if "E" in state]
        reasons = await self._reasons(errors) if errors else {}
        return {id_: state_of(state, reasons.get(id_, "")) for id_, state in letters.items()}

    async def cancel(self, ids: Collection[str]) -> None:
        """End these jobs; ``qdel`` fails where one of them has ended, and says so."""
        for some in _parts(ids):
            answer = await self._ask("qdel", *some)
            if any(words in answer.words for words in _UNREACHED):
                raise SchedulerSilent(f"qdel: {answer.words}")

    async def explain(self, id: str) -> str:  # noqa: A002 (as in the port)
        """What the accounting says of a job, if it does already."""
        answer = await self._ask("qacct", "-j", id)
        if answer.code != 0:
            return ""
        fields = dict(_field(line) for line in answer.stdout.splitlines() if line and not line.startswith("="))
        failed, status = fields.get("failed", "0"), fields.get("exit_status", "0")
        code, _, why = failed.partition(":")
        said = [f"failed {code.strip()}: {why.strip()}"] if code.strip() != "0" else []
        return ", ".join([*said, f"exit status {status}", f"on {fields.get('hostname', 'an unknown host')}"])

    async def _reasons(self, ids: Collection[str]) -> Mapping[str, str]:
        """Why jobs are in an error."""
        found: dict[str, str] = {}
        for some in _parts(ids):
            answer = await self._ask("qstat", "-j", ",".join(some))
            id_ = ""
            for line in answer.stdout.splitlines():
                name, _, text = line.partition(":")
                if name == "job_number":
                    id_ = text.strip()
                elif name.startswith("error reason"):
                    found.setdefault(id_, text.strip())
        return found

    async def _ask(self, command: str, *arguments: str) -> Answer:
        return await ask([self._commands[command], *arguments], self._patience)


def directives(options: Mapping[str, tuple[str, ...]]) -> list[str]:
    """Options as arguments of ``qsub``, one for each value; a value may be several words, as in ``pe="smp 4"``.

    Raises:
        JobRefused: one would change what the job is, or cannot be read
    """
    arguments: list[str] = []
    for given, values in options.items():
        name = given.removeprefix(_PREFIX)
        if name in COMMANDS:
            continue
        if name in OURS:
            raise JobRefused(f"the option {given} of qsub is set by broker-jobs")
        try:
            words = [shlex.split(value) for value in values]
        except ValueError as error:
            raise JobRefused(f"the option {given} cannot be read: {error}") from None
        for each in words or [[]]:
            arguments.extend((f"-{name}", *each))
    return arguments


def listed(text: str) -> dict[str, str]:
    """The letters of the states of jobs by their numbers, as ``qstat -xml`` lists them.

    Raises:
        SchedulerSilent: it is no such list
    """
    try:
        root = ET.fromstring(text)  # noqa: S314 (a command that the worker trusts to run programs)
    except (ET.ParseError, ValueError) as error:  # also half of a character
        raise SchedulerSilent(f"qstat said no list of jobs: {error}") from error
    if root.tag != "job_info":
        raise SchedulerSilent(f"qstat said no list of jobs, but <{root.tag}>")
    found = {}
    for job in root.iter("job_list"):
        id_, state = job.findtext("JB_job_number"), job.findtext("state")
        if not id_ or not state:
            raise SchedulerSilent("qstat lists a job without its number or its state")
        found[id_.strip()] = state.strip()
    return found


def state_of(letters: str, reason: str) -> JobState:
    """What the letters of a state mean."""
    if "E" in letters and "d" not in letters:
        return Stuck(reason or f"it is in the error state {letters}")
    if "q" in letters or "h" in letters:
        return Waiting(f"waiting ({letters})")
    return Running()


def _field(line: str) -> tuple[str, str]:
    name, _, value = line.partition(" ")
    return name, value.strip()


def _parts(ids: Collection[str]) -> list[list[str]]:
    every = list(ids)
    return [every[begin : begin + MOST_IDS] for begin in range(0, len(every), MOST_IDS)]
