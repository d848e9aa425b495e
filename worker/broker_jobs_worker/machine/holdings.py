"""What a worker has: attempts, the messages they came with, and the resources they hold.

Everything is kept twice, by attempt and by what one looks for; `check` sees that both agree.
"""

from __future__ import annotations

from collections import deque
from itertools import islice
from typing import TYPE_CHECKING, assert_never

from broker_jobs.core.many import many
from broker_jobs.core.resources import Pool
from broker_jobs.errors import IllegalTransition
from broker_jobs.wire.messages import Held
from broker_jobs_worker.machine.execution import may_follow, may_lead
from broker_jobs_worker.machine.state import LANES, Announced, Attempt, AttemptKey, Closing, Due, Running, Taking, Waiting, below

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

    from broker_jobs.broker.port import Delivery
    from broker_jobs.core.request import Request
    from broker_jobs.core.resources import Allocation, Resources
    from broker_jobs.core.spec import Lane
    from broker_jobs.wire.messages import Ended, Returned, Task
    from broker_jobs_worker.machine.state import Bundle, Group, Line, Source


class Holdings:
    """Everything that a worker has.

    Args:
        total: what it may give to tasks

    Attributes:
        attempts: all of them
        dues: unsettled deliveries of the present connection
        bundles: chunks with tasks that wait, oldest first
        running: attempts by execution
        announced: attempts by the number of their notice
    """

    def __init__(self, total: Resources) -> None:
        self.pool = Pool(total)
        self.attempts: dict[AttemptKey, Attempt] = {}
        self.dues: dict[Delivery, Due] = {}
        self.bundles: dict[Lane, deque[Bundle]] = {lane: deque() for lane in LANES}
        self.running: dict[str, Attempt] = {}
        self.announced: dict[int, Attempt] = {}

    def inventory(self) -> tuple[Held, ...]:
        """All attempts, for the ledger."""
        return tuple(
            Held(*attempt.key, taken=isinstance(attempt.state, Running) and attempt.state.taking is not Taking.not_yet)
            for attempt in self.attempts.values()
        )

    def busy(self) -> Iterator[Attempt]:
        """What holds resources."""
        yield from self.running.values()
        yield from self.announced.values()

    def held(self, source: Source) -> int:
        """How many allocations tasks of a queue hold whose message is held, too."""
        return len(
            {
                attempt.state.allocation.number
                for attempt in self.busy()
                if attempt.source == source and attempt.dues and isinstance(attempt.state, Running | Announced)
            }
        )

    def waiting(self) -> Iterator[Bundle]:
        """Chunks with tasks that wait, in the order in which they start."""
        for lane in LANES:
            yield from (bundle for bundle in self.bundles[lane] if bundle.waiting)

    def displaces(self, lane: Lane) -> bool:
        """Whether tasks of lower lanes hold resources, or wait here for them."""
        lower = below(lane)
        return any(self.bundles[each] for each in lower) or any(attempt.source.lane in lower for attempt in self.busy())

    def waits_above(self, lane: Lane) -> bool:
        """Whether something of a more urgent lane waits for resources."""
        return any(bundle.waiting for each in LANES[: LANES.index(lane)] for bundle in self.bundles[each])

    def without(self, lanes: Collection[Lane]) -> Pool:
        """The pool as if nothing of these lanes held any of it."""
        return self.pool.without(
            {
                attempt.state.allocation.number: attempt.state.allocation
                for attempt in self.busy()
                if attempt.source.lane in lanes and isinstance(attempt.state, Running | Announced)
            }.values()
        )

    # --- the way of an attempt ---

    def receive(self, delivery: Delivery, group: Group) -> Due:
        """Note a delivery; what it waits for is said with `tie`.

        Raises:
            IllegalTransition: it is here already
        """
        if delivery in self.dues:
            raise IllegalTransition(f"{delivery.tag} was delivered twice")
        due = self.dues[delivery] = Due(delivery, group)
        return due

    def tie(self, attempt: Attempt, due: Due) -> None:
        """Let a delivery wait for an attempt, which may be new."""
        self.attempts[attempt.key] = attempt
        attempt.dues.add(due)
        due.unconfirmed.add(attempt.key)
        if not isinstance(attempt.state, Closing):
            due.unfinished.add(attempt.key)

    def grant(
        self, closed: Callable[[Source, Request], bool], early: Callable[[Bundle], bool], lifetime: float, most: Callable[[Bundle], int]
    ) -> tuple[Bundle, list[tuple[Attempt, Task]], Allocation] | None:
        """The next task that may start, with its resources, and what may follow it: by lane and age; nothing overtakes what does not fit.

        Args:
            closed: whether resources are kept for something else than what is in this queue
            early: whether a chunk cannot start yet for another reason than resources; it holds back nothing else
            lifetime: milliseconds that the worker has left
            most: how many of a chunk may share the resources of one, one after the other
        """
        for lane in LANES:
            bundles = self.bundles[lane]
            while bundles and not bundles[0].waiting:
                bundles.popleft()
            bundle = next((bundle for bundle in bundles if bundle.waiting and not early(bundle)), None)
            if bundle is not None:
                allocation = None if closed(bundle.source, bundle.request) else self.pool.try_allocate(bundle.request, lifetime)
                if allocation is None:
                    return None
                return bundle, self._first(bundle, most(bundle)), allocation
        return None

    def _first(self, bundle: Bundle, most: int) -> list[tuple[Attempt, Task]]:
        """Take the first of a chunk, and of the next ones those that may follow it."""
        keys = list(islice(bundle.waiting, most))
        leader = bundle.waiting[keys[0]]
        if most > 1 and not may_lead(bundle.chunk, leader):
            del keys[1:]
        taken = []
        for key in keys:
            if key is not keys[0] and not may_follow(leader, bundle.waiting[key]):
                break
            taken.append((self.attempts[key], bundle.waiting.pop(key)))
        return taken

    def put_back(self, line: Line, executions: Iterable[str]) -> list[Attempt]:
        """These of a line have not begun, and wait again before everything else of their chunk; which attempts they are."""
        bundle, returned = line.bundle, {}
        for execution in executions:
            attempt, task = line.left[execution]
            self._let_go(attempt)
            attempt.state = Waiting(bundle)
            returned[attempt.key] = task
        bundle.waiting = {**returned, **bundle.waiting}
        waiting = self.bundles[bundle.source.lane]
        if bundle not in waiting:
            waiting.appendleft(bundle)
        return [self.attempts[key] for key in returned]

    def announce(self, attempt: Attempt, state: Announced) -> None:
        """It starts when its notice is confirmed."""
        attempt.state = state
        self.announced[state.notice] = attempt

    def run(self, attempt: Attempt, state: Running) -> None:
        """It starts."""
        if isinstance(attempt.state, Announced):
            del self.announced[attempt.state.notice]
        attempt.state = state
        self.running[state.execution] = attempt

    def resume(self, attempt: Attempt, state: Running) -> None:
        """It runs already; no message of it is here."""
        self.attempts[attempt.key] = self.running[state.execution] = attempt

    def hand_on(self, attempt: Attempt, word: Ended, follower: Attempt, execution: str) -> None:
        """It is over, and this execution of one of its chain runs with its resources, and has come with its messages."""
        del self.running[word.execution]
        attempt.state = Closing(word)
        self.running[execution] = follower
        for due in attempt.dues:
            self.tie(follower, due)
            due.unfinished.discard(attempt.key)

    def close(self, attempt: Attempt, word: Ended | Returned) -> Iterator[Group]:
        """It is over; groups whose reply nothing is to be waited for any more.

        Raises:
            IllegalTransition: it was over before
        """
        self._let_go(attempt)
        attempt.state = Closing(word)
        for due in attempt.dues:
            due.unfinished.discard(attempt.key)
            if not due.unfinished:
                yield due.group

    def close_all(self, line: Line, ends: Sequence[tuple[Attempt, Ended]]) -> Iterator[Group]:
        """`close`, for several of one line that run."""
        dues: dict[Due, None] = {}
        allocation = None
        for (attempt, word), state in zip(ends, many(Closing, [word for _, word in ends]), strict=True):
            if not isinstance(attempt.state, Running):
                raise IllegalTransition(f"a second last word about {attempt.key}")
            allocation = attempt.state.allocation
            del self.running[word.execution], line.left[word.execution]
            attempt.state = state
            for due in attempt.dues:
                dues[due] = None
                due.unfinished.discard(attempt.key)
        if allocation is not None and not line.left:
            self.pool.release(allocation)
        yield from (due.group for due in dues if not due.unfinished)

    def drop(self, attempt: Attempt) -> None:
        """Forget it: nobody needs a word about it. Its messages are the caller's to `discharge`."""
        if not isinstance(attempt.state, Closing):
            self._let_go(attempt)
        del self.attempts[attempt.key]

    def discharge(self, attempts: Iterable[Attempt]) -> Iterator[Delivery | Group]:
        """No delivery waits for these any more: which are to be settled, and groups whose reply nothing is to be waited for any more."""
        dues: dict[Due, None] = {}
        for attempt in attempts:
            for due in attempt.dues:
                dues[due] = None
                due.unconfirmed.discard(attempt.key)
                due.unfinished.discard(attempt.key)
            attempt.dues.clear()
        for due in dues:
            if not due.unconfirmed:
                del self.dues[due.delivery]
                yield due.delivery
            elif not due.unfinished:
                yield due.group

    def cut_off(self) -> None:
        """Forget the deliveries, and what has not started."""
        self.dues.clear()
        for attempt in list(self.attempts.values()):
            attempt.dues.clear()
            if isinstance(attempt.state, Waiting | Announced):
                self.drop(attempt)
        for bundles in self.bundles.values():
            bundles.clear()

    def _let_go(self, attempt: Attempt) -> None:
        match attempt.state:
            case Waiting(bundle):
                bundle.waiting.pop(attempt.key, None)
            case Announced(allocation=allocation, notice=notice):
                del self.announced[notice]
                self.pool.release(allocation)
            case Running(execution, allocation, line=line):
                del self.running[execution]
                if line is not None:
                    del line.left[execution]
                if line is None or not line.left:
                    self.pool.release(allocation)
            case Closing():
                raise IllegalTransition(f"a second last word about {attempt.key}")
            case _:
                assert_never(attempt.state)

    # --- what must always be true ---

    def check(self) -> None:
        """What must always be true; `AssertionError` where it is not."""
        self.pool.check()
        states = {key: attempt.state for key, attempt in self.attempts.items()}
        held = {id(state.allocation): state for state in states.values() if isinstance(state, Announced | Running)}
        assert sorted(held) == sorted(map(id, self.pool.held)), "what runs or is about to holds an allocation, and nothing else does"
        for state in states.values():
            if isinstance(state, Running) and state.line is not None:
                assert self.attempts[state.line.left[state.execution][0].key].state is state, "a line knows what is left of it"
                sharing = [other for other in states.values() if isinstance(other, Running) and other.allocation is state.allocation]
                assert all(other.line is state.line for other in sharing), "only a line shares an allocation"
                assert len(sharing) == len(state.line.left), "and nothing else is left of it"
        running = {state.execution: self.attempts[key] for key, state in states.items() if isinstance(state, Running)}
        assert running == self.running, "the index of executions is right"
        announced = {state.notice: self.attempts[key] for key, state in states.items() if isinstance(state, Announced)}
        assert announced == self.announced, "the index of notices is right"
        waiting = {key: bundle for bundles in self.bundles.values() for bundle in bundles for key in bundle.waiting}
        assert waiting == {key: state.bundle for key, state in states.items() if isinstance(state, Waiting)}, "what waits is in its bundle"
        for delivery, due in self.dues.items():
            assert due.unconfirmed, "what waits for nothing is settled"
            assert due.delivery is delivery, "the index of deliveries is right"
            tied = {key for key, attempt in self.attempts.items() if due in attempt.dues}
            assert due.unconfirmed == tied, "deliveries and attempts agree"
            closing = {key for key in tied if isinstance(states[key], Closing)}
            assert due.unfinished == tied - closing, "unfinished is what has no last word"
        for attempt in self.attempts.values():
            assert attempt.dues <= set(self.dues.values()), "nobody waits for a delivery that is gone"
            if isinstance(attempt.state, Waiting | Announced):
                assert attempt.dues, "what has not started has a message"
