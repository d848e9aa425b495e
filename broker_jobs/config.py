"""Where the broker is, under which names, with which key: from arguments, the environment, and ``broker-jobs.toml``.

An argument wins over the environment, which wins over the file. The file is the one that ``BROKER_JOBS_CONFIG`` names, else
the nearest ``broker-jobs.toml`` from the current folder upwards, else the one in the user's configuration folder::

    url = "amqps://user:secret@rabbit.example.org/jobs"
    namespace = "bj"
    partition = 1                      # of the ledger, where a namespace has several
    signing_key_file = "jobs.key"      # relative to the file
    value_store = "/shared/values"     # a folder that all hosts see, or a URL that fsspec understands

    [resource_classes.gpu-large]       # what ``resource_class="gpu-large"`` asks for
    cpus = 8
    memory = "64 GiB"
    gpus = 1

Without an address the broker is this user's own: a file in the state folder, ``$BROKER_JOBS_HOME`` or
``~/.local/state/broker-jobs``. For a ``sqlite:`` address the state folder is the folder of its file.
"""

from __future__ import annotations

import dataclasses
import os
import re
import tempfile
import tomllib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from broker_jobs.core.request import ResourceRequest
from broker_jobs.current import current
from broker_jobs.errors import AddressError, SigningKeyMissing, ValidationError
from broker_jobs.ids import MOST_PARTITIONS, is_partition, partition_of
from broker_jobs.wire.signing import SigningKey, new_key
from broker_jobs.wire.topology import Topology

if TYPE_CHECKING:
    from collections.abc import Mapping

FILE_NAME: Final = "broker-jobs.toml"
DEFAULT_NAMESPACE: Final = "bj"
KEY_FILE: Final = "signing.key"
_TEXTS: Final = frozenset({"url", "namespace", "signing_key_file", "value_store"})
_NUMBERS: Final = frozenset({"partition"})
_SCHEMES: Final = frozenset({"amqp", "amqps", "sqlite"})
_PASSWORD: Final = re.compile(r"(://[^:/@]*):.*@")


@dataclass(frozen=True, slots=True)
class Settings:
    """What a process needs to know to take part.

    Attributes:
        url: address of the broker; of the file in `home` where none was given
        namespace: prefix of every name at the broker
        key: None where there is none, which is an error as soon as something is sent
        home: the state folder
        value_store: folder, or URL as fsspec takes it, for large values and data; or None
        embedded: no address was given: the node of this user is started where none runs
        partition: of the ledger, that a coordinator keeps, and in which the jobs of a client are
    """

    url: str
    namespace: str
    key: SigningKey | None
    home: Path
    value_store: str | None
    embedded: bool
    partition: int = 0

    def __repr__(self) -> str:
        where = f"url={shown(self.url)!r}, namespace={self.namespace!r}, partition={self.partition}"
        return f"Settings({where}, home={str(self.home)!r}, embedded={self.embedded})"

    def required_key(self) -> SigningKey:
        """The key; `SigningKeyMissing`, which names the ways to give one, where there is none."""
        if self.key is None:
            raise SigningKeyMissing
        return self.key


def resolve(
    url: str | None = None,
    namespace: str | None = None,
    signing_key: str | None = None,
    *,
    partition: int | None = None,
    home: str | Path | None = None,
    environ: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> Settings:
    """The settings of this process. Makes the state folder and its key where the broker is a file on this host.

    Args:
        url: address of the broker
        namespace: prefix of every name at the broker
        signing_key: hexadecimal text
        partition: of the ledger; inside a task, that of its job where nothing else is said here
        home: state folder of the embedded broker
        environ: environment variables (default: those of this process)
        folder: where the search for the file begins (default: the current folder)

    Raises:
        AddressError: the address has an unknown scheme
        ValidationError: the file cannot be read, or has wrong or unknown entries; or there is no such partition
        SigningKeyMissing: a key was named that is none
    """
    environ = os.environ if environ is None else environ
    file = _find_file(environ, folder)
    entries = _read_file(file) if file else {}
    given = url or environ.get("BROKER_JOBS_URL") or entries.get("url")
    namespace = namespace or environ.get("BROKER_JOBS_NAMESPACE") or entries.get("namespace") or DEFAULT_NAMESPACE
    Topology(namespace)
    state = Path(home) if home is not None else state_folder(environ)
    if given is None:
        address = sqlite_url(state / "queue.db")
    else:
        address = given
        if scheme(address) == "sqlite":
            state = sqlite_path(address).parent
    local = scheme(address) == "sqlite"
    if local:
        make_private(state)
    key = _find_key(signing_key, environ, file, entries, state, make=local)
    store = environ.get("BROKER_JOBS_VALUE_STORE") or _beside(file, entries.get("value_store"))
    if store is None and local:
        store = str(state / "values")
    return Settings(address, namespace, key, state, store, embedded=given is None, partition=_partition(partition, environ, entries))


def _partition(given: int | None, environ: Mapping[str, str], entries: Mapping[str, Any]) -> int:
    """The number of a partition, of which jobs inside a job are, too."""
    if given is None and current:
        return partition_of(current.job)
    found = given if given is not None else environ.get("BROKER_JOBS_PARTITION") or entries.get("partition", 0)
    number = int(found) if isinstance(found, str) and found.isascii() and found.isdecimal() else found
    if isinstance(number, bool) or not isinstance(number, int) or not is_partition(number):
        raise ValidationError(f"a partition is a number from 0 to {MOST_PARTITIONS - 1}, not {found!r}")
    return number


def ledger_file(home: Path, partition: int) -> Path:
    """Where the ledger of a partition is, if nobody says another place."""
    return home / (f"ledger-{partition}.db" if partition else "ledger.db")


def resource_class(name: str, *, environ: Mapping[str, str] | None = None, folder: Path | None = None) -> list[ResourceRequest]:
    """What a class of the file asks for: variants in order of preference, where it is written as several tables (``[[…]]``).

    Args:
        name: of the class
        environ: environment variables (default: those of this process)
        folder: where the search for the file begins (default: the current folder)

    Raises:
        ValidationError: there is no file, or no such class in it, or it is wrong
    """
    file = _find_file(os.environ if environ is None else environ, folder)
    if file is None:
        raise ValidationError(f"there is no {FILE_NAME} that could say what the resource class {name!r} asks for")
    known = _classes(file, file.stat().st_mtime_ns)
    if name not in known:
        there = f"there are {', '.join(sorted(known))}" if known else f"write it as [resource_classes.{name}]"
        raise ValidationError(f"{file} has no resource class {name!r}; {there}")
    return known[name]


@lru_cache(maxsize=4)
def _classes(path: Path, version: int) -> dict[str, list[ResourceRequest]]:
    """The classes of a file; `version` changes when the file does."""
    del version
    tables = _parse(path).get("resource_classes", {})
    if not isinstance(tables, dict):
        raise ValidationError(f"{path}: resource_classes must hold a table for each class, such as [resource_classes.large]")
    found = {}
    for name, given in tables.items():
        variants = given if isinstance(given, list) else [given]
        if not variants or not all(isinstance(each, dict) for each in variants):
            raise ValidationError(f"{path}: the resource class {name!r} must be a table, or a list of tables")
        try:
            found[name] = [ResourceRequest(**each) for each in variants]
        except (TypeError, ValidationError) as error:
            fields = ", ".join(each.name for each in dataclasses.fields(ResourceRequest))
            why = error if isinstance(error, ValidationError) else f"its entries are {fields}"
            raise ValidationError(f"{path}: the resource class {name!r} cannot be read: {why}") from error
    return found


def scheme(url: str) -> str:
    """The scheme of an address; `AddressError`, which does not repeat it whole, where it is not one of ours."""
    found = url.partition(":")[0].lower()
    if found not in _SCHEMES or "://" not in url:
        raise AddressError(f"{shown(url)!r} is no address: use amqp://user:password@host:5672/vhost or sqlite:////path/queue.db")
    return found


def shown(url: str) -> str:
    """An address without its password, for people."""
    return _PASSWORD.sub(r"\1:***@", url)


def sqlite_url(path: Path) -> str:
    """The address of an embedded broker in this file."""
    return f"sqlite:///{path.absolute()}"


def sqlite_path(url: str) -> Path:
    """The file of a ``sqlite:`` address; `AddressError` where it names none."""
    try:
        parts = urlsplit(url)
    except ValueError:  # brackets, as around an IPv6 address
        parts = urlsplit("sqlite://")
    if parts.netloc or not parts.path.strip("/") or "\0" in parts.path:
        raise AddressError(f"{shown(url)!r} names no file: use sqlite:////path/queue.db (four slashes and an absolute path)")
    return Path(parts.path[1:]).absolute()


def state_folder(environ: Mapping[str, str] | None = None) -> Path:
    """The state folder of this user: ``$BROKER_JOBS_HOME``, else ``~/.local/state/broker-jobs``."""
    environ = os.environ if environ is None else environ
    home = environ.get("BROKER_JOBS_HOME")
    return Path(home).absolute() if home else Path("~/.local/state/broker-jobs").expanduser()


def make_private(folder: Path) -> None:
    """Make a folder that only its owner may enter; one that exists stays as it is.

    Raises:
        ValidationError: it cannot be made
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ValidationError(f"the state folder {folder} cannot be made: {error.strerror}; set BROKER_JOBS_HOME to another one") from error


def private_file(path: Path) -> Path:
    """A file that only its owner may open, also in a folder that others may enter; made empty where it is missing."""
    path.touch(mode=0o600)
    return path


def home_key(home: Path) -> SigningKey:
    """The key of a state folder, made (mode 0600) where it is missing.

    Raises:
        SigningKeyMissing: it cannot be read or made
    """
    path = home / KEY_FILE
    try:
        if not path.exists():
            # Linked when it is complete: of several processes one wins, and nobody reads half a key.
            handle, temporary = tempfile.mkstemp(dir=home, prefix=".key-")
            with os.fdopen(handle, "w") as file:
                file.write(new_key() + "\n")
            try:
                os.link(temporary, path)
            except FileExistsError:
                pass
            finally:
                Path(temporary).unlink()
        return read_key(path)
    except OSError as error:
        raise SigningKeyMissing(f"the signing key {path} cannot be read or made: {error.strerror}") from error


def read_key(path: Path) -> SigningKey:
    """The key in a file; `SigningKeyMissing`, which names the file, where there is none."""
    try:
        return SigningKey.parse(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise SigningKeyMissing(f"the signing key {path} cannot be read: {error}") from error
    except SigningKeyMissing as error:
        raise SigningKeyMissing(f"{path}: {error}") from None


def _find_key(
    given: str | None, environ: Mapping[str, str], file: Path | None, entries: Mapping[str, Any], state: Path, *, make: bool
) -> SigningKey | None:
    text = given or environ.get("BROKER_JOBS_SIGNING_KEY")
    if text:
        return SigningKey.parse(text)
    named = _beside(file, entries.get("signing_key_file"))
    if named:
        return read_key(Path(named))
    if make:
        return home_key(state)
    path = state / KEY_FILE
    return read_key(path) if path.exists() else None


def _find_file(environ: Mapping[str, str], folder: Path | None) -> Path | None:
    named = environ.get("BROKER_JOBS_CONFIG")
    if named:
        return Path(named).absolute()
    try:
        start = (folder or Path.cwd()).absolute()
    except FileNotFoundError:  # the current folder was removed
        start = Path("/")
    configuration = Path(environ.get("XDG_CONFIG_HOME") or "~/.config").expanduser() / "broker-jobs"
    for candidate in (start, *start.parents, configuration):
        path = candidate / FILE_NAME
        if path.is_file():
            return path
    return None


def _read_file(path: Path) -> dict[str, Any]:
    """The entries of the file that are not in tables: those belong to workers and coordinators."""
    ours = {name: value for name, value in _parse(path).items() if not isinstance(value, dict)}
    for name, value in ours.items():
        if name not in _TEXTS | _NUMBERS:
            raise ValidationError(f"{path}: unknown entry {name!r}; there are {', '.join(sorted(_TEXTS | _NUMBERS))}, and tables")
        if name in _TEXTS and (not isinstance(value, str) or not value):
            raise ValidationError(f"{path}: {name} must be a text, not {value!r}")
    return ours


def _parse(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text())
    except OSError as error:
        raise ValidationError(f"the configuration {path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:  # also bytes that are no text, and a number of thousands of digits
        raise ValidationError(f"the configuration {path} is not TOML: {error}") from error


def _beside(file: Path | None, name: str | None) -> str | None:
    """A path of the file, relative to where the file is; a URL as it is."""
    if file is None or name is None or "://" in name:
        return name
    return str(file.parent / Path(name).expanduser())
