"""The chaos suite by hand: ``python -m tests.system.chaos --seed 7 --seconds 1500 --tasks 20000 [--partitions 2] [--report FILE]``.

It prints what happens and, in the end, a report; the exit code is 0 where nothing was wrong. The same seed gives the same faults at
the same times; what they meet is up to the machine.
"""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
import tempfile
import time
from pathlib import Path

from tests.support.postgres import Postgres
from tests.support.rabbitmq import RabbitMQCluster
from tests.system.chaos.faults import LONG, SHORT
from tests.system.chaos.ground import FileGround, Ground, ServerGround
from tests.system.chaos.run import run


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(prog="python -m tests.system.chaos", description="Faults over a running deployment.")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=1500, help="how long faults are done")
    parser.add_argument("--tasks", type=int, default=20_000, help="how many tasks are asked for, at least")
    parser.add_argument("--store", choices=["postgres", "sqlite"], default="postgres", help="where the ledger lies")
    parser.add_argument("--partitions", type=int, default=1, help="how many the ledger has")
    parser.add_argument("--short", action="store_true", help="with the short windows of the short test")
    parser.add_argument("--report", type=Path, help="write the report as JSON")
    parser.add_argument("--keep", type=Path, help="an empty folder for logs, ledger and journals, which stays")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # everything that was started is ended
    begin = time.monotonic()

    def say(text: str) -> None:
        print(f"{time.monotonic() - begin:7.1f}  {text}", flush=True)

    with contextlib.ExitStack() as stack:
        cluster = RabbitMQCluster()
        stack.callback(cluster.remove)
        cluster.start()
        say("the broker is up")
        folder = options.keep or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bj-chaos-")))
        folder.mkdir(exist_ok=True, parents=True)
        ground: Ground = FileGround(folder)
        if options.store == "postgres":
            server = Postgres()
            stack.callback(server.remove)
            ground = ServerGround(server)
        pace = SHORT if options.short else LONG
        report = run(
            folder,
            cluster,
            ground,
            seed=options.seed,
            seconds=options.seconds,
            tasks=options.tasks,
            pace=pace,
            partitions=options.partitions,
            say=say,
        )
    print(report.text())
    if options.report:
        options.report.write_text(report.data())
    return 1 if report.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
