"""The independent checker: it believes neither submitters nor workers, and asks each partition of the ledger by a client of its own."""

from __future__ import annotations

import json
import subprocess
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from broker_jobs import Client
from broker_jobs.core.states import JOB_ENDED
from tests.support.daemons import until
from tests.system.chaos.faults import Role, Target, partition_for
from tests.system.chaos.journal import Journal, What
from tests.system.chaos.plans import Plan, plan, submitter_of
from tests.system.chaos.submitter import differences

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from broker_jobs import SubmittedJob
    from tests.system.chaos.deployment import Deployment
    from tests.system.chaos.recovery import Witness

PATIENCE: Final = 60.0
LEASE: Final = "bj.v2.lease."
"""Of queues that hold the tokens of workers, as long as these are up."""
_TOLD: Final = 20
"""Faults of each sort that are told of."""


@dataclass(slots=True)
class Verdict:
    """What was found.

    Attributes:
        wrong: what must not be; empty is well
        jobs: of those that submitters wanted, how many were confirmed, unknown and so on
        partitions: how many were confirmed in each partition
        outcomes: recorded outcomes of confirmed jobs
        runs: how often tasks have run to their end
        attempts: …and by attempts, which tells how many were lost
    """

    wrong: list[str] = field(default_factory=list)
    jobs: Counter[str] = field(default_factory=Counter)
    partitions: Counter[int] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    runs: int = 0
    attempts: Counter[int] = field(default_factory=Counter)


def check_jobs(deployment: Deployment, seed: int, seconds: float) -> Verdict:
    """Compare what submitters were told, what tasks have left and what the ledger says with what was planned."""
    verdict = Verdict()
    effects = _effects(deployment.folder)
    verdict.runs = sum(effects.values())
    for partition in range(deployment.partitions):
        with Client(deployment.straight(), signing_key=deployment.key, partition=partition) as client:
            known = {job.name: job for job in client.jobs(limit=None)}
            so_far = verdict.jobs["confirmed"]
            for submitter in range(deployment.crowd[Role.submitter]):
                if partition_for(submitter, deployment.partitions) == partition:
                    _check_submitter(Journal.of(deployment.folder, submitter), submitter, seed, seconds, known, effects, verdict)
            verdict.partitions[partition] = verdict.jobs["confirmed"] - so_far
            left = list(known)[:_TOLD]
            verdict.wrong += [f"no submitter of partition {partition} has submitted {name}, which is in its ledger" for name in left]
    return verdict


def _check_submitter(
    journal: Journal,
    submitter: int,
    seed: int,
    seconds: float,
    known: dict[str, SubmittedJob],
    effects: Counter[tuple[str, int]],
    verdict: Verdict,
) -> None:
    confirmed, told = journal.last(What.confirmed), journal.last(What.told)
    ids = Counter((line.key, line.text) for line in journal.lines if line.what in {What.confirmed, What.told})
    if len(ids) != len({key for key, _ in ids}):
        verdict.wrong.append(f"a job of submitter {submitter} has several ids: {sorted(ids)}")
    verdict.wrong += [f"submitter {submitter} was told: {text}" for line in journal.lines for text in line.wrong]
    for key, line in journal.last(What.intended).items():
        found = plan(seed, submitter, line.ordinal, seconds)
        job = known.pop(key, None)
        if key in confirmed:
            verdict.jobs["confirmed"] += 1
            if job is None or job.id != confirmed[key].text:
                verdict.wrong.append(f"{key} was confirmed and is not in the ledger")
                continue
            if key not in told:
                verdict.wrong.append(f"{key} was confirmed, and its submitter never heard of its end")
        elif job is None:
            verdict.jobs["void"] += 1
            continue
        elif job.info().incomplete:
            verdict.jobs["incomplete"] += 1
            job.cancel("nobody will ever complete it")
            continue
        else:
            verdict.jobs["unknown, and there"] += 1
        _check_job(found, job, effects, verdict)


def _check_job(found: Plan, job: SubmittedJob, effects: Counter[tuple[str, int]], verdict: Verdict) -> None:
    deadline = time.monotonic() + PATIENCE
    while job.state not in JOB_ENDED and time.monotonic() < deadline:
        time.sleep(0.2)
    if job.state not in JOB_ENDED:
        verdict.wrong.append(f"{found.key} ({job.id}) has not ended: {job.info()}")
        return
    verdict.wrong += differences(found, job)
    counts = job.info().counts
    verdict.outcomes.update(counts)
    if sum(counts.values()) != len(found.parents):
        verdict.wrong.append(f"the ledger counts {counts} tasks of {found.key}, which has {len(found.parents)}")
    for task in job.tasks():
        verdict.attempts[task.attempt] += 1
        if not effects[found.key, task.number]:
            verdict.wrong.append(f"task {task.number} of {found.key} is {task.state.value} and has never run to its end")


def _effects(folder: Path) -> Counter[tuple[str, int]]:
    """How often each task has run to its end, by what they have left."""
    return Counter((line["key"], line["number"]) for line in _lines(folder))


def _lines(folder: Path) -> list[dict[str, object]]:
    found = []
    for path in folder.glob("effects-*.jsonl"):
        for text in path.read_bytes().splitlines():
            try:
                found.append(json.loads(text))
            except ValueError:
                continue  # its process was killed while it wrote
    return found


def proofs(folder: Path, partitions: int) -> dict[Witness, list[float]]:
    """When work was begun that was finished: by each worker, by each submitter, and such that needed all of a partition."""
    found: dict[Witness, list[float]] = {partition: [] for partition in range(partitions)}
    for line in _lines(folder):
        begun, worker = float(str(line["begun"])), str(line["worker"])
        found.setdefault(Target(Role.worker, int(worker.rpartition("-")[2])), []).append(begun)
        if line["layer"]:  # it was released by a coordinator
            found[partition_for(submitter_of(str(line["key"])), partitions)].append(begun)
    for path in folder.glob("journal-*.jsonl"):
        lines = Journal(path).lines
        number = int(path.stem.rpartition("-")[2])
        found[Target(Role.submitter, number)] = [line.at for line in lines if line.what in {What.confirmed, What.told}]
    return found


def check_queues(deployment: Deployment) -> list[str]:
    """Queues with messages in them, once there has been time to work them off; called while workers and a coordinator are up."""
    return _until_empty(
        deployment,
        lambda queues: [f"{name} has {count} messages" for name, count in queues.items() if count and not name.startswith(LEASE)],
    )


def check_leftovers(deployment: Deployment) -> list[str]:
    """What is left when everything has ended in order: queues of processes, messages, processes, and an outbox that is not empty."""
    keepers = [f"bj.ledger.{partition}.keeper" for partition in range(deployment.partitions)]
    lasting = ("bj.v2.ledger.", "bj.v2.task.", "bj.v2.dead", *keepers)
    wrong = _until_empty(
        deployment,
        lambda queues: [f"queue {name} is left, with {n}" for name, n in queues.items() if n or not name.startswith(lasting)],
    )
    try:
        until(lambda: not deployment.daemons.alive(), "no process of the deployment is left", 15)
    except AssertionError as error:
        wrong.append(f"{error}: {deployment.daemons.alive()}")
    for partition in range(deployment.partitions):
        wrong += [f"{text} (partition {partition})" for text in _check_ledger(deployment, partition)]
    return wrong


def _check_ledger(deployment: Deployment, partition: int) -> list[str]:
    """What the ledger of a partition should not have in the end."""
    wrong = []
    [(left,)] = deployment.ground.rows(partition, "SELECT count(*) FROM outbox")
    if left:
        wrong.append(f"{left} messages are left in the outbox")
    ended = ", ".join(f"'{state.value}'" for state in JOB_ENDED)
    rows = deployment.ground.rows(partition, f"SELECT name, state FROM jobs WHERE state NOT IN ({ended})")
    wrong += [f"job {name} is {state} for ever" for name, state in rows]
    words = ("ledger", "verify", "--partition", str(partition), "--store", deployment.ground.url(partition))
    verified = deployment.daemons.run(*words, timeout=120)
    if verified.returncode:
        wrong.append(f"ledger verify: {verified.stdout}{verified.stderr}")
    return wrong


def _until_empty(deployment: Deployment, complain: Callable[[dict[str, int]], list[str]]) -> list[str]:
    """Ask until there is nothing to complain of, or it is too late: numbers of a broker are a little old."""
    deadline = time.monotonic() + 30
    while True:
        try:
            text = deployment.cluster.nodes[0].ctl("list_queues", "-p", deployment.vhost, "--formatter", "json", "name", "messages")
        except subprocess.TimeoutExpired as error:
            complaints = [str(error)]
        else:
            complaints = complain({queue["name"]: queue["messages"] for queue in json.loads(text)})
        if not complaints or time.monotonic() > deadline:
            return complaints
        time.sleep(0.5)


def shapes(verdict: Verdict) -> str:
    """The jobs of a verdict in words."""
    return ", ".join(f"{count} {name}" for name, count in sorted(verdict.jobs.items()))
