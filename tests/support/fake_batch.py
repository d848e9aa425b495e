"""Fakes of Grid Engine and HTCondor: their commands, with the options and the output of the real ones, over one folder.

``python fake_batch.py FOLDER COMMAND ARGUMENT…`` is one command. Jobs really run, each under a process that waits for it. Files in the
folder let things go wrong: a line of ``faults/COMMAND`` is what its next call does instead (``error TEXT``, ``print TEXT``,
``sleep SECONDS``), a line of ``fates`` is what becomes of the next job (``wait SECONDS``, ``unseen SECONDS``, ``lost``, ``stuck REASON``,
``elsewhere``: on a host that does not see the folder). This file needs nothing but the standard library, so that it starts fast.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

IDLE, RUNNING, REMOVED, COMPLETED, HELD = 1, 2, 3, 4, 5


class Folder:
    """What all commands share."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def pop(self, name: str) -> str:
        """The first line of a file, which is taken out of it; a line that begins with ``*`` stays."""
        path = self.path / name
        try:
            file = path.open("r+")
        except FileNotFoundError:
            return ""
        with file:
            fcntl.flock(file, fcntl.LOCK_EX)
            lines = file.read().split("\n")[:-1]  # not `splitlines`, which knows odd ones
            if not lines:
                return ""
            if not lines[0].startswith("*"):
                file.seek(0)
                file.truncate()
                file.write("".join(f"{line}\n" for line in lines[1:]))
            return lines[0].removeprefix("*")

    def new(self, facts: dict[str, Any]) -> int:
        """A new job; its number."""
        jobs = self.path / "jobs"
        jobs.mkdir(exist_ok=True)
        number = 1
        while True:
            try:
                (jobs / str(number)).mkdir()
            except FileExistsError:
                number += 1
            else:
                break
        fate, _, more = self.pop("fates").partition(" ")
        self.put(number, "facts", {**facts, "fate": fate, "more": more, "since": time.time()})
        subprocess.Popen(
            [sys.executable, "-I", "-S", __file__, str(self.path), "supervise", str(number)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        return number

    def put(self, number: int, name: str, value: object) -> None:
        path = self.path / "jobs" / str(number) / name
        new = path.with_suffix(f".{os.getpid()}")
        new.write_text(json.dumps(value))
        new.rename(path)

    def get(self, number: int, name: str) -> Any:
        try:
            return json.loads((self.path / "jobs" / str(number) / name).read_text())
        except FileNotFoundError:
            return None

    def numbers(self) -> list[int]:
        jobs = self.path / "jobs"
        return sorted(int(each.name) for each in jobs.iterdir()) if jobs.exists() else []

    def status(self, number: int) -> int | None:
        """How a job is; None where it is not listed."""
        facts, ended = self.get(number, "facts"), self.get(number, "ended")
        if facts is None or ended is not None:
            return None
        if facts["fate"] == "lost" or (facts["fate"] == "unseen" and time.time() < facts["since"] + float(facts["more"])):
            return None
        if facts["fate"] == "stuck":
            return HELD
        return RUNNING if self.get(number, "pid") is not None else IDLE

    def remove(self, number: int, by: str) -> bool:
        """End a job; False where there is none."""
        if self.get(number, "facts") is None or self.get(number, "ended") is not None:
            return False
        self.put(number, "removed", by)
        pid = self.get(number, "pid")
        if pid is None:
            self.put(number, "ended", {"removed": by})
        else:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
        return True

    def supervise(self, number: int) -> None:
        """Run a job, as an execution host does."""
        facts = self.get(number, "facts")
        if facts["fate"] in {"lost", "stuck"}:
            return
        if facts["fate"] == "wait":
            time.sleep(float(facts["more"]))
        if self.get(number, "removed") is not None:
            return
        where, scratch = facts["cwd"], None
        if facts["fate"] == "elsewhere":
            where = scratch = self.path / "jobs" / str(number) / "scratch"
            scratch.mkdir()
            for file in [facts["script"], *facts["files"]]:
                shutil.copy(file, scratch)
            Path(facts["folder"]).rename(f"{facts['folder']}.hidden")
        sent = set(scratch.iterdir()) if scratch else set()
        process = subprocess.Popen(
            ["/bin/sh", facts["copy"]], cwd=where, env=facts["env"], stdin=subprocess.DEVNULL, start_new_session=True
        )
        self.put(number, "pid", process.pid)
        if self.get(number, "removed") is not None:
            os.killpg(process.pid, signal.SIGKILL)
        code = process.wait()
        if scratch is not None:
            Path(f"{facts['folder']}.hidden").rename(facts["folder"])
            for path in set(scratch.iterdir()) - sent:
                if path.is_file():
                    shutil.copy(path, facts["folder"])
        removed = self.get(number, "removed")
        self.put(number, "ended", {"code": code, **({} if removed is None else {"removed": removed})})


def fail(text: str, code: int = 1) -> NoReturn:
    print(text, file=sys.stderr)
    raise SystemExit(code)


def parsed(arguments: list[str], *, values: set[str], flags: set[str]) -> tuple[dict[str, list[str]], list[str]]:
    """Options of a command, and what is left."""
    options: dict[str, list[str]] = {}
    rest: list[str] = []
    while arguments:
        word, *arguments = arguments
        if word in flags:
            options.setdefault(word, [])
        elif word in values and arguments:
            options.setdefault(word, []).append(arguments.pop(0))
        elif word.startswith("-"):
            fail(f"ERROR! invalid option argument {word!r}", 7)
        else:
            rest.append(word)
    return options, rest


# --- Grid Engine ------------------------------------------------------------------------------------------------------


def qsub(folder: Folder, arguments: list[str]) -> None:
    values = {"-S", "-r", "-N", "-o", "-e", "-j", "-q", "-l", "-p", "-pe", "-C", "-wd"}
    options, (script,) = parsed(arguments, values=values, flags={"-terse", "-V", "-cwd"})
    if options.get("-C") != [""] and b"\n#$" in Path(script).read_bytes():
        fail("qsub: Unknown option")
    for queue in options.get("-q", []):
        if queue != "all.q":
            fail(f'Unable to run job: Job was rejected because job requests unknown queue "{queue}"\nExiting.')
    copy = folder.path / f"script-{os.getpid()}"
    shutil.copy(script, copy)
    env = {"PATH": os.environ["PATH"], "HOME": str(folder.path)}
    facts = {"script": script, "copy": str(copy), "folder": "", "files": [], "cwd": str(folder.path), "env": env, "options": options}
    print(folder.new(facts))


def qstat(folder: Folder, arguments: list[str]) -> None:
    options, _ = parsed(arguments, values={"-u", "-j"}, flags={"-xml"})
    if "-j" in options:
        for number in options["-j"][0].split(","):
            facts = folder.get(int(number), "facts")
            print("=" * 62, f"job_number:                 {number}", f"error reason          1:          {facts['more']}", sep="\n")
        return
    print("<?xml version='1.0'?>\n<job_info  xmlns:xsd=\"http://arc.liv.ac.uk/qstat.xsd\">\n  <queue_info>")
    letters = {IDLE: "qw", RUNNING: "r", HELD: "Eqw"}
    for number in folder.numbers():
        status = folder.status(number)
        if status is not None:
            print(f"<job_list state='x'><JB_job_number>{number}</JB_job_number><state>{letters[status]}</state></job_list>")
    print("  </queue_info>\n  <job_info>\n  </job_info>\n</job_info>")


def qdel(folder: Folder, arguments: list[str]) -> None:
    unknown = [number for number in arguments if not folder.remove(int(number), "qdel")]
    for number in unknown:
        print(f'denied: job "{number}" does not exist')
    raise SystemExit(bool(unknown))


def qacct(folder: Folder, arguments: list[str]) -> None:
    ended = folder.get(int(arguments[1]), "ended")
    if ended is None:
        fail(f"error: job id {arguments[1]} not found")
    failed = "100 : assumedly after job" if "removed" in ended else "0"
    print("=" * 62, "hostname     fake1", f"failed       {failed}", f"exit_status  {ended.get('code', 0) % 256}", sep="\n")


# --- HTCondor ---------------------------------------------------------------------------------------------------------


def description(text: str) -> dict[str, str]:
    """A submit description as HTCondor reads it: comments, continued lines, macros; names whatever their case."""
    found: dict[str, str] = {}
    queued = False
    for line in text.replace("\\\n", "").split("\n"):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        if stripped.split()[0].lower() == "queue":
            queued = True
            continue
        name, equals, value = stripped.partition("=")
        if not equals:
            fail(f"ERROR: on Line 1 of submit file: \nERROR: Failed to parse command file (line 1): {stripped}.")
        found[name.strip().lower()] = value.strip()
    if not queued:
        fail("ERROR: No 'queue' commands found in submit description file")
    return {name: expanded(value, found) for name, value in found.items()}


def expanded(text: str, macros: dict[str, str]) -> str:
    """A value with its macros put in; one that is not known is empty."""
    result, rest = "", text
    while "$(" in rest:
        before, _, rest = rest.partition("$(")
        name, _, rest = rest.partition(")")
        result += before + ("$" if name.upper() == "DOLLAR" else macros.get(name.lower(), ""))
    return result + rest


def condor_submit(folder: Folder, arguments: list[str]) -> None:
    _, (path,) = parsed(arguments, values=set(), flags={"-terse"})
    told = description(Path(path).read_text(encoding="utf-8", errors="surrogateescape"))
    if not os.access(told["executable"], os.X_OK):
        fail(f"ERROR: Executable file {told['executable']} does not exist")
    requirements = told.get("requirements", "")
    if requirements.count("(") != requirements.count(")"):
        fail(f"ERROR: Parse error in expression: \n\tRequirements = {requirements}")
    files = [file.strip() for file in told.get("transfer_input_files", "").split(",") if file.strip()]
    for file in files:
        if not Path(told["initialdir"], file).exists():
            fail(f'ERROR: Can\'t open "{file}"  with flags 00 (No such file or directory)')
    copy = folder.path / f"script-{os.getpid()}"
    shutil.copy(told["executable"], copy)
    place = told["initialdir"]
    number = folder.new(
        {
            "script": told["executable"],
            "copy": str(copy),
            "folder": place,
            "files": files,
            "cwd": place,
            "env": {"PATH": os.defpath},
            "options": told,
        }
    )
    print(f"{number}.0 - {number}.0")


def condor_q(folder: Folder, arguments: list[str]) -> None:
    options, ids = parsed(arguments, values={"-attributes"}, flags={"-json"})
    jobs = []
    for id_ in ids:
        cluster = int(id_.partition(".")[0])
        status = folder.status(cluster)
        if status is not None:
            facts = folder.get(cluster, "facts")
            job = {"ClusterId": cluster, "ProcId": 0, "JobStatus": status}
            jobs.append({**job, **({"HoldReason": facts["more"], "HoldReasonCode": 13} if status == HELD else {})})
    show(jobs, options)


def condor_history(folder: Folder, arguments: list[str]) -> None:
    options, ids = parsed(arguments, values={"-attributes", "-limit"}, flags={"-json"})
    jobs = []
    for id_ in ids:
        ended = folder.get(int(id_.partition(".")[0]), "ended")
        if ended is not None:
            status = {"JobStatus": REMOVED, "RemoveReason": ended["removed"]} if "removed" in ended else {"JobStatus": COMPLETED}
            code = ended.get("code")
            exited = (
                {}
                if code is None
                else {"ExitBySignal": True, "ExitSignal": -code}
                if code < 0
                else {"ExitBySignal": False, "ExitCode": code}
            )
            jobs.append({**status, **exited, "LastRemoteHost": "slot1@fake1"})
    show(jobs, options)


def show(jobs: list[dict[str, Any]], options: dict[str, list[str]]) -> None:
    """As the real ones: nothing at all where there is none."""
    wanted = {name.lower() for name in options.get("-attributes", [""])[0].split(",")}
    if jobs:
        print(
            "[\n" + "\n,\n".join(json.dumps({name: job[name] for name in job if name.lower() in wanted}, indent=2) for job in jobs) + "\n]"
        )


def condor_rm(folder: Folder, arguments: list[str]) -> None:
    found = [id_ for id_ in arguments if folder.remove(int(id_.partition(".")[0]), "via condor_rm (by user tester)")]
    for id_ in arguments:
        print(f"Job {id_} marked for removal" if id_ in found else f"Job {id_} not found")
    if not found:
        fail("Couldn't find/remove all jobs matching constraint")


COMMANDS = (qsub, qstat, qdel, qacct, condor_submit, condor_q, condor_rm, condor_history)


def main() -> None:
    path, name, *arguments = sys.argv[1:]
    folder = Folder(Path(path))
    if name == "supervise":
        folder.supervise(int(arguments[0]))
        return
    with (folder.path / "asked").open("a") as asked:
        asked.write(f"{name} {' '.join(arguments)}\n")
    fault, _, text = folder.pop(f"faults/{name}").partition(" ")
    match fault:
        case "error":
            fail(text)
        case "print":
            print(text)
            return
        case "sleep":
            time.sleep(float(text))
    {command.__name__: command for command in COMMANDS}[name](folder, arguments)


if __name__ == "__main__":
    main()
