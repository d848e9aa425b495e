"""A clean interpreter that has loaded what its children need, and makes a child whenever it is told to.

It is single-threaded and never runs user code, so its children start from the same state, in about a millisecond. There is one for each
environment: an interpreter and an import path.
"""

from __future__ import annotations

import contextlib
import gc
import os
import select
import signal
import socket
import sys
import traceback
import types
from typing import TYPE_CHECKING, Final

from broker_jobs.wire.codec import encode_part
from broker_jobs_worker.guarding import Forked, FromServer, Reaped, Up
from broker_jobs_worker.processes import PACKET, become_subreaper, end_everything
from broker_jobs_worker.runners import child
from broker_jobs_worker.runners.protocol import warm_up

if TYPE_CHECKING:
    from collections.abc import Sequence

_IGNORED: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


def serve(link: socket.socket) -> None:
    """Make children until the parent closes the socket; each packet brings the socket of one, and the pipes of its tickets and notes."""
    warm_up()
    sys.argv[:] = [""]
    # Children of `multiprocessing` would import the main module again.
    sys.modules["__main__"] = types.ModuleType("__main__")
    gc.collect()
    gc.freeze()
    reading, writing = socket.socketpair()
    reading.setblocking(False)
    writing.setblocking(False)
    children: set[int] = set()
    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
    signal.set_wakeup_fd(writing.fileno(), warn_on_full_buffer=False)
    poll = select.poll()
    poll.register(link, select.POLLIN)
    poll.register(reading, select.POLLIN)
    link.send(encode_part(FromServer(Up(os.getpid()))))
    while True:
        events = {fd for fd, _ in poll.poll()}
        if reading.fileno() in events:
            reading.recv(4096)
            _reap(link, children)
        if link.fileno() in events:
            fds = _order(link)
            if fds is None:
                break
            pid = _fork(fds, (link, reading, writing))
            children.add(pid)
            _tell(link, Forked(pid))
    # The worker is gone. Its guardian ends everything; but it may have been killed with it.
    become_subreaper()
    end_everything()


def _reap(link: socket.socket, children: set[int]) -> None:
    while children:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        children.discard(pid)
        _tell(link, Reaped(pid, status))


def _order(link: socket.socket) -> list[int] | None:
    """The socket and the pipes for a child that is to be made; None when the parent is gone."""
    try:
        data, fds, _, _ = socket.recv_fds(link, PACKET, 3)
    except ConnectionError:  # it has left something unread
        return None
    for fd in fds:
        os.set_inheritable(fd, False)
    return fds if data else None


def _tell(link: socket.socket, report: Forked | Reaped) -> None:
    # A parent that is gone does not listen; the end of its socket is noticed next.
    with contextlib.suppress(ConnectionError):
        link.send(encode_part(FromServer(report)))


def _fork(fds: Sequence[int], ours: Sequence[socket.socket]) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            signal.set_wakeup_fd(-1)
            for other in ours:
                other.close()
            for number in (*_IGNORED, signal.SIGCHLD):
                signal.signal(number, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            child.main(socket.socket(fileno=fds[0]), fds[1], fds[2])
        except BaseException:  # noqa: BLE001 (whatever it is, a child must not go on as a forkserver)
            traceback.print_exc()
        finally:
            os._exit(child.BROKEN)
    for fd in fds:
        os.close(fd)
    return pid
