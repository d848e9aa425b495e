"""Why a task is where it is: what it waits for, and what each worker lacks for it; pure but for the rows of one task."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from broker_jobs.coordinator.queries import NO_NUMBER
from broker_jobs.coordinator.teams import Place
from broker_jobs.coordinator.window import WINDOW
from broker_jobs.coordinator.workers import PRESENT, WorkerState
from broker_jobs.core.request import Request
from broker_jobs.core.resources import Pool
from broker_jobs.core.states import TaskState
from broker_jobs.ids import reference, short
from broker_jobs.wire.messages import Explanation, Refusal, Refused, Shortage, VariantFit, WorkerFit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from broker_jobs.coordinator.live import LiveJob
    from broker_jobs.coordinator.store import JobFacts, Lookups
    from broker_jobs.coordinator.teams import Teams
    from broker_jobs.coordinator.workers import Worker
    from broker_jobs.core.request import Variant
    from broker_jobs.core.resources import Resources

ONLY: Final = "only "
"""What stands before a feature that a worker demands of all its tasks."""
LIFETIME: Final = "lifetime"
"""What a worker is short of that ends too soon; in milliseconds."""

MOST_TOLD: Final = 20
"""Tasks that are waited for, told one by one."""


@dataclass(frozen=True, slots=True)
class _Fleet:
    """What all workers have for a task, now."""

    fits: tuple[WorkerFit, ...]
    teams: Teams
    now_ms: int


def explain(look: Lookups, facts: JobFacts, job: LiveJob | None, number: int, teams: Teams, *, now_ms: int) -> Explanation | Refused:
    """Why a task has not started, or where it is.

    Args:
        job: where it has not ended
        teams: of all workers that are known
    """
    view = look.task(facts.key, number) if number < NO_NUMBER else None
    if view is None:
        return Refused(Refusal.task_not_found, f"job {short(facts.id)} has no task {number}")
    state = TaskState(view.state)
    if job is None or number not in job.tasks:
        return Explanation(state, (f"it has ended: {state.value}" + (f" ({view.reason})" if view.reason else ""),))
    options = job.shared[job.tasks[number].options].options
    attempt = (facts.id, number, job.machine.tasks.seen(number).attempt)
    there = sorted((worker for worker in teams.workers.values() if worker.state in PRESENT), key=lambda worker: worker.name)
    fits = tuple(
        WorkerFit(
            worker.name,
            worker.state.value,
            tuple(fit(worker, variant, now_ms) for variant in options.resources.alternatives),
            worker.group,
            holds=attempt in worker.held,
        )
        for worker in there
    )
    waits_for, reasons = _reasons(job, number, state, _Fleet(fits, teams, now_ms))
    return Explanation(state, tuple(reasons), tuple(waits_for), job.tasks[number].due_ms, str(options.resources), fits)


def fit(worker: Worker, variant: Variant, now_ms: int) -> VariantFit:
    """What a worker lacks for a variant, now or for ever."""
    lacking = [
        Shortage(need.name, need.amount, has, free)
        for need in variant.needs
        for has, free in [(_most(worker.resources, need.name), _most(worker.free, need.name))]
        if free < (need.amount or max(has, 1))
    ]
    lacking += [Shortage(feature, 1, 0, 0) for feature in variant.features if feature not in worker.resources.features]
    if worker.resources.demands and worker.resources.demands not in variant.features:
        lacking.append(Shortage(f"{ONLY}{worker.resources.demands}", 1, 0, 0))
    ever = Pool(worker.resources).could_ever_fit(Request.of((variant,)))
    if variant.min_time and worker.ends_ms is not None and worker.ends_ms - now_ms < variant.min_time:
        left, ever = max(0, worker.ends_ms - now_ms), False
        lacking.append(Shortage(LIFETIME, variant.min_time, left, left))
    return VariantFit(ever, ever and not lacking and not (variant.nodes and worker.held), tuple(lacking))


def _most(resources: Resources, name: str) -> int:
    """How much there is of a resource, of the kind of which there is most."""
    return max((amount for each, amount in resources.amounts if each == name or each.startswith(f"{name}/")), default=0)


def _reasons(job: LiveJob, number: int, state: TaskState, fleet: _Fleet) -> tuple[list[int], list[str]]:
    record, task = job.machine.tasks.seen(number), job.tasks[number]
    match state:
        case TaskState.waiting:
            return _waiting(job, number)
        case TaskState.paused:
            return [], [
                f"it is paused: {record.reason}" if record.reason else "it is paused",
                f"broker-jobs job resume {reference(job.facts.id)}",
            ]
        case TaskState.retrying:
            seconds = max(0, (task.due_ms or fleet.now_ms) - fleet.now_ms) / 1000
            return [], [f"attempt {record.attempt} failed, and the next one is due in {seconds:.1f} s: {record.reason}"]
        case TaskState.queued:
            return [], _queued(job, number, fleet)
        case TaskState.running:
            return [], [f"it runs on {task.worker}"]
        case TaskState.canceling:
            return [], [f"it was canceled, and {task.worker or 'its worker'} has been told to end it"]
        case _:
            return [], [f"it has ended: {state.value}"]


def _waiting(job: LiveJob, number: int) -> tuple[list[int], list[str]]:
    """What is waited for, and in which state that is."""
    record, tasks = job.machine.tasks.seen(number), job.machine.tasks
    left = [each for each in dict.fromkeys((*record.deps, *record.after)) if not ((found := tasks.get(each)) and found.ended)]
    reasons = []
    for each in left[:MOST_TOLD]:
        end = "success" if each in record.deps else "end"
        found = tasks.get(each)
        reasons.append(f"it waits for the {end} of task {each}, which is {found.state.value if found else 'not here yet'}")
    if left[MOST_TOLD:]:
        reasons.append(f"it waits for {len(left) - MOST_TOLD} tasks more")
    reasons.extend(f"it waits for {name}, a task of another job" for name in sorted(record.outside))
    return left, reasons or ["it is about to be released"]


def _queued(job: LiveJob, number: int, fleet: _Fleet) -> list[str]:
    task = job.tasks[number]
    shared = job.shared[task.options]
    holders = [each.worker for each in fleet.fits if each.holds]
    if holders:
        return [f"{holders[0]} has it, and it starts there when resources are free"]
    reasons = []
    if task.chunk is None:
        group = job.group(number)
        before = job.window.more_urgent(group, number)
        if job.ordered and before:
            reasons.append(f"{before} tasks of its job that are more urgent come first (its priority is {group.priority})")
        elif job.ordered:
            reasons.append("as many tasks of its job are out as all workers can run at once; it is the next")
        else:
            reasons.append(f"{WINDOW} chunks of its job are in the queue of its resource class, and {before} tasks come before it")
    else:
        seconds = max(0, fleet.now_ms - task.ready_ms) / 1000
        since = f" for {seconds:.0f} s" if task.ready_ms else ""
        reasons.append(f"it has been in the queue of {shared.resource_class}, lane {shared.options.lane.value}{since}")
    if shared.options.resources.nodes:
        return [*reasons, *_of_teams(fleet, Place(shared.resource_class, shared.options.lane), shared.options.resources)]
    return [*reasons, *_of_workers(fleet.fits)]


def _of_teams(fleet: _Fleet, place: Place, request: Request) -> list[str]:
    """How far it is with the workers of a task of several nodes."""
    able = fleet.teams.able(request, fleet.now_ms)
    most = max(map(len, able.values()), default=0)
    if most < request.nodes:
        return [f"it needs {request.nodes} workers of one group that have what it asks for, and there are {most}"]
    reasons = []
    for formation in fleet.teams.at(place):
        names = [member.worker for member in formation.members]
        busy = [member.worker for member in formation.members if not formation.is_ready(member)]
        if busy:
            reasons.append(f"{', '.join(names)} shall run a task of this class together; {', '.join(busy)} must finish other work first")
        else:
            reasons.append(f"{', '.join(names)} are about to run a task of this class together")
    return reasons or [f"of the workers that could run it, {request.nodes} of one group are not free at once yet"]


def _of_workers(fits: Sequence[WorkerFit]) -> list[str]:
    if not fits:
        return ["no worker is there: start one with: broker-jobs worker start"]
    able = [each for each in fits if any(variant.ever for variant in each.variants)]
    if not able:
        return ["no worker that is there could ever run it"]
    active = [each for each in able if each.state == WorkerState.active.value]
    if not active:
        return ["the workers that could run it are ending, and take nothing more"]
    free = [each for each in active if any(variant.now for variant in each.variants)]
    if free:
        return [f"{free[0].worker} had room for it when it was last heard"]
    return [f"the workers that could run it are busy: {len(active)}"]
