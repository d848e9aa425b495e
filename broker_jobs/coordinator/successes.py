"""What nearly all attempts do, to succeed, for many of them in one pass. `Jobs` does the same for one attempt, however it ended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from broker_jobs.coordinator.store import OutcomeRow, SuccessesRow
from broker_jobs.coordinator.store.parts import clean, dump_outcome
from broker_jobs.wire.codec import encode, encode_part
from broker_jobs.wire.messages import Ended, Output, Reply

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from broker_jobs.coordinator.effects import Batch
    from broker_jobs.coordinator.live import LiveJob
    from broker_jobs.core.outcome import Outcome

_SILENCE: Final = Output()
_NO_OUTPUT: Final = encode_part(_SILENCE)


@dataclass(frozen=True, slots=True)
class Said:
    """What a worker says of attempts of a job that have ended.

    Attributes:
        ends: by task
        host: of the worker
    """

    ends: Mapping[int, Ended]
    worker: str
    boot: str
    host: str


NOTHING: Final = Said({}, "", "", "")
"""No worker has said anything."""


def succeed(batch: Batch, job: LiveJob, numbers: Sequence[int], said: Said) -> None:
    """These tasks have succeeded, as was said."""
    facts, counted = job.facts, batch.effects.counted
    packed: list[Ended] = []
    for number in numbers:
        task, ended = job.tasks[number], said.ends[number]
        shared = job.shared[task.options]
        busy = ended.ended_ms - ended.started_ms
        if task.started_ms is None:
            task.started_ms = ended.started_ms
            counted.queued[shared.resource_class].append(max(0, ended.started_ms - task.ready_ms))
            if facts.started_ms is None:
                facts.started_ms = ended.started_ms
        counted.ended[shared.resource_class].append(max(0, ended.ended_ms - facts.submitted_ms))
        task.worker, task.boot, task.ended_ms, task.due_ms = said.worker, said.boot, ended.ended_ms, None
        if job.ordered:
            job.pace.ran(shared.queue, busy)
        job.land(number, busy)
        job.taken.discard(number)
        if task.pack is None:
            job.dirty[number] = None
            batch.writes.outcomes.append(outcome_row(job, number, ended.outcome, said))
        else:
            packed.append(ended)
    if packed:
        places = [ended.task for ended in packed]
        reply = encode(Reply(facts.id, said.worker, said.boot, tuple(packed)))
        row = SuccessesRow(facts.key, facts.version + 1, len(packed), min(places), max(places), clean(said.host), reply)
        batch.writes.successes.append(row)
        facts.version += len(packed)


def outcome_row(job: LiveJob, number: int, outcome: Outcome, said: Said) -> OutcomeRow:
    """The row of an outcome, and of what the execution has printed."""
    printed = said.ends.get(number)
    stdout, stderr = (_SILENCE, _SILENCE) if printed is None else (printed.stdout, printed.stderr)
    return OutcomeRow(job.facts.key, number, dump_outcome(outcome), _dump(stdout), _dump(stderr), clean(said.host))


def _dump(output: Output) -> bytes:
    return _NO_OUTPUT if output == _SILENCE else encode_part(output)
