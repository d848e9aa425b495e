"""Which task starts first: by priority inside a job, by lane across jobs; with several workers, on both brokers."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from broker_jobs import Job, LocalCluster
from tests.support.daemons import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


NOTE = 'echo "$1" >> "$2"; sleep "$3"'


def note(name: str, path: str, seconds: float) -> None:
    """Write down that it has begun; functions and programs share the file."""
    import time

    with open(path, "a", encoding="utf-8") as file:  # noqa: PTH123
        file.write(f"{name}\n")
    time.sleep(seconds)


def begun(path: Path) -> list[str]:
    """The names in the file, in the order in which they came."""
    return path.read_text(encoding="utf-8").split()


@pytest.fixture(scope="module")
def one_core(url: str | None) -> Iterator[LocalCluster]:
    with LocalCluster(cpus=1, url=url) as found:
        yield found


def test_forty_shuffled_priorities_start_in_descending_order(one_core: LocalCluster, tmp_path: Path) -> None:
    path = tmp_path / "begun"
    priorities = list(range(-20, 20))
    random.Random(7).shuffle(priorities)
    job = Job()
    for position, priority in enumerate(priorities):
        if position % 2:
            job.function(note, args=(str(priority), str(path), 0.0), priority=priority)
        else:
            job.program(["sh", "-c", NOTE, "sh", str(priority), str(path), "0"], priority=priority)
    with one_core.client() as client:
        client.wait_for_jobs([client.submit(job)])
    assert begun(path) == [str(priority) for priority in sorted(priorities, reverse=True)]


def test_what_becomes_ready_late_overtakes_what_waits(one_core: LocalCluster, tmp_path: Path) -> None:
    path = tmp_path / "begun"

    def program(job: Job, name: str, **options: object) -> object:
        return job.program(["sh", "-c", NOTE, "sh", name, str(path), "0.3"], **options)  # type: ignore[arg-type]

    job = Job()
    root = program(job, "root", priority=5)
    for name, priority, deps in (("d", 0, []), ("c", 1, []), ("a", 3, [root]), ("b", 3, [root])):
        program(job, name, priority=priority, deps=deps)
    with one_core.client() as client:
        client.wait_for_jobs([client.submit(job)])
    assert begun(path) == ["root", "a", "b", "c", "d"]


def test_quick_tasks_with_priorities_are_sent_ahead_and_all_run(one_core: LocalCluster) -> None:
    job = Job()
    for priority in range(3):
        job.map(abs, range(-300, 0), priority=priority)
    with one_core.client() as client:
        submitted = client.submit(job)
        client.wait_for_jobs([submitted])
        assert len(submitted.results()) == 900


def test_a_task_that_waits_is_explained(one_core: LocalCluster) -> None:
    job = Job()
    first = job.program(["sleep", "30"], priority=1)
    busy = job.program(["true"])
    after = job.program(["true"], deps=[first])
    with one_core.client() as client:
        submitted = client.submit(job)
        until(lambda: submitted.explain(first).state == "running", "it runs")
        assert submitted.explain(first).reasons[0].startswith("it runs on ")
        assert submitted.explain(after).waits_for == (first.number,)
        found = submitted.explain(busy)
        assert found.reasons[0].startswith(("as many tasks of its job are out", "it has been in the queue"))
        assert [fit.variants[0].ever for fit in found.workers] == [True]
        submitted.cancel()
        client.wait_for_jobs([submitted], raise_on_error=False)
        assert submitted.explain(busy).reasons[0].startswith("it has ended: canceled")


@pytest.mark.long
def test_several_workers_start_the_most_urgent(url: str | None, tmp_path: Path) -> None:
    path = tmp_path / "begun"
    priorities = list(range(30))
    random.Random(8).shuffle(priorities)
    job = Job()
    gate = job.program(["true"], priority=100)
    for priority in priorities:
        job.program(["sh", "-c", NOTE, "sh", str(priority), str(path), "0.15"], priority=priority, deps=[gate])
    with LocalCluster(workers=3, cpus=1, url=url) as cluster, cluster.client() as client:
        client.wait_for_jobs([client.submit(job)])
    order = [int(name) for name in begun(path)]
    assert sorted(order) == list(range(30))
    for position, priority in enumerate(order):
        overtaken = sum(later > priority for later in order[position:])
        assert overtaken <= 3, f"at most what the others may start at the same moment: {order}"


def test_3_10_high_lane_starts_before_any_low_task_that_has_not_begun(url: str | None, tmp_path: Path) -> None:
    """Check 3.10: 1,000 tasks of the low lane, then 10 of the high one, on every RabbitMQ."""
    slots, path = 2, tmp_path / "begun"
    low, high = Job(lane="low"), Job(lane="high")
    low.map(note, ["low"] * 1000, [str(path)] * 1000, [0.4] * 1000)
    high.map(note, ["high"] * 10, [str(path)] * 10, [0.1] * 10)
    with LocalCluster(cpus=slots, url=url) as cluster, cluster.client() as client:
        behind = client.submit(low)
        until(lambda: path.exists() and len(begun(path)) >= 3 * slots, "the low ones run")
        urgent = client.submit(high)
        confirmed = len(begun(path))
        client.wait_for_jobs([urgent])
        behind.cancel()
    since = begun(path)[confirmed:]
    before_the_last = since[: len(since) - since[::-1].index("high")]
    assert before_the_last.count("high") == 10
    assert before_the_last.count("low") <= slots, before_the_last
