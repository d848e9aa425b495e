"""Control groups that hold the memory of tasks, where this worker may make some; version 2, else the controller of version 1.

A task with a memory limit gets a group of its own. Its runner enters the group before the task begins and leaves it at the end, so the
kernel counts what is allocated between the two, by every process that the task starts: what a warm child had before is charged elsewhere.
All groups lie below the one in which the worker was started, so the limits of that one go on to hold.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from broker_jobs_worker.processes import look

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT: Final = Path("/")
_NAME: Final = re.compile(r"broker-jobs-(\d+)-\d+(?:-worker)?")
_REMOVAL_LOOKS: Final = 100
_REMOVAL_INTERVAL: Final = 0.005
_FULL: Final = 0.9
"""A group whose peak was this share of its limit has reached it: the kernel counts in batches, and does not count failures any more."""
_made: Final = itertools.count(1)


class Unavailable(Exception):
    """There are no control groups to be had; the text says why."""


class Group:
    """The group of one task; see `ControlGroups.make`.

    Args:
        folder: of the group
        home: group of the worker
        limit: bytes
    """

    def __init__(self, folder: Path, home: Path, limit: int) -> None:
        self._folder = folder
        self._limit = limit
        self.entry = str(folder / "cgroup.procs")
        self.exit = str(home / "cgroup.procs")

    def exceeded(self) -> bool:
        """Whether the kernel has killed a process of it since its limit was reached, and not for another lack of memory."""
        if (self._folder / "memory.events").exists():
            events = _table(self._folder / "memory.events")
            return events.get("oom_kill", 0) > 0 and events.get("oom", 0) > 0
        killed = _table(self._folder / "memory.oom_control").get("oom_kill", 0)
        return killed > 0 and int(_read(self._folder / "memory.max_usage_in_bytes") or 0) >= self._limit * _FULL

    def remove(self) -> None:
        """Remove it, once nothing lives in it; for a thread, since what has just ended may take a moment to leave."""
        _remove(self._folder)


class ControlGroups:
    """The groups of a worker.

    Args:
        root: of the file system, for tests

    Raises:
        Unavailable: this worker can have none
    """

    def __init__(self, root: Path = ROOT) -> None:
        own, version = _own(root)
        _clear_leftovers(own)
        self._version = version
        self._numbers = itertools.count(1)
        name = f"broker-jobs-{os.getpid()}-{next(_made)}"
        self._leaf = own / f"{name}-worker"
        self._top = own / name
        self._own = self._home = own
        try:
            if version == 2:  # noqa: PLR2004 (of control groups)
                self._delegate()
            self._top.mkdir()
            if version == 2:  # noqa: PLR2004 (as above)
                _write(self._top / "cgroup.subtree_control", "+memory")
            self._try()
        except OSError as error:
            self.close()
            reason = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
            raise Unavailable(f"control groups of version {version} cannot be used ({reason})") from error

    def __str__(self) -> str:
        return f"control groups of version {self._version} below {self._own}"

    def make(self, limit: int) -> Group:
        """A group whose processes get no more than so many bytes together.

        Raises:
            OSError: it cannot be made
        """
        folder = self._top / str(next(self._numbers))
        folder.mkdir()
        if self._version == 2:  # noqa: PLR2004 (as above)
            _write(folder / "memory.max", str(limit))
            # A process that is swapped out instead of killed holds up the whole machine.
            _write_if_there(folder / "memory.swap.max", "0")
            _write_if_there(folder / "memory.oom.group", "1")
        else:
            _write(folder / "memory.limit_in_bytes", str(limit))
            _write_if_there(folder / "memory.memsw.limit_in_bytes", str(limit))
            # Where the group around it lets processes wait for memory instead, they would wait for ever.
            _write_if_there(folder / "memory.oom_control", "0")
        return Group(folder, self._home, limit)

    def close(self) -> None:
        """Remove what was made."""
        if self._top.is_dir():
            for folder in self._top.iterdir():
                if folder.is_dir():
                    _remove(folder)
            _remove(self._top)
        if self._home == self._leaf:
            # Only a group without controllers below takes processes.
            with contextlib.suppress(OSError):
                _write(self._own / "cgroup.subtree_control", "-memory")
            with contextlib.suppress(OSError):
                _write(self._own / "cgroup.procs", str(os.getpid()))
            self._home = self._own
        if self._leaf.is_dir():
            _remove(self._leaf)

    def _delegate(self) -> None:
        """Have the kernel count memory below our own group, which then must have no processes of its own."""
        if "memory" in _read(self._own / "cgroup.subtree_control").split():
            return
        self._leaf.mkdir()
        self._home = self._leaf
        _write(self._leaf / "cgroup.procs", str(os.getpid()))
        _write(self._own / "cgroup.subtree_control", "+memory")

    def _try(self) -> None:
        """Enter a group and leave it, as runners will."""
        probe = self.make(1 << 40)
        try:
            _write(Path(probe.entry), str(os.getpid()))
        finally:
            _write(Path(probe.exit), str(os.getpid()))
            probe.remove()


def find(root: Path = ROOT) -> tuple[ControlGroups | None, str]:
    """The control groups of this worker, and in words how memory limits are held."""
    try:
        groups = ControlGroups(root)
    except Unavailable as reason:
        return None, f"watching the resident memory of each task's processes: {reason}"
    return groups, str(groups)


def _own(root: Path) -> tuple[Path, int]:
    """The folder of the group in which this process is, where memory is counted, and the version of control groups.

    Raises:
        Unavailable: there is none, or it may not be written
    """
    try:
        groups = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
        mounts = (root / "proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise Unavailable(f"{error.filename}: {error.strerror}") from error
    paths = {controllers: path for _, controllers, path in (line.split(":", 2) for line in groups)}
    unified = _folder(root, mounts, paths.get(""), lambda kind, _: kind == "cgroup2")
    if unified is not None and "memory" in _read(unified / "cgroup.controllers").split():
        return _writable(unified), 2
    named = next((path for controllers, path in paths.items() if "memory" in controllers.split(",")), None)
    first = _folder(root, mounts, named, lambda kind, options: kind == "cgroup" and "memory" in options.split(","))
    if first is None:
        raise Unavailable("no control group counts the memory of this process")
    if _read(first / "memory.use_hierarchy") == "0":
        raise Unavailable(f"{first} does not count what lies below it")
    return _writable(first), 1


def _folder(root: Path, mounts: list[str], path: str | None, wanted: Callable[[str, str], bool]) -> Path | None:
    """The folder of a group, where such a hierarchy is mounted and shows it."""
    if path is None:
        return None
    for line in mounts:
        ours, _, theirs = line.partition(" - ")
        kind, _, options = theirs.split(" ", 2)
        top, place = ours.split(" ")[3:5]
        if wanted(kind, options) and (path == top or path.startswith(top.rstrip("/") + "/")):
            return root / place.lstrip("/") / path[len(top.rstrip("/")) :].lstrip("/")
    return None


def _writable(folder: Path) -> Path:
    if not os.access(folder, os.W_OK) or not os.access(folder / "cgroup.procs", os.W_OK):
        raise Unavailable(f"{folder} may not be written by this user")
    return folder


def _clear_leftovers(own: Path) -> None:
    """Remove the groups of workers that were killed; another worker may be about it, too."""
    for folder in own.glob("broker-jobs-*"):
        found = _NAME.fullmatch(folder.name)
        if found is not None and look(int(found[1])) is None:
            with contextlib.suppress(OSError):
                for below in folder.iterdir():
                    with contextlib.suppress(OSError):
                        below.rmdir()
                folder.rmdir()


def _remove(folder: Path) -> None:
    for _ in range(_REMOVAL_LOOKS):
        with contextlib.suppress(OSError):
            folder.rmdir()
        if not folder.exists():
            return
        time.sleep(_REMOVAL_INTERVAL)


def _read(path: Path) -> str:
    """The text of a small file; empty where there is none."""
    try:
        return path.read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _table(path: Path) -> dict[str, int]:
    """The numbers of a file with a name and a number in each line."""
    pairs = (line.split() for line in _read(path).splitlines())
    return {name: int(number) for name, number in pairs}


def _write(path: Path, text: str) -> None:
    # One call of write, without creating or truncating: this is how the kernel wants it.
    fd = os.open(path, os.O_WRONLY)
    try:
        os.write(fd, text.encode())
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None
    finally:
        os.close(fd)


def _write_if_there(path: Path, text: str) -> None:
    if path.exists():
        with contextlib.suppress(OSError):
            _write(path, text)
