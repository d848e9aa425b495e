"""The tables of an embedded broker and everything that is done to them, in transactions, without a clock or a loop."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from broker_jobs.broker.embedded import schema
from broker_jobs.broker.embedded.directory import Directory, KnownQueue
from broker_jobs.broker.port import Depth, Letter, Receipt
from broker_jobs.errors import BrokerError, TopologyMismatch
from broker_jobs.wire.topology import QueueKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from broker_jobs.broker.embedded.lock import LockFile
    from broker_jobs.broker.embedded.place import Place
    from broker_jobs.broker.port import Outgoing
    from broker_jobs.wire.topology import Exchange, Queue

PRIVATE_LIMIT: Final = 10_000
"""Messages that a private queue keeps; then it drops its oldest."""

LARGEST_BODY: Final = 128 * 1024 * 1024
"""Bytes of a body; a larger one is refused, as by RabbitMQ."""


class Held(NamedTuple):
    """A message in a queue, as long as this connection holds it."""

    message: int
    queue: int


@dataclass(frozen=True, slots=True)
class Claimed:
    """A message that this connection now holds."""

    held: Held
    exchange: str
    key: str
    body: bytes
    redelivered: bool


class Store:
    """One connection to the file. The caller holds the lock for writing when it makes one.

    Attributes:
        directory: who and what is there
        connection: number of this connection, once attached
        touched: queues in which this transaction may have made a message ready for others
        copied: ledgers that have got what went into a queue of tasks, too, or is in no hurry

    Raises:
        BrokerError: the file is something else than a store of this version
        OSError, sqlite3.Error: it cannot be opened
    """

    def __init__(self, place: Place, lock: LockFile) -> None:
        self._place = place
        self._lock = lock
        self._database = schema.connect(place)
        self._execute = self._database.execute
        self._files = (_identity(place.path), lock.identity())
        self.directory = Directory(self._database)
        self.connection = 0
        self.touched: set[int] = set()
        self.copied: set[int] = set()

    # --- transactions ---

    def begin(self) -> bool:
        """Begin to change; False where another process is at it for longer than usual."""
        if not self._lock.acquire():
            return False
        try:
            self._execute("BEGIN IMMEDIATE")
            self.touched, self.copied = set(), set()
            self.refresh()
        except BaseException:
            self.rollback()
            raise
        return True

    def commit(self) -> None:
        """Make the changes last, and let others write."""
        for number in tuple(self.touched):
            if (queue := self.directory.known(number)) and queue.kind is QueueKind.private:
                self._trim(queue)
        self._execute("COMMIT")
        self._lock.release()

    def rollback(self) -> None:
        """Undo everything since `begin`, and let others write."""
        if self._database.in_transaction:
            self._execute("ROLLBACK")
        self.directory.doubt()
        self._lock.release()

    def refresh(self) -> None:
        """Bring the directory up to date."""
        self.directory.refresh(self.connection)

    def in_place(self) -> bool:
        """Whether the files are where they were."""
        try:
            return (_identity(self._place.path), _identity(self._place.lock)) == self._files
        except OSError:
            return False

    def close(self) -> None:
        """End the connection; peers notice."""
        self._database.close()
        self._lock.close()

    def _topology_changed(self) -> None:
        self._execute("UPDATE state SET topology = topology + 1")
        self.refresh()

    def _presence_changed(self) -> None:
        self._execute("UPDATE state SET presence = presence + 1")
        self.refresh()

    # --- connections ---

    def attach(self, name: str, address: str) -> None:
        """Enter this connection, and clear up after the dead."""
        self.connection = self._insert("INSERT INTO connections (name, pid, address) VALUES (?, ?, ?)", name, os.getpid(), address)
        self._lock.live(self.connection)
        self._presence_changed()
        self.bury_dead()

    def detach(self) -> None:
        """End this connection in order."""
        self._bury(self.connection)

    def dead(self) -> bool:
        """Whether a peer has ended without a word."""
        return not all(map(self._lock.lives, self.directory.peers))

    def bury_dead(self) -> None:
        """Do what the end of a connection asks for, for each peer that does not live."""
        for connection in list(self.directory.peers):
            if not self._lock.lives(connection):
                self._bury(connection)

    def _bury(self, connection: int) -> None:
        self._execute("DELETE FROM connections WHERE id = ?", (connection,))
        self.touched.update(queue for (queue,) in self._execute("SELECT DISTINCT queue FROM messages WHERE holder = ?", (connection,)))
        self.touched.update(queue for (queue,) in self._execute("SELECT queue FROM consumers WHERE connection = ?", (connection,)))
        self._execute("DELETE FROM consumers WHERE connection = ?", (connection,))
        self._execute("UPDATE messages SET holder = NULL, redelivered = 1 WHERE holder = ?", (connection,))
        private = [queue for (queue,) in self._execute("SELECT id FROM queues WHERE owner = ?", (connection,))]
        for queue in private:
            self._drop(queue)
        if private:
            self._topology_changed()
        self._presence_changed()
        self._return_tokens()

    # --- topology ---

    def declare(self, exchanges: Iterable[Exchange], queues: Iterable[Queue]) -> None:
        """Make what is missing.

        Raises:
            TopologyMismatch: a queue exists with other properties
            BrokerError: a binding names an exchange that does not exist, or another connection has the private queue
        """
        before = self._database.total_changes
        self._database.executemany("INSERT OR IGNORE INTO exchanges VALUES (?)", [(each.name,) for each in exchanges])
        known = {name for (name,) in self._execute("SELECT name FROM exchanges")}
        for queue in queues:
            number = self._declare(queue)
            for binding in queue.bindings:
                if binding.exchange not in known:
                    raise BrokerError(f"queue {queue.name} cannot be bound to exchange {binding.exchange}: declare that first")
                self._execute("INSERT OR IGNORE INTO bindings VALUES (?, ?, ?)", (binding.exchange, binding.pattern, number))
        if self._database.total_changes != before:
            self._topology_changed()
            self._return_tokens()

    def _declare(self, queue: Queue) -> int:
        known = self._find(queue.name)
        if known and known.owner not in (None, self.connection):
            self.bury_dead()
            known = self._find(queue.name)
        if known is None:
            return self._insert(
                "INSERT INTO queues (name, kind, dead_letter_exchange, dead_letter_key, owner) VALUES (?, ?, ?, ?, ?)",
                queue.name,
                queue.kind.value,
                queue.dead_letter_exchange,
                queue.dead_letter_key,
                self.connection if queue.kind is QueueKind.private else None,
            )
        if known.owner not in (None, self.connection):
            raise BrokerError(f"queue {queue.name} is private to another connection")
        if (known.kind, known.dead_letter_exchange) != (queue.kind, queue.dead_letter_exchange):
            if known.kind is not queue.kind:
                raise TopologyMismatch.of(f"queue {queue.name}", "kind", queue.kind.value, known.kind.value)
            if known.dead_letter_exchange is not None:
                raise TopologyMismatch.of(
                    f"queue {queue.name}", "dead letter exchange", queue.dead_letter_exchange or "none", known.dead_letter_exchange
                )
            # Nothing was promised to what waits there: an earlier version made it.
            self.set_properties(queue)
        return known.id

    def set_properties(self, queue: Queue) -> bool:
        """Give a queue the properties that it should have; False where it has them, or does not exist."""
        return bool(
            self._execute(
                "UPDATE queues SET kind = ?1, dead_letter_exchange = ?2, dead_letter_key = ?3"
                " WHERE name = ?4 AND (kind, dead_letter_exchange, dead_letter_key) IS NOT (?1, ?2, ?3)",
                (queue.kind.value, queue.dead_letter_exchange, queue.dead_letter_key, queue.name),
            ).rowcount
        )

    def _find(self, name: str) -> KnownQueue | None:
        row = self._execute("SELECT id, kind, dead_letter_exchange, dead_letter_key, owner FROM queues WHERE name = ?", (name,)).fetchone()
        return KnownQueue(row[0], QueueKind(row[1]), *row[2:]) if row else None

    def readable(self, name: str) -> KnownQueue:
        """The queue of this name.

        Raises:
            BrokerError: there is none, or it is private to another connection
        """
        queue = self.directory.queues.get(name)
        if queue is None:
            raise BrokerError(f"there is no queue {name}: declare it first")
        if queue.owner not in (None, self.connection):
            raise BrokerError(f"queue {name} is private to another connection")
        return queue

    def delete(self, name: str) -> None:
        """Delete a queue with what is in it, where it exists."""
        if queue := self.directory.queues.get(name):
            self._drop(queue.id)
            self._topology_changed()
            self._presence_changed()

    def _drop(self, queue: int) -> None:
        self._forget(self._content(queue))
        self._execute("DELETE FROM consumers WHERE queue = ?", (queue,))
        self._execute("DELETE FROM bindings WHERE queue = ?", (queue,))
        self._execute("DELETE FROM queues WHERE id = ?", (queue,))

    def _content(self, queue: int) -> list[tuple[int, int]]:
        # Two halves, because each has an index.
        statement = (
            "SELECT id, queue FROM messages WHERE queue = ? AND holder IS NULL"
            " UNION ALL SELECT id, queue FROM messages WHERE queue = ? AND holder IS NOT NULL"
        )
        return self._execute(statement, (queue, queue)).fetchall()

    def migrate(self, queue: Queue) -> bool:
        """Give a queue the properties that it should have, and make it where it is missing; False where it has them.

        Raises:
            BrokerError: it has consumers
        """
        known = self.directory.queues.get(queue.name)
        if known and (count := self.directory.consumers(known.id)):
            raise BrokerError(f"queue {queue.name} is consumed by {count}: stop them, and call this again")
        changed = self.set_properties(queue)
        self.declare((), (queue,))
        if changed:
            self._topology_changed()
        return changed

    def purge(self, name: str) -> int:
        """Remove what waits in a queue; how many messages that were."""
        rows = self._execute("SELECT id, queue FROM messages WHERE queue = ? AND holder IS NULL", (self.readable(name).id,)).fetchall()
        self._forget(rows)
        return len(rows)

    def letters(self, name: str, most: int) -> list[Letter]:
        """The oldest messages that wait in a queue."""
        rows = self._execute(
            "SELECT id, ifnull(CAST(exchange AS TEXT), ''), ifnull(CAST(key AS TEXT), ''), ifnull(CAST(body AS BLOB), x''),"
            " CAST(headers AS TEXT) FROM messages JOIN bodies USING (id)"
            " WHERE queue = ? AND holder IS NULL ORDER BY id LIMIT ?",
            (self.readable(name).id, most),
        )
        return [Letter(number, exchange, key, body, _read_headers(headers)) for number, exchange, key, body, headers in rows]

    def remove(self, name: str, number: int) -> bool:
        """Remove a message that waits in a queue; False where it does not."""
        queue = self.directory.queues.get(name)
        if queue is None:
            return False
        row = self._execute("SELECT id, queue FROM messages WHERE id = ? AND queue = ? AND holder IS NULL", (number, queue.id)).fetchone()
        if row:
            self._forget([row])
        return row is not None

    def depth(self, name: str) -> Depth | None:
        """How full a queue is; None where it does not exist."""
        queue = self.directory.queues.get(name)
        if queue is None:
            return None
        (ready,) = self._execute("SELECT count(*) FROM messages WHERE queue = ? AND holder IS NULL", (queue.id,)).fetchone()
        return Depth(ready, self.directory.consumers(queue.id))

    # --- messages ---

    def publish(self, messages: Iterable[Outgoing]) -> list[Receipt]:
        """Put each message into the queues that its key leads to."""
        return [self._publish(each) for each in messages]

    def _publish(self, message: Outgoing) -> Receipt:
        routes = self.directory.routes
        if message.exchange not in routes.exchanges or len(message.body) > LARGEST_BODY:
            return Receipt.refused
        queues = routes.queues(message.exchange, message.key)
        if not queues:
            return Receipt.unroutable if message.mandatory else Receipt.confirmed
        self._put(self._write_body(message), queues, leisurely=message.leisurely)
        return Receipt.confirmed

    def _write_body(self, message: Outgoing) -> int:
        headers = json.dumps(dict(message.headers)) if message.headers else None
        return self._insert(
            "INSERT INTO bodies (exchange, key, headers, body) VALUES (?, ?, ?, ?)", message.exchange, message.key, headers, message.body
        )

    def _put(self, number: int, queues: Iterable[int], *, leisurely: bool = False) -> None:
        self._database.executemany("INSERT INTO messages VALUES (?, ?, NULL, 0)", [(number, queue) for queue in queues])
        kinds = {queue: known.kind for queue in queues if (known := self.directory.known(queue))}
        others = {QueueKind.tasks, QueueKind.private} if leisurely else {QueueKind.tasks}
        copied = {queue for queue, kind in kinds.items() if kind is QueueKind.ledger and not others.isdisjoint(kinds.values())}
        self.copied |= copied
        self.touched.update(kinds.keys() - copied)

    def _copy(self, number: int, exchange: str | None, queues: Iterable[int]) -> None:
        """Put a message into other queues, as one that came through an exchange."""
        copy = "INSERT INTO bodies (exchange, key, headers, body) SELECT ?, key, headers, body FROM bodies WHERE id = ?"
        self._put(self._insert(copy, exchange, number), queues)

    def _trim(self, queue: KnownQueue) -> None:
        """Drop the oldest of a private queue, to where the queue says."""
        oldest_kept = self._execute(
            "SELECT id FROM messages WHERE queue = ? AND holder IS NULL ORDER BY id DESC LIMIT 1 OFFSET ?", (queue.id, PRIVATE_LIMIT - 1)
        ).fetchone()
        if oldest_kept:
            rows = self._execute("SELECT id, queue FROM messages WHERE queue = ? AND holder IS NULL AND id < ?", (queue.id, *oldest_kept))
            dropped = rows.fetchall()
            if queues := self.directory.routes.queues(queue.dead_letter_exchange or "", queue.dead_letter_key or ""):
                for number, _ in dropped:
                    self._copy(number, queue.dead_letter_exchange, queues)
            self._forget(dropped)

    def head(self, queue: int) -> int | None:
        """The message that waits there first for a consumer."""
        row = self._execute("SELECT id FROM messages WHERE queue = ? AND holder IS NULL ORDER BY id LIMIT 1", (queue,)).fetchone()
        return None if row is None else row[0]

    def claim(self, queue: int, most: int) -> list[Claimed]:
        """Hold the oldest messages that nobody holds."""
        claimed = self.read(queue, 0, most)
        if claimed:
            self._database.executemany(
                "UPDATE messages SET holder = ? WHERE id = ? AND queue = ?", [(self.connection, *each.held) for each in claimed]
            )
        return claimed

    def read(self, queue: int, after: int, most: int) -> list[Claimed]:
        """The oldest messages that nobody holds, behind one: all there is to do where nobody else may have them, without a transaction.

        A column may hold anything; what is no text or no bytes there is read as some.
        """
        rows = self._execute(
            "SELECT id, ifnull(CAST(exchange AS TEXT), ''), ifnull(CAST(key AS TEXT), ''), ifnull(CAST(body AS BLOB), x''), redelivered"
            " FROM messages JOIN bodies USING (id)"
            " WHERE queue = ? AND holder IS NULL AND id > ? ORDER BY id LIMIT ?",
            (queue, after, most),
        )
        return [Claimed(Held(number, queue), exchange, key, body, bool(again)) for number, exchange, key, body, again in rows]

    def settle(self, held: Sequence[Held]) -> None:
        """Forget messages that this connection holds."""
        self._forget(held)

    def release(self, held: Sequence[Held]) -> None:
        """Put messages that this connection holds back where they were."""
        self._database.executemany("UPDATE messages SET holder = NULL, redelivered = 1 WHERE id = ? AND queue = ?", held)
        self.touched.update(each.queue for each in held)

    def _forget(self, messages: Sequence[tuple[int, int]]) -> None:
        self._database.executemany("DELETE FROM messages WHERE id = ? AND queue = ?", messages)
        self._database.executemany(
            "DELETE FROM bodies WHERE id = ? AND NOT EXISTS (SELECT 1 FROM messages WHERE messages.id = bodies.id)",
            [(number,) for number, _ in messages],
        )

    # --- consumers ---

    def subscribe(self, queue: KnownQueue) -> int:
        """Enter a consumer; its number."""
        consumer = self._insert("INSERT INTO consumers (queue, connection) VALUES (?, ?)", queue.id, self.connection)
        self._presence_changed()
        return consumer

    def unsubscribe(self, consumer: int) -> None:
        """Strike a consumer out; who stands by behind it takes over."""
        self.touched.update(queue for (queue,) in self._execute("SELECT queue FROM consumers WHERE id = ?", (consumer,)))
        self._execute("DELETE FROM consumers WHERE id = ?", (consumer,))
        self._presence_changed()

    # --- tokens ---

    def hold_token(self, lease: Queue, token: Outgoing) -> None:
        """Put a token into its lease queue and hold it, in place of one held before."""
        self.drop_token()
        self.declare((), (lease,))
        number = self._write_body(token)
        self._execute("INSERT INTO messages VALUES (?, ?, ?, 0)", (number, self.directory.queues[lease.name].id, self.connection))

    def drop_token(self) -> None:
        """Forget the token that this connection holds, and its queue."""
        held = self._execute("SELECT id, queue FROM messages WHERE holder = ?", (self.connection,)).fetchall()
        self._end_leases([(number, queue) for number, queue in held if _is_lease(self.directory.known(queue))])

    def _return_tokens(self) -> None:
        """Route the tokens that nobody holds to the dead-letter exchanges; one that no queue takes waits for the next declaration."""
        tokens = [
            (number, queue.id, queue.dead_letter_exchange)
            for queue in self.directory.queues.values()
            if queue.kind is QueueKind.lease
            for (number,) in self._execute("SELECT id FROM messages WHERE queue = ? AND holder IS NULL", (queue.id,)).fetchall()
        ]
        returned = []
        for number, lease, exchange in tokens:
            (key,) = self._execute("SELECT key FROM bodies WHERE id = ?", (number,)).fetchone()
            if queues := self.directory.routes.queues(exchange or "", key):
                self._copy(number, exchange, queues)
                returned.append((number, lease))
        self._end_leases(returned)

    def _end_leases(self, tokens: Sequence[tuple[int, int]]) -> None:
        self._forget(tokens)
        empty = [queue for queue in {queue for _, queue in tokens} if not self._content(queue)]
        for queue in empty:
            self._drop(queue)
        if empty:
            self._topology_changed()

    def _insert(self, statement: str, *values: object) -> int:
        number = self._execute(statement, values).lastrowid
        assert number is not None  # noqa: S101 (an INSERT into a table with a rowid has one)
        return number


def _is_lease(queue: KnownQueue | None) -> bool:
    return queue is not None and queue.kind is QueueKind.lease


def _read_headers(text: str | None) -> dict[str, str]:
    """The headers in a column; none where it holds something else."""
    try:
        found = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return {}
    return {name: value for name, value in found.items() if isinstance(value, str)} if isinstance(found, dict) else {}


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino
