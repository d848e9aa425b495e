"""How processes end, in words."""

from __future__ import annotations

import os
import signal
from typing import Final

_SHELL_CODES: Final = {126: "found, but not executable", 127: "command not found"}
_SHELL_SIGNAL: Final = 128


def signal_words(number: int) -> str:
    """The end by a signal, such as ``killed by signal 9 (SIGKILL: killed; …)``."""
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = "no name"
    text = (signal.strsignal(number) or "").lower()
    hint = "; by somebody, or by the kernel for lack of memory" if number == signal.SIGKILL else ""
    return f"killed by signal {number} ({name}{': ' + text if text else ''}{hint})"


def exit_words(code: int) -> str:
    """An exit code that is not 0, with what shells mean by it, such as ``exit code 137 (for shells: signal 9, SIGKILL)``."""
    if code in _SHELL_CODES:
        return f"exit code {code} (for shells: {_SHELL_CODES[code]})"
    try:
        name = signal.Signals(code - _SHELL_SIGNAL).name
    except ValueError:
        return f"exit code {code}"
    return f"exit code {code} (for shells: signal {code - _SHELL_SIGNAL}, {name})"


def vanished_words(what: str, status: int | None) -> str:
    """How a process vanished: with this wait status, or unknown."""
    if status is None:
        return f"the {what} vanished without an answer"
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        return f"the {what} was {signal_words(-code)}, without an answer"
    return f"the {what} ended with {exit_words(code) if code else 'exit code 0'} without an answer, as by os._exit"


def seconds_words(ms: int) -> str:
    """A time limit for people, such as ``1.5 s``."""
    return f"{ms / 1000:g} s"


def bytes_words(size: int) -> str:
    """A size for people, such as ``1.5 GiB``."""
    amount, units = float(size), ["bytes", "KiB", "MiB", "GiB", "TiB"]
    while amount >= 1024 and len(units) > 1:  # noqa: PLR2004 (the step between the units)
        amount /= 1024
        units.pop(0)
    return f"{amount:.4g} {units[0]}"
