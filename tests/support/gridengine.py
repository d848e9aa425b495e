"""A private Grid Engine of the distribution's package: one master, one host, one queue, with folders and ports of its own."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LIBRARY: Final = Path("/usr/lib/gridengine")
SHARE: Final = Path("/usr/share/gridengine")
ROOT: Final = Path("/var/lib/gridengine")
PATIENCE: Final = 30.0
SLOTS: Final = 64

_QUEUE: Final = f"""
qname all.q
hostlist HOST
seq_no 0
load_thresholds NONE
suspend_thresholds NONE
nsuspend 1
suspend_interval 00:05:00
priority 0
min_cpu_interval 00:05:00
processors UNDEFINED
qtype BATCH
ckpt_list NONE
pe_list NONE
rerun FALSE
slots {SLOTS}
tmpdir /tmp
shell /bin/sh
prolog NONE
epilog NONE
shell_start_mode posix_compliant
starter_method NONE
suspend_method NONE
resume_method NONE
terminate_method NONE
notify 00:00:03
owner_list NONE
user_lists NONE
xuser_lists NONE
subordinate_list NONE
complex_values NONE
projects NONE
xprojects NONE
calendar NONE
initial_state default
"""
_LIMITS: Final = ("rt", "cpu", "fsize", "data", "stack", "core", "rss", "vmem")
_HOST: Final = (
    "load_scaling NONE",
    "complex_values NONE",
    "user_lists NONE",
    "xuser_lists NONE",
    "projects NONE",
    "xprojects NONE",
    "usage_scaling NONE",
    "report_variables NONE",
)
_CHANGES: Final = {
    "schedule_interval": "0:0:1",
    "flush_submit_sec": "1",
    "flush_finish_sec": "1",
    "load_formula": "slots",
    "job_load_adjustments": "NONE",
}


class GridEngine:
    """Grid Engine, as the user of the tests.

    Attributes:
        env: variables by which its commands find it
    """

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="broker-jobs-sge-"))
        self.folder.chmod(0o755)
        self.host = socket.gethostname()
        master, execution = _free_ports()
        self.env = {
            "SGE_ROOT": str(self.folder),
            "SGE_CELL": "default",
            "SGE_QMASTER_PORT": str(master),
            "SGE_EXECD_PORT": str(execution),
        }
        self._daemons: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        try:
            self._begin()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(AssertionError):
            self.run("qdel", "-u", getpass.getuser(), check=False)
            self._until(lambda: not self.run("qstat"), "the end of its jobs")
        for daemon in reversed(self._daemons):
            daemon.kill()  # nothing of it is needed any more, and an orderly end takes seconds
            daemon.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def run(self, *command: str, check: bool = True) -> str:
        """What a command of it says."""
        done = subprocess.run(command, env={**os.environ, **self.env}, capture_output=True, text=True, timeout=PATIENCE, check=False)
        assert not check or done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    def _begin(self) -> None:
        common, spool = self.folder / "default" / "common", self.folder / "spool"
        for folder in (common, spool / "qmaster" / "job_scripts", spool / "execd"):
            folder.mkdir(parents=True)
        for name in ("bin", "lib", "util", "utilbin"):
            (self.folder / name).symlink_to(ROOT / name)
        places = f"{common};{spool}/qmaster"
        bootstrap = {
            "admin_user": "none",
            "default_domain": "none",
            "ignore_fqdn": "true",
            "spooling_method": "classic",
            "spooling_lib": "libspoolc",
            "spooling_params": places,
            "binary_path": "/usr/sbin",
            "qmaster_spool_dir": f"{spool}/qmaster",
            "security_mode": "none",
            "listener_threads": "2",
            "worker_threads": "2",
            "scheduler_threads": "1",
        }
        (common / "bootstrap").write_text("".join(f"{name} {value}\n" for name, value in bootstrap.items()))
        (common / "act_qmaster").write_text(f"{self.host}\n")
        # Other names of the address are the same host: without this, it calls itself by the first one, which may be "localhost".
        (common / "host_aliases").write_text(f"{' '.join(_names(self.host))}\n")
        configuration = self._changed(
            (SHARE / "default-configuration").read_text(),
            {
                "execd_spool_dir": f"{spool}/execd",
                "min_uid": "0",
                "min_gid": "0",
                "load_report_time": "00:00:01",
                "reporting_params": "accounting=true reporting=false flush_time=00:00:01 joblog=false sharelog=00:00:00",
            },
        )
        self.run(f"{LIBRARY}/spoolinit", "classic", "libspoolc", places, "init")
        self.run(f"{LIBRARY}/spooldefaults", "configuration", self._file("configuration", configuration))
        self.run(f"{LIBRARY}/spooldefaults", "complexes", f"{SHARE}/util/resources/centry")
        self.run(f"{LIBRARY}/spooldefaults", "usersets", f"{SHARE}/util/resources/usersets")
        self.run(f"{LIBRARY}/spooldefaults", "managers", getpass.getuser())
        self._daemon("sge_qmaster")
        self._until(lambda: self.run("qconf", "-sh", check=False), "the master")
        self.run("qconf", "-as", self.host)
        self.run("qconf", "-Msconf", self._file("scheduler", self._changed(self.run("qconf", "-ssconf"), _CHANGES)))
        self.run("qconf", "-Ae", self._file("host", "\n".join([f"hostname {self.host}", *_HOST, ""])))
        limits = "".join(f"{kind}_{limit} INFINITY\n" for limit in _LIMITS for kind in "sh")
        self.run("qconf", "-Aq", self._file("queue", _QUEUE.replace("HOST", self.host).lstrip() + limits))
        self._daemon("sge_execd")
        self._until(lambda: " lx-" in self.run("qstat", "-f"), "its host")

    def _daemon(self, name: str) -> None:
        with (self.folder / f"{name}.log").open("wb") as log:
            env = {**os.environ, **self.env, "SGE_ND": "1"}
            self._daemons.append(subprocess.Popen([LIBRARY / name], env=env, stdout=log, stderr=log, stdin=subprocess.DEVNULL))

    def _file(self, name: str, text: str) -> str:
        path = self.folder / name
        path.write_text(text)
        return str(path)

    @staticmethod
    def _changed(text: str, changes: dict[str, str]) -> str:
        lines = [line.split(None, 1) for line in text.splitlines() if line and not line.startswith("#")]
        return "".join(f"{name} {changes.get(name, value)}\n" for name, value in lines)

    def _until(self, condition: Callable[[], object], what: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline, f"not within {PATIENCE:g} s: {what} of Grid Engine; {self._logs()}"
            time.sleep(0.1)

    def _logs(self) -> str:
        return "; ".join(path.read_text(errors="replace") for path in self.folder.glob("*.log"))


def _names(host: str) -> list[str]:
    """This name first, then all others of its address."""
    address = socket.gethostbyname(host)
    first, others, _ = socket.gethostbyaddr(address)
    return list(dict.fromkeys([host, first, *others]))


def _free_ports() -> tuple[int, int]:
    with socket.create_server(("", 0)) as one, socket.create_server(("", 0)) as other:
        return one.getsockname()[1], other.getsockname()[1]


@pytest.fixture(scope="module")
def grid_engine() -> Iterator[GridEngine]:
    """A private Grid Engine, with its commands ready to be used."""
    with GridEngine() as engine:
        before = {name: os.environ.get(name) for name in engine.env}
        os.environ.update(engine.env)
        try:
            yield engine
        finally:
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value
