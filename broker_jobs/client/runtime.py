"""The event loop of a client: in a thread of its own, with one connection, ended at the end of the process at the latest.

In a process that was forked, the parent's loop and connection are left alone, and a new one is made when it is needed.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import sys
import threading
import time
from collections.abc import AsyncGenerator
from concurrent.futures import CancelledError
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from broker_jobs.client.core import Core
from broker_jobs.client.watching import settled
from broker_jobs.errors import BrokerJobsError, ClientClosed
from broker_jobs.ids import partition_of, reference

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
    from concurrent.futures import Future

    from broker_jobs.client.link import Link
    from broker_jobs.hooks.calling import Hooks

_Result = TypeVar("_Result")

MOST_NAMED: Final = 5
_LAST_QUESTION: Final = 1.0


class Runtime:
    """A loop, its thread and its core.

    Args:
        open_link: connects
        follow: how to follow the jobs of this connection on the command line: further options

    Attributes:
        hooks: plugins, where there are some; to be set before it connects
    """

    def __init__(self, open_link: Callable[[], Coroutine[Any, Any, Link]], follow: str = "") -> None:
        self._open_link = open_link
        self._follow = follow
        self._closed = False
        self.reports_left_work = True
        self.hooks: Hooks | None = None
        self.reset()

    def reset(self) -> None:
        """Begin anew, without touching what was: it belongs to the parent process."""
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._core: Core | None = None

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The running loop."""
        self.connect()
        if self._loop is None:
            raise ClientClosed
        return self._loop

    def connect(self) -> Core:
        """The core, connected.

        Raises:
            ClientClosed: after `close`
            BrokerError: the broker cannot be reached or used
        """
        core = self._core
        if core is not None:
            return core
        with self._lock:
            if self._closed:
                raise ClientClosed
            if self._core is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=self._loop.run_forever, name="broker-jobs client", daemon=True)
                self._thread.start()
                _alive.add(self)
                try:
                    self._core = asyncio.run_coroutine_threadsafe(self._open(), self._loop).result()
                except BaseException:
                    self._stop()
                    raise
            return self._core

    def start(self, work: Callable[[Core], Coroutine[Any, Any, _Result]]) -> Future[_Result]:
        """Run something on the loop."""
        core = self.connect()
        self.refuse_own_thread()
        return asyncio.run_coroutine_threadsafe(work(core), self.loop)

    def refuse_own_thread(self) -> None:
        """Raise where the loop itself would wait for what it has to do, as in a coroutine of a plugin."""
        if threading.current_thread() is self._thread:
            raise RuntimeError("this would wait for itself: it was called on the thread that would have to do it")

    def run(self, work: Callable[[Core], Coroutine[Any, Any, _Result]]) -> _Result:
        """Run something on the loop, and wait for it."""
        return self.wait(self.start(work))

    def wait(self, future: Future[_Result]) -> _Result:
        """Wait for something that runs on the loop; Ctrl-C ends it."""
        try:
            return future.result()
        except CancelledError:
            raise ClientClosed("the client was closed meanwhile") from None
        except BaseException:
            future.cancel()
            raise

    def steps(self, items: Callable[[Core], AsyncIterator[_Result]]) -> Steps[_Result]:
        """An asynchronous iterator that lives on the loop, to be taken step by step."""
        return Steps(self, items(self.connect()))

    def iterate(self, items: Callable[[Core], AsyncIterator[_Result]]) -> Iterator[_Result]:
        """The items of an asynchronous iterator that lives on the loop."""
        steps = self.steps(items)
        try:
            while found := self.wait(steps.next()):
                yield found[0]
        finally:
            if not self._closed:
                self.wait(steps.end())

    def post(self, action: Callable[..., object], *args: object) -> None:
        """Do something on the loop, without waiting for it."""
        self.loop.call_soon_threadsafe(action, *args)

    def close(self) -> None:
        """Cancel calls that have not started, and end connection and thread; again does nothing."""
        self.refuse_own_thread()
        keep_calls = self._farewell()
        with self._lock:
            if self._closed:
                return
            self._closed = True
            core, loop = self._core, self._loop
            if core is None or loop is None:
                return
            try:
                left = asyncio.run_coroutine_threadsafe(_end(core, keep_calls=keep_calls), loop).result()
            finally:
                self._stop()
        if self.reports_left_work:
            _left.update(dict.fromkeys(sorted(left), self._follow))

    async def _open(self) -> Core:
        return Core(await self._open_link(), self.hooks)

    def _farewell(self) -> bool:
        """Tell plugins what is left to tell, and the end; whether one of them keeps the calls that have not started."""
        hooks, self.hooks = self.hooks, None
        core, loop = self._core, self._loop
        if hooks is None or core is None or loop is None:
            return False
        begun = time.monotonic()
        asyncio.run_coroutine_threadsafe(settled(core, hooks.patience / 2), loop).result()
        return bool(hooks.close(max(0.0, hooks.patience - (time.monotonic() - begun))))

    def _stop(self) -> None:
        """End the loop with all that runs on it."""
        loop, thread = self._loop, self._thread
        self._core = self._loop = self._thread = None
        _alive.discard(self)
        if loop is None or thread is None:
            return
        asyncio.run_coroutine_threadsafe(_cancel_all(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


class Steps(Generic[_Result]):
    """An asynchronous iterator that lives on another loop."""

    def __init__(self, runtime: Runtime, iterator: AsyncIterator[_Result]) -> None:
        self._runtime = runtime
        self._iterator = iterator
        self._turn = asyncio.Lock()  # a step that nobody waits for any more is canceled, which takes a moment

    def next(self) -> Future[tuple[_Result, ...]]:
        """The next item, alone in a tuple; an empty one at the end."""
        return self._runtime.start(self._next)

    def end(self) -> Future[None]:
        """Take no further items."""
        return self._runtime.start(self._end)

    async def _next(self, _core: Core) -> tuple[_Result, ...]:
        async with self._turn:
            async for item in self._iterator:
                return (item,)
            return ()

    async def _end(self, _core: Core) -> None:
        async with self._turn:
            if isinstance(self._iterator, AsyncGenerator):
                await self._iterator.aclose()


async def _end(core: Core, *, keep_calls: bool) -> set[str]:
    """Close the core; the jobs that are left."""
    left = set(core.unfinished)
    try:
        async with asyncio.timeout(_LAST_QUESTION):
            for job in sorted(left):
                await core.info(core.follow(job))
            left &= core.unfinished
    except (TimeoutError, BrokerJobsError):
        left &= core.unfinished  # what is not known to have ended goes on, as far as we know
    await core.close(keep_calls=keep_calls)
    return left


async def _cancel_all() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.get_running_loop().shutdown_asyncgens()


_alive: set[Runtime] = set()
_left: dict[str, str] = {}
_of_parents: list[object] = []


def _at_exit() -> None:
    for runtime in tuple(_alive):
        runtime.close()
    if _left:
        print(left_line(_left), file=sys.stderr)  # noqa: T201 (the one line that a script leaves behind)


def left_line(left: dict[str, str]) -> str:
    """What a script says that leaves work behind.

    Args:
        left: ids of the jobs, with the options that the command line needs
    """
    options = next(iter(left.values()))
    names = " ".join(reference(job) for job in left) if len(left) <= MOST_NAMED else ""
    partitions = {partition_of(job) for job in left}
    if not names and len(partitions) == 1 and any(partitions):
        options += f" --partition {partitions.pop()}"
    many = "1 submitted job is" if len(left) == 1 else f"{len(left)} submitted jobs are"
    return f"broker-jobs: {many} not finished and will go on; follow with: broker-jobs job {f'wait {names}' if names else 'list'}{options}"


def _after_fork() -> None:
    """The threads of the parent are not here, and its connections are not ours: keep them from being closed."""
    for runtime in tuple(_alive):
        _of_parents.append((runtime._loop, runtime._thread, runtime._core))  # noqa: SLF001 (of this module)
        runtime.reset()
    _alive.clear()
    _left.clear()


atexit.register(_at_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
