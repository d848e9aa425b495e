"""Plugins at work: each has a thread of its own, in which its hooks are called one after the other.

So the moments of a plugin come in order, a slow plugin stops neither the client nor another plugin, and one that hangs is left behind:
the thread is a daemon. Coroutines are handed to the event loop that the owner names, and the plugin's thread waits for them.
An exception is logged and counted, and that is all that comes of it.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import logging
import os
import threading
import time
from collections import Counter, deque
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from broker_jobs.hooks.facts import JobNow, TaskNow
from broker_jobs.hooks.order import POLLING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence

    from broker_jobs.hooks.facts import Moment
    from broker_jobs.hooks.plugins import Hook, Plugin

REPORT_EVERY: Final = 1000
"""Of moments that are dropped, the first is reported, and then one in so many."""

BEGINNING: Final = "on_init"
ENDING: Final = "on_shutdown"

_log = logging.getLogger("broker_jobs.hooks")

_Of = TaskNow | JobNow | None


@dataclass(frozen=True, slots=True)
class Refusal:
    """A plugin has said no."""

    plugin: str
    of: _Of


@dataclass(slots=True)
class _Item:
    """A hook to be called of something, or of several things in turn; the answer is the refusals.

    Attributes:
        latest: what it is called of is looked up when its turn comes
    """

    hook: str
    of: Callable[[], Iterable[_Of]]
    answer: Future[list[Refusal]] | None = None
    latest: tuple[str, int] | None = None


_inside: contextvars.ContextVar[object] = contextvars.ContextVar("broker_jobs_plugin", default=None)
"""The plugin in whose hook this runs; goes along to the client's loop, and with `asyncio.to_thread`."""


class _Caller:
    """One plugin and its thread."""

    def __init__(self, plugin: Plugin, first: dict[str, object], run: Callable[[Coroutine[Any, Any, object]], object], most: int) -> None:
        self.plugin = plugin
        self.failures: Counter[str] = Counter()
        self.dropped = 0
        self._first = first
        self._run = run
        self._most = most
        self._begin()

    def _begin(self) -> None:
        self._items: deque[_Item] = deque()
        self._there = threading.Condition()
        self._latest: dict[tuple[str, int], TaskNow] = {}
        self._late: Future[list[Refusal]] | None = None
        self._thread: threading.Thread | None = None
        self._over = False
        self._pid = os.getpid()

    @property
    def name(self) -> str:
        return self.plugin.name

    @property
    def hangs(self) -> bool:
        """Whether it has not answered in time, and still has not."""
        return self._late is not None and not self._late.done()

    @property
    def waiting(self) -> int:
        """Moments that it was not told of yet."""
        return len(self._items)

    def put(self, hook: str, of: Callable[[], Iterable[_Of]], *, latest: TaskNow | None = None, answer: bool = False) -> _Item | None:
        """Let a hook be called in its turn; None where that will not happen."""
        if self._pid != os.getpid():
            self._begin()  # a child of this process has no thread of it
        with self._there:
            if self._over:
                return None
            if latest is not None:
                key = latest.job, latest.number
                known = key in self._latest
                self._latest[key] = latest
                if known:
                    return None
            elif len(self._items) >= self._most and not answer:
                self._drop(hook)
                return None
            if not self._running():
                return None
            item = _Item(hook, of, Future() if answer else None, None if latest is None else (latest.job, latest.number))
            if item.answer is not None:
                item.answer.set_running_or_notify_cancel()  # whoever stops waiting cannot take it back
            self._items.append(item)
            self._there.notify()
        return item

    def late(self, item: _Item, patience: float) -> None:
        """It has not answered in time: nobody waits for it any more, until it has."""
        self._late = item.answer
        self.failures[item.hook] += 1
        _log.error("plugin %r has not answered %s within %g s, and is not waited for", self.name, item.hook, patience)

    def end(self, patience: float) -> None:
        """Call nothing more, after the hook that is being called."""
        with self._there:
            self._over = True
            left = len(self._items)
            self._items.clear()
            self._there.notify()
        thread = self._thread
        if left:
            _log.warning("plugin %r was not told of %d moments: it was too slow for the end", self.name, left)
        if thread is not None and thread is not threading.current_thread() and self._pid == os.getpid() and not self.hangs:
            thread.join(patience)

    def _running(self) -> bool:
        """Whether it has its thread; at the end of an interpreter it may get none."""
        if self._thread is None:
            thread = threading.Thread(target=self._work, name=f"broker-jobs plugin {self.name}", daemon=True)
            try:
                thread.start()
            except RuntimeError:
                self._over = True
                _log.exception("plugin %r is told of nothing any more", self.name)
                return False
            self._thread = thread
        return True

    def _drop(self, hook: str) -> None:
        self.dropped += 1
        if self.dropped % REPORT_EVERY == 1:
            _log.warning("plugin %r is too slow: %s was dropped, and %d moments in all", self.name, hook, self.dropped)

    def _work(self) -> None:
        _inside.set(self)
        there = self._there
        while True:
            with there:
                while not self._items and not self._over:
                    there.wait()
                if self._over:
                    return
                item = self._items.popleft()
                latest = None if item.latest is None else self._latest.pop(item.latest)
            refusals = self._call_all(item, item.of() if latest is None else (latest,))
            if item.answer is not None:
                item.answer.set_result(refusals)

    def _call_all(self, item: _Item, of: Iterable[_Of]) -> list[Refusal]:
        hook = self.plugin.hooks.get(item.hook)
        if hook is None:
            return []
        return [Refusal(self.name, one) for one in of if self._call(item.hook, hook, one) is False]

    def _call(self, name: str, hook: Hook, of: _Of) -> object:
        try:
            answer = hook.call({**self._first, "task": of, "job": of})
            return self._run(_awaited(answer)) if inspect.isawaitable(answer) else answer
        except BaseException:  # noqa: BLE001 (whatever a plugin raises, `SystemExit` included, harms nothing but itself)
            self.failures[name] += 1
            _log.exception("plugin %r: %s has failed", self.name, name)
            return None


class Hooks:
    """All plugins of a client or a coordinator.

    Args:
        plugins: at least one
        first: name and value of the argument that says where this is
        run: runs a coroutine, and waits for it; called in the thread of a plugin
        patience: seconds for which a plugin that may say no is waited for
        most: moments that wait for a plugin; further ones are dropped
    """

    def __init__(
        self,
        plugins: Sequence[Plugin],
        first: tuple[str, object],
        run: Callable[[Coroutine[Any, Any, object]], object],
        *,
        patience: float,
        most: int,
    ) -> None:
        self.patience = patience
        self._callers = [_Caller(plugin, dict([first]), run, most) for plugin in plugins]
        self._wanted = frozenset(hook for plugin in plugins for hook in plugin.hooks)

    def failures(self) -> dict[str, int]:
        """How often hooks have raised or not answered in time, by plugin and hook."""
        return {f"{caller.name}.{hook}": count for caller in self._callers for hook, count in caller.failures.items()}

    def dropped(self) -> dict[str, int]:
        """Moments that plugins were not told of, because they were too slow."""
        return {caller.name: caller.dropped for caller in self._callers if caller.dropped}

    def wants(self, *hooks: str) -> bool:
        """Whether a plugin has one of these."""
        return not self._wanted.isdisjoint(hooks)

    def tell(self, moments: Sequence[Moment]) -> None:
        """Let plugins be told of these, in this order, without waiting for it."""
        for moment in moments:
            if moment.hook in self._wanted:
                latest = moment.of if moment.hook == POLLING and isinstance(moment.of, TaskNow) else None
                for caller in self._callers:
                    if moment.hook in caller.plugin.hooks:
                        caller.put(moment.hook, _one(moment.of), latest=latest)

    def tell_all(self, hook: str, of: Callable[[], Iterable[_Of]]) -> None:
        """Let a hook be called of each of these, without waiting for it."""
        for caller in self._callers:
            if hook in caller.plugin.hooks:
                caller.put(hook, of)

    def ask(self, hook: str, of: Callable[[], Iterable[_Of]], within: float | None = None) -> list[Refusal]:
        """Call a hook of each of these, and wait; who has said no to what.

        A plugin is not waited for where it asks itself (its hook submits or cancels something), and where it hangs.

        Args:
            within: seconds to wait instead of the patience
        """
        patience = self.patience if within is None else within
        deadline = time.monotonic() + patience
        refusals: list[Refusal] = []
        for caller, item, answer in self._asked(hook, of):
            try:
                refusals += answer.result(max(0.0, deadline - time.monotonic()))
            except TimeoutError:
                caller.late(item, patience)
        return refusals

    async def ask_async(self, hook: str, of: Callable[[], Iterable[_Of]]) -> list[Refusal]:
        """The same, awaited on an event loop."""
        deadline = time.monotonic() + self.patience
        refusals: list[Refusal] = []
        for caller, item, answer in self._asked(hook, of):
            waited = asyncio.shield(asyncio.wrap_future(answer))
            try:
                refusals += await asyncio.wait_for(waited, max(0.0, deadline - time.monotonic()))
            except TimeoutError:
                caller.late(item, self.patience)
        return refusals

    def begin(self) -> None:
        """Tell that it has begun."""
        self.tell_all(BEGINNING, _one(None))

    def close(self, within: float) -> list[Refusal]:
        """Tell what is left, and the end; who has said no to it. Takes no longer than so many seconds, whatever a plugin does."""
        deadline = time.monotonic() + within
        refusals = self.ask(ENDING, _one(None), within)
        for caller in self._callers:
            caller.end(max(0.0, deadline - time.monotonic()))
        return refusals

    def _asked(self, hook: str, of: Callable[[], Iterable[_Of]]) -> list[tuple[_Caller, _Item, Future[list[Refusal]]]]:
        """Put a question to those that have the hook; at the end to all, so that everything before it was told."""
        asked = []
        for caller in self._callers:
            if hook not in caller.plugin.hooks and hook != ENDING:
                continue
            own = _inside.get() is caller
            if caller.hangs and not own:
                _log.warning("plugin %r still hangs, and is not asked for %s", caller.name, hook)
                continue
            item = caller.put(hook, of, answer=not own)
            if item is not None and item.answer is not None:
                asked.append((caller, item, item.answer))
        return asked


async def _awaited(answer: Awaitable[object]) -> object:
    return await answer


def _one(of: _Of) -> Callable[[], Iterable[_Of]]:
    return lambda: (of,)
