"""Encrypted connections with real certificates, the broker's and ours."""

from __future__ import annotations

import asyncio
import socket
import subprocess
from typing import TYPE_CHECKING

import pytest

from broker_jobs.broker import open_broker
from broker_jobs.errors import AddressError, BrokerJobsError, BrokerUnavailable
from tests.support.rabbitmq import RabbitMQNode
from tests.support.station import CLASS, connected, drain, put, ready

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.owns_node

_LISTENER = """
listeners.ssl.1 = 127.0.0.1:{port}
ssl_options.cacertfile = {folder}/ca.pem
ssl_options.certfile = {folder}/broker.pem
ssl_options.keyfile = {folder}/broker.key
ssl_options.verify = verify_peer
ssl_options.fail_if_no_peer_cert = {mutual}
"""


class Authority:
    """Somebody who issues certificates, as files of a folder."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        self.name = name
        self._openssl("req", "-x509", "-days", "2", "-subj", f"/CN={name}", *self._new(name))

    def issue(self, name: str, *names: str) -> None:
        """A certificate for hosts, or for a client."""
        self._openssl("req", "-subj", f"/CN={name}", *self._new(name, ".csr"))
        extension = self.folder / f"{name}.ext"
        extension.write_text(f"subjectAltName={','.join(f'DNS:{each}' for each in names or (name,))}\n")
        signed = ("-CA", f"{self.name}.pem", "-CAkey", f"{self.name}.key", "-CAcreateserial", "-days", "2", "-extfile", extension.name)
        self._openssl("x509", "-req", "-in", f"{name}.csr", "-out", f"{name}.pem", *signed)

    def _new(self, name: str, ending: str = ".pem") -> list[str]:
        curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        return [*curve, "-keyout", f"{name}.key", "-out", f"{name}{ending}"]

    def _openssl(self, *arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=self.folder, check=True, capture_output=True)


class TlsNode(RabbitMQNode):
    """A node that listens for encrypted connections, too; ours may show a certificate, or must."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.certificates = folder
        self._plain = (self.folder / "rabbitmq.conf").read_text()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.tls_port = free.getsockname()[1]

    def serve(self, *, mutual: bool) -> None:
        self.stop()
        listener = _LISTENER.format(port=self.tls_port, folder=self.certificates, mutual=str(mutual).lower())
        (self.folder / "rabbitmq.conf").write_text(self._plain + listener)
        self.start()

    def address(self, *, host: str = "localhost", ca: str | None = "ca", me: str | None = None) -> str:
        given = {"cacertfile": ca and f"{ca}.pem", "certfile": me and f"{me}.pem", "keyfile": me and f"{me}.key"}
        query = "&".join(f"{name}={self.certificates / file}" for name, file in given.items() if file)
        return f"amqps://guest:guest@{host}:{self.tls_port}/?{query}".rstrip("?")


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TlsNode]:
    folder = tmp_path_factory.mktemp("certificates")
    ca, other = Authority(folder, "ca"), Authority(folder, "other")
    ca.issue("broker", "localhost")
    ca.issue("me")
    other.issue("stranger")
    found = TlsNode(folder)
    try:
        yield found
    finally:
        found.remove()


def refused(url: str) -> str:
    """Why there is no connection."""
    with pytest.raises(BrokerUnavailable) as caught:
        asyncio.run(open_broker(url, name="test", timeout=2))
    return str(caught.value)


async def works(url: str) -> None:
    async with connected(url) as broker:
        await put(broker, ready(b"hidden"))
        assert await drain(broker, CLASS.name, 1) == [b"hidden"]


def test_the_broker_shows_who_it_is_and_so_may_we(node: TlsNode) -> None:
    node.serve(mutual=False)
    asyncio.run(works(node.address()))
    asyncio.run(works(node.address(me="me")))
    assert "certificate verify failed" in refused(node.address(ca=None)), "nobody whom this host trusts"
    assert "certificate verify failed" in refused(node.address(ca="other")), "another authority"
    assert "not valid for '127.0.0.1'" in refused(node.address(host="127.0.0.1")), "another name"
    assert refused(node.address(me="stranger"))

    node.serve(mutual=True)
    asyncio.run(works(node.address(me="me")))
    assert refused(node.address()), "we must show who we are"
    assert refused(node.address(me="stranger"))
    assert refused(node.address(me="me").replace("amqps://", "amqp://").partition("?")[0])


@pytest.mark.parametrize("broken", ["cacertfile", "certfile", "keyfile"])
def test_a_file_that_cannot_be_used_is_named(tmp_path: Path, broken: str) -> None:
    Authority(tmp_path, "ca")
    files = {"cacertfile": "ca.pem", "certfile": "ca.pem", "keyfile": "ca.key", broken: "missing.pem"}
    query = "&".join(f"{name}={tmp_path / file}" for name, file in files.items())
    with pytest.raises(BrokerJobsError) as caught:
        asyncio.run(open_broker(f"amqps://guest:guest@localhost:1/?{query}", name="test", timeout=2))
    assert isinstance(caught.value, AddressError), caught.value
    assert str(tmp_path / "missing.pem") in str(caught.value)
