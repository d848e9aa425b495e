"""What tasks wait for in other jobs: noted when they come, told to them when it has ended, and forgotten then.

A row of `links` stands for what has not ended yet. It goes in the transaction that records the end, and the result, where it is an
argument, comes into the waiting job in the same one. So the earlier job may be forgotten once it has ended.
"""

from __future__ import annotations

from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from broker_jobs.coordinator.release import VALUE
from broker_jobs.coordinator.store.parts import dump_value, load_outcome
from broker_jobs.core.job import OutsideEnded
from broker_jobs.core.outcome import Succeeded
from broker_jobs.core.states import ENDED, JOB_ENDED, TaskState
from broker_jobs.core.value import Encoding, Inline, Stored
from broker_jobs.data.files import is_url
from broker_jobs.data.store import ValueStore, fetch
from broker_jobs.errors import ValueStoreError
from broker_jobs.ids import short
from broker_jobs.wire.codec import pack
from broker_jobs.wire.inputs import outside_key

if TYPE_CHECKING:
    from collections.abc import Iterable

    from broker_jobs.coordinator.effects import Batch
    from broker_jobs.coordinator.jobs import Jobs
    from broker_jobs.coordinator.live import LiveJob
    from broker_jobs.coordinator.store import LedgerStore, LinkRow
    from broker_jobs.core.value import Value

_NONE: Final = Inline(Encoding.msgpack, pack(None))


class _Link(NamedTuple):
    """A link, the job that waits, and whether it has a row."""

    job: str
    row: LinkRow
    written: bool


class Links:
    """Waits across jobs.

    Args:
        jobs: the live ones, to which ends are told
    """

    def __init__(self, jobs: Jobs, store: LedgerStore) -> None:
        self._jobs = jobs
        self._store = store
        self._waiting: dict[str, dict[int, list[_Link]]] = {}
        self._to_look_at: deque[_Link] = deque()

    @property
    def unsettled(self) -> bool:
        """Whether something has to be looked at."""
        return bool(self._to_look_at)

    def load(self, job: LiveJob) -> None:
        """Take up what a job waits for."""
        self._to_look_at.extend(_Link(job.facts.id, link, written=True) for link in self._store.look.links(job.facts.key))

    def add(self, job: LiveJob, row: LinkRow) -> None:
        """A task has come that waits for another job."""
        self._to_look_at.append(_Link(job.facts.id, row, written=False))

    def ended(self, job: str, numbers: Iterable[int]) -> None:
        """Tasks have ended."""
        waiting = self._waiting.get(job)
        if waiting:
            for number in numbers:
                self._to_look_at.extend(waiting.pop(number, ()))

    def all_ended(self, job: str) -> None:
        """A job has ended, so that what has not come of it will not come; or many of its tasks have ended together."""
        for links in self._waiting.pop(job, {}).values():
            self._to_look_at.extend(links)

    def settle(self, batch: Batch) -> None:
        """Look at what has ended or is new, and at what ends by that, and so on."""
        brought: set[tuple[int, str]] = set()
        while self._to_look_at:
            link = self._to_look_at.popleft()
            row = link.row
            job = self._jobs.live.get(link.job)
            record = job.machine.tasks.get(row.number) if job is not None else None
            if job is not None and record is not None and row.need in record.outside and not record.ended:
                problem = self._problem(row)
                if problem is None:
                    if not link.written:
                        batch.writes.links.append(row)
                    self._waiting.setdefault(row.other, {}).setdefault(row.other_number, []).append(link._replace(written=True))
                    continue
                if not problem and row.value and (row.job, row.need) not in brought:
                    brought.add((row.job, row.need))
                    self._bring(batch, job, row)
                self._jobs.apply(batch, job, OutsideEnded(row.number, row.need, problem))
            if link.written:
                batch.writes.links_done.append(row)

    def _problem(self, link: LinkRow) -> str | None:
        """Why what a link waits for will never be; empty where it is, None where that is open."""
        task = f"task {link.other_number} of job {short(link.other)}"
        live = self._jobs.live.get(link.other) or self._jobs.changed.get(link.other)
        if live is not None:
            record = live.machine.tasks.get(link.other_number)
            state = record.state if record is not None else None
            over = live.machine.complete or live.machine.ended
        else:
            facts = self._store.look.job(link.other)
            if facts is None:
                return f"{task} is not known: its job was forgotten, or never came"
            view = self._store.look.task(facts.key, link.other_number)
            state = TaskState(view.state) if view is not None else None
            over = facts.state in JOB_ENDED
        if state is None:
            return f"{task} does not exist" if over else None
        if state not in ENDED:
            return None
        return "" if state is TaskState.succeeded or link.after else f"{task} {state.value}"

    def _bring(self, batch: Batch, job: LiveJob, link: LinkRow) -> None:
        """Put the result of the other task among the values of the job that waits."""
        self._store.write_payloads(batch.writes)
        live = self._jobs.live.get(link.other) or self._jobs.changed.get(link.other)
        facts = live.facts if live is not None else self._store.look.job(link.other)
        data = self._store.look.outcomes(facts.key, [link.other_number]).get(link.other_number) if facts is not None else None
        outcome = load_outcome(data) if data is not None else None
        value = (outcome.value if isinstance(outcome, Succeeded) else None) or _NONE
        batch.writes.blobs.append((job.facts.key, VALUE + outside_key(link.other, link.other_number), dump_value(_kept(value, job))))


def _kept(value: Value, job: LiveJob) -> Value:
    """The value, kept for this job where it is in a store that can be reached from here: the other job may be forgotten."""
    if not isinstance(value, Stored) or job.facts.store is None or not (is_url(value.store) or Path(value.store).is_dir()):
        return value
    if value.store == job.facts.store:
        return ValueStore(value.store).adopt(job.facts.id, value)
    try:
        return ValueStore(job.facts.store).put(job.facts.id, value.encoding, *fetch(value).pieces)
    except ValueStoreError:
        return value
