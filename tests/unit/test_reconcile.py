"""Which published tasks are nowhere, and which queues are of no use."""

from __future__ import annotations

from broker_jobs.coordinator.reconcile import Inventory, Missing, Published, Reconciler, Silences, Unheard

CHUNK = Published("job", "r0", "q", 0.0, ((0, 1), (1, 1)))
OTHER = Published("job", "r1", "p", 0.0, ((2, 1),))
ALL = Missing("job", "r0", "q", ((0, 1), (1, 1)))


def idle(at: float) -> list[Inventory]:
    return [Inventory(at, frozenset())]


def test_two_looks_apart_at_an_empty_queue_and_word_of_all_workers() -> None:
    reconciler = Reconciler(5.0)
    assert reconciler.suspicious([CHUNK], idle(20.0)) == {"q"}
    assert reconciler.decide({"q": 0}, [CHUNK], idle(20.0), 20.0) == []
    assert reconciler.decide({"q": 0}, [CHUNK], idle(23.0), 24.9) == []
    assert reconciler.decide({"q": 0}, [CHUNK], idle(23.0), 25.0) == [ALL]


def test_one_look_proves_nothing_nor_does_a_queue_that_was_not_empty_between() -> None:
    reconciler = Reconciler(5.0)
    reconciler.decide({"q": 0}, [CHUNK], idle(20.0), 20.0)
    reconciler.decide({"q": 1}, [CHUNK], idle(25.0), 25.0)
    assert reconciler.decide({"q": 0}, [CHUNK], idle(30.0), 30.0) == []
    reconciler.decide({}, [CHUNK], idle(35.0), 35.0)
    assert reconciler.decide({"q": 0}, [CHUNK], idle(40.0), 40.0) == [], "a queue that could not be asked starts anew"


def test_a_worker_that_has_not_spoken_since_may_hold_it() -> None:
    reconciler = Reconciler(5.0)
    workers = [Inventory(19.0, frozenset()), Inventory(30.0, frozenset())]
    reconciler.decide({"q": 0}, [CHUNK], workers, 20.0)
    assert reconciler.decide({"q": 0}, [CHUNK], workers, 30.0) == []
    assert reconciler.decide({"q": 0}, [CHUNK], [], 30.0) == [ALL], "without workers nobody holds it"


def test_what_a_worker_holds_is_not_missing() -> None:
    reconciler = Reconciler(5.0)
    holds = [Inventory(30.0, frozenset({("job", 0, 1)}))]
    reconciler.decide({"q": 0}, [CHUNK], holds, 20.0)
    assert reconciler.decide({"q": 0}, [CHUNK], holds, 30.0) == [Missing("job", "r0", "q", ((1, 1),))]
    assert reconciler.suspicious([CHUNK], [Inventory(0.0, frozenset({("job", 0, 1), ("job", 1, 1)}))]) == set()
    older = [Inventory(30.0, frozenset({("job", 0, 0), ("job", 1, 2)}))]
    assert reconciler.suspicious([CHUNK], older) == {"q"}, "another attempt is another thing"


def test_a_chunk_that_was_published_after_the_look_needs_two_of_its_own() -> None:
    reconciler = Reconciler(5.0)
    late = Published("job", "r9", "q", 22.0, ((7, 1),))
    reconciler.decide({"q": 0}, [CHUNK], idle(20.0), 20.0)
    assert reconciler.decide({"q": 0}, [CHUNK, late], idle(26.0), 26.0) == [ALL]
    assert reconciler.decide({"q": 0}, [late], idle(32.0), 32.0) == [Missing("job", "r9", "q", ((7, 1),))]


def test_queues_are_told_apart() -> None:
    reconciler = Reconciler(5.0)
    reconciler.decide({"q": 0, "p": 3}, [CHUNK, OTHER], idle(20.0), 20.0)
    assert reconciler.decide({"q": 0, "p": 0}, [CHUNK, OTHER], idle(26.0), 26.0) == [ALL]


def test_a_queue_that_is_silent_at_each_look_for_long_enough_is_dead() -> None:
    silences = Silences(20.0)
    assert silences.look({"p", "q"}, 100.0) == frozenset()
    assert silences.look({"p", "q", "r"}, 119.9) == frozenset()
    assert silences.look({"q", "r"}, 120.0) == {"q"}
    assert silences.look({"p", "r"}, 139.9) == {"r"}, "one that has answered, or was not looked at, starts anew"


def test_nothing_is_known_of_the_time_between_two_looks_far_apart() -> None:
    silences = Silences(20.0)
    silences.look({"q"}, 100.0)
    assert silences.look({"q"}, 120.1) == frozenset()
    assert silences.look({"q"}, 140.1) == {"q"}


def test_nothing_is_known_of_the_time_without_a_connection() -> None:
    silences = Silences(20.0)
    silences.look({"q"}, 100.0)
    silences.look({"q"}, 115.0)
    silences.forget()
    assert silences.look({"q"}, 120.0) == frozenset()


def test_a_queue_with_which_something_is_wrong_again_is_told_once_a_minute() -> None:
    unheard = Unheard()
    assert unheard.look({"p", "q"}, 100.0) == set()
    assert unheard.look((), 105.0) == set()
    assert unheard.look({"q"}, 115.0) == {"q"}
    assert unheard.look({"p", "q"}, 120.0) == {"p"}
    assert unheard.look({"p", "q"}, 175.0) == set()
    assert unheard.look({"p", "q"}, 176.0) == set()
    assert unheard.look({"p", "q"}, 181.0) == {"q"}


def test_what_was_wrong_long_ago_is_forgotten() -> None:
    unheard = Unheard()
    unheard.look({"q"}, 100.0)
    assert unheard.look({"q"}, 160.1) == set()
    assert unheard.look({"q"}, 160.2) == {"q"}
