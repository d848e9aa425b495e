"""Entry of a forkserver: put the import path in place, before anything is loaded that depends on it.

Functions are loaded with the libraries with which they were sent, so cloudpickle and msgpack come from the submitter's import path;
where that is not used, cloudpickle is the worker's. What they and we need of the standard library is loaded before, so that no file of a
user that has the same name stands in for it. This module itself imports the standard library alone.
"""

from __future__ import annotations

import importlib
import json
import socket
import sys
from typing import Final, TypedDict

from broker_jobs_worker.processes import CONTROL_FD, PACKET

STANDARD: Final = (
    "asyncio",
    "concurrent.futures.process",
    "ctypes",
    "dis",
    "hashlib",
    "logging",
    "multiprocessing",
    "pickle",
    "platform",
    "secrets",
    "shutil",
    "site",
    "subprocess",
    "sysconfig",
    "tempfile",
    "traceback",
    "uuid",
)


class Setup(TypedDict):
    """The first packet to a forkserver, as JSON.

    Attributes:
        path: the whole import path; None keeps the interpreter's own
        roots: where what is missing on that path may be found
        front: folders to put in front of it
        python: the worker's interpreter
    """

    path: list[str] | None
    roots: list[str]
    front: list[str]
    python: str


def main() -> None:
    """Run a forkserver; its socket is descriptor 3."""
    link = socket.socket(fileno=CONTROL_FD)
    link.set_inheritable(False)
    data = link.recv(PACKET)
    if not data:
        return
    for name in STANDARD:
        importlib.import_module(name)
    setup: Setup = json.loads(data)
    if setup["path"] is not None:
        path = setup["path"]
        sys.path[:] = [*path, *(root for root in setup["roots"] if root not in path)]
    else:
        # An older one, which the interpreter may have, cannot read what the worker's can.
        sys.path[:0] = setup["roots"]
        importlib.import_module("cloudpickle")
        del sys.path[: len(setup["roots"])]
    sys.path[:0] = setup["front"]

    from broker_jobs.data.digest import helper
    from broker_jobs_worker.runners import forkserver

    helper.python = setup["python"]
    forkserver.serve(link)
