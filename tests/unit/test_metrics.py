"""Names and labels of the numbers, and how events become numbers."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram, generate_latest

from broker_jobs import metrics as module
from broker_jobs.core.outcome import Crashed, Succeeded
from broker_jobs.core.quantities import UNIT
from broker_jobs.core.resources import Resources
from broker_jobs.errors import ValidationError
from broker_jobs.metrics import CoordinatorMetrics, Durations, WorkerMetrics, parse_port
from broker_jobs_worker.machine.events import Connected, Disconnected, DrainRequested
from broker_jobs_worker.observer import Observer
from tests.support.worker_world import ONE_CPU, TOTAL, World, make_chunk, resource_class

NAMES = re.compile(r"^# TYPE (broker_jobs_\w+) (\w+)$", re.MULTILINE)
ONE = resource_class(ONE_CPU).name


def shown(metrics: WorkerMetrics | CoordinatorMetrics) -> str:
    return generate_latest(metrics.registry).decode()


def test_every_number_is_in_the_table_of_the_docstring() -> None:
    documented = set(re.findall(r"``(broker_jobs_\w+)``", module.__doc__ or ""))
    served = {
        name for name, kind in NAMES.findall(shown(WorkerMetrics(TOTAL)) + shown(CoordinatorMetrics(0))) if not name.endswith("_created")
    }
    assert served == documented


@given(st.lists(st.lists(st.integers(0, 200_000) | st.sampled_from([1, 3, 10, 86_400_000, 86_400_001]))))
def test_durations_are_shown_as_the_library_shows_them(batches: list[list[int]]) -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    durations = Durations("taken_seconds", "What it took.", ours)
    histogram = Histogram("taken_seconds", "What it took.", ("class",), registry=theirs, buckets=module._SECONDS)  # noqa: SLF001
    for batch in batches:
        durations.observe("small", batch)
        child = histogram.labels("small")
        for milliseconds in batch:
            child.observe(milliseconds / 1000)

    def samples(registry: CollectorRegistry) -> dict[tuple[str, str | None], object]:
        found = [sample for family in registry.collect() for sample in family.samples if not sample.name.endswith("_created")]
        return {(sample.name, sample.labels.get("le")): pytest.approx(sample.value) for sample in found}

    assert samples(ours) == samples(theirs)
    assert generate_latest(ours).splitlines()[:2] == generate_latest(theirs).splitlines()[:2]


def test_a_task_is_counted_once_even_when_its_reply_goes_out_twice() -> None:
    world, metrics = World(), WorkerMetrics(TOTAL)
    observer = Observer(metrics)
    world.begin(ONE_CPU)
    for event in (Connected(1), Disconnected("cut"), Connected(2)):
        observer.observe(event, ())
    tick = DrainRequested()
    observer.observe(tick, world.arrive(make_chunk(0)))
    observer.observe(tick, world.end("boot-1", Succeeded()))
    world.fail(next(iter(world.published)))
    observer.observe(tick, world.pass_time(1))
    observer.observe(tick, world.arrive(make_chunk(1)))
    observer.observe(tick, world.end("boot-2", Crashed("gone")))
    observer.observe(tick, world.arrive(make_chunk(2), redelivered=True))
    text = shown(metrics)
    assert f'broker_jobs_tasks_total{{class="{ONE}",outcome="succeeded"}} 1.0' in text
    assert f'broker_jobs_tasks_total{{class="{ONE}",outcome="crashed"}} 1.0' in text
    assert f'broker_jobs_crashes_total{{class="{ONE}"}} 1.0' in text
    assert f'broker_jobs_task_run_seconds_count{{class="{ONE}"}} 2.0' in text
    assert f'broker_jobs_task_wait_seconds_count{{class="{ONE}"}} 2.0' in text
    assert 'broker_jobs_returned_tasks_total{reason="redelivered"} 1.0' in text
    assert "broker_jobs_reconnects_total 1.0" in text
    assert "broker_jobs_connected 1.0" in text


def test_resources_are_shown_as_people_write_them() -> None:
    metrics = WorkerMetrics(Resources((("cpus", 4 * UNIT), ("memory", 1 << 30))))
    metrics.resources(Resources((("cpus", UNIT // 2),)))
    text = shown(metrics)
    assert 'broker_jobs_resource_total{resource="cpus"} 4.0' in text
    assert 'broker_jobs_resource_free{resource="cpus"} 0.5' in text
    assert 'broker_jobs_resource_used{resource="cpus"} 3.5' in text
    assert 'broker_jobs_resource_used{resource="memory"} 1.073741824e+09' in text


@pytest.mark.parametrize(("text", "port"), [("0", 0), ("9464", 9464), ("auto", "auto")])
def test_ports_of_the_command_line(text: str, port: object) -> None:
    assert parse_port(text) == port


@pytest.mark.parametrize("text", ["", "65536", "-1", "http", "9464.0", "808²", "٨٠٨٠", "9" * 5000])
def test_what_is_no_port_is_refused(text: str) -> None:
    with pytest.raises(ValidationError, match="auto"):
        parse_port(text)
