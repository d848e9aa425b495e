"""Many programs that end at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from benchmarks import ours
from benchmarks.bare import spawn
from benchmarks.case import EMBEDDED, RABBITMQ, RATE, SAFE, SAFE_EMBEDDED, Bound, Case, Side, Target
from benchmarks.measure import rate
from benchmarks.peers import settings
from broker_jobs import Job

if TYPE_CHECKING:
    from benchmarks.measure import Measure, Setting

BARE: Final = "bare posix_spawn, two processes"


def programs(setting: Setting) -> Measure:
    """A job of programs; the output of each is kept, as always."""
    with ours.cluster(setting) as (_, client):

        def run(tasks: int) -> None:
            job = Job()
            for _ in range(tasks):
                job.program(["/bin/true"])
            assert client.wait_for_jobs([client.submit(job)], progress=False)

        return rate(setting, run)


CASE = Case(
    name="programs",
    title="5,000 × /bin/true, 2 processors",
    counted="programs a second from the submission to the end of the job",
    tasks=5000,
    sides=(
        Side(RABBITMQ, programs, SAFE + "; standard output and error of each kept", rabbitmq=True),
        Side(EMBEDDED, programs, SAFE_EMBEDDED + "; standard output and error of each kept"),
        Side(BARE, spawn.programs, "none: start, wait, exit code"),
        settings.hyperqueue("programs"),
        settings.xqute("programs"),
    ),
    figures=(RATE,),
    targets=(
        Target(RABBITMQ, "rate", Bound.least, 4, other=(settings.HYPERQUEUE, "rate")),
        Target(RABBITMQ, "rate", Bound.least, 0.75, other=(BARE, "rate")),
    ),
)
