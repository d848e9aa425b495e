"""Answers to questions, from rows and live jobs. Nothing changes here."""

from __future__ import annotations

import fnmatch
import re
from typing import TYPE_CHECKING, Final

from broker_jobs.coordinator.store.parts import clean, load_outcome
from broker_jobs.core.outcome import Canceled, Failed, Succeeded
from broker_jobs.core.resources import capacity
from broker_jobs.core.states import ENDED, JOB_ENDED, TaskState
from broker_jobs.ids import FEWEST_DIGITS, reference, short
from broker_jobs.wire.codec import decode_part
from broker_jobs.wire.messages import Changes, JobInfo, JobList, Output, Outputs, Refusal, Refused, Task, TaskInfo, TaskOutput, WorkInfo

if TYPE_CHECKING:
    from collections.abc import Sequence

    from broker_jobs.coordinator.live import LiveJob, Shared
    from broker_jobs.coordinator.store import JobFacts, Lookups, OptionsRow, OutcomeRow, TaskView
    from broker_jobs.coordinator.workers import Worker
    from broker_jobs.core.outcome import Outcome
    from broker_jobs.core.request import Request as ResourceNeed
    from broker_jobs.wire.messages import GetChanges, GetOutputs, ListJobs, ReadOutput

MOST_ANSWER_BYTES: Final = 4 * 1024 * 1024
"""An answer with values is cut after so many bytes."""

MOST_OUTPUTS: Final = 1000
"""Tasks whose output one answer tells."""
_AT_ONCE: Final = 50
"""Of so many the output is read together: each may be large."""
RUNS: Final = frozenset({TaskState.running, TaskState.canceling})
"""States of a task that is with a worker."""

_KEY_PREFIX: Final = "key:"
_CANDIDATES: Final = 10
_HEX: Final = re.compile(r"[0-9a-f]+")
_WHOLE: Final = 32
MOST_REQUESTS: Final = 20
"""A job at a glance shows no more different ones."""

NO_NUMBER: Final = 2**31
"""Tasks have smaller numbers; a database would choke on much larger ones."""
_OUTCOME_OF: Final[dict[TaskState, type[Outcome]]] = {
    TaskState.succeeded: Succeeded,
    TaskState.failed: Failed,
    TaskState.canceled: Canceled,
}
"""The outcome that belongs to a state; what a task that was stopped had before is not its outcome."""


def find(look: Lookups, text: str) -> JobFacts | Refused:
    """The job that is meant by ``last``, a whole id, the unique ending of one, or ``key:`` and an idempotency key."""
    wanted = text.strip()
    if wanted.startswith(_KEY_PREFIX):
        job_id = look.job_with_key(clean(wanted.removeprefix(_KEY_PREFIX)))
        return _known(look, job_id, f"no job has the idempotency key {wanted.removeprefix(_KEY_PREFIX)!r}")
    if wanted == "last":
        return _known(look, look.last_job(), "there is no job yet")
    digits = wanted.lower().replace("-", "")
    if not _HEX.fullmatch(digits) or not FEWEST_DIGITS <= len(digits) <= _WHOLE:
        return Refused(Refusal.invalid, f"{text[:100]!r} is no job: give 'last', a whole id, or at least its last {FEWEST_DIGITS} digits")
    if len(digits) == _WHOLE:
        return _known(look, digits, f"there is no job {digits}")
    found = look.ending(digits, _CANDIDATES + 1)
    if len(found) > 1:
        candidates = tuple(found[:_CANDIDATES])
        names = ", ".join(short(job_id) if len(digits) < len(short(job_id)) else job_id for job_id in candidates)
        return Refused(Refusal.ambiguous, f"several jobs end with {digits!r}: {names}; give more digits", candidates)
    return _known(look, found[0] if found else None, f"there is no job whose id ends with {digits!r}")


def _known(look: Lookups, job_id: str | None, otherwise: str) -> JobFacts | Refused:
    facts = look.job(job_id) if job_id is not None else None
    return facts if facts is not None else Refused(Refusal.job_not_found, otherwise)


def job_info(facts: JobFacts, notes: tuple[str, ...] = (), requests: tuple[ResourceNeed, ...] = ()) -> JobInfo:
    """A job at a glance."""
    known = sum(facts.counts.values())
    total = facts.total if facts.total is not None else facts.reserved
    return JobInfo(
        job=facts.id,
        name=facts.name,
        state=facts.state,
        version=facts.version,
        submitted_ms=facts.submitted_ms,
        counts={state.value: count for state, count in facts.counts.items() if count},
        total=total,
        tags=facts.tags,
        user=facts.user,
        ended_ms=facts.ended_ms,
        started_ms=facts.started_ms,
        reason=facts.void_reason or facts.cancel_reason or (facts.pause_reason if active(facts) else "") or "",
        incomplete=total is None or known < total,
        ephemeral=facts.ephemeral,
        notes=notes,
        open=facts.open,
        requests=requests,
        parent=facts.parent,
    )


def notes(job: LiveJob, workers: list[Worker]) -> tuple[str, ...]:
    """What a person should know of a job that has not ended: why it waits."""
    facts, counts = job.facts, job.machine.counts
    found: list[str] = []
    if facts.open:
        found.append(f"open: more tasks may be submitted; to close it: broker-jobs job close {reference(facts.id)}")
        if not job.whole:
            found.append(f"incomplete: {len(job.machine.tasks)} of {facts.reserved} submitted tasks have come")
    elif facts.total is None:
        found.append(f"incomplete: its submitter has not sent all of it yet ({len(job.machine.tasks)} tasks have come)")
    elif not job.machine.complete:
        found.append(f"incomplete: {len(job.machine.tasks)} of {facts.total} tasks have come")
    if counts[TaskState.queued]:
        found.extend(_queue_notes(job, workers))
    if counts[TaskState.paused]:
        found.append(f"{counts[TaskState.paused]} tasks are paused; let them go on: broker-jobs job resume {reference(facts.id)}")
    if counts[TaskState.waiting]:
        found.append(f"{counts[TaskState.waiting]} tasks wait for others")
    if counts[TaskState.retrying]:
        found.append(f"{counts[TaskState.retrying]} tasks failed and wait for their next attempt")
    return tuple(found)


def _queue_notes(job: LiveJob, workers: list[Worker]) -> list[str]:
    if not workers:
        return ["no worker is there: start one with: broker-jobs worker start"]
    queues = job.window.waiting_queues()
    classes = {shared.resource_class: shared.options.resources for shared in job.shared if shared.queue in queues}
    found = [
        f"no worker seen so far could meet the request {needs}"
        for needs in classes.values()
        if not capacity(needs, ((worker.group, worker.resources) for worker in workers))
    ]
    if job.window.waiting:
        found.append(f"{job.window.waiting} tasks are ready and follow as soon as others of the job are done")
    return found


def job_list(look: Lookups, question: ListJobs) -> JobList:
    """Jobs that fit, newest first."""
    wanted = set(question.tags)
    pattern = question.name

    def fits(facts: JobFacts) -> bool:
        before = question.ended_before_ms
        return (
            wanted <= set(facts.tags)
            and question.choice.takes(facts.tags, facts.submitted_ms)
            and (pattern is None or fnmatch.fnmatchcase(facts.name, pattern))
            and (not question.states or facts.state in question.states)
            and (before is None or (facts.ended_ms is not None and facts.ended_ms < before))
        )

    limit, skip = max(1, min(question.limit, 10_000)), max(0, question.skip)
    if question.parent is None:
        found = look.select_jobs(question.state, ephemeral=question.ephemeral, fits=fits, limit=skip + limit + 1)[skip:]
    else:
        below = [facts for facts in look.sub_jobs(question.parent) if question.state in {None, facts.state} and fits(facts)]
        found = below[skip : skip + limit + 1]
    return JobList(tuple(job_info(facts) for facts in found[:limit]), more=len(found) > limit)


def changes(look: Lookups, facts: JobFacts, live: LiveJob | None, question: GetChanges, workers: list[Worker]) -> Changes:
    """What changed in a job after a version."""
    limit = max(1, min(question.limit, 10_000))
    numbers = None if question.tasks is None else [number for number in question.tasks if number < NO_NUMBER]
    views = look.changes(facts.key, min(question.since, facts.version), limit + 1, numbers)
    more = len(views) > limit
    views = views[:limit]
    # Those in memory are the same, and need not be decoded.
    options: Sequence[OptionsRow | Shared] = look.options(facts.key) if live is None else live.shared
    ended = [view.number for view in views if TaskState(view.state) in ENDED]
    outcomes = look.outcomes(facts.key, ended) if question.values else {}
    tasks: list[TaskInfo] = []
    size = 0
    for view in views:
        data = outcomes.get(view.number)
        size += len(data or b"")
        if tasks and size > MOST_ANSWER_BYTES:
            more = True
            break
        tasks.append(_task_info(view, options[view.options], None if data is None else load_outcome(data), whole=question.options))
    upto = views[len(tasks) - 1].changed if more else facts.version
    info = job_info(facts, notes(live, workers) if live is not None else ())
    return Changes(info, upto, tuple(tasks), more)


def _task_info(view: TaskView, options: OptionsRow | Shared, outcome: Outcome | None, *, whole: bool) -> TaskInfo:
    state = TaskState(view.state)
    return TaskInfo(
        number=view.number,
        state=state,
        name=view.name,
        attempt=view.attempt,
        crashes=view.crashes,
        reason=view.reason,
        worker=view.worker,
        resource_class=options.resource_class,
        kind=view.kind,
        outcome=outcome if isinstance(outcome, _OUTCOME_OF.get(state, ())) else None,
        started_ms=view.started_ms,
        ended_ms=view.ended_ms if state in ENDED else None,
        progress=view.progress if state is TaskState.running else None,
        progress_text=view.progress_text if state is TaskState.running else "",
        options=options.options if whole else None,
    )


def requests(look: Lookups, facts: JobFacts) -> tuple[ResourceNeed, ...]:
    """The different resource requests of a job, the first ones."""
    found = dict.fromkeys(row.options.resources for row in look.options(facts.key))
    return tuple(found)[:MOST_REQUESTS]


def output(look: Lookups, facts: JobFacts, task: int) -> TaskOutput | Refused:
    """What a task printed, as far as the ledger has it."""
    view = look.task(facts.key, task) if is_number(task) else None
    if view is None:
        return Refused(Refusal.task_not_found, f"job {short(facts.id)} has no task {task}")
    return _task_output(view, look.outputs(facts.key, (task,)).get(task))


def _task_output(view: TaskView, row: OutcomeRow | None) -> TaskOutput:
    row = row if TaskState(view.state) in ENDED else None
    return TaskOutput(
        TaskState(view.state),
        Output() if row is None else decode_part(Output, row.stdout),
        Output() if row is None else decode_part(Output, row.stderr),
        "" if row is None else row.host,
        view.number,
        view.attempt,
        view.execution,
        view.worker,
    )


def work(look: Lookups, facts: JobFacts, task: int) -> WorkInfo | Refused:
    """What a task does."""
    found = look.specs(facts.key, [task]) if is_number(task) else {}
    if task not in found:
        return Refused(Refusal.task_not_found, f"job {short(facts.id)} has no task {task}")
    return WorkInfo(facts.id, task, decode_part(Task, found[task]).work)


def outputs(look: Lookups, facts: JobFacts, question: GetOutputs) -> Outputs:
    """What several tasks printed, until the answer is large enough."""
    found: list[TaskOutput] = []
    size = answered = 0
    for start in range(0, min(len(question.tasks), MOST_OUTPUTS), _AT_ONCE):
        part = question.tasks[start : start + _AT_ONCE]
        numbers = [task for task in part if is_number(task)]
        views, rows = look.views(facts.key, numbers), look.outputs(facts.key, numbers)
        for task in part:
            if task in views:
                answer = _task_output(views[task], rows.get(task))
                size += len(answer.stdout.tail) + len(answer.stderr.tail)
                if found and size > MOST_ANSWER_BYTES:
                    return Outputs(tuple(found), answered)
                found.append(answer)
            answered += 1
    return Outputs(tuple(found), answered)


def keeper(found: TaskOutput, question: ReadOutput, workers: list[Worker]) -> Worker | None:
    """The worker that has more of this stream than the ledger: the one where it runs or ran, else another one of that host."""
    if found.state in ENDED:
        stream = found.stderr if question.stderr else found.stdout
        start = question.start if question.execution == found.execution else 0
        if stream.path is None or (stream.size and start >= stream.size - len(stream.tail)):
            return None
    elif found.state not in RUNS:
        return None
    return next(
        (worker for worker in workers if worker.name == found.worker),
        next((worker for worker in workers if found.host and worker.host == found.host), None),
    )


def is_number(task: int) -> bool:
    """Whether a task may have this number."""
    return 0 <= task < NO_NUMBER


def active(facts: JobFacts) -> bool:
    """Whether a job has not ended."""
    return facts.state not in JOB_ENDED
