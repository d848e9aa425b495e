"""What is known of the workers, and when one is lost; pure.

A worker introduces itself with `Hello` and holds a token; when its connection goes, the token comes to the ledger. Then the worker
is *suspect*: it is asked for a hello, and one that says nothing within the grace is *lost*, with what it had taken; where that goes on
without the worker, it has said for how long it may be away. A worker that is known from the ledger alone (the coordinator has just
started), or silent for a minute, is suspect in the same way.
A worker that comes with a new boot id has lost what its old boot had taken.
A worker that was asked to end, and did not hear it, is asked again when it says hello.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final, assert_never

from broker_jobs.core.request import Request
from broker_jobs.core.resources import Pool, Resources, capacity
from broker_jobs.wire.messages import DEFAULT_GROUP, DrainAsked, Goodbye, Heartbeat, Hello, Token

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from broker_jobs.core.versions import Version

SILENCE: Final = 60.0
"""Seconds without a heartbeat, which comes every 5, after which a worker is suspect."""

VANISHED: Final = "its connection was gone, and it did not come back in time"

KEPT: Final = 86_400.0
"""Seconds for which a worker that is gone is shown."""

Attempt = tuple[str, int, int]
"""Job, task, attempt."""


class WorkerState(StrEnum):
    """Where a worker is."""

    active = "active"
    draining = "draining"
    suspect = "suspect"
    """Its connection is gone, or it was not heard of for long."""
    lost = "lost"
    gone = "gone"
    """It said goodbye."""


PRESENT: Final = frozenset({WorkerState.active, WorkerState.draining})
ABSENT: Final = frozenset({WorkerState.lost, WorkerState.gone})


@dataclass(slots=True)
class Worker:
    """One worker.

    Attributes:
        held: what it has, as it said last
        heard: when it last said something, in seconds
        seen_ms: the same for people, in milliseconds since 1970
        until: when it is lost, while it is suspect
        ends_ms: when its time is over, as it said
        teams: it can be in a team
        asked: what somebody wants of it
        reason: why it is gone
        steps: names and versions of what it serves
        away: seconds that it may be gone before it is lost, where that is more than others have
    """

    name: str
    boot: str
    state: WorkerState
    heard: float
    seen_ms: int
    host: str = ""
    pid: int = 0
    version: str = ""
    resources: Resources = Resources(())  # noqa: RUF009 (frozen)
    free: Resources = Resources(())  # noqa: RUF009 (frozen)
    held: frozenset[Attempt] = frozenset()
    until: float = 0.0
    group: str = DEFAULT_GROUP
    started_ms: int = 0
    ends_ms: int | None = None
    teams: bool = False
    asked: DrainAsked | None = None
    reason: str = ""
    steps: frozenset[tuple[str, Version]] = frozenset()
    away: float = 0.0


@dataclass(frozen=True, slots=True)
class Greet:
    """Answer this hello."""

    hello: Hello


@dataclass(frozen=True, slots=True)
class AskHello:
    """Ask this worker for a hello."""

    worker: str


@dataclass(frozen=True, slots=True)
class AskDrain:
    """Tell a worker to end."""

    message: DrainAsked


@dataclass(frozen=True, slots=True)
class Lose:
    """What this boot of the worker had taken is lost."""

    worker: str
    boot: str


@dataclass(frozen=True, slots=True)
class Save:
    """The row of this worker is new."""

    worker: Worker


@dataclass(frozen=True, slots=True)
class Drop:
    """The row of this worker is not needed any more."""

    worker: str


WorkerCommand = Greet | AskHello | AskDrain | Lose | Save | Drop


class Workers:
    """All workers.

    Args:
        grace: seconds that a suspect worker has

    Attributes:
        back: when the coordinator itself came back the last time; workers that were heard since are known to have come back too
        changes: grows whenever what the workers have in all may have changed
    """

    def __init__(self, grace: float) -> None:
        self.grace = grace
        self.back = 0.0
        self.changes = 0
        self.known: dict[str, Worker] = {}
        self._slots: dict[Request, int] = {}
        self._takes: dict[Request, Mapping[str, int]] = {}

    def restore(self, workers: Iterable[Worker], until: float) -> None:
        """Workers from the ledger: those that were there must say hello until then."""
        for worker in workers:
            if worker.state not in ABSENT:
                worker.state, worker.until = WorkerState.suspect, until
            self.known[worker.name] = worker

    def come_back(self, now: float, patience: float) -> None:
        """The coordinator itself was away: nobody is lost before `patience`, nor who became suspect as it came back."""
        self.back = now
        for worker in self.known.values():
            if worker.state is WorkerState.suspect:
                worker.until = max(worker.until, patience)

    def hear(self, message: Hello | Heartbeat | Goodbye | Token, now: float, now_ms: int, patience: float = 0.0) -> Iterator[WorkerCommand]:
        """Take a message; what must be done about it.

        Args:
            now: seconds, of a clock that never goes back
            now_ms: milliseconds since 1970
            patience: a time before which no worker is lost, because the coordinator itself was away
        """
        worker = self.known.get(message.worker)
        match message:
            case Hello():
                yield from self._hello(message, worker, now, now_ms)
            case Heartbeat():
                if worker is None or worker.boot != message.boot or worker.state in ABSENT:
                    yield AskHello(message.worker)
                    return
                state = _state(message, worker.asked)
                changed = state is not worker.state
                self._set(worker, state)
                worker.heard, worker.seen_ms = now, now_ms
                worker.free, worker.held = message.free, _held(message)
                if changed:
                    yield Save(worker)
            case Goodbye():
                if worker is not None and worker.boot == message.boot and worker.state not in ABSENT:
                    self._set(worker, WorkerState.gone)
                    worker.heard, worker.seen_ms, worker.held, worker.reason = now, now_ms, frozenset(), message.reason
                    yield Lose(worker.name, worker.boot)
                    yield Save(worker)
            case Token():
                if worker is not None and worker.boot == message.boot and worker.state in PRESENT:
                    until = now + max(self.grace, worker.away)
                    yield from self._suspect(worker, until if worker.heard > self.back else max(until, patience))
            case _:
                assert_never(message)

    def end(self, worker: Worker, *, stop: bool, reason: str) -> Iterator[WorkerCommand]:
        """Somebody wants this worker to end; one that was told to stop is not told to drain again."""
        if worker.state in ABSENT:
            return
        if worker.asked is None or not worker.asked.stop:
            worker.asked = DrainAsked(worker.name, worker.boot, stop, reason)
        if worker.state is WorkerState.active:
            self._set(worker, WorkerState.draining)
        yield Save(worker)
        yield AskDrain(worker.asked)

    def mention(self, name: str, boot: str, now: float, now_ms: int, patience: float) -> Iterator[WorkerCommand]:
        """This boot of a worker has taken something: one that is not known must say hello, and one that is gone has lost it."""
        worker = self.known.get(name)
        if worker is None:
            worker = self.known[name] = Worker(name, boot, WorkerState.active, now, now_ms)
            yield from self._suspect(worker, max(now + self.grace, patience))
        elif worker.boot != boot or worker.state in ABSENT:
            yield Lose(name, boot)

    def tick(self, now: float) -> Iterator[WorkerCommand]:
        """Some time has passed."""
        for worker in list(self.known.values()):
            if worker.state is WorkerState.suspect and worker.until <= now:
                self._set(worker, WorkerState.lost)
                worker.held, worker.heard, worker.reason = frozenset(), now, VANISHED
                yield Lose(worker.name, worker.boot)
                yield Save(worker)
            elif worker.state in PRESENT and worker.heard + SILENCE <= now:
                yield from self._suspect(worker, now + max(self.grace, worker.away))
            elif worker.state in ABSENT and worker.heard + KEPT <= now:
                del self.known[worker.name]
                yield Drop(worker.name)

    def due(self) -> float | None:
        """When `tick` has something to do for suspects, in seconds; None where there is none."""
        return min((worker.until for worker in self.known.values() if worker.state is WorkerState.suspect), default=None)

    def present(self) -> list[Worker]:
        """Workers that are there."""
        return [worker for worker in self.known.values() if worker.state in PRESENT]

    def slots(self, needs: Request) -> int:
        """How many tasks with these needs the workers that are there can run at once."""
        if needs.lasting:
            # Time runs, so that nothing can be remembered.
            fitting = [(worker, left) for worker in self._active() if (left := _in_time(worker, needs))]
            if needs.nodes:
                return capacity(needs, ((worker.group, worker.resources) for worker, _ in fitting))
            return sum(capacity(left, [(worker.group, worker.resources)]) for worker, left in fitting)
        if needs not in self._slots:
            self._slots[needs] = capacity(needs, ((worker.group, worker.resources) for worker in self._active()))
        return self._slots[needs]

    def total(self) -> Counter[str]:
        """What the workers that are there have together; of a resource that comes in kinds, also the sum of all kinds."""
        total: Counter[str] = Counter()
        for worker in self._active():
            for name, amount in _with_sums(worker.resources).items():
                total[name] += amount
        return total

    def takes(self, needs: Request) -> Mapping[str, int]:
        """What a task with these needs takes of `total`: as the first of its variants that a worker that is there can meet says."""
        if needs not in self._takes:
            there = [worker.resources for worker in self._active()]
            fitting = [one for one in needs.alternatives if any(Pool(each).could_ever_fit(Request.of((one,))) for each in there)]
            shares = [_with_sums(each) for each in there]
            self._takes[needs] = {
                need.name: (need.amount or min(share[need.name] for share in shares if need.name in share)) * max(1, variant.nodes)
                for variant in fitting[:1]
                for need in variant.needs
            }
        return self._takes[needs]

    def _active(self) -> list[Worker]:
        return [worker for worker in self.known.values() if worker.state is WorkerState.active]

    def _changed(self) -> None:
        self._slots.clear()
        self._takes.clear()
        self.changes += 1

    def _hello(self, hello: Hello, worker: Worker | None, now: float, now_ms: int) -> Iterator[WorkerCommand]:
        if worker is not None and worker.boot != hello.boot and worker.state not in ABSENT:
            yield Lose(worker.name, worker.boot)
        asked = worker.asked if worker is not None and worker.boot == hello.boot else None
        worker = self.known[hello.worker] = Worker(
            hello.worker,
            hello.boot,
            _state(hello, asked),
            now,
            now_ms,
            hello.host,
            hello.pid,
            hello.version,
            hello.resources,
            hello.free,
            _held(hello),
            group=hello.group,
            started_ms=hello.started_ms,
            ends_ms=hello.ends_ms,
            teams=hello.teams,
            asked=asked,
            steps=frozenset((spec.name, spec.version) for spec in hello.steps),
            away=hello.away_ms / 1000,
        )
        self._changed()
        yield Save(worker)
        yield Greet(hello)
        if asked is not None and (asked.stop or not hello.draining):
            yield AskDrain(asked)

    def _suspect(self, worker: Worker, until: float) -> Iterator[WorkerCommand]:
        self._set(worker, WorkerState.suspect)
        worker.until = until
        yield Save(worker)
        yield AskHello(worker.name)

    def _set(self, worker: Worker, state: WorkerState) -> None:
        if worker.state is not state:
            worker.state = state
            self._changed()


def _state(message: Hello | Heartbeat, asked: DrainAsked | None) -> WorkerState:
    return WorkerState.draining if message.draining or asked is not None else WorkerState.active


def _held(message: Hello | Heartbeat) -> frozenset[Attempt]:
    return frozenset((held.job, held.task, held.attempt) for held in message.held)


def _with_sums(resources: Resources) -> Counter[str]:
    """Amounts by name, and of what comes in kinds (``gpus/amd``) their sum (``gpus``)."""
    amounts = Counter(dict(resources.amounts))
    for name, amount in resources.amounts:
        kind, slash, _ = name.partition("/")
        if slash:
            amounts[kind] += amount
    return amounts


def _in_time(worker: Worker, needs: Request) -> Request | None:
    """The variants for which a worker has the time, since it was heard; None where there is none."""
    left = math.inf if worker.ends_ms is None else worker.ends_ms - worker.seen_ms
    variants = [variant for variant in needs.alternatives if variant.min_time <= left]
    return Request.of(variants) if variants else None
