"""Which control groups a worker finds and what it writes into them, on recorded trees; real ones are in the integration tests."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from broker_jobs_worker.executors import groups

UNIFIED = "30 24 0:27 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
MEMORY = "31 24 0:28 {top} /sys/fs/cgroup/memory rw,nosuid - cgroup cgroup rw,memory\n"
HYBRID = "32 24 0:29 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
FILES = {
    2: {"cgroup.procs": "", "cgroup.subtree_control": "", "memory.max": "", "memory.swap.max": "", "memory.oom.group": "",
        "memory.events": "low 0\nhigh 0\nmax 0\noom 0\noom_kill 0\n"},
    1: {"cgroup.procs": "", "memory.limit_in_bytes": "", "memory.memsw.limit_in_bytes": "", "memory.max_usage_in_bytes": "0",
        "memory.use_hierarchy": "1", "memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 0\n"},
}  # fmt: skip


class Recorded:
    """A file system with control groups as the kernel shows them: each folder has its files, and goes with them."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch, mounts: str, groups_of_process: str) -> None:
        self.root = root
        (root / "proc/self").mkdir(parents=True)
        (root / "proc/self/mountinfo").write_text(mounts)
        (root / "proc/self/cgroup").write_text(groups_of_process)
        self._version = 2
        monkeypatch.setattr(Path, "mkdir", lambda path: self.group(path, self._version))
        monkeypatch.setattr(Path, "rmdir", shutil.rmtree)

    def group(self, path: Path, version: int, **files: str) -> Path:
        self._version = version
        os.makedirs(path)  # noqa: PTH103 (`Path.mkdir` leads here)
        for name, text in {**FILES[version], **{name.replace("__", "."): text for name, text in files.items()}}.items():
            (path / name).write_text(text)
        return path


def below(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.is_dir())


def test_version_2_in_a_delegated_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = Recorded(tmp_path, monkeypatch, UNIFIED, "0::/user.slice/worker.service\n")
    own = tree.group(tmp_path / "sys/fs/cgroup/user.slice/worker.service", 2, cgroup__controllers="cpu memory pids")
    found, held_by = groups.find(tmp_path)
    assert found is not None
    assert held_by == f"control groups of version 2 below {own}"
    me = str(os.getpid())
    leaf, top = (next(own.glob(f"broker-jobs-{me}-*{end}")) for end in ("-worker", "[0-9]"))
    assert (leaf / "cgroup.procs").read_text() == me, "a group with controllers below has no processes"
    assert (own / "cgroup.subtree_control").read_text() == (top / "cgroup.subtree_control").read_text() == "+memory"
    group = found.make(100 << 20)
    (folder,) = (top / name for name in below(top))
    assert [(folder / name).read_text() for name in ("memory.max", "memory.swap.max", "memory.oom.group")] == ["104857600", "0", "1"]
    assert (group.entry, group.exit) == (f"{folder}/cgroup.procs", f"{leaf}/cgroup.procs")
    assert not group.exceeded()
    (folder / "memory.events").write_text("oom 0\noom_kill 1\n")
    assert not group.exceeded(), "the machine was out of memory, not the group"
    (folder / "memory.events").write_text("oom 1\noom_kill 1\n")
    assert group.exceeded()
    group.remove()
    assert below(top) == []
    found.close()
    assert below(own) == []
    assert (own / "cgroup.procs").read_text() == me


def test_version_2_in_a_group_with_other_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = Recorded(tmp_path, monkeypatch, UNIFIED, "0::/session.scope\n")
    own = tree.group(tmp_path / "sys/fs/cgroup/session.scope", 2, cgroup__controllers="memory")
    (own / "cgroup.subtree_control").unlink()
    (own / "cgroup.subtree_control").symlink_to(tmp_path)  # cannot be written, as when it is busy
    found, held_by = groups.find(tmp_path)
    assert found is None
    assert held_by.startswith("watching the resident memory of each task's processes: control groups of version 2 cannot be used")
    assert below(own) == ["cgroup.subtree_control"]
    assert (own / "cgroup.procs").read_text() == str(os.getpid())


@pytest.mark.parametrize("top", ["/", "/docker/17"])
def test_version_1_beside_version_2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, top: str) -> None:
    tree = Recorded(tmp_path, monkeypatch, HYBRID + MEMORY.format(top=top), "4:memory:/docker/17/x\n0::/\n")
    tree.group(tmp_path / "sys/fs/cgroup/unified", 2, cgroup__controllers="hugetlb")
    own = tree.group(tmp_path / "sys/fs/cgroup/memory" / ("docker/17/x" if top == "/" else "x"), 1)
    (own / "broker-jobs-999999999-1").mkdir()
    found, held_by = groups.find(tmp_path)
    assert found is not None
    assert held_by == f"control groups of version 1 below {own}"
    (worker,) = below(own)
    assert worker.startswith(f"broker-jobs-{os.getpid()}-"), "those of a worker that is dead are gone"
    group = found.make(100 << 20)
    (folder,) = (own / worker / name for name in below(own / worker))
    assert (folder / "memory.limit_in_bytes").read_text() == (folder / "memory.memsw.limit_in_bytes").read_text() == str(100 << 20)
    (folder / "memory.oom_control").write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 1\n")
    assert not group.exceeded(), "the machine was out of memory, not the group"
    (folder / "memory.max_usage_in_bytes").write_text(str(99 << 20))
    assert group.exceeded()
    found.close()
    assert below(own) == []


def test_leftovers_that_another_worker_removes_at_that_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = Recorded(tmp_path, monkeypatch, UNIFIED, "0::/\n")
    own = tree.group(tmp_path / "sys/fs/cgroup", 2, cgroup__controllers="memory")
    (own / "broker-jobs-999999998-1").mkdir()
    (own / "broker-jobs-999999999-1").mkdir()
    monkeypatch.setattr(groups, "look", lambda pid: shutil.rmtree(own / f"broker-jobs-{pid}-1") if pid == 999999998 else None)
    found, _ = groups.find(tmp_path)
    assert found is not None, "workers start at once on a machine where many were killed"
    assert [name for name in below(own) if name.startswith("broker-jobs-9999")] == []
    found.close()


def test_no_control_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "no such file" in groups.find(tmp_path)[1].lower()
    tree = Recorded(tmp_path, monkeypatch, MEMORY.format(top="/"), "4:memory:/a\n")
    own = tree.group(tmp_path / "sys/fs/cgroup/memory/a", 1, memory__use_hierarchy="0")
    assert "does not count what lies below it" in groups.find(tmp_path)[1]
    (own / "memory.use_hierarchy").write_text("1")
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert groups.find(tmp_path) == (None, f"watching the resident memory of each task's processes: {own} may not be written by this user")
    (tmp_path / "proc/self/cgroup").write_text("4:cpu:/a\n")
    assert "no control group counts the memory" in groups.find(tmp_path)[1]
