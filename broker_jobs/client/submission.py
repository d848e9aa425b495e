"""From a job that was written to signed chunks: everything is encoded before anything is sent, and large jobs wait on disk."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from broker_jobs.client.calls import folder, header_of, origin
from broker_jobs.client.chunking import Chunker, cut, share, window
from broker_jobs.client.encoding import Encoder
from broker_jobs.client.entries import ArrayWork, CallWork, MapWork
from broker_jobs.client.jobview import Layout
from broker_jobs.client.link import Frame
from broker_jobs.core.resource_class import MAX_CLASSES
from broker_jobs.data.store import ValueStore
from broker_jobs.errors import TooManyClasses, UnpicklableError, ValidationError, ValueTooLarge
from broker_jobs.wire.codec import decode, encode
from broker_jobs.wire.inputs import shifted
from broker_jobs.wire.messages import Chunk, Program

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import ModuleType

    from broker_jobs.client.authoring import Job
    from broker_jobs.client.chunking import OpenClasses
    from broker_jobs.client.encoding import Placement
    from broker_jobs.client.entries import Work
    from broker_jobs.client.link import Link
    from broker_jobs.core.pace import Pace

_IN_MEMORY: Final = 64 * 2**20


@dataclass(slots=True)
class Spool:
    """Frames in the order in which they are sent; in a temporary file where they are many."""

    keys: list[tuple[str, int]] = field(default_factory=list)
    file: tempfile.SpooledTemporaryFile[bytes] = field(default_factory=lambda: tempfile.SpooledTemporaryFile(_IN_MEMORY))  # noqa: SIM115 (`close` does)

    def add(self, frame: Frame) -> None:
        """Keep a frame."""
        self.keys.append((frame.key, len(frame.body)))
        self.file.write(frame.body)

    def __iter__(self) -> Iterator[Frame]:
        self.file.seek(0)
        for key, size in self.keys:
            yield Frame(key, self.file.read(size))

    def close(self) -> None:
        """Drop them."""
        self.file.close()


@dataclass(slots=True)
class Draft:
    """Chunks that wait for their numbers; in a temporary file where they are many."""

    sizes: list[int] = field(default_factory=list)
    file: tempfile.SpooledTemporaryFile[bytes] = field(default_factory=lambda: tempfile.SpooledTemporaryFile(_IN_MEMORY))  # noqa: SIM115 (`close` does)

    def add(self, chunk: Chunk) -> None:
        """Keep a chunk."""
        body = encode(chunk)
        self.sizes.append(len(body))
        self.file.write(body)

    def frames(self, link: Link, first: int) -> Iterator[Frame]:
        """The chunks with numbers that begin at `first`, signed."""
        self.file.seek(0)
        for size in self.sizes:
            chunk = decode(self.file.read(size))
            if isinstance(chunk, Chunk):
                yield link.seal(shifted(chunk, first))

    def close(self) -> None:
        """Drop them."""
        self.file.close()


class Submission:
    """One job on its way.

    Args:
        job: as it was written
        job_id: the id that it gets
        store: folder of the value store
        by_value: modules that travel whole
    """

    def __init__(self, job: Job, job_id: str, store: str | None, by_value: Sequence[ModuleType]) -> None:
        self.job = job
        self.id = job_id
        self._store = store
        self._encoder = Encoder(job_id, store=ValueStore(store) if store else None, by_value=by_value, home=folder())
        # Few objects, as a rule; to hash those of each task would take longer than to encode it.
        options = {id(entry.options): entry.options for entry in job.entries}
        self.placements: tuple[Placement, ...] = tuple(set(map(self._encoder.place, options.values())))
        if len({placement.resource_class for placement in self.placements}) > MAX_CLASSES:
            raise TooManyClasses(f"{job!r} has more than {MAX_CLASSES} distinct resource requests: round them to fewer values")

    def draft(self, submitter: str) -> Draft:
        """All chunks for a job that is open, with numbers that begin at 0.

        Raises:
            ValidationError: something of it cannot be sent, or belongs to the open job; nothing was
        """
        job = self.job
        if job.tags or job.max_fails is not None:
            raise ValidationError("tags and max_fails belong to the job that is open already: leave them out here")
        chunker = Chunker(self.id, header_of(submitter, job.name), origin(), frozenset(), store=self._store, whole=False)
        draft = Draft()
        try:
            for chunk in cut(chunker, self._encoder.tasks(job)):
                draft.add(chunk)
        except BaseException:
            draft.close()
            raise
        return draft

    def encode(self, link: Link, is_open: OpenClasses, idempotency_key: str | None, pace: Pace) -> tuple[Spool, Layout]:
        """All chunks, signed.

        Args:
            pace: of calls that are known

        Raises:
            ValidationError: something of it cannot be sent; nothing was
            SigningKeyMissing: there is no key
        """
        job = self.job
        if idempotency_key is not None and (not isinstance(idempotency_key, str) or not idempotency_key):
            raise ValidationError(f"idempotency_key must be a text, not {idempotency_key!r}")
        header = header_of(link.client, job.name, tags=job.tags, max_fails=job.max_fails, idempotency_key=idempotency_key)
        ordered = len({placement.options.priority for placement in self.placements}) > 1
        sort = self._only_sort()
        worth = pace.fitting(sort)
        most = share(len(job), worth=worth)
        chunker = Chunker(self.id, header, origin(), is_open, most=most, window=window(most, worth), store=self._store, ordered=ordered)
        spool, flat = Spool(), True
        try:
            for chunk in cut(chunker, self._encoder.tasks(job)):
                spool.add(link.seal(chunk))
                flat = flat and chunk.direct
        except BaseException:
            spool.close()
            raise
        return spool, Layout.of(job, flat=flat, sort=sort)

    def _only_sort(self) -> str | None:
        """The function that all tasks call, or the program that all run; None where they do not, or where it cannot be sent."""
        works = [entry.work for entry in self.job.entries]
        names = {_program_name(work) for work in works}
        if len(names) == 1 and None not in names:
            return f"program {names.pop()!r}"
        calls = [work.function for work in works if isinstance(work, CallWork | MapWork)]
        if not calls or len(calls) < len(works) or any(call is not calls[0] for call in calls):
            return None
        try:
            return self._encoder.callee(calls[0]).digest
        except (UnpicklableError, ValueTooLarge):
            return None  # it is said where its tasks are encoded, and which one it is


def _program_name(work: Work) -> tuple[bytes, ...] | None:
    """The first word of a program, as a tuple; None where the work is none."""
    match work:
        case Program(argv=argv) | ArrayWork(program=Program(argv=argv)):
            return argv[:1]
        case _:
            return None
