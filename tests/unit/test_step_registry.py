"""What the ledger knows of steps: what was announced last, who serves it, and lists that fit into an answer."""

from __future__ import annotations

from dataclasses import replace

from broker_jobs.coordinator.registry import MOST_ANSWER, Announced, Registry
from broker_jobs.coordinator.workers import Worker, WorkerState
from broker_jobs.core.step import StepSpec
from broker_jobs.core.versions import Version
from broker_jobs.wire.messages import ListSteps

OLD = StepSpec("simulate", Version(1, 2, 0), "Simulate", "at length", ("physics",), None, '{"a": 1}', '{"b": 2}')
NEW = replace(OLD, version=Version(1, 10, 0), tags=("physics", "nightly"))
OTHER = StepSpec("tidy", Version(1, 0, 0))


def worker(name: str, *specs: StepSpec) -> Worker:
    return Worker(name, "boot", WorkerState.active, 0.0, 0, steps=frozenset((spec.name, spec.version) for spec in specs))


def shown(registry: Registry, question: ListSteps = ListSteps(), *workers: Worker) -> list[str]:  # noqa: B008 (frozen)
    return [f"{step.spec} {','.join(step.workers)}".strip() for step in registry.list(question, workers).steps]


def test_what_is_announced_again_is_no_news() -> None:
    registry = Registry()
    assert registry.announce([OLD, OTHER], 1000) == [Announced(OLD, 1000), Announced(OTHER, 1000)]
    assert registry.announce([OLD, OTHER], 2000) == []
    assert {step.announced_ms for step in registry.list(ListSteps(), []).steps} == {1000}


def test_the_latest_word_counts() -> None:
    registry = Registry([Announced(OLD, 1000)])
    changed = replace(OLD, title="Other")
    assert registry.announce([changed], 2000) == [Announced(changed, 2000)]
    [step] = registry.list(ListSteps(), []).steps
    assert (step.spec.title, step.announced_ms) == ("Other", 2000)


def test_steps_are_listed_by_name_the_latest_version_first_with_who_serves_them() -> None:
    registry = Registry([Announced(spec, 0) for spec in (OTHER, OLD, NEW)])
    there = [worker("b", OLD, OTHER), worker("a", OLD)]
    assert shown(registry, ListSteps(), *there) == ["simulate 1.10.0", "simulate 1.2.0 a,b", "tidy 1.0.0 b"]


def test_a_list_is_of_a_pattern_and_of_tags() -> None:
    registry = Registry([Announced(spec, 0) for spec in (OTHER, OLD, NEW)])
    assert shown(registry, ListSteps("t*")) == ["tidy 1.0.0"]
    assert shown(registry, ListSteps("Tidy")) == []
    assert shown(registry, ListSteps(tags=("physics",))) == ["simulate 1.10.0", "simulate 1.2.0"]
    assert shown(registry, ListSteps(tags=("nightly", "physics"))) == ["simulate 1.10.0"]


def test_schemas_are_shown_where_they_are_asked_for() -> None:
    registry = Registry([Announced(OLD, 0)])
    [brief] = registry.list(ListSteps(), []).steps
    assert (brief.spec.description, brief.spec.parameters, brief.spec.returns) == ("", "{}", "{}")
    [whole] = registry.list(ListSteps(schemas=True), []).steps
    assert whole.spec == OLD


def test_a_long_list_comes_in_parts() -> None:
    large = "x" * (MOST_ANSWER // 3)
    registry = Registry([Announced(StepSpec(f"s{number}", Version(1, 0, 0), description=large), 0) for number in range(5)])
    parts: list[list[str]] = []
    skip = 0
    while len(parts) < 5:
        answer = registry.list(ListSteps(schemas=True, skip=skip), [])
        parts.append([step.spec.name for step in answer.steps])
        skip += len(answer.steps)
        if not answer.more:
            break
    assert parts == [["s0", "s1"], ["s2", "s3"], ["s4"]]


def test_what_is_too_long_by_itself_is_an_answer_all_the_same() -> None:
    registry = Registry([Announced(StepSpec("s", Version(1, 0, 0), description="x" * MOST_ANSWER), 0), Announced(OTHER, 0)])
    answer = registry.list(ListSteps(schemas=True), [])
    assert [step.spec.name for step in answer.steps] == ["s"]
    assert answer.more
