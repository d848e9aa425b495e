"""Real daemons for system tests: started through the command line, found again by a mark in their environment."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

MARK = "BROKER_JOBS_TEST_MARK"


def until(condition: Callable[[], object], what: str | Callable[[], str], timeout: float = 30.0) -> None:
    """Wait for something in another process, with a diagnosis where it does not come: such as it is then, where a function makes it."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout:g} s: {what if isinstance(what, str) else what()}")
        time.sleep(0.02)


def _ends(process: subprocess.Popen[bytes]) -> bool:
    """Whether a process that was told to end does so."""
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        return False
    return True


class Daemons:
    """Processes of one test: every one of them, and all that they start, carries a mark of this test.

    Args:
        folder: for their logs and state
        env: further environment variables, such as BROKER_JOBS_URL and BROKER_JOBS_SIGNING_KEY
    """

    def __init__(self, folder: Path, env: Mapping[str, str]) -> None:
        self.folder = folder
        self.mark = uuid.uuid4().hex
        self.env = {**os.environ, "BROKER_JOBS_HOME": str(folder / "home"), **env, MARK: self.mark}
        self.processes: list[subprocess.Popen[bytes]] = []
        self._logs: dict[int, Path] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        stubborn = [process for process in self.processes if not _ends(process)]
        for process in stubborn:
            process.kill()
            process.wait()
        assert not stubborn or kind, f"told to end, and did not: {[process.args for process in stubborn]}\n{self.logs()}"

    def start(self, *arguments: str, module: str = "broker_jobs", env: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
        """Start ``broker-jobs ARGUMENTS``, or another module, in the background; its log is a file of the folder.

        Args:
            env: environment variables of this process alone
        """
        words = arguments[:2] if module == "broker_jobs" else [module.rpartition(".")[2]]
        log = self.folder / f"{'-'.join(words)}-{len(self.processes)}.log"
        with log.open("wb") as file:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", module, *arguments],
                env={**self.env, **(env or {})},
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.processes.append(process)
        self._logs[process.pid] = log
        return process

    def log(self, process: subprocess.Popen[bytes]) -> str:
        """All that a process that was started here has written."""
        return self._logs[process.pid].read_text(errors="replace")

    def says(self, process: subprocess.Popen[bytes], text: str) -> bool:
        """Whether this is in the log of a process that was started here."""
        return text in self.log(process)

    def run(self, *arguments: str, timeout: float = 60.0) -> subprocess.CompletedProcess[str]:
        """Run ``broker-jobs ARGUMENTS`` to its end."""
        return subprocess.run(
            [sys.executable, "-P", "-m", "broker_jobs", *arguments],
            env=self.env,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def python(self, code: str, timeout: float = 120.0) -> subprocess.CompletedProcess[str]:
        """Run a program of a user to its end."""
        return subprocess.run(
            [sys.executable, "-P", "-c", code], env=self.env, cwd=self.folder, capture_output=True, text=True, timeout=timeout, check=False
        )

    def kill(self, process: subprocess.Popen[bytes]) -> None:
        """SIGKILL for this process alone; its children must end by themselves."""
        process.kill()
        process.wait()

    def alive(self) -> list[int]:
        """Processes with the mark of this test."""
        wanted = f"{MARK}={self.mark}".encode()
        found = []
        for folder in Path("/proc").iterdir():
            if folder.name.isdigit():
                with contextlib.suppress(OSError):
                    # A dead process that nobody has waited for has no environment any more.
                    if wanted in (folder / "environ").read_bytes().split(b"\0"):
                        found.append(int(folder.name))
        return found

    def logs(self) -> str:
        """The ends of all logs, for a failure."""
        return "\n".join(f"--- {log.name}\n{log.read_text(errors='replace')[-3000:]}" for log in sorted(self.folder.glob("*.log")))
