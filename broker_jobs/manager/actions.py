"""What is done with managed jobs: rows, the client and functions of users brought together. The one shell of the manager."""

from __future__ import annotations

import logging
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any, Final

from broker_jobs.core.states import JOB_ENDED, JobState
from broker_jobs.errors import BrokerJobsError, JobActive, JobNotFound, SubmitUnknown, ValidationError, WrongStatus
from broker_jobs.manager import record as records
from broker_jobs.manager.functions import function
from broker_jobs.manager.kinds import kind_of
from broker_jobs.manager.parameters import key_of
from broker_jobs.manager.record import JobRecord, News
from broker_jobs.manager.statuses import ERROR, OF_TASKS, PAUSED, PENDING, RUNNING, Category, of_job

if TYPE_CHECKING:
    from collections.abc import Callable

    from broker_jobs.client.client import Client
    from broker_jobs.client.submitted import SubmittedJob
    from broker_jobs.manager.functions import Function
    from broker_jobs.manager.statuses import Status, Statuses
    from broker_jobs.manager.store import JobStore
    from broker_jobs.manager.workspaces import Workspaces

MOST_FAILURES: Final = 3
"""Failures of tasks that a message names."""

_LOST_MS: Final = 60_000
"""Whoever sends work is done with it by then, or is gone; and the ledger has what was sent."""

_LOG: Final = logging.getLogger(__name__)


class Actions:
    """What is done with the jobs of one manager. Everything may be called by several threads and processes.

    Args:
        client: opens the client, when it is needed
        facade: makes of a record what functions of users are given
    """

    def __init__(
        self,
        store: JobStore,
        statuses: Statuses,
        workspaces: Workspaces,
        client: Callable[[], Client],
        facade: Callable[[JobRecord], object],
    ) -> None:
        self.store = store
        self.statuses = statuses
        self.workspaces = workspaces
        self._client = client
        self._facade = facade
        self._listeners: dict[str, list[Function]] = {}
        self._works: weakref.WeakValueDictionary[str, SubmittedJob] = weakref.WeakValueDictionary()
        self._lock = threading.Lock()

    def listen(self, status: Status, listener: Function) -> None:
        """Call this with each job that gets this status here."""
        with self._lock:
            self._listeners.setdefault(key_of(status), []).append(listener)

    # --- what is wanted ---

    def execute(self, job_id: str, before: Callable[[], object] | None) -> SubmittedJob | None:
        """Send the work of a pending job, if it has any; where that fails, its status says so."""
        problem = self._prepared(job_id, lambda found: records.executed(found, _now()), before)
        _, record = self._change(job_id, lambda found: records.executed(found, _now()))
        return self._send(record, lambda client: kind_of(record.type).start(client, record, _key(record)), problem)

    def resubmit(self, job_id: str, before: Callable[[], object] | None, *, everything: bool) -> SubmittedJob | None:
        """Run a job again that has ended."""
        problem = self._prepared(job_id, lambda found: records.again(found, _now()), before)
        last, record = self._change(job_id, lambda found: records.again(found, _now()))

        def start(client: Client) -> SubmittedJob | None:
            if last.work:
                try:
                    work = self.work(last)
                    return work.resubmit(everything=everything or work.state is JobState.succeeded)
                except JobNotFound:
                    _LOG.info("the work of %s was forgotten, and is written anew", last)
            return kind_of(record.type).start(client, record, _key(record))

        return self._send(record, start, problem, last.work)

    def stop(self, job_id: str, reason: str) -> None:
        """End a job; one that has ended stays as it is."""
        record = self.store.get(job_id)
        if record.work and not record.ended:
            self.work(record).cancel(reason)
            self.update(job_id)
        else:
            self._change(job_id, lambda found: records.stopped(found, reason, _now()))

    def pause(self, job_id: str, reason: str) -> None:
        """Hold a job back."""
        self._hold(job_id, PAUSED, lambda work: work.pause(reason))

    def resume(self, job_id: str) -> None:
        """Let a job go on."""
        self._hold(job_id, RUNNING, lambda work: work.resume())

    def _hold(self, job_id: str, status: Status, ask: Callable[[SubmittedJob], object]) -> None:
        record = self._executed(job_id)
        if record.ended:
            return
        if not kind_of(record.type).has_work:
            self.set(job_id, status, None)
        else:
            ask(self._sent(record))
            self.update(job_id)

    def wait(self, job_id: str, timeout: float | None) -> None:
        """Wait for the end of the work, and take note of it."""
        record = self._executed(job_id)
        if not kind_of(record.type).has_work:
            raise ValidationError(f"{record} has no work that could be waited for: its status is set by hand")
        if not record.ended:
            self._sent(record).wait(timeout)
        self.update(job_id)

    def delete(self, job_id: str) -> None:
        """Delete a job with its workspace and what the ledger has of it."""

        def check(record: JobRecord) -> None:
            if not record.ended and Category.active in self.statuses.categories(record.status):
                raise JobActive(f"{record} is {record.status}: stop it, or wait for its end, before deleting it")

        record = self.store.get(job_id)
        check(record)
        if record.work:
            try:
                self._client().forget(record.work)
            except JobNotFound:
                _LOG.debug("the work of %s was forgotten already", record)
        self.store.delete(job_id, check)
        self.workspaces.remove(job_id)

    # --- what is heard ---

    def set(self, job_id: str, status: Status, message: str | None) -> None:
        """Take the word of its user for the status of a job."""

        def decide(found: JobRecord) -> JobRecord:
            has_work = kind_of(found.type).has_work
            return records.set_by_hand(found, status, message, self.statuses, _now(), has_work=has_work)

        self._change(job_id, decide)
        self.process(job_id)

    def update(self, job_id: str) -> None:
        """Ask for the work of a job, if it has not ended, and process its results, if it has."""
        record = self.store.get(job_id)
        if not record.ended and record.status != PENDING and kind_of(record.type).has_work:
            news = self._news(record) if record.work else self._found(record)
            if news is not None:
                self._change(job_id, lambda found: records.heard_of_work(found, news, self.statuses, _now()))
        self.process(job_id)

    def process(self, job_id: str, *, once_more: bool = False) -> None:
        """Call the user's function with a job that has succeeded; of all who try, one does it."""
        record = self.store.get(job_id)
        if not record.process_results or records.processing(record, record.run, once_more=once_more) is record:
            return
        try:
            call = function(record.process_results)
        except ValidationError as error:
            # Another process may have what is missing here: the results stay ready for it.
            self._remark(job_id, f"results are not processed yet: {error}")
            return
        before, claimed = self._change(job_id, lambda found: records.processing(found, record.run, once_more=once_more))
        if claimed is before:
            return
        problem = self._called(call, claimed, record.process_results)
        self._change(job_id, lambda found: records.processed(claimed, found, problem))

    def work(self, record: JobRecord) -> SubmittedJob:
        """The client's job of a record; as long as somebody keeps it, its news are pushed."""
        with self._lock:
            known = self._works.get(record.work)
        if known is None:
            known = self._client().job(record.work)
            with self._lock:
                known = self._works.setdefault(record.work, known)
        return known

    def _news(self, record: JobRecord) -> News | None:
        """What the ledger says of the work."""
        try:
            work = self.work(record)
            info = work.info()
            if work.view.ended and info.state not in JOB_ENDED:
                for _ in work.events():  # the ledger hears of an end a moment after a client that has submitted the job
                    pass
                info = work.info()
        except JobNotFound:
            return self._lost(record, "its work is gone: it was forgotten, or belongs to another broker")
        status = of_job(info.state, info.counts)
        if info.state not in JOB_ENDED:
            return News(status, record.run, started_ms=info.started_ms)
        return News(status, record.run, _story(work, info.reason), info.started_ms, info.ended_ms, nodes(work))

    def _found(self, record: JobRecord) -> News | None:
        """News of work of which nobody has written down that it was sent."""
        unsent = self._lost(record, "whoever executed it has ended before it was sent; use resubmit()")
        if unsent is None:
            return None
        try:
            work = self._client().job(f"key:{_key(record)}")
        except JobNotFound:
            return unsent
        _, after = self._change(record.id, lambda found: records.sent(found, record.run, work.id))
        return self._news(after) if after.work == work.id else None

    # --- inside ---

    def _lost(self, record: JobRecord, message: str) -> News | None:
        """An end for what should be there; nothing as long as it may be on its way."""
        return News(ERROR, record.run, message) if _now() - (record.executed_ms or 0) >= _LOST_MS else None

    def _sent(self, record: JobRecord) -> SubmittedJob:
        if not record.work:
            raise WrongStatus(f"{record} is being sent: try again in a moment")
        return self.work(record)

    def _executed(self, job_id: str) -> JobRecord:
        record = self.store.get(job_id)
        if record.status == PENDING:
            raise WrongStatus(f"{record} is pending: execute() it first")
        return record

    def _prepared(self, job_id: str, allowed: Callable[[JobRecord], JobRecord], before: Callable[[], object] | None) -> Exception | None:
        """Call what comes before the work, where that may be sent: what it raised, or None.

        The status is still the old one. It may take long, and whoever has said that it sends work has to be quick (`_lost`).
        """
        if before is not None:
            allowed(self.store.get(job_id))
            try:
                before()
            except Exception as error:  # noqa: BLE001 (it becomes the status)
                return error
        return None

    def _send(
        self, record: JobRecord, start: Callable[[Client], SubmittedJob | None], problem: Exception | None, earlier: str = ""
    ) -> SubmittedJob | None:
        """Send the work of this run, and write down what came of it, or of what came before."""
        if problem is not None:
            self._unsent(record, problem, earlier)
            return None
        if not kind_of(record.type).has_work:
            return None
        try:
            work = start(self._client())
        except SubmitUnknown as error:
            # It may run: `update` looks for it.
            self._remark(record.id, str(error))
            return None
        except Exception as error:  # noqa: BLE001 (whatever it was, whoever looks at the row must see it)
            self._unsent(record, error, earlier)
            return None
        if work is None:
            return None
        with self._lock:
            self._works[work.id] = work
        _, after = self._change(record.id, lambda found: records.sent(found, record.run, work.id))
        if after.ended or after.run != record.run:
            work.cancel("it was stopped while it was sent")
        return work

    def _unsent(self, record: JobRecord, error: Exception, earlier: str) -> None:
        """Write down why the work of this run was not sent."""
        text = str(error) if isinstance(error, BrokerJobsError) else f"{type(error).__name__}: {error}"
        _LOG.warning("%s could not be sent: %s", record, text)
        self._change(record.id, lambda found: records.failed(found, record.run, text, _now(), earlier))

    def _change(self, job_id: str, decide: Callable[[JobRecord], JobRecord]) -> tuple[JobRecord, JobRecord]:
        """Change a row, and tell those who want to know of its new status."""
        before, after = self.store.change(job_id, decide)
        if after.status != before.status:
            self._tell(after)
        return before, after

    def _tell(self, record: JobRecord) -> None:
        """Call back; what goes wrong is written down, and harms nothing."""
        key = key_of(record.status)
        with self._lock:
            listeners = list(self._listeners.get(key, ()))
        problems = [self._called(listener, record, _name(listener)) for listener in listeners]
        path = record.callbacks.get(key)
        if path is not None:
            try:
                problems.append(self._called(function(path), record, path))
            except ValidationError as error:
                problems.append(f"its callback was not called: {error}")
        for problem in filter(None, problems):
            self._remark(record.id, problem)

    def _remark(self, job_id: str, text: str) -> None:
        """Keep a word with a job."""
        self.store.change(job_id, lambda found: records.remarked(found, text))

    def _called(self, call: Function, record: JobRecord, name: str) -> str | None:
        """Call a function of a user with a job; what it raised, or None."""
        try:
            call(self._facade(record))
        except Exception as error:  # noqa: BLE001 (it is the user's, and harms nothing of ours)
            _LOG.exception("%s failed with %s", name, record)
            return f"{name} raised {type(error).__name__}: {error}"
        return None


def nodes(work: SubmittedJob) -> tuple[dict[str, Any], ...]:
    """The tasks of the work as they are now, as the row keeps them."""
    return tuple(
        {"name": task.name, "status": OF_TASKS[task.state].value, "message": task.reason, "attempts": task.attempt} for task in work.tasks()
    )


def _story(work: SubmittedJob, reason: str) -> str:
    """Why the work did not succeed; empty where it did."""
    errors = work.errors()
    names = {task.number: task.name for task in work.tasks()} if len(errors) > 0 else {}
    shown = [f"{names.get(number, number)}: {error.message}" for number, error in sorted(errors.items())[:MOST_FAILURES]]
    more = [f"and {len(errors) - MOST_FAILURES} more"] if len(errors) > MOST_FAILURES else []
    return "; ".join([*shown, *more]) or reason


def _key(record: JobRecord) -> str:
    """The idempotency key of a run."""
    return f"managed:{record.id}:{record.run}"


def _name(listener: Function) -> str:
    return f"{getattr(listener, '__module__', '')}.{getattr(listener, '__qualname__', repr(listener))}"


def _now() -> int:
    return time.time_ns() // 1_000_000
