"""Which host this is: on the submitter's own host, functions run under the submitter's interpreter and import path."""

from __future__ import annotations

import socket
from functools import cache
from pathlib import Path
from typing import Final

_MACHINE_ID_FILES: Final = (Path("/etc/machine-id"), Path("/var/lib/dbus/machine-id"))


@cache
def host_identity() -> str:
    """The machine id and the name of this host, such as ``9f2c…/node17``.

    The name is part of it since containers of one image may share a machine id; a host without a machine id has its name alone.
    """
    for path in _MACHINE_ID_FILES:
        try:
            machine = path.read_text(encoding="ascii").strip()
        except (OSError, ValueError):
            continue
        if machine:
            return f"{machine}/{socket.gethostname()}"
    return f"/{socket.gethostname()}"
