"""What each process on the path of a task costs: processor time, which other work on the machine hardly changes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import psutil

from benchmarks import ours, work
from benchmarks.case import EMBEDDED, RABBITMQ, SAFE, SAFE_EMBEDDED, Better, Case, Figure, Side
from benchmarks.measure import Measure, growing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.measure import Setting

PARTS: Final = ("client", "coordinator", "worker", "children", "broker")


def costs(setting: Setting) -> Measure:
    """A map, and the times of all processes before and after its last step."""
    before: dict[str, float] = {}
    with ours.cluster(setting) as (made, client):
        groups = dict(_groups(setting, ours.process(made, "coordinator"), ours.process(made, "worker")))

        def run(tasks: int) -> None:
            before.update({part: sum(map(_seconds, group)) for part, group in groups.items()}, client=time.process_time())
            assert sum(1 for _ in client.map(work.same, range(tasks))) == tasks

        tasks, _ = growing(setting, run)
        after = {part: sum(map(_seconds, group)) for part, group in groups.items()} | {"client": time.process_time()}
    figures = {part: (after[part] - before[part]) / tasks * 1e6 for part in after}
    return Measure(tasks, figures | {"all": sum(figures.values())})


def _groups(setting: Setting, coordinator: psutil.Process, worker: psutil.Process) -> Iterator[tuple[str, list[psutil.Process]]]:
    """Processes by what they are; the embedded broker is in those that use it."""
    yield "coordinator", [coordinator]
    yield "worker", [worker]
    yield "children", worker.children(recursive=True)
    if setting.url:
        port = urlsplit(setting.url).port
        listeners = {each.pid for each in psutil.net_connections("tcp4") if each.status == psutil.CONN_LISTEN and each.laddr.port == port}
        yield "broker", [psutil.Process(pid) for pid in listeners]


def _seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


CASE = Case(
    name="hops",
    title="processor time for one no-op of a map, by process",
    counted="microseconds of processor time a task, user and system, over the last step of a map",
    tasks=200_000,
    sides=(Side(RABBITMQ, costs, SAFE, rabbitmq=True), Side(EMBEDDED, costs, SAFE_EMBEDDED)),
    figures=(
        Figure("all", "µs/task, all processes", Better.lower),
        *(Figure(part, f"µs/task, {part}", Better.lower) for part in PARTS),
    ),
    once=True,
)
