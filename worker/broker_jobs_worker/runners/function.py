"""Call a function of the user, and make an outcome of whatever comes of it."""

from __future__ import annotations

import asyncio
import contextvars
import os
import platform
import signal
import sys
import types
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, TypeVarTuple

from broker_jobs.core.outcome import Cause, Failed, Succeeded
from broker_jobs.core.value import INLINE_LIMIT, INLINE_LIMIT_WITHOUT_STORE, Pieces
from broker_jobs.current import current
from broker_jobs.data.store import ValueStore
from broker_jobs.errors import TaskCanceled, TimeLimitReached, UnpicklableError, ValueStoreError, ValueTooLarge
from broker_jobs.wire import payload
from broker_jobs_worker.runners.awaited import Awaited
from broker_jobs_worker.runners.failure import cannot_load, cannot_send, failed_by, other_python

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine

    from broker_jobs.core.outcome import Outcome
    from broker_jobs.core.value import Inline, Value
    from broker_jobs.wire.messages import Call, Function
    from broker_jobs_worker.runners.inputs import Inputs
    from broker_jobs_worker.runners.preparation import Preparation
    from broker_jobs_worker.runners.protocol import Run

CANCEL_SIGNAL: Final = int(signal.SIGRTMIN) + 8
"""Raises `TaskCanceled` in a function. No library is known to use these two signals."""
TIME_SIGNAL: Final = int(signal.SIGRTMIN) + 9
"""Raises `TimeLimitReached` in a function."""

_LARGEST_EXIT_CODE: Final = 2**31
_Given = TypeVarTuple("_Given")


class Interrupt:
    """Turns a signal into an exception, once, and only while a function runs.

    Attributes:
        pid: of the process that it was made in
    """

    def __init__(self) -> None:
        self.pid = os.getpid()
        self._armed = False
        self._awaited: Awaited | None = None

    def install(self) -> None:
        """Take over the two signals."""
        signal.signal(CANCEL_SIGNAL, self._on_signal)
        signal.signal(TIME_SIGNAL, self._on_signal)

    def guard(self, work: Callable[[*_Given], Outcome], *given: *_Given) -> Outcome:
        """What comes of this; while it lasts, a signal raises."""
        try:
            self._armed = True
            return work(*given)
        except (TimeLimitReached, TaskCanceled) as stop:
            # It came while the outcome was being made.
            return failed_by(stop)
        finally:
            self._armed = False

    def disarm(self) -> None:
        """From now on a signal is ignored."""
        self._armed = False

    def _on_signal(self, number: int, _frame: types.FrameType | None) -> None:
        current.request_stop()
        if self._armed:
            self._armed = False
            error = TimeLimitReached() if number == TIME_SIGNAL else TaskCanceled()
            if self._awaited is None or not self._awaited.interrupt(error):
                raise error

    def wait_for(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine on an event loop of its own; a signal raises in it."""
        self._awaited = Awaited(coroutine)
        try:
            return asyncio.run(self._awaited.run())
        finally:
            self._awaited = None


class Functions:
    """Functions that this child knows, by hash; loaded when they are first called."""

    def __init__(self) -> None:
        self._known: dict[str, Function] = {}
        self._versions: dict[str, str] = {}
        self._loaded: dict[str, Callable[..., Any]] = {}

    def learn(self, run: Run, call: Call) -> None:
        """Take in what a message says of functions."""
        if run.forget:
            self._known.clear()
            self._loaded.clear()
        for digest, function in ((call.function, run.function), (call.setup, run.setup)):
            if digest is not None and function is not None:
                self._known[digest] = function
                self._versions[digest] = run.version

    def described(self, name: str) -> Function:
        """The function as it was sent."""
        return self._known[name]

    def load(self, name: str) -> Callable[..., Any] | Failed:
        """The function itself, or why it cannot be had."""
        found = self._loaded.get(name)
        if found is not None:
            return found
        function, version = self._known[name], self._versions[name]
        if _other_bytecode(version) and payload.travels_whole(function.data):
            return other_python(function, version)
        try:
            found = self._loaded[name] = payload.load_function(function.data)
        except BaseException as error:  # noqa: BLE001 (loading runs the user's code; a module may even exit)
            return cannot_load(error, f"the function {function.name!r}", function, version)
        return found


@dataclass(frozen=True, slots=True)
class Means:
    """What a child has for all its calls."""

    functions: Functions
    inputs: Inputs
    preparation: Preparation
    interrupt: Interrupt


def call(run: Run, work: Call, args: Value, means: Means) -> Outcome:
    """Call a function with these arguments; every ending is an outcome."""
    return means.interrupt.guard(_call, run, work, args, means)


def _call(run: Run, work: Call, given: Value, means: Means) -> Outcome:
    if not means.preparation.done(work.setup) and (failed := _prepare(work.setup or "", means)) is not None:
        return failed
    current.prepare(means.preparation.value(work.setup))
    try:
        args = means.inputs.inline(given)
        inputs = means.inputs.of(run, work)
    except Exception as error:  # noqa: BLE001 (loading runs the user's code)
        return cannot_send(error, "an input of this task cannot be had")
    function = means.functions.load(work.function)
    if isinstance(function, Failed):
        return function
    described = means.functions.described(work.function)
    try:
        positional, keywords = payload.load_call(args, inputs)
        del args, inputs  # large ones have been copied
    except (ImportError, AttributeError) as error:
        return cannot_load(error, f"an argument of the function {described.name!r}", described, run.version)
    except BaseException as error:  # noqa: BLE001 (as above; or the result of another task lacks the part that is asked for)
        return cannot_send(error, f"an argument of the function {described.name!r} cannot be had")
    return outcome_of(function, positional, keywords, means.interrupt, lambda result: returned(result, run.job, run.store))


def outcome_of(
    function: Callable[..., Any],
    positional: list[Any],
    keywords: dict[str, Any],
    interrupt: Interrupt,
    succeeded: Callable[[Any], Outcome],
) -> Outcome:
    """Run the user's code, and make an outcome of its end.

    Args:
        succeeded: makes that of a result
    """
    pid = interrupt.pid
    try:
        # Context variables that a task sets are its own.
        result = contextvars.copy_context().run(_value, function, positional, keywords, interrupt)
    except SystemExit as leaving:
        _only_here(pid)
        return _exited(leaving)
    except BaseException as error:  # noqa: BLE001 (KeyboardInterrupt and the like too: this process goes on)
        _only_here(pid)
        return failed_by(error)
    _only_here(pid)
    interrupt.disarm()
    return succeeded(result)


def _prepare(digest: str, means: Means) -> Failed | None:
    """Run the setup; why it failed, if it did."""
    setup = means.functions.load(digest)
    if isinstance(setup, Failed):
        return setup
    name, pid = means.functions.described(digest).name, os.getpid()
    try:
        means.preparation.run(digest, setup)
    except BaseException as error:  # noqa: BLE001 (the user's code; SystemExit means no success here)
        _only_here(pid)
        failed = failed_by(error)
        return replace(failed, message=f"the setup {name!r} failed: {failed.message}")
    _only_here(pid)
    return None


def _other_bytecode(version: str) -> bool:
    """Whether an interpreter of this version has another bytecode than this one."""
    return bool(version) and tuple(version.split(".")[:2]) != platform.python_version_tuple()[:2]


def _value(function: Callable[..., Any], positional: list[Any], keywords: dict[str, Any], interrupt: Interrupt) -> Any:
    """What a call gives in the end: a coroutine is awaited on a loop of its own, a generator is run to its end, into a list."""
    result = function(*positional, **keywords)
    if isinstance(result, types.CoroutineType):
        result = interrupt.wait_for(result)
    if isinstance(result, types.GeneratorType):
        return list(result)
    if isinstance(result, types.AsyncGeneratorType):
        return interrupt.wait_for(_all(result))
    return result


async def _all(items: AsyncIterator[Any]) -> list[Any]:
    return [item async for item in items]


def _only_here(pid: int) -> None:
    """End the copy that the user's code made of this process with a bare fork: one answer is enough."""
    if os.getpid() != pid:
        os._exit(0)


def _exited(leaving: SystemExit) -> Outcome:
    """What ``sys.exit`` means: the same as at the end of a program."""
    code = leaving.code
    if code is None or (isinstance(code, int) and code == 0):
        return Succeeded(payload.dump(None))
    if isinstance(code, int):
        number = int(code) if abs(code) < _LARGEST_EXIT_CODE else 1
        return Failed(Cause.exit_code, f"the function ended with sys.exit({number})", exit_code=number)
    text = str(code)
    print(text, file=sys.stderr)  # noqa: T201 (this is what the interpreter does)
    return Failed(Cause.exit_code, f"the function ended with sys.exit: {text}", exit_code=1)


def returned(result: object, job: str, store: str | None, dump: Callable[[Any], Inline | Pieces] = payload.dump_pieces) -> Outcome:
    """The success with this result, in the message or in the value store; or why it cannot be sent."""
    try:
        value = dump(result)
        size = value.size
        if size > INLINE_LIMIT and store is not None:
            return Succeeded(ValueStore(store).put(job, value.encoding, *value.pieces))
    except UnpicklableError as error:
        return cannot_send(error, "the result cannot be sent")
    except ValueStoreError as error:
        return cannot_send(error, "the result cannot be kept")
    except BaseException as error:  # noqa: BLE001 (pickling runs the user's code)
        return cannot_send(error, f"the result of type {type(result).__qualname__} cannot be sent")
    if size > INLINE_LIMIT_WITHOUT_STORE:
        return cannot_send(_too_large(size), "the result cannot be sent")
    return Succeeded(value.joined())


def _too_large(size: int) -> ValueTooLarge:
    return ValueTooLarge(
        f"it takes {size:,} bytes; without a value store at most {INLINE_LIMIT_WITHOUT_STORE:,} can be sent. "
        "Configure a folder that all hosts share, with value_store in broker-jobs.toml or BROKER_JOBS_VALUE_STORE, "
        "or write the result to a file and return its path"
    )
