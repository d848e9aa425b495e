"""The data of a program: files that are put into its folder before it starts, and those that are kept when it has succeeded."""

from __future__ import annotations

import glob
import mimetypes
import shutil
import uuid
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from broker_jobs.core.data import OCTETS, Artifact, DataRef, inside
from broker_jobs.core.outcome import Cause, Failed
from broker_jobs.errors import ValidationError, ValueStoreError
from broker_jobs_worker.runners.failure import cannot_send
from broker_jobs_worker.runners.slots import NO_STORE, folder

if TYPE_CHECKING:
    from broker_jobs.core.outcome import Outcome, Succeeded
    from broker_jobs.wire.messages import Program
    from broker_jobs_worker.runners.protocol import Run

MOST_COLLECTED: Final = 10_000


def put(program: Program) -> Failed | None:
    """Put the files of a program into the current folder; why that cannot be, if so."""
    if not program.files:
        return None
    from broker_jobs.data.files import copy_to

    try:
        for path, data in program.files:
            target = Path(inside(path))
            target.parent.mkdir(parents=True, exist_ok=True)
            copy_to(data, target)
    except (ValueStoreError, ValidationError, OSError) as error:
        return cannot_send(error, "a file of the program cannot be put into its folder")
    return None


def collect(run: Run, program: Program, succeeded: Succeeded) -> Outcome:
    """The success with the files that the program was to make, or the failure where one is missing or cannot be kept."""
    if not program.collects:
        return succeeded
    paths: dict[str, None] = {}
    for pattern in program.collects:
        # `Path.glob` follows no links to folders.
        found = sorted(glob.glob(pattern, recursive=True))  # noqa: PTH207 (see above)
        found = [path for path in found if Path(path).is_file() and _is_here(path)]
        if not found and not glob.has_magic(pattern):
            return Failed(Cause.error, f"the program has succeeded, and has not made {pattern!r}, which was to be kept")
        paths |= dict.fromkeys(found)
    for path, _ in program.files:
        paths.pop(path, None)
    if len(paths) > MOST_COLLECTED:
        return Failed(Cause.error, f"{len(paths)} files fit what is to be kept, and at most {MOST_COLLECTED} can be: narrow the patterns")
    try:
        return replace(succeeded, made=tuple(_kept(run, number, path) for number, path in enumerate(paths)))
    except (ValueStoreError, ValidationError, OSError) as error:
        return cannot_send(error, "a file of the program cannot be kept")


def _is_here(path: str) -> bool:
    """Whether a file lies below the current folder, wherever links lead."""
    return Path(path).resolve().is_relative_to(Path.cwd())


def _kept(run: Run, number: int, path: str) -> Artifact:
    if run.store is None:
        raise ValueStoreError(NO_STORE)
    from broker_jobs.data.files import BLOCK, Files

    files, key = Files(run.store), f"{folder(run)}/{number}"
    with Path(path).open("rb") as source, files.write(key) as target:
        shutil.copyfileobj(source, target, BLOCK)
    size, digest = files.digest(key)
    media_type = mimetypes.guess_type(path)[0] or OCTETS
    return Artifact(path, DataRef(uuid.uuid4().hex, Path(path).name, media_type, size, digest, run.store, key))
