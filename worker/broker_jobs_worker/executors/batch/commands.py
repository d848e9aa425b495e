"""The commands of a batch system, run and timed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from broker_jobs_worker.executors.batch.port import SchedulerSilent, Unusable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PATIENCE: Final = 60.0
"""Seconds that a command has."""
_MOST_WORDS: Final = 500


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command has said.

    Attributes:
        code: its exit code; negative for a signal
    """

    code: int
    stdout: str
    stderr: str

    @property
    def words(self) -> str:
        """What it says to people, in one line."""
        text = " ".join(f"{self.stderr}\n{self.stdout}".split())
        return text[:_MOST_WORDS] or f"exit code {self.code}, without a word"


def located(commands: Sequence[str], options: Mapping[str, tuple[str, ...]]) -> dict[str, str]:
    """What is to be run for each of these commands: the path that the option of its name says, or its name.

    Raises:
        Unusable: one is not there, or cannot be run by this user
    """
    paths = {name: (options.get(name) or (name,))[0] for name in commands}
    missing = [f"{path} (--executor-option {name}=PATH)" for name, path in paths.items() if shutil.which(path) is None]
    if missing:
        raise Unusable(f"not found: {', '.join(missing)}")
    return paths


async def ask(argv: Sequence[str], patience: float = PATIENCE) -> Answer:
    """Run a command.

    Raises:
        SchedulerSilent: it cannot be started, or does not end in time
    """
    env = {**os.environ, "LC_ALL": "C"}  # what it says is read here
    pipe = asyncio.subprocess.PIPE
    try:
        process = await asyncio.create_subprocess_exec(
            *argv, stdin=asyncio.subprocess.DEVNULL, stdout=pipe, stderr=pipe, env=env, start_new_session=True
        )
    except OSError as error:
        raise SchedulerSilent(f"{argv[0]} cannot be started: {error.strerror}") from error
    try:
        async with asyncio.timeout(patience):
            stdout, stderr = await process.communicate()
    except TimeoutError:
        raise SchedulerSilent(f"{argv[0]} did not end within {patience:g} s") from None
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    code = -1 if process.returncode is None else process.returncode
    return Answer(code, stdout.decode(errors="replace"), stderr.decode(errors="replace"))
