"""A child that runs one task at a time, functions in itself and programs below itself.

It is a child subreaper, so all that a task starts stays below it, and a look at its own children says for certain whether something is
left. What is left is killed by the guardian, before the parent calls the task ended.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import os
import sys
import threading
import time
from typing import TYPE_CHECKING, Final, assert_never

from broker_jobs.core.outcome import Cause, Failed, Succeeded
from broker_jobs.current import Surrounding, current
from broker_jobs.wire.codec import decode_part
from broker_jobs.wire.messages import Call, Program, StepCall
from broker_jobs_worker.processes import become_subreaper, keep_freed_memory
from broker_jobs_worker.runners import function, inputs, nodes, preparation, program, step
from broker_jobs_worker.runners.notes import Notes
from broker_jobs_worker.runners.pinning import UnpinnableError, pinned
from broker_jobs_worker.runners.program import Ending
from broker_jobs_worker.runners.protocol import (
    PROGRESS_INTERVAL,
    PROGRESS_TEXT,
    Done,
    Followers,
    FromChild,
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
    ToChild,
    framed,
    receive,
)
from broker_jobs_worker.runners.surroundings import (
    Streams,
    Surroundings,
    UnwritableError,
    enter_folder,
    move,
    remove_folder,
    signature,
    source_files,
)

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator
    from typing import NoReturn

    from broker_jobs.core.outcome import Outcome

_wait_c: Final = ctypes.PyDLL(None).waitid
_ANY_END: Final = os.WEXITED | os.WNOHANG | os.WNOWAIT
BROKEN: Final = 70
"""Exit code of a child that met a bug of ours (EX_SOFTWARE)."""


def main(link: socket.socket, tickets: int, notes: int) -> NoReturn:
    """Serve until the parent closes the stream.

    Args:
        tickets: descriptor of the pipe that says how many may follow the first of a line
        notes: that of the one that takes what they have come to
    """
    os.setsid()
    become_subreaper()
    keep_freed_memory()
    # What crashes in C says where it was, to the standard error of its task.
    faulthandler.enable(2)
    child = Child(link, tickets, notes)
    child.send(Ready())
    while (data := receive(link)) is not None:
        match decode_part(ToChild, data).order:
            case Tidy():
                child.tidy()
            case Run() as run:
                if not child.serve(run):
                    break
            case other:
                assert_never(other)
    os._exit(0)


class Child:
    """What a child keeps from one task to the next."""

    def __init__(self, link: socket.socket, tickets: int, notes: int) -> None:
        self._link = link
        self._tickets = tickets
        self._notes = Notes(notes, lambda: self.send(Noted()))
        self._pid = os.getpid()
        self._streams = Streams()
        interrupt = function.Interrupt()
        interrupt.install()
        self._means = function.Means(function.Functions(), inputs.Inputs(), preparation.Preparation(self._prepared), interrupt)
        self._steps = step.Steps()
        self._surroundings = Surroundings()
        self._usable = True
        self._sources = Sources()
        self._job = ""
        self._folder = ""
        self._spoke = False
        self._sending = threading.Lock()
        self._progress_at = float("-inf")

    def send(self, news: News) -> None:
        """Tell the parent."""
        self._spoke = True
        data = framed(FromChild(news))
        with self._sending:
            self._link.sendall(data)

    def serve(self, run: Run) -> bool:
        """Run a task, answer, and go on with what follows it; False when this child is of no more use."""
        call = not isinstance(run.work, Program)
        if self._surroundings.applied and not (call and self._surroundings.suit(run)):
            self._usable = self._surroundings.restore()
        if not self._usable or (call and self._job not in {"", run.job} and self._sources.changed()):
            self.send(Stale())
            return False
        if call:
            self._job = run.job
        # Also where it then cannot start: it is told once.
        if isinstance(run.work, Call):
            self._means.functions.learn(run, run.work)
        self._means.inputs.learn(run)
        if run.spool is not None:
            self._streams.use_spool(*run.spool)
        if run.then is None:
            self._answer(run, 0, followed=False)
        elif self._answer(run, 0, followed=True):
            self._go_on(run, run.then)
        return True

    def _go_on(self, run: Run, then: Followers) -> None:
        """Run what follows the first of a line, one after the other, as long as there are tickets and nothing has changed."""
        with self._common(run) as common:
            last = len(then.executions)
            for place in range(1, last + 1):
                if not self._has_ticket():
                    self._hush()
                    self._leave()
                    self.send(Halted())
                    return
                followed = place < last
                if isinstance(common, program.Series):
                    more = self._rerun(run, common, then, place, followed=followed)
                elif common is not None and self._surroundings.applied:
                    more = self._repeat(run, common, then, place, followed=followed)
                else:
                    more = self._answer(run.followed_by(then, place - 1), place, followed=followed)
                if not more:
                    return

    @contextlib.contextmanager
    def _common(self, run: Run) -> Iterator[program.Series | tuple[Call, int] | None]:
        """What all of a line share, where they run in the submitter's folder and write to the spool: of a call that and its folder."""
        work, home = run.work, run.options.home
        if not home or self._folder != home or run.options.cwd not in {None, home} or run.groups or self._streams.paths != (None, None):
            yield None
        elif isinstance(work, Program):
            yield program.Series(run, *self._streams.spool)
        elif isinstance(work, Call):
            with _opened(home) as folder:
                yield None if folder is None else (work, folder)
        else:
            yield None

    def _has_ticket(self) -> bool:
        """Whether the next task is still this child's."""
        try:
            return bool(os.read(self._tickets, 1))
        except BlockingIOError:
            return False

    def _answer(self, run: Run, place: int, *, followed: bool) -> bool:
        """Run one task and say what came of it; whether the next one would find everything as this one has found it."""
        self._progress_at = float("-inf")
        self._spoke = False
        if run.groups is None:
            ending = self._perform(run)
        else:
            entry, way_out = run.groups
            move(entry)
            ending = self._perform(run)
            move(way_out)
        stdout, stderr = self._streams.close()
        clean = _alone()
        # What a task has changed for others, it has changed for the next of its line.
        more = followed and clean and self._usable and not self._streams.printed()
        if self._folder != run.options.home:
            more &= remove_folder(run)
        outcome = ending.outcome
        if more and not self._spoke and isinstance(outcome, Succeeded) and not outcome.made and self._notes.write(place, outcome.value):
            return True
        return self._done(Done(outcome, clean, stdout, stderr, spent=not self._usable, explained=ending.explained, more=more))

    def _repeat(self, run: Run, common: tuple[Call, int], then: Followers, place: int, *, followed: bool) -> bool:
        """`_answer` for a call that differs from the one before in its arguments: what is the same for both is not done again."""
        call, folder = common
        index = place - 1
        try:
            os.fchdir(folder)
        except OSError:
            return self._answer(run.followed_by(then, index), place, followed=followed)
        self._progress_at = float("-inf")
        self._spoke = False
        execution, task, attempt = then.executions[index], then.tasks[index], then.attempts[index]
        self._surroundings.turn_to(run, (task, attempt, execution), *self._streams.spool)
        name = then.names[index] if then.names else ""
        current.enter(Surrounding(run.job, task, attempt, execution, name, run.allocation, self._progress, run.hosts))
        try:
            outcome = function.call(run, call, then.arguments(index), self._means)
        finally:
            self._end_call()
        clean = _alone()
        more = followed and clean and self._usable and not self._streams.printed()
        if more and not self._spoke and isinstance(outcome, Succeeded) and self._notes.write(place, outcome.value):
            return True
        return self._done(Done(outcome, clean, spent=not self._usable, more=more))

    def _rerun(self, run: Run, common: program.Series, then: Followers, place: int, *, followed: bool) -> bool:
        """The same for a program."""
        index = place - 1
        try:
            # By its name: a program may have put another folder in its place.
            os.chdir(self._folder)
        except OSError:
            return self._answer(run.followed_by(then, index), place, followed=followed)
        ending = common.execute(then.program(index, run.work), (then.tasks[index], then.attempts[index], then.executions[index]))
        clean = _alone()
        more = followed and clean and self._usable and not self._streams.printed()
        if more and isinstance(ending.outcome, Succeeded) and self._notes.write(place, None):
            return True
        return self._done(Done(ending.outcome, clean, spent=not self._usable, explained=ending.explained, more=more))

    def _done(self, done: Done) -> bool:
        """Say what came of a task; whether the next of its line follows.

        Somebody waits for the answer, so what can wait is done after it, or not at all where the next task may go on with it.
        """
        if not done.more:
            self._hush()
        self.send(done)
        if not done.more:
            self._leave()
        return done.more

    def _hush(self) -> None:
        """Whatever is left of the task: what it prints from now on goes nowhere."""
        if self._surroundings.applied:
            self._surroundings.hush()

    def _leave(self) -> None:
        """Keep no folder busy."""
        os.chdir("/")

    def tidy(self) -> None:
        """Reap what was killed, and say whether that was all."""
        _reap()
        self.send(Tidied(_alone()))

    def _perform(self, run: Run) -> Ending:
        self._folder = ""
        try:
            if run.hosts:
                nodes.write(run)
            folder = self._folder = enter_folder(run)
        except OSError as error:
            return Ending(Failed(Cause.error, f"the task cannot run in {error.filename or run.options.cwd}: {error.strerror}"))
        try:
            stdout, stderr = self._streams.open(run, folder)
        except UnwritableError as error:
            return Ending(Failed(Cause.error, str(error)))
        if self._streams.paths != (None, None):
            self.send(Redirected(*self._streams.paths))
        try:
            with pinned(run) if run.options.pin else contextlib.nullcontext():
                match run.work:
                    case Program() as work:
                        return program.execute(run, work, stdout, stderr)
                    case Call() | StepCall() as work:
                        return Ending(self._call(run, work, stdout, stderr))
                    case _:
                        assert_never(run.work)
        except UnpinnableError as error:
            return Ending(Failed(Cause.error, str(error)))

    def _call(self, run: Run, work: Call | StepCall, stdout: int, stderr: int) -> Outcome:
        self._surroundings.apply(run, stdout, stderr)
        current.enter(Surrounding(run.job, run.task, run.attempt, run.execution, run.name, run.allocation, self._progress, run.hosts))
        try:
            if isinstance(work, Call):
                return function.call(run, work, work.args, self._means)
            return step.call(run, work, self._steps, self._means.inputs, self._means.interrupt)
        finally:
            self._end_call()

    def _end_call(self) -> None:
        """Put everything back where the call has changed something; else that can wait."""
        current.enter(None)
        self._surroundings.flush()
        if not self._surroundings.kept():
            self._usable = self._surroundings.restore()
        self._sources.note()

    def _prepared(self) -> None:
        """What the setup has changed and started is there for all tasks of this child."""
        self._surroundings.adopt()
        self.send(Prepared())

    def _progress(self, fraction: float, text: str) -> None:
        now = time.monotonic()
        # A process that the user's code forked must not write into the stream of this one.
        if now - self._progress_at >= PROGRESS_INTERVAL and os.getpid() == self._pid:
            self._progress_at = now
            self.send(Progressed(fraction, text[:PROGRESS_TEXT]))


class Sources:
    """The files of the user's modules that this child has imported, so that it notices when one is edited."""

    def __init__(self) -> None:
        self._known = set(sys.modules)
        self._files: dict[str, tuple[int, int] | None] = {}

    def note(self) -> None:
        """Take in what was imported since."""
        if len(sys.modules) != len(self._known):
            for path in source_files(self._known).values():
                self._files[path] = signature(path)
            self._known = set(sys.modules)

    def changed(self) -> bool:
        """Whether one of the files is not as it was imported."""
        return any(signature(path) != noted for path, noted in self._files.items())


@contextlib.contextmanager
def _opened(path: str) -> Iterator[int | None]:
    """A folder to go to; None where there is none."""
    try:
        folder = os.open(path, os.O_PATH | os.O_DIRECTORY)
    except OSError:
        yield None
        return
    try:
        yield folder
    finally:
        with contextlib.suppress(OSError):  # what runs here may close anything
            os.close(folder)


def _reap() -> None:
    """Forget children that have ended."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _alone() -> bool:
    """Whether this process has no children, not even ended ones."""
    # Not that of `os`: to make an exception, which this mostly is, costs more than to ask.
    return bool(_wait_c(os.P_ALL, 0, None, _ANY_END))
