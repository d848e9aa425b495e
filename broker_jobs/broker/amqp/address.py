"""Addresses of RabbitMQ, read strictly: what is not understood is refused, and passwords are never repeated."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import parse_qsl, unquote, urlsplit

from broker_jobs.errors import AddressError

if TYPE_CHECKING:
    from urllib.parse import SplitResult

_PORTS: Final = {"amqp": 5672, "amqps": 5671}
_LONGEST: Final = 3600
_HOST: Final = "the host of the broker's address cannot be understood: write an IPv6 address in brackets"
_FILES: Final = frozenset({"cacertfile", "certfile", "keyfile"})


class QueueStyle(StrEnum):
    """How durable queues are kept."""

    quorum = "quorum"
    """Replicated: safe on a single node and in a cluster."""
    classic = "classic"
    """On one node, faster; for a broker of a single node only."""


_STYLES: Final = {style.value for style in QueueStyle}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One node of a RabbitMQ."""

    host: str
    port: int

    def __str__(self) -> str:
        """Host and port, for messages."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Address:
    """Where a RabbitMQ is, and how to use it.

    Attributes:
        endpoints: its nodes; any of them will do, and the first is tried first
        tls: whether the connection is encrypted (scheme ``amqps``)
        heartbeat: seconds; a connection that is silent for longer is taken for lost
        connection_timeout: seconds for one attempt to connect
        cacertfile: who vouches for the broker (default: those whom this host trusts); its name is always checked
        certfile: with which this process shows who it is, where the broker asks
        keyfile: its key, where that is not in the same file
    """

    endpoints: tuple[Endpoint, ...]
    user: str
    password: str = field(repr=False)
    vhost: str
    tls: bool = False
    queues: QueueStyle = QueueStyle.quorum
    heartbeat: int = 5
    connection_timeout: int = 10
    cacertfile: str | None = None
    certfile: str | None = None
    keyfile: str | None = None

    def __str__(self) -> str:
        """Hosts and ports, for messages."""
        return ",".join(map(str, self.endpoints))

    @classmethod
    def parse(cls, url: str) -> Self:
        """Read ``amqp://user:password@host:port/vhost?queues=quorum|classic&heartbeat=5&connection_timeout=10``.

        With ``amqps`` also ``&cacertfile=/path&certfile=/path&keyfile=/path``.

        Left out, user and password are ``guest``, the port is 5672 (``amqps``: 5671), the virtual host is ``/``.
        Nodes of a cluster stand behind each other, with commas between: ``amqp://user:password@host1,host2:5673/vhost``.

        Raises:
            AddressError: with the part that is wrong
        """
        try:
            parts = urlsplit(url)
        except ValueError:
            raise AddressError(_HOST) from None
        if parts.scheme not in _PORTS:
            raise AddressError(f"the broker's address begins with amqp:// or amqps://, and not with {parts.scheme!r}")
        if "@" in parts.path + parts.query + parts.fragment:
            # Here stands a piece of the password: it must not be repeated in a message about a port or a parameter.
            raise AddressError("in the broker's address, write '/', '?', '#' and '@' in user and password as %2F, %3F, %23 and %40")
        if parts.fragment:
            raise AddressError("the broker's address has a '#'; write it as %23")
        user, password = _login(parts)
        options = _options(parts)
        tls = parts.scheme == "amqps"
        if not tls and (given := options.keys() & _FILES):
            raise AddressError(f"{', '.join(sorted(given))} in the broker's address is for an encrypted connection: write amqps://")
        if "keyfile" in options and "certfile" not in options:
            raise AddressError("keyfile in the broker's address is the key of a certfile: give that, too")
        return cls(_endpoints(parts), user, password, _vhost(parts), tls=tls, **options)


def _login(parts: SplitResult) -> tuple[str, str]:
    if parts.username is None:
        return "guest", "guest"
    if not parts.username or parts.password is None:
        raise AddressError("the broker's address needs both user and password: amqp://user:password@host:5672/vhost")
    return unquote(parts.username), unquote(parts.password)


def _endpoints(parts: SplitResult) -> tuple[Endpoint, ...]:
    """The nodes, each once."""
    hosts = parts.netloc.rpartition("@")[2].split(",")
    try:
        nodes = [urlsplit(f"{parts.scheme}://{host}") for host in hosts]
    except ValueError:
        raise AddressError(_HOST) from None
    return tuple(dict.fromkeys(map(_endpoint, nodes)))


def _endpoint(parts: SplitResult) -> Endpoint:
    if not parts.hostname:
        raise AddressError("the broker's address has no host; write amqp://user:password@host:5672/vhost")
    try:
        port = _PORTS[parts.scheme] if parts.port is None else parts.port
    except ValueError:
        port = 0
    if not port:
        raise AddressError("the port of the broker's address is not a number from 1 to 65535")
    return Endpoint(parts.hostname, port)


def _vhost(parts: SplitResult) -> str:
    name = parts.path.removeprefix("/")
    if "/" in name:
        raise AddressError(f"a virtual host is one word: write its '/' as %2F in {parts.path!r}")
    return unquote(name) or "/"


def _is_seconds(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= len(str(_LONGEST)) and 0 < int(text) <= _LONGEST


def _options(parts: SplitResult) -> dict[str, Any]:
    try:
        pairs = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError:
        raise AddressError(f"the parameters {parts.query!r} of the broker's address cannot be understood; write name=value") from None
    options: dict[str, Any] = {}
    for name, value in pairs:
        if name in options:
            raise AddressError(f"the broker's address gives {name!r} twice")
        match name:
            case "queues" if value in _STYLES:
                options[name] = QueueStyle(value)
            case "heartbeat" | "connection_timeout" if _is_seconds(value):
                options[name] = int(value)
            case "cacertfile" | "certfile" | "keyfile" if value.startswith("/"):
                options[name] = value
            case "cacertfile" | "certfile" | "keyfile":
                raise AddressError(f"{name}={value!r} in the broker's address: it is an absolute path")
            case "queues":
                raise AddressError(f"queues={value!r} in the broker's address: it is quorum or classic")
            case "heartbeat" | "connection_timeout":
                raise AddressError(f"{name}={value!r} in the broker's address: it is a number of seconds from 1 to {_LONGEST}")
            case _:
                raise AddressError(
                    f"unknown parameter {name!r} in the broker's address; there are queues, heartbeat, connection_timeout, "
                    "and for amqps cacertfile, certfile and keyfile"
                )
    return options
