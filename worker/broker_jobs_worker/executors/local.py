"""The executor that runs tasks in processes of this host.

It is told what to run, gets a child for it from `Children`, and watches over its limits. An execution waits for a child, runs, and may be
*condemned*: its time is up, it takes too much memory, or somebody wants its end. Then it climbs the kill ladder, and whatever it still
answers, the verdict is its outcome. It ends when nothing of its process tree is left.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import time
from collections import deque
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, assert_never

from broker_jobs.core.outcome import Cause, Failed, Succeeded
from broker_jobs.core.spec import Isolation
from broker_jobs.errors import DecodeError
from broker_jobs.wire.messages import Call, Output, Piece, Program, StepCall
from broker_jobs_worker.executors import groups
from broker_jobs_worker.executors.archive import Archive, usual_room
from broker_jobs_worker.executors.children import Children
from broker_jobs_worker.executors.environments import Environments, UnavailableError
from broker_jobs_worker.executors.knowledge import unknown_functions, unknown_values
from broker_jobs_worker.executors.line import Line
from broker_jobs_worker.executors.memory import Memory
from broker_jobs_worker.executors.port import ExecutionEnded, ExecutionProgressed, ExecutionsRecalled, ExecutionsSucceeded
from broker_jobs_worker.executors.prints import Prints
from broker_jobs_worker.executors.recycling import KEEP
from broker_jobs_worker.executors.running import Running, remains
from broker_jobs_worker.executors.server import Wish
from broker_jobs_worker.executors.spool import claim, file_name
from broker_jobs_worker.executors.verdicts import MemoryUp, OutputUp, Stopped, TimeUp, Verdict, condemned, vanished, with_last_line
from broker_jobs_worker.runners.function import CANCEL_SIGNAL, TIME_SIGNAL
from broker_jobs_worker.runners.ladder import Step, step
from broker_jobs_worker.runners.program import TERMINATE_SIGNAL
from broker_jobs_worker.runners.protocol import (
    PROGRESS_INTERVAL,
    PROGRESS_TEXT,
    Done,
    Halted,
    News,
    Noted,
    Prepared,
    Progressed,
    Ready,
    Redirected,
    Run,
    Stale,
    Tidied,
    Tidy,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping, Sequence
    from pathlib import Path

    from broker_jobs.core.outcome import Outcome
    from broker_jobs_worker.executors.port import Execution, ExecutionNews
    from broker_jobs_worker.executors.recycling import Recycling
    from broker_jobs_worker.executors.running import Remains
    from broker_jobs_worker.executors.server import Child

_log = logging.getLogger(__name__)

LONGEST_LINE: Final = 400
"""So many executions follow one another in a child at most."""
NOTES_INTERVAL: Final = 0.05
"""Seconds after which the successes of a line are seen at the latest."""
GRACE: Final = 2.0
"""Seconds between asking a task to end and killing it."""
_CLOSING_PATIENCE: Final = 10.0


class LocalExecutor:
    """Runs executions in children of this host; see `broker_jobs_worker.executors.port.Executor`.

    Args:
        report: is called on the event loop with the news
        spool: folder for output, private to this worker; it is made where it is missing
        archive: takes output that is kept (default: a folder of the spool)
        path: folders with modules of users, in front of the import path, for steps, and for functions that come from other hosts
        steps: the modules that hold them, by name and version as in ``simulate 1.2.0``
        grace: seconds between asking a task to end and killing it, where the task does not say
        recycling: when children make room for new ones
        root: of the file system in which control groups are looked for
    """

    def __init__(
        self,
        report: Callable[[ExecutionNews], None],
        *,
        spool: Path,
        archive: Archive | None = None,
        path: Sequence[str] = (),
        steps: Mapping[str, str] = MappingProxyType({}),
        grace: float = GRACE,
        recycling: Recycling = KEEP,
        root: Path = groups.ROOT,
    ) -> None:
        self._report = report
        self._spool = spool
        self._archive = archive or Archive(spool / "kept", usual_room(spool))
        self._claim: int | None = None
        self._folders = spool / "tasks"
        self._environments = Environments(path)
        self._steps = steps
        self._recycling = recycling
        self._grace = grace
        self._root = root
        self._running: dict[str, Running] = {}
        self._lined_up: dict[str, Line] = {}
        self._halting: dict[Child, Line] = {}
        # A child that is to end after so many tasks, or when it has grown, is looked at after each.
        self.longest_line = LONGEST_LINE if recycling == KEEP else 1
        self._idle = asyncio.Event()
        self._beside: set[asyncio.Task[None]] = set()
        self._children: Children
        self._memory: Memory
        self._prints: Prints

    away = 0.0

    # --- the port --------------------------------------------------------------------------------------------------

    def legacy(self) -> None:
        """Nothing: what an earlier process had started has ended with it."""

    async def open(self, resumed: Sequence[str] = ()) -> None:  # noqa: ARG002 (there is never anything)
        """Start the guardian.

        Raises:
            ChildProcessError: it cannot run
            OSError: the spool cannot be made
        """
        self._loop = asyncio.get_running_loop()
        shutil.rmtree(self._folders, ignore_errors=True)
        self._folders.mkdir(mode=0o700, parents=True)
        self._claim = claim(self._spool)
        self._prints = Prints(self._loop, self._running, lambda running, verdict: self._condemn(running, verdict, grace=0))
        self._children = Children(self._loop, self, self._spool, self._archive, self._recycling)
        self._memory = Memory(self._loop, self._children, lambda running, verdict: self._condemn(running, verdict, grace=0), self._root)
        try:
            await self._children.open()
        except ChildProcessError:
            self._let_go()
            raise

    def start(self, execution: Execution, then: Sequence[Execution] = ()) -> None:
        """Run it, and then those; `ExecutionEnded` follows for each, never before this returns."""
        self._begin(execution, Line(deque(then)) if then else None)

    def _begin(self, execution: Execution, line: Line | None) -> None:
        running = Running(execution, _now_ms(), f"{self._folders}/{file_name(execution.execution)}", line=line)
        self._running[execution.execution] = running
        if line is not None:
            line.running = running
            self._lined_up.update(dict.fromkeys((follower.execution for follower in line.waiting), line))
        self._idle.clear()
        self._prints.watch()
        reason = _incomplete(execution, self._steps)
        if reason is not None:
            self._loop.call_soon(self._end, running, Failed(Cause.error, reason))
        else:
            self._want(running)

    def stop(self, execution: str, reason: str, within: float | None = None) -> None:
        """End it, its grace being `within` seconds at most; one that is unknown has ended before."""
        running = self._running.get(execution)
        line = self._lined_up.get(execution) if running is None else running.line
        if line is not None:
            self._take_back(line)
            running = self._running.get(execution)
        if running is not None:
            grace = self._grace_of(running)
            self._condemn(running, Stopped(reason), grace=grace if within is None else min(grace, within))
        elif (line := self._lined_up.pop(execution, None)) is not None:
            [follower] = [each for each in line.waiting if each.execution == execution]
            line.waiting.remove(follower)
            self._drop(follower, reason)

    def recall(self, execution: str) -> None:
        """Forget what has not begun of its line, and say what that was."""
        running = self._running.get(execution)
        line = self._lined_up.get(execution) if running is None else running.line
        if line is not None:
            self._take_back(line)
        if line is None or line.running is None:
            # Its end is on the way, and what followed it goes on by itself.
            self._report(ExecutionsRecalled(()))
            return
        recalled = tuple(follower.execution for follower in line.waiting)
        line.waiting.clear()
        for each in recalled:
            del self._lined_up[each]
        self._report(ExecutionsRecalled(recalled))

    async def close(self) -> None:
        """Kill what runs, and end every process."""
        for running in list(self._running.values()):
            if running.line is not None:
                self._take_back(running.line)
        for execution, line in list(self._lined_up.items()):
            del self._lined_up[execution]
            self._drop(line.waiting.popleft(), "the worker stops")
        for running in list(self._running.values()):
            self._condemn(running, Stopped("the worker stops"), grace=0)
        try:
            if self._running:
                await asyncio.wait_for(self._idle.wait(), _CLOSING_PATIENCE)
        except TimeoutError:
            _log.error("processes of %s cannot be killed", ", ".join(self._running))
        for running in list(self._running.values()):
            self._end(running, condemned(running.verdict or Stopped("the worker stops"), None))
        await self._children.close()
        if self._beside:
            await asyncio.wait(self._beside)
        await asyncio.to_thread(shutil.rmtree, self._folders, ignore_errors=True)
        self._prints.close()
        self._let_go()
        with contextlib.suppress(OSError):
            self._spool.rmdir()  # nothing is left in it, mostly

    def _let_go(self) -> None:
        """Remove the control groups, and let others have the spool."""
        self._memory.close()
        if self._claim is not None:
            os.close(self._claim)
            self._claim = None

    @property
    def processes(self) -> tuple[int, ...]:
        """Pids of the guardian and of the children that live, for inspection."""
        return (self._children.guardian, *self._children.pids())

    async def read(self, execution: str, *, stderr: bool, path: str | None, start: int, most: int) -> Piece:
        """Part of what an execution has printed."""
        return await self._prints.read(execution, stderr=stderr, path=path, start=start, most=most)

    def kept(self) -> tuple[str, ...]:
        """Jobs of which there is output that is kept."""
        return self._archive.jobs()

    async def forget(self, jobs: Sequence[str]) -> None:
        """Remove what is kept of jobs."""
        await asyncio.to_thread(self._archive.forget, jobs)

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = self._loop.create_task(work)
        self._beside.add(task)
        task.add_done_callback(self._beside.discard)

    # --- from waiting to running ------------------------------------------------------------------------------------

    def _want(self, running: Running) -> None:
        """Ask for a child in which it can run."""
        execution = running.execution
        try:
            environment = self._environments.of(execution)
        except UnavailableError as error:
            self._loop.call_soon(self._end, running, Failed(Cause.error, str(error)))
            return
        setup = execution.work.setup if isinstance(execution.work, Call) else None
        fresh = execution.options.isolation is Isolation.fresh and not isinstance(execution.work, Program)
        self._children.want(environment, Wish(execution.execution, setup, fresh))

    def on_child(self, child: Child, ticket: str) -> None:
        """Give a child its task."""
        running = self._running.get(ticket)
        if running is None:
            self._children.release(child)
            return
        execution = running.execution
        running.child = child
        running.started_ms = _now_ms()
        child.notes.unheeded.clear()
        spool = child.capture.begin()
        self._memory.begin(running, child)
        if running.line is not None and not running.line.apart:
            running.line.given, running.line.begun = len(running.line.waiting), 0
            child.tickets.give(running.line.given)
            self._loop.call_later(NOTES_INTERVAL, self._look_at_notes, running.line, child)
        function, setup, forget = unknown_functions(child, execution)
        values, forget_values = unknown_values(child, execution)
        child.send(
            Run(
                execution=execution.execution,
                job=execution.job,
                task=execution.task,
                attempt=execution.attempt,
                work=execution.work,
                options=execution.options,
                folder=running.folder,
                name=execution.task_name,
                allocation=execution.env,
                values=values,
                store=execution.store,
                function=function,
                setup=setup,
                forget=forget,
                forget_values=forget_values,
                version=execution.origin.version if function is not None or setup is not None else "",
                module=self._steps[execution.work.step] if isinstance(execution.work, StepCall) else "",
                spool=spool,
                groups=None if running.group is None else (running.group.entry, running.group.exit),
                hosts=execution.hosts,
                then=running.line.orders() if running.line is not None else None,
            )
        )
        self._start_clock(running)

    def _start_clock(self, running: Running) -> None:
        """Let the time limit begin."""
        limit = running.execution.options.time_limit
        if limit is not None:
            running.timers.append(self._loop.call_later(limit / 1000, self._condemn, running, TimeUp(limit)))

    def on_denied(self, ticket: str, reason: str) -> None:
        """Fail what cannot run here."""
        running = self._running.get(ticket)
        if running is not None:
            self._end(running, Failed(Cause.error, reason))

    # --- from running to ended --------------------------------------------------------------------------------------

    def on_news(self, child: Child, news: News) -> None:
        """Take in what a child says, and what it has noted before and after that."""
        self._read_notes(child)
        if not child.notes.broken:  # else nobody knows of which task this is said
            self._take_in(child, news)
            self._heed_notes(child)

    def _take_in(self, child: Child, news: News) -> None:
        running = self._of(child)
        if running is None:
            if isinstance(news, Halted) and (line := self._halting.pop(child, None)) is not None:
                self._children.release(child)
                self._go_on(line)
            return
        match news:
            case Tidied(clean):
                self._on_tidied(running, child, clean=clean)
            case _ if running.answer is not None:
                pass  # the user's code holds the stream as well, and one answer counts
            case Progressed(fraction, text):
                self._on_progress(running, fraction, text)
            case Redirected():
                running.redirected = news
            case Stale():
                self._start_over(running, child)
            case Done():
                self._memory.is_over(running)
                running.answer = news
                if running.verdict is not None:
                    # It was sent signals that may still be on their way, so nothing else may run in this child.
                    self._children.kill(child)
                elif news.clean:
                    self._end(running, news.outcome)
                else:
                    self._children.sweep(child)
            case Prepared():
                self._start_anew(running)
            case Ready() | Halted() | Noted():
                pass
            case _:
                assert_never(news)

    def _start_anew(self, running: Running) -> None:
        """The limit holds for the setup and for the function, each for itself: only the first task of a process has to wait for a setup."""
        if running.verdict is None:
            for timer in running.timers:
                timer.cancel()
            running.timers.clear()
            self._start_clock(running)

    def _on_progress(self, running: Running, fraction: float, text: str) -> None:
        """Pass progress on, if it is some; the child limits its rate, but what runs in it may not."""
        now = self._loop.time()
        if 0 <= fraction <= 1 and now - running.progress_at >= PROGRESS_INTERVAL / 2:
            running.progress_at = now
            self._report(ExecutionProgressed(running.execution.execution, fraction, text[:PROGRESS_TEXT]))

    def on_swept(self, child: Child) -> None:
        """Ask the child whether that was all: a look from outside can miss one that forks and ends all the time."""
        if self._of(child) is not None:
            child.send(Tidy())

    def _on_tidied(self, running: Running, child: Child, *, clean: bool) -> None:
        """End what had answered and left processes behind."""
        if running.answer is None or running.verdict is not None:
            return
        if clean:
            self._end(running, running.answer.outcome)
        else:
            self._children.sweep(child)

    def on_over(self, child: Child, used: int) -> None:
        """End what takes too much memory."""
        running = self._of(child)
        if running is not None:
            self._condemn(running, MemoryUp(running.execution.options.memory_limit or 0, used), grace=0)

    def on_ended(self, child: Child, status: int | None) -> None:
        """End what ran in a child that is gone."""
        self._read_notes(child)
        running = self._of(child)
        if running is not None and running.line is not None:
            self._take_back(running.line)
            running = self._of(child)
        if (line := self._halting.pop(child, None)) is not None:
            self._go_on(line)
        if running is None:
            return
        self._memory.is_over(running)
        answer = None if running.answer is None else running.answer.outcome
        if running.verdict is not None:
            self._end(running, condemned(running.verdict, answer))
        else:
            self._end(running, answer or vanished(running.execution.work, status))

    def _start_over(self, running: Running, child: Child) -> None:
        """Run it in a fresh child, since this one has old modules, or what a task has left."""
        running.forget_timers()
        if running.line is not None:
            self._take_back(running.line)
        running.child = None
        self._children.give_up(child)
        if running.verdict is not None:
            self._end(running, condemned(running.verdict, None))
        else:
            self._want(running)

    def _of(self, child: Child) -> Running | None:
        running = self._running.get(child.ticket)
        return running if running is not None and running.child is child else None

    def _condemn(self, running: Running, verdict: Verdict, *, grace: float | None = None) -> None:
        """Decide its end, if that is not decided yet; a grace of 0 kills at once."""
        if running.line is not None:
            # Signals may only reach a child that begins nothing more.
            self._take_back(running.line)
            if self._running.get(running.execution.execution) is not running:
                return
        if running.answer is not None:
            return
        if running.verdict is None:
            running.verdict = verdict
            running.condemned_at = self._loop.time()
        if running.child is None:
            self._children.withdraw(running.execution.execution)
            self._end(running, condemned(running.verdict, None))
        else:
            self._climb(running, running.child, self._grace_of(running) if grace is None else grace)

    def _grace_of(self, running: Running) -> float:
        """Seconds between asking it to end and killing it."""
        own = running.execution.options.grace
        return self._grace if own is None else own / 1000

    def _climb(self, running: Running, child: Child, grace: float) -> None:
        """Take the step of the kill ladder that is due, and come back for the next."""
        elapsed = self._loop.time() - running.condemned_at
        due = step(elapsed, grace, alive=running.execution.execution in self._running)
        match due:
            case Step.ask:
                if isinstance(running.execution.work, Program):
                    self._children.signal(child, TERMINATE_SIGNAL, below=True)
                else:
                    self._children.signal(child, TIME_SIGNAL if isinstance(running.verdict, TimeUp) else CANCEL_SIGNAL, below=False)
                running.timers.append(self._loop.call_later(grace - elapsed, self._climb, running, child, 0.0))
            case Step.kill:
                self._children.kill(child)
            case None:
                pass
            case _:
                assert_never(due)

    def _end(self, running: Running, outcome: Outcome) -> None:
        """Report the end, once."""
        execution = running.execution
        if self._running.pop(execution.execution, None) is None:
            return
        running.forget_timers()
        stdout, stderr = Output(), Output()
        child = running.child
        goes_on = child is not None and self._goes_on(running, child)
        if child is not None and not goes_on:
            stdout, stderr = self._output(running, child)
            self._memory.end(running, child)
            if running.line is not None and running.answer is not None and running.answer.more and running.verdict is None:
                # It looks for a ticket now, and must not find one of another line.
                self._halt(running.line, child)
            else:
                child.tickets.take_back()
                self._children.release(child, spent=running.answer is not None and running.answer.spent)
        if not goes_on:
            self._end_line(running)
        limit = execution.options.output_limit
        if limit is not None and isinstance(outcome, Succeeded) and stdout.size + stderr.size > limit:
            outcome = condemned(OutputUp(limit, stdout.size + stderr.size), None)
        if isinstance(execution.work, Program) and not (running.answer is not None and running.answer.explained):
            outcome = with_last_line(outcome, stderr.tail)
        if not self._running:
            self._idle.set()
        leftovers, stdout, stderr = remains(running, outcome, stdout, stderr)
        ended = ExecutionEnded(execution.execution, outcome, running.started_ms, _now_ms(), stdout, stderr)
        if leftovers:
            self._spawn(self._remove(leftovers, ended))
        else:
            self._report(ended)

    # --- lines ------------------------------------------------------------------------------------------------------

    def _goes_on(self, running: Running, child: Child) -> bool:
        """Take note that a child has begun the next of its line, if it has."""
        line, answer = running.line, running.answer
        if line is None or answer is None or not answer.more or running.verdict is not None or not line.goes_on:
            return False
        follower = line.waiting.popleft()
        del self._lined_up[follower.execution]
        line.begun += 1
        line.running = self._running[follower.execution] = Running(follower, _now_ms(), running.folder, child=child, line=line)
        child.ticket = follower.execution
        return True

    def _read_notes(self, child: Child) -> None:
        """Take in what a child has noted of its line."""
        if child.notes.broken:
            return
        try:
            child.notes.read()
        except DecodeError as error:
            self._distrust(child, str(error))
        self._heed_notes(child)

    def _distrust(self, child: Child, reason: str) -> None:
        """Somebody else writes where a child does."""
        _log.warning("child %s noted what is no success, and is killed: %s", child.pid, reason)
        child.notes.broken = True
        self._children.kill(child)

    def _look_at_notes(self, line: Line, child: Child) -> None:
        """Read the notes now and then while their child does not say that it is time, since it is busy with one task."""
        if line.running is not None and line.running.child is child and line.goes_on:
            self._read_notes(child)
            self._loop.call_later(NOTES_INTERVAL, self._look_at_notes, line, child)

    def _heed_notes(self, child: Child) -> None:
        """End what has succeeded; a gap in the notes is what the child says by its stream."""
        notes, running = child.notes.unheeded, self._of(child)
        while notes and (running := self._of(child)) is not None and running.line is not None and notes[0].place == running.line.begun:
            # One after the other where something has been decided about it, or where the child must not go on.
            if running.verdict is not None or running.answer is not None or not running.line.goes_on:
                note = notes.popleft()
                if running.answer is None:
                    self._take_in(child, Done(Succeeded(note.value), clean=True, more=True))
            else:
                self._succeed(running, running.line, child)
        if notes and running is not None and running.line is not None and notes[0].place < running.line.begun and not child.notes.broken:
            self._distrust(child, "a task twice")

    def _succeed(self, running: Running, line: Line, child: Child) -> None:
        """End what a child has noted, as long as it may have begun the next of the line by itself."""
        notes = child.notes.unheeded
        last = line.begun + min(line.given - line.begun, len(line.waiting))
        now, heeded, executions = running.execution, [], []
        while notes and notes[0].place == line.begun < last:
            heeded.append(notes.popleft())
            executions.append(now.execution)
            line.begun += 1
            now = line.waiting.popleft()
            del self._lined_up[now.execution]
        running.forget_timers()
        del self._running[executions[0]]
        line.running = self._running[now.execution] = Running(now, heeded[-1].ended_ms, running.folder, child=child, line=line)
        child.ticket = now.execution
        values = tuple(note.value for note in heeded)
        ended_ms = tuple(note.ended_ms for note in heeded)
        self._report(ExecutionsSucceeded(tuple(executions), running.started_ms, ended_ms, values))

    def _take_back(self, line: Line) -> None:
        """Let the child begin nothing more of a line; afterwards at most one of it has begun, and the rest waits."""
        running = line.running
        child = None if running is None else running.child
        if running is None or child is None or line.given == 0:
            return
        line.given -= child.tickets.take_back()
        if line.begun == line.given + 1:
            # It was thought to have begun: the child has said that it would, and found no ticket.
            self._unbegin(line, running, child)
            return
        # What a child says of a task it says before it takes the ticket of the next one.
        self._read_notes(child)
        child.stream.read()
        if line.begun != line.given:
            _log.warning("tickets of child %s were taken by somebody else, and it is killed", child.pid)
            line.given = line.begun
            self._children.kill(child)

    def _unbegin(self, line: Line, running: Running, child: Child) -> None:
        """What runs has not begun after all."""
        line.waiting.appendleft(running.execution)
        del self._running[running.execution.execution]
        self._lined_up[running.execution.execution] = line
        self._halt(line, child)

    def _halt(self, line: Line, child: Child) -> None:
        """Go on with the rest of a line when its child says that it has found no ticket, or is gone."""
        line.running, line.given, line.begun = None, 0, 0
        self._halting[child] = line

    def _end_line(self, running: Running) -> None:
        """What has ended is the last that its child does of a line by itself: the rest goes on one by one."""
        line = running.line
        if line is not None and line.running is running:
            line.running, line.given, line.begun = None, 0, 0
            line.apart = True
            self._loop.call_soon(self._go_on, line)

    def _go_on(self, line: Line) -> None:
        """Begin the next of a line."""
        if line.running is None and line.waiting:
            follower = line.waiting.popleft()
            del self._lined_up[follower.execution]
            self._begin(follower, line)

    def _drop(self, execution: Execution, reason: str) -> None:
        """End what has not begun."""
        now = _now_ms()
        self._report(ExecutionEnded(execution.execution, condemned(Stopped(reason), None), now, now, Output(), Output()))

    async def _remove(self, leftovers: Remains, ended: ExecutionEnded) -> None:
        """Report an end when what is not to be kept has been removed."""
        await asyncio.to_thread(leftovers.remove)
        self._report(ended)

    def _output(self, running: Running, child: Child) -> tuple[Output, Output]:
        """What it has written: in the spool, or in its own files, of which a child that is dead told only the path."""
        stdout, stderr = child.capture.end(running.execution.job, running.execution.execution)
        if self._archive.crowded():
            self._spawn(asyncio.to_thread(self._archive.sweep))
        answer, redirected = running.answer, running.redirected
        if redirected.stdout is not None:
            stdout = answer.stdout if answer is not None and answer.stdout is not None else Output(path=redirected.stdout)
        if redirected.stderr is not None:
            stderr = answer.stderr if answer is not None and answer.stderr is not None else Output(path=redirected.stderr)
        return stdout, stderr


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _incomplete(execution: Execution, steps: Mapping[str, str]) -> str | None:
    """What is missing for a call."""
    work = execution.work
    if isinstance(work, StepCall) and work.step not in steps:
        return f"this worker does not serve the step {work.step}"
    if isinstance(work, Call) and execution.function is None:
        return f"the message lacks the function {work.function}"
    if isinstance(work, Call) and work.setup is not None and execution.setup is None:
        return f"the message lacks the function {work.setup}"
    missing = [key for key in work.inputs if key not in execution.values]
    return f"the message lacks the values {', '.join(missing)}" if missing else None
