"""Bugs that could be in the worker's machine; the properties in ``tests/property/test_worker_machine.py`` must find each."""

from __future__ import annotations

from typing import Final

TESTS: Final = "tests/property/test_worker_machine.py"

_STORIES: Final = "tests/unit/test_worker_machine.py"
_FAIRNESS: Final = "tests/property/test_fairness.py"
_MACHINE: Final = "worker/broker_jobs_worker/machine"

MUTANTS: Final = (
    # (what is broken, file, text, text of the mutant[, tests that must find it])
    (
        "acknowledge when the last task has ended, without a word of the broker",
        f"{_MACHINE}/holdings.py",
        "            due.unfinished.discard(attempt.key)\n            if not due.unconfirmed:",
        "            due.unfinished.discard(attempt.key)\n            if not due.unfinished:",
    ),
    (
        "go on with deliveries of a connection that is gone",
        f"{_MACHINE}/holdings.py",
        "        self.dues.clear()\n",
        "",
    ),
    (
        "keep what waits when its message is somebody else's",
        f"{_MACHINE}/holdings.py",
        "            if isinstance(attempt.state, Waiting | Announced):\n                self.drop(attempt)\n",
        "            if isinstance(attempt.state, Announced):\n                self.drop(attempt)\n",
        _STORIES,
    ),
    (
        "start an isolated task at once",
        f"{_MACHINE}/worker.py",
        "if bundle.chunk.isolated:",
        "if False:",
    ),
    (
        "start what was announced after the connection was lost",
        f"{_MACHINE}/holdings.py",
        "            if isinstance(attempt.state, Waiting | Announced):\n                self.drop(attempt)\n",
        "            if isinstance(attempt.state, Waiting):\n                self.drop(attempt)\n",
        _STORIES,
    ),
    (
        "run a copy of what has just finished",
        f"{_MACHINE}/worker.py",
        "if key in self._closed or",
        "if",
        _STORIES,
    ),
    (
        "run what was canceled before it came",
        f"{_MACHINE}/worker.py",
        "or self._revoked.of(key) is not None:",
        "and True:",
        _STORIES,
    ),
    (
        "release the resources when a stop is asked for",
        f"{_MACHINE}/worker.py",
        "                        yield Stop(execution, covering.reason)",
        "                        self._have.pool.release(run.allocation)\n                        yield Stop(execution, covering.reason)",
    ),
    (
        "never release resources",
        f"{_MACHINE}/holdings.py",
        "                if line is None or not line.left:\n                    self.pool.release(allocation)",
        "                pass",
    ),
    (
        "forget a reply that was refused",
        f"{_MACHINE}/replies.py",
        "            self._again_at[number] = now + self._again",
        "            del self._sent[number]",
    ),
    (
        "acknowledge a long task before the ledger knows that it is taken",
        f"{_MACHINE}/worker.py",
        "attempt.state.taking is Taking.confirmed",
        "attempt.state.taking is not Taking.not_yet",
        _STORIES,
    ),
    (
        "work on chunks that come while draining",
        f"{_MACHINE}/worker.py",
        "        if self.draining or self._seating.closes(bundle",
        "        if self._seating.closes(bundle",
        _STORIES,
    ),
    (
        "leave before everything is confirmed",
        f"{_MACHINE}/worker.py",
        "if not self.draining or self._have.attempts or not self._replies.empty or",
        "if not self.draining or self._have.running or",
    ),
    (
        "say goodbye once, whatever comes after it",
        f"{_MACHINE}/worker.py",
        "                if not self._have.attempts and self._replies.empty:\n                    self.exited = True\n                    yield Exit(0",
        "                if True:\n                    self.exited = True\n                    yield Exit(0",
        _STORIES,
    ),
    (
        "go on after the exit",
        f"{_MACHINE}/worker.py",
        "        if not self.exited:\n            yield from self._start(now)",
        "        if not self.draining or self.draining:\n            yield from self._start(now)",
        _STORIES,
    ),
    (
        "never give back what waits",
        f"{_MACHINE}/worker.py",
        "        self._lose_patience(now)\n",
        "",
        _STORIES,
    ),
    (
        "consume queues for which nothing is free",
        f"{_MACHINE}/credit.py",
        "            right = min(CREDIT_LIMIT, room.tasks), room.behind\n",
        "            right = max(1, min(CREDIT_LIMIT, room.tasks)), room.behind\n",
        _STORIES,
    ),
    (
        "count what is taken as what a queue has",
        f"{_MACHINE}/holdings.py",
        "if attempt.source == source and attempt.deliveries and isinstance",
        "if attempt.source == source and isinstance",
        _STORIES,
    ),
    (
        "stop an execution twice",
        f"{_MACHINE}/worker.py",
        "                    run.ending = Ending.revoked\n                    if ending is None:\n",
        "                    run.ending = Ending.revoked\n                    if ending is not Ending.abandoned:\n",
    ),
    (
        "start again what may have run elsewhere",
        f"{_MACHINE}/worker.py",
        "if delivery.redelivered:",
        "if delivery.redelivered and len(chunk.tasks) > 1:",
    ),
    (
        "fairness: wait for a large task no longer the next time",
        f"{_MACHINE}/reservation.py",
        "            self._double(source, 1)\n",
        "",
        _FAIRNESS,
    ),
    (
        "fairness: take other work while resources are kept",
        f"{_MACHINE}/room.py",
        "            return Room(busy, closed=True)\n",
        "            pass\n",
        _FAIRNESS,
    ),
    (
        "fairness: do not look into higher lanes while lower ones hold everything",
        f"{_MACHINE}/room.py",
        "more = pool.how_many(needs) if pool else 0",
        "more = 0",
        _FAIRNESS,
    ),
    (
        "fairness: hold the message of a large task for as long as it waits",
        f"{_MACHINE}/reservation.py",
        "return since + max(patience, min(until - since, visit))",
        "return max(until, since + patience)",
        _FAIRNESS,
    ),
    (
        "count as idle from the start of the last task",
        f"{_MACHINE}/worker.py",
        "        idle_since = now if self._busy or self._busy_at is None else self._busy_at",
        "        idle_since = now if self._busy_at is None else self._busy_at",
        _STORIES,
    ),
    (
        "leave what runs when the time is over",
        f"{_MACHINE}/worker.py",
        """            yield from self._stop(now, "the time of the worker is over")""",
        """            yield from self._drain(now, "the time of the worker is over")""",
        _STORIES,
    ),
    (
        "end when another boot was asked to",
        f"{_MACHINE}/worker.py",
        "                if (worker, boot) == (self.me.worker, self.me.boot):\n                    why =",
        "                if worker == self.me.worker:\n                    why =",
        _STORIES,
    ),
    (
        "end long tasks without a broker although they were to finish",
        f"{_MACHINE}/worker.py",
        " and self.lifetime.on_broker_lost is OnBrokerLost.stop:",
        ":",
        _STORIES,
    ),
    (
        "stop what runs although it was only called back",
        "worker/broker_jobs_worker/machine/worker.py",
        "as run if not covering.unstarted_only:",
        "as run:",
        "tests/unit/test_worker_machine.py",
    ),
    (
        "take a cancel for a pause",
        "worker/broker_jobs_worker/machine/memory.py",
        "return min(covering, key=",
        "return max(covering, key=",
        "tests/unit/test_worker_machine.py",
    ),
    (
        "min_time: do not leave the queue of tasks for which there is no time",
        f"{_MACHINE}/worker.py",
        "                yield from self._credit.leave(source, now)\n",
        "                pass\n",
        _STORIES,
    ),
    (
        "min_time: start what has waited until there is no time for it",
        f"{_MACHINE}/holdings.py",
        "self.pool.try_allocate(bundle.request, lifetime)",
        "self.pool.try_allocate(bundle.request)",
        _STORIES,
    ),
    (
        "min_time: come first for tasks that others have more time for",
        f"{_MACHINE}/room.py",
        "behind=self._ends and needs.lasting",
        "behind=False",
        _STORIES,
    ),
)
