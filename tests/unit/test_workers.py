"""When a worker is there, suspect, lost."""

from __future__ import annotations

import dataclasses

from broker_jobs.coordinator.choice import choose
from broker_jobs.coordinator.workers import KEPT, SILENCE, AskDrain, AskHello, Drop, Greet, Lose, Save, WorkerCommand, Workers, WorkerState
from broker_jobs.core.quantities import UNIT
from broker_jobs.core.request import Request, ResourceRequest
from broker_jobs.core.resources import Resources
from broker_jobs.wire import messages as m

FOUR = Resources((("cpus", 4 * UNIT),))


def hello(boot: str = "b1", name: str = "w", held: tuple[m.Held, ...] = ()) -> m.Hello:
    return m.Hello(name, boot, "host", 1, "0", FOUR, FOUR, held)


def kinds(commands: list[WorkerCommand]) -> list[object]:
    """Commands, without the worker in those that save."""
    return [type(command) if isinstance(command, Save) else command for command in commands]


def known(grace: float = 3.0) -> Workers:
    workers = Workers(grace)
    list(workers.hear(hello(), 0.0, 0))
    return workers


def test_a_hello_is_greeted_and_gives_slots() -> None:
    workers = Workers(3.0)
    assert kinds(list(workers.hear(hello(), 0.0, 5))) == [Save, Greet(hello())]
    assert workers.known["w"].state is WorkerState.active
    assert workers.slots(Request()) == 4
    assert workers.slots(Request((("gpus", UNIT),))) == 0
    list(workers.hear(m.Heartbeat("w", "b1", FOUR, draining=True), 1.0, 6))
    assert workers.slots(Request()) == 0
    assert [worker.name for worker in workers.present()] == ["w"]


def test_what_a_task_takes_of_the_workers_is_told_for_kinds_variants_and_all() -> None:
    workers = Workers(3.0)
    for name, amounts in (("a", (("cpus", 4 * UNIT), ("gpus/amd", UNIT))), ("b", (("cpus", 2 * UNIT),))):
        has = Resources(amounts)
        list(workers.hear(m.Hello(name, "b1", "host", 1, "0", has, has), 0.0, 0))
    assert workers.total() == {"cpus": 6 * UNIT, "gpus/amd": UNIT, "gpus": UNIT}
    gpu, everything, nowhere = (ResourceRequest(gpus=1), ResourceRequest(cpus="all"), ResourceRequest(gpus=2))
    assert workers.takes(gpu.canonical()) == {"cpus": UNIT, "gpus": UNIT}
    assert workers.takes(everything.canonical()) == {"cpus": 2 * UNIT}
    assert workers.takes(nowhere.canonical()) == {}
    either = Request.of((*nowhere.canonical().alternatives, *everything.canonical().alternatives))
    assert workers.takes(either) == {"cpus": 2 * UNIT}
    assert workers.slots(everything.canonical()) == 2


def test_a_worker_whose_tasks_go_on_without_it_may_be_away_for_longer() -> None:
    workers = Workers(3.0)
    list(workers.hear(away(1), 0.0, 0))
    list(workers.hear(m.Token("w", "b1"), 10.0, 0))
    assert list(workers.tick(609.9)) == []
    assert workers.present() == []
    assert kinds(list(workers.hear(away(2), 609.9, 0))) == [Save, Greet(away(2))]
    list(workers.hear(m.Token("w", "b1"), 700.0, 0))
    assert kinds(list(workers.tick(1300.0))) == [Lose("w", "b1"), Save]


def away(pid: int) -> m.Hello:
    return dataclasses.replace(hello(), pid=pid, away_ms=600_000)


def test_a_token_makes_it_suspect_and_silence_loses_it() -> None:
    workers = known()
    assert kinds(list(workers.hear(m.Token("w", "b1"), 10.0, 0))) == [Save, AskHello("w")]
    assert workers.due() == 13.0
    assert list(workers.tick(12.9)) == []
    assert kinds(list(workers.tick(13.0))) == [Lose("w", "b1"), Save]
    assert "did not come back" in workers.known["w"].reason
    assert workers.due() is None
    assert list(workers.tick(20.0)) == []
    assert list(workers.tick(13.0 + KEPT)) == [Drop("w")]


def test_a_hello_within_the_grace_keeps_it() -> None:
    workers = known()
    list(workers.hear(m.Token("w", "b1"), 10.0, 0))
    assert kinds(list(workers.hear(hello(), 12.0, 0))) == [Save, Greet(hello())]
    assert list(workers.tick(14.0)) == []
    list(workers.hear(m.Token("w", "b1"), 20.0, 0))
    assert kinds(list(workers.hear(m.Heartbeat("w", "b1", FOUR), 21.0, 0))) == [Save]
    assert list(workers.tick(24.0)) == []


def test_the_coordinators_own_absence_lengthens_the_grace() -> None:
    workers = known()
    workers.back = 10.0
    list(workers.hear(m.Token("w", "b1"), 10.0, 0, patience=40.0))
    assert workers.due() == 40.0


def test_the_token_of_a_worker_may_come_before_the_news_that_the_coordinator_is_back() -> None:
    workers = known()
    list(workers.hear(m.Token("w", "b1"), 10.0, 0))
    workers.come_back(10.0, patience=40.0)
    assert workers.due() == 40.0
    assert list(workers.tick(20.0)) == []


def test_it_does_not_lengthen_the_grace_of_a_worker_that_has_come_back_since() -> None:
    workers = known()
    workers.back = 10.0
    list(workers.hear(hello(), 11.0, 0, patience=40.0))
    list(workers.hear(m.Token("w", "b1"), 12.0, 0, patience=40.0))
    assert workers.due() == 12.0 + workers.grace


def test_a_token_of_an_older_boot_is_no_news() -> None:
    workers = known()
    assert kinds(list(workers.hear(hello("b2"), 1.0, 0))) == [Lose("w", "b1"), Save, Greet(hello("b2"))]
    assert list(workers.hear(m.Token("w", "b1"), 2.0, 0)) == []
    assert list(workers.hear(m.Token("stranger", "b1"), 2.0, 0)) == []
    assert kinds(list(workers.hear(m.Heartbeat("w", "b1", FOUR), 2.0, 0))) == [AskHello("w")]


def test_a_goodbye_ends_it_at_once() -> None:
    workers = known()
    assert kinds(list(workers.hear(m.Goodbye("w", "b1", "it got a signal"), 1.0, 0))) == [Lose("w", "b1"), Save]
    assert workers.known["w"].reason == "it got a signal"
    assert workers.present() == []
    assert list(workers.hear(m.Token("w", "b1"), 2.0, 0)) == []
    assert list(workers.hear(m.Goodbye("w", "b1"), 2.0, 0)) == []


def test_a_silent_worker_is_asked_before_it_is_lost() -> None:
    workers = known()
    assert kinds(list(workers.tick(SILENCE))) == [Save, AskHello("w")]
    assert kinds(list(workers.tick(SILENCE + 3.0))) == [Lose("w", "b1"), Save]


def test_workers_of_the_ledger_must_say_hello_after_a_start() -> None:
    workers = known()
    again = Workers(3.0)
    again.restore(workers.known.values(), until=30.0)
    assert again.due() == 30.0
    list(again.hear(hello(), 5.0, 0))
    assert list(again.tick(31.0)) == []


def test_what_an_unknown_or_absent_worker_takes_is_not_kept_for_ever() -> None:
    workers = Workers(3.0)
    assert kinds(list(workers.mention("w", "b1", 0.0, 0, patience=30.0))) == [Save, AskHello("w")]
    assert list(workers.mention("w", "b1", 0.0, 0, patience=30.0)) == []
    assert kinds(list(workers.tick(30.0))) == [Lose("w", "b1"), Save]
    assert list(workers.mention("w", "b1", 31.0, 0, patience=0.0)) == [Lose("w", "b1")]
    workers = known()
    assert list(workers.mention("w", "b0", 0.0, 0, patience=0.0)) == [Lose("w", "b0")]


def test_a_late_hello_of_a_lost_worker_is_greeted() -> None:
    workers = known()
    list(workers.hear(m.Token("w", "b1"), 10.0, 0))
    list(workers.tick(13.0))
    assert kinds(list(workers.hear(hello(), 14.0, 0))) == [Save, Greet(hello())]
    assert workers.known["w"].state is WorkerState.active


def test_a_worker_that_was_asked_to_end_is_asked_again_when_it_says_hello() -> None:
    workers = known()
    asked = m.DrainAsked("w", "b1", reason="a new kernel")
    [worker] = workers.present()
    assert kinds(list(workers.end(worker, stop=False, reason="a new kernel"))) == [Save, AskDrain(asked)]
    assert workers.slots(Request()) == 0
    list(workers.hear(m.Heartbeat("w", "b1", FOUR), 1.0, 0))
    assert workers.known["w"].state is WorkerState.draining
    assert kinds(list(workers.hear(hello(), 2.0, 0))) == [Save, Greet(hello()), AskDrain(asked)]
    obedient = m.Hello("w", "b1", "host", 1, "0", FOUR, FOUR, draining=True)
    assert kinds(list(workers.hear(obedient, 3.0, 0))) == [Save, Greet(obedient)]
    assert AskDrain(asked) not in list(workers.hear(hello("b2"), 4.0, 0)), "the next boot was not meant"


def test_a_stop_is_more_than_a_drain() -> None:
    workers = known()
    worker = workers.known["w"]
    list(workers.end(worker, stop=True, reason=""))
    stop = AskDrain(m.DrainAsked("w", "b1", stop=True))
    assert kinds(list(workers.end(worker, stop=False, reason="later"))) == [Save, stop]
    list(workers.hear(m.Goodbye("w", "b1"), 1.0, 0))
    assert list(workers.end(worker, stop=True, reason="")) == []


def test_names_choose_workers() -> None:
    workers = Workers(3.0)
    for number, (name, group) in enumerate([("node1-11-aa", "day"), ("node1-12-ab", "night"), ("node2-7-ac", "night")]):
        list(workers.hear(m.Hello(name, "b", "host", 1, "0", FOUR, FOUR, group=group, started_ms=number), 0.0, 0))

    def names(*wanted: str, group: str | None = None) -> list[str] | m.Refusal:
        found = choose(workers.known.values(), wanted, group)
        return found.kind if isinstance(found, m.Refused) else [worker.name for worker in found]

    assert names() == ["node1-11-aa", "node1-12-ab", "node2-7-ac"]
    assert names(group="night") == ["node1-12-ab", "node2-7-ac"]
    assert names("last", "node1-11-aa", "ac") == ["node2-7-ac", "node1-11-aa"]
    assert names("node2") == ["node2-7-ac"]
    assert names("node1") is m.Refusal.ambiguous
    assert names("node1", group="night") == ["node1-12-ab"]
    assert names("node3") is m.Refusal.worker_not_found
    list(workers.hear(m.Goodbye("node2-7-ac", "b"), 1.0, 0))
    assert names("last") == ["node1-12-ab"]
    assert names("node2") == ["node2-7-ac"], "it is known for a while"
