"""The three processes of a bare flow: a worker, a ledger and a submitter."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

START_SECONDS = 30
FLOW_SECONDS = 120


Role = Callable[..., None]


def play(url: str, worker: Role, ledger: Role, submitter: Role, *, calls: int, steps: int) -> tuple[Any, Any]:
    """Run them; what the submitter and the ledger have measured.

    Each is called with the URL, a pipe and its count: ``steps`` for the ledger, ``calls`` for the submitter. Worker and ledger say when
    they are up, before the submitter begins.
    """
    context = multiprocessing.get_context("spawn")
    processes = []

    def start(target: Role, *args: int) -> Connection:
        receiver, sender = context.Pipe()
        process = context.Process(target=target, args=(url, sender, *args), daemon=True)
        process.start()
        processes.append(process)
        return receiver

    try:
        _next(start(worker), START_SECONDS)
        chain = start(ledger, steps)
        _next(chain, START_SECONDS)
        return _next(start(submitter, calls), FLOW_SECONDS), _next(chain, FLOW_SECONDS)
    finally:
        for process in processes:
            process.kill()
            process.join()


def _next(receiver: Connection, seconds: float) -> object:
    if not receiver.poll(seconds):
        raise TimeoutError(f"the bare flow says nothing for {seconds:g} s")
    return receiver.recv()
