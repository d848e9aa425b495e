"""Where the file of an embedded broker lies, and whether it can lie there."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs, unquote, urlsplit

from broker_jobs.errors import AccessRefused, AddressError, BrokerError, BrokerUnavailable

NETWORK: Final = frozenset(
    {
        "afs", "beegfs", "ceph", "cifs", "coda", "fuse.ceph", "fuse.glusterfs", "fuse.s3fs", "fuse.sshfs", "glusterfs", "gpfs",
        "lustre", "nfs", "nfs4", "orangefs", "pvfs2", "smb3", "smbfs", "wekafs",
    }
)  # fmt: skip
"""Types of file systems that several hosts may share."""

_DURABILITY: Final = {"process": False, "power": True}


@dataclass(frozen=True, slots=True)
class Place:
    """A file, and how safe it is to be.

    Attributes:
        power: survive the loss of power too; without it, the end of any process
    """

    path: Path
    power: bool = False

    @property
    def lock(self) -> Path:
        """The lock file beside it."""
        return self.path.with_name(f"{self.path.name}-lock")

    @classmethod
    def of(cls, url: str) -> Place:
        """The place that ``sqlite:///relative/path`` or ``sqlite:////absolute/path`` names, with ``?durability=power`` or without.

        Raises:
            AddressError: it is no such address
        """
        parts = urlsplit(url)
        path = unquote(parts.path.removeprefix("/"))
        options = parse_qs(parts.query, keep_blank_values=True)
        durability = options.pop("durability", ["process"])[-1]
        if parts.scheme != "sqlite" or parts.netloc or parts.fragment or options or durability not in _DURABILITY:
            raise AddressError(f"{url!r} is no address of an embedded broker; use sqlite:////path/queue.db, or with ?durability=power")
        if not path or path.endswith("/") or path == ":memory:":
            raise AddressError(f"{url!r} names no file; use sqlite:////path/queue.db")
        return cls(Path(path).absolute(), _DURABILITY[durability])

    def check(self) -> None:
        """See that the file can lie there.

        Raises:
            BrokerUnavailable: its folder is not there
            AccessRefused: its folder may not be entered
            BrokerError: it lies on a network file system, or is no file
        """
        folder = self.path.parent
        try:
            if not folder.is_dir():
                raise BrokerUnavailable(f"the folder {folder} does not exist: make it, or name another file for the embedded broker")
            kind = file_system(folder.resolve(), Path("/proc/self/mountinfo").read_text("utf-8", "surrogateescape"))
            if self.path.is_dir():
                raise BrokerError(f"{self.path} is a folder: name a file in it for the embedded broker")
        except PermissionError as error:
            raise AccessRefused(f"{folder} may not be read by this user: {error}") from error
        if kind in NETWORK:
            raise BrokerError(
                f"{folder} is on a network file system ({kind}), which has no locks that SQLite can rely on: "
                "put the file on a disk of this host, or use RabbitMQ to work on several hosts"
            )


def file_system(folder: Path, mountinfo: str) -> str:
    """Type of the file system on which an absolute folder lies, from the text of ``/proc/self/mountinfo``; empty where unknown."""
    best, kind = Path(), ""
    for line in mountinfo.splitlines():
        mount, _, source = line.partition(" - ")
        fields = mount.split(" ")
        if len(fields) < 5:  # noqa: PLR2004 (id, parent, device, root, mount point)
            continue
        point = Path(re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), fields[4]))
        if folder.is_relative_to(point) and len(point.parts) >= len(best.parts):
            best, kind = point, source.split(" ")[0]
    return kind
