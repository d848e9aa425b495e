"""Plugins at work: order, refusals, exceptions, coroutines, and plugins that are slow or hang."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from typing import TYPE_CHECKING, Any

import pytest

from broker_jobs.core.states import TaskState
from broker_jobs.hooks import TaskNow, impl
from broker_jobs.hooks.calling import Hooks
from broker_jobs.hooks.facts import Moment
from broker_jobs.hooks.order import POLLING
from broker_jobs.hooks.plugins import collect

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

PATIENCE = 20.0


def task(number: int, progress: float | None = None) -> TaskNow:
    return TaskNow("job", number, "", TaskState.running, 1, progress=progress)


def told(*numbers: int, hook: str = "on_task_started") -> list[Moment]:
    return [Moment(hook, task(number)) for number in numbers]


def in_a_loop(coroutine: Coroutine[Any, Any, object]) -> object:
    return asyncio.run(coroutine)


@pytest.fixture
def make() -> Iterator[Callable[..., Hooks]]:
    """Makes hooks, which are closed at the end."""
    made: list[Hooks] = []

    def of(*plugins: object, patience: float = PATIENCE, most: int = 100_000, run: Any = in_a_loop) -> Hooks:
        made.append(Hooks(collect((), plugins), ("client", "the client"), run, patience=patience, most=most))
        return made[-1]

    yield of
    for hooks in made:
        hooks.close(PATIENCE)


class Notes:
    """Writes down what it is told."""

    def __init__(self) -> None:
        self.seen: list[tuple[object, ...]] = []

    @impl
    def on_init(self, client: object) -> None:
        self.seen.append(("init", client))

    @impl
    async def on_task_started(self, client: object, task: TaskNow) -> None:
        await asyncio.sleep(0)
        self.seen.append(("started", client, task.number))

    @impl
    def on_task_succeeded(self, task: TaskNow) -> None:
        self.seen.append(("succeeded", task.number))

    @impl
    def on_shutdown(self) -> None:
        self.seen.append(("shutdown",))


def test_moments_come_in_order_from_functions_and_coroutines(make: Callable[..., Hooks]) -> None:
    notes = Notes()
    hooks = make(notes)
    hooks.begin()
    hooks.tell([*told(1), *told(1, hook="on_task_succeeded"), *told(2), *told(2, hook="on_task_failed")])
    hooks.close(PATIENCE)
    assert notes.seen == [
        ("init", "the client"),
        ("started", "the client", 1),
        ("succeeded", 1),
        ("started", "the client", 2),
        ("shutdown",),
    ]
    assert hooks.failures() == {}


def test_after_the_end_nothing_is_called(make: Callable[..., Hooks]) -> None:
    notes = Notes()
    hooks = make(notes)
    hooks.close(PATIENCE)
    hooks.tell(told(1))
    assert hooks.ask("on_shutdown", lambda: (None,)) == []
    assert notes.seen == [("shutdown",)]


def test_an_exception_harms_neither_the_plugin_nor_others(make: Callable[..., Hooks], caplog: pytest.LogCaptureFixture) -> None:
    class Broken:
        @impl
        def on_task_started(self, task: TaskNow) -> None:
            raise SystemExit(task.number)

        @impl
        async def on_task_succeeded(self) -> None:
            raise RuntimeError("no luck")

        @impl
        def on_task_submitting(self) -> bool:
            raise ValueError("neither yes nor no")

    notes = Notes()
    hooks = make(Broken(), notes)
    hooks.tell([*told(1, 2), *told(2, hook="on_task_succeeded")])
    assert hooks.ask("on_task_submitting", lambda: (task(0),)) == []
    hooks.close(PATIENCE)
    assert hooks.failures() == {
        f"{Broken.__qualname__}.{hook}": count
        for hook, count in [("on_task_started", 2), ("on_task_succeeded", 1), ("on_task_submitting", 1)]
    }
    assert [seen[0] for seen in notes.seen] == ["started", "started", "succeeded", "shutdown"]
    assert "on_task_succeeded has failed" in caplog.text
    assert "no luck" in caplog.text
    assert {record.name for record in caplog.records} == {"broker_jobs.hooks"}


def test_only_false_is_a_refusal_and_each_is_named(make: Callable[..., Hooks]) -> None:
    class Odd:
        @impl
        async def on_task_submitting(self, task: TaskNow) -> bool:
            return task.number % 2 == 0

    class Nothing:
        @impl
        def on_task_submitting(self, task: TaskNow) -> int:
            return 0

    hooks = make(Odd(), Nothing())
    refusals = hooks.ask("on_task_submitting", lambda: map(task, range(4)))
    assert [(refusal.plugin, refusal.of) for refusal in refusals] == [(Odd.__qualname__, task(1)), (Odd.__qualname__, task(3))]
    assert asyncio.run(hooks.ask_async("on_task_submitting", lambda: [task(5)])) == [type(refusals[0])(Odd.__qualname__, task(5))]


class Stuck:
    """Hangs in its first question until it is let go."""

    def __init__(self) -> None:
        self.at_work, self.let_go = threading.Event(), threading.Event()
        self.asked: list[int] = []

    @impl
    def on_task_submitting(self, task: TaskNow) -> bool:
        self.asked.append(task.number)
        self.at_work.set()
        return self.let_go.wait(PATIENCE)


def test_a_plugin_that_hangs_is_waited_for_once(make: Callable[..., Hooks], caplog: pytest.LogCaptureFixture) -> None:
    stuck, notes = Stuck(), Notes()
    hooks = make(stuck, notes, patience=0.0)
    assert hooks.ask("on_task_submitting", lambda: [task(1)]) == []
    assert hooks.failures() == {"Stuck.on_task_submitting": 1}
    assert stuck.at_work.wait(PATIENCE)
    assert hooks.ask("on_task_submitting", lambda: [task(2)]) == []
    assert hooks.failures() == {"Stuck.on_task_submitting": 1}
    hooks.tell(told(3))
    hooks.close(PATIENCE)
    assert stuck.asked == [1]
    assert ("started", "the client", 3) in notes.seen
    assert "has not answered on_task_submitting" in caplog.text
    stuck.let_go.set()


def test_a_plugin_that_comes_back_is_asked_again(make: Callable[..., Hooks]) -> None:
    stuck = Stuck()
    hooks = make(stuck, patience=0.0)
    assert hooks.ask("on_task_submitting", lambda: [task(1)]) == []
    stuck.let_go.set()
    hooks.patience = PATIENCE
    while stuck.asked != [1, 2]:
        hooks.ask("on_task_submitting", lambda: [task(2)])
    assert hooks.failures() == {"Stuck.on_task_submitting": 1}


class Slow:
    """Works on one moment until it is let go."""

    def __init__(self) -> None:
        self.at_work, self.let_go = threading.Event(), threading.Event()
        self.seen: list[TaskNow] = []

    @impl
    def on_task_started(self, task: TaskNow) -> None:
        self.at_work.set()
        self.let_go.wait(PATIENCE)
        self.seen.append(task)

    @impl
    def on_task_polling(self, task: TaskNow) -> None:
        self.seen.append(task)


def test_who_is_slower_than_the_news_gets_the_newest(make: Callable[..., Hooks]) -> None:
    slow = Slow()
    hooks = make(slow)
    hooks.tell(told(1))
    assert slow.at_work.wait(PATIENCE)
    hooks.tell([Moment(POLLING, task(number, part / 10)) for part in range(10) for number in (1, 2)])
    slow.let_go.set()
    hooks.close(PATIENCE)
    assert slow.seen == [task(1), task(1, 0.9), task(2, 0.9)]


def test_what_is_too_much_is_dropped_and_counted(make: Callable[..., Hooks], caplog: pytest.LogCaptureFixture) -> None:
    slow = Slow()
    hooks = make(slow, most=2)
    hooks.tell(told(1))
    assert slow.at_work.wait(PATIENCE)
    hooks.tell(told(2, 3, 4, 5))
    assert hooks.dropped() == {"Slow": 2}
    slow.let_go.set()
    hooks.close(PATIENCE)
    assert [seen.number for seen in slow.seen] == [1, 2, 3]
    assert caplog.text.count("too slow") == 1


def test_what_is_left_at_the_end_of_the_patience_is_said(make: Callable[..., Hooks], caplog: pytest.LogCaptureFixture) -> None:
    slow = Slow()
    hooks = make(slow)
    hooks.tell(told(1, 2, 3))
    assert slow.at_work.wait(PATIENCE)
    hooks.close(0.0)
    assert "was not told of" in caplog.text
    slow.let_go.set()


def test_a_plugin_is_not_waited_for_by_itself(make: Callable[..., Hooks]) -> None:
    class Submits:
        def __init__(self) -> None:
            self.answers: list[object] = []

        @impl
        def on_task_failed(self, task: TaskNow) -> None:
            self.answers.append(hooks.ask("on_task_submitting", lambda: [task]))

        @impl
        async def on_task_killed(self, task: TaskNow) -> None:
            self.answers.append(await asyncio.to_thread(hooks.ask, "on_task_submitting", lambda: [task]))

        @impl
        def on_task_submitting(self, task: TaskNow) -> bool:
            self.answers.append(task.number)
            return False

    plugin = Submits()
    hooks = make(plugin)
    hooks.tell([*told(1, hook="on_task_failed"), *told(2, hook="on_task_killed")])
    hooks.close(PATIENCE)
    assert sorted(map(str, plugin.answers)) == ["1", "2", "[]", "[]"], "asked in its turn, when nobody waits for the answer any more"


def test_a_child_process_has_threads_of_its_own(make: Callable[..., Hooks]) -> None:
    notes = Notes()
    hooks = make(notes)
    hooks.tell(told(1))
    hooks.ask("on_shutdown", lambda: (None,))
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        hooks.tell(told(2))
        hooks.close(PATIENCE)
        os.write(writing, repr(notes.seen[-2:]).encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reading, 1000).decode() == repr([("started", "the client", 2), ("shutdown",)])
    os.close(reading)
    os.close(writing)


def test_nothing_is_put_for_whoever_does_not_want_it(make: Callable[..., Hooks]) -> None:
    before = threading.active_count()
    hooks = make(Stuck())
    hooks.tell(told(1))
    assert threading.active_count() == before
    assert hooks.wants("on_task_started", "on_task_submitting")
    assert not hooks.wants("on_task_started")


@pytest.fixture(autouse=True)
def _log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "broker_jobs.hooks")
