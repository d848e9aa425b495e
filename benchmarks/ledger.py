"""What a small task costs the coordinator: CPU time for its intake and for the reply about it, and what the database has to do.

The real ledger and its real store, in one process, without a broker, a worker or a client: sealed chunks of a map, as clients publish them,
and sealed replies, as workers do; or of a graph, which waits in the ledger and is published by it. It is a figure of the processor alone;
the disk writes with synchronous=NORMAL.
"""

from __future__ import annotations

import argparse
import cProfile
import dataclasses
import os
import pstats
import random
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from rich.console import Console
from rich.table import Table

from broker_jobs.config import sqlite_url
from broker_jobs.coordinator.admission import admit
from broker_jobs.coordinator.config import CoordinatorConfig
from broker_jobs.coordinator.ledger import Ledger
from broker_jobs.coordinator.store import LedgerStore
from broker_jobs.core.outcome import Succeeded
from broker_jobs.wire import messages as m
from broker_jobs.wire.signing import Signer, SigningKey
from broker_jobs.wire.topology import Topology
from tests.support import cast

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

KEY = SigningKey.parse("ab" * 32)
SIGNER = Signer("bench", KEY)
NAMES = Topology("bench")
WORKER, BOOT = "worker-1", "boot-1"
LAYERS = 100

Message = tuple[str, str, bytes]
"""Exchange, routing key, frame."""


class Bench:
    """A ledger, and what is told to it.

    Args:
        folder: of its file
        together: messages in one transaction

    Attributes:
        published: chunks that were released
    """

    def __init__(self, folder: Path, together: int) -> None:
        config = CoordinatorConfig("sqlite:////none", KEY, sqlite_url(folder / "ledger.db"), "bench")
        self._store = LedgerStore(config.store, "bench")
        self._store.take_epoch()
        self._ledger = Ledger(config, self._store, SIGNER, NAMES, version="0")
        self._together = together
        self.published: list[bytes] = []
        self._ledger.load(0.0, _now_ms())
        hello = m.Hello(WORKER, BOOT, "host", 1, "0", cast.FOUR_CPUS, cast.FOUR_CPUS)
        self.take([(NAMES.replies, "", SIGNER.seal(hello, m.Role.worker))])

    def take(self, messages: Sequence[Message]) -> None:
        """All these messages, as the coordinator takes them."""
        for start in range(0, max(1, len(messages)), self._together):
            opened = [admit(SIGNER.open(body), NAMES, exchange, key, 0) for exchange, key, body in messages[start : start + self._together]]
            with self._store.transaction():
                self._ledger.begin(time.monotonic(), _now_ms())
                for message in opened:
                    self._ledger.take(message)
                effects = self._ledger.finish()
            self.published += [row.body for row in effects.outbox if row.exchange == NAMES.ready]
            self._ledger.confirmed(row.id for row in effects.outbox)

    @property
    def unfinished(self) -> int:
        """Jobs that have not ended."""
        return len(self._ledger.jobs.live)

    def close(self) -> None:
        """End."""
        self._store.close()


def _messages(tasks: int, size: int) -> tuple[list[Message], list[Message]]:
    """The chunks of a map, and the replies to them."""
    chunks = cast.job_chunks((cast.call(number) for number in range(tasks)), size=size, direct=True, ephemeral=True)
    submitted = [
        (NAMES.tasks, NAMES.task_key(chunk.resource_class, chunk.lane, 0), SIGNER.seal(chunk, m.Role.submitter)) for chunk in chunks
    ]
    return submitted, _replies(chunks)


def _graph(tasks: int, size: int, edges: int) -> list[Message]:
    """The chunks of a graph of `LAYERS` layers; each task waits for some of the layer before."""
    chance, width = random.Random(1), max(1, tasks // LAYERS)
    each = (chance.sample(range(max(0, first - width), first), min(edges, first)) for first in (n - n % width for n in range(tasks)))
    calls = (dataclasses.replace(cast.call(number), deps=tuple(deps)) for number, deps in enumerate(each))
    chunks = cast.job_chunks(calls, size=size)
    return [(NAMES.tasks, NAMES.ledger_key(0), SIGNER.seal(chunk, m.Role.submitter)) for chunk in chunks]


def _replies(chunks: Iterable[m.Chunk]) -> list[Message]:
    """All tasks of these have succeeded."""
    now = _now_ms()
    replies = []
    for chunk in chunks:
        items = tuple(
            m.Ended(task.number, 1, f"{BOOT}.{task.number}", Succeeded(cast.value(task.number)), now, now) for task in chunk.tasks
        )
        reply = m.Reply(chunk.job, WORKER, BOOT, items, chunk.resource_class)
        replies.append((NAMES.replies, "client-1.0", SIGNER.seal(reply, m.Role.worker)))
    return replies


def _cpu(act: Callable[[], object]) -> float:
    """Microseconds of this process, user and system."""
    begun = time.process_time()
    act()
    return (time.process_time() - begun) * 1e6


def _measured(arguments: argparse.Namespace) -> tuple[float, float]:
    """Microseconds of each task, for its intake and for its reply."""
    if arguments.graph:
        return _measured_graph(arguments)
    chunks, replies = _messages(arguments.tasks, arguments.chunk)
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), arguments.together)
        taken = _cpu(lambda: bench.take(chunks))
        ended = _cpu(lambda: bench.take(replies))
        assert not bench.unfinished
        bench.close()
    return taken / arguments.tasks, ended / arguments.tasks


def _measured_graph(arguments: argparse.Namespace) -> tuple[float, float]:
    chunks = _graph(arguments.tasks, arguments.chunk, arguments.graph)
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), arguments.together)
        taken, ended = _cpu(lambda: bench.take(chunks)), 0.0
        while bench.unfinished:
            opened = [SIGNER.open(body).message for body in bench.published]
            bench.published.clear()
            replies = _replies(message for message in opened if isinstance(message, m.Chunk))
            ended += _cpu(lambda: bench.take(replies))  # noqa: B023 (called at once)
        bench.close()
    return taken / arguments.tasks, ended / arguments.tasks


def _counted(arguments: argparse.Namespace, table: Table) -> None:
    """What SQLite is asked for."""
    counts: Counter[str] = Counter()

    def connected(connection: Any, _record: object) -> None:
        connection.set_trace_callback(lambda sql: counts.update([" ".join(sql.split()[:1])]))

    sa.event.listen(sa.engine.Engine, "connect", connected)
    try:
        chunks, replies = _messages(arguments.tasks, arguments.chunk)
        with tempfile.TemporaryDirectory() as folder:
            bench = Bench(Path(folder), arguments.together)
            for what, messages in (("intake", chunks), ("replies", replies)):
                counts.clear()
                bench.take(messages)
                transactions = counts.pop("COMMIT")
                del counts["BEGIN"]
                share = 10_000 / arguments.tasks
                kinds = ", ".join(f"{kind.lower()} {count * share:,.0f}" for kind, count in counts.most_common())
                table.add_row(what, f"{counts.total() * share:,.0f}", f"{transactions * share:,.0f}", kinds)
            bench.close()
    finally:
        sa.event.remove(sa.engine.Engine, "connect", connected)


def _profiled(arguments: argparse.Namespace) -> None:
    chunks, replies = _messages(arguments.tasks, arguments.chunk)
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), arguments.together)
        for messages in (chunks, replies):
            profile = cProfile.Profile()
            profile.runcall(bench.take, messages)
            pstats.Stats(profile).sort_stats("tottime").print_stats(arguments.profile)
        bench.close()


def main() -> None:
    """Measure, and print the tables."""
    parser = argparse.ArgumentParser(prog="./scripts/bench ledger", description=__doc__)
    parser.add_argument("--tasks", type=int, default=20_000)
    parser.add_argument("--chunk", type=int, default=100, help="tasks in a message")
    parser.add_argument("--together", type=int, default=10, help="messages in a transaction")
    parser.add_argument("--rounds", type=int, default=3, help="the best of so many counts")
    parser.add_argument("--graph", type=int, default=0, metavar="EDGES", help="not a map: each task waits for so many of the layer before")
    parser.add_argument("--profile", type=int, default=0, metavar="LINES", help="show where the time goes instead")
    arguments = parser.parse_args()
    if arguments.profile:
        _profiled(arguments)
        return
    console = Console()
    with console.status(f"{arguments.tasks:,} tasks"):
        rounds = [_measured(arguments) for _ in range(arguments.rounds)]
        statements = Table(title="statements for 10,000 tasks, row by row", title_justify="left", box=None)
        for column, justify in (("", "left"), ("statements", "right"), ("transactions", "right"), ("of these kinds", "left")):
            statements.add_column(column, justify=justify)  # type: ignore[arg-type]
        if not arguments.graph:
            _counted(arguments, statements)
    table = Table(title="µs of CPU time for each task", title_justify="left", box=None)
    for column, justify in (("", "left"), ("µs", "right")):
        table.add_column(column, justify=justify)  # type: ignore[arg-type]
    for what, numbers in zip(("intake", "replies"), zip(*rounds, strict=True), strict=True):
        table.add_row(what, f"{min(numbers):.1f}")
    console.print(table)
    if not arguments.graph:
        console.print(statements)
    console.print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors")


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


if __name__ == "__main__":
    main()
