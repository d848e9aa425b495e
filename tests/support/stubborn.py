"""A process that nobody wants to keep: ``python stubborn.py FOLDER MODE``.

It leaves a file named by its pid in FOLDER, and then lives for minutes. Modes: ``plain``; ``daemon`` (two forks, a session of its own,
no environment, SIGTERM ignored); ``hop`` (it forks and ends all the time).
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import NoReturn

LIFE = 120.0


def main(folder: str, mode: str) -> None:
    """Become what the mode says; return in the first process at once unless it is `plain`."""
    if mode == "plain":
        live(folder)
    if os.fork():
        return
    os.setsid()
    if os.fork():
        os._exit(0)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    if mode == "daemon":
        os.execve(sys.executable, [sys.executable, __file__, folder, "plain"], {})
    hop(folder)


def live(folder: str) -> NoReturn:
    """Stay."""
    Path(folder, str(os.getpid())).touch()
    time.sleep(LIFE)
    os._exit(0)


def hop(folder: str) -> NoReturn:
    """Be another process every few milliseconds."""
    Path(folder, "hopping").touch()
    end = time.monotonic() + LIFE
    while time.monotonic() < end:
        if os.fork():
            os._exit(0)
        time.sleep(0.005)
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
