"""What a user's exception becomes: an outcome with its full text."""

from __future__ import annotations

import asyncio
import os
import platform
import socket
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Final

from broker_jobs.core.outcome import Cause, Failed
from broker_jobs.core.spec import qualified
from broker_jobs.core.value import INLINE_LIMIT, Inline
from broker_jobs.wire import payload

if TYPE_CHECKING:
    from types import TracebackType

    from broker_jobs.wire.messages import Function

TEXT_LIMIT: Final = 64 * 1024
"""Of longer texts the tail is kept, in characters."""

_LONGEST_NAME: Final = 200

_OURS: Final = (
    str(Path(__file__).parent) + os.sep,
    str(Path(payload.__file__).parent) + os.sep,
    str(Path(asyncio.__file__).parent) + os.sep,
)


def tail(text: str, limit: int = TEXT_LIMIT) -> str:
    """The end of a text, and how much was left out before it."""
    return text if len(text) <= limit else f"… {len(text) - limit} characters left out …\n{text[-limit:]}"


def described(error: BaseException) -> str:
    """Type and text of an exception, such as ``ZeroDivisionError: division by zero``; of a long text the tail."""
    try:
        text = str(error)
    except Exception as second:  # noqa: BLE001 (`__str__` is the user's code)
        text = f"(its text cannot be made: {type(second).__name__})"
    name = type(error).__qualname__[:_LONGEST_NAME]
    return f"{name}: {tail(text)}" if text else name


def failed_by(error: BaseException) -> Failed:
    """The failure that an exception of the user's code is."""
    return Failed(
        Cause.error,
        described(error),
        traceback=_traceback(error),
        exception=_picklable(error),
        exception_types=types_of(type(error)),
    )


def types_of(kind: type[BaseException]) -> tuple[str, ...]:
    """Qualified names of an exception's class and of its bases, for the retry filter."""
    return tuple(qualified(base) for base in kind.__mro__ if base is not object)


def cannot_send(error: BaseException, what: str) -> Failed:
    """The failure of a task whose result, or one of whose inputs, does not travel."""
    return Failed(Cause.error, f"{what}: {described(error)}", exception_types=types_of(type(error)))


def cannot_load(error: BaseException, what: str, function: Function, version: str) -> Failed:
    """The failure of a task whose function or arguments cannot be loaded here, with what to do."""
    here = platform.python_version()
    missing = error.name if isinstance(error, ModuleNotFoundError) and error.name else function.module
    message = (
        f"{described(error)}\n"
        f"{what} cannot be loaded on host {socket.gethostname()}: module {missing!r} is missing there, or is another version. "
        f"The worker runs Python {here}, the submitter {f'Python {version}' if version else 'an unknown one'}. "
        f"Install {missing!r} on that host, start the worker with `broker-jobs worker start --path DIR` where DIR holds it, "
        f"or send it along with `Client(by_value=[{missing}])`."
    )
    return Failed(Cause.error, message, traceback=_traceback(error), exception_types=types_of(type(error)))


def other_python(function: Function, version: str) -> Failed:
    """The failure of a task whose function is bytecode of another version of Python."""
    wanted = ".".join(version.split(".")[:2])
    return Failed(
        Cause.error,
        f"the function {function.name!r} cannot run under Python {platform.python_version()} on host {socket.gethostname()}: it was sent "
        f"whole, as bytecode of Python {version}. Put it into a module that is installed on both sides, or name an interpreter of Python "
        f"{wanted} with python=",
    )


def _traceback(error: BaseException) -> str:
    """The traceback without the frames of ours in front of and behind the user's."""
    try:
        frames: list[TracebackType] = []
        step = error.__traceback__
        while step is not None:
            frames.append(step)
            step = step.tb_next
        first = next((at for at, frame in enumerate(frames) if not _is_ours(frame)), len(frames))
        start = frames[first] if first < len(frames) else None
        return tail("".join(traceback.format_exception(type(error), error, start)))
    except Exception as second:  # noqa: BLE001 (attributes of the exception are the user's code)
        return f"(the traceback cannot be shown: {type(second).__name__})\n{described(error)}"


def _is_ours(frame: TracebackType) -> bool:
    return frame.tb_frame.f_code.co_filename.startswith(_OURS)


def _picklable(error: BaseException) -> Inline | None:
    """The exception itself, if it is small and comes back as what it was."""
    try:
        value = payload.dump(error)
        back = payload.load(value)
    except Exception:  # noqa: BLE001 (both run the user's code)
        return None
    same = isinstance(back, BaseException) and qualified(type(back)) == qualified(type(error))
    return value if same and value.size <= INLINE_LIMIT else None
