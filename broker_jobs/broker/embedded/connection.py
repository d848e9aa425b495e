"""One connection to the store on an event loop: opened once, and at the end closed."""

from __future__ import annotations

import contextlib
import sqlite3
from typing import TYPE_CHECKING, Final

from broker_jobs.broker.embedded.doorbell import Doorbell
from broker_jobs.broker.embedded.lock import LockFile
from broker_jobs.broker.embedded.peers import Peers
from broker_jobs.broker.embedded.store import Store
from broker_jobs.errors import AccessRefused, BrokerError, BrokerUnavailable

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterator

    from broker_jobs.broker.embedded.place import Place

_TICK: Final = 0.5
"""Seconds between looks at what no bell announces."""

_NO_HURRY: Final = 0.02
"""Seconds after which a ledger is told of what others have got, too: until then, those who do the tasks need the processors."""


class Connection:
    """The store, and what tells when to look into it.

    Args:
        look: called when something may be there
        lost: called with the reason when the file is not where it was

    Attributes:
        death: a peer has ended without a word, and nobody has cleared up after it yet
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, store: Store, doorbell: Doorbell, look: Callable[[], None], lost: Callable[[str], None]
    ) -> None:
        self.store = store
        self.death = False
        self._loop = loop
        self._doorbell = doorbell
        self._look = look
        self._lost = lost
        self._peers = Peers(loop, self._look_for_dead)
        self._next_tick = loop.call_later(_TICK, self._tick)
        self._unhurried: set[str] = set()
        self._next_unhurried: asyncio.TimerHandle | None = None
        loop.add_reader(doorbell.fileno(), self._rung)
        doorbell.ring(store.directory.everybody())
        self.watch_peers()

    def watch_peers(self) -> None:
        """Watch the peers that the store knows of."""
        self._peers.watch(self.store.directory.peers)

    def ring(self) -> None:
        """Tell others what the last transaction may have brought them."""
        store, told = self.store, {self._doorbell.address}
        hurried = [each for each in store.directory.listeners(store.touched) if each not in told]
        self._doorbell.ring(hurried)
        if store.copied:
            self._unhurried.update({*store.directory.listeners(store.copied)}.difference(told, hurried))
            if self._unhurried and self._next_unhurried is None:
                self._next_unhurried = self._loop.call_later(_NO_HURRY, self._ring_unhurried)

    def close(self) -> None:
        """End it; peers notice by its lock, and give back what it held."""
        self._next_tick.cancel()
        self._ring_unhurried()
        self._loop.remove_reader(self._doorbell.fileno())
        self._peers.close()
        self._doorbell.close()
        self.store.close()

    def _ring_unhurried(self) -> None:
        if self._next_unhurried:
            self._next_unhurried.cancel()
            self._next_unhurried = None
        addresses, self._unhurried = self._unhurried, set()
        self._doorbell.ring(addresses)

    def _rung(self) -> None:
        self._doorbell.answer()
        self._look()

    def _look_for_dead(self) -> None:
        self.death = self.store.dead()
        self._look()

    def _tick(self) -> None:
        self._next_tick = self._loop.call_later(_TICK, self._tick)
        if self.store.in_place():
            self._look_for_dead()
        else:
            self._lost("the file was moved or deleted")


def enter(place: Place, name: str, prepare: Callable[[Store], None]) -> tuple[Store, Doorbell] | None:
    """Open the store and enter a connection of this name, in one transaction with `prepare`; None where others have it locked.

    Raises:
        BrokerUnavailable: its folder is missing, or the file cannot be opened
        AccessRefused: this user may not use it
        BrokerError: it is something else than a store of this version
    """
    place.check()
    with contextlib.ExitStack() as undo, _explained(place):
        lock = LockFile(place.lock)
        undo.callback(lock.close)
        doorbell = Doorbell()
        undo.callback(doorbell.close)
        if not lock.acquire():
            return None
        try:
            store = Store(place, lock)
            undo.callback(store.close)
            store.begin()
            store.attach(name, doorbell.address)
            prepare(store)
            store.commit()
        except sqlite3.Error as error:
            if primary_code(error) != sqlite3.SQLITE_BUSY:
                raise
            return None
        undo.pop_all()
    return store, doorbell


def primary_code(error: sqlite3.Error) -> int:
    """Result code of SQLite without its details; 0 for an error of the module itself."""
    code: int = getattr(error, "sqlite_errorcode", 0)
    return code & 0xFF


@contextlib.contextmanager
def _explained(place: Place) -> Iterator[None]:
    try:
        yield
    except PermissionError as error:
        raise AccessRefused(f"{place.path} may not be used by this user: {error}") from error
    except OSError as error:
        raise BrokerUnavailable(f"{place.path} cannot be opened: {error}") from error
    except sqlite3.Error as error:
        if primary_code(error) in {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH}:
            raise AccessRefused(f"{place.path} may not be written by this user: {error}") from error
        if primary_code(error) == sqlite3.SQLITE_CORRUPT:
            raise BrokerError(
                f"{place.path} is damaged ({error}): end every program that uses it, and move it away together with the files beside it;"
                " a new one is made, and the jobs that the ledger has go on"
            ) from error
        raise BrokerUnavailable(f"{place.path} cannot be opened: {error}") from error
