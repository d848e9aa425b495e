"""Kill a process just before its first write to a file, its second, and so on: `python -m tests.support.crash_points FOLDER`.

A child does a row of transactions with the file of an embedded broker, and is stopped by the kernel at every call by which it may
change a file (ptrace). One child is killed at the first of these, the next at the second, until one comes to its end. After each death
the file is opened again, and what is in it is printed, a line of JSON for each: how many transactions were over, and the messages.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import platform
import signal
import sqlite3
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from broker_jobs.broker.embedded.lock import LockFile
from broker_jobs.broker.embedded.place import Place
from broker_jobs.broker.embedded.store import Store
from broker_jobs.broker.port import Outgoing
from broker_jobs.wire.topology import Binding, Exchange, Queue, QueueKind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_TRACEME, _CONT, _SYSCALL, _SETOPTIONS, _SYSCALL_INFO = 0, 7, 24, 0x4200, 0x420E
_GOOD: Final = 1  # PTRACE_O_TRACESYSGOOD: stops at system calls are told from signals
_EXITKILL: Final = 0x100000
_ENTRY: Final = 1
_WRITES: Final = {
    # pwrite64, fsync, fdatasync, ftruncate, rename, unlink; not write, which is for pipes here
    "x86_64": {18, 74, 75, 77, 82, 87, 263, 264},
    "aarch64": {68, 82, 83, 46, 38, 35},
}

_X: Final = Exchange("x")
_ONE: Final = Queue("one", QueueKind.tasks, (Binding("x", "#"),))
_TWO: Final = Queue("two", QueueKind.ledger, (Binding("x", "*.both"),))


def transactions(store: Store) -> Iterator[Callable[[], object]]:
    """What is done, one transaction each: everything that a broker does with messages."""
    big = bytes(range(256)) * 60
    yield lambda: (store.attach("test", "nowhere"), store.declare([_X], [_ONE, _TWO]))
    yield lambda: store.publish([Outgoing("x", "a.both", b"1"), Outgoing("x", "a", b"2"), Outgoing("x", "a.both", big)])
    one, two = (store.directory.queues[queue.name].id for queue in (_ONE, _TWO))
    claimed = []
    yield lambda: claimed.extend(store.claim(one, 2))
    yield lambda: store.settle([claimed[0].held])
    yield lambda: store.release([claimed[1].held])
    yield lambda: (store.publish([Outgoing("x", "b.both", b"4")]), store.settle([item.held for item in store.claim(two, 1)]))
    yield lambda: store.delete("one")
    yield lambda: (store.declare([], [_ONE]), store.publish([Outgoing("x", "c", big + b"5")]))


def work(folder: Path, done: Callable[[], object]) -> None:
    """Do all of it, and tell after each transaction."""
    place = Place(folder / "queue.db")
    lock = LockFile(place.lock)
    lock.acquire()
    store = Store(place, lock)
    for transaction in transactions(store):
        store.begin()
        transaction()
        store.commit()
        done()
    store._execute("PRAGMA wal_checkpoint(TRUNCATE)")  # noqa: SLF001 (the log goes into the file, which happens every few megabytes)
    store.close()


def messages(folder: Path) -> list[list[str]]:
    """What a new connection finds, after it has looked after the dead: queues and bodies."""
    place = Place(folder / "queue.db")
    with contextlib.closing(LockFile(place.lock)) as lock:
        lock.acquire()
        store = Store(place, lock)
        store.begin()
        store.attach("after", "nowhere")
        store.commit()
        store.close()
    with contextlib.closing(sqlite3.connect(place.path)) as database:
        if database.execute("PRAGMA integrity_check").fetchall() != [("ok",)]:
            return [["damaged", ""]]
        query = (
            "SELECT q.name, hex(b.body) FROM queues q LEFT JOIN messages m ON m.queue = q.id LEFT JOIN bodies b ON b.id = m.id"
            " ORDER BY q.name, b.id"
        )
        return [[name, str(body)[:8] + f" {len(str(body))}"] for name, body in database.execute(query)]


class _Info(ctypes.Structure):
    _fields_ = (
        ("op", ctypes.c_uint8),
        ("pad", ctypes.c_uint8 * 3),
        ("arch", ctypes.c_uint32),
        ("pointers", ctypes.c_uint64 * 2),
        ("number", ctypes.c_uint64),
        ("arguments", ctypes.c_uint64 * 6),
    )


_libc: Final = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)
_libc.ptrace.restype = ctypes.c_long


def _trace(request: int, pid: int, address: int = 0, data: int = 0) -> int:
    answer: int = _libc.ptrace(request, pid, address, data)
    if answer < 0:
        raise OSError(ctypes.get_errno(), f"ptrace {request}: {os.strerror(ctypes.get_errno())}")
    return answer


def killed_at(folder: Path, point: int) -> tuple[bool, int]:
    """Run a child until its write of this number; whether it came so far, and how many transactions it had told of."""
    readable, writable = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.close(readable)
            _trace(_TRACEME, 0)
            os.kill(os.getpid(), signal.SIGSTOP)
            work(folder, lambda: os.write(writable, b"."))
            code = 0
        finally:
            os._exit(code)
    os.close(writable)
    os.waitpid(child, 0)
    _trace(_SETOPTIONS, child, 0, _GOOD | _EXITKILL)
    writes, passed = _WRITES[platform.machine()], 0
    request, forwarded = _SYSCALL, 0
    killed = False
    while True:
        _trace(request, child, 0, forwarded)
        _, status = os.waitpid(child, 0)
        if os.WIFEXITED(status) or os.WIFSIGNALED(status):
            break
        stopped = os.WSTOPSIG(status)
        forwarded = 0 if stopped == signal.SIGTRAP | 0x80 else stopped
        if forwarded:
            continue
        info = _Info()
        _trace(_SYSCALL_INFO, child, ctypes.sizeof(info), ctypes.addressof(info))
        if info.op == _ENTRY and info.number in writes:
            if passed == point:
                killed = True
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
                break
            passed += 1
    with os.fdopen(readable, "rb") as told:
        done = len(told.read())
    if not killed and status != 0:
        raise RuntimeError(f"the child ended with {status}")
    return killed, done


def main(folder: Path) -> None:
    """All points."""
    expected: list[list[list[str]]] = []
    reference = folder / "reference"
    reference.mkdir()
    work(reference, lambda: expected.append(messages(reference)))
    print(json.dumps({"expected": expected}))
    point = 0
    while True:
        here = folder / str(point)
        here.mkdir()
        killed, done = killed_at(here, point)
        print(json.dumps({"point": point, "done": done, "killed": killed, "found": messages(here)}))
        if not killed:
            return
        point += 1


if __name__ == "__main__":
    main(Path(sys.argv[1]))
