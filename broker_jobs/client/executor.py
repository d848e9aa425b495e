"""`concurrent.futures.Executor` over broker-jobs: each submission is a task; what is submitted in quick succession travels together."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections import Counter
from concurrent.futures import Executor, Future
from concurrent.futures import wait as futures_done
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar, cast

from broker_jobs.client.chunking import share
from broker_jobs.client.results import failure, value_of
from broker_jobs.core.outcome import Failed
from broker_jobs.core.states import TaskState
from broker_jobs.core.value import Stored
from broker_jobs.errors import BrokerJobsError, ClientClosed, TaskFailed
from broker_jobs.wire.messages import Call

if TYPE_CHECKING:
    from collections.abc import Callable

    from broker_jobs.client.calls import Caller
    from broker_jobs.client.chunking import OpenClasses
    from broker_jobs.client.encoding import Encoded
    from broker_jobs.client.jobview import Ending

_Params = ParamSpec("_Params")
_Result = TypeVar("_Result")

CANCEL_REASON: Final = "its future was canceled"
_TOGETHER: Final = 0.001


class CallFuture(Future[Any]):
    """The future of one call. It can be canceled as long as the call has not started anywhere."""

    def __init__(self, executor: CallExecutor) -> None:
        super().__init__()
        self._executor = executor
        self.job: str | None = None
        self.number = 0

    def running(self) -> bool:
        """Whether a worker has started the call, as far as is known here."""
        return not self.done() and self._executor.started(self)

    def cancel(self) -> bool:
        """Cancel the call if it has not started; asks the coordinator, and so may wait for it."""
        if self.done():
            return self.cancelled()
        return self._executor.cancel(self)

    def cancel_here(self) -> bool:
        """It was canceled."""
        return super().cancel() and not self.set_running_or_notify_cancel()


class _Pending:
    """Submissions that travel together: one job.

    Args:
        job: its id

    Attributes:
        sent: no more can be added
    """

    def __init__(self, job: str) -> None:
        self.job = job
        self.calls: list[tuple[Encoded, CallFuture]] = []
        self.is_open: OpenClasses = frozenset()
        self.sent = False


class CallExecutor(Executor):
    """Runs functions on workers. Made by `Client.executor`."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller
        self._lock = threading.Lock()
        self._pending: _Pending | None = None
        self._sent_at = 0.0
        self._open: set[CallFuture] = set()
        self._unread: dict[str, int] = {}
        self._shut = False
        self._deliveries: queue.SimpleQueue[list[tuple[CallFuture, Ending | BrokerJobsError]] | None] = queue.SimpleQueue()
        self._deliverer: threading.Thread | None = None

    def submit(self, fn: Callable[_Params, _Result], /, *args: _Params.args, **kwargs: _Params.kwargs) -> Future[_Result]:
        """Call a function on a worker.

        Raises:
            UnpicklableError, ValueTooLarge: function or arguments cannot be sent
            RuntimeError: after `shutdown`
        """
        future = CallFuture(self)
        mine = self._pending or _Pending(self._caller.new_job())
        # Pickling runs code of the user, so it happens without the lock; then others may have been faster.
        encoded = self._caller.encode(self._caller.encoder(mine.job), fn, args, kwargs)
        is_open = self._caller.open_classes()
        with self._lock:
            if self._shut:
                raise RuntimeError("cannot schedule new futures after shutdown")
            pending = self._pending
            if pending is None:
                pending = self._pending = _Pending(self._caller.new_job()) if mine.sent else mine
                self._caller.runtime.post(self._flush_soon)
            if pending is not mine and isinstance(encoded.task.work, Call) and isinstance(encoded.task.work.args, Stored):
                encoded = self._caller.encode(self._caller.encoder(pending.job), fn, args, kwargs)
            if self._deliverer is None:
                self._deliverer = threading.Thread(target=self._hand_over, name="broker-jobs results", daemon=True)
                self._deliverer.start()
            pending.is_open = is_open
            pending.calls.append((encoded, future))
            self._open.add(future)
        return cast("Future[_Result]", future)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: FBT001, FBT002 (the signature of the standard library)
        """Take no further calls.

        Args:
            wait: return when all calls are done
            cancel_futures: cancel those that have not started
        """
        with self._lock:
            self._shut = True
            left = tuple(self._open)
        if cancel_futures:
            for future in left:
                future.cancel()
        if wait:
            futures_done(left)
        with self._lock:
            self._leave_if_done()

    def started(self, future: CallFuture) -> bool:
        """Whether a call is known to have started."""
        job = future.job
        return job is not None and self._caller.runtime.connect().started(job, future.number)

    def cancel(self, future: CallFuture) -> bool:
        """Cancel a call that has not started; whether it is canceled."""
        with self._lock:
            pending = self._pending
            if pending and future.job is None:
                pending.calls = [(encoded, other) for encoded, other in pending.calls if other is not future]
                self._discard(future)
                return future.cancel_here()
        job, number = future.job, future.number
        if job is None or self.started(future):
            return False
        result = self._caller.runtime.run(lambda core: core.cancel(job, (number,), CANCEL_REASON, unstarted_only=True))
        if not result.before_start:
            return False
        with self._lock:
            self._discard(future)
        return future.cancel_here()

    def _flush_soon(self) -> None:
        """Send what is there, but not more often than each `_TOGETHER`; runs on the loop."""
        left = self._sent_at + _TOGETHER - time.monotonic()
        if left > 0:
            self._caller.runtime.loop.call_later(left, self._flush)
        else:
            self._flush()

    def _flush(self) -> None:
        """Send what has come together; runs on the loop."""
        self._sent_at = time.monotonic()
        with self._lock:
            pending, self._pending = self._pending, None
            if pending is None:
                return
            pending.sent = True
            if not pending.calls:
                return
            callee = pending.calls[0][0].callee
            alike = all(encoded.callee == callee for encoded, _ in pending.calls)
            most = share(len(self._open), worth=self._caller.worth(callee) if alike else 1)
            futures = [future for _, future in pending.calls]
            for number, future in enumerate(futures):
                future.job, future.number = pending.job, number
            self._unread[pending.job] = len(futures)
        put = self._deliveries.put

        def fail(error: BrokerJobsError) -> None:
            put([(futures[number], error) for number in batch.open])

        calls = [encoded for encoded, _ in pending.calls]
        try:
            batch = self._caller.batch(
                pending.job,
                calls,
                pending.is_open,
                lambda endings: put([(futures[ending.number], ending) for ending in endings]),
                fail,
                most=most,
            )
        except BrokerJobsError as error:
            put([(future, error) for future in futures])
        else:
            self._caller.runtime.connect().launch(batch)

    def _hand_over(self) -> None:
        """Load values and wake those who wait, on a thread of its own: both run code of the user."""
        while (deliveries := self._deliveries.get()) is not None:
            for future, ending in deliveries:
                _settle(future, ending)
            with self._lock:
                self._open.difference_update([future for future, _ in deliveries])
                self._leave_if_done()
            for job, count in Counter(future.job for future, _ in deliveries).items():
                self._count_read(job, count)

    def _count_read(self, job: str | None, count: int) -> None:
        """Drop a job when the last of its values was read."""
        if job is not None:
            self._unread[job] -= count
            if not self._unread[job]:
                del self._unread[job]
                with contextlib.suppress(ClientClosed):  # then the coordinator drops it after an hour
                    self._caller.forget(job)

    def _discard(self, future: CallFuture) -> None:
        self._open.discard(future)
        self._leave_if_done()

    def _leave_if_done(self) -> None:
        if self._shut and not self._open:
            self._deliveries.put(None)


def _settle(future: CallFuture, ending: Ending | BrokerJobsError) -> None:
    """Give a future what has come of its call."""
    if future.done():
        return
    if not isinstance(ending, BrokerJobsError) and ending.state is TaskState.canceled:
        future.cancel_here()
        return
    if not future.set_running_or_notify_cancel():
        return
    if isinstance(ending, BrokerJobsError):
        future.set_exception(ending)
    elif isinstance(ending.outcome, Failed):
        future.set_exception(_raised(failure(ending, ending.outcome, future.job or "")))
    else:
        try:
            value = value_of(ending, future.job or "")
        except Exception as error:  # noqa: BLE001 (loading runs code of the user, which may raise anything; it is theirs to see)
            future.set_exception(error)
        else:
            future.set_result(value)


def _raised(error: TaskFailed) -> Exception:
    """The task's own exception, with the remote traceback as its cause; else the failure itself."""
    own = error.__cause__
    if not isinstance(own, Exception):
        return error
    error.__cause__ = None
    own.__cause__ = error
    return own
