"""The folders of jobs: a script goes in, and exit code and output come out.

All of them lie in one folder of the worker, which the hosts of the batch system see under the same path, or whose files they are sent.
Everything here may wait for a file system on the network, and is called in threads.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from broker_jobs.core.outcome import Succeeded
from broker_jobs.core.placeholders import CWD
from broker_jobs.core.spec import Keep
from broker_jobs.errors import ValidationError
from broker_jobs.wire.messages import Output
from broker_jobs_worker.executors.batch import script
from broker_jobs_worker.executors.batch.record import packed, unpacked
from broker_jobs_worker.executors.spool import file_name
from broker_jobs_worker.runners.surroundings import TAIL_LIMIT, filled_in, written

if TYPE_CHECKING:
    from broker_jobs.core.outcome import Outcome
    from broker_jobs_worker.executors.archive import Archive
    from broker_jobs_worker.executors.batch.record import Record
    from broker_jobs_worker.runners.protocol import Run

_RECORD: Final = "record"
_LIFE: Final = "life"
_OWNER: Final = "owner"
_SCRIPT: Final = "run.sh"
_LARGEST: Final = 4096
"""Bytes of what the script says itself."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What there is to see of a job in its folder.

    Attributes:
        streams: files of standard output and error
        code: exit code
        started_s: when it began, in seconds since 1970 by the clock of its host
        host: on which
        printed: bytes
    """

    streams: tuple[str, str]
    code: int | None = None
    started_s: int | None = None
    host: str = ""
    printed: int = 0


class Folders:
    """The jobs of one worker.

    Args:
        base: its folder; it is made where it is missing
        archive: takes output that is kept, on the same file system
    """

    def __init__(self, base: Path, archive: Archive) -> None:
        self._base = base
        self._archive = archive
        self._claim: int | None = None

    def claim(self, owner: str) -> None:
        """Hold the folder for this process.

        Args:
            owner: of whom the folder is, for `abandoned`

        Raises:
            ValidationError: a worker that lives has it
            OSError: it cannot be made
        """
        self._base.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(self._base, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            raise ValidationError(f"another worker of this name uses {self._base}: give this one another --name, or end that one") from None
        except OSError:
            pass  # a file system without locks: then names have to do
        self._claim = fd
        (self._base / _OWNER).write_text(owner, encoding="utf-8")

    def let_go(self) -> None:
        """Let others have the folder, and remove it where no job is left in it."""
        if self._claim is None:
            return
        if not self.records():
            shutil.rmtree(self._base, ignore_errors=True)
            with contextlib.suppress(OSError):
                self._base.parent.rmdir()
        os.close(self._claim)
        self._claim = None

    def abandoned(self, owner: str) -> list[Folders]:
        """Folders of the same place and owner whose processes are gone, claimed for this one."""
        found = []
        for base in self._base.parents[1].glob(f"*/{self._base.name}"):
            with contextlib.suppress(OSError, ValidationError):
                if base != self._base and (base / _OWNER).read_text(encoding="utf-8") == owner:
                    folders = Folders(base, self._archive)
                    folders.claim(owner)
                    found.append(folders)
        return found

    def next_life(self) -> int:
        """How many processes of this worker have gone on with what another one began, with the one that asks."""
        try:
            life = int((self._base / _LIFE).read_text(encoding="ascii")) + 1
        except (OSError, ValueError):
            life = 1
        (self._base / _LIFE).write_text(str(life), encoding="ascii")
        return life

    # --- one job -----------------------------------------------------------------------------------------------------

    def folder(self, execution: str, trial: int = 1) -> Path:
        """Where a job lies; a further try to submit it has a folder of its own, since the one before may have come through."""
        return self._base / (file_name(execution) if trial == 1 else f"{file_name(execution)}.{trial}")

    def make(self, folder: Path, text: bytes, stdin: tuple[str, bytes]) -> tuple[str, str]:
        """A fresh folder with a script and a file for standard input; their paths.

        Raises:
            OSError: it cannot be written
        """
        folder.mkdir(mode=0o700)
        run, given = folder / _SCRIPT, folder / stdin[0]
        given.write_bytes(stdin[1])
        run.write_bytes(text)
        run.chmod(0o700)
        return str(run), str(given)

    def keep(self, folder: Path, record: Record) -> None:
        """Let the next process find the job."""
        new = folder / f"{_RECORD}.new"
        new.write_bytes(packed(record))
        new.replace(folder / _RECORD)

    def records(self) -> list[tuple[Path, Record]]:
        """Jobs that an earlier process has left; folders without a record are removed, so that a job which nobody knows does nothing."""
        found = []
        for folder in sorted(self._base.iterdir()):
            if not folder.is_dir():
                continue
            try:
                record = unpacked((folder / _RECORD).read_bytes())
            except OSError:
                record = None
            if record is None:
                remove(folder)
            else:
                found.append((folder, record))
        return found

    def look(self, folder: Path, run: Run) -> Seen:
        """What there is to see of a job."""
        code = _number(_text(folder / script.EXIT))
        began, _, host = (_text(folder / script.STARTED) or "").partition(" ")
        streams = _streams(folder, run)
        printed = 0
        for path in streams:
            with contextlib.suppress(OSError):
                printed += os.stat(path).st_size  # noqa: PTH116 (a text)
        return Seen(streams, code, _number(began), host, printed)

    def problem(self, folder: Path) -> str | None:
        """Why the program could not be started, as the script says."""
        return _text(folder / script.PROBLEM)

    def output(self, folder: Path, run: Run) -> tuple[Output, Output]:
        """What a job has written; what is longer than its tail goes to the archive."""
        stdout, stderr = _streams(folder, run)
        return (
            self._output(stdout, run, None if run.options.stdout is None else stdout, "out"),
            self._output(stderr, run, None if run.options.stderr is None else stderr, "err"),
        )

    def _output(self, path: str, run: Run, own: str | None, suffix: str) -> Output:
        found = written(path)
        if own is not None:
            return found
        if found.size <= TAIL_LIMIT:
            return replace(found, path=None)
        try:
            kept = self._archive.keep(Path(path), run.job, f"{file_name(run.execution)}.{suffix}")
        except OSError:
            kept = None  # there is no room for it: the tail has to do
        if self._archive.crowded():
            self._archive.sweep()
        return replace(found, path=kept)


def _streams(folder: Path, run: Run) -> tuple[str, str]:
    """Where the output of a job goes, as far as it has said where it runs."""
    place = _text(folder / script.PLACE) or str(folder)
    stdout, stderr = (
        str(folder / own) if name is None else os.path.abspath(os.path.join(place, filled_in(name, run, {CWD: place})))  # noqa: PTH100, PTH118
        for name, own in zip((run.options.stdout, run.options.stderr), script.STREAMS, strict=True)
    )
    return stdout, stderr


def dropped(outcome: Outcome, keep: Keep, output: Output) -> Output:
    """What is left to tell of a stream, and what is not to be kept is removed."""
    if keep is Keep.on_failure and isinstance(outcome, Succeeded):
        if output.path is not None:
            with contextlib.suppress(OSError):
                os.unlink(output.path)  # noqa: PTH108 (a text)
        return Output()
    return output


def remove(folder: Path) -> None:
    """Remove the folder of a job; first its script, so that a job which comes late finds nothing."""
    (folder / _SCRIPT).unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)


def _text(path: Path) -> str | None:
    """What the script has written into a file of its own; a path in it may be any bytes."""
    try:
        with path.open("rb") as file:
            return os.fsdecode(file.read(_LARGEST).removesuffix(b"\n"))
    except OSError:
        return None


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isascii() and text.isdigit() else None
