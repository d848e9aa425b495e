"""Counts of what a piece of work has cost: SQL of this process, messages of an embedded broker, messages and bytes of a RabbitMQ node."""

from __future__ import annotations

import asyncio
import json
import re
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from broker_jobs.broker import open_broker
from tests.support.inbox import PATIENCE

if TYPE_CHECKING:
    import pytest

    from tests.support.rabbitmq import RabbitMQNode

_GLOBAL: Final = re.compile(r"(messages_\w+_total)\s*=>\s*(\d+)")


class Sql:
    """Statements and transactions of every SQLite database that this process opens from now on, by the name of its file.

    A statement that is run for many rows counts as often as it has rows.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.statements: Counter[str] = Counter()
        self.commits: Counter[str] = Counter()
        connect = sqlite3.connect

        def traced(database: Any, *args: Any, **options: Any) -> sqlite3.Connection:
            connection = connect(database, *args, **options)
            name = Path(database).name
            connection.set_trace_callback(lambda statement: self._count(name, statement))
            return connection

        for module in (sqlite3, sqlite3.dbapi2):  # SQLAlchemy takes the latter
            monkeypatch.setattr(module, "connect", traced)

    def _count(self, name: str, statement: str) -> None:
        self.statements[name] += 1
        self.commits[name] += statement == "COMMIT"

    def counts(self) -> Counter[str]:
        """``ledger.db statements`` and the like."""
        kinds = {"statements": self.statements, "commits": self.commits}
        return Counter({f"{name} {kind}": number for kind, found in kinds.items() for name, number in found.items()})


class Stored:
    """Messages and bytes that all processes put into an embedded broker, counted by a trigger in its file. Nobody has it open yet."""

    def __init__(self, url: str, path: Path) -> None:
        self._path = path
        asyncio.run(_made(url))
        with closing(sqlite3.connect(path)) as database:
            database.executescript(
                "CREATE TABLE counted (messages INTEGER, bytes INTEGER); INSERT INTO counted VALUES (0, 0);"
                "CREATE TRIGGER counting AFTER INSERT ON bodies BEGIN"
                " UPDATE counted SET messages = messages + 1, bytes = bytes + length(NEW.body); END"
            )

    def counts(self) -> Counter[str]:
        """``messages`` and ``bytes``."""
        with closing(sqlite3.connect(self._path, timeout=PATIENCE)) as database:
            messages, size = database.execute("SELECT messages, bytes FROM counted").fetchone()
        return Counter({"messages": messages, "bytes": size})


async def _made(url: str) -> None:
    broker = await open_broker(url, name="maker", timeout=PATIENCE)
    await broker.close()


def node_counts(node: RabbitMQNode) -> Counter[str]:
    """Messages that a node has received, confirmed, routed, delivered and seen acknowledged, and bytes of the connections that are open."""
    found: Counter[str] = Counter()
    for name, number in _GLOBAL.findall(node.ctl("eval", "rabbit_global_counters:overview().")):
        found[name.removeprefix("messages_").removesuffix("_total")] += int(number)
    for connection in json.loads(node.ctl("list_connections", "--formatter", "json", "recv_oct", "send_oct")):
        found["bytes"] += connection["recv_oct"] + connection["send_oct"]
    return found
