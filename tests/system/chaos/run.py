"""One run of the chaos suite: a deployment, a schedule, and what has come of it."""

from __future__ import annotations

import json
import math
import time
from collections import Counter
from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING, Final

from tests.system.chaos import checking
from tests.system.chaos.deployment import Deployment, Ending
from tests.system.chaos.faults import Pace, Role, can_be, schedule
from tests.system.chaos.performing import Done, impossible, perform
from tests.system.chaos.recovery import Recovery, recoveries

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.rabbitmq import RabbitMQCluster
    from tests.system.chaos.ground import Ground

RECOVERED: Final = 30.0
"""Seconds after a fault in which its victim has to be at work again."""
_CPUS: Final = 8
"""Of all workers together."""
_LOAD: Final = 0.4
"""How busy they are, about: faults take time, too."""
_FINISH: Final = 60.0
_END: Final = 45.0
_LOOK: Final = 0.5


@dataclass(slots=True)
class Report:
    """What has come of a run.

    Attributes:
        wrong: what must not be; empty is well
        seconds: how long faults were done
    """

    seed: int
    seconds: float
    faults: list[Done] = field(default_factory=list)
    recoveries: list[Recovery] = field(default_factory=list)
    verdict: checking.Verdict = field(default_factory=checking.Verdict)
    endings: list[Ending] = field(default_factory=list)
    impossible: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def text(self) -> str:
        """For people."""
        kinds = Counter(f"{each.fault.kind} {each.fault.target.role}" for each in self.faults)
        times = sorted(each.seconds for each in self.recoveries if each.seconds is not None)
        lines = [
            f"seed {self.seed}: {len(self.faults)} faults in {self.seconds:.0f} s",
            *(f"  {count:4} {kind}" for kind, count in sorted(kinds.items())),
            f"not possible here: {', '.join(self.impossible) or 'nothing'}",
            f"jobs: {checking.shapes(self.verdict)}; confirmed by partitions: {dict(self.verdict.partitions)}",
            f"outcomes: {dict(self.verdict.outcomes)}; runs to an end: {self.verdict.runs}; attempts: {dict(self.verdict.attempts)}",
            f"ended by themselves: {dict(Counter(f'{ending.name} ({ending.code})' for ending in self.endings))}",
        ]
        if times:
            late = times[math.ceil(len(times) * 0.95) - 1]
            lines.append(f"at work again after: median {median(times):.1f} s, 95 % {late:.1f} s, most {times[-1]:.1f} s")
            slow = sorted((each for each in self.recoveries if each.seconds), key=lambda each: -(each.seconds or 0))[:5]
            lines += [
                f"  {each.seconds:5.1f} s after {each.done.fault}, {each.undisturbed or 0:.1f} s after the last of others" for each in slow
            ]
        lines += [f"WRONG: {text}" for text in self.wrong] or ["nothing is wrong"]
        return "\n".join(lines)

    def data(self) -> str:
        """For programs, as JSON."""
        faults = [
            {
                "fault": str(each.done.fault),
                "seconds": each.done.ended - each.done.begun,
                "recovered": each.seconds,
                "undisturbed": each.undisturbed,
            }
            for each in self.recoveries
        ]
        content = {
            "seed": self.seed,
            "seconds": self.seconds,
            "faults": faults,
            "jobs": self.verdict.jobs,
            "partitions": self.verdict.partitions,
            "outcomes": self.verdict.outcomes,
            "runs": self.verdict.runs,
            "impossible": self.impossible,
            "endings": [[ending.name, ending.code] for ending in self.endings],
            "wrong": self.wrong,
        }
        return json.dumps(content, indent=1)


def run(
    folder: Path,
    cluster: RabbitMQCluster,
    ground: Ground,
    *,
    seed: int,
    seconds: float,
    tasks: int,
    pace: Pace,
    partitions: int = 1,
    say: Callable[[str], None] = print,
) -> Report:
    """Do the faults of a seed to a new deployment on this cluster.

    Args:
        seconds: how long faults are done
        tasks: how many are asked for, at least
        partitions: how many the ledger has; each has submitters enough to be at work while faults are done to them
    """
    submitters = max(3, 2 * partitions)
    each = min(2.0, max(0.05, _CPUS * _LOAD * seconds / tasks))
    report = Report(seed, seconds)
    share = math.ceil(tasks / submitters)
    with Deployment(
        folder, cluster, ground, seed=seed, seconds=each, tasks=share, partitions=partitions, submitters=submitters
    ) as deployment:
        missing = impossible(deployment)
        faults = schedule(seed, seconds, deployment.crowd, pace, missing)
        report.impossible = sorted(f"{kind} {role}" for kind, role in missing if can_be(kind, role))
        say(f"{len(faults)} faults; a task takes {each:.2f} s; logs in {folder}")
        report.faults = perform(deployment, faults, say)
        report.wrong += [f"{done.fault} could not be done: {done.trouble}" for done in report.faults if done.trouble]
        _await_recovery(deployment, report)
        say("the faults are over; the submitters come to an end")
        late = deployment.finish_submitters(_FINISH)
        report.wrong += [f"{target} has not come to an end, {_FINISH:g} s after it was last told of a job" for target in late]
        report.verdict = checking.check_jobs(deployment, seed, each)
        report.wrong += report.verdict.wrong
        report.wrong += checking.check_queues(deployment)
        report.wrong += deployment.finish(Role.worker, _END)
        report.wrong += deployment.finish(Role.coordinator, _END)
        report.wrong += checking.check_leftovers(deployment)
        report.recoveries = _recoveries(deployment, report)
        report.endings = deployment.endings
    report.wrong += _too_slow(report)
    return report


def _await_recovery(deployment: Deployment, report: Report) -> None:
    """Go on with the load until everybody is seen at work again, or it is too late."""
    deadline = time.monotonic() + RECOVERED
    while time.monotonic() < deadline:
        if all(each.seconds is not None for each in _recoveries(deployment, report)):
            return
        time.sleep(_LOOK)


def _recoveries(deployment: Deployment, report: Report) -> list[Recovery]:
    return recoveries(report.faults, checking.proofs(deployment.folder, deployment.partitions), deployment.partitions)


def _too_slow(report: Report) -> list[str]:
    found = []
    for each in report.recoveries:
        if each.seconds is None:
            found.append(f"nothing was seen of {each.done.fault.target} after {each.done.fault} for {RECOVERED:g} s")
        elif each.seconds > RECOVERED and (each.undisturbed is None or each.undisturbed > RECOVERED):
            found.append(f"{each.done.fault.target} was at work again {each.seconds:.1f} s after {each.done.fault}")
    return found
