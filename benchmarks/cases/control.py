"""How long it takes to pause, resume and cancel a job of many queued tasks, and how fast a worker drops their messages.

No worker, so that everything stays queued. Each time is from the request to the state that another question then finds. The messages are
dropped by a worker's own reading and machine: signature, decoding, and the decision, one core.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from typing import TYPE_CHECKING, Final

from benchmarks import work
from benchmarks.case import EMBEDDED, RABBITMQ, SAFE, SAFE_EMBEDDED, Better, Case, Figure, Side
from benchmarks.measure import Measure, timed
from broker_jobs import Job, LocalCluster
from broker_jobs.broker.port import Delivery
from broker_jobs.core.deliveries import Tag
from broker_jobs.core.states import JobState
from broker_jobs.errors import CoordinatorUnavailable
from broker_jobs.wire.messages import Revocation, Revoked, Role
from broker_jobs.wire.signing import Signer, SigningKey
from broker_jobs.wire.topology import Topology
from broker_jobs_worker.intake import read_chunk
from broker_jobs_worker.machine.events import ChunkArrived
from tests.support import cast, worker_world

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.measure import Setting

CHUNK: Final = 100
DROPPED: Final = 100_000
SUBMIT_SECONDS: Final = 3600.0


def controlled(setting: Setting) -> Measure:
    """Pause, resume, cancel, one after the other."""
    with LocalCluster(workers=0, url=setting.url or None) as cluster, cluster.client() as client:
        job = Job(name="many")
        job.map(work.same, range(setting.tasks))
        submitted = client.submit(job, timeout=SUBMIT_SECONDS)
        recorded = 0
        while recorded < setting.tasks:
            # Questions stand behind the tasks until all of those are recorded.
            with contextlib.suppress(CoordinatorUnavailable):
                recorded = sum(submitted.info().counts.values())
            time.sleep(0.2)

        def until(act: Callable[[], object], state: JobState) -> float:
            def run() -> None:
                act()
                while JobState(submitted.info().state) is not state:
                    time.sleep(0.01)

            return timed(run)

        figures = {
            "pause": until(submitted.pause, JobState.paused),
            "resume": until(submitted.resume, JobState.waiting),
            "cancel": until(lambda: submitted.cancel("enough"), JobState.canceled),
        }
    return Measure(setting.tasks, figures | {"dropped": _dropped(min(setting.tasks, DROPPED))})


def _dropped(tasks: int) -> float:
    """Tasks of a canceled job that a worker drops in a second."""
    world = worker_world.World()
    world.connect()
    signer, names = Signer("bj", SigningKey.parse("ab" * 32)), Topology("bj")
    chunks = cast.job_chunks((cast.call(number) for number in range(tasks)), size=CHUNK)
    frames = [signer.seal(dataclasses.replace(chunk, header=None, seal=None), Role.coordinator) for chunk in chunks]
    queue = names.class_name(chunks[0].resource_class, chunks[0].lane)
    machine = world.machine
    machine.handle(Revoked((Revocation(chunks[0].job, reason="enough"),)), 0.0)

    def drop() -> None:
        for tag, frame in enumerate(frames, 1):
            delivery = Delivery(queue, "", "", frame, Tag(machine.generation, tag))
            machine.handle(ChunkArrived(delivery, read_chunk(frame, queue, signer, names)), 0.0)

    return tasks / timed(drop)


CASE = Case(
    name="control",
    title="pause, resume and cancel a job of 100,000 queued tasks",
    counted="seconds from the request to the state that another question finds; tasks of a canceled job that a worker drops in a second",
    tasks=100_000,
    sides=(Side(RABBITMQ, controlled, SAFE, rabbitmq=True), Side(EMBEDDED, controlled, SAFE_EMBEDDED)),
    figures=(
        Figure("pause", "s pause", Better.lower, 2),
        Figure("resume", "s resume", Better.lower, 2),
        Figure("cancel", "s cancel", Better.lower, 2),
        Figure("dropped", "tasks/s dropped"),
    ),
    once=True,
)
