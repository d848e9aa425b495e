"""A private PostgreSQL for tests, from the distribution's package, and the fixtures that hand out its databases.

Its data lie in a temporary folder, and it listens on the loopback interface alone. It ends with the process that started it, however
that ends: the kernel tells it (`PR_SET_PDEATHSIG`). PostgreSQL does not run as root: then it runs as the package's own user.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

_USER: Final = "postgres"
_SPAWNER: Final = ThreadPoolExecutor(1)  # the kernel signals when the *thread* that started it ends; this one stays
_START_SECONDS: Final = 60.0
_STOP_SECONDS: Final = 30.0
_PAUSE: Final = 0.02


class NoPostgres(Exception):
    """There is no PostgreSQL to run tests on.

    Install postgresql from your distribution's packages (on Debian or Ubuntu, `./scripts/test` does, or:
    apt-get install -y --no-install-recommends postgresql; the tests need no running database of the system).
    """


class Postgres:
    """A private server; made and started at once."""

    def __init__(self) -> None:
        programs = _programs()
        self._as_user = [] if os.geteuid() else ["setpriv", f"--reuid={_USER}", f"--regid={_USER}", "--clear-groups"]
        self._folder = Path(tempfile.mkdtemp(prefix="bj-postgres-"))
        self._process: subprocess.Popen[bytes] | None = None
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        if self._as_user:
            owner = pwd.getpwnam(_USER)
            os.chown(self._folder, owner.pw_uid, owner.pw_gid)
        try:
            self._run(programs / "initdb", "-D", "data", "-U", _USER, "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync")
            self._program = programs / "postgres"
            self.start()
        except BaseException:
            self.remove()
            raise

    def url(self, database: str = _USER) -> str:
        """Address of a database."""
        return f"postgresql://{_USER}@127.0.0.1:{self.port}/{database}"

    def fresh_database(self) -> str:
        """Address of a new, empty database."""
        import psycopg  # heavy, and few tests need it

        name = f"t_{secrets.token_hex(6)}"
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        return self.url(name)

    @property
    def running(self) -> bool:
        """Whether it was started, and not stopped or killed by us."""
        return self._process is not None

    def start(self) -> None:
        """Start it; returns when it takes connections."""
        self._process = _SPAWNER.submit(self._spawn).result()
        self._wait()

    def stop(self) -> None:
        """End it in order; connections are ended."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """End it at once, as if it had crashed: it recovers when it is started again."""
        self._end(signal.SIGQUIT)

    def remove(self) -> None:
        """End it, and forget its data."""
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _end(self, number: int) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            try:
                self._process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    def _run(self, *command: str | Path) -> None:
        done = subprocess.run(
            [*self._as_user, *command],
            cwd=self._folder,
            env=_environment(),
            capture_output=True,
            text=True,
            timeout=_START_SECONDS,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{command[0]}: {done.stdout}{done.stderr}")

    def _spawn(self) -> subprocess.Popen[bytes]:
        settings = {"listen_addresses": "127.0.0.1", "port": self.port, "unix_socket_directories": "", "fsync": "off"}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        with (self._folder / "output").open("ab") as output:
            return subprocess.Popen(
                [*(self._as_user or ["setpriv"]), "--pdeathsig", "QUIT", self._program, "-D", "data", *options],
                cwd=self._folder,
                env=_environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C is for the tests, which then stop it
            )

    def _wait(self) -> None:
        """Return when it takes connections."""
        import psycopg

        assert self._process is not None
        deadline = time.monotonic() + _START_SECONDS
        while True:
            try:
                psycopg.connect(self.url(), connect_timeout=5).close()
            except psycopg.OperationalError as error:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    text = (self._folder / "output").read_text(errors="replace")[-4000:]
                    raise RuntimeError(f"PostgreSQL did not start: {error}\n{text}") from None
                time.sleep(_PAUSE)
            else:
                return


def _programs() -> Path:
    """Where the newest PostgreSQL of this machine lies."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: [int(part) for part in path.parts[4].split(".")])
    if found:
        return found[-1].parent
    elsewhere = shutil.which("initdb")
    if elsewhere is None:
        raise NoPostgres(NoPostgres.__doc__)
    return Path(elsewhere).resolve().parent


def _environment() -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "TZ": "UTC"}


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """The PostgreSQL of this run."""
    try:
        server = Postgres()
    except NoPostgres as missing:
        pytest.fail(str(missing), pytrace=False)
    yield server
    server.remove()


@pytest.fixture(params=["sqlite", "postgres"])
def manager_store(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Address of an empty database of either kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/manager.db"
    server: Postgres = request.getfixturevalue("postgres")
    return server.fresh_database()
