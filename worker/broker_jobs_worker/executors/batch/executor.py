"""The executor that runs programs as jobs of a batch system.

A program becomes a script in a folder of its own, which the batch system runs somewhere. All jobs are looked after by one loop: it looks
for exit codes in their folders, asks the batch system for all of them at once, now and then, and `watch` says what follows.
A job that is to end is canceled until the batch system does not know it any more.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from itertools import count
from typing import TYPE_CHECKING, Final, assert_never

from broker_jobs.core.outcome import Canceled, Cause, Crashed, Failed
from broker_jobs.data.excerpt import excerpt_of
from broker_jobs.wire.messages import Output, Piece, Program
from broker_jobs_worker.executors.batch import watch
from broker_jobs_worker.executors.batch.ending import gather
from broker_jobs_worker.executors.batch.folders import Folders, Seen, remove
from broker_jobs_worker.executors.batch.port import BatchJob, JobRefused, JobState, SchedulerSilent
from broker_jobs_worker.executors.batch.record import Record
from broker_jobs_worker.executors.batch.running import DEFAULT_PACE, Pace, Running, unfit
from broker_jobs_worker.executors.batch.script import Place, script
from broker_jobs_worker.executors.port import ExecutionEnded, ExecutionProgressed, ExecutionsRecalled, Legacy
from broker_jobs_worker.executors.spool import file_name
from broker_jobs_worker.executors.verdicts import OutputUp, TimeUp, condemned
from broker_jobs_worker.runners.program import exited

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
    from pathlib import Path
    from typing import TypeVar

    from broker_jobs.core.outcome import Outcome
    from broker_jobs_worker.executors.archive import Archive
    from broker_jobs_worker.executors.batch.port import Scheduler
    from broker_jobs_worker.executors.port import Execution, ExecutionNews

    _Answer = TypeVar("_Answer")

_log = logging.getLogger(__name__)

MOST_SUBMITTING: Final = 8
"""So many jobs are handed over at the same time."""
AWAY: Final = 600.0
"""Seconds that a worker may take to come back to its jobs."""
_STOPPED: Final = Canceled("the worker stops")
_SHARE: Final = 10
"""Looking into folders takes at most this part of the time, however many there are."""


class BatchExecutor:
    """Runs programs in a batch system; see `broker_jobs_worker.executors.port.Executor`.

    Args:
        report: is called on the event loop with the news
        scheduler: the batch system
        system: what it is called
        folder: of this worker alone, seen by all hosts of the batch system; it is made where it is missing
        archive: takes output that is kept, on the same file system
        options: for each job, unless its task says otherwise
        owner: a name of this host, by which workers of it know folders that nobody will come back to
        returns: whether another process may be this worker when this one is gone
        pace: how often is looked
    """

    def __init__(
        self,
        report: Callable[[ExecutionNews], None],
        scheduler: Scheduler,
        system: str,
        *,
        folder: Path,
        archive: Archive,
        options: Mapping[str, tuple[str, ...]],
        owner: str,
        returns: bool = True,
        pace: Pace = DEFAULT_PACE,
    ) -> None:
        self._report = report
        self._scheduler = scheduler
        self._system = system
        self._folders = Folders(folder, archive)
        self._archive = archive
        self._options = options
        self._owner = f"{owner} {system}"
        self._returns = returns
        self.away = AWAY if returns else 0.0
        self._pace = pace
        self._running: dict[str, Running] = {}
        self._left: list[tuple[Path, Record]] | None = None
        self._abandoned: list[Folders] = []
        self._gate = asyncio.Semaphore(MOST_SUBMITTING)
        self._beside: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._poll_at = 0.0
        self._complained = False

    # --- the port --------------------------------------------------------------------------------------------------

    def legacy(self) -> Legacy | None:
        """Jobs that an earlier process of this worker has left in the batch system.

        Raises:
            ValidationError: a worker that lives uses the folder
            OSError: the folder cannot be made
        """
        self._folders.claim(f"{self._owner} returns" if self._returns else self._owner)
        self._left = self._folders.records()
        mine = [record.restored() for _, record in self._left if record.system == self._system]
        if not mine:
            return None
        boot = mine[-1].execution.partition("-")[0]
        same = tuple(execution for execution in mine if execution.execution.partition("-")[0] == boot)
        return Legacy(boot, self._folders.next_life(), same)

    async def open(self, resumed: Sequence[str] = ()) -> None:
        """Go on with jobs that were left, and end others of them; end those of workers of this host that will not come back, too."""
        self._loop = asyncio.get_running_loop()
        if self._left is None:
            self.legacy()
        for folder, record in self._left or ():
            self._take_up(folder, record, silent=record.execution not in resumed)
        if resumed:
            _log.info("%d jobs in %s go on, which an earlier process of this worker had submitted", len(resumed), self._system)
        self._abandoned = await asyncio.to_thread(self._folders.abandoned, self._owner)
        for folders in self._abandoned:
            for folder, record in folders.records():
                self._take_up(folder, record, silent=True)
        self._spawn(self._watch())

    longest_line = 1

    def recall(self, execution: str) -> None:  # noqa: ARG002 (nothing ever follows anything)
        """Nothing waits behind it."""
        self._report(ExecutionsRecalled(()))

    def start(self, execution: Execution, then: Sequence[Execution] = ()) -> None:  # noqa: ARG002 (the same)
        """Run it; `ExecutionEnded` follows, never before this returns."""
        work = execution.work
        program = work if isinstance(work, Program) else Program(())
        running = Running(execution, program, _now_ms())
        if not self._running:
            self._wake.set()
        self._running[execution.execution] = running
        reason = unfit(execution, self._system)
        self._spawn(self._submit(running) if reason is None else self._end(running, Failed(Cause.error, reason)))

    def stop(self, execution: str, reason: str, within: float | None = None) -> None:  # noqa: ARG002 (its grace is the batch system's)
        """Cancel it; one that is unknown has ended before. How long it is given is the batch system's business."""
        running = self._running.get(execution)
        if running is not None:
            self._condemn(running, Canceled(reason))

    async def read(self, execution: str, *, stderr: bool, path: str | None, start: int, most: int) -> Piece:
        """Part of what an execution has printed."""
        running = self._running.get(execution)
        if running is not None:
            if running.folder is None or running.seen is None:
                return Piece(execution)
            path = running.seen.streams[stderr]
        part = None if path is None else await asyncio.to_thread(excerpt_of, path, start, most)
        if part is None:
            return Piece(execution, missing=running is None)
        return Piece(execution, part.start, part.data, part.size, ended=running is None)

    def kept(self) -> tuple[str, ...]:
        """Jobs of which there is output that is kept."""
        return self._archive.jobs()

    async def forget(self, jobs: Sequence[str]) -> None:
        """Remove what is kept of jobs."""
        await asyncio.to_thread(self._archive.forget, jobs)

    async def close(self) -> None:
        """Cancel what runs, and wait for its end; what does not end in time is canceled by the next process of this worker."""
        for running in list(self._running.values()):
            self._condemn(running, _STOPPED)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._pace.closing):
                while self._running:
                    self._idle.clear()
                    await self._idle.wait()
        if self.jobs:
            _log.error("%s still has jobs of this worker: %s", self._system, ", ".join(self.jobs))
        for running in list(self._running.values()):
            self._tell_end(running, running.sentence or _STOPPED, Output(), Output())
        for task in self._beside:
            task.cancel()
        await asyncio.gather(*self._beside, return_exceptions=True)
        for folders in (self._folders, *self._abandoned):
            await asyncio.to_thread(folders.let_go)

    @property
    def jobs(self) -> tuple[str, ...]:
        """Ids of the jobs that are looked after, for inspection."""
        return tuple(each.id for each in self._running.values() if each.id is not None)

    # --- submitting ------------------------------------------------------------------------------------------------

    async def _submit(self, running: Running) -> None:
        """Hand it over, if need be again and again."""
        execution = running.execution
        give_up = self._loop.time() + self._pace.patience
        for trial in count(1):
            folder, id_ = self._folders.folder(execution.execution, trial), ""
            try:
                async with self._gate:
                    if running.sentence is not None:
                        break
                    job = await asyncio.to_thread(self._prepare, running, folder)
                    id_ = await self._answer(self._scheduler.submit(job))
                await asyncio.to_thread(self._folders.keep, folder, Record.of(execution, running.program, id_, self._system))
            except OSError as error:
                await asyncio.to_thread(remove, folder)
                if id_:
                    await self._cancel([id_])
                await self._end(running, Failed(Cause.error, f"the folder {folder} of the job cannot be made: {error.strerror}"))
                return
            except JobRefused as refusal:
                await asyncio.to_thread(remove, folder)
                await self._end(running, Failed(Cause.error, f"{self._system} refuses the job: {refusal}"))
                return
            except SchedulerSilent as silence:
                await asyncio.to_thread(remove, folder)
                if self._loop.time() >= give_up:
                    await self._end(running, Crashed(f"{self._system} did not take the job: {silence}"))
                    return
                self._say(running, f"{self._system} does not take the job yet: {silence}")
                await _wait(running.woken, min(self._pace.poll * trial, give_up - self._loop.time()))
            else:
                running.id, running.folder = id_, folder
                self._poll_at = min(self._poll_at, self._loop.time() + self._pace.soon)
                return
        await self._end(running, running.sentence or _STOPPED)

    def _prepare(self, running: Running, folder: Path) -> BatchJob:
        """The folder of a job; in a thread."""
        execution, program = running.execution, running.program
        stdin = f"{file_name(execution.execution)}.stdin"
        text = script(running.run(), program, Place(str(folder), stdin))
        path, given = self._folders.make(folder, text, (stdin, program.stdin or b""))
        options = {**self._options, **dict(execution.options.executor_options)}
        return BatchJob(f"bj-{file_name(execution.execution)}", path, str(folder), (given,), options)

    async def _answer(self, question: Awaitable[_Answer]) -> _Answer:
        """What the batch system says; one that fails in any other way than it should has said nothing."""
        try:
            return await question
        except (SchedulerSilent, JobRefused):
            raise
        except Exception as error:
            _log.exception("the executor %s has a bug", self._system)
            raise SchedulerSilent(f"the executor failed: {type(error).__name__}: {error}") from error

    def _take_up(self, folder: Path, record: Record, *, silent: bool) -> None:
        """Go on with a job of an earlier process, or end it."""
        if record.system != self._system:
            _log.warning(
                "job %s of %s, which this worker had, is left alone: the worker uses %s now", record.id, record.system, self._system
            )
            remove(folder)
            return
        execution = record.restored()
        running = Running(execution, Program(record.argv, env=record.env), _now_ms(), record.id, folder, resumed=True, silent=silent)
        if silent:
            running.sentence = _STOPPED
            _log.warning("job %s of %s is canceled: the worker that had it is gone", record.id, self._system)
        self._running[execution.execution] = running

    # --- looking ---------------------------------------------------------------------------------------------------

    async def _watch(self) -> None:
        """Look after all jobs, for ever."""
        wait = self._pace.look
        while True:
            await _wait(self._wake, wait if self._running else None)
            self._wake.clear()
            begin = self._loop.time()
            asked = [each for each in self._running.values() if each.id is not None]
            states = await self._poll(asked) if asked and begin >= self._poll_at else None
            looked = self._loop.time()
            seen = await asyncio.to_thread(self._look, asked)
            wait = max(self._pace.look, _SHARE * (self._loop.time() - looked))
            cancel = [each.id for each in asked if self._judge(each, seen.get(each), states) and each.id is not None]
            if cancel:
                await self._cancel(cancel)

    async def _poll(self, asked: Sequence[Running]) -> Mapping[str, JobState] | None:
        """How these jobs are; None where the batch system does not say."""
        hurry = any(each.sentence is not None or not each.note for each in asked)
        self._poll_at = self._loop.time() + (self._pace.soon if hurry else self._pace.poll)
        try:
            states = await self._answer(self._scheduler.poll([each.id for each in asked if each.id is not None]))
        except SchedulerSilent as silence:
            if not self._complained:
                _log.warning("%s does not say how jobs are, and is asked again: %s", self._system, silence)
            self._complained = True
            return None
        self._complained = False
        return states

    async def _cancel(self, ids: Sequence[str]) -> None:
        try:
            await self._answer(self._scheduler.cancel(ids))
        except SchedulerSilent as silence:
            _log.warning("%s does not cancel jobs, and is told again: %s", self._system, silence)

    def _look(self, asked: Sequence[Running]) -> dict[Running, Seen]:
        """What there is to see in the folders; in a thread."""
        return {each: self._folders.look(each.folder, each.run()) for each in asked if each.folder is not None}

    def _judge(self, running: Running, seen: Seen | None, states: Mapping[str, JobState] | None) -> bool:
        """See what follows, and let it happen; whether it has to be canceled."""
        if self._running.get(running.execution.execution) is not running or seen is None or running.id is None:
            return False
        running.seen = seen
        if states is None:
            if seen.code is not None:
                self._close(running, running.sentence or exited(running.program, seen.code))
            elif seen.started_s is not None:
                self._begin(running, seen.started_s)
            self._hold_limits(running, seen)
            return False
        finding = watch.judge(states.get(running.id), seen.code, running.missing, condemned=running.sentence is not None)
        match finding:
            case watch.GoesOn(missing, runs, note):
                running.missing = missing
                if runs or seen.started_s is not None:
                    self._begin(running, seen.started_s)
                    note = f"running on {seen.host}" if seen.host else note
                if note and note != running.note:
                    running.note = note
                    self._say(running, f"{self._system} job {running.id}: {note}")
                self._hold_limits(running, seen)
            case watch.Exited(code):
                self._close(running, running.sentence or exited(running.program, code))
            case watch.Hopeless(reason):
                self._condemn(running, Failed(Cause.error, f"{self._system} does not run job {running.id}: {reason}"))
                return True
            case watch.Cancel():
                return True
            case watch.Over():
                self._close(running, running.sentence or _STOPPED)
            case watch.Lost(reason):
                self._spawn(self._mourn(running, running.id, reason))
                running.id = None
            case _:
                assert_never(finding)
        return False

    def _begin(self, running: Running, started_s: int | None) -> None:
        """The program runs; where an earlier process has seen it begin, for as long as its own clock says."""
        if running.began is None:
            before = time.time() - started_s if running.resumed and started_s is not None else 0.0
            running.began = self._loop.time() - max(0.0, before)

    def _hold_limits(self, running: Running, seen: Seen) -> None:
        most, limit = running.execution.options.output_limit, running.execution.options.time_limit
        if running.sentence is not None:
            return
        if most is not None and seen.printed > most:
            self._condemn(running, condemned(OutputUp(most, seen.printed), None))
        elif limit is not None and running.began is not None and self._loop.time() >= running.began + limit / 1000:
            self._condemn(running, condemned(TimeUp(limit), None))

    def _condemn(self, running: Running, sentence: Outcome) -> None:
        """Decide its end, if that is not decided yet."""
        if running.sentence is None:
            running.sentence = sentence
        running.woken.set()
        self._poll_at = 0.0
        self._wake.set()

    def _say(self, running: Running, text: str) -> None:
        """Tell those who look how it is."""
        if not running.silent:
            self._report(ExecutionProgressed(running.execution.execution, 0.0, text))

    # --- ending ----------------------------------------------------------------------------------------------------

    async def _mourn(self, running: Running, id_: str, reason: str) -> None:
        """End what is gone without an exit code, and say why."""
        until = self._loop.time() + self._pace.reason
        while not reason and running.sentence is None and self._loop.time() < until:
            with contextlib.suppress(SchedulerSilent):
                reason = await self._answer(self._scheduler.explain(id_))
            if not reason:
                # An accounting is written with some delay.
                await _wait(running.woken, self._pace.soon)
        why = f": {reason}" if reason else ", and says no reason"
        hint = "" if running.seen is not None and running.seen.started_s is not None else self._never_seen(running)
        words = f"{self._system} has no job {id_} any more, and it left no exit code{why}{hint}"
        await self._end(running, running.sentence or Crashed(words))

    def _never_seen(self, running: Running) -> str:
        return f". It was never seen to start: the hosts of {self._system} have to see {running.folder}, or be sent it"

    def _close(self, running: Running, outcome: Outcome) -> None:
        """Let it end, and be looked after no more."""
        running.id = None
        self._spawn(self._end(running, outcome))

    async def _end(self, running: Running, outcome: Outcome) -> None:
        """Gather what it has left, and report its end."""
        stdout = stderr = Output()
        if running.folder is not None:
            outcome, stdout, stderr = await asyncio.to_thread(gather, running, running.folder, self._folders, outcome)
        self._tell_end(running, outcome, stdout, stderr)

    def _tell_end(self, running: Running, outcome: Outcome, stdout: Output, stderr: Output) -> None:
        if self._running.pop(running.execution.execution, None) is None:
            return
        self._idle.set()
        if running.silent:
            return
        ended_ms, seen = _now_ms(), running.seen
        started_ms = running.submitted_ms if seen is None or seen.started_s is None else min(seen.started_s * 1000, ended_ms)
        self._report(ExecutionEnded(running.execution.execution, outcome, started_ms, ended_ms, stdout, stderr))

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = self._loop.create_task(work)
        self._beside.add(task)
        task.add_done_callback(self._spawned)

    def _spawned(self, task: asyncio.Task[None]) -> None:
        self._beside.discard(task)
        if not task.cancelled() and (error := task.exception()):
            _log.critical("a bug in broker-jobs, please report it", exc_info=error)


async def _wait(event: asyncio.Event, seconds: float | None) -> None:
    """Until it is set, or so long; not by `wait_for`, which in Python 3.11 loses a cancel that comes together with the event."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
