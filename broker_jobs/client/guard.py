"""The parent of the processes of a `LocalCluster`: they end when it ends, and it ends when its standard input does.

Runs as a program of its own: ``python -P -m broker_jobs.client.guard``. Each line on standard input is a JSON object, each is answered
by one line:

- ``{"start": [program, …], "log": path, "env": {…}}`` → ``{"pid": 123}``
- ``{"poll": 123}`` → ``{"code": null}``, or the exit code once the process has ended
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import time

_PR_SET_PDEATHSIG = 1
_DRAIN = 2.0
_LAST = 5.0


def main() -> None:
    """Serve until standard input ends, then end every process."""
    libc = ctypes.CDLL(None)
    parent = os.getpid()
    processes: dict[int, subprocess.Popen[bytes]] = {}

    def end_with_parent() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)

    for line in sys.stdin:
        request = json.loads(line)
        if "start" in request:
            with open(request["log"], "ab") as log:  # noqa: PTH123 (this program starts fast)
                process = subprocess.Popen(
                    request["start"],
                    env=request["env"],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                    preexec_fn=end_with_parent,  # noqa: PLW1509 (there is one thread)
                )
            processes[process.pid] = process
            answer: dict[str, int | None] = {"pid": process.pid}
        else:
            answer = {"code": processes[request["poll"]].poll()}
        print(json.dumps(answer), flush=True)  # noqa: T201 (the protocol)
    end(list(processes.values()))


def end(processes: list[subprocess.Popen[bytes]]) -> None:
    """SIGTERM drains a daemon, a second one ends it at once, and SIGKILL ends what is left."""
    for sent, patience in ((signal.SIGTERM, _DRAIN), (signal.SIGTERM, _LAST), (signal.SIGKILL, _LAST)):
        deadline = time.monotonic() + patience
        for process in processes:
            if process.poll() is None:
                process.send_signal(sent)
        while any(process.poll() is None for process in processes) and time.monotonic() < deadline:
            time.sleep(0.01)


if __name__ == "__main__":
    # Ctrl-C on the terminal is for the client, which ends us by closing the pipe.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    main()
